"""The primitives that everything is made of, as autograd functions, and the one place that chooses their backend.

*sample* reads a value for every window pixel, *composite* paints such values (``reference.py`` defines both), and
*paint* does both, in one sweep where the backend can. ``KORNIA_PATCHAUG_KERNELS=reference`` makes the reference the
backend everywhere.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

import kornia_patchaug.kernels.reference as reference
from kornia_patchaug.kernels.backend import Backend, Found, Fused, Inputs, Kept, Maybe, Read, Sampled, Wanted
from kornia_patchaug.kernels.canvas import Canvas, Sheet
from kornia_patchaug.kernels.grads import apply, once
from kornia_patchaug.plan import Plan, Windows

__all__ = [
    "Canvas",
    "backend_of",
    "composite",
    "light",
    "opacity_of_pixels",
    "paint",
    "paints_in_turn",
    "sample",
    "sample_opaque",
]

log = logging.getLogger("kornia_patchaug")

FEW = 4096  # pixels, which the reference paints as fast as anybody would notice
# device -> its backend, the package that it needs, how to get that
NATIVE = {
    "cpu": ("kornia_patchaug.kernels.cpu", "numba", "pip install 'kornia-patchaug[cpu]' gets it"),
    "cuda": ("kornia_patchaug.kernels.cuda", "triton", "CUDA builds of torch bring it"),
}

Pictures = TypeVar("Pictures", Tensor, Canvas)


def sample(source: Tensor | Canvas, theta: Tensor, boxes: Tensor, plan: Plan, source_boxes: Maybe = None) -> Sampled:
    """Values ``(C, P)`` and coverage ``(P,)`` of every window pixel, as `reference.sample` defines them.

    Each object's theta ``(N, 2, 3)`` maps its box in ``boxes`` to that in ``source_boxes``, or to the same place of the
    source without them.
    """
    # Coverage depends on the edges of boxes, and by reach on what is read. Else composite need not keep what it covers.
    varies = plan.box_coverage and boxes.requires_grad
    varies = varies or (plan.sampling.by_reach and any(_vary(theta, boxes, source_boxes)))
    given, sheet = _of(source)
    values, coverage, thread = apply(_Sample, given, theta, boxes, source_boxes, plan, varies, sheet)
    if isinstance(source, Canvas):
        source.thread = thread
    return values, coverage


def composite(canvas: Pictures, values: Tensor, opacity: Tensor, windows: Windows) -> Pictures:
    """The canvas with the windows painted over it in row order, as `reference.composite` defines it: a new one of a
    tensor, a `Canvas` itself."""
    keep = opacity.requires_grad and torch.is_grad_enabled()
    given, sheet = _of(canvas)
    return _go_on(canvas, apply(_Composite, given, values, opacity, windows, keep, sheet))


def paint(
    source: Maybe,
    canvas: Pictures,
    theta: Tensor,
    boxes: Tensor,
    plan: Plan,
    alpha: Maybe = None,
    source_boxes: Maybe = None,
    alpha_boxes: Maybe = None,
) -> Pictures:
    """*sample* from the source, then *composite* over the canvas.

    ``alpha``: the opacity A of each object ``(N,)``, or pictures of it ``(S, 1, h, w)`` that are read in
    ``alpha_boxes`` as ``plan.opacity`` says. Without a source each object reads the canvas as those before it left it,
    which takes a backend that `paints_in_turn`.
    """
    backend = backend_of(canvas.device, plan.windows.total)
    if hasattr(backend, "paint"):
        by_theta = theta.requires_grad and (plan.sampling.by_reach or plan.opacity is not None)
        read_boxes = source_boxes if plan.sampling.by_reach else None
        keep = by_theta or any(_vary(boxes, alpha, read_boxes, alpha_boxes))
        read = Read.PAINTED if source is None else Read.CANVAS if source is canvas else Read.SOURCE
        opacity = alpha[:, None] if alpha is not None and plan.opacity is None else alpha
        given, sheet = _of(canvas)
        way = _Way(plan, read, keep and torch.is_grad_enabled(), cast("Fused", backend), sheet)
        source = source if read is Read.SOURCE else None
        return _go_on(canvas, apply(_Paint, source, theta, boxes, source_boxes, given, opacity, alpha_boxes, way))
    assert source is not None
    values, opacity = sample_opaque(source, theta, boxes, plan, alpha, source_boxes, alpha_boxes)
    return composite(canvas, values, opacity, plan.windows)


def _of(pictures: Tensor | Canvas) -> tuple[Tensor, Sheet | None]:
    """What autograd sees of pictures, and the sheet that a canvas has."""
    return (pictures.thread, pictures.sheet) if isinstance(pictures, Canvas) else (pictures, None)


def _go_on(pictures: Pictures, made: Tensor) -> Pictures:
    """What was made of pictures: the thread of a canvas."""
    if isinstance(pictures, Canvas):
        pictures.thread = made
        return pictures
    return made


def sample_opaque(
    source: Tensor | Canvas,
    theta: Tensor,
    boxes: Tensor,
    plan: Plan,
    alpha: Maybe = None,
    source_boxes: Maybe = None,
    alpha_boxes: Maybe = None,
) -> Sampled:
    """Values ``(C, P)`` times their opacity, and the opacity ``(P,)`` of every window pixel, as *paint* has them."""
    values, coverage = sample(source, theta, boxes, plan, source_boxes)
    if alpha is None:
        return values, coverage
    opacity = opacity_of_pixels(alpha, theta, boxes, plan, alpha_boxes)
    return opacity * values, opacity * coverage


def opacity_of_pixels(alpha: Tensor, theta: Tensor, boxes: Tensor, plan: Plan, alpha_boxes: Maybe = None) -> Tensor:
    """The opacity A of each window pixel, ``(P,)``."""
    if plan.opacity is not None:
        return sample(alpha, theta, boxes, plan.opacity, alpha_boxes)[0][0]
    return plan.windows.repeated(alpha)


def light(opacity: Tensor, windows: Windows, size: tuple[int, int, int]) -> Tensor:
    """How much of each painted pixel is seen once all are painted, ``(P,)``: the product of 1 less the opacity of those
    above it, in ``B`` images of ``(H, W)``, the three numbers of ``size``."""
    through: Tensor = apply(_Light, opacity, windows, size)
    return through


def paints_in_turn(device: torch.device) -> bool:
    """Whether the device's backend paints in one sweep what reads what is painted."""
    return getattr(backend_of(device), "IN_TURN", False)


def backend_of(device: torch.device, pixels: int = 0) -> Backend:
    """The backend of a device; says, once, if the reference stands in for it in a call of more than a `FEW` pixels."""
    if os.environ.get("KORNIA_PATCHAUG_KERNELS") == "reference":
        return reference
    backend, why = _native(device.type)
    if why and pixels > FEW:
        _warn(why)
    return backend


@cache  # so that it is said once
def _native(device: str) -> tuple[Backend, str]:
    """The kernels of a kind of device, or the reference and why it runs."""
    if device not in NATIVE:
        log.info("There are no kernels for %s: the reference runs.", device)
        return reference, ""
    name, needs, remedy = NATIVE[device]
    try:
        importlib.import_module(needs)
    except Exception as error:  # a broken installation can raise anything
        why = f"No {needs} ({error}): the reference runs on {device}, which is slower; {remedy}."
    else:
        try:
            return cast("Backend", importlib.import_module(name)), ""
        except ImportError as error:  # of kernels/cpu/jit.py: the JIT is off, or LLVM does not know the processor
            why = f"{needs} cannot be used ({error}): the reference runs on {device}, which is slower."
    log.info(why)
    return reference, why


@cache
def _warn(why: str) -> None:
    log.warning(why)


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, *others: Any) -> tuple[Tensor, Tensor, Maybe]:
        theta, boxes, source_boxes, plan, varies, sheet = others
        inputs = Inputs(source if sheet is None else sheet.pixels, theta, boxes, source_boxes)
        values, coverage = backend_of(source.device, plan.windows.total).sample(inputs, plan)
        ctx.set_materialize_grads(False)
        if not varies:
            ctx.mark_non_differentiable(coverage)
        ctx.plan, ctx.sheet = plan, sheet
        needed = sheet.kept(plan.areas) if sheet is not None and any(ctx.needs_input_grad[1:4]) else source
        ctx.save_for_backward(needed, *inputs[1:])
        return values, coverage, None if sheet is None else source.new_empty(0)

    @staticmethod
    def backward(ctx: Any, grad_values: Maybe, grad_coverage: Maybe, _: Maybe) -> Found:
        if grad_values is None and grad_coverage is None:
            return (None,) * 7
        needed, *others = ctx.saved_tensors
        wanted, sheet, plan = Wanted(*ctx.needs_input_grad[:4]), ctx.sheet, ctx.plan

        def gradients() -> Found:
            source, into = needed, None
            if sheet is not None:
                into = sheet.gradient(needed)
                source = sheet.restored(needed, plan.areas) if any(wanted[1:4]) else into
            inputs = Inputs(source, *others)
            return backend_of(needed.device).sample_backward(grad_values, grad_coverage, inputs, plan, wanted, into)

        return *once(gradients, grad_values, grad_coverage, needed, *others), None, None, None


def _vary(*tensors: Maybe) -> Iterator[bool]:
    """Whether each has a gradient."""
    return (t is not None and t.requires_grad for t in tensors)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, canvas: Tensor, values: Tensor, opacity: Tensor, *others: Any) -> Tensor:
        windows, keep, sheet = others
        pixels, in_place = (canvas, False) if sheet is None else (sheet.pixels, True)
        painted, under = backend_of(canvas.device).composite(pixels, values, opacity, windows, keep, in_place)
        ctx.set_materialize_grads(False)
        ctx.windows, ctx.sheet = windows, sheet
        ctx.save_for_backward(opacity, under)
        return canvas.new_empty(0) if in_place else painted

    @staticmethod
    def backward(ctx: Any, grad: Maybe) -> Found:
        (opacity, under), sheet = ctx.saved_tensors, ctx.sheet
        if grad is None and sheet is None:
            return (None,) * 6
        wanted = ctx.needs_input_grad[0] and sheet is None, *ctx.needs_input_grad[1:3]

        def gradients() -> Found:
            of = _carried_back(grad, sheet, opacity)
            grads = backend_of(of.device).composite_backward(of, opacity, under, ctx.windows, sheet is not None)
            return tuple(g if want else None for g, want in zip(grads, wanted, strict=True))

        return *once(gradients, grad, opacity, under), None, None, None


class _Light(torch.autograd.Function):
    """It is what *composite* hands back to values for a gradient of ones. So the painted canvas of values v adds up to
    their sum weighted by it, of which the gradient is that of the sum with respect to opacity."""

    @staticmethod
    def forward(ctx: Any, opacity: Tensor, windows: Windows, size: tuple[int, int, int]) -> Tensor:
        ctx.windows, ctx.size = windows, size
        ctx.save_for_backward(opacity)
        ones = opacity.new_ones(size[0], 1, *size[1:])
        through = backend_of(opacity.device).composite_backward(ones, opacity, opacity[:0], windows)[1]
        return cast("Tensor", through)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Found:
        (opacity,) = ctx.saved_tensors

        def gradients() -> Found:
            backend, zeros = backend_of(opacity.device), opacity.new_zeros(ctx.size[0], 1, *ctx.size[1:])
            painted, under = backend.composite(zeros, grad[None], opacity, ctx.windows, True, True)
            ones = painted.fill_(1)
            return (backend.composite_backward(ones, opacity, under, ctx.windows)[2],)

        return *once(gradients, grad, opacity), None, None


class _Way(NamedTuple):
    """How *paint* does it."""

    plan: Plan
    read: Read
    keep: bool  # what the gradient with respect to opacity takes, and to boxes and theta through it
    backend: Fused
    sheet: Sheet | None  # of a canvas that is painted in place


class _Paint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Maybe, *others: Any) -> Tensor:
        theta, boxes, source_boxes, canvas, opacity, opacity_boxes, way = others
        inputs = Inputs(canvas if source is None else source, theta, boxes, source_boxes)
        given = opacity if way.plan.opacity is None else Inputs(opacity, theta, boxes, opacity_boxes)
        painted: Tensor
        pixels, in_place = (canvas, False) if way.sheet is None else (way.sheet.pixels, True)
        painted, kept, sampled = way.backend.paint(inputs, pixels, given, way.plan, way.read, way.keep, in_place)
        ctx.set_materialize_grads(False)
        ctx.way = way
        ctx.save_for_backward(*inputs, opacity, opacity_boxes, sampled, *kept)
        return canvas.new_empty(0) if in_place else painted

    @staticmethod
    def backward(ctx: Any, grad: Maybe) -> Found:
        saved = ctx.saved_tensors
        inputs, (opacity, opacity_boxes, sampled), kept = saved[:4], saved[4:7], saved[7:]
        wanted, way = Wanted(*ctx.needs_input_grad[:7]), ctx.way  # the inputs are in the order of `Wanted`
        if grad is None and way.sheet is None:
            return (None,) * 8

        def gradients() -> Found:
            given = _carried_back(grad, way.sheet, kept[0]), kept, Inputs(*inputs)
            if way.plan.opacity is not None:
                read = Inputs(opacity, inputs[1], inputs[2], opacity_boxes)
                return _paint_backward_of_read(*given, read, sampled, way, way.plan.opacity, wanted)
            options = way.plan, way.read, wanted, way.sheet is not None
            of_inputs, *others = way.backend.paint_backward(*given, opacity, *options)
            return *of_inputs, *others, None

        return *once(gradients, grad, *saved), None


def _carried_back(grad: Maybe, sheet: Sheet | None, like: Tensor) -> Tensor:
    """The gradient with respect to what was painted: what came, or that of a canvas, to be changed in place."""
    return cast("Tensor", grad) if sheet is None else sheet.gradient(like)


def _paint_backward_of_read(
    grad: Tensor, kept: Kept, inputs: Inputs, read: Inputs, sampled: Maybe, way: _Way, plan: Plan, wanted: Wanted
) -> Found:
    """The gradients with respect to the inputs of `_Paint` where opacity is ``read`` by a plan of its own: what there
    is, and where it is read, count in the opacity of pixels."""
    opacity = way.backend.sample(read, plan)[0][0] if sampled is None else sampled
    through = wanted.opacity or wanted.theta or wanted.boxes or wanted.opacity_boxes
    given = grad, kept, inputs, opacity, way.plan, way.read, wanted._replace(opacity=through), way.sheet is not None
    painted, of_canvas, of_opacity = way.backend.paint_backward(*given)
    if of_opacity is None:
        return *painted, of_canvas, None, None
    more = Wanted(wanted.opacity, wanted.theta, wanted.boxes, wanted.opacity_boxes)
    found = way.backend.sample_backward(of_opacity[None], None, read, plan, more)
    pairs = (painted.theta, found.theta), (painted.boxes, found.boxes)
    of_theta, of_boxes = (None if one is None or other is None else one + other for one, other in pairs)
    return painted.source, of_theta, of_boxes, painted.source_boxes, of_canvas, found.source, found.source_boxes
