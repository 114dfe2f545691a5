"""Where labels go: each box follows its own object, each keypoint the topmost patch that holds it."""

from __future__ import annotations

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.boxes import boxes_are_objects
from kornia_patchaug.checks import working_dtype
from kornia_patchaug.theta import corners_of, move_points


def follow_boxes(
    labels: Boxes, boxes: Tensor, theta: Tensor, obj_to_img: Tensor, active: Tensor, align_corners: bool
) -> Boxes:
    """Labels, one row an object, become the enclosing boxes of their moved corners, clipped to the objects' windows.

    A row that moved out of sight is marked as removed, which Kornia exports as zeros; a row whose object is not
    ``active (N,)`` stays.
    """
    rows = boxes_are_objects(labels).nonzero()  # (N, 2) image, row of the image
    order = obj_to_img.argsort(stable=True)
    if not torch.equal(rows[:, 0], obj_to_img[order]):
        raise ValueError(
            f"bbox: expected one row an object, so that each box follows its own ({len(boxes)} objects in images "
            f"{obj_to_img[order].tolist()}), got {len(rows)} rows in images {rows[:, 0].tolist()}."
        )
    active, where = active[order], rows.unbind(1)
    batched = labels.data.ndim == 4
    data, valid = (labels.data, labels._valid) if batched else (labels.data[None], labels._valid[None])
    held = torch.cat([data.amin(2), data.amax(2) + 1], dim=-1)[where]  # (N, 4) half-open
    boxes, theta = boxes[order].to(working_dtype(held, boxes)), theta[order]
    moved = move_points(corners_of(held), boxes, theta, align_corners=align_corners)
    first, stop = boxes[:, :2].floor(), boxes[:, 2:].ceil()
    low, high = moved.amin(1).clamp(first, stop), moved.amax(1).clamp(first, stop)
    last = (high - 1).maximum(low)  # Kornia's boxes hold their last pixel, so that one pixel is the least
    corners = corners_of(torch.cat([low, last], dim=1)).to(data.dtype)
    seen = (high > low).all(1) | ~active

    followed = labels.clone()
    data = data.index_put(where, corners.where(active[:, None, None], data[where]))
    valid = valid.index_put(where, valid[where] & seen)
    followed._data, followed._valid = (data, valid) if batched else (data[0], valid[0])
    return followed


def follow_points(
    points: Tensor,
    image: Tensor,
    boxes: Tensor,
    theta: Tensor,
    obj_to_img: Tensor,
    sequential: bool,
    align_corners: bool,
) -> Tensor:
    """Move each point ``(Q, 2)`` with the topmost patch of its image that holds it.

    Sequential patches pick up what earlier ones left: there the point moves with each patch that holds it, in row
    order, until one of them takes it out of sight.
    """
    order = torch.arange(len(boxes), device=boxes.device)
    first, last = boxes[:, :2].floor(), boxes[:, 2:].ceil()
    next_row = torch.zeros_like(image)
    while True:
        inside = ((points[:, None] >= boxes[:, :2]) & (points[:, None] < boxes[:, 2:])).all(-1)  # (Q, N)
        holds = inside & (image[:, None] == obj_to_img) & (order >= next_row[:, None])
        held = holds.any(1)
        if not held.any():
            return points
        ranked = holds * (len(order) - order if sequential else order + 1)
        holder = ranked.argmax(1)
        moved = move_points(points, boxes[holder], theta[holder], align_corners=align_corners)
        points = moved.where(held[:, None], points)
        in_sight = sequential & ((points >= first[holder]) & (points < last[holder])).all(1)
        next_row = torch.where(held & in_sight, holder + 1, len(order))
