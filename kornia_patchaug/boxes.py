"""Box formats, flat <-> per-image boxes, and the check of all arguments that describe objects.

Boxes are half-open ``x1 y1 x2 y2`` in pixels everywhere in this package; other formats are converted here only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.checks import (
    check_index,
    check_numeric,
    check_range,
    check_size,
    describe,
)
from kornia_patchaug.kornia_names import valid_rows

FORMATS = ("xyxy", "xyxy_plus", "xywh", "cxcywh", "xyxyn", "xywhn", "cxcywhn")

BoxesLike = Tensor | Sequence[Tensor] | Boxes


def convert_boxes(boxes: Tensor, source: str, target: str, size: tuple[int, int] | None = None) -> Tensor:
    """Convert boxes between formats.

    ``xyxy`` is half-open (``x2`` is one past the last pixel), ``xyxy_plus`` inclusive (``x2`` is the last pixel, as in
    Kornia's ``bbox_xyxy`` data key), ``xywh`` corner and size (COCO), ``cxcywh`` centre and size. The formats ending
    in ``n`` are divided by the image's width and height (``xywhn``, ``cxcywhn``: YOLO, DETR).

    Args:
        boxes: ``(..., 4)``, integer or floating.
        source: one of ``xyxy xyxy_plus xywh cxcywh xyxyn xywhn cxcywhn``.
        target: one of them too.
        size: ``(height, width)`` in pixels; needed for the normalised formats only.

    Returns:
        ``(..., 4)``. Integer boxes stay integer between ``xyxy``, ``xyxy_plus`` and ``xywh``.

    Raises:
        TypeError: ``boxes`` is not a numeric tensor.
        ValueError: wrong shape, an unknown format, or ``size`` missing where it is needed.

    Examples:
        >>> kp.convert_boxes(torch.tensor([[2, 3, 10, 5]]), "xywh", "xyxy")
        tensor([[ 2,  3, 12,  8]])
        >>> kp.convert_boxes(torch.tensor([[0.5, 0.5, 1.0, 0.5]]), "cxcywhn", "xyxy", size=(40, 20))
        tensor([[ 0., 10., 20., 30.]])
    """
    check_numeric("boxes", boxes)
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"boxes: expected shape (..., 4), got {tuple(boxes.shape)}.")
    for name, value in (("source", source), ("target", target)):
        if value not in FORMATS:
            raise ValueError(f"{name}: expected one of {', '.join(FORMATS)}, got {value!r}.")
    if source == target:
        return boxes
    scaled = source.endswith("n") or target.endswith("n")
    height, width = check_size("size", size) if scaled else (1, 1)
    if not boxes.is_floating_point() and (scaled or "c" in (source[0], target[0])):
        boxes = boxes.to(torch.get_default_dtype())
    unit = boxes.new_tensor([width, height])

    first, second = boxes[..., :2], boxes[..., 2:]
    if source.endswith("n"):
        first, second = first * unit, second * unit
    if source.startswith("cxcywh"):
        low = first - second / 2
        high = low + second
    elif source.startswith("xywh"):
        low, high = first, first + second
    else:
        low, high = first, second + int(source == "xyxy_plus")

    if target.startswith("cxcywh"):
        first, second = (low + high) / 2, high - low
    elif target.startswith("xywh"):
        first, second = low, high - low
    else:
        first, second = low, high - int(target == "xyxy_plus")
    if target.endswith("n"):
        first, second = first / unit, second / unit
    return torch.cat([first, second], dim=-1)


def flatten_boxes(boxes: BoxesLike, mode: str = "xyxy") -> tuple[Tensor, Tensor]:
    """Flatten per-image boxes to ``boxes (N, 4)`` in ``xyxy`` and ``obj_to_img (N,)``.

    Args:
        boxes: a list of one ``(n_i, 4)`` tensor an image; a padded ``(B, M, 4)`` tensor; or Kornia ``Boxes``. Every
            row of a padded tensor stays a row (``n = b * M + m``); an all-zero row is padding and becomes an empty
            box, which paints nothing. Rows that Kornia ``Boxes`` marks as padding or removed are left out.
        mode: the format of the rows, one of the pixel formats of `convert_boxes`; ignored for ``Boxes``.

    Returns:
        ``boxes (N, 4)`` half-open ``x1 y1 x2 y2`` in pixels, and ``obj_to_img (N,)`` int64.

    Raises:
        TypeError, ValueError: not one of the three containers, or rows that are not boxes.

    Examples:
        >>> boxes, obj_to_img = kp.flatten_boxes([torch.zeros(2, 4), torch.zeros(0, 4), torch.zeros(1, 4)])
        >>> obj_to_img
        tensor([0, 0, 2])
    """
    if mode not in FORMATS or mode.endswith("n"):
        raise ValueError(
            f"mode: expected one of xyxy, xyxy_plus, xywh, cxcywh, got {mode!r}. Use convert_boxes with size= first."
        )
    if isinstance(boxes, Boxes):
        rows = cast("Tensor", boxes.to_tensor("xyxy", as_padded_sequence=True))  # (B, M, 4) or (M, 4)
        keep = valid_rows(boxes)
        return rows.reshape(-1, 4)[keep.flatten()], keep.nonzero()[:, 0]
    if isinstance(boxes, Tensor):
        if boxes.ndim != 3 or boxes.shape[-1] != 4:
            raise ValueError(f"boxes: expected a padded (B, M, 4) tensor, got {tuple(boxes.shape)}.")
        check_numeric("boxes", boxes)
        converted = convert_boxes(boxes, mode, "xyxy")
        padding = (boxes == 0).all(-1, keepdim=True)
        obj_to_img = torch.arange(boxes.shape[0], device=boxes.device).repeat_interleave(boxes.shape[1])
        return converted.masked_fill(padding, 0).reshape(-1, 4), obj_to_img
    if not isinstance(boxes, Sequence) or isinstance(cast("object", boxes), str):
        raise TypeError(
            f"boxes: expected a list of (n_i, 4) tensors, a (B, M, 4) tensor or kornia Boxes, got {describe(boxes)}."
        )
    for i, row in enumerate(boxes):
        check_numeric(f"boxes[{i}]", row)
        if row.ndim != 2 or row.shape[1] != 4:
            raise ValueError(f"boxes[{i}]: expected shape (n, 4), got {tuple(row.shape)}.")
    if not boxes:
        return torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    counts = torch.tensor([len(row) for row in boxes], device=boxes[0].device)
    flat = convert_boxes(torch.cat(list(boxes)), mode, "xyxy")
    return flat, torch.arange(len(boxes), device=flat.device).repeat_interleave(counts, output_size=len(flat))


def split_boxes(boxes: Tensor, obj_to_img: Tensor, batch_size: int) -> list[Tensor]:
    """Split flat rows into a list of one tensor an image; the inverse of `flatten_boxes`.

    Args:
        boxes: ``(N, ...)`` rows, one an object.
        obj_to_img: ``(N,)`` integer, in any order; rows of one image keep theirs.
        batch_size: the number of images B.

    Returns:
        B tensors ``(n_b, ...)``, empty ones for images without objects.

    Raises:
        TypeError, ValueError: ``obj_to_img`` is not one integer in ``[0, batch_size)`` an object.

    Examples:
        >>> [len(rows) for rows in kp.split_boxes(torch.zeros(3, 4), torch.tensor([2, 0, 2]), 4)]
        [1, 0, 2, 0]
    """
    check_numeric("boxes", boxes)
    if boxes.ndim < 1:
        raise ValueError("boxes: expected rows (N, ...), got a single number.")
    index = check_index(obj_to_img, len(boxes))
    host = index.cpu()
    check_range(host.numpy(), batch_size)
    order = torch.argsort(index, stable=True)
    return list(boxes[order].split(torch.bincount(host, minlength=batch_size).tolist()))
