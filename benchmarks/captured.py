"""``python -m benchmarks.captured``: a call in a CUDA Graph, which needs a GPU.

What it paints must be what the call does, bit by bit, also of other images and theta than those of its capture; and how
long either takes, beside a copy of the batch. A graph is run by the GPU alone, which shows what the host costs.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

import kornia_patchaug as kp
from benchmarks.cases import CUDA_CASES, Case, make_scene

CAPTURES, RUNS = 3, 50  # before the first capture, as torch asks for; of each time


def main() -> int:
    if not torch.cuda.is_available():
        print("There is no GPU.")
        return 1
    case = next(case for case in CUDA_CASES if case.name == "M64")
    rows = times(case)
    print(f"{case}, {torch.cuda.get_device_name()}: median milliseconds of {RUNS} runs.\n")
    print("| | ms | in copies of the batch |\n|---|---|---|")
    for name, time in rows.items():
        print(f"| {name} | {time:.3f} | {time / rows['copy']:.2f} |")
    return 0


def times(case: Case) -> dict[str, float]:
    """Median milliseconds by name; fails if a graph paints or differentiates anything else than the call."""
    scene = make_scene(case)
    images, theta = scene.images.cuda(), scene.theta.cuda()
    weight = torch.linspace(-1, 1, images.numel(), device="cuda").view(images.shape)
    boxes, obj_to_img = scene.boxes.float(), scene.obj_to_img  # on the host: nothing waits

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [kp.affine_patches(images, boxes, theta, obj_to_img)]

    def both() -> list[Tensor]:
        learnt = images.requires_grad_(), theta.requires_grad_()
        painted = kp.affine_patches(images, boxes, theta, obj_to_img)
        return [painted.detach(), *torch.autograd.grad(painted, learnt, weight)]

    found = {"copy": timed(images.detach().clone)}
    for name, call in (("forward", forward), ("forward and backward", both)):
        found[name] = timed(call)
        graph, made = captured(call)
        with torch.no_grad():
            images.copy_(images.flip(0))
            theta += 0.05
        graph.replay()
        for one, other in zip(made, call(), strict=True):
            assert torch.equal(one, other), f"{name}: a graph gives something else"
        found[f"{name}, in a CUDA Graph"] = timed(graph.replay)
    return found


def captured(call: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """A graph of a call, and what it writes its results to."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(CAPTURES):
            call()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = call()
    return graph, made


def timed(call: Callable[[], object]) -> float:
    """Median milliseconds of a call, each from the host's first word to the GPU's last."""
    call()
    found = []
    for _ in range(RUNS):
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end))
    return median(found)


if __name__ == "__main__":
    raise SystemExit(main())
