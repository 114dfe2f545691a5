"""`PatchwiseApply`: each patch is what its crop alone becomes with the same draw, and labels move in their patch."""

import copy
import pickle

import kornia.augmentation as K
import pytest
import torch
from support.kornia_scenes import HEIGHT, WIDTH, near, picture, same
from torch import nn

import kornia_patchaug as kp

# Two sizes of patches, one box of fractions, one that reaches out, one empty; in the second image two overlap.
BOXES = torch.tensor(
    [
        [2.0, 3, 12, 11],
        [20, 5, 30, 13],
        [13.4, 14.2, 18.7, 24.9],
        [-4, 8, 7, 17],
        [5, 20, 5, 24],
        [4, 5, 14, 19],
        [10, 12, 20, 26],
    ]
)
OBJ_TO_IMG = torch.tensor([0, 0, 0, 0, 0, 1, 1])
WHOLE = torch.tensor(
    [[2, 3, 12, 11], [20, 5, 30, 13], [13, 14, 19, 25], [0, 8, 7, 17], [5, 20, 5, 24], [4, 5, 14, 19], [10, 12, 20, 26]]
)
AUGMENTATIONS = {
    "colours": lambda: [K.ColorJiggle(0.3, 0.3, 0.3, 0.3, p=1.0)],
    "noise, for some": lambda: [
        K.RandomGaussianNoise(0.0, 0.2, p=0.5),
        K.RandomGaussianBlur((3, 3), (1.0, 2.0), p=0.5),
    ],
    "a turn": lambda: [K.RandomAffine(40.0, (0.2, 0.2), (0.7, 1.2), p=0.8, padding_mode="border")],
    "a flip and perspective": lambda: [K.RandomHorizontalFlip(p=0.5), K.RandomPerspective(0.5, p=1.0)],
    "a nested container": lambda: [K.ImageSequential(K.RandomVerticalFlip(p=0.5), K.RandomInvert(p=0.5))],
}
GEOMETRIC = ["a turn", "a flip and perspective"]
each = pytest.mark.parametrize("name", AUGMENTATIONS)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def images(channels=3):
    return torch.rand(2, channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def alone(drawn, row):
    """The part of a draw of several patches that is of one."""
    if isinstance(drawn.data, list):
        return type(drawn)(drawn.name, [alone(child, row) for child in drawn.data])
    if drawn.data is None:
        return drawn
    count, data = len(drawn.data["batch_prob"]), {}
    for name, value in drawn.data.items():
        data[name] = value[row : row + 1] if value.ndim and len(value) == count else value
    data["forward_input_shape"] = drawn.data["forward_input_shape"].clone()
    data["forward_input_shape"][0] = 1
    return type(drawn)(drawn.name, data)


def by_crop(augmentation, steps, pictures, source=None, keys=("input",)):
    """Each crop through the steps alone, with its own draw: crops (1, C, h, w) by row."""
    found = {}
    for rows, _, params in augmentation._params["groups"]:
        for k, row in enumerate(rows.tolist()):
            x1, y1, x2, y2 = WHOLE[row].tolist()
            crop = (pictures if source is None else source)[OBJ_TO_IMG[row] : OBJ_TO_IMG[row] + 1, :, y1:y2, x1:x2]
            container = K.AugmentationSequential(*steps, data_keys=list(keys))
            found[row] = container(crop, params=[alone(item, k) for item in params])
    return found


@each
def test_each_patch_is_what_its_crop_alone_becomes_with_the_same_draw(name):
    steps = AUGMENTATIONS[name]()
    augmentation = kp.PatchwiseApply(*steps, min_size=1)
    after = augmentation(images(), BOXES, OBJ_TO_IMG)
    expected = images()
    crops = by_crop(augmentation, steps, images())
    assert sorted(crops) == [0, 1, 2, 3, 5, 6]  # all but the empty one
    for row in sorted(crops):
        x1, y1, x2, y2 = WHOLE[row].tolist()
        expected[OBJ_TO_IMG[row], :, y1:y2, x1:x2] = crops[row][0]
    near(after, expected, 1e-6)
    assert not torch.equal(after, images())
    groups = augmentation._params["groups"]
    assert sorted(tuple(group.size) for group in groups) == sorted({(8, 10), (11, 6), (9, 7), (14, 10)})  # by size


def test_objects_have_draws_of_their_own():
    flat = torch.full((1, 3, HEIGHT, WIDTH), 0.4)
    after = kp.PatchwiseApply(K.RandomBrightness((0.5, 1.5), p=1.0))(flat, BOXES[:2])
    values = after[0, 0, 5, 5], after[0, 0, 7, 25]
    assert len({0.4, *(round(float(value), 4) for value in values)}) == 3
    shared = kp.PatchwiseApply(K.RandomBrightness((0.5, 1.5), p=1.0), same_on_batch=True)(flat, BOXES[:2])
    assert shared[0, 0, 5, 5] == shared[0, 0, 7, 25] != 0.4


def test_small_patches_stay_as_they_are():
    """Filters need some room, and one small box should stop no training; its label stays as well."""
    boxes = torch.tensor([[2.0, 2, 10, 12], [20, 4, 23, 20], [12, 14, 30, 21]])
    blur = kp.PatchwiseApply(K.RandomGaussianBlur((7, 7), (1.0, 2.0), p=1.0), K.RandomHorizontalFlip(p=1.0))
    after, labels = kp.DetectionSequential(blur)(images()[0], {"boxes": boxes})
    same(labels["boxes"], boxes)
    changed = (after != images()[0]).any(0)
    assert changed[2:12, 2:10].all() and not changed[4:20, 20:23].any() and not changed[14:21, 12:30].any()
    with pytest.raises(ValueError, match="cannot filter an image this small"):
        kp.PatchwiseApply(blur.augment[0], min_size=1)(images(), boxes, torch.zeros(3, dtype=torch.int64))


def test_a_matte_fades_towards_the_edge_of_the_patch():
    black = kp.PatchwiseApply(K.RandomBrightness((0.0, 0.0), p=1.0), matte="ellipse", feather=0.5)
    after = black(torch.ones(1, 1, HEIGHT, WIDTH), BOXES[:1])
    expected = torch.ones(1, 1, HEIGHT, WIDTH)
    expected[0, 0, 3:11, 2:12] -= kp.soft_mattes(1, (8, 10), shape="ellipse", feather=0.5)[0, 0]
    near(after, expected, 1e-6)


def test_small_patches_lie_over_large_ones_if_asked():
    boxes = torch.tensor([[4.0, 4, 10, 10], [2, 2, 20, 20]])
    step = K.RandomBrightness((0.0, 0.5), p=1.0)
    white, values = torch.ones(1, 1, HEIGHT, WIDTH), {}
    for order in ("rows", "area"):
        torch.manual_seed(3)
        values[order] = kp.PatchwiseApply(step, order=order, min_size=1)(white, boxes)[0, 0]
    same(values["rows"][2:20, 2:20], values["rows"][15, 15].expand(18, 18))  # the large one covers the small one
    same(values["area"][4:10, 4:10], values["area"][5, 5].expand(6, 6))
    assert values["area"][5, 5] != values["area"][15, 15] == values["rows"][15, 15]


# --- labels -----------------------------------------------------------------------------------------------------------

KEYS = ["input", "bbox_xyxy", "mask", "keypoints", "class"]
PADDED = torch.zeros(2, 2, 4)
PADDED[:] = torch.stack([BOXES[[0, 1]], BOXES[[5, 6]]]) - torch.tensor([0, 0, 1, 1])
OWN = [(0, 0, 0), (0, 1, 1), (1, 0, 5), (1, 1, 6)]  # image, row, and which of BOXES


def masks():
    found = torch.zeros(2, 2, HEIGHT, WIDTH)
    for b, m, row in OWN:
        x1, y1, x2, y2 = WHOLE[row].tolist()
        found[b, m, y1 + 2 : y2 - 1, x1 + 1 : x2 - 2] = 1
    return found


def labels_alone(augmentation, steps, key, of_row):
    """What a label of each object, in its patch, becomes in a container of Kornia's with the draw of the object."""
    found = {}
    flat = {0: 0, 1: 1, 2: 5, 3: 6}
    for rows, _, params in augmentation._params["groups"]:
        for k, n in enumerate(rows.tolist()):
            row = flat[n]
            first = WHOLE[row, :2].float()
            container = K.AugmentationSequential(*steps, data_keys=["input", key])
            x1, y1, x2, y2 = WHOLE[row].tolist()
            crop = images()[OBJ_TO_IMG[row] : OBJ_TO_IMG[row] + 1, :, y1:y2, x1:x2]
            found[n] = container(crop, of_row(row, first), params=[alone(item, k) for item in params])[1]
    return found


@pytest.mark.parametrize("name", GEOMETRIC)
def test_labels_move_in_the_patch_of_their_object(name):
    steps = AUGMENTATIONS[name]()
    augmentation = kp.PatchwiseApply(*steps, min_size=1)
    seq = kp.PatchAugmentationSequential(augmentation, data_keys=KEYS, instance_masks=True)
    points = PADDED[..., :2] + torch.tensor([4.0, 3.0])
    _, boxes, moved, found, classes = seq(images(), PADDED, masks(), points, torch.ones(2, 2))
    same(classes, torch.ones(2, 2))
    by_box = labels_alone(
        augmentation,
        steps,
        "bbox_xyxy",
        lambda row, first: torch.cat([BOXES[row, :2] - first, BOXES[row, 2:] - first - 1])[None, None],
    )
    by_mask = labels_alone(
        augmentation,
        steps,
        "mask",
        lambda row, first: masks()[OBJ_TO_IMG[row], {0: 0, 1: 1, 5: 0, 6: 1}[row]][
            None, None, WHOLE[row, 1] : WHOLE[row, 3], WHOLE[row, 0] : WHOLE[row, 2]
        ],
    )
    by_point = labels_alone(
        augmentation,
        steps,
        "keypoints",
        lambda row, first: (BOXES[row, :2] + torch.tensor([4.0, 3.0]) - first)[None, None],
    )
    over = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    over[12:26, 10:20] = True  # the last patch lies over the one before it
    for n, (b, m, row) in enumerate(OWN):
        x1, y1, x2, y2 = WHOLE[row].tolist()
        low, high = by_box[n][0, 0, :2], by_box[n][0, 0, 2:] + 1
        size = torch.tensor([x2 - x1, y2 - y1])
        inside = torch.cat([low.clamp(min=0).minimum(size), high.clamp(min=0).minimum(size) - 1])
        near(boxes[b, m], inside + torch.tensor([x1, y1, x1, y1]), 1e-3)
        expected = torch.zeros(HEIGHT, WIDTH)
        expected[y1:y2, x1:x2] = by_mask[n][0, 0]
        same(moved[b, m], expected * ~(over & (row == 5)))
        if row != 5:  # which the last patch may hold
            near(found[b, m], by_point[n][0, 0] + torch.tensor([x1, y1]), 1e-3)
    assert not torch.equal(boxes, PADDED)


def test_augmentations_of_colours_leave_labels_their_bits():
    seq = kp.PatchAugmentationSequential(
        kp.PatchwiseApply(K.ColorJiggle(0.3, 0.3, 0.3, 0.3, p=1.0)), data_keys=KEYS, instance_masks=True
    )
    given = PADDED, masks(), PADDED[..., :2] + 3, torch.ones(2, 2)
    for before, after in zip(given, seq(images(), *given)[1:], strict=True):
        same(after, before)


def test_masks_of_classes_are_painted_as_the_image_is():
    seq = kp.PatchAugmentationSequential(
        kp.PatchwiseApply(K.RandomHorizontalFlip(p=1.0)), data_keys=["input", "bbox_xyxy", "mask"]
    )
    image = images(1)
    after, _, mask = seq(image, PADDED, (image > 0.5).float())
    same(mask, (after > 0.5).float())


def test_targets_of_a_detector_move_along():
    target = {"boxes": BOXES[:2], "labels": torch.tensor([1, 2]), "masks": masks()[0] > 0, "names": ["a", "b"]}
    target["keypoints"] = torch.tensor([[[4.0, 5, 2]], [[22, 6, 2]]])
    augment = kp.DetectionSequential(kp.PatchwiseApply(K.RandomHorizontalFlip(p=1.0)))
    after, found = augment(images()[0], target)
    same(after[:, 3:11, 2:12], images()[0, :, 3:11, 2:12].flip(-1))
    same(found["masks"][:, 3:11, 2:12], target["masks"][:, 3:11, 2:12].flip(-1))
    same(found["boxes"], torch.tensor([[4.0, 5, 11, 10], [22, 7, 29, 12]]))  # tight around masks
    same(found["keypoints"], torch.tensor([[[10.0, 5, 2]], [[28, 6, 2]]]))


def test_an_object_that_leaves_its_patch_loses_its_label():
    far = kp.PatchwiseApply(*[K.RandomAffine(0.0, (1.0, 1.0), p=1.0) for _ in range(2)])
    seq = kp.PatchAugmentationSequential(far, data_keys=["input", "bbox_xyxy"])
    seen = 0
    for seed in range(12):
        torch.manual_seed(seed)
        boxes = seq(images(), PADDED)[1]
        share = far._params["visible"][0].reshape(2, 2)
        assert ((boxes != 0).any(-1) == (share > 0)).all()
        seen += int((share == 0).sum())
    assert seen
    augment = kp.DetectionSequential(far, min_visible=0.9)
    assert len(augment(images()[0], {"boxes": BOXES[:2]})[1]["boxes"]) < 2


# --- draws ------------------------------------------------------------------------------------------------------------


@each
def test_a_draw_replays_to_the_last_bit(name):
    augmentation = kp.PatchwiseApply(*AUGMENTATIONS[name](), p=0.7, p_patch=0.7)
    seq = kp.PatchAugmentationSequential(augmentation, data_keys=["input", "bbox_xyxy"])
    after, boxes = seq(images(), PADDED)
    for params in (seq._params, pickle.loads(pickle.dumps(seq._params))):
        again = seq(images(), PADDED, params=params)
        same(again[0], after)
        same(again[1], boxes)
    draw = augmentation._params
    augmentation(images(), BOXES, OBJ_TO_IMG)
    same(augmentation(images(), params=draw), after)


def test_seeds_and_generators_decide_the_draw_and_the_global_generator_is_left_where_it_was():
    augmentation = kp.PatchwiseApply(*AUGMENTATIONS["a turn"]())
    torch.manual_seed(5)
    one = augmentation(images(), BOXES, OBJ_TO_IMG)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    same(augmentation(images(), BOXES, OBJ_TO_IMG), one)
    same(torch.get_rng_state(), state)
    drawn = [
        kp.PatchwiseApply(*AUGMENTATIONS["a turn"](), generator=torch.Generator().manual_seed(7))(
            images(), BOXES, OBJ_TO_IMG
        )
        for _ in range(2)
    ]
    same(*drawn)


def test_calls_draw_anew():
    augmentation = kp.PatchwiseApply(*AUGMENTATIONS["colours"]())
    one, other = (augmentation(images(), BOXES, OBJ_TO_IMG) for _ in range(2))
    assert not torch.equal(one, other)


def test_an_image_that_is_gated_off_in_a_draw_stays_as_it_is_when_that_is_replayed():
    augmentation = kp.PatchwiseApply(K.RandomAffine(0.0, scale=(0.6, 0.7), p=1.0), p=0.999)
    seq = kp.PatchAugmentationSequential(augmentation, data_keys=["input", "bbox_xyxy"])
    after, boxes = seq(images(), PADDED)
    seq._params[0].data["batch_prob"] = torch.tensor([0.0, 1.0])
    again, labels = seq(images(), PADDED, params=seq._params)
    same(again[0], images()[0])
    same(again[1], after[1])
    same(labels[0], PADDED[0])
    same(labels[1], boxes[1])
    assert not torch.equal(boxes[0], PADDED[0])


def test_gated_images_and_objects_keep_their_bits():
    augmentation = kp.PatchwiseApply(K.RandomBrightness((0.1, 0.3), p=1.0), p=0.5, p_patch=0.5)
    shares = []
    for seed in range(40):
        torch.manual_seed(seed)
        after, draw = augmentation(images(), BOXES[[0, 1, 5]], OBJ_TO_IMG[[0, 1, 5]]), augmentation._params
        changed = torch.tensor(
            [
                (after != images())[b, :, y1:y2, x1:x2].any()
                for b, (x1, y1, x2, y2) in zip([0, 0, 1], WHOLE[[0, 1, 5]].tolist(), strict=True)
            ]
        )
        same(changed, (draw["patch_prob"][0] > 0.5) & (draw["batch_prob"][[0, 0, 1]] > 0.5))
        shares.append(changed.float().mean())
    assert 0.15 < torch.stack(shares).mean() < 0.35


def test_gradients_are_those_of_each_crop_alone():
    steps = [K.RandomAffine(40.0, p=1.0), K.RandomBrightness((0.5, 1.5), p=1.0, clip_output=False)]
    augmentation = kp.PatchwiseApply(*steps, min_size=1)
    source = images().double().requires_grad_()
    weight = torch.rand(2, 3, HEIGHT, WIDTH, dtype=torch.float64)
    (found,) = torch.autograd.grad((augmentation(source, BOXES[:2], OBJ_TO_IMG[:2]) * weight).sum(), source)
    again = images().double().requires_grad_()
    canvas = again.clone()
    for row, crop in by_crop(augmentation, steps, again).items():
        x1, y1, x2, y2 = WHOLE[row].tolist()
        mask = torch.zeros(2, 1, HEIGHT, WIDTH, dtype=torch.float64)
        mask[OBJ_TO_IMG[row], :, y1:y2, x1:x2] = 1
        padded = nn.functional.pad(crop, (x1, WIDTH - x2, y1, HEIGHT - y2))
        canvas = canvas * (1 - mask) + mask * padded
    (expected,) = torch.autograd.grad((canvas * weight).sum(), again)
    near(found, expected, 1e-9)


def test_empty_calls_single_images_and_copies():
    augmentation = kp.PatchwiseApply(K.RandomInvert(p=1.0), keepdim=True)
    same(augmentation(images(), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)), images())
    one = augmentation(images()[0], BOXES[:1])
    assert one.shape == (3, HEIGHT, WIDTH)
    for other in (copy.deepcopy(augmentation), pickle.loads(pickle.dumps(augmentation))):
        same(other(images()[0], BOXES[:1]), one)
    half = augmentation(images().half(), BOXES, OBJ_TO_IMG)
    assert half.dtype == torch.float16
    near(half.float(), augmentation(images(), BOXES, OBJ_TO_IMG), 2e-3)


def test_what_was_bound_is_used_in_containers_of_kornias():
    augmentation = kp.PatchwiseApply(K.RandomInvert(p=1.0))
    plain = K.AugmentationSequential(augmentation, data_keys=["input"])
    with augmentation.bind(BOXES, obj_to_img=OBJ_TO_IMG):
        same(plain(images()), augmentation(images(), BOXES, OBJ_TO_IMG))
        labelled = K.AugmentationSequential(augmentation, data_keys=["input", "bbox_xyxy"])
        with pytest.raises(ValueError, match="PatchwiseApply changes labels in kornia_patchaug"):
            labelled(images(), PADDED)


WRONG = {
    "no module": (lambda: kp.PatchwiseApply(torch.relu), TypeError, "augmentations: expected augmentations of images"),
    "a mix": (lambda: kp.PatchwiseApply(K.RandomMixUpV2()), TypeError, "augmentations: .*got RandomMixUpV2"),
    "one of ours": (
        lambda: kp.PatchwiseApply(kp.RandomPatchAffine(9.0)),
        TypeError,
        "augmentations: .*got RandomPatchAffine",
    ),
    "an order": (
        lambda: kp.PatchwiseApply(order="size"),
        ValueError,
        "order: expected one of 'rows', 'area', got 'size'",
    ),
    "a matte": (lambda: kp.PatchwiseApply(matte="mask"), ValueError, "matte: expected one of None, 'box', 'ellipse'"),
    "a feather": (lambda: kp.PatchwiseApply(feather=2.0), ValueError, r"feather: expected a share in \[0, 1\], got 2"),
    "a probability": (lambda: kp.PatchwiseApply(p_patch=-1.0), ValueError, "p_patch: expected a probability"),
    "a size": (
        lambda: kp.PatchwiseApply(K.Resize((4, 4)))(picture(1), BOXES[:1]),
        ValueError,
        r"augmentations: expected patches to keep their shape \(\d, 8, 10\), got \(\d, 4, 4\)",
    ),
    "no boxes": (lambda: kp.PatchwiseApply(K.RandomInvert())(picture(1)), ValueError, "PatchwiseApply has no boxes"),
    "a video": (
        lambda: K.VideoSequential(kp.PatchwiseApply(K.RandomInvert()).bind(BOXES[:1]), data_format="BTCHW")(
            torch.rand(1, 2, 3, HEIGHT, WIDTH)
        ),
        ValueError,
        "PatchwiseApply does not work in a VideoSequential",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_once(name):
    call, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        call()
