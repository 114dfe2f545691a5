"""The figures of the documentation: as committed, where the oracle puts them, with the numbers of paper."""

import re
from pathlib import Path

import pytest
import torch
from support import oracle

from gallery.figures import FIGURES, coverage, places_read, worked
from gallery.overlap import DOT, TOP, boxes_around, painted, table

pytestmark = pytest.mark.pinned

DOCS = Path(__file__).parents[1] / "docs"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
COLOUR = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})")
TOLERANCE = 0.01  # points, and shares of a colour

# The page's section "A worked 5 x 5 example", worked out on paper.
OUTPUT = [
    [0, 1, 2, 3, 4],
    [5, 9.375, 11.375, 10.625, 9.875],
    [10, 13.125, 16.25, 13.75, 11.25],
    [15, 14.75, 16.875, 16.125, 15.375],
    [20, 21, 22, 23, 24],
]
# (box, theta, align_corners)
CASES = [
    ([1, 2, 4, 4], [1, 0, 2 / 3, 0, 1, 0], False),
    ([1, 1.5, 5, 3.5], [0, 0.25, 0, -1, 0, 0.5], False),
    ([0, 0, 4, 2], [1, 0, 0.5, 0, 1, 0], True),
    ([0.25, 1, 5, 3.5], [0.8, -0.3, 0.1, 0.5, 1.1, 0.2], True),
]


def alike(one: str, other: str) -> bool:
    """Whether two drawings have the same parts, at the same places and in the same colours but for rounding."""
    one, other = (
        COLOUR.sub(lambda parts: " ".join(f"{int(part, 16) / 255:.4f}" for part in parts.groups()), text)
        for text in (one, other)
    )
    pairs = zip(map(float, NUMBER.findall(one)), map(float, NUMBER.findall(other)), strict=False)
    return NUMBER.split(one) == NUMBER.split(other) and all(abs(a - b) <= TOLERANCE for a, b in pairs)


@pytest.mark.parametrize("name", FIGURES)
def test_remaking_a_figure_gives_the_committed_one(name):
    committed = (DOCS / "figures" / name).read_text()
    assert alike(FIGURES[name](), committed)
    assert len(committed) < 80_000


def test_every_file_is_a_figure_and_every_figure_is_shown():
    picture = re.compile(r"!\[[^][]+\]\(figures/([^)]+)\)")  # a bracket in the words would make it text
    shown = [name for page in DOCS.glob("*.md") for name in picture.findall(page.read_text())]
    assert sorted(path.name for path in (DOCS / "figures").iterdir()) == sorted(FIGURES) == sorted(shown)


CHANGES = [
    ('d="M 1 2.5"', 'd="M 1 2.505"', True),
    ('d="M 1 2.5"', 'd="M 1 2.52"', False),
    ('d="M 1 2.5"', 'd="M 1 2.5 L 3 4"', False),
    ("fill: #e69f00", "fill: #e69f01", True),
    ("fill: #e69f00", "fill: #e69f0a", False),
]


@pytest.mark.parametrize("one, other, same", CHANGES)
def test_the_comparison_of_drawings_notices(one, other, same):
    assert alike(one, other) is same


@pytest.mark.parametrize("box, theta, align_corners", CASES)
def test_dots_lie_where_the_oracle_reads(box, theta, align_corners):
    points = torch.tensor([[1.5, 2.5], [3.5, 0.5], [2.25, 4.0]], dtype=torch.float64)
    rows = torch.tensor([box], dtype=torch.float64), torch.tensor([theta], dtype=torch.float64)
    expected = [oracle.place_to_read(*p, box, [theta[:3], theta[3:]], align_corners) for p in points.tolist()]
    read = places_read(points, *rows, align_corners=align_corners)
    assert torch.allclose(read, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("box", [[1.5, 0.5, 3.75, 2.8], [1, 1, 6, 4], [1, 1.5, 5, 3.5]])
def test_shares_are_those_of_the_oracle(box):
    expected = [[oracle.coverage(i, j, box) for i in range(8)] for j in range(6)]
    shares = coverage(torch.tensor([box], dtype=torch.float64), 6, 8)
    assert torch.allclose(shares, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_worked_example_shows_the_numbers_of_paper():
    """matplotlib writes each text before its outlines, as a comment."""
    words = re.findall("<!-- (.*?) -->", worked())
    before = words.index("input") + 1
    assert words[before : before + 25] == [f"{value:g}" for row in OUTPUT for value in row]


# The box around what is seen of the small object, by the order of rows and the fill: where it is is 4 3 6 5, and half a
# turn about (6, 6) takes it to 6 7 8 9.
PLACES = [([0, 1], None, [6, 7, 8, 9]), ([1, 0], None, [4, 3, 8, 9]), ([1, 0], "surroundings", [4, 3, 6, 5])]


@pytest.mark.parametrize("rows, fill, expected", PLACES)
def test_the_small_object_of_the_figure_of_overlaps_is_where_paper_has_it(rows, fill, expected):
    image = painted(torch.tensor(rows), fill)[0].permute(1, 2, 0)
    found = sum((image - torch.tensor(colour, dtype=image.dtype)).abs().amax(2) < 1e-9 for colour in (DOT, TOP))
    assert boxes_around(found.bool()[None, None]).tolist() == [expected]


def test_where_all_is_seen_no_label_is_wrong_with_a_fill():
    first, *others = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table().splitlines()[2:]]
    assert first[0] == "all of it" and int(first[1]) > 20 and first[3] == "0 %"
    assert all(int(row[2].split()[0]) >= int(row[3].split()[0]) for row in [first, *others])
    assert int(first[2].split()[0]) > 25  # and without one there are many
