"""Where *sample* reads, in Triton: whose tile of pixels a program takes, and the taps around each position.

The formulas and their order are those of ``reference.py``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.windows import Column

# Flat pixels of a tile: two for each thread of four warps, so that the taps of both fit in registers, and few threads
# idle on small windows.
TILE = 256
# Offsets within a plane take 32 bits where they can, which are cheaper; where planes begin takes 64 always.
BEYOND_32_BITS = 2**31


def tiles_of(table: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Whose each tile is, and ``(N,)`` where the tiles of each object end.

    The host knows a bound only of how many there are: those to spare belong to no object, N.
    """
    tiles = (table[:, Column.SIZE].prod(1) + (TILE - 1)).div(TILE, rounding_mode="floor")
    ends = tiles.cumsum(0)
    tile = torch.arange(total // TILE + len(table), device=table.device)
    return torch.searchsorted(ends, tile, right=True), ends


def options_of(
    source: Tensor, total: int, mode: str, padding_mode: str, align_corners: bool, covered: bool
) -> dict[str, object]:
    """What the kernels are compiled for."""
    _, _, height, width = source.shape
    reach = max(total, height * width, (height - 1) * source.stride(2) + (width - 1) * source.stride(3))
    return {
        "NEAREST": mode == "nearest",
        "ZEROS": padding_mode in ("zeros", "transparent"),
        "REFLECTION": padding_mode == "reflection",
        "TRANSPARENT": padding_mode == "transparent",
        "EDGE": 0.0 if align_corners else 0.5,
        "COVERED": covered,
        "INT": tl.int32 if reach < BEYOND_32_BITS else tl.int64,
        "TILE": TILE,
        "enable_fp_fusion": False,  # a fused multiplication would settle ties of nearest otherwise than the reference
    }


@triton.jit
def pixels_of(table, ends, obj, INT: tl.constexpr, TILE: tl.constexpr):
    """Where the object's flat pixels start; and of the program's, their place from there, whether they are, x and y."""
    row = table + obj * 10
    width = tl.load(row + 3).to(INT)
    area = tl.load(row + 4).to(INT) * width
    start = tl.load(row + 9)
    before = tl.load(ends + obj - 1, mask=obj > 0, other=0)
    within = (tl.program_id(0) - before).to(INT) * TILE + tl.arange(0, TILE)
    y = within // width
    return start, within, within < area, within - y * width, y


@triton.jit
def from_centre(frame, x, y):
    """The centres of pixels, counted from that of their box."""
    dst_x, dst_y = (tl.load(frame + 8) + tl.load(frame + 10)) / 2, (tl.load(frame + 9) + tl.load(frame + 11)) / 2
    return (x.to(dst_x.dtype) + 0.5) - dst_x, (y.to(dst_y.dtype) + 0.5) - dst_y


@triton.jit
def share_of(low, high, position):
    """The share of a pixel between two edges along one axis, and its derivatives in both."""
    before_stop, after_start = high - position, position + 1 - low
    share = tl.minimum(tl.maximum(before_stop, 0.0), 1.0) + tl.minimum(tl.maximum(after_start, 0.0), 1.0) - 1
    of_low = tl.where((after_start >= 0) & (after_start <= 1), -1.0, 0.0)
    of_high = tl.where((before_stop >= 0) & (before_stop <= 1), 1.0, 0.0)
    return share, of_low, of_high


@triton.jit
def _fold(position, low, high, ZEROS: tl.constexpr, REFLECTION: tl.constexpr, EDGE: tl.constexpr):
    """Positions brought back by the padding mode, and the derivative of that."""
    slope = tl.where(position == position, 1.0, 0.0)
    if REFLECTION:
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
    if ZEROS:
        low, high = low - 2, high + 1
    slope = tl.where((position >= low) & (position <= high), slope, 0.0)
    return tl.minimum(tl.maximum(position, low), high), slope


@triton.jit
def taps_of(
    position,
    read,
    size,
    NEAREST: tl.constexpr,
    ZEROS: tl.constexpr,
    REFLECTION: tl.constexpr,
    EDGE: tl.constexpr,
    INT: tl.constexpr,
):
    """Along one axis, of the two pixels around each position (or the nearest): where in the source, weights, whether
    they are read; and the derivative of the second weight, which is minus that of the first."""
    origin, low, high = tl.load(read), tl.load(read + 2), tl.load(read + 4)
    first, last = tl.maximum(low, -origin).to(INT), tl.minimum(high, size - 1 - origin).to(INT)
    origin, start = origin.to(INT), low.to(position.dtype)
    position, slope = _fold(position, start, high.to(position.dtype), ZEROS, REFLECTION, EDGE)
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
    if ZEROS:
        has_below, has_above = (below >= first) & (below <= last), (above >= first) & (above <= last)
    else:
        has_below = tl.zeros_like(below) + first <= last  # nothing is, if the limits miss the source
        has_above = has_below
    weight_below, weight_above = tl.where(has_below, 1 - rest, 0.0), tl.where(has_above, rest, 0.0)
    below = tl.minimum(tl.maximum(below, first), last) + origin
    above = tl.minimum(tl.maximum(above, first), last) + origin
    return below, above, weight_below, weight_above, has_below, has_above, slope


@triton.jit
def positions_of(frame, dx, dy):
    """Where pixels are read, pixel centres at whole numbers."""
    qx = (tl.load(frame) * dx + tl.load(frame + 1) * dy + tl.load(frame + 2)) + tl.load(frame + 6) - 0.5
    qy = (tl.load(frame + 3) * dx + tl.load(frame + 4) * dy + tl.load(frame + 5)) + tl.load(frame + 7) - 0.5
    return qx, qy
