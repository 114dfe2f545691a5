"""Hands each child of a Kornia container the boxes as they are at its step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard, cast

import torch
from kornia.augmentation import (
    AugmentationSequential,
    ImageSequential,
    PatchSequential,
    RandomTransplantation,
    VideoSequential,
)
from kornia.constants import DataKey
from kornia.geometry.boxes import Boxes
from torch import Tensor, nn

from kornia_patchaug.hooks import FollowsAll
from kornia_patchaug.instances import boxes_of_masks
from kornia_patchaug.kornia_names import (
    AugmentationSequentialOps,
    ParamItem,
    SequentialWithObjects,
    corners_and_validity,
    keep_params,
    record_matrix,
    with_corners,
)
from kornia_patchaug.labels import corners_from


class PatchAugmentationSequential(SequentialWithObjects):
    """``kornia.augmentation.AugmentationSequential`` whose children see the objects, wherever they now are.

    The objects are the rows of the first box key (``bbox``, ``bbox_xyxy`` or ``bbox_xywh``); a flip, crop or resize
    before a patch augmentation moves them along. Every box key has one row an object. Padding is no object: rows that a
    list of boxes lacks, and all-zero rows of a padded tensor, which stay zero.

    Takes the arguments of ``AugmentationSequential`` and stands in its place, nested containers included.

    Args:
        *args: the steps, Kornia's and ours, as modules.
        instance_masks: masks are ``(B, M, H, W)``, a channel a row of boxes: each moves with its own object alone, and
            loses what is painted over it. Without, masks are of classes, painted as the image is.
        boxes_from_masks: after each step that changes a box, take it tight around its mask. With ``instance_masks``.
        mask_fill: what masks of classes have where nothing is known, as in the hole that an object left, in the black
            corners of what was turned, and beyond an image that was padded: 255 in many data sets. 0 if left out.
        **kwargs: ``data_keys`` and the rest, as ``AugmentationSequential`` takes them. Boxes are in pixels in Kornia's
            formats: ``bbox_xyxy`` ``(B, M, 4)``, or a list of ``(n_b, 4)``, holds the last pixel.

    Raises:
        TypeError, ValueError: what a step raises for wrong objects or images, when it is called.

    Examples:
        >>> import torch, kornia.augmentation as K, kornia_patchaug as kp
        >>> seq = kp.PatchAugmentationSequential(
        ...     K.RandomHorizontalFlip(p=1.0), kp.RandomPatchAffine(20.0, p=1.0), data_keys=["input", "bbox_xyxy"]
        ... )
        >>> images, boxes = seq(torch.rand(1, 3, 32, 48), torch.tensor([[[4.0, 4.0, 19.0, 27.0]]]))
        >>> images.shape, boxes.shape
        (torch.Size([1, 3, 32, 48]), torch.Size([1, 1, 4]))
    """

    def __init__(
        self,
        *args: nn.Module,
        instance_masks: bool = False,
        boxes_from_masks: bool = False,
        mask_fill: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Kornia runs any module, but does not say so
        if boxes_from_masks and not instance_masks:
            raise ValueError("boxes_from_masks: expected instance_masks=True, whose boxes are meant.")
        if mask_fill is not None and instance_masks:
            raise ValueError("mask_fill: expected masks of classes, got instance_masks=True, whose rest is 0.")
        of_masks: dict[str, Any] = {"instances": True} if instance_masks else {}
        if mask_fill is not None:
            of_masks["mask_fill"] = float(mask_fill)
        self.extra_args = {**self.extra_args, DataKey.MASK: {**self.extra_args.get(DataKey.MASK, {}), **of_masks}}
        self.transform_op = ObjectOps(self.data_keys, boxes_from_masks)


class ObjectOps(AugmentationSequentialOps):
    """Hands each child all inputs: objects to those of ``params_from_input``, which Kornia keeps for
    ``RandomTransplantation``, and labels to those that append rows."""

    def __init__(self, data_keys: list[DataKey] | None, boxes_from_masks: bool = False) -> None:
        super().__init__(data_keys)
        self.boxes_from_masks = boxes_from_masks

    def transform(
        self,
        *arg: Any,
        module: nn.Module,
        param: ParamItem,
        extra_args: dict[DataKey, dict[str, Any]],
        data_keys: Any = None,
    ) -> Any:
        keys = self.preproc_datakeys(data_keys)
        flat = extra_args.get(DataKey.MASK, {}).get("instances") and _check_instance_masks(arg, keys)
        if flat:  # the masks of one image, unbatched
            arg = tuple(value[None] if key == DataKey.MASK else value for key, value in zip(keys, arg, strict=True))
        fill = extra_args.get(DataKey.MASK, {}).get("mask_fill")
        if fill is not None:  # counted from it while a step runs: what steps make up is 0
            arg = tuple(
                _shifted(value, -fill) if key == DataKey.MASK else value for key, value in zip(keys, arg, strict=True)
            )
        outputs = self._step(*arg, module=module, param=param, extra_args=extra_args, data_keys=keys)
        if fill is not None:
            outputs = [outputs] if len(keys) == 1 else outputs
            pairs = zip(keys, outputs, strict=True)
            outputs = [_shifted(value, fill) if key == DataKey.MASK else value for key, value in pairs]
            outputs = outputs[0] if len(keys) == 1 else outputs
        self._settle(arg, outputs, keys, module, param)
        if self.boxes_from_masks and DataKey.MASK in keys:
            at = keys.index(DataKey.MASK)
            was, now = boxes_of_masks(arg[at]), boxes_of_masks(outputs[at])
            both = zip(arg, outputs, strict=True)
            outputs = [tightened(out, old, was, now) if isinstance(out, Boxes) else out for old, out in both]
        if flat:
            pairs = zip(keys, outputs, strict=True)
            outputs = [out[0] if key == DataKey.MASK and out.ndim == 4 else out for key, out in pairs]
        return outputs

    def _settle(
        self, inputs: Sequence[Any], outputs: Any, keys: list[DataKey], module: nn.Module, param: ParamItem
    ) -> None:
        """Change the labels of a list of outputs by what the step did to them."""

    def _step(
        self,
        *arg: Any,
        module: nn.Module,
        param: ParamItem,
        extra_args: dict[DataKey, dict[str, Any]],
        data_keys: Any = None,
    ) -> Any:
        keys = self.preproc_datakeys(data_keys)
        if (
            isinstance(module, ImageSequential)
            and not isinstance(module, (PatchSequential, VideoSequential))
            and self._goes_into(module)
        ):
            return self._transform_nested(arg, module, param, extra_args, keys)
        if _wants_objects(module):
            found = module.params_from_input(*arg, data_keys=keys, params=param.data, extra_args=extra_args)
            param = ParamItem(param.name, found)
        if isinstance(module, FollowsAll) and any(key != DataKey.INPUT for key in keys):
            outputs = list(arg)
            if DataKey.INPUT in keys:
                image = keys.index(DataKey.INPUT)
                outputs[image] = super().transform(
                    arg[image], module=module, param=param, extra_args=extra_args, data_keys=[DataKey.INPUT]
                )
            return module.follow_labels(outputs, keys, cast("Any", param.data), extra_args)
        return super().transform(*arg, module=module, param=param, extra_args=extra_args, data_keys=keys)

    def _goes_into(self, container: nn.Module) -> bool:
        """Whether each child of a nested container is handed all inputs, rather than the container each input."""
        return self.boxes_from_masks or any(map(_wants_objects, container.modules()))

    def _transform_nested(
        self, inputs: tuple[Any, ...], module: ImageSequential, param: ParamItem, extra_args: Any, keys: list[DataKey]
    ) -> Any:
        """Take all inputs through a nested container step by step; Kornia takes them through it one by one."""
        module.clear_state()
        steps = cast("list[ParamItem]", param.data)  # of a container
        for child_param in steps:
            child = module.get_submodule(child_param.name)
            outputs = self.transform(*inputs, module=child, param=child_param, extra_args=extra_args, data_keys=keys)
            inputs = (outputs,) if len(keys) == 1 else tuple(outputs)
            if isinstance(module, AugmentationSequential):
                record_matrix(module, child)
        keep_params(module, steps)
        return inputs[0] if len(keys) == 1 else list(inputs)


def _shifted(masks: Any, by: float) -> Any:
    """Masks of classes, or a list of them, with another number for each class."""
    return [mask + by for mask in masks] if isinstance(masks, list) else masks + by


def tightened(boxes: Boxes, before: Boxes, was: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor]) -> Boxes:
    """Boxes, of which those whose box or mask changed are tight around the mask, or removed if nothing is left of it.

    ``was``, ``now``: the boxes ``(B, M, 4)`` of masks before and after a step, and whether there is anything in them.
    """
    corners, valid = corners_and_validity(boxes)
    old, _ = corners_and_validity(before)
    (old_tight, had), (found, there) = was, now
    tight = corners_from(boxes, found.flatten(0, 1).to(corners.dtype)).reshape(corners.shape)
    rows = old.shape[1]  # those that were appended are new
    changed, gone = torch.ones_like(valid), ~there
    changed[:, :rows] = ((old != corners[:, :rows]).flatten(2) | (old_tight != found[:, :rows]).repeat(1, 1, 2)).any(2)
    gone[:, :rows] &= had
    return with_corners(boxes, tight.where((changed & there)[..., None, None], corners), valid & ~gone)


def _check_instance_masks(inputs: Sequence[Any], keys: list[DataKey]) -> bool:
    """Whether instance masks are those of one image, ``(M, H, W)``, or raise if they are none of the boxes'."""
    boxes = next((value for value in inputs if isinstance(value, Boxes)), None)
    flat = False
    for key, masks in zip(keys, inputs, strict=True):
        if key != DataKey.MASK or boxes is None:
            continue
        rows = corners_and_validity(boxes)[1].shape
        flat = isinstance(masks, Tensor) and masks.ndim == 3 and (1, len(masks)) == tuple(rows)
        if not (flat or (isinstance(masks, Tensor) and masks.ndim == 4 and masks.shape[:2] == rows)):
            got = tuple(masks.shape) if isinstance(masks, Tensor) else type(masks).__name__
            raise ValueError(f"mask: expected instance masks {(*rows, 'H', 'W')}, a channel a row of boxes, got {got}.")
    return flat


class _WantsObjects(Protocol):
    def params_from_input(self, *inputs: Any, data_keys: list[DataKey], params: Any, extra_args: Any) -> Any: ...


def _wants_objects(module: nn.Module) -> TypeGuard[_WantsObjects]:
    return hasattr(module, "params_from_input") and not isinstance(module, RandomTransplantation)
