"""What strips show besides outlines: points, texts, the grid of pixels, and what the numbers of a box measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw
from torch import Tensor

from kornia_patchaug.outlines import HALO, HALO_WIDTH, LINE_WIDTH, colour_of, draw_over, draw_tag, font

RADIUS, HEAD, LABEL_SIZE, PADDING = 4.5, 6.0, 14, (3, 2)  # units; of a label, at its sides and above and below
BESIDE = 1.5  # image pixels from a box to the arrows that measure its size
GRID = (16, 16, 20, 70)  # faint
INKS = ("#ffffff", "#56b4e9")  # of the first two numbers of a box, and of the last two
CORNERS = ("x1", "y1", "x2", "y2")
NAMES = {"xyxy": CORNERS, "pascal_voc": CORNERS, "xywh": ("x", "y", "w", "h"), "cxcywh": ("cx", "cy", "w", "h")}


class Dimension(NamedTuple):
    """An arrow that measures one of a box's numbers, in image pixels."""

    text: str
    axis: int  # 0: along x, 1: along y
    start: float
    stop: float
    across: float  # where it lies on the other axis
    label: float  # where its text lies along it
    colour: str


def dimensions(row: Tensor, mode: str, size: tuple[int, int]) -> list[Dimension]:
    """What the four numbers ``row (4,)`` measure in an image of ``size`` (h, w): each arrow is as long as it says.

    Positions are measured from the image's borders, and the arrows of x and y end where they meet: in a corner, or in
    the centre. Sizes are measured beside the box.
    """
    scales = (size[1], size[0]) * 2 if mode.endswith("n") else (1, 1, 1, 1)
    lengths = [number * scale for number, scale in zip(row.tolist(), scales, strict=True)]
    names = NAMES[mode.removesuffix("n").removesuffix("_plus")]
    texts = [f"{name}={number:.3g}" for name, number in zip(names, row.tolist(), strict=True)]
    place, extent = lengths[:2], lengths[2:]
    low = [p - e / 2 for p, e in zip(place, extent, strict=True)] if names[0] == "cx" else place
    firsts, seconds = [], []
    for axis in (0, 1):
        other, middle = 1 - axis, low[axis] / 2  # texts of positions lie outside of the box
        firsts.append(Dimension(texts[axis], axis, 0, place[axis], place[other], middle, INKS[0]))
        if names[2] == "x2":
            second = Dimension(texts[2 + axis], axis, 0, extent[axis], extent[other], middle, INKS[1])
        else:
            high, beside = low[axis] + extent[axis], low[other] + extent[other] + BESIDE
            second = Dimension(texts[2 + axis], axis, low[axis], high, beside, (low[axis] + high) / 2, INKS[1])
        seconds.append(second)
    return firsts + seconds


def draw_dimensions(tile: Image.Image, found: Sequence[Dimension], zoom: Sequence[float], unit: int) -> Image.Image:
    """Arrows over a tile, ``zoom`` (x, y) units to an image pixel."""

    def paint(draw: ImageDraw.ImageDraw, smooth: int) -> None:
        scales = [scale * smooth for scale in zoom]
        for one in found:
            along, across = scales[one.axis], scales[1 - one.axis]
            _arrow(draw, one.axis, one.start * along, one.stop * along, one.across * across, one.colour, smooth)
        for one in found:
            x, y = (one.label, one.across)[:: 1 - 2 * one.axis]
            _label(draw, one.text, one.colour, (x * zoom[0], y * zoom[1]), smooth)

    return draw_over(tile, paint, unit)


def draw_texts(tile: Image.Image, texts: Sequence[str], quads: Tensor, unit: int) -> Image.Image:
    """A text in the middle of each outline ``(N, 4, 2)`` in units, in its colour; of one at the border, within it."""

    def paint(draw: ImageDraw.ImageDraw, smooth: int) -> None:
        for k, (text, middle) in enumerate(zip(texts, quads.mean(1), strict=True)):
            half = middle.new_tensor(_room(text, smooth)) / 2 + 1
            place = middle.maximum(half).minimum(middle.new_tensor(tile.size) / unit - half)
            _label(draw, text, colour_of(k), place.tolist(), smooth)

    return draw_over(tile, paint, unit)


def draw_points(tile: Image.Image, points: Tensor, unit: int) -> Image.Image:
    """Dots at ``points (K, 2)`` in units, each in its own colour."""

    def paint(draw: ImageDraw.ImageDraw, smooth: int) -> None:
        for k, (x, y) in enumerate((points * smooth).tolist()):
            for radius, ink in ((RADIUS + HALO_WIDTH, HALO), (RADIUS, colour_of(k))):
                reach = radius * smooth
                draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=ink)

    return draw_over(tile, paint, unit)


def draw_grid(tile: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Faint lines between the ``size`` (w, h) pixels that a tile shows as squares."""
    overlay = Image.new("RGBA", tile.size)
    draw = ImageDraw.Draw(overlay)
    for k in range(1, size[0]):
        draw.line([(k * tile.width / size[0], 0), (k * tile.width / size[0], tile.height)], fill=GRID)
    for k in range(1, size[1]):
        draw.line([(0, k * tile.height / size[1]), (tile.width, k * tile.height / size[1])], fill=GRID)
    return Image.alpha_composite(tile.convert("RGBA"), overlay).convert("RGB")


def _label(draw: ImageDraw.ImageDraw, text: str, colour: str, middle: Sequence[float], smooth: int) -> None:
    """A text on a plate of its own size."""
    draw_tag(draw, text, colour, middle, _room(text, smooth), smooth, LABEL_SIZE)


def _room(text: str, smooth: int) -> tuple[float, float]:
    """The (width, height) of a label in units."""
    return font(LABEL_SIZE * smooth).getlength(text) / smooth + 2 * PADDING[0], LABEL_SIZE + 2 * PADDING[1]


def _arrow(
    draw: ImageDraw.ImageDraw, axis: int, first: float, last: float, across: float, colour: str, smooth: int
) -> None:
    """Along an axis, from a bar at its start to a head whose tip is its end."""

    def at(along: float, beside: float) -> tuple[float, float]:
        return (along, across + beside)[:: 1 - 2 * axis]

    head, side = HEAD * smooth, 0.6 * HEAD * smooth
    for ink, halo in ((HALO, HALO_WIDTH * smooth), (colour, 0.0)):
        width = round(LINE_WIDTH * smooth + 2 * halo)
        draw.line([at(first - halo, 0), at(last - head, 0)], fill=ink, width=width)
        draw.line([at(first, -side - halo), at(first, side + halo)], fill=ink, width=width)
        back = last - head - halo
        draw.polygon([at(last + 1.8 * halo, 0), at(back, -side - 1.4 * halo), at(back, side + 1.4 * halo)], fill=ink)
