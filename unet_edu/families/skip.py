"""Three answers to what is wrong with the skip: gate it, bridge it, bring all scales.

The way down is U-Net's in all three. What differs is what crosses over.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_edu.blocks import (
    DoubleConv,
    Down,
    OutConv,
    check_at_least,
    check_choice,
)
from unet_edu.families.base import SameSize

GRIDS = ("skip", "coarse")
UPS = ("transposed", "transposed_wide", "bilinear")


class Encoder(SameSize):
    """The way down of a U-Net: one map a level, each half as large as the one above.

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level; each level below has twice as many.
        depth: number of times the map is halved.

    Source: Ronneberger et al. 2015. Derived in chapter 6.
    """

    def __init__(
        self, n_channels: int, n_classes: int, base_channels: int, depth: int
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 1)
        self.base_channels = base_channels
        self.width = [base_channels * 2**level for level in range(depth + 1)]
        self.inc = DoubleConv(n_channels, self.width[0], padding=1)
        for level in range(1, depth + 1):
            down = Down(self.width[level - 1], self.width[level], padding=1)
            self.add_module(f"down{level}", down)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the maps of all levels, from the widest to the deepest."""
        maps = [self.inc(x)]
        for level in range(1, self.depth + 1):
            maps.append(self.get_submodule(f"down{level}")(maps[-1]))
        return maps


def conv_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return one 3x3 convolution that keeps the size, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


# First answer: gate what crosses.


class AttentionGate(nn.Module):
    """Multiply each position of a skip by a number between 0 and 1 that g decides.

    alpha = sigmoid(psi(relu(W_x x + W_g g))), and what goes out is alpha x. The three
    convolutions are 1x1, each followed by batch norm.

    Shapes: skip x (N, x_channels, H, W) and g (N, g_channels, h, w) to
    (N, x_channels, H, W). With ``grid="skip"`` g is as large as x. With
    ``grid="coarse"`` it is half as large: W_x is then a 2x2 convolution of stride 2,
    alpha is computed on the grid of g and enlarged bilinearly.

    Args:
        x_channels: channels of the skip.
        g_channels: channels of the map that decides, the gating signal.
        mid_channels: channels in which the two are added.
        grid: ``"skip"`` or ``"coarse"``, where alpha is computed.

    Raises:
        ValueError: if a channel count is below one, or ``grid`` is unknown.

    The paper and its authors' code gate on the coarse grid; there W_x has no bias, the
    gate no batch norm, and a 1x1 convolution with batch norm follows the product. The
    public code of LeeJunHyun and MONAI gates on the grid of the skip, as here.

    Source: Oktay et al. 2018 (arXiv 1804.03999). Derived in chapter 15.
    """

    def __init__(
        self,
        x_channels: int,
        g_channels: int,
        mid_channels: int,
        grid: str = "skip",
    ) -> None:
        super().__init__()
        check_at_least("x_channels", x_channels, 1)
        check_at_least("g_channels", g_channels, 1)
        check_at_least("mid_channels", mid_channels, 1)
        check_choice("grid", grid, GRIDS)
        step = 2 if grid == "coarse" else 1

        def score(n_in: int, n_out: int, step: int = 1) -> nn.Sequential:
            conv = nn.Conv2d(n_in, n_out, kernel_size=step, stride=step)
            return nn.Sequential(conv, nn.BatchNorm2d(n_out))

        self.w_x = score(x_channels, mid_channels, step)
        self.w_g = score(g_channels, mid_channels)
        self.psi = score(mid_channels, 1)

    def alpha(self, x: Tensor, g: Tensor) -> Tensor:
        """Return what the skip is multiplied by, (N, 1, H, W), between 0 and 1."""
        alpha = torch.sigmoid(self.psi(F.relu(self.w_x(x) + self.w_g(g))))
        if alpha.shape[-2:] == x.shape[-2:]:
            return alpha
        return F.interpolate(alpha, x.shape[-2:], mode="bilinear")

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return self.alpha(x, g) * x


class AttentionUp(nn.Module):
    """Double the map from below, let it gate the skip, join the two, DoubleConv.

    Shapes: below (N, in_channels, h, w) and skip (N, out_channels, 2h, 2w) to
    (N, out_channels, 2h, 2w).

    Source: Oktay et al. 2018 (arXiv 1804.03999). Derived in chapter 15.
    """

    def __init__(self, in_channels: int, out_channels: int, grid: str = "skip") -> None:
        super().__init__()
        self.grid = grid
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2), conv_relu(in_channels, out_channels)
        )
        g_channels = in_channels if grid == "coarse" else out_channels
        self.gate = AttentionGate(out_channels, g_channels, out_channels // 2, grid)
        self.conv = DoubleConv(2 * out_channels, out_channels, padding=1)

    def alpha(self, below: Tensor, skip: Tensor) -> Tensor:
        """Return the gate's map (N, 1, 2h, 2w)."""
        g = below if self.grid == "coarse" else self.up(below)
        return self.gate.alpha(skip, g)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        x = self.up(below)
        g = below if self.grid == "coarse" else x
        return self.conv(torch.cat([self.gate(skip, g), x], dim=1))


class AttentionUNet(Encoder):
    """U-Net with a gate in every skip.

    Maps are doubled by repeating each value, followed by a 3x3 convolution, as in the
    public code of LeeJunHyun, whose ``AttU_Net(1, 1)`` has the same 34,877,421
    parameters as ``AttentionUNet(1, 1)``. The original leaves the widest skip
    ungated; MONAI's has other convolutions around the same gates.

    Shapes: images (N, n_channels, H, W) to logits (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level, at least two.
        depth: number of times the map is halved.
        grid: where the gates compute, ``"skip"`` or ``"coarse"``
            (:class:`AttentionGate`).

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Oktay et al. 2018 (arXiv 1804.03999). Derived in chapter 15.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        grid: str = "skip",
    ) -> None:
        check_at_least("base_channels", base_channels, 2)
        check_choice("grid", grid, GRIDS)
        super().__init__(n_channels, n_classes, base_channels, depth)
        for level in reversed(range(depth)):
            up = AttentionUp(self.width[level + 1], self.width[level], grid)
            self.add_module(f"up{depth - level}", up)
        self.outc = OutConv(self.width[0], n_classes)

    def logits(self, x: Tensor) -> Tensor:
        *skips, x = self.encode(x)
        for level in range(1, self.depth + 1):
            x = self.get_submodule(f"up{level}")(x, skips.pop())
        return self.outc(x)

    def gates(self, x: Tensor) -> list[Tensor]:
        """Return what each skip is multiplied by, from the deepest to the widest.

        Shapes: images (N, n_channels, H, W) to (N, 1, h, w) each, between 0 and 1. The
        last is cut to H and W, the others belong to the extended images.
        """
        images, alphas = x, []
        *skips, x = self.encode(self.extend(images))
        for level in range(1, self.depth + 1):
            up, skip = self.get_submodule(f"up{level}"), skips.pop()
            alphas.append(up.alpha(x, skip))
            x = up(x, skip)
        return [*alphas[:-1], self.cut(alphas[-1], images)]


# What the next two share: several maps of the way up have a head and a loss.


class DeepSupervision(Encoder):
    """A network that is trained at several of its maps and read at the last one.

    A network of this kind says in ``decode`` which maps those are, the finest last,
    and has a head for each of the last ones in ``heads``.

    Source: Lee et al. 2015 (arXiv 1409.5185). Derived in chapter 15.
    """

    heads: nn.ModuleList

    def decode(self, x: Tensor) -> list[Tensor]:
        """Return the maps to be read, the finest last."""
        raise NotImplementedError

    def logits(self, x: Tensor) -> Tensor:
        return self.heads[-1](self.decode(x)[-1])

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """Return the logits of every head, (N, n_classes, H, W), the final ones last.

        Those of a coarse map are enlarged bilinearly.
        """
        images = self.extend(x)
        maps = self.decode(images)[-len(self.heads) :]
        found = [head(m) for head, m in zip(self.heads, maps, strict=True)]
        return [
            self.cut(F.interpolate(z, images.shape[-2:], mode="bilinear"), x)
            if z.shape[-1] < images.shape[-1]
            else self.cut(z, x)
            for z in found
        ]

    def training_loss(
        self, images: Tensor, mask: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return the mean of ``loss(logits, mask)`` over all heads, a scalar."""
        losses = [loss(logits, mask) for logits in self.all_logits(images)]
        return torch.stack(losses).mean()


# Second answer: bridge the gap in steps.


class NestedUp(nn.Module):
    """Enlarge the map from below, join it with all maps of the level, DoubleConv.

    Shapes: below (N, 2 * channels, h, w) and ``n_skips`` maps
    (N, channels, 2h, 2w) to (N, channels, 2h, 2w).

    Args:
        channels: channels of the level.
        n_skips: number of maps of the same level that come before this one.
        up: ``"transposed"`` halves the channels of the map from below,
            ``"transposed_wide"`` and ``"bilinear"`` keep them.

    Source: Zhou et al. 2018 (arXiv 1807.10165). Derived in chapter 15.
    """

    def __init__(self, channels: int, n_skips: int, up: str = "transposed") -> None:
        super().__init__()
        below = channels if up == "transposed" else 2 * channels
        if up == "bilinear":
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        else:
            self.up = nn.ConvTranspose2d(2 * channels, below, kernel_size=2, stride=2)
        self.conv = DoubleConv(n_skips * channels + below, channels, padding=1)

    def forward(self, below: Tensor, *skips: Tensor) -> Tensor:
        return self.conv(torch.cat([*skips, self.up(below)], dim=1))


class UNetPlusPlus(DeepSupervision):
    """U-Net++: every level has a row of nodes, each joined with all before it.

    Node X[i, j] joins X[i, 0], ..., X[i, j - 1] and the enlarged X[i + 1, j - 1].
    X[i, 0] is the way down. The nodes X[0, 1], X[0, 2], ... are at full size and end
    U-Nets of depth 1, 2, ...; with deep supervision each has a head.

    ``UNetPlusPlus(1, 1)`` has 9,048,996 parameters; the paper says 9.04 million. Two
    public versions enlarge otherwise. MONAI's ``BasicUNetPlusPlus`` with batch norm and
    ReLU is ``up="transposed_wide"``: its transposed convolutions halve the channels on
    every level but the widest. 4uiiurz1's ``NestedUNet(1, 1)`` has the 9,162,753
    parameters of ``up="bilinear", deep_supervision=False``, and interpolates with
    ``align_corners=True``.

    Shapes: images (N, n_channels, H, W) to logits (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level; each level below has twice as many.
        depth: number of times the map is halved.
        up: ``"transposed"``, ``"transposed_wide"`` or ``"bilinear"``.
        deep_supervision: whether every node at full size has a head, or the last only.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Zhou et al. 2018 (arXiv 1807.10165). Derived in chapter 15.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 32,
        depth: int = 4,
        up: str = "transposed",
        deep_supervision: bool = True,
    ) -> None:
        check_choice("up", up, UPS)
        super().__init__(n_channels, n_classes, base_channels, depth)
        self.up, self.deep_supervision = up, deep_supervision
        for j in range(1, depth + 1):
            for i in range(depth - j + 1):
                wide = up == "transposed_wide" and i > 0
                node = NestedUp(self.width[i], j, "transposed" if wide else up)
                self.add_module(f"x{i}_{j}", node)
        n_heads = depth if deep_supervision else 1
        self.heads = nn.ModuleList(
            OutConv(base_channels, n_classes) for _ in range(n_heads)
        )

    def decode(self, x: Tensor) -> list[Tensor]:
        """Return X[0, 1], ..., X[0, depth]: all at full size, the last one final."""
        rows = [[x] for x in self.encode(x)]
        for j in range(1, self.depth + 1):
            for i in range(self.depth - j + 1):
                node = self.get_submodule(f"x{i}_{j}")
                rows[i].append(node(rows[i + 1][j - 1], *rows[i]))
        return rows[0][1:]

    def pruned(self, depth: int) -> "UNetPlusPlus":
        """Return the U-Net++ of a smaller depth that lies in this one.

        It has a copy of the weights. For images whose sides 2^(this network's depth)
        divides, its logits are ``all_logits(x)[depth - 1]`` of this network; nothing
        that they do not need is computed.

        Raises:
            ValueError: if ``depth`` is not between 1 and this network's, or only the
                last node has a head.
        """
        check_choice("depth", depth, tuple(range(1, self.depth + 1)))
        if not self.deep_supervision and depth < self.depth:
            raise ValueError(
                f"A network without deep supervision has no head at depth {depth}. "
                "Build and train it with deep_supervision=True."
            )
        small = UNetPlusPlus(
            self.n_channels,
            self.n_classes,
            base_channels=self.base_channels,
            depth=depth,
            up=self.up,
            deep_supervision=self.deep_supervision,
        )
        state, needed = self.state_dict(), small.state_dict().keys()
        small.load_state_dict({name: state[name] for name in needed})
        return small.to(next(self.parameters())).train(self.training)


# Third answer: bring all scales.


def to_level(x: Tensor, source: int, target: int) -> Tensor:
    """Bring a map of one level to the size of another: max pooling, or bilinear.

    Shapes: (N, C, H / 2^source, W / 2^source) to
    (N, C, H / 2^target, W / 2^target).
    """
    if source < target:
        return F.max_pool2d(x, 2 ** (target - source))
    if source > target:
        factor = 2 ** (source - target)
        return F.interpolate(x, scale_factor=factor, mode="bilinear")
    return x


class FullScaleNode(nn.Module):
    """Resize the maps of all levels, convolve each, concatenate them, convolve.

    Shapes: one map for each level k, (N, in_channels[k], H / 2^k, W / 2^k), to
    (N, len(in_channels) * channels, H / 2^level, W / 2^level).

    Args:
        in_channels: channels of the map of each level, the widest first.
        level: the level of this node, 0 for the widest.
        channels: channels that each map gets before they are concatenated.

    Source: Huang et al. 2020 (arXiv 2004.08790). Derived in chapter 15.
    """

    def __init__(self, in_channels: list[int], level: int, channels: int) -> None:
        super().__init__()
        self.level = level
        self.branches = nn.ModuleList(conv_relu(c, channels) for c in in_channels)
        total = len(in_channels) * channels
        self.fuse = conv_relu(total, total)

    def forward(self, *maps: Tensor) -> Tensor:
        resized = [to_level(x, k, self.level) for k, x in enumerate(maps)]
        branches = zip(self.branches, resized, strict=True)
        return self.fuse(torch.cat([branch(x) for branch, x in branches], dim=1))


class UNet3Plus(DeepSupervision):
    """UNet 3+: every node of the way up sees all levels.

    A node joins the encoder's maps of its own level and above, pooled, with the
    decoder's of the levels below, enlarged; each is brought to ``base_channels``.

    The heads are 3x3 convolutions, as in the public code. ``UNet3Plus(3, 1,
    deep_supervision=False)`` has 26,971,777 parameters, those of ZJUGiveLab's
    ``UNet_3Plus()``; with its five heads it has 26,989,637. The paper's classifier at
    the bottom, which empties the mask of images without an organ, is left out.

    Shapes: images (N, n_channels, H, W) to logits (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level, and of every map that is joined.
        depth: number of times the map is halved.
        deep_supervision: whether every level has a head, or the widest only.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Huang et al. 2020 (arXiv 2004.08790). Derived in chapter 15.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__(n_channels, n_classes, base_channels, depth)
        self.deep_supervision = deep_supervision
        joined = (depth + 1) * base_channels
        channels = list(self.width)
        for level in reversed(range(depth)):
            node = FullScaleNode(channels, level, base_channels)
            self.add_module(f"up{depth - level}", node)
            channels[level] = joined
        read = channels[::-1] if deep_supervision else [joined]
        self.heads = nn.ModuleList(nn.Conv2d(c, n_classes, 3, padding=1) for c in read)

    def decode(self, x: Tensor) -> list[Tensor]:
        """Return the maps of all levels on the way up, the widest last."""
        maps = self.encode(x)
        for level in reversed(range(self.depth)):
            # Below this level the maps are the decoder's already.
            maps[level] = self.get_submodule(f"up{self.depth - level}")(*maps)
        return maps[::-1]
