"""Labels of which each object has its own: masks and keypoints that move with it alone, and lose what covers it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kornia_patchaug import kernels
from kornia_patchaug.draw import Drawn
from kornia_patchaug.frames import identity_theta
from kornia_patchaug.functional import CLEAR_PADDINGS, PADDINGS, Padding, sampling_of
from kornia_patchaug.labels import stays
from kornia_patchaug.objects import Source, check_objects
from kornia_patchaug.painting import planned, read_by
from kornia_patchaug.plan import PADDINGS as RULES
from kornia_patchaug.plan import Windows


class Geometry(NamedTuple):
    """How objects are read and painted, as the functions take it."""

    padding_mode: Padding
    align_corners: bool
    clip: bool


class Reading(NamedTuple):
    """What objects read that do not read their own place."""

    pictures: Tensor  # (S, 1, h, w)
    boxes: Tensor  # (N, 4)
    which: Tensor  # (N,)


def hard_pixels(
    canvas: Tensor, objects: Drawn, alpha: Tensor | None, geometry: Geometry, read: Reading
) -> tuple[Tensor, Tensor, Windows]:
    """Labels that objects read ``(C, P)``, where these are half opaque or more ``(P,)``, and the windows of the pixels
    of a canvas."""
    boxes, theta, obj_to_img, _ = objects
    padding = geometry.padding_mode
    sampling = sampling_of("nearest", padding, geometry.align_corners, PADDINGS if geometry.clip else CLEAR_PADDINGS)
    source = Source(*read, ("source", "source_boxes", "source_to_img"))
    found = check_objects(canvas, boxes, obj_to_img, theta, alpha, source)
    found, plan = planned(canvas, read.pictures, found, sampling, RULES[padding].surroundings, geometry.clip)
    values, opacity = kernels.sample_opaque(read.pictures, *read_by(found, plan))
    whole = opacity > 0.5
    return torch.where(whole, values / opacity.where(whole, 1), 0), whole, plan.windows


def topmost(
    objects: Drawn,
    order: Tensor,
    count: int,
    size: tuple[int, int],
    alpha: Tensor | None,
    geometry: Geometry,
    read: tuple[Tensor, tuple[int, int]] | None = None,
) -> Tensor:
    """``(B, H, W)`` int64: of each pixel of ``count`` images which object is painted last, by its number in ``order
    (N,)`` of painting, from 1 on; 0 where none is.

    Each object is painted as a picture of its own number, whatever it shows. ``read``: boxes ``(N, 4)`` in pictures of
    another size that it reads, if it does not read its own place.
    """
    drawn = Drawn(*(part[order] for part in objects))
    boxes, rows = drawn.boxes, torch.arange(len(order), device=order.device)
    source_boxes, source_size = (boxes, size) if read is None else (read[0][order], read[1])
    numbers = (rows + 1).to(boxes).view(-1, 1, 1, 1).expand(-1, 1, *source_size)
    if not geometry.clip or geometry.padding_mode == "transparent":
        geometry = geometry._replace(padding_mode="transparent")
    else:  # other modes paint all of a window, whatever they read
        geometry = geometry._replace(padding_mode="border")
    reading = Reading(numbers, source_boxes, rows)
    alpha = None if alpha is None else alpha[order]
    canvas = boxes.new_zeros(count, 1, *size)
    values, whole, windows = hard_pixels(canvas, drawn, alpha, geometry, reading)
    return kernels.composite(canvas, values, whole.to(values.dtype), windows)[:, 0].round().long()


def follow_masks(
    masks: Tensor,
    objects: Drawn,
    column: Tensor,
    order: Tensor,
    alpha: Tensor | None,
    geometry: Geometry,
    taken: Tensor | None,
) -> Tensor:
    """Instance masks ``(B, M, H, W)``, a channel an object: each moved with its own, without what is painted over it.

    ``order (N,)``: the rows in the order in which they are painted; ``column (N,)``: the channel of each; ``taken
    (B, H, W)``: what was taken off before, as `taken_off` tells it.
    """
    size = masks.shape[2], masks.shape[3]
    above = topmost(objects, order, len(masks), size, alpha, geometry)
    theta, rank, still = objects.theta[order], ranks(objects, order), stays(objects.theta)
    image, channel = objects.obj_to_img, objects.obj_to_img * masks.shape[1] + column

    def lost(rows: Tensor, numbers: Tensor) -> Tensor:
        """Where objects ``(n,)`` lose pixels of images to those that `topmost` numbers, ``(n, H, W)``."""
        return hides(numbers[image[rows]], theta, rank[rows, None, None], still[rows, None, None])

    found = masks.clone()
    if taken is not None:
        found[image, column] = masks[image, column] * ~lost(torch.arange(len(image), device=image.device), taken)
    stay, move = still.nonzero()[:, 0], (~still).nonzero()[:, 0]
    left = found[image[stay], column[stay]] * ~lost(stay, above)
    read = Reading(found.flatten(0, 1)[:, None], objects.boxes[move], channel[move])
    moving, alpha = Drawn(*(part[move] for part in objects)), None if alpha is None else alpha[move]
    values, whole, obj, y, x = pixels_of_masks(moving, read, size, alpha, geometry)
    seen = whole & ~hides(above[image[move][obj], y, x], theta, rank[move][obj], still.new_zeros(()))
    found = found.flatten(0, 1).index_fill(0, channel, 0).reshape(masks.shape)
    found = found.index_put((image[stay], column[stay]), left)
    return found.index_put((image[move][obj], column[move][obj], y, x), values * seen)


def pixels_of_masks(
    objects: Drawn, read: Reading, size: tuple[int, int], alpha: Tensor | None, geometry: Geometry
) -> tuple[Tensor, ...]:
    """What becomes of objects' masks, in the pixels of images that may be painted of them: values, whether they are
    painted, whose they are, row and column, ``(P,)`` each."""
    each = torch.arange(len(objects.boxes), device=objects.boxes.device)
    canvas = read.pictures.new_zeros(1, 1, 1, 1).expand(len(each), 1, *size)  # one for each, of no memory
    values, whole, windows = hard_pixels(canvas, objects._replace(obj_to_img=each), alpha, geometry, read)
    return values[0], whole, *windows.places(each.device)


def taken_off(
    objects: Drawn, order: Tensor, count: int, size: tuple[int, int], alpha: Tensor | None, grow: float
) -> Tensor:
    """`topmost` of the holes of objects that are taken off their image before others are read, ``(B, H, W)``.

    ``grow``: by which share of its size that of a soft one that moves is larger; half of it is opaque.
    """
    boxes, theta, obj_to_img, active = objects
    more = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) * (grow / 4) * (~stays(theta) & (alpha is not None))[:, None]
    holes = boxes + more * boxes.new_tensor([-1.0, -1.0, 1.0, 1.0])
    still = Drawn(holes, identity_theta(holes), obj_to_img, active)
    return topmost(still, order, count, size, alpha, Geometry("border", align_corners=False, clip=True))


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
    """The half-open boxes ``(..., 4)`` of what is above 0 in masks ``(..., H, W)``, and which of these have any."""
    sides = []
    for dim in (-2, -1):  # columns, then rows
        line = (masks.amax(dim) > 0).to(torch.uint8)
        sides.append((line.argmax(-1), line.shape[-1] - line.flip(-1).argmax(-1)))
    (x1, x2), (y1, y2) = sides
    any_of_it = line.bool().any(-1)
    return torch.stack([x1, y1, x2, y2], dim=-1) * any_of_it[..., None], any_of_it
