"""Tensors to the arrays that loops take, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.kernels.backend import Inputs, Maybe, Wanted
from kornia_patchaug.kernels.cpu.rows import NOBODY, OBJECT, PIXEL, TILE, Job, Objects
from kornia_patchaug.kernels.memory import unset
from kornia_patchaug.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kornia_patchaug.kernels.cpu.rows import Reals

RAMPS = {np.dtype(real): np.arange(TILE, dtype=real) for real in (np.float32, np.float64)}  # 0, 1, 2, ...
NOTHING = Wanted(source=False, theta=False, boxes=False)


def objects_of(inputs: Inputs, plan: Plan, opacity: Maybe = None) -> Objects:
    """What loops know of the objects."""
    theta, boxes = contiguous(inputs.theta).reshape(-1, 6), contiguous(inputs.boxes)
    source_boxes = boxes[:0] if inputs.source_boxes is None else contiguous(inputs.source_boxes)
    opacities = boxes[:0, 0] if opacity is None else flat(opacity, boxes)
    return Objects(theta, boxes, source_boxes, plan.reads.host, plan.windows.host, opacities)


def job_of(source: Tensor, plan: Plan, opacity: Maybe = None, wanted: Wanted = NOTHING) -> Job:
    """What all tasks of a call share, of which some gradients are wanted."""
    nearest, beyond, align_corners, by_reach = plan.sampling
    opacity_of = NOBODY if opacity is None else OBJECT if opacity.ndim == 2 else PIXEL
    options = nearest, int(beyond), align_corners, by_reach, plan.box_coverage, opacity_of
    _, channels, height, width = source.shape
    return Job(channels, height, width, plan.windows.total, *options, wanted.boxes, wanted.opacity)


def room_of(like: Reals, channels: int = 0, window: int = 0, opacities: int = 0) -> tuple[tuple[Any, ...]]:
    """What one thread works in, the fields of a `Room`: for so many channels, numbers of a window, and opacities."""
    sizes = TILE, TILE, TILE, TILE, channels * TILE, window, opacities
    reals = [np.empty(size, like.dtype) for size in sizes]
    return ((RAMPS[like.dtype], np.empty(TILE, np.int32), *reals),)


def contiguous(tensor: Tensor) -> NDArray[Any]:
    """A tensor as an array; no copy if it is contiguous."""
    return (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy(force=True)


def flat(tensor: Tensor, like: Reals) -> Reals:
    """A tensor's elements in the order of its dimensions, in the dtype that is computed in; no copy if they are so.

    Bytes, as masks are, stay what they are: no float is made of what no object reads.
    """
    dtype = torch.float64 if like.dtype == np.float64 else torch.float32
    return contiguous(tensor if tensor.dtype in (dtype, torch.uint8) else tensor.to(dtype)).reshape(-1)


def fresh(count: int, like: Reals) -> Reals:
    """So many numbers, not set."""
    numbers: Reals = unset(count, like.dtype)
    return numbers


def sparse(count: int, like: Reals) -> Reals:
    """So many numbers, not set, of which some are written to: only their pages are had, and no page is huge."""
    return torch.empty(count, dtype=torch.from_numpy(like[:0]).dtype).numpy()


def shaped(array: Reals, like: Tensor) -> Tensor:
    """A tensor of the dtype, shape and memory format of another; where both are NaN, with the bits of the other."""
    tensor = torch.from_numpy(array.reshape(like.shape))
    if tensor.dtype == like.dtype and like.is_contiguous():
        return tensor
    result = torch.empty_like(like).copy_(tensor)
    if tensor.dtype == like.dtype:
        return result
    return torch.where(result.isnan() & like.isnan(), like, result, out=result)
