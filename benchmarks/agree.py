"""All rivals do the same job: their results are compared with ours before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.nn.functional import affine_grid, grid_sample
from torch.testing import assert_close

from benchmarks import reach
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


def check_reach(device: str = "cpu", jobs: Sequence[reach.Job] = reach.JOBS) -> None:
    """Raise AssertionError where a canvas an object gives another result or gradient than ours."""
    for job in jobs:
        reach_agrees(job, device)


def reach_agrees(job: reach.Job, device: str = "cpu", run: Callable = reach.ours, atol: float = 1e-4) -> None:
    """Results, and gradients to the patches and to what is learned for the same random weight, but for the rims."""
    given = job.inputs(device)
    where = beside_rims(given)
    weight = where * torch.randn(given.images.shape, generator=torch.Generator().manual_seed(1)).to(device)
    learned = tuple(dict.fromkeys(("patches", *job.learned)))
    results = []
    for paste in (reach.runs(job)[reach.RIVAL], run):
        held = given.learnable(learned)
        painted = paste(held)
        gradients = torch.autograd.grad(painted, [getattr(held, name) for name in learned], weight)
        results.append((painted.detach(), *gradients))
    (painted, *found), (expected, *gradients) = results
    where = where if given.mattes is None else torch.ones_like(where)  # mattes end before the rim
    assert_close(where * painted, where * expected, atol=atol, rtol=0)
    # As above: sums over many pixels, and samples that rounding moves across a pixel border.
    for name, gradient, other in zip(learned, found, gradients, strict=True):
        share = 1e-3 if name == "theta" else atol
        assert_close(gradient, other, atol=share * max(1.0, float(other.abs().max())), rtol=0)


def beside_rims(given: reach.Pasting) -> torch.Tensor:
    """1 where the reach of each patch is 0 or 1, else 0, ``(B, 1, H, W)``. Where it is between, on a rim of a pixel,
    the rivals multiply what fades by what fades."""
    count, batch, (height, width) = len(given.boxes), len(given.images), given.images.shape[2:]
    align_corners = given.align_corners
    ones = torch.ones_like(given.patches[:1, :1]).expand(count, -1, -1, -1)
    grid = affine_grid(reach.theta_of_canvas(given), [count, 1, height, width], align_corners=align_corners)
    of_objects = grid_sample(ones, grid, align_corners=align_corners).view(batch, -1, 1, height, width)
    return ((of_objects < 1e-5) | (of_objects > 1 - 1e-5)).all(1).to(ones.dtype)


def opencv_agrees(shift: float = 0.0) -> None:
    """On one object; OpenCV 4 rounds positions to 1/32 pixel. `shift` is added to theta's translation for OpenCV."""
    scene = make_scene(SINGLE)
    moved = scene.theta.clone()
    moved[:, :, 2] += shift
    assert_close(opencv_loop(scene._replace(theta=moved))(), ours(*scene), atol=0.05, rtol=0)
