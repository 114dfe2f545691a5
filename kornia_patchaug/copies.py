"""Labels of copies, appended to the labels of the images that they are in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.draw import Drawn
from kornia_patchaug.frames import carry, centred_matrices, centres, corners_of, enclosing, half_sizes
from kornia_patchaug.kornia_names import (
    boxes_are_listed,
    corners_and_validity,
    object_rows,
    row_counts,
    rows_of_lists,
    with_rows,
)
from kornia_patchaug.labels import corners_from
from kornia_patchaug.theta import Outline, invert_theta, outermost


class Copies(NamedTuple):
    """K copies of a call, in the order in which they are painted."""

    boxes: Tensor  # (K, 4) of the size of the donor's, about the place where it goes
    theta: Tensor  # (K, 2, 3)
    target: Tensor  # (K,) the image
    slot: Tensor  # (K,) which copy of its image
    donor: Tensor  # (K,)
    read: Tensor  # (K, 4) the donor's box in its picture
    picture: Tensor  # (K,)
    alpha: Tensor | None  # (K, h, w) masks over the donors' pictures

    def drawn(self) -> Drawn:
        """As objects of their images."""
        return Drawn(self.boxes, self.theta, self.target, torch.ones_like(self.slot, dtype=torch.bool))

    def carried(self, points: Tensor, align_corners: bool) -> Tensor:
        """Where points ``(K, P, 2)`` of the donors' pictures go."""
        dst_from_src = centred_matrices(invert_theta(self.theta), half_sizes(self.boxes, align_corners))
        shift = (centres(self.boxes) - centres(self.read))[:, None]
        return carry(points, dst_from_src, centres(self.read)) + shift


def outlined(boxes: Tensor, copies: Copies, outline: Outline, align_corners: bool, size: tuple[int, int]) -> Tensor:
    """The boxes ``(K, 4)`` in images of a size that labels ``(K, 4)`` of donors become."""
    height, width = size
    moved = outermost(copies.carried(corners_of(boxes), align_corners), outline)
    return enclosing(moved, boxes.new_tensor([[0, 0, width, height]]).expand_as(boxes))


@dataclass(frozen=True)
class Appending:
    """Puts rows of K copies behind the M rows that their images have."""

    target: Tensor  # (K,)
    slot: Tensor  # (K,)
    of_donors: Tensor  # (K,)
    donor: tuple[Tensor, Tensor] | None  # (K,) the image and row of each donor, if those are in the batch
    most: int  # copies of an image
    order: Tensor | None  # (B, M'), which of the M + most rows, where boxes came as lists, which have no gaps

    @classmethod
    def of(cls, boxes: Boxes, copies: Copies, donor: tuple[Tensor, Tensor] | None) -> Appending:
        most, order = int(copies.slot.max()) + 1 if len(copies.slot) else 0, None
        rows = rows_of_lists(boxes)
        if boxes_are_listed(boxes):
            new = rows.new_zeros(len(rows), most).index_put((copies.target, copies.slot), rows.new_ones(()))
            real = torch.cat([rows, new], dim=1)
            order = (~real).long().argsort(dim=1, stable=True)[:, : int(real.sum(1).max())]
        return cls(copies.target, copies.slot, copies.donor, donor, most, order)

    def to(self, values: Tensor, new: Tensor) -> Tensor:
        """``(B, M', ...)`` of values ``(B, M, ...)`` and those of copies ``(K, ...)``."""
        behind = values.new_zeros(len(values), self.most, *values.shape[2:])
        return self.joined(values, behind.index_put((self.target, self.slot), new.to(values.dtype)))

    def joined(self, values: Tensor, behind: Tensor) -> Tensor:
        """``(B, M', ...)`` of values ``(B, M, ...)`` and those of the copies of each image ``(B, most, ...)``."""
        both = torch.cat([values, behind], dim=1)
        if self.order is None:
            return both
        return both[torch.arange(len(both), device=both.device)[:, None], self.order]

    def from_batch(self, values: Tensor) -> Tensor:
        """What donors in the batch have of values ``(B, M, ...)``: ``(K, ...)``."""
        assert self.donor is not None
        return values[self.donor]

    def counts(self, boxes: Boxes) -> list[int]:
        """How many rows each image has then, of boxes that came as a list."""
        new = torch.bincount(self.target, minlength=len(rows_of_lists(boxes)))
        return [there + more for there, more in zip(row_counts(boxes), new.tolist(), strict=True)]

    def boxes(self, boxes: Boxes, labels: Tensor, seen: Tensor) -> Boxes:
        """Boxes with the half-open labels ``(K, 4)`` of copies; those that are not ``seen (K,)`` are removed."""
        corners, valid = corners_and_validity(boxes)
        objects = self.to(object_rows(boxes), torch.ones_like(seen))
        new = corners_from(boxes, labels).to(corners.dtype)
        return with_rows(boxes, self.to(corners, new), self.to(valid, seen), objects)
