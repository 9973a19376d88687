"""Random pieces: image and mask stay together, and every piece can occur."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils.data import TensorDataset

from unet_edu.data.augment import RandomCrops, elastic_field, warp


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


# Bending.


def smooth(height: int = 40, width: int = 56, wave: float = 6.0) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return (torch.sin(rows / wave) * torch.cos(columns / wave))[None] / 2 + 0.5


def test_no_displacement_changes_nothing():
    x, mask = smooth(), torch.randint(0, 5, (40, 56))
    still = torch.zeros(2, 40, 56)
    assert torch.allclose(warp(x, still), x, atol=1e-5)
    assert torch.equal(warp(mask, still), mask)


@pytest.mark.parametrize(("rows", "columns"), [(3, 0), (0, -4), (2, 5)])
def test_an_even_displacement_is_a_shift(rows, columns):
    x, mask = smooth(), torch.randint(0, 5, (40, 56))
    field = torch.zeros(2, 40, 56)
    field[0], field[1] = rows, columns
    inner = (..., slice(10, 30), slice(10, 40))
    shifted = (..., slice(10 + rows, 30 + rows), slice(10 + columns, 40 + columns))
    assert torch.allclose(warp(x, field)[inner], x[shifted], atol=1e-5)
    assert torch.equal(warp(mask, field)[inner], mask[shifted])


def test_bending_agrees_with_scipy():
    torch.manual_seed(0)
    x, field = smooth(wave=18.0), elastic_field(40, 56, std=2.0)
    places = np.mgrid[0:40, 0:56] + field.numpy()
    expected = ndimage.map_coordinates(x[0].numpy(), places, order=3, mode="mirror")
    inner = (slice(8, 32), slice(8, 48))
    # Two kinds of cubic interpolation, so on a smooth image they agree closely.
    assert np.abs(warp(x, field)[0].numpy() - expected)[inner].max() < 2e-3
    labels = (x[0] > 0.5).long()
    expected = ndimage.map_coordinates(labels.numpy(), places, order=0, mode="mirror")
    differ = (warp(labels, field).numpy() != expected)[inner].mean()
    assert differ < 0.002  # ties at half a pixel


def test_a_part_of_a_bent_map_is_that_part():
    torch.manual_seed(0)
    x, field = smooth(), elastic_field(40, 56)
    part = warp(x, field[:, 5:20, 30:50], top=5, left=30)
    assert torch.allclose(part, warp(x, field)[..., 5:20, 30:50], atol=1e-6)


def test_a_bent_map_has_no_new_values():
    torch.manual_seed(0)
    field = elastic_field(40, 56, std=20.0)
    assert set(warp(torch.randint(0, 3, (40, 56)) * 2, field).unique().tolist()) <= {
        *(0, 2, 4)
    }
    noise = torch.rand(1, 40, 56)
    bent = warp(noise, field)
    assert noise.min() <= bent.min() <= bent.max() <= noise.max()


def test_the_field_is_the_papers():
    torch.manual_seed(0)
    fields = torch.stack([elastic_field(65, 65, std=10.0) for _ in range(400)])
    # The nine points of the grid have the stated deviation, independently.
    points = fields[:, :, ::32, ::32].flatten(1)
    assert points.shape[1] == 2 * 9
    assert points.std().item() == pytest.approx(10, rel=0.05)
    assert points.mean().abs().item() < 0.5
    correlations = torch.corrcoef(points.T) - torch.eye(18)
    assert correlations.abs().max() < 0.25
    # Between them it is smooth.
    assert fields.diff(n=2, dim=-1).abs().max() < 0.2 * fields.diff(dim=-1).abs().max()


def test_pieces_are_bent_with_their_masks():
    image = smooth(64, 64)
    source = TensorDataset(image[None], (image > 0.5).long())
    crops = RandomCrops(source, 32, 20, bend=8.0)
    straight = RandomCrops(source, 32, 20)
    torch.manual_seed(0)
    agree = []
    for i in range(20):
        piece, mask = crops[i]
        assert piece.shape == (1, 32, 32)
        assert mask.dtype == torch.int64
        agree.append(((piece[0] > 0.5) == mask.bool()).float().mean().item())
    assert min(agree) > 0.93
    torch.manual_seed(0)
    bent = crops[0][0]
    torch.manual_seed(0)
    assert not torch.equal(bent, straight[0][0])


def test_whatever_comes_after_the_mask_goes_the_same_way():
    base = numbered(2, 9, 9).tensors
    source = TensorDataset(*base, base[1].float() / 2)
    torch.manual_seed(0)
    for bend in (0.0, 3.0):
        crops = RandomCrops(source, 5, 30, bend=bend)
        for i in range(30):
            image, mask, weights = crops[i]
            assert weights.shape == mask.shape
            assert torch.allclose(weights * 2, image[0], atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: elastic_field(8, 8, std=-1), "std must be at least 0 px and finite"),
        (lambda: elastic_field(8, 8, grid=1), "grid must be an integer >= 2, got 1"),
        (
            lambda: warp(torch.zeros(8, 8), torch.zeros(2, 8, 8), top=1),
            "8x8 at row 1, column 0 does not lie inside a map of 8x8",
        ),
        (
            lambda: RandomCrops(numbered(), 2, 2, bend=float("nan")),
            "bend must be at least 0 px and finite; got nan",
        ),
    ],
)
def test_ill_bending(call, message):
    with pytest.raises(ValueError, match=message):
        call()
