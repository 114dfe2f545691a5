"""``reference.frames`` and its gradient on the CPU: few numbers an object, in one call rather than forty of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kornia_patchaug.kernels.cpu.jit import compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Reals = NDArray[np.floating]  # of either width
    Integers = NDArray[np.int64]


@compiled
def half_size(real, low, high, aligned):
    """``theta.half_sizes`` along an axis, and its derivative by the box's size."""
    size = high - low
    if not aligned:
        return size / real(2), real(0.5)
    return max(size - real(1), real(0)) / real(2), real(0.5) if size >= real(1) else real(0)


@compiled
def safe_ratio(real, numerator, denominator):
    """``theta.safe_ratio``, and its derivatives by both."""
    if denominator == real(0):
        return real(0), real(0), real(0)
    value = numerator / denominator
    return value, real(1) / denominator, -value / denominator


@compiled
def frames(
    theta: Reals, src_boxes: Reals, dst_boxes: Reals, reads: Integers, table: Integers, aligned: bool, out: Reals
) -> None:
    real = theta.dtype.type
    for n in range(len(theta)):
        for k in range(4):
            out[n, 8 + k] = dst_boxes[n, k] - real(table[n, 1 + k % 2])
        for k in range(2):  # the axis of a row of the matrix; its other column is the cross one
            low, high, row, cross = out[n, 8 + k], out[n, 10 + k], 3 * k, 3 * k + 1 - k
            half = half_size(real, low, high, aligned)[0]
            other = half_size(real, out[n, 9 - k], out[n, 11 - k], aligned)[0]
            scale = real(1)
            if len(src_boxes):
                low, high = src_boxes[n, k] - real(reads[n, 1 + k]), src_boxes[n, 2 + k] - real(reads[n, 1 + k])
                scale = safe_ratio(real, half_size(real, low, high, aligned)[0], half)[0]
            out[n, row + k] = scale * theta[n, row + k]
            out[n, cross] = scale * (theta[n, cross] * safe_ratio(real, half, other)[0])
            out[n, row + 2] = scale * (theta[n, row + 2] * half)
            out[n, 6 + k] = (low + high) / real(2)


@compiled
def frames_backward(
    grad: Reals,
    theta: Reals,
    src_boxes: Reals,
    dst_boxes: Reals,
    aligned: bool,
    of_theta: Reals,
    of_src: Reals,
    of_dst: Reals,
) -> None:
    real = theta.dtype.type
    for n in range(len(theta)):
        of_dst[n] = grad[n, 8:]
        for k in range(2):
            row, cross = 3 * k, 3 * k + 1 - k
            half, growth = half_size(real, dst_boxes[n, k], dst_boxes[n, 2 + k], aligned)
            other, other_growth = half_size(real, dst_boxes[n, 1 - k], dst_boxes[n, 3 - k], aligned)
            across, by_half, by_other = safe_ratio(real, half, other)
            scale, by_src_half, scale_by_half, src_growth = real(1), real(0), real(0), real(0)
            if len(src_boxes):
                src_half, src_growth = half_size(real, src_boxes[n, k], src_boxes[n, 2 + k], aligned)
                scale, by_src_half, scale_by_half = safe_ratio(real, src_half, half)
            of_theta[n, row + k] = grad[n, row + k] * scale
            of_theta[n, cross] = grad[n, cross] * scale * across
            of_theta[n, row + 2] = grad[n, row + 2] * scale * half

            of_scale = grad[n, row + k] * theta[n, row + k] + grad[n, cross] * theta[n, cross] * across
            of_scale += grad[n, row + 2] * theta[n, row + 2] * half
            of_across = grad[n, cross] * theta[n, cross] * scale
            of_half = grad[n, row + 2] * theta[n, row + 2] * scale + of_across * by_half + of_scale * scale_by_half
            grow(of_dst, n, k, of_half * growth)
            grow(of_dst, n, 1 - k, of_across * by_other * other_growth)
            centre = grad[n, 6 + k] / real(2)
            if len(src_boxes):
                of_src[n, k], of_src[n, 2 + k] = centre, centre
                grow(of_src, n, k, of_scale * by_src_half * src_growth)
            else:
                of_dst[n, k] += centre
                of_dst[n, 2 + k] += centre


@compiled
def grow(of_boxes, n, k, of_size):
    of_boxes[n, k] -= of_size
    of_boxes[n, 2 + k] += of_size
