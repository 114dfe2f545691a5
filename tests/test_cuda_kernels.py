"""The Triton kernels equal the reference, values and vector-Jacobian products.

They run on the GPU, or on the CPU through Triton's interpreter where there is none (conftest.py).
"""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from importlib import import_module
from itertools import product

import pytest
import torch
import triton
from support import oracle
from support.interpreter import heed_overflow
from support.scenes import BOXES, CROP_PADDINGS, MODES, PADDINGS, assert_close, mattes, scene
from torch.nn.functional import affine_grid, grid_sample
from torch.testing import assert_close as assert_equal

import kornia_patchaug as kp
from kornia_patchaug import kernels
from kornia_patchaug import plan as planning
from kornia_patchaug.kernels import cpu, cuda, reference
from kornia_patchaug.kernels.backend import Inputs, Read, Wanted
from kornia_patchaug.kernels.cuda import tables
from kornia_patchaug.plan import Plan, Reads, Sampling, image_plan

# The package has a function of each name.
cuda_regions = import_module("kornia_patchaug.kernels.cuda.regions")
cuda_frames = import_module("kornia_patchaug.kernels.cuda.frames")
cuda_gather = import_module("kornia_patchaug.kernels.cuda.gather")
cuda_taps = import_module("kornia_patchaug.kernels.cuda.taps")
pytestmark = pytest.mark.cuda
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# As they are, before anybody hurries the interpreter.
TILINGS = [(tiling, dict(tiling)) for tiling in (cuda_regions.TILING, cuda_regions.ONE_WARP, cuda_regions.PAIRS)]
TRUTH = [False, True]
ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-4}  # sums over a window come in another order
HALVES = {torch.float16: 2**-10, torch.bfloat16: 2**-7}  # one unit: the interpreter cuts bfloat16 where GPUs round


def call(
    scene, padding_mode="zeros", mode="bilinear", *, align_corners=False, box_coverage=True, dtype=torch.float64
) -> tuple[Inputs, Plan]:
    """What *sample* takes, as ``affine_patches`` makes it of a scene."""
    images, boxes, theta, obj_to_img = scene
    beyond, surroundings, by_reach = planning.PADDINGS[padding_mode]
    sampling = Sampling(mode == "nearest", beyond, align_corners, by_reach)
    plan = image_plan(boxes.double().numpy(), obj_to_img.numpy(), images, sampling, surroundings)
    theta, boxes = theta.to(DEVICE, dtype).reshape(-1, 2, 3), boxes.to(DEVICE, dtype)
    return Inputs(images.to(DEVICE), theta, boxes), replace(plan, box_coverage=box_coverage)


def tile_as_on_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(cuda_frames, "ROWS", 16)  # fewer than there are of some object
    for tiling, sizes in TILINGS:
        for name, size in sizes.items():
            monkeypatch.setitem(tiling, name, size)


def assert_all_equal(actual, expected, tolerance: float, **options) -> None:
    for a, e in zip(actual, expected, strict=True):
        if e is None:
            assert a is None
        else:
            assert_equal(a, e, rtol=tolerance, atol=tolerance, **options)


def assert_sample_equals_the_reference(inputs, plan, wanted=Wanted(), given=(True, True), **options) -> None:  # noqa: B008
    tolerance = ROUNDING[inputs.theta.dtype]
    expected = reference.sample(inputs, plan)
    assert_all_equal(cuda.sample(inputs, plan), expected, tolerance, **options)
    generator = torch.Generator().manual_seed(7)
    grads = [
        torch.randn(e.shape, generator=generator, dtype=e.dtype).to(DEVICE) if is_given else None
        for e, is_given in zip(expected, given, strict=True)
    ]
    expected = reference.sample_backward(*grads, inputs, plan, wanted)
    actual = cuda.sample_backward(*grads, inputs, plan, wanted)
    assert_all_equal(actual, expected, tolerance, **options)
    assert all(a.is_contiguous() for a in actual if a is not None)


def assert_composite_equals_the_reference(canvas, windows, dtype, tolerance: float, keep=True) -> None:
    generator = torch.Generator().manual_seed(8)
    shapes = (canvas.shape[1], windows.total), windows.total
    values, opacity = (torch.rand(shape, generator=generator, dtype=dtype).to(DEVICE) for shape in shapes)
    expected = reference.composite(canvas, values, opacity, windows, keep)
    actual = cuda.composite(canvas, values, opacity, windows, keep, False)
    assert_equal(actual[0], expected[0], rtol=tolerance, atol=tolerance)
    assert_equal(actual[1], expected[1], rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    assert actual[0].stride() == torch.empty_like(canvas).stride()

    grad = torch.randn(canvas.shape, generator=generator, dtype=torch.float64).to(DEVICE, canvas.dtype)
    grad = torch.empty_like(canvas).copy_(grad)
    expected = reference.composite_backward(grad, opacity, expected[1], windows)
    actual = cuda.composite_backward(grad, opacity, actual[1], windows)
    assert_equal(actual[0], expected[0], rtol=tolerance, atol=tolerance)
    assert_all_equal(actual[1:], expected[1:], ROUNDING[dtype])
    assert actual[0].stride() == torch.empty_like(grad).stride()


# --- sample -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("kind", BOXES)
def test_sample_equals_the_reference_in_every_option(kind, padding_mode):
    # Each of boxes and paddings in one mode, which `paint` has with every padding in both.
    mode = MODES[(list(BOXES).index(kind) + PADDINGS.index(padding_mode)) % 2]
    # Within the kernels it decides where the mirrors of reflection stand, and nothing else.
    for align_corners in TRUTH if padding_mode == "reflection" else [mode == "nearest"]:
        given = call(scene(kind, channels=1), padding_mode, mode, align_corners=align_corners)
        assert_sample_equals_the_reference(*given)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_sample_without_box_coverage_and_of_several_channels(padding_mode, mode):
    inputs, plan = call(scene("fractional", channels=3), padding_mode, mode, box_coverage=False)
    assert_sample_equals_the_reference(inputs, plan)
    assert len(cuda.sample(inputs, plan)[1]) == (plan.windows.total if padding_mode == "transparent" else 0)


@pytest.mark.parametrize("padding_mode", ["border", "transparent"])
def test_sample_of_other_pictures_through_boxes_of_their_own(padding_mode):
    inputs, plan = call(scene("fractional", channels=2), padding_mode)
    generator = torch.Generator().manual_seed(5)
    patches = torch.rand(4, 2, 6, 5, generator=generator, dtype=torch.float64)
    boxes = torch.tensor([[0, 0, 5, 6], [0.5, 1.25, 4, 5], [0, 0, 5, 6], [1, 1, 2, 2.5]], dtype=torch.float64)
    inputs = inputs._replace(source=patches.to(DEVICE), source_boxes=boxes.to(DEVICE))
    assert_sample_equals_the_reference(inputs, replace(plan, reads=Reads.whole(patches)), Wanted(source_boxes=True))


@pytest.mark.parametrize("given", [(True, False), (False, True)])
@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (True, False, True)])
def test_sample_of_the_gradients_that_come_and_are_wanted(wanted, given):
    for padding_mode, box_coverage in (("zeros", True), ("transparent", True), ("transparent", False)):
        arguments = call(scene("fractional", channels=2), padding_mode, box_coverage=box_coverage)
        assert_sample_equals_the_reference(*arguments, Wanted(*wanted), given)


@pytest.mark.parametrize("view", ["channels last", "a slice", "one image for all"])
def test_sample_reads_any_strides(view):
    images, *objects = scene("fractional", channels=5)
    if view == "channels last":
        source = images.to(memory_format=torch.channels_last)
    elif view == "a slice":
        source = torch.stack([images, -images], dim=-1)[..., 0].flip(0).transpose(2, 3).contiguous().transpose(2, 3)
        source = torch.cat([source, source], dim=3)[..., 3:20]
    else:
        source = images[1:2].expand(3, -1, -1, -1)
    assert not source.is_contiguous()
    assert_sample_equals_the_reference(*call((source, *objects), "border"))


@pytest.mark.parametrize("dtype", HALVES)
def test_sample_of_half_precision_adds_in_float32(dtype):
    images, *objects = scene("integer", channels=2, dtype=torch.float32)
    inputs, plan = call((images.to(dtype), *objects), "reflection", dtype=torch.float32)
    in_full = inputs._replace(source=inputs.source.float())
    expected = reference.sample(in_full, plan)
    assert_all_equal(cuda.sample(inputs, plan), expected, 1e-5)
    grads = [torch.ones_like(e) for e in expected]
    source, *others = cuda.sample_backward(*grads, inputs, plan, Wanted())
    of_source, *expected = reference.sample_backward(*grads, in_full, plan, Wanted())
    assert source.dtype == dtype
    assert_equal(source.float(), of_source, rtol=HALVES[dtype], atol=1e-5)
    assert_all_equal(others, expected, 1e-4)


# What overflows on the way is the matter of this test; NumPy, which interprets, says so.
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_a_huge_theta_reads_what_the_reference_reads(padding_mode, mode, monkeypatch):
    heed_overflow(monkeypatch)
    for factor, dtype in ((1e30, torch.float32), (1e37, torch.float32), (1e307, torch.float64)):
        images, boxes, theta, obj_to_img = scene("fractional", channels=1, dtype=dtype)
        objects = boxes[:2], theta[:2].sign() * factor, obj_to_img[:2]
        inputs, plan = call((images, *objects), padding_mode, mode, dtype=dtype)
        if padding_mode != "reflection":
            assert_sample_equals_the_reference(inputs, plan)
            continue
        # Any pixel of the patch will do: some average of pixels is read, times the coverage.
        values, coverage = cuda.sample(inputs, plan)
        assert_equal(coverage, reference.sample(inputs, plan)[1])
        assert ((values >= images.min() * coverage - 1e-6) & (values <= images.max() * coverage + 1e-6)).all()
        grads = cuda.sample_backward(torch.ones_like(values), None, inputs, plan, Wanted(boxes=False))
        assert_equal(grads.source.sum(), coverage.sum())


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("far", [float("inf"), -float("inf"), float("nan")])
def test_what_is_read_infinitely_far_away_moves_with_nothing(far, monkeypatch):
    heed_overflow(monkeypatch)
    images, boxes, theta, obj_to_img = scene("integer", channels=1)
    for mode, padding_mode in product(MODES, CROP_PADDINGS):
        inputs, plan = call((images, boxes[:2], theta[:2].clone(), obj_to_img[:2]), padding_mode, mode)
        inputs.theta[:, :, 2] = far
        values, coverage = cuda.sample(inputs, plan)
        assert values.isfinite().all()
        grads = torch.ones_like(values), torch.zeros_like(coverage)
        assert (cuda.sample_backward(*grads, inputs, plan, Wanted(source=False)).theta == 0).all()


def test_a_reflection_is_exact_as_far_as_a_pixel_can_be_told():
    images, boxes, theta, obj_to_img = scene("integer", channels=1, dtype=torch.float32)
    for shift, align_corners in product((-1e6, -12345.625, 3e6), TRUTH):
        moved = theta + torch.tensor([[0, 0, shift], [0, 0, -shift]])
        objects = images, boxes[:1], moved[:1], obj_to_img[:1]
        given = call(objects, "reflection", align_corners=align_corners, dtype=torch.float32)
        assert_sample_equals_the_reference(*given)


@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_nearest_breaks_ties_as_the_reference_does(padding_mode):
    """At twice the distance from the centre, every position of a box of even sides lies between two pixels."""
    boxes = torch.tensor([[3.0, 2, 11, 8], [4, 3, 10, 7], [-3, 2, 5, 8]])
    theta = torch.tensor([[2.0, 0, 0, 0, 2, 0]]).expand(3, 6)
    objects = scene(channels=1).images, boxes, theta, torch.tensor([0, 1, 1])
    assert_sample_equals_the_reference(*call(objects, padding_mode, "nearest"))


@pytest.mark.parametrize("padding_mode", ["zeros", "transparent", "border"])
def test_a_pixel_that_is_nan_spoils_what_it_spoils_in_the_reference(padding_mode):
    images, boxes, theta, obj_to_img = scene("integer", channels=1)
    images[:2, :, 3:6, 2] = images[:2, :, 3, 4:7] = float("nan")  # on edges, where it stands in for what is beyond
    inputs, plan = call((images, boxes, theta + 0.7 * torch.eye(2, 3), obj_to_img), padding_mode)
    assert cuda.sample(inputs, plan)[0].isnan().any()
    assert_sample_equals_the_reference(inputs, plan, equal_nan=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_the_identity_keeps_the_bits_of_what_is_no_number_and_of_its_neighbours(padding_mode, mode):
    images, boxes, _, obj_to_img = scene("integer", channels=2)
    images[:, 0, ::3, ::2], images[:, 1, 4] = float("nan"), -float("inf")
    images[:, :, 2::4, 1::3] = -0.0
    inputs, plan = call((images, boxes, torch.eye(2, 3).expand(len(boxes), 2, 3), obj_to_img), padding_mode, mode)
    values, coverage = cuda.sample(inputs, plan)
    image, row, column = plan.windows.places(DEVICE)
    assert torch.equal(values.view(torch.int64), inputs.source[image, :, row, column].mT.view(torch.int64))
    wanted = Wanted(theta=False, boxes=False)
    source = cuda.sample_backward(torch.ones_like(values), None, inputs, plan, wanted).source
    painted = torch.zeros_like(source[:, 0]).index_put((image, row, column), coverage, accumulate=True)
    assert_equal(source, painted[:, None].expand_as(source))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_infinite_pixels_stay_infinite_as_in_grid_sample(padding_mode, value):
    image, theta = scene(channels=1).images[:1], torch.tensor([[1, 0, 0.1, 0, 1, 0.07]], dtype=torch.float64)
    image[..., :5, :] = value  # a sky, as depth maps have it
    objects = image, torch.tensor([[0, 0, 17, 13]]), theta, torch.tensor([0])
    values, _ = cuda.sample(*call(objects, padding_mode))
    grid = affine_grid(theta.view(1, 2, 3), list(image.shape), align_corners=False)
    expected = grid_sample(image, grid, padding_mode=padding_mode, align_corners=False)
    assert expected.isinf().any()
    assert_equal(values.view(1, 1, 13, 17).cpu(), expected, equal_nan=True)


def test_where_nothing_is_read_there_is_zero_and_not_its_negative():
    images, boxes, theta, obj_to_img = scene("integer", channels=1)
    far = theta + torch.tensor([[0, 0, 9.0], [0, 0, 9]])
    for mode in MODES:
        values, _ = cuda.sample(*call((-images, boxes, far, obj_to_img), mode=mode))
        assert not values.signbit().any()


def test_an_edge_that_moves_nothing_has_no_part_in_what_is_infinite():
    images, boxes, _, obj_to_img = scene("integer", channels=1)
    x1, y1, x2, y2 = boxes[0].int().tolist()
    found = []
    for inside in (0.0, torch.inf):
        images[:, :, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = inside
        inputs, plan = call((images, boxes[:1], torch.eye(2, 3)[None], obj_to_img[:1]), mode="nearest")
        grad = torch.ones(1, plan.windows.total, dtype=torch.float64, device=DEVICE)
        found.append(cuda.sample_backward(grad, None, inputs, plan, Wanted()).boxes)
    assert (found[0] != 0).all()
    assert_equal(*found)


def test_sample_on_the_kinks_has_the_reference_s_derivatives():
    """Identity reads pixel centres, where the interpolation, the limits and the mirrors all have theirs."""
    images, boxes, _, obj_to_img = scene("integer", channels=1)
    for zoom, padding_mode, align_corners in product((1.0, 2.0, -1.0), CROP_PADDINGS, TRUTH):
        theta = zoom * torch.eye(2, 3).expand(len(boxes), 2, 3)
        objects = images, boxes[:2], theta[:2], obj_to_img[:2]
        assert_sample_equals_the_reference(*call(objects, padding_mode, align_corners=align_corners))


@pytest.mark.parametrize("backend", [reference, cpu, cuda])
def test_a_pixel_s_distance_beyond_the_patch_the_derivative_is_that_of_grid_sample(backend):
    """There the value is 0, and the pixel of weight 0 is about to be read."""
    if backend is cpu and DEVICE.type == "cuda":
        pytest.skip("of tensors on the CPU")
    image, grad = scene(channels=1).images[:1], torch.zeros(1, 13, 17, dtype=torch.float64)
    theta = torch.tensor([[[1, 0, -2 / 17], [0, 1, 0.1]]], dtype=torch.float64, requires_grad=True)
    grad[..., 0] = 1  # column 0 reads column -1
    sampled = grid_sample(image, affine_grid(theta, list(image.shape), align_corners=False), align_corners=False)
    (expected,) = torch.autograd.grad(sampled, theta, grad[None])
    assert expected.abs().max() > 1
    objects = image, torch.tensor([[0, 0, 17, 13]]), theta.detach(), torch.tensor([0])
    actual = backend.sample_backward(grad.view(1, -1).to(DEVICE), None, *call(objects), Wanted()).theta
    assert_equal(actual.cpu(), expected)


# --- composite --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "keep"), [(1, True), (3, False), (5, True)])
@pytest.mark.parametrize("kind", BOXES)
def test_composite_equals_the_reference(kind, channels, keep):
    inputs, plan = call(scene(kind, channels=channels))
    assert_composite_equals_the_reference(inputs.source, plan.windows, torch.float64, 1e-12, keep)


@pytest.mark.parametrize("of_values", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_composite_paints_in_the_dtype_of_values(dtype, of_values):
    inputs, plan = call(scene("fractional", channels=2))
    assert_composite_equals_the_reference(inputs.source.to(dtype), plan.windows, of_values, HALVES.get(dtype, 1e-6))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("view", ["channels last", "a slice", "one image for all"])
def test_composite_keeps_the_memory_format(view, channels):
    images, *objects = scene("fractional", channels=channels)
    canvas = {
        "channels last": images.to(memory_format=torch.channels_last),
        "a slice": torch.cat([images, images], dim=3)[..., 3:20],
        "one image for all": images[1:2].expand(3, -1, -1, -1),
    }[view]
    inputs, plan = call((canvas, *objects))
    assert_composite_equals_the_reference(inputs.source, plan.windows, torch.float64, 1e-12)


BITS = {2: torch.int16, 4: torch.int32}  # by the bytes of a number


def some_objects() -> tuple[Inputs, Plan]:
    images, boxes, theta, obj_to_img = scene("integer", channels=2)
    return call((images, boxes[:3], theta[:3], obj_to_img[:3]))


def any_bits(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of any bits, some of which are none."""
    bits, generator = BITS[dtype.itemsize], torch.Generator().manual_seed(2)
    limits = torch.iinfo(bits)
    return torch.randint(limits.min, limits.max, shape, generator=generator).to(bits).view(dtype).to(DEVICE)


def assert_other_pixels_keep_their_bits(windows, canvas, *others) -> None:
    untouched = torch.ones(canvas.shape, dtype=torch.bool)
    for place in windows.slices():
        untouched[place] = False
    assert untouched.any() and not untouched.all()
    where, bits = untouched.to(DEVICE), BITS[canvas.dtype.itemsize]
    for other in others:
        assert torch.equal(other[where].view(bits), canvas[where].view(bits))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # of what is then dropped
@pytest.mark.parametrize("of_values", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_pixels_under_no_window_keep_their_bits(dtype, of_values):
    inputs, plan = some_objects()
    canvas, windows = any_bits(inputs.source.shape, dtype), plan.windows
    assert canvas.isnan().any()
    opacity = torch.ones(windows.total, dtype=of_values, device=DEVICE)
    painted, under = cuda.composite(canvas, opacity.new_zeros(2, windows.total), opacity, windows, False, False)
    grad, _, _ = cuda.composite_backward(canvas, opacity, under, windows)
    assert_other_pixels_keep_their_bits(windows, canvas, painted, grad)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_what_is_not_a_number_is_gone_beneath_opaque_paint_only():
    inputs, plan = call(scene("integer"))
    canvas, windows = torch.full_like(inputs.source, torch.nan), plan.windows
    values, opacity = torch.rand(3, windows.total, dtype=torch.float64), torch.arange(windows.total) % 3 / 2.0
    given = canvas, values.to(DEVICE), opacity.to(DEVICE, torch.float64), windows, True
    expected = reference.composite(*given)
    assert not expected[0].isnan().all()
    assert_all_equal(cuda.composite(*given, False), expected, 1e-12, equal_nan=True)


# --- paint ------------------------------------------------------------------------------------------------------------


def assert_paint_equals_the_reference(monkeypatch, plan, tensors, varied, tolerance=1e-11, in_place=False) -> None:
    """*paint* of the tensors of `kernels.paint` by name, and its gradients to those ``varied``, beside the reference's
    *sample* and *composite*."""
    found = []
    for backend in (reference, cuda):
        monkeypatch.setattr(kernels, "backend_of", lambda *_, backend=backend: backend)
        given = {name: t if t is None else t.detach().requires_grad_(name in varied) for name, t in tensors.items()}
        canvas, alpha_boxes = given.pop("canvas", given["source"]), given.pop("alpha_boxes", None)
        picture = kernels.Canvas(canvas, given["theta"].dtype) if in_place else canvas
        painted = kernels.paint(canvas=picture, plan=plan, alpha_boxes=alpha_boxes, **given)
        painted = painted.finished() if in_place else painted
        weight = torch.linspace(-1, 2, painted.numel(), dtype=torch.float64).reshape(painted.shape).to(painted)
        leaves = [t for name, t in {**given, "canvas": canvas}.items() if name in varied and t is not None]
        found.append([painted.detach(), *torch.autograd.grad(painted, leaves, weight)])
    assert_all_equal(found[1], found[0], tolerance)
    assert found[1][0].stride() == found[0][0].stride()


def painting(kind: str, padding_mode: str, mode: str, form: str, channels: int = 2) -> tuple[Plan, dict]:
    """A plan and the tensors of `kernels.paint`, with opacity as mattes have it."""
    inputs, plan = call(scene(kind, channels=channels), padding_mode, mode)
    alpha, alpha_boxes = mattes(len(inputs.boxes))[form], None
    if form == "matte":
        sampling = Sampling(mode == "nearest", planning.Beyond.NEAREST, False, False)
        plan = replace(plan, opacity=Plan(Reads.whole(alpha), plan.windows, sampling, box_coverage=False))
        alpha_boxes = torch.tensor([[0.0, 0, 6, 4]], dtype=torch.float64).expand(len(alpha), 4).to(DEVICE)
    tensors = {"source": inputs.source, "theta": inputs.theta, "boxes": inputs.boxes}
    return plan, tensors | {"alpha": None if alpha is None else alpha.to(DEVICE), "alpha_boxes": alpha_boxes}


@pytest.mark.parametrize("form", ["none", "number", "matte"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_paint_equals_the_reference_in_every_option(padding_mode, mode, form, monkeypatch):
    kinds = list(BOXES)
    kind = kinds[(PADDINGS.index(padding_mode) + 5 * MODES.index(mode)) % len(kinds)]
    plan, tensors = painting(kind, padding_mode, mode, form)
    assert_paint_equals_the_reference(monkeypatch, plan, tensors, {"source", "theta", "boxes", "alpha"})


@pytest.mark.parametrize("form", ["none", "number", "matte"])
@pytest.mark.parametrize("varied", ["source", "theta", "boxes", "alpha", "canvas"])
def test_paint_of_the_gradients_that_are_wanted(varied, form, monkeypatch):
    """Of one alone, over a canvas that is read or another, which may be painted in place."""
    if varied == "alpha" and form == "none":
        return
    plan, tensors = painting("fractional", "border", "bilinear", form)
    if varied != "canvas":
        assert_paint_equals_the_reference(monkeypatch, plan, tensors, {varied})
    tensors["canvas"] = tensors["source"].flip(0)
    assert_paint_equals_the_reference(monkeypatch, plan, tensors, {varied, "canvas"}, in_place=True)
    plan, tensors = painting("fractional", "transparent", "bilinear", form)
    tensors["canvas"] = tensors["source"].flip(0)
    assert_paint_equals_the_reference(monkeypatch, plan, tensors, {varied})


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_paint_reads_and_writes_half_precision(dtype, monkeypatch):
    images, *objects = scene("fractional", channels=3, dtype=torch.float32)
    inputs, plan = call((images.to(dtype), *objects), "border", dtype=torch.float32)
    tensors = {"source": inputs.source, "theta": inputs.theta, "boxes": inputs.boxes, "alpha": None}
    # Of a gradient that adds to the canvas' the sum is rounded, and by the reference both are before.
    assert_paint_equals_the_reference(monkeypatch, plan, tensors, {"source", "theta"}, 4 * HALVES.get(dtype, 1e-6))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("view", ["channels last", "a slice"])
def test_paint_takes_any_strides(view, channels, monkeypatch):
    form = "number" if channels == 1 else "matte"  # of whose pixels the gradients by groups of channels are added up
    plan, tensors = painting("partly outside", "border", "bilinear", form, channels)
    source = tensors["source"]
    if view == "channels last":
        tensors["source"] = source.to(memory_format=torch.channels_last)
    else:
        tensors["source"] = torch.cat([source, source], dim=3)[..., :17]
    tensors["canvas"] = tensors["source"].flip(0).to(memory_format=torch.channels_last)
    assert_paint_equals_the_reference(monkeypatch, plan, tensors, {"source", "theta", "canvas", "alpha"})


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_painting_keeps_the_bits_of_other_pixels(dtype):
    inputs, plan = some_objects()
    canvas = any_bits(inputs.source.shape, dtype)
    options = inputs._replace(source=canvas), canvas, None, plan, Read.CANVAS, False
    painted, kept, _ = cuda.paint(*options)
    wanted = Wanted(source=False, boxes=False, canvas=True)
    grad = cuda.paint_backward(canvas, kept, inputs, None, plan, Read.SOURCE, wanted)[1]
    assert_other_pixels_keep_their_bits(plan.windows, canvas, painted, grad)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_opaque_paint_covers_what_is_not_a_number(monkeypatch):
    inputs, plan = call(scene("integer", channels=1))
    tensors = {"source": inputs.source, "theta": inputs.theta, "boxes": inputs.boxes}
    canvas = torch.full_like(inputs.source, torch.nan)
    painted = []
    for backend in (reference, cuda):
        monkeypatch.setattr(kernels, "backend_of", lambda *_, backend=backend: backend)
        painted.append(kernels.paint(canvas=canvas, plan=plan, **tensors))
    assert_equal(painted[1], painted[0], rtol=1e-12, atol=1e-12, equal_nan=True)
    assert not painted[0].isnan().all()


# --- the gradient of the source ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [cuda_gather.SOME, cuda_gather.MANY], ids=["some", "many"])
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_the_gradient_of_the_source_in_the_steps_of_a_gpu(padding_mode, at_once, monkeypatch):
    monkeypatch.setattr(cuda_gather, "SOME", at_once)
    tile_as_on_a_gpu(monkeypatch)
    assert_sample_equals_the_reference(*call(scene("fractional", channels=1), padding_mode), Wanted(True, False, False))


@pytest.mark.parametrize("theta", [
    torch.zeros(2, 3),  # singular: all is read from one place
    torch.tensor([[0.02, 0.0, 0.1], [0.0, 0.03, -0.2]]),  # a few pixels are read by very many
    torch.tensor([[0.4, 0.8, 0.0], [0.2, 0.4, 0.1]]),  # singular: from a line
    torch.tensor([[9.0, -7.0, 0.3], [6.0, 11.0, 0.1]]),  # few of many are read
    torch.tensor([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    torch.tensor([[0.0, -1.3, 0.4], [1.0, 0.0, 0.2]]),
], ids=["a point", "near", "a line", "far", "a mirror", "a quarter turn"])  # fmt: skip
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_the_gradient_of_the_source_of_any_theta(padding_mode, theta):
    images, boxes, _, obj_to_img = scene("partly outside", channels=1)
    for mode in MODES:
        objects = images, boxes[:2], theta.double().expand(2, 2, 3), obj_to_img[:2]
        assert_sample_equals_the_reference(*call(objects, padding_mode, mode), Wanted(True, False, False))


@pytest.mark.parametrize("padding_mode", [*CROP_PADDINGS, "image"])
def test_the_gradient_of_the_source_of_boxes_that_end_far_away(padding_mode):
    """In float32 positions are rounded at the size of what is added up, also where that comes to little."""
    image = torch.rand(1, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    for k, far in enumerate([5e4, 1e5] * 4):
        box = torch.tensor([[-far - 0.3, -0.7 * far, 14.2 + k % 4, 15.6]])
        slopes = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(k)) / far
        inputs, plan = call(
            (image, box, torch.eye(2, 3) + slopes, torch.tensor([0])), padding_mode, dtype=torch.float32
        )
        values = torch.ones_like(cuda.sample(inputs, plan)[0])
        found, expected = (
            backend.sample_backward(values, None, inputs, plan, Wanted(True, False, False)).source
            for backend in (cuda, reference)
        )
        # Half a box is up to 2**16, of which the last place is 2**-8; beside zeros each adds up in an order of its own.
        assert_equal(found, expected, rtol=0, atol=2**-8 if padding_mode == "zeros" else 1e-4)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_the_gradient_of_the_source_of_a_theta_that_is_not_a_number(padding_mode):
    image, box = torch.rand(1, 1, 20, 24), torch.tensor([[3.0, 4, 14, 15]])
    for k in range(6):
        theta = torch.eye(2, 3).flatten()
        theta[k] = torch.nan
        inputs, plan = call((image, box, theta[None], torch.tensor([0])), padding_mode, dtype=torch.float32)
        assert_sample_equals_the_reference(inputs, plan, Wanted(True, False, False))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # of what is then dropped
def test_infinite_gradients_flow_where_they_were_read_alone():
    inputs, plan = call(scene("integer", channels=1))
    values = torch.ones(1, plan.windows.total, dtype=torch.float64, device=DEVICE)
    values[0, ::23] = torch.inf
    found, expected = (
        backend.sample_backward(values, None, inputs, plan, Wanted(True, False, False)).source
        for backend in (cuda, reference)
    )
    assert_equal(found, expected, rtol=1e-11, atol=1e-11)
    assert expected.isinf().any() and not expected.isinf().all()


@pytest.mark.parametrize("padding_mode", CROP_PADDINGS)
def test_the_gradient_of_the_source_of_pictures_of_even_width(padding_mode):
    """Pixels are looked up in pairs: here the last is the right one of its pair, in others it is the left one."""
    images, *objects = scene("partly outside", channels=1)
    for align_corners in TRUTH:
        inputs, plan = call((images[..., :16], *objects), padding_mode, align_corners=align_corners)
        assert_sample_equals_the_reference(inputs, plan, Wanted(True, False, False))


def test_the_gradient_of_the_source_of_an_almost_singular_theta():
    """In float32 hardly anything is left of the determinant, by which rows of the window are found."""
    image, box = torch.rand(1, 1, 41, 47), torch.tensor([[2.0, 1, 46, 40]])
    theta = torch.tensor([[0.4, 0.8, 0.02, 0.2, 0.4 + 1e-5, -0.01]])
    inputs, plan = call((image, box, theta, torch.tensor([0])), dtype=torch.float32)
    assert_sample_equals_the_reference(inputs, plan, Wanted(True, False, False))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("factor", [1e12, 1.4e37], ids=["huge", "infinite"])
def test_the_gradient_of_the_source_of_huge_slopes(factor):
    """In the column or the row of the centre positions are small."""
    image, box = torch.rand(1, 1, 20, 30), torch.tensor([[3.0, 4, 20, 15]])
    for theta in (factor, -15 * factor, 0, 0, 1, 0), (1, 0, 0, -15 * factor, factor, 0.2):
        inputs, plan = call((image, box, torch.tensor([theta]), torch.tensor([0])), dtype=torch.float32)
        assert_sample_equals_the_reference(inputs, plan, Wanted(True, False, False))


def test_every_pixel_is_read_once_also_from_where_mirrors_cannot_be_counted(monkeypatch):
    """In float32 whole numbers beyond 2**24 have no successor."""
    heed_overflow(monkeypatch)
    if DEVICE.type == "cpu":
        monkeypatch.setitem(cuda_regions.PAIRS, "ROWS", 64)
        monkeypatch.setitem(cuda_regions.PAIRS, "COLUMNS", 64)
    images, box = torch.rand(1, 1, 24, 24), torch.tensor([[0.0, 0, 24, 24]])
    theta = torch.tensor([[1.0, 0.3, 3.5e7, -0.2, 1.1, -3.5e7]])
    inputs, plan = call((images, box, theta, torch.tensor([0])), "reflection", dtype=torch.float32)
    values, _ = cuda.sample(inputs, plan)
    source, *_ = cuda.sample_backward(torch.ones_like(values), None, inputs, plan, Wanted(True, False, False))
    assert_equal(source.sum(), torch.tensor(576.0, device=DEVICE))


# --- all --------------------------------------------------------------------------------------------------------------


def large_scene(count: int = 30):
    """Windows of several tiles, in images of several, most of them over one another."""
    generator = torch.Generator().manual_seed(4)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([50.0, 18.0])
    size = 3 + 12 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corner, corner + size], dim=1)
    boxes[3], boxes[11] = torch.tensor([1.5, 2.25, 68.5, 27.0]), torch.tensor([20.0, 0.0, 63.0, 25.0])
    x, y = TILINGS[0][1]["COLUMNS"], TILINGS[0][1]["ROWS"]  # boxes that begin and end beside the edges of tiles
    boxes[4:8] = torch.tensor([[x - 1, y - 1, x, y], [x, y, x + 1, y + 1], [9, 3, x, y], [x - 1, y - 1, x + 9, y + 9]])
    theta = torch.eye(2, 3) + 0.3 * torch.randn(count, 2, 3, generator=generator)
    images = torch.rand(2, 1, 29, 71, generator=generator)
    return images.double(), boxes.double(), theta.double(), torch.randint(0, 2, (count,), generator=generator)


@pytest.mark.parametrize("beyond", [2**31, 0], ids=["32 bits", "64 bits"])
def test_windows_of_many_tiles_in_images_of_many_tiles(beyond, monkeypatch):
    monkeypatch.setattr(tables, "BEYOND_32_BITS", beyond)
    tile_as_on_a_gpu(monkeypatch)
    inputs, plan = call(large_scene(14 if beyond else 12), "transparent")
    canvas = inputs.source
    assert plan.windows.areas.max() > 2 * cuda_taps.TILE
    assert_sample_equals_the_reference(inputs, plan, Wanted(source=False))
    assert_composite_equals_the_reference(canvas, plan.windows, torch.float64, 1e-12)
    tensors = {"source": canvas, "theta": inputs.theta, "boxes": inputs.boxes, "alpha": None}
    assert_paint_equals_the_reference(monkeypatch, plan, tensors, {"theta", "boxes"})


@pytest.mark.parametrize("images", [torch.rand(2, 3, 5, 7), torch.rand(0, 3, 5, 7), torch.rand(2, 0, 5, 7)])
def test_no_objects_and_no_pixels(images):
    boxes, theta = torch.tensor([[2.0, 2, 2, 4]]), torch.eye(2, 3)[None]
    for count in (0, 1)[: 1 + len(images)]:
        objects = boxes[:count], theta[:count], torch.zeros(count, dtype=torch.int64)
        inputs, plan = call((images, *objects), dtype=torch.float32)
        assert plan.windows.total == 0
        assert_sample_equals_the_reference(inputs, plan)
        for keep in TRUTH:
            assert_composite_equals_the_reference(inputs.source, plan.windows, torch.float32, 0.0, keep)


@pytest.mark.parametrize("matted", TRUTH)
@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize(("kind", "padding_mode", "mode"), [
    ("integer", "reflection", "bilinear"),
    ("fractional", "transparent", "bilinear"),
    ("partly outside", "image", "nearest"),
    ("one pixel", "zeros", "bilinear"),
])  # fmt: skip
def test_the_public_function_on_them_equals_the_oracle(kind, padding_mode, mode, sequential, matted, monkeypatch):
    images, boxes, theta, obj_to_img = scene(kind, channels=2)
    options = {"mode": mode, "padding_mode": padding_mode, "sequential": sequential}
    weight = torch.rand(images.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64).to(DEVICE)
    gradients = []
    for backend in (cuda, reference):
        monkeypatch.setattr(kernels, "backend_of", lambda *_, backend=backend: backend)
        matte = mattes(len(boxes))["matte"] if matted else None
        given = {"images": images, "theta": theta, "boxes": boxes, "alpha": matte}
        given = {name: t if t is None else t.to(DEVICE) for name, t in given.items()}
        leaves = [given[name].requires_grad_() for name in list(given)[: 4 if matted else 2]]
        painted = kp.affine_patches(**given, obj_to_img=obj_to_img.to(DEVICE), **options)
        expected = oracle.affine_patches(images, boxes, theta, obj_to_img, alpha=matte, **options)
        assert_close(painted.cpu(), expected, 1e-9)
        gradients.append(torch.autograd.grad((painted * weight).sum(), leaves))
    assert_all_equal(*gradients, 1e-9)


@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_the_gradient_of_images_through_a_fill_equals_that_of_the_reference(padding_mode, monkeypatch):
    images, boxes, theta, obj_to_img = scene("fractional", channels=2)
    boxes[0], theta[0] = boxes.new_tensor([0.8, 3.8, 16.03, 12.4]), theta.new_tensor([[1.6, 0, 0.1], [-0.2, 0.5, 0.1]])
    weight = torch.rand(images.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64).to(DEVICE)
    gradients = []
    for backend in (cuda, reference):
        monkeypatch.setattr(kernels, "backend_of", lambda *_, backend=backend: backend)
        leaves = [t.detach().to(DEVICE).requires_grad_() for t in (images, boxes, theta)]
        painted = kp.affine_patches(*leaves, obj_to_img.to(DEVICE), padding_mode=padding_mode, fill=0.3)
        gradients.append(torch.autograd.grad((painted * weight).sum(), leaves))
    assert_all_equal(*gradients, 1e-9)


def test_the_comparison_notices_another_kernel(monkeypatch):
    inputs, plan = call(scene("fractional", channels=1))
    shifted = inputs._replace(theta=inputs.theta + 1e-6)
    monkeypatch.setattr(cuda, "sample", lambda inputs, plan: reference.sample(shifted, plan))
    with pytest.raises(AssertionError):
        assert_sample_equals_the_reference(inputs, plan)


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu(tmp_path):
    """The interpreter takes what the compiler does not; compiling takes no GPU."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("TRITON_INTERPRET", None)
    code = """
        from benchmarks import gpu_report, tilings
        from benchmarks.gpu_report import compiled, compiled_variants
        scene = tilings.make_scene(gpu_report.LIKE_M64)
        assert set(tilings.SHOWN) <= set(tilings.measured(tilings.TILINGS[-1], scene))
        for one in [*compiled([90]), *compiled_variants([80])]:
            print(one.name, one.spilled, one.atomics, one.moved, one.shared > 0, "-0.0" in one.ttir)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    lines = {tuple(line.split()) for line in run.stdout.splitlines()}
    names = {f"_{name}{way}_kernel" for name in ("frames", "sample", "composite", "paint") for way in ("", "_backward")}
    counted = {(name, *others) for name, _, *others, _, _ in lines}
    assert counted == {(name, "0", "False") for name in names | {"_gather_kernel"}}
    # Only where threads of several warps, or of rows and columns, add up do they hand numbers to one another.
    assert {name for name, *_, shared, _ in lines if shared == "True"} == {
        "_sample_backward_kernel",
        "_frames_backward_kernel",
    }
    # Sums of taps and of planes begin at -0, which the interpreter takes in any spelling and the compiler does not.
    begun = {name for name, *_, begun in lines if begun == "True"}
    assert begun == {f"_{name}_kernel" for name in ("sample", "sample_backward", "paint", "paint_backward", "gather")}
    if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 7):  # those before spill some, in few options
        assert {spilled for _, spilled, *_ in lines} == {"0"}
