"""Kernels beside the reference: every call that reaches an operator is made to both, and what they return compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

import kornia_patchaug as kp
from kornia_patchaug.kernels import cpu, reference, turns

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
    """Stands for a module of kernels: runs the CPU's at several numbers of threads, returns what the reference does."""

    def __init__(self, slack: float = 1, overflow: bool = False):
        self.slack, self.overflow, self.calls = slack, overflow, []

    def __getattr__(self, name):
        if name not in DEFINED:
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append((name, arguments))
            return compare(name, *arguments, slack=self.slack, overflow=self.overflow)

        return call


DEFINED = {name: getattr(reference, name) for name in ("frames", "frames_backward", "sample", "sample_backward")}
DEFINED |= {"composite": reference.composite, "composite_backward": reference.composite_backward}
DEFINED |= {name: partial(getattr(turns, name), reference) for name in ("paint", "paint_backward")}


def compare(name: str, *arguments, slack: float = 1, overflow: bool = False) -> tuple[Tensor, ...] | Tensor:
    """Fail unless the CPU kernel ``name`` returns what the reference does, the same bits at any number of threads."""
    versions = [t._version for t in arguments if isinstance(t, Tensor)]
    expected = through_float32(name, *arguments)
    first, *more = (run(name, *arguments, threads=count) for count in THREADS)
    assert versions == [t._version for t in arguments if isinstance(t, Tensor)]
    for other in more:
        for one, again in zip(first, other, strict=True):
            assert same_bits(one, again), f"{name}: other bits at another number of threads"
    for k, (one, of_reference) in enumerate(zip(first, expected, strict=True)):
        if name == "paint_backward" and k == 1:  # of frames, no more than theta needs
            one, of_reference = one[..., :6], of_reference[..., :6]
        assert_agree(one, of_reference, f"{name}[{k}]", slack, overflow)
    return expected[0] if name in ("frames", "paint") else expected


def through_float32(name: str, *arguments) -> tuple[Tensor, ...]:
    """What the reference returns, but that halves are computed with, and added up, in float32."""
    half = [t.dtype for t in arguments if isinstance(t, Tensor) and t.dtype in HALVES]
    arguments = [t.float() if isinstance(t, Tensor) and t.dtype in HALVES else t for t in arguments]
    first, *more = as_tuple(DEFINED[name](*arguments))
    # The first result is a picture, in the dtype of the picture that came; but for values, in which one computes.
    return (first.to(half[0]) if half and name != "sample" else first, *more)


def run(name: str, *arguments, threads: int = 1) -> tuple[Tensor, ...]:
    with _threads(threads):
        return as_tuple(getattr(cpu, name)(*arguments))


def as_tuple(results: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (results,) if isinstance(results, Tensor) else results


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
