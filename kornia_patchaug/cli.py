"""The commands ``kornia-patchaug preview`` and ``augment``: arguments, files and exit codes."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import NoReturn

import torch
from tqdm import tqdm

from kornia_patchaug import __version__
from kornia_patchaug.augment import (
    Job,
    Recipe,
    begin,
    finish,
    free_name,
    leave_out,
    put,
    record,
    survey,
    trust_boxes,
    write_copy,
)
from kornia_patchaug.augmentation import ORDERS
from kornia_patchaug.functional import CLEAR_PADDINGS, PADDINGS
from kornia_patchaug.outlines import MANY
from kornia_patchaug.pages import Replay, Replayed, Shown, page, read_objects, read_replay
from kornia_patchaug.pictures import find_pictures, picture_size
from kornia_patchaug.preview import Picture, Ranges, contact_sheet, sweep
from kornia_patchaug.readers import FORMS, Labels, Notes, UnusableError, UserError
from kornia_patchaug.theta import OUTLINES
from kornia_patchaug.workers import spread
from kornia_patchaug.writers import lost_by

INDEX = "index.html"
MARK, LONG = b"<title>kornia_patchaug preview</title>", 2000  # of our own, and within so many bytes
LIMIT = 24  # pictures that are shown unless asked for more


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


def main(argv: Sequence[str] | None = None, *, prog: str = "kornia-patchaug") -> int:
    """Run the command; returns the exit code: 0, 2 after an error, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = parser_of(prog)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever called, as >&- does
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help(sys.stderr)
            return 2
        with warnings.catch_warnings():
            trust_boxes()
            COMMANDS[args.command](args, shlex.join([*prog.split(), *argv]))
    except KeyboardInterrupt:
        if args.command == "augment":
            print("kornia-patchaug: ended; the same with --resume goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 2
    except (UserError, OSError) as error:
        message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"kornia-patchaug: {' '.join(message.split())}", file=sys.stderr)
        return 2
    return 0


def parser_of(prog: str) -> Parser:
    """Of both commands, which are called ``prog``."""
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
    _add_options(option)
    option("--format", choices=FORMS, help="of the labels, where there are several (default: the first that is found)")
    option("--limit", type=_whole(1, 10**9), default=LIMIT, metavar="N", help=f"show the first N pictures ({LIMIT})")
    option("--draws", type=_whole(1, 100), default=5, metavar="K", help="random draws a picture (5)")
    option("--seed", type=_whole(0, 2**63 - 1), default=0, metavar="S", help="the same seed, the same sheets (0)")
    option("--out", type=Path, default=Path("out/preview"), metavar="DIR", help="made if missing (out/preview)")
    option("--animate", action="store_true", help="also a GIF a picture, which sweeps the parameters")
    option("--replay", type=Path, metavar="FILE", help="show the draw that a page saved, with the options of that")
    augment = commands.add_parser(
        "augment",
        help="write augmented copies of your pictures with their labels",
        description="Write copies of pictures in which each object moved by a random transform of its own, and their "
        "labels: for the same seed the same files, whatever --workers and --shard.",
    )
    option = augment.add_argument
    option("images", nargs="+", type=Path, metavar="PICTURE", help="files or folders")
    _add_options(option)
    option("--copies", type=_whole(1, 10**6), default=1, metavar="K", help="of each picture (1)")
    option("--paste", type=_whole(0, 1000), default=0, metavar="N", help="paste up to N copies of objects, too (0)")
    option(
        "--min-visible",
        type=_number(0, 1),
        default=0.1,
        metavar="S",
        help="leave out labels of objects of which a smaller share is seen (0.1)",
    )
    option("--seed", type=_whole(0, 2**63 - 1), default=0, metavar="S", help="the same seed, the same files (0)")
    option("--out", type=Path, required=True, metavar="DIR", help="made if missing, refused if there without --resume")
    option("--format", choices=FORMS, help="of the labels that are written (default: as they came)")
    option("--from", choices=FORMS, dest="read", help="of the labels that are read, where there are several")
    option("--workers", type=_whole(1, 1024), default=1, metavar="W", help="processes (1)")
    option("--shard", type=_shard, default=(0, 1), metavar="I/N", help="make part I, from 0 on, of N, as on a cluster")
    option("--resume", action="store_true", help="go on where the same call was ended")
    return parser


def _add_options(option: Callable[..., object]) -> None:
    """What commands share: where labels are, and how objects move."""
    option(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="COCO JSON, YOLO's data.yaml, or a folder of YOLO txt or Pascal VOC XML (default: what lies beside the "
        "pictures, or in annotations, labels or Annotations next to their folder)",
    )
    option("--strict", action="store_true", help="end where a label or picture cannot be used, and do not leave it out")
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
        choices=("none", "mask", *OUTLINES),
        metavar="SHAPE",
        help="what of an object moves: its mask, which polygons and run lengths are too; with soft edges its box, or "
        "the ellipse in it, which also fits labels to round objects; or none: all of its box (mask where labels have "
        "any, else box)",
    )
    option(
        "--feather",
        type=_number(0, 1),
        default=0.1,
        metavar="F",
        help="how wide these are, as a share of half the object; wider ones leave a rim where it was (0.1)",
    )
    option("--order", choices=ORDERS, default="area", help="what lies on top: small objects, or later rows (area)")
    option(
        "--padding-mode",
        choices=PADDINGS,
        metavar="M",
        help=f"what lies beyond a patch: {', '.join(PADDINGS)} (image, which is its surroundings, with --clip; "
        f"without, {' or '.join(CLEAR_PADDINGS)}, which are the same)",
    )


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


def _shard(text: str) -> tuple[int, int]:
    part, _, count = text.partition("/")
    try:
        shard = _whole(0, 10**6)(part), _whole(1, 10**6)(count)
    except argparse.ArgumentTypeError:
        shard = 0, 0
    if shard[0] >= shard[1]:
        raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N - 1, got {text!r}")
    return shard


def ranges_of(args: argparse.Namespace) -> Ranges:
    """What the options of either command say; raises UserError where they do not go together."""
    if args.scale[0] > args.scale[1]:
        raise UserError(f"argument --scale: expected LO <= HI, got {args.scale[0]:g} {args.scale[1]:g}")
    if args.clip and max(args.translate) > 1:
        raise UserError(f"argument --translate: expected 0 to 1 with --clip, got {max(args.translate):g}")
    paddings = PADDINGS if args.clip else CLEAR_PADDINGS
    padding = args.padding_mode or ("image" if args.clip else "zeros")
    if padding not in paddings:
        expected = " or ".join(paddings)
        raise UserError(f"argument --padding-mode: expected {expected} without --clip, got {padding!r}")
    return Ranges(
        args.degrees,
        tuple(args.translate),
        tuple(args.scale),
        args.shear,
        padding,
        clip=args.clip,
        fill=args.fill,
        matte=None if args.matte == "none" else args.matte or "mask",
        feather=args.feather,
        order=args.order,
    )


def _preview(args: argparse.Namespace, command: str) -> None:
    ranges, notes = ranges_of(args), Notes(args.strict)
    paths = find_pictures(args.images or [_bundled()], notes, args.out)
    labels = Labels(paths[: args.limit], args.boxes, args.format)
    classes = _classes(paths[: args.limit], labels)
    replay, draws, seed = None, args.draws, args.seed
    if args.replay is not None:
        replay, draws = _read_replay(args.replay), 1
        ranges, seed = ranges._replace(**replay.options, **replay.ranges), replay.seed
    _make_folder(args.out, paths)
    taken = set[str]()
    names = [free_name(f"{path.stem}.png", taken) for path in paths[: args.limit]]
    _check_free(args.out, names)
    shown: list[Shown] = []
    try:
        bar = tqdm(paths[: args.limit], unit="picture", disable=None)  # None: no bar in a file or pipe
        for path, name in zip(bar, names, strict=True):
            try:
                picture = read_objects(path, labels, notes)._replace(classes=classes)
                theta = None if replay is None else _theta_of(picture, replay.pictures)
            except UnusableError as reason:
                notes.add("left out", reason, str(path))
                continue
            own = ranges.fitting(picture)
            sheet, buffer = args.out / name, io.BytesIO()
            contact_sheet(picture, own, draws=draws, seed=seed, theta=theta).save(buffer, "PNG")
            _write(sheet, buffer.getvalue())
            if args.animate:
                _write(sheet.with_suffix(".gif"), sweep(picture, own))
            shown.append(Shown(picture, path.read_bytes(), theta))
    finally:  # what was drawn before an error can be looked at
        if shown:
            _write(args.out / INDEX, page(command, shown, ranges, seed, draws).encode(errors="replace"))
    _say(notes, bool(shown))
    if len(paths) > args.limit:
        print(f"kornia-patchaug: shown: {args.limit} of {len(paths)} pictures; --limit N shows more", file=sys.stderr)


def _classes(paths: Sequence[Path], labels: Labels) -> tuple[str, ...]:
    """All classes, by whose numbers objects are known if a picture has many: then they are the same on all sheets."""
    found, many = dict[str, None](), False
    for path in paths:
        with suppress(UnusableError):  # which is said later
            names = [each.label for each in labels.read(path, picture_size(path), Notes()) if not each.crowd]
            found, many = found | dict.fromkeys(names), many or len(names) > MANY
    return tuple(found) if many else ()


def _read_replay(path: Path) -> Replay:
    try:
        return read_replay(path.read_text("utf-8-sig"))
    except (UserError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error


def _theta_of(picture: Picture, replayed: Sequence[Replayed]) -> torch.Tensor:
    """How the objects of a picture moved in a draw; raises UnusableError if it has none of that picture."""
    size = tuple(picture.image.shape[1:])
    for each in replayed:
        same = (each.name, each.size, each.boxes.shape) == (picture.name, size, picture.boxes.shape)
        if same and torch.allclose(each.boxes, picture.boxes, atol=1e-3):
            return each.theta
    raise UnusableError("not in the draw that is replayed, with this name, size and boxes")


def _augment(args: argparse.Namespace, command: str) -> None:
    ranges, notes = ranges_of(args), Notes(args.strict)
    paths = find_pictures(args.images, notes, args.out)
    labels = Labels(paths, args.boxes, args.read)
    form = args.format or labels.form
    bar = tqdm(paths, "labels", unit="picture", leave=False, disable=None)
    dataset = survey(bar, labels, form, args.images, notes)
    recipe = Recipe(ranges, args.paste, args.min_visible, args.seed, form, dataset.schema)
    call = {"recipe": json.loads(json.dumps(recipe)), "copies": args.copies, "labels": dataset.digest}
    if not dataset.pictures:
        raise UserError("; ".join(notes.lines()))
    (shard, shards), total = args.shard, len(dataset.pictures) * args.copies
    begin(args.out, call, args.resume, shards > 1)
    names = [dataset.name(number, args.copies) for number in range(total)]
    own = [n for n in range(shard, total, shards) if "seed" not in (record(args.out, names[n], form) or {})]

    def jobs() -> Iterator[Job]:
        for number in own:
            try:
                yield dataset.job(number, args.copies, recipe)
            except UnusableError as reason:
                path = dataset.pictures[number // args.copies]
                notes.add("left out", leave_out(names[number], path, reason, args.out), str(path))

    make = partial(write_copy, recipe=recipe, out=args.out)
    done = spread(jobs(), make, args.workers, "--resume goes on where this ended")
    for job, reason in tqdm(done, unit="picture", total=len(own), disable=None):
        if reason is not None:
            notes.add("left out", reason, str(job.source.path))
    whole = finish(names, recipe, args.out)
    _say(notes, True)
    for what in lost_by(form, dataset.schema):
        print(f"kornia-patchaug: left out: {what}, for which {form} has no room", file=sys.stderr)
    done_so_far = f"{args.out}: shard {shard}/{shards} is done, others are not"
    _print(str(args.out / "manifest.jsonl") if whole else done_so_far)


COMMANDS = {"preview": _preview, "augment": _augment}


def _say(notes: Notes, any_used: bool) -> None:
    """Print what was left out, or raise if that is everything."""
    if not any_used:
        raise UserError("; ".join(notes.lines()))
    for line in notes.lines():
        print(f"kornia-patchaug: {line}", file=sys.stderr)


def _bundled() -> Path:
    """The demo pictures: inside the package in a wheel, beside it in the repository."""
    package = Path(str(resources.files("kornia_patchaug")))
    inside, beside = package / "demo_images", package.parent / "demo_images"
    return inside if inside.is_dir() else beside


def _make_folder(out: Path, pictures: Sequence[Path]) -> None:
    if out.resolve() in {folder for path in pictures for folder in (path.parent.resolve(), path.resolve().parent)}:
        raise UserError(f"argument --out: {out} holds the pictures themselves; name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(f"argument --out: cannot write into {out} ({error.strerror})") from error


def _check_free(out: Path, names: Sequence[str]) -> None:
    """Raise if there are files of others where those of a preview go."""
    index = out / INDEX
    if index.is_file() and MARK in index.read_bytes()[:LONG]:
        return
    for path in (out / name for name in (*names, INDEX)):
        if path.is_file() and not path.is_symlink():
            raise UserError(f"argument --out: {path} is there already, and not by preview; name another folder")


def _write(path: Path, data: bytes) -> None:
    """Write a file and print its name."""
    put(path, data)
    _print(str(path))


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stdout)
    sys.stdout.flush()
