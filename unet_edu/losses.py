"""How wrong the logits are, as one number whose gradient a network can follow.

Every loss takes logits (N, C, H, W), the scores a network gives, and a mask (N, H, W)
of class indices, and returns a scalar. One logit (C = 1) is the log-odds of class 1
against class 0; of several, a softmax makes probabilities. All is computed in float32,
also where the network is not: bf16 has no more than three digits to add pixels with.

Every loss raises ValueError for shapes that do not fit or a mask of unknown classes,
and TypeError for a mask that holds no integers. A NaN in the logits gives NaN.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from unet_edu.metrics import check_classes


def pixel_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return for each pixel minus the log of its true class's probability, in nats.

    Shapes: logits (N, C, H, W), mask (N, H, W) of class indices, to (N, H, W) float32.

    Derived in chapter 10.
    """
    check_pair(logits, mask)
    # Both functions take logits: a log of a probability that rounds to 0 is infinite.
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(
            logits[:, 0].float(), mask.float(), reduction="none"
        )
    return F.cross_entropy(logits.float(), mask.long(), reduction="none")


def cross_entropy(
    logits: Tensor, mask: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy over pixels, each times its weight if there are.

    The mean divides by the number of pixels, not by the sum of the weights: twice the
    weights is twice the loss. PyTorch's class weights divide by the sum.

    Shapes: logits (N, C, H, W), mask (N, H, W) of class indices, weights (N, H, W)
    float, 0 or more, to a scalar. Without weights, each is 1.

    Raises:
        ValueError: if the weights have another shape, or one is negative or NaN.
        TypeError: if the weights are not of a floating-point type.

    Source: Ronneberger et al. 2015, eq. 1, for the weights. Derived in chapter 10.
    """
    each = pixel_cross_entropy(logits, mask)
    if weights is None:
        return each.mean()
    check_weights(weights, mask)
    return (weights.float() * each).mean()


def soft_counts(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each class the overlap, the pixels called it, and its true pixels.

    The confusion matrix counts calls; here each pixel gives every class its
    probability, so that the counts have a gradient. They are sums over the whole
    batch.

    Shapes: logits (N, C, H, W), mask (N, H, W) of class indices, to three tensors
    (max(C, 2),), in pixels.

    Derived in chapter 10.
    """
    check_pair(logits, mask)
    logits = logits.float()
    if logits.shape[1] == 1:
        # The same two probabilities: class 0 scores 0, class 1 its log-odds.
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    p = logits.softmax(dim=1)
    truth = F.one_hot(mask.long(), p.shape[1]).movedim(-1, 1)
    over = (0, 2, 3)
    return (p * truth).sum(over), p.sum(over), truth.sum(over)


def soft_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Return for each class twice the soft overlap over the sum of the two soft sizes.

    Counted over the whole batch, as one large image. An absent class, one without a
    pixel in the mask, has 0, whatever the logits are, and no gradient.

    Shapes: logits (N, C, H, W), mask (N, H, W) of class indices, to (max(C, 2),).

    Source: Drozdzal et al. 2016; Milletari et al. 2016 square the probabilities in
    the denominator. Derived in chapter 10.
    """
    overlap, called, true = soft_counts(logits, mask)
    # No smoothing constant: a class in the mask has a pixel, so its sum is 1 or more.
    # Only the sum of an absent class can round to 0, and its overlap is 0 anyway.
    return 2 * overlap / (called + true).clamp(min=1)


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 1 minus the mean soft Dice over the classes present in the mask.

    The background counts as a class like the others. A class that no pixel of the
    batch has is left out, neither right nor wrong: what a pixel gives to it is already
    missing from its true class.

    MONAI's ``DiceLoss`` counts an absent class as wholly wrong, and with one logit it
    scores the foreground alone.

    Shapes: logits (N, C, H, W), mask (N, H, W) of class indices, to a scalar from 0
    to 1.

    Source: as for :func:`soft_dice`. Derived in chapter 10.
    """
    scores = soft_dice(logits, mask)
    present = mask.unique().long()
    return 1 - scores[present].mean()


def dice_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of :func:`dice_loss` and :func:`cross_entropy`.

    Shapes: logits (N, C, H, W), mask (N, H, W) of class indices, to a scalar.

    Source: Isensee et al. 2021. Derived in chapter 10.
    """
    check_pair(logits, mask)
    logits = logits.float()  # once, so that the two gradients add up in float32
    return dice_loss(logits, mask) + cross_entropy(logits, mask)


def focal(logits: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Return the mean cross-entropy, each pixel times (1 - p)^gamma.

    p is the probability of the pixel's true class: what is nearly right counts less
    than what is wrong. With gamma = 0 this is the cross-entropy. MONAI's ``FocalLoss``
    takes the mean over classes too, so that it is C times smaller.

    Shapes: logits (N, C, H, W), mask (N, H, W) of class indices, to a scalar.

    Raises ValueError if gamma is negative or not finite.

    Source: Lin et al. 2017, without their class weight alpha. Derived in chapter 10.
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma must be 0 or more, and finite; got {gamma!r}.")
    each = pixel_cross_entropy(logits, mask)
    # 1 - p, with all its digits where p is nearly 1. Its power has an infinite slope
    # at 0 if gamma < 1, so 0 becomes the smallest number that is not.
    missing = (-torch.expm1(-each)).clamp(min=torch.finfo(each.dtype).tiny)
    return (missing**gamma * each).mean()


def focal_tversky(
    logits: Tensor, mask: Tensor, alpha: float = 0.7, gamma: float = 4 / 3
) -> Tensor:
    """Return the mean of (1 - TI)^(1 / gamma) over the classes present in the mask.

    TI, the Tversky index, is TP / (TP + alpha FN + (1 - alpha) FP), in soft counts
    over the whole batch: alpha above 0.5 makes a missed pixel dearer than a false one,
    and at 0.5 TI is the soft Dice. Absent classes are left out, as in
    :func:`dice_loss`.

    The paper's figure and its equation disagree on whether the exponent is gamma or
    1 / gamma. The authors' code takes 0.75, which is 1 / gamma for their 4/3; so do we.
    In MONAI's ``TverskyLoss`` alpha is for false pixels and beta for missed ones.

    Shapes: logits (N, C, H, W), mask (N, H, W) of class indices, to a scalar from 0
    to 1.

    Raises ValueError if alpha is not between 0 and 1, or gamma not above 0 and finite.

    Source: Abraham and Khan 2018. Derived in chapter 10.
    """
    if not 0 < alpha < 1:
        raise ValueError(
            f"alpha must lie between 0 and 1, got {alpha!r}. At 0 a missed pixel "
            "would cost nothing, at 1 a false one."
        )
    if not 0 < gamma < math.inf:
        raise ValueError(f"gamma must be above 0 and finite, got {gamma!r}.")
    overlap, called, true = soft_counts(logits, mask)
    present = mask.unique().long()
    # TP + alpha FN + (1 - alpha) FP, since TP + FN = true and TP + FP = called. It is
    # at least alpha for a class in the mask; the clamp is for absent ones.
    index = overlap / (alpha * true + (1 - alpha) * called).clamp(min=alpha)
    # The power has an infinite slope at 0 if gamma > 1: stop at float32's rounding.
    wrong = (1 - index[present]).clamp(min=torch.finfo(index.dtype).eps)
    return (wrong ** (1 / gamma)).mean()


def weight_map(instances: Tensor, w0: float = 10.0, sigma: float = 5.0) -> Tensor:
    """Return a weight for each pixel: classes in balance, gaps between objects high.

    w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)). The first term is 1 / (2 share), with
    the share of the pixel's class, object or background, in this image: its mean is 1.
    If only one class occurs, it is 1. The second term is for background pixels: d1 and
    d2 are the distances to the nearest and the second nearest object, in pixels from
    centre to centre. With fewer than two objects it is 0. An object farther away than
    6 sigma counts as infinitely far, which changes w by less than 2e-8 w0.

    Objects that touch have no background between them to weigh; with
    ``weight_map(instances * separate(instances))`` they have.

    Shapes: (H, W) of integers, 0 for background, one number for each object, to (H, W)
    float32.

    Raises:
        ValueError: if instances are not (H, W) or hold a negative number, w0 is
            negative, or sigma is not above 0.
        TypeError: if instances are not of an integer type.

    Source: Ronneberger et al. 2015, eq. 2. Derived in chapter 10.
    """
    check_instances(instances)
    if not 0 <= w0 < math.inf:
        raise ValueError(f"w0 must be 0 or more, and finite; got {w0!r}.")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be above 0 pixels, and finite; got {sigma!r}.")
    # Number the objects 1, 2, ... without a gap. The 0 in front keeps the background
    # at 0, also in an image that has none.
    labels = np.append(0, instances.long().cpu().numpy())
    labels = np.unique(labels, return_inverse=True)[1][1:].reshape(instances.shape)
    nearest = np.full(labels.shape, np.inf)
    second = nearest.copy()
    # Each object is looked at in its own surroundings: the whole image for each of a
    # hundred objects would take seconds.
    reach = math.ceil(6 * sigma)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        around = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        distance = ndimage.distance_transform_edt(labels[around] != label)
        loser = np.maximum(nearest[around], distance)
        nearest[around] = np.minimum(nearest[around], distance)
        second[around] = np.minimum(second[around], loser)
    gap = np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    inside = labels > 0
    share = inside.mean()
    balance = np.ones(labels.shape)
    if 0 < share < 1:
        balance = np.where(inside, 1 / (2 * share), 1 / (2 * (1 - share)))
    weights = np.where(inside, balance, balance + w0 * gap)
    return torch.from_numpy(weights).float().to(instances.device)


def separate(instances: Tensor) -> Tensor:
    """Return the mask of the objects, with a gap where two of them touch.

    A pixel of an object becomes background if one of its eight neighbours belongs to
    another object. Each of the two gives way, so the gap is two pixels wide; where an
    object is one pixel thin, it can vanish. The border of the image is no object.

    Shapes: (H, W) of integers, 0 for background, one number for each object, to (H, W)
    int64 of 0 and 1.

    Raises ValueError and TypeError for instances as :func:`weight_map` does.

    Derived in chapter 10.
    """
    check_instances(instances)
    instances = instances.long()
    height, width = instances.shape
    padded = F.pad(instances, (1, 1, 1, 1))
    touches = torch.zeros_like(instances, dtype=torch.bool)
    for row in range(3):
        for column in range(3):
            neighbour = padded[row : row + height, column : column + width]
            touches |= (neighbour > 0) & (neighbour != instances)
    return ((instances > 0) & ~touches).long()


# The checks at the door. They stand apart from the losses, so that a loss reads as the
# chapter that derives it.


def check_pair(logits: Tensor, mask: Tensor) -> None:
    """Raise if logits (N, C, H, W) and a mask (N, H, W) do not fit each other.

    Raises:
        TypeError: if the logits are not floats, or the mask does not hold integers.
        ValueError: if a shape is wrong, or a value in the mask is not a class index.
    """
    if not logits.is_floating_point():
        raise TypeError(
            f"The logits must be floats, got {logits.dtype}. Pass what the network "
            "returns, not the classes called from it."
        )
    if logits.dim() != 4 or logits.shape[1] == 0:
        raise ValueError(
            f"The logits must be a batch (N, C, H, W), got {tuple(logits.shape)}. "
            "For one image, pass logits[None] and mask[None]."
        )
    expected = (logits.shape[0], *logits.shape[2:])
    if mask.shape != expected:
        if mask.shape == (expected[0], 1, *expected[1:]):
            advice = "Pass mask[:, 0]."
        else:
            advice = "Cut the mask with crop_mask, never resize it."
        raise ValueError(
            f"The logits have shape {tuple(logits.shape)}, the mask "
            f"{tuple(mask.shape)}; expected a mask {expected}. {advice}"
        )
    check_classes(mask, max(logits.shape[1], 2))


def check_weights(weights: Tensor, mask: Tensor) -> None:
    """Raise if ``weights`` are not a float of 0 or more for each pixel of the mask.

    Raises:
        TypeError: if the weights are not of a floating-point type.
        ValueError: if their shape is not the mask's, or one is negative or NaN.
    """
    if not weights.is_floating_point():
        raise TypeError(f"The weights must be floats, got {weights.dtype}.")
    if weights.shape != mask.shape:
        raise ValueError(
            f"The weights have shape {tuple(weights.shape)}, the mask "
            f"{tuple(mask.shape)}. Each pixel needs one weight; for class weights, "
            "pass class_weights[mask]."
        )
    if not (weights >= 0).all():
        raise ValueError(
            f"The weights must be 0 or more, found {float(weights.min())}. A negative "
            "one would pay the network for a wrong pixel."
        )


def check_instances(instances: Tensor) -> None:
    """Raise if ``instances`` are not integers (H, W) of 0 or more.

    Raises:
        TypeError: if the tensor is not of an integer type.
        ValueError: if its rank is not two, it is empty, or a number is negative.
    """
    if (
        instances.is_floating_point()
        or instances.is_complex()
        or instances.dtype == torch.bool
    ):
        raise TypeError(
            f"The instances must hold one integer for each object, got "
            f"{instances.dtype}. scipy.ndimage.label numbers the objects of a mask."
        )
    if instances.dim() != 2 or instances.numel() == 0:
        raise ValueError(
            f"The instances must be one image (H, W), got {tuple(instances.shape)}. "
            "Of a batch, pass one image at a time."
        )
    if instances.min() < 0:
        raise ValueError(
            "The instances must be 0 for background and above 0 for objects, found "
            f"{int(instances.min())}."
        )
