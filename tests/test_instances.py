"""Instance masks: each channel moves with its own object, by a loop over objects; and what masks of classes are filled
with where nothing is known."""

import kornia.augmentation as K
import pytest
import torch
from kornia.constants import DataKey
from support.kornia_scenes import BOX_KEYS, HEIGHT, WIDTH, hard_mattes, near, picture, same

import kornia_patchaug as kp

# Objects that overlap, two and three an image, not in the order of their areas; a row is padding. Half open.
BOXES = torch.tensor([[3, 4, 15, 12], [9, 8, 29, 21], [14, 2, 23, 24], [18, 14, 28, 24], [10, 10, 18, 22]])
OBJ_TO_IMG = torch.tensor([0, 0, 1, 1, 1])
ROW = torch.tensor([0, 1, 0, 1, 2])
INCLUSIVE = torch.tensor([0.0, 0, 1, 1])
PADDED = torch.zeros(2, 3, 4)
PADDED[OBJ_TO_IMG, ROW] = BOXES - INCLUSIVE
LISTS = [PADDED[0, :2], PADDED[1]]
THETA = torch.tensor(
    [
        [1.2, -0.2, -1.4, 0.3, 0.8, -0.9],
        [0.9, 0.3, 0.1, -0.4, 1.1, 0.0],
        [0.7, 0.5, -0.6, -0.2, 1, 0.3],
        [1, 0, 0, 0, 1, 0],
        [1, 0.1, -1.1, -0.1, 0.9, -1.3],
    ]
).reshape(5, 2, 3)
STAYS = 3  # of the five
IDENTITY = torch.eye(2, 3)
KEYS = ["input", "mask", "bbox_xyxy"]


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def blobs(dtype=torch.float32):
    """A mask an object, (2, 3, 26, 34): random pixels of its box; those of padding are empty."""
    generator = torch.Generator().manual_seed(4)
    masks = torch.zeros(2, 3, HEIGHT, WIDTH)
    for (x1, y1, x2, y2), b, m in zip(BOXES.tolist(), OBJ_TO_IMG.tolist(), ROW.tolist(), strict=True):
        masks[b, m, y1:y2, x1:x2] = (torch.rand(y2 - y1, x2 - x1, generator=generator) < 0.8).float()
    return masks.to(dtype)


def container(*augmentations, keys=KEYS, **options):
    return kp.PatchAugmentationSequential(*augmentations, data_keys=list(keys), instance_masks=True, **options)


def given(theta=THETA, **options):
    return kp.PatchAffine(**options).bind(theta=theta)


def area(n):
    x1, y1, x2, y2 = BOXES[n].tolist()
    return (x2 - x1) * (y2 - y1)


def by_loop(masks, theta=THETA, *, active=None, **options):
    """Each object of each image in painting order: its mask moves as a picture of one channel, on black; those painted
    after it take away the pixels that they paint, and with a fill those where they were. An object that stays shows
    what was there, and hides nothing of another that stays."""
    active = [True] * len(BOXES) if active is None else active
    words = {name: options[name] for name in ("padding_mode", "align_corners") if name in options}
    clipped = {"clip": options.get("clip", True)}
    found = masks.clone().float()
    for b in range(len(masks)):
        rows = [n for n in range(len(BOXES)) if OBJ_TO_IMG[n] == b]
        if options.get("order", "area") == "area":
            rows = sorted(rows, key=area, reverse=True)
        drawn = []  # what each paints, and its hole
        for n in rows:
            if not active[n] and options.get("fill") is None:
                continue
            one = theta[n : n + 1] if active[n] else IDENTITY[None]
            still = torch.equal(one[0], IDENTITY)
            alpha = alpha_of(n, masks, options)
            box = BOXES[n : n + 1]
            read = {"source_boxes": box, "theta": one, "alpha": alpha, "mode": "nearest", **words}
            blank = torch.zeros(1, 1, HEIGHT, WIDTH)
            if clipped["clip"] and words.get("padding_mode") != "transparent":
                read["padding_mode"] = "border"  # all of a window is painted, with black too
            paints = kp.transplant_patches(blank, box, source=torch.ones_like(blank), **clipped, **read)
            drawn.append((n, paints[0, 0] > 0.5, hole_of(n, still, alpha, options), still))
        for m in [n for n in range(len(BOXES)) if OBJ_TO_IMG[n] == b]:
            first = next((k for k, (n, *_) in enumerate(drawn) if n == m), -1)
            keeps = first < 0 or drawn[first][3]  # it stays, or is not painted at all
            mask = found[b, ROW[m]].clone()
            if options.get("fill") is not None:
                mask[lost([(hole, still) for _, _, hole, still in drawn[first + 1 :]], keeps)] = 0
            if not keeps:  # the mask is lifted off its place
                alpha = alpha_of(m, masks, options)
                box = BOXES[m : m + 1]
                read = {"source_boxes": box, "theta": theta[m : m + 1], "alpha": alpha, "mode": "nearest", **words}
                blank = torch.zeros(1, 1, HEIGHT, WIDTH)
                mask = kp.transplant_patches(blank, box, source=mask[None, None], **clipped, **read)[0, 0]
            mask[lost([(paints, still) for _, paints, _, still in drawn[first + 1 :]], keeps)] = 0
            found[b, ROW[m]] = mask
    return found


def alpha_of(n, masks, options):
    """What of an object is opaque: all, a matte of 100 pixels, or its own mask."""
    if options.get("matte") == "mask":
        return masks[OBJ_TO_IMG[n], ROW[n]][None] > 0.5
    return None if options.get("matte") is None else hard_mattes(options["matte"])


def lost(above, keeps):
    """Where the last of what is above an object takes it away: one that stays leaves what ``keeps`` its place."""
    top = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for area, still in above:
        top[area] = not (still and keeps)
    return top


def hole_of(n, still, alpha, options):
    """The pixels that are taken off with an object; of a soft one that moves half of what its hole is larger by."""
    if options.get("matte") == "mask":
        return alpha[0]
    feather = options.get("feather", 0.2)
    grow = 0 if still or alpha is None else min(max(feather / (1 - feather), 0.1), 0.5) / 2
    more = grow / 2 * (BOXES[n, 2:] - BOXES[n, :2])
    box = torch.cat([BOXES[n, :2] - more, BOXES[n, 2:] + more])[None]
    blank = torch.zeros(1, 1, HEIGHT, WIDTH)
    return kp.paste_patches(blank, torch.ones(1, 1, 1, 1), box, alpha=alpha, mode="nearest")[0, 0] > 0.5


MOVES = {
    "within boxes": {},
    "anywhere": {"clip": False},
    "rows as they came": {"clip": False, "order": "rows"},
    "border": {"padding_mode": "border"},
    "transparent": {"padding_mode": "transparent", "align_corners": True},
    "ellipses": {"matte": "ellipse", "feather": 0.6},
    "ellipses anywhere": {"matte": "ellipse", "clip": False},
    "masks": {"matte": "mask", "clip": False},
    "masks within boxes": {"matte": "mask", "padding_mode": "border"},
    "a fill and masks": {"fill": 0.5, "matte": "mask", "clip": False},
    "a fill": {"fill": 0.5},
    "a fill and ellipses anywhere": {"fill": "surroundings", "matte": "ellipse", "clip": False},
    "a fill, anywhere": {"fill": "surroundings", "clip": False},
}
moves = pytest.mark.parametrize("name", MOVES)


@moves
def test_each_channel_moves_with_its_own_object_and_loses_what_is_painted_over_it(name):
    options = MOVES[name]
    images, masks, boxes = container(given(**options))(picture(), blobs(), PADDED)
    same(masks, by_loop(blobs(), **options))
    bound = kp.PatchAffine(**options).bind(theta=THETA, masks=blobs()[OBJ_TO_IMG, ROW])
    without = kp.PatchAugmentationSequential(bound, data_keys=["input", "bbox_xyxy"])
    same(images, without(picture(), PADDED)[0])
    same(boxes, without(picture(), PADDED)[1])
    moved = [n for n in range(5) if n != STAYS]
    assert (masks != blobs()).flatten(2).any(2)[OBJ_TO_IMG[moved], ROW[moved]].all()


def test_the_scene_is_one_in_which_masks_differ_by_option():
    """So that the comparison above can fail; and in it what stays is covered in part."""
    found = torch.stack([by_loop(blobs(), **options) for options in MOVES.values() if "fill" not in options])
    assert (torch.pdist(found.flatten(1)) > 1).all()
    lost = blobs()[1, 1].sum() - by_loop(blobs(), clip=False)[1, 1].sum()  # of what stays
    assert 0 < lost < 40


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64])
def test_masks_keep_their_dtype(dtype):
    for options in ({}, {"clip": False, "fill": 0.0}):
        masks = container(given(**options))(picture(), blobs(dtype), PADDED)[1]
        same(masks, by_loop(blobs(), **options).to(dtype))


def test_masks_of_bytes_keep_their_values():
    """Such as 255, of which a channel is made as it comes."""
    masks = container(given(clip=False))(picture(), blobs(torch.uint8) * 255, PADDED)[1]
    same(masks, by_loop(blobs(), clip=False).to(torch.uint8) * 255)


def test_boxes_may_come_as_a_list():
    images, masks, boxes = container(given(clip=False))(picture(), blobs(), LISTS)
    padded = container(given(clip=False))(picture(), blobs(), PADDED)
    same(images, padded[0])
    same(masks, padded[1])
    same(boxes[0], padded[2][0, :2])
    same(boxes[1], padded[2][1])


def test_rows_of_padding_before_others_are_no_objects():
    """The channel of a row is its own, wherever padding is."""
    order = [2, 0, 1]  # the padding of image 0 comes first
    boxes, masks = PADDED.clone(), blobs()
    boxes[0], masks[0] = boxes[0, order], masks[0, order]
    masks[0, 0] = 7.0  # whatever padding has stays
    found = container(given(clip=False))(picture(), masks, boxes)[1]
    expected = by_loop(blobs(), clip=False)
    same(found[0, 1:], expected[0, :2])
    same(found[0, 0], masks[0, 0])
    same(found[1], expected[1])


def test_objects_that_stay_keep_their_bits_where_boxes_overlap():
    """Each shows what was there, and takes nothing of the others."""
    soft = torch.rand(2, 3, HEIGHT, WIDTH)
    for options in ({}, {"clip": False}, {"matte": "ellipse"}, {"fill": 0.3}, {"fill": "surroundings", "matte": "box"}):
        same(container(given(IDENTITY.expand(5, 2, 3), **options))(picture(), soft, PADDED)[1], soft)


def test_one_that_moves_over_those_that_stay():
    """By hand: 8 x 4 pixels go 10 to the right, over half of another and beneath a third, the smallest."""
    boxes = torch.tensor([[2, 4, 10, 8], [8, 2, 16, 7], [14, 4, 17, 7]])
    theta = torch.eye(2, 3).repeat(3, 1, 1)
    theta[0, 0, 2] = -2 * 10 / 8
    masks = torch.zeros(1, 3, HEIGHT, WIDTH)
    for m, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        masks[0, m, y1:y2, x1:x2] = 1
    rows = torch.tensor([1, 0, 2])  # 40, 32 and 9 pixels: the second is painted first
    assert rows.tolist() == [1, 0, 2]
    found = container(given(theta, clip=False))(picture(1), masks, (boxes - INCLUSIVE)[None])[1]
    expected = torch.zeros(1, 3, HEIGHT, WIDTH)
    expected[0, 0, 4:8, 12:20] = 1
    expected[0, 0, 4:7, 14:17] = 0
    expected[0, 1, 2:7, 8:16] = 1
    expected[0, 1, 4:7, 12:14] = 0  # where the third lies on it, what was there is seen
    expected[0, 2, 4:7, 14:17] = 1
    same(found, expected)


@pytest.mark.parametrize("options", [{"p": 0.5}, {"p": 1.0, "p_batch": 0.5}, {"p": 1.0, "p_patch": 0.5}])
@pytest.mark.parametrize("fill", [None, 0.5])
def test_gated_images_and_objects_keep_their_masks(options, fill):
    ranges, seen = {"degrees": 60.0, "translate": (0.9, 0.9), "scale": (0.6, 1.3)}, set()
    augmentation = kp.RandomPatchAffine(**ranges, **options, clip=False, fill=fill)
    for seed in range(8):
        torch.manual_seed(seed)
        masks = container(augmentation)(picture(), blobs(), PADDED)[1]
        draw = augmentation._params
        gate = draw["batch_prob"] > 0.5
        same(masks[~gate], blobs()[~gate])
        active = ((draw["patch_prob"][0] > 0.5) & gate[OBJ_TO_IMG]).tolist()
        expected = by_loop(blobs(), draw["theta"][0], active=active, clip=False, fill=fill)
        same(masks, expected.where(gate[:, None, None, None], blobs()))
        seen.add(tuple(active))
    assert len(seen) > 1


def test_in_turn_masks_follow_their_pixels():
    """sequential: each object takes along whatever of others lies in its box by then."""
    masks = container(given(sequential=True))(picture(), blobs(), PADDED)[1]
    expected = blobs()
    for n in sorted(range(5), key=area, reverse=True):
        b = OBJ_TO_IMG[n : n + 1]
        expected = kp.affine_patches(expected, BOXES[n : n + 1], THETA[n : n + 1], b, mode="nearest")
    same(masks, expected)


def test_masks_are_those_of_the_pixels():
    """Objects of one colour each, on a picture that is filled: a colour is seen where its mask is."""
    colours = torch.arange(1, 6) / 8
    images = torch.zeros(2, 1, HEIGHT, WIDTH)
    masks = torch.zeros(2, 3, HEIGHT, WIDTH)
    for b in range(2):
        for n in sorted((n for n in range(5) if OBJ_TO_IMG[n] == b), key=area, reverse=True):
            x1, y1, x2, y2 = BOXES[n].tolist()
            images[b, :, y1:y2, x1:x2] = colours[n]
            masks[b, :, y1:y2, x1:x2] = 0
            masks[b, ROW[n], y1:y2, x1:x2] = 1
    for seed in range(6):
        torch.manual_seed(seed)
        augmentation = kp.RandomPatchAffine(
            90.0, (0.6, 0.6), (0.7, 1.2), p=1.0, clip=False, fill=0.0, resample="nearest"
        )
        warped, moved, _ = container(augmentation)(images, masks, PADDED)
        shown = sum(
            moved[OBJ_TO_IMG[n], ROW[n]][None] * colours[n] * (torch.arange(2) == OBJ_TO_IMG[n])[:, None, None]
            for n in range(5)
        )
        near(warped[:, 0], shown)


# --- Kornia's steps ---------------------------------------------------------------------------------------------------


def test_kornias_steps_move_all_channels():
    """A flip, a turn of ours, and a flip: as the turn of what is mirrored, mirrored."""
    steps = K.RandomHorizontalFlip(p=1.0), given(clip=False), K.RandomVerticalFlip(p=1.0)
    masks = container(*steps)(picture(), blobs(), PADDED)[1]
    mirrored = torch.stack([WIDTH - BOXES[:, 2], BOXES[:, 1], WIDTH - BOXES[:, 0], BOXES[:, 3]], dim=1)
    only = container(given(clip=False))(picture(), blobs().flip(-1), _padded(mirrored))[1]
    same(masks, only.flip(-2))
    assert (masks != blobs()).any()


def _padded(boxes):
    padded = torch.zeros(2, 3, 4)
    padded[OBJ_TO_IMG, ROW] = boxes - INCLUSIVE
    return padded


def test_in_a_nested_container_of_kornias_masks_follow_too():
    inner = K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), given(clip=False))
    expected = container(K.RandomHorizontalFlip(p=1.0), given(clip=False))(picture(), blobs(), PADDED)
    for found, value in zip(container(inner)(picture(), blobs(), PADDED), expected, strict=True):
        same(found, value)


def test_a_crop_moves_masks_and_a_colour_step_leaves_them():
    crop = K.CenterCrop((20, 26), p=1.0)
    steps = crop, given(clip=False), K.ColorJiggle(0.2, 0.2, p=1.0)
    found = container(*steps)(picture(), blobs(), PADDED)[1]
    boxes = BOXES - torch.tensor([4, 3, 4, 3])
    only = container(given(clip=False))(picture()[..., 3:23, 4:30], blobs()[..., 3:23, 4:30], _padded(boxes))[1]
    same(found, only)


def test_masks_replay_to_the_last_bit():
    augmentation = kp.RandomPatchAffine(60.0, (0.9, 0.9), p=0.7, p_patch=0.7, clip=False)
    sequence = container(K.RandomHorizontalFlip(p=0.5), augmentation, boxes_from_masks=True)
    expected = sequence(picture(), blobs(), PADDED)
    for found, value in zip(sequence(picture(), blobs(), PADDED, params=sequence._params), expected, strict=True):
        same(found, value)


def test_a_single_picture_needs_no_batch():
    one = container(given(THETA[:2], clip=False), keepdim=True)(picture()[0], blobs()[0, :2], PADDED[0, :2])
    batch = container(given(THETA[:2], clip=False))(picture()[:1], blobs()[:1, :2], PADDED[:1, :2])
    for found, value in zip(one, batch, strict=True):
        same(found, value[0])


def test_no_objects_at_all():
    for boxes, masks in (([torch.zeros(0, 4)] * 2, torch.zeros(2, 0, HEIGHT, WIDTH)), (PADDED * 0, blobs())):
        sequence = container(kp.RandomPatchAffine(60.0, p=1.0), boxes_from_masks=True)
        images, found, _ = sequence(picture(), masks, boxes)
        same(images, picture())
        same(found, masks)


def test_nothing_of_the_caller_is_modified():
    inputs = picture(), blobs(), PADDED.clone()
    container(given(clip=False), boxes_from_masks=True)(*inputs)
    for found, value in zip(inputs, (picture(), blobs(), PADDED), strict=True):
        same(found, value)


def test_gradients_reach_soft_masks():
    masks = blobs().double().requires_grad_()
    container(given(clip=False))(picture(dtype=torch.float64), masks, PADDED)[1].sum().backward()
    assert masks.grad[OBJ_TO_IMG, ROW].flatten(1).any(1).all()
    assert (masks.grad[0, 2] == 1).all()  # padding stays


WRONG_MASKS = [
    (torch.zeros(2, 2, HEIGHT, WIDTH), r"\(2, 2, 26, 34\)"),
    (torch.zeros(2, 1, HEIGHT, WIDTH), r"\(2, 1, 26, 34\)"),
    ([torch.zeros(3, HEIGHT, WIDTH)] * 2, "list"),
]


@pytest.mark.parametrize(("masks", "got"), WRONG_MASKS)
@pytest.mark.parametrize("make", [given, lambda: kp.RandomPatchPaste(2, p=1.0), lambda: K.RandomHorizontalFlip(p=1.0)])
def test_masks_that_are_not_one_a_row_are_one_clear_error(make, masks, got):
    text = rf"^mask: expected instance masks \(2, 3, 'H', 'W'\), a channel a row of boxes, got {got}"
    with pytest.raises(ValueError, match=text):
        container(make())(picture(), masks, PADDED)


def test_masks_of_another_size_are_one_clear_error():
    with pytest.raises(ValueError, match=r"(?i)mask.*\(2, 3, 26, 34\).*\(2, 3, 13, 17\)"):
        container(given(clip=False))(picture(), torch.zeros(2, 3, 13, 17), PADDED)


def test_boxes_from_masks_are_of_instance_masks():
    with pytest.raises(ValueError, match=r"^boxes_from_masks: expected instance_masks=True"):
        kp.PatchAugmentationSequential(given(), data_keys=KEYS, boxes_from_masks=True)


# --- boxes from masks -------------------------------------------------------------------------------------------------


def tight(mask):
    """The box of a mask, its last pixel included, or zeros."""
    found = [(x, y) for y, row in enumerate(mask.tolist()) for x, value in enumerate(row) if value]
    if not found:
        return [0.0] * 4
    x, y = zip(*found, strict=True)
    return [min(x), min(y), max(x), max(y)]


BOX_FORMS = {
    "padded": lambda rows: rows,
    "a list": lambda rows: [rows[0, :2], rows[1]],
}


@pytest.mark.parametrize("form", BOX_FORMS)
@pytest.mark.parametrize("name", ["within boxes", "anywhere", "ellipses anywhere", "a fill, anywhere"])
def test_boxes_of_objects_that_moved_are_tight_around_their_masks(name, form):
    sequence = container(given(**MOVES[name]), boxes_from_masks=True)
    _, masks, boxes = sequence(picture(), blobs(), BOX_FORMS[form](PADDED))
    same(masks, by_loop(blobs(), **MOVES[name]))
    for n in [n for n in range(5) if n != STAYS]:
        b, m = OBJ_TO_IMG[n], ROW[n]
        near(boxes[b][m], torch.tensor(tight(masks[b, m])).float(), 1e-4)
    same(boxes[1][1], PADDED[1, 1])  # stays, and keeps its bits
    if form == "padded":
        same(boxes[0, 2], torch.zeros(4))


@pytest.mark.parametrize("key", ["bbox", "bbox_xywh"])
def test_tight_boxes_come_in_every_format(key):
    rows = BOX_KEYS[key](PADDED)
    rows[0, 2] = 0
    sequence = container(given(clip=False), keys=["input", "mask", key], boxes_from_masks=True)
    _, masks, boxes = sequence(picture(), blobs(), rows)
    expected = torch.tensor([tight(masks[b, m]) for b, m in ((0, 0), (0, 1), (1, 0), (1, 2))]).float()
    near(boxes[[0, 0, 1, 1], [0, 1, 0, 2]], BOX_KEYS[key](expected), 1e-4)


def test_kornias_steps_leave_boxes_tight_too():
    """A crop cuts masks, and boxes are tight around what is left; a flip of a tight box is a tight box."""
    sequence = container(K.CenterCrop((12, 14), p=1.0), boxes_from_masks=True)
    _, masks, boxes = sequence(picture(), blobs(), PADDED)
    for n in range(5):
        b, m = OBJ_TO_IMG[n], ROW[n]
        near(boxes[b, m], torch.tensor(tight(masks[b, m])).float(), 1e-4)


SLIDES = torch.tensor([[4.0, 4, 23, 19], [26, 8, 31, 11]])  # 20 x 16, and 6 x 4 pixels


def slid(theta_small):
    """The large one goes 20 pixels right, over where the small one is, rows as they came: the large one last."""
    theta = torch.stack([theta_small, torch.tensor([[1.0, 0, -2 * 10 / 10], [0, 1, 0]])])
    masks = torch.zeros(1, 2, HEIGHT, WIDTH)
    masks[0, 0, 8:12, 26:32] = 1
    masks[0, 1, 4:20, 4:24] = 1
    augmentation = kp.PatchAffine(clip=False, order="rows").bind(theta=theta)
    return container(augmentation, boxes_from_masks=True)(picture(1), masks, SLIDES[[1, 0]][None])


COVERED = {
    "stays": [[1.0, 0, 0], [0, 1, 0]],
    "turns in its place": [[-1.0, 0, 0], [0, -1, 0]],
    "moves a pixel": [[1.0, 0, 1 / 3], [0, 1, 0]],
}


@pytest.mark.parametrize("name", COVERED)
def test_an_object_that_is_wholly_covered_is_removed(name):
    _, masks, boxes = slid(torch.tensor(COVERED[name]))
    assert not masks[0, 0].any()
    same(boxes[0, 0], torch.zeros(4))
    near(boxes[0, 1], torch.tensor([24.0, 4, 33, 19]), 1e-4)


def test_what_copies_cover_wholly_is_removed():
    """A bank's object of 12 x 12 over one of 6 x 4; what is half covered keeps its row."""
    bank = [torch.rand(3, 12, 12)], [{"boxes": torch.tensor([[0.0, 0, 12, 12]]), "masks": torch.ones(1, 12, 12)}]

    def place(noise, sizes, size, images):
        return torch.tensor([28.0, 10.0]).expand_as(noise)

    augmentation = kp.RandomPatchPaste(1, donors=bank, place=place, p=1.0, max_cover=1.0)
    masks = torch.zeros(1, 2, HEIGHT, WIDTH)
    masks[0, 0, 8:12, 26:32] = 1
    masks[0, 1, 4:20, 4:24] = 1
    _, found, boxes = container(augmentation, boxes_from_masks=True)(picture(1), masks, SLIDES[[1, 0]][None])
    assert not found[0, 0].any()
    same(boxes[0, 0], torch.zeros(4))
    near(boxes[0, 2], torch.tensor([22.0, 4, 33, 15]), 1e-4)


def test_boxes_of_copies_are_tight_around_their_masks():
    masks = torch.zeros(2, 3, HEIGHT, WIDTH)
    for (x1, y1, x2, y2), b, m in zip(BOXES.tolist(), OBJ_TO_IMG.tolist(), ROW.tolist(), strict=True):
        masks[b, m, y1 + 2 : y2 - 1, x1 + 1 : x2 - 3] = 1  # with a margin
    for boxes in (PADDED, LISTS):
        augmentation = kp.RandomPatchPaste((1, 4), degrees=180.0, scale=(0.3, 0.6), p=1.0, max_cover=0.5)
        _, found, rows = container(augmentation, boxes_from_masks=True)(picture(), masks, boxes)
        own, appended = [2, 3], 0
        for b in range(2):
            first = own[b] if isinstance(boxes, list) else 3
            for m in range(first, len(rows[b])):
                near(rows[b][m], torch.tensor(tight(found[b, m])).float(), 1e-4)
                appended += bool(found[b, m].any())
        assert appended > 2


# --- masks of classes -------------------------------------------------------------------------------------------------

CLASSES = torch.randint(1, 9, (2, 1, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2)).float()


def of_classes(augmentation, masks=CLASSES, **options):
    sequence = kp.PatchAugmentationSequential(augmentation, data_keys=KEYS, **options)
    return sequence(picture(), masks, PADDED)[1]


HOLES = {"a number": {"fill": 0.5}, "surroundings": {"fill": "surroundings", "matte": "ellipse"}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
@pytest.mark.parametrize("name", HOLES)
def test_holes_of_masks_of_classes_are_mask_fill(name, dtype):
    """Where there is 0 without, there is 255 with it, and nowhere else."""
    options = {"clip": False, **HOLES[name]}
    without = of_classes(given(**options), CLASSES.to(dtype))
    found = of_classes(given(**options), CLASSES.to(dtype), mask_fill=255)
    assert (without == 0).sum() > 100
    same(found, without.masked_fill(without == 0, 255))


def test_a_hole_by_hand():
    theta = torch.tensor([[1.0, 0, -2 * 12 / 8], [0, 1, 0]])[None]  # 12 pixels to the right
    boxes, masks = torch.tensor([[[4.0, 6, 11, 9]]]), torch.full((1, 1, HEIGHT, WIDTH), 3.0)
    masks[..., 6:10, 4:12] = 5
    for value, options in ((255.0, {"mask_fill": 255}), (0.0, {}), (7.0, {"mask_fill": 7})):
        augmentation = kp.PatchAffine(clip=False, fill=0.2).bind(theta=theta)
        sequence = kp.PatchAugmentationSequential(augmentation, data_keys=KEYS, **options)
        images, found, _ = sequence(picture(1), masks, boxes)
        expected = torch.full_like(masks, 3.0)
        expected[..., 6:10, 4:12] = value
        expected[..., 6:10, 16:24] = 5
        same(found, expected)
        assert (images[..., 6:10, 4:12] == 0.2).all()


@pytest.mark.parametrize("options", [{"clip": False}, {"matte": "ellipse"}, {"padding_mode": "border"}])
def test_without_a_fill_an_object_leaves_no_hole_in_masks_either(options):
    """The image shows it twice, and so does the mask."""
    same(of_classes(given(**options), mask_fill=255), of_classes(given(**options)))


BLACK = {
    "beyond a patch that was turned": lambda: given(),
    "the same, in turn": lambda: given(sequential=True),
    "an image that was turned": lambda: K.RandomRotation((30.0, 30.0), resample="nearest", p=1.0),
    "an image that was moved": lambda: K.RandomAffine(20.0, (0.2, 0.2), resample="nearest", p=1.0),
    "an image that was padded": lambda: K.PadTo((40, 50)),
    "each patch turned": lambda: kp.PatchwiseApply(K.RandomRotation((30.0, 30.0), resample="nearest", p=1.0)),
}


@pytest.mark.parametrize("name", BLACK)
def test_where_an_image_becomes_black_nobody_knows_the_class(name):
    """Masks of whose classes none is 0 are black where the image is, which is bright elsewhere."""
    torch.manual_seed(1)
    step = BLACK[name]()
    sequence = kp.PatchAugmentationSequential(step, data_keys=KEYS, mask_fill=255)
    images, found, _ = sequence(1 + picture(), CLASSES + 1, PADDED)
    black = (images < 0.5).all(1, keepdim=True)
    assert 20 < black.sum() < black.numel() / 1.5
    near((found == 255).float().mean(), black.float().mean(), 0.01)
    assert ((found == 255) != black).float().mean() < 0.02  # along edges interpolation decides


def test_beyond_an_image_that_was_padded_there_is_mask_fill():
    crop = K.RandomCrop((30, 40), padding=8, p=1.0)
    found = of_classes(crop, mask_fill=255)
    sequence = kp.PatchAugmentationSequential(K.RandomCrop((30, 40), padding=8, p=1.0), data_keys=KEYS)
    torch.manual_seed(0)
    images, masks, _ = sequence(picture() + 1, CLASSES, PADDED)
    torch.manual_seed(0)
    again = kp.PatchAugmentationSequential(K.RandomCrop((30, 40), padding=8, p=1.0), data_keys=KEYS, mask_fill=255)
    images, found, _ = again(picture() + 1, CLASSES, PADDED)
    beyond = (images == 0).all(1, keepdim=True)
    assert beyond.any()
    same(found, masks.masked_fill(beyond, 255))
    same(images[beyond.expand_as(images)], torch.zeros(int(beyond.sum()) * 3))  # images have none of it


def test_mask_fill_adds_to_what_else_is_said_of_masks():
    extra = {DataKey.MASK: {"resample": "bilinear", "align_corners": None}}
    for options in ({"extra_args": extra}, {"extra_args": extra, "mask_fill": 255}):
        found = of_classes(given(clip=False), **options)
        assert len(found.unique()) > 100
    assert extra == {DataKey.MASK: {"resample": "bilinear", "align_corners": None}}


def test_instance_masks_have_no_mask_fill():
    """Where an object was, it is not: that is known."""
    with pytest.raises(ValueError, match="mask_fill: expected masks of classes, got instance_masks=True"):
        container(given(), mask_fill=255)


# --- masks as mattes --------------------------------------------------------------------------------------------------

FLAT = blobs()[OBJ_TO_IMG, ROW]  # (5, 26, 34)
BY_AREA = sorted(range(5), key=area, reverse=True)
AS_MATTES = {
    "anywhere": {"clip": False},
    "within boxes": {"padding_mode": "border"},
    "rows as they came": {"clip": False, "order": "rows"},
    "a fill": {"clip": False, "fill": "surroundings"},
}


def by_masks(masks, options, rows=None):
    words = {name: value for name, value in options.items() if name != "order"}
    rows = list(range(5)) if options.get("order") == "rows" else BY_AREA
    return kp.affine_patches(
        picture(), BOXES[rows], THETA[rows], OBJ_TO_IMG[rows], alpha=masks[rows], **words, **{"grow": 0.25}
    )


@pytest.mark.parametrize("name", AS_MATTES)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_with_a_matte_of_masks_each_object_moves_as_its_mask_shows_it(name, dtype):
    """As the function with masks as alpha does; in a call, bound, in a container and in one of targets."""
    options, masks = AS_MATTES[name], FLAT.to(dtype)
    expected = by_masks(FLAT > 0.5, options)
    assert not torch.equal(expected, given(**options)(picture(), BOXES, THETA, OBJ_TO_IMG))
    augmentation = kp.PatchAffine(matte="mask", **options)
    painted = augmentation(picture(), BOXES, THETA, OBJ_TO_IMG, masks=masks)
    near(painted, expected, 1e-6)  # bytes are read in another order of additions
    same(augmentation(picture(), params=augmentation._params), painted)
    same(augmentation.bind(BOXES, THETA, OBJ_TO_IMG, masks=masks)(picture()), painted)
    images, moved, _ = container(given(matte="mask", **options))(picture(), blobs(dtype), PADDED)
    near(images, expected, 1e-6)
    parts = BOXES.float().split([2, 3]), masks.bool().split([2, 3])
    targets = [{"boxes": boxes, "masks": own} for boxes, own in zip(*parts, strict=True)]
    found, after = kp.DetectionSequential(given(matte="mask", **options), boxes_from_masks=False)(picture(), targets)
    near(found, expected, 1e-6)
    for b, target in enumerate(after):
        same(target["masks"], moved[b, : len(target["masks"])].bool())


def test_soft_masks_are_opacities_and_labels_take_what_is_half_opaque():
    soft = FLAT * 0.75
    augmentation = kp.PatchAffine(matte="mask", clip=False)
    same(augmentation(picture(), BOXES, THETA, OBJ_TO_IMG, masks=soft), by_masks(soft, {"clip": False}))
    classes = torch.rand(2, 1, HEIGHT, WIDTH).round()
    bound = kp.PatchAffine(matte="mask", clip=False).bind(theta=THETA, masks=soft)
    moved = kp.PatchAugmentationSequential(bound, data_keys=KEYS)(picture(), classes, PADDED)[1]
    words = {"alpha": (FLAT > 0.5)[BY_AREA], "clip": False, "mode": "nearest"}
    same(moved, kp.affine_patches(classes, BOXES[BY_AREA], THETA[BY_AREA], OBJ_TO_IMG[BY_AREA], **words))


def test_without_masks_the_matte_is_a_soft_box():
    expected = kp.PatchAffine(matte="box", clip=False)(picture(), BOXES, THETA, OBJ_TO_IMG)
    same(kp.PatchAffine(matte="mask", clip=False)(picture(), BOXES, THETA, OBJ_TO_IMG), expected)
    same(kp.PatchAffine(matte="box", clip=False)(picture(), BOXES, THETA, OBJ_TO_IMG, masks=FLAT), expected)
    without = kp.PatchAugmentationSequential(given(matte="mask", clip=False), data_keys=["input", "bbox_xyxy"])
    same(without(picture(), PADDED)[0], expected)


def test_masks_of_other_boxes_are_not_kept_for_a_replay():
    augmentation = kp.PatchAffine(matte="mask", clip=False)
    augmentation(picture(), BOXES, THETA, OBJ_TO_IMG, masks=FLAT)
    again = augmentation(picture(), BOXES + 1, THETA, OBJ_TO_IMG, params=augmentation._params)
    same(again, kp.PatchAffine(matte="box", clip=False)(picture(), BOXES + 1, THETA, OBJ_TO_IMG))


def test_the_share_that_is_seen_counts_what_masks_show():
    augmentation = kp.PatchAffine(matte="mask", clip=False, order="rows")
    augmentation(picture(), BOXES, THETA, OBJ_TO_IMG, masks=FLAT)
    words = {"size": (HEIGHT, WIDTH), "alpha": FLAT > 0.5, "clip": False}
    near(augmentation._params["visible"][0], kp.visible_share(BOXES, THETA, OBJ_TO_IMG, **words), 1e-6)


@pytest.mark.parametrize(
    ("masks", "error", "words"),
    [
        (FLAT[:4], ValueError, r"masks: expected shape \(5, 26, 34\), one mask a box, got \(4, 26, 34\)"),
        (FLAT[:, None], ValueError, r"masks: expected shape \(5, 26, 34\)"),
        (FLAT.tolist(), TypeError, r"masks: expected a tensor \(5, 26, 34\), one mask a box, got"),
    ],
    ids=["rows", "ndim", "list"],
)
def test_masks_that_are_none_of_the_boxes_are_an_error(masks, error, words):
    with pytest.raises(error, match=words):
        kp.PatchAffine(matte="mask")(picture(), BOXES, THETA, OBJ_TO_IMG, masks=masks)
