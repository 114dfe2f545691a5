"""The package as a whole: public names, direction of imports, import cost, and the documentation's code."""

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kornia_patchaug as kp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kornia_patchaug"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def fresh(code: str) -> str:
    """What code prints in a Python of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_imports_point_one_way():
    """A file imports from those above it in the table of docs/how-it-works.md only."""
    table = re.findall(r"^\| `([\w/]+\.py)`", (ROOT / "docs/how-it-works.md").read_text(), flags=re.M)
    order = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in table]
    order.append("__main__")
    files = {p.relative_to(PACKAGE).with_suffix("").as_posix() for p in PACKAGE.rglob("*.py")} - {"__init__"}
    assert {name.removesuffix("/__init__").replace("/", ".") for name in files} == set(order)
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")
        if name == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for used in (m.removeprefix("kornia_patchaug.") for m in modules if m.startswith("kornia_patchaug.")):
                assert order.index(used) < order.index(name), f"{name} imports {used}"
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"


def test_public_means_listed():
    """`__all__`, the names that the package has, and the names in docs/api.md are the same."""
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/api.md").read_text(), flags=re.M)
    assert sorted(listed) == sorted(kp.__all__) == sorted(set(listed))
    for name in kp.__all__:
        assert getattr(kp, name).__doc__, name


def test_every_public_function_says_what_it_raises_and_shows_an_example():
    for name in kp.__all__:
        text = getattr(kp, name).__doc__
        assert ">>> " in text, name
        if name.islower():
            assert "Raises:" in text, name


def test_options_are_keyword_only():
    import inspect

    positional = {"obj_to_img", "size", "mode", "translate", "scale", "shear"}  # as published
    for name in kp.__all__:
        for parameter in inspect.signature(getattr(kp, name)).parameters.values():
            if parameter.default is not parameter.empty and parameter.name not in positional:
                assert parameter.kind is parameter.KEYWORD_ONLY, (name, parameter.name)


def test_importing_is_cheap():
    """Under 0.2 s beyond torch and Kornia, and without PIL, tqdm and whatever else only the preview needs."""
    code = """
        import sys, time
        import torch, kornia.augmentation, kornia.geometry
        before = set(sys.modules)
        start = time.perf_counter()
        import kornia_patchaug
        print(time.perf_counter() - start)
        print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] in ("PIL", "tqdm", "matplotlib")))
    """
    runs = [fresh(textwrap.dedent(code)).splitlines() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in runs) < 0.2
    assert {loaded for _, loaded in runs} == {"[]"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_every_page_runs(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)
    scope = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), scope)
    assert blocks or page.name in ("api.md", "how-it-works.md")


@pytest.mark.parametrize("page", sorted({*PAGES, *ROOT.glob("*.md")}), ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_typed_marker_and_the_version_are_there():
    assert (PACKAGE / "py.typed").exists()
    assert re.fullmatch(r"\d+\.\d+\.\d+", kp.__version__)


def test_the_lines_of_the_package_hold_no_unfinished_marks():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"TODO|FIXME|pragma: no cover", path.read_text()), path.name
