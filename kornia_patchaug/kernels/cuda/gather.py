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
from kornia_patchaug.kernels.cuda.planes import group_of, packed_planes, plane_of, read_planes
from kornia_patchaug.kernels.cuda.regions import PAIRS, grid_of, lists_of, meets, rounded, tiles_of
from kornia_patchaug.kernels.cuda.tables import (
    CENTRE_X,
    CENTRE_Y,
    COLUMNS_X,
    COLUMNS_Y,
    ENDLESS,
    ENDLESS_X,
    ENDLESS_Y,
    FIRST,
    FRAME,
    FROM_X,
    FROM_Y,
    HEIGHT,
    HIGH,
    LAST,
    LEAST_X,
    LEAST_Y,
    LOW,
    MARGIN_X,
    MARGIN_Y,
    MIRROR,
    MOST_X,
    MOST_Y,
    NEAREST_PIXEL,
    ORIGIN,
    READ,
    ROWS_X,
    ROWS_Y,
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
SOME, MANY, FEW = 2, 8, 8


def gather(grad_values: Maybe, objects: Tensor, source: Tensor, plan: Plan, covered: bool, into: Maybe) -> Maybe:
    """The gradient with respect to a source, for that with respect to values, ``(C, P)`` or `packed`, of objects with
    these `frames`; or None if it was added ``into`` a tensor. Values are times the share of each pixel in its
    box if ``covered``."""
    if grad_values is None or not source.numel() or not plan.windows.total:
        return None if into is not None else source.new_zeros(source.shape)
    areas, sizes = plan.areas, source.shape
    of_source = torch.empty(sizes, dtype=source.dtype, device=source.device) if into is None else into
    lists = areas.derived(f"tiles of {tuple(sizes)}", source.device, lambda: lists_of(areas, sizes))
    tables = areas.on(source.device), *lists[:2], objects, plan.reads.on(source.device), plan.windows.on(source.device)
    group, options = group_of(sizes[1]), options_of(plan, of_source) | PAIRS
    options |= {"BOX_COVERAGE": covered, "ADD": into is not None, "PACKED": grad_values.ndim == 3, "CHANNELS": group}
    # Where the last bit of a position decides what is read, it must be that of *sample*.
    exact = plan.sampling.nearest or plan.sampling.beyond != Beyond.ZERO
    options |= {"EXACT": exact, "enable_fp_fusion": not exact}
    options["AT_ONCE"] = at_once = MANY if plan.windows.total > FEW * areas.total else SOME
    # The assembler is told how many registers there are: else it would rather spill some than have fewer programs.
    plain = at_once == SOME and not exact and objects.dtype == torch.float32
    options.setdefault("maxnreg", 88 if plain else 255)
    with torch.cuda.device_of(source):
        _gather_kernel[grid_of(sizes, group, PAIRS)](
            of_source, grad_values, *tables, plan.windows.total, *sizes[2:], *of_source.stride(), **options
        )
    return None if into is not None else of_source


@triton.jit
def _within(low, high, last):
    """The first and the last of the numbers 0 .. last from low to high: of none the last is before the first; it is all
    of them where these are not numbers."""
    low, high = tl.minimum(tl.maximum(low, 0.0), last + 1), tl.maximum(tl.minimum(high, last), -1.0)
    return tl.ceil(low).to(tl.int32), tl.floor(high).to(tl.int32)


@triton.jit
def _numbers(by_column, by_row, centre):
    """How positions along one axis go on, or, if they are no numbers, what leads to the place 0."""
    none = (by_column != by_column) | (by_row != by_row) | (centre != centre)
    return tl.where(none, 0.0, by_column), tl.where(none, 0.0, by_row), tl.where(none, 0.0, centre)


@triton.jit
def _cells(least, most, margin, mirror, span):
    """Between which mirrors, counted along one axis, the least position of a window lies, and how many such cells there
    are up to the most; infinitely many where rounding mixes them up."""
    first = tl.floor((least - mirror) / span)
    return first, tl.where(margin <= span, tl.floor((most - mirror) / span) + 1 - first, float("inf"))


@triton.jit
def _positions(
    pixel, first, last, least, most, cell, mirror, span, everywhere,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, MORE: tl.constexpr,
):  # fmt: skip
    """The middle of the positions along one axis that read a pixel or one of so many ``MORE``, in one cell or
    ``everywhere``, and how far they are from it at most."""
    reach: tl.constexpr = 0.5 if NEAREST else 1.0
    if BEYOND == ZERO:
        middle, reach_of_all = pixel + MORE / 2, reach + MORE / 2
    else:
        low, high = pixel - reach, pixel + (MORE + reach)
        if BEYOND == NEAREST_PIXEL:
            low, high = tl.where(pixel <= first, least, low), tl.where(pixel + MORE >= last, most, high)
        else:
            low = tl.where(pixel <= first, 0.0, tl.maximum(low - mirror, 0.0))
            high = tl.where(pixel + MORE >= last, span, tl.minimum(high - mirror, span))
            odd = cell - 2 * tl.floor(cell / 2) != 0
            low, high = tl.where(odd, span - high, low), tl.where(odd, span - low, high)
            low, high = low + (mirror + cell * span), high + (mirror + cell * span)
            low, high = tl.where(everywhere, least, low), tl.where(everywhere, most, high)
        middle, reach_of_all = (low + high) / 2, (high - low) / 2
    return middle, reach_of_all


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
    left, right, grad_values, frame, read, window, y, x, total,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
    BOX_COVERAGE: tl.constexpr, PACKED: tl.constexpr, EXACT: tl.constexpr, AT_ONCE: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """The gradient of pixels of a picture, ``(planes, pixels)``, and of those on their right, and what both gain by an
    object."""
    real = frame.dtype.element_ty
    columns, rows, start = tl.load(window + WIDTH).to(INT), tl.load(window + HEIGHT).to(INT), tl.load(window + START)
    end_x, end_y = (columns - 1).to(real), (rows - 1).to(real)
    # A column of the window moves where it is read by a and c, a row by b and d.
    a, b, c, d = tl.load(frame + A), tl.load(frame + B), tl.load(frame + C), tl.load(frame + D)
    tx, ty, src_x, src_y = tl.load(frame + TX), tl.load(frame + TY), tl.load(frame + SRC_X), tl.load(frame + SRC_Y)
    x1, y1, x2, y2 = tl.load(frame + X1), tl.load(frame + Y1), tl.load(frame + X2), tl.load(frame + Y2)
    from_x, from_y = tl.load(frame + FROM_X), tl.load(frame + FROM_Y)
    centre_x, centre_y = tl.load(frame + CENTRE_X), tl.load(frame + CENTRE_Y)
    if not EXACT:  # what is no number is read at the place 0, by any column and row
        a, b, centre_x = _numbers(a, b, centre_x)
        c, d, centre_y = _numbers(c, d, centre_y)
    least_x, least_y = tl.load(frame + LEAST_X), tl.load(frame + LEAST_Y)
    most_x, most_y = tl.load(frame + MOST_X), tl.load(frame + MOST_Y)
    margin_x, margin_y = tl.load(frame + MARGIN_X), tl.load(frame + MARGIN_Y)
    columns_x, columns_y = tl.load(frame + COLUMNS_X), tl.load(frame + COLUMNS_Y)
    rows_x, rows_y, endless = tl.load(frame + ROWS_X), tl.load(frame + ROWS_Y), tl.load(frame + ENDLESS)
    # What may be read, and which of it are this tile's pixels.
    low_x, low_y = tl.load(read + LOW).to(real), tl.load(read + LOW + TO_Y).to(real)
    high_x, high_y = tl.load(read + HIGH).to(real), tl.load(read + HIGH + TO_Y).to(real)
    first_x, first_y = tl.load(read + FIRST).to(INT), tl.load(read + FIRST + TO_Y).to(INT)
    last_x, last_y = tl.load(read + LAST).to(INT), tl.load(read + LAST + TO_Y).to(INT)
    x, y = x - tl.load(read + ORIGIN).to(INT), y - tl.load(read + ORIGIN + TO_Y).to(INT)
    known_y = (y >= first_y) & (y <= last_y)
    known_left, known_right = known_y & (x >= first_x) & (x <= last_x), known_y & (x + 1 >= first_x) & (x < last_x)
    # The weight of the pixel itself, of which less is left farther away.
    most_left, most_right = tl.where(known_left, 1.0, 0.0).to(real), tl.where(known_right, 1.0, 0.0).to(real)
    pixel_x, pixel_y = x.to(real), y.to(real)
    first_x, first_y, last_x, last_y = first_x.to(real), first_y.to(real), last_x.to(real), last_y.to(real)
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
        at_x, reach_x = _positions(
            pixel_x, first_x, last_x, least_x, most_x, cell_x, mirror_x, span_x, everywhere, NEAREST, BEYOND, 1
        )
        at_y, reach_y = _positions(
            pixel_y, first_y, last_y, least_y, most_y, cell_y, mirror_y, span_y, everywhere, NEAREST, BEYOND, 0
        )
        at_x, at_y, reach_x, reach_y = at_x - centre_x, at_y - centre_y, reach_x + margin_x, reach_y + margin_y
        # Rows of the window that may lead there:
        at, reach = (
            rows_x * at_x + rows_y * at_y - from_y,
            tl.abs(rows_x) * reach_x + tl.abs(rows_y) * reach_y + endless,
        )
        row, end = _within(at - reach, at + reach, end_y)
        end = tl.where(known_left | known_right, end, -1)
        # Columns that do in the row of the centre, by each axis; with every row they move on.
        ahead_x, ahead_y = columns_x * at_x - from_x, columns_y * at_y - from_x
        moves_x, moves_y = b * columns_x, d * columns_y
        reach_x = tl.abs(columns_x) * reach_x + tl.load(frame + ENDLESS_X)
        reach_y = tl.abs(columns_y) * reach_y + tl.load(frame + ENDLESS_Y)
        # The loops count rows and columns: Triton 3.6 and 3.7 have taken a vector that a loop carries, where another
        # layout of it was wanted, for what it was before the loop.
        for i in range(0, tl.max(end - row) + 1):
            down = (row + i).to(real)
            dy = down + from_y
            on_x, on_y = ahead_x - moves_x * dy, ahead_y - moves_y * dy
            at_column, last = _within(
                tl.maximum(on_x - reach_x, on_y - reach_y), tl.minimum(on_x + reach_x, on_y + reach_y), end_x
            )
            count = tl.where(row + i <= end, last - at_column, -1)
            column, flat = at_column.to(real), (row + i).to(INT) * columns + at_column.to(INT)
            planes: tl.constexpr = CHANNELS + (CHANNELS == 3)
            if PACKED:
                there = packed_planes(grad_values, start, flat, total, CHANNELS)
            else:
                there = grad_values + (start + tl.program_id(2).to(tl.int64) * CHANNELS * total) + flat
            if BOX_COVERAGE:
                share = share_between(y1, y2, down)[0]
            row_x, row_y = b * dy - (pixel_x - centre_x), d * dy - (pixel_y - centre_y)
            for j in range(0, tl.max(count) + 1, AT_ONCE):
                for k in tl.static_range(AT_ONCE):
                    ahead = j + k
                    if EXACT:
                        qx, qy = place_of(
                            (column + ahead + 0.5) - (x1 + x2) / 2, (down + 0.5) - (y1 + y2) / 2,
                            a, b, tx, src_x, c, d, ty, src_y,
                        )  # fmt: skip
                        by_y = _weight(
                            qy, pixel_y, low_y, high_y, first_y, last_y, cell_y, mirror_y, span_y, everywhere,
                            NEAREST, BEYOND, EDGE,
                        )  # fmt: skip
                        to_left = most_left * by_y * _weight(
                            qx, pixel_x, low_x, high_x, first_x, last_x, cell_x, mirror_x, span_x, everywhere,
                            NEAREST, BEYOND, EDGE,
                        )  # fmt: skip
                        to_right = most_right * by_y * _weight(
                            qx, pixel_x + 1, low_x, high_x, first_x, last_x, cell_x, mirror_x, span_x, everywhere,
                            NEAREST, BEYOND, EDGE,
                        )  # fmt: skip
                    else:
                        dx = column + ahead + from_x
                        off_x, by_y = a * dx + row_x, tl.maximum(1 - tl.abs(c * dx + row_y), 0.0)
                        to_left = tl.maximum(most_left - tl.abs(off_x), 0.0) * by_y
                        to_right = tl.maximum(most_right - tl.abs(off_x - 1), 0.0) * by_y
                    has_left, has_right = (to_left != 0) & (ahead <= count), (to_right != 0) & (ahead <= count)
                    if BOX_COVERAGE:
                        inside = share_between(x1, x2, column + ahead)[0] * share
                        to_left, to_right = to_left * inside, to_right * inside
                    if PACKED:
                        values = tl.load(there + j * planes + k * planes, (has_left | has_right)[None, :], 0.0)
                    else:
                        values = read_planes(there + j + k, total, has_left | has_right, 0.0, CHANNELS)
                    left = tl.where(has_left[None, :], left + to_left[None, :] * values, left)
                    right = tl.where(has_right[None, :], right + to_right[None, :] * values, right)
    return left, right


@triton.jit
def _put(pixels, stride, found, there, ADD: tl.constexpr, CHANNELS: tl.constexpr):
    """Write what was found of the program's planes, or add it to what is there; a plane at a time, as `read_planes`."""
    stride = tl.cast(stride, tl.int64)
    for k in tl.static_range(CHANNELS):
        state = plane_of(found, k, CHANNELS)
        if ADD:
            state += tl.load(pixels + k * stride, mask=there, other=0.0).to(state.dtype)
        tl.store(pixels + k * stride, rounded(state, pixels.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["total"])
def _gather_kernel(
    grad_source, grad_values, areas, order, first, frames, reads, windows,
    total, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
    BOX_COVERAGE: tl.constexpr, ADD: tl.constexpr, PACKED: tl.constexpr, EXACT: tl.constexpr, AT_ONCE: tl.constexpr,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, REGION: tl.constexpr,
):  # fmt: skip
    image, above, first_column, region, y_above, x = tiles_of(height, width, INT, ROWS, COLUMNS, TILES, REGION, 2)
    first_channel = tl.program_id(2).to(tl.int64) * CHANNELS
    real = frames.dtype.element_ty
    for tile in range(TILES):
        top, y = above + tile * ROWS, y_above + tile * ROWS
        left, met = tl.zeros([CHANNELS + (CHANNELS == 3), ROWS * COLUMNS // 2], real), 0
        right = tl.zeros_like(left)
        begin, stop = tl.load(first + region).to(tl.int32), tl.load(first + region + 1).to(tl.int32)
        for n in range(begin, stop):
            obj = tl.load(order + n)
            if meets(areas + obj * WINDOW, top, first_column, ROWS, COLUMNS):
                frame, read, window = frames + obj * FRAME, reads + obj * READ, windows + obj * WINDOW
                left, right = _looked_up(
                    left, right, grad_values, frame, read, window, y, x, total,
                    NEAREST, BEYOND, EDGE, INT, BOX_COVERAGE, PACKED, EXACT, AT_ONCE, CHANNELS,
                )  # fmt: skip
                met += 1
        if (met > 0) | (not ADD):
            pixels = grad_source + image * stride_image + first_channel * stride_channel + (y * stride_y + x * stride_x)
            _put(pixels, stride_channel, left, (y < height) & (x < width), ADD, CHANNELS)
            _put(pixels + stride_x, stride_channel, right, (y < height) & (x + 1 < width), ADD, CHANNELS)
