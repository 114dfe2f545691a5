"""Box frames, the whole pixels of boxes, theta as a matrix, and matrices in pixels from a box's centre.

Matrices are named by frames so that neighbours cancel: ``src_from_dst = src_from_box @ box_from_dst``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kornia_patchaug.dtypes import working_dtype


def as_theta(theta: Tensor) -> Tensor:
    """A checked ``(N, 6)`` or ``(N, 2, 3)`` as ``(N, 2, 3)``, float32 at least."""
    dtype = working_dtype(theta)
    theta = theta if theta.ndim == 3 else theta.reshape(-1, 2, 3)
    return theta if theta.dtype == dtype else theta.to(dtype)


def clamped(x: Tensor, low: Tensor | float | None = None, high: Tensor | float | None = None) -> Tensor:
    """``x.clamp(low, high)``, with gradient 1 with respect to ``x`` between the bounds and at them, and 0 beyond.

    The gradient of ``clamp`` at a bound depends on the version of torch, and on whether the bound is a tensor.
    """
    if low is not None:
        x = torch.where(x < low, low, x)
    return x if high is None else torch.where(x > high, high, x)


def carry(points: Tensor, dst_from_src: Tensor, centre: Tensor) -> Tensor:
    """Points ``(N, K, 2)`` moved by matrices ``(N, 2, 3)`` about centres ``(N, 2)``."""
    centre = centre[:, None]
    return (points - centre) @ dst_from_src[..., :2].mT + dst_from_src[..., 2][:, None] + centre


def enclosing(points: Tensor, first: Tensor | None = None, stop: Tensor | None = None) -> Tensor:
    """The boxes ``(N, 4)`` around points ``(N, K, 2)``, kept between corners ``first`` and ``stop (N, 2)``."""
    ends = points.amin(1), points.amax(1)
    return torch.cat([clamped(end, first, stop) for end in ends], dim=1)


def whole_pixels(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The corners of the whole pixels that boxes touch: first, and one past the last."""
    boxes = boxes.detach()
    return boxes[:, :2].floor(), boxes[:, 2:].ceil()


def half_sizes(boxes: Tensor, align_corners: bool) -> Tensor:
    """Half the box frame's extent in pixels, (x, y): edges, or with ``align_corners`` first and last pixel centres.

    A box of one pixel or less has one column of centres, so that its frame has no width under ``align_corners``.
    """
    size = boxes[:, 2:] - boxes[:, :2]
    return (clamped(size - 1, 0.0) if align_corners else size) / 2


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
