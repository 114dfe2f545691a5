"""Images of one size and their labels, padded to as many rows, on their way through the steps of a detector's batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from kornia.constants import DataKey
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor, nn

from kornia_patchaug.container import ObjectOps
from kornia_patchaug.donors import Donors
from kornia_patchaug.draw import Draw
from kornia_patchaug.frames import cut_off
from kornia_patchaug.hooks import ObjectAugmentation
from kornia_patchaug.kornia_names import ParamItem, corners_and_validity, object_rows, with_corners, with_rows
from kornia_patchaug.labels import corners_from, half_open

LABELS, ORIGIN, SEEN, VISIBILITY = range(4)  # what is handed on as class keys, in this order


@dataclass
class Group:
    """Images of one size, and their labels padded to M rows."""

    index: list[int]  # which images these are
    images: Tensor  # (b, C, H, W)
    boxes: Boxes  # (b, M)
    masks: Tensor | None  # (b, M, H, W)
    keypoints: Tensor | None  # (b, M, K, 2) in Kornia's pixel centres
    rows: list[Tensor]  # (b, M, ...): labels, origin, share that is seen, visibility of keypoints

    def run(self, step: nn.Module, param: ParamItem, ops: GroupOps, extra: dict[Any, Any]) -> None:
        """Take the images and their labels through a step, in place."""
        keys, given = [DataKey.INPUT, DataKey.BBOX], [self.images, self.boxes]
        if self.masks is not None:
            keys, given = [*keys, DataKey.MASK], [*given, self.masks]
        if self.keypoints is not None:
            keys, given = [*keys, DataKey.KEYPOINTS], [*given, Keypoints(self.keypoints.flatten(1, 2))]
        keys, given = [*keys, *[DataKey.CLASS] * len(self.rows)], [*given, *self.rows]
        outputs = ops.transform(*given, module=step, param=param, extra_args=extra, data_keys=keys)
        self.images, self.boxes = outputs[:2]
        self.rows = list(outputs[-len(self.rows) :])
        if self.masks is not None:
            self.masks = outputs[2]
        if self.keypoints is not None:
            points = self.keypoints.shape[2]
            self.keypoints = outputs[keys.index(DataKey.KEYPOINTS)].data.unflatten(1, (-1, points))


class GroupOps(ObjectOps):
    """Keeps labels within their images, and says what of objects is still seen."""

    def __init__(self, boxes_from_masks: bool, counts_shares: bool) -> None:
        super().__init__(None, boxes_from_masks)
        self.counts_shares = counts_shares

    def _goes_into(self, container: nn.Module) -> bool:
        return True

    def _settle(
        self, inputs: Sequence[Any], outputs: Any, keys: list[DataKey], module: nn.Module, param: ParamItem
    ) -> None:
        images, at = outputs[keys.index(DataKey.INPUT)], keys.index(DataKey.BBOX)
        rows = [i for i, key in enumerate(keys) if key == DataKey.CLASS]
        boxes, share = within(outputs[at], images)
        if self.counts_shares:
            seen = outputs[rows[SEEN]] * share
            if isinstance(module, ObjectAugmentation):
                seen = module.with_shares(seen, cast("Draw", param.data))
            outputs[rows[SEEN]] = seen
        outputs[at] = boxes
        if DataKey.KEYPOINTS in keys:
            flags = outputs[rows[VISIBILITY]]
            at = keys.index(DataKey.KEYPOINTS)
            before, points = (part[at].data.unflatten(1, (-1, flags.shape[2])) + 0.5 for part in (inputs, outputs))
            height, width = images.shape[2:]
            inside = ((points >= 0) & (points < points.new_tensor((width, height)))).all(-1)
            if isinstance(module, ObjectAugmentation):
                covered, shown = module.hidden_points(before, points, cast("Draw", param.data))
                flags, inside = torch.where(covered, flags.clamp(max=1), flags), inside & shown
            outputs[rows[VISIBILITY]] = flags * inside


def within(boxes: Boxes, images: Tensor) -> tuple[Boxes, Tensor]:
    """Boxes cut off at the edges of their images, removed if nothing is left, and which share is left ``(b, M)``."""
    corners, valid = corners_and_validity(boxes)
    flat = half_open(boxes, corners.flatten(0, 1))
    cut = cut_off(flat, *images.shape[2:])
    area, left = ((each[:, 2:] - each[:, :2]).prod(1) for each in (flat, cut))
    share = (left / area.where(area > 0, 1)).unflatten(0, valid.shape)
    new = corners_from(boxes, cut).to(corners.dtype)
    new = new.where((cut != flat).any(1)[:, None, None], corners.flatten(0, 1)).reshape(corners.shape)
    return with_corners(boxes, new, valid & (left > 0).unflatten(0, valid.shape)), share


def merged(groups: list[Group]) -> list[Group]:
    """Groups whose images have become of one size as one."""
    by_size: dict[tuple[int, ...], list[Group]] = {}
    for group in groups:
        by_size.setdefault(tuple(group.images.shape[2:]), []).append(group)
    return [some[0] if len(some) == 1 else _joined(some) for some in by_size.values()]


def _joined(groups: list[Group]) -> Group:
    most = max(object_rows(group.boxes).shape[1] for group in groups)

    def together(values: list[Any]) -> Any:
        if values[0] is None:
            return None
        return torch.cat([nn.functional.pad(v, (0, 0) * (v.ndim - 2) + (0, most - v.shape[1])) for v in values])

    corners = together([corners_and_validity(group.boxes)[0] for group in groups])
    valid, objects = (
        together([of(group.boxes) for group in groups]) for of in (lambda b: corners_and_validity(b)[1], object_rows)
    )
    boxes = with_rows(groups[0].boxes, corners, valid, objects)
    index = [i for group in groups for i in group.index]
    images = torch.cat([group.images for group in groups])
    masks, points = (together([getattr(group, name) for group in groups]) for name in ("masks", "keypoints"))
    rows = [together(list(values)) for values in zip(*(group.rows for group in groups), strict=True)]
    return Group(index, images, boxes, masks, points, rows)


def donors_of(groups: list[Group]) -> Donors:
    """The objects of all groups, in pictures that are padded to one size, of which no object reads the padding."""
    size = [max(group.images.shape[dim] for group in groups) for dim in (2, 3)]

    def enlarged(values: Tensor) -> Tensor:
        return nn.functional.pad(values, (0, size[1] - values.shape[-1], 0, size[0] - values.shape[-2]))

    parts: list[list[Any]] = []
    first = 0
    for group in groups:
        corners, valid = corners_and_validity(group.boxes)
        own = valid & object_rows(group.boxes)
        image = own.nonzero()[:, 0]
        parts.append(
            [
                half_open(group.boxes, corners[own]),
                first + image,
                torch.tensor(group.index, device=own.device)[image],
                None if group.masks is None else enlarged(group.masks[own]),
                None if group.keypoints is None else group.keypoints[own] + 0.5,
                *[values[own] for values in group.rows],
            ]
        )
        first += len(group.images)
    joined: list[Any] = [None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)]
    boxes, picture, number, masks, points, *rows = joined
    pictures = torch.cat([enlarged(group.images) for group in groups])
    which = None if masks is None else torch.arange(len(masks), device=masks.device)
    return Donors(boxes, picture, number, rows[LABELS], masks, which, points, pictures, tuple(rows))
