"""What a row of the table is: the code that the page shows, and what a strip shows of it. Imports nothing heavy."""

from __future__ import annotations

import re
from typing import NamedTuple

IMPORTS = """\
import kornia.augmentation as K
import torch

import kornia_patchaug as kp
from gallery.photographs import load"""


class Tile(NamedTuple):
    """One picture of a strip; what it shows are expressions, with the names that the row's code makes."""

    caption: str
    image: str = "after"  # (B, C, H, W), in rows of ``columns``
    outlines: str = "moved(boxes, theta)"  # thick and numbered: boxes (N, 4) or corners (N, 4, 2); a list per image
    boxes: str = "boxes"  # thin, in the same form
    cells: str = "0"  # which image of the batch each outline lies in, (N,)
    points: str = ""  # (N, K, 2)
    dimensions: str = ""  # arrows
    texts: str = ""  # in the place of numbers, one an outline
    columns: int = 1


BEFORE, AFTER = Tile("before", "images", "boxes"), Tile("after")


class Row(NamedTuple):
    """One call of a public name, and the strip that shows it."""

    name: str  # of kornia_patchaug
    arguments: str
    caption: str  # what to know, in Markdown
    alt: str  # what is seen, for those who cannot
    option: str = ""  # what the strip is about, where the name has several
    seed: int | None = None  # where something is drawn
    setup: str = ""  # lines before the call
    gives: str = "after"  # what the call's result is called
    then: str = ""  # lines after it
    tiles: tuple[Tile, ...] = (BEFORE, AFTER)

    @property
    def title(self) -> str:
        return self.option or self.name

    @property
    def slug(self) -> str:
        """The anchor of the row's heading and the name of its file: the name, and the option if there is one."""
        return re.sub(r"\W+", "-", f"{self.name} {self.option}").strip("-")

    @property
    def code(self) -> str:
        seed = "" if self.seed is None else f"torch.manual_seed({self.seed})"
        call = f"{self.gives} = kp.{self.name}({self.arguments})"
        return "\n".join(part.strip("\n") for part in (seed, self.setup, call, self.then) if part)


class Section(NamedTuple):
    """Rows that belong together, and the lines that run before each of them."""

    title: str
    text: str
    rows: tuple[Row, ...]
    code: str = ""
    suffix: str = "jpg"  # png where pixels are shown as squares: smaller, and sharp

    def file(self, row: Row) -> str:
        return f"{row.slug}.{self.suffix}"
