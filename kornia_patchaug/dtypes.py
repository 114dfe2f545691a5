"""The dtype to compute in, and computing outside autocast."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run outside autocast, which would round matrix products, and coordinates with them, to half precision."""

    @wraps(function)
    def outside_autocast(*args: P.args, **kwargs: P.kwargs) -> R:
        device = "cpu"
        for value in (*args, *kwargs.values()):  # which costs half of what next() with a generator does
            if isinstance(value, Tensor):
                device = value.device.type
                break
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return outside_autocast


def working_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype to compute in: float64 if any of the tensors has it, else float32."""
    return torch.float64 if any(t is not None and t.dtype == torch.float64 for t in tensors) else torch.float32
