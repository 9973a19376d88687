"""How right a segmentation is, pixel by pixel, from one confusion matrix.

Every metric here is a function of the confusion matrix: entry (t, p) counts the
pixels of true class t that were called p. Matrices of several images add up.
"""

import torch
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
