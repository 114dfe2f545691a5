"""Remakes the pictures of the documentation: ``python -m gallery`` writes them into docs/ and prints what it wrote."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from gallery.figures import figures
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


MAKERS: tuple[Callable[[], Iterator[tuple[str, bytes]]], ...] = (strips, drawings)


def main() -> int:
    for make in MAKERS:
        for name, data in make():
            path = DOCS / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            print(f"{path.relative_to(DOCS.parent)}  {len(data) / 1024:.0f} KB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
