"""The page that draws in the browser: what it shows is what Python paints, and what it gives away paints the same."""

import base64
import io
import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from support.browser import chromium, hear, leave
from torch.nn.functional import interpolate

import kornia_patchaug as kp
from kornia_patchaug.cli import parser_of, ranges_of
from kornia_patchaug.frames import corners_of
from kornia_patchaug.pages import Shown, page, read_replay
from kornia_patchaug.pictures import read_picture
from kornia_patchaug.preview import Picture, Ranges, picture_tensor
from kornia_patchaug.readers import Labelled, UserError, mask_of
from kornia_patchaug.shapes import box_of, shape_of

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[1]
WIDTHS, SCHEMES = (375, 1024, 1920), ("light", "dark")
START = Ranges(15.0, (0.05, 0.05), (0.9, 1.1), 0.0, "zeros", clip=False, fill="surroundings", matte="mask", feather=0.1)
SEED, DRAWS = 3, 4
COMMAND = "kornia-patchaug preview 'my pictures' --deg 4 --degrees 5 --scale 1 2 --no-clip --fill=none --limit 9"
HOSTILE = '</script><img src=x onerror="window.hurt=1">\'"\u2028\\ {{data}} é \U0001f600'


def drawn(name="drawn.png", height=120, width=180, count=5, masks=False, seed=0, labels=("cat", "dog")):
    """A picture of noise that is smooth, and some objects."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(256, (1, 3, height // 10, width // 10), generator=generator) / 255
    image = interpolate(levels, (height, width), mode="bilinear")[0]
    image = (image * 255).round() / 255
    first = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.7
    boxes = torch.cat([first, first + 12 + 30 * torch.rand(count, 2, generator=generator)], dim=1)
    boxes = boxes.minimum(torch.tensor([width, height, width, height])).round(decimals=2)
    found = torch.zeros(count, height, width, dtype=torch.bool)
    for n, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
        found[n, y0 + 2 : y1 - 3, x0 + 4 : x1 - 1] = True
    return Picture(name, image, boxes, tuple(labels[n % len(labels)] for n in range(count)), found if masks else None)


def demo():
    """The pictures that come with the package, and the bytes of their files."""
    told = json.loads((ROOT / "demo_images/boxes.json").read_text())
    names = {each["id"]: each["name"] for each in told["categories"]}
    shown = []
    for entry in told["images"]:
        data = (ROOT / "demo_images" / entry["file_name"]).read_bytes()
        rows = [row for row in told["annotations"] if row["image_id"] == entry["id"]]
        corners = [(x, y, x + w, y + h) for x, y, w, h in (row["bbox"] for row in rows)]
        image = picture_tensor(Image.open(io.BytesIO(data)).convert("RGB"))
        labels = tuple(names[row["category_id"]] for row in rows)
        shown.append(
            Shown(Picture(entry["file_name"], image, torch.tensor(corners).reshape(-1, 4).float(), labels), data)
        )
    return shown


DEMO = demo()
PICTURES = [DEMO[0], Shown(drawn()), Shown(drawn("masked.png", masks=True, seed=1))]
DRAWN, MASKED = 1, 2  # the numbers of the last two


def written(folder, name, *given):
    path = folder / f"{name}.html"
    path.write_text(page(*given), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return written(tmp_path_factory.mktemp("page"), "index", COMMAND, PICTURES, START, SEED, DRAWS)


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def kept(browser):
    """A page for one test after another."""
    return browser.new_context(bypass_csp=True).new_page()


@pytest.fixture
def visit(browser, kept):
    """Open a page; whatever the browser says, and whatever it asks for elsewhere, is an error in the end."""
    opened, complaints = [], []

    def open_page(address, width=1024, scheme="light", guarded=False, touch=False):
        if opened or guarded or touch:
            # Playwright evaluates text, which the page forbids: guarded it is only looked at.
            found = browser.new_context(has_touch=touch, bypass_csp=not guarded).new_page()
        else:
            found = kept
        found.set_viewport_size({"width": width, "height": 900})
        found.emulate_media(color_scheme=scheme)
        own = (address.split("#")[0], "data:", "blob:", "http://served.test/")
        heard = {
            "console": lambda message: complaints.append(message.text),
            "pageerror": lambda error: complaints.append(str(error)),
            "requestfailed": lambda request: complaints.append(f"failed: {request.url[:99]}"),
            "request": lambda request: None if request.url.startswith(own) else complaints.append(request.url),
        }
        hear(found, heard)
        opened.append((found, heard))
        found.goto(address)
        found.locator(".card.drawn").first.wait_for()
        if not guarded:
            settle(found)
        return found

    yield open_page
    for found, heard in opened:
        if found is kept:
            found.context.unroute_all()
            leave(found, heard)
        else:
            found.context.close()
    assert complaints == []


def settle(found):
    """Wait until all is painted that is near the window."""
    found.wait_for_function("Cards.isIdle()")


def put(found, name, value):
    """Set a number as a slider does, or choose a word."""
    control = found.locator(f"#{name}")
    if control.evaluate("element => element.matches('select')"):
        control.select_option(value)
    elif control.evaluate("element => element.type === 'checkbox'"):
        control.set_checked(value)
    else:
        control.fill(str(value))
    settle(found)


def look_at(found, n):
    card = found.locator(".card").nth(n)
    card.scroll_into_view_if_needed()
    found.wait_for_function("card => card.classList.contains('drawn') && Cards.isIdle()", arg=card.element_handle())
    return card


PIXELS = """canvas => {
  const { width, height } = canvas, { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  let text = "";
  for (let k = 0; k < data.length; k += 8192) text += String.fromCharCode(...data.subarray(k, k + 8192));
  return [height, width, btoa(text)];
}"""


def pixels_of(canvas):
    """(H, W, 3)."""
    height, width, text = canvas.evaluate(PIXELS)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def shown_on(found, n):
    return pixels_of(look_at(found, n).locator(".picture"))


def levels_of(image):
    return (image[0].clamp(0, 1) * 255).round().int().permute(1, 2, 0).numpy()


def painted(n, ranges, seed=SEED, draw=1, pictures=PICTURES, **options):
    """What Python paints."""
    picture, augment = pictures[n].picture, ranges.augmentation(seed)
    for _ in range(draw):
        image = augment(picture.image[None], picture.boxes, masks=picture.masks, **options)
    return levels_of(image)


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2


def copied(found, button):
    """What a button copies; no clipboard is needed for that."""
    found.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    button.click()
    return found.evaluate("window.copied")


def run_code(text, n):
    """The names that copied code makes."""
    picture = PICTURES[n].picture
    names = {"image": picture.image[None], "masks": picture.masks}
    exec(compile(text, "copied", "exec"), names)
    return names


# Looks


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_and_fits(visit, address, width, scheme):
    found = visit(address, width, scheme)
    assert found.evaluate("document.documentElement.scrollWidth") == width
    assert found.locator(".card").count() == len(PICTURES)
    for card in found.locator(".card").all():
        assert card.bounding_box()["width"] >= min(300, width - 40)
    ground = found.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) > 127) == (scheme == "light")
    if width == WIDTHS[0]:
        assert not found.locator("#degrees").is_visible()
        found.locator("#drawer").click()
    assert found.locator("#degrees").is_visible()
    found.locator(".card").first.locator(".object").first.click()
    found.locator("#handles .ring").wait_for()
    assert found.evaluate("document.documentElement.scrollWidth") == width


def test_as_it_is_delivered_it_may_fetch_nothing(visit, address):
    found = visit(address, guarded=True)
    assert "default-src 'none'" in found.locator("meta[http-equiv]").get_attribute("content")
    found.locator("#redraw").click()
    found.locator(".card.drawn").first.locator(".object").first.click()
    found.locator("#handles .ring").wait_for()
    found.locator("#close").click()


CONTROLS = "button, input, select, textarea, [tabindex], [role=img]"
NAMELESS = """(controls) => [...document.querySelectorAll(controls)].filter((element) => {
  const by = element.getAttribute("aria-labelledby"), labels = [...(element.labels ?? [])];
  const names = [
    element.getAttribute("aria-label"), by && document.getElementById(by)?.textContent,
    ...labels.map((label) => label.textContent), element.matches("button") && element.textContent,
  ];
  return !element.hidden && !names.some((name) => name && /\\w/.test(name));
}).map((element) => element.outerHTML)"""


def test_every_control_has_a_name(visit, address):
    found = visit(address)
    assert found.evaluate(NAMELESS, CONTROLS) == []
    found.locator(".card").first.locator(".object").first.click()
    found.locator("#handles .ring").wait_for()
    assert found.evaluate(NAMELESS, CONTROLS) == []
    ids = found.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert len(ids) == len(set(ids))


def test_the_pictures_are_reached_by_keyboard(visit, address):
    found = visit(address)
    found.keyboard.press("Tab")
    found.keyboard.press("Enter")
    for _ in range(2):  # over the thetas
        found.keyboard.press("Tab")
    found.keyboard.press("Enter")
    found.locator("#handles .ring").wait_for()
    found.keyboard.press("Escape")
    assert found.evaluate("document.activeElement.className") == "object"


def test_pictures_are_decoded_when_they_come_near(visit, tmp_path):
    many = [Shown(drawn(f"{k}.png", 60, 80, count=3, seed=k)) for k in range(364)]
    found = visit(written(tmp_path, "many", COMMAND, many, START, 0, 1))
    assert found.locator(".card").count() == 364
    assert 0 < found.locator(".card.drawn").count() < 100
    look_at(found, 300)
    assert found.evaluate("document.querySelector('.card canvas').width") == 1  # the first is forgotten
    assert_same(shown_on(found, 300), painted(300, START, 0, pictures=many))


def test_two_hundred_objects_stay_legible(visit, tmp_path):
    crowd = Shown(drawn("crowd.png", 300, 400, count=200, labels=("cat", "dog", "bird")))
    found = visit(written(tmp_path, "crowd", COMMAND, [crowd], START, 0, 1))
    spots = found.evaluate("""() => {
      const context = document.createElement("canvas").getContext("2d");
      const items = Cards.itemsOf(Pictures.all[0], [1, 1], null);
      const tags = Marks.choose(context, items, [400, 300]).filter((spot) => spot !== null);
      return [tags.length, items.map(({ text }) => text)];
    }""")
    assert spots[0] <= 30 and set(spots[1]) == {"1", "2", "3"}
    assert found.locator(".object").count() == 0
    found.locator(".card summary").click()
    found.locator(".object").last.wait_for()
    assert found.locator(".object").count() == 200
    assert found.locator(".card summary").inner_text() == "200 objects: 67 cat, 67 dog, 66 bird"


def test_hostile_names_are_text(visit, tmp_path):
    picture = drawn(f"{HOSTILE}.png", labels=(HOSTILE, f"{HOSTILE} 2"))
    found = visit(
        written(tmp_path, "hostile", f"kornia-patchaug {shlex.quote(HOSTILE)}", [Shown(picture)], START, 0, 2)
    )
    assert found.locator(".card h2").inner_text().replace("\u2028", "") == picture.name.replace("\u2028", "")
    assert found.locator(".object .name").first.text_content() == HOSTILE
    found.locator("#of-class").select_option(index=1)
    put(found, "degrees", 30)
    exec(compile(copied(found, found.locator("#copy-python")), "copied", "exec"), names := {})
    assert names["names"] == [HOSTILE, f"{HOSTILE} 2"]
    replayed = read_replay(found.evaluate("Takeaway.saved(Pictures.all)"))
    assert replayed.pictures[0].name == picture.name
    found.locator(".object").first.click()
    found.locator("#handles .ring").wait_for()
    assert HOSTILE in found.locator("#editor-title").text_content()
    assert found.evaluate("window.hurt === undefined && document.querySelectorAll('img').length === 0")


def test_the_data_hold_nothing_that_ends_a_script():
    text = page(COMMAND, [Shown(drawn(HOSTILE, labels=(HOSTILE,)))], START, 0, 1)
    assert text.count("</script>") == text.count("<script") == 3  # what is given, a picture, the program


# What is painted


def test_pictures_are_those_of_python(visit, tmp_path):
    found = visit(written(tmp_path, "demo", COMMAND, [*DEMO, PICTURES[MASKED]], START, SEED, DRAWS))
    for n in range(len(DEMO)):
        assert_same(shown_on(found, n), painted(n, START._replace(matte="box"), pictures=DEMO))
    assert_same(shown_on(found, len(DEMO)), painted(MASKED, START))


def test_photographs_are_read_as_python_reads_them(visit, tmp_path):
    """One lies on its side, and its profile says that red is green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.open(ROOT / "demo_images/coffee.jpg")
    image.save(buffer := io.BytesIO(), "JPEG", quality=90, icc_profile=swapped, exif=exif)
    (tmp_path / "lying.jpg").write_bytes(buffer.getvalue())
    upright = picture_tensor(read_picture(tmp_path / "lying.jpg"))
    lying = Shown(Picture("lying.jpg", upright, torch.tensor([[40.0, 50, 200, 300]]), ("cup",)), buffer.getvalue())
    other = Shown(drawn(masks=True), b"no JPEG")
    found = visit(written(tmp_path, "lying", COMMAND, [lying, other], START, 0, 1))
    assert "data:image/jpeg" in page(COMMAND, [lying], START, 0, 1)
    assert_same(shown_on(found, 0), painted(0, START._replace(matte="box"), 0, pictures=[lying]))
    assert_same(shown_on(found, 1), painted(1, START, 0, pictures=[lying, other]))


SETTINGS = [
    ({}, {}),
    ({"degrees": 90, "scale-from": 0.5, "scale-to": 1.5}, {"degrees": 90.0, "scale": (0.5, 1.5)}),
    ({"translate-x": 0.5, "translate-y": 0.25, "shear": 30}, {"translate": (0.5, 0.25), "shear": 30.0}),
    ({"fill": "none", "matte": "ellipse", "feather": 0.4}, {"fill": None, "matte": "ellipse", "feather": 0.4}),
    ({"clip": True, "matte": "none"}, {"clip": True, "padding_mode": "image", "matte": None}),
    ({"clip": True, "padding_mode": "reflection"}, {"clip": True, "padding_mode": "reflection"}),
    ({"fill": "grey", "grey": 0.25}, {"fill": 0.25}),
]


@pytest.mark.parametrize(("settings", "changed"), SETTINGS)
def test_what_is_set_is_painted_and_said_as_in_python(visit, address, settings, changed):
    found, ranges, picture = visit(address), START._replace(**changed), PICTURES[MASKED].picture
    for name, value in settings.items():
        put(found, name, value)
    assert_same(shown_on(found, MASKED), painted(MASKED, ranges))

    found.locator("#next").click()
    names = run_code(copied(found, found.locator("#copy-python")), MASKED)
    for _ in range(2):
        image = names["augment"](names["image"], picture.boxes, masks=names["masks"])
    assert_same(shown_on(found, MASKED), levels_of(image))

    _, *words = shlex.split(copied(found, found.locator("#copy-command")))
    args = parser_of("kornia-patchaug").parse_args(words)
    assert ranges_of(args) == ranges
    assert (args.seed, args.draws, args.limit, [str(each) for each in args.images]) == (SEED, DRAWS, 9, ["my pictures"])


@pytest.mark.parametrize(("chosen", "matte"), [((DRAWN,), "box"), ((DRAWN, MASKED), "mask")])
def test_masks_are_chosen_where_a_picture_has_any(visit, tmp_path, chosen, matte):
    pictures = [PICTURES[number] for number in chosen]
    found = visit(written(tmp_path, "own", COMMAND, pictures, START, SEED, DRAWS))
    assert found.locator("#matte").input_value() == matte


def test_objects_are_painted_in_the_order_that_is_set(visit, address):
    found = visit(address)
    put(found, "degrees", 120)
    ranges = START._replace(degrees=120.0, matte="box")
    assert_same(shown_on(found, DRAWN), painted(DRAWN, ranges))
    put(found, "order", "rows")
    assert_same(shown_on(found, DRAWN), painted(DRAWN, ranges, order="rows"))


def test_seeds_and_draws(visit, address):
    found, box = visit(address), START._replace(matte="box")
    assert found.locator("#draw").inner_text() == "draw 1 of 4"
    found.locator("#next").click()
    found.keyboard.press("n")
    assert found.locator("#draw").inner_text() == "draw 3 of 4"
    assert_same(shown_on(found, DRAWN), painted(DRAWN, box, draw=3))
    found.locator("#previous").click()
    assert_same(shown_on(found, DRAWN), painted(DRAWN, box, draw=2))
    found.locator("#seed").fill("9223372036854775807")
    assert found.locator("#draw").inner_text() == "draw 1 of 4"
    assert_same(shown_on(found, DRAWN), painted(DRAWN, box, seed=2**63 - 1))
    found.locator("#redraw").click()
    seed = int(found.locator("#seed").input_value())
    assert seed != 2**63 - 1
    assert_same(shown_on(found, DRAWN), painted(DRAWN, box, seed=seed))


def test_a_slider_is_followed_at_every_step(visit, address):
    found = visit(address)
    slider, before = found.locator("#degrees"), shown_on(found, DRAWN)
    slider.focus()
    found.keyboard.press("ArrowRight")
    assert found.locator("#degrees ~ input").input_value() == "16"
    assert np.abs(shown_on(found, DRAWN) - before).max() > 5
    assert_same(shown_on(found, DRAWN), painted(DRAWN, START._replace(matte="box", degrees=16.0)))


def test_ends_of_a_range_stay_in_order(visit, address):
    found = visit(address)
    put(found, "scale-from", 2)
    assert found.evaluate("State.now.scale") == [2, 2]
    put(found, "scale-to", 0.5)
    assert found.evaluate("State.now.scale") == [0.5, 0.5]


def test_a_class_may_have_its_own_ranges(visit, address):
    found = visit(address)
    found.locator("#of-class").select_option("dog")
    put(found, "degrees", 80)
    assert_same(shown_on(found, DRAWN), levels_of(by_class(found, DRAWN)))
    assert "(its own)" in found.locator("#of-class").inner_text()
    found.locator("#share-ranges").click()
    assert_same(shown_on(found, DRAWN), painted(DRAWN, START._replace(matte="box")))


def by_class(found, n):
    """What the copied Python paints of a picture with its classes."""
    picture = PICTURES[n].picture
    names = run_code(copied(found, found.locator("#copy-python")), n)
    classes = torch.tensor([names["names"].index(label) for label in picture.labels])
    return names["augment"](names["image"], picture.boxes, classes=classes, masks=picture.masks)


def test_classes_can_be_hidden(visit, address):
    found = visit(address)
    card, cats = found.locator(".card").nth(DRAWN), found.locator(".class", has_text="cat")
    look_at(found, DRAWN)
    marks = card.locator(".marks").evaluate("canvas => canvas.toDataURL()")
    cats.click()
    assert cats.get_attribute("aria-pressed") == "false"
    assert card.locator(".object:visible").count() == 2  # of five
    assert card.locator(".marks").evaluate("canvas => canvas.toDataURL()") != marks
    found.locator(".class", has_text="dog").click()
    assert not card.is_visible()
    found.locator("#all-classes").click()
    assert card.is_visible() and card.locator(".object:visible").count() == 5


def test_outlines_labels_and_shares_can_be_hidden(visit, address):
    found = visit(address)
    look_at(found, DRAWN)
    card = found.locator(".card").nth(DRAWN)
    marks, seen = card.locator(".marks"), []
    for key in ("o", "l"):
        seen.append(marks.evaluate("canvas => canvas.toDataURL()"))
        found.keyboard.press(key)
        settle(found)
    seen.append(marks.evaluate("canvas => canvas.toDataURL()"))
    assert len(set(seen)) == 3
    assert not marks.evaluate("c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)")
    assert re.fullmatch(r"\d+%", card.locator(".share").first.text_content())
    found.keyboard.press("v")
    assert card.locator(".share").first.text_content() == ""


def test_visible_shares_are_those_of_python(visit, address):
    found = visit(address)
    look_at(found, DRAWN)
    picture = PICTURES[DRAWN].picture
    augment = START._replace(matte="box").augmentation(SEED)
    augment.flags["min_visible"] = 1e-6
    augment(picture.image[None], picture.boxes)
    told = [float(text[:-1]) / 100 for text in found.locator(".card").nth(DRAWN).locator(".share").all_text_contents()]
    assert np.abs(augment._share_seen(augment._params, augment.flags).numpy() - told).max() < 0.006


def test_the_input_shows_while_a_key_or_the_button_is_held(visit, address):
    found = visit(address)
    moved, given = shown_on(found, DRAWN), levels_of(PICTURES[DRAWN].picture.image[None])
    found.keyboard.down("c")
    assert_same(shown_on(found, DRAWN), given)
    found.keyboard.up("c")
    assert_same(shown_on(found, DRAWN), moved)
    found.locator("#compare").hover()
    found.mouse.down()
    settle(found)
    assert_same(pixels_of(found.locator(".picture").nth(DRAWN)), given)
    found.mouse.up()
    settle(found)
    assert_same(shown_on(found, DRAWN), moved)


# One object


def edit(found, n=DRAWN, row=0):
    look_at(found, n).locator(".object").nth(row).click()
    found.locator("#handles .ring").wait_for()
    found.wait_for_function("document.activeElement.classList.contains('body')")


def theta_of(found, n=DRAWN, row=0):
    values = found.evaluate("([n, row]) => [...State.thetasOf(Pictures.all[n]).slice(6 * row, 6 * row + 6)]", [n, row])
    return torch.tensor(values)


READ = 2 * 0.05 + 1e-4  # how far two readings with a digit after the point are off, and theta in float32


def pose_of(found):
    found.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    inputs = found.locator("#pose input").all()
    return [float(each.input_value()) for each in inputs]


def drag(found, handle, dx, dy):
    box = found.locator(handle).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    found.mouse.move(x, y)
    found.mouse.down()
    found.mouse.move(x + dx / 2, y + dy / 2)
    found.mouse.move(x + dx, y + dy)
    found.mouse.up()


def test_an_object_is_clicked_on_its_picture(visit, address):
    found = visit(address)
    look_at(found, 0)
    stage = found.locator(".stage").first.bounding_box()
    picture = PICTURES[0].picture
    x0, y0, x1, y1 = picture.boxes[0].tolist()
    zoom = stage["width"] / picture.image.shape[2]
    found.mouse.click(stage["x"] + zoom * (x0 + x1) / 2, stage["y"] + zoom * (y0 + y1) / 2)
    found.locator("#handles .ring").wait_for()
    assert found.locator("#editor-title").inner_text() == f"1 {picture.labels[0]}"
    assert_same(pixels_of(found.locator("#after")), painted(0, START._replace(matte="box")))
    found.keyboard.press("Escape")
    assert not found.locator("#editor").is_visible()


def test_a_click_takes_the_object_that_lies_above(visit, tmp_path):
    boxes = torch.tensor([[70.0, 45, 100, 75], [30, 15, 140, 110]])
    shown = [Shown(drawn(count=2)._replace(boxes=boxes))]
    found = visit(written(tmp_path, "above", COMMAND, shown, START._replace(translate=(0.0, 0.0)), 0, 1))
    stage = found.locator(".stage").bounding_box()
    for order, title in (("area", "1 cat"), ("rows", "2 dog")):
        put(found, "order", order)
        found.mouse.click(stage["x"] + stage["width"] * 85 / 180, stage["y"] + stage["height"] * 60 / 120)
        assert found.locator("#editor-title").inner_text() == title
        found.locator("#close").click()


def test_large_pictures_are_small_on_cards_and_whole_in_the_dialog(visit, tmp_path):
    small = drawn(masks=True)
    image = interpolate(small.image[None], scale_factor=8, mode="bilinear")[0]
    masks = interpolate(small.masks[None].float(), scale_factor=8)[0] > 0
    large = [Shown(Picture("large.png", image, small.boxes * 8, small.labels, masks))]
    found = visit(written(tmp_path, "large", COMMAND, large, START, 0, 1))
    card, whole = shown_on(found, 0), painted(0, START, 0, pictures=large)
    height, width, _ = card.shape
    assert height * width < 1.01 * 2**20 and abs(width / height - 1.5) < 0.01
    resized = np.asarray(Image.fromarray(whole.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC))
    assert np.abs(resized - card).mean() < 1
    edit(found, 0)
    assert_same(pixels_of(found.locator("#after")), whole)


def test_a_pinned_object_stays_as_seeds_change(visit, address):
    found = visit(address)
    edit(found)
    found.locator("#pin").check()
    theta = theta_of(found)
    found.locator("#close").click()
    assert found.locator(".object.pinned").count() == 1
    found.locator("#redraw").click()
    assert theta_of(found).equal(theta) and not theta_of(found, row=1).equal(theta)
    found.locator("#unpin").click()
    assert not theta_of(found).equal(theta) and found.locator(".object.pinned").count() == 0


def test_an_object_is_dragged_turned_and_scaled_by_mouse(visit, address):
    found = visit(address)
    edit(found)
    zoom = float(found.locator("#after").get_attribute("data-zoom"))
    degrees, x, y, across, down, _ = pose_of(found)
    drag(found, "#handles .body", 30, -20)
    assert found.locator("#pin").is_checked()
    moved = pose_of(found)
    assert np.allclose(moved[1:3], [x + 30 / zoom, y - 20 / zoom], atol=READ)
    drag(found, "#handles .knob", 40, 30)
    assert pose_of(found)[0] > degrees + 10 and np.allclose(pose_of(found)[1:3], moved[1:3], atol=READ)
    drag(found, "#handles [aria-label=Scale]", 30, 30)
    both = pose_of(found)[3:5]
    assert max(both[0] / across, both[1] / down) > 1.05 or min(both[0] / across, both[1] / down) < 0.95
    # Fields show three digits after the point: half of the last, in the numbers of either ratio.
    off = sum(0.0005 * (1 + after / before) / before for before, after in ((across, both[0]), (down, both[1])))
    assert np.isclose(both[0] / across, both[1] / down, rtol=0, atol=off)
    drag(found, "#handles [aria-label='Scale x']", 15, 10)
    assert pose_of(found)[4] == both[1] and pose_of(found)[3] != both[0]
    theta = torch.cat([theta_of(found, row=row)[None] for row in range(5)])
    picture = PICTURES[DRAWN].picture
    augment = kp.PatchAffine(clip=False, fill="surroundings", matte="box", feather=0.1)
    assert_same(pixels_of(found.locator("#after")), levels_of(augment(picture.image[None], picture.boxes, theta)))


def test_an_object_is_dragged_by_a_finger(visit, address):
    found = visit(address, WIDTHS[0], touch=True)
    edit(found, 0, 4)
    found.locator("#zoom").select_option("4")
    (x, y), slid = pose_of(found)[1:3], found.evaluate("document.querySelectorAll('.pane')[1].scrollLeft")
    box, session = found.locator("#handles .body").bounding_box(), found.context.new_cdp_session(found)
    at = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]

    def touch(kind, *points):
        touches = [{"x": at[0] + dx, "y": at[1] + dy} for dx, dy in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", (0, 0))
    for k in range(5):
        touch("touchMove", (12 * k, -8 * k))
    touch("touchEnd")
    assert np.allclose(pose_of(found)[1:3], [x + 48 / 4, y - 32 / 4], atol=READ)
    assert found.evaluate("document.querySelectorAll('.pane')[1].scrollLeft") == slid
    session.detach()


def test_an_object_is_moved_turned_and_scaled_by_keys_and_fields(visit, address):
    found = visit(address)
    edit(found)
    degrees, x, y, across, down, _ = pose_of(found)
    for key in ("ArrowRight", "Shift+ArrowRight", "ArrowUp"):
        found.keyboard.press(key)
    assert np.allclose(pose_of(found)[1:3], [x + 11, y - 1], atol=READ)
    found.locator("#handles .knob").focus()
    found.keyboard.press("Shift+ArrowRight")
    assert np.isclose(pose_of(found)[0], degrees + 10, atol=READ)
    found.locator("#handles [aria-label=Scale]").focus()
    found.keyboard.press("Shift+ArrowUp")
    assert np.allclose(pose_of(found)[3:5], [1.1 * across, 1.1 * down], atol=0.002)
    for name, value in zip(("angle", "x", "y", "scaleX", "scaleY", "shear"), (30, 5, -4, 1.5, 0.75, 10), strict=True):
        found.locator(f"#pose-{name}").fill(str(value))
    expected = kp.theta_from_components(
        torch.tensor([30.0]), torch.tensor([[1.5, 0.75]]), torch.zeros(1, 2), torch.tensor([[10.0, 0]]),
        boxes=PICTURES[DRAWN].picture.boxes[:1],
    )[0, :, :2]  # fmt: skip
    torch.testing.assert_close(theta_of(found).view(2, 3)[:, :2], expected, atol=1e-4, rtol=0)
    found.locator("#unmoved").click()
    assert theta_of(found).tolist() == [1, 0, 0, 0, 1, 0]


# To take along


def test_copied_thetas_paint_the_picture(visit, address):
    found = visit(address)
    edit(found, MASKED)
    found.keyboard.press("Shift+ArrowRight")
    found.locator("#close").click()
    card = look_at(found, MASKED)
    names = run_code(copied(found, card.get_by_role("button", name="Copy the thetas")), MASKED)
    image = names["augment"](names["image"], names["boxes"], names["theta"], masks=names["masks"])
    assert_same(shown_on(found, MASKED), levels_of(image))


def test_the_saved_draw_is_read_again(visit, address):
    found = visit(address)
    edit(found, MASKED)
    found.keyboard.press("Shift+ArrowRight")
    found.locator("#close").click()
    with found.expect_download() as download:
        found.locator("#save-draw").click()
    replay = read_replay(Path(download.value.path()).read_text())
    assert (replay.seed, replay.draw, len(replay.pictures)) == (SEED, 1, len(PICTURES))
    for n, each in enumerate(replay.pictures):
        picture = PICTURES[n].picture
        assert each.name == picture.name and each.size == picture.image.shape[1:] and each.boxes.equal(picture.boxes)
        image = kp.PatchAffine(**replay.options)(picture.image[None], each.boxes, each.theta, masks=picture.masks)
        assert_same(shown_on(found, n), levels_of(image))


def test_a_replay_is_shown(visit, tmp_path):
    picture = PICTURES[MASKED].picture
    still = torch.ones(5), torch.zeros(5, 2), torch.zeros(5, 2)
    theta = kp.theta_from_components(20.0 * torch.arange(5), *still, boxes=picture.boxes).flatten(1)
    replayed = written(tmp_path, "replay", COMMAND, [Shown(picture, None, theta)], START, SEED, DRAWS)
    augment = kp.PatchAffine(clip=False, fill="surroundings", matte="mask", feather=0.1)
    expected = levels_of(augment(picture.image[None], picture.boxes, theta, masks=picture.masks))
    found = visit(replayed)
    found.locator("#redraw").click()
    assert_same(shown_on(found, 0), expected)
    edit(found, 0)
    found.locator("#pin").uncheck()
    found.locator("#close").click()
    other = visit(copied(found, found.locator("#copy-address")))
    assert other.locator(".object.pinned").count() == 4
    assert np.array_equal(shown_on(other, 0), shown_on(found, 0))
    assert np.abs(shown_on(other, 0) - expected).max() > 2


def test_the_address_restores_what_is_set(visit, address):
    found = visit(address)
    for name, value in {"degrees": 33, "scale-to": 1.7, "matte": "ellipse", "fill": "grey", "order": "rows"}.items():
        put(found, name, value)
    found.locator("#of-class").select_option("dog")
    put(found, "shear", 12)
    put(found, "shares", False)
    found.locator("#next").click()
    edit(found, MASKED)
    found.keyboard.press("ArrowRight")
    found.locator("#close").click()
    other = visit(copied(found, found.locator("#copy-address")))
    for n in (DRAWN, MASKED):
        assert np.array_equal(shown_on(other, n), shown_on(found, n))
    assert other.locator(".object.pinned").count() == 1
    assert not other.locator("#shares").is_checked() and other.locator("#order").input_value() == "rows"


BAD_ADDRESSES = [
    "degrees=NaN&draw=99&seed=-1&clip=maybe",
    "own=[1]&own=%7B&pin=0.0&pin=99 0 1 0 0 0 1 0&pin=1 9 1 0 0 0 1 0&pin=1 0 1 0 0 0 1 x",
    "scale=2,1&translate=1&shear=&matte=star&order=&fill=1e999",
    "%",
]


def test_an_address_that_makes_no_sense_is_ignored(visit, address):
    found = visit(address)
    for text in BAD_ADDRESSES:
        found.evaluate("text => { location.hash = text; }", text)
        assert_same(shown_on(found, DRAWN), painted(DRAWN, START._replace(matte="box")))
    found.evaluate("() => { location.hash = 'degrees=77'; }")  # which is followed
    found.wait_for_function("document.getElementById('degrees').value === '77'")


def test_a_number_that_is_being_typed_changes_no_other(visit, address):
    """0.95 begins with 0, which is below the other end of the range; what is left at the end counts."""
    found = visit(address)
    field = found.get_by_label("scale to, exactly")
    field.fill("")
    field.press_sequentially("0.95")
    assert found.get_by_label("scale from, exactly").input_value() == "0.9"
    assert found.evaluate("State.now.scale") == [0.9, 0.95]
    field.fill("0.5")
    assert found.evaluate("State.now.scale") == [0.9, 0.95]
    field.press("Enter")
    assert found.evaluate("State.now.scale") == [0.5, 0.5]


def test_the_object_that_is_pointed_at_stands_out(visit, address):
    """With the others dimmed, by the pointer and by keyboard."""
    found = visit(address)
    card = look_at(found, DRAWN)

    def seen():
        with Image.open(io.BytesIO(card.locator(".stage").screenshot())) as shot:
            return np.asarray(shot.convert("RGB")).astype(int)

    plain = seen()
    card.locator(".object").nth(2).hover()
    pointed = seen()
    assert pointed.mean() < 0.8 * plain.mean()
    found.mouse.move(1, 1)
    assert np.array_equal(seen(), plain)
    card.locator(".object").nth(2).focus()
    assert np.array_equal(seen(), pointed)


def test_tags_of_ellipses_are_on_them(visit, address):
    """Towards the corners of the moved boxes, as on sheets."""
    found = visit(address)
    put(found, "matte", "ellipse")
    theta = found.evaluate(f"[...State.thetasOf(Pictures.all[{DRAWN}])]")
    items = found.evaluate(
        f"Cards.itemsOf(Pictures.all[{DRAWN}], [1, 1], State.thetasOf(Pictures.all[{DRAWN}])).map((it) => it.corners)"
    )
    boxes = PICTURES[DRAWN].picture.boxes
    quads = kp.move_points(corners_of(boxes), boxes, torch.tensor(theta).view(-1, 6))
    middle = quads.mean(1, keepdim=True)
    assert torch.allclose(torch.tensor(items), middle + (quads - middle) / 2**0.5, atol=1e-3)


def test_tags_keep_clear_of_each_other(visit, address):
    """Of three objects in one place each has a spot of its own, the first its first corner."""
    spots = visit(address).evaluate("""() => {
      const context = document.createElement("canvas").getContext("2d");
      const corners = [[40, 40], [90, 40], [90, 80], [40, 80]];
      const items = ["1", "2", "3"].map((text) => ({ text, corners }));
      return Marks.choose(context, items, [180, 120]);
    }""")
    assert spots[0] == 0 and len(set(spots)) == 3


def test_the_next_object_is_one_that_is_shown(visit, address):
    found = visit(address)
    found.locator(".class", has_text="dog").click()
    edit(found)
    assert found.locator("#editor-title").inner_text() == "1 cat"
    for title in ("3 cat", "5 cat", "1 cat"):
        found.locator("#object-next").click()
        assert found.locator("#editor-title").inner_text() == title


def test_a_large_picture_follows_a_hand_and_is_then_painted_whole(visit, tmp_path):
    """More than 4 million pixels: of fewer at once, of all when the hand rests."""
    large = drawn("large.png", height=2100, width=2200, count=3)
    picture = large._replace(boxes=large.boxes * 0.2 + 100)
    found = visit(written(tmp_path, "large", COMMAND, [Shown(picture)], START._replace(fill=0.5), SEED, DRAWS))
    edit(found, 0)
    found.evaluate("""() => {
      const after = document.getElementById("after").getContext("2d"), seen = (window.seen = []);
      const sizes = { drawImage: ({ width, height }) => width * height, putImageData: () => "all" };
      for (const [name, size] of Object.entries(sizes)) {
        const draw = after[name].bind(after);
        after[name] = (...given) => { seen.push(size(...given)); draw(...given); };
      }
    }""")
    found.keyboard.press("ArrowRight")
    found.wait_for_function("seen.at(-1) === 'all'")
    first, *_, last = found.evaluate("seen")
    assert 1 << 19 < first <= 1 << 20 and last == "all"
    theta = theta_of(found, 0, 0)
    augment = kp.PatchAffine(clip=False, fill=0.5, matte="box", feather=0.1)
    thetas = torch.tensor(found.evaluate("[...State.thetasOf(Pictures.all[0])]")).view(-1, 6)
    assert torch.allclose(thetas[0], theta)
    expected = levels_of(augment(picture.image[None], picture.boxes, thetas))
    assert_same(pixels_of(found.locator("#after")), expected)


# Own files


def as_file(name, data):
    data = data if isinstance(data, bytes) else data.encode()
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def png(picture=PICTURES[DRAWN].picture):
    Image.fromarray(levels_of(picture.image[None]).astype(np.uint8)).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def coco(rows, **entry):
    named = [{"id": 7, "name": "cat"}]
    return json.dumps(
        {"images": [{"id": 1, "file_name": "x/own.png", **entry}], "annotations": rows, "categories": named}
    )


VOC = """<annotation><size><width>180</width><height>120</height></size>{}</annotation>"""
VOC_OBJECT = (
    "<object><name>cat</name><bndbox><xmin>21</xmin><ymin>11</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object>"
)
BOX = [20.0, 10.0, 60.0, 50.0]
FORMS = {
    "coco": [as_file("labels.json", coco([{"image_id": 1, "category_id": 7, "bbox": [20, 10, 40, 40]}]))],
    "yolo": [as_file("own.txt", f"0 {40 / 180} {30 / 120} {40 / 180} {40 / 120}\n"), as_file("classes.txt", "cat\n")],
    "yaml": [
        as_file("own.txt", f"1 {40 / 180} {30 / 120} {40 / 180} {40 / 120}\n"),
        as_file("data.yaml", "names:\n  0: dog\n  1: 'cat'  # of the house\nnc: 2\n"),
    ],
    "list": [
        as_file("own.txt", f"1 {40 / 180} {30 / 120} {40 / 180} {40 / 120} 0.5 0.5 0.25 9\n"),
        as_file("data.yaml", "kpt_shape: [2, 2]\nnames: [dog, cat]\n"),
    ],
    "voc": [as_file("own.xml", VOC.format(VOC_OBJECT))],
}


@pytest.mark.parametrize("form", FORMS)
def test_own_pictures_with_labels_of_each_form(visit, address, form):
    found = visit(address)
    found.locator("#files").set_input_files([as_file("own.png", png()), *FORMS[form]])
    found.locator("#log", has_text="Added own.png").wait_for()
    card = look_at(found, 0)
    assert card.locator("h2").inner_text() == "own.png"
    assert card.locator(".object .name").all_text_contents() == ["cat"]
    box = found.evaluate("Pictures.all.at(-1).boxes[0]")
    assert np.allclose(box, BOX, atol=1e-4)
    own = [Shown(PICTURES[DRAWN].picture._replace(boxes=torch.tensor([BOX]), labels=("cat",)))]
    assert_same(shown_on(found, 0), painted(0, START._replace(matte="box"), pictures=own))


def test_own_polygons_and_run_lengths_are_masks(visit, address):
    found = visit(address)
    picture = PICTURES[MASKED].picture
    told = found.evaluate(f"Pictures.given.pictures[{MASKED}].shapes[0]")
    triangle = [20.5, 10.25, 60, 12, 33, 50]
    rows = [
        {"image_id": 1, "category_id": 7, "segmentation": told, "bbox": None},
        {"image_id": 1, "segmentation": [triangle], "bbox": [20, 10, 40, 40]},
        {"image_id": 1, "bbox": [100.5, 60, 30, 40]},
        {"image_id": 1, "bbox": [0, 0, 99, 99], "iscrowd": 1},
    ]
    files = [as_file("own.png", png(picture)), as_file("labels.json", coco(rows))]
    found.locator("#files").set_input_files(files)
    found.locator("#log", has_text="Added own.png").wait_for()
    shapes = [shape_of(told), shape_of([triangle]), None]
    boxes = [box_of(picture.masks[0].numpy()), (20.0, 10.0, 60.0, 50.0), (100.5, 60.0, 130.5, 100.0)]
    masks = [mask_of(Labelled(box, "", shape), (120, 180)) for box, shape in zip(boxes, shapes, strict=True)]
    own = picture._replace(boxes=torch.tensor(boxes), masks=torch.from_numpy(np.stack(masks)), labels=("cat", "", ""))
    assert look_at(found, 0).locator(".object .name").all_text_contents() == ["cat", "object", "object"]
    assert_same(shown_on(found, 0), painted(0, START, pictures=[Shown(own)]))


def with_rows(*rows):
    return [as_file("own.json", coco([{"image_id": 1, **row} for row in rows]))]


BAD_FILES = [
    ([as_file("own.json", "{")], "own.json: not JSON"),
    ([as_file("own.json", "[]")], "own.json: not COCO JSON"),
    ([as_file("own.json", coco([], width=7))], "own.png: the picture's upright width is 180, but the JSON says 7"),
    ([as_file("own.txt", ""), as_file("data.yaml", "names")], "data.yaml: no names of classes"),
    (with_rows({}), "own.json, object 1: left out: no bbox x y w h"),
    (with_rows({"bbox": [1, 2, "a", 3]}), "object 1: left out: a bbox of which something is no number"),
    (with_rows({"bbox": [500, 0, 9, 9]}), "object 1: left out: a box beside its picture"),
    (with_rows({"bbox": [5, 5, 9, 9]}, {"bbox": [5, 5, 0, 9]}), "object 2: left out: a box without area"),
    (with_rows({"bbox": [5, 5, 9, 900]}), "object 1: a box that sticks out, cut to the picture"),
    (
        with_rows({"bbox": [5, 5, 9, 9], "segmentation": {"size": [1, 1], "counts": "~"}}),
        "object 1: shape left out: run lengths that do not fit their size",
    ),
    ([as_file("own.txt", "0 0.5 0.5 0.1")], "own.txt, object 1: left out: 4 numbers, where a box has 5"),
    ([as_file("own.txt", "0 0x1 0.5 0.1 0.1")], "own.txt, object 1: left out: a line of which something is no number"),
    ([as_file("own.txt", "a 0.5 0.5 0.1 0.1")], "own.txt, object 1: left out: a line of which something is no number"),
    ([as_file("own.txt", "0 50 50 10 10")], "own.txt, object 1: left out: numbers that are no shares of the picture"),
    ([as_file("own.xml", "<annotation>")], "own.xml: labels that are not XML"),
    ([as_file("own.xml", "<svg/>")], "own.xml: labels that are not Pascal VOC XML, but svg"),
    ([as_file("own.xml", VOC.format("<object/>"))], "object 1: left out: a bndbox of which something is no number"),
    ([as_file("other.txt", "")], "own.png: no labels among these files"),
    ([as_file("own.docx", "")], "own.docx: neither a picture nor labels"),
]


def test_files_that_are_no_use_end_in_a_line_of_text(visit, address):
    found = visit(address)
    for files, line in BAD_FILES:
        found.locator("#files").set_input_files([as_file("own.png", png()), *files])
        found.locator("#log li", has_text=line).first.wait_for(timeout=3000)
    found.locator("#files").set_input_files([as_file("own.png", b"no picture"), *FORMS["voc"]])
    found.locator("#log li", has_text="own.png: not a picture that can be read").wait_for()
    found.locator("#files").set_input_files(FORMS["voc"])
    found.locator("#log li", has_text="No picture among these files").wait_for()


def test_files_can_be_dropped(visit, address):
    found = visit(address)
    found.evaluate(
        """([picture, labels]) => {
          const carried = new DataTransfer();
          const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
          carried.items.add(new File([bytes], "own.png"));
          carried.items.add(new File([labels], "own.xml"));
          for (const type of ["dragenter", "dragover", "drop"]) {
            const options = { dataTransfer: carried, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent(type, options));
          }
        }""",
        [base64.b64encode(png()).decode(), VOC.format(VOC_OBJECT)],
    )
    found.locator("#log", has_text="Added own.png").wait_for()


def two_splits(folder):
    """A set of YOLO in which names of pictures are told apart by their folders alone, and things that are no labels."""
    for split, x in (("train", 40), ("val", 80)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        (folder / f"images/{split}/own.png").write_bytes(png())
        (folder / f"labels/{split}/own.txt").write_text(f"0 {x / 180} {30 / 120} {40 / 180} {40 / 120}\n")
    (folder / "data.yaml").write_text("names: [cat]\n")
    (folder / ".hidden.png").write_bytes(b"no picture")
    (folder / "README.md").write_text("")
    return folder


def choose(found, folder):
    found.locator("#folder").set_input_files(folder)


def drop_in_another_browser(found, folder):
    """One that has no handles of files, and lets a page that is served read what is dropped."""
    path = Path(unquote(urlsplit(found.url).path))
    found.context.route("http://served.test/", lambda route: route.fulfill(path=path, content_type="text/html"))
    found.goto("http://served.test/")
    found.evaluate("() => { delete DataTransferItem.prototype.getAsFileSystemHandle; }")
    drop(found, folder)


def drop(found, *paths):
    """As the browser does it."""
    session = found.context.new_cdp_session(found)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": data})


@pytest.mark.parametrize("give", [choose, drop, drop_in_another_browser])
def test_a_folder_of_pictures_and_labels(visit, address, tmp_path, give):
    found = visit(address)
    give(found, two_splits(tmp_path / "set"))
    found.locator("#log", has_text="Added own.png, own.png").wait_for()
    boxes = found.evaluate("Pictures.all.slice(-2).map(({boxes}) => boxes[0])")
    assert np.allclose(sorted(boxes), [[20, 10, 60, 50], [60, 10, 100, 50]], atol=1e-4)
    assert found.locator("#log li").all_text_contents()[:-1] == ["README.md: neither a picture nor labels"]
    assert found.locator(".object .name").all_text_contents()[:2] == ["cat", "cat"]


def test_a_picture_is_known_by_the_end_of_its_path(visit, address, tmp_path):
    """In files of lists too: by the folders of file_name, and by which file knows it."""
    for split, x in (("train", 20), ("val", 60)):
        (tmp_path / "set" / split).mkdir(parents=True)
        (tmp_path / f"set/{split}/own.png").write_bytes(png())
        told = [{"id": k, "file_name": f"{name}/own.png"} for k, name in enumerate(("train", "val"))]
        rows = [{"image_id": k, "bbox": [x, 10, 40, 40]} for k, x in enumerate((20, 60))]
        (tmp_path / "set/all.json").write_text(json.dumps({"images": told, "annotations": rows}))
    (tmp_path / "set/other.json").write_text(coco([], file_name="other.png"))
    found = visit(address)
    drop(found, tmp_path / "set")
    found.locator("#log", has_text="Added own.png, own.png").wait_for()
    boxes = found.evaluate("Pictures.all.slice(-2).map(({boxes}) => boxes[0])")
    assert sorted(boxes) == [[20, 10, 60, 50], [60, 10, 100, 50]]

    (tmp_path / "set/same.json").write_bytes((tmp_path / "set/all.json").read_bytes())
    drop(found, tmp_path / "set")
    found.locator("#log li", has_text="own.png: more than one label file that fits").first.wait_for()


def test_a_saved_draw_can_be_dropped(visit, address, tmp_path):
    found = visit(address)
    for name, value in {"degrees": 90, "matte": "ellipse", "fill": "grey", "clip": True, "order": "rows"}.items():
        put(found, name, value)
    found.locator("#next").click()
    with found.expect_download() as download:
        found.locator("#save-draw").click()
    download.value.save_as(tmp_path / "draw.json")
    other = visit(address)
    drop(other, tmp_path / "draw.json")
    other.locator("#log li", has_text="draw.json: 3 of 3 pictures of this draw are here").wait_for()
    assert other.locator("#unpin").inner_text() == f"Unpin {sum(len(each.picture.boxes) for each in PICTURES)} objects"
    assert other.locator("#degrees").input_value() == "90"
    for n in (DRAWN, MASKED):
        assert np.array_equal(shown_on(other, n), shown_on(found, n))
    assert other.locator("#draw").inner_text() == "draw 2 of 4"

    alone = visit(written(tmp_path, "alone", COMMAND, [PICTURES[DRAWN]], START, SEED, DRAWS))
    drop(alone, tmp_path / "draw.json")
    alone.locator("#log li", has_text="draw.json: 1 of 3 pictures").wait_for()
    told = json.loads((tmp_path / "draw.json").read_text())
    told["pictures"][DRAWN]["boxes"][0][0] += 0.01
    (tmp_path / "draw.json").write_text(json.dumps(told))
    drop(alone, tmp_path / "draw.json")
    alone.locator("#log li", has_text="draw.json: 0 of 3 pictures").wait_for()
    assert_same(shown_on(alone, 0), shown_on(found, DRAWN).astype(float))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"options": {}, "pictures": []}', "a draw of version undefined, which this page cannot read"),
        ('{"version": 1, "seed": -1, "options": {}, "pictures": []}', "a draw whose seed is none"),
        ('{"version": 1, "seed": "1", "options": {"clip": 1}, "pictures": []}', "a draw whose padding_mode is none"),
        ("own boxes", "a draw without boxes and thetas"),
    ],
)
def test_a_draw_that_makes_no_sense_changes_nothing(visit, address, text, line):
    if text == "own boxes":
        text = json.dumps({**SAVED, "pictures": [{**ONE, "thetas": [[1, 0, 0]]}]})
    found = visit(address)
    before = shown_on(found, DRAWN)
    found.locator("#files").set_input_files([as_file("draw.json", text)])
    found.locator("#log li", has_text=line).wait_for()
    assert np.array_equal(shown_on(found, DRAWN), before)


# Replays

OPTIONS = {
    "padding_mode": "zeros",
    "clip": False,
    "fill": "surroundings",
    "matte": "mask",
    "feather": 0.1,
    "order": "area",
}
ONE = {"name": "a.png", "width": 9, "height": 7, "boxes": [[1, 2, 3, 4.5]], "thetas": [[1, 0, 0, 0, 1, 0]]}
RANGES = {"degrees": 15, "translate": [0.05, 0.05], "scale": [0.9, 1.1], "shear": 0}
SAVED = {"version": 1, "seed": "3", "draw": 2, "options": OPTIONS, "ranges": RANGES, "pictures": [ONE]}


def test_a_replay_is_read():
    found = read_replay(json.dumps(SAVED))
    assert (found.seed, found.draw, found.options) == (3, 2, OPTIONS)
    assert found.ranges == {"degrees": 15, "translate": (0.05, 0.05), "scale": (0.9, 1.1), "shear": 0}
    (each,) = found.pictures
    assert (each.name, each.size) == ("a.png", (7, 9))
    assert each.boxes.tolist() == [[1, 2, 3, 4.5]] and each.theta.tolist() == [[1, 0, 0, 0, 1, 0]]
    assert read_replay(json.dumps({**SAVED, "pictures": [{**ONE, "boxes": [], "thetas": []}]})).pictures[
        0
    ].theta.shape == (0, 6)


def of_one(**changes):
    return json.dumps({**SAVED, "pictures": [{**ONE, **changes}]})


def with_options(**changes):
    return json.dumps({**SAVED, "options": {**OPTIONS, **changes}})


BAD_REPLAYS = [
    ("{", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("[]", "a draw: expected an object with version, seed, draw, options, ranges, pictures"),
    (json.dumps({**SAVED, "version": 2}), "version: expected 1, got 2"),
    (json.dumps({**SAVED, "version": True}), "version: expected 1, got true"),
    (json.dumps({**SAVED, "seed": 3}), "seed: expected"),
    (json.dumps({**SAVED, "seed": str(2**63)}), "seed: expected"),
    (json.dumps({**SAVED, "ranges": {**RANGES, "degrees": "9"}}), "ranges: degrees: expected a number"),
    (json.dumps({**SAVED, "ranges": {**RANGES, "shear": 90}}), "ranges: shear: expected 0 to 89"),
    (json.dumps({**SAVED, "ranges": {**RANGES, "translate": [1]}}), "ranges: translate: expected two numbers"),
    (json.dumps({**SAVED, "ranges": {**RANGES, "scale": [2, 1]}}), "ranges: scale: expected 0.01 to 100, the lower"),
    (json.dumps({**SAVED, "draw": 0}), "draw: expected a whole number from 1 on"),
    (json.dumps({**SAVED, "draw": 1.5}), "draw: expected a whole number from 1 on"),
    (json.dumps({**SAVED, "pictures": {}}), "pictures: expected a list"),
    (json.dumps({**SAVED, "more": 1}), "a draw: expected an object"),
    (with_options(p=0.5), "options: expected an object with padding_mode, clip, fill, matte, feather, order"),
    (with_options(padding_mode="reflection"), "options: padding_mode (with clip=False): expected"),
    (with_options(matte="star"), "options: matte: expected"),
    (with_options(feather=2), "options: feather: expected"),
    (with_options(clip=0), "options: expected numbers, words, and true or false for clip"),
    (with_options(fill=[1]), "options: fill: expected"),
    (with_options(fill="grass"), "options: fill: expected"),
    (of_one(name=3), "pictures[0]: name: expected text"),
    (of_one(width="9"), "pictures[0]: width: expected a whole number"),
    (of_one(height=True), "pictures[0]: height: expected a whole number"),
    (of_one(boxes=[[1, 2, 3]]), "pictures[0]: boxes[0]: expected 4 finite numbers"),
    (of_one(boxes=[[1, 2, 3, float("nan")]]), "pictures[0]: boxes[0]: expected 4 finite numbers"),
    (of_one(thetas=[[1, 0, 0, 0, 1, 1e39]]), "pictures[0]: thetas[0]: expected 6 finite numbers"),
    (of_one(thetas=[[1, 0, 0, 0, 1, 10**400]]), "pictures[0]: thetas[0]: expected 6 finite numbers"),
    (of_one(thetas=[[1, 0, 0, 0, 1, True]]), "pictures[0]: thetas[0]: expected 6 finite numbers"),
    (of_one(thetas=[]), "pictures[0]: expected as many thetas as boxes, got 0 and 1"),
    (of_one(thetas=None), "pictures[0]: thetas: expected a list"),
]


@pytest.mark.parametrize(("text", "message"), BAD_REPLAYS)
def test_what_is_no_replay_is_refused_in_a_line(text, message):
    with pytest.raises(UserError) as error:
        read_replay(text)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_the_page_sets_is_taken_out_of_the_command():
    text = page("kornia-patchaug preview --seed 1 --fill=0.5 a 'b c' --scale 1 2 --no-clip -- -d", [], START, 0, 1)
    around = json.loads(re.search(r'id="given">(.*?)</script>', text)[1])["around"]
    assert around == ["kornia-patchaug preview a 'b c'", "-- -d"]
