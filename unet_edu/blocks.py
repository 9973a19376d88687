"""The four blocks of U-Net: DoubleConv, Down, Up and OutConv.

Every feature map is a tensor of shape (N, C, H, W): images in the batch,
channels, rows, columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ALIGN = ("pad", "crop")
FUSE = ("concat", "add", "none")


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each followed by batch norm and ReLU.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H - 4, W - 4) with
    ``padding=0``, or to the same H and W with ``padding=1``.

    Args:
        in_channels: channels of the map that comes in.
        out_channels: channels of the map that goes out.
        mid_channels: channels between the two convolutions; ``out_channels``
            if not given.
        padding: zeros added on each side before each convolution, in pixels.
        norm: whether each convolution is followed by batch norm.

    Raises:
        ValueError: if a channel count is below one, or padding is negative.

    Source: Ronneberger et al. 2015, section 2, which has no batch norm (Ioffe and
    Szegedy 2015). Derived in chapter 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int | None = None,
        *,
        padding: int = 0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        check_at_least("out_channels", out_channels, 1)
        check_at_least("padding", padding, 0)
        mid_channels = out_channels if mid_channels is None else mid_channels
        check_at_least("mid_channels", mid_channels, 1)
        layers = []
        for n_in, n_out in [(in_channels, mid_channels), (mid_channels, out_channels)]:
            layers.append(nn.Conv2d(n_in, n_out, kernel_size=3, padding=padding))
            if norm:
                layers.append(nn.BatchNorm2d(n_out))
            layers.append(nn.ReLU(inplace=True))
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Down(nn.Module):
    """Halve the map with a 2x2 max pooling, then apply a DoubleConv.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H', W') where
    H' = floor(H / 2) with ``padding=1`` and floor(H / 2) - 4 with ``padding=0``.

    Args and errors: as for :class:`DoubleConv`.

    Source: Ronneberger et al. 2015, section 2. Derived in chapter 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        padding: int = 0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(
            nn.MaxPool2d(2),
            DoubleConv(in_channels, out_channels, padding=padding, norm=norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


def align_maps(x: Tensor, skip: Tensor, align: str) -> tuple[Tensor, Tensor]:
    """Bring the map from below and the map of the skip to one size.

    ``"pad"`` adds zeros around ``x`` until it is as large as ``skip``, and cuts
    nothing. ``"crop"`` cuts the middle of ``skip`` to the size of ``x``. Where the
    difference is odd, the extra row and column lie at the bottom and on the right,
    because pooling drops the last row and column of an odd map.

    Shapes: (N, C, h, w) and (N, C', H, W), h <= H and w <= W, to
    (N, C, H, W) and (N, C', H, W) for ``"pad"``, (N, C, h, w) and (N, C', h, w)
    for ``"crop"``.

    Source: Ronneberger et al. 2015 crops; the article that this book starts from
    pads. Derived in chapter 5.
    """
    rows = skip.shape[-2] - x.shape[-2]
    columns = skip.shape[-1] - x.shape[-1]
    top, left = rows // 2, columns // 2
    if align == "pad":
        return F.pad(x, (left, columns - left, top, rows - top)), skip
    height, width = x.shape[-2:]
    return x, skip[..., top : top + height, left : left + width]


class Up(nn.Module):
    """Double the map from below, join it with the skip, apply a DoubleConv.

    Shapes: ``below`` (N, C, h, w) and ``skip`` (N, in_channels / 2, H, W) to
    (N, out_channels, H', W'). C is ``in_channels`` for a transposed convolution,
    which halves the channels itself, and ``in_channels / 2`` for bilinear
    enlargement, which cannot.

    Args:
        in_channels: channels after concatenation; even.
        out_channels: channels of the map that goes out.
        bilinear: enlarge by interpolation instead of a transposed convolution.
        padding: padding of the two convolutions, in pixels.
        align: ``"pad"`` the map from below with zeros, or ``"crop"`` the skip.
        fuse: ``"concat"``, ``"add"``, or ``"none"`` to ignore the skip.
        norm: whether each convolution is followed by batch norm.

    Raises:
        ValueError: if ``in_channels`` is odd, or ``align`` or ``fuse`` is unknown;
            in the forward pass, if the skip is smaller than the enlarged map.

    Source: Ronneberger et al. 2015, section 2. Derived in chapter 5.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bilinear: bool = False,
        *,
        padding: int = 0,
        align: str = "pad",
        fuse: str = "concat",
        norm: bool = True,
    ) -> None:
        super().__init__()
        check_choice("align", align, ALIGN)
        check_choice("fuse", fuse, FUSE)
        check_even("in_channels", in_channels)
        self.align, self.fuse = align, fuse
        half = in_channels // 2
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            mid_channels = half
        else:
            self.up = nn.ConvTranspose2d(in_channels, half, kernel_size=2, stride=2)
            mid_channels = out_channels
        fused = in_channels if fuse == "concat" else half
        self.conv = DoubleConv(
            fused, out_channels, mid_channels, padding=padding, norm=norm
        )

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        x = self.up(below)
        check_skip(x, skip)
        x, skip = align_maps(x, skip, self.align)
        if self.fuse == "concat":
            x = torch.cat([skip, x], dim=1)
        elif self.fuse == "add":
            x = skip + x
        return self.conv(x)


class OutConv(nn.Module):
    """A 1x1 convolution that turns features into one score a class.

    Shapes: (N, in_channels, H, W) to logits (N, n_classes, H, W).

    Source: Ronneberger et al. 2015, section 2. Derived in chapter 6.
    """

    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, n_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


# The checks at the door. They stand apart from the blocks, so that a block reads as
# the chapter that derives it.


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise ValueError if ``value`` is not an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")


def check_even(name: str, value: int) -> None:
    """Raise ValueError if ``value`` is not an even integer of at least two."""
    check_at_least(name, value, 2)
    if value % 2:
        raise ValueError(
            f"{name} must be even, because half of it comes from below and half "
            f"from the skip; got {value}. Use {value + 1}."
        )


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Raise ValueError if ``value`` is not one of ``choices``."""
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise ValueError(f"{name} must be one of {listed}; got {value!r}.")


def check_skip(x: Tensor, skip: Tensor) -> None:
    """Raise ValueError if the skip is smaller than the enlarged map."""
    if skip.shape[-2] < x.shape[-2] or skip.shape[-1] < x.shape[-1]:
        raise ValueError(
            f"The skip is {skip.shape[-2]}x{skip.shape[-1]}, smaller than the "
            f"enlarged map of {x.shape[-2]}x{x.shape[-1]}. Pass the map from below "
            "first and the map of the skip second."
        )


def check_images(x: Tensor, n_channels: int) -> None:
    """Raise if ``x`` is not a float batch (N, n_channels, H, W).

    Raises:
        TypeError: if ``x`` is no tensor, or not of a floating-point type.
        ValueError: if its rank or its number of channels is wrong.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"Expected a torch.Tensor, got {type(x).__name__}. "
            "torch.from_numpy(array) turns an array into one."
        )
    if x.dim() != 4:
        hint = {2: "x[None, None]", 3: "x[None]"}.get(x.dim())
        raise ValueError(
            f"Expected a batch (N, C, H, W), got shape {tuple(x.shape)}."
            + (f" For one image, pass {hint}." if hint else "")
        )
    if not x.is_floating_point():
        raise TypeError(
            f"Expected floating-point images, got {x.dtype}. "
            "For 8-bit images, pass x.float() / 255."
        )
    if x.shape[1] != n_channels:
        raise ValueError(
            f"The network was built for {n_channels} channel(s), the images have "
            f"{x.shape[1]} (shape {tuple(x.shape)}). Build it with "
            f"n_channels={x.shape[1]}, or convert the images."
        )
