"""How right a segmentation is: pixel by pixel, at its boundaries, in its regions.

The metrics of pixels are functions of the confusion matrix: entry (t, p) counts the
pixels of true class t that were called p. Matrices of several images add up. The
metrics of boundaries and regions below look at one image at a time: a gap of one
pixel in a wall is nothing to the confusion matrix, and makes two cells one.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from unet_edu.blocks import check_at_least


def confusion_matrix(predicted: Tensor, mask: Tensor, n_classes: int) -> Tensor:
    """Count the pixels of each true class (rows) called each class (columns).

    Shapes: two integer tensors of one shape, such as (H, W) or (N, H, W), to
    (n_classes, n_classes) int64.

    Raises:
        ValueError: if the shapes differ, or a value is not a class index.
        TypeError: if a tensor is not of an integer type.

    Derived in chapter 1.
    """
    check_at_least("n_classes", n_classes, 2)
    if predicted.shape != mask.shape:
        raise ValueError(
            f"The prediction has shape {tuple(predicted.shape)}, the mask "
            f"{tuple(mask.shape)}. They must be equal: cut the mask to the "
            "prediction's size, never resize it."
        )
    check_classes(predicted, n_classes, "prediction")
    check_classes(mask, n_classes, "mask")
    pairs = mask.flatten().long() * n_classes + predicted.flatten().long()
    counts = torch.bincount(pairs, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes)


def pixel_accuracy(confusion: Tensor) -> float:
    """Return the fraction of pixels called by their true class.

    NaN if there are no pixels. Derived in chapter 1.
    """
    return float(confusion.diag().sum().double() / confusion.sum())


def iou(confusion: Tensor) -> Tensor:
    """Return for each class the overlap of prediction and truth over their union.

    Shape: (n_classes, n_classes) to (n_classes,) float64. NaN marks a class that is
    neither in the truth nor in the prediction: it is absent, not right or wrong.

    Source: Jaccard 1912. Derived in chapter 1.
    """
    right = confusion.diag().double()
    return right / (confusion.sum(0) + confusion.sum(1) - right)


def dice(confusion: Tensor) -> Tensor:
    """Return for each class twice the overlap over the sum of the two sizes.

    Shape and absent classes as in :func:`iou`; dice = 2 iou / (1 + iou).

    Source: Dice 1945. Derived in chapter 1.
    """
    right = confusion.diag().double()
    return 2 * right / (confusion.sum(0) + confusion.sum(1))


def mean_over_present(values: Tensor) -> float:
    """Return the mean over the classes that are present, NaN if none is.

    Derived in chapter 1.
    """
    return float(values.nanmean())


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the class of each pixel: the largest logit, or the sign of a single one.

    Shapes: (N, n_classes, H, W) float to (N, H, W) int64. One logit above zero, which
    is a probability above one half, is class 1.

    Derived in chapter 6.
    """
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(dim=1)


def check_classes(values: Tensor, n_classes: int, what: str = "mask") -> None:
    """Raise if ``values`` are not class indices from 0 to n_classes - 1.

    Raises:
        TypeError: if the tensor is not of an integer type.
        ValueError: if a value is out of range, with the values found.
    """
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(
            f"The {what} must hold integer class indices, got {values.dtype}. "
            "Use .long(); for a probability, threshold it first."
        )
    if values.numel() == 0:
        raise ValueError(f"The {what} is empty: shape {tuple(values.shape)}.")
    if values.min() < 0 or values.max() >= n_classes:
        found = values.unique().tolist()
        listed = ", ".join(map(str, found[:6])) + (", ..." if len(found) > 6 else "")
        hint = ""
        if found == [0, 255] or found == [255]:
            hint = " A mask stored as 0 and 255 becomes one with (mask == 255).long()."
        raise ValueError(
            f"The {what} must hold class indices 0 to {n_classes - 1}, found {listed}."
            + hint
        )


# Boundaries: how far the edge of a region is from where it should be.


def boundary_f1(
    predicted: Tensor, mask: Tensor, tolerance: float = 2.0, label: int = 1
) -> float:
    """Return the F1 score of the boundary pixels of one class.

    A boundary pixel belongs to the class and has one of its four neighbours outside
    it; the edge of the image is no boundary. Precision is the share of predicted
    boundary pixels within ``tolerance`` of a true one, recall the share of true ones
    within ``tolerance`` of a predicted one.

    Shapes: two integer tensors (H, W) of class indices to a number in [0, 1]. NaN if
    the class is in neither, 0 if in only one. A class that fills the image has no
    boundary: 1 if it fills both, 0 if only one.

    Args:
        predicted, mask: class indices.
        tolerance: largest distance that counts as found, in pixels.
        label: the class whose boundary it is.

    Raises:
        ValueError: if a shape, an index, the label or the tolerance is wrong.
        TypeError: if a tensor is not of an integer type.

    Source: Csurka et al. 2013. Derived in chapter 11.
    """
    if not 0 <= tolerance < float("inf"):
        raise ValueError(
            f"tolerance must be a finite number of pixels >= 0, got {tolerance!r}."
        )
    found, true = _boundary_distances(predicted, mask, label)
    if found is None or true is None:
        return float("nan")
    precision, recall = (found <= tolerance).mean(), (true <= tolerance).mean()
    if precision + recall == 0:
        return 0.0
    return float(2 * precision * recall / (precision + recall))


def hausdorff95(predicted: Tensor, mask: Tensor, label: int = 1) -> float:
    """Return how far the boundaries of one class are apart, in pixels.

    The distance that 95 % of the predicted boundary pixels keep to the true boundary,
    or 95 % of the true ones to the predicted boundary: the larger of the two.

    Shapes, boundary pixels and errors as in :func:`boundary_f1`. NaN if the class is
    in neither, infinity if in only one. A class that fills the image has no boundary:
    0 if it fills both, infinity if only one.

    MONAI's ``compute_hausdorff_distance(..., percentile=95)`` is the same where the
    class does not touch the edge of the image; where it does, MONAI takes the edge
    for a boundary.

    Source: Huttenlocher et al. 1993, for the maximum. Derived in chapter 11.
    """
    found, true = _boundary_distances(predicted, mask, label)
    if found is None or true is None:
        return float("nan")
    if np.isinf(found).any():  # then both are, and between infinities lies NaN
        return float("inf")
    return float(max(np.percentile(found, 95), np.percentile(true, 95)))


def _boundary_distances(
    predicted: Tensor, mask: Tensor, label: int
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return each predicted boundary pixel's distance to the truth, and vice versa.

    (None, None) if the class is in neither; infinite where there is no boundary to
    be near to.
    """
    check_labels(predicted, "prediction")
    check_labels(mask, "mask")
    check_one_size(predicted, mask, "prediction", "mask")
    check_at_least("label", label, 0)
    inside = [(x == label).cpu().numpy() for x in (predicted, mask)]
    if not (inside[0].any() or inside[1].any()):
        return None, None
    # Beyond the image we know of no other class: border_value=1 is "more of the same".
    edges = [x & ~ndimage.binary_erosion(x, border_value=1) for x in inside]
    if not (edges[0].any() and edges[1].any()):
        same = np.array_equal(*inside)
        far = np.array([0.0 if same else np.inf])
        return far, far
    # The transform gives each pixel's distance to the nearest zero.
    to_found, to_true = (ndimage.distance_transform_edt(~edge) for edge in edges)
    return to_true[edges[0]], to_found[edges[1]]


# Regions: whether each cell is one piece, and one cell only.


def regions(membrane: Tensor, *, thin: bool = True) -> Tensor:
    """Number the cells: connected regions that a membrane divides.

    The membrane is thinned to one pixel first, so that its thickness does not count:
    the cells grow over it until they meet, and the line where they meet is what is
    left. A wall that ends inside a cell divides nothing and vanishes. The line may step
    diagonally. Two cells that meet only across such a corner do not touch: pixels are
    connected to their four neighbours, not eight.

    Shapes: integer (H, W), 0 for cell and 1 for membrane, to (H, W) int64: 0 for
    membrane and 1, 2, ... for the cells. Without a pixel of cell, all 0.

    Args:
        membrane: the mask.
        thin: whether to thin the membrane.

    Raises:
        ValueError: if the mask is not (H, W), or not of 0 and 1.
        TypeError: if it is not of an integer type.

    Source: Arganda-Carreras et al. 2015, who thin by a watershed too. Derived in
    chapter 11.
    """
    check_classes(membrane, 2, "membrane")
    check_labels(membrane, "membrane")
    wall = membrane.cpu().numpy() == 1
    numbered, _ = ndimage.label(~wall)  # four neighbours, unless told otherwise
    if thin and numbered.any():
        from skimage.segmentation import watershed  # slow to import

        # From all sides at the same pace: every wall pixel is of one height.
        numbered = watershed(wall.astype(np.uint8), numbered, watershed_line=True)
    return torch.from_numpy(numbered.astype(np.int64)).to(membrane.device)


def v_rand(segments: Tensor, truth: Tensor, *, walls_alone: bool = False) -> float:
    """Return how well pairs of pixels are kept together and apart, in [0, 1].

    Draw two pixels of the truth's cells. With p the probability that they share both
    segment and cell, s that they share a segment, t that they share a cell:
    V_Rand = p / (s / 2 + t / 2). Pixels where ``truth`` is 0 are left out. NaN if that
    leaves none; 1 if there is one cell and one segment.

    The two pixels may be the same one. ``skimage.metrics.adapted_rand_error`` draws
    two different ones, so that 1 - error is lower, by at most about 1 / (pixels
    of a cell).

    Shapes: two integer tensors (H, W) of labels >= 0 to a number.

    Args:
        segments: the predicted regions, as :func:`regions` numbers them.
        truth: the true cells, 0 for membrane.
        walls_alone: what a 0 in ``segments`` is inside a true cell. ``False``: all of
            them are one more segment, as in scikit-image. ``True``: each pixel is a
            segment of its own, as in the challenge's script.

    Raises:
        ValueError: if the shapes differ, or a label is negative.
        TypeError: if a tensor is not of an integer type.

    Source: Arganda-Carreras et al. 2015. Derived in chapter 11.
    """
    both, segment, cell = _shares(segments, truth, walls_alone)
    if len(both) == 0:
        return float("nan")
    return float((both**2).sum() / ((segment**2).sum() / 2 + (cell**2).sum() / 2))


def v_info(segments: Tensor, truth: Tensor, *, walls_alone: bool = False) -> float:
    """Return how much segment and cell of a pixel tell about each other, in [0, 1].

    The mutual information of segment and cell, over the mean of their two entropies:
    V_Info = I / (H(segment) / 2 + H(cell) / 2). Pixels where ``truth`` is 0 are left
    out. NaN if that leaves none; 1 if there is one cell and one segment, when both
    entropies are 0.

    Shapes, arguments and errors as in :func:`v_rand`.

    Source: Arganda-Carreras et al. 2015. Derived in chapter 11.
    """
    both, segment, cell = _shares(segments, truth, walls_alone)
    if len(both) == 0:
        return float("nan")
    entropies = _entropy(segment) + _entropy(cell)
    if entropies == 0:
        return 1.0
    return float((entropies - _entropy(both)) / (entropies / 2))


def isbi_scores(
    probability: Tensor, mask: Tensor, thresholds: Sequence[float] | None = None
) -> dict[str, float]:
    """Score a map of membrane as the ISBI 2012 challenge does, at the best threshold.

    At each threshold, the predicted membrane is thinned and the cells are numbered.
    The truth is not thinned: its membrane is left out of the score. Predicted walls
    inside a true cell are taken as in ``v_rand(..., walls_alone=True)``.

    The best threshold is chosen on the very image that is scored, which flatters the
    network; the scores at one half do not.

    Shapes: float (H, W) in [0, 1] and integer (H, W), 1 for membrane, to a dict:
    ``v_rand`` and ``v_info``, the largest over the thresholds; ``threshold_rand`` and
    ``threshold_info``, the lowest that reach them; ``v_rand_at_half`` and
    ``v_info_at_half``. The scores are NaN if the truth is all membrane.

    Args:
        probability: of membrane, for each pixel.
        mask: the truth, 0 for cell and 1 for membrane.
        thresholds: a pixel is membrane if its probability is above; 0.1 to 0.9 in
            steps of 0.1 if not given.

    Raises:
        ValueError: if the shapes differ, or a value is out of range or not a number.
        TypeError: if the probability is not floating-point, or the mask not integer.

    Source: Arganda-Carreras et al. 2015. Derived in chapter 11.
    """
    check_probability(probability)
    check_one_size(probability, mask, "probability", "mask")
    if thresholds is None:
        thresholds = [i / 10 for i in range(1, 10)]
    if len(thresholds) == 0 or not all(0 <= t <= 1 for t in thresholds):
        raise ValueError(
            f"thresholds must be one or more numbers in [0, 1]; got {thresholds!r}."
        )
    truth = regions(mask, thin=False)
    scores = {"rand": {}, "info": {}}
    for t in sorted({*thresholds, 0.5}):
        segments = regions((probability > t).long())
        scores["rand"][t] = v_rand(segments, truth, walls_alone=True)
        scores["info"][t] = v_info(segments, truth, walls_alone=True)
    result = {}
    for name, of in scores.items():
        best = max(sorted(thresholds), key=of.get)
        result |= {f"v_{name}": of[best], f"threshold_{name}": best}
        result[f"v_{name}_at_half"] = of[0.5]
    return result


def splits_and_merges(
    segments: Tensor, truth: Tensor, overlap: float = 0.1
) -> tuple[int, int]:
    """Count the splits and the merges: how often a cell was cut, and two were joined.

    A segment and a cell are linked if the segment covers at least ``overlap`` of the
    cell, so that a speck links nothing. A cell with n links was split n - 1 times, a
    segment with n links merged n - 1 times. A cell without a link is neither.

    Shapes: two integer tensors (H, W) of labels, 0 for membrane, to two numbers.

    Args:
        segments: the predicted regions.
        truth: the true cells.
        overlap: share of a cell's area, above 0, at most 1.

    Raises:
        ValueError: if the shapes differ, a label is negative, or overlap is wrong.
        TypeError: if a tensor is not of an integer type.

    Derived in chapter 11.
    """
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap must be in (0, 1], got {overlap!r}.")
    label, cell, pixels = _overlaps(segments, truth)
    linked = pixels / np.bincount(cell, pixels)[cell] >= overlap
    linked &= label > 0  # a wall is no segment
    links = [np.unique(of[linked], return_counts=True)[1] for of in (cell, label)]
    splits, merges = ((n - 1).sum() for n in links)
    return int(splits), int(merges)


def _overlaps(segments: Tensor, truth: Tensor) -> tuple[np.ndarray, ...]:
    """Return for each overlap of segment and cell: its segment, its cell, its pixels.

    The cells are numbered 0, 1, ... anew; segments keep their labels. Pixels where the
    truth is 0 are left out.
    """
    check_labels(segments, "segments")
    check_labels(truth, "truth")
    check_one_size(segments, truth, "segments", "truth")
    segments, truth = (x.cpu().numpy().astype(np.int64) for x in (segments, truth))
    kept = truth > 0
    # One number for each pair of labels, as in a confusion matrix, but most pairs
    # never meet: counting those that do is faster than a table of all.
    base = segments.max() + 1
    pairs, pixels = np.unique(truth[kept] * base + segments[kept], return_counts=True)
    _, cell = np.unique(pairs // base, return_inverse=True)
    return pairs % base, cell, pixels


def _shares(
    segments: Tensor, truth: Tensor, walls_alone: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the share of pixels in each overlap, in each segment, in each cell."""
    label, cell, pixels = _overlaps(segments, truth)
    n = pixels.sum()
    in_cell = np.bincount(cell, pixels)
    if walls_alone:
        # A pixel alone is a segment of one pixel, and its overlap with its cell is one.
        ones = np.ones(pixels[label == 0].sum(), dtype=np.int64)
        pixels = np.append(pixels[label > 0], ones)
        label = np.append(label[label > 0], label.max(initial=0) + ones.cumsum())
    _, segment = np.unique(label, return_inverse=True)
    return pixels / n, np.bincount(segment, pixels) / n, in_cell / n


def _entropy(shares: np.ndarray) -> float:
    return float(-(shares * np.log(shares)).sum())


def check_labels(values: Tensor, what: str) -> None:
    """Raise if ``values`` is not (H, W) with integer labels >= 0.

    Raises:
        TypeError: if the tensor is not of an integer type.
        ValueError: if its rank is wrong, it is empty, or a label is out of range.
    """
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(
            f"The {what} must hold integers, got {values.dtype}. "
            "Use .long(); for a probability, threshold it first."
        )
    check_plane(values, what)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 2**31:
        raise ValueError(
            f"The {what} must hold labels from 0 to 2**31 - 1, found "
            f"{low if low < 0 else high}. Use 0 for what belongs to no region."
        )


def check_probability(values: Tensor) -> None:
    """Raise if ``values`` is not (H, W) floating-point in [0, 1].

    Raises:
        TypeError: if the tensor is not of a floating-point type.
        ValueError: if its rank is wrong, it is empty, or a value is not in [0, 1].
    """
    if not values.is_floating_point():
        raise TypeError(
            f"The probability must be floating-point, got {values.dtype}. "
            "For a mask, pass mask.float()."
        )
    check_plane(values, "probability")
    if values.isnan().any():
        raise ValueError("The probability holds NaN. Look for it in the logits.")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"The probability must be in [0, 1], found {values.min():.3g} to "
            f"{values.max():.3g}. For logits, apply sigmoid or softmax first."
        )


def check_plane(values: Tensor, what: str) -> None:
    """Raise ValueError if ``values`` is not one non-empty image (H, W)."""
    if values.dim() != 2:
        raise ValueError(
            f"The {what} must have shape (H, W), got {tuple(values.shape)}. "
            "Pass one image at a time: these scores do not add up over a batch."
        )
    if values.numel() == 0:
        raise ValueError(f"The {what} is empty: shape {tuple(values.shape)}.")


def check_one_size(a: Tensor, b: Tensor, what_a: str, what_b: str) -> None:
    """Raise ValueError if the two do not have one shape."""
    if a.shape != b.shape:
        raise ValueError(
            f"The {what_a} has shape {tuple(a.shape)}, the {what_b} "
            f"{tuple(b.shape)}. They must be equal: cut the larger, never resize "
            "labels."
        )


def distance(one: Tensor, other: Tensor) -> float:
    """Return 1 - IoU of two masks, a mean over the classes but the first.

    A class that neither mask holds does not count; two masks without any have the
    distance 0. Symmetric, and 0 only for equal masks.

    Shapes: two integer tensors (H, W).

    Raises ValueError if the shapes differ. Derived in chapter 19.
    """
    n_classes = max(2, int(one.max()) + 1, int(other.max()) + 1)
    values = iou(confusion_matrix(one, other, n_classes))[1:]
    present = values[~values.isnan()]
    return float(1 - present.mean()) if len(present) else 0.0


def ged(samples: Tensor, annotations: Tensor) -> float:
    """Return the squared generalised energy distance of two sets of masks.

    GED^2 = 2 E d(S, Y) - E d(S, S') - E d(Y, Y') with :func:`distance` as d; 0 if both
    sets come from one distribution. ``annotations`` are taken as all there is, each
    equally likely, so E d(Y, Y') is over all pairs. ``samples`` are draws, so
    E d(S, S') is over different draws, which does not favour few or many of them: an
    estimate may come out below zero. A single sample is taken as all that a model can
    say. (Public code often takes all pairs of draws, a draw with itself included; its
    numbers are larger by E d(S, S') / n.)

    Shapes: (n, H, W) and (m, H, W) integers.

    Raises:
        ValueError: if a set is empty or the masks have different sizes.

    Source: Székely and Rizzo 2013; Kohl et al. 2018 (arXiv 1806.05034). Derived in
    chapter 19.
    """
    for name, masks in [("samples", samples), ("annotations", annotations)]:
        if masks.dim() != 3 or len(masks) == 0:
            raise ValueError(
                f"{name} must be one or more masks, (n, H, W); got shape "
                f"{tuple(masks.shape)}."
            )
    across = np.mean([distance(s, y) for s in samples for y in annotations])
    pairs = [distance(s, t) for s, t in combinations(samples, 2)]
    within = np.mean(pairs) if pairs else 0.0
    # Each pair of two annotations counts twice, an annotation and itself is at 0.
    pairs = [distance(y, z) for y, z in combinations(annotations, 2)]
    return float(2 * across - within - 2 * sum(pairs) / len(annotations) ** 2)


class Calibration(NamedTuple):
    """What was predicted and what was observed, in bins of equal width.

    ``predicted`` is the mean predicted probability in each bin, NaN where it is empty,
    ``observed`` the mean of what was true there, ``count`` the number of pixels.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: mean gap between the two, over pixels."""
        gaps = np.abs(self.predicted - self.observed)
        return float(np.nansum(gaps * self.count) / self.count.sum())


def calibration(probability: Tensor, truth: Tensor, bins: int = 10) -> Calibration:
    """Compare predicted probabilities with how often they come true.

    Shapes: ``probability`` in [0, 1] and ``truth``, both of one shape; ``truth`` is a
    mask of 0 and 1, or the true probability where it is known.

    Raises:
        ValueError: if the shapes differ or a value is not in [0, 1].

    Source: Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599). Derived in
    chapter 19.
    """
    check_at_least("bins", bins, 1)
    if probability.shape != truth.shape:
        raise ValueError(
            f"Probabilities of shape {tuple(probability.shape)} and truth of shape "
            f"{tuple(truth.shape)} must have one shape."
        )
    p, y = (x.detach().double().flatten().cpu().numpy() for x in (probability, truth))
    for name, values in [("probability", p), ("truth", y)]:
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"{name} must lie in [0, 1]; found values from {values.min():.3g} to "
                f"{values.max():.3g}. A softmax or a sigmoid turns logits into "
                "probabilities."
            )
    place = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(place, p, bins) / count
        observed = np.bincount(place, y, bins) / count
    return Calibration(predicted, observed, count)
