"""Gates, nested nodes and full-scale nodes: counts, transplants, and what each sees."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unet_edu.families.skip import (
    AttentionGate,
    AttentionUNet,
    AttentionUp,
    FullScaleNode,
    NestedUp,
    UNet3Plus,
    UNetPlusPlus,
    to_level,
)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norm statistics and weights of its own, so that a mix-up is seen."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.dim() == 1:
            drawn = torch.rand(value.shape, generator=generator)
            value.copy_(drawn + 0.5 if "var" in name else drawn * 0.4 + 0.8)
    return net.eval()


REFERENCES = {
    "LeeJunHyun Attention_block(64, 64, 32)": (
        lambda: AttentionGate(64, 64, 32),
        4_323,
    ),
    "LeeJunHyun AttU_Net(1, 1)": (lambda: AttentionUNet(1, 1), 34_877_421),
    "4uiiurz1 NestedUNet(1, 1)": (
        lambda: UNetPlusPlus(1, 1, up="bilinear", deep_supervision=False),
        9_162_753,
    ),
    "the paper's U-Net++, 9.04 M": (lambda: UNetPlusPlus(1, 1), 9_048_996),
    "MONAI BasicUNetPlusPlus, 16 wide": (
        lambda: UNetPlusPlus(1, 1, base_channels=16, up="transposed_wide"),
        2_282_772,
    ),
    "MONAI BasicUNetPlusPlus, 32 wide": (
        lambda: UNetPlusPlus(1, 1, up="transposed_wide"),
        9_118_756,
    ),
    "ZJUGiveLab UNet_3Plus()": (
        lambda: UNet3Plus(3, 1, deep_supervision=False),
        26_971_777,
    ),
    "ZJUGiveLab UNet_3Plus_DeepSup()": (lambda: UNet3Plus(3, 1), 26_989_637),
}


@pytest.mark.parametrize(("build", "expected"), REFERENCES.values(), ids=REFERENCES)
def test_reference_counts(build, expected):
    with torch.device("meta"):
        assert count(build()) == expected


# The gate.


def test_gate_is_monais():
    from monai.networks.nets.attentionunet import AttentionBlock

    theirs = lively(AttentionBlock(spatial_dims=2, f_int=3, f_g=5, f_l=4))
    ours = AttentionGate(4, 5, 3).eval()
    names = {"W_x": "w_x", "W_g": "w_g", "psi": "psi"}
    state = {}
    for name, value in theirs.state_dict().items():
        block, rest = name.split(".", 1)
        state[f"{names[block]}.{rest.replace('0.conv.', '0.')}"] = value
    ours.load_state_dict(state)
    x, g = torch.randn(2, 4, 9, 7), torch.randn(2, 5, 9, 7)
    with torch.no_grad():
        expected, found = theirs(g=g, x=x), ours(x, g)
    assert (expected / x).std() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_coarse_gate_computes_on_the_grid_of_g():
    gate = lively(AttentionGate(4, 6, 3, grid="coarse"))
    x, g = torch.randn(1, 4, 8, 12), torch.randn(1, 6, 4, 6)
    with torch.no_grad():
        alpha = gate.alpha(x, g)
        score = F.conv2d(x, gate.w_x[0].weight, gate.w_x[0].bias, stride=2)
        coarse = gate.psi(F.relu(gate.w_x[1](score) + gate.w_g(g))).sigmoid()
        assert coarse.shape == (1, 1, 4, 6)
        expected = F.interpolate(coarse, (8, 12), mode="bilinear")
        torch.testing.assert_close(alpha, expected)
        torch.testing.assert_close(gate(x, g), expected * x)


@pytest.mark.parametrize("grid", ["skip", "coarse"])
def test_gate_opens_and_closes(grid):
    gate = AttentionGate(3, 3, 2, grid).eval()
    x, g = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    g = g[..., ::2, ::2] if grid == "coarse" else g
    with torch.no_grad():
        for bias, expected in [(30.0, x), (-30.0, torch.zeros_like(x))]:
            gate.psi[1].bias.fill_(bias)
            torch.testing.assert_close(gate(x, g), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", ["skip", "coarse"])
def test_gates_are_those_of_the_forward_pass(grid):
    torch.manual_seed(0)
    net = AttentionUNet(1, 2, base_channels=2, depth=3, grid=grid).eval()
    x = torch.rand(2, 1, 27, 30)
    seen = []
    for module in net.modules():
        if isinstance(module, AttentionGate):
            module.register_forward_hook(
                lambda gate, args, out: seen.append((gate.alpha(*args), *args, out))
            )
    with torch.no_grad():
        net(x)
        forward = list(seen)
        alphas = net.gates(x)
    assert [tuple(a.shape) for a in alphas] == [
        (2, 1, 8, 8),
        (2, 1, 16, 16),
        (2, 1, 27, 30),
    ]
    for alpha, (expected, skip, _, out) in zip(alphas, forward, strict=True):
        assert alpha.min() > 0
        assert alpha.max() < 1
        height, width = alpha.shape[-2:]
        torch.testing.assert_close(alpha, expected[..., :height, :width])
        torch.testing.assert_close(out, expected * skip)


def test_attention_up_with_open_gates_is_a_plain_join():
    torch.manual_seed(0)
    up = AttentionUp(4, 2).eval()
    nn.init.constant_(up.gate.psi[1].bias, 30.0)
    below, skip = torch.randn(1, 4, 3, 5), torch.randn(1, 2, 6, 10)
    with torch.no_grad():
        plain = up.conv(torch.cat([skip, up.up(below)], dim=1))
        torch.testing.assert_close(up(below, skip), plain, rtol=0, atol=1e-5)


# U-Net++.


def monai_weights(theirs: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a BasicUNetPlusPlus under the names of ours."""
    state = {}
    for name, value in theirs.state_dict().items():
        block, *rest = name.split(".")
        kind, i, j = block.rsplit("_", 2)
        new = ["inc" if i == "0" else f"down{i}"] if kind == "conv" else [f"x{i}_{j}"]
        if kind == "final_conv":
            new = ["heads", str(int(j) - 1), "conv"]
        elif rest[0] == "upsample":
            new.append("up")
        else:
            new += {"conv": ["maxpool_conv", "1"], "upcat": ["conv"]}[kind]
            if new[0] == "inc":
                new = new[:1]
            at = 3 * int(next(r for r in rest if r.startswith("conv_"))[-1])
            new += ["double_conv", str(at + ("adn" in rest))]
        state[".".join([*new, rest[-1]])] = value
    return state


@pytest.mark.parametrize("base", [2, 3])
def test_unet_plus_plus_is_monais(base):
    from monai.networks.nets import BasicUNetPlusPlus

    features = tuple(base * 2**level for level in range(5))
    torch.manual_seed(0)
    theirs = BasicUNetPlusPlus(
        2, 1, 2, (*features, base), True, act="RELU", norm="batch"
    )
    lively(theirs)
    ours = UNetPlusPlus(1, 2, base_channels=base, up="transposed_wide").eval()
    ours.load_state_dict(monai_weights(theirs))
    x = torch.rand(2, 1, 32, 48)
    with torch.no_grad():
        expected, found = theirs(x), ours.all_logits(x)
        torch.testing.assert_close(ours(x), found[-1], rtol=0, atol=0)
    assert len(found) == len(expected) == 4
    for a, b in zip(found, expected, strict=True):
        assert b.std() > 0.01
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("up", ["transposed", "transposed_wide", "bilinear"])
def test_pruned(up):
    torch.manual_seed(0)
    net = lively(UNetPlusPlus(1, 3, base_channels=2, depth=3, up=up))
    x = torch.rand(1, 1, 16, 24)
    sizes = []
    with torch.no_grad():
        every = net.all_logits(x)
        for depth, expected in enumerate(every, start=1):
            small = net.pruned(depth)
            assert not small.training
            torch.testing.assert_close(small(x), expected, rtol=0, atol=1e-6)
            names = {name for name, _ in small.named_children()}
            assert f"x0_{depth}" in names
            assert f"x0_{depth + 1}" not in names
            sizes.append(count(small))
        # A copy: what is done to it does not reach the large network.
        nn.init.zeros_(net.pruned(1).heads[0].conv.weight)
        torch.testing.assert_close(net.all_logits(x)[0], every[0])
    assert sizes[0] < sizes[1] < sizes[2] == count(net)


def test_node_joins_all_before_it():
    with torch.device("meta"):
        net = UNetPlusPlus(1, 1, base_channels=4)
        inputs = {
            name: node.conv.double_conv[0].in_channels
            for name, node in net.named_children()
            if isinstance(node, NestedUp)
        }
    # j maps of its own level and one that is enlarged: (j + 1) times the width.
    assert inputs == {
        f"x{i}_{j}": (j + 1) * 4 * 2**i for j in range(1, 5) for i in range(5 - j)
    }


# UNet 3+.


@pytest.mark.parametrize("level", [0, 1, 2])
def test_full_scale_node(level):
    node = FullScaleNode([2, 3, 5], level, 4).eval()
    maps = [torch.rand(1, c, 16 >> k, 24 >> k) for k, c in enumerate([2, 3, 5])]
    assert node(*maps).shape == (1, 12, 16 >> level, 24 >> level)


def test_to_level():
    x = torch.rand(1, 2, 8, 12)
    assert to_level(x, 1, 1) is x
    pooled = x.unfold(2, 4, 4).unfold(3, 4, 4).amax((-1, -2))
    assert torch.equal(to_level(x, 0, 2), pooled)
    flat = torch.full((1, 1, 2, 3), 7.0)
    assert torch.equal(to_level(flat, 2, 0), torch.full((1, 1, 8, 12), 7.0))


def test_every_node_of_unet_3plus_sees_five_maps():
    with torch.device("meta"):
        net = UNet3Plus(1, 2)
        maps = net.decode(torch.empty(1, 1, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (1024, 2, 2),
        *[(320, side, side) for side in (4, 8, 16, 32)],
    ]
    nodes = [m for m in net.modules() if isinstance(m, FullScaleNode)]
    assert [len(node.branches) for node in nodes] == [5] * 4
    # The widest node: one map of the encoder, three of the decoder, the deepest.
    widest = [branch[0].in_channels for branch in nodes[-1].branches]
    assert widest == [64, 320, 320, 320, 1024]
    assert {b[0].out_channels for node in nodes for b in node.branches} == {64}


# Deep supervision.

DEEP = {
    "U-Net++": (lambda **k: UNetPlusPlus(1, 2, base_channels=2, depth=3, **k), 3),
    "UNet 3+": (lambda **k: UNet3Plus(1, 2, base_channels=2, depth=3, **k), 4),
}


@pytest.mark.parametrize(("build", "heads"), DEEP.values(), ids=DEEP)
def test_all_logits(build, heads):
    x = torch.rand(2, 1, 19, 26)
    for net, n in [(build(), heads), (build(deep_supervision=False), 1)]:
        net.eval()
        with torch.no_grad():
            found = net.all_logits(x)
            assert [tuple(z.shape) for z in found] == [(2, 2, 19, 26)] * n
            torch.testing.assert_close(found[-1], net(x))


@pytest.mark.parametrize(("build", "heads"), DEEP.values(), ids=DEEP)
def test_training_loss_is_the_mean_over_heads(build, heads):
    net = lively(build())
    x, mask = torch.rand(2, 1, 16, 16), torch.randint(0, 2, (2, 16, 16))
    each = [F.cross_entropy(z, mask) for z in net.all_logits(x)]
    assert len(each) == heads
    value = net.training_loss(x, mask, F.cross_entropy)
    torch.testing.assert_close(value, sum(each) / heads)
    value.backward()
    assert all(p.grad is not None for p in net.parameters())


ILL = {
    "grid": (
        lambda: AttentionUNet(1, 2, grid="fine"),
        r"grid must be one of skip, coarse; got 'fine'",
    ),
    "gate's grid": (
        lambda: AttentionGate(2, 2, 1, grid=None),
        r"grid must be one of skip, coarse; got None",
    ),
    "gate's channels": (
        lambda: AttentionGate(2, 2, 0),
        r"mid_channels must be an integer >= 1, got 0",
    ),
    "one channel to gate": (
        lambda: AttentionUNet(1, 2, base_channels=1),
        r"base_channels must be an integer >= 2, got 1",
    ),
    "up": (
        lambda: UNetPlusPlus(1, 2, up="nearest"),
        r"up must be one of transposed, transposed_wide, bilinear; got 'nearest'",
    ),
    "base": (
        lambda: UNet3Plus(1, 2, base_channels=0),
        r"base_channels must be an integer >= 1, got 0",
    ),
    "depth": (
        lambda: UNetPlusPlus(1, 2, depth=0),
        r"depth must be an integer >= 1, got 0",
    ),
    "too shallow": (
        lambda: UNetPlusPlus(1, 2, base_channels=1, depth=2).pruned(0),
        r"depth must be one of 1, 2; got 0",
    ),
    "too deep": (
        lambda: UNetPlusPlus(1, 2, base_channels=1, depth=2).pruned(3),
        r"depth must be one of 1, 2; got 3",
    ),
    "no head": (
        lambda: UNetPlusPlus(
            1, 2, base_channels=1, depth=2, deep_supervision=False
        ).pruned(1),
        r"no head at depth 1\. Build and train it with deep_supervision=True",
    ),
}


@pytest.mark.parametrize(("build", "says"), ILL.values(), ids=ILL)
def test_ill_settings(build, says):
    with torch.device("meta"), pytest.raises(ValueError, match=says):
        build()
