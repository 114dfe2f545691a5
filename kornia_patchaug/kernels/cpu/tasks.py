"""How the work of a CPU kernel is cut into tasks, which threads take one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kornia_patchaug.kernels.cpu.jit import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pixels of a task: few enough to share the work evenly, many enough not to notice that it is handed out.
WINDOW_TASK, BAND_TASK = 1 << 14, 1 << 15


def row_bands(shape: torch.Size) -> NDArray[np.int64]:
    """The bands of all pictures that are tasks."""
    return bands(shape[0], shape[2], max(1, BAND_TASK // shape[3]))


@compiled
def window_tasks(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(K, 3)``: object, first row, one past the last row of its window."""
    count = 0
    for n in range(len(table)):
        count += -(-table[n, 4] // max(WINDOW_TASK // max(table[n, 3], 1), 1))
    tasks, k = np.empty((count, 3), np.int64), 0
    for n in range(len(table)):
        step = max(WINDOW_TASK // max(table[n, 3], 1), 1)
        for row in range(0, table[n, 4], step):
            tasks[k, 0], tasks[k, 1], tasks[k, 2] = n, row, min(row + step, table[n, 4])
            k += 1
    return tasks


@compiled
def bands(pictures: int, height: int, step: int) -> NDArray[np.int64]:
    """``(K, 3)``: picture, first row, one past the last row."""
    each = -(-height // step)
    found = np.empty((pictures * each, 3), np.int64)
    for k in range(len(found)):
        row = k % each * step
        found[k, 0], found[k, 1], found[k, 2] = k // each, row, min(row + step, height)
    return found


@compiled
def by_picture(index: NDArray[np.int64], pictures: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The objects sorted by their picture, in row order, and where those of each picture begin ``(pictures + 1,)``."""
    first = np.zeros(pictures + 2, np.int64)
    for picture in index:
        first[picture + 2] += 1
    first = first.cumsum()
    order = np.empty(len(index), np.int64)
    for n in range(len(index)):
        order[first[index[n] + 1]] = n
        first[index[n] + 1] += 1
    return order, first[:-1]
