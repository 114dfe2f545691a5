"""What is used of Kornia beyond its public names: each is there, means what it is used for, and has one home."""

import ast
import inspect
import re
from pathlib import Path

import kornia.augmentation as K
import pytest
import torch
from kornia.augmentation.container import ops, params
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints

import kornia_patchaug as kp
from kornia_patchaug.kornia_names import CALL_STATE

PACKAGE = Path(kp.__file__).parent
BOXES = Boxes([torch.ones(2, 4, 2), torch.ones(1, 4, 2)])


def augmentation():
    step = K.RandomAffine(10.0, p=0.5)
    step(torch.rand(2, 1, 8, 8))
    return step


def container():
    sequence = K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), data_keys=["input"])
    sequence(torch.rand(2, 1, 8, 8))
    return sequence


def video(step, **options):
    return K.VideoSequential(step, **options).forward_parameters(torch.Size([2, 3, 1, 8, 8]))[0].data


def shared_seeds():
    """How often a seed of one number is repeated for two clips of three frames."""
    kinds = [(True, False), (False, True), (True, True), (False, False)]  # same_on_batch, same_on_frame
    return [len(video(kp.RandomPatchAffine(9.0, same_on_batch=b), same_on_frame=f)["seed"]) for b, f in kinds]


NAMES = {
    "Boxes._data": lambda: BOXES._data is BOXES.data and BOXES.data.shape == (2, 2, 4, 2),
    "Boxes._valid": lambda: BOXES._valid.shape == (2, 2) and BOXES._valid.dtype == torch.bool,
    "Boxes._N": lambda: BOXES._N == [0, 1],
    "Keypoints._data": lambda: Keypoints(torch.ones(1, 2, 2))._data.shape == (1, 2, 2),
    "augmentation._gate": lambda: (
        augmentation()._gate({"batch_prob": torch.tensor([0.0, 1.0])}).tolist() == [False, True]
    ),
    "augmentation._params": lambda: "batch_prob" in augmentation()._params,
    "augmentation._transform_matrix_params": lambda: "batch_prob" in augmentation()._transform_matrix_params,
    "augmentation._transform_matrix_params_snapshot": lambda: bool(augmentation()._transform_matrix_params_snapshot),
    "augmentation._lazy_matrix_args": lambda: hasattr(augmentation(), "_lazy_matrix_args"),
    "container._params": lambda: [item.name for item in container()._params] == ["RandomHorizontalFlip_0"],
    "container._preproc_boxes": lambda: (
        list(inspect.signature(container()._preproc_boxes).parameters) == ["arg", "dcate"]
    ),
    "container._update_transform_matrix_by_module": lambda: callable(container()._update_transform_matrix_by_module),
    "container.contains_video_sequential": lambda: container().contains_video_sequential is False,
    "container.transform_op": lambda: isinstance(container().transform_op, ops.AugmentationSequentialOps),
    "container.ops": lambda: (
        {"module", "param", "extra_args", "data_keys"}
        < set(inspect.signature(ops.AugmentationSequentialOps.transform).parameters)
    ),
    "container.params": lambda: params.ParamItem._fields == ("name", "data"),
    "video_batch_size": lambda: int(video(K.RandomAffine(9.0))["video_batch_size"]) == 2,
    "a seed that frames share": lambda: shared_seeds() == [2, 3, 6, 1],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_kornia_has_what_is_used_of_it(name):
    assert NAMES[name]()


def used(path):
    """The underscored attributes, and the modules of Kornia, that a file names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and re.fullmatch(r"_[a-zA-Z]\w*", node.attr):
            yield node.attr
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kornia.augmentation.container."):
            yield node.module.removeprefix("kornia.augmentation.")
        if isinstance(node, ast.Constant) and node.value in CALL_STATE:
            yield node.value


def test_one_file_uses_them():
    """But for ``_params``, which Kornia's pages show for replay."""
    tested = {
        name if name.startswith("container.o") or name.startswith("container.p") else name.rpartition(".")[2]
        for name in NAMES
    }
    assert set(used(PACKAGE / "kornia_names.py")) - {"_getframe"} <= tested
    for path in PACKAGE.rglob("*.py"):
        if path.name != "kornia_names.py":
            assert not (set(used(path)) & tested - {"_params"}), path.name
