"""The whole network, built from the blocks of :mod:`unet_edu.blocks`."""

import torch.nn.functional as F
from torch import Tensor, nn

from unet_edu.blocks import (
    ALIGN,
    FUSE,
    DoubleConv,
    Down,
    OutConv,
    Up,
    check_at_least,
    check_choice,
    check_images,
)


class UNet(nn.Module):
    """U-Net with the geometry, the fusion and the size of your choice.

    Three settings have a name in the book:

    - the article's (the defaults): unpadded convolutions, batch norm, the map from
      below padded with zeros; 572x572 gives 564x564;
    - the paper's: ``align="crop", norm=False, n_classes=2``; 572x572 gives 388x388;
    - the practical one: ``padding=1``; any size of at least 2^depth gives the same
      size.

    Shapes: images (N, n_channels, H, W), floating point, to logits
    (N, n_classes, H', W'); :meth:`output_size` tells H' from H.

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits. One logit is read through a sigmoid, two
            or more through a softmax.
        bilinear: enlarge by interpolation instead of transposed convolutions.
        base_channels: channels of the first level; each level below has twice as
            many.
        depth: number of times the map is halved.
        padding: zeros around each 3x3 convolution, in pixels: 0 or 1.
        align: what makes two maps fit, ``"pad"`` or ``"crop"``.
        fuse: what joins two maps, ``"concat"``, ``"add"`` or ``"none"``.
        norm: whether each 3x3 convolution is followed by batch norm.
        dropout: probability with which values of the deepest map are set to zero in
            training.

    Raises:
        ValueError: for an impossible setting; in the forward pass for images of the
            wrong shape, or of a size that the network cannot take, with the size
            that would do.
        TypeError: in the forward pass, for images that are not floating point.

    Source: Ronneberger et al. 2015 (arXiv 1505.04597). Derived in chapter 6.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        bilinear: bool = False,
        *,
        base_channels: int = 64,
        depth: int = 4,
        padding: int = 0,
        align: str = "pad",
        fuse: str = "concat",
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_at_least("n_channels", n_channels, 1)
        check_at_least("n_classes", n_classes, 1)
        check_at_least("base_channels", base_channels, 1)
        check_at_least("depth", depth, 1)
        check_choice("padding", padding, (0, 1))
        check_choice("align", align, ALIGN)
        check_choice("fuse", fuse, FUSE)
        check_probability("dropout", dropout)
        self.n_channels, self.n_classes, self.bilinear = n_channels, n_classes, bilinear
        self.base_channels, self.depth, self.dropout = base_channels, depth, dropout
        self.padding, self.align, self.fuse, self.norm = padding, align, fuse, norm

        conv = {"padding": padding, "norm": norm}
        width = [base_channels * 2**level for level in range(depth + 1)]
        self.inc = DoubleConv(n_channels, width[0], **conv)
        for level in range(1, depth + 1):
            # Interpolation keeps the channels, so what it enlarges must arrive with
            # half as many.
            halved = 2 if bilinear and level == depth else 1
            down = Down(width[level - 1], width[level] // halved, **conv)
            self.add_module(f"down{level}", down)
        for level in reversed(range(depth)):
            halved = 2 if bilinear and level > 0 else 1
            up = Up(
                width[level + 1],
                width[level] // halved,
                bilinear,
                align=align,
                fuse=fuse,
                **conv,
            )
            self.add_module(f"up{depth - level}", up)
        self.outc = OutConv(width[0], n_classes)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the maps of all levels, from the widest to the deepest."""
        maps = [self.inc(x)]
        for level in range(1, self.depth + 1):
            maps.append(self.get_submodule(f"down{level}")(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.n_channels)
        self.check_size(x)
        *skips, x = self.encode(x)
        x = F.dropout(x, self.dropout, training=self.training)
        for level in range(1, self.depth + 1):
            x = self.get_submodule(f"up{level}")(x, skips.pop())
        return self.outc(x)

    @property
    def config(self) -> dict[str, int | float | str | bool]:
        """The arguments that build this network again: ``UNet(**net.config)``."""
        names = "n_channels n_classes bilinear base_channels depth padding align fuse"
        return {name: getattr(self, name) for name in f"{names} norm dropout".split()}

    def level_sizes(self, size: int) -> list[int] | None:
        """Return the side of each level's map on the way down, or None if one is < 1.

        ``size`` and the result are in pixels. Derived in chapter 6.
        """
        lost = 4 - 4 * self.padding
        sizes = [size - lost]
        for _ in range(self.depth):
            sizes.append(sizes[-1] // 2 - lost)
        return sizes if min(sizes) >= 1 else None

    def output_size(self, size: int) -> int | None:
        """Return the side of the logits for a side of ``size`` pixels.

        None if the network cannot take the size: a map would vanish, or, where the
        skip is cropped, an odd map would be pooled and the two maps would be half a
        pixel apart. Derived in chapter 6.
        """
        sizes = self.level_sizes(size)
        if sizes is None:
            return None
        lost = 4 - 4 * self.padding
        if self.align == "pad":
            # The last Up pads to the size of the first skip, whatever came below.
            return sizes[0] - lost if min(sizes[:-1]) > lost else None
        if any(side % 2 for side in sizes[:-1]):
            return None
        side = sizes[-1]
        for _ in range(self.depth):
            side = 2 * side - lost
            if side < 1:
                return None
        return side

    def check_size(self, x: Tensor) -> None:
        """Raise ValueError if the images have a size the network cannot take."""
        height, width = x.shape[-2:]
        bad = [side for side in (height, width) if self.output_size(side) is None]
        if not bad:
            self.check_batch_norm(x)
            return
        fits = [s for s in range(1, bad[0] + 2 ** (self.depth + 8)) if self.fits(s)]
        below = max((s for s in fits if s < bad[0]), default=None)
        above = min(s for s in fits if s > bad[0])
        near = f"{above}" if below is None else f"{below} or {above}"
        steps = "" if self.align == "pad" else f" and go on in steps of {2**self.depth}"
        raise ValueError(
            f"Images of {height}x{width} do not fit a U-Net of depth {self.depth} with "
            f"padding={self.padding} and align={self.align!r}: sides start at "
            f"{fits[0]}{steps}. Instead of {bad[0]}, use {near}."
        )

    def check_batch_norm(self, x: Tensor) -> None:
        """Raise ValueError if batch norm would get one value to take a mean over."""
        height, width = (self.level_sizes(side)[-1] for side in x.shape[-2:])
        if self.training and self.norm and x.shape[0] * height * width == 1:
            raise ValueError(
                f"One image of {x.shape[-2]}x{x.shape[-1]} leaves a single value per "
                "channel at the bottom, and batch norm cannot train on one value. "
                "Train on larger images or on more than one at a time, build the "
                "network with norm=False, or call eval() to use it."
            )

    def fits(self, size: int) -> bool:
        """Tell whether the network takes images with a side of ``size`` pixels."""
        return self.output_size(size) is not None


def check_probability(name: str, value: float) -> None:
    """Raise ValueError if ``value`` is not in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be a probability in [0, 1), got {value!r}.")
