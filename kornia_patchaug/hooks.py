"""The hooks by which Kornia calls augmentations of objects, whatever these do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from kornia.augmentation import RigidAffineAugmentationBase2D
from kornia.constants import DataKey, Resample, SamplePadding
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor

from kornia_patchaug.bound import Bindable
from kornia_patchaug.checks import check_images, check_option, check_unit, describe
from kornia_patchaug.draw import Draw, Params, begin
from kornia_patchaug.kornia_names import CALL_STATE, asked_by_patch_sequential, clips_of
from kornia_patchaug.labels import labels_of, objects_of
from kornia_patchaug.mattes import soft_mattes
from kornia_patchaug.noise import draw_seed, number_of
from kornia_patchaug.theta import OUTLINES, Outline

if TYPE_CHECKING:
    from kornia_patchaug.functional import Mode, Padding
    from kornia_patchaug.generators import AffineGenerator

Matte = Literal["mask"] | Outline
MATTES = (None, "mask", *OUTLINES)

SOFT, HARD = 32, 128  # pixels of a matte that is interpolated, and of one that is not
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
NO_LABELS = (
    "{name} changes labels in kornia_patchaug.PatchAugmentationSequential and DetectionSequential only. Put it there; "
    "in containers of Kornia's own it takes images alone."
)
NO_VIDEO = (
    "{name} does not work in a VideoSequential, as its frames would not share a draw. Put it before or after the "
    "VideoSequential."
)


class ObjectAugmentation(Bindable, RigidAffineAugmentationBase2D):
    """Abstract: the hooks by which Kornia augments the objects of a batch of images, and their labels.

    The image's frame does not move, so the transformation matrix is the identity, and each label follows its object.
    ``_params`` holds the `Draw` of the last call, which replays it. A family says how a draw is completed once its
    objects are known (``_complete``), and what is painted and where labels go (Kornia's ``apply_transform...``).
    """

    def __init__(
        self,
        flags: Params,
        *,
        p: float,
        p_batch: float,
        p_patch: float,
        same_on_batch: bool,
        keepdim: bool,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, p_batch=p_batch, same_on_batch=same_on_batch, keepdim=keepdim)
        for name, value in {"p": p, "p_batch": p_batch, "p_patch": p_patch}.items():
            check_unit(name, value, "a probability")
        check_generator(generator)
        self.p_patch = p_patch
        self.flags = flags
        self.generator = generator  # of the gates and draws; the global one if None
        self.ranges: AffineGenerator | None = None  # that theta is drawn from
        self._number = number_of(self)

    def _run(self, input: Tensor, given: Params, params: Params | None, options: Params) -> Tensor:
        """A call: its draw, made or replayed, with its objects; then Kornia's own."""
        self._check_call(input, options)
        options = {name: value for name, value in options.items() if name != "data_keys"}  # or Kornia copies the draw
        images = self.transform_tensor(input)
        count, source = len(images), self._source
        draw = self.forward_parameters(images.shape) if params is None else own_draw(params, given, count, source)
        bound = "boxes" not in given and "boxes" not in draw and "boxes" in self._bound
        if bound and not torch.compiler.is_compiling():  # a graph is for every shape
            self._use_bound(images, draw)
        if not torch.compiler.is_compiling():
            draw.setdefault("forward_input_shape", torch.tensor(images.shape))
        if given or not draw.is_complete or draw["boxes"].device != images.device:
            self._complete(draw, images.device, given, images, options)
        if torch.compiler.is_compiling():  # a graph has no use for what may be asked for later
            return super().forward(input, params=draw, **options)
        self._note(draw, {**self.flags, **options})
        output = super().forward(input, params=draw, **options)
        self._params = draw  # and not Kornia's copy, if options came with the call
        return output

    def _check_call(self, input: Tensor, options: Params) -> None:
        """Raise for what a call can get wrong before its objects are known."""
        single = isinstance(input, Tensor) and input.ndim in (2, 3)
        check_images("input", input[(None,) * (4 - input.ndim)] if single else input)
        unknown = [name for name in options if name not in self.flags and name != "save_kwargs"]
        if unknown and "data_keys" not in options:  # containers hand every child the options of all
            name, known = type(self).__name__, ", ".join(self.flags)
            raise TypeError(f"{name} has no option {', '.join(sorted(unknown))}; it has {known}.")

    def _note(self, draw: Draw, flags: Params) -> None:
        """Write down what may be asked for after a call."""

    def params_from_input(
        self, *inputs: Any, data_keys: list[DataKey], params: Params, extra_args: Params | None = None
    ) -> Params:
        """The draw of a container's step with its objects, the rows of the first box key.

        Their classes are the class key's, where these are asked for and none are bound.
        """
        boxes, count = [value for value in inputs if isinstance(value, Boxes)], len(params["batch_prob"])
        if not boxes or "boxes" in params:
            return params
        given: Params = objects_of(boxes[0], count)
        extra: dict[Any, Any] = extra_args or {}
        of_masks = extra.get(DataKey.MASK, {})
        if self.flags.get("matte") == "mask" and of_masks.get("instances") and DataKey.MASK in data_keys:
            given["channels"] = inputs[data_keys.index(DataKey.MASK)]
        if self._asks_for_classes and DataKey.CLASS in data_keys and "classes" not in self._bound:
            given["classes"] = labels_of(boxes[0], inputs[data_keys.index(DataKey.CLASS)])
        draw = own_draw(params, {}, count, self._source)
        images = inputs[data_keys.index(DataKey.INPUT)] if DataKey.INPUT in data_keys else None
        self._complete(draw, boxes[0].device, given, images, {})
        return draw

    @property
    def _asks_for_classes(self) -> bool:
        return self.ranges is not None and self.ranges.count_of_classes is not None

    def forward_parameters(self, batch_shape: tuple[int, ...]) -> Draw:
        """The draw of gates for ``batch_shape``, and a seed for what is drawn once the objects are known."""
        if asked_by_patch_sequential():
            raise ValueError(NO_PATCH_SEQUENTIAL.format(name=type(self).__name__))
        shared = self.same_on_batch
        return begin(batch_shape, p=self.p, p_batch=self.p_batch, same_on_batch=shared, source=self._source)

    def _complete(
        self, draw: Draw, device: torch.device, given: Params, images: Tensor | None, options: Params
    ) -> None:
        """Write the objects into a draw, in place: a container keeps this very dict for labels and for replay."""
        raise NotImplementedError

    def _check_has_boxes(self, draw: Draw, given: Params) -> None:
        if "boxes" not in given and "boxes" not in draw and "boxes" not in self._bound:
            raise ValueError(NO_OBJECTS.format(name=type(self).__name__))

    def with_shares(self, seen: Tensor, params: Draw) -> Tensor:
        """Shares ``(B, M)`` of rows, times what of each is seen after a call."""
        own = params.obj_to_img, params.columns()
        return seen.index_put(own, seen[own] * params["visible"][0].to(seen))

    def hidden_points(self, before: Tensor, points: Tensor, params: Draw) -> tuple[Tensor, Tensor]:
        """Of points ``(B, M, K, 2)`` of objects, as they were before a call and are after it: which another object
        covers, and which are painted at all, both ``(B, M, K)``."""
        raise NotImplementedError

    def compute_transformation(self, input: Tensor, params: Params, flags: Params) -> Tensor:
        return self.identity_matrix(input)

    def transform_masks(
        self, input: Tensor, params: Params, flags: Params, transform: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        kwargs.setdefault("resample", Resample.NEAREST)
        return super().transform_masks(input, params, flags, transform=transform, **kwargs)

    def apply_non_transform_mask(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        return input

    def apply_transform_class(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        return input

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

    def _shown(self) -> Params:
        """The options that a repr shows."""
        options = {name: getattr(self, name) for name in ("p", "p_batch", "p_patch", "same_on_batch", "keepdim")}
        options |= self.flags
        if "resample" in options:
            options["resample"] = options["resample"].name.lower()
        return options

    def __repr__(self) -> str:
        options = self._shown()
        ranges = [repr(child) for child in self.children()]
        return f"{type(self).__name__}({', '.join(ranges + [f'{name}={value}' for name, value in options.items()])})"


class FollowsAll(ObjectAugmentation):
    """Abstract: labels go through a step together, in our containers only, as rows are appended or draws are many."""

    def _check_has_boxes(self, draw: Draw, given: Params) -> None:
        super()._check_has_boxes(draw, given)
        if clips_of(draw):
            raise ValueError(NO_VIDEO.format(name=type(self).__name__))

    def follow_labels(
        self, inputs: list[Any], keys: list[DataKey], params: Draw, extra_args: dict[Any, Any]
    ) -> list[Any]:
        """What a container has after a step, of ``inputs`` whose images are those after the step, and labels before."""
        raise NotImplementedError

    def apply_transform_mask(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        raise ValueError(NO_LABELS.format(name=type(self).__name__))

    def apply_transform_box(self, input: Boxes, params: Params, flags: Params, transform: Any = None) -> Boxes:
        raise ValueError(NO_LABELS.format(name=type(self).__name__))

    def apply_transform_keypoint(
        self, input: Keypoints, params: Params, flags: Params, transform: Any = None
    ) -> Keypoints:
        raise ValueError(NO_LABELS.format(name=type(self).__name__))


def own_draw(params: Params, given: Params, count: int, source: int) -> Draw:
    """The draw of ``count`` images that a call completes: what was passed, or a copy if that is to stay as it is."""
    if given or not isinstance(params, Draw):
        params = Draw({"batch_prob": torch.ones(count), **params})
        if "seed" not in params:  # written by hand
            params["seed"] = draw_seed(torch.empty(0), source)
    if len(params["batch_prob"]) != count:
        raise ValueError(f"params: expected a draw of {count} images, got {len(params['batch_prob'])}.")
    return params


def check_generator(generator: object) -> None:
    """Raise unless it is one, or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator: expected a torch.Generator, got {describe(generator)}. "
            "torch.Generator().manual_seed(seed) makes one of a seed."
        )


def mattes_of(count: int, like: Tensor, flags: Params, hard: bool = False) -> Tensor | None:
    """The mattes that options ask for of objects, ``(N, 1, s, s)``; hard ones leave labels what they are.

    Without masks, what is to be their ``mask`` is a soft ``box``.
    """
    if flags["matte"] is None:
        return None
    shape: Outline = "box" if flags["matte"] == "mask" else flags["matte"]
    # One for all: a graph would be one of as many objects.
    if hard:  # 0 along the edge as soft ones are, as they go on beyond it
        inner = soft_mattes(1, HARD - 2, shape=shape, feather=0.0, device=like.device)
        matte = torch.nn.functional.pad(inner, (1, 1, 1, 1))
    else:
        matte = soft_mattes(1, SOFT, shape=shape, feather=flags["feather"], device=like.device)
    return matte.expand(count, -1, -1, -1)


def outline_of(flags: Params) -> Outline:
    """What labels enclose."""
    return "ellipse" if flags["matte"] == "ellipse" else "box"


def check_masks(masks: object, count: int, size: tuple[int, int]) -> None:
    """Raise unless these are masks of the objects of a call."""
    expected = (count, *size)
    if not isinstance(masks, Tensor) or masks.is_complex():
        raise TypeError(f"masks: expected a tensor {expected}, one mask a box, got {describe(masks)}.")
    if tuple(masks.shape) != expected:
        raise ValueError(f"masks: expected shape {expected}, one mask a box, got {tuple(masks.shape)}.")


def modes_of(flags: Params) -> tuple[Mode, Padding]:
    """``mode`` and ``padding_mode`` as functions take them."""
    mode, padding_mode = as_word(Resample, flags["resample"]), as_word(SamplePadding, flags["padding_mode"])
    return cast("Mode", mode), cast("Padding", padding_mode)


def as_word(kind: type[Resample] | type[SamplePadding], value: object) -> object:
    """An option as the functions spell it, of any of Kornia's spellings: its name, its number, or a member."""
    if isinstance(value, int) and not isinstance(value, bool) and value in [member.value for member in kind]:
        value = kind(value)
    return value.name.lower() if isinstance(value, kind) else value.lower() if isinstance(value, str) else value


def check_choice(options: Params, name: str, allowed: tuple[object, ...]) -> None:
    """Raise for an option, of those of a constructor or a call, that is none of what is allowed."""
    check_option(name, options.get(name, allowed[0]), allowed)
