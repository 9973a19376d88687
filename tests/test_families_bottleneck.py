"""What stands between encoder and decoder: counts, sight, gates, and MONAI."""

import monai.networks.blocks as reference
import pytest
import torch
from torch import nn

from unet_edu import UNet
from unet_edu.families.bottleneck import (
    ASPP,
    ASPPUNet,
    BottleneckUNet,
    CENet,
    ConcurrentAttention,
    DenseAtrous,
    MultiKernelPooling,
    SAUNet,
    SEUNet,
    SpatialAttention,
    SqueezeExcite,
)
from unet_edu.ledger import ledger

MODELS = {"se": SEUNet, "sa": SAUNet, "aspp": ASPPUNet, "ce": CENet}


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def randomize(net: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5
    return net.eval()


# Counts of public code: CE-Net's own; scSE of segmentation_models.pytorch; SE is scSE
# without its 1x1 convolution; 98 is in the paper.
COUNTS = {
    "DAC 256": (lambda: DenseAtrous(256), 1_836_032),
    "DAC 512": (lambda: DenseAtrous(512), 7_342_080),
    "RMP 512": (lambda: MultiKernelPooling(512), 513),
    "scSE 256": (lambda: ConcurrentAttention(256), 8_721),
    "SE 256": (lambda: SqueezeExcite(256), 8_721 - 257),
    "SA": (SpatialAttention, 98),
}


@pytest.mark.parametrize(("build", "expected"), COUNTS.values(), ids=COUNTS)
def test_reference_counts(build, expected):
    with torch.device("meta"):
        assert count(build()) == expected


def test_aspp_count():
    # As DeepLabv3 has it on 2,048 channels: five branches of 256 and their join, each
    # a convolution without bias and a batch norm. Ours has a bias in one of them.
    convs = 2048 * 256 * (1 + 3 * 9 + 1) + 5 * 256 * 256
    norms = 6 * 2 * 256
    with torch.device("meta"):
        assert count(ASPP(2048, 256)) == convs + norms - 256


def bottom(name: str, c: int) -> int:
    """Return the parameters of each model's bottleneck, from the formulas."""
    quarter = c // 4
    return {
        "se": 2 * c * (c // 16) + c // 16 + c,
        "sa": 98,
        "aspp": c * quarter * 29 + 5 * quarter * c + (4 * 2 + 1) * quarter + 2 * c,
        "ce": 28 * c * c + 4 * c + c + 1 + (c + 4) * c + c,
    }[name]


@pytest.mark.parametrize("name", MODELS)
def test_models_are_the_unet_and_their_bottleneck(name):
    with torch.device("meta"):
        net = MODELS[name](1, 1, base_channels=64, depth=4)
        plain = UNet(1, 1)
    assert count(net) == count(plain) + bottom(name, 1024)


def test_nothing_at_the_bottom_is_the_plain_unet():
    torch.manual_seed(0)
    plain = UNet(1, 2, base_channels=4, depth=2, padding=1).eval()
    net = BottleneckUNet(1, 2, nn.Identity, base_channels=4, depth=2).eval()
    net.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 20, 24)
    torch.testing.assert_close(net(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sides", [(13, 30), (1, 1)])
def test_any_size(name, sides):
    net = MODELS[name](2, 3, base_channels=2, depth=2).eval()
    assert net(torch.rand(1, 2, *sides)).shape == (1, 3, *sides)


@pytest.mark.parametrize("name", MODELS)
def test_trains_on_a_single_image(name):
    net = MODELS[name](1, 2, base_channels=2, depth=2)
    net(torch.rand(1, 1, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


# Against MONAI -------------------------------------------------------------------


def test_squeeze_excite_is_monais():
    ours = randomize(SqueezeExcite(12, reduction=3))
    theirs = reference.ChannelSELayer(2, 12, r=3).eval()
    names = {"narrow": "fc.0", "widen": "fc.2"}
    theirs.load_state_dict(
        {
            f"{names[name.split('.')[0]]}.{name.split('.')[1]}": value
            for name, value in ours.state_dict().items()
        }
    )
    x = torch.randn(2, 12, 7, 9)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_residual_squeeze_excite_is_monais():
    ours = randomize(SqueezeExcite(8, reduction=2))
    theirs = reference.ResidualSELayer(2, 8, 2, "relu", "sigmoid").eval()
    theirs.fc[0].load_state_dict(ours.narrow.state_dict())
    theirs.fc[2].load_state_dict(ours.widen.state_dict())
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(x + ours(x), theirs(x), rtol=0, atol=1e-5)


def test_aspp_is_monais_where_it_is_the_same():
    # MONAI's has neither norm nor ReLU in its branches, nor a branch of the whole map.
    # With positive weights our ReLU changes nothing, our norms start as (nearly) the
    # identity, and the join can ignore the last branch.
    torch.manual_seed(0)
    ours = ASPP(3, 16, dilations=(2, 4, 6), branch_channels=4).eval()
    theirs = reference.SimpleASPP(2, 3, 4, acti_type="relu").eval()
    with torch.no_grad():
        for module in ours.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.fill_(1 - module.eps)
        branches = [ours.point, *ours.atrous]
        for branch, conv in zip(branches, theirs.convs, strict=True):
            branch[0].weight.abs_()
            conv.weight.copy_(branch[0].weight)
            conv.bias.zero_()
        ours.join[0].weight[:, 16:] = 0
        theirs.conv_k1.conv.weight.copy_(ours.join[0].weight[:, :16])
        theirs.conv_k1.adn.N.running_var.fill_(1 - theirs.conv_k1.adn.N.eps)
    x = torch.rand(2, 3, 15, 17)
    assert ours(x).std() > 0.01
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


# What they see -------------------------------------------------------------------


def seen(module: nn.Module, side: int = 41, channels: int = 2) -> torch.Tensor:
    """Return which positions the middle of the output depends on."""
    x = torch.rand(1, channels, side, side, requires_grad=True)
    out = module(x)
    (grad,) = torch.autograd.grad(out[..., side // 2, side // 2].sum(), x)
    return (grad[0] != 0).any(0)


@pytest.mark.parametrize("dilation", [1, 2, 6])
def test_dilated_kernel_touches_nine_positions(dilation):
    conv = ASPP(2, 2, (dilation,)).atrous[0][0]
    where = seen(conv).nonzero() - 20
    steps = [-dilation, 0, dilation]
    assert where.tolist() == [[a, b] for a in steps for b in steps]


def test_aspp_sees_everything_only_through_its_mean():
    torch.manual_seed(0)
    module = randomize(ASPP(2, 4, (2, 4, 6)))
    assert seen(module).all()
    nn.init.zeros_(module.whole.weight)
    assert seen(module).nonzero().amax() <= 20 + 6


def test_branches_of_dense_atrous_see_3_7_9_and_19():
    module = randomize(DenseAtrous(2))
    sides = []
    for i in range(4):
        where = seen(lambda x, i=i: module.branches(x)[i]).nonzero()
        sides.append((where.amax() - where.amin() + 1).item())
    assert sides == [3, 7, 9, 19]


def test_branches_of_dense_atrous_are_added():
    module = randomize(DenseAtrous(3))
    x = torch.randn(1, 3, 9, 9)
    a, b, c, d = module.branches(x)
    expected = x + a.relu() + b.relu() + c.relu() + d.relu()
    torch.testing.assert_close(module(x), expected)
    chained = module.mix(module.conv5(module.conv3(module.conv1(x))))
    torch.testing.assert_close(d, chained)


@pytest.mark.parametrize("sides", [(12, 30), (7, 11), (4, 1)])
def test_pooling_keeps_the_map_and_adds_four(sides):
    module = MultiKernelPooling(3)
    x = torch.rand(2, 3, *sides)
    out = module(x)
    assert out.shape == (2, 7, *sides)
    assert torch.equal(out[:, 4:], x)
    # All of a flat map's summaries are flat.
    flat = module(torch.ones(1, 3, *sides))[:, :4]
    torch.testing.assert_close(flat, flat[..., :1, :1].expand_as(flat))


def test_pooling_of_two_on_a_small_map():
    module = MultiKernelPooling(1, kernels=(2,))
    nn.init.ones_(module.score.weight)
    nn.init.zeros_(module.score.bias)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    coarse = module.pyramid(x)[0][0, 0, ::3, ::3]
    assert coarse.tolist() == [[5, 7], [13, 15]]


def test_ledger_tells_what_the_bottleneck_sees():
    x = (1, 1, 512, 512)
    plain = BottleneckUNet(1, 2, nn.Identity, base_channels=1, depth=3)
    assert ledger(plain, x)["bottleneck"].receptive_field == 68
    # Dilations 1, 3 and 5 reach 9 positions of 8 pixels further on either side.
    atrous = BottleneckUNet(1, 2, DenseAtrous, base_channels=1, depth=3)
    assert ledger(atrous, x)["bottleneck"].receptive_field == 68 + 2 * 9 * 8
    for net in (SEUNet, ASPPUNet):
        book = ledger(net(1, 2, base_channels=2, depth=3), x)
        assert book["bottleneck"].receptive_field == 512
    local = ledger(SAUNet(1, 2, base_channels=1, depth=3), x)
    assert local["bottleneck"].receptive_field == 68 + 2 * 3 * 8


# Gates ---------------------------------------------------------------------------


def test_gates_lie_between_0_and_1():
    x = torch.randn(2, 8, 9, 11)
    channel = randomize(SqueezeExcite(8, 2)).gate(x)
    place = randomize(SpatialAttention()).gate(x)
    assert channel.shape == (2, 8)
    assert place.shape == (2, 1, 9, 11)
    for gate in (channel, place):
        assert gate.std() > 0
        assert gate.min() > 0
        assert gate.max() < 1


def test_squeeze_knows_no_place():
    module = randomize(SqueezeExcite(8, 2))
    x = torch.randn(1, 8, 6, 6)
    shuffled = x.flatten(2)[..., torch.randperm(36)].view_as(x)
    torch.testing.assert_close(module.gate(shuffled), module.gate(x))


def test_spatial_attention_knows_no_channel():
    module = randomize(SpatialAttention())
    x = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(module.gate(x[:, torch.randperm(8)]), module.gate(x))


def test_concurrent_attention_is_the_sum_of_two():
    module = randomize(ConcurrentAttention(8, 2))
    x = torch.randn(1, 8, 6, 6)
    place = torch.sigmoid((x * module.place.weight).sum(1) + module.place.bias)
    expected = x * (module.by_channel.gate(x)[..., None, None] + place[:, None])
    torch.testing.assert_close(module(x), expected)


ILL = {
    "SE channels": (SqueezeExcite, (0,), r"channels must be an integer >= 1, got 0"),
    "reduction": (SqueezeExcite, (8, 0), r"reduction must be an integer >= 1, got 0"),
    "scSE": (ConcurrentAttention, (8, -1), r"reduction must be .* >= 1, got -1"),
    "even kernel": (SpatialAttention, (4,), r"kernel_size must be odd.* got 4\. Use 5"),
    "DAC": (DenseAtrous, (0,), r"channels must be an integer >= 1, got 0"),
    "no window": (MultiKernelPooling, (4, ()), r"kernels is empty; give at least one"),
    "window": (MultiKernelPooling, (4, (2, 0)), r"each of kernels must be .* got 0"),
    "no dilation": (ASPP, (4, 4, []), r"dilations is empty; give at least one"),
    "dilation": (ASPP, (4, 4, [0]), r"each of dilations must be .* >= 1, got 0"),
    "ASPP channels": (ASPP, (4, 0), r"out_channels must be an integer >= 1, got 0"),
    "depth": (lambda d: CENet(1, 2, depth=d), (0,), r"depth must be .* >= 1, got 0"),
    "width": (lambda b: SEUNet(1, 2, base_channels=b), (0,), r"base_channels must be"),
    "classes": (SAUNet, (1, 0), r"n_classes must be an integer >= 1, got 0"),
}


@pytest.mark.parametrize(("build", "args", "says"), ILL.values(), ids=ILL)
def test_ill_settings(build, args, says):
    with torch.device("meta"), pytest.raises(ValueError, match=says):
        build(*args)


def test_ill_images():
    with pytest.raises(ValueError, match=r"built for 1 channel\(s\), .* have 2 "):
        SEUNet(1, 2, base_channels=1)(torch.rand(1, 2, 16, 16))
