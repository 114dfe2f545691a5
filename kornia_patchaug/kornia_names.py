"""All that is used of Kornia beyond its public names; `tests/test_kornia_names.py` names each.

Kornia promises nothing about names with an underscore, the modules ``container.ops`` and ``container.params``, or what
containers add to the parameters of a call.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

import torch
from kornia.augmentation import AugmentationSequential, PatchSequential, RigidAffineAugmentationBase2D
from kornia.augmentation.container.ops import AugmentationSequentialOps
from kornia.augmentation.container.params import ParamItem
from kornia.constants import DataKey
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor, nn

__all__ = ["AugmentationSequentialOps", "ParamItem"]  # handed on

# What an augmentation keeps of a call beside its draw, with the call's graph.
CALL_STATE = ("_transform_matrix_params", "_transform_matrix_params_snapshot", "_lazy_matrix_args")
VIDEO_BATCH_SIZE = "video_batch_size"  # the parameter in which a VideoSequential says how many clips there are


# --- boxes and keypoints ----------------------------------------------------------------------------------------------


class ObjectBoxes(Boxes):
    """Kornia ``Boxes`` that know which rows came as objects, also after some of these were marked as removed."""

    objects: Tensor | None = None  # (B, M) bool
    margins: tuple[float, float] = (0.0, 1.0)  # what is added to its first and last corner to be its edges, in pixels

    @classmethod
    def of(cls, boxes: Boxes, objects: Tensor) -> ObjectBoxes:
        """The same boxes, whose rows in ``objects (B, M)`` alone are valid."""
        new = cls(boxes.data, False)
        new.__dict__.update(boxes.__dict__)
        new._valid = objects.reshape(boxes._valid.shape)
        new.objects = objects
        return new

    def clone(self) -> ObjectBoxes:
        """A copy, as Kornia makes one at every step."""
        copy = cast("ObjectBoxes", super().clone())  # of its own class
        copy.objects, copy.margins = self.objects, self.margins
        return copy


def boxes_of_edges(corners: Tensor, objects: Tensor) -> ObjectBoxes:
    """Boxes of the edges ``(B, M, 4, 2)`` of pixels, and not of the first and last pixel, as points of Kornia's.

    Those are counted in pixel centres. A step that moves points moves such boxes exactly, also where it scales.
    """
    boxes = ObjectBoxes.of(Boxes(corners - 0.5), objects)
    boxes.margins = (0.5, 0.5)
    return boxes


def margins_of(boxes: Boxes) -> tuple[float, float]:
    """What is added to the first and the last corner of a box to be its edges."""
    return getattr(boxes, "margins", ObjectBoxes.margins)


def boxes_are_listed(boxes: Boxes) -> bool:
    """Whether boxes came as a list, in which padding is behind all rows."""
    return boxes._N is not None


def with_rows(boxes: Boxes, corners: Tensor, valid: Tensor, objects: Tensor) -> Boxes:
    """A copy with another number of rows, of which ``objects (B, M)`` came as objects."""
    copy = ObjectBoxes(corners, False)
    copy.__dict__.update(boxes.__dict__)
    batched = boxes.data.ndim == 4
    copy._data, copy._valid = (corners, valid) if batched else (corners[0], valid[0])
    copy.objects = objects
    if copy._N is not None:
        copy._N = [objects.shape[1] - n for n in objects.sum(1).tolist()]
    return copy


def row_counts(boxes: Boxes) -> list[int]:
    """How many rows of each image are not padding at its end."""
    batch, most = torch.atleast_2d(boxes._valid).shape
    return [most - padding for padding in boxes._N or [0] * batch]


def valid_rows(boxes: Boxes) -> Tensor:
    """``(B, M)`` bool, B = 1 if not batched: the rows that are neither padding nor removed."""
    valid: Tensor = torch.atleast_2d(boxes._valid)
    return valid & rows_of_lists(boxes)


def object_rows(boxes: Boxes, count: int | None = None) -> Tensor:
    """``(B, M)`` bool: the rows that came as objects.

    These include removed rows in `ObjectBoxes`, and in other boxes if there are ``count`` rows with them.
    """
    valid = valid_rows(boxes)
    objects: Tensor | None = getattr(boxes, "objects", None)
    if objects is not None and objects.shape == valid.shape:
        return objects
    rows = rows_of_lists(boxes)
    return rows if count is not None and int(rows.sum()) == count else valid


def rows_of_lists(boxes: Boxes) -> Tensor:
    """``(B, M)`` bool: the rows that are not padding of a list."""
    counts = torch.tensor(row_counts(boxes), device=boxes.device)[:, None]
    return torch.arange(boxes._valid.shape[-1], device=boxes.device) < counts


def corners_and_validity(boxes: Boxes) -> tuple[Tensor, Tensor]:
    """``(B, M, 4, 2)``, last pixels included, and ``(B, M)`` bool; B = 1 if not batched."""
    data = boxes.data if boxes.data.ndim == 4 else boxes.data[None]
    return data, torch.atleast_2d(boxes._valid)


def with_corners(boxes: Boxes, corners: Tensor, valid: Tensor) -> Boxes:
    """A copy with other corners and validity, in the shapes of `corners_and_validity`."""
    copy = boxes.clone()
    copy._data, copy._valid = corners.reshape(boxes.data.shape), valid.reshape(boxes._valid.shape)
    return copy


def with_points(keypoints: Keypoints, points: Tensor) -> Keypoints:
    """A copy with other points."""
    copy = keypoints.clone()
    copy._data = points
    return copy


# --- augmentations ----------------------------------------------------------------------------------------------------


def gate_of(augmentation: RigidAffineAugmentationBase2D, params: dict[str, Any]) -> Tensor:
    """``(B,)`` bool: which images of a call are changed."""
    return augmentation._gate(params)


def clips_of(params: Mapping[str, Any]) -> int:
    """How many clips the frames of a call are of, or 0 outside a VideoSequential."""
    return int(params.get(VIDEO_BATCH_SIZE, 0))


def asked_by_patch_sequential() -> bool:
    """Whether a PatchSequential, which tells its children nothing of itself, called the function that asks this."""
    if torch.compiler.is_compiling():
        return False
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("kornia."):
        if isinstance(frame.f_locals.get("self"), PatchSequential):
            return True
        frame = frame.f_back  # type: ignore[assignment]  # None above the first
    return False


# --- containers -------------------------------------------------------------------------------------------------------


class SequentialWithObjects(AugmentationSequential):
    """Kornia's container, whose boxes remember which of their rows are objects: those of a tensor that are not zero."""

    def _preproc_boxes(self, arg: Any, dcate: DataKey) -> Boxes:
        if self.contains_video_sequential:
            return super()._preproc_boxes(arg, dcate)
        if not isinstance(arg, Tensor):
            boxes = super()._preproc_boxes(arg, dcate)
            return ObjectBoxes.of(boxes, valid_rows(boxes))
        of_row = arg.ndim - (2 if dcate == DataKey.BBOX else 1)
        real = (arg != 0).flatten(of_row).any(-1)  # (B, M)
        # Kornia refuses boxes without area; a stand-in that is marked as no box is exported as zeros again.
        boxes = super()._preproc_boxes(arg.where(real.reshape(*real.shape, *[1] * (arg.ndim - of_row)), 1), dcate)
        return ObjectBoxes.of(boxes, torch.atleast_2d(real))


def record_matrix(container: AugmentationSequential, child: nn.Module) -> None:
    """Note a child's matrix in that of its container, as the container does after each step."""
    container._update_transform_matrix_by_module(child)


def keep_params(module: nn.Module, params: list[ParamItem]) -> None:
    """Keep the draw of a container's call for replay, as the container does at the end of a call."""
    module._params = params  # type: ignore[assignment]  # any attribute may be set
