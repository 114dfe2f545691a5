"""The pictures, boxes and transforms that several test files share, and how results are compared."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PADDINGS = ["zeros", "border", "reflection", "image", "transparent"]
CROP_PADDINGS = ["zeros", "border", "reflection"]  # those that grid_sample has
MODES = ["bilinear", "nearest"]


class Scene(NamedTuple):
    images: Tensor
    boxes: Tensor
    theta: Tensor
    obj_to_img: Tensor


# Three images of 13 x 17, the last without objects; three deep where they overlap.
INTEGER = [[2, 3, 11, 9], [5, 1, 16, 8], [4, 4, 9, 13], [0, 0, 17, 13], [3, 2, 12, 11]]
BOXES = {
    "integer": INTEGER,
    "fractional": [[2.3, 3.6, 11.2, 8.1], [5.5, 1.25, 15.75, 8.5], [4.1, 4.9, 8.8, 12.3], [0.4, 0.2, 16.9, 12.7]],
    "partly outside": [[-4, -3, 6, 5], [12.5, 8.5, 21.25, 17.5], [-2.5, 9, 4, 20], [-5, -5, 30, 30], [14, -6, 19, 4]],
    "wholly outside": [[-9, 2, -1, 8], [17, 2, 20, 8], [3, 13, 9, 19], [3, -9, 9, 0], [2, 2, 6, 9]],
    "empty": [[4, 4, 4, 9], [5.5, 2, 5.5, 2], [6.25, 3, 6.25, 8], [3, 3, 9, 9]],
    "one pixel": [[4, 5, 5, 6], [7.5, 2.25, 8, 3], [2, 2, 3, 9], [9, 8, 15, 9], [6.75, 4.5, 7.75, 5.5]],
}


def scene(kind: str = "integer", *, seed: int = 0, channels: int = 3, dtype: torch.dtype = torch.float64) -> Scene:
    """A fixed scene with random pixels and transforms; rows alternate between images 0 and 1, in no order."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(BOXES[kind], dtype=dtype)
    count = len(boxes)
    images = torch.rand(3, channels, 13, 17, generator=generator, dtype=torch.float64)
    wobble = 0.35 * torch.randn(count, 2, 3, generator=generator, dtype=torch.float64)
    theta = torch.eye(2, 3, dtype=torch.float64) + wobble
    obj_to_img = torch.tensor([1, 0, 1, 1, 0, 1])[:count]
    return Scene(images.to(dtype), boxes, theta.to(dtype), obj_to_img)


def mattes(count: int, *, seed: int = 1, size: tuple[int, int] = (4, 6)) -> dict[str, Tensor | None]:
    """The three forms of alpha."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "none": None,
        "number": torch.rand(count, generator=generator, dtype=torch.float64),
        "matte": torch.rand(count, 1, *size, generator=generator, dtype=torch.float64),
    }


def assert_close(actual: Tensor, expected, tolerance: float) -> None:
    """Fail if any value differs by more than ``tolerance``, is not a number, or the shapes differ."""
    expected = np.asarray(expected.detach() if isinstance(expected, Tensor) else expected)
    actual = actual.detach().double().numpy()
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    difference = np.abs(actual - expected)
    assert (difference <= tolerance).all(), (
        f"off by {difference.max()} at {np.argwhere(~(difference <= tolerance))[:3]}"
    )
