"""The augmentations inside Kornia's containers and PatchAugmentationSequential: every data key follows its object."""

import copy
import pickle
from functools import partial

import kornia.augmentation as K
import pytest
import torch
from kornia.constants import DataKey
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from support.kornia_scenes import (
    ALL_KEYS,
    BOX_KEYS,
    HEIGHT,
    MASKS,
    OBJ_TO_IMG,
    PADDED,
    POINTS,
    QUARTER,
    SQUARES,
    TWO_EACH,
    WIDTH,
    XYXY,
    by_kornia,
    everything,
    grid_warp,
    half_open,
    near,
    painted,
    picture,
    quarter_turn,
    same,
    same_data,
    turned,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import kornia_patchaug as kp
from kornia_patchaug import labels
from kornia_patchaug.frames import painted_pixels

both = pytest.mark.parametrize("kind", [K.AugmentationSequential, kp.PatchAugmentationSequential])
each_box_key = pytest.mark.parametrize("key", BOX_KEYS)


BOXES, POINTS_TOO = ["input", "bbox_xyxy"], ["input", "bbox_xyxy", "keypoints"]

flip = partial(K.RandomHorizontalFlip, p=1.0)
upside_down = partial(K.RandomVerticalFlip, p=1.0)
jitter = partial(K.ColorJiggle, 0.2, 0.2, 0.2, 0.2, p=1.0)
pipeline = partial(kp.PatchAugmentationSequential, data_keys=None)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def turn(**options):
    return kp.RandomPatchAffine(**QUARTER, **{"p": 1.0, **options})


def counter_clockwise(crop):
    return torch.rot90(crop, 1, (-2, -1))


# --- the patch is taken where the object now is -----------------------------------------------------------------------

# The sizes make pixel centres land on pixel centres: 33 -> 66 and 25 -> 50 steps between the outermost ones.
BEFORE = {
    "nothing": list,
    "a flip": lambda: [flip()],
    "a crop": lambda: [K.RandomCrop((20, 26), p=1.0)],
    "a resize": lambda: [K.Resize((51, 67))],
    "all three": lambda: [flip(), K.RandomCrop((20, 26), p=1.0), K.Resize((39, 51))],
    "a jitter": lambda: [jitter()],
}
AFTER = {
    "nothing": list,
    "a flip": lambda: [upside_down()],
    "a resize and a filter": lambda: [K.Resize((13, 17)), K.RandomGaussianBlur((3, 3), (1.0, 1.0), p=1.0)],
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("before", BEFORE)
def test_every_data_key_follows_its_object_wherever_it_now_is(before, after):
    torch.manual_seed(1)
    before, after, data = BEFORE[before](), AFTER[after](), everything()
    container = pipeline(*before, turn(), *after)
    actual = container(data)
    moved = by_kornia(before, data, container._params[: len(before)])
    same(moved["bbox_xyxy"], moved["bbox_xyxy"].round())
    same_data(actual, by_kornia(after, turned(moved)))
    same_data(data, everything(), 0)


def test_data_keys_come_as_a_list_or_a_dict_in_any_order_with_other_keys_untouched():
    data, expected = everything(), turned(everything())
    as_list = pipeline(turn(), data_keys=ALL_KEYS)(*data.values())
    same_data(dict(zip(data, as_list, strict=True)), expected)
    container = pipeline(turn())
    same_data(container(dict(reversed(data.items()))), dict(reversed(expected.items())))
    near(container(data["bbox"], data["image"], data_keys=["bbox", "input"])[1], expected["image"])
    assert container({**data, "name": "untouched"})["name"] == "untouched"


@each_box_key
def test_rows_of_zeros_are_padding_and_stay_zero(key):
    boxes = BOX_KEYS[key](PADDED)
    boxes[1, 1] = 0
    container = pipeline(flip(), turn(), flip(), turn(), data_keys=["input", key])
    images, kept = container(picture(), boxes)
    expected = painted(picture(), SQUARES, OBJ_TO_IMG, counter_clockwise)  # between two flips
    near(images, painted(expected, SQUARES, OBJ_TO_IMG, quarter_turn), 2e-5)
    near(kept, boxes)


@each_box_key
@pytest.mark.parametrize("second", [1, 0])
def test_boxes_come_as_a_list_of_any_lengths(key, second):
    boxes = BOX_KEYS[key](PADDED)
    lists, count = [boxes[0], boxes[1, :second]], 2 + second
    images, kept = pipeline(turn(), data_keys=["input", key])(picture(), lists)
    near(images, painted(picture(), SQUARES[:count], OBJ_TO_IMG[:count], quarter_turn), 1e-5)
    for actual, expected in zip(kept, lists, strict=True):
        near(actual, expected)


def test_a_single_picture_needs_no_batch():
    data = {key: value[0] for key, value in everything().items()}
    expected = {key: value[0] for key, value in turned(everything()).items()}
    same_data(pipeline(turn(), keepdim=True)(data), expected)


def test_boxes_and_keypoints_objects_come_back_as_such():
    container = pipeline(turn(), data_keys=["input", "bbox", "keypoints"])
    boxes, points = Boxes.from_tensor(XYXY, mode="xyxy_plus"), Keypoints(POINTS.clone())
    images, moved_boxes, moved_points = container(picture(), boxes, points)
    near(images, turned(everything())["image"])
    near(moved_boxes.to_tensor("xyxy_plus"), XYXY)
    near(moved_points.to_tensor(), turned(everything())["keypoints"])
    same(boxes.data, BOX_KEYS["bbox"](XYXY))
    same(points.data, POINTS)


@pytest.mark.parametrize("p", [1.0, 0.5])
def test_masks_may_be_a_list_of_any_channels(p):
    masks = [picture(1, 1)[0], picture(1, 4)[0], picture(1, 2), picture(1, 1)[0, 0]]
    boxes, obj_to_img = SQUARES[[0, 1, 2, 2, 0]].float(), torch.tensor([0, 0, 1, 3, 3])
    lists = [*(boxes - torch.tensor([0, 0, 1, 1])).split([2, 1, 0, 2])]
    container = pipeline(turn(p=p), data_keys=["input", "mask", "bbox_xyxy"])
    gates = set()
    for seed in range(4):
        torch.manual_seed(seed)
        images, warped, _ = container(picture(4), masks, lists)
        gate = container._params[0].data["batch_prob"] > 0.5
        rows = gate[obj_to_img]
        near(images, painted(picture(4), boxes[rows], obj_to_img[rows], quarter_turn))
        for b, (actual, mask) in enumerate(zip(warped, masks, strict=True)):
            batch, here = mask.reshape(1, -1, HEIGHT, WIDTH), rows & (obj_to_img == b)
            near(actual.reshape(batch.shape), painted(batch, boxes[here], 0 * obj_to_img[here], quarter_turn))
        gates.add(tuple(gate.tolist()))
    assert len(gates) == (1 if p == 1 else 4)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize("resample", [None, "bilinear", "nearest"])
def test_masks_are_painted_with_nearest_unless_told_otherwise(resample, padding_mode, align_corners):
    theta = torch.tensor([[0.9317, 0.3071, 0.1319, -0.4129, 1.0737, 0.0211]])
    options = {"padding_mode": padding_mode, "align_corners": align_corners}
    soft, boxes = picture(channels=1, seed=3), half_open(XYXY)
    for extra in ({"align_corners": None}, {}):
        extra = {DataKey.MASK: {**extra, "resample": resample} if resample else extra}
        augmentation = kp.PatchAffine(**options).bind(theta=theta.expand(4, 6))
        container = pipeline(augmentation, data_keys=["input", "mask", "bbox_xyxy"], extra_args=extra)
        images, masks, _ = container(picture(), soft, XYXY)
        near(images, painted(picture(), boxes, TWO_EACH, grid_warp(theta, mode="bilinear", **options)), 1e-5)
        near(masks, painted(soft, boxes, TWO_EACH, grid_warp(theta, mode=resample or "nearest", **options)), 1e-5)


# --- where boxes go ---------------------------------------------------------------------------------------------------

# Theta, output to input in the frame of the box [8, 6, 20, 12): 12 x 6 pixels around (14, 9).
BOX_MOVES = {
    "nothing": ([1, 0, 0, 0, 1, 0], [8, 6, 20, 12]),
    "3 pixels right": ([1, 0, -0.5, 0, 1, 0], [11, 6, 20, 12]),
    "2 pixels up": ([1, 0, 0, 0, 1, 2 / 3], [8, 6, 20, 10]),
    "half the size": ([2, 0, 0, 0, 2, 0], [11, 7.5, 17, 10.5]),
    "twice the size": ([0.5, 0, 0, 0, 0.5, 0], [8, 6, 20, 12]),
    "a quarter turn": ([0, 0.5, 0, -2, 0, 0], [11, 6, 17, 12]),
    "a quarter turn and half the size": ([0, 1, 0, -4, 0, 0], [12.5, 6, 15.5, 12]),
    "a mirror": ([-1, 0, 0, 0, 1, 0], [8, 6, 20, 12]),
    "half the size and 3 pixels right": ([2, 0, -1, 0, 2, 0], [14, 7.5, 20, 10.5]),
    "12 pixels right": ([1, 0, -2, 0, 1, 0], None),
    "20 pixels down": ([1, 0, 0, 0, 1, -20 / 3], None),
}


@both
@each_box_key
@pytest.mark.parametrize("move", BOX_MOVES)
def test_a_box_becomes_the_enclosing_box_of_its_moved_corners(move, key, kind):
    theta, expected = BOX_MOVES[move]
    given, inclusive = torch.tensor([[8, 6, 20, 12]]), torch.tensor([0.0, 0, 1, 1])
    augmentation = kp.PatchAffine().bind(given, torch.tensor([theta]) * 1.0)
    _, box = kind(augmentation, data_keys=["input", key])(picture(1), BOX_KEYS[key](given[None] - inclusive))
    near(box, 0 * box if expected is None else BOX_KEYS[key](torch.tensor([[expected]]) - inclusive))


def test_an_object_that_moved_out_of_sight_is_touched_by_no_later_child():
    """Object 0 leaves its window under the first child; a flip and a turn later see object 1 alone."""
    away = torch.tensor([[1, 0, -2.0, 0, 1, 0], [1, 0, 0, 0, 1, 0]])
    boxes = torch.tensor([[[4.0, 3, 11, 10], [16, 9, 25, 18]]])
    children = kp.PatchAffine().bind(theta=away), flip(), turn(), flip()
    container = pipeline(*children, data_keys=POINTS_TOO)
    images, left, points = container(picture(1), boxes, torch.tensor([[[5.0, 4], [18, 9]]]))
    near(left, boxes * torch.tensor([[0.0], [1.0]]))
    expected = picture(1)
    expected[..., 3:11, 4:12] = 0
    near(images, painted(expected, half_open(boxes)[1:], TWO_EACH[:1], counter_clockwise), 1e-5)
    near(points, torch.tensor([[[13.0, 4], [16, 16]]]))  # 8 pixels right; and (u, v) -> (v, 9 - u)
    same(container(picture(1), [boxes[0]], POINTS[:1])[1][0][0], torch.zeros(4))


AWAY = torch.tensor([[[4.0, 3, 11, 10], [16, 9, 25, 18]]])  # the first child moves the first of them out of sight
HALF_TURN = torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
ONCE_AN_OBJECT = {
    "a theta that is bound": (lambda: kp.PatchAffine().bind(theta=HALF_TURN.expand(2, 6)), BOXES, ()),
    "classes that are bound": (
        lambda: kp.RandomPatchAffine([[9.0, 9.0], [180.0, 180.0]], p=1.0).bind(classes=torch.tensor([0, 1])),
        BOXES,
        (),
    ),
    "a class key": (
        lambda: kp.RandomPatchAffine([[9.0, 9.0], [180.0, 180.0]], p=1.0),
        [*BOXES, "class"],
        (torch.tensor([[0, 1]]),),
    ),
    "a second box key": (
        lambda: kp.RandomPatchAffine((180.0, 180.0), p=1.0),
        [*BOXES, "bbox_xyxy"],
        (AWAY + torch.tensor([0.0, 0, 10, 0]),),
    ),
}


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("name", ONCE_AN_OBJECT)
def test_an_object_out_of_sight_is_still_a_row_of_what_is_given_once_an_object(name, listed):
    """The second child turns what is left of both by half: object 1, in a square, ends as its own half turn."""
    make, keys, more = ONCE_AN_OBJECT[name]
    first = kp.PatchAffine().bind(theta=torch.tensor([[1, 0, -2.0, 0, 1, 0], [1, 0, 0, 0, 1, 0]]))
    boxes = [AWAY[0]] if listed else torch.cat([torch.zeros(1, 1, 4), AWAY], dim=1)
    more = [m if m.ndim == 2 else [m[0]] if listed else torch.cat([torch.zeros(1, 1, 4), m], dim=1) for m in more]
    if "class" in keys and not listed:
        more = [torch.tensor([[7, 0, 1]])]  # whatever padding has
    images, kept, *_ = kp.PatchAugmentationSequential(first, make(), data_keys=keys)(picture(1), boxes, *more)
    expected = picture(1)
    expected[..., 3:11, 4:12] = 0
    near(images, painted(expected, half_open(AWAY)[1:], TWO_EACH[:1], lambda crop: crop.flip(-1, -2)), 1e-4)
    near(kept[0][-2:], AWAY[0] * torch.tensor([[0.0], [1.0]]))


def test_a_bound_object_out_of_sight_is_still_a_row_in_a_plain_container():
    first = kp.PatchAffine().bind(half_open(AWAY), torch.tensor([[1, 0, -2.0, 0, 1, 0], [1, 0, 0, 0, 1, 0]]))
    second = kp.PatchAffine().bind(half_open(AWAY), HALF_TURN.expand(2, 6))
    _, kept = K.AugmentationSequential(first, second, data_keys=BOXES)(picture(1), AWAY)
    near(kept, AWAY * torch.tensor([[0.0], [1.0]]))


def test_a_label_is_one_pixel_at_least():
    """Of 12 x 6 pixels around (14, 9), a 24th: half a pixel across; Kornia's boxes hold their last pixel."""
    augmentation = kp.PatchAffine().bind(theta=torch.tensor([[24.0, 0, 0, 0, 2.0, 0]]))
    moved = pipeline(augmentation, data_keys=BOXES)(picture(1), torch.tensor([[[8.0, 6, 19, 11]]]))[1]
    near(moved, torch.tensor([[[13.75, 7.5, 13.75, 9.5]]]))


REACHING_OUT = torch.tensor([[[-3.0, 3, 12, 12.3], [20.1, 5, 40, 30]]])


@both
@pytest.mark.parametrize("p_patch", [0.0, 1.0])
def test_the_identity_keeps_the_bits_of_labels_wherever_they_are(p_patch, kind):
    """As an object that is gated off does."""
    augmentation = kp.RandomPatchAffine(0.0, p=1.0, p_patch=p_patch).bind(half_open_rows(REACHING_OUT))
    points = 12 * torch.rand(1, 3000, 2) - 3
    _, boxes, moved = kind(augmentation, data_keys=POINTS_TOO)(picture(1), REACHING_OUT, points)
    same(boxes, REACHING_OUT)
    same(moved, points)


def test_labels_have_a_gradient_at_the_identity():
    """Where a network starts: the box [9, 17) is 8 wide, so that a shift b of theta moves its content by -4 b."""
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0]], requires_grad=True)
    boxes = torch.tensor([[[9.0, 7, 16, 14]]], requires_grad=True)
    points = torch.tensor([[[12.0, 10.0]]], requires_grad=True)
    _, moved, goals = pipeline(kp.PatchAffine().bind(theta=theta), data_keys=POINTS_TOO)(picture(1), boxes, points)
    shift = torch.tensor([[0, 0, -4.0, 0, 0, 0]])
    for goal, source in ((moved[0, 0, 0], boxes), (goals[0, 0, 0], points)):
        to_theta, to_label = torch.autograd.grad(goal, [theta, source], retain_graph=True)
        near(to_theta[:, 2], shift[:, 2])
        near(to_label, torch.eye(source.shape[-1])[:1][None])


def test_at_the_identity_a_label_that_reaches_out_is_its_own_gradient():
    boxes = REACHING_OUT.clone().requires_grad_()
    theta = HALF_TURN.abs().expand(2, 6).requires_grad_()
    moved = pipeline(kp.PatchAffine().bind(theta=theta), data_keys=BOXES)(picture(1), boxes)[1]
    near(torch.autograd.grad(moved.sum(), boxes)[0], torch.ones(1, 2, 4))


PAINTED = [  # of an image 10 high and 12 wide: a box, first pixels, and one past the last
    ([2, 3, 5, 9], [2, 3], [5, 9]),
    ([2.5, 3.1, 5.5, 8.9], [2, 3], [6, 9]),
    ([-3, -2.5, 4, 5], [0, 0], [4, 5]),
    ([8, 7, 20.5, 30], [8, 7], [12, 10]),
    ([2.5, 3, 2.5, 9], [2, 3], [2, 3]),  # no width
    ([2, 3.5, 5, 3.5], [2, 3], [2, 3]),  # no height
]


@pytest.mark.parametrize(("box", "first", "stop"), PAINTED)
def test_the_whole_pixels_of_a_box_within_its_image_are_painted(box, first, stop):
    found = painted_pixels(torch.tensor([box]) * 1.0, 10, 12)
    assert found.tolist() == [[*first, *stop]]
    images = torch.rand(1, 1, 10, 12)
    changed = kp.affine_patches(images, torch.tensor([box]) * 1.0, torch.tensor([[1.0, 0, 9, 0, 1, 9]])) != images
    expected = torch.zeros(10, 12, dtype=torch.bool)
    expected[first[1] : stop[1], first[0] : stop[0]] = True
    same(changed[0, 0], expected)


def half_open_rows(boxes):
    """Without rounding, which `half_open` has."""
    return boxes[0] + torch.tensor([0.0, 0, 1, 1])


def test_a_second_box_key_follows_the_objects_with_boxes_of_its_own():
    """Bodies are the objects; in theirs of 12 x 12, columns 1-4 and rows 0-2 become columns 9-11 and rows 1-4."""
    container = pipeline(turn(), data_keys=["input", "bbox_xyxy", "bbox_xyxy"])
    bodies, faces = torch.tensor([[[8.0, 6, 19, 17]]]), torch.tensor([[[9.0, 6, 12, 8]]])
    _, turned_bodies, turned_faces = container(picture(1), bodies, faces)
    near(turned_bodies, bodies)
    near(turned_faces, torch.tensor([[[17.0, 7, 19, 10]]]))


def test_box_keys_must_match_the_objects_and_the_images():
    container = pipeline(turn(), data_keys=["input", "bbox_xyxy", "bbox_xyxy"])
    with pytest.raises(ValueError, match=r"^bbox: expected one row an object.*4 objects.*got 3 rows"):
        container(picture(), XYXY, [XYXY[0], XYXY[1, :1]])
    for images in ([0], [0, 1, 1]):
        with pytest.raises(ValueError, match=rf"^boxes: expected boxes of 2 images.*got {len(images)}"):
            container(picture(), XYXY[images], XYXY[images])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_boxes_and_keypoints_of_any_dtype(dtype):
    container = pipeline(turn(), data_keys=POINTS_TOO)
    images, boxes, points = container(picture(), XYXY.to(dtype), POINTS.to(dtype))
    near(images, turned(everything())["image"])
    near(boxes, XYXY.to(dtype if dtype.is_floating_point else torch.float32))
    near(points.float(), turned(everything())["keypoints"])


# --- where keypoints go -----------------------------------------------------------------------------------------------

LOW, HIGH = [2, 3, 12, 13], [8, 7, 20, 19]  # 10 and 12 pixels wide; with order="rows" the second is on top
BOTH_LEVELS = torch.tensor([[LOW, HIGH]]) - torch.tensor([0.0, 0, 1, 1])
KEYPOINTS = {  # point, where it goes, where it goes if sequential
    "in the lower patch": ((4, 5), (9, 5), (9, 5)),
    "in both": ((10, 10), (16, 9), (4, 11)),
    "moved by the lower patch into the upper one": ((8, 4), (10, 9), (17, 9)),
    "in the upper patch": ((19, 18), (8, 18), (8, 18)),
    "in none": ((30, 2), (30, 2), (30, 2)),
    "between pixel centres": ((2.25, 3.5), (10.5, 3.25), (10.5, 3.25)),
    "on the outer half of the first pixel": ((1.5, 2.75), (11.25, 2.5), (11.25, 2.5)),
    "just before the first pixel": ((1.25, 5), (1.25, 5), (1.25, 5)),
    "just after the last pixel": ((11.5, 4), (11.5, 4), (11.5, 4)),
}


@both
@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("where", KEYPOINTS)
def test_a_keypoint_moves_with_the_topmost_patch(where, sequential, kind):
    point, *goals = (torch.tensor([[value]], dtype=torch.float32) for value in KEYPOINTS[where])
    augmentation = turn(sequential=sequential, order="rows").bind(torch.tensor([LOW, HIGH]))
    moved = kind(augmentation, data_keys=POINTS_TOO)(picture(1), BOTH_LEVELS, point)[2]
    near(moved, goals[sequential])


@pytest.mark.parametrize("sequential", [False, True])
def test_a_keypoint_goes_where_its_pixel_goes(sequential):
    """Where dots of a one-pixel picture are left to see, one of them is where the keypoint is."""
    container = pipeline(turn(sequential=sequential), data_keys=POINTS_TOO)
    points = torch.cartesian_prod(torch.arange(0.0, 22, 3), torch.arange(1.0, 21, 3))[:, None]
    dots = torch.zeros(len(points), 1, HEIGHT, WIDTH)
    for dot, (x, y) in zip(dots, points[:, 0].long().tolist(), strict=True):
        dot[0, y, x] = 1
    images, _, moved = container(dots, BOTH_LEVELS.expand(len(points), 2, 4), points)
    left = [(image[0] > 0.5).nonzero().flip(1) for image in images]
    assert sum(map(len, left)) > 40
    assert all(not len(dots) or (goal.round() == dots).all(1).any() for goal, dots in zip(moved, left, strict=True))


def test_a_keypoint_on_the_far_edge_of_what_is_painted_is_out_of_sight():
    """Thrown to x = 8, one past the last pixel of the first patch, where the second patch would have taken it on."""
    boxes, point = torch.tensor([[[2.0, 3, 7, 8], [8, 3, 15, 10]]]), torch.tensor([[[4.5, 4]]])  # half open: [2, 8)
    theta = torch.tensor([[1, 0, -1.0, 0, 1, 0], [-1, 0, 0, 0, -1, 0]])  # 3 to the right; half a turn
    container = pipeline(kp.PatchAffine(sequential=True, order="rows").bind(theta=theta), data_keys=POINTS_TOO)
    near(container(picture(1), boxes, point)[2], torch.tensor([[[7.5, 4]]]))


class Elements(TorchDispatchMode):
    """Counts the elements of all results of torch's functions, and of the largest."""

    def __init__(self):
        super().__init__()
        self.all = self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.all, self.most = self.all + sum(sizes), max([self.most, *sizes])
        return result


def test_keypoints_are_compared_with_the_objects_of_their_own_image_only():
    """Four times the images, four times the work, where all with all would be sixteen times."""
    work = []
    for count in (4, 16):
        corner = 40 * torch.rand(count, 30, 2)
        boxes = torch.cat([corner, corner + 12], dim=-1)
        points = (corner[:, :, None] + 12 * torch.rand(count, 30, 17, 2)).flatten(1, 2)
        container = pipeline(kp.RandomPatchAffine(20.0, p=1.0), data_keys=POINTS_TOO)
        with Elements() as elements:
            container(torch.rand(count, 1, 64, 64), boxes, points)
        work.append(elements.all)
    assert work[1] < 4.5 * work[0]


def test_pairs_of_keypoints_and_objects_are_compared_in_blocks(monkeypatch):
    """Of any size, with the same bits; images differ in their number of objects."""
    boxes = [40 * torch.rand(n, 2).repeat(1, 2) + torch.tensor([0, 0, 12, 9]) for n in (3, 0, 40, 3, 7)]
    points, results, largest = 50 * torch.rand(5, 60, 2), [], []
    for pairs in (1 << 19, 100, 1):
        monkeypatch.setattr(labels, "PAIRS_AT_ONCE", pairs)
        for sequential in (False, True):
            torch.manual_seed(0)
            container = pipeline(kp.RandomPatchAffine(90.0, p=1.0, sequential=sequential), data_keys=POINTS_TOO)
            with Elements() as elements:
                results.append(container(torch.rand(5, 1, 8, 8), boxes, points)[2])
            largest.append(elements.most)
    for i in range(2, 6):
        same(results[i], results[i % 2])
    assert largest[0] >= 60 * 40
    assert largest[2] < 60 * 40


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("make", [turn, flip])
def test_keypoints_of_another_number_of_images_are_an_error_as_in_kornias_steps(make, count):
    container = pipeline(make(), data_keys=POINTS_TOO)
    with pytest.raises(ValueError, match=r"(?i)batch size|^keypoints: expected points of 2 images.*got " + str(count)):
        container(picture(), XYXY, POINTS[:1].expand(count, -1, -1))


@pytest.mark.parametrize("sequential", [False, True])
def test_a_keypoint_may_leave_its_patch_and_then_stays(sequential):
    """The first patch throws it out of sight to where the second would have taken it on."""
    theta = torch.tensor([[1, 0, -4.0, 0, 1, 0], [-1, 0, 0, 0, -1, 0]])
    augmentation = kp.PatchAffine(sequential=sequential).bind(theta=theta)
    container = pipeline(augmentation, data_keys=POINTS_TOO)
    boxes, points = torch.tensor([[[2.0, 3, 7, 8], [12, 3, 23, 14]]]), torch.tensor([[[3.0, 4], [13, 4]]])
    near(container(picture(1), boxes, points)[2], torch.tensor([[[15.0, 4], [22, 13]]]))


def test_a_keypoint_that_no_patch_holds_comes_back_bit_for_bit():
    container = pipeline(turn(), data_keys=POINTS_TOO)
    points = 7 * torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0))
    same(container(picture(), XYXY, points)[2], points)


# --- gates ------------------------------------------------------------------------------------------------------------

HALF_TURNED = {"degrees": (90.0, 90.0), "scale": (0.5, 0.5)}  # changes boxes, too


@pytest.mark.parametrize("options", [{"p": 0.5}, {"p": 1.0, "p_batch": 0.5}])
def test_gated_images_come_back_bit_for_bit_with_their_labels(options):
    data = everything()
    data["keypoints"] = data["keypoints"] + 0.1
    container = pipeline(kp.RandomPatchAffine(**HALF_TURNED, **options))
    always = pipeline(kp.RandomPatchAffine(**HALF_TURNED, p=1.0))(data)
    gates = set()
    for seed in range(10):
        torch.manual_seed(seed)
        warped = container(data)
        gate = container._params[0].data["batch_prob"] > 0.5
        gates.add(tuple(gate.tolist()))
        for key in data:
            same(warped[key][~gate], data[key][~gate])
            near(warped[key][gate], always[key][gate])
            assert key == "label" or (warped[key] != data[key]).flatten(1).any(1).tolist() == gate.tolist()
    assert len(gates) == (2 if "p_batch" in options else 4)


def test_a_theta_that_moves_nothing_is_no_error_where_it_is_gated():
    """Labels cannot follow a singular theta; those of gated images need not."""
    container = pipeline(kp.PatchAffine(p=0.0).bind(theta=torch.zeros(4, 6)))
    same_data(container(everything()), everything(), 0)


def test_gated_objects_keep_their_boxes_and_do_not_move_keypoints():
    augmentation = kp.RandomPatchAffine(**HALF_TURNED, p=1.0, p_patch=0.5)
    container = pipeline(augmentation, data_keys=POINTS_TOO)
    for seed in range(8):
        torch.manual_seed(seed)
        _, boxes, points = container(picture(), XYXY, POINTS)
        gate = (container._params[0].data["patch_prob"][0] > 0.5).tolist()
        assert (boxes != XYXY).any(-1).flatten().tolist() == gate
        # In either image, one point is in the first square alone, one in both.
        moved = [[gate[i], gate[i] or gate[i + 1], False] for i in (0, 2)]
        assert (points != POINTS).any(-1).tolist() == moved


def test_same_on_batch_of_the_container_shares_one_draw():
    images, boxes = picture(1).repeat(5, 1, 1, 1), XYXY[:1].repeat(5, 1, 1)
    augmentation = kp.RandomPatchAffine(60.0, scale=(0.6, 1.2), p=0.7, p_patch=0.7)
    container = pipeline(augmentation, data_keys=BOXES, same_on_batch=True)
    changed = 0
    for seed in range(10):
        torch.manual_seed(seed)
        warped, moved = container(images, boxes)
        same(warped, warped[:1].expand_as(warped))
        same(moved, moved[:1].expand_as(moved))
        changed += not torch.equal(warped, images)
    assert 2 <= changed <= 8


# --- plain K.AugmentationSequential, and missing objects --------------------------------------------------------------

MIRRORED = torch.tensor([WIDTH, 0, WIDTH, 0]) + half_open(XYXY)[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1])
POSITIONS = {
    "alone": ([], []),
    "first": ([], [flip, jitter]),
    "last": ([jitter, flip], []),
    "between": ([flip], [upside_down]),
}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("through", ["bind", "nested", "params"])
def test_objects_may_be_bound_in_a_plain_container(position, through):
    """First, last and between other children; boxes are given as they are at that step."""
    before, after = ([make() for make in makers] for makers in POSITIONS[position])
    boxes = MIRRORED if before else half_open(XYXY)
    rows = torch.tensor([2, 0, 3, 1])  # in any order, but for those of one image
    objects = {"boxes": boxes[rows], "obj_to_img": TWO_EACH[rows]}
    augmentation = turn()
    child = K.ImageSequential(augmentation) if through == "nested" else augmentation
    container = K.AugmentationSequential(*before, child, *after, data_keys=None)
    params = container.forward_parameters(picture().shape)
    if through == "params":
        params[len(before)].data.update(objects)
    else:
        augmentation.bind(**objects)
    actual = container(everything(), params=params)
    moved = by_kornia(before, everything(), params[: len(before)])
    later = [
        item._replace(name=f"{type(step).__name__}_{i}")
        for i, (step, item) in enumerate(zip(after, params[len(before) + 1 :], strict=True))
    ]
    same_data(actual, by_kornia(after, turned(moved), later))


def test_boxes_that_an_earlier_step_moved_away_from_the_bound_ones_are_an_error():
    """Bound as they were before the flip of a picture 80 wide: [4, 31) is then [49, 76)."""
    boxes, images = torch.tensor([[[4.0, 5, 30, 40]]]), torch.rand(1, 1, 64, 80)
    augmentation = kp.RandomPatchAffine(25.0, p=0.5).bind(torch.tensor([[4, 5, 31, 41]]))
    container = K.AugmentationSequential(flip(), augmentation, data_keys=BOXES)
    for _ in range(4):  # whatever the gates draw
        with pytest.raises(ValueError, match=r"^boxes: .*\[49\.0, 5\.0, 76\.0, 41\.0\], got \[4, .* in row 0.*Patch"):
            container(images, boxes)
    augmentation.bind(torch.tensor([[49.3, 5, 76.2, 40.6]]))  # to rounding
    container(images, boxes)
    same(container(images, boxes, params=container._params)[0], container(images, boxes, params=container._params)[0])
    faces = K.AugmentationSequential(flip(), augmentation, data_keys=[*BOXES, "bbox_xyxy"])
    faces(images, boxes, boxes + torch.tensor([5.0, 5, -5, -5]))  # a second key has boxes of its own


def test_a_draw_that_is_written_by_hand_serves_images_and_labels_alike_or_is_refused():
    """A container hands each data key the dict that was passed, which stays as it is."""
    by_hand = {"boxes": half_open(XYXY), "obj_to_img": TWO_EACH, "forward_input_shape": torch.tensor([2, 3, 26, 34])}
    data = picture(), XYXY
    plain = K.AugmentationSequential(kp.RandomPatchAffine(**HALF_TURNED, p=1.0), data_keys=BOXES)
    steps = plain.forward_parameters(picture().shape)
    params = [steps[0]._replace(data={**steps[0].data, **by_hand})]
    images, boxes = plain(*data, params=params)
    near(boxes, pipeline(kp.RandomPatchAffine(**HALF_TURNED, p=1.0), data_keys=BOXES)(*data)[1])
    same(plain(*data, params=params)[0], images)
    params = [steps[0]._replace(data={**by_hand, "batch_prob": torch.ones(2)})]
    with pytest.raises(ValueError, match=r"^params: expected a draw of forward_parameters.*without its seed"):
        plain(*data, params=params)
    theta = HALF_TURN.expand(4, 6)
    params[0].data.update(theta=theta, patch_prob=torch.ones(4))  # nothing is left to draw
    near(plain(*data, params=params)[0], kp.affine_patches(picture(), half_open(XYXY), theta, TWO_EACH))


def test_missing_objects_are_an_error_in_any_container():
    data = {DataKey.INPUT: picture(), DataKey.BBOX_XYXY: XYXY, DataKey.KEYPOINTS: POINTS}
    for container in (
        K.AugmentationSequential(turn(), data_keys=BOXES),
        pipeline(flip(), turn(), data_keys=["input"]),
        pipeline(K.ImageSequential(turn()), data_keys=["input", "keypoints"]),
    ):
        with pytest.raises(ValueError, match=r"PatchAugmentationSequential.*bind\(boxes=.*direct call"):
            container(*(data[key] for key in container.data_keys))


def test_boxes_of_the_data_come_before_bound_ones_and_theta_may_be_bound():
    half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
    augmentation = kp.PatchAffine().bind(SQUARES, half_turn.expand(4, 6), OBJ_TO_IMG)
    images, _ = pipeline(augmentation, data_keys=BOXES)(picture(), XYXY)
    near(images, painted(picture(), half_open(XYXY), TWO_EACH, lambda crop: crop.flip(-1, -2)), 1e-5)
    images = pipeline(turn().bind(SQUARES, obj_to_img=OBJ_TO_IMG), data_keys=["input"])(picture())
    near(images, painted(picture(), SQUARES, OBJ_TO_IMG, quarter_turn), 1e-5)


# --- nesting, random_apply, replay, inverse ---------------------------------------------------------------------------

NESTS = {
    "ImageSequential": lambda: [K.ImageSequential(upside_down(), turn())],
    "AugmentationSequential": lambda: [K.AugmentationSequential(upside_down(), turn())],
    "its own kind": lambda: [pipeline(upside_down(), turn())],
    "three deep": lambda: [
        K.AugmentationSequential(K.ImageSequential(upside_down()), pipeline(K.ImageSequential(turn())))
    ],
    "side by side": lambda: [K.ImageSequential(upside_down()), K.ImageSequential(turn())],
}


@pytest.mark.parametrize("name", NESTS)
def test_nested_containers_see_the_objects_too(name):
    container = pipeline(flip(), *NESTS[name](), K.Resize((51, 67)))
    warped = container(everything())
    expected = turned(by_kornia([flip(), upside_down()], everything()))
    same_data(warped, by_kornia([K.Resize((51, 67))], expected))
    same_data(container(everything(), params=container._params), warped, 0)
    near(container.inverse(warped)["keypoints"], by_kornia([flip(), upside_down()], expected)["keypoints"])
    kornias = K.AugmentationSequential(flip(), *NESTS[name](), K.Resize((51, 67)))
    for module in kornias.modules():
        if isinstance(module, kp.RandomPatchAffine):
            module.bind(SQUARES, obj_to_img=OBJ_TO_IMG)
    kornias(picture())
    same(container.transform_matrix, kornias.transform_matrix)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("count", [True, 2, (1, 3), 6])
def test_random_apply_draws_children_in_any_order(count, nested):
    children = [flip(), turn(), upside_down()]
    if nested:
        inner = K.AugmentationSequential(*children, random_apply=count)
        container = pipeline(inner)
    else:
        container = pipeline(*children, random_apply=count)
    orders = set()
    for seed in range(5):
        torch.manual_seed(seed)
        warped, expected = container(everything()), everything()
        steps = [item.name for item in (container._params[0].data if nested else container._params)]
        for step in steps:
            child = children[int(step[-1])]
            expected = turned(expected) if isinstance(child, kp.RandomPatchAffine) else by_kornia([child], expected)
        same_data(warped, expected)
        same_data(container(everything(), params=container._params), warped, 0)
        orders.add(tuple(steps))
    assert len(orders) > 2


def rich():
    """All that is random at once."""
    inner = (
        K.RandomResizedCrop((20, 30), scale=(0.6, 1.0), p=1.0),
        kp.RandomPatchAffine(40.0, p=0.7, padding_mode="image"),
    )
    ranges = {"translate": (0.1, 0.1), "scale": (0.8, 1.2), "shear": (-10, 10, -5, 5)}
    return pipeline(
        K.RandomHorizontalFlip(p=0.5),
        kp.RandomPatchAffine(30.0, **ranges, p=0.8, p_patch=0.8, sequential=True),
        K.AugmentationSequential(*inner),
        jitter(),
        kp.RandomPatchAffine(20.0, p=1.0, p_batch=0.8, padding_mode="transparent"),
        data_keys=ALL_KEYS,
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_or_a_replay_gives_the_same_bits_for_all_data_or_for_some(seed):
    data = list(everything().values())
    torch.manual_seed(seed)
    container = rich()
    warped = container(*data)
    kept = copy.deepcopy(container._params)
    assert not torch.equal(container(*data)[0], warped[0])
    torch.manual_seed(seed)
    for again in (container(*data, params=kept), rich()(*data)):
        for actual, expected in zip(again, warped, strict=True):
            same(actual, expected)
    same(container(data[0], data[3] + 1, params=kept, data_keys=BOXES)[0], warped[0])  # objects are those of the draw
    for indices in ([0], [1], [3], [5], [0, 5], [3, 1], [5, 4]):
        again = container(*(data[i] for i in indices), params=kept, data_keys=[ALL_KEYS[i] for i in indices])
        for actual, i in zip([again] if len(indices) == 1 else again, indices, strict=True):
            same(actual, warped[i])


def test_inverse_leaves_patch_steps_applied_and_undoes_the_others():
    container = pipeline(flip(), turn(), upside_down())
    warped = container(everything())
    inverse = container.inverse(warped)
    same_data(inverse, by_kornia([flip(), upside_down()], warped))
    assert not torch.equal(inverse["image"], picture())


# --- gradients, copies, data types, nothing, Kornia's own -------------------------------------------------------------


@both
def test_gradients_reach_images_theta_and_boxes_through_the_container(kind):
    theta = torch.tensor([[0.9, 0.3, 0.1, -0.4, 1.1, 0.0], [1.2, -0.2, 0.0, 0.3, 0.8, -0.2]]).repeat(2, 1)

    def through_container(images, theta, boxes):
        if kind is K.AugmentationSequential:
            return kind(kp.PatchAffine().bind(kp.convert_boxes(boxes, "xyxy_plus", "xyxy"), theta))(images)
        return kind(kp.PatchAffine().bind(theta=theta), data_keys=BOXES)(images, boxes)[0]

    def function(images, theta, boxes):
        return kp.affine_patches(images, (boxes + torch.tensor([0, 0, 1, 1])).reshape(4, 4), theta, TWO_EACH)

    found = []
    for run in (through_container, function):
        leaves = [value.double().requires_grad_() for value in (picture(), theta, XYXY + 0.3)]
        found.append(torch.autograd.grad((run(*leaves) * picture(seed=1)).sum(), leaves))
    for actual, expected in zip(*found, strict=True):
        assert expected.any()
        near(actual, expected, 1e-9)


def test_gradients_reach_theta_and_boxes_through_labels():
    """Half the size around 12.5, as Kornia counts: what is 3 left of it ends at 12.5 - 3 / theta."""
    theta = torch.tensor([[2.0, 0, 0, 0, 2, 0]], requires_grad=True)
    boxes = torch.tensor([[[9.0, 7, 16, 14]]], requires_grad=True)
    augmentation = kp.PatchAffine().bind(theta=theta)
    container = pipeline(augmentation, data_keys=POINTS_TOO)
    _, moved, points = container(picture(1), boxes, torch.tensor([[[9.5, 10.5]]]))
    near(points.detach(), torch.tensor([[[11.0, 10.5]]]))
    near(torch.autograd.grad(points[0, 0, 0], theta, retain_graph=True)[0][0, 0], torch.tensor(3 / 4))
    near(moved.detach(), torch.tensor([[[11.0, 9, 14, 12]]]))
    near(torch.autograd.grad(moved[0, 0, 0], boxes)[0], torch.tensor([[[0.75, 0, 0.25, 0]]]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda container: pickle.loads(pickle.dumps(container))])
@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_copied_container_replays_and_draws_the_same(copied, learnable, nested):
    child = kp.RandomPatchAffine(30.0, p=1.0, learnable=learnable)
    child = K.AugmentationSequential(child) if nested else child
    container = pipeline(flip(), child, data_keys=BOXES)
    torch.manual_seed(0)
    before, warped, after = copied(container), container(picture(), XYXY), copied(container)
    for twin in (before, after):
        for params in (container._params, after._params):
            same(twin(picture(), XYXY, params=params)[0].detach(), warped[0].detach())
        torch.manual_seed(0)
        same(twin(picture(), XYXY)[0], warped[0])
        assert twin.state_dict().keys() == container.state_dict().keys()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3), (torch.float64, 1e-6)])
def test_dtype_and_memory_format_come_out_as_they_came_in(dtype, tolerance):
    data, expected = everything(), turned(everything())
    data["image"] = data["image"].to(dtype, memory_format=torch.channels_last)
    warped = pipeline(turn())(data)
    assert warped["image"].is_contiguous(memory_format=torch.channels_last)
    near(warped.pop("image"), expected.pop("image").to(dtype), tolerance)
    same_data(warped, expected)


@pytest.mark.parametrize("p", [1.0, 0.9999])
def test_autocast_moves_labels_as_far_as_without(p):
    data = everything()
    far = {"bbox": 900.0, "bbox_xyxy": 900.0, "bbox_xywh": torch.tensor([900.0, 900, 0, 0]), "keypoints": 900.0}
    data = {key: value + far.get(key, 0) for key, value in data.items()}
    container = pipeline(kp.RandomPatchAffine((30.0, 30.0), p=p))
    expected = container(data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same_data(container(data), expected)


@pytest.mark.parametrize("p", [1.0, 0.5])
@pytest.mark.parametrize("empty", [("bbox",), ("keypoints",), ("bbox", "keypoints")])
def test_no_boxes_no_keypoints_and_no_images_are_no_error(p, empty):
    for same_on_batch in (None, True):
        augmentation = turn(p=p, p_patch=p)
        container = pipeline(flip(), augmentation, same_on_batch=same_on_batch)
        none = {key: value[:, :0] if key.startswith(empty) else value for key, value in everything().items()}
        warped = container(none)
        assert {key: value.shape for key, value in warped.items()} == {key: value.shape for key, value in none.items()}
        if "bbox" in empty:
            same_data(warped, by_kornia([flip()], none), 0)
        none = {key: value[:0] for key, value in none.items()}
        same_data(container(none), none)
    lists = [XYXY[0, :0], XYXY[1, :0]]
    images, boxes = pipeline(turn(p=p), data_keys=BOXES)(picture(), lists)
    same(images, picture())
    assert [rows.shape for rows in boxes] == [(0, 4), (0, 4)]


CLIP = picture(6).reshape(2, 3, 3, HEIGHT, WIDTH)
KORNIAS = {
    "a transplantation": (lambda: K.RandomTransplantation(p=1.0), ["input", "mask"], (picture(), MASKS[:, 0].float())),
    "a mosaic": (lambda: K.RandomMosaic((20, 30), p=0.7), ["input", "bbox_xyxy"], (picture(), XYXY)),
    "a list of masks": (upside_down, ["input", "mask"], (picture(), [*MASKS.float()])),
    "a video": (
        lambda: K.VideoSequential(flip(), K.RandomAffine(20.0, p=1.0)),
        ["input", "bbox"],
        (CLIP, BOX_KEYS["bbox"](XYXY)[:, None].repeat(1, 3, 1, 1, 1)),
    ),
}


@pytest.mark.parametrize("name", KORNIAS)
def test_without_patch_steps_it_is_kornias_container(name):
    make, keys, data = KORNIAS[name]
    results = []
    for kind in (K.AugmentationSequential, kp.PatchAugmentationSequential):
        torch.manual_seed(0)
        results.append(kind(make(), data_keys=keys)(*data))
    for kornias, ours in zip(*results, strict=True):
        for one, other in zip(kornias, ours, strict=True):
            same(other, one)


STILL = picture(2, 1).repeat_interleave(3, dim=0).reshape(2, 3, 1, HEIGHT, WIDTH)  # clips of three equal frames
OF_CLIPS = {"boxes": half_open(XYXY), "obj_to_img": TWO_EACH}
IN_A_VIDEO = {
    "clips": OF_CLIPS,
    "clips, in any order": {"boxes": half_open(XYXY)[[0, 2, 1, 3]], "obj_to_img": TWO_EACH[[0, 2, 1, 3]]},
    "a list of clips": {"boxes": [half_open(XYXY)[:2], half_open(XYXY)[2:]]},
    "padded clips": {"boxes": half_open(XYXY).reshape(2, 2, 4)},
    "frames": {
        "boxes": half_open(XYXY).reshape(2, 1, 2, 4).expand(2, 3, 2, 4).reshape(12, 4),
        "obj_to_img": torch.arange(6).repeat_interleave(2),
    },
    "a list of frames": {"boxes": [half_open(XYXY)[:2]] * 3 + [half_open(XYXY)[2:]] * 3},
}


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("name", ["Kornia's RandomAffine", *IN_A_VIDEO])
def test_the_frames_of_a_clip_share_the_draw_of_each_object(name, channels_first):
    def run(seed, step):
        torch.manual_seed(seed)
        clips = STILL.transpose(1, 2) if channels_first else STILL
        warped = K.VideoSequential(step, data_format="BCTHW" if channels_first else "BTCHW")(clips)
        return warped.transpose(1, 2) if channels_first else warped

    for seed in range(4):
        step = K.RandomAffine(40.0, p=0.7)
        if name in IN_A_VIDEO:
            step = kp.RandomPatchAffine(40.0, p=0.8, p_patch=0.8).bind(**IN_A_VIDEO[name])
            clips = kp.RandomPatchAffine(40.0, p=0.8, p_patch=0.8).bind(**OF_CLIPS)
            near(run(seed, step), run(seed, clips), 1e-6)
        warped = run(seed, step)
        same(warped, warped[:, :1].expand_as(warped))
    assert not torch.equal(warped[0], warped[1])
    assert not torch.equal(warped, STILL)


def test_theta_and_classes_of_clips_serve_all_their_frames():
    theta = HALF_TURN * torch.tensor([[1.0], [-1.0], [-1.0], [1.0]])
    warps = [lambda crop: crop.flip(-1, -2), lambda crop: crop, lambda crop: crop, lambda crop: crop.flip(-1, -2)]
    expected = painted(STILL[:, 0], half_open(XYXY), TWO_EACH, *warps)[:, None].expand_as(STILL)
    near(K.VideoSequential(kp.PatchAffine().bind(**OF_CLIPS, theta=theta))(STILL), expected, 1e-5)
    per_class = kp.RandomPatchAffine([[0.0, 0.0], [180.0, 180.0]], p=1.0)
    per_class.bind(**OF_CLIPS, classes=torch.tensor([1, 0, 0, 1]))
    near(K.VideoSequential(per_class)(STILL), expected, 1e-4)


def test_objects_of_clips_that_do_not_say_whose_they_are_are_an_error():
    augmentation = turn().bind(half_open(XYXY), obj_to_img=TWO_EACH)
    with pytest.raises(ValueError, match=r"^obj_to_img: may number the 2 clips or the 4 frames\. Pass boxes as a list"):
        K.VideoSequential(augmentation)(CLIP[:, :2])
    augmentation.bind([half_open(XYXY)[:1]] * 5 + [half_open(XYXY)[:2]])
    with pytest.raises(ValueError, match=r"^boxes: expected as many in each frame .*got \[1, 1, 2\] in clip 1"):
        K.VideoSequential(augmentation)(CLIP)
    same(K.VideoSequential(turn(same_on_batch=True).bind([XYXY[0, :0]] * 2))(CLIP), CLIP)


PIECES = {
    "alone": lambda child: K.PatchSequential(child, patchwise_apply=False),
    "piece by piece": lambda child: K.PatchSequential(*[child] * 4, grid_size=(2, 2)),
    "nested": lambda child: K.PatchSequential(K.ImageSequential(child), patchwise_apply=False),
    "in Kornia's container": lambda child: K.AugmentationSequential(K.PatchSequential(child, patchwise_apply=False)),
    "in ours": lambda child: kp.PatchAugmentationSequential(K.PatchSequential(child, patchwise_apply=False)),
}


@pytest.mark.filterwarnings("ignore:Geometric transformation detected in PatchSeqeuntial:UserWarning")
@pytest.mark.parametrize("name", PIECES)
def test_a_container_that_cuts_images_into_pieces_is_refused(name):
    augmentation = turn().bind(SQUARES, obj_to_img=OBJ_TO_IMG)
    with pytest.raises(ValueError, match=r"^RandomPatchAffine does not work in a PatchSequential"):
        PIECES[name](augmentation)(picture())
    augmentation(picture())


@both
def test_in_a_video_objects_are_bound_frame_by_frame(kind):
    augmentation = turn()
    container = kind(K.VideoSequential(augmentation))
    with pytest.raises(ValueError, match="no boxes"):
        container(CLIP)
    rows, index = half_open(XYXY).tile(3, 1), torch.arange(6).repeat_interleave(2)
    augmentation.bind(rows, obj_to_img=index)
    near(container(CLIP).reshape(6, 3, HEIGHT, WIDTH), painted(picture(6), rows, index, quarter_turn), 1e-5)
