"""A folder never seen before goes through train, evaluate, predict and export."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from unet_edu import UNet, runs
from unet_edu.checkpoints import load_model, save_weights, write_json
from unet_edu.cli import app
from unet_edu.data.folder import prepare
from unet_edu.report import sanity_page

COLOURS = np.array([[0, 0, 0], [0, 160, 0], [255, 200, 0]], np.uint8)


def leaf(seed: int, plant: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Draw a leaf with its veins, lying at some angle; a plant has its own colours."""
    rng, look = np.random.default_rng(seed), np.random.default_rng(1000 + plant)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle, wide = rng.uniform(0, np.pi), look.uniform(0.35, 0.5)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    blade = (np.abs(u) < 0.8) & (np.abs(v) < wide * (1 - (u / 0.8) ** 2))
    vein = blade & (
        (np.abs(v) < 0.06) | (np.abs((4 * u - 3 * np.abs(v)) % 1 - 0.5) < 0.1)
    )
    ground, green = look.uniform(0.7, 1, 3), np.array([0.15, 0.4, 0.1])
    image = np.where(blade[..., None], green * look.uniform(0.7, 1.3), ground)
    image = np.where(vein[..., None], green * 2.2, image)
    image = image + 0.03 * rng.standard_normal(image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), blade.astype(int) + vein


def draw_leaves(folder: Path, plants: int = 6, each: int = 3, first: int = 0) -> Path:
    """Write colour JPEGs beside masks in colours, with the names of the classes."""
    folder.mkdir()
    for plant in range(first, first + plants):
        for i in range(each):
            image, mask = leaf(100 * plant + i, plant)
            name = folder / f"plant{plant:02}_{i}"
            Image.fromarray(image).save(f"{name}.jpg", quality=92)
            Image.fromarray(COLOURS[mask]).save(f"{name}_seg.png")
    (folder / "classes.txt").write_text("ground\nblade\nvein\n")
    return folder


class Page(HTMLParser):
    """What a page holds; fails where tags are not closed in order."""

    VOID = ("meta", "img", "br", "hr", "link")

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open, self.tags, self.images, self.text = [], [], [], []
        self.language = None
        content = file.read_text(encoding="utf-8")
        assert "http" not in content
        assert len(content) < 3e6
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        self.tags.append(tag)
        self.language = values.get("lang", self.language)
        if tag == "img":
            self.images.append(values)
        if tag == "th":
            assert values.get("scope") in ("row", "col")
        assert not {"onload", "onclick"} & values.keys()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def look_at(file: Path, images: int) -> str:
    """Check that a page is whole and needs nothing else; return its text."""
    page = Page(file)
    assert page.language == "en"
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.images) == images
    for image in page.images:
        assert len(image["alt"]) > 12
        assert image["src"].startswith("data:image/")
    return " ".join(" ".join(page.text).split())


def program(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "unet_edu.cli", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


def unet_edu(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def assert_works(result: Result) -> None:
    assert result.exit_code == 0, result.output


def assert_says(result: Result, *parts: str) -> None:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.stderr, result.stderr


SIZE = "--crop 48 --base-channels 8 --depth 2 --batch-size 4 --lr 1e-2 --cpu"


@pytest.fixture(scope="module")
def leaves(tmp_path_factory) -> Path:
    return draw_leaves(tmp_path_factory.mktemp("folder") / "leaves")


@pytest.fixture(scope="module")
def trained(leaves, tmp_path_factory) -> tuple[Path, str]:
    """A run on the leaves by the program itself, and what it printed."""
    run = tmp_path_factory.mktemp("report") / "run"
    done = program(
        "train", leaves, "--out", run, "--epochs", 3, "--steps", 40, *SIZE.split()
    )
    assert done.returncode == 0, done.stderr
    return run, done.stdout


def test_training_says_what_it_found(trained, leaves):
    _, said = trained
    for part in (
        f"18 pairs of picture and mask in {leaves}",
        "*.jpg  with  *_seg.png  (18)",
        "18 pictures in colour: the network gets 3 channels",
        "6 groups, by the name before its last number: plant00",
        "train 12 pictures of 4 groups",
        "#00a000 -> 1 blade",
        "IoU if all were one class",
    ):
        assert part in said
    assert re.search(r"epoch +loss +accuracy", said)


def test_training_beats_the_trivial_answer(trained):
    run, _ = trained
    result = json.loads((run / "evaluation-held_out.json").read_text())
    assert len(result["pictures"]) == 3
    for row in result["classes"]:
        assert row["iou"]["value"] > max(row["trivial"], 0.3) + 0.05
    # One group was kept back: there is no interval, and it is said.
    assert result["classes"][0]["iou"]["low"] is None
    assert "no interval" in result["conditions"]


def test_the_pages_are_whole(trained):
    run, _ = trained
    text = look_at(run / "sanity.html", images=12 + 1)
    for part in (
        "18 pairs",
        "Share of the pixels",
        "64 x 64",
        "plant05",
        "#ffc800",
        "vein",
    ):
        assert part in text
    text = look_at(run / "report.html", images=3 * 3 + 2)
    for part in ("Best", "Worst", "no interval", "unet-edu train", "tifffile", "seed"):
        assert part in text


def test_evaluate_repeats_the_numbers_of_the_report(trained):
    run, said = trained
    before = (run / "evaluation-held_out.json").read_text()
    result = unet_edu("evaluate", run)
    assert_works(result)
    assert (run / "evaluation-held_out.json").read_text() == before
    table = said[said.index("3 pictures of 1 group,") : said.index("Report:")]
    assert table.strip() in result.stdout
    assert "worst: plant" in result.stdout


def test_evaluate_another_folder(trained, tmp_path):
    run, _ = trained
    other = draw_leaves(tmp_path / "new", plants=3, each=2, first=20)
    result = unet_edu("evaluate", run, other)
    assert_works(result)
    assert "6 pictures of 3 groups" in result.stdout
    table = json.loads((run / "evaluation-new.json").read_text())
    low, high = (table["classes"][1]["iou"][end] for end in ("low", "high"))
    assert low <= table["classes"][1]["iou"]["value"] <= high
    assert "too narrow" in result.stdout
    # A colour that training never saw is named with its file.
    Image.new("RGB", (64, 64), (9, 9, 9)).save(other / "plant20_0_seg.png")
    assert_says(unet_edu("evaluate", run, other), "plant20_0_seg.png", "#090909")


def test_evaluate_knows_what_it_was_trained_on(trained, leaves, tmp_path):
    run, _ = trained
    result = unet_edu("evaluate", run, leaves)
    assert_works(result)
    said = "12 of them trained on and 3 used to choose the epoch: this measures memory."
    assert f"18 pictures of 6 groups, {said}" in result.stdout
    assert "never trained on" not in result.stdout
    assert "Warning: 15 of 18 pictures were used in training" in result.stderr
    assert said in unet_edu("evaluate", run, "--split", "all").stdout
    # Copies by other names are known by their bytes; here of one that chose the epoch.
    other = draw_leaves(tmp_path / "new", plants=1, each=2, first=20)
    files = json.loads((run / "dataset.json").read_text())["files"]
    name = next(file["image"] for file in files if file["part"] == "val")
    (other / "plant20_0.jpg").write_bytes((leaves / name).read_bytes())
    result = unet_edu("evaluate", run, other)
    assert "2 pictures of 2 groups, 1 of them used to choose the epoch" in result.stdout
    assert "1 of 2 pictures were used in training" in result.stderr
    assert "plant20_0.jpg" in result.stderr


def test_evaluate_uses_the_patterns_of_training(leaves, tmp_path):
    run, other = tmp_path / "run", draw_leaves(tmp_path / "new", plants=2, first=20)
    patterns = ["--images", "*.jpg", "--masks", "*_seg.*", "--group", "^(.+)_"]
    command = ["train", leaves, "--out", run, "--steps", 1, "--epochs", 1]
    assert_works(unet_edu(*command, *SIZE.split(), *patterns))
    record = json.loads((run / "dataset.json").read_text())
    assert record["asked"] == dict(
        zip(("images", "masks", "group"), patterns[1::2], strict=True)
    )
    # By their names alone two plants would be no groups.
    assert "6 pictures of 2 groups" in unet_edu("evaluate", run, other).stdout
    result = unet_edu("evaluate", run, other, "--group", ".+")
    assert "6 pictures of 6 groups" in result.stdout
    for file in other.glob("*_seg.png"):
        file.rename(other / file.name.replace("_seg", "_mask"))
    wrong = unet_edu("evaluate", run, other)
    assert_says(wrong, "no file fits '*_seg.*'", "As in the training --images '*.jpg'")
    assert_works(unet_edu("evaluate", run, other, "--masks", "*_mask.png"))
    # A run of before, whose record says nothing of patterns.
    del record["asked"]
    write_json(run / "dataset.json", record)
    assert "6 pictures of 6 groups" in unet_edu("evaluate", run, other).stdout


def test_evaluate_names_files_that_changed(trained, leaves, tmp_path):
    run, _ = trained
    record = json.loads((run / "dataset.json").read_text())
    held_out = [file for file in record["files"] if file["part"] == "held_out"]
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    held_out[0]["sha256"][0] = "0" * 64
    held_out[1]["mask"] = "gone.png"
    write_json(copy / "dataset.json", record)
    result = unet_edu("evaluate", copy)
    assert_says(result, f"{held_out[0]['image']} has changed", "gone.png is gone")


def test_predict_a_folder(trained, tmp_path):
    run, _ = trained
    source = draw_leaves(tmp_path / "new", plants=1, each=2, first=30)
    (source / "deep").mkdir()
    # The same name in a sub-folder: its results lie in a sub-folder too.
    (source / "plant30_0.jpg").replace(source / "deep" / "plant30_1.jpg")
    (source / "plant30_0_seg.png").unlink()
    out = source / "out"
    for _ in range(2):  # what the first time wrote is no picture of the second
        result = unet_edu("predict", run, source, "-o", out)
        assert_works(result)
        assert "as their names say mask: plant30_1_seg.png" in result.stdout
        found = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*"))
        assert found == [
            "deep/plant30_1-mask.png",
            "deep/plant30_1-overlay.png",
            "plant30_1-mask.png",
            "plant30_1-overlay.png",
        ]
    mask = np.asarray(Image.open(out / "plant30_1-mask.png"))
    _, truth = leaf(3001, 30)
    assert (mask == truth).mean() > 0.8
    assert_works(unet_edu("predict", run, source, "-o", out, "--values"))
    colours = np.asarray(Image.open(out / "plant30_1-mask.png"))
    assert np.array_equal(colours, COLOURS[mask])


def test_export(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    run, _ = trained
    result = unet_edu("export", run, "-o", tmp_path / "unet.onnx")
    assert_works(result)
    assert "MiB" in result.stdout
    assert "Largest difference to PyTorch" in result.stdout
    assert (tmp_path / "unet.onnx").stat().st_size > 1000


def test_export_without_a_run(tmp_path):
    assert_says(unet_edu("export", tmp_path, "-o", tmp_path / "x.onnx"), "no weights")


def test_resume_and_what_it_refuses(leaves, tmp_path):
    run = tmp_path / "run"
    command = [
        "train",
        leaves,
        "--out",
        run,
        "--steps",
        2,
        "--epochs",
        1,
        *SIZE.split(),
    ]
    assert_works(unet_edu(*command))
    page = (run / "sanity.html").read_bytes()
    assert_says(unet_edu(*command), "holds a run", "--resume")
    assert_works(unet_edu(*command, "--resume"))
    assert_says(
        unet_edu(*command, "--resume", "--seed", 5), "other files", "another folder"
    )
    assert (run / "sanity.html").read_bytes() == page


def test_check_looks_and_does_not_train(leaves, tmp_path):
    result = unet_edu("train", leaves, "--out", tmp_path / "run", "--check")
    assert_works(result)
    assert "Look at it before you train" in result.stdout
    assert "Warning: one group is held out, plant" in result.stdout
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert names == {"sanity.html", "dataset.json"}


def test_a_corrupt_picture_stops_or_is_skipped(tmp_path):
    folder = draw_leaves(tmp_path / "leaves")
    (folder / "plant01_1.jpg").write_bytes(b"no picture")
    command = ["train", folder, "--out", tmp_path / "run", "--steps", 2, "--epochs", 1]
    command += SIZE.split()
    assert_says(unet_edu(*command), "1 of 18 pairs", "plant01_1.jpg", "--on-error skip")
    assert not (tmp_path / "run").exists()
    result = unet_edu(*command, "--on-error", "skip")
    assert_works(result)
    # Said before training, at the end, and on both pages.
    assert result.stdout.count("plant01_1.jpg: cannot identify") == 2
    for page in ("sanity.html", "report.html"):
        assert "plant01_1.jpg: cannot identify" in (tmp_path / "run" / page).read_text()
    one = ["predict", tmp_path / "run", folder, "-o", tmp_path / "out"]
    assert_says(unet_edu(*one), "plant01_1.jpg", "cannot identify")
    result = unet_edu(*one, "--on-error", "skip")
    assert_works(result)
    assert "Skipped: 1 of 18 pictures" in result.stderr
    assert "plant01_1.jpg" in result.stderr
    assert len(list((tmp_path / "out").glob("*-mask.png"))) == 17


def test_pictures_smaller_than_the_pieces(leaves, tmp_path):
    command = ["train", leaves, "--out", tmp_path / "run", "--steps", 1, "--epochs", 1]
    command += ["--base-channels", 2, "--depth", 4, "--cpu"]
    result = unet_edu(*command)
    assert_works(result)
    assert re.search(
        r"Pieces of 64 pixels instead of 128: plant\S+ is only", result.stdout
    )
    result = unet_edu(*command[:2], "--out", tmp_path / "r2", "--depth", 8)
    assert_says(result, "is 64x64 pixels", "at least 256", "--depth")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "FOLDER", "--data", "cells"], ["a folder or --data, not both"]),
        (["train", "--check"], ["--check is for a folder"]),
        (["train", "--images", "*"], ["--images is for a folder"]),
        (["train", "--on-error", "skip"], ["--on-error is for a folder"]),
        (["train", "FOLDER", "--group", "("], ["no regular expression"]),
        (["train", "FOLDER", "--masks", "*"], ["give both"]),
        (["train", "FOLDER", "--mask-above", "3"], ["these masks are colours"]),
        (["train", "NOWHERE"], ["There is no folder"]),
        # Refused before the folder is read.
        (["train", "NOWHERE", "--epochs", "0"], ["epochs", ">= 1", "got 0"]),
    ],
)
def test_ill_commands(leaves, tmp_path, arguments, parts):
    names = {"FOLDER": leaves, "NOWHERE": tmp_path / "nowhere"}
    arguments = [names.get(one, one) for one in arguments]
    assert_says(unet_edu(*arguments, "--out", tmp_path / "run"), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("inside", ["", "runs/1"])
def test_a_run_does_not_lie_among_the_pictures(leaves, inside):
    before = sorted(leaves.rglob("*"))
    result = unet_edu("train", leaves, "--out", leaves / inside)
    assert_says(result, "lies in the folder of pictures", "outside of it")
    assert sorted(leaves.rglob("*")) == before


def network(tmp_path: Path, channels: int = 1) -> Path:
    torch.manual_seed(0)
    model = UNet(channels, 2, base_channels=2, depth=2, padding=1)
    save_weights(model, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_predict_pages(tmp_path):
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 255, (3, 40, 52), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    net = network(tmp_path)
    result = unet_edu("predict", net, tmp_path / "stack.tif", "-o", tmp_path)
    assert_works(result)
    masks = tifffile.imread(tmp_path / "stack-mask.tif")
    assert (masks.shape, masks.dtype) == ((3, 40, 52), np.uint8)
    x = torch.from_numpy(stack[:, None] / np.float32(255))
    with torch.no_grad():
        expected = load_model(net)(x).argmax(1)
    assert np.array_equal(masks, expected)
    assert Image.open(tmp_path / "stack-overlay.png").size == (52, 40)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_predict_a_large_picture_in_tiles(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(runs, "LARGE", 150)
    monkeypatch.setattr(runs, "TILE", 64)
    rng = np.random.default_rng(0)
    white = np.iinfo(kind).max
    array = (rng.random((200, 160)) * white).astype(kind)
    tifffile.imwrite(tmp_path / "large.tif", array)
    net = network(tmp_path)
    assert_works(unet_edu("predict", net, tmp_path / "large.tif", "-o", tmp_path))
    mask = tifffile.imread(tmp_path / "large-mask.tif")
    model = load_model(net)
    x = torch.from_numpy(array[None, None].astype(np.float32) / white)
    with torch.no_grad():
        whole = model(x).argmax(1)[0].numpy()
    assert mask.shape == whole.shape
    # Zeros around a tile change the answer near its edges, and no more than that.
    assert (mask == whole).mean() > 0.9
    assert max(Image.open(tmp_path / "large-overlay.png").size) <= 150


FULL_DISK = """
import resource, sys
from unet_edu.cli import app
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
app()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on files plays the disk")
@pytest.mark.parametrize(
    ("pages", "room"), [(1, 10), (3, 10), (3, 4000)], ids=["png", "tiff", "half a tiff"]
)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_predict_on_a_full_disk(tmp_path, pages, room, on_error):
    # A full disk is no fault of a picture: it stops whatever else would be skipped.
    rng = np.random.default_rng(0)
    for name in "ab":
        stack = rng.integers(0, 255, (pages, 48, 64), dtype=np.uint8)
        file = tmp_path / f"in/{name}.tif"
        file.parent.mkdir(exist_ok=True)
        tifffile.imwrite(file, stack, photometric="minisblack")
    out = tmp_path / "out"
    command = ["predict", network(tmp_path), tmp_path / "in", "-o", out]
    command = [*map(str, command), "--on-error", on_error]
    assert_works(unet_edu(*command))
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    code = [sys.executable, "-c", FULL_DISK, str(room)]
    ended = subprocess.run([*code, *command], capture_output=True, text=True)
    assert ended.returncode == 1
    said = " ".join(ended.stderr.lower().split())
    for words in ("a.tif", "no room", "free", "before"):
        assert words in said
    assert "skipped" not in said
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_predict_another_type_of_number(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((40, 40), np.int8))
    result = unet_edu("predict", network(tmp_path), tmp_path / "x.tif", "-o", tmp_path)
    assert_says(result, "x.tif", "int8", "uint8 and uint16")


def test_predict_says_what_it_replaces(tmp_path):
    picture = tmp_path / "x.png"
    Image.new("L", (40, 40)).save(picture)
    command = ["predict", network(tmp_path), picture, "-o", tmp_path]
    assert "(replaced)" not in unet_edu(*command).stdout
    assert "x-mask.png, x-overlay.png (replaced)" in unet_edu(*command).stdout


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (1, "2 pictures in colour turned gray: the network takes gray."),
        (3, "1 gray picture given three equal channels: the network takes colour."),
    ],
)
def test_predict_says_what_it_does_to_colours(tmp_path, channels, said):
    source = tmp_path / "new"
    source.mkdir()
    for i, colour in enumerate([(9, 9, 9), (9, 99, 9), (99, 9, 9)]):
        Image.new("RGB", (40, 40), colour).save(source / f"{i}.png")
    Image.new("L", (40, 40)).save(source / "gray.png")
    net = network(tmp_path, channels)
    result = unet_edu("predict", net, source, "-o", tmp_path / "out")
    assert_works(result)
    # Gray that is stored as colour loses nothing.
    assert result.stdout.count(said) == 1


@pytest.mark.parametrize(
    ("kind", "brightness", "warned"),
    [
        ("uint16", (300, 900), False),
        ("uint16", (3000, 9000), True),
        ("uint16", (0, 9), True),
        ("uint8", (0, 255), False),
    ],
)
def test_predict_warns_of_another_brightness(tmp_path, kind, brightness, warned):
    rng = np.random.default_rng(0)
    folder, run = tmp_path / "data", tmp_path / "run"
    folder.mkdir()
    for i in range(4):
        array = rng.integers(200, 1000, (40, 40), dtype=np.uint16)
        tifffile.imwrite(folder / f"{i}.tif", array)
        Image.fromarray(np.eye(40, dtype=np.uint8)).save(folder / f"{i}_mask.png")
    plan = prepare(folder, progress=False)
    plan.scaling["uint8"] = [0.0, 255.0]
    runs.begin(run, plan)
    network(tmp_path).rename(run / "best.safetensors")
    array = rng.integers(*brightness, (40, 40)).astype(kind)
    tifffile.imwrite(tmp_path / "x.tif", array)
    result = unet_edu("predict", run, tmp_path / "x.tif", "-o", tmp_path)
    assert_works(result)
    said = "x.tif: its brightness lies outside what was seen in training"
    assert (said in result.stderr) == warned


def test_values_need_a_folder(tmp_path):
    picture = tmp_path / "x.png"
    Image.new("L", (40, 40)).save(picture)
    result = unet_edu("predict", network(tmp_path), picture, "-o", tmp_path, "--values")
    assert_says(result, "--values needs")


def test_a_page_escapes_what_it_quotes(tmp_path):
    for i in range(3):
        name = tmp_path / f"<b>{i}"
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * (i + 1)).save(
            f"{name}.png"
        )
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(f"{name}_mask.png")
    plan = prepare(tmp_path, progress=False)
    plan.warnings.append("a < b & c")
    sanity_page(plan, tmp_path / "sanity.html")
    assert "a < b & c" in look_at(tmp_path / "sanity.html", images=4)


def test_only_the_main_process_writes(tmp_path, leaves, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    plan = prepare(leaves, progress=False)
    runs.begin(tmp_path / "run", plan)
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("RANK", "0")
    runs.begin(tmp_path / "run", plan)
    assert (tmp_path / "run" / "sanity.html").is_file()
