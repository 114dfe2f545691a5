"""What the Kornia augmentations share: gates, objects, replay, labels. A subclass says where theta comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

import torch
from kornia.augmentation import RigidAffineAugmentationBase2D
from kornia.constants import DataKey, Resample
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor

from kornia_patchaug.boxes import BoxesLike, as_size, labels_of
from kornia_patchaug.checks import check_option, check_theta
from kornia_patchaug.draw import noise, number_of, seed, uniform
from kornia_patchaug.frames import as_theta, identity_theta
from kornia_patchaug.functional import PADDINGS, STEP_PADDINGS, Mode, Padding, affine_patches
from kornia_patchaug.labels import follow_boxes, follow_points
from kornia_patchaug.objects import as_flat, checked_index

Params = dict[str, Any]

NO_OBJECTS = (
    "{name} has no boxes to work on. Give them in one of three ways: a bbox, bbox_xyxy or bbox_xywh data key in "
    "kornia_patchaug.PatchAugmentationSequential; {name}.bind(boxes=..., obj_to_img=...) before the call; or "
    "boxes= in a direct call, or in params."
)


class Draw(dict[str, Any]):
    """The parameters of a call. A copy, or a pickle, has no graph, which no container that keeps them could copy."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Draw, ({name: v.detach() if isinstance(v, Tensor) else v for name, v in self.items()},)


class PatchAugmentation(RigidAffineAugmentationBase2D):
    """Abstract: warps the objects of a batch of images, by a theta that a subclass provides.

    The image's frame does not move, so the transformation matrix is the identity, and each label follows its object.
    The draw in ``_params`` holds all it takes to replay: ``boxes (1, N, 4)``, ``theta (1, N, 2, 3)``,
    ``obj_to_img (1, N)``, ``patch_prob (1, N)`` and ``image (B,)``. The leading 1 keeps Kornia, which slices whatever
    has B rows when masks come as a list, from taking objects for images; ``image`` is there to be sliced.
    """

    def __init__(
        self,
        *,
        p: float = 1.0,
        p_batch: float = 1.0,
        p_patch: float = 1.0,
        resample: str | int | Resample = Resample.BILINEAR,
        padding_mode: Padding = "zeros",
        align_corners: bool = False,
        sequential: bool = False,
        patch_size: tuple[int, int] | None = None,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, p_batch=p_batch, same_on_batch=same_on_batch, keepdim=keepdim)
        for name, value in (("p", p), ("p_batch", p_batch), ("p_patch", p_patch)):
            if not (isinstance(value, (int, float)) and 0 <= value <= 1):
                raise ValueError(f"{name}: expected a probability in [0, 1], got {value!r}.")
        check_option("align_corners", align_corners, (False, True))
        check_option("sequential", sequential, (False, True))
        check_option("padding_mode", padding_mode, PADDINGS if patch_size is None else STEP_PADDINGS)
        self.p_patch = p_patch
        self.flags = {
            "resample": Resample.get(resample),
            "padding_mode": padding_mode,
            "align_corners": align_corners,
            "sequential": sequential,
            "patch_size": None if patch_size is None else as_size("patch_size", patch_size),
        }
        check_option("resample", self.flags["resample"], (Resample.BILINEAR, Resample.NEAREST))
        self.generator: torch.Generator | None = None  # of the gates and draws; the global one if None
        self.wants_classes = False  # whether theta is drawn by the class of each object
        self._number = number_of(self)
        self._bound = Draw()

    def draw_theta(self, boxes: Tensor, noise: Tensor, classes: Tensor | None) -> Tensor:
        """Theta ``(N, 2, 3)`` of ``noise (N, 7)``, or ``(1, 7)``, for flat ``boxes (N, 4)`` that came without one."""
        raise NotImplementedError

    def bind(
        self,
        boxes: BoxesLike | None = None,
        theta: Tensor | None = None,
        obj_to_img: Tensor | None = None,
        *,
        classes: Tensor | None = None,
    ) -> Self:
        """Set the objects of the calls to come, for containers that hand on the image alone. Returns the module.

        Stays until the next ``bind``; ``bind()`` clears it. Boxes are those at this augmentation's step: a flip or crop
        before it moves the image, not what is bound. In `PatchAugmentationSequential` boxes come from the data, and
        only theta and classes are taken from here. Shapes are those of the call; errors are raised there.
        """
        self._bound = _given(boxes=boxes, theta=theta, obj_to_img=obj_to_img, classes=classes)
        return self

    def forward(  # type: ignore[override]  # what Kornia has second, params, it passes by name
        self,
        input: Tensor,
        boxes: BoxesLike | None = None,
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
                comes from ``params``, or else from `bind`, or (theta of a random augmentation) from a draw.
            theta: ``(N, 6)`` or ``(N, 2, 3)``.
            obj_to_img: ``(N,)`` integer; comes from where the boxes come from.
            classes: ``(N,)`` integer, in the order of the flat boxes: which row of ranges that have one per class.
            params: a draw to replay, as in ``_params``.
            **kwargs: options of the constructor to change for this call, from ``resample`` to ``patch_size``.

        Raises:
            TypeError, ValueError: an integer image, an unknown option, no boxes; or as `affine_patches`.
        """
        unknown = kwargs.keys() - self.flags.keys() - {"save_kwargs", "data_keys"}
        if unknown and "data_keys" not in kwargs:  # containers hand every child the options of all
            raise TypeError(
                f"{type(self).__name__} has no option {', '.join(sorted(unknown))}; it has {', '.join(self.flags)}."
            )
        images = self.transform_tensor(input)  # raises Kornia's own errors for a wrong dtype or rank
        given = _given(boxes=boxes, theta=theta, obj_to_img=obj_to_img, classes=classes)
        if params is None:
            params = self.forward_parameters(images.shape)
        elif given:
            params = Draw(params)  # another draw than the one that was passed
        self._complete(params, len(images), images.device, given)
        return super().forward(input, params=params, **kwargs)

    if TYPE_CHECKING:
        __call__ = forward  # torch's takes and returns anything

    def params_from_input(
        self, *inputs: Any, data_keys: list[DataKey], params: Params, extra_args: Params | None = None
    ) -> Params:
        """Fill in the draw from all inputs of a container's step: the objects are the first box key's rows.

        Their classes are the class key's, where ranges have a row per class and none are bound.
        """
        boxes = next((value for value in inputs if isinstance(value, Boxes)), None)
        if boxes is not None and "boxes" not in params:
            given: Params = {"boxes": boxes}
            if self.wants_classes and DataKey.CLASS in data_keys and "classes" not in self._bound:
                given["classes"] = labels_of(boxes, inputs[data_keys.index(DataKey.CLASS)])
            self._complete(params, len(params["batch_prob"]), boxes.device, given)
        return params

    def _complete(self, params: Params, batch_size: int, device: torch.device, given: Params) -> None:
        """Write into ``params`` what the draw still lacks, in place: the container keeps this very dict for replay.

        How many objects there are is known here at last. What is drawn for them comes from the seed that was drawn with
        the gates, so that containers, which draw for all children first, draw what the children would one by one.
        """
        kept = params
        if "image" in params:  # this has been here before
            kept = {name: params[name][0] for name in ("boxes", "theta", "obj_to_img")}
        # Boxes and their images come from one place.
        objects = next((source for source in (given, kept, self._bound) if "boxes" in source), None)
        if objects is None:
            raise ValueError(NO_OBJECTS.format(name=type(self).__name__))
        boxes, obj_to_img = as_flat(objects["boxes"], {**objects, **given}.get("obj_to_img"), batch_size)
        obj_to_img = checked_index(obj_to_img, batch_size, "obj_to_img").to(device)
        boxes = boxes.to(device, copy=True)  # kept for replay

        drawn = params["seed"] if "seed" in params else seed(torch.empty(0), self._source)  # written by hand: no seed
        of_gates, of_theta = noise(drawn, 1 if self.same_on_batch else len(boxes))
        gate = params.get("patch_prob", self._gates(of_gates, self.p_patch, len(boxes))).reshape(1, -1)
        if gate.shape[1] != len(boxes):
            raise ValueError(f"patch_prob: expected one gate a box ({len(boxes)}), got {gate.shape[1]}.")
        found = {**self._bound, **kept, **given}
        if "theta" in found:
            check_theta(found["theta"], len(boxes))
            theta = as_theta(found["theta"]).to(device, copy=True)
        else:
            theta = self.draw_theta(boxes, of_theta, found.get("classes"))
        params.update(
            boxes=boxes[None],
            theta=theta[None],
            obj_to_img=obj_to_img[None],
            patch_prob=gate.to(device),
            image=torch.arange(batch_size, device=device),
        )

    def forward_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """The draw of gates for ``batch_shape``, and a seed for what is drawn once the objects are known."""
        gates = self.__batch_prob_generator__(batch_shape, self.p, self.p_batch, self.same_on_batch)
        # Kornia's own line for this looks each size up in a dict, so that torch.compile would start anew for each.
        shape = torch.stack([torch.full((), size, dtype=torch.int64) for size in batch_shape])
        return Draw(batch_prob=gates, forward_input_shape=shape, seed=seed(gates, self._source))

    def __batch_prob_generator__(
        self, batch_shape: tuple[int, ...], p: float, p_batch: float, same_on_batch: bool
    ) -> Tensor:
        of_images = uniform(torch.empty(0), 1 if same_on_batch else batch_shape[0], self._source)
        of_batch = uniform(of_images, 1, self._source)
        return self._gates(of_images, p, batch_shape[0]) * self._gates(of_batch, p_batch, 1)

    def _gates(self, noise: Tensor, p: float, count: int) -> Tensor:
        return (noise < p).to(torch.float32).expand(count)

    @property
    def _source(self) -> int:
        return 0 if self.generator is None else self._number

    def _objects(self, params: Params) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``boxes, theta, obj_to_img, active`` of the images in ``params``; an inactive object has an empty box."""
        boxes, theta, obj_to_img = params["boxes"][0], params["theta"][0], params["obj_to_img"][0]
        image = params["image"]  # all of the batch, or the one image of a mask in a list
        row = torch.searchsorted(image, obj_to_img).clamp(max=max(len(image) - 1, 0))
        active = (params["patch_prob"][0] > 0.5) & (image[row] == obj_to_img)
        active = active & self._gate(params).to(row.device)[row]
        boxes, theta = boxes.where(active[:, None], 0), theta.where(active[:, None, None], identity_theta(theta))
        return boxes, theta, row, active

    def compute_transformation(self, input: Tensor, params: Params, flags: Params) -> Tensor:
        return self.identity_matrix(input)

    def apply_transform(self, input: Tensor, params: Params, flags: Params, transform: Tensor | None = None) -> Tensor:
        boxes, theta, obj_to_img, _ = self._objects(params)
        return affine_patches(
            input,
            boxes,
            theta,
            obj_to_img,
            mode=cast("Mode", Resample.get(flags["resample"]).name.lower()),
            padding_mode=flags["padding_mode"],
            align_corners=self._align_corners(flags),
            sequential=flags["sequential"],
            patch_size=flags["patch_size"],
        )

    def transform_masks(
        self, input: Tensor, params: Params, flags: Params, transform: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        kwargs.setdefault("resample", Resample.NEAREST)
        return super().transform_masks(input, params, flags, transform=transform, **kwargs)

    def apply_transform_mask(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        return self.apply_transform(input, params, flags, transform)

    def apply_non_transform_mask(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        return input

    def apply_transform_class(self, input: Tensor, params: Params, flags: Params, transform: Any = None) -> Tensor:
        return input

    def apply_transform_box(self, input: Boxes, params: Params, flags: Params, transform: Any = None) -> Boxes:
        boxes, theta, obj_to_img, active = self._objects(params)
        height, width = params["forward_input_shape"].tolist()[-2:]
        return follow_boxes(input, boxes, theta, obj_to_img, active, (height, width), self._align_corners(flags))

    def apply_transform_keypoint(
        self, input: Keypoints, params: Params, flags: Params, transform: Any = None
    ) -> Keypoints:
        boxes, theta, obj_to_img, _ = self._objects(params)
        points = input.data if input.data.ndim == 3 else input.data[None]  # (B, K, 2)
        image = torch.arange(len(points), device=boxes.device).repeat_interleave(points.shape[1])
        points = points.flatten(0, 1) + 0.5  # Kornia counts in pixel centres
        moved = follow_points(points, image, boxes, theta, obj_to_img, flags["sequential"], self._align_corners(flags))
        output = input.clone()
        still = (moved == points).reshape(input.data.shape)  # keeps its bits
        output._data = input.data.where(still, (moved - 0.5).reshape(input.data.shape).to(input.dtype))
        return output

    def _align_corners(self, flags: Params) -> bool:
        own: bool = self.flags["align_corners"]
        value: bool | None = flags["align_corners"]
        return own if value is None else value  # containers hand None to masks: as the image

    def __getstate__(self) -> Params:
        """Everything but the graph of the last call, which can be neither pickled nor copied."""
        state = {**self.__dict__, "_params": Draw(self._params)}  # Kornia sometimes keeps a dict of its own making
        for name in ("_transform_matrix_params", "_transform_matrix_params_snapshot", "_lazy_matrix_args"):
            state[name] = None
        return state

    def __setstate__(self, state: Params) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch's
        self._number = number_of(self)  # a copy draws from its own generator

    def __repr__(self) -> str:
        options = {name: getattr(self, name) for name in ("p", "p_batch", "p_patch", "same_on_batch", "keepdim")}
        options |= {**self.flags, "resample": self.flags["resample"].name.lower()}
        ranges = [repr(child) for child in self.children()]
        return f"{type(self).__name__}({', '.join(ranges + [f'{name}={value}' for name, value in options.items()])})"


def _given(**values: Any) -> Draw:
    return Draw({name: value for name, value in values.items() if value is not None})
