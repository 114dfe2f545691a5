"""Where labels go: each box follows its own object, each keypoint the topmost patch that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor

from kornia_patchaug.draw import Drawn
from kornia_patchaug.dtypes import full_precision, working_dtype
from kornia_patchaug.frames import carry, centred_matrices, centres, corners_of, enclosing, half_sizes, identity_theta
from kornia_patchaug.kornia_names import (
    corners_and_validity,
    margins_of,
    object_rows,
    row_counts,
    with_corners,
    with_points,
)
from kornia_patchaug.theta import Outline, invert_theta, move_points, outermost

# Pairs of a point and an object that are compared at once, which bounds the memory of that step to some 50 MB.
PAIRS_AT_ONCE = 1 << 19
# Bound boxes may be rounded to whole pixels, or scaled by another convention than Kornia's.
SAME_BOX = 1.001


def follow_boxes(
    labels: Boxes, objects: Drawn, painted: Tensor, seen: Tensor | None, outline: Outline, align_corners: bool
) -> Boxes:
    """Labels, one row an object: the enclosing boxes of their moved outline, clipped to what is painted of the object.

    ``painted (N, 4)`` holds the first pixel and one past the last that is painted of each object. A row that moves out
    of sight, or of which too little is ``seen (N,)``, is marked as removed, which Kornia exports as zeros. A row whose
    object is gated off, or whose theta is the identity, keeps its bits.
    """
    where = _pair(labels, objects.obj_to_img)
    boxes, theta, _, active = objects
    data, valid = corners_and_validity(labels)
    label_boxes = half_open(labels, data[where])
    boxes = boxes.to(working_dtype(label_boxes, boxes, theta))
    moved = outermost(move_points(corners_of(label_boxes), boxes, theta, align_corners=align_corners), outline)
    still = stays(theta)[:, None]
    limits = painted.to(boxes.dtype).where(~still, boxes.new_tensor([-inf, -inf, inf, inf]))
    followed = enclosing(moved, limits)
    low, high = followed.split(2, dim=1)
    corners = corners_from(labels, followed).to(data.dtype)
    corners = with_bits_of(data[where], corners, still[:, None]).where(active[:, None, None], data[where])
    kept = (high > low).all(1) | ~active
    kept = kept if seen is None else kept & seen
    return with_corners(labels, data.index_put(where, corners), valid.index_put(where, valid[where] & kept))


def check_bound_boxes(labels: Boxes, boxes: Tensor, obj_to_img: Tensor) -> None:
    """Raise unless bound ``boxes (N, 4)`` are those of a container's box key at this step, within a pixel."""
    where = _pair(labels, obj_to_img)
    data, valid = corners_and_validity(labels)
    found = half_open(labels, data[where])
    apart = ((found - boxes).abs() > SAME_BOX).any(1) & valid[where]
    if apart.any():
        row = int(apart.nonzero()[0])
        raise ValueError(
            f"boxes: expected the bound boxes to be those of the container at this step, {_shown(found[row])}, got "
            f"{_shown(boxes[row])} in row {row}. Did a step before move them? Bind boxes as that leaves them; outside "
            "a VideoSequential, PatchAugmentationSequential hands them on."
        )


def with_bits_of(label: Tensor, moved: Tensor, still: Tensor) -> Tensor:
    """``moved``, and where it is ``still`` the bits of ``label`` with the gradient of ``moved``."""
    return (label.detach() + (moved - moved.detach())).where(still, moved)


def objects_of(boxes: Boxes, batch_size: int) -> dict[str, Tensor]:
    """``boxes (N, 4)``, ``obj_to_img (N,)`` and ``column (N,)`` of the rows that came as objects.

    Removed ones are empty boxes.
    """
    rows = object_rows(boxes)
    if len(rows) != batch_size:
        raise ValueError(f"boxes: expected boxes of {batch_size} images, as many as images, got {len(rows)}.")
    data, valid = corners_and_validity(boxes)
    obj_to_img, column = rows.nonzero().unbind(1)
    flat = half_open(boxes, data[rows]).where(valid[rows][:, None], 0)
    return {"boxes": flat, "obj_to_img": obj_to_img, "column": column}


def half_open(boxes: Boxes, corners: Tensor) -> Tensor:
    """``(N, 4)`` half-open boxes around the corners ``(N, 4, 2)`` of some of Kornia's boxes."""
    first, last = margins_of(boxes)
    return torch.cat([corners.amin(1) + first, corners.amax(1) + last], dim=-1)


def corners_from(boxes: Boxes, half_open: Tensor) -> Tensor:
    """The reverse: corners ``(N, 4, 2)`` of half-open boxes ``(N, 4)``; those that hold their last pixel hold one."""
    first, last = margins_of(boxes)
    low, high = half_open.split(2, dim=1)
    return corners_of(torch.cat([low - first, (high - last).maximum(low - first)], dim=1))


def labels_of(boxes: Boxes, labels: Tensor | Sequence[Tensor]) -> Tensor:
    """``(N,)``: the class labels of the rows that are objects. They come one a box, as boxes do, or one an image."""
    rows, counts = object_rows(boxes), row_counts(boxes)
    batch, most = rows.shape
    shapes: object
    allowed: list[object]
    if isinstance(labels, Tensor):
        shapes, allowed = tuple(labels.shape), [(batch, most), (batch,), *[(most,)] * (batch == 1)]
    else:
        shapes = [tuple(row.shape) if isinstance(row, Tensor) else type(row).__name__ for row in labels]
        allowed = [[(count,) for count in counts]]
    if shapes not in allowed:
        raise ValueError(
            f"class: expected labels of shape {(batch, most)}, one a box, or {(batch,)}, one an image, or a list of "
            f"one tensor an image, of {counts} rows, got {shapes}."
        )
    if not isinstance(labels, Tensor):
        labels = torch.nn.utils.rnn.pad_sequence(list(labels), batch_first=True)
    elif labels.shape != rows.shape and labels.shape == (batch,):
        labels = labels[:, None].expand(rows.shape)
    return labels.reshape(rows.shape)[rows.to(labels.device)]


def follow_keypoints(
    keypoints: Keypoints,
    objects: Drawn,
    order: Tensor,
    painted: Tensor,
    batch_size: int,
    sequential: bool,
    align_corners: bool,
) -> Keypoints:
    """Kornia's keypoints of ``batch_size`` images, moved as `follow_points` does. Those that stay keep their bits."""
    data = keypoints.data if keypoints.data.ndim == 3 else keypoints.data[None]  # (B, K, 2)
    if len(data) != batch_size:
        raise ValueError(f"keypoints: expected points of {batch_size} images, as many as images, got {len(data)}.")
    points = data + 0.5  # Kornia counts in pixel centres
    moved = follow_points(points, objects, order, painted, sequential, align_corners)
    followed = with_bits_of(data, (moved - 0.5).to(data.dtype), moved == points)
    return with_points(keypoints, followed.reshape(keypoints.data.shape))


def follow_own_points(
    keypoints: Keypoints, objects: Drawn, column: Tensor, count: int, align_corners: bool
) -> Keypoints:
    """Kornia's keypoints ``(B, M count, 2)``, ``count`` an object, each moved with its own object."""
    data = keypoints.data
    by_object = data.unflatten(1, (-1, count))  # (B, M, K, 2)
    own = objects.obj_to_img, column
    points = by_object[own] + 0.5  # Kornia counts in pixel centres
    moved = move_points(points, objects.boxes, objects.theta, align_corners=align_corners) - 0.5
    moved = with_bits_of(by_object[own], moved.to(data.dtype), stays(objects.theta)[:, None, None])
    return with_points(keypoints, by_object.index_put(own, moved).flatten(1, 2))


@full_precision
def follow_points(
    points: Tensor, objects: Drawn, order: Tensor, painted: Tensor, sequential: bool, align_corners: bool
) -> Tensor:
    """Points ``(B, K, 2)``, each moved with the topmost patch of its image that holds it.

    ``order (N,)``: the rows in the order in which they are painted. Sequential patches read what earlier ones painted:
    there the point moves with each patch that holds it, in that order, until one of them takes it out of what is
    painted. A point that no patch holds, or one whose theta is the identity, keeps its bits.
    """
    boxes, theta, obj_to_img, _ = objects
    dtype = working_dtype(points, boxes, theta)
    moved, boxes, theta = points.to(dtype), boxes.to(dtype), theta.to(dtype)
    dst_from_src = centred_matrices(invert_theta(theta), half_sizes(boxes, align_corners))  # names the row as it came
    given = boxes, theta, obj_to_img, painted.to(dtype), dst_from_src
    boxes, theta, obj_to_img, painted, dst_from_src = (part[order] for part in given)
    centre, (first, stop), still = centres(boxes), painted.split(2, dim=1), stays(theta)
    next_row = torch.zeros(points.shape[:2], dtype=torch.int64, device=boxes.device)
    while True:
        holder = holders(moved.detach(), boxes.detach(), obj_to_img, next_row, lowest=sequential)
        held = holder >= 0
        if not held.any():
            return moved
        row = holder[held]
        goal = carry(moved[held][:, None], dst_from_src[row], centre[row])[:, 0]
        moved = moved.index_put((held,), with_bits_of(moved[held], goal, still[row, None]))
        if not sequential:
            return moved
        in_sight = ((moved[held] >= first[row]) & (moved[held] < stop[row])).all(1)
        next_row = torch.full_like(next_row, len(boxes)).index_put((held,), torch.where(in_sight, row + 1, len(boxes)))


def holders(points: Tensor, boxes: Tensor, obj_to_img: Tensor, next_row: Tensor, *, lowest: bool) -> Tensor:
    """The row ``(B, K)`` of the topmost object, or the lowest, whose box holds each point ``(B, K, 2)``, or -1.

    Only objects of the point's own image from ``next_row (B, K)`` on count. Images with as many objects are compared
    together, `PAIRS_AT_ONCE` pairs at once.
    """
    order, holder = obj_to_img.argsort(stable=True), torch.full_like(next_row, -1)
    counts = torch.bincount(obj_to_img, minlength=len(points))
    start = counts.cumsum(0) - counts
    counts = counts.where((next_row < len(boxes)).any(1), 0)
    for count in counts[counts > 0].unique().tolist():
        most = PAIRS_AT_ONCE // count + 1  # points
        rank = torch.arange(1, count + 1, dtype=torch.int32, device=points.device)
        for columns in torch.arange(points.shape[1], device=points.device).split(most):
            for images in (counts == count).nonzero().split(most // max(len(columns), 1) + 1):  # (b, 1)
                rows = order[start[images] + rank - 1]  # (b, n)
                x, y = points[images, columns][..., None].unbind(2)  # (b, k, 1)
                x1, y1, x2, y2 = boxes.mT[:, rows][:, :, None]  # (b, 1, n)
                holds = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
                holds &= rows[:, None] >= next_row[images, columns][..., None]
                place = (holds * (rank.flip(0) if lowest else rank)).argmax(2)
                holder[images, columns] = rows.gather(1, place).where(holds.any(2), -1)
    return holder


def _pair(labels: Boxes, obj_to_img: Tensor) -> tuple[Tensor, Tensor]:
    """The image and row ``(N,)`` of the label of each object, which come in one order within an image; or raise."""
    count, order = len(obj_to_img), obj_to_img.argsort(stable=True)
    images, rows = object_rows(labels, count).nonzero().unbind(1)
    if not torch.equal(images, obj_to_img[order]):
        raise ValueError(
            f"bbox: expected one row an object, so that each box follows its own ({count} objects in images "
            f"{obj_to_img[order].tolist()}), got {len(images)} rows in images {images.tolist()}."
        )
    rank = order.argsort()
    return images[rank], rows[rank]


def stays(theta: Tensor) -> Tensor:
    """``(N,)`` bool: whether theta is the identity."""
    return (theta == identity_theta(theta)).flatten(1).all(1)


def _shown(box: Tensor) -> list[float]:
    return [round(number, 2) for number in box.tolist()]
