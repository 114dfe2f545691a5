"""What is written: its code runs, its links lead somewhere, its commands exist, and every public name has an entry."""

import inspect
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from support.vision import torchvision

import kornia_patchaug as kp
from benchmarks.rivals import FORWARD, OPENCV
from benchmarks.rows import LOST, MISSED, OURS
from kornia_patchaug import cli

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
WITHOUT_CODE = {"CHANGELOG.md", "how-it-works.md", "inside.md", "performance.md"}
SHOWN = {"py", "pycon", "text"}  # signatures; examples, which run as doctests; drawings
DOCSTRINGS = {
    **{name: getattr(kp, name).__doc__ for name in kp.__all__},
    "PatchAffine.forward": kp.PatchAffine.forward.__doc__,
}
COMPILES = {"kornia.md"}  # the classes, which torch does from 2.9 on
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), flags=re.M | re.S)


def targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)[0].split())


@each_page
def test_the_code_of_every_page_runs(page):
    """One scope a page, as a reader has it who pastes one block after another."""
    if page.name == "training.md":
        torchvision()
        pytest.importorskip("lightning")
    if page.name in COMPILES and torch.__version__ < "2.9":
        pytest.skip("torch compiles the classes from 2.9 on")
    found, scope = blocks(page), {}
    assert page.read_text("utf-8").count("```") == 2 * len(found), "a block that is not at the start of a line"
    for language, text in found:
        if language == "python":
            exec(compile(text, page.name, "exec"), scope)
        elif language == "json":
            json.loads(text)
        elif language not in SHOWN:
            assert language == "sh", f"{page.name}: nothing runs a block of {language or 'no language'}"
            check_commands(text)
    assert bool({language for language, _ in found} - {"text"}) == (page.name not in WITHOUT_CODE)


def check_commands(text: str) -> None:
    """Commands are make's and our own: what they would do is asked for, not done. CI does it."""
    for line in text.splitlines():
        own = re.search(r"kornia-patchaug (.*)", line)
        if own:
            cli.parser_of("").parse_args(shlex.split(re.sub(r"\{\}|\$\w+", "0", own[1])))
        elif not line.startswith("#"):
            program, *arguments = shlex.split(line, comments=True)
            assert program == "make" and arguments, line
            subprocess.run(["make", "--dry-run", *arguments], check=True, capture_output=True, cwd=ROOT)


def test_a_command_that_does_not_exist_is_noticed():
    with pytest.raises(subprocess.CalledProcessError):
        check_commands("make nothing  # of this name\n")
    with pytest.raises(cli.UserError, match="--nothing"):
        check_commands("xargs kornia-patchaug preview --nothing\n")


@each_page
def test_every_relative_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), f"{page.name}: {link}"


@each_page
def test_every_command_that_a_page_names_exists(page):
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text("utf-8"), flags=re.M):
        assert target in targets(), f"{page.name}: make {target}"


def test_public_means_listed():
    """`__all__` and the entries of docs/api.md are the same, once each."""
    listed = re.findall(r"^<!-- ::: kornia_patchaug\.(\w+)", (ROOT / "docs/api.md").read_text("utf-8"), flags=re.M)
    assert sorted(listed) == sorted(kp.__all__)


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_an_entry_describes_each_argument_with_shapes_what_is_raised_and_an_example(name):
    text = inspect.cleandoc(DOCSTRINGS[name])
    owner, _, method = name.partition(".")
    arguments = inspect.signature(getattr(getattr(kp, owner), method) if method else getattr(kp, owner)).parameters
    assert re.findall(r"^    \**(\w+):", section(text, "Args"), flags=re.M) == [a for a in arguments if a != "self"]
    for description in re.split(r"^    (?=\**\w+:)", section(text, "Args"), flags=re.M)[1:]:
        argument = description.split(":")[0].lstrip("*")
        if "Tensor" in str(arguments[argument].annotation):
            assert re.search(r"``\((\w+|\.\.\.),.*\)``", description), f"{argument}: no shape"
    assert re.match(r"    (TypeError, ValueError|TypeError|ValueError): [\w`]", section(text, "Raises"))
    if not method:
        assert ">>> " in section(text, "Examples")
    if inspect.isfunction(getattr(kp, owner)):
        assert section(text, "Returns").strip()


def section(text: str, title: str) -> str:
    """What is indented below a title."""
    found = re.search(rf"^{title}:\n((?:    .*\n?|\n)+)", text, flags=re.M)
    assert found, f"no {title}"
    return found[1]


def test_the_published_table_loses_where_the_page_says():
    """docs/performance.md names every row that loses, and the table it takes has one for every case."""
    text = (ROOT / "benchmarks/results-cpu.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.count("|") == 11]
    lost = [(case, measured, ours, rival) for case, measured, ours, _, rival, *_, verdict, _ in rows if verdict == LOST]
    assert lost == [("S", FORWARD, OURS, OPENCV)]
    lost_section = (ROOT / "docs/performance.md").read_text("utf-8").split("## Where we lose")[1].split("\n## ")[0]
    assert "On *S*" in lost_section and "OpenCV" in lost_section
    assert MISSED not in text


def test_hooks_and_workflows_run_what_make_does():
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    jobs = read(".github/workflows/ci.yml")["jobs"].values()
    commands = [hook["entry"] for hook in hooks] + [s["run"] for job in jobs for s in job["steps"] if "run" in s]
    assert commands
    for command in commands:
        program, *asked = command.split()
        assert program == "make" and set(asked) <= targets(), command
    assert {"make test", "make docs"} <= set(commands)


def test_templates_of_issues_ask_for_code_that_runs():
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        fields = read(path)["body"]
        assert fields[0]["attributes"]["render"] == "python" and fields[0]["validations"]["required"], path.name


def read(path: str | Path) -> dict:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def test_the_citation_the_site_and_the_change_log_have_the_version():
    citation = read("CITATION.cff")
    assert citation["version"] == kp.__version__ and citation["license"] == "Apache-2.0"
    assert citation["cff-version"] == "1.2.0" and citation["authors"]
    assert read("mkdocs.yml")["copyright"] == f"kornia_patchaug {kp.__version__}, {citation['license']}"
    assert (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()[2] in (f"## {kp.__version__}", "## Unreleased")


def test_contributing_is_short():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert len(text.splitlines()) < 50
    for asked in ("make test ARGS=", "make bench", "make docs", "make matrix", "padding mode", "kernel", "release"):
        assert asked in text
