"""Hands each child of a Kornia container the boxes as they are at its step."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard, cast

from kornia.augmentation import (
    AugmentationSequential,
    ImageSequential,
    PatchSequential,
    RandomTransplantation,
    VideoSequential,
)
from kornia.constants import DataKey
from torch import nn

from kornia_patchaug.kornia_names import (
    AugmentationSequentialOps,
    ParamItem,
    SequentialWithObjects,
    keep_params,
    record_matrix,
)


class PatchAugmentationSequential(SequentialWithObjects):
    """``kornia.augmentation.AugmentationSequential`` whose children see the objects, wherever they now are.

    The objects are the rows of the first box key (``bbox``, ``bbox_xyxy`` or ``bbox_xywh``); a flip, crop or resize
    before a patch augmentation moves them along. Every box key has one row an object. Padding is no object: rows that a
    list of boxes lacks, and all-zero rows of a padded tensor, which stay zero.

    Takes the arguments of ``AugmentationSequential`` and stands in its place, nested containers included.

    Args:
        *args: the steps, Kornia's and ours, as modules.
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

    def __init__(self, *args: nn.Module, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Kornia runs any module, but does not say so
        self.transform_op = _ObjectOps(self.data_keys)


class _ObjectOps(AugmentationSequentialOps):
    """Offers ``params_from_input``, which Kornia keeps for ``RandomTransplantation``, to every child that has it."""

    def transform(
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
            and any(map(_wants_objects, module.modules()))
        ):
            return self._transform_nested(arg, module, param, extra_args, keys)
        if _wants_objects(module):
            found = module.params_from_input(*arg, data_keys=keys, params=param.data, extra_args=extra_args)
            param = ParamItem(param.name, found)
        return super().transform(*arg, module=module, param=param, extra_args=extra_args, data_keys=keys)

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


class _WantsObjects(Protocol):
    def params_from_input(self, *inputs: Any, data_keys: list[DataKey], params: Any, extra_args: Any) -> Any: ...


def _wants_objects(module: nn.Module) -> TypeGuard[_WantsObjects]:
    return hasattr(module, "params_from_input") and not isinstance(module, RandomTransplantation)
