"""What a hole shows: a colour, another picture, or a smooth continuation of what is around it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import kornia_patchaug.kernels as kernels
from kornia_patchaug.frames import identity_theta
from kornia_patchaug.kernels import composite
from kornia_patchaug.plan import IMAGE, LEFT, START, WIDTH, Beyond, Plan, Reads, Sampling, Windows, last_pixels

SMOOTH = Sampling(nearest=False, beyond=Beyond.NEAREST, align_corners=False, by_reach=False)
WITHIN = Sampling(nearest=False, beyond=Beyond.ZERO, align_corners=False, by_reach=False)
CELLS = 32  # across and down, in which a hole and what is around it are looked at
AROUND = 0.25  # of a hole's shorter side is looked at on each side of it, and more along its longer sides
DISTRUST = 8  # the power of what is known of its neighbours by which a cell counts: beside a hole an object may shine
UNKNOWN = 1e-6  # the share of the cells up to which what is around a hole is not known, and the hole is black


def fill_holes(pictures: Tensor, opacity: Tensor, boxes: Tensor, holes: Windows, fill: Tensor | None) -> Tensor:
    """The pictures ``(B, C, H, W)``, painted in place, with holes of opacity ``(P,)`` that show ``fill``.

    ``boxes (N, 4)``: where the holes are. ``fill``: a colour ``(C,)``, pictures ``(B, C, H, W)``, or None, which stands
    for the surroundings.
    """
    nothing, solid = opacity.new_zeros(pictures.shape[1], len(opacity)), torch.zeros_like(opacity)
    pictures = composite(pictures, nothing, opacity, holes, in_place=True)
    if fill is None:
        values = _surroundings(pictures, opacity, boxes, holes)
    elif fill.ndim == 1:
        values = fill.to(opacity.dtype)[:, None]
    else:
        image, row, column = holes.places(pictures.device)
        values = fill[image, :, row, column].mT.to(opacity.dtype)
    return composite(pictures, opacity * values, solid, holes, in_place=True)


def _surroundings(seen: Tensor, opacity: Tensor, boxes: Tensor, holes: Windows) -> Tensor:
    """For each pixel of the holes what is around them, ``(C, P)``; ``seen``: the pictures, with holes of black.

    Each hole is looked at with what is around it in a square of cells, by pulling and pushing (Gortler et al., The
    Lumigraph, 1996): each level of a pyramid has the means of four cells of the finer one, and which share of them is
    known. From the coarsest to the finest, what is not known of a cell is taken from the coarser level, interpolated,
    and then from its neighbours: so the hole meets what is beside it, and a ramp stays nearly a ramp.
    """
    count, image = len(boxes), holes.host[:, IMAGE]
    around = _squares(boxes, seen)
    cells, same = boxes.new_tensor([[0, 0, CELLS, CELLS]]).expand(count, 4), identity_theta(boxes)
    known = composite(torch.ones_like(seen[:, :1]), torch.zeros_like(opacity)[None], opacity, holes, in_place=True)

    first, sides, size = holes.host[:, LEFT:WIDTH], holes.host[:, WIDTH:START], seen.shape[:1:-1]
    reach = (sides.max(1) + 2 * AROUND * sides.min(1))[:, None] / 2 + 3  # of windows, which are whole pixels
    low, high = np.floor(first + sides / 2 - reach), np.ceil(first + sides / 2 + reach)
    read_areas = Windows.of(image, low.clip(0, size), high.clip(0, size))
    reads = Reads.of(image, 0, last_pixels(seen))
    plan = Plan(reads, Windows.regular(count, CELLS, CELLS), WITHIN, box_coverage=False, read_areas=read_areas)
    looked = (kernels.sample(pictures, same, cells, plan, around)[0] for pictures in (seen, known))
    level = torch.cat(list(looked)).view(seen.shape[1] + 1, count, CELLS, CELLS).transpose(0, 1)
    levels = [level * _beside(level[:, -1:]) ** DISTRUST]
    while levels[-1].shape[2] > 1:
        level = avg_pool2d(levels[-1], 2)
        levels.append(level / level[:, -1:].clamp(min=0.25))  # one known cell of four is enough to know the coarser
    coarsest = levels.pop()
    found = coarsest[:, :-1] / coarsest[:, -1:].clamp(min=UNKNOWN)
    for level in reversed(levels):
        given, unknown = level[:, :-1], 1 - level[:, -1:]
        coarse = interpolate(found, scale_factor=2, mode="bilinear", align_corners=False)
        found = torch.addcmul(given, unknown, _beside(torch.addcmul(given, unknown, coarse)))
    plan = Plan(Reads.whole(found), holes, SMOOTH, box_coverage=False)
    return kernels.sample(found, same, around, plan, cells)[0]


def _squares(boxes: Tensor, pictures: Tensor) -> Tensor:
    """The square around what is in the picture of each hole, as cells that are longer one way would smear that way."""
    height, width = pictures.shape[2:]
    low, high = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height])).split(2, dim=1)
    sides, centre = high - low, (low + high) / 2
    reach = sides.amax(1, keepdim=True) / 2 + AROUND * sides.amin(1, keepdim=True)
    return torch.cat([centre - reach, centre + reach], dim=1)


def _beside(cells: Tensor) -> Tensor:
    """The mean of the four neighbours of each cell; beyond the edge a cell is its own neighbour."""
    # Slices and not pad(mode="replicate"), of which the gradient is not deterministic on CUDA.
    left, right = torch.cat([cells[..., :1], cells[..., :-1]], -1), torch.cat([cells[..., 1:], cells[..., -1:]], -1)
    above = torch.cat([cells[..., :1, :], cells[..., :-1, :]], dim=-2)
    below = torch.cat([cells[..., 1:, :], cells[..., -1:, :]], dim=-2)
    return (left + right + above + below) / 4
