"""*composite* in Triton, forward and backward: each program takes a tile of one image, and paints the windows that meet
the region around it on it, object by object, so that the canvas is read and written once.

``reference.composite`` says what is computed.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.kernels.backend import Composited, Found, Maybe
from kornia_patchaug.kernels.cuda.planes import group_of, planes_of
from kornia_patchaug.kernels.cuda.regions import (
    TILING,
    grid_of,
    lists_of,
    meets,
    mixed,
    pixels_in,
    tiles_of,
)
from kornia_patchaug.kernels.cuda.tables import START, WINDOW, offsets_in
from kornia_patchaug.plan import Windows


def composite(
    canvas: Tensor, values: Tensor, opacity: Tensor, windows: Windows, keep: bool, in_place: bool
) -> Composited:
    """As `reference.composite`."""
    painted, under = canvas if in_place else torch.empty_like(canvas), values.new_empty(values.shape if keep else 0)
    if canvas.numel():
        buffers = values.contiguous(), opacity.contiguous(), under if keep else None
        _launch(_composite_kernel, canvas, painted, windows, *buffers)
    return painted, under


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, windows: Windows, in_place: bool = False) -> Found:
    """As `reference.composite_backward`."""
    channels, keep = grad.shape[1], under.numel() > 0
    grad_canvas = grad if in_place else torch.empty_like(grad)
    grad_values = opacity.new_empty(channels, windows.total)
    if not grad.numel() or not keep:
        grad_opacity = opacity.new_zeros(1, windows.total if keep else 0)
    else:  # a row for each group of channels, to be added up: the order is fixed, and no addition waits
        grad_opacity = opacity.new_empty(channels // group_of(channels), windows.total)
    if grad.numel():
        buffers = grad_values, opacity.contiguous(), *((under.contiguous(), grad_opacity) if keep else (None, None))
        _launch(_composite_backward_kernel, grad, grad_canvas, windows, *buffers)
    return grad_canvas, grad_values, grad_opacity[0] if len(grad_opacity) == 1 else grad_opacity.sum(0)


def _launch(kernel: Any, source: Tensor, target: Tensor, windows: Windows, *buffers: Maybe) -> None:
    """Run a kernel on tiles of the source, which it writes to the target; it reads and fills the buffers."""
    sizes, channels = source.shape, source.shape[1]
    order, first, _ = windows.derived(f"tiles of {tuple(sizes)}", source.device, lambda: lists_of(windows, sizes))
    group, options = group_of(channels), {"INT": offsets_in(channels * windows.total, source, target)}
    options |= {"CHANNELS": group, "enable_fp_fusion": False, **TILING}
    tables = windows.on(source.device), order, first
    with torch.cuda.device_of(source):
        kernel[grid_of(sizes, group)](
            source, target, *tables, *buffers, windows.total, *sizes[2:], *source.stride(), *target.stride(), **options
        )


@triton.jit(do_not_specialize=["total"])  # it changes with every batch: no reason to compile anew
def _composite_kernel(
    canvas, painted, windows, order, first,
    values, opacity, under,
    total, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    painted_image, painted_channel, painted_y, painted_x,
    INT: tl.constexpr, CHANNELS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, REGION: tl.constexpr,
):  # fmt: skip
    image, above, left, region, y_above, x = tiles_of(height, width, INT, ROWS, COLUMNS, TILES, REGION)
    _first_channel, channel, taken = planes_of(INT, CHANNELS)
    for tile in range(TILES):
        top, y = above + tile * ROWS, y_above + tile * ROWS
        there = taken & ((y < height) & (x < width))[None, :]
        pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
        before = tl.load(canvas + image * stride_image + pixels, mask=there)
        state, touched = before.to(values.dtype.element_ty), y < 0
        for k in range(tl.load(first + region), tl.load(first + region + 1)):
            window = windows + tl.load(order + k) * WINDOW
            if meets(window, top, left, ROWS, COLUMNS):
                start = tl.load(window + START)
                _column, _row, inside, index = pixels_in(window, y, x, INT)
                flat, known = channel * total + index[None, :], taken & inside[None, :]
                if under is not None:
                    tl.store(under + start + flat, state, mask=known)
                keeps = 1 - tl.load(opacity + start + index, mask=inside, other=0.0)
                over = tl.load(values + start + flat, mask=known, other=0.0)
                over = tl.where(keeps[None, :] == 0, over, keeps[None, :] * state + over)
                state = tl.where(inside[None, :], over, state)
                touched |= inside
        pixels = channel * painted_channel + (y * painted_y + x * painted_x)[None, :]
        tl.store(painted + image * painted_image + pixels, mixed(before, state, touched[None, :]), mask=there)


@triton.jit(do_not_specialize=["total"])
def _composite_backward_kernel(
    grad, grad_canvas, windows, order, first,
    grad_values, opacity, under, grad_opacity,
    total, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    canvas_image, canvas_channel, canvas_y, canvas_x,
    INT: tl.constexpr, CHANNELS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, REGION: tl.constexpr,
):  # fmt: skip
    image, above, left, region, y_above, x = tiles_of(height, width, INT, ROWS, COLUMNS, TILES, REGION)
    _first_channel, channel, taken = planes_of(INT, CHANNELS)
    for tile in range(TILES):
        top, y = above + tile * ROWS, y_above + tile * ROWS
        there = taken & ((y < height) & (x < width))[None, :]
        pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
        before = tl.load(grad + image * stride_image + pixels, mask=there, other=0.0)
        state, touched = before.to(opacity.dtype.element_ty), y < 0
        begin, stop = tl.load(first + region), tl.load(first + region + 1)
        for k in range(stop - begin):
            window = windows + tl.load(order + stop - 1 - k) * WINDOW
            if meets(window, top, left, ROWS, COLUMNS):
                start = tl.load(window + START)
                _column, _row, inside, index = pixels_in(window, y, x, INT)
                flat, known = channel * total + index[None, :], taken & inside[None, :]
                tl.store(grad_values + start + flat, state, mask=known)
                if under is not None:
                    by_keeps = tl.sum(state * tl.load(under + start + flat, mask=known, other=0.0), axis=0)
                    group = grad_opacity + tl.program_id(2).to(tl.int64) * total
                    tl.store(group + start + index, -by_keeps, mask=inside)
                keeps = 1 - tl.load(opacity + start + index, mask=inside, other=0.0)
                state = tl.where(inside[None, :], keeps[None, :] * state, state)
                touched |= inside
        pixels = channel * canvas_channel + (y * canvas_y + x * canvas_x)[None, :]
        tl.store(grad_canvas + image * canvas_image + pixels, mixed(before, state, touched[None, :]), mask=there)
