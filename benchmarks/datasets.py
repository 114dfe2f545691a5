"""The command ``augment``: what a second worker gains, memory as data sets grow, and kills.

``python -m benchmarks.datasets``, alone on the machine; it prints what it measures, and fails if a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COMMAND = (sys.executable, "-m", "kornia_patchaug", "augment")
GAIN = 1.6  # the least that two workers are faster than one, start included
GROWTH = 1.05  # the most that memory grows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000, help="of the large set (2000)")
    parser.add_argument("--pairs", type=int, default=3, help="of runs by one worker and by two, of half of it (3)")
    parser.add_argument("--kills", type=int, default=20, help="at random moments (20)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        met = [gain(root, options.pictures // 2, options.pairs), growth(root, options.pictures)]
        met.append(kills(root, options.kills))
    return 0 if all(met) else 1


def gain(root: Path, count: int, pairs: int) -> bool:
    """Pictures a second by one worker and by two, in turns."""
    source, found = pictures(root / "photographs", count, (640, 480), 8), []
    for _ in range(pairs):
        seconds = []
        for workers in (1, 2):
            start = time.perf_counter()
            augment(source, root / f"by {workers}", "--workers", str(workers))
            seconds.append(time.perf_counter() - start)
        differ = differences(root / "by 1", root / "by 2")
        found.append(seconds[0] / seconds[1])
        rates = [count / each for each in seconds]
        print(f"{count} pictures of 640 x 480: {rates[0]:.1f} a second by one worker, {rates[1]:.1f} by two", end=": ")
        print(f"{found[-1]:.2f} times, {differ} files differ", flush=True)
        if differ:
            return False
        for workers in (1, 2):
            shutil.rmtree(root / f"by {workers}")
    ratio = statistics.median(found)
    print(f"two workers: {ratio:.2f} times one, bar {GAIN}", flush=True)
    return ratio >= GAIN


def growth(root: Path, count: int) -> bool:
    """Memory while a set is made: of its last tenth over its second, as the first begins. For Linux, which tells it."""
    source = pictures(root / "photographs of one run", count, (640, 480), 8)
    begun, found = subprocess.Popen([*COMMAND, str(source), "--out", str(root / "run")], **QUIET), list[float]()
    while begun.poll() is None:
        with contextlib.suppress(OSError, IndexError):  # it has just ended
            pages = Path(f"/proc/{begun.pid}/statm").read_text().split()[1]
            found.append(int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20)
        time.sleep(0.05)
    tenth = len(found) // 10
    early, late = (statistics.mean(part) for part in (found[tenth : 2 * tenth], found[-tenth:]))
    print(f"memory over {count} pictures: {early:.0f} MiB in the second tenth, {late:.0f} in the last", end=": ")
    print(f"{late / early:.3f} times, bar {GROWTH}; {max(found):.0f} at most", flush=True)
    return begun.returncode == 0 and late / early <= GROWTH


def kills(root: Path, count: int) -> bool:
    """Kill all of its processes at random moments, and go on; what is there must be whole, and in the end the same."""
    source, chance = pictures(root / "small", 10 * count, (160, 120), 3), random.Random(0)
    whole, killed, broken, done = root / "whole", root / "killed", 0, 0
    augment(source, whole)
    for _ in range(count):
        begun = subprocess.Popen(
            [*COMMAND, str(source), "--out", str(killed), "--workers", "2", "--resume"], start_new_session=True, **QUIET
        )
        while begun.poll() is None and len(made(killed)) <= done:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.2)
        with contextlib.suppress(ProcessLookupError):  # it was ready
            os.killpg(begun.pid, signal.SIGKILL)
        begun.wait()
        done = len(made(killed))
        broken += sum(not is_whole(killed, file) for file in made(killed))
    augment(source, killed, "--workers", "2", "--resume")
    differ = differences(whole, killed)
    print(f"killed {count} times on the way to {10 * count} pictures: {broken} broken, {differ} differ in the end")
    return broken + differ == 0


QUIET: dict[str, int] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def augment(source: Path, out: Path, *options: str) -> None:
    subprocess.run([*COMMAND, str(source), "--out", str(out), *options], check=True, **QUIET)


def pictures(folder: Path, count: int, size: tuple[int, int], objects: int) -> Path:
    """Photographs of smooth noise, each with some boxes, and their COCO JSON."""
    chance, (width, height) = np.random.default_rng(0), size
    folder.mkdir()
    rows, entries = [], []
    for number in range(count):
        noise = Image.fromarray(chance.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        noise.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)
        entries.append({"id": number, "file_name": f"{number:05}.jpg"})
        for _ in range(objects):
            w, h = (int(chance.integers(side // 10, side // 4)) for side in size)
            x, y = int(chance.integers(0, width - w)), int(chance.integers(0, height - h))
            rows.append({"id": len(rows), "image_id": number, "category_id": 1, "bbox": [x, y, w, h]})
    told = {"images": entries, "annotations": rows, "categories": [{"id": 1, "name": "object"}]}
    (folder / "boxes.json").write_text(json.dumps(told))
    return folder


def made(out: Path) -> list[Path]:
    return sorted((out / "images").glob("*.jpg"))


def is_whole(out: Path, file: Path) -> bool:
    """Whether a picture can be decoded, and what is known of it read."""
    try:
        with Image.open(file) as picture:
            picture.load()
        return "annotations" in json.loads((out / ".records/pictures" / f"{file.name}.json").read_text())
    except (OSError, ValueError):
        return False


def differences(one: Path, other: Path) -> int:
    """How many files are in one of two folders only, or differ."""
    names = [{path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (one, other)]
    same = names[0] & names[1]
    return len(names[0] ^ names[1]) + sum(not filecmp.cmp(one / name, other / name, shallow=False) for name in same)


if __name__ == "__main__":
    sys.exit(main())
