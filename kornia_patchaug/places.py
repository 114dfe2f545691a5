"""Where copies go: candidates for all of them at once, of which each takes the first where it covers little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from kornia_patchaug.checks import describe

PLACE_NOISE = 3  # numbers a candidate: the place in the image, or what a function is given; the pixel of a density

SLACK = 1e-4  # pixels, of what rounding makes of a box that just fits

PlaceLike = Literal["uniform"] | Tensor | Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def check_place(place: object) -> None:
    """Raise unless ``place`` is ``"uniform"``, a density ``(H, W)``, or a function."""
    if callable(place) and not isinstance(place, Tensor):
        return
    if isinstance(place, Tensor):
        if place.ndim != 2 or not place.is_floating_point():
            raise ValueError(f"place: expected a density (H, W) of a floating dtype, got {describe(place)}.")
        if not (place.isfinite().all() and (place >= 0).all() and place.sum() > 0):
            raise ValueError("place: expected a density of at least 0 that is finite and not 0 everywhere.")
    elif not isinstance(place, str) or place != "uniform":
        raise ValueError(f"place: expected 'uniform', a density (H, W) or a function, got {place!r}.")


def candidates(
    place: PlaceLike, noise: Tensor, half: Tensor, donor: Tensor, images: Tensor | None, size: tuple[int, int]
) -> Tensor:
    """Centres ``(B, k, T, 2)`` in pixels to try in turn, of ``noise (B, k, T, 3)`` in [0, 1).

    ``half (B, k, 2)``: half the width and height of what is placed. Uniform are those where it lies in the image. But
    for those of a function they are whole pixels from the centres ``donor (B, k, 2)``: what is neither turned nor
    scaled is copied and not interpolated.
    """
    height, width = size
    donor = donor[:, :, None]
    if isinstance(place, Tensor):
        if place.shape != size:
            raise ValueError(f"place: expected a density of the images' size {size}, got {tuple(place.shape)}.")
        density = place.to(noise.device, torch.float64).flatten()
        total = density.cumsum(0)
        pixel = torch.searchsorted(total, noise[..., 2].double() * total[-1], right=True).clamp(max=len(total) - 1)
        return torch.stack([pixel % width, pixel // width], dim=-1) + (donor - donor.floor())
    if callable(place):
        found = place(noise[..., :2], 2 * half, torch.tensor(size, device=noise.device), images)
        if not isinstance(found, Tensor) or found.shape != (*noise.shape[:3], 2) or not found.is_floating_point():
            raise ValueError(
                f"place: expected the function to return floating centres of shape {(*noise.shape[:3], 2)}, got "
                f"{describe(found)}."
            )
        return found.to(noise)
    half = half[:, :, None]
    first = (half - donor - SLACK).ceil()
    count = (half.new_tensor((width, height)) - half - donor + SLACK).floor() - first + 1
    # Where there is no such place but it fits, as between two pixels, the middle.
    return torch.where(
        count > 0, donor + first + (noise[..., :2] * count).floor(), half.new_tensor((width, height)) / 2
    )


def settle(
    centres: Tensor, half: Tensor, wanted: Tensor, there: Tensor, size: tuple[int, int], max_cover: float
) -> tuple[Tensor, Tensor]:
    """Boxes ``(B, k, 4)`` of the copies that found a place, and which did, ``(B, k)`` bool.

    Each takes the first of its centres ``(B, k, T, 2)`` where it lies in the image, and where no box, of ``there
    (B, M, 4)`` or of copies below it, is covered by more than ``max_cover`` of its area by all copies above it. Copies
    are painted in the order of their column. In each round all that still want a place propose one; a proposal counts
    those of lower columns as if they were accepted, so that what is accepted is never too much.
    """
    low, high = half.new_zeros(2), half.new_tensor((size[1], size[0]))
    boxes, placed = torch.cat([half, half], dim=-1) * 0, torch.zeros_like(wanted)
    above = torch.ones(half.shape[1], half.shape[1], dtype=torch.bool, device=half.device).triu(1)  # [i, j]: j on i
    for k in range(centres.shape[2]):
        proposed = torch.cat([centres[:, :, k] - half, centres[:, :, k] + half], dim=-1)
        inside = ((proposed[..., :2] >= low - SLACK) & (proposed[..., 2:] <= high + SLACK)).all(-1)
        tries = wanted & ~placed & inside
        boxes = proposed.where(tries[..., None], boxes)
        maybe = placed | tries
        on_there = shares(there, boxes) * maybe[:, None]  # (B, M, k)
        on_copies = shares(boxes, boxes) * (above & maybe[:, None] & maybe[..., None])  # (B, k, k)
        ok = torch.ones_like(tries)
        covers = (on_there, on_copies) if max_cover < 1 else ()  # sums of shares may be above 1, shares are not
        for share in covers:
            settled = share * placed[:, None]
            new = share * tries[:, None]
            # Of each covered box, by all that have a place and by proposals up to this one.
            total = settled.sum(-1, keepdim=True) + new.cumsum(-1)
            ok &= ((total <= max_cover) | (share == 0)).all(1)
            ok &= (on_copies * placed[:, None]).sum(-1) <= max_cover  # itself, by those above it
        placed |= tries & ok
        if not (wanted & ~placed).any():
            break
    return boxes, placed


def shares(covered: Tensor, by: Tensor) -> Tensor:
    """``(B, M, k)``: the share of the area of each box ``(B, M, 4)`` that lies in each of ``by (B, k, 4)``."""
    a, b = covered[:, :, None], by[:, None]
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    area = (a[..., 2:] - a[..., :2]).prod(-1)
    return sides.prod(-1) / area.where(area > 0, 1)
