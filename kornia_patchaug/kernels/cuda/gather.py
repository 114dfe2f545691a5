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
from kornia_patchaug.kernels.cuda.regions import TILING, grid_of, group_of, meets, mixed, regions_of, tile_of
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

# How many rows and columns of a window each pixel looks up at once: more than one where many read it.
ONE, MANY, FEW = {"DOWN": 1, "ACROSS": 1}, {"DOWN": 2, "ACROSS": 4}, 8


def gather(grad_values: Maybe, objects: Tensor, source: Tensor, plan: Plan, covered: bool, into: Maybe) -> Maybe:
    """The gradient with respect to a source, for that with respect to values ``(C, P)``, which are times the share of
    each pixel in its box if ``covered``, of objects with these `reference.frames`; or None if it was added ``into`` a
    tensor."""
    if grad_values is None or not source.numel() or not plan.windows.total:
        return None if into is not None else source.new_zeros(source.shape)
    areas, sizes = plan.areas, source.shape
    of_source = torch.empty(sizes, dtype=source.dtype, device=source.device) if into is None else into
    lists = areas.derived(f"regions of {tuple(sizes)}", source.device, lambda: regions_of(areas, sizes))
    tables = areas.on(source.device), *lists, objects, plan.reads.on(source.device), plan.windows.on(source.device)
    group, options = group_of(sizes[1]), options_of(plan, of_source)
    options |= {"BOX_COVERAGE": covered, "ADD": into is not None, "CHANNELS": group, **TILING}
    options["enable_fp_fusion"] = not plan.sampling.nearest  # of weights no more depends on it than a rounding
    at_once = MANY if plan.windows.total > FEW * areas.total else ONE
    # The assembler is told how many registers there are: else it would rather spill some than have fewer programs.
    plain = at_once is ONE and plan.sampling.beyond != Beyond.MIRROR and objects.dtype == torch.float32
    options |= {"maxnreg": 128 if plain else 255, **at_once}
    with torch.cuda.device_of(source):
        _gather_kernel[grid_of(sizes, group)](
            of_source, grad_values, *tables, plan.windows.total, *sizes[1:], *of_source.stride(), **options
        )
    return None if into is not None else of_source


@triton.jit
def _inverse(slope):
    """1 over a slope, and 0 of none."""
    return tl.where(slope == 0, 0.0, 1 / tl.where(slope == 0, 1.0, slope))


@triton.jit
def _between(slope, inverse, low, high, last):
    """The first and the last of the numbers 0 .. last that times a slope are from low to high: of none the last is
    before the first; it is all of them where that is not a number."""
    flat, one, other = slope == 0, low * inverse, high * inverse
    start, stop = tl.where(slope < 0, other, one), tl.where(slope < 0, one, other)
    start = tl.where(flat, tl.where(low > 0, last + 1, 0.0), start)
    stop = tl.where(flat, tl.where(high < 0, -1.0, last), stop)
    start, stop = tl.where(start > 0, start, 0.0), tl.where(stop < last, stop, last)
    return tl.ceil(tl.minimum(start, last + 1)), tl.floor(tl.maximum(stop, -1.0))


@triton.jit
def _range(corner, ahead, below):
    """The least and the most position of a window along one axis, with a margin for any rounding; and that."""
    zero = ahead * 0
    margin = 0.01 + 1e-6 * (tl.abs(ahead) + tl.abs(below) + tl.abs(corner))
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


@triton.jit(do_not_specialize=["total"])
def _gather_kernel(
    grad_source, grad_values, areas, order, first, frames, reads, windows,
    total, channels, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
    BOX_COVERAGE: tl.constexpr, ADD: tl.constexpr,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, REGION: tl.constexpr,
    DOWN: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    image, top, left, region, channel, y, x, there = tile_of(
        channels, height, width, INT, CHANNELS, ROWS, COLUMNS, REGION
    )
    state, touched = tl.zeros([CHANNELS, DOWN * ACROSS, ROWS * COLUMNS], grad_values.dtype.element_ty), y < 0
    further = tl.arange(0, DOWN * ACROSS)[:, None]
    further_down = (further // ACROSS).to(frames.dtype.element_ty)
    further_across = (further % ACROSS).to(frames.dtype.element_ty)
    of_channel, has_channel = (channel * total)[:, None, :], (channel < channels)[:, None, :]
    for n in range(tl.load(first + region), tl.load(first + region + 1)):
        obj = tl.load(order + n)
        if meets(areas + obj * WINDOW, top, left, ROWS, COLUMNS):
            frame, read, window = frames + obj * FRAME, reads + obj * READ, windows + obj * WINDOW
            columns, rows = tl.load(window + WIDTH), tl.load(window + HEIGHT)
            out = grad_values + tl.load(window + START)
            # Where the corner of the window is read, and how that moves with columns and rows.
            a, b, tx = tl.load(frame + A), tl.load(frame + B), tl.load(frame + TX)
            c, d, ty = tl.load(frame + C), tl.load(frame + D), tl.load(frame + TY)
            src_x, src_y = tl.load(frame + SRC_X), tl.load(frame + SRC_Y)
            x1, y1, x2, y2 = tl.load(frame + X1), tl.load(frame + Y1), tl.load(frame + X2), tl.load(frame + Y2)
            dst_x, dst_y = (x1 + x2) / 2, (y1 + y2) / 2
            across_x, across_y, down_x, down_y = _inverse(a), _inverse(c), _inverse(b), _inverse(d)
            both = b * c - a * d
            of_both = _inverse(both)
            corner_x, corner_y = place_of(0.5 - dst_x, 0.5 - dst_y, a, b, tx, src_x, c, d, ty, src_y)
            end_x, end_y = (columns - 1).to(a.dtype), (rows - 1).to(a.dtype)
            zero, ahead_x, ahead_y = end_x * 0, a * end_x, c * end_x
            least_x, most_x, margin_x = _range(corner_x, ahead_x, b * end_y)
            least_y, most_y, margin_y = _range(corner_y, ahead_y, d * end_y)
            # What may be read, and which of it are this tile's pixels.
            low_x, low_y = tl.load(read + LOW).to(a.dtype), tl.load(read + LOW + TO_Y).to(a.dtype)
            high_x, high_y = tl.load(read + HIGH).to(a.dtype), tl.load(read + HIGH + TO_Y).to(a.dtype)
            first_x, first_y = tl.load(read + FIRST).to(a.dtype), tl.load(read + FIRST + TO_Y).to(a.dtype)
            last_x, last_y = tl.load(read + LAST).to(a.dtype), tl.load(read + LAST + TO_Y).to(a.dtype)
            pixel_x = (x - tl.load(read + ORIGIN).to(INT)).to(a.dtype)
            pixel_y = (y - tl.load(read + ORIGIN + TO_Y).to(INT)).to(a.dtype)
            known = (pixel_x >= first_x) & (pixel_x <= last_x) & (pixel_y >= first_y) & (pixel_y <= last_y)
            touched |= known
            pixel_x, pixel_y, known = pixel_x[None, :], pixel_y[None, :], known[None, :]
            # The patch and its mirrored pictures lie side by side in cells.
            cells, across, first_cell_x, first_cell_y, everywhere = 1, 1, zero, zero, columns < 0
            mirror_x, mirror_y = low_x - EDGE, low_y - EDGE
            span_x, span_y = tl.maximum(high_x - low_x + 2 * EDGE, 1.0), tl.maximum(high_y - low_y + 2 * EDGE, 1.0)
            if BEYOND == MIRROR:
                first_cell_x, count_x = _cells(least_x, most_x, margin_x, mirror_x, span_x)
                first_cell_y, count_y = _cells(least_y, most_y, margin_y, mirror_y, span_y)
                everywhere = (count_x * count_y <= columns * rows) == 0  # also if not a number
                across = tl.where(everywhere, 1, count_x).to(tl.int32)
                cells = across * tl.where(everywhere, 1, count_y).to(tl.int32)
            for i in range(cells):
                cell_x, cell_y = first_cell_x + i % across, first_cell_y + i // across
                from_x, to_x = _positions(
                    pixel_x, first_x, last_x, least_x, most_x, margin_x,
                    cell_x, mirror_x, span_x, everywhere, NEAREST, BEYOND,
                )  # fmt: skip
                from_y, to_y = _positions(
                    pixel_y, first_y, last_y, least_y, most_y, margin_y,
                    cell_y, mirror_y, span_y, everywhere, NEAREST, BEYOND,
                )  # fmt: skip
                from_x, to_x, from_y, to_y = from_x - corner_x, to_x - corner_x, from_y - corner_y, to_y - corner_y
                # Rows of the window that have such a position, as each axis says, and both together do.
                low, high = from_x - tl.maximum(ahead_x, zero), to_x - tl.minimum(ahead_x, zero)
                row, end = _between(b, down_x, low, high, end_y)
                low, high = from_y - tl.maximum(ahead_y, zero), to_y - tl.minimum(ahead_y, zero)
                one, other = _between(d, down_y, low, high, end_y)
                row, end = tl.maximum(row, one), tl.minimum(end, other)
                low = tl.where(c < 0, c * to_x, c * from_x) - tl.where(a < 0, a * from_y, a * to_y)
                high = tl.where(c < 0, c * from_x, c * to_x) - tl.where(a < 0, a * to_y, a * from_y)
                one, other = _between(both, of_both, low, high, end_y)
                row, end = tl.maximum(row, one), tl.where(known, tl.minimum(end, other), -1.0)
                for _ in range(0, tl.max((end - row).to(tl.int32)) + 1, DOWN):
                    down = row + further_down
                    dy = (down + 0.5) - dst_y
                    column, stop = _between(a, across_x, from_x - b * down, to_x - b * down, end_x)
                    also, until = _between(c, across_y, from_y - d * down, to_y - d * down, end_x)
                    column, stop = tl.maximum(column, also), tl.where(down <= end, tl.minimum(stop, until), -1.0)
                    ahead = column + further_across
                    flat = down.to(INT) * columns.to(INT) + ahead.to(INT)
                    for _ in range(0, tl.max((stop - column).to(tl.int32)) + 1, ACROSS):
                        qx, qy = place_of((ahead + 0.5) - dst_x, dy, a, b, tx, src_x, c, d, ty, src_y)
                        weight = _weight(
                            qx, pixel_x, low_x, high_x, first_x, last_x, cell_x, mirror_x, span_x, everywhere,
                            NEAREST, BEYOND, EDGE,
                        ) * _weight(
                            qy, pixel_y, low_y, high_y, first_y, last_y, cell_y, mirror_y, span_y, everywhere,
                            NEAREST, BEYOND, EDGE,
                        )  # fmt: skip
                        weight = tl.where(ahead <= stop, weight, 0.0)
                        if BOX_COVERAGE:
                            weight *= share_between(x1, x2, ahead)[0] * share_between(y1, y2, down)[0]
                        counts = (weight != 0)[None, :, :] & has_channel
                        value = tl.load(out + flat[None, :, :] + of_channel, mask=counts, other=0.0)
                        state += weight[None, :, :] * value
                        ahead += ACROSS
                        flat += ACROSS
                    row += DOWN
    found = tl.sum(state, axis=1)
    pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
    target = grad_source + image * stride_image + pixels
    if ADD:
        there &= touched[None, :]
        before = tl.load(target, mask=there, other=0.0)
        tl.store(target, mixed(before, before.to(found.dtype) + found, touched[None, :]), mask=there)
    else:
        if found.dtype != tl.float64:
            found = found.to(tl.float32)
        tl.store(target, found.to(grad_source.dtype.element_ty), mask=there)
