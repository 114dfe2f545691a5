"""*sample* in Triton, forward and backward: each program takes a tile of one object's flat pixels.

``reference.sample`` says what is computed, and its order of operations is kept.
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
    """As :func:`reference.sample`."""
    values, coverage = frames.new_empty(source.shape[1], total), frames.new_empty(total if covered else 0)
    if total:
        owner, ends = _tiles(table, total)
        objects = frames.contiguous(), reads.contiguous(), table, owner, ends, len(table), total
        options = _options(source, total, mode, padding_mode, align_corners, covered)
        with torch.cuda.device_of(source):
            _sample_kernel[(len(owner),)](source, *objects, values, coverage, *source.shape, *source.stride(), **options)
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
    """As :func:`reference.sample_backward`. Pixels that several windows read are added up in any order."""
    # Half precision would lose what many pixels add to one.
    grad_source = torch.zeros(source.shape if of_source else 0, dtype=frames.dtype, device=source.device)
    grad_frames = frames.new_zeros(frames.shape if of_frames else 0)
    if total:
        owner, ends = _tiles(table, total)
        # Each program writes a sum of its own, so that no addition waits and their order is fixed.
        sums = frames.new_empty((len(owner), frames.shape[1]) if of_frames else 0)
        given = tuple(grad if grad is None else grad.contiguous() for grad in (grad_values, grad_coverage))
        objects = frames.contiguous(), reads.contiguous(), table, owner, ends, len(table), total
        options = _options(source, total, mode, padding_mode, align_corners, covered)
        wanted = {"OF_SOURCE": of_source and grad_values is not None, "OF_FRAMES": of_frames}
        gradients = (*given, grad_source, sums)
        with torch.cuda.device_of(source):
            _sample_backward_kernel[(len(owner),)](
                source, *objects, *gradients, *source.shape, *source.stride(), **options, **wanted
            )
        if of_frames:  # unsafe: a check of the offsets would wait for the device
            offsets = torch.nn.functional.pad(ends, (1, 0))
            grad_frames = torch.segment_reduce(sums, "sum", offsets=offsets, axis=0, initial=0, unsafe=True)
    return grad_source.to(source.dtype), grad_frames


def _tiles(table: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Whose each tile is, and ``(N,)`` where the tiles of each object end. The host knows only a bound of how many there
    are: those to spare are of no object, N."""
    tiles = (table[:, Column.SIZE].prod(1) + (TILE - 1)).div(TILE, rounding_mode="floor")
    ends = tiles.cumsum(0)
    tile = torch.arange(total // TILE + len(table), device=table.device)
    return torch.searchsorted(ends, tile, right=True), ends


def _options(
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
        "INT": tl.int32 if reach < 2**31 else tl.int64,  # of offsets within a plane; where planes begin takes 64 bits
        "TILE": TILE,
        "enable_fp_fusion": False,  # a fused multiplication would settle ties of nearest otherwise than the reference
    }


@triton.jit
def _pixels(table, ends, obj, INT: tl.constexpr, TILE: tl.constexpr):
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
def _from_centre(frame, x, y):
    """The centres of pixels, counted from that of their box."""
    dst_x, dst_y = (tl.load(frame + 8) + tl.load(frame + 10)) / 2, (tl.load(frame + 9) + tl.load(frame + 11)) / 2
    return (x.to(dst_x.dtype) + 0.5) - dst_x, (y.to(dst_y.dtype) + 0.5) - dst_y


@triton.jit
def _share(low, high, position):
    """The share of a pixel between two edges along one axis, and its derivatives in both."""
    before_stop, after_start = high - position, position + 1 - low
    share = tl.minimum(tl.maximum(before_stop, 0.0), 1.0) + tl.minimum(tl.maximum(after_start, 0.0), 1.0) - 1
    of_low = tl.where((after_start >= 0) & (after_start <= 1), -1.0, 0.0)
    of_high = tl.where((before_stop >= 0) & (before_stop <= 1), 1.0, 0.0)
    return share, of_low, of_high


@triton.jit
def _fold(position, low, high, ZEROS: tl.constexpr, REFLECTION: tl.constexpr, EDGE: tl.constexpr):
    """Positions brought back by the padding mode, and the derivative of that."""
    slope = tl.where(tl.abs(position) < float("inf"), 1.0, 0.0)
    position = tl.where(position == position, position, 0.0)
    if REFLECTION:
        # There is no exact remainder here. Where this one is off, a whole pixel is less than the last bit.
        position = tl.minimum(tl.maximum(position, -1e30), 1e30)
        mirror = low - EDGE
        span = high - low + 2 * EDGE
        period = 2 * tl.maximum(span, 1.0)
        beyond = position - mirror
        turns = tl.floor(tl.div_rn(beyond, period) if beyond.dtype == tl.float32 else beyond / period)
        turn = beyond - turns * period
        turn = tl.where(turn < 0, turn + period, turn)  # the quotient was rounded up to a whole number
        position = mirror + span - tl.abs(turn - span)
        slope = tl.where(turn > span, -slope, tl.where(turn < span, slope, 0.0))
    if ZEROS:
        low, high = low - 2, high + 1
    slope = tl.where((position >= low) & (position <= high), slope, 0.0)
    return tl.minimum(tl.maximum(position, low), high), slope


@triton.jit
def _taps(
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
def _positions(frame, dx, dy):
    """Where pixels are read, pixel centres at whole numbers."""
    qx = (tl.load(frame) * dx + tl.load(frame + 1) * dy + tl.load(frame + 2)) + tl.load(frame + 6) - 0.5
    qy = (tl.load(frame + 3) * dx + tl.load(frame + 4) * dy + tl.load(frame + 5)) + tl.load(frame + 7) - 0.5
    return qx, qy


@triton.jit
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
    images,
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
        start, within, valid, x, y = _pixels(table, ends, obj, INT, TILE)
        frame, read = frames + obj * 12, reads + obj * 7
        dx, dy = _from_centre(frame, x, y)
        qx, qy = _positions(frame, dx, dy)
        x0, x1, wx0, wx1, has_x0, has_x1, _ = _taps(qx, read + 1, width, NEAREST, ZEROS, REFLECTION, EDGE, INT)
        y0, y1, wy0, wy1, has_y0, has_y1, _ = _taps(qy, read + 2, height, NEAREST, ZEROS, REFLECTION, EDGE, INT)
        has_x0, has_x1 = has_x0 & valid, has_x1 & valid
        x0, x1, y0, y1 = x0 * stride_x, x1 * stride_x, y0 * stride_y, y1 * stride_y
        share = tl.zeros_like(wx0) + 1
        if COVERED:
            share = _share(tl.load(frame + 8), tl.load(frame + 10), x.to(qx.dtype))[0]
            share *= _share(tl.load(frame + 9), tl.load(frame + 11), y.to(qx.dtype))[0]
        plane, out = source + tl.load(read) * stride_image, values + start
        for _ in range(channels):
            value = wy0 * wx0 * _texel(plane, y0 + x0, has_y0 & has_x0, qx.dtype)
            if not NEAREST:
                value += wy0 * wx1 * _texel(plane, y0 + x1, has_y0 & has_x1, qx.dtype)
                value += wy1 * wx0 * _texel(plane, y1 + x0, has_y1 & has_x0, qx.dtype)
                value += wy1 * wx1 * _texel(plane, y1 + x1, has_y1 & has_x1, qx.dtype)
            tl.store(out + within, share * value, mask=valid)
            plane += stride_channel
            out += total
        if COVERED:
            if TRANSPARENT:
                share *= wy0 * wx0 + wy0 * wx1 + wy1 * wx0 + wy1 * wx1
            tl.store(coverage + start + within, share, mask=valid)


@triton.jit
def _texel(plane, offset, there, DTYPE: tl.constexpr):
    """Zero where it is not there: a weight of 0 would not do, since what stands there may be NaN."""
    return tl.load(plane + offset, mask=there, other=0.0).to(DTYPE)


@triton.jit
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
    images,
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
        start, within, valid, x, y = _pixels(table, ends, obj, INT, TILE)
        frame, read = frames + obj * 12, reads + obj * 7
        dx, dy = _from_centre(frame, x, y)
        qx, qy = _positions(frame, dx, dy)
        x0, x1, wx0, wx1, has_x0, has_x1, slope_x = _taps(qx, read + 1, width, NEAREST, ZEROS, REFLECTION, EDGE, INT)
        y0, y1, wy0, wy1, has_y0, has_y1, slope_y = _taps(qy, read + 2, height, NEAREST, ZEROS, REFLECTION, EDGE, INT)
        has_x0, has_x1 = has_x0 & valid, has_x1 & valid
        share_x, low_x, high_x = _share(tl.load(frame + 8), tl.load(frame + 10), x.to(qx.dtype))
        share_y, low_y, high_y = _share(tl.load(frame + 9), tl.load(frame + 11), y.to(qx.dtype))
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
                    of_00 += g * _texel(plane, y0 * stride_y + x0 * stride_x, has_y0 & has_x0, qx.dtype)
                    if not NEAREST:
                        of_01 += g * _texel(plane, y0 * stride_y + x1 * stride_x, has_y0 & has_x1, qx.dtype)
                        of_10 += g * _texel(plane, y1 * stride_y + x0 * stride_x, has_y1 & has_x0, qx.dtype)
                        of_11 += g * _texel(plane, y1 * stride_y + x1 * stride_x, has_y1 & has_x1, qx.dtype)
                if OF_SOURCE:
                    g *= share
                    _add(grad_plane, y0 * width + x0, wy0 * wx0 * g, has_y0 & has_x0)
                    if not NEAREST:
                        _add(grad_plane, y0 * width + x1, wy0 * wx1 * g, has_y0 & has_x1)
                        _add(grad_plane, y1 * width + x0, wy1 * wx0 * g, has_y1 & has_x0)
                        _add(grad_plane, y1 * width + x1, wy1 * wx1 * g, has_y1 & has_x1)
                plane += stride_channel
                grad += total
                grad_plane += height * width

        if OF_FRAMES:
            out = sums + tl.program_id(0) * 12
            of_x, of_y = tl.zeros_like(wx0), tl.zeros_like(wx0)
            if not NEAREST:
                of_x = tl.where(has_x1, wy0 * of_01 + wy1 * of_11, 0.0) - tl.where(has_x0, wy0 * of_00 + wy1 * of_10, 0.0)
                of_y = tl.where(has_y1, wx0 * of_10 + wx1 * of_11, 0.0) - tl.where(has_y0, wx0 * of_00 + wx1 * of_01, 0.0)
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


@triton.jit
def _add(plane, offset, value, there):
    tl.atomic_add(plane + offset, value, mask=there, sem="relaxed")
