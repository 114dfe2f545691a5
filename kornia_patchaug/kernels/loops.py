"""The loops of the CPU kernels, compiled by numba: each does one task of the work, without the interpreter's lock.

Pictures, values and coverage are flat and contiguous; ``frames``, ``reads`` and ``table`` are as ``reference.py`` has
them. No fast-math: where a pixel is tested and where it is read, its position must be the same number. What adds up is
added in an order that no division into tasks changes, so that the bits do not depend on the number of threads.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

ZEROS, BORDER, REFLECTION = 0, 1, 2
ABSENT = -(1 << 40)  # no row or column, counted from any origin
TILE = 128  # columns done at a time, so that the source rows which they read stay in the first-level cache
AHEAD = 8  # rows: what one reads is asked for while those before it are computed
LINE = 16  # pixels in a cache line, of float32

# What a task needs to know about its object: the columns of frames and reads, the centre of its box, the readable
# pixels, and where its origin lies in the flat source.
Frame = namedtuple("Frame", "a b tx c d ty sx sy x1 y1 x2 y2 cx cy ox oy lx ly hx hy fx fy ex ey base")
# What all tasks share: sizes of the source, P, and how to read.
Job = namedtuple("Job", "channels height width total nearest padding edge covered transparent")


def compiled(function):
    """Compile at the first call for each dtype, and keep the result on disk where there is a place for it."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(function, **options)


@intrinsic
def prefetch(typing, array, index):
    """Ask for the cache line of ``array[index]``; any index will do, as nothing is read."""

    def generate(context, builder, signature, arguments):
        pointer = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        int32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, int32, int32, int32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(pointer, [arguments[1]]), byte)
        builder.call(function, [address, int32(0), int32(3), int32(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@compiled
def frame_of(n, frames, reads, job):
    T, f, r = frames.dtype.type, frames[n], reads[n]
    first_x, last_x = max(r[3], -r[1]), min(r[5], job.width - 1 - r[1])
    first_y, last_y = max(r[4], -r[2]), min(r[6], job.height - 1 - r[2])
    half = T(0.5)
    cx, cy = (f[8] + f[10]) * half, (f[9] + f[11]) * half
    base = r[0] * (job.channels * job.height * job.width) + r[2] * job.width + r[1]
    ends = f[8], f[9], f[10], f[11], cx, cy
    place = f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]
    return Frame(*place, *ends, r[1], r[2], r[3], r[4], r[5], r[6], first_x, first_y, last_x, last_y, base)


@compiled
def start_of_row(T, f, y):
    """The positions that a row's pixels are read at are ``a * dx`` and ``c * dx`` further than these."""
    dy = T(y) + T(0.5) - f.cy
    return f.b * dy + f.tx + f.sx - T(0.5), f.d * dy + f.ty + f.sy - T(0.5), dy


@compiled
def narrow(begin, end, slope, start, low, high):
    """Where in ``begin .. end`` about ``low <= start + slope * x < high``."""
    if slope == 0:
        return (begin, end) if low <= start < high else (begin, begin)
    one, other = (low - start) / slope, (high - start) / slope
    one, other = min(one, other), max(one, other)
    if not (one < end and other > begin):  # nor for what is not a number
        return begin, begin
    return max(begin, int(np.ceil(max(one, begin)))), min(end, int(np.floor(min(other, end))) + 1)


@compiled
def interior(T, f, begin, end, qx, qy):
    """The columns of a row all of whose taps can be read, so that they need no care for borders."""
    off = T(0.5) - f.cx
    x0, x1 = narrow(begin, end, f.a, qx + f.a * off, f.fx, f.ex)
    x0, x1 = narrow(x0, x1, f.c, qy + f.c * off, f.fy, f.ey)
    while x0 < x1 and not readable(T, f, x0, qx, qy):  # positions are monotonous along a row, rounding included
        x0 += 1
    while x0 < x1 and not readable(T, f, x1 - 1, qx, qy):
        x1 -= 1
    return x0, x1


@compiled
def readable(T, f, x, qx, qy):
    dx = T(x) + T(0.5) - f.cx
    x, y = f.a * dx + qx, f.c * dx + qy
    return f.fx <= x < f.ex and f.fy <= y < f.ey


@compiled
def fold(T, position, low, high, padding, edge):
    """``reference._fold``, and its derivative."""
    slope = T(1)
    if not np.isfinite(position):
        slope, far = T(0), T(np.finfo(T).max)
        position = T(0) if position != position else (far if position > 0 else -far)
    first, last = T(low), T(high)
    if padding == REFLECTION:
        mirror, span = first - edge, last - first + T(2) * edge
        turn = (position - mirror) % (T(2) * max(span, T(1)))
        position = mirror + span - abs(turn - span)
        slope = slope if turn < span else (-slope if turn > span else T(0))
    elif padding == ZEROS:
        first, last = first - T(2), last + T(1)
    if position < first:
        return first, T(0)
    return (last, T(0)) if position > last else (position, slope)


@compiled
def taps(T, position, low, high, first, last, job):
    """The one or two pixels read along one axis, their weights, and how the position between them moves."""
    position, slope = fold(T, position, low, high, job.padding, T(job.edge))
    if job.nearest:
        one = int(np.rint(position - T(low))) + low
        other, fraction, slope = ABSENT, T(0), T(0)
    else:
        below = np.floor(position)
        one, fraction = int(below), position - below
        other = one + 1
    weight, other_weight = T(1) - fraction, fraction
    if job.padding != ZEROS:
        one, other = min(max(one, first), last), min(max(other, first), last)
    if one < first or one > last:
        one, weight = ABSENT, T(0)
    if job.nearest or other < first or other > last:
        other, other_weight = ABSENT, T(0)
    return one, other, weight, other_weight, slope


@compiled
def share(T, x, low, high):
    """How much of pixel x lies between low and high, and its derivatives by both, as ``windows.coverage`` has them."""
    before_stop, after_start = high - T(x), T(x) + T(1) - low
    by_high, by_low = T(0) <= before_stop <= T(1), T(0) <= after_start <= T(1)
    covered = min(max(before_stop, T(0)), T(1)) + min(max(after_start, T(0)), T(1)) - T(1)
    return covered, (T(-1) if by_low else T(0)), (T(1) if by_high else T(0))


@compiled
def texel(T, source, plane, row, column, width):
    return T(0) if row == ABSENT or column == ABSENT else source[plane + row * width + column]


@compiled
def sample(begin, end, *rest):
    for k in range(begin, end):
        sample_task(k, *rest)


@compiled
def sample_task(k, tasks, source, frames, reads, table, job, values, coverage):
    T = frames.dtype.type
    n, y0, y1 = tasks[k]
    f = frame_of(n, frames, reads, job)
    columns, start = table[n, 3], table[n, 9]
    whole0, whole1 = 0, columns  # the columns that lie in the box as a whole
    if job.covered:
        whole0, whole1 = max(0, int(np.ceil(f.x1))), min(columns, int(np.floor(f.x2)))
    width, area, total = np.uint64(job.width), np.uint64(job.height * job.width), np.uint64(job.total)
    channels = job.channels
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(y0 - AHEAD, y1):
            if y + AHEAD < y1:
                qx, qy, _ = start_of_row(T, f, y + AHEAD)
                for x in range(left, right + LINE - 1, LINE):
                    dx = T(min(x, right - 1)) + T(0.5) - f.cx
                    column = min(max(f.a * dx + qx, T(f.fx)), T(f.ex))
                    row = min(max(f.c * dx + qy, T(f.fy)), T(f.ey))
                    for channel in range(channels):
                        prefetch(source, f.base + (channel * job.height + int(row)) * job.width + int(column))
            if y < y0:
                continue
            qx, qy, _ = start_of_row(T, f, y)
            at = start + y * columns
            x0, x1 = right, right
            if not job.covered or (y >= f.y1 and y + 1 <= f.y2):
                x0, x1 = interior(T, f, max(left, whole0), min(right, whole1), qx, qy)
                if x0 >= x1:
                    x0, x1 = right, right
            for x in range(left, x0):
                sample_pixel(T, f, x, y, qx, qy, at + x, source, job, values, coverage)
            for x in range(x1, right):
                sample_pixel(T, f, x, y, qx, qy, at + x, source, job, values, coverage)
            if job.covered:
                coverage[at + x0 : at + x1] = T(1)
            if job.nearest:
                for x in range(x0, x1):
                    dx = T(x) + T(0.5) - f.cx
                    column = int(np.rint(f.a * dx + qx - T(f.lx))) + f.lx
                    row = int(np.rint(f.c * dx + qy - T(f.ly))) + f.ly
                    for channel in range(channels):
                        texels = f.base + (channel * job.height + row) * job.width
                        values[channel * job.total + at + x] = source[texels + column]
                continue
            for x in range(x0, x1):
                dx = T(x) + T(0.5) - f.cx
                px, py = f.a * dx + qx, f.c * dx + qy
                column, row = np.floor(px), np.floor(py)
                wx, wy = px - column, py - row
                i = np.uint64(f.base + int(row) * job.width + int(column))
                o = np.uint64(at + x)
                for _ in range(channels):
                    above = source[i] + wx * (source[i + np.uint64(1)] - source[i])
                    below = source[i + width] + wx * (source[i + width + np.uint64(1)] - source[i + width])
                    values[o] = above + wy * (below - above)
                    i += area
                    o += total


@compiled
def sample_pixel(T, f, x, y, qx, qy, at, source, job, values, coverage):
    """One pixel, with all the care that borders and edges need."""
    dx = T(x) + T(0.5) - f.cx
    i0, i1, u0, u1, _ = taps(T, f.a * dx + qx, f.lx, f.hx, f.fx, f.ex, job)
    j0, j1, v0, v1, _ = taps(T, f.c * dx + qy, f.ly, f.hy, f.fy, f.ey, job)
    part = T(1)
    if job.covered:
        part = share(T, x, f.x1, f.x2)[0] * share(T, y, f.y1, f.y2)[0]
        coverage[at] = part * (u0 + u1) * (v0 + v1) if job.transparent else part
    for channel in range(job.channels):
        plane = f.base + channel * job.height * job.width
        above = u0 * texel(T, source, plane, j0, i0, job.width) + u1 * texel(T, source, plane, j0, i1, job.width)
        below = u0 * texel(T, source, plane, j1, i0, job.width) + u1 * texel(T, source, plane, j1, i1, job.width)
        values[channel * job.total + at] = part * (v0 * above + v1 * below)


@compiled
def sample_backward_frames(begin, end, *rest):
    for k in range(begin, end):
        sample_backward_frames_task(k, *rest)


@compiled
def sample_backward_frames_task(k, tasks, source, frames, reads, table, job, grad_values, grad_coverage, partial):
    """What a task's pixels add to the gradient of its object's row of frames: ``partial[k] (12,)``, in float64."""
    T = frames.dtype.type
    n, y0, y1 = tasks[k]
    f = frame_of(n, frames, reads, job)
    columns, start = table[n, 3], table[n, 9]
    whole0, whole1 = 0, columns  # the columns that lie in the box as a whole, and stay so if an edge moves a little
    if job.covered:
        whole0, whole1 = max(0, int(np.floor(f.x1)) + 1), min(columns, int(np.ceil(f.x2)) - 1)
    width, area, total = np.uint64(job.width), np.uint64(job.height * job.width), np.uint64(job.total)
    add = partial[k]
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(y0, y1):
            qx, qy, dy = start_of_row(T, f, y)
            at = start + y * columns
            x0, x1 = right, right
            if not job.covered or (y > f.y1 and y + 1 < f.y2):
                x0, x1 = interior(T, f, max(left, whole0), min(right, whole1), qx, qy)
                if x0 >= x1:
                    x0, x1 = right, right
            for x in range(left, x0):
                frames_pixel(T, f, x, y, qx, qy, dy, at + x, source, job, grad_values, grad_coverage, add)
            for x in range(x1, right):
                frames_pixel(T, f, x, y, qx, qy, dy, at + x, source, job, grad_values, grad_coverage, add)
            if job.nearest:
                continue
            sum_x, sum_x_dx, sum_y, sum_y_dx = T(0), T(0), T(0), T(0)
            for x in range(x0, x1):
                dx = T(x) + T(0.5) - f.cx
                px, py = f.a * dx + qx, f.c * dx + qy
                column, row = np.floor(px), np.floor(py)
                wx, wy = px - column, py - row
                i = np.uint64(f.base + int(row) * job.width + int(column))
                o = np.uint64(at + x)
                by_x, by_y = T(0), T(0)
                for _ in range(job.channels):
                    one, right_of = source[i], source[i + np.uint64(1)] - source[i]
                    two, right_of_two = source[i + width], source[i + width + np.uint64(1)] - source[i + width]
                    by_x += grad_values[o] * (right_of + wy * (right_of_two - right_of))
                    by_y += grad_values[o] * (two + wx * right_of_two - one - wx * right_of)
                    i += area
                    o += total
                sum_x += by_x
                sum_x_dx += by_x * dx
                sum_y += by_y
                sum_y_dx += by_y * dx
            add_position(f, sum_x, sum_x_dx, sum_y, sum_y_dx, dy, add)


@compiled
def add_position(f, sum_x, sum_x_dx, sum_y, sum_y_dx, dy, add):
    """Gradients of positions to those of the matrix, of the source's centre, and of the box through its own centre."""
    add[0] += sum_x_dx
    add[1] += sum_x * dy
    add[2] += sum_x
    add[3] += sum_y_dx
    add[4] += sum_y * dy
    add[5] += sum_y
    add[6] += sum_x
    add[7] += sum_y
    half_x, half_y = (f.a * sum_x + f.c * sum_y) / 2, (f.b * sum_x + f.d * sum_y) / 2
    add[8] -= half_x
    add[9] -= half_y
    add[10] -= half_x
    add[11] -= half_y


@compiled
def frames_pixel(T, f, x, y, qx, qy, dy, at, source, job, grad_values, grad_coverage, add):
    dx = T(x) + T(0.5) - f.cx
    i0, i1, u0, u1, slope_x = taps(T, f.a * dx + qx, f.lx, f.hx, f.fx, f.ex, job)
    j0, j1, v0, v1, slope_y = taps(T, f.c * dx + qy, f.ly, f.hy, f.fy, f.ey, job)
    part_x, part_y = T(1), T(1)
    x_by_low, x_by_high, y_by_low, y_by_high = T(0), T(0), T(0), T(0)
    if job.covered:
        part_x, x_by_low, x_by_high = share(T, x, f.x1, f.x2)
        part_y, y_by_low, y_by_high = share(T, y, f.y1, f.y2)
    part = part_x * part_y
    by_x, by_y, by_part = T(0), T(0), T(0)
    for channel in range(job.channels):
        grad = grad_values[channel * job.total + at]
        plane = f.base + channel * job.height * job.width
        t00, t01 = texel(T, source, plane, j0, i0, job.width), texel(T, source, plane, j0, i1, job.width)
        t10, t11 = texel(T, source, plane, j1, i0, job.width), texel(T, source, plane, j1, i1, job.width)
        by_x += grad * part * (v0 * (t01 - t00) + v1 * (t11 - t10))
        by_y += grad * part * (u0 * (t10 - t00) + u1 * (t11 - t01))
        by_part += grad * (v0 * (u0 * t00 + u1 * t01) + v1 * (u0 * t10 + u1 * t11))
    if len(grad_coverage):
        grad = grad_coverage[at]
        if job.transparent:
            by_part += grad * (u0 + u1) * (v0 + v1)
            by_x += grad * part * (v0 + v1) * (T(i1 != ABSENT) - T(i0 != ABSENT))
            by_y += grad * part * (u0 + u1) * (T(j1 != ABSENT) - T(j0 != ABSENT))
        else:
            by_part += grad
    by_x, by_y = by_x * slope_x, by_y * slope_y
    add_position(f, by_x, by_x * dx, by_y, by_y * dx, dy, add)
    add[8] += by_part * x_by_low * part_y
    add[9] += by_part * y_by_low * part_x
    add[10] += by_part * x_by_high * part_y
    add[11] += by_part * y_by_high * part_x


@compiled
def sample_backward_source(begin, end, *rest):
    for k in range(begin, end):
        sample_backward_source_task(k, *rest)


@compiled
def sample_backward_source_task(k, bands, order, first, frames, reads, table, job, grad_values, grad_source):
    """The gradient of a band of source rows: what every object that reads the picture adds to it, one after another."""
    T = frames.dtype.type
    picture, row0, row1 = bands[k]
    for channel in range(job.channels):
        plane = (picture * job.channels + channel) * job.height
        grad_source[(plane + row0) * job.width : (plane + row1) * job.width] = T(0)
    for n in order[first[picture] : first[picture + 1]]:
        f = frame_of(n, frames, reads, job)
        columns, rows, start = table[n, 3], table[n, 4], table[n, 9]
        top, stop = row0 - f.oy, row1 - f.oy  # the band as the object counts
        if columns == 0 or f.ey < top or f.fy >= stop:
            continue
        whole0, whole1 = 0, columns
        if job.covered:
            whole0, whole1 = max(0, int(np.ceil(f.x1))), min(columns, int(np.floor(f.x2)))
        for y in range(rows):
            qx, qy, _ = start_of_row(T, f, y)
            at = start + y * columns
            x0, x1 = columns, columns
            if not job.nearest and (not job.covered or (y >= f.y1 and y + 1 <= f.y2)):
                x0, x1 = interior(T, f, whole0, whole1, qx, qy)
                if x0 >= x1:
                    x0, x1 = columns, columns
            for x in range(x0):
                source_pixel(T, f, x, y, qx, qy, at + x, top, stop, job, grad_values, grad_source)
            # Half a pixel more on both sides, as rounding moves positions.
            near0, near1 = narrow(x0, x1, f.c, qy + f.c * (T(0.5) - f.cx), T(top) - T(1.5), T(stop) + T(0.5))
            for x in range(near0, near1):
                dx = T(x) + T(0.5) - f.cx
                px, py = f.a * dx + qx, f.c * dx + qy
                column, below = np.floor(px), np.floor(py)
                wx, wy, row = px - column, py - below, int(below)
                i = f.base + row * job.width + int(column)
                above_in, below_in = top <= row < stop, top <= row + 1 < stop
                for channel in range(job.channels):
                    grad = grad_values[channel * job.total + at + x]
                    o = np.uint64(i + channel * job.height * job.width)
                    if above_in:
                        grad_source[o] += grad * (T(1) - wx) * (T(1) - wy)
                        grad_source[o + np.uint64(1)] += grad * wx * (T(1) - wy)
                    if below_in:
                        o += np.uint64(job.width)
                        grad_source[o] += grad * (T(1) - wx) * wy
                        grad_source[o + np.uint64(1)] += grad * wx * wy
            for x in range(x1, columns):
                source_pixel(T, f, x, y, qx, qy, at + x, top, stop, job, grad_values, grad_source)


@compiled
def source_pixel(T, f, x, y, qx, qy, at, top, stop, job, grad_values, grad_source):
    dx = T(x) + T(0.5) - f.cx
    j0, j1, v0, v1, _ = taps(T, f.c * dx + qy, f.ly, f.hy, f.fy, f.ey, job)
    if not (top <= j0 < stop or top <= j1 < stop):
        return
    i0, i1, u0, u1, _ = taps(T, f.a * dx + qx, f.lx, f.hx, f.fx, f.ex, job)
    part = share(T, x, f.x1, f.x2)[0] * share(T, y, f.y1, f.y2)[0] if job.covered else T(1)
    for channel in range(job.channels):
        grad = grad_values[channel * job.total + at] * part
        for j, v in ((j0, v0), (j1, v1)):
            if j != ABSENT and top <= j < stop:
                row = f.base + (channel * job.height + j) * job.width
                if i0 != ABSENT:
                    grad_source[row + i0] += grad * u0 * v
                if i1 != ABSENT:
                    grad_source[row + i1] += grad * u1 * v


@compiled
def composite(begin, end, *rest):
    for k in range(begin, end):
        composite_task(k, *rest)


@compiled
def composite_task(k, bands, order, first, canvas, paint, opacity, table, job, out, under):
    """Copy a band of rows of one image, and paint what lies in it of each of its windows, in row order."""
    T = paint.dtype.type
    image, row0, row1 = bands[k]
    for channel in range(job.channels):
        plane = (image * job.channels + channel) * job.height
        begin, end = (plane + row0) * job.width, (plane + row1) * job.width
        out[begin:end] = canvas[begin:end]
    for n in order[first[image] : first[image + 1]]:
        x, y, columns, rows, start = table[n, 1], table[n, 2], table[n, 3], table[n, 4], table[n, 9]
        for row in range(max(row0, y), min(row1, y + rows)):
            at = start + (row - y) * columns
            through = opacity[at : at + columns]
            for channel in range(job.channels):
                begin = ((image * job.channels + channel) * job.height + row) * job.width + x
                line = out[begin : begin + columns]
                over = paint[channel * job.total + at : channel * job.total + at + columns]
                if len(under):
                    under[channel * job.total + at : channel * job.total + at + columns] = line
                for i in range(columns):
                    line[i] = (T(1) - through[i]) * line[i] + over[i]


@compiled
def composite_backward(begin, end, *rest):
    for k in range(begin, end):
        composite_backward_task(k, *rest)


@compiled
def composite_backward_task(k, bands, order, first, grad, opacity, under, table, job, out, grad_paint, grad_opacity):
    """Copy a band of rows of the gradient, and take each window off it again, the last one first."""
    T = opacity.dtype.type
    image, row0, row1 = bands[k]
    for channel in range(job.channels):
        plane = (image * job.channels + channel) * job.height
        begin, end = (plane + row0) * job.width, (plane + row1) * job.width
        out[begin:end] = grad[begin:end]
    for n in order[first[image] : first[image + 1]][::-1]:
        x, y, columns, rows, start = table[n, 1], table[n, 2], table[n, 3], table[n, 4], table[n, 9]
        for row in range(max(row0, y), min(row1, y + rows)):
            at = start + (row - y) * columns
            through = opacity[at : at + columns]
            if len(under):
                grad_opacity[at : at + columns] = T(0)
            for channel in range(job.channels):
                begin = ((image * job.channels + channel) * job.height + row) * job.width + x
                line = out[begin : begin + columns]
                flat = channel * job.total + at
                grad_paint[flat : flat + columns] = line
                if len(under):
                    by_opacity, below = grad_opacity[at : at + columns], under[flat : flat + columns]
                    for i in range(columns):
                        by_opacity[i] -= line[i] * below[i]
                for i in range(columns):
                    line[i] *= T(1) - through[i]
