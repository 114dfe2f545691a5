"""Ranges and noise -> a random theta per object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from kornia_patchaug.checks import check_index
from kornia_patchaug.dtypes import working_dtype
from kornia_patchaug.frames import half_sizes
from kornia_patchaug.objects import checked_index
from kornia_patchaug.theta import theta_in_pixels

RangeLike = float | Sequence[float] | Sequence[Sequence[float]] | Tensor

# The columns of noise (N, 7) that each range turns into values.
NOISE = {"degrees": slice(0, 1), "translate": slice(1, 3), "scale": slice(3, 5), "shear": slice(5, 7)}
# Smaller numbers stand for scales between this and 0, so that a number that learns may take any value.
LEAST_SCALE = 0.001


class AffineGenerator(nn.Module):
    """Turns noise into theta, by ranges that mean what they mean in ``kornia.augmentation.RandomAffine``.

    Each of ``degrees``, ``translate``, ``scale`` and ``shear`` keeps the numbers that were passed, one row or a row per
    class: in a parameter if they learn, else in a buffer that is not part of the state dict, or as None. Both ends are
    computed from these numbers at every call, and make a range whatever the numbers are: a draw lies between the two
    ends in either order, and a scale is above 0. Numbers are checked in the constructor, except those of an
    ``nn.Parameter``, which may have learned before.
    """

    degrees: Tensor
    translate: Tensor | None
    scale: Tensor | None
    shear: Tensor | None

    def __init__(
        self,
        degrees: RangeLike,
        translate: RangeLike | None = None,
        scale: RangeLike | None = None,
        shear: RangeLike | None = None,
        *,
        learnable: bool = False,
        clip: bool = True,
    ) -> None:
        super().__init__()
        self.count_of_classes: int | None = None  # None if no range has a row per class
        given = {"degrees": degrees, "translate": translate, "scale": scale, "shear": shear}
        for name, value in given.items():
            if value is None and name != "degrees":
                self.register_buffer(name, None)
                continue
            numbers = _numbers(name, value)
            if numbers.ndim == 2:
                if self.count_of_classes not in (None, len(numbers)):
                    raise ValueError(f"{name}: expected {self.count_of_classes} rows, one a class, got {len(numbers)}.")
                self.count_of_classes = len(numbers)
            if isinstance(numbers, nn.Parameter):
                self.register_parameter(name, numbers)
                continue
            _check_range(name, numbers, clip)
            if learnable or _has_gradient(value):
                self.register_parameter(name, nn.Parameter(numbers))
            else:
                # Not in the state dict: loading a checkpoint would draw from the checkpoint's ranges.
                self.register_buffer(name, numbers, persistent=False)

    def forward(
        self, boxes: Tensor, noise: Tensor, classes: Tensor | None = None, *, align_corners: bool = False
    ) -> Tensor:
        """Theta ``(N, 2, 3)`` of ``boxes (N, 4)`` and ``noise`` in [0, 1), ``(N, 7)`` or one row ``(1, 7)`` for all.

        ``classes (N,)`` are the rows of ranges that have one per class.
        """
        count = len(boxes)
        if self.count_of_classes is not None:
            classes = self._checked(classes, count, self.count_of_classes).to(boxes.device)
        dtype = working_dtype(boxes, *(getattr(self, name) for name in NOISE))
        boxes, noise = boxes.to(dtype), noise.to(boxes.device, dtype)
        one, zero = boxes.new_ones(count, 2), boxes.new_zeros(count, 2)
        drawn = {name: self._draw(name, noise[:, columns], classes, count) for name, columns in NOISE.items()}
        translate, scale, shear = (drawn[name] for name in ("translate", "scale", "shear"))
        if shear is not None and shear.shape[1] == 1:  # one range shears along x only, as in Kornia
            shear = torch.cat([shear, zero[:, :1]], dim=1)
        return theta_in_pixels(
            cast("Tensor", drawn["degrees"])[:, 0],  # the one range that there always is
            one if scale is None else scale.expand(count, 2),
            zero if translate is None else translate * (boxes[:, 2:] - boxes[:, :2]),
            zero if shear is None else shear,
            half_sizes(boxes, align_corners),
        )

    def bounds(self) -> dict[str, tuple[Tensor, Tensor]]:
        """``{name: (low, high)}``: the ranges of the next draw, each end ``(D,)`` or ``(K, D)``, differentiable."""
        found = {}
        for name in NOISE:
            numbers = getattr(self, name)
            if numbers is not None:
                one, other = (end if numbers.ndim == 2 else end[0] for end in self._ends(name))
                # Not minimum and maximum, whose gradient of a width is 0 where both ends are the same.
                ordered = one <= other
                found[name] = one.where(ordered, other) + 0, other.where(ordered, one) + 0  # 0 for -0
        return found

    def _draw(self, name: str, noise: Tensor, classes: Tensor | None, count: int) -> Tensor | None:
        numbers = getattr(self, name)
        if numbers is None:
            return None
        one, other = (end.to(noise) for end in self._ends(name))  # (1, D), or (K, D)
        if numbers.ndim == 2:
            one, other = one[classes], other[classes]
        noise = noise[:, : one.shape[1]].expand(count, -1)
        return torch.lerp(one, other, noise)  # never beyond either end, where one + (other - one) * noise could be

    def _ends(self, name: str) -> tuple[Tensor, Tensor]:
        """Both ends of a range, each ``(1, D)`` or ``(K, D)``, in either order."""
        numbers = getattr(self, name)
        rows = numbers if numbers.ndim == 2 else numbers.reshape(1, -1)
        rows = rows.to(working_dtype(rows))
        if name == "scale":
            # m^2 / (2m - x) continues x below m with the same slope and stays above 0. Above m it is not used, and its
            # pole at 2m is kept out, which would make the gradient there NaN.
            m = LEAST_SCALE
            rows = torch.where(rows > m, rows, m**2 / (2 * m - rows.where(rows <= m, m)))
        if name == "translate" or rows.shape[1] == 1:
            return -rows, rows
        return rows[:, 0::2], rows[:, 1::2]

    def _checked(self, classes: Tensor | None, count: int, count_of_classes: int) -> Tensor:
        """``classes`` as int64 ``(N,)``, or raise."""
        if classes is None:
            rows = " and ".join(
                name for name in NOISE if getattr(self, name) is not None and getattr(self, name).ndim == 2
            )
            raise ValueError(
                f"classes: {rows} came with {count_of_classes} rows, one a class, so the class of each object is "
                "needed. Pass classes=, bind(classes=...), or give a class data key to PatchAugmentationSequential."
            )
        check_index("classes", classes, count)
        return checked_index(classes, count_of_classes, "classes")

    def __repr__(self) -> str:
        found = self.bounds()
        return ", ".join(f"{name}={_shown(*found[name]) if name in found else None}" for name in NOISE)


def _numbers(name: str, value: object) -> Tensor:
    """The numbers of a range, ``(D,)`` or ``(K, D)``: the caller's own parameter, or a copy of anything else."""
    counts = {"degrees": (1, 2), "translate": (2,), "scale": (2, 4), "shear": (1, 2, 4)}[name]
    if not isinstance(value, Tensor) and _has_gradient(value):
        raise TypeError(f"{name}: several tensors that learn are not one. Pass an nn.Parameter of all the numbers.")
    if isinstance(value, nn.Parameter) and value.is_floating_point():
        numbers: Tensor = value
    else:
        try:
            numbers = torch.as_tensor(value).detach().to(torch.get_default_dtype(), copy=True)
            numbers = torch.atleast_1d(numbers)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name}: expected a number or a sequence of numbers, got {value!r}.") from None
    if numbers.ndim > 2 or (numbers.shape[-1] if numbers.ndim else 1) not in counts or not numbers.numel():
        expected = " or ".join(map(str, counts))
        got = numbers.numel() if numbers.ndim < 2 else f"shape {tuple(numbers.shape)}"
        raise ValueError(f"{name}: expected {expected} numbers, or a row of them per class, got {got}.")
    return numbers


def _has_gradient(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, (list, tuple)) and any(map(_has_gradient, value))


def _check_range(name: str, numbers: Tensor, clip: bool) -> None:
    """Raise unless the numbers are a range; with ``clip``, of shifts by which an object does not leave its box."""
    rows = numbers.reshape(-1, numbers.shape[-1])
    got = f"got {numbers.tolist()}."
    if not rows.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, {got}")
    if name == "translate":
        if not (rows >= 0).all():
            raise ValueError(f"{name}: expected shares of the box of at least 0, {got}")
        if clip and not (rows <= 1).all():
            raise ValueError(f"{name}: expected shares of the box in [0, 1], {got} Further go objects with clip=False.")
        return
    if rows.shape[1] == 1:
        if not (rows >= 0).all():
            raise ValueError(f"{name}: expected one number of at least 0, or (low, high), {got}")
    elif not (rows[:, 0::2] <= rows[:, 1::2]).all():
        raise ValueError(f"{name}: expected low <= high, {got}")
    if name == "scale" and not (rows >= LEAST_SCALE).all():
        raise ValueError(f"{name}: expected factors of {LEAST_SCALE} and above, {got}")
    if name != "scale" and not (rows.abs() <= 360).all():
        raise ValueError(f"{name}: expected degrees in [-360, 360], {got}")


def _shown(low: Tensor, high: Tensor) -> str:
    rows = torch.stack([low, high], dim=-1).reshape(-1, low.shape[-1], 2).tolist()  # (1 or K, D, 2)
    texts = [", ".join(f"[{one:.4g}, {other:.4g}]" for one, other in row) for row in rows]
    return texts[0] if low.ndim == 1 else f"({'; '.join(texts)})"
