"""Pieces of large images, turned and mirrored, image and mask together."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from unet_edu.blocks import check_at_least


class RandomCrops(Dataset):
    """Square pieces cut at random places, turned and mirrored at random.

    Every draw is new: which image, which place, which of the eight turns and
    mirrorings of a square. The draws come from PyTorch's generator, so a seed fixes
    them.

    Shapes: images (C, size, size) and masks (size, size), types as in ``source``.

    Args:
        source: data set of (image, mask) pairs.
        size: side of the pieces, in pixels.
        length: number of pieces in one epoch.
        turn: whether to turn and mirror.

    Raises:
        ValueError: if ``source`` is empty, a number is below one, or an image is
            smaller than ``size``.

    Source: Ronneberger et al. 2015, section 3.1, for why. Derived in chapter 8.
    """

    def __init__(
        self, source: Dataset, size: int, length: int, turn: bool = True
    ) -> None:
        check_at_least("size", size, 1)
        check_at_least("length", length, 1)
        if len(source) == 0:
            raise ValueError("The data set is empty: there is nothing to cut from.")
        self.source, self.size, self.length, self.turn = source, size, length, turn

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        image, mask = self.source[_draw(len(self.source))]
        height, width = mask.shape
        if min(height, width) < self.size:
            raise ValueError(
                f"Cannot cut {self.size}x{self.size} from an image of "
                f"{height}x{width}: use size={min(height, width)} or less."
            )
        top, left = _draw(height - self.size + 1), _draw(width - self.size + 1)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        image, mask = image[window], mask[window]
        if self.turn:
            quarters, mirrored = _draw(4), _draw(2)
            image, mask = (torch.rot90(t, quarters, (-2, -1)) for t in (image, mask))
            if mirrored:
                image, mask = image.flip(-1), mask.flip(-1)
        return image.contiguous(), mask.contiguous()


def _draw(n: int) -> int:
    return int(torch.randint(n, ()))
