"""Rows -> one table; versions and the machine; JSON and Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata

import torch

import kornia_patchaug as kp
from benchmarks.cases import CUDA_CASES, ONE_IMAGE
from benchmarks.reach import JOBS
from benchmarks.rivals import CLONE
from benchmarks.rows import BOUND, LANDS, LOST, MISSED, OURS, Row
from benchmarks.stages import StageTime, stage_table
from benchmarks.suite import Settings

HEADER = ("case", "measured", "contender", "its value", "against", "its value", "ratio", "bar", "verdict", "note")
PACKAGES = {"torch": "torch", "kornia": "kornia", "numba": "numba", "opencv": "opencv-python-headless"}
PACKAGES |= {"numpy": "numpy", "triton": "triton"}
LEGEND = """Float32. A ratio is the median time (or the peak) of what we are compared with over ours: 2 means twice as
good, below 1 that we lose. All contenders take turns in rounds. Forward runs without autograd; backward has gradients
to images and theta. Contenders that copy images for every object are timed on one object and on a part of the objects,
where the note says so, and their time is extended along the line through both: what grows faster is in their favour.
(a) and (b) do what `sequential=True` does; (c), (d) and (e) what the default does, (c) at one resolution for all
objects. Memory is the peak of forward and backward beyond inputs and output.

In P1, P3 and P4 objects come from elsewhere and are laid anywhere, by one call of `paste_patches` with `clip=False`;
they are compared with a canvas an object, as public code has it, and gradients go to what is learned there. The
pixels that a patch reaches count as painted, by the plain call and by others. What a fill costs beyond the plain call
is divided by the longest chain of overlaps.
"""
RATIOS = "Times better than each, by the table of all rows; bold where we lose."
STAGES = """Median times, and shares of the whole call's. Each stage is timed alone, on what the one before made.
*paint* is *sample* and *composite* in one sweep, also with alpha, gradients to boxes and `transparent`. Crops and
mattes take *sample* alone, `patch_size=` both, at the times below it. Forward runs without autograd; backward goes to
images and theta.
"""


def document(rows: Sequence[Row], stages: Sequence[StageTime], log: Sequence[dict], settings: Settings) -> dict:
    """What the JSON file holds. Neither a host's name nor a path is among it."""
    return {
        "versions": versions(),
        "machine": machine(settings.device),
        "settings": asdict(settings),
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
        "stages": [stage._asdict() for stage in stages],
        "times": list(log),
    }


def versions() -> dict[str, str | None]:
    found = {"python": platform.python_version(), "kornia_patchaug": kp.__version__}
    for name, package in PACKAGES.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine(device: str = "cpu") -> dict[str, str | int | float]:
    about = {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
    }
    return {**about, "gpu": torch.cuda.get_device_name()} if device == "cuda" else about


def table(rows: Sequence[Row]) -> str:
    """Markdown that is aligned as plain text too."""
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    numbers = {3, 5, 6, 7}
    rule = [("-" * (w - 1) + ":") if i in numbers else "-" * w for i, w in enumerate(widths)]
    padded = [
        [cell.rjust(w) if i in numbers else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in (lines[0], *lines[1:])
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:]))


def ratio_table(rows: Sequence[Row]) -> str:
    """What we make of every rival, by default options but in the `JOBS`: a row a case, a column a rival."""
    sizes, no_rivals = {case.name for case in (*CUDA_CASES, *JOBS)}, (CLONE, BOUND)
    of_interest = [r for r in rows if r.contender == OURS and r.case in sizes and r.rival not in no_rivals and r.ratio]
    found = {(r.case, r.measured, r.rival): r for r in of_interest}
    rivals = list(dict.fromkeys(rival for *_, rival in found))
    lines = [["case", "measured", *rivals], ["---", "---", *["---:"] * len(rivals)]]
    for case, measured in dict.fromkeys((case, measured) for case, measured, _ in found):
        of_rivals = [found.get((case, measured, rival)) for rival in rivals]
        cells = [_number(r.ratio) if r else "" for r in of_rivals]
        cells = [f"**{c}**" if r and r.verdict == LOST else c for r, c in zip(of_rivals, cells, strict=True)]
        lines.append([case, measured, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(rows: Sequence[Row]) -> str:
    """How many bars there are, and which rows missed theirs or lose."""
    bars = [row for row in rows if row.bar is not None]
    lines = [f"{sum(row.verdict == MISSED for row in bars)} of {len(bars)} bars missed."]
    for verdict in (MISSED, LANDS, LOST):
        names = [f"{r.case} {r.measured}, {r.contender} against {r.rival}" for r in rows if r.verdict == verdict]
        lines += [f"{verdict}: {name}" for name in names]
    return "\n".join(lines)


def markdown(content: dict, rows: Sequence[Row], stages: Sequence[StageTime]) -> str:
    """The file that docs/performance.md and docs/how-it-works.md take their tables from, by the sections' names."""
    about = ", ".join(f"{name} {version}" for name, version in content["versions"].items() if version)
    where = content["machine"]
    quick = " (`--quick`: few rounds, parts of the objects)" if content["settings"]["quick"] else ""
    found = {row.case for row in rows}
    cases = "\n".join(f"- {case}" for case in (*CUDA_CASES, ONE_IMAGE, *JOBS) if case.name in found)
    device = f"{where['gpu']} beside " if "gpu" in where else ""
    computer = f"{where['processor']}, {where['cores']} cores, {where['memory_gib']} GiB"
    count = content["settings"]["threads"]
    parts = (
        "# Results of `make bench`" + quick,
        *_section("machine", f"{device}{computer}; {count} threads. {about}."),
        *_section("cases", cases),
        *_section("legend", LEGEND.strip()),
        RATIOS,
        *_section("ratios", ratio_table(rows)),
        "## Every row",
        *_section("rows", table(rows)),
        summary(rows).replace("\n", "\n\n"),
        "## Cost per stage",
        *_section("stages", STAGES.strip() + "\n\n" + stage_table(stages)),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(name: str, text: str) -> tuple[str, str, str]:
    """Between marks by which pages of the documentation take it."""
    return f"<!-- --8<-- [start:{name}] -->", text, f"<!-- --8<-- [end:{name}] -->"


def _cells(row: Row) -> tuple[str, ...]:
    limit = "" if row.bar is None else f"{'<=' if row.at_most else '>='} {_number(row.bar)}"
    ratio = "" if row.ratio is None else _number(row.ratio)
    values = (_value(row.ours, row.unit), row.rival, _value(row.theirs, row.unit))
    return row.case, row.measured, row.contender, *values, ratio, limit, row.verdict, row.note


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    shown = {"s": (1e3, "ms"), "s/px": (1e9, "ns/px")}
    factor, name = shown.get(unit, (1, unit))
    return f"{value * factor:.4g} {name}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
