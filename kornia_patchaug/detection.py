"""Augmentation of images and targets as detectors take them: targets in, true targets out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from kornia.augmentation import (
    ImageSequential,
    IntensityAugmentationBase2D,
    MixAugmentationBaseV2,
    Normalize,
    PatchSequential,
    RigidAffineAugmentationBase2D,
    VideoSequential,
)
from kornia.augmentation.auto import AutoAugment, RandAugment, TrivialAugment
from kornia.constants import DataKey, Resample
from kornia.geometry.boxes import Boxes
from torch import Tensor, nn

from kornia_patchaug.boxes import without_class
from kornia_patchaug.checks import check_unit
from kornia_patchaug.donors import Donors, Pool
from kornia_patchaug.frames import corners_of
from kornia_patchaug.groups import ORIGIN, SEEN, VISIBILITY, Group, GroupOps, donors_of, merged, within
from kornia_patchaug.hooks import ROUNDING, ObjectAugmentation
from kornia_patchaug.kornia_names import ParamItem, boxes_of_edges, corners_and_validity, object_rows
from kornia_patchaug.labels import half_open
from kornia_patchaug.pasting import RandomPatchPaste
from kornia_patchaug.targets import (
    Labels,
    Target,
    all_have,
    as_dtype,
    as_floats,
    as_they_came,
    boxes_like,
    check_pictures,
    check_target,
    classed,
    count_of_points,
    take,
)

# Of Kornia's others, as elastic transforms and splines, boxes and keypoints stay where they were.
FOLLOWED = (
    IntensityAugmentationBase2D,
    RigidAffineAugmentationBase2D,
    PatchSequential,
    AutoAugment,
    RandAugment,
    TrivialAugment,
)


class DetectionSequential(nn.Module):
    """Augments images and the targets of a detector, as torchvision's detectors take both.

    Each step gets the labels as they are at its step: boxes, masks and keypoints move with their own objects, lose what
    is painted over them and what an image's edge cuts off, and rows that are no longer seen are left out. Images of
    different sizes are augmented size by size, never padded.

    Args:
        *children: Kornia's 2D augmentations, ours, and containers of these, as modules. None that mixes images, as
            ``RandomMixUpV2`` does, other than `RandomPatchPaste`.
        min_size: rows whose box is less wide or high than this many pixels are left out.
        min_visible: rows of which a smaller share is seen are left out: of the object as it came, times what each step
            leaves of it, which edges of images cut off and patches cover, as `visible_share` tells it.
        boxes_from_masks: where targets have masks, boxes that change are tight around what is seen of theirs.

    Raises:
        TypeError, ValueError: an option or child that is none, when it is made; a wrong image or target, naming it, or
            what a child raises, when it is called.

    Examples:
        >>> import kornia.augmentation as K
        >>> turn = kp.RandomPatchAffine(180.0, p=1.0, matte="ellipse")
        >>> augment = kp.DetectionSequential(K.RandomHorizontalFlip(p=1.0), turn)
        >>> images = [torch.rand(3, 32, 48), torch.rand(3, 40, 40)]
        >>> targets = [
        ...     {"boxes": torch.tensor([[4.0, 4.0, 20.0, 28.0]]), "labels": torch.tensor([1])},
        ...     {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
        ... ]
        >>> images, targets = augment(images, targets)
        >>> [image.shape for image in images], [len(target["boxes"]) for target in targets]
        ([torch.Size([3, 32, 48]), torch.Size([3, 40, 40])], [1, 0])
    """

    def __init__(
        self, *children: nn.Module, min_size: float = 1.0, min_visible: float = 0.0, boxes_from_masks: bool = True
    ) -> None:
        super().__init__()
        if not (isinstance(min_size, (int, float)) and min_size >= 0):
            raise ValueError(f"min_size: expected pixels, 0 or more, got {min_size!r}.")
        check_unit("min_visible", min_visible, "a share")
        for child in children:
            _check_step(child)
        self.steps = nn.ModuleList(children)
        self.min_size, self.min_visible, self.boxes_from_masks = min_size, min_visible, boxes_from_masks
        self._params: list[list[ParamItem]] = []

    def forward(self, images: Any, targets: Any, *, params: list[list[ParamItem]] | None = None) -> tuple[Any, Any]:
        """Augment images and their targets.

        Args:
            images: a list of ``(C, H, W)`` of any sizes, a batch ``(B, C, H, W)``, or one image ``(C, H, W)``; uint8 or
                floating, in [0, 1] where augmentations of colour expect that.
            targets: a dict for each image (one dict for one image), with ``boxes (n, 4)``, half-open ``x1 y1 x2 y2`` in
                pixels, or torchvision's ``BoundingBoxes`` of any format; and where they are known ``labels (n,)``,
                ``masks (n, H, W)``, ``keypoints (n, K, 2)`` or ``(n, K, 3)`` with COCO's visibility, ``area (n,)``, and
                whatever else has n rows.
            params: a draw to replay, as in ``_params``, on as many images of the same sizes.

        Returns:
            Images and targets in the forms and dtypes in which they came; nothing that was passed is changed. Rows that
            `RandomPatchPaste` appends are last. A keypoint that is covered gets the visibility 1, one that is out of
            sight 0, at (0, 0). ``area`` is that of the mask, or goes with the box.
        """
        if isinstance(images, Tensor) and images.ndim == 3:
            found, labels = self([images], [targets], params=params)
            return found[0], labels[0]
        pictures = check_pictures(images)
        if isinstance(targets, Mapping) or not isinstance(targets, Sequence) or len(targets) != len(pictures):
            got = f"{len(targets)}" if isinstance(targets, (list, tuple)) else type(targets).__name__
            raise ValueError(f"targets: expected a list of {len(pictures)} dicts, one an image, got {got}.")
        if (
            pictures
            and pictures[0].dtype == torch.uint8
            and any(isinstance(step, Normalize) for step in self.modules())
        ):
            raise TypeError("images: expected a floating dtype, as they are normalized, got uint8. Use images / 255.")
        pairs = enumerate(zip(targets, pictures, strict=True))
        checked = [check_target(target, picture, f"targets[{i}]") for i, (target, picture) in pairs]
        call = _Call(self, pictures, checked, images if isinstance(images, Tensor) else None)
        device = pictures[0].device.type if pictures else "cpu"
        with torch.autocast(device, enabled=False):  # which would round labels
            groups = self._run(call, params)
        pixels, out_targets = call.finished(groups, list(targets))
        if isinstance(images, Tensor):  # of one size, as all are resized alike
            return classed(pixels[0] if pixels else images, images), out_targets
        order = [i for group in groups for i in group.index]
        found = dict(zip(order, (image for some in pixels for image in some), strict=True))
        return [classed(found[i], like) for i, like in enumerate(images)], out_targets

    def _run(self, call: _Call, params: list[list[ParamItem]] | None) -> list[Group]:
        """Take the images of a call, and their labels, through the steps."""
        groups, drawn = call.groups(), list[list[ParamItem]]()
        for i, step in enumerate(self.steps):
            groups = merged(groups)
            _check_replay(params, i, groups)
            donors = donors_of(groups) if len(groups) > 1 and _pastes(step) else None
            drawn.append([])
            for group in groups:
                given = _drawn(step, group, str(i)) if params is None else params[i][len(drawn[i])]
                group.run(step, given, call.ops, call.extra_of(group, donors))
                drawn[i].append(given)
        self._params = drawn
        return groups


class _Call:
    """One call: its images and labels, in groups of one size, and what becomes of them."""

    def __init__(
        self, module: DetectionSequential, pictures: list[Tensor], labels: list[Labels], batch: Tensor | None
    ) -> None:
        self.module, self.pictures, self.labels, self.batch = module, pictures, labels, batch
        self.banks = [step for step in module.modules() if isinstance(step, RandomPatchPaste) and step.bank is not None]
        self.has_masks = all_have("masks", labels)
        self.points = count_of_points(labels)
        sources = [*labels, *(part for step in self.banks for part in cast("Any", step.bank).found)]
        self.sources = sources
        counts = [len(part.boxes) for part in sources]
        self.starts = [sum(counts[:i]) for i in range(len(counts))]
        self.owner = [i for i, count in enumerate(counts) for _ in range(count)]
        self.row = [row for count in counts for row in range(count)]
        if any(part.labels is None and len(part.boxes) for part in labels):
            for step in module.modules():
                if isinstance(step, ObjectAugmentation) and step._asks_for_classes:
                    raise ValueError(
                        f"targets: expected labels in each, as {type(step).__name__} has options for classes."
                    )
        self.ops = GroupOps(module.boxes_from_masks and self.has_masks, module.min_visible > 0)
        self.initial: Tensor | None = None
        self.extra = self._extra()

    def _extra(self) -> dict[Any, Any]:
        extra: dict[Any, Any] = {
            DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": None, "instances": True},
            DataKey.KEYPOINTS: {"instances": self.points},
            "rows_of_bank": {},
        }
        start = sum(len(part.boxes) for part in self.labels)
        for step in self.banks:
            bank = cast("Any", step.bank)
            count = len(bank)
            labels = bank.boxes.new_zeros(count, dtype=torch.int64) if bank.labels is None else bank.labels
            origin = torch.arange(start, start + count, device=labels.device)
            rows = [labels, origin, bank.boxes.new_ones(count)]
            if self.points:
                if bank.visibility is None or bank.visibility.shape[1] != self.points:
                    raise ValueError(f"donors: expected {self.points} keypoints of each object of the bank.")
                rows.append(bank.visibility)
            extra["rows_of_bank"][step] = tuple(rows)
            start += count
        return extra

    def extra_of(self, group: Group, donors: Donors | None) -> dict[Any, Any]:
        """What a step is told beside the labels of a group."""
        if donors is None:
            return self.extra
        return {**self.extra, "pool": Pool(donors, torch.tensor(group.index, device=group.images.device))}

    def groups(self) -> list[Group]:
        """Images of one size together."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, picture in enumerate(self.pictures):
            sizes.setdefault(tuple(picture.shape[1:]), []).append(i)
        return [self._group(index) for index in sizes.values()]

    def _group(self, index: list[int]) -> Group:
        together = torch.stack([self.pictures[i] for i in index]) if self.batch is None else without_class(self.batch)
        images = as_floats(together)
        labels, like = [self.labels[i] for i in index], images.new_empty(0, dtype=self.labels[index[0]].boxes.dtype)
        counts = torch.tensor([len(part.boxes) for part in labels], device=images.device)
        most = max(int(counts.max()), 1)  # Kornia does not take boxes without rows
        objects = torch.arange(most, device=images.device) < counts[:, None]

        def padded(values: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            found = torch.zeros(len(index), most, *shape, dtype=dtype, device=images.device)
            return found.index_put((objects,), torch.cat(values).to(dtype)) if sum(map(len, values)) else found

        flat = padded([part.boxes for part in labels], (4,), like.dtype)
        flat = flat.where(objects[..., None], flat.new_tensor([0.0, 0.0, 1.0, 1.0]))
        boxes: Boxes = boxes_of_edges(corners_of(flat.flatten(0, 1)).unflatten(0, flat.shape[:2]), objects)
        boxes, _ = within(boxes, images)
        classes = [part.labels if part.labels is not None else torch.zeros(len(part.boxes)) for part in labels]
        origin = [torch.arange(len(self.labels[i].boxes)) + self.starts[i] for i in index]
        of_rows = [padded([each.to(images.device) for each in classes], (), torch.int64)]
        of_rows += [padded([each.to(images.device) for each in origin], (), torch.int64), torch.ones_like(flat[..., 0])]
        masks = points = None
        size = tuple(images.shape[2:])
        if self.has_masks:
            each = [part.masks if part.masks is not None else images.new_zeros(0, *size) for part in labels]
            masks = padded(each, size, images.dtype)
        if self.points:
            nothing = like.new_zeros(0, self.points, 2)
            each = [part.keypoints if part.keypoints is not None else nothing for part in labels]
            points = padded([part[..., :2] for part in each], (self.points, 2), like.dtype) - 0.5
            flags = [part[..., 2] if part.shape[2] == 3 else torch.full_like(part[..., 0], 2) for part in each]
            of_rows.append(padded(flags, (self.points,), like.dtype))
        if self.initial is None:
            self.initial = like.new_zeros(len(self.owner), 4)
        now = half_open(boxes, corners_and_validity(boxes)[0].flatten(0, 1)).reshape_as(flat)
        self.initial[of_rows[ORIGIN][objects]] = now[objects].detach().to(self.initial)
        return Group(index, images, boxes, masks, points, of_rows)

    def finished(self, groups: list[Group], targets: list[Target]) -> tuple[list[Tensor], list[dict[str, Any]]]:
        """The images of each group, and all targets in their order, in the dtypes and classes in which they came."""
        dtype = self.pictures[0].dtype if self.pictures else torch.float32
        found = [dict[str, Any]()] * len(targets)
        for group in groups:
            kept = self._kept(group)
            for k, i in enumerate(group.index):
                found[i] = self._target(group, k, i, kept[k].nonzero()[:, 0], targets)
        return [as_they_came(group.images, dtype) for group in groups], found

    def _kept(self, group: Group) -> Tensor:
        """The rows ``(b, M)`` that are left."""
        corners, valid = corners_and_validity(group.boxes)
        sides = corners.amax(2) - corners.amin(2)
        large = (sides >= self.module.min_size * (1 - ROUNDING)) & (sides > 0)
        seen = group.rows[SEEN] >= self.module.min_visible * (1 - ROUNDING)
        return valid & object_rows(group.boxes) & large.all(-1) & seen

    def _target(self, group: Group, k: int, i: int, rows: Tensor, targets: list[Target]) -> dict[str, Any]:
        """The target of image ``i``, the k-th of its group, of the rows that are left."""
        target, labels = targets[i], self.labels[i]
        origin = group.rows[ORIGIN][k, rows]
        boxes = half_open(group.boxes, corners_and_validity(group.boxes)[0][k, rows])
        initial = cast("Tensor", self.initial)
        own = (origin >= self.starts[i]) & (origin < self.starts[i] + len(labels.boxes))
        same = own & (boxes == initial[origin]).all(1) if len(initial) else own
        row = (origin - self.starts[i]).clamp(0, max(len(labels.boxes) - 1, 0))
        result = {}
        for name, value in target.items():
            if name == "boxes":
                result[name] = boxes_like(value, boxes, row, same, tuple(group.images.shape[2:]))
            elif name == "masks" and group.masks is None:  # of no objects at all
                result[name] = classed(value.new_zeros(0, *group.images.shape[2:]), value)
            elif name == "keypoints" and group.keypoints is None:
                result[name] = value
            elif name == "masks":
                masks = cast("Tensor", group.masks)[k, rows]
                result[name] = classed(masks > 0.5 if value.dtype == torch.bool else masks.to(value.dtype), value)
            elif name == "keypoints":
                result[name] = self._keypoints(group, k, rows, value, row, own)
            elif name == "size" and isinstance(value, Tensor) and value.numel() == 2:
                result[name] = value.new_tensor(group.images.shape[2:]).reshape(value.shape)
            elif name == "area" and name in labels.rows:
                result[name] = self._area(group, k, i, rows, boxes, same, origin.tolist())
            elif name == "labels":
                result[name] = classed(self._rows(name, origin.tolist(), i).to(value.dtype), value)
            elif name in labels.rows:
                result[name] = self._rows(name, origin.tolist(), i)
            else:
                result[name] = value
        return result

    def _rows(self, name: str, origin: list[int], i: int) -> Any:
        """What targets say of rows under a name: those of the image, and of others from which objects were copied."""

        def of(source: int) -> Any:
            labels = self.sources[source]
            return labels.labels if name == "labels" else labels.rows.get(name)

        own = of(i)
        if all(self.owner[o] == i for o in origin):
            return take(own, [self.row[o] for o in origin])
        for o in origin:
            if of(self.owner[o]) is None:
                raise ValueError(
                    f'targets[{i}]["{name}"]: an object was copied into this image from a picture whose target has no '
                    f"{name!r}. Give it to all targets, and to those of a bank, or to none."
                )
        values = [of(self.owner[o])[self.row[o]] for o in origin]
        return torch.stack([value.to(own) for value in values]) if isinstance(own, Tensor) else type(own)(values)

    def _keypoints(self, group: Group, k: int, rows: Tensor, value: Tensor, row: Tensor, own: Tensor) -> Tensor:
        points = cast("Tensor", group.keypoints)[k, rows] + 0.5
        if value.shape[2] == 2:
            return classed(as_dtype(points, value.dtype), value)
        flags = group.rows[VISIBILITY][k, rows]
        points = points.where(flags[..., None] > 0, 0)
        if len(value):  # those that nobody labelled stay as they are
            was = torch.as_tensor(value).to(points)[row]
            points = was[..., :2].where(((was[..., 2] == 0) & own[:, None])[..., None], points)
        return classed(as_dtype(torch.cat([points, flags[..., None].to(points)], dim=-1), value.dtype), value)

    def _area(self, group: Group, k: int, i: int, rows: Tensor, boxes: Tensor, same: Tensor, origin: list[int]) -> Any:
        """That of the mask; or without masks what it was, times by how much the area of the box changed."""
        kept = torch.as_tensor(self._rows("area", origin, i))
        if group.masks is not None:
            found = (group.masks[k, rows] != 0).flatten(1).sum(1)
            of = [(self.sources[self.owner[o]].masks, self.row[o]) for o in origin]
            before = [int((masks[row] != 0).sum()) if masks is not None else -1 for masks, row in of]
            same = same & (found == torch.tensor(before, device=found.device, dtype=found.dtype))
        else:
            was = torch.stack([self.sources[self.owner[o]].boxes[self.row[o]] for o in origin]) if origin else boxes
            now, old = ((each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, was.to(boxes)))
            found = kept.to(boxes) * now / old.clamp(min=1e-9)
        return kept.where(same, as_dtype(found.double(), kept.dtype))


def _check_step(step: object) -> None:
    """Raise unless labels can follow a step."""
    if isinstance(step, ImageSequential) and not isinstance(step, (VideoSequential, PatchSequential)):
        for child in step.children():
            _check_step(child)
        return
    name = type(step).__name__
    if not isinstance(step, nn.Module):
        raise TypeError(f"children: expected modules, got {name}.")
    if isinstance(step, (MixAugmentationBaseV2, VideoSequential)):
        raise TypeError(
            f"children: expected augmentations of images one by one, got {name}. "
            "RandomPatchPaste copies objects between images."
        )
    if not isinstance(step, FOLLOWED):
        raise TypeError(
            "children: expected augmentations of Kornia or of this package that move labels as they move pixels, got "
            f"{name}. One of yours that changes colours alone can derive from "
            "kornia.augmentation.IntensityAugmentationBase2D."
        )


def _check_replay(params: list[list[ParamItem]] | None, i: int, groups: list[Group]) -> None:
    """Raise unless a draw is one of step ``i`` for groups of images."""
    if params is None:
        return
    counts = [_count_of(item) for item in params[i]] if i < len(params) else []
    expected = [len(group.images) for group in groups]
    if len(counts) != len(expected) or any(n not in (None, m) for n, m in zip(counts, expected, strict=True)):
        raise ValueError(f"params: expected a draw of step {i} for {expected} images of one size each, got {counts}.")


def _count_of(item: ParamItem) -> int | None:
    """For how many images a draw is, if it says so."""
    if isinstance(item.data, list):
        return next((n for n in map(_count_of, item.data) if n is not None), None)
    return None if item.data is None or "batch_prob" not in item.data else len(item.data["batch_prob"])


def _pastes(step: nn.Module) -> bool:
    return any(isinstance(part, RandomPatchPaste) and part.bank is None for part in step.modules())


def _drawn(step: nn.Module, group: Group, name: str) -> ParamItem:
    """The draw of a step for a group."""
    draws = getattr(step, "forward_parameters", None)
    return ParamItem(name, None if draws is None else draws(group.images.shape))
