"""The gradient of *sample* on the CPU: what each pixel's gradient adds to the source, to theta, boxes and opacity.

What adds up is added in an order that no division into tasks changes, so that the bits do not depend on the number of
threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.kernels.backend import Found, Gradients, Inputs, Maybe, Wanted
from kornia_patchaug.kernels.cpu.arrays import flat, fresh, job_of, objects_of, room_of
from kornia_patchaug.kernels.cpu.jit import fused, inner, jit, summed
from kornia_patchaug.kernels.cpu.rows import (
    ABSENT,
    NEAREST,
    OBJECT,
    PIXEL,
    TILE,
    Job,
    Objects,
    Room,
    X,
    all_ends,
    alpha,
    alphas,
    fill,
    frame_of,
    half_size,
    multiply_by_coverage,
    narrow,
    one_by_one,
    positions,
    ratio,
    row_of,
    share,
    taps_of,
    texels_of,
)
from kornia_patchaug.kernels.cpu.sample import AHEAD, NEAR, ask_for_row, piece_of, pieces_of
from kornia_patchaug.kernels.cpu.threads import spread, threads_for
from kornia_patchaug.plan import HEIGHT, ORIGIN_X, ORIGIN_Y, START, WIDTH, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kornia_patchaug.kernels.cpu.rows import Integers, Reals

    Groups = tuple[Integers, Integers]  # as `plan.Table.grouped` has them

SUMS = 13  # gradients with respect to an object's matrix (6), centre of what is read (2), box (4) and opacity


class Grads(NamedTuple):
    """Gradients with respect to what is sampled, and the one that they make with respect to opacity; flat."""

    values: Reals  # (C P)
    opacity: Reals  # (P,) to K A R, for what it hides alone; or, of differences, to K A in full; or (0,)
    of_pixels: Reals  # (P,) the gradient with respect to A of each pixel, to be filled; or (0,); may be ``opacity``
    differences: bool = False  # what was kept of each pixel is what was there less its value, not what was there


def sample_backward(
    grad_values: Maybe, grad_coverage: Maybe, inputs: Inputs, plan: Plan, wanted: Wanted, into: Maybe = None
) -> Gradients:
    """As `reference.sample_backward`."""
    source, objects, job = inputs.source, objects_of(inputs, plan), job_of(inputs.source, plan, wanted=wanted)
    boxes = objects.boxes
    values = np.zeros(job.channels * job.total, boxes.dtype) if grad_values is None else flat(grad_values, boxes)
    coverage = fresh(0, boxes) if grad_coverage is None else flat(grad_coverage, boxes)
    grads = Grads(values, coverage, fresh(0, boxes))
    of_source = None
    if wanted.source and into is not None:
        add_to_source(flat(into, boxes), False, plan.reads.grouped(len(source)), grads, objects, job)
    elif wanted.source:
        of_source = gradient_of_source(source, plan, grads, objects, job)
    return Gradients(of_source, *gradients_of_objects(source, plan, grads, objects, job, wanted)[:3])


def gradient_of_source(source: Tensor, plan: Plan, grads: Grads, objects: Objects, job: Job) -> Tensor:
    """The gradient with respect to the source, contiguous."""
    added = fresh(source.numel(), objects.boxes)
    add_to_source(added, True, plan.reads.grouped(len(source)), grads, objects, job)
    return torch.from_numpy(added).view(source.shape).to(source.dtype)


def add_to_source(target: Reals, clear: bool, readers: Groups, grads: Grads, objects: Objects, job: Job) -> None:
    """Add what the values read to the flat gradient of their source, which is cleared first or not.

    ``readers``: the objects by the picture that they read.
    """
    # As many bands as threads need to share them evenly, and no more: each band looks at all rows of its objects.
    threads, pictures = threads_for(job.total), max(len(readers[1]) - 1, 1)
    pieces = -(-4 * threads // pictures) if threads > 1 and pictures < 2 * threads else 1
    rows = -(-job.height // pieces)
    bands = (len(readers[1]) - 1) * -(-job.height // rows)
    arguments = rows, *readers, grads.values, objects, job, clear, target
    spread(source_loop, arguments, bands, job.total, lambda: room_of(target))


def gradients_of_objects(source: Tensor, plan: Plan, grads: Grads, objects: Objects, job: Job, wanted: Wanted) -> Found:
    """The gradients: theta (N, 2, 3), boxes (N, 4), source boxes (N, 4), A of objects (N, 1); None where not wanted."""
    if not (wanted.theta or wanted.boxes or wanted.source_boxes or wanted.opacity):
        return None, None, None, None
    sums = np.empty((len(objects.theta) * pieces_of(plan.windows), SUMS))
    arguments = flat(source, objects.boxes), objects, job, grads, sums
    spread(sums_loop, arguments, len(sums), job.total, lambda: room_of(objects.boxes))
    return finished(sums, objects, job, wanted)


def finished(sums: NDArray[np.float64], objects: Objects, job: Job, wanted: Wanted) -> Found:
    """The same of sums ``(N pieces, 13)``, those of each object one after another."""
    count, dtype = len(objects.theta), objects.boxes.dtype
    arrays = [np.empty((count, size), dtype) for size in (6, 4, 4, 1)]
    finish(sums, tuple(objects), tuple(job), *arrays)
    of_theta, of_boxes, of_source_boxes, of_opacity = arrays
    return (
        torch.from_numpy(of_theta.reshape(-1, 2, 3)) if wanted.theta else None,
        torch.from_numpy(of_boxes) if wanted.boxes else None,
        torch.from_numpy(of_source_boxes) if wanted.source_boxes else None,
        torch.from_numpy(of_opacity) if wanted.opacity and job.opacity_of == OBJECT else None,
    )


@jit
def sums_loop(begin, end, source, objects, job, grads, sums, room):
    """Each task: what a piece of one window adds to the sums of its object."""
    objects, job, grads, room = Objects(*objects), Job(*job), Grads(*grads), Room(*room)
    for k in range(begin, end):
        n, y0, y1 = piece_of(k, len(sums) // len(objects.windows), objects.windows)
        fill(sums[k], X, SUMS, 0.0)
        rows_to_sums(n, (y0, y1), source, objects, job, grads, sums[k], room)


@inner
def rows_to_sums(n, rows, source, objects, job, grads, add, room):
    """What some rows of a window add to the sums ``(13,)`` of object n, in float64; their ``grads.of_pixels``."""
    real, f, columns = room.shares.dtype.type, frame_of(n, objects, job), objects.windows[n, WIDTH]
    far = len(source) > NEAR
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(rows[0], rows[1]):
            if far and y + AHEAD < rows[1]:
                ask_for_row(real, f, y + AHEAD, left, right, source, f.base, job.channels, job)
            row, at = row_of(real, f, n, y, left, right, job.covered, job), objects.windows[n, START] + y * columns
            if job.nearest and job.of_opacity:
                row = all_ends(row)
            ends_to_sums(f, row, at, source, objects, job, grads, add)
            if grads.differences and job.of_opacity:
                opacity_to_sums(f, row, grads.opacity[at + left : at + right], job, add)
            if not job.nearest:
                positions(real, f, row, row.x0, row.x1, job, room)
                alphas(n, at + row.x0, row.x1 - row.x0, objects, job, room.shares)
                interior_to_sums(f, row, at, source, job, grads, add, room)


@inner
def interior_to_sums(f, row, at, source, job, grads, add, room):
    """The interior of a row: what its positions and values add."""
    real, values = grads.values.dtype.type, grads.values
    each = job.of_opacity and not grads.differences  # the value of each pixel counts
    k, one, count, first = np.uint64(0), np.uint64(1), np.uint64(row.x1 - row.x0), np.uint64(at + row.x0)
    width, area, total = np.uint64(job.width), np.uint64(job.height * job.width), np.uint64(job.total)
    flat = job.channels == 1 and not each  # a mask is, nearly everywhere: to move in it changes nothing
    sum_value = real(0)
    while k < count:
        i, o, weights = np.uint64(f.base + room.texels[k]), first + k, (room.across[k], room.down[k])
        by_x, by_y, by_value = real(0), real(0), real(0)
        if not (flat and source[i] == source[i + one] == source[i + width] == source[i + width + one]):
            for _ in range(job.channels):
                one_by_one()
                by_x, by_y, value = to_position(real, values[o], source, i, width, weights, by_x, by_y)
                if each:
                    by_value += value
                i, o = i + area, o + total
        if each:
            if len(grads.opacity):
                by_value += grads.opacity[first + k]
            if job.opacity_of == PIXEL:
                grads.of_pixels[first + k] = by_value
            sum_value += by_value
        room.across[k], room.down[k] = by_x, by_y  # in the place of the weights, which are not read any more
        k += one
    if job.beyond == NEAREST:
        hold_still(real, f, row, room.across, room.down, room)
    add_positions(real, f, row, room.across, room.down, add, room)
    add[12] += sum_value


@inner
def hold_still(real, f, row, by_x, by_y, room):
    """Set the gradients to 0 of positions that were brought back to what can be read: they do not move what is read."""
    begin, off = real(row.x0), real(0.5) - f.centre_x
    for k in range(row.x1 - row.x0):
        dx = (begin + room.ramp[k]) + off
        px, py = f.a * dx + row.x, f.c * dx + row.y
        by_x[k] = by_x[k] if f.first_x <= px < f.last_x else real(0)
        by_y[k] = by_y[k] if f.first_y <= py < f.last_y else real(0)


@summed
def add_positions(real, f, row, by_x, by_y, add, room):
    """Add the gradients with respect to the positions of an interior, of as much as its pixels are opaque."""
    sum_x, sum_x_dx, sum_y, sum_y_dx = real(0), real(0), real(0), real(0)
    begin, off = real(row.x0), real(0.5) - f.centre_x
    for k in range(row.x1 - row.x0):
        dx, x, y = (begin + room.ramp[k]) + off, by_x[k] * room.shares[k], by_y[k] * room.shares[k]
        sum_x += x
        sum_x_dx += x * dx
        sum_y += y
        sum_y_dx += y * dx
    add_position(f, sum_x, sum_x_dx, sum_y, sum_y_dx, row.dy, add)


@fused
def to_position(real, grad, source, i, width, weights, by_x, by_y):
    """by_x and by_y with what this value's gradient adds to them; and the value times its gradient."""
    j, one, (wx, wy) = i + width, np.uint64(1), weights
    here, below = real(source[i]), real(source[j])
    right, below_right = real(source[i + one]) - here, real(source[j + one]) - below
    below, twist = below - here, below_right - right
    down = below + wx * twist
    return by_x + grad * (right + wy * twist), by_y + grad * down, grad * (here + wx * right + wy * down)


@inner
def to_opacity(by_value, o, job, grads, part, reach, add):
    """The gradient with respect to the opacity A of flat pixel o, or what it adds to that of its object."""
    if len(grads.opacity):
        by_value += grads.opacity[o] * reach
    if job.opacity_of == PIXEL:
        grads.of_pixels[o] = by_value * part
    else:
        add[12] += by_value * part


@inner
def opacity_to_sums(f, row, grad, job, add):
    """Turn a row's gradient with respect to K A into that to A, in place, and add it to that of its object."""
    multiply_by_coverage(f, row, job, grad)
    if job.opacity_of == OBJECT:
        for i in range(len(grad)):
            add[12] += grad[i]


@inner
def add_position(f, sum_x, sum_x_dx, sum_y, sum_y_dx, dy, add):
    """Gradients with respect to positions to those of the matrix, of the centre of what is read, and of the box."""
    add[0] += sum_x_dx
    add[1] += sum_x * dy
    add[2] += sum_x
    add[3] += sum_y_dx
    add[4] += sum_y * dy
    add[5] += sum_y
    add[6] += sum_x
    add[7] += sum_y
    half_x, half_y = (f.a * sum_x + f.c * sum_y) / 2, (f.b * sum_x + f.d * sum_y) / 2
    add[8] -= half_x  # a box moves its centre, from which pixels count, by half of what an edge moves
    add[9] -= half_y
    add[10] -= half_x
    add[11] -= half_y


@inner
def ends_to_sums(f, row, at, source, objects, job, grads, add):
    """The columns of a row that are not its interior; also where nothing is read, as edges hide there, not by reach."""
    real = grads.values.dtype.type
    everywhere = job.of_boxes if grads.differences else len(grads.opacity) > 0 or job.of_opacity
    t0, t1 = (row.left, row.right) if everywhere and not job.by_reach else (row.t0, row.t1)
    if job.by_reach and job.of_opacity and job.opacity_of == PIXEL:  # where nothing is read, opacity shows nothing
        fill(grads.of_pixels, at + row.left, at + t0, real(0))
        fill(grads.of_pixels, at + t1, at + row.right, real(0))
    sum_x, sum_x_dx, sum_y, sum_y_dx = real(0), real(0), real(0), real(0)
    for end in range(t0, t1 - (row.x1 - row.x0)):
        x = end if end < row.x0 else end + (row.x1 - row.x0)
        dx = real(x) + (real(0.5) - f.centre_x)
        across, down = taps_of(real, f, row, x, job)
        u0, u1, v0, v1 = across.weight, across.other_weight, down.weight, down.other_weight
        part_x, part_y = real(1), real(1)
        x_by_low, x_by_high, y_by_low, y_by_high = real(0), real(0), real(0), real(0)
        if job.covered:
            part_x, x_by_low, x_by_high = share(real, x, f.x1, f.x2)
            part_y, y_by_low, y_by_high = share(real, row.line, f.y1, f.y2)
        by_x, by_y, by_value = real(0), real(0), real(0)
        for channel in range(job.channels):
            one_by_one()
            grad, first = grads.values[channel * job.total + at + x], f.base + channel * job.height * job.width
            t00, t01, t10, t11 = texels_of(real, source, first, across, down, job.width)
            by_x += grad * (v0 * (t01 - t00) + v1 * (t11 - t10))
            by_y += grad * (u0 * (t10 - t00) + u1 * (t11 - t01))
            if not grads.differences:
                by_value += grad * (v0 * (u0 * t00 + u1 * t01) + v1 * (u0 * t10 + u1 * t11))
        reach, by_share = real(1), by_value
        if job.by_reach:
            reach = (u0 + u1) * (v0 + v1)
        if len(grads.opacity):
            grad = grads.opacity[at + x]
            by_share += grad * reach
            if job.by_reach:
                by_x += grad * (v0 + v1) * (real(across.other != ABSENT) - real(across.one != ABSENT))
                by_y += grad * (u0 + u1) * (real(down.other != ABSENT) - real(down.one != ABSENT))
        if job.of_opacity and not grads.differences:
            to_opacity(by_value, at + x, job, grads, part_x * part_y, reach, add)
        opacity = alpha(real, row.object, at + x, objects, job)
        scale = part_x * part_y * opacity
        by_x = by_x * scale * across.slope if across.slope != 0 else real(0)
        by_y = by_y * scale * down.slope if down.slope != 0 else real(0)
        sum_x += by_x
        sum_x_dx += by_x * dx
        sum_y += by_y
        sum_y_dx += by_y * dx
        if job.of_boxes:
            move_edge(add, 8, by_share * opacity, x_by_low, part_y)
            move_edge(add, 9, by_share * opacity, y_by_low, part_x)
            move_edge(add, 10, by_share * opacity, x_by_high, part_y)
            move_edge(add, 11, by_share * opacity, y_by_high, part_x)
    add_position(f, sum_x, sum_x_dx, sum_y, sum_y_dx, row.dy, add)


@inner
def move_edge(add, side, by_share, slope, other):
    """Add to the gradient of an edge, ``add[side]``; nothing, not even NaN, where the edge does not move the pixel."""
    if slope != 0:
        add[side] += by_share * slope * other


@jit
def finish(sums, objects, job, of_theta, of_boxes, of_source_boxes, of_opacity):
    """Add up the sums of each object in their order, and carry them from matrices and centres to theta and boxes."""
    objects, job = Objects(*objects), Job(*job)
    theta, boxes, real = objects.theta, objects.boxes, objects.theta.dtype.type
    pieces = len(sums) // max(len(theta), 1)
    for n in range(len(theta)):
        grad = sums[n * pieces]
        for k in range(1, pieces):
            for i in range(SUMS):
                grad[i] += sums[n * pieces + k, i]
        of_opacity[n, 0] = grad[12]
        for k in range(4):
            of_boxes[n, k] = grad[8 + k]
        for k in range(2):
            row, cross = 3 * k, 3 * k + 1 - k
            half, growth = half_size(real, boxes[n, k], boxes[n, 2 + k], job.align_corners)
            other, other_growth = half_size(real, boxes[n, 1 - k], boxes[n, 3 - k], job.align_corners)
            src_half, src_growth, scale, scale_by_src, scale_by_half = half, growth, real(1), real(0), real(0)
            if len(objects.source_boxes):
                low, high = objects.source_boxes[n, k], objects.source_boxes[n, 2 + k]
                src_half, src_growth = half_size(real, low, high, job.align_corners)
                scale, scale_by_src, scale_by_half = ratio(real, src_half, half)
            across, across_by_src, across_by_other = ratio(real, src_half, other)
            of_theta[n, row + k] = grad[row + k] * scale
            of_theta[n, cross] = grad[cross] * across
            of_theta[n, row + 2] = grad[row + 2] * src_half

            by_scale, by_across = grad[row + k] * theta[n, row + k], grad[cross] * theta[n, cross]
            by_src = grad[row + 2] * theta[n, row + 2] + by_across * across_by_src + by_scale * scale_by_src
            grow(of_boxes, n, k, by_scale * scale_by_half * growth)
            grow(of_boxes, n, 1 - k, by_across * across_by_other * other_growth)
            centre, read = grad[6 + k] / 2, of_source_boxes if len(objects.source_boxes) else of_boxes
            if len(objects.source_boxes):
                of_source_boxes[n, k], of_source_boxes[n, 2 + k] = real(0), real(0)
            read[n, k] += centre
            read[n, 2 + k] += centre
            grow(read, n, k, by_src * src_growth)


@inner
def grow(of_boxes, n, k, of_size):
    """A gradient with respect to a size to both of its edges."""
    of_boxes[n, k] -= of_size
    of_boxes[n, 2 + k] += of_size


@jit
def source_loop(begin, end, rows, order, first, grad_values, objects, job, clear, target, room):
    """Each task: a band of ``rows`` rows of one picture, to whose gradient every object that reads it adds, in turn."""
    objects, job, room = Objects(*objects), Job(*job), Room(*room)
    real, bands = target.dtype.type, -(-job.height // rows)
    for k in range(begin, end):
        picture, row0 = k // bands, k % bands * rows
        row1 = min(row0 + rows, job.height)
        if clear:
            for channel in range(job.channels):
                plane = (picture * job.channels + channel) * job.height
                fill(target, (plane + row0) * job.width, (plane + row1) * job.width, real(0))
        for i in range(first[picture], first[picture + 1]):
            window_to_source(order[i], row0, row1, grad_values, objects, job, target, room)


@inner
def window_to_source(n, row0, row1, grad_values, objects, job, target, room):
    """What object n adds to the gradient of rows row0 .. row1 of the picture that it reads."""
    real, f, columns = target.dtype.type, frame_of(n, objects, job), objects.windows[n, WIDTH]
    top, stop = row0 - objects.reads[n, ORIGIN_Y], row1 - objects.reads[n, ORIGIN_Y]  # the rows as the object counts
    if f.last_y < top or f.first_y >= stop:
        return
    # Those that may touch the band, with half a pixel more on both sides, as rounding moves positions; beyond what can
    # be read, all that are brought back to it.
    low = real(top) - real(1.5) if f.first_y < top else real(-np.inf)
    high = real(stop) + real(0.5) if f.last_y >= stop else real(np.inf)
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(objects.windows[n, HEIGHT]):
            row, at = row_of(real, f, n, y, left, right, job.covered, job), objects.windows[n, START] + y * columns
            if job.nearest:
                row = all_ends(row)
            ends_to_source(f, row, at, (top, stop), grad_values, objects, job, target)
            begin, end = narrow(real, row.x0, row.x1, f.per_y, row.y + f.c * (real(0.5) - f.centre_x), low, high)
            if begin < end:
                positions(real, f, row, begin, end, job, room)
                alphas(n, at + begin, end - begin, objects, job, room.shares)
                first = f.base - objects.reads[n, ORIGIN_X] + top * job.width
                band = first, first + (stop - top) * job.width
                interior_to_source(f, end - begin, at + begin, band, grad_values, job, target, room)


@inner
def interior_to_source(f, count, at, band, grad_values, job, target, room):
    """What pixels ``at .. at + count`` add, whose positions the room holds; ``band``: texels of the first channel."""
    real, (first, end) = target.dtype.type, band
    k, one, below, total = np.uint64(0), np.uint64(1), np.uint64(job.width), np.uint64(job.total)
    area = np.uint64(job.height * job.width)
    while k < np.uint64(count):
        i = f.base + room.texels[k]
        above_in, below_in = first <= i < end, first <= i + job.width < end
        above, under = (real(1) - room.down[k]) * room.shares[k], room.down[k] * room.shares[k]
        right, left = room.across[k], real(1) - room.across[k]
        g, o = np.uint64(at) + k, np.uint64(i)
        for _ in range(job.channels):
            one_by_one()
            grad = grad_values[g]
            if above_in:
                target[o] += grad * (above * left)
                target[o + one] += grad * (above * right)
            if below_in:
                target[o + below] += grad * (under * left)
                target[o + below + one] += grad * (under * right)
            g, o = g + total, o + area
        k += one


@inner
def ends_to_source(f, row, at, band, grad_values, objects, job, target):
    """What the columns of a row that are not its interior add, with all the care that borders and edges need."""
    real, (top, stop) = target.dtype.type, band
    for end in range(row.t0, row.t1 - (row.x1 - row.x0)):
        x = end if end < row.x0 else end + (row.x1 - row.x0)
        across, down = taps_of(real, f, row, x, job)
        above_in, below_in = top <= down.one < stop, top <= down.other < stop
        if not (above_in or below_in):
            continue
        part = alpha(real, row.object, at + x, objects, job)
        if job.covered:
            part *= share(real, x, f.x1, f.x2)[0] * share(real, row.line, f.y1, f.y2)[0]
        for channel in range(job.channels):
            one_by_one()
            grad, first = grad_values[channel * job.total + at + x] * part, f.base + channel * job.height * job.width
            if above_in:
                line_to_source(grad * down.weight, first + down.one * job.width, across, target)
            if below_in:
                line_to_source(grad * down.other_weight, first + down.other * job.width, across, target)


@inner
def line_to_source(grad, first, across, target):
    """What a pixel adds to the texels of one line."""
    if across.one != ABSENT:
        target[first + across.one] += grad * across.weight
    if across.other != ABSENT:
        target[first + across.other] += grad * across.other_weight
