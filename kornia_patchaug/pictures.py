"""Picture files -> upright RGB pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from kornia_patchaug.readers import Notes, UnusableError, UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
NO_PICTURES = ("", ".json", ".txt", ".xml", ".yaml", ".yml", ".csv", ".md")  # that lie beside pictures
LYING = (5, 6, 7, 8)  # the EXIF orientations that swap width and height
DEEP = (4095, 65535)  # the highest level of 12 and of 16 bits


def find_pictures(given: Sequence[Path], notes: Notes, leave: Path | None = None) -> list[Path]:
    """The files that are named, and those in folders that are, but for what is hidden and what is in ``leave``."""
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        left = {leave.resolve()} if leave is not None else set()
        inside = sorted(_pictures_in(path, notes, left)) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no pictures ({' '.join(s[1:] for s in SUFFIXES)}) in this folder")
        found += inside
    return list(dict.fromkeys(found))


def _pictures_in(folder: Path, notes: Notes, left: set[Path]) -> Iterator[Path]:
    """Those in a folder and in its folders; each is entered once, as links may lead back."""
    left.add(folder.resolve())
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.resolve() not in left:
                yield from _pictures_in(path, notes, left)
        elif path.suffix.lower() in SUFFIXES:
            yield path
        elif path.suffix.lower() not in NO_PICTURES:
            notes.add("passed over", f"no picture ({' '.join(s[1:] for s in SUFFIXES)}) by its name", str(path))


def read_picture(path: Path) -> Image.Image:
    """A picture as it is shown: turned as its EXIF says, in 8 bits of red, green and blue, over white."""
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _as_rgb(ImageOps.exif_transpose(file))
    except Exception as error:  # Pillow's decoders raise errors of many kinds for a broken file
        raise UnusableError(f"not a picture that can be read: {error}") from error


def picture_size(path: Path) -> tuple[int, int]:
    """The (height, width) of a picture as it is shown, from the head of its file."""
    try:
        with Image.open(path) as file:
            if file.format == "TIFF":  # of which Pillow's versions tell the size before or after it is turned
                file.load()
            width, height = file.size
            exif = Image.Image.getexif(file)  # and not that of PNG, which reads all of it
            return (width, height) if exif.get(ExifTags.Base.Orientation, 1) in LYING else (height, width)
    except Exception as error:
        raise UnusableError(f"not a picture that can be read: {error}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # more than 8 bits a pixel, which convert() would cut off at 255
        levels = np.asarray(image, np.float64)
        highest = levels.max(initial=0)
        top = 1.0 if image.mode == "F" and highest <= 1 else next((top for top in DEEP if highest <= top), highest)
        image = Image.fromarray((levels.clip(0) * (255 / top)).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
