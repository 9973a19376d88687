"""Metrics of boundaries and regions, by hand, against scikit-image and MONAI."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from scipy.ndimage import gaussian_filter
from skimage.measure import shannon_entropy
from skimage.metrics import (
    adapted_rand_error,
    contingency_table,
    variation_of_information,
)
from torch import Tensor

from unet_edu.data.cells import draw
from unet_edu.metrics import (
    boundary_f1,
    confusion_matrix,
    hausdorff95,
    isbi_scores,
    pixel_accuracy,
    regions,
    splits_and_merges,
    v_info,
    v_rand,
)


def picture(*rows: str) -> Tensor:
    """Return a tensor of digits: "." is 0 and "#" is 1."""
    digits = [[int({".": "0", "#": "1"}.get(c, c)) for c in row] for row in rows]
    return torch.tensor(digits)


def box(top: int, left: int, height: int, width: int, size: int = 20) -> Tensor:
    image = torch.zeros(size, size, dtype=torch.int64)
    image[top : top + height, left : left + width] = 1
    return image


def blob(seed: int) -> Tensor:
    """Return a bent region that stays 3 pixels away from the edge."""
    rng = np.random.default_rng(seed)
    image = torch.zeros(40, 40, dtype=torch.int64)
    field = gaussian_filter(rng.standard_normal((34, 34)), 3)
    image[3:-3, 3:-3] = torch.from_numpy(field > 0).long()
    return image


def random_labels(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(4, (30, 31), generator=generator)
    segments = torch.randint(5, (30, 31), generator=generator)
    agree = torch.rand(30, 31, generator=generator) < 0.6
    return torch.where(agree, truth, segments), truth


EMPTY = torch.zeros(20, 20, dtype=torch.int64)
FULL = EMPTY + 1
DOT = box(5, 5, 1, 1)

# predicted, truth, boundary F1 within 2 px, 95 % Hausdorff distance
BOUNDARIES = {
    "equal": (box(5, 5, 6, 6), box(5, 5, 6, 6), 1, 0),
    "dot, 2 away": (DOT, box(5, 7, 1, 1), 1, 2),
    "dot, 3 away": (DOT, box(5, 8, 1, 1), 0, 3),
    "dot, diagonal": (DOT, box(7, 7, 1, 1), 0, math.sqrt(8)),
    # Columns 5 to 9 stand against 5 to 14: P = 1, and 7 of 10 true pixels are within
    # 2 px. The ten distances are 0 five times, then 1 to 5; 95 % of the way from the
    # first to the tenth is 0.55 past the ninth.
    "half a line": (
        *(box(5, 5, 1, 5), box(5, 5, 1, 10), 2 * 0.7 / 1.7),
        4 + 0.55,
    ),
    "absent from both": (EMPTY, EMPTY, math.nan, math.nan),
    "only true": (EMPTY, DOT, 0, math.inf),
    "only predicted": (DOT, EMPTY, 0, math.inf),
    "both fill the image": (FULL, FULL, 1, 0),
    "one fills the image": (FULL, box(0, 0, 20, 10), 0, math.inf),
    "one fills, one is absent": (FULL, EMPTY, 0, math.inf),
    # The edge of the image is no boundary: only columns 9 and 10 are.
    "half the image": (box(0, 0, 20, 10), box(0, 0, 20, 11), 1, 1),
}


@pytest.mark.parametrize(
    ("predicted", "mask", "f1", "distance"), BOUNDARIES.values(), ids=BOUNDARIES
)
def test_boundaries_by_hand(predicted, mask, f1, distance):
    assert boundary_f1(predicted, mask) == pytest.approx(f1, abs=1e-15, nan_ok=True)
    found = hausdorff95(predicted, mask)
    assert found == pytest.approx(distance, abs=1e-12, nan_ok=True)


def test_a_boundary_pixel_has_one_of_four_neighbours_outside():
    # The ring of 8 pixels is the boundary, the middle is not.
    ring = picture(".....", ".###.", ".###.", ".###.", ".....")
    middle = picture(".....", ".....", "..#..", ".....", ".....")
    assert boundary_f1(middle, ring, tolerance=0) == 0
    # A hole at a corner touches the middle diagonally only.
    notched = ring.clone()
    notched[1, 1] = 0
    assert boundary_f1(middle, notched, tolerance=0) == 0
    # All 4 side pixels are within 1 px of the middle, the 4 corners are not.
    assert boundary_f1(middle, ring, tolerance=1) == pytest.approx(2 * 0.5 / 1.5)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 4])
def test_boundary_f1_is_a_count(tolerance):
    def boundary(image: Tensor) -> list[tuple[int, int]]:
        inside = set(map(tuple, image.nonzero().tolist()))
        steps = (1, 0), (-1, 0), (0, 1), (0, -1)
        return [(r, c) for r, c in inside
                if {(r + i, c + j) for i, j in steps} - inside]  # fmt: skip

    predicted, mask = boundary(blob(0)), boundary(blob(1))
    near = [sum(any(math.dist(p, q) <= tolerance for q in b) for p in a) / len(a)
            for a, b in ((predicted, mask), (mask, predicted))]  # fmt: skip
    expected = 2 * near[0] * near[1] / (near[0] + near[1])
    found = boundary_f1(blob(0), blob(1), tolerance)
    assert found == pytest.approx(expected, abs=1e-15)


def test_the_label_says_whose_boundary():
    predicted, mask = 3 * box(5, 5, 4, 4), 3 * box(5, 9, 4, 4)
    assert boundary_f1(predicted, mask, label=3) == boundary_f1(
        predicted // 3, mask // 3
    )
    assert hausdorff95(predicted, mask, label=3) == 4
    assert math.isnan(hausdorff95(predicted, mask, label=2))


def monai_hausdorff95(predicted: Tensor, mask: Tensor) -> float:
    pair = (x[None, None].float() for x in (predicted, mask))
    return compute_hausdorff_distance(*pair, include_background=True, percentile=95)


@pytest.mark.parametrize("seed", range(6))
def test_monai_finds_the_same_distance_away_from_the_edge(seed):
    predicted, mask = blob(seed), blob(seed + 1)
    expected = monai_hausdorff95(predicted, mask).item()
    # MONAI computes in float32.
    assert hausdorff95(predicted, mask) == pytest.approx(expected, rel=1e-6)


def test_monai_takes_the_edge_of_the_image_for_a_boundary():
    left_half = box(0, 0, 20, 10)
    # For us there is no boundary to be near to; for MONAI it is the frame, whose right
    # side, at column 19, is 10 px from column 9.
    assert hausdorff95(FULL, left_half) == math.inf
    assert monai_hausdorff95(FULL, left_half).item() == 10


# membrane, its regions; thinned or not
WALLS = {
    "a wall": (picture("..#..", "..#..", "..#.."), "11022 11022 11022", False),
    # Four neighbours: the cells on the two sides of a diagonal do not touch.
    "a diagonal": (picture("..#", ".#.", "#.."), "110 102 022", False),
    "no membrane": (picture("...", "..."), "111 111", True),
    "all membrane": (picture("###", "###"), "000 000", True),
    "all membrane, as it is": (picture("###", "###"), "000 000", False),
    # Thinned up to the edge of the image, and not short of it.
    "a thick wall": (picture(*["..###.."] * 5), " ".join(["1110222"] * 5), True),
    "a thick wall, as it is": (
        *(picture(*["..###.."] * 5), " ".join(["1100022"] * 5), False),
    ),
    "a gap": (picture("..#..", ".....", "..#.."), "11011 11111 11011", False),
}


@pytest.mark.parametrize(("membrane", "expected", "thin"), WALLS.values(), ids=WALLS)
def test_regions_by_hand(membrane, expected, thin):
    found = regions(membrane, thin=thin)
    assert torch.equal(found, picture(*expected.split()))
    assert found.dtype == torch.int64


@pytest.mark.parametrize("seed", range(5))
def test_thinning_keeps_the_cells_of_a_drawn_image(seed):
    mask = draw(seed).mask
    thick, thin = regions(mask, thin=False), regions(mask)
    assert thick.max() > 30
    assert (thin == 0).sum() < (thick == 0).sum() / 2
    # Each cell is in one region and each region around one cell, at the edge as well.
    pairs = {(a, b) for a, b in zip(thick.flatten().tolist(), thin.flatten().tolist(),
                                    strict=True) if a > 0}  # fmt: skip
    assert len(pairs) == thick.max() == thin.max()
    assert splits_and_merges(thin, thick) == (0, 0)


# Two cells of 6 and 4 pixels, and two pixels of membrane.
TRUTH = picture("111022", "111022")
LN = math.log
ENTROPY = -0.6 * LN(0.6) - 0.4 * LN(0.4)

# segments, V_Rand, V_Info with the walls as one segment, V_Rand with each pixel alone
SCORES = {
    "perfect": (TRUTH, 1, 1, 1),
    "other numbers": (picture("777933", "777933"), 1, 1, 1),
    # All in one: p = t = 0.36 + 0.16 and s = 1.
    "merged": (picture("555555", "555555"), 0.52 / (0.5 + 0.26), 0, 0.52 / 0.76),
    # The first cell in 2 + 4: p = s = 0.04 + 0.16 + 0.16. What the segment tells is H.
    "split": (
        picture("122033", "122033"),
        0.36 / (0.18 + 0.26),
        2 * ENTROPY / (ENTROPY - 0.2 * LN(0.2) - 0.8 * LN(0.4)),
        0.36 / 0.44,
    ),
    # Two pixels of the first cell called membrane: one segment, or two of one pixel.
    "a wall": (
        picture("011022", "011022"),
        0.36 / (0.18 + 0.26),
        2 * ENTROPY / (ENTROPY - 0.2 * LN(0.2) - 0.8 * LN(0.4)),
        (0.16 + 0.16 + 0.02) / (0.17 + 0.26),
    ),
    # All membrane is one segment, or ten segments of one pixel.
    "all wall": (picture("000000", "000000"), 0.52 / 0.76, 0, 0.1 / (0.05 + 0.26)),
}


@pytest.mark.parametrize(
    ("segments", "rand", "info", "alone"), SCORES.values(), ids=SCORES
)
def test_scores_by_hand(segments, rand, info, alone):
    assert v_rand(segments, TRUTH) == pytest.approx(rand, abs=1e-15)
    assert v_info(segments, TRUTH) == pytest.approx(info, abs=1e-14)
    found = v_rand(segments, TRUTH, walls_alone=True)
    assert found == pytest.approx(alone, abs=1e-15)


def test_one_cell_and_one_segment_are_right():
    one = picture("1111", "0000")
    for score in (v_rand, v_info):
        assert score(picture("3333", "4400"), one) == 1
        assert score(picture("3344", "3344"), one) < 1


def test_without_a_cell_there_is_no_score():
    walls = torch.zeros_like(TRUTH)
    for score in (v_rand, v_info):
        assert math.isnan(score(TRUTH, walls))
        assert math.isnan(score(walls, walls, walls_alone=True))
    assert splits_and_merges(TRUTH, walls) == (0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_scikit_image_counts_the_same(seed):
    segments, truth = random_labels(seed)
    images = truth.numpy(), segments.numpy()
    kept = truth > 0
    n = int(kept.sum())

    table = contingency_table(*images, ignore_labels=[0]).tocsr()
    both, segment, cell = (
        float((np.asarray(x, dtype=float) ** 2).sum())
        for x in (table.data, table.sum(axis=0), table.sum(axis=1))
    )
    mean = segment / 2 + cell / 2
    assert v_rand(segments, truth) == pytest.approx(both / mean, abs=1e-14)
    # scikit-image draws two different pixels: n pairs of equal ones fewer.
    error, _, _ = adapted_rand_error(*images)
    assert 1 - error == pytest.approx((both - n) / (mean - n), abs=1e-14)
    assert 0 < v_rand(segments, truth) - (1 - error) < 0.01

    # The two conditional entropies are what the mutual information lacks.
    entropies = sum(shannon_entropy(x[kept].numpy()) for x in (segments, truth))
    lacking = variation_of_information(*images, ignore_labels=[0]).sum()
    expected = 1 - lacking / entropies
    assert v_info(segments, truth) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("score", [v_rand, v_info])
def test_walls_alone_are_segments_of_one_pixel(score):
    segments, truth = random_labels(0)
    apart = segments + (segments == 0) * (10 + torch.arange(930).reshape(30, 31))
    found = score(segments, truth, walls_alone=True)
    assert found == pytest.approx(score(apart, truth), abs=1e-14)
    assert found != pytest.approx(score(segments, truth), abs=1e-4)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("score", [v_rand, v_info])
def test_scores_do_not_depend_on_the_numbers(score, alone):
    segments, truth = random_labels(1)
    renamed = torch.tensor([0, 40, 3, 2**31 - 1, 1])[segments]
    recounted = torch.tensor([0, 9, 2, 4])[truth]
    found = score(renamed, recounted, walls_alone=alone)
    expected = score(segments, truth, walls_alone=alone)
    assert 0 < expected < 1
    assert found == pytest.approx(expected, abs=1e-14)
    assert splits_and_merges(renamed, recounted) == splits_and_merges(segments, truth)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_small_types_do_not_overflow(dtype):
    segments, truth = random_labels(2)
    small = [(60 * segments).clamp(max=125).to(dtype), (40 * truth).to(dtype)]
    large = [x.long() for x in small]
    for score in (v_rand, v_info, splits_and_merges):
        assert score(*small) == score(*large)


def test_a_gap_of_one_pixel():
    """Nothing to the pixels, and half of the image joined to the other half."""
    wall = torch.zeros(64, 64, dtype=torch.int64)
    wall[:, 32] = 1
    gap = wall.clone()
    gap[20, 32] = 0
    truth = regions(wall, thin=False)
    assert pixel_accuracy(confusion_matrix(gap, wall, 2)) == 1 - 1 / 64**2 > 0.999
    assert boundary_f1(gap, wall) == 1
    merged = regions(gap, thin=False)
    # Cells of 32 and 31 columns: p = t and s = 1.
    together = (32**2 + 31**2) / 63**2
    expected = 2 * together / (1 + together)
    assert expected < 0.67
    assert v_rand(merged, truth) == pytest.approx(expected, abs=1e-14)
    assert v_info(merged, truth) == pytest.approx(0, abs=1e-14)
    assert splits_and_merges(merged, truth) == (0, 1)
    assert splits_and_merges(regions(wall), truth) == (0, 0)


GRID = picture(*["111022203330"] * 4)  # three cells of 12 pixels

# segments, overlap, splits and merges
COUNTS = {
    "perfect": (GRID, 0.1, (0, 0)),
    "a gap": (picture(*["111011103330"] * 4), 0.1, (0, 1)),
    "an extra wall": (picture(*["104022203330"] * 4), 0.1, (1, 0)),
    "two extra walls": (picture(*["104022205060"] * 4), 0.1, (2, 0)),
    "cut in three": (picture(*["145022203330"] * 4), 0.1, (2, 0)),
    "all one region": (picture(*["777777777777"] * 4), 0.1, (0, 2)),
    "all wall": (picture(*["000000000000"] * 4), 0.1, (0, 0)),
    "a cell missed": (picture(*["000022203330"] * 4), 0.1, (0, 0)),
    "one split, one merge": (picture(*["145055503330"] * 4), 0.1, (2, 1)),
    # A speck of 1 pixel of 12 is below a tenth, and above 1 / 20.
    "a speck": (picture("411022203330", *["111022203330"] * 3), 0.1, (0, 0)),
    "a speck counted": (picture("411022203330", *["111022203330"] * 3), 0.05, (1, 0)),
    # Exactly as much as asked for is enough: 3 of 12.
    "a quarter": (picture("444022203330", *["111022203330"] * 3), 0.25, (1, 0)),
    "all of it": (picture("444022203330", *["111022203330"] * 3), 1, (0, 0)),
}


@pytest.mark.parametrize(("segments", "overlap", "n"), COUNTS.values(), ids=COUNTS)
def test_splits_and_merges_by_hand(segments, overlap, n):
    assert splits_and_merges(segments, GRID, overlap) == n


def test_a_true_map_scores_one_at_every_threshold():
    sample = draw(0)
    assert isbi_scores(sample.mask.float(), sample.mask) == {
        "v_rand": 1,
        "threshold_rand": 0.1,
        "v_rand_at_half": 1,
        "v_info": 1,
        "threshold_info": 0.1,
        "v_info_at_half": 1,
    }


def blurred(seed: int) -> tuple[Tensor, Tensor]:
    mask = draw(seed).mask
    soft = gaussian_filter(mask.numpy().astype(np.float32), 1.2)
    return torch.from_numpy(soft), mask


@pytest.mark.parametrize("thresholds", [None, [0.7, 0.2, 0.45]])
def test_isbi_scores_are_the_best_of_the_thresholds(thresholds):
    probability, mask = blurred(1)
    found = isbi_scores(probability, mask, thresholds)
    truth = regions(mask, thin=False)
    tried = thresholds or [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    for name, score in (("rand", v_rand), ("info", v_info)):

        def at(threshold: float, score=score) -> float:
            segments = regions((probability > threshold).long())
            return score(segments, truth, walls_alone=True)

        assert found[f"v_{name}"] == max(map(at, tried))
        assert found[f"threshold_{name}"] in tried
        assert at(found[f"threshold_{name}"]) == found[f"v_{name}"]
        assert found[f"v_{name}_at_half"] == at(0.5)
        # A wall that fades below one half opens.
        assert found[f"v_{name}"] > found[f"v_{name}_at_half"] + 0.1


def test_a_thick_wall_costs_nothing_once_it_is_thinned():
    wall = torch.zeros(60, 60, dtype=torch.int64)
    wall[:, 30] = 1
    thick = torch.zeros(60, 60)
    thick[:, 27:34] = 1
    assert isbi_scores(thick, wall)["v_rand"] == 1
    truth = regions(wall, thin=False)
    assert v_rand(regions(thick.long(), thin=False), truth) < 0.95


def test_a_probability_at_the_threshold_is_no_membrane():
    mask = picture("..#..", "..#..")
    found = isbi_scores(mask * 0.5, mask, [0.4, 0.5])
    assert (found["v_rand"], found["threshold_rand"]) == (1, 0.4)
    # All in one: p = t = 1 / 2 and s = 1.
    assert found["v_rand_at_half"] == 2 / 3


def test_isbi_scores_without_a_cell():
    found = isbi_scores(torch.full((5, 5), 0.3), torch.ones(5, 5, dtype=torch.int64))
    assert math.isnan(found["v_rand"])
    assert math.isnan(found["v_info_at_half"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_same_on_a_gpu():
    probability, mask = blurred(2)
    predicted = (probability > 0.4).long()
    there = [x.cuda() for x in (probability, mask, predicted)]
    assert isbi_scores(there[0], there[1]) == isbi_scores(probability, mask)
    assert boundary_f1(there[2], there[1]) == boundary_f1(predicted, mask)
    assert regions(there[2]).is_cuda
    assert torch.equal(regions(there[2]).cpu(), regions(predicted))


OK = torch.zeros(2, 3, dtype=torch.int64)
HALF = torch.full((2, 3), 0.5)
FLOAT = (TypeError, r"must hold integers, got torch\.float32\. .*threshold it first")
PLANE = (ValueError, r"must have shape \(H, W\), got \(1, 2, 3\)\. .*one image")
ILL = {
    "F1, shapes": (
        *(boundary_f1, OK, OK[:1], ValueError),
        r"prediction has shape \(2, 3\), the mask \(1, 3\)\. .*cut the larger",
    ),
    "F1, float": (boundary_f1, HALF, OK, *FLOAT),
    "F1, rank": (boundary_f1, OK[None], OK[None], *PLANE),
    "F1, tolerance": (
        *(lambda a, b: boundary_f1(a, b, -1), OK, OK, ValueError),
        r"tolerance must be a finite number of pixels >= 0, got -1",
    ),
    "F1, no tolerance": (
        *(lambda a, b: boundary_f1(a, b, math.nan), OK, OK, ValueError),
        r"tolerance .* got nan",
    ),
    "F1, label": (
        *(lambda a, b: boundary_f1(a, b, label=-1), OK, OK, ValueError),
        r"label must be an integer >= 0, got -1",
    ),
    "distance, float mask": (hausdorff95, OK, HALF, *FLOAT),
    "distance, bool": (hausdorff95, OK.bool(), OK, TypeError, r"got torch\.bool"),
    "distance, empty": (
        *(hausdorff95, OK[:0], OK[:0], ValueError),
        r"prediction is empty: shape \(0, 3\)",
    ),
    "rand, shapes": (
        *(v_rand, OK, OK[:, :2], ValueError),
        r"segments has shape \(2, 3\), the truth \(2, 2\)",
    ),
    "rand, negative": (
        *(v_rand, OK - 1, OK, ValueError),
        r"segments must hold labels from 0 to 2\*\*31 - 1, found -1\. Use 0",
    ),
    "info, too large": (
        *(v_info, OK, OK + 2**31, ValueError),
        r"truth must hold labels .*found 2147483648",
    ),
    "info, float": (v_info, OK, HALF, *FLOAT),
    "counts, rank": (splits_and_merges, OK[None], OK, *PLANE),
    "counts, overlap": (
        *(lambda a, b: splits_and_merges(a, b, 0), OK, OK, ValueError),
        r"overlap must be in \(0, 1\], got 0",
    ),
    "regions, 255": (
        *(lambda a, b: regions(a), OK + 255, OK, ValueError),
        r"membrane must hold class indices 0 to 1, found 255\. .*mask == 255",
    ),
    "regions, float": (
        *(lambda a, b: regions(a), HALF, OK, TypeError),
        r"membrane must hold integer .*torch\.float32",
    ),
    "regions, rank": (lambda a, b: regions(a), OK[None], OK, *PLANE),
    "isbi, integer": (
        *(isbi_scores, OK, OK, TypeError),
        r"probability must be floating-point, got torch\.int64\. .*mask\.float",
    ),
    "isbi, NaN": (isbi_scores, HALF * math.nan, OK, ValueError, r"holds NaN\. Look"),
    "isbi, logits": (
        *(isbi_scores, HALF * 6 - 5, OK, ValueError),
        r"must be in \[0, 1\], found -2 to -2\. For logits, apply sigmoid",
    ),
    "isbi, too large": (isbi_scores, HALF * 3, OK, ValueError, r"found 1\.5 to 1\.5"),
    "isbi, rank": (isbi_scores, HALF[None], OK[None], *PLANE),
    "isbi, shapes": (
        *(isbi_scores, HALF, OK[:1], ValueError),
        r"probability has shape \(2, 3\), the mask \(1, 3\)",
    ),
    "isbi, float mask": (
        *(isbi_scores, HALF, HALF, TypeError),
        r"membrane must hold integer class indices",
    ),
    "isbi, classes": (isbi_scores, HALF, OK + 2, ValueError, r"0 to 1, found 2\."),
    "isbi, no threshold": (
        *(lambda a, b: isbi_scores(a, b, []), HALF, OK, ValueError),
        r"thresholds must be one or more numbers in \[0, 1\]; got \[\]",
    ),
    "isbi, threshold": (
        *(lambda a, b: isbi_scores(a, b, [0.5, 50]), HALF, OK, ValueError),
        r"thresholds .* got \[0\.5, 50\]",
    ),
}


@pytest.mark.parametrize(("call", "a", "b", "error", "says"), ILL.values(), ids=ILL)
def test_ill_cases(call, a, b, error, says):
    with pytest.raises(error, match=says):
        call(a, b)
