"""The command line: what it writes, and one sentence where it cannot."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from unet_edu import UNet, studies, training
from unet_edu.checkpoints import load_model, load_unet, save_weights
from unet_edu.cli import app
from unet_edu.data import cells, download

TINY = (
    "--data cells --steps 2 --batch-size 2 --crop 32 --base-channels 2 --depth 2 --cpu"
)


@pytest.fixture(autouse=True, scope="module")
def small_cells():
    """Draw the command's images smaller, and once for all tests; use one thread."""
    whole = cells.Cells
    draw = functools.cache(lambda n, seed: whole(n, seed=seed, size=64))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "Cells", lambda n, *, seed, size: draw(n, seed))
        yield
    torch.set_num_threads(threads)


def unet_edu(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def train(out: Path, *more: object) -> Result:
    return unet_edu("train", "--out", out, *TINY.split(), "--epochs", 1, *more)


def assert_works(result: Result) -> None:
    assert result.exit_code == 0, result.output


def assert_says(result: Result, *parts: str) -> None:
    """The command failed with one sentence for people, not with a traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.stderr


@pytest.fixture(scope="module")
def run(small_cells, tmp_path_factory) -> Path:
    """A folder with a trained network."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    result = train(folder)
    assert_works(result)
    assert "membrane" in result.stdout
    assert str(folder / "best.safetensors") in result.stdout
    return folder


@pytest.fixture
def picture(tmp_path) -> Path:
    """A picture of odd sides, wider than high."""
    file = tmp_path / "slice.png"
    image = (cells.draw(3, 64).image[0, :37, :51] * 255).byte().numpy()
    Image.fromarray(image).save(file)
    return file


def test_help_lists_the_commands():
    # As a program of its own, once: the entry point and its imports.
    command = [sys.executable, "-m", "unet_edu.cli", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert shown.returncode == 0, shown.stderr
    for name in ("data", "train", "evaluate", "predict", "export"):
        assert f" {name} " in shown.stdout


@pytest.mark.parametrize("command", ["data", "train", "evaluate", "predict", "export"])
def test_every_command_has_help(command):
    result = unet_edu(command, "--help")
    assert_works(result)
    assert f"Usage: root {command}" in result.stdout.replace("unet-edu", "root")


def test_train_writes_a_model_and_its_history(run):
    model = load_unet(run / "best.safetensors")
    assert model.config["n_classes"] == 2
    assert (model.base_channels, model.depth, model.padding) == (2, 2, 1)
    history = json.loads((run / "history.json").read_text())
    assert [(r["epoch"], r["step"]) for r in history] == [(1, 2)]
    assert len(history[0]["val_iou"]) == 2


def test_training_repeats(run, tmp_path):
    assert_works(train(tmp_path / "again"))
    assert_works(train(tmp_path / "other", "--seed", 1))
    first, again, other = (
        load_file(folder / "best.safetensors")
        for folder in (run, tmp_path / "again", tmp_path / "other")
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_training_into_a_folder_with_a_run(run):
    before = (run / "best.safetensors").read_bytes()
    assert_says(train(run), str(run), "--resume", "another folder")
    assert (run / "best.safetensors").read_bytes() == before


def test_resume_continues(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert_works(train(whole, "--epochs", 3))

    keep = training._Run.keep

    def keep_and_stop(self, model, optimizer, schedule, history) -> None:
        keep(self, model, optimizer, schedule, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "keep", keep_and_stop)
        assert train(broken, "--epochs", 3).exit_code != 0
    assert len(json.loads((broken / "history.json").read_text())) == 2
    assert_says(train(broken, "--epochs", 4, "--resume"), "epochs was 3, is 4")
    assert_works(train(broken, "--epochs", 3, "--resume"))
    history = (broken / "history.json").read_text()
    assert history == (whole / "history.json").read_text()
    one, two = (load_file(f / "best.safetensors") for f in (broken, whole))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_evaluate_writes_a_table(run):
    result = unet_edu("evaluate", run, "--data", "cells")
    assert_works(result)
    assert "6 (cells, held_out)" in result.stdout
    table = json.loads((run / "evaluation-cells-held_out.json").read_text())
    assert set(table) == {"loss", "accuracy", "iou", "dice"}
    assert f"{table['accuracy']:.3f}" in result.stdout
    # The best epoch was the only one: its record says the same.
    (record,) = json.loads((run / "history.json").read_text())
    assert table["iou"] == pytest.approx(record["val_iou"])


def test_evaluate_takes_a_file_of_weights(run, tmp_path):
    file = tmp_path / "copy.safetensors"
    file.write_bytes((run / "best.safetensors").read_bytes())
    assert_works(unet_edu("evaluate", file, "--data", "cells"))
    assert (tmp_path / "evaluation-cells-held_out.json").is_file()


@pytest.mark.parametrize(
    ("channels", "mode"), [(1, "L"), (3, "RGB")], ids=["gray", "colour"]
)
def test_predict_writes_masks_and_pictures(tmp_path, picture, channels, mode):
    torch.manual_seed(0)
    model = UNet(channels, 3, base_channels=2, depth=2, padding=1)
    save_weights(model, tmp_path / "net.safetensors")
    # Whatever the picture's own mode, it is turned into what the network takes.
    second = tmp_path / "second.jpg"
    Image.open(picture).convert("RGB").resize((20, 33)).save(second)
    out = tmp_path / "out"
    result = unet_edu(
        "predict", tmp_path / "net.safetensors", picture, second, "-o", out
    )
    assert_works(result)
    names = {
        f"{stem}-{what}.png"
        for stem in ("slice", "second")
        for what in ("mask", "overlay")
    }
    assert {f.name for f in out.iterdir()} == names
    for file in (picture, second):
        x = np.asarray(Image.open(file).convert(mode), dtype=np.float32) / 255
        x = torch.from_numpy(x.reshape(*x.shape[:2], channels)).permute(2, 0, 1)
        with torch.no_grad():
            expected = model.eval()(x[None]).argmax(1)[0]
        mask = Image.open(out / f"{file.stem}-mask.png")
        assert np.array_equal(np.asarray(mask), expected.numpy())
        overlay = Image.open(out / f"{file.stem}-overlay.png")
        assert (overlay.mode, overlay.size) == ("RGB", mask.size)


def test_predict_takes_an_unpadded_network(tmp_path, picture):
    model = UNet(1, 2, base_channels=2, depth=2, align="crop", norm=False)
    save_weights(model, tmp_path / "net.safetensors")
    assert_works(
        unet_edu("predict", tmp_path / "net.safetensors", picture, "-o", tmp_path)
    )
    assert Image.open(tmp_path / "slice-mask.png").size == (51, 37)


# --- What cannot be done is said in one sentence.


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--crop", 3], ["3x3", "depth 2", "use 4"]),
        (["--crop", 65], ["65x65", "64x64", "size=64"]),
        (["--epochs", 0], ["epochs", ">= 1", "got 0"]),
        (["--batch-size", 0], ["got 0"]),
        (["--steps", 0], ["got 0"]),
        (["--lr", 0], ["lr must be above 0", "got 0.0"]),
        (["--depth", 0], ["depth", "got 0"]),
        (["--lr", 1e20, "--steps", 4], ["The loss is nan at step"]),
        pytest.param(
            ["--crop", -4],
            ["-4"],
        ),
    ],
    ids=lambda v: " ".join(map(str, v)) if str(v[0]).startswith("--") else "",
)
def test_train_refuses(tmp_path, options, parts):
    assert_says(train(tmp_path / "run", *options), *parts)
    assert not (tmp_path / "run").exists()


def test_resume_with_another_network(run):
    assert_says(train(run, "--resume", "--base-channels", 3), "does not fit this UNet")


@pytest.fixture
def no_network(monkeypatch, tmp_path) -> Path:
    """An empty data folder, and a source at which nobody listens (port 9)."""
    known = {"train/image/0.png": "0" * 64}
    monkeypatch.setattr(
        download, "read_registry", lambda name: ("http://127.0.0.1:9/", known)
    )
    monkeypatch.setenv("UNET_EDU_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data"


def test_data_without_a_network(no_network):
    assert_says(unet_edu("data", "isbi2012"), str(no_network), "UNET_EDU_DATA")


def test_train_without_data(no_network, tmp_path, monkeypatch):
    from unet_edu.data import isbi2012

    monkeypatch.setitem(isbi2012.SPLITS, "train", range(1))
    assert_says(unet_edu("train", "--out", tmp_path / "run"), "UNET_EDU_DATA")


def test_data_cells_need_nothing():
    result = unet_edu("data", "cells")
    assert_works(result)
    assert "nothing to fetch" in result.stdout


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("isbi2012", ["6 images, 24 to 29", "0 cell, 1 membrane"]),
        ("wbc", ["60 images, 5 to 300", "0 ground, 1 cytoplasm, 2 nucleus"]),
    ],
)
def test_data_says_what_it_holds(monkeypatch, tmp_path, name, parts):
    monkeypatch.setenv("UNET_EDU_DATA", str(tmp_path))
    monkeypatch.setattr(download, "fetch", lambda name: [tmp_path] * 90)
    result = unet_edu("data", name)
    assert_works(result)
    for part in ("90 files", str(tmp_path), *parts):
        assert part in result.stdout


def test_experiment_lists_the_studies():
    result = unet_edu("experiment")
    assert_works(result)
    for name in ("fusion", "skip_levels", "few_images", "losses", "geometry"):
        assert name in result.stdout


def test_experiment_passes_its_options_on(monkeypatch, tmp_path):
    given = {}

    class Finished:
        conditions = "2 seeds"

    def run_study(name, **options):
        given.update(options, name=name)
        return Finished

    monkeypatch.setattr(studies, "run_study", run_study)
    out = tmp_path / "x.json"
    options = ["--seeds", 2, "--width", 64, "--quick", "--workers", 3, "--out", out]
    result = unet_edu("experiment", "fusion", *options)
    assert_works(result)
    assert result.stdout == "2 seeds\n"
    assert given == {
        "name": "fusion",
        "seeds": 2,
        "device": "cpu",
        "width": 64,
        "quick": True,
        "workers": 3,
        "out": out,
    }


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["nothing"], "study must be one of backbone, bench"),
        (["fusion", "--seeds", 0], "seeds must be an integer >= 1, got 0"),
        (["fusion", "--device", "tpu"], "device must be one of cpu, cuda"),
    ],
)
def test_ill_experiments(options, part):
    assert_says(unet_edu("experiment", *options), part)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        (lambda file: None, ["no weights at", "train --out"]),
        (lambda file: file.mkdir(), ["no weights at", "best.safetensors"]),
        (lambda file: file.write_bytes(b"no weights"), ["not a whole safetensors"]),
        (lambda file: save_weights(nn.Linear(1, 1), file), ["Linear, not a network"]),
    ],
    ids=["missing", "an empty folder", "damaged", "another model"],
)
def test_without_weights(tmp_path, picture, command, weights, parts):
    file = tmp_path / "net"
    weights(file)
    more = {
        "evaluate": ["--data", "cells"],
        "predict": [picture, "-o", tmp_path / "out"],
    }
    assert_says(unet_edu(command, file, *more[command]), *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"this is no picture", ["cannot identify image file"]),
        (b"\x89PNG\r\n\x1a\n", ["cannot identify image file"]),
        (None, ["No such file"]),
        ((3, 40), ["40x3", "use 4"]),
    ],
    ids=["text", "a cut PNG", "missing", "too small"],
)
def test_predict_refuses_a_picture(run, tmp_path, content, parts):
    file = tmp_path / "bad.png"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        Image.new("L", content).save(file)
    result = unet_edu("predict", run, file, "-o", tmp_path / "out")
    assert_says(result, str(file), *parts)
    assert not (tmp_path / "out").exists()


def test_predict_refuses_two_pictures_of_one_name(run, tmp_path, picture):
    (tmp_path / "b").mkdir()
    twin = tmp_path / "b" / "slice.jpg"
    Image.open(picture).save(twin)
    result = unet_edu("predict", run, picture, twin, "-o", tmp_path / "out")
    assert_says(result, "one name")


def test_predict_refuses_a_network_of_two_channels(tmp_path, picture):
    model = UNet(2, 2, base_channels=2, depth=2, padding=1)
    save_weights(model, tmp_path / "net.safetensors")
    result = unet_edu("predict", tmp_path / "net.safetensors", picture, "-o", tmp_path)
    assert_says(result, "neither gray nor colour")


def test_evaluate_refuses_a_network_of_other_classes(tmp_path):
    model = UNet(1, 3, base_channels=2, depth=2, padding=1)
    save_weights(model, tmp_path / "net.safetensors")
    result = unet_edu("evaluate", tmp_path / "net.safetensors", "--data", "cells")
    assert_says(result, "3", "2")


def test_evaluate_refuses_an_unknown_split(run):
    result = unet_edu("evaluate", run, "--data", "cells", "--split", "validation")
    assert_says(result, "validation", "held_out")


FAMILY = ["--model", "unetr", "--set", "embed_dim=8", "--set", "heads=2"]


def test_a_network_of_the_families_is_trained_evaluated_and_used(tmp_path, picture):
    run = tmp_path / "run"
    assert_works(train(run, *FAMILY, "--set", "layers=4"))
    model = load_model(run / "best.safetensors")
    assert model.config == {
        **{"name": "unetr", "n_channels": 1, "n_classes": 2, "base_channels": 2},
        **{"depth": 2, "embed_dim": 8, "heads": 2, "layers": 4},
    }
    assert_works(unet_edu("evaluate", run, "--data", "cells"))
    for tiles in ([], ["--tile", 32]):
        assert_works(unet_edu("predict", run, picture, "--out", tmp_path, *tiles))
        assert Image.open(tmp_path / "slice-mask.png").size == (51, 37)


def test_fcn_goes_the_same_way_but_not_in_tiles(tmp_path, picture):
    run = tmp_path / "run"
    assert_works(train(run, "--model", "fcn8s", "--depth", 3))
    assert_works(unet_edu("evaluate", run, "--data", "cells"))
    assert_works(unet_edu("predict", run, picture, "--out", tmp_path))
    result = unet_edu("predict", run, picture, "--out", tmp_path, "--tile", 32)
    assert_says(result, "FCN cannot be used tile by tile")


ILL_MODELS = [
    (["--model", "unett"], ["no model 'unett'", "Did you mean unet"]),
    (["--set", "width=3"], ["unet has no setting 'width'", "bilinear"]),
    (["--set", "width"], ["--set takes NAME=VALUE", "'width'"]),
    (["--model", "unetr", "--set", "heads=7"], ["heads"]),
    (["--set", "base_channels=many"], ["base_channels", "got 'many'"]),
]


@pytest.mark.parametrize(("arguments", "parts"), ILL_MODELS)
def test_ill_models(tmp_path, arguments, parts):
    assert_says(train(tmp_path / "run", *arguments), *parts)
    assert not (tmp_path / "run").exists()
