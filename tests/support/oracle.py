"""The definition of `affine_patches`, `crop_patches` and `paste_patches` in scalar float64 loops: the tests' oracle.

It is written from the design alone and shares nothing with the library. numpy stores arrays; all arithmetic is on
Python floats, one pixel, one tap and one channel at a time. Slow on purpose.

Column i of an image spans [i, i+1), its centre is i + 0.5. A *point* (x, y) is in pixels; an *index* is a point less
0.5, so that integers are pixel centres. A *rect* is (x0, y0, x1, y1), half-open, in whole pixels.
"""

import math
from typing import Any

import numpy as np

Box = list[float]  # x1 y1 x2 y2
Rect = tuple[int, int, int, int]

KEEPS_OUT = ("zeros", "transparent")  # padding modes under which a tap beyond the limits does not exist


# --- one axis ---------------------------------------------------------------------------------------------------------


def clamp(x, low, high):
    """The number in [low, high] that is nearest to x."""
    return min(max(x, low), high)


def overlap(i: int, low: float, high: float) -> float:
    """The length that the pixel [i, i+1) shares with [low, high)."""
    return max(0.0, min(i + 1.0, high) - max(float(i), low))


def half_size(low: float, high: float, align_corners: bool) -> float:
    """The distance in pixels from the centre of a box (frame 0) to its frame +1."""
    return max(high - low - 1.0, 0.0) / 2 if align_corners else (high - low) / 2


def frame_from_point(x: float, low: float, high: float, align_corners: bool) -> float:
    """Box-frame coordinate of x: -1 and +1 are the box's edges, or with align_corners its end pixels' centres."""
    half = half_size(low, high, align_corners)
    return (x - (low + high) / 2) / half if half > 0 else 0.0


def index_from_frame(u: float, n: int, align_corners: bool) -> float:
    """The index, among n pixels laid over the box, of the box-frame coordinate u."""
    return (u + 1) / 2 * (n - 1) if align_corners else ((u + 1) * n - 1) / 2


def crop_point(k: int, n: int, low: float, high: float, align_corners: bool) -> float:
    """The point that pixel k of n reads when the box is cropped at n pixels."""
    if not align_corners:
        return low + (k + 0.5) * (high - low) / n
    from_centre = 2 * k / (n - 1) - 1 if n > 1 else 0.0
    return (low + high) / 2 + from_centre * half_size(low, high, align_corners)


def reflect(x: float, n: int, align_corners: bool) -> float:
    """Index x mirrored into n pixels: at their outer edges, or with align_corners at the end pixels' centres."""
    low, span = (0.0, n - 1.0) if align_corners else (-0.5, float(n))
    if span == 0:
        return 0.0
    turn = (x - low) % (2 * span)  # a triangle wave: there and back in 2 * span
    return low + min(turn, 2 * span - turn)


def pad(x: float, n: int, padding_mode: str, align_corners: bool) -> float:
    """Index x brought into [0, n-1] as the padding mode says; left alone where taps outside simply do not exist."""
    if padding_mode in KEEPS_OUT:
        return x
    if padding_mode == "reflection":
        x = reflect(x, n, align_corners)
    elif padding_mode not in ("border", "image"):  # these two differ in the limits they are given
        raise ValueError(f"unknown padding_mode {padding_mode!r}")
    return clamp(x, 0.0, n - 1.0)


def taps(x: float, mode: str) -> list[tuple[int, float]]:
    """The pixels that are read for index x, each with its weight."""
    if mode == "nearest":
        return [(round(x), 1.0)]  # Python rounds half to even, as grid_sample does
    if mode == "bilinear":
        low = math.floor(x)
        return [(low, 1.0 - (x - low)), (low + 1, x - low)]
    raise ValueError(f"unknown mode {mode!r}")


# --- two axes ---------------------------------------------------------------------------------------------------------


def is_empty(box: Box) -> bool:
    """Whether the box has no area."""
    x1, y1, x2, y2 = box
    return x2 <= x1 or y2 <= y1


def window(box: Box) -> Rect:
    """The whole pixels that a box touches."""
    x1, y1, x2, y2 = box
    return math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)


def whole(image: np.ndarray) -> Rect:
    """All pixels of a (C, H, W) image."""
    return 0, 0, image.shape[2], image.shape[1]


def inside(i: int, j: int, rect: Rect) -> bool:
    """Whether column i of row j belongs to the rect."""
    x0, y0, x1, y1 = rect
    return x0 <= i < x1 and y0 <= j < y1


def pixels_to_paint(box: Box, image: np.ndarray) -> list[tuple[int, int]]:
    """The (column, row) of every pixel of the image that lies in the box's window; none if the box is empty."""
    if is_empty(box):
        return []
    (x0, y0, x1, y1), (_, _, width, height) = window(box), whole(image)
    return [(i, j) for j in range(max(y0, 0), min(y1, height)) for i in range(max(x0, 0), min(x1, width))]


def coverage(i: int, j: int, box: Box) -> float:
    """K, the share of pixel (i, j) that lies in the box."""
    x1, y1, x2, y2 = box
    return overlap(i, x1, x2) * overlap(j, y1, y2)


def place_to_read(px: float, py: float, box: Box, theta: list[list[float]], align_corners: bool) -> tuple[float, float]:
    """The point q = box(theta(box^-1(p))), worked out in pixels from the box's centre."""
    x1, y1, x2, y2 = box
    (t00, t01, t02), (t10, t11, t12) = theta
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    hw, hh = half_size(x1, x2, align_corners), half_size(y1, y2, align_corners)
    hw_per_hh = hw / hh if hh > 0 else 0.0
    hh_per_hw = hh / hw if hw > 0 else 0.0
    dx, dy = px - cx, py - cy
    return cx + t00 * dx + t01 * hw_per_hh * dy + t02 * hw, cy + t10 * hh_per_hw * dx + t11 * dy + t12 * hh


def read(
    image: np.ndarray, x: float, y: float, limits: Rect, mode: str, padding_mode: str, align_corners: bool
) -> tuple[list[float], float]:
    """The value of every channel of a (C, H, W) image at index (x, y), limited to a rect, and the reach R.

    Padding and rounding are done relative to the rect, as grid_sample does them on the crop.
    """
    x0, y0, x1, y1 = limits
    local_x = pad(x - x0, x1 - x0, padding_mode, align_corners)
    local_y = pad(y - y0, y1 - y0, padding_mode, align_corners)
    channels, height, width = image.shape
    values, reach = [0.0] * channels, 0.0
    for row, weight_y in taps(local_y, mode):
        for column, weight_x in taps(local_x, mode):
            i, j, weight = column + x0, row + y0, weight_x * weight_y
            if padding_mode in KEEPS_OUT and not (inside(i, j, limits) and inside(i, j, whole(image))):
                continue
            i, j = clamp(i, 0, width - 1), clamp(j, 0, height - 1)
            reach += weight
            for c in range(channels):
                values[c] += weight * float(image[c, j, i])
    return values, reach


def read_over_box(
    patch: np.ndarray, x: float, y: float, box: Box, mode: str, padding_mode: str, align_corners: bool
) -> list[float]:
    """The value of every channel, at the point (x, y), of a (C, h, w) patch that is laid over the box."""
    x1, y1, x2, y2 = box
    index_x = index_from_frame(frame_from_point(x, x1, x2, align_corners), patch.shape[2], align_corners)
    index_y = index_from_frame(frame_from_point(y, y1, y2, align_corners), patch.shape[1], align_corners)
    return read(patch, index_x, index_y, whole(patch), mode, padding_mode, align_corners)[0]


def opacity(
    alpha: np.ndarray | None, n: int, x: float, y: float, box: Box, mode: str, padding_mode: str, align_corners: bool
) -> float:
    """A, the opacity of object n at the point (x, y): 1, its number, or its matte; the matte has no outside."""
    if alpha is None:
        return 1.0
    if alpha.ndim == 1:
        return float(alpha[n])
    matte_padding = "reflection" if padding_mode == "reflection" else "border"
    return read_over_box(alpha[n], x, y, box, mode, matte_padding, align_corners)[0]


def paint(image: np.ndarray, i: int, j: int, values: list[float], value_share: float, cover: float) -> None:
    """Pixel = (1 - cover) * pixel + value_share * value, in every channel of a (C, H, W) image, in place."""
    for c, value in enumerate(values):
        image[c, j, i] = (1.0 - cover) * float(image[c, j, i]) + value_share * value


# --- the functions ----------------------------------------------------------------------------------------------------


def to_float64(values: Any) -> np.ndarray:
    """A float64 copy of a list, a numpy array or a torch tensor of any device and dtype."""
    return np.array(values.detach().cpu().double().numpy() if hasattr(values, "detach") else values, dtype=np.float64)


def to_rows(boxes: Any, obj_to_img: Any) -> list[tuple[int, Box, int]]:
    """(n, box, b) of every object, in row order."""
    flat = to_float64(boxes).reshape(-1, 4).tolist()
    owners = [int(b) for b in to_float64(obj_to_img).reshape(-1).tolist()]
    return [(n, box, b) for n, (box, b) in enumerate(zip(flat, owners, strict=True))]


def affine_patches(
    images,
    boxes,
    theta,
    obj_to_img,
    *,
    alpha=None,
    mode="bilinear",
    padding_mode="zeros",
    align_corners=False,
    sequential=False,
) -> np.ndarray:
    """Every object's patch warped by its theta and painted back, in row order: (B, C, H, W)."""
    images = to_float64(images)
    thetas = to_float64(theta).reshape(-1, 2, 3).tolist()
    alpha = None if alpha is None else to_float64(alpha)
    canvas = images.copy()
    for n, box, b in to_rows(boxes, obj_to_img):
        source = canvas[b].copy() if sequential else images[b]  # a copy: all reads come before the writes
        limits = whole(source) if padding_mode == "image" else window(box)
        for i, j in pixels_to_paint(box, source):
            qx, qy = place_to_read(i + 0.5, j + 0.5, box, thetas[n], align_corners)
            values, reach = read(source, qx - 0.5, qy - 0.5, limits, mode, padding_mode, align_corners)
            share = coverage(i, j, box) * opacity(alpha, n, qx, qy, box, mode, padding_mode, align_corners)
            paint(canvas[b], i, j, values, share, share * reach if padding_mode == "transparent" else share)
    return canvas


def crop_patches(images, boxes, obj_to_img, size, *, mode, padding_mode, align_corners) -> np.ndarray:
    """Every object's box read at size (h, w), limited by the image and not by the box: (N, C, h, w)."""
    images = to_float64(images)
    rows, (h, w) = to_rows(boxes, obj_to_img), size
    patches = np.zeros((len(rows), images.shape[1], h, w))
    for n, box, b in rows:
        if is_empty(box):
            continue
        x1, y1, x2, y2 = box
        for r in range(h):
            for s in range(w):
                x, y = crop_point(s, w, x1, x2, align_corners), crop_point(r, h, y1, y2, align_corners)
                values, _ = read(images[b], x - 0.5, y - 0.5, whole(images[b]), mode, padding_mode, align_corners)
                for c, value in enumerate(values):
                    patches[n, c, r, s] = value
    return patches


def paste_patches(
    images, patches, boxes, obj_to_img, *, alpha=None, mode="bilinear", align_corners=False
) -> np.ndarray:
    """Every patch (N, C, h, w) stretched over its box and painted, in row order: (B, C, H, W)."""
    canvas, patches = to_float64(images), to_float64(patches)
    alpha = None if alpha is None else to_float64(alpha)
    for n, box, b in to_rows(boxes, obj_to_img):
        for i, j in pixels_to_paint(box, canvas[b]):
            values = read_over_box(patches[n], i + 0.5, j + 0.5, box, mode, "border", align_corners)
            share = coverage(i, j, box) * opacity(alpha, n, i + 0.5, j + 0.5, box, mode, "border", align_corners)
            paint(canvas[b], i, j, values, share, share)
    return canvas
