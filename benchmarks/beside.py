"""``python -m benchmarks.beside``: a call beside a copy of the batch, and what else a GPU does with images and boxes.

On a GPU also in a CUDA Graph, which runs without the host, and shows what that costs: it must paint and differentiate
what the call does, bit by bit, also of other images and theta than those that it was captured with.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from kornia.augmentation import RandomAffine
from torch import Tensor

import kornia_patchaug as kp
from benchmarks.cases import CUDA_CASES, TINY, Case, make_scene

WARM, RUNS = 3, 50  # before a capture, as torch asks for; of each time
CROP = (56, 56)  # a crop is smaller than its box, so that roi_align reads the same pixels


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", default="M64", choices=[case.name for case in (TINY, *CUDA_CASES)])
    options = parser.parse_args(arguments)
    case = next(case for case in (TINY, *CUDA_CASES) if case.name == options.case)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{case}, {name}: medians of {RUNS} runs.\n\n| what | ms | in copies of the batch |\n|---|---|---|")
    rows = times(case, options.device)
    for what, taken in rows.items():
        print(f"| {what} | {taken:.3f} | {taken / rows['images.clone()']:.2f} |")


def times(case: Case, device: str) -> dict[str, float]:
    """Milliseconds by name; fails if a graph gives anything else than its call, or our crops than torchvision's, whose
    row is left out where it cannot be had."""
    scene = make_scene(case)
    images, theta = scene.images.to(device), scene.theta.to(device)
    weight = torch.linspace(-1, 1, images.numel(), device=device).view(images.shape)
    boxes, obj_to_img = scene.boxes.float(), scene.obj_to_img  # on the host: nothing waits
    rows = torch.cat([obj_to_img[:, None].float(), boxes], dim=1).to(device)
    size = min(CROP[0], case.sides[0]), min(CROP[1], case.sides[0])
    affine = RandomAffine(10, (0.1, 0.1), (0.9, 1.1), p=1.0)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [kp.affine_patches(images, boxes, theta, obj_to_img)]

    def both() -> list[Tensor]:
        learnt = images.requires_grad_(), theta.requires_grad_()
        painted = kp.affine_patches(images, boxes, theta, obj_to_img)
        return [painted.detach(), *torch.autograd.grad(painted, learnt, weight)]

    def crops() -> Tensor:
        return kp.crop_patches(images.detach(), boxes, obj_to_img, size)

    found = {"images.clone()": timed(images.detach().clone)}
    for name, call in (("forward", forward), ("forward and backward", both)):
        found[name] = timed(call)
        if device == "cuda":
            graph, made = captured(call)
            with torch.no_grad():
                images.copy_(images.flip(0))
                theta += 0.05
            graph.replay()
            for one, other in zip(made, call(), strict=True):
                assert torch.equal(one, other), f"{name}: a graph gives something else"
            found[f"{name}, in a CUDA Graph"] = timed(graph.replay)
    found["Kornia's RandomAffine of whole images, forward"] = timed(lambda: affine(images.detach()))
    found[f"crop_patches to {size[0]} x {size[1]}, forward"] = timed(crops)
    try:
        from torchvision.ops import roi_align
    except (ImportError, RuntimeError):  # it is not there, or was made for another torch
        return found
    options = {"sampling_ratio": 1, "aligned": True}
    torch.testing.assert_close(crops(), roi_align(images.detach(), rows, size, **options), rtol=0, atol=1e-4)
    found["torchvision's roi_align to the same, forward"] = timed(
        lambda: roi_align(images.detach(), rows, size, **options)
    )
    return found


def captured(call: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """A graph of a call, and what it writes its results to."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM):
            call()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="relaxed"):  # as pinned memory is allocated
        made = call()
    return graph, made


def timed(call: Callable[[], object]) -> float:
    """Median milliseconds of a call, until a GPU is done with it."""
    call()
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(1e3 * (time.perf_counter() - start))
    return median(found)


if __name__ == "__main__":
    main()
