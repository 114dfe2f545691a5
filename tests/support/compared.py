"""Kernels beside the reference: every call that reaches a backend is made to both, and what they return compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

import kornia_patchaug as kp
from kornia_patchaug import kernels
from kornia_patchaug.kernels import cpu, reference
from kornia_patchaug.kernels.backend import Gradients, Inputs, Kept, Opacity, Read, Wanted
from kornia_patchaug.plan import START, Plan

# Relative to the largest value of each result, and at least to 1. Both round in other places: a position of some tens
# of pixels in float32 is off by 4e-6, and the values beside it by as much; sums over pixels, by less than that times
# the largest sum. Halves are rounded once, where either may fall on the other side.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}
HALVES = (torch.float16, torch.bfloat16)
THREADS = (1, 2, 5)  # how many bands the gradient of a source is cut into depends on them


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Both:
    """Stands for a backend: runs the CPU's at several numbers of threads, returns what the reference does."""

    def __init__(self, slack: float = 1, overflow: bool = False):
        self.slack, self.overflow, self.calls = slack, overflow, []
        self.fused = True  # paints in one sweep

    @property
    def IN_TURN(self) -> bool:  # noqa: N802
        return self.fused

    def __getattr__(self, name):
        if name not in DEFINED or (name.startswith("paint") and not self.fused):
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append((name, arguments))
            results, changed = compare(name, *arguments, slack=self.slack, overflow=self.overflow)
            if changed is None:
                return results
            given = changed_by(name, arguments).copy_(changed)
            return tuple(given if result is changed else result for result in results)

        return call


def paint(inputs: Inputs, canvas: Tensor, opacity: Opacity, plan: Plan, read: Read, keep: bool, in_place: bool = False):
    """*paint* by the reference's *sample* and *composite*, object after object where each reads what was painted.

    What is kept of a pixel is what was there less its value; or what was there, where the reach has a gradient.
    """
    if in_place:
        painted, *others = paint(inputs, canvas, opacity, plan, read, keep)
        return canvas.copy_(painted), *others
    if isinstance(opacity, Inputs):
        sampled = reference.sample(opacity, plan.opacity)[0][0]
        return *paint(inputs, canvas, sampled, plan, read, keep)[:2], sampled if keep else None
    if read is Read.PAINTED:
        for n in range(len(inputs.boxes)):
            rows, source_boxes = np.array([n]), inputs.source_boxes
            one = Inputs(canvas, *(None if t is None else t[rows] for t in (inputs.theta, inputs.boxes, source_boxes)))
            start, area = plan.windows.host[n, START], plan.windows.areas[n]
            its = opacity if opacity is None else opacity[rows] if opacity.ndim == 2 else opacity[start : start + area]
            canvas = paint(one, canvas, its, plan.rows(rows), Read.SOURCE, False)[0]
        return canvas, (inputs.boxes.new_empty(0),), None
    with patch.object(kernels, "backend_of", lambda *_: reference):
        values, coverage = kernels.sample(inputs.source, inputs.theta, inputs.boxes, plan, inputs.source_boxes)
        if opacity is not None:
            values, coverage = (of_pixels(opacity, plan) * one for one in (values, coverage))
        painted = kernels.composite(canvas, values, coverage, plan.windows)
    under = reference.composite(canvas, values, coverage, plan.windows, keep)[1]
    if keep and not plan.sampling.by_reach:
        whole, _ = reference.sample(inputs, replace(plan, box_coverage=False))
        under = under - whole
    return painted, (under,), None


def of_pixels(opacity: Tensor, plan: Plan) -> Tensor:
    """A of each flat pixel, of that of each object, or of each pixel already."""
    return (
        opacity
        if opacity.ndim == 1
        else kernels.opacity_of_pixels(opacity[:, 0], opacity, opacity, replace(plan, opacity=None))
    )


def paint_backward(
    grad: Tensor,
    kept: Kept,
    inputs: Inputs,
    opacity: Tensor | None,
    plan: Plan,
    read: Read,
    wanted: Wanted,
    in_place: bool = False,
):
    """Its gradients, by torch's differentiation of the reference."""
    if in_place:
        given = grad.clone(), kept, inputs, opacity, plan, read, wanted._replace(canvas=True)
        of_inputs, of_canvas, of_opacity = paint_backward(*given)
        grad.copy_(of_canvas)
        return of_inputs, None, of_opacity
    with torch.enable_grad(), patch.object(kernels, "backend_of", lambda *_: reference):
        leaves = [t if t is None else t.detach().requires_grad_() for t in (*inputs, opacity)]
        *varied, of_opacity = leaves
        if read is Read.PAINTED:
            outputs, grads = [paint(Inputs(*varied), varied[0], of_opacity, plan, read, False)[0]], [grad]
        else:
            values, coverage = kernels.sample(*varied[:3], plan, varied[3])
            (under,) = kept
            if under.numel() and not plan.sampling.by_reach:
                under = under + reference.sample(inputs, replace(plan, box_coverage=False))[0]
            if opacity is not None:
                values, coverage = (of_pixels(of_opacity, plan) * one for one in (values, coverage))
            under = under.reshape(values.shape if under.numel() else 0)
            of_canvas, *grads = reference.composite_backward(grad, coverage.detach(), under, plan.windows)
            outputs = [values, coverage] if under.numel() and coverage.requires_grad else [values]
        some = [t for t in leaves if t is not None]
        found = iter(torch.autograd.grad(outputs, some, grads[: len(outputs)], materialize_grads=True))
    source, *others, of_opacity = (None if t is None else next(found) for t in leaves)
    if read is Read.PAINTED:
        of_canvas, source = source, None
    elif read is Read.CANVAS:
        of_canvas, source = of_canvas + source, None
    chosen = [g if want else None for g, want in zip((source, *others), wanted[:4], strict=True)]
    return Gradients(*chosen), of_canvas if wanted.canvas else None, of_opacity if wanted.opacity else None


DEFINED = {name: getattr(reference, name) for name in ("sample", "sample_backward", "composite", "composite_backward")}
DEFINED |= {"paint": paint, "paint_backward": paint_backward}
# Which argument is changed in place, if another says so.
IN_PLACE = {
    "sample_backward": (5, 5),
    "composite": (0, 5),
    "composite_backward": (0, 4),
    "paint": (1, 6),
    "paint_backward": (0, 7),
}


def compare(name: str, *arguments, slack: float = 1, overflow: bool = False) -> tuple[tuple, Tensor | None]:
    """Fail unless the CPU kernel ``name`` returns what the reference does, the same bits at any number of threads; and
    the same of what it changes in place, which is returned too."""

    def called(call):
        given = changed_by(name, arguments)
        own = None if given is None else given.clone()
        results = call(*(own if own is not None and argument is given else argument for argument in arguments))
        return results, own

    versions = [t._version for t in flattened(arguments)]
    results, changed = called(partial(through_float32, name))
    expected = flattened((results, changed))
    first, *more = (flattened((*found, own)) for found, own in (called(partial(run, name, threads=n)) for n in THREADS))
    assert versions == [t._version for t in flattened(arguments)]
    for other in more:
        for one, again in zip(first, other, strict=True):
            assert same_bits(one, again), f"{name}: other bits at another number of threads"
    for k, (one, of_reference) in enumerate(zip(first, expected, strict=True)):
        assert_agree(one, of_reference.reshape(one.shape), f"{name}[{k}]", slack, overflow)
    return results, changed


def changed_by(name: str, arguments: tuple) -> Tensor | None:
    """What a call of a backend changes in place: then each here changes one of its own."""
    which, asked = IN_PLACE.get(name, (0, len(arguments)))
    is_asked = len(arguments) > asked and arguments[asked] is not None and arguments[asked] is not False
    return arguments[which] if is_asked else None


def flattened(values) -> list[Tensor]:
    """The tensors among values and in their tuples."""
    found = []
    for value in values:
        found += flattened(value) if isinstance(value, tuple) else [value] if isinstance(value, Tensor) else []
    return found


def through_float32(name: str, *arguments) -> tuple:
    """What the reference returns, but that halves are computed with, and added up, in float32."""
    half = [t.dtype for t in flattened(arguments) if t.dtype in HALVES]

    def widened(value):
        if isinstance(value, Inputs):
            return Inputs(*map(widened, value))
        if type(value) is tuple:
            return tuple(map(widened, value))
        return value.float() if isinstance(value, Tensor) and value.dtype in HALVES else value

    results = DEFINED[name](*map(widened, arguments))
    if not half or name == "sample":
        return results
    if name == "sample_backward":
        return results._replace(source=results.source if results.source is None else results.source.to(half[0]))
    if name == "paint_backward":
        inputs, canvas, opacity = results
        dtype = arguments[2].source.dtype
        inputs = inputs._replace(source=inputs.source if inputs.source is None else inputs.source.to(dtype))
        return inputs, canvas if canvas is None else canvas.to(arguments[0].dtype), opacity
    return results[0].to(half[0]), *results[1:]


def run(name: str, *arguments, threads: int = 1) -> list[Tensor]:
    with _threads(threads):
        return flattened(getattr(cpu, name)(*arguments))


_threads = threads


def same_bits(one: Tensor, other: Tensor) -> bool:
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return torch.equal(one.view(bits), other.view(bits))


def assert_agree(actual: Tensor, expected: Tensor, name: str = "", slack: float = 1, overflow: bool = False) -> None:
    """Fail if any number differs; with ``overflow``, one may be infinite or undefined where the other is not yet."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype, name
    assert actual.device == expected.device and not actual.requires_grad, name
    if not expected.numel():
        return
    tolerance = slack * TOLERANCE[expected.dtype]
    largest = max(1.0, expected.nan_to_num(0, 0, 0).abs().max().item())
    difference = (actual.double() - expected.double()).abs()
    fine = (difference <= tolerance * largest) | (actual.isnan() & expected.isnan()) | (actual == expected)
    if overflow:
        fine |= ~(actual.isfinite() & expected.isfinite())
    assert fine.all(), f"{name}: off by {difference[~fine].max()} of {largest} at {(~fine).nonzero()[:3].tolist()}"


def with_gradients(function, *inputs: Tensor | None, of: str = "weighted", **options) -> list[Tensor]:
    """The output of a function of tensors, and the gradients of its floating ones for a gradient laid out so."""
    leaves = [None if t is None else t.detach().requires_grad_(t.is_floating_point()) for t in inputs]
    output = function(*leaves, **options)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    grad = {
        "weighted": lambda: weight,
        "expanded": lambda: torch.ones((), dtype=output.dtype).expand(output.shape),
        "transposed": lambda: weight.mT.contiguous().mT,
        "channels last": lambda: weight.contiguous(memory_format=torch.channels_last),
    }[of]()
    wanted = [t for t in leaves if t is not None and t.requires_grad]
    return [output.detach(), *torch.autograd.grad(output, wanted, grad, materialize_grads=True)]


def without_boxes(images: Tensor, boxes: Tensor, theta: Tensor, obj_to_img: Tensor | None = None, **options):
    """The same of ``affine_patches`` with boxes that need no gradient, which is left to kernels of its own."""
    function = partial(affine_patches, boxes=boxes, obj_to_img=obj_to_img)
    return with_gradients(function, images, theta, **options)


def affine_patches(images: Tensor, theta: Tensor, *, boxes: Tensor, obj_to_img: Tensor | None, **options) -> Tensor:
    return kp.affine_patches(images, boxes, theta, obj_to_img, **options)


def with_and_without_boxes(*scene: Tensor, **options) -> tuple[list[Tensor], list[Tensor]]:
    return with_gradients(kp.affine_patches, *scene, **options), without_boxes(*scene, **options)
