"""The figures, drawn off screen and then read back."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import nn

from unet_edu import plotting
from unet_edu.unet import UNet


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


def patches(figure, kind):
    return [p for p in figure.axes[0].patches if isinstance(p, kind)]


# --- draw_unet

DRAWN = {
    "article": ({}, 572),
    "paper": ({"align": "crop", "norm": False}, 572),
    "padded": ({"padding": 1}, 32),
    "bilinear": ({"padding": 1, "bilinear": True}, 32),
    "add": ({"padding": 1, "fuse": "add"}, 32),
    "no skip": ({"padding": 1, "fuse": "none"}, 32),
    "no skip, cropped": ({"align": "crop", "fuse": "none"}, 572),
    "depth 1": ({"padding": 1, "depth": 1}, 32),
    "depth 5": ({"padding": 1, "depth": 5}, 64),
    "evaluation": ({"padding": 1, "dropout": 0.5}, 32),
}


@pytest.mark.parametrize(("kwargs", "side"), DRAWN.values(), ids=DRAWN)
def test_arrows(kwargs, side):
    net = UNet(1, 2, base_channels=2, **kwargs).eval()
    figure = plotting.draw_unet(net, (1, 1, side, side))
    colours = [to_hex(p.get_edgecolor()) for p in patches(figure, FancyArrowPatch)]
    skips = 0 if net.fuse == "none" else net.depth
    assert colours.count(plotting.SKIP) == skips
    # One arrow more joins each stage to the next: inc, Down and Up of each level, outc.
    assert len(colours) - skips == 2 * net.depth + 2


def test_which_boxes_the_arrows_join():
    net = UNet(1, 2, base_channels=2, depth=2, padding=1)
    boxes, arrows = plotting._trace(net, (2, 1, 16, 24))
    names = [name for name, _ in boxes]
    joined = {(names[start], names[end]) for start, end in arrows}
    assert joined == {
        *[("image", "inc"), ("inc", "down1"), ("down1", "down2")],
        *[("down2", "up1"), ("down1", "up1"), ("up1", "up2"), ("inc", "up2")],
        ("up2", "outc"),
    }


def test_a_network_in_training_with_dropout():
    net = UNet(1, 1, base_channels=2, depth=1, padding=1, dropout=0.5)
    plotting.draw_unet(net, (1, 1, 16, 16))


@pytest.mark.parametrize("kwargs", [{}, {"align": "crop"}, {"bilinear": True}], ids=str)
def test_boxes_are_the_maps_of_a_real_pass(kwargs):
    net = UNet(3, 2, base_channels=2, depth=2, **kwargs)
    shape = (2, 3, 60, 76)
    boxes, _ = plotting._trace(net, shape)
    assert not any(module._forward_hooks for module in net.modules())
    real = [("image", shape)]
    for name, child in net.named_children():
        child.register_forward_hook(
            lambda _, args, out, name=name: real.append((name, tuple(out.shape)))
        )
    net(torch.rand(shape))
    assert boxes == real


def test_boxes_are_drawn_and_labelled():
    net = UNet(1, 2, base_channels=4, depth=1, padding=1)
    figure = plotting.draw_unet(net, (1, 1, 16, 24))
    assert len(patches(figure, Rectangle)) == 5  # image, inc, down1, up1, outc
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[2:6] == ["16×24\n4 ch", "inc", "8×12\n8 ch", "down1"]
    # Taller for a larger map, wider for more channels, lower for a deeper level.
    _, inc, down, up, _ = patches(figure, Rectangle)
    assert inc.get_height() == up.get_height() > down.get_height()
    assert inc.get_width() == up.get_width() < down.get_width()
    assert inc.get_y() == up.get_y() > down.get_y()


def test_square_maps_are_labelled_by_one_side():
    figure = plotting.draw_unet(UNet(1, 1, base_channels=2), (1, 1, 572, 572))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == "572²\n1 ch"
    assert texts[-2] == "564²\n1 ch"


def test_draw_unet_leaves_the_model_as_it_was():
    net = UNet(1, 1, base_channels=2, depth=1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    plotting.draw_unet(net, (1, 1, 30, 30))
    with pytest.raises(ValueError, match=r"Images of 9x9 do not fit"):
        plotting.draw_unet(net, (1, 1, 9, 9))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in net.parameters())
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_draw_unet_draws_other_networks():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    boxes, arrows = plotting._trace(net, (1, 1, 10, 12))
    shapes = [(1, 1, 10, 12), (1, 4, 8, 10), (1, 4, 8, 10), (1, 4, 4, 5)]
    assert boxes == list(zip(["image", "0", "1", "2"], shapes, strict=True))
    assert arrows == [(0, 1), (1, 2), (2, 3)]


# --- feature maps


@pytest.mark.parametrize(
    "shape", [(4, 4), (2, 3, 4, 4), (1, 1, 1, 4, 4), (4,)], ids=str
)
def test_feature_grid_refuses(shape):
    listed = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    says = rf"\(C, H, W\), got \({listed}\)\. Pass maps\[0\]"
    with pytest.raises(ValueError, match=says):
        plotting.feature_grid(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(6, 5, 4), (1, 6, 5, 4)], ids=str)
def test_feature_grid_shows_the_channels_that_vary_most(shape):
    torch.manual_seed(0)
    # Channel c varies c times as much as channel 1; its mean does not matter.
    maps = torch.randn(5, 4) * torch.arange(6.0)[:, None, None] + 100
    axes = plotting.feature_grid(maps.reshape(shape).requires_grad_(), n=3, columns=2)
    assert [ax.get_title() for ax in axes] == ["channel 5", "channel 4", "channel 3"]
    shown = axes[0].images[0].get_array()
    assert np.array_equal(shown, maps[5].numpy())
    axes[0].figure.canvas.draw()


def test_feature_grid_of_few_channels():
    assert len(plotting.feature_grid(torch.rand(3, 5, 5))) == 3


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        (torch.arange(101.0).reshape(1, 101), (1, 99)),
        (torch.full((3, 3), 2.0), (2, 3)),  # a constant still has a scale
        (torch.tensor([[torch.nan, 1.0, torch.inf]]), (1, 2)),
        (torch.full((2, 2), torch.nan), (0, 1)),
    ],
    ids=["ramp", "constant", "not finite", "nothing finite"],
)
def test_show_map_scales_from_the_1st_to_the_99th_percentile(ax, values, limits):
    plotting.show_map(ax, values)
    assert ax.images[0].get_clim() == limits
    ax.figure.canvas.draw()


# --- images, masks, errors


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [((4, 5), (4, 5)), ((1, 4, 5), (4, 5)), ((3, 4, 5), (4, 5, 3))],
    ids=str,
)
def test_show_image(ax, shape, drawn):
    plotting.show_image(ax, torch.rand(shape), "title")
    assert ax.images[0].get_array().shape == drawn
    assert ax.images[0].get_clim() == (0, 1)
    assert ax.get_title() == "title"


def test_show_mask_draws_a_border_for_each_class(ax):
    mask = torch.zeros(8, 9, dtype=torch.int64)
    mask[2:4, 2:4], mask[5:7, 5:8] = 1, 2
    plotting.show_mask(ax, torch.rand(1, 8, 9), mask)
    colours = [to_hex(c.get_edgecolor()[0]) for c in ax.collections]
    assert colours == [plotting.CLASSES[1], plotting.CLASSES[2]]
    # Half a pixel outside of the class's first and last.
    corners = ax.collections[1].get_paths()[0].get_extents().get_points().tolist()
    assert corners == [[4.5, 4.5], [7.5, 6.5]]
    ax.figure.canvas.draw()


def test_show_mask_of_nothing(ax):
    plotting.show_mask(ax, torch.rand(8, 9), torch.zeros(8, 9, dtype=torch.int64))
    assert len(ax.collections) == 0
    ax.figure.canvas.draw()


def test_show_errors_marks_what_was_missed_and_what_was_invented(ax):
    #                      right   missed  invented  another class: missed
    mask = torch.tensor([[0, 1, 2], [1, 2, 0], [0, 0, 2]])
    predicted = torch.tensor([[0, 1, 2], [0, 0, 1], [0, 2, 1]])
    plotting.show_errors(ax, torch.rand(3, 3, 3), predicted, mask, "errors")
    missed, invented = (image.get_array() for image in ax.images[1:])
    assert np.argwhere(missed[..., 3] > 0).tolist() == [[1, 0], [1, 1], [2, 2]]
    assert np.argwhere(invented[..., 3] > 0).tolist() == [[1, 2], [2, 1]]
    assert tuple(missed[1, 0, :3]) == to_rgb(plotting.MISSED)
    assert tuple(invented[1, 2, :3]) == to_rgb(plotting.INVENTED)
    ax.figure.canvas.draw()


# --- layout


@pytest.mark.parametrize(("n", "columns", "grid"), [(5, 3, (2, 3)), (2, None, (1, 2))])
def test_panels(n, columns, grid):
    axes = plotting.panels(n, columns)
    assert len(axes) == n
    assert axes[0].get_gridspec().get_geometry() == grid
    assert not any(ax.axison for ax in axes[0].figure.axes)  # the empty ones, too


def test_show_history_draws_held_out_values_where_there_are_any():
    history = [{"step": 10 * i, "loss": 1 / (i + 1)} for i in range(3)]
    left, right = plotting.show_history(history, {"all black": 0.5}).axes
    assert list(left.lines[0].get_ydata()) == [1, 1 / 2, 1 / 3]
    assert (len(left.lines), len(right.lines)) == (1, 1)
    for record in history:
        record |= {"val_loss": 2.0, "val_accuracy": 0.25}
    left, right = plotting.show_history(history, {"all black": 0.5}).axes
    assert list(left.lines[1].get_ydata()) == [2, 2, 2]
    assert list(right.lines[0].get_ydata()) == [0.25] * 3
    assert right.texts[0].get_text() == "all black"
    assert list(right.lines[1].get_ydata()) == [0.5, 0.5]


def test_style_is_set():
    with plt.rc_context():
        plotting.use_style()
        assert plt.rcParams["figure.constrained_layout.use"] is True
        assert plt.rcParams["image.cmap"] == "gray"
