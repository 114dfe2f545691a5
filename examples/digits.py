"""The handwritten digits that scikit-learn ships, split once, and canvases of them."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

import kornia_patchaug as kp

CELL, DIGIT = 24, 16  # pixels: the side of an object's box, and of the digit in the middle of it


def split_digits(test_share: float = 0.3) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Train and test ``(digits (M, 1, 8, 8) in [0, 1], labels (M,))``: the same split always, no digit in both."""
    digits, labels = load_digits(return_X_y=True)
    digits = torch.tensor(digits, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    train, test = train_test_split(torch.arange(len(labels)), test_size=test_share, random_state=0, stratify=labels)
    return (digits[train], labels[train]), (digits[test], labels[test])


def draw_canvases(digits: Tensor, theta: Tensor, side: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Canvases of ``side`` x ``side`` cells, a digit in the middle of each, warped by its own theta.

    Args:
        digits: ``(N, 1, 8, 8)``; the last canvas is filled up with black.
        theta: ``(N, 2, 3)`` or ``(N, 6)``, in the frame of the cell.

    Returns:
        images ``(B, 1, S, S)``, the cells as boxes ``(N, 4)``, obj_to_img ``(N,)``.
    """
    rows = torch.arange(len(digits))
    obj_to_img, cell = rows // side**2, rows % side**2
    corner = CELL * torch.stack([cell % side, cell // side], dim=1)
    images = torch.zeros(-(-len(digits) // side**2), 1, side * CELL, side * CELL)
    margin = (CELL - DIGIT) // 2
    inner = torch.cat([corner + margin, corner + margin + DIGIT], dim=1)
    boxes = torch.cat([corner, corner + CELL], dim=1)
    images = kp.paste_patches(images, digits, inner, obj_to_img)
    return kp.affine_patches(images, boxes, theta, obj_to_img), boxes, obj_to_img
