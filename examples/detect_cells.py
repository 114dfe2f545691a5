"""A detector of blood cells learns from 8 labelled photographs: what turning and copying each cell adds.

A network of 0.3 million parameters, trained from scratch, finds red cells, white cells and platelets as centre points
(Zhou, Wang and Kraehenbuehl, "Objects as Points", 2019). It is trained on few photographs of BCCD and tested on all of
its `test`, by the AP at IoU 0.5 of pycocotools. What differs is the augmentation alone:

    none    the photographs as they are
    whole   whole images: flips, colour, scale, shift and small turns, with boxes kept true, by Kornia
    affine  that, after each cell was turned by an angle of its own under a soft elliptical matte: RandomPatchAffine
    paste   that, after copies of white cells and platelets, which are rare, were pasted: RandomPatchPaste
    both    all of these
    turned  whole images turned by any angle, which makes boxes loose: the reason why cells should turn alone

Each seed draws photographs of its own to learn from, the same for all arms. Options were chosen on `val`
(``--split val``); `test` is read once, at the end.

``--data`` is the folder that holds Annotations, ImageSets and JPEGImages: BCCD of the repository
https://github.com/Shenggan/BCCD_Dataset (MIT licence). Finished runs are kept in detect_cells.jsonl, so that an
interrupted call goes on where it was. Draws detect_cells.png and detect_cells_augmented.png; the last line on stdout is
JSON: the mAP of each arm and seed, and whether the bar is met.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import inspect
import io
import json
import multiprocessing
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import kornia.augmentation as K
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot, which would look for a display
from matplotlib.patches import Rectangle
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

import kornia_patchaug as kp

CLASSES = ("RBC", "WBC", "Platelets")
COLOURS = ("#D55E00", "#0072B2", "#009E73")  # Okabe and Ito's vermilion, blue and green, one a class
HEIGHT, WIDTH = 160, 208  # a third of the photographs'
STRIDE = 4  # image pixels a cell of the network's output
BATCH, STEPS = 8, 500
BAR, WINS, MOST_SHARE = 0.03, 0.8, 15.0  # of mAP; of the seeds; per cent of a training step

Target = dict[str, Tensor]
Augment = Callable[[Tensor, list[Target]], tuple[Tensor, list[Target]]]


class Cells(NamedTuple):
    """Labelled photographs."""

    images: Tensor  # (M, 3, H, W) uint8
    targets: list[Target]  # boxes (n, 4) half-open x1 y1 x2 y2, and labels (n,)


# The data


@cache
def read_cells(data: Path, split: str) -> Cells:
    images, targets = [], []
    for name in (data / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
        with Image.open(data / "JPEGImages" / f"{name}.jpg") as photograph:
            shrink = torch.tensor([WIDTH / photograph.width, HEIGHT / photograph.height]).repeat(2)
            images.append(np.array(photograph.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)))
        targets.append(read_labels(data / "Annotations" / f"{name}.xml", shrink))
    return Cells(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), targets)


def read_labels(path: Path, shrink: Tensor) -> Target:
    rows, labels = [], []
    for item in ElementTree.parse(path).getroot().iter("object"):
        corners = item.find("bndbox")
        rows.append([float(corners.findtext(name)) for name in ("xmin", "ymin", "xmax", "ymax")])
        labels.append(CLASSES.index(item.findtext("name")))
    boxes = kp.convert_boxes(torch.tensor(rows).reshape(-1, 4), "pascal_voc", "xyxy") * shrink
    return keep_inside({"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64)})


def keep_inside(target: Target) -> Target:
    """Boxes cut to the image, less those of which not a pixel is left; some of BCCD's have no area."""
    boxes, limit = target["boxes"], torch.tensor([WIDTH, HEIGHT])
    inside = torch.cat([boxes[:, :2].clamp(min=0), boxes[:, 2:].minimum(limit)], dim=1)
    keep = (sides(inside) >= 1).all(1)
    return {"boxes": inside[keep], "labels": target["labels"][keep]}


def choose(cells: Cells, count: int, seed: int) -> Cells:
    """The photographs of a seed: drawn anew until each class is seen half as often as there are photographs.

    Seeds vary what is learned from, as whoever labels 8 photographs has 8 of their own. Half of the photographs have no
    platelets, so that without the rule some seeds would have a class that nobody can learn.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randperm(len(cells.images), generator=generator)[:count]
        chosen = Cells(cells.images[rows], [cells.targets[row] for row in rows.tolist()])
        labels = torch.cat([target["labels"] for target in chosen.targets])
        if (torch.bincount(labels, minlength=len(CLASSES)) >= len(rows) / 2).all():
            return chosen


def draw_cells(count: int, seed: int) -> Cells:
    """What ``--quick`` learns from: discs for red cells, larger ones for white ones, dots for platelets, on a grid."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    middles = torch.cartesian_prod((torch.arange(4) + 0.5) * WIDTH / 4, (torch.arange(3) + 0.5) * HEIGHT / 3)
    kinds = torch.tensor([0] * 7 + [1] * 2 + [2] * 3)
    ink = torch.tensor([[0.85, 0.55, 0.5], [0.65, 0.5, 0.75], [0.55, 0.35, 0.65]])
    images, targets = [], []
    for _ in range(count):
        labels = kinds[torch.randperm(len(kinds), generator=generator)]
        shape = torch.rand(len(labels), 2, generator=generator)
        radii = torch.tensor([16.0, 24.0, 6.0])[labels, None] * (0.85 + 0.3 * shape)
        centres = middles + 12 * torch.rand(len(labels), 2, generator=generator) - 6
        image = 0.85 + 0.03 * torch.randn(3, HEIGHT, WIDTH, generator=generator)
        for label, radius, centre in zip(labels, radii, centres, strict=True):
            distance = ((x - centre[0]) / radius[0]).square() + ((y - centre[1]) / radius[1]).square()
            image = torch.where(distance < 1, ink[label][:, None, None] * (0.8 + 0.2 * distance), image)
        images.append((image * 255).clamp(0, 255).byte())
        targets.append(keep_inside({"boxes": torch.cat([centres - radii, centres + radii], 1), "labels": labels}))
    return Cells(torch.stack(images), targets)


# The augmentation

ARMS = ("none", "whole", "affine", "paste", "both", "turned")
OURS = "both"


def augmentation(arm: str) -> Augment:
    """What an arm does to a batch ``(B, 3, H, W)`` and its targets."""
    if arm == "none":
        return lambda images, targets: (images, targets)
    turn = kp.RandomPatchAffine(180.0, p=1.0, padding_mode="image", matte="ellipse")
    copy = kp.RandomPatchPaste(
        (0, 3),
        donors="same",  # soft edges show what is around the donor, and each photograph has its own light
        classes=(1, 2),  # the rare ones
        class_weights={1: 1.0, 2: 3.0},
        degrees=180.0,
        scale=(0.8, 1.25),
        flip=0.5,
        place=on_plasma,
        max_cover=0.0,  # dark dots in red cells are parasites, not platelets
        matte="ellipse",
        p=1.0,
    )
    cells = {"affine": [turn], "paste": [copy], "both": [turn, copy]}.get(arm, [])
    return kp.DetectionSequential(
        *cells,  # first, at native resolution and in boxes as they were drawn
        K.RandomHorizontalFlip(),
        K.RandomVerticalFlip(),
        # Did worse on val: black borders, turns by 25 degrees, weaker or stronger colour; and by 0.07
        # RandomPlanckianJitter, as it is the hue that tells platelets.
        K.RandomAffine(
            180.0 if arm == "turned" else 10.0, translate=(0.1, 0.1), scale=(0.8, 1.25), padding_mode="border", p=1.0
        ),
        K.ColorJitter(0.2, 0.2, p=1.0),
        min_size=4,
    )


def on_plasma(noise: Tensor, sizes: Tensor, size: Tensor, images: Tensor) -> Tensor:
    """Places to try ``(B, k, T, 2)``, in blocks whose green is above the mean of the image, as that of plasma is."""
    block = 8
    green = F.avg_pool2d(images[:, 1], block)  # (B, H / 8, W / 8): cells of all classes are dark there
    count = (green > green.mean((1, 2), keepdim=True)).float().flatten(1).cumsum(1)
    at = noise[..., 0] * count[:, -1, None, None]
    index = torch.searchsorted(count, at.flatten(1), right=True).clamp(max=count.shape[1] - 1).view_as(at)
    x, y = index % green.shape[2], index // green.shape[2]
    return block * torch.stack([x + at % 1, y + noise[..., 1]], dim=-1)


# The detector


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(convolution(channels, channels), *convolution(channels, channels)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.block(x))


class Detector(nn.Module):
    """Maps ``(B, K + 4, H / 4, W / 4)``: how much each place is a centre of each class, and a box there."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 64), top: int = 64, hidden: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, widths[0], stride=2), Residual(widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(convolution(narrow, wide, stride=2), Residual(wide)) for narrow, wide in pairwise(widths)
        )
        self.across = nn.ModuleList(nn.Conv2d(width, top, 1) for width in widths[1:])
        self.head = nn.Sequential(Residual(top), convolution(top, hidden), nn.Conv2d(hidden, len(CLASSES) + 4, 1))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)
        self.head[-1].bias.data[: len(CLASSES)] = -4.0  # centres are rare, and the loss starts small

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem((images - 0.6) / 0.2)
        levels = [x := down(x) for down in self.down]
        y = self.across[-1](levels[-1])
        for across, level in zip(self.across[-2::-1], levels[-2::-1], strict=True):
            y = across(level) + F.interpolate(y, scale_factor=2.0)
        return self.head(F.relu(y))


def box_area(boxes: Tensor) -> Tensor:
    return sides(boxes).clamp(min=0).prod(-1)


def sides(boxes: Tensor) -> Tensor:
    return boxes[..., 2:] - boxes[..., :2]


def boxes_at(values: Tensor, cells: Tensor) -> Tensor:
    """Boxes ``(..., 4)`` in pixels from the network's values there: offset of the centre, logarithm of the sides."""
    centre = (cells + 0.5 + values[..., :2]) * STRIDE
    half = 12.0 * values[..., 2:].clamp(-4, 4).exp()
    return torch.cat([centre - half, centre + half], dim=-1)


def overlaps(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of boxes, and the share of their enclosing box that neither covers."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    either = box_area(one) + box_area(other) - both
    low, high = torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])
    around = (high - low).prod(-1)
    return both / either.clamp(min=1e-6), 1 - either / around.clamp(min=1e-6)


def loss_of(output: Tensor, targets: list[Target]) -> Tensor:
    """CenterNet's focal loss of the centres, and the generalised IoU loss of the boxes at and around them."""
    boxes, labels = (torch.cat([target[name] for target in targets]) for name in ("boxes", "labels"))
    obj_to_img = torch.repeat_interleave(torch.tensor([len(target["boxes"]) for target in targets]))
    count, (height, width) = max(len(boxes), 1), output.shape[2:]
    scores, values = output[:, : len(CLASSES)], output[:, len(CLASSES) :]

    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE  # (N, 2)
    cell = centre.floor().clamp(min=0).minimum(torch.tensor([width - 1, height - 1]))
    deviation = (sides(boxes) / STRIDE * 0.54 / 6).clamp(min=0.4)  # of TTFNet's Gaussians (Liu et al., 2020)
    bells = [
        (-0.5 * ((torch.arange(length) - cell[:, axis, None]) / deviation[:, axis, None]).square()).exp()
        for axis, length in enumerate((width, height))
    ]
    bells = bells[1][:, :, None] * bells[0][:, None, :]  # (N, H, W), 1 at the cells of the centres
    plane = (obj_to_img * len(CLASSES) + labels)[:, None, None].expand_as(bells)
    near = torch.zeros(scores.shape).flatten(0, 1).scatter_reduce(0, plane, bells, "amax").view_as(scores)
    probability = scores.sigmoid()
    right = (1 - probability).square() * F.logsigmoid(scores)
    wrong = (1 - near).pow(4) * probability.square() * F.logsigmoid(-scores)
    focal = -torch.where(near == 1, right, wrong).sum() / count

    step = torch.tensor([[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)])
    cells = cell[:, None] + step  # (N, 9, 2)
    inside = ((cells >= 0) & (cells < torch.tensor([width, height]))).all(-1)
    x, y = (cells * inside[..., None]).long().unbind(-1)
    found = boxes_at(values[obj_to_img[:, None], :, y, x], cells)
    iou, apart = overlaps(found, boxes[:, None])
    weight = inside * bells[torch.arange(len(boxes))[:, None], y, x]
    return focal + 2 * (weight * (1 - iou + apart)).sum() / weight.sum().clamp(min=1)


@torch.no_grad()
def detect(model: nn.Module, images: Tensor, most: int = 100) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Boxes, labels and scores of each image: the peaks, less those that overlap a higher one of their class."""
    found = []
    for output in torch.cat([model.eval()(part / 255) for part in images.split(BATCH)]):
        scores = output[: len(CLASSES)].sigmoid()
        peaks = scores * (scores == F.max_pool2d(scores[None], 3, stride=1, padding=1)[0])
        score, index = peaks.flatten().topk(2 * most)
        label, place = index // scores[0].numel(), index % scores[0].numel()
        y, x = place // scores.shape[2], place % scores.shape[2]
        boxes = boxes_at(output[len(CLASSES) :, y, x].T, torch.stack([x, y], dim=1))
        boxes = torch.cat([boxes[:, :2].clamp(min=0), boxes[:, 2:].minimum(torch.tensor([WIDTH, HEIGHT]))], dim=1)
        iou = overlaps(boxes[:, None], boxes)[0] * (label[:, None] == label)
        keep = (iou.triu(1).amax(0) < 0.6).nonzero()[:most, 0]
        found.append((boxes[keep], label[keep], score[keep]))
    return found


def average_precision(model: nn.Module, cells: Cells) -> dict[str, float]:
    """AP at IoU 0.5 of each class."""
    truth, guesses = COCO(), []
    annotations = [
        {"image_id": i, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, target in enumerate(cells.targets)
        for label, box in zip(target["labels"].tolist(), as_coco(target["boxes"]), strict=True)
    ]
    for i, (boxes, labels, scores) in enumerate(detect(model, cells.images)):
        for box, label, score in zip(as_coco(boxes), labels.tolist(), scores.tolist(), strict=True):
            guesses.append({"image_id": i, "category_id": label, "bbox": box, "score": score})
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(cells.images))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
        "annotations": [{"id": i + 1, **annotation} for i, annotation in enumerate(annotations)],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(guesses), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # (R, K): all areas, 100 boxes an image
    return {name: float(precision[:, k].mean()) for k, name in enumerate(CLASSES)}


def as_coco(boxes: Tensor) -> list[list[float]]:
    return kp.convert_boxes(boxes, "xyxy", "coco").tolist()


# Training


def batches(count: int, steps: int) -> Iterator[Tensor]:
    """Rows of photographs: each once, in any order, before any comes again."""
    rows = torch.cat([torch.randperm(count) for _ in range(-(-BATCH * steps // count))])
    yield from rows[: BATCH * steps].split(BATCH)


def train(cells: Cells, augment: Augment, steps: int, rate: float = 4e-3) -> tuple[nn.Module, float, float]:
    """The detector, and the mean seconds of a step and of the augmentation in it."""
    model = Detector().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    augmenting, start = 0.0, time.perf_counter()
    for rows in batches(len(cells.images), steps):
        images, targets = cells.images[rows] / 255, [cells.targets[row] for row in rows.tolist()]
        begin = time.perf_counter()
        images, targets = augment(images, targets)
        augmenting += time.perf_counter() - begin
        loss = loss_of(model(images.contiguous(memory_format=torch.channels_last)), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return model, (time.perf_counter() - start) / steps, augmenting / steps


def recipe() -> str:
    """A name for all that a run depends on beside its options: the code of the learning, and the versions."""
    parts = (choose, keep_inside, read_cells, read_labels, draw_cells, augmentation, on_plasma, convolution)
    parts += Residual, Detector, boxes_at, overlaps, loss_of, detect, average_precision, batches, train
    code = "".join(map(inspect.getsource, parts)) + f"{kp.__version__} {torch.__version__} {STRIDE} {BATCH}"
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def run(key: dict, data: Path | None) -> dict:
    """One training and its test, as a row of the table of finished runs."""
    torch.set_num_threads(1)  # one process a core
    train_part, test_part = (
        [read_cells(data, name) for name in ("train", key["split"])] if data else [draw_cells(8, 0), draw_cells(4, 1)]
    )
    cells = choose(train_part, key["images"], key["seed"])
    torch.manual_seed(key["seed"])
    model, step, augmenting = train(cells, augmentation(key["arm"]), key["steps"])
    precision = average_precision(model, test_part)
    return {**key, "ap": precision, "map": mean(precision.values()), "step": step, "augmentation": augmenting}


def run_all(keys: list[dict], data: Path | None, path: Path, workers: int) -> list[dict]:
    """The rows of all runs, of which those in the file are not done again."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {name_of(row): row for row in rows}
    missing = [key for key in keys if name_of(key) not in done]
    with path.open("a") as file:
        for number, row in enumerate(results(missing, data, workers), start=1):
            done[name_of(row)] = row
            print(json.dumps(row), file=file, flush=True)
            each = ", ".join(f"{name} {value:.3f}" for name, value in row["ap"].items())
            print(
                f"{number}/{len(missing)} {row['arm']}, {row['images']} images, seed {row['seed']}: "
                f"mAP50 {row['map']:.3f} ({each}), {1000 * row['step']:.0f} ms a step",
                file=sys.stderr,
                flush=True,
            )
    return [done[name_of(key)] for key in keys]


def results(keys: list[dict], data: Path | None, workers: int) -> Iterator[dict]:
    """The rows of runs, as they finish."""
    if workers == 1:
        yield from (run(key, data) for key in keys)
        return
    # Spawned, as a forked process would inherit threads of torch's that do not run there.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for job in as_completed([pool.submit(run, key, data) for key in keys]):
            yield job.result()


def name_of(row: dict) -> tuple:
    return tuple(row[name] for name in ("recipe", "arm", "images", "seed", "steps", "split", "drawn"))


# The report


def report(rows: list[dict], images: list[int]) -> dict:
    """Numbers of each arm for each number of images, and whether the bar is met for the first of these."""
    arms: dict[str, dict] = {}
    gains = {}
    for count in images:
        of_arm = {arm: [row for row in rows if (row["arm"], row["images"]) == (arm, count)] for arm in ARMS}
        scores = {arm: [row["map"] for row in runs] for arm, runs in of_arm.items()}
        arms[str(count)] = {
            arm: {
                "map50": scores[arm],
                "mean": mean(scores[arm]),
                "ap50": {name: mean(row["ap"][name] for row in runs) for name in CLASSES},
            }
            for arm, runs in of_arm.items()
        }
        ahead = [ours - whole for ours, whole in zip(scores[OURS], scores["whole"], strict=True)]
        gains[str(count)] = {"mean": mean(ahead), "seeds_ahead": sum(value > 0 for value in ahead)}
    of_ours = [row for row in rows if row["arm"] == OURS]
    share = 100 * mean(row["augmentation"] for row in of_ours) / mean(row["step"] for row in of_ours)
    first, seeds = gains[str(images[0])], len(of_ours) // len(images)
    met = first["mean"] >= BAR and first["seeds_ahead"] >= WINS * seeds and share <= MOST_SHARE
    return {
        "arms": arms,
        "gain_of_both_over_whole": gains,
        "augmentation_share_percent": share,
        "seconds_a_step": mean(row["step"] for row in rows),
        "bar": BAR,
        "met": met,
    }


def draw_scores(path: Path, rows: list[dict], images: list[int]) -> None:
    """A bar an arm at the mean of its seeds, and a dot a seed."""
    figure = Figure(figsize=(1.2 + 3.6 * len(images), 3.8), layout="constrained")
    for axes, count in zip(figure.subplots(1, len(images), sharey=True, squeeze=False)[0], images, strict=True):
        for place, arm in enumerate(ARMS):
            scores = [row["map"] for row in rows if (row["arm"], row["images"]) == (arm, count)]
            axes.bar(place, mean(scores), 0.7, color="#0072B2" if arm == OURS else "#BBBBBB")
            spread = np.linspace(-0.2, 0.2, len(scores)) if len(scores) > 1 else [0]
            axes.plot(place + np.array(spread), scores, "o", color="black", ms=3)
            ink = "white" if arm == OURS else "black"
            axes.annotate(f"{mean(scores):.3f}", (place, 0.01), ha="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(ARMS)), ARMS)
        axes.set_title(f"{count} photographs", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, 1)
    figure.axes[0].set_ylabel("mAP at IoU 0.5 (a dot a seed)")
    figure.savefig(path, dpi=130)


def draw_batch(path: Path, cells: Cells) -> None:
    """Photographs as they are, and twice augmented, with the boxes that a detector is given."""
    cells = Cells(cells.images[:4] / 255, cells.targets[:4])
    torch.manual_seed(0)
    augment = augmentation(OURS)
    lines = {"as given": tuple(cells), OURS: augment(*cells), f"{OURS}, drawn again": augment(*cells)}
    figure = Figure(figsize=(12, 7.2), layout="constrained")
    for axes, (title, (images, targets)) in zip(figure.subplots(len(lines), 4), lines.items(), strict=True):
        for ax, image, target in zip(axes, images, targets, strict=True):
            show(ax, image, target)
        axes[0].set_ylabel(title, fontsize=11)
    handles = [Rectangle((0, 0), 1, 1, fill=False, ec=colour, lw=1.5) for colour in COLOURS]
    figure.legend(handles, CLASSES, loc="outside lower center", ncols=len(CLASSES), frameon=False)
    figure.savefig(path, dpi=110)


def show(axes: Axes, image: Tensor, target: Target) -> None:
    axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy(), extent=(0, WIDTH, HEIGHT, 0))
    for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=COLOURS[label], lw=1.2))
    axes.set(xticks=[], yticks=[], xlim=(0, WIDTH), ylim=(HEIGHT, 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="BCCD: Annotations, ImageSets, JPEGImages")
    parser.add_argument("--images", type=int, nargs="+", default=[8, 24, 205], help="photographs to learn from")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training, each of 8 images")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="what is tested on; tune on val")
    parser.add_argument("--workers", type=int, default=1, help="processes, one a core")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--quick", action="store_true", help="drawn cells, one seed, few steps: does it run?")
    args = parser.parse_args()
    if args.quick:
        args.data, args.images, args.seeds, args.steps, args.split = None, [8], 1, 3, "test"
    elif args.data is None or not (args.data / "ImageSets").is_dir():
        parser.error(
            "--data: expected the folder of BCCD that holds Annotations, ImageSets and JPEGImages. It is the folder "
            "BCCD of https://github.com/Shenggan/BCCD_Dataset (MIT licence, 9 MB): git clone it. --quick needs none."
        )
    begin = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    fixed = {"steps": args.steps, "split": args.split, "drawn": args.quick, "recipe": recipe()}
    # Seed by seed: what an interrupted call has finished can be compared.
    keys = [
        {"arm": arm, "images": count, "seed": seed, **fixed}
        for count in args.images
        for seed in range(args.seeds)
        for arm in ARMS
    ]
    rows = run_all(keys, args.data, args.out / "detect_cells.jsonl", args.workers)
    draw_scores(args.out / "detect_cells.png", rows, args.images)
    train_part = draw_cells(8, 0) if args.quick else read_cells(args.data, "train")
    draw_batch(args.out / "detect_cells_augmented.png", choose(train_part, 8, 0))
    result = {
        "example": "detect_cells",
        "quick": args.quick,
        "seeds": list(range(args.seeds)),
        "images": args.images,
        "steps": args.steps,
        "split": args.split,
        "parameters": sum(parameter.numel() for parameter in Detector().parameters()),
        **report(rows, args.images),
        "seconds": time.perf_counter() - begin,
    }
    print(json.dumps(json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 4))))
    return 0 if result["met"] or args.quick else 1


if __name__ == "__main__":
    sys.exit(main())
