"""crop_patches, warp_patches and paste_patches: against Kornia, torch and the oracle, by hand, and put together."""

import pytest
import torch
from kornia.geometry.transform import crop_and_resize
from support import oracle
from support.scenes import BOXES, CROP_PADDINGS, MODES, assert_close, mattes, scene
from torch.nn.functional import affine_grid, grid_sample, interpolate

import kornia_patchaug as kp

TRUTH = [False, True]


def kornia_corners(boxes: torch.Tensor) -> torch.Tensor:
    """Half-open boxes as Kornia's inclusive corners, clockwise from the top left."""
    x1, y1, x2, y2 = (boxes - torch.tensor([0, 0, 1, 1])).unbind(1)
    return torch.stack([x1, y1, x2, y1, x2, y2, x1, y2], dim=1).reshape(-1, 4, 2)


@pytest.mark.parametrize("size", [(5, 8), (13, 3), (2, 2)])
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
@pytest.mark.parametrize("kind", ["integer", "fractional", "partly outside", "wholly outside"])
def test_crops_equal_those_of_kornia(kind, padding_mode, size):
    images, boxes, _, obj_to_img = scene(kind)
    expected = crop_and_resize(
        images[obj_to_img], kornia_corners(boxes), size, padding_mode=padding_mode, align_corners=True
    )
    actual = kp.crop_patches(images, boxes, obj_to_img, size, padding_mode=padding_mode, align_corners=True)
    assert_close(actual, expected, 1e-9)


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
@pytest.mark.parametrize("kind", BOXES)
def test_crops_equal_the_oracle(kind, padding_mode, align_corners):
    images, boxes, _, obj_to_img = scene(kind)
    for mode, size in zip(MODES, [(5, 8), (4, 7)], strict=True):
        if mode == "nearest" and kind != "integer":
            boxes = boxes + 0.013  # off the ties, which rounding decides
        options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
        actual = kp.crop_patches(images, boxes, obj_to_img, size, **options)
        if mode == "bilinear" or kind != "integer":
            assert_close(actual, oracle.crop_patches(images, boxes, obj_to_img, size, **options), 1e-9)


@pytest.mark.parametrize("align_corners", TRUTH)
def test_a_crop_of_a_whole_image_is_torchs_interpolate(align_corners):
    images = scene().images
    actual = kp.crop_patches(images, [torch.tensor([[0, 0, 17, 13]])] * 3, None, (7, 31), padding_mode="border",
                             align_corners=align_corners)  # fmt: skip
    assert_close(actual, interpolate(images, (7, 31), mode="bilinear", align_corners=align_corners), 1e-12)


def test_a_crop_at_the_boxes_own_size_is_the_slice_bit_for_bit():
    images = scene(dtype=torch.float32).images
    crop = kp.crop_patches(images, torch.tensor([[3, 2, 9, 11]]), torch.tensor([1]), (9, 6))
    assert torch.equal(crop[0], images[1, :, 2:11, 3:9])


def test_crop_of_no_boxes():
    assert kp.crop_patches(scene().images, torch.zeros(0, 4), torch.zeros(0).long(), (4, 5)).shape == (0, 3, 4, 5)


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_warp_is_grid_sample_with_a_grid_of_float32_at_least(padding_mode, mode, align_corners, dtype):
    patches, theta = scene().images.to(dtype), scene().theta[:3]
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    grid = affine_grid(theta, list(patches.shape), align_corners=align_corners)
    expected = grid_sample(patches.double(), grid, **options).to(dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 2**-8  # half a unit in the last place of a value below 1, twice
    assert_close(kp.warp_patches(patches, theta.flatten(1), **options), expected.double(), tolerance)
    assert kp.warp_patches(patches[:0], theta[:0], **options).shape == (0, 3, 13, 17)


HUGE = {
    torch.float32: [[3e38, -3e38, 3e38, 3e38, 3e38, -3e38], [3e38, 3e38, 3e38, 0, 1, 0], [1, 0, -3e38, 0, 1, 3e38]],
    torch.float64: [[1e308, -1e308, 1e308, 1e308, 1e308, -1e308], [1, 0, 1e308, 0, 1, 0]],
}


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
@pytest.mark.parametrize("shape", [(8, 8), (8, 1), (1, 5)])
@pytest.mark.parametrize("dtype", HUGE)
def test_a_huge_theta_warps_to_finite_patches_with_finite_gradients(dtype, shape, padding_mode, align_corners):
    theta = torch.tensor(HUGE[dtype], dtype=dtype)
    patches = torch.rand(len(theta), 2, *shape, dtype=dtype).requires_grad_()
    warped = kp.warp_patches(patches, theta, padding_mode=padding_mode, align_corners=align_corners)
    warped.sum().backward()
    assert warped.isfinite().all() and patches.grad.isfinite().all()
    assert (warped >= 0).all() and (warped <= 1).all()


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize("alpha", ["none", "number", "matte"])
def test_pastes_equal_the_oracle(kind, align_corners, alpha):
    images, boxes, _, obj_to_img = scene(kind)
    patches = torch.rand(len(boxes), 3, 5, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    options = {"alpha": mattes(len(boxes))[alpha], "align_corners": align_corners}
    actual = kp.paste_patches(images, patches, boxes, obj_to_img, **options)
    assert_close(actual, oracle.paste_patches(images, patches, boxes, obj_to_img, **options), 1e-9)


def test_pasting_what_was_cropped_returns_the_input_bit_for_bit():
    images = scene(dtype=torch.float32).images
    corners = torch.tensor([[1, 2], [5, 0], [3, 3]])
    boxes = torch.cat([corners, corners + torch.tensor([8, 6])], dim=1)
    obj_to_img = torch.tensor([0, 1, 1])
    patches = kp.crop_patches(images, boxes, obj_to_img, (6, 8))
    assert torch.equal(kp.paste_patches(images, patches, boxes, obj_to_img), images)


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_crop_warp_and_paste_are_affine_patches(padding_mode, align_corners):
    images, _, theta, _ = scene()
    corners = torch.tensor([[1, 2], [5, 0], [3, 3], [6, 5], [2, 1]])
    boxes = torch.cat([corners, corners + torch.tensor([8, 6])], dim=1)
    obj_to_img = torch.tensor([0, 1, 1, 2, 0])
    options = {"align_corners": align_corners}
    patches = kp.crop_patches(images, boxes, obj_to_img, (6, 8), **options)
    patches = kp.warp_patches(patches, theta, padding_mode=padding_mode, **options)
    pasted = kp.paste_patches(images, patches, boxes, obj_to_img, **options)
    assert_close(
        pasted, kp.affine_patches(images, boxes, theta, obj_to_img, padding_mode=padding_mode, **options), 1e-9
    )


IMAGE, BOX = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4)
BAD_CALLS = [
    (lambda: kp.crop_patches(IMAGE, BOX, size=(4,)), r"size: expected \(height"),
    (lambda: kp.crop_patches(IMAGE, BOX, size=(2, 2), padding_mode="image"), r"padding_mode: .*'image'"),
    (
        lambda: kp.warp_patches(torch.zeros(2, 1, 4, 4), torch.zeros(3, 6)),
        r"theta: expected one row a box \(2\), got 3",
    ),
    (lambda: kp.warp_patches(torch.zeros(2, 4, 4), torch.zeros(2, 6)), r"patches: .*got \(2, 4, 4\)"),
    (lambda: kp.paste_patches(IMAGE, torch.zeros(1, 3, 2, 2), BOX), r"patches: .*\(M, 1, h, w\).*got \(1, 3, 2, 2\)"),
    (lambda: kp.paste_patches(IMAGE, torch.zeros(2, 1, 2, 2), BOX), r"patches: .*one patch a box"),
    (lambda: kp.paste_patches(IMAGE, torch.zeros(1, 1, 0, 2), BOX), r"patches: .*got \(1, 1, 0, 2\)"),
]


@pytest.mark.parametrize(("call", "text"), BAD_CALLS)
def test_bad_calls_say_what_is_wrong(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_warp_checks_its_theta_as_the_others_do():
    patches, theta = torch.zeros(2, 1, 4, 5), torch.zeros(2, 6)
    with pytest.raises(ValueError, match=r"theta: expected finite values, got .*nan.* in row 1"):
        kp.warp_patches(patches, theta.index_fill(0, torch.tensor([1]), float("nan")))
    with pytest.raises(ValueError, match="theta: expected the images' device cpu, got meta"):
        kp.warp_patches(patches, theta.to("meta"))
    with pytest.raises(ValueError, match="patches: expected the images' device cpu, got meta"):
        kp.paste_patches(patches, patches.to("meta"), torch.zeros(2, 4), torch.zeros(2).long())
