"""*sample* in Triton, forward and backward: each program takes a tile of one object's flat pixels.

``reference.sample`` says what is computed, and its order of operations is kept.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.kernels.cuda.taps import (
    from_centre,
    options_of,
    pixels_of,
    positions_of,
    share_of,
    taps_of,
    tiles_of,
)

CHANGING = ["count", "total"]  # with every batch: no reason to compile anew


def sample(
    source: Tensor,
    frames: Tensor,
    reads: Tensor,
    table: Tensor,
    total: int,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    covered: bool,
) -> tuple[Tensor, Tensor]:
    """As `reference.sample`."""
    values, coverage = frames.new_empty(source.shape[1], total), frames.new_empty(total if covered else 0)
    if total:
        owner, ends = tiles_of(table, total)
        objects = frames.contiguous(), reads.contiguous(), table.contiguous(), owner, ends, len(table), total
        options = options_of(source, total, mode, padding_mode, align_corners, covered)
        with torch.cuda.device_of(source):
            _sample_kernel[(len(owner),)](
                source, *objects, values, coverage, *source.shape[1:], *source.stride(), **options
            )
    return values, coverage


def sample_backward(
    grad_values: Tensor | None,
    grad_coverage: Tensor | None,
    source: Tensor,
    frames: Tensor,
    reads: Tensor,
    table: Tensor,
    total: int,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    covered: bool,
    of_source: bool,
    of_frames: bool,
) -> tuple[Tensor, Tensor]:
    """As `reference.sample_backward`. Pixels that several windows read are added up in any order."""
    # Half precision would lose what many pixels add to one.
    grad_source = torch.zeros(source.shape if of_source else 0, dtype=frames.dtype, device=source.device)
    grad_frames = frames.new_zeros(frames.shape if of_frames else 0)
    if total:
        owner, ends = tiles_of(table, total)
        # Each program writes a sum of its own, so that no addition waits and their order is fixed.
        sums = frames.new_empty((len(owner), frames.shape[1]) if of_frames else 0)
        given = [g if g is None else g.contiguous() for g in (grad_values, grad_coverage if covered else None)]
        objects = frames.contiguous(), reads.contiguous(), table.contiguous(), owner, ends, len(table), total
        options = options_of(source, total, mode, padding_mode, align_corners, covered)
        wanted = {"OF_SOURCE": of_source and grad_values is not None, "OF_FRAMES": of_frames}
        gradients = (*given, grad_source, sums)
        with torch.cuda.device_of(source):
            _sample_backward_kernel[(len(owner),)](
                source, *objects, *gradients, *source.shape[1:], *source.stride(), **options, **wanted
            )
        if of_frames:  # unsafe: a check of the offsets would wait for the device
            offsets = torch.nn.functional.pad(ends, (1, 0))
            grad_frames = torch.segment_reduce(sums, "sum", offsets=offsets, axis=0, initial=0, unsafe=True)
    return grad_source.to(source.dtype), grad_frames


@triton.jit(do_not_specialize=CHANGING)
def _sample_kernel(
    source,
    frames,
    reads,
    table,
    owner,
    ends,
    count,
    total,
    values,
    coverage,
    channels,
    height,
    width,
    stride_image,
    stride_channel,
    stride_y,
    stride_x,
    NEAREST: tl.constexpr,
    ZEROS: tl.constexpr,
    REFLECTION: tl.constexpr,
    TRANSPARENT: tl.constexpr,
    EDGE: tl.constexpr,
    COVERED: tl.constexpr,
    INT: tl.constexpr,
    TILE: tl.constexpr,
):
    obj = tl.load(owner + tl.program_id(0))
    if obj < count:
        start, within, valid, x, y = pixels_of(table, ends, obj, INT, TILE)
        frame, read = frames + obj * 12, reads + obj * 7
        dx, dy = from_centre(frame, x, y)
        qx, qy = positions_of(frame, dx, dy)
        x0, x1, wx0, wx1, has_x0, has_x1, _ = taps_of(qx, read + 1, width, NEAREST, ZEROS, REFLECTION, EDGE, INT)
        y0, y1, wy0, wy1, has_y0, has_y1, _ = taps_of(qy, read + 2, height, NEAREST, ZEROS, REFLECTION, EDGE, INT)
        has_x0, has_x1 = has_x0 & valid, has_x1 & valid
        x0, x1, y0, y1 = x0 * stride_x, x1 * stride_x, y0 * stride_y, y1 * stride_y
        share = tl.zeros_like(wx0) + 1
        if COVERED:
            share = share_of(tl.load(frame + 8), tl.load(frame + 10), x.to(qx.dtype))[0]
            share *= share_of(tl.load(frame + 9), tl.load(frame + 11), y.to(qx.dtype))[0]
        plane, out = source + tl.load(read) * stride_image, values + start
        for _ in range(channels):  # what is not there is not read: a weight of 0 would not do, it may be NaN
            value = wy0 * wx0 * tl.load(plane + (y0 + x0), has_y0 & has_x0, 0.0)
            if not NEAREST:
                value += wy0 * wx1 * tl.load(plane + (y0 + x1), has_y0 & has_x1, 0.0)
                value += wy1 * wx0 * tl.load(plane + (y1 + x0), has_y1 & has_x0, 0.0)
                value += wy1 * wx1 * tl.load(plane + (y1 + x1), has_y1 & has_x1, 0.0)
            tl.store(out + within, share * value, mask=valid)
            plane += stride_channel
            out += total
        if COVERED:
            if TRANSPARENT:
                share *= wy0 * wx0 + wy0 * wx1 + wy1 * wx0 + wy1 * wx1
            tl.store(coverage + start + within, share, mask=valid)


@triton.jit(do_not_specialize=CHANGING)
def _sample_backward_kernel(
    source,
    frames,
    reads,
    table,
    owner,
    ends,
    count,
    total,
    grad_values,
    grad_coverage,
    grad_source,
    sums,
    channels,
    height,
    width,
    stride_image,
    stride_channel,
    stride_y,
    stride_x,
    NEAREST: tl.constexpr,
    ZEROS: tl.constexpr,
    REFLECTION: tl.constexpr,
    TRANSPARENT: tl.constexpr,
    EDGE: tl.constexpr,
    COVERED: tl.constexpr,
    INT: tl.constexpr,
    TILE: tl.constexpr,
    OF_SOURCE: tl.constexpr,
    OF_FRAMES: tl.constexpr,
):
    obj = tl.load(owner + tl.program_id(0))
    if obj < count:
        start, within, valid, x, y = pixels_of(table, ends, obj, INT, TILE)
        frame, read = frames + obj * 12, reads + obj * 7
        dx, dy = from_centre(frame, x, y)
        qx, qy = positions_of(frame, dx, dy)
        x0, x1, wx0, wx1, has_x0, has_x1, slope_x = taps_of(qx, read + 1, width, NEAREST, ZEROS, REFLECTION, EDGE, INT)
        y0, y1, wy0, wy1, has_y0, has_y1, slope_y = taps_of(qy, read + 2, height, NEAREST, ZEROS, REFLECTION, EDGE, INT)
        has_x0, has_x1 = has_x0 & valid, has_x1 & valid
        share_x, low_x, high_x = share_of(tl.load(frame + 8), tl.load(frame + 10), x.to(qx.dtype))
        share_y, low_y, high_y = share_of(tl.load(frame + 9), tl.load(frame + 11), y.to(qx.dtype))
        share = share_x * share_y if COVERED else tl.zeros_like(wx0) + 1

        # of_*: the gradient of each weight, but for the share that multiplies all
        of_00 = tl.zeros_like(wx0)
        if TRANSPARENT and grad_coverage is not None:
            of_00 = tl.load(grad_coverage + start + within, mask=valid, other=0.0)
        of_01, of_10, of_11 = of_00, of_00, of_00
        if grad_values is not None:
            index = tl.load(read)
            plane, grad = source + index * stride_image, grad_values + start
            grad_plane = grad_source + index * channels * height * width
            for _ in range(channels):
                g = tl.load(grad + within, mask=valid, other=0.0)
                if OF_FRAMES:
                    of_00 += g * tl.load(plane + (y0 * stride_y + x0 * stride_x), has_y0 & has_x0, 0.0)
                    if not NEAREST:
                        of_01 += g * tl.load(plane + (y0 * stride_y + x1 * stride_x), has_y0 & has_x1, 0.0)
                        of_10 += g * tl.load(plane + (y1 * stride_y + x0 * stride_x), has_y1 & has_x0, 0.0)
                        of_11 += g * tl.load(plane + (y1 * stride_y + x1 * stride_x), has_y1 & has_x1, 0.0)
                if OF_SOURCE:
                    g *= share
                    tl.atomic_add(grad_plane + (y0 * width + x0), wy0 * wx0 * g, has_y0 & has_x0, sem="relaxed")
                    if not NEAREST:
                        tl.atomic_add(grad_plane + (y0 * width + x1), wy0 * wx1 * g, has_y0 & has_x1, sem="relaxed")
                        tl.atomic_add(grad_plane + (y1 * width + x0), wy1 * wx0 * g, has_y1 & has_x0, sem="relaxed")
                        tl.atomic_add(grad_plane + (y1 * width + x1), wy1 * wx1 * g, has_y1 & has_x1, sem="relaxed")
                plane += stride_channel
                grad += total
                grad_plane += height * width

        if OF_FRAMES:
            out = sums + tl.program_id(0) * 12
            of_x, of_y = tl.zeros_like(wx0), tl.zeros_like(wx0)
            if not NEAREST:
                of_x = tl.where(has_x1, wy0 * of_01 + wy1 * of_11, 0.0) - tl.where(
                    has_x0, wy0 * of_00 + wy1 * of_10, 0.0
                )
                of_y = tl.where(has_y1, wx0 * of_10 + wx1 * of_11, 0.0) - tl.where(
                    has_y0, wx0 * of_00 + wx1 * of_01, 0.0
                )
            of_x = tl.where(valid & (slope_x != 0), slope_x * share * of_x, 0.0)
            of_y = tl.where(valid & (slope_y != 0), slope_y * share * of_y, 0.0)
            sum_x, sum_y = tl.sum(of_x), tl.sum(of_y)
            tl.store(out, tl.sum(of_x * dx))
            tl.store(out + 1, tl.sum(of_x * dy))
            tl.store(out + 2, sum_x)
            tl.store(out + 3, tl.sum(of_y * dx))
            tl.store(out + 4, tl.sum(of_y * dy))
            tl.store(out + 5, sum_y)
            tl.store(out + 6, sum_x)
            tl.store(out + 7, sum_y)
            # A box moves its centre, from which pixels count, by half of what an edge moves; and its coverage.
            centre_x = -(tl.load(frame) * sum_x + tl.load(frame + 3) * sum_y) / 2
            centre_y = -(tl.load(frame + 1) * sum_x + tl.load(frame + 4) * sum_y) / 2
            of_share = tl.zeros_like(wx0)
            if COVERED:
                of_share = wy0 * wx0 * of_00 + wy0 * wx1 * of_01 + wy1 * wx0 * of_10 + wy1 * wx1 * of_11
                if not TRANSPARENT and grad_coverage is not None:
                    of_share += tl.load(grad_coverage + start + within, mask=valid, other=0.0)
                of_share = tl.where(valid, of_share, 0.0)
            tl.store(out + 8, centre_x + tl.sum(of_share * share_y * low_x))
            tl.store(out + 9, centre_y + tl.sum(of_share * share_x * low_y))
            tl.store(out + 10, centre_x + tl.sum(of_share * share_y * high_x))
            tl.store(out + 11, centre_y + tl.sum(of_share * share_x * high_y))
