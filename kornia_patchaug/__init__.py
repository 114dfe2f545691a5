"""Differentiable affine augmentation of the objects in images, for Kornia."""

from kornia_patchaug.augmentation import PatchAffine, RandomPatchAffine
from kornia_patchaug.boxes import convert_boxes, flatten_boxes, split_boxes
from kornia_patchaug.container import PatchAugmentationSequential
from kornia_patchaug.detection import DetectionSequential
from kornia_patchaug.functional import (
    affine_patches,
    crop_patches,
    paste_patches,
    transplant_patches,
    warp_patches,
)
from kornia_patchaug.mattes import soft_mattes
from kornia_patchaug.pasting import RandomPatchPaste
from kornia_patchaug.patchwise import PatchwiseApply
from kornia_patchaug.theta import (
    compose_theta,
    invert_theta,
    move_boxes,
    move_points,
    theta_from_components,
    theta_from_lie,
)
from kornia_patchaug.visibility import visible_share

__version__ = "0.1.0"

__all__ = [
    "DetectionSequential",
    "PatchAffine",
    "PatchAugmentationSequential",
    "PatchwiseApply",
    "RandomPatchAffine",
    "RandomPatchPaste",
    "affine_patches",
    "compose_theta",
    "convert_boxes",
    "crop_patches",
    "flatten_boxes",
    "invert_theta",
    "move_boxes",
    "move_points",
    "paste_patches",
    "soft_mattes",
    "split_boxes",
    "theta_from_components",
    "theta_from_lie",
    "transplant_patches",
    "visible_share",
    "warp_patches",
]
