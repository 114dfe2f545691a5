"""Picture files -> upright RGB pictures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from kornia_patchaug.readers import Notes, UnusableError, UserError
from kornia_patchaug.writers import RECORDS, STAMP

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
NO_PICTURES = ("", ".json", ".txt", ".xml", ".yaml", ".yml", ".csv", ".md", ".jsonl")  # that lie beside pictures
LYING = (5, 6, 7, 8)  # the EXIF orientations that swap width and height
DEEP = (4095, 65535)  # the highest level of 12 and of 16 bits
FLOATING = (1, 255)  # and of floating point
OVER = 1.01  # times a highest level: what filters may add to it


def find_pictures(given: Sequence[Path], notes: Notes, leave: Path | None = None) -> list[Path]:
    """The files that are named, and those in folders that are, but for what is hidden and what is in ``leave``."""
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        left = {os.path.realpath(leave)} if leave is not None else set()
        inside = sorted(_pictures_in(path, notes, left)) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no pictures ({' '.join(s[1:] for s in SUFFIXES)}) in this folder")
        found += inside
    return list(dict.fromkeys(found))


def _pictures_in(folder: Path, notes: Notes, left: set[str]) -> Iterator[Path]:
    """Those in a folder and in its folders; each is entered once, as links may lead back."""
    left.add(os.path.realpath(folder))
    folders = [folder]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                real = os.path.realpath(path)
                if real in left:
                    continue
                left.add(real)
                if (path / RECORDS / STAMP).is_file():
                    notes.add("passed over", "a folder that augment wrote", str(path))
                else:
                    folders.append(path)
            elif path.suffix.lower() in SUFFIXES and path.is_file():  # and no pipe, which may never end
                yield path
            elif path.suffix.lower() not in NO_PICTURES:
                notes.add("passed over", f"no picture ({' '.join(s[1:] for s in SUFFIXES)}) by its name", str(path))


def read_picture(path: Path) -> Image.Image:
    """A picture as it is shown: turned as its EXIF says, in 8 bits of red, green and blue, over white."""
    with _opened(path) as file:
        return _as_rgb(ImageOps.exif_transpose(file))


def picture_size(path: Path) -> tuple[int, int]:
    """The (height, width) of a picture as it is shown, from the head of its file."""
    with _opened(path) as file:
        if file.format == "TIFF":  # of which Pillow's versions tell the size before or after it is turned
            file.load()
        width, height = file.size
        exif = Image.Image.getexif(file)  # and not that of PNG, which reads all of it
        return (width, height) if exif.get(ExifTags.Base.Orientation, 1) in LYING else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture's file; whatever goes wrong with it makes it unusable."""
    try:
        if not path.is_file():
            raise OSError("not a file")
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield file
    except Exception as error:  # Pillow's decoders raise errors of many kinds for a broken file
        raise UnusableError(f"not a picture that can be read: {error}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # more than 8 bits a pixel, which convert() would cut off at 255
        levels = np.asarray(image, np.float64)
        levels = np.nan_to_num(levels, posinf=0.0)
        highest, tops = levels.max(initial=0), (*FLOATING, *DEEP) if image.mode == "F" else DEEP
        top = next((top for top in tops if highest <= OVER * top), highest)
        image = Image.fromarray((levels.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
