"""Where *sample* reads, in Triton: the pixels of a tile, their positions in the source, and the taps around them.

The formulas and their order are those of ``reference.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.kernels.cuda.planes import MOST, plane_of, read_planes
from kornia_patchaug.kernels.cuda.tables import (
    FIRST,
    HEIGHT,
    HIGH,
    LAST,
    LOW,
    MIRROR,
    ORIGIN,
    SRC_X,
    SRC_Y,
    TX,
    TY,
    WIDTH,
    X1,
    X2,
    Y1,
    Y2,
    ZERO,
    A,
    B,
    C,
    D,
    offsets_in,
)
from kornia_patchaug.plan import Plan, starts

# Flat pixels of a tile: two for each thread of four warps, so that few threads idle on small windows.
TILE = 256


def tiles_of(plan: Plan, device: torch.device) -> list[Tensor]:
    """The object of each tile, and ``(N + 1,)`` the first tile of each object and how many there are.

    The tables of the plan are uploaded with them.
    """
    windows, count = plan.windows, -(-plan.windows.areas // TILE)
    return windows.derived("tiles", device, lambda: (np.arange(len(count)).repeat(count), starts(count)), plan.reads)


def options_of(plan: Plan, *pictures: Tensor) -> dict[str, Any]:
    """How objects read, and how wide offsets within pictures and flat buffers are, as constants that kernels are
    compiled for."""
    return {
        "NEAREST": plan.sampling.nearest,
        "BEYOND": int(plan.sampling.beyond),
        "EDGE": 0.0 if plan.sampling.align_corners else 0.5,
        "INT": offsets_in(max(pictures[0].shape[1], MOST) * plan.windows.total, *pictures),
        "enable_fp_fusion": False,  # a fused multiplication would settle ties and kinks otherwise than the reference
    }


@triton.jit
def pixels_of(tile, window, INT: tl.constexpr, TILE: tl.constexpr):
    """The pixels of a tile of a window: index in the window, whether there is such a pixel, column and row."""
    width = tl.load(window + WIDTH).to(INT)
    index = tile.to(INT) * TILE + tl.arange(0, TILE)
    y = index // width
    return index, index < tl.load(window + HEIGHT).to(INT) * width, index - y * width, y


@triton.jit
def positions_of(frame, x, y):
    """Pixel centres counted from the centre of their box, dx and dy; and where they are read, qx and qy.

    Pixel centres of the source are at whole numbers in qx and qy.
    """
    dst_x, dst_y = (tl.load(frame + X1) + tl.load(frame + X2)) / 2, (tl.load(frame + Y1) + tl.load(frame + Y2)) / 2
    dx, dy = (x.to(dst_x.dtype) + 0.5) - dst_x, (y.to(dst_y.dtype) + 0.5) - dst_y
    qx, qy = place_of(
        dx, dy,
        tl.load(frame + A), tl.load(frame + B), tl.load(frame + TX), tl.load(frame + SRC_X),
        tl.load(frame + C), tl.load(frame + D), tl.load(frame + TY), tl.load(frame + SRC_Y),
    )  # fmt: skip
    return dx, dy, qx, qy


@triton.jit
def place_of(dx, dy, a, b, tx, src_x, c, d, ty, src_y):
    """Where a pixel is read that is dx and dy from the centre of its box."""
    return (a * dx + b * dy + tx) + src_x - 0.5, (c * dx + d * dy + ty) + src_y - 0.5


@triton.jit
def share_of(edges, index):
    """`share_between` two edges of a frame along one axis."""
    return share_between(tl.load(edges), tl.load(edges + (X2 - X1)), index)


@triton.jit
def share_between(low, high, index):
    """The share of each pixel between two edges; whether it falls as the first edge moves on, and whether it grows as
    the last edge does."""
    position = index.to(low.dtype)
    before_stop, after_start = high - position, position + 1 - low
    share = tl.minimum(tl.maximum(before_stop, 0.0), 1.0) + tl.minimum(tl.maximum(after_start, 0.0), 1.0) - 1
    return share, (after_start >= 0) & (after_start <= 1), (before_stop >= 0) & (before_stop <= 1)


@triton.jit
def fold(position, low, high, BEYOND: tl.constexpr, EDGE: tl.constexpr):
    """`reference._fold`, and its derivative."""
    slope = tl.zeros_like(position) + 1
    if BEYOND == MIRROR:
        # The remainder of a float would not be exact on a device either. This one is where a pixel is more than the
        # last bit of the position; farther away any pixel of the patch will do.
        mirror = low - EDGE
        span = high - low + 2 * EDGE
        period = 2 * tl.maximum(span, 1.0)
        beyond = position - mirror
        # Correctly rounded, a quotient by a whole number never rounds to the next one; plain float32 division may.
        turns = tl.floor(tl.div_rn(beyond, period) if beyond.dtype == tl.float32 else beyond / period)
        turn = beyond - turns * period
        position = mirror + span - tl.abs(turn - span)
        slope = tl.where(turn > span, -slope, tl.where(turn < span, slope, 0.0))
    if BEYOND == ZERO:
        low, high = low - 2, high + 1
    number = tl.where(position == position, position, 0.0)  # not infinity less infinity
    within = tl.minimum(tl.maximum(number, low), high)
    return within, tl.where(within == position, slope, 0.0)


@triton.jit
def nearest_to(position, start):
    """The nearest pixel, of two the even one, counted from the start of the patch."""
    whole = tl.floor(position - start)
    rest = position - start - whole
    up = (rest > 0.5) | ((rest == 0.5) & (whole - 2 * tl.floor(whole / 2) != 0))
    return start + whole + up.to(whole.dtype)


@triton.jit
def taps_of(position, read, NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr):
    """The pixels below and above each position along one axis: where the one below is in the source, and how much
    farther the other; their weights, and whether they are read; and the derivative of the weight above, which is minus
    that of the weight below.

    Under NEAREST the nearest pixel is the one below, and the one above has the weight 0.
    """
    origin, low, high = tl.load(read + ORIGIN), tl.load(read + LOW), tl.load(read + HIGH)
    first, last = tl.load(read + FIRST).to(INT), tl.load(read + LAST).to(INT)
    origin, start = origin.to(INT), low.to(position.dtype)
    position, slope = fold(position, start, high.to(position.dtype), BEYOND, EDGE)
    whole = tl.floor(position)
    below, rest = whole.to(INT), position - whole
    if NEAREST:
        below, rest = nearest_to(position, start).to(INT), tl.zeros_like(rest)
    above, step = below + 1, 1
    if BEYOND == ZERO:
        has_below, has_above = (below >= first) & (below <= last), (above >= first) & (above <= last)
    else:
        has_below = tl.zeros_like(below) + first <= last  # no pixel is read if the limits miss the source
        has_above = has_below
    weight_below, weight_above = tl.where(has_below, 1 - rest, 0.0), tl.where(has_above, rest, 0.0)
    if BEYOND != ZERO:  # else what lies beyond is not read
        below, above = tl.minimum(tl.maximum(below, first), last), tl.minimum(tl.maximum(above, first), last)
        step = above - below
    return below + origin, step, weight_below, weight_above, has_below, has_above, slope


@triton.jit
def _weighted(weight, number):
    """Weight times number, and 0 where the weight is 0: the number may be infinite there."""
    return tl.where(weight == 0, 0.0, weight * number)


@triton.jit
def _tap(pixels, stride, weight, there, instead, CHANNELS: tl.constexpr):
    """The texels of planes: they are read where they are there and their weight is not 0, else they may be infinite."""
    return read_planes(pixels, stride, there & (weight != 0), instead, CHANNELS).to(weight.dtype)


@triton.jit
def interpolated(
    pixels, stride, step_x, step_y, wx0, wx1, wy0, wy1, there, NEAREST: tl.constexpr, CHANNELS: tl.constexpr
):
    """The sum of weights times texels of planes, of which the one below both positions is at ``pixels``."""
    w00, w01, w10, w11 = wy0 * wx0, wy0 * wx1, wy1 * wx0, wy1 * wx1
    # Of taps that are all -0 the sum is -0, and of none it is 0. Triton takes the literal -0.0 for 0.
    nothing = tl.zeros_like(w00) * -1.0
    first = tl.where(w00 + w01 + w10 + w11 == 0, 0.0, nothing)
    value = w00[None, :] * _tap(pixels, stride, w00, there, first, CHANNELS)
    if not NEAREST:
        value = tl.fma(w01[None, :], _tap(pixels + step_x, stride, w01, there, nothing, CHANNELS), value)
        value = tl.fma(w10[None, :], _tap(pixels + step_y, stride, w10, there, nothing, CHANNELS), value)
        value = tl.fma(w11[None, :], _tap(pixels + step_y + step_x, stride, w11, there, nothing, CHANNELS), value)
    return value


@triton.jit
def _by_texel(pixels, stride, grad, there, CHANNELS: tl.constexpr):
    """The gradient with respect to a weight: what comes times its texel, of all planes."""
    found, stride = plane_of(grad, 0, CHANNELS) * tl.load(pixels, there, 0.0).to(grad.dtype), tl.cast(stride, tl.int64)
    for k in tl.static_range(1, CHANNELS):
        found = tl.fma(plane_of(grad, k, CHANNELS), tl.load(pixels + k * stride, there, 0.0).to(grad.dtype), found)
    return found


@triton.jit
def by_texels(
    pixels, stride, grad, step_x, step_y, has_x0, has_x1, has_y0, has_y1,
    NEAREST: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The gradient with respect to each weight, for one with respect to planes."""
    g00 = _by_texel(pixels, stride, grad, has_y0 & has_x0, CHANNELS)
    g01, g10, g11 = tl.zeros_like(g00), tl.zeros_like(g00), tl.zeros_like(g00)
    if not NEAREST:
        g01 = _by_texel(pixels + step_x, stride, grad, has_y0 & has_x1, CHANNELS)
        g10 = _by_texel(pixels + step_y, stride, grad, has_y1 & has_x0, CHANNELS)
        g11 = _by_texel(pixels + step_y + step_x, stride, grad, has_y1 & has_x1, CHANNELS)
    return g00, g01, g10, g11


@triton.jit
def by_positions(
    g00, g01, g10, g11, wx0, wx1, wy0, wy1, has_x0, has_x1, has_y0, has_y1, slope_x, slope_y, NEAREST: tl.constexpr
):
    """The gradients with respect to the position across and down, of those with respect to weights."""
    by_x, by_y = tl.zeros_like(g00), tl.zeros_like(g00)
    if not NEAREST:
        by_x = tl.where(has_x1, tl.fma(wy0, g01, wy1 * g11), 0.0) - tl.where(has_x0, tl.fma(wy0, g00, wy1 * g10), 0.0)
        by_y = tl.where(has_y1, tl.fma(wx0, g10, wx1 * g11), 0.0) - tl.where(has_y0, tl.fma(wx0, g00, wx1 * g01), 0.0)
    return tl.where(slope_x != 0, slope_x * by_x, 0.0), tl.where(slope_y != 0, slope_y * by_y, 0.0)


@triton.jit
def over_taps(g00, g01, g10, g11, wx0, wx1, wy0, wy1):
    """The sum of weights times gradients with respect to them."""
    upper = _weighted(wy0 * wx0, g00) + _weighted(wy0 * wx1, g01)
    return upper + _weighted(wy1 * wx0, g10) + _weighted(wy1 * wx1, g11)


@triton.jit
def store_sums(row, frame, x, y, dx, dy, by_x, by_y, by_share, BOXES: tl.constexpr):
    """Add up what pixels contribute to the gradient with respect to a frame, in the order of `reference.frames`; by
    their positions, which are dx and dy from the centre of their box, and by the share of each that is in its box. As
    `frames_backward` takes them: those of the edges of the box if ``BOXES`` are wanted."""
    sum_x, sum_y = tl.sum(by_x), tl.sum(by_y)
    tl.store(row + A, tl.sum(by_x * dx))
    tl.store(row + B, tl.sum(by_x * dy))
    tl.store(row + TX, sum_x)
    tl.store(row + C, tl.sum(by_y * dx))
    tl.store(row + D, tl.sum(by_y * dy))
    tl.store(row + TY, sum_y)
    if BOXES:
        share_x, falls_x, grows_x = share_of(frame + X1, x)
        share_y, falls_y, grows_y = share_of(frame + Y1, y)
        # A box moves its centre, from which pixels count, by half of what an edge moves; and its coverage.
        centre_x = -(tl.load(frame + A) * sum_x + tl.load(frame + C) * sum_y) / 2
        centre_y = -(tl.load(frame + B) * sum_x + tl.load(frame + D) * sum_y) / 2
        tl.store(row + X1, centre_x - tl.sum(tl.where(falls_x, by_share * share_y, 0.0)))
        tl.store(row + Y1, centre_y - tl.sum(tl.where(falls_y, by_share * share_x, 0.0)))
        tl.store(row + X2, centre_x + tl.sum(tl.where(grows_x, by_share * share_y, 0.0)))
        tl.store(row + Y2, centre_y + tl.sum(tl.where(grows_y, by_share * share_x, 0.0)))
