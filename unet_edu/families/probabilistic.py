"""Networks that answer with many masks: where raters disagree, one mask is no answer.

Each has a method ``samples(x, n)`` that returns the logits of ``n`` masks an image.
They differ in where the chance comes from: from the weights (:class:`DropoutUNet`),
from a normal distribution of the logits (:class:`StochasticSegmentationNetwork`), or
from a few numbers that say which of the possible masks it is
(:class:`ProbabilisticUNet`).
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_edu.blocks import check_at_least
from unet_edu.families.base import SameSize
from unet_edu.fcn import extend
from unet_edu.losses import cross_entropy, pixel_cross_entropy
from unet_edu.unet import UNet, check_probability

Loss = Callable[[Tensor, Tensor], Tensor]


class DropoutUNet(SameSize):
    """A U-Net that goes on dropping values when it is used: each pass, another mask.

    Dropout follows the deeper half of its blocks on the way down and on the way up. It
    has no parameters, so their number is that of a plain U-Net.

    Shapes: as for :class:`~unet_edu.families.base.SameSize`; :meth:`samples` gives
    (n, N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level.
        depth: number of times the map is halved.
        dropout: probability with which a value is set to zero.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.

    Source: Gal and Ghahramani 2016 (arXiv 1506.02142); where the dropout stands,
    Kendall et al. 2015 (arXiv 1511.02680). Derived in chapter 19.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_probability("dropout", dropout)
        self.dropout = dropout
        unet = UNet(
            n_channels, n_classes, base_channels=base_channels, depth=depth, padding=1
        )
        for name, block in unet.named_children():
            self.add_module(name, block)

    def dropped(self, x: Tensor, drop: bool) -> Tensor:
        """Return the logits, with or without dropout."""

        def block(name: str, level: int, *maps: Tensor) -> Tensor:
            out = self.get_submodule(name)(*maps)
            deep = level > self.depth / 2
            return F.dropout(out, self.dropout, training=drop and deep)

        skips = [self.inc(x)]
        for level in range(1, self.depth + 1):
            skips.append(block(f"down{level}", level, skips[-1]))
        x = skips.pop()
        for level in range(self.depth, 0, -1):
            x = block(f"up{self.depth + 1 - level}", level, x, skips.pop())
        return self.outc(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.dropped(x, drop=self.training)

    @torch.no_grad()
    def samples(self, x: Tensor, n: int) -> Tensor:
        """Return the logits of ``n`` passes with dropout, (n, N, n_classes, H, W).

        Batch norm uses its running statistics meanwhile, in training mode too.
        """
        check_at_least("n", n, 1)
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            passes = [self.dropped(self.extend(x), drop=True) for _ in range(n)]
        finally:
            for module, mode in modes.items():
                module.training = mode
        return self.cut(torch.stack(passes), x)


class LogitDistribution(NamedTuple):
    """A normal distribution of all logits of an image together, of low rank.

    The logits are ``mean`` plus a mix of a few maps, ``factor``, with random weights,
    plus noise of variance ``diagonal`` in each pixel by itself. So their covariance is
    factor factor^T + diagonal, and pixels that a map holds together move together.

    Shapes: ``mean`` (N, C, H, W), ``factor`` (N, rank, C, H, W), ``diagonal``
    (N, C, H, W), above 0.
    """

    mean: Tensor
    factor: Tensor
    diagonal: Tensor

    def draw(self, n: int) -> Tensor:
        """Return ``n`` draws of the logits, (n, N, C, H, W)."""
        mean, factor, diagonal = self
        weights = torch.randn(n, *factor.shape[:2], device=mean.device)
        # Not in bf16, which would round what tells one draw from another.
        with torch.autocast(mean.device.type, enabled=False):
            together = torch.einsum("snr,nrchw->snchw", weights, factor)
        alone = diagonal.sqrt() * torch.randn(n, *mean.shape, device=mean.device)
        return mean + together + alone


class StochasticSegmentationNetwork(SameSize):
    """A U-Net that gives a normal distribution of whole maps of logits.

    Its last layer has ``rank + 2`` channels where a plain U-Net has one: the mean, the
    variance of each pixel by itself, and the maps that move together. There is nothing
    else to it.

    The public code draws with PyTorch's ``LowRankMultivariateNormal``, which inverts a
    matrix, and falls back to independent pixels where that fails; drawing by hand
    inverts nothing. Its variance is the exponential of a channel and starts near 1;
    here it is the softplus, which cannot overflow, and starts near 0.007, so that the
    first draws are not drowned in noise.

    Shapes: as for :class:`~unet_edu.families.base.SameSize`, the logits being the mean;
    :meth:`samples` gives (n, N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level.
        depth: number of times the map is halved.
        rank: number of maps that the logits are mixed from.
        draws: masks drawn for each image in :meth:`training_loss`.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.

    Source: Monteiro et al. 2020 (arXiv 2006.06015), who put it on another network.
    Derived in chapter 19.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        rank: int = 10,
        draws: int = 20,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("rank", rank, 1)
        check_at_least("draws", draws, 1)
        self.rank, self.draws = rank, draws
        channels = (rank + 2) * n_classes
        self.unet = UNet(
            n_channels, channels, base_channels=base_channels, depth=depth, padding=1
        )
        nn.init.constant_(self.unet.outc.conv.bias[n_classes : 2 * n_classes], -5.0)

    def distribution(self, x: Tensor) -> LogitDistribution:
        """Return the distribution of the logits, in float32."""
        maps = self.cut(self.unet(self.extend(x)), x).float()
        maps = maps.unflatten(1, (self.rank + 2, self.n_classes))
        # A variance of zero has a square root of infinite slope.
        diagonal = F.softplus(maps[:, 1]) + 1e-5
        return LogitDistribution(maps[:, 0], maps[:, 2:], diagonal)

    def logits(self, x: Tensor) -> Tensor:
        return self.distribution(x).mean

    @torch.no_grad()
    def samples(self, x: Tensor, n: int) -> Tensor:
        """Return ``n`` draws of the logits, (n, N, n_classes, H, W)."""
        check_at_least("n", n, 1)
        return self.distribution(x).draw(n)

    def training_loss(self, images: Tensor, mask: Tensor, loss: Loss) -> Tensor:
        """Return minus the log-likelihood of whole masks, in nats a pixel.

        The probability of a mask is its mean probability over ``draws`` draws of the
        logits, and a draw's is the product over its pixels. The logarithm of the mean
        is divided by the number of pixels and averaged over images.

        ``loss`` is not used: it scores pixels, and a mean over draws must be taken of
        the probabilities of masks.
        """
        draws = self.distribution(images).draw(self.draws)
        masks = mask.expand(self.draws, *mask.shape)
        each = pixel_cross_entropy(draws.flatten(0, 1), masks.flatten(0, 1))
        log_p = -each.unflatten(0, (self.draws, -1)).sum((-2, -1))
        log_likelihood = log_p.logsumexp(0) - math.log(self.draws)
        return -log_likelihood.mean() / mask[0].numel()


def conv_block(in_channels: int, out_channels: int, norm: bool) -> nn.Sequential:
    """Return three 3x3 convolutions, each followed by ReLU, that keep the size."""
    layers = []
    for n_in in (in_channels, out_channels, out_channels):
        conv = nn.Conv2d(n_in, out_channels, kernel_size=3, padding=1)
        # Without batch norm, PyTorch's own start lets the maps fade layer by layer.
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        layers += [conv, *([nn.BatchNorm2d(out_channels)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers)


def widths(base_channels: int, depth: int) -> list[int]:
    """Return the channels of each level: doubled twice, then six times the first."""
    return [base_channels * min(2**level, 6) for level in range(depth + 1)]


class Encoder(nn.Module):
    """The way down: the maps of all levels, each the mean of 2x2 pixels of the last.

    Shapes: (N, in_channels, H, W) to a list of (N, width[i], H / 2^i, W / 2^i).
    """

    def __init__(self, in_channels: int, width: list[int], norm: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            conv_block(n_in, n_out, norm)
            for n_in, n_out in itertools.pairwise([in_channels, *width])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.blocks[0](x)]
        for block in self.blocks[1:]:
            maps.append(block(F.avg_pool2d(maps[-1], 2)))
        return maps


class FeatureUNet(nn.Module):
    """A U-Net without its last layer: features, from which others make a mask.

    Shapes: (N, in_channels, H, W) to (N, width[0], H, W).
    """

    def __init__(self, in_channels: int, width: list[int], norm: bool) -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, width, norm)
        self.ups = nn.ModuleList(
            conv_block(below + skip, skip, norm)
            for skip, below in itertools.pairwise(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        *skips, x = self.encoder(x)
        for up, skip in zip(reversed(self.ups), reversed(skips), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(torch.cat([skip, x], dim=1))
        return x


class Gaussian(NamedTuple):
    """A normal distribution of independent numbers: mean and log of the deviation.

    Shapes: both (N, latent_dim).
    """

    mean: Tensor
    log_std: Tensor

    def draw(self) -> Tensor:
        """Return one draw, through which a gradient reaches mean and deviation."""
        return self.mean + self.log_std.exp() * torch.randn_like(self.mean)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """Return how much ``q`` says that ``p`` does not, in nats: KL(q || p), (N,).

    Zero if the two are equal, and never negative.

    Source: Kullback and Leibler 1951. Derived in chapter 19.
    """
    shift = ((q.mean - p.mean) / p.log_std.exp()) ** 2
    spread = 2 * (q.log_std - p.log_std)
    return 0.5 * (shift + spread.exp() - 1 - spread).sum(dim=1)


class LatentNet(nn.Module):
    """Look at the whole input, and answer with a normal distribution of z.

    Shapes: (N, in_channels, H, W) to a :class:`Gaussian` of (N, latent_dim).
    """

    def __init__(
        self, in_channels: int, width: list[int], latent_dim: int, norm: bool
    ) -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, width, norm)
        self.head = nn.Conv2d(width[-1], 2 * latent_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Gaussian:
        deepest = self.encoder(x)[-1]
        seen = self.head(deepest.mean(dim=(2, 3), keepdim=True))
        return Gaussian(*seen.flatten(1).float().chunk(2, dim=1))


class Combine(nn.Module):
    """Lay z beside the features of every pixel; 1x1 convolutions make the logits.

    Shapes: features (N, channels, H, W) and z (N, latent_dim) to
    (N, n_classes, H, W).
    """

    def __init__(self, channels: int, latent_dim: int, n_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + latent_dim, channels, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(channels, n_classes, kernel_size=1),
        )

    def forward(self, features: Tensor, z: Tensor) -> Tensor:
        tiled = z[:, :, None, None].expand(-1, -1, *features.shape[2:])
        return self.layers(torch.cat([features, tiled], dim=1))


class ProbabilisticUNet(SameSize):
    """A U-Net with a few random numbers, z, that say which of the masks it is.

    The prior looks at the image and says which z are possible. The posterior, used in
    training alone, looks at the image and a rater's mask and says which z it was.

    With one class, ``base_channels=32, depth=3, latent_dim=2`` has the 4,996,233
    parameters of the public PyTorch code. That code, and the authors', enlarge with
    ``align_corners=True``. Of the mask, the posterior is shown one channel for each
    class but the first, which the others imply.

    Shapes: as for :class:`~unet_edu.families.base.SameSize`, the logits being those of
    the prior's mean; :meth:`samples` gives (n, N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        base_channels: channels of the first level; then twice, four and six times.
        depth: number of times the map is halved.
        latent_dim: how many numbers z has.
        beta: weight of the second term of :meth:`elbo`; 1 is a true bound.
        norm: whether each 3x3 convolution is followed by batch norm; the published
            network has none.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.

    Source: Kohl et al. 2018 (arXiv 1806.05034). Derived in chapter 19.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        *,
        base_channels: int = 32,
        depth: int = 6,
        latent_dim: int = 6,
        beta: float = 1.0,
        norm: bool = False,
    ) -> None:
        super().__init__(n_channels, n_classes, depth)
        check_at_least("base_channels", base_channels, 1)
        check_at_least("latent_dim", latent_dim, 1)
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta must be 0 or more, and finite; got {beta!r}.")
        self.beta = beta
        width = widths(base_channels, depth)
        n_mask = max(n_classes, 2) - 1
        self.unet = FeatureUNet(n_channels, width, norm)
        self.prior = LatentNet(n_channels, width, latent_dim, norm)
        self.posterior = LatentNet(n_channels + n_mask, width, latent_dim, norm)
        self.combine = Combine(width[0], latent_dim, n_classes)

    def logits(self, x: Tensor) -> Tensor:
        return self.combine(self.unet(x), self.prior(x).mean)

    @torch.no_grad()
    def samples(self, x: Tensor, n: int) -> Tensor:
        """Return the logits of ``n`` draws of z, (n, N, n_classes, H, W).

        The U-Net and the prior run once, whatever ``n`` is.
        """
        check_at_least("n", n, 1)
        images = self.extend(x)
        features, prior = self.unet(images), self.prior(images)
        drawn = [self.combine(features, prior.draw()) for _ in range(n)]
        return self.cut(torch.stack(drawn), x)

    def guess(self, images: Tensor, mask: Tensor) -> Gaussian:
        """Return the posterior: which z the rater of this mask would have.

        Shapes: images (N, n_channels, H, W), mask (N, H, W) of class indices.
        """
        classes = F.one_hot(mask.long(), max(self.n_classes, 2)).movedim(-1, 1)
        shown = extend(classes[:, 1:].to(images.dtype), 2**self.depth)
        return self.posterior(torch.cat([self.extend(images), shown], dim=1))

    def elbo(
        self, images: Tensor, mask: Tensor, loss: Loss = cross_entropy
    ) -> tuple[Tensor, Tensor]:
        """Return the two terms that :meth:`training_loss` adds, each per pixel.

        The first is ``loss`` of the logits for a z drawn from the posterior. The second
        is KL(posterior || prior), divided by the number of pixels of an image. Both are
        means over the images, so their ratio depends on no batch size. With
        cross-entropy, minus their sum is the evidence lower bound, in nats a pixel.
        """
        extended = self.extend(images)
        posterior = self.guess(images, mask)
        features = self.unet(extended)
        logits = self.cut(self.combine(features, posterior.draw()), images)
        kl = kl_divergence(posterior, self.prior(extended))
        return loss(logits, mask), kl.mean() / mask[0].numel()

    def training_loss(self, images: Tensor, mask: Tensor, loss: Loss) -> Tensor:
        """Return the first term of :meth:`elbo` plus ``beta`` times the second."""
        reconstruction, kl = self.elbo(images, mask, loss)
        return reconstruction + self.beta * kl
