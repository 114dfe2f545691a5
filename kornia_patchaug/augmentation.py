"""The two Kornia augmentations: theta given, and theta drawn."""

from __future__ import annotations

import torch
from kornia.constants import Resample
from torch import Tensor

from kornia_patchaug.base import PatchAugmentation
from kornia_patchaug.functional import Padding
from kornia_patchaug.generators import AffineGenerator, RangeLike


class PatchAffine(PatchAugmentation):
    """Warp each object by the theta given for it.

    Args:
        p: the probability that an image is changed, in [0, 1].
        p_batch: the probability that the batch is.
        p_patch: the probability that an object is.
        resample: ``bilinear`` or ``nearest``; masks are painted with ``nearest`` unless the container says otherwise.
        padding_mode: what lies beyond the patch, as in `affine_patches`.
        align_corners: whether -1 and 1 in the box frame are the edges of the box or its outermost pixel centres.
        sequential: crop each object from the canvas as those before it left it, rather than from the input.
        patch_size: ``(h, w)`` in pixels runs crop, warp and paste one after another, as in `affine_patches`.
        same_on_batch: draw the gates once for all.
        keepdim: give the output the input's rank.

    Raises:
        TypeError, ValueError: an unknown option, when it is made; wrong boxes, theta or images, when it is called.

    Examples:
        >>> half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
        >>> kp.PatchAffine()(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[0, 0, 2, 1]]), half_turn)
        tensor([[[[2., 1., 3.]]]])
    """

    def draw_theta(self, boxes: Tensor, noise: Tensor, classes: Tensor | None) -> Tensor:
        raise ValueError(
            "PatchAffine has no theta for its boxes. Pass theta=, put it in params, or bind(theta=...); "
            "RandomPatchAffine draws one."
        )


class RandomPatchAffine(PatchAugmentation):
    """Warp each object by its own random affine transform.

    ``degrees``, ``translate``, ``scale`` and ``shear`` mean what they mean in ``kornia.augmentation.RandomAffine``,
    with the box in the place of the image.

    Args:
        degrees: ``d`` for (-d, d), or (low, high); positive turns clockwise as displayed. This and the ranges below may
            have a row per class, ``(K, 1)`` or ``(K, 2)`` here; the call's ``classes (N,)`` picks a row per object.
        translate: (x, y), the largest shift as a share of the box's width and height.
        scale: (low, high) for both axes, or (low_x, high_x, low_y, high_y); 0.001 and above.
        shear: degrees; ``s`` for (-s, s) along x, (low, high) along x, or (low_x, high_x, low_y, high_y) in one row.
        p: the probability that an image is changed, in [0, 1].
        p_batch: the probability that the batch is.
        p_patch: the probability that an object is.
        resample: as in `PatchAffine`, and so are the next four and ``keepdim``.
        padding_mode: what lies beyond the patch.
        align_corners: the box frame of theta.
        sequential: crop each object from the canvas as those before it left it.
        patch_size: ``(h, w)`` in pixels runs crop, warp and paste one after another.
        same_on_batch: one draw for all objects.
        keepdim: give the output the input's rank.
        learnable: each range becomes a parameter of ``self.ranges``, in the form and units passed, and every draw is
            made from it as it then is. Whatever it learns is a range: a draw lies between its two numbers in either
            order, and a scale below 0.001 approaches 0 without getting there; ``self.ranges.bounds()`` tells it. A
            range passed as a tensor that requires a gradient learns also without ``learnable``. An ``nn.Parameter`` is
            used as it is, also if it is frozen; any other tensor is copied.
        generator: draw from it and not from the global one. Workers of a data loader each get a copy that draws the
            same numbers; leave it out there.

    Raises:
        TypeError, ValueError: a range that is not one or an unknown option, when it is made; wrong boxes, classes or
            images, when it is called.

    Examples:
        >>> aug = kp.RandomPatchAffine(30.0, scale=(0.8, 1.2), p=1.0)
        >>> aug(torch.rand(2, 3, 32, 48), [torch.tensor([[4, 4, 20, 28]]), torch.zeros(0, 4)]).shape
        torch.Size([2, 3, 32, 48])
    """

    def __init__(
        self,
        degrees: RangeLike,
        translate: RangeLike | None = None,
        scale: RangeLike | None = None,
        shear: RangeLike | None = None,
        *,
        p: float = 0.5,
        p_batch: float = 1.0,
        p_patch: float = 1.0,
        resample: str | int | Resample = Resample.BILINEAR,
        padding_mode: Padding = "zeros",
        align_corners: bool = False,
        sequential: bool = False,
        patch_size: tuple[int, int] | None = None,
        same_on_batch: bool = False,
        keepdim: bool = False,
        learnable: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            p=p,
            p_batch=p_batch,
            p_patch=p_patch,
            resample=resample,
            padding_mode=padding_mode,
            align_corners=align_corners,
            sequential=sequential,
            patch_size=patch_size,
            same_on_batch=same_on_batch,
            keepdim=keepdim,
        )
        self.generator = generator
        self.ranges = AffineGenerator(degrees, translate, scale, shear, learnable=learnable)
        self.wants_classes = self.ranges.count_of_classes is not None

    def draw_theta(self, boxes: Tensor, noise: Tensor, classes: Tensor | None) -> Tensor:
        theta: Tensor = self.ranges(boxes, noise, classes, align_corners=self.flags["align_corners"])
        return theta
