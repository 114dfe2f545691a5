"""*composite* on the CPU, forward and backward: bands of rows, in each of which windows are taken in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kornia_patchaug.kernels.backend import Composited, Found
from kornia_patchaug.kernels.cpu.arrays import contiguous, flat, fresh, shaped
from kornia_patchaug.kernels.cpu.jit import inner, jit
from kornia_patchaug.kernels.cpu.rows import X, copy, fill
from kornia_patchaug.kernels.cpu.threads import spread
from kornia_patchaug.plan import HEIGHT, IMAGE, LEFT, START, TOP, WIDTH, Windows

if TYPE_CHECKING:
    from kornia_patchaug.kernels.cpu.rows import Integers

BAND = 1 << 15  # pixels: few enough to share the work evenly, many enough not to notice that it is handed out


class Canvas(NamedTuple):
    """The layout of a canvas: its sizes, its bands of rows, and which objects paint each image."""

    channels: int
    height: int
    width: int
    total: int  # P
    rows: int  # of a band
    bands: int  # of all images
    windows: Integers  # (N, 6)
    order: Integers  # (N,) the objects, image by image
    first: Integers  # (B + 1,) where those of each image begin


def canvas_of(images: Tensor, windows: Windows) -> Canvas:
    """The `Canvas` that images are."""
    batch, channels, height, width = images.shape
    rows = max(1, BAND // width)
    bands, groups = batch * -(-height // rows), windows.grouped(batch)
    return Canvas(channels, height, width, windows.total, rows, bands, windows.host, *groups)


def composite(
    canvas: Tensor, values: Tensor, opacity: Tensor, windows: Windows, keep: bool, in_place: bool
) -> Composited:
    """As `reference.composite`."""
    place, opacities = canvas_of(canvas, windows), contiguous(opacity)
    came, under = flat(canvas, opacities), fresh(values.numel() if keep else 0, opacities)
    out = came if in_place else fresh(canvas.numel(), opacities)
    arguments = place, came[: 0 if in_place else None], flat(values, out), opacities, out, under
    spread(composite_loop, arguments, place.bands, windows.total if in_place else canvas.numel())
    painted = canvas if in_place else shaped(out, canvas)
    return painted, torch.from_numpy(under.reshape(values.shape) if keep else under)


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, windows: Windows, in_place: bool = False) -> Found:
    """As `reference.composite_backward`."""
    place, opacities = canvas_of(grad, windows), contiguous(opacity)
    counts = place.channels * place.total, place.total if len(under) else 0
    grad_values, grad_opacity = (fresh(count, opacities) for count in counts)
    came = flat(grad, opacities)
    out = came if in_place else fresh(grad.numel(), opacities)
    arguments = place, came[: 0 if in_place else None], opacities, flat(under, out), out, (grad_values, grad_opacity)
    spread(composite_backward_loop, arguments, place.bands, windows.total if in_place else grad.numel())
    of_values = torch.from_numpy(grad_values).view(place.channels, place.total)
    return grad if in_place else shaped(out, grad), of_values, torch.from_numpy(grad_opacity)


@jit
def composite_loop(begin, end, place, canvas, values, opacity, out, under):
    """Each task: copy a band of rows of one image, unless it is painted in place, and paint what lies in it of each of
    its windows, in row order."""
    place = Canvas(*place)
    for k in range(begin, end):
        image, row0, row1 = band_of(k, place)
        if len(canvas):
            copy_band(image, row0, row1, place, canvas, out)
        for i in range(place.first[image], place.first[image + 1]):
            n = place.order[i]
            y0, y1 = rows_in(n, row0, row1, place)
            for y in range(y0, y1):
                at = place.windows[n, START] + y * place.windows[n, WIDTH]
                over = values, place.total, at
                lay_row(n, y, place, over, opacity[at : at + place.windows[n, WIDTH]], under, out)


@jit
def composite_backward_loop(begin, end, place, grad, opacity, under, out, grads):
    """Each task: copy a band of rows of the gradient, unless it is changed in place, and carry it back through each
    window, the last one first."""
    place = Canvas(*place)
    for k in range(begin, end):
        image, row0, row1 = band_of(k, place)
        if len(grad):
            copy_band(image, row0, row1, place, grad, out)
        for i in range(place.first[image + 1] - 1, place.first[image] - 1, -1):
            n = place.order[i]
            columns, (y0, y1) = place.windows[n, WIDTH], rows_in(n, row0, row1, place)
            for y in range(y0, y1):
                at = place.windows[n, START] + y * columns
                take_off_row(n, y, (X, columns), place, opacity[at : at + columns], under, out, grads)


@inner
def band_of(k, place):
    """The image of band k, its first row, and one past its last row."""
    bands = -(-place.height // place.rows)
    row0 = k % bands * place.rows
    return k // bands, row0, min(row0 + place.rows, place.height)


@inner
def copy_band(image, row0, row1, place, source, target):
    """Copy rows row0 .. row1 of all channels of an image."""
    for channel in range(place.channels):
        plane = (image * place.channels + channel) * place.height
        copy(target, (plane + row0) * place.width, source, (plane + row0) * place.width, (row1 - row0) * place.width)


@inner
def copy_windows(image, row0, row1, place, source, target):
    """Copy what windows have of rows row0 .. row1 of all channels of an image."""
    for i in range(place.first[image], place.first[image + 1]):
        n = place.order[i]
        y0, y1 = rows_in(n, row0, row1, place)
        for y in range(y0, y1):
            for channel in range(place.channels):
                pixel = pixel_of(n, channel, y, place)[0]
                copy(target, pixel, source, pixel, place.windows[n, WIDTH])


@inner
def rows_in(n, row0, row1, place):
    """Which rows of a window lie between two rows of its image."""
    top, rows = place.windows[n, TOP], place.windows[n, HEIGHT]
    return max(row0 - top, 0), min(row1 - top, rows)


@inner
def pixel_of(n, channel, y, place):
    """Where row y of a window begins in the flat canvas, and in the flat buffers, without the channel."""
    window = place.windows[n]
    line = (window[IMAGE] * place.channels + channel) * place.height + window[TOP] + y
    return line * place.width + window[LEFT], window[START] + y * window[WIDTH]


@inner
def lay_row(n, y, place, over, opacity, under, out):
    """Paint row y of a window; ``over``: the values, how far apart their channels lie, and where the row's begin. Where
    opacity is 1 what was there is gone, even if it was not a number."""
    (values, plane, first), columns, one = over, len(opacity), out.dtype.type(1)
    for channel in range(place.channels):
        pixel, at = pixel_of(n, channel, y, place)
        if len(under):
            copy(under, channel * place.total + at, out, pixel, columns)
        line, new = out[pixel : pixel + columns], values[channel * plane + first : channel * plane + first + columns]
        for i in range(columns):
            keeps = one - opacity[i]
            line[i] = new[i] if keeps == 0 else keeps * line[i] + new[i]


@inner
def take_off_row(n, y, some, place, opacity, under, out, grads):
    """Carry some columns of a gradient back through row y of a window: store those with respect to its values and, if
    there is room for them, to its opacity, which take what was kept of it. An empty ``opacity``: 1."""
    (values, covers), (left, right), real = grads, some, out.dtype.type
    columns = right - left
    at = pixel_of(n, X, y, place)[1] + left
    if len(covers):
        fill(covers, at, at + columns, real(0))
    for channel in range(place.channels):
        pixel, flat = pixel_of(n, channel, y, place)[0] + left, channel * place.total + at
        line = out[pixel : pixel + columns]
        if len(covers):
            below, by_opacity = under[flat : flat + columns], covers[at : at + columns]
            for i in range(columns):
                by_opacity[i] -= line[i] * below[i]
        copy(values, flat, out, pixel, columns)
        if not len(opacity):
            fill(line, X, columns, real(0))
        for i in range(len(opacity)):
            line[i] *= real(1) - opacity[i]
