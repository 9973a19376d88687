"""Fully convolutional networks: class scores of several levels, added.

The encoder is the one of our U-Net, so that the two can be compared, or VGG16, so
that it is the network of the paper. The head is the same in both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_edu.blocks import (
    DoubleConv,
    Down,
    check_at_least,
    check_choice,
    check_images,
)


def bilinear_kernel(size: int) -> Tensor:
    """Return the size x size kernel that makes a transposed convolution bilinear.

    Its weight falls linearly from the centre to zero, in rows and in columns.
    Enlarging s times takes ``size=2 * s``.

    Source: Long et al. 2015, section 3.3. Derived in chapter 2.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    ramp = 1 - (torch.arange(size) - centre).abs() / factor
    return ramp[:, None] * ramp[None, :]


def bilinear_up(n_classes: int, factor: int, fixed: bool) -> nn.ConvTranspose2d:
    """Return a layer that enlarges ``n_classes`` maps bilinearly at first.

    Shapes: (N, n_classes, H, W) to (N, n_classes, factor * H, factor * W).

    Args:
        n_classes: number of score maps; each starts out enlarged on its own.
        factor: how many times to enlarge; even.
        fixed: True keeps the kernel, False lets training change it.

    Source: Long et al. 2015, section 3.3. Derived in chapter 2.
    """
    up = nn.ConvTranspose2d(
        n_classes, n_classes, 2 * factor, factor, padding=factor // 2, bias=False
    )
    with torch.no_grad():
        up.weight.zero_()
        up.weight[range(n_classes), range(n_classes)] = bilinear_kernel(2 * factor)
    up.weight.requires_grad_(not fixed)
    return up


class ScoreFusion(nn.Module):
    """Score each level with a 1x1 convolution, enlarge, add, enlarge to the image.

    Shapes: maps of the deepest level first, (N, channels[i], h * 2^i, w * 2^i), to
    logits (N, n_classes, h * 2^i * final_factor, w * 2^i * final_factor) with the
    last i.

    Args:
        channels: channels of each map, the deepest first.
        n_classes: number of classes.
        final_factor: how many times the sum of all scores is enlarged at the end.

    Source: Long et al. 2015, section 4.2: score layers start at zero, intermediate
    enlargements start bilinear and are learned, the final one stays bilinear. No
    convolution follows a sum. Derived in chapter 2.
    """

    def __init__(self, channels: list[int], n_classes: int, final_factor: int) -> None:
        super().__init__()
        self.scores = nn.ModuleList(nn.Conv2d(c, n_classes, 1) for c in channels)
        for score in self.scores:
            nn.init.zeros_(score.weight)
            nn.init.zeros_(score.bias)
        self.ups = nn.ModuleList(
            bilinear_up(n_classes, 2, fixed=False) for _ in channels[1:]
        )
        self.final_up = nn.Identity()
        if final_factor > 1:
            self.final_up = bilinear_up(n_classes, final_factor, fixed=True)

    def forward(self, maps: list[Tensor]) -> Tensor:
        total = self.scores[0](maps[0])
        for score, up, x in zip(self.scores[1:], self.ups, maps[1:], strict=True):
            total = up(total) + score(x)
        return self.final_up(total)


class FCN(nn.Module):
    """A fully convolutional network over the encoder of our U-Net.

    With ``depth=5``, strides 32, 16 and 8 are the paper's FCN-32s, 16s and 8s. Any
    power of two from 1 to 2^depth works; stride 1 adds the scores of all levels.

    Shapes: images (N, n_channels, H, W) of any size to logits (N, n_classes, H, W).
    A side that 2^depth does not divide is extended on the right and at the bottom by
    repeating its last pixel, and the logits are cut back.

    Args:
        n_channels: channels of the images.
        n_classes: number of classes.
        stride: pixels between two neighbours in the finest score map that is added.
        base_channels: channels of the first level of the encoder.
        depth: number of times the encoder halves the map.
        norm: whether each convolution of the encoder is followed by batch norm.

    Raises:
        ValueError: if ``stride`` is not a power of two up to 2^depth, or the images
            have the wrong shape.
        TypeError: if the images are not floating point.

    Source: Long et al. 2015 (arXiv 1411.4038). Derived in chapter 2.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        stride: int = 8,
        *,
        base_channels: int = 64,
        depth: int = 5,
        norm: bool = True,
    ) -> None:
        super().__init__()
        check_at_least("n_channels", n_channels, 1)
        check_at_least("n_classes", n_classes, 1)
        check_at_least("base_channels", base_channels, 1)
        check_at_least("depth", depth, 1)
        check_choice("stride", stride, tuple(2**level for level in range(depth + 1)))
        self.n_channels, self.depth, self.stride = n_channels, depth, stride
        width = [base_channels * 2**level for level in range(depth + 1)]
        self.inc = DoubleConv(n_channels, width[0], padding=1, norm=norm)
        self.downs = nn.ModuleList(
            Down(width[level], width[level + 1], padding=1, norm=norm)
            for level in range(depth)
        )
        finest = stride.bit_length() - 1
        self.head = ScoreFusion(width[finest:][::-1], n_classes, stride)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.n_channels)
        height, width = x.shape[-2:]
        maps = [self.inc(extend(x, 2**self.depth))]
        for down in self.downs:
            maps.append(down(maps[-1]))
        finest = self.stride.bit_length() - 1
        return self.head(maps[finest:][::-1])[..., :height, :width]


def extend(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until ``multiple`` divides both sides."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


class VGG16FCN(nn.Module):
    """The paper's network: VGG16 with its dense layers turned into convolutions.

    Shapes: images (N, 3, H, W) of any size to logits (N, n_classes, H, W).

    With 21 classes it has 136,152,917 parameters at stride 32, 134,815,994 at 16 and
    134,489,759 at 8. The counts are those of the public code; the borders are not:
    the original pads the first convolution by 100 pixels and cuts the result, here
    each convolution keeps its size and the image is extended to a multiple of 32.

    Args:
        n_classes: number of classes.
        stride: 32, 16 or 8.
        dropout: probability of dropout after each of the two converted layers.

    Raises:
        ValueError: if ``stride`` is not 32, 16 or 8, or the images have the wrong
            shape.
        TypeError: if the images are not floating point.

    Source: Long et al. 2015 (arXiv 1411.4038); Simonyan and Zisserman 2015 for
    VGG16. Derived in chapter 2.
    """

    def __init__(self, n_classes: int = 21, stride: int = 8, dropout: float = 0.5):
        super().__init__()
        check_at_least("n_classes", n_classes, 1)
        check_choice("stride", stride, (32, 16, 8))
        self.stride = stride
        self.stages = nn.ModuleList()
        n_in = 3
        for n_convs, n_out in [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]:
            layers = []
            for _ in range(n_convs):
                layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(inplace=True)]
                n_in = n_out
            self.stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        # fc6 saw 7x7 cells of 512 channels: as a convolution, a 7x7 kernel.
        self.dense = nn.Sequential(
            nn.Conv2d(512, 4096, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(4096, 4096, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )
        channels = {32: [4096], 16: [4096, 512], 8: [4096, 512, 256]}[stride]
        self.head = ScoreFusion(channels, n_classes, stride)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, 3)
        height, width = x.shape[-2:]
        x = extend(x, 32)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        maps[-1] = self.dense(maps[-1])
        finest = self.stride.bit_length() - 2
        return self.head(maps[finest:][::-1])[..., :height, :width]
