"""The figure of the line of data: boxes -> matrices, windows -> sample -> composite -> images."""

from __future__ import annotations

import torch
from torch import Tensor

import kornia_patchaug as kp
from gallery.sketch import ORANGE, PAPER, PINK, SKY, SMALL, VERMILION, Frame, Sheet
from kornia_patchaug.frames import corners_of
from kornia_patchaug.kernels import sample
from kornia_patchaug.objects import check_objects
from kornia_patchaug.outlines import INK
from kornia_patchaug.plan import HEIGHT, START, WIDTH, Beyond, Sampling, Windows, image_plan

COLUMNS, ROWS = 8, 6
OBJECTS = ORANGE, SKY, PINK
CELLS = 18, 11  # points that a pixel takes: in the images, in windows
LEFT, RIGHT = 84, 250  # the middles of the two branches
MIDDLE, EDGE = (LEFT + RIGHT) / 2, 346  # of the line, and where the gradients flow back


def line_of_data() -> str:
    """Three objects of two images on their way through the stages, drawn as what each stage makes of them."""
    images, boxes, theta, obj_to_img = scene()
    objects = check_objects(images, boxes, obj_to_img, theta)
    border = Sampling(nearest=False, beyond=Beyond.NEAREST, align_corners=False, by_reach=False)
    plan = image_plan(objects.host_boxes, objects.host_image, images, border, surroundings=False)
    windows = plan.windows
    colours, opacity = sample(images, objects.theta, objects.boxes, plan)

    sheet = Sheet(610)
    sheet.text((MIDDLE, 18), "images, boxes, obj_to_img, theta", bold=True)
    batch(sheet, 32, images, boxes, obj_to_img)
    for x, name in ((LEFT, "matrices"), (RIGHT, "windows")):
        sheet.arrow((MIDDLE + (x - MIDDLE) * 0.3, 144), (MIDDLE + (x - MIDDLE) * 0.8, 174))
        sheet.text((x, 184), name, bold=True)
        sheet.arrow((MIDDLE + (x - MIDDLE) * 0.8, 252), (MIDDLE + (x - MIDDLE) * 0.3, 282))
    matrices(sheet, boxes, theta)
    tiles(sheet, windows)
    sheet.text((MIDDLE, 292), "sample", bold=True)
    flat(sheet, 304, "values (C, P)", windows, (colours + 1 - opacity).mT)
    flat(sheet, 354, "opacity (P,)", windows, (1 - 0.85 * opacity[:, None]).expand(-1, 3))
    sheet.arrow((MIDDLE, 402), (MIDDLE, 432))
    sheet.text((MIDDLE, 442), "composite", bold=True)
    batch(sheet, 458, kp.affine_patches(images, boxes, theta, obj_to_img, padding_mode="border"))
    sheet.text((MIDDLE, 586), "images", bold=True)
    sheet.arrow((EDGE, 572), (EDGE, 28), VERMILION, dashed=True)
    sheet.text((EDGE - 11, 86), "gradients", VERMILION, bold=True, turned=90)
    return sheet.svg()


def scene() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images ``(2, 3, H, W)`` of three flags, with boxes, theta and obj_to_img."""
    boxes = torch.tensor([[2, 1, 6, 5], [1, 0.5, 5, 3.5], [3, 2, 7, 5]], dtype=torch.float64)
    obj_to_img = torch.tensor([0, 1, 1])
    images = torch.full((2, 3, ROWS, COLUMNS), 0.92, dtype=torch.float64)
    for box, index, colour in zip(boxes, obj_to_img.tolist(), OBJECTS, strict=True):
        x1, y1, x2, y2 = torch.cat([box[:2].floor(), box[2:].ceil()]).long().tolist()
        ink = torch.tensor([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)], dtype=torch.float64)[:, None, None]
        images[index, :, y1:y2, x1:x2] = ink
        images[index, :, y1 : y1 + 1, x1:x2] = ink * 0.35
    angle, scale = (torch.tensor(part, dtype=torch.float64) for part in ([90, 25, -30], [1.2, 1.1, 1.2]))
    still = torch.zeros(3, 2, dtype=torch.float64)
    theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)
    return images, boxes, theta, obj_to_img


def batch(
    sheet: Sheet, top: float, images: Tensor, boxes: Tensor | None = None, obj_to_img: Tensor | None = None
) -> None:
    """A batch of two images side by side, with boxes if given."""
    for index, image in enumerate(images):
        frame = Frame(MIDDLE - 152 + 160 * index, top, CELLS[0])
        pixels = image.permute(1, 2, 0).tolist()
        sheet.paint(frame, [(i, j, colour) for j, row in enumerate(pixels) for i, colour in enumerate(row)])
        if boxes is not None:
            for box in boxes[obj_to_img == index].tolist():
                sheet.shapes([frame.corners(box)], line=INK, width=1.8)


def matrices(sheet: Sheet, boxes: Tensor, theta: Tensor) -> None:
    """Each box, and the part of the image that its matrix has it read, with its upper edge."""
    read = kp.move_points(corners_of(boxes), boxes, kp.invert_theta(theta))
    for n, (box, quad) in enumerate(zip(boxes, read, strict=True)):
        middle = (box[:2] + box[2:]) / 2
        x, y = LEFT + 54 * (n - 1), 223
        frame = Frame(x - CELLS[1] * middle[0].item(), y - CELLS[1] * middle[1].item(), CELLS[1])
        corners = [frame.at(point) for point in quad.tolist()]
        sheet.shapes([corners], OBJECTS[n], opacity=0.55)
        sheet.shapes([frame.corners(box.tolist())], line=INK, width=1.5)
        sheet.lines([corners[:2]], OBJECTS[n], 4)


def tiles(sheet: Sheet, windows: Windows) -> None:
    """The whole pixels of each window."""
    for n, (width, height) in enumerate(windows.host[:, [WIDTH, HEIGHT]].tolist()):
        frame = Frame(54 * (n - 1) + RIGHT - CELLS[1] * width / 2, 223 - CELLS[1] * height / 2, CELLS[1])
        sheet.shapes([frame.pixel(i, j) for j in range(height) for i in range(width)], OBJECTS[n], PAPER, 1)


def flat(sheet: Sheet, top: float, name: str, windows: Windows, colours: Tensor) -> None:
    """A flat buffer, one cell for each pixel of all windows, those of one object over a line."""
    frame = Frame(MIDDLE - 160, top + 16, 320 / windows.total, 1.6)
    sheet.text((frame.left, top + 6), name, align="left", size=SMALL)
    sheet.paint(frame, [(k, 0, colour) for k, colour in enumerate(colours.tolist())])
    starts = windows.host[:, START]
    for colour, start, stop in zip(OBJECTS, starts.tolist(), (starts + windows.areas).tolist(), strict=True):
        sheet.lines([[frame.at((start + 0.15, 1.25)), frame.at((stop - 0.15, 1.25))]], colour, 3)
