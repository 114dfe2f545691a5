"""Runs the suite with the lowest and with the newest of what the package stands on: ``make matrix``.

Each has an environment of its own in out/matrix/, which is deleted afterwards, and two runs: with kernels, and with the
reference. ``make matrix ARGS=lowest`` does one of them, ``make matrix PYTHON=python3.13`` another Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / "out" / "matrix"
VERSIONS = ("lowest", "newest")
KERNELS = {"kernels": "", "reference": "reference"}  # and KORNIA_PATCHAUG_KERNELS
SUITE = ("-n", "2", "-m", "not browser and not pinned")
SAID = ("python", "torch", "kornia", "numba", "numpy", "triton")


def lower_bounds() -> list[str]:
    """What pyproject.toml asks for at least, as exact versions: of the package, and of the extras that tests use."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    rows = [*project["dependencies"], *extras["cpu"], *extras["bench"], *extras["examples"]]
    return [row.replace(">=", "==") for row in rows]


def install(versions: str) -> Path:
    """An environment with these versions; its Python."""
    folder = ENVIRONMENTS / versions
    venv.create(folder, clear=True, with_pip=True)
    python = folder / "bin" / "python"
    pins = lower_bounds() if versions == "lowest" else []
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[suite]", *pins]
    subprocess.run(command, check=True, cwd=ROOT)
    return python


def installed(python: Path) -> str:
    code = f"""
import platform
from importlib.metadata import distributions
found = {{"python": platform.python_version()}} | {{d.name.lower(): d.version for d in distributions()}}
print(*(f"{{name}} {{found.get(name)}}" for name in {SAID}), sep=", ")"""
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main(asked: list[str]) -> int:
    if set(asked) - set(VERSIONS):
        print(f"{' '.join(asked)}: of {' '.join(VERSIONS)} are expected", file=sys.stderr)
        return 2
    lines, failed = [], False
    for versions in asked or VERSIONS:
        python = install(versions)
        for name, value in KERNELS.items():
            environment = {**os.environ, "KORNIA_PATCHAUG_KERNELS": value}
            code = subprocess.run([python, "-m", "pytest", *SUITE], cwd=ROOT, env=environment).returncode
            lines.append(f"{versions}, {name}: {'passed' if code == 0 else 'FAILED'} ({installed(python)})")
            failed |= code != 0
        shutil.rmtree(ENVIRONMENTS / versions)
    print(*lines, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
