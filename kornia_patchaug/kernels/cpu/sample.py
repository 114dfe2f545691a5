"""*sample* on the CPU: rows of windows, in the order of the flat buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.kernels.backend import Inputs
from kornia_patchaug.kernels.cpu.arrays import flat, fresh, job_of, objects_of
from kornia_patchaug.kernels.cpu.jit import inner, jit
from kornia_patchaug.kernels.cpu.rows import (
    TILE,
    blend,
    cover,
    fill,
    frame_of,
    multiply_by_reach,
    one_by_one,
    positions,
    prefetch,
    row_of,
    scratch,
    start_of_row,
    taps_of,
    texels_of,
    weighted,
)
from kornia_patchaug.kernels.cpu.threads import spread
from kornia_patchaug.plan import HEIGHT, START, WIDTH, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Reals = NDArray[np.floating]  # of either width

WINDOW_TASK = 1 << 14  # pixels: few enough to share the work evenly, many enough not to notice that it is handed out
AHEAD = 8  # rows: what one reads is asked for while those before it are computed
LINE = 16  # pixels in a cache line, of float32


def sample(inputs: Inputs, plan: Plan) -> tuple[Tensor, Tensor]:
    """As `reference.sample`."""
    objects, job = objects_of(inputs, plan), job_of(inputs.source, plan)
    values = fresh(job.channels * job.total, objects.boxes)
    coverage = fresh(job.total if job.covered or job.by_reach else 0, objects.boxes)
    tasks = window_tasks(objects.windows)
    spread(sample_loop, (tasks, flat(inputs.source, values), objects, job, values, coverage), len(tasks), job.total)
    return torch.from_numpy(values).view(job.channels, job.total), torch.from_numpy(coverage)


@jit
def window_tasks(windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(K, 3)``: object, first row, one past the last row of its window."""
    count = 0
    for n in range(len(windows)):
        count += -(-windows[n, HEIGHT] // max(WINDOW_TASK // max(windows[n, WIDTH], 1), 1))
    tasks, k = np.empty((count, 3), np.int64), 0
    for n in range(len(windows)):
        step = max(WINDOW_TASK // max(windows[n, WIDTH], 1), 1)
        for row in range(0, windows[n, HEIGHT], step):
            tasks[k, 0], tasks[k, 1], tasks[k, 2] = n, row, min(row + step, windows[n, HEIGHT])
            k += 1
    return tasks


@jit
def sample_loop(begin, end, tasks, source, objects, job, values, coverage):
    """Each task: some rows of one window."""
    shares, pitch = np.empty(0, values.dtype), 0
    for k in range(begin, end):
        n, y0, y1 = tasks[k]
        columns = objects.windows[n, WIDTH]
        start = objects.windows[n, START] + y0 * columns
        if len(coverage):
            shares, pitch = coverage[start:], columns
        elif len(shares) < columns:
            shares = np.empty(columns, values.dtype)
        target = Target(values, start, columns, job.total, shares, pitch, job.covered)
        rows_of(frame_of(n, objects, job), y0, y1, columns, source, job, target)


class Target(NamedTuple):
    """Where rows that are sampled go: the value at column x of row k to ``values[start + k pitch + x]``, those of the
    next channels a ``plane`` further each; its coverage to ``coverage[k coverage_pitch + x]``."""

    values: Reals
    start: int
    pitch: int
    plane: int
    coverage: Reals
    coverage_pitch: int
    covered: bool  # values are times the coverage K


@inner
def rows_of(f, y0, y1, columns, source, job, target):
    """Sample rows y0 .. y1 of an object's window."""
    real, values, plane = target.values.dtype.type, target.values, target.plane
    found = scratch(real, min(columns, TILE))
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(y0 - AHEAD, y1):
            if y + AHEAD < y1:
                ask_for_row(real, f, y + AHEAD, left, right, source, job)
            if y < y0:
                continue
            row, at = row_of(real, f, y, left, right, target.covered, job), target.start + (y - y0) * target.pitch
            shares = target.coverage[(y - y0) * target.coverage_pitch :]
            cover(real, f, left, right, y, job, shares)
            sample_ends(real, f, row, at, source, job, target, shares)
            if job.by_reach:
                multiply_by_reach(real, f, row, job, shares)
            for channel in range(job.channels):  # nothing to read
                fill(values, channel * plane + at + left, channel * plane + at + row.t0, real(0))
                fill(values, channel * plane + at + row.t1, channel * plane + at + right, real(0))
            if job.nearest:
                nearest(real, f, row, at, source, job, target)
            else:
                positions(real, f, row, row.x0, row.x1, job, found)
                bilinear(real, f, row.x1 - row.x0, at + row.x0, found, source, job, target)


@inner
def ask_for_row(real, f, y, left, right, source, job):
    """Have the cache lines fetched that a row will read."""
    qx, qy, _ = start_of_row(real, f, y)
    for x in range(left, right + LINE - 1, LINE):
        dx = real(min(x, right - 1)) + (real(0.5) - f.centre_x)
        column = min(max(f.a * dx + qx, f.first_x), f.last_x)
        line = min(max(f.c * dx + qy, f.first_y), f.last_y)
        for channel in range(job.channels):
            prefetch(source, f.base + (channel * job.height + int(line)) * job.width + int(column))


@inner
def nearest(real, f, row, at, source, job, target):
    """The interior of a row."""
    for x in range(row.x0, row.x1):
        dx = real(x) + (real(0.5) - f.centre_x)
        px = min(max(f.a * dx + row.x, f.first_x), f.last_x)
        py = min(max(f.c * dx + row.y, f.first_y), f.last_y)
        column, line = int(np.rint(px - real(f.low_x))) + f.low_x, int(np.rint(py - real(f.low_y))) + f.low_y
        for channel in range(job.channels):
            one_by_one()
            texel = f.base + (channel * job.height + line) * job.width + column
            target.values[channel * target.plane + at + x] = source[texel]


@inner
def bilinear(real, f, count, at, found, source, job, target):
    """The first ``count`` of the positions, from ``values[at]`` on."""
    texels, across, down = found
    values = target.values
    width, area, step, one = (
        np.uint64(job.width),
        np.uint64(job.height * job.width),
        np.uint64(target.plane),
        np.uint64(1),
    )
    for k in range(count):
        wx, wy, i, o = across[k], down[k], np.uint64(f.base + texels[k]), np.uint64(at + k)
        ux, uy = real(1) - wx, real(1) - wy
        one_by_one()
        if wx * ux * (wy * uy) == 0:  # one test for four
            for _ in range(job.channels):
                one_by_one()
                above = weighted(real, source[i], source[i + one], ux, wx)
                below = weighted(real, source[i + width], source[i + width + one], ux, wx)
                values[o] = weighted(real, above, below, uy, wy)
                i, o = i + area, o + step
        elif job.channels == 1:  # mattes
            values[o] = between(source, i, width, ux, wx, uy, wy)
        elif job.channels == 3:  # written out, as most pictures have three
            values[o] = between(source, i, width, ux, wx, uy, wy)
            values[o + step] = between(source, i + area, width, ux, wx, uy, wy)
            values[o + step + step] = between(source, i + area + area, width, ux, wx, uy, wy)
        else:
            for _ in range(job.channels):
                one_by_one()
                values[o] = between(source, i, width, ux, wx, uy, wy)
                i, o = i + area, o + step


@inner
def between(source, i, width, ux, wx, uy, wy):
    """Bilinear interpolation from texel i, to its right, and below."""
    j, one = i + width, np.uint64(1)
    above, below = blend(source[i], source[i + one], ux, wx), blend(source[j], source[j + one], ux, wx)
    return blend(above, below, uy, wy)


@inner
def sample_ends(real, f, row, at, source, job, target, coverage):
    """What lies before x0 and from x1 on, with all the care that borders and edges need."""
    for end in range(row.t0, row.t1 - (row.x1 - row.x0)):
        x = end if end < row.x0 else end + (row.x1 - row.x0)
        across, down = taps_of(real, f, row, x, job)
        part = coverage[x] if target.covered else real(1)
        for channel in range(job.channels):
            one_by_one()
            first = f.base + channel * job.height * job.width
            t00, t01, t10, t11 = texels_of(real, source, first, across, down, job.width)
            above = weighted(real, t00, t01, across.weight, across.other_weight)
            below = weighted(real, t10, t11, across.weight, across.other_weight)
            value = weighted(real, above, below, down.weight, down.other_weight)
            target.values[channel * target.plane + at + x] = part * value
