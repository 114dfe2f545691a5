"""Labels of which each object has its own: masks and keypoints that move with it alone, and lose what covers it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kornia_patchaug.draw import Drawn
from kornia_patchaug.functional import Padding, transplant_patches
from kornia_patchaug.labels import stays


class Geometry(NamedTuple):
    """How objects are read and painted, as the functions take it."""

    padding_mode: Padding
    align_corners: bool
    clip: bool


def topmost(
    objects: Drawn,
    order: Tensor,
    count: int,
    size: tuple[int, int],
    alpha: Tensor | None,
    geometry: Geometry,
    read: tuple[Tensor, tuple[int, int]] | None = None,
) -> Tensor:
    """``(B, H, W)`` int64: of each pixel of ``count`` images which object is painted last, by its number in ``order``
    ``(N,)`` of painting, from 1 on; 0 where none is.

    Each object is painted as a picture of its own number, hard, whatever it shows. ``read``: boxes ``(N, 4)`` in
    pictures of another size that it reads, if it does not read its own place.
    """
    boxes, theta, obj_to_img, _ = (part[order] for part in objects)
    alpha = None if alpha is None else alpha[order]
    source_boxes, source_size = (boxes, size) if read is None else (read[0][order], read[1])
    rows = torch.arange(len(boxes), device=boxes.device)
    numbers = (rows + 1).to(boxes).view(-1, 1, 1, 1).expand(-1, 1, *source_size)
    painted = transplant_patches(
        boxes.new_zeros(count, 1, *size),
        boxes,
        obj_to_img,
        source=numbers,
        source_boxes=source_boxes,
        source_to_img=rows,
        theta=theta,
        alpha=alpha,
        mode="nearest",
        # Other modes than transparent paint all of a window, whatever they read.
        padding_mode="transparent" if geometry.padding_mode == "transparent" or not geometry.clip else "border",
        align_corners=geometry.align_corners,
        clip=geometry.clip,
    )
    return painted[:, 0].round().long()


def move_masks(masks: Tensor, objects: Drawn, alpha: Tensor | None, geometry: Geometry) -> Tensor:
    """Masks ``(N, H, W)``, floating, each moved with its own object as the pixels are; nothing stays where it was."""
    boxes, theta, _, _ = objects
    own = torch.arange(len(boxes), device=boxes.device)
    moved = transplant_patches(
        torch.zeros_like(masks[:, None]),
        boxes,
        own,
        source=masks[:, None],
        source_boxes=boxes,
        source_to_img=own,
        theta=theta,
        alpha=alpha,
        mode="nearest",
        padding_mode=geometry.padding_mode,
        align_corners=geometry.align_corners,
        clip=geometry.clip,
    )
    return moved[:, 0].where(~stays(theta)[:, None, None], masks)


def follow_masks(
    masks: Tensor, objects: Drawn, column: Tensor, order: Tensor, alpha: Tensor | None, geometry: Geometry
) -> Tensor:
    """Instance masks ``(B, M, H, W)``, a channel an object: each moved with its own, without what is painted over it.

    ``order (N,)``: the rows in the order in which they are painted; ``column (N,)``: the channel of each.
    """
    own = objects.obj_to_img, column
    moved = move_masks(masks[own], objects, alpha, geometry)
    above = topmost(objects, order, len(masks), (masks.shape[2], masks.shape[3]), alpha, geometry)
    rank, still = ranks(objects, order), stays(objects.theta)
    lost = hides(above[own[0]], objects.theta[order], rank[:, None, None], still[:, None, None])
    return masks.index_put(own, moved * ~lost)


def ranks(objects: Drawn, order: Tensor) -> Tensor:
    """``(N,)``: the number by which `topmost` knows each object; 0 for those that are not painted."""
    boxes = objects.boxes.detach()
    paints = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return (order.argsort() + 1).where(paints, 0)


def hides(above: Tensor, theta: Tensor, rank: Tensor, still: Tensor) -> Tensor:
    """Whether the pixels that `topmost` tells of show another object than those of a rank that are there.

    ``theta (N, 2, 3)`` in the order in which objects are painted. One that is ``still`` is not hidden by another that
    is: its patch shows what was there before.
    """
    moves = torch.cat([theta.new_zeros(1, dtype=torch.bool), ~stays(theta)])
    return (above > rank) & (moves[above] | ~still)


def pixels_of(points: Tensor, above: Tensor) -> Tensor:
    """What `topmost` tells of the pixels of points ``(B, M, K, 2)``, ``(B, M, K)``; 0 beyond the image."""
    height, width = above.shape[1:]
    x, y = points.detach().floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    image = torch.arange(len(above), device=above.device)[:, None, None]
    return above[image, y.clamp(0, height - 1), x.clamp(0, width - 1)] * inside


def boxes_of_masks(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The half-open boxes ``(..., 4)`` of what is not 0 in masks ``(..., H, W)``, and which of these hold anything."""
    there = masks != 0
    sides = []
    for dim in (-2, -1):  # columns, then rows
        line = there.any(dim)
        last = line.shape[-1] - line.flip(-1).to(torch.uint8).argmax(-1)
        sides.append((line.to(torch.uint8).argmax(-1), last))
    (x1, x2), (y1, y2) = sides
    any_of_it = there.flatten(-2).any(-1)
    return torch.stack([x1, y1, x2, y2], dim=-1) * any_of_it[..., None], any_of_it
