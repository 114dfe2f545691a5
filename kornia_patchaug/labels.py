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
from kornia_patchaug.kornia_names import corners_and_validity, object_rows, row_counts, with_corners, with_points
from kornia_patchaug.theta import invert_theta, move_points

# Pairs of a point and an object that are compared at once, which bounds the memory of that step to some 50 MB.
PAIRS_AT_ONCE = 1 << 19
# Bound boxes may be rounded to whole pixels, or scaled by another convention than Kornia's.
SAME_BOX = 1.001


def follow_boxes(labels: Boxes, objects: Drawn, painted: Tensor, align_corners: bool) -> Boxes:
    """Labels, one row an object: the enclosing boxes of their moved corners, clipped to what is painted of the object.

    ``painted (N, 4)`` holds the first pixel and one past the last that is painted of each object. A row that moves out
    of sight is marked as removed, which Kornia exports as zeros. A row whose object is gated off, or whose theta is the
    identity, keeps its bits.
    """
    order, where = _pair(labels, objects.obj_to_img)
    boxes, theta, _, active = (part[order] for part in objects)
    data, valid = corners_and_validity(labels)
    label_boxes = half_open(data[where])
    boxes = boxes.to(working_dtype(label_boxes, boxes, theta))
    moved = move_points(corners_of(label_boxes), boxes, theta, align_corners=align_corners)
    still = _is_identity(theta)[:, None]
    limits = painted[order].to(boxes.dtype).where(~still, boxes.new_tensor([-inf, -inf, inf, inf]))
    low, high = enclosing(moved, *limits.split(2, dim=1)).split(2, dim=1)
    last = (high - 1).maximum(low)  # Kornia's boxes hold their last pixel, so that one pixel is the least
    corners = corners_of(torch.cat([low, last], dim=1)).to(data.dtype)
    corners = with_bits_of(data[where], corners, still[:, None]).where(active[:, None, None], data[where])
    seen = (high > low).all(1) | ~active
    return with_corners(labels, data.index_put(where, corners), valid.index_put(where, valid[where] & seen))


def check_bound_boxes(labels: Boxes, boxes: Tensor, obj_to_img: Tensor) -> None:
    """Raise unless bound ``boxes (N, 4)`` are those of a container's box key at this step, within a pixel."""
    order, where = _pair(labels, obj_to_img)
    data, valid = corners_and_validity(labels)
    found, bound = half_open(data[where]), boxes[order]
    apart = ((found - bound).abs() > SAME_BOX).any(1) & valid[where]
    if apart.any():
        row = int(apart.nonzero()[0])
        raise ValueError(
            f"boxes: expected the bound boxes to be those of the container at this step, {_shown(found[row])}, got "
            f"{_shown(bound[row])} in row {int(order[row])}. Did a step before move them? Bind boxes as that leaves "
            "them, or use PatchAugmentationSequential, which hands them on."
        )


def with_bits_of(label: Tensor, moved: Tensor, still: Tensor) -> Tensor:
    """``moved``, and where it is ``still`` the bits of ``label`` with the gradient of ``moved``."""
    return (label.detach() + (moved - moved.detach())).where(still, moved)


def objects_of(boxes: Boxes, batch_size: int) -> dict[str, Tensor]:
    """``boxes (N, 4)`` and ``obj_to_img (N,)`` of the rows that came as objects; removed ones are empty boxes."""
    rows = object_rows(boxes)
    if len(rows) != batch_size:
        raise ValueError(f"boxes: expected boxes of {batch_size} images, as many as images, got {len(rows)}.")
    data, valid = corners_and_validity(boxes)
    return {"boxes": half_open(data[rows]).where(valid[rows][:, None], 0), "obj_to_img": rows.nonzero()[:, 0]}


def half_open(corners: Tensor) -> Tensor:
    """``(N, 4)`` half-open boxes around Kornia's corners ``(N, 4, 2)``, which hold the last pixel."""
    return torch.cat([corners.amin(1), corners.amax(1) + 1], dim=-1)


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
    keypoints: Keypoints, objects: Drawn, painted: Tensor, batch_size: int, sequential: bool, align_corners: bool
) -> Keypoints:
    """Kornia's keypoints of ``batch_size`` images, moved as `follow_points` does. Those that stay keep their bits."""
    data = keypoints.data if keypoints.data.ndim == 3 else keypoints.data[None]  # (B, K, 2)
    if len(data) != batch_size:
        raise ValueError(f"keypoints: expected points of {batch_size} images, as many as images, got {len(data)}.")
    points = data + 0.5  # Kornia counts in pixel centres
    moved = follow_points(points, objects, painted, sequential, align_corners)
    followed = with_bits_of(data, (moved - 0.5).to(data.dtype), moved == points)
    return with_points(keypoints, followed.reshape(keypoints.data.shape))


@full_precision
def follow_points(points: Tensor, objects: Drawn, painted: Tensor, sequential: bool, align_corners: bool) -> Tensor:
    """Points ``(B, K, 2)``, each moved with the topmost patch of its image that holds it.

    Sequential patches read what earlier ones painted: there the point moves with each patch that holds it, in row
    order, until one of them takes it out of what is painted. A point that no patch holds, or one whose theta is the
    identity, keeps its bits.
    """
    boxes, theta, obj_to_img, _ = objects
    dtype = working_dtype(points, boxes, theta)
    moved, boxes, theta = points.to(dtype).flatten(0, 1), boxes.to(dtype), theta.to(dtype)
    dst_from_src = centred_matrices(invert_theta(theta), half_sizes(boxes, align_corners))
    centre, (first, stop), still = centres(boxes), painted.to(dtype).split(2, dim=1), _is_identity(theta)
    moving = torch.arange(len(moved), device=boxes.device)  # rows of the points that may still move
    image = moving // max(points.shape[1], 1)
    next_row = torch.zeros_like(moving)
    while len(moving):
        holder = _holders(
            moved[moving].detach(), image[moving], boxes.detach(), obj_to_img, next_row, lowest=sequential
        )
        moving, holder = moving[holder >= 0], holder[holder >= 0]
        goal = carry(moved[moving, None], dst_from_src[holder], centre[holder])[:, 0]
        moved = moved.index_put((moving,), with_bits_of(moved[moving], goal, still[holder, None]))
        if not sequential:
            break
        in_sight = ((moved[moving] >= first[holder]) & (moved[moving] < stop[holder])).all(1)
        moving, next_row = moving[in_sight], holder[in_sight] + 1
    return moved.reshape(points.shape)


def _holders(
    points: Tensor, image: Tensor, boxes: Tensor, obj_to_img: Tensor, next_row: Tensor, *, lowest: bool
) -> Tensor:
    """The row ``(Q,)`` of the topmost object, or the lowest, whose box holds each point, or -1.

    Only objects of the point's own image from ``next_row (Q,)`` on count; `PAIRS_AT_ONCE` pairs are compared at once.
    """
    order = obj_to_img.argsort(stable=True)
    counts = torch.bincount(obj_to_img, minlength=int(image.max()) + 1)
    start, pairs = counts.cumsum(0) - counts, counts[image]
    blocks = (pairs.cumsum(0) - pairs) // PAIRS_AT_ONCE
    found = [image.new_empty(0)]
    for rows in torch.arange(len(points), device=points.device).split(
        [n for n in torch.bincount(blocks).tolist() if n]
    ):
        count = pairs[rows]
        point = rows.repeat_interleave(count)
        place = torch.arange(len(point), device=points.device) - (count.cumsum(0) - count).repeat_interleave(count)
        obj = order[start[image[point]] + place]
        at = points[point]
        holds = ((at >= boxes[obj, :2]) & (at < boxes[obj, 2:])).all(1) & (obj >= next_row[point])
        rank = (len(boxes) - 1 - obj if lowest else obj).where(holds, -1)
        best = torch.full_like(rows, -1).scatter_reduce(0, point - rows[0], rank, "amax")
        found.append((len(boxes) - 1 - best).where(best >= 0, -1) if lowest else best)
    return torch.cat(found)


def _pair(labels: Boxes, obj_to_img: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The objects ``(N,)`` image by image, and the image and row of the label of each; or raise."""
    count, order = len(obj_to_img), obj_to_img.argsort(stable=True)
    where = object_rows(labels, count).nonzero().unbind(1)
    if not torch.equal(where[0], obj_to_img[order]):
        raise ValueError(
            f"bbox: expected one row an object, so that each box follows its own ({count} objects in images "
            f"{obj_to_img[order].tolist()}), got {len(where[0])} rows in images {where[0].tolist()}."
        )
    return order, where


def _is_identity(theta: Tensor) -> Tensor:
    """``(N,)`` bool."""
    return (theta == identity_theta(theta)).flatten(1).all(1)


def _shown(box: Tensor) -> list[float]:
    return [round(number, 2) for number in box.tolist()]
