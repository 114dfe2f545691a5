"""Thetas against Kornia's matrices, scipy-free identities and values by hand; where points and boxes move."""

import math

import pytest
import torch
from kornia.geometry.transform import get_affine_matrix2d
from support.scenes import assert_close

import kornia_patchaug as kp
from kornia_patchaug.frames import clamped, corners_of, enclosing, half_sizes
from kornia_patchaug.theta import outermost

TRUTH = [False, True]
BOXES = torch.tensor([[2.0, 3, 12, 9], [0.25, 1.5, 7.75, 20], [5, 5, 6, 30]], dtype=torch.float64)


def components(seed: int = 0, count: int = 3):
    generator = torch.Generator().manual_seed(seed)
    uniform = lambda *shape: 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1  # noqa: E731
    return 170 * uniform(count), 1 + 0.6 * uniform(count, 2), 0.4 * uniform(count, 2), 40 * uniform(count, 2)


def random_theta(seed: int = 0, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.eye(2, 3, dtype=torch.float64) + 0.4 * torch.randn(
        count, 2, 3, generator=generator, dtype=torch.float64
    )


def homogeneous(theta: torch.Tensor) -> torch.Tensor:
    last = torch.tensor([0.0, 0, 1], dtype=theta.dtype).expand(len(theta), 1, 3)
    return torch.cat([theta.reshape(-1, 2, 3), last], dim=1)


@pytest.mark.parametrize("align_corners", TRUTH)
def test_components_move_content_as_kornias_affine_matrix_does(align_corners):
    """Kornia's matrix maps source to destination pixel centres about the centre of the box, whatever align_corners."""
    angle, scale, translate, shear = components()
    theta = kp.theta_from_components(angle, scale, translate, shear, boxes=BOXES, align_corners=align_corners)
    size = BOXES[:, 2:] - BOXES[:, :2]
    centre = (BOXES[:, :2] + BOXES[:, 2:]) / 2
    matrix = get_affine_matrix2d(translate * size, centre, scale, angle, *torch.deg2rad(shear).unbind(1))
    points = BOXES[:, None, :2] + torch.rand(3, 7, 2, dtype=torch.float64) * size[:, None]
    expected = points @ matrix[:, :2, :2].mT + matrix[:, None, :2, 2]
    moved = kp.move_points(points, BOXES, theta, align_corners=align_corners)
    has_frame = (size > 1).all(1) if align_corners else torch.ones(3, dtype=torch.bool)
    assert_close(moved[has_frame], expected[has_frame], 1e-9)
    assert has_frame.sum() >= 2


def test_without_boxes_components_are_taken_in_the_box_frame():
    angle, scale, translate, shear = components()
    square = torch.tensor([[3.0, 4, 13, 14]], dtype=torch.float64).expand(3, 4)
    expected = kp.theta_from_components(angle, scale, translate, shear, boxes=square)
    assert_close(kp.theta_from_components(angle, scale, translate, shear), expected, 1e-12)


def test_one_scale_is_both():
    angle, scale, translate, shear = components()
    both = scale[:, :1].expand(-1, 2)
    one = kp.theta_from_components(angle, scale[:, 0], translate, shear, boxes=BOXES)
    assert torch.equal(one, kp.theta_from_components(angle, both, translate, shear, boxes=BOXES))


def test_positive_degrees_turn_clockwise_as_displayed():
    """A point at three o'clock goes to six o'clock."""
    zero = torch.zeros(1, 2)
    boxes = torch.tensor([[0, 0, 20, 10]])
    theta = kp.theta_from_components(torch.tensor([90.0]), torch.ones(1), zero, zero, boxes=boxes)
    moved = kp.move_points(torch.tensor([[13.0, 5.0]]), boxes, theta)
    assert moved[0].tolist() == pytest.approx([10, 8], abs=1e-5)


ONE, TWO = torch.ones(1), torch.ones(2)
BAD_COMPONENTS = [  # angle, scale, translate, shear
    ((90.0, ONE, torch.zeros(1, 2), torch.zeros(1, 2)), TypeError, "angle: .*float"),
    ((ONE, ONE.long(), torch.zeros(1, 2), torch.zeros(1, 2)), TypeError, "scale: .*int64"),
    ((ONE, torch.ones(1, 3), torch.zeros(1, 2), torch.zeros(1, 2)), ValueError, r"scale: .*got \(1, 3\)"),
    ((TWO, TWO, torch.zeros(1, 2), torch.zeros(2, 2)), ValueError, r"translate: expected shape \(2, 2\)"),
    ((TWO, TWO, torch.zeros(2, 2), torch.zeros(2)), ValueError, r"shear: .*got \(2,\)"),
    ((TWO[:, None], TWO, torch.zeros(2, 2), torch.zeros(2, 2)), ValueError, r"angle: expected shape \(N,\)"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), BAD_COMPONENTS)
def test_bad_components_say_what_is_wrong(arguments, error, text):
    with pytest.raises(error, match=text):
        kp.theta_from_components(*arguments)


def test_a_lie_parameter_by_hand():
    """The exponential of a turning generator is the turn; of a diagonal, the exponentials; of a shift, the shift."""
    params = torch.tensor(
        [[0, -0.3, 0, 0.3, 0, 0], [0.5, 0, 0, 0, -1, 0], [0, 0, 0.2, 0, 0, -0.7]], dtype=torch.float64
    )
    c, s = math.cos(0.3), math.sin(0.3)
    expected = [[c, -s, 0, s, c, 0], [math.exp(0.5), 0, 0, 0, math.exp(-1), 0], [1, 0, 0.2, 0, 1, -0.7]]
    assert_close(kp.theta_from_lie(params).flatten(1), torch.tensor(expected, dtype=torch.float64), 1e-12)


def test_the_negative_lie_parameter_is_the_inverse():
    params = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(kp.theta_from_lie(-params), kp.invert_theta(kp.theta_from_lie(params)), 1e-9)
    assert kp.theta_from_lie(1e-3 * params.reshape(5, 2, 3)).shape == (5, 2, 3)


def test_inverse_and_composition_are_those_of_matrices():
    first, then = random_theta(1), random_theta(2)
    assert_close(homogeneous(kp.invert_theta(first)), torch.linalg.inv(homogeneous(first)), 1e-9)
    assert_close(homogeneous(kp.compose_theta(first, then.flatten(1))), homogeneous(first) @ homogeneous(then), 1e-12)
    identity = torch.eye(2, 3, dtype=torch.float64).expand(3, 2, 3)
    assert_close(kp.compose_theta(first, kp.invert_theta(first)), identity, 1e-12)


def test_composition_is_one_warp_after_another():
    first, then = random_theta(3), random_theta(4)
    points = torch.rand(3, 5, 2, dtype=torch.float64) * 10
    one_by_one = kp.move_points(kp.move_points(points, BOXES, first), BOXES, then)
    assert_close(kp.move_points(points, BOXES, kp.compose_theta(first, then)), one_by_one, 1e-9)


SINGULAR = [[1, 2, 0, 2, 4, 1], [0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 3, 1], [0.1, 0.3, 0, 0.2, 0.6, 0], [float("nan")] * 6]


@pytest.mark.parametrize("bad", SINGULAR)
def test_a_singular_theta_is_refused_with_its_row(bad):
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0], bad])
    boxes = torch.tensor([[0, 0, 4, 4], [1, 1, 5, 5]])
    for call in (
        lambda: kp.invert_theta(theta),
        lambda: kp.move_boxes(boxes, theta),
        lambda: kp.move_points(torch.zeros(2, 2), boxes, theta),
    ):
        with pytest.raises(ValueError, match=r"theta: expected an invertible matrix.*in row 1\..*theta_from_lie"):
            call()


def test_rounding_makes_no_singular_theta_invertible():
    """One row is a multiple of the other, to rounding: what the determinant is off from 0 is rounding alone."""
    generator = torch.Generator().manual_seed(0)
    rows, factor = torch.randn(200, 1, 2, generator=generator), torch.randn(200, 1, 1, generator=generator)
    linear = torch.cat([rows, factor * rows], dim=1)
    for theta in torch.cat([linear, torch.zeros(200, 2, 1)], dim=2).split(1):
        with pytest.raises(ValueError, match=r"theta: expected an invertible matrix.*in row 0\."):
            kp.invert_theta(theta)


def test_a_slim_box_that_turns_is_not_singular():
    boxes = torch.tensor([[0, 0, 5000, 1]])
    none = torch.zeros(1, 2)
    theta = kp.theta_from_components(torch.tensor([45.0]), torch.ones(1), none, none, boxes=boxes)
    moved = kp.move_points(torch.tensor([[5000.0, 0.5]]), boxes, theta)
    assert_close(moved, [[2500 + 2500 * 0.5**0.5, 0.5 + 2500 * 0.5**0.5]], 1e-2)


def test_a_small_or_large_theta_is_not_singular():
    for size in (1e-30, 1e-12, 1e12, 1e30):
        theta = size * torch.eye(2, 3)[None]
        assert_close(kp.invert_theta(theta)[0, 0, 0] * size, 1.0, 1e-6)


def test_points_go_where_the_warp_shows_them():
    """A blob of light is painted, the patch warped, and the blob found again where move_points says."""
    y, x = torch.meshgrid(torch.arange(60.0) + 0.5, torch.arange(80.0) + 0.5, indexing="ij")
    box = torch.tensor([[10.0, 8, 70, 52]])
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        theta = torch.eye(2, 3)[None] + 0.15 * torch.randn(1, 2, 3, generator=generator)
        blob = torch.tensor([[38.0 + seed, 31 - seed]])
        picture = torch.exp(-((x - blob[0, 0]) ** 2 + (y - blob[0, 1]) ** 2) / 8)[None, None]
        light = kp.affine_patches(picture, box, theta)[0, 0]
        found = torch.stack([(light * x).sum(), (light * y).sum()]) / light.sum()
        assert (found - kp.move_points(blob, box, theta)[0]).abs().max() < 0.05


def test_a_box_becomes_the_enclosing_box_of_its_moved_corners():
    theta, boxes = random_theta(5), BOXES
    corners = torch.stack([boxes[:, [0, 1]], boxes[:, [2, 1]], boxes[:, [2, 3]], boxes[:, [0, 3]]], dim=1)
    moved = kp.move_points(corners, boxes, theta)
    expected = torch.cat([moved.amin(1), moved.amax(1)], dim=1)
    assert_close(kp.move_boxes(boxes, theta, clip=False), expected, 1e-12)
    window = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1)
    clipped = torch.maximum(torch.minimum(expected.view(3, 2, 2), window[:, None, 2:]), window[:, None, :2]).view(3, 4)
    assert_close(kp.move_boxes(boxes, theta), clipped, 1e-12)


def ellipse_polygon(boxes: torch.Tensor, count: int = 1000) -> torch.Tensor:
    """Points ``(N, count, 2)`` of the ellipses inscribed in boxes."""
    t = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    circle = torch.stack([t.cos(), t.sin()], dim=1)
    return (boxes[:, None, :2] + boxes[:, None, 2:]) / 2 + (boxes[:, None, 2:] - boxes[:, None, :2]) / 2 * circle


LABELS = {
    "its own box": BOXES,
    "a box beside it": torch.tensor([[4.0, 1, 15, 6], [1, 2, 5, 3], [5, 0, 9, 50]]).double(),
}


@pytest.mark.parametrize("align_corners", TRUTH)
@pytest.mark.parametrize("which", LABELS)
def test_an_ellipse_becomes_the_enclosing_box_of_its_moved_points(which, align_corners):
    """A chord of a polygon of 1000 points lies within 5e-6 of the half size from its ellipse."""
    theta, labels = random_theta(5), LABELS[which]
    points = kp.move_points(ellipse_polygon(labels), BOXES, theta, align_corners=align_corners)
    expected = torch.cat([points.amin(1), points.amax(1)], dim=1)
    corners = kp.move_points(corners_of(labels), BOXES, theta, align_corners=align_corners)
    assert_close(enclosing(outermost(corners, "ellipse")), expected, 1e-3)
    if labels is BOXES:
        options = {"align_corners": align_corners, "outline": "ellipse"}
        assert_close(kp.move_boxes(BOXES, theta, clip=False, **options), expected, 1e-3)
        low, high = torch.cat([BOXES[:, :2].floor(), BOXES[:, 2:].ceil()], dim=1).split(2, dim=1)
        clipped = torch.cat([expected[:, :2].clamp(low, high), expected[:, 2:].clamp(low, high)], dim=1)
        assert_close(kp.move_boxes(BOXES, theta, **options), clipped, 1e-3)


def test_the_box_of_a_turned_disk_fits_and_that_of_its_corners_is_loose():
    """The box of a square's corners is sin + cos times as wide as the square, that of the disk in it as the disk.

    So their intersection over union is 1 / (sin + cos)^2.
    """
    angle, none = torch.tensor([10.0, 30, 45], dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    boxes = torch.tensor([[3.0, 5, 23, 25]], dtype=torch.float64).expand(3, 4)
    theta = kp.theta_from_components(angle, torch.full_like(angle, 0.6), none, none, boxes=boxes)
    fits = kp.move_boxes(boxes, theta, outline="ellipse")
    assert_close(fits, torch.tensor([[7.0, 9, 19, 21]], dtype=torch.float64).expand(3, 4), 1e-12)
    loose = kp.move_boxes(boxes, theta)
    area = lambda box: (box[:, 2:] - box[:, :2]).prod(1)  # noqa: E731
    assert_close(area(fits) / area(loose), [0.745145, 0.535898, 0.5], 1e-6)


def test_an_ellipse_without_size_has_finite_gradients():
    """A point, and ellipses without width or height: a length of 0 has no slope, here 0."""
    rows = [[4.0, 4, 4, 4], [2, 3, 2, 9], [2, 3, 8, 3]]
    boxes, theta = torch.tensor(rows, requires_grad=True), torch.eye(2, 3).repeat(3, 1, 1).requires_grad_()
    moved = kp.move_boxes(boxes, theta, outline="ellipse")
    assert moved.tolist() == rows
    for grad in torch.autograd.grad(moved[:, 2:].sum(), (boxes, theta)):
        assert grad.isfinite().all()
    (grad,) = torch.autograd.grad(kp.move_boxes(boxes, theta.detach(), outline="ellipse")[:, 3].sum(), boxes)
    assert grad[1].tolist() == [0, 0, 0, 1]


def test_another_outline_is_refused():
    with pytest.raises(ValueError, match=r"^outline: expected one of 'box', 'ellipse', got 'round'"):
        kp.move_boxes(BOXES, random_theta(), outline="round")


def test_identity_leaves_boxes_and_points():
    identity = torch.eye(2, 3, dtype=torch.float64).expand(3, 2, 3)
    for align_corners in TRUTH:
        for outline in ("box", "ellipse"):
            moved = kp.move_boxes(BOXES, identity, align_corners=align_corners, outline=outline)
            assert_close(moved, BOXES, 1e-12)
    for outline in ("box", "ellipse"):
        assert kp.move_boxes(torch.zeros(0, 4), torch.zeros(0, 6), outline=outline).shape == (0, 4)
    assert kp.move_points(torch.zeros(0, 3, 2), torch.zeros(0, 4), torch.zeros(0, 6)).shape == (0, 3, 2)


BOUNDS = {"numbers": (0.0, 2.0), "tensors": (torch.tensor([0.0]), torch.tensor([2.0])), "one": (0.0, torch.inf)}


@pytest.mark.parametrize("kind", BOUNDS)
def test_a_clamped_number_has_a_gradient_up_to_its_bounds_and_at_them(kind):
    low, high = BOUNDS[kind]
    x = torch.tensor([-1.0, 0, 1, 2, 3, float("nan")], requires_grad=True)
    value = clamped(x, low, high)
    torch.testing.assert_close(value, x.clamp(low, high), rtol=0, atol=0, equal_nan=True)
    (grad,) = torch.autograd.grad(value.sum(), x)
    assert grad[:-1].tolist() == [0, 1, 1, 1, float(high == torch.inf)]


def test_half_a_frame_has_the_gradient_of_its_box_until_it_has_no_width():
    """Half of x2 - x1 - 1, and 0 below: boxes 3, 1 and 0.5 pixels wide."""
    boxes = torch.tensor([[2.0, 0, 5, 9], [2, 0, 3, 9], [2, 0, 2.5, 9]], requires_grad=True)
    half = half_sizes(boxes, align_corners=True)
    assert half.tolist() == [[1, 4], [0, 4], [0, 4]]
    (grad,) = torch.autograd.grad(half[:, 0].sum(), boxes)
    assert grad.tolist() == [[-0.5, 0, 0.5, 0], [-0.5, 0, 0.5, 0], [0, 0, 0, 0]]


def test_a_box_at_the_border_of_its_window_moves_with_theta_and_one_beyond_does_not():
    """Content shifts by -theta[0, 2] half widths of 4: at the identity x1 and x2 stand at the borders 0 and 8."""
    boxes = torch.tensor([[0, 0, 8, 4], [0, 0, 8, 4]])
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0], [1, 0, -0.5, 0, 1, 0]], requires_grad=True)
    moved = kp.move_boxes(boxes, theta)
    assert moved.tolist() == [[0, 0, 8, 4], [2, 0, 8, 4]]
    x1, x2 = (torch.autograd.grad(moved[:, k].sum(), theta, retain_graph=True)[0][:, 2] for k in (0, 2))
    assert (x1.tolist(), x2.tolist()) == ([-4, -4], [-4, 0])


BAD_THETAS = [
    (lambda: kp.theta_from_lie(torch.zeros(1, 5)), r"params: expected shape .*got \(1, 5\)"),
    (lambda: kp.compose_theta(torch.zeros(1, 5), torch.zeros(1, 6)), "first: expected shape"),
    (lambda: kp.compose_theta(torch.zeros(1, 6), torch.zeros(1, 5)), "then: expected shape"),
    (
        lambda: kp.compose_theta(torch.zeros(3, 6), torch.zeros(2, 6)),
        r"then: expected one row a row of first \(3\), got 2",
    ),
]


@pytest.mark.parametrize(("call", "text"), BAD_THETAS)
def test_a_bad_theta_is_called_by_the_name_of_its_argument(call, text):
    with pytest.raises(ValueError, match="^" + text):
        call()


@pytest.mark.parametrize("outline", ["box", "ellipse"])
def test_everything_is_differentiable(outline):
    arguments = [t.requires_grad_() for t in (*components(7), BOXES.clone())]

    def moved(angle, scale, translate, shear, boxes):
        theta = kp.theta_from_components(angle, scale, translate, shear, boxes=boxes)
        return kp.move_boxes(
            boxes, kp.compose_theta(theta, kp.theta_from_lie(0.1 * theta)), clip=False, outline=outline
        )

    assert torch.autograd.gradcheck(moved, arguments)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_mix_and_are_computed_in_the_widest(narrow):
    """Values that every dtype holds exactly, so that all that is left is the precision of the computation."""
    boxes, points = torch.tensor([[2.0, 3, 10, 7]]), torch.tensor([[5.0, 4.5]])
    theta = torch.tensor([[0.75, -0.25, 0.5, 0.125, 1.5, 0]])
    exact = kp.move_points(points.double(), boxes.double(), theta.double())
    for one, other in ((narrow, torch.float64), (torch.float64, narrow)):
        moved = kp.move_points(points.to(one), boxes.to(narrow), theta.to(other))
        assert moved.dtype == torch.float64
        assert_close(moved, exact, 1e-12)
        composed = kp.compose_theta(theta.to(one), theta.to(other))
        assert_close(composed, kp.compose_theta(theta.double(), theta.double()), 1e-12)
    assert_close(kp.move_points(points.to(narrow), boxes.int(), theta.to(narrow)), exact, 1e-5)
    assert_close(kp.invert_theta(theta.to(narrow)), kp.invert_theta(theta.double()), 1e-5)
    assert_close(kp.theta_from_lie(theta.to(narrow)), kp.theta_from_lie(theta.double()), 1e-5)
    angle, both, none = torch.tensor([32.0]), torch.tensor([0.75]), torch.zeros(1, 2)
    mixed = kp.theta_from_components(angle.to(narrow), both, none.double(), none, boxes=boxes.int())
    assert mixed.dtype == torch.float64
    assert_close(kp.move_boxes(boxes.to(narrow), mixed), kp.move_boxes(boxes.double(), mixed), 1e-12)
