"""Random numbers: those of the global generator or of a module's own, and those that a seed stands for."""

from __future__ import annotations

from itertools import count as numbers
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from kornia_patchaug.whole_op import operator

THETA_NOISE = 7  # an angle, two shifts, two scales, two shears

# Operators take numbers and no generators. An entry has a ``generator``, which is looked up at every draw.
_SOURCES: WeakValueDictionary[int, Any] = WeakValueDictionary()
_next_number = numbers(1)


def number_of(source: Any) -> int:
    """A number by which the draws below find ``source.generator``; 0 stands for the global one."""
    number = next(_next_number)
    _SOURCES[number] = source
    return number


@operator("uniform", lambda after, count, source: torch.empty(count, device=_device(source)))
def draw_uniform(after: Tensor, count: int, source: int) -> Tensor:
    """``(count,)`` numbers in [0, 1).

    ``after`` is the result of the draw before: it keeps draws in order, and equal ones from being merged into one.
    """
    return torch.rand(count, generator=_generator(source), device=_device(source))


@operator("seed", lambda after, source: torch.empty(1, dtype=torch.int64, device=_device(source)))
def draw_seed(after: Tensor, source: int) -> Tensor:
    """``(1,)`` integer, the seed of `make_noise`."""
    return torch.randint(2**62, (1,), generator=_generator(source), device=_device(source))


def _fake_noise(seed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    return torch.empty(count, device="cpu"), torch.empty(count, THETA_NOISE, device="cpu")


@operator("noise", _fake_noise)
def make_noise(seed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``(count,)`` and ``(count, 7)`` numbers in [0, 1) on the host, for the gates and for the thetas of objects."""
    generator = torch.Generator().manual_seed(int(seed.flatten()[0]))  # videos repeat it, a row a frame
    gate_noise = torch.rand(count, generator=generator, device="cpu")
    return gate_noise, torch.rand(count, THETA_NOISE, generator=generator, device="cpu")


def _generator(source: int) -> torch.Generator | None:
    return _SOURCES[source].generator if source else None


def _device(source: int) -> torch.device:
    generator = _generator(source)
    return torch.device("cpu") if generator is None else generator.device
