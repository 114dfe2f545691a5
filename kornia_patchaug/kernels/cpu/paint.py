"""*paint* on the CPU: *sample* and *composite* in one sweep, with no more than some rows held between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.kernels.backend import Gradients, Inputs, Read, Wanted
from kornia_patchaug.kernels.cpu.arrays import flat, fresh, job_of, objects_of, shaped
from kornia_patchaug.kernels.cpu.composite import (
    Canvas,
    band_of,
    canvas_of,
    copy_band,
    lay_over,
    pixel_of,
    take_off_row,
)
from kornia_patchaug.kernels.cpu.jit import inner, jit
from kornia_patchaug.kernels.cpu.rows import (
    NOBODY,
    PIXEL,
    Job,
    Objects,
    X,
    copy,
    cover,
    fill,
    fill_with_opacity,
    frame_of,
    is_opaque,
    multiply,
    multiply_by_reach,
    opacity_of_row,
    row_of,
)
from kornia_patchaug.kernels.cpu.sample import Target, rows_of
from kornia_patchaug.kernels.cpu.sample_backward import (
    SUMS,
    Grads,
    add_to_source,
    finished,
    gradient_of_source,
    gradients_of_objects,
    rows_to_sums,
    window_to_source,
)
from kornia_patchaug.kernels.cpu.threads import spread
from kornia_patchaug.plan import HEIGHT, START, TOP, WIDTH, Plan

if TYPE_CHECKING:
    from kornia_patchaug.kernels.cpu.rows import Reals


class Scene(NamedTuple):
    """What all tasks of painting share."""

    place: Canvas
    objects: Objects
    job: Job


BLOCK = 1 << 12  # pixels sampled at a time where they are painted at once: of three channels, 64 KB with coverage


def paint(
    inputs: Inputs, canvas: Tensor, opacity: Tensor | None, plan: Plan, read: Read, keep: bool
) -> tuple[Tensor, Tensor]:
    """As `backend.Fused.paint`."""
    objects, job = objects_of(inputs, plan, opacity), job_of(inputs.source, plan, opacity)
    keep = keep and read is not Read.PAINTED
    place, bands = canvas_of(canvas, plan.windows)
    out, under = _painted(inputs.source, canvas, Scene(place, objects, job), bands, read, keep)
    return shaped(out, canvas), torch.from_numpy(under)


def _painted(source: Tensor, canvas: Tensor, scene: Scene, bands: int, read: Read, keep: bool) -> tuple[Reals, Reals]:
    """The flat painted canvas, and what was under each flat pixel if it is to be kept."""
    out = fresh(canvas.numel(), scene.objects.boxes)
    under = fresh(scene.job.channels * scene.job.total if keep else 0, out)
    came = flat(canvas, out)
    if read is Read.PAINTED:  # images are independent of one another, and of one image nothing is done at once
        spread(sweep_loop, (scene, came, out, under), len(canvas), canvas.numel())
    else:
        picture = came if source is canvas else flat(source, out)
        spread(paint_loop, (scene, picture, came, out, under), bands, canvas.numel())
    return out, under


def paint_backward(
    grad: Tensor, under: Tensor, inputs: Inputs, opacity: Tensor | None, plan: Plan, read: Read, wanted: Wanted
) -> tuple[Gradients, Tensor | None, Tensor | None]:
    """As `backend.Fused.paint_backward`."""
    source, objects = inputs.source, objects_of(inputs, plan, opacity)
    job, like = job_of(source, plan, opacity, wanted), objects.boxes
    covers = wanted.opacity or (wanted.boxes and job.covered) or (wanted.theta and job.by_reach)
    each = wanted.opacity and job.opacity_of == PIXEL
    of_opacity, of_pixels = (fresh(job.total if want else 0, like) for want in (covers, each))
    place, bands = canvas_of(grad, plan.windows)
    scene, of_source = Scene(place, objects, job), None
    if read is Read.PAINTED:
        painted, below = _painted(source, source, scene, bands, read, keep=True)
        grads, sums = Grads(below, of_opacity, of_pixels), np.empty((len(objects.theta), SUMS))
        out = np.array(flat(grad, like))
        spread(sweep_backward_loop, (scene, painted, grads, out, sums), len(grad), grad.numel())
        of_objects = finished(np.arange(len(sums))[:, None], sums, objects, job, wanted)
    else:
        grads, out = Grads(fresh(job.channels * job.total, like), of_opacity, of_pixels), fresh(grad.numel(), like)
        arguments = scene, flat(grad, like), flat(under, like), grads, out
        spread(take_off_loop, arguments, bands, grad.numel())
        if read is Read.CANVAS and wanted.canvas:
            add_to_source(out, False, (place.order, place.first), grads, objects, job)
        elif wanted.source:
            of_source = gradient_of_source(source, plan, grads, objects, job)
        of_objects = gradients_of_objects(source, grads, objects, job, wanted)
    *others, of_each_object = of_objects
    of_canvas = shaped(out, grad) if wanted.canvas else None
    return Gradients(of_source, *others), of_canvas, torch.from_numpy(of_pixels) if each else of_each_object


@jit
def paint_loop(begin, end, scene, source, canvas, out, under):
    """Each task: copy a band of rows of one image, and sample and paint what lies in it of each window, in row order.

    An object that covers its window as a whole is sampled into the canvas. The values of others stay in the cache, a
    few rows at a time, until they are painted.
    """
    place, objects, job = scene
    room = max(BLOCK, place.width)
    values, coverage = np.empty(job.channels * room, out.dtype), np.empty(room, out.dtype)
    row = np.empty(place.width, out.dtype)
    for k in range(begin, end):
        image, row0, row1 = band_of(k, place)
        copy_band(image, row0, row1, place, canvas, out)
        for i in range(place.first[image], place.first[image + 1]):
            n = place.order[i]
            top, columns, rows = place.windows[n, TOP], place.windows[n, WIDTH], place.windows[n, HEIGHT]
            y_begin, y_end = max(row0 - top, 0), min(row1 - top, rows)
            if columns == 0 or y_begin >= y_end:
                continue
            f = frame_of(n, objects, job)
            direct = is_opaque(f, columns, rows, job) and not len(under)
            step = y_end - y_begin if direct else max(1, room // columns)
            for y0 in range(y_begin, y_end, step):
                y1 = min(y0 + step, y_end)
                if direct:
                    corner, plane = pixel_of(n, X, top + y0, place)[0], place.height * place.width
                    target = Target(out, corner, place.width, plane, coverage, 0, False)
                else:
                    target = Target(values, 0, columns, room, coverage, columns, job.covered)
                rows_of(f, y0, y1, columns, source, job, target)
                if not direct:
                    paint_rows(n, y0, y1, scene, target, row, out, under)


@inner
def paint_rows(n, y0, y1, scene, target, row, out, under):
    """Paint rows y0 .. y1 of a window; ``row`` is room for one."""
    place, objects, job = scene
    columns = place.windows[n, WIDTH]
    fill_with_opacity(row[:columns], n, objects, job)
    for y in range(y0, y1):
        opacity = target.coverage[(y - y0) * columns : (y - y0 + 1) * columns]
        at = place.windows[n, START] + y * columns
        alphas = opacity_of_row(at, objects, job, row[:columns])
        if job.opacity_of != NOBODY:
            multiply(opacity, alphas)
        for channel in range(place.channels):
            pixel = pixel_of(n, channel, place.windows[n, TOP] + y, place)[0]
            flat = channel * target.plane + (y - y0) * columns
            over = target.values[flat : flat + columns]
            if job.opacity_of != NOBODY:
                multiply(over, alphas)
            if len(under):
                copy(under, channel * place.total + at, out, pixel, columns)
            lay_over(out[pixel : pixel + columns], over, opacity)


@jit
def take_off_loop(begin, end, scene, grad, under, grads, out):
    """Each task: copy a band of rows of the gradient, and take each window off it again, the last one first."""
    place, objects, job = scene
    coverage, row = np.empty(place.width, out.dtype), np.empty(place.width, out.dtype)
    for k in range(begin, end):
        image, row0, row1 = band_of(k, place)
        copy_band(image, row0, row1, place, grad, out)
        for i in range(place.first[image + 1] - 1, place.first[image] - 1, -1):
            n = place.order[i]
            top, columns, rows = place.windows[n, TOP], place.windows[n, WIDTH], place.windows[n, HEIGHT]
            if columns == 0 or top >= row1 or top + rows <= row0:
                continue
            f, opacity = frame_of(n, objects, job), coverage[:0]
            opaque = is_opaque(f, columns, rows, job)
            fill_with_opacity(row[:columns], n, objects, job)
            for y in range(max(row0 - top, 0), min(row1 - top, rows)):
                if not opaque:
                    opacity = opacity_row(f, n, y, objects, job, coverage[:columns], row[:columns])
                take_off_row(n, top + y, place, opacity, under, out, (grads.values, grads.opacity))


@inner
def opacity_row(f, n, y, objects, job, coverage, row):
    """All that covers the canvas in a row of a window, K A R, in ``coverage``; ``row`` has the A of the object."""
    columns, real = len(coverage), coverage.dtype.type
    cover(real, f, X, columns, y, job, coverage)
    if job.by_reach:
        multiply_by_reach(real, f, row_of(real, f, y, X, columns, job.covered, job), job, coverage)
    if job.opacity_of != NOBODY:
        multiply(coverage, opacity_of_row(objects.windows[n, START] + y * columns, objects, job, row))
    return coverage


@jit
def sweep_loop(begin, end, scene, canvas, out, under):
    """Each task: copy an image, and sample and paint its objects in row order, each from what those before it left: a
    window as a whole, as it may read what it paints."""
    place, objects, job = scene
    row, room = np.empty(place.width, out.dtype), 1
    for n in range(len(place.windows)):
        room = max(room, place.windows[n, WIDTH] * place.windows[n, HEIGHT])
    values, coverage = np.empty(job.channels * room, out.dtype), np.empty(room, out.dtype)
    for image in range(begin, end):
        copy_band(image, 0, place.height, place, canvas, out)
        for i in range(place.first[image], place.first[image + 1]):
            n = place.order[i]
            columns, rows = place.windows[n, WIDTH], place.windows[n, HEIGHT]
            target = Target(values, 0, columns, room, coverage, columns, job.covered)
            rows_of(frame_of(n, objects, job), 0, rows, columns, out, job, target)
            paint_rows(n, 0, rows, scene, target, row, out, under)


@jit
def sweep_backward_loop(begin, end, scene, canvas, grads, out, sums):
    """Each task: take an image's objects off again, the last one first.

    ``grads.values`` holds what was under each flat pixel, which makes room for the gradient of its value. So the
    painted canvas becomes what each object read, and ``out`` the gradient with respect to that.
    """
    place, objects, job = scene
    coverage, row = np.empty(place.width, out.dtype), np.empty(place.width, out.dtype)
    for image in range(begin, end):
        for i in range(place.first[image + 1] - 1, place.first[image] - 1, -1):
            n = place.order[i]
            top, columns, rows = place.windows[n, TOP], place.windows[n, WIDTH], place.windows[n, HEIGHT]
            f = frame_of(n, objects, job)
            fill_with_opacity(row[:columns], n, objects, job)
            for y in range(rows):
                at = place.windows[n, START] + y * columns
                for channel in range(place.channels):
                    pixel = pixel_of(n, channel, top + y, place)[0]
                    copy(canvas, pixel, grads.values, channel * place.total + at, columns)
                opacity = opacity_row(f, n, y, objects, job, coverage[:columns], row[:columns])
                take_off_row(n, top + y, place, opacity, grads.values, out, (grads.values, grads.opacity))
            fill(sums[n], 0, SUMS, 0.0)
            rows_to_sums(n, 0, rows, canvas, objects, job, grads, sums[n])
            window_to_source(n, 0, job.height, grads.values, objects, job, out)
