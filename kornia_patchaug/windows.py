"""Which whole pixels each object paints, the flat layout of all windows, and the coverage of fractional edges.

The window of a box is the whole pixels that it touches, ``[floor x1, ceil x2) x [floor y1, ceil y2)``; what of it lies
in the image is painted. All painted pixels of all objects lie one after another, object by object and row by row, in
flat buffers ``(P,)`` and ``(C, P)``, so that memory is bounded by the boxes and never by N images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pairs of objects compared at once when layers are made; bounds the memory of that step to some 16 MB.
PAIRS_AT_ONCE = 1 << 22


class Column:
    """Where the integers of ``Windows.table`` stand. Limits: the first and last pixel x0 y0 x1 y1 of the whole window,
    counted from its origin."""

    IMAGE, ORIGIN, SIZE, LIMITS, START = 0, slice(1, 3), slice(3, 5), slice(5, 9), 9


@dataclass(frozen=True)
class Windows:
    """The painted rectangles of N objects, sizes and origins as (x, y); what the host knows needs no transfer."""

    host: NDArray[np.int64]  # (N, 9) on the host, the columns of image, origin, size and limits
    device: torch.device

    @cached_property
    def table(self) -> Tensor:
        """``(N, 10)`` int64 on the device: all of the below."""
        table = np.empty((len(self.host), 10), np.int64)
        area = self.host[:, 3] * self.host[:, 4]
        table[:, :9], table[:, Column.START] = self.host, area.cumsum() - area
        return torch.from_numpy(table).to(self.device, non_blocking=True)

    @property
    def image(self) -> Tensor:
        """``(N,)`` which image is painted."""
        return self.table[:, Column.IMAGE]

    @property
    def origin(self) -> Tensor:
        """``(N, 2)`` the first painted pixel."""
        return self.table[:, Column.ORIGIN]

    @property
    def size(self) -> Tensor:
        """``(N, 2)`` painted pixels across and down; 0 where nothing is painted."""
        return self.table[:, Column.SIZE]

    @cached_property
    def total(self) -> int:
        """P, the length of the flat buffers."""
        return int((self.host[:, 3] * self.host[:, 4]).sum())

    def rectangles(self) -> NDArray[np.int64]:
        """``(N, 4)`` on the host: first and last painted pixel x0 y0 x1 y1."""
        origin, size = self.host[:, Column.ORIGIN], self.host[:, Column.SIZE]
        return np.concatenate([origin, origin + size - 1], axis=1)

    def where(self) -> tuple[Tensor, Tensor, Tensor]:
        """``image, row, column``, each ``(P,)``, of every painted pixel."""
        obj, x, y = flat_pixels(self.table, self.total)
        return self.image[obj], self.origin[:, 1][obj] + y, self.origin[:, 0][obj] + x

    def select(self, rows: Tensor) -> Windows:
        """The windows of some objects, by their rows on the host, laid out anew."""
        return Windows(self.host[rows.numpy()], self.device)


def reads_of(
    picture: NDArray[np.integer], origin: NDArray[np.number] | int, limits: NDArray[np.number]
) -> NDArray[np.int64]:
    """What *sample* reads, ``(N, 7)`` int64 on the host: the columns of picture, origin (2) and limits (4)."""
    reads = np.empty((len(picture), 7), np.int64)
    reads[:, 0], reads[:, 1:3], reads[:, 3:7] = picture, origin, limits
    return reads


def flat_pixels(table: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """``obj, x, y``, each ``(P,)``: whose the flat pixel is, and its column and row in the window."""
    area = table[:, Column.SIZE].prod(1)
    obj = torch.arange(len(area), device=table.device).repeat_interleave(area, output_size=total)
    within = torch.arange(total, device=table.device) - table[:, Column.START][obj]
    width = table[:, Column.SIZE][:, 0][obj]
    y = within.div(width, rounding_mode="floor")
    return obj, within - y * width, y


def make_windows(
    boxes: NDArray[np.float64], image: NDArray[np.int64], height: int, width: int, device: torch.device
) -> Windows:
    """Windows of checked float64 boxes on the host, for images of ``height`` and ``width`` on ``device``."""
    first, stop = np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])
    low, high = np.maximum(first, 0), np.minimum(stop, (width, height))
    has_side = (boxes[:, 2:] > boxes[:, :2]) & (high > low)  # across, down
    has_area = has_side[:, :1] & has_side[:, 1:]
    low, high = low * has_area, high * has_area
    host = np.empty((len(boxes), 9), np.int64)
    host[:, Column.IMAGE], host[:, Column.ORIGIN], host[:, Column.SIZE] = image, low, high - low
    host[:, Column.LIMITS] = np.concatenate([first - low, stop - 1 - low], axis=1)
    return Windows(host, device)


def regular_windows(count: int, height: int, width: int, device: torch.device) -> Windows:
    """Windows that paint the whole of ``count`` images of one size: the flat buffer is ``(count, height, width)``."""
    host = np.empty((count, 9), np.int64)
    host[:] = 0, 0, 0, width, height, 0, 0, width - 1, height - 1
    host[:, Column.IMAGE] = np.arange(count)
    return Windows(host, device)


def coverage(pixels: tuple[Tensor, Tensor, Tensor], boxes: Tensor) -> Tensor:
    """The share of each flat pixel's square inside its box, ``(P,)``; ``boxes (N, 4)`` count from the windows' origins.

    1 inside and exactly 1 on integer boxes, whose gradient is that of the pixel losing coverage.
    """
    obj, *position = pixels
    edges = boxes.mT[:, obj]  # (4, P)
    shares = []
    for axis in (0, 1):
        before_stop = (edges[axis + 2] - position[axis]).clamp(0, 1)
        after_start = (position[axis] + 1 - edges[axis]).clamp(0, 1)
        shares.append(before_stop + after_start - 1)
    return shares[0] * shares[1]


def layers(windows: Windows, regions: Windows) -> list[Tensor]:
    """Split rows, on the host, into layers, so that who reads or paints over an earlier row comes in a later layer.

    ``regions``: what each object may read of its image. Objects that paint nothing are in no layer. There are as many
    layers as the longest chain of overlaps has links, and at least one.
    """
    host = torch.from_numpy(windows.host)
    image, size = host[:, Column.IMAGE], host[:, Column.SIZE]
    painted, reads = torch.from_numpy(windows.rectangles()), torch.from_numpy(regions.rectangles())
    count = len(image)
    order = torch.arange(count)
    pairs, steps, paints = [], [], size.prod(1) > 0
    for rows in order.split(max(1, PAIRS_AT_ONCE // max(count, 1))):
        before = (image[rows, None] == image) & (order < rows[:, None]) & paints & paints[rows, None]
        # The row reads what the column paints, or paints over it: a layer later.
        waits = (_meet(reads[rows], painted) | _meet(painted[rows], painted)) & before
        follows = _meet(painted[rows], reads) & before  # the column reads what the row paints: not a layer earlier
        row, column = (waits | follows).nonzero().unbind(1)
        pairs.append(torch.stack([rows[row], column]))
        steps.append(waits[row, column].long())
    (row, column), step = torch.cat(pairs, dim=1), torch.cat(steps)
    layer, settled = torch.zeros_like(image), None
    while settled is None or not torch.equal(layer, settled):
        settled = layer
        layer = layer.scatter_reduce(0, row, layer[column] + step, "amax")
    layer = layer.masked_fill(~paints, -1)
    depth = int(layer.amax().clamp(min=0)) + 1 if count else 1
    return [(layer == k).nonzero()[:, 0] for k in range(depth)]


def _meet(a: Tensor, b: Tensor) -> Tensor:
    """Which inclusive rectangles ``a (R, 4)`` and ``b (N, 4)`` share a pixel: ``(R, N)``."""
    a = a[:, None]
    return ((a[..., :2] <= b[:, 2:]) & (b[:, :2] <= a[..., 2:])).all(-1)
