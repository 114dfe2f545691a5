"""Copies between the host and a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.dtypes import working_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAPTURED = (
    "kornia_patchaug: while a CUDA Graph is captured nothing can be read from the GPU. Pass boxes and indices on the "
    "CPU, as in boxes.cpu(), and theta too unless clip=True; the graph paints these boxes whenever it runs."
)
_held: list[Tensor] = []  # what graphs copy whenever they run: nobody tells for how long


def on_host(*tensors: Tensor) -> list[NDArray[np.float64]]:
    """Float64 copies of tensors ``(N, ...)`` on the host, with one wait for the device of those that are not there."""
    away = [tensor for tensor in tensors if not tensor.is_cpu]
    if away and away[0].is_cuda:
        device = away[0].device
        if is_captured(device):
            raise RuntimeError(CAPTURED)
        there = [_pinned(tensor) for tensor in away]
        copies = iter([t.copy_(tensor.detach(), non_blocking=True) for t, tensor in zip(there, away, strict=True)])
        tensors = tuple(tensor if tensor.is_cpu else next(copies) for tensor in tensors)
        torch.cuda.current_stream(device).synchronize()
    elif away and len(away) == len(tensors):
        return packed_on_host(*tensors)
    # Column by column: NumPy is slow with slices of short rows.
    return [tensor.numpy(force=True).astype(np.float64, order="F") for tensor in tensors]


def packed_on_host(*tensors: Tensor) -> list[NDArray[np.float64]]:
    """`on_host` by one tensor that holds all of them."""
    dtype, sizes = working_dtype(*tensors), [tensor.shape[1:].numel() for tensor in tensors]
    rows = [tensor.detach().reshape(len(tensor), size).to(dtype) for tensor, size in zip(tensors, sizes, strict=True)]
    parts = np.split(torch.cat(rows, dim=1).cpu().double().numpy(), np.cumsum(sizes)[:-1], axis=1)
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, by a copy that nobody waits for; differentiable. What is there stays there."""
    if tensor.device == device:
        return tensor
    if device.type != "cuda":
        return tensor.to(device)
    if not tensor.is_pinned():
        tensor = _pinned(tensor).copy_(tensor)
    if is_captured(device):
        _held.append(tensor.detach())
    return tensor.to(device, non_blocking=True)


def _pinned(like: Tensor) -> Tensor:
    """Memory of the host that a device reads and writes by itself, not set."""
    return torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=True)


def is_captured(device: torch.device) -> bool:
    """Whether what is done on a device is captured by a CUDA Graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
