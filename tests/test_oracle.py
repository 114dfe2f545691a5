"""The oracle against an independent library (torch's grid_sample on the crop) and against values worked by hand."""

import numpy as np
import pytest
import torch
from support.oracle import affine_patches, crop_patches, paste_patches, transplant_patches, visible_share
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


# --- against grid_sample on a full canvas -----------------------------------------------------------------------------
#
# The grid is worked out by hand for every pixel of the canvas; the crop is the patch, and zero lies around it. Five
# objects of two images, each read from a place of its own: its box, a patch of a bank, or a box of another picture.

FRACTIONAL = [[-1.6, 0.4, 5.3, 5.7], [4.2, 2.5, 11.7, 9.1], [0.5, -2.25, 5, 4], [3.1, 3.9, 8.8, 6.6], [2, 0, 10, 5.5]]
SOURCE_BOXES = {
    "whole": [[0, 1, 5, 4], [3, 2, 9, 7], [2, 0, 6, 7], [1, 1, 9, 6], [4, 3, 8, 5]],
    "fractions": [[-1.4, 0.7, 5.2, 4.1], [3.3, 2.6, 10.5, 8.2], [1.8, -1, 6, 7], [1, 1, 9, 6], [4.5, 3.5, 7.25, 6]],
}
PATCH_INDEX, SOURCE_TO_IMG = [2, 0, 0, 1, 2], [0, 1, 1, 0, 1]
NUMBERS = torch.tensor([1.0, 0.3, 0.8, 0.6, 0.9], dtype=torch.float64)

each_source = pytest.mark.parametrize("kind", ["its own box", "a bank", "other pictures"])
each_box = pytest.mark.parametrize("edges", ["whole", "fractions"])


def frame_of(box, align_corners: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(centre, half size) of a box, each (2,): the points of its frame are centre + half size * (u, v)."""
    low, high = torch.tensor(box, dtype=torch.float64).split(2)
    return (low + high) / 2, (high - low - (1 if align_corners else 0)) / 2


def moved(picture, size, box, theta, src_box, mode, align_corners) -> torch.Tensor:
    """What the pixels of an (H, W) canvas read of the source box's whole pixels, zero beyond: (C, H, W)."""
    rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in size)
    points = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # (H, W, 2)
    (x1, y1), (x2, y2) = np.floor(src_box[:2]).astype(int) + 4, np.ceil(src_box[2:]).astype(int) + 4
    crop = pad_image(picture, [4] * 4)[:, y1:y2, x1:x2]
    centre, half = frame_of(box, align_corners)
    src_centre, src_half = frame_of(src_box, align_corners)
    crop_centre, crop_half = frame_of([x1 - 4, y1 - 4, x2 - 4, y2 - 4], align_corners)
    read = src_centre + src_half * ((points - centre) / half @ theta[:, :2].T + theta[:, 2])
    grid = (read - crop_centre) / crop_half
    return grid_sample(crop[None], grid[None], mode=mode, padding_mode="zeros", align_corners=align_corners)[0]


def sourced(kind: str, edges: str):
    """(images, boxes, paint(theta, **options), (picture, source box) of each object)."""
    images, boxes = random_images(2, 3, 8, 10), OVERLAPPING if edges == "whole" else FRACTIONAL
    bank, source = random_images(3, 3, 4, 6, seed=13), random_images(2, 3, 7, 9, seed=14)
    src_boxes = SOURCE_BOXES[edges]

    def paint(theta, **options):
        if kind == "a bank":
            return paste_patches(images, bank, boxes, OWNERS, theta=theta, patch_index=PATCH_INDEX, **options)
        if kind == "its own box":
            return affine_patches(images, boxes, theta, OWNERS, **options)
        at = {"source": source, "source_boxes": src_boxes, "source_to_img": SOURCE_TO_IMG}
        return transplant_patches(images, boxes, OWNERS, theta=theta, **at, **options)

    places = {
        "its own box": [(images[b], box) for b, box in zip(OWNERS, boxes, strict=True)],
        "a bank": [(bank[k], [0, 0, 6, 4]) for k in PATCH_INDEX],
        "other pictures": [(source[s], box) for s, box in zip(SOURCE_TO_IMG, src_boxes, strict=True)],
    }
    return images, boxes, paint, places[kind]


def full_canvas(
    images, boxes, theta, places, numbers=(1.0,) * 5, masks=None, order=range(5), **options
) -> torch.Tensor:
    """canvas = (1 - m) * canvas + f in order: f and m are grid_sample of the patch and of ones, or of its mask.

    A mask keeps the colour of the pixels that are read: f is the patch's, over that of ones, times the mask's.
    """
    canvas = images.clone()
    for n in order:
        b, (picture, src_box) = OWNERS[n], places[n]
        at = (images.shape[2:], boxes[n], theta[n], src_box, *options.values())
        f, m = moved(picture, *at), moved(torch.ones_like(picture[:1]), *at)
        if masks is not None:
            colour = torch.where(m > 0, f / m, torch.zeros_like(f))
            m = moved(masks[n][None], *at)
            f = m * colour
        canvas[b] = (1 - numbers[n] * m) * canvas[b] + numbers[n] * f
    return canvas


def random_masks(places, seed: int) -> torch.Tensor:
    """One mask for each object, of the size of the picture that it is read from: (N, H, W)."""
    return random_images(len(places), *places[0][0].shape[1:], seed=seed)


@each_source
@each_box
@both_corners
@both_modes
def test_unclipped_objects_are_a_patch_and_ones_moved_over_the_whole_image(mode, align_corners, edges, kind):
    options = {"mode": mode, "align_corners": align_corners}
    images, boxes, paint, places = sourced(kind, edges)
    for seed in (15, 16):
        theta = random_theta(5, seed)
        expected = full_canvas(images, boxes, theta, places, **options)
        assert_same(paint(theta, clip=False, padding_mode="zeros", **options), expected)
        assert_same(paint(theta, clip=False, padding_mode="transparent", **options), expected)
        expected = full_canvas(images, boxes, theta, places, NUMBERS, **options)
        assert_same(paint(theta, clip=False, alpha=NUMBERS, **options), expected)


@both_corners
@both_modes
@pytest.mark.parametrize("kind", ["a bank", "other pictures"])
@pytest.mark.parametrize("padding_mode", [*CROP_MODES, "transparent"])
def test_a_clipped_object_is_grid_sample_of_its_patch_at_the_size_of_its_box(padding_mode, kind, mode, align_corners):
    """Other sizes read and painted; the matte, of a third size, moves with the patch."""
    options = {"mode": mode, "align_corners": align_corners}
    images, boxes, paint, places = sourced(kind, "whole")
    theta, mattes = random_theta(5, seed=17), random_images(5, 1, 3, 4, seed=18)
    padding = "zeros" if padding_mode == "transparent" else padding_mode
    expected = images.clone()
    for n, (b, (x1, y1, x2, y2), (picture, src)) in enumerate(zip(OWNERS, boxes, places, strict=True)):
        crop, size = picture[:, src[1] : src[3], src[0] : src[2]], (y2 - y1, x2 - x1)
        f = warp_crop(crop, theta[n], size, padding_mode=padding, **options)
        m = warp_crop(torch.ones_like(crop), theta[n], size, padding_mode="zeros", **options)
        matte_padding = "reflection" if padding_mode == "reflection" else "border"
        a = warp_crop(mattes[n], theta[n], size, padding_mode=matte_padding, **options)
        shown = a * m if padding_mode == "transparent" else a
        expected[b, :, y1:y2, x1:x2] = (1 - shown) * expected[b, :, y1:y2, x1:x2] + a * f
    assert_same(paint(theta, alpha=mattes, padding_mode=padding_mode, clip=True, **options), expected)


@each_source
@each_box
@both_corners
@both_modes
def test_masks_move_with_the_patch_and_keep_its_colour(mode, align_corners, edges, kind):
    options = {"mode": mode, "align_corners": align_corners}
    images, boxes, paint, places = sourced(kind, edges)
    masks, theta = random_masks(places, seed=19), random_theta(5, seed=20)
    expected = full_canvas(images, boxes, theta, places, masks=masks, **options)
    assert_same(paint(theta, alpha=masks, clip=False, **options), expected)
    hard = masks > 0.4
    expected = full_canvas(images, boxes, theta, places, masks=hard.double(), **options)
    for form in (hard, hard.numpy(), hard.float(), hard.double().numpy()):
        assert_same(paint(theta, alpha=form, clip=False, **options), expected)


@each_source
@both_corners
@both_modes
def test_a_mask_with_a_rim_of_zeros_mixes_a_moved_patch_and_what_is_below(mode, align_corners, kind):
    options = {"mode": mode, "align_corners": align_corners}
    images, boxes, paint, places = sourced(kind, "whole")
    masks, theta = random_masks(places, seed=21), random_theta(5, seed=22)
    expected = images.clone()
    for n, (box, b, (picture, src)) in enumerate(zip(boxes, OWNERS, places, strict=True)):
        x1, y1, x2, y2 = src
        inner = torch.zeros_like(masks[n])
        inner[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = masks[n, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
        masks[n] = inner
        at = (images.shape[2:], box, theta[n], src, mode, align_corners)
        m, f = moved(masks[n][None], *at), moved(picture, *at)
        expected[b] = (1 - m) * expected[b] + m * f
    assert_same(paint(theta, alpha=masks, clip=False, **options), expected)


@both_corners
@both_modes
@each_source
@each_box
def test_a_mask_of_ones_is_none_where_the_canvas_shows(edges, kind, mode, align_corners):
    _, _, paint, places = sourced(kind, edges)
    ones, theta = torch.ones_like(random_masks(places, seed=0)), random_theta(5, seed=23)
    for options in ({"clip": False}, {"clip": True, "padding_mode": "transparent"}):
        options |= {"mode": mode, "align_corners": align_corners}
        assert_same(paint(theta, alpha=ones, **options), paint(theta, **options))
    options = {"clip": True, "mode": mode, "align_corners": align_corners}
    expected = paint(theta, padding_mode="transparent", **options)
    assert_same(paint(theta, alpha=ones, padding_mode="zeros", **options), expected)


@both_corners
@both_modes
@pytest.mark.parametrize("padding_mode", ["border", "reflection", "image"])
def test_a_mask_ends_with_the_patch_whatever_goes_on_beyond_it(padding_mode, mode, align_corners):
    options = {"mode": mode, "align_corners": align_corners}
    images, masks = random_images(1, 2, 7, 9), random_images(1, 7, 9, seed=24)
    for theta in random_theta(4, seed=25):
        unmasked = affine_patches(images, [[2, 1, 9, 6]], theta[None], padding_mode=padding_mode, **options)
        m = torch.zeros_like(images)
        m[..., 1:6, 2:9] = warp_crop(masks[:, 1:6, 2:9], theta, padding_mode="zeros", **options)
        actual = affine_patches(images, [[2, 1, 9, 6]], theta[None], alpha=masks, padding_mode=padding_mode, **options)
        assert_same(actual, (1 - m) * images + m * torch.from_numpy(unmasked))


@pytest.mark.parametrize("size", [(5, 7), (3, 4), (9, 13)])
@both_corners
@both_modes
def test_a_transplant_that_stays_is_a_copy_or_a_resize(mode, align_corners, size):
    options = {"mode": mode, "align_corners": align_corners}
    images, source, (h, w) = random_images(1, 2, 12, 16), random_images(1, 2, 8, 11, seed=26), size
    expected = images.clone()
    crop = source[0, :, 1:6, 3:10]
    expected[0, :, 2 : 2 + h, 1 : 1 + w] = (
        crop if size == (5, 7) else warp_crop(crop, IDENTITY, size, padding_mode="border", **options)
    )
    at = {"source": source, "source_boxes": [[3, 1, 10, 6]]}
    actual = transplant_patches(images, [[1, 2, 1 + w, 2 + h]], **at, clip=True, padding_mode="border", **options)
    assert_same(actual, expected, tol=0.0 if size == (5, 7) else 1e-9)
    if size == (5, 7):
        assert_same(transplant_patches(images, [[1, 2, 8, 7]], **at, **options), expected, tol=0.0)


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


NOWHERE = [[2, 1, 2, 4], [1.5, 2.5, 4.5, 2.5], [4, 3, 1, 1], [-5, 0, 0, 4], [6, 1, 9, 3], [1, 4.2, 3, 7]]


@pytest.mark.parametrize("padding_mode", ALL_MODES)
def test_empty_and_outside_boxes_paint_nothing(padding_mode):
    images = random_images(1, 2, 4, 6)
    boxes, theta, owners = NOWHERE, random_theta(6, seed=10), [0] * 6
    for align_corners in (False, True):
        options = {"padding_mode": padding_mode, "align_corners": align_corners}
        assert_same(affine_patches(images, boxes, theta, owners, **options), images, tol=0.0)
        assert_same(affine_patches(images, [], [], [], **options), images, tol=0.0)
        patches = crop_patches(images, boxes[:3], [0] * 3, (2, 3), mode="bilinear", **options)
        assert_same(patches, np.zeros((3, 2, 2, 3)), tol=0.0)
        assert_same(paste_patches(images, patches, boxes[:3], [0] * 3), images, tol=0.0)


@both_corners
@each_box
@pytest.mark.parametrize("padding_mode", ALL_MODES)
def test_an_object_is_transplanted_from_its_own_image_as_it_is_moved(padding_mode, edges, align_corners):
    images, boxes, _, places = sourced("its own box", edges)
    theta, at = random_theta(5, seed=27), {"source": images, "source_boxes": boxes, "source_to_img": OWNERS}
    for alpha in (None, NUMBERS, random_images(5, 1, 3, 4), random_masks(places, seed=28)):
        options = {"alpha": alpha, "padding_mode": padding_mode, "align_corners": align_corners}
        actual = transplant_patches(images, boxes, OWNERS, theta=theta, **at, clip=True, **options)
        assert_same(actual, affine_patches(images, boxes, theta, OWNERS, **options))


def test_what_is_left_out_is_the_only_one_or_one_each():
    images, theta, (first, second) = random_images(1, 2, 6, 8), random_theta(2, seed=29), random_images(2, 2, 3, 4)
    boxes, one, two = [[1, 0, 5, 4], [2, 1, 8, 6]], first[None], torch.stack([first, second])
    options = {"theta": theta, "clip": False}
    expected = paste_patches(images, two, boxes, [0, 0], patch_index=[0, 0], padding_mode="zeros", **options)
    assert_same(paste_patches(images, one, boxes, **options), expected)
    whole = {"source_boxes": [[0, 0, 4, 3]] * 2}
    assert_same(transplant_patches(images, boxes, source=one, **whole, **options), expected)
    expected = paste_patches(images, two, boxes, [0, 0], patch_index=[0, 1], **options)
    assert_same(paste_patches(images, two, boxes, **options), expected)
    assert_same(transplant_patches(images, boxes, source=two, source_to_img=[0, 1], **whole, **options), expected)
    assert_same(paste_patches(images, two, boxes), paste_patches(images, two, boxes, padding_mode="border"), tol=0.0)


@pytest.mark.parametrize("src_box", NOWHERE)
def test_an_object_of_nothing_paints_nothing_and_leaves_no_hole(src_box):
    """The whole images are read at once, unless the box is empty or outside: then not even a grown hole is left."""
    images, zoomed = random_images(1, 2, 4, 6), [[100, 0, 0, 0, 100, 0]]
    for options in ({"clip": False}, {"clip": True, "padding_mode": "border"}):
        at = {"source": images, "source_boxes": [src_box]}
        assert_same(transplant_patches(images, [[1, 1, 5, 3]], **at, **options), images, tol=0.0)
        for alpha in (None, np.ones((1, 1, 2, 2)), np.ones((1, 4, 6))):
            actual = affine_patches(images, [src_box], zoomed, alpha=alpha, fill=7, grow=9, **options)
            assert_same(actual, images, tol=0.0)
    empty = [[2, 1, 2, 4]]
    actual = transplant_patches(images, empty, source=images, source_boxes=[[0, 0, 6, 4]])
    assert_same(actual, images, tol=0.0)


FILLS = {"a number": 7, "a colour": [7.0, 8.0, 9.0], "images": random_images(2, 3, 8, 10, seed=30)}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("options", [{"padding_mode": mode} for mode in ALL_MODES] + [{"clip": False}])
@both_corners
@both_modes
def test_with_a_fill_what_does_not_move_comes_back_exactly(mode, align_corners, options, fill):
    options = options | {"mode": mode, "align_corners": align_corners, "fill": FILLS[fill]}
    images, boxes, _, places = sourced("its own box", "whole")
    for alpha in (None, random_masks(places, seed=31) > 0.4):
        actual = affine_patches(images, boxes, IDENTITY.expand(5, 2, 3), OWNERS, alpha=alpha, **options)
        assert_same(actual, images, tol=0.0)


def test_with_a_fill_every_pixel_of_an_object_appears_once():
    """Three nested objects of one colour each move apart; 9 is filled in where the two upper ones were."""
    boxes = [[1, 1, 7, 6], [2, 2, 6, 5], [3, 3, 5, 4]]
    images = np.zeros((1, 1, 8, 20))
    for colour, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        images[0, 0, y1:y2, x1:x2] = colour
    theta = [[1, 0, 0, 0, 1, 0], [1, 0, -7 / 2, 0, 1, 0], [1, 0, -12 / 1, 0, 1, 0]]
    counts = {0: 160 - 30 - 10 - 2 - 2, 1: 30 - 12, 2: 12 - 2, 3: 2, 9: 12 + 2}
    for fill, expected in ((9, counts), (None, {0: 116, 1: 18, 2: 20, 3: 6})):
        colours = affine_patches(images, boxes, theta, clip=False, fill=fill)
        assert dict(zip(*np.unique(colours, return_counts=True), strict=True)) == expected


def test_the_arguments_are_left_alone():
    given = [np.random.default_rng(11).random(s) for s in [(1, 2, 4, 6), (1, 4), (1, 2, 3), (1, 1, 2, 3)]]
    given[1] = np.array([[1.0, 0.5, 5.0, 3.5]])
    images, boxes, theta, alpha = kept = [array.copy() for array in given]
    affine_patches(images, boxes, theta, np.array([0]), alpha=alpha, sequential=True)
    affine_patches(images, boxes, theta, alpha=alpha, fill=images, clip=False)
    paste_patches(images, np.ones((1, 2, 2, 2)), boxes, np.array([0]), alpha=alpha)
    transplant_patches(images, boxes, source=images, source_boxes=boxes, theta=theta, alpha=alpha)
    visible_share(boxes, theta, size=(4, 6))
    for before, after in zip(given, kept, strict=True):
        assert_same(after, before, tol=0.0)


def test_one_unknown_word_is_refused():
    box = {"images": [[[[0.0, 1.0]]]], "boxes": [[0, 0, 2, 1]], "theta": [[1, 0, 0, 0, 1, 0]], "obj_to_img": [0]}
    for wrong in ({"mode": "bicubic"}, {"padding_mode": "reflect"}):
        with pytest.raises(ValueError, match="unknown"):
            affine_patches(**box, **wrong)


REFUSED = [
    ({"clip": False, "padding_mode": "border"}, "clip=False"),
    ({"clip": False, "padding_mode": "image"}, "clip=False"),
    ({"fill": 0, "sequential": True}, "one after another"),
    ({"fill": "surroundings"}, "no fill"),
]


@pytest.mark.parametrize(("options", "match"), REFUSED)
def test_what_does_not_go_together_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        affine_patches([[[[0.0, 1.0]]]], [[0, 0, 2, 1]], [[1, 0, 0, 0, 1, 0]], **options)


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


#   0  5  5  9  5  5  0  0      The large object is columns 1..5, the small one above it column 3.
#      [--- large ---]          The large one moves two columns to the right. What it reads is 5 5 F 5 5: the small one
#            [ ]                has been taken off, and F is what was filled in.

SMALL_ON_LARGE = [[[[0, 5, 5, 9, 5, 5, 0, 0]]]]
LARGE, SMALL = [1, 0, 6, 1], [3, 0, 4, 1]
CLEAN = [[[[10, 11, 12, 13, 14, 15, 16, 17]]]]
FILL_CASES = [  # what is asked, what comes out
    ({"fill": 7, "clip": False}, [0, 7, 7, 9, 5, 7, 5, 5]),
    ({"fill": [7], "clip": False}, [0, 7, 7, 9, 5, 7, 5, 5]),
    ({"fill": CLEAN, "clip": False}, [0, 11, 12, 9, 5, 13, 5, 5]),
    (
        {"fill": 7, "clip": False, "alpha": [1, 0.5]},
        [0, 7, 7, 7, 5, 8, 5, 5],
    ),  # half of the small one stays in 5 5 8 5 5
    ({"fill": 7, "padding_mode": "transparent"}, [0, 7, 7, 9, 5, 7, 0, 0]),
    ({"fill": 7, "padding_mode": "zeros"}, [0, 0, 0, 9, 5, 7, 0, 0]),
    ({"fill": 7, "padding_mode": "border"}, [0, 5, 5, 9, 5, 7, 0, 0]),
    ({"fill": 7, "padding_mode": "image"}, [0, 0, 0, 9, 5, 7, 0, 0]),  # column 0 and what lies left of it
    ({"clip": False}, [0, 5, 5, 9, 5, 9, 5, 5]),  # no fill: the small one is seen twice
]


@both_corners
@pytest.mark.parametrize(("options", "expected"), FILL_CASES)
def test_a_large_object_moves_and_the_small_one_on_it_stays_by_hand(options, expected, align_corners):
    theta = [[1, 0, -2 / (2 if align_corners else 2.5), 0, 1, 0], [1, 0, 0, 0, 1, 0]]
    options = options | {"align_corners": align_corners}
    assert_same(affine_patches(SMALL_ON_LARGE, [LARGE, SMALL], theta, **options), [[[expected]]])


def test_a_small_object_moves_and_the_large_one_under_it_stays_by_hand():
    theta = [[1, 0, 0, 0, 1, 0], [1, 0, -2 / 0.5, 0, 1, 0]]
    actual = affine_patches(SMALL_ON_LARGE, [LARGE, SMALL], theta, clip=False, fill=7)
    assert_same(actual, [[[[0, 5, 5, 7, 5, 9, 0, 0]]]])


def test_an_object_below_is_taken_along_by_the_one_above_it_by_hand():
    """Rows the other way round: the large one, above, has all that is in its box; the small one is read from 7."""
    theta = [[1, 0, 0, 0, 1, 0], [1, 0, -2 / 2.5, 0, 1, 0]]
    actual = affine_patches(SMALL_ON_LARGE, [SMALL, LARGE], theta, clip=False, fill=7)
    assert_same(actual, [[[[0, 7, 7, 5, 5, 9, 5, 5]]]])


def test_each_channel_and_each_image_is_filled_with_its_own_by_hand():
    images, far = np.zeros((2, 2, 1, 3)), [[1, 0, 99, 0, 1, 0]] * 2
    boxes, clean = [[0, 0, 2, 1], [1, 0, 3, 1]], np.arange(12).reshape(2, 2, 1, 3)
    actual = affine_patches(images, boxes, far, [0, 1], clip=False, fill=[7, 8])
    assert_same(actual, [[[[7, 7, 0]], [[8, 8, 0]]], [[[0, 7, 7]], [[0, 8, 8]]]])
    actual = affine_patches(images, boxes, far, [0, 1], clip=False, fill=clean)
    assert_same(actual, [[[[0, 1, 0]], [[3, 4, 0]]], [[[0, 7, 8]], [[0, 10, 11]]]])


# An object of the columns 2..5 goes far away; the image is 0 and the fill 1, so that the hole itself comes out.

HOLE_CASES = [  # alpha, grow, align_corners, the hole
    (None, 0.5, False, [0, 0, 1, 1, 1, 1, 0, 0]),
    ([0.5], 0.5, False, [0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0]),
    ([[[[1]]]], 0.0, False, [0, 0, 1, 1, 1, 1, 0, 0]),
    ([[[[1]]]], 0.5, False, [0, 1, 1, 1, 1, 1, 1, 0]),
    ([[[[1]]]], 0.25, True, [0, 0.5, 1, 1, 1, 1, 0.5, 0]),  # box' = 1.5..6.5
    ([[[[0, 1]]]], 1.0, False, [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]),  # index p / 4 - 0.5
    ([[[[0, 1]]]], 1.0, True, np.arange(8) / 7),
    ([[[9, 9, 1, 1, 1, 1, 9, 9]]], 0.25, False, [0, 0.5, 1, 1, 1, 1, 0.5, 0]),  # 9 is not the patch's
    ([[[0, 0, 0, 1, 1, 0, 0, 0]]], 0.0, False, [0, 0, 0, 1, 1, 0, 0, 0]),
    ([[[9, 9, 0, 1, 1, 0, 9, 9]]], 1.0, False, [0, 0.25, 0.75, 1, 1, 0.75, 0.25, 0]),  # q = 4 + (p - 4) / 2
    ([[[9, 9, 0, 1, 1, 0, 9, 9]]], 1.0, True, [0, 3 / 7, 6 / 7, 1, 1, 6 / 7, 3 / 7, 0]),  # q = 4 + (p - 4) * 3 / 7
]


@pytest.mark.parametrize(("alpha", "grow", "align_corners", "expected"), HOLE_CASES)
def test_a_hole_by_hand(alpha, grow, align_corners, expected):
    image, box, far = np.zeros((1, 1, 1, 8)), [[2, 0, 6, 1]], [[1, 0, 99, 0, 1, 0]]
    options = {"alpha": alpha, "grow": grow, "align_corners": align_corners, "clip": False, "fill": 1}
    assert_same(affine_patches(image, box, far, **options), [[[expected]]])
    box, far = [[0, 2, 1, 6]], [[1, 0, 0, 0, 1, 99]]  # the same, x and y exchanged
    options["alpha"] = np.swapaxes(alpha, -1, -2) if np.ndim(alpha) > 1 else alpha
    assert_same(affine_patches(image.reshape(1, 1, 8, 1), box, far, **options), np.reshape(expected, (1, 1, 8, 1)))


def test_the_hole_of_a_fractional_box_by_hand():
    image, box, far = np.full((1, 1, 1, 6), 8.0), [[1.5, 0, 4, 1]], [[1, 0, 99, 0, 1, 0]]
    assert_same(affine_patches(image, box, far, clip=False, fill=2), [[[[8, 5, 2, 2, 8, 8]]]])


def test_a_hole_grows_only_if_its_object_moves_by_hand():
    """A soft mask leaves (1 - m) m of the fill where it lies still: 0.25 of it in column 2, none beyond the box."""
    image, masks = [[[[0, 0, 8, 8, 0, 0]]]], [[[0, 0, 0.5, 1, 0, 0]]]
    still, flipped = [[1, 0, 0, 0, 1, 0]], [[1, 0, 0, 0, -1, 0]]
    actual = affine_patches(image, [[2, 0, 4, 1]], still, alpha=masks, fill=4, grow=1)
    assert_same(actual, [[[[0, 0, 0.5 * 6 + 0.5 * 8, 8, 0, 0]]]])
    # box' = 1..5, q = 3 + (p - 3) / 2, so that the hole is 0.5 0.625 0.875 1 in columns 1..4
    actual = affine_patches(image, [[2, 0, 4, 1]], flipped, alpha=masks, fill=4, grow=1)
    assert_same(actual, [[[[0, 2, 0.5 * (8 - 4 * 0.625) + 0.5 * 8, 8, 4, 0]]]])


#   (right, zoom): the object moves so many columns to the right, and shows 1 / zoom of its size. The image is 4 x 8.

SHARE_CASES = [  # boxes, what becomes of each, shares with clip, shares without
    ([[1, 1, 4, 3]], [(0, 1)], [1], [1]),
    ([[0, 0, 4, 4], [2, 0, 6, 4]], [(0, 1)] * 2, [0.5, 1], [0.5, 1]),  # the later one hides half of the earlier one
    ([[0.5, 0, 2.5, 2], [1.5, 1, 3, 2.5]], [(0, 1)] * 2, [0.75, 1], [0.75, 1]),
    ([[0, 0, 4, 4]], [(-2, 1)], [0.5], [0.5]),  # half out of the image
    ([[2, 0, 6, 4]], [(2, 1)], [0.5], [1]),  # half out of its box
    ([[0, 0, 4, 4]], [(0, 0.5)], [16 / 64], [24 / 64]),  # -2..6 by -2..6
    ([[0, 0, 4, 4]] * 2, [(0, 1), (2, 1)], [0.5, 0.5], [0.5, 1]),  # it shows where the later one has gone
    ([[-2, 0, 2, 4]], [(0, 1)], [1], [1]),  # what is not in the picture is no part of it
    ([[-2, 0, 2, 4]], [(4, 1)], [0], [1]),
    ([[-2, 0, 2, 4]], [(-1, 1)], [0.5], [0.5]),
    ([[20, 0, 24, 4]], [(0, 1)], [0], [0]),
    ([[1, 0, 5, 4]], [(99, 1)], [0], [0]),
    ([[2, 1, 2, 3], [0, 0, 4, 4]], [(0, 1)] * 2, [0, 1], [0, 1]),  # no area
]


@both_corners
@pytest.mark.parametrize(("boxes", "moves", "clipped", "unclipped"), SHARE_CASES)
def test_a_visible_share_by_hand(boxes, moves, clipped, unclipped, align_corners):
    theta = []
    for (x1, _, x2, _), (right, zoom) in zip(boxes, moves, strict=True):
        half = (x2 - x1 - align_corners) / 2
        theta.append([zoom, 0, -right / half if right else 0, 0, zoom, 0])
    options = {"size": (4, 8), "align_corners": align_corners}
    assert_same(visible_share(boxes, theta, **options, clip=True), clipped, tol=1e-12)
    assert_same(visible_share(boxes, theta, **options, clip=False), unclipped, tol=1e-12)


def test_only_objects_of_the_same_image_hide_one_another():
    boxes, theta = [[0, 0, 4, 4], [2, 0, 6, 4], [0, 0, 4, 4]], [[1, 0, 0, 0, 1, 0]] * 3
    assert_same(visible_share(boxes, theta, [0, 1, 0], size=(4, 8)), [0, 1, 1])
    assert_same(visible_share([], [], [], size=(4, 8)), np.zeros(0))


def test_a_turned_object_is_seen_whole_and_its_corners_leave_its_box():
    """An eighth of a turn of a square: its box holds 2 * (sqrt(2) - 1) of it, a regular octagon."""
    turned = [[0.5**0.5, -(0.5**0.5), 0, 0.5**0.5, 0.5**0.5, 0]]
    options = {"size": (20, 24), "steps": 16}
    assert_same(visible_share([[5, 4, 15, 14]], turned, clip=False, **options), [1], tol=0.0)
    assert_same(visible_share([[5, 4, 15, 14]], turned, clip=True, **options), [2 * (2**0.5 - 1)], tol=5e-3)


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


@each_source
def test_the_full_canvas_notices_what_is_not_as_it_should_be(kind):
    """Half a pixel, the order of the rows, another patch, a mask that is not the object's, a box that clips."""
    images, boxes, paint, places = sourced(kind, "whole")
    theta, masks = random_theta(5, seed=32, spread=0.1), random_masks(places, seed=33)
    options = {"mode": "bilinear", "align_corners": False}
    right = paint(theta, clip=False, **options)
    assert_same(right, full_canvas(images, boxes, theta, places, **options))
    shifted = theta.clone()
    shifted[2, 0, 2] += 0.5 / 2.5
    corners = options | {"align_corners": True}
    numbers = [1, 1, 1, 1, 0.9]
    wrong = [
        full_canvas(images, boxes, shifted, places, **options),
        full_canvas(images, boxes, theta, places, **corners),
        full_canvas(images, boxes, theta, places[::-1], **options),
        full_canvas(images, boxes, theta, places, numbers, **options),
        full_canvas(images, boxes, theta, places, order=[2, 1, 0, 3, 4], **options),
        full_canvas(images, boxes, theta, places, masks=masks, **options),
        paint(theta, clip=True, **options),
    ]
    for other in wrong:
        with pytest.raises(AssertionError):
            assert_same(right, other)
    masked = paint(theta, alpha=masks, clip=False, **options)
    assert_same(masked, full_canvas(images, boxes, theta, places, masks=masks, **options))
    with pytest.raises(AssertionError):
        assert_same(masked, full_canvas(images, boxes, theta, places, masks=masks.flip(0), **options))


def test_a_share_and_a_fill_are_seen_to_change():
    """Half a pixel and the order of rows show in the shares; growth and fill show in the picture."""
    boxes, stay, half_right = [[0, 0, 4, 4], [2, 0, 6, 4]], [1, 0, 0, 0, 1, 0], [1, 0, -0.25, 0, 1, 0]
    assert_same(visible_share(boxes, [stay, stay], size=(4, 8)), [0.5, 1])
    assert_same(visible_share(boxes, [stay, half_right], size=(4, 8)), [0.625, 0.875])
    assert_same(visible_share(boxes, [half_right, stay], size=(4, 8)), [0.375, 1])
    boxes = [[0, 0, 4, 4], [2, 0, 4, 4]]
    assert_same(visible_share(boxes, [stay, stay], size=(4, 8)), [0.5, 1])
    assert_same(visible_share(boxes[::-1], [stay, stay], size=(4, 8)), [0, 1])
    images, owners, masks = random_images(2, 3, 8, 10), OWNERS, random_images(5, 8, 10, seed=34)
    options = {"theta": random_theta(5, seed=35), "obj_to_img": owners, "alpha": masks, "clip": False}
    right = affine_patches(images, OVERLAPPING, **options, fill=0.5)
    for other in ({"fill": 0.6}, {"fill": None}, {"fill": 0.5, "grow": 0.2}, {"fill": [0.5, 0.5, 0.6]}):
        with pytest.raises(AssertionError):
            assert_same(affine_patches(images, OVERLAPPING, **options, **other), right)
