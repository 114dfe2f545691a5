"""What is measured: cases -> rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from statistics import median, quantiles
from typing import TypeVar

import numpy as np
import torch

from benchmarks import reach
from benchmarks.cases import ONE_IMAGE, Case, Scene, growing, make_scene
from benchmarks.measure import forward, forward_and_backward, interleaved
from benchmarks.memory import bound, measured_peak
from benchmarks.rivals import BOTH, CLONE, CONTENDERS, FORWARD, OPENCV, opencv_loop
from benchmarks.rows import (
    BOUND,
    GROWTH,
    MAX_EXPONENT,
    MEMORY,
    MIN_MEMORY,
    MIN_THREADS,
    ONE_THREAD,
    OURS,
    REACH_BARS,
    THREADS,
    Row,
    time_row,
)

MB = 1e6
Name = TypeVar("Name")


@dataclass(frozen=True)
class Settings:
    """How much is measured. `parts`: on how many objects of a case contenders that copy images for each are timed."""

    device: str = "cpu"
    threads: int = 2
    rounds: int = 15
    patience: float = 20.0
    least: int = 3
    parts: dict[str, int] = field(default_factory=lambda: {"L": 64, "M64": 32})
    counts: tuple[int, ...] = (100, 200, 400, 800, 1600)
    memory_parts: dict[str, int] = field(default_factory=lambda: {"L": 100, "M64": 100})  # (c) takes 10 GB on all of L
    memory_of: tuple[str, ...] = ("ours", "sequential", "c")
    sequential: bool = True  # measured too
    quick: bool = False

    def interleaved(self, calls: dict[Name, Callable[[], object]]) -> dict[Name, list[float]]:
        return interleaved(calls, rounds=self.rounds, patience=self.patience, least=self.least, count=self.threads)

    def part(self, case: Case) -> int:
        return min(case.objects, self.parts.get(case.name, case.objects))


QUICK = Settings(
    rounds=3,
    patience=0.1,
    least=1,
    parts={"M": 3, "L": 3, "XL": 2, "M64": 16},
    counts=(100, 400, 1600),
    memory_of=("ours",),
    sequential=False,
    quick=True,
)


def time_rows(case: Case, settings: Settings, log: list[dict]) -> Iterator[Row]:
    """Every contender in both directions; `log` receives the seconds behind each median."""
    for direction in (FORWARD, BOTH):
        seconds = settings.interleaved(_calls(case, direction, settings))
        measured = {call: median(taken) for call, taken in seconds.items()}
        times, notes = {}, {}
        for (key, count), taken in seconds.items():
            entry = {"case": case.name, "measured": direction, "contender": key, "objects": count}
            log.append({**entry, "seconds": median(taken), "quartiles": _quartiles(taken), "rounds": len(taken)})
            times[key], notes[key] = measured[key, count], ""
            if count < case.objects and count > 1:
                times[key] = extended({1: measured[key, 1], count: measured[key, count]}, case.objects)
                notes[key] = f"timed on 1 and {count} of {case.objects} objects"
        row = partial(time_row, case.name, direction, device=settings.device)
        for key in ("a", "b", "c", "e"):
            yield row(OURS, CONTENDERS[key].label, times["ours"], times[key], note=notes[key])
        if OPENCV in times:
            yield row(OURS, OPENCV, times["ours"], times[OPENCV] + times[CLONE])
        yield row(OURS, CLONE, times["ours"], times[CLONE])
        for key in ("a", "b") if settings.sequential else ():  # what sequential=True replaces
            contender = CONTENDERS["sequential"].label
            yield row(contender, CONTENDERS[key].label, times["sequential"], times[key], note=notes[key])


def extended(times: dict[int, float], count: int) -> float:
    """The time of `count` objects on the line through two counts: what grows faster than that is free."""
    (few, low), (some, high) = sorted(times.items())
    return low + max(high - low, 0.0) * (count - few) / (some - few)


def growth_rows(settings: Settings, log: list[dict]) -> Iterator[Row]:
    """The plain fit of log time over log N, nothing subtracted; boxes keep their size and images their number."""
    for direction in (FORWARD, BOTH):
        case = growing(max(settings.counts))
        scene, weight = _inputs(case, direction, settings)
        calls = {n: _call("ours", case, scene.first(n), weight) for n in settings.counts}
        seconds = settings.interleaved(calls)
        times = {n: median(taken) for n, taken in seconds.items()}
        for n, taken in seconds.items():
            entry = {"case": GROWTH, "measured": direction, "contender": "ours", "objects": n}
            log.append({**entry, "seconds": times[n], "quartiles": _quartiles(taken), "rounds": len(taken)})
        few, many = min(times), max(times)
        name, rival = f"{GROWTH}: {few} to {many} objects", f"{few} objects"
        note = "exponent of the fit, at most"
        exponent = growth_exponent(times)
        yield Row(name, direction, OURS, rival, "s", times[many], times[few], exponent, MAX_EXPONENT, None, True, note)


def growth_exponent(times: dict[int, float]) -> float:
    return float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])


def thread_rows(settings: Settings) -> Iterator[Row]:
    """One image, whose objects must share the cores among them."""
    for direction in (FORWARD, BOTH):
        call = {"ours": _call("ours", ONE_IMAGE, *_inputs(ONE_IMAGE, direction, settings))}
        taken: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(settings.rounds):
            for count in taken:
                one = interleaved(call, rounds=1, patience=0.0, count=count)
                taken[count] += one["ours"]
            if sum(taken[1]) > settings.patience and len(taken[1]) >= settings.least:
                break
        one, two = median(taken[1]), median(taken[2])
        yield Row(ONE_IMAGE.name, direction, OURS, ONE_THREAD, "s", two, one, one / two, MIN_THREADS, note=THREADS)


def memory_rows(case: Case, settings: Settings) -> Iterator[Row]:
    """Forward and backward. The Kornia idiom on a part of the objects is not scaled, which is in its favour."""
    peaks, notes = {}, {}
    for key in settings.memory_of:
        count = min(case.objects, settings.memory_parts.get(case.name, case.objects)) if key == "c" else case.objects
        notes[key] = "" if count == case.objects else f"theirs on {count} of {case.objects} objects, not scaled"
        peaks[key] = measured_peak(case, key, count, settings.device, settings.threads)
        if peaks[key] is None and key != "c":
            raise RuntimeError(f"{CONTENDERS[key].label} in {case}: the process died, perhaps for want of memory.")
    limit = bound(make_scene(case))
    for key in (key for key in peaks if key != "c"):
        ours = max(peaks[key], 1)
        row = partial(Row, case.name, MEMORY, CONTENDERS[key].label, unit="MB", ours=ours / MB)
        bar = MIN_MEMORY if key == "ours" else None
        yield row(BOUND, theirs=limit / MB, ratio=limit / ours, bar=bar, note="3 batches + 24 B x C x window area")
        if "c" in peaks:
            rival = peaks["c"]
            theirs, ratio = (None, None) if rival is None else (rival / MB, rival / ours)
            yield row(CONTENDERS["c"].label, theirs=theirs, ratio=ratio, note=notes["c"] or _gone(rival))


def reach_rows(job: reach.Job, settings: Settings, log: list[dict]) -> Iterator[Row]:
    """One call of ours against a canvas an object: time, and memory unless the run is quick; forward and backward."""
    given, runs = job.inputs(settings.device).learnable(job.learned), reach.runs(job)
    weight = torch.rand(given.images.shape, generator=torch.Generator().manual_seed(1)).to(settings.device)
    calls = {who: partial(reach.learn, run, given, job.learned, weight) for who, run in runs.items()}
    seconds = settings.interleaved(calls)
    for who, taken in seconds.items():
        entry = {"case": job.name, "measured": BOTH, "contender": who, "objects": len(given.boxes)}
        log.append({**entry, "seconds": median(taken), "quartiles": _quartiles(taken), "rounds": len(taken)})
    times = [median(seconds[who]) for who in (OURS, reach.RIVAL)]
    note, bars = f"gradients to {', '.join(job.learned)}", REACH_BARS[job.name]
    yield Row(job.name, BOTH, OURS, reach.RIVAL, "s", *times, times[1] / times[0], bars[BOTH], note=note)
    if settings.quick:
        return
    del calls, given, weight
    peak, theirs = (reach.measured_peak(job, who, settings.device, settings.threads) for who in (OURS, reach.RIVAL))
    if peak is None:
        raise RuntimeError(f"{OURS} in {job}: the process died, perhaps for want of memory.")
    peak = max(peak, 1)
    theirs, ratio = (None, None) if theirs is None else (theirs / MB, theirs / peak)
    note = _gone(theirs) or note
    yield Row(job.name, MEMORY, OURS, reach.RIVAL, "MB", peak / MB, theirs, ratio, bars[MEMORY], note=note)


def _gone(peak: float | None) -> str:
    return "its process died, perhaps for want of memory" if peak is None else ""


def _quartiles(taken: list[float]) -> list[float]:
    low, _, high = quantiles(taken, n=4) if len(taken) > 1 else taken * 3
    return [low, high]


def _calls(case: Case, direction: str, settings: Settings) -> dict[tuple[str, int], Callable[[], object]]:
    """By contender and number of objects; those on a part of the objects are there with one object too."""
    scene, weight = _inputs(case, direction, settings)
    calls = {}
    for key, contender in CONTENDERS.items():
        if key == "sequential" and not settings.sequential:
            continue
        part = settings.part(case) if direction in contender.copies else case.objects
        for count in {part} if part == case.objects else (1, part):
            calls[key, count] = _call(key, case, scene.first(count), weight)
    calls[CLONE, case.objects] = scene.images.clone
    if direction == FORWARD and settings.device == "cpu":
        calls[OPENCV, case.objects] = opencv_loop(scene)
    return calls


def _inputs(case: Case, direction: str, settings: Settings) -> tuple[Scene, torch.Tensor | None]:
    """The scene, and the weight of its output where there is a backward pass."""
    scene = make_scene(case, settings.device)
    weight = torch.rand(scene.images.shape, generator=torch.Generator().manual_seed(1)).to(settings.device)
    return scene, weight if direction == BOTH else None


def _call(key: str, case: Case, scene: Scene, weight: torch.Tensor | None) -> Callable[[], object]:
    run = CONTENDERS[key].run
    if key == "c":
        run = partial(run, size=(case.patch_side,) * 2)
    if weight is None:
        return partial(forward, run, scene)
    return partial(forward_and_backward, run, scene.learnable(), weight)
