"""visible_share: against hard painting at many points a pixel, against what is painted, by hand, and by its laws."""

import itertools

import numpy as np
import pytest
import torch
from support import oracle
from support.scenes import BOXES, MODES, PADDINGS, assert_close, mattes, scene
from torch import Tensor

import kornia_patchaug as kp

TRUTH = [False, True]
D = torch.float64
STAY = [1.0, 0, 0, 0, 1, 0]

both_clips = pytest.mark.parametrize("clip", TRUTH)
both_kernels = pytest.mark.parametrize("kernels", ["native", "reference"])


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def moves(boxes, rows, align_corners: bool = False) -> Tensor:
    """theta of objects that go so many columns to the right and show 1 / zoom of their size, (N, 6)."""
    theta = []
    for (x1, _, x2, _), (right, zoom) in zip(boxes, rows, strict=True):
        half = (x2 - x1 - align_corners) / 2
        theta.append([zoom, 0, -right / half if right else 0, 0, zoom, 0])
    return torch.tensor(theta, dtype=D)


# --- against what is painted ------------------------------------------------------------------------------------------


@both_clips
@pytest.mark.parametrize("align_corners", TRUTH)
def test_shares_are_those_of_hard_painting_at_many_points_a_pixel(align_corners, clip):
    """Boxes of whole pixels, which are what is read. Their edges fade over a pixel: half of it within, half beyond."""
    generator = torch.Generator().manual_seed(int(align_corners))
    size, count = (420, 520), 6
    corner = torch.rand(count, 2, generator=generator, dtype=D) * torch.tensor([380, 290]) - 60
    boxes = torch.cat([corner, corner + 90 + 110 * torch.rand(count, 2, generator=generator, dtype=D)], dim=1).round()
    theta = torch.eye(2, 3, dtype=D) + 0.25 * torch.randn(count, 2, 3, generator=generator, dtype=D)
    obj_to_img = torch.tensor([0, 1, 0, 0, 1, 0])
    options = {"size": size, "align_corners": align_corners, "clip": clip}
    expected = oracle.visible_share(boxes, theta, obj_to_img, **options, steps=4)
    assert 0.1 < expected.min() < expected.max() and len(np.unique(expected)) > 3
    shares = kp.visible_share(boxes, theta, obj_to_img, padding_mode="transparent", **options)
    assert_close(shares, expected, 2e-4)
    in_float32 = kp.visible_share(boxes.float(), theta.float(), obj_to_img, padding_mode="transparent", **options)
    assert in_float32.dtype == torch.float32
    assert_close(in_float32, expected, 3e-4)
    # Of boxes of fractions of pixels, all of the pixels that they touch are the object's: two rims of half a pixel.
    moved = boxes + 0.45 * torch.rand(count, 4, generator=generator, dtype=D)
    expected = oracle.visible_share(moved, theta, obj_to_img, **options, steps=4)
    assert_close(kp.visible_share(moved, theta, obj_to_img, padding_mode="transparent", **options), expected, 1 / 90)


@both_kernels
@both_clips
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["none", "number", "matte", "mask"])
def test_shares_are_what_is_painted_of_a_channel_for_each_object(form, mode, clip, kernels, monkeypatch):
    """Over what each paints alone, unclipped, in a picture with room all around."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    _, boxes, theta, obj_to_img = scene("integer", seed=3)
    boxes, count, room = boxes.where(boxes != 17, 16), len(boxes), 40
    theta = torch.eye(2, 3, dtype=D) + 0.6 * (theta - torch.eye(2, 3, dtype=D))
    alpha = (mattes(count, size=(5, 7)) | {"mask": random(count, 13, 17, seed=4)})[form]
    alone = torch.eye(count, dtype=D)[..., None, None].expand(count, count, 13, 17)
    at = {"source": alone, "source_boxes": boxes, "source_to_img": torch.arange(count), "theta": theta, "alpha": alpha}
    options = {"mode": mode, "padding_mode": "transparent"}
    painted = torch.zeros(3, count, 13, 17, dtype=D)
    painted = kp.transplant_patches(painted, boxes, obj_to_img, **at, **options, clip=clip)
    endless = torch.zeros(count, count, 13 + 2 * room, 17 + 2 * room, dtype=D)
    endless = kp.transplant_patches(endless, boxes + room, torch.arange(count), **at, **options)
    assert endless[..., 0].abs().max() == endless[..., 0, :].abs().max() == 0
    expected = painted.sum(dim=(0, 2, 3)) / endless.sum(dim=(0, 2, 3))
    assert expected.min() < 0.7
    shares = kp.visible_share(boxes, theta, obj_to_img, size=(13, 17), alpha=alpha, **options, clip=clip)
    assert_close(shares, expected, 1e-12)


# --- by hand ----------------------------------------------------------------------------------------------------------

SHARES = [  # boxes, (right, zoom) of each, shares with clip, shares without; in images of 4 x 8
    ([[1, 1, 4, 3]], [(0, 1)], [1], [1]),
    ([[0, 0, 4, 4], [2, 0, 6, 4]], [(0, 1)] * 2, [0.5, 1], [0.5, 1]),  # the later one hides half of the earlier one
    ([[0, 0, 4, 4]], [(-2, 1)], [0.5], [0.5]),  # half out of the image
    ([[2, 0, 6, 4]], [(2, 1)], [0.5], [1]),  # half out of its box
    ([[2, 0, 6, 4]], [(99, 1)], [0], [0]),
    ([[0, 0, 4, 4]] * 2, [(0, 1), (2, 1)], [0.5, 0.5], [0.5, 1]),  # it shows where the later one has gone
    ([[-2, 0, 2, 4]], [(0, 1)], [1], [1]),  # what is not in the picture is no part of it
    ([[-2, 0, 2, 4]], [(4, 1)], [0], [1]),
    ([[-2, 0, 2, 4]], [(-1, 1)], [0.5], [0.5]),
    ([[20, 0, 24, 4]], [(0, 1)], [0], [0]),
    ([[2, 1, 2, 3], [0, 0, 4, 4]], [(0, 1)] * 2, [0, 1], [0, 1]),  # no area
]


@both_kernels
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize(("boxes", "rows", "clipped", "unclipped"), SHARES)
def test_a_share_by_hand(boxes, rows, clipped, unclipped, align_corners, kernels, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    theta = moves(boxes, rows, align_corners)
    options = {"size": (4, 8), "align_corners": align_corners, "padding_mode": "transparent"}
    assert_close(kp.visible_share(torch.tensor(boxes), theta, **options), clipped, 1e-12)
    assert_close(kp.visible_share(torch.tensor(boxes), theta, **options, clip=False), unclipped, 1e-12)


HIDDEN = {"zeros": 0, "border": 0, "reflection": 0, "image": 0, "transparent": 0.5}


@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_what_lies_beyond_a_patch_hides_but_is_not_the_object_by_hand(padding_mode):
    """Two in one place, of which the later one goes halfway out of its box: black or what not is left of it there."""
    boxes = torch.tensor([[2, 0, 6, 4]] * 2)
    theta = moves(boxes.tolist(), [(0, 1), (2, 1)])
    shares = kp.visible_share(boxes, theta, size=(4, 8), padding_mode=padding_mode)
    assert_close(shares, [HIDDEN[padding_mode], 0.5], 1e-12)
    half = torch.tensor([1.0, 0.75])
    shares = kp.visible_share(boxes, theta, size=(4, 8), padding_mode=padding_mode, alpha=half)
    assert_close(shares, [0.625 if padding_mode == "transparent" else 0.25, 0.5], 1e-12)


@both_clips
def test_light_passes_what_is_not_opaque_by_hand(clip):
    """Three in one place: of the lowest, (1 - 0.5) (1 - 0.25) is seen; its own opacity makes no difference."""
    boxes, same = torch.tensor([[2, 0, 6, 4]] * 3), torch.tensor([STAY]).expand(3, 6)
    for first in (1.0, 0.1):
        alpha = torch.tensor([first, 0.5, 0.25])
        shares = kp.visible_share(boxes, same, size=(4, 8), alpha=alpha, clip=clip)
        assert_close(shares, [0.375, 0.75, 1], 1e-6)
    masks = torch.ones(3, 4, 8, dtype=torch.bool)
    masks[2, :, :4] = False  # the left half of the highest is clear, and of the lowest there is the right one alone
    masks[0, :, 2:5] = False
    shares = kp.visible_share(boxes, same, size=(4, 8), alpha=masks, clip=clip)
    assert_close(shares, [0, 0.5, 1], 1e-12)
    opaque_middle = torch.tensor([0.0, 1.0, 1.0, 0.0]).expand(3, 1, 1, 4)
    shares = kp.visible_share(boxes, same, size=(4, 8), alpha=opaque_middle, clip=clip)
    assert_close(shares, [0, 0, 1], 1e-12)
    assert kp.visible_share(boxes, same, size=(4, 8), alpha=torch.zeros(3), clip=clip).tolist() == [0, 0, 0]


def test_objects_of_other_images_hide_nothing_and_boxes_come_in_all_forms():
    boxes, theta = torch.tensor([[0, 0, 4, 4], [2, 0, 6, 4], [0, 0, 4, 4]]), torch.tensor([STAY]).expand(3, 6)
    assert kp.visible_share(boxes, theta, torch.tensor([0, 1, 0]), size=(4, 8)).tolist() == [0, 1, 1]
    assert kp.visible_share(boxes, theta, torch.tensor([7, 1, 7]), size=(4, 8)).tolist() == [0, 1, 1]
    assert kp.visible_share(boxes, theta, size=(4, 8)).tolist() == [0, 0.5, 1]
    assert kp.visible_share([boxes[:1], boxes[1:]], theta, size=(4, 8)).tolist() == [1, 0.5, 1]
    padded = torch.stack([boxes[:2], torch.stack([boxes[2], torch.zeros(4).long()])])
    assert kp.visible_share(padded, torch.tensor([STAY]).expand(4, 6), size=(4, 8)).tolist() == [0.5, 1, 1, 0]


@both_clips
@both_kernels
def test_no_objects_have_no_shares_and_zero_gradients(kernels, clip, monkeypatch):
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    boxes, theta = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 6, requires_grad=True)
    for given in (boxes, [boxes, boxes]):
        shares = kp.visible_share(given, theta, size=(4, 8), clip=clip)
        assert shares.shape == (0,) and shares.dtype == torch.float32
        shares.sum().backward()
        assert theta.grad.shape == (0, 6)
    assert kp.visible_share(boxes, theta.double(), size=(4, 8)).dtype == torch.float64


# --- laws -------------------------------------------------------------------------------------------------------------


def is_inside(box, theta, size, align_corners) -> bool:
    """Whether all that shows of the whole pixels of a box, fading half a pixel beyond, lies in an image."""
    (x1, y1, x2, y2), theta = box, np.asarray(theta)
    half = np.maximum(np.array([x2 - x1, y2 - y1]) - align_corners, 0) / 2
    centre = np.array([x1 + x2, y1 + y2]) / 2
    low, high = np.floor([x1, y1]) - 0.5, np.ceil([x2, y2]) + 0.5
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    points = centre + half * np.linalg.solve(theta[:, :2], ((corners - centre) / half - theta[:, 2]).T).T
    return bool((points >= 0).all() and (points <= np.array(size)[::-1]).all())


@both_kernels
@pytest.mark.parametrize("align_corners", TRUTH)
def test_an_object_alone_is_seen_whole_wherever_it_stays_in_its_image(align_corners, kernels, monkeypatch):
    """Of fractional boxes, turned, sheared, and of any opacity: to rounding, as its edges fade by as much anywhere."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    size, generator, count = (40, 50), torch.Generator().manual_seed(5), 0
    for seed in range(16):
        side = 1.5 + 12 * torch.rand(1, 2, generator=generator, dtype=D)
        centre = torch.tensor([25.0, 20.0]) + 4 * torch.rand(1, 2, generator=generator, dtype=D) - 2
        boxes = torch.cat([centre - side / 2, centre + side / 2], dim=1)
        theta = torch.eye(2, 3, dtype=D) + 0.25 * torch.randn(1, 2, 3, generator=generator, dtype=D)
        alphas = [None, random(1, seed=seed), random(1, 1, 4, 5, seed=seed), random(1, *size, seed=seed)]
        options = {"size": size, "align_corners": align_corners}
        if is_inside(boxes[0], theta[0], size, align_corners):
            count += 1
            for alpha in alphas:
                assert_close(kp.visible_share(boxes, theta, alpha=alpha, **options, clip=False), [1], 1e-12)
        smaller = torch.tensor([[1.7, 0, 0, 0, 1.7, 0]])
        for alpha in alphas:
            assert_close(kp.visible_share(boxes, smaller, alpha=alpha, **options), [1], 1e-12)
        for alpha in (*alphas[:2], kp.soft_mattes(1), kp.soft_mattes(1, shape="ellipse", feather=0.0)):
            assert_close(kp.visible_share(boxes, torch.tensor([STAY]), alpha=alpha, **options), [1], 1e-6)
    assert count > 8


@both_clips
def test_an_object_far_outside_is_not_seen(clip):
    boxes = torch.tensor([[2.3, 1.2, 7.4, 5.7]])
    for far in ([1, 0, 40, 0, 1, 0], [1, 0, 0, 0, 1, -1e30], [1e-6, 0, 9, 0, 1e-6, 9], [-1, 0, 1e4, 0, -1, 3e38]):
        assert kp.visible_share(boxes, torch.tensor([far]).float(), size=(8, 10), clip=clip).tolist() == [0]
    for singular in ([0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 0], [0.0, 0, 0.2, 0, 1, 0]):
        theta = torch.tensor([singular]).float().requires_grad_()
        shares = kp.visible_share(boxes, theta, size=(8, 10), clip=clip)
        assert shares.tolist() == [0]
        assert (torch.autograd.grad(shares.sum(), theta)[0] == 0).all()


@pytest.mark.parametrize("kind", BOXES)
def test_shares_are_shares(kind):
    """From 0 to 1, and less is seen of each the more come after it; the last is hidden by nobody."""
    _, boxes, theta, _ = scene(kind)
    for clip, padding_mode in [(True, "transparent"), (True, "border"), (False, "zeros")]:
        options = {"size": (13, 17), "clip": clip, "padding_mode": padding_mode}
        shares = kp.visible_share(boxes, theta, **options)
        assert (shares >= 0).all() and (shares <= 1 + 1e-12).all()
        alone = torch.stack([kp.visible_share(boxes[n, None], theta[n, None], **options)[0] for n in range(len(boxes))])
        assert (shares <= alone + 1e-12).all()
        assert_close(shares[-1:], alone[-1:], 1e-12)
        fewer = kp.visible_share(boxes[:-1], theta[:-1], **options)
        assert (shares[:-1] <= fewer + 1e-12).all()


@both_kernels
@both_clips
@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("form", ["none", "number", "matte", "mask"])
def test_gradients_of_shares_equal_finite_differences(form, align_corners, clip, kernels, monkeypatch):
    """Of objects that overlap, of which one leaves the image and one its box; to all together, and to each alone."""
    monkeypatch.setenv("KORNIA_PATCHAUG_KERNELS", kernels)
    boxes = torch.tensor([[1.3, 0.6, 5.2, 4.1], [2.45, 1.25, 6.75, 4.6], [0.4, 2.2, 4.85, 4.7]], dtype=D)
    theta = torch.eye(2, 3, dtype=D) + 0.3 * torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(6), dtype=D)
    alpha = (mattes(3, size=(3, 2)) | {"mask": random(3, 6, 8, seed=7)})[form]
    leaves = [t.requires_grad_() for t in (boxes, theta, alpha) if t is not None]
    options = {"size": (6, 8), "align_corners": align_corners, "clip": clip, "padding_mode": "transparent"}

    def shares(boxes, theta, alpha=None):
        return kp.visible_share(boxes, theta, alpha=alpha, **options)

    assert torch.autograd.gradcheck(
        shares, leaves, eps=1e-7, atol=1e-5, rtol=1e-5, fast_mode=form != "none" or kernels == "reference"
    )
    weight = torch.tensor([1.0, -0.5, 0.25], dtype=D)
    together = torch.autograd.grad(shares(*leaves), leaves, weight)
    for k, expected in enumerate(together):
        given = [t.detach() for t in leaves]
        (alone,) = torch.autograd.grad(shares(*given[:k], leaves[k], *given[k + 1 :]), leaves[k], weight)
        assert_close(alone, expected, 1e-12 * max(1, expected.abs().max().item()))


def test_who_is_hidden_may_climb_into_sight():
    """What the gradient is for: an object moves until it is seen."""
    boxes, shift = torch.tensor([[4, 4, 14, 12], [3, 3, 15, 13]]), torch.full((1, 2), -0.3).requires_grad_()
    optimizer = torch.optim.SGD([shift], lr=0.5)
    for _ in range(40):
        first = torch.cat([torch.eye(2)[None], shift[..., None]], dim=2)
        theta = torch.cat([first, torch.eye(2, 3)[None]])
        share = kp.visible_share(boxes, theta, size=(40, 40), clip=False)[0]
        optimizer.zero_grad()
        (1 - share).backward()
        optimizer.step()
    assert share > 0.95


def test_nothing_that_was_passed_is_modified_and_no_gradient_takes_no_graph():
    _, boxes, theta, obj_to_img = scene("fractional")
    alpha = mattes(4)["matte"]
    given = [t.clone() for t in (boxes, theta, obj_to_img, alpha)]
    versions = [t._version for t in given]
    for clip, mode in itertools.product(TRUTH, MODES):
        options = {"size": (13, 17), "alpha": given[3], "clip": clip, "mode": mode}
        shares = kp.visible_share(*given[:3], **options)
        assert not shares.requires_grad and torch.equal(shares, kp.visible_share(*given[:3], **options))
    assert [t._version for t in given] == versions
    assert all(torch.equal(one, other) for one, other in zip(given, (boxes, theta, obj_to_img, alpha), strict=True))
