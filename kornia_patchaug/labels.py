"""Where labels go: each box follows its own object, each keypoint the topmost patch that holds it."""

from __future__ import annotations

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.boxes import boxes_are_objects
from kornia_patchaug.dtypes import full_precision, working_dtype
from kornia_patchaug.frames import carry, centred_matrices, centres, corners_of, enclosing, half_sizes, whole_pixels
from kornia_patchaug.theta import invert_theta, move_points


def follow_boxes(
    labels: Boxes,
    boxes: Tensor,
    theta: Tensor,
    obj_to_img: Tensor,
    active: Tensor,
    size: tuple[int, int],
    align_corners: bool,
) -> Boxes:
    """Labels, one row an object, become the enclosing boxes of their moved corners, clipped to what was painted.

    That is the objects' windows within images of ``size`` (height, width).

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
    label_boxes = torch.cat([data.amin(2), data.amax(2) + 1], dim=-1)[where]  # (N, 4) half-open
    boxes, theta = boxes[order].to(working_dtype(label_boxes, boxes, theta)), theta[order]
    moved = move_points(corners_of(label_boxes), boxes, theta, align_corners=align_corners)
    edge = boxes.new_tensor([size[1], size[0]])
    first, stop = (corner.clamp(torch.zeros_like(edge), edge) for corner in whole_pixels(boxes))
    low, high = enclosing(moved, first, stop).split(2, dim=1)
    last = (high - 1).maximum(low)  # Kornia's boxes hold their last pixel, so that one pixel is the least
    corners = corners_of(torch.cat([low, last], dim=1)).to(data.dtype)
    seen = (high > low).all(1) | ~active

    followed = labels.clone()
    data = data.index_put(where, corners.where(active[:, None, None], data[where]))
    valid = valid.index_put(where, valid[where] & seen)
    followed._data, followed._valid = (data, valid) if batched else (data[0], valid[0])
    return followed


@full_precision
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
    dtype = working_dtype(points, boxes, theta)
    points, boxes, theta = points.to(dtype), boxes.to(dtype), theta.to(dtype)
    dst_from_src = centred_matrices(invert_theta(theta), half_sizes(boxes, align_corners))
    centre, (first, stop) = centres(boxes), whole_pixels(boxes)
    order = torch.arange(len(boxes), device=boxes.device)
    next_row = torch.zeros_like(image)
    while True:
        inside = ((points[:, None] >= boxes[:, :2]) & (points[:, None] < boxes[:, 2:])).all(-1)  # (Q, N)
        holds = inside & (image[:, None] == obj_to_img) & (order >= next_row[:, None])
        held = holds.any(1)
        if not held.any():
            return points
        holder = (holds * (len(order) - order if sequential else order + 1)).argmax(1)
        moved = carry(points[:, None], dst_from_src[holder], centre[holder])[:, 0]
        points = moved.where(held[:, None], points)
        if not sequential:
            return points
        in_sight = held & ((points >= first[holder]) & (points < stop[holder])).all(1)
        next_row = torch.where(in_sight, holder + 1, len(order))
