"""*sample* and *composite* on the CPU, as ``reference.py`` defines them: work to tasks, tasks to the compiled loops."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.kernels import loops
from kornia_patchaug.kernels.threads import spread
from kornia_patchaug.windows import Column

PADDINGS = {"zeros": loops.ZEROS, "transparent": loops.ZEROS, "border": loops.BORDER, "reflection": loops.REFLECTION}
# Pixels of a task: few enough to share the work evenly, many enough not to notice that it is handed out.
WINDOW_TASK, BAND_TASK = 1 << 14, 1 << 16


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
    tasks = _window_tasks(table)
    arguments = tasks, _flat(source, frames), frames, reads, table, job, values, coverage
    spread(lambda begin, end: loops.sample(begin, end, *arguments), len(tasks), total)
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
    grad_source, grad_frames = source.new_empty(0), torch.from_numpy(frames[:0].copy())
    if of_source:
        flat = _fresh(source.numel(), frames)
        threads = torch.get_num_threads()
        pieces = -(-2 * threads // max(len(source), 1)) if threads > 1 else 1
        bands = _bands(len(source), job.height, -(-job.height // pieces))
        arguments = bands, *_by_picture(reads[:, 0], len(source)), frames, reads, table, job, grad_values, flat
        spread(lambda begin, end: loops.sample_backward_source(begin, end, *arguments), len(bands), total)
        grad_source = torch.from_numpy(flat).view(source.shape).to(source.dtype)
    if of_frames:
        tasks = _window_tasks(table)
        partial, sums = np.zeros((len(tasks), 12)), np.zeros((len(frames), 12))
        arguments = tasks, _flat(source, frames), frames, reads, table, job, grad_values, grad_coverage, partial
        spread(lambda begin, end: loops.sample_backward_frames(begin, end, *arguments), len(tasks), total)
        np.add.at(sums, tasks[:, 0], partial)  # in the order of the tasks
        grad_frames = torch.from_numpy(sums.astype(frames.dtype))
    return grad_source, grad_frames


def composite(canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    job = _job(canvas.shape, len(opacity))
    opacity, table = _arrays(opacity, table)
    out, under = _fresh(canvas.numel(), opacity), _fresh(paint.numel() if keep else 0, opacity)
    bands = _bands(len(canvas), job.height, max(1, BAND_TASK // job.width))
    groups = _by_picture(table[:, Column.IMAGE], len(canvas))
    arguments = bands, *groups, _flat(canvas, opacity), _flat(paint, opacity), opacity, table, job, out, under
    spread(lambda begin, end: loops.composite(begin, end, *arguments), len(bands), canvas.numel())
    return _shaped(out, canvas), torch.from_numpy(under.reshape(paint.shape) if keep else under)


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    job = _job(grad.shape, len(opacity))
    opacity, table = _arrays(opacity, table)
    out, grad_paint = _fresh(grad.numel(), opacity), _fresh(job.channels * job.total, opacity)
    grad_opacity = _fresh(job.total if under.numel() else 0, opacity)
    bands = _bands(len(grad), job.height, max(1, BAND_TASK // job.width))
    groups = _by_picture(table[:, Column.IMAGE], len(grad))
    arguments = bands, *groups, _flat(grad, opacity), opacity, _flat(under, opacity), table, job
    results = out, grad_paint, grad_opacity
    spread(lambda begin, end: loops.composite_backward(begin, end, *arguments, *results), len(bands), grad.numel())
    return (
        _shaped(out, grad),
        torch.from_numpy(grad_paint).view(job.channels, job.total),
        torch.from_numpy(grad_opacity),
    )


def _job(
    shape: torch.Size,
    total: int,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    covered: bool = False,
) -> loops.Job:
    edge = 0.0 if align_corners else 0.5  # mirrors stand on the outermost pixel centres, or on their edges
    how = mode == "nearest", PADDINGS[padding_mode], edge, covered, padding_mode == "transparent"
    return loops.Job(*shape[1:], total, *how)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _flat(tensor: Tensor, like: np.ndarray) -> np.ndarray:
    """A tensor's elements in the order of its dimensions, in the dtype that is computed in; no copy if they are so."""
    return tensor.detach().to(torch.float64 if like.dtype == np.float64 else torch.float32).reshape(-1).numpy()


def _fresh(count: int, like: np.ndarray) -> np.ndarray:
    """Memory from NumPy: it asks for huge pages, where torch's comes at the price of a page fault every 4 KB."""
    return np.empty(count, like.dtype)


def _shaped(flat: np.ndarray, like: Tensor) -> Tensor:
    """A tensor of the dtype, shape and memory format of another."""
    tensor = torch.from_numpy(flat).view(like.shape)
    if tensor.dtype == like.dtype and like.is_contiguous():
        return tensor
    return torch.empty_like(like).copy_(tensor)


def _window_tasks(table: np.ndarray) -> np.ndarray:
    """``(K, 3)``: object, first row, one past the last row of its window."""
    columns, rows = table[:, Column.SIZE].T
    step = np.maximum(WINDOW_TASK // np.maximum(columns, 1), 1)
    count = -(-rows // step)
    obj = np.repeat(np.arange(len(table)), count)
    begin = (np.arange(len(obj)) - np.repeat(np.cumsum(count) - count, count)) * step[obj]
    return np.stack([obj, begin, np.minimum(begin + step[obj], rows[obj])], axis=1)


def _bands(pictures: int, height: int, step: int) -> np.ndarray:
    """``(K, 3)``: picture, first row, one past the last row."""
    begin = np.arange(0, height, step)
    picture = np.repeat(np.arange(pictures), len(begin))
    begin = np.tile(begin, pictures)
    return np.stack([picture, begin, np.minimum(begin + step, height)], axis=1)


def _by_picture(index: np.ndarray, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """The objects sorted by their picture, in row order, and where those of each picture begin ``(pictures + 1,)``."""
    order = np.argsort(index, kind="stable")
    return order, np.searchsorted(index[order], np.arange(pictures + 1))
