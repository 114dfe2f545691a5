"""What the kernels of a GPU are asked to do, which takes no GPU to count: launches, and visits of windows to tiles."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import kornia_patchaug as kp
from benchmarks.cases import make_scene
from benchmarks.gpu_report import M64, copies
from kornia_patchaug import functional, kernels, objects, painting, transfers
from kornia_patchaug.kernels import cuda
from kornia_patchaug.plan import Beyond, Sampling, Windows

pytestmark = pytest.mark.cuda
MODULES = [import_module(f"kornia_patchaug.kernels.cuda.{name}") for name in ("frames", "sample", "paint", "gather")]
regions = import_module("kornia_patchaug.kernels.cuda.regions")
REGION = regions.REGION
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Operations of torch that launch nothing on a GPU: views, memory, and questions.
FREE = {
    "alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "is_pinned", "lift_fresh",
    "new_empty", "permute", "select", "slice", "split", "split_with_sizes", "t", "transpose", "unsqueeze",
    "unsafe_view", "view",
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


def own(*names):
    """The kernels among what was launched."""
    return [name.removesuffix("_kernel").strip("_") for name in names if name.startswith("_")]


@pytest.mark.parametrize("clip", [True, False])
def test_a_plain_call_launches_little(monkeypatch, clip):
    """Three times forward, of which one is for boxes of integers, and three times backward."""
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
    assert own(*forward, *backward) == ["frames", "paint", "paint_backward", "frames_backward", "gather"]
    assert len(forward) == 3 and len(backward) == 3, (forward, backward)


def test_a_crop_launches_little(monkeypatch):
    """Two kernels each way; torch makes the identity, and lays objects before channels."""
    if DEVICE == "cpu":
        monkeypatch.setattr(kernels, "backend_of", lambda *_: cuda)
    images = torch.rand(2, 2, 20, 30).to(DEVICE).requires_grad_()
    boxes = torch.tensor([[2.0, 3, 20, 15], [1, 1, 9, 9]], device=DEVICE)
    obj_to_img, weight = torch.tensor([0, 1], device=DEVICE), torch.ones(2, 2, 5, 6, device=DEVICE)
    with Launches(monkeypatch) as launches:
        made = kp.crop_patches(images, boxes, obj_to_img, (5, 6))
        forward, launches.seen = launches.seen, []
        made.backward(weight)
    assert own(*forward, *launches.seen) == ["frames", "sample", "frames", "gather"]
    assert len(forward) == 4 and len(launches.seen) == 3, (forward, launches.seen)


class Nothing:
    """Stands for a kernel that does nothing."""

    def __getitem__(self, grid):
        return lambda *args, **options: None


class Uploads(TorchDispatchMode):
    """Counts copies from the host."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ == "_to_copy":
            self.count += args[0].is_cpu and result.is_meta
        return result


@pytest.fixture
def absent(monkeypatch):
    """A device of which nothing can be read, and on which kernels do nothing; and calls of every kind for it, with
    boxes, theta and indices on the host."""
    monkeypatch.setattr(kernels, "backend_of", lambda *_: cuda)
    monkeypatch.setattr(objects, "check_readable", lambda *_: None)
    for module in MODULES:
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            monkeypatch.setattr(module, name, Nothing())
    images = torch.empty(2, 3, 40, 50, device="meta", requires_grad=True)
    boxes, obj_to_img = torch.tensor([[2.0, 3, 20, 30], [10, 5, 40, 36]]), torch.tensor([0, 1])
    patches, theta = torch.empty(2, 3, 5, 6, device="meta"), torch.eye(2, 3).repeat(2, 1, 1)
    number, matte, mask = (
        torch.empty(2, *size, device="meta", requires_grad=True) for size in ((), (1, 4, 4), (40, 50))
    )
    moved, here = partial(kp.affine_patches, images, boxes, theta), (images, boxes, obj_to_img)
    of_others = {"source": images, "source_boxes": boxes, "source_to_img": obj_to_img}
    return {
        "plain": lambda: moved(obj_to_img),
        "number": lambda: moved(obj_to_img, alpha=number, padding_mode="image"),
        "matte": lambda: moved(obj_to_img, alpha=matte, clip=False),
        "mask": lambda: moved(obj_to_img, alpha=mask, padding_mode="reflection"),
        "crop": lambda: kp.crop_patches(*here, size=(8, 9)),
        "paste": lambda: kp.paste_patches(images, patches, boxes, obj_to_img, clip=False),
        "transplant": lambda: kp.transplant_patches(*here, **of_others, theta=theta),
    }


@pytest.mark.parametrize("kind", ["plain", "number", "matte", "mask", "crop", "paste", "transplant"])
def test_nothing_waits_for_the_device_if_objects_are_on_the_host(kind, absent):
    """What is on no device cannot be read: a call that does would fail."""
    with Uploads() as uploads:
        made = absent[kind]()
        forward = uploads.count
        made.backward(torch.ones_like(made))
    assert made.is_meta and made.shape[1] == 3
    # Boxes, theta, and all tables together; what is read is what is painted, so that backward nothing is left to copy.
    assert kind != "plain" or (forward, uploads.count) == (3, 3)


def test_what_a_graph_cannot_hold_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with FakeTensorMode(), pytest.raises(RuntimeError, match=r"while a CUDA Graph is captured.*boxes\.cpu\(\)"):
        transfers.on_host(torch.empty(2, 4, device="cuda"))
    images, boxes = torch.rand(1, 3, 8, 9), torch.tensor([[1, 1, 5, 6]])
    there = objects.check_objects(images, boxes, None)
    away = there._replace(host_theta=there.host_theta * np.nan)
    with pytest.raises(RuntimeError, match="and theta too unless clip=True"):
        painting.planned(images, images, away, Sampling(False, Beyond.ZERO, False, False), False, clip=False)
    monkeypatch.setattr(functional, "is_captured", lambda device: True)
    for options in ({"sequential": True}, {"fill": 0.5}, {"patch_size": (4, 4)}):
        with pytest.raises(RuntimeError, match="sequential, fill and patch_size cannot be captured"):
            kp.affine_patches(images, boxes, torch.eye(2, 3)[None], **options)
    assert kp.affine_patches(images, boxes, torch.eye(2, 3)[None]).equal(images)


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


def test_a_plain_call_moves_little():
    """Forward at most two copies of the batch, with backward at most five: what is painted is about half of it."""
    forward, both = copies(M64)
    scene = make_scene(M64)
    share = scene.area / (M64.batch * M64.side**2)  # of the batch that lies in boxes, all of which are painted and read
    backward = 2 + share * (1 + 4 / 3 + 4 / 3 + 1 + 1)  # the gradient of values has room for four channels
    assert forward == pytest.approx((2 + share) / 2) and both == pytest.approx(forward + backward / 2)
    assert forward <= 2 and both <= 5
