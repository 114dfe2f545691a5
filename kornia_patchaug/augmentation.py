"""The affine augmentations, theta given and theta drawn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from kornia.constants import Resample, SamplePadding
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor

from kornia_patchaug.boxes import BoxesLike, as_size
from kornia_patchaug.checks import check_option, check_unit, describe
from kornia_patchaug.draw import Draw, Drawn, Params, complete
from kornia_patchaug.frames import painted_pixels
from kornia_patchaug.functional import (
    CLEAR_PADDINGS,
    MODES,
    PADDINGS,
    STEP_PADDINGS,
    FillLike,
    Padding,
    affine_patches,
)
from kornia_patchaug.generators import AffineGenerator, RangeLike
from kornia_patchaug.hooks import (
    MATTES,
    ROUNDING,
    Matte,
    ObjectAugmentation,
    as_word,
    check_choice,
    check_generator,
    check_masks,
    mattes_of,
    modes_of,
    outline_of,
)
from kornia_patchaug.instances import Geometry, follow_masks, hides, pixels_of, ranks, taken_off, topmost
from kornia_patchaug.kornia_names import gate_of
from kornia_patchaug.labels import check_bound_boxes, follow_boxes, follow_keypoints, follow_own_points, stays
from kornia_patchaug.visibility import share_seen

Order = Literal["area", "rows"]
ORDERS = ("area", "rows")
GROW, MOST_GROW = 0.1, 0.5  # of holes, by which share of a box they are larger; the least is that of `affine_patches`


class PatchAugmentation(ObjectAugmentation):
    """Abstract: what is painted of objects that are warped each by a theta, and where their labels go."""

    def __init__(
        self,
        *,
        p: float = 1.0,
        p_batch: float = 1.0,
        p_patch: float = 1.0,
        resample: str | int | Resample = Resample.BILINEAR,
        padding_mode: Padding | int | SamplePadding = "zeros",
        align_corners: bool = False,
        sequential: bool = False,
        patch_size: tuple[int, int] | None = None,
        clip: bool = True,
        fill: FillLike | None = None,
        matte: Matte | None = None,
        feather: float = 0.2,
        order: Order = "area",
        min_visible: float = 0.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        mode, padding = as_word(Resample, resample), as_word(SamplePadding, padding_mode)
        check_option("resample", mode, MODES)
        check_option("clip", clip, (False, True))
        if patch_size is not None:
            check_option("clip (with patch_size)", clip, (True,))
        paddings = CLEAR_PADDINGS if not clip else PADDINGS if patch_size is None else STEP_PADDINGS
        check_option("padding_mode" if clip else "padding_mode (with clip=False)", padding, paddings)
        check_option("align_corners", align_corners, (False, True))
        check_option("sequential", sequential, (False, True))
        if fill is not None:
            check_option("sequential (with a fill)", sequential, (False,))
        flags = {
            "resample": Resample.get(mode),  # type: ignore[arg-type]  # checked above
            "padding_mode": padding,
            "align_corners": align_corners,
            "sequential": sequential,
            "patch_size": None if patch_size is None else as_size("patch_size", patch_size),
            "clip": clip,
            "fill": fill,
            "matte": matte,
            "feather": feather,
            "order": order,
            "min_visible": min_visible,
        }
        _check_layers(flags)
        super().__init__(
            flags,
            p=p,
            p_batch=p_batch,
            p_patch=p_patch,
            same_on_batch=same_on_batch,
            keepdim=keepdim,
        )

    def forward(  # type: ignore[override]  # what Kornia has second, params, it passes by name
        self,
        input: Tensor,
        boxes: BoxesLike | Params | None = None,
        theta: Tensor | None = None,
        obj_to_img: Tensor | None = None,
        *,
        classes: Tensor | None = None,
        masks: Tensor | None = None,
        params: Params | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Warp the objects of a batch.

        Args:
            input: ``(B, C, H, W)``, ``(C, H, W)`` or ``(H, W)``, floating.
            boxes: ``(N, 4)`` or per image, as `affine_patches` takes them. This and what follows, where left out,
                comes from ``params``, or else from `bind`, or (theta of a random augmentation) from a draw. A dict
                in this place is ``params``, as in Kornia.
            theta: ``(N, 6)`` or ``(N, 2, 3)``.
            obj_to_img: ``(N,)`` integer; comes from where the boxes come from.
            classes: ``(N,)`` integer, in the order of the flat boxes: the rows of ranges that have one per class.
            masks: ``(N, H, W)``, bool or opacity in [0, 1], what of each object moves with ``matte="mask"``.
            params: a draw to replay, as in ``_params``.
            **kwargs: options of the constructor to change for this call, from ``resample`` to ``min_visible``. With
                ``fill`` also clean backgrounds of the images, ``(B, C, H, W)``.

        Raises:
            TypeError, ValueError: an integer image, an unknown option, no boxes; or as `affine_patches`.
        """
        if isinstance(boxes, dict):
            boxes, params = None, boxes
        if isinstance(theta, Tensor) and theta.ndim == 1 and obj_to_img is None:
            raise TypeError(
                f"theta: expected a floating (N, 6) or (N, 2, 3) tensor, got {describe(theta)}. "
                "The image index of each object goes by name: obj_to_img=."
            )
        given = Draw.of(boxes=boxes, theta=theta, obj_to_img=obj_to_img, classes=classes, masks=masks)
        return self._run(input, given, params, kwargs)

    if TYPE_CHECKING:
        __call__ = forward  # torch's takes and returns anything

    def _check_call(self, input: Tensor, options: Params) -> None:
        super()._check_call(input, options)
        _check_layers(options)

    def _note(self, draw: Draw, flags: Params) -> None:
        draw.pop("visible", None)
        draw.find_visible = partial(self._share_seen, flags=flags)

    def _complete(
        self,
        draw: Draw,
        device: torch.device,
        given: Params,
        images: Tensor | None = None,
        options: Params | None = None,
    ) -> None:
        self._check_has_boxes(draw, given)
        align_corners = (options or {}).get("align_corners")
        completed = complete(
            draw,
            given,
            self._bound,
            device=device,
            ranges=self.ranges,
            align_corners=self.flags["align_corners"] if align_corners is None else align_corners,
            p_patch=self.p_patch,
            same_on_batch=self.same_on_batch,
        )
        draw.update(completed)
        if "boxes" in given:
            draw.pop("alpha", None)  # of other boxes
        masks, channels = {**self._bound, **given}.get("masks"), given.get("channels")
        if masks is not None:
            check_masks(masks, len(draw.obj_to_img), tuple(draw["forward_input_shape"].tolist()[-2:]))
        elif channels is not None:
            masks = channels[draw.obj_to_img, draw.columns()]
        if masks is not None:
            draw["alpha"] = (masks.clamp(0, 1) if masks.is_floating_point() else masks != 0).to(device)[None]

    def _objects(self, params: Params, device: torch.device, stay: bool = False) -> Drawn:
        """The objects of a call; ``stay``: also those that are gated off are painted."""
        draw = Draw(params)
        if not draw.is_complete:  # of a hook that is called by hand
            self._complete(draw, device, {})
        return draw.objects(gate_of(self, params), stay)

    @torch.no_grad()
    def _share_seen(self, params: Params, flags: Params, by_moved: bool = False) -> Tensor:
        """How much of each object is seen, ``(N,)``, in the order in which they came.

        ``by_moved``: only those that moved hide others.
        """
        there, theta, obj_to_img, active = self._objects(params, params["boxes"].device, stay=True)
        count, _, height, width = params["forward_input_shape"].tolist()
        # What is not painted covers nothing, and lies below all that is; so does all of an image that is not changed.
        hides = active if flags["fill"] is None else (there != 0).any(1)
        drawn = Drawn(params["boxes"][0], theta, obj_to_img, hides)
        rows = drawn.order(flags["order"])
        rows = rows[hides[rows].long().argsort(stable=True)]
        hides = hides & ~stays(theta) if by_moved else hides
        drawn = drawn._replace(active=hides)
        boxes, theta, obj_to_img, hides = (part[rows] for part in drawn)
        alpha = self._alpha(params, flags, len(rows), boxes)
        alpha = None if alpha is None else alpha[rows]
        options = *modes_of(flags), self._align_corners(flags), flags["clip"]
        share = share_seen(boxes, theta, obj_to_img, alpha, hides.to(boxes.dtype), count, (height, width), *options)
        return torch.empty_like(share).index_put((rows,), share)

    def _paint(self, input: Tensor, params: Params, flags: Params, labels: bool) -> Tensor:
        """Images or labels of pixels with their objects painted."""
        fill, align_corners = flags["fill"], self._align_corners(flags)
        objects = self._objects(params, input.device, stay=fill is not None)
        alpha, order = (
            self._alpha(params, flags, len(objects.boxes), objects.boxes, hard=labels),
            objects.order(flags["order"]),
        )
        boxes, theta, obj_to_img, _ = objects.in_order(flags["order"])
        mode, padding_mode = modes_of(flags)
        return affine_patches(
            input,
            boxes,
            theta,
            obj_to_img,
            alpha=alpha if alpha is None or flags["order"] == "rows" else alpha[order],
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            sequential=flags["sequential"],
            patch_size=flags["patch_size"],
            clip=flags["clip"],
            fill=0.0 if labels and fill is not None else fill,
            grow=0.0 if labels else _grow(flags["feather"]),  # part of a pixel taken off would make a class of its own
        )

    def apply_transform(self, input: Tensor, params: Params, flags: Params, transform: Tensor | None = None) -> Tensor:
        return self._paint(input, params, flags, labels=False)

    def apply_transform_mask(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        # In turn, what an object reads was moved before: its mask is whatever the pixels of its mask became.
        if not flags.get("instances") or flags["sequential"]:
            return self._paint(input, params, flags, labels=True)
        objects = self._objects(params, input.device, stay=flags["fill"] is not None)
        alpha = self._alpha(params, flags, len(objects.boxes), objects.boxes, hard=True)
        order, size = objects.order(flags["order"]), (input.shape[2], input.shape[3])
        taken = self._taken(objects, order, len(input), size, alpha, flags)
        return follow_masks(input, objects, Draw(params).columns(), order, alpha, self._geometry(flags), taken)

    def _alpha(self, params: Params, flags: Params, count: int, like: Tensor, hard: bool = False) -> Tensor | None:
        """What of each object is opaque, in the order in which they came: masks, if they are there, or mattes."""
        if flags["matte"] == "mask" and "alpha" in params:
            masks: Tensor = params["alpha"][0].to(like.device)
            return masks > 0.5 if hard and masks.is_floating_point() else masks
        return mattes_of(count, like, flags, hard)

    def _geometry(self, flags: Params) -> Geometry:
        return Geometry(modes_of(flags)[1], self._align_corners(flags), flags["clip"])

    def _taken(
        self, objects: Drawn, order: Tensor, count: int, size: tuple[int, int], alpha: Tensor | None, flags: Params
    ) -> Tensor | None:
        """What is taken off of images before the objects below are read, if they are filled."""
        return None if flags["fill"] is None else taken_off(objects, order, count, size, alpha, _grow(flags["feather"]))

    def with_shares(self, seen: Tensor, params: Draw) -> Tensor:
        """As in the base class; what stays is as it was, but for what moves over it."""
        still = stays(self._objects(params, seen.device).theta)
        if still.all():
            return seen
        own, share = (params.obj_to_img, params.columns()), params["visible"][0].to(seen)
        if still.any():
            share = self._share_seen(params, self.flags, by_moved=True).to(seen).where(still, share)
        return seen.index_put(own, seen[own] * share)

    def hidden_points(self, before: Tensor, points: Tensor, params: Draw) -> tuple[Tensor, Tensor]:
        flags, (height, width) = self.flags, params["forward_input_shape"].tolist()[-2:]
        objects = self._objects(params, points.device, stay=flags["fill"] is not None)
        order, own = objects.order(flags["order"]), (objects.obj_to_img, params.columns())
        given = objects, order, len(points), (height, width), self._alpha(params, flags, len(order), points, hard=True)
        still, rank, theta = stays(objects.theta)[:, None], ranks(objects, order)[:, None], objects.theta[order]
        hidden = hides(pixels_of(points, topmost(*given, self._geometry(flags)))[own], theta, rank, still)
        taken = self._taken(*given, flags)
        if taken is not None:
            hidden |= hides(pixels_of(before, taken)[own], theta, rank, still)
        first, stop = _painted(objects, params, flags).to(points)[:, None].split(2, dim=-1)
        held = ((points[own] >= first) & (points[own] < stop)).all(-1) | still
        nothing = torch.zeros(points.shape[:-1], dtype=torch.bool, device=points.device)
        return nothing.index_put(own, hidden), (~nothing).index_put(own, held)

    def apply_transform_box(self, input: Boxes, params: Params, flags: Params, transform: Any = None) -> Boxes:
        objects = self._objects(params, input.device)
        if self._unseen is not None and self._unseen is self._params:
            self._unseen = None  # a second box key has boxes of its own
            check_bound_boxes(input, params["boxes"][0], params["obj_to_img"][0])
        least = flags["min_visible"] * (1 - ROUNDING)
        seen = None if least == 0 else self._share_seen(params, flags) >= least
        outline, painted = outline_of(flags), _painted(objects, params, flags)
        return follow_boxes(input, objects, painted, seen, outline, self._align_corners(flags))

    def apply_transform_keypoint(
        self, input: Keypoints, params: Params, flags: Params, transform: Any = None
    ) -> Keypoints:
        if flags.get("instances"):  # as many points an object
            objects = self._objects(params, input.device)
            own = Draw(params).columns(), flags["instances"]
            return follow_own_points(input, objects, *own, self._align_corners(flags))
        objects = self._objects(params, input.device, stay=flags["fill"] is not None)
        order, painted = objects.order(flags["order"]), _painted(objects, params, flags)
        options = len(params["batch_prob"]), flags["sequential"], self._align_corners(flags)
        return follow_keypoints(input, objects, order, painted, *options)


class PatchAffine(PatchAugmentation):
    """Warp each object by the theta given for it.

    Args:
        p: the probability that an image is changed, in [0, 1].
        p_batch: the probability that the batch is.
        p_patch: the probability that an object is.
        resample: ``bilinear`` or ``nearest``, as Kornia may spell it; masks are painted with ``nearest`` unless the
            container says otherwise.
        padding_mode: what lies beyond the patch, as in `affine_patches`, or as Kornia may spell it.
        align_corners: whether -1 and 1 in the box frame are the edges of the box or its outermost pixel centres.
        sequential: crop each object from the canvas as those before it left it, rather than from the input.
        patch_size: ``(h, w)`` in pixels runs crop, warp and paste one after another, as in `affine_patches`.
        clip: paint each object within its box only, and not wherever it lands, as in `affine_patches`.
        fill: what an object leaves behind: a number, a colour, ``surroundings``, or None, as in `affine_patches`. With
            one, objects that are gated off lie still among the others. Pixels of mask labels become 0. With a matte a
            hole is larger than its box by ``feather / (1 - feather)``, 0.1 at least and 0.5 at most.
        matte: give each object soft edges, of a ``box`` or of the ``ellipse`` in it, as `soft_mattes` makes them.
            Labels of ellipses are the enclosing boxes of moved ellipses; mask labels have hard edges. ``mask``: what
            moves is the object's own mask, of the call, or an instance mask of our containers; without any, as ``box``.
        feather: how wide the edges of mattes are, as a share of the half size.
        order: ``area`` paints large objects first, so that small ones lie above them; ``rows`` as they came.
        min_visible: the label of an object of which a smaller share is seen, as `visible_share` tells it, is removed.
            ``_params["visible"] (1, N)`` holds the shares.
        same_on_batch: draw the gates once for all.
        keepdim: give the output the input's rank.

    Raises:
        TypeError, ValueError: an unknown option, when it is made; wrong boxes, theta or images, when it is called.

    Examples:
        >>> half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0]])
        >>> kp.PatchAffine()(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[0, 0, 2, 1]]), half_turn)
        tensor([[[[2., 1., 3.]]]])
    """


class RandomPatchAffine(PatchAugmentation):
    """Warp each object by its own random affine transform.

    ``degrees``, ``translate``, ``scale`` and ``shear`` mean what they mean in ``kornia.augmentation.RandomAffine``,
    with the box in the place of the image.

    Args:
        degrees: ``d`` for (-d, d), or (low, high); positive turns clockwise as displayed. This and the ranges below may
            have a row per class, ``(K, 1)`` or ``(K, 2)`` here; the call's ``classes (N,)`` picks a row per object.
        translate: (x, y), the largest shift as a share of the box's width and height; above 1 with ``clip=False``.
        scale: (low, high) for both axes, or (low_x, high_x, low_y, high_y); 0.001 and above.
        shear: degrees; ``s`` for (-s, s) along x, (low, high) along x, or (low_x, high_x, low_y, high_y) in one row.
        p: the probability that an image is changed, in [0, 1].
        p_batch: the probability that the batch is.
        p_patch: the probability that an object is.
        resample: as in `PatchAffine`, and so are the next ten and ``keepdim``.
        padding_mode: what lies beyond the patch.
        align_corners: the box frame of theta.
        sequential: crop each object from the canvas as those before it left it.
        patch_size: ``(h, w)`` in pixels runs crop, warp and paste one after another.
        clip: paint each object within its box only, and not wherever it lands.
        fill: what an object leaves behind.
        matte: give each object soft edges.
        feather: how wide these are.
        order: ``area`` paints large objects first, ``rows`` as they came.
        min_visible: the share of an object that must be seen for its label to stay.
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

    ranges: AffineGenerator

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
        padding_mode: Padding | int | SamplePadding = "zeros",
        align_corners: bool = False,
        sequential: bool = False,
        patch_size: tuple[int, int] | None = None,
        clip: bool = True,
        fill: FillLike | None = None,
        matte: Matte | None = None,
        feather: float = 0.2,
        order: Order = "area",
        min_visible: float = 0.0,
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
            clip=clip,
            fill=fill,
            matte=matte,
            feather=feather,
            order=order,
            min_visible=min_visible,
            same_on_batch=same_on_batch,
            keepdim=keepdim,
        )
        check_generator(generator)
        self.generator = generator
        self.ranges = AffineGenerator(degrees, translate, scale, shear, learnable=learnable, clip=clip)


def _check_layers(options: Params) -> None:
    """Raise for an option of the constructor or of a call, of those that make objects layers, that is none."""
    for name, allowed in (("matte", MATTES), ("order", ORDERS)):
        check_choice(options, name, allowed)
    for name in ("feather", "min_visible"):
        check_unit(name, options.get(name, 0.0), "a share")
    if isinstance(options.get("fill"), str):
        check_option("fill", options["fill"], (None, "surroundings"))


def _painted(objects: Drawn, params: Params, flags: Params) -> Tensor:
    """``(N, 4)``: the first and one past the last pixel that may be painted of each object."""
    height, width = params["forward_input_shape"].tolist()[-2:]
    if flags["clip"]:
        return painted_pixels(objects.boxes, height, width)
    return objects.boxes.new_tensor([[0, 0, width, height]]).expand(len(objects.boxes), 4)


def _grow(feather: float) -> float:
    """By how much holes are larger, so that a matte is 1 at the edges of the box: a rim of the object would stay."""
    return min(max(GROW, feather / (1 - feather) if feather < 1 else MOST_GROW), MOST_GROW)
