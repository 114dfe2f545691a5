"""The figures of the pages: what is drawn where, and which numbers, is what the package computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import kornia_patchaug as kp
from gallery.line_of_data import line_of_data
from gallery.overlap import overlap
from gallery.sketch import BLUE, GREEN, ORANGE, PINK, SMALL, VERMILION, WIDTH, YELLOW, Frame, Sheet
from kornia_patchaug.frames import centres, half_sizes, whole_pixels
from kornia_patchaug.outlines import FAINT, INK

# A box and what belongs to it is blue, what theta reads vermilion, where content goes green.
BOX, READ, MOVED, OTHER = BLUE, VERMILION, GREEN, YELLOW
SQUARE = torch.arange(25.0, dtype=torch.float64).reshape(1, 1, 5, 5)
THREE, READS_RIGHT = [[1, 2, 4, 4]], [[1, 0, 2 / 3, 0, 1, 0]]  # of the page of conventions
WORKED, TURN = [[1, 1.5, 5, 3.5]], [[0, 0.25, 0, -1, 0, 0.5]]  # a quarter turn, twice as large
FOLLOWED = (("A", ORANGE, (2, 2)), ("B", PINK, (1, 1)))  # output pixels whose sums the page shows


def box_frame() -> str:
    """A box in an image, with the edges and centres of pixels and the axes of the box frame."""
    sheet, frame, box = Sheet(310), Frame(56, 50, 36), tensor([[1, 1, 6, 4]])
    x1, y1, x2, y2 = box[0].tolist()
    sheet.grid(frame, 8, 6)
    inside = [(i, j) for j, i in (coverage(box, 6, 8) == 1).nonzero().tolist()]
    sheet.shapes([frame.pixel(*pixel) for pixel in inside], BOX, opacity=0.28)
    for i, j in inside:
        sheet.dot(frame.at((i + 0.5, j + 0.5)), INK, 2.2)
    outline(sheet, frame, box)
    for i in range(9):
        sheet.text(frame.at((i, -0.33)), str(i), BOX if i in (x1, x2) else FAINT, bold=i in (x1, x2))
    for j in range(7):
        sheet.text(frame.at((-0.35, j)), str(j), BOX if j in (y1, y2) else FAINT, bold=j in (y1, y2))
    for name, x, y in (("x1", x1, -0.85), ("x2", x2, -0.85), ("y1", -1.05, y1), ("y2", -1.05, y2)):
        sheet.text(frame.at((x, y)), name, BOX, bold=True)
    ruler(sheet, [frame.at((x, y2 + 0.4)) for x in frame_marks(box, 0)], "u")
    ruler(sheet, [frame.at((x2 + 0.4, y)) for y in frame_marks(box, 1)], "v")

    column, row = 7, 5  # one pixel, to tell edges and centres by
    sheet.shapes([frame.pixel(column, row)], OTHER, opacity=0.7)
    sheet.dot(frame.at((column + 0.5, row + 0.5)), INK, 2.2)
    sheet.lines([[frame.at((x, 6.14)), frame.at((x, 6.34))] for x in (column, column + 1)], INK)
    sheet.lines([[frame.at((column, 6.24)), frame.at((column + 1, 6.24))]], INK)
    said = f"column {column} spans [{column}, {column + 1}), centre {column + 0.5:g}"
    sheet.text(frame.at((8, 6.72)), said, align="right")
    return sheet.svg()


def theta_direction() -> str:
    """Theta leads from an output pixel to the place in the input that it reads; content moves the other way."""
    sheet, box, theta = Sheet(252), tensor(THREE), tensor(READS_RIGHT)
    source, target = Frame(12, 46, 30), Frame(198, 46, 30)
    place = tensor([[2.5, 2.5]])
    read = places_read(place, box, theta)
    back = kp.move_points(read, box, theta)
    ends = [(source, SQUARE, read, "input"), (target, kp.affine_patches(SQUARE, box, theta), place, "output")]
    for frame, image, point, title in ends:
        sheet.grid(frame, 5, 5)
        sheet.shapes([frame.pixel(*point[0].long().tolist())], OTHER, opacity=0.7)
        values(sheet, frame, image)
        outline(sheet, frame, box)
        sheet.text(frame.at((2.5, 5.45)), title, bold=True)
    above, below = tensor([[0, -0.45]]), tensor([[0, 0.45]])
    sheet.arrow(target.at((place + above)[0].tolist()), source.at((read + above)[0].tolist()), READ, 0.5)
    sheet.arrow(source.at((read + below)[0].tolist()), target.at((back + below)[0].tolist()), MOVED, 0.5)
    sheet.text((WIDTH / 2, 20), "theta: where the output reads", READ, bold=True)
    sheet.text((WIDTH / 2, 236), "move_points: where content goes", MOVED, bold=True)
    return sheet.svg()


def align_corners() -> str:
    """The two box frames of one box, and where a scale and a shift read in each."""
    sheet, box, cell = Sheet(344), tensor([[0, 0, 4, 1]]), 31
    points = pixel_centres(0, 0, 4, 1)
    for left, option in ((14, False), (191, True)):
        middle = left + 2 * cell
        sheet.text((middle + cell / 2, 18), f"align_corners={option}", bold=True, size=SMALL)
        ruler(sheet, [(left + cell * x, 62) for x in frame_marks(box, 0, option)], "", above=True)
        for top, theta, named in (
            (72, [[0.5, 0, 0, 0, 1, 0]], "scale 0.5"),
            (212, [[1, 0, 0.5, 0, 1, 0]], "shift 0.5"),
        ):
            target, source = Frame(left, top, cell), Frame(left, top + 62, cell)
            read = places_read(points, box, tensor(theta), align_corners=option)
            for frame in (target, source):
                sheet.grid(frame, 5, 1)
                (x1, _, x2), (y1, _, y2) = frame_marks(box, 0, option), (0, 0, 1)
                sheet.shapes([frame.corners((x1, y1, x2, y2))], BOX, opacity=0.28)
                outline(sheet, frame, box)
            for p, q in zip(points.tolist(), read.tolist(), strict=True):
                sheet.arrow(target.at(p), source.at(q), READ, width=1.5)
                sheet.dot(target.at(p), INK, 2.5)
                sheet.dot(source.at(q), READ)
            moved = (read - points)[:, 0]
            said = "" if moved.std() > 0 else f" = {moved[0]:g} px"
            sheet.text((middle, top + 62 + 46), named + said, READ, bold=True)
    return sheet.svg()


def fractional_coverage() -> str:
    """The share K of every pixel that a fractional box paints."""
    sheet, frame, box = Sheet(346), Frame(44, 34, 60), tensor([[1.5, 0.5, 3.75, 2.8]])
    sheet.grid(frame, 5, 4)
    x1, y1, x2, y2 = box[0].tolist()
    shares = coverage(box, 4, 5)
    for j, i in shares.nonzero().tolist():
        share = shares[j, i].item()
        sheet.shapes([frame.pixel(i, j)], BOX, opacity=0.6 * share)
        inside = (max(i, x1) + min(i + 1, x2)) / 2, (max(j, y1) + min(j + 1, y2)) / 2
        sheet.text(frame.at(inside), f"{share:g}")
    window = whole_pixels(box)[0].tolist()
    sheet.shapes([frame.corners(window)], line=INK, width=1.5, dashed=True)
    outline(sheet, frame, box)
    for i in range(6):
        sheet.text(frame.at((i, -0.25)), str(i), FAINT)
    for j in range(5):
        sheet.text(frame.at((-0.25, j)), str(j), FAINT)
    sheet.text(frame.at((0, 4.32)), f"box {x1:g} {y1:g} {x2:g} {y2:g}", BOX, bold=True, align="left")
    sheet.text(frame.at((0, 4.64)), "window: the pixels it touches", align="left")
    sheet.text(frame.at((0, 4.96)), "K: the share of each in the box", align="left")
    return sheet.svg()


def worked() -> str:
    """The worked example: where each output pixel reads, and what comes of it."""
    sheet, box, theta = Sheet(530), tensor(WORKED), tensor(TURN)
    source, target = Frame(12, 12, 49), Frame(12, 273, 49)
    first, stop = whole_pixels(box)[0].long().view(2, 2).tolist()
    shares = coverage(box, 5, 5)
    beside = 5.35
    for frame, image, title in ((source, SQUARE, "input"), (target, kp.affine_patches(SQUARE, box, theta), "output")):
        sheet.grid(frame, 5, 5)
        for _, colour, pixel in FOLLOWED if frame is target else ():
            sheet.shapes([frame.pixel(*pixel)], colour, opacity=0.55)
        values(sheet, frame, image, (0.5 if frame is target else 0.24, 0.25))  # beside the dots and the box's edges
        outline(sheet, frame, box)
        sheet.text(frame.at((beside, 0.3)), title, bold=True, align="left")
    for q in places_read(pixel_centres(*first, *stop), box, theta).tolist():
        sheet.dot(source.at(q), READ, 3)
    for name, colour, (i, j) in FOLLOWED:
        q = places_read(tensor([[i + 0.5, j + 0.5]]), box, theta)[0].tolist()
        sheet.arrow(target.at((i + 1, j + 0.06)), source.at(q), INK, bend=-0.04, dashed=True, width=1.5)
        sheet.dot(source.at(q), colour, 5)
        sheet.text(target.at((i + 0.5, j + 0.76)), name, bold=True)
    for top, name, rows, colour in ((1.25, "box", box.view(2, 2), BOX), (2.65, "theta", theta.view(2, 3), READ)):
        sheet.text(source.at((beside, top)), name, colour, bold=True, align="left")
        for j, row in enumerate(rows.tolist()):
            for i, number in enumerate(row):
                right = beside + (0.33, 1.02, 1.66)[i]
                sheet.text(source.at((right, top + 0.4 + 0.36 * j)), f"{number:g}", align="right")
    for j in range(first[1], stop[1]):
        sheet.text(target.at((beside, j + 0.5)), f"K = {shares[j, first[0]]:g}", BOX, bold=True, align="left")
    return sheet.svg()


def ruler(sheet: Sheet, places: list[tuple[float, float]], name: str, above: bool = False) -> None:
    """An axis of the box frame, across or down, by the places of its -1, 0 and +1."""
    (x0, y0), _, (x1, y1) = places
    down, side = x0 == x1, -1 if above else 1
    sheet.lines([places], INK, 2)
    for (x, y), mark in zip(places, ("-1", "0", "+1"), strict=True):
        sheet.lines([[(x - 5, y), (x + 5, y)] if down else [(x, y - 5), (x, y + 5)]], INK, 2)
        sheet.text((x + 9, y) if down else (x, y + side * 14), mark, bold=True, align="left" if down else "center")
    quarter = (x0 + 3 * x1) / 4, (y0 + 3 * y1) / 4
    sheet.text((x0 + 9, quarter[1]) if down else (quarter[0], y0 + side * 14), name, bold=True, align="left")


def outline(sheet: Sheet, frame: Frame, box: Tensor) -> None:
    """The box."""
    sheet.shapes([frame.corners(box[0].tolist())], line=BOX, width=2.5)


def values(sheet: Sheet, frame: Frame, image: Tensor, place: tuple[float, float] = (0.5, 0.5)) -> None:
    """The values of an image's pixels, at one place in each."""
    for j, row in enumerate(image[0, 0].tolist()):
        for i, value in enumerate(row):
            sheet.text(frame.at((i + place[0], j + place[1])), f"{value:g}")


def tensor(rows: Sequence[Sequence[float]]) -> Tensor:
    """float64, so that what is drawn does not hang on rounding."""
    return torch.tensor(rows, dtype=torch.float64)


def pixel_centres(x1: int, y1: int, x2: int, y2: int) -> Tensor:
    """The points ``(K, 2)`` that whole pixels have for centres, row by row."""
    return tensor([[x + 0.5, y + 0.5] for y in range(y1, y2) for x in range(x1, x2)])


def frame_marks(box: Tensor, axis: int, align_corners: bool = False) -> list[float]:
    """Where -1, 0 and +1 of the box frame are, along x or y."""
    centre, half = centres(box)[0, axis].item(), half_sizes(box, align_corners)[0, axis].item()
    return [centre - half, centre, centre + half]


def coverage(box: Tensor, height: int, width: int) -> Tensor:
    """K of every pixel of an image, ``(H, W)``: what a white patch leaves on black."""
    black, white = torch.zeros(1, 1, height, width, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return kp.paste_patches(black, white, box)[0, 0]


def places_read(points: Tensor, box: Tensor, theta: Tensor, *, align_corners: bool = False) -> Tensor:
    """q of the output points ``(K, 2)``: where content there would go under the inverse of theta."""
    return kp.move_points(points[None], box, kp.invert_theta(theta), align_corners=align_corners)[0]


FIGURES: dict[str, Callable[[], str]] = {
    "box-frame.svg": box_frame,
    "theta-direction.svg": theta_direction,
    "align-corners.svg": align_corners,
    "fractional-coverage.svg": fractional_coverage,
    "worked-5x5.svg": worked,
    "line-of-data.svg": line_of_data,
    "overlap.svg": overlap,
}


def figures() -> dict[str, str]:
    """The SVG of every figure, by its file's name."""
    return {name: draw() for name, draw in FIGURES.items()}
