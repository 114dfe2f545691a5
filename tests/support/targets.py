"""Scenes whose pixels say what they are, random pipelines, and what pixels say of the targets that come out.

A channel for each object is 1 where that is seen, so that a picture's content is known after whatever moved it; two
more hold the column and the row that a pixel had at first. All is linear: what is interpolated says how much it mixes.
"""

import copy
import random
from dataclasses import dataclass, field
from functools import partial

import kornia.augmentation as K
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

import kornia_patchaug as kp

SPAN = 64.0  # the columns and rows that 1 stands for
OBJECTS = 16  # channels, of the objects of a batch and of a bank
SIZES = [(40, 56), (48, 64), (44, 44)]
# Half-open boxes, large ones first as they are painted. Apart: 6 pixels and more between any two.
APART = [[2, 3, 18, 17], [26, 4, 39, 16], [5, 25, 16, 36], [27, 26, 37, 35]]
OVER = [[4, 4, 26, 24], [14, 12, 34, 27], [20, 2, 33, 15], [9, 20, 19, 31]]


@dataclass
class Scene:
    """Pictures with their targets; ``places[code]`` are the points of an object, where its picture has them."""

    images: list[Tensor] = field(default_factory=list)
    targets: list[dict] = field(default_factory=list)
    places: dict[int, Tensor] = field(default_factory=dict)  # (K, 3) by code


def scene(seed: int, sizes, *, overlap=False, round_ones=False, masks=True, points=3, counts=None, first=0) -> Scene:
    """Objects of code ``first`` on, of rectangles or of the ellipses in these; later rows lie above earlier ones."""
    rng, found, code = random.Random(seed), Scene(), first
    for i, (height, width) in enumerate(sizes):
        rows = OVER if overlap else APART
        rows = sorted(rng.sample(range(4), counts[i] if counts else rng.randint(1, 4)))
        boxes = torch.tensor([(OVER if overlap else APART)[row] for row in rows], dtype=torch.float32).reshape(-1, 4)
        shift = torch.tensor([rng.randint(0, width - 40), rng.randint(0, height - 37)])
        boxes = boxes + shift.repeat(2)
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        image, shapes, keypoints = torch.zeros(OBJECTS + 2, height, width), [], []
        for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            u, v = (x - (x1 + x2) / 2) / (x2 - x1) * 2, (y - (y1 + y2) / 2) / (y2 - y1) * 2
            shape = u**2 + v**2 < 1 if round_ones else (u.abs() < 1) & (v.abs() < 1)
            shapes = [below & ~shape for below in shapes] + [shape]
            at = torch.tensor([[rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6)] for _ in range(points)]).reshape(-1, 2)
            middle, half = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2]), torch.tensor([x2 - x1, y2 - y1]) / 2
            keypoints.append(torch.cat([middle + at * half, torch.full((points, 1), 2.0)], dim=1))
            image[:OBJECTS, shape] = 0
            image[code + n, shape] = 1
            image[OBJECTS:, shape] = torch.stack([x[shape], y[shape]]) / SPAN
        for shape, own in zip(shapes, keypoints, strict=True):
            for point in own:
                point[2] = 2 if shape[int(point[1]), int(point[0])] else 1
        if keypoints and points:
            keypoints[0][0] = torch.tensor([0.0, 0, 0])  # nobody labelled it
        if len(keypoints) > 1 and points:
            keypoints[1][-1, 2] = 0  # where it is nobody says, though there are numbers
        labels = torch.arange(code, code + len(boxes))
        found.places |= {code + n: own.clone() for n, own in enumerate(keypoints)}
        target = {"image_id": 7 + i, "boxes": boxes, "labels": labels, "size": torch.tensor([height, width])}
        if masks:
            target["masks"] = torch.stack(shapes) if shapes else torch.zeros(0, height, width, dtype=torch.bool)
            target["area"] = target["masks"].flatten(1).sum(1).float()
        if points:
            target["keypoints"] = torch.stack(keypoints) if keypoints else torch.zeros(0, points, 3)
        target |= {
            "iscrowd": labels % 2,
            "names": [f"object {label}" for label in labels.tolist()],
            "colours": labels[:, None] * torch.tensor([1.0, 2, 3]),
        }
        found.images.append(image)
        found.targets.append(target)
        code += len(boxes)
    return found


@dataclass
class Step:
    """A child, and what may be said of what it does."""

    module: torch.nn.Module
    moves_frames: bool = True  # only whole images move, upright
    upright: bool = True  # boxes stay those of what they hold
    ghosts: bool = False  # pixels of objects stay where these no longer are
    carries: bool = False  # an object takes along whatever is in its box
    blur: float = 0.1  # pixels, by which a point may be off


def kornia_steps(rng: random.Random) -> list[Step]:
    """A step of Kornia's, of whole images."""
    size = rng.choice([(32, 40), (36, 36), (30, 44)])
    exact = [
        partial(K.RandomHorizontalFlip, p=rng.choice([0.5, 1.0])),
        partial(K.RandomVerticalFlip, p=rng.choice([0.5, 1.0])),
        partial(K.RandomCrop, size, pad_if_needed=True, p=1.0),
        partial(K.RandomCrop, size, padding=rng.choice([3, (2, 5)]), pad_if_needed=True, p=1.0),
        partial(K.CenterCrop, (28, 30), p=1.0),
        partial(K.PadTo, (72, 80)),
    ]
    scaled = [
        partial(K.Resize, rng.choice([(40, 50), (60, 52), (30, 40)])),
        partial(K.RandomResizedCrop, size, scale=(0.4, 1.0), ratio=(0.8, 1.25), p=1.0),
    ]
    loose = [
        partial(
            K.RandomAffine,
            rng.choice([0.0, 20.0, 180.0]),
            translate=rng.choice([None, (0.1, 0.2)]),
            scale=rng.choice([None, (0.8, 1.3)]),
            shear=rng.choice([None, 10.0]),
            align_corners=True,
            resample=rng.choice(["bilinear", "nearest"]),
            p=rng.choice([0.5, 1.0]),
        ),
        partial(K.RandomRotation, rng.choice([10.0, 90.0]), align_corners=True, p=rng.choice([0.5, 1.0])),
    ]
    kinds = [*[(make, 0.1, True) for make in exact], *[(make, 0.6, True) for make in scaled]]
    make, blur, upright = rng.choice([*kinds, *[(make, 0.75, False) for make in loose]])
    return [Step(make(), upright=upright, moves_frames=upright, blur=blur)]


def affine_step(rng: random.Random, overlap: bool, round_ones: bool) -> Step:
    """Objects, each moved by its own theta."""
    clip, fill = rng.choice([True, False]), rng.choice([None, 0.0, 0.0, "surroundings"])
    matte = rng.choice([None, "ellipse"]) if round_ones else None
    padding = rng.choice(["zeros", "zeros", "transparent", "border"]) if clip else "zeros"
    module = kp.RandomPatchAffine(
        rng.choice([15.0, 180.0]),
        rng.choice([None, (0.3, 0.2)]) if clip else rng.choice([None, (0.3, 0.2), (1.5, 1.5)]),
        rng.choice([None, (0.7, 1.2)]),
        rng.choice([None, 10.0]),
        p=rng.choice([0.5, 1.0]),
        p_patch=rng.choice([0.5, 1.0]),
        resample=rng.choice(["bilinear", "nearest"]),
        padding_mode=padding,
        clip=clip,
        fill=fill,
        matte=matte,
        feather=0.05,
        order=rng.choice(["area", "rows"]),
        same_on_batch=rng.choice([False, False, True]),
    )
    ghosts = fill is None and not (clip and matte is None and padding != "transparent")
    # Rectangles fill their boxes, so that nothing else is in these; beside them, a fill goes on.
    carries = overlap and (round_ones or module.flags["order"] == "area" or fill != 0.0)
    return Step(module, moves_frames=False, upright=False, ghosts=ghosts, carries=carries, blur=0.6)


def paste_step(rng: random.Random, masks: bool, bank) -> Step:
    """Copies of objects."""
    matte = rng.choice(["mask", "mask", "box", None])
    module = kp.RandomPatchPaste(
        rng.choice([1, (0, 3)]),
        donors=rng.choice(["batch", "others", "same", bank]),
        degrees=rng.choice([0.0, 180.0]),
        scale=rng.choice([None, (0.7, 1.2)]),
        flip=rng.choice([0.0, 0.5]),
        max_cover=rng.choice([0.1, 0.5, 1.0]),
        matte=matte,
        feather=0.05,
        resample=rng.choice(["bilinear", "nearest"]),
        p=rng.choice([0.5, 1.0]),
    )
    return Step(module, moves_frames=False, upright=False, carries=matte != "mask" or not masks, blur=0.6)


def nested(rng: random.Random, steps: list[Step]) -> Step:
    """Some steps in a container of Kornia's or ours."""
    modules = [step.module for step in steps]
    kinds = [
        lambda: K.AugmentationSequential(*modules, data_keys=["input"]),
        lambda: K.ImageSequential(*modules),
        lambda: kp.PatchAugmentationSequential(*modules, data_keys=["input", "bbox_xyxy"]),
    ]
    return Step(
        rng.choice(kinds)(),
        all(step.moves_frames for step in steps),
        all(step.upright for step in steps),
        any(step.ghosts for step in steps),
        any(step.carries for step in steps),
        sum(step.blur for step in steps),
    )


@dataclass
class Case:
    """A pipeline with what it is given, and which statements hold of it."""

    augment: kp.DetectionSequential
    images: object
    targets: list[dict]
    places: dict[int, Tensor]
    exact: bool  # pixels of objects are where targets say, and nowhere else
    upright: bool  # boxes are tight, also without masks
    blur: float


def case(seed: int) -> Case:
    """The pipeline of a seed."""
    rng = random.Random(seed)
    overlap, round_ones, masks = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.75
    as_batch = rng.random() < 0.5
    sizes = (
        [rng.choice(SIZES)] * rng.randint(1, 3) if as_batch else [rng.choice(SIZES) for _ in range(rng.randint(1, 3))]
    )
    points = rng.choice([0, 3, 3])
    given = scene(
        seed,
        sizes,
        overlap=overlap,
        round_ones=round_ones,
        masks=masks,
        points=points,
        counts=[rng.randint(0 if i else 1, 4) for i in range(len(sizes))],
    )
    stock = scene(
        seed + 1,
        [(44, 44)],
        overlap=False,
        round_ones=round_ones,
        masks=masks,
        points=points,
        first=12,
        counts=[rng.randint(1, 4)],
    )
    steps, layered, apart, exact = [], False, not overlap, True
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(["kornia", "kornia", "affine", "paste"])
        if kind == "kornia":
            steps += kornia_steps(rng)
            continue
        if kind == "affine":
            step = affine_step(rng, overlap, round_ones)
        else:
            step = paste_step(rng, masks, (stock.images, stock.targets))
        by_masks = kind == "paste" and not step.carries
        before = all(each.moves_frames for each in steps)
        if step.ghosts or (not by_masks and (layered or not before or (step.carries and not apart))):
            exact = False
        layered = True
        steps.append(step)
    if rng.random() < 0.4:
        cut = rng.randint(0, len(steps) - 1)
        steps = [*steps[:cut], nested(rng, steps[cut:])]
    images, targets = copy.deepcopy((given.images, given.targets))
    if rng.random() < 0.3:
        images = [(image * 255).round().to(torch.uint8) for image in images]
    elif rng.random() < 0.2:
        images = [image.double() for image in images]
    images = torch.stack(images) if as_batch else images
    augment = kp.DetectionSequential(*[step.module for step in steps])
    return Case(
        augment,
        images,
        targets,
        given.places | stock.places,
        exact,
        all(step.upright for step in steps),
        0.05 + sum(step.blur for step in steps),
    )


def around(where: Tensor) -> Tensor:
    """Whether all of the 3 x 3 pixels around each are, of ``(..., H, W)`` bool."""
    return max_pool2d((~where).float().reshape(1, -1, *where.shape[-2:]), 3, 1, 1).reshape(where.shape) == 0


def at(image: Tensor, x: float, y: float) -> Tensor | None:
    """The four pixels of a picture ``(C, H, W)`` around a point, ``(C, 4)``, and their weights; None at an edge."""
    left, top = int(x - 0.5), int(y - 0.5)
    if x < 0.5 or y < 0.5 or left + 1 >= image.shape[2] or top + 1 >= image.shape[1]:
        return None
    a, b = x - 0.5 - left, y - 0.5 - top
    weights = torch.tensor([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], dtype=image.dtype)
    return torch.cat([image[:, top : top + 2, left : left + 2].flatten(1), weights[None]])


class Findings:
    """What was looked at, and what was wrong, by statement."""

    def __init__(self) -> None:
        self.looked: dict[str, int] = {}
        self.wrong: dict[str, list[str]] = {}

    def __call__(self, statement: str, holds: object, about: str) -> None:
        self.looked[statement] = self.looked.get(statement, 0) + 1
        if not bool(holds):
            self.wrong.setdefault(statement, []).append(about)


def judge(say: Findings, seed: int, case: Case, images, targets) -> None:
    """Compare what came out with what its pixels say."""
    assert type(images) is type(case.images) and len(images) == len(targets) == len(case.images)
    for i, (image, target, was) in enumerate(zip(images, targets, case.targets, strict=True)):
        name, size = f"seed {seed} image {i}", tuple(image.shape[1:])
        say("forms", image.dtype == case.images[i].dtype and list(target) == list(was), name)
        say("forms", target["image_id"] == was["image_id"] and target["size"].tolist() == list(size), name)
        codes, boxes = target["labels"].tolist(), target["boxes"].double()
        for key in set(target) - {"image_id", "size"}:
            say("forms", len(target[key]) == len(codes) and type(target[key]) is type(was[key]), f"{name} {key}")
            if isinstance(target[key], Tensor):
                say("forms", target[key].dtype == was[key].dtype, f"{name} {key}")
        say("rows follow", target["names"] == [f"object {code}" for code in codes], name)
        say("rows follow", target["iscrowd"].tolist() == [code % 2 for code in codes], name)
        say("rows follow", target["colours"].tolist() == [[code, 2 * code, 3 * code] for code in codes], name)
        pixels = image.double() / (255 if image.dtype == torch.uint8 else 1)
        shown, source = pixels[:OBJECTS], pixels[OBJECTS:] * SPAN
        solid, absent = around(shown > 0.98), around(shown < 0.02)
        limits = torch.tensor([size[1], size[0]]).double()
        say("boxes lie in images", (boxes >= 0).all() and (boxes <= limits.repeat(2)).all(), f"{name} {boxes.tolist()}")
        columns, rows = torch.arange(size[1]).double() + 0.5, torch.arange(size[0]).double() + 0.5
        within = ((columns > boxes[:, :1] - 1.5) & (columns < boxes[:, 2:3] + 1.5))[:, None] & (
            (rows > boxes[:, 1:2] - 1.5) & (rows < boxes[:, 3:] + 1.5)
        )[:, :, None]
        for code in range(OBJECTS):
            own = [row for row in range(len(codes)) if codes[row] == code]
            of = f"{name} object {code}"
            if case.exact:
                say("what is shown has a row", own or not solid[code].any(), of)
                if own:
                    say("boxes hold pixels", not (solid[code] & ~within[own].any(0)).any(), of)
            if case.exact and own and "masks" in target:
                say("masks hold pixels", not (solid[code] & ~target["masks"][own].any(0)).any(), of)
        for row, code in enumerate(codes):
            of = f"{name} row {row} object {code}"
            before = was["labels"].tolist().index(code) if code in was["labels"].tolist() else None
            if case.upright:
                there = shown[code] > 0.5
                ys, xs = there.any(1).nonzero()[:, 0], there.any(0).nonzero()[:, 0]
                if len(xs) and case.exact:
                    tight = torch.stack([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
                    if not case_overlaps(case):
                        say(
                            "upright boxes are tight",
                            (boxes[row] - tight).abs().max() < 1.5,
                            f"{of} {boxes[row]} {tight}",
                        )
            if "masks" in target:
                mask = target["masks"][row]
                say(
                    "masks show their own object",
                    not (mask & absent[code]).any(),
                    f"{of}: {int((mask & absent[code]).sum())} of {int(mask.sum())}",
                )
                say("rows show something", mask.any(), of)
                ys, xs = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
                if len(xs):
                    tight = torch.stack([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]).double()
                    low, high = boxes[row, :2] - tight[:2], tight[2:] - boxes[row, 2:]
                    say(
                        "boxes hold masks",
                        max(low.max(), high.max()) <= 1e-4,
                        f"{of} {boxes[row].tolist()} {tight.tolist()}",
                    )
                    same = before is not None and torch.equal(boxes[row], was["boxes"][before].double())
                    say(
                        "boxes are tight",
                        same or (boxes[row] - tight).abs().max() <= 1e-4,
                        f"{of} {boxes[row].tolist()} {tight.tolist()}",
                    )
                say("areas are of masks", target["area"][row] == mask.sum(), of)
            if "keypoints" in target:
                judge_points(
                    say,
                    of,
                    case,
                    codes.count(code) == 1,
                    target["keypoints"][row],
                    case.places[code],
                    shown[code],
                    source,
                    solid[code],
                    absent[code],
                    before is not None,
                )


def case_overlaps(case: Case) -> bool:
    """Whether any two boxes of a picture that is given overlap."""
    for target in case.targets:
        boxes = target["boxes"]
        sides = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - torch.maximum(
            boxes[:, None, :2], boxes[None, :, :2]
        )
        if (sides > 0).all(-1).sum() > len(boxes):
            return True
    return False


def judge_points(say, of, case, only, found, places, shown, source, solid, absent, own) -> None:
    for k, ((x, y, flag), (u, v, was)) in enumerate(zip(found.tolist(), places.tolist(), strict=True)):
        what = f"{of} point {k} ({x:.2f}, {y:.2f}, {flag:g}) was ({u:.2f}, {v:.2f}, {was:g})"
        if was == 0:
            say("unlabelled points stay", flag == 0 and (not own or (x, y) == (u, v)), what)
            continue
        say("flags only fall", flag <= was, what)
        if flag == 0:
            say("points out of sight are at 0", x == 0 and y == 0, what)
            if case.exact and only and was == 2:
                there = solid & ((source[0] - u).abs() < 0.3) & ((source[1] - v).abs() < 0.3)
                say("points out of sight are not there", not there.any(), what)
            continue
        say("points lie in images", 0 <= x < solid.shape[1] and 0 <= y < solid.shape[0], what)
        if not (0 <= x < solid.shape[1] and 0 <= y < solid.shape[0]):
            continue
        taps = at(torch.cat([shown[None], source]), x, y)
        is_solid = taps is not None and bool((taps[0] > 0.98).all())
        if is_solid:
            apart = max(abs(float((taps[1] * taps[3]).sum()) - u), abs(float((taps[2] * taps[3]).sum()) - v))
        if not only:
            continue  # copies may show one another's
        if flag == 2:
            say("visible points are there", not absent[int(y), int(x)], what)
            if is_solid:
                say("visible points show their dot", apart < case.blur, f"{what} apart {apart:.2f} > {case.blur:.2f}")
        elif was == 2:
            say("hidden points are hidden", not is_solid or apart > 0.3, what)
