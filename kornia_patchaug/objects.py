"""The checked objects of a call, with one transfer to the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.boxes import BoxesLike, flatten_boxes
from kornia_patchaug.checks import (
    check_alpha,
    check_box_values,
    check_device,
    check_images,
    check_index,
    check_numeric,
    check_range,
    check_theta,
    check_theta_values,
)
from kornia_patchaug.dtypes import working_dtype
from kornia_patchaug.kornia_names import valid_rows
from kornia_patchaug.whole_op import operator

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Objects(NamedTuple):
    """Checked arguments: tensors on the images' device in the working dtype, and float64 copies on the host."""

    boxes: Tensor  # (N, 4)
    theta: Tensor  # (N, 2, 3)
    obj_to_img: Tensor  # (N,) int64
    alpha: Tensor | None  # (N,) or (N, 1, h, w)
    host_boxes: NDArray[np.float64]  # (N, 4)
    host_theta: NDArray[np.float64]  # (N, 2, 3)
    host_image: NDArray[np.int64]  # (N,)

    def select(self, rows: Tensor) -> Objects:
        """Some objects, by their rows on the host."""
        there, parts = rows.to(self.boxes.device), self._asdict()
        for name, value in parts.items():
            if value is not None:
                parts[name] = value[rows.numpy() if name.startswith("host") else there]
        return Objects(**parts)


def check_objects(
    images: Tensor,
    boxes: BoxesLike,
    obj_to_img: Tensor | None,
    theta: Tensor | None = None,
    alpha: Tensor | None = None,
) -> Objects:
    """Check everything a caller can get wrong about images, boxes, theta, ``obj_to_img`` and alpha.

    The values of boxes, indices and theta are read on the host once; sizing the windows uses the same transfer.
    """
    check_images("images", images)
    batch_size = images.shape[0]
    boxes, obj_to_img = as_flat(boxes, obj_to_img, batch_size)
    count = len(boxes)
    if theta is None:
        theta = torch.eye(2, 3, device=images.device).expand(count, 2, 3)
    theta = check_theta(theta, count)
    if alpha is not None:
        check_alpha(alpha, count)
    named = [("boxes", boxes), ("obj_to_img", obj_to_img), ("theta", theta), ("alpha", alpha)]
    for name, value in named:
        if value is not None:
            check_device(name, value, images)
    dtype = working_dtype(images, boxes, theta, alpha)
    boxes, theta = boxes.to(dtype), theta.to(dtype)
    alpha = None if alpha is None else alpha.to(dtype)

    packed = torch.cat([boxes.detach(), theta.detach().flatten(1), obj_to_img[:, None].to(dtype)], dim=1)
    host = packed.cpu().double().numpy()  # (N, 11), the one transfer
    host_boxes, host_theta, host_image = host[:, :4], host[:, 4:10], host[:, 10].astype(np.int64)
    check_box_values(host_boxes)
    check_range(host_image, batch_size)
    check_theta_values(host_theta)
    return Objects(boxes, theta, obj_to_img, alpha, host_boxes, host_theta.reshape(-1, 2, 3), host_image)


@operator("checked_index", lambda index, size, name: torch.empty_like(index))
def checked_index(index: Tensor, size: int, name: str) -> Tensor:
    """A copy of ``index``, each of which is one of ``size`` images or classes, or raise."""
    check_range(index.cpu().numpy(), size, name)
    return index.clone()


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
    check_numeric("boxes", boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"boxes: expected (N, 4), a padded (B, M, 4), a list of (n_i, 4) or kornia Boxes, got {tuple(boxes.shape)}."
        )
    if obj_to_img is None:
        if batch_size != 1:
            raise ValueError(
                f"obj_to_img: flat boxes in {batch_size} images need obj_to_img (N,), the image index of each object. "
                "Pass it, or pass boxes as a list of one (n_i, 4) tensor an image."
            )
        obj_to_img = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return boxes, check_index(obj_to_img, len(boxes))
