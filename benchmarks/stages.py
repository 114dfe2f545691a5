"""What each stage of one call costs: the stages of the line of data, timed one by one on what the one before made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch

import kornia_patchaug as kp
from benchmarks.cases import Case, Scene, make_scene
from benchmarks.rivals import FORWARD
from benchmarks.suite import Settings
from kornia_patchaug import kernels
from kornia_patchaug.objects import Objects, check_objects
from kornia_patchaug.plan import Beyond, Plan, Sampling, image_plan

BACKWARD = "backward"
CHECK, PLAN, SWEEP, CALL = "check, boxes to the host", "plan", "paint", "the whole call"
SAMPLE, COMPOSITE = "paint in two: sample", "paint in two: composite"
SAMPLING = Sampling(nearest=False, beyond=Beyond.ZERO, align_corners=False, by_reach=False)  # the default options


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
    images, objects = scene.images, check(scene)
    plan = lay_out(images, objects)
    values, opacity = sample(images, objects, plan)
    return {
        CHECK: lambda: check(scene),
        PLAN: lambda: lay_out(images, objects),
        SWEEP: lambda: kernels.paint(images, images, objects.theta, objects.boxes, plan, objects.alpha),
        CALL: lambda: kp.affine_patches(*scene),
        SAMPLE: lambda: sample(images, objects, plan),
        COMPOSITE: lambda: kernels.composite(images, values, opacity, plan.windows),
    }


def backward_calls(case: Case, settings: Settings) -> dict[str, Callable[[], object]]:
    scene = make_scene(case, settings.device).learnable()
    images, objects = scene.images, check(scene)
    plan = lay_out(images, objects)
    values, opacity = sample(images, objects, plan)
    held = values.detach().requires_grad_()
    outputs = {
        CALL: (kp.affine_patches(*scene), (images, scene.theta)),
        SAMPLE: (values, (images, scene.theta)),
        COMPOSITE: (kernels.composite(images, held, opacity.detach(), plan.windows), (images, held)),
    }
    return {stage: _backward(*made) for stage, made in outputs.items()}


def check(scene: Scene) -> Objects:
    return check_objects(scene.images, scene.boxes, scene.obj_to_img, scene.theta)


def lay_out(images: torch.Tensor, objects: Objects) -> Plan:
    return image_plan(objects.host_boxes, objects.host_image, images, SAMPLING, surroundings=False)


def sample(images: torch.Tensor, objects: Objects, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    return kernels.sample(images, objects.theta, objects.boxes, plan)


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
