"""Parameters -> theta; theta and its inverse; where points and boxes move.

``theta`` maps output box-frame points to input ones, as ``torch.nn.functional.affine_grid`` takes it. Matrices are
named by frames so that neighbours cancel, as in `frames`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kornia_patchaug.boxes import as_boxes, plain_tensors
from kornia_patchaug.checks import check_option, describe
from kornia_patchaug.dtypes import full_precision, working_dtype
from kornia_patchaug.frames import (
    as_theta,
    carry,
    centred_matrices,
    centres,
    corners_of,
    enclosing,
    half_sizes,
    safe_ratio,
    whole_pixels,
)

OUTLINES = ("box", "ellipse")

Outline = Literal["box", "ellipse"]


@plain_tensors
@full_precision
def theta_from_components(
    angle: Tensor,
    scale: Tensor,
    translate: Tensor,
    shear: Tensor,
    *,
    boxes: Tensor | None = None,
    align_corners: bool = False,
) -> Tensor:
    """Theta of a rotation, scale, shift and shear about the box centre, read as Kornia's ``RandomAffine`` does.

    Content moves by ``T(translate) R(angle) S(scale) Shear(shear)``; theta is its inverse in the box frame.

    Args:
        angle: ``(N,)`` degrees; positive turns the content clockwise as displayed.
        scale: ``(N,)`` or ``(N, 2)`` (x, y); above 1 enlarges.
        translate: ``(N, 2)`` shift right and down as a share of the box's width and height.
        shear: ``(N, 2)`` degrees along x, then y (Kornia's sign: positive x shear moves lower rows left).
        boxes: ``(N, 4)``; given, angles and shears are true in pixels. Without, they are taken in the box frame, which
            is the same for square boxes only.
        align_corners: the box frame that theta will be used in; matters only with ``boxes``.

    Returns:
        theta ``(N, 2, 3)``, differentiable in every argument.

    Raises:
        TypeError, ValueError: not floating tensors of these shapes; boxes that are not boxes.

    Examples:
        >>> one = torch.ones(1)
        >>> kp.theta_from_components(90 * one, one, torch.zeros(1, 2), torch.zeros(1, 2)).round().abs()
        tensor([[[0., 1., 0.],
                 [1., 0., 0.]]])
    """
    count = len(angle) if isinstance(angle, Tensor) and angle.ndim == 1 else -1
    shapes = {"angle": ((count,),), "scale": ((count,), (count, 2)), "translate": ((count, 2),), "shear": ((count, 2),)}
    for (name, allowed), value in zip(shapes.items(), (angle, scale, translate, shear), strict=True):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(f"{name}: expected a floating tensor, got {describe(value)}.")
        if tuple(value.shape) not in allowed:
            expected = "(N,)" if count < 0 else " or ".join(map(str, allowed))
            raise ValueError(f"{name}: expected shape {expected}, got {tuple(value.shape)}.")
    scale = scale if scale.ndim == 2 else scale[:, None].expand(-1, 2)
    dtype = working_dtype(angle, scale, translate, shear, boxes)
    angle, scale, translate, shear = (value.to(dtype) for value in (angle, scale, translate, shear))
    if boxes is None:
        size, half = scale.new_full((1, 2), 2.0), scale.new_ones((1, 2))
    else:
        boxes = as_boxes(boxes, count).to(dtype)
        size, half = boxes[:, 2:] - boxes[:, :2], half_sizes(boxes, align_corners)
    return theta_in_pixels(angle, scale, translate * size, shear, half)


@full_precision
def theta_in_pixels(angle: Tensor, scale: Tensor, shift: Tensor, shear: Tensor, half: Tensor) -> Tensor:
    """`theta_from_components` unchecked: ``scale``, ``shift`` in pixels and half sizes ``half``, each (N, 2)."""
    radians = torch.deg2rad(angle)
    cos, sin = radians.cos(), radians.sin()
    tan_x, tan_y = torch.deg2rad(shear).tan().unbind(-1)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    # The inverses of the four steps, so that no matrix is inverted: unshear @ unscale @ unrotate @ shift back.
    unshear = _matrix2(one + tan_x * tan_y, tan_x, tan_y, one)
    unscale = _matrix2(1 / scale[:, 0], zero, zero, 1 / scale[:, 1])
    unrotate = _matrix2(cos, sin, -sin, cos)
    linear = unshear @ unscale @ unrotate  # input pixel offset from output pixel offset
    src_from_dst = torch.cat([linear, -linear @ shift[..., None]], dim=-1)  # in pixels from the centre
    return centred_matrices(src_from_dst, safe_ratio(torch.ones_like(half), half))


@plain_tensors
@full_precision
def theta_from_lie(params: Tensor) -> Tensor:
    """Theta as the matrix exponential of an affine generator: always invertible, no constraint to keep.

    ``theta_from_lie(0)`` is the identity and ``theta_from_lie(-p)`` is ``invert_theta(theta_from_lie(p))``.

    Args:
        params: ``(N, 6)`` or ``(N, 2, 3)``, the top two rows of the generator in the box frame.

    Returns:
        theta ``(N, 2, 3)``.

    Raises:
        TypeError, ValueError: not a floating tensor of that shape.

    Examples:
        >>> kp.theta_from_lie(torch.zeros(1, 6))
        tensor([[[1., 0., 0.],
                 [0., 1., 0.]]])
    """
    generator = torch.nn.functional.pad(as_theta(params, name="params"), (0, 0, 0, 1))  # (N, 3, 3), last row zero
    exponential: Tensor = torch.linalg.matrix_exp(generator)
    return exponential[:, :2]


@plain_tensors
@full_precision
def invert_theta(theta: Tensor) -> Tensor:
    """The theta that undoes ``theta``: ``compose_theta(theta, invert_theta(theta))`` is the identity.

    Args:
        theta: ``(N, 6)`` or ``(N, 2, 3)``.

    Returns:
        ``(N, 2, 3)``: ``[A^-1 | -A^-1 b]``.

    Raises:
        ValueError: a row is singular (to rounding) or not finite: it moves content nowhere.

    Examples:
        >>> kp.invert_theta(torch.tensor([[2.0, 0, 1, 0, 4, 2]])) + 0
        tensor([[[ 0.5000,  0.0000, -0.5000],
                 [ 0.0000,  0.2500, -0.5000]]])
    """
    theta = as_theta(theta)
    size = theta[..., :2].detach().abs().amax((-1, -2), keepdim=True)  # so that products of huge entries are finite
    linear = theta[..., :2] / size
    (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(-2))
    determinant = a * d - b * c
    # What rounding alone can leave of it. No measure of the entries' size would do: a slim box, turned, has ratios of
    # its sides and their inverses for entries, and is not singular.
    rounding = 4 * torch.finfo(theta.dtype).eps * ((a * d).abs() + (b * c).abs())
    singular = ~(determinant.abs() > rounding)  # NaN counts as singular
    if singular.any():
        row = int(singular.nonzero()[0])
        raise ValueError(
            f"theta: expected an invertible matrix, got the singular {theta[row].tolist()} in row {row}. "
            "theta_from_lie makes invertible ones only."
        )
    inverse = _matrix2(d, -b, -c, a) / determinant[:, None, None] / size
    return torch.cat([inverse, -inverse @ theta[..., 2:]], dim=-1)


@plain_tensors
@full_precision
def compose_theta(first: Tensor, then: Tensor) -> Tensor:
    """The theta of warping by ``first`` and the result by ``then``: ``first @ then`` as 3 x 3 matrices.

    Args:
        first: ``(N, 6)`` or ``(N, 2, 3)``.
        then: ``(N, 6)`` or ``(N, 2, 3)``, in the same box frame.

    Returns:
        ``(N, 2, 3)``.

    Raises:
        TypeError, ValueError: not floating tensors of that shape, or different N.

    Examples:
        >>> shift = torch.tensor([[1.0, 0, 0.5, 0, 1, 0]])
        >>> kp.compose_theta(shift, shift)[0, 0]
        tensor([1., 0., 1.])
    """
    first, then = as_theta(first, name="first"), as_theta(then, name="then")
    if len(first) != len(then):
        raise ValueError(f"then: expected one row a row of first ({len(first)}), got {len(then)}.")
    dtype = working_dtype(first, then)
    first, then = first.to(dtype), then.to(dtype)
    linear = first[..., :2]
    return torch.cat([linear @ then[..., :2], linear @ then[..., 2:] + first[..., 2:]], dim=-1)


@plain_tensors
@full_precision
def move_points(points: Tensor, boxes: Tensor, theta: Tensor, *, align_corners: bool = False) -> Tensor:
    """Where the content at ``points`` goes when each object's patch is warped by its theta.

    Args:
        points: ``(N, 2)`` or ``(N, K, 2)``, (x, y) in image pixels (a pixel's centre is at + 0.5); row n moves with
            object n, whether or not it lies in its box.
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels.
        theta: ``(N, 6)`` or ``(N, 2, 3)``.
        align_corners: the box frame of theta.

    Returns:
        ``(N, 2)`` or ``(N, K, 2)`` as ``points``, floating, in image pixels.

    Raises:
        TypeError, ValueError: wrong types, shapes or values; a singular theta, naming the row.

    Examples:
        >>> half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
        >>> kp.move_points(torch.tensor([[3.0, 2.0]]), torch.tensor([[2, 2, 10, 6]]), half_turn)
        tensor([[9., 6.]])
    """
    boxes = as_boxes(boxes)
    if not isinstance(points, Tensor) or not points.is_floating_point():
        raise TypeError(f"points: expected a floating tensor, got {describe(points)}.")
    if points.ndim not in (2, 3) or points.shape[-1] != 2 or len(points) != len(boxes):
        raise ValueError(f"points: expected (N, 2) or (N, K, 2) with N = {len(boxes)}, got {tuple(points.shape)}.")
    theta = as_theta(theta, len(boxes))
    dtype = working_dtype(points, boxes, theta)
    points, boxes, theta = points.to(dtype), boxes.to(dtype), theta.to(dtype)
    dst_from_src = centred_matrices(invert_theta(theta), half_sizes(boxes, align_corners))
    together = points if points.ndim == 3 else points[:, None]
    return carry(together, dst_from_src, centres(boxes)).reshape(points.shape)


@plain_tensors
@full_precision
def move_boxes(
    boxes: Tensor, theta: Tensor, *, clip: bool = True, align_corners: bool = False, outline: Outline = "box"
) -> Tensor:
    """The enclosing box of each box's moved corners, or of the moved ellipse in it.

    Args:
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels.
        theta: ``(N, 6)`` or ``(N, 2, 3)``.
        clip: limit each to the window that is painted, the whole pixels that the box touches. Content that leaves it
            altogether leaves an empty box on its border.
        align_corners: the box frame of theta.
        outline: what is moved and enclosed: ``"box"``, all that the box may hold, or ``"ellipse"``, the one inscribed
            in it, for objects that are round: a box around the turned corners of theirs is too large.

    Returns:
        ``(N, 4)`` ``x1 y1 x2 y2`` in pixels, floating.

    Raises:
        TypeError, ValueError: as `move_points`; another ``outline``.

    Examples:
        >>> shift_right = torch.tensor([[1.0, 0, -0.5, 0, 1, 0]])  # a quarter of the width
        >>> kp.move_boxes(torch.tensor([[0, 0, 8, 4]]), shift_right)
        tensor([[2., 0., 8., 4.]])
        >>> kp.move_boxes(torch.tensor([[0, 0, 8, 4]]), shift_right, clip=False)
        tensor([[ 2.,  0., 10.,  4.]])
        >>> eighth_turn = torch.tensor([[1.0, 1, 0, -1, 1, 0]])  # and smaller by the square root of 2
        >>> kp.move_boxes(torch.tensor([[0, 0, 8, 8]]), eighth_turn, outline="box")
        tensor([[0., 0., 8., 8.]])
        >>> kp.move_boxes(torch.tensor([[0, 0, 8, 8]]), eighth_turn, outline="ellipse")
        tensor([[1.1716, 1.1716, 6.8284, 6.8284]])
    """
    check_option("outline", outline, OUTLINES)
    boxes = as_boxes(boxes)
    moved = outermost(move_points(corners_of(boxes), boxes, theta, align_corners=align_corners), outline)
    return enclosing(moved, whole_pixels(boxes)) if clip else enclosing(moved)


def outermost(corners: Tensor, outline: Outline) -> Tensor:
    """Points ``(N, K, 2)`` that have the enclosing box of an outline, of the moved ``corners (N, 4, 2)`` of its box.

    The ellipse in a box becomes c + u cos t + v sin t, where u and v are half of the moved sides: along each axis it
    reaches sqrt(u^2 + v^2) from c.
    """
    if outline == "box":
        return corners
    centre = corners.mean(1)
    halves = (corners[:, 1::2] - corners[:, :1]) / 2  # (N, 2, 2): u and v, (x, y)
    reach = torch.linalg.vector_norm(halves, dim=1)  # whose gradient is 0 at 0
    return torch.stack([centre - reach, centre + reach], dim=1)


def _matrix2(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], -2)
