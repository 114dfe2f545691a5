"""Seconds: contenders take turns in rounds, so that other work on the machine meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import cv2
import torch
from torch.utils.benchmark import Timer
from torch.utils.benchmark.utils.timer import timer  # the clock of Timer: synchronises CUDA

from benchmarks.cases import Scene

Name = TypeVar("Name")
LONG, SHORTEST = 0.2, 0.02  # a longer call is timed once, shorter ones are repeated for so many seconds


@contextmanager
def threads(count: int) -> Iterator[None]:
    """The same number of threads for torch, whose number our kernels keep to, and OpenCV."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    _set_threads(count, count)
    try:
        yield
    finally:
        _set_threads(*before)


def forward(run: Callable, scene: Scene) -> torch.Tensor:
    with torch.no_grad():
        return run(*scene)


def forward_and_backward(run: Callable, scene: Scene, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gradients to images and theta for a fixed weight of every output value, which is not timed."""
    return torch.autograd.grad(run(*scene), (scene.images, scene.theta), weight)


def interleaved(
    calls: Mapping[Name, Callable[[], object]], *, rounds: int, patience: float, least: int = 1, count: int = 2
) -> dict[Name, list[float]]:
    """Seconds of each call in each round, begun by another call every time.

    A call that has been measured `least` times and has taken `patience` seconds in all sits out the other rounds.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    names = list(calls)
    with threads(count):
        for turn in range(rounds):
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                taken = seconds[name]
                if len(taken) < least or sum(taken) < patience:
                    taken.append(_single(calls[name], taken[-1] if taken else None, count))
    return seconds


def _single(call: Callable[[], object], known: float | None, count: int) -> float:
    if known is None or known > LONG:
        start = timer()
        call()
        known = timer() - start
    if known > LONG:
        return known
    return Timer("call()", globals={"call": call}, num_threads=count).blocked_autorange(min_run_time=SHORTEST).median


def _set_threads(of_torch: int, of_opencv: int) -> None:
    torch.set_num_threads(of_torch)
    cv2.setNumThreads(of_opencv)
