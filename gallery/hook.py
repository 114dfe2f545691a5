"""What stands between marks in docs/*.md is made; and a hook of MkDocs, for which some is made another way.

A mark is a comment that says what follows, up to ``<!-- end -->``: an entry of the API, the strips of the gallery, a
part of the benchmarks' results, the table of overlaps, or the page of the demo pictures. ``python -m gallery pages``
writes it there, so that the files read well by themselves. On the site mkdocstrings makes the entries, strips have
their size, and the page is there to play with, where the files have a picture. Imports nothing heavy.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # MkDocs loads this file alone

from gallery.row import IMPORTS, Row, Section  # noqa: E402
from gallery.table import SECTIONS  # noqa: E402

ENTRY, STRIPS, PART, OVERLAP, DEMO = ":::", "strips", "part of", "table of overlaps", "page of the demo"
MARK = re.compile(rf"<!-- ((?:{ENTRY}|{STRIPS}|{PART}|{OVERLAP}|{DEMO}).*?) -->\n.*?<!-- end -->", flags=re.S)
PICTURES = ROOT / "docs" / "gallery"
DEMO_FILE = "demo/index.html"  # of the site


def on_files(files: Any, config: Any) -> None:
    """Adds the page of the demo pictures to the site."""
    from mkdocs.structure.files import File

    from gallery.demo import demo_page

    files.append(File.generated(config, DEMO_FILE, content=demo_page()))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page as the site has it."""

    def replace(match: re.Match[str]) -> str:
        what = match[1]
        if what.startswith(ENTRY):
            return what
        if what == DEMO:
            return demo()
        return strips(on_site=True) if what == STRIPS else match[0]

    return MARK.sub(replace, markdown)


def demo() -> str:
    """The page of the demo pictures in a page of the site."""
    frame = f'<iframe class="demo" src="{DEMO_FILE}" title="The demo pictures, to play with" loading="lazy"></iframe>'
    return f"{frame}\n\nThis is what `kornia-patchaug preview` writes, [in a window of its own]({DEMO_FILE}) too."


def strips(on_site: bool) -> str:
    """All sections of the gallery: headings, code and pictures."""
    return "\n\n".join([_code(IMPORTS), *(_section(section, on_site) for section in SECTIONS)])


def _section(section: Section, on_site: bool) -> str:
    parts = [f"## {section.title}", section.text]
    if section.code:
        parts.append(_code(section.code))
    return "\n\n".join([*parts, *(_row(section, row, on_site) for row in section.rows)])


def _row(section: Section, row: Row, on_site: bool) -> str:
    file = section.file(row)
    picture = f"![{row.alt}](gallery/{file})"
    heading = f"### `{row.title}`"
    if on_site:
        with Image.open(PICTURES / file) as strip:
            width, height = strip.size  # so that the page does not move while pictures load
        picture += f'{{ width="{width}" height="{height}" loading="lazy" }}'
        heading += f" {{ #{row.slug} }}"
    else:
        heading = f'<a id="{row.slug}"></a>\n\n{heading}'
    caption = f"{row.caption} [API](api.md#kornia_patchaug.{row.name})"
    return "\n\n".join([heading, caption, _code(row.code), picture])


def _code(code: str) -> str:
    return "```python\n" + code.strip("\n") + "\n```"
