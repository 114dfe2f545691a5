"""Which objects must be painted before which others, as these read or cover what they paint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kornia_patchaug.plan import HEIGHT, IMAGE, LEFT, TOP, WIDTH, Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def layers(windows: Windows, areas: Windows) -> list[NDArray[np.int64]]:
    """Split the rows of N objects into layers, each of which can be read as a whole and then painted as a whole.

    ``areas``: what each object may read of the image that it paints. An object that reads or paints over what an
    earlier row of its image paints comes in a later layer; one that paints over what an earlier row reads does not come
    in an earlier layer. Objects that paint nothing are in no layer; there is at least one layer.

    Two maps of an image hold the highest layer so far that has painted, and has read, each pixel, so that the work is
    in proportion to the areas, and no two objects are compared.
    """
    painted, read = windows.host, areas.host
    layer = np.full(len(painted), -1, np.int64)
    paints = np.flatnonzero(windows.areas)
    paints = paints[np.argsort(painted[paints, IMAGE], kind="stable")]
    both = np.concatenate([painted, read])
    room = tuple((both[:, [TOP, LEFT]] + both[:, [HEIGHT, WIDTH]]).max(0, initial=0))
    for rows in np.split(paints, np.flatnonzero(np.diff(painted[paints, IMAGE])) + 1):
        small = np.min_scalar_type(-len(rows) - 1)
        by_painting, by_reading = np.full(room, -1, small), np.full(room, -1, small)
        for n in rows:
            here, there = _rectangle(painted[n]), _rectangle(read[n])
            above = max(by_painting[here].max(), by_painting[there].max(initial=-1)) + 1
            layer[n] = max(above, by_reading[here].max())
            by_painting[here], by_reading[there] = layer[n], np.maximum(by_reading[there], small.type(layer[n]))
    return [np.flatnonzero(layer == k) for k in range(layer.max(initial=0) + 1)]


def _rectangle(row: NDArray[np.int64]) -> tuple[slice, slice]:
    _, left, top, width, height, _ = row.tolist()
    return slice(top, top + height), slice(left, left + width)
