"""`bind`: sets an augmentation's boxes and theta before it is called, for containers that hand on the image alone."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from kornia_patchaug.boxes import BoxesLike
from kornia_patchaug.draw import Draw, Params


class Bindable:
    """What an augmentation is bound to, and the images that this was first used with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bind()

    def bind(
        self,
        boxes: BoxesLike | None = None,
        theta: Tensor | None = None,
        obj_to_img: Tensor | None = None,
        *,
        classes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Self:
        """Set the objects of the calls to come, for containers that hand on the image alone. Returns the module.

        Stays until the next ``bind``; ``bind()`` clears it, and so does the end of ``with augmentation.bind(...):``.
        Boxes are those at this augmentation's step: a flip or crop before it moves the image, not what is bound. In
        `PatchAugmentationSequential` boxes come from the data, and only the others are taken from here. Shapes
        are those of the call; errors are raised there, also for images of another batch or image size than those that
        the boxes were first used with, and for box labels of a Kornia container that are elsewhere.
        """
        self._bound = Draw.of(boxes=boxes, theta=theta, obj_to_img=obj_to_img, classes=classes, masks=masks)
        self._bound_shape: tuple[int, ...] | None = None  # (B, H, W) of the first call with these boxes
        self._unseen: Params | None = None  # a draw with these boxes before it is compared with labels
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bind()

    def _use_bound(self, images: Tensor, draw: Params) -> None:
        """Note a call with bound boxes, or raise if they were first used with images of another shape."""
        shape = (images.shape[0], *images.shape[2:])
        if self._bound_shape not in (None, shape):
            raise ValueError(
                f"boxes: expected images of the shape (B, H, W) that the bound boxes were first used with, "
                f"{self._bound_shape}, got {shape}. Call bind anew, or `with augmentation.bind(...):` for each batch."
            )
        self._bound_shape, self._unseen = shape, draw
