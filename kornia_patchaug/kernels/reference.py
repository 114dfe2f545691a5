"""The definition of *sample* and *composite*, in plain PyTorch: any device, any dtype, differentiable by autograd."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from kornia_patchaug.frames import centred_matrices, centres, clamped, half_sizes
from kornia_patchaug.kernels.backend import Composited, Found, Gradients, Inputs, Maybe, Sampled, Wanted
from kornia_patchaug.plan import LEFT, LOW_X, ORIGIN_X, PICTURE, WIDTH, Beyond, Plan, Sampling, Windows


def frames(inputs: Inputs, plan: Plan) -> Tensor:
    """What *sample* needs of each object, ``(N, 12)``.

    ``src_from_dst`` (6) in pixels from the centres of the boxes; the centre of the box that is read (2), counted from
    the origin in the source; the box that is painted (4), counted from the first pixel of its window.
    """
    _, theta, boxes, source_boxes = inputs
    device, align_corners = boxes.device, plan.sampling.align_corners
    box = boxes - plan.windows.on(device)[:, LEFT:WIDTH].repeat(1, 2)  # small numbers, and exact
    half = half_sizes(box, align_corners)
    if source_boxes is None:
        return torch.cat([centred_matrices(theta, half).flatten(1), centres(box), box], dim=1)
    read = source_boxes - plan.reads.on(device)[:, ORIGIN_X:LOW_X].repeat(1, 2)
    src_from_dst = centred_matrices(theta, half, half_sizes(read, align_corners))
    return torch.cat([src_from_dst.flatten(1), centres(read), box], dim=1)


def frames_backward(grad: Tensor, inputs: Inputs, plan: Plan, wanted: Wanted) -> Gradients:
    """The gradients with respect to theta and boxes, for one with respect to `frames`."""
    return _gradients(lambda inputs: [frames(inputs, plan)], inputs, wanted._replace(source=False), [grad])


def sample(inputs: Inputs, plan: Plan) -> Sampled:
    """Read a value for every window pixel: ``q = src_from_dst (p - centre of its box) + centre of the box read``.

    Returns:
        values ``(C, P)``, times their coverage if the plan has ``box_coverage``; and coverage ``(P,)``: the share of
        the pixel in its box, times its reach under ``by_reach``; empty where it would be 1 throughout.
    """
    source, sampling = inputs.source, plan.sampling
    of_object = frames(inputs, plan)
    obj, x, y = plan.windows.flat_pixels(source.device)
    _, channels, height, width = source.shape
    dtype = of_object.dtype

    boxes = of_object[:, 8:]
    a, b, tx, c, d, ty, src_x, src_y, dst_x, dst_y = torch.cat([of_object[:, :8], centres(boxes)], dim=1).mT[:, obj]
    dx, dy = (x.to(dtype) + 0.5) - dst_x, (y.to(dtype) + 0.5) - dst_y
    # Pixel centres are at whole numbers from here on, as taps are.
    qx = (a * dx + b * dy + tx) + src_x - 0.5
    qy = (c * dx + d * dy + ty) + src_y - 0.5

    reads = plan.reads.on(source.device)
    index, origin, *limits = reads.split([ORIGIN_X, 2, 2, 2, 2, 2], dim=1)
    integers = torch.stack([*limits, origin])  # (5, N, 2)
    taps_x, taps_y = (_taps(q, integers[..., axis][:, obj], sampling) for axis, q in enumerate((qx, qy)))
    plane = index[obj, PICTURE] * (channels * height)
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
    if sampling.beyond == Beyond.ZERO:  # a weight of 0 would not do: the gradient of the weight is the texel
        texels = texels.masked_fill(torch.stack(absent)[:, None], 0)
    reach = weight.sum(0)
    products = _Weighted.apply(weight[:, None], texels)  # type: ignore[no-untyped-call]  # torch's
    values = sum(products, torch.zeros_like(reach).masked_fill(reach != 0, -0.0))  # 0, not -0, where nothing is read
    if not plan.box_coverage:
        return values, reach if sampling.by_reach else values.new_zeros(0)
    share = coverage(obj, x, y, boxes)
    return share * values, share * reach if sampling.by_reach else share


def sample_backward(
    grad_values: Maybe, grad_coverage: Maybe, inputs: Inputs, plan: Plan, wanted: Wanted, into: Maybe = None
) -> Gradients:
    """The gradients with respect to the inputs, by torch's own differentiation of `sample`; that of the source is added
    ``into`` a tensor, if one is given."""
    found = _gradients(lambda inputs: list(sample(inputs, plan)), inputs, wanted, [grad_values, grad_coverage])
    if into is None or found.source is None:
        return found
    into += found.source
    return found._replace(source=None)


def _gradients(
    function: Callable[[Inputs], list[Tensor]], inputs: Inputs, wanted: Wanted, grads: list[Maybe]
) -> Gradients:
    """Of the function's outputs, of gradients ``grads`` or None, with respect to its inputs."""
    named = zip(Inputs._fields, inputs, wanted[:4], strict=True)
    with torch.enable_grad(), torch.inference_mode(False):
        leaves = {name: t.detach().requires_grad_() for name, t, want in named if want and t is not None}
        outputs = function(inputs._replace(**leaves))
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad]
        targets, given = [o for o, _ in pairs], [g for _, g in pairs]
        varied = list(leaves.values())
        found = torch.autograd.grad(targets, varied, given, materialize_grads=True) if varied else ()
    by_name = {name: grad.contiguous() for name, grad in zip(leaves, found, strict=True)}
    return Gradients(*(by_name.get(name) for name in Inputs._fields))


class _Weighted(torch.autograd.Function):
    """Weight times texel, and -0, which changes no sum, where the weight is 0: the texel may be infinite there."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, texel: Tensor) -> Tensor:
        ctx.save_for_backward(weight, texel)
        return torch.where(weight == 0, -0.0, weight * texel)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, texel = ctx.saved_tensors
        return (grad * texel).sum(1, keepdim=True), grad * weight


def coverage(obj: Tensor, x: Tensor, y: Tensor, boxes: Tensor) -> Tensor:
    """The share of each flat pixel's square inside its box, ``(P,)``; ``boxes (N, 4)`` count from the windows.

    1 inside and exactly 1 on integer boxes, whose gradient is that of the pixel losing coverage.
    """
    edges = boxes.mT[:, obj]  # (4, P)
    shares = []
    for axis, position in enumerate((x, y)):
        before_stop = clamped(edges[axis + 2] - position, 0, 1)
        after_start = clamped(position + 1 - edges[axis], 0, 1)
        shares.append(before_stop + after_start - 1)
    return shares[0] * shares[1]


def composite(
    canvas: Tensor, values: Tensor, opacity: Tensor, windows: Windows, keep: bool, in_place: bool = False
) -> Composited:
    """Paint every window over the canvas in row order: ``canvas = (1 - opacity) * canvas + values``.

    Where opacity is 1 what was there is gone, even if it was not a number.

    Each canvas pixel has a stack of entries, one for each window over it. The stacks are sorted by height, so that the
    pixels which still have an entry at some depth are a prefix, and one step over that prefix paints one entry of each:
    as many steps as the deepest overlap, and work in proportion to the window area, whatever the number of objects.

    Args:
        canvas: ``(B, C, H, W)``. values: ``(C, P)``, premultiplied by their opacity. opacity: ``(P,)``.
        windows: where they are painted.
        keep: whether what was under each painted pixel is wanted, for the gradient of opacity.
        in_place: whether to paint on the canvas itself, which is contiguous then, and of the values' dtype.

    Returns:
        a ``(B, C, H, W)`` in the canvas's dtype and memory format, pixels under no window keep their bits; and
        ``(C, P)``, what was under each painted pixel, empty if not to be kept.
    """
    where, steps = _stacks(windows, canvas)
    state = canvas[where].to(values.dtype)  # (C, U)
    finished, under = [state[:, :0]], torch.zeros_like(values) if keep else values.new_empty(0)
    for painted, going_on in steps:
        if keep:
            under[:, painted] = state.detach()
        keeps, over = 1 - opacity[painted], values[:, painted]
        state = torch.where(keeps == 0, over, keeps * state + over)
        finished.append(state[:, going_on:])
        state = state[:, :going_on]
    put = canvas.index_put_ if in_place else canvas.index_put
    return put(where, torch.cat(finished[::-1], dim=1).to(canvas.dtype)), under


def composite_backward(grad: Tensor, opacity: Tensor, under: Tensor, windows: Windows, in_place: bool = False) -> Found:
    """The gradients with respect to canvas, values and opacity, from the top of each stack to its bottom.

    The first is what ``grad`` becomes, if ``in_place``. That with respect to opacity is empty if ``under`` is.
    """
    where, steps = _stacks(windows, grad)
    state = grad[where].to(opacity.dtype)  # (C, U)
    grad_values = state.new_zeros(len(state), len(opacity))
    grad_opacity = opacity.new_zeros(len(opacity) if under.numel() else 0)
    for painted, _ in reversed(steps):
        at_depth = state[:, : len(painted)]
        grad_values[:, painted] = at_depth
        if under.numel():
            grad_opacity[painted] = -(at_depth * under[:, painted]).sum(0)
        state = torch.cat([(1 - opacity[painted]) * at_depth, state[:, len(painted) :]], dim=1)
    put = grad.index_put_ if in_place else grad.index_put
    return put(where, state.to(grad.dtype)), grad_values, grad_opacity


def _stacks(windows: Windows, canvas: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], list[tuple[Tensor, int]]]:
    """How to index the U painted pixels of a canvas as ``(C, U)``, deepest stack first; and a step for each depth, from
    the bottom: the flat pixels that are painted at it, one for each of the first pixels, and how many of these pixels
    have more to come."""
    _, channels, height, width = canvas.shape
    image, row, column = windows.places(canvas.device)
    target, entry = ((image * height + row) * width + column).sort(stable=True)
    pixel, stack = target.unique_consecutive(return_counts=True)  # (U,)
    bottom = stack.cumsum(0) - stack
    stack, order = stack.sort(descending=True)
    pixel, bottom = pixel[order], bottom[order]
    # remaining[k]: how many pixels have more than k entries, down to 0.
    remaining = [*torch.bincount(stack, minlength=2).flip(0).cumsum(0).flip(0)[1:].tolist(), 0]
    steps = [(entry[bottom[:active] + depth], going_on) for depth, (active, going_on) in enumerate(pairwise(remaining))]
    channel = torch.arange(channels, device=canvas.device)[:, None]
    row = pixel.div(width, rounding_mode="floor")
    return (row.div(height, rounding_mode="floor"), channel, row % height, pixel % width), steps


def _fold(position: Tensor, low: Tensor, high: Tensor, sampling: Sampling) -> Tensor:
    """Positions beyond the limits brought back to them; under ZERO, to where every tap is beyond the limits."""
    position = position.nan_to_num()  # infinite theta times pixel: any position far away will do
    if sampling.beyond == Beyond.ZERO:
        return clamped(position, low - 2, high + 1)
    if sampling.beyond == Beyond.MIRROR:
        edge = 0.0 if sampling.align_corners else 0.5  # mirrors stand on the outermost pixel centres, or on their edges
        mirror = low - edge
        span = high - low + 2 * edge
        turn = (position - mirror).remainder(2 * span.clamp(min=1))
        position = mirror + span - (turn - span).abs()
    return clamped(position, low, high)


def _taps(position: Tensor, integers: Tensor, sampling: Sampling) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The one or two pixels read around each position along one axis: where in the source, weight, whether outside."""
    low, high, first, last, origin = integers  # each (P,)
    position = _fold(position, low, high, sampling)
    if sampling.nearest:
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
        if sampling.beyond == Beyond.ZERO:
            weight = weight.masked_fill(outside, 0)
        taps.append((tap.clamp(first, last) + origin, weight, outside))
    return taps
