"""The metric playground of chapters 1 and 11: its numbers are the package's."""

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, Page
from scipy import ndimage

from unet_edu import metrics, plotting

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = {
    "pixels": "01-pixels-to-masks",
    "boundary": "11-evaluation",
}
PAGES = {preset: f"book/{name}.html" for preset, name in CHAPTERS.items()}
TOLERANCES = [0, 0.5, 1, math.sqrt(2), 1.5, 2, 2.5, 3, 7.3]
SIDE = 48

# Put before a script: the module that the page itself has loaded.
MODULE = (
    "const m = await import(new URL('../_static/live/metrics.js', document.baseURI));"
)


def flat(mask: np.ndarray) -> list[int]:
    return mask.astype(int).ravel().tolist()


def tensor(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(mask).astype(np.int64))


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of masks: noise, blobs, lines, and every degenerate case."""
    rng = np.random.default_rng(0)
    made = []
    for density in (0.02, 0.1, 0.3, 0.5, 0.7, 0.95):
        for shape in ((48, 48), (17, 23), (5, 40), (9, 9)):
            made.append(tuple(rng.random((2, *shape)) < density))
    for sigma in (1, 2, 4):
        for _ in range(8):
            truth = ndimage.gaussian_filter(rng.normal(size=(48, 48)), sigma)
            other = ndimage.gaussian_filter(rng.normal(size=(48, 48)), sigma)
            close = truth + 0.3 * other
            made.append((close > 0, truth > 0))
            made.append((abs(close) < truth.std() / 4, abs(truth) < truth.std() / 4))
    for shape in ((48, 48), (1, 12), (12, 1), (1, 1), (2, 3)):
        none, every = np.zeros(shape, bool), np.ones(shape, bool)
        one = none.copy()
        one[-1, 0] = True
        some = rng.random(shape) < 0.5
        kinds = (none, every, one, ~one, some)
        made += [(a, b) for a in kinds for b in kinds]
    return made


def by_package(predicted: np.ndarray, truth: np.ndarray) -> SimpleNamespace:
    p, t = tensor(predicted), tensor(truth)
    c = metrics.confusion_matrix(p, t, 2)
    return SimpleNamespace(
        table=c.tolist(),
        accuracy=metrics.pixel_accuracy(c),
        iou=metrics.iou(c).tolist(),
        dice=metrics.dice(c).tolist(),
        mean=metrics.mean_over_present(metrics.iou(c)),
        boundary=[metrics.boundary_f1(p, t, tolerance) for tolerance in TOLERANCES],
        labels=metrics.regions(p, thin=False).flatten().tolist(),
        regions=int(metrics.regions(p).max()),
    )


def test_numbers_are_the_packages(open_page: Callable[..., Page]):
    cases = pairs()
    page = open_page(PAGES["pixels"])
    script = (
        """async ([cases, tolerances]) => {"""
        + MODULE
        + """
        return cases.map(([p, t, w]) => {
          const c = m.confusionMatrix(p, t);
          return {
            table: c, accuracy: m.pixelAccuracy(c), iou: m.iou(c), dice: m.dice(c),
            mean: m.meanOverPresent(m.iou(c)),
            boundary: tolerances.map((r) => m.boundaryF1(p, t, w, r)),
            labels: [...m.regions(p, w)], regions: m.countRegions(p, w),
            default: m.boundaryF1(p, t, w),
          };
        });
      }"""
    )
    sent = [(flat(p), flat(t), p.shape[1]) for p, t in cases]
    answers = page.evaluate(script, [sent, TOLERANCES])
    assert len(cases) == len(answers) >= 150
    absent = 0
    for (predicted, truth), got in zip(cases, answers, strict=True):
        want = by_package(predicted, truth)
        assert got["table"] == want.table
        assert got["labels"] == want.labels
        assert got["regions"] == want.regions
        for name in ("accuracy", "iou", "dice", "mean", "boundary"):
            expected = getattr(want, name)
            assert got[name] == pytest.approx(expected, abs=1e-9, nan_ok=True), name
        default = metrics.boundary_f1(tensor(predicted), tensor(truth))
        assert got["default"] == pytest.approx(default, abs=1e-9, nan_ok=True)
        absent += math.isnan(want.boundary[0])
    assert absent >= 5


def test_shift_grow_and_shrink_are_what_the_chapters_do(
    open_page: Callable[..., Page],
):
    rng = np.random.default_rng(1)
    page = open_page(PAGES["boundary"])
    script = (
        "async ([mask, w, dx, dy]) => {"
        + MODULE
        + "return [m.shifted(mask, w, dx, dy),"
        " m.grown(mask, w), m.shrunk(mask, w)].map((one) => [...one]); }"
    )
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (3, -2)):
        mask = rng.random((11, 19)) < 0.4
        rows = np.clip(np.arange(11) - dy, 0, 10)
        columns = np.clip(np.arange(19) - dx, 0, 18)
        assert page.evaluate(script, [flat(mask), 19, dx, dy]) == [
            flat(mask[rows][:, columns]),
            flat(ndimage.binary_dilation(mask)),
            flat(ndimage.binary_erosion(mask, border_value=1)),
        ]


def test_words_for_what_became_of_the_regions(open_page: Callable[..., Page]):
    page = open_page(PAGES["boundary"])
    script = (
        "async ([a, b, w]) => {"
        + MODULE
        + "return m.regionsChanged(a, b, w, 'cell'); }"
    )

    def words(before: str, after: str) -> str:
        rows = [[int(pixel) for pixel in row] for row in (before, after)]
        return page.evaluate(script, [*rows, len(before)])

    assert words("00100", "00000") == "two cells became one"
    assert words("00000", "00100") == "one cell became two"
    assert words("01010", "00000") == "three cells became one"
    assert words("01010", "00010") == "two cells became one"
    assert words("00100", "01000") == ""
    assert words("01010101", "00010001") == "2 cells instead of 4"
    assert words("0100", "1100") == "1 cell instead of 2"


# What the notebook's figure shows is what the page starts from.
FIGURES = {
    "pixels": {
        "disc, shifted 1 px": "disc-shifted",
        "line, shifted 1 px": "line-shifted",
        "disc, specks of noise": "specks",
        "disc, all background": "background",
        "disc, all foreground": "foreground",
        "both masks empty": "empty",
    },
    "boundary": {
        "shifted 1 px": "cells-shifted",
        "gap of 3 px": "gap",
        "1 px thicker": "cells-thicker",
        "specks of noise": "cells-specks",
    },
}


def figure_cell(preset: str) -> dict:
    path = ROOT / "book" / f"{CHAPTERS[preset]}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tag = f"live-metrics-{preset}"
    [cell] = [cell for cell in cells if tag in cell["metadata"].get("tags", [])]
    return cell


@pytest.mark.parametrize("preset", PAGES)
def test_the_figure_shows_the_masks_of_the_page(
    open_page: Callable[..., Page], preset: str
):
    page = open_page(PAGES[preset])
    script = "async () => {" + MODULE + "return Object.entries(m.PRESETS).map("
    script += "([k, v]) => [k, [...v.predicted], [...v.truth]]); }"
    shown = {name: masks for name, *masks in page.evaluate(script)}
    cell = figure_cell(preset)
    space = {
        **{name: getattr(metrics, name) for name in dir(metrics)},
        **{"torch": torch, "ndimage": ndimage, "plotting": plotting},
        "metrics": metrics,
    }
    exec("".join(cell["source"]), space)
    plt.close("all")
    assert space["small"].keys() == FIGURES[preset].keys()
    for name, key in FIGURES[preset].items():
        masks = space["small"][name]
        predicted, truth = (masks, space["walls"]) if preset == "boundary" else masks
        assert [flat(m.numpy()) for m in (predicted, truth)] == shown[key], name
    # The text for those who do not see the figure says the same numbers.
    alt = cell["metadata"]["mystnb"]["image"]["alt"]
    for values in (space["scores"] if preset == "pixels" else space["f1"]).values():
        for value in values:
            number = "NaN" if math.isnan(value) else f"{value:.3f}".lstrip("0")
            assert number in alt or (value == 0 and " 0" in alt)


# The page itself.

COLOURS = {
    (255, 255, 255): (0, 0),
    (201, 210, 218): (1, 1),
    (230, 159, 0): (0, 1),
    (204, 121, 167): (1, 0),
}


def playground(page: Page) -> Locator:
    page.wait_for_selector(".live-on .live-metrics canvas")
    part = page.locator(".live-metrics")
    part.locator("canvas").scroll_into_view_if_needed()
    return part


def read(part: Locator) -> dict:
    """Read what the page shows: the masks as colours, the numbers, the words."""
    return part.evaluate(
        """(part, side) => {
          const canvas = part.querySelector("canvas"), step = canvas.width / side;
          const copy = document.createElement("canvas");
          [copy.width, copy.height] = [canvas.width, canvas.height];
          const pen = copy.getContext("2d", { willReadFrequently: true });
          pen.drawImage(canvas, 0, 0);
          const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
          const named = (name, value) => Object.fromEntries(
            [...part.querySelectorAll(`[data-${name}]`)].map((one) =>
              [one.dataset[name], value(one)]));
          return {
            colours: Array.from({ length: side * side }, (_, i) => {
              const x = (i % side + .5) * step, y = (Math.floor(i / side) + .5) * step;
              const at = 4 * (y * canvas.width + x);
              return [...data.slice(at, at + 3)];
            }),
            exact: named("metric", (one) => Number(one.dataset.value)),
            text: named("metric", (one) => Number(one.textContent)),
            count: named("count", (one) => Number(one.textContent)),
            tolerance: Number(part.querySelector("input[type=range]").value),
            label: canvas.getAttribute("aria-label"),
            pieces: part.querySelector(".pieces .was").textContent,
          };
        }""",
        SIDE,
    )


def said(part: Locator) -> str:
    return part.locator(".says").text_content()


def check(part: Locator) -> SimpleNamespace:
    """Assert that all that is shown is what the package says of the masks shown."""
    page = read(part)
    values = np.array([COLOURS[tuple(colour)] for colour in page["colours"]])
    predicted, truth = values.T.reshape(2, SIDE, SIDE).astype(bool)
    p, t = tensor(predicted), tensor(truth)
    c = metrics.confusion_matrix(p, t, 2)
    want = {
        "accuracy": metrics.pixel_accuracy(c),
        "iou": metrics.iou(c)[1].item(),
        "dice": metrics.dice(c)[1].item(),
        "boundary": metrics.boundary_f1(p, t, page["tolerance"]),
    }
    assert page["exact"] == pytest.approx(want, abs=1e-9, nan_ok=True)
    assert page["text"] == pytest.approx(want, abs=0.00051, nan_ok=True)
    counted = c.flatten().tolist()
    counts = {
        **dict(zip(("right", "invented", "missed", "found"), counted, strict=True)),
        "regions": int(metrics.regions(p).max()),
    }
    assert page["count"] == counts
    for name in ("found", "missed", "invented"):
        assert f"{counts[name]} {name}" in page["label"]
    assert page["pieces"].endswith(f"truth {int(metrics.regions(t).max())}")
    return SimpleNamespace(predicted=predicted, truth=truth, **want, **counts)


def test_painting_by_mouse(open_page: Callable[..., Page]):
    page = open_page(PAGES["boundary"])
    part = playground(page)
    start = check(part)
    assert start.accuracy == 1
    assert start.regions == 5
    box = part.locator("canvas").bounding_box()

    def at(row: int, column: int) -> tuple[float, float]:
        step = box["width"] / SIDE
        return box["x"] + (column + 0.5) * step, box["y"] + (row + 0.5) * step

    def drag(begin: tuple[int, int], end: tuple[int, int]) -> None:
        page.mouse.move(*at(*begin))
        page.mouse.down()
        page.mouse.move(*at(*end))  # in one jump: the stroke has no holes
        page.mouse.up()

    part.get_by_label("erase").check()
    drag((8, 22), (8, 24))
    now = check(part)
    assert (now.missed, now.invented, now.regions) == (2, 0, 4)
    assert said(part) == (
        "2 pixels gone: accuracy .999, IoU .993, Dice .996, two cells became one."
    )
    before = part.locator("[data-metric=iou] + .was").text_content()
    assert before == "before 1.000"

    part.get_by_label("paint").check()
    part.get_by_label("size").select_option("3")
    drag((2, 2), (12, 12))
    now = check(part)
    assert now.predicted[1:14, 1:14].diagonal().all()
    assert now.missed == 2
    assert now.invented > 30
    assert "pixels new: " in said(part)

    part.get_by_role("button", name="undo").click()
    assert check(part).invented == 0
    part.get_by_role("button", name="undo").click()
    assert check(part).missed == 0
    assert "one cell became two" in said(part)
    assert part.get_by_role("button", name="undo").is_disabled()


def test_painting_by_touch_does_not_scroll(open_page: Callable[..., Page]):
    page = open_page(PAGES["pixels"], width=390, height=844, has_touch=True)
    part = playground(page)
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    box = part.locator("canvas").bounding_box()
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *places: tuple[int, int]) -> None:
        step = box["width"] / SIDE
        points = [
            {"x": box["x"] + (u + 0.5) * step, "y": box["y"] + (v + 0.5) * step}
            for v, u in places
        ]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    scrolled = page.evaluate("scrollY")
    send("touchStart", (40, 3))
    for row in range(39, 4, -5):
        send("touchMove", (row, 3))
    send("touchEnd")
    page.wait_for_function(
        "document.querySelector('.says').textContent.includes('new')"
    )
    now = check(part)
    assert now.predicted[9:41, 3].all()
    assert now.invented == now.predicted[:, 3].sum()
    assert page.evaluate("scrollY") == scrolled

    # A stroke that the browser takes for something else is taken back.
    send("touchStart", (40, 44))
    send("touchMove", (20, 44))
    send("touchCancel")
    assert check(part).invented == now.invented

    # A finger beside the canvas still scrolls the page.
    heading = page.evaluate("scrollY")
    page.mouse.wheel(0, 200)
    page.wait_for_function(f"scrollY > {heading}")


def test_painting_by_keyboard(open_page: Callable[..., Page]):
    page = open_page(PAGES["pixels"])
    part = playground(page)
    canvas = part.locator("canvas")
    part.get_by_role("button", name="start again").focus()
    page.keyboard.press("Tab")
    assert canvas.evaluate("canvas => canvas === document.activeElement")
    assert part.locator(".place").text_content() == "row 25, column 25: found"
    scrolled = page.evaluate("scrollY")
    page.keyboard.press(" ")
    now = check(part)
    assert (now.missed, now.regions) == (1, 2)
    assert not now.predicted[24, 24]
    # A hole is a region that was not there before: nothing was cut in two.
    assert said(part).startswith("1 pixel gone: IoU .998, Dice .999, boundary F1 ")
    assert said(part).endswith(", 2 regions instead of 1.")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert part.locator(".place").text_content() == "row 24, column 1: background"
    page.keyboard.press(" ")
    assert check(part).predicted[23, 0]
    page.keyboard.press(" ")
    assert check(part).invented == 0
    page.keyboard.press("Shift+ArrowDown")
    now = check(part)
    assert not now.predicted[25, 24]
    assert now.invented > 20
    assert page.evaluate("scrollY") == scrolled


def test_buttons_and_the_tolerance(open_page: Callable[..., Page]):
    part = playground(open_page(PAGES["boundary"]))

    def press(name: str) -> None:
        part.get_by_role("button", name=name, exact=True).click()

    truth = check(part).truth
    for name, (dx, dy) in {
        "shift left": (-1, 0),
        "shift up": (0, -1),
        "shift down": (0, 1),
        "shift right": (1, 0),
    }.items():
        press("copy the truth")
        assert check(part).accuracy == 1
        press(name)
        rows = np.clip(np.arange(SIDE) - dy, 0, SIDE - 1)
        columns = np.clip(np.arange(SIDE) - dx, 0, SIDE - 1)
        assert (check(part).predicted == truth[rows][:, columns]).all()
        assert re.match(r"\d+ pixels gone and \d+ new: ", said(part))

    values = []
    for tolerance in ("0", "0.5", "1", "3"):
        part.locator("input[type=range]").fill(tolerance)
        values.append(check(part).boundary)
        unit = "pixel" if tolerance == "1" else "pixels"
        assert said(part).startswith(f"Tolerance {tolerance} {unit}: boundary F1 ")
    assert values[0] == values[1] < 0.5
    assert values[2] == values[3] == 1
    assert said(part).endswith("as before.")

    press("copy the truth")
    press("grow")
    assert (check(part).predicted == ndimage.binary_dilation(truth)).all()
    press("shrink")
    press("shrink")
    shrunk = check(part)
    assert shrunk.missed > 0
    press("start again")
    assert check(part).accuracy == 1
    press("copy the truth")
    assert said(part) == "Nothing changed."


@pytest.mark.parametrize("preset", PAGES)
def test_every_start_says_its_numbers(open_page: Callable[..., Page], preset: str):
    part = playground(open_page(PAGES[preset]))
    select = part.get_by_label("Start from")
    names = part.locator("option").evaluate_all("all => all.map((one) => one.value)")
    seen = {}
    for name in names[: names.index("empty") + 1]:
        select.select_option(name)
        seen[name] = check(part), said(part)
        numbers = seen[name][0]
        assert f"{numbers.missed} missed, {numbers.invented} invented; " in said(part)
    assert len(seen) == 13
    assert all(seen[name][0].accuracy == 1 for name in ("disc", "line", "cells"))
    now, words = seen["empty"]
    assert now.accuracy == 1
    assert math.isnan(now.iou)
    assert math.isnan(now.boundary)
    assert "IoU NaN, Dice NaN" in words
    assert "absent" in words
    assert words.endswith("leaves it out: 1.000.")
    now, words = seen["gap"]
    assert (now.missed, now.invented, now.regions) == (6, 0, 4)
    assert "accuracy .997" in words
    assert "two cells became one" in words
    now, words = seen["foreground"]
    assert now.boundary == 0
    assert now.accuracy == pytest.approx(now.iou)
    assert "no boundary" in words
    assert seen["background"][0].iou == 0
    assert seen["line-shifted"][0].iou == 0
    assert seen["disc-shifted"][0].iou > 0.9


def test_what_stands_in_front(open_page: Callable[..., Page]):
    for preset, first, second in (
        ("pixels", "accuracy", "IoU"),
        ("boundary", "boundary F1", "accuracy"),
    ):
        part = playground(open_page(PAGES[preset]))
        names = part.locator(".meters dt").all_text_contents()
        assert names[:2] == [first, second]
        assert len(names) == 4


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("preset", PAGES)
def test_fits_the_screen_and_can_be_read(
    open_page: Callable[..., Page], preset: str, width: int, dark: bool
):
    page = open_page(PAGES[preset], width=width, dark=dark)
    part = playground(page)
    part.get_by_label("Start from").select_option("empty")
    part.get_by_role("button", name="grow").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    right = part.evaluate(
        "part => Math.max(...[part, ...part.querySelectorAll('*')]"
        ".map((one) => one.getBoundingClientRect().right))"
    )
    assert right <= width
    if width == 320:
        return
    axe = Path(sys.prefix, "web", "node_modules", "axe-core", "axe.min.js")
    if not axe.exists():
        pytest.skip("axe-core is not installed: run make book")
    page.add_script_tag(path=str(axe))
    found = page.evaluate("async () => (await axe.run('.live-metrics')).violations")
    assert not found, [(one["id"], one["nodes"][0]["html"]) for one in found]


@pytest.mark.parametrize("preset", PAGES)
def test_without_scripts_the_figure_is_there_and_no_control(
    open_page: Callable[..., Page], preset: str
):
    page = open_page(PAGES[preset], scripts=False)
    cell = page.locator(f"div.cell.tag_live-metrics-{preset}")
    assert cell.locator("img").is_visible()
    assert len(cell.locator("img").get_attribute("alt")) > 40
    assert page.locator(".live, canvas").count() == 0
    assert cell.locator("input, select, button").count() == 0


@pytest.mark.parametrize("preset", PAGES)
def test_on_paper_the_figure_stands_and_the_live_part_does_not(
    open_page: Callable[..., Page], preset: str
):
    page = open_page(PAGES[preset])
    part = playground(page)
    image = page.locator(f"div.cell.tag_live-metrics-{preset} .cell_output img")
    assert part.is_visible()
    assert image.is_visible()
    # On the screen the reader paints first; the figure keeps its caption below it.
    assert part.bounding_box()["y"] < image.bounding_box()["y"]
    page.emulate_media(media="print")
    assert not part.is_visible()
    assert image.is_visible()
