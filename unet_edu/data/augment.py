"""Pieces of large images, bent, turned and mirrored, image and mask together."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from unet_edu.blocks import check_at_least


def elastic_field(height: int, width: int, std: float = 10.0, grid: int = 3) -> Tensor:
    """Draw a smooth random displacement for each pixel, as the paper does.

    The corners, edge middles and centre of a 3x3 grid over the image are moved by
    random vectors; bicubic interpolation gives the pixels between them theirs.

    Shape: (2, height, width), rows then columns, in pixels.

    Args:
        height, width: size of the image, in pixels.
        std: standard deviation of each coordinate of a vector, in pixels.
        grid: points of the grid on each side.

    Raises ValueError if ``std`` is negative or ``grid`` is below two.

    Source: Ronneberger et al. 2015, section 3.1. Derived in chapter 9.
    """
    check_at_least("grid", grid, 2)
    if not 0 <= std < float("inf"):
        raise ValueError(f"std must be at least 0 px and finite; got {std!r}.")
    coarse = std * torch.randn(1, 2, grid, grid)
    fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return fine[0]


def warp(x: Tensor, field: Tensor, top: int = 0, left: int = 0) -> Tensor:
    """Look each value up at its own place plus a displacement.

    Images are interpolated (bicubic, kept within their range of values); integer maps
    take the nearest value, since a mean of two class indices is a third class. Where a
    place lies outside, the mirror image is read.

    Shapes: x (..., H, W) and field (2, h, w), in pixels, to (..., h, w): the part of
    the bent image that begins at row ``top`` and column ``left``.

    Raises ValueError if the part does not lie inside ``x``.

    Derived in chapter 9.
    """
    height, width = x.shape[-2:]
    rows, columns = field.shape[-2:]
    if min(top, left) < 0 or top + rows > height or left + columns > width:
        raise ValueError(
            f"A field of {rows}x{columns} at row {top}, column {left} does not lie "
            f"inside a map of {height}x{width}."
        )
    y = torch.arange(top, top + rows)[:, None] + field[0]
    z = torch.arange(left, left + columns) + field[1]
    # grid_sample counts from -1 at the first pixel's centre to 1 at the last one's.
    place = torch.stack([2 * z / max(width - 1, 1), 2 * y / max(height - 1, 1)], -1) - 1
    maps = x.reshape(1, -1, height, width)
    whole = not x.is_floating_point()
    bent = F.grid_sample(
        maps.double() if whole else maps,
        place[None].to(torch.float64 if whole else x.dtype),
        mode="nearest" if whole else "bicubic",
        padding_mode="reflection",
        align_corners=True,
    )
    if not whole:
        bent = bent.clamp(x.min(), x.max())
    return bent.to(x.dtype).reshape(*x.shape[:-2], rows, columns)


class RandomCrops(Dataset):
    """Square pieces cut at random places; bent, turned and mirrored at random.

    Every draw is new: which image, how it is bent, which place, which of the eight
    turns and mirrorings of a square. The draws come from PyTorch's generator, so a
    seed fixes them. Whatever the source yields beside image and mask, such as a map
    of weights, goes through the same.

    Shapes: images (C, size, size) and masks (size, size), types as in ``source``.

    Args:
        source: data set of (image, mask) pairs, or of tuples that begin so.
        size: side of the pieces, in pixels.
        length: number of pieces in one epoch.
        turn: whether to turn and mirror.
        bend: standard deviation of the elastic displacement of a whole image, in
            pixels, as in :func:`elastic_field`; 0 bends nothing.

    Raises:
        ValueError: if ``source`` is empty, a number is below one, ``bend`` is
            negative, or an image is smaller than ``size``.

    Source: Ronneberger et al. 2015, section 3.1, for why. Derived in chapters 8, 9.
    """

    def __init__(
        self,
        source: Dataset,
        size: int,
        length: int,
        turn: bool = True,
        bend: float = 0.0,
    ) -> None:
        check_at_least("size", size, 1)
        check_at_least("length", length, 1)
        if len(source) == 0:
            raise ValueError("The data set is empty: there is nothing to cut from.")
        if not 0 <= bend < float("inf"):
            raise ValueError(f"bend must be at least 0 px and finite; got {bend!r}.")
        self.source, self.size, self.length = source, size, length
        self.turn, self.bend = turn, bend

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        maps = self.source[_draw(len(self.source))]
        height, width = maps[1].shape
        if min(height, width) < self.size:
            raise ValueError(
                f"Cannot cut {self.size}x{self.size} from an image of "
                f"{height}x{width}: use size={min(height, width)} or less."
            )
        top, left = _draw(height - self.size + 1), _draw(width - self.size + 1)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        if self.bend:
            field = elastic_field(height, width, self.bend)[window]
            maps = [warp(x, field, top, left) for x in maps]
        else:
            maps = [x[window] for x in maps]
        if self.turn:
            quarters, mirrored = _draw(4), _draw(2)
            maps = [torch.rot90(x, quarters, (-2, -1)) for x in maps]
            if mirrored:
                maps = [x.flip(-1) for x in maps]
        return tuple(x.contiguous() for x in maps)


def _draw(n: int) -> int:
    return int(torch.randint(n, ()))
