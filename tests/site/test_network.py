"""Chapter 23's network in a real browser gives the answers that Python gives."""

import base64
import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

ort = pytest.importorskip("onnxruntime")
ROOT = Path(__file__).resolve().parents[2]
LIVE = ROOT / "book" / "_static" / "live"
PAGE = "book/23-browser.html"
# Numbers travel as text: a list of half a million would take seconds.
NOTED = """(host) => host.addEventListener("answer", ({ detail }) => {
  const text = (numbers) => {
    let characters = "";
    for (const byte of new Uint8Array(numbers.buffer)) {
      characters += String.fromCharCode(byte);
    }
    return btoa(characters);
  };
  const gray = text(Uint8Array.from(detail.gray));
  const probability = text(Float64Array.from(detail.probability));
  host.noted = { ...detail, gray, probability };
  host.answers = (host.answers ?? 0) + 1;
})"""


@pytest.fixture(scope="module")
def session():
    return ort.InferenceSession(LIVE / "network.onnx")


def softmax(logits: np.ndarray) -> np.ndarray:
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)


def in_python(session, gray: np.ndarray) -> np.ndarray:
    x = (gray / 255).astype(np.float32)[None, None]
    return softmax(session.run(None, {"x": x})[0])[0, 1]


class Part:
    """The live part on an open page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.host = page.locator("section.live-network")
        self.status = self.host.locator(".network-status")

    def load(self) -> None:
        self.host.evaluate(NOTED)
        self.host.get_by_role("button", name="Load the network").click()
        self.answers(1)

    def answers(self, n: int) -> dict:
        """Wait until the network has answered n times; return the last answer."""
        self.page.wait_for_function(
            "n => document.querySelector('section.live-network').answers >= n",
            arg=n,
            timeout=60_000,
        )
        found = self.host.evaluate("host => host.noted")
        size = found["height"], found["width"]
        for name, kind in (("gray", np.uint8), ("probability", np.float64)):
            numbers = np.frombuffer(base64.b64decode(found[name]), kind)
            found[name] = numbers.reshape(size)
        return found

    def count(self) -> int:
        return self.host.evaluate("host => host.answers ?? 0")

    def press(self, name: str) -> dict:
        before = self.count()
        self.host.get_by_role("button", name=name).click()
        return self.answers(before + 1)

    def give(self, name: str, data: bytes, kind: str = "image/png") -> None:
        self.host.locator("input[type=file]").first.set_input_files(
            {"name": name, "mimeType": kind, "buffer": data}
        )


@pytest.fixture
def open_part(open_page: Callable[..., Page]) -> Callable[..., Part]:
    def opened(load: bool = True, **options: object) -> Part:
        part = Part(open_page(PAGE, **options))
        part.host.wait_for()
        if load:
            part.load()
        return part

    return opened


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def test_answers_are_those_of_python(open_part, session):
    part = open_part()
    slice_24 = part.answers(1)
    assert (slice_24["width"], slice_24["height"]) == (512, 512)
    drawn = part.press("Drawn by a program")
    stored = np.asarray(Image.open(LIVE / "cells.png"))
    assert np.array_equal(drawn["gray"], stored)
    # A colour picture with odd sides, and a transparent corner that counts as white.
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (67, 101, 4), dtype=np.uint8)
    colours[..., 3] = 255
    colours[:20, :20] = (10, 20, 30, 0)
    part.give("mine.png", png(colours))
    mine = part.answers(3)
    expected = np.asarray(Image.fromarray(colours[..., :3]).convert("L")).copy()
    expected[:20, :20] = 255
    assert np.array_equal(mine["gray"], expected)
    for found in (slice_24, drawn, mine):
        p = in_python(session, found["gray"])
        assert np.abs(p - found["probability"]).max() < 1e-3
        assert found["share"] == pytest.approx((p > 0.5).mean(), abs=1e-3)
        assert found["certainty"] == pytest.approx(
            np.maximum(p, 1 - p).mean(), abs=1e-3
        )


def test_slice_24_is_the_one_of_the_data(open_part, isbi2012_files):
    from unet_edu import metrics
    from unet_edu.data import isbi2012

    found = open_part().answers(1)
    ((image, mask),) = isbi2012.load(slices=[24])
    off = np.abs(found["gray"].astype(float) - 255 * image[0].numpy())
    assert off.mean() < 4
    import torch

    called = torch.from_numpy((found["probability"] > 0.5).astype(int))
    assert metrics.iou(metrics.confusion_matrix(called, mask, 2))[1] > 0.6


def test_the_button_says_what_is_loaded(open_part, site):
    part = open_part(load=False)
    sizes = part.page.evaluate(
        f"import('{site}/_static/live/network.js').then((part) => part.BYTES)"
    )
    served = ROOT / "_build" / "html" / "_static"
    for name, size in sizes.items():
        where = "live" if name.endswith(".onnx") else "ort"
        assert (served / where / name).stat().st_size == size, name
    total = sum(sizes.values()) / 1e6
    expect(part.host.get_by_role("button")).to_have_text(
        f"Load the network, {total:.1f} MB"
    )


def test_nothing_is_loaded_before_the_click_and_nothing_after_it(open_part, site):
    part = open_part(load=False)
    asked = []
    part.page.on("request", lambda request: asked.append(request))
    part.page.wait_for_timeout(500)
    assert not [r for r in asked if "/ort/" in r.url or r.url.endswith(".onnx")]
    part.load()
    wanted = {r.url.removeprefix(f"{site}/_static/") for r in asked}
    wanted = {url for url in wanted if not url.startswith(("blob:", "data:"))}
    assert wanted >= {"live/network.onnx", "ort/ort-wasm-simd-threaded.wasm"}
    assert all(r.url.startswith((site, "blob:", "data:")) for r in asked)
    assert all(r.method == "GET" for r in asked)
    assert "live/cells.png" in wanted
    asked.clear()
    part.page.context.set_offline(True)
    part.press("Drawn by a program")  # its picture came with the network
    part.press("Slice 24")
    part.give("mine.png", png(np.full((40, 40), 99, np.uint8)))
    part.answers(4)
    part.press("Draw with a pen")
    part.press("Three cells")
    expect(part.status).not_to_have_class("network-wrong")
    assert [r.url for r in asked if not r.url.startswith(("blob:", "data:"))] == []


def bomb() -> bytes:
    """A PNG of 30000 x 30000 pixels, as its header says."""
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + crc


def test_wrong_files_get_a_sentence(open_part):
    part = open_part()
    whole = png(np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8))
    cases = [
        ("notes.txt", b"not a picture", "not a picture that your browser can read"),
        ("broken.png", whole[:40], "not a picture that your browser can read"),
        ("paper.pdf", b"%PDF-1.7 and so on", "is a PDF"),
        ("stack.tif", b"II*\x00" + bytes(99), "is a TIFF"),
        ("nothing.png", b"", "is empty"),
        ("huge.png", b"\x89PNG" + bytes(20_000_001), "takes up to 20 MB"),
        ("bomb.png", bomb(), "30000×30000 pixels"),
        ("dot.png", png(np.zeros((5, 300), np.uint8)), "each side needs 16 or more"),
    ]
    for name, data, sentence in cases:
        part.give(name, data)
        expect(part.status).to_contain_text(sentence)
        expect(part.status).to_have_class("network-status network-wrong")
    assert part.count() == 1, "none of them reached the network"
    part.give("right.png", whole)
    part.answers(2)
    expect(part.status).to_have_class("network-status")


def test_large_pictures_are_scaled_down_and_changes_are_made(open_part, session):
    part = open_part()
    rng = np.random.default_rng(1)
    part.give("large.png", png(rng.integers(0, 256, (300, 1601), dtype=np.uint8)))
    large = part.answers(2)
    assert (large["width"], large["height"]) == (768, 144)
    expect(part.host).to_contain_text("scaled down from 1601×300")
    gray = large["gray"].astype(int)
    squares = gray.reshape(72, 2, 384, 2).sum(axis=(1, 3))
    for i, (change, expected) in enumerate(
        {
            "half": (squares + 2) // 4,
            "turned": np.rot90(gray),
            "inverted": 255 - gray,
            "none": gray,
        }.items()
    ):
        part.host.get_by_label("Changed first").select_option(change)
        found = part.answers(3 + i)
        assert np.array_equal(found["gray"], expected), change
        p = in_python(session, found["gray"])
        assert np.abs(p - found["probability"]).max() < 1e-3


@pytest.mark.parametrize("what", ["*.wasm", "network.onnx", "ort.wasm.min.mjs"])
def test_what_does_not_arrive_can_be_tried_again(open_part, what):
    part = open_part(load=False, allow="ERR_FAILED")
    part.page.context.route(f"**/{what}", lambda route: route.abort())
    part.host.evaluate(NOTED)
    part.host.get_by_role("button", name="Load the network").click()
    expect(part.status).to_contain_text("could not be loaded", timeout=30_000)
    expect(part.status).to_contain_text("Are you online?")
    again = part.host.get_by_role("button", name="Try again")
    expect(again).to_be_focused()
    part.page.context.unroute(f"**/{what}")
    again.click()
    part.answers(1)


def test_a_missing_file_is_told(open_part):
    part = open_part(load=False, allow="404")
    part.page.context.route("**/network.onnx", lambda route: route.fulfill(status=404))
    part.host.get_by_role("button", name="Load the network").click()
    expect(part.status).to_contain_text("the server answers 404", timeout=30_000)


def test_a_network_of_the_readers(open_part, tmp_path):
    import torch

    from unet_edu import UNet
    from unet_edu.export import to_onnx

    torch.manual_seed(0)
    model = UNet(1, 4, base_channels=2, depth=1, padding=1).eval()
    path = to_onnx(model, tmp_path / "mine.onnx")
    part = open_part()
    part.press("Drawn by a program")
    part.host.get_by_text("A network of your own").click()
    chooser = part.host.get_by_label("ONNX file")
    chooser.set_input_files(path)
    part.answers(3)
    part.host.get_by_role("combobox", name="Class").select_option("3")
    found = part.answers(4)
    x = torch.from_numpy(found["gray"] / 255).float()[None, None]
    with torch.no_grad():
        p = model(x).softmax(dim=1)[0, 3].numpy()
    assert np.abs(p - found["probability"]).max() < 1e-3

    wrong = {"name": "n.onnx", "mimeType": "", "buffer": b"not a graph"}
    chooser.set_input_files(wrong)
    expect(part.status).to_contain_text("not a network that the page can run")
    chooser.set_input_files(wrong | {"buffer": b""})
    expect(part.status).to_contain_text("is empty")
    coloured = to_onnx(UNet(3, 2, base_channels=2, depth=1, padding=1), path)
    chooser.set_input_files(coloured)
    expect(part.status).to_contain_text("does not take this picture")
    unpadded = UNet(1, 2, base_channels=2, depth=1, padding=0)
    chooser.set_input_files(to_onnx(unpadded, path, torch.zeros(1, 1, 256, 288)))
    expect(part.status).to_contain_text("padding=1")
    before = part.count()
    part.press("The book's network again")
    assert part.answers(before + 1)["probability"].shape == (256, 288)


def test_drawing_by_mouse_and_by_keyboard(open_part):
    part = open_part()
    part.press("Draw with a pen")
    sheet = part.host.locator(".network-sheet")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    mouse = part.page.mouse
    before = part.count()
    mouse.move(box["x"] + 20, box["y"] + 40)
    mouse.down()
    mouse.move(box["x"] + box["width"] - 20, box["y"] + 40, steps=5)
    mouse.up()
    found = part.answers(before + 1)
    row = round(40 * 256 / box["width"])
    assert found["gray"][row, 60:200].max() == 56
    assert found["gray"][row + 20].min() == 191
    assert found["probability"][row, 60:200].mean() > 0.5
    part.press("Empty sheet")
    sheet.focus()
    part.page.keyboard.press("Space")
    expect(part.status).to_contain_text("The pen is down")
    for _ in range(10):
        part.page.keyboard.press("ArrowRight")
    before = part.count()
    part.page.keyboard.press("Space")
    found = part.answers(before + 1)
    assert found["gray"][128, 130:165].max() == 56
    assert (found["gray"] == 191).mean() > 0.98


def test_by_keyboard_alone(open_part):
    part = open_part(load=False)
    part.host.evaluate(NOTED)
    part.host.get_by_role("button", name="Load the network").focus()
    press = part.page.keyboard.press
    press("Enter")
    part.answers(1)
    expect(part.host.get_by_role("button", name="Slice 24")).to_be_focused()
    press("Tab")
    press("Enter")
    assert part.answers(2)["width"] == 288
    reached = []
    for _ in range(9):
        press("Tab")
        reached.append(
            part.page.evaluate(
                "document.activeElement.closest('label, button, summary')?.textContent"
            )
        )
    for name in (
        "Draw with",
        "A picture of yours",
        "Changed first",
        "Show",
        "Threshold",
    ):
        assert any(name in (text or "") for text in reached), (name, reached)
    slider = part.host.get_by_label("Threshold")
    slider.focus()
    press("ArrowRight")
    assert part.answers(3)["threshold"] == pytest.approx(0.55)
    part.host.get_by_label("Show").select_option("probability")
    expect(part.host.get_by_role("slider", name="Mask")).to_be_disabled()


@pytest.mark.parametrize(("width", "dark"), [(320, False), (390, True), (1280, True)])
def test_fits_the_screen(open_part, width, dark):
    part = open_part(width=width, dark=dark, has_touch=width < 500)
    part.press("Draw with a pen")
    wide = "document.documentElement.scrollWidth"
    assert part.page.evaluate(wide) <= width
    for control in part.host.locator("button, select, input[type=range]").all():
        if control.is_visible():
            box = control.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["height"] >= 24


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(open_part, dark):
    part = open_part(dark=dark)
    axe = Path(sys.prefix, "web", "node_modules", "axe-core", "axe.min.js")
    if not axe.exists():
        pytest.skip("axe-core is missing: run make book")
    part.press("Draw with a pen")
    part.page.add_script_tag(content=axe.read_text(encoding="utf-8"))
    found = part.page.evaluate("axe.run('section.live-network')")
    assert not found["violations"], json.dumps(
        [(v["id"], [n["html"][:90] for n in v["nodes"]]) for v in found["violations"]]
    )


def test_without_scripts_the_figure_stands_there(open_page):
    page = open_page(PAGE, scripts=False)
    assert page.locator("section.live-network").count() == 0
    figure = page.locator(".tag_live-network .cell_output img")
    assert "rings" in figure.get_attribute("alt")
    assert figure.bounding_box()["height"] > 100


def test_cells_are_counted_as_scipy_does(open_page, site):
    from scipy import ndimage

    page = open_page("book/setup.html")
    rng = np.random.default_rng(0)
    p = ndimage.gaussian_filter(rng.random((83, 61)), 2)
    threshold = float(np.median(p)) + 0.01
    labels, n = ndimage.label(p <= threshold)
    sizes = ndimage.sum(p <= threshold, labels, range(1, n + 1))
    for least in (1, 20, 50):
        found = page.evaluate(
            f"""([p, threshold, least]) =>
            import('{site}/_static/live/network.js').then((part) =>
              part.countCells(Float64Array.from(p), 61, threshold, least))""",
            [p.flatten().tolist(), threshold, least],
        )
        assert found == (sizes >= least).sum()
