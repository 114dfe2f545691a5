"""Box formats, flat <-> per-image lists, and the checks of every argument that comes with boxes.

Boxes are half-open ``x1 y1 x2 y2`` in pixels everywhere in this package; other formats are converted here only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

FORMATS = ("xyxy", "xyxy_plus", "xywh", "cxcywh", "xyxyn", "xywhn", "cxcywhn")

# float32 cannot tell neighbouring pixels apart beyond this coordinate.
MAX_COORDINATE = 2.0**24

BoxesLike = Tensor | Sequence[Tensor] | Boxes


def convert_boxes(boxes: Tensor, source: str, target: str, size: tuple[int, int] | None = None) -> Tensor:
    """Convert boxes between formats.

    ``xyxy`` is half-open (``x2`` is one past the last pixel), ``xyxy_plus`` inclusive (``x2`` is the last pixel, as in
    Kornia's ``bbox_xyxy`` data key), ``xywh`` corner and size (COCO), ``cxcywh`` centre and size. The formats ending
    in ``n`` are divided by the picture's width and height (``xywhn``, ``cxcywhn``: YOLO, DETR).

    Args:
        boxes: ``(..., 4)``, integer or floating.
        source, target: one of ``xyxy xyxy_plus xywh cxcywh xyxyn xywhn cxcywhn``.
        size: ``(height, width)`` in pixels; needed for the normalised formats only.

    Returns:
        ``(..., 4)``. Integer boxes stay integer between ``xyxy``, ``xyxy_plus`` and ``xywh``.

    Raises:
        TypeError: ``boxes`` is not a numeric tensor.
        ValueError: wrong shape, an unknown format, or ``size`` missing where it is needed.

    Example:
        >>> convert_boxes(torch.tensor([[2, 3, 10, 5]]), "xywh", "xyxy")
        tensor([[ 2,  3, 12,  8]])
        >>> convert_boxes(torch.tensor([[0.5, 0.5, 1.0, 0.5]]), "cxcywhn", "xyxy", size=(40, 20))
        tensor([[ 0., 10., 20., 30.]])
    """
    _check_numeric("boxes", boxes)
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"boxes: expected shape (..., 4), got {tuple(boxes.shape)}.")
    for name, value in (("source", source), ("target", target)):
        if value not in FORMATS:
            raise ValueError(f"{name}: expected one of {', '.join(FORMATS)}, got {value!r}.")
    if source == target:
        return boxes
    scaled = source.endswith("n") or target.endswith("n")
    if scaled and (size is None or len(size) != 2 or min(size) <= 0):
        raise ValueError(f"size: {source!r} to {target!r} needs the picture's (height, width) in pixels, got {size}.")
    if not boxes.is_floating_point() and (scaled or "c" in (source[0], target[0])):
        boxes = boxes.to(torch.get_default_dtype())
    unit = boxes.new_tensor([size[1], size[0]]) if scaled else None  # width, height

    first, second = boxes[..., :2], boxes[..., 2:]
    if source.endswith("n"):
        first, second = first * unit, second * unit
    if source.startswith("cxcywh"):
        low = first - second / 2
        high = low + second
    elif source.startswith("xywh"):
        low, high = first, first + second
    else:
        low, high = first, second + (source == "xyxy_plus")

    if target.startswith("cxcywh"):
        first, second = (low + high) / 2, high - low
    elif target.startswith("xywh"):
        first, second = low, high - low
    else:
        first, second = low, high - (target == "xyxy_plus")
    if target.endswith("n"):
        first, second = first / unit, second / unit
    return torch.cat([first, second], dim=-1)


def flatten_boxes(boxes: BoxesLike, mode: str = "xyxy") -> tuple[Tensor, Tensor]:
    """Flatten per-image boxes to ``boxes (N, 4)`` in ``xyxy`` and ``obj_to_img (N,)``.

    Args:
        boxes: a list of one ``(n_i, 4)`` tensor an image; a padded ``(B, M, 4)`` tensor; or Kornia ``Boxes``. Every
            row of a padded tensor stays a row (``n = b * M + m``); an all-zero row is padding and becomes an empty
            box, which paints nothing. Rows that Kornia ``Boxes`` marks as padding or removed are left out.
        mode: the format of the rows, one of the pixel formats of :func:`convert_boxes`; ignored for ``Boxes``.

    Raises:
        TypeError, ValueError: not one of the three containers, or rows that are not boxes.

    Example:
        >>> boxes, obj_to_img = flatten_boxes([torch.zeros(2, 4), torch.zeros(0, 4), torch.zeros(1, 4)])
        >>> obj_to_img
        tensor([0, 0, 2])
    """
    if mode not in FORMATS or mode.endswith("n"):
        raise ValueError(
            f"mode: expected one of xyxy, xyxy_plus, xywh, cxcywh, got {mode!r}. Use convert_boxes with size= first."
        )
    if isinstance(boxes, Boxes):
        rows = boxes.to_tensor("xyxy", as_padded_sequence=True)  # (B, M, 4) or (M, 4)
        keep = boxes_are_objects(boxes)
        return rows.reshape(-1, 4)[keep.flatten()], keep.nonzero()[:, 0]
    if isinstance(boxes, Tensor):
        if boxes.ndim != 3 or boxes.shape[-1] != 4:
            raise ValueError(f"boxes: expected a padded (B, M, 4) tensor, got {tuple(boxes.shape)}.")
        _check_numeric("boxes", boxes)
        converted = convert_boxes(boxes, mode, "xyxy")
        padding = (boxes == 0).all(-1, keepdim=True)
        obj_to_img = torch.arange(boxes.shape[0], device=boxes.device).repeat_interleave(boxes.shape[1])
        return converted.masked_fill(padding, 0).reshape(-1, 4), obj_to_img
    if not isinstance(boxes, Sequence) or isinstance(boxes, str):
        raise TypeError(
            f"boxes: expected a list of (n_i, 4) tensors, a (B, M, 4) tensor or kornia Boxes, got {type(boxes).__name__}."
        )
    for i, row in enumerate(boxes):
        _check_numeric(f"boxes[{i}]", row)
        if row.ndim != 2 or row.shape[1] != 4:
            raise ValueError(f"boxes[{i}]: expected shape (n, 4), got {tuple(row.shape)}.")
    if not boxes:
        return torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    counts = torch.tensor([len(row) for row in boxes], device=boxes[0].device)
    flat = convert_boxes(torch.cat(list(boxes)), mode, "xyxy")
    return flat, torch.arange(len(boxes), device=flat.device).repeat_interleave(counts, output_size=len(flat))


def split_boxes(boxes: Tensor, obj_to_img: Tensor, batch_size: int) -> list[Tensor]:
    """Split flat rows into a list of one tensor an image; the inverse of :func:`flatten_boxes`.

    Args:
        boxes: ``(N, ...)`` rows, one an object.
        obj_to_img: ``(N,)`` integer, in any order; rows of one image keep theirs.
        batch_size: the number of images B.

    Raises:
        TypeError, ValueError: ``obj_to_img`` is not one integer in ``[0, batch_size)`` an object.

    Example:
        >>> [len(rows) for rows in split_boxes(torch.zeros(3, 4), torch.tensor([2, 0, 2]), 4)]
        [1, 0, 2, 0]
    """
    _check_numeric("boxes", boxes)
    index = _check_index(obj_to_img, len(boxes))
    host = index.cpu()
    _check_range(host, batch_size)
    order = torch.argsort(index, stable=True)
    return list(boxes[order].split(torch.bincount(host, minlength=batch_size).tolist()))


def boxes_are_objects(boxes: Boxes) -> Tensor:
    """Which rows of Kornia ``Boxes`` are boxes rather than padding: ``(B, M)`` bool (B = 1 if not batched)."""
    keep = torch.atleast_2d(boxes._valid)  # (B, M)
    if boxes._N is None:
        return keep
    padding = torch.tensor(boxes._N, device=keep.device)  # rows of padding at the end of each image
    return keep & (torch.arange(keep.shape[1], device=keep.device) < keep.shape[1] - padding[:, None])


class Objects(NamedTuple):
    """Checked arguments: tensors on the images' device in the working dtype, and float64 copies on the host."""

    boxes: Tensor  # (N, 4)
    theta: Tensor  # (N, 2, 3)
    obj_to_img: Tensor  # (N,) int64
    alpha: Tensor | None  # (N,) or (N, 1, h, w)
    host_boxes: Tensor  # (N, 4)
    host_theta: Tensor  # (N, 2, 3)
    host_image: Tensor  # (N,) int64


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
    boxes, index = as_flat(boxes, obj_to_img, batch_size)
    count = len(boxes)
    if theta is None:
        theta = torch.eye(2, 3, device=images.device).expand(count, 2, 3)
    theta = check_theta(theta, count)
    if alpha is not None:
        _check_alpha(alpha, count)
    named = [("boxes", boxes), ("obj_to_img", index), ("theta", theta), ("alpha", alpha)]
    for name, value in named:
        if value is not None and value.device != images.device:
            raise ValueError(
                f"{name}: expected device {images.device} as the images, got {value.device}. Use {name}.to(images.device)."
            )
    dtype = working_dtype(images, boxes, theta, alpha)
    boxes, theta = boxes.to(dtype), theta.to(dtype)
    alpha = None if alpha is None else alpha.to(dtype)

    packed = torch.cat([boxes.detach(), theta.detach().flatten(1), index[:, None].to(dtype)], dim=1)
    host = packed.cpu().double()  # (N, 11), the one transfer
    host_boxes, host_theta, host_image = host[:, :4], host[:, 4:10], host[:, 10].long()
    _check_box_values(host_boxes)
    _check_range(host_image, batch_size)
    bad = _first(~host_theta.isfinite().all(1))
    if bad is not None:
        raise ValueError(f"theta: expected finite values, got {host_theta[bad].tolist()} in row {bad}.")
    return Objects(boxes, theta, index, alpha, host_boxes, host_theta.reshape(-1, 2, 3), host_image)


def check_images(name: str, images: Tensor) -> None:
    """Raise unless ``images`` is a floating ``(B, C, H, W)`` tensor."""
    if not isinstance(images, Tensor):
        raise TypeError(f"{name}: expected a (B, C, H, W) tensor, got {type(images).__name__}.")
    if not images.is_floating_point():
        raise TypeError(f"{name}: expected a floating dtype, got {images.dtype}. Use {name}.float() / 255 for bytes.")
    if images.ndim != 4:
        raise ValueError(f"{name}: expected shape (B, C, H, W), got {tuple(images.shape)}.")


def check_theta(theta: Tensor, count: int | None = None) -> Tensor:
    """Return ``theta`` as ``(N, 2, 3)``, or raise."""
    if not isinstance(theta, Tensor) or not theta.is_floating_point():
        raise TypeError(f"theta: expected a floating (N, 6) or (N, 2, 3) tensor, got {_describe(theta)}.")
    if theta.shape[1:] not in ((6,), (2, 3)):
        raise ValueError(f"theta: expected shape (N, 6) or (N, 2, 3), got {tuple(theta.shape)}.")
    if count is not None and len(theta) != count:
        raise ValueError(f"theta: expected one row a box ({count}), got {len(theta)}.")
    return theta.reshape(-1, 2, 3)


def check_boxes(boxes: Tensor, count: int | None = None) -> Tensor:
    """Return flat ``boxes`` as floating ``(N, 4)``, or raise; values are checked too."""
    _check_numeric("boxes", boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected shape (N, 4), got {tuple(boxes.shape)}.")
    if count is not None and len(boxes) != count:
        raise ValueError(f"boxes: expected one row a theta ({count}), got {len(boxes)}.")
    boxes = boxes.to(working_dtype(boxes))
    _check_box_values(boxes.detach().cpu().double())
    return boxes


def check_option(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise unless ``value`` is one of ``allowed``."""
    if not any(value is option or value == option for option in allowed):
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}.")


def check_size(name: str, size: object) -> tuple[int, int]:
    """Return ``size`` as ``(height, width)`` ints, or raise."""
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise ValueError(f"{name}: expected (height, width), two integers above 0, got {size!r}.")
    return int(size[0]), int(size[1])


def working_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype to compute in: the widest of the floating ones, and float32 at least."""
    floating = [t.dtype for t in tensors if t is not None and t.is_floating_point()]
    return reduce(torch.promote_types, floating, torch.float32)


def as_flat(boxes: BoxesLike, obj_to_img: Tensor | None, batch_size: int) -> tuple[Tensor, Tensor]:
    """``boxes (N, 4)`` and int64 ``obj_to_img (N,)`` of boxes in any of the forms a caller may use, or raise."""
    per_image = not isinstance(boxes, Tensor) or boxes.ndim == 3
    if per_image:
        if obj_to_img is not None:
            raise ValueError("obj_to_img: boxes that come per image already say their image; leave obj_to_img out.")
        given = boxes.data if isinstance(boxes, Boxes) else boxes
        images = len(given) if not isinstance(boxes, Boxes) or boxes._is_batched else 1
        flat, index = flatten_boxes(boxes)
        if images != batch_size:
            raise ValueError(f"boxes: expected boxes of {batch_size} images, as many as images, got {images}.")
        return flat, index
    _check_numeric("boxes", boxes)
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
    return boxes, _check_index(obj_to_img, len(boxes))


def _check_numeric(name: str, value: object) -> None:
    if not isinstance(value, Tensor) or value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name}: expected an integer or floating tensor, got {_describe(value)}.")


def _check_index(obj_to_img: Tensor, count: int) -> Tensor:
    integer = isinstance(obj_to_img, Tensor) and not (
        obj_to_img.is_floating_point() or obj_to_img.is_complex() or obj_to_img.dtype == torch.bool
    )
    if not integer:
        raise TypeError(f"obj_to_img: expected an integer (N,) tensor, got {_describe(obj_to_img)}.")
    if obj_to_img.shape != (count,):
        raise ValueError(
            f"obj_to_img: expected shape ({count},), one image index a box, got {tuple(obj_to_img.shape)}."
        )
    return obj_to_img.long()


def _check_alpha(alpha: Tensor, count: int) -> None:
    if not isinstance(alpha, Tensor) or not alpha.is_floating_point():
        raise TypeError(f"alpha: expected a floating (N,) or (N, 1, h, w) tensor, got {_describe(alpha)}.")
    matte = alpha.ndim == 4 and alpha.shape[:2] == (count, 1) and min(alpha.shape[2:]) > 0
    if alpha.shape != (count,) and not matte:
        raise ValueError(f"alpha: expected shape ({count},) or ({count}, 1, h, w), got {tuple(alpha.shape)}.")


def _check_box_values(host: Tensor) -> None:
    bad = _first(~host.isfinite().all(1))
    if bad is not None:
        raise ValueError(f"boxes: expected finite values, got {host[bad].tolist()} in row {bad}.")
    bad = _first((host[:, 2:] < host[:, :2]).any(1))
    if bad is not None:
        raise ValueError(
            f"boxes: expected x1 y1 x2 y2 with x2 >= x1 and y2 >= y1, got {host[bad].tolist()} in row {bad}. "
            "Boxes as corner and size go through convert_boxes(boxes, 'xywh', 'xyxy')."
        )
    bad = _first((host.abs() > MAX_COORDINATE).any(1))
    if bad is not None:
        raise ValueError(
            f"boxes: expected pixels within +-{MAX_COORDINATE:.0f}, got {host[bad].tolist()} in row {bad}."
        )


def _check_range(host: Tensor, batch_size: int) -> None:
    bad = _first((host < 0) | (host >= batch_size))
    if bad is not None:
        raise ValueError(
            f"obj_to_img: expected values in [0, {batch_size}), the number of images, got {int(host[bad])} in row {bad}."
        )


def _first(bad: Tensor) -> int | None:
    rows = bad.nonzero()
    return int(rows[0]) if len(rows) else None


def _describe(value: object) -> str:
    return (
        f"a {value.dtype} tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    )
