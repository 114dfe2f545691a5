"""*sample* in Triton, forward and backward: each program takes a tile of one object's flat pixels.

``reference.sample`` says what is computed, and its order of operations is kept.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.kernels.backend import Gradients, Inputs, Maybe, Sampled, Wanted
from kornia_patchaug.kernels.cuda.frames import frames, frames_backward
from kornia_patchaug.kernels.cuda.gather import gather
from kornia_patchaug.kernels.cuda.planes import group_of, planes_of
from kornia_patchaug.kernels.cuda.tables import FRAME, PICTURE, READ, START, SUMS, TO_Y, WINDOW, X1, Y1
from kornia_patchaug.kernels.cuda.taps import (
    TILE,
    by_positions,
    by_texels,
    interpolated,
    options_of,
    over_taps,
    pixels_of,
    positions_of,
    share_of,
    store_sums,
    taps_of,
    tiles_of,
)
from kornia_patchaug.plan import Plan


def sample(inputs: Inputs, plan: Plan) -> Sampled:
    """As `reference.sample`."""
    source, total, tiles = inputs.source, plan.windows.total, tiles_of(plan, inputs.source.device)
    objects = frames(inputs, plan)
    covers = plan.box_coverage or plan.sampling.by_reach
    values, coverage = objects.new_empty(source.shape[1], total), objects.new_empty(total if covers else 0)
    if total:
        _launch(_sample_kernel, tiles, inputs, objects, plan, values, coverage if covers else None)
    return values, coverage


def sample_backward(
    grad_values: Maybe, grad_coverage: Maybe, inputs: Inputs, plan: Plan, wanted: Wanted, into: Maybe = None
) -> Gradients:
    """As `reference.sample_backward`."""
    covers, of_objects, source = plan.box_coverage or plan.sampling.by_reach, any(wanted[1:4]), inputs.source
    grads = [None if g is None else g.contiguous() for g in (grad_values, grad_coverage if covers else None)]
    gradients, objects = Gradients(None, None, None, None), frames(inputs, plan)
    if of_objects:
        tiles = tiles_of(plan, inputs.source.device)
        # Each program writes a sum of its own, so that no addition waits and their order is fixed.
        groups = source.shape[1] // group_of(source.shape[1])
        sums = objects.new_empty(len(tiles[0]) * groups, SUMS.value)
        if plan.windows.total:
            _launch(_sample_backward_kernel, tiles, inputs, objects, plan, *grads, sums, BOXES=wanted.boxes)
        gradients = frames_backward(sums, tiles[1], inputs, plan, wanted, groups=groups)
    if wanted.source:
        return gradients._replace(source=gather(grads[0], objects, source, plan, plan.box_coverage, into))
    return gradients


def _launch(
    kernel: Any, tiles: list[Tensor], inputs: Inputs, objects: Tensor, plan: Plan, *buffers: Maybe, **options: bool
) -> None:
    """Run a kernel on tiles: it reads and fills the buffers."""
    source = inputs.source
    tables = objects, plan.reads.on(source.device), plan.windows.on(source.device), *tiles
    sizes, group = (plan.windows.total, *source.stride()), group_of(source.shape[1])
    rules = options_of(plan, source) | {"TILE": TILE, "CHANNELS": group, **options}
    rules |= {"BY_REACH": plan.sampling.by_reach, "BOX_COVERAGE": plan.box_coverage}
    with torch.cuda.device_of(source):
        kernel[(len(tiles[0]), 1, source.shape[1] // group)](source, *tables, *buffers, *sizes, **rules)


# The total changes with every batch: no reason to compile anew.
@triton.jit(do_not_specialize=["total"])
def _sample_kernel(
    source, frames, reads, windows, owner, first,
    values, coverage,
    total,
    stride_image, stride_channel, stride_y, stride_x,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
    BY_REACH: tl.constexpr, BOX_COVERAGE: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    obj = tl.load(owner + tl.program_id(0))
    frame, read, window = frames + obj * FRAME, reads + obj * READ, windows + obj * WINDOW
    index, valid, x, y = pixels_of(tl.program_id(0) - tl.load(first + obj), window, INT, TILE)
    _, _, qx, qy = positions_of(frame, x, y)
    x0, step_x, wx0, wx1, _, _, _ = taps_of(qx, read, NEAREST, BEYOND, EDGE, INT)
    y0, step_y, wy0, wy1, _, _, _ = taps_of(qy, read + TO_Y, NEAREST, BEYOND, EDGE, INT)
    reach = wy0 * wx0 + wy0 * wx1 + wy1 * wx0 + wy1 * wx1
    share = tl.zeros_like(reach) + 1
    if BOX_COVERAGE:
        share = share_of(frame + X1, x)[0] * share_of(frame + Y1, y)[0]
    first_channel, channel, taken = planes_of(INT, CHANNELS)
    planes = source + tl.load(read + PICTURE) * stride_image + first_channel * stride_channel
    value = interpolated(
        planes + (y0 * stride_y + x0 * stride_x), stride_channel, step_x * stride_x, step_y * stride_y,
        wx0, wx1, wy0, wy1, valid, NEAREST, CHANNELS,
    )  # fmt: skip
    out = values + tl.load(window + START) + (channel * total + index[None, :])
    tl.store(out, share[None, :] * value, mask=taken & valid[None, :])
    if coverage is not None:
        if BY_REACH:
            share *= reach
        tl.store(coverage + tl.load(window + START) + index, share, mask=valid & (first_channel == 0))


@triton.jit(do_not_specialize=["total"])
def _sample_backward_kernel(
    source, frames, reads, windows, owner, first,
    grad_values, grad_coverage, sums,
    total,
    stride_image, stride_channel, stride_y, stride_x,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr, INT: tl.constexpr,
    BY_REACH: tl.constexpr, BOX_COVERAGE: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr, BOXES: tl.constexpr,
):  # fmt: skip
    obj = tl.load(owner + tl.program_id(0))
    frame, read, window = frames + obj * FRAME, reads + obj * READ, windows + obj * WINDOW
    index, valid, x, y = pixels_of(tl.program_id(0) - tl.load(first + obj), window, INT, TILE)
    dx, dy, qx, qy = positions_of(frame, x, y)
    x0, step_x, wx0, wx1, has_x0, has_x1, slope_x = taps_of(qx, read, NEAREST, BEYOND, EDGE, INT)
    y0, step_y, wy0, wy1, has_y0, has_y1, slope_y = taps_of(qy, read + TO_Y, NEAREST, BEYOND, EDGE, INT)
    has_x0, has_x1 = has_x0 & valid, has_x1 & valid
    share = tl.zeros_like(wx0) + 1
    if BOX_COVERAGE:
        share = share_of(frame + X1, x)[0] * share_of(frame + Y1, y)[0]
    start = tl.load(window + START)
    by_coverage = tl.zeros_like(share)
    if grad_coverage is not None:
        by_coverage = tl.load(grad_coverage + start + index, mask=valid & (tl.program_id(2) == 0), other=0.0)
    zero = tl.zeros_like(share)
    g00, g01, g10, g11 = zero, zero, zero, zero
    if grad_values is not None:
        first_channel, channel, taken = planes_of(INT, CHANNELS)
        given = grad_values + start + (channel * total + index[None, :])
        planes = source + tl.load(read + PICTURE) * stride_image + first_channel * stride_channel
        g00, g01, g10, g11 = by_texels(
            planes + (y0 * stride_y + x0 * stride_x), stride_channel,
            tl.load(given, mask=taken & valid[None, :], other=0.0),
            step_x * stride_x, step_y * stride_y, has_x0, has_x1, has_y0, has_y1, NEAREST, CHANNELS,
        )  # fmt: skip
    if BY_REACH:
        g00, g01, g10, g11 = g00 + by_coverage, g01 + by_coverage, g10 + by_coverage, g11 + by_coverage
    by_x, by_y = by_positions(
        g00, g01, g10, g11, wx0, wx1, wy0, wy1, has_x0, has_x1, has_y0, has_y1, slope_x, slope_y, NEAREST
    )
    by_share = tl.zeros_like(share)
    if BOX_COVERAGE:
        by_share = over_taps(g00, g01, g10, g11, wx0, wx1, wy0, wy1)
        if not BY_REACH:
            by_share += by_coverage
    line = sums + (tl.program_id(0) * tl.num_programs(2) + tl.program_id(2)) * SUMS
    store_sums(line, frame, x, y, dx, dy, share * by_x, share * by_y, by_share, BOXES)
