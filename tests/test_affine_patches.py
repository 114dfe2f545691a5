"""affine_patches against the scalar oracle, against torch's grid_sample on the crop, and by its laws."""

import time

import numpy as np
import pytest
import torch
from support import oracle
from support.scenes import BOXES, CROP_PADDINGS, MODES, PADDINGS, assert_close, mattes, scene
from torch.nn.functional import affine_grid, grid_sample

import kornia_patchaug as kp
from kornia_patchaug.layers import layers
from kornia_patchaug.plan import LEFT, START, Beyond, Sampling, Windows, image_plan

TRUTH = [False, True]


@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("kind", BOXES)
def test_every_option_equals_the_oracle(kind, padding_mode, mode, align_corners, sequential):
    images, boxes, theta, obj_to_img = scene(kind)
    for alpha in mattes(len(boxes)).values():
        options = {
            "alpha": alpha,
            "mode": mode,
            "padding_mode": padding_mode,
            "align_corners": align_corners,
            "sequential": sequential,
        }
        actual = kp.affine_patches(images, boxes, theta, obj_to_img, **options)
        assert_close(actual, oracle.affine_patches(images, boxes, theta, obj_to_img, **options), 1e-9)


def test_the_comparison_notices_half_a_pixel():
    images, boxes, theta, obj_to_img = scene()
    expected = oracle.affine_patches(images, boxes, theta, obj_to_img)
    with pytest.raises(AssertionError):
        assert_close(kp.affine_patches(images, boxes + 0.5, theta, obj_to_img), expected, 1e-2)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_number_of_channels(channels):
    images, boxes, theta, obj_to_img = scene("fractional", channels=channels)
    assert_close(
        kp.affine_patches(images, boxes, theta, obj_to_img),
        oracle.affine_patches(images, boxes, theta, obj_to_img),
        1e-9,
    )


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
@pytest.mark.parametrize("sequential", TRUTH)
def test_integer_boxes_equal_the_loop_of_grid_sample(padding_mode, mode, align_corners, sequential):
    images, boxes, theta, obj_to_img = scene()
    expected = images.clone()
    for (x1, y1, x2, y2), matrix, b in zip(boxes.int().tolist(), theta, obj_to_img.tolist(), strict=True):
        crop = (expected if sequential else images)[b : b + 1, :, y1:y2, x1:x2].clone()
        grid = affine_grid(matrix[None], list(crop.shape), align_corners=align_corners)
        warped = grid_sample(crop, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
        expected[b, :, y1:y2, x1:x2] = warped[0]
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners, "sequential": sequential}
    assert_close(kp.affine_patches(images, boxes.int(), theta, obj_to_img, **options), expected, 1e-12)


@pytest.mark.parametrize("corner", [(3, 2), (4, 3), (-3, 2), (-2, -1), (5, -2)])
def test_nearest_breaks_ties_as_grid_sample_does_on_the_crop(corner):
    """Read at twice the distance from the centre, every position of a box of even sides lies between two pixels."""
    (x, y), images = corner, scene().images
    around = torch.nn.functional.pad(images[:1], (4, 4, 4, 4))  # the box may stick out
    crop, theta = around[..., y + 4 : y + 10, x + 4 : x + 12], 2 * torch.eye(2, 3, dtype=torch.float64)[None]
    grid = affine_grid(theta, list(crop.shape), align_corners=False)
    expected = grid_sample(crop, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    painted = kp.affine_patches(images[:1], torch.tensor([[x, y, x + 8, y + 6]]), theta, mode="nearest")
    left, top = max(-x, 0), max(-y, 0)
    assert torch.equal(painted[..., y + top : y + 6, x + left : x + 8], expected[..., top:, left:])


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection", "transparent"])
@pytest.mark.parametrize("alpha", ["none", "number", "matte"])
def test_kornia_step_by_step_agrees_with_one_pass(padding_mode, sequential, align_corners, alpha):
    """Where the two must agree: integer boxes of one size, and patches of that size."""
    images, _, theta, obj_to_img = scene()
    corners = torch.tensor([[2, 3], [5, 1], [4, 4], [-3, 5], [12, 9]])
    boxes = torch.cat([corners, corners + torch.tensor([9, 7])], dim=1)
    options = {"padding_mode": padding_mode, "sequential": sequential, "align_corners": align_corners}
    options["alpha"] = mattes(5)[alpha]
    one_pass = kp.affine_patches(images, boxes, theta, obj_to_img, **options)
    in_steps = kp.affine_patches(images, boxes, theta, obj_to_img, patch_size=(7, 9), **options)
    assert_close(in_steps, one_pass, 1e-9)


def test_steps_need_an_invertible_theta_and_have_no_surroundings():
    images, boxes, theta, obj_to_img = scene()
    with pytest.raises(ValueError, match=r"theta: .*invertible.*row 2"):
        flat = theta * torch.tensor([1, 1, 0, 1, 1])[:, None, None]
        kp.affine_patches(images, boxes, flat, obj_to_img, patch_size=(4, 4))
    with pytest.raises(ValueError, match="with patch_size"):
        kp.affine_patches(images, boxes, theta, obj_to_img, padding_mode="image", patch_size=(4, 4))


def test_steps_take_empty_boxes_and_no_boxes():
    images, boxes, theta, obj_to_img = scene("empty")
    theta[1] = 0  # padding rows have no theta to speak of
    warped = kp.affine_patches(images, boxes[:3], theta[:3], obj_to_img[:3], patch_size=(4, 4))
    assert torch.equal(warped, images)
    assert torch.equal(kp.affine_patches(images, boxes[:0], theta[:0], obj_to_img[:0], patch_size=(4, 4)), images)


# --- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_identity_on_integer_boxes_returns_the_input_bit_for_bit(padding_mode, sequential, align_corners, dtype):
    images, boxes, _, obj_to_img = scene(dtype=dtype)
    identity = torch.eye(2, 3).expand(len(boxes), 2, 3)
    options = {"padding_mode": padding_mode, "sequential": sequential, "align_corners": align_corners}
    assert torch.equal(kp.affine_patches(images, boxes, identity, obj_to_img, **options), images)


@pytest.mark.parametrize("kind", ["fractional", "partly outside", "one pixel"])
@pytest.mark.parametrize("align_corners", TRUTH)
def test_identity_on_any_box_returns_the_input_to_rounding(kind, align_corners):
    images, boxes, _, obj_to_img = scene(kind)
    identity = torch.eye(2, 3, dtype=torch.float64).expand(len(boxes), 2, 3)
    assert_close(kp.affine_patches(images, boxes, identity, obj_to_img, align_corners=align_corners), images, 1e-12)


@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_pixels_under_no_window_keep_their_bits(padding_mode, dtype, sequential):
    images, boxes, theta, obj_to_img = scene("fractional", dtype=torch.float32)
    untouched = torch.ones(3, 13, 17, dtype=torch.bool)
    for (x1, y1, x2, y2), b in zip(boxes.tolist(), obj_to_img.tolist(), strict=True):
        untouched[b, int(y1) : int(-(-y2 // 1)), int(x1) : int(-(-x2 // 1))] = False
    assert 0 < untouched[:2].sum() < untouched[:2].numel()
    images, bits = images.to(dtype), {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    limits, generator = torch.iinfo(bits), torch.Generator().manual_seed(4)
    images[2].view(bits).random_(limits.min, limits.max, generator=generator)  # whatever they are
    assert images[2].isnan().any()
    options = {"padding_mode": padding_mode, "sequential": sequential}
    warped = kp.affine_patches(images, boxes, theta, obj_to_img, **options)
    where = untouched[:, None].expand_as(images)
    assert torch.equal(warped[where].view(bits), images[where].view(bits))


def test_a_ramp_stays_a_ramp():
    """Bilinear interpolation reproduces linear pictures, so every value read is known without interpolation."""
    y, x = torch.meshgrid(torch.arange(20.0) + 0.5, torch.arange(30.0) + 0.5, indexing="ij")
    ramp = (3 * x - 2 * y)[None, None].double()
    box, shift = torch.tensor([[6, 5, 16, 11]]), torch.tensor([[1, 0, 0.3, 0, 1, -0.5]], dtype=torch.float64)
    expected = ramp.clone()
    expected[..., 5:11, 6:16] += 3 * 0.3 * 5 - 2 * -0.5 * 3  # half sizes 5 and 3
    assert_close(kp.affine_patches(ramp, box, shift, padding_mode="image"), expected, 1e-9)


def test_alpha_zero_paints_nothing_and_a_constant_matte_is_its_number():
    images, boxes, theta, obj_to_img = scene("fractional")
    zero = torch.zeros(len(boxes), dtype=torch.float64)
    assert torch.equal(kp.affine_patches(images, boxes, theta, obj_to_img, alpha=zero), images)
    for padding_mode in PADDINGS:
        number = torch.full((len(boxes),), 0.7, dtype=torch.float64)
        matte = torch.full((len(boxes), 1, 3, 5), 0.7, dtype=torch.float64)
        one, other = (
            kp.affine_patches(images, boxes, theta, obj_to_img, alpha=alpha, padding_mode=padding_mode)
            for alpha in (number, matte)
        )
        assert_close(one, other, 1e-12)


def test_later_rows_paint_over_earlier_ones_whatever_their_order_in_images():
    images = torch.zeros(2, 1, 6, 8)
    images[0, 0, :, :4], images[1] = 1.0, 5.0
    boxes = torch.tensor([[0, 0, 4, 6], [2, 0, 6, 6]])
    swap = torch.tensor([[-1.0, 0, 0, 0, 1, 0]]).expand(2, 6)
    painted = kp.affine_patches(images, boxes, swap, torch.tensor([0, 0]))
    assert painted[0, 0, 0].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    flipped = kp.affine_patches(images, boxes.flip(0), swap, torch.tensor([0, 0]))
    assert flipped[0, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert torch.equal(painted[1], images[1])


@pytest.mark.parametrize("shift", [6, 3.5, 4.25, -3.5])
def test_who_reads_the_surroundings_reads_them_as_earlier_rows_left_them(shift):
    """The second object reads what the first has painted, by one column at least, and the third is yet to paint."""
    images = scene().images[:1]
    boxes = torch.tensor([[0, 0, 5, 6], [8, 1, 13, 7], [5, 0, 8, 6]])
    boxes = boxes if shift > 0 else torch.stack([boxes[1], boxes[0], boxes[2]])
    mirror, read_left = [-1, 0, 0, 0, 1, 0], [1, 0, -shift / 2.5, 0, 1, 0]
    theta = torch.tensor([mirror, read_left, mirror], dtype=torch.float64)
    options = {"padding_mode": "image", "sequential": True}
    expected = oracle.affine_patches(images, boxes, theta, [0, 0, 0], **options)
    assert_close(kp.affine_patches(images, boxes, theta, **options), expected, 1e-12)


@pytest.mark.parametrize("kernels", ["native", "reference"])
def test_one_after_another_begins_with_the_second_object(kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images = scene().images[:1]
    boxes, mirror = torch.tensor([[0, 0, 8, 6], [4, 1, 11, 7]]), torch.tensor([[-1.0, 0, 0, 0, 1, 0]]).expand(2, 6)
    expected = oracle.affine_patches(images, boxes, mirror, [0, 0], sequential=True)
    assert_close(kp.affine_patches(images, boxes, mirror.double(), sequential=True), expected, 1e-12)


@pytest.mark.parametrize("kernels", ["native", "reference"])
def test_what_was_read_is_known_in_the_backward_pass_though_two_have_painted_over_it(kernels, monkeypatch):
    """The first object reads where the other two meet, which both read what it paints, and not one another."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images = scene().images[:1, :1].requires_grad_()
    boxes = torch.tensor([[0, 0, 4, 4], [8, 0, 12, 4], [10, 0, 14, 4]])
    theta = torch.eye(2, 3, dtype=torch.float64).repeat(3, 1, 1) * 0.9
    theta[:, 0, 2] = torch.tensor([10.1, -8.1, -9.9]) / 2  # columns, in half boxes

    def painted(images, theta):
        return kp.affine_patches(images, boxes, theta, padding_mode="image", sequential=True)

    assert torch.autograd.gradcheck(painted, (images, theta.requires_grad_()), fast_mode=True)


def test_what_is_yet_to_paint_waits_for_who_reads_it():
    """The second object reads the first, which it waits for, and the third, which waits for nobody but must."""
    images = scene().images[:1]
    boxes = torch.tensor([[0, 0, 3, 6], [11, 1, 16, 7], [6, 0, 8, 6]])
    mirror, read_far_left = [-1, 0, 0, 0, 1, 0], [2, 0, -9 / 2.5, 0, 1, 0]
    theta = torch.tensor([mirror, read_far_left, mirror], dtype=torch.float64)
    options = {"padding_mode": "image", "sequential": True}
    expected = oracle.affine_patches(images, boxes, theta, [0, 0, 0], **options)
    assert_close(kp.affine_patches(images, boxes, theta, **options), expected, 1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_a_pixel_that_is_nan_spoils_what_it_has_a_weight_in(padding_mode, mode):
    """That is what ``grid_sample`` gives a weight in: where a picture of 0 but for a 1 there does not come out as 0."""
    marked = torch.zeros(1, 1, 9, 8, dtype=torch.float64)
    marked[..., 1, 1] = marked[..., 5, 6] = 1
    images = torch.ones_like(marked).masked_fill(marked == 1, float("nan"))
    for zoom in (0.7, 1.7, 3.3):
        theta = zoom * torch.eye(2, 3, dtype=torch.float64)[None]
        crop = marked[..., 1:8, 1:7]
        grid = affine_grid(theta, list(crop.shape), align_corners=False)
        expected = grid_sample(crop, grid, mode=mode, padding_mode=padding_mode, align_corners=False) > 1e-12
        boxes = torch.tensor([[1, 1, 7, 8]])
        options = {"mode": mode, "padding_mode": padding_mode}
        opaque = kp.affine_patches(images, boxes, theta, **options)[..., 1:8, 1:7]
        assert torch.equal(opaque.isnan(), expected)
        mixed = kp.affine_patches(images, boxes, theta, alpha=torch.tensor([0.5]), **options)[..., 1:8, 1:7]
        assert torch.equal(mixed.isnan(), expected | (crop == 1))


# --- boxes without a frame, in steps ----------------------------------------------------------------------------------

NO_FRAME = [
    [3.0, 3, 4, 9],  # one pixel wide: no width under align_corners
    [3, 3, 4, 4],
    [3, 3, 3.0000002, 30],  # a hair
    [5, 5, 5, 9],  # empty
    [-9, -9, -2, -2],  # beside the image
    [0, 0, 0, 0],  # padding, or an object that is gated off
]
WILD = [[0.9, 0.1, 0, -0.1, 0.9, 0], [1, 0, 3e38, 0, 1, 0], [3e38, -3e38, 3e38, 3e38, 3e38, -3e38]]


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", [p for p in PADDINGS if p != "image"])
@pytest.mark.parametrize("box", NO_FRAME)
def test_steps_on_a_box_without_a_frame_are_finite_and_so_are_their_gradients(box, padding_mode, align_corners):
    options = {"padding_mode": padding_mode, "align_corners": align_corners, "patch_size": (8, 6)}
    for row in WILD:
        inputs = torch.rand(1, 2, 20, 30), torch.tensor([box, [3.0, 3, 20, 16]]), torch.tensor([row, WILD[0]])
        images, boxes, theta = (t.requires_grad_() for t in inputs)
        for sequential in TRUTH:
            painted = kp.affine_patches(images, boxes, theta, sequential=sequential, **options)
            gradients = torch.autograd.grad(painted.sum(), (images, boxes, theta))
            assert painted.isfinite().all() and all(g.isfinite().all() for g in gradients)
        if box[0] < 0 or box[0] == box[2]:
            assert all((g[0] == 0).all() for g in gradients[1:])


def test_a_box_of_one_pixel_is_that_pixel_in_steps_too():
    image, box, theta = torch.rand(1, 1, 8, 9), torch.tensor([[3.0, 3, 4, 4]]), torch.tensor(WILD[:1])
    stepped = kp.affine_patches(image, box, theta, align_corners=True, patch_size=(8, 8))
    assert_close(stepped, image.double(), 1e-6)


# --- infinite pixels, and bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", ["native", "reference"])
@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_an_infinite_sky_stays_infinite_as_in_grid_sample(padding_mode, value, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    image = scene().images[:1, :1, :6, :7].clone()
    image[..., :3, :] = value
    theta = torch.tensor([[[1.0, 0, 0.1], [0, 1, 0.07]]], dtype=torch.float64)
    grid = affine_grid(theta, [1, 1, 6, 7], align_corners=False)
    expected = grid_sample(image, grid, padding_mode=padding_mode, align_corners=False)
    painted = kp.affine_patches(image, torch.tensor([[0, 0, 7, 6]]), theta, padding_mode=padding_mode)
    assert not expected.isnan().any() and expected.isinf().any()
    torch.testing.assert_close(painted, expected)


@pytest.mark.parametrize("kernels", ["native", "reference"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -0.0])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_the_identity_keeps_the_bits_of_and_beside_any_number(padding_mode, value, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    image = torch.ones(1, 1, 5, 6)
    image[0, 0, 2, 2] = image[0, 0, 4, 5] = value
    for sequential in TRUTH:
        options = {"padding_mode": padding_mode, "sequential": sequential}
        painted = kp.affine_patches(
            image, torch.tensor([[0, 0, 6, 5], [1, 1, 5, 5]]), torch.eye(2, 3).expand(2, 2, 3), **options
        )
        assert torch.equal(painted.view(torch.int32), image.view(torch.int32))


@pytest.mark.parametrize("kernels", ["native", "reference"])
@pytest.mark.parametrize("alpha", [None, torch.ones(2)])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_another_default_device_changes_nothing(padding_mode, alpha, kernels, monkeypatch):
    """Every tensor names its device. Meta stands for a device where there is none."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images, boxes = torch.rand(1, 1, 16, 16), torch.tensor([[2, 2, 9, 9], [4, 4, 12, 12]])
    theta, index = torch.tensor([WILD[0]] * 2), torch.zeros(2, dtype=torch.int64)

    def results():
        found = [
            kp.affine_patches(images, boxes, theta, alpha=alpha, padding_mode=padding_mode, sequential=s) for s in TRUTH
        ]
        if padding_mode != "image":
            found += [kp.affine_patches(images, boxes, theta, padding_mode=padding_mode, patch_size=(5, 6))]
        found += [kp.affine_patches(images, boxes, theta, alpha=alpha, padding_mode=padding_mode, fill=0.5)]
        if padding_mode in ("zeros", "transparent"):
            unclipped = {"padding_mode": padding_mode, "alpha": alpha, "clip": False}
            found += [kp.affine_patches(images, boxes, theta, **unclipped, fill="surroundings", grow=0.3)]
            found += [kp.paste_patches(images, images, boxes, theta=theta, patch_index=index, **unclipped)]
            found += [kp.transplant_patches(images, boxes, source=images, source_boxes=boxes, **unclipped)]
        found += [kp.visible_share(boxes, theta, size=(16, 16), alpha=alpha, padding_mode=padding_mode)]
        return [*found, kp.crop_patches(images, boxes, size=(3, 4)), kp.warp_patches(images, theta[:1])]

    expected = results()
    torch.set_default_device("meta")
    try:
        actual = results()
    finally:
        torch.set_default_device(None)
    assert all(a.device == images.device and torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


def test_layers_of_many_images_take_no_time():
    """128 images of 100 objects; comparing them all took half a minute."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(12800, 2, generator=generator) * 230
    boxes = (
        torch.cat([corner, corner + 8 + 12 * torch.rand(12800, 2, generator=generator)], dim=1).round().double().numpy()
    )
    image = torch.arange(128).repeat_interleave(100).numpy()
    sampling = Sampling(nearest=False, beyond=Beyond.ZERO, align_corners=False, by_reach=False)
    plan = image_plan(boxes, image, torch.zeros(1).expand(128, 1, 256, 256), sampling, surroundings=False)
    start = time.process_time()
    found = layers(plan.windows, plan.windows)
    assert time.process_time() - start < 2  # a quarter of a second, alone
    assert sum(map(len, found)) == 12800 and len(found) < 10


def meet(a, b) -> bool:
    """Whether rectangles ``x, y, width, height`` share a pixel."""
    return all(max(a[k], b[k]) < min(a[k] + a[k + 2], b[k] + b[k + 2]) for k in (0, 1))


@pytest.mark.parametrize("seed", range(6))
def test_layers_keep_the_order_in_which_rows_paint_and_read(seed):
    """By all pairs: who reads or paints over an earlier row comes later, who paints what one reads, not earlier; and in
    the first layer that this allows."""
    random = np.random.default_rng(seed)
    count = 60
    image, corner = random.integers(0, 3, count), random.integers(0, 30, (count, 2))
    size = random.integers(0, 9, (count, 2))
    first = np.maximum(corner - random.integers(0, 6, (count, 2)), 0)  # what is read goes beyond what is painted
    windows, areas = Windows.of(image, corner, corner + size), Windows.of(image, first, corner + size + 3)
    layer = np.full(count, -1)
    for k, rows in enumerate(layers(windows, areas)):
        layer[rows] = k
    painted, read = windows.host[:, LEFT:START].tolist(), areas.host[:, LEFT:START].tolist()
    for j in range(count):
        if windows.areas[j] == 0:
            assert layer[j] == -1
            continue
        least = 0
        for i in range(j):
            if image[i] == image[j] and windows.areas[i]:
                later = meet(painted[i], read[j]) or meet(painted[i], painted[j])
                least = max(least, layer[i] + 1 if later else layer[i] if meet(read[i], painted[j]) else 0)
        assert layer[j] == least


def test_no_objects_returns_the_images():
    images = scene().images
    none = torch.zeros(0, 4), torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)
    for sequential in TRUTH:
        painted = kp.affine_patches(images, *none, sequential=sequential)
        assert torch.equal(painted, images)
        assert painted.data_ptr() != images.data_ptr()


def test_no_images_returns_no_images():
    none = torch.zeros(0, 4), torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)
    assert kp.affine_patches(torch.zeros(0, 3, 5, 7), *none).shape == (0, 3, 5, 7)


@pytest.mark.parametrize("alpha", [None, 0.5])
@pytest.mark.parametrize("sequential", TRUTH)
def test_the_layers_of_sequential_are_few(sequential, alpha, monkeypatch):
    """40 disjoint objects are one layer; a chain of three overlaps is three; order within an image is kept."""
    from kornia_patchaug.kernels import reference

    counted, run = [], reference.sample
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", "reference")
    monkeypatch.setattr(
        reference, "sample", lambda inputs, plan: counted.append(len(inputs.boxes)) or run(inputs, plan)
    )
    options = {"sequential": sequential, "alpha": alpha and torch.full((40,), alpha)}
    x, y = torch.meshgrid(torch.arange(0, 80, 10), torch.arange(0, 50, 10), indexing="ij")
    corner = torch.stack([x.flatten(), y.flatten()], dim=1)
    boxes = torch.cat([corner, corner + 9], dim=1)
    theta = torch.eye(2, 3).expand(40, 2, 3)
    kp.affine_patches(torch.zeros(1, 1, 60, 90), boxes, theta, **options)
    assert counted == [40]
    counted.clear()
    boxes[:3] = torch.tensor([[0, 0, 6, 6], [5, 0, 12, 6], [11, 0, 14, 6]])
    boxes[3:] += 20
    kp.affine_patches(torch.zeros(1, 1, 80, 120), boxes, theta, **options)
    assert counted == ([38, 1, 1] if sequential else [40])
    counted.clear()
    one_each = torch.tensor([[2, 2, 9, 9]]).expand(3, 4), theta[:3], torch.tensor([2, 0, 1])
    kp.affine_patches(torch.zeros(3, 1, 20, 30), *one_each, sequential=sequential)
    assert counted == [3]  # objects of different images do not wait for one another


# --- inputs -----------------------------------------------------------------------------------------------------------

# float16 keeps 11 bits and bfloat16 8: half a unit in the last place of a value in [0, 1], and as much for the input.
TOLERANCE = {torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float32: 1e-5}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_lower_precision_is_that_of_the_images_only(dtype, padding_mode):
    images, boxes, theta, obj_to_img = scene("fractional", dtype=torch.float32)
    images = images.to(dtype)
    warped = kp.affine_patches(images, boxes, theta, obj_to_img, padding_mode=padding_mode)
    assert warped.dtype == dtype
    expected = oracle.affine_patches(images, boxes, theta, obj_to_img, padding_mode=padding_mode)
    assert_close(warped, expected, TOLERANCE[dtype])


def test_float32_keeps_its_accuracy_in_large_images():
    """Values within 1e-4 of the oracle, theta gradients within 1e-4 relative, far from the origin of 1024 pixels."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(1000.0), torch.arange(1024.0), indexing="ij")
    images = (0.5 + 0.5 * torch.sin(x / 7.3) * torch.cos(y / 5.9))[None, None]
    boxes = torch.tensor([[930.3, 900.6, 1010.9, 960.2], [850.7, 20.1, 1000.2, 60.9]])
    theta = (torch.eye(2, 3) + 0.1 * torch.randn(2, 2, 3, generator=generator)).requires_grad_()
    warped = kp.affine_patches(images, boxes, theta, padding_mode="image")
    assert_close(warped, oracle.affine_patches(images, boxes, theta, [0, 0], padding_mode="image"), 1e-4)

    weight = torch.rand(images.shape, generator=generator)
    (gradient,) = torch.autograd.grad((warped * weight).sum(), theta)
    exact = theta.detach().double().requires_grad_()
    in_double = kp.affine_patches(images.double(), boxes.double(), exact, padding_mode="image")
    (expected,) = torch.autograd.grad((in_double * weight.double()).sum(), exact)
    assert (gradient.double() - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_boxes_and_indices_of_any_integer_dtype(dtype):
    images, boxes, theta, obj_to_img = scene()
    expected = kp.affine_patches(images, boxes, theta, obj_to_img)
    assert torch.equal(kp.affine_patches(images, boxes.to(dtype), theta, obj_to_img.to(dtype)), expected)


def test_memory_format_is_kept_and_strides_do_not_matter():
    images, boxes, theta, obj_to_img = scene("fractional")
    expected = kp.affine_patches(images, boxes, theta, obj_to_img)
    last = images.to(memory_format=torch.channels_last)
    warped = kp.affine_patches(last, boxes, theta, obj_to_img)
    assert warped.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(warped, expected)
    views = (
        torch.stack([images, images], dim=-1)[..., 0],
        torch.stack([boxes, boxes], dim=-1)[..., 0],
        torch.stack([theta.flatten(1)] * 2, dim=-1)[..., 0],
        torch.stack([obj_to_img, obj_to_img], dim=-1)[..., 0],
    )
    assert not any(view.is_contiguous() for view in views)
    assert torch.equal(kp.affine_patches(*views), expected)
    one = images[:1].expand(3, -1, -1, -1)
    assert torch.equal(
        kp.affine_patches(one, boxes, theta, obj_to_img),
        kp.affine_patches(one.contiguous(), boxes, theta, obj_to_img),
    )


@pytest.mark.parametrize("sequential", TRUTH)
def test_nothing_that_was_passed_is_modified(sequential):
    tensors = [t.clone() for t in (*scene("fractional"), mattes(4)["matte"])]
    before = [(t.clone(), t._version) for t in tensors]
    *arguments, alpha = tensors
    kp.affine_patches(*arguments, alpha=alpha, sequential=sequential)
    for tensor, (values, version) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, values)
        assert tensor._version == version


def test_boxes_come_flat_per_image_padded_or_as_kornia_boxes():
    from kornia.geometry.boxes import Boxes

    images, boxes, theta, _ = scene()
    obj_to_img = torch.tensor([0, 0, 1, 1, 1])
    expected = kp.affine_patches(images, boxes, theta, obj_to_img)
    rows = [boxes[:2], boxes[2:], boxes[:0]]
    assert torch.equal(kp.affine_patches(images, rows, theta), expected)
    assert torch.equal(kp.affine_patches(images, Boxes.from_tensor(rows), theta), expected)
    padded, padded_theta = torch.zeros(3, 3, 4, dtype=torch.float64), torch.zeros(9, 2, 3, dtype=torch.float64)
    padded[0, :2], padded[1] = boxes[:2], boxes[2:]
    padded_theta[[0, 1, 3, 4, 5]] = theta
    assert torch.equal(kp.affine_patches(images, padded, padded_theta), expected)
    assert torch.equal(
        kp.affine_patches(images[:1], boxes[:2], theta[:2]), expected[:1]
    )  # one image needs no obj_to_img


def test_autocast_changes_nothing():
    """Coordinates in half precision would be off by pixels."""
    images, boxes, theta, obj_to_img = scene("fractional", dtype=torch.float32)
    points = torch.rand(len(boxes), 5, 2) * 10

    def everything():
        angle, scale, translate, shear = theta[:, 0, 0], theta[:, :, 1] + 2, theta[:, :, 2], theta[:, 1, :2]
        turn = kp.theta_from_components(angle, scale, translate, shear, boxes=boxes)
        chain = kp.compose_theta(kp.theta_from_lie(theta), kp.invert_theta(turn))
        crops = kp.crop_patches(images, boxes, obj_to_img, (5, 4))
        return (
            kp.affine_patches(images, boxes, chain, obj_to_img, alpha=mattes(len(boxes))["matte"].float()),
            kp.affine_patches(images, boxes, turn, obj_to_img, patch_size=(6, 9)),
            kp.paste_patches(images, kp.warp_patches(crops, chain), boxes, obj_to_img),
            kp.paste_patches(images, crops, boxes, obj_to_img, theta=chain, patch_index=obj_to_img, clip=False),
            kp.affine_patches(images, boxes, turn, obj_to_img, fill="surroundings", clip=False),
            kp.transplant_patches(images, boxes, obj_to_img, source=images[:1], source_boxes=boxes, theta=turn),
            kp.visible_share(boxes, turn, obj_to_img, size=(13, 17), clip=False),
            kp.move_points(points, boxes, chain),
            kp.move_boxes(boxes, turn),
        )

    expected = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = everything()
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)
