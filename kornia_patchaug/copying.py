"""Which objects are copied, how each copy is warped, and where it goes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from kornia_patchaug.checks import check_unit, describe
from kornia_patchaug.donors import Donors
from kornia_patchaug.draw import rank_in_image
from kornia_patchaug.frames import centres, corners_of, enclosing
from kornia_patchaug.generators import AffineGenerator
from kornia_patchaug.noise import THETA_NOISE
from kornia_patchaug.places import PLACE_NOISE, PlaceLike, candidates, check_place, settle
from kornia_patchaug.theta import Outline, move_points, outermost

From = Literal["batch", "others", "same"]
FROM = ("batch", "others", "same")


@dataclass(frozen=True)
class Wishes:
    """What copies are asked for; checked when it is made."""

    count: tuple[int, int]
    donors: str  # one of FROM, or a bank
    flip: float
    classes: list[int] | None
    class_weights: dict[int, float] | None
    sizes: tuple[float, float]
    place: PlaceLike
    max_cover: float
    tries: int
    ranges: AffineGenerator

    @classmethod
    def of(cls, **given: Any) -> Wishes:
        """Of the options of a caller, or raise for one that is none."""
        for name in ("flip", "max_cover"):
            check_unit(name, given[name], "a number")
        tries = given["tries"]
        if not isinstance(tries, int) or isinstance(tries, bool) or tries < 1:
            raise ValueError(f"tries: expected an integer of 1 or more, got {tries!r}.")
        check_place(given["place"])
        given["count"], given["sizes"] = _as_range("count", given["count"]), _as_sizes(given["sizes"])
        for name, convert in (("classes", _as_classes), ("class_weights", _as_weights)):
            given[name] = None if given[name] is None else convert(given[name])
        return cls(**given)

    def asks_for_classes(self) -> bool:
        """Whether it takes the classes of donors to say which are copied and how."""
        asked = self.classes is not None or self.class_weights is not None
        return asked or self.ranges.count_of_classes is not None

    def drawn(
        self,
        seed: Tensor,
        gate: Tensor,
        boxes: Tensor,
        obj_to_img: Tensor,
        donors: Donors,
        number: Tensor,
        images: Tensor | None,
        size: tuple[int, int],
        *,
        outline: Outline,
        align_corners: bool,
        same_on_batch: bool,
    ) -> dict[str, Tensor]:
        """What is drawn of the copies in images whose ``gate (B,)`` is open, of those that found a place.

        ``boxes (N, 4)``: the objects that are there; ``number (B,)``: which images of those of the donors these are.
        """
        device, count, most = boxes.device, len(gate), self.count[1]
        noise = Noise(seed, 1 if same_on_batch else count, count, boxes)
        low, high = self.count
        many = (low + noise(1)[:, 0] * (high - low + 1)).floor().clamp(max=high)
        wanted = (torch.arange(most, device=device) < many[:, None]) & gate[:, None]  # (B, k)
        rows, found = self.choose(donors, noise(most), number)
        wanted &= found
        theta_noise, flip_noise = noise(most, THETA_NOISE).flatten(0, 1), noise(most).flatten()
        tries = noise(most, self.tries, PLACE_NOISE)
        if not len(donors.boxes):
            wanted = wanted & False
            donors = Donors(boxes.new_zeros(1, 4), rows.new_zeros(1), classes=rows.new_zeros(1))
        read = donors.boxes.detach().to(boxes)[rows]  # (B, k, 4)
        sides = read[..., 2:] - read[..., :2]
        frames = torch.cat([-sides, sides], dim=-1).flatten(0, 1) / 2
        classes = None if donors.classes is None else donors.classes[rows.flatten()]
        theta = self.ranges(frames, theta_noise, classes, align_corners=align_corners)
        mirrored = torch.cat([-theta[:, :1], theta[:, 1:]], dim=1)
        theta = mirrored.where((flip_noise < self.flip)[:, None, None], theta)
        half = half_extent(frames, theta, outline, align_corners)
        frames, theta, half = (each.unflatten(0, (count, most)) for each in (frames, theta, half))
        # Large ones first: they are painted first, and have the first choice of places.
        order = half.prod(-1).where(wanted, -1).argsort(dim=1, descending=True, stable=True)
        image = torch.arange(count, device=device)[:, None]
        rows, wanted, read, frames, theta, half = (
            each[image, order] for each in (rows, wanted, read, frames, theta, half)
        )
        middle = (read[..., :2] + read[..., 2:]) / 2
        tried = candidates(self.place, tries, half, middle, images, size)
        placed, ok = settle(tried, half, wanted, padded(boxes, obj_to_img, count), size, self.max_cover)
        target, slot = ok.nonzero().unbind(1)
        return {
            "rows": rows[ok],
            "copies": frames[ok] + centres(placed[ok]).repeat(1, 2),
            "theta": theta[ok],
            "target": target,
            "slot": (ok.cumsum(1) - 1)[target, slot],
            "read": read[ok],
            "picture": donors.picture[rows[ok]],
        }

    def choose(self, donors: Donors, noise: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """A donor for each of ``noise (B, k)``, and whether there is one for its image, both ``(B, k)``."""
        boxes = donors.boxes.detach()
        sides = (boxes[:, 2:] - boxes[:, :2]).to(noise)
        size = sides.prod(1).sqrt()
        fits = (sides > 0).all(1) & (size >= self.sizes[0]) & (size <= self.sizes[1])
        if self.classes is not None:
            fits &= torch.isin(cast("Tensor", donors.classes), torch.tensor(self.classes, device=fits.device))
        weight = fits.expand(len(image), -1).to(torch.float64)  # (B, D)
        if donors.image is not None and self.donors != "batch":
            same = donors.image == image[:, None]
            weight = weight * (same if self.donors == "same" else ~same)
        if self.class_weights is not None:
            labels, of_label = cast("Tensor", donors.classes).unique(return_inverse=True)
            wanted = weight.new_tensor([self.class_weights.get(label, 1.0) for label in labels.tolist()])
            number = weight.new_zeros(len(image), len(labels)).index_add(1, of_label, weight)
            weight = weight * (wanted / number.clamp(min=1))[:, of_label]
        total = weight.cumsum(1)
        if not total.shape[1]:
            return torch.zeros_like(noise, dtype=torch.int64), torch.zeros_like(noise, dtype=torch.bool)
        rows = torch.searchsorted(total, noise.double() * total[:, -1:], right=True)
        return rows.clamp(max=total.shape[1] - 1), (total[:, -1:] > 0).expand_as(rows)


class Noise:
    """Numbers in [0, 1) that a seed stands for, for each image of a batch or one draw for all."""

    def __init__(self, seed: Tensor, draws: int, count: int, like: Tensor) -> None:
        self.generator = torch.Generator().manual_seed(int(seed.flatten()[0]))
        self.draws, self.count, self.like = draws, count, like

    def __call__(self, *shape: int) -> Tensor:
        found = torch.rand(self.draws, *shape, generator=self.generator)
        return found.to(self.like).expand(self.count, *shape)


def half_extent(frames: Tensor, theta: Tensor, outline: Outline, align_corners: bool) -> Tensor:
    """Half the width and height ``(K, 2)`` of what boxes ``(K, 4)`` about (0, 0) become."""
    moved = move_points(corners_of(frames), frames, theta, align_corners=align_corners)
    found = enclosing(outermost(moved, outline))
    return (found[:, 2:] - found[:, :2]) / 2


def padded(boxes: Tensor, obj_to_img: Tensor, count: int) -> Tensor:
    """``(B, M, 4)``, the boxes of each image, and empty ones."""
    rank = rank_in_image(obj_to_img)
    most = int(rank.max()) + 1 if len(rank) else 0
    return boxes.new_zeros(count, most, 4).index_put((obj_to_img, rank), boxes)


def _as_range(name: str, value: object) -> tuple[int, int]:
    low, high = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high):
        raise ValueError(f"{name}: expected an integer of 0 or more, or (low, high), got {value!r}.")
    return low, high


def _as_sizes(value: object) -> tuple[float, float]:
    low, high = value if isinstance(value, (tuple, list)) and len(value) == 2 else (None, None)
    if not (isinstance(low, (int, float)) and isinstance(high, (int, float)) and 0 <= low <= high):
        raise ValueError(f"sizes: expected (low, high) in pixels, got {value!r}.")
    return low, high


def _as_weights(value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise TypeError(f"class_weights: expected a dict of a weight for each class, got {describe(value)}.")
    for label, weight in value.items():
        if not _is_integer(label):
            raise TypeError(f"class_weights: expected integers for classes, got {label!r}.")
        if not (isinstance(weight, (int, float)) and math.isfinite(weight) and weight >= 0):
            raise ValueError(f"class_weights: expected weights of at least 0, got {weight} for class {label}.")
    return {int(label): float(weight) for label, weight in value.items()}


def _as_classes(value: object) -> list[int]:
    if isinstance(value, str) or not isinstance(value, Iterable) or not all(map(_is_integer, labels := list(value))):
        raise TypeError(f"classes: expected a list of integers, got {value!r}.")
    return sorted({int(label) for label in labels})


def _is_integer(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)
