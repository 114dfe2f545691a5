"""Box frames, the whole pixels of boxes, theta as a matrix, and matrices in pixels from a box's centre.

Matrices are named by frames so that neighbours cancel: ``src_from_dst = src_from_box @ box_from_dst``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.checks import check_theta
from kornia_patchaug.dtypes import working_dtype
from kornia_patchaug.transfers import sent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ILL = 1e-5  # of a determinant to its products: below, rounding decides where a matrix leads

Corners = TypeVar("Corners", Tensor, "np.ndarray[tuple[int, int], np.dtype[np.float64]]")


def as_theta(theta: Tensor, count: int | None = None, name: str = "theta") -> Tensor:
    """``theta`` as ``(N, 2, 3)``, float32 at least; or raise as `check_theta` does."""
    check_theta(theta, count, name)
    dtype = working_dtype(theta)
    theta = theta if theta.ndim == 3 else theta.reshape(-1, 2, 3)
    return theta if theta.dtype == dtype else theta.to(dtype)


def carry(points: Tensor, dst_from_src: Tensor, centre: Tensor) -> Tensor:
    """Points ``(N, K, 2)`` moved by matrices ``(N, 2, 3)`` about centres ``(N, 2)``."""
    centre = centre[:, None]
    return (points - centre) @ dst_from_src[..., :2].mT + dst_from_src[..., 2][:, None] + centre


def enclosing(points: Tensor, limits: Tensor | None = None) -> Tensor:
    """The boxes ``(N, 4)`` around points ``(N, K, 2)``, kept within ``limits (N, 4)``."""
    low, high = points.amin(1), points.amax(1)
    if limits is not None:
        first, stop = limits.split(2, dim=1)
        low, high = clamped(low, first, stop), clamped(high, first, stop)
    return torch.cat([low, high], dim=1)


def whole_pixels(boxes: Corners) -> Corners:
    """The whole pixels that boxes touch, ``(N, 4)`` as boxes; of tensors, without a graph."""
    if isinstance(boxes, np.ndarray):
        whole = np.floor(boxes)
        np.ceil(boxes[:, 2:], out=whole[:, 2:])
        return whole
    boxes = boxes.detach()
    return torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1)


def painted_pixels(boxes: Corners, height: int, width: int) -> Corners:
    """What is painted of each box in its image, ``(N, 4)``: its whole pixels within the image.

    Both corners are the same where a box has no area.
    """
    has_side = boxes[:, 2:] > boxes[:, :2]  # across, down
    if isinstance(boxes, np.ndarray):
        painted = np.minimum(np.maximum(whole_pixels(boxes), 0), (width, height, width, height))
        if not np.logical_and.reduce(has_side, None):
            np.copyto(painted[:, 2:], painted[:, :2], where=~has_side.all(1, keepdims=True))
        return painted
    has_area = has_side[:, :1] & has_side[:, 1:]
    painted = whole_pixels(boxes).minimum(boxes.new_tensor((width, height) * 2)).clamp(min=0)
    first, stop = painted.split(2, dim=1)
    return torch.cat([first, stop.where(has_area, first)], dim=1)


def cut_off(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes ``(N, 4)`` without what lies beyond an image."""
    return boxes.clamp(min=0).minimum(boxes.new_tensor((width, height) * 2))


def reached_pixels(
    patches: Floats, boxes: Floats, source_boxes: Floats | None, theta: Floats, limits: Floats, align_corners: bool
) -> tuple[Floats, NDArray[np.bool_]]:
    """What is painted where boxes clip nothing, ``(N, 4)``: the pixels within ``limits (4,)`` about where the whole
    pixels ``patches (N, 4)`` of the source go, faded over half a pixel beyond their edges as interpolation does.

    All within the limits where that is nowhere in particular, as theta is singular or next to it: ``(N,)`` bool.
    Without source boxes each object reads the place of its box.
    """
    read = boxes if source_boxes is None else source_boxes
    half, src_half = (((each[:, 2:] - each[:, :2] - align_corners) / 2).clip(0) for each in (boxes, read))
    with np.errstate(all="ignore"):
        scale = 1 if source_boxes is None else np.where(half > 0, src_half / half, 0)
        # src_from_dst, as `centred_matrices` has it: offset = linear (place - shift)
        across = np.where(half[:, ::-1] > 0, src_half / half[:, ::-1], 0)  # x / y, y / x
        own, cross = theta[:, (0, 1), (0, 1)] * scale, theta[:, (0, 1), (1, 0)] * across
        products = own[:, :1] * own[:, 1:], cross[:, :1] * cross[:, 1:]
        determinant, all_of_it = products[0] - products[1], abs(products[0]) + abs(products[1])
        inverse, other = own[:, ::-1] / determinant, -cross / determinant
        offset = (patches[:, :2] + patches[:, 2:] - read[:, :2] - read[:, 2:]) / 2 - theta[:, :, 2] * src_half
        reach = (patches[:, 2:] - patches[:, :2] + 1) / 2
        middle = inverse * offset + other * offset[:, ::-1] + (boxes[:, :2] + boxes[:, 2:]) / 2
        extent = abs(inverse) * reach + abs(other) * reach[:, ::-1]
        well = np.logical_and(np.isfinite((middle + extent).sum(1, keepdims=True)), abs(determinant) > ILL * all_of_it)
        # Pixels whose centre lies between.
        first = np.where(well, np.floor(middle - extent + 0.5), limits[:2]).clip(limits[:2], limits[2:])
        stop = np.where(well, np.ceil(middle + extent - 0.5), limits[2:]).clip(first, limits[2:])
    sides = np.concatenate((patches[:, 2:] - patches[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    return np.concatenate((first, np.where((sides > 0).all(axis=1, keepdims=True), stop, first)), axis=1), ~well[:, 0]


def half_sizes(boxes: Tensor, align_corners: bool) -> Tensor:
    """Half the box frame's extent in pixels, (x, y): edges, or with ``align_corners`` first and last pixel centres.

    A box of one pixel or less has one column of centres, so that its frame has no width under ``align_corners``.
    """
    size = boxes[:, 2:] - boxes[:, :2]
    return (clamped(size - 1, 0, torch.inf) if align_corners else size) / 2


def centres(boxes: Tensor) -> Tensor:
    """Box centres ``(N, 2)``, (x, y)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def corners_of(boxes: Tensor) -> Tensor:
    """The four corners ``(N, 4, 2)``, (x, y), clockwise as displayed from the top left."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def whole_boxes(patches: Tensor, like: Tensor) -> Tensor:
    """``(N, 4)``, as many as in ``like (N, ...)``: the box that is all of a patch."""
    box = torch.tensor((0, 0, patches.shape[3], patches.shape[2]), dtype=like.dtype, device="cpu")
    return sent(box, like.device).expand(len(like), 4)


def identity_theta(boxes: Tensor) -> Tensor:
    """The theta that moves nothing, ``(N, 2, 3)``."""
    return torch.eye(2, 3, dtype=boxes.dtype, device=boxes.device).expand(len(boxes), 2, 3)


def centred_matrices(theta: Tensor, half: Tensor, read: Tensor | None = None) -> Tensor:
    """``src_from_dst (N, 2, 3)`` in pixels from the centres, of theta and the half sizes ``(N, 2)`` of its frame, and
    of the frame that is read, if that is another.

    Else the diagonal does not depend on the box, so that the identity is exact and a frame without width is no special
    case. All pixels of one without lead to one place of another.
    """
    own, src = (torch.ones_like(half), half) if read is None else (safe_ratio(read, half), read)
    across = safe_ratio(src, half.flip(1))  # x / y, y / x
    factors = torch.stack([own[:, 0], across[:, 0], src[:, 0], across[:, 1], own[:, 1], src[:, 1]], dim=1)
    return theta * factors.view(-1, 2, 3)


def safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, and 0 (with zero gradient) where the denominator is 0."""
    zero = denominator == 0
    return (numerator / denominator.masked_fill(zero, 1)).masked_fill(zero, 0)


def clamped(value: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """``value.clamp(low, high)``, with gradient 1 between the bounds and at them, where versions of torch differ."""
    return torch.where(value < low, low, torch.where(value > high, high, value))
