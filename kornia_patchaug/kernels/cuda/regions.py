"""Tiles of images, and the rectangles that meet each: who is painted there, or read.

A tile walks the rectangles of the region around it, by a list that is made on the host; so an object is met by the
tiles near it alone, however many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import triton
import triton.language as tl

from kornia_patchaug.kernels.cuda.tables import HEIGHT, LEFT, TOP, WIDTH
from kornia_patchaug.plan import Windows, starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

REGION = 64  # has a list; smaller ones make longer lists
# Two pixels a thread: with more, fewer programs fit at once to wait for memory together; with one, what a program does
# for all of its pixels is done twice as often.
TILING = {"ROWS": 8, "COLUMNS": 32, "TILES": 2, "REGION": REGION, "num_warps": 4}
# Where threads of several warps would wait for one another.
ONE_WARP = {"ROWS": 4, "COLUMNS": 16, "TILES": 2, "REGION": REGION, "num_warps": 1}
# Where a thread takes two pixels in a row at a time, and has registers for two such pairs.
PAIRS = ONE_WARP | {"ROWS": 8, "TILES": 1}


def grid_of(sizes: torch.Size, channels: int, tiling: dict[str, int] = TILING) -> tuple[int, int, int]:
    """Programs for all tiles of images ``(B, C, H, W)``, and for groups of so many channels."""
    images, count, height, width = sizes
    across, down = triton.cdiv(width, tiling["COLUMNS"]), triton.cdiv(height, tiling["ROWS"] * tiling["TILES"])
    return images * across, down, count // channels


def regions_of(windows: Windows, sizes: torch.Size) -> tuple[Integers, Integers]:
    """The windows that meet each region of images ``(B, C, H, W)``, in their own order, and where those of each region
    begin."""
    images, _, height, width = sizes
    down, across = triton.cdiv(height, REGION), triton.cdiv(width, REGION)
    image, left, top, width_of, height_of, _ = windows.host.T
    x, y = left // REGION, top // REGION
    counts_x = (left + width_of - 1) // REGION + 1 - x
    counts_y = (top + height_of - 1) // REGION + 1 - y
    counts = np.where(windows.areas > 0, counts_x * counts_y, 0)
    which = np.arange(len(counts)).repeat(counts)
    row, column = np.divmod(np.arange(len(which)) - starts(counts)[which], counts_x[which])
    region = (((image * down + y) * across + x)[which] + row * across) + column
    total = images * down * across
    by_region = (region.astype(np.uint16) if total <= 1 << 16 else region).argsort(kind="stable")  # by radix
    return which[by_region], starts(np.bincount(region, minlength=total))


def counts_of(windows: Windows) -> Integers:
    """How many tiles of `ONE_WARP` meet each window, ``(N,)``."""
    _, left, top, width, height, _ = windows.host.T
    rows, columns = ONE_WARP["ROWS"], ONE_WARP["COLUMNS"]
    across = (left + width - 1) // columns + 1 - left // columns
    count = across * ((top + height - 1) // rows + 1 - top // rows)
    return np.where(windows.areas > 0, count, 0)


def lists_of(windows: Windows, sizes: torch.Size) -> tuple[Integers, Integers, Integers]:
    """`regions_of`, and where the tiles of `ONE_WARP` that meet each window begin, counted window by window,
    ``(N + 1,)``."""
    return *regions_of(windows, sizes), starts(counts_of(windows))


@triton.jit
def tiles_of(
    height, width,
    INT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, REGION: tl.constexpr,
    STEP: tl.constexpr = 1,
):  # fmt: skip
    """The program's image, the first row and column of its first tile, its region, and the rows and columns of the
    pixels there, or of each first of ``STEP`` in a row; the other tiles lie below."""
    # Without signs whole numbers are divided in fewer steps.
    across = tl.cdiv(width.to(tl.uint32), COLUMNS)
    image = (tl.program_id(0).to(tl.uint32) // across).to(tl.int32)
    top, left = tl.program_id(1) * (ROWS * TILES), (tl.program_id(0) - image * across.to(tl.int32)) * COLUMNS
    pixel = tl.arange(0, ROWS * COLUMNS // STEP) * STEP
    # A pixel a thread, also of what it reads and writes: to hand numbers from thread to thread takes longer.
    y, x = (top + pixel // COLUMNS).to(INT), tl.multiple_of((left + pixel % COLUMNS).to(INT), 1)
    regions_down, regions_across = tl.cdiv(height.to(tl.uint32), REGION), tl.cdiv(width.to(tl.uint32), REGION)
    region = (image * regions_down.to(tl.int32) + top // REGION) * regions_across.to(tl.int32) + left // REGION
    return image.to(tl.int64), top, left, region, y, x


@triton.jit
def tile_in(window, top, left, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Which of the tiles that meet a window this one is."""
    # Without signs whole numbers are divided in fewer steps.
    first, above = tl.load(window + LEFT).to(tl.uint32), tl.load(window + TOP).to(tl.uint32) // ROWS
    across = (first + tl.load(window + WIDTH).to(tl.uint32) - 1) // COLUMNS + 1 - first // COLUMNS
    return (top.to(tl.uint32) // ROWS - above) * across + left.to(tl.uint32) // COLUMNS - first // COLUMNS


@triton.jit
def meets(window, top, left, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Whether a window has a pixel of the tile."""
    x, y = tl.load(window + LEFT).to(tl.int32) - left, tl.load(window + TOP).to(tl.int32) - top
    width, height = tl.load(window + WIDTH).to(tl.int32), tl.load(window + HEIGHT).to(tl.int32)
    return tl.minimum(tl.minimum(x + width, COLUMNS - x), tl.minimum(y + height, ROWS - y)) > 0


@triton.jit
def pixels_in(window, y, x, INT: tl.constexpr):
    """The columns and rows of pixels in a window, whether each is in it, and its index there."""
    width = tl.load(window + WIDTH).to(INT)
    x, y = x - tl.load(window + LEFT).to(INT), y - tl.load(window + TOP).to(INT)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < tl.load(window + HEIGHT).to(INT))
    return x, y, inside, y * width + x


@triton.jit
def mixed(before, state, touched):
    """The state of pixels that were touched, and the bits that were read of others: a NaN's would not survive another
    dtype."""
    if before.dtype != state.dtype:
        state = tl.where(touched, rounded(state, before.dtype), before)
    return state


@triton.jit
def rounded(state, dtype: tl.constexpr):
    """Numbers in another dtype."""
    if dtype != tl.float64:
        state = state.to(tl.float32)  # on the way to half precision too, as torch does it
    return state.to(dtype)
