"""Random pieces: image and mask stay together, and every piece can occur."""

import pytest
import torch
from torch.utils.data import TensorDataset

from unet_edu.data.augment import RandomCrops


def numbered(n: int = 1, height: int = 4, width: int = 4) -> TensorDataset:
    """Pairs in which every pixel has a number of its own, in image and in mask."""
    masks = torch.arange(n * height * width).reshape(n, height, width)
    return TensorDataset(masks[:, None].float(), masks)


def key(mask: torch.Tensor) -> tuple:
    return tuple(map(tuple, mask.tolist()))


def draws(crops: RandomCrops, seed: int = 0) -> list[tuple]:
    """Return the masks of one epoch in a form that can be compared and counted."""
    torch.manual_seed(seed)
    return [key(crops[i][1]) for i in range(len(crops))]


@pytest.mark.parametrize("turn", [True, False])
@pytest.mark.parametrize(("height", "width"), [(9, 9), (6, 11), (11, 6)])
def test_image_and_mask_stay_together(turn, height, width):
    crops = RandomCrops(numbered(3, height, width), 5, 60, turn)
    assert len(crops) == 60
    torch.manual_seed(0)
    for i in range(60):
        image, mask = crops[i]
        assert image.shape == (1, 5, 5)
        assert mask.shape == (5, 5)
        assert image.dtype == torch.float32
        assert mask.dtype == torch.int64
        assert torch.equal(image[0].long(), mask)
        assert image.is_contiguous()
        assert mask.is_contiguous()


def test_every_channel_is_turned():
    base = numbered().tensors
    crops = RandomCrops(TensorDataset(base[0].repeat(1, 3, 1, 1), base[1]), 3, 40)
    for i in range(40):
        image, mask = crops[i]
        assert torch.equal(image.long(), mask.expand(3, 3, 3))


def test_all_eight_turns_occur_and_no_other():
    square = numbered()[0][1]
    quarters = [torch.rot90(square, k) for k in range(4)]
    eight = {key(q) for q in quarters} | {key(q.flip(-1)) for q in quarters}
    assert len(eight) == 8
    assert set(draws(RandomCrops(numbered(), 4, 300))) == eight


@pytest.mark.parametrize(("height", "width"), [(4, 5), (3, 4), (3, 3)])
def test_every_place_of_every_image_occurs_and_no_other(height, width):
    data = numbered(2, height, width)
    places = {
        key(mask[top : top + 3, left : left + 3])
        for _, mask in data
        for top in range(height - 2)
        for left in range(width - 2)
    }
    assert set(draws(RandomCrops(data, 3, 400, turn=False))) == places


def test_a_seed_fixes_the_draws():
    crops = RandomCrops(numbered(2, 9, 9), 4, 20)
    assert draws(crops, 1) == draws(crops, 1)
    assert draws(crops, 1) != draws(crops, 2)


def test_a_second_look_draws_anew():
    crops = RandomCrops(numbered(2, 9, 9), 4, 1)
    torch.manual_seed(0)
    assert len({key(crops[0][1]) for _ in range(20)}) > 1


@pytest.mark.parametrize("index", [3, 4, -1])
def test_past_the_end(index):
    with pytest.raises(IndexError):
        RandomCrops(numbered(), 2, 3)[index]


def test_a_loop_ends():
    assert len(list(RandomCrops(numbered(), 2, 3))) == 3


@pytest.mark.parametrize(
    ("source", "size", "length", "message"),
    [
        (numbered(), 0, 1, r"size must be an integer >= 1, got 0"),
        (numbered(), 2.0, 1, r"size must be an integer >= 1, got 2\.0"),
        (numbered(), 2, 0, r"length must be an integer >= 1, got 0"),
        (numbered(0), 2, 1, r"data set is empty"),
    ],
    ids=["size 0", "size 2.0", "length 0", "empty"],
)
def test_refused_at_once(source, size, length, message):
    with pytest.raises(ValueError, match=message):
        RandomCrops(source, size, length)


def test_an_image_smaller_than_the_piece():
    crops = RandomCrops(numbered(1, 6, 4), 5, 1)
    with pytest.raises(ValueError, match=r"Cannot cut 5x5 .* 6x4: use size=4 or less"):
        crops[0]
