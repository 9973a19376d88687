"""Metrics of distributions: energy distance and calibration, against sums by hand."""

import math

import numpy as np
import pytest
import torch

from unet_edu.metrics import calibration, distance, ged


def masks(n: int, seed: int = 0, n_classes: int = 2, side: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(n_classes, (n, side, side), generator=generator)


A = torch.tensor([[1, 1, 0, 0]])
B = torch.tensor([[0, 1, 1, 0]])  # one pixel of three in common with A
NONE = torch.zeros_like(A)
DISTANCES = [
    (A, A, 0.0),
    (A, B, 2 / 3),
    (A, NONE, 1.0),
    (NONE, NONE, 0.0),
    # Class 1: one of two; class 2: none of two. Class 3 is in neither.
    (torch.tensor([[1, 1, 2, 0]]), torch.tensor([[1, 0, 0, 2]]), 1 - (1 / 2 + 0) / 2),
]


@pytest.mark.parametrize(("one", "other", "expected"), DISTANCES)
def test_distance_by_hand(one, other, expected):
    assert distance(one, other) == pytest.approx(expected)
    assert distance(other, one) == pytest.approx(expected)


def test_ged_is_the_formula():
    samples, annotations = masks(5), masks(4, 1)
    across = np.mean([distance(s, y) for s in samples for y in annotations])
    within = np.mean(
        [distance(samples[i], samples[j]) for i in range(5) for j in range(5) if i != j]
    )
    true = np.mean([distance(y, z) for y in annotations for z in annotations])
    found = ged(samples, annotations)
    assert found == pytest.approx(2 * across - within - true)


def test_one_sample_has_no_spread():
    samples, annotations = masks(1), masks(3, 1)
    across = np.mean([distance(samples[0], y) for y in annotations])
    true = np.mean([distance(y, z) for y in annotations for z in annotations])
    assert ged(samples, annotations) == pytest.approx(2 * across - true)
    assert ged(annotations[:1], annotations[:1]) == 0


def test_draws_from_the_distribution_itself_are_at_zero_on_average():
    annotations = masks(4)
    rng = np.random.default_rng(0)
    found = [ged(annotations[rng.integers(0, 4, 6)], annotations) for _ in range(400)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    # Counting a draw's distance to itself, as published numbers do, is not.
    within = np.mean([distance(y, z) for y in annotations for z in annotations])
    assert within / 6 > 10 * error


def test_a_single_mask_is_farther_than_the_distribution():
    annotations = masks(4)
    alone = min(ged(mask[None], annotations) for mask in annotations)
    assert alone > 0.2


ILL = [
    (masks(0), masks(2), "samples must be one or more masks"),
    (masks(2), masks(2)[0], "annotations must be one or more masks"),
    (masks(2), masks(2, side=5), "The prediction has shape"),
]


@pytest.mark.parametrize(("samples", "annotations", "message"), ILL)
def test_ill_sets(samples, annotations, message):
    with pytest.raises(ValueError, match=message):
        ged(samples, annotations)


def test_calibration_by_hand():
    p = torch.tensor([0.0, 0.1, 0.3, 0.9, 1.0, 0.7])
    y = torch.tensor([0, 0, 1, 1, 1, 0])
    found = calibration(p, y, bins=2)
    assert found.count.tolist() == [3, 3]
    assert found.predicted == pytest.approx([0.4 / 3, 2.6 / 3])
    assert found.observed == pytest.approx([1 / 3, 2 / 3])
    assert found.error == pytest.approx((0.6 / 3 + 0.6 / 3) / 2)


def test_true_probabilities_are_calibrated():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(200_000, generator=generator)
    y = (torch.rand(p.shape, generator=generator) < p).long()
    assert calibration(p, y).error < 0.01
    assert calibration(p, p).error == pytest.approx(0)
    assert calibration(p**2, y).error == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


def test_an_empty_bin_counts_nothing():
    found = calibration(torch.tensor([0.95]), torch.tensor([1]), bins=4)
    assert found.count.tolist() == [0, 0, 0, 1]
    assert np.isnan(found.predicted[:3]).all()
    assert found.error == pytest.approx(0.05)


ILL_CALIBRATION = [
    ((torch.rand(3), torch.zeros(2)), "must have one shape"),
    ((torch.tensor([2.5]), torch.tensor([1])), "probability must lie in .0, 1.; found"),
    ((torch.tensor([0.5]), torch.tensor([7])), "truth must lie in"),
    ((torch.tensor([math.nan]), torch.tensor([1])), "probability must lie in"),
]


@pytest.mark.parametrize(("args", "message"), ILL_CALIBRATION)
def test_ill_calibration(args, message):
    with pytest.raises(ValueError, match=message):
        calibration(*args)
