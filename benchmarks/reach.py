"""Objects from elsewhere, laid anywhere: what public code does with a canvas an object, and ours in one call.

The jobs are those of three families of public code, with their sizes; the rivals are written anew from what these do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

import kornia_patchaug as kp
from benchmarks.measure import threads
from benchmarks.memory import beyond, in_fresh_process

OURS, RIVAL = "ours", "a canvas an object"
BANK = 6  # sprites of P3


class Pasting(NamedTuple):
    """What ours and the rival are given. Each image has as many objects as any other, one after another."""

    images: Tensor  # (B, 3, H, W)
    patches: Tensor  # (M, 3, h, w)
    boxes: Tensor  # (N, 4)
    obj_to_img: Tensor  # (N,)
    theta: Tensor  # (N, 2, 3)
    patch_index: Tensor | None = None  # (N,); object n has patch n without it
    mattes: Tensor | None = None  # (M, 1, h, w)
    align_corners: bool = False

    def learnable(self, names: tuple[str, ...]) -> Pasting:
        """The same with gradients to some of its tensors."""
        return self._replace(**{name: getattr(self, name).detach().clone().requires_grad_() for name in names})


class Job(NamedTuple):
    """What is laid over what, who does it instead of us, and what is learned: the fields that gradients go to."""

    name: str
    title: str
    make: Callable[[Job], Pasting]
    rival: Callable[[Job, Pasting], Tensor]
    learned: tuple[str, ...]
    batch: int
    side: int  # of the images
    each: int  # objects of an image
    patch: int  # the side of their patches
    slots: int = 0  # objects of an image that the rival paints, if it does not know how many there are

    def inputs(self, device: str = "cpu") -> Pasting:
        made = (value.to(device) if isinstance(value, Tensor) else value for value in self.make(self))
        return Pasting(*made)

    def __str__(self) -> str:
        slots = f" (the rival has {self.slots} slots)" if self.slots else ""
        objects = f"{self.each} object{'s' * (self.each > 1)} an image{slots}"
        sizes = f"{self.batch}x3x{self.side}x{self.side}, {objects}, patches of {self.patch}"
        return f"{self.name}, {self.title}: {sizes}"


def ours(given: Pasting, paste: Callable[..., Tensor] = kp.paste_patches) -> Tensor:
    """One call. A rival's rim is darker, where it multiplies a patch by its mask and both fade."""
    mattes = given.mattes
    if mattes is not None and given.patch_index is not None:
        mattes = mattes[given.patch_index]
    return paste(
        *(given.images, given.patches, given.boxes, given.obj_to_img),
        theta=given.theta,
        patch_index=given.patch_index,
        alpha=mattes,
        align_corners=given.align_corners,
        clip=False,
    )


def in_slots(job: Job, given: Pasting) -> Tensor:
    """One patch over all objects, as appliers of adversarial patches lay it.

    A copy of the patch, padded to the image's size, for every slot of every image, empty ones included; as many masks;
    both warped, multiplied, and laid over slot by slot where they are not 0. The rim, multiplied by its mask, is laid
    over as if it were opaque: a dark halo. One channel a mask, where public code has three; no colours are changed.
    """
    batch, _, height, width = given.images.shape
    *_, high, wide = given.patches.shape
    slot = given.obj_to_img * job.slots + torch.arange(job.each, device=given.boxes.device).repeat(batch)
    taken = given.images.new_zeros(batch * job.slots, 1, 1, 1)
    taken[slot] = 1
    theta = torch.eye(2, 3, device=given.theta.device).repeat(batch * job.slots, 1, 1)
    shares = given.theta.new_tensor([[wide / width], [high / height]])  # a padded patch is as large as the image
    theta = theta.index_put((slot,), shares * theta_of_canvas(given))

    left, top = (width - wide) // 2, (height - high) // 2
    margins = left, width - wide - left, top, height - high - top
    canvases = pad(given.patches.expand(batch * job.slots, -1, -1, -1), margins)
    masks = pad(taken.expand(-1, 1, high, wide), margins)
    grid = affine_grid(theta, list(canvases.shape), align_corners=False)
    canvases, masks = (grid_sample(each, grid, align_corners=False) for each in (canvases, masks))
    painted, images = (canvases * masks).view(batch, job.slots, -1, height, width), given.images
    for layer in painted.unbind(1):
        images = torch.where(layer == 0, images, layer)
    return images


def in_layers(job: Job, given: Pasting) -> Tensor:
    """Sprites with a matte, warped straight to the image's size and blended one over the other, as models of sprites
    in layers do. Those try each sprite of the bank in each layer; here only the one that is seen is warped."""
    batch, channels, height, width = given.images.shape
    sprites = torch.cat([given.patches, given.mattes], dim=1)[given.patch_index]
    grid = affine_grid(given.theta, [len(sprites), channels + 1, height, width], align_corners=False)
    layers = grid_sample(sprites, grid, align_corners=False).view(batch, job.each, channels + 1, height, width)
    images = given.images
    for layer in layers.unbind(1):
        colours, mask = layer[:, :channels], layer[:, channels:]
        images = mask * colours + (1 - mask) * images
    return images


def one_each(job: Job, given: Pasting) -> Tensor:
    """A foreground and its mask an image, as models that learn where to place it blend them."""
    grid = affine_grid(given.theta, list(given.images.shape), align_corners=True)
    colours, mask = (grid_sample(each, grid, align_corners=True) for each in (given.patches, given.mattes))
    return mask * colours + (1 - mask) * given.images


def theta_of_canvas(given: Pasting) -> Tensor:
    """From the frame of the whole image to that of the patch, ``(N, 2, 3)``. Boxes other than the image's own have
    ``align_corners=False``."""
    size = given.boxes.new_tensor(given.images.shape[:1:-1])  # (width, height)
    low, high = given.boxes.split(2, dim=1)
    box_from_canvas = torch.diag_embed(size / (high - low))
    centre = ((size - low - high) / (high - low))[..., None]
    linear = given.theta[..., :2]
    return torch.cat([linear @ box_from_canvas, linear @ centre + given.theta[..., 2:]], dim=2)


def patch_on_objects(job: Job) -> Pasting:
    """A patch at the centre of every object, a quarter of its diagonal wide, turned by 20 degrees at most."""
    random, count = torch.Generator().manual_seed(0), job.batch * job.each
    size = torch.tensor([0.1, 0.2]) + torch.tensor([0.25, 0.35]) * torch.rand(count, 2, generator=random)
    centre = job.side * (size / 2 + (1 - size) * torch.rand(count, 2, generator=random))
    half = 0.25 * job.side * size.norm(dim=1, keepdim=True) / 2
    boxes = torch.cat([centre - half, centre + half], dim=1)
    angle = 40 * torch.rand(count, generator=random) - 20
    theta = kp.theta_from_components(angle, torch.ones(count), *torch.zeros(2, count, 2))
    images = torch.rand(job.batch, 3, job.side, job.side, generator=random)
    patch = 0.05 + 0.9 * _pictures(1, job.patch, random)  # 0 would be seen through
    index = torch.zeros(count, dtype=torch.long)
    return Pasting(images, patch, boxes, _owners(job), theta, index)


def sprites_in_layers(job: Job) -> Pasting:
    """Sprites of a small bank, each at about the size that it has, somewhere in its image."""
    random, count = torch.Generator().manual_seed(0), job.batch * job.each
    scale = job.patch / job.side * (0.75 + 0.5 * torch.rand(count, 2, generator=random))
    translate = 0.8 * (torch.rand(count, 2, generator=random) - 0.5)
    angle, shear = 60 * (torch.rand(count, generator=random) - 0.5), 20 * (torch.rand(count, 2, generator=random) - 0.5)
    theta = kp.theta_from_components(angle, scale, translate, shear)
    images = torch.rand(job.batch, 3, job.side, job.side, generator=random)
    bank = _pictures(BANK, job.patch, random)
    index = torch.randint(BANK, (count,), generator=random)
    return Pasting(images, bank, _whole(job), _owners(job), theta, index, _mattes(BANK, job.patch))


def learned_placement(job: Job) -> Pasting:
    """A foreground as large as its image, made a fifth to a half of it, at (x, y) of the room that is left."""
    random = torch.Generator().manual_seed(0)
    scale = 0.2 + 0.3 * torch.rand(job.batch, 1, generator=random)
    place = torch.rand(job.batch, 2, generator=random)
    shift = (1 - 2 * place) * (1 / scale - 1)
    theta = torch.cat([torch.eye(2) / scale[..., None], shift[..., None]], dim=2)
    images = torch.rand(job.batch, 3, job.side, job.side, generator=random)
    patches, mattes = _pictures(job.batch, job.patch, random), _mattes(job.batch, job.patch)
    return Pasting(images, patches, _whole(job), _owners(job), theta, mattes=mattes, align_corners=True)


P1 = Job(
    "P1",
    "a patch on every object",
    patch_on_objects,
    in_slots,
    learned=("patches",),
    batch=4,
    side=416,
    each=6,
    patch=128,
    slots=15,
)
P3 = Job(
    "P3",
    "sprites in layers",
    sprites_in_layers,
    in_layers,
    learned=("patches", "mattes", "theta"),
    batch=32,
    side=128,
    each=6,
    patch=40,
)
P4 = Job(
    "P4",
    "learned placement",
    learned_placement,
    one_each,
    learned=("theta",),
    batch=32,
    side=256,
    each=1,
    patch=256,
)
JOBS = (P1, P3, P4)
SMALL = tuple(
    job._replace(batch=2, side=side, patch=patch)
    for job, side, patch in zip(JOBS, (96, 48, 64), (32, 16, 64), strict=True)
)


def runs(job: Job) -> dict[str, Callable[[Pasting], Tensor]]:
    return {OURS: ours, RIVAL: partial(job.rival, job)}


def learn(run: Callable[[Pasting], Tensor], given: Pasting, learned: tuple[str, ...], weight: Tensor) -> list[Tensor]:
    """Forward, and backward to what is learned, for a fixed weight of every output value."""
    return list(torch.autograd.grad(run(given), [getattr(given, name) for name in learned], weight))


def measured_peak(job: Job, who: str, device: str, count: int) -> int | None:
    """Peak bytes of `learn` beyond the inputs and the output, in a fresh process; None if it did not survive."""
    return in_fresh_process(peak, job, who, device, count)


def peak(job: Job, who: str, device: str, count: int) -> int:
    """The same in this process, which should be fresh."""
    small = next(small for small in SMALL if small.name == job.name)
    with threads(count):
        for each in (small, job):  # the first warms up what a first call brings along
            given = each.inputs(device).learnable(job.learned)
            weight, run = torch.rand_like(given.images), runs(each)[who]
            used = beyond(partial(learn, given=given, learned=job.learned, weight=weight), run, device)
    return used


def _owners(job: Job) -> Tensor:
    return torch.arange(job.batch).repeat_interleave(job.each)


def _whole(job: Job) -> Tensor:
    return torch.tensor([[0.0, 0.0, job.side, job.side]]).repeat(job.batch * job.each, 1)


def _pictures(count: int, side: int, random: torch.Generator) -> Tensor:
    """Smooth ones, in which a position's rounding is not seen: the rivals' comes of coordinates of the whole image."""
    return interpolate(torch.rand(count, 3, side // 4, side // 4, generator=random), (side, side), mode="bilinear")


def _mattes(count: int, side: int) -> Tensor:
    """Discs that fade to 0 before the patch ends, as the masks of objects do."""
    x = torch.linspace(-1, 1, side)
    disc = (4 * (0.95 - torch.hypot(x, x[:, None]))).clamp(0, 1)
    turns = torch.arange(count)[:, None, None] * (2 * math.pi / max(count, 1))
    return (disc * (0.75 + 0.25 * torch.cos(turns + 3 * x)))[:, None]  # (count, 1, side, side)
