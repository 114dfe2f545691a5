"""Remakes what the documentation shows: ``python -m gallery`` writes it into docs/ and prints what it wrote.

``python -m gallery pages`` remakes that part alone: strips, figures or pages.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from gallery.figures import figures
from gallery.pages import pages
from gallery.strips import make_strip
from gallery.table import SECTIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
ENCODERS = {  # JPEG without subsampling, so that outlines keep their colours
    "jpg": {"format": "JPEG", "quality": 82, "subsampling": 0},
    "png": {"format": "PNG", "optimize": True},
}


def strips() -> Iterator[tuple[str, bytes]]:
    """The file of each strip of the gallery, by its path in docs/."""
    for section in SECTIONS:
        for row in section.rows:
            yield f"gallery/{section.file(row)}", encode(make_strip(section, row), section.suffix)


def drawings() -> Iterator[tuple[str, bytes]]:
    """The file of each figure, by its path in docs/."""
    for name, text in figures().items():
        yield f"figures/{name}", text.encode()


def encode(strip: Image.Image, suffix: str) -> bytes:
    strip.save(buffer := io.BytesIO(), **ENCODERS[suffix])
    return buffer.getvalue()


def texts() -> Iterator[tuple[str, bytes]]:
    """The file of each page that has marks, by its path in docs/."""
    for name, text in pages().items():
        yield name, text.encode()


MAKERS: dict[str, Callable[[], Iterator[tuple[str, bytes]]]] = {"strips": strips, "figures": drawings, "pages": texts}


def main(arguments: Sequence[str]) -> int:
    for part in arguments or MAKERS:
        if part not in MAKERS:
            print(f"{part}: one of {' '.join(MAKERS)} is expected", file=sys.stderr)
            return 2
        for name, data in MAKERS[part]():
            path = DOCS / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            print(f"{path.relative_to(DOCS.parent)}  {len(data) / 1024:.0f} KB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
