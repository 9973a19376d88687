"""More than one picture: neighbouring slices, several modalities, several scales.

Plain U-Net gets one image at one scale. The networks here get more of the same scene:
the slices above and below, the same place under another modality, the same image
smaller.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_edu.blocks import DoubleConv, Down, OutConv, Up, check_at_least
from unet_edu.families.base import SameSize
from unet_edu.fcn import extend

Loss = Callable[[Tensor, Tensor], Tensor]


def stack_slices(volume: Tensor, k: int) -> Tensor:
    """Return for each slice of a volume itself and its neighbours, as channels.

    At the two ends the last slice is repeated. A 2-D network that gets the result as
    images is called 2.5-D.

    Shapes: (D, H, W) to (D, k, H, W); channel k // 2 is the slice itself.

    Args:
        volume: D slices in the order in which they lie.
        k: number of slices a picture gets; odd.

    Raises ValueError if the volume has another rank, or k is not odd.

    Derived in chapter 20.
    """
    check_volume(volume, k)
    around = torch.arange(-(k // 2), k // 2 + 1, device=volume.device)
    middle = torch.arange(len(volume), device=volume.device)
    return volume[(middle[:, None] + around).clamp(0, len(volume) - 1)]


class DoubleConv3D(nn.Module):
    """Two 3x3x3 convolutions, each followed by batch norm and ReLU.

    All are padded by one, so that slices, rows and columns stay as many as they are.

    Shapes: (N, in_channels, D, H, W) to (N, out_channels, D, H, W).

    Source: Cicek et al. 2016. Derived in chapter 20.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        layers = []
        for n_in, n_out in [(in_channels, mid_channels), (mid_channels, out_channels)]:
            layers.append(nn.Conv3d(n_in, n_out, kernel_size=3, padding=1))
            layers.append(nn.BatchNorm3d(n_out))
            layers.append(nn.ReLU(inplace=True))
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class UNet3D(SameSize):
    """U-Net with 3x3x3 convolutions, for stacks whose slices are thicker than pixels.

    It halves rows and columns and keeps all slices, since two slices of a stack are
    farther apart than two pixels (ISBI 2012: 50 nm and 4 nm). The paper halves all
    three. :meth:`forward` takes a stack and answers for its middle slice;
    :meth:`volume_logits` takes a volume of any number of slices and answers for all.

    Shapes: images (N, n_channels, H, W), of which n_channels / per_slice = D are slices
    in the order in which they lie, to the logits (N, n_classes, H, W) of slice D // 2.

    Args:
        n_channels: channels of a stack: slices times ``per_slice``. The weights do not
            depend on the number of slices.
        n_classes: channels of the logits.
        base_channels: channels of the first level; each level below has twice as many.
            Half of a level's channels stand between its two convolutions.
        depth: number of times rows and columns are halved.
        per_slice: channels of one slice. Those of channel 0 come first, slice after
            slice, then those of channel 1.

    Raises:
        ValueError: if ``per_slice`` does not divide ``n_channels``, and as
            :class:`~unet_edu.families.base.SameSize` does.

    With three channels a slice and three classes, the defaults have 17,699,267
    parameters, 1,370,688 fewer than the paper's 19,069,955: doubling two sides of three
    saves 4 (512^2 + 256^2 + 128^2), and the paper's count leaves out batch norm (4,672)
    and biases of the up-convolutions (896).

    Source: Cicek et al. 2016 (arXiv 1606.06650). Derived in chapter 20.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 3,
        per_slice: int = 1,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 2)
        check_per_slice(per_slice, n_channels)
        self.per_slice = per_slice
        # Channels grow before a map is halved, not after.
        width = [per_slice] + [base_channels * 2**i for i in range(depth + 1)]
        self.encoders = nn.ModuleList(
            DoubleConv3D(width[i], width[i + 1] // 2, width[i + 1])
            for i in range(depth + 1)
        )
        below = width[:1:-1]  # from the deepest level to the second
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(n, n, kernel_size=(1, 2, 2), stride=(1, 2, 2))
            for n in below
        )
        self.decoders = nn.ModuleList(
            DoubleConv3D(n + n // 2, n // 2, n // 2) for n in below
        )
        self.outc = nn.Conv3d(width[1], n_classes, kernel_size=1)

    def logits(self, x: Tensor) -> Tensor:
        scores = self.score_volume(x.unflatten(1, (self.per_slice, -1)))
        return scores[:, :, scores.shape[2] // 2]

    def score_volume(self, x: Tensor) -> Tensor:
        """Return (N, n_classes, D, H, W) for a volume whose H and W fit."""
        skips = []
        for encoder in self.encoders:
            x = encoder(F.max_pool3d(x, (1, 2, 2)) if skips else x)
            skips.append(x)
        skips.pop()
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(torch.cat([skips.pop(), up(x)], dim=1))
        return self.outc(x)

    def volume_logits(self, x: Tensor) -> Tensor:
        """Return the logits of every slice of whole volumes.

        Shapes: (N, per_slice, D, H, W), any D, to (N, n_classes, D, H, W).

        Raises ValueError for another rank or number of channels.
        """
        check_volumes(x, self.per_slice)
        flat = extend(x.flatten(1, 2), 2**self.depth)
        return self.cut(self.score_volume(flat.unflatten(1, x.shape[1:3])), x)


class LateFusionUNet(SameSize):
    """Each channel of the image has an encoder of its own; all meet in one decoder.

    At every level the maps of all paths are concatenated and a 1x1 convolution mixes
    them down to the width of one path; the results are the skips and the bottom of a
    plain decoder. With one channel this is a plain U-Net with a 1x1 convolution in each
    skip.

    Shapes: images (N, n_channels, H, W) to logits (N, n_classes, H, W).

    Args:
        n_channels: channels of the images, each a modality with its own path.
        n_classes: channels of the logits.
        base_channels: channels of the first level of *each* path; each level below has
            twice as many.
        depth: number of times the map is halved.

    Raises:
        ValueError: as :class:`~unet_edu.families.base.SameSize` does.

    No public reference has this exact shape; with one channel it has the parameters of
    ``UNet`` and those of its 1x1 convolutions.

    Source: the late fusion that Dolz et al. 2018 (arXiv 1810.07003) argue from. Derived
    in chapter 20.
    """

    dense = False

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 32,
        depth: int = 4,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 1)
        width = [base_channels * 2**level for level in range(depth + 1)]
        seen = n_channels if self.dense else 1
        self.incs = nn.ModuleList(
            DoubleConv(1, width[0], padding=1) for _ in range(n_channels)
        )
        # Level after level, and in each level path after path.
        self.downs = nn.ModuleList(
            Down(seen * width[level - 1], width[level], padding=1)
            for level in range(1, depth + 1)
            for _ in range(n_channels)
        )
        self.meets = nn.ModuleList(nn.Conv2d(n_channels * n, n, 1) for n in width)
        self.ups = nn.ModuleList(
            Up(width[level + 1], width[level], padding=1)
            for level in reversed(range(depth))
        )
        self.outc = OutConv(width[0], n_classes)

    def encode(self, x: Tensor) -> list[list[Tensor]]:
        """Return for each level, from the widest, the maps of all paths."""
        levels = [[inc(x[:, i : i + 1]) for i, inc in enumerate(self.incs)]]
        downs = iter(self.downs)
        for _ in range(self.depth):
            maps = levels[-1]
            if self.dense:
                maps = [torch.cat(maps, dim=1)] * len(maps)
            levels.append([next(downs)(m) for m in maps])
        return levels

    def logits(self, x: Tensor) -> Tensor:
        *skips, x = [
            meet(torch.cat(maps, dim=1))
            for meet, maps in zip(self.meets, self.encode(x), strict=True)
        ]
        for up in self.ups:
            x = up(x, skips.pop())
        return self.outc(x)


class DenseFusionUNet(LateFusionUNet):
    """Late fusion in which every level of every path sees the maps of all paths.

    So two modalities can be compared at any depth, and each still has kernels of its
    own. Written as one encoder: from the second level on, the first convolution of a
    level is an ordinary one over all paths, and the second is grouped by path.

    Shapes, Args and Raises: as for :class:`LateFusionUNet`.

    The paper's network also links each layer of a path to all layers before it, and
    has Inception-like blocks with dilated convolutions; ours keeps the idea that the
    chapter is about, the links between paths.

    Source: Dolz et al. 2018 (arXiv 1810.07003). Derived in chapter 20.
    """

    dense = True


def supervision_weights(n: int) -> list[float]:
    """Return a weight for each of ``n`` outputs of a decoder, the coarsest first.

    Each output weighs twice as much as the next coarser one, the coarsest nothing, and
    all together 1. A single output has all of it.

    Raises ValueError if ``n`` is below one.

    Source: Isensee et al. 2021 (nnU-Net). Derived in chapter 20.
    """
    check_at_least("n", n, 1)
    halved = [0.0] + [1 / 2**i for i in reversed(range(n - 1))]
    return [w / sum(halved) for w in halved] if n > 1 else [1.0]


class PyramidUNet(SameSize):
    """The image enters every level of the encoder; every level of the decoder answers.

    *Input pyramid:* the image is averaged over 2x2, 4x4, 8x8 pixels; at each level but
    the first and the deepest, a 3x3 convolution turns the small image into as many
    channels as the level has, and they are concatenated with what comes from above.
    *Deep supervision:* levels of the decoder have a 1x1 convolution to logits of their
    own, and :meth:`training_loss` asks all of them.

    Shapes: images (N, n_channels, H, W) to logits (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level; each level below has twice as many.
        depth: number of times the map is halved.

    Raises:
        ValueError: as :class:`~unet_edu.families.base.SameSize` does.

    The authors' code has attention gates in its skips (chapter 15 builds them), other
    widths at two levels, and compares its side outputs with small masks, all with the
    same weight. Ours has no gates, enlarges the side outputs, and weighs them as
    nnU-Net does, whose coarsest output weighs nothing: we do not build it. The authors
    train the side outputs with :func:`unet_edu.losses.focal_tversky`, the last one with
    the same loss at gamma = 1.

    Source: Abraham and Khan 2018 (arXiv 1810.07842); Isensee et al. 2021 for the
    weights. Derived in chapter 20.
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
        check_at_least("base_channels", base_channels, 1)
        width = [base_channels * 2**level for level in range(depth + 1)]
        self.inc = DoubleConv(n_channels, width[0], padding=1)
        self.scales = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n_channels, n, 3, padding=1), nn.ReLU(inplace=True))
            for n in width[1:-1]
        )
        self.convs = nn.ModuleList(
            DoubleConv(width[level - 1] + width[level], width[level], padding=1)
            for level in range(1, depth)
        )
        self.bottom = Down(width[-2], width[-1], padding=1)
        self.ups = nn.ModuleList(
            Up(width[level + 1], width[level], padding=1)
            for level in reversed(range(depth))
        )
        self.weights = [w for w in supervision_weights(depth) if w > 0]
        self.heads = nn.ModuleList(
            OutConv(width[level], n_classes)
            for level in reversed(range(len(self.weights)))
        )

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the maps of all levels, from the widest to the deepest."""
        maps, image = [self.inc(x)], x
        for scale, conv in zip(self.scales, self.convs, strict=True):
            image = F.avg_pool2d(image, 2)
            maps.append(
                conv(torch.cat([scale(image), F.max_pool2d(maps[-1], 2)], dim=1))
            )
        return [*maps, self.bottom(maps[-1])]

    def decode(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the maps of the decoder that have an output, from the coarsest."""
        *skips, x = maps
        decoded = []
        for up in self.ups:
            x = up(x, skips.pop())
            decoded.append(x)
        return decoded[-len(self.heads) :]

    def logits(self, x: Tensor) -> Tensor:
        return self.heads[-1](self.decode(self.encode(x))[-1])

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """Return the logits of every output, enlarged, the coarsest first.

        Shapes: images (N, n_channels, H, W) to a list of (N, n_classes, H, W). The last
        are those of :meth:`forward`.
        """
        image = self.extend(x)
        maps = self.decode(self.encode(image))
        scores = [head(m) for head, m in zip(self.heads, maps, strict=True)]
        return [self.cut(enlarge_to(score, image.shape[-2:]), x) for score in scores]

    def training_loss(self, images: Tensor, mask: Tensor, loss: Loss) -> Tensor:
        """Return the weighted mean of ``loss`` over all outputs; a scalar."""
        pairs = zip(self.weights, self.all_logits(images), strict=True)
        return sum(weight * loss(logits, mask) for weight, logits in pairs)


def enlarge_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps bilinearly to ``size`` rows and columns; leave them if they fit."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


# The checks at the door. They stand apart from the networks, so that a network reads
# as the chapter that derives it.


def check_volume(volume: Tensor, k: int) -> None:
    """Raise ValueError if ``volume`` is not (D, H, W), or ``k`` is not odd."""
    check_at_least("k", k, 1)
    if k % 2 == 0:
        raise ValueError(
            f"k must be odd, so that a slice has as many neighbours on each side; got "
            f"{k}. Use {k + 1}."
        )
    if volume.dim() != 3 or len(volume) == 0:
        raise ValueError(
            f"Expected a volume (D, H, W), got shape {tuple(volume.shape)}. Of slices "
            "(D, 1, H, W), pass volume[:, 0]."
        )


def check_volumes(x: Tensor, n_channels: int) -> None:
    """Raise ValueError if ``x`` is not a batch (N, n_channels, D, H, W)."""
    if x.dim() != 5 or x.shape[1] != n_channels:
        raise ValueError(
            f"Expected volumes (N, {n_channels}, D, H, W), got shape "
            f"{tuple(x.shape)}. For one volume (D, H, W), pass x[None, None]."
        )


def check_per_slice(per_slice: int, n_channels: int) -> None:
    """Raise ValueError if ``n_channels`` is not a whole number of slices."""
    check_at_least("per_slice", per_slice, 1)
    if n_channels % per_slice:
        raise ValueError(
            f"n_channels must be a multiple of per_slice={per_slice}, one for each "
            f"slice; got {n_channels}."
        )
