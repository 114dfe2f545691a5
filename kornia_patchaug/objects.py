"""The arguments of a call, checked together: its objects, on the device and, by one transfer, on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.boxes import BoxesLike, flatten_boxes, in_pixels, without_class
from kornia_patchaug.checks import (
    COUNTED,
    check_alpha,
    check_box_values,
    check_boxes,
    check_device,
    check_images,
    check_index,
    check_index_values,
    check_readable,
    check_units,
    check_values,
)
from kornia_patchaug.dtypes import working_dtype
from kornia_patchaug.frames import as_theta, whole_boxes
from kornia_patchaug.kornia_names import valid_rows
from kornia_patchaug.transfers import is_captured, on_host, sent
from kornia_patchaug.whole_op import operator

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Source(NamedTuple):
    """What objects read that do not read the place that they paint, as a caller says it."""

    pictures: Tensor  # (S, C, h, w)
    boxes: Tensor | None  # (N, 4) in pixels of these; all of each if left out
    which: Tensor | None  # (N,) the picture of each object; as many as objects, or one, if left out
    names: tuple[str, str, str]  # of the three


class Objects(NamedTuple):
    """Checked arguments: tensors on the images' device in the working dtype, and copies on the host."""

    boxes: Tensor  # (N, 4)
    theta: Tensor  # (N, 2, 3)
    alpha: Tensor | None  # (N,); or as painting says, pictures of opacity (S, 1, h, w), of which objects share none
    source_boxes: Tensor | None  # (N, 4) what is read, of other pictures than the images
    alpha_boxes: Tensor | None  # (N, 4) what is read of pictures of opacity
    host_boxes: NDArray[np.float64]  # (N, 4)
    host_theta: NDArray[np.float64]  # (N, 2, 3); not a number where a CUDA Graph is captured with theta on the GPU
    host_image: NDArray[np.int64]  # (N,)
    host_source_boxes: NDArray[np.float64]  # (N, 4) those of the images, without others
    host_picture: NDArray[np.int64]  # (N,) the picture that is read

    def select(self, rows: Tensor) -> Objects:
        """Some objects, by their rows on the host."""
        there, parts = sent(rows, self.boxes.device), self._asdict()
        for name, value in parts.items():
            if value is not None and not (name == "alpha" and value.ndim > 1):
                parts[name] = value[rows.numpy() if name.startswith("host") else there]
        return Objects(**parts)


def check_objects(
    images: Tensor,
    boxes: BoxesLike,
    obj_to_img: Tensor | None,
    theta: Tensor | Literal["identity"] = "identity",
    alpha: Tensor | None = None,
    source: Source | None = None,
) -> Objects:
    """Check everything a caller can get wrong about images, boxes, ``obj_to_img``, theta, alpha and a source.

    The values of boxes, theta and indices are read on the host once; sizing the windows uses the same transfer. They
    may be on the CPU, whatever the images' device: then nothing waits for that.
    """
    check_images("images", images)
    check_readable("images", images)
    batch_size, _, height, width = images.shape
    boxes, obj_to_img = as_flat(boxes, obj_to_img, batch_size)
    if isinstance(theta, str) and theta == "identity":
        theta = torch.eye(2, 3, device=boxes.device).expand(len(boxes), 2, 3)
    theta = as_theta(theta, len(boxes))
    read, index = (None, None) if source is None else _check_source(source, images, boxes)
    if alpha is not None:
        _, _, *sides = (images if source is None else source.pictures).shape
        check_alpha(alpha, len(boxes), (sides[0], sides[1]))
    # Those that may have been left out, and were made here, come last.
    for name, value in (("boxes", boxes), ("alpha", alpha), ("theta", theta), ("obj_to_img", obj_to_img)):
        if value is not None:
            check_device(name, value, images, or_host=name != "alpha")
            check_readable(name, value)
    dtype, floating = working_dtype(images, boxes, theta, alpha, read), boxes.is_floating_point()
    boxes, theta = _to(boxes, dtype), _to(theta, dtype)
    alpha = alpha if alpha is None or alpha.dtype == torch.bool else _to(alpha, dtype)

    known = torch.zeros(theta.shape, device="cpu") if theta.is_cuda and is_captured(theta.device) else theta
    host_boxes, host_theta, host_image, *others = on_host(
        boxes, known, obj_to_img, *(() if read is None or index is None else (read, index))
    )
    check_values(host_boxes, host_theta, host_image, batch_size)
    if known is not theta:
        host_theta.fill(np.nan)
    check_units(host_boxes, floating, height, width)
    image = picture = host_image.astype(np.int64)
    host_source_boxes = host_boxes
    if source is not None and read is not None:
        host_source_boxes, host_picture = others
        check_box_values(host_source_boxes, source.names[1])
        check_index_values(source.names[2], host_picture, len(source.pictures))
        read, picture = _to(read, dtype), host_picture.astype(np.int64)
    host, device = (host_boxes, host_theta, image, host_source_boxes, picture), images.device
    read = None if read is None else sent(read, device)
    return Objects(sent(boxes, device), sent(theta, device), alpha, read, None, *host)


def _check_source(source: Source, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes ``(N, 4)`` and the index ``(N,)`` of a source for boxes that are painted, or raise."""
    count, device = len(target), target.device
    (pictures, boxes, which), (name, of_boxes, of_index) = source[:3], source.names
    check_images(name, pictures)
    if pictures.shape[1] != images.shape[1]:
        raise ValueError(
            f"{name}: expected shape (M, {images.shape[1]}, h, w), with the images' channels, got "
            f"{tuple(pictures.shape)}."
        )
    if boxes is None:
        boxes = whole_boxes(pictures, torch.empty(count, 0, device=device))
    else:
        boxes = in_pixels(boxes)
        check_boxes(boxes, name=of_boxes)
        if len(boxes) != count:
            raise ValueError(f"{of_boxes}: expected one row a box ({count}), got {len(boxes)}.")
    if which is not None:
        check_index(of_index, which, count)
        index = _to(without_class(which), torch.int64)
    elif len(pictures) == count and source.boxes is None:
        index = torch.arange(count, device=device)
    elif len(pictures) == 1 and source.boxes is not None:
        index = torch.zeros(count, dtype=torch.int64, device=device)
    else:
        raise ValueError(
            f"{name}: expected {f'one patch a box ({count})' if source.boxes is None else 'one picture'}, got "
            f"{len(pictures)}. For any number pass {of_index} (N,), {COUNTED[of_index]} for each box."
        )
    for each, given, value in ((name, pictures, pictures), (of_boxes, source.boxes, boxes), (of_index, which, index)):
        if given is not None:
            check_device(each, value, images, or_host=value is not pictures)
            check_readable(each, value)
    return boxes, index


def _to(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value if value.dtype == dtype else value.to(dtype)  # which takes a microsecond even to do nothing


@operator("checked_index", lambda index, size, name: torch.empty_like(index, dtype=torch.int64))
def checked_index(index: Tensor, size: int, name: str) -> Tensor:
    """An int64 copy of ``index``, each of which is one of ``size`` images or classes, or raise."""
    check_index_values(name, index.cpu().numpy(), size)
    return index.to(torch.int64, copy=True)


def as_flat(boxes: BoxesLike, obj_to_img: Tensor | None, batch_size: int) -> tuple[Tensor, Tensor]:
    """``boxes (N, 4)`` and int64 ``obj_to_img (N,)`` of boxes in any of the forms a caller may use, or raise."""
    if not isinstance(boxes, Tensor) or boxes.ndim == 3:
        flat, index = flatten_boxes(boxes)
        if obj_to_img is not None:
            raise ValueError("obj_to_img: boxes that come per image already say their image; leave obj_to_img out.")
        images = len(valid_rows(boxes)) if isinstance(boxes, Boxes) else len(boxes)
        if images != batch_size:
            raise ValueError(f"boxes: expected boxes of {batch_size} images, as many as images, got {images}.")
        return flat, index
    boxes = in_pixels(boxes)
    check_boxes(boxes, expected="(N, 4), a padded (B, M, 4), a list of (n_i, 4) or kornia Boxes")
    if obj_to_img is not None:
        check_index("obj_to_img", obj_to_img, len(boxes))
        return boxes, _to(without_class(obj_to_img), torch.int64)
    if batch_size != 1:
        raise ValueError(
            f"obj_to_img: flat boxes in {batch_size} images need obj_to_img (N,), the image index of each object. "
            "Pass it, or pass boxes as a list of one (n_i, 4) tensor an image."
        )
    return boxes, torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
