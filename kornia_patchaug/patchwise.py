"""Any of Kornia's augmentations on the patch of each object, with a draw of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from kornia.augmentation import AugmentationSequential, MixAugmentationBaseV2
from kornia.constants import DataKey
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor, nn

from kornia_patchaug import kernels
from kornia_patchaug.boxes import BoxesLike
from kornia_patchaug.checks import check_unit
from kornia_patchaug.draw import Draw, Drawn, Params, complete
from kornia_patchaug.dtypes import working_dtype
from kornia_patchaug.frames import corners_of, identity_theta, painted_pixels
from kornia_patchaug.functional import crop_patches
from kornia_patchaug.hooks import ROUNDING, FollowsAll, ObjectAugmentation, check_choice, mattes_of
from kornia_patchaug.instances import Geometry, pixels_of, topmost
from kornia_patchaug.kornia_names import ParamItem, corners_and_validity, gate_of, with_corners, with_points
from kornia_patchaug.labels import corners_from, half_open, holders, with_bits_of
from kornia_patchaug.mattes import soft_mattes
from kornia_patchaug.plan import Windows
from kornia_patchaug.theta import OUTLINES, Outline
from kornia_patchaug.visibility import share_seen


class Group(NamedTuple):
    """Objects whose patches are of one size, and the draw of the augmentations for them."""

    rows: Tensor  # (n,)
    size: tuple[int, int]  # height, width
    params: list[ParamItem]


class PatchwiseApply(FollowsAll):
    """Apply Kornia's augmentations to the patch of each object alone, with one draw an object, and paste it back.

    A patch is the whole pixels of the object's box within its image, at native resolution. Patches of one size go
    through the augmentations together, as a batch whose images are the patches: what comes out is what each crop alone
    would become with the same draw. Where augmentations move pixels, the object's labels move in its patch.

    Args:
        *augmentations: Kornia's 2D augmentations, or other modules of images, that keep a patch's size.
        min_size: patches that are less wide or high than so many pixels stay as they are: filters need some room.
        p: the probability that an image is changed, in [0, 1].
        p_batch: the probability that the batch is.
        p_patch: the probability that an object is.
        matte: paste patches with soft edges, of a ``box`` or of the ``ellipse`` in it, as `soft_mattes` makes them.
        feather: how wide these are, as a share of the half size.
        order: where patches overlap, ``rows`` lays later ones over earlier ones, ``area`` small ones over large ones.
            Each is cut from the image as it came.
        min_visible: the label of an object of which a smaller share is seen is removed, as in `PatchAffine`.
        same_on_batch: one draw for all objects of a size.
        keepdim: give the output the input's rank.
        generator: draw from it and not from the global one, as in `RandomPatchAffine`.

    Raises:
        TypeError, ValueError: an option or module that is none, when it is made; wrong boxes or images, or a
            module that changes a patch's size, when it is called.

    Examples:
        >>> import kornia.augmentation as K
        >>> jitter = kp.PatchwiseApply(K.ColorJiggle(0.2, 0.2, 0.2, 0.1, p=1.0), K.RandomGaussianNoise(0.0, 0.1, p=1.0))
        >>> jitter(torch.rand(2, 3, 32, 48), [torch.tensor([[4, 4, 20, 28]]), torch.zeros(0, 4)]).shape
        torch.Size([2, 3, 32, 48])
    """

    def __init__(
        self,
        *augmentations: nn.Module,
        min_size: int = 8,
        p: float = 1.0,
        p_batch: float = 1.0,
        p_patch: float = 1.0,
        matte: Outline | None = None,
        feather: float = 0.2,
        order: str = "rows",
        min_visible: float = 0.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        flags = {"matte": matte, "feather": feather, "order": order, "min_visible": min_visible}
        _check_flags(flags)
        super().__init__(
            flags,
            p=p,
            p_batch=p_batch,
            p_patch=p_patch,
            same_on_batch=same_on_batch,
            keepdim=keepdim,
            generator=generator,
        )
        for augmentation in augmentations:
            if not isinstance(augmentation, nn.Module) or isinstance(
                augmentation, (MixAugmentationBaseV2, ObjectAugmentation)
            ):
                name = type(augmentation).__name__
                raise TypeError(f"augmentations: expected augmentations of images one by one, got {name}.")
        if not isinstance(min_size, int) or min_size < 1:
            raise ValueError(f"min_size: expected pixels, an integer of 1 or more, got {min_size!r}.")
        self.min_size = min_size
        self.augment = AugmentationSequential(
            *augmentations,  # type: ignore[arg-type]  # Kornia runs any module, but does not say so
            data_keys=["input"],
            same_on_batch=same_on_batch or None,
        )

    def forward(  # type: ignore[override]  # what Kornia has second, params, it passes by name
        self,
        input: Tensor,
        boxes: BoxesLike | Params | None = None,
        obj_to_img: Tensor | None = None,
        *,
        params: Params | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Augment the patches of a batch. Labels move in `PatchAugmentationSequential` and `DetectionSequential`.

        Args:
            input: ``(B, C, H, W)``, ``(C, H, W)`` or ``(H, W)``, floating.
            boxes: ``(N, 4)`` or per image, as `affine_patches` takes them; or from ``params``, or `bind`. A dict in
                this place is ``params``, as in Kornia.
            obj_to_img: ``(N,)`` integer; comes from where the boxes come from.
            params: a draw to replay, as in ``_params``.
            **kwargs: options to change for this call, from ``matte`` to ``min_visible``.

        Raises:
            TypeError, ValueError: an integer image, an unknown option, no boxes; or as `affine_patches`.
        """
        if isinstance(boxes, dict):
            boxes, params = None, boxes
        return self._run(input, Draw.of(boxes=boxes, obj_to_img=obj_to_img), params, kwargs)

    if TYPE_CHECKING:
        __call__ = forward  # torch's takes and returns anything

    def _check_call(self, input: Tensor, options: Params) -> None:
        super()._check_call(input, options)
        _check_flags(options)

    def _complete(
        self, draw: Draw, device: torch.device, given: Params, images: Tensor | None, options: Params
    ) -> None:
        self._check_has_boxes(draw, given)
        completed = complete(
            draw,
            given,
            self._bound,
            device=device,
            ranges=_stay,
            align_corners=False,
            p_patch=self.p_patch,
            same_on_batch=self.same_on_batch,
        )
        draw.update(completed)
        if given or "groups" not in draw:
            draw["groups"] = self._groups(draw)

    def _groups(self, draw: Draw) -> list[Group]:
        """The objects that are changed, by the size of their patch, and a draw for each size, of the call's seed."""
        channels, height, width = draw["forward_input_shape"].tolist()[-3:]
        objects = draw.objects(gate_of(self, draw))
        patches = painted_pixels(objects.boxes.detach(), height, width)
        sides = (patches[:, 2:] - patches[:, :2]).long().cpu()
        rows = (objects.active.cpu() & (sides >= self.min_size).all(1)).nonzero()[:, 0]
        sizes, of_size = sides[rows].unique(dim=0, return_inverse=True)
        groups = []
        with torch.random.fork_rng(devices=[]):  # Kornia draws from the global generator
            torch.manual_seed(int(draw["seed"].flatten()[0]))
            for k, (w, h) in enumerate(sizes.tolist()):
                some = rows[of_size == k]
                params = self.augment.forward_parameters(torch.Size([len(some), channels, h, w]))
                groups.append(Group(some.to(objects.boxes.device), (h, w), params))
        return groups

    def _live(self, params: Params, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Patches ``(N, 4)`` of whole pixels, which image each is of, and which are changed ``(N,)``."""
        height, width = params["forward_input_shape"].tolist()[-2:]
        objects = Draw(params).objects(gate_of(self, params))
        boxes = params["boxes"][0].detach().to(device)
        active = objects.active.to(device)
        live = torch.zeros_like(active)
        for rows, _, _ in params["groups"]:  # without those that are too small
            live[rows] = active[rows]
        return painted_pixels(boxes, height, width), objects.obj_to_img.to(device), live

    # --- pixels -------------------------------------------------------------------------------------------------------

    def apply_transform(self, input: Tensor, params: Params, flags: Params, transform: Tensor | None = None) -> Tensor:
        patches, image, live = self._live(params, input.device)
        changed, of = [], []
        for rows, size, drawn in params["groups"]:
            found = self.augment(crop_patches(input, patches[rows], image[rows], size), params=drawn)
            self._check_size(found, (len(rows), input.shape[1], *size))
            opacity = (
                1.0
                if flags["matte"] is None
                else soft_mattes(1, size, shape=flags["matte"], feather=flags["feather"], device=input.device)
            )
            opacity = live[rows].to(found.dtype)[:, None, None, None] * opacity
            changed.append(torch.cat([found * opacity, opacity.expand(-1, 1, *size)], dim=1))
            of.append(rows)
        return _laid_over(input, changed, of, patches, image, self._rank(params, flags))

    def _rank(self, params: Params, flags: Params) -> Tensor:
        """``(N,)``: the order in which patches are painted."""
        boxes = params["boxes"][0].detach()
        if flags["order"] == "rows":
            return torch.arange(len(boxes), device=boxes.device)
        area: Tensor = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        return area.argsort(descending=True, stable=True).argsort()

    def _check_size(self, found: Tensor, expected: tuple[int, ...]) -> None:
        if found.shape != expected:
            raise ValueError(
                f"augmentations: expected patches to keep their shape {expected[1:]}, got {tuple(found.shape[1:])}. "
                "Pass the size that patches have, or pad, after a crop."
            )

    # --- labels -------------------------------------------------------------------------------------------------------

    def follow_labels(
        self, inputs: list[Any], keys: list[DataKey], params: Draw, extra_args: dict[Any, Any]
    ) -> list[Any]:
        """Labels of a container's step, ``inputs`` as they were before, moved in the patches of their objects."""
        if self.augment.is_intensity_only():
            return list(inputs)
        outputs = list(inputs)
        own = params.obj_to_img, params.columns()
        for i, (key, value) in enumerate(zip(keys, inputs, strict=True)):
            extra = extra_args.get(key, {})
            if isinstance(value, Boxes):
                outputs[i] = self._boxes(value, own, params)
            elif key == DataKey.MASK:
                outputs[i] = self._masks(value, own, params, extra)
            elif key == DataKey.KEYPOINTS:
                outputs[i] = self._points(value, own, params, extra.get("instances"))
        return outputs

    def _boxes(self, boxes: Boxes, own: tuple[Tensor, Tensor], params: Draw) -> Boxes:
        data, valid = corners_and_validity(boxes)
        patches, _, live = self._live(params, data.device)
        moved, corners = data[own].clone(), data[own]
        for rows, _, drawn in params["groups"]:
            first = patches[rows, None, :2].to(data)
            inside = Boxes((corners[rows] - first)[:, None])  # an image each
            out = self.augment(inside, params=drawn, data_keys=["bbox"])
            moved[rows] = out.data[:, 0] + first
        flat = half_open(boxes, moved)
        low, high = flat.split(2, dim=1)
        first, stop = patches.to(flat).split(2, dim=1)
        cut = torch.cat([low.maximum(first).minimum(stop), high.minimum(stop).maximum(first)], dim=1)
        new = corners_from(boxes, cut).to(data.dtype)
        same = (moved == corners).flatten(1).all(1) | ~live
        new = with_bits_of(corners, new, same[:, None, None])
        left = (cut[:, 2:] > cut[:, :2]).all(1) | same
        least = self.flags["min_visible"] * (1 - ROUNDING)
        seen = left if least == 0 else left & (params["visible"][0] >= least)
        return with_corners(boxes, data.index_put(own, new), valid.index_put(own, valid[own] & seen))

    def _masks(self, masks: Tensor, own: tuple[Tensor, Tensor], params: Draw, extra: Params) -> Tensor:
        """Masks of classes as the image is painted; of objects each in its channel, less what is painted over it."""
        if not isinstance(masks, Tensor):
            raise ValueError("mask: expected a tensor (B, C, H, W), as patches are cut from it, got a list.")
        patches, image, live = self._live(params, masks.device)
        source, of_row = (masks, image) if not extra.get("instances") else (masks[own][:, None], None)
        of_row = torch.arange(len(patches), device=masks.device) if of_row is None else of_row
        changed, of = [], []
        for rows, size, drawn in params["groups"]:
            crops = crop_patches(source, patches[rows], of_row[rows], size, mode="nearest")
            found = self.augment(crops, params=drawn, data_keys=["mask"])
            opacity = live[rows].to(found.dtype)[:, None, None, None]
            if self.flags["matte"] is not None:
                opacity = opacity * soft_mattes(1, size, shape=self.flags["matte"], feather=0.0, device=masks.device)
            changed.append(torch.cat([found * opacity, opacity.expand(-1, 1, *size)], dim=1))
            of.append(rows)
        painted = _laid_over(source, changed, of, patches, of_row, self._rank(params, self.flags))
        if not extra.get("instances"):
            return painted
        above, rank = self._topmost(params, masks.shape[2:]), self._numbers(params)
        return masks.index_put(own, painted[:, 0] * (above[image] <= rank[:, None, None]))

    def _topmost(self, params: Draw, size: Any) -> Tensor:
        """Which object, by `_numbers`, is painted last at each pixel, ``(B, H, W)``."""
        patches, image, live = self._live(params, params["boxes"].device)
        boxes = patches.where(live[:, None], 0)
        drawn = Drawn(boxes, identity_theta(boxes), image, live)
        order = self._rank(params, self.flags).argsort()
        alpha = mattes_of(len(boxes), boxes, self.flags, hard=True)
        geometry = Geometry("border", align_corners=False, clip=True)
        return topmost(drawn, order, len(params["batch_prob"]), (int(size[0]), int(size[1])), alpha, geometry)

    def _numbers(self, params: Draw) -> Tensor:
        _, _, live = self._live(params, params["boxes"].device)
        return (self._rank(params, self.flags) + 1).where(live, 0)

    def _points(self, keypoints: Keypoints, own: tuple[Tensor, Tensor], params: Draw, count: int | None) -> Keypoints:
        """Points move with their own object, or if they have none with the topmost patch that holds them."""
        patches, image, live = self._live(params, keypoints.device)
        data = keypoints.data if keypoints.data.ndim == 3 else keypoints.data[None]
        by_object = data.unflatten(1, (-1, count))[own] if count else data[image]  # (N, K, 2)
        moved = by_object.clone()
        for rows, _, drawn in params["groups"]:
            first = patches[rows, None, :2].to(data)
            moved[rows] = (
                self.augment(Keypoints(by_object[rows] - first), params=drawn, data_keys=["keypoints"]).data + first
            )
        moved = moved.where(live[:, None, None], by_object)
        if count:
            new = data.unflatten(1, (-1, count)).index_put(own, moved).flatten(1, 2)
            return with_points(keypoints, new)
        order = self._rank(params, self.flags).argsort()
        boxes = patches.where(live[:, None], 0)[order]
        start = torch.zeros(data.shape[:2], dtype=torch.int64, device=data.device)
        holder = holders(data.detach() + 0.5, boxes, image[order], start, lowest=False)
        held = holder >= 0
        point = torch.arange(data.shape[1], device=data.device).expand(data.shape[:2])
        new = data.index_put((held,), moved[order[holder[held]], point[held]])
        return with_points(keypoints, new.reshape(keypoints.data.shape))

    def hidden_points(self, before: Tensor, points: Tensor, params: Draw) -> tuple[Tensor, Tensor]:
        own, nothing = (params.obj_to_img, params.columns()), torch.zeros(points.shape[:-1], dtype=torch.bool)
        nothing = nothing.to(points.device)
        if self.augment.is_intensity_only():
            return nothing, ~nothing
        patches, _, live = self._live(params, points.device)
        above = self._topmost(params, params["forward_input_shape"].tolist()[-2:])
        hidden = pixels_of(points, above)[own] > self._numbers(params)[:, None]
        first, stop = patches.to(points)[:, None].split(2, dim=-1)
        held = ((points[own] >= first) & (points[own] < stop)).all(-1) | ~live[:, None]
        return nothing.index_put(own, hidden), (~nothing).index_put(own, held)

    def _note(self, draw: Draw, flags: Params) -> None:
        draw.pop("visible", None)
        draw.find_visible = partial(self._share_seen, flags=flags)

    @torch.no_grad()
    def _share_seen(self, params: Draw, flags: Params) -> Tensor:
        """How much of each object is seen, ``(N,)``: of its moved box in its patch, less what is painted over it."""
        boxes, shape = params["boxes"][0], params["forward_input_shape"].tolist()
        if self.augment.is_intensity_only():
            return torch.ones(len(boxes)).to(boxes)
        patches, image, live = self._live(params, boxes.device)
        corners = corners_of(boxes.to(working_dtype(boxes))) - 0.5
        share = corners.new_ones(len(boxes))
        for rows, _, drawn in params["groups"]:
            first = patches[rows, None, :2].to(corners)
            out = self.augment(Boxes((corners[rows] - first)[:, None]), params=drawn, data_keys=["bbox"])
            moved = out.data[:, 0] + first + 0.5
            low, high = moved.amin(1), moved.amax(1)
            cut = (high.minimum(patches[rows, 2:]) - low.maximum(patches[rows, :2])).clamp(min=0)
            share[rows] = cut.prod(1) / (high - low).prod(1).clamp(min=1e-9)
        order = self._rank(params, flags).argsort()
        order = order[live[order].long().argsort(stable=True)]
        alpha = mattes_of(len(boxes), boxes, flags)
        given = boxes[order], identity_theta(boxes), image[order], alpha, live[order].to(boxes)
        seen = share_seen(*given, shape[0], (shape[-2], shape[-1]), "bilinear", "zeros", False, True)
        found: Tensor = share.where(live, 1) * torch.empty_like(seen).index_put((order,), seen)
        return found


def _laid_over(
    canvas: Tensor, changed: list[Tensor], of: list[Tensor], patches: Tensor, image: Tensor, rank: Tensor
) -> Tensor:
    """Patches over a canvas, in the order of their rank.

    ``changed``: of each size values times opacity, and last the opacity, ``(n, C + 1, h, w)``; ``of (n,)``: whose.
    """
    if not changed:
        return canvas.clone()
    rows = torch.cat(of)
    flat = torch.cat([each.transpose(0, 1).flatten(1) for each in changed], dim=1).to(
        working_dtype(canvas)
    )  # (C + 1, P)
    areas = torch.cat([each.new_full((len(each),), each.shape[2:].numel(), dtype=torch.int64) for each in changed])
    order = rank[rows].argsort()
    start = (areas.cumsum(0) - areas)[order]
    areas = areas[order]
    # The flat pixels of each patch, in the order in which patches are painted.
    pixel = torch.arange(flat.shape[1], device=flat.device)
    pixel = pixel + (start - (areas.cumsum(0) - areas)).repeat_interleave(areas, output_size=flat.shape[1])
    flat, host = flat[:, pixel], patches[rows[order]].cpu().double().numpy()
    windows = Windows.of(image[rows[order]].cpu().numpy(), host[:, :2], host[:, 2:])
    painted: Tensor = kernels.composite(canvas, flat[:-1].contiguous(), flat[-1].contiguous(), windows)
    return painted.to(canvas.dtype)


def _stay(boxes: Tensor, noise: Tensor, classes: Tensor | None, align_corners: bool) -> Tensor:
    """The theta of objects whose patches stay where they are."""
    return identity_theta(boxes.to(torch.promote_types(boxes.dtype, torch.float32)))


def _check_flags(options: Params) -> None:
    check_choice(options, "matte", (None, *OUTLINES))
    check_choice(options, "order", ("rows", "area"))
    for name in ("feather", "min_visible"):
        check_unit(name, options.get(name, 0.0), "a share")
