"""Data sets of augmented copies of pictures: the same files for any number of workers and shards, whole or not there.

A copy depends on the seed, its picture's name and its number alone. Its label file and its record are written before
it, and all are renamed into their places: what has its picture is done.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from kornia_patchaug.detection import DetectionSequential
from kornia_patchaug.pasting import RandomPatchPaste
from kornia_patchaug.pictures import picture_size, read_picture
from kornia_patchaug.preview import Ranges
from kornia_patchaug.readers import Labelled, Labels, Notes, UnusableError, UserError, mask_of
from kornia_patchaug.shapes import Polygons, polygons_of, runs_of
from kornia_patchaug.writers import FOLDERS, Schema, Written, files_of, record_of, summary

RECORDS = ".records"  # what is known of each picture, and of the call
STAMP = "call.json"
PART = ".part"  # of a file that is being written
IN_FLIGHT = 4  # jobs a worker that are ready for it
DONORS = 3  # other pictures that copies are pasted from
JPEG = (".jpg", ".jpeg")


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


class Job(NamedTuple):
    """A picture that is made."""

    name: str  # below the folder of pictures
    source: Source
    donors: tuple[Source, ...]
    seed: int


def augmented(image: torch.Tensor, job: Job, recipe: Recipe) -> tuple[torch.Tensor, list[Labelled]]:
    """A picture ``(3, H, W)`` of bytes and its objects, augmented. Crowds stay as they are."""
    generator = torch.Generator().manual_seed(job.seed)
    ranges = recipe.ranges
    if ranges.matte == "mask" and not recipe.schema.shapes:
        ranges = ranges._replace(matte="box")
    pool = [[each for each in source.objects if not each.crowd] for source in (job.source, *job.donors)]
    steps: list[torch.nn.Module] = [ranges.augmentation(job.seed)]
    if recipe.paste and any(pool):
        pictures = [image, *(picture_bytes(donor.path) for donor in job.donors)]
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
            mask = target["masks"][k].numpy()
            shape = polygons_of(mask) if was.shape is None or isinstance(was.shape, Polygons) else runs_of(mask)
        points = tuple(map(tuple, target["keypoints"][k].tolist())) if recipe.schema.keypoints else ()
        found.append(was._replace(box=tuple(target["boxes"][k].tolist()), shape=shape, keypoints=points))
    return found


# Files


def write_copy(job: Job, recipe: Recipe, out: Path) -> str | None:
    """Make a picture and write it with its labels; returns why it cannot be."""
    torch.set_num_threads(1)  # a process a core
    try:
        image = picture_bytes(job.source.path)
        made, objects = augmented(image, job, recipe)
    except UnusableError as reason:
        left_out = {"file_name": job.name, "of": str(job.source.path), "left_out": str(reason)}
        put(record_file(out, job.name), json.dumps(left_out).encode())
        return str(reason)
    written = Written(job.name, (int(image.shape[1]), int(image.shape[2])), objects)
    for name, text in files_of(written, recipe.form, recipe.schema).items():
        put(out / name, text.encode())
    record = {
        **record_of(written, recipe.form, recipe.schema),
        "of": str(job.source.path),
        "seed": job.seed,
        "pasted_from": [str(donor.path) for donor in job.donors],
    }
    put(record_file(out, job.name), json.dumps(record).encode())
    buffer, file = io.BytesIO(), picture_file(out, job.name, recipe.form)
    image_out = Image.fromarray(made.permute(1, 2, 0).contiguous().numpy())
    if file.suffix.lower() in JPEG:
        image_out.save(buffer, "JPEG", quality=95)
    else:
        image_out.save(buffer, "PNG")
    put(file, buffer.getvalue())
    return None


def put(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all. A link there is replaced, and not what it leads to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def picture_file(out: Path, name: str, form: str) -> Path:
    return out / FOLDERS[form][0] / name


def record_file(out: Path, name: str) -> Path:
    return out / RECORDS / f"{name}.json"


# Data sets


class Dataset(NamedTuple):
    """What copies are made of."""

    pictures: list[Path]  # those whose objects are told
    below: list[str]  # their paths below the folders that were given
    names: list[str]  # what they are called below the folder that is written
    labels: Labels
    schema: Schema

    def name(self, number: int, copies: int) -> str:
        """What a copy is called; they are counted picture by picture."""
        stem, suffix = os.path.splitext(self.names[number // copies])
        return f"{stem}_{number % copies}{suffix if suffix.lower() in JPEG else '.png'}"

    def job(self, number: int, copies: int, recipe: Recipe) -> Job:
        """How a copy is made."""
        own = number // copies
        key = f"{recipe.seed}/{number % copies}/{self.below[own]}".encode(errors="surrogateescape")
        seed = int.from_bytes(hashlib.sha256(key).digest()[:6])
        others = []
        if recipe.paste:
            drawn = random.Random(seed).sample(range(len(self.pictures)), min(DONORS + 1, len(self.pictures)))
            others = [other for other in drawn if other != own][:DONORS]
        donors = tuple(self.source(self.pictures[other]) for other in others)
        return Job(self.name(number, copies), self.source(self.pictures[own]), donors, seed)

    def source(self, picture: Path) -> Source:
        """A picture with its objects."""
        return Source(picture, tuple(self.labels.read(picture, picture_size(picture), Notes())))


def survey(pictures: Sequence[Path], labels: Labels, form: str, roots: Sequence[Path], notes: Notes) -> Dataset:
    """Read all labels once: which pictures have any, and what the files that are written have in common."""
    used, paths, names, taken = list[Path](), list[str](), list[str](), set[str]()
    seen, shapes, points = set[str](), False, 0
    for picture in pictures:
        try:
            found = labels.read(picture, picture_size(picture), notes)
        except UnusableError as reason:
            notes.add("left out", reason, str(picture))
            continue
        below = _below(picture, roots)
        used.append(picture)
        paths.append(below)
        names.append(free_name(below.replace("/", "_") if form == "voc" else below, taken))
        seen |= {each.label for each in found}
        shapes |= any(each.shape is not None for each in found)
        points = max([points, *(len(each.keypoints) for each in found)])
    told = labels.numbers()
    free = (k for k in range(1, len(seen) + len(told) + 1) if k not in told.values())
    numbers = {**told, **{name: next(free) for name in sorted(seen - set(told))}}
    if form == "yolo" and labels.form != "yolo":
        numbers = {name: k for k, name in enumerate(sorted(numbers, key=numbers.__getitem__))}
    return Dataset(used, paths, names, labels, Schema(numbers, shapes, points))


def make(jobs: Iterable[Job], recipe: Recipe, out: Path, workers: int) -> Iterator[tuple[Job, str | None]]:
    """Make pictures in processes; yields each with why it could not be made."""
    if workers == 1:
        yield from ((job, write_copy(job, recipe, out)) for job in jobs)
        return
    spawned = multiprocessing.get_context("spawn")  # a forked process has threads of torch's that do not run there
    with ProcessPoolExecutor(workers, spawned, initializer=_ignore_interrupts) as pool:
        waiting, left = dict[Future[str | None], Job](), iter(jobs)
        try:
            while True:
                for job in islice(left, IN_FLIGHT * workers - len(waiting)):
                    waiting[pool.submit(write_copy, job, recipe, out)] = job
                if not waiting:
                    return
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(done), done.result()
        except BrokenProcessPool as error:
            raise UserError("a worker was killed, as for want of memory; --resume goes on where this ended") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ctrl-C is the main process's, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def finish(names: Sequence[str], recipe: Recipe, out: Path) -> bool:
    """Write the files of all pictures, from the records of these, if no shard has any of them to make."""
    files = [record_file(out, name) for name in names]
    if not all(file.exists() for file in files):
        return False
    records = [json.loads(file.read_text()) for file in files]
    made = [record for record in records if "left_out" not in record]
    for name, text in summary(made, recipe.form, recipe.schema).items():
        put(out / name, text.encode())
    lines = ({key: record[key] for key in record if key != "annotations"} for record in records)
    put(out / "manifest.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    for part in out.rglob(f".*{PART}"):  # of processes that were killed
        if part.parent != out:
            part.unlink(missing_ok=True)
    return True


def begin(out: Path, call: dict[str, Any], resume: bool, sharded: bool) -> None:
    """Make the folder, or raise unless it is one of the same call that may be gone on with."""
    stamp, text = out / RECORDS / STAMP, json.dumps(call, sort_keys=True)
    if stamp.exists() and (resume or sharded):
        if stamp.read_text() != text:
            raise UserError(f"argument --out: {out} was made with other options or pictures; name another folder")
        return
    if any(path.is_file() and path.suffix != PART for path in out.rglob("*")):
        raise UserError(f"argument --out: {out} is there already; name another folder, or go on with --resume")
    put(stamp, text.encode())


def _below(picture: Path, roots: Sequence[Path]) -> str:
    """The path of a picture below the folder that was given, or its name."""
    root = next((root for root in roots if root.is_dir() and picture.is_relative_to(root)), picture.parent)
    return picture.relative_to(root).as_posix()


def free_name(name: str, taken: set[str]) -> str:
    """A name, or one with a number if another has it, whatever the suffix and the case; it is taken then."""
    stem, suffix = os.path.splitext(name)
    free, count = stem, 1
    while free.lower() in taken:
        count += 1
        free = f"{stem}_{count}"
    taken.add(free.lower())
    return free + suffix
