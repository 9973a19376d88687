"""Between encoder and decoder: modules that let the deepest map see further.

The deepest map is the smallest, so that looking far costs least there. Dilated
convolutions and pooling look far and keep places apart; squeezing looks at
everything at once and forgets where it was; attention over places weighs them.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_edu.blocks import DoubleConv, Down, OutConv, Up, check_at_least
from unet_edu.families.base import SameSize


def dilated_conv(
    in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1
) -> nn.Sequential:
    """Return a convolution that keeps the size, with batch norm and ReLU.

    Its weights are ``dilation`` positions apart: a 3x3 kernel spans
    2 * dilation + 1 positions and still has nine weights.

    Source: Yu and Koltun 2016 (arXiv 1511.07122). Derived in chapter 17.
    """
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=padding,
        dilation=dilation,
        bias=False,  # the batch norm adds one
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class ASPP(nn.Module):
    """Look at a map at several dilations and as a whole, side by side.

    A 1x1 convolution, a 3x3 convolution for each dilation and the mean of the whole
    map are concatenated; a 1x1 convolution joins them.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H, W).

    Args:
        in_channels: channels of the map that comes in.
        out_channels: channels of the map that goes out.
        dilations: distance between neighbouring weights, a branch each, in positions
            of the map.
        branch_channels: channels of a branch; ``out_channels`` if not given.

    Raises:
        ValueError: if there is no dilation, or a number is below one.

    The branch of the whole map has a bias where public code has a batch norm, so that
    one image is enough to train on: ``branch_channels`` parameters less. There is no
    dropout.

    Source: Chen et al. 2017 (arXiv 1706.05587). Derived in chapter 17.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: Sequence[int] = (6, 12, 18),
        *,
        branch_channels: int | None = None,
    ) -> None:
        super().__init__()
        width = out_channels if branch_channels is None else branch_channels
        check_at_least("in_channels", in_channels, 1)
        check_at_least("out_channels", out_channels, 1)
        check_at_least("branch_channels", width, 1)
        check_each("dilations", dilations)
        self.point = dilated_conv(in_channels, width, 1)
        self.atrous = nn.ModuleList(
            dilated_conv(in_channels, width, 3, dilation) for dilation in dilations
        )
        self.whole = nn.Conv2d(in_channels, width, 1)
        n_branches = len(dilations) + 2
        self.join = dilated_conv(n_branches * width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.point(x), *(conv(x) for conv in self.atrous)]
        mean = F.relu(self.whole(x.mean(dim=(2, 3), keepdim=True)))
        found.append(mean.expand_as(found[0]))
        return self.join(torch.cat(found, dim=1))


class DenseAtrous(nn.Module):
    """Sum a map and four branches of chained dilated convolutions that they share.

    The branches see squares of 3, 7, 9 and 19 positions. Three 3x3 convolutions, of
    dilations 1, 3 and 5, and one 1x1 convolution are used again and again. Between
    chained convolutions there is no ReLU, and nowhere a batch norm.

    Shapes: (N, channels, H, W) to the same.

    Raises ValueError if ``channels`` is below one.

    Source: Gu et al. 2019 (arXiv 1903.02740), the DAC block of CE-Net. Derived in
    chapter 17.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_at_least("channels", channels, 1)
        self.conv1, self.conv3, self.conv5 = (
            nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in (1, 3, 5)
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + sum(F.relu(branch) for branch in self.branches(x))

    def branches(self, x: Tensor) -> list[Tensor]:
        """Return the four branches before their ReLU, from the nearest sight on."""
        near = self.conv1(x)
        far = self.conv3(near)
        wide = [self.conv3(x), far, self.conv5(far)]
        return [near, *(self.mix(branch) for branch in wide)]


class MultiKernelPooling(nn.Module):
    """Put four coarse summaries of a map beside it.

    The map is pooled by 2, 3, 5 and 6; one 1x1 convolution, shared by the four, makes
    a single channel of each, which is enlarged again bilinearly.

    Shapes: (N, channels, H, W) to (N, channels + 4, H, W). On a map smaller than a
    window the window is the map.

    Args:
        channels: channels of the map.
        kernels: sides of the pooling windows, in positions of the map.

    Raises:
        ValueError: if there is no window, or a number is below one.

    Source: Gu et al. 2019 (arXiv 1903.02740), the RMP block of CE-Net. Derived in
    chapter 17.
    """

    def __init__(self, channels: int, kernels: Sequence[int] = (2, 3, 5, 6)) -> None:
        super().__init__()
        check_at_least("channels", channels, 1)
        check_each("kernels", kernels)
        self.kernels = tuple(kernels)
        self.score = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*self.pyramid(x), x], dim=1)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Return one map (N, 1, H, W) for each window."""
        size = x.shape[-2:]
        maps = []
        for kernel in self.kernels:
            window = [min(kernel, side) for side in size]
            coarse = self.score(F.max_pool2d(x, window))
            maps.append(
                F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
            )
        return maps


class SqueezeExcite(nn.Module):
    """Multiply each channel by a number between 0 and 1 that the whole map decides.

    Squeeze: the mean of each channel. Excite: two dense layers and a sigmoid.

    Shapes: (N, channels, H, W) to the same.

    Args:
        channels: channels of the map.
        reduction: how many times fewer values there are between the two layers; four
            are left if there are as many channels, so that they do not all fall
            silent in a narrow network.

    Raises:
        ValueError: if a number is below one.

    Source: Hu et al. 2018 (arXiv 1709.01507), with biases. Derived in chapter 17.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        check_at_least("channels", channels, 1)
        check_at_least("reduction", reduction, 1)
        hidden = max(min(channels, 4), channels // reduction)
        self.narrow = nn.Linear(channels, hidden)
        self.widen = nn.Linear(hidden, channels)

    def gate(self, x: Tensor) -> Tensor:
        """Return (N, channels) numbers between 0 and 1."""
        squeezed = x.mean(dim=(2, 3))
        return torch.sigmoid(self.widen(F.relu(self.narrow(squeezed))))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)[:, :, None, None]


class SpatialAttention(nn.Module):
    """Multiply each position by a number between 0 and 1 that its surroundings decide.

    One convolution without bias looks at two maps, the mean and the largest value over
    the channels: 98 parameters, however many channels there are.

    Shapes: (N, C, H, W) to the same.

    Args:
        kernel_size: side of the convolution's kernel; odd.

    Raises:
        ValueError: if ``kernel_size`` is not odd.

    Source: Woo et al. 2018 (arXiv 1807.06521); at the bottom of a U-Net, Guo et al.
    2020 (arXiv 2004.03696). Derived in chapter 17.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        check_odd("kernel_size", kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """Return (N, 1, H, W) numbers between 0 and 1."""
        mean, largest = x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
        return torch.sigmoid(self.conv(torch.cat([mean, largest], dim=1)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class ConcurrentAttention(nn.Module):
    """Weigh channels by :class:`SqueezeExcite`, places by a 1x1 convolution, and add.

    Shapes: (N, channels, H, W) to the same.

    Args and errors: as for :class:`SqueezeExcite`.

    Source: Roy et al. 2018 (arXiv 1803.02579), scSE; they take a reduction of 2, most
    public code 16. Derived in chapter 17.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.by_channel = SqueezeExcite(channels, reduction)
        self.place = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        by_place = x * torch.sigmoid(self.place(x))
        return self.by_channel(x) + by_place


class BottleneckUNet(SameSize):
    """The U-Net of chapter 6 with one module between its encoder and its decoder.

    Shapes: images (N, n_channels, H, W), floating point, of any size to logits
    (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        bottleneck: called with the number of channels of the deepest map; returns a
            module that keeps the map's shape. ``nn.Identity`` gives the plain U-Net.
        base_channels: channels of the first level; each level below has twice as
            many.
        depth: number of times the map is halved.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Derived in chapter 17.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        bottleneck: Callable[[int], nn.Module],
        *,
        base_channels: int = 64,
        depth: int = 4,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 1)
        width = [base_channels * 2**level for level in range(depth + 1)]
        self.inc = DoubleConv(n_channels, width[0], padding=1)
        for level in range(1, depth + 1):
            down = Down(width[level - 1], width[level], padding=1)
            self.add_module(f"down{level}", down)
        self.bottleneck = bottleneck(width[depth])
        for level in reversed(range(depth)):
            up = Up(width[level + 1], width[level], padding=1)
            self.add_module(f"up{depth - level}", up)
        self.outc = OutConv(width[0], n_classes)

    def logits(self, x: Tensor) -> Tensor:
        skips = [self.inc(x)]
        for level in range(1, self.depth + 1):
            skips.append(self.get_submodule(f"down{level}")(skips[-1]))
        x = self.bottleneck(skips.pop())
        for level in range(1, self.depth + 1):
            x = self.get_submodule(f"up{level}")(x, skips.pop())
        return self.outc(x)


class SEUNet(BottleneckUNet):
    """A U-Net with :class:`SqueezeExcite` at the bottom, and nowhere else.

    Shapes, args and errors: as for :class:`BottleneckUNet`. Networks of this name
    elsewhere often have one in every block.

    Source: Hu et al. 2018 (arXiv 1709.01507). Derived in chapter 17.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
    ) -> None:
        size = {"base_channels": base_channels, "depth": depth}
        super().__init__(n_channels, n_classes, SqueezeExcite, **size)


class SAUNet(BottleneckUNet):
    """A U-Net with :class:`SpatialAttention` at the bottom.

    Shapes, args and errors: as for :class:`BottleneckUNet`. The published network has
    width 16, depth 3, DropBlock after each convolution, which ours leaves out, and its
    attention between the two convolutions of the deepest level, where ours follows
    them.

    Source: Guo et al. 2020 (arXiv 2004.03696). Derived in chapter 17.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 16,
        depth: int = 3,
    ) -> None:
        size = {"base_channels": base_channels, "depth": depth}
        super().__init__(n_channels, n_classes, lambda _: SpatialAttention(), **size)


class ASPPUNet(BottleneckUNet):
    """A U-Net with :class:`ASPP` at the bottom, its branches a quarter as wide.

    Shapes and errors: as for :class:`BottleneckUNet` and :class:`ASPP`. A quarter is
    what COPLE-Net takes (Wang et al. 2020), and its dilations 2, 4 and 6, which suit
    a small map better than the 6, 12 and 18 of :class:`ASPP`.

    Args:
        n_channels, n_classes, base_channels, depth: as for :class:`BottleneckUNet`.
        dilations: as for :class:`ASPP`.

    Source: Chen et al. 2017 (arXiv 1706.05587). Derived in chapter 17.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        dilations: Sequence[int] = (2, 4, 6),
    ) -> None:
        def aspp(channels: int) -> ASPP:
            quarter = max(1, channels // 4)
            return ASPP(channels, channels, dilations, branch_channels=quarter)

        size = {"base_channels": base_channels, "depth": depth}
        super().__init__(n_channels, n_classes, aspp, **size)


class CENet(BottleneckUNet):
    """A U-Net with :class:`DenseAtrous` and :class:`MultiKernelPooling` at the bottom.

    Shapes, args and errors: as for :class:`BottleneckUNet`. The published CE-Net has
    the encoder of a ResNet34, trained on photographs before, and a decoder of its own;
    ours puts its two modules into the U-Net of this book, to see what they do there. A
    1x1 convolution brings the channels back to what the decoder takes.

    Source: Gu et al. 2019 (arXiv 1903.02740). Derived in chapter 17.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
    ) -> None:
        def context(channels: int) -> nn.Sequential:
            pooling = MultiKernelPooling(channels)
            joined = channels + len(pooling.kernels)
            return nn.Sequential(
                DenseAtrous(channels), pooling, nn.Conv2d(joined, channels, 1)
            )

        size = {"base_channels": base_channels, "depth": depth}
        super().__init__(n_channels, n_classes, context, **size)


# The checks at the door.


def check_each(name: str, values: Sequence[int]) -> None:
    """Raise ValueError unless there are values, and each is an integer >= 1."""
    if len(values) == 0:
        raise ValueError(f"{name} is empty; give at least one number.")
    for value in values:
        check_at_least(f"each of {name}", value, 1)


def check_odd(name: str, value: int) -> None:
    """Raise ValueError unless ``value`` is an odd integer >= 1."""
    check_at_least(name, value, 1)
    if value % 2 == 0:
        raise ValueError(
            f"{name} must be odd, so that the kernel has a middle; got {value}. "
            f"Use {value + 1}."
        )
