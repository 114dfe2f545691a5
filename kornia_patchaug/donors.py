"""The objects that may be copied: those of the images of a batch, or of a bank that a caller holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kornia_patchaug.frames import cut_off, painted_pixels
from kornia_patchaug.painting import packed
from kornia_patchaug.plan import LEFT, WIDTH, Windows
from kornia_patchaug.targets import Labels, as_floats, check_pictures, check_target, take


class Donors(NamedTuple):
    """D objects and where their pixels are."""

    boxes: Tensor  # (D, 4) half-open, in pixels of their pictures
    picture: Tensor  # (D,) int64, which picture shows each
    image: Tensor | None = None  # (D,) int64, which image of the batch each is in; None: of a bank
    classes: Tensor | None = None  # (D,) int64
    masks: Tensor | None = None  # (S, h, w), over the pictures
    which: Tensor | None = None  # (D,) int64, which of the masks
    keypoints: Tensor | None = None  # (D, K, 2) in pixels of the pictures
    pictures: Tensor | None = None  # (S, C, h, w); None: the images that copies are laid over
    rows: tuple[Tensor, ...] | None = None  # (D, ...) each, of every class key; None: classes alone

    def masks_of(self, donor: Tensor) -> Tensor:
        """Masks ``(K, h, w)`` of donors ``(K,)``, of such as have masks."""
        assert self.masks is not None and self.which is not None
        if len(self.masks) == 1:
            return self.masks.expand(len(donor), -1, -1)
        return self.masks[self.which[donor]]


class Pool(NamedTuple):
    """Donors of more images than the batch's own."""

    donors: Donors
    images: Tensor  # (B,) which of these images those of the batch are


class Bank(nn.Module):
    """The objects of pictures, copied side by side to one sheet, so that it takes the memory of its objects.

    Args:
        images: a batch ``(S, C, H, W)`` or a list of ``(C, H, W)``, uint8 or floating.
        targets: a dict an image with ``boxes``, and where they are needed ``labels``, ``masks`` and ``keypoints``.
    """

    sheet: Tensor  # (1, C, h, w)
    boxes: Tensor
    labels: Tensor | None
    masks: Tensor | None
    keypoints: Tensor | None

    def __init__(self, images: Any, targets: Any) -> None:
        super().__init__()
        pictures, found = check_pictures(images), []
        if not isinstance(targets, Sequence) or len(targets) != len(pictures):
            got = len(targets) if isinstance(targets, Sequence) else type(targets).__name__
            raise ValueError(f"donors: expected as many targets as images ({len(pictures)}), got {got}.")
        for i, (picture, target) in enumerate(zip(pictures, targets, strict=True)):
            found.append(_with_area(check_target(target, picture, f"donors: targets[{i}]"), picture))
        if not sum(len(labels.boxes) for labels in found):
            raise ValueError("donors: expected a bank with objects, got none that has an area in its picture.")
        _check_all_or_none("masks", [labels.masks for labels in found])
        with torch.no_grad():
            self._lay_out(pictures, found)
        self.register_buffer("labels", _joined("labels", [labels.labels for labels in found]), persistent=False)
        points = _joined("keypoints", [labels.keypoints for labels in found])
        moved = None if points is None else points[..., :2] + self._shift[:, None]
        self.register_buffer("keypoints", moved, persistent=False)
        self.register_buffer("visibility", _visibility(points), persistent=False)
        self.found = [labels._replace(masks=None) for labels in found]  # what the targets say of rows

    def _lay_out(self, pictures: list[Tensor], found: list[Labels]) -> None:
        """Copy what the objects cover to the sheets."""
        whole = [_whole_pixels(labels, picture) for labels, picture in zip(found, pictures, strict=True)]
        corners = np.concatenate(whole)
        areas = Windows.of(np.zeros(len(corners), np.int64), corners[:, :2], corners[:, 2:])
        places, room = packed(areas)
        first = pictures[0]
        sheet = as_floats(first.new_zeros(len(first), *room))
        masks = None if found[0].masks is None else torch.zeros(1, *room, dtype=torch.bool, device=first.device)
        n = 0
        for picture, labels in zip(pictures, found, strict=True):
            for row in range(len(labels.boxes)):
                left, top, width, height = areas.host[n, LEFT : WIDTH + 2].tolist()
                x, y = places.host[n, LEFT:WIDTH].tolist()
                sheet[:, y : y + height, x : x + width] = as_floats(picture[:, top : top + height, left : left + width])
                if masks is not None and labels.masks is not None:
                    cut = labels.masks[row, top : top + height, left : left + width]
                    masks[0, y : y + height, x : x + width] = cut > 0
                n += 1
        boxes = torch.cat([labels.boxes for labels in found])
        self._shift = torch.from_numpy(places.host[:, LEFT:WIDTH] - areas.host[:, LEFT:WIDTH]).to(boxes)
        self.register_buffer("sheet", sheet[None], persistent=False)
        self.register_buffer("boxes", boxes + self._shift.repeat(1, 2), persistent=False)
        self.register_buffer("masks", masks, persistent=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def donors(self, rows: tuple[Tensor, ...] | None = None) -> Donors:
        """All of it, on one picture. ``rows``: what each class key of a container has of them."""
        sheet = torch.zeros(len(self), dtype=torch.int64, device=self.boxes.device)
        return Donors(self.boxes, sheet, None, self.labels, self.masks, sheet, self.keypoints, self.sheet, rows)

    def __repr__(self) -> str:
        return f"Bank({len(self)} objects)"


def _with_area(labels: Labels, picture: Tensor) -> Labels:
    """Those rows of which there is anything in the picture, with boxes cut off at its edges, without a graph."""
    inside = cut_off(labels.boxes.detach(), *picture.shape[1:])
    rows = (inside[:, 2:] > inside[:, :2]).all(1).nonzero()[:, 0].tolist()
    parts = inside, *(None if part is None else part.detach() for part in labels[1:-1])
    kept: Any = *(None if part is None else take(part, rows) for part in parts), labels.rows
    return Labels(*kept)._replace(rows={name: take(value, rows) for name, value in labels.rows.items()})


def _whole_pixels(labels: Labels, picture: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return painted_pixels(labels.boxes.detach().cpu().double().numpy(), *picture.shape[1:])


def _joined(name: str, parts: list[Tensor | None]) -> Tensor | None:
    """The rows of all pictures, if these have them."""
    _check_all_or_none(name, parts)
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def _check_all_or_none(name: str, parts: list[Tensor | None]) -> None:
    count = sum(part is not None for part in parts)
    if 0 < count < len(parts):
        got = f"{count} of {len(parts)}"
        raise ValueError(f"donors: expected {name} in all targets of the bank or in none, got {got}.")


def _visibility(keypoints: Tensor | None) -> Tensor | None:
    """``(D, K)``: the third number of points, or 2 where they have none."""
    if keypoints is None:
        return None
    return keypoints[..., 2] if keypoints.shape[2] == 3 else torch.full_like(keypoints[..., 0], 2)
