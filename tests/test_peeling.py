"""A fill, objects as layers: by slices, by laws, by hand; and what a smooth continuation has to be."""

import itertools

import numpy as np
import pytest
import torch
from support.scenes import PADDINGS, assert_close, mattes, scene
from torch import Tensor

import kornia_patchaug as kp

TRUTH = [False, True]
D = torch.float64
STAY = [1.0, 0, 0, 0, 1, 0]
FAR = [1.0, 0, 1e4, 0, 1, 0]  # out of every picture: what is left is the fill

both_kernels = pytest.mark.parametrize("kernels", ["native", "reference"])


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


# --- every pixel of an object once, where its label says --------------------------------------------------------------

HEIGHT, WIDTH, BACKGROUND, FILL = 21, 26, 0.0, -1.0


class Coloured:
    """Overlapping objects in two pictures, painted in row order, of which each has a colour of its own and moves."""

    def __init__(self, seed: int, count: int = 9):
        random = np.random.default_rng(seed)
        size = random.integers(1, 12, (count, 2))
        first = random.integers(-3, (WIDTH - 2, HEIGHT - 2), (count, 2))
        self.boxes = np.concatenate([first, first + size], axis=1)
        self.shifts = random.integers(-9, 10, (count, 2)) * (random.random((count, 1)) < 0.8)
        self.obj_to_img = random.integers(0, 2, count)
        self.colours = np.arange(1.0, count + 1)
        self.images = np.full((2, 1, HEIGHT, WIDTH), BACKGROUND)
        for colour, box, b in zip(self.colours, self.boxes, self.obj_to_img, strict=True):
            self.images[b, 0][pixels(box)] = colour

    def painted(self, **options) -> Tensor:
        half = (self.boxes[:, 2:] - self.boxes[:, :2]) / 2
        theta = torch.eye(2, 3, dtype=D).repeat(len(self.boxes), 1, 1)
        theta[:, :, 2] = torch.from_numpy(-self.shifts / half)  # from where it is painted to where it was
        given = map(torch.from_numpy, (self.images, self.boxes))
        return kp.affine_patches(*given, theta, torch.from_numpy(self.obj_to_img), mode="nearest", **options)


def pixels(box) -> np.ndarray:
    """Which pixels of a picture lie in a box, (H, W)."""
    x1, y1, x2, y2 = box
    columns, rows = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    return (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)


def shifted(mask: np.ndarray, shift) -> np.ndarray:
    """The pixels (H, W), so many columns to the right and rows down."""
    rows, columns = np.nonzero(mask)
    columns, rows = columns + shift[0], rows + shift[1]
    inside = (columns >= 0) & (columns < WIDTH) & (rows >= 0) & (rows < HEIGHT)
    moved = np.zeros_like(mask)
    moved[rows[inside], columns[inside]] = True
    return moved


@both_kernels
@pytest.mark.parametrize("clip", TRUTH)
@pytest.mark.parametrize("seed", range(8))
def test_each_colour_is_where_its_moved_box_is_and_no_later_one_and_nowhere_else(seed, clip, kernels, monkeypatch):
    """Of what was seen of it: where a later object lay on it, it comes with what was filled in there."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    scene = Coloured(seed)
    found = scene.painted(fill=FILL, clip=clip, padding_mode="transparent").numpy()[:, 0]
    rows = list(range(len(scene.boxes)))
    boxes, owners = [pixels(box) for box in scene.boxes], scene.obj_to_img
    labels = [shifted(box, shift) & (box if clip else True) for box, shift in zip(boxes, scene.shifts, strict=True)]
    nothing, seen_somewhere = np.zeros((HEIGHT, WIDTH), dtype=bool), 0
    for n in rows:
        above = [m for m in rows[n + 1 :] if owners[m] == owners[n]]
        seen = boxes[n] & ~np.logical_or.reduce([boxes[m] for m in above] or [nothing])
        label = labels[n] & ~np.logical_or.reduce([labels[m] for m in above] or [nothing])
        expected = shifted(seen, scene.shifts[n]) & label
        assert np.array_equal(found == scene.colours[n], np.stack([expected & (owners[n] == b) for b in (0, 1)]))
        seen_somewhere += expected.any()
    assert seen_somewhere > 1
    for b in (0, 1):  # the rest is background where there was no object, and else what was filled in
        mine = [n for n in rows if owners[n] == b]
        holes = np.logical_or.reduce([boxes[n] for n in mine] or [nothing])
        painted = np.logical_or.reduce([labels[n] for n in mine] or [nothing])
        assert ((found[b] == BACKGROUND) <= ~holes).all() and ((found[b] == FILL) <= (holes | painted)).all()
        assert (found[b][~holes & ~painted] == BACKGROUND).all()


@both_kernels
@pytest.mark.parametrize("seed", range(8, 12))
def test_peeling_is_taking_slices_off_and_laying_them_back(seed, kernels, monkeypatch):
    """With clean backgrounds, with a mode that interpolates, and where objects may read their surroundings."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    scene = Coloured(seed, count=6)
    scene.images = np.random.default_rng(seed).random((2, 1, HEIGHT, WIDTH))
    clean = random(2, 1, HEIGHT, WIDTH, seed=seed)
    picture, patches = scene.images.copy(), {}
    at = [np.clip(box, 0, [WIDTH, HEIGHT] * 2) for box in scene.boxes]
    for n in reversed(range(6)):
        (x1, y1, x2, y2), b = at[n], scene.obj_to_img[n]
        patches[n] = picture[b, 0, y1:y2, x1:x2].copy()
        picture[b, 0, y1:y2, x1:x2] = clean[b, 0, y1:y2, x1:x2]
    for n in range(6):
        (x1, y1, *_), (right, down), b = at[n], scene.shifts[n], scene.obj_to_img[n]
        for (row, column), value in np.ndenumerate(patches[n]):
            x, y = x1 + column + right, y1 + row + down
            if 0 <= x < WIDTH and 0 <= y < HEIGHT:
                picture[b, 0, y, x] = value
    assert np.array_equal(scene.painted(fill=clean, clip=False).numpy(), picture)


def test_a_small_object_on_a_large_one_that_turns_stays_where_its_label_says():
    """The small one is at 30 40 40 50. Without a fill it is seen at 60 50 70 60 too, turned with the large one."""
    image = torch.full((1, 1, 100, 100), 0.25)
    image[..., 20:80, 20:80], image[..., 40:50, 30:40] = 0.5, 1.0
    boxes = torch.tensor([[20, 20, 80, 80], [30, 40, 40, 50]])
    half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0], STAY])
    label, elsewhere = torch.zeros(2, 100, 100, dtype=torch.bool)
    label[40:50, 30:40] = elsewhere[50:60, 60:70] = True
    for clip, fill in itertools.product(TRUTH, (0.5, image.new_full((1,), 0.5), torch.full_like(image, 0.5))):
        painted = kp.affine_patches(image, boxes, half_turn, fill=fill, clip=clip)[0, 0]
        assert torch.equal(painted == 1, label)
        twice = kp.affine_patches(image, boxes, half_turn, clip=clip)[0, 0]
        assert torch.equal(twice == 1, label | elsewhere)
    continued = kp.affine_patches(image, boxes, half_turn, fill="surroundings")[0, 0]
    assert torch.equal(continued == 1, label)
    assert_close(continued[elsewhere], np.full(100, 0.5), 1e-6)  # what is around the small one is the large one
    moved = kp.move_boxes(boxes, half_turn)
    assert moved.tolist() == boxes.tolist()  # both labels are true


def test_an_object_under_another_is_not_what_is_seen_of_that_one():
    """A frame of 1 around an object of 2 that moves on: the one below is read from what was filled in."""
    image = torch.zeros(1, 1, 8, 12)
    image[..., 1:7, 1:7], image[..., 2:6, 2:6] = 1, 2
    boxes, right = torch.tensor([[1, 1, 7, 7], [2, 2, 6, 6]]), torch.tensor([STAY, [1, 0, -3, 0, 1, 0]])
    painted = kp.affine_patches(image, boxes, right, clip=False, fill=torch.tensor([5.0]))[0, 0]
    expected = torch.zeros(8, 12)
    expected[1:7, 1:7], expected[2:6, 2:6], expected[2:6, 8:12] = 1, 5, 2
    assert torch.equal(painted, expected)


# --- what does not move -----------------------------------------------------------------------------------------------

FILLS = {
    "number": 0.3,
    "colour": [0.1, 0.2, 0.7],
    "images": random(3, 3, 13, 17, seed=1),
    "surroundings": "surroundings",
}


@both_kernels
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("fill", FILLS)
def test_a_scene_in_which_nothing_moves_comes_back_bit_for_bit(fill, dtype, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    masks = torch.rand(5, 13, 17, generator=torch.Generator().manual_seed(2)) > 0.4
    limits = [*((padding_mode, True) for padding_mode in PADDINGS), ("zeros", False)]
    for (k, (padding_mode, clip)), alpha in itertools.product(enumerate(limits), (None, masks)):
        images, boxes, _, obj_to_img = scene(("integer", "one pixel")[k % 2], dtype=dtype)
        images[1, :, 0, 0] = 2.0**-24  # which halves hardly have
        images[0, 0, 4, 5] = 0.0 if alpha is not None else -0.0
        given = FILLS[fill].to(dtype) if isinstance(FILLS[fill], Tensor) else FILLS[fill]
        options = {"clip": clip, "padding_mode": padding_mode, "align_corners": k % 3 == 0, "alpha": alpha}
        stay = torch.tensor([STAY]).expand(5, 6)
        painted = kp.affine_patches(images, boxes.round().long(), stay, obj_to_img, fill=given, **options)
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
        assert torch.equal(painted.view(bits), images.view(bits))


def test_pixels_that_are_in_no_hole_and_that_nothing_is_laid_over_keep_their_bits():
    images, boxes, _, obj_to_img = scene("fractional", dtype=torch.float32)
    boxes = boxes[[0, 2]]  # both in image 1, columns 2 to 12 and rows 3 to 13
    images[1, :, 5:9, 14:] = images[1, :, 0, 3] = float("nan")
    gone = torch.tensor([FAR]).expand(2, 6)
    for fill in FILLS.values():
        given = fill.float() if isinstance(fill, Tensor) else fill
        painted = kp.affine_patches(images, boxes, gone, obj_to_img[[0, 2]], fill=given, clip=False)
        beside = torch.ones(3, 13, 17, dtype=torch.bool)
        beside[1, 3:13, 2:12] = False
        beside = beside[:, None].expand_as(images)
        assert torch.equal(painted[beside].view(torch.int32), images[beside].view(torch.int32))


def test_a_fractional_box_that_does_not_move_comes_back_but_for_its_soft_edges():
    """On them K (1 - K) of the fill is left: what the hole took is laid back by the share of the pixel."""
    image, box = random(1, 2, 9, 11, seed=3), torch.tensor([[1.25, 2.5, 7.75, 6.0]], dtype=D)
    cover = torch.zeros(9, 11, dtype=D)
    cover[2:6, 1:8] = 1
    cover[2] *= 0.5
    cover[:, 1] *= 0.75
    cover[:, 7] *= 0.75
    expected = image + cover * (1 - cover) * (0.5 - image)
    assert_close(kp.affine_patches(image, box, torch.tensor([STAY]), fill=0.5), expected, 1e-12)


def test_the_rows_of_a_fill_are_those_of_one_call_for_each_of_their_images():
    """Of batches, and of other objects that are apart: nothing of them is in what is filled in."""
    images, boxes, theta, obj_to_img = scene("fractional")
    alpha = mattes(len(boxes), size=(5, 7))["matte"]
    for fill, k in itertools.product(FILLS, range(2)):
        options = {"clip": False, "alpha": alpha, "fill": FILLS[fill]}
        together = kp.affine_patches(images, boxes, theta, obj_to_img, **options)
        rows = obj_to_img == k
        options |= {"alpha": alpha[rows], "fill": FILLS[fill][k : k + 1] if fill == "images" else FILLS[fill]}
        alone = kp.affine_patches(images[k : k + 1], boxes[rows], theta[rows], **options)
        assert_close(together[k], alone[0], 1e-12)


# --- surroundings -----------------------------------------------------------------------------------------------------


def continued(images: Tensor, *boxes, alpha: Tensor | None = None, grow: float = 0.0) -> Tensor:
    """The images, of which the first has lost what was in boxes."""
    gone = torch.tensor([FAR], dtype=images.dtype).expand(len(boxes), 6)
    boxes, owners = torch.tensor(boxes, dtype=D).reshape(-1, 4), torch.zeros(len(boxes), dtype=torch.int64)
    options = {"alpha": alpha, "grow": grow, "fill": "surroundings", "clip": False}
    return kp.affine_patches(images, boxes, gone, owners, **options)


INSIDE = [20, 10, 30, 22]
HOLES = {
    "inside": INSIDE,
    "of fractions": [20.3, 10.6, 29.2, 21.8],
    "long": [5, 17, 45, 20],
    "at an edge": [0, 12, 11, 25],
    "in a corner": [-6, -5, 12, 9],
    "one pixel": [25, 18, 26, 19],
    "half of the picture": [0, 0, 50, 20],
    "nearly all of it": [1, 1, 49, 39],
}


@both_kernels
@pytest.mark.parametrize("name", HOLES)
def test_a_constant_picture_stays_constant(name, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    for dtype, tolerance in ((D, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2**-8)):
        colour = torch.tensor([0.25, -3.0, 0.75], dtype=dtype)[:, None, None]
        images = colour.expand(2, 3, 40, 50).contiguous()
        assert_close(continued(images, HOLES[name]), images.double(), 3 * tolerance)


@pytest.mark.parametrize("name", HOLES)
def test_what_is_filled_in_lies_between_what_is_around(name):
    """Means of means: no value beyond the least and the most of what is seen."""
    images = random(1, 2, 40, 50, seed=4)
    x1, y1, x2, y2 = (int(edge) for edge in torch.tensor(HOLES[name]).clamp(min=0).ceil())
    inside = (slice(y1, y2), slice(x1, x2))
    images[0, 1][inside] = 9.0  # what is taken off has no part in it
    filled = continued(images, [x1, y1, x2, y2])[0]
    for channel, picture in zip(filled, images[0], strict=True):
        beside = torch.ones(40, 50, dtype=torch.bool)
        beside[inside] = False
        assert channel[inside].min() >= picture[beside].min() - 1e-12
        assert channel[inside].max() <= picture[beside].max() + 1e-12
    assert (
        filled[:, y1:y2, x1:x2].std(dim=(1, 2), correction=0).max() < 0.29
    )  # that of the noise itself: it is smoother


@both_kernels
def test_a_picture_of_which_nothing_is_seen_is_filled_with_black(kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images = (1 + random(2, 3, 12, 17, seed=5)).requires_grad_()
    for hole in ([0, 0, 17, 12], [-9, -9, 40, 40]):
        filled = continued(images, hole)
        assert (filled[0] == 0).all() and torch.equal(filled[1], images[1])
        (gradient,) = torch.autograd.grad(filled.square().sum(), images)
        assert gradient.isfinite().all() and (gradient[0] == 0).all()
    for shape in ((1, 1, 1, 1), (1, 1, 1, 9), (1, 1, 9, 1)):
        assert continued(torch.ones(shape), [0, 0, 1, 1]).isfinite().all()


SLOPES = {"right": (1.0, 0.0), "down": (0.0, 1.0), "slanting": (3.0, -2.0)}
ALL_AROUND = [INSIDE, [20.3, 10.6, 29.2, 21.8], [5, 17, 45, 20], [12, 5, 40, 33]]  # of which all sides are seen


@pytest.mark.parametrize("hole", ALL_AROUND)
@pytest.mark.parametrize("slope", SLOPES)
def test_a_ramp_is_continued_to_a_cell(slope, hole):
    """A hole is looked at in a square of 32 x 32 cells, of sides half as long again as its longer one at most. A cell
    is one mean, which may be that of pixels in any part of it: it is as far off as the ramp rises in a cell."""
    across, down = SLOPES[slope]
    y, x = torch.meshgrid(torch.arange(40, dtype=D) + 0.5, torch.arange(50, dtype=D) + 0.5, indexing="ij")
    ramp = (across * x + down * y)[None, None]
    x1, y1, x2, y2 = hole
    cell = 1.5 * max(x2 - x1, y2 - y1) / 32
    off = continued(ramp, hole) - ramp
    assert 0 < off.abs().max() < cell * (abs(across) + abs(down))


def test_what_is_filled_in_is_of_the_sides_nearby():
    """Black on the left and white on the right come together in the middle."""
    images = torch.zeros(1, 1, 40, 50, dtype=D)
    images[..., 25:] = 1
    filled = continued(images, INSIDE)[0, 0, 10:22, 20:30]
    assert (filled[:, 0] < 0.2).all() and (filled[:, -1] > 0.8).all()
    assert (filled.diff(dim=1) >= -1e-9).all()


def test_what_lies_under_a_matte_shows_by_as_much_as_the_matte_lets_it():
    """h of the hole is filled in and 1 - h stays; what stays is seen, and what is filled in is a mean of that too."""
    images, matte = torch.full((1, 1, 40, 50), 0.5, dtype=D), torch.full((1, 1, 1, 1), 0.75, dtype=D)
    images[..., 10:22, 20:30] = 1.0
    hole = continued(images, INSIDE, alpha=matte)[0, 0, 10:22, 20:30]
    assert (hole > 0.25 * 1.0 + 0.75 * 0.5 - 1e-9).all() and (hole < 1.0 + 1e-9).all()
    number = continued(images, INSIDE, alpha=matte.flatten())[0, 0, 10:22, 20:30]
    assert_close(hole, number, 1e-12)


@both_kernels
def test_two_holes_that_are_apart_are_filled_as_each_alone(kernels, monkeypatch):
    """Together in a layer, in any order of rows; other images and other objects in them make no difference."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images, first, second = random(1, 2, 40, 50, seed=6), [2, 3, 9, 11], [30, 20, 44, 36]
    both = continued(images, first, second)
    assert torch.equal(both, continued(images, second, first))
    alone = continued(images, first)
    assert torch.equal(both[..., 3:11, 2:9], alone[..., 3:11, 2:9])
    many = torch.cat([images, random(3, 2, 40, 50, seed=7)])
    boxes = torch.tensor([first, second, [5, 5, 30, 30], [5, 5, 30, 30], [8, 8, 22, 33]])
    gone = torch.tensor([FAR], dtype=D).expand(5, 6)
    options = {"fill": "surroundings", "clip": False}
    batch = kp.affine_patches(many, boxes, gone, torch.tensor([0, 0, 2, 1, 2]), **options)
    assert_close(batch[0], both[0], 1e-12)


@both_kernels
@pytest.mark.parametrize("form", ["none", "number", "matte", "mask"])
def test_gradients_through_surroundings_equal_finite_differences(form, kernels, monkeypatch):
    """To all that it is made of, of objects that overlap, move, and leave their box."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    images = random(1, 1, 6, 8, seed=8)
    boxes = torch.tensor([[1.3, 0.6, 5.2, 4.1], [2.45, 1.25, 6.75, 4.6]], dtype=D)
    theta = torch.eye(2, 3, dtype=D) + 0.2 * torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(9), dtype=D)
    alpha = (mattes(2, size=(3, 2)) | {"mask": random(2, 6, 8, seed=10)})[form]
    leaves = [t.requires_grad_() for t in (images, boxes, theta, alpha) if t is not None]

    def painted(images, boxes, theta, alpha=None):
        return kp.affine_patches(images, boxes, theta, alpha=alpha, fill="surroundings", clip=False)

    assert torch.autograd.gradcheck(
        painted, leaves, eps=1e-7, atol=1e-5, rtol=1e-5, fast_mode=form != "none" or kernels == "reference"
    )


# --- in steps, on Kornia's own functions ------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "transparent"])
@pytest.mark.parametrize("alpha", ["none", "number", "matte"])
def test_kornia_step_by_step_peels_as_one_pass_does(alpha, padding_mode, fill):
    images, _, theta, obj_to_img = scene()
    corners = torch.tensor([[2, 3], [5, 1], [4, 4], [-3, 5], [12, 9]])
    boxes = torch.cat([corners, corners + torch.tensor([9, 7])], dim=1)
    options = {"padding_mode": padding_mode, "alpha": mattes(5, size=(5, 7))[alpha], "fill": FILLS[fill]}
    one_pass = kp.affine_patches(images, boxes, theta, obj_to_img, **options)
    in_steps = kp.affine_patches(images, boxes, theta, obj_to_img, patch_size=(7, 9), **options)
    assert_close(in_steps, one_pass, 1e-9)
