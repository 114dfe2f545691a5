"""From checked objects to painted images: their plans; all at once, each from what those before it left, or peeled off
first; in one pass, or by Kornia's own crop and warp (``patch_size=``)."""

from __future__ import annotations

from dataclasses import replace
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
    LEFT,
    LOW_X,
    ORIGIN_X,
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
    by_reach = sampling.by_reach or not clip or (masked and sampling.beyond == Beyond.ZERO)
    sampling = sampling._replace(by_reach=by_reach)
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
        plan = replace(plan, reads=Reads.of(objects.host_picture, origin, limits), windows=Windows(windows))
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
        beyond = Beyond.MIRROR if sampling.beyond == Beyond.MIRROR else Beyond.NEAREST
    else:
        alpha = alpha[:, None] if alpha.is_floating_point() else alpha[:, None].view(torch.uint8)
        origin = plan.reads.host[:, ORIGIN_X:LOW_X]
        reads = Reads.of(np.arange(len(alpha)), origin, _patches(objects, origin))
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
    if size is None and kernels.is_fused(canvas.device):
        return kernels.paint(None, canvas, *read_by(objects, plan))
    areas = read_areas(canvas, objects, plan)
    plan = replace(plan, read_areas=areas)
    for rows in layers(plan.windows, areas):
        canvas = paint_objects(canvas, objects.select(torch.from_numpy(rows)), plan.rows(rows), size)
    return canvas


def paint_peeled(images: Tensor, objects: Objects, plan: Plan, size: tuple[int, int] | None, fill: Fill) -> Tensor:
    """Take objects off, from the last to the first, and fill the hole that each leaves; then lay all over what is left.

    So each is read as those above it left it. Objects of a layer, which are apart, go together.
    """
    areas, (opacity, boxes, holes) = read_areas(images, objects, plan), _holes(images, objects, plan, fill.grow)
    plan, upside_down = replace(plan, read_areas=areas), np.arange(len(areas.host))[::-1]
    hole_of, pieces = opacity.split(holes.areas.tolist()), dict[tuple[int, int], Tensor]()
    picture, channels = images.to(opacity.dtype, memory_format=torch.contiguous_format, copy=True), images.shape[1]
    for layer in layers(holes.rows(upside_down), areas.rows(upside_down)):
        rows = np.sort(upside_down[layer])
        there, counts = torch.from_numpy(rows), plan.windows.areas[rows].tolist()
        values, coverage = _read(picture, objects.select(there), plan.rows(rows), size)
        of_layer = *values.flatten().split(counts * channels), *coverage.split(counts)
        pieces.update(((c, n), of_layer[c * len(rows) + k]) for c in range(channels + 1) for k, n in enumerate(rows))
        of_holes = torch.cat([opacity[:0], *(hole_of[n] for n in rows)])
        picture = fill_holes(picture, of_holes, boxes[there.to(boxes.device)], holes.rows(rows), fill.shown)
    in_order = [values.flatten()[:0], *(pieces[key] for key in sorted(pieces))]  # no objects have gradients too
    flat = torch.cat(in_order).view(channels + 1, plan.windows.total)
    painted = kernels.composite(picture, flat[:-1], flat[-1], plan.windows, in_place=True)
    if images.dtype == painted.dtype and images.is_contiguous():
        return painted
    return torch.empty_like(images).copy_(painted)


def _holes(images: Tensor, objects: Objects, plan: Plan, grow: float) -> tuple[Tensor, Tensor, Windows]:
    """The opacity ``(P,)`` of objects where they are, by which they are taken off, and the boxes and windows of that.

    Mattes end short of their object: a rim of it would stay. So where one moves, its box and alpha are larger.
    """
    boxes, host, alpha, soft = objects.boxes, objects.host_boxes, objects.alpha, plan.opacity is not None
    if alpha is not None and plan.opacity is not None:
        moves = (objects.host_theta != np.eye(2, 3)).any((1, 2))[:, None] * (grow / 2)
        host = host + moves * (host[:, [2, 3, 2, 3]] - host[:, [0, 1, 0, 1]]) * (-1, -1, 1, 1)
        more = torch.from_numpy(moves).to(boxes) * (boxes[:, 2:] - boxes[:, :2])
        boxes, reads = boxes + torch.cat([-more, more], dim=1), plan.opacity.reads
        pictures, read = alpha, objects.boxes if objects.alpha_boxes is None else objects.alpha_boxes
    else:
        pictures = boxes.new_ones(1, 1, 1, 1)
        reads, read = Reads.of(np.zeros(len(boxes), np.int64), 0, last_pixels(pictures)), whole_boxes(pictures, boxes)
    height, width = images.shape[2:]
    painted = painted_pixels(host, height, width)
    there = readable_pixels(objects, images)
    painted[(there[:, 2:] <= there[:, :2]).any(1)] = 0
    holes = Windows.of(objects.host_image, painted[:, :2], painted[:, 2:])
    mirrored = plan.opacity is not None and plan.opacity.sampling.beyond == Beyond.MIRROR  # as where it is painted
    sampling = plan.sampling._replace(beyond=Beyond.MIRROR if mirrored else Beyond.NEAREST, by_reach=False)
    of_holes = Plan(reads, holes, sampling, box_coverage=True)
    opacity = kernels.sample(pictures, identity_theta(boxes), boxes, of_holes, read)[0][0]
    if alpha is not None and not soft:
        opacity = opacity * kernels.opacity_of_pixels(alpha, objects.theta, boxes, of_holes)
    return opacity, boxes, holes


def _read(canvas: Tensor, objects: Objects, plan: Plan, size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """What is painted of each window pixel, ``(C, P)``, and its opacity ``(P,)``."""
    if size is None:
        return kernels.sample_opaque(canvas, *read_by(objects, plan))
    paints = np.flatnonzero(plan.windows.areas)
    if len(paints) < len(plan.windows.areas):
        objects, plan = objects.select(torch.from_numpy(paints)), plan.rows(paints)
    patches = _warped(_cropped(canvas, objects, plan, size), objects, plan)
    sampling = plan.sampling._replace(beyond=Beyond.NEAREST, by_reach=False)
    laid_over = Plan(Reads.whole(patches), plan.windows, sampling, box_coverage=True)
    whole = whole_boxes(patches, objects.boxes)
    values, coverage = kernels.sample(patches, identity_theta(objects.boxes), objects.boxes, laid_over, whole)
    values, coverage = values[:-1], values[-1] if plan.sampling.by_reach else coverage
    if objects.alpha is None:
        return values, coverage
    opacity = kernels.opacity_of_pixels(objects.alpha, objects.theta, objects.boxes, plan, objects.alpha_boxes)
    return opacity * values, opacity * coverage


def read_areas(images: Tensor, objects: Objects, plan: Plan) -> Windows:
    """The pixels that each object may read of its image, as windows."""
    boxes, theta = torch.from_numpy(objects.host_boxes), torch.from_numpy(objects.host_theta)
    window, reads = torch.from_numpy(plan.windows.host), plan.reads.host
    limits = reads[:, LOW_X:] + np.tile(reads[:, ORIGIN_X:LOW_X], 2)
    first, last = torch.from_numpy(limits.clip(0, np.tile(last_pixels(images)[2:], 2))).double().split(2, dim=1)
    low, high = first, last
    if plan.sampling.beyond != Beyond.MIRROR:  # which may lead from anywhere to anywhere
        src_from_dst = centred_matrices(theta, half_sizes(boxes, plan.sampling.align_corners))
        outermost = torch.cat([window[:, LEFT:WIDTH], window[:, LEFT:WIDTH] + window[:, WIDTH:START] - 1], dim=1) + 0.5
        offsets = corners_of(outermost) - centres(boxes)[:, None]  # (N, 4, 2)
        read = offsets @ src_from_dst[..., :2].mT + (src_from_dst[..., 2] + centres(boxes))[:, None] - 0.5
        # A pixel of margin: the device rounds differently. What is not a number may be read anywhere.
        low, high = read.amin(1).floor() - 1, read.amax(1).ceil() + 1
        low, high = low.nan_to_num(-torch.inf).clamp(first, last), high.nan_to_num(torch.inf).clamp(first, last)
    return Windows.of(objects.host_image, low.numpy(), high.numpy() + 1)


def cut_out(images: Tensor, objects: Objects, size: tuple[int, int], sampling: Sampling) -> Tensor:
    """The objects' boxes resized to ``size``, ``(N, C, h, w)``."""
    count, (height, width) = len(objects.boxes), size
    first = whole_pixels(objects.host_boxes)[:, :2]
    limits = last_pixels(images) - np.concatenate((first, first), axis=1)
    reads = Reads.of(objects.host_image, first, limits)
    plan = Plan(reads, Windows.regular(count, height, width), sampling, box_coverage=False)
    target = objects.boxes.new_tensor([[0, 0, width, height]]).expand(count, 4)
    values, _ = kernels.sample(images, identity_theta(objects.boxes), target, plan, objects.boxes)
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
