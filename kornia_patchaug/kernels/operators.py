"""The operators of the primitives: one boundary, behind which the device decides which kernels run.

``KORNIA_PATCHAUG_KERNELS=reference`` makes it the reference everywhere.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

import kornia_patchaug.kernels.reference as reference
import kornia_patchaug.kernels.turns as by_turns
from kornia_patchaug.kernels.registering import once_differentiable, operator
from kornia_patchaug.windows import Windows, layers

if TYPE_CHECKING:
    from numpy.typing import NDArray

Gradients = tuple[Tensor | None, ...]  # of each argument of an operator

log = logging.getLogger("kornia_patchaug")

# device -> its kernels, the package that they need, how to get that
NATIVE = {
    "cpu": ("kornia_patchaug.kernels.cpu", "numba", "pip install 'kornia-patchaug[cpu]' gets it"),
    "cuda": ("kornia_patchaug.kernels.cuda", "triton", "CUDA builds of torch bring it"),
}


def sample(
    source: Tensor,
    theta: Tensor,
    src_boxes: Tensor | None,
    dst_boxes: Tensor,
    reads: NDArray[np.int64],
    windows: Windows,
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    covered: bool = True,
) -> tuple[Tensor, Tensor]:
    """Values ``(C, P)`` and coverage ``(P,)`` of every window pixel, as ``reference.py`` defines them.

    Each object's theta ``(N, 2, 3)`` maps its box in ``dst_boxes`` to that in ``src_boxes``, or to the same place of
    the source without them; ``reads (N, 7)`` is on the host.
    """
    place = theta, src_boxes, dst_boxes, torch.from_numpy(reads).to(source.device, non_blocking=True), windows.table
    values, coverage = sample_op(source, *place, windows.total, mode, padding_mode, align_corners, covered)
    # Coverage depends on edges, and if transparent on theta. Where it does not, composite need not keep what it covers.
    by_theta = theta.requires_grad and padding_mode == "transparent"
    if coverage.requires_grad and not (dst_boxes.requires_grad or by_theta):
        coverage = coverage.detach()
    return values, coverage


def composite(canvas: Tensor, paint: Tensor, opacity: Tensor, windows: Windows) -> Tensor:
    """A new canvas with the windows painted over it in row order, as `reference.composite` defines it."""
    keep = opacity.requires_grad and torch.is_grad_enabled()
    return composite_op(canvas, paint, opacity, windows.table, keep)[0]


def paint(
    canvas: Tensor,
    theta: Tensor,
    boxes: Tensor,
    reads: NDArray[np.int64],
    windows: Windows,
    regions: Callable[[], Windows] | None = None,
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    """*sample* from the canvas, then *composite* over it, in one sweep: for ``boxes`` that need no gradient.

    What lies between the two is never held, which is most of the memory traffic. With ``regions``, the pixels that
    each object may read, it reads what those before it left.
    """
    areas = windows.host[:, 3] * windows.host[:, 4]
    if regions is None:
        turns, totals = [len(areas)], [windows.total]
    elif len(areas) and hasattr(kernels(canvas.device), "paint"):
        turns, totals = [1] * len(areas), areas.tolist()
    else:
        layered = layers(windows, regions())
        turns, totals = [len(rows) for rows in layered], [int(areas[rows.numpy()].sum()) for rows in layered]
        rows = torch.cat(layered)
        windows, reads = windows.select(rows), reads[rows.numpy()]
        theta, boxes = (t[rows.to(t.device)] for t in (theta, boxes))
    there = torch.from_numpy(reads).to(canvas.device, non_blocking=True)
    return paint_op(canvas, theta, boxes, there, windows.table, turns, totals, mode, padding_mode, align_corners)


def kernels(device: torch.device) -> by_turns.Kernels:
    """The module whose *sample* and *composite* run on a device."""
    if os.environ.get("KORNIA_PATCHAUG_KERNELS") == "reference":
        return reference
    if device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        return reference  # atomic additions come in any order; torch's own are put in order, or refused
    return _native(device.type)


@cache  # so that it is said once
def _native(device: str) -> by_turns.Kernels:
    if device not in NATIVE:
        log.info("There are no kernels for %s: the reference runs.", device)
        return reference
    name, needs, remedy = NATIVE[device]
    try:
        importlib.import_module(needs)
    except ImportError as error:
        log.info("No %s (%s): the reference runs on %s, which is slower; %s.", needs, error, device, remedy)
        return reference
    return cast("by_turns.Kernels", importlib.import_module(name))


def _fake_sample(
    source: Tensor,
    theta: Tensor,
    src_boxes: Tensor | None,
    dst_boxes: Tensor,
    reads: Tensor,
    table: Tensor,
    total: int,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    covered: bool,
) -> tuple[Tensor, Tensor]:
    return theta.new_empty(source.shape[1], total), theta.new_empty(total if covered else 0)


def _sample_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:6])
    ctx.options = inputs[6:]


def _sample_gradient(ctx: Any, grad_values: Tensor | None, grad_coverage: Tensor | None) -> Gradients:
    wanted = ctx.needs_input_grad[:4]
    if grad_values is None and grad_coverage is None:
        return (None,) * 11
    inputs = *ctx.saved_tensors, *ctx.options, wanted[0], any(wanted[1:])
    grads = sample_backward_op(grad_values, grad_coverage, *inputs)
    return *(grad if want else None for grad, want in zip(grads, wanted, strict=True)), *[None] * 7


@operator("sample", _fake_sample, _sample_gradient, _sample_context)
def sample_op(
    source: Tensor,
    theta: Tensor,
    src_boxes: Tensor | None,
    dst_boxes: Tensor,
    reads: Tensor,
    table: Tensor,
    total: int,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    covered: bool,
) -> tuple[Tensor, Tensor]:
    run = kernels(source.device)
    frames = run.frames(theta, src_boxes, dst_boxes, reads, table, align_corners)
    return run.sample(source, frames, reads, table, total, mode, padding_mode, align_corners, covered)


def _fake_sample_backward(*inputs: Any) -> tuple[Tensor, ...]:
    _, _, source, theta, src_boxes, dst_boxes, *_, of_source, of_frames = inputs
    wanted = (source, of_source), (theta, of_frames), (src_boxes, of_frames), (dst_boxes, of_frames)
    return tuple(t.new_empty(t.shape) if w and t is not None else theta.new_empty(0) for t, w in wanted)


@operator("sample_backward", _fake_sample_backward, once_differentiable)
def sample_backward_op(
    grad_values: Tensor | None,
    grad_coverage: Tensor | None,
    source: Tensor,
    theta: Tensor,
    src_boxes: Tensor | None,
    dst_boxes: Tensor,
    reads: Tensor,
    table: Tensor,
    total: int,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    covered: bool,
    of_source: bool,
    of_frames: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of source, and of theta, ``src_boxes`` and ``dst_boxes``; empty where not wanted."""
    run = kernels(source.device)
    place = theta, src_boxes, dst_boxes, reads, table, align_corners
    how = total, mode, padding_mode, align_corners, covered
    grad_source, grad_frames = run.sample_backward(
        grad_values, grad_coverage, source, run.frames(*place), reads, table, *how, of_source, of_frames
    )
    if of_frames:
        return grad_source, *run.frames_backward(grad_frames, *place)
    return grad_source, theta.new_empty(0), theta.new_empty(0), theta.new_empty(0)


def _fake_composite(canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool) -> tuple[Tensor, ...]:
    return torch.empty_like(canvas), paint.new_empty(paint.shape if keep else 0)


def _composite_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, opacity, table, _ = inputs
    ctx.save_for_backward(opacity, output[1], table)


def _composite_gradient(ctx: Any, grad: Tensor, grad_under: Tensor) -> Gradients:
    opacity, under, table = ctx.saved_tensors
    grad_canvas, grad_paint, grad_opacity = composite_backward_op(grad, opacity, under, table)
    return grad_canvas, grad_paint, grad_opacity if ctx.needs_input_grad[2] else None, None, None


@operator("composite", _fake_composite, _composite_gradient, _composite_context)
def composite_op(canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """The painted canvas, and what was under each painted pixel; empty if not to ``keep``."""
    return kernels(canvas.device).composite(canvas, paint, opacity, table, keep)


def _fake_composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor) -> tuple[Tensor, ...]:
    grad_paint = opacity.new_empty(grad.shape[1], len(opacity))
    return torch.empty_like(grad), grad_paint, opacity.new_empty(len(opacity) if under.numel() else 0)


@operator("composite_backward", _fake_composite_backward, once_differentiable)
def composite_backward_op(grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of canvas, paint and opacity; the last is empty if nothing was kept."""
    return kernels(grad.device).composite_backward(grad, opacity, under, table)


def _paint_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.options = inputs[5:]


def _paint_gradient(ctx: Any, grad: Tensor) -> Gradients:
    wanted = ctx.needs_input_grad[:2]
    grads = paint_backward_op(grad, *ctx.saved_tensors, *ctx.options, *wanted)
    return *(grad if want else None for grad, want in zip(grads, wanted, strict=True)), *[None] * 8


@operator("paint", lambda canvas, *_: torch.empty_like(canvas), _paint_gradient, _paint_context)
def paint_op(
    canvas: Tensor,
    theta: Tensor,
    boxes: Tensor,
    reads: Tensor,
    table: Tensor,
    turns: list[int],
    totals: list[int],
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    run = kernels(canvas.device)
    frames = run.frames(theta, None, boxes, reads, table, align_corners)
    by_kernels = getattr(run, "paint", partial(by_turns.paint, run))
    return by_kernels(canvas, frames, reads, table, turns, totals, mode, padding_mode, align_corners)


def _fake_paint_backward(grad: Tensor, canvas: Tensor, theta: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    of_canvas, of_theta = rest[-2:]
    return torch.empty_like(grad) if of_canvas else grad.new_empty(0), theta.new_empty(theta.shape if of_theta else 0)


@operator("paint_backward", _fake_paint_backward, once_differentiable)
def paint_backward_op(
    grad: Tensor,
    canvas: Tensor,
    theta: Tensor,
    boxes: Tensor,
    reads: Tensor,
    table: Tensor,
    turns: list[int],
    totals: list[int],
    mode: str,
    padding_mode: str,
    align_corners: bool,
    of_canvas: bool,
    of_theta: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of canvas and theta; empty where not wanted."""
    run, place = kernels(grad.device), (theta, None, boxes, reads, table, align_corners)
    by_kernels = getattr(run, "paint_backward", partial(by_turns.paint_backward, run))
    what = grad, canvas, run.frames(*place), reads, table, turns, totals
    grad_canvas, grad_frames = by_kernels(*what, mode, padding_mode, align_corners, of_canvas, of_theta)
    return grad_canvas, run.frames_backward(grad_frames, *place)[0] if of_theta else theta.new_empty(0)
