"""Fully convolutional networks: shapes, counts, enlargement, and the sum of scores."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unet_edu.fcn import FCN, VGG16FCN, ScoreFusion, bilinear_kernel, bilinear_up


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def enlarge(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Enlarge by interpolation: the reference for ``bilinear_up``."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


# Odd sides, a side of one pixel, and sides that 32 divides.
@pytest.mark.parametrize("sides", [(97, 131), (33, 64), (64, 64), (1, 5)])
@pytest.mark.parametrize("stride", [32, 16, 8, 4, 2, 1])
def test_shape(stride, sides):
    with torch.device("meta"):
        net = FCN(3, 5, stride, base_channels=2)
        assert net(torch.empty(2, 3, *sides)).shape == (2, 5, *sides)
    # One score layer a level, from the deepest to the one of this stride.
    assert len(net.head.scores) == 6 - [1, 2, 4, 8, 16, 32].index(stride)


def test_another_depth():
    net = FCN(1, 2, 4, base_channels=2, depth=2).eval()
    assert net(torch.rand(1, 1, 9, 7)).shape == (1, 2, 9, 7)
    assert [score.in_channels for score in net.head.scores] == [8]


@pytest.mark.parametrize("stride", [32, 16, 8, 1])
def test_logits_are_zero_before_training(stride):
    torch.manual_seed(0)
    net = FCN(1, 3, stride, base_channels=2)
    assert torch.equal(net(torch.rand(2, 1, 33, 40)), torch.zeros(2, 3, 33, 40))


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_vgg_logits_are_zero_before_training(stride):
    # Too large to run in a test; a head of zeros gives zeros whatever it is given.
    with torch.device("meta"):
        net = VGG16FCN(stride=stride)
    channels = [score.in_channels for score in net.head.scores]
    assert channels == [4096, 512, 256][: len(channels)]
    head = ScoreFusion(channels, 21, stride)
    maps = [torch.rand(1, c, 2 * 2**i, 3 * 2**i) for i, c in enumerate(channels)]
    assert torch.equal(head(maps), torch.zeros(1, 21, 64, 96))


@pytest.mark.parametrize(
    ("stride", "expected"), [(32, 136_152_917), (16, 134_815_994), (8, 134_489_759)]
)
def test_vgg(stride, expected):
    with torch.device("meta"):
        net = VGG16FCN(21, stride)
        assert net(torch.empty(1, 3, 97, 131)).shape == (1, 21, 97, 131)
    assert count(net) == expected


def test_kernel_falls_linearly():
    assert bilinear_kernel(4)[0].tolist() == [1 / 16, 3 / 16, 3 / 16, 1 / 16]
    assert bilinear_kernel(3)[1].tolist() == [0.5, 1, 0.5]
    kernel = bilinear_kernel(16)
    assert torch.equal(kernel, kernel.T)
    # Each output pixel reads 2x2 inputs, whose weights add up to one.
    assert kernel.sum() == 8**2


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
def test_bilinear_up_is_interpolation_inside_the_border(factor):
    torch.manual_seed(0)
    x = torch.rand(2, 3, 4, 5)
    up, expected = bilinear_up(3, factor, fixed=True)(x), enlarge(x, factor)
    assert up.shape == expected.shape
    # A transposed convolution sees zeros around the map, interpolation its last pixel.
    edge = factor // 2
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    torch.testing.assert_close(up[inside], expected[inside], rtol=0, atol=1e-6)
    assert (up[..., :edge, :] < expected[..., :edge, :]).all()


@pytest.mark.parametrize("stride", [32, 16, 8, 2])
def test_final_enlargement_is_fixed_and_the_others_are_learned(stride):
    with torch.device("meta"):
        head = FCN(1, 2, stride, base_channels=2).head
    learned = {name: p.requires_grad for name, p in head.named_parameters()}
    assert learned.pop("final_up.weight") is False
    assert sum(name.startswith("ups.") for name in learned) == len(head.scores) - 1
    assert all(learned.values())


def test_stride_1_has_no_final_enlargement():
    assert isinstance(FCN(1, 2, 1, base_channels=2).head.final_up, nn.Identity)


CHANNELS, FINAL = [4, 3, 2], 4


def fusion(levels: set[int]) -> ScoreFusion:
    """Three levels, of which only the score layers of ``levels`` are not zero."""
    head = ScoreFusion(CHANNELS, 2, FINAL)
    generator = torch.Generator().manual_seed(0)
    for level, score in enumerate(head.scores):
        for p in score.parameters():
            values = torch.rand(p.shape, generator=generator)
            if level in levels:
                p.data = values
    return head


def maps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.rand(1, c, 4 * 2**i, 5 * 2**i, generator=generator)
        for i, c in enumerate(CHANNELS)
    ]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_one_score_alone_comes_out_enlarged(level):
    head, x = fusion({level}), maps()
    out = head(x)
    expected = head.scores[level](x[level])
    for _ in range(level, 2):
        expected = enlarge(expected, 2)
    expected = enlarge(expected, FINAL)
    assert out.shape == expected.shape == (1, 2, 64, 80)
    # The three enlargements spoil 1, 1 and 2 pixels at their borders, which are
    # 8 + 4 + 2 of the last; interpolation then reaches one pixel of the finest map
    # further, 4 of the last.
    inside = (..., slice(18, -18), slice(18, -18))
    assert expected[inside].std() > 0.01
    torch.testing.assert_close(out[inside], expected[inside], rtol=0, atol=1e-5)


def test_the_logits_are_the_sum_of_the_levels():
    alone = [fusion({level})(maps()) for level in (0, 1, 2)]
    together = fusion({0, 1, 2})(maps())
    torch.testing.assert_close(together, sum(alone), rtol=0, atol=1e-5)


def test_score_fusion_gradient():
    torch.manual_seed(0)
    head = ScoreFusion([3, 2], 2, 2).double()
    names = [name for name, _ in head.named_parameters()]
    # Random, not zero: at zero, half of the gradients would be zero.
    weights = [torch.randn_like(p).requires_grad_() for p in head.parameters()]
    x = [
        torch.randn(1, c, 2**i, 2 * 2**i, dtype=torch.float64, requires_grad=True)
        for i, c in enumerate([3, 2])
    ]

    def run(*values):
        state = dict(zip(names, values, strict=False))
        return torch.func.functional_call(head, state, (list(values[len(names) :]),))

    assert torch.autograd.gradcheck(run, (*weights, *x))


def test_an_image_is_extended_by_its_last_pixel():
    # Extended by hand, the image gives the same logits, which are then cut.
    torch.manual_seed(0)
    net = FCN(1, 2, 4, base_channels=4, depth=3).eval()
    for score in net.head.scores:
        nn.init.normal_(score.weight)
    x = torch.rand(1, 1, 13, 16)
    extended = torch.cat([x, *[x[:, :, -1:]] * 3], dim=2)
    expected = net(extended)[:, :, :13]
    assert expected.std() > 0
    assert torch.equal(net(x), expected)


ILL = {
    "stride 3": (FCN, (1, 2, 3), r"stride must be one of 1, 2, 4, 8, 16, 32; got 3"),
    "stride 64": (FCN, (1, 2, 64), r"stride must be one of .* 32; got 64"),
    "channels": (FCN, (0, 2), r"n_channels must be an integer >= 1, got 0"),
    "classes": (FCN, (1, 0), r"n_classes must be an integer >= 1, got 0"),
    "VGG stride": (VGG16FCN, (21, 4), r"stride must be one of 32, 16, 8; got 4"),
    "VGG classes": (VGG16FCN, (0,), r"n_classes must be an integer >= 1, got 0"),
}


@pytest.mark.parametrize(("net", "args", "says"), ILL.values(), ids=ILL)
def test_ill_settings(net, args, says):
    with torch.device("meta"), pytest.raises(ValueError, match=says):
        net(*args)


def test_ill_depth():
    with pytest.raises(ValueError, match=r"depth must be an integer >= 1, got 0"):
        FCN(1, 2, 1, depth=0)
    with pytest.raises(ValueError, match=r"stride must be one of 1, 2, 4; got 8"):
        FCN(1, 2, 8, depth=2)


ILL_IMAGES = {
    "3-D": (torch.zeros(1, 32, 32), ValueError, r"shape \(1, 32, 32\)\. .*x\[None\]"),
    "8 bits": (
        *(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), TypeError),
        r"got torch\.uint8\. .* x\.float\(\) / 255",
    ),
    "2 channels": (
        *(torch.zeros(1, 2, 32, 32), ValueError),
        r"built for [13] channel\(s\), the images have 2 ",
    ),
}


@pytest.mark.parametrize("build", [lambda: FCN(1, 2, base_channels=1), VGG16FCN])
@pytest.mark.parametrize(("x", "error", "says"), ILL_IMAGES.values(), ids=ILL_IMAGES)
def test_ill_images(build, x, error, says):
    with torch.device("meta"):
        net = build()
    with pytest.raises(error, match=says):
        net(x)
