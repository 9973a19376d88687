"""Prediction: a whole image in, a whole image out, whatever the network's geometry."""

import numpy as np
import pytest
import torch

from unet_edu import UNet
from unet_edu.inference import predict

# The three geometries that have a name in the book, on two levels.
GEOMETRIES = {
    "practical": {"padding": 1},
    "article": {},
    "paper": {"align": "crop", "norm": False},
}


def net(geometry: str, n_classes: int = 2, **settings) -> UNet:
    """Return a network whose running statistics are not those of its first day."""
    torch.manual_seed(0)
    small = {"base_channels": 2, "depth": 2}
    model = UNet(1, n_classes, **small | GEOMETRIES[geometry] | settings)
    with torch.no_grad():
        model.train()(torch.rand(4, 1, 44, 44))
    return model.eval()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "size",
    # The article's network loses 4 pixels a side, the paper's 20 (depth 2): the
    # smallest images must be mirrored several times.
    [(5, 7), (4, 30), (17, 16), (31, 50), (64, 64)],
    ids="{0[0]}x{0[1]}".format,
)
@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_sizes_in_are_sizes_out_and_probabilities_sum_to_one(geometry, size, n_classes):
    probabilities = predict(net(geometry, n_classes), torch.rand(2, 1, *size))
    assert probabilities.shape == (2, max(n_classes, 2), *size)
    assert probabilities.dtype == torch.float32
    assert probabilities.min() >= 0
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, *size))
    # A constant answer would pass all of the above.
    assert probabilities.std() > 0


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_other_depths(geometry, depth):
    x = torch.rand(1, 1, 13, 18)
    model = UNet(1, 2, base_channels=2, depth=depth, **GEOMETRIES[geometry])
    assert predict(model, x).shape == (1, 2, 13, 18)


def test_a_padded_network_is_a_softmax_away():
    model, x = net("practical"), torch.rand(2, 1, 21, 30)
    with torch.no_grad():
        assert torch.equal(predict(model, x), model(x).softmax(1))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_one_logit_gives_the_sigmoid_and_its_rest(geometry):
    model, x = net(geometry, 1), torch.rand(1, 1, 24, 24)
    two = net(geometry, 2)
    # A network of two logits, of which the first is always zero, is the same one.
    state = model.state_dict()
    for name in ("outc.conv.weight", "outc.conv.bias"):
        state[name] = torch.cat([torch.zeros_like(state[name]), state[name]])
    two.load_state_dict(state)
    torch.testing.assert_close(predict(model, x), predict(two, x))
    if geometry == "practical":
        with torch.no_grad():
            expected = model(x)[:, 0].sigmoid()
        torch.testing.assert_close(predict(model, x)[:, 1], expected)


@pytest.mark.parametrize(
    ("geometry", "depth", "size", "far"),
    [
        # The paper's network sees no border at all, so all that it gives back counts.
        # predict adds half of what is lost, 8 and 20 pixels: multiples of 2^depth, so
        # the poolings cut both images in the same places.
        ("paper", 1, (48, 40), 0),
        ("paper", 2, (64, 72), 0),
        # The article's pads inside: what those zeros touch, near the border of the
        # output, differs. predict adds 4 pixels.
        ("article", 1, (48, 41), 8),
        ("article", 2, (88, 96), 28),
    ],
)
def test_inside_the_mirror_changes_nothing(geometry, depth, size, far):
    model, x = net(geometry, depth=depth), torch.rand(1, 1, *size)
    with torch.no_grad():
        inner = model(x).softmax(1)
    rows, columns = ((side - model.output_size(side)) // 2 for side in size)
    assert min(rows, columns) > 0
    whole = predict(model, x)
    middle = whole[..., rows : size[0] - rows, columns : size[1] - columns]
    assert middle.shape == inner.shape
    height, width = inner.shape[-2:]
    window = (..., slice(far, height - far), slice(far, width - far))
    assert inner[window].numel() > 0
    torch.testing.assert_close(middle[window], inner[window], rtol=0, atol=1e-5)


@pytest.mark.parametrize("geometry", ["article", "paper"])
@pytest.mark.parametrize("size", [(31, 50), (16, 16), (5, 9), (2, 3)], ids=str)
def test_what_the_network_sees_is_the_image_and_its_mirror(geometry, size):
    model, x, seen = net(geometry), torch.rand(2, 1, *size), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    predict(model, x)
    (extended,) = seen
    added = [
        after - before for after, before in zip(extended.shape, x.shape, strict=True)
    ]
    # NumPy mirrors as often as needed, by an implementation of its own.
    around = [(n // 2, n - n // 2) for n in added]
    expected = np.pad(x.numpy(), around, mode="reflect")
    assert np.array_equal(extended.numpy(), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_mode_is_restored_and_the_model_untouched(training, fails):
    model = net("practical").train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    if fails:
        with pytest.raises(ValueError, match="channel"):
            predict(model, torch.rand(1, 3, 16, 16))
    else:
        probabilities = predict(model, torch.rand(1, 1, 16, 16))
        assert not probabilities.requires_grad
    assert {m.training for m in model.modules()} == {training}
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_the_images_are_left_as_they_were():
    x = torch.rand(1, 1, 10, 10)
    before = x.clone()
    predict(net("paper"), x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("geometry", "images", "error", "message"),
    [
        ("practical", torch.rand(1, 16, 16), ValueError, r"pass x\[None\]"),
        ("paper", torch.rand(1, 16, 16), ValueError, r"pass x\[None\]"),
        ("practical", torch.rand(16, 16), ValueError, r"pass x\[None, None\]"),
        pytest.param(
            "paper",
            torch.rand(16, 16),
            ValueError,
            r"pass x\[None, None\]",
        ),
        (
            "paper",
            torch.rand(1, 2, 16, 16),
            ValueError,
            r"1 channel.* the images have 2",
        ),
        (
            "practical",
            torch.zeros(1, 1, 16, 16).long(),
            TypeError,
            r"x\.float\(\) / 255",
        ),
        ("paper", torch.zeros(1, 1, 16, 16).long(), TypeError, r"x\.float\(\) / 255"),
        pytest.param(
            "practical",
            torch.zeros(1, 1, 16, 16).numpy(),
            TypeError,
            r"got ndarray\. torch\.from_numpy",
        ),
        ("practical", torch.rand(1, 1, 3, 9), ValueError, r"Instead of 3, use 4"),
        ("paper", torch.rand(1, 1, 1, 9), ValueError, r"one pixel wide"),
    ],
    ids=lambda v: "x".join(map(str, v.shape)) if hasattr(v, "shape") else None,
)
def test_predict_refuses(geometry, images, error, message):
    with pytest.raises(error, match=message):
        predict(net(geometry), images)
