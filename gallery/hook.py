"""A hook of MkDocs: puts the table into docs/gallery.md, as headings, code and pictures. Imports nothing heavy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # MkDocs loads this file alone

from gallery.row import IMPORTS, Row, Section  # noqa: E402
from gallery.table import SECTIONS  # noqa: E402

MARKER = "<!-- gallery -->"  # what follows it stands there where no hook runs
PICTURES = ROOT / "docs" / "gallery"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the sections in the place of all that follows the marker; other pages as they are."""
    before, marker, _rest = markdown.partition(MARKER)
    return before + "\n\n".join([_code(IMPORTS), *map(_section, SECTIONS)]) if marker else markdown


def _section(section: Section) -> str:
    parts = [f"## {section.title}", section.text]
    if section.code:
        parts.append(_code(section.code))
    return "\n\n".join([*parts, *(_row(section, row) for row in section.rows)])


def _row(section: Section, row: Row) -> str:
    file = section.file(row)
    with Image.open(PICTURES / file) as strip:
        width, height = strip.size  # so that the page does not move while pictures load
    picture = f'![{row.alt}](gallery/{file}){{ width="{width}" height="{height}" loading="lazy" }}'
    caption = f"{row.caption} [API](api.md#kornia_patchaug.{row.name})"
    return "\n\n".join([f"### `{row.title}` {{ #{row.slug} }}", caption, _code(row.code), picture])


def _code(code: str) -> str:
    return "```python\n" + code.strip("\n") + "\n```"
