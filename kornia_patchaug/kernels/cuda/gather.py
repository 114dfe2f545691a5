"""The gradient of *sample* with respect to its source, in Triton: each program takes a tile of a picture, and looks up
which flat pixels read its pixels.

Nothing is added atomically: the order is fixed, half precision is rounded once, and a gradient that is there already is
read and written once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.kernels.backend import Maybe
from kornia_patchaug.kernels.cuda.planes import group_of, packed_planes, planes_of, read_planes
from kornia_patchaug.kernels.cuda.regions import ONE_WARP, grid_of, lists_of, meets, rounded, tiles_of
from kornia_patchaug.kernels.cuda.tables import (
    FIRST,
    FRAME,
    HEIGHT,
    HIGH,
    LAST,
    LOW,
    MIRROR,
    NEAREST_PIXEL,
    ORIGIN,
    READ,
    SRC_X,
    SRC_Y,
    START,
    TO_Y,
    TX,
    TY,
    WIDTH,
    WINDOW,
    X1,
    X2,
    Y1,
    Y2,
    ZERO,
    A,
    B,
    C,
    D,
)
from kornia_patchaug.kernels.cuda.taps import fold, nearest_to, options_of, place_of, share_between
from kornia_patchaug.plan import Beyond, Plan

# How many pixels of a row of a window each pixel looks up at a time: many where many read it.
ONE, MANY, FEW = 1, 8, 8


def gather(grad_values: Maybe, objects: Tensor, source: Tensor, plan: Plan, covered: bool, into: Maybe) -> Maybe:
    """The gradient with respect to a source, for that with respect to values, ``(C, P)`` or `packed`, of objects with
    these `reference.frames`; or None if it was added ``into`` a tensor. Values are times the share of each pixel in its
    box if ``covered``."""
    if grad_values is None or not source.numel() or not plan.windows.total:
        return None if into is not None else source.new_zeros(source.shape)
    areas, sizes = plan.areas, source.shape
    of_source = torch.empty(sizes, dtype=source.dtype, device=source.device) if into is None else into
    lists = areas.derived(f"tiles of {tuple(sizes)}", source.device, lambda: lists_of(areas, sizes))
    tables = areas.on(source.device), *lists[:2], objects, plan.reads.on(source.device), plan.windows.on(source.device)
    group, options = group_of(sizes[1]), options_of(plan, of_source) | ONE_WARP
    options |= {"BOX_COVERAGE": covered, "ADD": into is not None, "PACKED": grad_values.ndim == 3, "CHANNELS": group}
    # Where the last bit of a position decides what is read, it must be that of *sample*.
    exact = plan.sampling.nearest or plan.sampling.beyond != Beyond.ZERO
    options |= {"EXACT": exact, "enable_fp_fusion": not exact}
    options["AT_ONCE"] = at_once = MANY if plan.windows.total > FEW * areas.total else ONE
    # The assembler is told how many registers there are: else it would rather spill some than have fewer programs.
    plain = at_once == ONE and not exact and objects.dtype == torch.float32
    options["maxnreg"] = 72 if plain else 255
    with torch.cuda.device_of(source):
        _gather_kernel[grid_of(sizes, group, ONE_WARP)](
            of_source, grad_values, *tables, plan.windows.total, *sizes[2:], *of_source.stride(), **options
        )
    return None if into is not None else of_source


@triton.jit
def _inverse(slope):
    """1 over a slope, and how much farther a range that is divided by it lasts: without end if there is no slope."""
    none = (slope == 0) | (slope * 0 != 0)
    return tl.where(none, 0.0, 1 / tl.where(none, 1.0, slope)), tl.where(none, float("inf"), 0.0)


@triton.jit
def _times(factor, low, high):
    """A range times a number; not numbers if either end is none."""
    one, other = factor * low, factor * high
    least = tl.minimum(one, other, propagate_nan=tl.PropagateNan.ALL)
    return least, tl.maximum(one, other, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _within(low, high, last):
    """The first and the last of the numbers 0 .. last from low to high: of none the last is before the first; it is all
    of them where these are not numbers."""
    low, high = tl.where(low > 0, low, 0.0), tl.where(high < last, high, last)
    return tl.ceil(tl.minimum(low, last + 1)), tl.floor(tl.maximum(high, -1.0))


@triton.jit
def _range(corner, ahead, below):
    """The least and the most position of a window along one axis, with a margin for any rounding; and that."""
    zero = ahead * 0
    margin = 1e-3 + 1e-6 * (tl.abs(ahead) + tl.abs(below) + tl.abs(corner))
    least = corner + tl.minimum(ahead, zero) + tl.minimum(below, zero)
    return least - margin, corner + tl.maximum(ahead, zero) + tl.maximum(below, zero) + margin, margin


@triton.jit
def _cells(least, most, margin, mirror, span):
    """Between which mirrors, counted along one axis, the least position of a window lies, and how many such cells there
    are up to the most; infinitely many where rounding mixes them up."""
    first = tl.floor((least - mirror) / span)
    return first, tl.where(margin <= span, tl.floor((most - mirror) / span) + 1 - first, float("inf"))


@triton.jit
def _positions(
    pixel, first, last, least, most, margin, cell, mirror, span, everywhere, NEAREST: tl.constexpr, BEYOND: tl.constexpr
):
    """From where to where along one axis positions read a pixel, in one cell or ``everywhere``."""
    reach = 0.5 if NEAREST else 1.0
    low, high = pixel - reach, pixel + reach
    if BEYOND == NEAREST_PIXEL:
        low, high = tl.where(pixel <= first, least, low), tl.where(pixel >= last, most, high)
    if BEYOND == MIRROR:
        low = tl.where(pixel <= first, 0.0, tl.maximum(low - mirror, 0.0))
        high = tl.where(pixel >= last, span, tl.minimum(high - mirror, span))
        odd = cell - 2 * tl.floor(cell / 2) != 0
        low, high = tl.where(odd, span - high, low), tl.where(odd, span - low, high)
        low, high = low + (mirror + cell * span), high + (mirror + cell * span)
        low, high = tl.where(everywhere, least, low), tl.where(everywhere, most, high)
    return low - margin, high + margin


@triton.jit
def _weight(
    position, pixel, low, high, first, last, cell, mirror, span, everywhere,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    """The weight of a pixel at a position along one axis, which is 0 in other cells."""
    place = tl.where(position == position, position, 0.0)
    if BEYOND == MIRROR:
        place = fold(position, low, high, BEYOND, EDGE)[0]
    if NEAREST:
        place = nearest_to(tl.minimum(tl.maximum(place, low - 2), high + 1), low)
    if BEYOND != ZERO:
        place = tl.minimum(tl.maximum(place, first), last)
    if NEAREST:
        weight = tl.where(place == pixel, 1.0, 0.0).to(place.dtype)
    else:
        weight = tl.maximum(1 - tl.abs(place - pixel), 0.0)
    if BEYOND == MIRROR:
        weight = tl.where(everywhere | (tl.floor((position - mirror) / span) == cell), weight, 0.0)
    return weight


@triton.jit
def _looked_up(
    grad_values, frame, read, window, y, x, total,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
    BOX_COVERAGE: tl.constexpr, PACKED: tl.constexpr, EXACT: tl.constexpr, AT_ONCE: tl.constexpr,
    CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """What the gradient of pixels of a picture gains by an object, ``(planes, pixels)``; and which it may read."""
    real = frame.dtype.element_ty
    columns, rows, start = tl.load(window + WIDTH).to(INT), tl.load(window + HEIGHT).to(INT), tl.load(window + START)
    plane = grad_values + (start + tl.program_id(2).to(tl.int64) * CHANNELS * total)
    # Where the corner of the window is read, and how that moves with columns and rows.
    a, b, tx = tl.load(frame + A), tl.load(frame + B), tl.load(frame + TX)
    c, d, ty = tl.load(frame + C), tl.load(frame + D), tl.load(frame + TY)
    src_x, src_y = tl.load(frame + SRC_X), tl.load(frame + SRC_Y)
    x1, y1, x2, y2 = tl.load(frame + X1), tl.load(frame + Y1), tl.load(frame + X2), tl.load(frame + Y2)
    dst_x, dst_y = (x1 + x2) / 2, (y1 + y2) / 2
    over_a, beyond_a = _inverse(a)
    over_c, beyond_c = _inverse(c)
    over_both, beyond_both = _inverse(b * c - a * d)
    corner_x, corner_y = place_of(0.5 - dst_x, 0.5 - dst_y, a, b, tx, src_x, c, d, ty, src_y)
    end_x, end_y = (columns - 1).to(real), (rows - 1).to(real)
    least_x, most_x, margin_x = _range(corner_x, a * end_x, b * end_y)
    least_y, most_y, margin_y = _range(corner_y, c * end_x, d * end_y)
    # What may be read, and which of it are this tile's pixels.
    low_x, low_y = tl.load(read + LOW).to(real), tl.load(read + LOW + TO_Y).to(real)
    high_x, high_y = tl.load(read + HIGH).to(real), tl.load(read + HIGH + TO_Y).to(real)
    first_x, first_y = tl.load(read + FIRST).to(real), tl.load(read + FIRST + TO_Y).to(real)
    last_x, last_y = tl.load(read + LAST).to(real), tl.load(read + LAST + TO_Y).to(real)
    pixel_x = (x - tl.load(read + ORIGIN).to(INT)).to(real)
    pixel_y = (y - tl.load(read + ORIGIN + TO_Y).to(INT)).to(real)
    known = (pixel_x >= first_x) & (pixel_x <= last_x) & (pixel_y >= first_y) & (pixel_y <= last_y)
    found = tl.zeros([CHANNELS + (CHANNELS == 3), PIXELS], real)
    # The patch and its mirrored pictures lie side by side in cells.
    cells, across, first_cell_x, first_cell_y, everywhere = 1, 1, end_x * 0, end_y * 0, columns < 0
    mirror_x, mirror_y = low_x - EDGE, low_y - EDGE
    span_x, span_y = tl.maximum(high_x - low_x + 2 * EDGE, 1.0), tl.maximum(high_y - low_y + 2 * EDGE, 1.0)
    if BEYOND == MIRROR:
        first_cell_x, count_x = _cells(least_x, most_x, margin_x, mirror_x, span_x)
        first_cell_y, count_y = _cells(least_y, most_y, margin_y, mirror_y, span_y)
        everywhere = (count_x * count_y <= columns * rows) == 0  # also if not a number
        across = tl.where(everywhere, 1, count_x).to(tl.int32)
        cells = across * tl.where(everywhere, 1, count_y).to(tl.int32)
    for cell in range(cells):
        cell_x, cell_y = first_cell_x + cell % across, first_cell_y + cell // across
        from_x, to_x = _positions(
            pixel_x, first_x, last_x, least_x, most_x, margin_x,
            cell_x, mirror_x, span_x, everywhere, NEAREST, BEYOND,
        )  # fmt: skip
        from_y, to_y = _positions(
            pixel_y, first_y, last_y, least_y, most_y, margin_y,
            cell_y, mirror_y, span_y, everywhere, NEAREST, BEYOND,
        )  # fmt: skip
        # A column moves it by a and c, a row by b and d. Rows of the window that may lead there:
        from_x, to_x, from_y, to_y = from_x - corner_x, to_x - corner_x, from_y - corner_y, to_y - corner_y
        low, high = _times(c * over_both, from_x, to_x)
        less, more = _times(-a * over_both, from_y, to_y)
        row, end = _within(low + less - beyond_both, high + more + beyond_both, end_y)
        end = tl.where(known, end, -1.0)
        # Columns of row 0 that do, by each axis; with every row they move on.
        from_x, to_x = _times(over_a, from_x, to_x)
        from_y, to_y = _times(over_c, from_y, to_y)
        from_x, to_x, from_y, to_y = from_x - beyond_a, to_x + beyond_a, from_y - beyond_c, to_y + beyond_c
        # The loops count rows and columns: Triton 3.6 and 3.7 have taken a vector that a loop carries, where another
        # layout of it was wanted, for what it was before the loop.
        for i in range(0, tl.max((end - row).to(tl.int32)) + 1):
            down = row + i
            by_x, by_y, dy = b * over_a * down, d * over_c * down, (down + 0.5) - dst_y
            row_x, row_y = b * dy + tx + src_x - 0.5, d * dy + ty + src_y - 0.5
            column, last = _within(
                tl.maximum(from_x - by_x, from_y - by_y), tl.minimum(to_x - by_x, to_y - by_y), end_x
            )
            last = tl.where(down <= end, last, -1.0)
            flat = down.to(INT) * columns + column.to(INT)
            if BOX_COVERAGE:
                share = share_between(y1, y2, down)[0]
            for j in range(0, tl.max((last - column).to(tl.int32)) + 1, AT_ONCE):
                for k in tl.static_range(AT_ONCE):
                    ahead = column + (j + k)
                    dx = (ahead + 0.5) - dst_x
                    if EXACT:
                        qx, qy = place_of(dx, dy, a, b, tx, src_x, c, d, ty, src_y)
                    else:
                        qx, qy = a * dx + row_x, c * dx + row_y
                    weight = _weight(
                        qx, pixel_x, low_x, high_x, first_x, last_x, cell_x, mirror_x, span_x, everywhere,
                        NEAREST, BEYOND, EDGE,
                    ) * _weight(
                        qy, pixel_y, low_y, high_y, first_y, last_y, cell_y, mirror_y, span_y, everywhere,
                        NEAREST, BEYOND, EDGE,
                    )  # fmt: skip
                    weight = tl.where(ahead <= last, weight, 0.0)
                    counts = weight != 0
                    if BOX_COVERAGE:
                        weight *= share_between(x1, x2, ahead)[0] * share
                    index = flat + (j + k)
                    if PACKED:
                        there = packed_planes(grad_values, start, index, total, CHANNELS)
                        values = tl.load(there, mask=counts[None, :], other=0.0)
                    else:
                        values = read_planes(plane + index, total, counts, 0.0, CHANNELS)
                    found += weight[None, :] * values
    return found, known


@triton.jit(do_not_specialize=["total"])
def _gather_kernel(
    grad_source, grad_values, areas, order, first, frames, reads, windows,
    total, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
    BOX_COVERAGE: tl.constexpr, ADD: tl.constexpr, PACKED: tl.constexpr, EXACT: tl.constexpr, AT_ONCE: tl.constexpr,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, REGION: tl.constexpr,
):  # fmt: skip
    image, above, left, region, y_above, x = tiles_of(height, width, INT, ROWS, COLUMNS, TILES, REGION)
    _first_channel, channel, taken = planes_of(INT, CHANNELS)
    real = frames.dtype.element_ty
    for tile in range(TILES):
        top, y = above + tile * ROWS, y_above + tile * ROWS
        there = taken & ((y < height) & (x < width))[None, :]
        state, touched, met = tl.zeros([CHANNELS + (CHANNELS == 3), ROWS * COLUMNS], real), y < 0, 0
        begin, stop = tl.load(first + region).to(tl.int32), tl.load(first + region + 1).to(tl.int32)
        for n in range(begin, stop):
            obj = tl.load(order + n)
            if meets(areas + obj * WINDOW, top, left, ROWS, COLUMNS):
                found, known = _looked_up(
                    grad_values, frames + obj * FRAME, reads + obj * READ, windows + obj * WINDOW, y, x, total,
                    NEAREST, BEYOND, EDGE, INT, BOX_COVERAGE, PACKED, EXACT, AT_ONCE, CHANNELS, ROWS * COLUMNS,
                )  # fmt: skip
                state += found
                touched |= known
                met += 1
        if (met > 0) | (not ADD):
            pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
            target = grad_source + image * stride_image + pixels
            if ADD:
                there &= touched[None, :]
                state += tl.load(target, mask=there, other=0.0).to(real)
            tl.store(target, rounded(state, grad_source.dtype.element_ty), mask=there)
