"""Random scenes against the oracle, and bad or wild input: the documented error or a finite result, never a crash."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import oracle
from support.scenes import MODES, PADDINGS, Scene, assert_close

import kornia_patchaug as kp

# Derandomised: a failing example is found again by everybody. Deadlines measure the machine, not the code.
STEADY = settings(derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def boxes_in(draw, width, height):
    """Integer, half-pixel and free boxes in and around a picture, empty ones included."""
    step = draw(st.sampled_from([1, 2, 7.3]))
    corner = st.tuples(st.integers(-4, width + 3), st.integers(-4, height + 3))
    (x1, y1), w, h = draw(corner), draw(st.integers(0, 2 * width)), draw(st.integers(0, 2 * height))
    return [x1 / step, y1 / step, (x1 + w) / step, (y1 + h) / step]


@st.composite
def random_scenes(draw):
    batch, channels = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 11))
    boxes = draw(st.lists(boxes_in(width, height), max_size=4))
    obj_to_img = [draw(st.integers(0, batch - 1)) for _ in boxes]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    images = torch.rand(batch, channels, height, width, generator=generator, dtype=torch.float64)
    theta = torch.eye(2, 3, dtype=torch.float64) + draw(st.sampled_from([0.0, 0.3, 2.0])) * torch.randn(
        len(boxes), 2, 3, generator=generator, dtype=torch.float64
    )
    matte = torch.rand(len(boxes), 1, 3, 2, generator=generator, dtype=torch.float64)
    alpha = draw(st.sampled_from([None, matte[:, 0, 0, 0], matte]))
    scene = Scene(
        images, torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), theta, torch.tensor(obj_to_img).long()
    )
    return scene, alpha


@given(
    random_scenes(),
    st.fixed_dictionaries(
        {
            "padding_mode": st.sampled_from(PADDINGS),
            "align_corners": st.booleans(),
            "sequential": st.booleans(),
        }
    ),
)
@settings(STEADY, max_examples=300)
def test_random_scenes_equal_the_oracle(scene_and_alpha, options):
    scene, alpha = scene_and_alpha
    actual = kp.affine_patches(*scene, alpha=alpha, **options)
    assert_close(actual, oracle.affine_patches(*scene, alpha=alpha, **options), 1e-9)


@given(random_scenes(), st.booleans(), st.booleans())
@settings(STEADY, max_examples=60)
def test_random_crops_and_pastes_equal_the_oracle(scene_and_alpha, align_corners, sharp):
    (images, boxes, _, obj_to_img), alpha = scene_and_alpha
    size = (2, 5) if sharp else (7, 3)
    options = {"mode": "bilinear", "align_corners": align_corners}
    for padding_mode in ("zeros", "border", "reflection"):
        crops = kp.crop_patches(images, boxes, obj_to_img, size, padding_mode=padding_mode, **options)
        expected = oracle.crop_patches(images, boxes, obj_to_img, size, padding_mode=padding_mode, **options)
        assert_close(crops, expected, 1e-9)
    pasted = kp.paste_patches(images, 1 - crops, boxes, obj_to_img, alpha=alpha, **options)
    assert_close(pasted, oracle.paste_patches(images, 1 - crops, boxes, obj_to_img, alpha=alpha, **options), 1e-9)


@given(random_scenes(), st.sampled_from([1e3, 1e8, 1e30, 3e38]), st.integers(0, 2**20), st.booleans())
@settings(STEADY, max_examples=80)
def test_huge_theta_gives_finite_results_and_gradients(scene_and_alpha, size, seed, sequential):
    (images, boxes, _, obj_to_img), _ = scene_and_alpha
    generator = torch.Generator().manual_seed(seed)
    wild = (2 * torch.rand(len(boxes), 2, 3, generator=generator) - 1) * size
    for padding_mode in PADDINGS:
        for mode in MODES:
            leaves = [t.float().requires_grad_() for t in (images, boxes, wild)]
            painted = kp.affine_patches(
                *leaves, obj_to_img, padding_mode=padding_mode, mode=mode, sequential=sequential
            )
            assert painted.isfinite().all()
            assert painted.min() > -1e-5
            assert painted.max() < 1 + 1e-5
            painted.sum().backward()
            assert leaves[0].grad.isfinite().all()
            if size < 1e30:  # beyond, theta times a box's size has no float32
                assert all(leaf.grad.isfinite().all() for leaf in leaves)


SCENE = Scene(
    torch.rand(2, 3, 6, 8),
    torch.tensor([[0.0, 0, 4, 4], [1, 2, 7, 5]]),
    torch.eye(2, 3).repeat(2, 1, 1),
    torch.tensor([0, 1]),
)
NAN, INF = float("nan"), float("inf")
ALPHA = torch.ones(2)
BAD_ARGUMENTS = [  # argument, what is passed, error, what its text says
    ("images", [[1.0]], TypeError, r"images: expected a \(B, C, H, W\) tensor, got list"),
    ("images", torch.zeros(2, 3, 6, 8, dtype=torch.uint8), TypeError, r"images: .*torch.uint8.*float\(\) / 255"),
    ("images", torch.zeros(3, 6, 8), ValueError, r"images: expected shape \(B, C, H, W\).* got \(3, 6, 8\)"),
    ("images", torch.zeros(2, 3, 0, 8), ValueError, r"images: .*with channels and pixels, got \(2, 3, 0, 8\)"),
    ("images", torch.zeros(2, 0, 6, 8), ValueError, r"images: .*with channels and pixels, got \(2, 0, 6, 8\)"),
    ("boxes", torch.zeros(2, 5), ValueError, r"boxes: .*\(N, 4\).* got \(2, 5\)"),
    ("boxes", torch.zeros(2, 4, dtype=torch.bool), TypeError, r"boxes: .*torch.bool"),
    ("boxes", torch.zeros(2, 4, dtype=torch.complex64), TypeError, r"boxes: .*complex64"),
    ("boxes", "abcd", TypeError, r"boxes: "),
    ("boxes", [torch.zeros(2, 4)] * 2, ValueError, r"obj_to_img: .*leave obj_to_img out"),
    (
        "boxes",
        torch.tensor([[0, 0, 4, 4], [7, 2, 1, 5]]),
        ValueError,
        r"x2 >= x1.*\[7.0, 2.0, 1.0, 5.0\] in row 1.*xywh",
    ),
    ("boxes", torch.tensor([[0, 4, 4, 0], [1, 2, 7, 5]]), ValueError, r"y2 >= y1.*row 0"),
    ("boxes", torch.tensor([[0, 0, 4, 4], [1, NAN, 7, 5]]), ValueError, r"boxes: expected finite.*row 1"),
    ("boxes", torch.tensor([[0, 0, INF, 4], [1, 1, 7, 5]]), ValueError, r"boxes: expected finite.*row 0"),
    ("boxes", torch.tensor([[0, 0, 4e7, 4], [1, 1, 7, 5]]), ValueError, r"boxes: .*16777216.*row 0"),
    ("theta", torch.zeros(2, 4), ValueError, r"theta: .*\(N, 6\) or \(N, 2, 3\), got \(2, 4\)"),
    ("theta", torch.zeros(3, 6), ValueError, r"theta: expected one row a box \(2\), got 3"),
    ("theta", torch.zeros(2, 6, dtype=torch.int64), TypeError, r"theta: expected a floating .*int64"),
    ("theta", None, TypeError, r"theta: .*NoneType"),
    ("theta", torch.full((2, 6), NAN), ValueError, r"theta: expected finite.*row 0"),
    ("theta", torch.tensor([[1.0, 0, 0, 0, 1, 0], [1, 0, INF, 0, 1, 0]]), ValueError, r"theta: .*inf.*row 1"),
    ("obj_to_img", torch.tensor([0]), ValueError, r"obj_to_img: expected shape \(2,\).*got \(1,\)"),
    ("obj_to_img", torch.tensor([[0, 1]]), ValueError, r"obj_to_img: .*\(1, 2\)"),
    ("obj_to_img", torch.tensor([0.0, 1.0]), TypeError, r"obj_to_img: expected an integer .*float32"),
    ("obj_to_img", torch.tensor([False, True]), TypeError, r"obj_to_img: .*bool"),
    ("obj_to_img", torch.tensor([0, 2]), ValueError, r"obj_to_img: .*\[0, 2\), got 2 in row 1"),
    ("obj_to_img", torch.tensor([-1, 0]), ValueError, r"obj_to_img: .*got -1 in row 0"),
    ("obj_to_img", None, ValueError, r"obj_to_img: flat boxes in 2 images.*list"),
    (
        "alpha",
        torch.ones(3),
        ValueError,
        r"alpha: expected shape \(2,\), \(2, 1, h, w\) or, of masks .*\(2, 6, 8\), got \(3,\)",
    ),
    ("alpha", torch.ones(2, 3, 4, 4), ValueError, r"alpha: "),
    ("alpha", torch.ones(2, 1, 0, 4), ValueError, r"alpha: "),
    ("alpha", torch.ones(2, dtype=torch.int64), TypeError, r"alpha: expected a floating"),
    ("alpha", 0.5, TypeError, r"alpha: .*float"),
    ("mode", "bicubic", ValueError, r"mode: expected one of 'bilinear', 'nearest', got 'bicubic'"),
    ("mode", ["nearest"], ValueError, r"mode: "),
    ("padding_mode", "wrap", ValueError, r"padding_mode: expected one of 'zeros', .*'transparent', got 'wrap'"),
    ("align_corners", None, ValueError, r"align_corners: expected one of False, True, got None"),
    ("sequential", "yes", ValueError, r"sequential: "),
    ("patch_size", 4, ValueError, r"patch_size: expected \(height, width\)"),
    ("patch_size", (0, 4), ValueError, r"patch_size: "),
    ("patch_size", (4.0, 4), ValueError, r"patch_size: "),
]


@pytest.mark.parametrize(("name", "value", "error", "text"), BAD_ARGUMENTS)
def test_a_bad_argument_is_named_with_what_came_and_what_to_do(name, value, error, text):
    arguments = {**SCENE._asdict(), "alpha": ALPHA, name: value}
    with pytest.raises(error, match=text):
        kp.affine_patches(**arguments)


def test_good_arguments_raise_nothing():
    kp.affine_patches(**SCENE._asdict(), alpha=ALPHA)


def test_a_device_that_differs_is_named():
    for name in ("boxes", "theta", "obj_to_img", "alpha"):
        arguments = {**SCENE._asdict(), "alpha": ALPHA}
        arguments[name] = arguments[name].to("meta")
        with pytest.raises(ValueError, match=rf"{name}: expected the images' device cpu, got meta.*{name}.to"):
            kp.affine_patches(**arguments)


def test_per_image_boxes_of_the_wrong_number_of_images_are_named():
    theta = torch.eye(2, 3).expand(3, 2, 3)
    with pytest.raises(ValueError, match=r"boxes of 2 images.*got 3"):
        kp.affine_patches(SCENE.images, [torch.zeros(1, 4)] * 3, theta)
    with pytest.raises(ValueError, match=r"boxes of 2 images.*got 1"):
        kp.affine_patches(SCENE.images, torch.zeros(1, 3, 4), theta)
    with pytest.raises(ValueError, match=r"boxes\[1\]: expected shape \(n, 4\), got \(2, 5\)"):
        kp.affine_patches(SCENE.images, [torch.zeros(1, 4), torch.zeros(2, 5)], theta)


anything = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.text(max_size=3),
    st.builds(
        lambda shape, dtype, value: torch.full(shape, value).to(dtype),
        st.lists(st.integers(0, 4), max_size=4),
        st.sampled_from([torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool]),
        st.sampled_from([0.0, 1.0, -1.0, 5.0, NAN, INF, -INF, 1e30]),
    ),
)


@given(st.dictionaries(st.sampled_from([*SCENE._fields, "alpha", "patch_size"]), anything, min_size=1))
@settings(STEADY, max_examples=400)
def test_any_nonsense_is_refused_or_computed(nonsense):
    """A ValueError or TypeError of our own, which begins with the name of an argument; or a picture."""
    try:
        painted = kp.affine_patches(**{**SCENE._asdict(), **nonsense})
    except (ValueError, TypeError) as error:
        assert str(error).split(":")[0].split("[")[0] in (*SCENE._fields, "alpha", "patch_size")
    else:
        assert painted.shape == nonsense.get("images", SCENE.images).shape
