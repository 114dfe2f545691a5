"""The oracle against an independent library (torch's grid_sample on the crop) and against values worked by hand."""

import numpy as np
import pytest
import torch
from support.oracle import affine_patches, crop_patches, paste_patches
from torch.nn.functional import affine_grid, grid_sample
from torch.nn.functional import pad as pad_image

CROP_MODES = ["zeros", "border", "reflection"]  # those that grid_sample has
ALL_MODES = [*CROP_MODES, "image", "transparent"]
TORCH_PADDING = {"zeros": "constant", "border": "replicate", "reflection": "replicate"}  # what lies beyond the image

both_corners = pytest.mark.parametrize("align_corners", [False, True])
both_modes = pytest.mark.parametrize("mode", ["bilinear", "nearest"])
crop_modes = pytest.mark.parametrize("padding_mode", CROP_MODES)
# affine_grid tells that align_corners on one pixel has meant its centre since torch 1.3: the very meaning tested here
one_pixel_boxes = pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior:UserWarning")


def assert_same(actual, expected, tol: float = 1e-9) -> None:
    """Fails unless shapes are equal and values finite and within tol, absolutely."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    assert np.abs(actual - expected).max(initial=0.0) <= tol


def random_theta(n: int, seed: int, spread: float = 0.6) -> torch.Tensor:
    """(n, 2, 3) around the identity, far enough from it to read beyond the box."""
    noise = torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.eye(2, 3, dtype=torch.float64) + spread * noise


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def warp_crop(crop: torch.Tensor, theta: torch.Tensor, size=None, **options) -> torch.Tensor:
    """grid_sample(crop, affine_grid(theta)) of one (C, h, w) crop and one (2, 3) theta."""
    c, h, w = crop.shape
    grid = affine_grid(theta[None], [1, c, *(size or (h, w))], align_corners=options["align_corners"])
    return grid_sample(crop[None], grid, **options)[0]


IDENTITY = torch.eye(2, 3, dtype=torch.float64)


# --- against grid_sample ----------------------------------------------------------------------------------------------

INSIDE = [[1, 2, 8, 7], [5, 0, 9, 8], [3, 4, 4, 7], [2, 3, 8, 4], [7, 5, 8, 6], [0, 0, 11, 8]]  # also 1 pixel across


@one_pixel_boxes
@both_corners
@both_modes
@crop_modes
@pytest.mark.parametrize("box", INSIDE)
def test_an_integer_box_is_grid_sample_on_the_crop(box, padding_mode, mode, align_corners):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    x1, y1, x2, y2 = box
    images = random_images(2, 3, 8, 11)
    for theta in random_theta(4, seed=1):
        expected = images.clone()
        expected[1, :, y1:y2, x1:x2] = warp_crop(images[1, :, y1:y2, x1:x2], theta, **options)
        assert_same(affine_patches(images, [box], theta.reshape(1, 6), [1], **options), expected)


@one_pixel_boxes
@both_corners
@both_modes
@crop_modes
def test_beyond_the_image_a_crop_goes_on_with_zeros_or_with_the_nearest_pixel(padding_mode, mode, align_corners):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    images, m = random_images(1, 2, 5, 7), 4
    wide = pad_image(images, [m, m, m, m], mode=TORCH_PADDING[padding_mode])
    for box in ([-3, -2, 4, 3], [4, 1, 10, 8], [-2, -3, 9, 9], [2, -4, 3, 2]):
        x1, y1, x2, y2 = (m + edge for edge in box)
        for theta in random_theta(3, seed=2):
            expected = wide.clone()
            expected[0, :, y1:y2, x1:x2] = warp_crop(wide[0, :, y1:y2, x1:x2], theta, **options)
            assert_same(affine_patches(images, [box], theta[None], [0], **options), expected[..., m:-m, m:-m])


@both_corners
@both_modes
def test_transparent_shows_the_canvas_where_a_crop_of_ones_fades(mode, align_corners):
    options = {"mode": mode, "align_corners": align_corners}
    images = random_images(1, 2, 7, 9)
    crop = images[0, :, 1:6, 2:9]
    for theta in random_theta(4, seed=3):
        reach = warp_crop(torch.ones_like(crop), theta, padding_mode="zeros", **options)
        expected = images.clone()
        expected[0, :, 1:6, 2:9] = (1 - reach) * crop + warp_crop(crop, theta, padding_mode="zeros", **options)
        actual = affine_patches(images, [[2, 1, 9, 6]], theta[None], [0], padding_mode="transparent", **options)
        assert_same(actual, expected)


@both_corners
@both_modes
def test_image_padding_reads_the_surroundings(mode, align_corners):
    """The window cut from a warp of a wide replicated frame, whose own edge is never reached."""
    options = {"mode": mode, "padding_mode": "border", "align_corners": align_corners}
    images, m = random_images(1, 2, 6, 8), 12
    x1, y1, x2, y2 = 2, 1, 7, 4
    wide = pad_image(images, [m, m, m, m], mode="replicate")[0]
    sizes = torch.tensor([wide.shape[2], wide.shape[1]], dtype=torch.float64)
    unit = 1.0 if align_corners else 0.0
    for theta in random_theta(4, seed=4, spread=0.3):
        grid = affine_grid(theta[None], [1, 2, y2 - y1, x2 - x1], align_corners=align_corners)
        half = (torch.tensor([x2 - x1, y2 - y1], dtype=torch.float64) - unit) / 2
        centre = torch.tensor([x1 + x2, y1 + y2], dtype=torch.float64) / 2 + m
        wide_grid = (grid * half + centre - sizes / 2) / ((sizes - unit) / 2)
        assert wide_grid.abs().max() < 1
        expected = images.clone()
        expected[0, :, y1:y2, x1:x2] = grid_sample(wide[None], wide_grid, **options)[0]
        actual = affine_patches(
            images, [[x1, y1, x2, y2]], theta[None], [0], mode=mode, padding_mode="image", align_corners=align_corners
        )
        assert_same(actual, expected)


@both_corners
@both_modes
@crop_modes
@pytest.mark.parametrize("size", [(5, 7), (2, 3), (9, 4), (1, 1)])
def test_a_matte_moves_with_the_patch(size, padding_mode, mode, align_corners):
    options = {"mode": mode, "align_corners": align_corners}
    images, mattes = random_images(1, 2, 7, 9), random_images(1, 1, *size, seed=5)
    crop, matte_padding = images[0, :, 1:6, 2:9], "reflection" if padding_mode == "reflection" else "border"
    for theta in random_theta(3, seed=6):
        value = warp_crop(crop, theta, padding_mode=padding_mode, **options)
        matte = warp_crop(mattes[0], theta, size=(5, 7), padding_mode=matte_padding, **options)
        expected = images.clone()
        expected[0, :, 1:6, 2:9] = (1 - matte) * crop + matte * value
        actual = affine_patches(
            images, [[2, 1, 9, 6]], theta[None], [0], alpha=mattes, padding_mode=padding_mode, **options
        )
        assert_same(actual, expected)


@pytest.mark.parametrize("x1", [2, 3])
@crop_modes
def test_nearest_rounds_half_to_even_within_the_crop(padding_mode, x1):
    """Zooming out by two puts every read on a tie; the sizes are powers of two, so that the ties are exact."""
    images = random_images(1, 1, 5, 13)
    u, v = (torch.arange(8) + 0.5) / 4 - 1, (torch.arange(4) + 0.5) / 2 - 1
    grid = torch.stack(torch.meshgrid(2 * u, 2 * v, indexing="xy"), dim=-1)[None].double()  # (1, 4, 8, 2)
    expected = images.clone()
    options = {"mode": "nearest", "padding_mode": padding_mode, "align_corners": False}
    expected[..., 1:5, x1 : x1 + 8] = grid_sample(images[..., 1:5, x1 : x1 + 8], grid, **options)
    assert_same(affine_patches(images, [[x1, 1, x1 + 8, 5]], [[2, 0, 0, 0, 2, 0]], [0], **options), expected)


OVERLAPPING = [[1, 1, 7, 6], [4, 2, 10, 8], [0, 0, 5, 4], [3, 3, 8, 7], [2, 0, 10, 5]]
OWNERS = [1, 0, 1, 1, 0]


@both_corners
@crop_modes
@pytest.mark.parametrize("sequential", [False, True])
def test_overlapping_boxes_are_painted_in_row_order(sequential, padding_mode, align_corners):
    options = {"padding_mode": padding_mode, "align_corners": align_corners}
    images, theta, alpha = random_images(2, 3, 8, 10), random_theta(5, seed=7), [1.0, 0.3, 0.8, 0.6, 0.9]
    expected = images.clone()
    for (x1, y1, x2, y2), b, t, a in zip(OVERLAPPING, OWNERS, theta, alpha, strict=True):
        source = expected.clone() if sequential else images
        painted = warp_crop(source[b, :, y1:y2, x1:x2], t, mode="bilinear", **options)
        expected[b, :, y1:y2, x1:x2] = (1 - a) * expected[b, :, y1:y2, x1:x2] + a * painted
    actual = affine_patches(images, OVERLAPPING, theta, OWNERS, alpha=alpha, sequential=sequential, **options)
    other = affine_patches(images, OVERLAPPING, theta, OWNERS, alpha=alpha, sequential=not sequential, **options)
    assert_same(actual, expected)
    with pytest.raises(AssertionError):  # the boxes do overlap: the two orders of reading differ
        assert_same(other, expected)


@both_corners
@both_modes
@crop_modes
def test_crop_is_grid_sample_on_the_whole_image(padding_mode, mode, align_corners):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    images, (height, width), unit = random_images(2, 3, 8, 11), (8, 11), 1.0 if align_corners else 0.0
    boxes = [[1.3, 2.1, 7.45, 6.2], [-2.6, -1.2, 4.1, 5.7], [6.2, 3.3, 14.9, 10.4], [2, 1, 9, 5]]
    for size in ((4, 7), (3, 2)):
        expected = []
        for (x1, y1, x2, y2), b in zip(boxes, [0, 1, 1, 0], strict=True):
            zoom_x, zoom_y = (x2 - x1 - unit) / (width - unit), (y2 - y1 - unit) / (height - unit)
            shift_x, shift_y = (x1 + x2 - width) / (width - unit), (y1 + y2 - height) / (height - unit)
            theta = torch.tensor([[zoom_x, 0, shift_x], [0, zoom_y, shift_y]], dtype=torch.float64)
            expected.append(warp_crop(images[b], theta, size=size, **options))
        assert_same(crop_patches(images, boxes, [0, 1, 1, 0], size, **options), torch.stack(expected))


@both_corners
@both_modes
def test_paste_stretches_the_patch_over_an_integer_box(mode, align_corners):
    options = {"mode": mode, "padding_mode": "border", "align_corners": align_corners}
    images, patches = random_images(2, 3, 8, 11), random_images(2, 3, 4, 3, seed=8)
    mattes = random_images(2, 1, 7, 2, seed=9)
    expected = images.clone()
    boxes = [[2, 1, 9, 6], [4, 3, 8, 6]]  # their sizes put no read on a tie
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        matte = warp_crop(mattes[n], IDENTITY, size=(y2 - y1, x2 - x1), **options)
        value = warp_crop(patches[n], IDENTITY, size=(y2 - y1, x2 - x1), **options)
        expected[1, :, y1:y2, x1:x2] = (1 - matte) * expected[1, :, y1:y2, x1:x2] + matte * value
    actual = paste_patches(images, patches, boxes, [1, 1], alpha=mattes, mode=mode, align_corners=align_corners)
    assert_same(actual, expected)


# --- laws -------------------------------------------------------------------------------------------------------------


@both_corners
@both_modes
@pytest.mark.parametrize("padding_mode", ALL_MODES)
def test_identity_returns_the_input(padding_mode, mode, align_corners):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    images, identity = random_images(2, 3, 6, 9), IDENTITY.expand(3, 2, 3)
    integer, fractional = [[1, 0, 5, 6], [3, 2, 4, 9], [-2, -1, 7, 3]], [[0.3, 1.7, 4.2, 5.1], [3.4, -1.2, 9.9, 6.6]]
    for sequential in (False, True):
        actual = affine_patches(images, integer, identity, [0, 1, 1], sequential=sequential, **options)
        assert_same(actual, images, tol=0.0)
        actual = affine_patches(images, fractional, identity[:2], [1, 1], sequential=sequential, **options)
        assert_same(actual, images)


@both_corners
@both_modes
def test_a_pasted_crop_returns_the_input(mode, align_corners):
    images, boxes = random_images(2, 3, 6, 9), [[2, 1, 7, 4], [4, 3, 9, 6]]
    patches = crop_patches(images, boxes, [1, 0], (3, 5), mode=mode, padding_mode="zeros", align_corners=align_corners)
    assert_same(patches, torch.stack([images[1, :, 1:4, 2:7], images[0, :, 3:6, 4:9]]))
    assert_same(paste_patches(images, patches, boxes, [1, 0], mode=mode, align_corners=align_corners), images)


@pytest.mark.parametrize("padding_mode", ALL_MODES)
def test_empty_and_outside_boxes_paint_nothing(padding_mode):
    images = random_images(1, 2, 4, 6)
    boxes = [[2, 1, 2, 4], [1.5, 2.5, 4.5, 2.5], [4, 3, 1, 1], [-5, 0, 0, 4], [6, 1, 9, 3], [1, 4.2, 3, 7]]
    theta, owners = random_theta(6, seed=10), [0] * 6
    for align_corners in (False, True):
        options = {"padding_mode": padding_mode, "align_corners": align_corners}
        assert_same(affine_patches(images, boxes, theta, owners, **options), images, tol=0.0)
        assert_same(affine_patches(images, [], [], [], **options), images, tol=0.0)
        patches = crop_patches(images, boxes[:3], [0] * 3, (2, 3), mode="bilinear", **options)
        assert_same(patches, np.zeros((3, 2, 2, 3)), tol=0.0)
        assert_same(paste_patches(images, patches, boxes[:3], [0] * 3), images, tol=0.0)


def test_the_arguments_are_left_alone():
    given = [np.random.default_rng(11).random(s) for s in [(1, 2, 4, 6), (1, 4), (1, 2, 3), (1, 1, 2, 3)]]
    given[1] = np.array([[1.0, 0.5, 5.0, 3.5]])
    images, boxes, theta, alpha = kept = [array.copy() for array in given]
    affine_patches(images, boxes, theta, np.array([0]), alpha=alpha, sequential=True)
    paste_patches(images, np.ones((1, 2, 2, 2)), boxes, np.array([0]), alpha=alpha)
    for before, after in zip(given, kept, strict=True):
        assert_same(after, before, tol=0.0)


def test_one_unknown_word_is_refused():
    box = {"images": [[[[0.0, 1.0]]]], "boxes": [[0, 0, 2, 1]], "theta": [[1, 0, 0, 0, 1, 0]], "obj_to_img": [0]}
    for wrong in ({"mode": "bicubic"}, {"padding_mode": "reflect"}):
        with pytest.raises(ValueError, match="unknown"):
            affine_patches(**box, **wrong)


# --- by hand ----------------------------------------------------------------------------------------------------------

#         0     1     2     3     4          The box 0.5 1 2.25 2.5 (#) in a 3 x 4 image. Its window is columns 0..2
#      0  +-----+-----+-----+-----+          of rows 1..2.
#         |  0  |  1  |  2  |  3  |
#      1  +--###########+----+-----+          kx = 0.5, 1, 0.25    ky = 1 (row 1), 0.5 (row 2)
#         | 10##|##11##|#12  | 13  |
#      2  +--###########+----+-----+          K = 0.5   1    0.25
#         | 20##|##21##|#22  | 23  |              0.25  0.5  0.125
#      3  +-----+-----+-----+-----+
#
# theta reads one pixel to the right: x + 1, where one pixel is 1/hw of the box frame. hw = 1.75/2, or with
# align_corners (1.75 - 1)/2. Columns 0 and 1 of the window read columns 1 and 2; its column 2 reads column 3, which is
# beyond the window, and there the padding modes part.

FRACTIONAL_IMAGE = [[[[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]]]
FRACTIONAL_BOX = [[0.5, 1.0, 2.25, 2.5]]
FRACTIONAL_CASES = [  # padding_mode, align_corners, what the window's column 2 becomes in rows 1 and 2
    ("zeros", False, 0.75 * 12, 0.875 * 22),
    ("zeros", True, 0.75 * 12, 0.875 * 22),
    ("transparent", False, 12, 22),  # R = 0: the canvas shows
    ("border", False, 12, 22),  # column 2 again
    ("border", True, 12, 22),
    ("reflection", False, 12, 22),  # index 3 of 3, mirrored at 2.5: column 2
    ("reflection", True, 0.75 * 12 + 0.25 * 11, 0.875 * 22 + 0.125 * 21),  # mirrored at 2: column 1
    ("image", False, 0.75 * 12 + 0.25 * 13, 0.875 * 22 + 0.125 * 23),  # the surroundings: column 3
    ("image", True, 0.75 * 12 + 0.25 * 13, 0.875 * 22 + 0.125 * 23),
]


@pytest.mark.parametrize(("padding_mode", "align_corners", "row1", "row2"), FRACTIONAL_CASES)
def test_a_fractional_box_by_hand(padding_mode, align_corners, row1, row2):
    half_width = 0.375 if align_corners else 0.875
    expected = [
        [0, 1, 2, 3],
        [0.5 * 10 + 0.5 * 11, 12, row1, 13],
        [0.75 * 20 + 0.25 * 21, 0.5 * 21 + 0.5 * 22, row2, 23],
    ]
    theta = [[1, 0, 1 / half_width, 0, 1, 0]]
    options = {"padding_mode": padding_mode, "align_corners": align_corners}
    assert_same(affine_patches(FRACTIONAL_IMAGE, FRACTIONAL_BOX, theta, [0], **options), [[expected]])


def test_a_box_half_a_pixel_across_has_no_width_in_its_frame_by_hand():
    """With align_corners and x2 - x1 = 0.5 the half width is 0: t01, t02, t10 do nothing, u = 0 all over the matte.

    t12 = 1 reads one row lower (hh = 1), 10 more but for the last row. K = 0.25 in columns 0 and 1, A = 0.5.
    """
    image, box, theta = np.array(FRACTIONAL_IMAGE[0][0]), [[0.75, 0, 1.25, 3]], [[1, 5, 7, 9, 1, 1]]
    matte = np.array([[0, 0.5, 1]])
    expected = image + 1.25 * np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    options = {"padding_mode": "border", "align_corners": True}
    assert_same(affine_patches([[image]], box, theta, [0], alpha=[[matte]], **options), [[expected]])
    box, theta = [[0, 0.75, 3, 1.25]], [[1, 9, 1, 5, 1, 7]]  # the same, x and y exchanged
    assert_same(affine_patches([[image.T]], box, theta, [0], alpha=[[matte.T]], **options), [[expected.T]])


def test_a_crop_of_a_box_half_a_pixel_across_by_hand():
    """With align_corners a box narrower than a pixel has one column of centres, x = 1, which every column reads."""
    options = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": True}
    box = [[0.75, 1, 1.25, 3]]
    assert_same(crop_patches(FRACTIONAL_IMAGE, box, [0], (2, 1), **options), [[[[10.5], [20.5]]]])
    assert_same(crop_patches(FRACTIONAL_IMAGE, box, [0], (2, 2), **options), [[[[10.5, 10.5], [20.5, 20.5]]]])


def test_a_patch_pasted_on_a_fractional_box_by_hand():
    """A one-pixel patch of 100, opacity 0.5: every pixel moves K/2 of the way to 100."""
    expected = [
        [0, 1, 2, 3],
        [0.75 * 10 + 25, 0.5 * 11 + 50, 0.875 * 12 + 12.5, 13],
        [0.875 * 20 + 12.5, 0.75 * 21 + 25, 0.9375 * 22 + 6.25, 23],
    ]
    assert_same(paste_patches(FRACTIONAL_IMAGE, [[[[100.0]]]], FRACTIONAL_BOX, [0], alpha=[0.5]), [[expected]])


def test_a_quarter_turn_by_hand():
    """Theta maps output (u, v) to input (v, -u): on this box, row r and column c read row 1 - c and column r."""
    images = [[[[1, 2, 3], [4, 5, 6]]]]
    expected = [[[[4, 1, 3], [5, 2, 6]]]]
    assert_same(affine_patches(images, [[0, 0, 2, 2]], [[0, 1, 0, -1, 0, 0]], [0]), expected)


#   0  10  20  30  40      Boxes a = columns 0..2 and b = columns 2..4, each mirrored left to right, alpha 0.5.
#   1  11  21  31  41      a reads 20 10 0, so the canvas becomes 10 10 10 30 40.
#   [---- a ---]           b, reading the input, gets 40 30 20: columns 2..4 become 25 30 30.
#           [---- b ---]   b, reading the canvas, gets 40 30 10: columns 2..4 become 25 30 25.

OVERLAP_CASES = [
    (False, [[10, 10, 25, 30, 30], [11, 11, 26, 31, 31]]),
    (True, [[10, 10, 25, 30, 25], [11, 11, 26, 31, 26]]),
]


@both_corners
@pytest.mark.parametrize(("sequential", "expected"), OVERLAP_CASES)
def test_two_overlapping_boxes_by_hand(sequential, expected, align_corners):
    images = [[[[0, 10, 20, 30, 40], [1, 11, 21, 31, 41]]]]
    theta = [[-1, 0, 0, 0, 1, 0]] * 2
    options = {"alpha": [0.5, 0.5], "sequential": sequential, "align_corners": align_corners}
    actual = affine_patches(images, [[0, 0, 3, 2], [2, 0, 5, 2]], theta, [0, 0], **options)
    assert_same(actual, [[expected]])


# --- the helper can fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["x", "y"])
@crop_modes
def test_the_comparison_notices_half_a_pixel(padding_mode, axis):
    images, theta = random_images(1, 2, 7, 9), random_theta(1, seed=12, spread=0.1)
    box, shifted = [[1, 1, 8, 6]], theta.clone()
    shifted[0, 0 if axis == "x" else 1, 2] += 0.5 / (3.5 if axis == "x" else 2.5)
    right = affine_patches(images, box, theta, [0], padding_mode=padding_mode)
    wrong = affine_patches(images, box, shifted, [0], padding_mode=padding_mode)
    assert_same(right, right)
    with pytest.raises(AssertionError):
        assert_same(wrong, right)
    with pytest.raises(AssertionError):
        assert_same(np.full_like(right, np.nan), right)
    with pytest.raises(AssertionError):
        assert_same(right[0], right)
