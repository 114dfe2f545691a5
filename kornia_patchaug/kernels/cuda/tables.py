"""The columns of tables by name, and the width of offsets, as Triton takes constants."""

from __future__ import annotations

import triton.language as tl
from torch import Tensor

from kornia_patchaug import plan

# Of plan.Windows, of plan.Reads (those of x, and how much further that of y lies), and of reference.frames.
LEFT, TOP, WIDTH, HEIGHT, START = map(tl.constexpr, (plan.LEFT, plan.TOP, plan.WIDTH, plan.HEIGHT, plan.START))
PICTURE, ORIGIN, LOW, HIGH = map(tl.constexpr, (plan.PICTURE, plan.ORIGIN_X, plan.LOW_X, plan.HIGH_X))
FIRST, LAST = map(tl.constexpr, (plan.FIRST_X, plan.LAST_X))
TO_Y = tl.constexpr(plan.ORIGIN_Y - plan.ORIGIN_X)
A, B, TX, C, D, TY, SRC_X, SRC_Y, X1, Y1, X2, Y2 = map(tl.constexpr, range(12))
# After a frame: the first pixel of the window, counted from the centre of the box, where that is read, the least and
# the most position, and a margin for rounding; how many columns along a row, and how many rows, a step across and down
# is, and what is infinite if no number is.
FROM_X, FROM_Y, CENTRE_X, CENTRE_Y, LEAST_X, LEAST_Y, MOST_X, MOST_Y = map(tl.constexpr, range(12, 20))
MARGIN_X, MARGIN_Y, COLUMNS_X, COLUMNS_Y, ROWS_X, ROWS_Y = map(tl.constexpr, range(20, 26))
ENDLESS_X, ENDLESS_Y, ENDLESS = map(tl.constexpr, range(26, 29))
# How many columns each has; and sums of gradients: those of a frame, and that with respect to the object's opacity.
WINDOW, READ, FRAME, SUMS = map(tl.constexpr, (plan.START + 1, plan.LAST_Y + 1, 29, 13))
BY_OPACITY = tl.constexpr(12)

ZERO, NEAREST_PIXEL, MIRROR = map(tl.constexpr, map(int, plan.Beyond))

BEYOND_32_BITS = 2**31


def offsets_in(flat: int, *pictures: Tensor) -> tl.dtype:
    """The type of offsets within so many flat numbers and within each of pictures ``(B, C, H, W)``: 32 bits where they
    suffice, which are cheaper."""
    farthest = (sum((n - 1) * s for n, s in zip(t.shape[1:], t.stride()[1:], strict=True)) for t in pictures)
    return tl.int32 if max(flat, *farthest) < BEYOND_32_BITS else tl.int64
