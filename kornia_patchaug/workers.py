"""What is done to many things, by this process and others."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import TypeVar

from kornia_patchaug.readers import UserError

IN_FLIGHT = 2  # things that a worker is sent: one that it is at, and the next
Thing = TypeVar("Thing")
Made = TypeVar("Made")


def spread(
    things: Iterable[Thing], act: Callable[[Thing], Made], workers: int, remedy: str
) -> Iterator[tuple[Thing, Made]]:
    """Each with what ``act`` makes of it, as it is ready; by this process and ``workers - 1`` others.

    Things, and ``act``, are pickled. What it raises is raised here. ``remedy`` says what to do if a worker is killed.
    """
    left = iter(things)
    with _begun(workers - 1, act) as ends:
        sent = {end: deque[Thing]() for end in ends}
        own = next(left, None)
        while own is not None or any(sent.values()):
            if own is not None:  # here, as others are still beginning, or at work
                yield own, act(own)
                own = next(left, None)
            ready = connection.wait(ends, None if own is None else 0) if ends else []
            for end in [each for each in ends if each in ready]:
                try:
                    said = end.recv()
                except (EOFError, OSError) as error:
                    raise UserError(f"a worker was killed, as for want of memory; {remedy}") from error
                if isinstance(said, Exception):
                    raise said
                if sent[end]:  # else it says that it is there
                    yield sent[end].popleft(), said
                while len(sent[end]) < IN_FLIGHT and own is not None:
                    end.send(own)
                    sent[end].append(own)
                    own = next(left, None)


@contextmanager
def _begun(count: int, act: Callable[[Thing], Made]) -> Iterator[list[Connection]]:
    """Our ends of the pipes of so many workers. They end with this process, also where that is killed."""
    spawned = multiprocessing.get_context("spawn")  # a forked process has threads of torch's that do not run there
    pipes = [spawned.Pipe() for _ in range(count)]
    processes = [spawned.Process(target=_work, args=(theirs, act), daemon=True) for _, theirs in pipes]
    try:
        with _without_interrupts():
            for process in processes:
                process.start()
        for _, theirs in pipes:
            theirs.close()
        yield [ours for ours, _ in pipes]
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _work(main: Connection, act: Callable[[Thing], Made]) -> None:
    """Say that it is there, then do what is sent."""
    with suppress(EOFError, OSError):  # when the main process has ended
        main.send(None)
        while True:
            thing = main.recv()
            try:
                said: object = act(thing)
            except Exception as error:
                said = error
            main.send(said)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that begin meanwhile never get Ctrl-C: it is the main one's, which ends the others."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which the first process would begin, and let Ctrl-C through with it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
