"""A model whose augmentation learns, for the tests of training steps."""

import torch
from torch import nn

import kornia_patchaug as kp
from support.kornia_scenes import OBJ_TO_IMG, SQUARES, picture

INPUTS = {"images": picture(), "boxes": SQUARES, "obj_to_img": OBJ_TO_IMG, "classes": torch.tensor([0, 1, 1])}


class Model(nn.Module):
    """Learnable ranges, a row per class, and something to train behind them."""

    def __init__(self, **options):
        super().__init__()
        ranges = {"translate": [[0.1, 0.1], [0.2, 0.05]], "scale": (0.8, 1.2), "shear": 5.0}
        self.augment = kp.RandomPatchAffine([[10.0], [20.0]], **ranges, p=1.0, learnable=True, **options)
        self.head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 24 * 32, 1))

    def forward(self, images, boxes, obj_to_img, classes):
        return self.head(self.augment(images, boxes, obj_to_img=obj_to_img, classes=classes)).square().mean()


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
