"""Pictures with their objects -> one page that draws in the browser; and back, what a page saves of a draw."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kornia_patchaug.augmentation import PatchAffine
from kornia_patchaug.pictures import read_picture
from kornia_patchaug.preview import Picture, Ranges, picture_tensor
from kornia_patchaug.readers import Labels, Notes, UserError, check_room, mask_of
from kornia_patchaug.shapes import encoded, runs_of

WEB = "web"  # the folder of what a page is made of
SCRIPTS = (  # each may use those before it
    "scene",
    "draws",
    "shapes",
    "pictures",
    "state",
    "address",
    "pose",
    "marks",
    "takeaway",
    "labels",
    "files",
    "cards",
    "editor",
    "ui",
)
# What the page sets, with how many words follow each.
SET_BY_PAGE = {
    "--degrees": 1,
    "--translate": 2,
    "--scale": 2,
    "--shear": 1,
    "--clip": 0,
    "--no-clip": 0,
    "--fill": 1,
    "--matte": 1,
    "--feather": 1,
    "--padding-mode": 1,
    "--order": 1,
    "--seed": 1,
    "--draws": 1,
    "--replay": 1,
}
VERSION = 1  # of what a page saves
RANGES = {"degrees": (0, 360), "translate": (0, 100), "scale": (0.01, 100), "shear": (0, 89)}  # and within what
OPTIONS = ("padding_mode", "clip", "fill", "matte", "feather", "order")  # of `PatchAffine` that a page sets


class Shown(NamedTuple):
    """A picture on a page."""

    picture: Picture
    data: bytes | None = None  # of its file
    theta: Tensor | None = None  # (N, 6), of a draw that is replayed


class Replayed(NamedTuple):
    """A picture's objects and how each was moved."""

    name: str
    size: tuple[int, int]  # (height, width)
    boxes: Tensor  # (N, 4)
    theta: Tensor  # (N, 6)


class Replay(NamedTuple):
    """A draw that a page saved: ``PatchAffine(**options)(image, boxes, theta)`` paints each of its pictures."""

    seed: int
    draw: int  # which of this seed, from 1
    options: dict[str, Any]
    ranges: dict[str, Any]  # from which it was drawn
    pictures: tuple[Replayed, ...]


def read_objects(path: Path, labels: Labels, notes: Notes) -> Picture:
    """A picture with its objects, but for crowds; raises UnusableError if it cannot be shown."""
    image = picture_tensor(read_picture(path))
    size = int(image.shape[1]), int(image.shape[2])
    found = [each for each in labels.read(path, size, notes) if not each.crowd]
    boxes = torch.tensor([each.box for each in found]).reshape(-1, 4)
    masks = None
    if any(each.shape is not None for each in found):
        check_room(len(found), size)
        masks = torch.from_numpy(np.stack([mask_of(each, size) for each in found]))
    return Picture(path.name, image, boxes, tuple(each.label for each in found), masks)


def page(command: str, pictures: Sequence[Shown], ranges: Ranges, seed: int, draws: int) -> str:
    """One HTML file that shows ``draws`` draws of a seed and those of others; ``command`` made it.

    Pictures with a theta begin with their objects pinned.
    """
    given = {
        "command": command,
        "around": _around(command),
        "ranges": ranges.fitting(*(each.picture for each in pictures))._asdict(),
        "seed": str(seed),  # JavaScript's numbers end before Python's
        "draws": draws,
        "version": VERSION,
        "pictures": [_told(*each) for each in pictures],
    }
    data = [_script(given, "given"), *(_script(_data_url(each), f"picture-{k}") for k, each in enumerate(pictures))]
    parts = {
        "styles": _text("page.css"),
        "data": "\n".join(data),
        "scripts": "\n".join(_text(f"{name}.js") for name in SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _text("page.html"))


def read_replay(text: str) -> Replay:
    """What a page saved; raises UserError of anything else."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON ({error})") from error
    told = _object(told, ("version", "seed", "draw", "options", "ranges", "pictures"), "a draw")
    if told["version"] != VERSION or isinstance(told["version"], bool):
        raise UserError(f"version: expected {VERSION}, got {json.dumps(told['version'])}")
    seed = told["seed"]  # as text, for the same reason
    if not (isinstance(seed, str) and re.fullmatch("[0-9]{1,19}", seed) and int(seed) < 2**63):
        raise UserError("seed: expected the digits of a whole number from 0 to 2**63 - 1, as text")
    options = _object(told["options"], OPTIONS, "options")
    if isinstance(options["fill"], bool) or isinstance(options["feather"], bool) or type(options["clip"]) is not bool:
        raise UserError("options: expected numbers, words, and true or false for clip")
    if isinstance(options["fill"], (list, dict)):
        raise UserError('options: fill: expected a number, "surroundings" or null')
    try:
        PatchAffine(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"options: {error}") from error
    pictures = tuple(_replayed(each, f"pictures[{k}]") for k, each in enumerate(_list(told["pictures"], "pictures")))
    return Replay(int(seed), _whole(told["draw"], "draw"), options, _ranges(told["ranges"]), pictures)


def _ranges(told: Any) -> dict[str, Any]:
    told = _object(told, tuple(RANGES), "ranges")
    for name, (low, high) in RANGES.items():
        pair = name in ("translate", "scale")
        values = told[name] if pair else [told[name]]
        if not (isinstance(values, list) and len(values) == 1 + pair and all(_is_number(v) for v in values)):
            raise UserError(f"ranges: {name}: expected {'two numbers' if pair else 'a number'}")
        if not all(low <= value <= high for value in values) or (name == "scale" and values[0] > values[1]):
            raise UserError(f"ranges: {name}: expected {low:g} to {high:g}, the lower first")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}


def _replayed(told: Any, where: str) -> Replayed:
    told = _object(told, ("name", "width", "height", "boxes", "thetas"), where)
    if not isinstance(told["name"], str):
        raise UserError(f"{where}: name: expected text")
    size = _whole(told["height"], f"{where}: height"), _whole(told["width"], f"{where}: width")
    boxes, theta = (_rows(told[key], n, f"{where}: {key}") for key, n in (("boxes", 4), ("thetas", 6)))
    if len(boxes) != len(theta):
        raise UserError(f"{where}: expected as many thetas as boxes, got {len(theta)} and {len(boxes)}")
    return Replayed(told["name"], size, boxes, theta)


def _object(told: Any, names: Sequence[str], what: str) -> dict[str, Any]:
    if not isinstance(told, dict) or set(told) != set(names):
        raise UserError(f"{what}: expected an object with {', '.join(names)}")
    return told


def _list(told: Any, what: str) -> list[Any]:
    if not isinstance(told, list):
        raise UserError(f"{what}: expected a list")
    return told


def _whole(told: Any, what: str) -> int:
    if type(told) is not int or not 1 <= told < 2**31:
        raise UserError(f"{what}: expected a whole number from 1 on")
    return told


def _rows(told: Any, count: int, what: str) -> Tensor:
    rows = _list(told, what)
    for k, row in enumerate(rows):
        if not (isinstance(row, list) and len(row) == count and all(_is_number(value) for value in row)):
            raise UserError(f"{what}[{k}]: expected {count} finite numbers")
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, count)


def _is_number(value: Any) -> bool:
    """Whether float32 holds it."""
    return type(value) in (int, float) and abs(value) <= torch.finfo(torch.float32).max  # NaN is not


def _around(command: str) -> list[str]:
    """What of a command comes before the options that the page sets, and what after."""
    words, kept = shlex.split(command), []
    stop = words.index("--") if "--" in words else len(words)
    k = 0
    while k < stop:
        name, equals, _ = words[k].partition("=")
        if name in SET_BY_PAGE:
            k += 1 if equals else 1 + SET_BY_PAGE[name]
        else:
            kept.append(words[k])
            k += 1
    return [shlex.join(kept), shlex.join(words[stop:])]


def _told(picture: Picture, _: bytes | None, theta: Tensor | None) -> Mapping[str, Any]:
    """What is known of a picture without its pixels."""
    height, width = picture.image.shape[1:]
    masks = None
    if picture.masks is not None:
        runs = (encoded(runs_of(mask).counts.tolist()) for mask in picture.masks.numpy())
        masks = [{"size": [height, width], "counts": counts} for counts in runs]
    return {
        "name": picture.name,
        "width": width,
        "height": height,
        "boxes": _shortest(picture.boxes),
        "labels": list(picture.labels),
        "shapes": masks,
        "thetas": None if theta is None else _shortest(theta.reshape(-1, 6)),
    }


def _shortest(rows: Tensor) -> list[list[float]]:
    """The numbers with the fewest digits that float32 takes for these."""
    return [[float(str(value)) for value in row] for row in rows.float().numpy()]


def _data_url(shown: Shown) -> str:
    """The JPEG as it came, which browsers decode as Pillow does, or else a PNG."""
    data = shown.data
    if data is None or not _is_plain_jpeg(data):
        levels = (shown.picture.image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(levels).save(buffer := io.BytesIO(), "PNG")
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _is_plain_jpeg(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as file:
            return file.format == "JPEG" and file.mode in ("RGB", "L")
    except Exception:  # Pillow's decoders raise errors of many kinds
        return False


def _script(data: Any, name: str) -> str:
    """JSON in a page. Only ASCII, and without the bracket that a name could end the script with."""
    text = json.dumps(data).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _text(name: str) -> str:
    return resources.files("kornia_patchaug").joinpath(WEB, name).read_text("utf-8")
