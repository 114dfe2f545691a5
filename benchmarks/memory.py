"""Bytes: the peak of one forward and backward pass, in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import sys
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
    """Peak bytes beyond the inputs and the output, in a fresh process; None if it did not survive.

    The process is forked from one that has imported everything and run nothing: a fresh state without the wait.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["benchmarks.memory"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(peak, case, key, objects, device, count).result()
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
            kept = []  # the output
            gc.collect()
            before = _start(device)
            forward_and_backward(lambda *a, call=call, kept=kept: kept.append(call(*a)) or kept[0], scene, weight)
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
