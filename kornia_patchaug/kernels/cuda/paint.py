"""*paint* in Triton, forward and backward: each program takes a tile of one image, as those of *composite* do, and
samples what it paints on it, so that values are never stored.

What each object reads must be there before: under ``Read.PAINTED`` it is not.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.kernels.backend import Gradients, Inputs, Kept, Maybe, Opacity, Painted, Read, Wanted
from kornia_patchaug.kernels.cuda.frames import frames, frames_backward
from kornia_patchaug.kernels.cuda.gather import gather
from kornia_patchaug.kernels.cuda.planes import group_of, packed, packed_planes, planes_of
from kornia_patchaug.kernels.cuda.regions import (
    ONE_WARP,
    TILING,
    counts_of,
    grid_of,
    lists_of,
    meets,
    mixed,
    pixels_in,
    tile_in,
    tiles_of,
)
from kornia_patchaug.kernels.cuda.sample import sample
from kornia_patchaug.kernels.cuda.tables import BY_OPACITY, FRAME, PICTURE, READ, START, SUMS, TO_Y, WINDOW, X1, Y1
from kornia_patchaug.kernels.cuda.taps import (
    by_positions,
    by_texels,
    interpolated,
    options_of,
    over_taps,
    positions_of,
    share_of,
    store_sums,
    taps_of,
)
from kornia_patchaug.plan import Plan


def paint(
    inputs: Inputs, canvas: Tensor, opacity: Opacity, plan: Plan, read: Read, keep: bool, in_place: bool = False
) -> Painted:
    """As `backend.Fused.paint`."""
    lists, objects, channels = _lists_of(plan, canvas), frames(inputs, plan), canvas.shape[1]
    matte = None
    if isinstance(opacity, Inputs):
        opacity = matte = sample(opacity, cast("Plan", plan.opacity))[0][0]
    painted = canvas if in_place else torch.empty_like(canvas)
    under = objects.new_empty(channels * plan.windows.total if keep else 0)
    buffers = opacity, under if keep else None
    options = TILING | {"IN_PLACE": in_place}
    _launch(_paint_kernel, inputs, plan, canvas, painted, objects, *lists[:2], *buffers, **options)
    return painted, (under, objects), matte if keep else None


def paint_backward(
    grad: Tensor,
    kept: Kept,
    inputs: Inputs,
    opacity: Maybe,
    plan: Plan,
    read: Read,
    wanted: Wanted,
    in_place: bool = False,
) -> tuple[Gradients, Maybe, Maybe]:
    """As `backend.Fused.paint_backward`."""
    lists, (under, objects), channels = _lists_of(plan, grad), kept, grad.shape[1]
    of_source, of_canvas, of_opacity = wanted.canvas if read is Read.CANVAS else wanted.source, None, None
    if in_place or wanted.canvas:
        of_canvas = grad if in_place else torch.empty_like(grad)
    each, groups = opacity is not None and opacity.ndim == 1, channels // group_of(channels)
    # Each program writes sums of its own, so that no addition waits and their order is fixed.
    if wanted.opacity and opacity is not None:
        of_opacity = opacity.new_empty(groups, len(opacity)) if each else torch.empty_like(opacity)
    sums, of_objects = None, any(wanted[1:4]) or of_opacity is not None
    if of_objects:
        sums = objects.new_empty(int(counts_of(plan.windows).sum()) * groups, SUMS.value)
    grad_values = packed(channels, plan.windows.total, objects) if of_source else None
    of_each = of_opacity if each else None
    buffers = opacity, under if under.numel() else None, grad_values, of_each, sums, lists[2] if of_objects else None
    options = ONE_WARP | {"IN_PLACE": in_place, "BOXES": wanted.boxes}
    _launch(_paint_backward_kernel, inputs, plan, grad, of_canvas, objects, *lists[:2], *buffers, **options)
    found = Gradients(None, None, None, None)
    if sums is not None:
        found = frames_backward(sums, lists[2], inputs, plan, wanted, None if each else of_opacity, groups)
    if of_source:
        into = of_canvas if read is Read.CANVAS else None
        found = found._replace(source=gather(grad_values, objects, inputs.source, plan, False, into))
    if of_each is not None:
        of_opacity = of_each[0] if groups == 1 else of_each.sum(0)
    return found, None if in_place else of_canvas, of_opacity


def _lists_of(plan: Plan, canvas: Tensor) -> list[Tensor]:
    """`regions.lists_of`, uploaded with the tables of the plan."""
    windows, sizes = plan.windows, canvas.shape
    return windows.derived(f"tiles of {tuple(sizes)}", canvas.device, lambda: lists_of(windows, sizes), plan.reads)


def _launch(
    kernel: Any, inputs: Inputs, plan: Plan, canvas: Tensor, painted: Maybe, *buffers: Maybe, **options: int
) -> None:
    """Run a kernel on the tiles of a canvas or its gradient: it writes what becomes of it, and fills the buffers."""
    if not canvas.numel():
        return
    source, opacity, target = inputs.source, buffers[3], canvas if painted is None else painted
    tables, group = (plan.windows.on(canvas.device), plan.reads.on(canvas.device)), group_of(canvas.shape[1])
    rules = options_of(plan, canvas, target, source) | {"CHANNELS": group, **options}
    rules |= {"BY_REACH": plan.sampling.by_reach, "BOX_COVERAGE": plan.box_coverage}
    rules["EACH"] = opacity is not None and opacity.ndim == 1
    if inputs.theta.dtype == torch.float64:  # else the assembler would rather spill some than have fewer programs
        rules.setdefault("maxnreg", 255)
    sizes = plan.windows.total, *canvas.shape[2:], *canvas.stride(), *target.stride(), *source.stride()
    with torch.cuda.device_of(canvas):
        kernel[grid_of(canvas.shape, group, options)](canvas, painted, source, *tables, *buffers, *sizes, **rules)


@triton.jit
def _opacity(opacity, obj, start, index, inside, like, EACH: tl.constexpr):
    """The opacity A of pixels."""
    alpha = tl.zeros_like(like) + 1
    if opacity is not None:
        if EACH:
            alpha = tl.load(opacity + start + index, mask=inside, other=0.0)
        else:
            alpha *= tl.load(opacity + obj)
    return alpha


@triton.jit(do_not_specialize=["total"])  # it changes with every batch: no reason to compile anew
def _paint_kernel(
    canvas, painted, source, windows, reads, frames, order, first, opacity, under,
    total, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    painted_image, painted_channel, painted_y, painted_x,
    source_image, source_channel, source_y, source_x,
    BY_REACH: tl.constexpr, BOX_COVERAGE: tl.constexpr, EACH: tl.constexpr, IN_PLACE: tl.constexpr,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, REGION: tl.constexpr,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
):  # fmt: skip
    image, above, left, region, y_above, x = tiles_of(height, width, INT, ROWS, COLUMNS, TILES, REGION)
    first_channel, channel, taken = planes_of(INT, CHANNELS)
    begin, stop = tl.load(first + region).to(tl.int32), tl.load(first + region + 1).to(tl.int32)
    for tile in range(TILES):
        top, y = above + tile * ROWS, y_above + tile * ROWS
        there = taken & ((y < height) & (x < width))[None, :]
        if IN_PLACE:
            there &= begin < stop
        pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
        before = tl.load(canvas + image * stride_image + pixels, mask=there)
        state, touched = before.to(frames.dtype.element_ty), y < 0
        for k in range(begin, stop):
            obj = tl.load(order + k)
            window = windows + obj * WINDOW
            if meets(window, top, left, ROWS, COLUMNS):
                frame, read, start = frames + obj * FRAME, reads + obj * READ, tl.load(window + START)
                column, row, inside, index = pixels_in(window, y, x, INT)
                _dx, _dy, qx, qy = positions_of(frame, column, row)
                x0, step_x, wx0, wx1, _has_x0, _has_x1, _slope_x = taps_of(qx, read, NEAREST, BEYOND, EDGE, INT)
                y0, step_y, wy0, wy1, _has_y0, _has_y1, _slope_y = taps_of(qy, read + TO_Y, NEAREST, BEYOND, EDGE, INT)
                share = _opacity(opacity, obj, start, index, inside, wx0, EACH)
                if BOX_COVERAGE:
                    share *= share_of(frame + X1, column)[0] * share_of(frame + Y1, row)[0]
                known = taken & inside[None, :]
                planes = source + tl.load(read + PICTURE) * source_image + first_channel * source_channel
                value = interpolated(
                    planes + (y0 * source_y + x0 * source_x), source_channel, step_x * source_x, step_y * source_y,
                    wx0, wx1, wy0, wy1, inside, NEAREST, CHANNELS,
                )  # fmt: skip
                over = share[None, :] * value
                if BY_REACH:
                    share *= wy0 * wx0 + wy0 * wx1 + wy1 * wx0 + wy1 * wx1
                if under is not None:
                    tl.store(under + start + (channel * total + index[None, :]), state, mask=known)
                keeps = 1 - share[None, :]
                over = tl.where(keeps == 0, over, keeps * state + over)
                state = tl.where(inside[None, :], over, state)
                touched |= inside
        pixels = channel * painted_channel + (y * painted_y + x * painted_x)[None, :]
        tl.store(painted + image * painted_image + pixels, mixed(before, state, touched[None, :]), mask=there)


@triton.jit(do_not_specialize=["total"])
def _paint_backward_kernel(
    grad, grad_canvas, source, windows, reads, frames, order, first, opacity,
    under, grad_values, grad_opacity, sums, rows,
    total, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    canvas_image, canvas_channel, canvas_y, canvas_x,
    source_image, source_channel, source_y, source_x,
    BY_REACH: tl.constexpr, BOX_COVERAGE: tl.constexpr, EACH: tl.constexpr, IN_PLACE: tl.constexpr, BOXES: tl.constexpr,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, REGION: tl.constexpr,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
):  # fmt: skip
    image, above, left, region, y_above, x = tiles_of(height, width, INT, ROWS, COLUMNS, TILES, REGION)
    first_channel, channel, taken = planes_of(INT, CHANNELS)
    begin, stop = tl.load(first + region).to(tl.int32), tl.load(first + region + 1).to(tl.int32)
    for tile in range(TILES):
        top, y = above + tile * ROWS, y_above + tile * ROWS
        there = taken & ((y < height) & (x < width))[None, :]
        pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
        before = tl.load(grad + image * stride_image + pixels, mask=there, other=0.0)
        state, touched = before.to(frames.dtype.element_ty), y < 0  # what has passed the objects above
        for k in range(stop - begin):
            obj = tl.load(order + stop - 1 - k)
            window = windows + obj * WINDOW
            if meets(window, top, left, ROWS, COLUMNS):
                frame, read, start = frames + obj * FRAME, reads + obj * READ, tl.load(window + START)
                column, row, inside, index = pixels_in(window, y, x, INT)
                dx, dy, qx, qy = positions_of(frame, column, row)
                x0, step_x, wx0, wx1, has_x0, has_x1, slope_x = taps_of(qx, read, NEAREST, BEYOND, EDGE, INT)
                y0, step_y, wy0, wy1, has_y0, has_y1, slope_y = taps_of(qy, read + TO_Y, NEAREST, BEYOND, EDGE, INT)
                alpha, share = _opacity(opacity, obj, start, index, inside, wx0, EACH), tl.zeros_like(wx0) + 1
                if BOX_COVERAGE:
                    share = share_of(frame + X1, column)[0] * share_of(frame + Y1, row)[0]
                gain = alpha * share
                covers = gain
                if BY_REACH:
                    covers *= wy0 * wx0 + wy0 * wx1 + wy1 * wx0 + wy1 * wx1
                if grad_values is not None:
                    into = packed_planes(grad_values, start, index, total, CHANNELS)
                    tl.store(into, tl.where(taken, gain[None, :] * state, 0.0), mask=inside[None, :])
                if sums is not None:
                    by_coverage = tl.zeros_like(share)
                    if under is not None:
                        below = under + start + (channel * total + index[None, :])
                        known = taken & inside[None, :]
                        by_coverage -= tl.sum(state * tl.load(below, mask=known, other=0.0), axis=0)
                    has_x0, has_x1 = has_x0 & inside, has_x1 & inside
                    planes = source + tl.load(read + PICTURE) * source_image + first_channel * source_channel
                    g00, g01, g10, g11 = by_texels(
                        planes + (y0 * source_y + x0 * source_x), source_channel, state,
                        step_x * source_x, step_y * source_y, has_x0, has_x1, has_y0, has_y1, NEAREST, CHANNELS,
                    )  # fmt: skip
                    if BY_REACH:
                        g00, g01, g10, g11 = g00 + by_coverage, g01 + by_coverage, g10 + by_coverage, g11 + by_coverage
                    by_x, by_y = by_positions(
                        g00, g01, g10, g11, wx0, wx1, wy0, wy1, has_x0, has_x1, has_y0, has_y1, slope_x, slope_y,
                        NEAREST,
                    )  # fmt: skip
                    line = tl.load(rows + obj) + tile_in(window, top, left, ROWS, COLUMNS)
                    line = sums + line * (tl.num_programs(2) * SUMS) + tl.program_id(2) * SUMS
                    by_both = over_taps(g00, g01, g10, g11, wx0, wx1, wy0, wy1)
                    if not BY_REACH:
                        by_both += by_coverage
                    by_alpha, by_share = tl.where(inside, share * by_both, 0.0), tl.zeros_like(share)
                    if BOX_COVERAGE:
                        by_share = alpha * by_both
                    store_sums(line, frame, column, row, dx, dy, gain * by_x, gain * by_y, by_share, BOXES)
                    if opacity is not None:
                        tl.store(line + BY_OPACITY, tl.sum(by_alpha))
                    if grad_opacity is not None:
                        of_group = grad_opacity + tl.program_id(2).to(tl.int64) * total
                        tl.store(of_group + start + index, by_alpha, mask=inside)
                state = tl.where(inside[None, :], (1 - covers)[None, :] * state, state)
                touched |= inside
        if grad_canvas is not None:
            if IN_PLACE:
                there &= touched[None, :]
            pixels = channel * canvas_channel + (y * canvas_y + x * canvas_x)[None, :]
            tl.store(grad_canvas + image * canvas_image + pixels, mixed(before, state, touched[None, :]), mask=there)
