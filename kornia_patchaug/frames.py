"""Box frames, the whole pixels of boxes, and matrices in pixels from a box's centre.

Matrices are named by frames so that neighbours cancel: ``src_from_dst = src_from_box @ box_from_dst``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def carry(points: Tensor, dst_from_src: Tensor, centre: Tensor) -> Tensor:
    """Points ``(N, K, 2)`` moved by matrices ``(N, 2, 3)`` about centres ``(N, 2)``."""
    centre = centre[:, None]
    return (points - centre) @ dst_from_src[..., :2].mT + dst_from_src[..., 2][:, None] + centre


def enclosing(points: Tensor, first: Tensor | None = None, stop: Tensor | None = None) -> Tensor:
    """The boxes ``(N, 4)`` around points ``(N, K, 2)``, kept between the corners ``first`` and ``stop``."""
    low, high = points.amin(1), points.amax(1)
    if first is not None:
        low, high = low.clamp(first, stop), high.clamp(first, stop)
    return torch.cat([low, high], dim=1)


def whole_pixels(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The corners of the whole pixels that boxes touch: first, and one past the last."""
    boxes = boxes.detach()
    return boxes[:, :2].floor(), boxes[:, 2:].ceil()


def painted_pixels(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The corners of what is painted of each box in its image, each ``(N, 2)``: first, and one past the last.

    That is its whole pixels within the image. Both corners are the same where a box has no area.
    """
    edge = boxes.new_tensor([width, height])
    first, stop = (corner.minimum(edge).clamp(min=0) for corner in whole_pixels(boxes))
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(1, keepdim=True)
    return first, stop.where(has_area, first)


def half_sizes(boxes: Tensor, align_corners: bool) -> Tensor:
    """Half the box frame's extent in pixels, (x, y): edges, or with ``align_corners`` first and last pixel centres.

    A box of one pixel or less has one column of centres, so that its frame has no width under ``align_corners``.
    """
    size = boxes[:, 2:] - boxes[:, :2]
    return ((size - 1).clamp(min=0) if align_corners else size) / 2


def centres(boxes: Tensor) -> Tensor:
    """Box centres ``(N, 2)``, (x, y)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def corners_of(boxes: Tensor) -> Tensor:
    """The four corners ``(N, 4, 2)``, (x, y), clockwise as displayed from the top left."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def identity_theta(boxes: Tensor) -> Tensor:
    """The theta that moves nothing, ``(N, 2, 3)``."""
    return torch.eye(2, 3, dtype=boxes.dtype, device=boxes.device).expand(len(boxes), 2, 3)


def centred_matrices(theta: Tensor, half: Tensor) -> Tensor:
    """``src_from_dst (N, 2, 3)`` in pixels from the box centre, of theta and the half sizes ``(N, 2)`` of its frame.

    The diagonal does not depend on the box, so that the identity is exact and a frame without width is no special case.
    """
    ratio = safe_ratio(half, half.flip(1))  # x / y, y / x
    one = torch.ones_like(half[:, :1])
    factors = torch.cat([one, ratio[:, :1], half[:, :1], ratio[:, 1:], one, half[:, 1:]], dim=1)
    return theta * factors.view(-1, 2, 3)


def safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, and 0 (with zero gradient) where the denominator is 0."""
    zero = denominator == 0
    return (numerator / denominator.masked_fill(zero, 1)).masked_fill(zero, 0)
