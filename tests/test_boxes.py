"""Box formats against values written out and against Kornia; flat <-> per image."""

import pytest
import torch
from kornia.geometry.boxes import Boxes

import kornia_patchaug as kp

# The same two boxes of an image of 20 x 40 (height x width) pixels in every format.
SIZE = (20, 40)
SAME = {
    "xyxy": [[4, 2, 12, 8], [0, 10, 40, 20]],
    "xyxy_plus": [[4, 2, 11, 7], [0, 10, 39, 19]],
    "pascal_voc": [[5, 3, 12, 8], [1, 11, 40, 20]],
    "xywh": [[4, 2, 8, 6], [0, 10, 40, 10]],
    "coco": [[4, 2, 8, 6], [0, 10, 40, 10]],
    "cxcywh": [[8, 5, 8, 6], [20, 15, 40, 10]],
    "xyxyn": [[0.1, 0.1, 0.3, 0.4], [0, 0.5, 1, 1]],
    "xywhn": [[0.1, 0.1, 0.2, 0.3], [0, 0.5, 1, 0.5]],
    "cxcywhn": [[0.2, 0.25, 0.2, 0.3], [0.5, 0.75, 1, 0.5]],
    "yolo": [[0.2, 0.25, 0.2, 0.3], [0.5, 0.75, 1, 0.5]],
}


@pytest.mark.parametrize("target", SAME)
@pytest.mark.parametrize("source", SAME)
def test_every_format_becomes_every_other(source, target):
    boxes = torch.tensor(SAME[source], dtype=torch.float64)
    torch.testing.assert_close(
        kp.convert_boxes(boxes, source, target, SIZE), torch.tensor(SAME[target], dtype=torch.float64)
    )


@pytest.mark.parametrize(("ours", "kornias"), [("xyxy", "xyxy"), ("xyxy_plus", "xyxy_plus"), ("xywh", "xywh")])
def test_the_formats_mean_what_they_mean_in_kornia(ours, kornias):
    boxes = Boxes.from_tensor(torch.tensor(SAME["xyxy"]).float(), mode="xyxy")
    converted = kp.convert_boxes(torch.tensor(SAME["xyxy"]).float(), "xyxy", ours)
    torch.testing.assert_close(converted, boxes.to_tensor(kornias))


def test_pascal_voc_means_what_it_means_in_detectron2():
    """Its loader: "they mean 1-based pixel indices (inclusive), a box with annotation (xmin=1, xmax=W) covers the whole
    image. In coordinate space this is represented by (xmin=0, xmax=W)"; bbox[0] -= 1.0, bbox[1] -= 1.0."""
    height, width = SIZE
    whole, one_pixel = [1, 1, width, height], [7, 5, 7, 5]
    boxes = kp.convert_boxes(torch.tensor([whole, one_pixel]), "pascal_voc", "xyxy")
    assert boxes.tolist() == [[0, 0, width, height], [6, 4, 7, 5]]


def test_integers_stay_integers_between_pixel_corners_only():
    boxes = torch.tensor(SAME["xywh"])
    assert kp.convert_boxes(boxes.int(), "xywh", "xyxy_plus").dtype == torch.int64
    assert kp.convert_boxes(boxes.int(), "xywh", "xywh").dtype == torch.int64
    assert kp.convert_boxes(boxes.int(), "coco", "pascal_voc").tolist() == SAME["pascal_voc"]
    assert kp.convert_boxes(boxes.int(), "coco", "pascal_voc").dtype == torch.int64
    assert kp.convert_boxes(torch.tensor([[0, 0, 3, 3]]), "xyxy", "cxcywh").tolist() == [[1.5, 1.5, 3, 3]]
    torch.testing.assert_close(kp.convert_boxes(boxes, "xywh", "xywhn", SIZE), torch.tensor(SAME["xywhn"]))


NARROW = [  # each overflows, wraps or rounds in its own dtype
    (torch.uint8, [200, 100, 100, 60], "xywh", "xyxy", [200, 100, 300, 160], torch.int64),
    (torch.uint8, [0, 0, 255, 255], "xyxy_plus", "xyxy", [0, 0, 256, 256], torch.int64),
    (torch.uint8, [0, 0, 9, 9], "xyxy", "xyxy_plus", [0, 0, 8, 8], torch.int64),
    (torch.uint8, [0, 0, 0, 0], "xyxy", "xyxy_plus", [0, 0, -1, -1], torch.int64),
    (torch.uint8, [1, 1, 255, 255], "pascal_voc", "xyxy", [0, 0, 255, 255], torch.int64),
    (torch.uint8, [255, 0, 255, 9], "xyxy", "pascal_voc", [256, 1, 255, 9], torch.int64),
    (torch.uint8, [200, 100, 100, 60], "coco", "xyxy", [200, 100, 300, 160], torch.int64),
    (torch.int8, [-100, 0, 100, 9], "xyxy", "xywh", [-100, 0, 200, 9], torch.int64),
    (torch.int16, [20000, 0, 20000, 10], "xywh", "xyxy", [20000, 0, 40000, 10], torch.int64),
    (torch.float16, [32768, 0, 49152, 32], "xyxy", "cxcywh", [40960, 16, 16384, 32], torch.float32),
    (torch.float16, [2048, 0, 3, 2], "xywh", "xyxy", [2048, 0, 2051, 2], torch.float32),
    (torch.bfloat16, [256, 0, 1, 2], "xywh", "xyxy", [256, 0, 257, 2], torch.float32),
    (torch.uint8, [201, 3, 255, 4], "xyxy", "cxcywh", [228, 3.5, 54, 1], torch.float32),
    (torch.float64, [1, 2, 3, 4], "xyxy", "xywh", [1, 2, 2, 2], torch.float64),
]


@pytest.mark.parametrize(("dtype", "row", "source", "target", "expected", "result"), NARROW)
def test_sums_of_narrow_numbers_are_exact_and_the_dtype_is_as_stated(dtype, row, source, target, expected, result):
    boxes = torch.tensor([row]).to(dtype)
    converted = kp.convert_boxes(boxes, source, target)
    assert (converted.tolist(), converted.dtype) == ([expected], result)
    if target == "xyxy":
        for given in ([boxes], boxes[None]):
            flat, _ = kp.flatten_boxes(given, source)
            assert (flat.tolist(), flat.dtype) == ([expected], result)


def test_integers_are_not_rounded_to_a_default_dtype_of_half_precision():
    torch.set_default_dtype(torch.bfloat16)
    try:
        converted = kp.convert_boxes(torch.tensor([[1001, 2003, 3001, 4003]]), "xyxy", "cxcywh")
        empty, _ = kp.flatten_boxes([])
    finally:
        torch.set_default_dtype(torch.float32)
    assert converted.tolist() == [[2001, 3003, 2000, 2000]]
    assert converted.dtype == empty.dtype == torch.float32


def test_a_list_of_narrow_dtypes_is_as_wide_as_its_widest():
    rows = [torch.tensor([[200, 0, 100, 9]], dtype=torch.uint8), torch.tensor([[2048.0, 0, 3, 2]]).half()]
    flat, _ = kp.flatten_boxes(rows, "xywh")
    assert (flat.tolist(), flat.dtype) == ([[200, 0, 300, 9], [2048, 0, 2051, 2]], torch.float32)


def test_conversion_takes_any_leading_shape_and_gradients():
    boxes = torch.rand(2, 3, 5, 4, requires_grad=True)
    kp.convert_boxes(boxes, "cxcywh", "xyxy").sum().backward()
    assert torch.equal(boxes.grad, torch.tensor([2.0, 2, 0, 0]).expand(2, 3, 5, 4))
    assert kp.convert_boxes(torch.zeros(0, 4), "xywh", "xyxy").shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((torch.zeros(3, 5), "xywh", "xyxy"), ValueError, r"boxes: expected shape \(..., 4\), got \(3, 5\)"),
        ((torch.zeros(3, 4), "xyhw", "xyxy"), ValueError, "source: expected one of xyxy, .*got 'xyhw'"),
        ((torch.zeros(3, 4), "xywh", "voc"), ValueError, "target: .*, pascal_voc, .*, coco, yolo, got 'voc'"),
        ((torch.zeros(3, 4), "xywhn", "xyxy"), ValueError, r"size: expected \(height, width\).* got None"),
        ((torch.zeros(3, 4), "yolo", "coco"), ValueError, r"size: expected \(height, width\).* got None"),
        ((torch.zeros(3, 4), "xywhn", "xyxy", (4, 0)), ValueError, r"size: .*got \(4, 0\)"),
        ((torch.zeros(3, 4), "xyxy", "xywhn", 5), ValueError, "size: .*got 5"),
        (([[0, 0, 1, 1]], "xywh", "xyxy"), TypeError, "boxes: .*list"),
    ],
)
def test_bad_conversions_say_what_is_wrong(arguments, error, text):
    with pytest.raises(error, match=text):
        kp.convert_boxes(*arguments)


def test_a_list_becomes_flat_and_a_list_again():
    rows = [torch.tensor([[0, 0, 2, 3], [4, 4, 1, 1]]), torch.zeros(0, 4).long(), torch.tensor([[1, 2, 3, 4]])]
    boxes, obj_to_img = kp.flatten_boxes(rows, mode="xywh")
    assert boxes.tolist() == [[0, 0, 2, 3], [4, 4, 5, 5], [1, 2, 4, 6]]
    assert obj_to_img.tolist() == [0, 0, 2]
    parts = kp.split_boxes(boxes, obj_to_img, 3)
    assert [part.tolist() for part in parts] == [[[0, 0, 2, 3], [4, 4, 5, 5]], [], [[1, 2, 4, 6]]]
    assert [len(part) for part in kp.split_boxes(boxes, obj_to_img, 5)] == [2, 0, 1, 0, 0]


def test_splitting_keeps_the_order_within_an_image():
    rows = torch.arange(5.0)[:, None].expand(5, 4)
    parts = kp.split_boxes(rows, torch.tensor([1, 0, 1, 0, 1], dtype=torch.uint8), 2)
    assert [part[:, 0].tolist() for part in parts] == [[1, 3], [0, 2, 4]]


CORNERS = {  # the half-open box of the numbers 1 2 3 4
    "xyxy": [1, 2, 3, 4],
    "xyxy_plus": [1, 2, 4, 5],
    "pascal_voc": [0, 1, 3, 4],
    "xywh": [1, 2, 4, 6],
    "coco": [1, 2, 4, 6],
}


@pytest.mark.parametrize("mode", CORNERS)
def test_all_zero_rows_of_a_padded_tensor_are_empty_boxes(mode):
    padded = torch.zeros(2, 3, 4)
    padded[0, 0] = torch.tensor([1, 2, 3, 4])
    boxes, obj_to_img = kp.flatten_boxes(padded, mode=mode)
    assert obj_to_img.tolist() == [0, 0, 0, 1, 1, 1]
    assert boxes[1:].abs().max() == 0
    assert boxes[0].tolist() == CORNERS[mode]
    assert kp.flatten_boxes([padded[0, :1]], mode)[0].tolist() == [CORNERS[mode]]


def test_kornia_boxes_leave_out_their_padding_and_what_was_removed():
    rows = [torch.tensor([[0.0, 0, 4, 4], [2, 2, 9, 9]]), torch.tensor([[1.0, 1, 3, 3]])]
    boxes = Boxes.from_tensor(rows)
    flat, obj_to_img = kp.flatten_boxes(boxes)
    assert flat.tolist() == [[0, 0, 4, 4], [2, 2, 9, 9], [1, 1, 3, 3]]
    assert obj_to_img.tolist() == [0, 0, 1]
    large = boxes.filter_boxes_by_area(min_area=5)
    assert kp.flatten_boxes(large)[1].tolist() == [0, 0]
    assert kp.flatten_boxes(Boxes.from_tensor(rows[0]))[1].tolist() == [0, 0]  # not batched: one image


def test_nothing_becomes_nothing():
    boxes, obj_to_img = kp.flatten_boxes([])
    assert boxes.shape == (0, 4)
    assert obj_to_img.shape == (0,)
    assert kp.split_boxes(boxes, obj_to_img, 0) == []


@pytest.mark.parametrize(
    ("boxes", "mode", "error", "text"),
    [
        (torch.zeros(3, 4), "xyxy", ValueError, r"padded \(B, M, 4\) tensor, got \(3, 4\)"),
        ([torch.zeros(3, 3)], "xyxy", ValueError, r"boxes\[0\]: expected shape \(n, 4\), got \(3, 3\)"),
        ([[0, 0, 1, 1]], "xyxy", TypeError, r"boxes\[0\]: .*list"),
        (7, "xyxy", TypeError, "boxes: .*int"),
        ([torch.zeros(3, 4)], "xyxyn", ValueError, "mode: .*convert_boxes with size"),
        (
            [torch.zeros(3, 4)],
            "yolo",
            ValueError,
            "mode: expected one of xyxy, xyxy_plus, pascal_voc, xywh, cxcywh, coco, got 'yolo'. Use convert_boxes with",
        ),
    ],
)
def test_bad_boxes_say_what_is_wrong(boxes, mode, error, text):
    with pytest.raises(error, match=text):
        kp.flatten_boxes(boxes, mode)


def test_labels_one_a_box_are_those_of_one_image_only():
    seq = kp.PatchAugmentationSequential(
        kp.RandomPatchAffine([[10.0], [20.0]], p=1.0), data_keys=["input", "bbox_xyxy", "class"]
    )
    boxes = torch.tensor([[1.0, 1, 5, 5], [2, 2, 7, 7], [0, 0, 4, 4]])
    seq(torch.rand(1, 1, 9, 9), boxes[None], torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match=r"^class: expected labels of shape \(2, 3\), .*got \(3,\)"):
        seq(torch.rand(2, 1, 9, 9), boxes.expand(2, 3, 4), torch.tensor([0, 1, 0]))


def test_splitting_checks_its_indices():
    with pytest.raises(ValueError, match=r"obj_to_img: .*\[0, 2\), got 2 in row 1"):
        kp.split_boxes(torch.zeros(2, 4), torch.tensor([0, 2]), 2)
    with pytest.raises(TypeError, match="obj_to_img: expected an integer"):
        kp.split_boxes(torch.zeros(2, 4), torch.zeros(2), 2)
