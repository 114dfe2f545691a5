"""One comparison a row: ours, the rival's, their ratio, the bar that it must reach, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.rivals import BOTH, CLONE, CONTENDERS, FORWARD, OPENCV

MET, LANDS, MISSED, LOST = "met", "within 1.5x", "MISSED", "we lose"
A, OURS = CONTENDERS["a"].label, CONTENDERS["ours"].label
START = "first call of a process"
BOUND, ONE_THREAD, GROWTH, MEMORY, THREADS = (
    "bound",
    "1 thread",
    "growth",
    "peak memory",
    "time of 1 thread over that of 2",
)

# The rival's time over ours, at least: (direction, rival) -> case -> bar.
CPU_BARS = {
    (FORWARD, A): {"S": 2.5, "M": 1.5, "L": 1.5, "XL": 1.5},
    (BOTH, A): {"S": 3.5, "M": 8.0, "L": 100.0, "XL": 2.0},
    (FORWARD, OPENCV): {"M": 1.0, "L": 1.0, "XL": 1.0},
}
CUDA_BARS = {(FORWARD, CLONE): {"M64": 1 / 2}, (BOTH, CLONE): {"M64": 1 / 5}}
MIN_OPTION = 1 / 1.4  # the plain call's time over that with an option
MIN_PER_PIXEL = 1 / 1.5  # the same for each painted pixel, of what paints other pixels than the plain call
MIN_FILL = 1 / 6  # the time of images.clone() over that of a layer that is taken off and filled
REACH_BARS = {  # times better than a canvas an object
    "P1": {BOTH: 10.0, MEMORY: 20.0},
    "P3": {BOTH: 5.0, MEMORY: 5.0},
    "P4": {BOTH: 5.0, MEMORY: 5.0},
}
LANDS_AT = {OPENCV: 1 / 1.5}  # the least that may land, where that is less than the bar
MAX_EXPONENT, MIN_MEMORY, MIN_THREADS, MIN_START = 1.05, 1.0, 1.5, 1.0


@dataclass(frozen=True)
class Row:
    """`ratio` says how many times better than the rival we are, but for growth, where it is the exponent."""

    case: str
    measured: str
    contender: str
    rival: str
    unit: str  # of the next two: "s", "s/px" or "MB"
    ours: float
    theirs: float | None  # None: did not fit in memory
    ratio: float | None
    bar: float | None = None
    lands: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return ""
        if self.bar is None:  # nobody warps in less than a copy takes
            return LOST if self.ratio < 1 and self.rival != CLONE else ""
        if self.ratio <= self.bar if self.at_most else self.ratio >= self.bar:
            return MET
        return LANDS if self.lands is not None and self.ratio >= self.lands else MISSED


def time_row(case: str, direction: str, contender: str, rival: str, ours: float, theirs: float, **more) -> Row:
    """Bars are for the default options; they differ between CPU and CUDA."""
    bars = CUDA_BARS if more.pop("device", "cpu") == "cuda" else CPU_BARS
    bar = bars.get((direction, rival), {}).get(case) if contender == OURS else None
    lands = LANDS_AT.get(rival) if bar is not None else None
    return Row(case, direction, contender, rival, "s", ours, theirs, theirs / ours, bar, lands, **more)
