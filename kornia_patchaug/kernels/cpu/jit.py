"""How the loops are compiled, and where the results are kept."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, ParamSpec, TypeVar

from numba import njit
from numba.core.caching import IndexDataCacheFile

P = ParamSpec("P")
R = TypeVar("R")


class CacheFile(IndexDataCacheFile):
    """numba's, with files named after what they were compiled for.

    numba numbers them. Two processes that compile for two dtypes at once both take the next number, and then the index
    of one points at the code of the other, for good.
    """

    def save(self, key: object, data: object) -> None:
        name = self._data_name(int.from_bytes(sha256(repr(key).encode()).digest()[:8]))
        self._save_index({**self._load_index(), key: name})
        self._save_data(name, data)


def compiled(function: Callable[P, R], **more: Any) -> Callable[P, R]:
    """Compile at the first call for each dtype, and keep the result on disk where there is a place for it.

    The cache notices when the file of a function changes, not when that of one it calls does: kernels do not call
    compiled functions of other files.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", **more}
    try:
        dispatcher: Any = njit(function, cache=True, **options)
        dispatcher._cache._cache_file.__class__ = CacheFile  # numba has no option for it
    except RuntimeError:  # neither this folder nor the user's cache can be written
        dispatcher = njit(function, **options)
    loop: Callable[P, R] = dispatcher
    return loop


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """The same, with products and sums fused where the processor can, rounding once."""
    return compiled(function, fastmath={"contract"})
