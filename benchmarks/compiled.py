"""What the compiler makes of the Triton kernels, for GPUs that need not be there."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import triton
from triton.backends.compiler import GPUTarget

from kornia_patchaug import kernels

FILES = ("frames", "sample", "composite", "paint", "gather")
MODULES = [import_module(f"kornia_patchaug.kernels.cuda.{name}") for name in FILES]
KERNELS = {name: module for module in MODULES for name in vars(module) if re.fullmatch(r"_\w+_kernel", name)}


class Compiled(NamedTuple):
    """A kernel, compiled for an architecture."""

    name: str
    arch: int
    registers: int  # of a thread
    spilled: int  # bytes of a thread that find no place in them
    shared: int  # bytes of a program
    loads: Counter[int]  # instructions that read global memory, by how many numbers each reads
    stores: Counter[int]
    atomics: int
    ttir: str
    loops: list[int]  # how many instructions each loop has, those of loops in it among them
    moved: bool  # whether a reduction was moved out of a loop, none of which is the same at every turn


@contextmanager
def compiling(*archs: int) -> Iterator[list[Compiled]]:
    """While it lasts the kernels of a GPU are the backend, and what they are launched with is not run but compiled, for
    each of some architectures."""
    found: list[Compiled] = []
    with ExitStack() as patches:
        cuda = import_module("kornia_patchaug.kernels.cuda")
        patches.enter_context(patch.object(kernels, "backend_of", lambda *_: cuda))
        for name, module in KERNELS.items():
            launched = _Launched(getattr(module, name), archs, found)
            patches.enter_context(patch.object(module, name, launched))
        yield found


class _Launched:
    """Stands for a kernel."""

    def __init__(self, kernel: Any, archs: tuple[int, ...], found: list[Compiled]) -> None:
        self.kernel, self.archs, self.found = kernel, archs, found

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: object, **options: object) -> None:
            for arch in self.archs:
                triton.runtime.driver.set_active(_Absent(arch))
                kernel = triton.JITFunction(self.kernel.fn, do_not_specialize=self.kernel.do_not_specialize)
                self.found.append(_read(kernel.warmup(*arguments, grid=grid, **options), self.kernel.__name__, arch))

        return launch


class _Absent:
    """The driver of a GPU, as far as a compiler asks it."""

    def __init__(self, arch: int) -> None:
        self.target = GPUTarget("cuda", arch, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


def _read(made: Any, name: str, arch: int) -> Compiled:
    tools, ptx = Path(triton.__file__).with_name("backends") / "nvidia/bin", made.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        said, code = (
            subprocess.run([tools / tool, option, file.name], capture_output=True, text=True, check=True).stdout
            for tool, option in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        )
    usage = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", said)}
    spilled, atomics = usage["STACK"] + usage["LOCAL"], len(re.findall(r"\b(?:atom|red)\.", ptx))
    loads, stores = (_widths(ptx, instruction) for instruction in ("ld", "st"))
    moved = _depths(made.asm["ttir"]) != _depths(made.asm["ttgir"])
    return Compiled(
        name, arch, usage["REG"], spilled, made.metadata.shared, loads, stores, atomics, str(made.asm["ttir"]),
        _loops(code), moved,
    )  # fmt: skip


def _loops(code: str) -> list[int]:
    """How many instructions each loop of assembly has."""
    count, loops, labels = 0, [], {}
    for line in code.splitlines():
        if label := re.match(r"(\.L_\w+):", line):
            labels[label[1]] = count
        elif (said := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*);", line)) and said[1] != "NOP":
            count += 1
            to = re.search(r"\bBRA\b.*?(\.L_\w+)", said[1])
            if to and labels.get(to[1], count) < count - 1:  # one that jumps to itself ends every kernel
                loops.append(count - labels[to[1]])
    return loops


def _depths(module: Any) -> list[int]:
    """In how many loops each reduction of a module is."""
    depths, open_loops = [], []
    for line in str(module).splitlines():
        indent = len(line) - len(line.lstrip())
        while open_loops and indent <= open_loops[-1]:
            open_loops.pop()
        if "scf.for" in line:
            open_loops.append(indent)
        if 'tt.reduce"' in line:
            depths.append(len(open_loops))
    return depths


def _widths(ptx: str, instruction: str) -> Counter[int]:
    found = re.findall(rf"\b{instruction}\.global[.\w:]*?(?:\.v(\d))?\.[bsuf]\d+\b", ptx)
    return Counter(int(width or 1) for width in found)
