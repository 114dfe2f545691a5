"""The Triton kernels equal the reference, values and vector-Jacobian products.

They run on the GPU, or on the CPU through Triton's interpreter where there is none (conftest.py).
"""

import os
import subprocess
import sys
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
import torch
from support import oracle
from support.scenes import BOXES, MODES, PADDINGS, assert_close, mattes, scene
from torch.testing import assert_close as assert_equal

import kornia_patchaug as kp
from kornia_patchaug.kernels import cuda, operators, reference
from kornia_patchaug.kernels.cuda import taps as cuda_taps
from kornia_patchaug.windows import Column, make_windows

cuda_composite = import_module("kornia_patchaug.kernels.cuda.composite")  # the package has a function of that name
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TRUTH = [False, True]
ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-4}  # sums over a window come in another order
HALVES = {torch.float16: 2**-10, torch.bfloat16: 2**-7}  # one unit: the interpreter cuts bfloat16 where GPUs round


def inputs(images, boxes, theta, obj_to_img, padding_mode="zeros", align_corners=False, dtype=torch.float64):
    """``source, frames, reads, table, total`` and padding mode of *sample*, as ``affine_patches`` makes them."""
    height, width = images.shape[2:]
    windows = make_windows(boxes.double().numpy(), obj_to_img.numpy(), height, width, DEVICE)
    limits = windows.table[:, Column.LIMITS]
    if padding_mode == "image":
        whole = torch.tensor([0, 0, width - 1, height - 1], device=DEVICE)
        limits, padding_mode = whole - windows.origin.repeat(1, 2), "border"
    reads = torch.cat([windows.image[:, None], windows.origin, limits], dim=1)
    place = theta.to(DEVICE, dtype).reshape(-1, 2, 3), None, boxes.to(DEVICE, dtype), reads, windows.table
    frames = cuda.frames(*place, align_corners)
    return (images.to(DEVICE), frames, reads, windows.table, windows.total), padding_mode


def assert_all_equal(actual, expected, tolerance: float) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert_equal(a, e, rtol=tolerance, atol=tolerance)


def assert_sample_equals_the_reference(given, *options, wanted=(True, True), grads=(True, True)) -> None:
    dtype = given[1].dtype
    expected = reference.sample(*given, *options)
    assert_all_equal(cuda.sample(*given, *options), expected, ROUNDING[dtype])
    generator = torch.Generator().manual_seed(7)
    grads = [
        torch.randn(e.shape, generator=generator, dtype=dtype).to(DEVICE) if given else None
        for e, given in zip(expected, grads, strict=True)
    ]
    expected = reference.sample_backward(*grads, *given, *options, *wanted)
    actual = cuda.sample_backward(*grads, *given, *options, *wanted)
    assert_all_equal(actual, expected, ROUNDING[dtype])
    assert all(a.is_contiguous() for a in actual)


def assert_composite_equals_the_reference(canvas, table, total, dtype, tolerance: float, keep=True) -> None:
    generator = torch.Generator().manual_seed(8)
    paint, opacity = (torch.rand(s, generator=generator, dtype=dtype) for s in ((canvas.shape[1], total), total))
    paint, opacity = paint.to(DEVICE), opacity.to(DEVICE)
    expected = reference.composite(canvas, paint, opacity, table, keep)
    actual = cuda.composite(canvas, paint, opacity, table, keep)
    assert_equal(actual[0], expected[0], rtol=tolerance, atol=tolerance)
    assert_equal(actual[1], expected[1], rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    assert actual[0].stride() == torch.empty_like(canvas).stride()

    grad = torch.randn(canvas.shape, generator=generator, dtype=torch.float64).to(DEVICE, canvas.dtype)
    grad = torch.empty_like(canvas).copy_(grad)
    expected = reference.composite_backward(grad, opacity, expected[1], table)
    actual = cuda.composite_backward(grad, opacity, actual[1], table)
    assert_equal(actual[0], expected[0], rtol=tolerance, atol=tolerance)
    assert_all_equal(actual[1:], expected[1:], ROUNDING[dtype])
    assert actual[0].stride() == torch.empty_like(grad).stride()


# --- sample -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("kind", BOXES)
def test_sample_equals_the_reference_in_every_option(kind, padding_mode, mode):
    # Matrices hold it already: within sample it decides where the mirrors of reflection stand, and nothing else.
    for align_corners in TRUTH if padding_mode == "reflection" else [mode == "nearest"]:
        given, limited = inputs(*scene(kind, channels=1), padding_mode, align_corners)
        assert_sample_equals_the_reference(given, mode, limited, align_corners, True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_sample_without_coverage_and_of_several_channels(padding_mode, mode):
    given, limited = inputs(*scene("fractional", channels=3), padding_mode)
    assert_sample_equals_the_reference(given, mode, limited, False, False)


@pytest.mark.parametrize("grads", [(True, False), (False, True)])
@pytest.mark.parametrize("wanted", [(True, False), (False, True), (True, True)])
def test_sample_of_the_gradients_that_come_and_are_wanted(wanted, grads):
    for padding_mode in ("zeros", "transparent"):
        given, _ = inputs(*scene("fractional", channels=2))
        assert_sample_equals_the_reference(given, "bilinear", padding_mode, False, True, wanted=wanted, grads=grads)


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
    assert_sample_equals_the_reference(inputs(source, *objects)[0], "bilinear", "border", False, True)


@pytest.mark.parametrize("dtype", HALVES)
def test_sample_of_half_precision_adds_in_float32(dtype):
    images, *objects = scene("integer", channels=2, dtype=torch.float32)
    given, _ = inputs(images.to(dtype), *objects, dtype=torch.float32)
    in_full, options = (given[0].float(), *given[1:]), ("bilinear", "reflection", False, True)
    expected = reference.sample(*in_full, *options)
    assert_all_equal(cuda.sample(*given, *options), expected, 1e-5)
    grads = [torch.ones_like(e) for e in expected]
    grad_source, grad_frames = cuda.sample_backward(*grads, *given, *options, True, True)
    expected = reference.sample_backward(*grads, *in_full, *options, True, True)
    assert grad_source.dtype == dtype
    assert_equal(grad_source.float(), expected[0], rtol=HALVES[dtype] / 2, atol=1e-5)
    assert_equal(grad_frames, expected[1], rtol=1e-4, atol=1e-4)


# What overflows on the way is the matter of this test; NumPy, which interprets, says so.
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_a_huge_theta_reads_what_the_reference_reads(padding_mode, mode):
    for factor, dtype in ((1e30, torch.float32), (3e38, torch.float32), (1e308, torch.float64)):
        images, *objects = scene("fractional", channels=1, dtype=dtype)
        given, limited = inputs(images, *objects, padding_mode, dtype=dtype)
        given[1][:, :6] = given[1][:, :6].sign() * factor
        options = mode, limited, False, True
        if padding_mode != "reflection":
            assert_sample_equals_the_reference(given, *options)
            continue
        # Any pixel of the patch will do: some average of pixels is read, times the coverage.
        values, coverage = cuda.sample(*given, *options)
        assert_equal(coverage, reference.sample(*given, *options)[1])
        assert ((values >= images.min() * coverage - 1e-6) & (values <= images.max() * coverage + 1e-6)).all()
        grad_source, _ = cuda.sample_backward(torch.ones_like(values), None, *given, *options, True, True)
        assert_equal(grad_source.sum(), coverage.sum())


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("far", [float("inf"), -float("inf"), float("nan")])
def test_what_is_read_infinitely_far_away_moves_with_nothing(far):
    for mode, padding_mode in product(MODES, ("zeros", "border", "reflection")):
        given, _ = inputs(*scene("integer", channels=1))
        given[1][:, 2:6:3] = far
        values, coverage = cuda.sample(*given, mode, padding_mode, False, True)
        assert values.isfinite().all()
        grads = torch.ones_like(values), torch.zeros_like(coverage)
        _, grad_frames = cuda.sample_backward(*grads, *given, mode, padding_mode, False, True, True, True)
        assert (grad_frames[:, :8] == 0).all()


def test_a_reflection_is_exact_as_far_as_a_pixel_can_be_told():
    images, boxes, theta, obj_to_img = scene("integer", channels=1, dtype=torch.float32)
    for shift in (-1e6, -12345.625, 3e6):
        moved = theta + torch.tensor([[0, 0, shift], [0, 0, -shift]])
        given, _ = inputs(images, boxes[:2], moved[:2], obj_to_img[:2], dtype=torch.float32)
        for align_corners in TRUTH:
            assert_sample_equals_the_reference(given, "bilinear", "reflection", align_corners, True)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_nearest_breaks_ties_as_the_reference_does(padding_mode):
    """At twice the distance from the centre, every position of a box of even sides lies between two pixels."""
    images = scene(channels=1).images
    boxes = torch.tensor([[3.0, 2, 11, 8], [4, 3, 10, 7], [-3, 2, 5, 8]])
    theta = torch.tensor([[2.0, 0, 0, 0, 2, 0]]).expand(3, 6)
    given, _ = inputs(images, boxes, theta, torch.tensor([0, 1, 1]))
    assert_sample_equals_the_reference(given, "nearest", padding_mode, False, True)


@pytest.mark.parametrize("padding_mode", ["zeros", "transparent", "border"])
def test_a_pixel_that_is_nan_spoils_what_it_spoils_in_the_reference(padding_mode):
    images, boxes, theta, obj_to_img = scene("integer", channels=1)
    images[:2, :, 3:6, 2] = images[:2, :, 3, 4:7] = float("nan")  # on edges, where it stands in for what is beyond
    given, _ = inputs(images, boxes, theta + 0.7 * torch.eye(2, 3), obj_to_img)
    options = "bilinear", padding_mode, False, True
    expected = reference.sample(*given, *options)
    assert expected[0].isnan().any()
    for a, e in zip(cuda.sample(*given, *options), expected, strict=True):
        assert_equal(a, e, equal_nan=True)
    grads = [torch.ones_like(e) for e in expected]
    actual = cuda.sample_backward(*grads, *given, *options, True, True)
    for a, e in zip(actual, reference.sample_backward(*grads, *given, *options, True, True), strict=True):
        assert_equal(a, e, equal_nan=True)


def test_sample_on_the_kinks_has_the_reference_s_derivatives():
    """Identity reads pixel centres, where the interpolation, the limits and the mirrors all have theirs."""
    images, boxes, _, obj_to_img = scene("integer", channels=1)
    for zoom, padding_mode, align_corners in product((1.0, 2.0, -1.0), ("zeros", "border", "reflection"), TRUTH):
        theta = zoom * torch.eye(2, 3).expand(len(boxes), 2, 3)
        given, _ = inputs(images, boxes[:2], theta[:2], obj_to_img[:2], align_corners=align_corners)
        assert_sample_equals_the_reference(given, "bilinear", padding_mode, align_corners, True)


# --- composite --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "keep"), [(1, True), (3, False), (5, True)])
@pytest.mark.parametrize("kind", BOXES)
def test_composite_equals_the_reference(kind, channels, keep):
    images, *objects = scene(kind, channels=channels)
    (canvas, _, _, table, total), _ = inputs(images, *objects)
    assert_composite_equals_the_reference(canvas, table, total, torch.float64, 1e-12, keep)


@pytest.mark.parametrize("paint", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_composite_paints_in_the_dtype_of_paint(dtype, paint):
    images, *objects = scene("fractional", channels=2)
    (canvas, _, _, table, total), _ = inputs(images.to(dtype), *objects)
    assert_composite_equals_the_reference(canvas, table, total, paint, HALVES.get(dtype, 1e-6))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("view", ["channels last", "a slice", "one image for all"])
def test_composite_keeps_the_memory_format(view, channels):
    images, *objects = scene("fractional", channels=channels)
    canvas = {
        "channels last": images.to(memory_format=torch.channels_last),
        "a slice": torch.cat([images, images], dim=3)[..., 3:20],
        "one image for all": images[1:2].expand(3, -1, -1, -1),
    }[view]
    (canvas, _, _, table, total), _ = inputs(canvas, *objects)
    assert_composite_equals_the_reference(canvas, table, total, torch.float64, 1e-12)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # of what is then dropped
@pytest.mark.parametrize("paint", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_pixels_under_no_window_keep_their_bits(dtype, paint):
    images, boxes, theta, obj_to_img = scene("integer", channels=2)
    (_, _, _, table, total), _ = inputs(images, boxes[:3], theta[:3], obj_to_img[:3])
    bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    limits = torch.iinfo(bits)
    generator = torch.Generator().manual_seed(2)
    canvas = torch.randint(limits.min, limits.max, images.shape, generator=generator).to(bits).view(dtype).to(DEVICE)
    assert canvas.isnan().any()
    flat = [torch.zeros(2, total, dtype=paint, device=DEVICE), torch.ones(total, dtype=paint, device=DEVICE)]
    painted, under = cuda.composite(canvas, *flat, table, False)
    grad, _, _ = cuda.composite_backward(canvas, flat[1], under, table)
    untouched = torch.ones(3, 13, 17, dtype=torch.bool)
    for (x1, y1, x2, y2), b in zip(boxes[:3].int().tolist(), obj_to_img.tolist(), strict=False):
        untouched[b, y1:y2, x1:x2] = False
    where = untouched[:, None].expand_as(images).to(DEVICE)
    for tensor in (painted, grad):
        assert torch.equal(tensor[where].view(bits), canvas[where].view(bits))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_what_is_not_a_number_is_gone_beneath_opaque_paint_only():
    images, *objects = scene("integer")
    (canvas, _, _, table, total), _ = inputs(torch.full_like(images, torch.nan), *objects)
    paint, opacity = torch.rand(3, total, dtype=torch.float64), torch.arange(total) % 3 / 2.0
    flat = paint.to(DEVICE), opacity.to(DEVICE, torch.float64)
    expected = reference.composite(canvas, *flat, table, True)
    assert not expected[0].isnan().all()
    for a, e in zip(cuda.composite(canvas, *flat, table, True), expected, strict=True):
        assert_equal(a, e, equal_nan=True)


# --- both -------------------------------------------------------------------------------------------------------------


def large_scene(count: int = 30):
    """Windows of several tiles, in images of several, most of them over one another."""
    generator = torch.Generator().manual_seed(4)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([50.0, 18.0])
    size = 3 + 12 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corner, corner + size], dim=1)
    boxes[3], boxes[11] = torch.tensor([1.5, 2.25, 68.5, 27.0]), torch.tensor([20.0, 0.0, 63.0, 25.0])
    x, y = cuda_composite.COLUMNS, cuda_composite.ROWS  # boxes that begin and end beside the edges of tiles
    boxes[4:8] = torch.tensor([[x - 1, y - 1, x, y], [x, y, x + 1, y + 1], [9, 3, x, y], [x - 1, y - 1, x + 9, y + 9]])
    theta = torch.eye(2, 3) + 0.3 * torch.randn(count, 2, 3, generator=generator)
    images = torch.rand(2, 1, 29, 71, generator=generator)
    return images.double(), boxes.double(), theta.double(), torch.randint(0, 2, (count,), generator=generator)


@pytest.mark.parametrize("beyond", [2**31, 0], ids=["32 bits", "64 bits"])
def test_windows_of_many_tiles_in_images_of_many_tiles(beyond, monkeypatch):
    for module in (cuda_taps, cuda_composite):
        monkeypatch.setattr(module, "BEYOND_32_BITS", beyond)
    given, _ = inputs(*large_scene(30 if beyond else 12))
    canvas, _, _, table, total = given
    assert total > 2 * cuda_taps.TILE
    assert canvas.shape[2] > cuda_composite.ROWS
    assert canvas.shape[3] > cuda_composite.COLUMNS
    assert_sample_equals_the_reference(given, "bilinear", "transparent", False, True)
    assert_composite_equals_the_reference(canvas, table, total, torch.float64, 1e-12)


@pytest.mark.parametrize("images", [torch.rand(2, 3, 5, 7), torch.rand(0, 3, 5, 7), torch.rand(2, 0, 5, 7)])
def test_no_objects_and_no_pixels(images):
    boxes, theta = torch.tensor([[2.0, 2, 2, 4]]), torch.eye(2, 3)[None]
    for count in (0, 1)[: 1 + len(images)]:
        objects = boxes[:count], theta[:count], torch.zeros(count, dtype=torch.int64)
        given, _ = inputs(images, *objects, dtype=torch.float32)
        assert given[-1] == 0
        assert_sample_equals_the_reference(given, "bilinear", "zeros", False, True)
        for keep in TRUTH:
            assert_composite_equals_the_reference(given[0], given[3], 0, torch.float32, 0.0, keep)


@pytest.mark.parametrize("painted_at_once", TRUTH)
@pytest.mark.parametrize("sequential", TRUTH)
@pytest.mark.parametrize(("kind", "padding_mode", "mode"), [
    ("integer", "reflection", "bilinear"),
    ("fractional", "transparent", "bilinear"),
    ("partly outside", "image", "nearest"),
    ("one pixel", "zeros", "bilinear"),
])  # fmt: skip
def test_the_public_function_on_them_equals_the_oracle(
    kind, padding_mode, mode, sequential, painted_at_once, monkeypatch
):
    """Boxes with a gradient and mattes go step by step; what has neither is painted at once."""
    images, boxes, theta, obj_to_img = scene(kind, channels=2)
    options = {"mode": mode, "padding_mode": padding_mode, "sequential": sequential}
    weight = torch.rand(images.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64).to(DEVICE)
    gradients = []
    for kernels in (cuda, reference):
        monkeypatch.setattr(operators, "kernels", lambda device, kernels=kernels: kernels)
        matte = None if painted_at_once else mattes(len(boxes))["matte"]
        given = {"images": images, "theta": theta, "boxes": boxes, "alpha": matte}
        given = {name: t if t is None else t.to(DEVICE) for name, t in given.items()}
        leaves = [given[name].requires_grad_() for name in list(given)[: 2 if painted_at_once else 4]]
        painted = kp.affine_patches(**given, obj_to_img=obj_to_img.to(DEVICE), **options)
        expected = oracle.affine_patches(images, boxes, theta, obj_to_img, alpha=matte, **options)
        assert_close(painted.cpu(), expected, 1e-9)
        gradients.append(torch.autograd.grad((painted * weight).sum(), leaves))
    assert_all_equal(*gradients, 1e-9)


def test_the_comparison_notices_another_kernel(monkeypatch):
    given, _ = inputs(*scene("fractional", channels=1))
    shifted = lambda source, frames, *rest: reference.sample(source, frames + 1e-6, *rest)  # noqa: E731
    monkeypatch.setattr(cuda, "sample", shifted)
    with pytest.raises(AssertionError):
        assert_sample_equals_the_reference(given, "bilinear", "zeros", False, True)


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu(tmp_path):
    """The interpreter takes what the compiler does not; compiling takes no GPU."""
    script = Path(__file__).with_name("support") / "compile_kernels.py"
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert set(run.stdout.split()) == {
        "_sample_kernel",
        "_sample_backward_kernel",
        "_composite_kernel",
        "_composite_backward_kernel",
    }
