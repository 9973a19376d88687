"""A file that runs without Python gives what the network gives."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins import lively
from torch import nn

from unet_edu import UNet, export
from unet_edu.export import to_onnx
from unet_edu.families import create_model
from unet_edu.inference import predict
from unet_edu.studies import Result

ort = pytest.importorskip("onnxruntime")
PAGE = Path(__file__).parent.parent / "book" / "_static" / "live" / "network.onnx"


def run(path: Path, x: torch.Tensor) -> torch.Tensor:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options)
    (name,) = (i.name for i in session.get_inputs())
    assert name == "x"
    assert [o.name for o in session.get_outputs()] == ["logits"]
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        # From the smallest, over odd ones, to a whole slice.
        ({"n_classes": 2}, [(1, 8, 8), (3, 97, 131), (1, 64, 9), (1, 512, 512)]),
        ({"n_classes": 4, "n_channels": 3}, [(1, 64, 64), (2, 33, 50)]),
        ({"n_classes": 1, "bilinear": True}, [(1, 64, 64), (2, 41, 30)]),
        ({"n_classes": 2, "fuse": "add", "norm": False, "dropout": 0.5}, [(1, 70, 30)]),
    ],
    ids=["two", "four", "bilinear", "add"],
)
def test_a_padded_unet_takes_every_size(settings, sizes, tmp_path):
    settings = {"n_channels": 1, "base_channels": 4, "depth": 3} | settings
    model = lively(UNet(padding=1, **settings))
    path = to_onnx(model, tmp_path / "new" / "net.onnx")
    assert model.training, "the mode is the model's own"
    model.eval()
    for n, height, width in sizes:
        x = torch.rand(n, settings["n_channels"], height, width)
        with torch.no_grad():
            expected = model(x)
        found = run(path, x)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("align", "n_classes"), [("crop", 2), ("pad", 4)])
def test_an_unpadded_unet_takes_the_size_of_its_example(align, n_classes, tmp_path):
    model = UNet(1, n_classes, base_channels=4, depth=2, align=align, norm=False).eval()
    # An image of 50x61 has to be extended by its mirror image, and the answer to be
    # cut: that is predict's part, and not in the file.
    image = torch.rand(1, 1, 50, 61)
    seen = []
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    probabilities = predict(model, image)
    (extended,) = seen
    path = to_onnx(model, tmp_path / "net.onnx", extended)
    logits = run(path, extended)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(extended), rtol=1e-5, atol=1e-5)
    assert logits.shape[2] >= 50 or logits.shape[3] >= 61
    top = [(a - b) // 2 for a, b in zip(logits.shape[2:], (50, 61), strict=True)]
    assert probabilities.shape == (1, n_classes, 50, 61)
    assert min(top) >= 0
    three = torch.rand(3, *extended.shape[1:])
    with torch.no_grad():
        torch.testing.assert_close(run(path, three), model(three), rtol=1e-5, atol=1e-5)
    with pytest.raises(Exception, match=r"(?i)dimension"):
        run(path, torch.rand(1, 1, 8, 8))


def test_sizes_are_fixed_on_demand(tmp_path):
    model = UNet(1, 2, base_channels=4, depth=2, padding=1).eval()
    example = torch.rand(1, 1, 30, 41)
    path = to_onnx(model, tmp_path / "net.onnx", example, any_size=False)
    with torch.no_grad():
        torch.testing.assert_close(run(path, example), model(example))
    with pytest.raises(Exception, match=r"(?i)dimension"):
        run(path, torch.rand(1, 1, 32, 41))


def test_a_network_of_a_family(tmp_path):
    model = create_model("attention_unet", n_channels=1, n_classes=2, base_channels=4)
    x = torch.rand(1, 1, 64, 80)
    path = to_onnx(model, tmp_path / "net.onnx", x, any_size=False)
    with torch.no_grad():
        expected = model.eval()(x)
    torch.testing.assert_close(run(path, x), expected, rtol=1e-5, atol=1e-5)


def test_the_file_tells_nothing_of_the_machine(tmp_path):
    model = UNet(1, 2, base_channels=4, depth=2, padding=1)
    data = to_onnx(model, tmp_path / "net.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in data
    assert b"site-packages" not in data
    assert b".py" not in data
    again = to_onnx(model, tmp_path / "again.onnx").read_bytes()
    assert again == data
    # Weights, and a few kilobytes of graph; batch norms are folded into kernels.
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert weights - 4000 < len(data) < weights + 20_000


class Stubborn(nn.Module):
    """Decides by the values of its image, which no graph can follow."""

    n_channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) if x.sum() > 0 else self.conv(-x)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("net", {}, TypeError, r"Expected a torch.nn.Module, got str.*load_model"),
        (
            UNet(1, 2, base_channels=2, depth=1).half(),
            {},
            TypeError,
            r"float32, found torch.float16. Use model.float\(\)",
        ),
        (
            UNet(3, 2, base_channels=2, depth=1, padding=1),
            {"example": torch.rand(1, 1, 32, 32)},
            ValueError,
            r"built for 3 channel",
        ),
        (
            UNet(1, 2, base_channels=2, depth=1, padding=1),
            {"example": torch.rand(32, 32)},
            ValueError,
            r"Expected a batch .*x\[None, None\]",
        ),
        (Stubborn(), {}, ValueError, r"Stubborn cannot be written.*any_size=False"),
        (
            Stubborn(),
            {"any_size": False},
            ValueError,
            r"Stubborn cannot be written as a graph for images of this size\. +PyTorch",
        ),
    ],
    ids=["no module", "half", "channels", "rank", "any size", "one size"],
)
def test_ill_requests(model, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        to_onnx(model, tmp_path / "net.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_a_missing_exporter_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install onnx onnxscript"):
        to_onnx(UNet(1, 2, base_channels=2, depth=1), tmp_path / "net.onnx")


def test_an_interrupted_writing_leaves_the_old_file(monkeypatch, tmp_path):
    model = UNet(1, 2, base_channels=2, depth=1, padding=1)
    path = to_onnx(model, tmp_path / "net.onnx")
    old = path.read_bytes()

    def full_disk(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No room to write"):
        to_onnx(UNet(1, 2, base_channels=2, depth=1, padding=1), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


# Eight bits.


def images(n: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.rand(1, 1, 64, 64) for _ in range(n)]


@pytest.mark.parametrize("settings", [{}, {"bilinear": True}, {"norm": False}], ids=str)
def test_eight_bits_are_a_third_and_nearly_right(tmp_path, settings):
    torch.manual_seed(0)
    model = lively(UNet(1, 2, base_channels=16, depth=2, padding=1, **settings)).eval()
    floats = to_onnx(model, tmp_path / "net.onnx")
    whole = export.to_int8(floats, tmp_path / "made" / "int8.onnx", images())
    # Scales and the graph itself do not shrink.
    assert whole.stat().st_size < 0.45 * floats.stat().st_size
    x = images(1)[0]
    with torch.no_grad():
        expected = model(x)
    given = run(whole, x)
    assert not torch.equal(given, expected)
    assert (given - expected).abs().mean() < 0.1 * expected.std()


def test_eight_bits_give_the_same_bytes_again(tmp_path):
    torch.manual_seed(0)
    floats = to_onnx(
        UNet(1, 2, base_channels=4, depth=1, padding=1), tmp_path / "a.onnx"
    )
    one, two = (
        export.to_int8(floats, tmp_path / name, images()).read_bytes()
        for name in ("b", "c")
    )
    assert one == two


@pytest.mark.parametrize(
    ("path", "given", "error", "message"),
    [
        ("none.onnx", images(), FileNotFoundError, r"There is no file .*none\.onnx"),
        ("net.onnx", [], ValueError, "Without images nobody knows"),
    ],
)
def test_eight_bits_refuse(tmp_path, path, given, error, message):
    to_onnx(UNet(1, 2, base_channels=2, depth=1, padding=1), tmp_path / "net.onnx")
    with pytest.raises(error, match=message):
        export.to_int8(tmp_path / path, tmp_path / "out.onnx", given)
    assert not (tmp_path / "out.onnx").exists()


def test_without_the_runtime_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install onnx onnxruntime"):
        export.to_int8(tmp_path / "a", tmp_path / "b", images())


def test_importing_it_needs_no_onnx():
    assert "onnx" not in vars(export)
    assert not {"onnx", "onnxscript"} & set(vars(sys.modules["unet_edu.export"]))


# The network of chapter 23's page.


def page_run() -> dict:
    (run_,) = Result.read("browser").runs(role="page")
    return run_["values"]


def test_the_pages_file_is_the_one_that_the_study_made():
    data = PAGE.read_bytes()
    assert len(data) == page_run()["bytes"] <= 700_000
    assert hashlib.sha256(data).hexdigest() == page_run()["sha256"]


def test_the_pages_network_scores_what_the_study_says(isbi2012_files):
    from unet_edu import metrics
    from unet_edu.data import isbi2012

    confusion = 0
    for image, mask in isbi2012.load("held_out"):
        logits = run(PAGE, image[None])
        assert logits.shape == (1, 2, 512, 512)
        found = metrics.predicted_classes(logits)[0]
        confusion = confusion + metrics.confusion_matrix(found, mask, 2)
    values = page_run()
    accuracy = metrics.pixel_accuracy(confusion)
    np.testing.assert_allclose(accuracy, values["accuracy"], atol=1e-4)
    np.testing.assert_allclose(metrics.iou(confusion)[1], values["iou"], atol=1e-3)


def test_the_pages_drawn_cells_come_from_the_generator():
    import importlib.util

    from PIL import Image

    where = PAGE.parents[2] / "draw_samples.py"
    spec = importlib.util.spec_from_file_location("draw_samples", where)
    draw_samples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw_samples)
    stored = np.asarray(Image.open(draw_samples.TARGET)).astype(int)
    assert np.abs(stored - draw_samples.pixels()).max() <= 1
