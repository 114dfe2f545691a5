"""What is measured: `affine_patches`, and what people write in its place, each in the best form we know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import torch
from kornia.geometry.transform import crop_and_resize, warp_affine
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

import kornia_patchaug as kp
from benchmarks.cases import Scene

FORWARD, BOTH = "forward", "forward + backward"


def ours(images: Tensor, boxes: Tensor, theta: Tensor, obj_to_img: Tensor) -> Tensor:
    return kp.affine_patches(images, boxes, theta, obj_to_img)


def ours_sequential(images: Tensor, boxes: Tensor, theta: Tensor, obj_to_img: Tensor) -> Tensor:
    return kp.affine_patches(images, boxes, theta, obj_to_img, sequential=True)


def clone_and_assign(images: Tensor, boxes: Tensor, theta: Tensor, obj_to_img: Tensor) -> Tensor:
    """(a) Each object is cropped from the canvas, which is cloned before it is assigned to."""
    for (x1, y1, x2, y2), matrix, b in _objects(boxes, theta, obj_to_img):
        warped = _warp(images[b : b + 1, :, y1:y2, x1:x2], matrix)
        images = images.clone()
        images[b, :, y1:y2, x1:x2] = warped[0]
    return images


def index_put(images: Tensor, boxes: Tensor, theta: Tensor, obj_to_img: Tensor) -> Tensor:
    """(b) One out-of-place `index_put` an object, as a published answer has it."""
    device, channel = images.device, torch.arange(images.shape[1], device=images.device)[:, None, None]
    for (x1, y1, x2, y2), matrix, b in _objects(boxes, theta, obj_to_img):
        warped = _warp(images[b : b + 1, :, y1:y2, x1:x2], matrix)
        rows, columns = torch.arange(y1, y2, device=device)[:, None], torch.arange(x1, x2, device=device)
        images = images.index_put((torch.tensor(b, device=device), channel, rows, columns), warped[0])
    return images


def kornia_idiom(images: Tensor, boxes: Tensor, theta: Tensor, obj_to_img: Tensor, *, size: tuple[int, int]) -> Tensor:
    """(c) Gather an image an object, Kornia's crop and warp at one size, then resize and paste each patch.

    All is cropped from the input, so that one clone takes every paste in place.
    """
    x1, y1, x2, y2 = (boxes.to(images.dtype) - boxes.new_tensor([0, 0, 1, 1])).unbind(1)  # Kornia's are inclusive
    corners = torch.stack([x1, y1, x2, y1, x2, y2, x1, y2], dim=1).reshape(-1, 4, 2)
    patches = crop_and_resize(images[obj_to_img], corners, size)
    patches = warp_affine(patches, _pixel_matrices(theta, size), size, align_corners=False)
    canvas = images.clone()
    for (x1, y1, x2, y2), patch, b in _objects(boxes, patches, obj_to_img):
        resized = interpolate(patch[None], (y2 - y1, x2 - x1), mode="bilinear", align_corners=True)
        canvas[b, :, y1:y2, x1:x2] = resized[0]
    return canvas


def one_clone(images: Tensor, boxes: Tensor, theta: Tensor, obj_to_img: Tensor) -> Tensor:
    """(e) Each object is cropped from the input, as ours by default, and assigned in place to its image's one clone.

    Autograd accepts it, as nothing is read from what is assigned to; backward copies one image an object.
    """
    source = images.unbind()
    canvas = [image.clone() for image in source]
    for (x1, y1, x2, y2), matrix, b in _objects(boxes, theta, obj_to_img):
        canvas[b][:, y1:y2, x1:x2] = _warp(source[b][None, :, y1:y2, x1:x2], matrix)[0]
    return torch.stack(canvas)


def opencv_loop(scene: Scene) -> Callable[[], Tensor]:
    """(d) `cv2.warpAffine` from float32 crops (H, W, C) straight into a view of the output; forward only.

    Matrices, the layout and the output that starts as a copy of the images are prepared here, outside the timing.
    """
    source = scene.images.permute(0, 2, 3, 1).contiguous().numpy()  # (B, H, W, C)
    output = source.copy()
    jobs = []
    for (x1, y1, x2, y2), matrix, b in _objects(scene.boxes, scene.theta.detach(), scene.obj_to_img):
        size = (y2 - y1, x2 - x1)
        src_from_dst = _pixel_from_norm(size, matrix.double()) @ _homogeneous(matrix.double())
        src_from_dst = src_from_dst @ torch.linalg.inv(_pixel_from_norm(size, matrix.double()))
        jobs.append((source[b, y1:y2, x1:x2], src_from_dst[:2].numpy(), size[::-1], output[b, y1:y2, x1:x2]))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def run() -> Tensor:
        for crop, matrix, size, into in jobs:
            cv2.warpAffine(crop, matrix, size, dst=into, flags=flags)
        return torch.from_numpy(output).permute(0, 3, 1, 2)

    return run


class Contender(NamedTuple):
    """Who is measured, and the directions in which every object costs it a copy of an image or more.

    Where there are many objects those are timed on a part of them.
    """

    label: str
    run: Callable[..., Tensor]
    copies: tuple[str, ...] = ()


CONTENDERS = {
    "ours": Contender("ours", ours),
    "sequential": Contender("ours, sequential=True", ours_sequential),
    "a": Contender("(a) clone and assign", clone_and_assign, (FORWARD, BOTH)),
    "b": Contender("(b) index_put", index_put, (FORWARD, BOTH)),
    "c": Contender("(c) Kornia, gathered", kornia_idiom, (FORWARD, BOTH)),
    "e": Contender("(e) assign to one clone", one_clone, (BOTH,)),
}
OPENCV, CLONE = "(d) OpenCV + clone", "images.clone()"


def _objects(boxes: Tensor, each: Tensor, obj_to_img: Tensor) -> Iterator[tuple[list[int], Tensor, int]]:
    """Box, row of `each`, image. Unbound, as indexing would cost a backward step of all rows an object."""
    return zip(boxes.tolist(), each.unbind(), obj_to_img.tolist(), strict=True)


def _warp(crop: Tensor, matrix: Tensor) -> Tensor:
    grid = affine_grid(matrix[None], list(crop.shape), align_corners=False)
    return grid_sample(crop, grid, align_corners=False)


def _pixel_matrices(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Kornia's `warp_affine` takes pixels of the source to those of the result: theta inverted."""
    pixel_from_norm = _pixel_from_norm(size, theta)
    dst_from_src = torch.linalg.inv(_homogeneous(theta))
    return (pixel_from_norm @ dst_from_src @ torch.linalg.inv(pixel_from_norm))[:, :2]


def _pixel_from_norm(size: tuple[int, int], like: Tensor) -> Tensor:
    """From [-1, 1] across the patch to pixel centres at 0, 1, ..."""
    height, width = size
    return like.new_tensor([[width / 2, 0, (width - 1) / 2], [0, height / 2, (height - 1) / 2], [0, 0, 1]])


def _homogeneous(theta: Tensor) -> Tensor:
    last = theta.new_tensor([[0, 0, 1]]).expand(*theta.shape[:-2], 1, 3)
    return torch.cat([theta, last], dim=-2)
