"""What lies between checked arguments and the primitives: two ways to warp, laying over, alpha, painting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from kornia.geometry.transform import crop_and_resize, warp_affine
from torch import Tensor

import kornia_patchaug.kernels as kernels
from kornia_patchaug.frames import centred_matrices, centres, corners_of, half_sizes, identity_theta, safe_ratio
from kornia_patchaug.objects import Objects
from kornia_patchaug.theta import invert_theta
from kornia_patchaug.windows import Column, Windows, layers, reads_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Reading(NamedTuple):
    """How to read a picture: the options that every stage hands on."""

    mode: str
    padding_mode: str
    align_corners: bool


# (source, objects, windows, how) -> values (C, P) times their coverage, coverage (P,): by the box, and if transparent
# by what the warped patch reaches
Warp = Callable[[Tensor, Objects, Windows, Reading], tuple[Tensor, Tensor]]


def paint(
    canvas: Tensor,
    objects: Objects,
    windows: Windows,
    how: Reading,
    warp: Warp,
    regions: Callable[[], Windows] | None = None,
) -> Tensor:
    """Warp the objects' patches as they are in the canvas, and paint them over it.

    With ``regions``, the pixels that each object may read, it finds there what those before it left.
    """
    of_boxes = objects.boxes.requires_grad and torch.is_grad_enabled()
    held = objects.alpha is not None or how.padding_mode == "transparent" or of_boxes
    if warp is warp_in_one_pass and not held:  # nobody looks at what lies between the two primitives
        reads, options = own_reads(canvas, windows, how)
        return kernels.paint(canvas, objects.theta, objects.boxes, reads, windows, regions, **options)
    if regions is not None:
        read = regions()
        for rows in layers(windows, read):
            with keep_only(read.select(rows), canvas):
                canvas = paint(canvas, objects.select(rows), windows.select(rows), how, warp)
        return canvas
    values, opacity = warp(canvas, objects, windows, how)
    if objects.alpha is not None:
        alpha = alpha_of_pixels(objects.alpha, objects, windows, how)
        values, opacity = alpha * values, alpha * opacity
    return kernels.composite(canvas, values, opacity, windows)


@contextmanager
def keep_only(regions: Windows, canvas: Tensor) -> Iterator[None]:
    """Let autograd keep of a canvas only what lies in the regions, which is all that is read: not a batch a layer."""

    def pack(tensor: Tensor) -> Tensor | Callable[[], Tensor]:
        if tensor.data_ptr() != canvas.data_ptr() or tensor.shape != canvas.shape:
            return tensor
        (image, row, column), shape = regions.where(), tensor.shape
        texels = tensor[image, :, row, column]  # (P, C)
        where = image[:, None], channel, row[:, None], column[:, None]
        return lambda: texels.new_zeros(shape).index_put(where, texels)

    channel = torch.arange(canvas.shape[1], device=canvas.device)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept if isinstance(kept, Tensor) else kept()):
        yield


def warp_in_one_pass(source: Tensor, objects: Objects, windows: Windows, how: Reading) -> tuple[Tensor, Tensor]:
    """Read the source at ``q`` for every window pixel: one resampling."""
    reads, options = own_reads(source, windows, how)
    return kernels.sample(source, objects.theta, None, objects.boxes, reads, windows, **options)


def own_reads(source: Tensor, windows: Windows, how: Reading) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """What each object reads of its own image, its window or all of it, and what lies beyond that."""
    image, origin, limits = (windows.host[:, column] for column in (Column.IMAGE, Column.ORIGIN, Column.LIMITS))
    if how.padding_mode == "image":
        limits, how = last_pixels(source) - np.tile(origin, 2), how._replace(padding_mode="border")
    return reads_of(image, origin, limits), how._asdict()


def warp_in_steps(size: tuple[int, int]) -> Warp:
    """The plain reading of the job on Kornia's own functions: crop to ``size``, warp, then lay over the window."""

    def warp(source: Tensor, objects: Objects, windows: Windows, how: Reading) -> tuple[Tensor, Tensor]:
        count, dtype = len(objects.boxes), objects.boxes.dtype
        beyond_patch = "zeros" if how.padding_mode == "transparent" else how.padding_mode
        beyond_image = "zeros" if beyond_patch == "zeros" else "border"
        unit = objects.boxes.new_tensor([0, 0, 1, 1])  # Kornia takes no empty box; nobody sees what becomes of this one
        paints = windows.size.prod(1, keepdim=True) > 0
        boxes = objects.boxes.where(paints, unit)
        patch = boxes.new_tensor([[0, 0, size[1], size[0]]]).expand(count, 4)
        patch_half = half_sizes(patch, how.align_corners)

        # Kornia counts in pixel centres: the patch's outermost ones lie this far from the box's centre.
        reach = safe_ratio(half_sizes(boxes, how.align_corners), patch_half) * half_sizes(patch, align_corners=True)
        centre = centres(boxes) - 0.5
        corners = corners_of(torch.cat([centre - reach, centre + reach], dim=1))
        parts = [boxes.new_zeros(0, source.shape[1] + 1, *size)]
        images = torch.from_numpy(objects.host_image)
        order = images.argsort(stable=True)
        for rows in order.split(torch.bincount(images).tolist()):
            if len(rows):  # one image at a time, expanded and not copied: N images would be held otherwise
                image = source[images[rows[0]], None].to(dtype)
                image = torch.cat([image, torch.ones_like(image[:, :1])], dim=1)  # the last channel is the reach
                image = image.expand(len(rows), -1, -1, -1)
                corners_there = corners[rows.to(source.device)]
                parts.append(crop_and_resize(image, corners_there, size, how.mode, beyond_image, how.align_corners))
        crops = torch.cat(parts)[order.argsort().to(source.device)]
        del parts  # they are as large

        theta = objects.theta.where(paints[..., None], identity_theta(boxes))
        dst_from_src = centred_matrices(invert_theta(theta), patch_half)
        linear, centre = dst_from_src[..., :2], centres(patch)[..., None] - 0.5
        motion = torch.cat([linear, dst_from_src[..., 2:] + centre - linear @ centre], dim=2)
        # Kornia warps no empty batch; its gradients are to be zeros and not None all the same.
        options = (size, how.mode, beyond_patch, how.align_corners)
        crops = warp_affine(crops, motion, *options) if count else crops + 0 * motion.sum()
        laid_over = how._replace(padding_mode="border")
        values, covered = lay_over(crops, identity_theta(boxes), objects, windows, laid_over)
        return values[:-1], values[-1] if how.padding_mode == "transparent" else covered

    return warp


def lay_over(
    patches: Tensor, theta: Tensor, objects: Objects, windows: Windows, how: Reading, covered: bool = True
) -> tuple[Tensor, Tensor]:
    """Read patches ``(N, C, h, w)`` that are stretched over the boxes and moved by theta, as a ``Warp`` does."""
    count, _, height, width = patches.shape
    return kernels.sample(
        patches,
        theta,
        objects.boxes.new_tensor([[0, 0, width, height]]).expand(count, 4),
        objects.boxes,
        reads_of(np.arange(count), 0, last_pixels(patches)),
        windows,
        mode=how.mode,
        padding_mode=how.padding_mode,
        align_corners=how.align_corners,
        covered=covered,
    )


def alpha_of_pixels(alpha: Tensor, objects: Objects, windows: Windows, how: Reading) -> Tensor:
    """A of every window pixel, ``(P,)``. A matte continues beyond its edge, or is mirrored with its patch."""
    if alpha.ndim == 1:
        return alpha.repeat_interleave(windows.size.prod(1), output_size=windows.total)
    beyond = how._replace(padding_mode="reflection" if how.padding_mode == "reflection" else "border")
    return lay_over(alpha, objects.theta, objects, windows, beyond, covered=False)[0][0]


def regions_read(images: Tensor, objects: Objects, windows: Windows, how: Reading) -> Windows:
    """The pixels that each object may read of its image: its window, or its surroundings too."""
    if how.padding_mode != "image":
        return windows
    boxes, theta = torch.from_numpy(objects.host_boxes), torch.from_numpy(objects.host_theta)
    rectangles = torch.from_numpy(windows.rectangles())
    src_from_dst = centred_matrices(theta, half_sizes(boxes, how.align_corners))
    centre = centres(boxes)
    outermost = corners_of(rectangles + 0.5) - centre[:, None]  # (N, 4, 2)
    read = outermost @ src_from_dst[..., :2].mT + (src_from_dst[..., 2] + centre)[:, None] - 0.5
    low, high = read.amin(1).floor() - 1, read.amax(1).ceil() + 1  # a pixel of margin: the device rounds differently
    first, last = torch.zeros(2), torch.tensor([images.shape[3] - 1.0, images.shape[2] - 1.0])
    # What is not a number (infinity less infinity) may be read anywhere.
    low, high = low.nan_to_num(-torch.inf).clamp(first, last), high.nan_to_num(torch.inf).clamp(first, last)
    host = windows.host.copy()
    host[:, Column.ORIGIN], host[:, Column.SIZE] = low.long().numpy(), (high - low + 1).long().numpy()
    return Windows(host, windows.device)


def last_pixels(images: Tensor) -> NDArray[np.int64]:
    """``0 0 W-1 H-1``: the first and last pixel of a picture."""
    return np.array([0, 0, images.shape[3] - 1, images.shape[2] - 1])
