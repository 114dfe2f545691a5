"""A row of the table -> its strip: run the code that the page shows, lay what it made side by side."""

from __future__ import annotations

import math
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gallery.marks import dimensions, draw_dimensions, draw_grid, draw_points, draw_texts
from gallery.row import IMPORTS, Row, Section, Tile
from kornia_patchaug.frames import corners_of
from kornia_patchaug.outlines import BACKGROUND, INK, annotate, font
from kornia_patchaug.preview import to_pil
from kornia_patchaug.theta import move_points

UNIT = 2  # pixels of a strip to a unit of length: strips are shown at up to twice the resolution of their lengths
WIDTH, MARGIN, GAP, LINE, TEXT_SIZE = 440, 8, 8, 24, 15  # units; a phone shows a strip some 340 pixels wide
PIXELS = 6  # a picture enlarged more than so many times is shown as squares


def make_strip(section: Section, row: Row) -> Image.Image:
    """The tiles of a row side by side, all of one height, with their captions."""
    scope = run(section, row)
    sheets = [_sheet(eval(tile.image, scope), tile.columns) for tile in row.tiles]
    inner = WIDTH - 2 * MARGIN - GAP * (len(sheets) - 1)
    ratios = [sheet.shape[2] / sheet.shape[1] for sheet, _ in sheets]
    height = round(inner / sum(ratios))
    strip = Image.new("RGB", (WIDTH * UNIT, (height + MARGIN + LINE) * UNIT), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    x = MARGIN
    for tile, sheet, ratio in zip(row.tiles, sheets, ratios, strict=True):
        width = round(inner * ratio / sum(ratios))
        strip.paste(_draw(tile, *sheet, (width, height), scope), (x * UNIT, MARGIN * UNIT))
        middle = (x + width / 2) * UNIT, (MARGIN + height + LINE / 2) * UNIT
        draw.text(middle, tile.caption, fill=INK, font=font(TEXT_SIZE * UNIT), anchor="mm")
        x += width + GAP
    return strip


def run(section: Section, row: Row) -> dict[str, Any]:
    """The names that a row's code has made, and the few that the expressions of its tiles may use besides."""
    scope: dict[str, Any] = {}
    for code in (IMPORTS, section.code, row.code):
        exec(compile(code, row.slug, "exec"), scope)
    return {"frame": _frame, "moved": _moved, "whole": _whole, "dimensions": dimensions, **scope}


def _frame(boxes: Tensor, align_corners: bool = False) -> Tensor:
    """The corners of each box's frame, where u and v are -1 and 1."""
    inside = torch.tensor([0.5, 0.5, -0.5, -0.5]) * align_corners
    return corners_of(boxes + inside)


def _moved(boxes: Tensor, theta: Tensor, align_corners: bool = False) -> Tensor:
    """Where the corners of each box's frame went."""
    return move_points(_frame(boxes, align_corners), boxes, theta, align_corners=align_corners)


def _whole(patches: Tensor) -> Tensor:
    """The box of each patch: all of it."""
    return torch.tensor([[0, 0, patches.shape[3], patches.shape[2]]]).expand(len(patches), 4)


def _sheet(images: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Images ``(B, C, h, w)`` in rows of so many, white between them, and where each begins, ``(B, 2)``, (x, y)."""
    height, width = images.shape[2:]
    gap = math.ceil(0.06 * width)
    around = gap * (columns > 1)  # so that the numbers of patches lie alike on all of them
    cell = torch.arange(len(images))
    starts = around + torch.stack([cell % columns * (width + gap), cell // columns * (height + gap)], dim=1)
    sheet = images.new_ones(3, *(starts[-1].flip(0) + torch.tensor([height, width]) + around))
    for image, (x, y) in zip(images, starts.tolist(), strict=True):
        sheet[:, y : y + height, x : x + width] = image
    return sheet, starts


def _draw(tile: Tile, sheet: Tensor, starts: Tensor, size: tuple[int, int], scope: dict[str, Any]) -> Image.Image:
    """A sheet at ``size`` in units, with everything that is drawn over it."""
    height, width = sheet.shape[1:]
    zoom, pixels = torch.tensor([size[0] / width, size[1] / height]), (size[0] * UNIT, size[1] * UNIT)
    if min(pixels) < PIXELS * min(width, height):
        picture = to_pil(sheet, pixels)
    else:
        picture = draw_grid(to_pil(sheet, (width, height)).resize(pixels, Image.Resampling.NEAREST), (width, height))

    def placed(code: str) -> list[Tensor]:
        """Corners in units: of all objects, or per image where each has a list, and so numbers, of its own."""
        found = eval(code or "[]", scope)
        cells = [torch.full((len(rows),), k) for k, rows in enumerate(found)]
        if isinstance(found, Tensor):
            found, cells = [found], [torch.as_tensor(eval(tile.cells, scope)).expand(len(found))]
        corners = [corners_of(rows) if rows.ndim == 2 else rows for rows in found]
        return [(corner + starts[cell][:, None]) * zoom for corner, cell in zip(corners, cells, strict=True)]

    outlines = placed(tile.outlines)
    thin = placed(tile.boxes) or [corners[:0] for corners in outlines]
    for boxes, quads in zip(thin, outlines, strict=True):
        picture = annotate(picture, boxes, quads, [] if tile.dimensions or tile.texts else None, UNIT)
    if tile.texts:
        picture = draw_texts(picture, eval(tile.texts, scope), torch.cat(outlines), UNIT)
    if tile.points:
        picture = draw_points(picture, eval(tile.points, scope).flatten(0, 1) * zoom, UNIT)
    if tile.dimensions:
        picture = draw_dimensions(picture, eval(tile.dimensions, scope), zoom.tolist(), UNIT)
    return picture
