"""Gradients to images, theta, boxes and alpha: against finite differences, by hand, and without in-place errors."""

import itertools

import pytest
import torch
from support.scenes import PADDINGS, mattes, scene
from torch.autograd import gradcheck
from torch.autograd.gradcheck import GradcheckError

import kornia_patchaug as kp

TRUTH = [False, True]
# Away from the kinks: bilinear interpolation has one wherever q meets a pixel centre, so seeds are chosen for which no
# sample of these small scenes lies within the finite difference's step of one.
BOXES = torch.tensor([[1.3, 0.6, 5.2, 4.1], [2.45, 1.25, 6.75, 4.6], [0.4, 2.2, 4.85, 4.7]], dtype=torch.float64)
OBJ_TO_IMG = torch.tensor([0, 0, 0])


def small(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1, 2, 5, 7, generator=generator, dtype=torch.float64)
    theta = torch.eye(2, 3, dtype=torch.float64) + 0.2 * torch.randn(3, 2, 3, generator=generator, dtype=torch.float64)
    return images, BOXES.clone(), theta


@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("alpha", ["number", "matte"])
def test_gradients_of_all_together_equal_finite_differences(padding_mode, align_corners, sequential, alpha):
    images, boxes, theta = small()
    inputs = [t.requires_grad_() for t in (images, boxes, theta, mattes(3, size=(3, 2))[alpha])]

    def painted(images, boxes, theta, alpha):
        options = {"padding_mode": padding_mode, "align_corners": align_corners, "sequential": sequential}
        return kp.affine_patches(images, boxes, theta, OBJ_TO_IMG, alpha=alpha, **options)

    assert gradcheck(painted, inputs, eps=1e-7, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wanted", [c for k in (1, 2, 3) for c in itertools.combinations(range(4), k)])
@pytest.mark.parametrize("sequential", TRUTH)
def test_gradients_of_any_few_equal_finite_differences(wanted, sequential):
    inputs = [*small(1), mattes(3)["number"]]
    for i in wanted:
        inputs[i].requires_grad_()

    def painted(images, boxes, theta, alpha):
        return kp.affine_patches(images, boxes, theta, OBJ_TO_IMG, alpha=alpha, sequential=sequential)

    assert gradcheck(painted, inputs, eps=1e-7, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("align_corners", TRUTH)
def test_gradients_of_crop_warp_and_paste_equal_finite_differences(align_corners):
    images, boxes, theta = (t.requires_grad_() for t in small(2))
    patches = torch.rand(3, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_()
    alpha = mattes(3)["matte"].requires_grad_()
    options = {"align_corners": align_corners}
    tolerances = {"eps": 1e-7, "atol": 1e-5, "rtol": 1e-5}
    assert gradcheck(lambda i, b: kp.crop_patches(i, b, OBJ_TO_IMG, (3, 4), **options), (images, boxes), **tolerances)
    assert gradcheck(lambda p, t: kp.warp_patches(p, t, **options), (patches, theta), **tolerances)
    assert gradcheck(
        lambda i, p, b, a: kp.paste_patches(i, p, b, OBJ_TO_IMG, alpha=a, **options),
        (images, patches, boxes, alpha),
        **tolerances,
    )


LIMITS = [*((padding_mode, True) for padding_mode in PADDINGS), ("zeros", False)]  # beyond a patch; clipped
SOFT = {**mattes(3, size=(3, 2)), "mask": torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(4)).double()}


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize(("padding_mode", "clip"), LIMITS)
@pytest.mark.parametrize("alpha", SOFT)
def test_gradients_of_what_is_peeled_equal_finite_differences(alpha, padding_mode, clip, align_corners):
    """Masks, and what is filled in, have gradients too; holes are as large as boxes, and larger."""
    images, boxes, theta = small(6)
    fill = torch.rand(images.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (images, boxes, theta, fill, SOFT[alpha]) if t is not None]
    options = {"padding_mode": padding_mode, "align_corners": align_corners, "clip": clip}

    def painted(images, boxes, theta, fill, alpha=None):
        kept = kp.affine_patches(images, boxes, theta, OBJ_TO_IMG, alpha=alpha, **options)
        peeled = kp.affine_patches(images, boxes, theta, OBJ_TO_IMG, alpha=alpha, fill=fill, **options)
        return kept, peeled, kp.affine_patches(images, boxes, theta, OBJ_TO_IMG, fill=fill[0, :, 2, 3], **options)

    assert gradcheck(painted, inputs, eps=1e-7, atol=1e-5, rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize(("padding_mode", "clip"), LIMITS)
@pytest.mark.parametrize("alpha", SOFT)
def test_gradients_of_what_comes_from_elsewhere_equal_finite_differences(alpha, padding_mode, clip, align_corners):
    images, boxes, theta = small(6)
    source = torch.rand(2, 2, 5, 7, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    read = torch.tensor([[0.4, 1.3, 4.2, 4.8], [-1.3, -0.6, 3.7, 4.4], [2.2, 0.3, 8.6, 3.7]], dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (images, boxes, theta, source, read, SOFT[alpha]) if t is not None]
    options = {"align_corners": align_corners, "clip": clip}
    index = torch.tensor([1, 0, 1])

    def painted(images, boxes, theta, source, read, alpha=None):
        at = {"source": source, "source_boxes": read, "source_to_img": index, "padding_mode": padding_mode}
        there = kp.transplant_patches(images, boxes, OBJ_TO_IMG, **at, theta=theta, alpha=alpha, **options)
        padding = "border" if padding_mode == "image" else padding_mode  # a patch has no surroundings
        bank = {"theta": theta, "patch_index": index, "padding_mode": padding}
        return there, kp.paste_patches(images, source, boxes, OBJ_TO_IMG, alpha=alpha, **bank, **options)

    assert gradcheck(painted, inputs, eps=1e-7, atol=1e-5, rtol=1e-5, fast_mode=True)


def test_gradients_through_kornia_step_by_step_equal_finite_differences():
    images, boxes, theta = (t.requires_grad_() for t in small(3))
    assert gradcheck(
        lambda i, b, t: kp.affine_patches(i, b, t, OBJ_TO_IMG, patch_size=(3, 4)),
        (images, boxes, theta),
        eps=1e-7,
        atol=1e-5,
        rtol=1e-5,
    )


def test_the_gradient_check_notices_a_wrong_gradient():
    images, boxes, theta = small()
    with pytest.raises(GradcheckError):
        gradcheck(
            lambda t: kp.affine_patches(images, boxes, t * 2 - t.detach(), OBJ_TO_IMG),
            theta.requires_grad_(),
            eps=1e-7,
            atol=1e-5,
            rtol=1e-5,
        )


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("leaves", [c for k in range(5) for c in itertools.combinations(range(4), k)])
def test_no_in_place_error_whatever_requires_a_gradient(leaves, sequential, mode):
    images, boxes, theta, obj_to_img = scene("fractional", dtype=torch.float32)
    inputs = [images, boxes, theta, mattes(len(boxes))["matte"].float()]
    for i in leaves:
        inputs[i].requires_grad_()
    versions = [t._version for t in inputs]
    images, boxes, theta, alpha = inputs
    painted = kp.affine_patches(images, boxes, theta, obj_to_img, alpha=alpha, sequential=sequential, mode=mode)
    assert painted.requires_grad == bool(leaves)
    if leaves:
        painted.square().sum().backward()
    for i, tensor in enumerate(inputs):
        if i in leaves:
            assert tensor.grad.isfinite().all()
    assert [t._version for t in inputs] == versions


def test_the_gradient_of_a_shift_by_hand():
    """On the ramp 10 x, a patch read one pixel to the right is 10 more: d sum / d t02 = 10 * half width * pixels."""
    ramp = 10 * torch.arange(12, dtype=torch.float64).expand(1, 1, 6, 12)
    theta = torch.eye(2, 3, dtype=torch.float64)[None].requires_grad_()
    boxes = torch.tensor([[2, 1, 8, 5]])
    kp.affine_patches(ramp, boxes, theta + torch.tensor([0, 0, 0.05]), padding_mode="image").sum().backward()
    assert theta.grad[0, :, 2].tolist() == pytest.approx([10 * 3 * 24, 0])


def test_the_gradient_of_an_edge_by_hand():
    """A box that grows to the right by d paints d of a column of 4 pixels, from 0 to 1 each."""
    boxes = torch.tensor([[2.0, 1.0, 7.5, 5.0]], dtype=torch.float64, requires_grad=True)
    patch = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    kp.paste_patches(torch.zeros(1, 1, 6, 12, dtype=torch.float64), patch, boxes).sum().backward()
    assert boxes.grad[0].tolist() == pytest.approx([-4, -5.5, 4, 5.5])  # whole edges too: the pixel losing coverage


@pytest.mark.parametrize("kind", ["empty", "wholly outside"])
def test_an_object_that_paints_nothing_gets_zero_gradients(kind):
    images, boxes, theta, obj_to_img = scene(kind)
    boxes, theta = boxes.requires_grad_(), theta.requires_grad_()
    alpha = torch.full((len(boxes),), 0.5, dtype=torch.float64, requires_grad=True)
    kp.affine_patches(images, boxes, theta, obj_to_img, alpha=alpha).square().sum().backward()
    painting = torch.zeros(len(boxes), dtype=torch.bool)
    painting[-1] = True  # in both scenes only the last box has pixels
    for tensor in (boxes, theta, alpha):
        assert (tensor.grad.flatten(1) if tensor.ndim > 1 else tensor.grad[:, None])[~painting].abs().max() == 0
        assert tensor.grad[painting].abs().max() > 0


def test_no_objects_still_have_gradients():
    images = torch.rand(2, 1, 4, 5, requires_grad=True)
    theta = torch.zeros(0, 6, requires_grad=True)
    kp.affine_patches(images, torch.zeros(0, 4), theta, torch.zeros(0, dtype=torch.int64)).sum().backward()
    assert (images.grad == 1).all()
    assert theta.grad.shape == (0, 6)
    none = torch.zeros(0, dtype=torch.int64)
    for call in (
        lambda theta: kp.affine_patches(images, torch.zeros(0, 4), theta, none, patch_size=(3, 3)),
        lambda theta: kp.affine_patches(images, torch.zeros(0, 4), theta, none, sequential=True),
        lambda theta: kp.warp_patches(torch.zeros(0, 1, 3, 3), theta),
    ):
        theta = torch.zeros(0, 6, requires_grad=True)
        call(theta).sum().backward()
        assert theta.grad.shape == (0, 6)


def test_a_second_opinion_on_the_gradients_of_integer_boxes():
    """torch's own backward through grid_sample and an out-of-place write, one object an image."""
    images, boxes, theta, _ = scene("integer")
    images, theta = images.requires_grad_(), theta[:2].requires_grad_()
    weight = torch.rand(images.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    painted = kp.affine_patches(images, boxes[:2], theta, torch.tensor([0, 1]))
    actual = torch.autograd.grad((painted * weight).sum(), (images, theta))
    expected = []
    for b, ((x1, y1, x2, y2), image) in enumerate(zip(boxes[:2].int().tolist(), images, strict=False)):
        crop = image[None, :, y1:y2, x1:x2]
        grid = torch.nn.functional.affine_grid(theta[b : b + 1], list(crop.shape), align_corners=False)
        warped = torch.nn.functional.grid_sample(crop, grid, align_corners=False)
        mask = torch.zeros_like(image)
        mask[:, y1:y2, x1:x2] = 1
        inside = torch.nn.functional.pad(warped[0], (x1, 17 - x2, y1, 13 - y2))
        expected.append((image * (1 - mask) + inside) * weight[b])
    expected.append(images[2] * weight[2])
    for a, e in zip(actual, torch.autograd.grad(torch.stack(expected).sum(), (images, theta)), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-12, atol=1e-12)
