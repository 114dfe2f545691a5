"""PatchAffine and RandomPatchAffine called on their own: Kornia's contract, draws, gradients, copies, data types."""

import copy
import pickle

import kornia.augmentation as K
import pytest
import torch
from kornia.augmentation import AugmentationBase2D
from kornia.geometry.boxes import Boxes
from kornia_scenes import (
    HEIGHT,
    OBJ_TO_IMG,
    PADDED,
    QUARTER,
    SQUARES,
    WIDTH,
    WarpedPictures,
    grid_warp,
    near,
    painted,
    picture,
    quarter_turn,
    same,
)
from torch.utils.data import DataLoader

import kornia_patchaug as kp

TRUTH = [False, True]
TURN = torch.tensor([0.0, 1, 0, -1, 0, 0])  # a clockwise quarter turn of a square, output to input
THETA = torch.tensor([[0.9, 0.3, 0.1, -0.4, 1.1, 0.0], [1.2, -0.2, 0.0, 0.3, 0.8, -0.2], [0.7, 0.5, -0.1, 0.2, 1, 0.3]])
RECTANGLES = torch.tensor([[3, 4, 15, 12], [9, 8, 29, 21], [14, 2, 23, 24]])


def patch_affine(**options):
    """PatchAffine with three quarter turns to do."""
    return kp.PatchAffine(**{"p": 1.0, **options}).bind(SQUARES, TURN.expand(3, 6), OBJ_TO_IMG)


def random_patch_affine(**options):
    """RandomPatchAffine with the same to do."""
    return kp.RandomPatchAffine(**QUARTER, **{"p": 1.0, **options}).bind(SQUARES, obj_to_img=OBJ_TO_IMG)


def drawn(augmentation, count=2000):
    """Angle, shift and so on are read off theta: what it does to pixels of `count` boxes of 8 x 12, (N, 2, 3)."""
    boxes = torch.tensor([[94, 2, 106, 10]]).expand(count, 4)  # outside the image, where there is nothing to paint
    augmentation(torch.zeros(1, 1, HEIGHT, WIDTH), boxes)
    in_box = augmentation._params["theta"][0].detach().double()
    return in_box * torch.tensor([[1, 6 / 4, 6], [4 / 6, 1, 4]])  # half sizes 6 and 4


def angles(augmentation, count=2000):
    theta = drawn(augmentation, count)
    return torch.rad2deg(torch.atan2(theta[:, 0, 1], theta[:, 0, 0]))


both = pytest.mark.parametrize("make", [patch_affine, random_patch_affine])


# --- Kornia's contract for 2D augmentations ---------------------------------------------------------------------------


@both
def test_it_is_an_augmentation_whose_frame_does_not_move(make):
    augmentation = make()
    assert isinstance(augmentation, AugmentationBase2D)
    images = picture()
    params = augmentation.forward_parameters(images.shape)
    warped = augmentation(images, params=params)
    near(warped, painted(images, SQUARES, OBJ_TO_IMG, quarter_turn), 1e-5)
    same(augmentation.transform_matrix, torch.eye(3).expand(2, 3, 3))
    same(augmentation(images, params=params), warped)


@both
@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("keepdim", TRUTH)
@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (3, HEIGHT, WIDTH), (1, 3, HEIGHT, WIDTH), (2, 3, HEIGHT, WIDTH)])
def test_any_rank_goes_in_and_keepdim_brings_it_out(make, shape, keepdim, p):
    images = picture().flatten()[: torch.Size(shape).numel()].reshape(shape)
    batch = images.reshape(-1, *(3, HEIGHT, WIDTH) if len(shape) > 2 else (1, HEIGHT, WIDTH))
    augmentation = make(p=p, keepdim=keepdim)
    boxes, obj_to_img = SQUARES[:2], OBJ_TO_IMG[:2]
    augmentation.bind(boxes, TURN.expand(2, 6), obj_to_img)
    expected = painted(batch, boxes, obj_to_img, quarter_turn) if p else batch
    near(augmentation(images), expected.reshape(shape) if keepdim else expected, 1e-5 if p else 0)


@both
@pytest.mark.parametrize("never", ["p", "p_batch", "p_patch"])
def test_a_probability_of_zero_returns_the_input(make, never):
    augmentation = make(**{never: 0.0})
    same(augmentation(picture()), picture())
    same(augmentation.transform_matrix, torch.eye(3).expand(2, 3, 3))


@both
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integer_images_are_rejected_with_kornias_error(make, dtype):
    images = torch.ones(2, 3, HEIGHT, WIDTH, dtype=dtype)
    with pytest.raises(TypeError) as kornias:
        K.RandomAffine(10.0, p=1.0)(images)
    with pytest.raises(TypeError) as ours:
        make()(images)
    assert str(ours.value) == str(kornias.value)


@both
def test_a_wrong_rank_is_rejected_with_kornias_error(make):
    with pytest.raises(ValueError, match="Input size must have a shape of either"):
        make()(torch.rand(1, 2, 3, HEIGHT, WIDTH))


def test_a_sequence_does_what_its_members_do_one_by_one_under_the_same_seed():
    first, second = (kp.RandomPatchAffine(40.0, p=1.0).bind(RECTANGLES, obj_to_img=OBJ_TO_IMG) for _ in range(2))
    torch.manual_seed(42)
    one_by_one = second(first(picture()))
    torch.manual_seed(42)
    same(K.AugmentationSequential(first, second)(picture()), one_by_one)


@both
def test_same_on_batch_shares_one_draw(make):
    images = picture(1).expand(6, -1, -1, -1)
    boxes = RECTANGLES[None].expand(6, 3, 4)
    for seed in range(8):
        torch.manual_seed(seed)
        augmentation = kp.RandomPatchAffine(60.0, (0.2, 0.2), (0.7, 1.2), p=0.5, p_patch=0.5, same_on_batch=True)
        warped = augmentation(images, boxes)
        same(warped, warped[:1].expand_as(warped))
        assert len(augmentation._params["patch_prob"].unique()) == len(augmentation._params["batch_prob"].unique()) == 1
    shares = [
        bool((make(p=0.5, same_on_batch=True)(picture()) != picture()).flatten(1).any(1).all()) for _ in range(30)
    ]
    assert 5 < sum(shares) < 25


# --- one function, two modules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch_size", [None, (9, 7)])
@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection", "transparent", "image"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_the_module_equals_the_function_bit_for_bit(mode, padding_mode, align_corners, sequential, patch_size):
    options = {"align_corners": align_corners, "sequential": sequential, "patch_size": patch_size}
    if padding_mode == "image" and patch_size:
        with pytest.raises(ValueError, match=r"^padding_mode: .*'image'"):
            kp.PatchAffine(padding_mode=padding_mode, **options)
        return
    options["padding_mode"] = padding_mode
    boxes = RECTANGLES + torch.tensor([0.3, -0.4, 0.6, 0.2])
    expected = kp.affine_patches(picture(), boxes, THETA, OBJ_TO_IMG, mode=mode, **options)
    assert not torch.equal(expected, picture())
    same(kp.PatchAffine(resample=mode, **options)(picture(), boxes, THETA, OBJ_TO_IMG), expected)
    random = kp.RandomPatchAffine(30.0, p=1.0, resample=mode, **options)
    same(random(picture(), boxes, THETA.reshape(3, 2, 3), OBJ_TO_IMG), expected)


def test_boxes_come_in_every_form_that_the_function_takes():
    expected = painted(picture(), SQUARES, OBJ_TO_IMG, quarter_turn)
    lists = [SQUARES[:2], SQUARES[2:]]
    padded = torch.stack([SQUARES[:2], torch.cat([SQUARES[2:], torch.zeros_like(SQUARES[:1])])])
    for boxes in (lists, padded, Boxes.from_tensor([rows.float() for rows in lists], mode="xyxy")):
        augmentation = kp.RandomPatchAffine(**QUARTER, p=1.0)
        near(augmentation(picture(), boxes), expected, 1e-5)
        near(augmentation.bind(boxes)(picture()), expected, 1e-5)
    near(kp.RandomPatchAffine(**QUARTER, p=1.0)(picture()[0], SQUARES[:2]), expected[:1], 1e-5)


def test_what_is_given_directly_comes_before_params_and_what_is_bound():
    augmentation = kp.PatchAffine().bind(RECTANGLES, THETA, OBJ_TO_IMG)
    bound = kp.affine_patches(picture(), RECTANGLES, THETA, OBJ_TO_IMG)
    turned = kp.affine_patches(picture(), SQUARES, TURN.expand(3, 6), OBJ_TO_IMG)
    same(augmentation(picture()), bound)
    same(augmentation(picture(), SQUARES, TURN.expand(3, 6), OBJ_TO_IMG), turned)
    same(
        augmentation(picture(), SQUARES, obj_to_img=OBJ_TO_IMG),
        kp.affine_patches(picture(), SQUARES, THETA, OBJ_TO_IMG),
    )
    by_hand = {"boxes": SQUARES, "theta": TURN.expand(3, 6), "obj_to_img": OBJ_TO_IMG}
    same(augmentation(picture(), params=by_hand), turned)
    same(augmentation(picture()), bound)
    with pytest.raises(ValueError, match="no boxes"):
        augmentation.bind()(picture())


@both
def test_missing_objects_are_an_error_that_names_the_three_ways(make):
    augmentation = make().bind()
    for container in (augmentation, K.AugmentationSequential(augmentation)):
        with pytest.raises(ValueError, match=type(augmentation).__name__) as error:
            container(picture())
        for way in ("PatchAugmentationSequential", "bind(boxes=", "boxes= in a direct call"):
            assert way in str(error.value)


def test_a_missing_theta_is_an_error_that_says_where_to_put_it():
    with pytest.raises(ValueError, match=r"PatchAffine has no theta.*theta=.*params.*bind"):
        kp.PatchAffine()(picture(), SQUARES, obj_to_img=OBJ_TO_IMG)


BAD_OPTIONS = [
    ({"p": 1.5}, r"^p: "),
    ({"p_batch": -0.1}, r"^p_batch: "),
    ({"p_patch": 2}, r"^p_patch: "),
    ({"padding_mode": "wrap"}, r"^padding_mode: .*'wrap'"),
    ({"resample": "bicubic"}, r"^resample: "),
    ({"align_corners": None}, r"^align_corners: "),
    ({"sequential": "yes"}, r"^sequential: "),
    ({"patch_size": (4, 0)}, r"^patch_size: "),
]


@both
@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_a_bad_option_is_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


# --- the ranges mean what they mean in kornia.augmentation.RandomAffine -------------------------------------------------

DEGENERATE = {
    "angle": {"degrees": (33.0, 33.0)},
    "negative angle": {"degrees": (-101.0, -101.0)},
    "scale": {"degrees": 0.0, "scale": (0.83, 0.83)},
    "two scales": {"degrees": 0.0, "scale": (1.37, 1.37, 0.61, 0.61)},
    "shear": {"degrees": 0.0, "shear": (17.0, 17.0)},
    "two shears": {"degrees": 0.0, "shear": (17.0, 17.0, -9.0, -9.0)},
    "all": {"degrees": (33.0, 33.0), "scale": (1.37, 1.37, 0.61, 0.61), "shear": (17.0, 17.0, -9.0, -9.0)},
}


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("resample", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_ranges_equal_random_affine_on_the_crop_and_on_the_whole_image(
    name, resample, padding_mode, align_corners
):
    options = {"resample": resample, "padding_mode": padding_mode, "align_corners": align_corners, "p": 1.0}
    kornias = K.RandomAffine(**DEGENERATE[name], **options)
    ours = kp.RandomPatchAffine(**DEGENERATE[name], **options)
    expected = painted(picture(), RECTANGLES, OBJ_TO_IMG, kornias)
    near(ours(picture(), RECTANGLES, obj_to_img=OBJ_TO_IMG), expected, 2e-5)
    whole = torch.tensor([[[0, 0, WIDTH, HEIGHT]]]).expand(2, 1, 4)
    near(ours(picture(), whole), kornias(picture()), 2e-5)


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("resample", ["bilinear", "nearest"])
def test_what_random_affine_draws_does_the_same_to_the_box_as_to_the_crop(resample, align_corners):
    torch.manual_seed(5)
    kornias = K.RandomAffine(
        40.0, (0.3, 0.2), (0.7, 1.3, 0.8, 1.2), (-20, 20, -10, 10), resample, align_corners=align_corners, p=1.0
    )
    thetas = []

    def warp(crop):
        warped, params = kornias(crop), kornias._params
        size = torch.tensor([crop.shape[3], crop.shape[2]])
        theta = kp.theta_from_components(
            params["angle"],
            params["scale"],
            params["translations"] / size,
            torch.stack([params["shear_x"], params["shear_y"]], dim=1),
            boxes=torch.cat([0 * size, size])[None],
            align_corners=align_corners,
        )
        thetas.append(theta)
        return warped

    expected = painted(picture(), RECTANGLES, OBJ_TO_IMG, warp)
    ours = kp.PatchAffine(resample=resample, align_corners=align_corners)
    near(ours(picture(), RECTANGLES, torch.cat(thetas), OBJ_TO_IMG), expected, 2e-5)


def test_a_positive_angle_turns_clockwise_as_displayed():
    images = torch.zeros(1, 1, 6, 9)
    images[..., 0, 2:6] = 1  # the top edge of a square
    turned = kp.RandomPatchAffine(**QUARTER, p=1.0)(images, torch.tensor([[2, 0, 6, 4]]))
    expected = torch.zeros(1, 1, 6, 9)
    expected[..., 0:4, 5] = 1  # the right edge
    near(turned, expected, 1e-5)


def assert_fills(values, low, high):
    """A uniform sample of some thousands lies in its range, comes near both ends, and has the right mean."""
    reach = high - low
    assert low - 1e-4 <= values.min() < low + 0.02 * reach
    assert high - 0.02 * reach < values.max() <= high + 1e-4
    assert abs(values.mean() - (low + high) / 2) < 0.05 * reach


def test_angles_fill_their_range():
    torch.manual_seed(0)
    assert_fills(angles(kp.RandomPatchAffine(30.0, p=1.0)), -30, 30)
    assert_fills(angles(kp.RandomPatchAffine((10.0, 80.0), p=1.0)), 10, 80)
    assert_fills(angles(kp.RandomPatchAffine(torch.tensor([-20.0, 5.0]), p=1.0)), -20, 5)


def test_shifts_fill_their_share_of_the_box():
    torch.manual_seed(0)
    theta = drawn(kp.RandomPatchAffine(0.0, translate=(0.5, 0.25), p=1.0))
    assert_fills(-theta[:, 0, 2], -6, 6)  # half of 12 pixels
    assert_fills(-theta[:, 1, 2], -2, 2)  # a quarter of 8
    assert abs(torch.corrcoef(theta[:, :, 2].T)[0, 1]) < 0.1


def test_scales_fill_their_range_for_both_axes_or_each():
    torch.manual_seed(0)
    theta = drawn(kp.RandomPatchAffine(0.0, scale=(0.5, 1.5), p=1.0))
    assert_fills(1 / theta[:, 0, 0], 0.5, 1.5)
    near(theta[:, 0, 0], theta[:, 1, 1], 1e-6)
    theta = drawn(kp.RandomPatchAffine(0.0, scale=(0.5, 1.5, 1.0, 3.0), p=1.0))
    assert_fills(1 / theta[:, 0, 0], 0.5, 1.5)
    assert_fills(1 / theta[:, 1, 1], 1.0, 3.0)
    assert abs(torch.corrcoef(theta[:, [0, 1], [0, 1]].T)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("shear", "x_range", "y_range"),
    [
        (20.0, (-20, 20), None),
        ((5.0, 25.0), (5, 25), None),
        ((5.0, 25.0, -30.0, -10.0), (5, 25), (-30, -10)),
        (torch.tensor([[5.0, 25.0], [-30.0, -10.0]]), (5, 25), (-30, -10)),
    ],
)
def test_shears_fill_their_range_along_x_or_both_axes(shear, x_range, y_range):
    torch.manual_seed(0)
    theta = drawn(kp.RandomPatchAffine(0.0, shear=shear, p=1.0))
    assert_fills(torch.rad2deg(theta[:, 0, 1].atan()), *x_range)
    if y_range is None:
        same(theta[:, 1, 0], torch.zeros(2000, dtype=torch.float64))
    else:
        assert_fills(torch.rad2deg(theta[:, 1, 0].atan()), *y_range)


BAD_RANGES = [
    ("degrees", [(10.0, -10.0), -5.0, (-400.0, 10.0), 361.0, float("nan"), (1.0, 2.0, 3.0), (0.0, float("inf"))]),
    ("translate", [(0.1,), (0.1, 1.2), (-0.1, 0.1), (0.1, 0.1, 0.1), 0.1, (0.1, float("nan"))]),
    ("scale", [(1.2, 0.8), (0.0, 1.0), (-1.0, 1.0), (0.5, 1.0, 2.0), 0.5, (0.5, 1.0, 1.0, 0.5), (0.5, float("inf"))]),
    ("shear", [(10.0, -10.0), -5.0, (0.0, 400.0), (1.0, 2.0, 3.0), (1.0, 2.0, 2.0, 1.0), float("nan")]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_RANGES for value in values])
def test_a_bad_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        kp.RandomPatchAffine(**{"degrees": 0.0, name: value})


# --- draws, seeds and replay ------------------------------------------------------------------------------------------

EVERYTHING = {"degrees": 30.0, "translate": (0.2, 0.1), "scale": (0.7, 1.3, 0.8, 1.2), "shear": (-10, 10, -5, 5)}


def test_the_same_seed_gives_the_same_result_and_another_another():
    augmentation = kp.RandomPatchAffine(**EVERYTHING, p=0.8, p_patch=0.8).bind(RECTANGLES, obj_to_img=OBJ_TO_IMG)

    def warped(seed):
        torch.manual_seed(seed)
        return augmentation(picture())

    same(warped(1), warped(1))
    assert len({warped(seed).sum().item() for seed in range(4)}) == 4
    assert not torch.equal(augmentation(picture()), augmentation(picture()))


def test_a_generator_makes_the_draw_independent_of_the_global_one():
    def warped(global_seed, seed):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        generator = torch.Generator().manual_seed(seed)
        augmentation = kp.RandomPatchAffine(**EVERYTHING, p=0.8, p_batch=0.9, p_patch=0.8, generator=generator)
        results = [augmentation(picture(), RECTANGLES, obj_to_img=OBJ_TO_IMG) for _ in range(4)]
        same(torch.get_rng_state(), before)
        return torch.stack(results)

    same(warped(1, seed=7), warped(2, seed=7))
    assert not torch.equal(warped(1, seed=7), warped(1, seed=8))
    assert len(warped(1, seed=7).flatten(1).sum(1).unique()) > 1


@pytest.mark.parametrize("options", [{"p": 1.0}, {"p": 0.5}, {"p": 1.0, "p_patch": 0.5}, {"p": 0.7, "p_batch": 0.7}])
def test_a_replay_gives_the_same_bits(options):
    for seed in range(5):
        torch.manual_seed(seed)
        augmentation = kp.RandomPatchAffine(**EVERYTHING, sequential=True, **options)
        warped = augmentation(picture(5), RECTANGLES, obj_to_img=torch.tensor([4, 1, 4]))
        kept = augmentation._params
        augmentation(picture(2), SQUARES, obj_to_img=OBJ_TO_IMG)
        same(augmentation(picture(5), params=copy.deepcopy(kept)), warped)
        same(kp.RandomPatchAffine(0.0, sequential=True, **options)(picture(5), params=kept), warped)


def test_a_kept_draw_survives_later_edits_of_what_was_passed():
    boxes, theta, obj_to_img = RECTANGLES.clone(), THETA.clone(), OBJ_TO_IMG.clone()
    augmentation = kp.PatchAffine()
    warped = augmentation(picture(), boxes, theta, obj_to_img)
    boxes += 2
    theta *= 2
    obj_to_img.zero_()
    same(augmentation(picture(), params=augmentation._params), warped)


def test_nothing_that_was_passed_is_modified():
    arguments = picture(), RECTANGLES.float(), THETA.clone(), OBJ_TO_IMG.clone()
    before = [argument.clone() for argument in arguments]
    for augmentation in (kp.PatchAffine(p=0.5), kp.PatchAffine(p_patch=0.5, sequential=True)):
        augmentation(*arguments)
        for argument, value in zip(arguments, before, strict=True):
            same(argument, value)
            assert argument._version == 0


def test_p_gates_images_and_gated_ones_come_back_bit_for_bit():
    torch.manual_seed(3)
    images = picture(64)
    boxes, obj_to_img = SQUARES[:1].expand(64, 4), torch.arange(64)
    warped = kp.RandomPatchAffine(**QUARTER, p=0.3)(images, boxes, obj_to_img=obj_to_img)
    untouched = (warped == images).flatten(1).all(1)
    assert 10 <= (~untouched).sum() <= 30
    turned = painted(images, boxes, obj_to_img, quarter_turn)
    near(warped[~untouched], turned[~untouched], 1e-5)


def test_p_batch_gates_whole_batches():
    torch.manual_seed(3)
    augmentation = random_patch_affine(p_batch=0.5)
    turned = painted(picture(), SQUARES, OBJ_TO_IMG, quarter_turn)
    outcomes = []
    for _ in range(40):
        warped = augmentation(picture())
        outcomes.append(not torch.equal(warped, picture()))
        near(warped, turned if outcomes[-1] else picture(), 1e-5)
    assert 10 <= sum(outcomes) <= 30


def test_p_patch_gates_objects():
    torch.manual_seed(3)
    x, y = torch.meshgrid(torch.arange(0, 200, 4), torch.arange(0, 40, 4), indexing="ij")
    corner = torch.stack([x.flatten(), y.flatten()], dim=1)
    boxes = torch.cat([corner, corner + 4], dim=1)  # 500 squares without overlap
    images = torch.rand(1, 1, 40, 200)
    warped = kp.RandomPatchAffine(**QUARTER, p=1.0, p_patch=0.25)(images, boxes)

    def cells(picture):
        return picture.reshape(10, 4, 50, 4).permute(0, 2, 1, 3)

    untouched = (cells(warped) == cells(images)).flatten(2).all(2)
    assert 90 <= (~untouched).sum() <= 160
    near(cells(warped)[~untouched], quarter_turn(cells(images))[~untouched], 1e-5)


# --- gradients and learning -------------------------------------------------------------------------------------------


def gradients(function, *leaves):
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    warped = function(*leaves)
    weight = torch.rand(warped.shape, generator=torch.Generator().manual_seed(1), dtype=warped.dtype)
    return torch.autograd.grad((warped * weight).sum(), leaves)


@pytest.mark.parametrize("p", [1.0, 0.999])  # Kornia goes another way where p is not 1
def test_gradients_reach_images_theta_and_boxes(p):
    torch.manual_seed(0)
    images, theta, augmentation = picture().double(), THETA.double(), kp.PatchAffine(p=p)
    to_images, to_theta = gradients(lambda x, t: augmentation(x, RECTANGLES, t, OBJ_TO_IMG), images, theta)

    def loop(x, t):
        return painted(x, RECTANGLES, OBJ_TO_IMG, *(grid_warp(row, mode="bilinear") for row in t))

    for ours, torchs in zip((to_images, to_theta), gradients(loop, images, theta), strict=True):
        near(ours, torchs, 1e-9)
    boxes = RECTANGLES + 0.3
    (to_boxes,) = gradients(lambda b: augmentation(images, b, theta, OBJ_TO_IMG), boxes.double())
    (expected,) = gradients(lambda b: kp.affine_patches(images, b, theta, OBJ_TO_IMG), boxes.double())
    same(to_boxes, expected)
    assert to_boxes.all()


def test_gradients_reach_every_learnable_range():
    torch.manual_seed(0)
    augmentation = kp.RandomPatchAffine(**EVERYTHING, p=1.0, learnable=True)
    (augmentation(picture(), RECTANGLES, obj_to_img=OBJ_TO_IMG) * picture(seed=1)).sum().backward()
    assert len(list(augmentation.parameters())) == 8
    for parameter in augmentation.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.all()
    assert not list(kp.RandomPatchAffine(**EVERYTHING).parameters())


def test_an_optimizer_moves_the_drawn_range():
    """The angles are centre + half_width * noise; both move along the gradient of the mean angle."""
    augmentation = kp.RandomPatchAffine((10.0, 20.0), p=1.0, learnable=True)
    optimizer = torch.optim.SGD(augmentation.parameters(), lr=8.0)
    boxes = SQUARES[:1].expand(20, 4)

    def draw():
        torch.manual_seed(2)
        augmentation(picture(1), boxes)
        theta = augmentation._params["theta"][0]
        return torch.rad2deg(torch.atan2(theta[:, 0, 1], theta[:, 0, 0]))

    before = draw()
    (-before.mean()).backward()
    optimizer.step()
    noise = (before.detach() - 15) / 5
    near(draw().detach(), (15 + 8) + (5 + 8 * noise.mean()) * noise, 1e-3)


def reloaded(augmentation):
    fresh = kp.RandomPatchAffine((-3.0, 3.0), p=1.0, learnable=bool(list(augmentation.parameters())))
    fresh.load_state_dict(augmentation.state_dict())
    return fresh


COPIES = {
    "itself": lambda a: a,
    "double": lambda a: a.double(),
    "to float64": lambda a: a.to(torch.float64),
    "to the cpu": lambda a: a.to("cpu"),
    "deepcopy": copy.deepcopy,
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
    "load_state_dict": reloaded,
}


@pytest.mark.parametrize("learnable", TRUTH)
@pytest.mark.parametrize("name", COPIES)
def test_the_range_of_a_copy_is_drawn_from_and_can_be_moved(name, learnable):
    torch.manual_seed(0)
    original = kp.RandomPatchAffine((10.0, 20.0), p=1.0, learnable=learnable)
    original(picture(), RECTANGLES, obj_to_img=OBJ_TO_IMG)

    def move(augmentation):
        with torch.no_grad():
            augmentation.ranges.degrees.centre += 30

    move(original)
    assert_fills(angles(original), 40, 50)
    copied = COPIES[name](original)
    assert_fills(angles(copied), 40, 50)
    move(copied)
    assert_fills(angles(copied), 70, 80)
    if name in ("deepcopy", "pickle", "load_state_dict"):
        assert_fills(angles(original), 40, 50)
    assert copied.ranges.degrees.centre.requires_grad is learnable


# --- copies, workers, data types --------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_made_after_a_call_that_carries_a_graph_replays_it(copied):
    theta, boxes = (2 * THETA.clone().requires_grad_()), (1 * RECTANGLES.float().requires_grad_())
    for augmentation in (kp.PatchAffine(), kp.PatchAffine().bind(boxes, theta, OBJ_TO_IMG)):
        warped = augmentation(picture(), boxes, theta, OBJ_TO_IMG)
        twin = copied(augmentation)
        same(twin(picture(), params=twin._params), warped.detach())
        assert augmentation._params["theta"].requires_grad


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_draws_on_from_where_its_generator_was(copied):
    augmentation = kp.RandomPatchAffine(30.0, p=1.0, generator=torch.Generator().manual_seed(3))
    augmentation.bind(RECTANGLES, obj_to_img=OBJ_TO_IMG)(picture())
    twin = copied(augmentation)
    same(twin(picture()), augmentation(picture()))


def test_state_dict_holds_the_ranges():
    original = kp.RandomPatchAffine(**EVERYTHING, p=1.0)
    other = kp.RandomPatchAffine(1.0, (0.9, 0.9), (2, 3, 2, 3), (1, 2, 1, 2), p=1.0)
    assert other.load_state_dict(original.state_dict()) == ([], [])
    warped = []
    for augmentation in (original, other):
        torch.manual_seed(0)
        warped.append(augmentation(picture(), RECTANGLES, obj_to_img=OBJ_TO_IMG))
    same(*warped)


def test_repr_says_what_was_asked_for():
    text = repr(kp.RandomPatchAffine(30.0, (0.1, 0.2), (0.5, 2), 3.0, p=0.7, p_patch=0.4, padding_mode="border"))
    assert text.startswith("RandomPatchAffine(degrees=[-30, 30], translate=[-0.1, 0.1], [-0.2, 0.2], scale=[0.5, 2]")
    for part in ("shear=[-3, 3]", "p=0.7", "p_patch=0.4", "resample=bilinear", "padding_mode=border"):
        assert part in text
    assert repr(kp.PatchAffine(patch_size=(4, 6))).startswith("PatchAffine(p=1.0, p_batch=1.0, p_patch=1.0")
    assert "patch_size=(4, 6)" in repr(K.AugmentationSequential(kp.PatchAffine(patch_size=(4, 6))))


def test_the_workers_of_a_data_loader_draw_by_their_own_seeds():
    data = WarpedPictures(kp.RandomPatchAffine(60.0, (0.2, 0.2), p=1.0))
    loader = DataLoader(data, batch_size=1, num_workers=2, multiprocessing_context="spawn")
    loaded = [(warped[0, 0], theta[0], int(seed)) for warped, theta, seed in loader]
    assert len({theta.sum().item() for _, theta, _ in loaded}) == 4
    for worker in (0, 1):
        torch.manual_seed(loaded[worker][2])
        for index in (worker, worker + 2):
            warped, theta, _ = loaded[index]
            same(warped, data[index][0][0])
            expected = painted(data.pictures[index][None], SQUARES[:2], 0 * OBJ_TO_IMG[:2], *map(grid_warp, theta))
            near(warped, expected[0], 1e-5)


DTYPES = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-6}


@both
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1.0, 0.999])
def test_other_dtypes_come_out_as_they_came_in(make, dtype, p):
    expected = painted(picture(), SQUARES, OBJ_TO_IMG, quarter_turn)
    near(make(p=p)(picture().to(dtype)), expected.to(dtype), DTYPES[dtype])


@both
@pytest.mark.parametrize("p", [1.0, 0.999])
def test_channels_last_stays_channels_last(make, p):
    warped = make(p=p)(picture().to(memory_format=torch.channels_last))
    assert warped.is_contiguous(memory_format=torch.channels_last)
    near(warped, painted(picture(), SQUARES, OBJ_TO_IMG, quarter_turn), 1e-5)


@pytest.mark.parametrize("patch_size", [None, (9, 12)])
@pytest.mark.parametrize("p", [1.0, 0.999])
def test_autocast_does_not_blunt_the_draw(p, patch_size):
    augmentation = kp.RandomPatchAffine(**DEGENERATE["all"], translate=(0.0, 0.0), p=p, patch_size=patch_size)
    augmentation.bind(RECTANGLES, obj_to_img=OBJ_TO_IMG)
    expected = augmentation(picture())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near(augmentation(picture()), expected, 1e-6)
        assert augmentation(picture().bfloat16()).dtype == torch.bfloat16


@both
def test_no_objects_and_no_images_are_no_error(make):
    none = torch.zeros(0, 4), torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)
    for same_on_batch in TRUTH:
        augmentation = make(p=0.5, p_patch=0.5, same_on_batch=same_on_batch)
        same(augmentation(picture(), *none), picture())
        assert augmentation(picture()[:0], *none).shape == (0, 3, HEIGHT, WIDTH)
        assert augmentation(picture()[:0], PADDED[:0], none[1]).shape == (0, 3, HEIGHT, WIDTH)
