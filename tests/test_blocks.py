"""The four blocks: shapes, counts, messages, gradients, and parity with MONAI."""

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import basic_unet as monai
from torch import nn

from unet_edu import blocks
from unet_edu.blocks import DoubleConv, Down, OutConv, Up, align_maps


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# (block, arguments, input shapes, output shape, parameters)
# A 3x3 convolution has 9 * in * out + out parameters, a batch norm 2 * out.
SHAPES = {
    "article": (DoubleConv, (1, 64), {}, [(2, 1, 20, 30)], (2, 64, 16, 26), 37_824),
    "no norm": (
        *(DoubleConv, (1, 64), {"norm": False}),
        *([(1, 1, 5, 5)], (1, 64, 1, 1), 640 + 36_928),
    ),
    "padded": (
        *(DoubleConv, (3, 5), {"padding": 1}),
        *([(1, 3, 7, 1)], (1, 5, 7, 1), 140 + 230 + 20),
    ),
    "padding 2": (
        *(DoubleConv, (1, 2), {"padding": 2, "norm": False}),
        *([(1, 1, 3, 4)], (1, 2, 7, 8), 20 + 38),
    ),
    "middle": (
        *(DoubleConv, (4, 2, 3), {"norm": False}),
        *([(1, 4, 9, 9)], (1, 2, 5, 5), 111 + 56),
    ),
    "down": (Down, (64, 128), {}, [(1, 64, 568, 568)], (1, 128, 280, 280), 221_952),
    "down odd": (
        *(Down, (2, 3), {"padding": 1, "norm": False}),
        *([(1, 2, 9, 8)], (1, 3, 4, 4), 57 + 84),
    ),
    "up": (
        *(Up, (1024, 512), {}),
        *([(1, 1024, 28, 28), (1, 512, 64, 64)], (1, 512, 60, 60), 9_178_624),
    ),
    "up crop": (
        *(Up, (8, 4), {"align": "crop", "norm": False}),
        *([(1, 8, 6, 7), (1, 4, 20, 22)], (1, 4, 8, 10), 132 + 292 + 148),
    ),
    "up add": (
        *(Up, (8, 4), {"fuse": "add", "norm": False}),
        *([(1, 8, 6, 7), (1, 4, 20, 22)], (1, 4, 16, 18), 132 + 148 + 148),
    ),
    "up none": (
        *(Up, (8, 4), {"fuse": "none", "norm": False, "padding": 1}),
        *([(1, 8, 6, 7), (1, 4, 13, 15)], (1, 4, 13, 15), 132 + 148 + 148),
    ),
    "up bilinear": (
        *(Up, (8, 2, True), {"norm": False, "padding": 1}),
        *([(1, 4, 6, 7), (1, 4, 12, 14)], (1, 2, 12, 14), 292 + 74),
    ),
    "out": (OutConv, (64, 2), {}, [(1, 64, 388, 388)], (1, 2, 388, 388), 130),
}


@pytest.mark.parametrize(
    ("block", "args", "kwargs", "inputs", "expected", "parameters"),
    SHAPES.values(),
    ids=SHAPES,
)
def test_shape_and_count(block, args, kwargs, inputs, expected, parameters):
    with torch.device("meta"):
        net = block(*args, **kwargs)
        out = net(*[torch.empty(shape) for shape in inputs])
    assert out.shape == expected
    assert count(net) == parameters


ILL = {
    "zero in": (DoubleConv, (0, 4), {}, r"in_channels must be an integer >= 1, got 0"),
    "float out": (DoubleConv, (1, 4.0), {}, r"out_channels .* integer >= 1, got 4\.0"),
    "bool": (DoubleConv, (True, 4), {}, r"in_channels .* got True"),
    "padding": (DoubleConv, (1, 4), {"padding": -1}, r"padding .* >= 0, got -1"),
    "down": (Down, (4, 0), {}, r"out_channels must be an integer >= 1, got 0"),
    "odd": (Up, (7, 4), {}, r"in_channels must be even.*got 7\. Use 8\."),
    "none": (Up, (0, 4), {}, r"in_channels must be an integer >= 2, got 0"),
    "align": (Up, (8, 4), {"align": "fit"}, r"align .* one of pad, crop; got 'fit'"),
    "fuse": (Up, (8, 4), {"fuse": None}, r"fuse .* concat, add, none; got None"),
    "up out": (Up, (8, -4), {}, r"out_channels must be an integer >= 1, got -4"),
}


@pytest.mark.parametrize(("block", "args", "kwargs", "says"), ILL.values(), ids=ILL)
def test_ill_settings(block, args, kwargs, says):
    with pytest.raises(ValueError, match=says):
        block(*args, **kwargs)


@pytest.mark.parametrize("middle", [0, -1])
def test_ill_middle(middle):
    with pytest.raises(ValueError, match=rf"mid_channels .* >= 1, got {middle}"):
        DoubleConv(1, 4, middle)


@pytest.mark.parametrize("align", blocks.ALIGN)
@pytest.mark.parametrize(("rows", "columns"), [(11, 12), (12, 11)])
def test_a_small_skip_is_refused(align, rows, columns):
    up = Up(4, 2, align=align)
    says = rf"skip is {rows}x{columns}, smaller .* 12x12\. Pass the map from below fi"
    with pytest.raises(ValueError, match=says):
        up(torch.zeros(1, 4, 6, 6), torch.zeros(1, 2, rows, columns))


def test_pad_centres_the_small_map_in_zeros():
    x, skip = torch.ones(1, 1, 2, 2), torch.rand(1, 3, 5, 4)
    padded, kept = align_maps(x, skip, "pad")
    # Of the odd difference in rows, the extra row lies at the bottom.
    expected = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]] + [[0] * 4] * 2)
    assert torch.equal(padded[0, 0], expected.float())
    assert torch.equal(kept, skip)


def test_crop_takes_the_middle_of_the_skip():
    x, skip = torch.rand(1, 3, 2, 2), torch.arange(20.0).reshape(1, 1, 5, 4)
    kept, cropped = align_maps(x, skip, "crop")
    assert torch.equal(kept, x)
    assert cropped.flatten().tolist() == [5, 6, 9, 10]


def test_concat_puts_the_skip_first():
    up = Up(4, 2, padding=1, norm=False)
    seen = []
    up.conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    below, skip = torch.rand(1, 4, 3, 3), torch.rand(1, 2, 6, 6)
    up(below, skip)
    assert torch.equal(seen[0], torch.cat([skip, up.up(below)], dim=1))


def test_addition_is_concatenation_with_tied_kernels():
    # conv(a + b) = conv(a) + conv(b), and that is one convolution of cat(a, b) whose
    # kernel holds the same weights twice.
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 4, 8, 8)
    weight, bias = torch.randn(5, 4, 3, 3), torch.randn(5)
    added = F.conv2d(a + b, weight, bias)
    tied = F.conv2d(torch.cat([a, b], 1), torch.cat([weight, weight], 1), bias)
    torch.testing.assert_close(added, tied, rtol=0, atol=1e-5)


def test_up_that_adds_is_an_up_that_concatenates_with_tied_kernels():
    torch.manual_seed(0)
    adds, joins = Up(8, 4, fuse="add"), Up(8, 4)
    state = adds.state_dict()
    first = "conv.double_conv.0.weight"
    joins.load_state_dict({**state, first: torch.cat([state[first]] * 2, dim=1)})
    below, skip = torch.randn(1, 8, 4, 5), torch.randn(1, 4, 10, 12)
    expected = joins.eval()(below, skip)
    assert expected.std() > 0.01  # or the two would agree for nothing
    torch.testing.assert_close(adds.eval()(below, skip), expected, rtol=0, atol=1e-5)


# Gradients against finite differences, of every input and every parameter. The inputs
# are continuous, so no pooling window has a tie; the seed keeps every ReLU further from
# its kink than the step of 1e-6.
GRADIENTS = {
    "double": (DoubleConv, (2, 2), {}, [(2, 2, 6, 6)]),
    "double no norm": (DoubleConv, (1, 2), {"norm": False}, [(1, 1, 6, 7)]),
    "double padded": (DoubleConv, (1, 2), {"padding": 1}, [(2, 1, 3, 4)]),
    "down": (Down, (1, 2), {}, [(2, 1, 11, 12)]),
    "concat": (Up, (4, 2), {}, [(1, 4, 2, 2), (1, 2, 6, 6)]),
    "add": (Up, (4, 2), {"fuse": "add"}, [(1, 4, 2, 2), (1, 2, 6, 6)]),
    "none": (Up, (4, 2), {"fuse": "none"}, [(1, 4, 2, 2), (1, 2, 6, 6)]),
    "bilinear": (Up, (4, 2, True), {}, [(1, 2, 2, 2), (1, 2, 6, 6)]),
    "pad odd": (Up, (4, 2), {"padding": 1}, [(1, 4, 2, 2), (1, 2, 5, 7)]),
    "crop": (Up, (4, 2), {"align": "crop"}, [(1, 4, 3, 3), (1, 2, 8, 9)]),
    "out": (OutConv, (3, 2), {}, [(2, 3, 2, 3)]),
}


@pytest.mark.parametrize(
    ("block", "args", "kwargs", "shapes"), GRADIENTS.values(), ids=GRADIENTS
)
def test_gradient(block, args, kwargs, shapes):
    torch.manual_seed(0)
    net = block(*args, **kwargs).double()
    names = [name for name, _ in net.named_parameters()]
    weights = [p.detach().requires_grad_() for p in net.parameters()]
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]

    def run(*values):
        state = dict(zip(names, values, strict=False))
        return torch.func.functional_call(net, state, values[len(names) :])

    assert torch.autograd.gradcheck(run, (*weights, *inputs))


# Parity with MONAI. Its basic U-Net has the same blocks in the same order, with
# padding 1, when it is asked for ReLU and batch norm (its own defaults are a leaky ReLU
# and instance norm).
MONAI = {"spatial_dims": 2, "act": "RELU", "norm": "batch", "bias": True}


def randomise(net: nn.Module) -> None:
    """Give every weight and every batch-norm statistic a value of its own."""
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        if value.is_floating_point():
            # A variance must be positive.
            low = 0.5 if name.endswith("running_var") else -0.5
            nn.init.uniform_(value, low, low + 1)


def transplant(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy our state into MONAI's module, which lists it in the same order."""
    state = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict(dict(state))


PARITY = {
    "DoubleConv": (
        *(DoubleConv(3, 4, padding=1), monai.TwoConv(in_chns=3, out_chns=4, **MONAI)),
        [(2, 3, 9, 8)],
    ),
    "Down": (
        *(Down(3, 4, padding=1), monai.Down(in_chns=3, out_chns=4, **MONAI)),
        [(2, 3, 9, 8)],  # odd: both drop the last row
    ),
    "Up": (
        Up(8, 5, padding=1),
        monai.UpCat(in_chns=8, cat_chns=4, out_chns=5, **MONAI),
        [(2, 8, 3, 4), (2, 4, 6, 8)],
    ),
    # Only where out = in / 2: ours keeps in / 2 channels between its convolutions,
    # MONAI's has out. Its default aligns corners, and has a convolution before.
    "Up bilinear": (
        Up(8, 4, True, padding=1),
        monai.UpCat(
            in_chns=4, cat_chns=4, out_chns=4, upsample="nontrainable", pre_conv=None,
            align_corners=False, **MONAI,
        ),
        [(2, 4, 3, 4), (2, 4, 6, 8)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "shapes"), PARITY.values(), ids=PARITY)
def test_monai_computes_the_same(ours, theirs, shapes):
    torch.manual_seed(0)
    randomise(ours)
    transplant(ours, theirs)
    inputs = [torch.randn(shape) for shape in shapes]
    expected = theirs.eval()(*inputs)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours.eval()(*inputs), expected, rtol=1e-5, atol=1e-5)


def test_monai_pads_an_odd_skip_otherwise():
    # MONAI repeats the last row and column where ours adds zeros: the enlarged maps are
    # equal but for these.
    below, skip = torch.randn(1, 4, 3, 3), torch.randn(1, 2, 7, 7)
    ours = Up(4, 2, padding=1)
    theirs = monai.UpCat(in_chns=4, cat_chns=2, out_chns=2, **MONAI)
    transplant(ours, theirs)
    seen = []
    ours.conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    theirs.convs.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    ours.eval()(below, skip), theirs.eval()(below, skip)
    torch.testing.assert_close(seen[0][..., :6, :6], seen[1][..., :6, :6])
    assert seen[0][:, 2:, 6:].abs().max() == 0
    assert seen[1][:, 2:, 6:].abs().min() > 0
