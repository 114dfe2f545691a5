"""What public functions make of arguments: classes of tensors, sizes, units, images that cannot be read or counted."""

import enum
import warnings

import numpy as np
import pytest
import torch
from kornia.geometry.boxes import Boxes as KorniaBoxes
from support.scenes import assert_close, scene

import kornia_patchaug as kp
from kornia_patchaug.boxes import as_size
from kornia_patchaug.checks import warn_once
from kornia_patchaug.objects import check_objects
from kornia_patchaug.transfers import on_host, packed_on_host

IMAGES = torch.rand(1, 2, 9, 11, generator=torch.Generator().manual_seed(0))
BOX = torch.tensor([[2.0, 1, 9, 6]])
THETA = torch.tensor([[0.9, 0.2, 0.1, -0.1, 0.8, 0]])
PATCH = torch.rand(1, 2, 3, 4, generator=torch.Generator().manual_seed(1))
INDEX = torch.zeros(1, dtype=torch.int64)

# --- classes of tensors -----------------------------------------------------------------------------------------------


class Only(torch.Tensor):
    """Refuses what is not of its class and makes plain results, or its own on demand, as torchvision's classes do."""

    own = False

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if not all(issubclass(cls, kind) for kind in types):
            return NotImplemented
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            return result.as_subclass(cls) if Only.own and isinstance(result, torch.Tensor) else result


class Image(Only): ...


class Place(Only):
    class Format(enum.Enum):
        XYXY, XYWH, CXCYWH, XYWHR = "XYXY", "XYWH", "CXCYWH", "XYWHR"

    format = Format.XYXY


class Numbers(Only): ...


def place(rows, name: str) -> Place:
    boxes = torch.as_tensor(rows).as_subclass(Place)
    boxes.format = Place.Format[name]
    return boxes


CALLS = {  # of images, patches, boxes, theta and an index
    "affine_patches": lambda i, p, b, t, n: kp.affine_patches(i, b, t, n, alpha=t.new_ones(1)),
    "affine_patches, all by name": lambda i, p, b, t, n: kp.affine_patches(boxes=[b], theta=t, images=i),
    "affine_patches, patch_size": lambda i, p, b, t, n: kp.affine_patches(i, b, t, patch_size=(4, 5)),
    "crop_patches": lambda i, p, b, t, n: kp.crop_patches(i, b, n, (3, 5)),
    "warp_patches": lambda i, p, b, t, n: kp.warp_patches(p, t),
    "paste_patches": lambda i, p, b, t, n: kp.paste_patches(i, p, b, n),
    "paste_patches of a bank": lambda i, p, b, t, n: kp.paste_patches(i, p, b, theta=t, patch_index=n, clip=False),
    "transplant_patches": lambda i, p, b, t, n: kp.transplant_patches(
        i, b, source=p, source_boxes=b, source_to_img=n, theta=t
    ),
    "affine_patches, a colour": lambda i, p, b, t, n: kp.affine_patches(i, b, t, fill=i[0, :, 0, 0]),
    "affine_patches, images": lambda i, p, b, t, n: kp.affine_patches(i, b, t, fill=i, alpha=i[:, 0], clip=False),
    "affine_patches, masks": lambda i, p, b, t, n: kp.affine_patches(i, b, t, fill="surroundings", alpha=i[:, 0] > 0.4),
    "move_points": lambda i, p, b, t, n: kp.move_points(p[:, 0, :, :2], b, t),
    "compose_theta": lambda i, p, b, t, n: kp.compose_theta(p.reshape(-1)[None, :6], t),
}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_classes_that_refuse_one_another_are_taken_and_that_of_the_images_says_what_comes(name, own, monkeypatch):
    monkeypatch.setattr(Only, "own", own)
    images, theta = IMAGES.clone().requires_grad_(), THETA.clone().requires_grad_()
    plain = CALLS[name](images, PATCH, BOX, theta, INDEX)
    classed = CALLS[name](
        images.as_subclass(Image), PATCH.as_subclass(Image), place(BOX, "XYXY"), theta.as_subclass(Numbers), INDEX
    )
    assert type(classed) is (Image if own else torch.Tensor)
    with torch._C.DisableTorchFunctionSubclass():
        assert torch.equal(classed.as_subclass(torch.Tensor), plain)
    inputs = [
        t
        for t in (images, theta)
        if torch.autograd.grad(plain.sum(), t, retain_graph=True, allow_unused=True)[0] is not None
    ]
    for got, want in zip(*(torch.autograd.grad(out.sum(), inputs) for out in (classed, plain)), strict=True):
        assert torch.equal(got, want)


def test_parameters_and_modes_that_see_every_function_are_no_classes():
    images = torch.nn.Parameter(IMAGES.clone())
    plain = kp.affine_patches(IMAGES, BOX, THETA)
    with torch.device("cpu"):
        for given in (images, IMAGES):
            assert type(kp.affine_patches(given, BOX, torch.nn.Parameter(THETA))) is torch.Tensor
        assert torch.equal(kp.affine_patches(images, BOX, THETA), plain)
        assert type(kp.affine_patches(IMAGES.as_subclass(Image), BOX, THETA)) is torch.Tensor


SAME = {"XYXY": [[2, 1, 9, 6]], "XYWH": [[2, 1, 7, 5]], "CXCYWH": [[5.5, 3.5, 7, 5]]}


@pytest.mark.parametrize("name", SAME)
def test_boxes_that_say_their_format_are_read_in_it(name):
    boxes = place(SAME[name], name)
    for given in ([boxes], place(torch.tensor(SAME[name])[None], name)):
        flat, obj_to_img = kp.flatten_boxes(given)
        assert type(flat) is torch.Tensor
        assert (flat.tolist(), obj_to_img.tolist()) == ([[2, 1, 9, 6]], [0])
    assert kp.flatten_boxes([boxes], mode=name.lower())[0].tolist() == [[2, 1, 9, 6]]
    assert kp.convert_boxes(boxes, name.lower(), "xyxy_plus").tolist() == [[2, 1, 8, 5]]
    assert kp.convert_boxes(boxes, name.lower(), "pascal_voc").tolist() == [[3, 2, 9, 6]]
    for given in (boxes, [boxes]):
        assert torch.equal(kp.affine_patches(IMAGES, given, THETA), kp.affine_patches(IMAGES, BOX, THETA))
    assert torch.equal(kp.move_boxes(boxes, THETA), kp.move_boxes(BOX, THETA))


def test_boxes_that_say_their_format_may_be_called_by_its_other_name():
    boxes = place(SAME["XYWH"], "XYWH")
    assert kp.flatten_boxes([boxes], "coco")[0].tolist() == [[2, 1, 9, 6]]
    assert kp.convert_boxes(boxes, "coco", "xyxy").tolist() == [[2, 1, 9, 6]]


def test_boxes_of_one_list_may_say_different_formats():
    flat, _ = kp.flatten_boxes([place(rows, name) for name, rows in SAME.items()])
    assert flat.tolist() == [[2, 1, 9, 6]] * 3


WHAT_BOXES_ARE_NOT = [
    (lambda: kp.flatten_boxes([place(SAME["XYWH"], "XYWH")], "xyxy"), "mode: expected 'xywh', .* Place .* got 'xyxy'"),
    (lambda: kp.flatten_boxes([place(SAME["XYXY"], "XYXY")], "coco"), "mode: expected 'xyxy', .*got 'coco'"),
    (lambda: kp.flatten_boxes([place(SAME["XYXY"], "XYXY")], "xyxy_plus"), "mode: expected 'xyxy', .*got 'xyxy_plus'"),
    (lambda: kp.convert_boxes(place(SAME["XYWH"], "XYWH"), "xyxy", "xywh"), "source: expected 'xywh', .*got 'xyxy'"),
    (
        lambda: kp.flatten_boxes([place(BOX, "XYWHR")]),
        "boxes: expected Place of format xyxy, xywh or cxcywh, got xywhr",
    ),
    (lambda: kp.move_boxes(place(BOX, "XYWHR"), THETA), "boxes: expected Place of format .*, got xywhr"),
]


@pytest.mark.parametrize(("call", "text"), WHAT_BOXES_ARE_NOT)
def test_a_format_that_contradicts_the_boxes_is_refused(call, text):
    with pytest.raises(ValueError, match="^" + text):
        call()


# --- sizes ------------------------------------------------------------------------------------------------------------

FOUR_FIVE = [(np.int64(4), np.int32(5)), np.array([4, 5]), torch.Size([4, 5]), [torch.tensor(4), 5]]


@pytest.mark.parametrize("size", FOUR_FIVE)
def test_a_size_is_of_whatever_integers(size):
    assert [type(side) for side in as_size("size", size)] == [int, int]
    assert torch.equal(kp.crop_patches(IMAGES, BOX, size=size), kp.crop_patches(IMAGES, BOX, size=(4, 5)))
    warped = kp.affine_patches(IMAGES, BOX, THETA, patch_size=size)
    assert torch.equal(warped, kp.affine_patches(IMAGES, BOX, THETA, patch_size=(4, 5)))
    assert torch.equal(kp.PatchAffine(patch_size=size)(IMAGES, BOX, THETA), warped)


@pytest.mark.parametrize(
    "size", [(4.0, 5), (np.float64(4), 5), np.array([4.0, 5]), (4, 5, 6), "45", (4, -5), (4, None)]
)
def test_what_is_no_size_is_refused(size):
    with pytest.raises(ValueError, match=r"^size: expected \(height, width\), two integers above 0, got "):
        kp.crop_patches(IMAGES, BOX, size=size)


# --- images that cannot be read or counted ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1, 2**24 + 64), (1, 1, 2**24 + 1, 1)])
def test_sides_that_float32_cannot_count_are_refused(shape):
    images = torch.zeros(1, 1, 1, 1).expand(shape)  # no memory
    for call in (
        lambda: kp.affine_patches(images, BOX, THETA, padding_mode="image"),
        lambda: kp.crop_patches(images, BOX, size=(2, 2)),
        lambda: kp.paste_patches(images, PATCH[:, :1], BOX),
        lambda: kp.warp_patches(images, THETA),
    ):
        with pytest.raises(
            ValueError, match=r"^(images|patches): expected sides of at most 16777216 pixels, got \(1, 1"
        ):
            call()


def test_a_side_of_the_most_pixels_is_taken():
    assert check_objects(torch.zeros(1, 1, 1, 1).expand(1, 1, 1, 2**24), BOX, None).boxes.shape == (1, 4)


def test_images_without_values_are_refused_by_name():
    images, boxes, theta = (t.to("meta") for t in (IMAGES, BOX, THETA))
    for call in (
        lambda: kp.affine_patches(images, boxes, theta),
        lambda: kp.affine_patches(images, BOX, THETA, patch_size=(4, 4)),
        lambda: kp.crop_patches(images, boxes, size=(2, 2)),
        lambda: kp.paste_patches(images, images, boxes),
        lambda: kp.warp_patches(images, theta),
        lambda: kp.move_boxes(boxes, theta),
        lambda: kp.affine_patches(images, boxes, theta, clip=False, fill="surroundings"),
        lambda: kp.transplant_patches(images, boxes, source=images, source_boxes=boxes),
    ):
        with pytest.raises(ValueError, match=r"^(images|patches|boxes): expected a tensor with values, .*meta"):
            call()
    with pytest.raises(ValueError, match=r"^boxes: expected a tensor with values, .*meta"):
        kp.visible_share(boxes, theta, size=(9, 11))


INSIDE_TRANSFORMS = [
    ("theta", lambda: torch.func.grad(lambda t: kp.affine_patches(IMAGES, BOX, t).sum())(THETA)),
    ("images", lambda: torch.func.vjp(lambda i: kp.affine_patches(i, BOX, THETA), IMAGES)),
    ("boxes", lambda: torch.func.jacrev(lambda b: kp.crop_patches(IMAGES, b, size=(2, 2)))(BOX)),
    ("alpha", lambda: torch.func.grad(lambda a: kp.paste_patches(IMAGES, PATCH, BOX, alpha=a).sum())(torch.ones(1))),
    ("patches", lambda: torch.func.grad(lambda p: kp.paste_patches(IMAGES, p, BOX).sum())(PATCH)),
    ("patches", lambda: torch.vmap(lambda p: kp.warp_patches(p, THETA))(PATCH[None])),
    ("(fill|theta)", lambda: torch.func.grad(lambda f: kp.affine_patches(IMAGES, BOX, THETA, fill=f).sum())(IMAGES)),
    ("theta", lambda: torch.func.grad(lambda t: kp.paste_patches(IMAGES, PATCH, BOX, theta=t).sum())(THETA)),
    ("source", lambda: torch.func.vjp(lambda s: kp.transplant_patches(IMAGES, BOX, source=s, source_boxes=BOX), PATCH)),
    (
        "source_boxes",
        lambda: torch.func.vjp(lambda b: kp.transplant_patches(IMAGES, BOX, source=PATCH, source_boxes=b), BOX),
    ),
    ("boxes", lambda: torch.func.vjp(lambda b: kp.visible_share(b, THETA, size=(9, 11)), BOX)),
]


@pytest.mark.parametrize(("name", "call"), INSIDE_TRANSFORMS)
def test_transforms_of_torch_func_are_refused_by_name(name, call):
    with pytest.raises(TypeError, match=rf"^{name}: .*a transform of torch\.func .*torch\.autograd\.grad"):
        call()


# --- what does not go together ----------------------------------------------------------------------------------------

TWO, OWNERS, EYES = torch.rand(2, 2, 9, 11), torch.tensor([0, 1]), torch.eye(2, 3).repeat(2, 1, 1)
BOXES = torch.tensor([[2.0, 1, 9, 6], [3, 2, 8, 8]])
BANK, SOURCE = torch.rand(4, 2, 3, 5), torch.rand(3, 2, 7, 8)


def moved(**options):
    return kp.affine_patches(TWO, BOXES, EYES, OWNERS, **options)


def pasted(patches=BANK, patch_index=OWNERS, **options):
    return kp.paste_patches(TWO, patches, BOXES, OWNERS, patch_index=patch_index, **options)


def transplanted(**options):
    at = {"source": SOURCE, "source_boxes": BOXES, "source_to_img": OWNERS}
    return kp.transplant_patches(TWO, BOXES, OWNERS, **at | options)


def seen(**options):
    return kp.visible_share(BOXES, **{"theta": EYES, "obj_to_img": OWNERS, "size": (9, 11)} | options)


CLEAR = r"padding_mode \(with clip=False\): expected one of 'zeros', 'transparent', got 'border'"
FILL = r"fill: expected a number, a colour \(2,\)(, or|,) images \(2, 2, 9, 11\)"
MASK = r"alpha: expected shape \(2,\), \(2, 1, h, w\) or, of masks .*"
TOGETHER = [  # how it is called, with what, and what is said
    (moved, {"clip": False, "padding_mode": "border"}, ValueError, CLEAR),
    (moved, {"clip": False, "padding_mode": "reflection"}, ValueError, r"padding_mode \(with clip=False\): .*'reflec"),
    (moved, {"clip": False, "padding_mode": "image"}, ValueError, r"padding_mode \(with clip=False\): .*'image'"),
    (pasted, {"clip": False, "padding_mode": "border"}, ValueError, CLEAR),
    (transplanted, {"padding_mode": "border"}, ValueError, CLEAR),
    (seen, {"clip": False, "padding_mode": "border"}, ValueError, CLEAR),
    (
        pasted,
        {"padding_mode": "image"},
        ValueError,
        "padding_mode: expected one of 'zeros', .*'transparent', got 'image'",
    ),
    (
        moved,
        {"clip": False, "patch_size": (4, 4)},
        ValueError,
        r"clip \(with patch_size\): expected one of True, got F",
    ),
    (moved, {"clip": "no"}, ValueError, "clip: expected one of False, True, got 'no'"),
    (pasted, {"clip": 2}, ValueError, "clip: expected one of False, True, got 2"),
    (transplanted, {"clip": None}, ValueError, "clip: expected one of False, True, got None"),
    (seen, {"clip": 0.5}, ValueError, "clip: expected one of False, True, got 0.5"),
    (
        moved,
        {"fill": 0.0, "sequential": True},
        ValueError,
        r"sequential \(with a fill\): expected one of False, got True",
    ),
    (moved, {"fill": "surroundings", "sequential": True}, ValueError, r"sequential \(with a fill\): .* got True"),
    (moved, {"fill": torch.rand(3)}, ValueError, FILL + r", got shape \(3,\)"),
    (moved, {"fill": TWO[:1]}, ValueError, FILL + r", got shape \(1, 2, 9, 11\)"),
    (moved, {"fill": [0.1, 0.2, 0.3]}, ValueError, FILL + r", got shape \(3,\)"),
    (moved, {"fill": "around"}, ValueError, "fill: expected one of None, 'surroundings', got 'around'"),
    (moved, {"fill": OWNERS}, TypeError, "fill: expected a floating dtype, got torch.int64"),
    (moved, {"fill": object()}, TypeError, FILL + " or 'surroundings', got object"),
    (moved, {"fill": 1j}, TypeError, FILL + " or 'surroundings', got complex"),
    (
        moved,
        {"fill": TWO.to("meta")},
        ValueError,
        r"fill: expected the images' device cpu, got meta. Use fill.to\(images",
    ),
    (moved, {"fill": 0.0, "grow": -0.1}, ValueError, "grow: expected a share of the box's size, 0 or more, got -0.1"),
    (moved, {"grow": float("nan")}, ValueError, "grow: expected a share of the box's size, 0 or more, got nan"),
    (moved, {"grow": float("inf")}, ValueError, "grow: expected a share of the box's size, 0 or more, got inf"),
    (moved, {"grow": "more"}, ValueError, "grow: expected a share of the box's size, 0 or more, got 'more'"),
    (moved, {"alpha": torch.rand(2, 9, 10)}, ValueError, MASK + r"\(2, 9, 11\), got \(2, 9, 10\)"),
    (moved, {"alpha": torch.rand(3, 9, 11)}, ValueError, MASK + r"\(2, 9, 11\), got \(3, 9, 11\)"),
    (pasted, {"alpha": torch.rand(2, 9, 11)}, ValueError, MASK + r"\(2, 3, 5\), got \(2, 9, 11\)"),
    (transplanted, {"alpha": torch.rand(2, 9, 11)}, ValueError, MASK + r"\(2, 7, 8\), got \(2, 9, 11\)"),
    (seen, {"alpha": torch.rand(2, 9, 10)}, ValueError, MASK + r"\(2, 9, 11\), got \(2, 9, 10\)"),
    (
        moved,
        {"alpha": torch.ones(2, 9, 11, dtype=torch.int64)},
        TypeError,
        r"alpha: expected a floating .*, or masks \(N, 9, 11\), bool or floating, got a torch.int64 tensor of shape",
    ),
    (moved, {"alpha": torch.ones(2, dtype=torch.bool)}, TypeError, "alpha: expected a floating .* got a torch.bool"),
    (
        pasted,
        {"patch_index": None},
        ValueError,
        r"patches: expected one patch a box \(2\), got 4. .* patch_index \(N,\)",
    ),
    (
        pasted,
        {"patch_index": None, "patches": BANK[:1]},
        ValueError,
        r"patches: expected one patch .* got 1. .*patch_index",
    ),
    (
        pasted,
        {"patch_index": OWNERS + 3},
        ValueError,
        r"patch_index: expected a patch index in \[0, 4\), got 4 in row 1",
    ),
    (
        pasted,
        {"patch_index": OWNERS - 1},
        ValueError,
        r"patch_index: expected a patch index in \[0, 4\), got -1 in row 0",
    ),
    (pasted, {"patches": BANK[:0]}, ValueError, r"patch_index: expected a patch index in \[0, 0\), got 0 in row 0"),
    (
        pasted,
        {"patch_index": OWNERS[:1]},
        ValueError,
        r"patch_index: expected shape \(2,\), a patch index .* got \(1,\)",
    ),
    (
        pasted,
        {"patch_index": OWNERS.float()},
        TypeError,
        r"patch_index: expected an integer \(N,\) tensor, got a torch.fl",
    ),
    (pasted, {"patch_index": [0, 1]}, TypeError, r"patch_index: expected an integer \(N,\) tensor, got list"),
    (pasted, {"patch_index": OWNERS.to("meta")}, ValueError, r"patch_index: expected the images' device cpu, got meta"),
    (pasted, {"patches": BANK[:, :1]}, ValueError, r"patches: expected shape \(M, 2, h, w\), .* got \(4, 1, 3, 5\)"),
    (pasted, {"patches": BANK.byte()}, TypeError, r"patches: expected a floating .*Use patches.float\(\) / 255"),
    (pasted, {"theta": EYES[:1]}, ValueError, r"theta: expected one row a box \(2\), got 1"),
    (pasted, {"theta": EYES / 0}, ValueError, "theta: expected finite values, got .* in row 0"),
    (transplanted, {"source_boxes": BOXES[:1]}, ValueError, r"source_boxes: expected one row a box \(2\), got 1"),
    (transplanted, {"source_boxes": BOXES[:, :3]}, ValueError, r"source_boxes: expected shape \(N, 4\), got \(2, 3\)"),
    (
        transplanted,
        {"source_boxes": [BOXES]},
        TypeError,
        "source_boxes: expected an integer or floating tensor, got list",
    ),
    (
        transplanted,
        {"source_boxes": BOXES.flip(1)},
        ValueError,
        "source_boxes: expected x1 y1 x2 y2 .* row 0.* convert_box",
    ),
    (transplanted, {"source_boxes": BOXES / 0}, ValueError, "source_boxes: expected finite values, .* in row 0"),
    (transplanted, {"source_boxes": BOXES * 1e9}, ValueError, r"source_boxes: expected pixels within \+-16777216, got"),
    (
        transplanted,
        {"source_boxes": BOXES.to("meta")},
        ValueError,
        "source_boxes: expected the images' device cpu, got meta",
    ),
    (
        transplanted,
        {"source_to_img": None},
        ValueError,
        r"source: expected one picture, got 3. .* source_to_img \(N,\)",
    ),
    (transplanted, {"source_to_img": OWNERS + 2}, ValueError, r"source_to_img: .* in \[0, 3\), got 3 in row 1"),
    (transplanted, {"source_to_img": OWNERS[:1]}, ValueError, r"source_to_img: expected shape \(2,\), .* got \(1,\)"),
    (transplanted, {"source_to_img": OWNERS / 2}, TypeError, r"source_to_img: expected an integer \(N,\) tensor, got"),
    (transplanted, {"source": SOURCE[:, :1]}, ValueError, r"source: expected shape \(M, 2, h, w\), .*\(3, 1, 7, 8\)"),
    (transplanted, {"source": SOURCE[0]}, ValueError, r"source: expected shape \(B, C, H, W\) .* got \(2, 7, 8\)"),
    (transplanted, {"source": SOURCE.to("meta")}, ValueError, "source: expected the images' device cpu, got meta"),
    (seen, {"size": (9,)}, ValueError, r"size: expected \(height, width\), two integers above 0, got \(9,\)"),
    (seen, {"theta": EYES[:1]}, ValueError, r"theta: expected one row a box \(2\), got 1"),
    (seen, {"obj_to_img": OWNERS - 1}, ValueError, r"obj_to_img: expected an image index .* got -1 in row 0"),
    (seen, {"obj_to_img": [0, 1]}, TypeError, r"obj_to_img: expected an integer \(N,\) tensor, got list"),
    (seen, {"mode": "cubic"}, ValueError, "mode: expected one of 'bilinear', 'nearest', got 'cubic'"),
]


@pytest.mark.parametrize(("call", "given", "kind", "text"), TOGETHER)
def test_what_is_wrong_in_calls_that_reach_elsewhere_is_said_by_name(call, given, kind, text):
    call()
    with pytest.raises(kind, match="^" + text):
        call(**given)


# --- units ------------------------------------------------------------------------------------------------------------

PADDING = [0.0, 0, 0, 0]
SHARES = [[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0]]
BESIDE = [[11.0, 2, 15, 8], [-9.0, 2, 0, 8], [3.0, 9, 5, 12]]
SUSPECT = {  # in an image of 9 x 11 pixels
    "shares": (SHARES, r"xyxyn", torch.float32),
    "one share": (SHARES[:1], r"convert_boxes\(boxes, \"xyxyn\", \"xyxy\", size=\(H, W\)\)", torch.float64),
    "the whole image": (SHARES[1:], r"within \[0, 1\]", torch.bfloat16),
    "shares and padding": ([PADDING, *SHARES, PADDING], r"within \[0, 1\]", torch.float32),
    "beside": (BESIDE, "wholly outside", torch.float32),
    "beside, integers": ([PADDING, *BESIDE[:2]], "wholly outside", torch.int64),
}
FINE = {
    "one pixel, integers": ([[0, 0, 1, 1]], torch.int64),
    "padding only": ([PADDING] * 3, torch.float32),
    "without area": ([[0.2, 0.2, 0.2, 0.8], [0.5, 0.5, 0.9, 0.5]], torch.float32),
    "none": (torch.zeros(0, 4), torch.float32),
    "one is larger": ([*SHARES, [0, 0, 1.25, 1]], torch.float32),
    "one reaches out": ([SHARES[0], [-0.5, 0, 1, 1]], torch.float32),
    "one alone is beside": (BESIDE[:1], torch.float32),
    "one meets its image": ([*BESIDE, [10.5, 8.5, 15, 15]], torch.float32),
}


@pytest.fixture
def warnings_anew():
    warn_once.cache_clear()


def call_all(boxes):
    theta = THETA.expand(len(boxes), 6)
    kp.affine_patches(IMAGES, boxes, theta)
    kp.crop_patches(IMAGES, boxes, size=(2, 2))
    kp.PatchAffine()(IMAGES, boxes, theta)


@pytest.mark.parametrize("name", SUSPECT)
def test_boxes_in_other_units_are_warned_of_once_a_process(name, warnings_anew):
    rows, text, dtype = SUSPECT[name]
    boxes = torch.tensor(rows).to(dtype)
    with pytest.warns(UserWarning, match="^boxes: expected x1 y1 x2 y2 in pixels.*" + text) as caught:
        call_all(boxes)
    assert len(caught) == 1


@pytest.mark.parametrize("name", FINE)
def test_small_boxes_padding_and_one_that_left_are_not_warned_of(name, warnings_anew):
    rows, dtype = FINE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call_all(torch.as_tensor(rows).to(dtype))


def test_an_image_of_one_pixel_has_the_same_boxes_in_both_units(warnings_anew):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kp.affine_patches(IMAGES[..., :1, :1], torch.tensor(SHARES[1:]), THETA)


# --- the host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_transfer_brings_what_views_show(count):
    _, boxes, theta, obj_to_img = scene("fractional", dtype=torch.float32)
    tensors = boxes[:count].requires_grad_(), theta[:count], obj_to_img[:count]
    for packed, viewed, tensor in zip(packed_on_host(*tensors), on_host(*tensors), tensors, strict=True):
        assert packed.dtype == viewed.dtype == np.float64
        assert packed.shape == viewed.shape == tensor.shape
        assert (packed == viewed).all()
        assert (viewed == tensor.detach().double().numpy()).all()


def test_the_host_keeps_what_was_passed_when_the_caller_changes_it():
    images, boxes, theta, obj_to_img = scene(dtype=torch.float64)
    objects = check_objects(images, boxes, obj_to_img, theta)
    kept = [objects.host_boxes.copy(), objects.host_theta.copy(), objects.host_image.copy()]
    for tensor in (boxes, theta, obj_to_img):
        tensor.zero_()
    assert all((a == b).all() for a, b in zip(kept, objects[-5:-2], strict=True))


def test_kornia_boxes_in_half_precision_keep_their_last_pixel():
    """2049 is not a number of float16: 2048 + 1 stays 2048 there."""
    corners = torch.tensor([[[[0.0, 0], [2048, 0], [2048, 16], [0, 16]]]])
    flat, _ = kp.flatten_boxes(KorniaBoxes(corners.half(), mode="vertices_plus"))
    assert_close(flat, [[0, 0, 2049, 17]], 0)
