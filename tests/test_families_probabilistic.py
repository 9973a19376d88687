"""Networks that draw masks: parameters, what is random in each, bounds and terms."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, LowRankMultivariateNormal, Normal
from torch.distributions import kl_divergence as reference_kl

from unet_edu import UNet
from unet_edu.families import probabilistic
from unet_edu.families.probabilistic import (
    DropoutUNet,
    Gaussian,
    LogitDistribution,
    ProbabilisticUNet,
    StochasticSegmentationNetwork,
    kl_divergence,
)
from unet_edu.losses import cross_entropy, pixel_cross_entropy

TINY = {
    DropoutUNet: {"base_channels": 4, "depth": 2},
    StochasticSegmentationNetwork: {"base_channels": 4, "depth": 2, "rank": 2},
    ProbabilisticUNet: {"base_channels": 4, "depth": 2, "latent_dim": 2},
}


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def tiny(net: type, n_classes: int = 2, **more) -> nn.Module:
    torch.manual_seed(0)
    return net(1, n_classes, **TINY[net] | more)


def batch(n: int = 2, n_classes: int = 2, sides: tuple = (12, 20)):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 1, *sides, generator=generator)
    mask = torch.randint(0, max(n_classes, 2), (n, *sides), generator=generator)
    return images, mask


# Counted by building stefanknegt's ProbabilisticUnet(1, 1, [32, 64, 128, 192], 2).
PUBLIC = {
    "unet": 2_260_128,
    "prior": 1_366_276,
    "posterior": 1_366_564,
    "combine": 3_265,
}


def test_the_parameters_of_the_public_probabilistic_unet():
    with torch.device("meta"):
        net = ProbabilisticUNet(1, 1, base_channels=32, depth=3, latent_dim=2)
    assert {name: count(part) for name, part in net.named_children()} == PUBLIC
    assert count(net) == 4_996_233


def test_the_widths_of_the_authors():
    # Kohl et al.'s own code: 32, 64, 128, and four times 192.
    assert probabilistic.widths(32, 6) == [32, 64, 128, 192, 192, 192, 192]
    with torch.device("meta"):
        net = ProbabilisticUNet(1, 2)
    assert net.prior.head.out_channels == 2 * 6
    assert net.prior.head.in_channels == 192


@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_parameters_beside_a_plain_unet(n_classes):
    with torch.device("meta"):
        plain = UNet(1, n_classes, padding=1)
        assert count(DropoutUNet(1, n_classes)) == count(plain)
        stochastic = StochasticSegmentationNetwork(1, n_classes, rank=10)
    # The last layer: 64 weights and a bias for each further channel.
    assert count(stochastic) - count(plain) == 11 * n_classes * 65


@pytest.mark.parametrize("net", TINY)
@pytest.mark.parametrize("n_classes", [1, 3])
def test_samples(net, n_classes):
    model, (x, _) = tiny(net, n_classes).eval(), batch(sides=(13, 21))
    drawn = model.samples(x, 5)
    assert drawn.shape == (5, 2, n_classes, 13, 21)
    assert drawn.isfinite().all()
    assert not drawn.requires_grad
    assert drawn.std(dim=0).min() > 0  # nothing comes out the same each time
    torch.manual_seed(3)
    again = model.samples(x, 5)
    torch.manual_seed(3)
    assert torch.equal(again, model.samples(x, 5))


@pytest.mark.parametrize("net", TINY)
def test_zero_samples_are_refused(net):
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        tiny(net).samples(batch()[0], 0)


# Dropout.


def test_dropout_unet_without_dropout_is_a_unet():
    plain = UNet(1, 2, base_channels=4, depth=3, padding=1)
    model = DropoutUNet(1, 2, base_channels=4, depth=3)
    model.load_state_dict(plain.state_dict())
    x = torch.rand(2, 1, 16, 24)
    assert torch.equal(model.eval()(x), plain.eval()(x))


@pytest.mark.parametrize(("depth", "blocks"), [(1, 2), (2, 2), (3, 4), (4, 4), (5, 6)])
def test_dropout_follows_the_deeper_half(monkeypatch, depth, blocks):
    # With a depth of five, as in Bayesian SegNet: three ways down, three ways up.
    model = DropoutUNet(1, 1, base_channels=2, depth=depth).eval()
    dropped, real = [], torch.nn.functional.dropout

    def watch(x, p, training):
        if training:
            dropped.append(tuple(x.shape[1:]))
        return real(x, p, training)

    monkeypatch.setattr(probabilistic.F, "dropout", watch)
    model.samples(torch.rand(1, 1, 32, 32), 1)
    assert len(dropped) == blocks
    half = [(2 * 2**k, 32 // 2**k, 32 // 2**k) for k in range(depth + 1)]
    down = half[depth + 1 - blocks // 2 :]
    up = half[depth - blocks // 2 : depth][::-1]
    assert dropped == down + up


def test_sampling_leaves_modes_and_statistics_alone():
    model, (x, _) = tiny(DropoutUNet).train(), batch()
    model.inc.eval()  # a block that somebody has frozen
    modes = {name: m.training for name, m in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.samples(x, 2)
    assert {name: m.training for name, m in model.named_modules()} == modes
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    with pytest.raises(ValueError, match="built for 1 channel"):
        model.samples(torch.rand(1, 3, 8, 8), 1)
    assert {name: m.training for name, m in model.named_modules()} == modes


def test_no_dropout_no_difference():
    model = tiny(DropoutUNet, dropout=0.0).eval()
    x, _ = batch()
    for drawn in model.samples(x, 2):
        assert torch.equal(drawn, model(x))


# A normal distribution of logits.


def test_draws_have_the_covariance_of_low_rank():
    torch.manual_seed(0)
    mean, factor = torch.randn(1, 2, 2, 3), torch.randn(1, 4, 2, 2, 3)
    diagonal = torch.rand(1, 2, 2, 3) + 0.1
    drawn = LogitDistribution(mean, factor, diagonal).draw(200_000).flatten(1)
    reference = LowRankMultivariateNormal(
        mean.flatten(), factor[0].flatten(1).T, diagonal.flatten()
    )
    off = (drawn.T.cov() - reference.covariance_matrix).abs().max()
    assert off < 0.02 * reference.covariance_matrix.abs().max()
    assert (drawn.mean(0) - mean.flatten()).abs().max() < 0.05


def test_the_mean_is_the_answer_in_both_modes():
    model, (x, _) = tiny(StochasticSegmentationNetwork), batch()
    for mode in (True, False):
        model.train(mode)
        assert torch.equal(model(x), model.distribution(x).mean)


def sure(model: StochasticSegmentationNetwork) -> StochasticSegmentationNetwork:
    """Take nearly all chance out of the last layer: no factor, hardly a variance."""
    last = model.unet.outc.conv
    with torch.no_grad():
        last.weight[model.n_classes :] = 0
        last.bias[model.n_classes :] = 0
        last.bias[model.n_classes : 2 * model.n_classes] = -30
    return model


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_without_chance_the_likelihood_is_cross_entropy(n_classes):
    model = sure(tiny(StochasticSegmentationNetwork, n_classes))
    images, mask = batch(n_classes=n_classes, sides=(13, 21))
    found = model.eval().training_loss(images, mask, cross_entropy)
    expected = cross_entropy(model(images), mask)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_the_likelihood_is_the_mean_probability_of_whole_masks():
    model = tiny(StochasticSegmentationNetwork, draws=3).eval().double()
    images, mask = batch(sides=(4, 4))
    torch.manual_seed(5)
    found = model.training_loss(images.double(), mask, cross_entropy)
    torch.manual_seed(5)
    draws = model.distribution(images.double()).draw(3)
    p = torch.stack([-pixel_cross_entropy(d, mask).sum((1, 2)) for d in draws]).exp()
    expected = -p.mean(0).log().mean() / 16
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_bf16_draws_in_float32():
    model, (x, _) = tiny(StochasticSegmentationNetwork).eval(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        distribution = model.distribution(x)
        torch.manual_seed(0)
        drawn = distribution.draw(4)
    torch.manual_seed(0)
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn, distribution.draw(4))


# A latent code.


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_kl_is_that_of_pytorch(scale):
    torch.manual_seed(0)
    q, p = (Gaussian(*(scale * torch.randn(2, 5, 3))) for _ in range(2))

    def reference(g: Gaussian) -> Independent:
        return Independent(Normal(g.mean, g.log_std.exp()), 1)

    found = kl_divergence(q, p)
    torch.testing.assert_close(found, reference_kl(reference(q), reference(p)))
    assert found.min() > 0
    assert torch.equal(kl_divergence(q, q), torch.zeros(5))


def test_the_posterior_sees_the_mask_and_the_prior_does_not():
    model, (images, mask) = tiny(ProbabilisticUNet, 3), batch(n_classes=3)
    other = (mask + 1) % 3
    assert model.posterior.encoder.blocks[0][0].in_channels == 1 + 2
    a, b = model.guess(images, mask), model.guess(images, other)
    assert a.mean.shape == a.log_std.shape == (2, 2)
    assert not torch.equal(a.mean, b.mean)


def test_terms_of_the_bound():
    model, (images, mask) = tiny(ProbabilisticUNet, beta=7.0), batch()
    torch.manual_seed(2)
    reconstruction, kl = model.elbo(images, mask)
    torch.manual_seed(2)
    loss = model.training_loss(images, mask, cross_entropy)
    torch.testing.assert_close(loss, reconstruction + 7 * kl)
    whole = kl_divergence(model.guess(images, mask), model.prior(images))
    torch.testing.assert_close(kl, whole.mean() / (12 * 20))


def test_the_bound_does_not_depend_on_the_batch_size():
    model, (images, mask) = tiny(ProbabilisticUNet), batch(1)
    for part in (model.prior, model.posterior):
        nn.init.zeros_(part.head.weight)
        nn.init.zeros_(part.head.bias)
    with torch.no_grad():
        model.posterior.head.bias[:2] = 1.0  # a KL of one nat
        model.posterior.head.bias[2:] = -9.0  # hardly any chance left
    small = model.elbo(images, mask)
    large = model.elbo(images.expand(6, -1, -1, -1), mask.expand(6, -1, -1))
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-4)
    # Twice the sides, four times the pixels: the same KL is a quarter as much each.
    images, mask = batch(1, sides=(24, 40))
    torch.testing.assert_close(model.elbo(images, mask)[1], small[1] / 4)


def test_an_image_is_looked_at_once_for_all_samples():
    model, (x, _) = tiny(ProbabilisticUNet).eval(), batch()
    calls = []
    for part in (model.unet, model.prior, model.combine):
        part.register_forward_hook(lambda module, *_: calls.append(type(module)))
    model.samples(x, 4)
    assert [c.__name__ for c in calls] == ["FeatureUNet", "LatentNet", *["Combine"] * 4]


def test_one_z_moves_the_whole_image():
    # z is the same for all pixels: with features that are, too, the logits are flat.
    model, (x, _) = tiny(ProbabilisticUNet).eval(), batch()
    drawn = model.combine(torch.ones(2, 4, 5, 6), torch.randn(2, 2))
    assert drawn.flatten(2).std(dim=2).max() < 1e-6
    assert not torch.allclose(drawn[0], drawn[1])
    assert model(x).shape == (2, 2, 12, 20)


ILL = {
    "dropout": (DropoutUNet, {"dropout": 1.0}, r"dropout must be .* in \[0, 1\)"),
    "depth": (DropoutUNet, {"depth": 0}, "depth must be an integer >= 1, got 0"),
    "rank": (StochasticSegmentationNetwork, {"rank": 0}, "rank must be .* got 0"),
    "draws": (StochasticSegmentationNetwork, {"draws": 0}, "draws must be .* got 0"),
    "latent": (ProbabilisticUNet, {"latent_dim": 0}, "latent_dim must be .* got 0"),
    "width": (ProbabilisticUNet, {"base_channels": 0}, "base_channels must be .* 0"),
    "beta": (ProbabilisticUNet, {"beta": -1.0}, r"beta must be 0 or more.* got -1\.0"),
    "infinite": (ProbabilisticUNet, {"beta": math.inf}, "finite; got inf"),
}


@pytest.mark.parametrize(("net", "settings", "says"), ILL.values(), ids=ILL)
def test_ill_settings(net, settings, says):
    with torch.device("meta"), pytest.raises(ValueError, match=says):
        net(1, 2, **settings)
