"""Functions that torch.compile sees as one operator each: what they do depends on data, which a graph cannot hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, TypeVarTuple, get_type_hints

import torch
from torch import Tensor

Ts = TypeVarTuple("Ts")  # of the arguments, which are positional
R = TypeVar("R")


def operator(
    name: str, fake: Callable[..., Any], *, gradient: bool = False
) -> Callable[[Callable[[*Ts], R]], Callable[[*Ts], R]]:
    """Register a function as ``torch.ops.kornia_patchaug.<name>``, which stands for it while torch.compile traces.

    Eager code calls the function itself. ``fake`` makes outputs of the right shapes, dtypes and strides. With
    ``gradient``, the function takes tensors, then options, to one tensor. What autograd keeps for its gradient is not
    in the graph, so the backward pass is an operator that runs the function again, as a checkpoint does.
    """

    def decorate(function: Callable[[*Ts], R]) -> Callable[[*Ts], R]:
        plain = inspect.unwrap(function)
        plain.__annotations__ = get_type_hints(plain)  # torch would look their names up where the wrapper is defined
        whole = torch.library.custom_op(f"kornia_patchaug::{name}", function, mutates_args=())
        whole.register_fake(fake)
        if gradient:
            _register_gradient(whole, name, function)

        @wraps(function)
        def call(*args: *Ts) -> R:
            return whole(*args) if torch.compiler.is_compiling() else function(*args)

        return call

    return decorate


def _register_gradient(whole: Any, name: str, function: Callable[..., Any]) -> None:
    arguments = torch.library.infer_schema(function, mutates_args=())[1:].rpartition(") ->")[0]
    count = arguments.count("Tensor")  # they come first

    def backward(grad: Tensor, *inputs: Any) -> list[Tensor]:
        *args, wanted = inputs
        # The body of an operator runs below autograd, whatever the grad mode; this is the public way back above it.
        with torch.inference_mode(False):
            args[:count] = [None if t is None else t.detach() for t in args[:count]]
            leaves = [t.requires_grad_() for t, want in zip(args, wanted, strict=False) if want]
            grads = torch.autograd.grad(function(*args), leaves, grad)
        # Strides as the fake says, and memory that is shared with nothing, as an operator must.
        return [torch.empty_like(leaf).copy_(found) for leaf, found in zip(leaves, grads, strict=True)]

    schema = f"(Tensor grad, {arguments}, bool[] wanted) -> Tensor[]"
    again = torch.library.custom_op(f"kornia_patchaug::{name}_backward", backward, mutates_args=(), schema=schema)

    @again.register_fake
    def _(grad: Tensor, *args: Any) -> list[Tensor]:
        return [torch.empty_like(t) for t, want in zip(args, args[-1], strict=False) if want]

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:count])
        ctx.options = inputs[count:]

    def recompute(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad[:count])
        grads = iter(again(grad, *ctx.saved_tensors, *ctx.options, wanted))
        return *(next(grads) if want else None for want in wanted), *[None] * len(ctx.options)

    whole.register_autograd(recompute, setup_context=keep)
