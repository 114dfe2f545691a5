"""Memory for results, of which what was freed is used again: from the system each page comes zeroed, at its first use.

That takes as long as to fill it, in a training loop at each step, as the allocator of C gives large pieces back.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGE = 1 << 20  # bytes from which on memory is used again
KEPT = 1 << 28  # bytes of free memory that are held at most
HUGE = 1 << 22  # bytes from which on NumPy asks for huge pages, of fewer faults

_free: list[Piece] = []  # the one freed last comes last


class Piece:
    """A piece of memory; those of the same size are not equal."""

    def __init__(self, size: int) -> None:
        self.bytes = np.empty(size, np.uint8)


def unset(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """So many numbers, not set."""
    need = count * dtype.itemsize
    if need < LARGE:
        return np.empty(count, dtype)
    piece = _taken(need) or Piece(_size(need))
    lent: NDArray[Any] = np.frombuffer(piece.bytes.data, dtype, count)
    # Its base is no array, so that all views and tensors of this memory hold this very array.
    assert not isinstance(lent.base, np.ndarray)
    weakref.finalize(lent, _give_back, piece).atexit = False
    return lent


def _size(need: int) -> int:
    """A little more: an eighth at most, so that calls which need about the same can use the same; 4 MB if not less
    than 2."""
    if HUGE // 2 <= need <= HUGE:
        return HUGE
    step = 1 << max(need.bit_length() - 4, 0)
    return -(-need // step) * step


def _taken(need: int) -> Piece | None:
    """The smallest free piece that is large enough, and not twice as large; of these, what was freed last."""
    fits = [piece for piece in reversed(tuple(_free)) if need <= piece.bytes.nbytes <= 2 * need]
    for piece in sorted(fits, key=lambda piece: piece.bytes.nbytes):
        try:
            _free.remove(piece)
        except ValueError:  # another thread has taken it
            continue
        return piece
    return None


def _give_back(piece: Piece) -> None:
    """Called when nothing holds a piece any more, by any thread, at any time."""
    _free.append(piece)
    while sum(piece.bytes.nbytes for piece in tuple(_free)) > KEPT:
        try:
            _free.pop(0)
        except IndexError:  # another thread has
            return
