"""Copies of objects, laid over the images of a batch: which, how warped, where, and what their labels are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from kornia.constants import DataKey, Resample
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.boxes import BoxesLike
from kornia_patchaug.checks import check_index, check_option, check_unit, describe
from kornia_patchaug.copies import Appending, Copies, outlined
from kornia_patchaug.copying import FROM, From, Wishes
from kornia_patchaug.donors import Bank, Donors
from kornia_patchaug.draw import Draw, Params, checked_values
from kornia_patchaug.frames import cut_off, identity_theta
from kornia_patchaug.functional import MODES, crop_patches, transplant_patches
from kornia_patchaug.generators import AffineGenerator, RangeLike
from kornia_patchaug.hooks import (
    MATTES,
    ROUNDING,
    SOFT,
    FollowsAll,
    Matte,
    as_word,
    check_choice,
    check_masks,
    mattes_of,
    modes_of,
    outline_of,
)
from kornia_patchaug.instances import Geometry, Reading, pixels_of, pixels_of_masks, topmost
from kornia_patchaug.kornia_names import corners_and_validity, gate_of, with_corners, with_points
from kornia_patchaug.labels import half_open
from kornia_patchaug.objects import as_flat
from kornia_patchaug.places import PlaceLike
from kornia_patchaug.visibility import share_seen


class RandomPatchPaste(FollowsAll):
    """Paste copies of objects into images, each with its own random rotation, scale, shear and flip.

    As in Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (2021), but
    each with a transform of its own, from boxes alone too, at places that are drawn, or that a density or a function
    says. Each is painted once, at native resolution, over what is there, large ones first. Its labels are appended to
    those of its image.

    Args:
        count: (low, high), how many copies an image gets, or one number.
        donors: which objects are copied: those of the ``batch``, of the ``others`` of its images, or of the ``same``
            image; or a bank ``(images, targets)``: a list of images ``(C, H, W)`` of any size, uint8 or floating, and a
            dict for each with ``boxes (n, 4)`` in pixels, and where needed ``labels (n,)``, ``masks (n, H, W)`` and
            ``keypoints (n, K, 2)``. A bank keeps the pixels of its objects, and moves with the module.
        degrees: as in `RandomPatchAffine`, and so are ``scale`` and ``shear``, rows per class included.
        scale: (low, high).
        shear: degrees.
        flip: the probability that a copy is mirrored, left to right.
        classes: copy objects of these classes only.
        class_weights: the weight of each class, ``{class: weight}``, 1 for those that are left out: of the classes
            that can be copied one is drawn by weight, then one of its objects. Without, all objects are equally likely.
        sizes: (low, high), copy objects only whose size, the square root of the area of their box, is in this range, in
            pixels.
        place: where copies go. ``uniform``: anywhere in the image; a density ``(H, W)``: centres are drawn from it; or
            a function ``(noise (B, k, T, 2), sizes (B, k, 2), size (2,), images) -> centres (B, k, T, 2)``: T places to
            try for each copy, (x, y) in pixels, of noise in [0, 1), the width and height of each, and the images'
            ``(H, W)``. But for a function's they are whole pixels from the donor: what is neither turned nor scaled
            keeps its sharpness.
        max_cover: the largest share of the box of any object, a copy too, that copies may cover together. A copy that
            finds no such place is left out, and so is one that is larger than the image.
        tries: T, how many places are tried for each copy.
        matte: what of a donor is painted: ``mask``: its instance mask if the call has masks, else as ``box``; ``box``
            or ``ellipse``: with soft edges, as `soft_mattes` makes them; None: all of its box.
        feather: how wide soft edges are, as a share of the half size.
        min_visible: labels of objects of which a smaller share is seen are removed, as in `PatchAffine`.
            ``_params["visible"] (1, N + K)`` holds the shares, those of the K copies last.
        p: the probability that an image gets copies, in [0, 1].
        p_batch: the probability that the batch does.
        resample: ``bilinear`` or ``nearest``, as Kornia may spell it.
        align_corners: the box frame of theta.
        same_on_batch: one draw for all images.
        keepdim: give the output the input's rank.
        generator: draw from it and not from the global one, as in `RandomPatchAffine`.

    Raises:
        TypeError, ValueError: an option or a bank that is none, when it is made; wrong boxes, classes or images, a
            bank without what the call has labels of, or a video whose frames share a draw, when it is called.

    Examples:
        >>> paste = kp.RandomPatchPaste(2, degrees=180.0, p=1.0)
        >>> seq = kp.PatchAugmentationSequential(paste, data_keys=["input", "bbox_xyxy"])
        >>> images, boxes = seq(torch.rand(1, 3, 64, 96), [torch.tensor([[4.0, 4.0, 13.0, 11.0]])])
        >>> [len(rows) for rows in boxes]
        [3]
    """

    ranges: AffineGenerator

    def __init__(
        self,
        count: int | tuple[int, int],
        *,
        donors: From | tuple[Any, Any] = "batch",
        degrees: RangeLike = 0.0,
        scale: RangeLike | None = None,
        shear: RangeLike | None = None,
        flip: float = 0.0,
        classes: Sequence[int] | None = None,
        class_weights: Mapping[int, float] | None = None,
        sizes: tuple[float, float] = (0.0, math.inf),
        place: PlaceLike = "uniform",
        max_cover: float = 0.2,
        tries: int = 10,
        matte: Matte | None = "mask",
        feather: float = 0.2,
        min_visible: float = 0.0,
        p: float = 0.5,
        p_batch: float = 1.0,
        resample: str | int | Resample = Resample.BILINEAR,
        align_corners: bool = False,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        mode = as_word(Resample, resample)
        check_option("resample", mode, MODES)
        check_option("align_corners", align_corners, (False, True))
        flags = {
            "resample": Resample.get(mode),  # type: ignore[arg-type]  # checked above
            "padding_mode": "zeros",
            "align_corners": align_corners,
            "matte": matte,
            "feather": feather,
            "min_visible": min_visible,
        }
        _check_flags(flags)
        super().__init__(
            flags, p=p, p_batch=p_batch, p_patch=1.0, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator
        )
        if isinstance(donors, str):
            check_option("donors", donors, FROM)
        self.ranges = AffineGenerator(degrees, None, scale, shear)
        self.wishes = Wishes.of(
            count=count,
            donors=donors if isinstance(donors, str) else "bank",
            flip=flip,
            classes=classes,
            class_weights=class_weights,
            sizes=sizes,
            place=place,
            max_cover=max_cover,
            tries=tries,
            ranges=self.ranges,
        )
        self.bank = None if isinstance(donors, str) else _as_bank(donors)
        if self.bank is not None and self._asks_for_classes and self.bank.labels is None:
            raise ValueError("donors: expected labels in the targets of the bank, which classes and weights are of.")

    def forward(  # type: ignore[override]  # what Kornia has second, params, it passes by name
        self,
        input: Tensor,
        boxes: BoxesLike | Params | None = None,
        obj_to_img: Tensor | None = None,
        *,
        classes: Tensor | None = None,
        masks: Tensor | None = None,
        params: Params | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Paste copies into a batch. Labels of copies come from a container only.

        Args:
            input: ``(B, C, H, W)``, ``(C, H, W)`` or ``(H, W)``, floating.
            boxes: ``(N, 4)`` or per image, the objects that are there, as `affine_patches` takes them; or from
                ``params``, or `bind`. A dict in this place is ``params``, as in Kornia.
            obj_to_img: ``(N,)`` integer; comes from where the boxes come from.
            classes: ``(N,)`` integer, in the order of the flat boxes.
            masks: ``(N, H, W)``, what of each object is copied with ``matte="mask"``.
            params: a draw to replay, as in ``_params``.
            **kwargs: options to change for this call: ``resample``, ``matte``, ``feather`` and ``min_visible``.

        Raises:
            TypeError, ValueError: an integer image, an unknown option, no boxes; or as `affine_patches`.
        """
        if isinstance(boxes, dict):
            boxes, params = None, boxes
        given = Draw.of(boxes=boxes, obj_to_img=obj_to_img, classes=classes, masks=masks)
        return self._run(input, given, params, kwargs)

    if TYPE_CHECKING:
        __call__ = forward  # torch's takes and returns anything

    def _check_call(self, input: Tensor, options: Params) -> None:
        super()._check_call(input, options)
        _check_flags(options)

    def _shown(self) -> Params:
        wishes = {name: value for name, value in vars(self.wishes).items() if name != "ranges"}
        if isinstance(self.wishes.place, Tensor):
            wishes["place"] = "a density"
        shown = wishes | super()._shown()
        return {name: value for name, value in shown.items() if name not in ("p_patch", "padding_mode")}

    @property
    def _asks_for_classes(self) -> bool:
        return self.wishes.asks_for_classes()

    # --- the draw -----------------------------------------------------------------------------------------------------

    def params_from_input(
        self, *inputs: Any, data_keys: list[DataKey], params: Params, extra_args: Params | None = None
    ) -> Params:
        """As in the base class; donors are in more images than those of the batch if a container says so."""
        extra: dict[Any, Any] = extra_args or {}
        if "pool" in extra and "boxes" not in params:
            params["pool"] = extra["pool"]
        return super().params_from_input(*inputs, data_keys=data_keys, params=params, extra_args=extra_args)

    @torch.no_grad()
    def _complete(
        self, draw: Draw, device: torch.device, given: Params, images: Tensor | None, options: Params
    ) -> None:
        self._check_has_boxes(draw, given)
        if "donor" in draw and not given:
            _to_device(draw, device)
            return
        channels, pool = given.get("channels"), draw.pop("pool", None)
        source = given if "boxes" in given else draw if "boxes" in draw else self._bound
        count, (height, width) = len(draw["batch_prob"]), draw["forward_input_shape"].tolist()[-2:]
        boxes, index = as_flat(source["boxes"], {**source, **given}.get("obj_to_img"), count)
        boxes = boxes.detach().to(device, torch.promote_types(boxes.dtype, torch.float32), copy=True)
        index = checked_values(boxes, None, index.to(device), count)
        classes = {**self._bound, **draw, **given}.get("classes")
        if self._asks_for_classes and self.bank is None:
            if classes is None:
                raise ValueError(
                    "classes: which objects are copied depends on their class, so the class of each is needed. Pass "
                    "classes=, bind(classes=...), or give a class data key to PatchAugmentationSequential."
                )
            check_index("classes", classes, len(boxes))
            classes = classes.to(device)
        columns = {"column": given["column"][None]} if "column" in given else {}
        draw.update(columns, boxes=boxes[None], obj_to_img=index[None], image=torch.arange(count, device=device))
        masks, which = given.get("masks"), torch.arange(len(boxes), device=device)
        if masks is not None:
            check_masks(masks, len(boxes), (height, width))
        if channels is not None:
            masks, which = channels.flatten(0, 1), index * channels.shape[1] + draw.columns()
        inside = cut_off(boxes, height, width)
        donors, number = Donors(inside, index, index, classes, masks, which), torch.arange(count, device=device)
        if self.bank is not None:
            donors = self.bank.donors()
        elif pool is not None:
            donors, number = pool.donors, pool.images
        align = options.get("align_corners")
        found = self.wishes.drawn(
            draw["seed"],
            gate_of(self, draw).to(device),
            boxes,
            index,
            donors,
            number,
            images,
            (height, width),
            outline=outline_of({**self.flags, **options}),
            align_corners=self.flags["align_corners"] if align is None else align,
            same_on_batch=self.same_on_batch,
        )
        rows = found.pop("rows")
        if donors.masks is not None:
            alpha = donors.masks_of(rows)
            draw["alpha"] = (alpha if alpha.dtype == torch.bool else alpha != 0)[None]  # one of a bank is one for all
            copied = _small(donors.masks, found["read"], cast("Tensor", donors.which)[rows])
            there = copied.new_ones(len(boxes), *copied.shape[1:])
            there = there if masks is None else _small(masks, boxes, which)
            draw["mattes"] = torch.cat([there, copied])[None]
        if donors.pictures is not None and self.bank is None:
            draw["source"] = donors.pictures
        draw.update({name: value[None] for name, value in found.items()}, donor=rows[None])

    def _note(self, draw: Draw, flags: Params) -> None:
        draw.pop("visible", None)
        draw.find_visible = partial(self._share_seen, flags=flags)

    def copies(self, params: Params, device: torch.device) -> Copies:
        """The copies of a draw in images that are changed."""
        gate = gate_of(self, params).to(device)
        names = "copies", "theta", "target", "slot", "donor", "read", "picture"
        found: list[Tensor | None] = [params[name][0] for name in names]
        found.append(params["alpha"][0] if "alpha" in params else None)
        live = gate[params["target"][0]]
        if not live.all():
            found = [None if part is None else part[live] for part in found]
        return Copies(*cast("list[Tensor]", found))

    # --- pixels -------------------------------------------------------------------------------------------------------

    def _pictures(self, params: Params) -> Tensor | None:
        """What copies are read from, if not from the images that they are laid over."""
        found: Tensor | None = self.bank.sheet if self.bank is not None else params.get("source")
        return found

    def _lay_over(self, canvas: Tensor, source: Tensor, copies: Copies, flags: Params, hard: bool = False) -> Tensor:
        """Copies read from a source, painted over a canvas."""
        return transplant_patches(
            canvas,
            copies.boxes,
            copies.target,
            source=source,
            source_boxes=copies.read,
            source_to_img=copies.picture,
            theta=copies.theta,
            alpha=_alpha(copies, flags, hard),
            mode="nearest" if hard else modes_of(flags)[0],
            align_corners=self._align_corners(flags),
        )

    def apply_transform(self, input: Tensor, params: Params, flags: Params, transform: Tensor | None = None) -> Tensor:
        source = self._pictures(params)
        if source is not None and source.shape[1] != input.shape[1]:
            raise ValueError(f"donors: expected pictures of {input.shape[1]} channels, got {source.shape[1]}.")
        source = input if source is None else source.to(input.dtype)
        return self._lay_over(input, source, self.copies(params, input.device), flags)

    def _paint_masks(self, masks: Tensor, params: Params, copies: Copies) -> Tensor:
        """Masks of classes: copies of the batch bring their own pixels; others are of no class that is known."""
        if not isinstance(masks, Tensor):
            raise ValueError(
                "mask: expected a tensor (B, C, H, W), as copies go from one image to another, got a list."
            )
        source = self._pictures(params)
        if source is None:
            return self._lay_over(masks, masks, copies, self.flags, hard=True)
        unlabelled = masks.new_zeros(1, 1, 1, 1).expand(len(source), masks.shape[1], *source.shape[2:])
        return self._lay_over(masks, unlabelled, copies, self.flags, hard=True)

    @torch.no_grad()
    def _share_seen(self, params: Params, flags: Params) -> Tensor:
        """How much is seen of each object that was there and of each copy, ``(N + K,)``."""
        there, copies = params["boxes"][0], self.copies(params, params["boxes"].device)
        boxes = torch.cat([there, copies.boxes])
        theta = torch.cat([identity_theta(there), copies.theta])
        index = torch.cat([params["obj_to_img"][0], copies.target])
        count, _, height, width = params["forward_input_shape"].tolist()
        alpha = params["mattes"][0].to(boxes) if "mattes" in params else None
        if flags["matte"] != "mask" or alpha is None:
            alpha = mattes_of(len(boxes), boxes, flags)
        hides = (torch.arange(len(boxes), device=boxes.device) >= len(there)).to(boxes)
        options = modes_of(flags)[0], "zeros", self._align_corners(flags), False
        return share_seen(boxes, theta, index, alpha, hides, count, (height, width), *options)

    # --- labels -------------------------------------------------------------------------------------------------------

    def follow_labels(
        self, inputs: list[Any], keys: list[DataKey], params: Draw, extra_args: dict[Any, Any]
    ) -> list[Any]:
        """As in the base class: boxes and classes get rows, instance masks channels, and objects their points."""
        boxes = next((value for value in inputs if isinstance(value, Boxes)), None)
        if boxes is None:
            raise ValueError(
                f"{type(self).__name__} needs a box data key, to which copies are appended, beside labels."
            )
        copies, donors = self.copies(params, boxes.device), self._donors(params, extra_args)
        size, align = _size_of(params), self.flags["align_corners"]
        own = Draw(params).obj_to_img, Draw(params).columns()
        donor = None if donors is not None else (own[0][copies.donor], own[1][copies.donor])
        append = Appending.of(boxes, copies, donor)
        there = len(own[0])
        seen = torch.ones(there + len(copies.slot), dtype=torch.bool, device=boxes.device)
        if self.flags["min_visible"] > 0:
            seen = params["visible"][0] >= self.flags["min_visible"] * (1 - ROUNDING)

        outputs, classes = list(inputs), iter(self._rows_of_classes(donors))
        for i, (key, value) in enumerate(zip(keys, inputs, strict=True)):
            extra = extra_args.get(key, {})
            if isinstance(value, Boxes):
                corners, valid = corners_and_validity(value)
                read = copies.read if donor is None else half_open(value, corners[donor]).to(copies.read)
                labels = outlined(read, copies, outline_of(self.flags), align, size)
                kept = with_corners(value, corners, valid.index_put(own, valid[own] & seen[:there]))
                outputs[i] = append.boxes(kept, labels, seen[there:])
            elif key == DataKey.CLASS:
                outputs[i] = append_classes(append, value, boxes, next(classes, None))
            elif key == DataKey.MASK and extra.get("instances"):
                outputs[i] = self._append_masks(append, value, copies, donors)
            elif key == DataKey.MASK:
                outputs[i] = self._paint_masks(value, params, copies)
            elif key == DataKey.KEYPOINTS and extra.get("instances"):
                by_object = value.data.unflatten(1, (-1, extra["instances"]))  # (B, M, K, 2)
                points = by_object[donor] + 0.5 if donor is not None else cast("Donors", donors).keypoints
                if points is None:
                    raise ValueError("donors: expected keypoints in the targets of the bank, as images have some.")
                points = points if donor is not None else points[copies.donor]
                moved = copies.carried(points.to(copies.theta), align) - 0.5
                outputs[i] = with_points(value, append.to(by_object, moved).flatten(1, 2))
        return outputs

    def _donors(self, params: Params, extra_args: Params) -> Donors | None:
        """Those of a bank or of more images than the batch's; None if they are in the batch."""
        if self.bank is not None:
            return self.bank.donors(extra_args.get("rows_of_bank", {}).get(self))
        return cast("Donors", extra_args["pool"].donors) if "source" in params else None

    def _rows_of_classes(self, donors: Donors | None) -> tuple[Tensor | None, ...]:
        if donors is None:
            return ()
        return donors.rows if donors.rows is not None else (donors.classes,)

    def _append_masks(self, append: Appending, masks: Tensor, copies: Copies, donors: Donors | None) -> Tensor:
        """Instance masks ``(B, M, H, W)`` without what copies cover, and those of the copies."""
        if donors is None:
            image, row = cast("tuple[Tensor, Tensor]", append.donor)
            pictures, which = masks.flatten(0, 1), image * masks.shape[1] + row
        elif donors.masks is None:
            raise ValueError("donors: expected masks in the targets of the bank, as images have instance masks.")
        else:
            pictures, which = donors.masks.to(masks.dtype), cast("Tensor", donors.which)[copies.donor]
        size = cast("tuple[int, int]", tuple(masks.shape[2:]))
        above = self._topmost(copies, len(masks), size, cast("tuple[int, int]", tuple(pictures.shape[1:])))
        geometry = Geometry("zeros", self.flags["align_corners"], clip=False)
        reading = Reading(pictures[:, None], copies.read, which)
        pixels = pixels_of_masks(copies.drawn(), reading, size, _alpha(copies, self.flags, hard=True), geometry)
        values, whole, obj, y, x = pixels
        seen = whole & (above[copies.target[obj], y, x] == obj + 1)
        new = masks.new_zeros(len(masks), append.most, *size)
        new = new.index_put((copies.target[obj], copies.slot[obj], y, x), values * seen)
        found, (image, row, column) = masks.clone(), above.nonzero().unbind(1)
        found[image, :, row, column] = 0
        return append.joined(found, new)

    def hidden_points(self, before: Tensor, points: Tensor, params: Draw) -> tuple[Tensor, Tensor]:
        """As in the base class; copies cover what was there and one another."""
        copies, size = self.copies(params, points.device), _size_of(params)
        source = self._pictures(params)
        read = size if source is None else cast("tuple[int, int]", tuple(source.shape[2:]))
        above = self._topmost(copies, len(points), size, read)
        rank = torch.zeros(points.shape[:2], dtype=torch.int64, device=points.device)
        first = points.shape[1] - (int(copies.slot.max()) + 1 if len(copies.slot) else 0)  # copies are behind the rest
        numbers = torch.arange(1, len(copies.slot) + 1, device=points.device)
        rank = rank.index_put((copies.target, first + copies.slot), numbers)
        hidden = pixels_of(points, above) > rank[..., None]
        return hidden, torch.ones_like(hidden)

    def _topmost(self, copies: Copies, count: int, size: tuple[int, int], read: tuple[int, int]) -> Tensor:
        """Which copy is painted last, ``(B, H, W)``; ``read``: the size of the pictures of donors."""
        geometry = Geometry("zeros", self.flags["align_corners"], clip=False)
        alpha, each = _alpha(copies, self.flags, hard=True), torch.arange(len(copies.slot), device=copies.slot.device)
        return topmost(copies.drawn(), each, count, size, alpha, geometry, (copies.read, read))

    def with_shares(self, seen: Tensor, params: Draw) -> Tensor:
        """As in the base class; copies are behind the rows that were there."""
        copies = self.copies(params, seen.device)
        first = seen.shape[1] - (int(copies.slot.max()) + 1 if len(copies.slot) else 0)
        own = params.obj_to_img, params.columns()
        at = torch.cat([own[0], copies.target]), torch.cat([own[1], first + copies.slot])
        return seen.index_put(at, seen[at] * params["visible"][0].to(seen))


def append_classes(append: Appending, labels: Any, boxes: Boxes, rows: Tensor | None) -> Any:
    """Labels one a row, padded ``(B, M, ...)`` or a list, with those of copies, of their donors' ``rows (D, ...)``."""
    if append.donor is None and rows is None:
        raise ValueError("donors: expected labels in the targets of the bank, as images have a class for each box.")
    count, most = corners_and_validity(boxes)[1].shape
    listed = not isinstance(labels, Tensor)
    padded = torch.nn.utils.rnn.pad_sequence(list(labels), batch_first=True) if listed else labels
    flat = not listed and count == 1 and padded.shape == (most,)
    padded = padded[None] if flat else padded
    if padded.shape[:2] != (count, most):
        raise ValueError(
            f"class: expected one label a box, {(count, most)} or a list of one tensor an image, as copies get one, "
            f"got {tuple(padded.shape)}."
        )
    new = append.from_batch(padded) if append.donor is not None else cast("Tensor", rows)[append.of_donors]
    found = append.to(padded, new)
    if listed:
        return [row[:n] for row, n in zip(found, append.counts(boxes), strict=True)]
    return found[0] if flat else found


def _size_of(params: Params) -> tuple[int, int]:
    """Height and width of a call's images."""
    return cast("tuple[int, int]", tuple(params["forward_input_shape"].tolist()[-2:]))


def _alpha(copies: Copies, flags: Params, hard: bool) -> Tensor | None:
    """What of copies is painted: masks, if they are asked for and there, or mattes."""
    if flags["matte"] == "mask" and copies.alpha is not None:
        return copies.alpha
    return mattes_of(len(copies.boxes), copies.boxes, flags, hard)


def _small(masks: Tensor, boxes: Tensor, which: Tensor) -> Tensor:
    """What of masks ``(S, h, w)``, ``which (N,)`` of them, is in boxes ``(N, 4)``: mattes ``(N, 1, s, s)``."""
    return crop_patches(masks[:, None].to(boxes), boxes, which, (SOFT, SOFT))


def _check_flags(options: Params) -> None:
    check_choice(options, "matte", MATTES)
    for name in ("feather", "min_visible"):
        check_unit(name, options.get(name, 0.0), "a share")


def _as_bank(donors: object) -> Bank:
    if not isinstance(donors, (tuple, list)) or len(donors) != 2:
        raise TypeError(
            f"donors: expected one of {', '.join(map(repr, FROM))}, or (images, targets), got {describe(donors)}."
        )
    return Bank(*donors)


def _to_device(draw: Draw, device: torch.device) -> None:
    """Move a draw, in place, to replay it."""
    for name, value in draw.items():
        if isinstance(value, Tensor) and value.ndim > 1:
            draw[name] = value.to(device)
