"""How the operators are registered with torch."""

from __future__ import annotations

from collections.abc import Callable

import torch


def operator(name: str, fake: Callable, backward: Callable, setup_context: Callable | None = None) -> Callable:
    """Register a function as ``torch.ops.kornia_patchaug.<name>``, and return that.

    In ``torch.library``'s parts, as its ``custom_op`` imports torch's compiler at the first call, which takes seconds.
    """

    def register(function: Callable) -> Callable:
        qualified = f"kornia_patchaug::{name}"
        torch.library.define(qualified, torch.library.infer_schema(function, mutates_args=()))
        torch.library.impl(qualified, "default", function)
        torch.library.register_fake(qualified, fake)
        torch.library.register_autograd(qualified, backward, setup_context=setup_context)
        return getattr(torch.ops.kornia_patchaug, name).default

    return register


def once_differentiable(ctx, *grads):
    raise RuntimeError("kornia_patchaug: there are no second derivatives.")
