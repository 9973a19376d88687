"""From an image to its mask, whatever the geometry of the network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from unet_edu.blocks import check_images
from unet_edu.unet import UNet


@torch.no_grad()
def predict(model: UNet, images: Tensor) -> Tensor:
    """Return the probability of each class at every pixel of whole images.

    A network with unpadded convolutions gives back less than it gets. The images are
    then extended by their mirror image until the output covers them, as the paper
    does, and the output is cut to their size. The model's mode is restored.

    Shapes: (N, n_channels, H, W) to probabilities (N, max(n_classes, 2), H, W). One
    logit gives two probabilities, of class 0 and of class 1.

    Raises:
        ValueError, TypeError: as the model does.

    Source: Ronneberger et al. 2015, section 2. Derived in chapter 6.
    """
    check_images(images, model.n_channels)
    was_training = model.training
    device = next(model.parameters()).device
    x = images.to(device)
    height, width = images.shape[-2:]
    extended, offsets = _extend(model, x) if model.padding == 0 else (x, (0, 0))
    try:
        logits = model.eval()(extended)
    finally:
        model.train(was_training)
    top, left = offsets
    logits = logits[..., top : top + height, left : left + width].float()
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return logits.softmax(dim=1)


def _extend(model: UNet, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Mirror the borders until the output covers the image; tell where it lies."""
    amounts, offsets = [], []
    for side in x.shape[-2:]:
        size = side
        while not model.fits(size) or model.output_size(size) < side:
            size += 1
        before = (size - side) // 2
        amounts.append((before, size - side - before))
        # The output lies in the middle of the extended image.
        offsets.append(before - (size - model.output_size(size)) // 2)
    rows, columns = amounts
    for before, after, dim in [(*columns, -1), (*rows, -2)]:
        # A mirror cannot give more than the image has: mirror again until it does.
        while before or after:
            most = x.shape[dim] - 1
            if most == 0:
                raise ValueError("An image one pixel wide has no mirror image.")
            b, a = min(before, most), min(after, most)
            x = F.pad(x, (b, a, 0, 0) if dim == -1 else (0, 0, b, a), mode="reflect")
            before, after = before - b, after - a
    return x, tuple(offsets)
