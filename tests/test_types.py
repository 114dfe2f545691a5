"""What a type checker says of a caller's code, and of the modules that the package takes at run time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.pinned]

ROOT = Path(__file__).parents[1]

CALLER = """
from typing import assert_type
import kornia.augmentation as K
import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor
import kornia_patchaug as kp
import kornia_patchaug.kernels.reference as reference
from kornia_patchaug.kernels import backend, cpu, cuda

images, boxes, theta, obj_to_img = torch.rand(2, 3, 8, 9), torch.zeros(1, 4), torch.zeros(1, 6), torch.zeros(1).long()
augment = kp.RandomPatchAffine(30, translate=(0.1, 0.2), scale=torch.ones(2), shear=[[1.0, 2.0], [3.0, 4.0]])
kernels: backend.Backend
fused: backend.Fused
"""
RIGHT = [
    "assert_type(kp.affine_patches(images, boxes, theta, obj_to_img, alpha=None, mode='nearest'), Tensor)",
    "assert_type(kp.affine_patches(images, [boxes, boxes], theta, sequential=True, patch_size=(4, 5)), Tensor)",
    "assert_type(kp.crop_patches(images, Boxes(torch.zeros(2, 1, 4, 2)), size=(4, 5), padding_mode='border'), Tensor)",
    "assert_type(kp.paste_patches(images, kp.warp_patches(images, theta), boxes, obj_to_img), Tensor)",
    "assert_type(kp.move_boxes(boxes, kp.compose_theta(theta, kp.invert_theta(theta)), clip=False), Tensor)",
    "assert_type(kp.flatten_boxes([boxes]), tuple[Tensor, Tensor])",
    "assert_type(augment(images, boxes, obj_to_img=obj_to_img), Tensor)",
    "assert_type(augment.bind(boxes), kp.RandomPatchAffine)",
    "assert_type(augment.ranges.degrees, Tensor)",
    "kp.PatchAugmentationSequential(K.RandomHorizontalFlip(), augment, torch.nn.ReLU(), data_keys=['input', 'bbox'])",
    "K.AugmentationSequential(augment, kp.PatchAffine(p_patch=0.5, padding_mode='image'))",
    "kernels = reference",
    "kernels = cpu",
    "fused = cpu",
    "kernels = cuda",
]
WRONG = [
    ("kp.affine_patches(images, None, theta)", 'Argument 2 to "affine_patches" has incompatible type "None"'),
    ("kp.affine_patches(images, boxes)", 'Missing positional argument "theta"'),
    ("kp.affine_patches(images, boxes, theta, None, None)", "Too many positional arguments"),
    ("kp.affine_patches(images, boxes, theta, padding_mode='black')", 'Argument "padding_mode" to "affine_patches"'),
    ("kp.crop_patches(images, boxes, size=8)", 'Argument "size" to "crop_patches" has incompatible type "int"'),
    ("kp.crop_patches(images, boxes, padding_mode='image')", 'Argument "padding_mode" to "crop_patches"'),
    ("kp.RandomPatchAffine('30')", 'Argument 1 to "RandomPatchAffine" has incompatible type "str"'),
    ("augment(images, 'boxes')", 'Argument 2 has incompatible type "str"'),
    ("fused = reference", "Incompatible types in assignment"),
]


def test_a_checker_knows_right_calls_from_wrong_ones(tmp_path):
    lines = [*RIGHT, *(line for line, _ in WRONG)]
    caller = tmp_path / "caller.py"
    caller.write_text(CALLER + "\n".join(lines))
    run = subprocess.run([sys.executable, "-m", "mypy", caller], capture_output=True, text=True, cwd=ROOT)
    assert not run.stderr
    found = {}
    for number, text in re.findall(r"caller\.py:(\d+): error: (.*)", run.stdout):
        found.setdefault(int(number) - CALLER.count("\n") - 1, []).append(text)
    assert not [(lines[k], found[k]) for k in sorted(found) if k < len(RIGHT)]
    for k, (line, error) in enumerate(WRONG, len(RIGHT)):
        assert any(error in text for text in found.get(k, [])), line
