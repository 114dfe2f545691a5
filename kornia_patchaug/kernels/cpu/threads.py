"""The threads that loops run on: torch's own where those are OpenMP's, a pool of this process else and after a fork."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import torch

TURNS = 16  # of each thread: few handovers, and little to wait for at the end
WORTH_A_THREAD = 1 << 15  # pixels: below, waking a thread takes longer than the work

Loop = Callable[..., None]
Arguments = tuple[Any, ...]

_pool: ThreadPoolExecutor | None = None
_Part = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def threads_for(pixels: int) -> int:
    """As many as torch uses and so many pixels are worth."""
    return min(torch.get_num_threads(), 1 + pixels // WORTH_A_THREAD)


def spread(loop: Loop, arguments: Arguments, count: int, pixels: int, room: Callable[[], Arguments] = tuple) -> None:
    """Have ``loop(begin, end, *arguments, *room())`` do tasks 0 .. count, on as many threads as torch uses and they are
    worth, each of which has a room of its own.

    The loop must let go of the interpreter's lock. Whoever is free takes the next tasks. Named tuples among
    ``arguments``, but not inside them, are made plain: numba looks at their names at every call.
    """
    threads = min(threads_for(pixels), count)
    arguments = tuple([tuple(value) if isinstance(value, tuple) else value for value in arguments])
    if threads <= 1:
        loop(0, count, *arguments, *room())
        return
    step = max(1, count // (threads * TURNS))
    left = itertools.count(0, step)  # next() on it is one step of the interpreter: no two threads get the same

    def take() -> None:
        own = room()
        for begin in left:
            if begin >= count:
                return
            loop(begin, min(begin + step, count), *arguments, *own)

    if _parallel is None:
        _in_pool(take, threads)
    else:
        _in_team(_parallel, take, threads)


def _openmp() -> Any:
    """The function of the OpenMP that torch uses which has its threads run something; None if it is another OpenMP.

    After an operation torch's threads wait for the next one, for milliseconds, and busily: threads beside them would
    have half a core.
    """
    try:
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.restype, parallel.argtypes = None, (_Part, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    return parallel


_parallel = _openmp()


def _in_team(parallel: Any, take: Callable[[], None], threads: int) -> None:
    """Have the caller and others of torch's threads take tasks until none is left."""
    errors = list[BaseException]()

    def part(_: object) -> None:
        try:
            take()
        except BaseException as error:  # no exception finds its way through OpenMP
            errors.append(error)

    parallel(_Part(part), None, threads, 0)
    if errors:
        raise errors[0]


def _in_pool(take: Callable[[], None], threads: int) -> None:
    """Have the caller and threads of the pool take tasks until none is left."""
    futures = []
    try:
        with suppress(RuntimeError):  # at the end of the process no thread begins any more
            for _ in range(threads - 1):
                futures.append(_threads().submit(take))
        take()
    finally:
        begun = [future for future in futures if not future.cancel()]  # who has not begun finds nothing left to do
        wait(begun)  # all of them, whatever fails: they write to what the caller holds
    for future in begun:
        future.result()


class Pool(ThreadPoolExecutor):
    def _adjust_thread_count(self) -> None:
        with suppress(RuntimeError):  # the system has no more threads: those that there are do the work
            super()._adjust_thread_count()


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = Pool(os.cpu_count() or 1, thread_name_prefix="kornia_patchaug")
    return _pool


def _forget() -> None:
    global _pool, _parallel
    _pool = _parallel = None  # a child has the parent's pool and OpenMP, but none of their threads


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_forget)
