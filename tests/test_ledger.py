"""The ledger, against torchinfo, against autograd, and against numbers by hand."""

import copy

import pytest
import torch
import torchinfo
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from unet_edu.fcn import FCN, VGG16FCN
from unet_edu.ledger import Ledger, ledger
from unet_edu.unet import UNet

ARTICLE = (1, 1, 572, 572)


def on_meta(build, *args, **kwargs) -> nn.Module:
    with torch.device("meta"):
        return build(*args, **kwargs)


@pytest.fixture(scope="module")
def article() -> Ledger:
    return ledger(on_meta(UNet, 1, 1), ARTICLE)


class Chain(nn.Module):
    """Some layers in a row, as one stage."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Do(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


# --- the article's network, by hand


def test_rows_of_the_article(article):
    rows = [(s.name, s.kind, s.shape, s.receptive_field) for s in article.stages]
    assert rows == [
        ("inc", "DoubleConv", (1, 64, 568, 568), 5),
        ("down1", "Down", (1, 128, 280, 280), 14),
        ("down2", "Down", (1, 256, 136, 136), 32),
        ("down3", "Down", (1, 512, 64, 64), 68),
        ("down4", "Down", (1, 1024, 28, 28), 140),
        # On the way up, two 3x3 convolutions read 5 pixels, which lie in 3 cells of the
        # coarser map: 140 + 2 * 16, + 2 * 8. From up3 on, what a pixel sees depends on
        # where it lies in its cells, and the worst sees one more of the deepest: + 16.
        ("up1", "Up", (1, 512, 60, 60), 172),
        ("up2", "Up", (1, 256, 132, 132), 188),
        ("up3", "Up", (1, 128, 276, 276), 204),
        ("up4", "Up", (1, 64, 564, 564), 204),
        ("outc", "OutConv", (1, 1, 564, 564), 204),
    ]


def test_totals_of_the_article(article):
    assert article.parameters == 31_042_369
    assert article["down4"].parameters == 14_161_920
    assert article.mult_adds == sum(stage.mult_adds for stage in article.stages)


def test_mult_adds_by_hand(article):
    # A convolution costs its weights and bias once for each output pixel.
    assert article["outc"].mult_adds == 564**2 * 65
    assert article["inc"].mult_adds == 64 * (570**2 * (9 + 1) + 568**2 * (9 * 64 + 1))
    # A 2x2 transposed convolution of stride 2 costs its weights once for each *input*
    # pixel, its bias once for each output pixel.
    transposed = 28**2 * 1024 * 512 * 4 + 56**2 * 512
    double = 512 * (62**2 * (9 * 1024 + 1) + 60**2 * (9 * 512 + 1))
    assert article["up1"].mult_adds == transposed + double


def test_activation_bytes_by_hand(article):
    # Kept of inc: the image; of each convolution its output, for batch norm; of each
    # batch norm a mean and a deviation a channel, and its output, which is ReLU's.
    values = 572**2 + 64 * 2 * (570**2 + 568**2 + 2)
    assert article["inc"].activation_bytes == 4 * values
    # outc keeps its input, which up4's last ReLU had kept before.
    assert article["outc"].activation_bytes == 0


# --- against torchinfo

NETWORKS = {
    "article": (on_meta(UNet, 1, 1), ARTICLE),
    "paper": (on_meta(UNet, 1, 2, align="crop", norm=False), ARTICLE),
    "small": (on_meta(UNet, 1, 1, base_channels=3, depth=2), (2, 1, 61, 70)),
    "bilinear": (
        on_meta(UNet, 3, 2, True, base_channels=4, padding=1),
        (3, 3, 33, 40),
    ),
    "add": (on_meta(UNet, 1, 1, base_channels=4, fuse="add"), (1, 1, 172, 172)),
    "FCN": (on_meta(FCN, 1, 3, 4, base_channels=2, depth=3), (2, 1, 33, 40)),
    "VGG": (on_meta(VGG16FCN), (1, 3, 64, 97)),
}


@pytest.mark.parametrize(("net", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_reconciles_with_torchinfo(net, shape):
    found = ledger(net, shape)
    table = torchinfo.summary(net, shape, device="meta", verbose=0)
    assert found.parameters == table.total_params
    assert found.parameters == sum(p.numel() for p in net.parameters())

    # torchinfo counts the weights of a transposed convolution at each output pixel. Of
    # stride s, there are s^2 times as many as input pixels: 3 in 4 at stride 2 are one
    # too many. Of layers that are no convolution, which is batch norm here, it counts
    # the parameters once an image.
    too_many = 0
    for row in table.summary_list:
        if isinstance(row.module, nn.ConvTranspose2d):
            images, _, rows, columns = row.output_size
            inputs = images * rows * columns // row.module.stride[0] ** 2
            again = row.module.stride[0] ** 2 - 1
            too_many += again * inputs * row.module.weight.numel()
        elif isinstance(row.module, nn.BatchNorm2d):
            too_many += shape[0] * 2 * row.module.num_features
    assert too_many > 0
    assert table.total_mult_adds == found.mult_adds + too_many


def test_articles_difference_from_torchinfo(article):
    # The same once more, with numbers by hand.
    weights = sum(c * (c // 2) * 4 * n**2 for c, n in
                  [(1024, 28), (512, 60), (256, 132), (128, 276)])  # fmt: skip
    norm = 2 * 2 * (64 + 128 + 256 + 512 + 1024 + 512 + 256 + 128 + 64)
    assert article.mult_adds + 3 * weights + norm == 233_389_361_040


# --- receptive fields against gradients


def seen_by_gradient(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the greatest extent of the image that a gradient comes from.

    Weights of one and averages for maxima make the network linear and positive, so
    that a gradient is zero only where no path leads.
    """
    net = copy.deepcopy(net).double()
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                average = nn.AvgPool2d(
                    child.kernel_size, child.stride, child.padding, child.ceil_mode
                )
                setattr(module, name, average)
    for p in net.parameters():
        nn.init.ones_(p)
    greatest = 0
    for axis in (2, 3):
        lines = net(torch.ones(shape, dtype=torch.float64)).shape[axis]
        # One copy of the image for each line of the output, all in one batch.
        x = torch.ones((lines, *shape[1:]), dtype=torch.float64, requires_grad=True)
        out = net(x).movedim(axis, 1)
        sum(out[i, i].sum() for i in range(lines)).backward()
        for reach in x.grad.movedim(axis, 1).sum(dim=(2, 3)):
            seen = reach.nonzero()
            if len(seen):
                greatest = max(greatest, int(seen.max() - seen.min()) + 1)
    return greatest


TINY = {"base_channels": 1, "norm": False}
SEES = {
    "paper, depth 1": (UNet(1, 1, align="crop", depth=1, **TINY), (1, 1, 36, 36)),
    "paper, depth 2": (UNet(1, 1, align="crop", depth=2, **TINY), (1, 1, 60, 60)),
    "article": (UNet(1, 1, depth=2, **TINY), (1, 1, 55, 58)),
    "padded": (UNet(1, 1, depth=2, padding=1, **TINY), (1, 1, 57, 64)),
    "padded, depth 3": (UNet(1, 1, depth=3, padding=1, **TINY), (1, 1, 8, 120)),
    "bilinear": (
        UNet(1, 1, True, base_channels=2, norm=False, depth=2, padding=1),
        (1, 1, 57, 64),
    ),
    "no skip": (UNet(1, 1, depth=2, fuse="none", padding=1, **TINY), (1, 1, 57, 64)),
    "FCN": (FCN(1, 1, 4, base_channels=1, depth=2, norm=False), (1, 1, 50, 61)),
    "dilated": (
        Chain(nn.Conv2d(1, 1, 3, dilation=3), nn.Conv2d(1, 1, (2, 3), stride=(1, 2))),
        (1, 1, 20, 17),
    ),
    "same": (
        Chain(nn.Conv2d(1, 1, 3, padding="same", dilation=2), nn.Conv2d(1, 1, 4)),
        (1, 1, 12, 12),
    ),
    "strided pools": (
        Chain(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, stride=2), nn.Conv2d(1, 1, 2)),
        (1, 1, 25, 22),
    ),
    "pool, partial window": (
        Chain(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(1, 1, 2)),
        (1, 1, 10, 12),
    ),
    "transposed": (
        Chain(nn.ConvTranspose2d(1, 1, 4, 2, 1, 1), nn.Conv2d(1, 1, (3, 5))),
        (1, 1, 11, 9),
    ),
    "transposed, dilated": (
        Chain(nn.ConvTranspose2d(1, 1, 3, 2, 1, dilation=2), nn.Conv2d(1, 1, 3)),
        (1, 1, 11, 9),
    ),
    "zeros": (Chain(nn.ZeroPad2d((-2, 1, 0, 3)), nn.Conv2d(1, 1, 3)), (1, 1, 9, 9)),
    "reflected": (Chain(nn.ReflectionPad2d(3), nn.Conv2d(1, 1, 5)), (1, 1, 9, 9)),
    "repeated": (
        Chain(nn.ReplicationPad2d((1, 2, 3, 0)), nn.Conv2d(1, 1, 5)),
        (1, 1, 9, 9),
    ),
    # Round the border, the first position sees the last.
    "circular": (Chain(nn.CircularPad2d(1), nn.Conv2d(1, 1, 3)), (1, 1, 9, 9)),
    "nearest": (
        Chain(nn.Upsample(scale_factor=3, mode="nearest"), nn.Conv2d(1, 1, 4)),
        (1, 1, 9, 9),
    ),
    "bilinear, any size": (
        Chain(nn.Upsample(size=(13, 7), mode="bilinear"), nn.Conv2d(1, 1, 3)),
        (1, 1, 9, 9),
    ),
    "sliced": (
        Chain(Do(lambda x: x[..., 1::2, 1:-2]), nn.Conv2d(1, 1, 3)),
        (1, 1, 13, 13),
    ),
    "shifted and added": (
        Chain(Do(lambda x: x[..., 2:, :-3] + x[..., :-2, 3:]), nn.Conv2d(1, 1, 3)),
        (1, 1, 13, 13),
    ),
    "global": (
        Chain(nn.Conv2d(1, 1, 3), Do(lambda x: x * x.mean((2, 3), keepdim=True))),
        (1, 1, 9, 11),
    ),
}


@pytest.mark.parametrize(("net", "shape"), SEES.values(), ids=SEES)
def test_receptive_field_is_where_gradients_come_from(net, shape):
    assert ledger(net, shape).stages[-1].receptive_field == seen_by_gradient(net, shape)


def test_receptive_fields_in_the_table_are_not_the_whole_image():
    # The test above would say nothing of networks that see all of a small image.
    for name in ["paper, depth 2", "article", "padded", "bilinear", "no skip", "FCN"]:
        net, shape = SEES[name]
        assert ledger(net, shape).stages[-1].receptive_field < max(shape), name


def test_what_is_not_local_sees_everything():
    net = Chain(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(7 * 9, 2))
    stage = ledger(net, (4, 1, 9, 11))["layers"]
    assert (stage.shape, stage.receptive_field) == ((4, 2), 11)


BEYOND = {
    # Four inputs an axis where the ledger takes two.
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), (1, 1, 12, 12)),
    "area": (nn.Upsample(size=3, mode="area"), (1, 1, 12, 12)),
    # One input an axis where the ledger takes two.
    "nearest-exact": (
        nn.Sequential(nn.Upsample(size=6, mode="nearest-exact"), nn.Conv2d(1, 1, 2)),
        (1, 1, 9, 9),
    ),
    # Not local, but of one size with its input: taken to be element by element.
    "softmax": (nn.Softmax(dim=3), (1, 1, 5, 5)),
    "flip": (Do(lambda x: x + x.flip(3)), (1, 1, 5, 5)),
}


@pytest.mark.parametrize(("layer", "shape"), BEYOND.values(), ids=BEYOND)
def test_receptive_field_of_rarer_operations(layer, shape):
    net = Chain(layer)
    # Of equal values, the gradient of softmax would cancel: all of a row by definition.
    softmax = isinstance(layer, nn.Softmax)
    expected = shape[-1] if softmax else seen_by_gradient(net, shape)
    assert ledger(net, shape)["layers"].receptive_field == expected


# --- kept bytes against a real pass


def kept_by_a_real_pass(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Run on the CPU; return the bytes that autograd saves within stages, once each."""
    own = {t.untyped_storage()._cdata for t in [*net.parameters(), *net.buffers()]}
    within, kept, handles = [], {}, []
    for child in net.children():
        for stage in child if isinstance(child, nn.ModuleList) else [child]:
            handles.append(stage.register_forward_pre_hook(lambda *_: within.append(1)))
            handles.append(
                stage.register_forward_hook(lambda *_: within.pop() and None)
            )

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            # The first to save it decides; keeping it keeps its address its own.
            kept.setdefault(storage._cdata, (storage, bool(within)))
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        net(torch.rand(shape))
    for handle in handles:
        handle.remove()
    return sum(storage.nbytes() for storage, inside in kept.values() if inside)


KEEPS = {
    "article": (UNet(1, 1, base_channels=2, depth=2), (2, 1, 51, 60)),
    "paper": (
        UNet(1, 2, base_channels=2, depth=2, align="crop", norm=False),
        (1, 1, 60, 60),
    ),
    "bilinear": (UNet(1, 1, True, base_channels=2, depth=2, padding=1), (1, 1, 19, 24)),
    "add": (
        UNet(1, 1, base_channels=2, depth=2, padding=1, fuse="add"),
        (1, 1, 19, 24),
    ),
    "no skip": (
        UNet(1, 1, base_channels=2, depth=2, padding=1, fuse="none"),
        (1, 1, 19, 24),
    ),
    "dropout": (
        UNet(1, 1, base_channels=2, depth=2, padding=1, dropout=0.5),
        (1, 1, 19, 24),
    ),
    "FCN": (FCN(1, 3, 2, base_channels=2, depth=2), (2, 1, 19, 24)),
    "others": (
        Chain(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.AvgPool2d(2),
            nn.Dropout(0.3), nn.Sigmoid(), nn.Flatten(), nn.Softmax(1),
        ),
        (2, 1, 10, 10),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("net", "shape"), KEEPS.values(), ids=KEEPS)
def test_activation_bytes_are_those_of_a_real_pass(net, shape):
    found = ledger(net, shape).activation_bytes
    assert found == kept_by_a_real_pass(net, shape)
    assert found > 0


@pytest.mark.parametrize(
    "layer", [nn.Linear(8, 3), nn.PReLU()], ids=["linear", "prelu"]
)
def test_views_of_parameters_are_not_activations(layer):
    net = Chain(nn.Conv2d(1, 1, 1), nn.Flatten(), layer)
    found = ledger(net, (2, 1, 2, 4)).activation_bytes
    assert found == kept_by_a_real_pass(net, (2, 1, 2, 4))


def test_a_network_of_float64():
    found = ledger(Chain(nn.Conv2d(1, 1, 3)).double(), (1, 1, 8, 8))
    assert found.activation_bytes == 8 * 8 * 8


# --- the table


def test_text_holds_every_stage_and_the_totals(article):
    lines = str(article).splitlines()
    assert lines[0].split() == list(Ledger.HEADER)
    assert lines[2].split()[:5] == ["inc", "DoubleConv", "64x568x568", "5", "px"]
    total = ["total", "31,042,369", "208.45", "G", "1544.5", "MiB"]
    assert lines[-1].split() == total
    assert len(lines) == 1 + 1 + 10 + 1 + 1  # header, rule, stages, rule, total
    # No line is wider than the rule.
    assert max(map(len, lines)) == len(lines[1])


def test_html_holds_every_stage_and_the_totals(article):
    page = article._repr_html_()
    assert "One image of 1x572x572" in page
    assert page.count("<tr>") == page.count("</tr>") == 12
    cells = ("total", "", "", "", "31,042,369", "208.45 G", "1544.5 MiB")
    assert "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" in page


def test_html_is_escaped():
    odd = type("A<b>", (Chain,), {})
    net = nn.Sequential(odd(nn.Conv2d(1, 1, 3)))
    assert "A&lt;b&gt;" in ledger(net, (1, 1, 8, 8))._repr_html_()


def test_stages_by_name(article):
    assert article["up4"].kind == "Up"
    with pytest.raises(KeyError, match=r"no stage 'up5'; the stages are inc, down1, "):
        article["up5"]


def test_members_of_a_list_are_stages():
    found = ledger(on_meta(FCN, 1, 2, 8, base_channels=1, depth=3), (1, 1, 16, 16))
    names = [stage.name for stage in found.stages]
    assert names == ["inc", "downs.0", "downs.1", "downs.2", "head"]


# --- what it leaves, and what it refuses


def assert_untouched(net: nn.Module, before: dict, modes: list[bool]) -> None:
    after = dict(net.named_parameters()) | dict(net.named_buffers())
    assert list(after) == list(before)
    for name, (tensor, values) in before.items():
        assert after[name] is tensor, name
        assert torch.equal(tensor, values), name
        assert tensor.grad is None, name
    assert [module.training for module in net.modules()] == modes
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 60, 60), (1, 1, 10, 10)], ids=str)
def test_the_model_is_left_as_it_was(training, shape):
    net = UNet(1, 1, base_channels=2, depth=2).train(training)
    net.inc.eval()
    state = [*net.named_parameters(), *net.named_buffers()]
    before = {name: (tensor, tensor.detach().clone()) for name, tensor in state}
    modes = [module.training for module in net.modules()]
    if net.output_size(shape[-1]):
        ledger(net, shape)
    else:  # also if the forward pass raises
        with pytest.raises(ValueError, match="Images of 10x10 do not fit"):
            ledger(net, shape)
    assert_untouched(net, before, modes)


def test_works_without_gradients_and_for_fixed_parameters():
    net = UNet(1, 1, base_channels=2, depth=1)
    expected = ledger(net, (1, 1, 30, 30))
    with torch.no_grad():
        assert ledger(net, (1, 1, 30, 30)) == expected
    # With every parameter fixed, training keeps nothing.
    fixed = ledger(net.requires_grad_(False), (1, 1, 30, 30))
    assert fixed.activation_bytes == 0
    assert fixed.mult_adds == expected.mult_adds


@pytest.mark.parametrize("shape", [(1, 572, 572), (1, 1, 0, 8), (1, 1, 8, 8, 8)])
def test_ill_shapes(shape):
    says = rf"input_shape must be \(N, C, H, W\), got \({', '.join(map(str, shape))}\)"
    with pytest.raises(ValueError, match=says):
        ledger(UNet(1, 1, base_channels=1), shape)


def test_the_models_own_errors_come_through():
    with pytest.raises(ValueError, match=r"built for 1 channel\(s\).*have 3"):
        ledger(UNet(1, 1, base_channels=1), (1, 3, 572, 572))


def test_what_up_keeps_by_hand():
    # A padded map is copied where it is joined, so that the skip is kept once, by the
    # level that made it: the joined map is all that Up adds before its convolutions.
    net = UNet(1, 1, base_channels=2, depth=1, norm=False)
    found = ledger(net, (1, 1, 30, 30))
    joined, first, second = 4 * 26**2, 2 * 24**2, 2 * 22**2
    assert found["up1"].activation_bytes == 4 * (joined + first + second)
