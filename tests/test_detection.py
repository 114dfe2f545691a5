"""DetectionSequential: targets in, targets out that say what is seen, by pictures whose pixels say what they are."""

import collections
import copy
import enum
import math
import pickle
from functools import cache, partial

import kornia.augmentation as K
import pytest
import torch
from support.targets import Findings, case, judge, scene
from torch import Tensor

import kornia_patchaug as kp

flip = partial(K.RandomHorizontalFlip, p=1.0)
HEIGHT, WIDTH = 24, 32
PARTS, EACH = 8, 125  # pipelines


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def picture(height: int = HEIGHT, width: int = WIDTH, *, seed: int = 0, channels: int = 3) -> Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


def filled(boxes, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Masks ``(n, H, W)`` of boxes of whole pixels, as far as they are in the picture."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = True
    return masks


def everything(
    boxes=((2, 3, 10, 9), (12, 8, 30, 20)), height: int = HEIGHT, width: int = WIDTH, first: int = 1
) -> dict:
    """A target with each field that is known, and some that are not."""
    boxes, count = [list(box) for box in boxes], len(boxes)
    points = [[[x1 + 1.5, y1 + 2.5, 2.0], [x2 - 1.25, y2 - 0.75, 1.0], [0.0, 0.0, 0.0]] for x1, y1, x2, y2 in boxes]
    labels = torch.arange(first, first + count)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": labels,
        "masks": filled(boxes, height, width),
        "keypoints": torch.tensor(points, dtype=torch.float32).reshape(-1, 3, 3),
        "area": torch.tensor([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes], dtype=torch.float32),
        "iscrowd": labels % 2,
        "image_id": torch.tensor([5]),
        "orig_size": torch.tensor([480, 640]),
        "size": torch.tensor([height, width]),
        "names": [f"object {label}" for label in labels.tolist()],
        "colours": torch.rand(count, 3, generator=torch.Generator().manual_seed(first)),
        "file": "a name.jpg",
    }


def same(actual, expected) -> None:
    """Fail unless both are the same: types, dtypes, shapes, bits, and keys in one order."""
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        same(list(actual.values()), list(expected.values()))
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            same(one, other)
    elif isinstance(expected, Tensor):
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        with torch._C.DisableTorchFunctionSubclass():
            assert torch.equal(actual, expected)
    else:
        assert actual == expected


def near(actual: Tensor, expected, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=0, atol=tolerance)


def fixed(theta, **options) -> kp.PatchAffine:
    """Warps objects by thetas that are given."""
    return kp.PatchAffine(**options).bind(theta=torch.tensor(theta, dtype=torch.float32))


def paste_at(x: float, y: float, height: int = 8, width: int = 8, **options) -> kp.RandomPatchPaste:
    """Pastes an opaque white object of a bank, its centre at a point of each image."""
    bank = [torch.ones(3, height, width)], [everything([(0, 0, width, height)], height, width, first=9)]
    bank[1][0]["keypoints"][..., 2] = 2
    place = lambda noise, sizes, size, images: torch.tensor([float(x), float(y)]).expand(*noise.shape[:3], 2)  # noqa: E731
    return kp.RandomPatchPaste(1, donors=bank, place=place, max_cover=1.0, matte=None, p=1.0, **options)


# --- pipelines of random children: what pixels say --------------------------------------------------------------------


@pytest.fixture(autouse=True)
def one_thread():
    """Pictures are so small that threads wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def found(part: int) -> Findings:
    """What pipelines of a part do, by statement."""
    say = Findings()
    for seed in range(part * EACH, part * EACH + EACH):
        one = case(seed)
        given = copy.deepcopy((one.images, one.targets))
        torch.manual_seed(seed)
        try:
            images, targets = one.augment(one.images, one.targets)
        except Exception as error:  # and the next ones
            say("no errors", False, f"seed {seed}: {type(error).__name__}: {error}")
            continue
        say("no errors", True, "")
        judge(say, seed, one, images, targets)
        same([one.images, one.targets], list(given))
        if seed % 10 == 0:
            again = one.augment(one.images, one.targets, params=one.augment._params)
            same(list(again), [images, targets])
    return say


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_targets_say_what_pixels_show_after_random_pipelines(part):
    wrong = {statement: (len(about), about[:3]) for statement, about in found(part).wrong.items()}
    assert not wrong, "\n".join(f"{statement}: {what}" for statement, what in wrong.items())


@pytest.mark.slow
def test_pipelines_have_looked_at_each_statement_often():
    looked = collections.Counter()
    for part in range(PARTS):
        looked.update(found(part).looked)
    assert looked.pop("hidden points are hidden") > 100 and looked.pop("points out of sight are not there") > 100
    assert len(looked) == 19 and min(looked.values()) > 300, looked


WRONGS = {
    "masks show their own object": lambda t: t["masks"].copy_(t["masks"].roll(5, 2)),
    "masks hold pixels": lambda t: t["masks"][:, :, ::2].zero_(),
    "boxes hold masks": lambda t: t["boxes"][:, 2].sub_(0.5),
    "boxes are tight": lambda t: t["boxes"][:, 0].sub_(0.5).clamp_(min=0),
    "boxes hold pixels": lambda t: t["boxes"][:, 3].sub_(4),
    "upright boxes are tight": lambda t: t["boxes"][:, 3].sub_(2),
    "rows follow": lambda t: t["names"].reverse(),
    "areas are of masks": lambda t: t["area"].add_(1),
    "visible points show their dot": lambda t: t["keypoints"][..., 0].sub_((t["keypoints"][..., 2] > 0) * 2.0),
    "visible points are there": lambda t: t["keypoints"][..., :2].copy_((t["keypoints"][..., 2:] > 0) * 0.5),
    "points out of sight are not there": lambda t: t["keypoints"].zero_(),
    "hidden points are hidden": lambda t: t["keypoints"][..., 2].clamp_(max=1),
    "unlabelled points stay": lambda t: t["keypoints"][..., 2].clamp_(min=1),
}


@pytest.mark.parametrize("statement", WRONGS)
def test_what_is_wrong_in_targets_is_noticed(statement):
    """The comparison above, with one thing changed in what comes out."""
    one = case(0)
    given = scene(3, [(48, 64)], counts=[4])
    one.images, one.targets, one.places = given.images, given.targets, given.places
    one.augment, one.exact, one.upright, one.blur = kp.DetectionSequential(flip()), True, True, 0.1
    images, targets = one.augment(one.images, one.targets)
    say = Findings()
    judge(say, 0, one, images, targets)
    assert not say.wrong
    WRONGS[statement](targets[0])
    judge(say, 0, one, images, targets)
    assert statement in say.wrong


def test_steps_of_colour_leave_targets_to_the_other_steps():
    images = [picture(), picture(30, 30, seed=1)]
    targets = [everything(), everything([(3, 4, 12, 15)], 30, 30)]
    steps = [kp.RandomPatchAffine(30.0, p=1.0, fill=0.0), K.RandomAffine(20.0, p=1.0), kp.RandomPatchAffine(9.0, p=1.0)]
    colour = [K.ColorJiggle(0.2, 0.2, 0.2, 0.2, p=1.0), K.RandomGaussianBlur((3, 3), (1.0, 1.0), p=0.5)]
    augment = kp.DetectionSequential(steps[0], colour[0], steps[1], colour[1], steps[2])
    coloured, expected = augment(images, targets)
    plain = kp.DetectionSequential(*steps)
    pictures, found = plain(images, targets, params=[augment._params[i] for i in (0, 2, 4)])
    same(found, expected)
    assert not torch.equal(coloured[0], pictures[0])


# --- by hand: what covers, what leaves, what is cut -------------------------------------------------------------------


def test_a_flip_moves_each_field():
    image, target = picture(), everything()
    flipped, found = kp.DetectionSequential(flip())(image, target)
    same(flipped, image.flip(-1))
    assert found["boxes"].tolist() == [[22, 3, 30, 9], [2, 8, 20, 20]]
    same(found["masks"], target["masks"].flip(-1))
    expected = target["keypoints"].clone()
    expected[:, :2, 0] = WIDTH - expected[:, :2, 0]  # the third has no place
    near(found["keypoints"], expected)
    untouched = set(target) - {"boxes", "masks", "keypoints"}
    same(
        {key: found[key] for key in target if key in untouched},
        {key: target[key] for key in target if key in untouched},
    )


def test_a_resize_scales_boxes_points_and_areas():
    """To twice the size: edges of boxes and points are twice as far."""
    target = {key: value for key, value in everything().items() if key != "masks"}
    images, found = kp.DetectionSequential(K.Resize((2 * HEIGHT, 2 * WIDTH), align_corners=False))(picture(), target)
    assert images.shape == (3, 2 * HEIGHT, 2 * WIDTH)
    near(found["boxes"], target["boxes"] * 2)
    near(found["keypoints"][:, :2, :2], target["keypoints"][:, :2, :2] * 2)
    near(found["area"], target["area"] * 4, 1e-2)
    assert found["size"].tolist() == [2 * HEIGHT, 2 * WIDTH] and found["orig_size"].tolist() == [480, 640]


# The window of 12 x 16 in the middle begins at (8, 6): half of the first object is in it, none of the second.
CUT = [(4, 8, 12, 16), (0, 0, 6, 6), (10, 10, 14, 14)]


def test_what_a_crop_cuts_off_is_lost_in_each_field():
    target = everything(CUT)
    target["keypoints"][0] = torch.tensor([[5.0, 9, 2], [9.5, 10, 2], [3, 3, 0]])
    image, found = kp.DetectionSequential(K.CenterCrop((12, 16)))(picture(), target)
    same(image, picture()[:, 6:18, 8:24])
    assert found["boxes"].tolist() == [[0, 2, 4, 10], [2, 4, 6, 8]]
    same(found["masks"], target["masks"][[0, 2], 6:18, 8:24])
    assert found["keypoints"][0].tolist() == [[0, 0, 0], [1.5, 4, 2], [3, 3, 0]]
    assert found["labels"].tolist() == [1, 3] and found["names"] == ["object 1", "object 3"]
    assert found["area"].tolist() == [32, 16] and found["iscrowd"].tolist() == [1, 1]
    same(found["colours"], target["colours"][[0, 2]])
    assert found["size"].tolist() == [12, 16]


KEPT_OF_CUT = [
    ({"min_visible": 0.5}, [1, 3]),
    ({"min_visible": 0.51}, [3]),
    ({"min_size": 4}, [1, 3]),
    ({"min_size": 4.5}, []),
    ({"min_size": 0, "min_visible": 0.0}, [1, 3]),
    ({"min_visible": 1.0}, [3]),
]


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize(("options", "labels"), KEPT_OF_CUT)
def test_rows_that_are_too_small_or_too_little_seen_after_a_crop_are_left_out(options, labels, masks):
    target = everything(CUT)
    if not masks:
        del target["masks"]
    _, found = kp.DetectionSequential(K.CenterCrop((12, 16)), **options)(picture(), target)
    assert found["labels"].tolist() == labels
    for key in ("boxes", "masks", "keypoints", "area", "iscrowd", "names", "colours"):
        assert key not in found or len(found[key]) == len(labels)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize(("least", "stays"), [(0.0, True), (0.5, True), (0.51, False)])
def test_an_object_that_a_copy_half_covers_stays_if_half_is_enough(least, stays, masks):
    """The copy's left edge is in the middle of the object, and it is higher than that."""
    target = everything([(8, 10, 16, 16)])
    target["keypoints"][0] = torch.tensor([[9.0, 12, 2], [14.5, 12, 2], [14.5, 12, 1]])
    if not masks:
        del target["masks"]
    image, found = kp.DetectionSequential(paste_at(16, 13), min_visible=least)(picture() / 2, target)
    assert (image[:, 9:17, 12:20] == 1).all() and (image == 1).all(0).sum() == 64
    assert found["labels"].tolist() == [1, 9] if stays else [9]
    near(found["boxes"][-1], [12, 9, 20, 17])
    if stays:
        assert found["keypoints"][0, :, 2].tolist() == [2, 1, 1]
        near(found["keypoints"][0, :, :2], target["keypoints"][0, :, :2])
    if stays and masks:
        same(found["masks"][0], filled([(8, 10, 12, 16)])[0])


def test_area_goes_with_the_mask_that_a_copy_covers_in_part():
    _, found = kp.DetectionSequential(paste_at(16, 13))(picture(), everything([(8, 10, 16, 16)]))
    assert found["masks"].flatten(1).sum(1).tolist() == found["area"].tolist() == [24, 64]


@pytest.mark.parametrize("before", [[], [flip()]])
def test_boxes_are_tight_around_what_a_copy_leaves_of_masks(before):
    target = everything([(8, 10, 16, 16)])
    if before:
        target = kp.DetectionSequential(flip())(picture(), target)[1]
    _, found = kp.DetectionSequential(*before, paste_at(16, 13))(picture(), target)
    near(found["boxes"], [[8, 10, 12, 16], [12, 9, 20, 17]])
    _, loose = kp.DetectionSequential(*before, paste_at(16, 13), boxes_from_masks=False)(picture(), target)
    near(loose["boxes"], [[8, 10, 16, 16], [12, 9, 20, 17]])


def test_an_object_that_a_copy_covers_whole_is_left_out():
    target = everything([(12, 10, 18, 16), (0, 0, 4, 4)])
    _, found = kp.DetectionSequential(paste_at(16, 13))(picture(), target)
    assert found["labels"].tolist() == [2, 9] and found["masks"].flatten(1).any(1).all()


def test_shares_of_what_is_cut_off_and_of_what_is_covered_go_together():
    """A crop takes the left half away, then a copy covers half of what is left: a quarter is seen."""
    target = everything([(4, 8, 12, 16)])
    steps = [K.CenterCrop((12, 16)), paste_at(6, 6)]  # (0, 2, 4, 10) by then, and the copy from x = 2 on
    for least, labels in ((0.25, [1, 9]), (0.26, [9])):
        _, found = kp.DetectionSequential(*steps, min_visible=least)(picture(), target)
        assert found["labels"].tolist() == labels


def test_what_is_covered_and_then_cut_off_is_lost_once():
    """A copy covers the left half, then a crop takes that away: half is seen."""
    target = everything([(4, 8, 12, 16)])
    _, found = kp.DetectionSequential(paste_at(4, 12), K.CenterCrop((12, 16)), min_visible=0.45)(picture(), target)
    assert found["labels"].tolist() == [1]
    near(found["boxes"], [[0, 2, 4, 10]])


STILL = [1.0, 0, 0, 0, 1, 0]
# By the width of its box to the left, as the place that is read is to the right.
LEFT, UP = [1.0, 0, 2, 0, 1, 0], [1.0, 0, 0, 0, 1, 2]


def test_a_hidden_object_loses_its_points_and_pixels_and_keeps_what_is_seen():
    """The second object moves over the right half of the first, which stays, and leaves black behind."""
    boxes = [(4, 4, 12, 12), (16, 4, 24, 12)]
    image = torch.zeros(3, HEIGHT, WIDTH)
    image[0, 4:12, 4:12] = 1
    image[1, 4:12, 16:24] = 1
    target = everything(boxes)
    target["keypoints"][0] = torch.tensor([[5.0, 6, 2], [9.5, 6, 2], [0, 0, 0]])
    target["keypoints"][1] = torch.tensor([[17.0, 6, 2], [20, 6, 1], [20, 7, 0]])
    step = fixed([STILL, [1.0, 0, 2, 0, 1, 0]], clip=False, fill=0.0)  # 8 to the left: 8..16
    image, found = kp.DetectionSequential(step)(image, target)
    expected = torch.zeros(3, HEIGHT, WIDTH)
    expected[0, 4:12, 4:8] = 1
    expected[1, 4:12, 8:16] = 1
    near(image, expected)
    same(found["masks"], filled([(4, 4, 8, 12), (8, 4, 16, 12)]))
    near(found["keypoints"], [[[5, 6, 2], [9.5, 6, 1], [0, 0, 0]], [[9, 6, 2], [12, 6, 1], [20, 7, 0]]])
    near(found["boxes"][1], [8, 4, 16, 12])


def test_an_object_that_leaves_its_image_is_left_out_and_in_part_is_cut():
    boxes = [(4, 4, 12, 12), (16, 4, 24, 12)]
    target = everything(boxes)
    target["keypoints"][0] = torch.tensor([[5.0, 6, 2], [11.5, 6, 2], [7, 7, 0]])
    step = fixed([[1.0, 0, 2, 0, 1, 0], [1.0, 0, 0, 0, 1, 8]], clip=False, fill=0.0)  # to -4..4; above the picture
    _, found = kp.DetectionSequential(step)(picture(), target)
    near(found["boxes"], [[0, 4, 4, 12]])
    same(found["masks"], filled([(0, 4, 4, 12)]))
    near(found["keypoints"], [[[0, 0, 0], [3.5, 6, 2], [7, 7, 0]]])
    assert found["labels"].tolist() == [1] and found["area"].tolist() == [32]


@pytest.mark.parametrize("matte", [None, "box"])
def test_a_hole_takes_what_it_took_of_objects_below_from_their_labels(matte):
    """A mask that does not fill its box: what else is in the box goes along with it, and a hole stays."""
    below, above = filled([(2, 5, 12, 15)])[0], filled([(9, 8, 13, 12)])[0]
    below &= ~above
    image = torch.zeros(3, HEIGHT, WIDTH)
    image[0, below] = 1
    image[1, above] = 1
    target = {
        "boxes": torch.tensor([[2.0, 5, 12, 15], [6, 6, 16, 14]]),
        "masks": torch.stack([below, above]),
        "keypoints": torch.tensor([[[7.5, 7.5, 2], [3.5, 6.5, 2]], [[10.5, 9.5, 2], [11.5, 9.5, 2]]]),
    }
    step = fixed([STILL, [1.0, 0, -2.4, 0, 1, 0]], clip=False, fill=0.0, matte=matte, feather=0.0, order="rows")
    image, found = kp.DetectionSequential(step)(image, target)
    assert image[0, 7, 7] == 0 and image[0, 6, 3] == 1
    assert not (found["masks"][0] & (image[0] < 0.5)).any()
    assert found["keypoints"][0, :, 2].tolist() == [1, 2]


def test_points_without_labels_stay_where_they_are_whatever_moves():
    target = everything([(0, 0, 12, 12)])
    target["keypoints"][0] = torch.tensor([[0.0, 0, 0], [5, 5, 0], [6, 6, 2]])
    steps = [flip(), K.RandomRotation(90.0, p=1.0), kp.RandomPatchAffine(90.0, p=1.0), K.CenterCrop((22, 30))]
    for seed in range(5):
        torch.manual_seed(seed)
        _, found = kp.DetectionSequential(*steps, min_size=0)(picture(), target)
        if len(found["keypoints"]):
            same(found["keypoints"][0, :2], target["keypoints"][0, :2])


def test_points_of_two_numbers_move_and_have_no_flags():
    target = everything()
    target["keypoints"] = target["keypoints"][..., :2].contiguous()
    _, found = kp.DetectionSequential(flip())(picture(), target)
    near(found["keypoints"][..., 0], WIDTH - target["keypoints"][..., 0])
    assert found["keypoints"].shape == (2, 3, 2)


def test_boxes_that_reach_out_of_their_image_are_read_within_it_and_come_back_as_they_came_if_nothing_moves():
    target = {"boxes": torch.tensor([[-6.0, 4, 6, 30], [20, 2, 40.5, 9]]), "labels": torch.tensor([1, 2])}
    _, found = kp.DetectionSequential()(picture(), target)
    same(found, target)
    _, found = kp.DetectionSequential(K.ColorJiggle(0.1, p=1.0), kp.RandomPatchAffine(0.0, p=1.0))(picture(), target)
    same(found, target)
    _, found = kp.DetectionSequential(flip())(picture(), target)
    near(found["boxes"], [[26, 4, 32, 24], [0, 2, 12, 9]])


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("donors", ["batch", "same"])
@pytest.mark.parametrize("count", [1, 2])
def test_copies_go_into_pictures_of_few_objects(count, donors, masks):
    """Also of one: a picture alone, and each of a size of its own."""
    target = everything([(2, 3, 8, 9), (22, 14, 28, 20)][:count])
    target["keypoints"][..., 2] = 2
    other = everything([(2, 3, 8, 9)], 30, 30, first=5)
    if not masks:
        del target["masks"], other["masks"]
    augment = kp.DetectionSequential(kp.RandomPatchPaste(1, donors=donors, p=1.0))
    _, found = augment(picture(), target)
    assert len(found["boxes"]) == len(found["labels"]) == len(found["keypoints"]) == count + 1
    _, found = augment([picture(), picture(30, 30)], [target, other])
    assert [len(each["boxes"]) for each in found] == [count + 1, 2]
    plain = {"boxes": target["boxes"]}
    assert len(augment(picture(), plain)[1]["boxes"]) == count + 1


def test_copies_bring_all_that_is_known_of_their_donors():
    images = [picture(), picture(30, 30, seed=1)]
    targets = [everything([(2, 3, 10, 9)]), everything([(5, 5, 11, 12), (20, 20, 28, 27)], 30, 30, first=5)]
    augment = kp.DetectionSequential(kp.RandomPatchPaste(2, donors="others", p=1.0, resample="nearest"))
    _, found = augment(images, targets)
    known = {1: targets[0], 5: targets[1], 6: targets[1]}
    for target, was in zip(found, targets, strict=True):
        assert len(target["labels"]) == len(was["labels"]) + 2
        for row, label in enumerate(target["labels"].tolist()):
            at = known[label]["labels"].tolist().index(label)
            same(target["colours"][row], known[label]["colours"][at])
            assert target["names"][row] == f"object {label}" and target["iscrowd"][row] == label % 2


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("there", [[], [(2, 3, 10, 9)]])
def test_areas_of_copies_are_those_of_what_is_copied(there, masks):
    """Twice as wide and high, also where a picture had no objects."""
    targets = [everything(there), everything([(5, 5, 10, 9)], first=5)]
    if not masks:
        targets = [{key: value for key, value in target.items() if key != "masks"} for target in targets]
    paste = kp.RandomPatchPaste(1, donors="others", scale=(2.0, 2.0), p=1.0, resample="nearest", max_cover=0.0)
    _, found = kp.DetectionSequential(paste)([picture(), picture(seed=1)], targets)
    assert found[0]["labels"][-1] == 5 and abs(float(found[0]["area"][-1]) - 80) < (20 if masks else 0.1)


# --- bad targets: one clear error -------------------------------------------------------------------------------------


def change(key, value):
    """Put a value, or what a function makes of it, in the place of a field of the second target."""

    def changed(images, targets):
        targets[1][key] = value(targets[1][key]) if callable(value) else value
        return images, targets

    return changed


def without(key):
    def changed(images, targets):
        del targets[1][key]
        return images, targets

    return changed


def at(row, column, value):
    def put(values):
        values = values.clone()
        values[row, column] = value
        return values

    return put


def second(value):
    return lambda images, targets: ([images[0], value], targets)


BAD = {
    "boxes that cross": (change("boxes", at(1, 2, 3.0)), ValueError, r'targets\[1\]\["boxes"\].* in row 1'),
    "boxes upside down": (change("boxes", at(0, 3, 1.0)), ValueError, r'targets\[1\]\["boxes"\].* in row 0'),
    "NaN in boxes": (change("boxes", at(1, 0, torch.nan)), ValueError, r'targets\[1\]\["boxes"\].*finite.*row 1'),
    "endless boxes": (change("boxes", at(0, 2, torch.inf)), ValueError, r'targets\[1\]\["boxes"\].*finite.*row 0'),
    "boxes of five": (change("boxes", torch.zeros(2, 5)), ValueError, r'targets\[1\]\["boxes"\].*\(2, 5\)'),
    "one flat box": (change("boxes", torch.zeros(4)), ValueError, r'targets\[1\]\["boxes"\].*\(4,\)'),
    "no boxes, flat": (change("boxes", torch.zeros(0)), ValueError, r'targets\[1\]\["boxes"\].*torch\.zeros\(0, 4\)'),
    "boxes that are a list": (change("boxes", [[1, 2, 3, 4]]), TypeError, r'targets\[1\]\["boxes"\].*list'),
    "boxes of booleans": (change("boxes", torch.ones(2, 4).bool()), TypeError, r'targets\[1\]\["boxes"\].*bool'),
    "too few boxes": (change("boxes", lambda b: b[:1]), ValueError, r'targets\[1\]\["\w+"\].*1 rows'),
    "no boxes at all": (without("boxes"), ValueError, r"targets\[1\].*boxes.*'labels'"),
    "too few labels": (change("labels", torch.tensor([1])), ValueError, r'targets\[1\]\["labels"\].*2 rows'),
    "labels of floats": (change("labels", torch.ones(2)), TypeError, r'targets\[1\]\["labels"\].*integer.*float32'),
    "labels of booleans": (change("labels", torch.ones(2).bool()), TypeError, r'targets\[1\]\["labels"\].*bool'),
    "a list of labels": (change("labels", [1, 2]), TypeError, r'targets\[1\]\["labels"\].*list'),
    "labels in a column": (
        change("labels", torch.ones(2, 1).long()),
        ValueError,
        r'targets\[1\]\["labels"\].*\(2, 1\)',
    ),
    "too many masks": (change("masks", filled([(0, 0, 2, 2)] * 3)), ValueError, r'targets\[1\]\["masks"\].*2 rows'),
    "masks of another size": (
        change("masks", filled([(0, 0, 2, 2)] * 2, WIDTH, HEIGHT)),
        ValueError,
        r'targets\[1\]\["masks"\].*24, 32\).*\(2, 32, 24\)',
    ),
    "masks with channels": (
        change("masks", lambda m: m[:, None]),
        ValueError,
        r'targets\[1\]\["masks"\].*24, 32\).*\(2, 1, 24, 32\)',
    ),
    "one target without masks": (without("masks"), ValueError, r"targets\[1\].*masks"),
    "one target without keypoints": (without("keypoints"), ValueError, r"targets\[1\].*keypoints"),
    "too few keypoints": (change("keypoints", lambda p: p[:1]), ValueError, r'targets\[1\]\["keypoints"\].*2 rows'),
    "flat keypoints": (
        change("keypoints", lambda p: p.flatten(1)),
        ValueError,
        r'targets\[1\]\["keypoints"\].*\(2, 9\)',
    ),
    "another number of keypoints": (
        change("keypoints", lambda p: p[:, :2]),
        ValueError,
        r'targets\[1\]\["keypoints"\].*3.*2',
    ),
    "NaN in keypoints": (
        change("keypoints", at(1, 0, torch.nan)),
        ValueError,
        r'targets\[1\]\["keypoints"\].*finite.*row 1',
    ),
    "visibility of 5": (
        change("keypoints", lambda p: p.index_fill(2, torch.tensor(2), 5.0)),
        ValueError,
        r'targets\[1\]\["keypoints"\].*0, 1 or 2.*row 0',
    ),
    "too few areas": (change("area", torch.ones(1)), ValueError, r'targets\[1\]\["area"\].*2 rows'),
    "an area that is a number": (change("area", torch.tensor(3.0)), ValueError, r'targets\[1\]\["area"\].*2 rows'),
    "too many crowds": (change("iscrowd", torch.zeros(3)), ValueError, r'targets\[1\]\["iscrowd"\].*2 rows'),
    "too few targets": (lambda images, targets: (images, targets[:1]), ValueError, "targets: expected a list of 2"),
    "one target for two": (lambda images, targets: (images, targets[0]), ValueError, "targets: expected a list of 2"),
    "no targets": (lambda images, targets: (images, None), (TypeError, ValueError), "targets: expected a list of 2"),
    "targets that are none": (lambda i, t: (i, [t[0], None]), TypeError, r"targets\[1\]: expected a dict.*None"),
    "targets that are boxes": (lambda i, t: (i, [t[0], t[1]["boxes"]]), TypeError, r"targets\[1\]: expected a dict"),
    "whole numbers that are no bytes": (
        lambda images, targets: ([image.long() for image in images], targets),
        TypeError,
        r"images\[0\]: expected uint8 or a floating dtype.*int64",
    ),
    "another number of channels": (second(torch.rand(1, HEIGHT, WIDTH)), ValueError, r"images\[1\].*channels.*3.*1"),
    "another dtype": (second(torch.rand(3, HEIGHT, WIDTH).double()), ValueError, r"images\[1\].*float32.*float64"),
    "an image without channels": (
        second(torch.rand(HEIGHT, WIDTH)),
        ValueError,
        r"images\[1\].*\(C, H, W\).*\(24, 32\)",
    ),
    "an image without pixels": (second(torch.rand(3, 0, WIDTH)), ValueError, r"images\[1\].*\(3, 0, 32\)"),
    "an image that is an array": (second(picture().numpy()), TypeError, r"images\[1\].*ndarray"),
    "images of five sizes": (
        lambda i, t: (torch.stack(i)[None], t),
        (TypeError, ValueError),
        "images: .*5|images: .*1, 2",
    ),
    "images that are one word": (lambda images, targets: ("images", targets), TypeError, "images: expected a list"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_targets_raise_one_clear_error_and_nothing_of_the_caller_is_changed(name):
    broken, kind, match = BAD[name]
    images, targets = broken([picture(), picture(seed=1)], [everything(), everything(first=5)])
    before = copy.deepcopy((images, targets))
    augment = kp.DetectionSequential(flip(), kp.RandomPatchPaste(1, p=1.0), kp.RandomPatchAffine(20.0, p=1.0))
    with pytest.raises(kind, match=match) as error:
        augment(images, targets)
    assert error.value.__cause__ is None and error.value.__context__ is None
    for one, other in zip((images, targets), before, strict=True):
        if name not in ("an image that is an array", "NaN in boxes", "NaN in keypoints"):
            same(one, other)


@pytest.mark.parametrize("name", ["crossing", "NaN"])
def test_bad_boxes_of_one_image_are_named_as_those_of_a_list(name):
    target = everything()
    target["boxes"][1, 0] = 31.0 if name == "crossing" else torch.nan
    with pytest.raises(ValueError, match=r'targets\[0\]\["boxes"\].*row 1'):
        kp.DetectionSequential(flip())(picture(), target)


BAD_CHILDREN = {
    "a function": (lambda: [torch.flip], TypeError, "children: expected modules, got builtin"),
    "a class": (lambda: [K.RandomHorizontalFlip], TypeError, "children: expected modules, got type"),
    "a list": (lambda: [[flip()]], TypeError, "children: expected modules, got list"),
    "a mix": (lambda: [K.RandomMixUpV2()], TypeError, "RandomMixUpV2.*RandomPatchPaste"),
    "a mosaic": (lambda: [flip(), K.RandomMosaic((24, 32))], TypeError, "RandomMosaic"),
    "a mix within": (lambda: [K.ImageSequential(K.RandomJigsaw())], TypeError, "RandomJigsaw"),
}


@pytest.mark.parametrize("name", BAD_CHILDREN)
def test_children_that_are_no_augmentations_of_one_image_are_refused_when_it_is_made(name):
    children, kind, match = BAD_CHILDREN[name]
    children = children()
    with pytest.raises(kind, match=match):
        kp.DetectionSequential(*children)


@pytest.mark.parametrize(
    ("option", "value"),
    [("min_size", -1), ("min_size", "1"), ("min_visible", 1.5), ("min_visible", -0.1), ("min_visible", None)],
)
def test_options_that_are_none_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}: expected"):
        kp.DetectionSequential(flip(), **{option: value})


def test_containers_that_are_not_kornias_move_labels_or_are_refused():
    """Those of torch hand images on alone."""
    try:
        augment = kp.DetectionSequential(torch.nn.Sequential(flip()))
    except TypeError:
        return
    _, found = augment(picture(), everything())
    assert found["boxes"].tolist() == [[22, 3, 30, 9], [2, 8, 20, 20]]


def test_a_draw_of_other_images_is_refused_by_name():
    augment = kp.DetectionSequential(K.RandomAffine(30.0, p=0.5), kp.RandomPatchAffine(30.0, p=0.5))
    augment([picture(), picture(seed=1)], [everything(), everything()])
    for images in ([picture()], [picture(), picture(30, 40)]):
        targets = [everything(height=image.shape[1], width=image.shape[2]) for image in images]
        with pytest.raises(ValueError, match="params"):
            augment(images, targets, params=augment._params)


def test_fields_that_only_some_donors_have_are_asked_for_by_name():
    targets = [everything(), everything(first=5)]
    del targets[1]["colours"]
    augment = kp.DetectionSequential(kp.RandomPatchPaste(1, donors="others", p=1.0))
    with pytest.raises(ValueError, match=r"targets\[0\].*colours"):
        augment([picture(), picture(seed=1)], targets)


# --- forms: what comes is what was given ------------------------------------------------------------------------------

IDENTITIES = {
    "nothing": list,
    "steps that do not happen": lambda: [
        flip(p=0.0),
        K.RandomAffine(30.0, p=0.0),
        kp.RandomPatchAffine(30.0, p=0.0),
        kp.RandomPatchPaste(2, p=0.0),
    ],
    "objects that do not": lambda: [kp.RandomPatchAffine(30.0, p=1.0, p_patch=0.0), kp.RandomPatchPaste(0, p=1.0)],
    "objects that stay": lambda: [kp.RandomPatchAffine(0.0, p=1.0, fill=0.0), kp.RandomPatchAffine(0.0, p=1.0)],
    "a container": lambda: [K.AugmentationSequential(flip(p=0.0), kp.RandomPatchAffine(0.0, p=1.0))],
    "no copies": lambda: [kp.RandomPatchPaste(1, sizes=(1000, 2000), p=1.0)],
}
MOVE_BY_NOTHING = ("objects that stay", "a container")  # only whole pixels come back with their bits
FORMS = {
    "a list": lambda image, other: [image, other],
    "a batch": lambda image, other: torch.stack([image, image.flip(0)]),
    "bytes": lambda image, other: [(image * 255).to(torch.uint8), (other * 255).to(torch.uint8)],
    "float64": lambda image, other: [image.double(), other.double()],
    "float16": lambda image, other: [image.half(), other.half()],
    "bfloat16": lambda image, other: torch.stack([image, image.flip(0)]).bfloat16(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("steps", IDENTITIES)
def test_what_nothing_happens_to_comes_back_with_its_bits(steps, form):
    images = FORMS[form](picture(), picture(30, 20, seed=1))
    other = (30, 20) if isinstance(images, list) else (HEIGHT, WIDTH)
    boxes = [(3, 4, 12, 15), (2, 18, 9, 23), (12, 2, 19, 9)]
    targets = [everything(), everything(boxes, *other, first=5)]
    if steps not in MOVE_BY_NOTHING:
        targets[0]["boxes"] = targets[0]["boxes"].double() + 0.123456789  # not around masks
    targets[0]["area"] = targets[0]["area"] / 7
    targets[1]["masks"] = targets[1]["masks"].to(torch.uint8) * 3
    before = copy.deepcopy((images, targets))
    found = kp.DetectionSequential(*IDENTITIES[steps]())(images, targets)
    same(found[0], before[0])
    same(found[1], before[1])
    same([images, targets], list(before))


@pytest.mark.parametrize("shape", ["list", "batch", "single"])
def test_the_form_of_images_says_that_of_what_comes(shape):
    augment = kp.DetectionSequential(flip(), kp.RandomPatchAffine(9.0, p=1.0))
    images, targets = [picture(), picture(seed=1)], [everything(), everything(first=4)]
    if shape == "single":
        image, target = augment(images[0], targets[0])
        assert isinstance(image, Tensor) and image.shape == images[0].shape and isinstance(target, dict)
        return
    images, targets = augment(images if shape == "list" else torch.stack(images), targets)
    assert isinstance(images, list if shape == "list" else Tensor) and len(images) == 2
    assert isinstance(targets, list) and [target["labels"].tolist() for target in targets] == [[1, 2], [4, 5]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_images_come_in_the_dtype_in_which_they_were_given(dtype):
    image = (picture() * 255).to(dtype) if dtype == torch.uint8 else picture().to(dtype)
    flipped, _ = kp.DetectionSequential(flip())(image, everything())
    same(flipped, image.flip(-1))
    warped, found = kp.DetectionSequential(kp.RandomPatchAffine(20.0, p=1.0), kp.RandomPatchPaste(1, p=1.0))(
        torch.stack([image, image]), [everything(), everything()]
    )
    assert warped.dtype == dtype and warped.shape == (2, 3, HEIGHT, WIDTH) and not torch.equal(warped[0], image)
    assert found[0]["boxes"].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("step", [flip, lambda: K.RandomAffine(0.0, translate=(0.0, 0.0), p=1.0), lambda: flip(p=0.0)])
def test_labels_are_not_rounded_to_what_images_are(step, dtype):
    """Half precision knows no odd numbers above 2048, and bfloat16 none above 256."""
    image = torch.zeros(1, 40, 2400, dtype=dtype)
    target = {
        "boxes": torch.tensor([[301.25, 3, 2101.5, 30.125]]),
        "keypoints": torch.tensor([[[303.25, 5.5, 2], [2099.75, 9, 2]]]),
    }
    augment = kp.DetectionSequential(step())
    _, expected = augment(image.float(), target)
    _, found = augment(image, target)
    near(found["boxes"], expected["boxes"], 2e-3)
    near(found["keypoints"], expected["keypoints"], 2e-3)


def test_bytes_are_warped_as_their_numbers_and_rounded():
    image = (picture() * 255).to(torch.uint8)
    augment = kp.DetectionSequential(kp.RandomPatchAffine(20.0, p=1.0))
    found, _ = augment(image, everything())
    exact, _ = augment(image.double(), everything(), params=augment._params)
    assert (found.double() - exact).abs().max() <= 0.51


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.int32])
def test_boxes_come_in_their_dtype(dtype):
    target = everything()
    target["boxes"] = target["boxes"].to(dtype)
    _, found = kp.DetectionSequential(flip())(picture(), target)
    same(found["boxes"], torch.tensor([[22, 3, 30, 9], [2, 8, 20, 20]], dtype=dtype))
    _, found = kp.DetectionSequential(K.Resize((16, 20)))(picture(), target)
    assert found["boxes"].dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64])
def test_masks_come_in_their_dtype(dtype):
    target = everything()
    target["masks"] = target["masks"].to(dtype)
    _, found = kp.DetectionSequential(flip(), kp.RandomPatchAffine(30.0, p=1.0, fill=0.0))(picture(), target)
    assert found["masks"].dtype == dtype and set(found["masks"].unique().tolist()) == {0, 1}
    _, found = kp.DetectionSequential(flip())(picture(), target)
    same(found["masks"], target["masks"].flip(-1))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_rows_come_in_their_dtype(dtype):
    target = everything(CUT)
    for key in ("labels", "iscrowd", "area"):
        target[key] = target[key].to(dtype)
    _, found = kp.DetectionSequential(K.CenterCrop((12, 16)))(picture(), target)
    for key, values in (("labels", [1, 3]), ("iscrowd", [1, 1]), ("area", [32, 16])):
        same(found[key], torch.tensor(values, dtype=dtype))


def test_points_come_in_their_dtype():
    for dtype in (torch.float64, torch.int64):
        target = everything()
        target["keypoints"] = target["keypoints"].floor().to(dtype)
        _, found = kp.DetectionSequential(flip())(picture(), target)
        assert found["keypoints"].dtype == dtype
        assert found["keypoints"][0, :2].tolist() == [[WIDTH - 3, 5, 2], [WIDTH - 8, 8, 1]]


def test_fields_that_are_of_a_picture_are_not_taken_for_rows():
    """Two rows, of which one goes; two numbers that are a size, two letters that are a name."""
    target = {**everything([(4, 8, 12, 16), (0, 0, 6, 6)]), "file": "ab", "depth": 2, "crop": None, "none": []}
    _, found = kp.DetectionSequential(K.CenterCrop((12, 16)))(picture(), target)
    assert found["orig_size"].tolist() == [480, 640] and found["image_id"].tolist() == [5] and found["file"] == "ab"
    assert found["depth"] == 2 and found["crop"] is None and found["none"] == [] and list(found) == list(target)
    one = {**everything([(0, 0, 6, 6)])}
    _, found = kp.DetectionSequential(K.CenterCrop((12, 16)))(picture(), one)
    assert found["image_id"].tolist() == [5] and found["names"] == [] and found["size"].tolist() == [12, 16]


NOTHING = {
    "a list": lambda: [picture(), picture(30, 20)],
    "a batch": lambda: torch.stack([picture(), picture(seed=1)]),
}


@pytest.mark.parametrize("form", NOTHING)
@pytest.mark.parametrize("steps", ["flip", "crop", "affine", "paste"])
def test_pictures_without_objects_are_augmented_too(form, steps):
    images = NOTHING[form]()
    targets = [everything([], *image.shape[1:]) for image in images]
    kinds = {
        "flip": flip,
        "crop": lambda: K.CenterCrop((12, 16)),
        "affine": lambda: kp.RandomPatchAffine(20.0, p=1.0, fill=0.0),
        "paste": lambda: kp.RandomPatchPaste(1, p=1.0),
    }
    found_images, found = kp.DetectionSequential(kinds[steps]())(images, targets)
    for image, target in zip(found_images, found, strict=True):
        size = tuple(image.shape[1:])
        assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,) and target["names"] == []
        assert target["masks"].shape == (0, *size) and target["masks"].dtype == torch.bool
        assert target["keypoints"].shape == (0, 3, 3) and target["area"].shape == (0,)
        assert target["size"].tolist() == list(size)


@pytest.mark.parametrize("form", NOTHING)
def test_pictures_without_objects_get_copies_of_a_bank_with_all_their_labels(form):
    images = NOTHING[form]()
    bank = everything([(3, 3, 9, 9)])
    bank = [picture()], [{name: bank[name] for name in ("boxes", "labels", "masks", "keypoints")}]
    names = ["boxes", "labels", "masks", "keypoints"]
    empty = [{name: everything([], *image.shape[1:])[name] for name in names} for image in images]
    _, found = kp.DetectionSequential(kp.RandomPatchPaste(2, donors=bank, p=1.0))(images, empty)
    for image, target in zip(images, found, strict=True):
        assert [len(target[name]) for name in names] == [2, 2, 2, 2]
        assert target["masks"].shape == (2, *image.shape[1:]) and target["masks"].flatten(1).any(1).all()
        for (x1, y1, x2, y2), mask in zip(target["boxes"].int().tolist(), target["masks"], strict=True):
            assert mask[y1:y2, x1:x2].sum() == mask.sum()
    without = [{name: target[name] for name in ("boxes", "labels")} for target in empty]
    _, found = kp.DetectionSequential(kp.RandomPatchPaste(2, donors=bank, p=1.0))(images, without)
    assert [list(target) for target in found] == [["boxes", "labels"]] * 2


def test_no_pictures_are_no_pictures():
    augment = kp.DetectionSequential(flip(), kp.RandomPatchAffine(20.0, p=1.0), kp.RandomPatchPaste(1, p=1.0))
    assert augment([], []) == ([], [])
    images, targets = augment(torch.zeros(0, 3, 8, 8), [])
    assert images.shape == (0, 3, 8, 8) and targets == []


def test_pictures_that_became_of_one_size_go_on_together_and_come_back_in_their_order():
    sizes = [(30, 40), (24, 32), (30, 40), (40, 30)]
    images = [torch.full((3, *size), float(i) / 8) for i, size in enumerate(sizes)]
    targets = [everything([(3, 3, 9 + i, 9)], *size, first=i) for i, size in enumerate(sizes)]
    steps = [K.Resize((20, 28), side="short"), flip(), kp.RandomPatchPaste(1, donors="others", p=1.0)]
    found, labels = kp.DetectionSequential(*steps)(images, targets)
    for i, (image, target) in enumerate(zip(found, labels, strict=True)):
        assert image.shape == (3, 20, 28) and float(image[0].median()) == i / 8 and target["labels"][0] == i


# --- classes of torchvision's kind ------------------------------------------------------------------------------------


class Kind(Tensor):
    """Wraps nothing that comes of it, as torchvision's classes do."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


class Image(Kind): ...


class Mask(Kind): ...


class Format(enum.Enum):
    XYXY, XYWH, CXCYWH = "XYXY", "XYWH", "CXCYWH"


class BoundingBoxes(Kind):
    def __new__(cls, data, *, format, canvas_size, requires_grad=False):
        boxes = torch.as_tensor(data).detach().as_subclass(cls)
        boxes.format, boxes.canvas_size = Format[format] if isinstance(format, str) else format, canvas_size
        return boxes


OF_FORMATS = {  # the first is cut off at the left by a crop that begins at (8, 6)
    "XYXY": ([[4.0, 8, 12, 16], [10, 10, 14, 13]], [[0.0, 2, 4, 10], [2, 4, 6, 7]]),
    "XYWH": ([[4.0, 8, 8, 8], [10, 10, 4, 3]], [[0.0, 2, 4, 8], [2, 4, 4, 3]]),
    "CXCYWH": ([[8.0, 12, 8, 8], [12, 11.5, 4, 3]], [[2.0, 6, 4, 8], [4, 5.5, 4, 3]]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OF_FORMATS)
def test_bounding_boxes_come_back_of_their_class_and_format(name, dtype):
    rows, expected = OF_FORMATS[name]
    given = BoundingBoxes(torch.tensor(rows, dtype=dtype), format=name, canvas_size=(HEIGHT, WIDTH))
    target = {"boxes": given, "labels": torch.tensor([1, 2])}
    _, found = kp.DetectionSequential(K.CenterCrop((12, 16)))(picture(), target)
    boxes = found["boxes"]
    assert type(boxes) is BoundingBoxes and boxes.format is Format[name] and tuple(boxes.canvas_size) == (12, 16)
    assert boxes is not given and given.canvas_size == (HEIGHT, WIDTH)
    same(boxes.as_subclass(Tensor), torch.tensor(expected, dtype=dtype))
    same(given.as_subclass(Tensor), torch.tensor(rows, dtype=dtype))
    _, found = kp.DetectionSequential()(picture(), target)
    assert type(found["boxes"]) is BoundingBoxes
    same(found["boxes"].as_subclass(Tensor), torch.tensor(rows, dtype=dtype))


def test_boxes_of_a_class_have_no_negative_size():
    given = BoundingBoxes(torch.tensor([[4.0, 8, 8, 8], [10, 10, -4, 3]]), format="XYWH", canvas_size=(HEIGHT, WIDTH))
    with pytest.raises(ValueError, match=r'targets\[0\]\["boxes"\].*width and height.*row 1'):
        kp.DetectionSequential(flip())(picture(), {"boxes": given})


def test_images_and_masks_come_back_of_their_class():
    target = everything()
    target["masks"] = target["masks"].as_subclass(Mask)
    for image in (picture().as_subclass(Image), [picture().as_subclass(Image)]):
        targets = target if isinstance(image, Tensor) else [target]
        found, labels = kp.DetectionSequential(flip())(image, targets)
        labels = labels if isinstance(labels, dict) else labels[0]
        found = found if isinstance(image, Tensor) else found[0]
        assert type(found) is Image and type(labels["masks"]) is Mask
        assert torch.equal(found.as_subclass(Tensor), picture().flip(-1))


# --- replay, copies, gradients ----------------------------------------------------------------------------------------


def many_steps():
    return [
        K.RandomHorizontalFlip(p=0.5),
        kp.RandomPatchPaste((0, 2), degrees=30.0, p=0.7),
        K.AugmentationSequential(K.RandomAffine(20.0, p=0.5), kp.RandomPatchAffine(40.0, p=0.7, fill="surroundings")),
        K.RandomCrop((20, 18), p=1.0),
        kp.RandomPatchAffine(180.0, (0.5, 0.5), p=0.7, clip=False, matte="ellipse"),
    ]


def pictures_and_targets():
    images = [picture(), picture(30, 26, seed=1), picture(seed=2)]
    boxes = [[(2, 3, 10, 9), (12, 8, 30, 20)], [(3, 4, 20, 15)], []]
    return images, [
        everything(rows, *image.shape[1:], first=3 * i)
        for i, (rows, image) in enumerate(zip(boxes, images, strict=True))
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_draw_that_is_replayed_makes_the_same_bits(seed):
    torch.manual_seed(seed)
    augment, (images, targets) = kp.DetectionSequential(*many_steps(), min_visible=0.1), pictures_and_targets()
    first = augment(images, targets)
    draw = augment._params
    second = augment(images, targets)
    torch.manual_seed(99)
    again = augment(images, targets, params=draw)
    same(list(again), list(first))
    assert not all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    torch.manual_seed(seed)
    fresh = kp.DetectionSequential(*many_steps(), min_visible=0.1)
    torch.manual_seed(seed)
    one = fresh(images, targets)
    torch.manual_seed(seed)
    same(list(kp.DetectionSequential(*many_steps(), min_visible=0.1)(images, targets)), list(one))


@pytest.mark.parametrize("by", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_of_the_module_do_the_same_before_and_after_a_call(by):
    images, targets = pictures_and_targets()
    augment = kp.DetectionSequential(*many_steps(), min_size=2, min_visible=0.1)
    for _ in range(2):
        twin = by(augment)
        torch.manual_seed(5)
        expected = augment(images, targets)
        torch.manual_seed(5)
        same(list(twin(images, targets)), list(expected))
        same(list(twin(images, targets, params=augment._params)), list(expected))


def test_a_call_after_gradients_can_be_copied():
    image = picture().requires_grad_()
    augment = kp.DetectionSequential(*many_steps())
    augment(image, everything())
    copy.deepcopy(augment)
    pickle.dumps(augment)


@pytest.mark.parametrize("form", ["list", "batch", "single"])
def test_gradients_flow_to_images(form):
    image, other = picture().double().requires_grad_(), picture(seed=1).double().requires_grad_()
    steps = [flip(), kp.RandomPatchAffine(20.0, p=1.0, fill=0.0), K.CenterCrop((20, 24))]
    augment = kp.DetectionSequential(*steps)
    if form == "single":
        found, _ = augment(image, everything())
        gradient = torch.autograd.grad(found.sum(), image)[0]
        assert 0.5 * 20 * 24 < gradient[0].sum() <= 20 * 24 + 1
        return
    images = [image, other] if form == "list" else torch.stack([image, other])
    found, _ = augment(images, [everything(), everything()])
    gradients = torch.autograd.grad(found[1].sum(), [image, other])
    assert not gradients[0].any() and 0.5 * 20 * 24 < gradients[1][0].sum() <= 20 * 24 + 1


def test_a_flip_gives_gradients_back_where_they_came_from():
    image = picture().requires_grad_()
    weight = picture(seed=3)
    found, _ = kp.DetectionSequential(flip())(image, everything())
    same(torch.autograd.grad((found * weight).sum(), image)[0], weight.flip(-1))


def test_nothing_of_the_caller_is_changed_by_calls_and_what_comes_is_not_its_memory():
    images, targets = pictures_and_targets()
    before = copy.deepcopy((images, targets))
    for seed in range(5):
        torch.manual_seed(seed)
        found, labels = kp.DetectionSequential(*many_steps())(images, targets)
        for image, target in zip(found, labels, strict=True):
            image.zero_()
            for key in ("boxes", "labels", "masks", "keypoints", "area", "iscrowd", "colours"):
                target[key].zero_()
            target["names"].clear()
        same([images, targets], list(before))


# --- what a user found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "image", "transparent"])
def test_masks_of_round_objects_end_where_their_matte_does(padding_mode):
    """A disc of 40 pixels, smaller by 0.7: the matte leaves nothing of what lies beyond the patch."""
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    disc = ((x - 32).square() + (y - 32).square() < 400)[None]
    turn = kp.RandomPatchAffine((45.0, 45.0), scale=(0.7, 0.7), p=1.0, padding_mode=padding_mode, matte="ellipse")
    target = {"boxes": torch.tensor([[12.0, 12, 52, 52]]), "masks": disc}
    _, found = kp.DetectionSequential(turn)(disc.float().expand(3, -1, -1), target)
    assert abs(int(found["masks"].sum()) / (math.pi * 14**2) - 1) < 0.06
    assert (found["boxes"] - torch.tensor([[18.0, 18, 46, 46]])).abs().max() <= 1


def test_objects_that_stay_do_not_hide_one_another():
    """Boxes overlap as they were labelled, and nothing changed."""
    boxes = torch.tensor([[4.0, 4, 30, 30], [6, 6, 28, 28], [5, 5, 29, 29]])
    target = {"boxes": boxes, "labels": torch.arange(3)}
    augment = kp.DetectionSequential(kp.RandomPatchAffine(0.0, p=1.0), min_visible=0.9)
    _, found = augment(torch.rand(3, 40, 40), target)
    assert torch.equal(found["boxes"], boxes)
    far = torch.eye(2, 3).repeat(3, 1, 1)
    far[1, 0, 2] = -0.01  # one of them moves a little, over the first and beside the last
    step = kp.PatchAffine(order="rows").bind(theta=far)
    _, found = kp.DetectionSequential(step, min_visible=0.9)(torch.rand(3, 40, 40), target)
    assert found["labels"].tolist() == [2]


def test_autocast_rounds_no_labels():
    image, target = torch.rand(3, 300, 1000), {"boxes": torch.tensor([[301.25, 3, 901.5, 130.125]])}
    steps = lambda: kp.DetectionSequential(K.RandomHorizontalFlip(p=1.0), K.RandomAffine(9.0, p=1.0))  # noqa: E731
    torch.manual_seed(0)
    expected = steps()(image, target)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        found = steps()(image, target)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1]["boxes"], expected[1]["boxes"])


def test_bytes_are_not_normalized():
    with pytest.raises(TypeError, match="images: expected a floating dtype, as they are normalized, got uint8"):
        kp.DetectionSequential(K.Normalize(0.5, 0.2))(
            torch.zeros(3, 8, 8, dtype=torch.uint8), {"boxes": torch.zeros(0, 4)}
        )


@pytest.mark.parametrize("step", [K.RandomThinPlateSpline, K.RandomFisheye, K.RandomElasticTransform])
def test_warps_by_which_no_labels_move_are_refused(step):
    made = step(*[torch.tensor([-0.1, 0.1])] * 3) if step is K.RandomFisheye else step()
    with pytest.raises(TypeError, match=f"children: .* that move labels as they move pixels, got {step.__name__}"):
        kp.DetectionSequential(made)
