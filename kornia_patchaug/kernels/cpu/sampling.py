"""The loops of the CPU kernels, compiled by numba: each does one task of the work, without the interpreter's lock.

Pictures, values and coverage are flat and contiguous; ``frames``, ``reads`` and ``table`` are as ``reference.py`` has
them. No fast-math for positions: where a pixel is tested and where it is read, its position must be the same number.
What adds up is added in an order that no division into tasks changes, so that the bits do not depend on the number of
threads.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kornia_patchaug.kernels.cpu.jit import compiled, fused

ZEROS, BORDER, REFLECTION = 0, 1, 2
ABSENT = -(1 << 40)  # no row or column, counted from any origin
TILE = 128  # columns done at a time, so that the source rows which they read stay in the first-level cache
BLOCK = 1 << 12  # pixels sampled at a time where they are painted at once: of three channels, 64 KB with coverage
AHEAD = 8  # rows: what one reads is asked for while those before it are computed
LINE = 16  # pixels in a cache line, of float32
FAR = 1 << 18  # pixels; objects that read from further are taken pixel by pixel

# What a task needs to know about its object: the columns of frames and reads, the centre of its box, the readable
# pixels, 1 / a and 1 / c, whether it is tame, and where its origin lies in the flat source.
Frame = namedtuple("Frame", "a b tx c d ty sx sy x1 y1 x2 y2 cx cy fx fy ex ey ia ic tame ox oy lx ly hx hy base")


class Job(NamedTuple):
    """What all tasks share: sizes of the source, P, and how to read."""

    channels: int
    height: int
    width: int
    total: int
    nearest: bool
    padding: int
    edge: float
    covered: bool
    transparent: bool
    edges: bool


def instruction(generator: Callable[..., Any]) -> Callable[..., None]:
    """An intrinsic, with the type that it has in loops: they leave out the first argument."""
    return cast("Callable[..., None]", intrinsic(generator))


@instruction
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


@instruction
def one_by_one(typing):
    """Nothing; but a loop with it is not vectorised: gathering the texels of channels is slower than loading them."""

    def generate(context, builder, signature, arguments):
        builder.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], side_effect=True)
        return context.get_dummy_value()

    return types.void(), generate


@compiled
def frame_of(n, frames, reads, job):
    """What ``Frame`` lists, of object n. fx fy ex ey: first and last pixel that can be read."""
    real, f, r = frames.dtype.type, frames[n], reads[n]
    half = real(0.5)
    centre = (f[8] + f[10]) * half, (f[9] + f[11]) * half
    first = real(max(r[3], -r[1])), real(max(r[4], -r[2]))
    last = real(min(r[5], job.width - 1 - r[1])), real(min(r[6], job.height - 1 - r[2]))
    # Tame: of a size for which rounding moves no position by an eighth of a pixel.
    steepest, side = max(abs(f[0]), abs(f[1]), abs(f[3]), abs(f[4])), max(f[10] - f[8], f[11] - f[9])
    tame = steepest * side < FAR and max(abs(f[2]), abs(f[5]), abs(f[6]), abs(f[7])) < FAR
    base = r[0] * (job.channels * job.height * job.width) + r[2] * job.width + r[1]
    moves = f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11]
    inverses = real(1) / f[0], real(1) / f[3]
    return Frame(*moves, *centre, *first, *last, *inverses, tame, r[1], r[2], r[3], r[4], r[5], r[6], base)


@compiled
def start_of_row(real, f, y):
    """A row's pixels are read at ``a * dx`` and ``c * dx`` further than these; and the row's dy."""
    dy = real(y) + real(0.5) - f.cy
    return f.b * dy + f.tx + f.sx - real(0.5), f.d * dy + f.ty + f.sy - real(0.5), dy


@compiled
def narrow(real, begin, end, inverse, start, low, high):
    """Where in ``begin .. end`` about ``low <= start + x / inverse < high``."""
    if not np.isfinite(inverse):
        return (begin, end) if low <= start < high else (begin, begin)
    one, other = (low - start) * inverse, (high - start) * inverse
    one, other = max(min(one, other), real(begin)), min(max(one, other), real(end))
    if not one <= other:  # nor for what is not a number
        return begin, begin
    return int(np.ceil(one)), min(end, int(other) + 1)


@compiled
def segments(real, f, left, right, whole0, whole1, qx, qy, job):
    """The columns ``left <= t0 <= x0 <= x1 <= t1 <= right`` of a row.

    From x0 to x1 every tap can be read and the pixel lies in the box as a whole (``whole0 .. whole1``): no care for
    borders is needed. Before t0 and from t1 on nothing can be read under ``zeros``.
    """
    t0, t1 = left, right
    if job.padding == ZEROS and f.tame:
        off, more = real(0.5) - f.cx, real(1.125)  # a pixel, and some, as rounding moves positions
        t0, t1 = narrow(real, t0, t1, f.ia, qx + f.a * off, f.fx - more, f.ex + more)
        t0, t1 = narrow(real, t0, t1, f.ic, qy + f.c * off, f.fy - more, f.ey + more)
    x0, x1 = max(t0, whole0), min(t1, whole1)
    if f.tame and x0 < x1:
        off = real(0.5) - f.cx
        x0, x1 = narrow(real, x0, x1, f.ia, qx + f.a * off, f.fx, f.ex)
        x0, x1 = narrow(real, x0, x1, f.ic, qy + f.c * off, f.fy, f.ey)
        while x0 < x1 and not readable(real, f, x0, qx, qy):  # positions are monotonous along a row, rounded too
            x0 += 1
        while x0 < x1 and not readable(real, f, x1 - 1, qx, qy):
            x1 -= 1
    return (t0, x0, x1, t1) if f.tame and x0 < x1 else (t0, t1, t1, t1)


@compiled
def readable(real, f, x, qx, qy):
    dx = real(x) + (real(0.5) - f.cx)
    px, py = f.a * dx + qx, f.c * dx + qy
    return f.fx <= px < f.ex and f.fy <= py < f.ey


@compiled
def fold(real, position, low, high, padding, edge):
    """``reference._fold``, and its derivative."""
    slope = real(1)
    if not np.isfinite(position):
        slope, far = real(0), real(np.finfo(real).max)
        position = real(0) if position != position else (far if position > 0 else -far)
    first, last = real(low), real(high)
    if padding == REFLECTION:
        mirror, span = first - edge, last - first + real(2) * edge
        turn = (position - mirror) % (real(2) * max(span, real(1)))
        position = mirror + span - abs(turn - span)
        slope = slope if turn < span else (-slope if turn > span else real(0))
    elif padding == ZEROS:
        first, last = first - real(2), last + real(1)
    if position < first:
        return first, real(0)
    return (last, real(0)) if position > last else (position, slope)


@compiled
def taps(real, position, low, high, first, last, job):
    """The one or two pixels read along one axis, their weights, and how the position between them moves."""
    position, slope = fold(real, position, low, high, job.padding, real(job.edge))
    first, last = int(first), int(last)
    if job.nearest:
        one = int(np.rint(position - real(low))) + low
        other, fraction, slope = ABSENT, real(0), real(0)
    else:
        below = np.floor(position)
        one, fraction = int(below), position - below
        other = one + 1
    weight, other_weight = real(1) - fraction, fraction
    if job.padding != ZEROS:
        one, other = min(max(one, first), last), min(max(other, first), last)
    if one < first or one > last:
        one, weight = ABSENT, real(0)
    if job.nearest or other < first or other > last:
        other, other_weight = ABSENT, real(0)
    return one, other, weight, other_weight, slope


@compiled
def share(real, x, low, high):
    """How much of pixel x lies between low and high, and its derivatives by both, as ``windows.coverage`` has them."""
    before_stop, after_start = high - real(x), real(x) + real(1) - low
    by_high, by_low = real(0) <= before_stop <= real(1), real(0) <= after_start <= real(1)
    covered = min(max(before_stop, real(0)), real(1)) + min(max(after_start, real(0)), real(1)) - real(1)
    return covered, (real(-1) if by_low else real(0)), (real(1) if by_high else real(0))


@compiled
def texel(real, source, plane, row, column, width):
    return real(0) if row == ABSENT or column == ABSENT else source[plane + row * width + column]


@compiled
def sample(begin, end, *rest):
    for k in range(begin, end):
        sample_task(k, *rest)


@compiled
def sample_task(k, tasks, source, frames, reads, table, job, values, coverage):
    n, y0, y1 = tasks[k]
    f, columns = frame_of(n, frames, reads, job), table[n, 3]
    sample_rows(f, y0, y1, columns, table[n, 9], columns, source, job, values, coverage)


@compiled
def sample_rows(f, y0, y1, columns, start, pitch, source, job, values, coverage):
    """Rows of an object's window, whose first pixel would lie at ``start`` of the flat buffers, each ``pitch`` further
    than the one above."""
    real = values.dtype.type
    whole0, whole1 = 0, columns  # the columns that lie in the box as a whole
    if job.covered:
        whole0, whole1 = max(0, int(np.ceil(f.x1))), min(columns, int(np.floor(f.x2)))
    channels, found = job.channels, scratch(real, min(columns, TILE))
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(y0 - AHEAD, y1):
            if y + AHEAD < y1:
                qx, qy, _ = start_of_row(real, f, y + AHEAD)
                for x in range(left, right + LINE - 1, LINE):
                    dx = real(min(x, right - 1)) + (real(0.5) - f.cx)
                    column, row = min(max(f.a * dx + qx, f.fx), f.ex), min(max(f.c * dx + qy, f.fy), f.ey)
                    for channel in range(channels):
                        prefetch(source, f.base + (channel * job.height + int(row)) * job.width + int(column))
            if y < y0:
                continue
            qx, qy, _ = start_of_row(real, f, y)
            at = start + y * pitch
            whole = not job.covered or (y >= f.y1 and y + 1 <= f.y2)
            t0, x0, x1, t1 = segments(real, f, left, right, whole0, whole1 if whole else 0, qx, qy, job)
            if job.covered:
                cover(real, f, left, right, y, coverage[at : at + columns])
            sample_ends(real, f, t0, x0, x1, t1, qx, qy, at, source, job, values, coverage)
            for begin, end in ((left, t0), (t1, right)):  # nothing to read
                for channel in range(channels):
                    values[channel * job.total + at + begin : channel * job.total + at + end] = real(0)
                if job.transparent:
                    coverage[at + begin : at + end] = real(0)
            if job.nearest:
                for x in range(x0, x1):
                    dx = real(x) + (real(0.5) - f.cx)
                    column = int(np.rint(f.a * dx + qx - real(f.lx))) + f.lx
                    row = int(np.rint(f.c * dx + qy - real(f.ly))) + f.ly
                    for channel in range(channels):
                        one_by_one()
                        texels = f.base + (channel * job.height + row) * job.width
                        values[channel * job.total + at + x] = source[texels + column]
                continue
            positions(real, f, x0, x1, qx, qy, job, found)
            bilinear(f, x1 - x0, at + x0, found, source, job, values)


@compiled
def scratch(real, columns):
    """What ``positions`` fills for so many pixels."""
    return np.empty(columns, np.int64), np.empty(columns, real), np.empty(columns, real)


@compiled
def positions(real, f, x0, x1, qx, qy, job, found):
    """Of columns x0 .. x1, all of whose taps can be read: the texel above left, counted from ``f.base``, and how far
    beyond its centre the position lies, across and down. In a loop of its own, as this one is vectorised."""
    texels, across, down = found
    off, width = real(0.5) - f.cx, job.width
    for k in range(x1 - x0):
        dx = real(x0 + k) + off
        px, py = f.a * dx + qx, f.c * dx + qy
        column, row = np.floor(px), np.floor(py)
        across[k], down[k] = px - column, py - row
        texels[k] = int(row) * width + int(column)


@compiled
def bilinear(f, count, at, found, source, job, values):
    """The first ``count`` of the positions, from flat pixel ``at`` on."""
    texels, across, down = found
    width, area, total = np.uint64(job.width), np.uint64(job.height * job.width), np.uint64(job.total)
    for k in range(count):
        wx, wy, i, o = across[k], down[k], np.uint64(f.base + texels[k]), np.uint64(at + k)
        one_by_one()
        if job.channels == 3:  # written out, as most pictures have three
            values[o] = between(source, i, width, wx, wy)
            values[o + total] = between(source, i + area, width, wx, wy)
            values[o + total + total] = between(source, i + area + area, width, wx, wy)
            continue
        for _ in range(job.channels):
            one_by_one()
            values[o] = between(source, i, width, wx, wy)
            i, o = i + area, o + total


@compiled
def between(source, i, width, wx, wy):
    """Bilinear interpolation from texel i, to its right, and below."""
    j, next_one = i + width, np.uint64(1)
    above, below = blend(source[i], source[i + next_one], wx), blend(source[j], source[j + next_one], wx)
    return blend(above, below, wy)


@fused
def blend(one, other, weight):
    return one + weight * (other - one)


@compiled
def cover(real, f, left, right, y, row):
    """The share in its box of each pixel of a row, as ``share`` has it; in a loop that can be vectorised."""
    if y >= f.y1 and y + 1 <= f.y2 and left >= f.x1 and right <= f.x2:
        row[left:right] = real(1)
        return
    part = share(real, y, f.y1, f.y2)[0]
    for x in range(left, right):
        before_stop, after_start = f.x2 - real(x), real(x) + real(1) - f.x1
        across = min(max(before_stop, real(0)), real(1)) + min(max(after_start, real(0)), real(1)) - real(1)
        row[x] = part * across


@compiled
def sample_ends(real, f, t0, x0, x1, t1, qx, qy, at, source, job, values, coverage):
    """What lies before x0 and from x1 on, with all the care that borders and edges need."""
    for end in range(t0, t1 - (x1 - x0)):
        x = end if end < x0 else end + (x1 - x0)
        dx = real(x) + (real(0.5) - f.cx)
        i0, i1, u0, u1, _ = taps(real, f.a * dx + qx, f.lx, f.hx, f.fx, f.ex, job)
        j0, j1, v0, v1, _ = taps(real, f.c * dx + qy, f.ly, f.hy, f.fy, f.ey, job)
        part = real(1)
        if job.covered:
            part = coverage[at + x]
            if job.transparent:
                coverage[at + x] = part * (u0 + u1) * (v0 + v1)
        for channel in range(job.channels):
            one_by_one()
            plane = f.base + channel * job.height * job.width
            above = u0 * texel(real, source, plane, j0, i0, job.width) + u1 * texel(
                real, source, plane, j0, i1, job.width
            )
            below = u0 * texel(real, source, plane, j1, i0, job.width) + u1 * texel(
                real, source, plane, j1, i1, job.width
            )
            values[channel * job.total + at + x] = part * (v0 * above + v1 * below)


@compiled
def paint(begin, end, *rest):
    for k in range(begin, end):
        paint_task(k, *rest)


@compiled
def paint_task(k, bands, order, first, canvas, frames, reads, table, job, out):
    """Copy a band of rows of one image, and sample and paint what lies in it of each window, in row order.

    ``job`` is that of values which take the place of the canvas. Where edges cover only a part, the values of a few
    rows at a time stay in the cache until they are painted.
    """
    image, row0, row1 = bands[k]
    for channel in range(job.channels):
        plane = (image * job.channels + channel) * job.height
        begin, end = (plane + row0) * job.width, (plane + row1) * job.width
        out[begin:end] = canvas[begin:end]
    room = max(BLOCK, job.width)
    values, coverage = np.empty(job.channels * room, frames.dtype), np.empty(room, frames.dtype)
    few = Job(job.channels, job.height, job.width, room, job.nearest, job.padding, job.edge, True, False, False)
    for n in order[first[image] : first[image + 1]]:
        left, top, columns, rows = table[n, 1], table[n, 2], table[n, 3], table[n, 4]
        y_begin, y_end = max(row0 - top, 0), min(row1 - top, rows)
        if columns == 0 or y_begin >= y_end:
            continue
        f, corner = frame_of(n, frames, reads, job), (image * job.channels * job.height + top) * job.width + left
        if f.x1 <= 0 and f.y1 <= 0 and f.x2 >= columns and f.y2 >= rows:  # it covers what was there, all of it
            sample_rows(f, y_begin, y_end, columns, corner, job.width, canvas, job, out, coverage)
            continue
        step = max(1, room // columns)
        for y0 in range(y_begin, y_end, step):
            y1 = min(y0 + step, y_end)
            sample_rows(f, y0, y1, columns, -y0 * columns, columns, canvas, few, values, coverage)
            paint_rows(y0, y1, columns, corner, few, values, coverage, out)


@compiled
def paint_rows(y0, y1, columns, corner, few, values, coverage, out):
    """Paint rows of a window, whose values begin with row y0, over a canvas that has its first pixel at ``corner``."""
    one = values.dtype.type(1)
    for y in range(y0, y1):
        at = (y - y0) * columns
        for channel in range(few.channels):
            begin, flat = corner + (channel * few.height + y) * few.width, channel * few.total + at
            line, over = out[begin : begin + columns], values[flat : flat + columns]
            for i in range(columns):
                keeps = one - coverage[at + i]
                line[i] = over[i] if keeps == 0 else keeps * line[i] + over[i]


@compiled
def paint_backward(begin, end, *rest):
    for k in range(begin, end):
        paint_backward_task(k, *rest)


@compiled
def paint_backward_task(k, bands, order, first, grad, frames, reads, table, job, out, grad_values):
    """Copy a band of rows of the gradient, and take each window off it again, the last one first."""
    real = frames.dtype.type
    image, row0, row1 = bands[k]
    for channel in range(job.channels):
        plane = (image * job.channels + channel) * job.height
        begin, end = (plane + row0) * job.width, (plane + row1) * job.width
        out[begin:end] = grad[begin:end]
    coverage = np.empty(job.width, frames.dtype)
    for n in order[first[image] : first[image + 1]][::-1]:
        left, top, columns, rows, start = table[n, 1], table[n, 2], table[n, 3], table[n, 4], table[n, 9]
        if top >= row1 or top + rows <= row0:
            continue
        f = frame_of(n, frames, reads, job)
        for y in range(max(row0 - top, 0), min(row1 - top, rows)):
            cover(real, f, 0, columns, y, coverage)
            for channel in range(job.channels):
                begin = ((image * job.channels + channel) * job.height + top + y) * job.width + left
                flat = channel * job.total + start + y * columns
                line = out[begin : begin + columns]
                grad_values[flat : flat + columns] = line
                for i in range(columns):
                    line[i] *= real(1) - coverage[i]


@compiled
def sweep(begin, end, *rest):
    for image in range(begin, end):
        sweep_image(image, *rest)


@compiled
def sweep_image(image, order, first, canvas, frames, reads, table, job, out, under):
    """Copy an image, and sample and paint its objects in row order, each from what those before it left: a window as a
    whole, as it may read what it paints.

    ``under``, where it is not empty, keeps what was under each painted pixel.
    """
    objects, size = order[first[image] : first[image + 1]], job.channels * job.height * job.width
    out[image * size : (image + 1) * size] = canvas[image * size : (image + 1) * size]
    room = 0
    for n in objects:
        room = max(room, table[n, 3] * table[n, 4])
    values, coverage = np.empty(job.channels * room, frames.dtype), np.empty(room, frames.dtype)
    few = Job(job.channels, job.height, job.width, room, job.nearest, job.padding, job.edge, True, False, False)
    for n in objects:
        left, top, columns, rows, start = table[n, 1], table[n, 2], table[n, 3], table[n, 4], table[n, 9]
        corner = image * size + top * job.width + left
        sample_rows(frame_of(n, frames, reads, few), 0, rows, columns, 0, columns, out, few, values, coverage)
        if len(under):
            for channel in range(job.channels):
                for y in range(rows):
                    begin, flat = corner + (channel * job.height + y) * job.width, channel * job.total + start
                    under[flat + y * columns : flat + (y + 1) * columns] = out[begin : begin + columns]
        paint_rows(0, rows, columns, corner, few, values, coverage, out)


@compiled
def sweep_backward(begin, end, *rest):
    for image in range(begin, end):
        sweep_backward_image(image, *rest)


@compiled
def sweep_backward_image(image, order, first, frames, reads, table, job, canvas, under, grad, sums):
    """Take an image's objects off again, the last one first.

    The painted canvas becomes what each of them read, and ``grad`` the gradient of that; ``sums (N, 12)``, where it is
    not empty, gets the gradient of frames. What was under a pixel makes room for the gradient of its value.
    """
    real = frames.dtype.type
    coverage, no_coverage = np.empty(job.width, frames.dtype), np.empty(0, frames.dtype)
    for n in order[first[image] : first[image + 1]][::-1]:
        left, top, columns, rows, start = table[n, 1], table[n, 2], table[n, 3], table[n, 4], table[n, 9]
        f = frame_of(n, frames, reads, job)
        for y in range(rows):
            cover(real, f, 0, columns, y, coverage)
            for channel in range(job.channels):
                begin = ((image * job.channels + channel) * job.height + top + y) * job.width + left
                flat = channel * job.total + start + y * columns
                line, by, below = canvas[begin : begin + columns], grad[begin : begin + columns], under[flat:]
                for i in range(columns):
                    line[i], below[i], by[i] = below[i], by[i], by[i] * (real(1) - coverage[i])
        if len(sums):
            rows_to_frames(f, 0, rows, columns, start, canvas, job, under, no_coverage, sums[n])
        window_to_source(f, image, 0, job.height, columns, rows, start, job, under, grad)


@compiled
def sample_backward_frames(begin, end, *rest):
    for k in range(begin, end):
        sample_backward_frames_task(k, *rest)


@compiled
def sample_backward_frames_task(k, tasks, source, frames, reads, table, job, grad_values, grad_coverage, partial):
    n, y0, y1 = tasks[k]
    f, columns, start = frame_of(n, frames, reads, job), table[n, 3], table[n, 9]
    rows_to_frames(f, y0, y1, columns, start, source, job, grad_values, grad_coverage, partial[k])


@compiled
def rows_to_frames(f, y0, y1, columns, start, source, job, grad_values, grad_coverage, add):
    """What rows of a window add to the gradient of the object's row of frames: ``add (12,)``, in float64."""
    real = source.dtype.type
    whole0, whole1 = 0, columns  # the columns that lie in the box as a whole, and if edges matter, stay so if they move
    if job.edges:
        whole0, whole1 = max(0, int(np.floor(f.x1)) + 1), min(columns, int(np.ceil(f.x2)) - 1)
    elif job.covered:
        whole0, whole1 = max(0, int(np.ceil(f.x1))), min(columns, int(np.floor(f.x2)))
    width, area, total = np.uint64(job.width), np.uint64(job.height * job.width), np.uint64(job.total)
    found = scratch(real, min(columns, TILE))
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(y0, y1):
            qx, qy, dy = start_of_row(real, f, y)
            at = start + y * columns
            inside = y > f.y1 and y + 1 < f.y2
            whole = inside if job.edges else (not job.covered or (y >= f.y1 and y + 1 <= f.y2))
            t0, x0, x1, t1 = segments(real, f, left, right, whole0, whole1 if whole else 0, qx, qy, job)
            if len(grad_coverage):
                t0, t1 = left, right  # where nothing is read, edges still cover
            frames_ends(real, f, t0, x0, x1, t1, y, qx, qy, dy, at, source, job, grad_values, grad_coverage, add)
            if job.nearest:
                continue
            positions(real, f, x0, x1, qx, qy, job, found)
            texels, across, down = found
            sum_x, sum_x_dx, sum_y, sum_y_dx = real(0), real(0), real(0), real(0)
            for k in range(x1 - x0):
                wx, wy, i, o = across[k], down[k], np.uint64(f.base + texels[k]), np.uint64(at + x0 + k)
                dx, by_x, by_y = real(x0 + k) + (real(0.5) - f.cx), real(0), real(0)
                for _ in range(job.channels):
                    one_by_one()
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
def frames_ends(real, f, t0, x0, x1, t1, y, qx, qy, dy, at, source, job, grad_values, grad_coverage, add):
    for end in range(t0, t1 - (x1 - x0)):
        x = end if end < x0 else end + (x1 - x0)
        dx = real(x) + (real(0.5) - f.cx)
        i0, i1, u0, u1, slope_x = taps(real, f.a * dx + qx, f.lx, f.hx, f.fx, f.ex, job)
        j0, j1, v0, v1, slope_y = taps(real, f.c * dx + qy, f.ly, f.hy, f.fy, f.ey, job)
        part_x, part_y = real(1), real(1)
        x_by_low, x_by_high, y_by_low, y_by_high = real(0), real(0), real(0), real(0)
        if job.covered:
            part_x, x_by_low, x_by_high = share(real, x, f.x1, f.x2)
            part_y, y_by_low, y_by_high = share(real, y, f.y1, f.y2)
        part = part_x * part_y
        by_x, by_y, by_part = real(0), real(0), real(0)
        for channel in range(job.channels):
            one_by_one()
            grad = grad_values[channel * job.total + at + x]
            plane = f.base + channel * job.height * job.width
            t00, t01 = texel(real, source, plane, j0, i0, job.width), texel(real, source, plane, j0, i1, job.width)
            t10, t11 = texel(real, source, plane, j1, i0, job.width), texel(real, source, plane, j1, i1, job.width)
            by_x += grad * part * (v0 * (t01 - t00) + v1 * (t11 - t10))
            by_y += grad * part * (u0 * (t10 - t00) + u1 * (t11 - t01))
            by_part += grad * (v0 * (u0 * t00 + u1 * t01) + v1 * (u0 * t10 + u1 * t11))
        if len(grad_coverage):
            grad = grad_coverage[at + x]
            if job.transparent:
                by_part += grad * (u0 + u1) * (v0 + v1)
                by_x += grad * part * (v0 + v1) * (real(i1 != ABSENT) - real(i0 != ABSENT))
                by_y += grad * part * (u0 + u1) * (real(j1 != ABSENT) - real(j0 != ABSENT))
            else:
                by_part += grad
        by_x, by_y = by_x * slope_x, by_y * slope_y
        add_position(f, by_x, by_x * dx, by_y, by_y * dx, dy, add)
        for side, slope, across in (
            (8, x_by_low, part_y),
            (9, y_by_low, part_x),
            (10, x_by_high, part_y),
            (11, y_by_high, part_x),
        ):
            if slope != 0:  # an edge that moves nothing has no part in what is not a number
                add[side] += by_part * slope * across


@compiled
def sample_backward_source(begin, end, *rest):
    for k in range(begin, end):
        sample_backward_source_task(k, *rest)


@compiled
def sample_backward_source_task(k, bands, order, first, frames, reads, table, job, grad_values, clear, grad_source):
    """The gradient of a band of source rows: what every object that reads the picture adds to it, one after another."""
    real = frames.dtype.type
    picture, row0, row1 = bands[k]
    if clear:
        for channel in range(job.channels):
            plane = (picture * job.channels + channel) * job.height
            grad_source[(plane + row0) * job.width : (plane + row1) * job.width] = real(0)
    for n in order[first[picture] : first[picture + 1]]:
        f, columns, rows, start = frame_of(n, frames, reads, job), table[n, 3], table[n, 4], table[n, 9]
        window_to_source(f, picture, row0, row1, columns, rows, start, job, grad_values, grad_source)


@compiled
def window_to_source(f, picture, row0, row1, columns, rows, start, job, grad_values, grad_source):
    """What an object's window adds to the gradient of rows row0 .. row1 of the picture that it reads."""
    real = grad_source.dtype.type
    top, stop = row0 - f.oy, row1 - f.oy  # the rows as the object counts
    if columns == 0 or f.ey < top or f.fy >= stop:
        return
    whole0, whole1 = 0, columns
    if job.covered:
        whole0, whole1 = max(0, int(np.ceil(f.x1))), min(columns, int(np.floor(f.x2)))
    first_texel = picture * job.channels * job.height * job.width + row0 * job.width
    end_texel, found = first_texel + (row1 - row0) * job.width, scratch(real, columns)
    for y in range(rows):
        qx, qy, _ = start_of_row(real, f, y)
        at = start + y * columns
        whole = not job.nearest and (not job.covered or (y >= f.y1 and y + 1 <= f.y2))
        t0, x0, x1, t1 = segments(real, f, 0, columns, whole0, whole1 if whole else 0, qx, qy, job)
        source_ends(real, f, t0, x0, y, qx, qy, at, top, stop, job, grad_values, grad_source)
        # Those that may touch the band, with half a pixel more on both sides, as rounding moves positions.
        low, high = real(top) - real(1.5), real(stop) + real(0.5)
        near0, near1 = narrow(real, x0, x1, f.ic, qy + f.c * (real(0.5) - f.cx), low, high)
        positions(real, f, near0, near1, qx, qy, job, found)
        texels, across, down = found
        for k in range(near1 - near0):
            wx, wy, i = across[k], down[k], f.base + texels[k]
            above_in, below_in = first_texel <= i < end_texel, first_texel <= i + job.width < end_texel
            for channel in range(job.channels):
                one_by_one()
                grad = grad_values[channel * job.total + at + near0 + k]
                o = np.uint64(i + channel * job.height * job.width)
                if above_in:
                    grad_source[o] += grad * (real(1) - wx) * (real(1) - wy)
                    grad_source[o + np.uint64(1)] += grad * wx * (real(1) - wy)
                if below_in:
                    o += np.uint64(job.width)
                    grad_source[o] += grad * (real(1) - wx) * wy
                    grad_source[o + np.uint64(1)] += grad * wx * wy
        source_ends(real, f, x1, t1, y, qx, qy, at, top, stop, job, grad_values, grad_source)


@compiled
def source_ends(real, f, begin, end, y, qx, qy, at, top, stop, job, grad_values, grad_source):
    for x in range(begin, end):
        dx = real(x) + (real(0.5) - f.cx)
        j0, j1, v0, v1, _ = taps(real, f.c * dx + qy, f.ly, f.hy, f.fy, f.ey, job)
        if not (top <= j0 < stop or top <= j1 < stop):
            continue
        i0, i1, u0, u1, _ = taps(real, f.a * dx + qx, f.lx, f.hx, f.fx, f.ex, job)
        part = share(real, x, f.x1, f.x2)[0] * share(real, y, f.y1, f.y2)[0] if job.covered else real(1)
        for channel in range(job.channels):
            one_by_one()
            grad = grad_values[channel * job.total + at + x] * part
            for j, v in ((j0, v0), (j1, v1)):
                if j != ABSENT and top <= j < stop:
                    row = f.base + (channel * job.height + j) * job.width
                    if i0 != ABSENT:
                        grad_source[row + i0] += grad * u0 * v
                    if i1 != ABSENT:
                        grad_source[row + i1] += grad * u1 * v
