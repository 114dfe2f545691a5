"""The augmentations inside Kornia's containers and PatchAugmentationSequential: every data key follows its object."""

import copy
import pickle

import kornia.augmentation as K
import pytest
import torch
from kornia.constants import DataKey
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from kornia_scenes import (
    HEIGHT,
    OBJ_TO_IMG,
    PADDED,
    POINTS,
    QUARTER,
    SQUARES,
    TURNED_POINTS,
    WIDTH,
    grid_warp,
    half_open,
    near,
    painted,
    picture,
    quarter_turn,
    same,
    turned_points,
)

import kornia_patchaug as kp

# Two squares an image, no padding, as each box key takes them.
XYXY = torch.tensor([[[9.0, 7, 16, 14], [14, 9, 23, 18]], [[10, 8, 21, 19], [12, 14, 17, 19]]])
XYWH = torch.cat([XYXY[..., :2], XYXY[..., 2:] - XYXY[..., :2] + 1], dim=-1)
CORNERS = XYXY[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(2, 2, 4, 2)
TWO_EACH = torch.tensor([0, 0, 1, 1])
MASKS = torch.randint(0, 5, (2, 1, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2))
ALL_KEYS = ["input", "mask", "bbox", "bbox_xyxy", "bbox_xywh", "keypoints", "class"]


def everything():
    """One value a data key."""
    values = picture(), MASKS.clone(), CORNERS.clone(), XYXY.clone(), XYWH.clone(), POINTS.clone(), torch.tensor([3, 8])
    return dict(zip(["image", "mask", "bbox", "bbox_xyxy", "bbox_xywh", "keypoints", "label"], values, strict=True))


def turn(**options):
    return kp.RandomPatchAffine(**QUARTER, **{"p": 1.0, **options})


def turned(data):
    """What a quarter turn of every object makes of all data, by slices: squares stay where they are."""
    boxes = half_open(data["bbox_xyxy"])
    output = dict(data)
    output["image"] = painted(data["image"], boxes, TWO_EACH, quarter_turn)
    output["mask"] = painted(data["mask"], boxes, TWO_EACH, quarter_turn)
    output["keypoints"] = turned_points(data["keypoints"], boxes, TWO_EACH)
    return output


def by_kornia(children, data, params=None):
    """Kornia's own container over the same data."""
    return K.AugmentationSequential(*children, data_keys=None)(data, params=params) if children else data


def assert_same_data(actual, expected, tolerance=1e-4):
    assert list(actual) == list(expected)
    for key in expected:
        near(actual[key], expected[key], tolerance)


def flip():
    return K.RandomHorizontalFlip(p=1.0)


def upside_down():
    return K.RandomVerticalFlip(p=1.0)


def jitter():
    return K.ColorJiggle(0.2, 0.2, 0.2, 0.2, p=1.0)


# --- PatchAugmentationSequential: the patch is taken where the object now is ---------------------------------------------

# The sizes make corner pixels land on whole pixels: 33 -> 66 and 25 -> 50 steps between them; after the crop 25 and 19.
GEOMETRY = {
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
@pytest.mark.parametrize("before", GEOMETRY)
def test_every_data_key_follows_its_object_wherever_it_now_is(before, after):
    torch.manual_seed(1)
    before, after, data = GEOMETRY[before](), AFTER[after](), everything()
    container = kp.PatchAugmentationSequential(*before, turn(), *after, data_keys=None)
    actual = container(data)
    moved = by_kornia(before, data, container._params[: len(before)])
    same(moved["bbox_xyxy"], moved["bbox_xyxy"].round())
    assert_same_data(actual, by_kornia(after, turned(moved)))
    for key, value in everything().items():
        same(data[key], value)


def test_data_keys_may_come_in_any_order_and_as_a_list():
    expected = list(turned(everything()).values())
    container = kp.PatchAugmentationSequential(turn(), data_keys=ALL_KEYS)
    for actual, value in zip(container(*everything().values()), expected, strict=True):
        near(actual, value)
    container = kp.PatchAugmentationSequential(turn(), data_keys=None)
    backwards = dict(reversed(everything().items()))
    assert_same_data(container(backwards), dict(reversed(turned(everything()).items())))
    images, boxes = container(*list(everything().values())[0:4:3], data_keys=["input", "bbox_xyxy"])
    near(images, expected[0])
    near(boxes, XYXY)
    kept = container({**everything(), "name": "untouched"})
    assert kept["name"] == "untouched"


@pytest.mark.parametrize("key", ["bbox", "bbox_xyxy", "bbox_xywh"])
def test_rows_of_zeros_are_padding_and_stay_zero(key):
    values = {"bbox": PADDED[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(2, 2, 4, 2), "bbox_xyxy": PADDED}
    values["bbox_xywh"] = torch.cat([PADDED[..., :2], PADDED[..., 2:] - PADDED[..., :2] + 1], -1)
    values["bbox_xywh"][1, 1] = 0
    container = kp.PatchAugmentationSequential(flip(), turn(), flip(), turn(), data_keys=["input", key])
    images, boxes = container(picture(), values[key])
    mirrored = torch.tensor([WIDTH, 0, WIDTH, 0]) - SQUARES[:, [2, 1, 0, 3]] * torch.tensor([1, -1, 1, -1])
    expected = painted(picture().flip(-1), mirrored, OBJ_TO_IMG, quarter_turn).flip(-1)
    near(images, painted(expected, SQUARES, OBJ_TO_IMG, quarter_turn), 2e-5)
    near(boxes, values[key])
    assert not boxes[1, 1].any()


@pytest.mark.parametrize("key", ["bbox", "bbox_xyxy", "bbox_xywh"])
@pytest.mark.parametrize("second", [1, 0])
def test_boxes_come_as_a_list_of_any_lengths(key, second):
    values = {"bbox": CORNERS, "bbox_xyxy": XYXY, "bbox_xywh": XYWH}[key]
    lists = [values[0], values[1, :second]]
    images, boxes = kp.PatchAugmentationSequential(turn(), upside_down(), data_keys=["input", key])(picture(), lists)
    count = 2 + second
    near(images, painted(picture(), SQUARES[:count], OBJ_TO_IMG[:count], quarter_turn).flip(-2), 1e-5)
    for actual, expected in zip(boxes, K.AugmentationSequential(upside_down(), data_keys=["input", key])(picture(), lists)[1]):
        near(actual, expected)


def test_a_single_picture_needs_no_batch():
    data = {key: value[0] for key, value in everything().items()}
    expected = {key: value[0] for key, value in turned(everything()).items()}
    assert_same_data(kp.PatchAugmentationSequential(turn(), data_keys=None, keepdim=True)(data), expected)


def test_boxes_and_keypoints_objects_come_back_as_such():
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox", "keypoints"])
    boxes, points = Boxes.from_tensor(XYXY, mode="xyxy_plus"), Keypoints(POINTS.clone())
    images, moved_boxes, moved_points = container(picture(), boxes, points)
    near(images, turned(everything())["image"])
    near(moved_boxes.to_tensor("xyxy_plus"), XYXY)
    near(moved_points.to_tensor(), turned(everything())["keypoints"])
    same(boxes.to_tensor("xyxy_plus"), XYXY)
    same(points.to_tensor(), POINTS)


@pytest.mark.parametrize("p", [1.0, 0.5])
def test_masks_may_be_a_list_of_any_channels(p):
    masks = [torch.rand(1, HEIGHT, WIDTH), torch.rand(4, HEIGHT, WIDTH), torch.rand(HEIGHT, WIDTH), torch.rand(1, 2, HEIGHT, WIDTH)]
    boxes, obj_to_img = SQUARES[[0, 1, 2, 0, 2]], torch.tensor([0, 0, 1, 3, 3])
    lists = [half_open_rows - torch.tensor([0, 0, 1, 1]) for half_open_rows in boxes.float().split([2, 1, 0, 2])]
    container = kp.PatchAugmentationSequential(turn(p=p), data_keys=["input", "mask", "bbox_xyxy"])
    applied = set()
    for seed in range(4):
        torch.manual_seed(seed)
        images, warped, _ = container(picture(4), masks, lists)
        gate = container._params[0].data["batch_prob"].tolist()
        rows = [n for n, b in enumerate(obj_to_img) if gate[b]]
        near(images, painted(picture(4), boxes[rows], obj_to_img[rows], quarter_turn))
        for b, (actual, mask) in enumerate(zip(warped, masks, strict=True)):
            here = [n for n in rows if obj_to_img[n] == b]
            batch = mask.reshape(1, -1, HEIGHT, WIDTH)
            near(actual.reshape(batch.shape), painted(batch, boxes[here], 0 * obj_to_img[here], quarter_turn))
        applied.add(tuple(gate))
    assert len(applied) == (1 if p == 1 else 4)


def test_one_mask_for_all_images_becomes_one_each():
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "mask", "bbox_xyxy"])
    for mask in (MASKS[0, 0], MASKS[:1]):
        near(container(picture(), mask, XYXY)[1], painted(MASKS[:1].repeat(2, 1, 1, 1), half_open(XYXY), TWO_EACH, quarter_turn))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_masks_are_painted_with_nearest_unless_told_otherwise(padding_mode, align_corners):
    theta = torch.tensor([[0.9317, 0.3071, 0.1319, -0.4129, 1.0737, 0.0211]]).expand(4, 6)
    options = {"padding_mode": padding_mode, "align_corners": align_corners}
    soft = picture(channels=1, seed=3)
    for mode, extra in (("nearest", None), ("bilinear", {DataKey.MASK: {"resample": "bilinear"}})):
        container = kp.PatchAugmentationSequential(
            kp.PatchAffine(**options).bind(theta=theta), data_keys=["input", "mask", "bbox_xyxy"], extra_args=extra
        )
        images, masks, _ = container(picture(), soft, XYXY)
        near(images, painted(picture(), half_open(XYXY), TWO_EACH, grid_warp(theta[0], mode="bilinear", **options)), 1e-5)
        near(masks, painted(soft, half_open(XYXY), TWO_EACH, grid_warp(theta[0], mode=mode, **options)), 1e-5)


# --- where boxes go -----------------------------------------------------------------------------------------------------

# Theta, output to input in the frame of the box [8, 6, 20, 12): 12 x 6 pixels around (14, 9).
BOX_MOVES = [
    ("nothing", [1, 0, 0, 0, 1, 0], [8, 6, 20, 12]),
    ("3 pixels right", [1, 0, -0.5, 0, 1, 0], [11, 6, 20, 12]),
    ("2 pixels up", [1, 0, 0, 0, 1, 2 / 3], [8, 6, 20, 10]),
    ("half the size", [2, 0, 0, 0, 2, 0], [11, 7.5, 17, 10.5]),
    ("twice the size", [0.5, 0, 0, 0, 0.5, 0], [8, 6, 20, 12]),
    ("a quarter turn", [0, 0.5, 0, -2, 0, 0], [11, 6, 17, 12]),
    ("a quarter turn, half the size", [0, 1, 0, -4, 0, 0], [12.5, 6, 15.5, 12]),
    ("a shear by a pixel a row", [1, -0.5, 0, 0, 1, 0], [8, 6, 20, 12]),
    ("a mirror", [-1, 0, 0, 0, 1, 0], [8, 6, 20, 12]),
    ("half the size and 3 pixels right", [2, 0, -1, 0, 2, 0], [14, 7.5, 20, 10.5]),
    ("12 pixels right", [1, 0, -2, 0, 1, 0], None),
    ("20 pixels down", [1, 0, 0, 0, 1, -20 / 3], None),
]


def box_key(key, box):
    x1, y1, x2, y2 = box
    last = [x1, y1, x2 - 1, y2 - 1]
    values = {"bbox_xyxy": last, "bbox_xywh": [x1, y1, x2 - x1, y2 - y1]}
    values["bbox"] = [[last[i], last[j]] for i, j in ((0, 1), (2, 1), (2, 3), (0, 3))]
    return torch.tensor([[values[key]]], dtype=torch.float32)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("key", ["bbox", "bbox_xyxy", "bbox_xywh"])
@pytest.mark.parametrize(("move", "theta", "expected"), BOX_MOVES)
def test_a_box_becomes_the_enclosing_box_of_its_moved_corners(move, theta, expected, key, plain):
    given = torch.tensor([8, 6, 20, 12])
    augmentation = kp.PatchAffine().bind(given[None] if plain else None, torch.tensor([theta]).float())
    container = (K.AugmentationSequential if plain else kp.PatchAugmentationSequential)(augmentation, data_keys=["input", key])
    _, box = container(picture(1), box_key(key, given.tolist()))
    near(box, 0 * box if expected is None else box_key(key, expected))


def test_an_object_that_moved_out_of_sight_is_touched_by_no_later_child():
    """Object 0 leaves its window under the first child; the second, and a flip between them, see object 1 alone."""
    away = torch.tensor([[1, 0, -2.0, 0, 1, 0], [1, 0, 0, 0, 1, 0]])
    boxes = torch.tensor([[[4.0, 3, 11, 10], [16, 9, 25, 18]]])
    container = kp.PatchAugmentationSequential(
        kp.PatchAffine().bind(theta=away), flip(), turn(), flip(), data_keys=["input", "bbox_xyxy", "keypoints"]
    )
    images, left, points = container(picture(1), boxes, torch.tensor([[[5.0, 4], [18, 9]]]))
    same(left[0, 0], torch.zeros(4))
    near(left[0, 1], boxes[0, 1])
    expected = picture(1)
    expected[..., 3:11, 4:12] = 0
    counter_clockwise = lambda crop: torch.rot90(crop, 1, (-2, -1))  # noqa: E731 - between two flips
    near(images, painted(expected, half_open(boxes)[1:], torch.tensor([0]), counter_clockwise), 1e-5)
    near(points, torch.tensor([[[13.0, 4], [16, 16]]]))  # 8 pixels right, beyond its patch; and (u, v) -> (v, 9 - u)
    as_list = container(picture(1), [boxes[0]], POINTS[:1])[1]
    same(as_list[0][0], torch.zeros(4))


def test_a_second_box_key_follows_the_objects_with_boxes_of_its_own():
    """Say bodies and faces: the objects are the first key's rows."""
    bodies, faces = torch.tensor([[[8.0, 6, 19, 17]]]), torch.tensor([[[9.0, 6, 12, 8]]])
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox_xyxy", "bbox_xyxy"])
    _, turned_bodies, turned_faces = container(picture(1), bodies, faces)
    near(turned_bodies, bodies)
    # Columns 1-4 and rows 0-2 of 12 x 12 become columns 9-11 and rows 1-4.
    near(turned_faces, torch.tensor([[[17.0, 7, 19, 10]]]))


def test_a_box_key_with_other_rows_than_the_objects_is_an_error():
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox_xyxy", "bbox_xyxy"])
    with pytest.raises(ValueError, match=r"^bbox: expected one row an object.*4 objects.*got 3 rows"):
        container(picture(), XYXY, [XYXY[0], XYXY[1, :1]])


@pytest.mark.parametrize("count", [1, 3])
def test_boxes_of_another_number_of_images_are_an_error(count):
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox_xyxy"])
    with pytest.raises(ValueError, match=rf"^boxes: expected boxes of 2 images.*got {count}"):
        container(picture(), XYXY[[0, 1, 1][:count]])


def test_boxes_keep_their_dtype():
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox_xyxy", "keypoints"])
    images, boxes, points = container(picture(), XYXY.double(), POINTS.double())
    near(boxes, XYXY.double())
    near(points, turned(everything())["keypoints"].double())
    assert images.dtype == torch.float32


# --- where keypoints go -------------------------------------------------------------------------------------------------

LOW, HIGH = [2, 3, 12, 13], [8, 7, 20, 19]  # 10 and 12 pixels wide; the second is on top
KEYPOINTS = [
    ("in the lower patch", (4, 5), (9, 5), (9, 5)),
    ("in both", (10, 10), (16, 9), (4, 11)),
    ("moved by the lower patch into the upper one", (8, 4), (10, 9), (17, 9)),
    ("in the upper patch", (19, 18), (8, 18), (8, 18)),
    ("in none", (30, 2), (30, 2), (30, 2)),
    ("between pixel centres", (2.25, 3.5), (10.5, 3.25), (10.5, 3.25)),
    ("on the outer half of the first pixel", (1.5, 2.75), (11.25, 2.5), (11.25, 2.5)),
    ("just before the first pixel", (1.25, 5), (1.25, 5), (1.25, 5)),
    ("just after the last pixel", (11.5, 4), (11.5, 4), (11.5, 4)),
]


def in_both_containers(augmentation, boxes):
    """The same objects as data and bound."""
    boxes = torch.tensor(boxes)
    yield kp.PatchAugmentationSequential(augmentation, data_keys=["input", "bbox_xyxy", "keypoints"]), boxes
    yield K.AugmentationSequential(augmentation.bind(boxes), data_keys=["input", "bbox_xyxy", "keypoints"]), boxes


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(("where", "point", "parallel", "chained"), KEYPOINTS)
def test_a_keypoint_moves_with_the_topmost_patch(where, point, parallel, chained, sequential):
    for container, boxes in in_both_containers(turn(sequential=sequential), [LOW, HIGH]):
        inclusive = boxes[None] - torch.tensor([0.0, 0, 1, 1])
        moved = container(picture(1), inclusive, torch.tensor([[point]], dtype=torch.float32))[2]
        near(moved, torch.tensor([[chained if sequential else parallel]], dtype=torch.float32))


@pytest.mark.parametrize("sequential", [False, True])
def test_a_keypoint_goes_where_its_pixel_goes(sequential):
    """Whatever stays visible of a one-pixel picture is where its keypoint is."""
    container = next(in_both_containers(turn(sequential=sequential), [LOW, HIGH]))[0]
    inclusive = torch.tensor([[LOW, HIGH]]) - torch.tensor([0.0, 0, 1, 1])
    visible = 0
    for x in range(0, 22, 2):
        for y in range(1, 21, 3):
            dot = torch.zeros(1, 1, HEIGHT, WIDTH)
            dot[..., y, x] = 1
            image, _, point = container(dot, inclusive, torch.tensor([[[x, y]]], dtype=torch.float32))
            rows = (image[0, 0] > 0.5).nonzero().flip(1)  # the topmost copy, where sequence leaves several: one of them
            visible += len(rows) > 0
            assert not len(rows) or (point[0].round() == rows).all(1).any()
    assert visible > 60


def test_a_keypoint_may_leave_and_nothing_else_touches_it():
    """The first patch throws it out of sight to where the second, sequential or not, would have taken it on."""
    away, half_turn = [1, 0, -4.0, 0, 1, 0], [-1.0, 0, 0, 0, -1, 0]
    for sequential in (False, True):
        augmentation = kp.PatchAffine(sequential=sequential).bind(theta=torch.tensor([away, half_turn]))
        container = kp.PatchAugmentationSequential(augmentation, data_keys=["input", "bbox_xyxy", "keypoints"])
        boxes = torch.tensor([[[2.0, 3, 7, 8], [12, 3, 23, 14]]])
        _, _, points = container(picture(1), boxes, torch.tensor([[[3.0, 4], [13, 4]]]))
        near(points, torch.tensor([[[15.0, 4], [22, 13]]]))


def test_a_keypoint_that_no_patch_holds_comes_back_bit_for_bit():
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox_xyxy", "keypoints"])
    points = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0)) * 7
    same(container(picture(), XYXY, points)[2], points)


def test_whole_number_keypoints_and_boxes_do():
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox_xyxy", "keypoints"])
    _, boxes, points = container(picture(), XYXY.long(), POINTS.long())
    near(boxes, XYXY)
    near(points.float(), turned(everything())["keypoints"])


# --- gates --------------------------------------------------------------------------------------------------------------

DOUBLE = {"degrees": (90.0, 90.0), "scale": (0.5, 0.5)}  # changes boxes, too


@pytest.mark.parametrize("options", [{"p": 0.5}, {"p": 1.0, "p_batch": 0.5}])
def test_gated_images_come_back_bit_for_bit_with_their_labels(options):
    data = everything()
    data["keypoints"] = data["keypoints"] + 0.1
    container = kp.PatchAugmentationSequential(kp.RandomPatchAffine(**DOUBLE, **options), data_keys=None)
    always = kp.PatchAugmentationSequential(kp.RandomPatchAffine(**DOUBLE, p=1.0), data_keys=None)(data)
    gates = set()
    for seed in range(8):
        torch.manual_seed(seed)
        warped = container(data)
        gate = container._params[0].data["batch_prob"] > 0.5
        gates.add(tuple(gate.tolist()))
        for key in data:
            same(warped[key][~gate], data[key][~gate])
            near(warped[key][gate], always[key][gate])
            assert key == "label" or (warped[key] != data[key]).flatten(1).any(1).tolist() == gate.tolist()
    assert gates == {(True, True), (False, False)} | ({(True, False), (False, True)} if "p_batch" not in options else set())


def test_gated_objects_keep_their_boxes_and_do_not_move_keypoints():
    for seed in range(8):
        torch.manual_seed(seed)
        container = kp.PatchAugmentationSequential(
            kp.RandomPatchAffine(**DOUBLE, p=1.0, p_patch=0.5), data_keys=["input", "bbox_xyxy", "keypoints"]
        )
        _, boxes, points = container(picture(), XYXY, POINTS)
        gate = container._params[0].data["patch_prob"][0] > 0.5
        moved = (boxes != XYXY).any(-1).flatten()
        assert moved.tolist() == gate.tolist()
        same(boxes.reshape(4, 4)[~gate], XYXY.reshape(4, 4)[~gate])
        # The point in both squares of image 0 moves if one is active, and the point of the first only with that one.
        assert (points != POINTS).any(-1)[0].tolist() == [bool(gate[0]), bool(gate[0] | gate[1]), False]


def test_same_on_batch_of_the_container_shares_one_draw():
    images, boxes = picture(1).repeat(5, 1, 1, 1), XYXY[:1].repeat(5, 1, 1)
    container = kp.PatchAugmentationSequential(
        kp.RandomPatchAffine(60.0, scale=(0.6, 1.2), p=0.7, p_patch=0.7), data_keys=["input", "bbox_xyxy"], same_on_batch=True
    )
    changed = 0
    for seed in range(10):
        torch.manual_seed(seed)
        warped, moved = container(images, boxes)
        same(warped, warped[:1].expand_as(warped))
        same(moved, moved[:1].expand_as(moved))
        changed += not torch.equal(warped, images)
    assert 2 <= changed <= 8


# --- plain K.AugmentationSequential ---------------------------------------------------------------------------------------

MIRRORED = torch.tensor([WIDTH, 0, WIDTH, 0]) + half_open(XYXY).long()[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1])
POSITIONS = {
    "alone": ([], []),
    "first": ([], [flip, jitter]),
    "last": ([jitter, flip], []),
    "between": ([flip], [upside_down]),
}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("through", ["bind", "nested", "params"])
def test_bound_objects_do_in_a_plain_container(position, through):
    """First, last and between other children; boxes are given as they are at that step."""
    before, after = ([make() for make in makers] for makers in POSITIONS[position])
    data = everything()
    boxes = MIRRORED if before else half_open(XYXY)
    shuffle = torch.tensor([2, 0, 3, 1])  # rows of one image keep their order, images may come in any
    augmentation = turn()
    child = K.ImageSequential(augmentation) if through == "nested" else augmentation
    container = K.AugmentationSequential(*before, child, *after, data_keys=None)
    params = None
    if through == "params":
        params = container.forward_parameters(picture().shape)
        params[len(before)].data.update(boxes=boxes[shuffle], obj_to_img=TWO_EACH[shuffle])
    else:
        augmentation.bind(boxes[shuffle], obj_to_img=TWO_EACH[shuffle])
    actual = container(data, params=params)
    moved = by_kornia(before, data, container._params[: len(before)])
    names = [f"{type(child).__name__}_{i}" for i, child in enumerate(after)]
    later = [type(p)(name, p.data) for name, p in zip(names, container._params[len(before) + 1 :], strict=True)]
    assert_same_data(actual, by_kornia(after, turned(moved), later))


def test_missing_objects_are_an_error_in_any_container():
    for container in (
        K.AugmentationSequential(turn()),
        K.AugmentationSequential(turn(), data_keys=["input", "bbox_xyxy"]),
        kp.PatchAugmentationSequential(flip(), turn()),
        kp.PatchAugmentationSequential(K.ImageSequential(turn()), data_keys=["input", "keypoints"]),
    ):
        data = {DataKey.INPUT: picture(), DataKey.BBOX_XYXY: XYXY, DataKey.KEYPOINTS: POINTS}
        with pytest.raises(ValueError, match=r"PatchAugmentationSequential.*bind\(boxes=.*direct call"):
            container(*(data[key] for key in container.data_keys))


def test_without_a_box_key_bound_objects_do():
    expected = painted(picture(), SQUARES, OBJ_TO_IMG, quarter_turn)
    near(kp.PatchAugmentationSequential(turn().bind(SQUARES, obj_to_img=OBJ_TO_IMG))(picture()), expected, 1e-5)


def test_boxes_of_the_data_come_before_bound_ones_and_theta_may_be_bound():
    augmentation = kp.PatchAffine().bind(SQUARES + 1, torch.tensor([[-1.0, 0, 0, 0, -1, 0]]).expand(4, 6), OBJ_TO_IMG)
    images, _ = kp.PatchAugmentationSequential(augmentation, data_keys=["input", "bbox_xyxy"])(picture(), XYXY)
    near(images, painted(picture(), half_open(XYXY), TWO_EACH, lambda crop: crop.flip(-1, -2)), 1e-5)


# --- nesting, random_apply, replay, inverse -----------------------------------------------------------------------------

NESTS = {
    "ImageSequential": lambda: [K.ImageSequential(upside_down(), turn())],
    "AugmentationSequential": lambda: [K.AugmentationSequential(upside_down(), turn())],
    "its own kind": lambda: [kp.PatchAugmentationSequential(upside_down(), turn(), data_keys=None)],
    "three deep": lambda: [
        K.AugmentationSequential(
            K.ImageSequential(upside_down()), kp.PatchAugmentationSequential(K.ImageSequential(turn()), data_keys=None)
        )
    ],
    "side by side": lambda: [K.ImageSequential(upside_down()), K.ImageSequential(turn())],
}


@pytest.mark.parametrize("name", NESTS)
def test_nested_containers_see_the_objects_too(name):
    container = kp.PatchAugmentationSequential(flip(), *NESTS[name](), K.Resize((51, 67)), data_keys=None)
    warped = container(everything())
    moved = by_kornia([flip(), upside_down()], everything())
    assert_same_data(warped, by_kornia([K.Resize((51, 67))], turned(moved)))
    assert_same_data(container(everything(), params=container._params), warped, 0)
    inverse = container.inverse(warped)
    near(inverse["keypoints"], by_kornia([flip(), upside_down()], turned(moved))["keypoints"])
    kornias = K.AugmentationSequential(flip(), *NESTS[name](), K.Resize((51, 67)))
    next(m for m in kornias.modules() if isinstance(m, kp.RandomPatchAffine)).bind([torch.zeros(0, 4)] * 2)
    kornias(picture())
    same(container.transform_matrix, kornias.transform_matrix)


def test_the_transform_matrix_of_a_patch_step_is_the_identity():
    for container in (kp.PatchAugmentationSequential, K.AugmentationSequential):
        container = container(turn(), data_keys=["input", "bbox_xyxy"])
        container.get_submodule("RandomPatchAffine_0").bind(half_open(XYXY), obj_to_img=TWO_EACH)
        container(picture(), XYXY)
        same(container.transform_matrix, torch.eye(3).expand(2, 3, 3))


@pytest.mark.parametrize("count", [True, 2, (1, 3), 6])
@pytest.mark.parametrize("nested", [False, True])
def test_random_apply_draws_children_in_any_order(count, nested):
    children = [flip(), turn(), upside_down()]
    if nested:
        inner = K.AugmentationSequential(*children, random_apply=count)
        container = kp.PatchAugmentationSequential(inner, data_keys=None)
    else:
        container = kp.PatchAugmentationSequential(*children, data_keys=None, random_apply=count)
    orders = set()
    for seed in range(6):
        torch.manual_seed(seed)
        warped, expected = container(everything()), everything()
        steps = [item.name for item in (container._params[0].data if nested else container._params)]
        for step in steps:
            child = children[int(step[-1])]
            expected = turned(expected) if isinstance(child, kp.RandomPatchAffine) else by_kornia([child], expected)
        assert_same_data(warped, expected)
        assert_same_data(container(everything(), params=container._params), warped, 0)
        orders.add(tuple(steps))
    assert len(orders) > 2


def rich(**options):
    """All that is random at once."""
    return kp.PatchAugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        kp.RandomPatchAffine(30.0, (0.1, 0.1), (0.8, 1.2), (-10, 10, -5, 5), p=0.8, p_patch=0.8, sequential=True),
        K.AugmentationSequential(
            K.RandomResizedCrop((20, 30), scale=(0.6, 1.0), p=1.0), kp.RandomPatchAffine(40.0, p=0.7, padding_mode="image")
        ),
        K.ColorJiggle(0.2, 0.2, 0.2, 0.2, p=0.7),
        kp.RandomPatchAffine(20.0, p=1.0, p_batch=0.8, padding_mode="transparent"),
        data_keys=ALL_KEYS,
        **options,
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_replay_gives_the_same_bits_for_all_data_or_for_some(seed):
    torch.manual_seed(seed)
    container, data = rich(), list(everything().values())
    warped = container(*data)
    kept = copy.deepcopy(container._params)
    container(*data)
    for actual, expected in zip(container(*data, params=kept), warped, strict=True):
        same(actual, expected)
    for indices in ([0], [1], [3], [5], [0, 5], [3, 1], [5, 4]):
        keys = [ALL_KEYS[i] for i in indices]
        again = container(*(data[i] for i in indices), params=kept, data_keys=keys)
        for actual, i in zip([again] if len(indices) == 1 else again, indices, strict=True):
            same(actual, warped[i])


def test_the_same_seed_gives_the_same_result():
    def run(seed):
        torch.manual_seed(seed)
        return rich()(*everything().values())

    for one, other in zip(run(1), run(1), strict=True):
        same(one, other)
    assert len({run(seed)[0].sum().item() for seed in range(4)}) == 4


def test_inverse_leaves_patch_steps_applied_and_undoes_the_others():
    container = kp.PatchAugmentationSequential(flip(), turn(), upside_down(), data_keys=None)
    warped = container(everything())
    assert_same_data(container.inverse(warped), by_kornia([flip(), upside_down()], warped))
    assert not torch.equal(container.inverse(warped)["image"], picture())


# --- gradients, copies, data types, nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
def test_gradients_reach_images_theta_and_boxes_through_the_container(plain):
    half = torch.tensor([[0.9, 0.3, 0.1, -0.4, 1.1, 0.0], [1.2, -0.2, 0.0, 0.3, 0.8, -0.2]], dtype=torch.float64)
    start = picture().double(), half.repeat(2, 1), XYXY.double() + 0.3

    def through_container(images, theta, boxes):
        if plain:
            augmentation = kp.PatchAffine().bind(kp.convert_boxes(boxes, "xyxy_plus", "xyxy"), theta)
            return K.AugmentationSequential(augmentation)(images)
        container = kp.PatchAugmentationSequential(
            kp.PatchAffine().bind(theta=theta), data_keys=["input", "bbox_xyxy", "keypoints"]
        )
        return container(images, boxes, POINTS)[0]

    def function(images, theta, boxes):
        flat = (boxes + torch.tensor([0.0, 0, 1, 1])).reshape(4, 4)
        return kp.affine_patches(images, flat, theta, TWO_EACH)

    found = []
    for run in (through_container, function):
        leaves = [value.clone().requires_grad_() for value in start]
        found.append(torch.autograd.grad((run(*leaves) * picture(seed=1)).sum(), leaves))
    for actual, expected in zip(*found, strict=True):
        assert expected.any()
        near(actual, expected, 1e-9)


def test_gradients_reach_theta_and_boxes_through_labels():
    """Half the size around a centre at 13: a point 3 left of it ends at 13 - 3 / theta; so do edges."""
    theta = torch.tensor([[2.0, 0, 0, 0, 2, 0]], requires_grad=True)
    boxes = torch.tensor([[[9.0, 7, 16, 14]]], requires_grad=True)
    container = kp.PatchAugmentationSequential(
        kp.PatchAffine().bind(theta=theta), data_keys=["input", "bbox_xyxy", "keypoints"]
    )
    _, moved, points = container(picture(1), boxes, torch.tensor([[[9.5, 10.5]]]))
    near(points.detach(), torch.tensor([[[11.0, 10.5]]]))  # centre 12.5 as Kornia counts
    near(torch.autograd.grad(points[0, 0, 0], theta, retain_graph=True)[0][0, 0], torch.tensor(3 / 4))
    near(moved.detach(), torch.tensor([[[11.0, 9, 14, 12]]]))
    near(torch.autograd.grad(moved[0, 0, 0], boxes)[0], torch.tensor([[[0.75, 0, 0.25, 0]]]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
@pytest.mark.parametrize("learnable", [False, True])
def test_a_copied_container_replays_and_draws_the_same(copied, learnable):
    torch.manual_seed(0)
    container = kp.PatchAugmentationSequential(
        flip(), kp.RandomPatchAffine(30.0, p=1.0, learnable=learnable), data_keys=["input", "bbox_xyxy"]
    )
    before = copied(container)
    warped = container(picture(), XYXY)
    after = copied(container)
    for twin in (before, after):
        for actual, expected in zip(twin(picture(), XYXY, params=container._params), warped, strict=True):
            same(actual, expected)
        torch.manual_seed(0)
        same(twin(picture(), XYXY)[0], warped[0])
    same(after(picture(), XYXY, params=copied(after)._params)[0], after(picture(), XYXY, params=after._params)[0])


def test_state_dict_of_a_container_holds_the_ranges():
    first, second = (
        kp.PatchAugmentationSequential(kp.RandomPatchAffine(d, p=1.0, learnable=True), data_keys=["input", "bbox_xyxy"])
        for d in (20.0, 70.0)
    )
    second.load_state_dict(first.state_dict())
    warped = []
    for container in (first, second):
        torch.manual_seed(0)
        warped.append(container(picture(), XYXY)[0])
    same(*warped)
    assert "RandomPatchAffine(degrees=[-20, 20]" in repr(second)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float64, 1e-6)])
def test_other_dtypes_come_out_as_they_came_in(dtype, tolerance):
    data, expected = everything(), turned(everything())
    for values in (data, expected):
        values["image"] = values["image"].to(dtype)
    warped = kp.PatchAugmentationSequential(turn(), data_keys=None)(data)
    near(warped.pop("image"), expected.pop("image"), tolerance)
    assert_same_data(warped, expected)


@pytest.mark.parametrize("p", [1.0, 0.999])
def test_autocast_moves_labels_as_far_as_without(p):
    data = everything()
    far = {"bbox": 900.0, "bbox_xyxy": 900.0, "bbox_xywh": torch.tensor([900.0, 900, 0, 0]), "keypoints": 900.0}
    data = {key: value + far.get(key, 0) for key, value in data.items()}
    container = kp.PatchAugmentationSequential(kp.RandomPatchAffine((30.0, 30.0), p=p), data_keys=None)
    expected = container(data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_data(container(data), expected)


def test_channels_last_stays_channels_last():
    images = picture().to(memory_format=torch.channels_last)
    warped, _ = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox_xyxy"])(images, XYXY)
    assert warped.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("p", [1.0, 0.5])
@pytest.mark.parametrize("same_on_batch", [None, True])
def test_no_boxes_and_no_images_are_no_error(p, same_on_batch):
    container = kp.PatchAugmentationSequential(
        flip(), turn(p=p, p_patch=p), data_keys=None, same_on_batch=same_on_batch
    )
    for empty in (("bbox",), ("bbox", "keypoints")):
        none = {key: value[:, :0] if key.startswith(empty) else value for key, value in everything().items()}
        assert_same_data(container(none), by_kornia([flip()], none), 0)
    none = {**everything(), "keypoints": POINTS[:, :0]}
    assert container(none)["keypoints"].shape == (2, 0, 2)
    none = {key: value[:0] for key, value in everything().items()}
    assert {key: value.shape for key, value in container(none).items()} == {k: v.shape for k, v in none.items()}
    lists = kp.PatchAugmentationSequential(turn(p=p), data_keys=["input", "bbox_xyxy"])
    images, boxes = lists(picture(), [XYXY[0, :0], XYXY[1, :0]])
    same(images, picture())
    assert [rows.shape for rows in boxes] == [(0, 4), (0, 4)]


def test_integer_images_are_rejected_with_kornias_error():
    container = kp.PatchAugmentationSequential(turn(), data_keys=["input", "bbox_xyxy"])
    with pytest.raises(TypeError, match="Expected input of"):
        container((picture() * 255).byte(), XYXY)


FRAMES = picture(6).reshape(2, 3, 3, HEIGHT, WIDTH), CORNERS[:, None].repeat(1, 3, 1, 1, 1)
KORNIAS = {
    "a transplantation": (lambda: K.RandomTransplantation(p=1.0), ["input", "mask"], (picture(), MASKS[:, 0].float())),
    "a mosaic": (lambda: K.RandomMosaic((20, 30), p=0.7), ["input", "bbox_xyxy"], (picture(), XYXY)),
    "boxes in a list": (flip, ["input", "bbox_xywh"], (picture(), [XYWH[0], XYWH[1, :1]])),
    "a mask list": (upside_down, ["input", "mask", "bbox"], (picture(), [*MASKS.float()], CORNERS)),
    "a video": (lambda: K.VideoSequential(flip(), K.RandomAffine(20.0, p=1.0)), ["input", "bbox"], FRAMES),
}


@pytest.mark.parametrize("name", KORNIAS)
def test_without_patch_steps_it_is_kornias_container(name):
    make, keys, data = KORNIAS[name]
    results = []
    for kind in (K.AugmentationSequential, kp.PatchAugmentationSequential):
        torch.manual_seed(0)
        results.append(kind(make(), data_keys=keys)(*data))
    for kornias, ours in zip(*results, strict=True):
        same(ours, kornias)


@pytest.mark.parametrize("kind", [K.AugmentationSequential, kp.PatchAugmentationSequential])
def test_in_a_video_objects_are_bound_frame_by_frame(kind):
    augmentation = turn()
    container = kind(K.VideoSequential(augmentation))
    with pytest.raises(ValueError, match="no boxes"):
        container(FRAMES[0])
    augmentation.bind(half_open(XYXY).tile(3, 1).reshape(6, 2, 4))
    warped = container(FRAMES[0])
    expected = painted(picture(6), half_open(XYXY).tile(3, 1), torch.arange(6).repeat_interleave(2), quarter_turn)
    near(warped.reshape(6, 3, HEIGHT, WIDTH), expected, 1e-5)
