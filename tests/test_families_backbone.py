"""Residual, MultiRes and recurrent blocks: counts, transplants, what each promises."""

import pytest
import torch
import torch.nn.functional as F
from monai.networks.blocks import ResidualUnit
from monai.networks.blocks.segresnet_block import ResBlock
from torch import nn

from unet_edu.families.backbone import (
    ConvNorm,
    MultiResBlock,
    MultiResUNet,
    PreActivation,
    R2UNet,
    RecurrentBlock,
    RecurrentConv,
    ResPath,
    ResUNet,
    UpJoin,
)
from unet_edu.ledger import ledger
from unet_edu.studies import load_study


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def shake(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight and every running statistic a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            random = torch.rand(value.shape, generator=generator)
            value.copy_(random + 0.5 if "running_var" in name else random - 0.5)
    return net.eval()


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and statistics in the order in which the modules were made."""
    values = [v for v in source.state_dict().values() if v.is_floating_point()]
    places = [v for v in target.state_dict().values() if v.is_floating_point()]
    for value, place in zip(values, places, strict=True):
        place.copy_(value)


# Settings, parameters, and the public code that has as many.
COUNTS = {
    "nikhilroxtomar build_resunet()": (ResUNet, (3, 1), {}, 8_220_993),
    "LeeJunHyun R2U_Net(3, 1)": (R2UNet, (3, 1), {}, 39_091_393),
    # Its logits are normalised: a scale and a shift for each of its two channels.
    "nibtehaz MultiResUnet(3, 1)": (MultiResUNet, (3, 2), {}, 7_251_376 - 2 * 2),
    # Asked for one class, ours has one: 51 weights and a bias fewer.
    "the same, one class": (MultiResUNet, (3, 1), {}, 7_251_376 - 2 * 2 - 52),
    "the same, shared statistics": (
        *(R2UNet, (3, 1), {"own_statistics": False}, 39_091_393),
    ),
    "no reference: t changes nothing": (R2UNet, (3, 1), {"t": 5}, 39_091_393),
}


@pytest.mark.parametrize(
    ("net", "args", "options", "expected"), COUNTS.values(), ids=COUNTS
)
def test_counts(net, args, options, expected):
    with torch.device("meta"):
        assert count(net(*args, **options)) == expected


# The networks that the book trains.
@pytest.mark.parametrize(
    ("net", "options"),
    [
        (ResUNet, {"base_channels": 4, "depth": 2}),
        (MultiResUNet, {"base_channels": 4, "depth": 2}),
        (R2UNet, {"base_channels": 4, "depth": 2, "t": 1}),
    ],
)
def test_levels(net, options):
    model = net(1, 2, **options)
    book = ledger(model, (1, 1, 16, 24))
    assert [stage.name for stage in book.stages] == [
        *("inc", "downs.0", "downs.1", "ups.0", "ups.1", "outc")
    ]
    sides = [stage.shape[2:] for stage in book.stages]
    assert sides == [(16, 24), (8, 12), (4, 6), (8, 12), (16, 24), (16, 24)]


def test_pre_activation_is_monais_block_where_nothing_changes():
    # MONAI's block of SegResNet has no biases; it adds the map itself.
    theirs, ours = shake(ResBlock(2, 6, norm="batch")), PreActivation(6, 6).eval()
    assert isinstance(ours.shortcut, nn.Identity)
    for i, name in [(0, "norm1"), (2, "conv1"), (3, "norm2"), (5, "conv2")]:
        layer = ours.residual[i]
        layer.load_state_dict(getattr(theirs, name).state_dict(), strict=False)
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.bias)
            layer.weight.data = theirs.get_submodule(name).conv.weight
    x = torch.randn(2, 6, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x.clone()), rtol=0, atol=1e-5)


def test_first_block_is_monais_residual_unit():
    options = {"act": "RELU", "norm": "BATCH", "last_conv_only": True}
    theirs = shake(ResidualUnit(2, 3, 8, **options))
    ours = PreActivation(3, 8, first=True).eval()
    copy_weights(theirs, ours)
    x = torch.randn(2, 3, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_shortcut_of_a_stride_is_a_convolution_with_a_stride():
    block = PreActivation(3, 8, stride=2)
    nn.init.zeros_(block.residual[-1].weight)
    nn.init.zeros_(block.residual[-1].bias)
    x = torch.randn(2, 3, 8, 6)
    strided = F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2)
    torch.testing.assert_close(block(x), strided, rtol=0, atol=1e-6)


def test_a_block_that_adds_nothing_is_the_identity():
    block = PreActivation(4, 4)
    nn.init.zeros_(block.residual[-1].weight)
    nn.init.zeros_(block.residual[-1].bias)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_up_join_puts_the_skip_first():
    up = UpJoin(nn.Upsample(scale_factor=2), nn.Identity())
    joined = up(torch.ones(1, 2, 3, 3), torch.zeros(1, 4, 6, 6))
    assert joined[0, :, 0, 0].tolist() == [0, 0, 0, 0, 1, 1]
    through = UpJoin(nn.Identity(), nn.Identity(), path=nn.ReLU())
    joined = through(-torch.ones(1, 1, 2, 2), -torch.ones(1, 1, 2, 2))
    assert joined[0, :, 0, 0].tolist() == [0, -1]


def reach(net: nn.Module, channels: int, maps: slice) -> int:
    """Return the side of the square of inputs that can change one output value."""
    x = torch.randn(1, channels, 25, 25, requires_grad=True)
    net(x)[:, maps, 12, 12].sum().backward()
    return int(x.grad.abs().sum((0, 1)).any(0).sum())


@pytest.mark.parametrize("filters", [4, 8, 17, 32, 512])
def test_multires_parts(filters):
    with torch.device("meta"):
        block = MultiResBlock(3, filters)
        assert block(torch.empty(2, 3, 5, 7)).shape == (2, block.out_channels, 5, 7)
    wide = 1.67 * filters
    assert block.out_channels == sum(block.parts)
    for part, share in zip(block.parts, (1 / 6, 1 / 3, 1 / 2), strict=True):
        assert share * wide - 1.3 < part <= share * wide + 0.3


def test_multires_block_sees_3_5_and_7_pixels():
    block = shake(MultiResBlock(2, 24))
    for conv in block.convs:
        # No ReLU may be shut, or less would be seen.
        nn.init.constant_(conv[1].bias, 50.0)
    nn.init.constant_(block.norm_sum.bias, 50.0)
    ends = [sum(block.parts[:i]) for i in range(4)]
    sides = [reach(block, 2, slice(*ends[i : i + 2])) for i in range(3)]
    assert sides == [3, 5, 7]


def test_res_paths_are_longest_at_the_top():
    with torch.device("meta"):
        net = MultiResUNet(1, 2, base_channels=8, depth=3)
    assert [len(up.path) for up in net.ups] == [1, 2, 3]
    # They lead from the width of the block to the width of U-Net.
    widths = [net.inc.out_channels, *(down[1].out_channels for down in net.downs)]
    first = [up.path[0].conv[0] for up in net.ups]
    assert [conv.in_channels for conv in first] == widths[:3][::-1]
    assert [conv.out_channels for conv in first] == [32, 16, 8]


def test_recurrent_convolution_unrolled():
    block = shake(RecurrentConv(4, t=2))
    x = torch.randn(1, 4, 6, 6)

    def apply(i: int, x: torch.Tensor) -> torch.Tensor:
        return F.relu(block.norms[i](block.conv(x)) * block.scale + block.shift)

    once = apply(0, x)
    twice = apply(1, x + once)
    assert torch.equal(block(x), apply(2, x + twice))
    block.t = 0
    assert torch.equal(block(x), once)


@pytest.mark.parametrize("own", [True, False])
def test_statistics_of_its_own_are_those_that_training_saw(own):
    torch.manual_seed(0)
    block = RecurrentConv(4, t=2, own_statistics=own)
    assert len(block.norms) == (3 if own else 1)
    for norm in block.norms:
        norm.momentum = 1.0  # keep the last statistics alone
    x = torch.randn(8, 4, 16, 16)
    seen = block(x)
    used = block.eval()(x)
    # A running variance divides by n - 1, a batch's by n: 2048 values.
    assert torch.allclose(seen, used, rtol=0, atol=0.01) == own


@pytest.mark.parametrize("t", [0, 1, 2, 4])
def test_recurrent_convolution_sees_further_with_the_same_parameters(t):
    block = RecurrentConv(2, t).eval()
    assert count(block) == count(ConvNorm(2, 2)) == 42
    for p in block.parameters():
        nn.init.constant_(p, 0.1)
    assert reach(block, 2, slice(None)) == 2 * t + 3


def test_recurrent_block_adds_what_it_was_given():
    block = shake(RecurrentBlock(3, 5))
    x = torch.randn(1, 3, 6, 6)
    matched = block.match(x)
    expected = matched + block.residual[1](block.residual[0](matched))
    assert torch.equal(block(x), expected)


ILL = {
    "Res width": (
        ResUNet,
        (1, 2),
        {"base_channels": 0},
        r"base_channels .* >= 1, got 0",
    ),
    "Res depth": (ResUNet, (1, 2), {"depth": 0}, r"depth must be an integer >= 1"),
    "Res classes": (ResUNet, (1, 0), {}, r"n_classes must be an integer >= 1, got 0"),
    "MultiRes width": (
        *(MultiResUNet, (1, 2), {"base_channels": 3}),
        r"base_channels must be an integer >= 4, got 3",
    ),
    "R2 width": (R2UNet, (1, 2), {"base_channels": 0}, r"base_channels .* 1, got 0"),
    "R2 t": (R2UNet, (1, 2), {"t": -1}, r"t must be an integer >= 0, got -1"),
    "stride": (PreActivation, (1, 2, 3), {}, r"stride must be one of 1, 2; got 3"),
    "filters": (MultiResBlock, (1, 3), {}, r"filters must be an integer >= 4, got 3"),
    "length": (ResPath, (1, 2, 0), {}, r"length must be an integer >= 1, got 0"),
    "channels": (RecurrentConv, (0,), {}, r"channels must be an integer >= 1, got 0"),
    "matched": (RecurrentBlock, (1, 0), {}, r"out_channels .* >= 1, got 0"),
}


@pytest.mark.parametrize(("build", "args", "options", "says"), ILL.values(), ids=ILL)
def test_ill_settings(build, args, options, says):
    with torch.device("meta"), pytest.raises(ValueError, match=says):
        build(*args, **options)


@pytest.mark.parametrize("apart", [True, False])
def test_as_in_training_asks_the_images_and_not_the_memory(apart):
    net = shake(R2UNet(1, 2, base_channels=4, depth=2, own_statistics=apart))
    memories = {name: value.clone() for name, value in net.named_buffers()}
    x = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        in_use, found = net(x), load_study("backbone").as_in_training(net)(x)
        for name, value in net.named_buffers():
            assert torch.equal(value, memories[name])  # the net itself is left alone
        torch.testing.assert_close(found, net.train()(x))
    assert not torch.allclose(found, in_use, atol=0.01)
