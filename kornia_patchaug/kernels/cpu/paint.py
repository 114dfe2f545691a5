"""*paint* on the CPU, forward and backward, in one sweep: a row lies between *sample* and *composite*, or a window."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.kernels.backend import Gradients, Inputs, Kept, Maybe, Opacity, Painted, Read, Wanted
from kornia_patchaug.kernels.cpu.arrays import (
    NOTHING,
    contiguous,
    flat,
    fresh,
    job_of,
    objects_of,
    room_of,
    shaped,
    sparse,
)
from kornia_patchaug.kernels.cpu.composite import (
    Canvas,
    band_of,
    canvas_of,
    copy_band,
    copy_windows,
    lay_row,
    pixel_of,
    rows_in,
    take_off_row,
)
from kornia_patchaug.kernels.cpu.jit import inner, jit
from kornia_patchaug.kernels.cpu.rows import (
    NOBODY,
    PIXEL,
    TILE,
    Job,
    Objects,
    Room,
    X,
    copy,
    fades,
    fill,
    frame_of,
    is_opaque,
    multiply_by_reach,
    opacities,
    reached_columns,
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
from kornia_patchaug.plan import HEIGHT, ORIGIN_X, START, WIDTH, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kornia_patchaug.kernels.cpu.rows import Integers, Reals


FINITE = 8  # painted pixels for each of a matte, from which on it is worth to look whether it is finite


class Scene(NamedTuple):
    """What all tasks of painting share."""

    place: Canvas
    objects: Objects
    job: Job
    matte: tuple[Any, ...]  # a `Matte`, or its fields; without pixels there is none


class Matte(NamedTuple):
    """What the opacity of flat pixels is sampled from."""

    pixels: Reals | NDArray[np.uint8]  # flat
    boxes: Reals  # (N, 4) the boxes that are read, or (0, 4): the same place
    reads: Integers  # (N, 7)
    height: int
    width: int
    nearest: bool
    beyond: int
    align_corners: bool
    finite: bool  # is known to be
    shares_places: bool  # is read where the source is, as a mask over it


def paint(
    inputs: Inputs, canvas: Tensor, opacity: Opacity, plan: Plan, read: Read, keep: bool, in_place: bool = False
) -> Painted:
    """As `backend.Fused.paint`."""
    if isinstance(opacity, Inputs):
        sampled = torch.from_numpy(fresh(plan.windows.total if keep else 0, contiguous(inputs.boxes)))
        scene = _scene(inputs, canvas, sampled, plan)._replace(matte=_matte(opacity, inputs, plan))
    else:
        scene, sampled = _scene(inputs, canvas, opacity, plan), None
    out, kept = _painted(inputs.source, canvas, scene, read, keep and read is not Read.PAINTED, in_place)
    return canvas if in_place else shaped(out, canvas), (torch.from_numpy(kept),), sampled if keep else None


def _scene(inputs: Inputs, canvas: Tensor, opacity: Maybe, plan: Plan, wanted: Wanted = NOTHING) -> Scene:
    """The `Scene` of a call, without a matte."""
    objects, job = objects_of(inputs, plan, opacity), job_of(inputs.source, plan, opacity, wanted)
    none = objects.opacity[:0], objects.boxes, objects.reads, 0, 0, False, 0, False, False, False
    return Scene(canvas_of(canvas, plan.windows), objects, job, none)


def _matte(read: Inputs, inputs: Inputs, plan: Plan) -> Matte:
    """What opacity is sampled from, as ``plan.opacity`` says."""
    assert plan.opacity is not None
    boxes, (height, width) = contiguous(read.boxes), read.source.shape[2:]
    pixels, (nearest, beyond, align_corners, _) = flat(read.source, boxes), plan.opacity.sampling
    source_boxes = boxes[:0] if read.source_boxes is None else contiguous(read.source_boxes)
    finite = pixels.dtype == np.uint8
    finite = finite or (FINITE * pixels.size < plan.windows.total and bool(np.isfinite(pixels).all()))
    reads = plan.opacity.reads.host
    shares_places = read.source_boxes is inputs.source_boxes and read.source.shape[2:] == inputs.source.shape[2:]
    shares_places = shares_places and np.array_equal(reads[:, ORIGIN_X:], plan.reads.host[:, ORIGIN_X:])
    shares_places = shares_places and plan.opacity.sampling == plan.sampling._replace(beyond=beyond, by_reach=False)
    rules = nearest, int(beyond), align_corners, finite, shares_places
    return Matte(pixels, source_boxes, reads, height, width, *rules)


def _painted(
    source: Tensor, canvas: Tensor, scene: Scene, read: Read, keep: bool, in_place: bool = False
) -> tuple[Reals, Reals]:
    """The flat painted canvas, and what is to be kept of the flat pixels, if it is to be."""
    channels, like, bare = scene.job.channels, scene.objects.boxes, tuple(map(tuple, scene))
    kept, came = fresh(channels * scene.job.total if keep else 0, like), flat(canvas, like)
    out = came if in_place else fresh(canvas.numel(), like)
    sides = scene.place.windows[:, WIDTH:START]
    area = int(sides.prod(1).max(initial=0)) if read is Read.PAINTED or len(scene.matte[0]) else 0
    opacities = area if len(scene.matte[0]) and not len(scene.objects.opacity) else 0
    if read is Read.PAINTED:  # images are independent of one another, and of one image nothing is done at once
        room = partial(room_of, out, channels, (channels + 1) * area, opacities)
        spread(sweep_loop, (bare, came, out, kept), len(canvas), canvas.numel(), room)
    else:
        picture, room = came if source is canvas else flat(source, out), partial(room_of, out, channels, 0, opacities)
        arguments, work = (bare, picture, came, out, kept), canvas.numel()
        if in_place:
            arguments, work = (bare, picture, came[:0], out, kept), scene.job.total
        spread(paint_loop, arguments, scene.place.bands, work, room)
    return out, kept


def paint_backward(
    grad: Tensor,
    kept: Kept,
    inputs: Inputs,
    opacity: Maybe,
    plan: Plan,
    read: Read,
    wanted: Wanted,
    in_place: bool = False,
) -> tuple[Gradients, Maybe, Maybe]:
    """As `backend.Fused.paint_backward`."""
    scene, of_source, source = _scene(inputs, grad, opacity, plan, wanted), None, inputs.source
    place, objects, job, _ = scene
    like, bare = objects.boxes, tuple(map(tuple, scene))
    reaches = job.by_reach and (wanted.theta or wanted.boxes or wanted.source_boxes)
    covers = wanted.opacity or (wanted.boxes and job.covered) or reaches
    each = wanted.opacity and job.opacity_of == PIXEL
    of_opacity = fresh(job.total if covers else 0, like)
    # What was there less its value is all that opacity changes. But the reach has a gradient of its own, and a canvas
    # that each object read is made what it was.
    differences = read is not Read.PAINTED and not job.by_reach
    of_pixels = of_opacity if differences else fresh(job.total if each else 0, like)
    if read is Read.PAINTED:
        painted, below = _painted(source, source, scene, read, keep=True)  # once more, for what was under each pixel
        grads, sums = Grads(below, of_opacity, of_pixels), np.empty((len(objects.theta), SUMS))
        out = np.array(flat(grad, like))
        spread(sweep_backward_loop, (bare, painted, grads, out, sums), len(grad), grad.numel(), lambda: room_of(like))
        of_objects = finished(sums, objects, job, wanted)
    else:
        values, came = fresh(job.channels * job.total, like), flat(grad, like)
        out = came if in_place else fresh(came.size, like) if wanted.canvas else sparse(came.size, like)
        grads = Grads(values, of_opacity, of_pixels, differences)
        arguments = bare, came[: 0 if in_place else None], flat(kept[0], like), grads, out, wanted.canvas
        work = job.total if in_place else grad.numel()
        spread(take_off_loop, arguments, place.bands, work, lambda: room_of(like))
        if read is Read.CANVAS and wanted.canvas:
            add_to_source(out, False, plan.reads.grouped(len(grad)), grads, objects, job)
        elif wanted.source:
            of_source = gradient_of_source(source, plan, grads, objects, job)
        of_objects = gradients_of_objects(source, plan, grads, objects, job, wanted)
    *others, of_each_object = of_objects
    of_canvas = shaped(out, grad) if wanted.canvas and not in_place else None
    return Gradients(of_source, *others), of_canvas, torch.from_numpy(of_pixels) if each else of_each_object


@inner
def scene_of(scene):
    """A `Scene` of tuples."""
    place, objects, job, matte = scene
    return Scene(Canvas(*place), Objects(*objects), Job(*job), Matte(*matte))


@inner
def with_opacity(n, y0, y1, scene, narrowed, room):
    """The objects, with the opacity of rows y0 .. y1 of the window of object n sampled, if it has a matte, where
    ``narrowed`` only as far as the object reaches; and the mask that `rows_of` has yet to sample."""
    matte, objects, job, none = scene.matte, scene.objects, scene.job, room.window[:0]
    mask = matte.pixels[:0], matte.reads, matte.finite
    if not len(matte.pixels):
        return objects, mask
    theta, boxes, windows = objects.theta, objects.boxes, objects.windows
    start, columns = windows[n, START], windows[n, WIDTH]
    opacity, first = (objects.opacity, X) if len(objects.opacity) else (room.opacities, start + y0 * columns)
    sampled = Objects(theta, boxes, objects.source_boxes, objects.reads, windows, opacity, first)
    if matte.shares_places and not len(objects.opacity) and fades(frame_of(n, objects, job), job):
        return sampled, (matte.pixels, matte.reads, matte.finite)
    rules = matte.nearest, matte.beyond, matte.align_corners, False, False, NOBODY, False, False, matte.finite
    laid_over = Objects(theta, boxes, matte.boxes, matte.reads, windows, none, X)
    target = Target(opacity, start - first, columns, job.total, narrowed and not len(objects.opacity), none, none)
    of_matte, painted = Job(1, matte.height, matte.width, job.total, *rules), (objects, job)
    rows_of(n, y0, y1, matte.pixels, laid_over, of_matte, target, room, painted, mask)
    return sampled, mask


@jit
def paint_loop(begin, end, scene, source, canvas, out, kept, room):
    """Each task: copy a band of rows of one image, unless it is painted in place, and sample and paint what its windows
    have there, in row order."""
    scene, room = scene_of(scene), Room(*room)
    place, job = scene.place, scene.job
    for k in range(begin, end):
        image, row0, row1 = band_of(k, place)
        if len(canvas):
            copy_band(image, row0, row1, place, canvas, out)
        for i in range(place.first[image], place.first[image + 1]):
            n = place.order[i]
            y0, y1 = rows_in(n, row0, row1, place)
            if y0 < y1:
                objects, mask = with_opacity(n, y0, y1, scene, True, room)
                corner, plane = pixel_of(n, X, X, place)[0], place.height * place.width
                target = Target(out, corner, place.width, plane, True, kept, out[:0])
                rows_of(n, y0, y1, source, objects, job, target, room, (objects, job), mask)


@jit
def take_off_loop(begin, end, scene, grad, under, grads, out, whole, room):
    """Each task: copy a band of rows of the gradient, or if not the ``whole`` is wanted what windows have there, unless
    it is changed in place; and carry it back through each window, the last one first."""
    scene, grads, room = scene_of(scene), Grads(*grads), Room(*room)
    place = scene.place
    for k in range(begin, end):
        image, row0, row1 = band_of(k, place)
        if len(grad) and whole:
            copy_band(image, row0, row1, place, grad, out)
        elif len(grad):
            copy_windows(image, row0, row1, place, grad, out)
        for i in range(place.first[image + 1] - 1, place.first[image] - 1, -1):
            n = place.order[i]
            y0, y1 = rows_in(n, row0, row1, place)
            take_off(n, y0, y1, scene, under, grads, out, room)


@inner
def take_off(n, y0, y1, scene, under, grads, out, room):
    """Carry rows y0 .. y1 of a gradient back through a window, as `take_off_row` does."""
    place, objects, job, _ = scene
    real, f, columns = out.dtype.type, frame_of(n, objects, job), place.windows[n, WIDTH]
    opaque = is_opaque(f, n, objects, job)
    for left in range(0, columns, TILE):
        right = min(columns, left + TILE)
        for y in range(y0, y1):
            begin, end = left, right
            if job.by_reach:
                begin, end = reached_columns(real, f, y, left, right, job)
            if begin >= end:
                continue
            if not opaque:
                row = row_of(real, f, n, y, begin, end, job.covered, job)
                opacities(f, row, objects, job, room.shares)
                if job.by_reach:
                    multiply_by_reach(real, f, row, job, room.shares)
            opacity = room.shares[: 0 if opaque else end - begin]
            take_off_row(n, y, (begin, end), place, opacity, under, out, (grads.values, grads.opacity))


@jit
def sweep_loop(begin, end, scene, canvas, out, under, room):
    """Each task: copy an image, and sample and paint its objects in row order, each from what those before it left: a
    window as a whole, as it may read what it paints."""
    scene, room = scene_of(scene), Room(*room)
    place, job = scene.place, scene.job
    plane = len(room.window) // (job.channels + 1)
    values, coverage = room.window[: job.channels * plane], room.window[job.channels * plane :]
    for image in range(begin, end):
        copy_band(image, X, place.height, place, canvas, out)
        for i in range(place.first[image], place.first[image + 1]):
            n = place.order[i]
            columns, rows = place.windows[n, WIDTH], place.windows[n, HEIGHT]
            objects, mask = with_opacity(n, X, rows, scene, False, room)
            target = Target(values, X, columns, plane, False, values[:0], coverage)
            rows_of(n, X, rows, out, objects, job, target, room, (objects, job), mask)
            for y in range(rows):
                over = values, plane, y * columns
                lay_row(n, y, place, over, coverage[y * columns : (y + 1) * columns], under, out)


@jit
def sweep_backward_loop(begin, end, scene, canvas, grads, out, sums, room):
    """Each task: take an image's objects off again, the last one first.

    ``grads.values`` holds what was under each flat pixel, which makes room for the gradient of its value. So the
    painted canvas becomes what each object read, and ``out`` the gradient with respect to that.
    """
    scene, grads, room = scene_of(scene), Grads(*grads), Room(*room)
    place, objects, job, _ = scene
    for image in range(begin, end):
        for i in range(place.first[image + 1] - 1, place.first[image] - 1, -1):
            n = place.order[i]
            columns, rows = place.windows[n, WIDTH], place.windows[n, HEIGHT]
            for y in range(rows):
                for channel in range(place.channels):
                    pixel, at = pixel_of(n, channel, y, place)
                    copy(canvas, pixel, grads.values, channel * place.total + at, columns)
            take_off(n, X, rows, scene, grads.values, grads, out, room)
            fill(sums[n], X, SUMS, 0.0)
            rows_to_sums(n, (X, rows), canvas, objects, job, grads, sums[n], room)
            window_to_source(n, X, job.height, grads.values, objects, job, out, room)
