"""One row of one object on the CPU: where its pixels are read, and what of them lies in the box and in the source.

Positions count from the origin that an object reads from, pixel centres at whole numbers. No fast-math for them: where
a pixel is tested and where it is read, its position must be the same number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kornia_patchaug.kernels.cpu.jit import fused, inner
from kornia_patchaug.plan import (
    FIRST_X,
    FIRST_Y,
    HEIGHT,
    HIGH_X,
    HIGH_Y,
    LAST_X,
    LAST_Y,
    LEFT,
    LOW_X,
    LOW_Y,
    ORIGIN_X,
    ORIGIN_Y,
    PICTURE,
    START,
    TOP,
    WIDTH,
    Beyond,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Reals = NDArray[np.floating]  # of either width
    Integers = NDArray[np.int64]

ZERO, NEAREST, MIRROR = (int(beyond) for beyond in Beyond)
X, Y = np.int64(0), np.int64(1)  # axes; X also where 0 is handed on: for a number in the code numba compiles anew
ABSENT = -(1 << 40)  # no row or column, counted from any origin
TILE = 192  # columns done at a time, so that the source rows which they read stay in the first-level cache
FAR = 1 << 18  # pixels; objects that read from further are taken pixel by pixel
MOST = 1 << 31  # pixels that 32 bits count; objects that read a picture of more are taken pixel by pixel, too


class Objects(NamedTuple):
    """The objects of a call, as arrays."""

    theta: Reals  # (N, 6)
    boxes: Reals  # (N, 4)
    source_boxes: Reals  # (N, 4), or (0, 4): the same place of the source
    reads: Integers  # (N, 7)
    windows: Integers  # (N, 6)
    opacity: Reals  # A of each object (N,); of each flat pixel from ``first`` on; or (0,): 1
    first: int | np.int64 = 0


class Job(NamedTuple):
    """What all tasks of a call share."""

    channels: int
    height: int  # of the source
    width: int
    total: int  # P
    nearest: bool
    beyond: int
    align_corners: bool
    by_reach: bool
    covered: bool  # the coverage K is part of opacity
    opacity_of: int  # NOBODY, OBJECT or PIXEL
    of_boxes: bool  # a gradient with respect to boxes is wanted: pixels beside an edge count as cut by it
    of_opacity: bool  # a gradient with respect to opacity is wanted
    finite: bool = False  # the source is known to be finite, and signs of zeros do not matter


NOBODY, OBJECT, PIXEL = range(3)


class Frame(NamedTuple):
    """What a task knows of its object."""

    a: float  # src_from_dst, in pixels from the centres of the boxes: a b tx, c d ty
    b: float
    tx: float
    c: float
    d: float
    ty: float
    src_x: float  # the centre of the box that is read
    src_y: float
    x1: float  # the box that is painted, from the first pixel of its window
    y1: float
    x2: float
    y2: float
    centre_x: float
    centre_y: float
    first_x: float  # the pixels that can be read
    first_y: float
    last_x: float
    last_y: float
    per_x: float  # columns for each pixel that is read: 1 / a, 1 / c
    per_y: float
    tame: bool  # of a size for which rounding moves no position by an eighth of a pixel, and 32 bits count texels
    low_x: int  # the limits
    low_y: int
    high_x: int
    high_y: int
    base: int  # where the origin lies in the flat source


class Room(NamedTuple):
    """What one thread works in, made for it as loops allocate nothing: reference counts take long to compile."""

    ramp: Reals  # (TILE,) 0, 1, 2, ...
    texels: NDArray[np.int32]  # (TILE,) filled by `positions`, as the next two
    across: Reals
    down: Reals
    shares: Reals  # (TILE,) K A of columns; in the backward pass their A, or K A R
    opacity: Reals  # (TILE,) K A R
    values: Reals  # (C TILE) the values of columns, or (0,)
    window: Reals  # the values and coverage of one window, or (0,)
    opacities: Reals  # what the matte of one window is there, or (0,)


class Row(NamedTuple):
    """Where columns left .. right of row ``line`` of the window of ``object`` are read.

    ``left <= t0 <= x0 <= x1 <= t1 <= right``: from x0 to x1 every tap can be read, where need be after the position was
    brought back to what can be read, and if K matters the pixel lies in the box as a whole: no care is needed.
    Before t0 and from t1 on nothing can be read under ZERO.
    """

    object: int
    line: int
    left: int
    t0: int
    x0: int
    x1: int
    t1: int
    right: int
    x: float  # the pixel at column k is read at (a dx + x, c dx + y), where dx = k + 0.5 - centre_x
    y: float
    dy: float


def instruction(generator: Callable[..., Any]) -> Callable[..., None]:
    """An intrinsic, with the type that it has in loops: they leave out the first argument."""
    return cast("Callable[..., None]", intrinsic(generator))


@instruction
def prefetch(typing, array, index):
    """Ask for the cache line of ``array[index]``; any index will do, as nothing is read."""

    def generate(context, builder, signature, arguments):
        pointer = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        int32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, int32, int32, int32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(pointer, [arguments[1]]), byte)
        builder.call(function, [address, int32(0), int32(3), int32(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@instruction
def stay_apart(typing):
    """Keep the function that calls this from being inlined: its loop needs all registers for itself."""

    def generate(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@instruction
def one_by_one(typing):
    """Nothing; but a loop with it is not vectorised: gathering the texels of channels is slower than loading them."""

    def generate(context, builder, signature, arguments):
        builder.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], side_effect=True)
        return context.get_dummy_value()

    return types.void(), generate


@instruction
def copy(typing, target, begin, source, first, count):
    """Copy ``source[first : first + count]`` to ``target[begin : begin + count]``, which share no memory.

    numba compiles an assignment to a slice for seconds, for the text of its error.
    """

    def generate(context, builder, signature, arguments):
        to, of = (context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 2))
        size = context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype))
        cgutils.raw_memcpy(
            builder, builder.gep(to, [arguments[1]]), builder.gep(of, [arguments[3]]), arguments[4], size
        )
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int64), generate


@inner
def fill(target, begin, end, value):
    """Set ``target[begin:end]`` to a value; unsigned, as a signed index may count from the end, which takes a test."""
    for i in range(np.uint64(begin), np.uint64(max(begin, end))):
        target[i] = value


@inner
def half_size(real, low, high, align_corners):
    """`frames.half_sizes` along an axis, and its derivative with respect to the size of the box."""
    size = high - low
    if not align_corners:
        return size / real(2), real(0.5)
    return max(size - real(1), real(0)) / real(2), real(0.5) if size >= real(1) else real(0)


@inner
def ratio(real, numerator, denominator):
    """`frames.safe_ratio`, and its derivatives with respect to both."""
    if denominator == real(0):
        return real(0), real(0), real(0)
    value = numerator / denominator
    return value, real(1) / denominator, -value / denominator


@inner
def axis_of(real, n, k, objects, job):
    """The row of ``src_from_dst`` for axis k (its own column, the other column, the shift), the centre of the box that
    is read, and both edges of the box that is painted."""
    theta, row, cross = objects.theta, 3 * k, 3 * k + 1 - k
    left, top = real(objects.windows[n, LEFT + k]), real(objects.windows[n, TOP - k])
    low, high = objects.boxes[n, k] - left, objects.boxes[n, 2 + k] - left
    half = half_size(real, low, high, job.align_corners)[0]
    other = half_size(real, objects.boxes[n, 1 - k] - top, objects.boxes[n, 3 - k] - top, job.align_corners)[0]
    src_low, src_high, src_half, scale = low, high, half, real(1)
    if len(objects.source_boxes):
        origin = real(objects.reads[n, ORIGIN_X + k])
        src_low, src_high = objects.source_boxes[n, k] - origin, objects.source_boxes[n, 2 + k] - origin
        src_half = half_size(real, src_low, src_high, job.align_corners)[0]
        scale = ratio(real, src_half, half)[0]
    across = theta[n, cross] * ratio(real, src_half, other)[0]
    return scale * theta[n, row + k], across, theta[n, row + 2] * src_half, (src_low + src_high) / real(2), low, high


@inner
def frame_of(n, objects, job):
    """The `Frame` of object n, as `reference.frames` defines its matrix and boxes."""
    real, reads = objects.theta.dtype.type, objects.reads[n]
    a, b, tx, src_x, x1, x2 = axis_of(real, n, X, objects, job)
    d, c, ty, src_y, y1, y2 = axis_of(real, n, Y, objects, job)
    left, top = reads[ORIGIN_X], reads[ORIGIN_Y]
    first_x, first_y, last_x, last_y = (
        real(reads[FIRST_X]),
        real(reads[FIRST_Y]),
        real(reads[LAST_X]),
        real(reads[LAST_Y]),
    )
    steepest, side = max(abs(a), abs(b), abs(c), abs(d)), max(x2 - x1, y2 - y1)
    tame = (
        job.height * job.width < MOST and steepest * side < FAR and max(abs(tx), abs(ty), abs(src_x), abs(src_y)) < FAR
    )
    base = reads[PICTURE] * (job.channels * job.height * job.width) + top * job.width + left
    matrix, boxes = (a, b, tx, c, d, ty, src_x, src_y), (x1, y1, x2, y2, (x1 + x2) * real(0.5), (y1 + y2) * real(0.5))
    readable = (first_x, first_y, last_x, last_y, real(1) / a, real(1) / c, tame)
    return Frame(*matrix, *boxes, *readable, reads[LOW_X], reads[LOW_Y], reads[HIGH_X], reads[HIGH_Y], base)


@inner
def start_of_row(real, f, y):
    """A row's pixels are read at ``a * dx`` and ``c * dx`` further than these; and the row's dy."""
    dy = real(y) + real(0.5) - f.centre_y
    return f.b * dy + f.tx + f.src_x - real(0.5), f.d * dy + f.ty + f.src_y - real(0.5), dy


@inner
def narrow(real, begin, end, inverse, start, low, high):
    """Columns about where ``low <= start + x / inverse < high``: the first of begin .. end, and one past the last."""
    if not np.isfinite(inverse):
        return (begin, end) if low <= start < high else (begin, begin)
    one, other = (low - start) * inverse, (high - start) * inverse
    one, other = max(min(one, other), real(begin)), min(max(one, other), real(end))
    if not one <= other:  # nor for what is not a number
        return begin, begin
    return int(np.ceil(one)), min(end, int(other) + 1)


@inner
def reached_columns(real, f, y, left, right, job):
    """Columns t0 .. t1 of left .. right of a row, beyond which nothing can be read under ZERO."""
    if job.beyond != ZERO or not f.tame:
        return left, right
    qx, qy, _ = start_of_row(real, f, y)
    off, more = real(0.5) - f.centre_x, real(1.125)  # a pixel, and some, as rounding moves positions
    t0, t1 = narrow(real, left, right, f.per_x, qx + f.a * off, f.first_x - more, f.last_x + more)
    return narrow(real, t0, t1, f.per_y, qy + f.c * off, f.first_y - more, f.last_y + more)


@inner
def trimmed(real, f, y, begin, end):
    """Columns begin .. end of a row without those at its ends of which no tap exists, whose weights are 0."""
    qx, qy, _ = start_of_row(real, f, y)
    while begin < end and not touches(real, f, begin, qx, qy):
        begin += 1
    while begin < end and not touches(real, f, end - 1, qx, qy):
        end -= 1
    return begin, end


@inner
def touches(real, f, x, qx, qy):
    """Whether a tap of column x can be read and has a weight."""
    dx, one = real(x) + (real(0.5) - f.centre_x), real(1)
    px, py = f.a * dx + qx, f.c * dx + qy
    return f.first_x - one < px < f.last_x + one and f.first_y - one < py < f.last_y + one


@inner
def row_of(real, f, n, y, left, right, covered, job):
    """The `Row` of columns left .. right; ``covered`` if the box's edges matter."""
    qx, qy, dy = start_of_row(real, f, y)
    off = real(0.5) - f.centre_x
    t0, t1 = reached_columns(real, f, y, left, right, job)
    x0, x1 = whole_columns(f, y, t0, t1, job) if covered else (t0, t1)
    clamped = job.beyond == NEAREST and f.first_x < f.last_x and f.first_y < f.last_y
    if f.tame and x0 < x1 and not clamped:
        x0, x1 = narrow(real, x0, x1, f.per_x, qx + f.a * off, f.first_x, f.last_x)
        x0, x1 = narrow(real, x0, x1, f.per_y, qy + f.c * off, f.first_y, f.last_y)
        while x0 < x1 and not readable(real, f, x0, qx, qy):  # positions are monotonic along a row, rounded too
            x0 += 1
        while x0 < x1 and not readable(real, f, x1 - 1, qx, qy):
            x1 -= 1
    if not f.tame or x0 >= x1:
        x0, x1 = t1, t1
    return Row(n, y, left, t0, x0, x1, t1, right, qx, qy, dy)


@inner
def row_without_ends(real, f, n, y, columns, narrowed):
    """The `Row` of columns of which all that can be read is interior, at positions that are brought back to it.

    ``columns``: left, t0, t1 and right; if ``narrowed`` the row is no longer than what can be read.
    """
    qx, qy, dy = start_of_row(real, f, y)
    left, t0, t1, right = columns
    t1 = max(t0, t1)
    return Row(n, y, t0 if narrowed else left, t0, t0, t1, t1, t1 if narrowed else right, qx, qy, dy)


@inner
def all_ends(row):
    """A row without an interior."""
    return Row(row.object, row.line, row.left, row.t0, row.t1, row.t1, row.t1, row.right, row.x, row.y, row.dy)


@inner
def readable(real, f, x, qx, qy):
    """Whether all four taps of column x can be read."""
    dx = real(x) + (real(0.5) - f.centre_x)
    px, py = f.a * dx + qx, f.c * dx + qy
    return f.first_x <= px < f.last_x and f.first_y <= py < f.last_y


@inner
def whole_columns(f, y, begin, end, job):
    """Which of the columns begin .. end lie in the box as a whole, and where its edges have a gradient, would still do
    so if they moved."""
    if job.of_boxes:
        whole = y > f.y1 and y + 1 < f.y2
        begin, end = max(begin, int(np.floor(f.x1)) + 1), min(end, int(np.ceil(f.x2)) - 1)
    else:
        whole = y >= f.y1 and y + 1 <= f.y2
        begin, end = max(begin, int(np.ceil(f.x1))), min(end, int(np.floor(f.x2)))
    return begin, end if whole else begin


@inner
def fold(real, position, low, high, job):
    """`reference._fold`, and its derivative."""
    slope = real(1)
    if not np.isfinite(position):
        slope, far = real(0), real(np.finfo(real).max)
        position = real(0) if position != position else (far if position > 0 else -far)
    first, last = real(low), real(high)
    if job.beyond == MIRROR:
        edge = real(0) if job.align_corners else real(0.5)
        mirror, span = first - edge, last - first + real(2) * edge
        turn = (position - mirror) % (real(2) * max(span, real(1)))
        position = mirror + span - abs(turn - span)
        slope = slope if turn < span else (-slope if turn > span else real(0))
    elif job.beyond == ZERO:
        first, last = first - real(2), last + real(1)
    if position < first:
        return first, real(0)
    return (last, real(0)) if position > last else (position, slope)


class Taps(NamedTuple):
    """The one or two pixels that are read along one axis, their weights, and how the position between them moves."""

    one: int
    other: int
    weight: float
    other_weight: float
    slope: float


@inner
def taps(real, position, low, high, first, last, job):
    """The `Taps` of a position; ``low, high``: the limits, ``first, last``: what of them lies in the source."""
    position, slope = fold(real, position, low, high, job)
    first, last = int(first), int(last)
    if job.nearest:
        one = int(np.rint(position - real(low))) + low
        other, fraction, slope = ABSENT, real(0), real(0)
    else:
        below = np.floor(position)
        one, fraction = int(below), position - below
        other = one + 1
    weight, other_weight = real(1) - fraction, fraction
    if job.beyond != ZERO:
        one, other = min(max(one, first), last), min(max(other, first), last)
    if one < first or one > last:
        one, weight = ABSENT, real(0)
    if job.nearest or other < first or other > last:
        other, other_weight = ABSENT, real(0)
    return Taps(one, other, weight, other_weight, slope)


@inner
def taps_of(real, f, row, x, job):
    """The `Taps` of column x of a row, across and down."""
    dx = real(x) + (real(0.5) - f.centre_x)
    across = taps(real, f.a * dx + row.x, f.low_x, f.high_x, f.first_x, f.last_x, job)
    return across, taps(real, f.c * dx + row.y, f.low_y, f.high_y, f.first_y, f.last_y, job)


@inner
def texels_of(real, source, first, across, down, width):
    """The four texels of a channel whose origin lies at ``source[first]``: above left and right, then below."""
    above, below = first + down.one * width, first + down.other * width
    no_above, no_below = down.one == ABSENT, down.other == ABSENT
    no_left, no_right = across.one == ABSENT, across.other == ABSENT
    return (
        real(0) if no_above or no_left else real(source[above + across.one]),
        real(0) if no_above or no_right else real(source[above + across.other]),
        real(0) if no_below or no_left else real(source[below + across.one]),
        real(0) if no_below or no_right else real(source[below + across.other]),
    )


@inner
def weighted(real, one, other, weight, other_weight):
    """The sum of two numbers times their weights; a weight of 0 takes no part, as the number may be infinite."""
    if other_weight == 0:
        return weight * one if weight != 0 else real(0)
    return other_weight * other if weight == 0 else weight * one + other_weight * other


@inner
def share(real, x, low, high):
    """How much of pixel x lies between low and high, and its derivatives with respect to these."""
    before_stop, after_start = high - real(x), real(x) + real(1) - low
    by_high, by_low = real(0) <= before_stop <= real(1), real(0) <= after_start <= real(1)
    covered = min(max(before_stop, real(0)), real(1)) + min(max(after_start, real(0)), real(1)) - real(1)
    return covered, (real(-1) if by_low else real(0)), (real(1) if by_high else real(0))


@inner
def alphas(n, at, count, objects, job, shares):
    """Fill ``shares`` with the opacity A of so many pixels of object n, the first of which is flat pixel ``at``."""
    if job.opacity_of == PIXEL:
        copy(shares, X, objects.opacity, at - objects.first, count)
    else:
        fill(shares, X, count, objects.opacity[n] if job.opacity_of == OBJECT else shares.dtype.type(1))


@inner
def alpha(real, n, at, objects, job):
    """The opacity A of flat pixel ``at`` of object n."""
    if job.opacity_of == PIXEL:
        return objects.opacity[at - objects.first]
    return objects.opacity[n] if job.opacity_of == OBJECT else real(1)


@inner
def opacities(f, row, objects, job, shares):
    """Fill ``shares`` with K A of a row: the opacity of its object or pixels times the coverage."""
    n, left, count = row.object, row.left, row.right - row.left
    at = objects.windows[n, START] + row.line * objects.windows[n, WIDTH] + left
    alphas(n, at, count, objects, job, shares)
    multiply_by_coverage(f, row, job, shares)


@inner
def multiply_by_coverage(f, row, job, shares):
    """Multiply a row's ``shares``, opacities or gradients, by its coverage K, in place."""
    real, y, left, right = shares.dtype.type, row.line, row.left, row.right
    if job.covered and not (y >= f.y1 and y + 1 <= f.y2 and left >= f.x1 and right <= f.x2):
        part = share(real, y, f.y1, f.y2)[0]
        for k in range(right - left):
            before_stop, after_start = f.x2 - real(left + k), real(left + k) + real(1) - f.x1
            across = min(max(before_stop, real(0)), real(1)) + min(max(after_start, real(0)), real(1)) - real(1)
            shares[k] *= part * across


@inner
def fades(f, job):
    """Whether what is read fades out beyond its edge as R does: it is R times what is read at the nearest place that
    all four taps have."""
    return job.by_reach and not job.nearest and f.tame and f.first_x < f.last_x and f.first_y < f.last_y


@inner
def multiply_by_reach(real, f, row, job, shares):
    """Multiply a row's ``shares`` by its reach R, the sum of the weights of the taps that exist, in place."""
    if fades(f, job):
        off, zero, one = real(0.5) - f.centre_x, real(0), real(1)
        for k in range(row.right - row.left):
            dx = real(row.left + k) + off
            px, py = f.a * dx + row.x, f.c * dx + row.y
            across = min(px - f.first_x, f.last_x - px, zero) + one
            down = min(py - f.first_y, f.last_y - py, zero) + one
            shares[k] *= max(across, zero) * max(down, zero)
        return
    fill(shares, X, row.t0 - row.left, real(0))
    fill(shares, row.t1 - row.left, row.right - row.left, real(0))
    for end in range(row.t0, row.t1 - (row.x1 - row.x0)):
        x = end if end < row.x0 else end + (row.x1 - row.x0)
        across, down = taps_of(real, f, row, x, job)
        shares[x - row.left] *= (across.weight + across.other_weight) * (down.weight + down.other_weight)


@inner
def is_opaque(f, n, objects, job):
    """Whether object n covers its window as a whole, and nothing of what was there shows."""
    whole = f.x1 <= 0 and f.y1 <= 0 and f.x2 >= objects.windows[n, WIDTH] and f.y2 >= objects.windows[n, HEIGHT]
    return (whole or not job.covered) and not job.by_reach and job.opacity_of == NOBODY


@inner
def positions(real, f, row, x0, x1, job, room):
    """Fill the room with where columns x0 .. x1 of an interior are read: the texel above left, counted from ``f.base``,
    and how far beyond its centre, across and down. Returns whether any weight is 0, if it matters."""
    weightless, one, finite = False, real(1), job.finite
    texels, across, down, ramp = room.texels, room.across, room.down, room.ramp
    begin, off, width = real(x0), real(0.5) - f.centre_x, np.int32(job.width)
    for k in range(x1 - x0):
        dx = (begin + ramp[k]) + off
        px = min(max(f.a * dx + row.x, f.first_x), f.last_x)
        py = min(max(f.c * dx + row.y, f.first_y), f.last_y)
        column, line = min(np.floor(px), f.last_x - one), min(np.floor(py), f.last_y - one)
        across[k], down[k] = px - column, py - line
        texels[k] = np.int32(line) * width + np.int32(column)
        if not finite:
            weightless |= across[k] * (one - across[k]) * (down[k] * (one - down[k])) == 0
    return weightless


@fused
def blend(one, other, weight, other_weight):
    """The weighted sum of two numbers."""
    return weight * one + other_weight * other
