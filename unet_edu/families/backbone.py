"""The backbone family: the same U, built from other blocks."""

import torch
from torch import Tensor, nn

from unet_edu.blocks import OutConv, check_at_least, check_choice
from unet_edu.families.base import SameSize

MULTIRES_ALPHA = 1.67


class UShape(SameSize):
    """A U whose blocks are given: what the networks of this family have in common.

    ``inc`` makes the first map, each of ``downs`` a map of half the side, each of
    ``ups`` takes the map from below and the skip, ``outc`` makes the logits.

    Shapes: images (N, n_channels, H, W), floating point, to logits
    (N, n_classes, H, W).

    Derived in chapter 16.
    """

    inc: nn.Module
    downs: nn.ModuleList
    ups: nn.ModuleList
    outc: nn.Module

    def logits(self, x: Tensor) -> Tensor:
        maps = [self.inc(x)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        x = maps.pop()
        for up in self.ups:
            x = up(x, maps.pop())
        return self.outc(x)


class UpJoin(nn.Module):
    """Enlarge the map from below, lay the skip beside it, apply a block.

    Shapes: ``below`` (N, C, h, w) and ``skip`` (N, C', 2h, 2w) to what ``block``
    makes of (N, C' + C'', 2h, 2w), where C'' is what ``up`` makes of C.

    Args:
        up: doubles the side of the map from below.
        block: is given both maps, the skip first.
        path: what the skip goes through on its way across; nothing if not given.

    Derived in chapter 16.
    """

    def __init__(
        self, up: nn.Module, block: nn.Module, path: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.up, self.block = up, block
        self.path = nn.Identity() if path is None else path

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return self.block(torch.cat([self.path(skip), self.up(below)], dim=1))


class PreActivation(nn.Module):
    """A residual block: x plus what two convolutions make of it.

    Batch norm and ReLU come before each convolution, not after it, so nothing stands
    in the way of x. Where channels and size stay, x itself is carried past the
    convolutions; where they change, a 1x1 convolution of it.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    Args:
        in_channels: channels of the map that comes in.
        out_channels: channels of the map that goes out.
        stride: 2 to halve the map with the first convolution, which replaces pooling.
        first: leave out the first batch norm and ReLU, for a block that is given the
            image itself.

    Raises:
        ValueError: if a channel count is below one, or the stride is not 1 or 2.

    Source: He et al. 2016 (arXiv 1603.05027) for the block, Zhang et al. 2017
    (arXiv 1711.10684) for its place in a U-Net. Derived in chapter 16.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        first: bool = False,
    ) -> None:
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        check_at_least("out_channels", out_channels, 1)
        check_choice("stride", stride, (1, 2))
        ready = [] if first else [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)]
        self.residual = nn.Sequential(
            *ready,
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.stride = stride
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # The same as a 1x1 convolution with a stride, whose backward pass in bf16
        # crashes in PyTorch 2.13 on some CPUs.
        seen = x[..., :: self.stride, :: self.stride]
        return self.shortcut(seen) + self.residual(x)


class ResUNet(UShape):
    """A U-Net of pre-activation residual blocks, with strides instead of pooling.

    Shapes: images (N, n_channels, H, W), floating point, to logits
    (N, n_classes, H, W).

    With 3 channels and 1 class it has 8,220,993 parameters, as nikhilroxtomar's public
    code, which applies a sigmoid to its output and aligns corners where it enlarges.

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level; each level below has twice as many.
        depth: number of times the map is halved. The paper's network has 3.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Zhang et al. 2017 (arXiv 1711.10684). Derived in chapter 16.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 3,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 1)
        width = [base_channels * 2**level for level in range(depth + 1)]
        self.inc = PreActivation(n_channels, width[0], first=True)
        self.downs = nn.ModuleList(
            PreActivation(width[level], width[level + 1], stride=2)
            for level in range(depth)
        )
        self.ups = nn.ModuleList(
            UpJoin(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                PreActivation(width[level] + width[level + 1], width[level]),
            )
            for level in reversed(range(depth))
        )
        self.outc = OutConv(width[0], n_classes)


class ConvNorm(nn.Sequential):
    """A convolution that keeps the size, batch norm, and a ReLU unless told otherwise.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H, W).

    Args:
        in_channels: channels of the map that comes in.
        out_channels: channels of the map that goes out.
        kernel: side of the kernel, odd.
        relu: whether a ReLU ends it.

    Derived in chapter 16.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, relu: bool = True
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2),
            nn.BatchNorm2d(out_channels),
            *([nn.ReLU(inplace=True)] if relu else []),
        )


class MultiResBlock(nn.Module):
    """Three 3x3 convolutions in a row, all of whose outputs are kept.

    They see 3, 5 and 7 pixels, and get a sixth, a third and a half of the channels. A
    1x1 convolution of what came in is added to the three.

    Shapes: (N, in_channels, H, W) to (N, :attr:`out_channels`, H, W).

    Args:
        in_channels: channels of the map that comes in.
        filters: channels that U-Net's block would have here; this one has 1.67 times
            as many, less what rounding takes.

    Attributes:
        parts: channels of the three convolutions.
        out_channels: their sum.

    Raises:
        ValueError: if ``in_channels`` is below one, or ``filters`` below four, which
            would leave no channel for the first convolution.

    Source: Ibtehaz and Rahman 2019 (arXiv 1902.04049). Derived in chapter 16.
    """

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        check_at_least("filters", filters, 4)
        # The authors' code rounds 1/6 and 1/3 to three digits. At 512 filters that is
        # one channel less than a third.
        wide = filters * MULTIRES_ALPHA
        self.parts = [int(wide * share) for share in (0.167, 0.333, 0.5)]
        self.out_channels = sum(self.parts)
        steps = zip([in_channels, *self.parts], self.parts, strict=False)
        self.convs = nn.ModuleList(ConvNorm(n_in, n_out) for n_in, n_out in steps)
        self.shortcut = ConvNorm(in_channels, self.out_channels, kernel=1, relu=False)
        self.norm_maps = nn.BatchNorm2d(self.out_channels)
        self.norm_sum = nn.BatchNorm2d(self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        maps, last = [], x
        for conv in self.convs:
            last = conv(last)
            maps.append(last)
        together = self.norm_maps(torch.cat(maps, dim=1))
        return torch.relu(self.norm_sum(together + self.shortcut(x)))


class ResPathBlock(nn.Module):
    """One 3x3 convolution with a 1x1 convolution beside it, and their sum normalised.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H, W).

    The authors' PyTorch code uses its batch norm a second time, before the sum; their
    paper does not draw it, and the number of parameters is the same.

    Source: Ibtehaz and Rahman 2019 (arXiv 1902.04049). Derived in chapter 16.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvNorm(in_channels, out_channels)
        self.shortcut = ConvNorm(in_channels, out_channels, kernel=1, relu=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x) + self.shortcut(x)))


class ResPath(nn.Sequential):
    """A skip with convolutions on it: ``length`` small residual blocks in a row.

    The nearer a skip is to the image, the more blocks it gets: what crosses there has
    been through few convolutions, what it meets has been through many.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H, W).

    Args:
        in_channels: channels of the map that comes in.
        out_channels: channels of every block.
        length: number of blocks.

    Raises:
        ValueError: if one of the three is below one.

    Source: Ibtehaz and Rahman 2019 (arXiv 1902.04049). Derived in chapter 16.
    """

    def __init__(self, in_channels: int, out_channels: int, length: int) -> None:
        check_at_least("in_channels", in_channels, 1)
        check_at_least("out_channels", out_channels, 1)
        check_at_least("length", length, 1)
        inputs = [in_channels] + [out_channels] * (length - 1)
        super().__init__(*(ResPathBlock(n_in, out_channels) for n_in in inputs))


class MultiResUNet(UShape):
    """A U-Net of MultiRes blocks, with ResPaths for skips.

    Shapes: images (N, n_channels, H, W), floating point, to logits
    (N, n_classes, H, W).

    With 3 channels and 2 classes it has 7,251,372 parameters. The authors' PyTorch
    code has 7,251,376 when it is asked for one class: it returns one channel more than
    asked for, and normalises the logits, which costs two parameters a channel. (A
    later version of that code leaves the ResPaths as wide as what enters them.)

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level of the U-Net that this one stands
            for, at least 4; the blocks have about 1.6 times as many.
        depth: number of times the map is halved.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Ibtehaz and Rahman 2019 (arXiv 1902.04049). Derived in chapter 16.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 32,
        depth: int = 4,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 4)
        filters = [base_channels * 2**level for level in range(depth + 1)]
        self.inc = MultiResBlock(n_channels, filters[0])
        width = [self.inc.out_channels]
        self.downs = nn.ModuleList()
        for level in range(1, depth + 1):
            block = MultiResBlock(width[-1], filters[level])
            self.downs.append(nn.Sequential(nn.MaxPool2d(2), block))
            width.append(block.out_channels)
        # A block has as many channels on the way up as at its level on the way down.
        self.ups = nn.ModuleList(
            UpJoin(
                nn.ConvTranspose2d(width[level + 1], filters[level], 2, stride=2),
                MultiResBlock(2 * filters[level], filters[level]),
                ResPath(width[level], filters[level], length=depth - level),
            )
            for level in reversed(range(depth))
        )
        self.outc = OutConv(width[0], n_classes)


class RecurrentConv(nn.Module):
    """One convolution applied t + 1 times, each time to x plus what it made last.

    Kernel, scale and shift are the same each time, so it sees 2 t + 3 pixels with the
    parameters of one 3x3 convolution. The statistics by which it normalises are not
    the same: what the second application gives has another mean and variance.

    Shapes: (N, channels, H, W) to the same.

    Args:
        channels: channels of the map.
        t: number of repetitions after the first application.
        own_statistics: keep the running mean and variance of each application apart.
            If not, all share one pair, a mixture that fits none of them, as in
            LeeJunHyun's public code; training is the same, use is not.

    Raises:
        ValueError: if ``channels`` is below one or ``t`` below zero.

    Source: Alom et al. 2018 (arXiv 1802.06955); Cooijmans et al. 2016 (arXiv
    1603.09025) for statistics of their own. Derived in chapter 16.
    """

    def __init__(
        self, channels: int, t: int = 2, *, own_statistics: bool = True
    ) -> None:
        super().__init__()
        check_at_least("channels", channels, 1)
        check_at_least("t", t, 0)
        self.t = t
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(channels, affine=False)
            for _ in range(t + 1 if own_statistics else 1)
        )
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(x)
        for i in range(self.t + 1):
            norm = self.norms[i % len(self.norms)]
            normal = norm(self.conv(x + state))
            state = torch.relu(normal * self.scale + self.shift)
        return state


class RecurrentBlock(nn.Module):
    """A 1x1 convolution, and two recurrent convolutions with a shortcut past both.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H, W).

    Args and errors: as for :class:`RecurrentConv`.

    Source: Alom et al. 2018 (arXiv 1802.06955). Derived in chapter 16.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        t: int = 2,
        *,
        own_statistics: bool = True,
    ) -> None:
        super().__init__()
        check_at_least("in_channels", in_channels, 1)
        check_at_least("out_channels", out_channels, 1)
        self.match = nn.Conv2d(in_channels, out_channels, 1)
        self.residual = nn.Sequential(
            RecurrentConv(out_channels, t, own_statistics=own_statistics),
            RecurrentConv(out_channels, t, own_statistics=own_statistics),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.match(x)
        return x + self.residual(x)


class R2UNet(UShape):
    """A U-Net of recurrent residual blocks: the same kernels, used several times.

    Shapes: images (N, n_channels, H, W), floating point, to logits
    (N, n_classes, H, W).

    With 3 channels and 1 class it has 39,091,393 parameters, whatever ``t`` is, as
    LeeJunHyun's public code has, with statistics of its own for each application or
    without.

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level; each level below has twice as many.
        depth: number of times the map is halved.
        t: repetitions of each recurrent convolution after its first application.
        own_statistics: as for :class:`RecurrentConv`.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Alom et al. 2018 (arXiv 1802.06955). Derived in chapter 16.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        t: int = 2,
        own_statistics: bool = True,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 1)
        check_at_least("t", t, 0)
        width = [base_channels * 2**level for level in range(depth + 1)]

        def block(n_in: int, n_out: int) -> RecurrentBlock:
            return RecurrentBlock(n_in, n_out, t, own_statistics=own_statistics)

        self.inc = block(n_channels, width[0])
        self.downs = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), block(width[level], width[level + 1]))
            for level in range(depth)
        )
        self.ups = nn.ModuleList(
            UpJoin(
                nn.Sequential(
                    nn.Upsample(scale_factor=2),
                    ConvNorm(width[level + 1], width[level]),
                ),
                block(2 * width[level], width[level]),
            )
            for level in reversed(range(depth))
        )
        self.outc = OutConv(width[0], n_classes)
