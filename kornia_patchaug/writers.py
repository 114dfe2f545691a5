"""The objects of pictures -> label files: COCO JSON, YOLO txt, Pascal VOC XML.

A data set is written picture by picture; what is of all of them, as COCO's file is, follows from a record of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from kornia_patchaug.readers import Labelled
from kornia_patchaug.shapes import Polygons, Runs, Shape, encoded

RECORDS = ".records"  # of a data set: what is known of each picture, and of the call
STAMP = "call.json"
FOLDERS = {"coco": ("images", ""), "yolo": ("images", "labels"), "voc": ("JPEGImages", "Annotations")}
MANY_CLASSES = 10_000
OWN = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints", "num_keypoints")


class Schema(NamedTuple):
    """What label files of a data set have in common."""

    classes: Mapping[str, int]  # the number of each class, in COCO's file or from 0 on
    shapes: bool  # some objects have shapes
    keypoints: int  # how many an object has, or 0
    crowds: bool = False  # some objects are crowds
    categories: Mapping[str, Mapping[str, Any]] = {}  # what else is known of classes, for COCO's file
    head: Mapping[str, Any] = {}  # and what else is in that


class Written(NamedTuple):
    """A picture as it is written."""

    name: str  # its file's, below the folder of pictures
    size: tuple[int, int]
    objects: Sequence[Labelled]
    about: Mapping[str, Any] = {}  # what else COCO's file says of it


def label_files(name: str, form: str) -> list[str]:
    """The names of a picture's label files below the folder of the data set."""
    stem = Path(name).with_suffix("").as_posix()
    return {"coco": [], "yolo": [f"labels/{stem}.txt"], "voc": [f"Annotations/{stem}.xml"]}[form]


def files_of(picture: Written, form: str, schema: Schema) -> dict[str, str]:
    """The label files of one picture, by their names."""
    lines = (f"{line}\n" for line in _yolo(picture, schema))
    return {name: _voc(picture) if form == "voc" else "".join(lines) for name in label_files(picture.name, form)}


def lost_by(form: str, schema: Schema) -> list[str]:
    """What objects have that a form has no room for."""
    points = schema.keypoints and (form == "voc" or (form == "yolo" and schema.shapes))
    found = {"shapes": schema.shapes and form == "voc", "keypoints": points, "crowds": schema.crowds and form != "coco"}
    return [what for what, lost in found.items() if lost]


def record_of(picture: Written, form: str, schema: Schema) -> dict[str, Any]:
    """What `summary` has to know of a picture, for JSON."""
    height, width = picture.size
    found: dict[str, Any] = {"file_name": picture.name, "width": width, "height": height}
    if form == "coco":
        found["annotations"] = [_annotation(each, schema) for each in picture.objects]
        found["about"] = picture.about
    return found


def summary(records: Iterable[dict[str, Any]], form: str, schema: Schema) -> dict[str, str]:
    """The files of all pictures, by their names below the folder of the data set."""
    if form == "voc":
        stems = (Path(record["file_name"]).with_suffix("").as_posix() for record in records)
        return {"ImageSets/Main/train.txt": "".join(f"{stem}\n" for stem in stems)}
    if form == "yolo":
        by_number = {number: name for name, number in schema.classes.items()}
        last = max(by_number, default=-1)  # tools want all numbers up to the last
        numbers = range(last + 1) if last < MANY_CLASSES else sorted(by_number)
        known = {k: by_number.get(k, f"class {k}") for k in numbers}
        data: dict[str, Any] = {"train": "images", "val": "images", "names": known}  # beside the file, without path
        if schema.keypoints and not schema.shapes:
            data["kpt_shape"] = [schema.keypoints, 3]
        import yaml  # of which nothing else has need

        return {"data.yaml": yaml.safe_dump(data, allow_unicode=True, sort_keys=False)}
    images, annotations = list[str](), list[str]()  # as text, which takes less memory than what it tells
    for number, record in enumerate(records, start=1):
        own = {key: record[key] for key in ("file_name", "width", "height")}
        images.append(json.dumps({"id": number, **own, **record["about"]}))
        for each in record["annotations"]:
            annotations.append(json.dumps({"id": len(annotations) + 1, "image_id": number, **each}))
    names = sorted(schema.classes, key=schema.classes.__getitem__)
    categories = [{"id": schema.classes[name], "name": name, **schema.categories.get(name, {})} for name in names]
    parts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in schema.head.items()]
    parts += [f'"images": [{", ".join(images)}]', f'"annotations": [{", ".join(annotations)}]']
    parts.append(f'"categories": {json.dumps(categories)}')
    return {"annotations.json": f"{{{', '.join(parts)}}}"}


# COCO JSON


def _annotation(found: Labelled, schema: Schema) -> dict[str, Any]:
    x1, y1, x2, y2 = found.box
    result: dict[str, Any] = {name: value for name, value in found.extra.items() if name not in OWN}
    result["category_id"] = schema.classes[found.label]
    result["bbox"] = _rounded([x1, y1, x2 - x1, y2 - y1], 2)
    result["area"] = _area(found)
    result["iscrowd"] = int(found.crowd)
    if found.shape is not None:
        result["segmentation"] = _segmentation(found.shape)
    if found.keypoints:
        result["keypoints"] = [v for x, y, seen in found.keypoints for v in (*_rounded([x, y], 2), int(seen))]
        result["num_keypoints"] = sum(seen > 0 for *_, seen in found.keypoints)
    return result


def _segmentation(shape: Shape) -> Any:
    if isinstance(shape, Runs):
        return {"size": list(shape.size), "counts": encoded(shape.counts.tolist())}
    return [_rounded(ring.ravel().tolist(), 2) for ring in shape.rings]


def _area(found: Labelled) -> float:
    if isinstance(found.shape, Runs):
        return float(found.shape.counts[1::2].sum())
    if isinstance(found.shape, Polygons):
        parts = ((ring, np.roll(ring, -1, axis=0)) for ring in found.shape.rings)
        return round(sum(abs(float((a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]).sum())) / 2 for a, b in parts), 2)
    x1, y1, x2, y2 = found.box
    return round((x2 - x1) * (y2 - y1), 2)


def _rounded(values: Iterable[float], digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


# YOLO txt


def _yolo(picture: Written, schema: Schema) -> Iterable[str]:
    """A line an object: of points where some objects have shapes, or else a box, and then keypoints if there are."""
    height, width = picture.size
    for found in picture.objects:
        if found.crowd:
            continue
        x1, y1, x2, y2 = found.box
        if schema.shapes:
            points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
            if isinstance(found.shape, Polygons):
                points = found.shape.joined()
            numbers = (points / (width, height)).clip(0, 1).ravel().tolist()
        else:
            numbers = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        words = [f"{value:.6f}" for value in numbers]
        if schema.keypoints and not schema.shapes:
            for x, y, seen in (*found.keypoints, *[(0.0, 0.0, 0.0)] * schema.keypoints)[: schema.keypoints]:
                words += [f"{x / width:.6f}", f"{y / height:.6f}", f"{int(seen)}"]
        yield " ".join([str(schema.classes[found.label]), *words])


# Pascal VOC XML


def _voc(picture: Written) -> str:
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, name: str, text: object = None) -> ElementTree.Element:
        child = ElementTree.SubElement(parent, name)
        child.text = None if text is None else "".join(c for c in str(text) if c.isprintable())  # others are no XML
        return child

    add(root, "filename", picture.name)
    size = add(root, "size")
    for name, value in zip(("width", "height", "depth"), (picture.size[1], picture.size[0], 3), strict=True):
        add(size, name, value)
    for found in picture.objects:
        if found.crowd:
            continue
        item = add(root, "object")
        add(item, "name", found.label)
        for name in ("pose", "truncated", "difficult", "occluded"):
            if name in found.extra:
                add(item, name, found.extra[name])
        x1, y1, x2, y2 = found.box
        first = round(x1), round(y1)
        last = max(round(x2), first[0] + 1), max(round(y2), first[1] + 1)
        box = add(item, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), (first[0] + 1, first[1] + 1, *last), strict=True):
            add(box, name, value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
