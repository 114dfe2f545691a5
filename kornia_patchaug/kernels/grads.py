"""How autograd meets the primitives: recorded where a gradient is, and found once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

from kornia_patchaug.kernels.backend import Found, Maybe


def apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    """``function.apply``, or where no gradient is recorded its forward alone, in a fraction of a small call's time."""
    if torch.is_grad_enabled() or forward_ad._current_level >= 0:
        return function.apply(*args)  # which refuses forward mode
    return function.forward(_Forgetful(), *args)


class _Forgetful:
    """Stands for the context of an autograd function where no gradient is recorded."""

    needs_input_grad = ()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def once(gradients: Callable[[], Found], *inputs: Maybe) -> Found:
    """Find gradients, so that to differentiate them again is an error."""
    if not torch.is_grad_enabled():
        return gradients()
    found: Found = apply(_Once, gradients, *inputs)
    return found


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradients: Callable[[], Found], *inputs: Maybe) -> Found:
        return tuple(gradients())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        raise RuntimeError("kornia_patchaug: there are no second derivatives.")
