"""The two augmentations, theta given and theta drawn, and the hooks by which Kornia calls them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from kornia.augmentation import RigidAffineAugmentationBase2D
from kornia.constants import DataKey, Resample, SamplePadding
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor

from kornia_patchaug.bound import Bindable
from kornia_patchaug.boxes import BoxesLike, as_size
from kornia_patchaug.checks import check_images, check_option, describe
from kornia_patchaug.draw import Draw, Drawn, Params, begin, complete
from kornia_patchaug.frames import painted_pixels
from kornia_patchaug.functional import (
    CLEAR_PADDINGS,
    MODES,
    PADDINGS,
    STEP_PADDINGS,
    FillLike,
    Mode,
    Padding,
    affine_patches,
)
from kornia_patchaug.generators import AffineGenerator, RangeLike
from kornia_patchaug.kornia_names import CALL_STATE, asked_by_patch_sequential, gate_of
from kornia_patchaug.labels import check_bound_boxes, follow_boxes, follow_keypoints, labels_of, objects_of
from kornia_patchaug.mattes import soft_mattes
from kornia_patchaug.noise import draw_seed, number_of
from kornia_patchaug.theta import OUTLINES, Outline
from kornia_patchaug.visibility import share_seen

Order = Literal["area", "rows"]
ORDERS = ("area", "rows")
SOFT, HARD = 32, 128  # pixels of a matte that is interpolated, and of one that is not
GROW, MOST_GROW = 0.1, 0.5  # of holes, by which share of a box they are larger; the least is that of `affine_patches`
ROUNDING = 1e-5  # of the share that is seen of an object: all of one may sum up to a little less than 1

NO_OBJECTS = (
    "{name} has no boxes to work on. Give them in one of three ways: a bbox, bbox_xyxy or bbox_xywh data key in "
    "kornia_patchaug.PatchAugmentationSequential; {name}.bind(boxes=..., obj_to_img=...) before the call; or "
    "boxes= in a direct call, or in params."
)
NO_PATCH_SEQUENTIAL = (
    "{name} does not work in a PatchSequential, which cuts images into pieces and numbers these as images, so that "
    "boxes and obj_to_img mean another thing there. Put it before or after the PatchSequential."
)


class PatchAugmentation(Bindable, RigidAffineAugmentationBase2D):
    """Abstract: the hooks by which Kornia warps the objects of a batch of images, and their labels.

    The image's frame does not move, so the transformation matrix is the identity, and each label follows its object.
    ``_params`` holds the `Draw` of the last call, which replays it.
    """

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
        matte: Outline | None = None,
        feather: float = 0.2,
        order: Order = "area",
        min_visible: float = 0.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, p_batch=p_batch, same_on_batch=same_on_batch, keepdim=keepdim)
        for name, value in {"p": p, "p_batch": p_batch, "p_patch": p_patch}.items():
            _check_unit(name, value, "a probability")
        mode, padding = _word(Resample, resample), _word(SamplePadding, padding_mode)
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
        self.p_patch = p_patch
        self.flags = {
            "resample": Resample.get(cast("str", mode)),
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
        _check_layers(self.flags)
        self.generator: torch.Generator | None = None  # of the gates and draws; the global one if None
        self.ranges: AffineGenerator | None = None  # that theta is drawn from
        self._number = number_of(self)

    def forward(  # type: ignore[override]  # what Kornia has second, params, it passes by name
        self,
        input: Tensor,
        boxes: BoxesLike | Params | None = None,
        theta: Tensor | None = None,
        obj_to_img: Tensor | None = None,
        *,
        classes: Tensor | None = None,
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
            params: a draw to replay, as in ``_params``.
            **kwargs: options of the constructor to change for this call, from ``resample`` to ``min_visible``. With
                ``fill`` also clean backgrounds of the images, ``(B, C, H, W)``.

        Raises:
            TypeError, ValueError: an integer image, an unknown option, no boxes; or as `affine_patches`.
        """
        if isinstance(boxes, dict):
            boxes, params = None, boxes
        _check_call(self, input, theta, obj_to_img, kwargs)
        images = self.transform_tensor(input)
        given = Draw.of(boxes=boxes, theta=theta, obj_to_img=obj_to_img, classes=classes)
        count, source = len(images), self._source
        draw = self.forward_parameters(images.shape) if params is None else _own_draw(params, given, count, source)
        bound = "boxes" not in given and "boxes" not in draw and "boxes" in self._bound
        if bound and not torch.compiler.is_compiling():  # a graph is for every shape
            self._use_bound(images, draw)
        if given or not draw.is_complete or draw["boxes"].device != images.device:
            self._complete(draw, images.device, given, kwargs.get("align_corners"))
        if torch.compiler.is_compiling():  # a graph has no use for what may be asked for later
            return super().forward(input, params=draw, **kwargs)
        draw.setdefault("forward_input_shape", torch.tensor(images.shape))
        draw.pop("visible", None)
        draw.find_visible = partial(self._share_seen, flags={**self.flags, **kwargs})
        output = super().forward(input, params=draw, **kwargs)
        self._params = draw  # and not Kornia's copy, if options came with the call
        return output

    if TYPE_CHECKING:
        __call__ = forward  # torch's takes and returns anything

    def params_from_input(
        self, *inputs: Any, data_keys: list[DataKey], params: Params, extra_args: Params | None = None
    ) -> Params:
        """The draw of a container's step with its objects, the rows of the first box key.

        Their classes are the class key's, where ranges have a row per class and none are bound.
        """
        boxes, count = [value for value in inputs if isinstance(value, Boxes)], len(params["batch_prob"])
        if not boxes or "boxes" in params:
            return params
        given: Params = objects_of(boxes[0], count)
        per_class = self.ranges is not None and self.ranges.count_of_classes is not None
        if per_class and DataKey.CLASS in data_keys and "classes" not in self._bound:
            given["classes"] = labels_of(boxes[0], inputs[data_keys.index(DataKey.CLASS)])
        draw = _own_draw(params, {}, count, self._source)
        self._complete(draw, boxes[0].device, given)
        return draw

    def forward_parameters(self, batch_shape: tuple[int, ...]) -> Draw:
        """The draw of gates for ``batch_shape``, and a seed for what is drawn once the objects are known."""
        if asked_by_patch_sequential():
            raise ValueError(NO_PATCH_SEQUENTIAL.format(name=type(self).__name__))
        shared = self.same_on_batch
        return begin(batch_shape, p=self.p, p_batch=self.p_batch, same_on_batch=shared, source=self._source)

    def _complete(self, draw: Draw, device: torch.device, given: Params, align_corners: bool | None = None) -> None:
        """Write the objects into a draw, in place: a container keeps this very dict for labels and for replay."""
        if "boxes" not in given and "boxes" not in draw and "boxes" not in self._bound:
            raise ValueError(NO_OBJECTS.format(name=type(self).__name__))
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

    def _objects(self, params: Params, device: torch.device, stay: bool = False) -> Drawn:
        """The objects of a call; ``stay``: also those that are gated off are painted."""
        draw = Draw(params)
        if not draw.is_complete:  # of a hook that is called by hand
            self._complete(draw, device, {})
        return draw.objects(gate_of(self, params), stay)

    @torch.no_grad()
    def _share_seen(self, params: Params, flags: Params) -> Tensor:
        """How much of each object is seen, ``(N,)``, in the order in which they came."""
        there, theta, obj_to_img, active = self._objects(params, params["boxes"].device, stay=True)
        count, _, height, width = params["forward_input_shape"].tolist()
        # What is not painted covers nothing, and lies below all that is; so does all of an image that is not changed.
        hides = active if flags["fill"] is None else (there != 0).any(1)
        drawn = Drawn(params["boxes"][0], theta, obj_to_img, hides)
        rows = drawn.order(flags["order"])
        rows = rows[hides[rows].long().argsort(stable=True)]
        boxes, theta, obj_to_img, hides = (part[rows] for part in drawn)
        alpha = self._alpha(len(rows), boxes, flags)
        options = *_options(flags), self._align_corners(flags), flags["clip"]
        share = share_seen(boxes, theta, obj_to_img, alpha, hides.to(boxes.dtype), count, (height, width), *options)
        return torch.empty_like(share).index_put((rows,), share)

    def _alpha(self, count: int, like: Tensor, flags: Params, hard: bool = False) -> Tensor | None:
        """The mattes of objects; hard ones leave labels what they are."""
        if flags["matte"] is None:
            return None
        size, feather = (HARD, 0.0) if hard else (SOFT, flags["feather"])
        # One for all: a graph would be one of as many objects.
        return soft_mattes(1, size, shape=flags["matte"], feather=feather, device=like.device).expand(count, -1, -1, -1)

    def _paint(self, input: Tensor, params: Params, flags: Params, labels: bool) -> Tensor:
        """Images or labels of pixels with their objects painted."""
        fill, align_corners = flags["fill"], self._align_corners(flags)
        objects = self._objects(params, input.device, stay=fill is not None).in_order(flags["order"])
        boxes, theta, obj_to_img, _ = objects
        mode, padding_mode = _options(flags)
        return affine_patches(
            input,
            boxes,
            theta,
            obj_to_img,
            alpha=self._alpha(len(boxes), boxes, flags, hard=labels),
            mode=mode,
            padding_mode=padding_mode,
            align_corners=align_corners,
            sequential=flags["sequential"],
            patch_size=flags["patch_size"],
            clip=flags["clip"],
            fill=0.0 if labels and fill is not None else fill,
            grow=0.0 if labels else _grow(flags["feather"]),  # part of a pixel taken off would make a class of its own
        )

    def compute_transformation(self, input: Tensor, params: Params, flags: Params) -> Tensor:
        return self.identity_matrix(input)

    def apply_transform(self, input: Tensor, params: Params, flags: Params, transform: Tensor | None = None) -> Tensor:
        return self._paint(input, params, flags, labels=False)

    def transform_masks(
        self, input: Tensor, params: Params, flags: Params, transform: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        kwargs.setdefault("resample", Resample.NEAREST)
        return super().transform_masks(input, params, flags, transform=transform, **kwargs)

    def apply_transform_mask(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        return self._paint(input, params, flags, labels=True)

    def apply_non_transform_mask(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        return input

    def apply_transform_class(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        return input

    def apply_transform_box(self, input: Boxes, params: Params, flags: Params, transform: Any = None) -> Boxes:
        objects = self._objects(params, input.device)
        if self._unseen is not None and self._unseen is self._params:
            self._unseen = None  # a second box key has boxes of its own
            check_bound_boxes(input, params["boxes"][0], params["obj_to_img"][0])
        least = flags["min_visible"] * (1 - ROUNDING)
        seen = None if least == 0 else self._share_seen(params, flags) >= least
        outline: Outline = flags["matte"] or "box"
        return follow_boxes(input, objects, _painted(objects, params, flags), seen, outline, self._align_corners(flags))

    def apply_transform_keypoint(
        self, input: Keypoints, params: Params, flags: Params, transform: Any = None
    ) -> Keypoints:
        objects = self._objects(params, input.device, stay=flags["fill"] is not None)
        order, painted = objects.order(flags["order"]), _painted(objects, params, flags)
        options = len(params["batch_prob"]), flags["sequential"], self._align_corners(flags)
        return follow_keypoints(input, objects, order, painted, *options)

    @property
    def _source(self) -> int:
        return 0 if self.generator is None else self._number

    def _align_corners(self, flags: Params) -> bool:
        own: bool = self.flags["align_corners"]
        value: bool | None = flags["align_corners"]
        return own if value is None else value  # containers hand None to masks: as the image

    def __getstate__(self) -> Params:
        """Everything but the graph of the last call, which can be neither pickled nor copied."""
        # Kornia sometimes keeps a dict of its own making.
        return {**self.__dict__, "_params": Draw(self._params), "_unseen": None, **dict.fromkeys(CALL_STATE)}

    def __setstate__(self, state: Params) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch's
        self._number = number_of(self)  # a copy draws from its own generator

    def __repr__(self) -> str:
        options = {name: getattr(self, name) for name in ("p", "p_batch", "p_patch", "same_on_batch", "keepdim")}
        options |= {**self.flags, "resample": self.flags["resample"].name.lower()}
        ranges = [repr(child) for child in self.children()]
        return f"{type(self).__name__}({', '.join(ranges + [f'{name}={value}' for name, value in options.items()])})"


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
            Labels of ellipses are the enclosing boxes of moved ellipses; mask labels have hard edges.
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
        matte: Outline | None = None,
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
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator: expected a torch.Generator, got {describe(generator)}. "
                "torch.Generator().manual_seed(seed) makes one of a seed."
            )
        self.generator = generator
        self.ranges = AffineGenerator(degrees, translate, scale, shear, learnable=learnable, clip=clip)


def _own_draw(params: Params, given: Params, count: int, source: int) -> Draw:
    """The draw of ``count`` images that a call completes: what was passed, or a copy if that is to stay as it is."""
    if given or not isinstance(params, Draw):
        params = Draw({"batch_prob": torch.ones(count), **params})
        if "seed" not in params:  # written by hand
            params["seed"] = draw_seed(torch.empty(0), source)
    if len(params["batch_prob"]) != count:
        raise ValueError(f"params: expected a draw of {count} images, got {len(params['batch_prob'])}.")
    return params


def _check_call(
    augmentation: PatchAugmentation, input: Tensor, theta: Tensor | None, obj_to_img: Tensor | None, options: Params
) -> None:
    """Raise for what a call can get wrong before its objects are known."""
    single = isinstance(input, Tensor) and input.ndim in (2, 3)
    check_images("input", input[(None,) * (4 - input.ndim)] if single else input)
    if isinstance(theta, Tensor) and theta.ndim == 1 and obj_to_img is None:
        raise TypeError(
            f"theta: expected a floating (N, 6) or (N, 2, 3) tensor, got {describe(theta)}. "
            "The image index of each object goes by name: obj_to_img=."
        )
    unknown = [name for name in options if name not in augmentation.flags and name != "save_kwargs"]
    if unknown and "data_keys" not in options:  # containers hand every child the options of all
        name, known = type(augmentation).__name__, ", ".join(augmentation.flags)
        raise TypeError(f"{name} has no option {', '.join(sorted(unknown))}; it has {known}.")
    _check_layers(options)


def _check_layers(options: Params) -> None:
    """Raise for an option of the constructor or of a call, of those that make objects layers, that is none."""
    for name, allowed in (("matte", (None, *OUTLINES)), ("order", ORDERS)):
        check_option(name, options.get(name, allowed[0]), allowed)
    for name in ("feather", "min_visible"):
        _check_unit(name, options.get(name, 0.0), "a share")
    if isinstance(options.get("fill"), str):
        check_option("fill", options["fill"], (None, "surroundings"))


def _check_unit(name: str, value: object, expected: str) -> None:
    """Raise unless ``value`` is a number from 0 to 1."""
    if not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise ValueError(f"{name}: expected {expected} in [0, 1], got {value!r}.")


def _painted(objects: Drawn, params: Params, flags: Params) -> Tensor:
    """``(N, 4)``: the first and one past the last pixel that may be painted of each object."""
    height, width = params["forward_input_shape"].tolist()[-2:]
    if flags["clip"]:
        return painted_pixels(objects.boxes, height, width)
    return objects.boxes.new_tensor([[0, 0, width, height]]).expand(len(objects.boxes), 4)


def _grow(feather: float) -> float:
    """By how much holes are larger, so that a matte is 1 at the edges of the box: a rim of the object would stay."""
    return min(max(GROW, feather / (1 - feather) if feather < 1 else MOST_GROW), MOST_GROW)


def _options(flags: Params) -> tuple[Mode, Padding]:
    """``mode`` and ``padding_mode`` as functions take them."""
    mode, padding_mode = _word(Resample, flags["resample"]), _word(SamplePadding, flags["padding_mode"])
    return cast("Mode", mode), cast("Padding", padding_mode)


def _word(kind: type[Resample] | type[SamplePadding], value: object) -> object:
    """An option as the functions spell it, of any of Kornia's spellings: its name, its number, or a member."""
    if isinstance(value, int) and not isinstance(value, bool) and value in [member.value for member in kind]:
        value = kind(value)
    return value.name.lower() if isinstance(value, kind) else value.lower() if isinstance(value, str) else value
