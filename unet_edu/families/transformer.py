"""Transformers in a U: attention at the bottom, as the encoder, or everywhere.

A map is (N, C, H, W); the same map as tokens is (N, H * W, C), row by row. Inside
Swin-Unet maps are (N, H, W, C), because every layer there works on the channels.
"""

import math

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

ENCODERS = ("resnet50", "unet")


def to_tokens(x: Tensor) -> Tensor:
    """Turn a map (N, C, H, W) into tokens (N, H * W, C). Derived in chapter 18."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn tokens (N, height * width, C) into a map. Derived in chapter 18."""
    return tokens.transpose(1, 2).unflatten(2, (height, width))


class SelfAttention(nn.Module):
    """Each token asks all tokens, and takes the mean of what they say.

    Shapes: tokens (..., n, dim) to tokens (..., n, dim).

    Args:
        dim: channels of a token.
        heads: number of attentions side by side, each on ``dim / heads`` channels.
        bias: whether queries, keys and values have a bias.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.

    Source: Vaswani et al. 2017 (arXiv 1706.03762). Derived in chapter 18.
    """

    def __init__(self, dim: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        q, k, v = self.queries_keys_values(x)
        weights = self.weights(q, k, allowed)
        return self.out((weights @ v).transpose(-3, -2).flatten(-2))

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return three tensors (..., heads, n, dim / heads)."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = (part.transpose(-3, -2) for part in parts.unbind(-3))
        return q, k, v

    def weights(self, q: Tensor, k: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Return how much each query takes from each key, (..., heads, n, n).

        Rows sum to one. ``allowed`` is True where a query may look at a key.
        """
        scores = self.scores(q, k)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -math.inf)
        return scores.softmax(dim=-1)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Return how well each query fits each key, (..., heads, n, n)."""
        return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])

    def looks_at(self, x: Tensor, query: int) -> Tensor:
        """Return the weights of one token's query, (..., heads, n), for a figure."""
        q, k, _ = self.queries_keys_values(x)
        return self.weights(q, k)[..., query, :]


def mlp(dim: int, hidden: int) -> nn.Sequential:
    """Return two linear layers with a GELU between, the same for every token.

    Derived in chapter 18.
    """
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class TransformerBlock(nn.Module):
    """Attention between tokens, then an MLP on each; both add to what comes in.

    Shapes: tokens (N, n, dim) to tokens (N, n, dim).

    Args:
        dim: channels of a token.
        heads: number of attention heads.
        mlp_dim: channels between the two layers of the MLP.
        bias: whether queries, keys and values have a bias.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.

    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), which normalise before each
    part. Derived in chapter 18.
    """

    def __init__(self, dim: int, heads: int, mlp_dim: int, bias: bool = True) -> None:
        super().__init__()
        check_at_least("mlp_dim", mlp_dim, 1)
        self.norm1 = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads, bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp(dim, mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Turn each patch into a token, and add where it stands.

    The position embeddings belong to a grid of ``grid`` x ``grid`` patches. For an
    image with another grid they are interpolated.

    Shapes: images (N, n_channels, H, W) to tokens (N, n, dim) with
    n = (H / patch) * (W / patch).

    Args:
        n_channels: channels of the images or maps.
        dim: channels of a token.
        patch: side of a patch, in pixels.
        grid: patches a side, for which positions are learned.

    Raises:
        ValueError: if one of them is below one.

    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929). Derived in chapter 18.
    """

    def __init__(self, n_channels: int, dim: int, patch: int, grid: int) -> None:
        super().__init__()
        check_at_least("patch", patch, 1)
        check_at_least("grid", grid, 1)
        self.project = nn.Conv2d(n_channels, dim, kernel_size=patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(1, dim, grid, grid))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        return to_tokens(x + self.positions(*x.shape[-2:]))

    def positions(self, height: int, width: int) -> Tensor:
        """Return the position embeddings of a grid, (1, dim, height, width)."""
        if self.position.shape[-2:] == (height, width):
            return self.position
        return F.interpolate(self.position, (height, width), mode="bilinear")


# TransUNet


class StdConv(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1, whatever was learned.

    Source: Qiao et al. 2019 (arXiv 1903.10520).
    """

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(
            self.weight, dim=(1, 2, 3), keepdim=True, correction=0
        )
        weight = (self.weight - mean) / (variance + 1e-5).sqrt()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Bottleneck(nn.Module):
    """Narrow, look around, widen, and add to what came in.

    Shapes: (N, in_channels, H, W) to (N, 4 * width, H / stride, W / stride).

    Source: He et al. 2016 (arXiv 1512.03385), with group norm and standardised
    kernels as in Kolesnikov et al. 2020 (arXiv 1912.11370).
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            StdConv(in_channels, width, 1, bias=False),
            nn.GroupNorm(32, width, eps=1e-6),
            nn.ReLU(inplace=True),
            StdConv(width, width, 3, stride, padding=1, bias=False),
            nn.GroupNorm(32, width, eps=1e-6),
            nn.ReLU(inplace=True),
            StdConv(width, out, 1, bias=False),
            nn.GroupNorm(32, out, eps=1e-6),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or in_channels != out:
            # One group a channel: what instance norm does, with learned scales.
            self.shortcut = nn.Sequential(
                StdConv(in_channels, out, 1, stride, bias=False),
                nn.GroupNorm(out, out),
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.body(x))


def resnet_stages(n_channels: int, base: int) -> nn.ModuleList:
    """Return a ResNet-50 without its last stage: maps at 1/2, 1/4, 1/8 and 1/16.

    Their channels are base, 4 * base, 8 * base and 16 * base.
    """
    root = nn.Sequential(
        StdConv(n_channels, base, 7, stride=2, padding=3, bias=False),
        nn.GroupNorm(32, base, eps=1e-6),
        nn.ReLU(inplace=True),
    )
    stages, channels = [root], base
    # The fourth stage of ResNet-50 has moved into the third: 6 + 3 blocks.
    for level, n_blocks in enumerate([3, 4, 9]):
        blocks = [nn.MaxPool2d(3, stride=2, padding=1)] if level == 0 else []
        for i in range(n_blocks):
            stride = 2 if i == 0 and level > 0 else 1
            blocks.append(Bottleneck(channels, base * 2**level, stride))
            channels = 4 * base * 2**level
        stages.append(nn.Sequential(*blocks))
    return nn.ModuleList(stages)


def unet_stages(n_channels: int, base: int, depth: int) -> nn.ModuleList:
    """Return the encoder of our U-Net: maps at 1, 1/2, ..., 1/2^depth."""
    stages = [DoubleConv(n_channels, base, padding=1)]
    for level in range(depth):
        stages.append(Down(base * 2**level, base * 2 ** (level + 1), padding=1))
    return nn.ModuleList(stages)


class BilinearUp(nn.Module):
    """Double a map by interpolation, join the skip if there is one, convolve twice.

    Shapes: ``below`` (N, in_channels, h, w), ``skip`` (N, skip_channels, 2h, 2w) or
    None, to (N, out_channels, 2h, 2w).
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.conv = DoubleConv(in_channels + skip_channels, out_channels, padding=1)

    def forward(self, below: Tensor, skip: Tensor | None = None) -> Tensor:
        x = self.up(below)
        return self.conv(x if skip is None else torch.cat([skip, x], dim=1))


class TransUNet(SameSize):
    """A convolutional encoder, a transformer on its deepest map, a U-Net's decoder.

    The defaults are the published R50-ViT-B/16 for images of 224 x 224. With 3
    channels and 9 classes it has 105,278,009 parameters, 928 more than the public
    code, because our DoubleConv keeps the biases that its batch norm cancels. Two more
    differences have no parameters: the map is doubled with ``align_corners=False``,
    and the pooling after the first convolution is padded on both sides. Dropout (.1
    in the public code) is left out. ``encoder="unet"`` is small enough for a CPU.

    Shapes: images (N, n_channels, H, W) of any size to logits (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: number of classes.
        base_channels: channels of the first level; a multiple of 32 for the ResNet.
        depth: number of times the map is halved; 4 for the ResNet.
        encoder: ``"resnet50"`` as published, or ``"unet"`` for the one of our U-Net.
        embed_dim: channels of a token.
        layers: number of transformer blocks.
        heads: number of attention heads.
        mlp_dim: channels inside the MLP; ``4 * embed_dim`` if not given.
        image_size: side in pixels for which positions are learned; others interpolate.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Chen et al. 2021 (arXiv 2102.04306). Derived in chapter 18.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        encoder: str = "resnet50",
        embed_dim: int = 768,
        layers: int = 12,
        heads: int = 12,
        mlp_dim: int | None = None,
        image_size: int = 224,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 1)
        check_at_least("layers", layers, 1)
        check_at_least("image_size", image_size, 1)
        check_choice("encoder", encoder, ENCODERS)
        base = base_channels
        if encoder == "resnet50":
            check_resnet(base, depth)
            self.encoder = resnet_stages(n_channels, base)
            widths = [base, 4 * base, 8 * base, 16 * base]
            # Nothing crosses over at full size: the first map is half as large.
            steps = [(8, 8, 4), (4, 4, 2), (2, 1, 1), (1, 0, 1 / 4)]
            steps = [tuple(int(base * share) for share in step) for step in steps]
        else:
            self.encoder = unet_stages(n_channels, base, depth)
            widths = [base * 2**level for level in range(depth + 1)]
            out = [*widths[: depth - 1][::-1], base]
            steps = list(zip(widths[-2::-1], widths[-2::-1], out, strict=True))
        grid = -(-image_size // 2**depth)
        self.embedding = PatchEmbedding(widths[-1], embed_dim, 1, grid)
        mlp_dim = 4 * embed_dim if mlp_dim is None else mlp_dim
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dim, heads, mlp_dim) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.back = nn.Sequential(
            nn.Conv2d(embed_dim, steps[0][0], 3, padding=1, bias=False),
            nn.BatchNorm2d(steps[0][0]),
            nn.ReLU(inplace=True),
        )
        self.ups = nn.ModuleList(BilinearUp(*step) for step in steps)
        # The public code ends the ResNet's decoder with a 3x3 convolution.
        self.outc = OutConv(steps[-1][-1], n_classes)
        if encoder == "resnet50":
            self.outc = nn.Conv2d(steps[-1][-1], n_classes, 3, padding=1)

    def logits(self, x: Tensor) -> Tensor:
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        height, width = skips.pop().shape[-2:]
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        x = self.back(to_map(self.norm(x), height, width))
        for up in self.ups:
            x = up(x, skips.pop() if skips else None)
        return self.outc(x)


# UNETR


class ResBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to what came in.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H, W).

    Source: the block of MONAI's UNETR: instance norm, no biases. Hatamizadeh et al.
    2021 (arXiv 2103.10504).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(out_channels),
            nn.LeakyReLU(0.01),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(out_channels),
        )
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.InstanceNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.shortcut(x) + self.body(x), 0.01)


def double(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution that doubles a map, without bias."""
    return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)


class ResUp(nn.Module):
    """Double the map from below, join it with the skip, apply a ResBlock.

    Shapes: ``below`` (N, in_channels, h, w) and ``skip`` (N, out_channels, 2h, 2w) to
    (N, out_channels, 2h, 2w).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = double(in_channels, out_channels)
        self.conv = ResBlock(2 * out_channels, out_channels)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([self.up(below), skip], dim=1))


class UNETR(SameSize):
    """A transformer as the encoder; its layers, enlarged, are the skips.

    The patches are 2^depth pixels wide, and the tokens never change size. The tokens
    of ``depth - 1`` layers on the way are turned into maps and doubled until they fit
    the decoder's levels; the image itself is the skip of the last.

    The paper names the layers 3, 6 and 9 of 12; MONAI's code counts from zero, so it
    takes what the 4th, 7th and 10th give, and so do we. With MONAI's settings ours has
    2 * layers * embed_dim fewer parameters (4,608 of 6,480,113), because each of
    MONAI's blocks holds a layer norm for cross-attention that it never uses.

    Shapes: images (N, n_channels, H, W) of any size to logits (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: number of classes.
        base_channels: channels of the decoder's last level.
        depth: levels of the decoder; a patch is 2^depth pixels wide.
        embed_dim: channels of a token.
        layers: number of transformer blocks; at least ``depth``.
        heads: number of attention heads.
        mlp_dim: channels inside the MLP; ``4 * embed_dim`` if not given.
        image_size: side in pixels for which positions are learned; others interpolate.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Hatamizadeh et al. 2021 (arXiv 2103.10504), there in 3-D. Derived in
    chapter 18.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 16,
        depth: int = 4,
        embed_dim: int = 768,
        layers: int = 12,
        heads: int = 12,
        mlp_dim: int | None = None,
        image_size: int = 128,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 1)
        check_at_least("layers", layers, depth)
        check_at_least("image_size", image_size, 1)
        mlp_dim = 4 * embed_dim if mlp_dim is None else mlp_dim
        grid = -(-image_size // 2**depth)
        self.embedding = PatchEmbedding(n_channels, embed_dim, 2**depth, grid)
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dim, heads, mlp_dim, bias=False)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(embed_dim)
        # Which blocks' tokens cross over, to which level: the later, the deeper.
        self.taps = {layers * i // depth: i for i in range(1, depth)}
        self.inc = ResBlock(n_channels, base_channels)
        width = [base_channels * 2**level for level in range(depth)] + [embed_dim]
        self.skips = nn.ModuleList()
        for level in range(1, depth):
            steps = [double(embed_dim, width[level])]
            for _ in range(depth - 1 - level):
                steps += [double(width[level], width[level])]
                steps += [ResBlock(width[level], width[level])]
            self.skips.append(nn.Sequential(*steps))
        self.ups = nn.ModuleList(
            ResUp(width[level + 1], width[level]) for level in reversed(range(depth))
        )
        self.outc = OutConv(base_channels, n_classes)

    def logits(self, x: Tensor) -> Tensor:
        height, width = (side // 2**self.depth for side in x.shape[-2:])
        skips = [self.inc(x)]
        tokens = self.embedding(x)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if i in self.taps:
                skip = self.skips[self.taps[i] - 1]
                skips.append(skip(to_map(tokens, height, width)))
        x = to_map(self.norm(tokens), height, width)
        for up in self.ups:
            x = up(x, skips.pop())
        return self.outc(x)


# Swin-Unet: from here on a map is (N, H, W, C)


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut a map (N, H, W, C) into windows (N, number, window * window, C).

    Derived in chapter 18.
    """
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """Put windows back into a map (N, height, width, C). Derived in chapter 18."""
    x = x.unflatten(1, (height // window, width // window))
    x = x.unflatten(3, (window, window)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)


class WindowAttention(SelfAttention):
    """Self-attention inside windows, which knows how two tokens lie to each other.

    To the score of a query and a key it adds a learned number that depends on how many
    rows and columns lie between them, one number a head: the relative position bias.

    Shapes: windows (..., window * window, dim) to the same.

    Args:
        dim: channels of a token.
        heads: number of attention heads.
        window: side of a window, in tokens.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``, or ``window`` is below one.

    Source: Liu et al. 2021 (arXiv 2103.14030). Derived in chapter 18.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__(dim, heads)
        check_at_least("window", window, 1)
        self.window = window
        span = 2 * window - 1  # rows, or columns, apart: from 1 - window to window - 1
        self.bias = nn.Parameter(torch.zeros(span * span, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        place = self.apart(q.device)
        bias = self.bias[place.flatten()].unflatten(0, place.shape)
        return super().scores(q, k) + bias.permute(2, 0, 1)

    def apart(self, device: torch.device) -> Tensor:
        """Number how each query lies to each key, (window^2, window^2)."""
        at = torch.arange(self.window, device=device)
        steps = at[:, None] - at[None, :] + self.window - 1
        n, span = self.window, 2 * self.window - 1
        rows, columns = steps[:, None, :, None], steps[None, :, None, :]
        return (rows * span + columns).reshape(n * n, n * n)


def neighbours(
    height: int, width: int, window: int, shift: tuple[int, int], device: torch.device
) -> Tensor:
    """Say which tokens of a window may see each other, (windows, 1, n, n) booleans.

    The map has been extended to whole windows and rolled by ``shift``. Two tokens may
    see each other if they lay side by side before, and both are real or both padding.
    Derived in chapter 18.
    """
    down, right = shift
    label = torch.zeros(height, width, dtype=torch.long, device=device)
    label[:down] += 1  # rows that the roll takes from the top to the bottom
    label[:, :right] += 2
    label = F.pad(label, (0, -width % window, 0, -height % window), value=4)
    label = label.roll((-down, -right), (0, 1))
    label = to_windows(label[None, :, :, None], window)[0]
    return (label == label.transpose(1, 2))[:, None]


class SwinBlock(nn.Module):
    """A transformer block whose attention stays inside windows, which may be shifted.

    A grid that the window does not divide is padded inside, and the padding is masked:
    it changes no real token. Where the grid is no larger than a window there is
    nothing to shift.

    Shapes: (N, H, W, dim) to (N, H, W, dim).

    Args:
        dim: channels of a token.
        heads: number of attention heads.
        window: side of a window, in tokens.
        shift: how far the windows are moved, in tokens; below ``window``.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``, or ``shift`` is not below
            ``window``.

    Source: Liu et al. 2021 (arXiv 2103.14030). Derived in chapter 18.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int = 0) -> None:
        super().__init__()
        check_shift(shift, window)
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        """Let the tokens of each window attend to each other."""
        height, width = x.shape[1:3]
        down, right = (self.shift if n > self.window else 0 for n in (height, width))
        x = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        x = x.roll((-down, -right), (1, 2))
        allowed = None
        if down or right or x.shape[1:3] != (height, width):
            allowed = neighbours(height, width, self.window, (down, right), x.device)
        windows = self.attention(to_windows(x, self.window), allowed)
        x = from_windows(windows, self.window, *x.shape[1:3])
        return x.roll((down, right), (1, 2))[:, :height, :width]


class PatchMerging(nn.Module):
    """Join four neighbouring tokens into one of twice the channels.

    Shapes: (N, H, W, dim) to (N, H / 2, W / 2, 2 * dim); H and W even.

    Source: Liu et al. 2021 (arXiv 2103.14030). Derived in chapter 18.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduce = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1] // 2, x.shape[2] // 2
        x = to_windows(x, 2).flatten(2).unflatten(1, (height, width))
        return self.reduce(self.norm(x))


class PatchExpand(nn.Module):
    """Split each token into ``factor`` x ``factor`` tokens, its parts by a matrix.

    Shapes: (N, H, W, dim) to (N, factor * H, factor * W, out_dim).

    Source: Cao et al. 2021 (arXiv 2105.05537). Derived in chapter 18.
    """

    def __init__(self, dim: int, out_dim: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.split = nn.Linear(dim, factor * factor * out_dim, bias=False)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        factor, (height, width) = self.factor, x.shape[1:3]
        x = self.split(x).unflatten(3, (factor * factor, -1)).flatten(1, 2)
        return self.norm(from_windows(x, factor, factor * height, factor * width))


class SwinUNet(SameSize):
    """A U-Net without convolutions: window attention on the way down and up.

    The defaults are the published tiny Swin-Unet. With 3 channels and 9 classes it has
    27,168,909 parameters, 9 more than the public code, because our OutConv has a bias.
    Stochastic depth (.1 to .2 in the public code) is left out.

    Shapes: images (N, n_channels, H, W) of any size to logits (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: number of classes.
        embed_dim: channels of a token of the first stage; twice as many in each next.
        patch: side of a patch in pixels; a power of two, at least 2.
        stages: number of stages of the encoder; the grid is halved between them.
        layers: blocks a stage; every second one has shifted windows.
        heads: attention heads of the first stage; twice as many in each next.
        window: side of a window, in tokens.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Source: Cao et al. 2021 (arXiv 2105.05537). Derived in chapter 18.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        embed_dim: int = 96,
        patch: int = 4,
        stages: int = 4,
        layers: int = 2,
        heads: int = 3,
        window: int = 7,
    ) -> None:
        check_patch(patch)
        check_at_least("stages", stages, 2)
        check_at_least("layers", layers, 1)
        super().__init__(n_channels, n_classes, patch.bit_length() + stages - 2)

        def stage(level: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    SwinBlock(
                        embed_dim * 2**level,
                        heads * 2**level,
                        window,
                        shift=window // 2 if i % 2 else 0,
                    )
                    for i in range(layers)
                )
            )

        width = [embed_dim * 2**level for level in range(stages)]
        upward = list(reversed(range(stages - 1)))
        self.embedding = nn.Conv2d(n_channels, embed_dim, patch, stride=patch)
        self.embedding_norm = nn.LayerNorm(embed_dim)
        self.encoder = nn.ModuleList(stage(level) for level in range(stages))
        self.merges = nn.ModuleList(PatchMerging(dim) for dim in width[:-1])
        self.norm = nn.LayerNorm(width[-1])
        self.expands = nn.ModuleList(
            PatchExpand(width[level + 1], width[level]) for level in upward
        )
        self.joins = nn.ModuleList(
            nn.Linear(2 * width[level], width[level]) for level in upward
        )
        self.decoder = nn.ModuleList(stage(level) for level in upward)
        self.norm_up = nn.LayerNorm(embed_dim)
        self.full_size = PatchExpand(embed_dim, embed_dim, patch)
        self.outc = OutConv(embed_dim, n_classes)

    def logits(self, x: Tensor) -> Tensor:
        x = self.embedding_norm(self.embedding(x).permute(0, 2, 3, 1))
        skips = []
        for stage, merge in zip(self.encoder, self.merges, strict=False):
            x = stage(x)
            skips.append(x)
            x = merge(x)
        x = self.norm(self.encoder[-1](x))
        for expand, join, stage in zip(
            self.expands, self.joins, self.decoder, strict=True
        ):
            x = stage(join(torch.cat([expand(x), skips.pop()], dim=3)))
        x = self.full_size(self.norm_up(x))
        return self.outc(x.permute(0, 3, 1, 2))


# The checks at the door.


def check_heads(dim: int, heads: int) -> None:
    """Raise ValueError if ``heads`` does not divide the channels of a token."""
    check_at_least("embed_dim", dim, 1)
    check_at_least("heads", heads, 1)
    if dim % heads:
        raise ValueError(
            f"heads must divide the channels of a token, got {heads} heads for {dim} "
            f"channels. Use {-(-dim // heads) * heads} channels."
        )


def check_shift(shift: int, window: int) -> None:
    """Raise ValueError if the windows are moved by a window or more."""
    check_at_least("window", window, 1)
    check_at_least("shift", shift, 0)
    if shift >= window:
        raise ValueError(
            f"shift must be below the window of {window}, got {shift}. "
            f"Half a window, {window // 2}, is what Swin uses."
        )


def check_patch(patch: int) -> None:
    """Raise ValueError if ``patch`` is not a power of two, at least 2."""
    check_at_least("patch", patch, 2)
    if patch & (patch - 1):
        raise ValueError(
            f"patch must be a power of two, got {patch}. "
            f"Use {2 ** (patch.bit_length() - 1)} or {2 ** patch.bit_length()}."
        )


def check_resnet(base_channels: int, depth: int) -> None:
    """Raise ValueError for widths that groups of 32 do not divide, or another depth."""
    if base_channels % 32:
        raise ValueError(
            "encoder='resnet50' normalises 32 groups of channels: base_channels must "
            f"be a multiple of 32, got {base_channels}. Use "
            f"{-(-base_channels // 32) * 32}, or encoder='unet'."
        )
    if depth != 4:
        raise ValueError(
            "encoder='resnet50' halves the map 4 times; depth must be 4, got "
            f"{depth}. Use encoder='unet' for another depth."
        )
