"""Crop, warp, paste, and all three in one pass: check the arguments, then compose the stages."""

from __future__ import annotations

import math
import typing  # the schema of an operator reads typing.Sequence, with any torch
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from kornia_patchaug.boxes import BoxesLike, as_size, plain_tensors
from kornia_patchaug.checks import (
    check_device,
    check_images,
    check_option,
    check_readable,
    check_theta_values,
    describe,
)
from kornia_patchaug.dtypes import full_precision, working_dtype
from kornia_patchaug.frames import as_theta, whole_boxes
from kornia_patchaug.kernels import paint, sample
from kornia_patchaug.objects import Source, as_flat, check_objects
from kornia_patchaug.painting import Fill, cut_out, paint_in_turn, paint_objects, paint_peeled, planned, read_by
from kornia_patchaug.plan import PADDINGS as RULES
from kornia_patchaug.plan import Plan, Reads, Sampling, Windows
from kornia_patchaug.transfers import is_captured, on_host, sent
from kornia_patchaug.whole_op import operator

MODES = ("bilinear", "nearest")
PADDINGS = tuple(RULES)
EDGE_PADDINGS = ("zeros", "border", "reflection")
STEP_PADDINGS = (*EDGE_PADDINGS, "transparent")  # a crop has no surroundings
CLEAR_PADDINGS = ("zeros", "transparent")  # without a box that clips, what lies beyond a patch is not painted

Mode = Literal["bilinear", "nearest"]
EdgePadding = Literal["zeros", "border", "reflection"]
StepPadding = Literal["zeros", "border", "reflection", "transparent"]
Padding = Literal["zeros", "border", "reflection", "image", "transparent"]
FillLike = float | Sequence[float] | Tensor | Literal["surroundings"]


@plain_tensors
def affine_patches(
    images: Tensor,
    boxes: BoxesLike,
    theta: Tensor,
    obj_to_img: Tensor | None = None,
    *,
    alpha: Tensor | None = None,
    mode: Mode = "bilinear",
    padding_mode: Padding = "zeros",
    align_corners: bool = False,
    sequential: bool = False,
    patch_size: tuple[int, int] | None = None,
    clip: bool = True,
    fill: FillLike | None = None,
    grow: float = 0.1,
) -> Tensor:
    """Warp every object's patch by its own affine transform and paint it back, in row order.

    For the pixel centre p of object n's window, ``canvas = (1 - K A) canvas + K A V`` with V the image read at
    ``q = box_n(theta_n(box_n^-1(p)))``, K the share of the pixel inside the box, and A the opacity. Gradients flow to
    images, theta, boxes, alpha and fill.

    Without ``clip`` an object is painted wherever in its image it lands: K is 1, and as under ``transparent`` R, the
    sum of the weights of the pixels that exist, is part of opacity: ``canvas = (1 - A R) canvas + A V``.

    With a ``fill`` each object is a layer of its picture. From the last row to the first it is read from the picture as
    those above it left it, and its hole is filled; then all are laid over what remains, in row order. So each object
    is there once, and where objects overlap, each label is true to its own.

    Args:
        images: ``(B, C, H, W)``, floating.
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels; or per image, as `flatten_boxes` takes them.
        theta: ``(N, 6)`` or ``(N, 2, 3)``, output to input in the box frame, as ``affine_grid`` takes it.
        obj_to_img: ``(N,)`` integer, the image of each object; may be left out if B = 1 or boxes come per image. It,
            boxes and theta may be on the CPU, wherever the images are: then the call waits for no GPU.
        alpha: opacity ``(N,)``; or a matte ``(N, 1, h, w)`` laid over the box; or masks ``(N, H, W)``, bool or
            floating, over the image, of which what lies in the object's box counts. Mattes and masks move with the
            patch. Beyond a mask the canvas shows: with one, ``zeros`` is ``transparent``.
        mode: ``bilinear`` or ``nearest``.
        padding_mode: what lies beyond the patch. ``zeros``, ``border``, ``reflection``: as ``grid_sample`` on the crop;
            ``image``: the object's surroundings; ``transparent``: the canvas shows.
        align_corners: whether -1 and 1 in the box frame are the edges of the box or its outermost pixel centres.
        sequential: crop object n from the canvas as objects 0 .. n-1 left it, rather than from the input.
        patch_size: ``(h, w)`` runs crop, warp and paste one after another at that resolution, on Kornia's
            ``crop_and_resize`` and ``warp_affine``; theta must then be invertible, and ``image`` cannot be had, nor
            ``clip=False``.
        clip: paint within the object's box only. Without it ``padding_mode`` is ``zeros`` or ``transparent``, which
            then are the same.
        fill: what an object leaves behind: a number, a colour ``(C,)``, clean backgrounds ``(B, C, H, W)``, or
            ``surroundings``, a smooth continuation of what is around its box. None: the image stays, so that an object
            that leaves its place is seen twice. Not with ``sequential``.
        grow: with a fill, by which share of its size more than the box is taken off of an object with a matte or mask
            that moves, as these end short of the object.

    Returns:
        ``(B, C, H, W)``, a new tensor in the images' dtype and memory format. Pixels in no window are the input's.

    Raises:
        TypeError, ValueError: a wrong type, shape, device or value; the text names the argument, what was expected,
            what came, the first wrong row and the remedy.

    Examples:
        >>> images = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
        >>> kp.affine_patches(images, torch.tensor([[0, 1, 4, 3]]), half_turn)[0, 0]
        tensor([[ 0.,  1.,  2.,  3.],
                [11., 10.,  9.,  8.],
                [ 7.,  6.,  5.,  4.],
                [12., 13., 14., 15.]])
    """
    if not isinstance(boxes, Tensor):
        check_images("images", images)
        boxes, obj_to_img = as_flat(boxes, obj_to_img, len(images))
    size = None if patch_size is None else as_size("patch_size", patch_size)
    shown = None if fill is None or isinstance(fill, str) else as_fill(fill, images)
    options = mode, padding_mode, align_corners, sequential, size, clip, fill if isinstance(fill, str) else None, grow
    return _affine_patches(images, boxes, theta, obj_to_img, alpha, shown, *options)


@operator("affine_patches", lambda images, *_: torch.empty_like(images), gradient=True)
@full_precision
def _affine_patches(
    images: Tensor,
    boxes: Tensor,
    theta: Tensor,
    obj_to_img: Tensor | None,
    alpha: Tensor | None,
    shown: Tensor | None,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    sequential: bool,
    patch_size: typing.Sequence[int] | None,
    clip: bool,
    fill: str | None,
    grow: float,
) -> Tensor:
    sampling = sampling_of(mode, padding_mode, align_corners, PADDINGS if clip else CLEAR_PADDINGS)
    for name, value in (("sequential", sequential), ("clip", clip)):
        check_option(name, value, (False, True))
    check_option("fill", fill, (None, "surroundings"))
    size = None if patch_size is None else (patch_size[0], patch_size[1])
    if size is not None:
        check_option("padding_mode (with patch_size)", padding_mode, STEP_PADDINGS)
        check_option("clip (with patch_size)", clip, (True,))
    is_filled = fill is not None or shown is not None
    if is_filled:
        check_option("sequential (with a fill)", sequential, (False,))
    if not (isinstance(grow, (int, float)) and math.isfinite(grow) and grow >= 0):
        raise ValueError(f"grow: expected a share of the box's size, 0 or more, got {grow!r}.")
    objects = check_objects(images, boxes, obj_to_img, theta, alpha)
    if is_captured(images.device) and (sequential or is_filled or size is not None):
        raise RuntimeError("kornia_patchaug: sequential, fill and patch_size cannot be captured in a CUDA Graph.")
    if shown is not None:
        check_device("fill", shown, images)
        check_readable("fill", shown)
    objects, plan = planned(images, images, objects, sampling, RULES[padding_mode].surroundings, clip)
    if is_filled:
        return paint_peeled(images, objects, plan, size, Fill(shown, grow))
    paint_all = paint_in_turn if sequential else paint_objects
    return paint_all(images, objects, plan, size)


def as_fill(fill: object, images: Tensor) -> Tensor:
    """A colour ``(C,)`` or pictures ``(B, C, H, W)`` of what a caller gave to fill holes of images with, or raise."""
    check_images("images", images)
    if not isinstance(fill, Tensor):
        try:
            fill = torch.as_tensor(fill, dtype=torch.promote_types(images.dtype, torch.float32), device=images.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"fill: expected a number, a colour ({images.shape[1]},), images {tuple(images.shape)} or "
                f"'surroundings', got {describe(fill)}."
            ) from None
    if not fill.is_floating_point():
        raise TypeError(f"fill: expected a floating dtype, got {fill.dtype}.")
    if fill.shape == ():
        return fill.expand(images.shape[1])
    if not any(fill.shape == shape for shape in (images.shape[1:2], images.shape)):  # torch.compile has no "not in"
        raise ValueError(
            f"fill: expected a number, a colour ({images.shape[1]},), or images {tuple(images.shape)}, got shape "
            f"{tuple(fill.shape)}."
        )
    return fill


@plain_tensors
def crop_patches(
    images: Tensor,
    boxes: BoxesLike,
    obj_to_img: Tensor | None = None,
    size: tuple[int, int] | None = None,
    *,
    mode: Mode = "bilinear",
    padding_mode: EdgePadding = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """Cut every box out of its image and resize it to ``size``, without gathering N images.

    With ``align_corners`` it is Kornia's ``crop_and_resize`` on the inclusive boxes ``x1 y1 x2-1 y2-1``.

    Args:
        images: ``(B, C, H, W)``, floating.
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels; or per image, as `flatten_boxes` takes them.
        obj_to_img: ``(N,)`` integer, the image of each object; may be left out if B = 1 or boxes come per image.
        size: ``(h, w)`` of the patches in pixels; needed.
        mode: ``bilinear`` or ``nearest``.
        padding_mode: what lies beyond the *image*: ``zeros``, ``border`` or ``reflection``. Pixels next to the box are
            read where interpolation needs them.
        align_corners: False maps box edges to patch edges, True outermost pixel centres to pixel centres.

    Returns:
        ``(N, C, h, w)`` in the images' dtype; zeros for a box without area.

    Raises:
        TypeError, ValueError: as `affine_patches`.

    Examples:
        >>> images = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> kp.crop_patches(images, torch.tensor([[1, 0, 3, 4]]), size=(2, 2))
        tensor([[[[ 3.,  4.],
                  [11., 12.]]]])
    """
    boxes, obj_to_img = _flattened(images, boxes, obj_to_img)
    size = as_size("size", size)
    return _crop_patches(images, boxes, obj_to_img, *(size, mode, padding_mode, align_corners))


def _fake_crops(
    images: Tensor, boxes: Tensor, obj_to_img: Tensor | None, size: typing.Sequence[int], *_: object
) -> Tensor:
    return images.new_empty(boxes.shape[0], images.shape[1], *size)


@operator("crop_patches", _fake_crops, gradient=True)
@full_precision
def _crop_patches(
    images: Tensor,
    boxes: Tensor,
    obj_to_img: Tensor | None,
    size: typing.Sequence[int],
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    sampling = sampling_of(mode, padding_mode, align_corners, EDGE_PADDINGS)
    objects = check_objects(images, boxes, obj_to_img)
    patches = cut_out(images, objects, (size[0], size[1]), sampling)
    has_area = (objects.host_boxes[:, 2:] > objects.host_boxes[:, :2]).all(1)
    if not has_area.all():
        patches = patches.where(sent(torch.from_numpy(has_area), patches.device)[:, None, None, None], 0)
    return patches.to(images.dtype).contiguous()


@plain_tensors
def warp_patches(
    patches: Tensor,
    theta: Tensor,
    *,
    mode: Mode = "bilinear",
    padding_mode: EdgePadding = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """Warp each patch by its own theta: ``grid_sample(patches, affine_grid(theta, patches.shape))``.

    Args:
        patches: ``(N, C, h, w)``, floating.
        theta: ``(N, 6)`` or ``(N, 2, 3)``.
        mode: ``bilinear`` or ``nearest``.
        padding_mode: ``zeros``, ``border`` or ``reflection``, what lies beyond the patch.
        align_corners: whether -1 and 1 are the patch's edges or its outermost pixel centres.

    Returns:
        ``(N, C, h, w)`` in the patches' dtype; the grid is float32 at least.

    Raises:
        TypeError, ValueError: as `affine_patches`.

    Examples:
        >>> kp.warp_patches(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[-1.0, 0, 0, 0, 1, 0]]))
        tensor([[[[3., 2., 1.]]]])
    """
    return _warp_patches(patches, theta, *(mode, padding_mode, align_corners))


@operator("warp_patches", lambda patches, *_: patches.new_empty(patches.shape), gradient=True)
@full_precision
def _warp_patches(patches: Tensor, theta: Tensor, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
    sampling = sampling_of(mode, padding_mode, align_corners, EDGE_PADDINGS)
    check_images("patches", patches)
    theta = as_theta(theta, len(patches))
    check_device("theta", theta, patches)
    check_readable("patches", patches)
    check_readable("theta", theta)
    check_theta_values(on_host(theta)[0])
    count, channels, height, width = patches.shape
    theta = theta.to(working_dtype(patches, theta))
    plan = Plan(Reads.whole(patches), Windows.regular(count, height, width), sampling, box_coverage=False)
    values, _ = sample(patches, theta, whole_boxes(patches, theta), plan)
    return values.view(channels, count, height, width).transpose(0, 1).to(patches.dtype).contiguous()


@plain_tensors
def paste_patches(
    images: Tensor,
    patches: Tensor,
    boxes: BoxesLike,
    obj_to_img: Tensor | None = None,
    *,
    theta: Tensor | None = None,
    patch_index: Tensor | None = None,
    alpha: Tensor | None = None,
    mode: Mode = "bilinear",
    padding_mode: StepPadding | None = None,
    align_corners: bool = False,
    clip: bool = True,
) -> Tensor:
    """Lay a patch over every box, warped by its own theta if there is one, and paint it into its image, in row order.

    For the pixel centre p of a window, the patch is read at ``q = theta_n(box_n^-1(p))`` of its frame, once. Gradients
    flow to images, patches, theta, boxes and alpha; those to a patch add up over its uses.

    Args:
        images: ``(B, C, H, W)``, floating.
        patches: ``(M, C, h, w)``, floating: a bank, of which any number of objects show the same.
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels; or per image, as `flatten_boxes` takes them.
        obj_to_img: ``(N,)`` integer, the image of each object; may be left out if B = 1 or boxes come per image.
        theta: ``(N, 6)`` or ``(N, 2, 3)``, box frame to patch frame; the identity if left out.
        patch_index: ``(N,)`` integer, the patch of each object; may be left out if M = N.
        alpha: opacity ``(N,)``, a matte ``(N, 1, h', w')`` laid over the patch, or masks ``(N, h, w)``, as in
            `affine_patches`.
        mode: ``bilinear`` or ``nearest``.
        padding_mode: what lies beyond the patch: ``zeros``, ``border``, ``reflection`` or ``transparent``. If left out,
            ``border``, which without theta is half a pixel at most; and without ``clip`` ``transparent``.
        align_corners: False maps patch edges to box edges, True outermost pixel centres to pixel centres.
        clip: paint within the box only. Without it the patch is painted wherever in its image it lands, faded over half
            of its pixels beyond its edge, as ``grid_sample`` with zeros does on a full canvas; as in `affine_patches`.

    Returns:
        ``(B, C, H, W)``, a new tensor in the images' dtype and memory format.

    Raises:
        TypeError, ValueError: as `affine_patches`.

    Examples:
        >>> kp.paste_patches(torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 1, 1), torch.tensor([[1.0, 0.0, 2.5, 2.0]]))
        tensor([[[[0.0000, 1.0000, 0.5000, 0.0000],
                  [0.0000, 1.0000, 0.5000, 0.0000]]]])
        >>> right = torch.tensor([[1.0, 0, -2, 0, 1, 0]])  # by its width
        >>> box, bank = torch.tensor([[0, 0, 1, 1]]), torch.tensor([7.0, 8.0]).view(2, 1, 1, 1)
        >>> options = {"patch_index": torch.tensor([1]), "clip": False}
        >>> kp.paste_patches(torch.zeros(1, 1, 1, 3), bank, box, theta=right, **options)
        tensor([[[[0., 8., 0.]]]])
    """
    boxes, obj_to_img = _flattened(images, boxes, obj_to_img)
    padding = padding_mode or ("border" if clip else "transparent")
    given = images, patches, boxes, obj_to_img, theta, patch_index, alpha
    return _paste_patches(*given, *(mode, padding, align_corners, clip))


@operator("paste_patches", lambda images, *_: torch.empty_like(images), gradient=True)
@full_precision
def _paste_patches(
    images: Tensor,
    patches: Tensor,
    boxes: Tensor,
    obj_to_img: Tensor | None,
    theta: Tensor | None,
    patch_index: Tensor | None,
    alpha: Tensor | None,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    clip: bool,
) -> Tensor:
    check_option("clip", clip, (False, True))
    sampling = sampling_of(mode, padding_mode, align_corners, STEP_PADDINGS if clip else CLEAR_PADDINGS)
    source = Source(patches, None, patch_index, ("patches", "boxes", "patch_index"))
    objects = check_objects(images, boxes, obj_to_img, "identity" if theta is None else theta, alpha, source)
    objects, plan = planned(images, patches, objects, sampling, False, clip)
    return paint(patches, images, *read_by(objects, plan))


@plain_tensors
def transplant_patches(
    images: Tensor,
    boxes: BoxesLike,
    obj_to_img: Tensor | None = None,
    *,
    source: Tensor,
    source_boxes: Tensor,
    source_to_img: Tensor | None = None,
    theta: Tensor | None = None,
    alpha: Tensor | None = None,
    mode: Mode = "bilinear",
    padding_mode: Padding = "zeros",
    align_corners: bool = False,
    clip: bool = False,
) -> Tensor:
    """Paint what boxes of other pictures show into boxes of images, in row order, each by its own theta.

    For the pixel centre p of a window, the source picture is read at ``q = source_box_n(theta_n(box_n^-1(p)))``, once,
    at native resolution. Gradients flow to images, source, both boxes, theta and alpha.

    Args:
        images: ``(B, C, H, W)``, floating.
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels, where objects go; or per image, as `flatten_boxes` takes
            them.
        obj_to_img: ``(N,)`` integer, the image of each object; may be left out if B = 1 or boxes come per image.
        source: ``(S, C, H', W')``, floating: pictures of any size and number, or ``images`` themselves, which are read
            as they came.
        source_boxes: ``(N, 4)`` in pixels of the source, what is read for each object.
        source_to_img: ``(N,)`` integer, the source picture of each object; may be left out if S = 1.
        theta: ``(N, 6)`` or ``(N, 2, 3)``, from the frame of the box to that of the source box; the identity if left
            out.
        alpha: opacity ``(N,)``, a matte ``(N, 1, h, w)`` laid over the source box, or masks ``(N, H', W')`` over the
            source picture, as in `affine_patches`.
        mode: ``bilinear`` or ``nearest``.
        padding_mode: what lies beyond the source box, as in `affine_patches`; without ``clip``, ``zeros`` or
            ``transparent``, which then are the same.
        align_corners: whether -1 and 1 in the frames are the edges of boxes or their outermost pixel centres.
        clip: paint within the boxes only, and not wherever objects land.

    Returns:
        ``(B, C, H, W)``, a new tensor in the images' dtype and memory format. An object whose source box has no area or
        lies outside its picture paints nothing.

    Raises:
        TypeError, ValueError: as `affine_patches`.

    Examples:
        >>> source = torch.arange(6.0).reshape(1, 1, 2, 3)
        >>> there, here = torch.tensor([[1, 0, 3, 2]]), torch.tensor([[0, 0, 2, 2]])
        >>> kp.transplant_patches(torch.zeros(1, 1, 2, 4), here, source=source, source_boxes=there)
        tensor([[[[1., 2., 0., 0.],
                  [4., 5., 0., 0.]]]])
    """
    boxes, obj_to_img = _flattened(images, boxes, obj_to_img)
    given = images, boxes, obj_to_img, source, source_boxes, source_to_img, theta, alpha
    return _transplant_patches(*given, *(mode, padding_mode, align_corners, clip))


@operator("transplant_patches", lambda images, *_: torch.empty_like(images), gradient=True)
@full_precision
def _transplant_patches(
    images: Tensor,
    boxes: Tensor,
    obj_to_img: Tensor | None,
    source: Tensor,
    source_boxes: Tensor,
    source_to_img: Tensor | None,
    theta: Tensor | None,
    alpha: Tensor | None,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    clip: bool,
) -> Tensor:
    check_option("clip", clip, (False, True))
    sampling = sampling_of(mode, padding_mode, align_corners, PADDINGS if clip else CLEAR_PADDINGS)
    pictures = Source(source, source_boxes, source_to_img, ("source", "source_boxes", "source_to_img"))
    objects = check_objects(images, boxes, obj_to_img, "identity" if theta is None else theta, alpha, pictures)
    objects, plan = planned(images, source, objects, sampling, RULES[padding_mode].surroundings, clip)
    return paint(source, images, *read_by(objects, plan))


def _flattened(images: Tensor, boxes: BoxesLike, obj_to_img: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Boxes that come per image, flat; flat ones as they are."""
    if isinstance(boxes, Tensor) and boxes.ndim != 3:
        return boxes, obj_to_img
    check_images("images", images)
    return as_flat(boxes, obj_to_img, len(images))


def sampling_of(mode: str, padding_mode: str, align_corners: bool, paddings: tuple[str, ...]) -> Sampling:
    """The options of a call as the kernels take them."""
    check_option("mode", mode, MODES)
    name = "padding_mode (with clip=False)" if paddings is CLEAR_PADDINGS else "padding_mode"
    check_option(name, padding_mode, paddings)
    check_option("align_corners", align_corners, (False, True))
    rules = RULES[padding_mode]
    return Sampling(mode == "nearest", rules.beyond, align_corners, rules.by_reach)
