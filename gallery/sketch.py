"""A white sheet for pixel grids, dots, arrows and few words, and its SVG.

Lengths are points of a sheet that is ``WIDTH`` wide, (x, y) from its top left. A phone shows the sheet at about its own
width, so that a text's size is what is read there.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib import rc_context
from matplotlib.colors import to_hex
from matplotlib.figure import Figure  # without pyplot, which would look for a display
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyArrowPatch, PathPatch
from matplotlib.path import Path as Outline

from kornia_patchaug.outlines import COLOURS, INK

WIDTH = 360
SIZE, SMALL = 12.5, 11.5  # of text
ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PINK = COLOURS
PAPER, LINE, SHADE = "#ffffff", "#c4c4cc", "#f1f1f4"
FONTS = Path(matplotlib.get_data_path(), "fonts/ttf")  # matplotlib's own: the same outlines on every machine
REGULAR, BOLD = (FontProperties(fname=FONTS / f"DejaVuSans{style}.ttf") for style in ("", "-Bold"))
# What matplotlib names by a hash has a salt, and no date is written: the same drawing, the same bytes.
SETTINGS: Any = {"svg.fonttype": "path", "svg.hashsalt": "kornia_patchaug", "path.simplify": False}
UNDATED = dict.fromkeys(("Creator", "Date", "Format", "Type"))

Point = Sequence[float]  # (x, y)


class Frame(NamedTuple):
    """A pixel grid on the sheet: where its pixel (0, 0) begins, how wide pixels are, and how many times as tall."""

    left: float
    top: float
    cell: float
    tall: float = 1.0

    def at(self, point: Point) -> tuple[float, float]:
        """The sheet's point of an image's point."""
        return self.left + self.cell * point[0], self.top + self.cell * self.tall * point[1]

    def corners(self, box: Sequence[float]) -> list[tuple[float, float]]:
        """The sheet's corners of a box ``x1 y1 x2 y2`` in pixels."""
        x1, y1, x2, y2 = box
        return [self.at(point) for point in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]

    def pixel(self, column: int, row: int) -> list[tuple[float, float]]:
        """The sheet's corners of a pixel."""
        return self.corners((column, row, column + 1, row + 1))


class Sheet:
    """What is drawn last lies on top."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / 72, height / 72), facecolor=PAPER)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.set_axis_off()
        self.layer = 1

    def shapes(
        self,
        rings: Iterable[Sequence[Point]],
        fill: str = "none",
        line: str = "none",
        width: float = 1.5,
        dashed: bool = False,
        opacity: float = 1.0,
    ) -> None:
        """Closed outlines of one look, as one path."""
        path = Outline.make_compound_path(*(Outline([*ring, ring[0]], closed=True) for ring in rings))
        self._stroke(path, fill, line, width, dashed, opacity)

    def lines(
        self, ends: Iterable[Sequence[Point]], colour: str = INK, width: float = 1.5, dashed: bool = False
    ) -> None:
        """Open lines of one look, as one path."""
        self._stroke(Outline.make_compound_path(*map(Outline, ends)), "none", colour, width, dashed, 1.0)

    def dot(self, centre: Point, colour: str, radius: float = 3.5) -> None:
        """A disc with a thin white rim."""
        self._add(Circle((centre[0], centre[1]), radius, linewidth=0.8, facecolor=colour, edgecolor=PAPER))

    def arrow(
        self, start: Point, end: Point, colour: str = INK, bend: float = 0.0, width: float = 2.0, dashed: bool = False
    ) -> None:
        """An arrow that ends just before a dot, bent to one side by about half that share of its length."""
        curve = f"arc3,rad={bend}"
        style = "-|>,head_length=2.8,head_width=1.7"
        look: Any = {"linewidth": width, "color": colour, "linestyle": (0, (3, 2)) if dashed else "-"}
        ends: Any = {"posA": tuple(start), "posB": tuple(end), "shrinkA": 4.5, "shrinkB": 4.5}
        self._add(FancyArrowPatch(**ends, connectionstyle=curve, arrowstyle=style, mutation_scale=width * 1.4, **look))

    def text(
        self,
        place: Point,
        words: str,
        colour: str = INK,
        size: float = SIZE,
        bold: bool = False,
        align: str = "center",
        turned: float = 0.0,
    ) -> None:
        """Words on a line whose middle is at the place's height."""
        # A capital is 0.73 em high: the base line lies half of that below the middle, whatever hangs below it.
        shift = 0.365 * size
        x, y = (place[0] + shift, place[1]) if turned else (place[0], place[1] + shift)
        font = BOLD if bold else REGULAR
        self.axes.text(
            x, y, words, color=colour, font=font, size=size, ha=align, va="baseline",
            rotation=turned, rotation_mode="anchor", zorder=self._next(),
        )  # fmt: skip

    def grid(self, frame: Frame, columns: int, rows: int, fill: str = SHADE, width: float = 1.0) -> None:
        """An image's empty pixels."""
        self.shapes([frame.corners((0, 0, columns, rows))], fill, LINE, width)
        across = [(frame.at((0, row)), frame.at((columns, row))) for row in range(1, rows)]
        down = [(frame.at((column, 0)), frame.at((column, rows))) for column in range(1, columns)]
        self.lines(across + down, LINE, width)

    def paint(self, frame: Frame, pixels: Iterable[tuple[int, int, Sequence[float]]], line: str = PAPER) -> None:
        """Pixels of ``(column, row, (red, green, blue))``, those of one colour as one path."""
        rings: dict[str, list[list[tuple[float, float]]]] = {}
        for column, row, colour in pixels:
            red, green, blue = (min(max(part, 0.0), 1.0) for part in colour)
            shown = to_hex((red, green, blue))
            rings.setdefault(shown, []).append(frame.pixel(column, row))
        for shown, together in rings.items():
            self.shapes(together, shown, line, 0.5)

    def svg(self) -> str:
        """The sheet as SVG text."""
        with rc_context(SETTINGS):
            self.figure.savefig(buffer := io.StringIO(), format="svg", metadata=UNDATED)
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"

    def _stroke(self, path: Outline, fill: str, line: str, width: float, dashed: bool, opacity: float) -> None:
        style = (0, (4, 2.5)) if dashed else "-"
        look = {"facecolor": fill, "edgecolor": line, "linewidth": width, "linestyle": style, "alpha": opacity}
        self._add(PathPatch(path, joinstyle="miter", capstyle="butt", **look))

    def _add(self, patch: Circle | FancyArrowPatch | PathPatch) -> None:
        patch.set(zorder=self._next(), clip_on=False)  # a clip's name would be a hash of lengths
        self.axes.add_artist(patch)

    def _next(self) -> int:
        self.layer += 1
        return self.layer
