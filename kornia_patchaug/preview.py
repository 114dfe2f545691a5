"""Tensors -> contact sheets and animations.

Lengths are pixels of a tile.
"""

from __future__ import annotations

import io
import json
import math
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from kornia_patchaug.augmentation import Order, RandomPatchAffine
from kornia_patchaug.frames import corners_of, enclosing, painted_pixels
from kornia_patchaug.hooks import Matte
from kornia_patchaug.outlines import (
    BACKGROUND,
    COLOURS,
    FAINT,
    HALO,
    INK,
    SMOOTH,
    annotate,
    choose_spots,
    draw_number,
    font,
    kinds_of,
    number_room,
)
from kornia_patchaug.theta import Outline, move_points, outermost, theta_from_components

TILE, GIF_TILE = 480, 440  # the longer side of a picture on a sheet and in an animation
NARROWEST = 240  # a tile's room on the sheet, so that the caption of a slim picture fits
MARGIN, GAP, LINE = 28, 20, 24  # around the sheet, between tiles, from one line of text to the next
HEADER_SIZE, TEXT_SIZE = 17, 15
WHAT_MOVED = {"box": "the object's box", "ellipse": "the ellipse in the object's box"}
NOTE = "Thick outline: where {} moved. Thin: its label, the box around that, as far as it is painted."

FRAMES, FRAME_MS, MAX_GIF_BYTES = 32, 80, 3_000_000
# Bayer's thresholds times half a level, which hide the steps of a palette.
DITHER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 2 - 3.75


class Picture(NamedTuple):
    """A picture and its objects."""

    name: str
    image: Tensor  # (3, H, W) in [0, 1]
    boxes: Tensor  # (N, 4)
    labels: tuple[str, ...]  # what each object is
    masks: Tensor | None = None  # (N, H, W) bool, what of each is opaque with matte="mask"
    classes: tuple[str, ...] = ()  # whose numbers objects have, if not their own


class Ranges(NamedTuple):
    """What parameters are drawn from, and how objects are painted, as `RandomPatchAffine` takes it."""

    degrees: float
    translate: tuple[float, float]
    scale: tuple[float, float]
    shear: float
    padding_mode: str
    clip: bool = True
    fill: float | Literal["surroundings"] | None = None
    matte: Matte | None = None
    feather: float = 0.2
    order: Order = "area"

    @property
    def outline(self) -> Outline:
        """What labels enclose."""
        return "ellipse" if self.matte == "ellipse" else "box"

    def fitting(self, *pictures: Picture) -> Ranges:
        """The same, with boxes for masks where none of the pictures has any."""
        none = all(picture.masks is None for picture in pictures)
        return self._replace(matte="box") if none and self.matte == "mask" else self

    def augmentation(self, seed: int) -> RandomPatchAffine:
        """The augmentation that draws from these ranges, always, from a seed of its own."""
        return RandomPatchAffine(**self._asdict(), p=1.0, generator=torch.Generator().manual_seed(seed))

    def code(self) -> str:
        """The same as a line of Python."""
        (x, y), (low, high) = self.translate, self.scale
        said = [f"degrees={self.degrees:g}", f"translate=({x:g}, {y:g})", f"scale=({low:g}, {high:g})"]
        said += [f"shear={self.shear:g}", "p=1.0"]
        said += [f'padding_mode="{self.padding_mode}"'] if self.clip else ["clip=False"]
        said += [] if self.fill is None else [f"fill={json.dumps(self.fill)}"]
        said += [] if self.matte is None else [f'matte="{self.matte}"', f"feather={self.feather:g}"]
        said += [] if self.order == "area" else [f'order="{self.order}"']
        return f"RandomPatchAffine({', '.join(said)})"


def contact_sheet(
    picture: Picture, ranges: Ranges, *, draws: int, seed: int, theta: Tensor | None = None
) -> Image.Image:
    """The picture with its numbered boxes, then ``draws`` random draws with the outline and label of every object.

    A picture's draws depend on the seed alone, whatever else is previewed. With ``theta (N, 6)`` each is that.
    """
    augment = ranges.augmentation(seed)
    height, width = picture.image.shape[1:]
    size, zoom = _fit(picture.image, TILE)
    boxes = corners_of(picture.boxes)
    kinds = kinds_of(picture.labels, picture.classes)
    tiles = [annotate(to_pil(picture.image, size), boxes * zoom, boxes * zoom, kinds=kinds)]
    captions = [f"{picture.name}, {width} x {height}"]
    for k in range(draws):
        image = augment(picture.image[None], picture.boxes, theta, masks=picture.masks)[0]
        quads = move_points(boxes, picture.boxes, augment._params["theta"][0])
        labels = corners_of(_label_boxes(picture.boxes, quads, ranges, (height, width)))
        drawn = annotate(to_pil(image, size), labels * zoom, quads * zoom, outline=ranges.outline, kinds=kinds)
        tiles.append(drawn)
        captions.append(f"draw {k + 1}")
    note = NOTE.format(WHAT_MOVED[ranges.outline])
    untagged = choose_spots(boxes * zoom, size, kinds).count(None)
    if untagged:
        note += f" The {untagged} smallest of {len(kinds)} objects have no tag, which would hide the picture."
    return _lay_out(tiles, captions, f"{ranges.code()}, seed {seed}", _names(picture.labels, kinds), note)


def sweep(picture: Picture, ranges: Ranges) -> bytes:
    """A looping GIF in which every parameter runs through its range; every other object turns the other way."""
    longer = GIF_TILE
    while len(data := encode_gif(_sweep_frames(picture, ranges, longer))) > MAX_GIF_BYTES:
        longer = int(longer * 0.97 * math.sqrt(MAX_GIF_BYTES / len(data)))
    return data


def picture_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as ``(3, H, W)`` in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _label_boxes(boxes: Tensor, quads: Tensor, ranges: Ranges, size: tuple[int, int]) -> Tensor:
    """What a detector is told of moved objects in a picture of ``size``, ``(N, 4)``; no area where nothing is seen."""
    height, width = size
    painted = painted_pixels(boxes, height, width) if ranges.clip else boxes.new_tensor([[0, 0, width, height]])
    return enclosing(outermost(quads, ranges.outline), painted.expand(len(boxes), 4))


def _sweep_frames(picture: Picture, ranges: Ranges, longer: int) -> list[Image.Image]:
    size, zoom = _fit(picture.image, longer)
    image = picture_tensor(to_pil(picture.image, size))
    corners, count = corners_of(picture.boxes) * zoom, len(picture.boxes)
    boxes = (picture.boxes * zoom.repeat(2)).repeat(FRAMES, 1)
    obj_to_img = torch.arange(FRAMES).repeat_interleave(count)  # (F * N,), one image a frame
    phase = obj_to_img * (2 * math.pi / FRAMES)
    once, twice = phase.sin(), (2 * phase).sin()  # the picture itself comes first, where both are 0
    sign = 1 - 2 * (torch.arange(count) % 2).repeat(FRAMES)
    low, high = ranges.scale
    theta = theta_from_components(
        ranges.degrees * sign * once,
        (low + high) / 2 + (high - low) / 2 * twice,
        torch.stack([once, sign * twice], dim=1) * torch.tensor(ranges.translate),
        torch.stack([ranges.shear * sign * twice, 0 * twice], dim=1),
        boxes=boxes,
    )
    masks = picture.masks
    if masks is not None:
        masks = (interpolate(masks[:, None].float(), image.shape[1:], mode="area")[:, 0] >= 0.5).repeat(FRAMES, 1, 1)
    images = ranges.augmentation(0)(image.expand(FRAMES, -1, -1, -1), boxes, theta, obj_to_img, masks=masks)
    quads = move_points(corners.repeat(FRAMES, 1, 1), boxes, theta)
    labels = corners_of(_label_boxes(boxes, quads, ranges, (size[1], size[0])))
    kinds = kinds_of(picture.labels, picture.classes)
    spots = choose_spots(corners, size, kinds)  # one choice for all frames: tags must not jump
    drawn = zip(images, labels.view(FRAMES, count, 4, 2), quads.view(FRAMES, count, 4, 2), strict=True)
    return [
        annotate(to_pil(image, size), label, quad, spots, outline=ranges.outline, kinds=kinds)
        for image, label, quad in drawn
    ]


def encode_gif(frames: list[Image.Image], times: int | list[int] = FRAME_MS) -> bytes:
    """Frames of one size, each shown for so many milliseconds.

    One palette for all frames and a dither pattern that stands still: what does not move does not flicker.
    """
    fixed = [level for colour in (*COLOURS, HALO, "#ffffff") for level in ImageColor.getrgb(colour)]
    some = Image.fromarray(np.concatenate([np.asarray(frame)[::2, ::2] for frame in frames[:: -(-len(frames) // 4)]]))
    colours = some.quantize(255 - len(fixed) // 3, kmeans=2).getpalette() or []  # 255: one is left for "as before"
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours + fixed)
    width, height = frames[0].size
    pattern = np.tile(DITHER, (-(-height // 4), -(-width // 4)))[:height, :width, None]
    dithered = ((np.asarray(frame) + pattern).round().clip(0, 255).astype(np.uint8) for frame in frames)
    first, *rest = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in dithered]
    first.save(buffer := io.BytesIO(), "GIF", save_all=True, append_images=rest, duration=times, loop=0)
    return buffer.getvalue()


def _lay_out(
    tiles: list[Image.Image], captions: list[str], header: str, names: Mapping[int, str], note: str
) -> Image.Image:
    """Tiles in rows with captions below, a header above and a legend at the foot."""
    columns = len(tiles) if len(tiles) <= 3 else math.ceil(math.sqrt(len(tiles)))
    cell_width, cell_height = max(tiles[0].width, NARROWEST) + GAP, tiles[0].height + LINE + GAP
    inner = columns * cell_width - GAP
    header, legend = textwrap.fill(header, inner // 9), _legend(names, note, inner)
    top = MARGIN + (header.count("\n") + 1) * LINE + GAP // 2
    foot = top + math.ceil(len(tiles) / columns) * cell_height
    sheet = Image.new("RGB", (inner + 2 * MARGIN, foot + legend.height + MARGIN), BACKGROUND)
    sheet.paste(legend, (MARGIN, foot))
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), header, fill=INK, font=font(HEADER_SIZE), spacing=LINE - HEADER_SIZE)
    for k, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        x, y = MARGIN + k % columns * cell_width, top + k // columns * cell_height
        sheet.paste(tile, (x, y))
        text = _shorten(caption, cell_width - GAP)
        draw.text((x, y + tile.height + 6), text, fill=FAINT if k else INK, font=font(TEXT_SIZE))
    return sheet


def _legend(names: Mapping[int, str], note: str, width: int) -> Image.Image:
    """Every object's number and name in its colour, or every class's, and how to read the outlines."""
    texts = {n: _shorten(name, NARROWEST / 2) for n, name in names.items()}
    widest = max(map(font(TEXT_SIZE).getlength, texts.values()), default=0)
    cell = number_room(max(texts, default=0))[0] + 6 + widest + GAP
    columns = max(1, int((width + GAP) // cell))
    lines, notes = math.ceil(len(texts) / columns), textwrap.wrap(note if texts else "no objects", width // 8)
    legend = Image.new("RGB", (width * SMOOTH, (lines + len(notes)) * LINE * SMOOTH), BACKGROUND)
    draw, letters = ImageDraw.Draw(legend), font(TEXT_SIZE * SMOOTH)
    for place, (n, text) in enumerate(texts.items()):
        x, y, tag = place % columns * cell, (place // columns + 0.5) * LINE, number_room(n)[0]
        draw_number(draw, n, (x + tag / 2, y), SMOOTH)
        draw.text(((x + tag + 6) * SMOOTH, y * SMOOTH), text, fill=INK, font=letters, anchor="lm")
    for k, note in enumerate(notes, lines):
        draw.text((0, (k + 0.5) * LINE * SMOOTH), note, fill=FAINT, font=letters, anchor="lm")
    return legend.reduce(SMOOTH)


def _names(labels: Sequence[str], kinds: Sequence[int]) -> dict[int, str]:
    """What the numbers of `kinds_of` stand for: objects, or classes with how many there are."""
    names, counts = dict(zip(kinds, labels, strict=True)), Counter(kinds)
    if list(kinds) == list(range(len(labels))):
        return names
    return {n: f"{names[n]} ({counts[n]})" for n in sorted(names)}


def _shorten(text: str, width: float) -> str:
    """Text that fits, in the letters of Pillow's own font, which is ASCII: they lose their accents."""
    letters = unicodedata.normalize("NFKD", " ".join(text.split()))
    text = short = "".join(c if c.isascii() else "?" for c in letters if not unicodedata.combining(c))
    while text and font(TEXT_SIZE).getlength(short) > width:
        text = text[:-1]
        short = f"{text}..."
    return short


def _fit(image: Tensor, longer: int) -> tuple[tuple[int, int], Tensor]:
    """The (width, height) at which the image's longer side is ``longer``, and what its points are multiplied with."""
    height, width = image.shape[1:]
    ratio = longer / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return size, torch.tensor([size[0] / width, size[1] / height])


def to_pil(image: Tensor, size: tuple[int, int]) -> Image.Image:
    levels = (image.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(levels.permute(1, 2, 0).numpy()).resize(size, Image.Resampling.LANCZOS)
