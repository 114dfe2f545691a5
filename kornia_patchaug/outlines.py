"""Outlines and tags of boxes, drawn over a picture.

Lengths are pixels of a picture, or units of so many pixels. What is drawn is drawn larger and then reduced, which is
what smooths its edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kornia_patchaug.theta import Outline

BACKGROUND, INK, FAINT, HALO = "#ffffff", "#1b1b1f", "#62626b", "#101014"
# After Okabe and Ito, which colour-blind eyes tell apart: without black, which the halo has, and with a lighter blue,
# which theirs (#0072b2) needs on a night sky.
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#2a7fd0", "#d55e00", "#cc79a7")
DARKER = ("#009e73", "#2a7fd0", "#d55e00")  # on which text is white
LINE_WIDTH, HALO_WIDTH, BOX_WIDTH = 2.5, 1.0, 1.0
TAG_SIZE, TAG_PADDING = 13, 4.0
SMOOTH, BOX_OPACITY = 4, 160  # how many times larger things are drawn; of 255
EDGES = 64  # of a polygon that looks like an ellipse

font = cache(ImageFont.load_default)  # size -> font


def annotate(
    tile: Image.Image,
    boxes: Tensor,
    quads: Tensor,
    spots: Sequence[int] | None = None,
    unit: int = 1,
    outline: Outline = "box",
) -> Image.Image:
    """Draw corners ``(N, 4, 2)`` of boxes and moved objects over a tile, and numbers, in units of so many pixels.

    A box without area is left out. Of moved objects the ``outline`` is drawn: the quadrangle, or the ellipse in it.
    """
    size = tile.width // unit, tile.height // unit
    there = [(n, box) for n, box in enumerate(boxes) if (box.amax(0) > box.amin(0)).all()]
    rings = [(box, f"{colour_of(n)}{BOX_OPACITY:02x}", BOX_WIDTH) for n, box in there]
    for n, moved in enumerate(quads if outline == "box" else ellipses_in(quads)):
        rings += [(moved, HALO, LINE_WIDTH + 2 * HALO_WIDTH), (moved, colour_of(n), LINE_WIDTH)]
    if outline == "ellipse":  # which its corners are off
        quads = quads.mean(1, keepdim=True) * (1 - math.sqrt(0.5)) + quads * math.sqrt(0.5)
    centres = _tag_places(quads, size)[0].tolist()
    spots = choose_spots(quads, size) if spots is None else spots

    def paint(draw: ImageDraw.ImageDraw, smooth: int) -> None:
        for corners, colour, width in rings:
            # A corner on the tile's border is moved in by half a line, which would be cut off otherwise.
            moved = corners.clamp(min=LINE_WIDTH / 2).minimum(torch.tensor(size) - LINE_WIDTH / 2)
            corners = moved.where((moved - corners).abs() <= LINE_WIDTH / 2 + 1e-3, corners)
            points = [tuple(point) for point in (corners * smooth).tolist()]
            points += points[:2]  # one edge more than there are: the joint at the first corner is round too
            draw.line(points, fill=colour, width=round(width * smooth), joint="curve")
        for n, spot in enumerate(spots):
            draw_number(draw, n, centres[n][spot], smooth)

    return draw_over(tile, paint, unit)


def ellipses_in(quads: Tensor) -> Tensor:
    """Points ``(N, K, 2)`` of the ellipses that touch the middles of the sides of parallelograms ``(N, 4, 2)``."""
    centre, t = quads.mean(1, keepdim=True), torch.arange(EDGES)[:, None] * (2 * math.pi / EDGES)
    half_across, half_down = (quads[:, 1:2] - quads[:, :1]) / 2, (quads[:, 3:] - quads[:, :1]) / 2
    return centre + half_across * t.cos() + half_down * t.sin()


def draw_over(tile: Image.Image, paint: Callable[[ImageDraw.ImageDraw, int], None], unit: int = 1) -> Image.Image:
    """A tile with what ``paint(draw, smooth)`` draws over it, where a unit is ``smooth`` long."""
    overlay = Image.new("RGBA", (tile.width * SMOOTH, tile.height * SMOOTH))
    paint(ImageDraw.Draw(overlay), SMOOTH * unit)
    return Image.alpha_composite(tile.convert("RGBA"), overlay.reduce(SMOOTH)).convert("RGB")


def draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    colour: str,
    centre: Sequence[float],
    room: Sequence[float],
    smooth: int,
    text_size: int = TAG_SIZE,
) -> None:
    """Text on a plate that is ``room`` (width, height) units large."""
    (x, y), (reach_x, reach_y) = (v * smooth for v in centre), (v * smooth / 2 for v in room)
    box = (x - reach_x, y - reach_y, x + reach_x, y + reach_y)
    draw.rounded_rectangle(box, 4 * smooth, fill=colour, outline=HALO, width=round(HALO_WIDTH * smooth))
    ink = "#ffffff" if colour in DARKER else HALO
    draw.text((x, y), text, fill=ink, font=font(text_size * smooth), anchor="mm")


def draw_number(draw: ImageDraw.ImageDraw, n: int, centre: Sequence[float], smooth: int) -> None:
    """The tag of object ``n``; they count from 1."""
    draw_tag(draw, str(n + 1), colour_of(n), centre, number_room(n), smooth)


def number_room(n: int) -> tuple[float, float]:
    """The (width, height) of the tag of object ``n``."""
    height = TAG_SIZE + TAG_PADDING
    return max(height, font(TAG_SIZE).getlength(str(n + 1)) + 2 * TAG_PADDING), height


def choose_spots(quads: Tensor, size: tuple[int, int]) -> list[int]:
    """A spot for each tag: the first that keeps clear of the tags before it and is not pushed far."""
    places, pushed = _tag_places(quads, size)
    spots: list[int] = []
    for n in range(len(quads)):
        room = torch.tensor(number_room(n)) + TAG_PADDING  # tags differ little in size
        taken = places[torch.arange(n), torch.tensor(spots, dtype=torch.long)]  # (n, 2)
        overlap = (room - (places[n, :, None] - taken).abs()).clamp(min=0).prod(-1).sum(-1)
        cost = 100 * overlap + (pushed[n] - TAG_SIZE).clamp(min=0) + 0.01 * torch.arange(9)
        spots.append(int(cost.argmin()))
    return spots


def colour_of(n: int) -> str:
    """The colour of object ``n``."""
    return COLOURS[n % len(COLOURS)]


def _tag_places(quads: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Nine spots for each tag's centre, ``(N, 9, 2)``: corners, mid edges, centre; how far the border pushed each."""
    middles = (quads + quads.roll(-1, 1)) / 2
    wanted = torch.cat([quads, middles, quads.mean(1, keepdim=True)], dim=1)
    half = torch.tensor([number_room(n) for n in range(len(quads))]).reshape(-1, 1, 2) / 2 + 1
    places = wanted.maximum(half).minimum(torch.tensor(size) - half)
    return places, (places - wanted).norm(dim=-1)
