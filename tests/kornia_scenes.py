"""What the tests of the Kornia classes share: a scene of squares, and expectations made of slices, torch and Kornia.

A quarter turn of a square patch is `torch.rot90`, so the expected pixels, boxes and points need no interpolation.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torch.utils.data import Dataset, get_worker_info

import kornia_patchaug as kp

HEIGHT, WIDTH = 26, 34

# Half-open squares, the first two overlapping; far enough from the border for every crop that the tests make.
SQUARES = torch.tensor([[9, 7, 17, 15], [14, 9, 24, 19], [10, 8, 22, 20]])
OBJ_TO_IMG = torch.tensor([0, 0, 1])
# The same for Kornia: the last pixel included, one row of padding.
PADDED = torch.tensor([[[9.0, 7, 16, 14], [14, 9, 23, 18]], [[10, 8, 21, 19], [0, 0, 0, 0]]])
# In the first square, in both, in none; in the square of image 1, twice, and where only image 0 has one.
POINTS = torch.tensor([[[10.0, 8], [15, 12], [30, 2]], [[11, 10], [20, 19], [9, 7]]])
TURNED_POINTS = torch.tensor([[[15.0, 8], [20, 10], [30, 2]], [[19, 9], [10, 18], [9, 7]]])

QUARTER = {"degrees": (90.0, 90.0)}  # clockwise as displayed, as in Kornia's RandomAffine


def picture(batch: int = 2, channels: int = 3, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random pixels, (B, C, 26, 34)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, HEIGHT, WIDTH, generator=generator).to(dtype)


def quarter_turn(crop: Tensor) -> Tensor:
    """Turn the pixels of a square clockwise."""
    return torch.rot90(crop, -1, (-2, -1))


def grid_warp(theta: Tensor, **options) -> Callable[[Tensor], Tensor]:
    """Warp a crop by one theta, with torch alone."""
    options = {"align_corners": False, **options}

    def warp(crop: Tensor) -> Tensor:
        grid = affine_grid(theta.reshape(1, 2, 3), list(crop.shape), align_corners=options["align_corners"])
        return grid_sample(crop, grid, **options)

    return warp


def painted(images: Tensor, boxes: Tensor, obj_to_img: Tensor, *warps: Callable, sequential: bool = False) -> Tensor:
    """The loop of slice assignments; one warp for all objects, or one each."""
    output = images.clone()
    warps = warps * len(boxes) if len(warps) == 1 else warps
    for (x1, y1, x2, y2), b, warp in zip(boxes.int().tolist(), obj_to_img.tolist(), warps, strict=True):
        source = output if sequential else images
        output[b, :, y1:y2, x1:x2] = warp(source[b : b + 1, :, y1:y2, x1:x2].clone())[0]
    return output


def turned_points(points: Tensor, boxes: Tensor, obj_to_img: Tensor) -> Tensor:
    """Points (B, K, 2) after clockwise quarter turns: each with the last square of its image that holds it."""
    moved = points.clone()
    for image, x, y in ((b, *point.tolist()) for b, rows in enumerate(points) for point in rows):
        for (x1, y1, x2, y2), b in zip(boxes.tolist(), obj_to_img.tolist(), strict=True):
            if b == image and x1 <= x < x2 and y1 <= y < y2:
                row = (points[image] == torch.tensor([x, y])).all(1)
                moved[image, row] = torch.tensor([x1 + x2 - 1 - (y - y1 + x1), y1 + x - x1])
    return moved


def half_open(boxes: Tensor) -> Tensor:
    """Kornia's boxes (..., 4), last pixel included, as half-open ones (N, 4), without rows of padding."""
    flat = boxes.reshape(-1, 4)
    return (flat + torch.tensor([0, 0, 1, 1]))[flat.any(1)].round()


def near(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Fail if a value differs by more than ``tolerance``, or shape or dtype differ."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def same(actual: Tensor, expected: Tensor) -> None:
    """Fail unless all bits that matter are the same."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


class WarpedPictures(Dataset):
    """Warps each picture as it is loaded; gives the draw and the worker's seed along."""

    def __init__(self, augmentation: kp.RandomPatchAffine) -> None:
        self.augmentation = augmentation
        self.pictures = picture(4)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        worker = get_worker_info()
        warped = self.augmentation(self.pictures[index], SQUARES[:2])
        return warped, self.augmentation._params["theta"][0], -1 if worker is None else worker.seed
