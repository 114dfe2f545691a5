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
THIN_LINE, THIN_HALO = 1.5, 0.5  # of many objects
TAG_SIZE, TAG_PADDING = 13, 4.0
SMOOTH, BOX_OPACITY = 4, 160  # how many times larger things are drawn; of 255
EDGES = 64  # of a polygon that looks like an ellipse
MANY = 12  # objects from which on colours and numbers are those of classes
TAGGED = 0.06  # of a picture that tags may hide, if there are many

font = cache(ImageFont.load_default)  # size -> font


def annotate(
    tile: Image.Image,
    boxes: Tensor,
    quads: Tensor,
    spots: Sequence[int | None] | None = None,
    unit: int = 1,
    outline: Outline = "box",
    kinds: Sequence[int] | None = None,
) -> Image.Image:
    """Draw corners ``(N, 4, 2)`` of boxes and moved objects over a tile, and numbers, in units of so many pixels.

    A box without area is left out. Of moved objects the ``outline`` is drawn: the quadrangle, or the ellipse in it.
    Colours and numbers are those of ``kinds``, by default one an object.
    """
    size = tile.width // unit, tile.height // unit
    kinds = range(max(len(boxes), len(quads))) if kinds is None else kinds
    line, halo = (LINE_WIDTH, HALO_WIDTH) if len(kinds) <= MANY else (THIN_LINE, THIN_HALO)
    there = [(n, box) for n, box in zip(kinds, boxes, strict=False) if (box.amax(0) > box.amin(0)).all()]
    rings = [(box, f"{colour_of(n)}{BOX_OPACITY:02x}", BOX_WIDTH) for n, box in there]
    for n, moved in zip(kinds, quads if outline == "box" else ellipses_in(quads), strict=False):
        rings += [(moved, HALO, line + 2 * halo), (moved, colour_of(n), line)]
    if outline == "ellipse":  # which its corners are off
        quads = quads.mean(1, keepdim=True) * (1 - math.sqrt(0.5)) + quads * math.sqrt(0.5)
    centres = _tag_places(quads, size, kinds[: len(quads)])[0].tolist()
    spots = choose_spots(quads, size, kinds[: len(quads)]) if spots is None else spots

    def paint(draw: ImageDraw.ImageDraw, smooth: int) -> None:
        for corners, colour, width in rings:
            # A corner on the tile's border is moved in by half a line, which would be cut off otherwise.
            moved = corners.clamp(min=line / 2).minimum(torch.tensor(size) - line / 2)
            corners = moved.where((moved - corners).abs() <= line / 2 + 1e-3, corners)
            points = [tuple(point) for point in (corners * smooth).tolist()]
            points += points[:2]  # one edge more than there are: the joint at the first corner is round too
            draw.line(points, fill=colour, width=round(width * smooth), joint="curve")
        for kind, places, spot in zip(kinds, centres, spots, strict=False):  # without spots there are no tags
            if spot is not None:
                draw_number(draw, kind, places[spot], smooth)

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


@cache
def number_room(n: int) -> tuple[float, float]:
    """The (width, height) of the tag of object ``n``."""
    height = TAG_SIZE + TAG_PADDING
    return max(height, font(TAG_SIZE).getlength(str(n + 1)) + 2 * TAG_PADDING), height


def kinds_of(labels: Sequence[str], classes: Sequence[str] = ()) -> list[int]:
    """By which number each object is known: its own, or where there are many, or ``classes``, that of its class."""
    if len(labels) <= MANY and not classes:
        return list(range(len(labels)))
    numbers = {label: k for k, label in enumerate(dict.fromkeys([*classes, *labels]))}
    return [numbers[label] for label in labels]


def choose_spots(quads: Tensor, size: tuple[int, int], kinds: Sequence[int]) -> list[int | None]:
    """A spot for each tag: the first that keeps clear of the tags before it and is not pushed far.

    Where tags would hide the picture, only the largest objects have one.
    """
    places, pushed = _tag_places(quads, size, kinds)
    rooms = torch.tensor([number_room(n) for n in kinds]).reshape(-1, 2)
    most = max(MANY, int(TAGGED * size[0] * size[1] / max(float(rooms.prod(1).mean()), 1))) if len(quads) else 0
    sides = quads.amax(1) - quads.amin(1)
    tagged = sides.prod(1).argsort(descending=True, stable=True)[:most].sort()[0].tolist()
    spots: list[int | None] = [None] * len(quads)
    taken = places.new_zeros(0, 2)
    for n in tagged:
        room = rooms[n] + TAG_PADDING  # tags differ little in size
        overlap = (room - (places[n, :, None] - taken).abs()).clamp(min=0).prod(-1).sum(-1)
        cost = 100 * overlap + (pushed[n] - TAG_SIZE).clamp(min=0) + 0.01 * torch.arange(9)
        spots[n] = spot = int(cost.argmin())
        taken = torch.cat([taken, places[n, spot][None]])
    return spots


def colour_of(n: int) -> str:
    """The colour of object ``n``."""
    return COLOURS[n % len(COLOURS)]


def _tag_places(quads: Tensor, size: tuple[int, int], kinds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Nine spots for each tag's centre, ``(N, 9, 2)``: corners, mid edges, centre; how far the border pushed each."""
    middles = (quads + quads.roll(-1, 1)) / 2
    wanted = torch.cat([quads, middles, quads.mean(1, keepdim=True)], dim=1)
    half = torch.tensor([number_room(n) for n in kinds]).reshape(-1, 1, 2) / 2 + 1
    places = wanted.maximum(half).minimum(torch.tensor(size) - half)
    return places, (places - wanted).norm(dim=-1)
