"""Ranges and noise -> a random theta per object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kornia_patchaug.draws import NOISE_OF_THETA
from kornia_patchaug.theta import half_sizes, theta_in_pixels

RangeLike = float | Sequence[float] | Tensor


class UniformRange(nn.Module):
    """A uniform draw from ``[low, high]`` per column.

    They are ``centre - half_width`` and ``centre + half_width``, or if ``positive`` the exponentials of these, so that
    whatever the two numbers are, there is a range, and it is above 0. A half width below 0 is as good as one above: it
    draws from the same range. The draw is made from the live values.
    """

    def __init__(self, low: Tensor, high: Tensor, *, positive: bool = False, learnable: bool = False) -> None:
        super().__init__()
        self.positive = positive
        low, high = (low.log(), high.log()) if positive else (low, high)
        centre, half_width = (low + high) / 2, (high - low) / 2
        if learnable:
            self.centre, self.half_width = nn.Parameter(centre), nn.Parameter(half_width)
        else:
            self.register_buffer("centre", centre)
            self.register_buffer("half_width", half_width)

    def forward(self, noise: Tensor) -> Tensor:
        """Values ``(N, D)`` of ``noise (N, D)`` in [-1, 1)."""
        one, other = (end.to(noise.dtype) for end in self._ends())
        return torch.lerp(one, other, (noise + 1) / 2)  # never beyond either end, as rounding could take centre +- half

    def bounds(self) -> tuple[Tensor, Tensor]:
        """``low (D,)`` and ``high (D,)`` as they are now."""
        one, other = self._ends()
        return torch.minimum(one, other), torch.maximum(one, other)

    def _ends(self) -> tuple[Tensor, Tensor]:
        ends = self.centre - self.half_width, self.centre + self.half_width
        if not self.positive:
            return ends
        # e^40 is finite in float32 and bfloat16, and so are its products with pixels.
        return tuple(end.clamp(-40, 40).exp() for end in ends)

    def extra_repr(self) -> str:
        return ", ".join(f"[{lo:.4g}, {hi:.4g}]" for lo, hi in zip(*(b.tolist() for b in self.bounds()), strict=True))


class AffineGenerator(nn.Module):
    """Makes theta of noise, by ranges that mean what they mean in ``kornia.augmentation.RandomAffine``."""

    def __init__(
        self,
        degrees: RangeLike,
        translate: RangeLike | None = None,
        scale: RangeLike | None = None,
        shear: RangeLike | None = None,
        *,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        low, high = _symmetric("degrees", degrees, (2,))
        self.degrees = UniformRange(low, high, learnable=learnable)
        self.translate = self.scale = self.shear = None
        if translate is not None:
            reach = _numbers("translate", translate, (2,))
            if not ((reach >= 0) & (reach <= 1)).all():
                raise ValueError(f"translate: expected shares of the box in [0, 1], got {reach.tolist()}.")
            self.translate = UniformRange(-reach, reach, learnable=learnable)
        if scale is not None:
            low, high = _pairs("scale", _numbers("scale", scale, (2, 4)))
            if not (low > 0).all():
                raise ValueError(f"scale: expected factors above 0, got {low.tolist()} as the lowest.")
            self.scale = UniformRange(low, high, positive=True, learnable=learnable)
        if shear is not None:
            low, high = _symmetric("shear", shear, (2, 4))
            self.shear = UniformRange(low, high, learnable=learnable)

    def forward(self, boxes: Tensor, noise: Tensor, *, align_corners: bool = False) -> Tensor:
        """Theta ``(N, 2, 3)`` for ``boxes (N, 4)``; ``noise`` in [0, 1) is ``(N, 7)``, or ``(1, 7)`` for all."""
        centre = self.degrees.centre
        boxes = boxes.to(torch.promote_types(boxes.dtype, torch.promote_types(centre.dtype, torch.float32)))
        count = len(boxes)
        noise = (noise * 2 - 1).to(boxes.device, boxes.dtype).expand(count, NOISE_OF_THETA)
        ones, zeros = torch.ones_like(noise[:, :2]), torch.zeros_like(noise[:, :2])
        angle = self.degrees(noise[:, :1])[:, 0]
        translate = zeros if self.translate is None else self.translate(noise[:, 1:3])
        scale = ones if self.scale is None else self.scale(noise[:, 3 : 3 + len(self.scale.centre)]).expand(count, 2)
        shear = zeros if self.shear is None else self.shear(noise[:, 5 : 5 + len(self.shear.centre)])
        if shear.shape[1] == 1:  # one range shears along x only, as in Kornia
            shear = torch.cat([shear, zeros[:, :1]], dim=1)
        size = boxes[:, 2:] - boxes[:, :2]
        return theta_in_pixels(angle, scale, translate * size, shear, half_sizes(boxes, align_corners))

    def __repr__(self) -> str:
        parts = ((name, getattr(self, name)) for name in ("degrees", "translate", "scale", "shear"))
        return ", ".join(f"{name}={None if part is None else part.extra_repr()}" for name, part in parts)


def _numbers(name: str, value: RangeLike, counts: tuple[int, ...]) -> Tensor:
    try:
        numbers = torch.as_tensor(value).detach().flatten().to(torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}: expected a number or a sequence of numbers, got {value!r}.") from None
    if len(numbers) not in counts:
        expected = " or ".join(map(str, counts))
        raise ValueError(f"{name}: expected {expected} numbers, got {len(numbers)}.")
    if not numbers.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got {numbers.tolist()}.")
    return numbers


def _pairs(name: str, numbers: Tensor) -> tuple[Tensor, Tensor]:
    low, high = numbers.reshape(-1, 2).unbind(1)
    if not (low <= high).all():
        raise ValueError(f"{name}: expected low <= high, got {numbers.tolist()}.")
    return low, high


def _symmetric(name: str, value: RangeLike, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A range of angles in degrees: one number d means (-d, d)."""
    numbers = _numbers(name, value, (1, *counts))
    if len(numbers) == 1:
        if numbers < 0:
            raise ValueError(f"{name}: expected one number of at least 0, or (low, high), got {numbers.item()}.")
        numbers = torch.cat([-numbers, numbers])
    low, high = _pairs(name, numbers)
    if not ((low >= -360) & (high <= 360)).all():
        raise ValueError(f"{name}: expected degrees in [-360, 360], got {numbers.tolist()}.")
    return low, high
