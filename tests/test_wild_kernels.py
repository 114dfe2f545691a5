"""The CPU kernels against the reference where positions are delicate: on kinks, far away, slow, fast, not numbers.

A row of a window is cut where it leaves what can be read, and where it leaves a band of source rows. Objects that read
from afar are taken pixel by pixel.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.compared import Both, with_and_without_boxes, with_gradients
from support.scenes import MODES, PADDINGS, scene
from test_properties import STEADY

import kornia_patchaug as kp
from kornia_patchaug import kernels
from kornia_patchaug.kernels import cpu
from kornia_patchaug.kernels.backend import Inputs
from kornia_patchaug.kernels.cpu.arrays import job_of, objects_of
from kornia_patchaug.kernels.cpu.rows import frame_of
from kornia_patchaug.plan import Beyond, Sampling, image_plan

TRUTH = [False, True]
DTYPES = [torch.float64, torch.float32]
LIMITED = ["zeros", "border", "image", "transparent"]  # where a position far away is as good as any other there
# Odd and even sides, square so that the ratio of sides is exactly 1; inside, across the border, and around it all.
SQUARES = [[2, 3, 11, 12], [4, 1, 12, 9], [-3, -4, 6, 5], [10, 6, 20, 16], [-7, -9, 26, 24], [5, 5, 6, 6]]


def squares(matrix, dtype=torch.float64, boxes=SQUARES):
    images = scene().images[:1].to(dtype)
    theta = torch.tensor(matrix, dtype=torch.float64).reshape(-1, 2, 3).to(dtype)
    return images, torch.tensor(boxes, dtype=dtype), theta.expand(len(boxes), 2, 3)


def test_texels_of_a_picture_that_32_bits_do_not_count_are_taken_one_by_one():
    images, boxes, theta = squares([1, 0.1, 0, -0.1, 1, 0])
    sampling = Sampling(nearest=False, beyond=Beyond.ZERO, align_corners=False, by_reach=False)
    plan = image_plan(boxes.numpy(), np.zeros(len(boxes), np.int64), images, sampling, surroundings=False)
    objects, job = objects_of(Inputs(images, theta, boxes), plan), job_of(images, plan)
    assert frame_of(0, objects, job).tame and frame_of(0, objects, job._replace(height=1 << 15, width=1 << 15)).tame
    assert not frame_of(0, objects, job._replace(height=1 << 16, width=1 << 15)).tame


# --- exact positions --------------------------------------------------------------------------------------------------

# All positions are whole or half pixels, without rounding: on kinks, on ties, and on the borders of what can be read.
TURNS = {
    "identity": [1, 0, 0, 0, 1, 0],
    "90 degrees": [0, -1, 0, 1, 0, 0],
    "180 degrees": [-1, 0, 0, 0, -1, 0],
    "270 degrees": [0, 1, 0, -1, 0, 0],
    "mirror": [-1, 0, 0, 0, 1, 0],
    "twice": [2, 0, 0, 0, 2, 0],
    "half": [0.5, 0, 0.5, 0, 0.5, -0.25],
    "one point": [0, 0, 0.25, 0, 0, -0.5],
    "one row": [1, 0, 0, 0, 0, 0.5],
    "one column": [0, 0, 0, 0, 1, 0],
    "rows of columns": [0, 1, 0, 0, 1, 0],
    "columns of rows": [1, 0, 0, 1, 0, 0.25],
    "out to the left": [1, 0, -2, 0, 1, 0],
    "out below": [1, 0, 0, 0, 1, 2],
    "far out": [1, 0, 64, 0, 1, -128],
    "steep": [0, 4, 0, 8, 0, 0],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("turn", TURNS)
def test_exact_positions_on_kinks_ties_and_borders(turn, padding_mode, dtype, both):
    images, boxes, theta = squares(TURNS[turn], dtype)
    k = list(TURNS).index(turn) + PADDINGS.index(padding_mode) + DTYPES.index(dtype)
    mode, align_corners = MODES[k % 2], (k // 2) % 2 == 0
    # Centres of pixels are fractions of a box's side away; of a side that is no power of 2, they are not exact.
    whole = boxes if not align_corners else torch.tensor([[1, 2, 6, 7], [-3, 4, 6, 13], [9, -8, 26, 9]]).to(dtype)
    options = {"padding_mode": padding_mode, "mode": mode, "align_corners": align_corners}
    with_and_without_boxes(images, whole, theta[: len(whole)], **options)
    if padding_mode in ("zeros", "transparent"):
        with_and_without_boxes(images, whole, theta[: len(whole)], **options, clip=False)


# --- slopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [1e-3, -1e-7, 1e-40, -1e-300])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_slopes_that_are_almost_none(padding_mode, slope, dtype, both):
    """Off the kinks by a hundredth of a pixel, so that rounding to float32 moves no position across one."""
    for a, b, c, d in [(1, slope, slope, 1), (slope, 1, 1, slope), (slope, slope, slope, slope), (1, 0, slope, 0)]:
        images, boxes, theta = squares([a, b, 0.011, c, d, -0.013], dtype)
        with_and_without_boxes(images, boxes + 0.03, theta, padding_mode=padding_mode)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [31, -31, 33, -33, 1e4])
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_matrices_on_both_sides_of_wild(padding_mode, size, dtype, both):
    """In float32, positions of some hundreds of pixels are off by 1e-5, and mirrors of 1e4 by more than can be told."""
    both.slack = 1000 if dtype == torch.float32 or size > 100 else 30
    mirrored = padding_mode == "reflection" and dtype == torch.float32
    for entry in range(6):
        matrix = [1.0, 0.02, 0.011, -0.03, 1.0, -0.013]
        matrix[entry] = (500 if size > 100 and mirrored else size) + 0.01
        images, boxes, theta = squares(matrix, dtype)
        with_and_without_boxes(images, boxes + 0.03, theta, padding_mode=padding_mode)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e30, -3e38, 1e308])
@pytest.mark.parametrize("padding_mode", LIMITED)
def test_one_huge_entry(padding_mode, size, dtype, both):
    """Positions are near, or far beyond every border: either is certain. Infinity in float32 is such a position too."""
    both.overflow = True  # of the gradients of boxes, which are sums times the entry
    size = max(-3e38, min(size, 3e38)) if dtype == torch.float32 else size
    for entry, mode in itertools.product(range(6), MODES):
        matrix = [1.0, 0, 0, 0, 1.0, 0]
        matrix[entry] = size
        images, boxes, theta = squares(matrix, dtype)
        options = {"padding_mode": padding_mode, "mode": mode}
        for clip in (True, False) if padding_mode in ("zeros", "transparent") else (True,):
            (painted, of_images, _, of_theta), more = with_and_without_boxes(images, boxes, theta, **options, clip=clip)
            assert all(result.isfinite().all() for result in (painted, of_images, of_theta, *more))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("far", [1e5, 4e6, 1.6e7])
def test_boxes_that_begin_far_beyond_the_image(far, dtype, both):
    """In float32 their centres are so far away that positions round by a pixel; no bit may depend on the threads."""
    both.slack = 1e5 if dtype == torch.float32 and far > 1e5 else 100
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(1, 2, 200, 200, generator=generator).to(dtype)
    for matrix in [[1, 0, 0, 5, -4, 0], [1, 0, 0, 0, 1, 0], [-1, 0, 0, 30, 1, 0]]:
        theta = torch.tensor([matrix]).to(dtype)
        with_and_without_boxes(images, torch.tensor([[-far, -far, 200, 200]]).to(dtype), theta)


# --- no reads beyond the source ---------------------------------------------------------------------------------------

WILD = [0, 1, -1, 31, -33, 1e4, -1e9, 1e19, -1e30, 3e38, -3e38]


def among_nan(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, in the middle of memory that is not a number."""
    around = 10_000
    memory = torch.full((tensor.numel() + 2 * around,), torch.nan, dtype=tensor.dtype)
    inside = memory[around:-around].view(tensor.shape)
    return inside.copy_(tensor)


@given(st.lists(st.sampled_from(WILD), min_size=6, max_size=6), st.sampled_from(PADDINGS), st.sampled_from(MODES))
@settings(STEADY, max_examples=150)
def test_any_theta_reads_within_the_source_only(matrix, padding_mode, mode):
    """Of pixels from 1 to 2, values are 0 to 2; what lies beside the source in memory would spoil them."""
    for dtype in DTYPES:
        images, boxes, theta = squares(matrix, dtype)
        images = among_nan(images + 1)
        masks = among_nan(images[0, :1].expand(len(boxes), -1, -1) / 2)
        bank = among_nan(images[..., :5, :7].expand(len(boxes), -1, -1, -1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "backend_of", lambda *_: cpu)
            options = {"padding_mode": padding_mode, "mode": mode}
            results = [
                *with_and_without_boxes(images, boxes, theta, **options),
                *with_and_without_boxes(images, boxes, theta, **options, alpha=masks),
                *with_and_without_boxes(images, boxes, theta, mode=mode, alpha=masks, clip=False),
                with_gradients(lambda i, p, t, o=(boxes,), m=mode: pasted(i, p, *o, t, m), images, bank, theta),
            ]
        for painted, of_images, *_ in results:
            assert ((painted >= 0) & (painted <= 2.01)).all()
            assert of_images.isfinite().all()


def pasted(images, bank, boxes, theta, mode):
    return kp.paste_patches(images, bank, boxes, theta=theta, mode=mode, clip=False)


# --- far boxes --------------------------------------------------------------------------------------------------------

FAR = [
    [-1000, -2000, 3000, 1500],
    [-50.5, 2.25, 9.75, 600],
    [16.25, -300, 400, 12.5],
    [-1e5, 3, 6, 9],
    [4, -1e5, 9, 1e5],
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_mode", PADDINGS)
def test_boxes_far_beyond_the_image(padding_mode, mode, dtype, both):
    """Positions are off by as much as the distance from the box's centre, of 1e5 pixels, rounds."""
    both.slack = 1000
    generator = torch.Generator().manual_seed(8)
    wobble = torch.tensor([0.01, 0.01, 0.001]) * torch.randn(len(FAR), 2, 3, generator=generator, dtype=torch.float64)
    images, boxes, _ = squares([1, 0, 0, 0, 1, 0], dtype, FAR if dtype == torch.float64 else FAR[:3])
    theta = (torch.eye(2, 3) + wobble)[: len(boxes)].to(dtype)
    for align_corners in TRUTH:
        options = {"padding_mode": padding_mode, "mode": mode, "align_corners": align_corners}
        with_and_without_boxes(images, boxes, theta, **options)
        with_gradients(kp.crop_patches, images[:, :, :5], boxes[:1], size=(3, 4), align_corners=align_corners)


# --- random scenes ----------------------------------------------------------------------------------------------------

entries = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 1e-7, -1e-3, 7.0, 31.0, -33.0]), st.floats(-2, 2, width=32)
)


@st.composite
def random_scenes(draw):
    """Boxes and theta off the kinks by some odd thousandths of a pixel, in pictures of every small size."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 150))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    images = torch.rand(draw(st.integers(1, 3)), draw(st.integers(1, 5)), height, width, generator=generator).double()
    count = draw(st.integers(0, 4))
    corner = [[draw(st.integers(-9, width)), draw(st.integers(-9, height))] for _ in range(count)]
    size = [[draw(st.integers(0, width + 20)), draw(st.integers(0, height + 20))] for _ in range(count)]
    corner, size = (torch.tensor(t, dtype=torch.float64).reshape(-1, 2) for t in (corner, size))
    boxes = torch.cat([corner, corner + size], dim=1)
    boxes = boxes + draw(st.sampled_from([0.0, 0.37])) * torch.rand(count, 4, generator=generator)
    boxes[:, 2:] = torch.maximum(boxes[:, :2], boxes[:, 2:])
    theta = torch.tensor([[draw(entries) for _ in range(6)] for _ in range(count)], dtype=torch.float64).reshape(-1, 6)
    theta = theta + 1e-3 * torch.randn(count, 6, generator=generator)
    return images, boxes, theta, torch.randint(len(images), (count,), generator=generator)


@given(
    random_scenes(),
    st.fixed_dictionaries(
        {
            "padding_mode": st.sampled_from(PADDINGS),
            "mode": st.sampled_from(MODES),
            "align_corners": st.booleans(),
            "sequential": st.booleans(),
            "clip": st.sampled_from([True, True, True, False]),  # which paints all over the image
        }
    ),
)
@settings(STEADY, max_examples=200)
def test_random_scenes_equal_the_reference(scene, options):
    images, boxes, theta, obj_to_img = scene
    if not options["clip"]:
        options["padding_mode"] = "transparent"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "backend_of", lambda *_: Both(slack=100))  # mirrors of positions of thousands
        with_and_without_boxes(images, boxes, theta, obj_to_img, **options)
