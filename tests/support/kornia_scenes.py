"""What the tests of the Kornia classes share: scenes of squares, and expectations made of slices, torch and Kornia.

A quarter turn of a square patch is `torch.rot90`, so the expected pixels, boxes and points need no interpolation.
"""

from collections.abc import Callable

import kornia.augmentation as K
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torch.utils.data import Dataset, get_worker_info

import kornia_patchaug as kp

HEIGHT, WIDTH = 26, 34

# Half-open squares, the first two overlapping, large ones first, so that rows are painted in order; far enough from the
# border for every crop that the tests make.
SQUARES = torch.tensor([[9, 7, 17, 15], [14, 9, 21, 16], [10, 8, 22, 20]])
OBJ_TO_IMG = torch.tensor([0, 0, 1])
# The same for Kornia, the last pixel included, with a row of padding; and with a fourth square in its place.
PADDED = torch.tensor([[[9.0, 7, 16, 14], [14, 9, 20, 15]], [[10, 8, 21, 19], [0, 0, 0, 0]]])
XYXY = torch.tensor([[[9.0, 7, 16, 14], [14, 9, 20, 15]], [[10, 8, 21, 19], [12, 14, 17, 19]]])
TWO_EACH = torch.tensor([0, 0, 1, 1])
# In the first square, in both, in none; in the large square of image 1, in both, and where only image 0 has one.
POINTS = torch.tensor([[[10.0, 8], [15, 12], [30, 2]], [[11, 10], [16, 19], [9, 7]]])
MASKS = torch.randint(0, 5, (2, 1, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2))

QUARTER = {"degrees": (90.0, 90.0)}  # clockwise as displayed, as in Kornia's RandomAffine

BOX_KEYS = {
    "bbox": lambda xyxy: xyxy[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*xyxy.shape[:-1], 4, 2),
    "bbox_xyxy": lambda xyxy: xyxy.clone(),
    "bbox_xywh": lambda xyxy: torch.cat([xyxy[..., :2], xyxy[..., 2:] - xyxy[..., :2] + 1], dim=-1),
}
ALL_KEYS = ["input", "mask", *BOX_KEYS, "keypoints", "class"]


def picture(batch: int = 2, channels: int = 3, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random pixels, (B, C, 26, 34)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, HEIGHT, WIDTH, generator=generator).to(dtype)


def everything() -> dict[str, Tensor]:
    """One value a data key, two squares an image."""
    data = {"image": picture(), "mask": MASKS.clone(), **{key: convert(XYXY) for key, convert in BOX_KEYS.items()}}
    return {**data, "keypoints": POINTS.clone(), "label": torch.tensor([3, 8])}


def turned(data: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a quarter turn of every object makes of everything, by slices: squares stay where they are."""
    boxes = half_open(data["bbox_xyxy"])
    moved = {key: painted(data[key], boxes, TWO_EACH, quarter_turn) for key in ("image", "mask")}
    return {**data, **moved, "keypoints": turned_points(data["keypoints"], boxes, TWO_EACH)}


def hard_mattes(shape: str, count: int = 1) -> Tensor:
    """What labels are cut by: hard within 126 of 128 pixels, and nothing along the edge, which goes on beyond it."""
    found = torch.zeros(count, 1, 128, 128)
    found[:, :, 1:-1, 1:-1] = kp.soft_mattes(count, 126, shape=shape, feather=0.0)
    return found


def by_kornia(children: list, data: dict[str, Tensor], params=None) -> dict[str, Tensor]:
    """What Kornia's own container makes of it."""
    return K.AugmentationSequential(*children, data_keys=None)(data, params=params) if children else data


def quarter_turn(crop: Tensor) -> Tensor:
    """Turn the pixels of a square clockwise."""
    return torch.rot90(crop, -1, (-2, -1))


def turned_points(points: Tensor, boxes: Tensor, obj_to_img: Tensor) -> Tensor:
    """Points (B, K, 2) after clockwise quarter turns: each with the last square of its image that holds it."""
    moved = points.clone()
    for image, k in torch.cartesian_prod(torch.arange(len(points)), torch.arange(points.shape[1])).tolist():
        x, y = points[image, k].tolist()
        for (x1, y1, x2, y2), b in zip(boxes.tolist(), obj_to_img.tolist(), strict=True):
            if b == image and x1 <= x < x2 and y1 <= y < y2:
                moved[image, k] = torch.tensor([x2 - 1 - (y - y1), y1 + (x - x1)])
    return moved


def grid_warp(theta: Tensor, **options) -> Callable[[Tensor], Tensor]:
    """Warp a crop by one theta, with torch alone."""
    options = {"align_corners": False, **options}

    def warp(crop: Tensor) -> Tensor:
        grid = affine_grid(theta.reshape(1, 2, 3), list(crop.shape), align_corners=options["align_corners"])
        return grid_sample(crop, grid, **options)

    return warp


def painted(images: Tensor, boxes: Tensor, obj_to_img: Tensor, *warps: Callable) -> Tensor:
    """The loop of slice assignments, every crop from the input; one warp for all objects, or one each."""
    output = images.clone()
    warps = warps * len(boxes) if len(warps) == 1 else warps
    for (x1, y1, x2, y2), b, warp in zip(boxes.int().tolist(), obj_to_img.tolist(), warps, strict=True):
        output[b, :, y1:y2, x1:x2] = warp(images[b : b + 1, :, y1:y2, x1:x2].clone())[0]
    return output


def half_open(boxes: Tensor) -> Tensor:
    """Kornia's boxes (..., 4), last pixel included, as half-open ones (N, 4), without rows of padding."""
    flat = boxes.reshape(-1, 4)
    return (flat + torch.tensor([0, 0, 1, 1]))[flat.any(1)].round()


def near(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Fail if a value differs by more than ``tolerance``, or shape or dtype differ."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def same(actual: Tensor, expected: Tensor) -> None:
    """Fail unless all values are equal, and shape and dtype."""
    near(actual, expected, 0)


def same_data(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Fail unless keys, their order and all values are the same."""
    assert list(actual) == list(expected)
    for key in expected:
        near(actual[key], expected[key], tolerance)


# What a draw did, read off theta in pixels, output to input.
READ_OFF = {
    "all": lambda theta: theta,
    "angle": lambda theta: torch.rad2deg(torch.atan2(theta[:, 0, 1], theta[:, 0, 0])),
    "x shift": lambda theta: -theta[:, 0, 2],
    "y shift": lambda theta: -theta[:, 1, 2],
    "x scale": lambda theta: 1 / theta[:, 0, 0],
    "y scale": lambda theta: 1 / theta[:, 1, 1],
    "x shear": lambda theta: torch.rad2deg(theta[:, 0, 1].atan()),
    "y shear": lambda theta: torch.rad2deg(theta[:, 1, 0].atan()),
}


def drawn(augmentation: kp.RandomPatchAffine, name: str) -> Tensor:
    """What it draws for 2000 boxes of 8 x 12, outside the image, where there is nothing to paint."""
    augmentation(torch.zeros(1, 1, HEIGHT, WIDTH), torch.tensor([[94, 2, 106, 10]]).expand(2000, 4))
    in_box = augmentation._params["theta"][0].detach().double()
    return READ_OFF[name](in_box * torch.tensor([[1, 6 / 4, 6], [4 / 6, 1, 4]]))  # half sizes 6 and 4


def fills(values: Tensor, low: float, high: float) -> None:
    """Fail unless a uniform sample lies in its range, comes near both ends, and has the right mean."""
    reach = high - low
    assert low - 1e-4 <= values.min() <= low + 0.02 * reach + 1e-4
    assert high - 0.02 * reach - 1e-4 <= values.max() <= high + 1e-4
    assert abs(values.mean() - (low + high) / 2) <= 0.05 * reach + 1e-4


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
