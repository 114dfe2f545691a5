"""Objects that leave their box, or come from elsewhere: against the scalar oracle, and grid_sample on a full canvas.

What is laid anywhere in an image by one call is laid, by public code, with a canvas an object. Here it is both.
"""

import itertools

import pytest
import torch
from support import oracle
from support.scenes import BOXES, MODES, PADDINGS, Scene, assert_close, mattes, scene
from support.ways import UNUSED, tensors
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate
from torch.nn.functional import pad as pad_image

import kornia_patchaug as kp

TRUTH = [False, True]
D = torch.float64
# What lies beyond a patch, and whether the box clips: without clip "zeros" and "transparent" are the same.
LIMITS = [*((padding_mode, True) for padding_mode in PADDINGS), ("zeros", False), ("transparent", False)]
FORMS = ["none", "number", "matte", "mask", "bool"]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

both_corners = pytest.mark.parametrize("align_corners", TRUTH)
both_modes = pytest.mark.parametrize("mode", MODES)
both_kernels = pytest.mark.parametrize("kernels", ["native", "reference"])


def random(*shape: int, seed: int) -> Tensor:
    """Numbers that float32 has, in float64."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


def rounded_scene(kind: str) -> Scene:
    """A scene whose numbers float32 has, in float64: the oracle is asked once for both."""
    *floats, obj_to_img = (t.float() for t in scene(kind, channels=2))
    return Scene(*(t.double() for t in floats), obj_to_img.long())


def alphas(count: int, size: tuple[int, int]) -> dict[str, Tensor | None]:
    """The five forms of alpha, of pictures of a size. Mattes have a texel in the middle, not a tie of two."""
    forms = {name: t if t is None else t.float().double() for name, t in mattes(count, size=(5, 7)).items()}
    masks = random(count, *size, seed=2)
    return forms | {"mask": masks, "bool": masks > 0.4}


def cast(value, dtype: torch.dtype):
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def assert_equals_the_oracle(name: str, *arguments, **options) -> None:
    """In float64 and in float32."""
    expected = getattr(oracle, name)(*arguments, **options)
    for dtype, tolerance in TOLERANCE.items():
        given = {key: cast(value, dtype) for key, value in options.items()}
        actual = getattr(kp, name)(*(cast(value, dtype) for value in arguments), **given)
        assert actual.dtype == dtype
        assert_close(actual, expected, tolerance)


# --- against the oracle -----------------------------------------------------------------------------------------------

FILLS = {
    "none": None,
    "number": 0.3,
    "colour": random(2, seed=3),
    "images": random(3, 2, 13, 17, seed=4),
}


def in_turn(*values: int) -> str:
    """One of the kinds of boxes, which take turns: each meets every value of every option."""
    return list(BOXES)[sum(values) % len(BOXES)]


@both_corners
@both_modes
@pytest.mark.parametrize(("padding_mode", "clip"), LIMITS)
def test_objects_equal_the_oracle_whatever_they_leave_behind(padding_mode, clip, mode, align_corners):
    turn = LIMITS.index((padding_mode, clip)) + 2 * MODES.index(mode) + 3 * align_corners
    for (k, fill), (m, form) in itertools.product(enumerate(FILLS), enumerate(FORMS)):
        if (k + m + MODES.index(mode) + align_corners) % 2 or (clip and fill == "none" and form in FORMS[:3]):
            continue  # those of the other mode or frame; and what other tests are about
        images, boxes, theta, obj_to_img = rounded_scene(in_turn(turn, 2 * k, m))
        assert_equals_the_oracle(
            *("affine_patches", images, boxes, theta, obj_to_img),
            alpha=alphas(len(boxes), (13, 17))[form],
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            clip=clip,
            fill=FILLS[fill],
        )


BANK, PATCH_INDEX = random(4, 2, 6, 5, seed=5), torch.tensor([2, 0, 3, 2, 1])
SOURCE, SOURCE_TO_IMG = random(2, 2, 11, 14, seed=6), torch.tensor([1, 0, 0, 1, 1])
SOURCE_BOXES = {
    "of any kind": [[3, 1, 9, 8], [0.4, 2.3, 7.7, 10.6], [-2, -3, 6.5, 5], [2, 4, 3, 5], [5, 5, 14, 11]],
    "of nothing": [[3, 3, 3, 9], [-9, 2, -1, 8], [5.5, 2, 5.5, 2], [1, 12, 5, 19], [4, 4, 9, 9]],
}


PASTE_LIMITS = [*(limit for limit in LIMITS if limit[0] != "image"), (None, True), (None, False)]


@both_corners
@both_modes
def test_patches_of_a_bank_equal_the_oracle(mode, align_corners):
    turn = 2 * MODES.index(mode) + 3 * align_corners
    for (k, (padding_mode, clip)), (m, form) in itertools.product(enumerate(PASTE_LIMITS), enumerate(FORMS)):
        images, boxes, theta, obj_to_img = rounded_scene(in_turn(turn, k, m))
        assert_equals_the_oracle(
            *("paste_patches", images, BANK, boxes, obj_to_img),
            theta=None if (k + m) % 4 == 0 else theta,
            patch_index=PATCH_INDEX[: len(boxes)],
            alpha=alphas(len(boxes), (6, 5))[form],
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            clip=clip,
        )


@pytest.mark.parametrize("shape", [(2, 2, 2, 3), (1, 2, 1, 1)])
@both_kernels
@both_modes
def test_a_box_of_one_column_of_centres_has_one_place_in_its_frame(mode, kernels, shape, monkeypatch):
    """With ``align_corners`` u is 0 all over a box that is a pixel wide; theta reads there, or aside of it."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images, boxes, theta, obj_to_img = rounded_scene("one pixel")
    bank, index = random(*shape, seed=7), PATCH_INDEX % shape[0]
    for padding_mode, clip in PASTE_LIMITS:
        options = {"patch_index": index, "mode": mode, "padding_mode": padding_mode, "clip": clip}
        for moved in (None, theta):
            given = images, bank, boxes, obj_to_img
            assert_equals_the_oracle("paste_patches", *given, theta=moved, align_corners=True, **options)


@both_corners
@both_modes
@pytest.mark.parametrize("places", SOURCE_BOXES)
def test_transplants_equal_the_oracle(places, mode, align_corners):
    turn = list(SOURCE_BOXES).index(places) + 2 * MODES.index(mode)
    for (k, (padding_mode, clip)), (m, form) in itertools.product(enumerate(LIMITS), enumerate(FORMS)):
        images, boxes, theta, obj_to_img = rounded_scene(in_turn(turn, k, m))
        count = len(boxes)
        assert_equals_the_oracle(
            *("transplant_patches", images, boxes, obj_to_img),
            source=SOURCE,
            source_boxes=torch.tensor(SOURCE_BOXES[places])[:count].double(),
            source_to_img=SOURCE_TO_IMG[:count],
            theta=None if (k + m) % 4 == 1 else theta,
            alpha=alphas(count, (11, 14))[form],
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            clip=clip,
        )


def test_the_comparison_notices_half_a_pixel_and_a_patch_that_is_another():
    images, boxes, theta, obj_to_img = scene(channels=2)
    options = {"theta": theta, "patch_index": PATCH_INDEX, "clip": False}
    expected = oracle.paste_patches(images, BANK, boxes, obj_to_img, **options)
    assert_close(kp.paste_patches(images, BANK, boxes, obj_to_img, **options), expected, 1e-9)
    for wrong in ((BANK, boxes + 0.5), (BANK.flip(0), boxes), (BANK.flip(3), boxes)):
        with pytest.raises(AssertionError, match="off by"):
            assert_close(kp.paste_patches(images, *wrong, obj_to_img, **options), expected, 1e-2)


# float16 keeps 11 bits and bfloat16 8: half a unit in the last place of a value in [0, 1], and what float32 is off by.
HALVES = {torch.float16: 2**-11 + 1e-4, torch.bfloat16: 2**-8 + 1e-4}


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_that_of_the_images_only(dtype):
    images, boxes, theta, obj_to_img = (cast(t, torch.float32) for t in rounded_scene("fractional"))
    images, bank = images.to(dtype), BANK.to(dtype)
    objects, index = (boxes, theta, obj_to_img), PATCH_INDEX[: len(boxes)]
    of_image, of_patch = alphas(len(boxes), (13, 17)), alphas(len(boxes), (6, 5))
    for form, fill in itertools.product(FORMS, [None, 0.25, images.flip(0)]):
        options = {"alpha": cast(of_image[form], torch.float32), "clip": False, "fill": fill}
        moved = kp.affine_patches(images, *objects, **options)
        assert moved.dtype == dtype
        assert_close(moved, oracle.affine_patches(images, *objects, **options), HALVES[dtype])
    for form in FORMS:
        options = {"alpha": cast(of_patch[form], torch.float32), "theta": theta, "patch_index": index, "clip": False}
        pasted = kp.paste_patches(images, bank, boxes, obj_to_img, **options)
        assert pasted.dtype == dtype
        assert_close(pasted, oracle.paste_patches(images, bank, boxes, obj_to_img, **options), HALVES[dtype])


# --- against grid_sample on a full canvas -----------------------------------------------------------------------------

OVERLAPPING = [[2, 3, 11, 9], [5, 1, 16, 8], [9, 4, 19, 14], [0, 0, 21, 15], [-3, 6, 5, 12]]
FRACTIONAL = [
    [2.3, 3.6, 11.2, 8.1],
    [5.5, 1.25, 15.75, 8.5],
    [9.1, 4.9, 18.8, 13.3],
    [-1.6, -2.2, 20, 15],
    [3, 7, 9, 13],
]
READ = {  # of a bank of 7 x 6, or of pictures of 11 x 14
    "its own box": {"integer": OVERLAPPING, "fractional": FRACTIONAL},
    "a bank": dict.fromkeys(("integer", "fractional"), [[0, 0, 7, 6]] * 5),
    "other pictures": {
        "integer": [[3, 1, 9, 8], [0, 2, 8, 11], [-2, -3, 7, 5], [2, 4, 10, 9], [5, 5, 17, 14]],
        "fractional": [[3.4, 1.7, 9.2, 8.1], [0.3, 2.6, 7.5, 10.2], [-2, -3, 6.5, 5], [2.2, 4, 9.7, 9], [5, 5, 17, 14]],
    },
}
OWNERS = torch.tensor([1, 0, 1, 1, 0])


def frame_of(box: Tensor, align_corners: bool) -> tuple[Tensor, Tensor]:
    """(centre, half size) of a box, each (2,): the points of its frame are centre + half size * (u, v)."""
    low, high = box.split(2)
    return (low + high) / 2, (high - low - (1 if align_corners else 0)) / 2


def on_a_canvas(picture, src_box, box, theta, size, mode, align_corners, padding_mode="zeros") -> Tensor:
    """What each pixel of a canvas reads of what there is of the source box's whole pixels: (C, H, W)."""
    rows, columns = (torch.arange(n, dtype=D) + 0.5 for n in size)
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # (H, W, 2)
    width, height = picture.shape[:0:-1]
    low, high = src_box.detach().floor()[:2].long().tolist(), src_box.detach().ceil()[2:].long().tolist()
    (x1, y1), (x2, y2) = (max(low[0], 0), max(low[1], 0)), (min(high[0], width), min(high[1], height))
    centre, half = frame_of(box, align_corners)
    src_centre, src_half = frame_of(src_box, align_corners)
    crop_centre, crop_half = frame_of(torch.tensor([x1, y1, x2, y2], dtype=D), align_corners)
    read = src_centre + src_half * ((points - centre) / half @ theta[:, :2].T + theta[:, 2])
    grid, crop = (read - crop_centre) / crop_half, picture[None, :, y1:y2, x1:x2]
    return grid_sample(crop, grid[None], mode=mode, padding_mode=padding_mode, align_corners=align_corners)[0]


def laid_over(images: Tensor, obj_to_img, layers) -> Tensor:
    """The images with (value, opacity) of each object laid over, in order: canvas = (1 - opacity) canvas + value."""
    canvases = list(images.unbind(0))
    for b, (value, opacity) in zip(list(obj_to_img), layers, strict=True):
        canvases[b] = (1 - opacity) * canvases[b] + value
    return torch.stack(canvases)


def full_canvas(images, pictures, src_boxes, boxes, theta, obj_to_img, form, alpha, mode, align_corners) -> Tensor:
    """Every object by a canvas of its own."""
    size, layers = images.shape[2:], []
    for n in range(len(boxes)):
        at = src_boxes[n], boxes[n], theta[n], size, mode, align_corners
        value, reach = on_a_canvas(pictures[n], *at), on_a_canvas(torch.ones_like(pictures[n][:1]), *at)
        a = 1
        if form == "number":
            a = alpha[n]
        elif form == "matte":
            whole = torch.tensor([0, 0, alpha.shape[3], alpha.shape[2]], dtype=D)
            a = on_a_canvas(alpha[n], whole, boxes[n], theta[n], size, mode, align_corners, "border")
        elif form == "mask":
            a = on_a_canvas(alpha[n, None], *at) / reach.where(reach > 0, 1)  # the share of what is reached
        layers.append((a * value, a * reach))
    return laid_over(images, obj_to_img, layers)


@both_kernels
@both_corners
@both_modes
@pytest.mark.parametrize("kind", READ)
def test_unclipped_objects_and_their_gradients_are_those_of_a_canvas_an_object(
    kind, mode, align_corners, kernels, monkeypatch
):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    turn = list(READ).index(kind) + MODES.index(mode)
    for (k, edges), form in itertools.product(enumerate(("integer", "fractional")), FORMS[:4]):
        generator = torch.Generator().manual_seed(10 + k)
        images = random(2, 2, 15, 21, seed=8 + turn).requires_grad_()
        boxes = torch.tensor(OVERLAPPING if edges == "integer" else FRACTIONAL, dtype=D).requires_grad_()
        src_boxes = torch.tensor(READ[kind][edges], dtype=D).requires_grad_(kind == "other pictures")
        theta = torch.eye(2, 3, dtype=D) + 0.4 * torch.randn(5, 2, 3, generator=generator, dtype=D)
        theta.requires_grad_()
        source = random(3, 2, *((6, 7) if kind == "a bank" else (14, 11)), seed=9).requires_grad_()
        index = torch.tensor([2, 0, 2, 1, 2])
        read = images if kind == "its own box" else source
        pictures = [images[b] for b in OWNERS] if kind == "its own box" else [source[m] for m in index]
        alpha = alphas(5, read.shape[2:])[form]
        alpha = alpha if alpha is None else alpha.requires_grad_()

        options = {"alpha": alpha, "mode": mode, "align_corners": align_corners, "clip": False}
        if kind == "its own box":
            actual = kp.affine_patches(images, boxes, theta, OWNERS, **options)
        elif kind == "a bank":
            actual = kp.paste_patches(images, source, boxes, OWNERS, theta=theta, patch_index=index, **options)
        else:
            at = {"source": source, "source_boxes": src_boxes, "source_to_img": index, "theta": theta}
            actual = kp.transplant_patches(images, boxes, OWNERS, **at, **options)
        of_source = boxes if kind == "its own box" else src_boxes
        expected = full_canvas(images, pictures, of_source, boxes, theta, OWNERS, form, alpha, mode, align_corners)
        assert_close(actual, expected, 1e-9)

        weight = torch.rand(actual.shape, generator=generator, dtype=D)
        leaves = [t for t in (images, theta, boxes, src_boxes, source, alpha) if t is not None and t.requires_grad]
        leaves = leaves if kind != "its own box" else [t for t in leaves if t is not source]
        found = torch.autograd.grad((actual * weight).sum(), leaves)
        wanted = torch.autograd.grad((expected * weight).sum(), leaves, materialize_grads=True)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other, 1e-9 * max(1, other.abs().max().item()))


# --- what public code does --------------------------------------------------------------------------------------------
#
# Each job as that code does it, written anew in float64: a canvas of the image's size for every object, warped by
# grid_sample and blended over the image in turn. Sizes are small here; benchmarks/reach.py has them as published.


def rotations(degrees: Tensor) -> Tensor:
    angle = degrees.deg2rad()
    return torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1).view(-1, 2, 2)


def test_a_patch_on_every_object_as_adversarial_patches_are_laid():
    """A patch padded to the image's size for each of L labels, warped with its mask, laid over where it is not 0."""
    generator, side, t = torch.Generator().manual_seed(0), 48, 14
    images = torch.rand(2, 3, side, side, generator=generator, dtype=D)
    patch = (0.05 + 0.9 * torch.rand(1, 3, t, t, generator=generator, dtype=D)).requires_grad_()
    labels = torch.zeros(2, 4, 4, dtype=D)  # (centre, size) in shares, padded with empty rows
    labels[0, :3] = torch.tensor([[0.3, 0.4, 0.4, 0.5], [0.6, 0.5, 0.5, 0.3], [0.8, 0.9, 0.3, 0.5]])
    labels[1, :1] = torch.tensor([[0.1, 0.5, 0.6, 0.7]])
    turn = rotations(40 * torch.rand(2, 4, generator=generator, dtype=D).flatten() - 20).view(2, 4, 2, 2)

    margin = (side - t) // 2
    canvas, mask = (pad_image(p, [margin] * 4) for p in (patch, torch.ones_like(patch)))
    expected, certain = images, torch.ones(2, 1, side, side, dtype=torch.bool)
    for row in range(4):
        warped = []
        for b in range(2):
            size = 0.25 * side * labels[b, row, 2:].norm()
            scale = t / size if size > 0 else torch.tensor(1.0, dtype=D)
            linear = scale * turn[b, row]
            theta = torch.cat([linear, linear @ (1 - 2 * labels[b, row, :2])[:, None]], dim=1)[None]
            grid = affine_grid(theta, [1, 3, side, side], align_corners=False)
            on = float(size > 0)
            warped.append([on * grid_sample(each, grid, align_corners=False) for each in (canvas, mask)])
        painted, masks = (torch.cat(each) for each in zip(*warped, strict=True))
        expected = torch.where(painted * masks == 0, expected, painted * masks)
        certain &= ((masks < 1e-9) | (masks > 1 - 1e-9)).all(1, keepdim=True)  # beside the rims, which they darken

    real = labels[..., 2] > 0
    half = 0.25 * side * labels[real][:, 2:].norm(dim=1, keepdim=True) / 2
    boxes = torch.cat([side * labels[real][:, :2] - half, side * labels[real][:, :2] + half], dim=1)
    theta = torch.cat([turn[real], torch.zeros(4, 2, 1, dtype=D)], dim=2)
    index = torch.zeros(4, dtype=torch.int64)
    owners = real.nonzero()[:, 0]
    actual = kp.paste_patches(images, patch, boxes, owners, theta=theta, patch_index=index, clip=False)
    assert 0.85 < certain.double().mean() < 1
    assert ((actual - images).abs() > 0.1).double().mean() > 0.03
    assert_close(actual * certain, expected * certain, 1e-9)
    weight = certain * torch.rand(images.shape, generator=generator, dtype=D)
    gradients = [torch.autograd.grad((painted * weight).sum(), patch)[0] for painted in (actual, expected)]
    assert_close(*gradients, 1e-9)


def with_a_clear_rim(inner: Tensor) -> Tensor:
    """Mattes that end before the patch's edge, where public code, which warps both, multiplies what fades twice."""
    return pad_image(inner, [2] * 4)


def test_glimpses_are_decoded_as_scene_models_of_spatial_transformers_do():
    """(s, t) of each slot says where it is: u = (U - t) / s. They are encoded by the reverse, whatever sticks out."""
    generator, slots = torch.Generator().manual_seed(1), 5
    s, t = (torch.rand(2 * slots, 2, generator=generator, dtype=D) for _ in range(2))
    s, t = (0.3 + 0.6 * s).requires_grad_(), (2.4 * t - 1.2).requires_grad_()  # some leave the image
    glimpses, inner = random(2 * slots, 3, 9, 9, seed=2).requires_grad_(), random(2 * slots, 1, 5, 5, seed=3)
    alpha = with_a_clear_rim(inner.requires_grad_())
    owners, images = torch.arange(2).repeat_interleave(slots), random(2, 3, 26, 34, seed=4)
    zero = torch.zeros_like(s[:, :1])

    theta = torch.stack([1 / s[:, :1], zero, -t[:, :1] / s[:, :1], zero, 1 / s[:, 1:], -t[:, 1:] / s[:, 1:]], dim=-1)
    grid = affine_grid(theta.view(-1, 2, 3), [2 * slots, 3, 26, 34], align_corners=False)
    colours, masks = (grid_sample(each, grid, align_corners=False) for each in (glimpses, alpha))
    expected = laid_over(torch.zeros_like(images), owners, zip(masks * colours, masks, strict=True))
    boxes = kp.convert_boxes(torch.cat([(t + 1) / 2, s], dim=1), "cxcywhn", "xyxy", size=(26, 34))
    actual = kp.paste_patches(torch.zeros_like(images), glimpses, boxes, owners, alpha=alpha, clip=False)
    assert_close(actual, expected, 1e-9)
    weight = random(*images.shape, seed=5)
    gradients = [
        torch.autograd.grad((o * weight).sum(), (glimpses, inner, s, t), retain_graph=True) for o in (actual, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, 1e-9 * max(1, other.abs().max().item()))

    theta = torch.stack([s[:, :1], zero, t[:, :1], zero, s[:, 1:], t[:, 1:]], dim=-1).view(-1, 2, 3)
    grid = affine_grid(theta, [2 * slots, 3, 8, 8], align_corners=False)
    encoded = grid_sample(images[owners], grid, align_corners=False)
    assert_close(kp.crop_patches(images, boxes, owners, (8, 8)), encoded, 1e-9)


def test_sprites_in_layers_are_blended_as_models_of_sprites_do():
    """RGBA sprites of a bank, each layer with an affine of its own, later ones above; the bank learns from all uses."""
    generator, batch, layers = torch.Generator().manual_seed(2), 3, 4
    bank, inner = random(5, 3, 10, 10, seed=6).requires_grad_(), random(5, 1, 6, 6, seed=7).requires_grad_()
    mattes = with_a_clear_rim(inner)
    index = torch.randint(5, (batch * layers,), generator=generator)
    assert index.unique(return_counts=True)[1].max() > 2
    theta = 1.5 * torch.eye(2, 3) + 0.5 * torch.randn(batch * layers, 2, 3, generator=generator, dtype=D)
    theta, images = theta.requires_grad_(), random(batch, 3, 24, 32, seed=8).requires_grad_()
    owners = torch.arange(batch).repeat_interleave(layers)

    grid = affine_grid(theta, [batch * layers, 4, 24, 32], align_corners=False)
    sprites = grid_sample(torch.cat([bank, mattes], dim=1)[index], grid, align_corners=False)
    colours, masks = sprites[:, :3], sprites[:, 3:]
    expected = laid_over(images, owners, zip(masks * colours, masks, strict=True))
    boxes = torch.tensor([[0, 0, 32, 24]]).expand(batch * layers, 4)
    options = {"theta": theta, "patch_index": index, "alpha": mattes[index], "clip": False}
    actual = kp.paste_patches(images, bank, boxes, owners, **options)
    assert_close(actual, expected, 1e-9)
    weight = random(*images.shape, seed=9)
    leaves = images, bank, inner, theta
    gradients = [torch.autograd.grad((o * weight).sum(), leaves, retain_graph=True) for o in (actual, expected)]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, 1e-9 * max(1, other.abs().max().item()))


def test_a_foreground_is_placed_as_models_that_learn_where_do():
    """m f + (1 - m) b, moved by (s, x, y) with align_corners=True. What fades half a pixel beyond is there too."""
    generator = torch.Generator().manual_seed(3)
    s, x, y = (torch.rand(4, generator=generator, dtype=D) for _ in range(3))
    s = (0.2 + 0.3 * s).requires_grad_()
    x, y = x.requires_grad_(), y.requires_grad_()
    zero = torch.zeros_like(s)
    theta = torch.stack([1 / s, zero, (1 - 2 * x) * (1 / s - 1), zero, 1 / s, (1 - 2 * y) * (1 / s - 1)], dim=1)
    background, foreground, mask = random(4, 3, 28, 36, seed=1), random(4, 3, 28, 36, seed=2), random(4, 28, 36, seed=3)
    mask = (mask > 0.3).double()
    mask[:, 0] = mask[:, -1] = mask[:, :, 0] = mask[:, :, -1] = 0

    grid = affine_grid(theta.view(-1, 2, 3), [4, 3, 28, 36], align_corners=True)
    f, m = (grid_sample(each, grid, align_corners=True) for each in (foreground, mask[:, None]))
    boxes, owners = torch.tensor([[0, 0, 36, 28]]).expand(4, 4), torch.arange(4)
    options = {"theta": theta, "align_corners": True, "clip": False}
    for alpha, expected in ((mask, m * f + (1 - m) * background), (None, None)):
        if alpha is None:
            ones = grid_sample(torch.ones_like(mask)[:, None], grid, align_corners=True)
            expected = f + (1 - ones) * background
        actual = kp.paste_patches(background, foreground, boxes, owners, alpha=alpha, **options)
        assert_close(actual, expected, 1e-9)
        gradients = [torch.autograd.grad(o.square().sum(), (s, x, y), retain_graph=True) for o in (actual, expected)]
        for one, other in zip(*gradients, strict=True):
            assert_close(one, other, 1e-9 * max(1, other.abs().max().item()))


def test_boxes_are_cropped_as_models_of_scene_graphs_do():
    """Boxes in [0, 1], sampled from centre of pixel to centre of pixel; a loop over the images, and its gradients."""
    generator = torch.Generator().manual_seed(4)
    corner, extent = (torch.rand(6, 2, generator=generator, dtype=D) for _ in range(2))
    shares = torch.cat([0.6 * corner, 0.6 * corner + 0.1 + 0.3 * extent], dim=1).requires_grad_()
    images, owners = random(3, 2, 14, 20, seed=5).requires_grad_(), torch.tensor([2, 0, 0, 2, 1, 2])
    expected = []
    for (x1, y1, x2, y2), b in zip(2 * shares - 1, owners, strict=True):
        step = torch.linspace(0, 1, 7, dtype=D)
        grid = torch.stack(torch.meshgrid(x1 + (x2 - x1) * step, y1 + (y2 - y1) * step[::2], indexing="xy"), dim=-1)
        expected.append(grid_sample(images[b, None], grid[None], align_corners=True)[0])
    expected = torch.stack(expected)
    # The centres of the first and the last pixel are 0 and 1 there.
    inclusive = kp.convert_boxes(shares, "xyxyn", "xyxy", size=(13, 19))
    boxes = kp.convert_boxes(inclusive, "xyxy_plus", "xyxy")
    actual = kp.crop_patches(images, boxes, owners, (4, 7), align_corners=True)
    assert_close(actual, expected, 1e-9)
    weight = random(*expected.shape, seed=6)
    gradients = [torch.autograd.grad((o * weight).sum(), (images, shares)) for o in (actual, expected)]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, 1e-9 * max(1, other.abs().max().item()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rectangles_are_mixed_between_pictures_as_slices_are_assigned(dtype):
    """From the pictures as they came, also where these are the source: no box of it has been painted yet."""
    images = random(3, 2, 12, 15, seed=7).to(dtype)
    boxes = torch.tensor([[2, 3, 9, 8], [5, 0, 11, 6], [0, 4, 15, 12], [3, 2, 4, 3]])
    corners = torch.tensor([[1, 6], [9, 3], [0, 1], [14, 11]])
    there = torch.cat([corners, corners + boxes[:, 2:] - boxes[:, :2]], dim=1)
    owners, read = torch.tensor([0, 1, 1, 2]), torch.tensor([1, 1, 2, 0])
    expected = images.clone()
    for (x1, y1, x2, y2), (u1, v1, u2, v2), b, s in zip(
        boxes.tolist(), there.tolist(), owners.tolist(), read.tolist(), strict=True
    ):
        expected[b, :, y1:y2, x1:x2] = images[s, :, v1:v2, u1:u2]
    at = {"source": images, "source_boxes": there, "source_to_img": read}
    for clip in TRUTH:
        assert torch.equal(kp.transplant_patches(images, boxes, owners, **at, clip=clip), expected)


def test_pictures_of_another_size_than_the_box_are_resized_into_it():
    images, source = random(1, 2, 12, 15, seed=8), random(1, 2, 6, 8, seed=9)
    here, whole = torch.tensor([[1, 2, 14, 11]]), torch.tensor([[0, 0, 8, 6]])
    for align_corners in TRUTH:
        expected = images.clone()
        expected[..., 2:11, 1:14] = interpolate(source, (9, 13), mode="bilinear", align_corners=align_corners)
        options = {"padding_mode": "border", "align_corners": align_corners, "clip": True}
        actual = kp.transplant_patches(images, here, source=source, source_boxes=whole, **options)
        assert_close(actual, expected, 1e-12)
        assert_close(kp.paste_patches(images, source, here, align_corners=align_corners), expected, 1e-12)


def test_a_bank_is_its_patches_one_for_each_object_bit_for_bit():
    """And its gradients are the sums of theirs."""
    images, boxes, theta, obj_to_img = scene("fractional", channels=2)
    index, bank = PATCH_INDEX[:4], BANK.clone().requires_grad_()
    for clip in TRUTH:
        results = []
        for patches, given in ((bank, index), (bank[index], None)):
            options = {"theta": theta, "patch_index": given, "clip": clip}
            painted = kp.paste_patches(images, patches, boxes, obj_to_img, **options)
            results.append((painted, torch.autograd.grad(painted.square().sum(), bank)[0]))
        (painted, gradient), (expected, summed) = results
        assert torch.equal(painted, expected)
        assert_close(gradient, summed, 1e-12)
        assert gradient[2].abs().max() > 0 and gradient[1].abs().max() == 0  # 2, 0, 3, 2: two uses, and none


# --- where there is little or nothing to paint, or everything ---------------------------------------------------------

SINGULAR = {
    "one point": [0, 0, 0.251, 0, 0, -0.513],
    "one row": [1.013, 0.107, 0, 0, 0, 0.511],
    "one column": [0, 0, 0.103, 0.211, 1.017, 0],
    "a line": [1.0, 0.5, 0.113, 2, 1, 0.217],
    "next to a line": [1.0, 0.5, 0.113, 2, 1 + 1e-7, 0.217],
}


@both_kernels
@both_modes
@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_theta_paints_what_it_reads_pixel_by_pixel(name, mode, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    for kind, align_corners in (("integer", False), ("fractional", True), ("partly outside", False)):
        images, boxes, _, obj_to_img = scene(kind, channels=1)
        theta = torch.tensor(SINGULAR[name], dtype=D).expand(len(boxes), 6)
        options = {"mode": mode, "align_corners": align_corners, "clip": False}
        for fill in (None, 0.5):
            actual = kp.affine_patches(images, boxes, theta, obj_to_img, fill=fill, **options)
            assert_close(actual, oracle.affine_patches(images, boxes, theta, obj_to_img, fill=fill, **options), 1e-9)
        options |= {"theta": theta, "patch_index": PATCH_INDEX[: len(boxes)]}
        actual = kp.paste_patches(images, BANK[:, :1], boxes, obj_to_img, **options)
        assert (actual - images)[:2].abs().max() > 0.1
        assert_close(actual, oracle.paste_patches(images, BANK[:, :1], boxes, obj_to_img, **options), 1e-9)


@both_kernels
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 3e38), (torch.float64, 1e308)])
def test_a_huge_theta_is_finite_and_so_are_its_gradients(size, dtype, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images, boxes, _, obj_to_img = (cast(t, dtype) for t in scene("partly outside", channels=1))
    bank = BANK[:, :1].to(dtype)
    for entry, sign in itertools.product(range(6), (1, -1)):
        theta = torch.eye(2, 3, dtype=dtype).repeat(len(boxes), 1, 1)
        theta.view(-1, 6)[:, entry] = sign * size
        leaves = [t.clone().requires_grad_() for t in (images, theta, bank)]
        for call in (
            lambda i, t, p: kp.affine_patches(i, boxes, t, obj_to_img, clip=False),
            lambda i, t, p: kp.affine_patches(i, boxes, t, obj_to_img, clip=False, fill="surroundings"),
            lambda i, t, p: kp.paste_patches(i, p, boxes, obj_to_img, theta=t, patch_index=PATCH_INDEX, clip=False),
        ):
            painted = call(*leaves)
            assert painted.isfinite().all()
            gradients = torch.autograd.grad(painted.sum(), leaves, materialize_grads=True)
            assert all(gradient.isfinite().all() for gradient in gradients)


def test_objects_that_go_far_away_are_gone_and_leave_what_is_filled_in():
    images, boxes, _, obj_to_img = scene("integer")
    for x, y in ((1e3, 0), (-1e9, 1e9), (0, 1e30)):
        theta = torch.tensor([[1, 0, x, 0, 1, y]], dtype=D).expand(5, 6)
        assert torch.equal(kp.affine_patches(images, boxes, theta, obj_to_img, clip=False), images)
        holes = torch.zeros(3, 1, 13, 17, dtype=torch.bool)
        for (x1, y1, x2, y2), b in zip(boxes.long().tolist(), obj_to_img.tolist(), strict=True):
            holes[b, :, y1:y2, x1:x2] = True
        filled = kp.affine_patches(images, boxes, theta, obj_to_img, clip=False, fill=0.125)
        assert torch.equal(filled, images.where(~holes, 0.125))


def test_an_object_that_covers_all_of_its_picture():
    images, boxes, _, obj_to_img = scene("fractional")
    tiny = 0.01 * torch.eye(2, 3, dtype=D) + torch.tensor([0, 0, 0.013])
    for name, options in (
        ("affine_patches", {"clip": False}),
        ("affine_patches", {"clip": False, "fill": 0.5, "alpha": random(4, 1, 3, 5, seed=1)}),
        ("paste_patches", {"clip": False, "patch_index": PATCH_INDEX[:4], "alpha": random(4, seed=2)}),
    ):
        patches = (random(4, 3, 6, 5, seed=3),) if name == "paste_patches" else ()
        given = images, *patches, boxes, *(() if patches else (tiny.expand(4, 2, 3),)), obj_to_img
        options |= {"theta": tiny.expand(4, 2, 3)} if patches else {}
        actual = getattr(kp, name)(*given, **options)
        assert (actual != images)[:2].all()
        assert_close(actual, getattr(oracle, name)(*given, **options), 1e-9)


each_way = pytest.mark.parametrize("way", UNUSED, ids=lambda way: way.__name__)


@each_way
@both_kernels
def test_no_objects_return_the_images_and_have_gradients(kernels, way, monkeypatch):
    """Zeros and not None: of a model that learns, in a step without objects."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    none, whole = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, dtype=D)
    alphas_of_none = [None, torch.zeros(0), torch.zeros(0, 1, 2, 2), torch.zeros(0, 5, 7, dtype=torch.bool)]
    for batch, patches, clip, alpha in itertools.product((2, 0), (3, 0), TRUTH, alphas_of_none):
        leaves = {
            "images": random(batch, 2, 5, 7, seed=1),
            "boxes": whole.clone(),
            "theta": torch.zeros(0, 2, 3, dtype=D),
            "source": random(patches, 2, 5, 7, seed=2),
            "source_boxes": whole.clone(),
            "fill": random(batch, 2, 5, 7, seed=3),
        }
        used = {name: t.requires_grad_() for name, t in leaves.items() if name not in UNUSED[way]}
        painted = way(**leaves, obj_to_img=none, index=none, clip=clip, alpha=alpha)
        assert torch.equal(painted, leaves["images"]) and painted is not leaves["images"]
        of_images, *others = torch.autograd.grad(painted.sum(), list(used.values()))
        assert (of_images == 1).all() and all((gradient == 0).all() for gradient in others)


NOTHING = {  # boxes, and what is read of a source of 11 x 14; only the last object is there
    "boxes": ([[4, 4, 4, 9], [5.5, 2, 5.5, 2], [6.25, 3, 6.25, 8], [3, 3, 9, 9]], [[3, 1, 9, 8]] * 4),
    "source boxes": ([[3, 3, 9, 9]] * 4, [[3, 3, 3, 9], [-9, 2, -1, 8], [1, 14.5, 5, 19], [4, 4, 9, 9]]),
}


@both_kernels
@pytest.mark.parametrize("clip", TRUTH)
@pytest.mark.parametrize("form", ["number", "matte", "mask"])
@pytest.mark.parametrize("name", NOTHING)
def test_objects_of_nothing_paint_nothing_and_have_zero_gradients(name, form, clip, kernels, monkeypatch):
    """Whatever is there is nothing if its box, or the box that it is read from, is empty or beside its picture."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    boxes, source_boxes = (torch.tensor(rows, dtype=D) for rows in NOTHING[name])
    images, source = random(1, 2, 13, 17, seed=1), random(1, 2, 11, 14, seed=2)
    theta = torch.eye(2, 3, dtype=D).repeat(4, 1, 1) * 0.9 + 0.01
    alpha = alphas(4, (11, 14))[form]
    leaves = [t.requires_grad_() for t in (boxes, theta, source_boxes, alpha)]
    at = {"source": source, "source_boxes": source_boxes, "theta": theta}
    painted = kp.transplant_patches(images, boxes, **at, alpha=alpha, clip=clip)
    there = {"source": source, "source_boxes": source_boxes[3:], "theta": theta[3:], "alpha": alpha[3:]}
    assert torch.equal(painted, kp.transplant_patches(images, boxes[3:], **there, clip=clip))
    assert not torch.equal(painted, images)
    for gradient in torch.autograd.grad(painted.square().sum(), leaves):
        assert gradient[:3].abs().max() == 0 and gradient[3].abs().max() > 0

    if name == "boxes":  # its own picture: not even a hole is left
        for fill in (0.5, "surroundings"):
            own = alphas(4, (13, 17))[form].requires_grad_()
            peeled = kp.affine_patches(images, boxes, theta, alpha=own, clip=clip, fill=fill, grow=9.0)
            alone = kp.affine_patches(images, boxes[3:], theta[3:], alpha=own[3:], clip=clip, fill=fill, grow=9.0)
            assert torch.equal(peeled, alone)
            for gradient in torch.autograd.grad(peeled.square().sum(), (boxes, theta, own)):
                assert gradient[:3].abs().max() == 0 and gradient[3].abs().max() > 0


@both_kernels
@both_corners
@pytest.mark.parametrize(("height", "width"), [(1, 7), (7, 1), (1, 1)])
def test_pictures_of_one_row_column_or_pixel(height, width, align_corners, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images, generator = random(1, 2, height, width, seed=1), torch.Generator().manual_seed(2)
    boxes = torch.tensor([[0, 0, 1, 1], [-1.5, -2.0, 3.2, 2.5], [0.25, 0.5, 0.75, 1], [0, 0, 9, 9.5]], dtype=D)
    theta = torch.eye(2, 3, dtype=D) + 0.4 * torch.randn(4, 2, 3, generator=generator, dtype=D)
    for alpha in alphas(4, (height, width)).values():
        options = {"alpha": alpha, "align_corners": align_corners, "clip": False}
        for fill in (None, 0.5):
            actual = kp.affine_patches(images, boxes, theta, fill=fill, **options)
            assert_close(actual, oracle.affine_patches(images, boxes, theta, fill=fill, **options), 1e-9)
        assert kp.affine_patches(images, boxes, theta, fill="surroundings", **options).isfinite().all()


# --- what was passed, and what comes out ------------------------------------------------------------------------------


@each_way
@both_kernels
def test_nothing_that_was_passed_is_modified_and_all_comes_again(kernels, way, monkeypatch):
    """A fill is painted in place, over what is the call's own."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    forms = alphas(4, (13, 17))
    for form, learned in (("none", False), *((form, True) for form in forms)):
        alpha = forms[form]
        given = tensors() | ({} if alpha is None else {"alpha": alpha})
        given = {name: t.clone().requires_grad_(learned and t.is_floating_point()) for name, t in given.items()}
        before = {name: (t.detach().clone(), t._version) for name, t in given.items()}
        results = []
        for _ in range(2):
            painted = way(**given, clip=False)
            leaves = [t for t in given.values() if t.requires_grad]
            found = torch.autograd.grad(painted.square().sum(), leaves, allow_unused=True) if learned else []
            results.append([painted, *(gradient for gradient in found if gradient is not None)])
        assert all(torch.equal(one, other) for one, other in zip(*results, strict=True)), form
        for name, (values, version) in before.items():
            assert torch.equal(given[name], values) and given[name]._version == version
        assert painted.data_ptr() not in [t.data_ptr() for t in given.values()]


@each_way
@both_kernels
def test_memory_format_and_dtype_are_kept_and_strides_do_not_matter(kernels, way, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    for dtype in (torch.float64, torch.float32, torch.float16):
        given = tensors(dtype)
        if dtype == torch.float16:  # of pictures alone
            given |= {name: t.float() for name, t in given.items() if name in ("boxes", "theta", "source_boxes")}
        expected = way(**given, clip=False)
        strided = {name: torch.stack([t, t], dim=-1)[..., 0] for name, t in given.items()}
        last = {name: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for name, t in strided.items()}
        for layout in (strided, last):
            painted = way(**layout, clip=False)
            assert painted.dtype == dtype
            assert painted.stride() == torch.empty_like(layout["images"]).stride()
            assert painted.is_contiguous(memory_format=torch.channels_last) == (layout is last)
            assert torch.equal(painted, expected)


@each_way
@pytest.mark.parametrize(("kernels", "clip"), [("native", True), ("native", False), ("reference", False)])
def test_one_gradient_alone_is_that_of_all_together_and_none_takes_no_graph(clip, kernels, way, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    forms = alphas(4, (13, 17))
    for alpha in (forms["none"], forms["matte"], forms["mask"]):
        given = tensors() | ({} if alpha is None else {"alpha": alpha})
        floats = [name for name, t in given.items() if t.is_floating_point()]

        def output(*names, given=given):
            leaves = {name: t.detach().requires_grad_(name in names) for name, t in given.items()}
            return way(**leaves, clip=clip), [leaves[name] for name in names]

        painted, leaves = output(*floats)
        together = torch.autograd.grad(painted.square().sum(), leaves, allow_unused=True)
        together = dict(zip(floats, together, strict=True))
        assert {name for name, gradient in together.items() if gradient is None} == UNUSED[way]
        assert not output()[0].requires_grad
        for name, expected in together.items():
            painted, leaves = output(name)
            assert painted.requires_grad == (expected is not None)
            if expected is not None:
                (alone,) = torch.autograd.grad(painted.square().sum(), leaves)
                assert_close(alone, expected, 1e-12 * max(1, expected.abs().max().item()))
