"""The public functions and the classes give on the kernels of a GPU what they give on those of a CPU.

They run on the GPU, or through Triton's interpreter where there is none (conftest.py).
"""

import pytest
import torch
from support.scenes import MODES, PADDINGS, mattes, scene
from torch import Tensor
from torch.testing import assert_close

import kornia_patchaug as kp
from kornia_patchaug import kernels
from kornia_patchaug.kernels import cuda

pytestmark = pytest.mark.cuda
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SIZE = (13, 17)  # of the scene's images
FILLS = {"number": 0.25, "surroundings": "surroundings"}
KINDS = ["integer", "fractional", "partly outside"]
FORMS = ["none", "number", "matte", "mask", "bool"]


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alpha_of(form: str, count: int) -> Tensor | None:
    masks = random(count, *SIZE, seed=2)
    return (mattes(count) | {"mask": masks, "bool": masks > 0.4})[form]


def assert_same_on_both(run, tensors: dict[str, Tensor | None], monkeypatch) -> None:
    """Values, and gradients to whatever is floating, of ``run`` of these tensors on either device."""
    found = []
    for device in (torch.device("cpu"), DEVICE):
        with monkeypatch.context() as patch:
            if found and DEVICE.type == "cpu":
                patch.setattr(kernels, "backend_of", lambda *_: cuda)
            there = {name: t if t is None else t.detach().to(device) for name, t in tensors.items()}
            leaves = [t.requires_grad_() for t in there.values() if t is not None and t.is_floating_point()]
            made = run(**there)
            weight = random(*made.shape, seed=6).to(device)
            grads = torch.autograd.grad((made * weight).sum(), leaves, allow_unused=True)
            found.append([made, *grads])
    for here, there in zip(*found, strict=True):
        assert (here is None) == (there is None)
        if here is not None:
            assert_close(there.cpu(), here, **CLOSE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_affine_patches(kind, form, monkeypatch):
    images, boxes, theta, obj_to_img = scene(kind, channels=2)
    clip = (KINDS.index(kind) + FORMS.index(form)) % 2 == 0  # any two of the three meet

    def run(images, boxes, theta, alpha):
        return kp.affine_patches(images, boxes, theta, obj_to_img.to(images.device), alpha=alpha, clip=clip)

    tensors = {"images": images, "boxes": boxes, "theta": theta, "alpha": alpha_of(form, len(boxes))}
    assert_same_on_both(run, tensors, monkeypatch)


def test_the_same_bits_at_every_run_where_algorithms_are_to_be_deterministic(monkeypatch):
    """By the kernels: nothing of them is added in any order, and nothing of torch's refuses."""
    if DEVICE.type == "cpu":
        monkeypatch.setattr(kernels, "backend_of", lambda *_: cuda)
    images, boxes, theta, obj_to_img = (t.to(DEVICE) for t in scene("integer", channels=2))
    matte = mattes(len(boxes))["matte"].to(DEVICE)
    weight, found = random(*images.shape, seed=6).to(DEVICE), []
    torch.use_deterministic_algorithms(True)
    try:
        assert kernels.backend_of(DEVICE) is cuda
        for _ in range(2):
            leaves = [t.clone().requires_grad_() for t in (images, theta, matte)]
            painted = kp.affine_patches(leaves[0], boxes, leaves[1], obj_to_img, alpha=leaves[2], clip=False)
            found.append([painted.detach(), *torch.autograd.grad((painted * weight).sum(), leaves)])
    finally:
        torch.use_deterministic_algorithms(False)
    for one, again in zip(*found, strict=True):
        assert torch.equal(one, again)


def test_objects_on_the_host_of_images_on_a_gpu(monkeypatch):
    """Boxes, theta and indices may stay on the CPU, and so do their gradients."""
    images, boxes, theta, obj_to_img = scene("fractional", channels=2)
    others = random(2, 2, 9, 8, seed=5)
    if DEVICE.type == "cpu":
        monkeypatch.setattr(kernels, "backend_of", lambda *_: cuda)
    found = []
    for where in (DEVICE, torch.device("cpu")):
        given = [t.to(where).requires_grad_() for t in (boxes, theta)]
        index = obj_to_img.to(where)
        painted = kp.affine_patches(images.to(DEVICE), *given, index, padding_mode="transparent")
        to = {"source": others.to(DEVICE), "source_boxes": given[0] / 2, "source_to_img": index, "theta": given[1]}
        painted = painted + kp.transplant_patches(images.to(DEVICE), given[0], index, **to)
        painted.square().sum().backward()
        assert painted.device.type == DEVICE.type and all(t.grad.device.type == where.type for t in given)
        found.append([painted.detach().cpu(), *(t.grad.cpu() for t in given)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_affine_patches_one_after_another(padding_mode, mode, monkeypatch):
    images, boxes, theta, obj_to_img = scene("fractional", channels=2)

    def run(images, boxes, theta):
        options = {"padding_mode": padding_mode, "mode": mode, "sequential": True}
        return kp.affine_patches(images, boxes, theta, obj_to_img.to(images.device), **options)

    assert_same_on_both(run, {"images": images, "boxes": boxes, "theta": theta}, monkeypatch)


@pytest.mark.parametrize("form", ["none", "mask"])
@pytest.mark.parametrize("fill", ["number", "background", "surroundings"])
def test_affine_patches_that_leave_a_hole(fill, form, monkeypatch):
    images, *objects = scene("fractional", channels=2)
    clip = (fill == "background") == (form == "none")
    boxes, theta, obj_to_img = (t[::2] for t in objects)  # two of one image, which overlap

    def run(images, boxes, theta, alpha, background):
        below = background if fill == "background" else FILLS[fill]
        options = {"alpha": alpha, "fill": below, "grow": 0.2, "clip": clip}
        return kp.affine_patches(images, boxes, theta, obj_to_img.to(images.device), **options)

    tensors = {"images": images, "boxes": boxes, "theta": theta, "alpha": alpha_of(form, len(boxes))}
    background = random(*images.shape, seed=4) if fill == "background" else None
    assert_same_on_both(run, tensors | {"background": background}, monkeypatch)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("form", ["none", "matte"])
def test_patches_of_a_bank_and_of_other_pictures(form, clip, monkeypatch):
    images, *objects = scene("partly outside", channels=2)
    boxes, theta, obj_to_img = (t[1:4] for t in objects)
    bank, others = random(3, 2, 6, 5, seed=3), random(2, 2, 9, 8, seed=5)
    source_boxes = torch.tensor([[0.5, 2, 6, 7.5], [2, 0, 8, 5], [0, 0, 8, 9]]).double()

    def paste(images, boxes, theta, alpha, bank):
        index = torch.arange(len(boxes), device=boxes.device) % 3
        options = {"theta": theta, "patch_index": index, "alpha": alpha, "clip": clip}
        return kp.paste_patches(images, bank, boxes, obj_to_img.to(images.device), **options)

    def transplant(images, boxes, theta, alpha, others, source_boxes):
        index = torch.arange(len(boxes), device=boxes.device) % 2
        options = {"source": others, "source_boxes": source_boxes, "source_to_img": index}
        options |= {"theta": theta, "alpha": alpha, "clip": clip}
        return kp.transplant_patches(images, boxes, obj_to_img.to(images.device), **options)

    tensors = {"images": images, "boxes": boxes, "theta": theta, "alpha": alpha_of(form, len(boxes))}
    assert_same_on_both(paste, tensors | {"bank": bank}, monkeypatch)
    assert_same_on_both(transplant, tensors | {"others": others, "source_boxes": source_boxes}, monkeypatch)


@pytest.mark.parametrize("form", FORMS)
def test_visible_share(form, monkeypatch):
    _, boxes, theta, obj_to_img = scene("integer")

    def run(boxes, theta, alpha):
        return kp.visible_share(boxes, theta, obj_to_img.to(boxes.device), size=SIZE, alpha=alpha, clip=False)

    assert_same_on_both(run, {"boxes": boxes, "theta": theta, "alpha": alpha_of(form, len(boxes))}, monkeypatch)
