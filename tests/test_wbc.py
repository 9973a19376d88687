"""WBC: the right pictures, three classes, sizes of their own."""

import numpy as np
import pytest
import torch
from PIL import Image

from unet_edu.data import wbc


def test_splits_share_no_picture_and_leave_none_out():
    parts = [wbc.SPLITS[name] for name in ("train", "val", "held_out")]
    assert sorted(n for part in parts for n in part) == list(range(1, 301))
    assert [len(part) for part in parts] == [180, 60, 60]


def test_every_split_has_both_kinds_of_ground():
    for numbers in wbc.SPLITS.values():
        white = sum(n > 200 for n in numbers) / len(numbers)
        assert white == pytest.approx(1 / 3)


def test_the_ground_changes_at_picture_201(wbc_files):
    def blue(numbers):
        return [
            float(image[2][mask == 0].mean())
            for image, mask in wbc.load(numbers=list(numbers))
        ]

    assert np.median(blue(range(101, 201))) < 0.7
    assert min(blue(range(201, 301))) > 0.8


def test_twins_are_known_and_none_is_held_out(wbc_files):
    small = [
        torch.nn.functional.interpolate(image[None], (48, 48), mode="area").flatten()
        for image, _ in wbc.load("all")
    ]
    alike = torch.corrcoef(torch.stack(small)).triu(1) > 0.99
    twins = [(i + 1, j + 1) for i, j in alike.nonzero().tolist()]
    assert twins == [(112, 139), (166, 171)]
    assert not {n for pair in twins for n in pair} & set(wbc.SPLITS["held_out"])


def test_contract(wbc_files):
    data = wbc.load(numbers=[300, 1])
    assert len(data) == 2
    for image, mask in data:
        assert image.dtype == torch.float32
        assert mask.dtype == torch.int64
        assert image.shape == (3, *mask.shape)
        assert 0 <= image.min() < image.max() <= 1
        assert mask.unique().tolist() == [0, 1, 2]


def test_shares_of_the_classes_over_all_pictures(wbc_files):
    masks = [mask for _, mask in wbc.load("all")]
    shares = np.mean(
        [[float((mask == k).float().mean()) for k in range(3)] for mask in masks], 0
    )
    assert shares == pytest.approx([0.6873, 0.1881, 0.1246], abs=1e-4)
    sizes = [tuple(mask.shape) for mask in masks]
    assert sizes.count((120, 120)) == 224
    assert min(map(min, sizes)) == 88


def test_the_nucleus_lies_inside_and_is_dark(wbc_files):
    image, mask = wbc.load(numbers=[1])[0]
    gray = image.mean(0)
    assert gray[mask == 2].mean() < gray[mask == 1].mean()


ILL = [
    ({"split": "test"}, "split must be one of train, val, held_out, all; got 'test'"),
    ({"numbers": [0]}, "numbered 1 to 300; got 0"),
    ({"numbers": [301]}, "numbered 1 to 300; got 301"),
    ({"numbers": []}, "numbered 1 to 300; got none"),
]


@pytest.mark.parametrize(("kwargs", "message"), ILL)
def test_ill_requests(kwargs, message):
    with pytest.raises(ValueError, match=message):
        wbc.load(**kwargs)


def test_a_mask_with_another_value_is_refused(tmp_path):
    for name in ("a.bmp", "a.png"):
        Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"\(0, 128, 255\), found \[7\]"):
        wbc._read(tmp_path / "a.bmp", tmp_path / "a.png")
