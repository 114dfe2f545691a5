"""The examples, in a quick run each: what they print and write, and that the documentation has their last lines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURES = {
    "align_objects": ["align_objects.gif", "align_objects.png"],
    "learn_ranges": ["learn_ranges.png"],
    "rectify_digits": ["rectify_digits.png"],
}


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


def of_like_size(line):
    assert max(line["parameters"].values()) <= 1.1 * min(line["parameters"].values())
    assert {run: list(kinds) for run, kinds in line["test_error_percent"].items()} == {
        "placed": ["baseline", "theta"],
        "misplaced": ["baseline", "theta", "box_theta"],
    }


SHOWS = {"align_objects": aligned, "learn_ranges": widened, "rectify_digits": of_like_size}


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
    """The line of JSON that docs/learning.md has of a full run."""
    lines = re.findall(r"^\{.*\}$", (ROOT / "docs/learning.md").read_text(), flags=re.M)
    return next(line for line in map(json.loads, lines) if line["example"] == name)


def test_an_example_writes_its_pictures_and_the_docs_show_a_full_run_that_met_its_bar(quick):
    name, printed, out = quick
    assert sorted(path.name for path in out.iterdir()) == PICTURES[name]
    for picture in PICTURES[name]:
        with Image.open(out / picture) as image:
            assert min(image.size) > 150
    SHOWS[name](printed)
    line = documented(name)
    assert printed.keys() == line.keys()
    assert (printed["quick"], line["quick"], line["met"]) == (True, False, True)
    assert line["seeds"] == [0, 1, 2]
