"""A canvas that is read and painted in many steps, in place, and its gradient, which is carried back in place too.

What autograd sees is a thread: a tensor without elements that leads from each step to the one before, so that steps are
taken back in their order. So there is one batch of pixels and one of gradients, and not one for every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.kernels.backend import Found, Maybe
from kornia_patchaug.kernels.grads import apply, once
from kornia_patchaug.kernels.memory import unset
from kornia_patchaug.plan import Windows


class Canvas:
    """Pictures to read and to paint on, a copy of images ``(B, C, H, W)``."""

    def __init__(self, images: Tensor, dtype: torch.dtype) -> None:
        self.sheet = Sheet(images.shape)
        self.thread: Tensor = apply(_Begin, images, dtype, self.sheet)

    @classmethod
    def blank(cls, shape: tuple[int, ...], like: Tensor) -> Canvas:
        """Pictures of a shape that mean nothing, until something is copied to them."""
        canvas = cls.__new__(cls)
        canvas.sheet, canvas.thread = Sheet(torch.Size(shape)), like.new_empty(0)
        canvas.sheet.pixels = _unset(canvas.sheet.shape, like.dtype, like.device)
        return canvas

    @property
    def device(self) -> torch.device:
        """Where the pictures are."""
        return self.thread.device

    def copied(self) -> Tensor:
        """The pictures as they are now."""
        pixels: Tensor
        pixels, self.thread = apply(_Look, self.thread, self.sheet)
        return pixels

    def copy_to(self, other: Canvas, areas: Windows, places: Windows) -> None:
        """Copy some areas to places of another canvas, to which nothing else is copied."""
        self.thread, other.thread = apply(
            _Copy, self.thread, other.thread, self.sheet, other.sheet, areas.slices(), places.slices()
        )

    def finished(self) -> Tensor:
        """The pictures themselves; the canvas has none any more."""
        pixels: Tensor = apply(_End, self.thread, self.sheet)
        return pixels


class Sheet:
    """What the steps of one canvas share. It does not know them: the graph would hold itself."""

    pixels: Tensor
    grad: Maybe = None  # with respect to the pixels as they were before the steps that are not yet taken back
    _restored: Maybe = None

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[2], self.shape[3]

    def gradient(self, like: Tensor) -> Tensor:
        """The gradient, to be changed in place."""
        if self.grad is None:
            self.grad = like.new_zeros(self.shape)
        return self.grad

    def kept(self, areas: Windows) -> Tensor:
        """A copy of what lies in areas, flat."""
        return torch.cat([self.pixels[:0].flatten(), *(self.pixels[area].flatten() for area in areas.slices())])

    def restored(self, kept: Tensor, areas: Windows) -> Tensor:
        """Pictures as they were in areas; elsewhere they are of no meaning."""
        if self._restored is None:
            self._restored = kept.new_zeros(self.shape)
        for area, piece in zip(areas.slices(), kept.split((areas.areas * self.shape[1]).tolist()), strict=True):
            there = self._restored[area]
            there.copy_(piece.view_as(there))
        return self._restored

    def hand_back(self) -> Maybe:
        """The gradient with respect to the images, which is not held any longer."""
        grad, self.grad, self._restored = self.grad, None, None
        return grad


class _Begin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, dtype: torch.dtype, sheet: Sheet) -> Tensor:
        ctx.sheet, ctx.dtype = sheet, images.dtype
        sheet.pixels = _unset(images.shape, dtype, images.device).copy_(images)
        return sheet.pixels.new_empty(0)

    @staticmethod
    def backward(ctx: Any, _: Maybe) -> Found:
        def gradient() -> Found:
            grad = ctx.sheet.hand_back()
            return (None if grad is None else grad.to(ctx.dtype),)

        return *once(gradient, torch.empty(0, requires_grad=True)), None, None


class _Look(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, thread: Tensor, sheet: Sheet) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.sheet = sheet
        return sheet.pixels.clone(), thread.new_empty(0)

    @staticmethod
    def backward(ctx: Any, grad: Maybe, _: Maybe) -> Found:
        if grad is not None:
            ctx.sheet.gradient(grad).add_(grad)
        return None, None


class _Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, thread: Tensor, other: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        ctx.others = source, target, areas, places = others
        for area, place in zip(areas, places, strict=True):
            target.pixels[place] = source.pixels[area]
        return thread.new_empty(0), thread.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *threads: Maybe) -> Found:
        source, target, areas, places = ctx.others
        if target.grad is not None and ctx.needs_input_grad[0]:
            grad = source.gradient(target.grad)
            for area, place in zip(areas, places, strict=True):
                grad[area] += target.grad[place]
        return (None,) * 6


class _End(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, thread: Tensor, sheet: Sheet) -> Tensor:
        ctx.sheet, pixels = sheet, sheet.pixels
        del sheet.pixels
        return pixels

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Found:
        ctx.sheet.grad = grad.detach().clone(memory_format=torch.contiguous_format)
        return None, None


def _unset(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory that is not set."""
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    numbers = unset(shape.numel(), np.dtype(np.float64 if dtype == torch.float64 else np.float32))
    return torch.from_numpy(numbers.reshape(shape))  # not a view of a tensor, which nobody could change in place
