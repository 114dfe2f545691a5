"""The primitives on the CPU, as ``reference.py`` defines them: work to tasks, tasks to the loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import kornia_patchaug.kernels.cpu.compositing as compositing
import kornia_patchaug.kernels.cpu.framing as framing
import kornia_patchaug.kernels.cpu.sampling as sampling
import kornia_patchaug.kernels.cpu.tasks as tasks
from kornia_patchaug.kernels.cpu.threads import spread, threads_for
from kornia_patchaug.windows import Column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Reals = NDArray[np.floating]  # of either width
    Integers = NDArray[np.int64]

PADDINGS = {
    "zeros": sampling.ZEROS,
    "transparent": sampling.ZEROS,
    "border": sampling.BORDER,
    "reflection": sampling.REFLECTION,
}


class Place(NamedTuple):
    """Where objects are read and painted, as arrays."""

    frames: Reals
    reads: Integers
    table: Integers


def frames(
    theta: Tensor, src_boxes: Tensor | None, dst_boxes: Tensor, reads: Tensor, table: Tensor, align_corners: bool
) -> Tensor:
    thetas, boxes = _array(theta), _array(dst_boxes)
    source_boxes = boxes[:0] if src_boxes is None else _array(src_boxes)
    out: Reals = np.empty((len(thetas), 12), thetas.dtype)
    framing.frames(thetas.reshape(-1, 6), source_boxes, boxes, _array(reads), _array(table), align_corners, out)
    return torch.from_numpy(out)


def frames_backward(
    grad: Tensor,
    theta: Tensor,
    src_boxes: Tensor | None,
    dst_boxes: Tensor,
    reads: Tensor,
    table: Tensor,
    align_corners: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    thetas, boxes = _array(theta), _array(dst_boxes)
    source_boxes = boxes[:0] if src_boxes is None else _array(src_boxes)
    of_theta, of_src, of_dst = np.empty_like(thetas), np.empty_like(source_boxes), np.empty_like(boxes)
    results = of_theta.reshape(-1, 6), of_src, of_dst
    framing.frames_backward(_array(grad), thetas.reshape(-1, 6), source_boxes, boxes, align_corners, *results)
    if src_boxes is None:
        of_src = of_src[:, 0]
    return torch.from_numpy(of_theta), torch.from_numpy(of_src), torch.from_numpy(of_dst)


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
    job = _job(source.shape, total, mode, padding_mode, align_corners, covered)
    place = _place(frames, reads, table)
    values, coverage = _fresh(job.channels * total, place.frames), _fresh(total if covered else 0, place.frames)
    parts = tasks.window_tasks(place.table)
    arguments = parts, _flat(source, place.frames), *place, job, values, coverage
    spread(sampling.sample, arguments, len(parts), total)
    return torch.from_numpy(values.reshape(job.channels, total)), torch.from_numpy(coverage)


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
    job = _job(source.shape, total, mode, padding_mode, align_corners, covered)
    place = _place(frames, reads, table)
    like = place.frames
    of_values = np.zeros(job.channels * total, like.dtype) if grad_values is None else _flat(grad_values, like)
    of_coverage = np.zeros(0, like.dtype) if grad_coverage is None else _flat(grad_coverage, like)
    grad_source, grad_frames = source.new_empty(0), torch.from_numpy(_fresh(0, like))
    if of_source:
        flat = _fresh(source.numel(), like)
        _add_to_source(flat, True, len(source), place, job, of_values)
        grad_source = torch.from_numpy(flat).view(source.shape).to(source.dtype)
    if of_frames:
        grad_frames = _grad_of_frames(_flat(source, like), place, job, of_values, of_coverage)
    return grad_source, grad_frames


def paint(
    canvas: Tensor,
    frames: Tensor,
    reads: Tensor,
    table: Tensor,
    turns: list[int],
    totals: list[int],
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    place = _place(frames, reads, table)
    how = mode, padding_mode, align_corners
    if len(turns) > 1:
        job = _job(canvas.shape, sum(totals), *how, covered=True)
        return _shaped(_sweep(canvas, place, job)[0], canvas)
    job = _job(canvas.shape, canvas.shape[2:].numel(), *how)
    out = _fresh(canvas.numel(), place.frames)
    bands, groups = tasks.row_bands(canvas.shape), tasks.by_picture(place.table[:, Column.IMAGE], len(canvas))
    arguments = bands, *groups, _flat(canvas, place.frames), *place, job, out
    spread(sampling.paint, arguments, len(bands), canvas.numel())
    return _shaped(out, canvas)


def paint_backward(
    grad: Tensor,
    canvas: Tensor,
    frames: Tensor,
    reads: Tensor,
    table: Tensor,
    turns: list[int],
    totals: list[int],
    mode: str,
    padding_mode: str,
    align_corners: bool,
    of_canvas: bool,
    of_frames: bool,
) -> tuple[Tensor, Tensor]:
    job = _job(canvas.shape, sum(totals), mode, padding_mode, align_corners, covered=True)._replace(edges=False)
    place = _place(frames, reads, table)
    if len(turns) > 1:
        return _sweep_backward(grad, canvas, place, job, of_canvas, of_frames)
    out, grad_values, none = (_fresh(count, place.frames) for count in (grad.numel(), job.channels * job.total, 0))
    bands, groups = tasks.row_bands(grad.shape), tasks.by_picture(place.table[:, Column.IMAGE], len(grad))
    arguments = bands, *groups, _flat(grad, place.frames), *place, job, out, grad_values
    spread(sampling.paint_backward, arguments, len(bands), grad.numel())
    grad_frames = torch.from_numpy(none)
    if of_frames:
        grad_frames = _grad_of_frames(_flat(canvas, place.frames), place, job, grad_values, none)
    if not of_canvas:
        return grad.new_empty(0), grad_frames
    _add_to_source(out, False, len(canvas), place, job, grad_values)
    return _shaped(out, grad), grad_frames


def _sweep(canvas: Tensor, place: Place, job: sampling.Job, keep: bool = False) -> tuple[Reals, Reals]:
    """The flat painted canvas, where objects read what those before them left, and what was under each flat pixel.

    Images are independent of one another, and of one image nothing is done at once.
    """
    out, under = _fresh(canvas.numel(), place.frames), _fresh(job.channels * job.total if keep else 0, place.frames)
    groups = tasks.by_picture(place.table[:, Column.IMAGE], len(canvas))
    arguments = *groups, _flat(canvas, place.frames), *place, job, out, under
    spread(sampling.sweep, arguments, len(canvas), canvas.numel())
    return out, under


def _sweep_backward(
    grad: Tensor, canvas: Tensor, place: Place, job: sampling.Job, of_canvas: bool, of_frames: bool
) -> tuple[Tensor, Tensor]:
    painted, under = _sweep(canvas, place, job, keep=True)
    out, sums = np.array(_flat(grad, place.frames)), np.zeros((len(place.frames) if of_frames else 0, 12))
    groups = tasks.by_picture(place.table[:, Column.IMAGE], len(grad))
    arguments = *groups, *place, job, painted, under, out, sums
    spread(sampling.sweep_backward, arguments, len(grad), grad.numel())
    grad_frames = _rounded(sums, place.frames)
    return _shaped(out, grad) if of_canvas else grad.new_empty(0), grad_frames if of_frames else grad_frames.reshape(-1)


def composite(canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    job = _job(canvas.shape, len(opacity))
    opaque, windows = _array(opacity), _array(table)
    out, under = _fresh(canvas.numel(), opaque), _fresh(paint.numel() if keep else 0, opaque)
    bands, groups = tasks.row_bands(canvas.shape), tasks.by_picture(windows[:, Column.IMAGE], len(canvas))
    arguments = bands, *groups, _flat(canvas, opaque), _flat(paint, opaque), opaque, windows, job, out, under
    spread(compositing.composite, arguments, len(bands), canvas.numel())
    return _shaped(out, canvas), torch.from_numpy(under.reshape(paint.shape) if keep else under)


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    job = _job(grad.shape, len(opacity))
    opaque, windows = _array(opacity), _array(table)
    counts = grad.numel(), job.channels * job.total, job.total if len(under) else 0
    out, grad_paint, grad_opacity = (_fresh(count, opaque) for count in counts)
    bands, groups = tasks.row_bands(grad.shape), tasks.by_picture(windows[:, Column.IMAGE], len(grad))
    flat = _flat(grad, opaque), opaque, _flat(under, opaque)
    arguments = bands, *groups, *flat, windows, job, out, grad_paint, grad_opacity
    spread(compositing.composite_backward, arguments, len(bands), grad.numel())
    paint = torch.from_numpy(grad_paint).view(job.channels, job.total)
    return _shaped(out, grad), paint, torch.from_numpy(grad_opacity)


def _add_to_source(
    flat: Reals, clear: bool, pictures: int, place: Place, job: sampling.Job, grad_values: Reals
) -> None:
    """Add what the values read to the flat gradient of their source, which is cleared first or not."""
    # As many bands as threads need to share them evenly, and no more: each band looks at all rows of its objects.
    threads = threads_for(job.total)
    pieces = -(-4 * threads // max(pictures, 1)) if threads > 1 else 1
    bands = tasks.bands(pictures, job.height, -(-job.height // pieces))
    arguments = bands, *tasks.by_picture(place.reads[:, 0], pictures), *place, job, grad_values, clear, flat
    spread(sampling.sample_backward_source, arguments, len(bands), job.total)


def _grad_of_frames(source: Reals, place: Place, job: sampling.Job, grad_values: Reals, grad_coverage: Reals) -> Tensor:
    parts = tasks.window_tasks(place.table)
    partial, sums = np.zeros((len(parts), 12)), np.zeros((len(place.frames), 12))
    arguments = parts, source, *place, job, grad_values, grad_coverage, partial
    spread(sampling.sample_backward_frames, arguments, len(parts), job.total)
    np.add.at(sums, parts[:, 0], partial)  # in the order of the tasks
    return _rounded(sums, place.frames)


def _job(
    shape: torch.Size,
    total: int,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    covered: bool = False,
) -> sampling.Job:
    edge = 0.0 if align_corners else 0.5  # mirrors stand on the outermost pixel centres, or on their edges
    _, channels, height, width = shape
    how = mode == "nearest", PADDINGS[padding_mode], edge, covered, padding_mode == "transparent", covered
    return sampling.Job(channels, height, width, total, *how)


def _place(frames: Tensor, reads: Tensor, table: Tensor) -> Place:
    return Place(_array(frames), _array(reads), _array(table))


def _array(tensor: Tensor) -> NDArray[Any]:
    return (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy(force=True)


def _flat(tensor: Tensor, like: Reals) -> Reals:
    """A tensor's elements in the order of its dimensions, in the dtype that is computed in; no copy if they are so."""
    return tensor.to(torch.float64 if like.dtype == np.float64 else torch.float32).reshape(-1).numpy(force=True)


def _fresh(count: int, like: Reals) -> Reals:
    """Memory from NumPy: it asks for huge pages, where torch's comes at the price of a page fault every 4 KB."""
    return np.empty(count, like.dtype)


def _rounded(sums: NDArray[np.float64], like: Reals) -> Tensor:
    """By torch: NumPy would warn of what is too large for float32."""
    return torch.from_numpy(sums).to(torch.float64 if like.dtype == np.float64 else torch.float32)


def _shaped(flat: Reals, like: Tensor) -> Tensor:
    """A tensor of the dtype, shape and memory format of another, of which it keeps the bits of what is not a number."""
    tensor = torch.from_numpy(flat).view(like.shape)
    if tensor.dtype == like.dtype and like.is_contiguous():
        return tensor
    shaped = torch.empty_like(like).copy_(tensor)
    if tensor.dtype == like.dtype:
        return shaped
    return torch.where(shaped.isnan() & like.isnan(), like, shaped, out=shaped)
