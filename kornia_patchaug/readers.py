"""Label files -> the objects of pictures: COCO JSON, YOLO txt, Pascal VOC XML, found beside pictures or where told.

What cannot be used is left out and noted. Boxes are half-open, in pixels of the upright picture.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from kornia_patchaug.shapes import Polygons, Runs, Shape, shape_of

FORMS = ("coco", "yolo", "voc")
OBJECT = "object"  # what is of no class
ROUNDING = 1.0  # pixels that boxes may stick out of their picture without a note: tools round
LARGEST = 1 << 24  # bytes of a label file of one picture
ROOM = 1 << 30  # bytes of the masks of a picture
FAR = 1e7  # pixels; numbers beyond are none of a picture


class UserError(Exception):
    """Something that the person at the keyboard can put right; the text is one line."""


class UnusableError(Exception):
    """Why a label or a picture is left out, as a noun."""


class Labelled(NamedTuple):
    """An object as a label file tells it."""

    box: tuple[float, float, float, float]
    label: str
    shape: Shape | None = None
    keypoints: tuple[tuple[float, float, float], ...] = ()  # x y and COCO's visibility
    crowd: bool = False
    extra: Mapping[str, Any] = {}  # what else a file says of it, as it says it


def mask_of(found: Labelled, size: tuple[int, int]) -> NDArray[np.bool_]:
    """``(H, W)``: the pixels of an object's shape, or of its box if that is all that is told."""
    if found.shape is not None:
        return found.shape.mask(size)
    (x1, y1, x2, y2), (height, width) = found.box, size
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    return (x >= x1) & (x < x2) & (y >= y1) & (y < y2)


def check_room(count: int, size: tuple[int, int]) -> None:
    """Raise if so many masks of a picture are more than memory has room for."""
    if count * size[0] * size[1] > ROOM:
        raise UnusableError(f"{count} shapes in a picture of {size[1]} x {size[0]}, more than fit into memory")


class Notes:
    """What was left out or changed, by reason."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.found: dict[str, list[str]] = defaultdict(list)

    def add(self, what: str, reason: object, place: str) -> None:
        """Note that something was left out, say, or raise if nothing may be."""
        if self.strict:
            raise UserError(f"{place}: {reason}")
        self.found[f"{what}: {reason}"].append(place)

    def lines(self) -> Iterator[str]:
        """A line a reason, with how often and where."""
        for text, places in self.found.items():
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            yield f"{text} ({', '.join(places[:3])}{more})"


class Form(Protocol):
    """A form of label files."""

    def read(self, picture: Path, size: tuple[int, int], notes: Notes) -> list[Labelled]:
        """The objects of a picture that is ``size`` (height, width) pixels large; raises UnusableError without any."""

    def numbers(self) -> dict[str, int]:
        """The number of each class that it tells, and of those without a name in what was read."""
        return {}

    def about(self, picture: Path) -> Mapping[str, Any]:
        """What else it says of a picture, as it says it."""
        return {}


class Labels:
    """Where the objects of pictures are told.

    ``given``: a file or folder of labels; if None they are looked for beside each picture, where the tools of each form
    put them. ``form``: look for this one only.
    """

    def __init__(self, pictures: Sequence[Path], given: Path | None = None, form: str | None = None) -> None:
        if given is not None and not given.exists():
            raise UserError(f"{given}: no such file; labels are COCO JSON, YOLO txt or Pascal VOC XML, of --boxes FILE")
        self._json_in, coco, names = cache(_json_in), cache(Coco), cache(_names_of)
        self._forms: dict[Path, Form] = {}
        for picture in pictures:
            found = self._beside(picture, form) if given is None else self._told(picture, given, form)
            if found is not None:
                kind, file = found
                told = given if given is not None and given.suffix.lower() in YAML else _names_file(file)
                self._forms[picture] = (
                    coco(file) if kind == "coco" else Yolo(file, names(told)) if kind == "yolo" else Voc(file)
                )
        if not self._forms:
            what = {"coco": "COCO JSON", "yolo": "YOLO txt", "voc": "Pascal VOC XML"}.get(form or "", "labels")
            at = given if given is not None else f"beside {pictures[0]}"
            raise UserError(f"{at}: no {what} found; name the file or folder with --boxes")
        for each in self._lists():
            each.match([picture for picture, of in self._forms.items() if of is each])

    @property
    def form(self) -> str:
        """The form of the first picture's labels."""
        return type(next(iter(self._forms.values()))).__name__.lower()

    def numbers(self) -> dict[str, int]:
        """The number of each class that files tell, and of those without a name in what was read."""
        found: dict[str, int] = {}
        for form in dict.fromkeys(self._forms.values()):
            found = {**form.numbers(), **found}
        return found

    def categories(self) -> dict[str, Mapping[str, Any]]:
        """What else COCO's files say of each class."""
        return {name: told for form in reversed(self._lists()) for name, told in form.categories.items()}

    def head(self) -> Mapping[str, Any]:
        """What else COCO's file says, if there is one."""
        lists = self._lists()
        return lists[0].head if len(lists) == 1 else {}

    def about(self, picture: Path) -> Mapping[str, Any]:
        """What else COCO's file says of a picture."""
        return self._forms[picture].about(picture)

    def _lists(self) -> list[Coco]:
        return [form for form in dict.fromkeys(self._forms.values()) if isinstance(form, Coco)]

    def read(self, picture: Path, size: tuple[int, int], notes: Notes) -> list[Labelled]:
        """The objects of a picture that is ``size`` (height, width) pixels large; raises if none are told."""
        if picture not in self._forms:
            raise UnusableError("no labels")
        return self._forms[picture].read(picture, size, notes)

    def _beside(self, picture: Path, form: str | None) -> tuple[str, Path] | None:
        """The form and the file of a picture's labels, where the tools of each form put them, if they are there."""
        if form in (None, "coco"):
            for folder in _coco_folders(picture):
                found = self._json_in(folder)
                if found is not None:
                    return "coco", found
        for kind, (of_pictures, of_labels) in FOLDERS.items():
            parts = list(picture.parts)
            at = max((i for i, part in enumerate(parts) if part == of_pictures), default=None)
            places = [picture] if at is None else [picture, Path(*parts[:at], of_labels, *parts[at + 1 :])]
            for file in (place.with_suffix(SUFFIX[kind]) for place in places):
                if form in (None, kind) and file.is_file():
                    return kind, file
        return None

    def _told(self, picture: Path, given: Path, form: str | None) -> tuple[str, Path] | None:
        """The same of a file, or of a folder in which there is a file a picture."""
        if given.suffix.lower() in YAML:
            return self._beside(picture, "yolo")
        if given.is_file():
            kind = {suffix: kind for kind, suffix in SUFFIX.items()}.get(given.suffix.lower(), form or "coco")
            return (kind, given) if form in (None, kind) else None
        file = self._json_in(given) if form in (None, "coco") else None
        if file is not None:
            return "coco", file
        parts = picture.absolute().parts
        for start in range(1, len(parts)):  # train/a.txt before a.txt
            for kind in FOLDERS:
                file = given.joinpath(*parts[start:]).with_suffix(SUFFIX[kind])
                if form in (None, kind) and file.is_file():
                    return kind, file
        return None


# Where labels lie

JSON_BESIDE = ("boxes.json", "_annotations.coco.json")  # where there is more than one
FOLDERS = {"yolo": ("images", "labels"), "voc": ("JPEGImages", "Annotations")}  # of pictures, and of their labels
YAML = (".yaml", ".yml")
SUFFIX = {"coco": ".json", "yolo": ".txt", "voc": ".xml"}


def _coco_folders(picture: Path) -> Iterator[Path]:
    """Where COCO's file of a picture may lie: beside it, in annotations/, or next to the images/ that it is in."""
    yield picture.parent
    yield picture.parent.parent / "annotations"
    parts = picture.parts[:-1]
    if "images" in parts:
        around = Path(*parts[: len(parts) - 1 - parts[::-1].index("images")])
        yield from (around, around / "annotations")


def _json_in(folder: Path) -> Path | None:
    """The COCO file of a folder: the only JSON, or one by its usual name."""
    files = [path for path in sorted(folder.glob("*.json")) if path.is_file()] if folder.is_dir() else []
    found = {path.name: path for path in files}
    usual = next((found[name] for name in JSON_BESIDE if name in found), None)
    return next(iter(found.values())) if len(found) == 1 else usual


# COCO JSON


class Coco(Form):
    """A file of many pictures and of their annotations, which are read when their picture is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = _json(path)
        parts = {name: self._rows(data, name) for name in ("images", "annotations", "categories")}
        named = [row for row in parts["categories"] if row.get("name") is not None]
        self.names = {key: str(row["name"]) for row in named if (key := _id(row.get("id"))) is not None}
        self.categories = {str(row["name"]): _without(row, "id", "name") for row in named}
        self.head = _without(data, *parts)
        self.entries = parts["images"]
        self.ids = Counter(_id(entry.get("id")) for entry in self.entries)
        self.rows: dict[object, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for k, row in enumerate(parts["annotations"]):
            self.rows[_id(row.get("image_id"))].append((k, row))
        self._of: dict[Path, int | str] = {}  # an entry's number, or why there is none
        self._unnamed: dict[str, int] = {}

    def _rows(self, data: Any, name: str) -> list[dict[str, Any]]:
        rows = data.get(name, [] if name == "categories" else None) if isinstance(data, dict) else None
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise UserError(f"{self.path}: not COCO JSON: expected an object with {name}, a list of objects")
        return rows

    def match(self, pictures: Iterable[Path]) -> None:
        """Find the entry of each picture: that whose ``file_name`` has most of the end of its path.

        Pictures move to other folders, so that their own name is enough where there is one such entry and picture.
        """
        by_name: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        for k, entry in enumerate(self.entries):
            parts = _parts(entry["file_name"]) if isinstance(entry.get("file_name"), str) else ()
            if parts:
                by_name[parts[-1]].append((k, parts))
        claims: dict[int, list[tuple[int, Path]]] = defaultdict(list)
        for picture in pictures:
            own = _parts(str(picture.absolute()))
            scores = [(_common_end(own, parts), k) for k, parts in by_name[own[-1]]]
            highest = max(scores, default=(0, 0))[0]
            best = [k for score, k in scores if score == highest]
            if len(best) == 1:
                claims[best[0]].append((highest, picture))
            else:
                self._of[picture] = f"{len(best) or 'no'} entries with this file_name in {self.path}"
        for k, some in claims.items():
            score = max(some)[0]
            most = [each for each, _ in some].count(score)
            for each, picture in some:
                if each < score:
                    self._of[picture] = f"no entries with this file_name in {self.path}"
                else:
                    self._of[picture] = k if most == 1 else f"an entry in {self.path} that fits {most} pictures"

    def read(self, picture: Path, size: tuple[int, int], notes: Notes) -> list[Labelled]:
        k = self._of[picture]
        if isinstance(k, str):
            raise UnusableError(k)
        entry, found = self.entries[k], []
        _check_size(entry.get("width"), entry.get("height"), size, "the JSON")
        if _id(entry.get("id")) is None or self.ids[_id(entry["id"])] > 1:
            raise UnusableError(f"an entry without an id of its own in {self.path}")
        for number, row in self.rows[_id(entry["id"])]:
            place = f"annotations[{number}] in {self.path.name}"
            with _noted("shape left out", place, notes):
                shape = None
                shape = self._shape(row, size)
            with _noted("left out", place, notes):
                found.append(_kept(self._labelled(row, shape), size, notes, place))
        return found

    def numbers(self) -> dict[str, int]:
        return {**self._unnamed, **{name: number for number, name in self.names.items() if _is_number(number)}}

    def about(self, picture: Path) -> Mapping[str, Any]:
        k = self._of[picture]
        return {} if isinstance(k, str) else _without(self.entries[k], "id", "file_name", "width", "height")

    def _shape(self, row: dict[str, Any], size: tuple[int, int]) -> Shape | None:
        try:
            shape = shape_of(row.get("segmentation"))
        except ValueError as error:
            raise UnusableError(error) from error
        if isinstance(shape, Runs) and shape.size != size:
            raise UnusableError("run lengths of a picture of another size")
        return shape

    def _labelled(self, row: dict[str, Any], shape: Shape | None) -> Labelled:
        box = row.get("bbox")
        if box is None and shape is not None:
            corners = shape.box()
        elif isinstance(box, list) and len(box) == 4:
            x, y, w, h = _numbers(box, "a bbox")
            corners = (x, y, x + w, y + h)
        else:
            raise UnusableError("no bbox x y w h, and no segmentation")
        category = row.get("category_id")
        number = _id(category)
        label = OBJECT if category is None else self.names.get(number, f"class {category}")
        if _is_number(number) and number not in self.names:
            self._unnamed[label] = number
        told = row.get("keypoints")
        points = _numbers(told, "keypoints") if isinstance(told, list) and len(told) % 3 == 0 else []
        keypoints = tuple(zip(points[0::3], points[1::3], points[2::3], strict=True))
        crowd = bool(_number(row.get("iscrowd") or 0, "an iscrowd"))
        return Labelled(corners, label, shape, keypoints, crowd, row)


def _without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _is_number(number: object) -> TypeGuard[int]:
    """Whether a class may keep a number."""
    return isinstance(number, int) and 0 <= number < 2**31


def _json(path: Path) -> Any:
    if not path.is_file():  # but a pipe, say, which may never end
        raise UserError(f"{path}: not a file")
    try:
        return json.loads(path.read_text("utf-8-sig"), parse_constant=lambda _: None)  # NaN is no JSON
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the name of a file, the same however a system spells them."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", "."))


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last parts are the same."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _id(value: object) -> object:
    """An id, which tools write as a number or as its text."""
    if isinstance(value, str):
        text = value.strip()
        return int(text) if re.fullmatch("0|-?[1-9][0-9]{0,18}", text) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


# YOLO txt


class Yolo(Form):
    """The file of one picture: a line an object, its class and then shares of the picture's width and height.

    ``x y w h`` of a box, or points of a polygon; those of oriented boxes are polygons of four. ``names``: of the
    classes, and of how many numbers keypoints after the box are, as ``data.yaml`` tells both.
    """

    def __init__(self, path: Path, names: YoloNames) -> None:
        self.path, self.names = path, names
        self._unnamed: dict[str, int] = {}

    def numbers(self) -> dict[str, int]:
        told = {name: number for number, name in self.names.classes.items() if _is_number(number)}
        return {**self._unnamed, **told}

    def read(self, picture: Path, size: tuple[int, int], notes: Notes) -> list[Labelled]:
        found = []
        for number, line in enumerate(_text(self.path).splitlines(), start=1):
            place = f"{self.path.name} line {number}"
            with _noted("left out", place, notes):
                if line.strip():
                    found.append(_kept(self._labelled(line.split(), size), size, notes, place))
        return found

    def _labelled(self, words: Sequence[str], size: tuple[int, int]) -> Labelled:
        kind, *numbers = _numbers(words, "a line")
        if kind < 0 or not kind.is_integer():
            raise UnusableError("a class that is no whole number")
        label = self.names.classes.get(int(kind))
        if label is None:
            label = f"class {int(kind)}"
            self._unnamed[label] = int(kind)
        values = np.array(numbers)
        count, each = self.names.keypoints
        with_points = count > 0 and len(values) == 4 + count * each
        if not (len(values) in (4, 5) or with_points or (len(values) >= 6 and len(values) % 2 == 0)):
            raise UnusableError(f"{1 + len(values)} numbers, where a box has 5, and a polygon an odd number from 7 on")
        shares = values[: 4 if with_points or len(values) < 6 else None]
        if (np.abs(shares) > 2).any():
            raise UnusableError("numbers that are no shares of the picture")
        height, width = size
        if len(shares) > 4:
            shape = Polygons((shares.reshape(-1, 2) * (width, height),))
            return Labelled(shape.box(), label, shape)
        x, y, w, h = shares * (width, height, width, height)
        points = []
        for point in values[4:].reshape(count, each) if with_points else ():
            seen = float(point[2]) if each == 3 else 2.0
            points.append((float(point[0] * width), float(point[1] * height), seen))
        return Labelled((x - w / 2, y - h / 2, x + w / 2, y + h / 2), label, None, tuple(points))


class YoloNames(NamedTuple):
    """What ``data.yaml``, or a list of classes, says of the files of pictures."""

    classes: Mapping[int, str] = {}
    keypoints: tuple[int, int] = (0, 0)  # how many, and of how many numbers


def _names_file(labels: Path) -> Path | None:
    """The ``data.yaml`` of a data set, or the ``classes.txt`` that annotation tools write."""
    for folder in list(labels.absolute().parents)[:4]:
        for name in ("data.yaml", "data.yml", "dataset.yaml", "classes.txt"):
            if (folder / name).is_file():
                return folder / name
    return None


def _names_of(path: Path | None) -> YoloNames:
    if path is None:
        return YoloNames()
    try:
        text = _text(path)
    except UnusableError as error:
        raise UserError(f"{path}: {error}") from error
    if path.suffix.lower() not in YAML:
        return YoloNames(dict(enumerate(line.strip() for line in text.splitlines())))
    import yaml  # of which nothing else has need

    try:
        data = yaml.safe_load(text)
        names, points = data.get("names", {}), data.get("kpt_shape") or (0, 0)
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        classes = {int(key): name for key, name in pairs}
        if any(isinstance(name, (list, dict, set)) for name in classes.values()):  # whose text may be endless
            raise ValueError("names that are no text")
        count, each = points
        if each not in (0, 2, 3):
            raise ValueError("kpt_shape")
        return YoloNames({key: str(name) for key, name in classes.items()}, (int(count), int(each)))
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:  # whatever its constructors raise
        raise UserError(f"{path}: not the data.yaml of YOLO ({error})") from error


# Pascal VOC XML


class Voc(Form):
    """The file of one picture. Its pixels count from 1, and boxes hold their last pixel."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, picture: Path, size: tuple[int, int], notes: Notes) -> list[Labelled]:
        try:
            root = ElementTree.fromstring(_text(self.path))
        except ElementTree.ParseError as error:
            raise UnusableError(f"labels that are not XML: {error}") from error
        if root.tag != "annotation":
            raise UnusableError(f"labels that are not Pascal VOC XML, but {root.tag}")
        _check_size(root.findtext("size/width") or None, root.findtext("size/height") or None, size, "the XML")
        found = []
        for number, item in enumerate(root.iter("object"), start=1):
            place = f"{self.path.name} object {number}"
            with _noted("left out", place, notes):
                found.append(_kept(self._labelled(item), size, notes, place))
        return found

    def _labelled(self, item: ElementTree.Element) -> Labelled:
        words = [item.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
        x1, y1, x2, y2 = _numbers(words, "a bndbox")
        extra = {name: (item.findtext(name) or "").strip() for name in ("pose", "truncated", "difficult", "occluded")}
        label = " ".join((item.findtext("name") or "").split()) or OBJECT
        return Labelled((x1 - 1, y1 - 1, x2, y2), label, extra={k: v for k, v in extra.items() if v})


# Numbers


def _text(path: Path) -> str:
    """The text of a label file of one picture."""
    try:
        if path.stat().st_size > LARGEST:
            raise UnusableError(f"labels of more than {LARGEST >> 20} MB")
        return path.read_text("utf-8-sig")
    except ValueError as error:
        raise UnusableError(f"labels that are not UTF-8: {error}") from error
    except OSError as error:
        raise UnusableError(f"labels that cannot be read: {error}") from error


@contextmanager
def _noted(what: str, place: str, notes: Notes) -> Iterator[None]:
    """Note what cannot be used and go on."""
    try:
        yield
    except UnusableError as reason:
        notes.add(what, reason, place)


def _numbers(values: Sequence[object], what: str) -> list[float]:
    return [_number(value, what) for value in values]


def _number(value: object, what: str) -> float:
    """A number, which tools write as its text too; raises UnusableError of anything else."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) < FAR:
        raise UnusableError(f"{what} of which something is no number")
    return number


def _check_size(width: object, height: object, size: tuple[int, int], told_by: str) -> None:
    """Raise unless a file tells the size of its picture, or none."""
    for name, told, real in (("width", width, size[1]), ("height", height, size[0])):
        if told is not None and _number(told, f"a {name}") not in (real, 0):  # some tools write 0
            raise UnusableError(f"the picture's upright {name} is {real}, but {told_by} says {told}")


def _kept(found: Labelled, size: tuple[int, int], notes: Notes, place: str) -> Labelled:
    """An object with its box cut to the picture; raises UnusableError if nothing of it is there."""
    height, width = size
    x1, y1, x2, y2 = map(float, found.box)
    if not (np.float32(x2) > np.float32(x1) and np.float32(y2) > np.float32(y1)):
        raise UnusableError("a box without area")
    inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if not (inside[2] > inside[0] and inside[3] > inside[1]):
        raise UnusableError("a box beside its picture")
    out = max(abs(a - b) for a, b in zip(inside, found.box, strict=True))
    if out > ROUNDING:
        notes.add("cut to the picture", "a box that sticks out", place)
    return found._replace(box=inside)
