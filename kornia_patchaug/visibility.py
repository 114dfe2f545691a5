"""How much of each object is seen, once all are painted."""

from __future__ import annotations

import typing  # the schema of an operator reads typing.Sequence, with any torch
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

import kornia_patchaug.kernels as kernels
from kornia_patchaug.boxes import BoxesLike, as_size, plain_tensors
from kornia_patchaug.checks import check_option, check_readable
from kornia_patchaug.dtypes import full_precision
from kornia_patchaug.frames import clamped, painted_pixels, safe_ratio
from kornia_patchaug.functional import CLEAR_PADDINGS, PADDINGS, Mode, Padding, sampling_of
from kornia_patchaug.kornia_names import valid_rows
from kornia_patchaug.objects import as_flat, check_objects
from kornia_patchaug.painting import planned, reached, read_by, readable_pixels
from kornia_patchaug.plan import PADDINGS as RULES
from kornia_patchaug.plan import PICTURE, Beyond, Reads, Windows
from kornia_patchaug.whole_op import operator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@plain_tensors
def visible_share(
    boxes: BoxesLike,
    theta: Tensor,
    obj_to_img: Tensor | None = None,
    *,
    size: tuple[int, int],
    alpha: Tensor | None = None,
    mode: Mode = "bilinear",
    padding_mode: Padding = "zeros",
    align_corners: bool = False,
    clip: bool = True,
) -> Tensor:
    """How much of each object is seen after `affine_patches` with the same arguments, from 0 to 1.

    Of the opacity that object n would have alone, wherever it lands in an endless image: the share that lies in its
    image, with ``clip`` in its box, times the light that passes the objects painted above it, which are 1 less their
    opacity each. 1 for an object alone in its image, 0 for one far outside. Gradients flow to boxes, theta and alpha.

    Args:
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels; or per image, as `flatten_boxes` takes them.
        theta: ``(N, 6)`` or ``(N, 2, 3)``.
        obj_to_img: ``(N,)`` integer, the image of each object; may be left out for one image or boxes per image.
        size: ``(H, W)`` of the images in pixels.
        alpha: opacity ``(N,)``, a matte ``(N, 1, h, w)``, or masks ``(N, H, W)``.
        mode: ``bilinear`` or ``nearest``, as mattes and masks are read.
        padding_mode: as in `affine_patches`. What lies beyond a patch, black or other, hides what is below it, but is
            not the object.
        align_corners: the box frame of theta.
        clip: whether objects are painted within their boxes only.

    Returns:
        ``(N,)``, floating. 0 for an object without area or opacity, and where theta is singular. What lies further from
        the image than its size is not counted.

    Raises:
        TypeError, ValueError: as `affine_patches`.

    Examples:
        >>> boxes = torch.tensor([[0, 0, 4, 2], [2, 0, 4, 2]])
        >>> same = torch.tensor([[1.0, 0, 0, 0, 1, 0]]).expand(2, 6)
        >>> kp.visible_share(boxes, same, size=(2, 4))
        tensor([0.5000, 1.0000])
    """
    size = as_size("size", size)
    batch = 1
    if not isinstance(boxes, Tensor) or boxes.ndim == 3:
        batch = len(valid_rows(boxes)) if isinstance(boxes, Boxes) else len(boxes)
        boxes, obj_to_img = as_flat(boxes, obj_to_img, batch)
    options = batch, size, mode, padding_mode, align_corners, clip
    return share_seen(boxes, theta, obj_to_img, alpha, None, *options)


def _fake(boxes: Tensor, theta: Tensor, obj_to_img: Tensor | None, alpha: Tensor | None, *_: object) -> Tensor:
    double = any(t is not None and t.dtype == torch.float64 for t in (boxes, theta, alpha))
    return theta.new_empty(boxes.shape[0], dtype=torch.float64 if double else torch.float32)


@operator("visible_share", _fake, gradient=True)
@full_precision
def share_seen(
    boxes: Tensor,
    theta: Tensor,
    obj_to_img: Tensor | None,
    alpha: Tensor | None,
    hides: Tensor | None,
    batch: int,
    size: typing.Sequence[int],
    mode: str,
    padding_mode: str,
    align_corners: bool,
    clip: bool,
) -> Tensor:
    """`visible_share`; ``hides (N,)``: how much of what is below each object hides, of what its opacity would."""
    check_option("clip", clip, (False, True))
    sampling = sampling_of(mode, padding_mode, align_corners, PADDINGS if clip else CLEAR_PADDINGS)
    if isinstance(obj_to_img, Tensor) and obj_to_img.numel():  # images are told apart by it alone
        batch = max(batch, int(obj_to_img.max()) + 1)
    check_readable("boxes", boxes)  # before images are made for them
    images = torch.ones((), device=boxes.device).expand(batch, 1, *size)
    objects = check_objects(images, boxes, obj_to_img, theta, alpha)
    surroundings = RULES[padding_mode].surroundings
    count, _, height, width = images.shape
    within = sampling._replace(beyond=Beyond.ZERO, by_reach=True)  # of what an object shows, none lies beyond its patch
    far, ill = reached(objects, images, (-width, -height, 2 * width, 2 * height), within)
    far[ill] = 0
    ones = torch.ones(1, 1, height, width, dtype=objects.boxes.dtype, device=images.device)

    def shown(clip: bool, painted: NDArray[np.float64] | None) -> tuple[Tensor, Windows]:
        of, plan = planned(images, images, objects, within, False, clip, painted)
        host = plan.reads.host.copy()
        host[:, PICTURE] = 0
        values, _ = kernels.sample_opaque(ones, *read_by(of, replace(plan, reads=Reads(host))))
        return values[0], plan.windows

    def light_through(opacity: Tensor) -> Tensor:
        hidden = opacity if hides is None else opacity * windows.repeated(hides)
        return kernels.light(hidden, windows, (count, height, width))

    total = _sums(*shown(False, far))
    own, windows = shown(clip, None)
    if not clip:
        return safe_ratio(_sums(own * light_through(own), windows), total)
    of, plan = planned(images, images, objects, sampling, surroundings, True)
    opacity = (
        own
        if plan.sampling.by_reach
        else kernels.sample_opaque(ones.expand(count, 1, height, width), *read_by(of, plan))[1]
    )
    through = light_through(opacity)
    # What is read are whole pixels, of which the box has a part. What is clipped is that part of what was moved, or of
    # where it stays.
    there = torch.from_numpy(readable_pixels(objects, images)).to(objects.boxes)
    sides = clamped(objects.boxes, there[:, :2].repeat(1, 2), there[:, 2:].repeat(1, 2)).view(-1, 2, 2).diff(dim=1)
    part = safe_ratio(sides.prod(2)[:, 0], (there[:, 2:] - there[:, :2]).prod(1))
    whole, _ = shown(False, painted_pixels(objects.host_boxes, height, width))
    seen, whole_seen = (_sums(each * through, windows) for each in (own, whole))
    return safe_ratio(torch.minimum(seen, part * whole_seen), part * total)


def _sums(values: Tensor, windows: Windows) -> Tensor:
    """The sum of the flat pixels of each object, ``(N,)``."""
    areas = torch.from_numpy(windows.areas).to(values.device)
    return torch.segment_reduce(values, "sum", lengths=areas, initial=0, unsafe=True)
