"""Box formats, flat <-> per-image boxes; and of tensors of other classes, as torchvision's, plain ones in our format.

Boxes are half-open ``x1 y1 x2 y2`` in pixels everywhere in this package; other formats are converted here only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from operator import index
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor
from torch.overrides import has_torch_function

from kornia_patchaug.checks import (
    check_box_values,
    check_boxes,
    check_index,
    check_index_values,
    check_numeric,
    check_readable,
    describe,
)
from kornia_patchaug.dtypes import working_dtype
from kornia_patchaug.kornia_names import valid_rows

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

FORMATS = ("xyxy", "xyxy_plus", "pascal_voc", "xywh", "cxcywh", "xyxyn", "xywhn", "cxcywhn")
ALIASES = {"coco": "xywh", "yolo": "cxcywhn"}
NAMES = (*FORMATS, *ALIASES)
IN_PIXELS = tuple(name for name in NAMES if not ALIASES.get(name, name).endswith("n"))
# What is added to the first and the second corner of a format to make them those of a half-open box.
OFFSETS = {"xyxy": (0, 0), "xyxyn": (0, 0), "xyxy_plus": (0, 1), "pascal_voc": (-1, 0)}

SILENT = torch.nn.Parameter.__torch_function__  # of subclasses that leave torch's functions alone

BoxesLike = Tensor | Sequence[Tensor] | Boxes


def convert_boxes(boxes: Tensor, source: str, target: str, size: tuple[int, int] | None = None) -> Tensor:
    """Convert boxes between formats.

    ``xyxy`` is half-open (``x2`` is one past the last pixel), ``xyxy_plus`` inclusive (``x2`` is the last pixel, as in
    Kornia's ``bbox_xyxy`` data key), ``pascal_voc`` inclusive and counted from 1, as in that dataset's files (what
    Albumentations calls so is ``xyxy``), ``xywh`` or ``coco`` corner and size, ``cxcywh`` centre and size. The formats
    ending in ``n`` are divided by the image's width and height; ``cxcywhn`` is also called ``yolo``, and is DETR's.

    Args:
        boxes: ``(..., 4)``, integer or floating.
        source: the format of ``boxes``, one of
            ``xyxy xyxy_plus pascal_voc xywh cxcywh xyxyn xywhn cxcywhn coco yolo``.
        target: the format of the result, one of the same.
        size: ``(height, width)`` in pixels; needed for the normalised formats only.

    Returns:
        ``(..., 4)``. Integer boxes become int64 between ``xyxy``, ``xyxy_plus``, ``pascal_voc`` and ``xywh``, else the
        default floating dtype; floating boxes keep their dtype. Floating results are float32 at least.

    Raises:
        TypeError: ``boxes`` is not a numeric tensor.
        ValueError: wrong shape; an unknown format; ``source`` is not what torchvision's ``BoundingBoxes`` say they are;
            or ``size`` missing where it is needed.

    Examples:
        >>> kp.convert_boxes(torch.tensor([[2, 3, 10, 5]]), "xywh", "xyxy")
        tensor([[ 2,  3, 12,  8]])
        >>> kp.convert_boxes(torch.tensor([[0.5, 0.5, 1.0, 0.5]]), "cxcywhn", "xyxy", size=(40, 20))
        tensor([[ 0., 10., 20., 30.]])
        >>> kp.convert_boxes(torch.tensor([[1, 1, 20, 40]]), "pascal_voc", "xyxy")  # all of a picture 20 pixels wide
        tensor([[ 0,  0, 20, 40]])
    """
    check_numeric("boxes", boxes)
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"boxes: expected shape (..., 4), got {tuple(boxes.shape)}.")
    for name, value in (("source", source), ("target", target)):
        if value not in NAMES:
            raise ValueError(f"{name}: expected one of {', '.join(NAMES)}, got {value!r}.")
    format_of(boxes, "source", source)
    source, target = ALIASES.get(source, source), ALIASES.get(target, target)
    scaled = source != target and (source.endswith("n") or target.endswith("n"))
    height, width = as_size("size", size) if scaled else (1, 1)
    halved = source != target and "c" in (source[0], target[0])
    # Sums of narrow integers wrap around, and those of half precision lose digits.
    dtype = working_dtype(boxes) if boxes.is_floating_point() else torch.int64
    if dtype == torch.int64 and (scaled or halved):
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
    boxes = without_class(boxes).to(dtype)
    if source == target:
        return boxes
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
        to_low, to_high = OFFSETS[source]
        low, high = first + to_low, second + to_high

    if target.startswith("cxcywh"):
        first, second = (low + high) / 2, high - low
    elif target.startswith("xywh"):
        first, second = low, high - low
    else:
        to_low, to_high = OFFSETS[target]
        first, second = low - to_low, high - to_high
    if target.endswith("n"):
        first, second = first / unit, second / unit
    return torch.cat([first, second], dim=-1)


def flatten_boxes(boxes: BoxesLike, mode: str | None = None) -> tuple[Tensor, Tensor]:
    """Flatten per-image boxes to ``boxes (N, 4)`` in ``xyxy`` and ``obj_to_img (N,)``.

    Args:
        boxes: a list of one ``(n_i, 4)`` tensor an image; a padded ``(B, M, 4)`` tensor; or Kornia ``Boxes``. Every
            row of a padded tensor stays a row (``n = b * M + m``); an all-zero row is padding and becomes an empty
            box, which paints nothing. Rows that Kornia ``Boxes`` marks as padding or removed are left out.
        mode: the format of the rows, one of the pixel formats of `convert_boxes`,
            ``xyxy xyxy_plus pascal_voc xywh cxcywh coco``; if left out, ``xyxy``, or what torchvision's
            ``BoundingBoxes`` say. Kornia ``Boxes`` have none.

    Returns:
        ``boxes (N, 4)`` half-open ``x1 y1 x2 y2`` in pixels, of a dtype as `convert_boxes` returns, and
        ``obj_to_img (N,)`` int64.

    Raises:
        TypeError, ValueError: not one of the three containers, rows that are not boxes, or a ``mode`` that contradicts
            ``BoundingBoxes``.

    Examples:
        >>> boxes, obj_to_img = kp.flatten_boxes([torch.zeros(2, 4), torch.zeros(0, 4), torch.zeros(1, 4)])
        >>> obj_to_img
        tensor([0, 0, 2])
    """
    if mode is not None and mode not in IN_PIXELS:
        raise ValueError(
            f"mode: expected one of {', '.join(IN_PIXELS)}, got {mode!r}. Use convert_boxes with size= first."
        )
    if isinstance(boxes, Boxes):
        rows = cast("Tensor", boxes.to_tensor("xyxy_plus", as_padded_sequence=True))  # (B, M, 4) or (M, 4)
        keep = valid_rows(boxes)
        rows = convert_boxes(rows, "xyxy_plus", "xyxy")  # not by Kornia, which would add 1 in half precision
        return rows.reshape(-1, 4)[keep.flatten()], keep.nonzero()[:, 0]
    if isinstance(boxes, Tensor):
        if boxes.ndim != 3 or boxes.shape[-1] != 4:
            raise ValueError(f"boxes: expected a padded (B, M, 4) tensor, got {tuple(boxes.shape)}.")
        check_numeric("boxes", boxes)
        converted = _in_xyxy(boxes, mode)
        padding = (without_class(boxes) == 0).all(-1, keepdim=True)
        obj_to_img = torch.arange(boxes.shape[0], device=boxes.device).repeat_interleave(boxes.shape[1])
        return converted.masked_fill(padding, 0).reshape(-1, 4), obj_to_img
    if not isinstance(boxes, Sequence) or isinstance(cast("object", boxes), str):
        raise TypeError(
            f"boxes: expected a list of (n_i, 4) tensors, a (B, M, 4) tensor or kornia Boxes, got {describe(boxes)}."
        )
    rows_of_images = []
    for i, row in enumerate(boxes):
        check_boxes(row, name=f"boxes[{i}]", expected="shape (n, 4)")
        rows_of_images.append(_in_xyxy(row, mode))
    if not rows_of_images:
        return torch.zeros(0, 4, dtype=torch.float32), torch.zeros(0, dtype=torch.int64)
    flat = torch.cat(rows_of_images)
    counts = torch.tensor([len(row) for row in rows_of_images], device=flat.device)
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
    check_index("obj_to_img", obj_to_img, len(boxes))
    host = without_class(obj_to_img).cpu().long()
    check_index_values("obj_to_img", host.numpy(), batch_size)
    order = host.argsort(stable=True).to(boxes.device)
    return list(boxes[order].split(torch.bincount(host, minlength=batch_size).tolist()))


def as_boxes(boxes: Tensor, count: int | None = None) -> Tensor:
    """Flat ``boxes (N, 4)`` in a floating dtype, float32 at least; their values are read on the host to check them."""
    check_boxes(boxes, count)
    check_readable("boxes", boxes)
    boxes = boxes.to(working_dtype(boxes))
    check_box_values(boxes.numpy(force=True).astype(np.float64))
    return boxes


def as_size(name: str, size: Any) -> tuple[int, int]:
    """``size`` as ``(height, width)``, two integers above 0: of Python, NumPy, or with ``__index__``; or raise."""
    try:
        height, width = map(index, size) if len(size) == 2 else (0, 0)
    except TypeError:
        height = width = 0
    if height < 1 or width < 1:
        raise ValueError(f"{name}: expected (height, width), two integers above 0, got {size!r}.")
    return height, width


def plain_tensors(function: Callable[P, R]) -> Callable[P, R]:
    """Run on tensors without their classes, some of which, as torchvision's, refuse one another.

    Boxes whose class says their format are converted to ``xyxy``. The result is what the class of the first argument
    makes of results of torch's own functions: plain in torchvision, unless its ``set_return_type`` says otherwise.
    """
    first = next(iter(signature(function).parameters))

    @wraps(function)
    def without_classes(*args: P.args, **kwargs: P.kwargs) -> R:
        if not has_torch_function((*args, *kwargs.values())):
            return function(*args, **kwargs)
        plain: Any = function  # P knows only args and kwargs as they came
        result: R = plain(*map(in_pixels, args), **{name: in_pixels(value) for name, value in kwargs.items()})
        given: Any = args[0] if args else kwargs[first]
        if not _has_class(given) or format_of(given):
            return result
        classed = type(given).__torch_function__(lambda _: result, (type(given),), (given,), {})
        return result if classed is NotImplemented else classed

    return without_classes


def in_pixels(value: T) -> T:
    """A tensor without its class, and in ``xyxy`` if that has a format; anything else as it is."""
    said = format_of(value)
    return cast("T", convert_boxes(cast("Tensor", value), said, "xyxy")) if said else without_class(value)


def without_class(value: T) -> T:
    """A tensor as one of no subclass, with the same memory and graph; anything else as it is."""
    if not _has_class(value):
        return value
    with torch._C.DisableTorchFunctionSubclass():  # or the class may wrap the result again
        return cast("T", cast("Tensor", value).as_subclass(Tensor))


def format_of(value: object, name: str = "mode", mode: str | None = None) -> str | None:
    """The format of torchvision's ``BoundingBoxes`` and classes like it; None if ``value`` is nothing of that kind.

    Raises if an argument called ``name`` said another ``mode``.
    """
    said = getattr(value, "format", None) if _has_class(value) else None
    if said is None:
        return None
    said, kind = str(getattr(said, "value", said)).lower(), type(value).__name__
    if said not in FORMATS or said.endswith("n"):
        raise ValueError(f"boxes: expected {kind} of format xyxy, xywh or cxcywh, got {said}.")
    if mode is not None and ALIASES.get(mode, mode) != said:
        raise ValueError(f"{name}: expected {said!r}, the format that the {kind} have, got {mode!r}.")
    return said


def _has_class(value: object) -> bool:
    """Whether ``value`` is of a subclass of Tensor that has a say in torch's functions, as parameters have not."""
    kind = type(value)
    return kind is not Tensor and issubclass(kind, Tensor) and kind.__torch_function__ is not SILENT


def _in_xyxy(boxes: Tensor, mode: str | None) -> Tensor:
    """Rows ``(..., 4)`` from ``mode``, or if that is None from the format that they have, else ``xyxy``."""
    said = format_of(boxes, "mode", mode)
    return convert_boxes(boxes, mode or said or "xyxy", "xyxy")
