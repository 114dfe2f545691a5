"""Shapes of objects as label files tell them, polygons and run lengths; and masks of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

STEP = 0.5  # pixels that lines may be off the middle of a step
PAIRS_AT_ONCE = 1 << 24  # of edges and rows of pixels


class Polygons(NamedTuple):
    """Rings of points ``(K, 2)`` in pixels, one a part of the object."""

    rings: tuple[NDArray[np.float64], ...]

    def box(self) -> tuple[float, float, float, float]:
        """``x1 y1 x2 y2``."""
        points = np.concatenate(self.rings)
        return *points.min(0).tolist(), *points.max(0).tolist()

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """``(H, W)``: the pixels whose centre is inside of a ring, by the even-odd rule."""
        height, width = size
        found = np.zeros(size, bool)
        for ring in self.rings:
            (x1, y1), (x2, y2) = ring.T, np.roll(ring, -1, axis=0).T
            low, high = (int(np.clip(np.floor(v), 0, height)) for v in (y1.min(), y1.max() + 1))
            y = np.arange(low, high) + 0.5
            crossed = np.zeros(len(y) * (width + 1), np.int64)
            for some in np.array_split(np.arange(len(ring)), 1 + len(ring) * len(y) // PAIRS_AT_ONCE):
                edge, row = np.nonzero((y1[some, None] <= y) != (y2[some, None] <= y))
                edge = some[edge]
                x = x1[edge] + (y[row] - y1[edge]) * (x2 - x1)[edge] / (y2 - y1)[edge]
                first = np.ceil(x - 0.5).clip(0, width).astype(np.int64)  # the first pixel beyond the edge
                crossed += np.bincount(row * (width + 1) + first, minlength=len(crossed))
            found[low:high] |= crossed.reshape(len(y), width + 1).cumsum(1)[:, :width] % 2 == 1
        return found

    def joined(self) -> NDArray[np.float64]:
        """One ring ``(K, 2)`` of the same area by the even-odd rule: lines there and back join those there are."""
        if len(self.rings) == 1:
            return self.rings[0]
        there = [part for ring in self.rings for part in (ring, ring[:1])]
        return np.concatenate([*there, *(ring[:1] for ring in self.rings[-2::-1])])


class Runs(NamedTuple):
    """COCO's run lengths: pixels column by column, outside first."""

    size: tuple[int, int]
    counts: NDArray[np.int64]

    def box(self) -> tuple[float, float, float, float]:
        """``x1 y1 x2 y2`` around the pixels; no area if there are none."""
        return box_of(self.mask(self.size))

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """``(H, W)``."""
        height, width = self.size
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(width, height).T


Shape = Polygons | Runs


def shape_of(segmentation: Any) -> Shape | None:
    """The shape that COCO's ``segmentation`` tells, or None of nothing; raises ValueError saying what is wrong."""
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        return _runs(segmentation)
    if not isinstance(segmentation, list):
        raise ValueError("a segmentation that is neither polygons nor run lengths")
    rings = [ring for ring in (_ring(part) for part in segmentation) if ring is not None]
    return Polygons(tuple(rings)) if rings else None


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The box ``x1 y1 x2 y2`` around a mask's pixels; zeros if there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def polygons_of(mask: NDArray[np.bool_], *, steps: bool = True) -> Polygons | None:
    """The polygons along the edges of a mask's pixels, which hold these and no others; None if there are none.

    Parts are rings of their own. With holes all is one ring, as a polygon has no holes: lines there and back join them.
    Without steps they are near these edges, and have far fewer corners.
    """
    rings = _rings_of(mask) if steps else [_thinned(ring) for ring in _rings_of(mask)]
    found = Polygons(tuple(rings))
    if min(map(_area, rings), default=0) < 0:  # a hole is gone round the other way
        found = Polygons((found.joined(),))
    return found if rings else None


def runs_of(mask: NDArray[np.bool_]) -> Runs:
    """The run lengths of a mask."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return Runs((mask.shape[0], mask.shape[1]), np.diff(np.concatenate([[0], edges, [flat.size]])))


# The edges of a pixel, clockwise from its upper one: where each begins, and how it goes on.
BEGINS = ((0, 0), (1, 0), (1, 1), (0, 1))
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def _rings_of(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The corners ``(K, 2)`` of the borders of a mask: clockwise as displayed around parts, anticlockwise in holes."""
    around = np.pad(mask, 1)
    beside = around[:-2, 1:-1], around[1:-1, 2:], around[2:, 1:-1], around[1:-1, :-2]
    edges = set[tuple[int, int, int]]()
    for way, (other, (x0, y0)) in enumerate(zip(beside, BEGINS, strict=True)):
        rows, columns = np.nonzero(mask & ~other)
        edges.update((a, b, way) for a, b in zip((columns + x0).tolist(), (rows + y0).tolist(), strict=True))
    rings = []
    for start in sorted(edges):
        if start not in edges:
            continue
        corners, (x, y, way), before = list[tuple[int, int]](), start, -1
        while not corners or (x, y, way) != start:
            edges.discard((x, y, way))
            if way != before:
                corners.append((x, y))
            before, x, y = way, x + STEPS[way][0], y + STEPS[way][1]
            # The first turn to the right stays with the same pixel where two touch in a corner.
            ways = [turn % 4 for turn in (way + 1, way, way - 1)]
            way = next(turn for turn in ways if (x, y, turn) in edges or (x, y, turn) == start)
        rings.append(np.array(corners[before == start[2] :], np.float64))
    return rings


def _thinned(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring of pixels' edges with slanting lines for steps, and few corners: those of Douglas and Peucker (1973).

    Lines go through the middles of steps, so that they run as much inside as outside. What is too small for that stays.
    """
    ends = np.roll(ring, -1, axis=0)
    is_long = np.abs(ends - ring).sum(1) > 1
    is_corner = is_long & np.roll(is_long, -1)  # and no step, which goes on after a single pixel
    points = np.stack([(ring + ends) / 2, ends], axis=1)[np.stack([np.ones_like(is_corner), is_corner], axis=1)]
    start = int(((points - points.mean(0)) ** 2).sum(1).argmax())
    points = np.roll(points, -start, axis=0)
    closed, far = np.concatenate([points, points[:1]]), int(((points - points[0]) ** 2).sum(1).argmax())
    kept, spans = {0, far}, [(0, far), (far, len(points))]
    while spans:
        first, last = spans.pop()
        (x, y), (across, down) = (closed[first + 1 : last] - closed[first]).T, closed[last] - closed[first]
        distance = np.abs(x * down - y * across) / np.hypot(across, down)
        if distance.max(initial=0) > STEP:
            middle = first + 1 + int(distance.argmax())
            kept.add(middle)
            spans += [(first, middle), (middle, last)]
    thin = points[sorted(kept)]
    return thin if abs(_area(thin) - _area(ring)) < 0.02 * abs(_area(ring)) else ring


def _area(ring: NDArray[np.float64]) -> float:
    """Of a ring; less than nothing if it goes anticlockwise."""
    (x, y), (next_x, next_y) = ring.T, np.roll(ring, -1, axis=0).T
    return float((x * next_y - next_x * y).sum() / 2)


def _ring(part: Any) -> NDArray[np.float64] | None:
    """The points ``(K, 2)`` of ``[x, y, x, y, ...]``; None of less than three, which enclose nothing."""
    try:
        points = np.array(part, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a polygon that is no list of numbers") from None
    if points.ndim != 1 or len(points) % 2 or not (np.abs(points) < 1e7).all():
        raise ValueError("a polygon that is no list of numbers x, y, x, y, ...")
    return points.reshape(-1, 2) if len(points) >= 6 else None


def _runs(rle: dict[str, Any]) -> Runs:
    size, counts = rle.get("size"), rle.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise ValueError("run lengths without a size")
    try:
        numbers = _decoded(counts) if isinstance(counts, str) else counts
        found = np.array(numbers, np.int64)
        area = size[0] * size[1]
        if found.ndim != 1 or not ((found >= 0) & (found <= area)).all() or found.sum() != area:
            raise ValueError
    except (TypeError, ValueError, OverflowError, IndexError):
        raise ValueError("run lengths that do not fit their size") from None
    return Runs((size[0], size[1]), found)


def _decoded(text: str) -> list[int]:
    """The numbers of COCO's compressed run lengths: 5 bits a letter from "0" on, low ones first, with a sixth that says
    whether there are more; from the fourth number on what is told is the difference to the last but one."""
    numbers: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the highest bit is the sign
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value = shift = 0
        elif shift > 60:
            raise ValueError
    return numbers


def encoded(counts: Sequence[int]) -> str:
    """The reverse of `_decoded`."""
    steps = (count - (counts[i - 2] if i > 2 else 0) for i, count in enumerate(counts))
    return "".join(chain.from_iterable(map(_letters, steps)))


def _letters(number: int) -> list[str]:
    found = []
    while True:
        bits, number = number & 31, number >> 5
        done = number == (-1 if bits & 16 else 0)
        found.append(chr(48 + bits + (0 if done else 32)))
        if done:
            return found
