"""What the kernels are told besides pixels, theta and boxes: how to read, from where, and where to paint.

Gradients flow through arguments, never through a plan. Its tables are on the host; a device gets a copy at first use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.frames import painted_pixels, whole_pixels
from kornia_patchaug.transfers import sent

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The columns of Windows: the image that is painted, the first painted pixel, how many there are across and down, and
# where the object's pixels start in flat buffers.
IMAGE, LEFT, TOP, WIDTH, HEIGHT, START = range(6)
# The columns of Reads: the picture that is read, its pixel that coordinates count from, and counted from that the first
# and the last pixel that may be read, of which the picture has those from the next to the last two.
PICTURE, ORIGIN_X, ORIGIN_Y, LOW_X, LOW_Y, HIGH_X, HIGH_Y, FIRST_X, FIRST_Y, LAST_X, LAST_Y = range(11)


class Beyond(IntEnum):
    """What is read beyond the limits."""

    ZERO = 0
    NEAREST = 1  # the nearest pixel within them
    MIRROR = 2  # the patch, mirrored at its edge


class Padding(NamedTuple):
    """The three rules that a padding word stands for."""

    beyond: Beyond
    surroundings: bool = False  # the limits are those of the picture, not of the patch
    by_reach: bool = False  # the canvas shows where no pixel is read


PADDINGS = {
    "zeros": Padding(Beyond.ZERO),
    "border": Padding(Beyond.NEAREST),
    "reflection": Padding(Beyond.MIRROR),
    "image": Padding(Beyond.NEAREST, surroundings=True),
    "transparent": Padding(Beyond.ZERO, by_reach=True),
}


class Sampling(NamedTuple):
    """How a place is read."""

    nearest: bool  # or bilinear
    beyond: Beyond
    align_corners: bool
    by_reach: bool  # the reach R, the sum of the weights of the pixels that are read, is part of opacity


TABLE = "table"  # by which name each has itself on a device


def uploaded(device: torch.device, *arrays: NDArray[np.int64]) -> list[Tensor]:
    """Integers on a device, by one copy, which nobody waits for."""
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    size, pinned = sum(array.size for array in arrays), device.type == "cuda"
    buffer = torch.empty(size, dtype=torch.int64, device="cpu", pin_memory=pinned)
    np.concatenate([array.ravel() for array in arrays], out=buffer.numpy())
    parts = sent(buffer, device).split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of so many begin, one after another, and how many there are, ``(N + 1,)``."""
    return np.concatenate(([0], counts.cumsum()))


class Table:
    """Integers of N objects, a column for each, on the host and on the device of whoever asks."""

    def __init__(self, host: NDArray[np.int64]) -> None:
        self.host = host
        self._groups: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self.kept: dict[tuple[str, torch.device], list[Tensor]] = {}  # what is on a device, by its name

    def on(self, device: torch.device) -> Tensor:
        """The table as an int64 tensor on a device."""
        if (TABLE, device) not in self.kept:
            self.kept[TABLE, device] = uploaded(device, self.host)
        return self.kept[TABLE, device][0]

    def derived(
        self, name: str, device: torch.device, make: Callable[[], Sequence[NDArray[np.int64]]], *others: Table
    ) -> list[Tensor]:
        """Integers that follow from the table, on a device: each name is made once for it. The table itself goes up in
        the same copy, and others do."""
        if (name, device) not in self.kept:
            tables = [table for table in (self, *others) if (TABLE, device) not in table.kept]
            parts = uploaded(device, *(table.host for table in tables), *make())
            for table in tables:
                table.kept[TABLE, device] = [parts.pop(0)]
            self.kept[name, device] = parts
        return self.kept[name, device]

    def grouped(self, groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows in order of their first column, which is in ``0 .. groups``, and in their own order where that is
        the same, ``(N,)``; and where those of each group begin, ``(groups + 1,)``."""
        if groups not in self._groups:
            index = self.host[:, 0]
            order = index.argsort(kind="stable")
            self._groups[groups] = order, index[order].searchsorted(np.arange(groups + 1))
        return self._groups[groups]


class Reads(Table):
    """What each object reads, ``(N, 11)``: picture, origin (x, y), limits (x0, y0, x1, y1), and what there is."""

    @classmethod
    def of(
        cls,
        pictures: Tensor,
        which: NDArray[np.int64],
        origin: NDArray[np.number] | int,
        limits: NDArray[np.number],
        there: NDArray[np.number] | None = None,
    ) -> Reads:
        """Of pictures ``(S, C, H, W)``, which of them ``(N,)``, origins ``(N, 2)``, limits ``(N, 4)`` or ``(4,)``, and
        what there is within these, if that is known."""
        host = np.empty((len(which), 11), np.int64)
        host[:, PICTURE], host[:, ORIGIN_X:LOW_X], host[:, LOW_X:FIRST_X] = which, origin, limits
        if there is not None:
            host[:, FIRST_X:] = there
            return cls(host)
        first = host[:, ORIGIN_X:LOW_X]
        np.maximum(host[:, LOW_X:HIGH_X], -first, out=host[:, FIRST_X:LAST_X])
        np.minimum(host[:, HIGH_X:FIRST_X], last_pixels(pictures)[2:] - first, out=host[:, LAST_X:])
        return cls(host)

    @classmethod
    def whole(cls, pictures: Tensor) -> Reads:
        """Object n reads all of picture n."""
        return cls.of(pictures, np.arange(len(pictures)), 0, last_pixels(pictures))

    def areas(self) -> Windows:
        """What there is within the limits of each object, as a rectangle of its picture."""
        first, last = self.host[:, FIRST_X:LAST_X], self.host[:, LAST_X:]
        first = first + self.host[:, ORIGIN_X:LOW_X]
        return Windows.of(self.host[:, PICTURE], first, np.maximum(last + self.host[:, ORIGIN_X:LOW_X] + 1, first))


class Windows(Table):
    """The rectangles that are painted, ``(N, 6)``: image, left, top, width, height, start.

    The pixels of all windows lie one after another in flat buffers, ``(P,)`` and ``(C, P)``, object by object and row
    by row, so that memory is bounded by the boxes and never by N images.
    """

    def __init__(self, host: NDArray[np.int64]) -> None:
        super().__init__(host)
        self.areas = host[:, WIDTH] * host[:, HEIGHT]  # (N,) pixels of each window
        stops = self.areas.cumsum()
        host[:, START] = stops - self.areas
        self.total = int(stops[-1]) if len(host) else 0  # P

    @classmethod
    def of(cls, image: NDArray[np.int64], first: NDArray[np.number], stop: NDArray[np.number]) -> Windows:
        """Of images ``(N,)`` and corners ``(N, 2)``: the first painted pixel, and one past the last."""
        host = np.empty((len(image), 6), np.int64)
        host[:, IMAGE], host[:, LEFT:WIDTH], host[:, WIDTH:START] = image, first, stop - first
        return cls(host)

    @classmethod
    def regular(cls, count: int, height: int, width: int) -> Windows:
        """Windows that paint the whole of ``count`` images: the flat buffer is ``(count, height, width)``."""
        return cls.of(np.arange(count), np.zeros((count, 2)), np.array([[width, height]]))

    def rows(self, rows: NDArray[np.int64]) -> Windows:
        """The windows of some objects, laid out anew."""
        return Windows(self.host[rows])

    def repeated(self, numbers: Tensor) -> Tensor:
        """A number of each object ``(N,)`` for each of its flat pixels, ``(P,)``."""
        areas = sent(torch.from_numpy(self.areas), numbers.device)
        return numbers.repeat_interleave(areas, output_size=self.total)

    def slices(self) -> list[tuple[int, slice, slice, slice]]:
        """Each window as an index into ``(B, C, H, W)``."""
        return [
            (image, slice(None), slice(top, top + height), slice(left, left + width))
            for image, left, top, width, height, _ in self.host.tolist()
        ]

    def flat_pixels(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """``object, x, y``, each ``(P,)``: whose the flat pixel is, and its column and row in the window."""
        table = self.on(device)
        count = torch.arange(len(table), device=device)
        obj = count.repeat_interleave(table[:, WIDTH] * table[:, HEIGHT], output_size=self.total)
        within = torch.arange(self.total, device=device) - table[:, START][obj]
        width = table[:, WIDTH][obj]
        y = within.div(width, rounding_mode="floor")
        return obj, within - y * width, y

    def places(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """``image, row, column``, each ``(P,)``, of every painted pixel."""
        obj, x, y = self.flat_pixels(device)
        table = self.on(device)
        return table[:, IMAGE][obj], table[:, TOP][obj] + y, table[:, LEFT][obj] + x


@dataclass(frozen=True, eq=False)
class Plan:
    """All that kernels need besides pixels, theta and boxes."""

    reads: Reads
    windows: Windows
    sampling: Sampling
    box_coverage: bool  # the coverage K, the share of each pixel inside the box, is part of opacity
    opacity: Plan | None = None  # how the opacity A of each pixel is read, if it is not a number of the object
    reached: Callable[[], Windows] | None = None  # finds out what of its limits each object reads, if that is little

    @cached_property
    def areas(self) -> Windows:
        """What each object reads of its picture at most: `windows` itself if that is the same."""
        areas, windows = self.reads.areas() if self.reached is None else self.reached(), self.windows
        return windows if np.array_equal(areas.host, windows.host) else areas

    def rows(self, rows: NDArray[np.int64]) -> Plan:
        """The plan of some objects."""
        reads, windows = Reads(self.reads.host[rows]), self.windows.rows(rows)
        opacity = self.opacity and replace(self.opacity, reads=Reads(self.opacity.reads.host[rows]), windows=windows)
        reached = self.reached and (lambda: self.areas.rows(rows))
        return replace(self, reads=reads, windows=windows, opacity=opacity, reached=reached)


def image_plan(
    boxes: NDArray[np.float64],
    image: NDArray[np.int64],
    images: Tensor,
    sampling: Sampling,
    surroundings: bool,
    painted: NDArray[np.float64] | None = None,
) -> Plan:
    """Objects that read the place that they paint: the whole pixels of their box, or with ``surroundings`` any.

    ``painted (N, 4)``: what they paint in place of their box, of which then nothing is part of opacity.
    """
    height, width = images.shape[2:]
    inside = painted_pixels(boxes, height, width) if painted is None else painted
    first, stop = inside[:, :2], inside[:, 2:]
    base = np.concatenate((first, first + 1), axis=1)
    limits = ((0, 0, width, height) if surroundings else whole_pixels(boxes)) - base
    there = limits if surroundings else inside - base if painted is None else None
    reads = Reads.of(images, image, first, limits, there)
    return Plan(reads, Windows.of(image, first, stop), sampling, box_coverage=painted is None)


def last_pixels(images: Tensor) -> NDArray[np.int64]:
    """``0 0 W-1 H-1``: the first and last pixel of a picture."""
    return np.array([0, 0, images.shape[3] - 1, images.shape[2] - 1])
