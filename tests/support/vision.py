"""torchvision, also beside a torch that its compiled library cannot be loaded into."""

import sys
from functools import cache

import pytest
import torch

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # what it has declared is gone with it


@cache
def torchvision():
    """The module, without which the test is skipped. Before ``import lightning``, which imports it too.

    PyPI's builds are for torch's CUDA build. Beside the CPU build their library is left out in silence, and the import
    ends where Python adds to two of its operators. With these declared the rest of torchvision runs; so that detectors
    do as well, non-maximum suppression is the function below, and RoI align torchvision's own in Python.
    """
    try:
        return pytest.importorskip("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half of it is imported
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.impl("nms", nms, "CPU")
    module = pytest.importorskip("torchvision")
    module.ops.boxes._assert_has_ops = lambda: None
    align = sys.modules["torchvision.ops.roi_align"]  # torchvision.ops.roi_align is the function
    align._roi_align = align._roi_align.__wrapped__  # else it is compiled at the first call, which takes half a minute
    return module


def nms(boxes, scores, iou_threshold):
    """The rows of boxes without those that one of a higher score overlaps by more than the threshold."""
    kept, left = [], scores.argsort(descending=True, stable=True)
    while len(left):
        kept.append(int(left[0]))
        iou = torchvision().ops.box_iou(boxes[left[:1]], boxes[left[1:]])[0]
        left = left[1:][~(iou > iou_threshold)]  # NaN between boxes without area, which stay
    return torch.tensor(kept, dtype=torch.long)
