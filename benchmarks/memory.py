"""Bytes: the peak of one forward and backward pass, in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import torch

from benchmarks.cases import TINY, Case, Scene, make_scene
from benchmarks.measure import forward_and_backward, threads
from benchmarks.rivals import CONTENDERS


def bound(scene: Scene) -> int:
    """Three batches of images, and 24 bytes x C x total window area."""
    images = scene.images
    return 3 * images.numel() * images.element_size() + 24 * images.shape[1] * scene.area


def measured_peak(case: Case, key: str, objects: int, device: str, count: int) -> int | None:
    """Peak bytes beyond the inputs and the output, in a fresh process; None if it did not survive."""
    return in_fresh_process(peak, case, key, objects, device, count)


def in_fresh_process(measure: Callable[..., int], *arguments: object) -> int | None:
    """What a function says in a process of its own; None if that did not survive.

    The process is forked from one that has imported everything and run nothing: a fresh state without the wait. One
    that uses CUDA cannot be forked.
    """
    can_fork = "forkserver" in multiprocessing.get_all_start_methods() and not torch.cuda.is_available()
    context = multiprocessing.get_context("forkserver" if can_fork else "spawn")
    if can_fork:
        context.set_forkserver_preload(["benchmarks.memory", "benchmarks.reach"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, *arguments).result()
        except BrokenProcessPool:
            return None


def peak(case: Case, key: str, objects: int, device: str, count: int) -> int:
    """The same in this process, which should be fresh."""
    run = CONTENDERS[key].run
    with threads(count):
        for warm_up, number in ((TINY, TINY.objects), (case, objects)):
            scene = make_scene(warm_up, device).first(number).learnable()
            weight = torch.rand_like(scene.images)
            call = partial(run, size=(case.patch_side,) * 2) if key == "c" else run
            used = beyond(partial(forward_and_backward, scene=scene, weight=weight), call, device)
    return used


def beyond(both: Callable[[Callable], object], run: Callable[..., torch.Tensor], device: str) -> int:
    """Peak bytes of `both`, which is given `run`, beyond what is held before and beyond what `run` returns."""
    kept: list[torch.Tensor] = []

    def keeping(*given: object) -> torch.Tensor:
        kept.append(run(*given))
        return kept[0]

    gc.collect()
    before = _start(device)
    both(keeping)
    used = _peak(device) - before
    return used - kept[0].numel() * kept[0].element_size()


def _start(device: str) -> int:
    """Forget earlier peaks, where the system can, and return what is held now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets VmHWM
    except OSError:
        pass
    return _peak(device)


def _peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # macOS, which counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
