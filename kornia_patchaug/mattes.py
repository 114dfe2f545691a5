"""Mattes with soft edges, for alpha."""

from __future__ import annotations

from operator import index

import torch
from torch import Tensor

from kornia_patchaug.boxes import as_size
from kornia_patchaug.checks import check_option
from kornia_patchaug.theta import OUTLINES, Outline


def soft_mattes(
    count: int,
    size: int | tuple[int, int] = 32,
    *,
    shape: Outline = "box",
    feather: float = 0.2,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Mattes that are opaque inside and fade out towards the edge, so that what is painted with them has no seam.

    Opacity is the smoothstep 3 t^2 - 2 t^3 of the depth t, which is 0 at the edge and 1 from ``feather`` inside on. In
    a box it is the product of one across and one down.

    Args:
        count: how many, all alike: one an object.
        size: height and width in pixels, or one number for both. A value is that at its pixel's centre; the matte is
            stretched over the object's box.
        shape: ``"box"``, or ``"ellipse"``, the one inscribed in the box.
        feather: how far opacity takes to rise, as a share of the half size, in [0, 1]: at 0 the edge is hard, and at 1
            the centre alone is opaque.
        dtype: a floating one; torch's default dtype if left out.
        device: torch's default device if left out.

    Returns:
        ``(count, 1, height, width)`` in [0, 1], the ``alpha`` of `affine_patches` and `paste_patches`.

    Raises:
        TypeError, ValueError: a count or size that is none, an unknown shape, a feather that is no number in [0, 1], or
            a dtype that is not floating.

    Examples:
        >>> kp.soft_mattes(1, (1, 4), feather=0.5)
        tensor([[[[0.5000, 1.0000, 1.0000, 0.5000]]]])
        >>> kp.soft_mattes(8, 64, shape="ellipse").shape
        torch.Size([8, 1, 64, 64])
    """
    number = _count(count)
    height, width = _sides(size)
    check_option("shape", shape, OUTLINES)
    if not (isinstance(feather, (int, float)) and 0 <= feather <= 1):
        raise ValueError(f"feather: expected a share of the half size in [0, 1], got {feather!r}.")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype: expected a floating dtype, got {dtype}.")
    working = torch.promote_types(dtype, torch.float32)
    x = _from_centre(width, working, device)
    y = _from_centre(height, working, device)[:, None]
    if shape == "box":
        opacity = _risen(1 - x, feather) * _risen(1 - y, feather)
    else:
        opacity = _risen(1 - (x.square() + y.square()).sqrt(), feather)
    return opacity.to(dtype).repeat(number, 1, 1, 1)  # memory of its own for each, to write to


def _from_centre(length: int, dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
    """How far pixel centres are from the middle of ``length`` pixels, in halves of it: the same from both ends."""
    return torch.arange(1 - length, length, 2, dtype=dtype, device=device).abs() / length


def _risen(depth: Tensor, feather: float) -> Tensor:
    """0 at the edge, where the depth is 0, and 1 from ``feather`` on."""
    t = (depth / max(feather, torch.finfo(depth.dtype).tiny)).clamp(0, 1)  # a hard edge divides by no 0
    return t * t * (3 - 2 * t)


def _count(count: int) -> int:
    try:
        number = index(count)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"count: expected an integer of 0 or more, got {count!r}.")
    return number


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    try:
        return as_size("size", size if hasattr(size, "__len__") else (size, size))
    except ValueError:
        raise ValueError(f"size: expected an integer above 0, or two as (height, width), got {size!r}.") from None
