"""The pages of the documentation with what stands between their marks made anew."""

from __future__ import annotations

import re
from pathlib import Path

from gallery.api import entry
from gallery.hook import DEMO, ENTRY, MARK, OVERLAP, PART, STRIPS, strips
from gallery.overlap import table

DEMO_ALT = "Coins of the demo: the input with its numbered boxes, and draws in which each moved, with its label"
ROOT = Path(__file__).resolve().parent.parent
MEMBERS = re.compile(r"^ +members: \[(.*)\]$", flags=re.M)


def pages() -> dict[str, str]:
    """The text of each page that has marks, by its name."""
    found = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
    return {name: remade(text) for name, text in found.items() if MARK.search(text)}


def remade(page: str) -> str:
    return MARK.sub(lambda mark: f"<!-- {mark[1]} -->\n\n{made(mark[1])}\n\n<!-- end -->", page)


def made(what: str) -> str:
    """What a mark asks for."""
    if what == STRIPS:
        return strips(on_site=False)
    if what == DEMO:
        return f"![{DEMO_ALT}](preview.jpg)"
    if what == OVERLAP:
        return table()
    if what.startswith(PART):
        file, part = what.removeprefix(PART).strip().split(":")
        inside = rf"\[start:{part}\] -->\n(.*?)\n<!-- --8<-- \[end:{part}\]"
        (text,) = re.findall(inside, (ROOT / file).read_text("utf-8"), flags=re.S)
        return text.strip()
    members = MEMBERS.findall(what)
    path = what.removeprefix(ENTRY).split()[0]
    return entry(path, [name.strip() for line in members for name in line.split(",")])
