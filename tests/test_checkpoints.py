"""Files: whole or not there, and the weights that come back are those that went."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from unet_edu import UNet
from unet_edu.checkpoints import (
    load_unet,
    load_weights,
    save_weights,
    write_atomically,
    write_text,
)

SMALL = {"base_channels": 2, "depth": 2}


def net(seed: int = 0, n_channels: int = 1, n_classes: int = 2, **settings) -> UNet:
    torch.manual_seed(seed)
    return UNet(n_channels, n_classes, **SMALL | settings)


def same_weights(one: nn.Module, two: nn.Module) -> bool:
    one, two = one.state_dict(), two.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


# --- write_atomically


def test_a_file_is_written_and_its_folders_made(tmp_path):
    file = tmp_path / "a" / "b" / "file.txt"
    write_text(file, "第一")
    write_text(file, "第二")
    assert file.read_text(encoding="utf-8") == "第二"
    assert os.listdir(file.parent) == ["file.txt"]


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_if_writing_fails_the_old_file_stays(tmp_path, old, error):
    file = tmp_path / "file.txt"
    if old:
        file.write_text(old)

    def fail(partial):
        partial.write_text("half of the n")
        raise error("disk full")

    with pytest.raises(error, match="disk full"):
        write_atomically(file, fail)
    # No temporary file either.
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == (
        {"file.txt": "old"} if old else {}
    )


def test_while_it_is_written_readers_see_the_old_file(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("old")
    seen = []

    def write(partial):
        partial.write_text("new")
        seen.append(file.read_text())

    write_atomically(file, write)
    assert [*seen, file.read_text()] == ["old", "new"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o027], ids=oct)
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda file: write_text(file, "text"), id="text"),
        pytest.param(lambda file: save_weights(net(), file), id="weights"),
    ],
)
def test_the_umask_decides_who_may_read(tmp_path, umask, write):
    file = tmp_path / "file"
    before = os.umask(umask)
    try:
        write(file)
    finally:
        os.umask(before)
    assert oct(file.stat().st_mode & 0o777) == oct(0o666 & ~umask)


# --- weights

CONFIGS = [
    {},
    {"bilinear": True},
    {"padding": 1},
    {"align": "crop", "norm": False},
    {"fuse": "add", "padding": 1},
    {"fuse": "none", "bilinear": True},
    {"dropout": 0.25, "n_channels": 3, "n_classes": 1},
    {"depth": 1, "base_channels": 3},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_unet_comes_back(tmp_path, config):
    file = tmp_path / "net.safetensors"
    model = net(**config)
    # Running statistics are weights too: move them from where they begin.
    model.train()(torch.randn(2, model.n_channels, 44, 44))
    save_weights(model, file)
    loaded = load_unet(file)
    assert loaded.config == model.config
    assert same_weights(loaded, model)
    assert not loaded.training
    x = torch.randn(1, model.n_channels, 60, 60)
    with torch.no_grad():
        assert torch.equal(loaded(x), model.eval()(x))


def test_weights_in_channels_last_come_back(tmp_path):
    model = net().to(memory_format=torch.channels_last)
    save_weights(model, tmp_path / "net.safetensors")
    assert same_weights(load_unet(tmp_path / "net.safetensors"), model)


def test_load_weights_takes_any_module(tmp_path):
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    assert not same_weights(first, second)
    save_weights(first, tmp_path / "linear.safetensors")
    load_weights(second, tmp_path / "linear.safetensors")
    assert same_weights(first, second)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"base_channels": 4},
            r"inc\.double_conv\.0\.weight is \(2, 1,.*, in the model \(4, 1,",
        ),
        (
            {"n_classes": 3},
            r"outc\.conv\.weight is \(2, .*in the model \(3, .*\(2 diff",
        ),
        ({"depth": 3}, r"it has no down3\."),
        ({"depth": 1}, r"it has down2\..*, the model has not"),
        ({"bilinear": True}, r"it has up1\.up\.\w+, the model has not"),
        ({"norm": False}, r"it has no inc\.double_conv\.2\.weight"),
    ],
    ids=["width", "classes", "deeper", "shallower", "bilinear", "norm"],
)
def test_weights_of_another_network(tmp_path, other, message):
    file = tmp_path / "net.safetensors"
    save_weights(net(), file)
    model, untouched = net(1, **other), net(1, **other)
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(model, file)
    # The message names the file and the settings that would do.
    assert str(file) in str(caught.value)
    assert '"base_channels": 2' in str(caught.value)
    assert same_weights(model, untouched)


def damaged(make):
    """Return a writer of a whole file that is then changed by ``make``."""

    def write(file):
        save_weights(net(), file)
        file.write_bytes(make(file.read_bytes()))

    return write


def named_unet(**metadata):
    tensors = {"a": torch.zeros(1)}
    return lambda file: save_file(tensors, file, metadata={"model": "UNet"} | metadata)


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        pytest.param(lambda f: None, FileNotFoundError, r"no file .*net", id="missing"),
        pytest.param(lambda f: f.mkdir(), FileNotFoundError, r"no file", id="a folder"),
        pytest.param(
            damaged(lambda body: body[:-1]), ValueError, r"whole", id="a byte short"
        ),
        pytest.param(damaged(lambda body: body[:40]), ValueError, r"whole", id="cut"),
        pytest.param(damaged(lambda body: b""), ValueError, r"whole", id="empty"),
        pytest.param(
            lambda f: torch.save(net().state_dict(), f),
            ValueError,
            r"not a whole safetensors file",
            id="a pickle",
        ),
        pytest.param(
            lambda f: save_weights(nn.Linear(1, 1), f),
            ValueError,
            r"holds Linear, not a UNet\. .*load_weights",
            id="another model",
        ),
        pytest.param(
            lambda f: save_file({"a": torch.zeros(1)}, f),
            ValueError,
            r"weights without a name, not a UNet",
            id="no metadata",
        ),
        pytest.param(named_unet(), ValueError, r"net", id="no settings"),
        pytest.param(named_unet(config="null"), ValueError, r"net", id="null"),
        pytest.param(
            named_unet(config='{"n_channels": 1, "n_classes": 2, "wings": 2}'),
            ValueError,
            r"net",
            id="unknown setting",
        ),
    ],
)
def test_load_unet_refuses(tmp_path, write, error, message):
    file = tmp_path / "net.safetensors"
    write(file)
    with pytest.raises(error, match=message):
        load_unet(file)
