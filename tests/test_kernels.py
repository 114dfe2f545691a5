"""The CPU kernels against the reference, values and vector-Jacobian products, on what public functions hand over."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from support.compared import (
    THREADS,
    assert_agree,
    changed_by,
    compare,
    flattened,
    run,
    threads,
    with_and_without_boxes,
    with_gradients,
    without_boxes,
)
from support.scenes import BOXES, CROP_PADDINGS, MODES, PADDINGS, Scene, mattes, scene
from support.ways import UNUSED, seen, tensors

import kornia_patchaug as kp
from kornia_patchaug.kernels.backend import Wanted

TRUTH = [False, True]
DTYPES = [torch.float64, torch.float32]
# What else may vary: each kind of boxes and each dtype meets every value of these.
REST = list(itertools.product(TRUTH, TRUTH, ["none", "number", "matte"]))
SAMPLE = {"sample", "sample_backward"}
APART = {*SAMPLE, "composite", "composite_backward"}
FUSED = {"paint", "paint_backward"}


def names(both) -> set[str]:
    return {name for name, _ in both.calls}


# --- the scenes of the oracle tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("kind", BOXES)
def test_every_option_equals_the_reference(kind, padding_mode, mode, dtype, both):
    turn = list(BOXES).index(kind) + 2 * PADDINGS.index(padding_mode) + MODES.index(mode) + 5 * DTYPES.index(dtype)
    align_corners, sequential, form = REST[turn % len(REST)]
    images, boxes, theta, obj_to_img = scene(kind, dtype=dtype)
    alpha = mattes(len(boxes))[form]
    alpha = None if alpha is None else alpha.to(dtype)
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners, "sequential": sequential}

    def painted(images, boxes, theta, alpha):
        return kp.affine_patches(images, boxes, theta, obj_to_img, alpha=alpha, **options)

    for expected in (FUSED, APART):
        both.fused = expected is FUSED
        both.calls.clear()
        with_gradients(painted, images, boxes, theta, alpha)
        without_boxes(images, boxes, theta, obj_to_img, **options)
        of_matte = {"sample_backward"} if expected is FUSED else SAMPLE
        assert names(both) == expected | (of_matte if form == "matte" else set())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
@pytest.mark.parametrize("kind", BOXES)
def test_crops_equal_the_reference(kind, padding_mode, align_corners, dtype, both):
    mode = MODES[(list(BOXES).index(kind) + CROP_PADDINGS.index(padding_mode) + DTYPES.index(dtype)) % 2]
    images, boxes, _, obj_to_img = scene(kind, dtype=dtype)
    options = {"size": (5, 8), "mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    with_gradients(kp.crop_patches, images, boxes, obj_to_img, **options)
    assert names(both) == SAMPLE


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", BOXES)
def test_pastes_equal_the_reference(kind, mode, align_corners, dtype, both):
    images, boxes, _, obj_to_img = scene(kind, dtype=dtype)
    patches = torch.rand(len(boxes), 3, 6, 4, generator=torch.Generator().manual_seed(2), dtype=dtype)
    alpha = mattes(len(boxes))["matte"].to(dtype)

    def pasted(images, patches, boxes, alpha):
        options = {"alpha": alpha, "mode": mode, "align_corners": align_corners}
        return kp.paste_patches(images, patches, boxes, obj_to_img, **options)

    for both.fused in TRUTH:
        with_gradients(pasted, images, patches, boxes, alpha)
    assert names(both) == APART | FUSED


# What lies beyond a patch, and whether the box clips; and the forms of alpha.
LIMITS = [*((padding_mode, True) for padding_mode in PADDINGS), ("zeros", False), ("transparent", False)]
FORMS = ["none", "number", "matte", "mask", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", [*UNUSED, seen], ids=lambda way: way.__name__)
@pytest.mark.parametrize("form", FORMS)
def test_objects_from_and_to_elsewhere_equal_the_reference(form, way, dtype, both):
    """Kinds of boxes, modes and limits take turns. What is peeled is painted in place."""
    ways = [*UNUSED, seen]
    turn = 2 * FORMS.index(form) + 3 * ways.index(way) + 5 * DTYPES.index(dtype)
    for k in range(2):
        kind = list(BOXES)[(turn + 3 * k) % len(BOXES)]
        padding_mode, clip = LIMITS[(turn + 3 * k) % len(LIMITS)]
        if way.__name__ == "pasted" and padding_mode == "image":
            padding_mode = "border"
        mode, align_corners, both.fused = MODES[(turn + k) % 2], (turn + k) // 2 % 2 == 0, k == 0
        images, boxes, theta, obj_to_img = scene(kind, channels=2)
        count = len(boxes)
        masks = torch.rand(count, 13, 17, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        alpha = (mattes(count) | {"mask": masks, "bool": masks > 0.4})[form]
        given = tensors() | {"images": images, "boxes": boxes, "theta": theta, "fill": images.flip(0), "alpha": alpha}
        given |= {"obj_to_img": obj_to_img, "index": obj_to_img.flip(0), "source_boxes": boxes.flip(0)}
        given = {name: t.to(dtype) if t is not None and t.is_floating_point() else t for name, t in given.items()}

        def painted(*values, given=given, clip=clip, mode=mode, padding_mode=padding_mode, align_corners=align_corners):
            options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners, "clip": clip}
            return way(**dict(zip(given, values, strict=True)), **options)

        both.calls.clear()
        with_gradients(painted, *given.values())
        peels = way.__name__ in ("peeled", "continued")
        assert any(changed_by(*call) is not None for call in both.calls) == (peels or way is seen)
        assert names(both) >= (FUSED if both.fused and way is not seen else SAMPLE)


def test_the_comparison_notices_a_shift_of_a_thousandth_of_a_pixel_and_one_gradient_of_many(both):
    both.fused = False
    with_gradients(kp.affine_patches, *scene())
    ((_, (inputs, plan)),) = [call for call in both.calls if call[0] == "sample"]
    shift = torch.tensor([[0, 0, 1e-3 / 5], [0, 0, 0]])  # the half of 10 pixels, or less
    values, off = run("sample", inputs, plan)[0], run("sample", inputs._replace(theta=inputs.theta + shift), plan)[0]
    with pytest.raises(AssertionError, match="off by"):
        assert_agree(off, values)
    values[1, 7] += 1e-6
    with pytest.raises(AssertionError, match="off by"):
        assert_agree(values, run("sample", inputs, plan)[0])


# --- dtypes, layouts and sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("sequential", TRUTH)
def test_half_precision_goes_through_float32(dtype, padding_mode, sequential, both):
    images, boxes, theta, obj_to_img = scene("partly outside", dtype=torch.float32)
    for mode in MODES:
        options = {"padding_mode": padding_mode, "sequential": sequential, "mode": mode}
        for both.fused in TRUTH:
            with_and_without_boxes(images.to(dtype), boxes, theta, obj_to_img, **options)
    in_turn = {arguments[0].dtype for name, arguments in both.calls if name == "composite"}
    assert in_turn == {torch.float32 if sequential else dtype}  # the canvas is rounded when all are painted
    assert {arguments[1].dtype for name, arguments in both.calls if name == "paint"} == {dtype}


LAYOUTS = {
    "contiguous": lambda images: images,
    "channels last": lambda images: images.to(memory_format=torch.channels_last),
    "one image for all": lambda images: images[:1].expand_as(images),
    "transposed": lambda images: images.mT.contiguous().mT,
    "every second row": lambda images: images.repeat_interleave(2, dim=2)[:, :, ::2],
}


@pytest.mark.parametrize("of", ["weighted", "expanded", "transposed", "channels last"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_strides_of_images_and_gradients_do_not_matter(channels, layout, of, both):
    images, boxes, theta, obj_to_img = scene("partly outside", channels=channels, dtype=torch.float32)
    images = LAYOUTS[layout](images)
    views = [torch.stack([t, t], dim=-1)[..., 0] for t in (boxes, theta)]
    for padding_mode, both.fused in itertools.product(("transparent", "zeros"), TRUTH):
        with_and_without_boxes(images, *views, obj_to_img, of=of, padding_mode=padding_mode)
    assert names(both) == APART | FUSED
    for name, arguments in both.calls:
        if name in ("composite", "paint"):
            assert strides(run(name, *arguments)[0]) == strides(torch.empty_like(images))


def strides(tensor: torch.Tensor) -> list[int]:
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def crowd(dtype: torch.dtype, *, height: int = 230, width: int = 310, images: int = 2) -> Scene:
    """Windows of more columns than a tile and more pixels than a task, in images of more pixels than a band."""
    generator = torch.Generator().manual_seed(4)
    x, y = torch.arange(width, dtype=dtype), torch.arange(height, dtype=dtype)[:, None]
    waves = torch.stack([torch.sin(x / 7 + y / 5), torch.cos(x / 11 - y / 6)])
    boxes = [
        [3, 5, 303, 225],
        [-20.5, 10.25, 140.75, 120],
        [0, 0, 129, 128],
        [170.3, 60.2, 500, 300.5],
        [130, 2, 131, 229],
        [1, 200, 309, 201],
    ]
    theta = torch.eye(2, 3) + torch.tensor([0.1, 0.1, 0.2]) * torch.randn(len(boxes), 2, 3, generator=generator)
    index = torch.arange(len(boxes)) % images
    return Scene(waves.expand(images, -1, -1, -1), torch.tensor(boxes, dtype=dtype), theta.to(dtype), index)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_windows_larger_than_a_task_in_images_larger_than_a_band(padding_mode, dtype, both):
    both.slack = 10  # sums over 1e5 pixels, positions of some hundreds
    images, boxes, theta, obj_to_img = crowd(dtype)
    mode = MODES[PADDINGS.index(padding_mode) % 2 if dtype == torch.float64 else 0]
    options = {"padding_mode": padding_mode, "mode": mode}
    for both.fused in TRUTH:
        with_and_without_boxes(images, boxes, theta, obj_to_img, **options)


def choices(wanted: Wanted, names: list[str]) -> Iterator[Wanted]:
    """Every choice of the named gradients, and of no other."""
    for chosen in itertools.product(TRUTH, repeat=len(names)):
        yield Wanted(*[False] * len(wanted))._replace(**dict(zip(names, chosen, strict=True)))


def test_gradients_that_are_missing_or_not_wanted(both):
    both.fused = False
    for padding_mode in PADDINGS:
        both.calls.clear()
        with_gradients(kp.affine_patches, *scene("fractional"), padding_mode=padding_mode)
        ((_, (of_values, of_coverage, *rest, wanted, _)),) = [
            call for call in both.calls if call[0] == "sample_backward"
        ]
        assert of_values is not None and of_coverage is not None
        for grads in [(of_values, None), (None, of_coverage), (of_values, of_coverage)]:
            together, _ = compare("sample_backward", *grads, *rest, wanted)
            for chosen in choices(wanted, ["source", "theta", "boxes"]):
                alone, _ = compare("sample_backward", *grads, *rest, chosen)
                for one, expected, want in zip(alone, together, chosen, strict=False):
                    assert torch.equal(one, expected) if want else one is None


def test_one_of_the_gradients_of_painting_is_that_of_all(both):
    images, boxes, theta, obj_to_img = scene("fractional")
    for padding_mode, mode, sequential in itertools.product(["zeros", "reflection", "transparent"], MODES, TRUTH):
        both.calls.clear()
        options = {"padding_mode": padding_mode, "mode": mode, "sequential": sequential}

        def painted(images, boxes, theta, alpha, options=options):
            return kp.affine_patches(images, boxes, theta, obj_to_img, alpha=alpha, **options)

        with_gradients(painted, images, boxes, theta, mattes(len(boxes))["number"])
        ((_, (*rest, wanted, _)),) = [call for call in both.calls if call[0] == "paint_backward"]
        together = flattened(compare("paint_backward", *rest, wanted))
        names = ["theta", "boxes", "canvas", "opacity"]
        for chosen in choices(wanted, names):
            (inputs, canvas, opacity), _ = compare("paint_backward", *rest, chosen)
            for one, expected, name in zip((inputs.theta, inputs.boxes, canvas, opacity), together, names, strict=True):
                assert torch.equal(one, expected) if getattr(chosen, name) else one is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3, 5, 7), (2, 3, 5, 7), (1, 1, 1, 1)])
def test_no_objects_and_no_images(shape, dtype, both):
    images = torch.rand(shape, dtype=dtype)
    boxes, theta = torch.zeros(0, 4, dtype=dtype), torch.zeros(0, 2, 3, dtype=dtype)
    index = torch.zeros(0, dtype=torch.int64)
    for sequential, both.fused in itertools.product(TRUTH, TRUTH):
        with_and_without_boxes(images, boxes, theta, index, sequential=sequential)
    with_gradients(kp.crop_patches, images, boxes, index, size=(3, 4))
    with_gradients(kp.paste_patches, images, torch.rand(0, shape[1], 2, 2, dtype=dtype), boxes, index)
    assert names(both) == APART | FUSED


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("side", [1, 2])
def test_images_of_one_pixel_row_and_column(padding_mode, side, both):
    generator = torch.Generator().manual_seed(6)
    boxes = torch.tensor([[0, 0, 1, 1], [-1.5, -2.0, 3.2, 2.5], [0.25, 0.5, 0.75, 1], [0, 0, 9, 9.5]]).double()
    theta = torch.eye(2, 3) + 0.4 * torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    for shape in [(side, 7), (7, side), (side, side)]:
        images = torch.rand(1, 2, *shape, generator=generator, dtype=torch.float64)
        for mode, align_corners in itertools.product(MODES, TRUTH):
            options = {"padding_mode": padding_mode, "mode": mode, "align_corners": align_corners}
            for both.fused in TRUTH:
                with_and_without_boxes(images, boxes, theta, **options)
    assert names(both) == APART | FUSED


@pytest.mark.parametrize("side", range(4))
def test_boxes_that_end_within_a_pixel_on_one_side_only(side, both):
    """Such a window is the whole box on three sides; on the fourth, what was there shines through."""
    images, boxes, theta, obj_to_img = scene("integer")
    boxes[:, side] += 0.25 if side < 2 else -0.25
    without_boxes(images, boxes, theta, obj_to_img)
    assert "paint" in names(both)


def test_windows_of_more_columns_than_a_block(both):
    both.slack = 100  # positions of thousands
    images = torch.rand(1, 2, 3, 5000, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    boxes = torch.tensor([[0.5, 0, 4999.5, 3], [400, 0.25, 4990, 3]], dtype=torch.float64)
    theta = torch.tensor([[1, 0.01, 0.1], [0.02, 1, 0.1]], dtype=torch.float64).expand(2, 2, 3)
    without_boxes(images, boxes, theta, torch.tensor([0, 0]))
    assert "paint" in names(both)


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("kind", ["integer", "fractional", "partly outside"])
def test_a_pixel_that_is_nan_spoils_what_it_spoils_in_the_reference(kind, padding_mode, both):
    images, boxes, theta, obj_to_img = scene(kind)
    images[1, :, 0, 0] = images[:2, :, 3:5, 2] = images[:2, 1, 4, 4:7] = images[0, 0, 9, 9] = float("nan")
    for both.fused in TRUTH:
        with_and_without_boxes(images, boxes, theta, obj_to_img, padding_mode=padding_mode)
    # No gradients: to the reference, those of what nearest reads are 0 times the pixel.
    for alpha in (None, torch.ones(len(boxes), dtype=torch.float64)):
        options = {"alpha": alpha, "padding_mode": padding_mode, "mode": "nearest"}
        assert kp.affine_patches(images, boxes, theta, obj_to_img, **options).isnan().any()


@pytest.mark.parametrize("value", [0.5, -0.0, float("inf"), float("nan")])
@pytest.mark.parametrize("sequential", TRUTH)
def test_a_texel_of_a_matte_beside_a_pixel_has_no_part_in_it(sequential, value, both):
    """Every fourth pixel is read at a texel of the matte, beside one of this value, which has no weight there."""
    images, matte = scene().images[:1], torch.full((1, 1, 3, 3), 0.25, dtype=torch.float64)
    matte[0, 0, :, 1] = matte[0, 0, 1] = value
    box, theta = torch.tensor([[1, 0, 10, 9]]), torch.eye(2, 3, dtype=torch.float64)[None]
    painted = kp.affine_patches(images, box, theta, alpha=matte, align_corners=True, sequential=sequential)
    assert names(both) == {"paint"}
    assert torch.equal(painted[0, :, 0:9:8, 1:10:8], images[0, :, 0:9:8, 1:10:8])


@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_one_sweep_over_several_bands_blocks_and_tiles(channels, sequential, monkeypatch):
    """Images of more rows than a band has, windows of more columns than a tile and more pixels than a block."""
    generator = torch.Generator().manual_seed(channels)
    images = torch.rand(2, channels, 420, 300, generator=generator, dtype=torch.float64)
    boxes = torch.tensor([[3, 2, 290, 410], [100.5, -20, 260, 130.25], [-30, 300, 400, 450], [5, 5, 9, 400]])
    theta = torch.eye(2, 3) + 0.2 * torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    obj_to_img = torch.tensor([1, 1, 0, 1])
    results = []
    for count in THREADS:
        with threads(count):
            results.append(without_boxes(images, boxes, theta, obj_to_img, sequential=sequential))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    matte = torch.rand(4, 1, 5, 6, generator=generator, dtype=torch.float64)  # sampled band by band, and not kept
    results[0].append(kp.affine_patches(images, boxes, theta, obj_to_img, alpha=matte, sequential=sequential))
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", "reference")
    expected = without_boxes(images, boxes, theta, obj_to_img, sequential=sequential)
    expected.append(kp.affine_patches(images, boxes, theta, obj_to_img, alpha=matte, sequential=sequential))
    for one, other in zip(results[0], expected, strict=True):
        assert_agree(one, other, "paint", slack=10)
