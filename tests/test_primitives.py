"""The primitives as autograd functions: derivatives, what they keep, and which backend runs."""

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

import kornia_patchaug as kp
from kornia_patchaug import kernels
from kornia_patchaug.kernels import backend_of, cpu, reference

ROOT = Path(__file__).parents[1]


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


CALLS = {
    "affine": lambda t, images, boxes, theta: kp.affine_patches(images, boxes, theta + t),
    "affine, images": lambda t, images, boxes, theta: kp.affine_patches(images * t, boxes, theta, sequential=True),
    "affine, alpha": lambda t, images, boxes, theta: kp.affine_patches(
        images, boxes, theta, alpha=t.expand(len(boxes))
    ),
    "crop": lambda t, images, boxes, theta: kp.crop_patches(images, boxes * t, size=(3, 4)),
    "warp": lambda t, images, boxes, theta: kp.warp_patches(images, theta[:1] * t),
    "paste": lambda t, images, boxes, theta: kp.paste_patches(images, images.expand(len(boxes), -1, -1, -1) * t, boxes),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, at the first dual
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("recording", [True, False])
def test_forward_mode_is_refused_and_not_zero(name, backend, recording, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", backend)
    images, boxes, theta, _ = scene("fractional")
    one = torch.ones(1, dtype=torch.float64)
    with (
        pytest.raises(NotImplementedError, match="forward mode"),
        torch.autograd.forward_ad.dual_level(),
        torch.set_grad_enabled(recording),
    ):
        CALLS[name](torch.autograd.forward_ad.make_dual(one, one), images[:1], boxes, theta)


# --- memory -----------------------------------------------------------------------------------------------------------

# What is asked for, alpha, padding_mode -> tensors (C, P) that are kept: what is beneath the paint, where opacity has a
# gradient.
KEPT = [
    (("images",), "none", "zeros", 0),
    (("images", "theta"), "none", "zeros", 0),
    (("images", "theta"), "none", "image", 0),
    (("images", "theta"), "number", "border", 0),
    (("images",), "none", "transparent", 0),
    (("images", "theta"), "none", "transparent", 1),
    (("images", "theta", "boxes"), "none", "zeros", 1),
    (("boxes",), "none", "border", 1),
    (("images", "theta", "alpha"), "number", "zeros", 1),
    (("alpha",), "number", "zeros", 1),
    (("images",), "matte", "zeros", 0),
    (("images", "theta"), "matte", "zeros", 1),  # which moves the matte
]


@pytest.mark.usefixtures("native")
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
BROKEN = """
import tempfile, pathlib
folder = tempfile.mkdtemp()
(pathlib.Path(folder) / "numba").mkdir()
(pathlib.Path(folder) / "numba/__init__.py").write_text("raise OSError('no shared object')")
sys.path.insert(0, folder)
"""


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


def test_without_kernels_a_call_of_many_pixels_is_told_of_once(caplog, monkeypatch):
    monkeypatch.setattr(kernels, "_native", lambda device: (reference, "No numba."))
    monkeypatch.delenv("KORNIA_PATCHAUG_KERNELS", raising=False)
    kernels._warn.cache_clear()
    heard = []
    for side in (60, 70, 80):
        kp.affine_patches(torch.rand(1, 1, 90, 90), torch.tensor([[2, 2, 2 + side, 2 + side]]), torch.eye(2, 3)[None])
        heard.append([(record.levelname, record.message) for record in caplog.records])
    assert heard == [[], [("WARNING", "No numba.")], [("WARNING", "No numba.")]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "environment", "why"),
    [(LISTEN, {"NUMBA_DISABLE_JIT": "1"}, "NUMBA_DISABLE_JIT"), (BROKEN + LISTEN, {}, "no shared object")],
)
def test_where_numba_cannot_compile_the_reference_runs_and_says_so_once(prepare, environment, why):
    found = script(prepare, **environment)
    ((_, level, message),) = found["said"]
    assert level == "INFO" and why in message
    assert found["sums"] == script(NO_NUMBA + LISTEN)["sums"]


@pytest.mark.slow
def test_the_reference_can_be_asked_for():
    asked = script(LISTEN, KORNIA_PATCHAUG_KERNELS="reference")
    assert asked["later"] == [] and asked["said"] == []
    assert asked["sums"] == script(NO_NUMBA + LISTEN)["sums"]


def test_a_device_without_kernels_runs_the_reference_and_says_so_once(caplog, monkeypatch):
    monkeypatch.delenv("KORNIA_PATCHAUG_KERNELS", raising=False)
    with caplog.at_level(logging.INFO, "kornia_patchaug"):
        assert backend_of(torch.device("meta")) is backend_of(torch.device("meta")) is reference
        assert backend_of(torch.device("cpu")) is cpu
    assert [r.getMessage() for r in caplog.records] == ["There are no kernels for meta: the reference runs."]
