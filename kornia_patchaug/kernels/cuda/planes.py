"""Planes: the channels that a program takes, a row each; their number is rounded up to a power of two."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

MOST = 4  # that a program has


def group_of(channels: int) -> int:
    """How many channels a program takes: as many as go into their number."""
    return next(group for group in range(MOST, 0, -1) if channels % group == 0)


def packed(channels: int, flat: int, like: Tensor) -> Tensor:
    """Room for so many flat pixels of so many channels, pixel by pixel, each with all planes of a program, which are
    read and written at once: ``(groups, flat pixels, planes)``."""
    group = group_of(channels)
    return like.new_empty(channels // group, flat, triton.next_power_of_2(group))


@triton.jit
def planes_of(INT: tl.constexpr, CHANNELS: tl.constexpr):
    """The program's first channel; those of its planes ``(planes, 1)``, and whether there is each."""
    plane, first = tl.arange(0, CHANNELS + (CHANNELS == 3))[:, None], tl.program_id(2).to(tl.int64) * CHANNELS
    return first, plane + first.to(INT), plane < CHANNELS


@triton.jit
def packed_planes(numbers, start, index, total, CHANNELS: tl.constexpr):
    """Where the program's planes of `packed` flat pixels are, which are counted from a start."""
    planes: tl.constexpr = CHANNELS + (CHANNELS == 3)
    first = numbers + (tl.program_id(2).to(tl.int64) * total + start) * planes
    return first + ((index * planes)[None, :] + tl.arange(0, planes)[:, None])


@triton.jit
def plane_of(planes, k, CHANNELS: tl.constexpr):
    """One of the planes: a sum with -0, of which the compiler leaves nothing."""
    which = tl.arange(0, CHANNELS + (CHANNELS == 3))[:, None]
    return tl.sum(tl.where(which == k, planes, tl.zeros_like(planes) * -1.0), axis=0)


@triton.jit
def read_planes(pixels, stride, there, instead, CHANNELS: tl.constexpr):
    """What lies at scattered pixels of the program's planes ``(planes, pixels)``, for those of the first of them.

    A load for each plane: of pointers in two dimensions, Triton 3.6 gives the planes of a pixel to several threads.
    """
    plane, stride = tl.arange(0, CHANNELS + (CHANNELS == 3))[:, None], tl.cast(stride, tl.int64)
    found = tl.where(plane < CHANNELS, tl.load(pixels, there, instead)[None, :], 0.0)
    for k in tl.static_range(1, CHANNELS):
        found = tl.where(plane == k, tl.load(pixels + k * stride, there, instead)[None, :], found)
    return found
