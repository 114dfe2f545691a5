"""torch.compile with fullgraph=True: values, gradients, draws and errors of eager code, and one graph for every N."""

import shutil

import kornia.augmentation as K
import pytest
import torch
from support.scenes import mattes, scene
from support.versions import of_classes
from support.ways import continued, moved, pasted, peeled, seen, tensors, transplanted
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import kornia_patchaug as kp
from kornia_patchaug import noise

EVERYTHING = {"degrees": 30.0, "translate": (0.2, 0.1), "scale": (0.7, 1.3, 0.8, 1.2), "shear": (-10, 10, -5, 5)}
SOMETIMES = {"p": 0.5, "p_patch": 0.7}
# What Inductor compiles here runs on the CPU, and it needs a compiler of C++ for that.
INDUCTOR = "inductor" if shutil.which("g++") or shutil.which("clang++") else "aot_eager"
ops = torch.ops.kornia_patchaug

# Inductor imports parts of torch that use what torch has deprecated.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def fresh():
    """Each test compiles for itself: a graph of another would pass for one of its own."""
    torch._dynamo.reset()
    torch.manual_seed(0)


def compiled(function, backend="aot_eager"):
    return torch.compile(function, fullgraph=True, backend=backend)


def random(**options):
    return kp.RandomPatchAffine(**EVERYTHING, **{**SOMETIMES, **options})


def many(count: int, batch: int = 2) -> dict[str, Tensor]:
    """Some objects, and where they are."""
    corner, size = 9 * torch.rand(count, 2), 2 + 6 * torch.rand(count, 2)
    theta = torch.eye(2, 3) + 0.2 * torch.randn(count, 2, 3)
    index = torch.arange(count) % batch
    return {"boxes": torch.cat([corner, corner + size], dim=1), "theta": theta, "obj_to_img": index}


def same(actual, expected, tolerance=0.0):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def with_gradients(function, inputs: dict[str, Tensor], **options):
    """What the function returns, and the gradients of its floating inputs."""
    leaves = {k: v.detach().clone().requires_grad_(v.is_floating_point()) for k, v in inputs.items()}
    output = function(**leaves, **options)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    return output, torch.autograd.grad((output * weight).sum(), [v for v in leaves.values() if v.requires_grad])


# --- the function -----------------------------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"mode": "nearest", "padding_mode": "border", "align_corners": True},
    {"padding_mode": "reflection", "alpha": mattes(6)["number"]},
    {"padding_mode": "transparent", "alpha": mattes(6)["matte"], "sequential": True},
    {"padding_mode": "image", "sequential": True},
    {"padding_mode": "transparent", "patch_size": (5, 7)},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_function_and_its_gradients_are_those_of_eager_code(options):
    inputs = scene("fractional")._asdict() | {k: v[:4] for k, v in options.items() if k == "alpha"}
    options = {k: v for k, v in options.items() if k != "alpha"}
    same(
        with_gradients(compiled(kp.affine_patches), inputs, **options),
        with_gradients(kp.affine_patches, inputs, **options),
    )


def test_inductor_runs_the_function_and_its_backward_pass():
    inputs = scene()._asdict()
    same(with_gradients(compiled(kp.affine_patches, INDUCTOR), inputs), with_gradients(kp.affine_patches, inputs))


MASKS = torch.rand(4, 13, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
WAYS = [
    (moved, {"alpha": MASKS}, {"clip": False}),
    (moved, {"alpha": MASKS > 0.4}, {"padding_mode": "border", "align_corners": True}),
    (peeled, {"alpha": mattes(4)["matte"]}, {"clip": False, "grow": 0.3}),
    (peeled, {}, {"padding_mode": "image"}),
    (continued, {"alpha": mattes(4)["number"]}, {"mode": "nearest"}),
    (pasted, {"alpha": MASKS}, {"clip": False}),
    (pasted, {}, {"align_corners": True}),
    (transplanted, {"alpha": MASKS}, {}),
    (transplanted, {}, {"clip": True, "padding_mode": "reflection"}),
    (seen, {}, {"clip": False}),
    (seen, {"alpha": MASKS}, {"padding_mode": "border"}),
]


def gradients_of(way, given: dict[str, Tensor], **options):
    """What a way to paint returns, and the gradients of what has a part in it."""
    leaves = {name: t.detach().clone().requires_grad_(t.is_floating_point()) for name, t in given.items()}
    output = way(**leaves, **options)
    inputs = [t for t in leaves.values() if t.requires_grad]
    return output, torch.autograd.grad(output.square().sum(), inputs, materialize_grads=True, allow_unused=True)


@pytest.mark.parametrize(("way", "alpha", "options"), WAYS)
def test_objects_from_and_to_elsewhere_are_one_graph_and_those_of_eager_code(way, alpha, options):
    given = tensors() | alpha
    same(gradients_of(compiled(way), given, **options), gradients_of(way, given, **options))
    last = {name: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for name, t in given.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = compiled(way)(**last, **options)
    same(output, way(**last, **options))
    assert output.stride() == way(**last, **options).stride()


def test_inductor_runs_what_is_peeled_pasted_and_seen_and_its_backward_pass():
    """What comes of one is the next one's image, with plain functions of torch between them."""

    def chain(images, alpha, **given):
        given["images"] = peeled(images, **given, alpha=alpha, clip=False).sin()
        painted = pasted(**given, clip=False)
        return painted + seen(**given).sum() * painted.mean()

    given = tensors() | {"alpha": MASKS}
    same(gradients_of(compiled(chain, INDUCTOR), given), gradients_of(chain, given), 1e-12)


@pytest.mark.parametrize("wanted", ["images", "theta", "boxes", "alpha"])
def test_a_gradient_may_be_asked_for_alone(wanted):
    inputs = {**scene()._asdict(), "alpha": mattes(5)["number"]}

    def gradient(function):
        leaf = inputs[wanted].clone().requires_grad_()
        return torch.autograd.grad(function(**{**inputs, wanted: leaf}).square().sum(), leaf)

    same(gradient(compiled(kp.affine_patches)), gradient(kp.affine_patches))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_images_of_any_dtype_inside_autocast_too(dtype):
    inputs = scene(dtype=torch.float32)._asdict() | {"images": scene().images.to(dtype)}
    function = compiled(kp.affine_patches)
    expected = with_gradients(kp.affine_patches, inputs)
    same(with_gradients(function, inputs), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(with_gradients(function, inputs), expected)


LAYOUTS = {
    "channels last": lambda images: images.to(memory_format=torch.channels_last),
    "one image for all": lambda images: images[:1].expand_as(images),
    "every second row": lambda images: images.repeat_interleave(2, dim=2)[:, :, ::2],
    "transposed": lambda images: images.mT.contiguous().mT,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_operator_promises_the_strides_that_come_out(name):
    images, *objects = scene()
    images = LAYOUTS[name](images)
    warped = compiled(kp.affine_patches)(images, *objects)
    same(warped, kp.affine_patches(images, *objects))
    assert warped.stride() == kp.affine_patches(images, *objects).stride() == torch.empty_like(images).stride()


def test_boxes_may_come_per_image():
    images, boxes, theta, _ = scene()
    lists = [boxes[:2], boxes[2:2], boxes[2:]]
    padded = torch.stack([boxes[:2], boxes[2:4], boxes[3:]])
    same(compiled(kp.affine_patches)(images, lists, theta), kp.affine_patches(images, lists, theta))
    theta = torch.cat([theta, theta[:1]])
    same(compiled(kp.affine_patches)(images, padded, theta), kp.affine_patches(images, padded, theta))


BAD_WAYS = {
    "fill": (lambda i, o: kp.affine_patches(i, **o, fill="around"), ValueError, "^fill: expected one of None, 'surr"),
    "grow": (lambda i, o: kp.affine_patches(i, **o, grow=-1.0), ValueError, "^grow: expected a share .* got -1.0"),
    "patch_index": (
        lambda i, o: kp.paste_patches(i, i, o["boxes"], o["obj_to_img"], patch_index=torch.tensor([0, 5, 1])),
        ValueError,
        r"^patch_index: expected a patch index in \[0, 2\), got 5 in row 1",
    ),
    "source_boxes": (
        lambda i, o: kp.transplant_patches(
            i, o["boxes"], o["obj_to_img"], source=i[:1], source_boxes=o["boxes"].flip(1)
        ),
        ValueError,
        "^source_boxes: expected x1 y1 x2 y2 .* in row 0",
    ),
    "alpha": (
        lambda i, o: kp.visible_share(**o, size=(9, 9), alpha=torch.ones(3, 16, 18)),
        ValueError,
        r"^alpha: expected shape .*\(3, 9, 9\), got \(3, 16, 18\)",
    ),
}


@pytest.mark.parametrize("name", BAD_WAYS)
def test_errors_of_objects_from_elsewhere_keep_their_type_and_text(name):
    call, kind, text = BAD_WAYS[name]
    for function in (call, compiled(call)):
        with pytest.raises(kind, match=text):
            function(torch.rand(2, 3, 16, 18), many(3))


BAD = {
    "obj_to_img": (lambda s: {"obj_to_img": s.obj_to_img + 2}, ValueError, r"^obj_to_img: .*\[0, 3\), got 3 in row 0"),
    "boxes": (lambda s: {"boxes": s.boxes.flip(1)}, ValueError, "^boxes: expected x1 y1 x2 y2 .* in row 0"),
    "theta": (lambda s: {"theta": s.theta / 0}, ValueError, "^theta: expected finite values, .* in row 0"),
    "shape": (lambda s: {"theta": s.theta[:3]}, ValueError, r"^theta: expected one row a box \(5\), got 3"),
    "mode": (lambda s: {"mode": "cubic"}, ValueError, "^mode: expected one of 'bilinear', 'nearest', got 'cubic'"),
    "dtype": (lambda s: {"images": s.images.int()}, TypeError, "^images: expected a floating dtype, got torch.int32"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_keep_their_type_and_text(name):
    change, kind, text = BAD[name]
    arguments = scene()._asdict() | change(scene())
    for function in (kp.affine_patches, compiled(kp.affine_patches)):
        with pytest.raises(kind, match=text):
            function(**arguments)


def test_eager_code_calls_no_operator():
    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.add(function.name())
            return function(*args, **(kwargs or {}))

    called = set()
    images, objects = torch.rand(2, 3, 16, 18), many(3)
    with Calls():
        kp.affine_patches(images, **objects)
        random()(images, objects["boxes"], obj_to_img=objects["obj_to_img"])
    mine = {f"kornia_patchaug::{name}" for name in ("affine_patches", "uniform", "seed", "noise", "checked_index")}
    assert "aten::rand" in {name.partition(".")[0] for name in called}
    assert not mine & called


# --- the classes ------------------------------------------------------------------------------------------------------


def given(module, images, objects):
    return module(images, **objects)


def drawn(module, images, objects):
    return module(images, objects["boxes"], obj_to_img=objects["obj_to_img"])


@of_classes
@pytest.mark.parametrize("options", [{}, {"p": 0.5, "p_patch": 0.5, "sequential": True, "padding_mode": "transparent"}])
def test_a_given_theta_and_its_gradients_are_those_of_eager_code(options):
    inputs = {"input": torch.rand(2, 3, 16, 18), **many(6)}
    module = kp.PatchAffine(**options)
    torch.manual_seed(1)
    expected = with_gradients(module, inputs)
    torch.manual_seed(1)
    same(with_gradients(compiled(module), inputs), expected, 1e-6)


RANDOM = [
    {},
    {"p": 1.0, "patch_size": (5, 6)},
    {"p": 0.8, "p_batch": 0.8, "same_on_batch": True},
    {"keepdim": True, "resample": "nearest", "generator": 4},
]


@of_classes
@pytest.mark.parametrize("options", RANDOM)
def test_draws_are_those_of_eager_code_vary_follow_the_seed_and_replay(options):
    def make():
        seed = options.get("generator")
        return random(**{**options, "generator": None if seed is None else torch.Generator().manual_seed(seed)})

    eager, module, other = make(), make(), make()
    function, images, objects = compiled(module), torch.rand(2, 3, 16, 18), many(6)
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        expected = [drawn(eager, images, objects) for _ in range(6)]
        torch.manual_seed(seed)
        results.append([drawn(function, images, objects) for _ in range(6)])
        same(results[-1], expected)
        same(module._params, eager._params)
        same(other(images, params=module._params), results[-1][-1])
        same(function(images, params=module._params), results[-1][-1])
    first, again, another = (torch.stack(result) for result in results)
    assert len(first.flatten(1).sum(1).unique()) > 1
    assert torch.equal(first, again) == ("generator" not in options)
    assert not torch.equal(first, another)


@of_classes
@pytest.mark.parametrize(("backend", "order"), [("aot_eager", [0, 1, 0]), (INDUCTOR, [0, 1])])
def test_like_draws_of_one_graph_are_taken_one_after_another(backend, order):
    """A graph with a backward pass has like calls merged. Inductor's sines and cosines end in other digits."""
    modules = [kp.RandomPatchAffine(30.0, **SOMETIMES, learnable=True) for _ in range(2)]
    images, objects = torch.rand(2, 3, 16, 18), many(6)

    def run(images):
        outputs, thetas = [], []
        for module in [modules[k] for k in order]:
            outputs.append(drawn(module, images, objects))
            thetas.append(module._params["theta"])
        return outputs, thetas

    torch.manual_seed(3)
    expected = run(images)
    torch.manual_seed(3)
    found = compiled(run, backend)(images)
    same(found, expected, 1e-4)
    assert len(torch.stack(found[1]).detach().flatten(1).sum(1).unique()) == len(order)


@of_classes
def test_gradients_reach_learnable_ranges():
    module, inputs = random(p=1.0, learnable=True), {"input": torch.rand(2, 3, 16, 18), **many(6)}
    del inputs["theta"]

    def gradients(function):
        torch.manual_seed(2)
        module.zero_grad()
        function(**inputs).square().sum().backward()
        return [parameter.grad for parameter in module.parameters()]

    found = gradients(compiled(module))
    same(found, gradients(module), 1e-5)
    assert [len(gradient) for gradient in found] == [1, 2, 4, 4]
    assert all(gradient.all() for gradient in found)


@of_classes
def test_a_sequence_of_kornias_is_one_graph_with_objects_that_are_bound():
    images, objects = torch.rand(2, 3, 16, 18), many(6)
    augmentation = random().bind(objects["boxes"], obj_to_img=objects["obj_to_img"])
    sequence = K.AugmentationSequential(augmentation, K.RandomHorizontalFlip(p=1.0))
    torch.manual_seed(4)
    expected = sequence(images)
    torch.manual_seed(4)
    same(compiled(sequence)(images), expected)


@of_classes
def test_a_wrong_index_is_the_same_error_in_the_classes():
    objects = many(6)
    objects["obj_to_img"][2] = 7
    for module in (kp.PatchAffine(), compiled(kp.PatchAffine())):
        with pytest.raises(ValueError, match=r"^obj_to_img: expected .*\[0, 2\), got 7 in row 2"):
            module(torch.rand(2, 3, 16, 18), **objects)


@of_classes
def test_an_error_found_while_tracing_is_told_by_torch_with_its_text():
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"ValueError.*RandomPatchAffine has no boxes"):
        compiled(random())(torch.rand(2, 3, 16, 18))


# --- other sizes ------------------------------------------------------------------------------------------------------


def bound(module, images, objects):
    getattr(module, "_orig_mod", module).bind(objects["boxes"], obj_to_img=objects["obj_to_img"])
    return module(images)


def from_a_bank(function, images, objects):
    boxes, owners, theta = objects["boxes"], objects["obj_to_img"], objects["theta"]
    return function(images, BANK, boxes, owners, theta=theta, patch_index=owners % 2, clip=False)


def filled(function, images, objects):
    return function(images, **objects, clip=False, fill="surroundings")


def cropped(function, images, objects):
    return function(images, objects["boxes"], objects["obj_to_img"], size=(4, 5))


def shares(function, images, objects):
    return function(**objects, size=(16, 18)).sum() * images


BANK = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(5))
SIZES = {
    "function": (lambda: kp.affine_patches, given),
    "paste_patches": (lambda: kp.paste_patches, from_a_bank),
    "affine_patches with a fill": (lambda: kp.affine_patches, filled),
    "crop_patches": (lambda: kp.crop_patches, cropped),
    "visible_share": (lambda: kp.visible_share, shares),
    "PatchAffine": (kp.PatchAffine, given),
    "RandomPatchAffine": (random, drawn),
    "bound": (random, bound),
}


@of_classes
@pytest.mark.parametrize("name", SIZES)
def test_one_graph_serves_every_number_of_objects_and_images(name):
    make, call = SIZES[name]
    eager, function = make(), compiled(make())

    def compare(count, batch):
        images, objects = torch.rand(batch, 3, 16, 18), many(count, batch)
        results = []
        for run in (eager, function):
            torch.manual_seed(count)
            results.append(call(run, images.requires_grad_(), objects))
        same(*results)
        results[1].sum().backward()

    compare(6, 2)
    compare(5, 3)  # dynamic shapes set in
    with torch._dynamo.config.patch(error_on_recompile=True):
        for count, batch in ((9, 3), (2, 5), (17, 2), (7, 4)):
            compare(count, batch)


# --- the operators ----------------------------------------------------------------------------------------------------


class SameAgain:
    """A source whose every draw is the same, so that two runs can be compared."""

    generator = property(lambda _: torch.Generator().manual_seed(5))


def operands(kind="fractional", grad=True, layout=torch.contiguous_format, alpha="none"):
    images, *floats, obj_to_img = scene(kind)
    images = images.to(memory_format=layout)
    tensors = [t.requires_grad_(grad) for t in (images, *floats)]
    matte = mattes(len(floats[0]))[alpha]
    return *tensors, obj_to_img, matte if matte is None else matte.requires_grad_(grad)


SOURCE = SameAgain()
NUMBER = noise.number_of(SOURCE)
PLAIN = (None, "bilinear", "zeros", False, False, None, True, None, 0.1)
STEPS = (None, "nearest", "transparent", True, True, [5, 4], True, None, 0.1)
COLOUR = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
FILLED = ("bilinear", "zeros", False, False, None, False, None, 0.1)
SURROUNDED = (None, "bilinear", "zeros", False, False, None, False, "surroundings", 0.2)
GRAD = torch.rand(3, 3, 13, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def detached(tensors):
    return [t if t is None else t.detach() for t in tensors]


OBJ_TO_IMG, BOTH = operands()[3], [True, True, False]
CROPS = torch.rand(4, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
PATCHES = CROPS.clone().requires_grad_(), operands()[2]
ALPHA = operands(alpha="number")[4]
INDEX = torch.tensor([2, 0, 3, 3])
PASTED = operands()[0], PATCHES[0], operands()[1], OBJ_TO_IMG, operands()[2], INDEX, ALPHA
IMAGES, BOXES, THETA = operands()[:3]
TRANSPLANTED = IMAGES, BOXES, OBJ_TO_IMG, operands()[0], operands("partly outside")[1][:4], INDEX % 3, THETA, ALPHA
SEEN = BOXES, THETA, OBJ_TO_IMG, ALPHA, None
CALLS = [
    ("affine_patches", (*operands(), *PLAIN)),
    ("affine_patches", (*operands(layout=torch.channels_last, alpha="matte"), *STEPS)),
    ("affine_patches_backward", (GRAD, *operands(grad=False), *PLAIN, [True, True, True, False, False, False])),
    ("affine_patches", (*operands(alpha="number"), COLOUR.clone().requires_grad_(), *FILLED)),
    ("affine_patches", (*operands(alpha="matte"), *SURROUNDED)),
    ("affine_patches_backward", (GRAD, *operands(grad=False), COLOUR, *FILLED, [True, True, True, False, False, True])),
    (
        "affine_patches_backward",
        (
            GRAD,
            *operands("integer", False, torch.channels_last, "number"),
            *STEPS,
            [True, False, False, False, True, False],
        ),
    ),
    ("crop_patches", (*operands()[:2], OBJ_TO_IMG, [3, 4], "bilinear", "border", True)),
    ("crop_patches_backward", (CROPS, *operands(grad=False)[:2], OBJ_TO_IMG, [3, 4], "nearest", "zeros", False, BOTH)),
    ("warp_patches", (*PATCHES, "bilinear", "reflection", False)),
    ("warp_patches_backward", (CROPS, *detached(PATCHES), "bilinear", "zeros", True, [True, True])),
    ("paste_patches", (*PASTED, "bilinear", "border", False, True)),
    (
        "paste_patches_backward",
        (GRAD, *detached(PASTED), "nearest", "zeros", True, False, [True, True, True, False, True, False, True]),
    ),
    ("transplant_patches", (*TRANSPLANTED, "bilinear", "zeros", False, False)),
    (
        "transplant_patches_backward",
        (
            GRAD,
            *detached(TRANSPLANTED),
            "bilinear",
            "image",
            True,
            True,
            [True, True, False, True, True, False, True, True],
        ),
    ),
    ("visible_share", (*SEEN, 3, [13, 17], "bilinear", "zeros", False, True)),
    (
        "visible_share_backward",
        (
            CROPS[:, 0, 0, 0],
            *detached(SEEN),
            3,
            [13, 17],
            "bilinear",
            "zeros",
            False,
            False,
            [True, True, False, True, False],
        ),
    ),
    ("uniform", (torch.empty(0), 5, NUMBER)),
    ("seed", (torch.empty(0), NUMBER)),
    ("noise", (torch.tensor([3]), 5)),
    ("checked_index", (torch.tensor([3, 0]), 5, "obj_to_img")),
    ("checked_values", (torch.tensor([[1.0, 2, 3, 4]]), None, torch.tensor([4]), 5)),
    ("checked_values", (torch.tensor([[1.0, 2, 3, 4]]), torch.eye(2, 3)[None], torch.tensor([4]), 5)),
]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch 2.14's own, in opcheck
@pytest.mark.parametrize(("name", "arguments"), CALLS)
def test_opcheck_finds_nothing(name, arguments):
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    results = torch.library.opcheck(getattr(ops, name).default, arguments, test_utils=checks)
    assert set(results.values()) == {"SUCCESS"}


def test_every_operator_is_checked():
    registered = {
        name.partition("::")[2] for name in torch._C._dispatch_get_all_op_names() if "kornia_patchaug" in name
    }
    assert registered == {name for name, _ in CALLS}
