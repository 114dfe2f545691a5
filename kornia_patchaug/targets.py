"""Targets of detectors, as torchvision's take them: what is checked of them, and their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from kornia_patchaug.boxes import convert_boxes, format_of, in_pixels, without_class
from kornia_patchaug.checks import check_numeric, describe
from kornia_patchaug.dtypes import working_dtype

Target = Mapping[str, Any]

OF_PICTURES = ("image_id", "orig_size", "size")  # of a picture, whatever their number of rows
ROWS = ("labels", "masks", "keypoints", "area", "iscrowd")  # that have one row an object


INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Labels(NamedTuple):
    """What a target says of n objects, checked: plain tensors, boxes in half-open pixels."""

    boxes: Tensor  # (n, 4) floating
    labels: Tensor | None  # (n,) int64
    masks: Tensor | None  # (n, H, W)
    keypoints: Tensor | None  # (n, K, 2 or 3) floating
    rows: dict[str, Any]  # whatever else has n rows


def check_pictures(images: object) -> list[Tensor]:
    """One plain tensor ``(C, H, W)`` an image of a list or a batch; or raise."""
    if isinstance(images, Tensor) and images.ndim == 4:
        images = list(images)
    if not isinstance(images, Sequence) or isinstance(images, str):
        raise TypeError(
            f"images: expected a list of (C, H, W) tensors or a (B, C, H, W) tensor, got {describe(images)}."
        )
    for i, image in enumerate(images):
        if not isinstance(image, Tensor):
            raise TypeError(f"images[{i}]: expected a (C, H, W) tensor, got {describe(image)}.")
        if image.ndim != 3 or min(image.shape) < 1:
            raise ValueError(f"images[{i}]: expected shape (C, H, W) with pixels, got {tuple(image.shape)}.")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise TypeError(f"images[{i}]: expected uint8 or a floating dtype, got {image.dtype}.")
        first = images[0]
        for name, one, other in (
            ("dtype", image.dtype, first.dtype),
            ("device", image.device, first.device),
            ("number of channels", len(image), len(first)),
        ):
            if one != other:
                raise ValueError(f"images[{i}]: expected the {name} of images[0], {other}, got {one}.")
    return [without_class(image) for image in images]


def as_floats(image: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]; floating pictures in float32 at least, as labels are."""
    return image.float() / 255 if image.dtype == torch.uint8 else image.to(working_dtype(image))


def as_they_came(images: Tensor, dtype: torch.dtype) -> Tensor:
    """The reverse of `as_floats`."""
    if dtype != torch.uint8:
        return images.to(dtype)
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def check_target(target: object, image: Tensor, name: str) -> Labels:
    """The labels of an image ``(C, H, W)``, or raise for what is wrong in them, by the ``name`` of the target."""
    if not isinstance(target, Mapping):
        raise TypeError(f"{name}: expected a dict with boxes, got {describe(target)}.")
    if "boxes" not in target:
        raise ValueError(
            f"{name}: expected a dict with boxes, got one with {', '.join(map(repr, target)) or 'nothing'}."
        )
    boxes = _checked_boxes(target["boxes"], image, f'{name}["boxes"]')
    count = len(boxes)
    for key in ROWS:
        if key in target and rows_of(target[key]) != count:
            got = "" if isinstance(target[key], Tensor) else f" of {rows_of(target[key])}"
            raise ValueError(f'{name}["{key}"]: expected {count} rows, one a box, got {describe(target[key])}{got}.')
    labels, masks, keypoints = (target.get(key) for key in ("labels", "masks", "keypoints"))
    if labels is not None:
        labels = _checked_labels(labels, image, f'{name}["labels"]')
    if masks is not None:
        masks = _checked_masks(masks, image, f'{name}["masks"]')
    if keypoints is not None:
        keypoints = _checked_keypoints(keypoints, image, f'{name}["keypoints"]')
    taken = ("boxes", "labels", "masks", "keypoints", *OF_PICTURES)
    rows = {key: value for key, value in target.items() if key not in taken and rows_of(value) == count}
    return Labels(boxes, labels, masks, keypoints, rows)


def rows_of(value: object) -> int | None:
    """How many rows a value has, or None if it has none."""
    if isinstance(value, Tensor):
        return len(value) if value.ndim else None
    return len(value) if isinstance(value, (list, tuple)) else None


def take(value: Any, rows: list[int]) -> Any:
    """Some rows of a tensor or list, in its own type."""
    if isinstance(value, Tensor):
        return value[torch.tensor(rows, dtype=torch.int64, device=value.device)]
    return type(value)(value[row] for row in rows)


def all_have(name: str, labels: list[Labels]) -> bool:
    """Whether targets with objects have a field, or if none has objects, any; or raise if only some have."""
    there = [(i, getattr(part, name) is not None) for i, part in enumerate(labels) if len(part.boxes)]
    if not there:  # copies may come
        return any(getattr(part, name) is not None for part in labels)
    without = next((i for i, has in there if not has), None)
    if without is not None and any(has for _, has in there):
        raise ValueError(f"targets[{without}]: expected {name}, as other targets have them.")
    return without is None and any(has for _, has in there)


def count_of_points(labels: list[Labels]) -> int:
    """How many keypoints each object has, 0 without any; or raise if numbers differ."""
    if not all_have("keypoints", labels):
        return 0
    told = [(i, part.keypoints) for i, part in enumerate(labels) if part.keypoints is not None]
    counts = [(i, points.shape[1]) for i, points in told if len(points)] or [(i, points.shape[1]) for i, points in told]
    for i, count in counts:
        if count != counts[0][1]:
            raise ValueError(
                f'targets[{i}]["keypoints"]: expected {counts[0][1]} keypoints an object, as others have, got {count}.'
            )
    return counts[0][1]


def boxes_like(value: Tensor, boxes: Tensor, row: Tensor, same: Tensor, size: tuple[int, ...]) -> Tensor:
    """Half-open boxes ``(n, 4)`` in the format, dtype and class of a target's; the ``same (n,)`` with its bits."""
    said = format_of(value)
    plain = value.detach() if said is None else without_class(value.detach())
    found = boxes if said is None else convert_boxes(boxes, "xyxy", said)
    found = as_dtype(found, value.dtype)
    if len(plain):
        found = plain[row].where(same[:, None], found)
    if said is None:
        return classed(found, value)
    kind: Any = type(value)
    return cast("Tensor", kind(found, format=cast("Any", value).format, canvas_size=size))


def as_dtype(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if dtype.is_floating_point else values.round().to(dtype)


def classed(value: Tensor, like: object) -> Tensor:
    """A tensor of the class of another one, as torchvision's images and masks have classes."""
    kind = type(like)
    return value if kind is Tensor or not issubclass(kind, Tensor) else value.as_subclass(kind)


def _checked_boxes(boxes: object, image: Tensor, name: str) -> Tensor:
    check_numeric(name, boxes)
    assert isinstance(boxes, Tensor)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        hint = " Use torch.zeros(0, 4) where there are none." if not boxes.numel() else ""
        raise ValueError(f"{name}: expected shape (n, 4), got {tuple(boxes.shape)}.{hint}")
    _check_device(name, boxes, image)
    said = format_of(boxes, "mode", None)
    plain = in_pixels(boxes).detach()
    _check_rows(name, boxes, ~plain.double().isfinite(), "finite values")
    crossing = plain[:, 2:] < plain[:, :2]
    what = f"a width and height of at least 0 ({said})" if said else "x1 y1 x2 y2 with x2 >= x1 and y2 >= y1"
    remedy = "" if said else " Boxes as corner and size go through convert_boxes(boxes, 'xywh', 'xyxy')."
    _check_rows(name, boxes, crossing, what, remedy)
    return in_pixels(boxes).to(
        torch.promote_types(image.dtype if image.is_floating_point() else torch.float32, torch.float32)
    )


def _checked_labels(labels: object, image: Tensor, name: str) -> Tensor:
    if (
        not isinstance(labels, Tensor)
        or labels.is_floating_point()
        or labels.is_complex()
        or labels.dtype == torch.bool
    ):
        raise TypeError(f"{name}: expected an integer (n,) tensor, got {describe(labels)}.")
    if labels.ndim != 1:
        raise ValueError(f"{name}: expected shape (n,), got {tuple(labels.shape)}.")
    _check_device(name, labels, image)
    return without_class(labels).to(torch.int64)


def _checked_masks(masks: object, image: Tensor, name: str) -> Tensor:
    size = tuple(image.shape[1:])
    if not isinstance(masks, Tensor) or masks.is_complex():
        raise TypeError(f"{name}: expected a tensor (n, {size[0]}, {size[1]}), got {describe(masks)}.")
    if masks.ndim != 3 or tuple(masks.shape[1:]) != size:
        raise ValueError(f"{name}: expected shape (n, {size[0]}, {size[1]}), of the image, got {tuple(masks.shape)}.")
    _check_device(name, masks, image)
    return without_class(masks)


def _checked_keypoints(keypoints: object, image: Tensor, name: str) -> Tensor:
    check_numeric(name, keypoints)
    assert isinstance(keypoints, Tensor)
    if keypoints.ndim != 3 or keypoints.shape[2] not in (2, 3):
        raise ValueError(f"{name}: expected shape (n, K, 2) or (n, K, 3), got {tuple(keypoints.shape)}.")
    _check_device(name, keypoints, image)
    plain = without_class(keypoints)
    _check_rows(name, plain.flatten(1), ~plain.double().isfinite().flatten(1), "finite values")
    if plain.shape[2] == 3:
        flags = plain[..., 2]
        _check_rows(name, flags, (flags != 0) & (flags != 1) & (flags != 2), "visibility of 0, 1 or 2")
    return plain.to(working_dtype(image))


def _check_device(name: str, value: Tensor, image: Tensor) -> None:
    if value.device != image.device:
        raise ValueError(f"{name}: expected the images' device {image.device}, got {value.device}.")


def _check_rows(name: str, values: Tensor, bad: Tensor, expected: str, remedy: str = "") -> None:
    if bad.any():
        row = int(bad.any(1).nonzero()[0])
        raise ValueError(
            f"{name}: expected {expected}, got {without_class(values)[row].tolist()} in row {row}.{remedy}"
        )
