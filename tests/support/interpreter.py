"""Triton's interpreter, which takes as long for one number as for thousands."""

from dataclasses import replace
from functools import cache
from importlib import import_module

import numpy as np
import pytest

regions = import_module("kornia_patchaug.kernels.cuda.regions")
interpreter = import_module("triton.runtime.interpreter")
language = import_module("triton.language.core")
semantic = import_module("triton.language.semantic")


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger steps, and less that Triton does anew at every one."""
    for tiling in (regions.TILING, regions.ONE_WARP, regions.PAIRS):
        monkeypatch.setitem(tiling, "TILES", 1)
        monkeypatch.setitem(tiling, "ROWS", 16)
        monkeypatch.setitem(tiling, "COLUMNS", 32)
    known, dtype_of = cache(interpreter._get_np_dtype), interpreter._get_np_dtype
    monkeypatch.setattr(interpreter, "_get_np_dtype", lambda t: (dtype_of if t.scalar.is_ptr() else known)(t.scalar))
    heed_overflow(monkeypatch, False)
    keep_types(monkeypatch)
    patched: set[str] = set()
    called, begun = interpreter.InterpretedFunction.__call__, interpreter.interpreter_builder.set_grid_dim

    def begin(*grid):
        patched.clear()
        begun(*grid)

    def call(self, *args, **options):
        """Replaces what a function sees of Triton's language once a launch, and not at every call."""
        module = self.fn.__module__
        if module in patched or module.startswith("kornia_patchaug"):  # as is the kernel that calls it
            return self.rewrite()(*args, **options)
        patched.add(module)
        return called(self, *args, **options)

    def numbers(which):
        return lambda self, one, other: self.binary_op(one, other, which)

    # Of a number and none a GPU takes the number.
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_minnumf", numbers(np.fmin))
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_maxnumf", numbers(np.fmax))
    monkeypatch.setattr(interpreter.interpreter_builder, "set_grid_dim", begin)
    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)


def heed_overflow(monkeypatch: pytest.MonkeyPatch, heed: bool = True) -> None:
    """Whether a whole number that its bits do not hold is an error, for which every operation is done twice."""
    options = replace(interpreter.interpreter_builder.options, sanitize_overflow=heed)
    monkeypatch.setattr(interpreter.interpreter_builder, "options", options)


def keep_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """The type of a block, and its shape, are made once, and not by every operation."""
    made, tensor, broadcast = (
        language.block_type.with_element_ty, language.tensor.__init__, semantic.TritonSemantic.broadcast_impl_value
    )  # fmt: skip

    def with_element(self, element):
        if element.is_ptr():
            return made(self, element)
        others = vars(self).setdefault("others", {self.element_ty.name: self})
        if element.name not in others:
            others[element.name] = made(self, element)
            others[element.name].others = others
        return others[element.name]

    def begin(self, handle, type):
        self.handle, self.type, self.dtype = handle, type, type.scalar
        if "shown" not in vars(type):
            tensor(self, handle, type)
            type.shown = self.shape, self.numel
        self.shape, self.numel = type.shown

    def alike(self, one, other):
        shapes = [x.type.shape.values for x in (one, other) if x.type.is_block()]
        return (one, other) if len(shapes) == 2 and shapes[0] == shapes[1] else broadcast(self, one, other)

    monkeypatch.setattr(language.block_type, "with_element_ty", with_element)
    monkeypatch.setattr(language.block_type, "to_ir", lambda self, builder: self.with_element_ty(self.element_ty))
    monkeypatch.setattr(language.tensor, "__init__", begin)
    monkeypatch.setattr(semantic.TritonSemantic, "broadcast_impl_value", alike)
