"""Networks that predict theta and boxes, and ranges that learn, in every kind of training step."""

import copy
from contextlib import nullcontext

import pytest
import torch
from support.kornia_scenes import OBJ_TO_IMG, SQUARES, near, picture, same
from support.training import INPUTS, Model, step
from support.versions import of_classes
from torch import nn
from torch.utils.checkpoint import checkpoint

import kornia_patchaug as kp


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


# --- networks predict theta and boxes ---------------------------------------------------------------------------------


def waves(count=2):
    """Smooth pictures (count, 1, 26, 34), so that descent finds its way."""
    y, x = torch.meshgrid(torch.arange(26.0), torch.arange(34.0), indexing="ij")
    rows = [torch.sin(0.5 * x + 0.17 * k * y) + torch.cos(0.45 * y - 0.1 * x) + 0.1 * x / (k + 1) for k in range(count)]
    return torch.stack(rows)[:, None]


def components(raw):
    """An angle, two scales, two shifts and a shear along x: six numbers for the six of theta."""
    shear = torch.stack([30 * raw[:, 5], torch.zeros(len(raw))], dim=1)
    return kp.theta_from_components(30 * raw[:, 0], raw[:, 1:3].exp(), raw[:, 3:5], shear)


HEADS = {
    "numbers of theta": lambda raw: raw + torch.tensor([1.0, 0, 0, 0, 1, 0]),
    "components": components,
    "exponents": kp.theta_from_lie,
}


@pytest.mark.parametrize("name", HEADS)
def test_a_network_learns_the_theta_that_was_hidden(name):
    """Through whole images, crops and all, to the hidden theta itself and not only to a small loss."""
    images, boxes = waves(), torch.tensor([[3, 4, 19, 20], [12, 6, 28, 22], [8, 5, 24, 21]])
    hidden = kp.theta_from_lie(0.15 * torch.randn(3, 6))
    target = kp.affine_patches(images, boxes, hidden, OBJ_TO_IMG, padding_mode="image")
    network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 6))
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(300):
        theta = HEADS[name](network(torch.eye(3))).reshape(3, 2, 3)
        found = kp.PatchAffine(padding_mode="image")(images, boxes, theta, OBJ_TO_IMG)
        step(optimizer, (found - target).square().mean())
    assert (hidden - kp.theta_from_lie(torch.zeros(3, 6))).abs().max() > 0.2
    near(theta.detach(), hidden, 0.02)


@pytest.mark.parametrize("way", ["crop", "warp"])
def test_a_network_learns_the_boxes_that_were_hidden(way):
    images, hidden = waves(), torch.tensor([[3.0, 4, 19, 20], [12, 6, 28, 22], [8, 5, 24, 21]])
    half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0]]).expand(3, 6)

    def look(boxes):
        if way == "crop":
            return kp.crop_patches(images, boxes, OBJ_TO_IMG, (12, 12))
        return kp.affine_patches(images, boxes, half_turn, OBJ_TO_IMG, padding_mode="border")

    network = nn.Linear(3, 4)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    target = look(hidden)
    for _ in range(200):
        boxes = hidden + torch.tensor([1.7, -1.2, 1.3, -1.4]) + network(torch.eye(3))
        step(optimizer, (look(boxes) - target).square().mean())
    near(boxes.detach(), hidden, 0.1)


# --- training steps ---------------------------------------------------------------------------------------------------


def gradients(model, function=None, seed=3, **inputs):
    torch.manual_seed(seed)
    model.zero_grad()
    (function or model)(**{**INPUTS, **inputs}).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_autocast_leaves_theta_exact_and_the_gradients_of_ranges_close():
    model = Model()
    expected = gradients(model)
    theta = model.augment._params["theta"]

    def autocast(**inputs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**inputs)

    found = gradients(model, autocast)
    same(model.augment._params["theta"], theta)
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() < 0.15 * gradient.norm(), name  # bfloat16 has 8 bits


def test_gradients_of_halves_of_a_batch_accumulate_to_those_of_the_whole():
    model = Model()
    thetas = []
    for image in (0, 1):
        rows = OBJ_TO_IMG.eq(image)
        torch.manual_seed(image)
        inputs = {"images": picture()[[image]], "boxes": SQUARES[rows], "obj_to_img": OBJ_TO_IMG[rows] - image}
        (model(**inputs, classes=INPUTS["classes"][rows]) / 2).backward()
        torch.manual_seed(image)
        model.augment(
            inputs["images"], inputs["boxes"], obj_to_img=inputs["obj_to_img"], classes=INPUTS["classes"][rows]
        )
        thetas.append(model.augment._params["theta"][0])
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    whole = model.augment(picture(), SQUARES, torch.cat(thetas), OBJ_TO_IMG)
    model.head(whole).square().mean().backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpoint_repeats_the_draw(use_reentrant):
    model = Model()
    expected = gradients(model)

    def checkpointed(images, **inputs):
        images = images.clone().requires_grad_()  # what the reentrant kind asks for
        return checkpoint(lambda x: model(x, **inputs), images, use_reentrant=use_reentrant)

    for name, gradient in gradients(model, checkpointed).items():
        same(gradient, expected[name])


def test_with_a_generator_the_draw_is_made_outside_the_checkpoint():
    """A checkpoint puts the global generator back, and no other: the seed is drawn before, as docs/learning.md says."""
    generator = torch.Generator()
    augmentation = kp.RandomPatchAffine([10.0, 20.0], p=1.0, learnable=True, generator=generator)

    def gradient(run):
        generator.manual_seed(5)
        augmentation.zero_grad()
        drawn = augmentation.forward_parameters(picture().shape)
        forward = lambda x: augmentation(x, SQUARES, obj_to_img=OBJ_TO_IMG, params=dict(drawn))  # noqa: E731
        (run(forward, picture()) * picture(seed=1)).sum().backward()
        return augmentation.ranges.degrees.grad

    same(gradient(lambda f, x: checkpoint(f, x, use_reentrant=False)), gradient(lambda f, x: f(x)))


@of_classes
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiled_training_steps_learn_what_eager_ones_do():
    """Three steps with as many objects as there happen to be, one graph for the last two."""
    torch._dynamo.reset()
    eager = Model()
    model = copy.deepcopy(eager)
    fast = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.02) for m in (eager, model)]
    for seed, count in enumerate([3, 6, 9]):
        inputs = {**INPUTS, "boxes": SQUARES.repeat(3, 1)[:count]}
        inputs |= {name: INPUTS[name].repeat(3)[:count] for name in ("obj_to_img", "classes")}
        for function, optimizer in ((eager, optimizers[0]), (fast, optimizers[1])):
            torch.manual_seed(seed)
            with torch._dynamo.config.patch(error_on_recompile=True) if seed == 2 else nullcontext():
                step(optimizer, function(**inputs))
    start = dict(Model().augment.named_parameters())
    for (name, parameter), other in zip(eager.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-4, atol=1e-4)
        assert name.startswith("head") or not (parameter == start[name.removeprefix("augment.")]).any()
