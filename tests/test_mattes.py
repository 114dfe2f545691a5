"""Soft mattes against scalar loops, integrals on paper, and what a caller may do with them."""

import math

import pytest
import torch
from support.scenes import assert_close

import kornia_patchaug as kp

SHAPES = ["box", "ellipse"]


def rise(depth: float, feather: float) -> float:
    t = min(max(depth / feather, 0.0), 1.0)
    return 3 * t**2 - 2 * t**3


def opacity(i: int, j: int, height: int, width: int, shape: str, feather: float) -> float:
    """At the centre of the pixel in column i of row j, by its definition."""
    u, v = abs((i + 0.5) / width * 2 - 1), abs((j + 0.5) / height * 2 - 1)
    if shape == "box":
        return rise(1 - u, feather) * rise(1 - v, feather)
    return rise(1 - math.hypot(u, v), feather)


@pytest.mark.parametrize("feather", [0.05, 0.3, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pixel_has_the_opacity_of_its_centre(shape, feather):
    height, width = 7, 12
    mattes = kp.soft_mattes(2, (height, width), shape=shape, feather=feather, dtype=torch.float64)
    expected = [[opacity(i, j, height, width, shape, feather) for i in range(width)] for j in range(height)]
    assert mattes.shape == (2, 1, height, width)
    assert_close(mattes, torch.tensor(expected, dtype=torch.float64).expand(2, 1, -1, -1), 1e-12)


def test_values_by_hand():
    """Of four pixels across, the centres are 1/4 and 3/4 of the half size from the edge: t = 1/4, 3/4."""
    matte = kp.soft_mattes(1, (1, 4), feather=1)
    assert matte.flatten().tolist() == [5 / 32, 27 / 32, 27 / 32, 5 / 32]
    assert kp.soft_mattes(1, 4, shape="ellipse", feather=0)[0, 0].tolist() == [
        [0, 1, 1, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [0, 1, 1, 0],
    ]


@pytest.mark.parametrize("size", [1, (3, 5), (16, 10)])
@pytest.mark.parametrize("shape", SHAPES)
def test_mattes_are_the_same_from_all_sides(shape, size):
    matte = kp.soft_mattes(1, size, shape=shape, feather=0.7)
    for dims in ((2,), (3,)):
        assert torch.equal(matte.flip(dims), matte)


@pytest.mark.parametrize(
    ("shape", "feather", "mean"),
    [("box", 0, 1), ("ellipse", 0, math.pi / 4), ("box", 1, 1 / 4), ("ellipse", 1, 0.3 * math.pi / 4)],
)
def test_the_mean_is_the_integral_on_paper(shape, feather, mean):
    """A smoothstep rises by 1/2 on average, once across and once down; in a disk, 2 pi r (1 - 3 r^2 + 2 r^3) from 0 to
    1 integrates to 0.3 pi, of a square's 4."""
    assert abs(kp.soft_mattes(1, (300, 400), shape=shape, feather=feather).mean() - mean) < 1e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_a_matte_is_opaque_inside_of_the_feather_and_nothing_outside_of_the_shape(shape):
    """Pixel centres at k / 20.5 of the half size, k = -20 .. 20."""
    matte = kp.soft_mattes(1, 41, shape=shape, feather=0.5)[0, 0]
    k = torch.arange(-20.0, 21)
    inside = torch.hypot(k, k[:, None]) if shape == "ellipse" else torch.maximum(k.abs(), k.abs()[:, None])
    assert torch.equal(matte == 1, inside < 10.25)
    assert torch.equal(matte == 0, inside > 20.5)
    sharpest = kp.soft_mattes(1, 41, shape=shape, feather=1)[0, 0]
    assert (sharpest == 1).nonzero().tolist() == [[20, 20]]


def test_mattes_have_memory_of_their_own():
    mattes = kp.soft_mattes(3, 4)
    mattes[1] = 0
    assert torch.equal(mattes[0], mattes[2]) and mattes[0].sum() > 0
    assert mattes.is_contiguous()


def test_none_is_ordinary_and_dtypes_are_kept():
    assert kp.soft_mattes(0, (4, 5)).shape == (0, 1, 4, 5)
    assert kp.soft_mattes(2).shape == (2, 1, 32, 32)
    assert kp.soft_mattes(1).dtype == torch.float32
    assert kp.soft_mattes(1, device="meta").device.type == "meta"
    half = kp.soft_mattes(1, 9, shape="ellipse", dtype=torch.bfloat16)
    assert torch.equal(half, kp.soft_mattes(1, 9, shape="ellipse").to(torch.bfloat16))


def test_what_is_painted_with_them_meets_what_was_there():
    """A patch of ones over zeros: the hard box is all of it, the soft one is what the matte is, of as many pixels."""
    boxes, images, ones = torch.tensor([[2, 1, 10, 7]]), torch.zeros(1, 1, 9, 12), torch.ones(1, 1, 6, 8)
    for feather in (0, 0.6):
        alpha = kp.soft_mattes(1, (6, 8), feather=feather)
        painted = kp.paste_patches(images, ones, boxes, alpha=alpha)
        assert_close(painted, torch.nn.functional.pad(alpha, (2, 2, 1, 2)), 1e-6)


BAD = [
    ((-1,), {}, ValueError, "count: expected an integer of 0 or more, got -1"),
    ((2.0,), {}, ValueError, "count: .*got 2.0"),
    ((1, 0), {}, ValueError, r"size: expected an integer above 0, or two as \(height, width\), got 0"),
    ((1, (4, 0)), {}, ValueError, r"size: .*got \(4, 0\)"),
    ((1, "32"), {}, ValueError, "size: .*got '32'"),
    ((1, 4), {"shape": "disk"}, ValueError, "shape: expected one of 'box', 'ellipse', got 'disk'"),
    ((1, 4), {"feather": 1.5}, ValueError, r"feather: expected a share of the half size in \[0, 1\], got 1.5"),
    ((1, 4), {"feather": float("nan")}, ValueError, "feather: .*got nan"),
    ((1, 4), {"feather": "soft"}, ValueError, "feather: .*got 'soft'"),
    ((1, 4), {"dtype": torch.uint8}, TypeError, "dtype: expected a floating dtype, got torch.uint8"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "text"), BAD)
def test_what_is_wrong_is_said(arguments, options, error, text):
    with pytest.raises(error, match="^" + text):
        kp.soft_mattes(*arguments, **options)
