"""The bundled photographs and their objects, cut to what a strip shows."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import kornia_patchaug as kp
from kornia_patchaug.preview import picture_tensor

FOLDER = Path(__file__).resolve().parent.parent / "demo_images"


def load(
    name: str,
    *objects: int,
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """A photograph and some of its objects: images ``(1, 3, h, w)`` in [0, 1] and boxes ``(N, 4)``.

    Args:
        name: a file of demo_images/.
        objects: by their numbers in the preview, which count from 1.
        crop: ``x1 y1 x2 y2``, the part that is shown; all of it by default. Boxes are counted from its corner.
        size: ``(h, w)`` to which the crop is reduced, for pictures in which pixels are seen.
    """
    photograph = Image.open(FOLDER / name).convert("RGB")
    crop = crop or (0, 0, *photograph.size)
    height, width = size or (crop[3] - crop[1], crop[2] - crop[0])
    images = picture_tensor(photograph.resize((width, height), Image.Resampling.BOX, box=crop))[None]
    coco = json.loads((FOLDER / "boxes.json").read_text("utf-8"))
    of_file = {row["file_name"]: row["id"] for row in coco["images"]}[name]
    found = [row["bbox"] for row in coco["annotations"] if row["image_id"] == of_file]
    boxes = kp.convert_boxes(torch.tensor([found[n - 1] for n in objects]).reshape(-1, 4), "xywh", "xyxy")
    zoom = torch.tensor([width / (crop[2] - crop[0]), height / (crop[3] - crop[1])])
    return images, (boxes - torch.tensor(crop[:2] * 2)) * zoom.repeat(2)
