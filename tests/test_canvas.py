"""Steps on one canvas, in place, are those of autograd on a new canvas each."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import kornia_patchaug as kp
from kornia_patchaug import kernels
from kornia_patchaug.plan import Beyond, Plan, Reads, Sampling, Windows, last_pixels

D = torch.float64
AREA, BESIDE = [2, 1, 7, 5], [6, 3, 11, 8]  # which overlap
WINDOWS = [Windows.of(np.array([1]), np.array([box[:2]]), np.array([box[2:]])) for box in (AREA, BESIDE)]
BILINEAR = Sampling(nearest=False, beyond=Beyond.ZERO, align_corners=False, by_reach=False)

both_kernels = pytest.mark.parametrize("kernels_of", ["native", "reference"])


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def leaves() -> dict[str, Tensor]:
    """Images, what is laid over them twice, theta of what is read in between, a picture that is painted, an opacity."""
    given = {
        "images": random(2, 3, 9, 12, seed=1),
        "values": random(3, WINDOWS[0].total, seed=2),
        "opacity": random(WINDOWS[0].total, seed=3),
        "theta": torch.eye(2, 3, dtype=D)[None] + 0.2 * random(1, 2, 3, seed=4),
        "picture": random(1, 3, 5, 6, seed=5),
        "alpha": random(1, seed=6),
    }
    return {name: tensor.requires_grad_() for name, tensor in given.items()}


def steps(canvas, images, values, opacity, theta, picture, alpha):
    """Lay over, read, paint; the canvas and what was read."""
    box, beside = (torch.tensor([each], dtype=D) for each in (AREA, BESIDE))
    canvas = kernels.composite(canvas, values, opacity, WINDOWS[0])
    reads = Reads.of(images, np.array([1]), 0, last_pixels(images))
    everything = Windows.of(np.array([1]), np.array([[0, 0]]), np.array([[12, 9]]))
    plan = Plan(reads, Windows.regular(1, 5, 5), BILINEAR, box_coverage=False, reached=lambda: everything)
    read, _ = kernels.sample(canvas, theta, torch.tensor([[0, 0, 5, 5]], dtype=D), plan, box)
    plan = Plan(Reads.whole(picture), WINDOWS[1], BILINEAR, box_coverage=True)
    whole = torch.tensor([[0, 0, 6, 5]], dtype=D)
    return kernels.paint(picture, canvas, theta, beside, plan, alpha, whole), read


def apart(**given: Tensor) -> tuple[Tensor, Tensor]:
    return steps(given["images"].clone(), **given)


def in_place(**given: Tensor) -> tuple[Tensor, Tensor]:
    canvas, read = steps(kernels.Canvas(given["images"], D), **given)
    return canvas.finished(), read


def gradients(made: tuple[Tensor, Tensor], wanted, **options) -> list[Tensor]:
    pairs = [(each, random(*each.shape, seed=k)) for k, each in enumerate(made) if each.requires_grad]
    outputs, weights = zip(*pairs, strict=True)
    return list(torch.autograd.grad(outputs, list(wanted), weights, retain_graph=True, **options))


@both_kernels
def test_values_and_gradients_of_all_and_of_each_alone(kernels_of, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels_of)
    given = leaves()
    expected, made = apart(**given), in_place(**given)
    assert_close(made, expected, rtol=0, atol=1e-14)
    found = gradients(made, given.values())
    assert_close(found, gradients(expected, given.values()), rtol=0, atol=1e-13)
    assert_close(found, gradients(made, given.values()), rtol=0, atol=0)  # once more through the same graph
    for leaf, gradient in zip(given.values(), found, strict=True):
        assert_close(gradients(made, [leaf])[0], gradient, rtol=0, atol=1e-14)
    for name, gradient in zip(given, found, strict=True):  # where nothing else has one
        alone = {key: t if key == name else t.detach() for key, t in given.items()}
        assert_close(gradients(in_place(**alone), [given[name]])[0], gradient, rtol=0, atol=1e-14)


def test_what_is_copied_to_another_canvas_comes_back_to_where_it_was():
    images = random(2, 3, 9, 12, seed=1).requires_grad_()
    canvas, other = kernels.Canvas(images, D), kernels.Canvas.blank((1, 3, 6, 6), images)
    place = Windows.of(np.array([0]), np.array([[1, 2]]), np.array([[6, 6]]))
    canvas.copy_to(other, WINDOWS[0], place)
    zeros = torch.zeros(3, WINDOWS[1].total, dtype=D)
    kernels.composite(canvas, zeros, torch.ones(WINDOWS[1].total, dtype=D), WINDOWS[1])  # after what was copied
    weight = random(3, 4, 5, seed=2)
    copied = other.finished()[0, :, 2:6, 1:6]
    assert torch.equal(copied, images[1, :, 1:5, 2:7])
    (gradient,) = torch.autograd.grad((copied * weight).sum() + canvas.finished().sum(), images)
    expected = torch.ones_like(images)
    expected[1, :, 3:8, 6:11] = 0
    expected[1, :, 1:5, 2:7] += weight
    assert_close(gradient, expected, rtol=0, atol=1e-14)


def test_there_are_no_second_derivatives_and_what_comes_out_can_be_changed():
    given = leaves()
    made = in_place(**given)
    (gradient,) = gradients(made, [given["images"]], create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.sum().backward()
    made[0].mul_(2)
    gradients(made, given.values())


def test_a_canvas_goes_when_what_was_made_of_it_does():
    gc.collect()
    gc.disable()
    try:
        given = leaves()
        canvas, read = steps(kernels.Canvas(given["images"], D), **given)
        sheet, painted = weakref.ref(canvas.sheet), canvas.finished()
        del canvas
        torch.autograd.backward([painted, read], [torch.ones_like(painted), torch.ones_like(read)])
        del painted, read
        assert sheet() is None
    finally:
        gc.enable()


def test_a_peeled_batch_has_one_gradient_in_all(monkeypatch):
    """Of the images' size: not one a layer, of which there are as many as objects here."""
    made = []
    monkeypatch.setattr(kernels.canvas.Sheet, "gradient", counted(kernels.canvas.Sheet.gradient, made))
    images, boxes = random(1, 3, 40, 40, seed=1).requires_grad_(), torch.tensor([[5, 5, 30, 30]]).repeat(6, 1)
    theta = torch.eye(2, 3, dtype=D).repeat(6, 1, 1)
    theta[:, 0, 2] = 0.3
    kp.affine_patches(images, boxes, theta, fill="surroundings").sum().backward()
    assert len(made) > 12 and len({gradient.data_ptr() for gradient in made}) == 1


def counted(function, made: list):
    def call(*arguments):
        made.append(function(*arguments))
        return made[-1]

    return call
