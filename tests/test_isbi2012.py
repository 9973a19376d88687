"""ISBI 2012: the right slices, the right way round."""

import hashlib

import pytest
import torch

from unet_edu.data import isbi2012

SPLITS = [("train", 0, 24), ("held_out", 24, 30), ("all", 0, 30)]


@pytest.fixture(scope="module")
def stack(isbi2012_files):
    """All images and masks, read once."""
    return isbi2012.load("all").tensors


def sha256(array: torch.Tensor) -> str:
    return hashlib.sha256(array.to(torch.uint8).numpy().tobytes()).hexdigest()


def test_splits_are_blocks_and_share_no_slice():
    splits = {name: list(slices) for name, slices in isbi2012.SPLITS.items()}
    assert splits == {name: list(range(a, b)) for name, a, b in SPLITS}
    assert not set(splits["train"]) & set(splits["held_out"])


@pytest.mark.parametrize(("split", "first", "end"), SPLITS, ids=[s[0] for s in SPLITS])
def test_a_split_holds_its_slices(stack, split, first, end):
    images, masks = isbi2012.load(split).tensors
    assert torch.equal(images, stack[0][first:end])
    assert torch.equal(masks, stack[1][first:end])


def test_the_default_is_train(isbi2012_files):
    assert len(isbi2012.load()) == 24


def test_slices_instead_of_a_split(stack):
    images, masks = isbi2012.load(slices=[29, 3]).tensors
    assert torch.equal(images, stack[0][[29, 3]])
    assert torch.equal(masks, stack[1][[29, 3]])


def test_contract(stack):
    images, masks = stack
    assert images.shape == (30, 1, 512, 512)
    assert masks.shape == (30, 512, 512)
    assert images.dtype == torch.float32
    assert masks.dtype == torch.int64
    assert 0 <= images.min() < images.max() <= 1
    assert masks.unique().tolist() == [0, 1]
    assert isbi2012.CLASSES == ("cell", "membrane")


def test_the_arrays_are_the_published_ones(stack):
    # In the files 255 is cell, which is class 0 here.
    images, masks = stack
    assert sha256((images[:, 0] * 255).round()) == (
        "200da3d452d726e6c9ca1ce04b869d4edb727320d23b516d01cce707dc8c4760"
    )
    assert sha256(torch.where(masks == 0, 255, 0)) == (
        "a7cb64000a1a7e542682927e19c91339f58f9f178e0bcce4e207371116f0ca36"
    )


@pytest.mark.parametrize(("split", "cell"), [("held_out", 0.804), ("all", 0.780)])
def test_most_pixels_are_cell(stack, split, cell):
    masks = stack[1][list(isbi2012.SPLITS[split])]
    assert round((masks == 0).double().mean().item(), 3) == cell


def test_membranes_are_darker(stack):
    images, masks = stack
    assert images[:, 0][masks == 1].mean() < images[:, 0][masks == 0].mean() - 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, r"split must be one of train, held_out, all; got 'test'"),
        ({"slices": [30]}, r"slices are numbered 0 to 29; got 30"),
        ({"slices": [0, -1]}, r"slices are numbered 0 to 29; got -1"),
        ({"slices": []}, r"slices are numbered 0 to 29; got none"),
    ],
    ids=str,
)
def test_load_refuses(arguments, message):
    # Refused before any file is looked for, so this needs no data.
    with pytest.raises(ValueError, match=message):
        isbi2012.load(**arguments)
