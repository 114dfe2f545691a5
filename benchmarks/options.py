"""What the options of `affine_patches` cost beside the plain call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch

import kornia_patchaug as kp
from benchmarks.cases import Case, Scene, make_scene
from benchmarks.painted import ellipses, layer_count, painted_pixels
from benchmarks.rivals import BOTH, CLONE, FORWARD
from benchmarks.rows import MIN_FILL, MIN_OPTION, MIN_PER_PIXEL, OURS, Row
from benchmarks.suite import Settings

FILL, PER_PIXEL = 'ours, fill="surroundings"', "per painted pixel"


class Option(NamedTuple):
    """A call with one option. Its time is judged as a whole if it has a bar, for each pixel if these are counted."""

    scene: Scene
    options: dict[str, Any]
    bar: float | None = MIN_OPTION
    painted: int | None = None  # pixels


def option_rows(case: Case, settings: Settings) -> Iterator[Row]:
    """What each option that changes what is laid over costs: in all, and for each pixel that it paints."""
    for direction in (FORWARD, BOTH):
        options = option_calls(make_scene(case, settings.device), direction == BOTH)
        calls = {label: call(direction, option.scene, option.options) for label, option in options.items()}
        times = {label: median(taken) for label, taken in _interleaved(calls, settings).items()}
        plain, area = times.pop(OURS), options[OURS].painted or 1
        for label, taken in times.items():
            if bar := options[label].bar:
                yield Row(case.name, direction, label, OURS, "s", taken, plain, plain / taken, bar)
        row = partial(Row, case.name, f"{direction}, {PER_PIXEL}", rival=OURS, unit="s/px", bar=MIN_PER_PIXEL)
        for label, taken in times.items():
            if count := options[label].painted:
                ours, theirs, note = (
                    taken / count,
                    plain / area,
                    f"paints {count / area:.2f} of the plain call's pixels",
                )
                yield row(label, ours=ours, theirs=theirs, ratio=theirs / ours, note=note)


def option_calls(scene: Scene, both: bool) -> dict[str, Option]:
    random = torch.Generator().manual_seed(2)
    count, device = len(scene.boxes), scene.images.device
    alpha = torch.rand(count, generator=random).to(device)
    matte = torch.rand(count, 1, 16, 16, generator=random).to(device)
    masks, scene = ellipses(scene), scene.learnable() if both else scene
    options = {
        OURS: Option(scene, {}, None, painted_pixels(scene)),
        "ours, alpha (N,)": Option(scene, {"alpha": alpha}),
        "ours, a matte": Option(scene, {"alpha": matte}, painted=painted_pixels(scene)),
        "ours, transparent": Option(scene, {"padding_mode": "transparent"}),
        "ours, a mask": Option(scene, {"alpha": masks}, None, painted_pixels(scene)),
        "ours, clip=False": Option(scene, {"clip": False}, None, painted_pixels(scene, clip=False)),
    }
    if both:
        moving = scene._replace(boxes=scene.boxes.float().requires_grad_())
        options["ours, gradients to boxes"] = Option(moving, {})
    return options


def fill_rows(case: Case, settings: Settings) -> Iterator[Row]:
    """What a fill adds to the plain call, for each layer of objects that is taken off the picture and filled."""
    for direction in (FORWARD, BOTH):
        scene = make_scene(case, settings.device)
        scene = scene.learnable() if direction == BOTH else scene
        calls = {label: call(direction, scene, of) for label, of in ((OURS, {}), (FILL, {"fill": "surroundings"}))}
        calls[CLONE] = scene.images.detach().clone
        plain, filled, clone = (median(taken) for taken in _interleaved(calls, settings).values())
        layers = layer_count(scene)
        each, bar = (filled - plain) / layers, MIN_FILL if direction == FORWARD else None
        note = f"beyond the plain call, for each of {layers} layers"
        yield Row(case.name, direction, FILL, CLONE, "s", each, clone, clone / each, bar, note=note)


def _interleaved(calls: dict[str, Callable[[], object]], settings: Settings) -> dict[str, list[float]]:
    """Timed when nothing is left to compile: what compares the rivals takes no options."""
    for run in calls.values():
        run()
    return settings.interleaved(calls)


def call(direction: str, scene: Scene, options: dict[str, Any]) -> Callable[[], object]:
    run = partial(kp.affine_patches, *scene, **options)
    if direction == FORWARD:
        return partial(_forward, run)
    weight = torch.rand(scene.images.shape, generator=torch.Generator().manual_seed(1)).to(scene.images.device)
    return partial(_backward, run, scene, weight)


def _forward(run: Callable[[], torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return run()


def _backward(run: Callable[[], torch.Tensor], scene: Scene, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(run(), (scene.images, scene.theta), weight)
