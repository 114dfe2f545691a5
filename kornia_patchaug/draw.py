"""What is drawn for one call, and replays it: which images are changed and a seed; and, once its objects are known,
their boxes, their theta, and which of them are changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.checks import check_values
from kornia_patchaug.clips import boxes_of_frames, rows_of_draws
from kornia_patchaug.dtypes import working_dtype
from kornia_patchaug.frames import as_theta, identity_theta
from kornia_patchaug.kornia_names import clips_of, corners_and_validity, with_corners
from kornia_patchaug.noise import draw_seed, draw_uniform, make_noise
from kornia_patchaug.objects import as_flat
from kornia_patchaug.transfers import on_host
from kornia_patchaug.whole_op import operator

Params = dict[str, Any]

NO_THETA = (
    "PatchAffine has no theta for its boxes. Pass theta=, put it in params, or bind(theta=...); "
    "RandomPatchAffine draws one."
)

NO_SEED = (
    "params: expected a draw of forward_parameters, to which objects may be added, got a dict without its seed: "
    "images and labels would be drawn apart."
)


class Drawn(NamedTuple):
    """The objects of a call. One that is gated off has the identity as theta, and unless it is to stay, no box."""

    boxes: Tensor  # (N, 4)
    theta: Tensor  # (N, 2, 3)
    obj_to_img: Tensor  # (N,) int64
    active: Tensor  # (N,) bool: not gated off

    def order(self, order: str) -> Tensor:
        """The rows ``(N,)`` in the order in which they are painted: as they came, or of their ``area``, large first."""
        if order == "rows":
            return torch.arange(len(self.boxes), device=self.boxes.device)
        sides = self.boxes.detach()[:, 2:] - self.boxes.detach()[:, :2]
        return sides.prod(1).argsort(descending=True, stable=True)

    def in_order(self, order: str) -> Drawn:
        """The objects in the order in which they are painted."""
        rows = self.order(order)
        return self if order == "rows" else Drawn(*(part[rows] for part in self))


class Draw(dict[str, Any]):
    """The parameters of a call, which Kornia keeps, slices and hands back. A copy, or a pickle, has no graph.

    It begins with ``batch_prob (B,)``, ``forward_input_shape (4,)`` and ``seed (1,)``. `complete` adds what a replay
    takes: ``boxes (1, N, 4)``, ``theta (1, N, 2, 3)``, ``obj_to_img (1, N)``, ``patch_prob (1, N)`` and ``image (B,)``.
    Where masks come as a list, Kornia slices what has B rows: the leading 1 keeps it from slicing objects, and the
    slice of ``image`` says which image is left.

    In a container there is ``column (1, N)``, the row of its image's labels that each object is.

    ``visible (1, N)``, how much of each object is seen, is found when it is first asked for, by ``find_visible``.
    """

    find_visible: Callable[[Draw], Tensor] | None = None

    @classmethod
    def of(cls, **values: Any) -> Draw:
        """What is not None."""
        return cls({name: value for name, value in values.items() if value is not None})

    def __missing__(self, name: str) -> Tensor:
        if name != "visible" or self.find_visible is None or not self.is_complete:
            raise KeyError(name)
        self[name] = found = self.find_visible(self)[None]
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Draw, ({name: _without_graph(value) for name, value in self.items()},)

    @property
    def is_complete(self) -> bool:
        """Whether the objects are known."""
        return "image" in self

    def columns(self) -> Tensor:
        """``(N,)``: which row of its image each object is; without a container, in the order in which they come."""
        if "column" in self:
            column: Tensor = self["column"][0]
            return column
        return rank_in_image(self.obj_to_img)

    @property
    def obj_to_img(self) -> Tensor:
        """``(N,)``."""
        index: Tensor = self["obj_to_img"][0] if self.is_complete else self["obj_to_img"]
        return index

    def flat(self) -> Params:
        """``boxes``, ``theta`` and ``obj_to_img`` without the leading 1; or what a hand-written draw has of these."""
        return {name: self[name][0] for name in ("boxes", "theta", "obj_to_img")} if self.is_complete else self

    def objects(self, gate: Tensor, stay: bool = False) -> Drawn:
        """The objects of a complete draw; ``gate (B,)`` says which images are changed.

        ``stay``: those that are gated off in one that is keep their box.
        """
        boxes, theta, obj_to_img = self.flat().values()
        image = self["image"]  # all of the batch, or the one image of a mask in a list
        row = torch.searchsorted(image, obj_to_img).clamp(max=max(len(image) - 1, 0))
        changed = (image[row] == obj_to_img) & gate.to(row.device)[row]
        active = (self["patch_prob"][0] > 0.5) & changed
        boxes, theta = (
            boxes.where((changed if stay else active)[:, None], 0),
            theta.where(active[:, None, None], identity_theta(theta)),
        )
        return Drawn(boxes, theta, row, active)

    def shared_frames(self, same_on_batch: bool) -> int:
        """How many frames of a clip share a draw: 1, or all of a VideoSequential with ``same_on_frame=True``.

        Kornia repeats a seed that such frames share: for each frame, with ``same_on_batch`` for each of the batch.
        """
        clips, images = clips_of(self), len(self["batch_prob"])
        frames = images // max(clips, 1)
        return frames if clips and len(self["seed"]) == (images if same_on_batch else frames) else 1


def begin(batch_shape: tuple[int, ...], *, p: float, p_batch: float, same_on_batch: bool, source: int) -> Draw:
    """The draw of a call before its objects are known: which images are changed, and a seed."""
    image_noise = draw_uniform(torch.empty(0), 1 if same_on_batch else batch_shape[0], source)
    batch_noise = draw_uniform(image_noise, 1, source)
    gates = open_gates(image_noise, p, batch_shape[0]) * open_gates(batch_noise, p_batch, 1)
    # Kornia's own line for this looks each size up in a dict, so that torch.compile would start anew for each.
    shape = torch.stack([torch.full((), size, dtype=torch.int64) for size in batch_shape])
    return Draw(batch_prob=gates, forward_input_shape=shape, seed=draw_seed(gates, source))


def complete(
    draw: Draw,
    given: Params,
    bound: Params,
    *,
    device: torch.device,
    ranges: Callable[..., Tensor] | None,
    align_corners: bool,
    p_patch: float,
    same_on_batch: bool,
) -> Draw:
    """A new draw that has its objects. What is given goes before what the draw holds, and that before what is bound.

    Boxes and their images come from one place; an ``obj_to_img`` that is given goes before it. What is drawn for the
    objects comes from the seed that was drawn with the gates, so that a container, which draws for all children before
    the first runs, draws what its children would one by one.

    Raises:
        TypeError, ValueError: as `affine_patches`; no theta, and no ranges to draw it from.
    """
    held, batch_size = draw.flat(), len(draw["batch_prob"])
    source = given if "boxes" in given else held if "boxes" in held else bound
    found = {**bound, **held, **given}
    index = {**source, **given}.get("obj_to_img")
    theta, classes, gates = found.get("theta"), found.get("classes"), draw.get("patch_prob")
    frames = 1 if draw.is_complete else draw.shared_frames(same_on_batch)
    if frames == 1:
        boxes, index = as_flat(source["boxes"], index, batch_size)
    else:
        boxes, index, copies = boxes_of_frames(source["boxes"], index, batch_size // frames, frames)
        theta = None if theta is None else as_theta(theta, len(boxes) // copies).repeat(copies, 1, 1)
        classes = classes.repeat(copies) if isinstance(classes, Tensor) else classes
    boxes, count = boxes.to(device, copy=True), len(boxes)  # kept for replay
    theta = None if theta is None else as_theta(theta, count).to(device, copy=True)
    index = checked_values(boxes, theta, index.to(device), batch_size)

    if gates is None or theta is None:
        if "seed" not in draw:
            raise ValueError(NO_SEED)
        rows, draws = None, 1 if same_on_batch else count
        if frames > 1 and not same_on_batch:
            rows, draws = rows_of_draws(index, batch_size // frames, frames)
        gate_noise, theta_noise = make_noise(draw["seed"], draws)
        if rows is not None:
            gate_noise, theta_noise = gate_noise[rows.cpu()], theta_noise[rows.cpu()]
        if gates is None:
            gates = open_gates(gate_noise, p_patch, count)
        if theta is None:
            if ranges is None:
                raise ValueError(NO_THETA)
            theta = ranges(boxes, theta_noise, classes, align_corners=align_corners)
    gates = gates.reshape(1, -1)
    if gates.shape[1] != count:
        raise ValueError(f"patch_prob: expected one gate a box ({count}), got {gates.shape[1]}.")
    columns = {"column": given["column"][None]} if "column" in given else {}
    return Draw(
        draw,
        **columns,
        boxes=boxes[None],
        theta=theta[None],
        obj_to_img=index[None],
        patch_prob=gates.to(device),
        image=torch.arange(batch_size, device=device),
    )


@operator("checked_values", lambda boxes, theta, obj_to_img, size: torch.empty_like(obj_to_img))
def checked_values(boxes: Tensor, theta: Tensor | None, obj_to_img: Tensor, size: int) -> Tensor:
    """A copy of ``obj_to_img``, or raise for values of boxes, theta or it that are none, also of objects gated off."""
    boxes = boxes.to(working_dtype(boxes))  # NumPy has no bfloat16
    theta = identity_theta(boxes) if theta is None else theta
    host_boxes, host_theta, host_image = on_host(boxes, theta, obj_to_img)
    check_values(host_boxes, host_theta, host_image, size)
    return obj_to_img.clone()


def rank_in_image(obj_to_img: Tensor) -> Tensor:
    """``(N,)``: how many rows before each one have its image."""
    order = obj_to_img.argsort(stable=True)
    counts = torch.bincount(obj_to_img)
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[obj_to_img[order]]
    return torch.empty_like(rank).index_put((order,), rank)


def open_gates(noise: Tensor, p: float, count: int) -> Tensor:
    """``(count,)`` of 0 and 1, which is 1 with probability ``p``; ``noise (count,)`` or ``(1,)`` for all."""
    return (noise < p).to(torch.float32).expand(count)


def _without_graph(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        parts = map(_without_graph, value)
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if type(value) is dict:
        return {name: _without_graph(part) for name, part in value.items()}
    if isinstance(value, Boxes):
        corners, valid = corners_and_validity(value)
        return with_corners(value, corners.detach(), valid)
    return value.detach() if isinstance(value, Tensor) else value
