"""Objects of the classes as layers that may leave their boxes: clip, fill, matte, feather, order and min_visible.

What is painted is what the functions paint; what becomes of labels is checked against the pixels.
"""

import copy
import pickle

import kornia.augmentation as K
import pytest
import torch
from kornia.constants import DataKey, Resample, SamplePadding
from support.kornia_scenes import HEIGHT, WIDTH, hard_mattes, near, picture, same
from support.training import step
from support.versions import of_classes
from torch import nn

import kornia_patchaug as kp
from kornia_patchaug import augmentation as module

TRUTH = [False, True]
# Half-open boxes, two an image, which overlap, the large one first; and the same for Kornia, the last pixel included.
BOXES = torch.tensor([[9, 8, 29, 21], [3, 4, 15, 12], [14, 2, 23, 24], [10, 10, 18, 22]])
TWO_EACH = torch.tensor([0, 0, 1, 1])
XYXY = (BOXES - torch.tensor([0, 0, 1, 1])).float().reshape(2, 2, 4)
# Turned, scaled and thrown beyond their boxes, the last one half out of its image.
THETA = torch.tensor(
    [
        [0.9, 0.3, 0.1, -0.4, 1.1, 0.0],
        [1.2, -0.2, -1.4, 0.3, 0.8, -0.9],
        [0.7, 0.5, -0.6, -0.2, 1, 0.3],
        [1, 0.1, -1.1, -0.1, 0.9, -1.3],
    ]
).reshape(4, 2, 3)
POINTS = torch.tensor([[[10.0, 9], [27, 18], [4, 5], [31, 3]], [[15, 3], [15, 15], [11, 21], [1, 1]]])
MASKS = torch.randint(1, 9, (2, 1, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2)).float()
CLASSES = torch.tensor([3, 8])
CLEAN = picture(seed=7)
KEYS = ["input", "mask", "bbox_xyxy", "keypoints", "class"]
IDENTITY = torch.eye(2, 3)

LAYERS = {
    "anywhere": {"clip": False},
    "anywhere, in other words": {"clip": False, "padding_mode": "transparent", "align_corners": True},
    "anywhere, nearest": {"clip": False, "resample": "nearest"},
    "a number": {"fill": 0.3},
    "a colour": {"fill": (0.1, 0.5, 0.9), "padding_mode": "border"},
    "surroundings": {"fill": "surroundings", "clip": False},
    "clean pictures": {"fill": CLEAN, "clip": False},
    "an ellipse": {"matte": "ellipse", "padding_mode": "reflection"},
    "a hard ellipse": {"matte": "ellipse", "feather": 0.0, "resample": "nearest"},
    "a soft box anywhere": {"matte": "box", "feather": 0.7, "clip": False},
    "one after another": {"clip": False, "sequential": True, "matte": "box"},
    "in steps": {"patch_size": (9, 12), "fill": 0.5, "matte": "ellipse"},
    "all at once": {"clip": False, "fill": "surroundings", "matte": "ellipse", "feather": 0.4, "align_corners": True},
}
layers = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def given(**options):
    """PatchAffine with something to do."""
    return kp.PatchAffine(**options).bind(BOXES, THETA, TWO_EACH)


def random(**options):
    """RandomPatchAffine that draws from wide ranges."""
    ranges = {"degrees": 60.0, "scale": (0.6, 1.3), "shear": 10.0}
    ranges["translate"] = (1.0, 1.0) if options.get("clip", True) else (1.4, 1.6)
    return kp.RandomPatchAffine(**ranges, **{"p": 1.0, **options})


def container(augmentation, keys=tuple(KEYS), **options):
    return kp.PatchAugmentationSequential(augmentation, data_keys=list(keys), **options)


def data():
    """A value a data key."""
    return picture(), MASKS.clone(), XYXY.clone(), POINTS.clone(), CLASSES.clone()


GROWS = {
    0.0: 0.1,
    0.1: 1 / 9,
    0.2: 0.25,
    0.4: 0.5,
    0.5: 0.5,
    0.7: 0.5,
    1.0: 0.5,
}  # feather / (1 - feather), from 0.1 to 0.5


def matte_of(count, options, labels=False):
    """The alpha of an augmentation: soft for pixels, hard for labels."""
    if options.get("matte") is None:
        return None
    if labels:
        return hard_mattes(options["matte"], count)
    return kp.soft_mattes(count, 32, shape=options["matte"], feather=options.get("feather", 0.2))


def by_function(images, options, theta=THETA, rows=(0, 1, 2, 3), labels=False):
    """What `affine_patches` makes of some of the objects, painted in the order of ``rows``."""
    rows = list(rows)
    words = {k: v for k, v in options.items() if k not in ("matte", "feather", "resample", "order", "min_visible")}
    words["mode"] = "nearest" if labels else options.get("resample", "bilinear")
    if "fill" in words:
        words |= {"fill": 0.0, "grow": 0.0} if labels else {"grow": GROWS[options.get("feather", 0.2)]}
    alpha = matte_of(len(rows), options, labels)
    return kp.affine_patches(images, BOXES[rows], theta[rows], TWO_EACH[rows], alpha=alpha, **words)


def labels_by_function(options, theta=THETA):
    """Kornia's boxes ``(2, 2, 4)`` of all objects, each on its own, before any is removed."""
    corners = {"outline": options.get("matte") or "box", "align_corners": options.get("align_corners", False)}
    moved = kp.move_boxes(BOXES, theta, clip=options.get("clip", True), **corners)
    low, high = moved.minimum(torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).clamp(min=0).split(2, dim=1)
    labels = torch.cat([low, (high - 1).maximum(low)], dim=1) * (high > low).all(1, keepdim=True)
    return labels.reshape(2, 2, 4)


def points_by_function(options, theta=THETA):
    """Each point with the topmost object that holds it, which here is the last."""
    moved = POINTS + 0.5
    for image in (0, 1):
        for k, point in enumerate(POINTS[image] + 0.5):
            held = [n for n in range(4) if TWO_EACH[n] == image and (BOXES[n, :2] <= point).all()]
            held = [n for n in held if (point < BOXES[n, 2:]).all()]
            if held:
                n = held[-1:]
                corners = options.get("align_corners", False)
                moved[image, k] = kp.move_points(point[None], BOXES[n], theta[n], align_corners=corners)[0]
    return moved - 0.5


# --- one function, two modules ----------------------------------------------------------------------------------------


@layers
def test_the_modules_equal_the_function_bit_for_bit(name):
    options = LAYERS[name]
    expected = by_function(picture(), options)
    assert not torch.equal(expected, by_function(picture(), {}))
    for augmentation in (kp.PatchAffine(**options), kp.RandomPatchAffine(30.0, p=1.0, **options)):
        same(augmentation(picture(), BOXES, THETA, TWO_EACH), expected)
        same(augmentation(picture(), [BOXES[:2], BOXES[2:]], THETA), expected)


@layers
def test_in_a_container_every_data_key_is_what_the_functions_make_of_it(name):
    options = LAYERS[name]
    theta = THETA * torch.tensor([1.0, 1, 0]) if options.get("sequential") else THETA  # points have one holder then
    for make in (kp.PatchAffine, lambda **options: kp.RandomPatchAffine(30.0, p=1.0, **options)):
        images, masks, boxes, points, classes = container(make(**options).bind(theta=theta))(*data())
        same(images, by_function(picture(), options, theta))
        same(masks, by_function(MASKS, options, theta, labels=True))
        near(boxes, labels_by_function(options, theta), 1e-4)
        if not options.get("sequential"):
            near(points, points_by_function(options, theta), 1e-4)
        same(classes, CLASSES)


def test_the_scene_is_one_in_which_labels_differ_by_option():
    """So that the comparisons above can fail: of boxes and ellipses, within boxes and anywhere, from one another."""
    kinds = [{}, {"clip": False}, {"matte": "ellipse"}, {"clip": False, "matte": "ellipse"}]
    found = torch.stack([labels_by_function(options) for options in kinds])
    assert (torch.pdist(found.flatten(1)) > 3).all()
    assert (points_by_function({}) != POINTS).any(-1).sum() == 6


# --- options as Kornia spells them, for one call, wrong ones ----------------------------------------------------------


SPELLINGS = [
    ({"padding_mode": SamplePadding.ZEROS}, {}),
    ({"padding_mode": "Zeros"}, {}),
    ({"padding_mode": 0}, {}),
    ({"padding_mode": "TRANSPARENT"}, {}),
    ({"resample": Resample.NEAREST}, {"resample": "nearest"}),
    ({"resample": 0, "padding_mode": 0}, {"resample": "nearest"}),
    ({"resample": "Bilinear"}, {}),
]


@pytest.mark.parametrize(("spelt", "options"), SPELLINGS)
def test_options_are_spelt_as_in_kornia_anywhere_in_the_image(spelt, options):
    expected = by_function(picture(), {**options, "clip": False, "fill": 0.2})
    same(kp.PatchAffine(clip=False, fill=0.2, **spelt)(picture(), BOXES, THETA, TWO_EACH), expected)
    same(given()(picture(), clip=False, fill=0.2, **spelt), expected)
    same(container(given(clip=False, fill=0.2, **spelt), ["input"])(picture()), expected)


@layers
def test_options_change_for_one_call(name):
    augmentation, options = given(fill=0.9), {"fill": None, **LAYERS[name]}
    before = augmentation(picture())
    same(augmentation(picture(), **options), by_function(picture(), options))
    same(augmentation(picture()), before)
    same(before, by_function(picture(), {"fill": 0.9}))


def test_min_visible_and_order_change_for_one_call_of_a_container_too():
    """Through Kornia's ``extra_args``, which are for one data key: here for boxes."""
    augmentation = given(clip=False)
    _, boxes = container(augmentation, ["input", "bbox_xyxy"])(picture(), XYXY)
    extra = {DataKey.BBOX_XYXY: {"min_visible": 0.9}}
    _, fewer = container(augmentation, ["input", "bbox_xyxy"], extra_args=extra)(picture(), XYXY)
    hidden = augmentation._params["visible"].reshape(2, 2) < 0.9
    assert hidden.tolist() == [[True, False], [False, True]]
    same(fewer, boxes.masked_fill(hidden[..., None], 0))


BAD_OPTIONS = [  # options, and what the text says
    ({"clip": "no"}, r"clip: expected one of False, True, got 'no'"),
    ({"clip": None}, r"clip: expected one of False, True, got None"),
    (
        {"clip": False, "padding_mode": "border"},
        r"padding_mode \(with clip=False\): .*'zeros', 'transparent', got 'border'",
    ),
    (
        {"clip": False, "padding_mode": SamplePadding.REFLECTION},
        r"padding_mode \(with clip=False\): .*'transparent', got 'reflection'",
    ),
    (
        {"clip": False, "padding_mode": "image"},
        r"padding_mode \(with clip=False\): .*'zeros', 'transparent', got 'image'",
    ),
    ({"clip": False, "patch_size": (4, 4)}, r"clip \(with patch_size\): expected one of True, got False"),
    ({"fill": 0.0, "sequential": True}, r"sequential \(with a fill\): expected one of False, got True"),
    ({"fill": "white"}, r"fill: expected one of None, 'surroundings', got 'white'"),
    ({"matte": "round"}, r"matte: expected one of None, 'mask', 'box', 'ellipse', got 'round'"),
    ({"matte": True}, r"matte: expected one of None, 'mask', 'box', 'ellipse', got True"),
    ({"feather": 1.5}, r"feather: expected a share in \[0, 1\], got 1\.5"),
    ({"feather": "soft"}, r"feather: expected a share in \[0, 1\], got 'soft'"),
    ({"order": "size"}, r"order: expected one of 'area', 'rows', got 'size'"),
    ({"order": None}, r"order: expected one of 'area', 'rows', got None"),
    ({"min_visible": -0.1}, r"min_visible: expected a share in \[0, 1\], got -0\.1"),
    ({"min_visible": float("nan")}, r"min_visible: expected a share in \[0, 1\], got nan"),
    ({"min_visible": None}, r"min_visible: expected a share in \[0, 1\], got None"),
]


@pytest.mark.parametrize(("options", "text"), BAD_OPTIONS)
def test_a_bad_option_is_named_when_it_is_made_and_when_it_is_called(options, text):
    for make in (kp.PatchAffine, lambda **options: kp.RandomPatchAffine(9.0, **options)):
        with pytest.raises(ValueError, match=f"^{text}"):
            make(**options)
    made = {name: value for name, value in options.items() if name == "patch_size"}
    with pytest.raises(ValueError, match=f"^{text}"):
        given(**made)(picture(), **{name: value for name, value in options.items() if name not in made})


BAD_FILLS = [
    ((0.1, 0.2), ValueError, r"fill: expected a number, a colour \(3,\), or images \(2, 3, 26, 34\), got shape \(2,\)"),
    (CLEAN[:1], ValueError, r"fill: .*images \(2, 3, 26, 34\), got shape \(1, 3, 26, 34\)"),
    (CLEAN.byte(), TypeError, r"fill: expected a floating dtype, got torch\.uint8"),
    ({}, TypeError, r"fill: expected a number, a colour .*'surroundings', got dict"),
    (CLEAN.to("meta"), ValueError, r"fill: expected the images' device cpu, got meta"),
]


@pytest.mark.parametrize(("fill", "error", "text"), BAD_FILLS)
def test_a_bad_fill_is_the_error_of_the_function(fill, error, text):
    for call in (lambda: by_function(picture(), {"fill": fill}), lambda: given(fill=fill)(picture())):
        with pytest.raises(error, match=f"^{text}"):
            call()


FAR = [(1.5, 0.5), (0.5, 3.0), [[0.5, 0.5], [1.1, 0.0]], torch.tensor([2.0, 2.0])]


@pytest.mark.parametrize("translate", FAR)
def test_objects_go_further_than_their_size_only_where_nothing_clips_them(translate):
    text = r"^translate: expected shares of the box in \[0, 1\], got \[.*\]\. Further go objects with clip=False\.$"
    with pytest.raises(ValueError, match=text):
        kp.RandomPatchAffine(0.0, translate=translate)
    augmentation = kp.RandomPatchAffine(0.0, translate=translate, clip=False, p=1.0)
    boxes = torch.tensor([[0, 0, 20, 10]]).expand(500, 4)
    augmentation(torch.zeros(1, 1, 8, 8), boxes, classes=torch.ones(500, dtype=torch.int64))
    shifts = augmentation._params["theta"][0, :, :, 2].abs() / 2
    _, high = augmentation.ranges.bounds()["translate"]
    reach = high if high.ndim == 1 else high[1]
    assert (shifts <= reach + 1e-6).all()
    near(shifts.amax(0), reach, 0.05)
    with pytest.raises(ValueError, match=r"^translate: expected shares of the box of at least 0"):
        kp.RandomPatchAffine(0.0, translate=(-1.0, 2.0), clip=False)


def test_the_repr_shows_the_options():
    text = repr(random(clip=False, fill="surroundings", matte="ellipse", feather=0.3, order="rows", min_visible=0.25))
    for part in ("translate=[-1.4, 1.4], [-1.6, 1.6]", "clip=False", "fill=surroundings", "matte=ellipse"):
        assert part in text
    assert text.endswith("feather=0.3, order=rows, min_visible=0.25)")
    assert "clip=True, fill=None, matte=None, feather=0.2, order=area, min_visible=0.0)" in repr(kp.PatchAffine())
    assert "fill=(0.1, 0.2, 0.3)" in repr(K.AugmentationSequential(kp.PatchAffine(fill=(0.1, 0.2, 0.3))))


# --- the order in which objects are painted ---------------------------------------------------------------------------

SMALL_FIRST = (1, 0, 3, 2)


@pytest.mark.parametrize("options", [{}, {"clip": False}, {"fill": "surroundings"}, {"sequential": True}])
def test_large_objects_are_painted_first_or_rows_as_they_came(options):
    rows = list(SMALL_FIRST)
    objects = BOXES[rows], THETA[rows], TWO_EACH[rows]
    large_first, as_they_came = by_function(picture(), options), by_function(picture(), options, rows=SMALL_FIRST)
    assert (large_first != as_they_came).any(-1).any(-1).all()  # in both images
    same(kp.PatchAffine(**options)(picture(), *objects), large_first)
    same(kp.PatchAffine(order="area", **options)(picture(), *objects), large_first)
    same(kp.PatchAffine(order="rows", **options)(picture(), *objects), as_they_came)
    same(kp.PatchAffine(**options)(picture(), *objects, order="rows"), as_they_came)


def test_objects_of_one_area_keep_their_order():
    boxes = torch.tensor([[3, 4, 13, 10], [5, 2, 11, 12], [6, 3, 21, 7]])  # 60 pixels each
    theta, index = THETA[:3], torch.zeros(3, dtype=torch.int64)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        objects = boxes[order], theta[order], index
        same(kp.PatchAffine()(picture(1), *objects), kp.affine_patches(picture(1), *objects))


# Two pixels right, and three down, of boxes of 12 x 10 and 8 x 6; the small one holds the left part of the large one.
LARGE, SMALL = [10, 6, 22, 16], [6, 8, 14, 14]
TWO_RIGHT, THREE_DOWN = [1, 0, -2 / 6, 0, 1, 0], [1, 0, 0, 0, 1, -3 / 3]
HELD = {  # a point, and where it goes by order: the large row first and last
    "in both": ((12, 9), {"area": ((12, 12), (12, 12)), "rows": ((12, 12), (14, 9))}),
    "in the large one": ((20, 9), {"area": ((22, 9), (22, 9)), "rows": ((22, 9), (22, 9))}),
    "in the small one": ((7, 9), {"area": ((7, 12), (7, 12)), "rows": ((7, 12), (7, 12))}),
}


@pytest.mark.parametrize("kind", [K.AugmentationSequential, kp.PatchAugmentationSequential])
@pytest.mark.parametrize("options", [{}, {"clip": False}, {"clip": False, "fill": 0.0, "matte": "ellipse"}])
@pytest.mark.parametrize("order", ["area", "rows"])
def test_the_topmost_object_is_that_which_was_painted_last_and_not_the_last_row(order, options, kind):
    for last, rows in enumerate([[0, 1], [1, 0]]):
        boxes = torch.tensor([LARGE, SMALL])[rows]
        theta = torch.tensor([TWO_RIGHT, THREE_DOWN])[rows]
        augmentation = kp.PatchAffine(order=order, **options).bind(boxes, theta)
        inputs = picture(1), (boxes - torch.tensor([0, 0, 1, 1]))[None].float()
        points = torch.tensor([[point for point, _ in HELD.values()]], dtype=torch.float32)
        moved = kind(augmentation, data_keys=["input", "bbox_xyxy", "keypoints"])(*inputs, points)[2]
        near(moved, torch.tensor([[goals[order][last] for _, goals in HELD.values()]], dtype=torch.float32), 1e-4)


def test_points_that_are_moved_one_patch_after_another_follow_the_order_of_painting():
    """With half a pixel to each side: by the large one to (14, 9), out of the small one; or by the small one first, to
    (12, 12), and then by the large one to (14, 12)."""
    boxes, theta = torch.tensor([SMALL, LARGE]), torch.tensor([THREE_DOWN, TWO_RIGHT])
    for order, goal in (("area", (14, 9)), ("rows", (14, 12))):
        augmentation = kp.PatchAffine(order=order, sequential=True).bind(theta=theta)
        inputs = picture(1), (boxes - torch.tensor([0, 0, 1, 1]))[None].float(), torch.tensor([[[12.0, 9]]])
        moved = container(augmentation, ["input", "bbox_xyxy", "keypoints"])(*inputs)[2]
        near(moved, torch.tensor([[goal]]).float(), 1e-4)


@pytest.mark.parametrize("order", ["area", "rows"])
def test_a_singular_theta_is_named_by_its_row_in_whatever_order_rows_come(order):
    for rows in ([1, 0, 3, 2], [3, 1, 0, 2], [2, 0, 3, 1]):
        theta, labels = THETA.clone(), [BOXES[[n for n in rows if TWO_EACH[n] == b]] for b in (0, 1)]
        theta[3] = 0
        augmentation = kp.PatchAffine(order=order).bind(BOXES[rows], theta[rows], TWO_EACH[rows])
        for key, value in (("keypoints", POINTS), ("bbox_xyxy", torch.stack(labels) - torch.tensor([0.0, 0, 1, 1]))):
            with pytest.raises(ValueError, match=rf"^theta: expected an invertible matrix.*in row {rows.index(3)}\."):
                K.AugmentationSequential(augmentation, data_keys=["input", key])(picture(), value)


# --- gates ------------------------------------------------------------------------------------------------------------

GATED = ["anywhere", "surroundings", "an ellipse", "all at once", "one after another"]


@pytest.mark.parametrize("gates", [{"p": 0.5}, {"p": 1.0, "p_batch": 0.5}])
@pytest.mark.parametrize("name", GATED)
def test_gated_images_come_back_bit_for_bit_with_their_labels(name, gates):
    options = {**LAYERS[name], "min_visible": 0.4}
    always = container(given(**options))(*data())
    sometimes, seen = container(given(**options, **gates)), set()
    for seed in range(6):
        torch.manual_seed(seed)
        gate = (found := sometimes(*data()), sometimes._params[0].data["batch_prob"] > 0.5)[1]
        seen.add(tuple(gate.tolist()))
        for value, changed, before in zip(found, always, data(), strict=True):
            same(value[gate], changed[gate])
            same(value[~gate], before[~gate])
    assert len(seen) >= 2


@pytest.mark.parametrize(
    "name", ["anywhere", "a number", "surroundings", "clean pictures", "an ellipse", "all at once"]
)
def test_with_a_fill_objects_that_are_gated_off_lie_where_they_were_among_the_others(name):
    """Without one they are not painted. Their boxes stay in either case, and a point that one holds above all."""
    options = LAYERS[name]
    augmentation = container(given(p_patch=0.5, **options))
    outcomes = set()
    for seed in range(8):
        torch.manual_seed(seed)
        images, masks, boxes, points, _ = augmentation(*data())
        gate = augmentation._params[0].data["patch_prob"][0] > 0.5
        outcomes.add(tuple(gate.tolist()))
        theta = THETA.where(gate[:, None, None], IDENTITY)
        rows = range(4) if "fill" in options else gate.nonzero()[:, 0].tolist()
        near(images, by_function(picture(), options, theta, rows), 1e-6)
        same(masks, by_function(MASKS, options, theta, rows, labels=True))
        near(boxes, labels_by_function(options).where(gate.reshape(2, 2, 1), XYXY), 1e-4)
        same(boxes[~gate.reshape(2, 2)], XYXY[~gate.reshape(2, 2)])
        if "fill" in options:
            near(points, points_by_function(options, theta), 1e-4)
    assert len(outcomes) > 4


@pytest.mark.parametrize("name", ["anywhere", "surroundings", "all at once"])
def test_same_on_batch_shares_one_draw(name):
    one, boxes, points = picture(1).expand(4, -1, -1, -1), XYXY[:1].expand(4, -1, -1), POINTS[:1].expand(4, -1, -1)
    augmentation = random(**LAYERS[name], p_patch=0.5, same_on_batch=True, min_visible=0.3)
    changed = 0
    for seed in range(5):
        torch.manual_seed(seed)
        for value in container(augmentation, ["input", "bbox_xyxy", "keypoints"])(one, boxes, points):
            near(value, value[:1].expand_as(value), 1e-6)
        shares = augmentation._params["visible"].reshape(4, 2)
        near(shares, shares[:1].expand(4, 2), 1e-6)
        changed += not torch.equal(augmentation._params["patch_prob"].sum(), torch.tensor(0.0))
    assert 0 < changed < 5


@pytest.mark.parametrize("name", ["anywhere", "surroundings", "all at once"])
@pytest.mark.parametrize("per_frame", TRUTH)
def test_the_frames_of_a_clip_share_the_draw_and_their_layers(per_frame, name):
    clips = picture().repeat_interleave(3, dim=0).reshape(2, 3, 3, HEIGHT, WIDTH)  # of three equal frames
    lists = [boxes for boxes in BOXES.split(2) for _ in range(3 if per_frame else 1)]
    augmentation = random(**LAYERS[name], p_patch=0.7).bind(lists)
    warped = K.VideoSequential(augmentation)(clips)
    near(warped, warped[:, :1].expand_as(warped), 1e-6)
    assert (warped[:, 0] != clips[:, 0]).any()
    drawn = augmentation._params
    first = [(drawn["obj_to_img"][0] == frame).nonzero()[:, 0] for frame in (0, 3)]
    theta, gate = (drawn[key][0][torch.cat(first)] for key in ("theta", "patch_prob"))
    theta = theta.where(gate[:, None, None] > 0.5, IDENTITY)
    rows = range(4) if "fill" in LAYERS[name] else gate.nonzero()[:, 0].tolist()
    near(warped[:, 0], by_function(picture(), LAYERS[name], theta, rows), 1e-5)
    assert drawn["visible"].shape == (1, 12)
    order = drawn["obj_to_img"][0].argsort(stable=True)
    shares = drawn["visible"][0][order].reshape(2, 3, 2)  # clip, frame, object
    near(shares, shares[:, :1].expand(2, 3, 2), 1e-6)


def test_in_a_video_frames_may_have_draws_of_their_own():
    clips = picture(4).reshape(2, 2, 3, HEIGHT, WIDTH)
    augmentation = random(clip=False, fill=0.5).bind([BOXES[:2]] * 4)
    warped = K.VideoSequential(augmentation, same_on_frame=False)(clips)
    theta = augmentation._params["theta"][0]
    assert len(theta.flatten(1).sum(1).unique()) == 8
    index = torch.arange(4).repeat_interleave(2)
    expected = kp.affine_patches(picture(4), BOXES[:2].repeat(4, 1), theta, index, clip=False, fill=0.5)
    same(warped.reshape(4, 3, HEIGHT, WIDTH), expected)


# --- replay and copies ------------------------------------------------------------------------------------------------


@layers
def test_a_replay_gives_the_same_bits_of_all_data_or_of_some(name):
    gates = {"p": 0.7, "p_patch": 0.6, "min_visible": 0.3}
    for seed in range(3):
        torch.manual_seed(seed)
        augmentation = random(**LAYERS[name], **gates)
        sequence = container(augmentation)
        warped = sequence(*data())
        kept = copy.deepcopy(sequence._params)
        shares = augmentation._params["visible"]
        sequence(*data())
        for again in (sequence(*data(), params=kept), container(random(**LAYERS[name], **gates))(*data(), params=kept)):
            for actual, expected in zip(again, warped, strict=True):
                same(actual, expected)
        same(augmentation._params["visible"], shares)
        for index in (0, 1, 3):
            same(sequence(data()[index], params=kept, data_keys=KEYS[index : index + 1]), warped[index])
        same(augmentation(picture(), params=kept[0].data), warped[0])


def test_masks_of_a_list_are_painted_as_those_of_a_batch():
    for name in ("all at once", "anywhere", "a colour"):
        augmentation = container(given(**LAYERS[name], p_patch=0.5), ["input", "mask", "bbox_xyxy"])
        masks = augmentation(picture(), MASKS, XYXY)[1]
        listed = augmentation(picture(), list(MASKS), XYXY, params=augmentation._params)[1]
        same(torch.stack(list(listed)).reshape(masks.shape), masks)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("asked", TRUTH)
def test_copies_replay_draw_the_same_and_have_the_shares_that_were_asked_for(asked, copied):
    options = {"clip": False, "fill": torch.tensor([0.1, 0.2, 0.3]), "matte": "ellipse", "min_visible": 0.2}
    original = container(random(**options, p_patch=0.7, learnable=True))
    warped = original(*data())
    drawn = original[0]._params
    shares = drawn["visible"] if asked else None
    for twin in (copied(original), container(copied(original[0]))):
        assert ("visible" in twin[0]._params) is asked
        if asked:
            same(twin[0]._params["visible"], shares)
        for params in (twin[0]._params, copied(drawn)):
            same(twin[0](picture(), params=params).detach(), warped[0].detach())
            near(twin[0]._params["visible"][0], shares_by_function(drawn, options), 1e-5)
        results = []
        for steps in (original, twin):
            torch.manual_seed(5)
            results.append(steps(*data()))
        for actual, expected in zip(*results, strict=True):
            same(actual, expected)


# --- how much of each object is seen ----------------------------------------------------------------------------------


def shares_by_function(drawn, options):
    """The visible share of each object, one after another: below all of its image that are painted, if it is not."""
    words = {k: options[k] for k in ("clip", "padding_mode", "align_corners") if k in options}
    words["mode"] = options.get("resample", "bilinear")
    boxes, theta, obj_to_img, gate = (drawn[k][0] for k in ("boxes", "theta", "obj_to_img", "patch_prob"))
    areas, shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), []
    order = list(range(len(boxes)))
    if options.get("order", "area") == "area":
        order.sort(key=lambda n: -areas[n].item())  # stable
    for n in range(len(boxes)):
        changed = drawn["batch_prob"][obj_to_img[n]] > 0.5
        moves = [bool(gate[m] > 0.5) for m in order]
        painted = [m for m, moved in zip(order, moves, strict=True) if obj_to_img[m] == obj_to_img[n] and changed]
        if options.get("fill") is None:
            painted = [m for m in painted if gate[m] > 0.5]
        rows = painted if n in painted else [n, *painted]
        moved = torch.stack([theta[m] if changed and gate[m] > 0.5 else IDENTITY for m in rows])
        alpha = matte_of(len(rows), options)
        index = torch.zeros(len(rows), dtype=torch.int64)
        found = kp.visible_share(boxes[rows], moved, index, size=(HEIGHT, WIDTH), alpha=alpha, **words)
        shares.append(found[rows.index(n)])
    return torch.stack(shares)


SEEN = {
    "within boxes": {},
    "as rows came": {"order": "rows", "padding_mode": "border"},
    **{name: LAYERS[name] for name in LAYERS if name != "clean pictures"},
}
# A third in the second image, small, first of the rows: below the others as rows came, above them by area.
THREE = torch.cat([BOXES, torch.tensor([[16, 11, 21, 15]])])[[0, 1, 4, 2, 3]]
OF_THREE = torch.tensor([0, 0, 1, 1, 1])


@pytest.mark.parametrize("name", SEEN)
def test_the_draw_tells_how_much_is_seen_of_each_object_painted_or_not(name):
    augmentation = random(**SEEN[name], p=0.7, p_patch=0.6)
    kinds = set()
    for seed in range(6):
        torch.manual_seed(seed)
        augmentation(picture(), THREE, obj_to_img=OF_THREE)
        shares = augmentation._params["visible"]
        assert shares.shape == (1, 5)
        near(shares[0], shares_by_function(augmentation._params, SEEN[name]), 1e-5)
        assert ((shares >= 0) & (shares <= 1 + 1e-6)).all()
        kinds.update((shares[0].detach() * 4).ceil().int().tolist())
    assert len(kinds) > 2  # from unseen to seen as a whole


def test_an_object_that_is_not_painted_covers_nothing_and_lies_below_all_that_is():
    """By hand: the small one stays. Half of it is covered if the large one comes, and nothing by it in turn."""
    boxes = torch.tensor([[4, 4, 8, 8], [10, 2, 20, 12]])
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0], [1, 0, 8 / 10, 0, 1, 0]])  # the large one goes 4 to the left
    gates = {"boxes": boxes, "theta": theta, "obj_to_img": torch.zeros(2, dtype=torch.int64)}
    for fill, expected in ((None, [0.5, 1.0]), (0.0, [1.0, 0.92])):  # as a layer it lies above: 2 x 4 of 100 pixels
        augmentation = kp.PatchAffine(clip=False, fill=fill)
        augmentation(picture(1), params={**gates, "patch_prob": torch.tensor([0.0, 1.0])})
        near(augmentation._params["visible"], torch.tensor([expected]), 1e-6)
    same(augmentation._params["boxes"][0], boxes)


def test_in_an_image_that_is_not_changed_no_object_covers_another():
    boxes = torch.tensor([[-4, 4, 4, 8], [2, 2, 12, 12], [-9, 3, -1, 9]])  # the last one is none of the image
    for options in ({}, {"fill": 0.0, "clip": False, "matte": "ellipse"}):
        augmentation = kp.PatchAffine(p=0.0, min_visible=0.5, **options)
        augmentation(picture(1), boxes, THETA[:3])
        near(augmentation._params["visible"], torch.tensor([[1.0, 1.0, 0.0]]), 1e-6)


def test_shares_are_found_when_first_asked_for_and_have_no_graph(monkeypatch):
    calls = []
    found = module.share_seen
    monkeypatch.setattr(module, "share_seen", lambda *args: calls.append(1) or found(*args))
    augmentation = random(clip=False, fill="surroundings", learnable=True)
    sequence = container(augmentation)
    outputs = sequence(*data())
    drawn = augmentation._params
    assert sequence._params[0].data is drawn
    assert drawn["theta"].requires_grad
    assert outputs[0].requires_grad
    assert not calls
    assert "visible" not in drawn
    shares = drawn["visible"]
    assert drawn["visible"] is shares
    assert not shares.requires_grad
    assert len(calls) == 1
    with pytest.raises(KeyError, match="invisible"):
        drawn["invisible"]
    augmentation(picture(), params=drawn)
    same(augmentation._params["visible"], shares)
    augmentation(picture(), params=drawn, clip=True)  # another call with the draw, of which other parts are seen
    assert (augmentation._params["visible"] < shares - 0.1).any()
    assert len(calls) == 3


def test_shares_are_those_of_the_draw_also_after_other_calls():
    augmentation = random(clip=False)
    augmentation(picture(), BOXES, obj_to_img=TWO_EACH)
    first = augmentation._params
    augmentation(picture(3), [BOXES[:1]] * 3, fill=0.0)
    near(first["visible"][0], shares_by_function(first, {"clip": False}), 1e-6)
    second = augmentation._params
    near(second["visible"][0], shares_by_function(second, {"clip": False, "fill": 0.0}), 1e-6)


@pytest.mark.parametrize("kind", [K.AugmentationSequential, kp.PatchAugmentationSequential])
@pytest.mark.parametrize("name", ["within boxes", "anywhere", "surroundings", "an ellipse", "all at once"])
def test_labels_of_which_less_is_seen_are_removed_and_nothing_else(name, kind):
    removed = kept = 0
    for seed in range(4):
        found = []
        for least in (0.0, 0.6):
            torch.manual_seed(seed)
            augmentation = random(**SEEN[name], p_patch=0.7, min_visible=least).bind(BOXES, obj_to_img=TWO_EACH)
            found.append(kind(augmentation, data_keys=KEYS)(*data()))
        shares = augmentation._params["visible"].reshape(2, 2)
        (images, masks, boxes, *others), (*pixels, fewer, points, classes) = found
        same(fewer, boxes.masked_fill((shares < 0.6)[..., None], 0))
        for one, other in zip((images, masks, *others), (*pixels, points, classes), strict=True):
            same(other, one)
        removed, kept = removed + (shares < 0.6).sum(), kept + (fewer != 0).any(-1).sum()
    assert removed > 1
    assert kept > 1


def test_removed_labels_stay_rows_of_later_steps():
    """What is bound once an object keeps its rows; a list comes out with a row of zeros."""
    hide = kp.PatchAffine(clip=False, min_visible=0.6, order="rows").bind(theta=THETA)
    still = kp.PatchAffine().bind(theta=IDENTITY.expand(4, 2, 3))
    sequence = kp.PatchAugmentationSequential(hide, still, data_keys=["input", "bbox_xyxy"])
    lists = sequence(picture(), list(XYXY))[1]
    shares = hide._params["visible"].reshape(2, 2)
    assert (shares < 0.6).sum() == 1
    for rows, seen in zip(lists, shares, strict=True):
        assert (rows != 0).any(1).tolist() == (seen >= 0.6).tolist()


@pytest.mark.parametrize("options", [{}, {"clip": False, "matte": "ellipse"}, {"fill": 0.0, "matte": "box"}])
def test_all_of_an_object_is_enough_for_the_highest_demand(options):
    """Boxes of fractions, shrunk by half, of which the sums of opacity end in other digits."""
    corners = 3 + 5 * torch.rand(60, 1, 2)
    boxes = torch.cat([corners, corners + 5 + 8 * torch.rand(60, 1, 2)], dim=-1)
    augmentation = kp.PatchAffine(min_visible=1.0, **options).bind(theta=torch.eye(2, 3).expand(60, 2, 3) * 2)
    moved = container(augmentation, ["input", "bbox_xyxy"])(torch.rand(60, 1, 26, 34), boxes)[1]
    assert (moved != 0).any(-1).all()


# --- labels are true to the pixels ------------------------------------------------------------------------------------


def shift(boxes, pixels):
    """The theta that moves content by (x, y) pixels."""
    linear = torch.eye(2).expand(len(boxes), 2, 2)
    return torch.cat([linear, -2 * (torch.tensor(pixels) / (boxes[:, 2:] - boxes[:, :2]))[..., None]], dim=2)


def boxes_of(classes, count):
    """The enclosing half-open box of the pixels of each class from 1 on, zeros where there are none."""
    found = torch.zeros(count, 4)
    for n in range(count):
        y, x = (classes == n + 1).nonzero().T
        if len(x):
            found[n] = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
    return found


def iou(one, other):
    """Of boxes ``(N, 4)``, row by row."""
    low, high = one[:, :2].maximum(other[:, :2]), one[:, 2:].minimum(other[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    return common / ((one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - common)


def coloured(boxes, height=HEIGHT, width=WIDTH):
    """A mask in which each box has its row's number from 1 on, the later above the earlier."""
    mask = torch.zeros(1, 1, height, width)
    for n, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        mask[..., y1:y2, x1:x2] = n + 1
    return mask


APART = torch.tensor([[2, 2, 12, 10], [14, 3, 22, 9], [3, 14, 9, 24], [20, 12, 32, 22]])
MOVES = {  # (x, y) in pixels; they end apart
    "to places of others": [(18, 11), (-12, 1), (13, -11), (-16, 2)],
    "out of the image": [(-6, -4), (10, 3), (-2, 9), (8, -18)],
    "and far out": [(-40, 0), (3, 2), (0, 60), (-8, 2)],
}


@pytest.mark.parametrize("options", [{}, {"fill": "surroundings"}, {"fill": 0.5, "matte": "box"}, {"fill": CLEAN[:1]}])
@pytest.mark.parametrize("move", MOVES)
def test_labels_masks_and_points_follow_objects_anywhere_in_the_image(move, options):
    """Each object has its own number in the mask, and one pixel of its own in the picture."""
    theta, pixels = shift(APART, MOVES[move]), torch.tensor(MOVES[move]).float()
    mask, points = coloured(APART), (APART[:, :2] + torch.tensor([3, 4])).float()
    images = torch.full((1, 3, HEIGHT, WIDTH), 0.2)
    for x, y in points.int().tolist():
        images[..., y, x] = 1
    augmentation = kp.PatchAffine(clip=False, min_visible=1e-4, **options).bind(theta=theta)
    inputs = images, mask, (APART - torch.tensor([0, 0, 1, 1]))[None].float(), points[None]
    warped, painted, (boxes,), (goals,) = container(augmentation, KEYS[:4])(*inputs)
    labels = boxes + torch.tensor([0, 0, 1, 1]) * (boxes != 0).any(1, keepdim=True)
    expected = (APART + pixels.repeat(1, 2)).clamp(min=0).minimum(torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]))
    gone = (expected[:, 2:] <= expected[:, :2]).any(1)
    near(labels, expected.masked_fill(gone[:, None], 0), 1e-4)
    assert gone.sum() == (2 if move == "and far out" else 0)
    for n, (x1, y1, x2, y2) in enumerate(labels.round().int().tolist()):
        assert (painted[0, 0, y1:y2, x1:x2] == n + 1).all()
        if options:  # without a fill it is still to see where it was
            assert (painted == n + 1).sum() == (y2 - y1) * (x2 - x1)
    near(goals, points + pixels, 1e-4)
    for x, y in goals.round().int().tolist():
        if 0 <= x < WIDTH and 0 <= y < HEIGHT:
            near(warped[0, :, y, x], torch.ones(3), 1e-4)


PILES = {  # boxes large first, and their theta: turned, scaled, thrown
    "a cup on a saucer": (
        [[4, 4, 24, 22], [12, 8, 20, 16]],
        [[-0.9, 0, 0.1, 0, -0.9, 0], [1.1, 0, 0.5, 0, 1.1, 0.25]],
    ),
    "a chain": (
        [[2, 3, 16, 15], [12, 9, 24, 21], [20, 4, 29, 14]],
        [[0, 1.0, 0.1, -1.2, 0, 0], [1, 0, -0.3, 0, 1, -0.3], [0, 1, -0.4, -1, 0, 0.1]],
    ),
    "three deep": (
        [[3, 3, 29, 23], [8, 6, 22, 18], [11, 8, 17, 14]],
        [[-1.0, 0, 0, 0, -1, 0], [0, 1.1, 0.4, -1, 0, 0.1], [1, 0, -0.5, 0, 1, 0.3]],
    ),
}


def ious_in_a_container(pile, **options):
    """The IoU of each label with the pixels of its object, each with its own colour, of what is seen enough of."""
    boxes, theta = (torch.tensor(part, dtype=torch.float32) for part in PILES[pile])
    boxes = 4 * boxes  # so that an edge that is rounded to pixels is little of an object
    images = coloured(boxes, 4 * HEIGHT, 4 * WIDTH) / 8
    augmentation = kp.PatchAffine(clip=False, resample="nearest", **options).bind(theta=theta)
    inputs = images, (boxes - torch.tensor([0, 0, 1, 1]))[None]
    warped, (labels,) = container(augmentation, ["input", "bbox_xyxy"])(*inputs)
    labels = labels + torch.tensor([0, 0, 1, 1]) * (labels != 0).any(1, keepdim=True)
    return iou(labels, boxes_of((8 * warped[0, 0]).round(), len(boxes)))


@pytest.mark.parametrize("pile", PILES)
def test_with_a_fill_labels_of_overlapping_objects_are_those_of_their_pixels(pile):
    """Without one a large object takes along those that lie on it, and they are seen twice."""
    assert (ious_in_a_container(pile, fill=0.0) > 0.94).all()
    assert ious_in_a_container(pile).min() < 0.6


def test_mask_labels_have_hard_edges_and_holes_of_no_class():
    for shape in ("box", "ellipse"):
        options = {"clip": False, "fill": "surroundings", "matte": shape, "feather": 1.0}
        masks = container(given(**options))(*data())[1]
        assert set(masks.unique().tolist()) <= {0.0, *MASKS.unique().tolist()}
        assert 0.02 < (masks == 0).float().mean() < 0.6
        without = container(given(clip=False, matte=shape))(*data())[1]
        assert (without != 0).all()  # nothing is taken off


def test_labels_of_ellipses_are_the_enclosing_boxes_of_moved_ellipses():
    """A disk that turns keeps its box, where its corners would make it larger by the square root of 2."""
    disk = torch.tensor([[10, 6, 22, 18]])
    turn = kp.theta_from_components(torch.tensor([45.0]), torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    inputs = picture(1), (disk - torch.tensor([0, 0, 1, 1]))[None].float()
    for matte, reach in (("ellipse", 6.0), ("box", 6 * 2**0.5), (None, 6 * 2**0.5)):
        augmentation = kp.PatchAffine(clip=False, matte=matte).bind(theta=turn)
        (box,) = container(augmentation, ["input", "bbox_xyxy"])(*inputs)[1][0]
        near(box, torch.tensor([16 - reach, 12 - reach, 15 + reach, 11 + reach]), 1e-4)


def test_a_step_that_follows_finds_the_object_where_it_went():
    """The second step moves it back: by the labels that the first one left, of integer shifts, nothing is lost."""
    boxes = torch.tensor([[2, 2, 12, 10], [20, 12, 30, 22]])
    there, back = ([(3, 10), (-4, -6)], [(-3, -10), (4, 6)])
    steps = [kp.PatchAffine(clip=False, fill=0.0).bind(theta=shift(boxes, pixels)) for pixels in (there, back)]
    sequence = kp.PatchAugmentationSequential(*steps, data_keys=["input", "bbox_xyxy"])
    images = coloured(boxes) / 4
    warped, labels = sequence(images, (boxes - torch.tensor([0, 0, 1, 1]))[None].float())
    near(warped, images, 1e-5)
    near(labels[0] + torch.tensor([0, 0, 1, 1]), boxes.float(), 1e-4)


# --- ranges, fills and mattes learn -----------------------------------------------------------------------------------

LEARNED = {
    "anywhere": {"clip": False},
    "a fill": {"fill": 0.3},
    "anywhere and a fill": {"clip": False, "fill": "surroundings"},
    "all at once": {"clip": False, "fill": (0.1, 0.9), "matte": "ellipse", "feather": 0.5},
}
NUMBERS = {"degrees": [20.0, 35.0], "translate": [0.7, 1.3], "scale": [0.8, 1.1], "shear": [-9.0, 12.0]}


def waves():
    """Smooth pictures (2, 2, 26, 34) in float64."""
    y, x = torch.meshgrid(torch.arange(26.0).double(), torch.arange(34.0).double(), indexing="ij")
    rows = [torch.sin(0.3 * x + 0.2 * k * y) + torch.cos(0.25 * y - 0.1 * k * x) for k in range(4)]
    return torch.stack(rows).reshape(2, 2, 26, 34)


@pytest.mark.parametrize("name", LEARNED)
def test_ranges_learn_through_reach_and_fills_as_finite_differences_say(name):
    options, numbers = LEARNED[name], {k: torch.tensor(v, dtype=torch.float64) for k, v in NUMBERS.items()}

    def loss(numbers):
        torch.manual_seed(3)
        augmentation = kp.RandomPatchAffine(**numbers, p=1.0, **options)
        warped = augmentation(waves(), BOXES, obj_to_img=TWO_EACH)
        return (warped * picture(2, 2, seed=1).double()).sum()

    parameters = {k: nn.Parameter(v.clone()) for k, v in numbers.items()}
    loss(parameters).backward()
    for key, parameter in parameters.items():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.all()
        for k in range(len(numbers[key])):
            ends = []
            for sign in (1, -1):
                moved = {name: nn.Parameter(value.clone()) for name, value in numbers.items()}
                moved[key].data[k] += sign * 1e-6
                ends.append(loss(moved).item())
            difference = (ends[0] - ends[1]) / 2e-6
            assert abs(parameter.grad[k].item() - difference) < 1e-4 * abs(difference) + 1e-4, (key, k)


def test_a_range_learns_where_objects_are_to_go():
    """By descent a shift of 1.25 of the width is found through a fill, from a range that ends at 1.05."""
    images, boxes = waves()[:1, :1].float(), torch.tensor([[2, 4, 14, 20]])
    options = {"clip": False, "fill": "surroundings", "matte": "ellipse"}
    target = kp.PatchAffine(**options)(images, boxes, shift(boxes, [(15.0, 0.0)]))
    augmentation = kp.RandomPatchAffine(0.0, translate=(1.05, 0.0), p=1.0, learnable=True, **options)
    optimizer = torch.optim.Adam([augmentation.ranges.translate], lr=0.02)
    share = 0.0  # of the range, to which its end is multiplied
    while share < 0.9:
        draw = augmentation.forward_parameters(images.shape)
        augmentation(images, boxes, params=dict(draw))
        share = -augmentation._params["theta"][0, 0, 0, 2].item() / 2 / 1.05
    for _ in range(60):
        step(optimizer, (augmentation(images, boxes, params=dict(draw)) - target).square().mean())
    near(augmentation.ranges.translate[0].detach() * share, torch.tensor(1.25), 0.02)


def test_gradients_reach_images_theta_boxes_and_the_fill():
    names = ("images", "theta", "boxes", "fill")
    inputs = waves(), THETA.double(), BOXES.double() + 0.3, picture(2, 2, seed=5).double()
    found = []
    for run in (
        lambda images, theta, boxes, fill: kp.PatchAffine(clip=False)(images, boxes, theta, TWO_EACH, fill=fill),
        lambda images, theta, boxes, fill: kp.affine_patches(images, boxes, theta, TWO_EACH, clip=False, fill=fill),
    ):
        leaves = [value.clone().requires_grad_() for value in inputs]
        loss = (run(*leaves) * picture(2, 2, seed=1).double()).sum()
        found.append(torch.autograd.grad(loss, leaves))
    for name, actual, expected in zip(names, *found, strict=True):
        assert expected.any(), name
        same(actual, expected)
    colour = torch.zeros(3, requires_grad=True)
    given(fill=colour)(picture()).sum().backward()
    assert colour.grad.all()


def test_labels_have_gradients_anywhere_in_the_image():
    """Half of the box's width is 5 pixels: content moves by -5 for each 1 of a shift of theta, and so do labels."""
    theta = shift(torch.tensor([[2, 2, 12, 10]]), [(12.0, 5.0)]).requires_grad_()
    augmentation = kp.PatchAffine(clip=False, fill=0.0, matte="ellipse").bind(theta=theta)
    inputs = picture(1), torch.tensor([[[2.0, 2, 11, 9]]]), torch.tensor([[[4.0, 5]]])
    _, boxes, points = container(augmentation, ["input", "bbox_xyxy", "keypoints"])(*inputs)
    near(boxes.detach(), torch.tensor([[[14.0, 7, 23, 14]]]), 1e-5)
    for moved in (boxes[0, 0, 0], boxes[0, 0, 2], points[0, 0, 0]):
        near(torch.autograd.grad(moved, theta, retain_graph=True)[0][0, 0, 2], torch.tensor(-5.0), 1e-5)


# --- torch.compile ----------------------------------------------------------------------------------------------------

COMPILED = {"all at once": LAYERS["all at once"], "a colour": {"fill": (0.1, 0.2, 0.3), "clip": False, "order": "rows"}}


@pytest.fixture
def fresh():
    torch._dynamo.reset()


@of_classes
@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_draws_gradients_and_replays_are_those_of_eager_code_in_one_graph(name, fresh):
    options = {**COMPILED[name], "p": 0.8, "p_patch": 0.6, "learnable": True}
    eager, other = random(**options), random(**options)
    function = torch.compile(other, fullgraph=True, backend="aot_eager", dynamic=True)
    for seed, count in enumerate((4, 3, 5)):
        boxes, index = BOXES.repeat(2, 1)[:count], TWO_EACH.repeat(2)[:count]
        results = []
        for augmentation in (eager, function):
            torch.manual_seed(seed)
            with torch._dynamo.config.patch(error_on_recompile=seed == 2):
                warped = augmentation(picture(), boxes, obj_to_img=index)
            augmentation.zero_grad()
            warped.square().sum().backward()
            results.append([warped, *(p.grad.clone() for p in augmentation.parameters())])
        for actual, expected in zip(*results[::-1], strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
        assert {**other._params}.keys() == {**eager._params}.keys()
        same(eager(picture(), params=other._params), results[1][0])


@of_classes
@pytest.mark.slow
def test_compiled_code_takes_a_theta_and_clean_pictures_for_one_call(fresh):
    augmentation = kp.PatchAffine(clip=False, matte="ellipse")
    function = torch.compile(augmentation, fullgraph=True, backend="aot_eager")
    expected = augmentation(picture(), BOXES, THETA, TWO_EACH, fill=CLEAN)
    same(function(picture(), BOXES, THETA, TWO_EACH, fill=CLEAN), expected)
