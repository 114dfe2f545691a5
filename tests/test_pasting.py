"""RandomPatchPaste: pixels are those of the functions, labels those of loops, draws have the distributions they say."""

import copy
import math
import pickle
import sys
from types import SimpleNamespace

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from kornia.geometry.boxes import Boxes
from scipy import stats
from support.kornia_scenes import BOX_KEYS, hard_mattes, near, same
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import kornia_patchaug as kp

HEIGHT, WIDTH = 40, 56
# Two objects, one, and none.
BOXES = torch.tensor([[4, 5, 12, 11], [20, 9, 30, 21], [10, 8, 22, 20]])
OBJ_TO_IMG = torch.tensor([0, 0, 1])
ROW = torch.tensor([0, 1, 0])  # in its image
CLASSES = torch.tensor([3, 7, 5])
INCLUSIVE = torch.tensor([0, 0, 1, 1])
PADDED = torch.tensor([[[4.0, 5, 11, 10], [20, 9, 29, 20]], [[10, 8, 21, 19], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 2])
LISTS = [PADDED[0], PADDED[1, :1], torch.zeros(0, 4)]
PADDED_CLASSES = torch.tensor([[3, 7], [5, 0], [0, 0]])
BOX = ["input", "bbox_xyxy"]
LEAST_P = 1e-3  # a p-value: one in a thousand seeds would fail if all is right; seeds are fixed


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def pictures(batch=3, channels=3, *, seed=0, size=(HEIGHT, WIDTH), dtype=torch.float32):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def paste(count=3, **options):
    """One that always pastes, wherever there is room, hard rectangles."""
    return kp.RandomPatchPaste(count, **{"p": 1.0, "max_cover": 1.0, "matte": None, **options})


WILD = {"degrees": 180.0, "scale": (0.6, 1.4), "shear": 12.0, "flip": 0.5}


def at(*centres):
    """A place: the centres (x, y) of an image's copies, large donors first."""

    def place(noise, sizes, size, images):
        return torch.tensor(centres).to(noise)[None, :, None].expand_as(noise)

    return place


def container(augmentation, keys=BOX, **options):
    return kp.PatchAugmentationSequential(augmentation, data_keys=list(keys), **options)


def drawn(augmentation):
    """What was drawn of the K copies of the last call."""
    draw = augmentation._params
    names = ("copies", "theta", "target", "slot", "donor", "read")
    return SimpleNamespace(**{name: draw[name][0] for name in names})


def matte_of(copies, options):
    """The alpha of copies, without masks."""
    shape = options.get("matte", "mask")
    if shape is None:
        return None
    shape = "box" if shape == "mask" else shape
    return kp.soft_mattes(len(copies.copies), 32, shape=shape, feather=options.get("feather", 0.2))


def by_function(images, copies, options, *, boxes=BOXES, index=OBJ_TO_IMG, alpha=None, source=None):
    """Copies of objects of images, laid over them by the function."""
    return kp.transplant_patches(
        images,
        copies.copies,
        copies.target,
        source=images if source is None else source,
        source_boxes=boxes[copies.donor].to(copies.copies),
        source_to_img=index[copies.donor],
        theta=copies.theta,
        alpha=matte_of(copies, options) if alpha is None else alpha,
        mode=options.get("resample", "bilinear"),
        align_corners=options.get("align_corners", False),
    )


def reach(copies, outline="box", align_corners=False):
    """The enclosing boxes (K, 4) of copies: corners, or ellipses, carried by theta's inverse, in loops."""
    found = np.zeros((len(copies.theta), 4))
    for k, (box, theta) in enumerate(zip(copies.copies.double().numpy(), copies.theta.double().numpy(), strict=True)):
        half, centre = (box[2:] - box[:2]) / 2, (box[2:] + box[:2]) / 2
        half_frame = half - 0.5 if align_corners else half
        linear = half_frame[:, None] * np.linalg.inv(theta[:, :2]) / half_frame  # of pixels
        assert np.allclose(theta[:, 2], 0)  # the place is the box's
        if outline == "box":
            corners = [linear @ (half * (sx, sy)) for sx in (-1, 1) for sy in (-1, 1)]
            extent = np.abs(corners).max(0)
        else:
            extent = np.sqrt(((linear * half) ** 2).sum(1))
        found[k] = [*(centre - extent), *(centre + extent)]
    return torch.from_numpy(found).float()


def is_plausible(counts, shares):
    """Pearson's chi-square test of counts against the shares that they should have."""
    shares = np.asarray(shares, dtype=float)
    counts = np.asarray(counts)
    assert (counts[shares == 0] == 0).all()
    counts, shares = counts[shares > 0], shares[shares > 0]
    if len(shares) == 1:
        return
    assert stats.chisquare(counts, counts.sum() * shares / shares.sum()).pvalue > LEAST_P


def is_uniform(values):
    """Kolmogorov and Smirnov's test of numbers that should be uniform in [0, 1]."""
    assert stats.kstest(np.asarray(values), "uniform").pvalue > LEAST_P


# --- pixels -----------------------------------------------------------------------------------------------------------

PIXELS = {
    "hard": {"matte": None},
    "soft": {},
    "softer": {"matte": "box", "feather": 0.7},
    "ellipses": {"matte": "ellipse", "align_corners": True},
    "nearest": {"matte": None, "resample": "nearest"},
    "align_corners": {"matte": None, "align_corners": True},
}
FROM = ("batch", "others", "same")


@pytest.mark.parametrize("donors", FROM)
@pytest.mark.parametrize("name", PIXELS)
def test_pixels_are_those_of_the_function(name, donors):
    options = {"matte": "mask", **PIXELS[name]}
    augmentation = paste(4, donors=donors, **WILD, **options)
    pasted = augmentation(pictures(), BOXES, OBJ_TO_IMG)
    copies = drawn(augmentation)
    assert torch.bincount(copies.target, minlength=3).tolist() == [4, 4, 0 if donors == "same" else 4]
    same(pasted, by_function(pictures(), copies, options))
    in_container = container(augmentation)(pictures(), PADDED)[0]
    same(in_container, by_function(pictures(), drawn(augmentation), options))


def test_the_scene_is_one_in_which_options_differ():
    """So that the comparison above can fail."""
    augmentation = paste(4, **WILD)
    augmentation(pictures(), BOXES, OBJ_TO_IMG)
    found = torch.stack([by_function(pictures(), drawn(augmentation), options) for options in PIXELS.values()])
    assert (torch.pdist(found.flatten(1)) > 0.5).all()


def test_one_object_is_copied_as_a_slice():
    """Of whole pixels, turned and mirrored, by slices; what is copied are the images as they came."""
    cases = {
        "as it is": ({}, lambda crop: crop, (37.0, 30.0), (33, 27)),
        "mirrored": ({"flip": 1.0}, lambda crop: crop.flip(-1), (37.0, 30.0), (33, 27)),
        "a quarter turn": ({"degrees": (90.0, 90.0)}, lambda crop: crop.rot90(-1, (-2, -1)), (37.0, 30.0), (34, 26)),
        "half a turn": ({"degrees": (180.0, 180.0)}, lambda crop: crop.flip(-1, -2), (37.0, 30.0), (33, 27)),
        "mirrored, then turned": (
            {"flip": 1.0, "degrees": (90.0, 90.0)},
            lambda crop: crop.flip(-1).rot90(-1, (-2, -1)),
            (37.0, 30.0),
            (34, 26),
        ),
        "twice as large": (
            {"scale": (2.0, 2.0), "resample": "nearest"},
            lambda crop: crop.repeat_interleave(2, -1).repeat_interleave(2, -2),
            (37.0, 30.0),
            (29, 24),
        ),
        "over itself": ({}, lambda crop: crop, (10.0, 9.0), (6, 6)),
    }
    x1, y1, x2, y2 = BOXES[0].tolist()
    for name, (options, change, centre, (left, top)) in cases.items():
        crop = change(pictures(1)[..., y1:y2, x1:x2])
        height, width = crop.shape[2:]
        expected = pictures(1)
        expected[..., top : top + height, left : left + width] = crop
        sequence = container(paste(1, place=at(centre), **options))
        pasted, boxes = sequence(pictures(1), PADDED[:1, :1])
        near(pasted, expected, 1e-5)
        label = torch.tensor([left, top, left + width - 1, top + height - 1]).float()
        near(boxes[0], torch.stack([PADDED[0, 0], label]), 1e-4)
        assert (expected != pictures(1)).any(), name


def test_small_copies_are_painted_over_large_ones():
    """One of each object, at one place: the small one is on top, wherever it is drawn."""
    orders = set()
    for seed in range(12):
        torch.manual_seed(seed)
        augmentation = paste(2, donors="same", place=at((40.0, 26.0), (40.0, 26.0)))
        pasted = augmentation(pictures(1), BOXES[:2], OBJ_TO_IMG[:2])
        donors = drawn(augmentation).donor.tolist()
        expected = pictures(1)
        for x1, y1, x2, y2 in BOXES[donors].tolist():
            left, top = 40 - (x2 - x1) // 2, 26 - (y2 - y1) // 2
            expected[..., top : top + y2 - y1, left : left + x2 - x1] = pictures(1)[..., y1:y2, x1:x2]
        near(pasted, expected, 1e-5)
        orders.add(tuple(donors))
    assert orders == {(0, 0), (1, 0), (1, 1)}  # never (0, 1)


def test_copies_of_the_size_that_they_are_painted_in_are_ordered():
    """The small object, five times as large, covers all of the large one, if it is not painted first."""
    ranges = {"scale": torch.tensor([[3.0, 3.0], [0.5, 0.5]])}
    for seed in range(12):
        torch.manual_seed(seed)
        augmentation = paste(2, donors="same", place=at((28.0, 20.0), (28.0, 20.0)), **ranges)
        augmentation(pictures(1), BOXES[:2], OBJ_TO_IMG[:2], classes=torch.tensor([0, 1]))
        sizes = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in reach(drawn(augmentation)).tolist()]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_of_other_dtypes(dtype):
    images = pictures(dtype=dtype)
    for options in ({"matte": None}, {"matte": "ellipse"}):
        augmentation = paste(4, **WILD, **options)
        pasted = augmentation(images, BOXES.to(torch.float64 if dtype == torch.float64 else torch.float32), OBJ_TO_IMG)
        assert pasted.dtype == dtype
        expected = by_function(images, drawn(augmentation), options)
        near(pasted, expected, 1e-3 if dtype == torch.float16 else 1e-9)
        assert (pasted != images).any()


def test_memory_format_is_kept():
    images = pictures().to(memory_format=torch.channels_last)
    assert paste()(images, BOXES, OBJ_TO_IMG).is_contiguous(memory_format=torch.channels_last)


def test_gradients_reach_all_that_is_seen_of_the_images():
    """Also donors, as the function says; and by hand: what is covered has none, what is copied has two."""
    weights = pictures(seed=3).double()
    augmentation = paste(4, **WILD, matte="ellipse")
    one, other = (pictures(dtype=torch.float64).requires_grad_() for _ in range(2))
    (augmentation(one, BOXES, OBJ_TO_IMG) * weights).sum().backward()
    (by_function(other, drawn(augmentation), {"matte": "ellipse"}) * weights).sum().backward()
    near(one.grad, other.grad, 1e-12)
    images = pictures(1).requires_grad_()
    paste(1, place=at((37.0, 30.0)))(images, BOXES[:1]).sum().backward()
    expected = torch.ones_like(images)
    expected[..., 5:11, 4:12] = 2
    expected[..., 27:33, 33:41] = 0
    near(images.grad, expected, 1e-5)


def test_instance_masks_say_what_is_copied():
    masks = torch.rand(3, HEIGHT, WIDTH) < 0.6
    for each in (masks, masks.float(), masks.to(torch.uint8)):
        torch.manual_seed(1)
        augmentation = paste(4, **WILD, matte="mask")
        pasted = augmentation(pictures(), BOXES, OBJ_TO_IMG, masks=each)
        copies = drawn(augmentation)
        near(pasted, by_function(pictures(), copies, {}, alpha=masks[copies.donor]), 1e-6)
    without = augmentation(pictures(), BOXES, OBJ_TO_IMG, masks=masks, matte="box")
    near(without, by_function(pictures(), drawn(augmentation), {"matte": "box"}), 1e-6)


# --- labels -----------------------------------------------------------------------------------------------------------


def with_copies(values, new, copies):
    """Loops: values (B, M, ...) with those of copies (K, ...) behind, zeros where an image has fewer."""
    most = max([0, *(copies.slot + 1).tolist()])
    behind = torch.zeros(len(values), most, *values.shape[2:], dtype=values.dtype)
    for k, (image, slot) in enumerate(zip(copies.target.tolist(), copies.slot.tolist(), strict=True)):
        behind[image, slot] = new[k]
    return torch.cat([values, behind], dim=1)


def inclusive_labels(copies, **options):
    found = reach(copies, **options)
    limits = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]).float()
    return found.clamp(min=0).minimum(limits) - INCLUSIVE


LABELS = {
    "hard": {},
    "soft": {"matte": "box"},
    "ellipses": {"matte": "ellipse"},
    "align_corners": {"align_corners": True},
}


@pytest.mark.parametrize("key", BOX_KEYS)
@pytest.mark.parametrize("name", LABELS)
def test_rows_are_appended_to_padded_boxes_and_classes(name, key):
    options = LABELS[name]
    augmentation = paste((1, 4), **WILD, **options)
    inputs = pictures(), BOX_KEYS[key](PADDED) * (PADDED != 0).any(-1).reshape(3, 2, *[1] * (2 if key == "bbox" else 1))
    _, boxes, classes = container(augmentation, ["input", key, "class"])(*inputs, PADDED_CLASSES)
    copies = drawn(augmentation)
    assert len(set(torch.bincount(copies.target, minlength=3).tolist())) > 1
    outline = "ellipse" if options.get("matte") == "ellipse" else "box"
    labels = inclusive_labels(copies, outline=outline, align_corners=options.get("align_corners", False))
    near(boxes, with_copies(inputs[1], BOX_KEYS[key](labels), copies), 1e-3)
    same(boxes[:, :2], inputs[1])
    same(classes, with_copies(PADDED_CLASSES, CLASSES[copies.donor], copies))


@pytest.mark.parametrize("key", BOX_KEYS)
def test_rows_are_appended_to_lists_without_gaps(key):
    augmentation = paste((0, 4), **WILD)
    lists = [BOX_KEYS[key](rows) for rows in LISTS]
    for seed in range(6):
        torch.manual_seed(seed)
        own = [torch.tensor([3, 7]), torch.tensor([5]), torch.zeros(0, dtype=torch.int64)]
        _, boxes, classes = container(augmentation, ["input", key, "class"])(pictures(), lists, own)
        copies = drawn(augmentation)
        for b in range(3):
            of_image = copies.target == b
            labels = BOX_KEYS[key](inclusive_labels(copies)[of_image])
            near(boxes[b], torch.cat([lists[b], labels]), 1e-3)
            same(boxes[b][: len(lists[b])], lists[b])
            same(classes[b], torch.cat([own[b], CLASSES[copies.donor[of_image]]]))


def test_boxes_objects_come_back_as_such():
    augmentation = paste(2)
    boxes = Boxes.from_tensor(PADDED[:2, :1], mode="xyxy_plus")
    _, found = container(augmentation)(pictures(2), boxes)
    near(
        found.to_tensor("xyxy_plus"),
        with_copies(PADDED[:2, :1], inclusive_labels(drawn(augmentation)), drawn(augmentation)),
        1e-3,
    )
    assert boxes.data.shape[1] == 1


def test_a_second_box_key_has_boxes_of_its_own():
    """A face in a body: turned by a quarter about the body's centre, by hand."""
    sequence = container(paste(1, degrees=(90.0, 90.0), place=at((40.0, 25.0))), ["input", "bbox_xyxy", "bbox_xywh"])
    bodies, faces = torch.tensor([[[8.0, 6, 19, 17]]]), torch.tensor([[[9.0, 6, 4, 3]]])  # 12 x 12, about (14, 12)
    _, found_bodies, found_faces = sequence(pictures(1), bodies, faces)
    near(found_bodies[0], torch.tensor([[8.0, 6, 19, 17], [34, 19, 45, 30]]), 1e-4)
    # Columns 1 to 4 and rows 0 to 2 of the body become columns 9 to 11 and rows 1 to 4.
    near(found_faces[0], torch.tensor([[9.0, 6, 4, 3], [43, 20, 3, 4]]), 1e-4)


def test_labels_of_copies_enclose_their_pixels():
    """Of white objects on black pictures, tight to a pixel."""
    images = torch.zeros(3, 1, HEIGHT, WIDTH)
    for (x1, y1, x2, y2), b in zip(BOXES.tolist(), OBJ_TO_IMG.tolist(), strict=True):
        images[b, :, y1:y2, x1:x2] = 1
    for seed in range(10):
        torch.manual_seed(seed)
        augmentation = paste(1, **WILD)
        pasted, boxes = container(augmentation)(images, PADDED)
        copies = drawn(augmentation)
        y, x = (pasted[2, 0] > 0.01).nonzero().T  # where nothing else is
        tight = torch.stack([x.min(), y.min(), x.max(), y.max()]).float()
        assert copies.target.tolist() == [0, 1, 2]
        near(boxes[2, 2], tight, 1.5)


CLASS_FORMS = [  # boxes, classes, what comes
    (PADDED[:1], torch.tensor([3, 7]), (2 + 2,)),
    (PADDED[:1], torch.tensor([[3, 7]]), (1, 2 + 2)),
    (PADDED[:1, :1], torch.tensor([3]), (1 + 2,)),
    (PADDED[:1, :1], torch.tensor([[3]]), (1, 1 + 2)),
    (PADDED[:2, :1], torch.tensor([[3], [5]]), (2, 1 + 2)),
    (PADDED[:2], PADDED_CLASSES[:2].float(), (2, 2 + 2)),
    (PADDED[:2], torch.rand(2, 2, 5), (2, 2 + 2, 5)),  # one score a class
]


@pytest.mark.parametrize(("boxes", "classes", "shape"), CLASS_FORMS)
def test_classes_come_in_any_form_that_has_one_a_box(boxes, classes, shape):
    augmentation = paste(2)
    found = container(augmentation, [*BOX, "class"])(pictures(len(boxes)), boxes, classes)[2]
    copies = drawn(augmentation)
    own = classes if classes.ndim > 1 else classes[None]
    objects = (boxes != 0).any(-1).nonzero().tolist()  # image and row of each
    new = torch.stack([own[tuple(objects[d])] for d in copies.donor.tolist()])
    assert found.shape == shape
    same(found if classes.ndim > 1 else found[None], with_copies(own, new, copies))


@pytest.mark.parametrize("classes", [torch.tensor([1, 2, 3]), torch.zeros(3, 5, dtype=torch.int64), torch.tensor(3)])
def test_one_class_an_image_is_an_error(classes):
    with pytest.raises(ValueError, match=r"^class: expected one label a box, \(3, 2\).*got"):
        container(paste(), [*BOX, "class"])(pictures(), PADDED, classes)


def test_masks_of_classes_get_the_pixels_of_donors():
    masks = torch.randint(1, 9, (3, 2, HEIGHT, WIDTH))
    for dtype in (torch.int64, torch.uint8, torch.float32):
        augmentation = paste(4, **WILD)
        _, found, _ = container(augmentation, ["input", "mask", "bbox_xyxy"])(pictures(), masks.to(dtype), PADDED)
        expected = by_function(masks.float(), drawn(augmentation), {"matte": None, "resample": "nearest"})
        same(found, expected.to(dtype))
        assert (found != masks).any()


def test_masks_of_classes_have_hard_edges():
    masks = torch.full((1, 1, HEIGHT, WIDTH), 1.0)
    masks[..., 5:11, 4:12] = 7
    for matte in ("mask", "box", "ellipse"):
        augmentation = paste(3, **WILD, feather=1.0, matte=matte)
        found = container(augmentation, ["input", "mask", "bbox_xyxy"])(pictures(1), masks, PADDED[:1, :1])[1]
        assert set(found.unique().tolist()) == {1.0, 7.0}
        assert (found == 7).sum() > 60


def test_masks_of_classes_show_where_a_banks_copies_have_none():
    bank = [pictures(1)[0]], [{"boxes": BOXES[:1].float()}]
    masks = torch.ones(1, 1, HEIGHT, WIDTH)
    for fill, value in ((None, 0.0), (255, 255.0)):
        augmentation = paste(1, donors=bank, place=at((37.0, 30.0)))
        sequence = container(augmentation, ["input", "mask", "bbox_xyxy"], mask_fill=fill)
        found = sequence(pictures(1, seed=5), masks, torch.zeros(1, 0, 4))[1]
        expected = masks.clone()
        expected[..., 27:33, 33:41] = value
        same(found, expected)


def test_masks_as_a_list_are_one_clear_error():
    masks = [torch.ones(1, HEIGHT, WIDTH)] * 3
    with pytest.raises(ValueError, match=r"^mask: expected a tensor \(B, C, H, W\).*got a list"):
        container(paste(), ["input", "mask", "bbox_xyxy"])(pictures(), masks, PADDED)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("matte", ["mask", None, "ellipse"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_instance_masks_get_channels_and_lose_what_copies_cover(dtype, matte, listed):
    masks = torch.zeros(3, 2, HEIGHT, WIDTH)
    for n, (x1, y1, x2, y2) in enumerate(BOXES.tolist()):
        masks[OBJ_TO_IMG[n], ROW[n], y1:y2, x1:x2] = torch.rand(y2 - y1, x2 - x1) < 0.7
    augmentation = paste((1, 4), **WILD, matte=matte)
    sequence = container(augmentation, ["input", "mask", "bbox_xyxy"], instance_masks=True)
    boxes = LISTS if listed else PADDED
    pasted, found, rows = sequence(pictures(), masks.to(dtype), boxes)
    copies = drawn(augmentation)
    # Loops in painting order: each copy's mask, and what it paints, by the function, alone in a picture.
    own = [masks[b].clone() for b in range(3)]
    new = [[] for _ in range(3)]
    for k in range(len(copies.donor)):
        donor, b = copies.donor[k], int(copies.target[k])
        read = masks[OBJ_TO_IMG[donor], ROW[donor]]
        one = {
            "source_boxes": BOXES[donor][None].float(),
            "theta": copies.theta[k : k + 1],
            "mode": "nearest",
        }
        shape = hard_mattes("ellipse") if matte == "ellipse" else None
        alpha = read[None] if matte == "mask" else shape
        blank, box = torch.zeros(1, 1, HEIGHT, WIDTH), copies.copies[k : k + 1]
        moved = kp.transplant_patches(blank, box, source=read[None, None], alpha=alpha, **one)[0, 0]
        covers = kp.transplant_patches(blank, box, source=torch.ones_like(blank), alpha=alpha, **one)[0, 0] > 0.5
        own[b][:, covers] = 0
        for mask in new[b]:
            mask[covers] = 0
        new[b].append(moved)
    most = max(map(len, new))
    for b in range(3):
        if listed:
            count = len(LISTS[b])
            expected = torch.stack([*own[b][:count], *new[b]])
            assert len(rows[b]) == len(expected)
            same(found[b][: len(expected)], expected.to(dtype))
            assert not found[b][len(expected) :].any()
        else:
            zeros = [torch.zeros(HEIGHT, WIDTH)] * (most - len(new[b]))
            same(found[b], torch.stack([*own[b], *new[b], *zeros]).to(dtype))
    if matte == "mask":
        alpha = torch.stack([masks[OBJ_TO_IMG[d], ROW[d]] for d in copies.donor.tolist()]).bool()
        near(pasted, by_function(pictures(), copies, {}, alpha=alpha), 1e-6)
    assert found.dtype == dtype


def test_a_second_step_copies_copies():
    """Rows that were appended are objects, with classes and masks."""
    first, second = paste(2, donors="same"), paste(3, donors="same", flip=1.0)
    sequence = kp.PatchAugmentationSequential(first, second, data_keys=["input", "mask", "bbox_xyxy", "class"])
    masks = torch.randint(0, 9, (3, 1, HEIGHT, WIDTH)).float()
    pasted, painted, boxes, classes = sequence(pictures(), masks, PADDED, PADDED_CLASSES)
    draw, copies = second._params, drawn(second)
    assert draw["boxes"].shape[1] == 3 + 4
    assert (copies.donor > 2).any()
    middle, labels, index = drawn(first), draw["boxes"][0], draw["obj_to_img"][0]
    images = by_function(pictures(), middle, {"matte": None})
    same(pasted, by_function(images, copies, {"matte": None}, boxes=labels, index=index))
    words = {"matte": None, "resample": "nearest"}
    layers = by_function(masks, middle, words)
    same(painted, by_function(layers, copies, words, boxes=labels, index=index))
    rows = with_copies(PADDED_CLASSES, CLASSES[middle.donor], middle)
    ranks = [
        int((index[:d] == index[d]).sum()) for d in copies.donor.tolist()
    ]  # no padding before the rows of an image
    ranks = [r if index[d] == 0 or r == 0 else r + 1 for r, d in zip(ranks, copies.donor.tolist(), strict=True)]
    new = torch.stack([rows[index[d], r] for d, r in zip(copies.donor.tolist(), ranks, strict=True)])
    same(classes, with_copies(rows, new, copies))
    assert boxes.shape == (3, 2 + 2 + 3, 4)


def test_steps_before_and_after_move_what_is_copied():
    """A flip, a copy, a flip: the copy of the mirrored object at a mirrored place."""
    before, after = (K.RandomHorizontalFlip(p=1.0) for _ in range(2))  # Kornia takes a module once
    augmentation = paste(1, place=at((WIDTH - 37.0, 30.0)))
    sequence = kp.PatchAugmentationSequential(before, augmentation, after, data_keys=[*BOX, "class"])
    pasted, boxes, classes = sequence(pictures(1), PADDED[:1, :1], torch.tensor([[3]]))
    expected = pictures(1)
    expected[..., 27:33, 33:41] = pictures(1)[..., 5:11, 4:12]
    near(pasted, expected, 1e-5)
    near(boxes[0, 1], torch.tensor([33.0, 27, 40, 32]), 1e-4)
    same(classes, torch.tensor([[3, 3]]))


def test_in_a_nested_container_of_kornias_labels_get_rows():
    augmentation = paste(2)
    inner = K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), augmentation)
    sequence = kp.PatchAugmentationSequential(inner, data_keys=[*BOX, "class"])
    pasted, boxes, classes = sequence(pictures(), PADDED, PADDED_CLASSES)
    copies, flipped = drawn(augmentation), pictures().flip(-1)
    mirrored = torch.stack([WIDTH - BOXES[:, 2], BOXES[:, 1], WIDTH - BOXES[:, 0], BOXES[:, 3]], dim=1)
    near(pasted, by_function(flipped, copies, {"matte": None}, boxes=mirrored), 1e-5)
    near(boxes[:, 2:], with_copies(boxes[:, :0], inclusive_labels(copies), copies), 1e-3)
    same(classes, with_copies(PADDED_CLASSES, CLASSES[copies.donor], copies))


# --- which objects are copied -----------------------------------------------------------------------------------------

MANY = 300  # images, and 10 copies each
SMALL = (12, 16)


def draws(augmentation, boxes=None, index=None, count=MANY, size=SMALL, **given):
    """The draw of a call on many tiny images, each with the objects given or with three."""
    if boxes is None:
        boxes = torch.tensor([[1, 1, 5, 4], [2, 3, 9, 8], [6, 6, 9, 12]]).repeat(count, 1)
        index = torch.arange(count).repeat_interleave(3)
    augmentation(torch.zeros(count, 1, *size), boxes, index, **given)
    return drawn(augmentation)


def test_donors_are_uniform_over_the_batch_the_others_or_the_same_image():
    boxes = torch.tensor([[1, 1, 5, 4], [2, 3, 9, 8], [6, 6, 9, 12], [0, 0, 2, 2], [3, 3, 7, 7]])
    index = torch.tensor([0, 0, 0, 1, 2])
    for donors, allowed in {
        "batch": [[1, 1, 1, 1, 1]] * 4,
        "others": [[0, 0, 0, 1, 1], [1, 1, 1, 0, 1], [1, 1, 1, 1, 0], [1] * 5],
        "same": [[1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1], None],
    }.items():
        copies = draws(paste(600, donors=donors), boxes, index, count=4)
        for image, shares in enumerate(allowed):
            counts = torch.bincount(copies.donor[copies.target == image], minlength=5)
            assert counts.sum() == (0 if shares is None else 600)
            if shares is not None:
                is_plausible(counts, shares)


def test_counts_are_uniform_over_their_range():
    for count, shares in {(2, 5): [0, 0, 1, 1, 1, 1], (0, 1): [1, 1], 3: [0, 0, 0, 1], (0, 0): [1], 0: [1]}.items():
        copies = draws(paste(count))
        found = torch.bincount(copies.target, minlength=MANY)
        is_plausible(torch.bincount(found, minlength=len(shares)), shares)


CLASS_WEIGHTS = {  # options, and the shares of donors of classes 0 0 0 1 1 4
    "none": ({}, [1, 1, 1, 1, 1, 1]),
    "some classes": ({"classes": (1, 4)}, [0, 0, 0, 1, 1, 1]),
    "all alike": ({"class_weights": {}}, [1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1]),
    "rare ones more": ({"class_weights": {4: 5, 1: 2}}, [1 / 3, 1 / 3, 1 / 3, 1, 1, 5]),
    "one never": ({"class_weights": {1: 0.0}}, [1 / 3, 1 / 3, 1 / 3, 0, 0, 1]),
    "of what can be copied": ({"class_weights": {0: 1, 4: 3}, "classes": [0, 4]}, [1 / 3, 1 / 3, 1 / 3, 0, 0, 3]),
    "of a size": ({"class_weights": {0: 2, 1: 3}, "sizes": (2.5, 4.5)}, [0, 0, 2, 3, 0, 0]),
}
SIX_CLASSES = torch.tensor([0, 0, 0, 1, 1, 4])
SIX = torch.tensor([[1, 1, 3, 3], [0, 0, 8, 8], [1, 1, 4, 5], [2, 2, 6, 6], [0, 1, 2, 2], [1, 0, 7, 8]])


@pytest.mark.parametrize("from_bank", [False, True])
@pytest.mark.parametrize("name", CLASS_WEIGHTS)
def test_class_weights_and_filters_are_kept(name, from_bank):
    options, shares = CLASS_WEIGHTS[name]
    if from_bank:
        bank = (
            [torch.zeros(1, *SMALL)] * 2,
            [
                {"boxes": SIX[:2].float(), "labels": SIX_CLASSES[:2]},
                {"boxes": SIX[2:].float(), "labels": SIX_CLASSES[2:]},
            ],
        )
        copies = draws(paste(1000, donors=bank, **options), SIX[:1], torch.tensor([0]), count=3)
    else:
        index = torch.tensor([0, 1, 1, 0, 2, 2])
        copies = draws(paste(1000, **options), SIX, index, count=3, classes=SIX_CLASSES)
    is_plausible(torch.bincount(copies.donor, minlength=6), shares)


def test_sizes_are_square_roots_of_areas_ends_included():
    """Of 4, 64, 12, 16, 2 and 48 pixels."""
    for sizes, allowed in {
        (2.0, 4.0): [0, 2, 3],
        (0, 1.5): [4],
        (6.9, math.inf): [1, 5],
        (8, 8): [1],
        (9, 10): [],
    }.items():
        copies = draws(paste(100, sizes=sizes), SIX, torch.zeros(6, dtype=torch.int64), count=1)
        assert copies.donor.unique().tolist() == allowed


def test_class_weights_are_of_the_donors_that_an_image_has():
    """Of others: image 0 has classes 1 and 4 to copy from, image 1 class 0, and image 2 all."""
    index = torch.tensor([0, 0, 0, 1, 1, 1])
    augmentation = paste(800, donors="others", class_weights={4: 3})
    copies = draws(augmentation, SIX, index, count=3, classes=SIX_CLASSES)
    for image, shares in enumerate([[0, 0, 0, 0.5, 0.5, 3], [1, 1, 1, 0, 0, 0], [1 / 3] * 3 + [0.5, 0.5, 3]]):
        is_plausible(torch.bincount(copies.donor[copies.target == image], minlength=6), shares)


def test_classes_come_by_bind_a_call_or_a_class_key():
    for call in (
        lambda a: a(pictures(), BOXES, OBJ_TO_IMG, classes=CLASSES),
        lambda a: a.bind(BOXES, obj_to_img=OBJ_TO_IMG, classes=CLASSES)(pictures()),
        lambda a: container(a, [*BOX, "class"])(pictures(), PADDED, PADDED_CLASSES),
        lambda a: container(a.bind(classes=CLASSES))(pictures(), PADDED),
    ):
        augmentation = paste(5, classes=[7])
        call(augmentation)
        assert drawn(augmentation).donor.tolist() == [1] * 15
    with pytest.raises(ValueError, match=r"^classes: which objects are copied depends on their class.*bind"):
        paste(classes=[7])(pictures(), BOXES, OBJ_TO_IMG)
    with pytest.raises(ValueError, match=r"^classes: .*3"):
        paste(classes=[7])(pictures(), BOXES, OBJ_TO_IMG, classes=CLASSES[:2])


def test_ranges_may_have_a_row_a_class():
    augmentation = paste(30, degrees=[[0.0, 0.0], [90.0, 90.0]])
    copies = draws(augmentation, count=20, classes=torch.tensor([0, 1, 0]).repeat(20))
    turned = copies.theta[:, 0, 0].abs() < 0.5
    same(turned, copies.donor % 3 == 1)
    assert turned.any()


# --- how they are drawn -----------------------------------------------------------------------------------------------


def in_pixels(copies):
    """The matrices (K, 2, 2) that carry content, in pixels."""
    half = (copies.copies[:, 2:] - copies.copies[:, :2]).double() / 2
    return torch.linalg.inv(copies.theta[..., :2].double()) * half[:, :, None] / half[:, None]


def test_angles_scales_and_flips_have_their_distributions():
    copies = draws(paste(10, degrees=(-20.0, 70.0), scale=(0.5, 1.5), flip=0.3), size=(40, 40))
    linear = in_pixels(copies)
    mirrored = torch.linalg.det(linear) < 0
    is_plausible([mirrored.sum(), (~mirrored).sum()], [0.3, 0.7])
    upright = linear * torch.where(mirrored, -1.0, 1.0)[:, None, None] * torch.tensor([1.0, 1.0])
    upright = torch.cat([linear[..., :1] * torch.where(mirrored, -1.0, 1.0)[:, None, None], linear[..., 1:]], dim=-1)
    angle = torch.rad2deg(torch.atan2(upright[:, 1, 0], upright[:, 0, 0]))  # clockwise as displayed
    is_uniform((angle + 20) / 90)
    is_uniform(upright[:, :, 0].norm(dim=1) - 0.5)
    near(torch.linalg.det(upright), upright[:, :, 0].norm(dim=1) * upright[:, :, 1].norm(dim=1), 1e-4)
    for flip in (0.0, 1.0):
        copies = draws(paste(2, flip=flip))
        assert (torch.linalg.det(in_pixels(copies)) < 0).float().mean() == flip


def centres_of(copies):
    return (copies.copies[:, :2] + copies.copies[:, 2:]) / 2


def test_places_are_uniform_where_what_is_painted_of_a_copy_fits():
    copies = draws(paste(10, degrees=180.0, scale=(0.5, 1.5)), size=(20, 30))
    found, limits = reach(copies), torch.tensor([30.0, 20.0])
    sides = found[:, 2:] - found[:, :2]
    assert len(copies.donor) == 10 * MANY
    share = found[:, :2] / (limits - sides)
    for axis in range(2):
        is_uniform(share[:, axis])
    bins = (share * 4).floor().clamp(0, 3) @ torch.tensor([1.0, 4.0])
    is_plausible(torch.bincount(bins.long(), minlength=16), [1] * 16)
    assert (found >= -1e-3).all()
    assert (found <= limits.repeat(2) + 1e-3).all()


def test_places_are_uniform_over_what_is_left_by_objects():
    """The left half, and a strip at the bottom, may not be covered."""
    there = torch.tensor([[0, 0, 8, 12], [8, 9, 16, 12]]).repeat(MANY * 4, 1)
    bank = [torch.zeros(1, 4, 4)], [{"boxes": torch.tensor([[0.0, 0, 2, 3]])}]
    augmentation = paste(1, donors=bank, max_cover=0.0, tries=60)
    copies = draws(augmentation, there, torch.arange(MANY * 4).repeat_interleave(2), count=MANY * 4)
    assert len(copies.donor) > 0.98 * MANY * 4
    x, y = copies.copies[:, :2].unbind(1)
    same(torch.stack([x, y]), torch.stack([x, y]).round())  # whole pixels from where the donor is
    is_plausible(torch.bincount(x.long() - 8), [1] * 7)
    is_plausible(torch.bincount(y.long()), [1] * 7)


def test_places_are_drawn_from_a_density():
    """Per pixel, in each where the donor's centre lies in its own; where a copy would reach out none is left."""
    density = torch.rand(*SMALL, generator=torch.Generator().manual_seed(3)) ** 3
    density[3:6, 4:9] = 0
    bank = [torch.zeros(1, 4, 4)], [{"boxes": torch.tensor([[0.5, 0.25, 2.5, 2.25]])}]
    for place in (density, density.double() * 1e6):
        copies = draws(
            paste(20, donors=bank, place=place, tries=4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
        )
        centres = centres_of(copies)
        low, high = centres >= 1, centres <= torch.tensor([15.0, 11.0])
        assert (~low & (centres < 1 - 1e-3)).sum() + (~high & (centres > torch.tensor([15.0, 11.0]) + 1e-3)).sum() == 0
        centres = centres[(low & high).all(1)]  # all but one that reaches out by a rounding
        pixel = centres.floor().long()
        counts = torch.bincount(pixel[:, 1] * 16 + pixel[:, 0], minlength=12 * 16).reshape(SMALL)
        inside = torch.zeros(SMALL, dtype=torch.bool)
        inside[1:-1, 1:-1] = True  # centres are half and a quarter of a pixel from the corner of theirs
        assert not counts[~inside].any()
        is_plausible(counts[inside], density[inside])
        near(centres % 1, torch.tensor([[0.5, 0.25]]).expand_as(centres), 1e-4)


def test_what_is_neither_turned_nor_scaled_keeps_its_bits():
    """Each copy is a slice of its image, of fractional boxes too."""
    boxes = BOXES.float() + torch.rand(len(BOXES), 4) * 0.4
    augmentation = paste(1, max_cover=0.0, matte=None)
    pasted = augmentation(pictures(), boxes, OBJ_TO_IMG)
    copies = drawn(augmentation)
    assert len(copies.donor)
    for k, donor in enumerate(copies.donor.tolist()):
        low, high = boxes[donor, :2].ceil().long(), boxes[donor, 2:].floor().long()
        shift = (copies.copies[k, :2] - boxes[donor, :2]).round().long()
        (x1, y1), (x2, y2) = low.tolist(), high.tolist()
        (u1, v1), (u2, v2) = (low + shift).tolist(), (high + shift).tolist()
        there = pictures()[OBJ_TO_IMG[donor], :, y1:y2, x1:x2]
        near(pasted[copies.target[k], :, v1:v2, u1:u2], there, 1e-5)


def test_a_density_of_one_pixel_says_where():
    density = torch.zeros(HEIGHT, WIDTH)
    density[22, 31] = 1e-3
    augmentation = paste(5, place=density)
    augmentation(pictures(), BOXES, OBJ_TO_IMG)
    same(centres_of(drawn(augmentation)).floor(), torch.tensor([[31.0, 22.0]]).expand(15, 2))


def test_a_density_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r"^place: expected a density of the images' size \(40, 56\), got \(40, 55\)"):
        paste(place=torch.ones(40, 55))(pictures(), BOXES, OBJ_TO_IMG)


def test_a_function_is_told_what_there_is_to_place_and_where():
    calls = []

    def place(noise, sizes, size, images):
        calls.append((noise, sizes, size, images))
        return noise * torch.tensor([10.0, 8.0]) + torch.tensor([23.0, 16.0])

    augmentation = paste(2, place=place, tries=5, degrees=(90.0, 90.0), scale=(0.5, 0.5))
    flip = K.RandomHorizontalFlip(p=1.0)
    kp.PatchAugmentationSequential(flip, augmentation, data_keys=BOX)(pictures(), PADDED)
    augmentation(pictures(), BOXES, OBJ_TO_IMG)
    for (noise, sizes, size, images), expected in zip(calls, (pictures().flip(-1), pictures()), strict=True):
        assert noise.shape == (3, 2, 5, 2)
        assert noise.min() >= 0
        assert noise.max() < 1
        assert noise.unique().numel() == noise.numel()
        assert size.tolist() == [HEIGHT, WIDTH]
        same(images, expected)
        assert sizes.shape == (3, 2, 2)
    copies = drawn(augmentation)
    own = (BOXES[:, 2:] - BOXES[:, :2])[copies.donor].flip(1) / 2  # width and height, of a quarter turn, half as large
    near(calls[1][1].flatten(0, 1), own, 1e-4)
    near(centres_of(copies), place(calls[1][0][:, :, 0], None, None, None).flatten(0, 1), 1e-4)


def test_places_of_a_function_are_tried_in_turn():
    """Beyond the image, over an object, over the copy before, and then where there is room."""
    tries = torch.tensor([[1.0, 20], [8, 8], [50, 30], [50, 15]])

    def place(noise, sizes, size, images):
        return tries.expand_as(noise)

    augmentation = paste(3, place=place, tries=4, max_cover=0.0)
    pasted, boxes = container(augmentation)(pictures(1), PADDED[:1, :1])
    near(boxes[0], torch.tensor([[4.0, 5, 11, 10], [46, 27, 53, 32], [46, 12, 53, 17]]), 1e-4)
    same(pasted[..., 27:33, 46:54], pasted[..., 12:18, 46:54])


WRONG_PLACES = [
    lambda noise, *_: noise[..., 0],
    lambda noise, *_: noise.long(),
    lambda *_: None,
    lambda noise, *_: noise[:1],
]


@pytest.mark.parametrize("place", WRONG_PLACES)
def test_a_function_that_returns_no_centres_is_named(place):
    with pytest.raises(
        ValueError, match=r"^place: expected the function to return floating centres of shape \(3, 3, 10, 2\)"
    ):
        paste(place=place)(pictures(), BOXES, OBJ_TO_IMG)


def test_what_is_larger_than_the_image_is_left_out():
    bank = [pictures(1, seed=2, size=(80, 90))[0]], [{"boxes": torch.tensor([[0.0, 0, 80, 10], [0, 0, 10, 50]])}]
    images, boxes = container(paste(5, donors=bank))(pictures(), PADDED)
    same(images, pictures())
    same(boxes, PADDED)
    images, boxes = container(paste(5, donors=bank, scale=(0.5, 0.5)))(pictures(), PADDED)
    assert boxes.shape == (3, 7, 4)


def test_a_copy_as_large_as_the_image_fits_exactly():
    bank = [pictures(1, seed=2)[0]], [{"boxes": torch.tensor([[0.0, 0, WIDTH, HEIGHT]])}]
    near(paste(1, donors=bank)(pictures(), BOXES, OBJ_TO_IMG), pictures(1, seed=2).expand(3, -1, -1, -1), 1e-5)


def test_what_finds_no_place_is_left_out_with_its_labels():
    whole = torch.tensor([[[0.0, 0, WIDTH - 1, HEIGHT - 1], [4, 5, 11, 10]]]).expand(2, 2, 4)
    augmentation = paste(4, max_cover=0.01, sizes=(0, 20), donors="same")
    images, boxes, classes = container(augmentation, [*BOX, "class"])(pictures(2), whole, torch.ones(2, 2))
    same(images, pictures(2))
    same(boxes, whole)
    same(classes, torch.ones(2, 2))


# --- max_cover --------------------------------------------------------------------------------------------------------


def share_covered(box, above):
    """The share of a box that lies in the union of others, by the grid of all their edges."""
    low, high = np.maximum(above[:, :2], box[:2]), np.minimum(above[:, 2:], box[2:])
    there = (high > low).all(1)
    low, high = low[there], high[there]
    if not len(low):
        return 0.0
    x = np.unique(np.concatenate([low[:, 0], high[:, 0]]))
    y = np.unique(np.concatenate([low[:, 1], high[:, 1]]))
    middle_x, middle_y = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2
    in_x = (middle_x > low[:, :1]) & (middle_x < high[:, :1])
    in_y = (middle_y > low[:, 1:]) & (middle_y < high[:, 1:])
    union = (in_y[:, :, None] & in_x[:, None]).any(0)
    return (union * np.outer(np.diff(y), np.diff(x))).sum() / np.prod(box[2:] - box[:2])


def test_the_share_covered_of_a_worked_case():
    above = np.array([[0.0, 0, 5, 4], [4, 2, 8, 8], [20, 20, 30, 30]])
    assert share_covered(np.array([2.0, 2, 12, 12]), above) == pytest.approx((3 * 2 + 4 * 6 - 1 * 2) / 100)
    assert share_covered(np.array([12.0, 2, 14, 12]), above) == 0


COVERS = [
    (0.0, {}, 10),
    (0.1, {"degrees": 180.0, "scale": (0.5, 1.5)}, 10),
    (0.2, {"degrees": 45.0, "matte": "ellipse", "shear": 20.0}, 3),
    (0.5, {"scale": (0.3, 2.0), "flip": 0.5}, 10),
    (0.9, {"degrees": 180.0}, 10),
]


@pytest.mark.parametrize(("max_cover", "options", "tries"), COVERS)
def test_no_box_is_covered_by_more_than_max_cover(max_cover, options, tries):
    """100 images, 12 copies wanted of each, in a crowd; by the union of what is painted above each box."""
    batch, size = 100, (48, 64)
    generator = torch.Generator().manual_seed(5)
    sides = 4 + 14 * torch.rand(batch, 4, 2, generator=generator)
    corner = (torch.tensor([64.0, 48.0]) - sides) * torch.rand(batch, 4, 2, generator=generator)
    there = torch.cat([corner, corner + sides], dim=-1).flatten(0, 1)
    augmentation = paste(12, max_cover=max_cover, tries=tries, **options)
    copies = draws(augmentation, there, torch.arange(batch).repeat_interleave(4), batch, size)
    found = reach(copies, "ellipse" if options.get("matte") == "ellipse" else "box").double().numpy()
    assert (found >= -1e-3).all()
    assert (found <= np.array([64, 48, 64, 48]) + 1e-3).all()
    assert batch < len(found) < 12 * batch  # some find none
    most = 0.0
    for b in range(batch):
        above = found[copies.target.numpy() == b]
        for box in there[4 * b : 4 * b + 4].double().numpy():
            most = max(most, share_covered(box, above))
        for k, box in enumerate(above):
            most = max(most, share_covered(box, above[k + 1 :]))
    assert most <= max_cover + 1e-4
    assert most >= 0.9 * max_cover  # it is used


def test_max_cover_of_1_lets_everything_be_covered():
    copies = draws(paste(10))
    assert len(copies.donor) == 10 * MANY


def test_copies_stay_in_the_image_also_with_another_matte_for_one_call():
    """A box reaches further than the ellipse in it."""
    augmentation = paste(20, matte="ellipse", degrees=(45.0, 45.0))
    augmentation(pictures(), BOXES, OBJ_TO_IMG, matte=None)
    found = reach(drawn(augmentation))
    assert (found >= -1e-3).all()
    assert (found <= torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]) + 1e-3).all()


# --- a bank -----------------------------------------------------------------------------------------------------------

BANK_BOXES = [  # whole, fractional and at the borders of pictures of several sizes; one picture without
    torch.tensor([[2.0, 3, 9, 12], [0, 0, 6, 5], [14, 7, 20, 15]]),
    torch.zeros(0, 4),
    torch.tensor([[1.3, 2.6, 8.7, 7.2], [5.0, 0.5, 12.0, 8.0]]),
]
BANK_SIZES = [(15, 20), (9, 9), (8, 12)]
BANK_LABELS = [torch.tensor([2, 4, 6]), torch.zeros(0, dtype=torch.int64), torch.tensor([1, 4])]


def a_bank(masks=False, labels=True, boxes=BANK_BOXES, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(9)
    images = [torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8) for size in BANK_SIZES]
    targets = [{"boxes": rows} for rows in boxes]
    for target, size, classes in zip(targets, BANK_SIZES, BANK_LABELS, strict=True):
        if labels:
            target["labels"] = classes[: len(target["boxes"])]
        if masks:
            target["masks"] = torch.rand(len(target["boxes"]), *size, generator=generator) < 0.6
    return [image if dtype == torch.uint8 else image.to(dtype) / 255 for image in images], targets


def by_bank(images, copies, bank, options):
    """Copy by copy, each read from its own picture by the function."""
    donors = [(p, r) for p, target in enumerate(bank[1]) for r in range(len(target["boxes"]))]
    canvas = images
    for k in range(len(copies.donor)):
        picture, row = donors[copies.donor[k]]
        source, target = bank[0][picture], bank[1][picture]
        alpha = target["masks"][row : row + 1] if "masks" in target and options.get("matte", "mask") == "mask" else None
        one = SimpleNamespace(copies=copies.copies[k : k + 1])
        canvas = kp.transplant_patches(
            canvas,
            one.copies,
            copies.target[k : k + 1],
            source=(source.to(images.dtype) / (255 if source.dtype == torch.uint8 else 1))[None],
            source_boxes=target["boxes"][row : row + 1],
            theta=copies.theta[k : k + 1],
            alpha=matte_of(one, options) if alpha is None else alpha,
            mode=options.get("resample", "bilinear"),
        )
    return canvas


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["hard", "soft", "nearest", "ellipses"])
def test_copies_of_a_bank_are_read_from_their_own_pictures(name, dtype, masks):
    options = {"matte": "mask", **PIXELS[name], "align_corners": False}
    bank = a_bank(masks, dtype=dtype)
    augmentation = paste(8, donors=bank, **WILD, **options)
    pasted = augmentation(pictures(), BOXES, OBJ_TO_IMG)
    copies = drawn(augmentation)
    assert copies.donor.unique().tolist() == [0, 1, 2, 3, 4]
    near(pasted, by_bank(pictures(), copies, bank, options), 2e-5)


def test_objects_of_a_bank_that_reach_out_of_their_pictures_show_no_neighbour():
    """Their boxes end at the picture's edge: what lies beyond is not read, nor the object beside it on a sheet."""
    boxes = [torch.tensor([[-4.0, 3, 9, 12], [0, -3, 6, 5], [14, 7, 26, 19]]), torch.zeros(0, 4), BANK_BOXES[2] + 4]
    for masks in (False, True):
        bank = a_bank(masks, boxes=boxes)
        augmentation = paste(8, donors=bank, scale=(0.8, 1.5), degrees=45.0, matte="mask" if masks else None)
        pasted = augmentation(pictures(), BOXES, OBJ_TO_IMG)
        options = {"matte": "mask" if masks else None}
        sides = [torch.tensor([width, height, width, height]) for height, width in BANK_SIZES]
        inside = [{**t, "boxes": t["boxes"].clamp(min=0).minimum(side)} for t, side in zip(bank[1], sides, strict=True)]
        near(pasted, by_bank(pictures(), drawn(augmentation), (bank[0], inside), options), 2e-5)


def test_a_banks_labels_and_masks_are_appended():
    bank = a_bank(masks=True)
    augmentation = paste(6, donors=bank, place=at(*[(8.0 + 9 * k, 30.0) for k in range(6)]), matte="mask")
    keys = ["input", "mask", "bbox_xyxy", "class"]
    masks = torch.ones(3, 2, HEIGHT, WIDTH, dtype=torch.uint8)
    _, found, boxes, classes = container(augmentation, keys, instance_masks=True)(
        pictures(), masks, PADDED, PADDED_CLASSES
    )
    copies = drawn(augmentation)
    same(classes, with_copies(PADDED_CLASSES, torch.cat(BANK_LABELS)[copies.donor], copies))
    near(boxes, with_copies(PADDED, inclusive_labels(copies), copies), 1e-3)
    flat = torch.cat([target["boxes"] for target in bank[1]])
    donors = [(p, r) for p, target in enumerate(bank[1]) for r in range(len(target["boxes"]))]
    above = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    for k in reversed(range(len(copies.donor))):  # the topmost first
        picture, row = donors[copies.donor[k]]
        mask = bank[1][picture]["masks"][row].float()[None, None]
        blank = torch.zeros(1, 1, HEIGHT, WIDTH)
        words = {"source_boxes": flat[copies.donor[k]][None], "theta": copies.theta[k : k + 1], "mode": "nearest"}
        moved = kp.transplant_patches(blank, copies.copies[k : k + 1], source=mask, **words)[0, 0] > 0.5
        b = copies.target[k]
        same(found[b, 2 + copies.slot[k]], (moved & ~above[b]).to(torch.uint8))
        above[b] |= moved
    same(found[:, :2], (~above[:, None]).expand(-1, 2, -1, -1).to(torch.uint8))


def test_a_bank_keeps_labels_with_their_objects_where_some_have_no_area():
    boxes = torch.tensor(
        [[2.0, 3, 2, 12], [0, 0, 6, 5], [30, 7, 40, 15], [9, 9, 15, 13]]
    )  # no width; beside the picture
    target = {"boxes": boxes, "labels": torch.tensor([1, 2, 3, 4])}
    augmentation = paste(10, donors=([pictures(1, size=(15, 20))[0]], [target]))
    _, rows, classes = container(augmentation, [*BOX, "class"])(pictures(), PADDED, PADDED_CLASSES)
    sides = (rows[:, 2:, 2:] - rows[:, 2:, :2] + 1).flatten(0, 1).round()
    assert set(zip(classes[:, 2:].flatten().tolist(), *sides.T.tolist(), strict=True)) == {(2, 6.0, 5.0), (4, 6.0, 4.0)}


def test_a_bank_is_a_batch_too_and_a_copy_of_what_it_was():
    images, boxes = pictures(2, seed=4), torch.tensor([[[2.0, 3, 9, 12]], [[0, 0, 6, 5]]])
    targets = [{"boxes": rows} for rows in boxes]
    kept = images.clone()
    torch.manual_seed(3)
    augmentation = paste(6, donors=(images, targets))
    images.zero_()
    pasted = augmentation(pictures(), BOXES, OBJ_TO_IMG)
    near(pasted, by_bank(pictures(), drawn(augmentation), (list(kept), targets), {"matte": None}), 1e-5)


BANK = a_bank()
NO_BANK = [
    (([BANK[0][0]], BANK[1]), ValueError, r"donors: expected as many targets as images \(1\), got 3"),
    ((BANK[0], None), ValueError, r"donors: expected as many targets as images \(3\), got NoneType"),
    ((BANK[0],), TypeError, r"donors: expected one of 'batch', 'others', 'same', or \(images, targets\), got tuple"),
    (None, TypeError, r"donors: expected one of 'batch', .*got NoneType"),
    ("bank", ValueError, r"donors: expected one of 'batch', 'others', 'same', got 'bank'"),
    ((BANK[0], [{}] * 3), ValueError, r"donors: targets\[0\]: expected a dict with boxes"),
    ((BANK[0], [{"boxes": torch.zeros(0, 4)}] * 3), ValueError, r"donors: expected a bank with objects"),
    (([], []), ValueError, r"donors: expected a bank with objects"),
    (([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)], BANK[1][:2]), ValueError, r"images\[1\]: .*number of channels"),
    (([torch.zeros(3, 4, 4).long()], BANK[1][:1]), TypeError, r"images\[0\]: expected uint8 or a floating dtype"),
    (
        (BANK[0], [BANK[1][0], {"boxes": BANK_BOXES[1]}, BANK[1][2]]),
        ValueError,
        r"donors: expected labels in all targets of the bank or in none, got 2 of 3",
    ),
    (
        (BANK[0], [*a_bank(masks=True)[1][:2], BANK[1][2]]),
        ValueError,
        r"donors: expected masks in all targets of the bank or in none, got 2 of 3",
    ),
    (
        (BANK[0], [*BANK[1][:2], a_bank(masks=True)[1][2]]),
        ValueError,
        r"donors: expected masks in all targets of the bank or in none, got 1 of 3",
    ),
    (
        (BANK[0], [{**BANK[1][0], "masks": torch.zeros(3, 5, 5)}, *BANK[1][1:]]),
        ValueError,
        r'donors: targets\[0\]\["masks"\]: expected shape \(n, 15, 20\)',
    ),
    (
        (BANK[0], [{"boxes": torch.tensor([[5.0, 5, 2, 9]])}, *BANK[1][1:]]),
        ValueError,
        r'donors: targets\[0\]\["boxes"\]: expected x1 y1 x2 y2',
    ),
]


@pytest.mark.parametrize(("donors", "error", "text"), NO_BANK)
def test_a_bank_that_is_none_is_named_when_it_is_made(donors, error, text):
    with pytest.raises(error, match=f"^{text}"):
        paste(donors=donors)


NOT_IN_BANK = [  # a bank without, keys, and what the call has
    (["class"], [PADDED_CLASSES], {}, r"^donors: expected labels in the targets of the bank, as images have a class"),
    (
        ["mask"],
        [torch.ones(3, 2, HEIGHT, WIDTH)],
        {"instance_masks": True},
        r"^donors: expected masks in the targets of the bank, as images have instance masks",
    ),
]


@pytest.mark.parametrize(("keys", "values", "options", "text"), NOT_IN_BANK)
def test_what_images_have_labels_of_a_bank_must_have(keys, values, options, text):
    augmentation = paste(donors=a_bank(labels=False))
    with pytest.raises(ValueError, match=text):
        container(augmentation, [*BOX, *keys], **options)(pictures(), PADDED, *values)


def test_a_bank_without_labels_has_no_classes_to_choose():
    for options in ({"classes": [2]}, {"class_weights": {2: 1.0}}, {"degrees": [[1.0], [2.0]]}):
        with pytest.raises(ValueError, match=r"^donors: expected labels in the targets of the bank"):
            paste(donors=a_bank(labels=False), **options)


def test_a_bank_of_other_channels_is_an_error():
    with pytest.raises(ValueError, match=r"^donors: expected pictures of 1 channels, got 3"):
        paste(donors=a_bank())(pictures(channels=1), BOXES, OBJ_TO_IMG)


def test_a_module_with_a_bank_is_copied_pickled_and_moved():
    augmentation = paste(5, donors=a_bank(masks=True), matte="mask", **WILD)
    torch.manual_seed(4)
    expected = augmentation(pictures(), BOXES, OBJ_TO_IMG)
    for other in (copy.deepcopy(augmentation), pickle.loads(pickle.dumps(augmentation))):
        torch.manual_seed(4)
        same(other(pictures(), BOXES, OBJ_TO_IMG), expected)
        same(other(pictures(), params=augmentation._params), expected)
    assert not augmentation.state_dict()
    augmentation.load_state_dict(paste().state_dict())
    moved = copy.deepcopy(augmentation).to(torch.float64)
    assert {b.dtype for b in moved.buffers() if b.is_floating_point()} == {torch.float64}
    torch.manual_seed(4)
    near(moved(pictures(), BOXES, OBJ_TO_IMG), expected, 1e-5)
    assert all(b.device.type == "meta" for b in copy.deepcopy(augmentation).to("meta").buffers())


def test_a_bank_of_images_with_a_graph_is_copied():
    image = pictures(1, size=(15, 20))[0].requires_grad_()
    augmentation = paste(donors=([image * 2], [{"boxes": BANK_BOXES[0]}]))
    copy.deepcopy(augmentation)
    pickle.dumps(augmentation)


def test_a_bank_takes_the_memory_of_its_objects():
    """One of 8 x 8 pixels, of a picture of 300 x 400 with a mask of as many."""
    target = {"boxes": torch.tensor([[9.0, 9, 17, 17]]), "masks": torch.ones(1, 300, 400, dtype=torch.bool)}
    augmentation = paste(donors=([torch.zeros(3, 300, 400)], [target]))
    assert len(pickle.dumps(augmentation)) < 60_000
    assert len(pickle.dumps(augmentation)) < len(pickle.dumps(paste())) + 20_000


class Elements(TorchDispatchMode):
    """The most elements of memory of a result of torch's functions."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [t.untyped_storage().nbytes() for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.most = max([self.most, *sizes])
        return result


def test_copies_of_a_bank_take_no_memory_of_the_bank_each():
    """100 objects of 20 x 20 are 120 000 floats; 200 copies of as many would be 96 MB."""
    boxes = torch.cat([torch.tensor([[20.0 * x, 20.0 * y]]).repeat(1, 2) for y in range(10) for x in range(10)])
    boxes = boxes + torch.tensor([0, 0, 20, 20])
    target = {"boxes": boxes, "masks": torch.rand(100, 200, 200) < 0.7}
    augmentation = paste(100, donors=(torch.rand(1, 3, 200, 200), [target]), matte="mask")
    with Elements() as elements:
        augmentation(torch.rand(2, 3, 64, 64), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        assert len(augmentation._params["visible"][0]) == 200
    assert elements.most < 4_000_000


# --- min_visible ------------------------------------------------------------------------------------------------------


def test_rows_that_copies_cover_are_removed():
    """Of 10 x 6 pixels: half of the first is covered by a copy of itself 5 pixels right; the other stays as it is."""
    boxes = torch.tensor([[[10.0, 10, 19, 15], [30, 10, 33, 13]]])
    for least, kept in ((0.4, True), (0.5, True), (0.51, False), (1.0, False)):
        augmentation = paste(1, sizes=(5, 99), place=at((20.0, 13.0)), min_visible=least)
        _, found, classes = container(augmentation, [*BOX, "class"])(pictures(1), boxes, torch.tensor([[1, 2]]))
        near(augmentation._params["visible"], torch.tensor([[0.5, 1.0, 1.0]]), 1e-5)
        expected = torch.cat([boxes[0], torch.tensor([[15.0, 10, 24, 15]])])
        if not kept:
            expected[0] = 0
        near(found[0], expected, 1e-4)
        same(classes, torch.tensor([[1, 2, 1]]))


def test_copies_that_copies_cover_are_removed():
    """Two equal copies: the later lies over all of the first but two of its eight columns."""
    augmentation = paste(2, place=at((40.0, 30.0), (42.0, 30.0)), min_visible=0.3)
    for listed in (False, True):
        boxes = [PADDED[0, :1]] if listed else PADDED[:1, :1]
        found = container(augmentation)(pictures(1), boxes)[1]
        near(augmentation._params["visible"], torch.tensor([[1.0, 0.25, 1.0]]), 1e-5)
        near(found[0], torch.tensor([[4.0, 5, 11, 10], [0, 0, 0, 0], [38, 27, 45, 32]]), 1e-4)


def test_what_is_removed_is_neither_copied_nor_covered_later():
    first = paste(1, sizes=(5, 99), place=at((20.0, 13.0)), min_visible=0.6)
    second = paste(30, donors="same")
    boxes = torch.tensor([[[10.0, 10, 19, 15], [30, 10, 33, 13]]])
    found = kp.PatchAugmentationSequential(first, second, data_keys=BOX)(pictures(1), boxes)[1]
    assert set(drawn(second).donor.tolist()) == {1, 2}
    assert not found[0, 0].any()


def test_an_object_that_reaches_out_of_its_image_keeps_its_row_if_nothing_covers_it():
    boxes = torch.tensor([[[-8.0, 10, 7, 15]], [[20, 10, 29, 15]]])
    augmentation = paste(1, min_visible=1.0, p=0.5, place=at((40.0, 33.0)))
    for seed in range(6):
        torch.manual_seed(seed)
        found = container(augmentation)(pictures(2), boxes)[1]
        same(found[:, :1], boxes)


def test_visible_shares_are_those_of_loops():
    """Of hard rectangles of whole pixels: counted pixel by pixel."""
    centres = [(14.0, 9.0), (24.0, 20.0), (30.0, 24.0), (33.0, 17.0)]
    augmentation = paste(4, place=at(*centres))
    augmentation(pictures(1), BOXES[:2], OBJ_TO_IMG[:2])
    copies = drawn(augmentation)
    layers = torch.cat([BOXES[:2], copies.copies.round().long()])
    shares = augmentation._params["visible"][0]
    for n, (x1, y1, x2, y2) in enumerate(layers.tolist()):
        seen = torch.ones(HEIGHT, WIDTH)
        for k in range(max(n + 1, 2), len(layers)):
            left, top, right, bottom = layers[k].tolist()
            seen[top:bottom, left:right] = 0
        near(shares[n], seen[y1:y2, x1:x2].mean(), 1e-5)
    assert (shares < 1).sum() > 2


# --- draws: replay, generators, gates ---------------------------------------------------------------------------------

RUNS = {
    "from boxes": lambda: paste((1, 4), **WILD, matte="ellipse", max_cover=0.3),
    "a bank": lambda: paste((1, 4), donors=a_bank(masks=True), **WILD, matte="mask"),
    "a gate": lambda: paste((1, 4), **WILD, p=0.5),
    "one draw for all": lambda: paste((1, 4), **WILD, same_on_batch=True),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_draw_replays_to_the_last_bit(name):
    augmentation = RUNS[name]()
    expected = augmentation(pictures(), BOXES, OBJ_TO_IMG)
    draw = augmentation._params
    kept = pickle.loads(pickle.dumps(draw))
    for params in (draw, kept, copy.deepcopy(draw)):
        torch.manual_seed(9)
        same(augmentation(pictures(), params=params), expected)
    same(augmentation(pictures(), BOXES, OBJ_TO_IMG, params=kept), expected)
    assert (augmentation(pictures(), BOXES, OBJ_TO_IMG) != expected).any()  # a new one


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_a_container_replays_to_the_last_bit(name, listed):
    keys = ["input", "mask", "bbox_xyxy", "class"]
    augmentation = RUNS[name]()
    sequence = kp.PatchAugmentationSequential(K.RandomHorizontalFlip(p=0.5), augmentation, data_keys=keys)
    masks = torch.randint(0, 9, (3, 1, HEIGHT, WIDTH)).float()
    classes = [torch.tensor([3, 7]), torch.tensor([5]), torch.zeros(0).long()] if listed else PADDED_CLASSES
    inputs = pictures(), masks, LISTS if listed else PADDED, classes
    expected = sequence(*inputs)
    params = sequence._params
    for kept in (params, pickle.loads(pickle.dumps(params))):
        torch.manual_seed(9)
        for found, value in zip(tree_leaves(sequence(*inputs, params=kept)), tree_leaves(expected), strict=True):
            same(found, value)


def test_draws_come_from_the_global_generator_or_ones_own():
    def run(augmentation):
        return augmentation(pictures(), BOXES, OBJ_TO_IMG)

    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(run(paste(**WILD)))
    same(*found)
    own = [paste(**WILD, generator=torch.Generator().manual_seed(11)) for _ in range(2)]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = [run(augmentation) for augmentation in own]
    second = [run(augmentation) for augmentation in own]
    same(torch.get_rng_state(), before)
    same(*first)
    same(*second)
    assert (first[0] != second[0]).any()


def test_gated_images_come_back_bit_for_bit_with_their_rows():
    for options in ({"p": 0.5}, {"p": 1.0, "p_batch": 0.5}):
        augmentation, gates = paste(2, matte="box", **options), set()
        for seed in range(40):
            torch.manual_seed(seed)
            data = pictures(), torch.rand(3, 1, HEIGHT, WIDTH), PADDED, PADDED_CLASSES
            sequence = container(augmentation, ["input", "mask", "bbox_xyxy", "class"])
            images, masks, boxes, classes = sequence(*data)
            gate = augmentation._params["batch_prob"] > 0.5
            gates.add(tuple(gate.tolist()))
            for found, value in ((images, data[0]), (masks, data[1])):
                same(found[~gate], value[~gate])
                assert (found != value).flatten(1).any(1).tolist() == gate.tolist()
            same(boxes[:, :2], PADDED)
            same(classes[:, :2], PADDED_CLASSES)
            assert boxes.shape == (3, 4 if gate.any() else 2, 4)
            assert not boxes[~gate, 2:].any()
            assert not classes[~gate, 2:].any()
            assert (boxes[gate, 2:] != 0).any(-1).all()
        assert len(gates) == (2 if "p_batch" in options else 8)


def test_p_is_the_share_of_images():
    copies = draws(paste(1, p=0.3), count=1000)
    is_plausible([len(copies.target), 1000 - len(copies.target)], [0.3, 0.7])


def test_donors_of_images_that_are_gated_off_are_copied_all_the_same():
    augmentation = paste(20, p=0.5)
    for seed in range(5):
        torch.manual_seed(seed)
        augmentation(pictures(), BOXES, OBJ_TO_IMG)
        gate = augmentation._params["batch_prob"] > 0.5
        if gate.any():
            assert drawn(augmentation).donor.unique().tolist() == [0, 1, 2]


def test_one_draw_for_all_images():
    augmentation = paste((2, 5), **WILD, same_on_batch=True, donors="batch")
    images = pictures(1).expand(4, -1, -1, -1)
    boxes = BOXES[:2].repeat(4, 1)
    for seed in range(5):
        torch.manual_seed(seed)
        pasted = augmentation(images, boxes, torch.arange(4).repeat_interleave(2))
        for image in pasted[1:]:
            same(image, pasted[0])
        copies = drawn(augmentation)
        assert torch.bincount(copies.target).unique().numel() == 1
        per_image = copies.theta.unflatten(0, (4, -1))
        same(per_image, per_image[:1].expand_as(per_image))
    assert (pasted != images).any()


def test_images_have_draws_of_their_own():
    augmentation = paste(1, **WILD)
    augmentation(pictures(1).expand(6, -1, -1, -1), BOXES[:1].repeat(6, 1), torch.arange(6))
    copies = drawn(augmentation)
    assert torch.pdist(copies.theta.flatten(1)).min() > 1e-3
    assert torch.pdist(centres_of(copies)).min() > 1e-3


# --- ordinary inputs --------------------------------------------------------------------------------------------------

NO_OBJECTS = {
    "a list": [torch.zeros(0, 4)] * 2,
    "padding": torch.zeros(2, 3, 4),
    "no rows": torch.zeros(2, 0, 4),
}


@pytest.mark.parametrize("name", NO_OBJECTS)
def test_no_objects_at_all(name):
    boxes = NO_OBJECTS[name]
    keys = ["input", "mask", "bbox_xyxy"]
    masks = torch.rand(2, 1, HEIGHT, WIDTH)
    for donors in FROM:
        images, painted, found = container(paste(donors=donors), keys)(pictures(2), masks, boxes)
        same(images, pictures(2))
        same(painted, masks)
        for one, other in zip(found, boxes, strict=True):
            same(one, other)
    images, _, found = container(paste(2, donors=a_bank()), keys)(pictures(2), masks, boxes)
    assert (images != pictures(2)).flatten(1).any(1).all()
    assert [int((rows != 0).any(-1).sum()) for rows in found] == [2, 2]
    if name != "padding":
        assert [len(rows) for rows in found] == [2, 2]


def test_no_objects_in_a_direct_call():
    empty = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    same(paste()(pictures(), *empty), pictures())
    assert (paste(donors=a_bank())(pictures(), *empty) != pictures()).any()
    assert paste(classes=[1])(pictures(), *empty, classes=empty[1]).shape == pictures().shape


def test_a_batch_of_one_has_no_others():
    images, boxes = container(paste(donors="others"))(pictures(1), PADDED[:1])
    same(images, pictures(1))
    same(boxes, PADDED[:1])


def test_one_image_needs_no_batch():
    for keepdim in (False, True):
        augmentation = paste(2, keepdim=keepdim)
        pasted = augmentation(pictures(1)[0], BOXES[:2])
        copies = drawn(augmentation)
        expected = by_function(pictures(1), copies, {"matte": None})
        same(pasted, expected[0] if keepdim else expected)
        flat = augmentation(pictures(1, 1)[0, 0], BOXES[:2])
        assert flat.shape == ((HEIGHT, WIDTH) if keepdim else (1, 1, HEIGHT, WIDTH))


def test_one_image_needs_no_batch_in_a_container():
    sequence = container(paste(2, keepdim=True), [*BOX, "class"], keepdim=True)
    image, boxes, classes = sequence(pictures(1)[0], PADDED[0], torch.tensor([3, 7]))
    assert image.shape == (3, HEIGHT, WIDTH)
    assert boxes.shape == (4, 4)
    assert classes.shape == (4,)
    same(boxes[:2], PADDED[0])
    same(classes[:2], torch.tensor([3, 7]))


def test_boxes_come_in_the_forms_of_the_function():
    forms = (
        lambda a: a(pictures(), [BOXES[:2], BOXES[2:], BOXES[:0]]),
        lambda a: a(pictures(), [rows.float() for rows in (BOXES[:2], BOXES[2:], BOXES[:0])]),
        lambda a: a.bind([BOXES[:2], BOXES[2:], BOXES[:0]])(pictures()),
        lambda a: a.bind(BOXES, obj_to_img=OBJ_TO_IMG)(pictures()),
        lambda a: K.AugmentationSequential(a.bind(BOXES, obj_to_img=OBJ_TO_IMG), data_keys=["input"])(pictures()),
    )
    torch.manual_seed(0)
    expected = paste()(pictures(), BOXES, OBJ_TO_IMG)
    for form in forms:
        torch.manual_seed(0)
        same(form(paste()), expected)


def test_boxes_come_in_params_written_by_hand():
    """As those of the affine augmentations may."""
    augmentation = paste()
    pasted = augmentation(pictures(), params={"boxes": BOXES, "obj_to_img": OBJ_TO_IMG})
    same(pasted, by_function(pictures(), drawn(augmentation), {"matte": None}))


def test_rows_of_objects_may_come_in_any_order():
    """Interleaved over images."""
    order = [2, 0, 1]
    augmentation = paste(4)
    pasted = augmentation(pictures(), BOXES[order], OBJ_TO_IMG[order])
    words = {"boxes": BOXES[order], "index": OBJ_TO_IMG[order]}
    same(pasted, by_function(pictures(), drawn(augmentation), {"matte": None}, **words))


def test_nothing_of_the_caller_is_modified():
    bank = a_bank(masks=True)
    classes = [torch.tensor([3, 7]), torch.tensor([5]), torch.zeros(0).long()]
    masks = torch.ones(3, 2, HEIGHT, WIDTH, dtype=torch.bool)
    inputs = pictures(), masks, LISTS, classes
    density, weights = torch.rand(HEIGHT, WIDTH), {4: 2.0}
    held = [bank[0], [list(target.values()) for target in bank[1]], *inputs, density]
    before = copy.deepcopy(tree_leaves(held))
    options = {"donors": bank, "place": density, "class_weights": weights, "min_visible": 0.5, "matte": "mask"}
    sequence = container(paste(4, **options), ["input", "mask", "bbox_xyxy", "class"], instance_masks=True)
    sequence(*inputs)
    params = copy.deepcopy(sequence._params[0].data)
    sequence(*inputs, params=sequence._params)
    for value, kept in zip(tree_leaves(held), before, strict=True):
        same(value, kept)
    assert weights == {4: 2.0}
    assert {k: v for k, v in params.items() if k != "visible"}.keys() <= sequence._params[0].data.keys()
    direct = paste(matte="mask")
    flat = BOXES.clone(), OBJ_TO_IMG.clone(), CLASSES.clone(), torch.ones(3, HEIGHT, WIDTH)
    direct(pictures(), flat[0], flat[1], classes=flat[2], masks=flat[3])
    same(flat[0], BOXES)
    same(flat[3], torch.ones(3, HEIGHT, WIDTH))


def test_a_module_without_a_call_or_with_one_is_copied_and_pickled():
    augmentation = paste(**WILD)
    for _ in range(2):
        for other in (copy.deepcopy(augmentation), pickle.loads(pickle.dumps(augmentation))):
            torch.manual_seed(2)
            one = augmentation(pictures().requires_grad_(), BOXES, OBJ_TO_IMG)
            torch.manual_seed(2)
            same(other(pictures(), BOXES, OBJ_TO_IMG), one.detach())
    assert kp.RandomPatchPaste(1).transform_matrix is None or True
    near(augmentation.transform_matrix, torch.eye(3).expand(3, 3, 3))


def test_options_change_for_one_call():
    augmentation = paste(4, **WILD, matte="box")
    for options in ({"matte": None}, {"matte": "ellipse", "feather": 0.5}, {"resample": "nearest", "matte": None}):
        pasted = augmentation(pictures(), BOXES, OBJ_TO_IMG, **options)
        same(pasted, by_function(pictures(), drawn(augmentation), {"matte": "box", **options}))
    for options in ({"flip": 1.0}, {"padding": 1}):
        with pytest.raises(TypeError, match=rf"^RandomPatchPaste has no option {next(iter(options))}"):
            augmentation(pictures(), BOXES, OBJ_TO_IMG, **options)
    with pytest.raises(ValueError, match=r"^matte: expected one of None, 'mask', 'box', 'ellipse', got 'round'"):
        augmentation(pictures(), BOXES, OBJ_TO_IMG, matte="round")


def test_the_repr_shows_the_options():
    text = repr(paste((1, 3), degrees=30.0, flip=0.5, classes=[2], class_weights={2: 3.0}, sizes=(1, 50), tries=7))
    shown = ("count=(1, 3)", "flip=0.5", "classes=[2]", "max_cover=1.0", "tries=7", "matte=None", "degrees=[-30, 30]")
    for part in (*shown, "donors=batch", "place=uniform"):
        assert part in text
    assert "p_patch" not in text  # which it has not


# --- errors -----------------------------------------------------------------------------------------------------------

BAD_OPTIONS = [
    ({"count": -1}, ValueError, r"count: expected an integer of 0 or more, or \(low, high\), got -1"),
    ({"count": (3, 1)}, ValueError, r"count: .*got \(3, 1\)"),
    ({"count": 1.5}, ValueError, r"count: .*got 1\.5"),
    ({"count": (1, 2, 3)}, ValueError, r"count: .*got \(1, 2, 3\)"),
    ({"count": None}, ValueError, r"count: .*got None"),
    ({"flip": 1.5}, ValueError, r"flip: expected a number in \[0, 1\], got 1\.5"),
    ({"flip": True}, None, ""),
    ({"max_cover": -0.1}, ValueError, r"max_cover: expected a number in \[0, 1\], got -0\.1"),
    ({"max_cover": float("nan")}, ValueError, r"max_cover: .*got nan"),
    ({"tries": 0}, ValueError, r"tries: expected an integer of 1 or more, got 0"),
    ({"tries": 2.0}, ValueError, r"tries: .*got 2\.0"),
    ({"sizes": (5, 2)}, ValueError, r"sizes: expected \(low, high\) in pixels, got \(5, 2\)"),
    ({"sizes": 5}, ValueError, r"sizes: .*got 5"),
    ({"sizes": (float("nan"), 2)}, ValueError, r"sizes: .*got \(nan, 2\)"),
    ({"classes": 3}, (TypeError, ValueError), r"classes: expected .*got"),
    ({"classes": "cat"}, (TypeError, ValueError), r"classes: expected .*got"),
    ({"classes": [1.5]}, (TypeError, ValueError), r"classes: expected .*got"),
    ({"class_weights": [1.0]}, TypeError, r"class_weights: expected a dict of a weight for each class, got list"),
    ({"class_weights": {1: -1.0}}, ValueError, r"class_weights: expected weights of at least 0, got -1\.0 for class 1"),
    ({"class_weights": {1: math.inf}}, ValueError, r"class_weights: .*got inf for class 1"),
    ({"class_weights": {"cat": 1.0}}, (TypeError, ValueError), r"class_weights: expected .*got"),
    ({"class_weights": {1: "much"}}, (TypeError, ValueError), r"class_weights: expected .*got"),
    ({"place": "middle"}, ValueError, r"place: expected 'uniform', a density \(H, W\) or a function, got 'middle'"),
    ({"place": None}, ValueError, r"place: .*got None"),
    ({"place": torch.ones(3, 4, 4)}, ValueError, r"place: expected a density \(H, W\) of a floating dtype, got"),
    ({"place": torch.ones(4, 4).long()}, ValueError, r"place: expected a density \(H, W\) of a floating dtype, got"),
    ({"place": torch.zeros(4, 4)}, ValueError, r"place: expected a density of at least 0 .*not 0 everywhere"),
    ({"place": -torch.ones(4, 4)}, ValueError, r"place: expected a density of at least 0"),
    ({"place": torch.full((4, 4), math.nan)}, ValueError, r"place: expected a density .*finite"),
    ({"place": np.ones((4, 4))}, (TypeError, ValueError), r"place: expected 'uniform', a density"),
    ({"matte": "round"}, ValueError, r"matte: expected one of None, 'mask', 'box', 'ellipse', got 'round'"),
    ({"feather": 2.0}, ValueError, r"feather: expected a share in \[0, 1\], got 2\.0"),
    ({"min_visible": 1.1}, ValueError, r"min_visible: expected a share in \[0, 1\], got 1\.1"),
    ({"p": 1.1}, ValueError, r"p: expected a probability in \[0, 1\], got 1\.1"),
    ({"p_batch": -1}, ValueError, r"p_batch: expected a probability in \[0, 1\], got -1"),
    ({"resample": "cubic"}, ValueError, r"resample: expected one of 'bilinear', 'nearest', got 'cubic'"),
    ({"align_corners": None}, ValueError, r"align_corners: expected one of False, True, got None"),
    ({"degrees": "much"}, (TypeError, ValueError), r"degrees: "),
    ({"scale": (1.0, math.inf)}, ValueError, r"scale: "),
    ({"scale": (-1.0, 1.0)}, ValueError, r"scale: "),
    ({"generator": 3}, TypeError, r"generator: expected a torch\.Generator, got int"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD_OPTIONS, ids=lambda value: str(value)[:40])
def test_a_bad_option_is_named_when_it_is_made(options, error, text):
    options = {"count": 2, **options}
    if error is None:
        kp.RandomPatchPaste(**options)
        return
    with pytest.raises(error, match=f"^{text}"):
        kp.RandomPatchPaste(**options)


BAD_CALLS = [
    (lambda a: a((255 * pictures()).byte(), BOXES, OBJ_TO_IMG), TypeError, r"input: .*float"),
    (lambda a: a(pictures()), ValueError, r"RandomPatchPaste has no boxes to work on"),
    (lambda a: a(pictures(), BOXES), ValueError, r"obj_to_img: "),
    (lambda a: a(pictures(), BOXES, OBJ_TO_IMG + 2), ValueError, r"obj_to_img: "),
    (lambda a: a(pictures(), BOXES * math.nan, OBJ_TO_IMG), ValueError, r"boxes: "),
    (lambda a: a(pictures(), BOXES[:, :3], OBJ_TO_IMG), ValueError, r"boxes: "),
    (lambda a: a(pictures(), BOXES, OBJ_TO_IMG, masks=torch.ones(3, 5, 5)), ValueError, r"masks: "),
    (lambda a: a(pictures(), BOXES, OBJ_TO_IMG, masks=torch.ones(2, HEIGHT, WIDTH)), ValueError, r"masks: "),
    (lambda a: a(pictures(), BOXES, OBJ_TO_IMG, masks=torch.ones(3, 1, HEIGHT, WIDTH)), ValueError, r"masks: "),
    (lambda a: a(pictures(), BOXES, OBJ_TO_IMG, masks="all"), TypeError, r"masks: "),
    (lambda a: a(pictures(2), params=drawn_for(3)), ValueError, r"params: expected a draw of 2 images, got 3"),
    (
        lambda a: container(a, ["input", "class"])(pictures(), PADDED_CLASSES),
        ValueError,
        r"RandomPatchPaste (has no boxes to work on|needs a box data key)",
    ),
]


def drawn_for(count):
    return paste().forward_parameters((count, 3, HEIGHT, WIDTH))


@pytest.mark.parametrize(("call", "error", "text"), BAD_CALLS)
def test_a_bad_call_is_one_clear_error(call, error, text):
    with pytest.raises(error, match=f"^{text}"):
        call(paste(3, matte="mask"))


OTHER_KEYS = {
    "mask": lambda: torch.ones(3, 1, HEIGHT, WIDTH),
    "bbox_xyxy": PADDED.clone,
    "keypoints": lambda: torch.ones(3, 2, 2),
}


@pytest.mark.parametrize("key", OTHER_KEYS)
def test_labels_in_a_container_of_kornias_are_refused_in_a_sentence(key):
    sequence = K.AugmentationSequential(paste().bind(BOXES, obj_to_img=OBJ_TO_IMG), data_keys=["input", key])
    with pytest.raises(ValueError, match=r"^RandomPatchPaste changes labels in kornia_patchaug\.PatchAugmentationSeq"):
        sequence(pictures(), OTHER_KEYS[key]())


@pytest.mark.parametrize("same_on_frame", [False, True])
def test_a_video_is_refused_in_a_sentence(same_on_frame):
    text = r"^RandomPatchPaste does not work in a VideoSequential.*Put it before or after"
    augmentation = paste().bind(BOXES, obj_to_img=OBJ_TO_IMG)
    video = K.VideoSequential(augmentation, data_format="BTCHW", same_on_frame=same_on_frame)
    with pytest.raises(ValueError, match=text):
        video(pictures()[None])
    with pytest.raises(ValueError, match=text):
        kp.PatchAugmentationSequential(video, data_keys=["input"])(pictures()[None])


def test_pieces_of_images_are_refused_in_a_sentence():
    text = r"^RandomPatchPaste does not work in a PatchSequential.*Put it before"
    augmentation = paste().bind(BOXES, obj_to_img=OBJ_TO_IMG)
    pieces = K.PatchSequential(augmentation, grid_size=(2, 2), patchwise_apply=False)
    with pytest.raises(ValueError, match=text):
        pieces(pictures())
    with pytest.warns(UserWarning, match="Geometric transformation detected"):  # Kornia's
        sequence = kp.PatchAugmentationSequential(pieces, data_keys=["input"])
    with pytest.raises(ValueError, match=text):
        sequence(pictures())


# --- no loop over objects ---------------------------------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """Counts calls of torch's functions and of functions in Python."""

    def __init__(self):
        super().__init__()
        self.torch = self.python = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.torch += 1
        return function(*args, **(kwargs or {}))


def work(per_image, copies, batch, **options):
    """How many calls of torch's functions, and how many of the package's own, one run takes."""
    boxes = torch.tensor([[0.0, 0, 5, 4]]) + 30 * torch.rand(batch, per_image, 2).repeat(1, 1, 2)
    data = (
        pictures(batch),
        torch.rand(batch, per_image, HEIGHT, WIDTH) < 0.5,
        boxes,
        torch.ones(batch, per_image).long(),
    )
    augmentation = paste(copies, tries=1, min_visible=0.1, degrees=90.0, class_weights={1: 2.0}, **options)
    sequence = container(augmentation, ["input", "mask", "bbox_xyxy", "class"], instance_masks=True)
    sequence(*data)  # compiles, if it has to
    own = 0

    def profile(frame, event, argument):
        nonlocal own
        own += (
            event == "call"
            and "kornia_patchaug" in frame.f_code.co_filename
            and "kernels" not in frame.f_code.co_filename
        )

    with Calls() as calls:
        sequence(*data)
    sys.setprofile(profile)
    try:
        sequence(*data)
    finally:
        sys.setprofile(None)
    return calls.torch, own


@pytest.mark.parametrize("from_bank", [False, True])
def test_there_is_no_loop_over_objects(from_bank):
    options = {"donors": a_bank(masks=True), "matte": "mask"} if from_bank else {"matte": "ellipse"}
    few = work(5, 3, 4, **options)
    for many in (work(50, 3, 4, **options), work(5, 30, 4, **options), work(50, 30, 4, **options)):
        assert many[0] == few[0]
        assert many[1] <= few[1]
