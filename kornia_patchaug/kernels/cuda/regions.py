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

CHANNELS = 4  # that a program takes at most, where it takes a group
REGION = 64  # has a list; smaller ones make longer lists
# A tile is two pixels for each thread: small, so that few of its pixels lie outside a window that it meets, and few
# warps wait for one another where they add up; but not so small that starting programs takes longer than a copy.
TILING = {"ROWS": 8, "COLUMNS": 16, "REGION": REGION, "num_warps": 2}


def grid_of(sizes: torch.Size, channels: int) -> tuple[int, int]:
    """Programs for each tile of images ``(B, C, H, W)``, and for groups of so many channels."""
    images, count, height, width = sizes
    tiles = triton.cdiv(height, TILING["ROWS"]) * triton.cdiv(width, TILING["COLUMNS"])
    return images * tiles, triton.cdiv(count, channels)


def group_of(channels: int) -> int:
    """How many channels a program takes."""
    return min(int(triton.next_power_of_2(channels)), CHANNELS)


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
    """How many tiles meet each window, ``(N,)``."""
    _, left, top, width, height, _ = windows.host.T
    rows, columns = TILING["ROWS"], TILING["COLUMNS"]
    across = (left + width - 1) // columns + 1 - left // columns
    count = across * ((top + height - 1) // rows + 1 - top // rows)
    return np.where(windows.areas > 0, count, 0)


def lists_of(windows: Windows, sizes: torch.Size) -> tuple[Integers, Integers, Integers]:
    """`regions_of`, and where the tiles that meet each window begin, counted window by window, ``(N + 1,)``."""
    return *regions_of(windows, sizes), starts(counts_of(windows))


@triton.jit
def tile_of(
    channels, height, width,
    INT: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, REGION: tl.constexpr,
):  # fmt: skip
    """The program's image, the first row and column of its tile, its region, the channels, rows and columns of its
    values, and whether the image has such a value."""
    across = tl.cdiv(width, COLUMNS)
    tiles = across * tl.cdiv(height, ROWS)
    image, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    top, left = tile // across * ROWS, tile % across * COLUMNS
    pixel = tl.arange(0, ROWS * COLUMNS)
    y, x = (top + pixel // COLUMNS).to(INT), (left + pixel % COLUMNS).to(INT)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)).to(INT)[:, None]
    there = (channel < channels) & ((y < height) & (x < width))[None, :]
    region = (image * tl.cdiv(height, REGION) + top // REGION) * tl.cdiv(width, REGION) + left // REGION
    return image.to(tl.int64), top, left, region, channel, y, x, there


@triton.jit
def tile_in(window, top, left, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Which of the tiles that meet a window this one is."""
    first = tl.load(window + LEFT) // COLUMNS
    across = (tl.load(window + LEFT) + tl.load(window + WIDTH) - 1) // COLUMNS + 1 - first
    return (top // ROWS - tl.load(window + TOP) // ROWS) * across + left // COLUMNS - first


@triton.jit
def meets(window, top, left, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Whether a window has a pixel of the tile."""
    x, y = tl.load(window + LEFT) - left, tl.load(window + TOP) - top
    return (x < COLUMNS) & (y < ROWS) & (x + tl.load(window + WIDTH) > 0) & (y + tl.load(window + HEIGHT) > 0)


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
    if before.dtype != tl.float64:
        state = state.to(tl.float32)  # on the way to half precision too, as torch does it
    return tl.where(touched, state.to(before.dtype), before)
