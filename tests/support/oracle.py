"""What the functions that paint must compute, in scalar float64 loops: the tests' oracle.

It is written from the design alone and shares nothing with the library. numpy stores arrays; all arithmetic is on
Python floats, one pixel, one tap and one channel at a time. Slow on purpose. Only `visible_share`, which counts points,
takes an object's points all at once.

Column i of an image spans [i, i+1), its centre is i + 0.5. A *point* (x, y) is in pixels; an *index* is a point less
0.5, so that integers are pixel centres. A *rect* is (x0, y0, x1, y1), half-open, in whole pixels.
"""

import math
from typing import Any, NamedTuple

import numpy as np

Box = list[float]  # x1 y1 x2 y2
Rect = tuple[int, int, int, int]
Theta = list[list[float]]  # two rows of three

IDENTITY: Theta = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
KEEPS_OUT = ("zeros", "transparent")  # padding modes under which a tap beyond the limits does not exist


class Options(NamedTuple):
    """How every object is read and painted."""

    mode: str
    padding_mode: str
    align_corners: bool
    clip: bool  # whether an object paints within its box alone


class Spot(NamedTuple):
    """What an object does to pixel (i, j): pixel = (1 - opacity) * pixel + value, in every channel."""

    i: int
    j: int
    opacity: float
    value: list[float]


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


def is_outside(box: Box, image: np.ndarray) -> bool:
    """Whether the box has nothing of a (C, H, W) image in it."""
    (x1, y1, x2, y2), (_, _, width, height) = box, whole(image)
    return x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height


def grown(box: Box, grow: float) -> Box:
    """The box with the same centre and a size 1 + grow times as large."""
    x1, y1, x2, y2 = box
    rim_x, rim_y = grow * (x2 - x1) / 2, grow * (y2 - y1) / 2
    return [x1 - rim_x, y1 - rim_y, x2 + rim_x, y2 + rim_y]


def inside(i: int, j: int, rect: Rect) -> bool:
    """Whether column i of row j belongs to the rect."""
    x0, y0, x1, y1 = rect
    return x0 <= i < x1 and y0 <= j < y1


def pixels_to_paint(box: Box, image: np.ndarray, clip: bool = True) -> list[tuple[int, int]]:
    """The (column, row) of every pixel of the image, or of those in the box's window; none if the box is empty."""
    if is_empty(box):
        return []
    _, _, width, height = whole(image)
    x0, y0, x1, y1 = window(box) if clip else whole(image)
    return [(i, j) for j in range(max(y0, 0), min(y1, height)) for i in range(max(x0, 0), min(x1, width))]


def coverage(i: int, j: int, box: Box) -> float:
    """K, the share of pixel (i, j) that lies in the box."""
    x1, y1, x2, y2 = box
    return overlap(i, x1, x2) * overlap(j, y1, y2)


def half_ratio(half: float, per: float) -> float:
    """half / per; 0 if `per` is: all points of a frame without width are one of another."""
    return half / per if per > 0 else 0.0


def place_to_read(
    px: float, py: float, box: Box, theta: Theta, align_corners: bool, src_box: Box | None = None
) -> tuple[float, float]:
    """The point q = src_box(theta(box^-1(p))), worked out in pixels from the centres; src_box = box if left out."""
    (x1, y1, x2, y2), (sx1, sy1, sx2, sy2) = box, box if src_box is None else src_box
    (t00, t01, t02), (t10, t11, t12) = theta
    hw, hh = half_size(x1, x2, align_corners), half_size(y1, y2, align_corners)
    src_hw, src_hh = half_size(sx1, sx2, align_corners), half_size(sy1, sy2, align_corners)
    dx, dy = px - (x1 + x2) / 2, py - (y1 + y2) / 2
    own_x, own_y = (1.0, 1.0) if src_box is None or src_box is box else (half_ratio(src_hw, hw), half_ratio(src_hh, hh))
    dx_on_y = dx * src_hh / hw if hw > 0 else 0.0
    dy_on_x = dy * src_hw / hh if hh > 0 else 0.0
    qx = (sx1 + sx2) / 2 + t00 * own_x * dx + t01 * dy_on_x + t02 * src_hw
    qy = (sy1 + sy2) / 2 + t10 * dx_on_y + t11 * own_y * dy + t12 * src_hh
    return qx, qy


def frame_to_read(
    px: float, py: float, box: Box, theta: Theta, align_corners: bool, src_box: Box
) -> tuple[float, float]:
    """(u, v) = theta(box^-1(p)) of the source box's frame; 0 along an axis on which neither frame has a width."""
    (x1, y1, x2, y2), (sx1, sy1, sx2, sy2) = box, src_box
    (t00, t01, t02), (t10, t11, t12) = theta
    u, v = frame_from_point(px, x1, x2, align_corners), frame_from_point(py, y1, y2, align_corners)
    wide = half_size(x1, x2, align_corners) > 0 or half_size(sx1, sx2, align_corners) > 0
    high = half_size(y1, y2, align_corners) > 0 or half_size(sy1, sy2, align_corners) > 0
    return (t00 * u + t01 * v + t02 if wide else 0.0), (t10 * u + t11 * v + t12 if high else 0.0)


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


# --- one object -------------------------------------------------------------------------------------------------------


def read_matte(matte: np.ndarray, u: float, v: float, options: Options) -> float:
    """The opacity at (u, v) of its frame of a (1, h, w) matte, which has no outside."""
    mode, padding_mode, align_corners, _ = options
    x = index_from_frame(u, matte.shape[2], align_corners)
    y = index_from_frame(v, matte.shape[1], align_corners)
    matte_padding = "reflection" if padding_mode == "reflection" else "border"
    return read(matte, x, y, whole(matte), mode, matte_padding, align_corners)[0][0]


def read_mask(mask: np.ndarray, x: float, y: float, box: Box, padding_mode: str, options: Options) -> float:
    """The opacity at the point (x, y) of an (H, W) mask, limited to the box's whole pixels."""
    return read(mask[None], x - 0.5, y - 0.5, window(box), options.mode, padding_mode, options.align_corners)[0][0]


def opacity(n: int, alpha: np.ndarray | None, uv: tuple[float, float], options: Options) -> float:
    """A, where there is no mask: 1, the number of object n, or its matte at (u, v)."""
    if alpha is None:
        return 1.0
    return float(alpha[n]) if alpha.ndim == 1 else read_matte(alpha[n], *uv, options)


def paints(box: Box, src_box: Box, source: np.ndarray) -> bool:
    """Whether there is an object: both boxes have an area, and something of the source is in the source box."""
    return not (is_empty(box) or is_empty(src_box) or is_outside(src_box, source))


def layer(
    n: int,
    canvas: np.ndarray,
    box: Box,
    theta: Theta,
    source: np.ndarray,
    src_box: Box,
    alpha: np.ndarray | None,
    options: Options,
) -> list[Spot]:
    """What object n, read from the source box of a (C, H, W) source, does to every pixel of the canvas it paints."""
    if not paints(box, src_box, source):
        return []
    mode, padding_mode, align_corners, clip = options
    limits = whole(source) if padding_mode == "image" else window(src_box)
    spots = []
    for i, j in pixels_to_paint(box, canvas, clip):
        p = (i + 0.5, j + 0.5)
        qx, qy = place_to_read(*p, box, theta, align_corners, src_box)
        values, reach = read(source, qx - 0.5, qy - 0.5, limits, mode, padding_mode, align_corners)
        covered = coverage(i, j, box) if clip else 1.0
        if alpha is not None and alpha.ndim == 3:  # masks: what the patch does not reach, they do not
            share = cover = covered * read_mask(alpha[n], qx, qy, src_box, "zeros", options)
            if padding_mode in KEEPS_OUT:  # the patch's own colour, wherever some of it is reached: no dark fringe
                values = [value / reach if reach > 0 else 0.0 for value in values]
        else:
            share = covered * opacity(n, alpha, frame_to_read(*p, box, theta, align_corners, src_box), options)
            cover = share * reach if padding_mode == "transparent" else share
        spots.append(Spot(i, j, cover, [share * value for value in values]))
    return spots


def hole(
    n: int,
    picture: np.ndarray,
    box: Box,
    theta: Theta,
    fill: np.ndarray,
    alpha: np.ndarray | None,
    grow: float,
    options: Options,
) -> list[Spot]:
    """What is left of a (C, H, W) picture where object n was: fill (C, H, W), as opaque as the object was there.

    An object that moves and whose matte or mask ends short of it leaves a hole that is larger by `grow`.
    """
    if not paints(box, box, picture):
        return []
    align_corners, shaped = options.align_corners, alpha is not None and alpha.ndim > 1
    place = grown(box, grow) if shaped and theta != IDENTITY else box
    spots = []
    for i, j in pixels_to_paint(place, picture):
        p = (i + 0.5, j + 0.5)
        if alpha is not None and alpha.ndim == 3:  # goes on beyond the patch: the coverage ends it
            a = read_mask(alpha[n], *place_to_read(*p, place, IDENTITY, align_corners, box), box, "border", options)
        else:
            a = opacity(n, alpha, frame_to_read(*p, place, IDENTITY, align_corners, place), options)
        h = coverage(i, j, place) * a
        spots.append(Spot(i, j, h, [h * float(value) for value in fill[:, j, i]]))
    return spots


def lay(image: np.ndarray, spots: list[Spot]) -> None:
    """Pixel = (1 - opacity) * pixel + value, spot by spot, in every channel of a (C, H, W) image, in place."""
    for i, j, cover, values in spots:
        for c, value in enumerate(values):
            image[c, j, i] = (1.0 - cover) * float(image[c, j, i]) + value


# --- the functions ----------------------------------------------------------------------------------------------------


def to_float64(values: Any) -> np.ndarray:
    """A float64 copy of a list, a numpy array or a torch tensor of any device and dtype."""
    return np.array(values.detach().cpu().double().numpy() if hasattr(values, "detach") else values, dtype=np.float64)


def to_rows(boxes: Any, obj_to_img: Any) -> list[tuple[int, Box, int]]:
    """(n, box, b) of every object, in row order."""
    flat = to_float64(boxes).reshape(-1, 4).tolist()
    return [(n, box, b) for n, (box, b) in enumerate(zip(flat, to_index(obj_to_img, len(flat), 1), strict=True))]


def to_index(index: Any, count: int, pictures: int) -> list[int]:
    """The picture of each of `count` objects; left out: the n-th of as many pictures, or the only one."""
    if index is None:
        return list(range(count)) if pictures == count != 1 else [0] * count
    return [int(b) for b in to_float64(index).reshape(-1).tolist()]


def to_thetas(theta: Any, count: int) -> list[Theta]:
    """Two rows of three for each object; the identity if left out."""
    return [IDENTITY] * count if theta is None else to_float64(theta).reshape(-1, 2, 3).tolist()


def to_alpha(alpha: Any) -> np.ndarray | None:
    """Numbers (N,), masks (N, H, W) or mattes (N, 1, h, w), bool or floating; None if left out."""
    return None if alpha is None else to_float64(alpha)


def to_fill(fill: Any, images: np.ndarray) -> np.ndarray:
    """Images (B, C, H, W) of a number, of one number a channel, or of images, as they are."""
    if isinstance(fill, str):
        raise ValueError(f"the oracle has no fill {fill!r}")
    fill = to_float64(fill)
    return np.broadcast_to(fill[:, None, None] if fill.ndim == 1 else fill, images.shape)


def to_options(mode: str, padding_mode: str, align_corners: bool, clip: bool) -> Options:
    """The options; an object that is not clipped is transparent, which "zeros" then means too."""
    if clip:
        return Options(mode, padding_mode, align_corners, clip)
    if padding_mode not in KEEPS_OUT:
        raise ValueError(f"clip=False has no padding_mode {padding_mode!r}")
    return Options(mode, "transparent", align_corners, clip)


def affine_patches(
    images,
    boxes,
    theta,
    obj_to_img=None,
    *,
    alpha=None,
    mode="bilinear",
    padding_mode="zeros",
    align_corners=False,
    sequential=False,
    clip=True,
    fill=None,
    grow=0.1,
) -> np.ndarray:
    """Every object's patch warped by its theta and painted back, in row order: (B, C, H, W).

    With a fill the objects are first taken off the picture, from the last row to the first, and all are read so.
    """
    images, alpha, options = to_float64(images), to_alpha(alpha), to_options(mode, padding_mode, align_corners, clip)
    rows = to_rows(boxes, obj_to_img)
    thetas = to_thetas(theta, len(rows))
    canvas = images.copy()
    if fill is None:
        for n, box, b in rows:
            source = canvas[b] if sequential else images[b]
            lay(canvas[b], layer(n, canvas[b], box, thetas[n], source, box, alpha, options))
        return canvas
    if sequential:
        raise ValueError("a fill has no order in which objects could be read one after another")
    fill, layers = to_fill(fill, images), {}
    for n, box, b in reversed(rows):
        layers[n] = layer(n, canvas[b], box, thetas[n], canvas[b], box, alpha, options)
        lay(canvas[b], hole(n, canvas[b], box, thetas[n], fill[b], alpha, grow, options))
    for n, _, b in rows:
        lay(canvas[b], layers[n])
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
    images,
    patches,
    boxes,
    obj_to_img=None,
    *,
    theta=None,
    patch_index=None,
    alpha=None,
    mode="bilinear",
    padding_mode=None,
    align_corners=False,
    clip=True,
) -> np.ndarray:
    """Patches (M, C, h, w) laid over the boxes, warped by theta and painted, in row order: (B, C, H, W)."""
    m, _, h, w = to_float64(patches).shape
    count = len(to_rows(boxes, obj_to_img))
    return transplant_patches(
        images,
        boxes,
        obj_to_img,
        source=patches,
        source_boxes=[[0, 0, w, h]] * count,
        source_to_img=to_index(patch_index, count, m),
        theta=theta,
        alpha=alpha,
        mode=mode,
        padding_mode=padding_mode or ("border" if clip else "transparent"),
        align_corners=align_corners,
        clip=clip,
    )


def transplant_patches(
    images,
    boxes,
    obj_to_img=None,
    *,
    source,
    source_boxes,
    source_to_img=None,
    theta=None,
    alpha=None,
    mode="bilinear",
    padding_mode="zeros",
    align_corners=False,
    clip=False,
) -> np.ndarray:
    """The source boxes of source pictures (S, C, Hs, Ws) warped by theta into the boxes, in row order: (B, C, H, W)."""
    canvas, source = to_float64(images), to_float64(source)
    alpha, options = to_alpha(alpha), to_options(mode, padding_mode, align_corners, clip)
    rows, src_rows = to_rows(boxes, obj_to_img), to_rows(source_boxes, source_to_img)
    thetas = to_thetas(theta, len(rows))
    for (n, box, b), (_, src_box, s) in zip(rows, src_rows, strict=True):
        lay(canvas[b], layer(n, canvas[b], box, thetas[n], source[s], src_box, alpha, options))
    return canvas


# --- what is seen -----------------------------------------------------------------------------------------------------


def points_of(rect: Rect, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """x (1, w * steps) and y (h * steps, 1) of points that are 1 / steps apart, their own half of it off the edges."""
    x0, y0, x1, y1 = rect
    x = x0 + (np.arange((x1 - x0) * steps) + 0.5) / steps
    y = y0 + (np.arange((y1 - y0) * steps) + 0.5) / steps
    return x[None, :], y[:, None]


def hits(x: np.ndarray, y: np.ndarray, box: Box) -> np.ndarray:
    """Whether each point lies in the box."""
    x1, y1, x2, y2 = box
    return (x >= x1) & (x < x2) & (y >= y1) & (y < y2)


def moved_window(box: Box, theta: Theta, align_corners: bool) -> Rect:
    """The whole pixels around everything that reads the box: around the corners that theta^-1 carries away."""
    ends = [(*place_to_read(*p, box, theta, align_corners), 1.0) for p in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))]
    points_from_reads = np.linalg.inv(np.array(ends).T)  # barycentric weights of the three points
    x1, y1, x2, y2 = box
    _, x, y = points_from_reads @ np.array([[x1, x2, x1, x2], [y1, y1, y2, y2], [1.0, 1.0, 1.0, 1.0]])
    return window([x.min(), y.min(), x.max(), y.max()])


def visible_share(boxes, theta, obj_to_img=None, *, size, align_corners=False, clip=True, steps=8) -> np.ndarray:
    """The share of each moved object that is seen in its image of size (H, W), painted in row order: (N,).

    Objects are opaque and painted hard, at steps x steps points a pixel: a point p shows object n if q lies in the box
    and in the picture and, with clip, p in the box. The whole is all p, of an endless plane, whose q lies in both.
    An object of which nothing is in the picture has no share.
    """
    height, width = size
    rows, image = to_rows(boxes, obj_to_img), [0.0, 0.0, float(width), float(height)]
    thetas = to_thetas(theta, len(rows))
    x, y = points_of(window(image), steps)
    topmost = {b: np.full((height * steps, width * steps), -1) for _, _, b in rows}
    for n, box, b in rows:
        q = place_to_read(x, y, box, thetas[n], align_corners)
        shown = hits(*q, box) & hits(*q, image) & (hits(x, y, box) if clip else True)
        topmost[b][shown] = n
    shares = np.zeros(len(rows))
    for n, box, b in rows:
        if is_empty(box):
            continue
        around = points_of(moved_window(box, thetas[n], align_corners), steps)
        q = place_to_read(*around, box, thetas[n], align_corners)
        whole_count = int((hits(*q, box) & hits(*q, image)).sum())
        shares[n] = int((topmost[b] == n).sum()) / whole_count if whole_count else 0.0
    return shares
