"""*composite* in Triton, forward and backward: each program takes a tile of one image, and walks the objects of that
image in row order, so that the canvas is read and written once.

``reference.composite`` says what is computed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.windows import Column

# A tile of the canvas: wide, as pixels lie in memory, and small, so that few of its pixels lie outside a window that
# it meets. With 4 channels it is 8 values for each thread of four warps.
ROWS, COLUMNS = 8, 32
CHANNELS = 4


def composite(canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """As :func:`reference.composite`."""
    painted, under = torch.empty_like(canvas), paint.new_empty(paint.shape if keep else 0)
    if canvas.numel():
        grid, options = _launch(canvas, painted, paint.shape[1])
        flat = paint.contiguous(), opacity.contiguous(), under, *_walk(table, len(canvas)), paint.shape[1]
        strides = *canvas.stride(), *painted.stride()
        with torch.cuda.device_of(canvas):
            _composite_kernel[grid](canvas, painted, *flat, *canvas.shape[1:], *strides, KEEP=keep, **options)
    return painted, under


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`reference.composite_backward`."""
    channels, total, kept = grad.shape[1], len(opacity), under.numel() > 0
    grad_canvas, grad_paint = torch.empty_like(grad), opacity.new_empty(channels, total)
    if not grad.numel():
        return grad_canvas, grad_paint, opacity.new_zeros(total if kept else 0)
    grid, options = _launch(grad, grad_canvas, total)
    # One row for each group of channels, to be added up: the order is fixed, and no addition waits.
    grad_opacity = opacity.new_empty((grid[1], total) if kept else (1, 0))
    flat = grad_paint, grad_opacity, opacity.contiguous(), under.contiguous(), *_walk(table, len(grad)), total
    strides = *grad.stride(), *grad_canvas.stride()
    with torch.cuda.device_of(grad):
        _composite_backward_kernel[grid](grad, grad_canvas, *flat, *grad.shape[1:], *strides, KEEP=kept, **options)
    return grad_canvas, grad_paint, grad_opacity[0] if grid[1] == 1 or not kept else grad_opacity.sum(0)


def _walk(table: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """The objects of each image one after another in row order, and ``(B + 1,)`` where those of each image begin."""
    image, order = table[:, Column.IMAGE].sort(stable=True)
    return table[order], torch.searchsorted(image, torch.arange(images + 1, device=table.device))


def _launch(source: Tensor, target: Tensor, total: int) -> tuple[tuple[int, int], dict[str, object]]:
    """How many programs run, and what the kernels are compiled for."""
    images, channels, height, width = source.shape
    group = min(triton.next_power_of_2(channels), CHANNELS)
    tiles = triton.cdiv(height, ROWS) * triton.cdiv(width, COLUMNS)
    sizes = channels, height, width
    reach = [sum((n - 1) * s for n, s in zip(sizes, t.stride()[1:], strict=True)) for t in (source, target)]
    whole = tl.int32 if max(*reach, channels * total) < 2**31 else tl.int64  # where images begin takes 64 bits
    options = {"INT": whole, "CHANNELS": group, "ROWS": ROWS, "COLUMNS": COLUMNS}
    return (images * tiles, triton.cdiv(channels, group)), {**options, "enable_fp_fusion": False}


@triton.jit
def _tile(
    channels, height, width, INT: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """The program's image, its channels and pixels, and which of them there are."""
    across = tl.cdiv(width, COLUMNS)
    tiles = across * tl.cdiv(height, ROWS)
    tile = tl.program_id(0) % tiles
    pixel = tl.arange(0, ROWS * COLUMNS)
    y = (tile // across * ROWS + pixel // COLUMNS).to(INT)
    x = (tile % across * COLUMNS + pixel % COLUMNS).to(INT)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)).to(INT)[:, None]
    there = (channel < channels) & ((y < height) & (x < width))[None, :]
    return (tl.program_id(0) // tiles).to(tl.int64), channel, y, x, there


@triton.jit
def _window(row, y, x, INT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Whether a window meets the tile; which pixels of the tile are in it; its flat pixels: the first, and from there."""
    left, top = tl.load(row + 1), tl.load(row + 2)
    wide, high = tl.load(row + 3), tl.load(row + 4)
    x, y = x - left.to(INT), y - top.to(INT)
    inside = (x >= 0) & (x < wide) & (y >= 0) & (y < high)
    return inside, tl.load(row + 9), y * wide.to(INT) + x
