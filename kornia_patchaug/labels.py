"""Where labels go: each box follows its own object, each keypoint the topmost patch that holds it."""

from __future__ import annotations

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.boxes import boxes_are_objects
from kornia_patchaug.theta import corners_of, move_boxes, move_points


def follow_boxes(
    labels: Boxes, boxes: Tensor, theta: Tensor, obj_to_img: Tensor, active: Tensor, align_corners: bool
) -> Boxes:
    """Labels, one row an object, become the enclosing boxes of their objects' moved corners.

    A row whose object moved out of sight is marked as removed, which Kornia exports as zeros; a row whose object is not
    ``active (N,)`` stays.
    """
    rows = boxes_are_objects(labels).nonzero()  # (N, 2) image, row of the image
    order = obj_to_img.argsort(stable=True)
    if not torch.equal(rows[:, 0], obj_to_img[order]):
        raise ValueError(
            f"bbox: expected one row an object, so that each box follows its own ({len(boxes)} objects in images "
            f"{obj_to_img[order].tolist()}), got {len(rows)} rows in images {rows[:, 0].tolist()}."
        )
    low, high = move_boxes(boxes, theta, align_corners=align_corners)[order].to(labels.dtype).split(2, dim=1)
    last = (high - 1).maximum(low)  # Kornia's boxes hold their last pixel, so that one pixel is the least
    active = active[order]
    seen = (high > low).all(1) | ~active

    followed = labels.clone()
    data, valid = labels.data.reshape(-1, labels.data.shape[-3], 4, 2), torch.atleast_2d(labels._valid)
    where = rows.unbind(1)
    corners = corners_of(torch.cat([low, last], dim=1)).where(active[:, None, None], data[where])
    followed._data = data.index_put(where, corners).reshape(labels.data.shape)
    followed._valid = valid.index_put(where, valid[where] & seen).reshape(labels._valid.shape)
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
