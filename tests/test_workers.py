"""The CPU kernels among threads and processes: determinism, forks, several callers at once, compiled code on disk."""

import errno
import importlib.util
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import config
from support.compared import threads

from kornia_patchaug.kernels.cpu import jit
from kornia_patchaug.kernels.cpu import threads as running
from kornia_patchaug.kernels.cpu.threads import spread

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("native")]

ROOT = Path(__file__).parents[1]

# A scene that is worth several threads: some 500,000 painted pixels, overlapping, in two images.
COMMON = """
import json, os, sys, threading, time, types
import torch
import kornia_patchaug as kp

def large(seed=0, side=400, count=9):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, side, side + 20, generator=generator)
    corner = torch.randint(-20, side - 200, (count, 2), generator=generator)
    boxes = torch.cat([corner, corner + torch.randint(200, 280, (count, 2), generator=generator)], dim=1) + 0.25
    theta = torch.eye(2, 3) + 0.1 * torch.randn(count, 2, 3, generator=generator)
    alpha = torch.rand(count, 1, 9, 7, generator=generator)
    return images, boxes, theta, alpha, torch.arange(count) % 2

def results(seed=0, count=9, **options):
    images, boxes, theta, alpha, index = large(seed, count=count)
    inputs = [t.requires_grad_() for t in (images, boxes, theta, alpha)]
    painted = kp.affine_patches(images, boxes, theta, index, alpha=alpha, **options)
    at_once = kp.affine_patches(images, boxes.detach(), theta, index, **options)  # has kernels of its own
    return [
        painted.detach(),
        *torch.autograd.grad(painted.square().sum(), inputs),
        at_once.detach(),
        *torch.autograd.grad(at_once.square().sum(), [images, theta]),
    ]

def digest(tensors):
    return [hash(t.contiguous().numpy().tobytes()) for t in tensors]

def pool_threads():
    return sum(t.name.startswith("kornia_patchaug") for t in threading.enumerate())

def sharing():  # how many threads share work among them now
    from kornia_patchaug.kernels.cpu import threads as running
    by = set()
    def work(begin, end):
        time.sleep(0.01)  # time enough for the others to wake
        by.add(threading.get_ident())
    running.spread(work, (), 32, 1 << 40)
    return len(by)
"""

# The two ways in which work is shared: by torch's threads, and by those of a pool.
WAYS = {
    "team": "",
    "pool": "from kornia_patchaug.kernels.cpu import threads as running; running._parallel = None",
}


# A file of loops, and one beside it of what they call.
LOOPS = """
from beside import check, once, span
from kornia_patchaug.kernels.cpu.jit import jit

@jit
def twice(x):
    return once(x) + once(x)

@jit
def spanned(x):
    return 2 * span(x)

@jit
def checked(x):
    return check(x)
"""

BESIDE = """
import numpy as np
from kornia_patchaug.kernels.cpu.jit import inner

@inner
def once(x):
    return x

@inner
def span(x):
    return x[np.argmax(x)] - x[np.argmin(x)]

@inner
def check(x):
    if x > 1:
        raise ValueError("too much", 1)
    return x
"""


def script(code: str, *, way: str = "team", timeout: float = 120, **environment: str):
    """What code prints as JSON, in a Python of its own that a hang ends; HASH seeds are fixed for ``digest``."""
    code = COMMON + WAYS[way] + "\n" + textwrap.dedent(code)
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2", **environment}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=timeout
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def script_file(folder: Path, code: str, **more):
    """The same from a file, which spawned processes can import."""
    path = folder / "script.py"
    path.write_text(COMMON + textwrap.dedent(code))
    return script(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')", **more)


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_the_same_bits_twice_and_at_any_number_of_threads(way):
    found = script(
        """
        bits, shared = {}, {}
        peeled = {"clip": False, "fill": "surroundings", "count": 4}
        for options in ({}, {"sequential": True}, {"padding_mode": "transparent", "sequential": True}, peeled):
            for threads in (1, 1, 2, 2, 3, 5) if options is not peeled else (1, 2, 5):
                torch.set_num_threads(threads)
                bits.setdefault(str(options), []).append(digest(results(**options)))
                shared[threads] = sharing()
        print(json.dumps([list(bits.values()), shared]))
    """,
        way=way,
    )
    for runs in found[0]:
        assert all(run == runs[0] for run in runs) and len(set(runs[0])) == 8
    most = 1 + os.cpu_count() if way == "pool" else 5
    assert found[1] == {str(threads): min(threads, most) for threads in (1, 2, 3, 5)}


@pytest.mark.parametrize("way", WAYS)
def test_work_is_shared_among_threads_and_small_work_is_not(way):
    found = script(
        """
        from kornia_patchaug.kernels.cpu import threads as running
        by, lock, spread = [], threading.Lock(), running.spread
        def watched(work, arguments, count, pixels, room=tuple):
            done = []
            def noted(begin, end, *arguments):
                done.append((begin, end, threading.get_ident()))
                work(begin, end, *arguments)
                time.sleep(0.001)  # time enough for the others to wake
            spread(noted, arguments, count, pixels, room)
            with lock:
                by.append([count, pixels, done])
        import importlib
        import kornia_patchaug.kernels.cpu
        for name in ("sample", "sample_backward", "composite", "paint"):
            importlib.import_module(f"kornia_patchaug.kernels.cpu.{name}").spread = watched
        small = torch.rand(1, 1, 20, 30, requires_grad=True)
        torch.set_num_threads(1)
        results()
        torch.set_num_threads(3)
        kp.affine_patches(small, torch.tensor([[2, 3, 9, 9]]), torch.eye(2, 3)[None]).sum().backward()
        alone = len(by)
        results()
        print(json.dumps([by[:alone], by[alone:]]))
    """,
        way=way,
    )
    alone, calls = found
    assert len(alone) >= 8 and all(len({thread for *_, thread in done}) == 1 for *_, done in alone)
    assert len(calls) >= 6  # the matte, paint, and their backward passes
    for count, pixels, done in calls:
        assert sorted(k for begin, end, _ in done for k in range(begin, end)) == list(range(count))
        if pixels >= 1 << 17 and count > 3:
            assert 2 <= len({thread for *_, thread in done}) <= 3


@pytest.mark.parametrize("count", [1, 5, 63, 64, 100, 1001])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_every_task_is_done_once_by_no_more_threads_than_torch_uses(way, workers, count, monkeypatch):
    """Also where they are taken several at a time, and those are not all of the same number."""
    if way == "pool":
        monkeypatch.setattr(running, "_parallel", None)
    done, by = [], set()

    def work(begin, end):
        time.sleep(0.002)  # time enough for the others to wake
        by.add(threading.get_ident())
        done.extend(range(begin, end))

    with threads(workers):
        spread(work, (), count, 1 << 20)
    assert sorted(done) == list(range(count))
    assert len(by) <= workers


@pytest.mark.parametrize("way", WAYS)
def test_several_threads_call_at_once(way):
    found = script(
        """
        torch.set_num_threads(2)
        expected = [digest(results(seed)) for seed in range(4)]
        actual, failures = [None] * 4, []
        def work(seed):
            torch.set_num_threads(2)
            for _ in range(2):
                actual[seed] = digest(results(seed))
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        [t.start() for t in threads], [t.join() for t in threads]
        print(json.dumps([expected, actual]))
    """,
        way=way,
    )
    assert found[0] == found[1] and len({str(one) for one in found[0]}) == 4


@pytest.mark.parametrize("way", WAYS)
def test_an_error_in_a_task_reaches_the_caller(way):
    found = script(
        """
        from kornia_patchaug.kernels.cpu.threads import spread
        torch.set_num_threads(2)
        def work(begin, end):
            time.sleep(0.01)
            if threading.current_thread() is not threading.main_thread():
                raise ValueError("of a task")
        try:
            spread(work, (), 8, 1 << 20)
            print(json.dumps("nothing"))
        except ValueError as error:
            print(json.dumps(str(error)))
    """,
        way=way,
    )
    assert found == "of a task"


@pytest.mark.parametrize("way", WAYS)
def test_an_error_of_the_caller_s_own_task_waits_for_the_other_threads(way):
    found = script(
        """
        from kornia_patchaug.kernels.cpu.threads import spread
        torch.set_num_threads(2)
        begun, done = threading.Event(), []
        def work(begin, end):
            if threading.current_thread() is threading.main_thread():
                begun.wait()
                raise ValueError("of a task")
            begun.set()
            time.sleep(0.2)
            done.append(begin)
        try:
            spread(work, (), 2, 1 << 20)
        except ValueError as error:
            print(json.dumps([str(error), len(done)]))
    """,
        way=way,
    )
    assert found == ["of a task", 1]


def test_no_more_threads_than_the_system_has_do_the_work(monkeypatch):
    """One that is busy as the work begins, and joins in."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(running, "_parallel", None)
    monkeypatch.setattr(running, "_pool", None)
    busy = running._threads().submit(time.sleep, 0.03)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []

    def work(begin, end):
        time.sleep(0.01 if threading.current_thread() is threading.main_thread() else 0.2)
        done.extend(range(begin, end))

    with threads(3):
        spread(work, (), 9, 1 << 20)
    assert busy.done() and sorted(done) == list(range(9))


@pytest.mark.parametrize("way", WAYS)
def test_work_is_done_at_the_end_of_the_process(way):
    """In a thread that outlives the main one, and in what is called at exit."""
    found = script(
        """
        import atexit
        from kornia_patchaug.kernels.cpu.threads import spread
        torch.set_num_threads(2)
        done = []
        def late():
            spread(lambda begin, end: done.extend(range(begin, end)), (), 8, 1 << 20)
        def outlive():
            threading.main_thread().join()
            time.sleep(0.1)
            late()
        def last():
            late()
            print(json.dumps(done))
        atexit.register(last)
        threading.Thread(target=outlive).start()
    """,
        way=way,
    )
    assert found == [*range(8), *range(8)]


# --- processes --------------------------------------------------------------------------------------------------------

LOADER = """
OPTIONS = {}, {}, {}, {"clip": False, "fill": "surroundings", "count": 4}

class Painted(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, seed):
        used = pool_threads()
        return digest(results(seed, **OPTIONS[seed])), used, sharing(), os.getpid()

def several_threads(_):
    # Of our loops alone: torch's OpenMP threads, which the parent has used, hang in a forked child.
    from kornia_patchaug.kernels.cpu import threads as running
    running.torch = types.SimpleNamespace(get_num_threads=lambda: THREADS)

def same(items):
    return items

def main():
    torch.set_num_threads(2)
    expected = [digest(results(seed, **OPTIONS[seed])) for seed in range(4)]
    in_parent = sharing()
    loader = torch.utils.data.DataLoader(
        Painted(), 1, num_workers=2, multiprocessing_context=CONTEXT, worker_init_fn=several_threads,
        collate_fn=same, timeout=60,
    )
    found = [items[0] for items in loader]
    print(json.dumps([expected, in_parent, found, os.getpid()]))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("way", WAYS)
def test_a_child_has_threads_even_if_its_parent_had_all_it_may_have(way):
    in_parent, status = script(
        """
        from kornia_patchaug.kernels.cpu.threads import spread
        def together(count, seconds):
            barrier = threading.Barrier(count)
            torch.set_num_threads(count)
            spread(lambda begin, end: barrier.wait(seconds), (), count, 1 << 40)
        together(1 + os.cpu_count(), 60)
        child = os.fork()
        if child == 0:
            try:
                together(2, 10)
            except threading.BrokenBarrierError:
                os._exit(1)
            os._exit(0)
        print(json.dumps([pool_threads(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
    """,
        way=way,
    )
    assert in_parent == (os.cpu_count() if way == "pool" else 0)
    assert status == 0


def test_a_child_can_compile_even_if_its_parent_was_compiling(tmp_path):
    (tmp_path / "loops.py").write_text(LOOPS)
    (tmp_path / "beside.py").write_text(BESIDE)
    ends = script(
        f"""
        import signal
        from llvmlite.binding import ffi
        from numba.core.compiler_lock import global_compiler_lock
        sys.path.insert(0, {str(tmp_path)!r})
        from loops import twice
        ends = []
        for lock in global_compiler_lock, ffi.lib._lock:
            held = threading.Event()
            def hold():
                with lock:
                    held.set()
                    time.sleep(0.2)
            thread = threading.Thread(target=hold)
            thread.start(), held.wait()
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # ends it if it hangs
                os._exit(twice(21) - 42)
            ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            thread.join()
        print(json.dumps([*ends, twice(21)]))
        """
    )
    assert ends == [0, 0, 42]


def test_the_kernels_load_where_nothing_forks():
    """As on Windows."""
    code = "import os, torch; del os.register_at_fork; import kornia_patchaug.kernels.cpu as cpu; print(cpu.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "kornia_patchaug.kernels.cpu\n", done.stderr


@pytest.mark.parametrize(("context", "threads"), [("fork", 1), ("fork", 2), ("spawn", 2)])
def test_workers_of_a_data_loader_after_the_parent_has_used_its_threads(context, threads, tmp_path):
    code = LOADER.replace("CONTEXT", repr(context)).replace("THREADS", str(threads))
    path = tmp_path / "loader.py"
    path.write_text(COMMON + code)
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=180
    )
    assert run.returncode == 0, run.stderr
    expected, in_parent, found, parent = json.loads(run.stdout.splitlines()[-1])
    assert in_parent == 2
    assert [bits for bits, *_ in found] == expected
    assert all(before == 0 for _, before, _, _ in found[:2])  # the first of each worker: no threads came along
    assert all(shared == threads for *_, shared, _ in found)
    assert len({process for *_, process in found} - {parent}) == 2


# --- compiled code on disk --------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """The loops as a process loads them that has not seen them yet, and their folder."""
    (tmp_path / "loops.py").write_text(LOOPS)
    (tmp_path / "beside.py").write_text(BESIDE)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(jit, "said", False)
    config.reload_config()

    def load(name="twice"):
        for file in ("beside", "loops"):
            spec = importlib.util.spec_from_file_location(file, tmp_path / f"{file}.py")
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, file, module)
            spec.loader.exec_module(module)
        return getattr(module, name)

    yield load, tmp_path
    monkeypatch.undo()
    config.reload_config()


def test_later_processes_load_what_earlier_ones_compiled():
    """`make bench` holds this to half a second of an idle machine; compiling takes twenty times as long."""
    first_call = """
        images, theta = torch.rand(1, 3, 32, 48, requires_grad=True), torch.eye(2, 3)[None].requires_grad_()
        start = time.process_time()
        kp.affine_patches(images, torch.tensor([[2, 3, 30, 20]]), theta).sum().backward()
        print(json.dumps([time.process_time() - start, "torch._dynamo" in sys.modules]))
    """
    runs = [script(first_call) for _ in range(3)]
    assert min(seconds for seconds, _ in runs) < 1.5
    assert not any(compiler for _, compiler in runs)


def test_processes_that_compile_for_two_dtypes_at_once_leave_each_other_their_code(fresh):
    """What is left when both look for a free name before either has written: one's index, and the other's file."""
    load, folder = fresh

    def run(dtype):
        assert load()(np.dtype(dtype).type(1)) == 2
        return {path: path.read_bytes() for path in (folder / "cache").rglob("*.nb?")}

    first = run("float64")
    for path in first:
        path.unlink()
    assert run("float32")
    for path, content in first.items():
        if path.suffix == ".nbc":
            path.write_bytes(content)
    assert set(run("float32")) > {path for path in first if path.suffix == ".nbc"}
    for path in first:
        if path.suffix == ".nbi":
            path.unlink()
    assert run("float64").keys() == run("float64").keys()


@pytest.mark.parametrize("locators", ["InTree", "CacheLocator"])
def test_folders_that_cannot_be_written_are_no_obstacle(locators, tmp_path):
    """Neither the package's, nor any."""
    (tmp_path / "twice.py").write_text("def twice(x):\n    return 2 * x\n")
    cached, value = script(
        f"""
        import numba.core.caching as caching
        def refuse(self):
            raise OSError("read-only")
        for name, locator in vars(caching).items():
            if {locators!r} in name:
                locator.ensure_cache_path = refuse
        sys.path.insert(0, {str(tmp_path)!r})
        from twice import twice
        from kornia_patchaug.kernels.cpu.jit import jit
        function = jit(twice)
        value = function(21)
        print(json.dumps([function.stats.cache_path, value]))
        """,
        NUMBA_CACHE_DIR="",
        HOME=str(tmp_path),
    )
    assert value == 42
    assert (cached is not None) == (locators == "InTree")
    assert not list((tmp_path / "__pycache__").glob("twice.twice*.nbi"))


def test_compiled_code_is_loaded_until_a_file_beside_it_changes(fresh):
    load, folder = fresh
    for expected, hits in ((42, 0), (42, 1)):
        twice = load()
        assert (twice(21), sum(twice.stats.cache_hits.values())) == (expected, hits)
    (folder / "beside.py").write_text(BESIDE.replace("return x\n", "return x + 1\n", 1))
    for expected, hits in ((44, 0), (44, 1)):
        twice = load()
        assert (twice(21), sum(twice.stats.cache_hits.values())) == (expected, hits)


def zeros_within(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(400) + content[len(content) // 2 + 400 :])


def a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "garbled": lambda path: path.write_bytes(b"garbled" * 99),
    "zeros within": zeros_within,
    "missing": lambda path: path.unlink(),
    "a folder": a_folder,
}


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_of_the_cache_are_as_none_and_are_written_anew(damage, suffix, fresh):
    load, folder = fresh
    load()(21)
    for path in list((folder / "cache").rglob(f"*.{suffix}")):
        DAMAGE[damage](path)
    hits = []
    for _ in range(2):
        twice = load()
        assert twice(21) == 42
        hits.append(sum(twice.stats.cache_hits.values()))
    assert hits == [0, 0 if damage == "a folder" else 1]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_call_does_not_need_to_keep_what_was_compiled(reason, fresh, monkeypatch):
    def refuse(*args):
        raise OSError(reason, os.strerror(reason))

    load, _ = fresh
    monkeypatch.setattr(jit.CacheFile, "_open_for_write", refuse)
    assert load()(21) == 42


def test_compiling_is_said_once_and_loading_is_not(fresh, caplog, monkeypatch):
    load, folder = fresh
    with caplog.at_level(logging.WARNING, "kornia_patchaug"):
        twice = load()
        assert twice(np.float32(21)) == twice(np.float64(21)) == 42
        (said,) = caplog.messages
        assert "float32" in said and str(folder / "cache") in said
        monkeypatch.setattr(jit, "said", False)
        caplog.clear()
        assert load()(np.float32(21)) == 42
        assert not caplog.messages
        monkeypatch.setattr(jit, "Cache", lambda function: os.listdir(folder / "nowhere"))
        assert load()(np.float64(21)) == 42
        (said,) = caplog.messages
        assert "float64" in said and "NUMBA_CACHE_DIR" in said


def test_others_can_compile_what_the_loops_have_compiled(fresh):
    """Parts of numba, of which the loops keep no machine code, and functions that only compiled ones call."""
    load, _ = fresh
    x = np.array([1.0, 5, 2])
    assert load("spanned")(x) == 8
    assert numba.njit(load("spanned").py_func)(x) == 8
    assert sys.modules["loops"].span(x) == 4  # from Python, as Python


def test_what_a_part_raises_reaches_the_caller(fresh):
    load, _ = fresh
    for _ in "compiled", "loaded":
        checked = load("checked")
        assert checked(1) == 1
        with pytest.raises(ValueError, match="too much") as caught:
            checked(3)
        assert caught.value.args == ("too much", 1)
    assert sum(checked.stats.cache_hits.values()) == 1


def test_the_loops_cannot_be_imported_where_nothing_may_be_compiled():
    code = """
        try:
            import kornia_patchaug.kernels.cpu
        except ImportError as error:
            print(json.dumps(str(error)))
    """
    assert script(code, NUMBA_DISABLE_JIT="1") == "NUMBA_DISABLE_JIT is set"
