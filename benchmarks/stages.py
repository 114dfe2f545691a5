"""What each stage of one call costs: the stages of the line of data, timed one by one on what the one before made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch

import kornia_patchaug as kp
from benchmarks.cases import Case, make_scene
from benchmarks.rivals import FORWARD
from benchmarks.suite import Settings
from kornia_patchaug import kernels
from kornia_patchaug.boxes import check_objects
from kornia_patchaug.checks import check_theta
from kornia_patchaug.stages import Reading, own_reads
from kornia_patchaug.windows import make_windows

BACKWARD = "backward"
CHECK, WINDOWS, SAMPLE, COMPOSITE = "check, boxes to the host", "windows", "sample", "composite"
SWEEP, CALL = "paint: both in one sweep", "the whole call"
HOW = Reading("bilinear", "zeros", False)  # the default options


class StageTime(NamedTuple):
    """The median time of a stage, and of the whole call in the same rounds."""

    case: str
    stage: str
    direction: str
    seconds: float
    whole: float

    @property
    def share(self) -> float:
        return self.seconds / self.whole


def stage_times(case: Case, settings: Settings) -> list[StageTime]:
    """Forward without autograd; backward to images and theta, on what a forward pass kept."""
    found = []
    for direction, calls in ((FORWARD, forward_calls(case, settings)), (BACKWARD, backward_calls(case, settings))):
        seconds = {stage: median(taken) for stage, taken in settings.interleaved(calls).items()}
        found += [StageTime(case.name, stage, direction, taken, seconds[CALL]) for stage, taken in seconds.items()]
    return found


def forward_calls(case: Case, settings: Settings) -> dict[str, Callable[[], object]]:
    scene = make_scene(case, settings.device)
    images, theta = scene.images, scene.theta

    def check() -> object:
        return check_objects(images, scene.boxes, scene.obj_to_img, check_theta(theta))

    def lay_out() -> object:
        windows = make_windows(objects.host_boxes, objects.host_image, *images.shape[2:], images.device)
        return windows, *own_reads(images, windows, HOW)

    objects = check()
    windows, reads, options = lay_out()

    def sample() -> tuple[torch.Tensor, torch.Tensor]:
        return kernels.sample(images, objects.theta, None, objects.boxes, reads, windows, **options)

    values, opacity = sample()
    return {
        CHECK: check,
        WINDOWS: lay_out,
        SAMPLE: sample,
        COMPOSITE: lambda: kernels.composite(images, values, opacity, windows),
        SWEEP: lambda: kernels.paint(images, objects.theta, objects.boxes, reads, windows, **options),
        CALL: lambda: kp.affine_patches(*scene),
    }


def backward_calls(case: Case, settings: Settings) -> dict[str, Callable[[], object]]:
    scene = make_scene(case, settings.device).learnable()
    objects = check_objects(scene.images, scene.boxes, scene.obj_to_img, check_theta(scene.theta))
    windows = make_windows(objects.host_boxes, objects.host_image, *scene.images.shape[2:], scene.images.device)
    reads, options = own_reads(scene.images, windows, HOW)
    values, opacity = kernels.sample(scene.images, objects.theta, None, objects.boxes, reads, windows, **options)
    held = values.detach().requires_grad_()
    outputs = {
        SAMPLE: (values, (scene.images, scene.theta)),
        COMPOSITE: (kernels.composite(scene.images, held, opacity.detach(), windows), (scene.images, held)),
        CALL: (kp.affine_patches(*scene), (scene.images, scene.theta)),
    }
    return {stage: _backward(*made) for stage, made in outputs.items()}


def _backward(output: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> Callable[[], object]:
    weight = torch.rand(output.shape, generator=torch.Generator().manual_seed(1)).to(output.device)
    return lambda: torch.autograd.grad(output, inputs, weight, retain_graph=True)


def stage_table(times: Sequence[StageTime]) -> str:
    """Markdown: a row a stage and direction, a column a case: its time, and its share of the whole call's."""
    cases = list(dict.fromkeys(time.case for time in times))
    by_row: dict[tuple[str, str], dict[str, StageTime]] = {}
    for time in times:
        by_row.setdefault((time.stage, time.direction), {})[time.case] = time
    lines = [["stage", "", *cases], ["---", "---", *["---:"] * len(cases)]]
    for (stage, direction), found in by_row.items():
        cells = [f"{found[c].seconds * 1e3:.3g} ms, {found[c].share:.0%}" if c in found else "" for c in cases]
        lines.append([stage, direction, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
