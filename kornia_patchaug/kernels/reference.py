"""The definition of *sample* and *composite*, in plain PyTorch: any device, any dtype, differentiable by autograd."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from kornia_patchaug.windows import Windows


def sample(
    source: Tensor,
    index: Tensor,
    src_from_dst: Tensor,
    src_centre: Tensor,
    dst_centre: Tensor,
    src_origin: Tensor,
    limits: Tensor,
    windows: Windows,
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> tuple[Tensor, Tensor]:
    """Read a value for every window pixel: ``q = src_from_dst (p - dst_centre) + src_centre``.

    Args:
        source: ``(S, C, H, W)``; index ``(N,)`` says which of the S each object reads.
        src_from_dst: ``(N, 2, 3)`` in pixels from the centres; its dtype is the one computed in.
        src_centre: ``(N, 2)`` counted from ``src_origin (N, 2)``, a pixel of the source, so that floating coordinates
            stay small; dst_centre ``(N, 2)`` counted from the window's origin.
        limits: ``(N, 4)`` first and last pixel x0 y0 x1 y1 that may be read, counted from ``src_origin``.
        windows: the pixels to fill.
        mode: ``bilinear`` or ``nearest``. padding_mode: ``zeros``, ``border`` or ``reflection``, what is beyond the
            limits, as in ``grid_sample``. Within the limits but outside the source there is zero under ``zeros``, else
            the nearest pixel.

    Returns:
        values ``(C, P)``, and reach ``(P,)``, the sum of the weights of the taps that exist (1 unless ``zeros``).
    """
    obj, x, y = windows.pixels
    _, channels, height, width = source.shape
    dtype = src_from_dst.dtype

    floats = torch.cat([src_from_dst.flatten(1), src_centre, dst_centre], dim=1)  # (N, 10)
    a, b, tx, c, d, ty, src_x, src_y, dst_x, dst_y = floats.mT[:, obj]
    dx, dy = (x.to(dtype) + 0.5) - dst_x, (y.to(dtype) + 0.5) - dst_y
    # Pixel centres are at whole numbers from here on, as taps are.
    qx = (a * dx + b * dy + tx) + src_x - 0.5
    qy = (c * dx + d * dy + ty) + src_y - 0.5

    last = torch.tensor([width - 1, height - 1], device=source.device)
    low, high = limits[:, :2], limits[:, 2:]
    readable = torch.maximum(low, -src_origin), torch.minimum(high, last - src_origin)
    integers = torch.stack([low, high, *readable, src_origin])  # (5, N, 2)
    taps_x, taps_y = (
        _taps(position, integers[..., axis][:, obj], mode, padding_mode, align_corners)
        for axis, position in enumerate((qx, qy))
    )
    plane = index[obj] * (channels * height)
    offsets, weights, absent = [], [], []
    for row, weight_y, outside_y in taps_y:
        for column, weight_x, outside_x in taps_x:
            offsets.append((plane + row) * width + column)
            weights.append(weight_y * weight_x)
            absent.append(outside_y | outside_x)
    weight = torch.stack(weights)  # (taps, P)
    # index_select keeps the indices for its backward pass, 32 bits where they fit; gather would keep the source, which
    # is a canvas for each layer.
    whole = torch.int32 if source.numel() < 2**31 else torch.int64
    planes = torch.arange(channels, device=source.device, dtype=whole)[:, None] * (height * width)
    offset = torch.stack(offsets).to(whole)[:, None] + planes  # (taps, C, P)
    texels = source.reshape(-1).index_select(0, offset.flatten()).view(offset.shape).to(dtype)
    if padding_mode == "zeros":  # a weight of 0 would not do: the pixel that stands in may be NaN
        texels = texels.masked_fill(torch.stack(absent)[:, None], 0)
    return (weight[:, None] * texels).sum(0), weight.sum(0)


def composite(canvas: Tensor, paint: Tensor, opacity: Tensor, windows: Windows) -> Tensor:
    """Paint every window over the canvas in row order: ``canvas = (1 - opacity) * canvas + paint``.

    Each canvas pixel has a stack of entries, one for each window over it. The stacks are sorted by height, so that the
    pixels which still have an entry at some depth are a prefix, and one step over that prefix paints one entry of each:
    as many steps as the deepest overlap, and work in proportion to the window area, whatever the number of objects.

    Args:
        canvas: ``(B, C, H, W)``. paint: ``(C, P)``, premultiplied by its opacity. opacity: ``(P,)``.

    Returns:
        a new ``(B, C, H, W)`` in the canvas's dtype and memory format; pixels under no window keep their bits.
    """
    obj, x, y = windows.pixels
    _, channels, height, width = canvas.shape
    x, y = windows.origin[:, 0][obj] + x, windows.origin[:, 1][obj] + y
    target, entry = ((windows.image[obj] * height + y) * width + x).sort(stable=True)
    pixel, stack = target.unique_consecutive(return_counts=True)  # (U,)
    bottom = stack.cumsum(0) - stack
    stack, order = stack.sort(descending=True)
    pixel, bottom = pixel[order], bottom[order]
    # remaining[k]: how many pixels have more than k entries, down to 0.
    remaining = [*torch.bincount(stack, minlength=2).flip(0).cumsum(0).flip(0)[1:].tolist(), 0]

    channel = torch.arange(channels, device=canvas.device)[:, None]
    row = pixel.div(width, rounding_mode="floor")
    where = (row.div(height, rounding_mode="floor"), channel, row % height, pixel % width)
    state = canvas[where].to(paint.dtype)  # (C, U)
    finished = [state[:, :0]]
    for depth, (active, going_on) in enumerate(pairwise(remaining)):
        painted = entry[bottom[:active] + depth]
        state = (1 - opacity[painted]) * state + paint[:, painted]
        finished.append(state[:, going_on:])
        state = state[:, :going_on]
    return canvas.index_put(where, torch.cat(finished[::-1], dim=1).to(canvas.dtype))


def _fold(position: Tensor, low: Tensor, high: Tensor, padding_mode: str, align_corners: bool) -> Tensor:
    """Bring positions beyond the limits back by the padding mode; far ones to where every tap is out of them."""
    position = position.nan_to_num()  # infinite theta times pixel: any position far away will do
    if padding_mode == "zeros":
        return position.clamp(low - 2, high + 1)
    if padding_mode == "reflection":
        edge = 0.0 if align_corners else 0.5  # mirrors stand on the outermost pixel centres, or on their edges
        mirror = low - edge
        span = high - low + 2 * edge
        turn = (position - mirror).remainder(2 * span.clamp(min=1))
        position = mirror + span - (turn - span).abs()
    return position.clamp(low, high)


def _taps(
    position: Tensor, integers: Tensor, mode: str, padding_mode: str, align_corners: bool
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The one or two pixels read around each position along one axis: where in the source, weight, whether outside."""
    low, high, first, last, origin = integers  # each (P,)
    position = _fold(position, low, high, padding_mode, align_corners)
    if mode == "nearest":
        # Halves go to the even pixel of the patch, as they do in grid_sample on the crop.
        nearest = (position.detach() - low).round().long() + low
        read = [(nearest, 0 * position + 1)]  # a zero gradient, as grid_sample gives
    else:
        below = position.detach().floor()
        fraction = position - below
        below = below.long()
        read = [(below, 1 - fraction), (below + 1, fraction)]
    taps = []
    for tap, weight in read:
        outside = (tap < first) | (tap > last)
        if padding_mode == "zeros":
            weight = weight.masked_fill(outside, 0)
        taps.append((tap.clamp(first, last) + origin, weight, outside))
    return taps
