"""The primitives that everything is made of, as autograd functions, and the one place that chooses their backend.

*sample* reads a value for every window pixel, *composite* paints such values (``reference.py`` defines both), and
*paint* does both, in one sweep where the backend can. ``KORNIA_PATCHAUG_KERNELS=reference`` makes the reference the
backend everywhere.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, NoReturn, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

import kornia_patchaug.kernels.reference as reference
from kornia_patchaug.kernels.backend import Backend, Found, Fused, Inputs, Maybe, Read, Sampled, Wanted
from kornia_patchaug.plan import Plan, Windows

__all__ = ["backend_of", "composite", "is_fused", "light", "opacity_of_pixels", "paint", "sample", "sample_opaque"]

log = logging.getLogger("kornia_patchaug")

FEW = 4096  # pixels, which the reference paints as fast as anybody would notice
# device -> its backend, the package that it needs, how to get that
NATIVE = {
    "cpu": ("kornia_patchaug.kernels.cpu", "numba", "pip install 'kornia-patchaug[cpu]' gets it"),
    "cuda": ("kornia_patchaug.kernels.cuda", "triton", "CUDA builds of torch bring it"),
}


def sample(source: Tensor, theta: Tensor, boxes: Tensor, plan: Plan, source_boxes: Maybe = None) -> Sampled:
    """Values ``(C, P)`` and coverage ``(P,)`` of every window pixel, as `reference.sample` defines them.

    Each object's theta ``(N, 2, 3)`` maps its box in ``boxes`` to that in ``source_boxes``, or to the same place of the
    source without them.
    """
    # Coverage depends on the edges of boxes, and by reach on what is read. Else composite need not keep what it covers.
    varies = plan.box_coverage and boxes.requires_grad
    varies = varies or (plan.sampling.by_reach and any(_vary(theta, boxes, source_boxes)))
    sampled: Sampled = _apply(_Sample, source, theta, boxes, source_boxes, plan, varies)
    return sampled


def composite(canvas: Tensor, values: Tensor, opacity: Tensor, windows: Windows, in_place: bool = False) -> Tensor:
    """The canvas, or if not ``in_place`` a new one, with the windows painted over it in row order, as
    `reference.composite` defines it."""
    keep = opacity.requires_grad and torch.is_grad_enabled()
    painted: Tensor = _apply(_Composite, canvas, values, opacity, windows, keep, in_place)
    return painted


def paint(
    source: Maybe,
    canvas: Tensor,
    theta: Tensor,
    boxes: Tensor,
    plan: Plan,
    alpha: Maybe = None,
    source_boxes: Maybe = None,
    alpha_boxes: Maybe = None,
) -> Tensor:
    """*sample* from the source, then *composite* over the canvas.

    ``alpha``: the opacity A of each object ``(N,)``, or pictures of it ``(S, 1, h, w)`` that are read in
    ``alpha_boxes`` as ``plan.opacity`` says. Without a source each object reads the canvas as those before it left it,
    which takes a backend that `is_fused`.
    """
    backend = backend_of(canvas.device, plan.windows.total)
    if hasattr(backend, "paint"):
        by_theta = theta.requires_grad and (plan.sampling.by_reach or plan.opacity is not None)
        read_boxes = source_boxes if plan.sampling.by_reach else None
        keep = by_theta or any(_vary(boxes, alpha, read_boxes, alpha_boxes))
        read = Read.PAINTED if source is None else Read.CANVAS if source is canvas else Read.SOURCE
        opacity = alpha[:, None] if alpha is not None and plan.opacity is None else alpha
        given = source if read is Read.SOURCE else None, theta, boxes, source_boxes, canvas, opacity, alpha_boxes
        painted: Tensor = _apply(
            _Paint, *given, _Way(plan, read, keep and torch.is_grad_enabled(), cast("Fused", backend))
        )
        return painted
    assert source is not None
    values, opacity = sample_opaque(source, theta, boxes, plan, alpha, source_boxes, alpha_boxes)
    return composite(canvas, values, opacity, plan.windows)


def sample_opaque(
    source: Tensor,
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
    areas = torch.from_numpy(plan.windows.areas).to(alpha.device)
    return alpha.repeat_interleave(areas, output_size=plan.windows.total)


def light(opacity: Tensor, windows: Windows, size: tuple[int, int, int]) -> Tensor:
    """How much of each painted pixel is seen once all are painted, ``(P,)``: the product of 1 less the opacity of those
    above it, in ``B`` images of ``(H, W)``, the three numbers of ``size``."""
    through: Tensor = _apply(_Light, opacity, windows, size)
    return through


def is_fused(device: torch.device) -> bool:
    """Whether the device's backend paints in one sweep."""
    return hasattr(backend_of(device), "paint")


def backend_of(device: torch.device, pixels: int = 0) -> Backend:
    """The backend of a device; says, once, if the reference stands in for it in a call of more than a `FEW` pixels."""
    if os.environ.get("KORNIA_PATCHAUG_KERNELS") == "reference":
        return reference
    if device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        return reference  # atomic additions come in any order; torch's own are put in order, or refused
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
    def forward(ctx: Any, source: Tensor, *others: Any) -> Sampled:
        theta, boxes, source_boxes, plan, varies = others
        inputs = Inputs(source, theta, boxes, source_boxes)
        values, coverage = backend_of(source.device, plan.windows.total).sample(inputs, plan)
        ctx.set_materialize_grads(False)
        if not varies:
            ctx.mark_non_differentiable(coverage)
        ctx.plan, ctx.shape = plan, source.shape
        ctx.save_for_backward(_needed(source, plan) if any(ctx.needs_input_grad) else None, *inputs[1:])
        return values, coverage

    @staticmethod
    def backward(ctx: Any, grad_values: Maybe, grad_coverage: Maybe) -> Found:
        if grad_values is None and grad_coverage is None:
            return (None,) * 6
        needed, *others = ctx.saved_tensors
        wanted = Wanted(*ctx.needs_input_grad[:4])

        def gradients() -> Found:
            inputs = Inputs(_restored(needed, ctx.shape, ctx.plan), *others)
            return backend_of(needed.device).sample_backward(grad_values, grad_coverage, inputs, ctx.plan, wanted)

        return *_once(gradients, grad_values, grad_coverage, needed, *others), None, None


def _vary(*tensors: Maybe) -> Iterator[bool]:
    """Whether each has a gradient."""
    return (t is not None and t.requires_grad for t in tensors)


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    """``function.apply``, or where no gradient is recorded its forward alone, in a fraction of a small call's time."""
    if torch.is_grad_enabled() or forward_ad._current_level >= 0:
        return function.apply(*args)  # which refuses forward mode
    return function.forward(_Forgetful(), *args)


class _Forgetful:
    """Stands for the context of an autograd function where no gradient is recorded."""

    needs_input_grad = ()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def _needed(source: Tensor, plan: Plan) -> Tensor:
    """The source, or only what can be read of it: not a batch for each layer of objects."""
    if plan.read_areas is None:
        return source
    return torch.cat([source[:0].flatten(), *(source[area].flatten() for area in plan.read_areas.slices())])


def _restored(needed: Tensor, shape: torch.Size, plan: Plan) -> Tensor:
    """The source, 0 where `_needed` left it out."""
    if plan.read_areas is None:
        return needed
    source = needed.new_zeros(shape)
    pieces = needed.split((plan.read_areas.areas * shape[1]).tolist())
    for area, piece in zip(plan.read_areas.slices(), pieces, strict=True):
        source[area] = piece.view_as(source[area])
    return source


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, canvas: Tensor, values: Tensor, opacity: Tensor, *others: Any) -> Tensor:
        windows, keep, in_place = others
        painted, under = backend_of(canvas.device).composite(canvas, values, opacity, windows, keep, in_place)
        if in_place:
            ctx.mark_dirty(canvas)
        ctx.windows = windows
        ctx.save_for_backward(opacity, under)
        return painted

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Found:
        opacity, under = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]

        def gradients() -> Found:
            grads = backend_of(grad.device).composite_backward(grad, opacity, under, ctx.windows)
            return tuple(g if want else None for g, want in zip(grads, wanted, strict=True))

        return *_once(gradients, grad, opacity, under), None, None, None


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

        return *_once(gradients, grad, opacity), None, None


class _Way(NamedTuple):
    """How *paint* does it."""

    plan: Plan
    read: Read
    keep: bool  # what the gradient with respect to opacity takes, and to boxes and theta through it
    backend: Fused


class _Paint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Maybe, *others: Any) -> Tensor:
        theta, boxes, source_boxes, canvas, opacity, opacity_boxes, way = others
        inputs = Inputs(canvas if source is None else source, theta, boxes, source_boxes)
        given = opacity if way.plan.opacity is None else Inputs(opacity, theta, boxes, opacity_boxes)
        painted: Tensor
        painted, kept, sampled = way.backend.paint(inputs, canvas, given, way.plan, way.read, way.keep)
        ctx.way = way
        ctx.save_for_backward(*inputs, opacity, opacity_boxes, sampled, kept)
        return painted

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Found:
        *inputs, opacity, opacity_boxes, sampled, kept = ctx.saved_tensors
        wanted, way = Wanted(*ctx.needs_input_grad[:7]), ctx.way  # the inputs are in the order of `Wanted`
        given = grad, kept, Inputs(*inputs)

        def gradients() -> Found:
            if way.plan.opacity is not None:
                read = Inputs(opacity, inputs[1], inputs[2], opacity_boxes)
                return _paint_backward_of_read(*given, read, sampled, way, way.plan.opacity, wanted)
            of_inputs, *others = way.backend.paint_backward(*given, opacity, way.plan, way.read, wanted)
            return *of_inputs, *others, None

        return *_once(gradients, grad, *inputs, opacity, opacity_boxes, sampled, kept), None


def _paint_backward_of_read(
    grad: Tensor, kept: Tensor, inputs: Inputs, read: Inputs, sampled: Maybe, way: _Way, plan: Plan, wanted: Wanted
) -> Found:
    """The gradients with respect to the inputs of `_Paint` where opacity is ``read`` by a plan of its own: what there
    is, and where it is read, count in the opacity of pixels."""
    opacity = way.backend.sample(read, plan)[0][0] if sampled is None else sampled
    through = wanted.opacity or wanted.theta or wanted.boxes or wanted.opacity_boxes
    given = grad, kept, inputs, opacity, way.plan, way.read, wanted._replace(opacity=through)
    painted, of_canvas, of_opacity = way.backend.paint_backward(*given)
    if of_opacity is None:
        return *painted, of_canvas, None, None
    more = Wanted(wanted.opacity, wanted.theta, wanted.boxes, wanted.opacity_boxes)
    found = way.backend.sample_backward(of_opacity[None], None, read, plan, more)
    pairs = (painted.theta, found.theta), (painted.boxes, found.boxes)
    of_theta, of_boxes = (None if one is None or other is None else one + other for one, other in pairs)
    return painted.source, of_theta, of_boxes, painted.source_boxes, of_canvas, found.source, found.source_boxes


def _once(gradients: Callable[[], Found], *inputs: Maybe) -> Found:
    """Find gradients, so that to differentiate them again is an error."""
    if not torch.is_grad_enabled():
        return gradients()
    found: Found = _apply(_Once, gradients, *inputs)
    return found


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradients: Callable[[], Found], *inputs: Maybe) -> Found:
        return tuple(gradients())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        raise RuntimeError("kornia_patchaug: there are no second derivatives.")
