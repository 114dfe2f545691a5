"""All rivals do the same job: their results are compared with ours before anything is timed."""

from __future__ import annotations

from functools import partial

import torch
from torch.testing import assert_close

from benchmarks.cases import Case, make_scene
from benchmarks.rivals import clone_and_assign, index_put, kornia_idiom, one_clone, opencv_loop, ours, ours_sequential

CROWD = Case("crowd", 2, 96, 30, (16, 40))  # many overlaps
ALIKE = Case("alike", 2, 96, 30, (24, 24))  # boxes of the size that Kornia resizes to, so that nothing is blurred
SINGLE = Case("single", 1, 96, 1, (40, 60))


def check_rivals(device: str = "cpu", sequential: bool = True) -> None:
    """Raise AssertionError where a rival's result or gradient differs from ours.

    Without ``sequential``, whose kernels take as long to compile as all others, those that crop from the canvas are
    compared on one object.
    """
    for rival in (clone_and_assign, index_put):
        agree(rival, *(ours_sequential, CROWD) if sequential else (ours, SINGLE), device)
    agree(one_clone, ours, CROWD, device)
    agree(partial(kornia_idiom, size=(ALIKE.patch_side,) * 2), ours, ALIKE, device, atol=1e-3)
    if device == "cpu":
        opencv_agrees()


def agree(rival, reference, case: Case, device: str = "cpu", atol: float = 1e-4) -> None:
    """Results, and gradients to images and theta for the same random weight."""
    results = []
    for run in (rival, reference):
        scene = make_scene(case, device).learnable()
        warped = run(*scene)
        weight = torch.randn(warped.shape, generator=torch.Generator().manual_seed(1)).to(device)
        results.append((warped.detach(), *torch.autograd.grad(warped, (scene.images, scene.theta), weight)))
    (warped, of_images, of_theta), (expected, expected_images, expected_theta) = results
    assert_close(warped, expected, atol=atol, rtol=0)
    # An adjoint adds up what many pixels read; a sample that rounding moves across a pixel border changes theta's.
    assert_close(of_images, expected_images, atol=20 * atol, rtol=0)
    assert_close(of_theta, expected_theta, atol=1e-3 * float(expected_theta.abs().max()), rtol=0)


def opencv_agrees(shift: float = 0.0) -> None:
    """On one object; OpenCV 4 rounds positions to 1/32 pixel. `shift` is added to theta's translation for OpenCV."""
    scene = make_scene(SINGLE)
    moved = scene.theta.clone()
    moved[:, :, 2] += shift
    assert_close(opencv_loop(scene._replace(theta=moved))(), ours(*scene), atol=0.05, rtol=0)
