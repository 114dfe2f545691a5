"""How the operators are registered with torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def operator(
    name: str,
    fake: Callable[..., Any],
    backward: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function as ``torch.ops.kornia_patchaug.<name>``, and return that.

    In ``torch.library``'s parts, as its ``custom_op`` imports torch's compiler at the first call, which takes seconds.
    """

    def register(function: Callable[P, R]) -> Callable[P, R]:
        qualified = f"kornia_patchaug::{name}"
        torch.library.define(qualified, torch.library.infer_schema(function, mutates_args=()))
        torch.library.impl(qualified, "default", function)
        torch.library.register_fake(qualified, fake)
        torch.library.register_autograd(qualified, backward, setup_context=setup_context)
        registered: Callable[P, R] = getattr(torch.ops.kornia_patchaug, name).default
        return registered

    return register


def once_differentiable(ctx: Any, *grads: Any) -> NoReturn:
    raise RuntimeError("kornia_patchaug: there are no second derivatives.")
