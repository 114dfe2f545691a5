"""Time and memory at the size people work at: 400 objects in 4 images of 3 x 1024 x 1024."""

import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample

import kornia_patchaug as kp

pytestmark = pytest.mark.slow


def crowd(count: int = 400, side: int = 1024):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, side, side, generator=generator)
    size = torch.randint(32, 65, (count, 2), generator=generator)
    corner = (torch.rand(count, 2, generator=generator) * (side - size)).long()
    theta = torch.eye(2, 3) + 0.1 * torch.randn(count, 2, 3, generator=generator)
    return images, torch.cat([corner, corner + size], dim=1), theta, torch.arange(count) % 4


def clone_and_assign(images, boxes, theta, obj_to_img):
    """The best loop that autograd accepts."""
    for (x1, y1, x2, y2), matrix, b in zip(boxes.tolist(), theta, obj_to_img.tolist(), strict=True):
        crop = images[b : b + 1, :, y1:y2, x1:x2]
        warped = grid_sample(
            crop, affine_grid(matrix[None], list(crop.shape), align_corners=False), align_corners=False
        )
        images = images.clone()
        images[b, :, y1:y2, x1:x2] = warped[0]
    return images


def seconds(function, images, boxes, theta, obj_to_img) -> float:
    images, theta = images.clone().requires_grad_(), theta.clone().requires_grad_()
    start = time.perf_counter()
    function(images, boxes, theta, obj_to_img).sum().backward()
    return time.perf_counter() - start


def test_forward_and_backward_take_a_tenth_of_the_loop():
    """The loop's time is taken on 24 of the 400 objects: it grows at least linearly, so 400 / 24 of that is fair to it.

    The best of two rounds of each, as other work on the machine only ever adds time.
    """
    everything = crowd()
    some = everything[0], *(t[:24] for t in everything[1:])
    loop = 400 / 24 * min(seconds(clone_and_assign, *some) for _ in range(2))
    ours = min(seconds(lambda *a: kp.affine_patches(*a, sequential=True), *everything) for _ in range(2))
    assert ours < loop / 10, f"{ours:.2f} s against {loop:.2f} s"
    ours = min(seconds(kp.affine_patches, *everything) for _ in range(2))
    assert ours < loop / 10, f"{ours:.2f} s against {loop:.2f} s"


def test_the_loop_does_the_same_job():
    images, boxes, theta, obj_to_img = crowd(60, side=160)  # crowded: many overlaps
    expected = clone_and_assign(images, boxes, theta, obj_to_img)
    torch.testing.assert_close(
        kp.affine_patches(images, boxes, theta, obj_to_img, sequential=True), expected, atol=1e-4, rtol=0
    )


def test_peak_memory_is_bounded_by_the_images_and_boxes():
    """Beyond what the process holds before the call: at most six times the images' bytes, and 400 MB."""
    script = """
        import resource, sys, torch
        sys.path.insert(0, "tests")
        from test_scale import crowd
        import kornia_patchaug as kp

        tiny = crowd(4, side=80)  # loads and warms up everything that a first call brings along
        kp.affine_patches(tiny[0].requires_grad_(), tiny[1], tiny[2].requires_grad_(), tiny[3]).sum().backward()
        images, boxes, theta, obj_to_img = crowd()
        images.requires_grad_(), theta.requires_grad_()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kp.affine_patches(images, boxes, theta, obj_to_img, sequential=SEQUENTIAL).sum().backward()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print((peak - before) * 1024, images.numel() * images.element_size())
    """
    for sequential in ("False", "True"):
        code = textwrap.dedent(script).replace("SEQUENTIAL", sequential)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        used, of_images = map(int, run.stdout.split())
        assert of_images == 4 * 3 * 1024 * 1024 * 4
        assert used < 6 * of_images + 400e6, f"{used / 1e6:.0f} MB, sequential={sequential}"


@pytest.mark.parametrize("padding_mode", ["zeros", "image"])
def test_sequential_keeps_no_copy_of_the_images_for_each_layer(padding_mode):
    """Forty boxes on one spot are forty layers, and a batch is 25 MB."""
    script = """
        import resource, torch
        import kornia_patchaug as kp

        def painted(side):
            images, theta = torch.rand(2, 3, side, side), torch.eye(2, 3).repeat(40, 1, 1).requires_grad_()
            boxes = torch.tensor([[5, 5, 25, 15]]).expand(40, 4)
            return kp.affine_patches(
                images, boxes, theta, torch.zeros(40).long(), sequential=True, padding_mode="PADDING"
            )

        painted(40)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        canvas = painted(1024)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        canvas.sum().backward()
    """
    code = textwrap.dedent(script).replace("PADDING", padding_mode)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) * 1024 < 6 * 25e6


def test_copies_take_at_most_three_times_what_warping_as_many_objects_does():
    """On 16 images of 640 x 640 with 20 objects each, and 20 copies each; boxes follow. The best of five rounds."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(16, 3, 640, 640, generator=generator)
    size = torch.randint(30, 81, (16, 20, 2), generator=generator)
    corner = (torch.rand(16, 20, 2, generator=generator) * (640 - size)).long()
    boxes = torch.cat([corner, corner + size - 1], dim=2).float()  # inclusive
    ranges = {"degrees": 30.0, "scale": (0.8, 1.2), "p": 1.0}
    taken = {}
    for name, step in (("warp", kp.RandomPatchAffine(**ranges)), ("paste", kp.RandomPatchPaste(20, **ranges))):
        augment = kp.PatchAugmentationSequential(step, data_keys=["input", "bbox_xyxy"])
        rounds = []
        for _ in range(5):
            start = time.perf_counter()
            found = augment(images, boxes)
            rounds.append(time.perf_counter() - start)
        taken[name] = min(rounds)
    assert len(step._params["donor"][0]) > 300 and found[1].shape == (16, 40, 4)
    assert taken["paste"] <= 3 * taken["warp"], taken
