"""What becomes of labels where objects overlap: the figure of one case, and the table that counts many."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

import kornia_patchaug as kp
from gallery.sketch import BLUE, SMALL, VERMILION, WIDTH, Frame, Sheet
from kornia_patchaug.outlines import FAINT

SIDE, CELL = 12, 13.4  # of the figure's picture in pixels, of a pixel in points
SMALL_BOX, LARGE_BOX = [4.0, 3, 6, 5], [2.0, 1, 10, 11]
HALF_TURN, SAME = [[-1.0, 0, 0], [0, -1, 0]], [[1.0, 0, 0], [0, 1, 0]]
CLOTH, PLATE, RIM, DOT, TOP = (0.93,) * 3, (0.55, 0.75, 0.9), (0.2, 0.4, 0.65), (0.95, 0.6, 0.1), (0.5, 0.25, 0.0)

PICTURES, OBJECTS, SIZE = 50, 8, 128  # of the table
BINS = (  # the least share, and what to call those that have it
    (0.999, "all of it"),
    (0.75, "three quarters or more"),
    (0.5, "half to three quarters"),
    (0.25, "a quarter to half"),
    (0.0, "less"),
)
ENOUGH = 0.7  # IoU of a label with the box around its object's pixels


def overlap() -> str:
    """A small object on a large one that makes a half turn, and the labels of both: without a fill, and with one."""
    images, boxes, theta = turned_plate()
    small_first, large_first = torch.tensor([0, 1]), torch.tensor([1, 0])
    gap = WIDTH - 2 * (SIDE * CELL + 8)
    sheet = Sheet(2 * (SIDE * CELL + 46) + 4)
    panels = (
        (images, boxes, "before", "a small one on a large one"),
        (painted(small_first), None, "small first, no fill", "its label holds nothing"),
        (painted(large_first), None, "large first, no fill", "twice, once unlabelled"),
        (painted(large_first, fill="surroundings"), None, "large first, with fill", "once, in its label"),
    )
    labels = kp.move_boxes(boxes, theta)
    for k, (image, here, title, said) in enumerate(panels):
        frame = Frame(8 + (k % 2) * (SIDE * CELL + gap), 8 + (k // 2) * (SIDE * CELL + 46), CELL)
        rows = image[0].permute(1, 2, 0).tolist()
        sheet.paint(frame, [(i, j, colour) for j, row in enumerate(rows) for i, colour in enumerate(row)])
        for box, colour in zip((labels if here is None else here).tolist(), (VERMILION, BLUE), strict=True):
            sheet.shapes([frame.corners(box)], line=colour, width=2.5)
        sheet.text(frame.at((SIDE / 2, SIDE + 0.9)), title, bold=True)
        sheet.text(frame.at((SIDE / 2, SIDE + 2.1)), said, FAINT, SMALL)
    return sheet.svg()


def painted(rows: Tensor, fill: str | None = None) -> Tensor:
    """The figure's picture with its objects in the order of ``rows``."""
    images, boxes, theta = turned_plate()
    return kp.affine_patches(images, boxes[rows], theta[rows], fill=fill)


def turned_plate() -> tuple[Tensor, Tensor, Tensor]:
    """The figure's picture, with boxes and theta of the small object, which stays, and of the large one."""
    images = torch.tensor(CLOTH, dtype=torch.float64).view(1, 3, 1, 1).repeat(1, 1, SIDE, SIDE)
    for (x1, y1, x2, y2), body, top in ((LARGE_BOX, PLATE, RIM), (SMALL_BOX, DOT, TOP)):
        x1, y1, x2, y2 = map(int, (x1, y1, x2, y2))
        for last, colour in ((y2, body), (y1 + 1, top)):
            images[0, :, y1:last, x1:x2] = torch.tensor(colour, dtype=torch.float64)[:, None, None]
    boxes = torch.tensor([SMALL_BOX, LARGE_BOX], dtype=torch.float64)
    return images, boxes, torch.tensor([SAME, HALF_TURN], dtype=torch.float64)


class Scene(NamedTuple):
    """Pictures of overlapping objects; channel k of each is where its k-th object is seen."""

    images: Tensor  # (PICTURES, OBJECTS, SIZE, SIZE)
    boxes: Tensor
    theta: Tensor
    obj_to_img: Tensor


@cache
def table() -> str:
    """The share of labels that are wrong, in Markdown, by how much of their objects is seen."""
    scene = pile()
    boxes, theta, obj_to_img = scene[1:]
    same = torch.eye(2, 3).expand_as(theta)
    shares = [kp.visible_share(boxes, each, obj_to_img, size=(SIZE, SIZE)) for each in (same, theta)]
    seen, labels = torch.minimum(*shares), kp.move_boxes(boxes, theta)
    wrong = []
    for fill in (None, "surroundings"):
        after = kp.affine_patches(*scene, fill=fill)
        wrong.append(overlap_of(labels, boxes_around(after > 0.5)) < ENOUGH)
    lines = ["| of the object is seen | labels | wrong without a fill | wrong with `fill` |", "|---|---:|---:|---:|"]
    for k, (least, name) in enumerate(BINS):
        inside = (seen >= least) & (seen < (BINS[k - 1][0] if k else 2))
        cells = [f"{100 * one[inside].float().mean():.0f} %" for one in wrong]
        lines.append(f"| {name} | {int(inside.sum())} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def pile() -> Scene:
    """Random boxes with deep overlaps, each with a random turn, scale and shift that keep it in its box, mostly."""
    noise, count = torch.Generator().manual_seed(0), PICTURES * OBJECTS
    sides, places, shifts = (torch.rand(count, 2, generator=noise) for _ in range(3))
    turns, scales = (torch.rand(count, generator=noise) for _ in range(2))
    sides = (16 + 40 * sides).round()
    corners = (places * (SIZE - sides)).floor()
    boxes = torch.cat([corners, corners + sides], dim=1)
    still = torch.zeros(count, 2)
    theta = kp.theta_from_components(360 * turns, 0.6 + 0.3 * scales, 0.1 * shifts - 0.05, still, boxes=boxes)
    obj_to_img = torch.arange(PICTURES).repeat_interleave(OBJECTS)
    patches = torch.eye(OBJECTS)[:, :, None, None]
    black, index = torch.zeros(PICTURES, OBJECTS, SIZE, SIZE), torch.arange(count) % OBJECTS
    return Scene(kp.paste_patches(black, patches, boxes, obj_to_img, patch_index=index), boxes, theta, obj_to_img)


def boxes_around(seen: Tensor) -> Tensor:
    """The box ``(N, 4)`` around all pixels of each channel ``(B, K, H, W)``; zeros where there is none."""
    found = torch.zeros(*seen.shape[:2], 4)
    for b, k in seen.flatten(2).any(2).nonzero().tolist():
        y, x = seen[b, k].nonzero().unbind(1)
        found[b, k] = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
    return found.flatten(0, 1)


def overlap_of(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes, row by row."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return both / (areas[0] + areas[1] - both)
