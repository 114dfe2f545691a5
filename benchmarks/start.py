"""Seconds that the first call of a process takes: compiling when there is nothing in the cache, loading afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.rows import MIN_START, OURS, START, Row

FIRST_CALL = """
import time, torch, kornia.augmentation, kornia.geometry, kornia_patchaug as kp
images, theta = torch.rand(1, 3, 32, 48, requires_grad=True), torch.eye(2, 3)[None].requires_grad_()
boxes = torch.tensor([[2, 3, 30, 20]])
start = time.perf_counter()
kp.affine_patches(images, boxes, theta).sum().backward()
print(time.perf_counter() - start)
"""


def start_rows(again: int = 8) -> Iterator[Row]:
    """Forward and backward, of one dtype, in fresh processes that have imported torch and Kornia."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        first, *later = (_seconds(environment) for _ in range(1 + again))
    yield Row(START, "with nothing in the cache", OURS, "", "s", first, None, None, note="compiles")
    best = min(later)  # other work on the machine only ever adds
    yield Row(START, "later processes", OURS, "0.5 s", "s", best, 0.5, 0.5 / best, MIN_START, note="loads Numba too")


def _seconds(environment: dict[str, str]) -> float:
    run = subprocess.run(
        [sys.executable, "-c", FIRST_CALL], env=environment, capture_output=True, text=True, check=True
    )
    return float(run.stdout)
