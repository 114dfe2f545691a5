"""The operators around the kernels: torch's own checks, derivatives, what they keep, and which kernels they run."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
import torch
from support.scenes import mattes, scene
from torch import Tensor

import kornia_patchaug as kp
from kornia_patchaug.kernels import cpu, operators, reference

ops = torch.ops.kornia_patchaug
STEPS = {"sample", "sample_backward", "composite", "composite_backward"}
SWEEP = {"paint", "paint_backward"}
ROOT = Path(__file__).parents[1]


# --- torch's own checks -----------------------------------------------------------------------------------------------


def calls_of(images: Tensor, wanted: tuple[str, ...], alpha: str = "none", **options) -> list[tuple]:
    """What the operators are called with, forward and backward."""
    _, boxes, theta, obj_to_img = scene("fractional", dtype=torch.float32)
    matte = mattes(len(boxes))[alpha]
    inputs = {"images": images, "boxes": boxes, "theta": theta, "alpha": None if matte is None else matte.float()}
    inputs = {k: v.detach().requires_grad_() if k in wanted else v for k, v in inputs.items()}
    calls = []

    def watched(function):
        def call(*args):
            calls.append((function, [leaf(a, b) for a, b in zip(args, needs(function, args), strict=True)]))
            return function(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS | SWEEP:
            patch.setattr(operators, f"{name}_op", watched(getattr(ops, name).default))
        kp.affine_patches(**inputs, obj_to_img=obj_to_img, **options).square().mean().backward()
    return calls


def leaf(argument, wanted: bool):
    """A tensor of its own, that asks for a gradient if wanted."""
    if not isinstance(argument, Tensor):
        return argument
    copy = torch.empty_like(argument).copy_(argument)
    return copy.requires_grad_() if wanted else copy


def needs(function, args) -> list[bool]:
    """Forward operators have gradients of all that is floating, with the exceptions below."""
    forward = function in (ops.sample.default, ops.composite.default, ops.paint.default)
    # Not of opacity if nothing was kept for it, and never of the boxes that are painted in one sweep.
    without = function == ops.paint.default or (function == ops.composite.default and not args[4])
    return [
        forward and isinstance(a, Tensor) and a.is_floating_point() and not (without and i == 2)
        for i, a in enumerate(args)
    ]


SETS = {
    "contiguous": lambda images: calls_of(images, ("images", "theta")),
    "all wanted": lambda images: calls_of(images, ("images", "theta", "boxes", "alpha"), "matte"),
    "channels last": lambda images: calls_of(
        images.to(memory_format=torch.channels_last), ("images", "boxes"), padding_mode="transparent"
    ),
    "half": lambda images: calls_of(images.half(), ("images", "theta"), padding_mode="border"),
    "theta alone": lambda images: calls_of(images, ("theta",), padding_mode="reflection", mode="nearest"),
    "in turns": lambda images: calls_of(images, ("images", "theta"), sequential=True),
    "images alone": lambda images: calls_of(images, ("images",), "number", padding_mode="image", sequential=True),
}


# opcheck imports what uses what torch has deprecated, and looks at the gradients of what is no leaf.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kernels", ["native", "reference"])
def test_torch_checks_each_operator(name, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    calls = SETS[name](scene("fractional", dtype=torch.float32).images)
    called = {function._schema.name.split("::")[1] for function, _ in calls}
    assert called == (SWEEP if name in ("contiguous", "half", "theta alone", "in turns") else STEPS)
    for function, args in calls:
        torch.library.opcheck(function, args)


# --- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["images", "theta", "boxes", "alpha"])
@pytest.mark.parametrize("again", ["images", "theta", "boxes", "alpha"])
def test_second_derivatives_are_refused(of, again):
    images, boxes, theta, obj_to_img = scene("fractional")
    inputs = {"images": images, "boxes": boxes, "theta": theta, "alpha": mattes(len(boxes))["number"]}
    inputs = {k: v.requires_grad_() for k, v in inputs.items()}
    loss = kp.affine_patches(**inputs, obj_to_img=obj_to_img).square().sum()
    (gradient,) = torch.autograd.grad(loss, inputs[of], create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(gradient.square().sum(), inputs[again])


@pytest.mark.parametrize(
    "wanted", [c for k in (1, 2, 3, 4) for c in combinations(("images", "boxes", "theta", "alpha"), k)]
)
def test_any_few_gradients_are_those_of_all_together(wanted):
    images, boxes, theta, obj_to_img = scene("fractional")
    inputs = {"images": images, "boxes": boxes, "theta": theta, "alpha": mattes(len(boxes))["matte"]}

    def gradients(names):
        leaves = {k: v.clone().requires_grad_(k in names) for k, v in inputs.items()}
        output = kp.affine_patches(**leaves, obj_to_img=obj_to_img, padding_mode="transparent")
        return dict(zip(names, torch.autograd.grad(output.square().sum(), [leaves[k] for k in names]), strict=True))

    everything = gradients(tuple(inputs))
    for name, gradient in gradients(wanted).items():
        assert torch.equal(gradient, everything[name])


# --- memory -----------------------------------------------------------------------------------------------------------

# What is asked for, alpha, padding_mode -> tensors (C, P) that are kept: values where alpha multiplies them, and what
# is beneath the paint where opacity has a gradient.
KEPT = [
    (("images",), "none", "zeros", 0),
    (("images", "theta"), "none", "zeros", 0),
    (("images", "theta"), "none", "image", 0),
    (("images", "theta"), "number", "border", 0),
    (("images",), "none", "transparent", 0),
    (("images", "theta"), "none", "transparent", 1),
    (("images", "theta", "boxes"), "none", "zeros", 1),
    (("boxes",), "none", "border", 1),
    (("images", "theta", "alpha"), "number", "zeros", 2),
    (("alpha",), "number", "zeros", 2),
]


@pytest.mark.parametrize(("wanted", "alpha", "padding_mode", "expected"), KEPT)
def test_what_lies_beneath_the_paint_is_kept_only_for_the_gradient_of_opacity(wanted, alpha, padding_mode, expected):
    images, boxes, theta, obj_to_img = scene("fractional")
    inputs = {"images": images, "boxes": boxes, "theta": theta, "alpha": mattes(len(boxes))[alpha]}
    for name in wanted:
        inputs[name].requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        kp.affine_patches(**inputs, obj_to_img=obj_to_img, padding_mode=padding_mode)
    size = boxes[:, 2:].detach().ceil() - boxes[:, :2].detach().floor()
    pixels = int(size.prod(1).sum())
    assert sum(t.numel() >= 3 * pixels and t.shape != images.shape for t in kept) == expected


def test_nothing_is_kept_without_gradients():
    kept = []
    images, *objects = scene()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        kp.affine_patches(images, *objects)
        with torch.no_grad():
            kp.affine_patches(images.requires_grad_(), *objects)
    assert not kept


# --- which kernels run ------------------------------------------------------------------------------------------------

SCRIPT = """
import json, logging, sys
records = []
handler = logging.Handler()
handler.emit = records.append
PREPARE
import torch
sys.path.insert(0, "tests")
from support.scenes import scene
import kornia_patchaug as kp

at_import = [name for name in ("numba", "triton", "kornia_patchaug.kernels.cpu") if sys.modules.get(name)]
images, boxes, theta, obj_to_img = scene("fractional")
images.requires_grad_(), theta.requires_grad_()
for _ in range(3):
    painted = kp.affine_patches(images, boxes, theta, obj_to_img)
    gradients = torch.autograd.grad(painted.square().sum(), (images, theta))
later = [name for name in ("numba", "kornia_patchaug.kernels.cpu") if sys.modules.get(name)]
sums = [t.double().sum().item() for t in (painted, *gradients)]
said = [(r.name, r.levelname, r.getMessage()) for r in records]
print(json.dumps({"at_import": at_import, "later": later, "sums": sums, "said": said}))
"""
LISTEN = """
logger = logging.getLogger("kornia_patchaug")
logger.addHandler(handler)
logger.setLevel("INFO")
"""
NO_NUMBA = "sys.modules['numba'] = None"


@cache
def script(prepare: str = "", **environment: str) -> dict:
    """What happens in a Python of its own, that makes errors of warnings, and may print nothing but the result."""
    code = textwrap.dedent(SCRIPT).replace("PREPARE", prepare)
    # Kornia and torch warn on import; ours may not.
    command = [sys.executable, "-W", "error:::kornia_patchaug", "-c", code]
    environment = {k: v for k, v in os.environ.items() if k != "KORNIA_PATCHAUG_KERNELS"} | environment
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


@pytest.mark.slow
def test_numba_is_loaded_at_the_first_call_and_says_nothing():
    native = script(LISTEN)
    assert native["at_import"] == [] and native["later"] == ["numba", "kornia_patchaug.kernels.cpu"]
    assert native["said"] == []


@pytest.mark.slow
def test_without_numba_the_reference_runs_and_says_so_once_to_who_listens():
    native, plain = script(LISTEN), script(NO_NUMBA + LISTEN)
    assert plain["later"] == []
    assert plain["sums"] == pytest.approx(native["sums"], rel=1e-12)
    ((name, level, message),) = plain["said"]
    assert (name, level) == ("kornia_patchaug", "INFO")
    assert "numba" in message and "pip install 'kornia-patchaug[cpu]'" in message
    assert script(NO_NUMBA)["sums"] == plain["sums"]  # and prints nothing if nobody listens


@pytest.mark.slow
def test_the_reference_can_be_asked_for():
    asked = script(LISTEN, KORNIA_PATCHAUG_KERNELS="reference")
    assert asked["later"] == [] and asked["said"] == []
    assert asked["sums"] == script(NO_NUMBA + LISTEN)["sums"]


def test_a_device_without_kernels_runs_the_reference_and_says_so_once(caplog, monkeypatch):
    monkeypatch.delenv("KORNIA_PATCHAUG_KERNELS", raising=False)
    with caplog.at_level(logging.INFO, "kornia_patchaug"):
        assert operators.kernels(torch.device("meta")) is operators.kernels(torch.device("meta")) is reference
        assert operators.kernels(torch.device("cpu")) is cpu
    assert [r.getMessage() for r in caplog.records] == ["There are no kernels for meta: the reference runs."]


def test_deterministic_algorithms_of_cuda_are_the_references(monkeypatch):
    """Additions of a GPU come in any order; those of the CPU kernels do not."""
    monkeypatch.delenv("KORNIA_PATCHAUG_KERNELS", raising=False)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert operators.kernels(torch.device("cuda")) is reference
    assert operators.kernels(torch.device("cpu")) is cpu
