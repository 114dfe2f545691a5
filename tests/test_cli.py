"""The preview command: which files it reads and writes, what it prints, and how it fails."""

import html
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from test_preview import GROUND, Tags, tiles_of

from kornia_patchaug import cli
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
    assert_fails(run(folder), folder / "boxes.json", "--boxes FILE")
    assert run(folder, "--boxes", elsewhere)[0] == 0


def test_pictures_of_one_name_do_not_overwrite_each_other(folder, run, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    Image.new("RGB", (60, 40), "navy").save(second / "ONE.png")
    save(second, {"images": [{"id": "a", "file_name": "ONE.png"}], "annotations": []})
    code, lines, _ = run(folder / "one.png", second)
    assert code == 0 and names(lines) == ["one.png", "ONE_2.png", "index.html"]


def test_the_page_links_to_what_was_written_and_names_the_command(folder, run, tmp_path, small_gifs):
    (folder / "one.png").rename(folder / "it's <b> & 100%.png")
    save(folder, with_entry(file_name="it's <b> & 100%.png"))
    code, lines, _ = run(folder, "--animate", "--degrees", "10")
    assert code == 0
    text = Path(lines[-1]).read_text(encoding="utf-8")
    page = Tags()
    page.feed(text)
    assert "b" not in [tag for tag, _ in page.found]
    links = [attrs.get("src") or attrs.get("href") for tag, attrs in page.found if tag in ("img", "a")]
    assert len(links) == 8 and all((tmp_path / "out" / unquote(link)).is_file() for link in links)
    command = html.unescape(text.split("<code>")[1].split("</code>")[0])
    arguments = ["preview", str(folder), "--animate", "--degrees", "10", "--out", str(tmp_path / "out"), "--draws", "1"]
    assert shlex.split(command) == ["kornia-patchaug", *arguments]
    assert "1 cat, 2 dog" in page.text


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
    page = Path(lines[-1]).read_text()
    assert code == 0 and "Objects: 1 dog<" in page


def test_categories_and_sizes_may_be_missing(folder, run):
    save(folder, {"images": without(without(ENTRIES, "width"), "height"), "annotations": without(ROWS, "category_id")})
    code, lines, _ = run(folder)
    assert code == 0 and "1 object, 2 object" in Path(lines[-1]).read_text()


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


def test_what_was_written_before_an_error_stays(folder, run, tmp_path):
    (folder / "two.png").write_bytes((folder / "two.png").read_bytes()[:60])
    assert_fails(run(folder), folder / "two.png", "not a picture", printed=2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "one.png"]
    assert len(tiles_of(load(tmp_path / "out" / "one.png"))) == 2
    assert "two.png" not in (tmp_path / "out" / "index.html").read_text().split("</pre>")[1]


BAD_JSON = [
    ("{", ["not JSON"]),
    ("[" * 100_000, ["not JSON"]),
    ("\udcff", ["not JSON"]),
    ([], ["not COCO JSON", "images and annotations"]),
    ({"images": ENTRIES}, ["not COCO JSON", "annotations"]),
    ({"annotations": ROWS}, ["not COCO JSON", "images"]),
    ({**COCO, "images": {}}, ["not COCO JSON", "images"]),
    ({**COCO, "images": [1]}, ["not COCO JSON", "images"]),
    ({**COCO, "images": without(ENTRIES, "id")}, ["images[0]", "id"]),
    ({**COCO, "images": without(ENTRIES, "file_name")}, ["images[0]", "file_name"]),
    ({**COCO, "images": [ENTRIES[0], {**ENTRIES[1], "id": 0}]}, ["images[1]", "id"]),
    ({**COCO, "categories": [{"id": 1}]}, ["categories[0]", "name"]),
    ({**COCO, "annotations": without(ROWS, "image_id")}, ["annotations[0]", "image_id"]),
    ({**COCO, "annotations": without(ROWS, "bbox")}, ["annotations[0]", "bbox"]),
    (with_row(bbox=[1, 2, 3]), ["annotations[0]", "bbox", "[1, 2, 3]"]),
    (with_row(bbox=[1, 2, 3, "4"]), ["annotations[0]", "bbox"]),
    (with_row(bbox=[1, 2, 3, float("nan")]), ["annotations[0]", "bbox"]),
    (with_row(bbox=[1, 2, float("inf"), 4]), ["annotations[0]", "bbox"]),
    (with_row(bbox=[1, 2, 3, True]), ["annotations[0]", "bbox"]),
    (with_row(bbox=[1, 2, 10**400, 3]), ["annotations[0]", "bbox"]),
    (with_row(bbox=[1, 2, 0, 3]), ["annotations[0]", "w, h > 0"]),
    (with_row(bbox=[1, 2, 3, -3]), ["annotations[0]", "w, h > 0"]),
    (with_row(bbox=[-1, 2, 3, 3]), ["one.png", "object 1 (cat)", "[-1, 2, 3, 3]", "60 x 40"]),
    (with_row(bbox=[1, 2, 3, 39]), ["one.png", "sticks out", "60 x 40"]),
    (with_entry(width=61), ["one.png", "width", "60", "61"]),
    (with_entry(height="40"), ["one.png", "height"]),
    (with_entry(file_name="other.png"), ["one.png", "no entry", "boxes.json"]),
    ({**COCO, "images": [*ENTRIES, {"id": 9, "file_name": "val/one.png"}]}, ["one.png", "2 entries", "boxes.json"]),
]


@pytest.mark.parametrize(("coco", "words"), BAD_JSON)
def test_bad_boxes_end_in_one_line(folder, run, coco, words):
    if coco == "\udcff":
        (folder / "boxes.json").write_bytes(b"\xff\xfe\x00")
    else:
        save(folder, coco)
    assert_fails(run(folder), *words)


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
]


@pytest.mark.parametrize(("arguments", "words"), BAD_ARGUMENTS)
def test_bad_arguments_end_in_one_line(folder, run, tmp_path, arguments, words):
    assert_fails(run(folder, *arguments, out=None), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


def test_missing_and_wrong_files_end_in_one_line(folder, run, tmp_path):
    assert_fails(run(tmp_path / "none.png"), tmp_path / "none.png", "no such file")
    assert_fails(run(folder, "--boxes", tmp_path / "none.json"), tmp_path / "none.json", "no such file")
    assert_fails(run(folder, "--boxes", folder), folder)
    (tmp_path / "empty").mkdir()
    assert_fails(run(tmp_path / "empty"), tmp_path / "empty", "no pictures", "png")
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

    def forbidden(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(cli.tempfile, "TemporaryFile", forbidden)  # these tests may run as root, who may write anywhere
    assert_fails(run(folder), "--out", tmp_path / "out", "Permission denied")
    assert sorted(path.name for path in folder.iterdir()) == ["boxes.json", "one.png", "two.png"]


def test_a_disk_that_fills_up_ends_in_one_line(folder, run, monkeypatch, tmp_path):
    written = Path.write_bytes

    def full(self, data):
        if self.name == "two.png":
            raise OSError(28, "No space left on device", str(self))
        return written(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert_fails(run(folder), tmp_path / "out" / "two.png", "No space left", printed=2)


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
    assert (done.returncode, done.stdout) == (2, "out/preview/one.png\nout/preview/index.html\n")
    assert done.stderr.startswith("kornia-patchaug: pictures/two.png: ") and done.stderr.count("\n") == 1
    page = (tmp_path / "out/preview/index.html").read_text()
    assert "<code>python -m kornia_patchaug preview pictures/one.png pictures/two.png</code>" in page
