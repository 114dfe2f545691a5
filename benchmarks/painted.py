"""How much a call paints: pixels and layers, counted from the definition."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

import kornia_patchaug as kp
from benchmarks.cases import Scene
from kornia_patchaug.layers import layers
from kornia_patchaug.plan import Windows

ROUNDING = 1e-5  # an opacity that pixels which are not painted may have by it


def ellipses(scene: Scene) -> Tensor:
    """A mask an object ``(N, H, W)``: the ellipse that its box holds."""
    masks = torch.zeros(len(scene.boxes), *scene.images.shape[2:], dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, scene.boxes.tolist(), strict=True):
        mask[y1:y2, x1:x2] = torch.hypot(_frame(x1, x2, x1, x2), _frame(y1, y2, y1, y2)[:, None]) < 1
    return masks.to(scene.images.device)


def painted_pixels(scene: Scene, *, clip: bool = True) -> int:
    """Pixels that a patch reaches, summed over the objects, whatever opacity it has there."""
    height, width = scene.images.shape[2:]
    boxes, theta = scene.boxes.cpu(), scene.theta.detach().cpu()
    areas = boxes
    if not clip:  # where the corners go, and a margin: a patch is seen half a pixel beyond its edge
        moved = kp.move_boxes(boxes.float(), theta, clip=False)
        low, high = moved.floor().long() - 2, moved.ceil().long() + 2
        areas = torch.cat([low[:, :2], high[:, 2:]], dim=1).clamp(min=0)
        areas = areas.minimum(torch.tensor([width, height, width, height]))
    count = 0
    for matrix, box, area in zip(theta, boxes.tolist(), areas.tolist(), strict=True):
        (x1, y1, x2, y2), (left, top, right, bottom) = box, area
        patch = torch.ones(y2 - y1, x2 - x1)
        v, u = torch.meshgrid(_frame(top, bottom, y1, y2), _frame(left, right, x1, x2), indexing="ij")
        grid = torch.stack([u, v], dim=-1) @ matrix[:, :2].T + matrix[:, 2]
        count += int((grid_sample(patch[None, None], grid[None], align_corners=False) > ROUNDING).sum())
    return count


def layer_count(scene: Scene) -> int:
    """The longest chain of objects of which each overlaps the next."""
    boxes, image = scene.boxes.cpu().numpy(), scene.obj_to_img.cpu().numpy()
    windows = Windows.of(image, boxes[:, :2], boxes[:, 2:])
    return len(layers(windows, windows))


def _frame(first: int, stop: int, low: int, high: int) -> Tensor:
    """The pixel centres of ``first .. stop`` in the frame, -1 to 1, of an edge from ``low`` to ``high``."""
    return (torch.arange(first, stop) + 0.5 - (low + high) / 2) * 2 / (high - low)
