"""From checked objects to painted images: their plans; all at once, each from what those before it left, or peeled off
first; in one pass, or by Kornia's own crop and warp (``patch_size=``)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from kornia.geometry.transform import crop_and_resize, warp_affine
from torch import Tensor

import kornia_patchaug.kernels as kernels
from kornia_patchaug.fills import fill_holes
from kornia_patchaug.frames import (
    centred_matrices,
    centres,
    corners_of,
    half_sizes,
    identity_theta,
    painted_pixels,
    reached_pixels,
    safe_ratio,
    whole_boxes,
    whole_pixels,
)
from kornia_patchaug.layers import layers
from kornia_patchaug.objects import Objects
from kornia_patchaug.plan import (
    FIRST_X,
    LEFT,
    LOW_X,
    ORIGIN_X,
    PICTURE,
    START,
    WIDTH,
    Beyond,
    Plan,
    Reads,
    Sampling,
    Windows,
    image_plan,
    last_pixels,
)
from kornia_patchaug.theta import invert_theta
from kornia_patchaug.transfers import CAPTURED, sent

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Kornia's words, and torch's, for what lies beyond, by the number of `Beyond`.
BEYOND_WORDS = ("zeros", "border", "reflection")
SLIM = 0.1  # pixels; Kornia's matrices of slimmer boxes are singular, to rounding
FAR = 1e6  # box frames; from there on a patch is out of sight, and torch's grids stay finite


class Fill(NamedTuple):
    """What objects leave behind where they are taken off."""

    shown: Tensor | None  # a colour (C,), pictures (B, C, H, W), or None: the surroundings
    grow: float  # of a soft object that moves: by which share of its size more is taken off


def planned(
    canvas: Tensor,
    source: Tensor,
    objects: Objects,
    sampling: Sampling,
    surroundings: bool,
    clip: bool,
    painted: NDArray[np.float64] | None = None,
) -> tuple[Objects, Plan]:
    """How objects are read from a source and painted over a canvas, with their alpha as kernels take it.

    ``surroundings``: an object may read all of its picture. Without ``clip`` it is painted wherever it lands, or in the
    pixels ``painted (N, 4)``.
    """
    masked = objects.alpha is not None and objects.alpha.ndim == 3
    if not clip or (masked and sampling.beyond == Beyond.ZERO):
        sampling = sampling._replace(by_reach=True)
    if not clip and painted is None:
        painted = reached(objects, source, (0, 0, canvas.shape[3], canvas.shape[2]), sampling)[0]
    plan = image_plan(objects.host_boxes, objects.host_image, canvas, sampling, surroundings, painted)
    if objects.source_boxes is not None:
        origin, windows, there = (
            whole_pixels(objects.host_source_boxes)[:, :2],
            plan.windows.host,
            readable_pixels(objects, source),
        )
        windows[(there[:, 2:] <= there[:, :2]).any(1), WIDTH:START] = 0
        limits = last_pixels(source) - np.tile(origin, 2) if surroundings else _patches(objects, origin)
        plan = replace(plan, reads=Reads.of(source, objects.host_picture, origin, limits), windows=Windows(windows))
    if surroundings:  # of a picture, which is much more than most read
        plan = replace(plan, reached=partial(read_areas, last_pixels(source), objects, plan))
    return (
        (objects, plan)
        if objects.alpha is None or objects.alpha.ndim == 1
        else _with_alpha(objects.alpha, objects, plan)
    )


def _with_alpha(alpha: Tensor, objects: Objects, plan: Plan) -> tuple[Objects, Plan]:
    """Objects and plan with how mattes ``(N, 1, h, w)`` or masks ``(N, H, W)`` are read.

    A matte is laid over what each object reads. It continues beyond its edge, or is mirrored with its patch. A mask is
    read where its object is, and does not continue; but where the reach R is part of opacity that ends it already.
    """
    sampling, alpha_boxes = plan.sampling._replace(by_reach=False), objects.source_boxes
    if alpha.ndim == 4:
        reads, alpha_boxes = Reads.whole(alpha), whole_boxes(alpha, objects.boxes)
        if sampling.align_corners:  # one place of a frame without width, whatever theta: the middle
            frames = objects.host_boxes, objects.host_source_boxes
            flat = np.logical_and(*(frame[:, 2:] - frame[:, :2] <= 1 for frame in frames))
            if flat.any():
                there = sent(torch.from_numpy(np.tile(flat, 2)), alpha_boxes.device)
                alpha_boxes = torch.where(there, centres(alpha_boxes).repeat(1, 2), alpha_boxes)
        beyond = Beyond.MIRROR if sampling.beyond == Beyond.MIRROR else Beyond.NEAREST
    else:
        which = np.arange(len(alpha))
        if not (alpha.requires_grad or alpha.stride(0)):  # one for all, of which kernels would make as many
            alpha, which = alpha[:1], which * 0
        alpha = alpha[:, None] if alpha.is_floating_point() else alpha[:, None].view(torch.uint8)
        origin = plan.reads.host[:, ORIGIN_X:LOW_X]
        reads = Reads.of(alpha, which, origin, _patches(objects, origin))
        beyond = Beyond.NEAREST if plan.sampling.by_reach else Beyond.ZERO
    opacity = Plan(reads, plan.windows, sampling._replace(beyond=beyond), box_coverage=False)
    return objects._replace(alpha=alpha, alpha_boxes=alpha_boxes), replace(plan, opacity=opacity)


def _patches(objects: Objects, origin: NDArray[np.number]) -> NDArray[np.number]:
    """The first and last pixel of each object's patch, counted from an origin."""
    return whole_pixels(objects.host_source_boxes) - np.concatenate((origin, origin + 1), axis=1)


def readable_pixels(objects: Objects, source: Tensor) -> NDArray[np.float64]:
    """What there is of each object's patch in the picture that it reads, ``(N, 4)``."""
    return painted_pixels(objects.host_source_boxes, source.shape[2], source.shape[3])


def reached(
    objects: Objects, source: Tensor, limits: tuple[int, int, int, int], sampling: Sampling
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`frames.reached_pixels` of objects on the host."""
    if np.isnan(objects.host_theta).any():
        raise RuntimeError(CAPTURED)
    read = None if objects.source_boxes is None else objects.host_source_boxes
    given = readable_pixels(objects, source), objects.host_boxes, read, objects.host_theta
    return reached_pixels(*given, np.array(limits, np.float64), sampling.align_corners)


def paint_objects(canvas: Tensor, objects: Objects, plan: Plan, size: tuple[int, int] | None) -> Tensor:
    """Read every object's pixels once, where theta leads, and paint them; with a ``size``, crop to that and warp on
    Kornia's own functions, then lay over the window."""
    if size is not None:
        return kernels.composite(canvas, *_read(canvas, objects, plan, size), plan.windows)
    return kernels.paint(canvas, canvas, *read_by(objects, plan))


def read_by(objects: Objects, plan: Plan) -> tuple[Tensor, Tensor, Plan, Tensor | None, Tensor | None, Tensor | None]:
    """What kernels take after the pictures."""
    return objects.theta, objects.boxes, plan, objects.alpha, objects.source_boxes, objects.alpha_boxes


def paint_in_turn(canvas: Tensor, objects: Objects, plan: Plan, size: tuple[int, int] | None) -> Tensor:
    """Paint objects of which each reads the canvas as those before it left it."""
    if size is None and kernels.paints_in_turn(canvas.device):
        return kernels.paint(None, canvas, *read_by(objects, plan))
    areas, picture = read_areas(last_pixels(canvas), objects, plan), kernels.Canvas(canvas, objects.boxes.dtype)
    plan = replace(plan, reached=lambda: areas)
    for rows in layers(plan.windows, areas):
        some, of_some = objects.select(torch.from_numpy(rows)), plan.rows(rows)
        kernels.composite(picture, *_read(picture, some, of_some, size), of_some.windows)
    return _as_it_came(picture.finished(), canvas)


def _as_it_came(painted: Tensor, images: Tensor) -> Tensor:
    """In the dtype and memory format of images."""
    if images.dtype == painted.dtype and images.is_contiguous():
        return painted
    return torch.empty_like(images).copy_(painted)


def paint_peeled(images: Tensor, objects: Objects, plan: Plan, size: tuple[int, int] | None, fill: Fill) -> Tensor:
    """Take objects off, from the last to the first, and fill the hole that each leaves; then lay all over what is left.

    So each is read as those above it left it. Objects of a layer, which are apart, go together.
    """
    areas, (holes, of_holes) = read_areas(last_pixels(images), objects, plan), _holes(images, objects, plan, fill.grow)
    picture, upside_down = kernels.Canvas(images, objects.boxes.dtype), np.arange(len(areas.host))[::-1]
    places, room = packed(areas)
    aside = kernels.Canvas.blank((1, images.shape[1], *room), objects.boxes)
    known, crops, order = torch.ones_like(images[:, :1], dtype=torch.uint8), list[Tensor](), list[int]()
    masked = plan.opacity is not None and objects.alpha_boxes is None  # read where the object is, as mattes are not
    for layer in layers(of_holes.windows.rows(upside_down), areas.rows(upside_down)):
        rows = np.sort(upside_down[layer])
        if size is None:
            picture.copy_to(aside, areas.rows(rows), places.rows(rows))
        else:
            paints = rows[plan.windows.areas[rows] > 0]
            crops.append(_cropped(picture.copied(), objects.select(torch.from_numpy(paints)), plan.rows(paints), size))
            order += paints.tolist()
        fill_holes(picture, known, holes.select(torch.from_numpy(rows)), of_holes.rows(rows), fill.shown, masked)
    if size is None:
        host = plan.reads.host.copy()
        host[:, PICTURE] = 0
        host[:, ORIGIN_X:LOW_X] += places.host[:, LEFT:WIDTH] - areas.host[:, LEFT:WIDTH]
        plan = replace(plan, reads=Reads(host), reached=lambda: places)
        kernels.paint(aside.finished(), picture, *read_by(objects, plan))
    else:
        kernels.composite(
            picture, *_laid_over(torch.cat(crops), objects, plan, np.array(order, np.int64)), plan.windows
        )
    return _as_it_came(picture.finished(), images)


def packed(areas: Windows) -> tuple[Windows, tuple[int, int]]:
    """Places for areas side by side on one sheet, in shelves, and the height and width of that."""
    sides = areas.host[:, WIDTH:START]
    width, order = max(sides[:, 0].max(initial=1), math.isqrt(areas.total)), (-sides[:, 1]).argsort(kind="stable")
    first, left, top, below = np.zeros_like(sides), 0, 0, 1
    for n in order.tolist():
        across, down = sides[n].tolist()
        if left + across > width:
            left, top = 0, below
        first[n], left, below = (left, top), left + across, max(below, top + down)
    return Windows.of(np.zeros(len(sides), np.int64), first, first + sides), (below, int(width))


def _holes(images: Tensor, objects: Objects, plan: Plan, grow: float) -> tuple[Objects, Plan]:
    """Objects where they are, and with which opacity they are taken off.

    Mattes end short of their object: a rim of it would stay. So where one moves, its box and alpha are larger.
    """
    boxes, host, read, opacity = objects.boxes, objects.host_boxes, objects.alpha_boxes, plan.opacity
    if objects.alpha is not None and opacity is not None:
        moves = (objects.host_theta != np.eye(2, 3)).any((1, 2))[:, None] * (grow / 2)
        host = host + moves * (host[:, [2, 3, 2, 3]] - host[:, [0, 1, 0, 1]]) * (-1, -1, 1, 1)
        more = torch.from_numpy(moves).to(boxes) * (boxes[:, 2:] - boxes[:, :2])
        boxes, read = (
            boxes + torch.cat([-more, more], dim=1),
            boxes if read is None else whole_boxes(objects.alpha, boxes),
        )
    painted, there = painted_pixels(host, *images.shape[2:]), readable_pixels(objects, images)
    painted[(there[:, 2:] <= there[:, :2]).any(1)] = 0
    holes = Windows.of(objects.host_image, painted[:, :2], painted[:, 2:])
    if opacity is not None:
        beyond = Beyond.MIRROR if opacity.sampling.beyond == Beyond.MIRROR else Beyond.NEAREST  # as where it is painted
        opacity = replace(opacity, windows=holes, sampling=opacity.sampling._replace(beyond=beyond))
    of_holes = Plan(plan.reads, holes, plan.sampling, box_coverage=True, opacity=opacity)
    return objects._replace(boxes=boxes, theta=identity_theta(boxes), alpha_boxes=read), of_holes


def _read(
    canvas: Tensor | kernels.Canvas, objects: Objects, plan: Plan, size: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    """What is painted of each window pixel, ``(C, P)``, and its opacity ``(P,)``."""
    if size is None:
        return kernels.sample_opaque(canvas, *read_by(objects, plan))
    paints = np.flatnonzero(plan.windows.areas)
    pictures = canvas.copied() if isinstance(canvas, kernels.Canvas) else canvas
    crops = _cropped(pictures, objects.select(torch.from_numpy(paints)), plan.rows(paints), size)
    return _laid_over(crops, objects, plan, paints)


def _laid_over(crops: Tensor, objects: Objects, plan: Plan, paints: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The same of crops, of the rows ``paints`` in their order, which are those that paint anything."""
    order = paints.argsort()
    rows = paints[order]
    if len(rows) < len(plan.windows.areas):
        objects, plan = objects.select(torch.from_numpy(rows)), plan.rows(rows)
    patches = _warped(crops[torch.from_numpy(order).to(crops.device)], objects, plan)
    sampling = plan.sampling._replace(beyond=Beyond.NEAREST, by_reach=False)
    laid_over = Plan(Reads.whole(patches), plan.windows, sampling, box_coverage=True)
    whole = whole_boxes(patches, objects.boxes)
    values, coverage = kernels.sample(patches, identity_theta(objects.boxes), objects.boxes, laid_over, whole)
    values, coverage = values[:-1], values[-1] if plan.sampling.by_reach else coverage
    if objects.alpha is None:
        return values, coverage
    opacity = kernels.opacity_of_pixels(objects.alpha, objects.theta, objects.boxes, plan, objects.alpha_boxes)
    return opacity * values, opacity * coverage


def read_areas(last: NDArray[np.int64], objects: Objects, plan: Plan) -> Windows:
    """The pixels that each object may read of its picture, as windows; ``last`` are the `last_pixels` of pictures."""
    boxes, read_boxes = torch.from_numpy(objects.host_boxes), torch.from_numpy(objects.host_source_boxes)
    theta, align_corners = torch.from_numpy(objects.host_theta), plan.sampling.align_corners
    window, reads = torch.from_numpy(plan.windows.host), plan.reads.host
    limits = reads[:, FIRST_X:] + np.tile(reads[:, ORIGIN_X:LOW_X], 2)
    first, final = torch.from_numpy(limits.clip(0, np.tile(last[2:], 2))).double().split(2, dim=1)
    low, high = first, final
    if plan.sampling.beyond != Beyond.MIRROR:  # which may lead from anywhere to anywhere
        src_from_dst = centred_matrices(theta, half_sizes(boxes, align_corners), half_sizes(read_boxes, align_corners))
        outermost = torch.cat([window[:, LEFT:WIDTH], window[:, LEFT:WIDTH] + window[:, WIDTH:START] - 1], dim=1) + 0.5
        offsets = corners_of(outermost) - centres(boxes)[:, None]  # (N, 4, 2)
        read = offsets @ src_from_dst[..., :2].mT + (src_from_dst[..., 2] + centres(read_boxes))[:, None] - 0.5
        # A pixel of margin: the device rounds differently. What is not a number may be read anywhere.
        low, high = read.amin(1).floor() - 1, read.amax(1).ceil() + 1
        low, high = low.nan_to_num(-torch.inf).clamp(first, final), high.nan_to_num(torch.inf).clamp(first, final)
    return Windows.of(objects.host_picture, low.numpy(), high.numpy() + 1)


def cut_out(images: Tensor, objects: Objects, size: tuple[int, int], sampling: Sampling) -> Tensor:
    """The objects' boxes resized to ``size``, ``(N, C, h, w)``, each by its theta."""
    count, (height, width) = len(objects.boxes), size
    first = whole_pixels(objects.host_boxes)[:, :2]
    limits = last_pixels(images) - np.concatenate((first, first), axis=1)
    reads = Reads.of(images, objects.host_image, first, limits)
    plan = Plan(reads, Windows.regular(count, height, width), sampling, box_coverage=False)
    target = torch.tensor([[0, 0, width, height]], dtype=objects.boxes.dtype, device="cpu")
    target = sent(target, images.device).expand(count, 4)
    values, _ = kernels.sample(images, objects.theta, target, plan, objects.boxes)
    return values.view(images.shape[1], count, height, width).transpose(0, 1)


def _cropped(source: Tensor, objects: Objects, plan: Plan, size: tuple[int, int]) -> Tensor:
    """Kornia's crops ``(N, C + 1, h, w)``, the last channel of which is the reach in the image."""
    sampling, boxes = plan.sampling, objects.boxes
    beyond = Beyond.ZERO if sampling.beyond == Beyond.ZERO else Beyond.NEAREST
    outside = sampling._replace(beyond=beyond, by_reach=False)
    slim = (2 * half_sizes(boxes.detach(), sampling.align_corners) < SLIM).any(1)  # no frame that Kornia could invert
    framed = boxes.where(~slim[:, None], boxes.new_tensor([0, 0, 2, 2]))
    patch = boxes.new_tensor([[0, 0, size[1], size[0]]])
    # Kornia counts in pixel centres: the patch's outermost ones lie this far from the box's centre.
    reach = safe_ratio(half_sizes(framed, sampling.align_corners), half_sizes(patch, sampling.align_corners))
    reach, centre = reach * half_sizes(patch, align_corners=True), centres(framed) - 0.5
    corners = corners_of(torch.cat([centre - reach, centre + reach], dim=1))
    words = "nearest" if sampling.nearest else "bilinear", BEYOND_WORDS[beyond]
    parts, images = [boxes.new_zeros(0, source.shape[1] + 1, *size)], torch.from_numpy(objects.host_image)
    order = images.argsort(stable=True)
    for rows in order.split(torch.bincount(images).tolist()):
        if len(rows):  # one image at a time, expanded and not copied: N images would be held otherwise
            image = source[images[rows[0]], None].to(boxes.dtype)
            image = torch.cat([image, torch.ones_like(image[:, :1])], dim=1).expand(len(rows), -1, -1, -1)
            there = corners[rows.to(source.device)]
            parts.append(crop_and_resize(image, there, size, *words, sampling.align_corners))
    crops = torch.cat(parts)[order.argsort().to(source.device)]
    if not slim.any():
        return crops
    objects = objects._replace(theta=identity_theta(boxes))
    own = [cut_out(images, objects, size, outside) for images in (source, torch.ones_like(source[:, :1]))]
    return torch.cat(own, dim=1).to(crops.dtype).where(slim[:, None, None, None], crops)


def _warped(crops: Tensor, objects: Objects, plan: Plan) -> Tensor:
    """The crops, each warped by its own theta by Kornia's ``warp_affine``."""
    count, size, align_corners = len(crops), (crops.shape[2], crops.shape[3]), plan.sampling.align_corners
    theta, patch = objects.theta, whole_boxes(crops, objects.boxes)
    linear, shift = theta[..., :2], theta[..., 2:].clamp(-FAR, FAR)
    linear = linear / (linear.detach().abs().amax((1, 2), keepdim=True) / FAR).clamp(min=1)
    dst_from_src = centred_matrices(invert_theta(torch.cat([linear, shift], dim=2)), half_sizes(patch, align_corners))
    linear, centre = dst_from_src[..., :2], centres(patch)[..., None] - 0.5
    motion = torch.cat([linear, dst_from_src[..., 2:] + centre - linear @ centre], dim=2)
    # Kornia warps no empty batch; its gradients are to be zeros and not None all the same.
    words = "nearest" if plan.sampling.nearest else "bilinear", BEYOND_WORDS[plan.sampling.beyond]
    return warp_affine(crops, motion, size, *words, align_corners) if count else crops + 0 * motion.sum()
