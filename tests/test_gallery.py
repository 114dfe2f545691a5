"""The gallery: remaking it gives the committed pictures, and it shows every public name and option, once."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kornia_patchaug as kp
from gallery.__main__ import encode
from gallery.hook import on_page_markdown
from gallery.marks import dimensions
from gallery.pages import pages, remade
from gallery.strips import make_strip, run
from gallery.table import SECTIONS
from kornia_patchaug.augmentation import ORDERS
from kornia_patchaug.boxes import FORMATS
from kornia_patchaug.functional import PADDINGS, STEP_PADDINGS
from kornia_patchaug.theta import OUTLINES

pytestmark = pytest.mark.pinned

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/gallery"
ROWS = [(section, row) for section in SECTIONS for row in section.rows]
SLUGS = [row.slug for _, row in ROWS]


def difference(section, row, file):
    """Of 255 levels: the mean, and the share of values that are off by more than 16, from a committed picture.

    Both went through the encoder, so that its loss is in both. Another version of Pillow, of the JPEG library or of the
    font's renderer, or kernels that round otherwise, change a level here and there, and more along the edges of
    letters: hence a mean, and a share. On the machine that made the pictures both are 0.
    """
    remade = np.asarray(Image.open(io.BytesIO(encode(make_strip(section, row), section.suffix)))).astype(int)
    committed = np.asarray(Image.open(PICTURES / file).convert("RGB")).astype(int)
    assert remade.shape == committed.shape
    off = np.abs(remade - committed)
    return off.mean(), (off > 16).mean()


def close(mean, share):
    return mean < 0.5 and share < 0.002


@pytest.mark.parametrize(("section", "row"), ROWS, ids=SLUGS)
def test_remaking_gives_the_committed_picture(section, row):
    mean, share = difference(section, row, section.file(row))
    assert close(mean, share), f"mean {mean:.3f}, share {share:.5f}. Run make gallery, and look at what changed."


CHANGES = [  # of the row of that slug: what is replaced in its code, and by what
    ("RandomPatchAffine", "seed", 2),
    ("RandomPatchAffine", "arguments", 'degrees=26, translate=(0.1, 0.1), scale=(0.8, 1.1), p=1, padding_mode="image"'),
    ("affine_patches-padding_mode-border", "arguments", 'images, boxes, theta, padding_mode="reflection"'),
    ("affine_patches-align_corners-False", "arguments", "images, boxes, theta, align_corners=True"),
    ("affine_patches-clip-False", "arguments", 'images, boxes, theta, padding_mode="transparent", clip=True'),
    ("convert_boxes-xyxy_plus", "arguments", 'given, "xyxy", "xyxy"'),
    (
        "theta_from_lie",
        "setup",
        "\nimages, boxes = load('coffee.jpg', 2, crop=(150, 0, 430, 325))\nparams = torch.zeros(1, 6)",
    ),
]


@pytest.mark.parametrize(("slug", "field", "value"), CHANGES, ids=[f"{slug}-{field}" for slug, field, _ in CHANGES])
def test_the_comparison_notices_another_seed_or_argument(slug, field, value):
    section, row = ROWS[SLUGS.index(slug)]
    assert not close(*difference(section, row._replace(**{field: value}), section.file(row)))


def test_no_picture_lies_there_that_no_row_makes():
    files = [section.file(row) for section, row in ROWS]
    assert sorted(path.name for path in PICTURES.iterdir()) == sorted(files)
    assert len(set(map(str.lower, SLUGS))) == len(SLUGS)
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 5_000_000


def test_every_public_name_is_in_the_gallery_and_on_the_api_page():
    """No more and no less; and each has a strip of its own, whose anchor is its name."""
    on_page = re.findall(r"^<!-- ::: kornia_patchaug\.(\w+)", (ROOT / "docs/api.md").read_text("utf-8"), flags=re.M)
    assert sorted(on_page) == sorted(kp.__all__)
    assert sorted({row.name for _, row in ROWS}) == sorted(kp.__all__)
    assert set(kp.__all__) <= set(SLUGS)


FLAGS = {"affine_patches": ("align_corners", "sequential", "clip"), "transplant_patches": ("clip",)}
OPTIONS = [
    *(("affine_patches", f'padding_mode="{mode}"') for mode in PADDINGS),
    *(("paste_patches", f'padding_mode="{mode}"') for mode in STEP_PADDINGS),
    *((name, f"{flag}={value}") for name, flags in FLAGS.items() for flag in flags for value in (False, True)),
    *(("affine_patches", f"fill={fill}") for fill in ("0.6", "(0.8, 0.4, 0.2)", "background", '"surroundings"')),
    *(("affine_patches", f"grow={grow}") for grow in ("0.0", "0.3")),
    *(("paste_patches", option) for option in ("theta=theta", "patch_index=index", "clip=False")),
    *(("PatchAffine", f'matte="{matte}"') for matte in OUTLINES),
    *(("PatchAffine", f'order="{order}"') for order in ORDERS),
    *(("PatchAffine", option) for option in ("feather=0.8", "min_visible=0.8")),
    *(("RandomPatchAffine", option) for option in ("clip=False", 'fill="surroundings"')),
    ("move_boxes", 'outline="ellipse"'),
    *(("RandomPatchPaste", option) for option in ("donors=bank", "place=density")),
    ("PatchAugmentationSequential", "instance_masks=True"),
    *(("convert_boxes", form) for form in FORMATS),
]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_has_a_strip_that_uses_it(name, option):
    (row,) = [row for _, row in ROWS if (row.name, row.option) == (name, option)]
    assert (f'"{option}"' if option in FORMATS else option) in row.arguments


ALPHAS = [("a number per object", (4,)), ("a matte", (2, 1, 64, 64)), ("masks", (1, 390, 225))]


@pytest.mark.parametrize(("kind", "shape"), ALPHAS, ids=[kind for kind, _ in ALPHAS])
def test_there_is_a_strip_of_each_kind_of_alpha(kind, shape):
    (found,) = [pair for pair in ROWS if pair[1].option == f"alpha, {kind}"]
    assert run(*found)["alpha"].shape == shape


@pytest.mark.parametrize("name", ["api.md", "gallery.md", "how-it-works.md", "overlap.md", "performance.md"])
def test_what_stands_between_marks_is_what_is_made(name):
    made = pages()
    assert name in made
    assert (ROOT / "docs" / name).read_text("utf-8") == made[name], "Run make gallery ARGS=pages."


def test_the_comparison_of_pages_notices_an_edit_and_leaves_other_text_alone():
    page = (ROOT / "docs/api.md").read_text("utf-8")
    assert remade(page.replace("**Raises**", "**Throws**")) == page
    assert remade(page.replace("# API\n", "# Interface\n")) == page.replace("# API\n", "# Interface\n")


def test_an_entry_has_the_signature_the_text_and_the_methods_that_the_page_asks_for():
    page = (ROOT / "docs/api.md").read_text("utf-8")
    entry = page.split("### invert_theta\n")[1].split("<!-- end -->")[0]
    assert "```py\ninvert_theta(theta: Tensor) -> Tensor\n```" in entry
    assert kp.invert_theta.__doc__.splitlines()[0] in entry and "\n- `theta`: ``" in entry
    assert "```pycon\n>>> " in entry
    methods = ["PatchAffine.forward", "PatchAffine.bind"]
    methods += [f"{name}.forward" for name in ("DetectionSequential", "RandomPatchPaste", "PatchwiseApply")]
    assert re.findall(r"^#### (.*)$", page, flags=re.M) == methods


def test_the_page_shows_every_strip_once_under_its_anchor_with_its_code():
    page = (ROOT / "docs/gallery.md").read_text("utf-8")
    shown = on_page_markdown(page, page=None, config=None, files=None)
    for section, row in ROWS:
        with Image.open(PICTURES / section.file(row)) as strip:
            width, height = strip.size
        picture = f"![{row.alt}](gallery/{section.file(row)})"
        assert page.count(f'<a id="{row.slug}"></a>\n') == page.count(picture) == 1
        assert shown.count(f"{{ #{row.slug} }}\n") == shown.count(f'{picture}{{ width="{width}" height="{height}"') == 1
        assert f"```python\n{row.code}\n```" in shown
    assert on_page_markdown("# Another", page=None, config=None, files=None) == "# Another"


def test_on_the_site_entries_are_left_to_mkdocstrings():
    shown = on_page_markdown((ROOT / "docs/api.md").read_text("utf-8"), page=None, config=None, files=None)
    assert sorted(re.findall(r"^::: kornia_patchaug\.(\w+)$", shown, flags=re.M)) == sorted(kp.__all__)
    assert "```" not in shown and "members: [forward, bind]" in shown


ENDS = {  # where the arrow of each of the four numbers starts and stops: the box goes from 9 to 21 and from 7 to 17
    "xyxy": [(0, 9), (0, 7), (0, 21), (0, 17)],
    "xyxy_plus": [(0, 9), (0, 7), (0, 20), (0, 16)],
    "pascal_voc": [(0, 10), (0, 8), (0, 21), (0, 17)],
    "xywh": [(0, 9), (0, 7), (9, 21), (7, 17)],
    "cxcywh": [(0, 15), (0, 12), (9, 21), (7, 17)],
}


@pytest.mark.parametrize("mode", FORMATS)
def test_arrows_measure_what_the_numbers_say(mode):
    """Computed by hand; shares of the image measure the same pixels."""
    scope = run(*ROWS[SLUGS.index(f"convert_boxes-{mode}")])
    arrows = dimensions(scope["given"][0], mode, (20, 30))
    assert [arrow.axis for arrow in arrows] == [0, 1, 0, 1]
    assert np.allclose([(arrow.start, arrow.stop) for arrow in arrows], ENDS[mode.removesuffix("n")], atol=1e-5)
    assert np.allclose(scope["boxes"], [[9, 7, 21, 17]], atol=1e-5)


def test_outlines_of_the_box_frame_lie_where_it_ends():
    """Edges, or the centres of the outermost pixels; half of its width is 2 or 1.5 of the 4 pixels."""
    for align, (x1, x2, moved_x1) in ((False, (2, 6, 4)), (True, (2.5, 5.5, 4))):
        scope = run(*ROWS[SLUGS.index(f"affine_patches-align_corners-{align}")])
        before = scope["frame"](scope["boxes"], align)[0, :, 0]
        after = scope["moved"](scope["boxes"], scope["theta"], align)[0, :, 0]
        assert before.tolist() == [x1, x2, x2, x1]
        assert after.tolist() == [moved_x1, moved_x1 + x2 - x1, moved_x1 + x2 - x1, moved_x1]


def test_the_hook_imports_nothing_heavy():
    code = "import sys, gallery.hook; print([name for name in ('torch', 'kornia', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
