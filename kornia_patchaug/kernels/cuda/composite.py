"""*composite* in Triton, forward and backward: each program takes a tile of one image, and paints the windows that meet
the region around it on it, object by object, so that the canvas is read and written once.

``reference.composite`` says what is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.kernels.backend import Composited, Found, Maybe
from kornia_patchaug.kernels.cuda.tables import HEIGHT, LEFT, START, TOP, WIDTH, WINDOW, offsets_up_to
from kornia_patchaug.plan import Windows, starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

# A tile of the canvas: wide, as pixels lie in memory, and small, so that few of its pixels lie outside a window that
# it meets. With 4 channels it is 8 values for each thread of four warps.
ROWS, COLUMNS = 8, 32
CHANNELS = 4
# Of tiles: each has a list of the windows that meet it, which is made on the host. Smaller ones make longer lists.
REGION = 64


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
        grad_opacity = opacity.new_empty(triton.cdiv(channels, _group(channels)), windows.total)
    if grad.numel():
        buffers = grad_values, opacity.contiguous(), *((under.contiguous(), grad_opacity) if keep else (None, None))
        _launch(_composite_backward_kernel, grad, grad_canvas, windows, *buffers)
    return grad_canvas, grad_values, grad_opacity[0] if len(grad_opacity) == 1 else grad_opacity.sum(0)


def _group(channels: int) -> int:
    """How many channels a program takes."""
    return min(int(triton.next_power_of_2(channels)), CHANNELS)


def regions_of(windows: Windows, images: int, height: int, width: int) -> tuple[Integers, Integers]:
    """The windows that meet each region, in their own order, and where those of each region begin."""
    down, across = triton.cdiv(height, REGION), triton.cdiv(width, REGION)
    image, left, top, width_of, height_of, _ = windows.host.T
    x, y = left // REGION, top // REGION
    counts_x = (left + width_of - 1) // REGION + 1 - x
    counts_y = (top + height_of - 1) // REGION + 1 - y
    counts = np.where(windows.areas > 0, counts_x * counts_y, 0)
    which = np.arange(len(counts)).repeat(counts)
    row, column = np.divmod(np.arange(len(which)) - starts(counts)[which], counts_x[which])
    region = (((image * down + y) * across + x)[which] + row * across) + column
    total = images * down * across
    by_region = (region.astype(np.uint16) if total <= 1 << 16 else region).argsort(kind="stable")  # by radix
    return which[by_region], starts(np.bincount(region, minlength=total))


def _launch(kernel: Any, source: Tensor, target: Tensor, windows: Windows, *buffers: Maybe) -> None:
    """Run a kernel on tiles of the source, which it writes to the target; it reads and fills the buffers."""
    images, channels, height, width = sizes = source.shape
    name = f"regions of {images} x {height} x {width}"
    order, first = windows.derived(name, source.device, lambda: regions_of(windows, images, height, width))
    farthest = (sum((n - 1) * s for n, s in zip(sizes[1:], t.stride()[1:], strict=True)) for t in (source, target))
    group, options = _group(channels), {"INT": offsets_up_to(max(*farthest, channels * windows.total))}
    options |= {"CHANNELS": group, "ROWS": ROWS, "COLUMNS": COLUMNS, "REGION": REGION, "enable_fp_fusion": False}
    grid = images * triton.cdiv(height, ROWS) * triton.cdiv(width, COLUMNS), triton.cdiv(channels, group)
    tables = windows.on(source.device), order, first
    with torch.cuda.device_of(source):
        kernel[grid](
            source, target, *tables, *buffers, windows.total, *sizes[1:], *source.stride(), *target.stride(), **options
        )


@triton.jit
def _tile(
    channels, height, width,
    INT: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, REGION: tl.constexpr,
):  # fmt: skip
    """The program's image, the first row and column of its tile, its region, the channels, rows and columns of its
    values, and whether the image has such a value."""
    across = tl.cdiv(width, COLUMNS)
    tiles = across * tl.cdiv(height, ROWS)
    image, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    top, left = tile // across * ROWS, tile % across * COLUMNS
    pixel = tl.arange(0, ROWS * COLUMNS)
    y, x = (top + pixel // COLUMNS).to(INT), (left + pixel % COLUMNS).to(INT)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)).to(INT)[:, None]
    there = (channel < channels) & ((y < height) & (x < width))[None, :]
    region = (image * tl.cdiv(height, REGION) + top // REGION) * tl.cdiv(width, REGION) + left // REGION
    return image.to(tl.int64), top, left, region, channel, y, x, there


@triton.jit
def _meets(window, top, left, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Whether a window has a pixel of the tile."""
    x, y = tl.load(window + LEFT) - left, tl.load(window + TOP) - top
    return (x < COLUMNS) & (y < ROWS) & (x + tl.load(window + WIDTH) > 0) & (y + tl.load(window + HEIGHT) > 0)


@triton.jit
def _pixels(window, y, x, INT: tl.constexpr):
    """Whether each pixel is in the window, and its index there."""
    width = tl.load(window + WIDTH).to(INT)
    x, y = x - tl.load(window + LEFT).to(INT), y - tl.load(window + TOP).to(INT)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < tl.load(window + HEIGHT).to(INT))
    return inside, y * width + x


@triton.jit
def _mixed(before, state, touched):
    """The state of pixels that were touched, and the bits that were read of others: a NaN's would not survive another
    dtype."""
    if before.dtype != tl.float64:
        state = state.to(tl.float32)  # on the way to half precision too, as torch does it
    return tl.where(touched[None, :], state.to(before.dtype), before)


@triton.jit(do_not_specialize=["total"])  # it changes with every batch: no reason to compile anew
def _composite_kernel(
    canvas, painted, windows, order, first,
    values, opacity, under,
    total, channels, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    painted_image, painted_channel, painted_y, painted_x,
    INT: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, REGION: tl.constexpr,
):  # fmt: skip
    image, top, left, region, channel, y, x, there = _tile(
        channels, height, width, INT, CHANNELS, ROWS, COLUMNS, REGION
    )
    pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
    before = tl.load(canvas + image * stride_image + pixels, mask=there)
    state, touched = before.to(values.dtype.element_ty), y < 0
    for k in range(tl.load(first + region), tl.load(first + region + 1)):
        window = windows + tl.load(order + k) * WINDOW
        if _meets(window, top, left, ROWS, COLUMNS):
            start = tl.load(window + START)
            inside, index = _pixels(window, y, x, INT)
            flat, known = channel * total + index[None, :], there & inside[None, :]
            if under is not None:
                tl.store(under + start + flat, state, mask=known)
            keeps = 1 - tl.load(opacity + start + index, mask=inside, other=0.0)
            over = tl.load(values + start + flat, mask=known, other=0.0)
            over = tl.where(keeps[None, :] == 0, over, keeps[None, :] * state + over)
            state = tl.where(inside[None, :], over, state)
            touched |= inside
    pixels = channel * painted_channel + (y * painted_y + x * painted_x)[None, :]
    tl.store(painted + image * painted_image + pixels, _mixed(before, state, touched), mask=there)


@triton.jit(do_not_specialize=["total"])
def _composite_backward_kernel(
    grad, grad_canvas, windows, order, first,
    grad_values, opacity, under, grad_opacity,
    total, channels, height, width,
    stride_image, stride_channel, stride_y, stride_x,
    canvas_image, canvas_channel, canvas_y, canvas_x,
    INT: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, REGION: tl.constexpr,
):  # fmt: skip
    image, top, left, region, channel, y, x, there = _tile(
        channels, height, width, INT, CHANNELS, ROWS, COLUMNS, REGION
    )
    pixels = channel * stride_channel + (y * stride_y + x * stride_x)[None, :]
    before = tl.load(grad + image * stride_image + pixels, mask=there, other=0.0)
    state, touched = before.to(opacity.dtype.element_ty), y < 0
    begin, stop = tl.load(first + region), tl.load(first + region + 1)
    for k in range(stop - begin):
        window = windows + tl.load(order + stop - 1 - k) * WINDOW
        if _meets(window, top, left, ROWS, COLUMNS):
            start = tl.load(window + START)
            inside, index = _pixels(window, y, x, INT)
            flat, known = channel * total + index[None, :], there & inside[None, :]
            tl.store(grad_values + start + flat, state, mask=known)
            if under is not None:
                by_keeps = tl.sum(state * tl.load(under + start + flat, mask=known, other=0.0), axis=0)
                group = grad_opacity + tl.program_id(1).to(tl.int64) * total
                tl.store(group + start + index, -by_keeps, mask=inside)
            keeps = 1 - tl.load(opacity + start + index, mask=inside, other=0.0)
            state = tl.where(inside[None, :], keeps[None, :] * state, state)
            touched |= inside
    pixels = channel * canvas_channel + (y * canvas_y + x * canvas_x)[None, :]
    tl.store(grad_canvas + image * canvas_image + pixels, _mixed(before, state, touched), mask=there)
