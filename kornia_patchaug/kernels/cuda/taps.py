"""Where *sample* reads, in Triton: the pixels of a tile, their positions in the source, and the taps around them.

The formulas and their order are those of ``reference.py``.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

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
    offsets_up_to,
)
from kornia_patchaug.plan import TABLE, Plan, starts, uploaded

# Flat pixels of a tile: two for each thread of four warps, so that the taps of both fit in registers, and few threads
# idle on small windows.
TILE = 256
TILES = "tiles"


def tiles_of(plan: Plan, device: torch.device) -> list[Tensor]:
    """The object of each tile, and ``(N + 1,)`` the first tile of each object and how many there are.

    The tables of the plan are uploaded with them.
    """
    windows, reads = plan.windows, plan.reads
    if (TILES, device) not in windows.kept:
        count = -(-windows.areas // TILE)
        tables = windows.host, reads.host, np.arange(len(count)).repeat(count), starts(count)
        windows.kept[TABLE, device], reads.kept[TABLE, device], *tiles = ([part] for part in uploaded(device, *tables))
        windows.kept[TILES, device] = [part for (part,) in tiles]
    return windows.kept[TILES, device]


def options_of(source: Tensor, plan: Plan) -> dict[str, object]:
    """The constants that the kernels are compiled for."""
    _, _, height, width = source.shape
    farthest = (height - 1) * source.stride(2) + (width - 1) * source.stride(3)
    return {
        "NEAREST": plan.sampling.nearest,
        "BEYOND": int(plan.sampling.beyond),
        "EDGE": 0.0 if plan.sampling.align_corners else 0.5,
        "BY_REACH": plan.sampling.by_reach,
        "BOX_COVERAGE": plan.box_coverage,
        "INT": offsets_up_to(max(plan.windows.total, height * width, farthest)),
        "TILE": TILE,
        "enable_fp_fusion": False,  # a fused multiplication would settle ties of nearest otherwise than the reference
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
    qx = (tl.load(frame + A) * dx + tl.load(frame + B) * dy + tl.load(frame + TX)) + tl.load(frame + SRC_X) - 0.5
    qy = (tl.load(frame + C) * dx + tl.load(frame + D) * dy + tl.load(frame + TY)) + tl.load(frame + SRC_Y) - 0.5
    return dx, dy, qx, qy


@triton.jit
def share_of(edges, index):
    """The share of each pixel between two edges of its box along one axis; whether it falls as the first edge moves
    on, and whether it grows as the last edge does."""
    low, high = tl.load(edges), tl.load(edges + (X2 - X1))
    position = index.to(low.dtype)
    before_stop, after_start = high - position, position + 1 - low
    share = tl.minimum(tl.maximum(before_stop, 0.0), 1.0) + tl.minimum(tl.maximum(after_start, 0.0), 1.0) - 1
    return share, (after_start >= 0) & (after_start <= 1), (before_stop >= 0) & (before_stop <= 1)


@triton.jit
def _fold(position, low, high, BEYOND: tl.constexpr, EDGE: tl.constexpr):
    """`reference._fold`, and its derivative."""
    slope = tl.where(position == position, 1.0, 0.0)
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
    position = tl.where(position == position, position, 0.0)  # infinity less infinity
    if BEYOND == ZERO:
        low, high = low - 2, high + 1
    slope = tl.where((position >= low) & (position <= high), slope, 0.0)
    return tl.minimum(tl.maximum(position, low), high), slope


@triton.jit
def taps_of(position, read, NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr):
    """The pixels below and above each position along one axis: places in the source, weights, and whether they are
    read; and the derivative of the weight above, which is minus that of the weight below.

    Under NEAREST the nearest pixel is the one below, and the one above has the weight 0.
    """
    origin, low, high = tl.load(read + ORIGIN), tl.load(read + LOW), tl.load(read + HIGH)
    first, last = tl.load(read + FIRST).to(INT), tl.load(read + LAST).to(INT)
    origin, start = origin.to(INT), low.to(position.dtype)
    position, slope = _fold(position, start, high.to(position.dtype), BEYOND, EDGE)
    if NEAREST:
        position -= start
    whole = tl.floor(position)
    rest = position - whole
    below = whole.to(INT)
    if NEAREST:  # halves go to the even pixel of the patch
        up = (rest > 0.5) | ((rest == 0.5) & (below % 2 != 0))
        below += low.to(INT) + up.to(INT)
        rest = tl.zeros_like(rest)
    above = below + 1
    if BEYOND == ZERO:
        has_below, has_above = (below >= first) & (below <= last), (above >= first) & (above <= last)
    else:
        has_below = tl.zeros_like(below) + first <= last  # no pixel is read if the limits miss the source
        has_above = has_below
    weight_below, weight_above = tl.where(has_below, 1 - rest, 0.0), tl.where(has_above, rest, 0.0)
    below = tl.minimum(tl.maximum(below, first), last) + origin
    above = tl.minimum(tl.maximum(above, first), last) + origin
    return below, above, weight_below, weight_above, has_below, has_above, slope


@triton.jit
def weighted(weight, number):
    """Weight times number, and 0 where the weight is 0: the number may be infinite there."""
    return tl.where(weight == 0, 0.0, weight * number)


@triton.jit
def add_tap(value, weight, texel, there):
    """Add weight times texel, which is read where it is there and the weight is not 0: it may be infinite else."""
    return tl.where(weight == 0, value, value + weight * tl.load(texel, there & (weight != 0), 0.0))
