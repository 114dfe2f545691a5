"""From checked objects to painted images: all at once, or each from what those before it left; in one pass, or by
Kornia's own crop and warp (``patch_size=``)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from kornia.geometry.transform import crop_and_resize, warp_affine
from torch import Tensor

import kornia_patchaug.kernels as kernels
from kornia_patchaug.frames import (
    centred_matrices,
    centres,
    corners_of,
    half_sizes,
    identity_theta,
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
    last_pixels,
)
from kornia_patchaug.theta import invert_theta

# Kornia's words, and torch's, for what lies beyond, by the number of `Beyond`.
BEYOND_WORDS = ("zeros", "border", "reflection")
SLIM = 0.1  # pixels; Kornia's matrices of slimmer boxes are singular, to rounding
FAR = 1e6  # box frames; from there on a patch is out of sight, and torch's grids stay finite


def paint_objects(canvas: Tensor, objects: Objects, plan: Plan, size: tuple[int, int] | None) -> Tensor:
    """Read every object's pixels once, where theta leads, and paint them; with a ``size``, step by step."""
    if size is not None:
        return paint_in_steps(canvas, objects, plan, size)
    return kernels.paint(canvas, canvas, objects.theta, objects.boxes, plan, objects.alpha)


def paint_in_turn(canvas: Tensor, objects: Objects, plan: Plan, size: tuple[int, int] | None) -> Tensor:
    """Paint objects of which each reads the canvas as those before it left it."""
    if size is None and kernels.is_fused(canvas.device):
        return kernels.paint(None, canvas, objects.theta, objects.boxes, plan, objects.alpha)
    areas = read_areas(canvas, objects, plan)
    plan = replace(plan, read_areas=areas)
    for rows in layers(plan.windows, areas):
        canvas = paint_objects(canvas, objects.select(torch.from_numpy(rows)), plan.rows(rows), size)
    return canvas


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


def paint_in_steps(canvas: Tensor, objects: Objects, plan: Plan, size: tuple[int, int]) -> Tensor:
    """The plain reading of the job on Kornia's own functions: crop to ``size``, warp, then lay over the window."""
    paints = np.flatnonzero(plan.windows.areas)
    if len(paints) < len(plan.windows.areas):
        objects, plan = objects.select(torch.from_numpy(paints)), plan.rows(paints)
    patches = _warped(_cropped(canvas, objects, plan, size), objects, plan)
    sampling = plan.sampling._replace(beyond=Beyond.NEAREST, by_reach=False)
    laid_over = Plan(Reads.whole(patches), plan.windows, sampling, box_coverage=True)
    whole = whole_boxes(patches, objects.boxes)
    values, coverage = kernels.sample(patches, identity_theta(objects.boxes), objects.boxes, laid_over, whole)
    values, coverage = values[:-1], values[-1] if plan.sampling.by_reach else coverage
    if objects.alpha is not None:
        opacity = kernels.opacity_of_pixels(objects.alpha, objects.theta, objects.boxes, plan)
        values, coverage = opacity * values, opacity * coverage
    return kernels.composite(canvas, values, coverage, plan.windows)


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
