"""The site: it builds without a warning, its links lead somewhere, and a real browser reads it."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import torch
from support.browser import CHROMIUM, chromium, hear, leave

import kornia_patchaug as kp

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md"))
PHONE, DESK = {"width": 375, "height": 812}, {"width": 1280, "height": 900}
PICTURES = "[...document.querySelectorAll('.md-content img')]"
TEXT = "document.querySelector('.md-typeset p')"
SCHEME = "document.body.getAttribute('data-md-color-scheme')"


def build(source: Path, out: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=source, env=quiet)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


class Document(HTMLParser):
    """What a page refers to, what can be referred to on it, and what of it is fetched as it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors = {""}
        self.images_without_text = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors.add(found.get("id") or "")
        target = found.get("href") or found.get("src")
        if target is not None and not target.startswith("data:"):
            self.links.append(target)
            if tag != "a" and found.get("rel") != "canonical":
                self.fetched.append(target)
        self.images_without_text += tag == "img" and not found.get("alt")


def broken_links(folder: Path) -> list[str]:
    """Links between the pages of a folder that lead nowhere, and whatever is fetched from elsewhere."""
    pages = {path: Document(path.read_text("utf-8")) for path in folder.glob("*.html") if path.name != "404.html"}
    found = []
    for path, page in pages.items():
        found += [f"{path.name} fetches {link}" for link in page.fetched if urlsplit(link).netloc]
        for link in (link for link in page.links if not urlsplit(link).scheme):
            file, anchor = urldefrag(link)
            target = (path.parent / unquote(file)).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (target in pages and unquote(anchor) not in pages[target].anchors):
                found.append(f"{path.name} -> {link}")
    return found


def test_every_page_is_built_and_in_the_menu(site):
    assert sorted(path.name for path in site.glob("*.html")) == sorted([*PAGES, "404.html"])
    menu = re.findall(r"^  - .+: (\w[\w-]*)\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), flags=re.M)
    assert sorted(f"{name}.html" for name in menu) == PAGES


def test_every_link_leads_somewhere_and_nothing_is_fetched_from_elsewhere(site):
    assert broken_links(site) == []


def test_every_picture_says_what_it_shows(site):
    for name in PAGES:
        assert Document((site / name).read_text("utf-8")).images_without_text == 0, name


def test_a_broken_link_or_anchor_and_a_script_from_elsewhere_are_noticed(tmp_path):
    links = '<a href="other.html#there"></a><a href="other.html#gone"></a><a href="gone.html"></a><a href="#gone"></a>'
    (tmp_path / "index.html").write_text(f'{links}<script src="https://example.org/x.js"></script>')
    (tmp_path / "other.html").write_text('<p id="there"></p>')
    assert [found.split()[-1] for found in broken_links(tmp_path)] == [
        "https://example.org/x.js",
        "other.html#gone",
        "gone.html",
        "#gone",
    ]


def test_a_warning_fails_the_build(tmp_path):
    for name in ("mkdocs.yml", "mkdocs_links.py", "benchmarks", "demo_images", "gallery", "kornia_patchaug"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs/index.md").open("a") as page:
        page.write("\n[gone](gone.md)\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0 and "gone.md" in done.stderr


def test_ci_has_a_browser():
    """Elsewhere the tests below run where there is one."""
    assert CHROMIUM or not os.environ.get("CI")


needs_a_browser = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def kept(browser, address):
    """A page for one test after another."""
    context = browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    return context.new_page()


@pytest.fixture
def visit(kept, address):
    """Open a page; whatever the browser complains about is an error in the end."""
    complaints = []
    heard = {
        "console": lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None,
        "pageerror": lambda error: complaints.append(str(error)),
        "requestfailed": lambda request: complaints.append(f"failed: {request.url}"),
        "request": lambda r: None if r.url.startswith((address, "data:", "blob:")) else complaints.append(r.url),
    }

    def open_page(name, viewport=DESK, scheme="light"):
        kept.set_viewport_size(viewport)
        kept.emulate_media(color_scheme=scheme)
        kept.goto(f"{address}/{name}")
        return kept

    hear(kept, heard)
    yield open_page
    kept.wait_for_load_state("networkidle")  # what is on its way as a page is left, fails
    kept.evaluate("localStorage.clear()")
    leave(kept, heard)
    assert complaints == []


@needs_a_browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_and_fits(visit, name):
    page = visit(name)
    assert page.locator("h1").count() == 1
    for viewport, scheme in ((DESK, "default"), (DESK, "slate"), (PHONE, "slate")):
        if page.evaluate(SCHEME) != scheme:
            page.get_by_title("Dark").click()
        assert page.evaluate(SCHEME) == scheme
        page.set_viewport_size(viewport)
        page.evaluate(f"{PICTURES}.forEach((image) => {{ image.loading = 'eager'; }})")
        page.wait_for_function(f"{PICTURES}.every((image) => image.complete)")
        for source, pixels, width in page.evaluate(f"{PICTURES}.map((i) => [i.src, i.naturalWidth, i.clientWidth])"):
            assert pixels > 0 and width > 200, source
        # No page slides sideways: only what scrolls on its own, code and tables, is wider than the window.
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        assert page.evaluate(f"parseFloat(getComputedStyle({TEXT}).fontSize)") >= 16
        assert page.evaluate(f"{TEXT}.getBoundingClientRect().width") > 0.8 * min(viewport["width"], 700)


@needs_a_browser
def test_the_scheme_is_that_of_who_reads(visit):
    assert visit("index.html", PHONE, "dark").evaluate(SCHEME) == "slate"


@needs_a_browser
def test_the_search_finds_affine_patches(visit):
    page = visit("index.html")
    page.locator(".md-search__input").click()
    page.locator(".md-search-result__meta", has_text="Type to start").wait_for()  # the index is there
    page.locator(".md-search__input").press_sequentially("affine_patches")
    page.locator(".md-search-result__link[href*='api.html?h=affine_patches#']").first.wait_for(state="attached")
    found = page.evaluate("[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)")
    entries = [target for target in found if "#" in target]  # the others are the pages that hold them
    assert entries[0].endswith("api.html?h=affine_patches#kornia_patchaug.affine_patches"), found


@needs_a_browser
@pytest.mark.parametrize("name", ["index.html", "api.html"])
def test_code_is_copied_without_prompts_and_runs(visit, name):
    page = visit(name)
    block = page.locator("div.highlight", has_text="kp.affine_patches(images").first
    block.hover()
    block.locator("button").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "kp.affine_patches(images" in copied and ">>>" not in copied and "tensor([[ 0." not in copied
    exec(compile(copied, name, "exec"), {"torch": torch, "kp": kp})


@needs_a_browser
def test_the_scheme_can_be_changed(visit):
    page = visit("index.html")
    assert page.evaluate(SCHEME) == "default"
    page.get_by_title("Dark").click()
    assert page.evaluate(SCHEME) == "slate"


@needs_a_browser
def test_a_name_leads_to_its_entry(visit):
    page = visit("performance.html")
    page.wait_for_load_state("networkidle")
    page.locator(".md-content a", has_text="affine_patches").first.click()
    page.wait_for_url("**/api.html#kornia_patchaug.affine_patches")
    assert page.locator("[id='kornia_patchaug.affine_patches']").is_visible()


@needs_a_browser
@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_the_first_page_has_the_demo_to_play_with(visit, viewport):
    page = visit("index.html", viewport)
    page.locator("iframe.demo").scroll_into_view_if_needed()
    demo = page.frame_locator("iframe.demo")
    demo.get_by_text("7 pictures, 37 objects").wait_for()
    drawing = demo.locator(".card canvas").first
    drawing.wait_for()
    page.wait_for_function(PAINTED)
    before = drawing.evaluate("canvas => canvas.toDataURL()")
    demo.get_by_role("button", name="New seed").click()
    page.wait_for_function(f"before => {PAINTED} !== before", arg=before)
    page.get_by_title("Dark").click()
    ground = demo.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground))) < 64
    assert page.locator("a[href='demo/index.html']").count() == 1


PAINTED = """(() => {
  const canvas = document.querySelector("iframe.demo").contentDocument.querySelector(".card canvas");
  const [middle] = canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data.slice(3);
  return middle && canvas.toDataURL();
})()"""
