"""*sample* on the CPU, forward: row by row of each window, to flat buffers or, for *paint*, over a canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kornia_patchaug.kernels.backend import Inputs, Sampled
from kornia_patchaug.kernels.cpu.arrays import flat, fresh, job_of, objects_of, room_of
from kornia_patchaug.kernels.cpu.jit import apart, inner, jit
from kornia_patchaug.kernels.cpu.rows import (
    TILE,
    Job,
    Objects,
    Room,
    X,
    blend,
    copy,
    fades,
    fill,
    frame_of,
    is_opaque,
    multiply_by_reach,
    one_by_one,
    opacities,
    positions,
    prefetch,
    reached_columns,
    row_of,
    row_without_ends,
    start_of_row,
    stay_apart,
    taps_of,
    texels_of,
    trimmed,
    weighted,
)
from kornia_patchaug.kernels.cpu.threads import spread
from kornia_patchaug.plan import HEIGHT, PICTURE, START, WIDTH, Plan, Windows

if TYPE_CHECKING:
    from kornia_patchaug.kernels.cpu.rows import Reals

PIECE = 1 << 14  # pixels: few enough to share the work evenly, many enough not to notice that it is handed out
PIECES = 1 << 12  # of all windows together, as each has its sums; one a window at least
NEAR = 1 << 17  # numbers of a source that a second-level cache holds
AHEAD = 8  # rows: what one reads is asked for while those before it are computed
LINE = 16  # pixels in a cache line, of float32


class Target(NamedTuple):
    """Where rows go: column x of row y of a window to ``pixels[start + y pitch + x]``, and to a ``plane`` further for
    each further channel."""

    pixels: Reals
    start: int | np.int64
    pitch: int
    plane: int
    paints: bool  # over what is there, as far as it is opaque, where something is read; else K A V is stored everywhere
    kept: Reals  # (C P) what was there less V, or under ``by_reach`` what was there, to be filled; or (0,)
    coverage: Reals  # the opacity K A R, to be filled at the same places as the first channel, or (0,)


def sample(inputs: Inputs, plan: Plan) -> Sampled:
    """As `reference.sample`."""
    objects, job = objects_of(inputs, plan), job_of(inputs.source, plan)
    values = fresh(job.channels * job.total, objects.boxes)
    coverage = fresh(job.total if job.covered or job.by_reach else 0, objects.boxes)
    pieces = pieces_of(plan.windows)
    arguments = pieces, flat(inputs.source, values), objects, job, (values, coverage)
    spread(sample_loop, arguments, len(objects.windows) * pieces, job.total, lambda: room_of(values, job.channels))
    return torch.from_numpy(values).view(job.channels, job.total), torch.from_numpy(coverage)


def pieces_of(windows: Windows) -> int:
    """Into how many pieces each window is cut: for all the same number, as many as the largest is worth."""
    most = PIECES // max(len(windows.areas), 1)
    return max(1, min(-(-int(windows.areas.max(initial=0)) // PIECE), most))


@inner
def piece_of(k, pieces, windows):
    """The object of piece k, its first row, and one past its last row."""
    n, piece = k // pieces, k % pieces
    rows = windows[n, HEIGHT]
    return n, rows * piece // pieces, rows * (piece + 1) // pieces


@jit
def sample_loop(begin, end, pieces, source, objects, job, sampled, room):
    """Each task: a piece of one window; ``sampled``: the values and the coverage."""
    objects, job, room = Objects(*objects), Job(*job), Room(*room)
    values, coverage = sampled
    for k in range(begin, end):
        n, y0, y1 = piece_of(k, pieces, objects.windows)
        start, columns = objects.windows[n, START], objects.windows[n, WIDTH]
        target = Target(values, start, columns, job.total, False, values[:0], coverage)
        rows_of(n, y0, y1, source, objects, job, target, room, (objects, job), (source[:0], objects.reads, False))


@apart
def rows_of(n, y0, y1, source, objects, job, target, room, painted, mask):
    """Sample rows y0 .. y1 of the window of object n: straight to the target if they cover it as they are, or to the
    room, and from there over the target.

    ``painted``: the objects and the job that this is for, of which nothing is sampled where these reach no pixel.
    ``mask``: pictures that are read at the same places, where in them, and whether they are known to be finite: the
    opacity of the objects. Or none.
    """
    stay_apart()
    real, f, columns = room.shares.dtype.type, frame_of(n, objects, job), objects.windows[n, WIDTH]
    opaque, far, fading = is_opaque(f, n, objects, job), len(source) > NEAR, fades(f, job)
    reached = painted[1].by_reach and target.paints
    of_painted = frame_of(n, painted[0], painted[1]) if reached else f
    mask_base = f.base + (mask[1][n, PICTURE] - objects.reads[n, PICTURE] * job.channels) * (job.height * job.width)
    straight = opaque and not len(target.kept)
    pixels, plane = (target.pixels, target.plane) if straight else (room.values, TILE)
    fill(room.shares, X, TILE, real(1))
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(y0 - AHEAD, y1):
            if far and y + AHEAD < y1:
                ask_for_row(real, f, y + AHEAD, left, right, source, f.base, job.channels, job)
            if len(mask[0]) and y + AHEAD < y1:
                ask_for_row(real, f, y + AHEAD, left, right, mask[0], mask_base, X + 1, job)
            if y < y0:
                continue
            begin, end = left, right
            if reached or fading:
                begin, end = reached_columns(real, of_painted, y, left, right, painted[1])
                if fading:
                    begin, end = trimmed(real, f, y, begin, end)
                if reached and len(target.kept):
                    keep_beyond(n, y, (left, begin, end, right), objects, job, target)
                if reached and begin >= end:
                    continue
            if fading:
                row = row_without_ends(real, f, n, y, (left, begin, end, right), target.paints)
            else:
                row = row_of(real, f, n, y, begin, end, job.covered and not opaque, job)
            at = target.start + y * target.pitch
            place = pixels, at if straight else -row.left, plane  # where column 0 goes, how far apart channels lie
            sample_beyond(real, row, job, place)
            sample_ends(real, f, row, source, job, place)
            if job.nearest:
                nearest(real, f, row, source, job, place)
            else:
                weightless = bilinear(real, f, row, source, job, place, room)
                if len(mask[0]):
                    share_places(real, row, weightless, mask[0], mask_base, mask[2], objects, job, room)
            if not opaque:
                opacities(f, row, objects, job, room.shares)
            if not straight:
                lay_over(f, row, objects, job, target, room)
            elif len(target.coverage):
                fill(target.coverage, at + row.left, at + row.right, real(1))


@inner
def lay_over(f, row, objects, job, target, room):
    """The values of a row in the room over its target, and what is to be kept of them."""
    real, n, count = room.shares.dtype.type, row.object, np.uint64(row.right - row.left)
    opacity = shares = room.shares
    if job.by_reach:
        opacity = room.opacity
        copy(opacity, X, shares, X, row.right - row.left)
        multiply_by_reach(real, f, row, job, opacity)
        shares = opacity if fades(f, job) else shares
    start = target.start + row.line * target.pitch + row.left
    flat_pixel = objects.windows[n, START] + row.line * objects.windows[n, WIDTH] + row.left
    if len(target.coverage):
        copy(target.coverage, start, opacity, X, row.right - row.left)
    for channel in range(job.channels):
        at, first, flat = start + channel * target.plane, channel * TILE, flat_pixel + channel * job.total
        o, v, k = np.uint64(at), np.uint64(first), np.uint64(flat)
        if len(target.kept) and job.by_reach:
            copy(target.kept, flat, target.pixels, at, row.right - row.left)
        elif len(target.kept):
            for i in range(count):
                target.kept[k + i] = target.pixels[o + i] - room.values[v + i]
        if not target.paints:
            for i in range(count):
                target.pixels[o + i] = shares[i] * room.values[v + i]
            continue
        for i in range(count):
            keeps, over = real(1) - opacity[i], shares[i] * room.values[v + i]
            target.pixels[o + i] = over if keeps == 0 else keeps * target.pixels[o + i] + over


@inner
def keep_beyond(n, y, columns, objects, job, target):
    """Keep what was there of the columns of a row that are left out."""
    (left, begin, end, right), at = columns, objects.windows[n, START] + y * objects.windows[n, WIDTH]
    end = max(begin, end)
    for channel in range(job.channels):
        first, flat = target.start + y * target.pitch + channel * target.plane, at + channel * job.total
        copy(target.kept, flat + left, target.pixels, first + left, begin - left)
        copy(target.kept, flat + end, target.pixels, first + end, right - end)


@inner
def ask_for_row(real, f, y, left, right, source, base, channels, job):
    """Have the cache lines fetched that a row will read."""
    qx, qy, _ = start_of_row(real, f, y)
    step = max(1, int(real(LINE) / max(abs(f.a), abs(f.c), real(1))))  # pixels whose texels may share a cache line
    below = job.width if max(abs(f.b), abs(f.d)) > real(1.5) else 0  # else the next row asks for those
    for x in range(left, right + step - 1, step):
        dx = real(min(x, right - 1)) + (real(0.5) - f.centre_x)
        column = min(max(f.a * dx + qx, f.first_x), f.last_x)
        line = min(max(f.c * dx + qy, f.first_y), f.last_y)
        for channel in range(channels):
            at = base + (channel * job.height + int(line)) * job.width + int(column)
            prefetch(source, at)
            if below:
                prefetch(source, at + below)


@inner
def sample_beyond(real, row, job, place):
    """The columns of a row of which nothing can be read: black."""
    (pixels, at, plane), channels = place, job.channels if row.left < row.t0 or row.t1 < row.right else X
    for channel in range(channels):
        first = at + channel * plane
        fill(pixels, first + row.left, first + row.t0, real(0))
        fill(pixels, first + row.t1, first + row.right, real(0))


@inner
def sample_ends(real, f, row, source, job, place):
    """Columns t0 .. x0 and x1 .. t1 of a row, with all the care that borders and edges need."""
    pixels, at, plane = place
    for end in range(row.t0, row.t1 - (row.x1 - row.x0)):
        x = end if end < row.x0 else end + (row.x1 - row.x0)
        across, down = taps_of(real, f, row, x, job)
        for channel in range(job.channels):
            one_by_one()
            first = f.base + channel * job.height * job.width
            t00, t01, t10, t11 = texels_of(real, source, first, across, down, job.width)
            above = weighted(real, t00, t01, across.weight, across.other_weight)
            below = weighted(real, t10, t11, across.weight, across.other_weight)
            pixels[channel * plane + at + x] = weighted(real, above, below, down.weight, down.other_weight)


@inner
def nearest(real, f, row, source, job, place):
    """The interior of a row, of the nearest pixels."""
    pixels, at, plane = place
    for x in range(row.x0, row.x1):
        dx = real(x) + (real(0.5) - f.centre_x)
        px = min(max(f.a * dx + row.x, f.first_x), f.last_x)
        py = min(max(f.c * dx + row.y, f.first_y), f.last_y)
        column, line = int(np.rint(px - real(f.low_x))) + f.low_x, int(np.rint(py - real(f.low_y))) + f.low_y
        for channel in range(job.channels):
            one_by_one()
            value = source[f.base + (channel * job.height + line) * job.width + column]
            pixels[channel * plane + at + x] = real(value)


@inner
def bilinear(real, f, row, source, job, place, room):
    """The interior of a row, interpolated. Returns whether a weight is 0, if it matters."""
    pixels, at, plane = place
    weightless = positions(real, f, row, row.x0, row.x1, job, room)
    texels, place = (room.texels, room.across, room.down), (pixels, at + row.x0, plane)
    shape, count = (job.channels, job.height * job.width, job.width), row.x1 - row.x0
    interpolate(source, f.base, shape, texels, place, count)
    if weightless and is_odd(job.channels, place, count):
        interpolate_with_care(real, source, f.base, shape, texels, place, count)
    return weightless


@inner
def share_places(real, row, weightless, pixels, base, finite, objects, job, room):
    """The opacity of a row without ends, of a mask that is read where the row was just read."""
    n, count = row.object, row.x1 - row.x0
    first = objects.windows[n, START] + row.line * objects.windows[n, WIDTH] + row.x0 - objects.first
    area, place = job.height * job.width, (objects.opacity, first, X)
    fill(objects.opacity, first - (row.x0 - row.left), first, real(0))
    fill(objects.opacity, first + count, first + row.right - row.x0, real(0))
    texels, shape = (room.texels, room.across, room.down), (1, area, job.width)
    interpolate(pixels, base, shape, texels, place, count)
    if weightless and not finite and is_odd(1, place, count):
        interpolate_with_care(real, pixels, base, shape, texels, place, count)


@apart
def interpolate(source, base, shape, texels, place, count):
    """Bilinear values of ``count`` pixels, at the texels that `positions` left in the room, to ``place``."""
    stay_apart()
    (channels, area, width), (texels, across, down), (pixels, first, plane) = shape, texels, place
    k, one, count, base = np.uint64(0), np.uint64(1), np.uint64(count), np.uint64(base)
    area, width, first, step = np.uint64(area), np.uint64(width), np.uint64(first), np.uint64(plane)
    real = across.dtype.type
    counted = source.itemsize == 1  # bytes of a mask, which is flat nearly everywhere: four equal ones are not weighed
    if channels == 1:
        while k < count:
            one_by_one()
            i = base + np.uint64(texels[k])
            if counted and source[i] == source[i + one] == source[i + width] == source[i + width + one]:
                pixels[first + k] = real(source[i])
            else:
                pixels[first + k] = between(real, source, i, width, across[k], down[k])
            k += one
    elif channels == 3:  # as most pictures have
        while k < count:
            one_by_one()
            i, o, u, v = base + np.uint64(texels[k]), first + k, across[k], down[k]
            pixels[o] = between(real, source, i, width, u, v)
            pixels[o + step] = between(real, source, i + area, width, u, v)
            pixels[o + step + step] = between(real, source, i + area + area, width, u, v)
            k += one
    while k < count:
        i, o, u, v = base + np.uint64(texels[k]), first + k, across[k], down[k]
        for _ in range(channels):
            one_by_one()
            pixels[o] = between(real, source, i, width, u, v)
            i, o = i + area, o + step
        k += one


@inner
def between(real, source, i, width, across, down):
    """The value ``across`` columns to the right of texel i and ``down`` rows below it."""
    j, one, left = i + width, np.uint64(1), real(1) - across
    above = blend(real(source[i]), real(source[i + one]), left, across)
    below = blend(real(source[j]), real(source[j + one]), left, across)
    return blend(above, below, real(1) - down, down)


@inner
def is_odd(channels, place, count):
    """Whether a value of a row is 0, where its sign may depend on texels that have no weight, or is not finite."""
    pixels, first, plane = place
    odd = False
    for channel in range(channels):
        for o in range(np.uint64(first + channel * plane), np.uint64(first + channel * plane + count)):
            odd |= (pixels[o] == 0) | (pixels[o] - pixels[o] != 0)
    return odd


@apart
def interpolate_with_care(real, source, base, shape, texels, place, count):
    """As `interpolate`, but a weight of 0 takes no part, as its texel may be infinite or NaN."""
    (channels, area, width), (texels, across, down), (pixels, first, plane) = shape, texels, place
    for k in range(count):
        u, v = across[k], down[k]
        for channel in range(channels):
            i = base + texels[k] + channel * area
            above = weighted(real, real(source[i]), real(source[i + 1]), real(1) - u, u)
            below = weighted(real, real(source[i + width]), real(source[i + width + 1]), real(1) - u, u)
            pixels[first + k + channel * plane] = weighted(real, above, below, real(1) - v, v)
