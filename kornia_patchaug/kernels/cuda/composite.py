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
BEYOND_32_BITS = 2**31  # offsets within an image take 32 bits where they can; where images begin takes 64 always


def composite(canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """As `reference.composite`."""
    painted, under = torch.empty_like(canvas), paint.new_empty(paint.shape if keep else 0)
    if canvas.numel():
        grid, options = _launch(canvas, painted, paint.shape[1])
        flat = paint.contiguous(), opacity.contiguous(), under, *_walk(table, len(canvas)), paint.shape[1]
        strides = *canvas.stride(), *painted.stride()
        with torch.cuda.device_of(canvas):
            _composite_kernel[grid](canvas, painted, *flat, *canvas.shape[1:], *strides, KEEP=keep, **options)
    return painted, under


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.composite_backward`."""
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
    return grad_canvas, grad_paint, grad_opacity[0] if len(grad_opacity) == 1 else grad_opacity.sum(0)


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
    whole = tl.int32 if max(*reach, channels * total) < BEYOND_32_BITS else tl.int64
    options = {"INT": whole, "CHANNELS": group, "ROWS": ROWS, "COLUMNS": COLUMNS}
    return (images * tiles, triton.cdiv(channels, group)), {**options, "enable_fp_fusion": False}


@triton.jit
def _tile(
    channels, height, width, INT: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """The program's image, where its tile begins, its channels, rows and columns, and which of them there are."""
    across = tl.cdiv(width, COLUMNS)
    tiles = across * tl.cdiv(height, ROWS)
    image, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    top, left = tile // across * ROWS, tile % across * COLUMNS
    pixel = tl.arange(0, ROWS * COLUMNS)
    y, x = (top + pixel // COLUMNS).to(INT), (left + pixel % COLUMNS).to(INT)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)).to(INT)[:, None]
    there = (channel < channels) & ((y < height) & (x < width))[None, :]
    return image.to(tl.int64), top, left, channel, y, x, there


@triton.jit
def _meets(row, top, left, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Whether the window of a row of the table has a pixel of the tile."""
    x, y = tl.load(row + 1) - left, tl.load(row + 2) - top
    return (x < COLUMNS) & (y < ROWS) & (x + tl.load(row + 3) > 0) & (y + tl.load(row + 4) > 0)


@triton.jit
def _window(row, y, x, INT: tl.constexpr):
    """Which pixels are in the window, the first of its flat pixels, and the others from there."""
    wide = tl.load(row + 3).to(INT)
    x, y = x - tl.load(row + 1).to(INT), y - tl.load(row + 2).to(INT)
    inside = (x >= 0) & (x < wide) & (y >= 0) & (y < tl.load(row + 4).to(INT))
    return inside, tl.load(row + 9), y * wide + x


@triton.jit
def _mixed(before, state, touched):
    """The state where it was touched, else the bits that were read: a NaN's would not survive another dtype."""
    if before.dtype != tl.float64:
        state = state.to(tl.float32)  # on the way to half precision too, as torch does it
    return tl.where(touched[None, :], state.to(before.dtype), before)


@triton.jit(do_not_specialize=["total"])  # it changes with every batch: no reason to compile anew
def _composite_kernel(
    canvas,
    painted,
    paint,
    opacity,
    under,
    walk,
    begin,
    total,
    channels,
    height,
    width,
    stride_image,
    stride_channel,
    stride_y,
    stride_x,
    painted_image,
    painted_channel,
    painted_y,
    painted_x,
    KEEP: tl.constexpr,
    INT: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    image, top, left, channel, y, x, there = _tile(channels, height, width, INT, CHANNELS, ROWS, COLUMNS)
    pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
    before = tl.load(canvas + image * stride_image + pixels, mask=there)
    state, touched = before.to(paint.dtype.element_ty), y < 0
    for k in range(tl.load(begin + image), tl.load(begin + image + 1)):
        row = walk + k * 10
        if _meets(row, top, left, ROWS, COLUMNS):
            inside, start, within = _window(row, y, x, INT)
            flat, known = channel * total + within[None, :], there & inside[None, :]
            if KEEP:
                tl.store(under + start + flat, state, mask=known)
            keeps = 1 - tl.load(opacity + start + within, mask=inside, other=0.0)
            over = tl.load(paint + start + flat, mask=known, other=0.0)
            over = tl.where(keeps[None, :] == 0, over, keeps[None, :] * state + over)
            state = tl.where(inside[None, :], over, state)
            touched |= inside
    pixels = channel * painted_channel + (y * painted_y + x * painted_x)[None, :]
    tl.store(painted + image * painted_image + pixels, _mixed(before, state, touched), mask=there)


@triton.jit(do_not_specialize=["total"])
def _composite_backward_kernel(
    grad,
    grad_canvas,
    grad_paint,
    grad_opacity,
    opacity,
    under,
    walk,
    begin,
    total,
    channels,
    height,
    width,
    stride_image,
    stride_channel,
    stride_y,
    stride_x,
    canvas_image,
    canvas_channel,
    canvas_y,
    canvas_x,
    KEEP: tl.constexpr,
    INT: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    image, top, left, channel, y, x, there = _tile(channels, height, width, INT, CHANNELS, ROWS, COLUMNS)
    pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
    before = tl.load(grad + image * stride_image + pixels, mask=there, other=0.0)
    state, touched = before.to(opacity.dtype.element_ty), y < 0
    first, stop = tl.load(begin + image), tl.load(begin + image + 1)
    group = grad_opacity + tl.program_id(1).to(tl.int64) * total
    for k in range(stop - first):
        row = walk + (stop - 1 - k) * 10
        if _meets(row, top, left, ROWS, COLUMNS):
            inside, start, within = _window(row, y, x, INT)
            flat, known = channel * total + within[None, :], there & inside[None, :]
            tl.store(grad_paint + start + flat, state, mask=known)
            if KEEP:
                of_keeps = tl.sum(state * tl.load(under + start + flat, mask=known, other=0.0), axis=0)
                tl.store(group + start + within, -of_keeps, mask=inside)
            keeps = 1 - tl.load(opacity + start + within, mask=inside, other=0.0)
            state = tl.where(inside[None, :], keeps[None, :] * state, state)
            touched |= inside
    pixels = channel * canvas_channel + (y * canvas_y + x * canvas_x)[None, :]
    tl.store(grad_canvas + image * canvas_image + pixels, _mixed(before, state, touched), mask=there)
