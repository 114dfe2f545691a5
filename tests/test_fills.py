"""What a hole shows of its surroundings, as a person who looks at the picture would judge it."""

import pytest
import torch

import kornia_patchaug as kp

D = torch.float64
HEIGHT, WIDTH = 60, 80


def filled(picture, box, matte=None):
    """The picture ``(H, W)`` without the object in the box."""
    away = torch.tensor([[1, 0, 99, 0, 1, 0]], dtype=D)
    options = {"clip": False, "fill": "surroundings", "alpha": matte}
    return kp.affine_patches(picture[None, None], torch.tensor([box], dtype=D), away, **options)[0, 0]


def ramp(across, down):
    y, x = torch.meshgrid(torch.arange(HEIGHT, dtype=D) + 0.5, torch.arange(WIDTH, dtype=D) + 0.5, indexing="ij")
    return across * x + down * y


@pytest.mark.parametrize("box", [[2, 3, 22, 20], [50, 41, 78, 57], [33, 4, 37, 57], [3, 30, 78, 33]])
@pytest.mark.parametrize(("across", "down"), [(1, 0), (0, 1), (3, -2)])
def test_a_ramp_goes_on_beside_the_edge_of_a_picture_and_in_slim_holes(box, across, down):
    """Within 5 % of what it rises in the hole, or within what it rises in a cell."""
    picture, (x1, y1, x2, y2) = ramp(across, down), box
    rise = abs(across) * (x2 - x1) + abs(down) * (y2 - y1)
    cell = 1.5 * max(x2 - x1, y2 - y1) / 32 * (abs(across) + abs(down))
    off = (filled(picture, box) - picture).abs().max()
    assert 0 < off < max(0.05 * rise, cell)


def test_a_tall_hole_takes_at_each_height_what_is_beside_it():
    """A sky that gets bright within a few rows: cells as slim as the hole would mix all heights."""
    y = torch.arange(HEIGHT, dtype=D)[:, None].expand(HEIGHT, WIDTH)
    sky = torch.sigmoid((y - 40) / 2)
    off = (filled(sky, [38, 5, 44, 55]) - sky).abs()
    assert off.max() < 0.15 and off[5:55, 38:44].mean() < 0.04


def test_a_bright_rim_that_is_left_of_an_object_does_not_shine_into_its_hole():
    """Boxes are tight, and soft holes: an object's outermost pixel may be beside them, and is half seen within."""
    picture = torch.zeros(HEIGHT, WIDTH, dtype=D)
    picture[15:41, 25:51] = 1.0
    hole = filled(picture, [26, 16, 50, 40], kp.soft_mattes(1, feather=0.1, dtype=D))[18:38, 28:48]
    assert hole.max() < 0.2 and hole.mean() < 0.1


def test_gradients_to_boxes_that_stick_out_of_the_picture_equal_finite_differences():
    """By parts of the picture that lie beyond the hole by more than the part of the box that is in the picture."""
    picture, moved = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0), dtype=D), torch.eye(2, 3)
    moved = (moved + torch.tensor([[0, 0, 0.3], [0, 0, 0.1]])).to(D)[None]
    boxes = torch.tensor([[-30.317, 12.213, 4.641, 20.433]], dtype=D, requires_grad=True)

    def painted(boxes):
        return kp.affine_patches(picture[None, None], boxes, moved, clip=False, fill="surroundings")

    assert torch.autograd.gradcheck(painted, boxes, eps=1e-7, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("rows", [[0, 1], [1, 0]])
def test_a_hole_in_a_hole_shows_what_was_filled_in_there(rows):
    """All that is around the small one is the hole of the large one, whichever is taken off first."""
    picture, boxes = torch.full((HEIGHT, WIDTH), 0.5, dtype=D), torch.tensor([[35, 25, 45, 35], [10, 2, 70, 58]])
    picture[2:58, 10:70], picture[25:35, 35:45] = 1.0, 0.0
    away = torch.tensor([[1, 0, 99, 0, 1, 0]], dtype=D).expand(2, 6)
    options = {"clip": False, "fill": "surroundings"}
    filled = kp.affine_patches(picture[None, None], boxes[rows].to(D), away, torch.tensor([0, 0]), **options)
    torch.testing.assert_close(filled, torch.full_like(filled, 0.5), rtol=0, atol=1e-9)
