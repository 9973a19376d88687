"""Prediction in tiles: every pixel, no seams, and no more memory than a few tiles."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from unet_edu import UNet, cli
from unet_edu.checkpoints import save_weights
from unet_edu.inference import predict, predict_tiled
from unet_edu.ledger import ledger
from unet_edu.runs import on_best_device

# The three geometries that have a name in the book, on two levels. There, the outputs
# of the article's network are 8 pixels smaller than its input, the paper's 40.
GEOMETRIES = {
    "practical": {"padding": 1},
    "article": {},
    "paper": {"align": "crop"},
}
# A small tile of each.
TILES = {"practical": 16, "article": 32, "paper": 52}


pytestmark = pytest.mark.usefixtures("one_thread")


def net(geometry: str, n_classes: int = 2, **settings) -> UNet:
    """Return a network whose running statistics are not those of its first day."""
    torch.manual_seed(0)
    small = {"base_channels": 4, "depth": 2}
    model = UNet(1, n_classes, **small | GEOMETRIES[geometry] | settings)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # The statistics of this one batch, so that the answers are not all alike.
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.rand(4, 1, 100, 100))
    return model.eval()


def tiled(model: UNet, image, *args, **kwargs):
    return predict_tiled(model, image, *args, progress=False, **kwargs)


def count_tiles(model: UNet) -> list[int]:
    """Return a list that grows by the size of each batch that the network sees."""
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    return seen


# --- Equal to the prediction of the whole image, where it can be.


@pytest.mark.parametrize("size", [(3, 2), (17, 30), (64, 64), (61, 83)], ids=str)
@pytest.mark.parametrize(
    # Depths 1 and 3 leave outputs that are no multiple of 2^depth.
    ("depth", "tile"),
    [(1, 22), (1, 40), (2, 44), (2, 64), (3, 100), (3, 108)],
)
@pytest.mark.parametrize("overlap", [None, 2])
def test_the_papers_network_answers_as_for_the_whole(size, depth, tile, overlap):
    model, image = net("paper", depth=depth), torch.rand(1, *size)
    if overlap and model.output_size(tile) < overlap + 2**depth:
        overlap = 0
    whole = predict(model, image[None])[0]
    answer = tiled(model, image, tile, overlap)
    assert whole[1].std() > 1e-2
    torch.testing.assert_close(answer, whole, rtol=0, atol=1e-5)


def starts(side, first, step, n, margin, grid) -> list[int]:
    """Return where the outputs of n pixels begin that cover a side and its margin."""
    found = [first]
    while found[-1] + n < side + margin:
        found.append(found[-1] + step)
    # The last one ends where the side does, or at the next multiple of the grid.
    too_far = max(0, found[-1] + n - side - margin) // grid * grid
    return [*found[:-1], max(first, found[-1] - too_far)]


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("geometry", "tile", "output", "overlap", "depth", "settings"),
    [
        ("practical", 160, 160, 16, 2, {}),
        ("practical", 160, 160, 16, 2, {"bilinear": True}),
        ("practical", 80, 80, 4, 1, {"norm": False}),
        ("article", 168, 160, 16, 2, {}),
        ("paper", 200, 160, 16, 2, {"bilinear": True}),
    ],
)
def test_far_from_every_edge_tiles_answer_as_the_whole(
    geometry, tile, output, overlap, depth, settings, blend
):
    side = (332, 340)
    model, image = net(geometry, depth=depth, **settings), torch.rand(1, *side)
    sees = ledger(model, (1, 1, 256, 256)).stages[-1].receptive_field
    assert 10 < sees < 60
    margin = 0 if geometry == "practical" else overlap // 2
    step = output - overlap
    far = []
    for n in side:
        place = np.arange(n)
        ok = (place >= sees) & (place < n - sees)
        for start in starts(n, -margin, step, output, margin, 2**depth):
            inside = (place >= start) & (place < start + output)
            near = (place - start < sees) | (start + output - 1 - place < sees)
            ok &= ~(inside & near)
        far.append(torch.from_numpy(ok))
    far = far[0][:, None] & far[1]
    # More than one tile has such pixels.
    assert far.any(0).int().diff().eq(1).sum() >= 2
    difference = tiled(model, image, tile, overlap, blend=blend)
    difference -= predict(model, image[None])[0]
    difference = difference.abs().amax(0)
    assert difference[far].max() < 1e-5
    # Near the edges they cannot, or the test would show nothing.
    assert difference[~far].max() > 1e-4


def test_at_the_border_a_padded_network_answers_as_for_the_whole():
    model, image = net("practical"), torch.rand(1, 96, 112)
    difference = tiled(model, image, 64, 16) - predict(model, image[None])[0]
    corner = difference.abs().amax(0)[:24, :24]
    assert corner.max() < 1e-5 < 1e-4 < difference.abs().max()
    far = difference.abs().amax(0)[-24:, -24:]
    assert far.max() < 1e-5


# --- The same by hand: mirror the whole image, add up tiles and weights, divide.


def by_hand(model, image, tile, border, overlap, margin, blend) -> Tensor:
    height, width = image.shape[1:]
    output = tile - 2 * border
    around = ((0, 0), (tile, tile), (tile, tile))
    mirrored = torch.from_numpy(np.pad(image.numpy(), around, mode="reflect"))
    place = torch.arange(output) - (output - 1) / 2
    line = torch.exp(-((place / (output / 8)) ** 2) / 2)
    window = line[:, None] * line if blend == "gaussian" else torch.ones(output, output)
    total = torch.zeros(model.n_classes, height + 2 * tile, width + 2 * tile)
    weight = torch.zeros(height + 2 * tile, width + 2 * tile)
    rows, columns = (
        starts(n, -margin, output - overlap, output, margin, 4) for n in (height, width)
    )
    for top, left in product(rows, columns):
        top, left = top + tile, left + tile
        piece = mirrored[
            :, top - border : top - border + tile, left - border : left - border + tile
        ]
        with torch.no_grad():
            answer = model(piece[None])[0].softmax(0)
        total[:, top : top + output, left : left + output] += answer * window
        weight[top : top + output, left : left + output] += window
    inside = (..., slice(tile, tile + height), slice(tile, tile + width))
    assert weight[inside].min() > 0
    return total[inside] / weight[inside]


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("overlap", "margin"), [(0, 0), (4, 4), (8, 4), (12, 8)], ids=str
)
@pytest.mark.parametrize(
    ("geometry", "tile", "border", "size"),
    [
        ("practical", 16, 0, (3, 2)),
        ("practical", 16, 0, (8, 8)),
        ("practical", 16, 0, (9, 31)),
        ("practical", 16, 0, (47, 71)),
        ("article", 32, 4, (24, 31)),
        ("article", 32, 4, (47, 71)),
    ],
)
def test_tiles_are_blended_as_by_hand(
    geometry, tile, border, size, overlap, margin, blend
):
    model, image = net(geometry, 3), torch.rand(1, *size)
    margin = 0 if geometry == "practical" else margin
    expected = by_hand(model, image, tile, border, overlap, margin, blend)
    for batch_size in (1, 3):
        answer = tiled(model, image, tile, overlap, blend=blend, batch_size=batch_size)
        torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)


# --- Every pixel is answered for.


@pytest.mark.parametrize(
    ("size", "n_tiles"),
    [
        # Steps of 12 pixels, the last one shorter.
        ((2, 2), (1, 1)),
        ((5, 7), (1, 1)),
        ((16, 17), (1, 2)),
        ((28, 29), (2, 3)),
        ((47, 71), (4, 6)),
        ((56, 80), (5, 7)),
        ((57, 33), (5, 3)),
    ],
    ids=str,
)
@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_no_pixel_is_left_out(geometry, n_classes, size, n_tiles):
    model = net(geometry, n_classes)
    overlap = 0 if geometry == "paper" else 4
    seen = count_tiles(model)
    image = torch.rand(1, *size)
    out = np.full((max(n_classes, 2), *size), np.nan, np.float32)
    assert tiled(model, image, TILES[geometry], overlap, out=out) is out
    np.testing.assert_allclose(out.sum(0), 1, atol=1e-5)
    assert out.min() >= 0
    assert out.std() > 0
    if geometry == "practical":
        assert len(seen) == n_tiles[0] * n_tiles[1]
    classes = np.full(size, 99, np.uint8)
    tiled(model, image, TILES[geometry], overlap, out=classes)
    assert np.array_equal(classes, out.argmax(0))


@pytest.mark.parametrize(
    ("geometry", "tile", "n_tiles"),
    [("paper", 52, 9), ("practical", 32, 4), ("practical", 4, 81), ("article", 32, 9)],
)
def test_the_overlap_by_default(geometry, tile, n_tiles):
    # Outputs abut where no tile's edge is felt (36 = 3 * 12); where it is, they share
    # a quarter (steps of 24, and of 16), unless that is the smallest step.
    model = net(geometry)
    seen = count_tiles(model)
    tiled(model, torch.rand(1, 36, 36), tile)
    assert len(seen) == n_tiles


# --- Blending.


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_what_all_tiles_say_stays(geometry, blend):
    model, scores = net(geometry, 3), torch.tensor([1.0, -0.5, 0.3])
    with torch.no_grad():
        model.outc.conv.weight.zero_()
        model.outc.conv.bias.copy_(scores)
    answer = tiled(model, torch.rand(1, 41, 57), TILES[geometry], 8, blend=blend)
    expected = scores.softmax(0)[:, None, None].expand(3, 41, 57)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-6)


def jump(difference: Tensor, edges: list[int]) -> float:
    """Return the mean step of a map (n, H, W) across vertical lines, in its units."""
    return float(
        torch.stack([(difference[..., i] - difference[..., i - 1]) for i in edges])
        .abs()
        .mean()
    )


def test_blending_removes_the_seams():
    model, image = net("practical"), torch.rand(1, 160, 260)
    whole = predict(model, image[None])[0]
    steps = {}
    for overlap, blend in [(0, "gaussian"), (16, "constant"), (16, "gaussian")]:
        lefts = starts(260, 0, 64 - overlap, 64, 0, 4)
        # A tile begins and a tile ends; outside the image, nothing shows.
        edges = [e for left in lefts for e in (left, left + 64) if 0 < e < 260]
        difference = tiled(model, image, 64, overlap, blend=blend) - whole
        steps[overlap, blend] = jump(difference, edges)
    # Zeros at the edge of a tile do change the answer.
    assert steps[0, "gaussian"] > 0.05
    # Measured with five images: 0.42 to 0.46, and 0.14 to 0.16.
    assert steps[16, "constant"] < 0.6 * steps[0, "gaussian"]
    assert steps[16, "gaussian"] < 0.25 * steps[0, "gaussian"]


# --- What goes in and out.


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kind", ["float32", "float16", "uint8"])
def test_files_in_and_out(tmp_path, geometry, kind):
    model = net(geometry, 3)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 61, 83), dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    shape = (61, 83) if kind == "uint8" else (3, 61, 83)
    file = tmp_path / "out.npy"
    out = np.lib.format.open_memmap(file, "w+", kind, shape)
    on_disk = np.load(tmp_path / "image.npy", mmap_mode="r")
    tiled(model, on_disk, TILES[geometry], out=out)
    out.flush()
    expected = tiled(model, torch.from_numpy(image / np.float32(255)), TILES[geometry])
    expected = expected.argmax(0) if kind == "uint8" else expected
    assert np.array_equal(np.load(file), expected.numpy().astype(kind))
    assert np.load(file).std() > 0


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: torch.from_numpy(x),
        lambda x: torch.from_numpy(x).double(),
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: (torch.from_numpy(x) * 255).byte(),
        lambda x: (x * 255).astype(np.uint8),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">f8"),
        lambda x: np.asfortranarray(x),
        lambda x: torch.from_numpy(x).bfloat16(),
    ],
)
def test_every_kind_of_image(convert):
    # 0 and 1 only: exact in all of them.
    image = np.random.default_rng(0).integers(0, 2, (1, 30, 21)).astype(np.float32)
    model = net("practical")
    answer = tiled(model, convert(image), 16)
    assert answer.dtype == torch.float32
    assert not answer.requires_grad
    assert torch.equal(answer, tiled(model, image, 16))


def test_channels_keep_their_order():
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=4, depth=2, align="crop").eval()
    image = torch.rand(3, 40, 30)
    whole = predict(model, image[None])[0]
    torch.testing.assert_close(tiled(model, image, 52), whole, rtol=0, atol=1e-5)
    mixed = tiled(model, image.flip(0), 52)
    assert not torch.allclose(mixed, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_mode_is_restored_and_the_model_untouched(training, fails):
    model = net("practical", dropout=0.5).train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    image = torch.rand(1, 40, 40)
    kept = image.clone()
    if fails:
        image[0, 39, 39] = torch.nan
        with pytest.raises(ValueError, match="NaN"):
            tiled(model, image, 16)
    else:
        first, second = tiled(model, image, 16), tiled(model, image, 16, batch_size=4)
        torch.testing.assert_close(first, second, rtol=0, atol=1e-6)
        assert torch.equal(image, kept)
    assert {m.training for m in model.modules()} == {training}
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_the_bar_counts_tiles(capsys):
    model, image = net("practical"), torch.rand(1, 30, 21)
    tiled(model, image, 16)
    assert capsys.readouterr().err == ""
    predict_tiled(model, image, 16, 0)
    assert "/4 " in capsys.readouterr().err


# --- Memory.


class Watched(np.ndarray):
    """An array that keeps the shapes of what is read from it."""

    read: list[tuple[int, ...]]

    def __getitem__(self, where):
        part = np.asarray(self)[where]
        self.read.append(part.shape)
        return part


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_no_more_than_a_tile_is_read_at_a_time(geometry):
    # One number in memory, whatever the shape says.
    image = np.broadcast_to(np.float32(0.5), (1, 90, 70)).view(Watched)
    image.read = []
    tiled(net(geometry), image, TILES[geometry], batch_size=2)
    assert len(image.read) >= 4
    assert np.max(image.read, axis=0).tolist()[1:] == [TILES[geometry]] * 2


GROWTH = """
import sys
import numpy as np, torch
from unet_edu import UNet
from unet_edu.cli import _peak_memory
from unet_edu.inference import predict_tiled

torch.set_num_threads(1)
model = UNet(1, 2, base_channels=2, depth=1, padding=1)
for height in (512, 6144):
    name = f"{sys.argv[1]}/{height}"
    image = np.lib.format.open_memmap(name, "w+", np.uint8, (1, height, 1024))
    image[:] = 100
    out = np.lib.format.open_memmap(name + "out", "w+", np.uint8, (height, 1024))
    predict_tiled(model, image, 128, 16, out=out, progress=False)
    print(_peak_memory())
"""


def run(*command: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_memory_does_not_grow_with_the_height(tmp_path):
    low, high = map(float, run("-c", GROWTH, tmp_path).split())
    # Both files count as memory while the system has room for them. The image as
    # float32 would be another 22 MiB, the probabilities 44.
    files = 2 * (6144 - 512) * 1024 / 2**20
    assert high - low < files + 10


# --- What cannot be done is said in one sentence.

IMAGE = torch.rand(1, 20, 30)


def with_nan() -> Tensor:
    image = IMAGE.clone()
    image[0, 17, 28] = torch.nan
    return image


@pytest.mark.parametrize(
    ("geometry", "image", "settings", "message"),
    [
        ("practical", IMAGE, {"tile": 18}, "Instead of 18, use 16 or 20"),
        ("practical", IMAGE, {"tile": 2}, "start at 4 .* steps of 4.* use 4"),
        ("paper", IMAGE, {"tile": 16}, "start at 44 and.* 16, use 44"),
        ("paper", IMAGE, {"tile": 45}, "Instead of 45, use 44 or 48"),
        ("article", IMAGE, {"tile": 20}, "start at 32. Instead of 20, use 32"),
        ("practical", IMAGE, {"tile": 0}, "tile must be an integer >= 1"),
        ("practical", IMAGE, {"tile": 16.0}, r"tile .* got 16\.0"),
        ("practical", IMAGE, {"overlap": 16}, "Use at most 12"),
        ("practical", IMAGE, {"overlap": 13}, "Use at most 12"),
        ("paper", IMAGE, {"overlap": 40}, "52 answers for 12 .*at most 8"),
        ("practical", IMAGE, {"overlap": -1}, "overlap .* >= 0, got -1"),
        ("practical", IMAGE, {"blend": "mean"}, "gaussian, constant; got 'mean'"),
        ("practical", IMAGE, {"batch_size": 0}, "batch_size .* got 0"),
        ("practical", IMAGE[0], {}, r"shape \(20, 30\). Pass image\[None\]"),
        ("paper", IMAGE[None], {}, r"\(1, 1, 20, 30\). Pass .*images\[0\]"),
        ("practical", IMAGE[0, 0], {}, r"got shape \(30,\)\.$"),
        ("paper", torch.rand(3, 20, 30), {}, r"for 1 channel.* has 3 .*30\)\)\.$"),
        ("paper", torch.rand(20, 30, 1), {}, "has 20 .*channels come first"),
        ("practical", torch.rand(1, 1, 9), {}, "one pixel wide .* got 1x9"),
        ("paper", torch.rand(1, 9, 1), {}, "one pixel wide .* got 9x1"),
        ("paper", torch.rand(1, 0, 9), {}, "at least 2 pixels, got 0x9"),
        ("practical", with_nan(), {}, "nan in channel 0, row 17, column 28"),
        ("paper", with_nan() * 0 + torch.inf, {}, "inf in .* row 0, column 0"),
    ],
)
def test_predict_tiled_refuses(geometry, image, settings, message):
    settings = {"tile": TILES[geometry]} | settings
    with pytest.raises(ValueError, match=message):
        tiled(net(geometry), image, **settings)


@pytest.mark.parametrize(
    ("geometry", "image", "message"),
    [
        ("practical", (IMAGE * 255).int(), "uint8, got torch.int32.* divide"),
        ("paper", IMAGE.numpy().astype(np.uint16), "uint8, got uint16.*65535"),
        ("paper", IMAGE.numpy() > 0, "got bool"),
        ("paper", IMAGE.numpy() + 0j, "got complex64"),
        ("paper", IMAGE.tolist(), "numpy array, got list"),
    ],
)
def test_predict_tiled_refuses_the_type(geometry, image, message):
    with pytest.raises(TypeError, match=message):
        tiled(net(geometry), image, TILES[geometry])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((2, 20, 31), np.float32), r"float32 of shape \(2, 20, 31\)"),
        (np.empty((20, 30), np.float32), r"of shape \(2, 20, 30\), for prob"),
        (np.empty((2, 20, 30), np.uint8), r"uint8 of shape \(20, 30\), for cl"),
        (np.empty((2, 20, 30), np.float64), "out is float64"),
        (np.empty((20, 30), np.int64), "out is int64"),
        (np.broadcast_to(np.uint8(0), (20, 30)), r"read-only.* mode='r\+'"),
    ],
)
def test_predict_tiled_refuses_to_write(out, message):
    with pytest.raises(ValueError, match=message):
        tiled(net("practical"), IMAGE, 16, out=out)


def test_predict_tiled_writes_into_arrays_only():
    with pytest.raises(TypeError, match="memmap, got Tensor"):
        tiled(net("practical"), IMAGE, 16, out=torch.empty(2, 20, 30))


def test_too_many_classes_for_a_byte():
    model = UNet(1, 257, base_channels=1, depth=1, padding=1)
    with pytest.raises(ValueError, match="257 classes"):
        tiled(model, IMAGE, 16, out=np.empty((20, 30), np.uint8))


def test_nothing_is_written_where_the_image_is_refused():
    out = np.full((2, 20, 30), 7, np.float32)
    with pytest.raises(ValueError, match="tile"):
        tiled(net("practical"), IMAGE, 18, out=out)
    assert (out == 7).all()


def test_after_an_error_what_is_finished_stays():
    model, image = net("practical"), torch.rand(1, 40, 30)
    expected = tiled(model, image, 16, 4).numpy()
    # Rows of tiles begin at 0, 12 and 24: only the last one sees row 39.
    image[0, 39, 0] = torch.nan
    out = np.full((2, 40, 30), 7, np.float32)
    with pytest.raises(ValueError, match="NaN"):
        tiled(model, image, 16, 4, out=out)
    assert np.array_equal(out[:, :24], expected[:, :24])
    assert (out[:, 24:] == 7).all()


# --- The commands.


def unet_edu(*arguments: object):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.fixture
def picture(tmp_path) -> Path:
    file = tmp_path / "slice.png"
    pixels = np.random.default_rng(0).integers(0, 256, (37, 51), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


@pytest.mark.parametrize(
    ("geometry", "options"),
    [
        ("practical", ["--tile", 16]),
        ("practical", ["--tile", 16, "--overlap", 8]),
        ("paper", ["--tile", 52]),
    ],
)
def test_predict_takes_tiles(tmp_path, picture, geometry, options):
    model = net(geometry, 3)
    save_weights(model, tmp_path / "net.safetensors")
    command = ["predict", tmp_path / "net.safetensors", picture, "-o", tmp_path]
    result = unet_edu(*command, *options)
    assert result.exit_code == 0, result.output
    mask = np.asarray(Image.open(tmp_path / "slice-mask.png"))
    assert (tmp_path / "slice-overlay.png").is_file()
    pixels = np.asarray(Image.open(picture), dtype=np.float32)[None] / 255
    # On the command's device: two devices round differently.
    answer = tiled(on_best_device(model), pixels, *options[1::2])
    assert np.array_equal(mask, answer.argmax(0))
    whole = predict(model, torch.from_numpy(pixels)[None])[0].argmax(0).cpu()
    # The paper's network cannot tell; the other sees zeros at the tiles' edges.
    assert np.array_equal(mask, whole) == (geometry == "paper")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--overlap", 8], ["--overlap needs --tile"]),
        (["--tile", 18], ["slice.png", "use 16 or 20"]),
        (["--tile", 16, "--overlap", 16], ["slice.png", "at most 12"]),
        (["--tile", 0], ["tile", "got 0"]),
    ],
    ids=str,
)
def test_predict_refuses_tiles(tmp_path, picture, options, parts):
    save_weights(net("practical"), tmp_path / "net.safetensors")
    out = tmp_path / "out"
    result = unet_edu(
        "predict", tmp_path / "net.safetensors", picture, "-o", out, *options
    )
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Error: " in result.stderr
    for part in parts:
        assert part in result.stderr
    assert not out.exists()


def test_benchmark_tiles_prints_its_peak():
    small = "benchmark-tiles --size 200 --tile 64 --base-channels 2"
    printed = run("-m", "unet_edu.cli", *small.split())
    assert "200x200 pixels" in printed
    # Steps of 48: an overlap of 8 is rounded up to 16.
    assert re.search(r"16 of 64x64", printed), printed
    peak = int(re.search(r"peak memory +(\d+) MiB", printed)[1])
    alone, ratio = re.search(r"alone +(\d+) MiB.* ([\d.]+) times", printed).groups()
    # Torch alone takes more than 50 MiB, and so small an image little more.
    assert 50 < int(alone) <= peak < 2 * int(alone)
    assert float(ratio) == pytest.approx(peak / int(alone), abs=0.06)


def test_benchmark_tiles_fails_above_its_limit(monkeypatch):
    monkeypatch.setattr(cli, "MEMORY_LIMIT", 10)
    result = unet_edu("benchmark-tiles", "--size", 64, "--tile", 64)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "above 10 MiB" in result.stderr
    assert "peak memory" in result.stdout


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--size", 0], "size"),
        (["--size", 1], "one pixel"),
        (["--tile", 100], "use 96"),
    ],
    ids=str,
)
def test_benchmark_tiles_refuses(options, part):
    result = unet_edu("benchmark-tiles", "--size", 64, *options)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert part in result.stderr
