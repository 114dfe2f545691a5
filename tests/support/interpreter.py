"""Triton's interpreter, which takes as long for one number as for thousands."""

from functools import cache
from importlib import import_module

import numpy as np
import pytest

regions = import_module("kornia_patchaug.kernels.cuda.regions")
interpreter = import_module("triton.runtime.interpreter")


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger steps, and less that Triton does anew at every one."""
    for tiling in (regions.TILING, regions.ONE_WARP):
        monkeypatch.setitem(tiling, "TILES", 1)
        monkeypatch.setitem(tiling, "ROWS", 16)
        monkeypatch.setitem(tiling, "COLUMNS", 32)
    known, dtype_of = cache(interpreter._get_np_dtype), interpreter._get_np_dtype
    monkeypatch.setattr(interpreter, "_get_np_dtype", lambda t: (dtype_of if t.scalar.is_ptr() else known)(t.scalar))
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
