"""Metrics, against loops, against numbers by hand, and against MONAI."""

import math

import pytest
import torch
from monai.metrics import compute_dice, compute_iou
from torch import Tensor

from unet_edu.metrics import (
    check_classes,
    confusion_matrix,
    dice,
    iou,
    mean_over_present,
    pixel_accuracy,
    predicted_classes,
)

# Of 8 pixels: class 0 is found 3 times of 4, class 1 twice of 3, class 2 never of 1.
MASK = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 2]])
CALLED = torch.tensor([[0, 0, 0, 1], [1, 1, 0, 1]])
CONFUSION = torch.tensor([[3, 1, 0], [1, 2, 0], [0, 1, 0]])


def random_pair(n_classes: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    called = torch.randint(n_classes, shape, generator=generator)
    return called, torch.randint(n_classes, shape, generator=generator)


def count_one_by_one(predicted: Tensor, mask: Tensor, n_classes: int) -> Tensor:
    counts = torch.zeros(n_classes, n_classes, dtype=torch.int64)
    for p, t in zip(predicted.flatten(), mask.flatten(), strict=True):
        counts[t, p] += 1
    return counts


def test_confusion_by_hand():
    found = confusion_matrix(CALLED, MASK, 3)
    assert torch.equal(found, CONFUSION)
    assert found.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
@pytest.mark.parametrize(
    ("n_classes", "shape"), [(2, (5, 7)), (4, (3, 4, 5)), (9, (50,)), (3, (1,))]
)
def test_confusion_is_a_count(n_classes, shape, dtype):
    called, mask = random_pair(n_classes, shape)
    expected = count_one_by_one(called, mask, n_classes)
    found = confusion_matrix(called.to(dtype), mask.to(dtype), n_classes)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "n_classes"), [(torch.uint8, 21), (torch.int8, 12), (torch.int16, 200)]
)
def test_confusion_of_many_classes_in_a_small_type(dtype, n_classes):
    last = torch.tensor([n_classes - 1])
    found = confusion_matrix(last.to(dtype), last.to(dtype), n_classes)
    assert found.nonzero().tolist() == [[n_classes - 1, n_classes - 1]]


def test_matrices_of_several_images_add_up():
    called, mask = random_pair(3, (4, 6, 5))
    each = [confusion_matrix(c, m, 3) for c, m in zip(called, mask, strict=True)]
    assert torch.equal(sum(each), confusion_matrix(called, mask, 3))


def test_scores_by_hand():
    assert pixel_accuracy(CONFUSION) == 5 / 8
    # overlap / union, and 2 overlap / (size + size)
    assert iou(CONFUSION).tolist() == [3 / 5, 2 / 5, 0 / 1]
    assert dice(CONFUSION).tolist() == [6 / 8, 4 / 7, 0 / 1]
    assert mean_over_present(iou(CONFUSION)) == pytest.approx(1 / 3, abs=1e-15)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_scores_are_those_of_sets(n_classes):
    called, mask = random_pair(n_classes, (9, 11))
    confusion = confusion_matrix(called, mask, n_classes)
    overlaps, doubles = [], []
    for c in range(n_classes):
        found = {i for i, p in enumerate(called.flatten().tolist()) if p == c}
        true = {i for i, t in enumerate(mask.flatten().tolist()) if t == c}
        overlaps.append(len(found & true) / len(found | true))
        doubles.append(2 * len(found & true) / (len(found) + len(true)))
    assert iou(confusion).tolist() == overlaps
    assert dice(confusion).tolist() == doubles
    right = (called == mask).double().mean().item()
    assert pixel_accuracy(confusion) == pytest.approx(right, abs=1e-15)


def test_dice_and_iou_tell_the_same():
    overlap = iou(confusion_matrix(*random_pair(4, (8, 8)), 4))
    found = dice(confusion_matrix(*random_pair(4, (8, 8)), 4))
    torch.testing.assert_close(found, 2 * overlap / (1 + overlap), rtol=1e-15, atol=0)


def test_a_perfect_prediction():
    confusion = confusion_matrix(MASK, MASK, 3)
    assert pixel_accuracy(confusion) == 1
    assert iou(confusion).tolist() == dice(confusion).tolist() == [1, 1, 1]


def test_an_absent_class_is_nan_and_left_out_of_the_mean():
    confusion = confusion_matrix(CALLED, MASK, 4)  # no class 3 anywhere
    for score in (iou, dice):
        values = score(confusion)
        assert values.isnan().tolist() == [False, False, False, True]
        # Class 2 was there and missed: that is a zero, and counts.
        assert values[2] == 0
        present = values[:3].sum().item() / 3
        assert mean_over_present(values) == pytest.approx(present, abs=1e-15)


def test_without_pixels_nothing_is_right_or_wrong():
    empty = torch.zeros(2, 2, dtype=torch.int64)
    assert math.isnan(pixel_accuracy(empty))
    assert math.isnan(mean_over_present(iou(empty)))


@pytest.mark.parametrize(("ours", "theirs"), [(iou, compute_iou), (dice, compute_dice)])
def test_monai_scores_the_same(ours, theirs):
    # One image at a time, since MONAI does not add images up; all classes are in the
    # truth, since MONAI has NaN for a class that is not, even if it was predicted.
    for called, mask in zip(*random_pair(3, (5, 8, 9)), strict=True):
        assert mask.unique().tolist() == [0, 1, 2]
        one_hot = [(x[None, None] == torch.arange(3)[:, None, None]).float()
                   for x in (called, mask)]  # fmt: skip
        expected = theirs(one_hot[0], one_hot[1])[0]
        found = ours(confusion_matrix(called, mask, 3))
        # MONAI computes in float32.
        torch.testing.assert_close(found.float(), expected, rtol=1e-6, atol=0)


def test_monai_leaves_out_a_class_that_is_only_predicted():
    called, mask = torch.tensor([[0, 1]]), torch.tensor([[0, 0]])
    one_hot = [(x[None, None] == torch.arange(2)[:, None, None]).float()
               for x in (called, mask)]  # fmt: skip
    assert compute_iou(*one_hot)[0].isnan().tolist() == [False, True]
    assert iou(confusion_matrix(called, mask, 2)).tolist() == [0.5, 0]


def test_predicted_classes_of_several_logits():
    logits = torch.tensor([[2.0, -1], [0, -2], [1, 5]]).reshape(1, 3, 1, 2)
    found = predicted_classes(logits)
    assert found.tolist() == [[[0, 2]]]
    assert found.dtype == torch.int64


def test_predicted_classes_of_one_logit():
    # Zero is a probability of one half, which is not above it.
    logits = torch.tensor([-1.0, 0, 1e-6, 3]).reshape(1, 1, 2, 2)
    found = predicted_classes(logits)
    assert found.tolist() == [[[0, 0], [1, 1]]]
    assert found.dtype == torch.int64


OK = torch.zeros(2, 2, dtype=torch.int64)
ILL = {
    "shapes": (
        *(OK, torch.zeros(3, 2, dtype=torch.int64), 2, ValueError),
        r"shape \(2, 2\), the mask \(3, 2\)\. .*cut the mask",
    ),
    "rank": (OK[None], OK, 2, ValueError, r"shape \(1, 2, 2\), the mask \(2, 2\)"),
    "float mask": (
        *(OK, OK.float(), 2, TypeError),
        r"mask must hold integer .*got torch\.float32\. Use \.long\(\)",
    ),
    "float prediction": (
        *(OK.double(), OK, 2, TypeError),
        r"prediction must hold integer .*got torch\.float64\. .*threshold",
    ),
    "bool": (OK, OK.bool(), 2, TypeError, r"mask .*got torch\.bool\. Use \.long\(\)"),
    "0 and 255": (
        *(OK, torch.tensor([[0, 255], [0, 0]], dtype=torch.uint8), 2, ValueError),
        r"mask .* indices 0 to 1, found 0, 255\. .*\(mask == 255\)\.long\(\)",
    ),
    "255": (
        *(OK, OK + 255, 2, ValueError),
        r"mask .* indices 0 to 1, found 255\. .*\(mask == 255\)\.long\(\)",
    ),
    "one too large": (OK, OK + 2, 2, ValueError, r"mask .* 0 to 1, found 2\.$"),
    "negative": (OK - 1, OK, 2, ValueError, r"prediction .* 0 to 1, found -1\.$"),
    "many": (
        *(OK, torch.arange(4).reshape(2, 2), 2, ValueError),
        r"mask .* found 0, 1, 2, 3\.$",
    ),
    "empty": (OK[:0], OK[:0], 2, ValueError, r"prediction is empty: shape \(0, 2\)"),
    "one class": (OK, OK, 1, ValueError, r"n_classes must be an integer >= 2, got 1"),
}


@pytest.mark.parametrize(
    ("predicted", "mask", "n_classes", "error", "says"), ILL.values(), ids=ILL
)
def test_ill_cases(predicted, mask, n_classes, error, says):
    with pytest.raises(error, match=says):
        confusion_matrix(predicted, mask, n_classes)


def test_a_long_list_of_wrong_values_is_cut():
    with pytest.raises(ValueError, match=r"target .*found 0, 1, 2, 3, 4, 5, \.\.\."):
        check_classes(torch.arange(100), 2, "target")
