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
from kornia_patchaug.kernels.cuda.tables import (
    FRAME,
    PICTURE,
    READ,
    SRC_X,
    SRC_Y,
    START,
    TO_Y,
    TX,
    TY,
    WINDOW,
    X1,
    X2,
    Y1,
    Y2,
    A,
    B,
    C,
    D,
)
from kornia_patchaug.kernels.cuda.taps import (
    add_tap,
    options_of,
    pixels_of,
    positions_of,
    share_of,
    taps_of,
    tiles_of,
    weighted,
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
    """As `reference.sample_backward`. Additions to one pixel of the source come in any order."""
    source, objects, grad_source = inputs.source, frames(inputs, plan), into if wanted.source else None
    if wanted.source and into is None:  # half precision would lose what many pixels add to one
        grad_source = torch.zeros(source.shape, dtype=objects.dtype, device=source.device)
    gradients = Gradients(None, None, None, None)
    if plan.windows.total:
        covers = plan.box_coverage or plan.sampling.by_reach
        grads = [None if g is None else g.contiguous() for g in (grad_values, grad_coverage if covers else None)]
        tiles = tiles_of(plan, source.device)
        # Each program writes a sum of its own, so that no addition waits and their order is fixed.
        sums = objects.new_empty(len(tiles[0]), objects.shape[1]) if any(wanted[1:4]) else None
        _launch(_sample_backward_kernel, tiles, inputs, objects, plan, *grads, grad_source, sums)
        if sums is not None:
            gradients = frames_backward(sums, tiles[1], inputs, plan, wanted)
    elif any(wanted[1:4]):  # of nothing that is painted
        given = zip(inputs[1:], wanted[1:4], strict=True)
        gradients = Gradients(None, *(torch.zeros_like(t) if t is not None and of else None for t, of in given))
    if grad_source is None or into is not None:
        return gradients
    return gradients._replace(source=grad_source.to(source.dtype))


def _launch(kernel: Any, tiles: list[Tensor], inputs: Inputs, objects: Tensor, plan: Plan, *buffers: Maybe) -> None:
    """Run a kernel on tiles: it reads and fills the buffers."""
    source = inputs.source
    tables = objects, plan.reads.on(source.device), plan.windows.on(source.device), *tiles
    sizes = plan.windows.total, *source.shape[1:], *source.stride()
    with torch.cuda.device_of(source):
        kernel[(len(tiles[0]),)](source, *tables, *buffers, *sizes, **options_of(source, plan))


# The total changes with every batch: no reason to compile anew.
@triton.jit(do_not_specialize=["total"])
def _sample_kernel(
    source, frames, reads, windows, owner, first,
    values, coverage,
    total, channels, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr,
    BY_REACH: tl.constexpr, BOX_COVERAGE: tl.constexpr, INT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    obj = tl.load(owner + tl.program_id(0))
    frame, read, window = frames + obj * FRAME, reads + obj * READ, windows + obj * WINDOW
    index, valid, x, y = pixels_of(tl.program_id(0) - tl.load(first + obj), window, INT, TILE)
    _, _, qx, qy = positions_of(frame, x, y)
    x0, x1, wx0, wx1, _, _, _ = taps_of(qx, read, NEAREST, BEYOND, EDGE, INT)
    y0, y1, wy0, wy1, _, _, _ = taps_of(qy, read + TO_Y, NEAREST, BEYOND, EDGE, INT)
    x0, x1, y0, y1 = x0 * stride_x, x1 * stride_x, y0 * stride_y, y1 * stride_y
    reach = wy0 * wx0 + wy0 * wx1 + wy1 * wx0 + wy1 * wx1
    share = tl.zeros_like(reach) + 1
    if BOX_COVERAGE:
        share = share_of(frame + X1, x)[0] * share_of(frame + Y1, y)[0]
    # Of taps that are all -0 the sum is -0, and of none it is 0. Triton takes the literal -0.0 for 0.
    start = tl.where(reach == 0, 0.0, tl.zeros_like(reach) * -1.0)
    plane, out = source + tl.load(read + PICTURE) * stride_image, values + tl.load(window + START)
    for _ in range(channels):
        value = add_tap(start, wy0 * wx0, plane + (y0 + x0), valid)
        if not NEAREST:
            value = add_tap(value, wy0 * wx1, plane + (y0 + x1), valid)
            value = add_tap(value, wy1 * wx0, plane + (y1 + x0), valid)
            value = add_tap(value, wy1 * wx1, plane + (y1 + x1), valid)
        tl.store(out + index, share * value, mask=valid)
        plane += stride_channel
        out += total
    if coverage is not None:
        if BY_REACH:
            share *= reach
        tl.store(coverage + tl.load(window + START) + index, share, mask=valid)


@triton.jit(do_not_specialize=["total"])
def _sample_backward_kernel(
    source, frames, reads, windows, owner, first,
    grad_values, grad_coverage, grad_source, sums,
    total, channels, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    NEAREST: tl.constexpr, BEYOND: tl.constexpr, EDGE: tl.constexpr,
    BY_REACH: tl.constexpr, BOX_COVERAGE: tl.constexpr, INT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    obj = tl.load(owner + tl.program_id(0))
    frame, read, window = frames + obj * FRAME, reads + obj * READ, windows + obj * WINDOW
    index, valid, x, y = pixels_of(tl.program_id(0) - tl.load(first + obj), window, INT, TILE)
    dx, dy, qx, qy = positions_of(frame, x, y)
    x0, x1, wx0, wx1, has_x0, has_x1, slope_x = taps_of(qx, read, NEAREST, BEYOND, EDGE, INT)
    y0, y1, wy0, wy1, has_y0, has_y1, slope_y = taps_of(qy, read + TO_Y, NEAREST, BEYOND, EDGE, INT)
    has_x0, has_x1 = has_x0 & valid, has_x1 & valid
    w00, w01, w10, w11 = wy0 * wx0, wy0 * wx1, wy1 * wx0, wy1 * wx1
    share_x, falls_x, grows_x = share_of(frame + X1, x)
    share_y, falls_y, grows_y = share_of(frame + Y1, y)
    share = share_x * share_y if BOX_COVERAGE else tl.zeros_like(w00) + 1
    start = tl.load(window + START)

    # The gradient with respect to each weight, but for the share that multiplies all.
    g00 = tl.zeros_like(w00)
    if BY_REACH and grad_coverage is not None:
        g00 = tl.load(grad_coverage + start + index, mask=valid, other=0.0)
    g01, g10, g11 = g00, g00, g00
    if grad_values is not None:
        picture = tl.load(read + PICTURE)
        plane, out = source + picture * stride_image, grad_values + start
        for channel in range(channels):
            g = tl.load(out + index, mask=valid, other=0.0)
            if sums is not None:
                g00 += g * tl.load(plane + (y0 * stride_y + x0 * stride_x), has_y0 & has_x0, 0.0)
                if not NEAREST:
                    g01 += g * tl.load(plane + (y0 * stride_y + x1 * stride_x), has_y0 & has_x1, 0.0)
                    g10 += g * tl.load(plane + (y1 * stride_y + x0 * stride_x), has_y1 & has_x0, 0.0)
                    g11 += g * tl.load(plane + (y1 * stride_y + x1 * stride_x), has_y1 & has_x1, 0.0)
            if grad_source is not None:
                g *= share
                target = grad_source + (picture * channels + channel) * height * width
                tl.atomic_add(target + (y0 * width + x0), w00 * g, valid & (w00 != 0), sem="relaxed")
                if not NEAREST:
                    tl.atomic_add(target + (y0 * width + x1), w01 * g, valid & (w01 != 0), sem="relaxed")
                    tl.atomic_add(target + (y1 * width + x0), w10 * g, valid & (w10 != 0), sem="relaxed")
                    tl.atomic_add(target + (y1 * width + x1), w11 * g, valid & (w11 != 0), sem="relaxed")
            plane += stride_channel
            out += total

    if sums is not None:
        by_x, by_y = tl.zeros_like(w00), tl.zeros_like(w00)
        if not NEAREST:
            by_x = tl.where(has_x1, wy0 * g01 + wy1 * g11, 0.0) - tl.where(has_x0, wy0 * g00 + wy1 * g10, 0.0)
            by_y = tl.where(has_y1, wx0 * g10 + wx1 * g11, 0.0) - tl.where(has_y0, wx0 * g00 + wx1 * g01, 0.0)
        by_x = tl.where(slope_x != 0, slope_x * share * by_x, 0.0)
        by_y = tl.where(slope_y != 0, slope_y * share * by_y, 0.0)
        by_share = tl.zeros_like(w00)
        if BOX_COVERAGE:
            by_share = weighted(w00, g00) + weighted(w01, g01) + weighted(w10, g10) + weighted(w11, g11)
            if not BY_REACH and grad_coverage is not None:
                by_share += tl.load(grad_coverage + start + index, mask=valid, other=0.0)
        sum_x, sum_y = tl.sum(by_x), tl.sum(by_y)
        # A box moves its centre, from which pixels count, by half of what an edge moves; and its coverage.
        centre_x = -(tl.load(frame + A) * sum_x + tl.load(frame + C) * sum_y) / 2
        centre_y = -(tl.load(frame + B) * sum_x + tl.load(frame + D) * sum_y) / 2
        row = sums + tl.program_id(0) * FRAME
        tl.store(row + A, tl.sum(by_x * dx))
        tl.store(row + B, tl.sum(by_x * dy))
        tl.store(row + TX, sum_x)
        tl.store(row + C, tl.sum(by_y * dx))
        tl.store(row + D, tl.sum(by_y * dy))
        tl.store(row + TY, sum_y)
        tl.store(row + SRC_X, sum_x)
        tl.store(row + SRC_Y, sum_y)
        tl.store(row + X1, centre_x - tl.sum(tl.where(falls_x, by_share * share_y, 0.0)))
        tl.store(row + Y1, centre_y - tl.sum(tl.where(falls_y, by_share * share_x, 0.0)))
        tl.store(row + X2, centre_x + tl.sum(tl.where(grows_x, by_share * share_y, 0.0)))
        tl.store(row + Y2, centre_y + tl.sum(tl.where(grows_y, by_share * share_x, 0.0)))
