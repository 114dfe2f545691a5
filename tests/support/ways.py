"""The ways to paint objects that leave their box or come from elsewhere, called alike, and a scene for them."""

import torch
from torch import Tensor

import kornia_patchaug as kp
from support.scenes import scene


def moved(images, boxes, theta, obj_to_img, source, source_boxes, index, fill, **options) -> Tensor:
    return kp.affine_patches(images, boxes, theta, obj_to_img, **options)


def peeled(images, boxes, theta, obj_to_img, source, source_boxes, index, fill, **options) -> Tensor:
    return kp.affine_patches(images, boxes, theta, obj_to_img, fill=fill, **options)


def continued(images, boxes, theta, obj_to_img, source, source_boxes, index, fill, **options) -> Tensor:
    return kp.affine_patches(images, boxes, theta, obj_to_img, fill="surroundings", **options)


def pasted(images, boxes, theta, obj_to_img, source, source_boxes, index, fill, **options) -> Tensor:
    return kp.paste_patches(images, source, boxes, obj_to_img, theta=theta, patch_index=index, **options)


def transplanted(images, boxes, theta, obj_to_img, source, source_boxes, index, fill, **options) -> Tensor:
    at = {"source": source, "source_boxes": source_boxes, "source_to_img": index, "theta": theta}
    return kp.transplant_patches(images, boxes, obj_to_img, **at, **options)


def seen(images, boxes, theta, obj_to_img, source, source_boxes, index, fill, **options) -> Tensor:
    size = images.shape[2], images.shape[3]
    return kp.visible_share(boxes, theta, obj_to_img, size=size, **options)


UNUSED = {  # the ways to paint, and which of the tensors with gradients have no part in each
    moved: {"source", "source_boxes", "fill"},
    peeled: {"source", "source_boxes"},
    continued: {"source", "source_boxes", "fill"},
    pasted: {"source_boxes", "fill"},
    transplanted: {"fill"},
}


def tensors(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """What each of them takes: pictures of 13 x 17, also those that are read, so that masks are of one size."""
    images, boxes, theta, obj_to_img = scene("fractional", channels=2)
    source = torch.rand(3, 2, 13, 17, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    given = {"images": images, "boxes": boxes, "theta": theta, "source": source, "source_boxes": boxes.flip(0)}
    given = {name: t.float().to(dtype) for name, t in (given | {"fill": images.flip(0)}).items()}
    return given | {"obj_to_img": obj_to_img, "index": torch.tensor([2, 0, 2, 1])}
