"""Data sets of augmented copies: their files, whatever ends the command, and their labels."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools.coco import COCO

import kornia_patchaug as kp
from kornia_patchaug import cli, readers
from kornia_patchaug.augment import free_name
from kornia_patchaug.readers import Labels, Notes
from kornia_patchaug.shapes import runs_of

ROOT = Path(__file__).parents[1]
SIZE = (48, 64)
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
TRIANGLE = [[8.0, 8, 28, 8, 8, 28]]
STILL = ["--degrees", 0, "--translate", 0, 0, "--scale", 1, 1, "--matte", "none", "--fill", "none"]


def noise(seed):
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).resize((64, 48))


@pytest.fixture
def data(tmp_path):
    """Three pictures in two folders, of two classes, with polygons, run lengths, keypoints and a crowd."""
    folder = tmp_path / "data"
    rows = [
        {
            "image_id": 1,
            "category_id": 3,
            "bbox": [8, 8, 20, 20],
            "segmentation": TRIANGLE,
            "keypoints": [10, 10, 2, 0, 0, 0],
        },
        {"image_id": 1, "category_id": 7, "bbox": [30, 10, 20, 24], "note": "kept"},
        {"image_id": 1, "category_id": 7, "bbox": [0, 30, 64, 18], "iscrowd": 1},
        {"image_id": 2, "category_id": 3, "bbox": [20, 10, 24, 24]},
    ]
    names = ["train/a.png", "train/b.jpg", "val/a.png"]
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(seed).save(folder / name)
    images = [{"id": k, "file_name": name} for k, name in enumerate(names, start=1)]
    for row_id, row in enumerate(rows):
        row["id"] = row_id
    (folder / "boxes.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": CATEGORIES}))
    return folder


@pytest.fixture
def run(data, tmp_path, capsys):
    """Run the command on the three pictures: exit code, lines printed, lines of errors."""

    def run(*args, out="out"):
        command = ["augment", data, "--boxes", data / "boxes.json", "--out", tmp_path / out, *args]
        code = cli.main([str(word) for word in command])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def files(folder):
    """All files of a folder and what is in them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def visible(folder):
    return sorted(name for name in files(folder) if not name.startswith("."))


NAMES = ["train/a_0.png", "train/b_0.jpg", "val/a_0.png"]


def test_pictures_and_labels_are_written_in_the_form_they_came_in(run, data, tmp_path):
    before = files(data)
    code, lines, errors = run()
    assert (code, errors) == (0, []) and lines == [str(tmp_path / "out/manifest.jsonl")]
    expected = ["annotations.json", "manifest.jsonl", *(f"images/{name}" for name in NAMES)]
    assert visible(tmp_path / "out") == sorted(expected)
    assert files(data) == before
    manifest = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in manifest] == NAMES
    assert [row["of"] for row in manifest] == [str(data / name) for name in ("train/a.png", "train/b.jpg", "val/a.png")]
    assert len({row["seed"] for row in manifest}) == 3


def test_what_does_not_move_is_written_as_it_was(run, data, tmp_path):
    """As pycocotools reads both: boxes, classes, masks, keypoints, crowds and what else is told."""
    assert run(*STILL)[0] == 0
    with contextlib.redirect_stdout(None):
        was, now = COCO(str(data / "boxes.json")), COCO(str(tmp_path / "out/annotations.json"))
    assert now.loadCats(now.getCatIds()) == CATEGORIES
    assert [entry["file_name"] for entry in now.loadImgs([1, 2, 3])] == NAMES
    assert all((entry["height"], entry["width"]) == SIZE for entry in now.loadImgs([1, 2, 3]))
    for image in (1, 2, 3):
        old, new = (each.loadAnns(each.getAnnIds([image])) for each in (was, now))
        assert [row["category_id"] for row in old] == [row["category_id"] for row in new]
        assert [row["bbox"] for row in old] == [row["bbox"] for row in new]
        assert [row.get("iscrowd", 0) for row in old] == [row["iscrowd"] for row in new]
    first, second, crowd = now.loadAnns(now.getAnnIds([1]))
    assert first["keypoints"] == [10, 10, 2, 0, 0, 0] and first["num_keypoints"] == 1
    assert second["note"] == "kept" and second["area"] == 480 and crowd["bbox"] == [0, 30, 64, 18]
    y, x = np.mgrid[:48, :64] + 0.5
    triangle = (x > 8) & (y > 8) & (x + y < 36)
    with pytest.warns(DeprecationWarning, match="__array__"):
        assert (now.annToMask(first).astype(bool) == triangle).all()
    assert first["segmentation"] == TRIANGLE and first["area"] == 200
    for name in ("train/a", "val/a"):
        with Image.open(data / f"{name}.png") as one, Image.open(tmp_path / f"out/images/{name}_0.png") as other:
            assert np.array_equal(np.asarray(one), np.asarray(other))


def test_a_copy_is_what_the_augmentation_makes_of_its_seed(run, data, tmp_path):
    assert run("--degrees", 90, "--matte", "ellipse", "--seed", 5)[0] == 0
    manifest = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    with Image.open(data / "val/a.png") as file:
        image = torch.from_numpy(np.array(file)).permute(2, 0, 1)
    generator = torch.Generator().manual_seed(manifest[2]["seed"])
    turn = kp.RandomPatchAffine(
        90.0, (0.05, 0.05), (0.9, 1.1), 0.0, p=1.0, clip=False, fill="surroundings", matte="ellipse", feather=0.1,
        generator=generator,
    )  # fmt: skip
    masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    masks[:, 10:34, 20:44] = True  # as others have shapes
    target = {"boxes": torch.tensor([[20.0, 10, 44, 34]], dtype=torch.float64), "masks": masks}
    assert manifest[2]["of"].endswith("val/a.png")
    (expected,), _ = kp.DetectionSequential(turn)([image], [{"boxes": torch.zeros(0, 4)}])
    with Image.open(tmp_path / "out/images/val/a_0.png") as file:
        assert np.array_equal(np.array(file), expected.permute(1, 2, 0).numpy())  # of no objects
    with Image.open(data / "train/b.jpg") as file:
        image = torch.from_numpy(np.array(file)).permute(2, 0, 1)
    turn.generator.manual_seed(manifest[1]["seed"])
    _, (expected,) = kp.DetectionSequential(turn)([image], [target])
    (row,) = [
        row
        for row in json.loads((tmp_path / "out/annotations.json").read_text())["annotations"]
        if row["image_id"] == 2
    ]
    x, y, w, h = row["bbox"]
    found = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float64)
    assert torch.allclose(found, expected["boxes"], rtol=0, atol=0.0101)  # of two numbers of two digits


def read(folder, form):
    """The objects of each picture of a written data set, as boxes and classes."""
    top = folder / {"coco": "images", "yolo": "images", "voc": "JPEGImages"}[form]
    pictures = sorted(path for path in top.rglob("*") if path.is_file())
    given, notes = (folder / "annotations.json" if form == "coco" else None), Notes()
    labels = Labels(pictures, given, form)
    found = [labels.read(picture, SIZE, notes) for picture in pictures]
    assert list(notes.lines()) == []
    return [[(each.label, each.box) for each in objects if not each.crowd] for objects in found]


def test_every_form_says_the_same(run, tmp_path):
    """To half a pixel in Pascal VOC, whose numbers are whole; YOLO's polygons are those of the masks."""
    for form in ("coco", "yolo", "voc"):
        assert run("--degrees", 40, "--copies", 2, "--format", form, out=form)[0] == 0
    coco, yolo, voc = (read(tmp_path / form, form) for form in ("coco", "yolo", "voc"))
    assert [len(objects) for objects in coco] == [2, 2, 1, 1, 0, 0]
    for one, other, third in zip(coco, yolo, voc, strict=True):
        assert [label for label, _ in one] == [label for label, _ in other] == [label for label, _ in third]
        for (_, a), (_, b), (_, c) in zip(one, other, third, strict=True):
            # COCO's corners are of two numbers of two digits, YOLO's shares of 64 pixels have six.
            assert np.allclose(a, b, rtol=0, atol=0.0102) and np.allclose(a, c, rtol=0, atol=0.5 + 0.0101)
    assert (tmp_path / "voc/ImageSets/Main/train.txt").read_text().split()[:2] == ["train_a_0", "train_a_1"]
    assert yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())["names"] == {0: "cat", 1: "dog"}


def test_yolo_keypoints_and_numbers_of_classes_are_kept(tmp_path, capsys):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    noise(0).save(folder / "images/a.png")
    (folder / "labels/a.txt").write_text("4 0.5 0.5 0.25 0.5 0.5 0.5 2 0 0 0\n")
    (folder / "data.yaml").write_text("names: {0: cat, 4: dog}\nkpt_shape: [2, 3]\n")
    command = ["augment", folder / "images", "--out", tmp_path / "out", *STILL]
    assert cli.main([str(word) for word in command]) == 0
    words = (tmp_path / "out/labels/a_0.txt").read_text().split()
    assert words[0] == "4" and np.allclose([float(w) for w in words[1:]], [0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 2, 0, 0, 0])
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text()) == {
        "train": "images",  # beside the file
        "val": "images",
        "names": {0: "cat", 1: "class 1", 2: "class 2", 3: "class 3", 4: "dog"},  # tools want all up to the last
        "kpt_shape": [2, 3],
    }


def augment(capsys, *words):
    """Run the command: exit code, lines printed, lines of errors."""
    code = cli.main(["augment", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def put(path, content=None):
    """A picture, or text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        noise(0).save(path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_numbers_of_classes_without_names_are_kept(tmp_path, capsys):
    put(tmp_path / "yolo/a.png")
    put(tmp_path / "yolo/a.txt", "0 0.5 0.5 0.25 0.5\n11 0.5 0.5 0.25 0.5\n2 0.5 0.5 0.25 0.5\n")
    assert augment(capsys, tmp_path / "yolo", "--out", tmp_path / "out", *STILL)[0] == 0
    lines = (tmp_path / "out/labels/a_0.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "11", "2"]
    put(tmp_path / "coco/a.png")
    row = {"image_id": 1, "category_id": 9, "bbox": [8, 8, 20, 20]}
    put(tmp_path / "coco/a.json", {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [row]})
    assert augment(capsys, tmp_path / "coco", "--out", tmp_path / "again")[0] == 0
    assert json.loads((tmp_path / "again/annotations.json").read_text())["annotations"][0]["category_id"] == 9


def test_classes_of_two_sets_stay_apart(tmp_path, capsys):
    """Both count from 0, and mean another class by it."""
    for name in ("cat", "dog"):
        put(tmp_path / name / f"{name}.png")
        put(tmp_path / name / f"{name}.txt", "0 0.5 0.5 0.5 0.5\n")
        put(tmp_path / name / "data.yaml", f"names: [{name}]\n")
    assert augment(capsys, tmp_path / "cat", tmp_path / "dog", "--out", tmp_path / "out")[0] == 0
    assert [label for ((label, _),) in read(tmp_path / "out", "yolo")] == ["cat", "dog"]


@pytest.mark.parametrize(("form", "pictures"), [("coco", "images"), ("yolo", "images"), ("voc", "JPEGImages")])
def test_what_is_written_is_read_again(run, tmp_path, capsys, form, pictures):
    """Where tools look for labels, also of a root whose pictures are in a folder of that name, and by ourselves."""
    assert run("--format", form)[0] == 0
    assert augment(capsys, tmp_path / "out", "--out", tmp_path / "again")[0] == 0
    names = visible(tmp_path / "again")
    assert f"{pictures}/{'train_a_0_0.png' if form == 'voc' else 'train/a_0_0.png'}" in names
    assert [len(objects) for objects in read(tmp_path / "again", form)] == [2, 1, 0]


def test_names_of_classes_are_those_that_came(tmp_path, capsys):
    names = ["\U0001f600", "yes", "\x7f\x85", "a: [b", "\ud83d", "1"]
    put(tmp_path / "data/a.png")
    rows = [{"image_id": 1, "category_id": k, "bbox": [8, 8, 20, 20]} for k in range(len(names))]
    told = [{"id": k, "name": name} for k, name in enumerate(names)]
    put(
        tmp_path / "data/a.json",
        {"images": [{"id": 1, "file_name": "a.png"}], "annotations": rows, "categories": told},
    )
    assert augment(capsys, tmp_path / "data", "--format", "yolo", "--out", tmp_path / "out")[0] == 0
    assert list(yaml.safe_load((tmp_path / "out/data.yaml").read_text())["names"].values()) == names


def test_what_coco_says_of_pictures_and_classes_is_kept(tmp_path, capsys):
    put(tmp_path / "data/a.png")
    told = {
        "info": {"year": 2020},
        "licenses": [{"id": 4, "name": "MIT"}],
        "images": [{"id": 1, "file_name": "a.png", "license": 4, "width": 64}],
        "annotations": [{"image_id": 1, "category_id": 2, "bbox": [8, 8, 20, 20], "score": float("nan")}],
        "categories": [{"id": 2, "name": "cat", "supercategory": "animal", "skeleton": [[1, 2]]}],
    }
    put(tmp_path / "data/a.json", told)
    assert augment(capsys, tmp_path / "data", "--out", tmp_path / "out")[0] == 0
    text = (tmp_path / "out/annotations.json").read_text()
    found = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    assert all(found[name] == told[name] for name in ("info", "licenses", "categories"))
    assert found["images"] == [{"id": 1, "file_name": "a_0.png", "width": 64, "height": 48, "license": 4}]


@pytest.mark.parametrize(
    ("form", "lost"), [("coco", []), ("yolo", ["keypoints", "crowds"]), ("voc", ["shapes", "keypoints", "crowds"])]
)
def test_what_a_form_has_no_room_for_is_said(run, tmp_path, form, lost):
    code, _, errors = run("--format", form)
    assert code == 0 and [line.split(": ")[2].split(",")[0] for line in errors] == lost
    if form == "yolo":
        assert "kpt_shape" not in (tmp_path / "out/data.yaml").read_text()


def test_nothing_is_written_outside(tmp_path, capsys, monkeypatch):
    """A folder that is named by way of another is not below that."""
    for name in ("here", "beside"):
        put(tmp_path / "in" / name / f"{name}.png")
        put(tmp_path / "in" / name / f"{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    monkeypatch.chdir(tmp_path / "in/here")
    before = files(tmp_path)
    assert augment(capsys, ".", "../beside", "--out", "../../out")[0] == 0
    assert {name: data for name, data in files(tmp_path).items() if not name.startswith("out/")} == before
    assert [name for name in visible(tmp_path / "out") if name.startswith("images")] == [
        "images/beside_0.png",
        "images/here_0.png",
    ]


def test_links_in_the_folder_are_refused(run, data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/images").symlink_to(data)
    before = files(data)
    code, _, errors = run()
    assert code == 2 and "is there already" in errors[0] and files(data) == before


def test_what_it_wrote_is_no_picture_of_yours(run, data, tmp_path, capsys):
    assert run(out="data/more")[0] == 0
    code, _, errors = run("--seed", 1, out="data/again")
    assert code == 0 and "passed over: a folder that augment wrote" in errors[0] and "more" in errors[0]
    assert [name for name in visible(data / "again") if name.startswith("images")] == [f"images/{n}" for n in NAMES]


def test_other_labels_are_another_call(run, data, tmp_path):
    assert run()[0] == 0
    told = json.loads((data / "boxes.json").read_text())
    told["annotations"][-1]["bbox"][0] += 1
    (data / "boxes.json").write_text(json.dumps(told))
    code, _, errors = run("--resume")
    assert code == 2 and "other options, pictures or labels" in errors[0]


def test_the_folder_one_is_in_does_not_matter(data, tmp_path, capsys, monkeypatch):
    """Shards of one call may be begun anywhere."""
    for shard, where in enumerate((data.parent, data)):
        monkeypatch.chdir(where)
        path, boxes, out = map(os.path.relpath, (data, data / "boxes.json", tmp_path / "out"))
        assert augment(capsys, path, "--boxes", boxes, "--out", out, "--shard", f"{shard}/2")[0] == 0
    assert "manifest.jsonl" in visible(tmp_path / "out")


def test_of_a_broken_picture_nothing_is_pasted(run, data):
    whole = (data / "train/a.png").read_bytes()
    (data / "train/a.png").write_bytes(whole[: len(whole) // 2])
    code, _, errors = run("--paste", 2, "--copies", 3)
    assert code == 0 and len(errors) == 1 and "(" in errors[0]
    assert errors[0].count("train/a.png") == 3 and "b.jpg" not in errors[0]


LOST = {
    "a record": (".records/pictures/train/b_0.jpg.json", None),
    "half a record": (".records/pictures/train/b_0.jpg.json", b'{"file'),
    "another's record": (".records/pictures/train/b_0.jpg.json", b"{}"),
    "labels": ("labels/train/b_0.txt", None),
    "a picture": ("images/train/b_0.jpg", None),
    "what is in a picture": ("images/train/b_0.jpg", b""),
}


@pytest.mark.parametrize("what", LOST)
def test_what_was_lost_is_made_again(run, tmp_path, what):
    assert run("--format", "yolo")[0] == 0
    whole, (name, content) = files(tmp_path / "out"), LOST[what]
    if content is None:
        (tmp_path / "out" / name).unlink()
    else:
        (tmp_path / "out" / name).write_bytes(content)
    assert run("--format", "yolo", "--resume")[0] == 0 and files(tmp_path / "out") == whole


def test_a_shard_does_not_end_what_another_is_at(run, tmp_path):
    """A record is written before its picture."""
    assert run("--shard", "0/2")[0] == run("--shard", "1/2")[0] == 0
    whole = files(tmp_path / "out")
    for name in ("manifest.jsonl", "images/train/b_0.jpg"):
        (tmp_path / "out" / name).unlink()
    code, lines, _ = run("--shard", "0/2")
    assert code == 0 and "others are not" in lines[0] and not (tmp_path / "out/manifest.jsonl").exists()
    assert run("--shard", "1/2")[0] == 0 and files(tmp_path / "out") == whole


def test_where_nothing_can_be_used_nothing_is_written(run, data, tmp_path):
    told = json.loads((data / "boxes.json").read_text())
    (data / "boxes.json").write_text(json.dumps({**told, "images": []}))
    code, lines, errors = run()
    assert (code, lines) == (2, []) and "no entries with this file_name" in errors[0]
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_made_is_left_out_and_the_rest_is_made(tmp_path, capsys, monkeypatch):
    """Names that are too long, JPEGs that are too wide, shapes that memory has no room for, what is gone meanwhile."""
    folder = tmp_path / "data"
    for name in ("a", "b" * 220, "gone", "many"):
        put(folder / f"{name}.png")
        put(folder / f"{name}.txt", "0 0.1 0.1 0.5 0.1 0.5 0.5\n" * (40 if name == "many" else 1))
    Image.new("RGB", (70_000, 1)).save(folder / "wide.png")
    (folder / "wide.png").rename(folder / "wide.jpg")
    put(folder / "wide.txt", "0 0.5 0.5 0.5 1\n")
    monkeypatch.setattr(readers, "ROOM", 80_000)  # bytes
    surveyed = cli.survey

    def survey(*given):
        found = surveyed(*given)
        (folder / "gone.png").unlink()
        return found

    monkeypatch.setattr(cli, "survey", survey)
    code, _, errors = augment(capsys, folder, "--out", tmp_path / "out")
    assert code == 0 and len(visible(tmp_path / "out")) == 4  # a picture, its labels, and what is of all
    said = {line.split(": ")[2].split(" (")[0] for line in errors}
    assert {"a name that is too long", "cannot be written as .jpg"} <= said
    assert any(text.startswith("40 shapes in a picture of 64 x 48") for text in said)
    assert any("gone.png" in line and "not a picture that can be read" in line for line in errors)


def test_labels_by_hand(tmp_path, capsys):
    """Run lengths' area, points that are hidden, thin boxes, polygons that leave the picture."""
    put(tmp_path / "data/a.png")
    mask = np.zeros(SIZE, bool)
    mask[8:20, 8:28] = True
    runs = runs_of(mask)
    box = [8, 8, 20, 12]
    rows = [
        {"bbox": box, "segmentation": {"size": list(SIZE), "counts": runs.counts.tolist()}, "keypoints": [9, 9, 1] * 2},
        {"bbox": [30, 30, 0.25, 0.25]},
        {"bbox": [40, 2, 20, 20], "segmentation": [[40, -9, 60, -9, 60, 22, 40, 22]]},
    ]
    rows = [{"image_id": 1, "category_id": 1, **row} for row in rows]
    told = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    put(tmp_path / "data/a.json", told)
    for form in ("coco", "yolo", "voc"):
        options = ["--format", form, "--out", tmp_path / form, "--min-visible", 0, *STILL]
        assert augment(capsys, tmp_path / "data", *options)[0] == 0
    first, *_ = json.loads((tmp_path / "coco/annotations.json").read_text())["annotations"]
    assert first["area"] == 240 and first["num_keypoints"] == 2
    lines = (tmp_path / "yolo/labels/a_0.txt").read_text().splitlines()
    assert all(0 <= float(word) <= 1 for line in lines for word in line.split())
    text = (tmp_path / "voc/Annotations/a_0.xml").read_text()
    corners = [[int(n) for n in re.findall(r"<[xy]m..>(\d+)<", each)] for each in text.split("<object>")[1:]]
    assert corners[0] == [9, 9, 28, 20] and all(x1 <= x2 and y1 <= y2 for x1, y1, x2, y2 in corners)


def test_labels_of_what_is_hidden_are_left_out(tmp_path, capsys):
    """Six times as large, one has 61 % of itself in the picture, on top of the other, of which 3 % are left."""
    put(tmp_path / "data/a.png")
    rows = [{"image_id": 1, "category_id": 1, "bbox": box} for box in ([4, 4, 30, 30], [40, 10, 10, 10])]
    told = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    put(tmp_path / "data/a.json", told)
    for least, expected in ((0.01, 2), (0.3, 1), (0.7, 0)):
        out = tmp_path / str(least)
        options = ["--out", out, "--min-visible", least, *STILL, "--scale", 6, 6]
        assert augment(capsys, tmp_path / "data", *options)[0] == 0
        assert len(json.loads((out / "annotations.json").read_text())["annotations"]) == expected


def test_donors_are_other_pictures(run, tmp_path):
    assert run("--paste", 2, "--copies", 5)[0] == 0
    for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines():
        told = json.loads(line)
        assert len(told["pasted_from"]) == 2 and told["of"] not in told["pasted_from"]


def test_what_killed_processes_left_is_swept_up(run, tmp_path):
    assert run("--shard", "0/2")[0] == 0
    (tmp_path / "out/images/.0123.part").write_bytes(b"half")
    assert run("--shard", "1/2")[0] == 0
    assert not list((tmp_path / "out").rglob("*.part"))


def test_names_differ_by_more_than_case():
    """As some file systems tell none apart."""
    taken = set()
    assert [free_name(name, taken) for name in ("a.png", "A.jpg", "a_2.png")] == ["a.png", "A_2.jpg", "a_2_2.png"]


def test_ctrl_c_says_how_to_go_on(run, monkeypatch):
    def ended(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "spread", ended)
    assert run() == (130, [], ["kornia-patchaug: ended; the same with --resume goes on"])


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_shards_and_workers_make_the_same_files(run, tmp_path, form):
    options = ["--copies", 3, "--paste", 2, "--degrees", 50, "--format", form]
    assert run(*options)[0] == 0
    whole = files(tmp_path / "out")
    for shard in ("1/3", "2/3", "0/3"):
        code, lines, _ = run(*options, "--shard", shard, out="shards")
        assert code == 0
        last = shard == "0/3"
        assert ("manifest.jsonl" in lines[0]) == last and (tmp_path / "shards/manifest.jsonl").exists() == last
    assert files(tmp_path / "shards") == whole
    assert run(*options, "--seed", 1, out="other")[0] == 0
    assert files(tmp_path / "other") != whole


@pytest.mark.slow
def test_processes_make_the_same_files(run, tmp_path):
    options = ["--copies", 3, "--paste", 2]
    assert run(*options)[0] == run(*options, "--workers", 2, out="two")[0] == 0
    assert files(tmp_path / "out") == files(tmp_path / "two")


def test_copies_are_pasted_with_their_labels(run, tmp_path):
    assert run(*STILL, "--paste", 6, "--copies", 4)[0] == 0
    counts = [len(objects) for objects in read(tmp_path / "out", "coco")]
    assert sum(counts) > 12 and max(counts) <= 2 + 6  # without copies 2, 1 and 0 objects, four times


def test_a_folder_that_is_there_is_refused(run, tmp_path):
    (tmp_path / "out/.records").mkdir(parents=True)
    (tmp_path / "out/.records/.0.part").write_bytes(b"")  # of a process that was killed before it had begun
    assert run()[0] == 0
    before = files(tmp_path / "out")
    code, lines, errors = run()
    assert (code, lines) == (2, []) and "is there already" in errors[0] and "--resume" in errors[0]
    assert run("--resume")[0] == 0 and files(tmp_path / "out") == before
    for options in (["--seed", 1], ["--copies", 2], ["--degrees", 7]):
        code, _, errors = run("--resume", *options)
        assert code == 2 and "other options, pictures or labels" in errors[0]
    assert files(tmp_path / "out") == before


def test_whatever_ends_it_nothing_is_lost_or_broken(run, tmp_path, monkeypatch):
    """Killed at each of the first 20 moments at which a file is about to be there, or half of it is."""
    options = ["--copies", 3, "--format", "yolo", "--matte", "none"]
    assert run(*options)[0] == 0
    whole, replace, write = files(tmp_path / "out"), Path.replace, Path.write_bytes
    for moment in range(20):
        out, left = f"killed{moment}", iter(range(moment))

        def now(path, *args, left=left, half=moment % 2):
            if next(left, None) is None:
                if half:
                    write(path, b"half")
                raise KeyboardInterrupt
            return replace(path, *args)

        monkeypatch.setattr(Path, "replace", now)
        assert run(*options, out=out)[0] == 130
        monkeypatch.setattr(Path, "replace", replace)
        there = files(tmp_path / out)
        assert there.items() <= whole.items()
        for name in [name for name in there if name.startswith("images/")]:
            stem = name.removeprefix("images/").rsplit(".", 1)[0]
            assert f"labels/{stem}.txt" in there  # no picture without its labels
        assert run(*options, "--resume", out=out)[0] == 0 and files(tmp_path / out) == whole


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "Ctrl-C"])
def test_ended_while_it_runs_it_goes_on(run, data, tmp_path, how):
    options = ["--copies", "12", "--matte", "none", "--workers", "2"]
    command = [sys.executable, "-m", "kornia_patchaug", "augment", str(data), "--boxes", str(data / "boxes.json")]
    command += ["--out", str(tmp_path / "out"), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells ignore in the background
    begun = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").rglob("[!.]*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    if how == "killed":
        begun.kill()
    else:  # of all its processes, as a terminal does it
        os.killpg(begun.pid, signal.SIGINT)
    _, errors = begun.communicate(timeout=60)  # until all have closed it: the workers end with the command
    if how == "Ctrl-C":
        assert begun.returncode == 130 and errors == "kornia-patchaug: ended; the same with --resume goes on\n"
    for path in (path for path in (tmp_path / "out/images").rglob("[!.]*") if path.is_file()):
        with Image.open(path) as image:
            image.load()
    assert not (tmp_path / "out/manifest.jsonl").exists()
    assert run(*options, "--resume")[0] == run(*options, out="whole")[0] == 0
    now = {name: content for name, content in files(tmp_path / "out").items() if not name.endswith(".part")}
    assert now == files(tmp_path / "whole")


def test_a_picture_that_cannot_be_read_is_left_out_and_said(run, data, tmp_path):
    whole = (data / "train/a.png").read_bytes()
    (data / "train/a.png").write_bytes(whole[: len(whole) // 2])  # its head can be read
    code, _, errors = run("--copies", 2)
    assert code == 0 and "left out: not a picture that can be read" in errors[0] and "a.png" in errors[0]
    assert visible(tmp_path / "out") == sorted(
        [
            "annotations.json",
            "manifest.jsonl",
            *(f"images/{n}" for n in ("train/b_0.jpg", "train/b_1.jpg", "val/a_0.png", "val/a_1.png")),
        ]
    )
    assert len(json.loads((tmp_path / "out/annotations.json").read_text())["images"]) == 4
    (data / "train/a.png").write_bytes(whole)
    assert run("--copies", 2, "--resume")[0] == 0
    assert len(json.loads((tmp_path / "out/annotations.json").read_text())["images"]) == 6


def test_pictures_of_one_name_do_not_overwrite_each_other(tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        noise(0).save(tmp_path / folder / "a.png")
        (tmp_path / folder / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    command = ["augment", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out"]
    assert cli.main([str(word) for word in command]) == 0
    assert [name for name in visible(tmp_path / "out") if name.startswith("images")] == [
        "images/a_0.png",
        "images/a_2_0.png",
    ]


BAD = [
    (["--shard", "2/2"], "I/N with I from 0 to N - 1"),
    (["--shard", "x"], "I/N"),
    (["--copies", "0"], "--copies"),
    (["--paste", "-1"], "--paste"),
    (["--min-visible", "2"], "--min-visible"),
    (["--workers", "0"], "--workers"),
    (["--format", "csv"], "--format"),
    (["--from", "yolo"], "no YOLO txt found"),
    (["--scale", "1.2", "0.8"], "LO <= HI"),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_arguments_end_in_one_line(run, tmp_path, options, words):
    code, lines, errors = run(*options)
    assert (code, lines) == (2, []) and len(errors) == 1 and words in errors[0]
    assert not (tmp_path / "out").exists()


def test_hostile_names_stay_in_their_folder(tmp_path, capsys):
    """What JSON says of names is text; only the names of files that were found are written."""
    folder = tmp_path / "data"
    folder.mkdir()
    noise(0).save(folder / "a.png")
    images = [{"id": 1, "file_name": "../../../a.png"}, {"id": 2, "file_name": "/etc/passwd"}]
    named = [{"id": 1, "name": "../x</name><name>\x01\n"}]
    row = {"image_id": 1, "category_id": 1, "bbox": [8, 8, 20, 20]}
    (folder / "boxes.json").write_text(json.dumps({"images": images, "annotations": [row], "categories": named}))
    for form in ("coco", "yolo", "voc"):
        command = ["augment", folder, "--out", tmp_path / form, "--format", form]
        assert cli.main([str(word) for word in command]) == 0
        assert [len(objects) for objects in read(tmp_path / form, form)] == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "data", "voc", "yolo"]
