"""Memory that is used again: never while anybody still holds it, and no more of it than is said."""

import gc
import sys
import threading

import numpy as np
import pytest
import torch

import kornia_patchaug as kp
from kornia_patchaug.kernels import memory
from kornia_patchaug.kernels.memory import HUGE, KEPT, LARGE, unset

REAL = np.dtype(np.float32)
COUNT = LARGE // 4
HELD = {
    "the array": lambda numbers: numbers,
    "a view": lambda numbers: numbers[5:9],
    "a view of a view": lambda numbers: numbers.reshape(-1, 4)[1:].T[2],
    "a tensor": lambda numbers: torch.from_numpy(numbers),
    "a tensor of a view": lambda numbers: torch.from_numpy(numbers[7:].reshape(-1))[3:],
    "an array of a tensor": lambda numbers: torch.from_numpy(numbers).view(-1, 2)[0].numpy(),
    "a tensor that shares its storage": lambda numbers: torch.from_numpy(numbers).detach().untyped_storage(),
}


@pytest.fixture(autouse=True)
def nothing_free(monkeypatch):
    monkeypatch.setattr(memory, "_free", [])


def address(numbers):
    return numbers.__array_interface__["data"][0]


@pytest.mark.parametrize("held", HELD)
def test_it_is_used_again_once_nothing_holds_it(held):
    numbers = unset(COUNT, REAL)
    there, holds = address(numbers), HELD[held](numbers)
    del numbers
    gc.collect()
    other = unset(COUNT, REAL)
    assert address(other) != there
    del holds
    gc.collect()
    assert address(unset(COUNT, REAL)) == there


def test_what_autograd_keeps_is_not_used_again():
    values = torch.from_numpy(unset(COUNT, REAL)).fill_(3)
    factor = torch.ones(COUNT, requires_grad=True)
    product = (factor * values).sum()
    del values
    gc.collect()
    unset(COUNT, REAL).fill(5)
    (gradient,) = torch.autograd.grad(product, factor)
    assert (gradient == 3).all()


def test_small_memory_is_that_of_numpy():
    numbers = unset(COUNT - 1, REAL)
    assert numbers.base is None and memory._free == []
    del numbers
    assert memory._free == []


@pytest.mark.parametrize("count", [COUNT, COUNT + 1, 999_999, HUGE // 8, HUGE // 4, 3 * HUGE + 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_has_the_size_and_dtype_that_were_asked_for_and_little_more(count, dtype):
    numbers = unset(count, np.dtype(dtype))
    need, has = numbers.nbytes, len(numbers.base)
    assert numbers.shape == (count,) and numbers.dtype == dtype and numbers.flags.writeable
    assert need <= has <= (HUGE if HUGE // 2 <= need <= HUGE else 1.125 * need)


def test_the_smallest_that_fits_is_taken_and_none_twice_as_large():
    pieces = [unset(count * COUNT, REAL) for count in (32, 16, 12, 4)]
    there = [address(numbers) for numbers in pieces]
    del pieces
    again = [unset(count * COUNT, REAL) for count in (12, 12, 12)]
    assert [address(numbers) for numbers in again[:2]] == [there[2], there[1]]
    assert address(again[2]) not in there


def test_no_more_than_so_much_is_kept_and_what_was_freed_first_goes_first():
    quarter = KEPT // 16
    pieces = [unset(quarter, REAL) for _ in range(5)]
    there = [address(numbers) for numbers in pieces]
    while pieces:
        pieces.pop(0)
        assert sum(piece.bytes.nbytes for piece in memory._free) <= KEPT
    assert [piece.bytes.ctypes.data for piece in memory._free] == there[1:]
    too_large = unset(KEPT // 4 + 1, REAL)
    del too_large
    assert memory._free == []


def test_threads_never_share_a_piece():
    pieces, wrong = 200, []

    def work(mark):
        for _ in range(pieces):
            numbers = unset(COUNT, REAL)
            numbers[::4096] = mark
            if not (numbers[::4096] == mark).all():
                wrong.append(mark)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
    finally:
        sys.setswitchinterval(before)
    assert not wrong and 1 <= len(memory._free) <= 12  # each holds two in turn, and may be about to take one


@pytest.mark.usefixtures("native")
def test_results_and_gradients_are_those_of_fresh_memory_however_many_are_held(monkeypatch):
    """Ten steps, of which some results are held and some dropped, and a graph that is used twice."""
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 300, 320, generator=random)
    boxes = torch.tensor([[10.0, 20, 200, 260], [50, 5, 310, 190], [30, 40, 280, 290], [0, 0, 320, 300]])
    alpha = torch.rand(4, 1, 9, 9, generator=random)
    thetas = (torch.eye(2, 3) + 0.2 * torch.randn(10, 4, 2, 3, generator=random)).unbind()

    def step(theta):
        inputs = [images.clone().requires_grad_(), theta.clone().requires_grad_()]
        options = {"alpha": alpha, "clip": False, "fill": "surroundings"}
        painted = kp.affine_patches(inputs[0], boxes, inputs[1], torch.tensor([0, 0, 1, 1]), **options)
        first = torch.autograd.grad(painted.square().sum(), inputs, retain_graph=True)
        return painted.detach(), *first, *torch.autograd.grad(painted.sum(), inputs)

    found = [step(theta) if k % 3 else step(theta)[:2] for k, theta in enumerate(thetas)]
    monkeypatch.setattr(memory, "LARGE", 1 << 60)
    for theta, results in zip(thetas, found, strict=True):
        for one, other in zip(results, step(theta), strict=False):
            assert torch.equal(one, other)
