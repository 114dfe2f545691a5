"""What the page draws and paints in a browser is what Python does: its scripts in a real one, beside the package."""

import base64
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from support.browser import CHROMIUM, chromium

import kornia_patchaug as kp
from kornia_patchaug.augmentation import _grow
from kornia_patchaug.frames import corners_of
from kornia_patchaug.outlines import ellipses_in
from kornia_patchaug.preview import Ranges, _label_boxes

pytestmark = pytest.mark.browser

SCRIPTS = Path(kp.__file__).parent / "web"
# Bytes come and go as text, as JSON has none.
HELPERS = """
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const textOf = (bytes) => {
  const parts = [];
  for (let k = 0; k < bytes.length; k += 8192) parts.push(String.fromCharCode(...bytes.subarray(k, k + 8192)));
  return btoa(parts.join(""));
};
const sceneOf = ({ rgba, width, height, boxes, masks }) => {
  const size = width * height, all = masks && bytesOf(masks);
  const objects = boxes.map((box, n) => ({ box, mask: all && all.subarray(n * size, (n + 1) * size) }));
  return Scene.open(Scene.picture(bytesOf(rgba), width, height), objects);
};
"""
# One scene for all, as it is for a slider: what is kept from one frame to the next must not show.
PAINT = """([given, frames]) => {
  const scene = sceneOf(given);
  return frames.map(([thetas, options]) => textOf(Scene.render(scene, thetas, options)));
}"""
SHARES = """([given, frames]) => {
  const scene = sceneOf(given);
  return frames.map(([thetas, options]) => [...Scene.visibleShare(scene, thetas, options)]);
}"""
TRACE = """([size, boxes, thetas, cases]) => cases.map((options) => boxes.map((box, n) => [
  Scene.outline(box, thetas[n]), Scene.labelBox(size, box, thetas[n], options),
]))"""
DRAW = """([seed, boxes, ranges, draws]) => {
  const draw = Draws.from(seed);
  return Array.from({ length: draws }, () => [...draw(boxes, ranges)]);
}"""
# Frames of a slider of degrees, of a scene that is kept.
PREPARE = """([given, ranges, options]) => {
  const scene = sceneOf(given), { boxes } = given, noise = Draws.noises(0)(boxes.length);
  window.slide = (frames, shares) => {
    const start = performance.now();
    for (let k = 1; k <= frames; k++) {
      const thetas = Draws.thetas(boxes, { ...ranges, degrees: k / 2 }, noise);
      Scene.render(scene, thetas, options);
      if (shares) Scene.visibleShare(scene, thetas, options);
    }
    return (performance.now() - start) / 1000;
  };
  slide(20, true);
}"""

HEIGHT, WIDTH = 45, 62
BOXES = torch.tensor(
    [
        [5, 4, 25, 21],
        [15, 10, 40, 32],  # over the one before
        [20.3, 14.75, 33.6, 28.2],  # over both, between pixels
        [-6, 25, 14, 51],  # beyond two edges
        [30, 30, 30, 40],  # empty
        [38, 2, 59, 13],  # stays
        [33, 24, 58, 43],
        [7.5, 29.5, 12, 33],  # what theta reads of it is a line: singular
    ]
)
STAYS, SINGULAR = 5, 7
PADDINGS = {True: ("zeros", "border", "reflection", "image", "transparent"), False: ("zeros", "transparent")}
COMBINATIONS = [
    {
        "resample": resample,
        "padding_mode": padding_mode,
        "clip": clip,
        "fill": fill,
        "matte": matte,
        "feather": feather,
        "order": order,
        "align_corners": align_corners,
    }
    for resample, clip, fill, (matte, feather), (order, align_corners) in itertools.product(
        ("bilinear", "nearest"),
        (True, False),
        (None, 0.3, "surroundings"),
        ((None, 0.2), ("box", 0.1), ("ellipse", 0.3), ("mask", 0.2)),
        (("area", False), ("rows", False), ("rows", True)),
    )
    for padding_mode in PADDINGS[clip]
]


def to_text(numbers):
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=np.uint8)).decode()


def levels_of(image):
    """(3, H, W) in [0, 1] -> (H, W, 3) bytes."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def from_text(text, height, width):
    """(H, W, 3) bytes of RGBA that is opaque."""
    rgba = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
    assert (rgba[..., 3] == 255).all()
    return rgba[..., :3]


def given_to_page(image, boxes, masks=None):
    levels = levels_of(image)
    rgba = np.concatenate([levels, np.full_like(levels[..., :1], 77)], axis=2)  # whose opacity does not count
    given = {"rgba": to_text(rgba), "width": rgba.shape[1], "height": rgba.shape[0], "boxes": boxes.tolist()}
    return given if masks is None else {**given, "masks": to_text(masks)}


def a_scene(seed=0, boxes=BOXES, height=HEIGHT, width=WIDTH):
    """A picture of noise, thetas and masks as bytes."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (3, height, width), generator=generator) / 255
    count = len(boxes)
    noise = torch.rand(count, 6, generator=generator)
    theta = kp.theta_from_components(
        360 * noise[:, 0], 0.6 + noise[:, 1:3], noise[:, 3:5] - 0.5, 30 * noise[:, 5:] * torch.eye(2)[:1], boxes=boxes
    )
    masks = torch.rand(count, 1, height // 4, width // 4, generator=generator)
    masks = torch.nn.functional.interpolate(masks, (height, width), mode="bilinear")[:, 0]
    masks = ((masks - 0.3) * 2).clamp(0, 1).mul(255).round().byte()
    return image, theta, masks


def awkward(theta):
    theta = theta.clone()
    theta[STAYS] = torch.eye(2, 3)
    theta[SINGULAR] = torch.tensor([[1.0, 0.5, 0.1], [2.0, 1.0, -0.3]])
    return theta


def painted(image, boxes, theta, masks, options):
    """What Python paints, (H, W, 3) bytes."""
    if options["matte"] != "mask":
        return levels_of(kp.RandomPatchAffine(30.0, p=1.0, **options)(image[None], boxes, theta)[0])
    rows, given = in_order(boxes, options["order"]), {**options, "mode": options["resample"]}
    for name in ("resample", "order", "matte", "feather"):
        del given[name]
    alpha, grow = masks[rows] / 255, _grow(options["feather"])
    return levels_of(kp.affine_patches(image[None], boxes[rows], theta[rows], alpha=alpha, grow=grow, **given)[0])


def in_order(boxes, order):
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return area.argsort(descending=True, stable=True) if order == "area" else torch.arange(len(boxes))


def differences(page, image, boxes, masks, frames):
    """(frames, H, W): the largest difference of a channel, in levels, of frames (theta, options)."""
    given = given_to_page(image, boxes, masks), [(theta.flatten().tolist(), options) for theta, options in frames]
    found = np.stack([from_text(text, *image.shape[1:]) for text in page.evaluate(PAINT, given)])
    expected = np.stack([painted(image, boxes, theta, masks, options) for theta, options in frames])
    return np.abs(found.astype(int) - expected).max(-1)


def test_ci_has_a_browser():
    """Elsewhere the tests below run where there is one."""
    assert CHROMIUM or not os.environ.get("CI")


@pytest.fixture(scope="module")
def page():
    """An empty page that knows the scripts; what it complains about is an error in the end."""
    with chromium() as browser:
        page, complaints = browser.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for script in ("scene.js", "draws.js"):
            page.add_script_tag(path=SCRIPTS / script)
        page.add_script_tag(content=HELPERS)
        yield page
    assert complaints == []


def test_every_combination_is_painted_as_in_python(page):
    image, theta, masks = a_scene()
    found = differences(page, image, BOXES, masks, [(awkward(theta), options) for options in COMBINATIONS])
    worst = [
        (options, most) for options, most in zip(COMBINATIONS, found.max((1, 2)).tolist(), strict=True) if most > 2
    ]
    assert [case for case in worst if case[0]["resample"] == "bilinear"] == []
    # Which of two pixels is nearer is decided by rounding where a place lies halfway between them.
    assert (found > 2).mean() < 1e-4, worst


def some_boxes(count, size, least, most, seed):
    generator = torch.Generator().manual_seed(seed)
    sides = least + (most - least) * torch.rand(count, 2, generator=generator)
    first = (size + most / 2) * torch.rand(count, 2, generator=generator) - most / 4
    return torch.cat([first, first + sides], dim=1)


COMMON = {"resample": "bilinear", "padding_mode": "zeros", "order": "area", "matte": None, "feather": 0.2}


@pytest.mark.parametrize("seed", range(3))
def test_a_run_of_frames_is_painted_as_in_python(page, seed):
    boxes = some_boxes(12, torch.tensor([97.0, 80.0]), 6, 45, seed)
    boxes[::2] = boxes[::2].round()
    image, theta, masks = a_scene(seed, boxes, 80, 97)
    moods = [  # one after another, as what is kept is of one
        {"clip": False, "matte": "box", "feather": 0.1},
        {"clip": True, "matte": "ellipse"},
        {"padding_mode": "image", "matte": "mask"},
    ]
    frames = []
    for mood, k in itertools.product(moods, range(8)):
        moved = theta * (0.4 + 0.2 * k)
        moved[torch.arange(len(theta)) % 4 == k // 2] = torch.eye(2, 3)
        frames.append((moved, {**COMMON, "fill": "surroundings", **mood}))
    assert differences(page, image, boxes, masks, frames).max() <= 2


def test_an_object_may_read_further_from_frame_to_frame(page):
    boxes = torch.tensor([[40, 30, 60, 44]])
    image, _, _ = a_scene(boxes=boxes, height=80, width=97)
    filled = {**COMMON, "padding_mode": "image", "fill": "surroundings", "matte": "box"}
    frames = [(torch.tensor([[[size, 0.1, 0], [0.2, size, 0]]]), filled) for size in (1.1, 1.5, 6.0, 1.2)]
    assert differences(page, image, boxes, None, frames).max() <= 2


@pytest.mark.parametrize("padding_mode", PADDINGS[True])
@pytest.mark.parametrize("size", [1e3, 1e6])
def test_huge_theta_is_painted(page, padding_mode, size):
    """The picture has one colour, as rounding decides which pixel is read so far away."""
    boxes = torch.tensor([[4, 5, 20, 30], [10, 2, 40, 21]])
    image = (torch.tensor([0.2, 0.4, 1.0]).view(3, 1, 1)).expand(3, 36, 48)
    theta = size * torch.tensor([[[1.0, 0.3, 0.1], [-0.2, 1.0, 0.7]], [[0.3, 1.0, 0.0], [1.0, -0.5, 0.2]]])
    options = {**COMMON, "padding_mode": padding_mode}
    frames = [(theta, {**options, "clip": clip}) for clip in (True, False) if padding_mode in PADDINGS[clip]]
    assert (differences(page, image, boxes, None, frames) > 2).mean() < 1e-3


def test_there_may_be_no_objects(page):
    boxes = torch.zeros(0, 4)
    image, theta, _ = a_scene(boxes=boxes)
    frames = [(theta, COMMON), (theta, {**COMMON, "fill": "surroundings", "matte": "box", "clip": False})]
    assert differences(page, image, boxes, None, frames).max() == 0


def test_what_is_seen_is_that_of_python(page):
    boxes = some_boxes(10, torch.tensor([150.0, 110.0]), 10, 70, seed=5)
    image, theta, masks = a_scene(5, boxes, 110, 150)
    theta[2] = torch.tensor([[1.0, 0.5, 0.1], [2.0, 1.0, -0.3]])  # singular
    boxes[3] = boxes[3, [0, 1, 0, 3]]  # empty
    cases = [
        {"clip": clip, "padding_mode": padding_mode, "matte": matte, "resample": resample, "order": order}
        for clip in PADDINGS
        for padding_mode in PADDINGS[clip]
        for matte in (None, "box", "ellipse", "mask")
        for resample, order in (("bilinear", "area"), ("nearest", "rows"))
    ]
    frames = [(theta.flatten().tolist(), case) for case in cases]
    for case, found in zip(cases, page.evaluate(SHARES, (given_to_page(image, boxes, masks), frames)), strict=True):
        assert np.abs(np.array(found) - seen(boxes, theta, masks, (110, 150), case)).max() < 1e-3, case


def seen(boxes, theta, masks, size, options):
    """The visible share in the order in which objects came."""
    rows, matte = in_order(boxes, options["order"]), options["matte"]
    soft = None if matte in (None, "mask") else kp.soft_mattes(len(boxes), shape=matte)
    alpha = masks[rows] / 255 if matte == "mask" else soft
    given = {"mode": options["resample"], "padding_mode": options["padding_mode"], "clip": options["clip"]}
    share = kp.visible_share(boxes[rows], theta[rows], size=size, alpha=alpha, **given)
    return share[rows.argsort()].numpy()


def test_outlines_and_labels_are_those_of_the_preview(page):
    _, theta, _ = a_scene()
    boxes = BOXES[(BOXES[:, 2:] > BOXES[:, :2]).all(1)]
    theta = theta[: len(boxes)]
    cases = [{"clip": clip, "matte": matte} for clip in PADDINGS for matte in (None, "box", "ellipse")]
    given = {"width": WIDTH, "height": HEIGHT}, boxes.tolist(), theta.flatten(1).tolist(), cases
    quads = kp.move_points(corners_of(boxes), boxes, theta)
    for case, found in zip(cases, page.evaluate(TRACE, given), strict=True):
        outlines, labels = zip(*found, strict=True)
        ranges = Ranges(30.0, (0, 0), (1, 1), 0, "zeros", **case)
        expected = _label_boxes(boxes, quads, ranges, (HEIGHT, WIDTH)).double()
        torch.testing.assert_close(torch.tensor(labels, dtype=torch.double), expected, atol=1e-3, rtol=0)
        for name, points in (("corners", quads), ("ellipse", ellipses_in(quads))):
            moved = torch.tensor([outline[name] for outline in outlines], dtype=torch.double)
            torch.testing.assert_close(moved, points.double(), atol=1e-3, rtol=0)


def test_a_singular_theta_has_no_outline_and_no_label(page):
    given = {"width": WIDTH, "height": HEIGHT}, BOXES[:1].tolist(), [[1, 0.5, 0.1, 2, 1, -0.3]], [{}]
    assert page.evaluate(TRACE, given) == [[[None, None]]]


RANGES = [
    {"degrees": 30.0, "translate": (0.2, 0.1), "scale": (0.8, 1.2), "shear": 10.0},
    {"degrees": (-10.0, 180.0), "scale": (0.5, 0.7, 1.1, 2.0), "shear": (-5.0, 20.0)},
    {"degrees": 0.0, "shear": (-5.0, 20.0, 10.0, 30.0), "translate": (0.0, 1.0)},
]
SEEDS = (0, 1, 7, 2**31, 2**32 - 1, 2**32, 2**40 + 12345, 2**63 - 1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ranges", RANGES)
def test_a_seed_draws_what_it_draws_in_python(page, seed, ranges):
    generator = torch.Generator().manual_seed(seed)
    augment, image = kp.RandomPatchAffine(**ranges, p=1.0, generator=generator), torch.zeros(1, 3, HEIGHT, WIDTH)
    drawn = page.evaluate(DRAW, (str(seed), BOXES.tolist(), ranges, 3))
    for found in drawn:
        augment(image, BOXES)
        expected = augment._params["theta"][0].flatten()
        torch.testing.assert_close(torch.tensor(found), expected, atol=1e-5, rtol=1e-5)


def test_draws_of_the_preview_and_ranges_of_each_object(page):
    common = Ranges(30.0, (0.2, 0.1), (0.8, 1.2), 10.0, "zeros", clip=False, fill="surroundings", matte="box")
    augment, image = common.augmentation(3), torch.zeros(1, 3, HEIGHT, WIDTH)
    augment(image, BOXES)
    found = page.evaluate(DRAW, (3, BOXES.tolist(), common._asdict(), 1))[0]
    torch.testing.assert_close(torch.tensor(found), augment._params["theta"][0].flatten(), atol=1e-5, rtol=1e-5)

    classes = torch.arange(len(BOXES)) % 2
    rows = {"degrees": ((10.0,), (90.0,)), "scale": ((0.5, 1.0), (1.0, 2.0))}
    augment = kp.RandomPatchAffine(**rows, p=1.0, generator=torch.Generator().manual_seed(3))
    augment(image, BOXES, classes=classes)
    each = [{name: rows[name][k] for name in rows} for k in classes.tolist()]
    found = page.evaluate(DRAW, (3, BOXES.tolist(), each, 1))[0]
    torch.testing.assert_close(torch.tensor(found), augment._params["theta"][0].flatten(), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_slider_is_live(page, capsys):
    """512 x 512, 20 objects, as the page begins. What else runs on the machine does not count."""
    boxes = some_boxes(20, torch.tensor([512.0, 512.0]), 40, 140, seed=1).round()
    image, _, _ = a_scene(boxes=boxes, height=512, width=512)
    ranges = {"translate": (0.2, 0.2), "scale": (0.8, 1.2), "shear": 10}
    options = {"clip": False, "fill": "surroundings", "matte": "box", "feather": 0.1}
    page.evaluate(PREPARE, (given_to_page(image, boxes), ranges, options))
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy():
        """Seconds in which the page has computed."""
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")

    for shares in (False, True):
        before = busy()
        seconds = page.evaluate("([frames, shares]) => slide(frames, shares)", (60, shares))
        computed = busy() - before
        what = "frames, each with what is seen" if shares else "frames"
        with capsys.disabled():
            print(f"\n{60 / computed:.0f} {what}, in a second of computing; {60 / seconds:.0f} in one of the clock")
        assert 60 / computed > 30
    session.detach()
