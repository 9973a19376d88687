"""CHASE_DB1: the right children, both observers, no eye in two splits."""

import pytest
import torch
from torch.nn.functional import max_pool2d

from unet_edu.data import chase_db1


@pytest.fixture(scope="module")
def everything(chase_files):
    return chase_db1.load("all", None)


def test_splits_share_no_child_and_leave_none_out():
    parts = [chase_db1.SPLITS[name] for name in ("train", "val", "held_out")]
    assert sorted(n for part in parts for n in part) == list(range(1, 15))


def test_contract(chase_files):
    data = chase_db1.load(children=[14, 1], observer=2)
    assert len(data) == 4
    for image, mask in data:
        assert image.dtype == torch.float32
        assert image.shape == (3, 960, 999)
        assert mask.dtype == torch.int64
        assert mask.shape == (960, 999)
        assert 0 <= image.min() < image.max() <= 1
        assert mask.unique().tolist() == [0, 1]


def test_two_observers_agree_as_published(everything):
    # A Dice of .777 between the two, from .739 to .827, over the 28 eyes.
    found = [
        float(2 * (one * two).sum() / (one.sum() + two.sum()))
        for _, one, two in everything
    ]
    assert len(found) == 28
    assert sum(found) / 28 == pytest.approx(0.777, abs=5e-4)
    assert min(found) == pytest.approx(0.739, abs=5e-4)
    assert max(found) == pytest.approx(0.827, abs=5e-4)


def test_vessels_are_dark_in_green(everything):
    for image, mask, _ in everything:
        near = max_pool2d(mask[None].float(), 15, 1, 7)[0] > 0
        beside = near & (mask == 0)
        assert image[1][mask == 1].mean() < image[1][beside].mean()


@pytest.mark.parametrize("shrink", [2, 4])
def test_a_shrunken_pixel_is_a_mean_and_a_majority(chase_files, shrink):
    ((image, mask),) = list(chase_db1.load(children=[3], shrink=shrink))[:1]
    whole, full = chase_db1.load(children=[3])[0]
    assert image.shape == (3, 960 // shrink, 999 // shrink)
    square = (slice(7 * shrink, 8 * shrink), slice(9 * shrink, 10 * shrink))
    expected = whole[:, *square].mean((1, 2))
    torch.testing.assert_close(image[:, 7, 9], expected)
    shares = full[:, : 999 // shrink * shrink].float()
    shares = shares.unflatten(1, (-1, shrink)).unflatten(0, (-1, shrink)).mean((1, 3))
    assert torch.equal(mask, (shares >= 0.5).long())


ILL = [
    ({"split": "test"}, "split must be one of train, val, held_out, all; got 'test'"),
    ({"observer": 3}, "observer must be one of 1, 2, None; got 3"),
    ({"children": [0]}, "numbered 1 to 14; got 0"),
    ({"children": []}, "numbered 1 to 14; got none"),
    ({"shrink": 3}, "shrink must be one of 1, 2, 4; got 3"),
]


@pytest.mark.parametrize(("kwargs", "message"), ILL)
def test_ill_requests(kwargs, message):
    with pytest.raises(ValueError, match=message):
        chase_db1.load(**kwargs)
