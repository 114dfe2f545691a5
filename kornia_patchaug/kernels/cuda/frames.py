"""*frames* in Triton, forward and backward, in one launch each: `reference.frames` says what is computed."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kornia_patchaug.kernels.backend import Gradients, Inputs, Maybe, Wanted
from kornia_patchaug.kernels.cuda.tables import (
    BY_OPACITY,
    CENTRE_X,
    CENTRE_Y,
    COLUMNS_X,
    COLUMNS_Y,
    ENDLESS,
    ENDLESS_X,
    ENDLESS_Y,
    FRAME,
    FROM_X,
    FROM_Y,
    HEIGHT,
    LEAST_X,
    LEAST_Y,
    LEFT,
    MARGIN_X,
    MARGIN_Y,
    MOST_X,
    MOST_Y,
    ORIGIN,
    READ,
    ROWS_X,
    ROWS_Y,
    SRC_X,
    SUMS,
    TO_Y,
    TOP,
    WIDTH,
    WINDOW,
    X1,
)
from kornia_patchaug.kernels.cuda.taps import place_of
from kornia_patchaug.plan import Plan

OBJECTS, ROWS = 64, 128  # of a program forward; and rows of sums that a program backward adds up at once


def frames(inputs: Inputs, plan: Plan) -> Tensor:
    """As `reference.frames`, and what `gather` needs to know where an object reads a pixel: ``(N, 29)``."""
    boxes = inputs.boxes
    objects = boxes.new_empty(len(boxes), FRAME.value)
    if len(boxes):
        options = {"ALIGN": plan.sampling.align_corners, "OBJECTS": OBJECTS, "enable_fp_fusion": False}
        with torch.cuda.device_of(boxes):
            _frames_kernel[(triton.cdiv(len(boxes), OBJECTS),)](objects, *_given(inputs, plan), len(boxes), **options)
    return objects


def frames_backward(
    sums: Tensor,
    first: Tensor,
    inputs: Inputs,
    plan: Plan,
    wanted: Wanted,
    to_opacity: Maybe = None,
    groups: int = 1,
) -> Gradients:
    """As `reference.frames_backward`, of sums ``(T, groups, 13)`` that are to be added up, from ``first (N + 1,)`` on
    for each object; the last column ``to_opacity (N, 1)``. Those of edges are there if boxes are wanted; those of the
    centre that is read are those of tx and ty."""
    _, theta, boxes, source_boxes = inputs
    to = [
        boxes.new_empty(t.shape) if t is not None and of else None
        for t, of in zip((theta, boxes, source_boxes), wanted[1:4], strict=True)
    ]
    if len(boxes):
        options = {"ALIGN": plan.sampling.align_corners, "ROWS": ROWS, "enable_fp_fusion": False}
        with torch.cuda.device_of(boxes):
            _frames_backward_kernel[(len(boxes),)](
                sums, first, groups, *to, to_opacity, *_given(inputs, plan), **options
            )
    return Gradients(None, *to)


def _given(inputs: Inputs, plan: Plan) -> tuple[object, ...]:
    """Theta, boxes and the boxes that are read, with the strides of each, and the tables of what they count from."""
    _, theta, boxes, source_boxes = inputs
    read = (None, 0, 0) if source_boxes is None else (source_boxes, *source_boxes.stride())
    tables = plan.windows.on(boxes.device), plan.reads.on(boxes.device)
    return theta, *theta.stride(), boxes, *boxes.stride(), *read, *tables


@triton.jit
def _ratio(numerator, denominator):
    """`frames.safe_ratio`."""
    zero = denominator == 0
    whole = tl.where(zero, 1.0, denominator).to(denominator.dtype)
    ratio = tl.div_rn(numerator, whole) if numerator.dtype == tl.float32 else numerator / whole
    return tl.where(zero, 0.0, ratio)


@triton.jit
def _half(first, last, ALIGN: tl.constexpr):
    """`frames.half_sizes` along one axis, and what it grows by as the box does."""
    size = last - first
    slope = size * 0 + 0.5
    if ALIGN:
        size -= 1
        slope = tl.where(size < 0, 0.0, slope)
        size = tl.where(size < 0, 0.0, size)
    return size / 2, slope


@triton.jit
def _corners(boxes, stride, left, top, mask):
    """A box counted from a pixel."""
    x1, y1 = tl.load(boxes, mask=mask, other=0.0), tl.load(boxes + stride, mask=mask, other=0.0)
    x2, y2 = tl.load(boxes + 2 * stride, mask=mask, other=0.0), tl.load(boxes + 3 * stride, mask=mask, other=0.0)
    left, top = left.to(x1.dtype), top.to(y1.dtype)
    return x1 - left, y1 - top, x2 - left, y2 - top


@triton.jit
def _inverse(slope):
    """1 over a slope, and how much farther a range that is divided by it lasts: without end if there is no slope."""
    none = (slope == 0) | (slope * 0 != 0)
    return tl.where(none, 0.0, 1 / tl.where(none, 1.0, slope)), tl.where(none, float("inf"), 0.0)


@triton.jit
def _range(corner, ahead, below, largest):
    """The least and the most position of a window along one axis, with a margin for any rounding, also of sums of
    numbers so large; and that."""
    zero = ahead * 0
    margin = 1e-3 + 1e-6 * (tl.abs(ahead) + tl.abs(below) + tl.abs(corner) + largest)
    least = corner + tl.minimum(ahead, zero) + tl.minimum(below, zero)
    return least - margin, corner + tl.maximum(ahead, zero) + tl.maximum(below, zero) + margin, margin


@triton.jit(do_not_specialize=["count"])
def _frames_kernel(
    objects,
    theta, theta_n, theta_row, theta_column, boxes, boxes_n, boxes_k, read_boxes, read_n, read_k, windows, reads,
    count, ALIGN: tl.constexpr, OBJECTS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64) * OBJECTS + tl.arange(0, OBJECTS)
    mask = n < count
    window, read = windows + n * WINDOW, reads + n * READ
    left, top = tl.load(window + LEFT, mask=mask, other=0), tl.load(window + TOP, mask=mask, other=0)
    x1, y1, x2, y2 = _corners(boxes + n * boxes_n, boxes_k, left, top, mask)
    half_x, half_y = _half(x1, x2, ALIGN)[0], _half(y1, y2, ALIGN)[0]
    own_x, own_y, src_x, src_y = tl.zeros_like(x1) + 1, tl.zeros_like(x1) + 1, half_x, half_y
    centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
    if read_boxes is not None:
        left, top = tl.load(read + ORIGIN, mask=mask, other=0), tl.load(read + ORIGIN + TO_Y, mask=mask, other=0)
        u1, v1, u2, v2 = _corners(read_boxes + n * read_n, read_k, left, top, mask)
        src_x, src_y = _half(u1, u2, ALIGN)[0], _half(v1, v2, ALIGN)[0]
        own_x, own_y = _ratio(src_x, half_x), _ratio(src_y, half_y)
        centre_x, centre_y = (u1 + u2) / 2, (v1 + v2) / 2
    row, given = objects + n * FRAME, theta + n * theta_n
    a = tl.load(given, mask=mask, other=0.0) * own_x
    b = tl.load(given + theta_column, mask=mask, other=0.0) * _ratio(src_x, half_y)
    tx = tl.load(given + 2 * theta_column, mask=mask, other=0.0) * src_x
    given += theta_row
    c = tl.load(given, mask=mask, other=0.0) * _ratio(src_y, half_x)
    d = tl.load(given + theta_column, mask=mask, other=0.0) * own_y
    ty = tl.load(given + 2 * theta_column, mask=mask, other=0.0) * src_y
    tl.store(row, a, mask=mask)
    tl.store(row + 1, b, mask=mask)
    tl.store(row + 2, tx, mask=mask)
    tl.store(row + 3, c, mask=mask)
    tl.store(row + 4, d, mask=mask)
    tl.store(row + 5, ty, mask=mask)
    tl.store(row + 6, centre_x, mask=mask)
    tl.store(row + 7, centre_y, mask=mask)
    tl.store(row + 8, x1, mask=mask)
    tl.store(row + 9, y1, mask=mask)
    tl.store(row + 10, x2, mask=mask)
    tl.store(row + 11, y2, mask=mask)
    from_x, from_y = 0.5 - (x1 + x2) / 2, 0.5 - (y1 + y2) / 2
    corner_x, corner_y = place_of(from_x, from_y, a, b, tx, centre_x, c, d, ty, centre_y)
    end_x = (tl.load(window + WIDTH, mask=mask, other=1) - 1).to(x1.dtype)
    end_y = (tl.load(window + HEIGHT, mask=mask, other=1) - 1).to(y1.dtype)
    read_x, read_y = tx + centre_x - 0.5, ty + centre_y - 0.5
    largest_x = tl.abs(a * from_x) + tl.abs(b * from_y) + tl.abs(tx) + tl.abs(centre_x)
    largest_y = tl.abs(c * from_x) + tl.abs(d * from_y) + tl.abs(ty) + tl.abs(centre_y)
    least_x, most_x, margin_x = _range(corner_x, a * end_x, b * end_y, largest_x)
    least_y, most_y, margin_y = _range(corner_y, c * end_x, d * end_y, largest_y)
    tl.store(row + FROM_X, from_x, mask=mask)
    tl.store(row + FROM_Y, from_y, mask=mask)
    tl.store(row + CENTRE_X, read_x, mask=mask)
    tl.store(row + CENTRE_Y, read_y, mask=mask)
    tl.store(row + LEAST_X, least_x, mask=mask)
    tl.store(row + LEAST_Y, least_y, mask=mask)
    tl.store(row + MOST_X, most_x, mask=mask)
    tl.store(row + MOST_Y, most_y, mask=mask)
    tl.store(row + MARGIN_X, margin_x, mask=mask)
    tl.store(row + MARGIN_Y, margin_y, mask=mask)
    columns_x, endless_x = _inverse(a)
    columns_y, endless_y = _inverse(c)
    rows, endless = _inverse(b * c - a * d)
    tl.store(row + COLUMNS_X, columns_x, mask=mask)
    tl.store(row + COLUMNS_Y, columns_y, mask=mask)
    tl.store(row + ROWS_X, c * rows, mask=mask)
    tl.store(row + ROWS_Y, -a * rows, mask=mask)
    tl.store(row + ENDLESS_X, endless_x, mask=mask)
    tl.store(row + ENDLESS_Y, endless_y, mask=mask)
    tl.store(row + ENDLESS, endless, mask=mask)


@triton.jit
def _column(sums, k):
    return tl.sum(tl.where(tl.arange(0, 16) == k, sums, 0.0), axis=0)


@triton.jit
def _ratio_back(grad, numerator, denominator):
    """The gradients of `_ratio` with respect to both."""
    by_numerator = _ratio(grad, denominator)
    return by_numerator, -_ratio(by_numerator * numerator, denominator)


@triton.jit
def _store_box(grads, centre_x, centre_y, half_x, half_y, slope_x, slope_y, x1, y1, x2, y2):
    """The gradient of a box by those of its centre, of its half sizes and of its edges."""
    tl.store(grads, x1 + centre_x / 2 - slope_x * half_x)
    tl.store(grads + 1, y1 + centre_y / 2 - slope_y * half_y)
    tl.store(grads + 2, x2 + centre_x / 2 + slope_x * half_x)
    tl.store(grads + 3, y2 + centre_y / 2 + slope_y * half_y)


@triton.jit
def _frames_backward_kernel(
    sums, first, groups, to_theta, to_boxes, to_read, to_opacity,
    theta, theta_n, theta_row, theta_column, boxes, boxes_n, boxes_k, read_boxes, read_n, read_k, windows, reads,
    ALIGN: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, 16)
    total = tl.zeros([16], sums.dtype.element_ty)
    begin, stop = tl.load(first + n) * groups, tl.load(first + n + 1) * groups
    known = columns < SRC_X
    if to_boxes is not None:
        known |= (columns >= X1) & (columns < BY_OPACITY)
    if to_opacity is not None:
        known |= columns == BY_OPACITY
    for start in range(begin, stop, ROWS):
        rows = start + tl.arange(0, ROWS)
        there = (rows < stop)[:, None] & known[None, :]
        total += tl.sum(tl.load(sums + rows[:, None] * SUMS + columns[None, :], mask=there, other=0.0), axis=0)
    window, read = windows + n * WINDOW, reads + n * READ
    x1, y1, x2, y2 = _corners(boxes + n * boxes_n, boxes_k, tl.load(window + LEFT), tl.load(window + TOP), n >= 0)
    half_x, slope_x = _half(x1, x2, ALIGN)
    half_y, slope_y = _half(y1, y2, ALIGN)
    src_x, src_y = half_x, half_y
    own_x, own_y = half_x * 0 + 1, half_x * 0 + 1
    if read_boxes is not None:
        u1, v1, u2, v2 = _corners(
            read_boxes + n * read_n, read_k, tl.load(read + ORIGIN), tl.load(read + ORIGIN + TO_Y), n >= 0
        )
        src_x, of_src_x = _half(u1, u2, ALIGN)
        src_y, of_src_y = _half(v1, v2, ALIGN)
        own_x, own_y = _ratio(src_x, half_x), _ratio(src_y, half_y)
    a, b, tx = _column(total, 0), _column(total, 1), _column(total, 2)
    c, d, ty = _column(total, 3), _column(total, 4), _column(total, 5)
    given = theta + n * theta_n
    if to_opacity is not None:
        tl.store(to_opacity + n, _column(total, BY_OPACITY))
    if to_theta is not None:
        grads = to_theta + n * 6
        tl.store(grads, a * own_x)
        tl.store(grads + 1, b * _ratio(src_x, half_y))
        tl.store(grads + 2, tx * src_x)
        tl.store(grads + 3, c * _ratio(src_y, half_x))
        tl.store(grads + 4, d * own_y)
        tl.store(grads + 5, ty * src_y)
    if to_boxes is not None or to_read is not None:
        b *= tl.load(given + theta_column)
        c *= tl.load(given + theta_row)
        by_src_x, by_half_y = _ratio_back(b, src_x, half_y)
        by_src_y, by_half_x = _ratio_back(c, src_y, half_x)
        by_src_x += tx * tl.load(given + 2 * theta_column)
        by_src_y += ty * tl.load(given + theta_row + 2 * theta_column)
        centre_x, centre_y = tx, ty
        if read_boxes is None:
            by_half_x += by_src_x
            by_half_y += by_src_y
        else:
            more_x, less_x = _ratio_back(a * tl.load(given), src_x, half_x)
            more_y, less_y = _ratio_back(d * tl.load(given + theta_row + theta_column), src_y, half_y)
            by_src_x, by_half_x, by_src_y, by_half_y = (
                by_src_x + more_x,
                by_half_x + less_x,
                by_src_y + more_y,
                by_half_y + less_y,
            )
            if to_read is not None:
                _store_box(
                    to_read + n * 4, centre_x, centre_y, by_src_x, by_src_y, of_src_x, of_src_y, 0.0, 0.0, 0.0, 0.0
                )
            centre_x, centre_y = centre_x * 0, centre_y * 0
        if to_boxes is not None:
            _store_box(
                to_boxes + n * 4, centre_x, centre_y, by_half_x, by_half_y, slope_x, slope_y,
                _column(total, 8), _column(total, 9), _column(total, 10), _column(total, 11),
            )  # fmt: skip
