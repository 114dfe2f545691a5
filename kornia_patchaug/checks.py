"""Checks of single arguments: each raises or returns None.

Texts name the argument, what was expected, what came, the first wrong row and the remedy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

# float32 cannot tell neighbouring pixels apart beyond this coordinate.
MAX_COORDINATE = 2.0**24
COUNTED = {
    "obj_to_img": "an image index",
    "classes": "a class index",
    "patch_index": "a patch index",
    "source_to_img": "the index of a source picture",
}


def _is_wrapped(value: Tensor) -> bool:
    """Whether a tensor is inside a transform of torch.func."""
    if hasattr(torch.func, "debug_unwrap"):
        return torch.func.debug_unwrap(value, recurse=False) is not value
    return torch._C._functorch.is_functorch_wrapped_tensor(value)  # torch 2.6


def check_images(name: str, images: Tensor) -> None:
    """Raise unless ``images`` is a floating ``(B, C, H, W)`` tensor with sides that float32 can count."""
    if not isinstance(images, Tensor):
        raise TypeError(f"{name}: expected a (B, C, H, W) tensor, got {type(images).__name__}.")
    if not images.is_floating_point():
        raise TypeError(f"{name}: expected a floating dtype, got {images.dtype}. Use {name}.float() / 255 for bytes.")
    shape = images.shape
    if len(shape) != 4 or min(shape[1:]) < 1:
        raise ValueError(f"{name}: expected shape (B, C, H, W) with channels and pixels, got {tuple(shape)}.")
    if max(shape[2:]) > MAX_COORDINATE:
        raise ValueError(
            f"{name}: expected sides of at most {MAX_COORDINATE:.0f} pixels, got {tuple(shape)}. Cut it into tiles."
        )


def check_readable(name: str, value: Tensor) -> None:
    """Raise unless the tensor's values can be read, on whatever device."""
    if value.is_meta:
        raise ValueError(
            f"{name}: expected a tensor with values, got one on the device meta. Sizes of windows follow from values: "
            "move the tensors to a device that holds them. torch.compile needs no meta tensors from you."
        )
    if _is_wrapped(value):
        raise TypeError(
            f"{name}: expected a tensor whose values can be read, got one inside a transform of torch.func (grad, vjp, "
            "jvp, vmap, ...), which this function cannot be in: sizes of windows follow from values. For gradients use "
            "torch.autograd.grad; for vmap, put the batches into one."
        )


def check_theta(theta: Tensor, count: int | None = None, name: str = "theta") -> None:
    """Raise unless ``theta`` is a floating ``(N, 6)`` or ``(N, 2, 3)``, with N = ``count`` if that is given."""
    if not isinstance(theta, Tensor) or not theta.is_floating_point():
        raise TypeError(f"{name}: expected a floating (N, 6) or (N, 2, 3) tensor, got {describe(theta)}.")
    shape = theta.shape
    if shape[1:] not in ((6,), (2, 3)):
        raise ValueError(f"{name}: expected shape (N, 6) or (N, 2, 3), got {tuple(shape)}.")
    if count is not None and shape[0] != count:
        raise ValueError(f"{name}: expected one row a box ({count}), got {shape[0]}.")


def check_boxes(
    boxes: Tensor, count: int | None = None, *, name: str = "boxes", expected: str = "shape (N, 4)"
) -> None:
    """Raise unless ``boxes`` is a numeric ``(N, 4)``, with N = ``count`` if that is given; values are not read.

    ``expected`` is what the text says instead, where a caller takes other forms too.
    """
    check_numeric(name, boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name}: expected {expected}, got {tuple(boxes.shape)}.")
    if count is not None and len(boxes) != count:
        raise ValueError(f"{name}: expected one row a theta ({count}), got {len(boxes)}.")


def check_theta_values(host: NDArray[np.floating]) -> None:
    """Raise unless the thetas on the host, one a row, are finite."""
    _check_rows("theta", host, ~np.isfinite(host), "finite values")


def check_device(name: str, value: Tensor, images: Tensor, *, or_host: bool = False) -> None:
    """Raise unless ``value`` is where the images are, or on the CPU where that will do."""
    if value.device != images.device and not (or_host and value.is_cpu):
        where = f"{images.device} or the CPU" if or_host and not images.is_cpu else f"{images.device}"
        raise ValueError(
            f"{name}: expected the images' device {where}, got {value.device}. Use {name}.to(images.device)."
        )


def check_option(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}.")


def check_unit(name: str, value: object, expected: str) -> None:
    """Raise unless ``value`` is a number from 0 to 1."""
    if not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise ValueError(f"{name}: expected {expected} in [0, 1], got {value!r}.")


def check_numeric(name: str, value: object) -> None:
    """Raise unless ``value`` is an integer or floating tensor."""
    if not isinstance(value, Tensor) or value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name}: expected an integer or floating tensor, got {describe(value)}.")


def check_index(name: str, value: Tensor, count: int) -> None:
    """Raise unless ``value`` is an integer ``(count,)``, of an image or a class for each box; values are not read."""
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name}: expected an integer (N,) tensor, got {describe(value)}.")
    if value.shape != (count,):
        raise ValueError(f"{name}: expected shape ({count},), {COUNTED[name]} for each box, got {tuple(value.shape)}.")


def check_index_values(name: str, host: NDArray[np.number], size: int) -> None:
    """Raise unless every index on the host is one of ``size`` images or classes."""
    _check_rows(name, host, (host < 0) | (host >= size), f"{COUNTED[name]} in [0, {size})")


def check_alpha(alpha: Tensor, count: int, size: tuple[int, int]) -> None:
    """Raise unless ``alpha`` is a floating ``(N,)`` or ``(N, 1, h, w)``, or masks of the pictures' size, bool too."""
    height, width = size
    if not isinstance(alpha, Tensor) or not (
        alpha.is_floating_point() or (alpha.dtype == torch.bool and alpha.ndim == 3)
    ):
        raise TypeError(
            f"alpha: expected a floating (N,) or (N, 1, h, w) tensor, or masks (N, {height}, {width}), bool or "
            f"floating, got {describe(alpha)}."
        )
    matte = alpha.ndim == 4 and alpha.shape[:2] == (count, 1) and min(alpha.shape[2:]) > 0
    if tuple(alpha.shape) not in ((count,), (count, height, width)) and not matte:
        raise ValueError(
            f"alpha: expected shape ({count},), ({count}, 1, h, w) or, of masks over the pictures that are read, "
            f"{(count, height, width)}, got {tuple(alpha.shape)}."
        )


def check_box_values(host: NDArray[np.float64], name: str = "boxes") -> None:
    """Raise unless the float64 ``(N, 4)`` boxes on the host are finite, ordered and countable."""
    _check_rows(name, host, ~np.isfinite(host), "finite values")
    remedy = " Boxes as corner and size go through convert_boxes(boxes, 'xywh', 'xyxy')."
    _check_rows(name, host, host[:, 2:] < host[:, :2], "x1 y1 x2 y2 with x2 >= x1 and y2 >= y1", remedy)
    _check_rows(name, host, abs(host) > MAX_COORDINATE, f"pixels within +-{MAX_COORDINATE:.0f}")


_largest, _least = np.maximum.reduce, np.minimum.reduce  # as the methods of arrays, without their wrappers


def check_values(
    boxes: NDArray[np.float64], theta: NDArray[np.float64], image: NDArray[np.number], batch_size: int
) -> None:
    """The checks of boxes ``(N, 4)``, theta ``(N, 2, 3)`` and image indices ``(N,)`` on the host, all at a glance."""
    if not len(boxes):
        return
    fine = _largest(abs(boxes), None) <= MAX_COORDINATE and _least(boxes[:, 2:] - boxes[:, :2], None) >= 0
    fine = fine and _least(image) >= 0 and _largest(image) < batch_size
    if not (fine and math.isfinite(_largest(abs(theta), None))):
        check_box_values(boxes)
        check_index_values("obj_to_img", image, batch_size)
        check_theta_values(theta)


def check_units(host: NDArray[np.float64], floating: bool, height: int, width: int) -> None:
    """Warn if no box ``(N, 4)`` on the host is one of an image of that height and width in pixels, by the look of it.

    Floating boxes in [0, 1] are likely shares of the image's size: one object may be that small, but is not expected to
    be. Two or more boxes outside their images were likely measured in others; one alone may have been cropped away.
    Boxes without area are padding, or objects that stay as they are.
    """
    if not len(host):
        return
    x1, y1, x2, y2 = host[0].tolist()
    if max(x1, 1) < x2 and max(y1, 1) < y2 and x1 < width and y1 < height:
        return  # the first box alone shows it, in most calls
    boxes = host[(host[:, 2:] > host[:, :2]).all(1)]
    if not len(boxes):
        return
    if floating and height * width > 1 and boxes.min() >= 0 and boxes.max() <= 1:
        warn_once(
            "boxes: expected x1 y1 x2 y2 in pixels, got boxes that all lie within [0, 1], the first pixel. If they are "
            'shares of the width and height, pass convert_boxes(boxes, "xyxyn", "xyxy", size=(H, W)).'
        )
    elif len(boxes) > 1 and ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= (width, height))).any(1).all():
        warn_once(
            "boxes: expected x1 y1 x2 y2 in pixels of the images as they are passed, got boxes that all lie wholly "
            "outside their images, where nothing is painted. If the images were resized, the boxes have to be, too."
        )


@cache  # of a text that was shown; one that a filter turned into an error is raised again
def warn_once(text: str) -> None:
    """Warn, once a process."""
    warnings.warn(text, UserWarning, stacklevel=2)


def _check_rows(name: str, host: NDArray[np.number], bad: NDArray[np.bool_], expected: str, remedy: str = "") -> None:
    """Raise for the first row of ``host (N, ...)`` that is ``bad`` in one place or more."""
    if bad.any():
        row = int(bad.nonzero()[0][0])
        got = int(host[row]) if host.ndim == 1 else host[row].ravel().tolist()
        raise ValueError(f"{name}: expected {expected}, got {got} in row {row}.{remedy}")


def describe(value: object) -> str:
    """What came, for an error text."""
    return (
        f"a {value.dtype} tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    )
