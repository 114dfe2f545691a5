"""Arguments, files, order of the run."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.agree import check_reach, check_rivals
from benchmarks.cases import CASES, CUDA_CASES, Case
from benchmarks.options import fill_rows, option_rows
from benchmarks.reach import JOBS, Job
from benchmarks.report import document, markdown, ratio_table, summary, table
from benchmarks.rows import Row
from benchmarks.stages import stage_table, stage_times
from benchmarks.start import start_rows
from benchmarks.suite import QUICK, Settings, growth_rows, memory_rows, reach_rows, thread_rows, time_rows


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    start = time.perf_counter()
    cases = [case for case in (CUDA_CASES if options.device == "cuda" else CASES) if case.name in options.cases]
    jobs = [job for job in JOBS if job.name in options.cases]
    settings = replace(QUICK if options.quick else Settings(), device=options.device, threads=options.threads)
    torch.set_num_threads(options.threads)
    if cases:
        check_rivals(options.device, settings.sequential)
    check_reach(options.device, jobs)
    log: list[dict] = []
    rows = list(measure(cases, jobs, settings, log))
    _say("stages")
    stages = [time for case in cases for time in stage_times(case, settings)]
    content = document(rows, stages, log, settings)
    for text in (table(rows), summary(rows), ratio_table(rows), stage_table(stages)):
        print(text)
    _write(options.out, json.dumps(content, indent=1))
    if options.markdown:
        _write(options.markdown, markdown(content, rows, stages))
    print(f"{options.out}, after {time.perf_counter() - start:.0f} s")
    return 0


def measure(cases: Sequence[Case], jobs: Sequence[Job], settings: Settings, log: list[dict]) -> Iterator[Row]:
    """All rows, in the order of the table. Memory is measured while little is held here."""
    if cases:
        yield from _measure_cases(cases, settings, log)
    for job in jobs:
        _say(str(job))
        yield from reach_rows(job, settings, log)


def _measure_cases(cases: Sequence[Case], settings: Settings, log: list[dict]) -> Iterator[Row]:
    for case in cases:
        _say(str(case))
        yield from time_rows(case, settings, log)
        if case.name in ("M", "L") and not settings.quick:
            yield from option_rows(case, settings)
        if case.name == "M" and not settings.quick:
            yield from fill_rows(case, settings)
    _say("growth with the number of objects")
    yield from growth_rows(settings, log)
    if settings.device == "cpu":
        _say("one image on both cores")
        yield from thread_rows(settings)
        if not settings.quick:  # compiling takes longer than all the rest of a quick run
            _say("the first call of a process")
            yield from start_rows()
    for case in cases:
        if case.name != "S":  # smaller than what a process grows by on its own
            _say(f"memory of {case.name}")
            yield from memory_rows(case, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="affine_patches against its rivals")
    parser.add_argument("--quick", action="store_true", help="a minute at most: few rounds, parts of the objects")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    names = [case.name for case in (*CUDA_CASES, *JOBS)]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help=" ".join(names))
    parser.add_argument("--out", type=Path, default=Path("out/bench/bench.json"), help="JSON file")
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    return parser


def _say(text: str) -> None:
    print(f"... {text}", flush=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    raise SystemExit(main())
