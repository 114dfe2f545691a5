"""The definition of *sample* and *composite*, in plain PyTorch: any device, any dtype, differentiable by autograd."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from kornia_patchaug.frames import centred_matrices, centres, half_sizes, safe_ratio
from kornia_patchaug.windows import Column, coverage, flat_pixels


def frames(
    theta: Tensor, src_boxes: Tensor | None, dst_boxes: Tensor, reads: Tensor, table: Tensor, align_corners: bool
) -> Tensor:
    """What *sample* needs of each object, ``(N, 12)``: ``src_from_dst`` (6) in pixels from the centres of the boxes,
    the centre of ``src_boxes`` (2) counted from the origin in ``reads``, its ``dst_boxes`` (4) counted from that of its
    window. Both are ``(N, 4)``; without the former, the latter is the same place in the source.
    """
    box = dst_boxes - table[:, Column.ORIGIN].repeat(1, 2)  # small numbers, and exact
    half = half_sizes(box, align_corners)
    src_from_dst = centred_matrices(theta, half)
    source_box = box
    if src_boxes is not None:
        source_box = src_boxes - reads[:, 1:3].repeat(1, 2)
        src_from_dst = safe_ratio(half_sizes(source_box, align_corners), half)[..., None] * src_from_dst
    return torch.cat([src_from_dst.flatten(1), centres(source_box), box], dim=1)


def frames_backward(
    grad: Tensor,
    theta: Tensor,
    src_boxes: Tensor | None,
    dst_boxes: Tensor,
    reads: Tensor,
    table: Tensor,
    align_corners: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of theta, ``src_boxes`` (empty without them) and ``dst_boxes``."""
    inputs = [t for t in (theta, src_boxes, dst_boxes) if t is not None]

    def outputs(theta: Tensor, *boxes: Tensor) -> list[Tensor]:
        return [frames(theta, boxes[0] if len(boxes) == 2 else None, boxes[-1], reads, table, align_corners)]

    of_theta, *of_src, of_dst = _gradients(outputs, inputs, [grad])
    return of_theta, of_src[0] if of_src else grad.new_empty(0), of_dst


def sample(
    source: Tensor,
    frames: Tensor,
    reads: Tensor,
    table: Tensor,
    total: int,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    covered: bool,
) -> tuple[Tensor, Tensor]:
    """Read a value for every window pixel: ``q = src_from_dst (p - centre of its box) + src_centre``.

    Args:
        source: ``(S, C, H, W)``.
        frames: ``(N, 12)``, in the dtype to compute in: ``src_from_dst`` (6), ``src_centre`` (2), its box (4).
        reads: ``(N, 7)`` int64: which of the S is read; the origin (2), a pixel of the source that coordinates count
            from, so that they stay small; the limits (4), first and last pixel x0 y0 x1 y1 that may be read.
        table, total: the windows to fill (``Windows.table``) and P, the pixels that they have.
        mode: ``bilinear`` or ``nearest``. padding_mode: ``zeros``, ``border`` or ``reflection``, what is beyond the
            limits, as in ``grid_sample``; or ``transparent``: zeros which count as not covered. Within the limits but
            outside the source there is zero under ``zeros`` and ``transparent``, else the nearest pixel.
        covered: whether values are multiplied by their coverage.

    Returns:
        values ``(C, P)``, and coverage ``(P,)``: the share of the pixel in its box, times the sum of the weights of the
        taps that exist if ``transparent``; empty if not ``covered``.
    """
    pixels = obj, x, y = flat_pixels(table, total)
    _, channels, height, width = source.shape
    dtype = frames.dtype
    zeros = padding_mode in ("zeros", "transparent")

    boxes = frames[:, 8:]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    a, b, tx, c, d, ty, src_x, src_y, dst_x, dst_y = torch.cat([frames[:, :8], centre], dim=1).mT[:, obj]
    dx, dy = (x.to(dtype) + 0.5) - dst_x, (y.to(dtype) + 0.5) - dst_y
    # Pixel centres are at whole numbers from here on, as taps are.
    qx = (a * dx + b * dy + tx) + src_x - 0.5
    qy = (c * dx + d * dy + ty) + src_y - 0.5

    index, origin, low, high = reads[:, 0], reads[:, 1:3], reads[:, 3:5], reads[:, 5:7]
    last = torch.tensor([width - 1, height - 1], device=source.device)
    readable = torch.maximum(low, -origin), torch.minimum(high, last - origin)
    integers = torch.stack([low, high, *readable, origin])  # (5, N, 2)
    taps_x, taps_y = (
        _taps(position, integers[..., axis][:, obj], mode, "zeros" if zeros else padding_mode, align_corners)
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
    if zeros:  # a weight of 0 would not do: the pixel that stands in may be NaN
        texels = texels.masked_fill(torch.stack(absent)[:, None], 0)
    values = (weight[:, None] * texels).sum(0)
    if not covered:
        return values, values.new_zeros(0)
    share = coverage(pixels, boxes)
    return share * values, share * weight.sum(0) if padding_mode == "transparent" else share


def sample_backward(
    grad_values: Tensor | None,
    grad_coverage: Tensor | None,
    source: Tensor,
    frames: Tensor,
    reads: Tensor,
    table: Tensor,
    total: int,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    covered: bool,
    of_source: bool,
    of_frames: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of source and frames, by torch's own differentiation of `sample`; empty where not wanted."""
    given = [grad_values, grad_coverage]
    wanted = [t for t, want in ((source, of_source), (frames, of_frames)) if want]

    def outputs(*varied: Tensor) -> list[Tensor]:
        rest = iter(varied)
        its_source, its_frames = (next(rest) if want else t for t, want in ((source, of_source), (frames, of_frames)))
        values = sample(its_source, its_frames, reads, table, total, mode, padding_mode, align_corners, covered)
        return [v for v, grad in zip(values, given, strict=True) if grad is not None]

    grads = iter(_gradients(outputs, wanted, [grad for grad in given if grad is not None]))
    either = (next(grads).contiguous() if want else frames.new_empty(0) for want in (of_source, of_frames))
    grad_source, grad_frames = either
    return grad_source, grad_frames


def _gradients(function: Callable[..., list[Tensor]], inputs: list[Tensor], grads: list[Tensor]) -> tuple[Tensor, ...]:
    """Of the function's outputs, of gradients ``grads``, by its inputs."""
    if not inputs:
        return ()
    # An operator's body runs beneath autograd, whatever the grad mode; this is the public way back above it. torch.func
    # would be another, but what watches operators, as torch's own checks of them do, cannot see through its tensors.
    with torch.inference_mode(False):
        leaves = [t.detach().requires_grad_() for t in inputs]
        pairs = [(o, grad) for o, grad in zip(function(*leaves), grads, strict=True) if o.requires_grad]
        outputs, of_outputs = [o for o, _ in pairs], [grad for _, grad in pairs]
        return torch.autograd.grad(outputs, leaves, of_outputs, materialize_grads=True)


def composite(canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """Paint every window over the canvas in row order: ``canvas = (1 - opacity) * canvas + paint``.

    Where opacity is 1 what was there is gone, even if it was not a number.

    Each canvas pixel has a stack of entries, one for each window over it. The stacks are sorted by height, so that the
    pixels which still have an entry at some depth are a prefix, and one step over that prefix paints one entry of each:
    as many steps as the deepest overlap, and work in proportion to the window area, whatever the number of objects.

    Args:
        canvas: ``(B, C, H, W)``. paint: ``(C, P)``, premultiplied by its opacity. opacity: ``(P,)``.
        table: the windows to paint (``Windows.table``).
        keep: whether what was under each painted pixel is wanted, for the gradient of opacity.

    Returns:
        a new ``(B, C, H, W)`` in the canvas's dtype and memory format, pixels under no window keep their bits; and
        ``(C, P)``, what was under each painted pixel, empty if not to be kept.
    """
    where, steps = _stacks(table, len(opacity), canvas.shape)
    state = canvas[where].to(paint.dtype)  # (C, U)
    finished, under = [state[:, :0]], torch.zeros_like(paint) if keep else paint.new_empty(0)
    for painted, going_on in steps:
        if keep:
            under[:, painted] = state.detach()
        keeps, over = 1 - opacity[painted], paint[:, painted]
        state = torch.where(keeps == 0, over, keeps * state + over)
        finished.append(state[:, going_on:])
        state = state[:, :going_on]
    return canvas.index_put(where, torch.cat(finished[::-1], dim=1).to(canvas.dtype)), under


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of canvas, paint and opacity, of ``grad (B, C, H, W)``; from the top of each stack to its bottom.

    That of opacity is empty if ``under`` is.
    """
    where, steps = _stacks(table, len(opacity), grad.shape)
    state = grad[where].to(opacity.dtype)  # (C, U)
    grad_paint = state.new_zeros(len(state), len(opacity))
    grad_opacity = opacity.new_zeros(len(opacity) if under.numel() else 0)
    for painted, _ in reversed(steps):
        at_depth = state[:, : len(painted)]
        grad_paint[:, painted] = at_depth
        if under.numel():
            grad_opacity[painted] = -(at_depth * under[:, painted]).sum(0)
        state = torch.cat([(1 - opacity[painted]) * at_depth, state[:, len(painted) :]], dim=1)
    return grad.index_put(where, state.to(grad.dtype)), grad_paint, grad_opacity


def _stacks(
    table: Tensor, total: int, shape: torch.Size
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], list[tuple[Tensor, int]]]:
    """How to index the painted pixels of a canvas as ``(C, U)``, and for each depth of their stacks, bottom first, the
    flat pixel that each of its prefix gets, and how many of them have more to come."""
    obj, x, y = flat_pixels(table, total)
    _, channels, height, width = shape
    origin = table[:, Column.ORIGIN]
    x, y = origin[:, 0][obj] + x, origin[:, 1][obj] + y
    target, entry = ((table[:, Column.IMAGE][obj] * height + y) * width + x).sort(stable=True)
    pixel, stack = target.unique_consecutive(return_counts=True)  # (U,)
    bottom = stack.cumsum(0) - stack
    stack, order = stack.sort(descending=True)
    pixel, bottom = pixel[order], bottom[order]
    # remaining[k]: how many pixels have more than k entries, down to 0.
    remaining = [*torch.bincount(stack, minlength=2).flip(0).cumsum(0).flip(0)[1:].tolist(), 0]
    steps = [(entry[bottom[:active] + depth], going_on) for depth, (active, going_on) in enumerate(pairwise(remaining))]
    channel = torch.arange(channels, device=table.device)[:, None]
    row = pixel.div(width, rounding_mode="floor")
    return (row.div(height, rounding_mode="floor"), channel, row % height, pixel % width), steps


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
