"""What a hole shows: a colour, another picture, or a smooth continuation of what is around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import kornia_patchaug.kernels as kernels
from kornia_patchaug.kernels import Canvas
from kornia_patchaug.objects import Objects
from kornia_patchaug.plan import IMAGE, LEFT, WIDTH, Beyond, Plan, Reads, Sampling, Windows, last_pixels

SMOOTH = Sampling(nearest=False, beyond=Beyond.NEAREST, align_corners=False, by_reach=False)
ONE_TO_ONE = SMOOTH._replace(nearest=True)
CELLS = 32  # across and down, in which a hole and what is around it are looked at
SEEN = 0.95  # how much of a pixel stays that counts as what is around a hole
AROUND = 0.25  # of a hole's shorter side is looked at on each side of it, and more along its longer sides
DISTRUST = 3  # the power of what is known beside it by which a cell counts: beside a hole an object may shine
UNKNOWN = 1e-6  # the share of the cells up to which what is around a hole is not known, and the hole is black


def fill_holes(picture: Canvas, known: Tensor, holes: Objects, plan: Plan, shown: Tensor | None, masked: bool) -> None:
    """Paint over holes that show a colour ``(C,)``, pictures ``(B, C, H, W)``, or None, their surroundings.

    ``holes``, ``plan``: where they are, and with which opacity. ``known``: ones ``(B, 1, H, W)`` in bytes, that are so
    again in the end; as there are no other holes in the picture. In the boxes of what is ``masked`` that is known which
    no mask hides; else nothing is, as the object may reach the edges of its box, whatever its matte.
    """
    if shown is None:
        around, cell = _squares(holes.boxes, picture.sheet.size)
        cells = _continued(*_looked_at(picture, known, holes, plan, around, masked))
        inside = (holes.boxes - around[:, :2].repeat(1, 2)) / cell
        _show(picture, cells, inside, Reads.whole(cells), SMOOTH, holes, plan)
    elif shown.ndim == 1:
        # What is read of these pixels is their middle, of which no edge is in sight.
        pixels = shown.to(holes.boxes.dtype)[None, :, None, None].expand(1, -1, 4, 4)
        middle = holes.boxes.new_tensor([[1, 1, 3, 3]]).expand(len(holes.boxes), 4)
        reads = Reads.of(pixels, np.zeros(len(holes.boxes), np.int64), 0, last_pixels(pixels))
        _show(picture, pixels, middle, reads, SMOOTH, holes, plan)
    else:
        first = plan.windows.host[:, LEFT:WIDTH]
        reads = Reads.of(shown, plan.windows.host[:, IMAGE], first, last_pixels(shown) - np.tile(first, 2))
        _show(picture, shown.to(holes.boxes.dtype), None, reads, ONE_TO_ONE, holes, plan)


def _show(
    canvas: Canvas,
    source: Tensor,
    source_boxes: Tensor | None,
    reads: Reads,
    sampling: Sampling,
    holes: Objects,
    plan: Plan,
) -> None:
    """Paint what lies in ``source_boxes`` of a source, or in the same places of it, over holes."""
    plan = replace(plan, reads=reads, sampling=sampling)
    given = holes.theta, holes.boxes, plan, holes.alpha, source_boxes, holes.alpha_boxes
    kernels.paint(source, canvas, *given)


def _looked_at(
    picture: Canvas, known: Tensor, holes: Objects, plan: Plan, around: Tensor, masked: bool
) -> tuple[Tensor, Tensor]:
    """The pixel in the middle of each cell of each hole's square, ``(N, C, h, w)``, or 0 where it is not known, and
    whether it is, ``(N, 1, h, w)``."""
    windows, shape = plan.windows, (len(around), CELLS, CELLS)
    reads = Reads.of(known, windows.host[:, IMAGE], 0, last_pixels(known))
    look = Plan(reads, Windows.regular(*shape), ONE_TO_ONE, box_coverage=False)
    read_by = holes.theta, around.new_tensor([[0, 0, CELLS, CELLS]]).expand(len(around), 4), look, around
    with torch.no_grad():
        areas = windows.slices()
        for area in areas:
            known[area] = 0
        if masked and holes.alpha is not None:
            hidden = kernels.opacity_of_pixels(holes.alpha, holes.theta, holes.boxes, plan, holes.alpha_boxes)
            for area, seen in zip(areas, (hidden < 1 - SEEN).split(windows.areas.tolist()), strict=True):
                known[area] = seen.view_as(known[area])
        there = kernels.sample(known, *read_by)[0].bool()
        for area in areas:
            known[area] = 1
    values = kernels.sample(picture, *read_by)[0].where(there, 0)
    shown, seen = (each.view(len(each), *shape).transpose(0, 1) for each in (values, there.to(values.dtype)))
    return shown, seen


def _continued(cells: Tensor, known: Tensor) -> Tensor:
    """Cells ``(N, C, h, w)`` of which what is known, 1 in ``(N, 1, h, w)``, goes on smoothly into what is not.

    By pulling and pushing (Gortler et al., The Lumigraph, 1996): each level of a pyramid has the means of four cells of
    the finer one, and which share of them is known. From the coarsest to the finest, what is not known of a cell is
    taken from the coarser level, interpolated, and then from its neighbours: so the hole meets what is beside it, and a
    ramp stays nearly a ramp.
    """
    levels = [torch.cat([cells, known], dim=1) * _beside(known) ** DISTRUST]
    while levels[-1].shape[2] > 1:
        level = avg_pool2d(levels[-1], 2)
        levels.append(level / level[:, -1:].clamp(min=0.25))  # one known cell of four is enough to know the coarser
    coarsest = levels.pop()
    found = coarsest[:, :-1] / coarsest[:, -1:].clamp(min=UNKNOWN)
    for level in reversed(levels):
        given, unknown = level[:, :-1], 1 - level[:, -1:]
        coarse = interpolate(found, scale_factor=2, mode="bilinear", align_corners=False)
        found = torch.addcmul(given, unknown, _beside(torch.addcmul(given, unknown, coarse)))
    return found


@torch.no_grad()
def _squares(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The square around what is in the picture of each hole, ``(N, 4)``, and the side of its cells, ``(N, 1)``.

    Squares, as cells that are longer one way would smear that way. The middle of a cell is that of a pixel, or a
    quarter of a pixel beside it.
    """
    height, width = size
    low, high = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height])).split(2, dim=1)
    sides = high - low
    reach = sides.amax(1, keepdim=True) / 2 + AROUND * sides.amin(1, keepdim=True)
    cell = ((4 * reach / CELLS).ceil() / 2).clamp(min=1)
    beside = (cell % 2 == 0) / 2  # by which the corner of the square, and so that of a cell, is no corner of a pixel
    first = ((low + high - CELLS * cell) / 2 - beside).round() + beside
    return torch.cat([first, first + CELLS * cell], dim=1), cell


def _beside(cells: Tensor) -> Tensor:
    """The mean of each cell and those beside it."""
    return avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
