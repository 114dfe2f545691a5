"""Contact sheets and animations: what is drawn, where, in which colours."""

import io
import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import kornia_patchaug as kp
from kornia_patchaug import preview
from kornia_patchaug.frames import corners_of
from kornia_patchaug.outlines import annotate
from kornia_patchaug.preview import Picture, Ranges, contact_sheet, sweep

GROUND = (60, 110, 70)
WIDTH, HEIGHT = 240, 160  # a tile is twice that
# Okabe and Ito's orange, sky blue, green and yellow, by the number of the object.
COLOURS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)]
BOXES = [[30.0, 40.0, 90.0, 110.0], [140.0, 50.0, 200.0, 100.0]]
STILL = Ranges(0.0, (0.0, 0.0), (1.0, 1.0), 0.0, "image")
LIVELY = Ranges(20.0, (0.05, 0.1), (0.8, 0.9), 10.0, "image")
FREE = STILL._replace(padding_mode="zeros", clip=False)
BAR = (204, 204, 204)  # 0.8 * 255


def picture(boxes=BOXES, name="ground.png", labels=None, width=WIDTH, height=HEIGHT):
    """A flat picture with a bright bar in every object, near its left edge."""
    image = torch.tensor(GROUND).float()[:, None, None].repeat(1, height, width) / 255
    for x1, y1, x2, y2 in boxes:
        image[:, int(y1 + 0.2 * (y2 - y1)) : int(y1 + 0.8 * (y2 - y1)), int(x1 + 6) : int((x1 + x2) / 2)] = 0.8
    labels = tuple("thing" for _ in boxes) if labels is None else labels
    return Picture(name, image, torch.tensor(boxes).reshape(-1, 4), labels)


def tiles_of(sheet, ground=GROUND):
    """The tiles of a sheet in reading order, found as the rectangles in whose rows and columns the ground shows."""
    pixels = np.asarray(sheet)
    shows = (pixels == ground).all(-1)
    spans = []
    for seen in (shows.sum(1) > 40, shows.sum(0) > 40):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(int)))
        spans.append(edges.reshape(-1, 2))
    found = [pixels[top:bottom, left:right] for top, bottom in spans[0] for left, right in spans[1]]
    return [tile for tile in found if (tile == ground).all(-1).mean() > 0.2]


def where(pixels, colour):
    """Centres (x, y) of the pixels of exactly this colour."""
    y, x = np.nonzero((pixels == colour).all(-1))
    return np.stack([x, y], axis=1) + 0.5


def bright(pixels):
    """Centres (x, y) of the pixels of bars, which resizing has made a little brighter or darker."""
    y, x = np.nonzero((np.abs(pixels.astype(int) - BAR) < 24).all(-1))
    return np.stack([x, y], axis=1) + 0.5


def to_outline(points, quad):
    """The distance of each point to the nearest edge of a quadrilateral."""
    nearest = np.full(len(points), np.inf)
    for a, b in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        share = ((points - a) @ (b - a) / ((b - a) @ (b - a))).clip(0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - a - share[:, None] * (b - a), axis=1))
    return nearest


def moved_by_hand(box, theta):
    """Where the corners of a box go: theta maps output to input in a frame of -1 .. 1, and content the other way."""
    return place(box, theta, np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]))


def place(box, theta, points):
    """Where points of the frame of a box go."""
    x1, y1, x2, y2 = box
    centre, half = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1]) / 2
    return centre + half * ((points - theta[:, 2]) @ np.linalg.inv(theta[:, :2]).T)


@pytest.mark.parametrize("draws", [1, 2, 3, 5, 8])
def test_a_sheet_has_the_input_and_k_tiles(draws):
    sheet = contact_sheet(picture([]), STILL, draws=draws, seed=0)
    tiles = tiles_of(sheet)
    assert [tile.shape for tile in tiles] == (1 + draws) * [(320, 480, 3)]
    assert (np.asarray(sheet) == GROUND).all(-1).sum() == (1 + draws) * 320 * 480


TILES = [(30, 90, (480, 160)), (1000, 500, (240, 480)), (64, 64, (480, 480))]


@pytest.mark.parametrize(("width", "height", "tile"), TILES)
def test_a_tile_keeps_the_proportions_and_is_480_pixels_long(width, height, tile):
    sheet = contact_sheet(picture([], width=width, height=height), STILL, draws=1, seed=0)
    assert [t.shape[:2] for t in tiles_of(sheet)] == 2 * [tile]


def test_every_object_has_its_own_colour_in_every_tile():
    for tile in tiles_of(contact_sheet(picture(), LIVELY, draws=5, seed=0)):
        counts = [len(where(tile, colour)) for colour in COLOURS]
        assert min(counts[:2]) > 300 and counts[2:] == [0, 0]


def test_the_input_tile_shows_the_boxes():
    tile = tiles_of(contact_sheet(picture(), LIVELY, draws=1, seed=0))[0]
    for colour, (x1, y1, x2, y2) in zip(COLOURS, BOXES, strict=False):
        box = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) * 2
        check_outline(tile, colour, box)


def check_outline(tile, colour, quad):
    """Pixels of the colour lie on the outline and all along it; the tag sits on the first corner."""
    points = where(tile, colour)
    points = points[np.linalg.norm(points - quad[0], axis=1) > 20]
    assert to_outline(points, quad).max() < 2
    for a, b in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        for point in a + np.linspace(0.1, 0.9, 17)[:, None] * (b - a):
            if np.linalg.norm(point - quad[0]) > 22:
                assert np.linalg.norm(points - point, axis=1).min() < 2


def test_moved_outlines_are_where_the_theta_of_the_draw_takes_the_corners():
    tiles = tiles_of(contact_sheet(picture(), LIVELY, draws=3, seed=11))
    twin = kp.RandomPatchAffine(
        20.0, (0.05, 0.1), (0.8, 0.9), 10.0, p=1.0, generator=torch.Generator().manual_seed(11), padding_mode="image"
    )
    for tile in tiles[1:]:
        twin(picture().image[None], torch.tensor(BOXES))
        for n, theta in enumerate(twin._params["theta"][0].double().numpy()):
            quad = 2 * moved_by_hand(BOXES[n], theta)
            check_outline(tile, COLOURS[n], quad)
            with pytest.raises(AssertionError):
                check_outline(tile, COLOURS[n], quad + 4)


def test_a_fixed_scale_shrinks_the_outline_about_the_centre():
    half = Ranges(0.0, (0.0, 0.0), (0.5, 0.5), 0.0, "image")
    tile = tiles_of(contact_sheet(picture([[40.0, 20.0, 200.0, 140.0]]), half, draws=1, seed=0))[1]
    check_outline(tile, COLOURS[0], 2.0 * np.array([[80, 50], [160, 50], [160, 110], [80, 110]]))


def shares(pixels, colour, ground=GROUND):
    """How much of the colour there is in each pixel that is a blend of it and the ground, else 0."""
    towards, ground = np.subtract(colour, ground), np.asarray(ground)
    share = (pixels - ground) @ towards / (towards @ towards)
    is_blend = np.abs(pixels - ground - share[..., None] * towards).max(-1) < 6
    return share * is_blend


def thin_points(tile, colour):
    """Centres (x, y) of the pixels that a line thinner than a pixel, and not opaque, may leave."""
    share = shares(tile.astype(float), colour)
    y, x = np.nonzero((share > 0.15) & (share < 0.8))
    return np.stack([x, y], axis=1) + 0.5


def check_thin_box(tile, colour, box, thick):
    """A thin line runs along the box; where thick ones (points) and the tag are not near, there is none elsewhere."""
    x1, y1, x2, y2 = box
    quad, points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), thin_points(tile, colour)

    def is_clear(places):
        tags = where(tile, colour)  # the outline's too, which is thick
        near = [np.linalg.norm(places[:, None] - others, axis=2).min(1) for others in (thick, tags)]
        return np.minimum(*near) > 8

    assert to_outline(points[is_clear(points)], quad).max() < 1.6
    along = along_sides(quad, 41)
    along = along[is_clear(along)]
    assert len(along) > 12
    assert np.linalg.norm(along[:, None] - points, axis=2).min(1).max() < 2


def circle(box, theta, count=720):
    """Points of the ellipse in a box, moved."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return place(box, theta, np.stack([np.cos(t), np.sin(t)], axis=1))


def sides(box, theta):
    """Points of the sides of a box, moved."""
    return along_sides(moved_by_hand(box, theta), 199)


def along_sides(quad, count):
    pairs = zip(quad, np.roll(quad, -1, axis=0), strict=True)
    return np.concatenate([a + np.linspace(0, 1, count)[:, None] * (b - a) for a, b in pairs])


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("matte", ["box", "ellipse"])
def test_thin_boxes_are_labels_the_boxes_around_moved_outlines_as_far_as_these_are_painted(matte, clip):
    """A colour for each of two objects, one of which leaves the picture."""
    boxes = [[20.0, 40.0, 100.0, 80.0], [190.0, 80.0, 239.0, 150.0]]
    turned = FREE if not clip else STILL
    turned = turned._replace(degrees=45.0, translate=(0.1, 0.2), scale=(1.1, 1.1), matte=matte)
    twin = kp.RandomPatchAffine(
        45.0, (0.1, 0.2), (1.1, 1.1), 0.0, p=1.0, generator=torch.Generator().manual_seed(2), clip=clip
    )
    flat = picture(boxes)
    flat = flat._replace(image=torch.tensor(GROUND).float()[:, None, None].expand_as(flat.image) / 255)
    for tile in tiles_of(contact_sheet(flat, turned, draws=4, seed=2))[1:]:
        twin(flat.image[None], flat.boxes)
        for n, theta in enumerate(twin._params["theta"][0].double().numpy()):
            outline = (circle if matte == "ellipse" else sides)(boxes[n], theta)
            limits = np.array(boxes[n] if clip else [0, 0, WIDTH, HEIGHT]).reshape(2, 2)
            label = np.stack([outline.min(0), outline.max(0)]).clip(*limits)
            check_thin_box(tile, COLOURS[n], 2 * label.ravel(), 2 * outline)
            with pytest.raises(AssertionError):
                check_thin_box(tile, COLOURS[n], 2 * label.ravel() + [0, 0, 4, 4], 2 * outline)


def test_the_thick_outline_is_the_ellipse_where_that_is_the_matte():
    """In a box of 160 x 120 pixels of a tile, about (240, 160)."""
    box = picture([[80.0, 50.0, 160.0, 110.0]])
    tile = tiles_of(contact_sheet(box, FREE._replace(matte="ellipse"), draws=1, seed=0))[1]
    points = where(tile, COLOURS[0]) - (240, 160)
    x, y = points[np.linalg.norm(points - [-80 / 2**0.5, -60 / 2**0.5], axis=1) > 20].T  # without the tag
    assert np.abs(np.hypot(x / 80, y / 60) - 1).max() < 0.04
    assert np.ptp(x) > 155 and np.ptp(y) > 115


def test_a_label_of_nothing_is_not_drawn():
    """Both objects are carried out of the picture, and of the boxes that clip them."""
    far = theta_of_shifts([9.0, 9.0])
    for ranges in (STILL, FREE):
        quads = torch.stack([torch.from_numpy(moved_by_hand(box, t)) for box, t in zip(BOXES, far, strict=True)])
        labels = preview._label_boxes(torch.tensor(BOXES), quads.float(), ranges, (HEIGHT, WIDTH))
        tile = Image.new("RGB", (480, 320), GROUND)
        drawn = annotate(tile, 2 * corners_of(labels), 2 * quads.float(), [])
        assert (np.asarray(drawn) == GROUND).all()


def theta_of_shifts(shares):
    """Content is carried to the right by these shares of the half width."""
    return [np.array([[1.0, 0, -share], [0, 1, 0]]) for share in shares]


def test_without_clip_an_object_is_painted_beyond_its_box():
    """The bar of the first object, from 36 to 60 across and 54 to 96 down, is enlarged about (60, 75)."""
    for clip, low, high in ((True, (30, 40), (60, 110)), (False, (12, 33), (60, 117))):
        twice = STILL if clip else FREE
        tile = tiles_of(contact_sheet(picture(BOXES[:1]), twice._replace(scale=(2.0, 2.0)), draws=1, seed=0))[1]
        bar = bright(tile)
        assert np.abs(bar.min(0) - 2 * np.array(low)).max() < 7  # an outline lies over its edge
        assert np.abs(bar.max(0) - 2 * np.array(high)).max() < 7


@pytest.mark.parametrize(("fill", "there"), [(None, BAR), (0.25, (64, 64, 64)), ("surroundings", GROUND)])
def test_what_an_object_leaves_behind_is_the_fill(fill, there):
    """Away from where it went; the middle of the bar of the first object is at (48, 75)."""
    away, seeds = FREE._replace(translate=(2.0, 0.0), fill=fill), range(20)
    shift = [
        kp.RandomPatchAffine(0, (2.0, 0), p=1.0, clip=False, generator=torch.Generator().manual_seed(s)) for s in seeds
    ]
    for one in shift:
        one(picture().image[None], torch.tensor(BOXES[:1]))
    seed = next(s for s in seeds if shift[s]._params["theta"][0, 0, 0, 2] < -2.2)  # to the right by more than its width
    tile = tiles_of(contact_sheet(picture(BOXES[:1]), away, draws=1, seed=seed))[1]
    assert np.abs(tile[120:180, 80:112].astype(int) - there).max() <= 1
    bars = 2 if fill is None else 1
    assert len(bright(tile)) == pytest.approx(bars * 48 * 84, rel=0.1)


def test_soft_edges_fade_over_the_feather():
    """A bright box on the ground: with a feather of 0.5 half way to its middle it is opaque, at its edge it is not."""
    bright = picture([[80.0, 40.0, 160.0, 120.0]])
    bright.image[:, 40:120, 80:160] = 0.8
    turned = FREE._replace(fill=0.0, degrees=0.0, translate=(0.0, 0.0))
    soft = tiles_of(contact_sheet(bright, turned._replace(matte="box", feather=0.5), draws=1, seed=0))[1]
    hard = tiles_of(contact_sheet(bright, turned, draws=1, seed=0))[1]
    assert (hard[160, 170:310] == BAR).all()
    assert (soft[160, 204:276] == BAR).all() and (soft[160, 170:190].max(1) < 190).all()


def test_the_header_is_the_code_of_the_augmentation():
    ranges = Ranges(20.0, (0.05, 1.5), (0.8, 0.9), 10.0, "zeros", False, "surroundings", "ellipse", 0.3)
    assert ranges.code() == (
        "RandomPatchAffine(degrees=20, translate=(0.05, 1.5), scale=(0.8, 0.9), shear=10, p=1.0, clip=False, "
        'fill="surroundings", matte="ellipse", feather=0.3)'
    )
    assert 'p=1.0, padding_mode="image")' in STILL.code()
    for case in (ranges, STILL, FREE._replace(fill=0.25), LIVELY._replace(matte="box")):
        assert repr(eval(case.code(), vars(kp))) == repr(case.augmentation(0))


def test_without_motion_a_draw_is_the_input():
    first, *rest = tiles_of(contact_sheet(picture(), STILL, draws=2, seed=0))
    assert all((tile == first).all() for tile in rest)
    first, *rest = tiles_of(contact_sheet(picture(), LIVELY, draws=2, seed=0))
    assert not any((tile == first).all() for tile in rest)


def test_levels_beyond_black_and_white_stay_there():
    levels = torch.tensor([-0.02, 0.0, 0.5, 1.0, 1.02]).expand(3, 1, 5)
    assert np.asarray(preview.to_pil(levels, (5, 1)))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_the_patch_turns_with_its_outline():
    """The bar lies in the left half of its box, so also in the left half of the moved outline."""
    tile = tiles_of(contact_sheet(picture(BOXES[:1]), LIVELY, draws=1, seed=3))[1]
    twin = kp.RandomPatchAffine(20.0, (0.05, 0.1), (0.8, 0.9), 10.0, p=1.0, generator=torch.Generator().manual_seed(3))
    twin(picture().image[None], torch.tensor(BOXES[:1]))
    quad = 2 * moved_by_hand(BOXES[0], twin._params["theta"][0, 0].double().numpy())
    bar = where(tile, BAR).mean(0)
    left, right = (quad[0] + quad[3]) / 2, (quad[1] + quad[2]) / 2
    # The bar spans 0.1 .. 0.5 of the width and is centred on the height.
    expected = left + 0.3 * (right - left)
    assert np.linalg.norm(bar - expected) < 3


def test_tags_of_objects_with_one_box_keep_apart():
    """The second outline covers the first; the first tag must still be seen, whole."""
    tile = tiles_of(contact_sheet(picture([BOXES[0], BOXES[0]]), STILL, draws=1, seed=0))[0]
    points = where(tile, COLOURS[0])
    assert len(points) > 100
    assert np.ptp(points, axis=0).max() < 24


def grid(count, side=6.0):
    """Boxes apart from one another, row by row, of which every third is larger."""
    rows = []
    for k in range(count):
        x, y = 4 + 11 * (k % 21), 4 + 11 * (k // 21)
        rows.append([x, y, x + side + (k % 3 == 0), y + side])
    return rows


@pytest.mark.parametrize(("count", "colours"), [(4, 4), (12, 4), (13, 2)])
def test_few_objects_have_colours_of_their_own_and_many_those_of_their_class(count, colours):
    shown = picture(grid(count), labels=tuple("ab"[n % 2] for n in range(count)))
    for tile in tiles_of(contact_sheet(shown, LIVELY, draws=1, seed=0)):
        assert sum(len(where(tile, colour)) > 20 for colour in COLOURS) == colours


@pytest.mark.parametrize(
    ("count", "classes", "expected"),
    [
        (3, (), {0: "a", 1: "b", 2: "a"}),
        (13, (), {0: "a (7)", 1: "b (6)"}),
        (2, ("b", "c", "a"), {0: "b (1)", 2: "a (1)"}),
    ],
)
def test_the_legend_has_a_line_an_object_or_a_class(monkeypatch, count, classes, expected):
    seen, legend = [], preview._legend
    monkeypatch.setattr(preview, "_legend", lambda names, *rest: seen.append(names) or legend(names, *rest))
    labels = tuple("ab"[n % 2] for n in range(count))
    contact_sheet(picture(grid(count), labels=labels)._replace(classes=classes), STILL, draws=1, seed=0)
    assert seen == [expected]


def test_where_tags_would_hide_the_picture_the_largest_objects_have_them_and_the_others_are_counted(monkeypatch):
    boxes = grid(200)
    spots = preview.choose_spots(corners_of(torch.tensor(boxes)) * 2, (480, 320), [0] * 200)
    tagged = [n for n, spot in enumerate(spots) if spot is not None]
    assert 12 <= len(tagged) <= 0.06 * 480 * 320 / 17**2 and all(n % 3 == 0 for n in tagged)
    notes, lay_out = [], preview._lay_out
    monkeypatch.setattr(preview, "_lay_out", lambda *a: notes.append(a[-1]) or lay_out(*a))
    contact_sheet(picture(boxes), STILL, draws=1, seed=0)
    assert f"The {200 - len(tagged)} smallest of 200 objects have no tag" in notes[0]
    contact_sheet(picture(boxes[:13]), STILL, draws=1, seed=0)
    assert "tag" not in notes[1]


@pytest.mark.slow
def test_five_thousand_tags_are_placed_in_a_second():
    """They took more than 200."""
    generator = torch.Generator().manual_seed(0)
    quads = corners_of(torch.rand(5000, 4, generator=generator).cumsum(1) * 100)
    start = time.process_time()
    assert len(preview.choose_spots(quads, (480, 480), [0] * 5000)) == 5000
    assert time.process_time() - start < 1


def test_outlines_on_the_border_of_the_picture_are_whole():
    """Two of the line's 2.5 pixels are of the pure colour; if it were centred on the border, one would be."""
    sheet = contact_sheet(picture([[0.0, 0.0, 240.0, 160.0]]), STILL, draws=1, seed=0)
    perimeter = 2 * (480 + 320)
    assert len(where(np.asarray(sheet), COLOURS[0])) > 2 * 1.6 * perimeter


@pytest.mark.parametrize("draws", [1, 5])
def test_the_margins_stay_free_of_text(draws):
    many = [[5.0 + 20 * (n % 11), 5.0 + 30 * (n // 11), 20.0 + 20 * (n % 11), 30.0 + 30 * (n // 11)] for n in range(44)]
    labels = tuple("W" * n for n in range(44))
    sheet = contact_sheet(picture(many, "W" * 300 + ".png", labels), LIVELY, draws=draws, seed=0)
    pixels = np.asarray(sheet)
    for strip in (pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:]):
        assert (strip == 255).all()


def test_names_in_any_script_can_be_written():
    contact_sheet(picture(name="猫 naïve \udce9.png", labels=("é\n", "")), STILL, draws=1, seed=0)


def test_a_line_thin_box_turned_upright_is_no_error():
    thin = picture([[0.0, 3.0, 4000.0, 4.0]], width=4000, height=8)
    ranges = Ranges(360.0, (0.0, 0.0), (0.5, 2.0), 0.0, "zeros")
    assert contact_sheet(thin, ranges, draws=8, seed=0).width > 480


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(monkeypatch):
    monkeypatch.setattr("kornia_patchaug.preview.GIF_TILE", 100)
    sheets = [contact_sheet(picture(), LIVELY, draws=2, seed=seed).tobytes() for seed in (4, 4, 5)]
    assert sheets[0] == sheets[1] != sheets[2]
    assert sweep(picture(), LIVELY) == sweep(picture(), LIVELY)


def frames_of(data):
    frames = ImageSequence.Iterator(Image.open(io.BytesIO(data)))
    return np.stack([np.asarray(frame.convert("RGB")) for frame in frames])


def test_an_animation_loops_for_ever_and_starts_at_the_boxes():
    data = sweep(picture(), LIVELY._replace(scale=(0.8, 1.2)))
    assert Image.open(io.BytesIO(data)).info["loop"] == 0
    frames = frames_of(data)
    assert frames.shape[0] >= 24 and frames.shape[2] == 440
    zoom = 440 / WIDTH
    for colour, (*_, x2, y2) in zip(COLOURS, BOXES, strict=False):
        assert all(len(where(frame, colour)) > 100 for frame in frames)
        points = where(frames[0], colour)
        assert np.abs(points.max(0) - zoom * np.array([x2, y2])).max() < 4
        turned = where(frames[len(frames) // 4], colour)
        assert np.ptp(turned, axis=0)[1] > np.ptp(points, axis=0)[1]
    step = np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3))
    back = np.abs(frames[-1].astype(int) - frames[0]).mean()
    assert step.min() > 0 and back <= 1.5 * step.max()  # no jump where the loop closes


def test_frames_of_an_animation_have_labels_of_what_moved(monkeypatch):
    """A quarter through, each object has turned by all its degrees and is as large as in the picture: an ellipse of
    60 x 70 pixels about (60, 75) has become one of 70 x 60."""
    frames = []
    monkeypatch.setattr(preview, "encode_gif", lambda made: frames.extend(made) or b"")
    turned = FREE._replace(degrees=90.0, matte="ellipse", fill="surroundings")
    flat = picture(BOXES[:1])
    flat = flat._replace(image=torch.tensor(GROUND).float()[:, None, None].expand_as(flat.image) / 255)
    sweep(flat, turned)
    zoom = 440 / WIDTH
    for k, label, half in ((0, (30, 40, 90, 110), (30, 35)), (8, (25, 45, 95, 105), (35, 30))):
        around = np.array((60, 75)) + circle([-1, -1, 1, 1], np.eye(2, 3)) * half
        check_thin_box(np.asarray(frames[k]), COLOURS[0], zoom * np.array(label), zoom * around)
        with pytest.raises(AssertionError):
            check_thin_box(np.asarray(frames[k]), COLOURS[0], zoom * np.array(label) + 4, zoom * around)


def quads_of_a_sweep(monkeypatch, ranges, boxes):
    """The moved corners ``(32, N, 4, 2)`` of an animation in pixels of its picture."""
    quads = []
    monkeypatch.setattr(preview, "annotate", lambda tile, label, quad, *_, **options: quads.append(quad) or tile)
    sweep(picture(boxes, height=180), ranges)  # 330 pixels of an animation
    return (torch.stack(quads) * (WIDTH / 440)).double().numpy()


def test_a_sweep_goes_through_the_whole_of_each_range_and_every_other_object_the_other_way(monkeypatch):
    """Of boxes unlike in shape, whose shares of width and height differ: how each edge and middle moves."""
    boxes = [[30.0, 40.0, 90.0, 60.0], [140.0, 50.0, 160.0, 110.0]]
    size, middle = np.array([[60, 20], [20, 60]]), np.array([[60, 50], [150, 80]])

    quads = quads_of_a_sweep(monkeypatch, FREE._replace(degrees=30.0), boxes)
    across = quads[:, :, 1] - quads[:, :, 0]
    angles = np.degrees(np.arctan2(across[..., 1], across[..., 0]))  # clockwise as displayed
    assert np.allclose(angles[8], [30, -30], atol=1e-3) and np.allclose(angles[24], [-30, 30], atol=1e-3)
    assert np.allclose(np.abs(angles).max(0), 30, atol=1e-3)
    assert np.allclose(np.linalg.norm(across, axis=-1), size[:, 0], atol=1e-3)

    quads = quads_of_a_sweep(monkeypatch, FREE._replace(translate=(0.1, 0.2)), boxes)
    shift = (quads.mean(2) - middle) / size
    assert np.allclose(np.abs(shift).max(0), [[0.1, 0.2], [0.1, 0.2]], atol=1e-3)
    assert np.allclose(shift[4], [[0.0707, 0.2], [0.0707, -0.2]], atol=1e-3)  # an eighth through

    quads = quads_of_a_sweep(monkeypatch, FREE._replace(scale=(0.5, 0.9)), boxes)
    scale = np.linalg.norm(quads[:, :, 1] - quads[:, :, 0], axis=-1) / size[:, 0]
    assert np.allclose(scale[[0, 4, 12]], [[0.7, 0.7], [0.9, 0.9], [0.5, 0.5]], atol=1e-3)
    assert np.allclose([scale.min(), scale.max()], [0.5, 0.9], atol=1e-3)

    quads = quads_of_a_sweep(monkeypatch, FREE._replace(shear=20.0), boxes)
    down = quads[:, :, 3] - quads[:, :, 0]
    lean = np.degrees(np.arctan2(down[..., 0], down[..., 1]))
    assert np.allclose(np.abs(lean).max(0), 20, atol=1e-2) and np.allclose(lean[4, 0], -lean[4, 1], atol=1e-3)


def test_what_does_not_move_does_not_flicker():
    noisy = picture()
    noise = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    frames = frames_of(sweep(noisy._replace(image=noise), LIVELY))
    corner = frames[:, :40, :40]
    assert (corner == corner[0]).all()
    assert len(np.unique(corner.reshape(-1, 3), axis=0)) > 20
    assert not (frames == frames[0]).all()


def test_an_animation_too_large_is_made_smaller(monkeypatch):
    monkeypatch.setattr("kornia_patchaug.preview.GIF_TILE", 200)
    full = sweep(picture(), LIVELY)
    monkeypatch.setattr("kornia_patchaug.preview.MAX_GIF_BYTES", len(full) // 2)
    data = sweep(picture(), LIVELY)
    assert len(data) <= len(full) // 2
    assert len(frames_of(data)) == len(frames_of(full)) and 50 < frames_of(data).shape[2] < 200


def test_what_masks_do_not_show_does_not_move(monkeypatch):
    monkeypatch.setattr(preview, "annotate", lambda tile, *_, **options: tile)
    lively = LIVELY._replace(matte="mask")
    empty = picture()._replace(masks=torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool))
    whole = picture()._replace(masks=torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool))
    for shown, moves in ((empty, False), (whole, True), (picture(), True)):
        first, second = tiles_of(contact_sheet(shown, lively, draws=1, seed=0))
        assert np.array_equal(first, second) != moves
        with Image.open(io.BytesIO(sweep(shown, lively))) as animation:
            frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
        assert (len(frames) > 1) == moves  # frames that are alike become one
    assert 'matte="mask", feather=0.2)' in lively.code()
