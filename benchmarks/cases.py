"""The scenes that are measured: images, and objects of random integer boxes inside them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Case(NamedTuple):
    """How many square images of which side, and how many objects of which sides."""

    name: str
    batch: int
    side: int
    objects: int
    sides: tuple[int, int]  # of the boxes, both ends included

    @property
    def patch_side(self) -> int:
        """The common size that the Kornia idiom resizes to: the middle of the range, in favour of neither end."""
        return sum(self.sides) // 2

    def __str__(self) -> str:
        low, high = self.sides
        sides = str(low) if low == high else f"{low}-{high}"
        return f"{self.name}: {self.batch}x3x{self.side}x{self.side}, {self.objects} objects of {sides}"


class Scene(NamedTuple):
    """The arguments of `affine_patches`."""

    images: Tensor  # (B, 3, H, W)
    boxes: Tensor  # (N, 4) integer
    theta: Tensor  # (N, 2, 3)
    obj_to_img: Tensor  # (N,)

    def first(self, count: int) -> Scene:
        """The same images with the first objects only."""
        return self._replace(
            boxes=self.boxes[:count], theta=self.theta[:count].clone(), obj_to_img=self.obj_to_img[:count]
        )

    def learnable(self) -> Scene:
        """The same scene with gradients to images and theta."""
        return self._replace(
            images=self.images.detach().requires_grad_(), theta=self.theta.detach().clone().requires_grad_()
        )

    @property
    def area(self) -> int:
        """The total window area in pixels."""
        return int((self.boxes[:, 2:] - self.boxes[:, :2]).prod(1).sum())


TINY = Case("tiny", 2, 48, 5, (8, 16))  # warms up what a first call brings along
CASES = (
    Case("S", 2, 64, 10, (12, 40)),
    Case("M", 8, 512, 80, (64, 160)),
    Case("L", 4, 1024, 400, (32, 64)),
    Case("XL", 2, 1024, 16, (256, 512)),
)
CUDA_CASES = (*CASES, Case("M64", 64, 512, 640, (64, 160)))  # M with eight times its images and objects
ONE_IMAGE = Case("1", 1, 1024, 8, (256, 512))


def growing(objects: int) -> Case:
    """So many objects of the same area in the same images."""
    return Case("growth", 4, 1024, objects, (48, 48))


def make_scene(case: Case, device: str = "cpu", seed: int = 0) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(case.batch, 3, case.side, case.side, generator=generator)
    low, high = case.sides
    size = torch.randint(low, high + 1, (case.objects, 2), generator=generator)
    corner = (torch.rand(case.objects, 2, generator=generator) * (case.side - size + 1)).long()
    theta = torch.eye(2, 3) + 0.1 * torch.randn(case.objects, 2, 3, generator=generator)
    boxes, obj_to_img = torch.cat([corner, corner + size], dim=1), torch.arange(case.objects) % case.batch
    return Scene(*(tensor.to(device) for tensor in (images, boxes, theta, obj_to_img)))
