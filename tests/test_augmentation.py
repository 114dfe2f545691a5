"""PatchAffine and RandomPatchAffine called on their own: Kornia's contract, draws, gradients, copies, data types."""

import copy
import pickle
import re

import kornia.augmentation as K
import pytest
import torch
from kornia.constants import Resample, SamplePadding
from kornia.geometry.boxes import Boxes
from PIL import Image
from support.kornia_scenes import (
    HEIGHT,
    OBJ_TO_IMG,
    QUARTER,
    SQUARES,
    WIDTH,
    WarpedPictures,
    drawn,
    fills,
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
TURN = torch.tensor([[0.0, 1, 0, -1, 0, 0]]).expand(3, 6)  # clockwise quarter turns of squares, output to input
THETA = torch.tensor([[0.9, 0.3, 0.1, -0.4, 1.1, 0.0], [1.2, -0.2, 0.0, 0.3, 0.8, -0.2], [0.7, 0.5, -0.1, 0.2, 1, 0.3]])
RECTANGLES = torch.tensor([[9, 8, 29, 21], [3, 4, 15, 12], [14, 2, 23, 24]])  # the larger first, as it is painted
EVERYTHING = {"degrees": 30.0, "translate": (0.2, 0.1), "scale": (0.7, 1.3, 0.8, 1.2), "shear": (-10, 10, -5, 5)}


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def patch_affine(**options):
    """PatchAffine with three quarter turns to do."""
    return kp.PatchAffine(**options).bind(SQUARES, TURN, OBJ_TO_IMG)


def random_patch_affine(**options):
    """RandomPatchAffine with the same to do."""
    return kp.RandomPatchAffine(**QUARTER, **{"p": 1.0, **options}).bind(SQUARES, obj_to_img=OBJ_TO_IMG)


def turned():
    """What both make of `picture()`."""
    return painted(picture(), SQUARES, OBJ_TO_IMG, quarter_turn)


both = pytest.mark.parametrize("make", [patch_affine, random_patch_affine])
always = pytest.mark.parametrize("p", [1.0, 0.9999])  # Kornia goes another way where p is not 1


# --- Kornia's contract for 2D augmentations ---------------------------------------------------------------------------


@both
def test_it_is_an_augmentation_whose_frame_does_not_move(make):
    augmentation = make()
    assert isinstance(augmentation, K.AugmentationBase2D)
    params = augmentation.forward_parameters(picture().shape)
    warped = augmentation(picture(), params=params)
    near(warped, turned(), 1e-5)
    same(augmentation.transform_matrix, torch.eye(3).expand(2, 3, 3))
    same(augmentation(picture(), params=params), warped)


@both
@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("keepdim", TRUTH)
@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (3, HEIGHT, WIDTH), (1, 3, HEIGHT, WIDTH), (2, 3, HEIGHT, WIDTH)])
def test_any_rank_goes_in_and_keepdim_brings_it_out(make, shape, keepdim, p):
    images = picture().flatten()[: torch.Size(shape).numel()].reshape(shape)
    batch = images[(None,) * (4 - len(shape))]
    augmentation = make(p=p, keepdim=keepdim).bind(SQUARES[:2], TURN[:2], OBJ_TO_IMG[:2])
    expected = painted(batch, SQUARES[:2], OBJ_TO_IMG[:2], quarter_turn) if p else batch
    near(augmentation(images), expected.reshape(shape) if keepdim else expected, 1e-5 if p else 0)


@both
@pytest.mark.parametrize("never", ["p", "p_batch", "p_patch"])
def test_a_probability_of_zero_returns_the_input(make, never):
    same(make(**{never: 0.0})(picture()), picture())


PICTURE = picture()
NETWORK = torch.tensor([[3.0, 4, 15, 12], [29, 8, 9, 21], [14, 2, 23, 24]])  # corners that cross in row 1
BAD_CALLS = {
    "bytes": (lambda: (PICTURE.byte(), SQUARES, TURN, OBJ_TO_IMG), TypeError),
    "a list of images": (lambda: ([*PICTURE], SQUARES, TURN, OBJ_TO_IMG), TypeError),
    "NumPy": (lambda: (PICTURE.numpy(), SQUARES, TURN, OBJ_TO_IMG), TypeError),
    "a picture of PIL": (lambda: (Image.new("RGB", (34, 26)), SQUARES, TURN, OBJ_TO_IMG), TypeError),
    "five dimensions": (lambda: (PICTURE[None], SQUARES, TURN, OBJ_TO_IMG), ValueError),
    "one dimension": (lambda: (PICTURE[0, 0, 0], SQUARES, TURN, OBJ_TO_IMG), ValueError),
    "no channels": (lambda: (PICTURE[:, :0], SQUARES, TURN, OBJ_TO_IMG), ValueError),
    "corners that cross": (lambda: (PICTURE, NETWORK, TURN, OBJ_TO_IMG), ValueError),
    "boxes that are not finite": (lambda: (PICTURE, SQUARES / 0, TURN, OBJ_TO_IMG), ValueError),
    "a theta that is not finite": (lambda: (PICTURE, SQUARES, TURN / 0, OBJ_TO_IMG), ValueError),
    "an index out of range": (lambda: (PICTURE, SQUARES, TURN, OBJ_TO_IMG + 1), ValueError),
    "flat boxes without an index": (lambda: (PICTURE, SQUARES, TURN), ValueError),
}


@pytest.mark.parametrize("p", [0.0, 1.0])  # what the gates draw does not decide whether it is an error
@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_is_told_in_the_words_of_the_function(name, p):
    make, error = BAD_CALLS[name]
    with pytest.raises(error) as functions:
        kp.affine_patches(*make())
    for augmentation in (kp.PatchAffine(p=p), kp.RandomPatchAffine(10.0, p=p)):
        with pytest.raises(error) as ours:
            augmentation(*make())
        assert str(ours.value) == str(functions.value).replace("images:", "input:").replace("images.", "input.")


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_corners_that_cross_are_told_before_a_theta_is_drawn_for_them(p):
    with pytest.raises(ValueError, match=r"^boxes: expected x1 y1 x2 y2 .*row 1.*convert_boxes"):
        kp.RandomPatchAffine(**EVERYTHING, p=p)(picture(), NETWORK, obj_to_img=OBJ_TO_IMG)


def test_an_index_in_the_place_of_theta_is_told_where_it_goes():
    with pytest.raises(TypeError, match=r"^theta: expected a floating .* got a torch.int64 tensor.* obj_to_img=\.$"):
        kp.RandomPatchAffine(10.0)(picture(), SQUARES, OBJ_TO_IMG)


def test_a_seed_is_no_generator():
    with pytest.raises(TypeError, match=r"^generator: expected a torch\.Generator, got int\. .*manual_seed"):
        kp.RandomPatchAffine(10.0, generator=42)


def test_a_sequence_does_what_its_members_do_one_by_one_under_the_same_seed():
    first, second = (kp.RandomPatchAffine(40.0, p=1.0).bind(RECTANGLES, obj_to_img=OBJ_TO_IMG) for _ in range(2))
    torch.manual_seed(42)
    one_by_one = second(first(picture()))
    torch.manual_seed(42)
    same(K.AugmentationSequential(first, second)(picture()), one_by_one)


def test_same_on_batch_shares_one_draw():
    images, boxes = picture(1).expand(6, -1, -1, -1), RECTANGLES[None].expand(6, 3, 4)
    outcomes = set()
    for seed in range(16):
        torch.manual_seed(seed)
        augmentation = kp.RandomPatchAffine(**EVERYTHING, p=0.5, p_patch=0.5, same_on_batch=True)
        warped = augmentation(images, boxes)
        same(warped, warped[:1].expand_as(warped))
        gates = augmentation._params["batch_prob"], augmentation._params["patch_prob"]
        assert [len(gate.unique()) for gate in gates] == [1, 1]
        outcomes.add(tuple(bool(gate.any()) for gate in gates))
    assert len(outcomes) == 4


# --- one function, two modules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch_size", [None, (9, 7)])
@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection", "transparent", "image"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_the_module_equals_the_function_bit_for_bit(mode, padding_mode, align_corners, sequential, patch_size):
    options = {"align_corners": align_corners, "sequential": sequential, "patch_size": patch_size}
    options["padding_mode"] = padding_mode
    if padding_mode == "image" and patch_size:
        with pytest.raises(ValueError, match=r"^padding_mode: .*'image'"):
            kp.PatchAffine(**options)
        return
    boxes = RECTANGLES + torch.tensor([0.3, -0.4, 0.6, 0.2])
    expected = kp.affine_patches(picture(), boxes, THETA, OBJ_TO_IMG, mode=mode, **options)
    assert not torch.equal(expected, picture())
    same(kp.PatchAffine(resample=mode, **options)(picture(), boxes, THETA, OBJ_TO_IMG), expected)
    random = kp.RandomPatchAffine(30.0, p=1.0, resample=mode, **options)
    same(random(picture(), boxes, THETA.reshape(3, 2, 3), OBJ_TO_IMG), expected)


def test_boxes_come_in_every_form_that_the_function_takes():
    lists = [SQUARES[:2], SQUARES[2:]]
    padded = torch.stack([SQUARES[:2], torch.cat([SQUARES[2:], torch.zeros_like(SQUARES[:1])])])
    augmentation = kp.RandomPatchAffine(**QUARTER, p=1.0)
    for boxes in (lists, padded, Boxes.from_tensor([rows.float() for rows in lists], mode="xyxy")):
        near(augmentation.bind()(picture(), boxes), turned(), 1e-5)
        near(augmentation.bind(boxes)(picture()), turned(), 1e-5)
    near(augmentation(picture()[0], SQUARES[:2]), turned()[:1], 1e-5)


def test_what_is_given_directly_comes_before_params_and_those_before_what_is_bound():
    augmentation = kp.PatchAffine().bind(RECTANGLES, THETA, OBJ_TO_IMG)
    bound = kp.affine_patches(picture(), RECTANGLES, THETA, OBJ_TO_IMG)
    same(augmentation(picture()), bound)
    near(augmentation(picture(), SQUARES, TURN, OBJ_TO_IMG), turned(), 1e-5)
    half_bound = kp.affine_patches(picture(), SQUARES, THETA, OBJ_TO_IMG)
    same(augmentation(picture(), SQUARES, obj_to_img=OBJ_TO_IMG), half_bound)
    by_hand = {"boxes": SQUARES, "theta": TURN, "obj_to_img": OBJ_TO_IMG}
    near(augmentation(picture(), params={**by_hand}), turned(), 1e-5)
    per_image = {"boxes": [SQUARES[:2], SQUARES[2:]], "theta": TURN}
    near(augmentation(picture(), params=per_image), turned(), 1e-5)
    gated = augmentation(picture(), params={**by_hand, "patch_prob": torch.tensor([1.0, 0, 1])})
    near(gated, painted(picture(), SQUARES[[0, 2]], OBJ_TO_IMG[[0, 2]], quarter_turn), 1e-5)
    same(augmentation(picture()), bound)
    with pytest.raises(ValueError, match="no boxes"):
        augmentation.bind()(picture())


@both
def test_missing_objects_are_an_error_that_names_the_three_ways(make):
    augmentation = make().bind()
    for module in (augmentation, K.AugmentationSequential(augmentation)):
        with pytest.raises(ValueError, match=type(augmentation).__name__) as error:
            module(picture())
        for way in ("PatchAugmentationSequential", "bind(boxes=", "boxes= in a direct call"):
            assert way in str(error.value)


@pytest.mark.parametrize("index", [2, -1])
def test_an_image_index_out_of_range_is_the_error_of_the_function(index):
    arguments = picture(), SQUARES, TURN, torch.tensor([0, index, 1])
    for function in (kp.affine_patches, kp.PatchAffine(), lambda *args: kp.PatchAffine().bind(*args[1:])(args[0])):
        with pytest.raises(ValueError, match=rf"^obj_to_img: expected .*\[0, 2\).*got {index} in row 1"):
            function(*arguments)


def test_a_missing_theta_is_an_error_that_says_where_to_put_it():
    with pytest.raises(ValueError, match=r"PatchAffine has no theta.*theta=.*params.*bind"):
        kp.PatchAffine()(picture(), SQUARES, obj_to_img=OBJ_TO_IMG)


BAD_OPTIONS = {"p": 1.5, "p_batch": -0.1, "p_patch": 2, "padding_mode": "wrap", "resample": "bicubic"}
BAD_OPTIONS |= {"align_corners": None, "sequential": "yes", "patch_size": (4, 0)}
WORDS = {
    "resample": "'bilinear', 'nearest', got 'bicubic'",
    "padding_mode": "'zeros', 'border', 'reflection', .*'wrap'",
}


@both
@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_a_bad_option_is_named(make, name):
    with pytest.raises(ValueError, match=f"^{name}: expected.*{WORDS.get(name, '')}"):
        make(**{name: BAD_OPTIONS[name]})


SPELLINGS = {
    "padding_mode": [
        ("BORDER", "border"),
        (SamplePadding.BORDER, "border"),
        (1, "border"),
        ("Reflection", "reflection"),
    ],
    "resample": [("NEAREST", "nearest"), (Resample.NEAREST, "nearest"), (0, "nearest")],
}


@pytest.mark.parametrize(("option", "spelt", "word"), [(o, *pair) for o, pairs in SPELLINGS.items() for pair in pairs])
def test_options_are_spelt_as_in_kornia(option, spelt, word):
    arguments = picture(), RECTANGLES, THETA, OBJ_TO_IMG
    expected = kp.affine_patches(*arguments, **{"mode" if option == "resample" else option: word})
    same(kp.PatchAffine(**{option: spelt})(*arguments), expected)
    same(kp.PatchAffine()(*arguments, **{option: spelt}), expected)
    K.RandomAffine(10.0, **{option: spelt})


# --- the ranges mean what they mean in kornia.augmentation.RandomAffine -----------------------------------------------

DEGENERATE = {  # no pixel centre lands halfway between two, which nearest interpolation would decide by rounding
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
def test_one_value_a_range_equals_random_affine_on_crop_and_whole_image(name, resample, padding_mode, align_corners):
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
    ranges = {"degrees": 40.0, "translate": (0.3, 0.2), "scale": (0.7, 1.3, 0.8, 1.2), "shear": (-20, 20, -10, 10)}
    kornias = K.RandomAffine(**ranges, resample=resample, align_corners=align_corners, p=1.0)
    draws = []
    expected = painted(
        picture(), RECTANGLES, OBJ_TO_IMG, lambda crop: (kornias(crop), draws.append(kornias._params))[0]
    )
    angle, scale, pixels, *shears = (
        torch.cat([draw[name] for draw in draws]) for name in ("angle", "scale", "translations", "shear_x", "shear_y")
    )
    share = pixels / (RECTANGLES[:, 2:] - RECTANGLES[:, :2])
    shear = torch.stack(shears, dim=1)
    theta = kp.theta_from_components(angle, scale, share, shear, boxes=RECTANGLES, align_corners=align_corners)
    ours = kp.PatchAffine(resample=resample, align_corners=align_corners)
    near(ours(picture(), RECTANGLES, theta, OBJ_TO_IMG), expected, 2e-5)


FILLS = [
    ({"degrees": 30.0}, {"angle": (-30, 30)}),
    ({"degrees": (10.0, 80.0)}, {"angle": (10, 80)}),
    ({"degrees": torch.tensor([-20.0, 5.0])}, {"angle": (-20, 5)}),
    ({"translate": (0.5, 0.25)}, {"x shift": (-6, 6), "y shift": (-2, 2)}),  # of 12 x 8 pixels
    ({"scale": (0.5, 1.5)}, {"x scale": (0.5, 1.5), "y scale": (0.5, 1.5)}),
    ({"scale": (0.5, 1.5, 1.0, 3.0)}, {"x scale": (0.5, 1.5), "y scale": (1.0, 3.0)}),
    ({"shear": 20.0}, {"x shear": (-20, 20), "y shear": (0, 0)}),
    ({"shear": (5.0, 25.0)}, {"x shear": (5, 25), "y shear": (0, 0)}),
    ({"shear": (5.0, 25.0, -30.0, -10.0)}, {"x shear": (5, 25), "y shear": (-30, -10)}),
]


@pytest.mark.parametrize(("ranges", "expected"), FILLS)
def test_draws_fill_their_range_and_axes_are_independent(ranges, expected):
    samples = []
    for name, (low, high) in expected.items():
        torch.manual_seed(0)
        samples.append(drawn(kp.RandomPatchAffine(**{"degrees": 0.0, **ranges}, p=1.0), name))
        fills(samples[-1], low, high)
    if len(samples) == 2 and samples[1].std() > 0:
        tied = len(ranges.get("scale", ())) == 2  # one scale for both axes
        assert tied == (torch.corrcoef(torch.stack(samples))[0, 1].abs() > 0.1)


def test_angle_scales_shear_and_shifts_are_independent():
    """Theta's linear part is an upper triangle (shear along x alone, scales) times a turn back."""
    theta = drawn(kp.RandomPatchAffine(**{**EVERYTHING, "shear": 10.0}, p=1.0), "all")
    linear = theta[:, :, :2]
    shift = torch.linalg.solve(linear, -theta[:, :, 2])
    angle = torch.atan2(-linear[:, 1, 0], linear[:, 1, 1])
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).reshape(-1, 2, 2)
    (x, sheared), (_, y) = (linear @ turn).permute(1, 2, 0)
    drawn_together = torch.stack([angle, 1 / x, 1 / y, sheared / y, *shift.T])
    correlation = torch.corrcoef(drawn_together) - torch.eye(6)
    assert correlation.abs().max() < 0.1


BAD_RANGES = {
    "degrees": [(10.0, -10.0), -5.0, (-400.0, 10.0), 361.0, float("nan"), (1.0, 2.0, 3.0), (0.0, float("inf"))],
    "translate": [(0.1,), (0.1, 1.2), (-0.1, 0.1), (0.1, 0.1, 0.1), 0.1, (0.1, float("nan"))],
    "scale": [(1.2, 0.8), (0.0, 1.0), (-1.0, 1.0), (0.5, 1.0, 2.0), 0.5, (0.5, 1.0, 1.0, 0.5), (0.5, float("inf"))],
    "shear": [(10.0, -10.0), -5.0, (0.0, 400.0), (1.0, 2.0, 3.0), (1.0, 2.0, 2.0, 1.0), float("nan")],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_RANGES.items() for value in values])
def test_a_bad_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        kp.RandomPatchAffine(**{"degrees": 0.0, name: value})


# --- draws, seeds and replay ------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_result_and_another_another():
    augmentation = kp.RandomPatchAffine(**EVERYTHING, p=0.8, p_patch=0.8).bind(RECTANGLES, obj_to_img=OBJ_TO_IMG)
    results = [(torch.manual_seed(seed), augmentation(picture()))[1] for seed in (1, 1, 2, 3)]
    same(results[0], results[1])
    assert len(torch.stack(results).flatten(1).sum(1).unique()) == 3
    assert not torch.equal(augmentation(picture()), augmentation(picture()))


def test_a_generator_makes_the_draw_independent_of_the_global_one():
    def run(global_seed, seed):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        generator = torch.Generator().manual_seed(seed)
        augmentation = kp.RandomPatchAffine(**EVERYTHING, p=0.8, p_batch=0.9, p_patch=0.8, generator=generator)
        results = [augmentation(picture(), RECTANGLES, obj_to_img=OBJ_TO_IMG) for _ in range(4)]
        same(torch.get_rng_state(), before)
        return torch.stack(results)

    same(run(1, seed=7), run(2, seed=7))
    assert not torch.equal(run(1, seed=7), run(1, seed=8))
    assert len(run(1, seed=7).flatten(1).sum(1).unique()) > 1


@pytest.mark.parametrize("options", [{"p": 1.0}, {"p": 0.5}, {"p": 1.0, "p_patch": 0.5}, {"p": 0.7, "p_batch": 0.7}])
def test_a_replay_gives_the_same_bits(options):
    for seed in range(5):
        torch.manual_seed(seed)
        augmentation = kp.RandomPatchAffine(**EVERYTHING, sequential=True, **options)
        warped = augmentation(picture(5), RECTANGLES, obj_to_img=torch.tensor([4, 1, 4]))
        kept = augmentation._params
        augmentation(picture(2), SQUARES, obj_to_img=OBJ_TO_IMG)
        same(augmentation(picture(5), params=copy.deepcopy(kept)), warped)
        other = kp.RandomPatchAffine(0.0, sequential=True, **options).bind(RECTANGLES + 1, THETA)
        same(other(picture(5), params=kept), warped)


def test_a_kept_draw_survives_later_edits_of_what_was_passed():
    boxes, theta, obj_to_img = RECTANGLES.clone(), THETA.clone(), OBJ_TO_IMG.clone()
    augmentation = kp.PatchAffine()
    warped = augmentation(picture(), boxes, theta, obj_to_img)
    for passed in (boxes.add_(2), theta.mul_(2), obj_to_img.zero_()):
        del passed
        same(augmentation(picture(), params=augmentation._params), warped)


def test_a_draw_that_is_passed_stays_as_it_is():
    """Kornia keeps a dict that is passed, and here it would hold the first draw for all calls to come."""
    objects = {"boxes": RECTANGLES, "obj_to_img": OBJ_TO_IMG}
    passed, augmentation = dict(objects), kp.RandomPatchAffine(40.0, p=1.0)
    results = [augmentation(picture(), params=passed) for _ in range(4)]
    assert passed.keys() == objects.keys()
    assert len(torch.stack(results).flatten(1).sum(1).unique()) == 4
    same(augmentation(picture(), params=augmentation._params), results[-1])


def test_a_dict_in_second_place_is_the_draw_as_in_kornia():
    for augmentation in (
        kp.RandomPatchAffine(40.0, p=1.0).bind(RECTANGLES, obj_to_img=OBJ_TO_IMG),
        K.RandomAffine(9.0),
    ):
        warped = augmentation(picture())
        same(augmentation(picture(), augmentation._params), warped)


def test_a_draw_of_other_images_is_an_error():
    augmentation = random_patch_affine()
    augmentation(picture())
    with pytest.raises(ValueError, match=r"^params: expected a draw of 3 images, got 2"):
        augmentation(picture(3), params=augmentation._params)


def test_a_hook_called_by_hand_completes_the_draw_or_says_what_is_missing():
    augmentation = random_patch_affine(p=0.9999)
    params = augmentation.forward_parameters(picture().shape)
    warped = augmentation.apply_transform(picture(), params, augmentation.flags)
    near(warped, turned(), 1e-5)
    augmentation.bind()
    for name in ("apply_transform", "apply_transform_mask"):
        with pytest.raises(ValueError, match=r"RandomPatchAffine has no boxes.*bind\(boxes="):
            getattr(augmentation, name)(picture(), params, augmentation.flags)


def test_the_box_frame_of_one_call_is_that_of_the_paint_and_of_the_draw():
    """As if it were an option of the constructor; in the other frame a drawn turn would not be one in pixels."""
    results = []
    for options, call in (({}, {"align_corners": True}), ({"align_corners": True}, {}), ({}, {})):
        torch.manual_seed(4)
        augmentation = kp.RandomPatchAffine(**EVERYTHING, p=1.0, **options)
        results.append(augmentation(picture(), RECTANGLES, obj_to_img=OBJ_TO_IMG, **call))
    same(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    expected = kp.affine_patches(picture(), RECTANGLES, THETA, OBJ_TO_IMG, align_corners=True)
    same(kp.PatchAffine()(picture(), RECTANGLES, THETA, OBJ_TO_IMG, align_corners=True), expected)


# --- objects that are bound -------------------------------------------------------------------------------------------


OTHER_IMAGES = {"a larger batch": picture(3), "a smaller one": picture(1), "another size": picture()[..., 1:]}


@pytest.mark.parametrize("name", OTHER_IMAGES)
def test_bound_boxes_are_those_of_the_images_that_they_were_first_used_with(name):
    augmentation = random_patch_affine()
    augmentation(picture())
    augmentation(picture(seed=5))
    shape = tuple(OTHER_IMAGES[name].shape[i] for i in (0, 2, 3))
    with pytest.raises(ValueError, match=r"^boxes: expected images .*\(2, 26, 34\), got " + re.escape(str(shape))):
        augmentation(OTHER_IMAGES[name])
    augmentation.bind([SQUARES[:1]] * len(OTHER_IMAGES[name]))(OTHER_IMAGES[name])


def test_binding_ends_with_its_block():
    augmentation = kp.RandomPatchAffine(**QUARTER, p=1.0)
    with augmentation.bind(SQUARES, obj_to_img=OBJ_TO_IMG) as bound:
        assert bound is augmentation
        near(K.AugmentationSequential(augmentation)(picture()), turned(), 1e-5)
    with pytest.raises(ValueError, match="no boxes"):
        augmentation(picture())
    with pytest.raises(ZeroDivisionError), augmentation.bind(SQUARES, obj_to_img=OBJ_TO_IMG):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="no boxes"):
        augmentation(picture())


@pytest.mark.parametrize("name", ["p", "p_patch"])
def test_p_gates_images_and_p_patch_objects_about_as_often_as_asked(name):
    torch.manual_seed(3)
    count = 200
    images, boxes, index = picture(count, 1), SQUARES[:1].expand(count, 4), torch.arange(count)
    warped = kp.RandomPatchAffine(**QUARTER, **{"p": 1.0, name: 0.3})(images, boxes, obj_to_img=index)
    moved = (warped != images).flatten(1).any(1)  # one object an image
    assert 40 <= moved.sum() <= 80
    near(warped[moved], painted(images, boxes, index, quarter_turn)[moved], 1e-5)


# --- gradients --------------------------------------------------------------------------------------------------------


def gradients(function, *values):
    leaves = [value.detach().double().requires_grad_() for value in values]
    return torch.autograd.grad((function(*leaves) * picture(seed=1)).sum(), leaves)


@always
def test_gradients_reach_images_theta_and_boxes(p):
    augmentation = kp.PatchAffine(p=p)

    def loop(images, theta):
        return painted(images, RECTANGLES, OBJ_TO_IMG, *(grid_warp(row, mode="bilinear") for row in theta))

    found = gradients(lambda images, theta: augmentation(images, RECTANGLES, theta, OBJ_TO_IMG), picture(), THETA)
    for ours, torchs in zip(found, gradients(loop, picture(), THETA), strict=True):
        near(ours, torchs, 1e-9)
    (to_boxes,) = gradients(lambda boxes: augmentation(picture(), boxes, THETA, OBJ_TO_IMG), RECTANGLES + 0.3)
    same(to_boxes, gradients(lambda b: kp.affine_patches(picture(), b, THETA, OBJ_TO_IMG), RECTANGLES + 0.3)[0])
    assert to_boxes.all()


# --- copies, workers, data types --------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda augmentation: pickle.loads(pickle.dumps(augmentation))])
def test_a_copy_made_after_a_call_that_carries_a_graph_replays_it(copied):
    theta, boxes = 2 * THETA.clone().requires_grad_(), 1 * RECTANGLES.float().requires_grad_()
    per_image = [boxes[:2], boxes[2:]]
    kornias = Boxes(torch.stack([boxes[:2], boxes[1:]])[:, :, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(2, 2, 4, 2))
    for bound in ((), (boxes, theta, OBJ_TO_IMG), (per_image, theta), (tuple(per_image), theta), (kornias,)):
        augmentation = kp.PatchAffine().bind(*bound)
        warped = augmentation(picture(), boxes, theta, OBJ_TO_IMG)
        twin = copied(augmentation)
        same(twin(picture(), params=twin._params), warped.detach())
        assert augmentation._params["theta"].requires_grad
        if len(bound) > 1:
            same(twin(picture()), warped.detach())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda augmentation: pickle.loads(pickle.dumps(augmentation))])
def test_a_copy_draws_on_from_where_its_generator_was(copied):
    augmentation = kp.RandomPatchAffine(30.0, p=1.0, generator=torch.Generator().manual_seed(3))
    augmentation.bind(RECTANGLES, obj_to_img=OBJ_TO_IMG)(picture())
    twin = copied(augmentation)
    same(twin(picture()), augmentation(picture()))


def test_the_repr_shows_all_ranges_and_options():
    original = kp.RandomPatchAffine(30.0, (0.1, 0.2), (0.5, 2, 1, 3), 3.0, p=0.7, p_patch=0.4, padding_mode="border")
    text = repr(K.AugmentationSequential(original))
    assert repr(original) in text
    assert "RandomPatchAffine(degrees=[-30, 30], translate=[-0.1, 0.1], [-0.2, 0.2], scale=[0.5, 2], [1, 3], " in text
    for part in ("shear=[-3, 3]", "p=0.7", "p_patch=0.4", "resample=bilinear", "padding_mode=border"):
        assert part in text
    assert repr(kp.PatchAffine(patch_size=(4, 6))).startswith("PatchAffine(p=1.0, p_batch=1.0, p_patch=1.0")
    assert "patch_size=(4, 6)" in repr(kp.PatchAffine(patch_size=(4, 6)))


@pytest.mark.slow
def test_the_workers_of_a_data_loader_draw_by_their_own_seeds():
    data = WarpedPictures(kp.RandomPatchAffine(60.0, (0.2, 0.2), p=1.0))
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    loaded = list(loader)
    assert len({theta.sum().item() for _, theta, _ in loaded}) == 4
    for worker in (0, 1):
        torch.manual_seed(loaded[worker][2])
        for index in (worker, worker + 2):
            warped, theta, _ = loaded[index]
            same(warped, data[index][0])
            expected = painted(data.pictures[index][None], SQUARES[:2], OBJ_TO_IMG[:2], *map(grid_warp, theta))
            near(warped, expected, 1e-5)


@both
@always
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3), (torch.float64, 1e-6)])
def test_dtype_and_memory_format_come_out_as_they_came_in(make, dtype, tolerance, p):
    warped = make(p=p)(picture(dtype=dtype).to(memory_format=torch.channels_last))
    near(warped, turned().to(dtype), tolerance)
    assert warped.is_contiguous(memory_format=torch.channels_last)


@always
@pytest.mark.parametrize("patch_size", [None, (9, 12)])
def test_autocast_does_not_blunt_the_draw(p, patch_size):
    augmentation = kp.RandomPatchAffine(**DEGENERATE["all"], translate=(0.0, 0.0), p=p, patch_size=patch_size)
    augmentation.bind(RECTANGLES, obj_to_img=OBJ_TO_IMG)
    expected = augmentation(picture())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near(augmentation(picture()), expected, 1e-6)
        assert augmentation(picture().bfloat16()).dtype == torch.bfloat16


@both
@pytest.mark.parametrize("same_on_batch", TRUTH)
def test_no_objects_and_no_images_are_no_error(make, same_on_batch):
    none = torch.zeros(0, 4), torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)
    augmentation = make(p=0.5, p_patch=0.5, same_on_batch=same_on_batch)
    same(augmentation(picture(), *none), picture())
    assert augmentation(picture()[:0], *none).shape == (0, 3, HEIGHT, WIDTH)
    assert augmentation(picture()[:0], torch.zeros(0, 2, 4), none[1]).shape == (0, 3, HEIGHT, WIDTH)


# --- edges of use -----------------------------------------------------------------------------------------------------


def test_an_index_that_is_given_goes_before_the_bound_one():
    boxes, theta = torch.tensor([[2, 3, 20, 15]]), torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
    augmentation = kp.PatchAffine().bind(boxes, theta, torch.tensor([0]))
    warped = augmentation(picture(), obj_to_img=torch.tensor([1]))
    same(warped, kp.affine_patches(picture(), boxes, theta, torch.tensor([1])))


def test_other_boxes_with_a_kept_draw_leave_the_draw_alone():
    augmentation = kp.PatchAffine(p_patch=0.5)
    first, theta = torch.tensor([[2, 3, 20, 15]]), torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
    augmentation(picture(1), first, theta)
    kept = augmentation._params
    before = dict(kept)
    augmentation(picture(1), first + 1, theta, params=kept)
    assert kept.keys() == before.keys()
    assert all(kept[name] is before[name] for name in before)
    with pytest.raises(ValueError, match=r"patch_prob: expected one gate a box \(2\), got 1"):
        augmentation(picture(1), first.expand(2, 4), theta.expand(2, 6), params=kept)


def test_an_unknown_option_is_refused_and_a_known_one_holds_for_the_call():
    boxes, theta = torch.tensor([[2, 3, 20, 15]]), torch.tensor([[0.5, 0.3, 0.1, -0.3, 0.6, 0]])
    augmentation = kp.PatchAffine()
    for option in ("alpha", "paddng_mode"):
        with pytest.raises(TypeError, match=rf"PatchAffine has no option {option}; it has resample, padding_mode"):
            augmentation(picture(1), boxes, theta, **{option: "image"})
    warped = augmentation(picture(1), boxes, theta, resample="nearest", padding_mode="image")
    same(warped, kp.affine_patches(picture(1), boxes, theta, mode="nearest", padding_mode="image"))
    same(augmentation(picture(1), boxes, theta), kp.affine_patches(picture(1), boxes, theta))


@pytest.mark.parametrize("wide", ["images", "boxes", "theta", "points"])
def test_labels_of_another_dtype_move_all_the_same(wide):
    dtype = {name: torch.float64 if name == wide else torch.float32 for name in ("images", "boxes", "theta", "points")}
    boxes, points = torch.tensor([[[4.0, 4, 13, 11]]]), torch.tensor([[[5.0, 6], [30.0, 2]]])
    augmentation = kp.PatchAffine().bind(theta=torch.tensor([[-1.0, 0, 0, 0, -1, 0]]).to(dtype["theta"]))
    container = kp.PatchAugmentationSequential(augmentation, data_keys=["input", "bbox_xyxy", "keypoints"])
    _, moved_boxes, moved = container(
        picture(1).to(dtype["images"]), boxes.to(dtype["boxes"]), points.to(dtype["points"])
    )
    near(moved.float(), torch.tensor([[[12.0, 9], [30.0, 2]]]), 1e-5)
    near(moved_boxes.float(), boxes, 1e-5)


def test_a_singular_theta_is_named_by_its_object():
    boxes, theta = torch.tensor([[2, 3, 8, 8], [8, 8, 20, 15]]), torch.tensor([[1.0, 0, 0, 0, 1, 0], [0.0] * 6])
    augmentation = kp.PatchAffine().bind(boxes, theta, torch.tensor([0, 0]))
    container = K.AugmentationSequential(augmentation, data_keys=["input", "keypoints"])
    with pytest.raises(ValueError, match=r"theta: expected an invertible matrix.*in row 1"):
        container(picture(1), torch.tensor([[[3.0, 4], [1.0, 1], [30.0, 20], [4.0, 4]]]))


def test_a_box_that_leaves_the_image_leaves_the_labels():
    """Its window reaches out of the image; what is painted does not."""
    shift_left = torch.tensor([[1.0, 0, 1.2, 0, 1, 0]])  # 0.6 of the width
    augmentation = kp.PatchAffine().bind(theta=shift_left)
    container = kp.PatchAugmentationSequential(augmentation, data_keys=["input", "bbox_xyxy"])
    _, boxes = container(picture(1), torch.tensor([[[-10.0, 2, 8, 8]]]))
    same(boxes, torch.zeros(1, 1, 4))


def test_what_is_no_number_is_no_range():
    for bad in ("x", None, [1, "y"]):
        with pytest.raises(TypeError, match="degrees: expected a number or a sequence of numbers"):
            kp.RandomPatchAffine(bad)
    with pytest.raises(ValueError, match="p: expected a probability"):
        kp.RandomPatchAffine(1.0, p="a")
