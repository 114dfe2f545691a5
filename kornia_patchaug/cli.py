"""The command ``kornia-patchaug preview``: arguments, files and exit codes; boxes are read from COCO JSON."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from kornia_patchaug import __version__
from kornia_patchaug.boxes import convert_boxes
from kornia_patchaug.functional import CLEAR_PADDINGS, PADDINGS
from kornia_patchaug.preview import Picture, Ranges, contact_sheet, page, picture_tensor, sweep
from kornia_patchaug.theta import OUTLINES

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
BOXES_FILE = "boxes.json"  # beside the pictures, unless --boxes says otherwise
TOLERANCE = 0.5  # pixels that a box may stick out of its picture: annotation tools round


class UserError(Exception):
    """Something that the person at the keyboard can put right; the text is one line."""


class Entry(NamedTuple):
    """A picture as the JSON knows it."""

    size: tuple[object, object]  # (width, height); None where the JSON does not say
    boxes: list[list[float]]  # x y w h
    labels: list[str]


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


def main(argv: Sequence[str] | None = None, *, prog: str = "kornia-patchaug") -> int:
    """Run the command; returns the exit code: 0, 2 after an error, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(prog)
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help(sys.stderr)
            return 2
        _preview(args, shlex.join([*prog.split(), *argv]))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 2
    except (UserError, OSError) as error:
        message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"kornia-patchaug: {' '.join(message.split())}", file=sys.stderr)
        return 2
    return 0


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Affine augmentation of the objects in images, for Kornia.")
    parser.add_argument("--version", action="version", version=f"kornia-patchaug {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    preview = commands.add_parser(
        "preview",
        help="show what RandomPatchAffine does to your pictures",
        description="Draw contact sheets of random draws of RandomPatchAffine, and an index.html that shows them all.",
    )
    option = preview.add_argument
    option("images", nargs="*", type=Path, metavar="PICTURE", help="files or folders (default: the bundled pictures)")
    option("--boxes", type=Path, metavar="FILE", help=f"COCO JSON (default: {BOXES_FILE} beside the pictures)")
    option("--degrees", type=_number(0, 360), default=15.0, metavar="D", help="turn by up to D either way (15)")
    option(
        "--translate",
        type=_number(0, 100),
        nargs=2,
        default=(0.05, 0.05),
        metavar=("X", "Y"),
        help="shift by up to these shares of the box's width and height (0.05 0.05), up to 1 with --clip",
    )
    option(
        "--scale",
        type=_number(0.01, 100),
        nargs=2,
        default=(0.9, 1.1),
        metavar=("LO", "HI"),
        help="enlarge by LO to HI times (0.9 1.1)",
    )
    option("--shear", type=_number(0, 89), default=0.0, metavar="S", help="shear by up to S degrees along x (0)")
    option(
        "--clip",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="paint objects within their boxes only, or wherever they land (--no-clip)",
    )
    option(
        "--fill",
        type=_fill,
        default="surroundings",
        metavar="F",
        help="what an object leaves behind: surroundings, a grey from 0 to 1, or none: itself (surroundings)",
    )
    option(
        "--matte",
        choices=("none", *OUTLINES),
        default="box",
        metavar="SHAPE",
        help="soft edges of objects: box, ellipse, which also fits labels to round objects, or none (box)",
    )
    option(
        "--feather",
        type=_number(0, 1),
        default=0.1,
        metavar="F",
        help="how wide these are, as a share of half the object; wider ones leave a rim where it was (0.1)",
    )
    option(
        "--padding-mode",
        choices=PADDINGS,
        metavar="M",
        help=f"what lies beyond a patch: {', '.join(PADDINGS)} (image, which is its surroundings, with --clip; "
        f"without, {' or '.join(CLEAR_PADDINGS)}, which are the same)",
    )
    option("--draws", type=_whole(1, 100), default=5, metavar="K", help="random draws a picture (5)")
    option("--seed", type=_whole(0, 2**63 - 1), default=0, metavar="S", help="the same seed, the same sheets (0)")
    option("--out", type=Path, default=Path("out/preview"), metavar="DIR", help="made if missing (out/preview)")
    option("--animate", action="store_true", help="also a GIF a picture, which sweeps the parameters")
    return parser


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a number from {low:g} to {high:g}, got {text!r}")
        return value

    return parse


def _fill(text: str) -> float | str | None:
    if text in ("none", "surroundings"):
        return None if text == "none" else text
    try:
        return _number(0, 1)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected surroundings, none, or a number from 0 to 1, got {text!r}"
        ) from None


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text!r}")
        return int(text)

    return parse


def _preview(args: argparse.Namespace, command: str) -> None:
    if args.scale[0] > args.scale[1]:
        raise UserError(f"argument --scale: expected LO <= HI, got {args.scale[0]:g} {args.scale[1]:g}")
    if args.clip and max(args.translate) > 1:
        raise UserError(f"argument --translate: expected 0 to 1 with --clip, got {max(args.translate):g}")
    paddings = PADDINGS if args.clip else CLEAR_PADDINGS
    padding = args.padding_mode or ("image" if args.clip else "zeros")
    if padding not in paddings:
        expected = " or ".join(paddings)
        raise UserError(f"argument --padding-mode: expected {expected} without --clip, got {padding!r}")
    ranges = Ranges(
        args.degrees,
        tuple(args.translate),
        tuple(args.scale),
        args.shear,
        padding,
        clip=args.clip,
        fill=args.fill,
        matte=None if args.matte == "none" else args.matte,
        feather=args.feather,
    )
    paths, coco = _find_pictures(args.images), cache(_read_coco)
    entries = [(path, _entry(path, args.boxes or path.parent / BOXES_FILE, coco)) for path in paths]
    _make_folder(args.out, paths)
    shown: list[tuple[Picture, str, str | None]] = []
    try:
        for path, entry in tqdm(entries, unit="picture", disable=None):  # None: no bar in a file or pipe
            picture = _read(path, entry)
            name = _free_name(path.stem, [Path(sheet).stem for _, sheet, _ in shown])
            buffer = io.BytesIO()
            contact_sheet(picture, ranges, draws=args.draws, seed=args.seed).save(buffer, "PNG")
            _write(args.out / f"{name}.png", buffer.getvalue())
            if args.animate:
                _write(args.out / f"{name}.gif", sweep(picture, ranges))
            shown.append((picture, f"{name}.png", f"{name}.gif" if args.animate else None))
    finally:  # what was drawn before an error can be looked at
        if shown:
            _write(args.out / "index.html", page(command, shown).encode(errors="replace"))


def _find_pictures(given: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in given or [_bundled()]:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no pictures ({' '.join(s[1:] for s in SUFFIXES)}) in this folder")
        found += inside
    return list(dict.fromkeys(found))


def _bundled() -> Path:
    """The demo pictures: inside the package in a wheel, beside it in the repository."""
    package = Path(str(resources.files("kornia_patchaug")))
    inside, beside = package / "demo_images", package.parent / "demo_images"
    return inside if inside.is_dir() else beside


def _make_folder(out: Path, pictures: Sequence[Path]) -> None:
    if out.resolve() in {path.resolve().parent for path in pictures}:
        raise UserError(f"argument --out: {out} holds the pictures themselves; name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(f"argument --out: cannot write into {out} ({error.strerror})") from error


def _free_name(stem: str, taken: Sequence[str]) -> str:
    """``stem``, or with a number where two pictures share it; file systems may not tell A from a."""
    lower, name, count = [other.lower() for other in taken], stem, 1
    while name.lower() in lower:
        count += 1
        name = f"{stem}_{count}"
    return name


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(str(path).encode(encoding, "backslashreplace").decode(encoding), file=sys.stdout)
    sys.stdout.flush()


def _read(path: Path, entry: Entry) -> Picture:
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = _as_rgb(ImageOps.exif_transpose(file))
    except Exception as error:  # Pillow's decoders raise errors of many kinds for a broken file
        raise UserError(f"{path}: not a picture that can be read ({error})") from error
    for name, told, real in zip(("width", "height"), entry.size, image.size, strict=True):
        if told is not None and told != real:
            raise UserError(f"{path}: the picture's upright {name} is {real}, but the JSON says {told}")
    boxes = convert_boxes(torch.tensor(entry.boxes, dtype=torch.float64).reshape(-1, 4), "xywh", "xyxy")
    low, high = -TOLERANCE, torch.tensor(image.size).repeat(2) + TOLERANCE
    outside = ((boxes < low) | (boxes > high)).any(1).nonzero()
    if len(outside):
        n = int(outside[0])
        raise UserError(
            f"{path}: the box of object {n + 1} ({entry.labels[n]}), x y w h = {entry.boxes[n]}, sticks out of the "
            f"picture, which is {image.size[0]} x {image.size[1]}"
        )
    return Picture(path.name, picture_tensor(image), boxes.float(), tuple(entry.labels))


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _entry(path: Path, boxes_file: Path, coco: Callable[[Path], dict[str, list[Entry]]]) -> Entry:
    entries = coco(boxes_file).get(path.name, [])
    if len(entries) != 1:
        count = "no entry" if not entries else f"{len(entries)} entries"
        raise UserError(f"{path}: {count} with this file_name in {boxes_file}; expected one")
    return entries[0]


def _read_coco(path: Path) -> dict[str, list[Entry]]:
    """The entries of a COCO file by the last part of their ``file_name``; crowds are left out."""
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; boxes are read from COCO JSON, pass it as --boxes FILE") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error

    def expect(condition: bool, what: str) -> None:
        if not condition:
            raise UserError(f"{path}: not COCO JSON: {what}")

    expect(isinstance(data, dict), "expected an object with the lists images and annotations")
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in ("images", "annotations", "categories"):
        rows[name] = data.get(name, [] if name == "categories" else None)
        listed = isinstance(rows[name], list) and all(isinstance(row, dict) for row in rows[name])
        expect(listed, f"expected {name}, a list of objects")
    names: dict[object, str] = {}
    for k, row in enumerate(rows["categories"]):
        expect(_is_id(row.get("id")) and isinstance(row.get("name"), str), f"categories[{k}] needs an id and a name")
        names[row["id"]] = row["name"]
    by_id: dict[object, Entry] = {}
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for k, row in enumerate(rows["images"]):
        good = _is_id(row.get("id")) and isinstance(row.get("file_name"), str)
        expect(good, f"images[{k}] needs an id and a file_name")
        expect(row["id"] not in by_id, f"images[{k}] has the id of another, {row['id']}")
        by_id[row["id"]] = entry = Entry((row.get("width"), row.get("height")), [], [])
        by_name[row["file_name"].replace("\\", "/").rsplit("/", 1)[-1]].append(entry)
    for k, row in enumerate(rows["annotations"]):
        if row.get("iscrowd"):
            continue
        box: Any = row.get("bbox")
        expect(_is_id(row.get("image_id")), f"annotations[{k}] needs an image_id")
        numbers = isinstance(box, list) and len(box) == 4 and all(_is_number(value) for value in box)
        expect(numbers and min(box[2:]) > 0, f"annotations[{k}] needs a bbox x y w h with w, h > 0, got {box}")
        if row["image_id"] in by_id:  # people cut the list of images down and leave the annotations
            by_id[row["image_id"]].boxes.append(box)
            category = row.get("category_id")
            by_id[row["image_id"]].labels.append(names.get(category, "object") if _is_id(category) else "object")
    return by_name


def _is_id(value: object) -> bool:
    return isinstance(value, int | str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e7  # no NaN either
