"""The checks of single arguments: name, what was expected, what came, the first wrong row, the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kornia_patchaug.dtypes import working_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

# float32 cannot tell neighbouring pixels apart beyond this coordinate.
MAX_COORDINATE = 2.0**24
COUNTED = {"obj_to_img": "an image index", "classes": "a class index"}


def check_images(name: str, images: Tensor) -> None:
    """Raise unless ``images`` is a floating ``(B, C, H, W)`` tensor."""
    if not isinstance(images, Tensor):
        raise TypeError(f"{name}: expected a (B, C, H, W) tensor, got {type(images).__name__}.")
    if not images.is_floating_point():
        raise TypeError(f"{name}: expected a floating dtype, got {images.dtype}. Use {name}.float() / 255 for bytes.")
    if images.ndim != 4 or min(images.shape[1:]) < 1:
        raise ValueError(f"{name}: expected shape (B, C, H, W) with channels and pixels, got {tuple(images.shape)}.")


def check_theta(theta: Tensor, count: int | None = None) -> Tensor:
    """Return ``theta`` as ``(N, 2, 3)`` in float32 at least, or raise."""
    if not isinstance(theta, Tensor) or not theta.is_floating_point():
        raise TypeError(f"theta: expected a floating (N, 6) or (N, 2, 3) tensor, got {describe(theta)}.")
    if theta.shape[1:] not in ((6,), (2, 3)):
        raise ValueError(f"theta: expected shape (N, 6) or (N, 2, 3), got {tuple(theta.shape)}.")
    if count is not None and len(theta) != count:
        raise ValueError(f"theta: expected one row a box ({count}), got {len(theta)}.")
    return theta.reshape(-1, 2, 3).to(working_dtype(theta))


def check_boxes(boxes: Tensor, count: int | None = None) -> Tensor:
    """Return flat ``boxes`` as floating ``(N, 4)``, or raise; values are checked too."""
    check_numeric("boxes", boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected shape (N, 4), got {tuple(boxes.shape)}.")
    if count is not None and len(boxes) != count:
        raise ValueError(f"boxes: expected one row a theta ({count}), got {len(boxes)}.")
    boxes = boxes.to(working_dtype(boxes))
    check_box_values(boxes.detach().cpu().double().numpy())
    return boxes


def check_theta_values(host: NDArray[np.float64]) -> None:
    """Raise unless the ``(N, 6)`` thetas on the host are finite."""
    bad = first_row(~np.isfinite(host))
    if bad is not None:
        raise ValueError(f"theta: expected finite values, got {host[bad].tolist()} in row {bad}.")


def check_device(name: str, value: Tensor, images: Tensor) -> None:
    """Raise unless ``value`` is where the images are."""
    if value.device != images.device:
        raise ValueError(
            f"{name}: expected the images' device {images.device}, got {value.device}. Use {name}.to(images.device)."
        )


def check_option(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise unless ``value`` is one of ``allowed``."""
    if not any(value is option or value == option for option in allowed):
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}.")


def check_size(name: str, size: object) -> tuple[int, int]:
    """Return ``size`` as ``(height, width)`` ints, or raise."""
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise ValueError(f"{name}: expected (height, width), two integers above 0, got {size!r}.")
    return int(size[0]), int(size[1])


def check_numeric(name: str, value: object) -> None:
    """Raise unless ``value`` is an integer or floating tensor."""
    if not isinstance(value, Tensor) or value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name}: expected an integer or floating tensor, got {describe(value)}.")


def check_index(index: Tensor, count: int, name: str = "obj_to_img") -> Tensor:
    """Return ``index``, of an image or a class for each box, as int64 ``(N,)``, or raise."""
    integer = isinstance(index, Tensor) and not (
        index.is_floating_point() or index.is_complex() or index.dtype == torch.bool
    )
    if not integer:
        raise TypeError(f"{name}: expected an integer (N,) tensor, got {describe(index)}.")
    if index.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), {COUNTED[name]} for each box, got {tuple(index.shape)}.")
    return index.long()


def check_alpha(alpha: Tensor, count: int) -> None:
    """Raise unless ``alpha`` is a floating ``(N,)`` or ``(N, 1, h, w)``."""
    if not isinstance(alpha, Tensor) or not alpha.is_floating_point():
        raise TypeError(f"alpha: expected a floating (N,) or (N, 1, h, w) tensor, got {describe(alpha)}.")
    matte = alpha.ndim == 4 and alpha.shape[:2] == (count, 1) and min(alpha.shape[2:]) > 0
    if alpha.shape != (count,) and not matte:
        raise ValueError(f"alpha: expected shape ({count},) or ({count}, 1, h, w), got {tuple(alpha.shape)}.")


def check_box_values(host: NDArray[np.float64]) -> None:
    """Raise unless the float64 ``(N, 4)`` boxes on the host are finite, ordered and countable."""
    bad = first_row(~np.isfinite(host))
    if bad is not None:
        raise ValueError(f"boxes: expected finite values, got {host[bad].tolist()} in row {bad}.")
    bad = first_row(host[:, 2:] < host[:, :2])
    if bad is not None:
        raise ValueError(
            f"boxes: expected x1 y1 x2 y2 with x2 >= x1 and y2 >= y1, got {host[bad].tolist()} in row {bad}. "
            "Boxes as corner and size go through convert_boxes(boxes, 'xywh', 'xyxy')."
        )
    bad = first_row(abs(host) > MAX_COORDINATE)
    if bad is not None:
        raise ValueError(
            f"boxes: expected pixels within +-{MAX_COORDINATE:.0f}, got {host[bad].tolist()} in row {bad}."
        )


def check_range(host: NDArray[np.integer], size: int, name: str = "obj_to_img") -> None:
    """Raise unless every index on the host is one of ``size`` images or classes."""
    bad = first_row((host < 0) | (host >= size))
    if bad is not None:
        raise ValueError(f"{name}: expected {COUNTED[name]} in [0, {size}), got {int(host[bad])} in row {bad}.")


def first_row(bad: NDArray[np.bool_]) -> int | None:
    """The first row of ``bad (N, ...)`` with a True in it, or None."""
    return int(bad.nonzero()[0][0]) if bad.any() else None


def describe(value: object) -> str:
    """What came, for an error text."""
    return (
        f"a {value.dtype} tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    )
