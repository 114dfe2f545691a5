"""The examples: a quick run of each, the lines of full runs that the documentation has, and what both rest on."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest
import torch
from PIL import Image
from support.kornia_scenes import near, same

import kornia_patchaug as kp

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PICTURES = {
    "align_objects": ["align_objects.gif", "align_objects.png"],
    "learn_ranges": ["learn_ranges.png"],
    "rectify_digits": ["rectify_digits.png"],
    "detect_cells": ["detect_cells.png", "detect_cells_augmented.png"],
}
PAGES = {"detect_cells": "docs/training.md"}  # docs/learning.md has the others


def aligned(line):
    assert line["before_px"][0] > 10 * line["after_px"][0]
    assert line["share_under_1px"][0] > 0.8


def widened(line):
    """Ours are drawn from as they are learned; Kornia's are learned, and drawn from as they were at the start."""
    (run,) = line["runs"]
    for learned, drawn in zip(run["learned"], run["drawn"], strict=True):
        assert 0.9 * learned < drawn <= learned + 0.01
        assert learned > 3 * line["start"]
    assert min(line["kornia"]["learned"]) > 3 * line["start"]
    assert max(line["kornia"]["drawn"]) <= line["start"]


def moved(line):
    """One epoch is enough for the boxes to move, and for little else."""
    off = line["crop_centre_off_by_pixels"]
    assert abs(off["after"] - off["before"]) > 0.001
    of_like_size(line)


def of_like_size(line):
    assert max(line["parameters"].values()) <= 1.1 * min(line["parameters"].values())
    assert {run: list(kinds) for run, kinds in line["test_error_percent"].items()} == {
        "placed": ["baseline", "theta"],
        "misplaced": ["baseline", "theta", "box_theta"],
    }


def trained(line):
    """A few steps teach nothing; every arm has run, and there is an AP of each class."""
    (arms,) = line["arms"].values()
    assert list(arms) == ["none", "whole", "affine", "paste", "both", "turned"]
    for arm in arms.values():
        assert len(arm["map50"]) == 1
        assert arm["mean"] == pytest.approx(mean(arm["ap50"].values()), abs=1e-3)
    assert 0 < line["augmentation_share_percent"] < 100


SHOWS = {"detect_cells": trained, "align_objects": aligned, "learn_ranges": widened, "rectify_digits": moved}


@pytest.fixture(scope="module", params=PICTURES)
def quick(request, tmp_path_factory):
    """The name of an example, what it printed last, and where its pictures are."""
    out = tmp_path_factory.mktemp(request.param)
    run = subprocess.run(
        [sys.executable, f"examples/{request.param}.py", "--quick", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return request.param, json.loads(run.stdout.splitlines()[-1]), out


def documented(name):
    """The line of JSON that a page has of a full run."""
    page = PAGES.get(name, "docs/learning.md")
    lines = re.findall(r"^\{.*\}$", (ROOT / page).read_text(), flags=re.M)
    return next(line for line in map(json.loads, lines) if line["example"] == name)


def test_an_example_writes_its_pictures_and_shows_what_it_is_about(quick):
    name, printed, out = quick
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".jsonl") == PICTURES[name]
    for picture in PICTURES[name]:
        with Image.open(out / picture) as image:
            assert min(image.size) > 100
    SHOWS[name](printed)
    assert printed["quick"]
    assert printed.keys() == documented(name).keys()


# --- the documented runs, checked by the issue's own numbers ----------------------------------------------------------


def test_the_documented_alignment_meets_its_bar():
    line = documented("align_objects")
    assert len(line["before_px"]) == len(line["after_px"]) == len(line["share_under_1px"]) == 3
    assert min(line["before_px"]) > 5
    assert max(line["after_px"]) < 0.5
    assert min(line["share_under_1px"]) >= 0.95


def test_the_documented_ranges_meet_their_bar():
    line = documented("learn_ranges")
    assert line["true"] == [90 - 45, 90 - 22.5]
    errors = [abs(w / t - 1) for run in line["runs"] for w, t in zip(run["learned"], line["true"], strict=True)]
    assert len(errors) == 6
    assert max(errors) <= 0.15
    assert line["largest_error"] == pytest.approx(max(errors), abs=2e-3)
    assert line["start"] <= 1


def test_the_documented_spatial_transformer_meets_its_bar():
    line = documented("rectify_digits")
    for run, kinds in line["test_error_percent"].items():
        for kind, errors in kinds.items():
            assert len(errors) == 3
            assert line["mean_test_error_percent"][run][kind] == pytest.approx(mean(errors), abs=2e-3)
    means = line["mean_test_error_percent"]
    assert line["reduction"] == pytest.approx(1 - means["placed"]["theta"] / means["placed"]["baseline"], abs=2e-3)
    assert line["reduction"] >= 0.3
    assert means["misplaced"]["box_theta"] < means["misplaced"]["theta"] < means["misplaced"]["baseline"]
    of_like_size(line)


def test_a_documented_run_is_of_three_seeds_and_no_quick_one():
    for name in PICTURES:
        line, seeds = documented(name), 5 if name == "detect_cells" else 3
        assert (line["seeds"], line["quick"], line["met"]) == (list(range(seeds)), False, True)


def test_the_documented_detector_meets_its_bar():
    """In the mean over seeds and in all but one of them, by what `test` says; the augmentation is no burden."""
    line = documented("detect_cells")
    assert line["split"] == "test" and line["images"][0] == 8
    for count in map(str, line["images"]):
        arms, gain = line["arms"][count], line["gain_of_both_over_whole"][count]
        for arm in arms.values():
            assert len(arm["map50"]) == 5
            assert arm["mean"] == pytest.approx(mean(arm["map50"]), abs=2e-3)
        ahead = [b - w for b, w in zip(arms["both"]["map50"], arms["whole"]["map50"], strict=True)]
        assert gain["mean"] == pytest.approx(mean(ahead), abs=2e-3)
        assert gain["seeds_ahead"] == sum(value > 0 for value in ahead)
    gain = line["gain_of_both_over_whole"]["8"]
    assert gain["mean"] >= 0.03 and gain["seeds_ahead"] >= 4
    assert line["augmentation_share_percent"] <= 15
    assert 0.2e6 < line["parameters"] < 0.4e6


def test_the_detector_says_where_the_data_are():
    run = subprocess.run([sys.executable, "examples/detect_cells.py"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "Shenggan/BCCD_Dataset" in run.stderr


def test_the_detector_s_precision_is_of_boxes_that_overlap_by_half(monkeypatch):
    """By hand: all found; moved by a third of their width, which leaves half of both; by a half, a third."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    example = importlib.import_module("detect_cells")
    boxes, labels = torch.tensor([[10.0, 10, 40, 40], [60, 60, 90, 90], [100, 20, 130, 50]]), torch.tensor([0, 1, 2])
    cells = example.Cells(torch.zeros(1, 3, 160, 208, dtype=torch.uint8), [{"boxes": boxes, "labels": labels}])
    for shift, expected in ((0.0, 1.0), (9.0, 1.0), (11.0, 0.0)):
        moved = boxes + torch.tensor([shift, 0, shift, 0])
        monkeypatch.setattr(example, "detect", lambda *_, moved=moved: [(moved, labels, torch.ones(3))])
        found = example.average_precision(None, cells)
        assert found == pytest.approx(dict.fromkeys(example.CLASSES, expected))


# --- the spatial transformer learns through the warp and through the crop ---------------------------------------------


def test_the_loss_of_the_classifier_reaches_theta_and_the_boxes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    example = importlib.import_module("rectify_digits")
    (digits, labels), _ = importlib.import_module("digits").split_digits()
    torch.manual_seed(0)
    scene = example.draw_scene(digits[:64], torch.Generator().manual_seed(0))
    model = example.KINDS["box_theta"]()
    boxes = scene.boxes["misplaced"]
    same(model.place(scene.images, boxes, scene.obj_to_img), boxes)  # they begin as if they were not there
    patches = model.look(scene.images, boxes, scene.obj_to_img)
    near(patches, kp.crop_patches(scene.images, boxes, scene.obj_to_img, (24, 24)), 1e-5)
    torch.nn.functional.cross_entropy(model(scene.images, boxes, scene.obj_to_img), labels[:64]).backward()
    for network in (model.find_theta, model.find_box):
        assert network[-1].bias.grad.all()


def test_digits_are_split_once_and_for_all(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    split_digits = importlib.import_module("digits").split_digits
    ours, theirs = ({row.numpy().tobytes() for row in digits} for digits, _ in split_digits())
    assert ours.isdisjoint(theirs)
    assert [len(part) for part in (ours, theirs)] == [len(digits) for digits, _ in split_digits()]
    same(split_digits()[1][0], split_digits()[1][0])
