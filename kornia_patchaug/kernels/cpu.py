"""The primitives on the CPU, as ``reference.py`` defines them: work to tasks, tasks to the loops."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import kornia_patchaug.kernels.compositing as compositing
import kornia_patchaug.kernels.framing as framing
import kornia_patchaug.kernels.sampling as sampling
import kornia_patchaug.kernels.tasks as tasks
from kornia_patchaug.kernels.running import spread, threads_for
from kornia_patchaug.windows import Column

PADDINGS = {
    "zeros": sampling.ZEROS,
    "transparent": sampling.ZEROS,
    "border": sampling.BORDER,
    "reflection": sampling.REFLECTION,
}


def frames(
    theta: Tensor, src_boxes: Tensor | None, dst_boxes: Tensor, reads: Tensor, table: Tensor, align_corners: bool
) -> Tensor:
    theta, boxes, reads, table = _arrays(theta, dst_boxes, reads, table)
    source_boxes = boxes[:0] if src_boxes is None else _arrays(src_boxes)[0]
    out = np.empty((len(theta), 12), theta.dtype)
    framing.frames(theta.reshape(-1, 6), source_boxes, boxes, reads, table, align_corners, out)
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
    grad, theta, boxes = _arrays(grad, theta, dst_boxes)
    source_boxes = boxes[:0] if src_boxes is None else _arrays(src_boxes)[0]
    of_theta, of_src, of_dst = np.empty_like(theta), np.empty_like(source_boxes), np.empty_like(boxes)
    results = of_theta.reshape(-1, 6), of_src, of_dst
    framing.frames_backward(grad, theta.reshape(-1, 6), source_boxes, boxes, align_corners, *results)
    return tuple(torch.from_numpy(r) for r in (of_theta, of_src[:, 0] if src_boxes is None else of_src, of_dst))


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
    frames, reads, table = _arrays(frames, reads, table)
    values, coverage = _fresh(job.channels * total, frames), _fresh(total if covered else 0, frames)
    parts = tasks.window_tasks(table)
    arguments = parts, _flat(source, frames), frames, reads, table, job, values, coverage
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
    frames, reads, table = _arrays(frames, reads, table)
    grad_values = np.zeros(job.channels * total, frames.dtype) if grad_values is None else _flat(grad_values, frames)
    grad_coverage = np.zeros(0, frames.dtype) if grad_coverage is None else _flat(grad_coverage, frames)
    grad_source, grad_frames = source.new_empty(0), torch.from_numpy(_fresh(0, frames))
    if of_source:
        flat = _fresh(source.numel(), frames)
        _add_to_source(flat, True, len(source), frames, reads, table, job, grad_values)
        grad_source = torch.from_numpy(flat).view(source.shape).to(source.dtype)
    if of_frames:
        grad_frames = _grad_of_frames(_flat(source, frames), frames, reads, table, job, grad_values, grad_coverage)
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
    frames, reads, table = _arrays(frames, reads, table)
    how = mode, padding_mode, align_corners
    if len(turns) > 1:
        job = _job(canvas.shape, sum(totals), *how, covered=True)
        return _shaped(_sweep(canvas, frames, reads, table, job)[0], canvas)
    job = _job(canvas.shape, canvas.shape[2:].numel(), *how)
    out = _fresh(canvas.numel(), frames)
    bands, groups = tasks.row_bands(canvas.shape), tasks.by_picture(table[:, Column.IMAGE], len(canvas))
    arguments = bands, *groups, _flat(canvas, frames), frames, reads, table, job, out
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
    frames, reads, table = _arrays(frames, reads, table)
    if len(turns) > 1:
        return _sweep_backward(grad, canvas, frames, reads, table, job, of_canvas, of_frames)
    out, grad_values, none = (_fresh(count, frames) for count in (grad.numel(), job.channels * job.total, 0))
    bands, groups = tasks.row_bands(grad.shape), tasks.by_picture(table[:, Column.IMAGE], len(grad))
    arguments = bands, *groups, _flat(grad, frames), frames, reads, table, job, out, grad_values
    spread(sampling.paint_backward, arguments, len(bands), grad.numel())
    grad_frames = torch.from_numpy(none)
    if of_frames:
        grad_frames = _grad_of_frames(_flat(canvas, frames), frames, reads, table, job, grad_values, none)
    if not of_canvas:
        return grad.new_empty(0), grad_frames
    _add_to_source(out, False, len(canvas), frames, reads, table, job, grad_values)
    return _shaped(out, grad), grad_frames


def _sweep(
    canvas: Tensor, frames: np.ndarray, reads: np.ndarray, table: np.ndarray, job: sampling.Job, keep: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The flat painted canvas, where objects read what those before them left, and what was under each flat pixel.

    Images are independent of one another, and of one image nothing is done at once.
    """
    out, under = _fresh(canvas.numel(), frames), _fresh(job.channels * job.total if keep else 0, frames)
    groups = tasks.by_picture(table[:, Column.IMAGE], len(canvas))
    arguments = *groups, _flat(canvas, frames), frames, reads, table, job, out, under
    spread(sampling.sweep, arguments, len(canvas), canvas.numel())
    return out, under


def _sweep_backward(
    grad: Tensor,
    canvas: Tensor,
    frames: np.ndarray,
    reads: np.ndarray,
    table: np.ndarray,
    job: sampling.Job,
    of_canvas: bool,
    of_frames: bool,
) -> tuple[Tensor, Tensor]:
    painted, under = _sweep(canvas, frames, reads, table, job, keep=True)
    out, sums = np.array(_flat(grad, frames)), np.zeros((len(frames) if of_frames else 0, 12))
    groups = tasks.by_picture(table[:, Column.IMAGE], len(grad))
    arguments = *groups, frames, reads, table, job, painted, under, out, sums
    spread(sampling.sweep_backward, arguments, len(grad), grad.numel())
    sums = _rounded(sums, frames)
    return _shaped(out, grad) if of_canvas else grad.new_empty(0), sums if of_frames else sums.reshape(-1)


def composite(canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    job = _job(canvas.shape, len(opacity))
    opacity, table = _arrays(opacity, table)
    out, under = _fresh(canvas.numel(), opacity), _fresh(paint.numel() if keep else 0, opacity)
    bands, groups = tasks.row_bands(canvas.shape), tasks.by_picture(table[:, Column.IMAGE], len(canvas))
    arguments = bands, *groups, _flat(canvas, opacity), _flat(paint, opacity), opacity, table, job, out, under
    spread(compositing.composite, arguments, len(bands), canvas.numel())
    return _shaped(out, canvas), torch.from_numpy(under.reshape(paint.shape) if keep else under)


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    job = _job(grad.shape, len(opacity))
    opacity, table = _arrays(opacity, table)
    counts = grad.numel(), job.channels * job.total, job.total if len(under) else 0
    out, grad_paint, grad_opacity = (_fresh(count, opacity) for count in counts)
    bands, groups = tasks.row_bands(grad.shape), tasks.by_picture(table[:, Column.IMAGE], len(grad))
    flat = _flat(grad, opacity), opacity, _flat(under, opacity)
    arguments = bands, *groups, *flat, table, job, out, grad_paint, grad_opacity
    spread(compositing.composite_backward, arguments, len(bands), grad.numel())
    paint = torch.from_numpy(grad_paint).view(job.channels, job.total)
    return _shaped(out, grad), paint, torch.from_numpy(grad_opacity)


def _add_to_source(
    flat: np.ndarray,
    clear: bool,
    pictures: int,
    frames: np.ndarray,
    reads: np.ndarray,
    table: np.ndarray,
    job: sampling.Job,
    grad_values: np.ndarray,
) -> None:
    """Add what the values read to the flat gradient of their source, which is cleared first or not."""
    # As many bands as threads need to share them evenly, and no more: each band looks at all rows of its objects.
    threads = threads_for(job.total)
    pieces = -(-4 * threads // max(pictures, 1)) if threads > 1 else 1
    bands = tasks.bands(pictures, job.height, -(-job.height // pieces))
    arguments = bands, *tasks.by_picture(reads[:, 0], pictures), frames, reads, table, job, grad_values, clear, flat
    spread(sampling.sample_backward_source, arguments, len(bands), job.total)


def _grad_of_frames(
    source: np.ndarray,
    frames: np.ndarray,
    reads: np.ndarray,
    table: np.ndarray,
    job: sampling.Job,
    grad_values: np.ndarray,
    grad_coverage: np.ndarray,
) -> Tensor:
    parts = tasks.window_tasks(table)
    partial, sums = np.zeros((len(parts), 12)), np.zeros((len(frames), 12))
    arguments = parts, source, frames, reads, table, job, grad_values, grad_coverage, partial
    spread(sampling.sample_backward_frames, arguments, len(parts), job.total)
    np.add.at(sums, parts[:, 0], partial)  # in the order of the tasks
    return _rounded(sums, frames)


def _job(
    shape: torch.Size,
    total: int,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    covered: bool = False,
) -> sampling.Job:
    edge = 0.0 if align_corners else 0.5  # mirrors stand on the outermost pixel centres, or on their edges
    how = mode == "nearest", PADDINGS[padding_mode], edge, covered, padding_mode == "transparent", covered
    return sampling.Job(*shape[1:], total, *how)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [(t if t.is_contiguous() else t.contiguous()).numpy(force=True) for t in tensors]


def _flat(tensor: Tensor, like: np.ndarray) -> np.ndarray:
    """A tensor's elements in the order of its dimensions, in the dtype that is computed in; no copy if they are so."""
    return tensor.to(torch.float64 if like.dtype == np.float64 else torch.float32).reshape(-1).numpy(force=True)


def _fresh(count: int, like: np.ndarray) -> np.ndarray:
    """Memory from NumPy: it asks for huge pages, where torch's comes at the price of a page fault every 4 KB."""
    return np.empty(count, like.dtype)


def _rounded(sums: np.ndarray, like: np.ndarray) -> Tensor:
    """By torch: NumPy would warn of what is too large for float32."""
    return torch.from_numpy(sums).to(torch.float64 if like.dtype == np.float64 else torch.float32)


def _shaped(flat: np.ndarray, like: Tensor) -> Tensor:
    """A tensor of the dtype, shape and memory format of another, of which it keeps the bits of what is not a number."""
    tensor = torch.from_numpy(flat).view(like.shape)
    if tensor.dtype == like.dtype and like.is_contiguous():
        return tensor
    shaped = torch.empty_like(like).copy_(tensor)
    if tensor.dtype == like.dtype:
        return shaped
    return torch.where(shaped.isnan() & like.isnan(), like, shaped, out=shaped)
