"""Several slices, modalities and scales: counts, transplants, and what sees what."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unet_edu import UNet, Up, losses
from unet_edu.families.representation import (
    DenseFusionUNet,
    DoubleConv3D,
    LateFusionUNet,
    PyramidUNet,
    UNet3D,
    enlarge_to,
    stack_slices,
    supervision_weights,
)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def seeded(build, *args, **kwargs) -> nn.Module:
    """Build a network whose batch norms have seen something, in eval mode."""
    torch.manual_seed(0)
    net = build(*args, **kwargs)
    for name, buffer in net.named_buffers():
        if buffer.is_floating_point():
            # Small means: a large one would leave every ReLU at 0.
            low, high = (0.5, 1.5) if name.endswith("var") else (-0.05, 0.05)
            buffer.uniform_(low, high)
    return net.eval()


# The counts are of these networks; what separates them from a public one is in words.
COUNTS = {
    "pyramid": (PyramidUNet, (1, 1), {}, 8_544_227),
    "late": (LateFusionUNet, (1, 1), {}, 8_115_585),
    "late, 3 paths": (LateFusionUNet, (3, 2), {}, 18_245_218),
    "dense": (DenseFusionUNet, (1, 1), {}, 8_115_585),
    "dense, 3 paths": (DenseFusionUNet, (3, 2), {}, 27_645_538),
    "3-D": (UNet3D, (5, 1), {}, 17_697_409),
    "3-D, settings of the paper": (UNet3D, (9, 3), {"per_slice": 3}, 17_699_267),
}


@pytest.mark.parametrize(
    ("net", "args", "kwargs", "expected"), COUNTS.values(), ids=COUNTS
)
def test_parameters(net, args, kwargs, expected):
    with torch.device("meta"):
        assert count(net(*args, **kwargs)) == expected


def test_3d_differs_from_the_paper_by_what_the_docstring_says():
    doubled_in_two = 4 * (512**2 + 256**2 + 128**2)
    batch_norm, biases = 4_672, 512 + 256 + 128
    with torch.device("meta"):
        net = UNet3D(9, 3, per_slice=3)
    assert count(net) == 19_069_955 - doubled_in_two + batch_norm + biases
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm3d)]
    assert sum(map(count, norms)) == batch_norm
    assert sum(up.bias.numel() for up in net.ups) == biases


def test_pyramid_is_unet_and_what_it_adds():
    width = [32, 64, 128, 256, 512]
    with torch.device("meta"):
        plain = UNet(1, 1, base_channels=32, padding=1)
        net = PyramidUNet(1, 1)
    scales = sum(9 * n + n for n in width[1:4])
    wider = sum(9 * n * n for n in width[1:4])
    sides = sum(n + 1 for n in width[1:3])
    assert count(net) == count(plain) + scales + wider + sides


# MONAI's deep-supervised plain network: DynUNet.


def dynunet(**kwargs):
    nets = pytest.importorskip("monai.networks.nets")
    return nets.DynUNet(
        2, 1, 1, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, filters=[16, 32, 64, 128, 256],
        **kwargs,
    )  # fmt: skip


def test_dynunet_is_unet_without_biases():
    plain = UNet(1, 1, base_channels=16, padding=1)
    biases = sum(
        m.bias.numel()
        for name, m in plain.named_modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and name != "outc.conv"
    )
    assert biases == 1_712
    assert count(dynunet()) == 1_942_049 == count(plain) - biases


def test_dynunet_has_the_side_outputs_of_the_pyramid():
    net = PyramidUNet(1, 1, base_channels=16)
    sides = count(net.heads) - count(net.heads[-1])
    supervised = dynunet(deep_supervision=True, deep_supr_num=2)
    assert sides == count(supervised) - count(dynunet()) == 98


def test_transplant_of_a_decoder_from_dynunet():
    # The encoders differ (strides where ours pools); the way up is the same, but for
    # the order in which two maps are concatenated.
    source = seeded(dynunet, norm_name="batch", act_name="relu")
    net = seeded(PyramidUNet, 1, 1, base_channels=16)
    for block, up in zip(source.upsamples, net.ups, strict=True):
        up.up.weight.data = block.transp_conv.conv.weight.data
        up.up.bias.data.zero_()
        layers = up.conv.double_conv
        for i, theirs in enumerate((block.conv_block.conv1, block.conv_block.conv2)):
            weight = theirs.conv.weight.data
            if i == 0:
                weight = torch.cat(weight.chunk(2, dim=1)[::-1], dim=1)
            layers[3 * i].weight.data = weight
            layers[3 * i].bias.data.zero_()
        layers[1].load_state_dict(block.conv_block.norm1.state_dict())
        layers[4].load_state_dict(block.conv_block.norm2.state_dict())
    net.heads[-1].conv.load_state_dict(source.output_block.conv.conv.state_dict())
    maps = [torch.rand(1, 16 * 2**i, 32 // 2**i, 48 // 2**i) for i in range(5)]
    *skips, expected = maps
    for block in source.upsamples:
        expected = block(expected, skips.pop())
    expected = source.output_block(expected)
    found = net.heads[-1](net.decode(maps)[-1])
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


# Slices.


def test_stack_slices():
    volume = torch.arange(4.0)[:, None, None].expand(4, 2, 3)
    stacks = stack_slices(volume, 5)
    assert stacks.shape == (4, 5, 2, 3)
    assert stacks[..., 0, 0].tolist() == [
        [0, 0, 0, 1, 2],
        [0, 0, 1, 2, 3],
        [0, 1, 2, 3, 3],
        [1, 2, 3, 3, 3],
    ]
    assert torch.equal(stack_slices(volume, 1)[:, 0], volume)


@pytest.mark.parametrize("slices", [1, 2, 3, 5])
def test_a_stack_is_answered_for_its_middle_slice(slices):
    net = seeded(UNet3D, slices, 2, base_channels=4, depth=2)
    x = torch.rand(2, slices, 9, 14)
    whole = net.volume_logits(x[:, None])
    assert whole.shape == (2, 2, slices, 9, 14)
    torch.testing.assert_close(net(x), whole[:, :, slices // 2])


def test_weights_do_not_depend_on_the_number_of_slices():
    one, five = (seeded(UNet3D, n, 2, base_channels=4, depth=2) for n in (1, 5))
    one.load_state_dict(five.state_dict())
    x = torch.rand(1, 1, 7, 8, 12)
    assert torch.equal(one.volume_logits(x), five.volume_logits(x))


def test_channels_of_a_slice_come_together():
    net = seeded(UNet3D, 6, 2, base_channels=4, depth=1, per_slice=2)
    volume = torch.rand(1, 2, 3, 8, 8)
    stack = torch.cat([volume[:, 0], volume[:, 1]], dim=1)
    assert torch.equal(net(stack), net.volume_logits(volume)[:, :, 1])


def test_3d_block_is_two_2d_blocks_where_the_neighbours_weigh_nothing():
    block = seeded(DoubleConv3D, 2, 3, 4)
    convs = [m for m in block.modules() if isinstance(m, nn.Conv3d)]
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm3d)]
    for conv in convs:
        conv.weight.data[:, :, [0, 2]] = 0
    x = torch.rand(1, 2, 5, 6, 7)
    expected = x[:, :, 3]
    for conv, norm in zip(convs, norms, strict=True):
        expected = F.conv2d(expected, conv.weight[:, :, 1], conv.bias, padding=1)
        expected = F.batch_norm(
            expected, norm.running_mean, norm.running_var, norm.weight, norm.bias
        ).relu()
    torch.testing.assert_close(block(x)[:, :, 3], expected, rtol=0, atol=1e-5)


def test_3d_sees_every_slice():
    net = seeded(UNet3D, 5, 1, base_channels=4, depth=1).double()
    x = torch.rand(1, 5, 8, 8, dtype=torch.float64, requires_grad=True)
    net(x).sum().backward()
    assert (x.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_slices_stay_and_the_plane_is_halved():
    net = UNet3D(5, 2, base_channels=4, depth=2)
    shapes = []
    for encoder in net.encoders:
        encoder.register_forward_hook(lambda m, a, out: shapes.append(out.shape[1:]))
    net(torch.rand(1, 5, 16, 24))
    assert shapes == [(4, 5, 16, 24), (8, 5, 8, 12), (16, 5, 4, 6)]


# Modalities.


@pytest.mark.parametrize("build", [LateFusionUNet, DenseFusionUNet])
def test_one_path_is_a_plain_unet(build):
    net = seeded(build, 1, 2, base_channels=4, depth=2)
    plain = seeded(UNet, 1, 2, base_channels=4, depth=2, padding=1)
    assert count(net) == count(plain) + sum(map(count, net.meets))
    for meet in net.meets:
        meet.weight.data = torch.eye(meet.in_channels)[:, :, None, None]
        meet.bias.data.zero_()
    pairs = [(plain.inc, net.incs[0]), (plain.outc, net.outc)]
    pairs += [(plain.down1, net.downs[0]), (plain.down2, net.downs[1])]
    pairs += [(plain.up1, net.ups[0]), (plain.up2, net.ups[1])]
    for ours, theirs in pairs:
        ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 1, 12, 20)
    torch.testing.assert_close(net(x), plain(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "apart"), [(LateFusionUNet, True), (DenseFusionUNet, False)]
)
def test_what_a_path_sees_of_the_other(build, apart):
    net = seeded(build, 2, 2, base_channels=4, depth=2)
    x = torch.rand(1, 2, 16, 16)
    other = x.clone()
    other[:, 1] = 0
    for level, (before, after) in enumerate(
        zip(net.encode(x), net.encode(other), strict=True)
    ):
        assert len(before) == 2
        assert before[0].shape == (1, 4 * 2**level, 16 // 2**level, 16 // 2**level)
        assert torch.equal(before[0], after[0]) == (apart or level == 0)
        assert not torch.equal(before[1], after[1])


def test_dense_fusion_is_one_wide_path_with_grouped_convolutions():
    net = seeded(DenseFusionUNet, 2, 2, base_channels=4, depth=1)
    x = torch.rand(1, 2, 8, 8)
    first, second = net.encode(x)
    blocks = [down.maxpool_conv[1].double_conv for down in net.downs]
    wide = F.max_pool2d(torch.cat(first, dim=1), 2)
    for i, groups in ((0, 1), (3, 2)):
        kernel, bias = (
            torch.cat([getattr(b[i], name) for b in blocks])
            for name in ("weight", "bias")
        )
        wide = F.conv2d(wide, kernel, bias, padding=1, groups=groups)
        halves = wide.chunk(2, dim=1)
        wide = torch.cat(
            [b[i + 1](h).relu() for b, h in zip(blocks, halves, strict=True)], dim=1
        )
    torch.testing.assert_close(wide, torch.cat(second, 1), rtol=0, atol=1e-5)


# Scales.


def test_supervision_weights():
    assert supervision_weights(1) == [1]
    assert supervision_weights(2) == [0, 1]
    assert supervision_weights(4) == pytest.approx([0, 1 / 7, 2 / 7, 4 / 7])
    assert all(sum(supervision_weights(n)) == pytest.approx(1) for n in range(1, 9))


@pytest.mark.parametrize(("depth", "outputs"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_all_logits(depth, outputs):
    net = seeded(PyramidUNet, 1, 3, base_channels=2, depth=depth)
    x = torch.rand(2, 1, 21, 35)
    every = net.all_logits(x)
    assert len(every) == len(net.heads) == len(net.weights) == outputs
    assert all(logits.shape == (2, 3, 21, 35) for logits in every)
    torch.testing.assert_close(every[-1], net(x))
    assert sum(net.weights) == pytest.approx(1)


def test_side_outputs_are_coarse():
    net = seeded(PyramidUNet, 1, 1, base_channels=2, depth=4)
    maps = net.decode(net.encode(torch.rand(1, 1, 32, 48)))
    assert [m.shape[1:] for m in maps] == [(8, 8, 12), (4, 16, 24), (2, 32, 48)]


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.focal_tversky])
def test_training_loss_is_the_weighted_mean(loss):
    net = seeded(PyramidUNet, 1, 2, base_channels=2, depth=3)
    x, mask = torch.rand(2, 1, 9, 10), torch.randint(0, 2, (2, 9, 10))
    coarse, final = (loss(logits, mask) for logits in net.all_logits(x))
    expected = (coarse + 2 * final) / 3
    torch.testing.assert_close(net.training_loss(x, mask, loss), expected)


def test_each_level_gets_the_image_at_its_scale():
    net = seeded(PyramidUNet, 1, 1, base_channels=2, depth=3)
    seen = []
    for scale in net.scales:
        scale.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    x = torch.rand(1, 1, 16, 24)
    net(x)
    assert [s.shape[-2:] for s in seen] == [(8, 12), (4, 6)]
    torch.testing.assert_close(seen[1], F.avg_pool2d(x, 4))


def test_enlarge_leaves_a_map_that_fits():
    x = torch.rand(1, 1, 4, 4)
    assert enlarge_to(x, (4, 4)) is x
    assert enlarge_to(x, (8, 12)).shape == (1, 1, 8, 12)


def test_the_decoders_are_those_of_the_book():
    nets = [PyramidUNet(1, 2, base_channels=2), LateFusionUNet(2, 2, base_channels=2)]
    assert all(isinstance(up, Up) for net in nets for up in net.ups)


ILL = {
    "even k": (lambda: stack_slices(torch.zeros(3, 2, 2), 4), "k must be odd.* Use 5"),
    "k 0": (lambda: stack_slices(torch.zeros(3, 2, 2), 0), "k must be an integer >= 1"),
    "4-D": (
        lambda: stack_slices(torch.zeros(3, 1, 2, 2), 3),
        r"shape \(3, 1, 2, 2\).*pass volume\[:, 0\]",
    ),
    "slices": (
        lambda: UNet3D(4, 2, per_slice=3),
        "multiple of per_slice=3, one for each slice; got 4",
    ),
    "per_slice": (lambda: UNet3D(4, 2, per_slice=0), "per_slice must be an integer >="),
    "3-D width": (
        lambda: UNet3D(1, 2, base_channels=1),
        "base_channels .* >= 2, got 1",
    ),
    "volume": (
        lambda: UNet3D(1, 2, base_channels=2).volume_logits(torch.zeros(1, 3, 8, 8)),
        r"volumes \(N, 1, D, H, W\), got shape \(1, 3, 8, 8\)",
    ),
    "late width": (lambda: LateFusionUNet(1, 2, base_channels=0), "base_channels must"),
    "pyramid width": (lambda: PyramidUNet(1, 2, base_channels=0), "base_channels must"),
    "depth": (lambda: PyramidUNet(1, 2, depth=0), "depth must be an integer >= 1"),
    "outputs": (lambda: supervision_weights(0), "n must be an integer >= 1, got 0"),
}


@pytest.mark.parametrize(("call", "says"), ILL.values(), ids=ILL)
def test_ill_settings(call, says):
    with pytest.raises(ValueError, match=says):
        call()
