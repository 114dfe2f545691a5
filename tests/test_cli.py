"""The preview command: which files it reads and writes, what it prints, and how it fails."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_preview import GROUND, tiles_of

from kornia_patchaug import cli, preview
from kornia_patchaug.preview import Ranges

ROOT = Path(__file__).parents[1]
SIZES = {"one.png": (60, 40), "two.png": (40, 60)}
ENTRIES = [
    {"id": 0, "file_name": "train/one.png", "width": 60, "height": 40},
    {"id": 1, "file_name": "train/two.png", "width": 40, "height": 60},
]
ROWS = [
    {"id": 1, "image_id": 0, "category_id": 5, "bbox": [10, 10, 20.5, 16]},
    {"id": 2, "image_id": 0, "category_id": 6, "bbox": [35, 4, 12, 30], "iscrowd": 0},
    {"id": 3, "image_id": 1, "category_id": 5, "bbox": [5, 20, 20, 20]},
]
COCO = {"images": ENTRIES, "annotations": ROWS, "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}]}


def save(folder, coco=COCO, name="boxes.json"):
    (folder / name).write_text(coco if isinstance(coco, str) else json.dumps(coco))
    return folder / name


def with_row(**changes):
    """The JSON with one annotation changed."""
    return {**COCO, "annotations": [{**ROWS[0], **changes}, *ROWS[1:]]}


def with_entry(**changes):
    return {**COCO, "images": [{**ENTRIES[0], **changes}, ENTRIES[1]]}


def without(rows, key):
    return [{k: v for k, v in row.items() if k != key} for row in rows]


@pytest.fixture
def folder(tmp_path):
    """Two pictures and their boxes, beside nothing else."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in SIZES.items():
        Image.new("RGB", size, GROUND).save(folder / name)
    save(folder)
    return folder


@pytest.fixture
def small_gifs(monkeypatch):
    """Animations that take no time; test_preview.py looks at them as they are."""
    monkeypatch.setattr("kornia_patchaug.preview.GIF_TILE", 80)


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command into ``tmp_path/out``, one draw a picture: exit code, lines printed, lines of errors."""

    def run(*args, out=tmp_path / "out", draws=1):
        options = ["--out", out, "--draws", draws] if out else []
        code = cli.main(["preview", *map(str, args), *map(str, options)])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def assert_fails(result, *words, printed=0):
    code, lines, errors = result
    assert code == 2 and len(lines) == printed
    assert len(errors) == 1 and errors[0].startswith("kornia-patchaug: ")
    for word in words:
        assert str(word) in errors[0]


def load(path):
    with Image.open(path) as image:
        return image.copy()


def names(lines):
    return [Path(line).name for line in lines]


def test_a_folder_gives_a_sheet_a_picture_and_a_page(folder, run):
    code, lines, errors = run(folder)
    assert (code, errors) == (0, [])
    assert names(lines) == ["one.png", "two.png", "index.html"]
    assert [len(tiles_of(load(line))) for line in lines[:2]] == [2, 2]


def test_animate_adds_a_gif_a_picture(folder, run, small_gifs):
    code, lines, _ = run(folder / "two.png", "--animate")
    assert code == 0 and names(lines) == ["two.png", "two.gif", "index.html"]
    with Image.open(lines[1]) as gif:
        assert gif.n_frames > 20 and gif.info["loop"] == 0


@pytest.mark.parametrize("draws", [1, 4])
def test_draws_says_how_many(folder, run, draws):
    _, lines, _ = run(folder / "one.png", draws=draws)
    assert len(tiles_of(load(lines[0]))) == 1 + draws


def test_files_are_shown_in_their_order_and_once(folder, run):
    _, lines, _ = run(folder / "two.png", folder / "one.png", folder / "two.png")
    assert names(lines) == ["two.png", "one.png", "index.html"]


def test_boxes_may_lie_elsewhere(folder, run, tmp_path):
    elsewhere = (folder / "boxes.json").rename(tmp_path / "coco.json")
    assert_fails(run(folder), folder / "one.png", "no labels found", "--boxes")
    assert run(folder, "--boxes", elsewhere)[0] == 0
    assert run(folder, "--boxes", tmp_path)[0] == 0


def test_pictures_of_one_name_do_not_overwrite_each_other(folder, run, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    Image.new("RGB", (60, 40), "navy").save(second / "ONE.png")
    save(second, {"images": [{"id": "a", "file_name": "ONE.png"}], "annotations": []})
    code, lines, _ = run(folder / "one.png", second)
    assert code == 0 and names(lines) == ["one.png", "ONE_2.png", "index.html"]


def told(path):
    """What a page says of its pictures, and the command that made it."""
    return json.loads(Path(path).read_text("utf-8").split('id="given">')[1].split("</script>")[0])


def objects(path):
    """The names of the objects of each picture of a page."""
    return {picture["name"]: picture["labels"] for picture in told(path)["pictures"]}


def test_the_page_has_all_pictures_with_their_objects_and_names_the_command(folder, run, tmp_path):
    name = "it's <b> & 100%.png"
    (folder / "one.png").rename(folder / name)
    save(folder, with_entry(file_name=name))
    code, lines, _ = run(folder, "--degrees", "10")
    assert code == 0 and objects(lines[-1]) == {name: ["cat", "dog"], "two.png": ["cat"]}
    found = told(lines[-1])
    arguments = ["preview", str(folder), "--degrees", "10", "--out", str(tmp_path / "out"), "--draws", "1"]
    assert shlex.split(found["command"]) == ["kornia-patchaug", *arguments]
    assert found["ranges"]["degrees"] == 10 and found["draws"] == 1 and found["seed"] == "0"


def test_a_draw_that_a_page_saved_is_shown_again(folder, run, tmp_path):
    """On the sheet as on the page, whatever the options of the command say; pictures that it does not have are left
    out, and so are those whose labels changed."""
    boxes = [[10, 10, 30.5, 26], [35, 4, 47, 34]]
    theta = [[0.0, -1, 0.1, 1, 0, 0], [1, 0, 0, 0, 1, 0]]
    options = {"padding_mode": "zeros", "clip": False, "fill": 0.5, "matte": None, "feather": 0.1, "order": "rows"}
    one = {"name": "one.png", "width": 60, "height": 40, "boxes": boxes, "thetas": theta}
    drawn = {"degrees": 33, "translate": [0.05, 0.05], "scale": [0.9, 1.1], "shear": 0}
    draw = {"version": 1, "seed": "7", "draw": 2, "options": options, "ranges": drawn, "pictures": [one]}
    file = save(tmp_path, draw, "draw.json")
    code, lines, errors = run(folder, "--replay", file, draws=4)
    assert code == 0 and names(lines) == ["one.png", "index.html"]
    assert len(errors) == 1 and "left out: not in the draw that is replayed" in errors[0] and "two.png" in errors[0]
    sheet = load(lines[0])
    assert len(tiles_of(sheet)) == 2
    found = told(lines[-1])
    assert np.allclose(found["pictures"][0]["thetas"], theta) and found["ranges"]["fill"] == 0.5
    image = preview.picture_tensor(load(folder / "one.png"))
    ranges = Ranges(33.0, (0.05, 0.05), (0.9, 1.1), 0.0, **options)
    shown = preview.Picture("one.png", image, torch.tensor(boxes), ("cat", "dog"))
    expected = preview.contact_sheet(shown, ranges, draws=1, seed=7, theta=torch.tensor(theta))
    assert np.array_equal(np.asarray(sheet), np.asarray(expected))
    save(folder, with_row(bbox=[10, 11, 20.5, 16]))
    assert_fails(run(folder, "--replay", file), "not in the draw that is replayed")
    assert_fails(run(folder, "--replay", save(tmp_path, "{}", "draw.json")), tmp_path / "draw.json", "expected")
    assert_fails(run(folder, "--replay", tmp_path / "none.json"), "none.json", "No such file")


def test_the_same_seed_writes_the_same_bytes_whatever_else_is_shown(folder, run, tmp_path):
    def sheet(out, *args):
        code, lines, _ = run(*args, out=tmp_path / out)
        assert code == 0
        return Path(next(line for line in lines if line.endswith("two.png"))).read_bytes()

    first = sheet("a", folder, "--seed", "7")
    assert sheet("b", folder / "two.png", "--seed", "7") == first != sheet("c", folder, "--seed", "8")


def test_options_reach_the_sheet(folder, run, tmp_path):
    options = [[], ["--degrees", 80], ["--translate", 0.5, 0.5], ["--scale", 0.3, 0.4], ["--shear", 40]]
    picture = folder / "one.png"
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(image).save(picture)
    paddings = "image", "zeros", "border", "reflection", "transparent"
    options += [["--scale", 0.3, 0.4, "--clip", "--padding-mode", mode] for mode in paddings]
    options += [["--translate", 1.5, 1.5], ["--clip"], ["--fill", "none"], ["--fill", 0.5], ["--feather", 0.6]]
    options += [["--matte", "none"], ["--matte", "ellipse"]]
    written = [Path(run(picture, *o, out=tmp_path / f"o{k}")[1][0]) for k, o in enumerate(options)]
    # Only the last tile, where the draw is: the header names the options anyway.
    draws = [np.asarray(load(path))[60:380, 528:1008].tobytes() for path in written]
    assert len(set(draws)) == len(options)


USUAL = Ranges(15.0, (0.05, 0.05), (0.9, 1.1), 0.0, "zeros", False, "surroundings", "box", 0.1)
WORDS = [
    ([], USUAL),
    (["--no-clip"], USUAL),
    (["--clip"], USUAL._replace(clip=True, padding_mode="image")),
    (["--clip", "--padding-mode", "border"], USUAL._replace(clip=True, padding_mode="border")),
    (["--padding-mode", "transparent"], USUAL._replace(padding_mode="transparent")),
    (["--fill", "none"], USUAL._replace(fill=None)),
    (["--fill", "surroundings"], USUAL),
    (["--fill", "0"], USUAL._replace(fill=0.0)),
    (["--fill", "1"], USUAL._replace(fill=1.0)),
    (["--matte", "none"], USUAL._replace(matte=None)),
    (["--matte", "ellipse", "--feather", "1"], USUAL._replace(matte="ellipse", feather=1.0)),
    (["--feather", "0"], USUAL._replace(feather=0.0)),
    (["--translate", "1.5", "100"], USUAL._replace(translate=(1.5, 100.0))),
    (["--clip", "--translate", "1", "1"], USUAL._replace(clip=True, padding_mode="image", translate=(1.0, 1.0))),
]


@pytest.mark.parametrize(
    ("arguments", "expected"), WORDS, ids=lambda case: " ".join(case) if type(case) is list else ""
)
def test_flags_are_the_options_of_the_augmentation(folder, run, monkeypatch, arguments, expected):
    seen = []
    sheet = cli.contact_sheet
    monkeypatch.setattr(
        cli, "contact_sheet", lambda picture, ranges, **k: seen.append(ranges) or sheet(picture, ranges, **k)
    )
    assert run(folder / "one.png", *arguments)[0] == 0
    assert seen == [expected]


def test_crowds_are_left_out(folder, run):
    crowd = {**ROWS[0], "iscrowd": 1, "bbox": "anything"}
    save(folder, {**COCO, "annotations": [crowd, *ROWS[1:]]})
    code, lines, _ = run(folder / "one.png")
    assert code == 0 and objects(lines[-1]) == {"one.png": ["dog"]}


def test_categories_and_sizes_may_be_missing(folder, run):
    save(folder, {"images": without(without(ENTRIES, "width"), "height"), "annotations": without(ROWS, "category_id")})
    code, lines, _ = run(folder)
    assert code == 0 and objects(lines[-1]) == {"one.png": ["object"] * 2, "two.png": ["object"]}


def test_a_box_may_stick_out_by_what_tools_round(folder, run):
    save(folder, with_row(bbox=[-0.4, 0, 60.8, 40.4]))
    assert run(folder / "one.png")[0] == 0


def grey(size):
    return Image.new("L", size, 99)


def deep_grey(size):
    return Image.fromarray(np.full(size[::-1], 99 * 257, np.uint16))


def palette(size):
    return Image.new("RGB", size, (99, 99, 99)).quantize(4)


def half_white(size):
    """Black under an alpha that lets white through to (99, 99, 99)."""
    return Image.new("RGBA", size, (0, 0, 0, 255 - 99))


def grey_and_alpha(size):
    return Image.new("LA", size, (0, 255 - 99))


@pytest.mark.parametrize("make", [grey, deep_grey, palette, half_white, grey_and_alpha], ids=lambda make: make.__name__)
def test_any_kind_of_picture_becomes_rgb(folder, run, make):
    make((60, 40)).save(folder / "one.png")
    code, lines, errors = run(folder / "one.png")
    assert (code, errors) == (0, [])
    assert [tile.shape for tile in tiles_of(load(lines[0]), (99, 99, 99))] == 2 * [(320, 480, 3)]


def turned(folder):
    """A picture stored lying, with red on its left, to be shown standing: EXIF orientation 6, red on top."""
    image = Image.new("RGB", (60, 40), GROUND)
    image.paste((255, 0, 0), (0, 0, 6, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "one.png", exif=exif)


def test_the_exif_orientation_counts(folder, run):
    turned(folder)
    save(folder, {"images": [{"id": 0, "file_name": "one.png", "width": 40, "height": 60}], "annotations": ROWS[:1]})
    code, lines, _ = run(folder / "one.png")
    assert code == 0
    pixels = np.asarray(load(lines[0]))
    rows, columns = np.nonzero((pixels[:, :450] == (255, 0, 0)).all(-1))
    assert np.ptp(columns) > 300 > 60 > np.ptp(rows)
    save(folder)  # whose sizes are those of the lying picture
    assert_fails(run(folder / "one.png"), "one.png", "width", "40", "60")


def test_what_cannot_be_used_is_left_out_and_said_in_the_end(folder, run, tmp_path):
    (folder / "two.png").write_bytes((folder / "two.png").read_bytes()[:60])
    (folder / "three.heic").write_bytes(b"")
    save(folder, with_row(bbox=[1, 2, 0, 3]))
    code, lines, errors = run(folder)
    assert code == 0 and names(lines) == ["one.png", "index.html"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "one.png"]
    assert objects(lines[-1]) == {"one.png": ["dog"]}
    assert len(errors) == 3 and all(line.startswith("kornia-patchaug: ") for line in errors)
    assert "passed over: no picture" in errors[0] and "three.heic" in errors[0]
    assert errors[1] == "kornia-patchaug: left out: a box without area (annotations[0] in boxes.json)"
    assert "left out: not a picture that can be read" in errors[2] and str(folder / "two.png") in errors[2]


def test_with_strict_what_cannot_be_used_is_an_error_and_what_was_written_stays(folder, run, tmp_path):
    (folder / "two.png").write_bytes(b"")
    assert_fails(run(folder, "--strict"), folder / "two.png", "not a picture", printed=2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "one.png"]
    assert len(tiles_of(load(tmp_path / "out" / "one.png"))) == 2
    save(folder, with_row(bbox=[1, 2, 0, 3]))
    assert_fails(run(folder, "--strict"), "annotations[0] in boxes.json", "a box without area")


BAD_JSON = [
    ("{", ["not JSON"]),
    ("[" * 100_000, ["not JSON"]),
    (b"\xff\xfe\x00", ["not JSON"]),
    ([], ["not COCO JSON", "images"]),
    ({"images": ENTRIES}, ["not COCO JSON", "annotations"]),
    ({**COCO, "images": without(ENTRIES, "id")}, ["an entry without an id", "one.png", "two.png"]),
    ({**COCO, "images": []}, ["no entries with this file_name", "one.png", "two.png"]),
]


@pytest.mark.parametrize(("coco", "words"), BAD_JSON)
def test_labels_of_no_picture_end_in_one_line(folder, run, coco, words):
    if isinstance(coco, bytes):
        (folder / "boxes.json").write_bytes(coco)
    else:
        save(folder, coco)
    assert_fails(run(folder), "boxes.json", *words)


def test_the_form_of_labels_can_be_said(folder, run):
    (folder / "one.txt").write_text("0 0.5 0.5 0.5 0.5\n" * 3)
    (folder / "classes.txt").write_text("bird\n")
    code, lines, errors = run(folder, "--format", "yolo")
    assert code == 0 and objects(lines[-1]) == {"one.png": ["bird"] * 3}
    assert len(errors) == 1 and "left out: no labels" in errors[0] and "two.png" in errors[0]
    assert_fails(run(folder, "--format", "voc"), "no Pascal VOC XML found")


def test_shapes_of_labels_become_mattes(folder, run, monkeypatch):
    save(folder, with_row(segmentation=[[10, 10, 30, 10, 10, 26]]))
    seen, sheet = [], cli.contact_sheet
    monkeypatch.setattr(
        cli, "contact_sheet", lambda picture, own, **k: seen.append((picture, own)) or sheet(picture, own, **k)
    )
    assert run(folder)[0] == run(folder / "one.png", "--matte", "box")[0] == 0
    assert [own.matte for _, own in seen] == ["mask", "box", "box"]
    (one, _), (two, _), _ = seen
    assert two.masks is None and one.masks.shape == (2, 40, 60)
    assert one.masks[0, 11, 11] and not one.masks[0, 24, 28]  # the half of the box that the triangle leaves
    assert one.masks[1].sum() == 12 * 30 and one.masks[1, 4:34, 35:47].all()


def test_the_first_pictures_are_shown_and_the_others_counted(folder, run):
    code, lines, errors = run(folder, "--limit", 1)
    assert code == 0 and names(lines) == ["one.png", "index.html"]
    assert errors == ["kornia-patchaug: shown: 1 of 2 pictures; --limit N shows more"]


def test_subfolders_are_looked_through_but_not_the_one_that_is_written(folder, run):
    (folder / "train").mkdir()
    Image.new("RGB", (60, 40), GROUND).save(folder / "train/one.png")
    save(folder / "train")
    for _ in range(2):
        code, lines, errors = run(folder, out=folder / "out")
        assert (code, errors) == (0, [])
        assert names(lines) == ["one.png", "one_2.png", "two.png", "index.html"]


BAD_ARGUMENTS = [
    (["--degrees", "-1"], ["--degrees", "0 to 360", "'-1'"]),
    (["--degrees", "nan"], ["--degrees", "'nan'"]),
    (["--translate", "0.1"], ["--translate", "2"]),
    (["--translate", "0.1", "101"], ["--translate", "0 to 100", "'101'"]),
    (["--clip", "--translate", "0.1", "1.5"], ["--translate", "0 to 1 with --clip", "1.5"]),
    (["--scale", "1.2", "0.8"], ["--scale", "LO <= HI", "1.2 0.8"]),
    (["--scale", "0", "1"], ["--scale", "'0'"]),
    (["--shear", "90"], ["--shear", "0 to 89"]),
    (["--clip", "--padding-mode", "mirror"], ["--padding-mode", "mirror", "reflection"]),
    (["--padding-mode", "border"], ["--padding-mode", "zeros or transparent without --clip", "'border'"]),
    (["--no-clip", "--padding-mode", "image"], ["--padding-mode", "zeros or transparent without --clip", "'image'"]),
    (["--clip=1"], ["--clip"]),
    (["--fill", "white"], ["--fill", "surroundings, none, or a number from 0 to 1", "'white'"]),
    (["--fill", "1.5"], ["--fill", "0 to 1", "'1.5'"]),
    (["--fill", "-1"], ["--fill"]),
    (["--fill", "nan"], ["--fill", "'nan'"]),
    (["--matte", "circle"], ["--matte", "circle", "ellipse"]),
    (["--feather", "1.1"], ["--feather", "0 to 1", "'1.1'"]),
    (["--draws", "0"], ["--draws", "1 to 100", "'0'"]),
    (["--draws", "2.5"], ["--draws", "'2.5'"]),
    (["--seed", "-1"], ["--seed", "'-1'"]),
    (["--seed", "9" * 30], ["--seed"]),
    (["--boxes"], ["--boxes"]),
    (["--nonsense"], ["--nonsense"]),
    (["--format", "csv"], ["--format", "csv", "coco"]),
    (["--limit", "0"], ["--limit", "'0'"]),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_ARGUMENTS)
def test_bad_arguments_end_in_one_line(folder, run, tmp_path, arguments, words):
    assert_fails(run(folder, *arguments, out=None), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


def test_missing_and_wrong_files_end_in_one_line(folder, run, tmp_path):
    assert_fails(run(tmp_path / "none.png"), tmp_path / "none.png", "no such file")
    assert_fails(run(folder, "--boxes", tmp_path / "none.json"), tmp_path / "none.json", "no such file")
    (tmp_path / "empty").mkdir()
    assert_fails(run(tmp_path / "empty"), tmp_path / "empty", "no pictures", "png")
    assert_fails(run(folder, "--boxes", tmp_path / "empty"), tmp_path / "empty", "no labels found")
    (folder / "one.png").write_text("not\na picture")
    assert_fails(run(folder / "one.png"), folder / "one.png", "not a picture")
    assert not (tmp_path / "out" / "index.html").exists()


def test_a_picture_of_more_pixels_than_memory_should_hold_is_refused(folder, run, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # 60 x 40 is above it, but below twice that
    assert_fails(run(folder / "one.png"), "one.png", "2400 pixels")


def test_a_folder_that_cannot_be_written_is_noticed_before_work_starts(folder, run, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "contact_sheet", None)  # would raise if called
    (tmp_path / "file").write_text("")
    assert_fails(run(folder, out=tmp_path / "file"), "--out", tmp_path / "file")
    assert_fails(run(folder, out=tmp_path / "file" / "below"), "--out", tmp_path / "file" / "below")
    assert_fails(run(folder, out=folder), "--out", folder, "pictures")
    (tmp_path / "link").symlink_to(folder)
    assert_fails(run(folder, out=tmp_path / "link"), "--out", "pictures")
    assert_fails(run(tmp_path / "link", out=folder), "--out", "pictures")

    def forbidden(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(cli.tempfile, "TemporaryFile", forbidden)  # these tests may run as root, who may write anywhere
    assert_fails(run(folder), "--out", tmp_path / "out", "Permission denied")
    assert sorted(path.name for path in folder.iterdir()) == ["boxes.json", "one.png", "two.png"]


def test_a_disk_that_fills_up_ends_in_one_line(folder, run, monkeypatch, tmp_path):
    written, fits = Path.write_bytes, iter([True])

    def full(self, data):
        if not next(fits, not data.startswith(b"\x89PNG")):  # the second sheet
            written(self, data[:9])
            raise OSError(28, "No space left on device", str(self))
        return written(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert_fails(run(folder), "two.png", "No space left", printed=2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "one.png"]


def test_a_link_where_a_sheet_goes_is_replaced_and_not_followed(folder, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one.png").symlink_to(folder / "one.png")
    before = (folder / "one.png").read_bytes()
    assert run(folder)[0] == 0
    assert (folder / "one.png").read_bytes() == before and not (tmp_path / "out" / "one.png").is_symlink()


def test_pictures_that_are_links_are_not_replaced(folder, run, tmp_path):
    """Sheets into the folder of the links would take the place of what these lead to."""
    links = tmp_path / "links"
    links.mkdir()
    (links / "one.png").symlink_to(folder / "one.png")
    assert_fails(run(links, "--boxes", folder / "boxes.json", out=links), "--out", "pictures")


def test_files_of_others_are_not_replaced(folder, run, tmp_path):
    """Of a folder that is no preview's; a preview takes the place of another."""
    out = tmp_path / "val"
    out.mkdir()
    (out / "two.png").write_bytes(b"mine")
    assert_fails(run(folder, out=out), "--out", "two.png", "not by preview")
    assert [path.name for path in out.iterdir()] == ["two.png"] and (out / "two.png").read_bytes() == b"mine"
    (out / "two.png").unlink()
    assert run(folder, out=out)[0] == 0 == run(folder, out=out)[0]
    (out / "index.html").write_text("mine")
    assert_fails(run(folder, out=out), "one.png")


def test_boxes_within_the_first_pixel_are_believed(folder, run, recwarn):
    told = json.loads((folder / "boxes.json").read_text())
    told["annotations"] = [{**told["annotations"][0], "bbox": [0, 0, 1, 1]}]
    (folder / "boxes.json").write_text(json.dumps(told))
    assert run(folder)[2] == [] and not recwarn.list


def test_classes_have_the_same_numbers_on_all_sheets(folder, run, monkeypatch):
    """Where one picture has many objects; as on the page."""
    told = json.loads((folder / "boxes.json").read_text())
    row, first = told["annotations"][0], told["images"][0]["id"]
    told["categories"] = [{"id": k, "name": name} for k, name in enumerate(("cat", "dog"))]
    kinds = {first: [0], told["images"][1]["id"]: [1] + 13 * [0]}
    told["annotations"] = [{**row, "image_id": n, "category_id": k} for n, some in kinds.items() for k in some]
    (folder / "boxes.json").write_text(json.dumps(told))
    drawn = []
    monkeypatch.setattr(preview, "annotate", lambda tile, *_, kinds, **__: drawn.append(list(kinds)) or tile)
    assert run(folder)[0] == 0
    assert sorted(drawn, key=len) == 2 * [[0]] + 2 * [[1] + 13 * [0]]


def test_control_c_ends_with_130_and_keeps_the_page(folder, run, monkeypatch):
    sheets = iter([cli.contact_sheet])
    monkeypatch.setattr(cli, "contact_sheet", lambda *a, **k: next(sheets, interrupt)(*a, **k))
    code, lines, errors = run(folder)
    assert (code, errors) == (130, []) and names(lines) == ["one.png", "index.html"]


def interrupt(*args, **options):
    raise KeyboardInterrupt


def test_a_bar_shows_the_progress_on_a_terminal_only(folder, run, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert run(folder)[2] == []
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    _, lines, _ = run(folder)
    assert "2/2" in terminal.getvalue() and "picture" in terminal.getvalue()
    assert names(lines) == ["one.png", "two.png", "index.html"]


def test_help_and_version(capsys):
    for arguments, words in [(["--version"], "kornia-patchaug 0."), (["preview", "--help"], "--no-clip")]:
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 0 and words in capsys.readouterr().out
    assert cli.main([]) == 2
    assert "preview" in capsys.readouterr().err


@pytest.mark.slow
def test_without_pictures_the_bundled_ones_are_shown(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    code, lines, errors = run("--draws", 1, out=None)
    pictures = sorted(path.stem for path in (ROOT / "demo_images").glob("*.jpg"))
    assert (code, errors) == (0, []) and len(pictures) >= 5
    assert lines == [f"out/preview/{stem}.png" for stem in pictures] + ["out/preview/index.html"]
    assert all(load(line).width > 900 for line in lines[:-1])


@pytest.mark.slow
def test_the_module_runs_as_the_command_does(folder, tmp_path):
    """In a process of its own: files are printed, the page names the command, and an error is one line."""
    command = [sys.executable, "-m", "kornia_patchaug", "preview", "pictures/one.png", "pictures/two.png"]
    (folder / "two.png").write_text("no picture")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "out/preview/one.png\nout/preview/index.html\n")
    assert done.stderr.startswith("kornia-patchaug: left out: not a picture ") and done.stderr.count("\n") == 1
    command = told(tmp_path / "out/preview/index.html")["command"]
    assert command == "python -m kornia_patchaug preview pictures/one.png pictures/two.png"


@pytest.mark.slow
def test_output_that_is_closed_is_no_error(folder, tmp_path):
    command = f"{shlex.quote(sys.executable)} -m kornia_patchaug preview pictures --draws 1 >&- 2>&-"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out/preview").iterdir()) == ["index.html", "one.png", "two.png"]
