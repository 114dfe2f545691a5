"""The dtype to compute in, and computing outside autocast."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run outside autocast, which would round matrix products, and coordinates with them, to half precision."""

    @wraps(function)
    def outside_autocast(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        device = tensors[0].device.type if tensors else "cpu"
        if not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return outside_autocast


def working_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype to compute in: the widest of the floating ones, and float32 at least."""
    floating = [t.dtype for t in tensors if t is not None and t.is_floating_point()]
    return reduce(torch.promote_types, floating, torch.float32)
