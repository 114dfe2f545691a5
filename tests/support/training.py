"""Models whose augmentation, or what is pasted, learns, for the tests of training steps."""

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


class Patches(nn.Module):
    """A bank of patches, how each is laid, how opaque it is, what is left behind, and how much is seen: all learn."""

    def __init__(self):
        super().__init__()
        self.bank, self.fill = nn.Parameter(torch.rand(2, 3, 5, 6)), nn.Parameter(torch.rand(3))
        self.theta = nn.Parameter(torch.eye(2, 3) + 0.2 * torch.randn(2, 2, 3))
        self.alpha = nn.Parameter(0.5 + 0.5 * torch.rand(2))

    def forward(self, images, boxes, obj_to_img, classes):
        theta, alpha = self.theta[classes], self.alpha[classes]
        moved = kp.affine_patches(images, boxes, theta, obj_to_img, fill=self.fill, clip=False)
        options = {"theta": theta, "patch_index": classes, "alpha": alpha, "clip": False}
        pasted = kp.paste_patches(moved, self.bank, boxes, obj_to_img, **options)
        seen = kp.visible_share(boxes, theta, obj_to_img, size=images.shape[2:], alpha=alpha, clip=False)
        return 30 * pasted.square().mean() + seen.sum() / len(images)


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
