"""Losses, by hand, against PyTorch and MONAI, and where numbers come to their end."""

from functools import partial
from math import exp, log, log1p, sqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, TverskyLoss
from scipy import ndimage
from torch import Tensor

from unet_edu import losses
from unet_edu.losses import (
    cross_entropy,
    dice_cross_entropy,
    dice_loss,
    focal,
    focal_tversky,
    separate,
    soft_counts,
    soft_dice,
    weight_map,
)

LOSSES = {
    "cross_entropy": cross_entropy,
    "dice_loss": dice_loss,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
    "focal_tversky": focal_tversky,
}
# With exponents that could give an infinite slope, and others.
MORE = LOSSES | {
    "focal gamma=0": partial(focal, gamma=0),
    "focal gamma=0.5": partial(focal, gamma=0.5),
    "focal gamma=5": partial(focal, gamma=5),
    "focal_tversky gamma=0.5": partial(focal_tversky, gamma=0.5),
    "focal_tversky gamma=3": partial(focal_tversky, gamma=3),
    "focal_tversky alpha=0.01": partial(focal_tversky, alpha=0.01),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_setting = pytest.mark.parametrize("loss", MORE.values(), ids=MORE)
channels = pytest.mark.parametrize("n_channels", [1, 2, 4])


def random_pair(n_channels: int, shape=(3, 9, 7)) -> tuple[Tensor, Tensor]:
    """Return logits, and a mask in which every class occurs."""
    generator = torch.Generator().manual_seed(0)
    n, height, width = shape
    logits = 3 * torch.randn(n, n_channels, height, width, generator=generator)
    mask = torch.randint(max(n_channels, 2), shape, generator=generator)
    assert len(mask.unique()) == max(n_channels, 2)
    return logits, mask


def calling(mask: Tensor, n_channels: int, size: float) -> Tensor:
    """Return logits of plus and minus ``size`` that call each pixel as in the mask."""
    if n_channels == 1:
        return size * (2.0 * mask[:, None] - 1)
    return size * (2.0 * F.one_hot(mask, n_channels).movedim(-1, 1) - 1)


def value_and_gradient(loss, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, mask)
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


# --- By hand. Four pixels have the probabilities 3/4, 3/4, 1/2 and 1/4 of class 1, so
# 3/4, 1/4, 1/2 and 3/4 of their true classes. Class 1 has an overlap of 5/4 and the
# sizes 9/4 and 2, class 0 an overlap of 1 and the sizes 7/4 and 2.

LOGIT = torch.tensor([[[[log(3), log(3)], [0, -log(3)]]]])
MASK = torch.tensor([[[1, 0], [1, 0]]])
CE = -(log(3 / 4) + log(1 / 4) + log(1 / 2) + log(3 / 4)) / 4
DICE = {0: 2 * 1 / (7 / 4 + 2), 1: 2 * (5 / 4) / (9 / 4 + 2)}
TVERSKY = {
    0: 1 / (1 + 0.7 * 1 + 0.3 * 3 / 4),
    1: 5 / 4 / (5 / 4 + 0.7 * 3 / 4 + 0.3 * 1),
}
EXPECTED = {
    "cross_entropy": CE,
    "dice_loss": 1 - (DICE[0] + DICE[1]) / 2,
    "dice_cross_entropy": CE + 1 - (DICE[0] + DICE[1]) / 2,
    "focal": -(2 / 16 * log(3 / 4) + 9 / 16 * log(1 / 4) + 1 / 4 * log(1 / 2)) / 4,
    "focal_tversky": ((1 - TVERSKY[0]) ** 0.75 + (1 - TVERSKY[1]) ** 0.75) / 2,
}


@pytest.mark.parametrize("name", LOSSES)
def test_values_by_hand(name):
    found = LOSSES[name](LOGIT, MASK)
    assert found.item() == pytest.approx(EXPECTED[name], rel=1e-6)
    assert found.dtype == torch.float32


def test_soft_counts_and_dice_by_hand():
    overlap, called, true = soft_counts(LOGIT, MASK)
    assert overlap.tolist() == pytest.approx([1, 5 / 4], rel=1e-6)
    assert called.tolist() == pytest.approx([7 / 4, 9 / 4], rel=1e-6)
    assert true.tolist() == [2, 2]
    assert soft_dice(LOGIT, MASK).tolist() == pytest.approx([DICE[0], DICE[1]])


def test_a_missed_pixel_is_dearer_than_a_false_one():
    # Four object pixels of eight; one is missed, or one of the others called object.
    mask = torch.tensor([[[1, 1, 1, 1, 0, 0, 0, 0]]])
    missed, false = (mask.clone() for _ in range(2))
    missed[0, 0, 0], false[0, 0, 7] = 0, 1
    logits = [calling(called, 1, 20) for called in (missed, false)]
    for alpha, index in [(0.7, 3 / 3.7), (0.5, 3 / 3.5), (0.2, 3 / 3.2)]:
        overlap, called, true = (counts[1] for counts in soft_counts(logits[0], mask))
        assert overlap / (alpha * true + (1 - alpha) * called) == pytest.approx(index)
        # Of class 0, the missed pixel is a false one: 4 of 4, and one too many.
        expected = (1 - index + 1 - 4 / (4 + 1 - alpha)) / 2
        found = focal_tversky(logits[0], mask, alpha=alpha, gamma=1)
        assert found.item() == pytest.approx(expected, rel=1e-5)


# --- Against PyTorch.


@channels
def test_cross_entropy_is_pytorchs(n_channels):
    logits, mask = random_pair(n_channels)
    if n_channels == 1:
        expected = F.binary_cross_entropy_with_logits(logits[:, 0], mask.float())
    else:
        expected = F.cross_entropy(logits, mask)
    torch.testing.assert_close(cross_entropy(logits, mask), expected, rtol=1e-6, atol=0)


@channels
def test_weights_multiply_each_pixel_and_the_mean_is_over_pixels(n_channels):
    logits, mask = random_pair(n_channels)
    weights = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1))
    # One pixel at a time, each as an image of its own.
    total = 0.0
    for n, row, column in np.ndindex(*mask.shape):
        pixel = (n, slice(None), row, column)
        one = cross_entropy(
            logits[pixel][None, :, None, None], mask[n, row, column][None, None, None]
        )
        total += one.item() * weights[n, row, column].item()
    found = cross_entropy(logits, mask, weights).item()
    assert found == pytest.approx(total / mask.numel(), rel=1e-6)
    twice = cross_entropy(logits, mask, 2 * weights).item()
    assert twice == pytest.approx(2 * found, rel=1e-6)


def test_weights_of_one_change_nothing():
    logits, mask = random_pair(3)
    ones = torch.ones(mask.shape)
    assert torch.equal(cross_entropy(logits, mask, ones), cross_entropy(logits, mask))


def test_pytorchs_class_weights_divide_by_their_sum():
    logits, mask = random_pair(3)
    of_class = torch.tensor([0.5, 2, 7])
    ours = cross_entropy(logits, mask, of_class[mask])
    theirs = F.cross_entropy(logits, mask, weight=of_class)
    mean_weight = of_class[mask].mean()
    torch.testing.assert_close(ours, theirs * mean_weight, rtol=1e-6, atol=0)
    assert mean_weight > 2  # so that the two do differ


# --- Against MONAI, whose smoothing constants are set to 0.

EXACT = {"to_onehot_y": True, "softmax": True, "batch": True}
EXACT |= {"smooth_nr": 0, "smooth_dr": 0}


def focal_tversky_of_monai(logits, mask, alpha, gamma):
    # There, alpha is for false pixels and beta for missed ones; no exponent.
    indices = TverskyLoss(**EXACT, alpha=1 - alpha, beta=alpha, reduction="none")
    return (indices(logits, mask) ** (1 / gamma)).mean()


def focal_of_monai(logits, mask, gamma):
    # There, the mean is over pixels and classes, of which all but one have 0.
    mean = FocalLoss(gamma=gamma, to_onehot_y=True, use_softmax=True)(logits, mask)
    return mean * logits.shape[1]


MONAI = {
    "dice_loss": (dice_loss, DiceLoss(**EXACT, include_background=True)),
    "dice_cross_entropy": (dice_cross_entropy, DiceCELoss(**EXACT)),
    "focal": (focal, partial(focal_of_monai, gamma=2)),
    "focal gamma=0.5": (partial(focal, gamma=0.5), partial(focal_of_monai, gamma=0.5)),
    "tversky": (
        partial(focal_tversky, gamma=1),
        partial(focal_tversky_of_monai, alpha=0.7, gamma=1),
    ),
    "focal_tversky": (
        focal_tversky,
        partial(focal_tversky_of_monai, alpha=0.7, gamma=4 / 3),
    ),
    "focal_tversky alpha=0.2": (
        partial(focal_tversky, alpha=0.2, gamma=2),
        partial(focal_tversky_of_monai, alpha=0.2, gamma=2),
    ),
}


@pytest.mark.parametrize("n_channels", [2, 5])
@pytest.mark.parametrize(("ours", "theirs"), MONAI.values(), ids=MONAI)
def test_monai_agrees(ours, theirs, n_channels):
    logits, mask = random_pair(n_channels)
    value, gradient = value_and_gradient(ours, logits, mask)
    expected = value_and_gradient(lambda z, y: theirs(z, y[:, None]), logits, mask)
    torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-4, atol=1e-7)


def test_monai_has_the_same_focal_loss_of_one_logit():
    logits, mask = random_pair(1)
    expected = FocalLoss(gamma=2)(logits, mask[:, None])
    torch.testing.assert_close(focal(logits, mask), expected, rtol=1e-5, atol=0)


def test_of_one_logit_monai_scores_the_object_alone():
    logits, mask = random_pair(1)
    settings = EXACT | {"softmax": False, "sigmoid": True, "to_onehot_y": False}
    alone = DiceLoss(**settings)(logits, mask[:, None])
    of_class = soft_dice(logits, mask)
    torch.testing.assert_close(1 - of_class[1], alone, rtol=1e-5, atol=0)
    # Here one logit means two classes, and the background is the other.
    assert dice_loss(logits, mask).item() == pytest.approx(1 - of_class.mean().item())
    assert abs(dice_loss(logits, mask) - alone) > 0.01


def test_monai_counts_an_absent_class_as_wholly_wrong():
    logits, mask = random_pair(3)
    mask = mask.clamp(max=1)  # class 2 is in no pixel
    of_class = soft_dice(logits, mask)
    theirs = DiceLoss(**EXACT)(logits, mask[:, None])
    assert theirs.item() == pytest.approx(1 - of_class.sum().item() / 3, rel=1e-5)
    ours = dice_loss(logits, mask)
    assert ours.item() == pytest.approx(1 - of_class[:2].mean().item(), rel=1e-6)
    assert theirs - ours > 0.1


# --- What one logit means, and what a batch is.


@every_setting
def test_one_logit_is_the_second_of_two(loss):
    logits, mask = random_pair(1)
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    value, gradient = value_and_gradient(loss, logits, mask)
    of_two = value_and_gradient(loss, two, mask)
    torch.testing.assert_close(value, of_two[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, of_two[1][:, 1:], rtol=1e-4, atol=1e-7)


@every_loss
@channels
def test_a_batch_is_one_large_image(loss, n_channels):
    logits, mask = random_pair(n_channels)
    wide = loss(torch.cat([*logits], dim=-1)[None], torch.cat([*mask], dim=-1)[None])
    torch.testing.assert_close(loss(logits, mask), wide, rtol=1e-6, atol=0)


@every_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_any_integer_type_will_do(loss, dtype):
    logits, mask = random_pair(3)
    assert torch.equal(loss(logits, mask.to(dtype)), loss(logits, mask))


@every_setting
@channels
def test_its_gradient_leads_to_the_mask(loss, n_channels):
    _, mask = random_pair(n_channels)
    logits = torch.zeros(3, n_channels, 9, 7, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    before = loss(logits, mask).item()
    for _ in range(40):
        optimizer.zero_grad()
        loss(logits, mask).backward()
        optimizer.step()
    called = (logits > 0)[:, 0] if n_channels == 1 else logits.argmax(1)
    assert torch.equal(called.long(), mask)
    assert loss(logits, mask).item() < before / 10


# --- Few digits, and numbers at their end.


@every_setting
@channels
@pytest.mark.parametrize("autocast", [True, False])
def test_bf16_logits_are_computed_in_float32(loss, n_channels, autocast):
    logits, mask = random_pair(n_channels)
    rounded = logits.bfloat16()
    value, gradient = value_and_gradient(loss, rounded.float(), mask)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        in_bf16 = value_and_gradient(loss, rounded, mask)
    assert in_bf16[0].dtype == torch.float32
    assert torch.equal(in_bf16[0], value)
    assert torch.equal(in_bf16[1], gradient.bfloat16())
    # What is lost is what rounding the logits loses: bf16 has 8 bits.
    torch.testing.assert_close(value, loss(logits, mask), rtol=2**-8, atol=0)


@every_setting
@channels
@pytest.mark.parametrize("kind", ["right", "wrong", "mixed", "absent"])
def test_extreme_logits_are_finite(loss, n_channels, kind):
    logits, mask = random_pair(n_channels)
    if kind == "mixed":
        logits = 1e4 * logits.sign()
    elif kind == "absent":  # all is called the last class, which is in no pixel
        mask = mask.clamp(max=max(n_channels, 2) - 2)
        logits = calling(torch.full_like(mask, max(n_channels, 2) - 1), n_channels, 1e4)
    else:
        logits = calling(mask, n_channels, 1e4 if kind == "right" else -1e4)
    value, gradient = value_and_gradient(loss, logits, mask)
    assert value.isfinite()
    assert gradient.isfinite().all()
    if kind == "right":
        assert 0 <= value < 0.01
    else:
        assert value > 0.1


@pytest.mark.parametrize("gamma", [0.5, 1, 2])
def test_focal_keeps_its_digits_where_p_is_nearly_one(gamma):
    missing = 1 / (1 + exp(12))  # 1 - p is 6e-6, and 1 in float32 has steps of 1e-7
    found = focal(torch.full((1, 1, 1, 1), 12.0), torch.ones(1, 1, 1).long(), gamma)
    assert found.item() == pytest.approx(missing**gamma * -log1p(-missing), rel=1e-5)


@channels
def test_cross_entropy_grows_with_the_logits_without_end(n_channels):
    _, mask = random_pair(n_channels)
    wrong = 1e4 if n_channels == 1 else 2e4
    value, gradient = value_and_gradient(
        cross_entropy,
        calling(1 - mask.clamp(max=1), n_channels, 1e4),
        mask.clamp(max=1),
    )
    assert value == wrong
    assert gradient.abs().max().item() == pytest.approx(1 / mask.numel())


# An exponent below 1 keeps its eps: 1.2e-7 to the power of 3/4, or 1/3.
PERFECT = dict.fromkeys(MORE, 1e-6) | {
    "focal_tversky": 1e-5,
    "focal_tversky alpha=0.01": 1e-5,
    "focal_tversky gamma=3": 5.1e-3,
}


@pytest.mark.parametrize("name", MORE)
@channels
@pytest.mark.parametrize("size", [20, 1e4])
def test_a_perfect_prediction_costs_nothing_and_stays(name, n_channels, size):
    _, mask = random_pair(n_channels)
    logits = calling(mask, n_channels, size)
    value, gradient = value_and_gradient(MORE[name], logits, mask)
    assert 0 <= value < PERFECT[name]
    assert gradient.abs().max() < 1e-6


@every_setting
@channels
def test_nan_is_not_hidden(loss, n_channels):
    logits, mask = random_pair(n_channels)
    logits[1, -1, 4, 3] = float("nan")
    assert loss(logits, mask).isnan()
    assert loss(logits, torch.zeros_like(mask)).isnan()


# --- Classes that are not there.


@every_setting
@channels
@pytest.mark.parametrize("only", [0, 1])
def test_a_batch_of_one_class_is_defined(loss, n_channels, only):
    mask = torch.full((3, 9, 7), only)
    values = {}
    for size in (-1e4, -1.0, 0.0, 1.0, 1e4):
        value, gradient = value_and_gradient(
            loss, calling(mask, n_channels, size), mask
        )
        assert value.isfinite()
        assert gradient.isfinite().all()
        values[size] = value.item()
        if abs(size) <= 1:  # less loss for more of the class that is there
            towards = calling(mask, n_channels, 1)
            assert ((gradient * towards).sum(dim=1) < 0).all()
    assert sorted(values.values(), reverse=True) == list(values.values())
    assert values[1e4] < 0.01 < values[0.0] < values[-1e4]


def test_dice_of_an_all_background_batch_by_hand():
    mask = torch.zeros(2, 4, 4, dtype=torch.int64)
    logits = torch.zeros(2, 1, 4, 4)
    # Class 0 has the overlap 16 of 32 and the sizes 16 and 32.
    assert soft_dice(logits, mask).tolist() == pytest.approx([2 * 16 / 48, 0])
    assert dice_loss(logits, mask).item() == pytest.approx(1 / 3)
    everything_wrong = torch.full((2, 1, 4, 4), 1e4)
    assert soft_dice(everything_wrong, mask).tolist() == [0, 0]
    assert dice_loss(everything_wrong, mask) == 1


def test_soft_dice_of_an_absent_class_is_zero_without_gradient():
    logits, mask = random_pair(4)
    mask = mask.clamp(max=2)
    for z in (logits, calling(mask, 4, 1e4)):  # called somewhere, called nowhere
        value, gradient = value_and_gradient(lambda a, b: soft_dice(a, b)[3], z, mask)
        assert value == 0
        assert (gradient == 0).all()


def test_what_an_absent_class_takes_still_costs():
    _, mask = random_pair(3)
    mask = mask.clamp(max=1)
    logits = calling(mask, 3, 2.0)
    _, gradient = value_and_gradient(dice_loss, logits, mask)
    assert (gradient[:, 2] > 0).all()


# --- The weight map.


def discs(shape: tuple[int, int], n: int, radius: int, seed: int = 0) -> Tensor:
    """Return instances: discs at random places, later ones over earlier ones."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    found = np.zeros(shape, dtype=np.int64)
    for label in range(1, n + 1):
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        found[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = label
    return torch.from_numpy(found)


def by_brute_force(instances: Tensor, w0: float, sigma: float) -> np.ndarray:
    found = instances.numpy()
    labels = [label for label in np.unique(found) if label != 0]
    balance = np.ones(found.shape)
    if labels and (found == 0).any():
        for chosen in (found == 0, found != 0):
            balance[chosen] = found.size / (2 * chosen.sum())
    if len(labels) < 2:
        return balance
    each = [ndimage.distance_transform_edt(found != label) for label in labels]
    d1, d2 = np.sort(each, axis=0)[:2]
    gap = w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return balance + gap * (found == 0)


TWO_PIECES = torch.zeros(20, 30, dtype=torch.int64)
TWO_PIECES[3:8, 3:6] = TWO_PIECES[3:8, 9:12] = 1
TWO_PIECES[14:18, 5:9] = 2
INSTANCES = {
    "discs": discs((60, 80), 12, 5),
    "large and touching": discs((50, 50), 9, 12),
    "sparse": discs((300, 200), 5, 4),
    "single pixels": discs((40, 40), 25, 0.6),
    "an object in two pieces": TWO_PIECES,
    "numbers with gaps": TWO_PIECES * 1_000_000_007,
    "uint8": discs((30, 40), 4, 5).to(torch.uint8),
    "int32": discs((30, 40), 4, 5).int(),
    "one object": discs((30, 40), 1, 6),
    "nothing": torch.zeros(7, 9, dtype=torch.int64),
    "no background": torch.ones(7, 9, dtype=torch.int64),
    "no background, two objects": torch.arange(1, 3).repeat(4, 1),
    "one pixel": torch.tensor([[1]]),
}


@pytest.mark.parametrize(("w0", "sigma"), [(10, 5), (3.5, 1.7), (0, 5)])
@pytest.mark.parametrize("name", INSTANCES)
def test_weight_map_is_that_of_brute_force(name, w0, sigma):
    instances = INSTANCES[name]
    found = weight_map(instances, w0, sigma)
    assert found.shape == instances.shape
    assert found.dtype == torch.float32
    expected = torch.from_numpy(by_brute_force(instances, w0, sigma))
    # The rounding of float32, and what lies beyond 6 sigma.
    torch.testing.assert_close(found.double(), expected, rtol=1e-7, atol=2e-8 * w0)


def test_weight_map_by_hand():
    # Two object pixels and five of background; sqrt(2 ln 2) sigma halves the term.
    instances = torch.tensor([[0, 1, 0, 0, 2, 0, 0]])
    sigma = 3 / sqrt(2 * log(2))
    found = weight_map(instances, w0=8, sigma=sigma)[0].tolist()
    background, inside = 7 / 10, 7 / 4
    five, seven = (8 * exp(-(d**2) / (2 * sigma**2)) for d in (5, 7))
    expected = [background + five, inside, background + 4, background + 4, inside]
    expected += [background + five, background + seven]
    assert found == pytest.approx(expected, rel=1e-6)


def test_weight_map_at_its_usual_settings():
    found = weight_map(INSTANCES["discs"])
    assert torch.equal(found, weight_map(INSTANCES["discs"], 10, 5))
    assert not torch.equal(found, weight_map(INSTANCES["discs"], 9, 5))
    assert not torch.equal(found, weight_map(INSTANCES["discs"], 10, 6))


@pytest.mark.parametrize("name", INSTANCES)
def test_both_classes_weigh_the_same_and_the_mean_is_one(name):
    instances = INSTANCES[name]
    balance = weight_map(instances, w0=0).double()
    assert balance.mean().item() == pytest.approx(1, rel=1e-6)
    inside = instances > 0
    if 0 < inside.sum() < inside.numel():
        halves = [balance[part].sum().item() for part in (inside, ~inside)]
        assert halves == pytest.approx([inside.numel() / 2] * 2, rel=1e-6)


def test_weights_are_highest_in_the_narrow_gap():
    instances = torch.zeros(40, 80, dtype=torch.int64)
    instances[10:30, 5:20] = 1
    instances[10:30, 22:40] = 2  # two columns from the first
    instances[10:30, 52:70] = 3  # twelve columns from the second
    weights = weight_map(instances)
    narrow, wide = weights[12:28, 20:22], weights[12:28, 40:52]
    assert weights.max() == narrow.max()
    assert narrow.min() > wide.max() > weights[:, 75:].max()
    # The narrow gap: distances 1 and 2, whichever the pixel.
    background = 1 / (2 * (instances == 0).double().mean().item())
    expected = background + 10 * exp(-9 / 50)
    assert narrow.flatten().tolist() == pytest.approx([expected] * 32, rel=1e-6)


def test_weight_map_does_not_look_at_the_whole_image_for_each_object(monkeypatch):
    instances = discs((512, 512), 100, 10)
    looked_at = []
    true_edt = ndimage.distance_transform_edt

    def counted(pixels):
        looked_at.append(pixels.size)
        return true_edt(pixels)

    monkeypatch.setattr(losses.ndimage, "distance_transform_edt", counted)
    weight_map(instances)
    assert len(looked_at) == len(instances.unique()) - 1 > 90
    assert sum(looked_at) < 4 * instances.numel()


# --- Touching objects.


def test_separate_by_hand():
    instances = torch.tensor(
        [
            [1, 1, 1, 2, 2, 2],
            [1, 1, 1, 2, 2, 2],
            [1, 1, 1, 0, 0, 0],
            [0, 0, 0, 3, 3, 3],
            [0, 0, 0, 3, 3, 3],
        ]
    )
    expected = [
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 0, 0],  # its corner touches the 2 above and the 3 below
        [0, 0, 0, 0, 1, 1],  # and the corner of the 3 touches it
        [0, 0, 0, 1, 1, 1],
    ]
    found = separate(instances)
    assert found.tolist() == expected
    assert found.dtype == torch.int64


def separate_one_by_one(instances: Tensor) -> Tensor:
    found = torch.zeros_like(instances, dtype=torch.int64)
    for row, column in np.ndindex(*instances.shape):
        own = instances[row, column]
        block = instances[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        found[row, column] = own > 0 and bool(((block == 0) | (block == own)).all())
    return found


@pytest.mark.parametrize("name", [name for name in INSTANCES if name != "sparse"])
def test_separate_is_that_of_a_loop(name):
    assert torch.equal(separate(INSTANCES[name]), separate_one_by_one(INSTANCES[name]))


def test_after_separate_no_two_objects_touch_and_only_their_borders_are_lost():
    instances = INSTANCES["large and touching"]
    mask = separate(instances)
    assert separate_one_by_one(instances * mask).equal(mask)
    pieces, _ = ndimage.label(mask.numpy(), structure=np.ones((3, 3)))
    for piece in range(1, pieces.max() + 1):
        assert len(instances[torch.from_numpy(pieces == piece)].unique()) == 1
    lost = (instances > 0) & (mask == 0)
    assert 0 < lost.sum() < mask.sum()


@pytest.mark.parametrize("name", ["one object", "nothing", "no background"])
def test_separate_leaves_what_touches_nothing(name):
    # Also at the border of the image, which is no object.
    assert torch.equal(separate(INSTANCES[name]), (INSTANCES[name] > 0).long())


def test_the_gap_of_touching_objects_gets_the_weight():
    instances = torch.ones(20, 40, dtype=torch.int64)
    instances[:, 20:] = 2
    mask = separate(instances)
    assert mask[0].tolist() == [1] * 19 + [0, 0] + [1] * 19
    weights = weight_map(instances * mask)
    # Two background columns of 40: 1 / (2 / 20), and the distances 1 and 2.
    expected = 10 + 10 * exp(-9 / 50)
    assert weights[mask == 0].tolist() == pytest.approx([expected] * 40, rel=1e-6)
    assert weights[mask == 1].max() < 1


# --- Ill cases.

Z = torch.zeros(2, 3, 4, 5)
OK = torch.zeros(2, 4, 5, dtype=torch.int64)
ILL_PAIRS = {
    "other size": (
        *(Z, OK[:, :3], ValueError),
        r"\(2, 3, 4, 5\), the mask \(2, 3, 5\); expected a mask \(2, 4, 5\)\. "
        "Cut the mask",
    ),
    "other batch": (Z, OK[:1], ValueError, r"the mask \(1, 4, 5\); expected .*\(2, 4"),
    "mask with a channel": (
        *(Z, OK[:, None], ValueError),
        r"the mask \(2, 1, 4, 5\); expected a mask \(2, 4, 5\)\. Pass mask\[:, 0\]",
    ),
    "one-hot mask": (
        *(Z, OK[:, None].expand(2, 3, 4, 5), ValueError),
        r"the mask \(2, 3, 4, 5\); expected a mask \(2, 4, 5\)",
    ),
    "one image": (
        *(Z[0], OK[0], ValueError),
        r"\(N, C, H, W\), got \(3, 4, 5\)\. .*logits\[None\] and mask\[None\]",
    ),
    "no channel": (Z[:, :0], OK, ValueError, r"\(N, C, H, W\), got \(2, 0, 4, 5\)"),
    "no pixel": (Z[..., :0], OK[..., :0], ValueError, "mask is empty"),
    "integer logits": (Z.long(), OK, TypeError, r"logits must be floats, .*int64\. Pa"),
    "float mask": (Z, OK.float(), TypeError, r"mask must hold integer .*float32"),
    "bool mask": (Z, OK.bool(), TypeError, r"mask must hold integer .*torch\.bool"),
    "unknown class": (Z, OK + 3, ValueError, "mask .* indices 0 to 2, found 3"),
    "negative class": (Z, OK - 1, ValueError, "mask .* indices 0 to 2, found -1"),
    "two with one logit": (Z[:, :1], OK + 2, ValueError, "indices 0 to 1, found 2"),
    "255": (Z[:, :1], OK + 255, ValueError, r"found 255\. .*\(mask == 255\)"),
}


@every_loss
@pytest.mark.parametrize(
    ("logits", "mask", "error", "says"), ILL_PAIRS.values(), ids=ILL_PAIRS
)
def test_ill_pairs(loss, logits, mask, error, says):
    with pytest.raises(error, match=says):
        loss(logits, mask)


@pytest.mark.parametrize(
    ("logits", "mask", "error", "says"), ILL_PAIRS.values(), ids=ILL_PAIRS
)
def test_ill_pairs_for_soft_dice(logits, mask, error, says):
    with pytest.raises(error, match=says):
        soft_dice(logits, mask)


W = torch.ones(2, 4, 5)
OBJECTS = torch.ones(4, 5, dtype=torch.int64)
NAN, INF = float("nan"), float("inf")
ILL = {
    "weights of classes": (
        *(partial(cross_entropy, Z, OK, torch.ones(3)), ValueError),
        r"weights have shape \(3,\), the mask \(2, 4, 5\)\. .*class_weights\[mask\]",
    ),
    "weights of one image": (
        *(partial(cross_entropy, Z, OK, W[0]), ValueError),
        r"weights have shape \(4, 5\), the mask \(2, 4, 5\)",
    ),
    "negative weight": (
        *(partial(cross_entropy, Z, OK, W - 1.5), ValueError),
        r"weights must be 0 or more, found -0\.5\.",
    ),
    "NaN weight": (
        *(partial(cross_entropy, Z, OK, W * NAN), ValueError),
        "weights must be 0 or more, found nan",
    ),
    "integer weights": (
        *(partial(cross_entropy, Z, OK, W.long()), TypeError),
        r"weights must be floats, got torch\.int64",
    ),
    "focal gamma < 0": (
        *(partial(focal, Z, OK, gamma=-0.5), ValueError),
        r"gamma must be 0 or more, and finite; got -0\.5",
    ),
    "focal gamma inf": (partial(focal, Z, OK, INF), ValueError, "gamma .* got inf"),
    "focal gamma NaN": (partial(focal, Z, OK, NAN), ValueError, "gamma .* got nan"),
    "gamma = 0": (
        *(partial(focal_tversky, Z, OK, gamma=0), ValueError),
        "gamma must be above 0 and finite, got 0",
    ),
    "gamma inf": (
        *(partial(focal_tversky, Z, OK, gamma=INF), ValueError),
        "gamma must be above 0 and finite, got inf",
    ),
    "alpha = 0": (
        *(partial(focal_tversky, Z, OK, alpha=0), ValueError),
        r"alpha must lie between 0 and 1, got 0\. .*missed pixel",
    ),
    "alpha = 1": (partial(focal_tversky, Z, OK, 1.0), ValueError, r"alpha .* got 1\.0"),
    "alpha NaN": (partial(focal_tversky, Z, OK, NAN), ValueError, "alpha .* got nan"),
    "w0 < 0": (partial(weight_map, OBJECTS, -1), ValueError, "w0 must be 0 .* got -1"),
    "w0 inf": (partial(weight_map, OBJECTS, INF), ValueError, "w0 .* got inf"),
    "sigma = 0": (
        *(partial(weight_map, OBJECTS, 10, 0), ValueError),
        "sigma must be above 0 pixels, and finite; got 0",
    ),
    "sigma NaN": (partial(weight_map, OBJECTS, 10, NAN), ValueError, "sigma .* nan"),
}
for function in (weight_map, separate):
    ILL |= {
        f"{function.__name__} {name}": (partial(function, instances), error, says)
        for name, instances, error, says in [
            ("float", W[0], TypeError, r"one integer .* got torch\.float32\. .*label"),
            ("bool", W[0] > 0, TypeError, r"one integer .* got torch\.bool"),
            ("batch", OK, ValueError, r"one image \(H, W\), got \(2, 4, 5\)\. Of a b"),
            ("empty", OBJECTS[:0], ValueError, r"one image \(H, W\), got \(0, 5\)"),
            ("negative", OBJECTS - 3, ValueError, r"0 for background .* found -2\."),
        ]
    }


@pytest.mark.parametrize(("call", "error", "says"), ILL.values(), ids=ILL)
def test_ill_cases(call, error, says):
    with pytest.raises(error, match=says):
        call()
