"""Label files: what is read of them, where they are found, and what is said of what cannot be used."""

import inspect
import json
import os
import sys
import time
import unicodedata

import matplotlib.path
import numpy as np
import pycocotools.mask
import pytest
from PIL import Image

from kornia_patchaug.pictures import find_pictures, picture_size, read_picture
from kornia_patchaug.readers import Labels, Notes, UnusableError, UserError
from kornia_patchaug.shapes import encoded, polygons_of, runs_of

SIZE = (48, 64)  # height, width of every picture
ONE = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}]
TWO = [*ONE, {"id": 2, "file_name": "b.jpg", "width": 64, "height": 48}]
CAT = [{"id": 1, "name": "cat"}]
ROW = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 5, 20, 30]}
BOX = (4, 5, 24, 35)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path, content=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(pictures, given=None, form=None, strict=False):
    """The objects of pictures, of the first if there is one, and what was noted."""
    notes, pictures = Notes(strict), [pictures] if not isinstance(pictures, list) else pictures
    labels, found = Labels(pictures, given, form), []
    for picture in pictures:
        try:
            found.append(labels.read(picture, SIZE, notes))
        except UnusableError as reason:
            notes.add("left out", reason, str(picture))
            found.append(None)
    return found[0] if len(pictures) == 1 else found, list(notes.lines())


def coco(folder, images, annotations, picture="a.jpg", categories=CAT, **options):
    content = {"images": images, "annotations": annotations, "categories": categories}
    return read(put(folder / picture), put(folder / "z.json", content), **options)


def simple(found):
    return [(each.box, each.label) for each in found]


USED = {
    "as they are": (ONE, [ROW]),
    "of another picture, without height": (TWO, [ROW, {**ROW, "image_id": 2, "bbox": [9.98, 8.5, 5.5, 0.0]}]),
    "of another picture, without bbox": (TWO, [ROW, {"id": 2, "image_id": 2, "category_id": 1}]),
    "image_id as text": (ONE, [{**ROW, "image_id": "1"}]),
    "ids as numbers with a point": ([{**ONE[0], "id": 1.0}], [{**ROW, "category_id": 1.0}]),
    "category_id as text": (ONE, [{**ROW, "category_id": "1"}]),
    "iscrowd as text": (ONE, [{**ROW, "iscrowd": "0"}]),
    "sizes as text": ([{**ONE[0], "width": "64", "height": "48.0"}], [ROW]),
    "no sizes": ([{"id": 1, "file_name": "a.jpg"}], [ROW]),
    "a bbox as text": (ONE, [{**ROW, "bbox": ["4", "5.0", 20, "30"]}]),
    "a bbox that follows from polygons": (
        ONE,
        [{"image_id": 1, "category_id": 1, "segmentation": [[4, 5, 20, 5, 4, 9], [24, 35, 24, 6, 8, 6]]}],
    ),
    "ids as words": ([{**ONE[0], "id": "x"}], [{**ROW, "image_id": "x"}]),
    "a name in another folder": ([{**ONE[0], "file_name": "train\\a.jpg"}], [ROW]),
}


@pytest.mark.parametrize("images", USED, ids=str)
def test_what_is_meant_is_read(folder, images):
    found, notes = coco(folder, *USED[images])
    assert simple(found) == [(BOX, "cat")] and notes == []


LEFT_OUT = [
    ({"bbox": [4, 5, 20, 0]}, "left out: a box without area (annotations[1] in z.json)"),
    ({"bbox": [4, 5, -3, 5]}, "without area"),
    ({"bbox": None}, "no bbox x y w h, and no segmentation"),
    ({"bbox": [4, 5, 20]}, "no bbox x y w h"),
    ({"bbox": {"x": 4}}, "no bbox x y w h"),
    ({"bbox": [4, 5, 20, float("nan")]}, "something is no number"),
    ({"bbox": [4, 5, float("inf"), 2]}, "something is no number"),
    ({"bbox": [4, 5, 10**400, 2]}, "something is no number"),
    ({"bbox": [4, 5, True, 2]}, "something is no number"),
    ({"bbox": [4, 5, "wide", 2]}, "something is no number"),
    ({"bbox": [64, 5, 20, 20]}, "a box beside its picture"),
    ({"bbox": [-30, 5, 20, 20]}, "a box beside its picture"),
    ({"iscrowd": "some"}, "an iscrowd of which something is no number"),
    ({"keypoints": [1, 2, "x"]}, "keypoints of which something is no number"),
    ({"bbox": None, "segmentation": [[1, 2, 3, 4]]}, "no bbox"),
]


@pytest.mark.parametrize(("changes", "words"), LEFT_OUT)
def test_one_bad_annotation_is_left_out_and_said(folder, changes, words):
    found, notes = coco(folder, ONE, [ROW, {**ROW, **changes}])
    assert simple(found) == [(BOX, "cat")]
    assert len(notes) == 1 and words in notes[0] and "annotations[1] in z.json" in notes[0]
    with pytest.raises(UserError, match=r"annotations\[1\] in z\.json: "):
        coco(folder, ONE, [ROW, {**ROW, **changes}], strict=True)


BAD_SHAPES = [
    "all",
    [[4, 5, 20, 5, "x", 9]],
    [[4, 5, 20, 5, 4, 9, 3]],
    [[4, 5, 20, 5, 4, float("nan")]],
    [4, 5, 20, 5, 4, 9],
    {"size": [48, 64], "counts": [5, 5]},
    {"size": [48, 64], "counts": [-5, 5 + 48 * 64]},
    {"size": [48, 64], "counts": "\u00e9\u00e9"},
    {"size": [48, 64], "counts": "zzzzzzzzzzzzzzzzzzzz"},
    {"size": [48, 64], "counts": None},
    {"size": [0, 64], "counts": []},
    {"size": [64, 48], "counts": [64 * 48]},
    {"size": [10**9, 10**9], "counts": [10**18]},
    {"size": [48, 64], "counts": [2**62] * 4 + [48 * 64]},  # whose sum is right but for 2**64
    {"counts": [3]},
]


@pytest.mark.parametrize("segmentation", BAD_SHAPES, ids=str)
def test_a_bad_shape_is_left_out_and_its_box_stays(folder, segmentation):
    found, notes = coco(folder, ONE, [{**ROW, "segmentation": segmentation}])
    assert simple(found) == [(BOX, "cat")] and found[0].shape is None
    assert len(notes) == 1 and notes[0].startswith("shape left out: ")


def test_places_of_one_reason_are_counted(folder):
    _, notes = coco(folder, ONE, 7 * [{**ROW, "bbox": [0, 0, 0, 0]}])
    places = "annotations[0] in z.json, annotations[1] in z.json, annotations[2] in z.json and 4 more"
    assert notes == [f"left out: a box without area ({places})"]
    _, notes = coco(folder, ONE, 3 * [{**ROW, "bbox": [8, 8, 1e-9, 1]}])  # none to float32 either
    assert notes == [f"left out: a box without area ({places.removesuffix(' and 4 more')})"]


def test_ids_of_text_are_numbers_only_where_they_are_written_so(folder):
    """1_11 and 01 are none to anybody but Python."""
    images = [{"id": name, "file_name": f"{k}.jpg"} for k, name in enumerate(("1_11", "111", "01", "1"))]
    rows = [{**ROW, "image_id": name, "bbox": [k, 5, 20, 30]} for k, name in enumerate(("1_11", 111, "01", 1))]
    told = {"images": images, "annotations": rows, "categories": [*CAT, {"id": [1], "name": "dog"}]}
    found, notes = read([put(folder / f"{k}.jpg") for k in range(4)], put(folder / "z.json", told))
    assert [each[0].box[0] for each in found] == [0, 1, 2, 3] and notes == []
    (other,), _ = coco(folder, ONE, [{**ROW, "category_id": [1]}], categories=[*CAT, {"id": [1], "name": "dog"}])
    assert other.label == "class [1]"


def test_boxes_are_cut_to_the_picture_and_those_that_stick_out_are_said(folder):
    found, notes = coco(folder, ONE, [{**ROW, "bbox": [-1, -0.5, 66, 49]}, {**ROW, "bbox": [50, 40, 30, 30]}])
    assert [each.box for each in found] == [(0, 0, 64, 48), (50, 40, 64, 48)]
    assert notes == ["cut to the picture: a box that sticks out (annotations[1] in z.json)"]


def test_names_of_classes(folder):
    named = [{"id": 1, "name": 7}, {"id": "2", "name": "dog"}, {"id": 3}]
    rows = [{**ROW, "category_id": k} for k in (1, 2, 3, None, 9)]
    found, notes = coco(folder, ONE, rows, categories=named)
    assert [each.label for each in found] == ["7", "dog", "class 3", "object", "class 9"] and notes == []


def test_crowds_and_keypoints_are_told(folder):
    (first, second), _ = coco(folder, ONE, [{**ROW, "keypoints": [1, 2, 2, 0, 0, 0]}, {**ROW, "iscrowd": 1}])
    assert first.keypoints == ((1, 2, 2), (0, 0, 0)) and not first.crowd
    assert second.keypoints == () and second.crowd


def random_mask(generator):
    height, width = SIZE
    mask = np.zeros(SIZE, np.uint8)
    y, x = generator.integers(0, height - 9), generator.integers(0, width - 9)
    mask[y : y + 9, x : x + 9] = generator.random((9, 9)) < 0.7
    return mask


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_are_what_pycocotools_says(folder, compressed):
    generator = np.random.default_rng(0)
    for mask in [random_mask(generator) for _ in range(30)] + [np.ones(SIZE, np.uint8)]:
        rle = pycocotools.mask.encode(np.asfortranarray(mask))
        x, y, w, h = pycocotools.mask.toBbox(rle)
        flat = mask.T.ravel()
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
        counts = rle["counts"].decode() if compressed else np.diff(np.concatenate([[0], edges])).tolist()
        row = {"image_id": 1, "segmentation": {"size": list(SIZE), "counts": counts}}
        (found,), notes = coco(folder, ONE, [row])
        assert (found.shape.mask(SIZE) == mask).all() and found.box == (x, y, x + w, y + h) and notes == []


def test_polygons_cover_the_pixels_whose_centre_is_inside(folder):
    """Of a rectangle by hand; of others by Matplotlib."""
    (found,), _ = coco(folder, ONE, [{**ROW, "segmentation": [[10.4, 5.6, 30.6, 5.6, 30.6, 20.4, 10.4, 20.4]]}])
    expected = np.zeros(SIZE, bool)
    expected[6:20, 10:31] = True
    assert (found.shape.mask(SIZE) == expected).all()
    (found,), _ = coco(folder, ONE, [{**ROW, "segmentation": [[10.5, 5.5, 30.5, 5.5, 30.5, 20.5, 10.5, 20.5]]}])
    expected = np.zeros(SIZE, bool)
    expected[5:20, 10:30] = True  # a centre on an edge is inside at the left and above
    assert (found.shape.mask(SIZE) == expected).all()
    generator, (y, x) = np.random.default_rng(1), np.mgrid[:48, :64] + 0.5
    for _ in range(20):
        angles, radii = np.sort(generator.random((2, 9))) * 2 * np.pi, generator.uniform(4, 14, (2, 9))
        centres = np.array([[[22, 20]], [[40, 26]]])  # of two parts
        rings = centres + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=2)
        parts = [ring.ravel().tolist() for ring in rings]
        (found,), _ = coco(folder, ONE, [{**ROW, "segmentation": parts}])
        mask, points = found.shape.mask(SIZE), np.stack([x.ravel(), y.ravel()], axis=1)
        inside = [matplotlib.path.Path(ring).contains_points(points).reshape(SIZE) for ring in rings]
        assert (mask == inside[0] | inside[1]).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_a_mask_becomes_polygons_and_run_lengths_that_hold_its_pixels_and_no_others():
    """Parts that touch in corners and holes in holes too; as this package and pycocotools draw them."""
    generator = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0) * 40:
        height, width = generator.integers(1, 14, 2).tolist()
        mask = generator.random((height, width)) < share
        runs, polygons = runs_of(mask), polygons_of(mask)
        theirs = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert encoded(runs.counts.tolist()) == theirs["counts"].decode() and (runs.mask(mask.shape) == mask).all()
        if polygons is None:
            assert not mask.any()
            continue
        rings = pycocotools.mask.frPyObjects([ring.ravel().tolist() for ring in polygons.rings], height, width)
        assert (polygons.mask(mask.shape) == mask).all()
        assert (pycocotools.mask.decode(pycocotools.mask.merge(rings)) == mask).all()


def test_polygons_without_steps_have_few_corners_and_are_near_the_edge_of_a_mask():
    """Of an ellipse that is turned, with a hole; a slanting line's are its ends, and a rectangle's are its own."""
    y, x = np.mgrid[:90, :120] - np.array([45, 60])[:, None, None]
    along, across = x * np.cos(0.4) + y * np.sin(0.4), y * np.cos(0.4) - x * np.sin(0.4)
    mask = ((along / 50) ** 2 + (across / 30) ** 2 < 1) & ((along / 20) ** 2 + (across / 12) ** 2 >= 1)
    exact, few = polygons_of(mask), polygons_of(mask, steps=False)
    assert len(few.rings[0]) < len(exact.rings[0]) / 5
    drawn = few.mask(mask.shape)
    beside = np.any([np.roll(mask, step, axis) != mask for step in (-1, 1) for axis in (0, 1)], axis=0)
    assert not ((drawn != mask) & ~beside).any()  # within a pixel
    assert abs(int(drawn.sum()) - int(mask.sum())) < 0.01 * mask.sum()  # as much inside as outside
    wedge = x - 3 * y > 0.5
    assert len(polygons_of(wedge, steps=False).rings[0]) <= 6 < len(polygons_of(wedge).rings[0]) / 10
    for size in (2, 30):
        mask = np.zeros((50, 50), bool)
        mask[2 : 2 + size, 1:48] = True
        (ring,) = polygons_of(mask, steps=False).rings
        assert sorted(ring.tolist()) == [[1, 2], [1, 2 + size], [48, 2], [48, 2 + size]]
    mask[:] = False
    mask[4, 4] = True
    assert polygons_of(mask, steps=False).rings[0].tolist() == [[4, 4], [5, 4], [5, 5], [4, 5]]


def test_polygons_of_a_mask_by_hand():
    mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], bool)
    one, other = polygons_of(mask).rings
    assert one.tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]] and other.tolist() == [[2, 2], [3, 2], [3, 3], [2, 3]]
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    (ring,) = polygons_of(mask).rings
    hole = [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]]
    assert ring.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0], *hole, [0, 0]]


def test_a_shape_may_leave_the_picture(folder):
    (found,), _ = coco(folder, ONE, [{**ROW, "segmentation": [[-1e6, -1e6, 1e6, -1e6, 1e6, 10, -1e6, 10]]}])
    assert found.shape.mask(SIZE)[:10].all() and not found.shape.mask(SIZE)[10:].any()


def test_the_folder_of_a_file_name_counts(folder):
    names = ["MOT-02/img1/000001.jpg", "MOT-04/img1/000001.jpg"]
    images = [{"id": k, "file_name": name} for k, name in enumerate(names)]
    file = put(folder / "z.json", {"images": images, "annotations": [{**ROW, "image_id": 1}]})
    pictures = [put(folder / name) for name in names]
    assert [len(found) for found in read(pictures, file)[0]] == [0, 1]
    put(folder / "z.json", {"images": images[1:], "annotations": [{**ROW, "image_id": 1}]})
    (none, some), notes = read(pictures, file)
    assert none is None and len(some) == 1 and "no entries with this file_name" in notes[0]


@pytest.mark.parametrize("names", [["x/a.jpg", "y/a.jpg"], ["a.jpg", "a.jpg"]])
def test_an_entry_that_is_not_the_only_one_is_not_guessed(folder, names):
    found, notes = coco(folder, [{"id": k, "file_name": name} for k, name in enumerate(names)], [ROW])
    assert found is None and "2 entries with this file_name" in notes[0]


def test_an_entry_of_two_pictures_is_not_guessed(folder):
    file = put(folder / "z.json", {"images": ONE, "annotations": [ROW]})
    found, notes = read([put(folder / "x/a.jpg"), put(folder / "y/a.jpg")], file)
    assert found == [None, None] and "fits 2 pictures" in notes[0]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_the_same_however_letters_are_composed(folder, forms):
    name, path = (unicodedata.normalize(form, "Brücke.jpg") for form in forms)
    found, notes = coco(folder, [{"id": 1, "file_name": name}], [ROW], picture=path)
    assert simple(found) == [(BOX, "cat")] and notes == []


@pytest.mark.parametrize("ids", [[1, "1"], [None, 2], [[1], 2]])
def test_an_entry_without_an_id_of_its_own_has_no_objects(folder, ids):
    images = [{"id": ids[0], "file_name": "a.jpg"}, {"id": ids[1], "file_name": "b.jpg"}]
    found, notes = coco(folder, images, [{**ROW, "image_id": ids[0]}])
    assert found is None and "an entry without an id of its own" in notes[0]


def test_a_picture_of_another_size_has_no_objects(folder):
    found, notes = coco(folder, [{**ONE[0], "width": 48, "height": 64}], [ROW])
    assert found is None and "upright width is 64, but the JSON says 48" in notes[0]


NOT_COCO = [
    ("{", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ([], "not COCO JSON: expected an object with images"),
    ({"images": ONE}, "with annotations"),
    ({"annotations": []}, "with images"),
    ({"images": {}, "annotations": []}, "with images"),
    ({"images": [1], "annotations": []}, "with images"),
    ({"images": [], "annotations": [], "categories": [3]}, "with categories"),
    ('{"images": ' + "9" * 5000 + "}", "not JSON"),
]


@pytest.mark.parametrize(("content", "words"), NOT_COCO, ids=range(len(NOT_COCO)))
def test_what_is_not_coco_json_is_an_error(folder, content, words):
    file = put(folder / "z.json", content)
    with pytest.raises(UserError, match=words):
        read(put(folder / "a.jpg"), file)


def test_a_byte_order_mark_is_no_letter(folder):
    content = {"images": ONE, "annotations": [ROW], "categories": CAT}
    (folder / "z.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    assert simple(read(put(folder / "a.jpg"))[0]) == [(BOX, "cat")]


# YOLO

LINE = "1 0.5 0.25 0.25 0.5\n"  # of 64 x 48: 24..40, 0..24
YOLO_BOX = (24, 0, 40, 24)


def test_yolo_boxes_polygons_and_oriented_boxes(folder):
    lines = LINE + "0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n\n2 0 0 0.5 0 0.5 0.5 0.25 0.75 0 0.5\n1 .5 .25 .25 .5 0.9\n"
    put(folder / "a.txt", lines)
    found, notes = read(put(folder / "a.jpg"))
    boxes = [YOLO_BOX, (16, 12, 48, 36), (0, 0, 32, 36), YOLO_BOX]
    assert simple(found) == list(zip(boxes, ["class 1", "class 0", "class 2", "class 1"], strict=True))
    assert notes == [] and found[0].shape is None
    assert found[1].shape.rings[0].tolist() == [[16, 24], [32, 12], [48, 24], [32, 36]]


NAMES = [
    ("data.yaml", "names: [cat, 'dog, big']\n"),
    ("data.yaml", "names:\n- cat\n- dog, big\n"),
    ("data.yaml", "path: x\nnames:\n  0: cat\n  1: dog, big\n"),
    ("classes.txt", "cat\ndog, big\n"),
]


@pytest.mark.parametrize(("name", "content"), NAMES)
@pytest.mark.parametrize("above", [0, 2])
def test_names_of_yolo_classes(folder, name, content, above):
    picture, labels = ("a.jpg", "a.txt") if not above else ("images/train/a.jpg", "labels/train/a.txt")
    put(folder / name, content)
    put(folder / labels, LINE)
    assert simple(read(put(folder / picture))[0]) == [(YOLO_BOX, "dog, big")]


@pytest.mark.parametrize(("shape", "expected"), [("[2, 3]", ((32, 24, 2), (0, 0, 0))), ("[3, 2]", None)])
def test_yolo_keypoints_are_those_that_data_yaml_tells(folder, shape, expected):
    put(folder / "data.yaml", f"names: [cat, dog]\nkpt_shape: {shape}\n")
    put(folder / "a.txt", LINE.strip() + " 0.5 0.5 2 0 0 0\n")
    (found,), _ = read(put(folder / "a.jpg"))
    assert found.box == YOLO_BOX
    assert found.keypoints == (expected or ((32, 24, 2), (128, 0, 2), (0, 0, 2)))


BAD_LINES = [
    ("1 0.5 0.25 0.25", "4 numbers, where a box has 5"),
    ("1 0.5 0.25 0.25 0.5 0.1 0.1 0.1", "8 numbers"),
    ("cat 0.5 0.25 0.25 0.5", "no number"),
    ("0.5 0.5 0.25 0.25 0.5", "a class that is no whole number"),
    ("-1 0.5 0.25 0.25 0.5", "a class that is no whole number"),
    ("1 0.5 nan 0.25 0.5", "no number"),
    ("1 32 12 16 24", "no shares"),
    ("1 0.5 0.25 0 0.5", "without area"),
    ("a caption of this picture, say", "no number"),
]


@pytest.mark.parametrize(("line", "words"), BAD_LINES)
def test_a_bad_line_is_left_out_and_said(folder, line, words):
    put(folder / "a.txt", f"{LINE}{line}\n")
    found, notes = read(put(folder / "a.jpg"))
    assert simple(found) == [(YOLO_BOX, "class 1")]
    assert len(notes) == 1 and words in notes[0] and "(a.txt line 2)" in notes[0]


# Constructors raise what they like; and text of lists may be endless.
BAD_YAML = [
    "names: [",
    "names: 3",
    "- 1",
    "names: [a]\nkpt_shape: [2, 9]",
    "names: {x: y}",
    'names: [!!int ""]',
    "names: [!!bool x]",
    'names: [!!float ""]',
    "names: {.inf: x}",
    "names: [a]\nkpt_shape: [.inf, 3]",
    "a: &a [b]\nnames: [*a]",
]


@pytest.mark.parametrize(
    "content", ["names: [", "names: 3", "- 1", "names: [a]\nkpt_shape: [2, 9]", "names: {x: y}", *BAD_YAML]
)
def test_a_data_yaml_that_is_none_is_an_error(folder, content):
    put(folder / "data.yaml", content)
    put(folder / "a.txt", LINE)
    with pytest.raises(UserError, match=r"data\.yaml: not the data\.yaml of YOLO"):
        read(put(folder / "a.jpg"))


def test_yaml_runs_no_code(folder):
    put(folder / "data.yaml", "names: !!python/object/apply:os.system ['touch broken']")
    put(folder / "a.txt", LINE)
    with pytest.raises(UserError):
        read(put(folder / "a.jpg"))
    assert not (folder / "broken").exists()


# Pascal VOC


def voc(*objects, size="<size><width>64</width><height>48</height><depth>3</depth></size>", before=""):
    return f"{before}<annotation>{size}{''.join(objects)}</annotation>"


def item(name="cat", x1=5, y1=6, x2=24, y2=35, more=""):
    box = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def test_voc_counts_from_1_and_holds_the_last_pixel(folder):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    put(folder / "a.xml", voc(item(), item("dog", 1, 1, 64, 48.0, more=part), item("", 10, 10, 10, 10)))
    found, notes = read(put(folder / "a.jpg"))
    assert simple(found) == [(BOX, "cat"), ((0, 0, 64, 48), "dog"), ((9, 9, 10, 10), "object")] and notes == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (item(x1="wide"), "no number"),
        ("<object><name>cat</name></object>", "no number"),
        (item(x1=25), "without area"),
        (item(x1=0, y1=0, x2=0, y2=0), "a box beside its picture"),
    ],
)
def test_a_bad_object_is_left_out_and_said(folder, bad, words):
    put(folder / "a.xml", voc(item(), bad))
    found, notes = read(put(folder / "a.jpg"))
    assert simple(found) == [(BOX, "cat")]
    assert len(notes) == 1 and words in notes[0] and "(a.xml object 2)" in notes[0]


LAUGHS = "".join(f'<!ENTITY l{n} "{10 * f"&l{n - 1};"}">' for n in range(1, 12))
BAD_XML = [
    ("<annotation>", "not XML"),
    ("<html></html>", "but html"),
    (voc(item(), size="<size><width>65</width><height>48</height></size>"), "width is 64, but the XML says 65"),
    (voc(item("&l11;"), before=f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>'), "not XML"),
    (voc(item("&x;"), before='<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), "not XML"),
    ("<a>" * 200_000, "not XML"),
]


@pytest.mark.parametrize(("content", "words"), BAD_XML, ids=range(len(BAD_XML)))
def test_labels_that_are_no_voc_leave_their_picture_out(folder, content, words):
    put(folder / "a.xml", content)
    found, notes = read(put(folder / "a.jpg"))
    assert found is None and words in notes[0]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_voc_may_say_nothing_of_the_size(folder, size):
    put(folder / "a.xml", voc(item(), size=size))
    assert simple(read(put(folder / "a.jpg"))[0]) == [(BOX, "cat")]


# Where labels are found

COCO = {"images": ONE, "annotations": [ROW], "categories": CAT}
PLACES = [
    ("a.jpg", "boxes.json"),
    ("a.jpg", "any.json"),
    ("train/a.jpg", "train/_annotations.coco.json"),
    ("images/a.jpg", "annotations/instances.json"),
    ("a.jpg", "a.txt"),
    ("images/a.jpg", "labels/a.txt"),
    ("x/images/train/a.jpg", "x/labels/train/a.txt"),
    ("a.jpg", "a.xml"),
    ("JPEGImages/a.jpg", "Annotations/a.xml"),
]
CONTENT = {".json": COCO, ".txt": LINE, ".xml": voc(item())}
EXPECTED = {".json": [(BOX, "cat")], ".txt": [(YOLO_BOX, "class 1")], ".xml": [(BOX, "cat")]}
FORM = {".json": "coco", ".txt": "yolo", ".xml": "voc"}


@pytest.mark.parametrize(("picture", "labels"), PLACES)
def test_labels_are_found_where_tools_put_them(folder, picture, labels):
    file = put(folder / labels, CONTENT[(folder / labels).suffix])
    path = put(folder / picture)
    for given, form in [(None, None), (None, FORM[file.suffix]), (file, None), (file, FORM[file.suffix])]:
        assert simple(read(path, given, form)[0]) == EXPECTED[file.suffix]
    assert simple(read(path, file.parent)[0]) == EXPECTED[file.suffix]
    for other in set(FORM.values()) - {FORM[file.suffix]}:
        with pytest.raises(UserError, match="found; name the file or folder with --boxes"):
            read(path, form=other)


def test_the_form_decides_where_there_are_labels_of_several(folder):
    for suffix, content in CONTENT.items():
        put(folder / f"a{suffix}", content)
    for suffix, form in FORM.items():
        assert simple(read(put(folder / "a.jpg"), form=form)[0]) == EXPECTED[suffix]
    assert simple(read(put(folder / "a.jpg"))[0]) == EXPECTED[".json"]


def test_of_several_json_files_the_one_with_the_usual_name_is_taken(folder):
    put(folder / "other.json", "{")
    put(folder / "boxes.json", COCO)
    assert simple(read(put(folder / "a.jpg"))[0]) == [(BOX, "cat")]
    (folder / "boxes.json").rename(folder / "mine.json")
    with pytest.raises(UserError, match="no labels found"):
        read(put(folder / "a.jpg"))


def test_a_folder_of_labels_may_have_the_folders_of_the_pictures(folder):
    put(folder / "labels/train/a.txt", LINE)
    put(folder / "labels/a.txt", "0 0.5 0.5 1 1")
    pictures = [put(folder / "pictures/train/a.jpg"), put(folder / "pictures/val/a.jpg")]
    found, _ = read(pictures, folder / "labels")
    assert [simple(each)[0][1] for each in found] == ["class 1", "class 0"]


def test_a_data_yaml_may_be_named(folder):
    put(folder / "elsewhere/data.yaml", "names: [cat, dog]")
    put(folder / "labels/a.txt", LINE)
    assert simple(read(put(folder / "images/a.jpg"), folder / "elsewhere/data.yaml")[0]) == [(YOLO_BOX, "dog")]


def test_a_picture_without_labels_among_others_is_left_out(folder):
    put(folder / "a.txt", LINE)
    (some, none), notes = read([put(folder / "a.jpg"), put(folder / "b.jpg")])
    assert len(some) == 1 and none is None
    assert notes == [f"left out: no labels ({folder / 'b.jpg'})"]


def test_a_label_file_that_is_too_large_is_left_out(folder):
    with put(folder / "a.txt", LINE).open("r+b") as file:
        file.truncate(1 << 25)
    found, notes = read(put(folder / "a.jpg"))
    assert found is None and "labels of more than 16 MB" in notes[0]
    (folder / "a.txt").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in read(folder / "a.jpg")[1][0]


def test_what_is_no_file_is_not_waited_for(folder):
    """A pipe, which nobody may ever write to."""
    for name in ("x/a.png", "y/labels.json", "z/labels.json"):
        (folder / name).parent.mkdir()
        os.mkfifo(folder / name)
    with pytest.raises(UserError, match="no pictures"):
        find_pictures([folder / "x"], Notes())
    for read_it in (read_picture, picture_size):
        with pytest.raises(UnusableError, match="not a file"):
            read_it(folder / "x/a.png")
    with pytest.raises(UserError, match="no labels found"):
        read(put(folder / "y/a.jpg"))
    with pytest.raises(UserError, match="no labels found"):
        read(put(folder / "z/a.jpg"), folder / "z/labels.json")


def test_many_points_and_many_entries_take_little(folder):
    """Of one name in many folders, too."""
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    ring = (np.stack([32 + 20 * np.cos(angles), 24 + 20 * np.sin(angles)], axis=1)).ravel().tolist()
    (found,), _ = coco(folder, ONE, [{**ROW, "segmentation": [ring]}])
    y, x = np.mgrid[:48, :64] + 0.5
    assert (found.shape.mask(SIZE) == (np.hypot(x - 32, y - 24) < 20)).all()
    images = [{"id": k, "file_name": f"{k}/a.jpg"} for k in range(1000)]
    pictures = [put(folder / f"{k}/a.jpg") for k in range(1000)]
    start = time.perf_counter()
    labels = Labels(pictures, put(folder / "z.json", {"images": images, "annotations": []}))
    assert labels.read(pictures[7], SIZE, Notes()) == [] and time.perf_counter() - start < 10  # 2 minutes once


# Pictures


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def test_folders_are_looked_through_and_what_is_passed_over_is_said(folder):
    for name in ["b.JPG", "a.tif", "in/deep/c.webp", ".hidden/d.png", ".e.png", "f.heic", "notes.txt", "out/g.png"]:
        put(folder / "x" / name)
    (folder / "x/in/back").symlink_to(folder / "x")
    notes = Notes()
    found = find_pictures([folder / "x", folder / "x/a.tif"], notes, leave=folder / "x/out")
    assert [path.relative_to(folder / "x").as_posix() for path in found] == ["a.tif", "b.JPG", "in/deep/c.webp"]
    assert [line for line in notes.lines() if "f.heic" in line] == list(notes.lines()) != []
    for path, words in [(folder / "none", "no such file"), (folder / "x/.hidden", "no pictures")]:
        (folder / "x/.hidden/d.png").unlink(missing_ok=True)
        with pytest.raises(UserError, match=words):
            find_pictures([path], notes)


@pytest.mark.parametrize(
    ("levels", "dtype", "expected"),
    [
        ([0, 128, 65535, 65407], np.uint16, [0, 0, 255, 255]),  # 65407 / 257 = 254.502
        ([0, 65535, 257 * 99 + 128, 257 * 99 + 129], np.uint16, [0, 255, 99, 100]),
        ([0, 4095, 2056, 8], np.uint16, [0, 255, 128, 0]),  # 12 bits: 2056 * 255 / 4095 = 128.03
        ([0.0, 1.0, 0.5, 0.25], np.float32, [0, 255, 128, 64]),
        ([0, 70000, 35000, 14000], np.int32, [0, 255, 128, 51]),
        ([0.0, 1.001, 0.5, np.nan], np.float32, [0, 255, 128, 0]),  # as filters leave it
        ([0.0, 255.0, 64.4, np.inf], np.float32, [0, 255, 64, 0]),
    ],
)
def test_deep_levels_are_rounded_to_bytes(folder, levels, dtype, expected):
    path = save(folder / "a.tif", Image.fromarray(np.array([levels], dtype)))
    assert np.asarray(read_picture(path))[0].tolist() == [[level] * 3 for level in expected]


def test_pictures_of_very_many_pixels_are_refused(folder, monkeypatch):
    """Pillow warns of a bomb, and raises from twice as many pixels on."""
    path = save(folder / "a.png", Image.new("RGB", (60, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for read_it in (read_picture, picture_size):
        with pytest.raises(UnusableError, match="decompression bomb"):
            read_it(path)


def test_folders_may_be_deep_and_links_may_lead_to_themselves(folder):
    """Deeper than Python may call itself here."""
    (folder / "loop").symlink_to("loop")
    save(folder.joinpath(*["x"] * 150, "a.png"), Image.new("RGB", (4, 4)))
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        found = find_pictures([folder], Notes(), leave=folder / "loop")
    finally:
        sys.setrecursionlimit(before)
    assert [path.name for path in found] == ["a.png"]


def test_what_cannot_be_read_is_said(folder):
    whole = save(folder / "a.png", Image.effect_noise((64, 48), 50)).read_bytes()
    for content in (b"", b"not a picture", whole[:200]):
        (folder / "a.png").write_bytes(content)
        with pytest.raises(UnusableError, match="not a picture that can be read"):
            read_picture(folder / "a.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_from_the_head_of_a_file_is_that_of_the_upright_picture(folder, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = folder / f"a{suffix}"
    Image.new("RGB", (64, 48)).save(path, exif=exif)
    width, height = read_picture(path).size
    assert picture_size(path) == (height, width) == ((64, 48) if orientation > 4 else (48, 64))
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(UnusableError, match="not a picture that can be read"):
        picture_size(path)
