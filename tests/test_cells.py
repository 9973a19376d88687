"""Drawn cells: the same on every machine, and the truth they claim to have."""

import hashlib

import pytest
import torch

from unet_edu.data import cells

SMALL = {"size": 32, "diameter": 12}


def sha256(tensor: torch.Tensor) -> str:
    """Return the hash of a tensor of small non-negative integers."""
    return hashlib.sha256(tensor.to(torch.uint8).numpy().tobytes()).hexdigest()


# Masks are pinned by hash: they are whole numbers. Images went through exponentials
# that may differ in the last bit between machines, so of them only rounded means.
PINNED = {
    "membranes": (
        "78f1e5a87583bee0d72fa04ac820913d6e278ddd0a57cda5883b290e45497c6b",
        "0716d884abdd5892a00279cd33a53eeb1e3a2538e1f3b9628a0e32fdd34aadd2",
        0.545,
    ),
    "nuclei": (
        "6e26e4e903edf1089959e9d7495e21023ddd43cc74204d28de4cb0d4a52217f6",
        "6a4bfd800602744f99ed440df4c917d908f833f441323dff307049acc698db80",
        0.213,
    ),
}


@pytest.mark.parametrize("kind", cells.KINDS)
def test_a_seed_draws_the_same_image_on_every_machine(kind):
    mask, instances, mean = PINNED[kind]
    sample = cells.draw(7, kind=kind, **SMALL)
    assert sha256(sample.mask) == mask
    assert sha256(sample.instances) == instances
    assert round(sample.image.mean().item(), 3) == mean


@pytest.mark.parametrize("kind", cells.KINDS)
def test_seed_decides(kind):
    first, again, other = (cells.draw(seed, kind=kind, **SMALL) for seed in (3, 3, 4))
    for name in ("image", "mask", "instances"):
        one, two, three = (getattr(s, name) for s in (first, again, other))
        assert torch.equal(one, two)
        assert not torch.equal(one, three)


def test_data_sets_of_other_seeds_share_no_image():
    images = [
        image.numpy().tobytes()
        for seed in range(3)
        for image, _ in cells.Cells(4, seed=seed, **SMALL)
    ]
    assert len(set(images)) == len(images)


def test_noise_changes_the_image_and_not_the_truth():
    quiet, loud = (cells.draw(0, noise=noise, **SMALL) for noise in (0.0, 0.3))
    assert torch.equal(quiet.mask, loud.mask)
    assert not torch.equal(quiet.image, loud.image)


@pytest.mark.parametrize("kind", cells.KINDS)
@pytest.mark.parametrize(("size", "diameter"), [(8, 8), (32, 12), (33, 33), (96, 24)])
def test_contract_of_a_sample(kind, size, diameter):
    sample = cells.draw(0, size, kind, diameter=diameter)
    assert sample.image.shape == (1, size, size)
    assert sample.mask.shape == sample.instances.shape == (size, size)
    assert sample.image.dtype == torch.float32
    assert sample.mask.dtype == sample.instances.dtype == torch.int64
    assert 0 <= sample.image.min() < sample.image.max() <= 1
    assert set(sample.mask.unique().tolist()) <= {0, 1}
    # Numbers without gaps: 1, 2, ..., n, and 0 for what is no object.
    numbers = sample.instances.unique()
    assert numbers[-1] >= 1
    assert torch.equal(numbers, torch.arange(numbers[0], numbers[-1] + 1))


@pytest.mark.parametrize("seed", range(5))
def test_instances_are_the_cells_between_membranes(seed):
    sample = cells.draw(seed, **SMALL)
    assert sample.mask.unique().tolist() == [0, 1]
    assert torch.equal(sample.instances == 0, sample.mask == 1)


@pytest.mark.parametrize("seed", range(5))
def test_instances_are_the_nuclei_on_the_ground(seed):
    sample = cells.draw(seed, kind="nuclei", **SMALL)
    assert sample.mask.unique().tolist() == [0, 1]
    assert torch.equal(sample.instances == 0, sample.mask == 0)


def pairs_that_touch(instances: torch.Tensor) -> int:
    """Count neighbours in a row that belong to two different objects."""
    left, right = instances[:, :-1], instances[:, 1:]
    return int(((left > 0) & (right > 0) & (left != right)).sum())


def test_some_nuclei_touch():
    # Touching nuclei are why instances exist beside the mask; cells have a membrane.
    nuclei = [cells.draw(s, 64, "nuclei", diameter=16).instances for s in range(5)]
    assert sum(map(pairs_that_touch, nuclei)) > 0


def test_membranes_are_dark_and_nuclei_bright():
    for kind, sign in [("membranes", -1), ("nuclei", 1)]:
        sample = cells.draw(0, 96, kind)
        image = sample.image[0]
        ones, zeros = image[sample.mask == 1].mean(), image[sample.mask == 0].mean()
        assert sign * (ones - zeros) > 0.1


def test_a_data_set_gives_pairs():
    data = cells.Cells(3, seed=5, kind="nuclei", **SMALL)
    assert len(data) == 3
    for (image, mask), sample in zip(
        (data[i] for i in range(3)), data.samples, strict=True
    ):
        assert torch.equal(image, sample.image)
        assert torch.equal(mask, sample.mask)
    with pytest.raises(IndexError):
        data[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, r"seed must be an integer >= 0, got -1"),
        ({"seed": 1.5}, r"seed must be an integer >= 0, got 1\.5"),
        ({"size": 7}, r"size must be an integer >= 8, got 7"),
        ({"kind": "yeast"}, r"kind must be one of membranes, nuclei; got 'yeast'"),
        ({"diameter": 3.9}, r"diameter must be from 4 to 32 px; got 3\.9"),
        ({"diameter": 33}, r"diameter must be from 4 to 32 px; got 33"),
        ({"diameter": float("nan")}, r"diameter must be from 4 to 32 px; got nan"),
        ({"noise": -0.1}, r"noise must be in \[0, 1\); got -0\.1"),
        ({"noise": 1.0}, r"noise must be in \[0, 1\); got 1\.0"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_draw_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        cells.draw(**({"seed": 0} | SMALL | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, r"n must be an integer >= 1, got 0"),
        ({"n": 2.0}, r"n must be an integer >= 1, got 2\.0"),
        ({"kind": "yeast"}, r"kind must be one of membranes, nuclei; got 'yeast'"),
        pytest.param(
            {"seed": -1},
            r"seed must be an integer >= 0, got -1\.",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_data_set_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        cells.Cells(**({"n": 1} | SMALL | arguments))


def nuclei(seed: int = 3) -> cells.Sample:
    return cells.draw(seed, 64, "nuclei", diameter=16)


def test_annotators_differ_in_the_way_they_say():
    sample = nuclei()
    drawn = {name: cells.annotate(sample, name) for name in cells.ANNOTATORS}
    for mask in drawn.values():
        assert mask.shape == sample.mask.shape
        assert mask.dtype == torch.int64
    assert torch.equal(drawn["exact"], sample.mask)
    assert (drawn["strict"] <= drawn["exact"]).all()
    assert (drawn["exact"] <= drawn["generous"]).all()
    assert drawn["strict"].sum() < drawn["exact"].sum() < drawn["generous"].sum()


def test_the_bright_annotator_draws_whole_nuclei_and_the_brighter_half():
    sample = nuclei()
    bright = cells.annotate(sample, "bright")
    shares, light = [], []
    for number in range(1, int(sample.instances.max()) + 1):
        inside = sample.instances == number
        shares.append(float(bright[inside].float().mean()))
        light.append(float(sample.image[0][inside].mean()))
    assert set(shares) == {0.0, 1.0}
    kept = [value for value, share in zip(light, shares, strict=True) if share]
    left_out = [value for value, share in zip(light, shares, strict=True) if not share]
    assert min(kept) > max(left_out)
    assert len(kept) - len(left_out) in (0, 1)


@pytest.mark.parametrize(("pixels", "grown"), [(0, 0), (1, 1), (3, 3)])
def test_the_generous_outline_is_that_many_pixels_outside(pixels, grown):
    mask = torch.zeros(21, 21, dtype=torch.int64)
    mask[10, 10] = 1
    sample = cells.Sample(torch.zeros(1, 21, 21), mask, mask)
    drawn = cells.annotate(sample, "generous", pixels)
    assert drawn[10].sum() == drawn[:, 10].sum() == 1 + 2 * grown
    assert torch.equal(cells.annotate(sample, "strict", pixels), mask * (pixels < 1))


def test_annotators_of_an_image_without_nuclei():
    empty = torch.zeros(9, 9, dtype=torch.int64)
    sample = cells.Sample(torch.zeros(1, 9, 9), empty, empty)
    for name in cells.ANNOTATORS:
        assert cells.annotate(sample, name).sum() == 0


ILL_ANNOTATIONS = [
    (("somebody",), "annotator must be one of exact, generous, strict, bright"),
    (("strict", -1), "pixels must be >= 0; got -1"),
]


@pytest.mark.parametrize(("args", "message"), ILL_ANNOTATIONS)
def test_ill_annotations(args, message):
    with pytest.raises(ValueError, match=message):
        cells.annotate(nuclei(), *args)


def test_annotators_do_not_draw_membranes():
    with pytest.raises(ValueError, match="of another kind"):
        cells.annotate(cells.draw(0, 32, diameter=12), "exact")
