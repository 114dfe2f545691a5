"""Data sets of augmented copies of pictures: the same files for any number of workers and shards, whole or not there.

A copy depends on the seed, its picture's name and its number alone. Its label file and its record are written before
it, and all are renamed into their places: what has its picture is done.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kornia_patchaug.detection import DetectionSequential
from kornia_patchaug.pasting import RandomPatchPaste
from kornia_patchaug.pictures import picture_size, read_picture
from kornia_patchaug.preview import Ranges
from kornia_patchaug.readers import Labelled, Labels, Notes, UnusableError, UserError, check_room, mask_of
from kornia_patchaug.shapes import Polygons, Runs, Shape, polygons_of, runs_of
from kornia_patchaug.writers import FOLDERS, RECORDS, STAMP, Schema, Written, files_of, label_files, record_of, summary

PICTURE_FOLDERS = {folder for folder, _ in FOLDERS.values()}
PART = ".part"  # of a file that is being written
DONORS = 3  # other pictures that copies are pasted from
JPEG = (".jpg", ".jpeg")
LONGEST = 200  # bytes of a name, to which a number and a suffix are added


class Recipe(NamedTuple):
    """What is done to each picture, and how it is written."""

    ranges: Ranges
    paste: int  # the most copies of objects that are pasted into a picture
    min_visible: float
    seed: int
    form: str
    schema: Schema


class Source(NamedTuple):
    """A picture that is read, with its objects."""

    path: Path
    objects: tuple[Labelled, ...]
    about: Mapping[str, Any]  # what else COCO's file says of it


class Job(NamedTuple):
    """A picture that is made."""

    name: str  # below the folder of pictures
    source: Source
    donors: tuple[Source, ...]
    seed: int


def augmented(image: torch.Tensor, job: Job, recipe: Recipe) -> tuple[torch.Tensor, list[Labelled]]:
    """A picture ``(3, H, W)`` of bytes and its objects, augmented. Crowds stay as they are."""
    generator = torch.Generator().manual_seed(job.seed)
    donors = _readable(job.donors)
    ranges = recipe.ranges
    if ranges.matte == "mask" and not recipe.schema.shapes:
        ranges = ranges._replace(matte="box")
    sources = [job.source, *(donor for donor, _ in donors)]
    pool = [[each for each in source.objects if not each.crowd] for source in sources]
    steps: list[torch.nn.Module] = [ranges.augmentation(job.seed)]
    if recipe.paste and any(pool):
        pictures = [image, *(picture for _, picture in donors)]
        starts = [sum(map(len, pool[:i])) for i in range(len(pool))]
        bank = [
            _target(objects, (each.shape[1], each.shape[2]), recipe, start)
            for objects, each, start in zip(pool, pictures, starts, strict=True)
        ]
        paste = RandomPatchPaste(
            (0, recipe.paste),
            donors=(pictures, bank),
            degrees=ranges.degrees,
            scale=ranges.scale,
            matte=ranges.matte,
            feather=ranges.feather,
            p=1.0,
            generator=generator,
        )
        steps.append(paste)
    size = (int(image.shape[1]), int(image.shape[2]))
    run = DetectionSequential(*steps, min_visible=recipe.min_visible)
    images, targets = run([image], [_target(pool[0], size, recipe, 0)])
    objects = [each for objects in pool for each in objects]
    found = _objects(targets[0], objects, recipe)
    return images[0], found + [each for each in job.source.objects if each.crowd]


def _readable(donors: Sequence[Source]) -> list[tuple[Source, torch.Tensor]]:
    """Those whose pictures can be read, with them."""
    found = []
    for donor in donors:
        with suppress(UnusableError):
            found.append((donor, picture_bytes(donor.path)))
    return found


def picture_bytes(path: Path) -> torch.Tensor:
    """A picture as ``(3, H, W)`` bytes."""
    return torch.from_numpy(np.array(read_picture(path))).permute(2, 0, 1).contiguous()


def _target(objects: Sequence[Labelled], size: tuple[int, int], recipe: Recipe, start: int) -> dict[str, Any]:
    """Objects as `DetectionSequential` takes them; ``row`` tells which of all each is, also once it is copied."""
    count, points = len(objects), recipe.schema.keypoints
    target: dict[str, Any] = {
        "boxes": torch.tensor([each.box for each in objects], dtype=torch.float64).reshape(-1, 4),
        "labels": torch.tensor([recipe.schema.classes[each.label] for each in objects], dtype=torch.int64),
        "row": torch.arange(start, start + count),
    }
    if recipe.schema.shapes:
        check_room(len(objects), size)
        masks = [mask_of(each, size) for each in objects]
        target["masks"] = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *size), bool))
    if points:
        rows = [(*each.keypoints, *[(0.0, 0.0, 0.0)] * points)[:points] for each in objects]
        target["keypoints"] = torch.tensor(rows, dtype=torch.float64).reshape(-1, points, 3)
    return target


def _objects(target: dict[str, Any], objects: Sequence[Labelled], recipe: Recipe) -> list[Labelled]:
    found = []
    for k, row in enumerate(target["row"].tolist()):
        was, shape = objects[row], None
        if recipe.schema.shapes:
            shape = _shape(target["masks"][k].numpy(), was)
        points = tuple(map(tuple, target["keypoints"][k].tolist())) if recipe.schema.keypoints else ()
        found.append(was._replace(box=tuple(target["boxes"][k].tolist()), shape=shape, keypoints=points))
    return found


def _shape(mask: NDArray[np.bool_], was: Labelled) -> Shape | None:
    """The shape of a mask in the form of what it was; and that itself, where nothing has changed."""
    if was.shape is not None and np.array_equal(was.shape.mask(mask.shape), mask):
        return was.shape
    return runs_of(mask) if isinstance(was.shape, Runs) else polygons_of(mask, steps=False)


# Files


def write_copy(job: Job, recipe: Recipe, out: Path) -> str | None:
    """Make a picture and write it with its labels; returns why it cannot be."""
    torch.set_num_threads(1)  # a process a core
    trust_boxes()
    file = picture_file(out, job.name, recipe.form)
    try:
        image = picture_bytes(job.source.path)
        made, objects = augmented(image, job, recipe)
        data = _encoded(made, file)
    except UnusableError as reason:
        return leave_out(job.name, job.source.path, reason, out)
    size = (int(image.shape[1]), int(image.shape[2]))
    written = Written(job.name, size, objects, job.source.about)
    for name, text in files_of(written, recipe.form, recipe.schema).items():
        put(out / name, text.encode(errors="surrogateescape"))
    told = {
        **record_of(written, recipe.form, recipe.schema),
        "of": str(job.source.path),
        "seed": job.seed,
        "pasted_from": [str(donor.path) for donor in job.donors],
    }
    put(record_file(out, job.name), json.dumps(told).encode())
    put(file, data)
    return None


def leave_out(job_name: str, source: Path, reason: object, out: Path) -> str:
    """Record that a copy cannot be made."""
    told = {"file_name": job_name, "of": str(source), "left_out": str(reason)}
    put(record_file(out, job_name), json.dumps(told).encode())
    return str(reason)


def _encoded(picture: torch.Tensor, file: Path) -> bytes:
    image, buffer = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()), io.BytesIO()
    try:
        if file.suffix.lower() in JPEG:
            image.save(buffer, "JPEG", quality=95)
        else:
            image.save(buffer, "PNG")
    except OSError as error:  # more pixels than the form can have
        raise UnusableError(f"cannot be written as {file.suffix}: {error}") from error
    return buffer.getvalue()


def put(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all. A link there is replaced, and not what it leads to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}{PART}")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path.exists():
            return  # whoever swept up took it for what a killed process left, as all is there
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        part.unlink(missing_ok=True)


def picture_file(out: Path, name: str, form: str) -> Path:
    return out / FOLDERS[form][0] / name


def record_file(out: Path, name: str) -> Path:
    return out / RECORDS / "pictures" / f"{name}.json"


def record(out: Path, name: str, form: str) -> dict[str, Any] | None:
    """What is known of a picture that is there with its labels, or left out; None if it is to be made."""
    try:
        found: dict[str, Any] = json.loads(record_file(out, name).read_bytes())
        if found["file_name"] != name:
            return None
        if "left_out" in found:
            return found
        whole = picture_file(out, name, form).stat().st_size > 0
        return found if whole and all((out / file).is_file() for file in label_files(name, form)) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


# Data sets


class Dataset(NamedTuple):
    """What copies are made of."""

    pictures: list[Path]  # those whose objects are told
    below: list[str]  # their paths below the folders that were given
    names: list[str]  # what they are called below the folder that is written
    labels: Labels
    schema: Schema
    digest: str  # of all labels

    def name(self, number: int, copies: int) -> str:
        """What a copy is called; they are counted picture by picture."""
        stem, suffix = os.path.splitext(self.names[number // copies])
        return f"{stem}_{number % copies}{suffix if suffix.lower() in JPEG else '.png'}"

    def job(self, number: int, copies: int, recipe: Recipe) -> Job:
        """How a copy is made; raises UnusableError where its picture or labels are there no longer."""
        own = number // copies
        key = f"{recipe.seed}/{number % copies}/{self.below[own]}".encode(errors="surrogateescape")
        seed = int.from_bytes(hashlib.sha256(key).digest()[:6])
        donors = []
        if recipe.paste:
            drawn = random.Random(seed).sample(range(len(self.pictures)), min(DONORS + 1, len(self.pictures)))
            for other in [other for other in drawn if other != own][:DONORS]:
                with suppress(UnusableError):
                    donors.append(self.source(self.pictures[other]))
        return Job(self.name(number, copies), self.source(self.pictures[own]), tuple(donors), seed)

    def source(self, picture: Path) -> Source:
        """A picture with its objects."""
        found = self.labels.read(picture, picture_size(picture), Notes())
        return Source(picture, tuple(found), self.labels.about(picture))


def survey(pictures: Iterable[Path], labels: Labels, form: str, roots: Sequence[Path], notes: Notes) -> Dataset:
    """Read all labels once: which pictures have any, and what the files that are written have in common."""
    used, paths, names, taken = list[Path](), list[str](), list[str](), set[str]()
    seen, shapes, crowds, points, digest = set[str](), False, False, 0, hashlib.sha256()
    for picture in pictures:
        below = _below(picture, roots)
        try:
            size = picture_size(picture)
            found = labels.read(picture, size, notes)
            if max(map(len, map(os.fsencode, below.split("/")))) > LONGEST:
                raise UnusableError("a name that is too long")
        except UnusableError as reason:
            notes.add("left out", reason, str(picture))
            continue
        digest.update(repr((below, size, [_told(each) for each in found])).encode(errors="surrogateescape"))
        used.append(picture)
        paths.append(below)
        own = re.sub(r"[\x00-\x1f\x7f]", "_", _own_path(below))
        names.append(free_name(own.replace("/", "_") if form == "voc" else own, taken))
        seen |= {each.label for each in found}
        shapes |= any(each.shape is not None for each in found)
        crowds |= any(each.crowd for each in found)
        points = max([points, *(len(each.keypoints) for each in found)])
    told = labels.numbers()
    free = (k for k in range(1, len(seen) + len(told) + 1) if k not in told.values())
    numbers = {**told, **{name: next(free) for name in sorted(seen - set(told))}}
    if len(set(numbers.values())) < len(numbers) or (form == "yolo" and labels.form != "yolo"):  # of two data sets, say
        numbers = {name: k for k, name in enumerate(sorted(numbers, key=numbers.__getitem__))}
    schema = Schema(numbers, shapes, points, crowds, labels.categories(), labels.head())
    return Dataset(used, paths, names, labels, schema, digest.hexdigest())


def _told(found: Labelled) -> tuple[Any, ...]:
    """All of an object, as text that is the same wherever it is read."""
    shape = found.shape
    arrays = () if shape is None else shape.rings if isinstance(shape, Polygons) else (shape.counts,)
    return (*found._replace(shape=None), [array.tolist() for array in arrays])


def trust_boxes() -> None:
    """No warning of boxes that might not be in pixels: those of labels are."""
    warnings.filterwarnings("ignore", "boxes: expected", UserWarning)


def finish(names: Sequence[str], recipe: Recipe, out: Path) -> bool:
    """Write the files of all pictures, from the records of these, if no shard has any of them to make."""
    if any(record(out, name, recipe.form) is None for name in names):
        return False

    def told() -> Iterator[dict[str, Any]]:  # one after another, as together they take much memory
        return (record(out, name, recipe.form) or {} for name in names)

    made = (each for each in told() if "left_out" not in each)
    for file, text in summary(made, recipe.form, recipe.schema).items():
        put(out / file, text.encode(errors="surrogateescape"))
    lines = (json.dumps({key: each[key] for key in each if key not in ("annotations", "about")}) for each in told())
    put(out / "manifest.jsonl", "".join(f"{line}\n" for line in lines).encode())
    for part in out.rglob(f".*{PART}"):  # of processes that were killed
        if part.parent != out:
            part.unlink(missing_ok=True)
    return True


def begin(out: Path, call: dict[str, Any], resume: bool, sharded: bool) -> None:
    """Make the folder, or raise unless it is one of the same call that may be gone on with."""
    stamp, data = out / RECORDS / STAMP, json.dumps(call, sort_keys=True).encode()
    # Looked at before the stamp, as shards may begin at once. A link leads elsewhere, where nothing may be written.
    occupied = any((path.is_file() or path.is_symlink()) and path.suffix != PART for path in out.rglob("*"))
    if stamp.exists() and (resume or sharded):
        if stamp.read_bytes() != data:
            raise UserError(
                f"argument --out: {out} was made with other options, pictures or labels; name another folder"
            )
        return
    if occupied:
        raise UserError(f"argument --out: {out} is there already; name another folder, or go on with --resume")
    put(stamp, data)


def _below(picture: Path, roots: Sequence[Path]) -> str:
    """The path of a picture below the folder that was given, or its name."""
    picture, folders = Path(os.path.abspath(picture)), (Path(os.path.abspath(root)) for root in roots if root.is_dir())
    root = next((folder for folder in folders if picture.is_relative_to(folder)), picture.parent)
    return picture.relative_to(root).as_posix()


def _own_path(below: str) -> str:
    """A path without the folder that a form of labels has for pictures: that which is written has one."""
    *folders, name = below.split("/")
    at = max((k for k, folder in enumerate(folders) if folder in PICTURE_FOLDERS), default=None)
    return "/".join([*(folder for k, folder in enumerate(folders) if k != at), name])


def free_name(name: str, taken: set[str]) -> str:
    """A name, or one with a number if another has it, whatever the suffix and the case; it is taken then."""
    stem, suffix = os.path.splitext(name)
    free, count = stem, 1
    while free.lower() in taken:
        count += 1
        free = f"{stem}_{count}"
    taken.add(free.lower())
    return free + suffix
