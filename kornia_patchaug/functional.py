"""Crop, warp, paste, and all three in one pass: check the arguments, then compose the stages."""

from __future__ import annotations

import typing  # the schema of an operator reads typing.Sequence, with any torch
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from kornia_patchaug.boxes import BoxesLike, as_size, plain_tensors
from kornia_patchaug.checks import check_device, check_images, check_option, check_readable, check_theta_values
from kornia_patchaug.dtypes import full_precision, working_dtype
from kornia_patchaug.frames import as_theta, identity_theta, whole_boxes
from kornia_patchaug.kernels import paint, sample
from kornia_patchaug.objects import as_flat, check_objects, on_host
from kornia_patchaug.painting import cut_out, paint_in_turn, paint_objects
from kornia_patchaug.plan import PADDINGS as RULES
from kornia_patchaug.plan import Plan, Reads, Sampling, Windows, image_plan
from kornia_patchaug.whole_op import operator

MODES = ("bilinear", "nearest")
PADDINGS = tuple(RULES)
EDGE_PADDINGS = ("zeros", "border", "reflection")
STEP_PADDINGS = (*EDGE_PADDINGS, "transparent")  # a crop has no surroundings

Mode = Literal["bilinear", "nearest"]
EdgePadding = Literal["zeros", "border", "reflection"]
Padding = Literal["zeros", "border", "reflection", "image", "transparent"]


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
) -> Tensor:
    """Warp every object's patch by its own affine transform and paint it back, in row order.

    For the pixel centre p of object n's window, ``canvas = (1 - K A) canvas + K A V`` with V the image read at
    ``q = box_n(theta_n(box_n^-1(p)))``, K the share of the pixel inside the box, and A the opacity. Gradients flow to
    images, theta, boxes and alpha.

    Args:
        images: ``(B, C, H, W)``, floating.
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels; or per image, as `flatten_boxes` takes them.
        theta: ``(N, 6)`` or ``(N, 2, 3)``, output to input in the box frame, as ``affine_grid`` takes it.
        obj_to_img: ``(N,)`` integer, the image of each object; may be left out if B = 1 or boxes come per image.
        alpha: opacity ``(N,)``, or a matte ``(N, 1, h, w)`` laid over the box, which moves with the patch.
        mode: ``bilinear`` or ``nearest``.
        padding_mode: what lies beyond the patch. ``zeros``, ``border``, ``reflection``: as ``grid_sample`` on the crop;
            ``image``: the object's surroundings; ``transparent``: the canvas shows.
        align_corners: whether -1 and 1 in the box frame are the edges of the box or its outermost pixel centres.
        sequential: crop object n from the canvas as objects 0 .. n-1 left it, rather than from the input.
        patch_size: ``(h, w)`` runs crop, warp and paste one after another at that resolution, on Kornia's
            ``crop_and_resize`` and ``warp_affine``; theta must then be invertible, and ``image`` cannot be had.

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
    return _affine_patches(
        images, boxes, theta, obj_to_img, alpha, *(mode, padding_mode, align_corners, sequential, size)
    )


@operator("affine_patches", lambda images, *_: torch.empty_like(images), gradient=True)
@full_precision
def _affine_patches(
    images: Tensor,
    boxes: Tensor,
    theta: Tensor,
    obj_to_img: Tensor | None,
    alpha: Tensor | None,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    sequential: bool,
    patch_size: typing.Sequence[int] | None,
) -> Tensor:
    sampling = _sampling(mode, padding_mode, align_corners, PADDINGS)
    check_option("sequential", sequential, (False, True))
    size = None if patch_size is None else (patch_size[0], patch_size[1])
    if size is not None:
        check_option("padding_mode (with patch_size)", padding_mode, STEP_PADDINGS)
    objects = check_objects(images, boxes, obj_to_img, theta, alpha)
    plan = image_plan(objects.host_boxes, objects.host_image, images, sampling, RULES[padding_mode].surroundings)
    paint_all = paint_in_turn if sequential else paint_objects
    return paint_all(images, objects, plan, size)


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
    if not isinstance(boxes, Tensor) or boxes.ndim == 3:
        check_images("images", images)
        boxes, obj_to_img = as_flat(boxes, obj_to_img, len(images))
    size = as_size("size", size)
    return _crop_patches(images, boxes, obj_to_img, *(size, mode, padding_mode, align_corners))


def _fake_crops(
    images: Tensor, boxes: Tensor, obj_to_img: Tensor | None, size: typing.Sequence[int], *_: object
) -> Tensor:
    return images.new_empty(len(boxes), images.shape[1], *size)


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
    sampling = _sampling(mode, padding_mode, align_corners, EDGE_PADDINGS)
    objects = check_objects(images, boxes, obj_to_img)
    patches = cut_out(images, objects, (size[0], size[1]), sampling)
    has_area = (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(1)
    return patches.where(has_area[:, None, None, None], 0).to(images.dtype).contiguous()


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
    sampling = _sampling(mode, padding_mode, align_corners, EDGE_PADDINGS)
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
    alpha: Tensor | None = None,
    mode: Mode = "bilinear",
    align_corners: bool = False,
) -> Tensor:
    """Resize every patch to its box and paint it into its image, in row order.

    Args:
        images: ``(B, C, H, W)``, floating.
        patches: ``(N, C, h, w)``, floating, one a box.
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels; or per image, as `flatten_boxes` takes them.
        obj_to_img: ``(N,)`` integer, the image of each object; may be left out if B = 1 or boxes come per image.
        alpha: opacity ``(N,)``, or a matte ``(N, 1, h, w)`` laid over the box.
        mode: ``bilinear`` or ``nearest``.
        align_corners: False maps patch edges to box edges, True outermost pixel centres to pixel centres.

    Returns:
        ``(B, C, H, W)``, a new tensor in the images' dtype and memory format.

    Raises:
        TypeError, ValueError: as `affine_patches`.

    Examples:
        >>> kp.paste_patches(torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 1, 1), torch.tensor([[1.0, 0.0, 2.5, 2.0]]))
        tensor([[[[0.0000, 1.0000, 0.5000, 0.0000],
                  [0.0000, 1.0000, 0.5000, 0.0000]]]])
    """
    if not isinstance(boxes, Tensor) or boxes.ndim == 3:
        check_images("images", images)
        boxes, obj_to_img = as_flat(boxes, obj_to_img, len(images))
    return _paste_patches(images, patches, boxes, obj_to_img, alpha, *(mode, align_corners))


@operator("paste_patches", lambda images, *_: torch.empty_like(images), gradient=True)
@full_precision
def _paste_patches(
    images: Tensor,
    patches: Tensor,
    boxes: Tensor,
    obj_to_img: Tensor | None,
    alpha: Tensor | None,
    mode: str,
    align_corners: bool,
) -> Tensor:
    sampling = _sampling(mode, "border", align_corners, EDGE_PADDINGS)
    for name, value in (("images", images), ("patches", patches)):
        check_images(name, value)
    check_device("patches", patches, images)
    check_readable("patches", patches)
    objects = check_objects(images, boxes, obj_to_img, alpha=alpha)
    if patches.shape[:2] != (len(objects.boxes), images.shape[1]):
        raise ValueError(
            f"patches: expected shape ({len(objects.boxes)}, {images.shape[1]}, h, w), one patch a box with the "
            f"images' channels, got {tuple(patches.shape)}."
        )
    plan = image_plan(objects.host_boxes, objects.host_image, images, sampling, False)
    plan, whole = replace(plan, reads=Reads.whole(patches)), whole_boxes(patches, objects.boxes)
    return paint(patches, images, identity_theta(objects.boxes), objects.boxes, plan, objects.alpha, whole)


def _sampling(mode: str, padding_mode: str, align_corners: bool, paddings: tuple[str, ...]) -> Sampling:
    """The options of a call as the kernels take them."""
    check_option("mode", mode, MODES)
    check_option("padding_mode", padding_mode, paddings)
    check_option("align_corners", align_corners, (False, True))
    rules = RULES[padding_mode]
    return Sampling(mode == "nearest", rules.beyond, align_corners, rules.by_reach)
