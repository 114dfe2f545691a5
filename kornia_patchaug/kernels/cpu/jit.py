"""How the loops are compiled, and where the results are kept."""

from __future__ import annotations

import gc
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from llvmlite.binding import Linkage, ffi
from numba.core import config, types
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.environment import lookup_environment
from numba.core.registry import CPUDispatcher, cpu_target

import kornia_patchaug.plan as plan

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("kornia_patchaug")
said = False

if vars(config)["DISABLE_JIT"]:
    raise ImportError("NUMBA_DISABLE_JIT is set")
try:
    CODEGEN: Any = cpu_target.target_context.codegen()
except Exception as error:  # LLVM does not know the processor
    raise ImportError(f"numba cannot compile here: {error}") from error


class Library(JITCodeLibrary):
    """The code of a function, optimised and turned into machine code only if it can be called from Python.

    numba does both for every function, and again in all that call it, where most are inlined.
    """

    _linked = None

    @property
    def codegen(self) -> Any:
        return super().codegen if self._finalized else self

    def set_env(self, name: str, environment: object) -> None:
        """Nothing yet: a module that is not loaded has no such address."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout  # numba's passes here are among those of the whole module

    def _optimize_final_module(self) -> None:
        """All passes, once: numba runs them before and after it removes reference counts, of which there are none."""
        made = self._codegen._module_pass_manager()  # and LLVM's builder, with LLVM 20 and later
        passes, *builder = made if isinstance(made, tuple) else (made,)
        passes.run(self._final_module, *builder)

    def add_linking_library(self, library: Any) -> None:
        """As numba does, but without finalising it."""
        self._linking_libraries.append(library)

    def get_pointer_to_function(self, name: str) -> int:
        if not self._finalized and name not in {function.name for function in self._final_module.functions}:
            return 0  # as numba has it of functions without a wrapper for Python
        pointer: int = super().get_pointer_to_function(name)
        return pointer

    def finalize(self) -> None:
        self._linking_libraries = list(self._parts({}))
        super().finalize()
        for variable in self._final_module.global_variables:
            if variable.name.startswith("_ZN08NumbaEnv") and (environment := lookup_environment(variable.name)):
                CODEGEN.set_env(variable.name, environment)

    def _parts(self, found: dict[Any, None]) -> dict[Any, None]:
        """All libraries that this one needs, those that they need included, in order."""
        for library in self._linking_libraries:
            if library not in found:
                found[library] = None
                if isinstance(library, Library) and not library._finalized:
                    library._parts(found)
        return found

    def _get_module_for_linking(self) -> Any:
        if self._finalized:
            return super()._get_module_for_linking()
        if self._linked is None:
            self._linked = self._final_module.clone()
            for function in self._linked.functions:
                if not function.is_declaration and function.linkage == Linkage.external:
                    function.linkage = "linkonce_odr"  # so that it goes where all of its calls are inlined
        return self._linked


class CacheFile(IndexDataCacheFile):
    """numba's, with files named after what they were compiled for, and damaged files are as good as none.

    numba numbers them. Two processes that compile for two dtypes at once both take the next number, and then the index
    of one points at the code of the other, for good.
    """

    def save(self, key: object, data: object) -> None:
        name = self._data_name(int.from_bytes(sha256(repr(key).encode()).digest()[:8]))
        self._save_index({**self._load_index(), key: name})
        self._save_data(name, data)

    def _load_index(self) -> dict[object, str]:
        try:
            index: dict[object, str] = super()._load_index()
        except Exception:  # what is damaged can raise anything
            return {}
        return index

    def _save_data(self, name: str, data: object) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(sha256(content).digest() + content)

    def _load_data(self, name: str) -> object:
        content = Path(self._data_path(name)).read_bytes()
        if content[:32] != sha256(content[32:]).digest():
            raise OSError("damaged")
        return pickle.loads(content[32:])


class Cache(FunctionCache):
    """numba's, on which no call depends, and which notices when plan.py or any file beside the function's changes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        files = [*sorted(Path(function.__code__.co_filename).parent.glob("*.py")), Path(plan.__file__)]
        stamps = tuple((file.name, status.st_mtime_ns, status.st_size) for file in files for status in [file.stat()])
        self._cache_file = CacheFile(
            self._cache_path, self._impl.filename_base, (self._cache_file._source_stamp, *stamps)
        )

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(signature, target_context)
        except Exception:
            found = None
        if found is None:
            announce(signature, f"They are kept in {self.cache_path}.")
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            log.info("What was compiled is not kept: %s.", error)


class NoCache(NullCache):
    """Where no folder can be written."""

    def load_overload(self, signature: Any, target_context: Any) -> None:
        announce(signature, "Each process does it again, as no folder can be written: NUMBA_CACHE_DIR can name one.")


class Entry(CPUDispatcher):
    """A function that is called from Python."""

    def enable_caching(self) -> None:
        try:
            self._cache: Any = Cache(self.py_func)
        except (RuntimeError, OSError):  # neither this folder nor the user's cache can be written
            self._cache = NoCache()

    def compile(self, signature: Any) -> Any:
        with global_compiler_lock, our_way():
            return super().compile(signature)


@contextmanager
def our_way() -> Iterator[None]:
    """Compile with a `Library` each, without looking up an operator twice, and without collecting garbage: a
    compiler makes many objects, of which it keeps most."""
    typing, before, collects = cpu_target.typing_context, CODEGEN._library_class, gc.isenabled()
    CODEGEN._library_class, typing.resolve_function_type = Library, resolved
    gc.disable()
    try:
        yield
    finally:
        CODEGEN._library_class = before
        del typing.resolve_function_type
        if collects:
            gc.enable()


SIGNATURES: dict[Any, Any] = {}  # of numba's own functions and operators, by the types that they are given


def resolved(function: Any, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
    """The signature of a call. numba tries dozens of overloads at each operator: here, once for all loops."""
    typing = cpu_target.typing_context
    if kws or not isinstance(function, types.Function | types.NumberClass):
        return type(typing).resolve_function_type(typing, function, args, kws)
    if (function, args) not in SIGNATURES:
        SIGNATURES[function, args] = type(typing).resolve_function_type(typing, function, args, kws)
    return SIGNATURES[function, args]


class Inner(CPUDispatcher):
    """A function that compiled ones call. From Python it is called as Python."""

    def __call__(self, *args: Any) -> Any:
        return self.py_func(*args)


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call for each dtype, and keep the result on disk where there is a place for it."""
    entry = _dispatcher(Entry, function)
    entry.enable_caching()
    loop: Callable[P, R] = entry
    return loop


def inner(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    """Compile as part of each compiled function that calls it."""
    loop: Callable[P, R] = _dispatcher(Inner, function, no_cpython_wrapper=True, forceinline=True, **options)
    return loop


def apart(function: Callable[P, R]) -> Callable[P, R]:
    """Compile as a function that compiled ones call; LLVM may still inline it, unless it calls `stay_apart`."""
    loop: Callable[P, R] = _dispatcher(Inner, function, no_cpython_wrapper=True, forceinline=False)
    return loop


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """As `inner`, with products and sums fused where the processor can, rounding once."""
    return inner(function, fastmath={"contract"})


def summed(function: Callable[P, R]) -> Callable[P, R]:
    """As `fused`, and sums are added up in whatever order is fastest, the same in every call."""
    return inner(function, fastmath={"contract", "reassoc"})


def _dispatcher(kind: type[CPUDispatcher], function: Callable[..., Any], **options: Any) -> Any:
    always = {"nopython": True, "_nrt": False, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    return kind(function, targetoptions={**always, **options})


def announce(signature: Any, kept: str) -> None:
    """Say at the first time in this process that loops over pixels are compiled: the others take no time."""
    global said
    if not said and "float" in str(signature):
        said = True
        dtype = "float32" if "float32" in str(signature) else "float64"
        log.warning("Compiling the CPU kernels for %s, which takes about 10 seconds. %s", dtype, kept)


LOCKS = global_compiler_lock, ffi.lib._lock


def _hold() -> None:
    for lock in LOCKS:
        lock.__enter__()


def _release() -> None:
    for lock in reversed(LOCKS):
        lock.__exit__(None, None, None)


if hasattr(os, "register_at_fork"):  # Windows does not fork
    # A child has the locks but not the threads that hold them, and LLVM as they left it: a fork waits for the compiler.
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)
