"""Crop, warp, paste, and all three in one pass: check the arguments, then compose the stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from kornia.geometry.transform import crop_and_resize, warp_affine
from torch import Tensor

from kornia_patchaug.boxes import (
    BoxesLike,
    Objects,
    check_images,
    check_objects,
    check_option,
    check_size,
    split_boxes,
)
from kornia_patchaug.kernels import composite, sample
from kornia_patchaug.theta import (
    centred_matrices,
    centres,
    half_sizes,
    invert_theta,
    safe_ratio,
)
from kornia_patchaug.windows import (
    Windows,
    coverage,
    layers,
    make_windows,
    regular_windows,
    select_windows,
)

MODES = ("bilinear", "nearest")
EDGE_PADDINGS = ("zeros", "border", "reflection")
PADDINGS = (*EDGE_PADDINGS, "image", "transparent")

Mode = Literal["bilinear", "nearest"]
EdgePadding = Literal["zeros", "border", "reflection"]
Padding = Literal["zeros", "border", "reflection", "image", "transparent"]


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
        boxes: ``(N, 4)`` half-open ``x1 y1 x2 y2`` in pixels; or per image, as :func:`flatten_boxes` takes them.
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

    Example:
        >>> images = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
        >>> affine_patches(images, torch.tensor([[0, 1, 4, 3]]), half_turn)[0, 0]
        tensor([[ 0.,  1.,  2.,  3.],
                [11., 10.,  9.,  8.],
                [ 7.,  6.,  5.,  4.],
                [12., 13., 14., 15.]])
    """
    _check_options(mode, padding_mode, align_corners, PADDINGS)
    check_option("sequential", sequential, (False, True))
    objects = check_objects(images, boxes, obj_to_img, theta, alpha)
    windows = _windows(images, objects)
    warp = _warp_in_one_pass
    if patch_size is not None:
        size = check_size("patch_size", patch_size)
        check_option("padding_mode (with patch_size)", padding_mode, (*EDGE_PADDINGS, "transparent"))
        warp = _warp_in_steps(size)

    if not sequential:
        return _paint(images, images, objects, windows, warp, mode, padding_mode, align_corners)
    canvas = images.clone()
    for rows in layers(windows, _reads(images, objects, windows, align_corners) if padding_mode == "image" else None):
        of_layer = _select(objects, rows)
        canvas = _paint(
            canvas, canvas, of_layer, select_windows(windows, rows), warp, mode, padding_mode, align_corners
        )
    return canvas


def crop_patches(
    images: Tensor,
    boxes: BoxesLike,
    obj_to_img: Tensor | None = None,
    size: tuple[int, int] = (64, 64),
    *,
    mode: Mode = "bilinear",
    padding_mode: EdgePadding = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """Cut every box out of its image and resize it to ``size``, without gathering N images.

    With ``align_corners`` it is Kornia's ``crop_and_resize`` on the inclusive boxes ``x1 y1 x2-1 y2-1``.

    Args:
        images, boxes, obj_to_img, mode: as :func:`affine_patches`.
        size: ``(h, w)`` of the patches.
        padding_mode: what lies beyond the *image*: ``zeros``, ``border`` or ``reflection``. Pixels next to the box are
            read where interpolation needs them.
        align_corners: False maps box edges to patch edges, True outermost pixel centres to pixel centres.

    Returns:
        ``(N, C, h, w)`` in the images' dtype; zeros for a box without area.

    Raises:
        TypeError, ValueError: as :func:`affine_patches`.

    Example:
        >>> images = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> crop_patches(images, torch.tensor([[1, 0, 3, 4]]), size=(2, 2))
        tensor([[[[ 3.,  4.],
                  [11., 12.]]]])
    """
    _check_options(mode, padding_mode, align_corners, EDGE_PADDINGS)
    height, width = check_size("size", size)
    objects = check_objects(images, boxes, obj_to_img)
    count, channels = len(objects.boxes), images.shape[1]
    windows = regular_windows(count, height, width, images.device)
    # The box is the source here: its coordinates count from its own first pixel, so that they stay small.
    first = objects.boxes.detach()[:, :2].floor()
    local_boxes = objects.boxes - first.repeat(1, 2)
    patch = local_boxes.new_tensor([[0, 0, width, height]])
    ratio = safe_ratio(half_sizes(local_boxes, align_corners), half_sizes(patch, align_corners).expand(count, 2))
    src_from_dst = torch.diag_embed(ratio)
    src_from_dst = torch.nn.functional.pad(src_from_dst, (0, 1))  # (N, 2, 3), no shift between the centres
    first = first.long()
    picture = torch.tensor([0, 0, images.shape[3] - 1, images.shape[2] - 1], device=images.device)
    values, _ = sample(
        images,
        objects.obj_to_img,
        src_from_dst,
        centres(local_boxes),
        centres(patch).expand(count, 2),
        first,
        picture - first.repeat(1, 2),
        windows,
        mode=mode,
        padding_mode=padding_mode,
        align_corners=align_corners,
    )
    patches = values.reshape(channels, count, height, width).transpose(0, 1)
    has_area = (local_boxes[:, 2:] > local_boxes[:, :2]).all(1)
    return patches.where(has_area[:, None, None, None], 0).to(images.dtype).contiguous()


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
        mode, padding_mode, align_corners: as in ``torch.nn.functional.grid_sample``.

    Returns:
        ``(N, C, h, w)`` in the patches' dtype; the grid is float32 at least.

    Raises:
        TypeError, ValueError: as :func:`affine_patches`.

    Example:
        >>> warp_patches(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[-1.0, 0, 0, 0, 1, 0]]))
        tensor([[[[3., 2., 1.]]]])
    """
    _check_options(mode, padding_mode, align_corners, EDGE_PADDINGS)
    check_images("patches", patches)
    count, _, height, width = patches.shape
    whole = torch.tensor([[0, 0, width, height]], device=patches.device).expand(count, 4)
    objects = check_objects(patches, whole, torch.arange(count, device=patches.device), theta)
    if count == 0:
        return patches.clone()
    grid = torch.nn.functional.affine_grid(objects.theta, list(patches.shape), align_corners=align_corners)
    warped = torch.nn.functional.grid_sample(
        patches.to(grid.dtype), grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners
    )
    return warped.to(patches.dtype)


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
        images: ``(B, C, H, W)``. patches: ``(N, C, h, w)``.
        boxes, obj_to_img, alpha, mode: as :func:`affine_patches`.
        align_corners: False maps patch edges to box edges, True outermost pixel centres to pixel centres.

    Returns:
        ``(B, C, H, W)``, a new tensor in the images' dtype and memory format.

    Raises:
        TypeError, ValueError: as :func:`affine_patches`.

    Example:
        >>> paste_patches(torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 1, 1), torch.tensor([[1.0, 0.0, 2.5, 2.0]]))
        tensor([[[[0.0000, 1.0000, 0.5000, 0.0000],
                  [0.0000, 1.0000, 0.5000, 0.0000]]]])
    """
    _check_options(mode, "border", align_corners, EDGE_PADDINGS)
    check_images("patches", patches)
    objects = check_objects(images, boxes, obj_to_img, alpha=alpha)
    if patches.shape[:2] != (len(objects.boxes), images.shape[1]) or min(patches.shape[2:]) < 1:
        raise ValueError(
            f"patches: expected shape ({len(objects.boxes)}, {images.shape[1]}, h, w), one patch a box with the images' "
            f"channels, got {tuple(patches.shape)}."
        )
    if patches.device != images.device:
        raise ValueError(f"patches: expected device {images.device} as the images, got {patches.device}.")
    windows = _windows(images, objects)
    values = _lay_over(patches, objects, windows, objects.theta, mode, "border", align_corners)
    opacity = _opacity(objects, windows, mode, "border", align_corners)
    return composite(images, opacity * values, opacity, windows)


# A way of warping: (source, objects, windows, mode, padding_mode, align_corners) -> values (C, P), reach (P,)
Warp = Callable[[Tensor, Objects, Windows, str, str, bool], tuple[Tensor, Tensor]]


def _paint(
    canvas: Tensor,
    source: Tensor,
    objects: Objects,
    windows: Windows,
    warp: Warp,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    values, reach = warp(source, objects, windows, mode, padding_mode, align_corners)
    opacity = _opacity(objects, windows, mode, padding_mode, align_corners)
    paint = opacity * values
    if padding_mode == "transparent":
        opacity = opacity * reach  # the values are premultiplied by the reach already
    return composite(canvas, paint, opacity, windows)


def _warp_in_one_pass(
    source: Tensor, objects: Objects, windows: Windows, mode: str, padding_mode: str, align_corners: bool
) -> tuple[Tensor, Tensor]:
    local_boxes = _local_boxes(objects, windows)
    centre = centres(local_boxes)
    limits = windows.limits
    if padding_mode == "image":
        picture = torch.tensor([0, 0, source.shape[3] - 1, source.shape[2] - 1], device=source.device)
        limits = picture - windows.origin.repeat(1, 2)
    return sample(
        source,
        windows.image,
        centred_matrices(objects.theta, half_sizes(local_boxes, align_corners)),
        centre,
        centre,
        windows.origin,
        limits,
        windows,
        mode=mode,
        padding_mode={"image": "border", "transparent": "zeros"}.get(padding_mode, padding_mode),
        align_corners=align_corners,
    )


def _warp_in_steps(size: tuple[int, int]) -> Warp:
    """The plain reading of the job on Kornia's own functions: crop to ``size``, warp, then lay over the window."""

    def warp(
        source: Tensor, objects: Objects, windows: Windows, mode: str, padding_mode: str, align_corners: bool
    ) -> tuple[Tensor, Tensor]:
        count, dtype = len(objects.boxes), objects.boxes.dtype
        beyond_patch = "zeros" if padding_mode == "transparent" else padding_mode
        beyond_image = "zeros" if beyond_patch == "zeros" else "border"
        unit = objects.boxes.new_tensor([0, 0, 1, 1])  # Kornia takes no empty box; nobody sees what becomes of this one
        boxes = objects.boxes.where(windows.size.prod(1, keepdim=True) > 0, unit)
        patch = boxes.new_tensor([[0, 0, size[1], size[0]]]).expand(count, 4)

        # Kornia counts in pixel centres: where the patch's outermost ones lie in the image.
        to_corner = (
            (patch[:, 2:] - 1) / 2 * safe_ratio(half_sizes(boxes, align_corners), half_sizes(patch, align_corners))
        )
        low, high = centres(boxes) - 0.5 - to_corner, centres(boxes) - 0.5 + to_corner
        corners = torch.cat([low, high], dim=1)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(count, 4, 2)
        crops = source.new_zeros((count, source.shape[1], *size), dtype=dtype)
        for image, rows in enumerate(split_boxes(torch.arange(count), objects.host_image, len(source))):
            if len(rows):  # one image at a time, expanded and not copied: N images would be held otherwise
                shared = source[image : image + 1].to(dtype).expand(len(rows), -1, -1, -1)
                rows = rows.to(source.device)
                cut = crop_and_resize(shared, corners[rows], size, mode, beyond_image, align_corners)
                crops = crops.index_put((rows,), cut)

        dst_from_src = centred_matrices(invert_theta(objects.theta), half_sizes(patch, align_corners))
        linear, centre = dst_from_src[..., :2], centres(patch)[..., None] - 0.5
        motion = torch.cat([linear, dst_from_src[..., 2:] + centre - linear @ centre], dim=2)
        seen = torch.cat([crops, torch.ones_like(crops[:, :1])], dim=1)  # the last channel becomes the reach
        warped = warp_affine(seen, motion, size, mode, beyond_patch, align_corners) if count else seen
        identity = torch.eye(2, 3, dtype=dtype, device=source.device).expand(count, 2, 3)
        values = _lay_over(warped, objects, windows, identity, mode, "border", align_corners)
        return values[:-1], values[-1]

    return warp


def _lay_over(
    patches: Tensor,
    objects: Objects,
    windows: Windows,
    theta: Tensor,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    """Read patches ``(N, C, h, w)`` that are stretched over the boxes and moved by theta: values ``(C, P)``."""
    count, _, height, width = patches.shape
    local_boxes = _local_boxes(objects, windows)
    patch = local_boxes.new_tensor([[0, 0, width, height]]).expand(count, 4)
    box_half, patch_half = half_sizes(local_boxes, align_corners), half_sizes(patch, align_corners)
    stretch = safe_ratio(patch_half, box_half)[..., None]
    values, _ = sample(
        patches,
        torch.arange(count, device=patches.device),
        stretch * centred_matrices(theta, box_half),
        centres(patch),
        centres(local_boxes),
        torch.zeros_like(windows.origin),
        (patch - patch.new_tensor([0, 0, 1, 1])).long(),
        windows,
        mode=mode,
        padding_mode=padding_mode,
        align_corners=align_corners,
    )
    return values


def _opacity(objects: Objects, windows: Windows, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
    """``K * A`` of every window pixel, ``(P,)``. A matte continues beyond its edge, or is mirrored with its patch."""
    covered = coverage(windows, _local_boxes(objects, windows))
    if objects.alpha is None:
        return covered
    if objects.alpha.ndim == 1:
        return covered * objects.alpha[windows.pixels[0]]
    beyond = "reflection" if padding_mode == "reflection" else "border"
    return covered * _lay_over(objects.alpha, objects, windows, objects.theta, mode, beyond, align_corners)[0]


def _windows(images: Tensor, objects: Objects) -> Windows:
    return make_windows(objects.host_boxes, objects.host_image, images.shape[2], images.shape[3], images.device)


def _local_boxes(objects: Objects, windows: Windows) -> Tensor:
    """Boxes counted from their window's origin: small numbers, and exact."""
    return objects.boxes - windows.origin.repeat(1, 2)


def _reads(images: Tensor, objects: Objects, windows: Windows, align_corners: bool) -> Tensor:
    """The pixels that each object may read when its surroundings are read too: first and last, ``(N, 4)`` on the host."""
    boxes, origin = objects.host_boxes, windows.origin.cpu()
    src_from_dst = centred_matrices(objects.host_theta, half_sizes(boxes, align_corners))
    centre = centres(boxes)
    low, high = origin + 0.5 - centre, origin + windows.size.cpu() - 0.5 - centre
    corners = torch.cat([low, high], dim=1)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    positions = corners @ src_from_dst[..., :2].mT + (src_from_dst[..., 2] + centre)[:, None] - 0.5
    last = torch.tensor([images.shape[3] - 1, images.shape[2] - 1])
    # One pixel of margin: the device computes in another precision than the host.
    low = (positions.amin(1).floor() - 1).maximum(torch.zeros(2)).minimum(last)
    high = (positions.amax(1).ceil() + 1).maximum(torch.zeros(2)).minimum(last)
    return torch.cat([low, high], dim=1)


def _select(objects: Objects, rows: Tensor) -> Objects:
    on_host = rows.cpu()
    parts = {
        name: None if value is None else value[rows] for name, value in objects._asdict().items() if "host" not in name
    }
    parts |= {name: value[on_host] for name, value in objects._asdict().items() if "host" in name}
    return Objects(**parts)


def _check_options(mode: object, padding_mode: object, align_corners: object, paddings: tuple[str, ...]) -> None:
    check_option("mode", mode, MODES)
    check_option("padding_mode", padding_mode, paddings)
    check_option("align_corners", align_corners, (False, True))
