"""The whole network: counts, sizes, messages, and parity with MONAI's basic U-Net."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchinfo
from monai.networks.nets import BasicUNet
from torch import nn

from unet_edu import blocks
from unet_edu.unet import UNet

PAPER = {"align": "crop", "norm": False}


def on_meta(*args, **kwargs) -> UNet:
    """A network of shapes without values: the largest costs nothing."""
    with torch.device("meta"):
        return UNet(*args, **kwargs)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def biases_before_norm(net: nn.Module) -> int:
    """Count the biases of 3x3 convolutions, which a batch norm takes away again."""
    return sum(
        m.bias.numel()
        for m in net.modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
    )


COUNTS = {
    "article": ((1, 1), {}, 31_042_369),
    "paper": ((1, 2), PAPER, 31_030_658),
    "padded": ((1, 1), {"padding": 1}, 31_042_369),
    "add": ((1, 1), {"fuse": "add"}, 27_908_929),
    "none": ((1, 1), {"fuse": "none"}, 27_908_929),
    "base 32": ((1, 1), {"base_channels": 32}, 7_765_409),
    "base 32 add": ((1, 1), {"base_channels": 32, "fuse": "add"}, 6_982_049),
    "base 16": ((1, 1), {"base_channels": 16}, 1_943_761),
    "base 16 add": ((1, 1), {"base_channels": 16, "fuse": "add"}, 1_747_921),
}


@pytest.mark.parametrize(("args", "kwargs", "expected"), COUNTS.values(), ids=COUNTS)
def test_parameter_count(args, kwargs, expected):
    assert count(on_meta(*args, **kwargs)) == expected


@pytest.mark.parametrize(
    ("bilinear", "expected"),
    # The counts of milesial/Pytorch-UNet, whose 3x3 convolutions have no bias.
    [(False, 31_036_481), (True, 17_261_825)],
)
def test_parameter_count_without_the_biases_before_a_norm(bilinear, expected):
    net = on_meta(1, 1, bilinear)
    assert count(net) - biases_before_norm(net) == expected


def test_torchinfo_table_of_the_article():
    table = torchinfo.summary(on_meta(1, 1), (1, 1, 572, 572), device="meta", verbose=0)
    rows = [
        (f"{row.class_name}: 1-{row.depth_index}", row.output_size)
        for row in table.summary_list
        if row.depth == 1
    ]
    assert rows == [
        ("DoubleConv: 1-1", [1, 64, 568, 568]),
        ("Down: 1-2", [1, 128, 280, 280]),
        ("Down: 1-3", [1, 256, 136, 136]),
        ("Down: 1-4", [1, 512, 64, 64]),
        ("Down: 1-5", [1, 1024, 28, 28]),
        ("Up: 1-6", [1, 512, 60, 60]),
        ("Up: 1-7", [1, 256, 132, 132]),
        ("Up: 1-8", [1, 128, 276, 276]),
        ("Up: 1-9", [1, 64, 564, 564]),
        ("OutConv: 1-10", [1, 1, 564, 564]),
    ]
    totals = [line for line in str(table).splitlines() if ": " in line][-8:]
    assert totals == [
        "Total params: 31,042,369",
        "Trainable params: 31,042,369",
        "Non-trainable params: 0",
        "Total mult-adds (Units.GIGABYTES): 233.39",
        "Input size (MB): 1.31",
        "Forward/backward pass size (MB): 2683.30",
        "Params size (MB): 124.17",
        "Estimated Total Size (MB): 2808.78",
    ]


# (arguments, input shape, output shape)
SHAPES = {
    "article": ((1, 1), {}, (1, 1, 572, 572), (1, 1, 564, 564)),
    "paper": ((1, 2), PAPER, (1, 1, 572, 572), (1, 2, 388, 388)),
    "padded odd": ((3, 5), {"padding": 1}, (2, 3, 97, 131), (2, 5, 97, 131)),
    "padded least": ((1, 1), {"padding": 1}, (2, 1, 16, 16), (2, 1, 16, 16)),
    "padded crop": (
        *((1, 1), {"padding": 1, "align": "crop"}),
        *((1, 1, 32, 48), (1, 1, 32, 48)),
    ),
    "bilinear": ((1, 1, True), {}, (1, 1, 572, 572), (1, 1, 564, 564)),
    "bilinear odd": (
        *((1, 1, True), {"padding": 1, "base_channels": 3}),
        *((1, 1, 97, 131), (1, 1, 97, 131)),
    ),
    "unlike sides": ((1, 1), PAPER, (1, 1, 188, 204), (1, 1, 4, 20)),
    "depth 1": ((1, 1), {"depth": 1, **PAPER}, (1, 1, 20, 20), (1, 1, 4, 4)),
    "depth 2": ((1, 1), {"depth": 2, **PAPER}, (1, 1, 44, 44), (1, 1, 4, 4)),
    "depth 3": ((1, 1), {"depth": 3, **PAPER}, (1, 1, 92, 92), (1, 1, 4, 4)),
    "depth 5": ((1, 1), {"depth": 5, **PAPER}, (1, 1, 380, 380), (1, 1, 4, 4)),
    "depth 5 padded": (
        *((1, 1), {"depth": 5, "padding": 1, "base_channels": 3}),
        *((2, 1, 33, 40), (2, 1, 33, 40)),
    ),
}


@pytest.mark.parametrize("fuse", blocks.FUSE)
@pytest.mark.parametrize(
    ("args", "kwargs", "shape", "expected"), SHAPES.values(), ids=SHAPES
)
def test_shape(args, kwargs, shape, expected, fuse):
    net = on_meta(*args, **{"base_channels": 2, "fuse": fuse, **kwargs})
    assert net(torch.empty(shape, device="meta")).shape == expected
    assert tuple(map(net.output_size, shape[2:])) == expected[2:]


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("base", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_computes_at_every_depth_and_odd_width(depth, base, bilinear):
    torch.manual_seed(0)
    net = UNet(1, 2, bilinear, base_channels=base, depth=depth, padding=1)
    net.eval()
    out = net(torch.rand(1, 1, 33, 37))
    assert out.shape == (1, 2, 33, 37)
    assert out.isfinite().all()


def test_level_sizes_of_the_paper():
    assert on_meta(1, 1).level_sizes(572) == [568, 280, 136, 64, 28]
    assert on_meta(1, 1, padding=1).level_sizes(97) == [97, 48, 24, 12, 6]
    assert on_meta(1, 1).level_sizes(131) is None


def test_sizes_of_the_paper():
    net = on_meta(1, 2, base_channels=1, **PAPER)
    found = {n: net.output_size(n) for n in range(-4, 700) if net.fits(n)}
    assert found == {n: n - 184 for n in range(188, 700) if n % 16 == 12}


SIZES = {
    f"depth {depth} padding {padding} {align}": (depth, padding, align, last)
    for depth, last in [(1, 31), (2, 63)]
    for padding in (0, 1)
    for align in blocks.ALIGN
}


@pytest.mark.parametrize(
    ("depth", "padding", "align", "last"), SIZES.values(), ids=SIZES
)
def test_output_size_is_that_of_a_run(depth, padding, align, last, monkeypatch):
    # The check is switched off, so that the run itself decides.
    monkeypatch.setattr(UNet, "check_size", lambda self, x: None)
    kwargs = {"depth": depth, "padding": padding, "align": align, "norm": False}
    net = on_meta(1, 1, base_channels=1, **kwargs)
    pooled = []
    for module in net.modules():
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_pre_hook(
                lambda _, args: pooled.append(args[0].shape[-1])
            )
    ran = 0
    for n in range(1, last):
        pooled.clear()
        try:
            side = net(torch.empty(1, 1, n, n, device="meta")).shape[-1]
        except (RuntimeError, ValueError):
            side = None
        # A network that crops runs on odd maps, too, half a pixel off: refused.
        if align == "crop" and any(p % 2 for p in pooled):
            side = None
        assert net.output_size(n) == side, f"{n} pixels"
        ran += side is not None
    assert 0 < ran < last - 1  # the range holds sizes of both kinds


ILL = {
    "channels": ({"n_channels": 0}, r"n_channels must be an integer >= 1, got 0"),
    "classes": ({"n_classes": "2"}, r"n_classes must be an integer >= 1, got '2'"),
    "width": ({"base_channels": 2.5}, r"base_channels .* integer >= 1, got 2\.5"),
    "depth": ({"depth": 0}, r"depth must be an integer >= 1, got 0"),
    "bool": ({"depth": True}, r"depth must be an integer >= 1, got True"),
    "padding": ({"padding": 2}, r"padding must be one of 0, 1; got 2"),
    "align": ({"align": "same"}, r"align must be one of pad, crop; got 'same'"),
    "fuse": ({"fuse": "sum"}, r"fuse must be one of concat, add, none; got 'sum'"),
    "certain": ({"dropout": 1.0}, r"dropout .* probability in \[0, 1\), got 1\.0"),
    "negative": ({"dropout": -0.1}, r"dropout .* probability in \[0, 1\), got -0\.1"),
}


@pytest.mark.parametrize(("kwargs", "says"), ILL.values(), ids=ILL)
def test_ill_settings(kwargs, says):
    with pytest.raises(ValueError, match=says):
        on_meta(**{"n_channels": 1, "n_classes": 1, **kwargs})


PADDED = {"padding": 1}
ILL_IMAGES = {
    "array": (PADDED, np.zeros((1, 1, 32, 32)), TypeError, r"got ndarray\. torch\.fro"),
    "2-D": (
        *(PADDED, torch.zeros(32, 32), ValueError),
        r"\(N, C, H, W\), got shape \(32, 32\)\. .* pass x\[None, None\]",
    ),
    "3-D": (
        *(PADDED, torch.zeros(1, 32, 32), ValueError),
        r"got shape \(1, 32, 32\)\. .* pass x\[None\]",
    ),
    "5-D": (
        *(PADDED, torch.zeros(1, 1, 1, 32, 32), ValueError),
        r"got shape \(1, 1, 1, 32, 32\)\.$",  # nothing to suggest
    ),
    "8 bits": (
        *(PADDED, torch.zeros(1, 1, 32, 32, dtype=torch.uint8), TypeError),
        r"got torch\.uint8\. .* pass x\.float\(\) / 255",
    ),
    "colour": (
        *(PADDED, torch.zeros(1, 3, 32, 32), ValueError),
        r"built for 1 channel\(s\), .* have 3 \(shape .*n_channels=3",
    ),
    "small": (
        *(PADDED, torch.zeros(1, 1, 20, 15), ValueError),
        r"20x15 do not fit .* depth 4 with padding=1 and align='pad': sides start at "
        r"16\. Instead of 15, use 16\.",
    ),
    "article": (
        *({}, torch.zeros(1, 1, 139, 572), ValueError),
        r"139x572 .* sides start at 140\. Instead of 139, use 140\.",
    ),
    "paper": (
        *(PAPER, torch.zeros(1, 1, 572, 573), ValueError),
        r"572x573 .* sides start at 188 and go on in steps of 16\. "
        r"Instead of 573, use 572 or 588\.",
    ),
    "paper small": (
        *(PAPER, torch.zeros(1, 1, 100, 101), ValueError),
        r"100x101 .* Instead of 100, use 188\.",
    ),
    "padded crop": (
        *({"padding": 1, "align": "crop"}, torch.zeros(1, 1, 97, 131), ValueError),
        r"97x131 .* start at 16 and go on in steps of 16\. .* 97, use 96 or 112\.",
    ),
}


@pytest.mark.parametrize(
    ("kwargs", "x", "error", "says"), ILL_IMAGES.values(), ids=ILL_IMAGES
)
def test_ill_images(kwargs, x, error, says):
    net = on_meta(1, 1, base_channels=1, **kwargs)
    with pytest.raises(error, match=says):
        net(x)


def test_the_least_size_of_the_article_runs():
    # The message above promises 140; 139 was refused. (In training, batch norm cannot
    # take the deepest map, one pixel of one image.)
    net = on_meta(1, 1, base_channels=1).eval()
    assert net(torch.empty(1, 1, 140, 140, device="meta")).shape[-1] == 132


def test_padding_contaminates_over_half_of_the_logits(monkeypatch):
    # Padded with NaN instead of zeros, every logit that a padded value reaches is NaN.
    # What stays clean is the box that the paper's network gives, which never pads.
    def pad_with_nan(x, amounts):
        return F.pad(x, amounts, value=torch.nan)

    class Functional:
        pad = staticmethod(pad_with_nan)

    monkeypatch.setattr(blocks, "F", Functional)
    torch.manual_seed(0)
    net = UNet(1, 1, base_channels=2).eval()
    with torch.no_grad():
        clean = ~net(torch.rand(1, 1, 572, 572))[0, 0].isnan()
    assert clean.shape == (564, 564)
    assert round(100 * (1 - clean.float().mean().item()), 1) == 52.7
    box = torch.zeros(564, 564, dtype=torch.bool)
    box[88:-88, 88:-88] = True
    assert box.sum() == 388**2
    assert torch.equal(clean, box)


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    kwargs = {"base_channels": 8, "depth": 2, "padding": 1, "norm": False}
    plain, dropping = UNet(1, 1, **kwargs), UNet(1, 1, **kwargs, dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 16, 16)
    assert torch.equal(dropping.eval()(x), plain(x))
    dropping.train()
    assert not torch.equal(dropping(x), dropping(x))
    # What it drops is values of the deepest map: about half, the others doubled.
    seen = []
    dropping.up1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    dropping(x)
    deepest = dropping.encode(x)[-1]
    assert torch.equal(seen[0][seen[0] > 0], 2 * deepest[seen[0] > 0])
    assert (seen[0][deepest > 0] == 0).any()


# Not with whatever weights come: a network this narrow is dead with some of them.
torch.manual_seed(0)
CONFIGS = {
    "default": UNet(1, 1, base_channels=2),
    "all other": UNet(
        3, 4, True, base_channels=3, depth=3, padding=1, align="crop", fuse="add",
        norm=False, dropout=0.25,
    ),
}  # fmt: skip


@pytest.mark.parametrize("net", CONFIGS.values(), ids=CONFIGS)
def test_config_builds_the_network_again(net):
    again = UNet(**net.config)
    assert again.config == net.config
    again.load_state_dict(net.state_dict())  # strict: the same names and shapes
    x = torch.rand(1, net.n_channels, 140 if net.padding == 0 else 32, 144)
    out = net.eval()(x)
    assert out.std() > 0  # a network of dead units would agree with any other
    assert torch.equal(again.eval()(x), out)


def test_config_holds_every_argument():
    assert CONFIGS["all other"].config == {
        "n_channels": 3,
        "n_classes": 4,
        "bilinear": True,
        "base_channels": 3,
        "depth": 3,
        "padding": 1,
        "align": "crop",
        "fuse": "add",
        "norm": False,
        "dropout": 0.25,
    }


def test_monai_computes_the_same():
    """Our network, its weights put into MONAI's, gives the same logits.

    MONAI's last up-convolution does not halve the channels (``halves=False``), so its
    output and the next convolution's input are wider than ours by ``base`` channels.
    The extra weights are set to zero, and the two networks are one function.
    """
    torch.manual_seed(0)
    base = 4
    ours = UNet(1, 3, base_channels=base, padding=1)
    for name, value in [*ours.named_parameters(), *ours.named_buffers()]:
        if value.is_floating_point():
            # A variance must be positive; large statistics would hide an error.
            low = 0.5 if name.endswith("running_var") else -0.5
            nn.init.uniform_(value, low, low + 1)
    features = [base * 2**level for level in range(5)] + [base]
    theirs = BasicUNet(2, 1, 3, features, act="RELU", norm="batch")

    state = {}
    for (name, to), value in zip(
        theirs.state_dict().items(), ours.state_dict().values(), strict=True
    ):
        wider = [after - now for after, now in zip(to.shape, value.shape, strict=True)]
        if any(wider):
            assert name.startswith("upcat_1")
            # F.pad counts from the last axis: (kernel columns, rows, axis 1, axis 0).
            amounts = [n for more in reversed(wider) for n in (0, more)]
            value = F.pad(value, amounts)
        state[name] = value
    theirs.load_state_dict(state)

    x = torch.randn(2, 1, 32, 48)  # divisible by 16: MONAI pads odd maps otherwise
    expected = theirs.eval()(x)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours.eval()(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "kwargs", [{}, PAPER, {"bilinear": True}, {"fuse": "add"}], ids=str
)
def test_every_parameter_learns(kwargs):
    torch.manual_seed(0)
    net = UNet(1, 2, base_channels=4, depth=2, **kwargs)
    net(torch.randn(2, 1, 60, 60)).square().sum().backward()
    still = [n for n, p in net.named_parameters() if not p.grad.abs().sum() > 0]
    assert still == []


def test_batch_norm_cannot_train_on_one_value():
    net = UNet(1, 1, base_channels=2, padding=1)
    one = torch.zeros(1, 1, 16, 16)
    with pytest.raises(ValueError, match=r"16x16 leaves a single value .* norm=False"):
        net(one)
    # Two images, a larger one, no batch norm, or use instead of training: all fine.
    assert net(one.repeat(2, 1, 1, 1)).shape == (2, 1, 16, 16)
    assert net(torch.zeros(1, 1, 32, 16)).shape == (1, 1, 32, 16)
    assert net.eval()(one).shape == one.shape
    assert UNet(1, 1, base_channels=2, padding=1, norm=False)(one).shape == one.shape
