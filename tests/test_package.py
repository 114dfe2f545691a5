"""The package as a whole: direction of imports, import cost, how options are passed."""

import ast
import importlib
import inspect
import re
import runpy
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import yaml

import kornia_patchaug as kp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kornia_patchaug"


def fresh(code: str) -> str:
    """What code prints in a Python of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_imports_point_one_way():
    """A file imports from those above it in the table of docs/inside.md only."""
    table = re.findall(r"^\| `([\w/]+\.py)`", (ROOT / "docs/inside.md").read_text("utf-8"), flags=re.M)
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


def test_the_names_along_the_line_of_a_call_exist():
    """Each file of the drawing in docs/inside.md has the functions beside it."""
    (drawing,) = re.findall(r"^```text\n(.*?)^```$", (ROOT / "docs/inside.md").read_text("utf-8"), flags=re.M | re.S)
    found = re.findall(r"([\w/]+)\.py {2,}(\w+(?: \w+)*) {2,}", drawing)
    assert len(found) > 12
    for file, names in found:
        module = importlib.import_module(f"kornia_patchaug.{file.removesuffix('/__init__').replace('/', '.')}")
        missing = [name for name in names.split() if not hasattr(module, name)]
        assert not missing, f"{file}.py has no {' '.join(missing)}"


def test_options_are_keyword_only():
    positional = {"obj_to_img", "size", "mode", "translate", "scale", "shear"}  # as published
    for name in kp.__all__:
        for parameter in inspect.signature(getattr(kp, name)).parameters.values():
            if parameter.default is not parameter.empty and parameter.name not in positional:
                assert parameter.kind is parameter.KEYWORD_ONLY, (name, parameter.name)


@pytest.mark.slow
def test_importing_is_cheap():
    """Computes for less than 0.2 s beyond torch and Kornia, without PIL, tqdm and what else only the preview needs."""
    code = """
        import sys, time
        import torch, kornia.augmentation, kornia.geometry
        before = set(sys.modules)
        start = time.process_time()
        import kornia_patchaug
        print(time.process_time() - start)
        print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] in ("PIL", "tqdm", "matplotlib")))
    """
    runs = [fresh(textwrap.dedent(code)).splitlines() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in runs) < 0.2
    assert {loaded for _, loaded in runs} == {"[]"}


def test_the_typed_marker_and_the_version_are_there():
    assert (PACKAGE / "py.typed").exists()
    assert re.fullmatch(r"\d+\.\d+\.\d+", kp.__version__)


def test_the_lines_of_the_package_hold_no_unfinished_marks():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"TODO|FIXME|pragma: no cover", path.read_text()), path.name


def test_everything_that_it_stands_on_has_a_lower_bound_that_the_matrix_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = runpy.run_path(str(ROOT / ".ci/matrix.py"))["lower_bounds"]()
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", pin) for pin in pins), pins
    extras = project["optional-dependencies"]
    assert {row.split(">=")[0] for row in [*project["dependencies"], *extras["cpu"]]} < {p.split("==")[0] for p in pins}


def test_the_workflow_runs_the_matrix_on_every_python_of_the_classifiers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = set(re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"])))
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]["matrix"]
    rows = job["strategy"]["matrix"]["include"]
    assert named <= {row["python"] for row in rows}
    lowest = [row["python"] for row in rows if row["versions"] == "lowest"]
    assert lowest == [project["requires-python"].removeprefix(">=")]
