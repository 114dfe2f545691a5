"""What the kernels of a GPU are asked to do, which takes no GPU to count: launches, and visits of windows to tiles."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import kornia_patchaug as kp
from kornia_patchaug import kernels
from kornia_patchaug.kernels import cuda
from kornia_patchaug.plan import Windows

pytestmark = pytest.mark.cuda
MODULES = [import_module(f"kornia_patchaug.kernels.cuda.{name}") for name in ("frames", "paint", "gather")]
regions = import_module("kornia_patchaug.kernels.cuda.regions")
REGION = regions.REGION
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Operations of torch that launch nothing on a GPU: views, and memory.
FREE = {
    "alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "lift_fresh", "new_empty",
    "permute", "select", "slice", "split", "split_with_sizes", "t", "transpose", "unsqueeze", "unsafe_view", "view",
}  # fmt: skip


class Launches(TorchDispatchMode):
    """Counts what is launched: torch's operations and Triton's kernels, whose interpreter has operations of its own."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.seen, self.inside = [], False
        for module in MODULES:
            for name in [name for name in vars(module) if name.endswith("_kernel")]:
                monkeypatch.setattr(module, name, Counted(getattr(module, name), name, self))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__.removeprefix("_")
        tensors = [tensor for tensor in args if isinstance(tensor, torch.Tensor)]
        between = name == "copy_" and len({tensor.device for tensor in tensors}) == 2  # devices, which is no launch
        on_host = between or (name == "to_copy" and (kwargs or {}).get("device") is not None)
        result = function(*args, **(kwargs or {}))
        is_nothing = isinstance(result, torch.Tensor) and result.numel() == 0
        if not (self.inside or name in FREE or on_host or is_nothing):
            self.seen.append(name)
        return result


class Counted:
    def __init__(self, kernel, name, launches):
        self.kernel, self.name, self.launches = kernel, name, launches

    def __getitem__(self, grid):
        def launch(*args, **options):
            self.launches.seen.append(self.name)
            self.launches.inside = True
            try:
                return self.kernel[grid](*args, **options)
            finally:
                self.launches.inside = False

        return launch


@pytest.mark.parametrize("clip", [True, False])
def test_a_plain_call_launches_little(monkeypatch, clip):
    """Three times forward, of which one is for boxes of integers, and four times backward."""
    if DEVICE == "cpu":
        monkeypatch.setattr(kernels, "backend_of", lambda *_: cuda)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 40, 70, generator=generator).to(DEVICE).requires_grad_()
    boxes = torch.tensor([[2, 3, 20, 30], [10, 5, 40, 36], [30, 0, 66, 20], [1, 1, 9, 9]], device=DEVICE)
    theta = (torch.eye(2, 3) + 0.1 * torch.randn(4, 2, 3, generator=generator)).to(DEVICE).requires_grad_()
    obj_to_img, weight = torch.tensor([0, 0, 2, 1], device=DEVICE), torch.ones_like(images)
    with Launches(monkeypatch) as launches:
        made = kp.affine_patches(images, boxes, theta, obj_to_img, clip=clip)
        forward, launches.seen = launches.seen, []
        made.backward(weight)
        backward = launches.seen
    own = [name.removesuffix("_kernel").strip("_") for name in (*forward, *backward) if name.startswith("_")]
    assert own == ["frames", "paint", "frames", "paint_backward", "frames_backward", "gather"]
    assert len(forward) == 3 and len(backward) == 4, (forward, backward)


def random_windows(count: int, images: int, height: int, width: int, side: int) -> Windows:
    generator = np.random.default_rng(count)
    first = generator.integers(0, (width - side, height - side), (count, 2))
    sides = generator.integers(0, side + 1, (count, 2))  # some without an area
    return Windows.of(generator.integers(0, images, count), first, first + sides)


def test_a_region_has_the_windows_that_meet_it_in_their_order():
    windows = random_windows(60, 3, 150, 300, 90)
    order, first = regions.regions_of(windows, torch.Size((3, 1, 150, 300)))
    k = 0
    for image in range(3):
        for top in range(0, 150, REGION):
            for left in range(0, 300, REGION):
                expected = [
                    n
                    for n, (of, x, y, w, h, _) in enumerate(windows.host.tolist())
                    if of == image and w * h and x < left + REGION and x + w > left and y < top + REGION and y + h > top
                ]
                assert order[first[k] : first[k + 1]].tolist() == expected
                k += 1
    assert len(first) == k + 1 and first[-1] == len(order)


def test_visits_grow_with_the_windows_and_not_with_their_square():
    """A tile is offered the windows that meet its region: of small ones, those near it, however many an image has."""
    visits = []
    for count in (1000, 4000):
        order, first = regions.regions_of(random_windows(count, 1, 1024, 1024, 32), torch.Size((1, 1, 1024, 1024)))
        visits.append(len(order))
        assert np.diff(first).max() < count / 50  # of all of the image's, once
    assert visits[1] < 4.1 * visits[0] and visits[0] < 2.25 * 1000  # (1 + 32 / 64) ** 2 at most
