"""The geometry explorer of chapters 3 to 6: its numbers, its controls, its looks."""

import re
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from playwright.sync_api import Browser, Page, expect
from torch import Tensor, nn

from unet_edu import DoubleConv, Down, UNet, Up, blocks
from unet_edu.ledger import ledger

PAGES = {
    "book/03-doubleconv.html": "block",
    "book/04-down.html": "encoder",
    "book/05-up.html": "up",
    "book/06-unet.html": "",
}
BOOK = "book/06-unet.html"

# part, height, width, depth, padding, align, channels of the first level
SETTINGS = [
    ("unet", 572, 572, 4, 0, "pad", 1),
    ("unet", 572, 572, 4, 0, "crop", 1),
    ("unet", 572, 572, 4, 1, "pad", 2),
    ("unet", 576, 576, 4, 1, "pad", 1),
    ("unet", 570, 570, 4, 0, "crop", 1),
    ("unet", 571, 571, 4, 0, "pad", 2),
    ("unet", 567, 600, 4, 0, "pad", 1),
    ("unet", 572, 588, 4, 0, "crop", 3),
    ("unet", 572, 590, 4, 0, "crop", 1),
    ("unet", 571, 590, 4, 0, "crop", 1),
    ("unet", 188, 188, 4, 0, "crop", 1),
    ("unet", 172, 172, 4, 0, "crop", 1),
    ("unet", 140, 140, 4, 0, "pad", 4),
    ("unet", 139, 139, 4, 0, "pad", 1),
    ("unet", 16, 16, 4, 1, "pad", 1),
    ("unet", 15, 15, 4, 1, "pad", 1),
    ("unet", 97, 131, 4, 1, "pad", 4),
    ("unet", 97, 131, 4, 1, "crop", 1),
    ("unet", 96, 128, 4, 1, "crop", 1),
    ("unet", 33, 16, 4, 1, "pad", 1),
    ("unet", 5, 5, 0, 0, "pad", 1),
    ("unet", 4, 9, 0, 0, "crop", 1),
    ("unet", 1, 7, 0, 1, "pad", 4),
    ("unet", 572, 572, 0, 0, "pad", 64),
    ("unet", 18, 18, 1, 0, "crop", 1),
    ("unet", 16, 16, 1, 0, "crop", 1),
    ("unet", 19, 22, 1, 0, "pad", 2),
    ("unet", 14, 13, 1, 0, "pad", 1),
    ("unet", 3, 2, 1, 1, "pad", 1),
    ("unet", 1, 1, 1, 1, "pad", 1),
    ("unet", 44, 48, 2, 0, "crop", 1),
    ("unet", 46, 46, 2, 0, "crop", 1),
    ("unet", 47, 51, 2, 0, "pad", 1),
    ("unet", 92, 100, 3, 0, "crop", 1),
    ("unet", 84, 84, 3, 0, "crop", 1),
    ("unet", 101, 77, 3, 0, "pad", 2),
    ("unet", 68, 67, 3, 0, "pad", 1),
    ("unet", 45, 59, 3, 1, "pad", 2),
    ("unet", 572, 572, 5, 0, "crop", 1),
    ("unet", 380, 380, 5, 0, "crop", 1),
    ("unet", 300, 333, 5, 0, "pad", 1),
    ("unet", 283, 284, 5, 0, "pad", 1),
    ("unet", 100, 31, 5, 1, "pad", 1),
    ("unet", 764, 764, 6, 0, "crop", 1),
    ("unet", 700, 764, 6, 0, "crop", 1),
    ("unet", 573, 600, 6, 0, "pad", 1),
    ("unet", 570, 572, 6, 0, "pad", 1),
    ("unet", 64, 65, 6, 1, "pad", 2),
    ("unet", 63, 128, 6, 1, "pad", 1),
    ("unet", 128, 96, 6, 1, "crop", 1),
    ("encoder", 572, 572, 4, 0, "pad", 2),
    ("encoder", 572, 572, 4, 1, "pad", 1),
    ("encoder", 571, 571, 3, 0, "pad", 1),
    ("encoder", 139, 139, 4, 0, "pad", 1),
    ("encoder", 284, 284, 5, 0, "pad", 1),
    ("encoder", 63, 63, 6, 1, "pad", 1),
    ("encoder", 9, 9, 1, 0, "pad", 1),
    ("up", 64, 64, 1, 0, "pad", 2),
    ("up", 64, 64, 1, 0, "crop", 2),
    ("up", 65, 65, 1, 1, "pad", 2),
    ("up", 65, 65, 1, 1, "crop", 2),
    ("up", 65, 65, 1, 0, "crop", 1),
    ("up", 32, 33, 1, 0, "pad", 1),
    ("up", 13, 13, 1, 0, "crop", 1),
    ("up", 10, 10, 1, 0, "pad", 1),
    ("up", 9, 9, 1, 0, "pad", 1),
]


# ---------------------------------------------------------------- what the package does


class OneUp(nn.Module):
    """A Down and an Up, as chapter 5 has them; the image is the map on the skip."""

    def __init__(self, base: int, padding: int, align: str) -> None:
        super().__init__()
        self.down1 = Down(base, 2 * base, padding=padding)
        self.up1 = Up(2 * base, base, padding=padding, align=align)

    def forward(self, skip: Tensor) -> Tensor:
        return self.up1(self.down1(skip), skip)


class Encoder(nn.Sequential):
    """The way down of a UNet."""

    def __init__(self, base: int, depth: int, padding: int) -> None:
        super().__init__()
        self.inc = DoubleConv(1, base, padding=padding)
        for i in range(depth):
            down = Down(base * 2**i, base * 2 ** (i + 1), padding=padding)
            self.add_module(f"down{i + 1}", down)


def build(part: str, depth: int, padding: int, align: str, base: int) -> nn.Module:
    if part == "up":
        return OneUp(base, padding, align).eval()
    if part == "encoder" or depth == 0:
        return Encoder(base, depth, padding).eval()
    settings = {"base_channels": base, "depth": depth, "padding": padding}
    return UNet(1, 1, align=align, **settings).eval()


def takes(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Tell whether the network takes images of a shape, by giving it one."""
    try:
        network(torch.empty(shape, device=next(network.parameters()).device))
    except (ValueError, RuntimeError):
        return False
    return True


def shapes(network: nn.Module, images: Tensor) -> tuple[dict, list]:
    """Run a network; return each stage's shape, and how each skip was aligned."""
    found, aligned = {}, []
    for name, module in network.named_modules():
        if re.fullmatch(r"inc|down\d|up\d|up\d\.up|outc", name):
            module.register_forward_hook(
                lambda _, args, out, name=name: found.update({name: out.shape[-2:]})
            )
    plain = blocks.align_maps

    def watch(x: Tensor, skip: Tensor, align: str) -> tuple[Tensor, Tensor]:
        # Number the rows and columns, and see which are where afterwards.
        (h, w), (high, wide) = x.shape[-2:], skip.shape[-2:]
        below, across = torch.ones(1, 1, h, w), torch.arange(high * wide)
        below, across = plain(below, across.view(1, 1, high, wide), align)
        if align == "pad":
            first = below[0, 0].nonzero()[0].tolist()
        else:
            first = list(divmod(across[0, 0, 0, 0].item(), wide))
        aligned.append((first, list(below.shape[-2:])))
        return plain(x, skip, align)

    with mock.patch.object(blocks, "align_maps", watch), torch.no_grad():
        found["output"] = network(images).shape[-2:]
    return {name: list(size) for name, size in found.items()}, aligned


def touched(network: nn.Module, images: Tensor) -> Tensor:
    """Put NaN where the network puts zeros; return where it arrives (chapter 6)."""

    def pad(module: nn.Module, args: tuple) -> tuple:
        return (F.pad(args[0], (1, 1, 1, 1), value=float("nan")),)

    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.padding == (1, 1):
            module.padding = (0, 0)
            module.register_forward_pre_hook(pad)
    plain = F.pad

    def with_nan(x: Tensor, amounts: tuple, value: float | None = None) -> Tensor:
        return plain(x, amounts, value=float("nan"))

    with mock.patch.object(blocks.F, "pad", with_nan), torch.no_grad():
        return network(images).isnan()[0, 0]


# ---------------------------------------------------------------- the numbers

COMPUTE = """async (settings) => {
  const numbers = await import("/_static/live/geometry.js");
  return settings.map(([part, height, width, depth, padding, align, base]) => {
    const net = { part, depth, padding, align, base };
    const walks = [height, width].map((side) => numbers.walk(side, net));
    const near = [height, width].map((side) => numbers.nearest(side, net));
    const whole = [height, width].map((side) => numbers.isWhole(side, net));
    if (walks.some((walk) => walk.problem)) {
      const words = walks.map((walk) =>
        walk.problem && numbers.explain(walk.problem, net, "side"));
      return { walks, near, words };
    }
    return {
      walks, near, whole,
      traces: [height, width].map((side) => numbers.trace(side, net)),
      share: numbers.touchedShare(height, width, net),
      cost: numbers.cost(height, width, net),
      words: numbers.result(height, width, net),
    };
  });
}"""


@pytest.fixture(scope="module")
def computed(browser: Browser, site: str) -> Iterator[dict]:
    """Return what the page's module says of every setting."""
    page = browser.new_page()
    page.goto(f"{site}/{BOOK}")
    answers = page.evaluate(COMPUTE, [list(setting) for setting in SETTINGS])
    page.close()
    return dict(zip(SETTINGS, answers, strict=True))


def in_channels(part: str, base: int) -> int:
    return base if part == "up" else 1


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_explorer_says_what_the_network_does(computed: dict, setting: tuple):
    part, height, width, depth, padding, align, base = setting
    said = computed[setting]
    channels = in_channels(part, base)
    network = build(part, depth, padding, align, base)
    fits = takes(network.to("meta"), (1, channels, height, width))
    assert fits == all(walk["problem"] is None for walk in said["walks"])
    if not fits:
        return

    torch.manual_seed(0)
    network = build(part, depth, padding, align, base)
    images = torch.rand(1, channels, height, width)
    sizes, aligned = shapes(network, images)
    rows, columns = said["walks"]
    assert [rows["output"], columns["output"]] == sizes["output"]
    for row, column in zip(rows["down"], columns["down"], strict=True):
        name = f"down{row['level']}" if row["level"] else "inc"
        if part == "up" and row["level"] == 0:
            assert [row["side"], column["side"]] == [height, width]
            continue
        assert [row["side"], column["side"]] == sizes[name], name
    assert len(aligned) == len(rows["up"])
    for row, column, (first, joined) in zip(
        rows["up"], columns["up"], aligned, strict=True
    ):
        name = f"up{depth - row['level']}"
        assert [row["enlarged"], column["enlarged"]] == sizes[f"{name}.up"], name
        assert [row["before"], column["before"]] == first, name
        assert [row["joined"], column["joined"]] == joined, name
        assert [row["side"], column["side"]] == sizes[name], name

    # What a padded zero can reach: the complement of a box.
    outputs = touched(network, images)
    assert said["share"] == pytest.approx(outputs.double().mean().item(), abs=1e-12)
    (top, high), (left, wide) = (
        (trace["output"]["start"], trace["output"]["clean"]) for trace in said["traces"]
    )
    expected = torch.ones_like(outputs)
    expected[top : top + high, left : left + wide] = False
    assert torch.equal(outputs, expected)

    # Parameters, multiply-adds, and what one value sees.
    book = ledger(
        build(part, depth, padding, align, base), (1, channels, height, width)
    )
    stages = [s for s in book.stages if part != "up" or s.name == "up1"]
    assert said["cost"]["parameters"] == sum(stage.parameters for stage in stages)
    assert said["cost"]["multAdds"] == sum(stage.mult_adds for stage in stages)
    sees = max(trace["output"]["sees"] for trace in said["traces"])
    assert sees == book.stages[-1].receptive_field
    if part != "up":
        for level in range(depth + 1):
            name = f"down{level}" if level else "inc"
            sees = max(trace["down"][level]["sees"] for trace in said["traces"])
            assert sees == book[name].receptive_field, name


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_sizes_it_offers_fit_and_none_between_does(computed: dict, setting: tuple):
    part, height, width, depth, padding, align, base = setting
    said = computed[setting]
    network = build(part, depth, padding, align, base).to("meta")
    channels = in_channels(part, base)
    for side, walk, near in zip(
        (height, width), said["walks"], said["near"], strict=True
    ):
        below, above = near["below"], near["above"]
        for good in filter(None, (below, above)):
            assert takes(network, (1, channels, good, good))
        for other in range((below or 0) + 1, above):
            if isinstance(network, UNet):
                good = network.fits(other)
            else:
                good = takes(network, (1, channels, other, other))
            assert good == (other == side and walk["problem"] is None), other


def test_the_package_names_the_same_sizes(computed: dict):
    compared = 0
    for setting, said in computed.items():
        part, height, width, depth, padding, align, base = setting
        if part != "unet" or depth == 0 or "traces" in said:
            continue
        network = build(part, depth, padding, align, base).to("meta")
        with pytest.raises(ValueError, match="do not fit") as caught:
            network(torch.empty(1, 1, height, width, device="meta"))
        first = next(i for i, walk in enumerate(said["walks"]) if walk["problem"])
        near = said["near"][first]
        sizes = [str(n) for n in (near["below"], near["above"]) if n is not None]
        assert f"use {' or '.join(sizes)}." in str(caught.value)
        compared += 1
    assert compared > 10


def test_the_numbers_of_the_book(computed: dict):
    article = computed["unet", 572, 572, 4, 0, "pad", 1]
    assert article["words"] == (
        "An image of 572×572 gives 564×564. Padded zeros reach 52.7 % of the outputs; "
        "the other 388×388 have seen none."
    )
    paper = computed["unet", 572, 572, 4, 0, "crop", 1]
    assert paper["words"] == (
        "An image of 572×572 gives 388×388. No output has seen a padded zero. "
        "A border of 92 pixels on each side gets no answer."
    )
    assert computed["unet", 572, 572, 0, 0, "pad", 64]["cost"]["parameters"] == 37_824
    assert "24.9 %" in computed["up", 64, 64, 1, 0, "pad", 2]["words"]


REASONS = [
    ("unet", 570, 4, 0, "crop", "Level 1: the side of the map is odd, 279."),
    ("unet", 172, 4, 0, "crop", "Level 2, up2: the side of 2 is enlarged to 4;"),
    ("unet", 139, 4, 0, "pad", "Level 4, down4: pooling makes 4 of 9;"),
    ("unet", 15, 4, 1, "pad", "Level 4, down4: a side of 1 cannot be halved."),
    ("unet", 4, 0, 0, "crop", "Level 0, inc: the side is 4;"),
    ("up", 13, 1, 0, "crop", "Level 0, up1: the side of 2 is enlarged to 4;"),
]


@pytest.mark.parametrize("reason", REASONS, ids=str)
def test_it_says_which_level_fails(computed: dict, reason: tuple):
    part, side, depth, padding, align, words = reason
    said = next(
        said["words"][0]
        for setting, said in computed.items()
        if (setting[0], setting[1], *setting[3:6])
        == (part, side, depth, padding, align)
    )
    assert said.startswith(words)


# ---------------------------------------------------------------- the controls


def explorer(page: Page):
    part = page.locator(".live-geometry")
    expect(part).to_have_count(1)
    expect(part.locator("svg").first).to_be_attached()
    return part


def test_by_keyboard(open_page: Callable[..., Page]):
    page = open_page(BOOK)
    part = explorer(page)
    result, drawing = part.locator(".result"), part.locator(".drawing")
    expect(result).to_contain_text("572×572 gives 564×564")
    expect(drawing).to_contain_text("output 564²")
    expect(part.locator(".cost")).to_contain_text("31,042,369 parameters")
    expect(part.locator(".cost")).to_contain_text("208.45 G")

    press = page.keyboard.press
    part.locator("[data-is=size]").focus()
    press("ArrowUp")
    expect(result).to_contain_text("573×573 gives 565×565")
    expect(drawing).to_contain_text("output 565²")
    press("Tab")  # the slider
    press("ArrowLeft")
    press("ArrowLeft")
    expect(result).to_contain_text("571×571 gives 563×563")
    expect(part.locator("[data-is=size]")).to_have_value("571")
    expect(result).to_contain_text("Pooling drops the last row and column at level 0")
    press("ArrowRight")
    press("Tab")  # depth
    press("ArrowRight")
    expect(drawing).to_contain_text("2,048 ch")
    press("Tab")  # padding of the convolutions
    press("ArrowRight")
    expect(result).to_contain_text("572×572 gives 572×572")
    press("ArrowLeft")
    press("Tab")  # pad or crop
    press("ArrowRight")
    expect(result).to_contain_text("572×572 gives 196×196")
    expect(drawing).to_contain_text("cut 4+4")
    press("Tab")  # start again
    press("Tab")  # height and channels, folded
    press("Enter")
    press("Tab")
    page.keyboard.type("604")
    expect(result).to_contain_text("604×572 gives 228×196")
    expect(drawing).to_contain_text("output 228×196")
    press("Shift+Tab")
    press("Shift+Tab")
    press("Enter")  # start again
    expect(result).to_contain_text("572×572 gives 564×564")
    expect(part.locator("[data-is=height]")).to_have_value("")


def test_an_impossible_size_is_red_and_can_be_mended(open_page: Callable[..., Page]):
    page = open_page(BOOK)
    part = explorer(page)
    part.get_by_label("crop").check()
    size = part.locator("[data-is=size]")
    size.fill("570")
    expect(part).to_have_class(re.compile(r"\bimpossible\b"))
    result = part.locator(".result")
    expect(result).to_contain_text("Level 1: the side of the map is odd, 279.")
    assert result.get_attribute("aria-live") == "polite"
    expect(result).to_have_css("color", "rgb(179, 38, 30)")
    expect(part.locator(".drawing rect.wrong")).to_have_count(1)
    expect(part.locator(".drawing")).to_contain_text("no output")
    expect(part.locator(".cost")).to_be_empty()
    buttons = part.locator(".suggestions button")
    assert buttons.all_text_contents() == ["556", "572"]
    size.focus()
    for _ in range(20):  # through the controls to the first button
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "556":
            break
    page.keyboard.press("Enter")
    expect(size).to_have_value("556")
    expect(size).to_be_focused()
    expect(part).not_to_have_class(re.compile(r"\bimpossible\b"))
    expect(result).to_contain_text("556×556 gives 372×372")
    expect(part.locator("rect.wrong")).to_have_count(0)


def test_height_and_width_fail_apart(open_page: Callable[..., Page]):
    part = explorer(open_page(BOOK))
    part.get_by_label("crop").check()
    part.locator("summary").click()
    part.locator("[data-is=height]").fill("580")
    part.locator("[data-is=size]").fill("100")
    expect(part.locator(".result")).to_contain_text("580×100 does not fit.")
    expect(part.locator(".result")).to_contain_text("height of the map is odd")
    buttons = part.locator(".suggestions button")
    names = ["height 572", "height 588", "width 188"]
    assert buttons.all_text_contents() == names
    buttons.nth(1).click()
    part.get_by_role("button", name="width 188").click()
    expect(part.locator(".result")).to_contain_text("588×188 gives 404×4")


@pytest.mark.parametrize("text", ["", "0", "-3", "2.5", "5000"])
def test_a_size_that_is_none_is_refused(open_page: Callable[..., Page], text: str):
    part = explorer(open_page(BOOK))
    part.locator("[data-is=size]").fill(text)
    expect(part.locator(".result")).to_have_text(
        "A size is a whole number from 1 to 4096."
    )


def test_a_chapter_shows_what_it_needs(open_page: Callable[..., Page]):
    shown = {}
    for path in PAGES:
        part = explorer(open_page(path))
        inputs = part.locator("[data-is]").all()
        shown[path] = {i.get_attribute("data-is") for i in inputs if i.is_visible()}
    block, encoder, up, full = shown.values()
    assert block == {"size", "slider", "padding"}
    assert encoder == {"size", "slider", "depth", "padding"}
    assert up == {"size", "slider", "padding", "align"}
    assert full == {"size", "slider", "depth", "padding", "align"}  # two are folded


def test_what_the_chapters_ask_can_be_found_out(open_page: Callable[..., Page]):
    part = explorer(open_page("book/03-doubleconv.html"))
    part.get_by_label("1", exact=True).check()
    expect(part.locator(".result")).to_contain_text("55.6 %")
    part.locator("[data-is=size]").fill("572")
    expect(part.locator(".result")).to_contain_text("1.4 %")
    part = explorer(open_page("book/04-down.html"))
    part.get_by_label("1", exact=True).check()
    result = part.locator(".result")
    expect(result).to_contain_text(
        "the last row and column at level 2 (143²), level 3 (71²)."
    )
    assert part.locator(".suggestions button").all_text_contents() == ["560", "576"]
    part = explorer(open_page("book/05-up.html"))
    part.locator("[data-is=size]").fill("32")
    expect(part.locator(".result")).to_contain_text("49.0 %")
    part = explorer(open_page(BOOK))
    part.locator("[data-is=depth]").fill("5")
    part.get_by_label("crop").check()
    expect(part.locator(".result")).to_contain_text("572×572 gives 196×196")


# ---------------------------------------------------------------- the looks

WIDEST = """() => [...document.querySelectorAll(".live-geometry, .live-geometry *")]
  .map((node) => node.getBoundingClientRect())
  .filter((box) => box.width)
  .reduce(([low, high], box) =>
    [Math.min(low, box.left), Math.max(high, box.right)], [0, 0])"""

# Every piece of text with its contrast to the ground of the page.
CONTRAST = """() => {
  const canvas = document.createElement("canvas")
    .getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => rgb(colour).slice(0, 3)
    .map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgb(colour)[3]) return colour;
    }
    return "white";
  };
  const found = [];
  for (const node of document.querySelectorAll(".live-geometry *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const [a, b] = [node instanceof SVGElement ? style.fill : style.color, ground(node)]
      .map(light).sort((x, y) => y - x);
    found.push([node.textContent.trim(), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""


# Words of the drawing that do not lie inside it.
OUTSIDE = """() => [...document.querySelectorAll(".live-geometry .drawing text")]
  .filter((text) => {
    const room = text.closest(".drawing").getBoundingClientRect();
    const box = text.getBoundingClientRect();
    return box.left < room.left - 1 || box.right > room.right + 1;
  }).map((text) => text.textContent)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("path", PAGES)
def test_it_fits_the_screen_and_can_be_read(
    open_page: Callable[..., Page], path: str, width: int, dark: bool
):
    page = open_page(path, width=width, dark=dark)
    part = explorer(page)
    theme = page.locator("html").get_attribute("data-theme")
    assert theme == ("dark" if dark else "light")
    full = PAGES[path] == ""
    for i, size in enumerate(["572", "1023", "3", "3001", "139"]):
        part.locator("[data-is=size]").fill(size)
        part.locator("[data-is=padding]").nth(i % 2).check()
        if full:
            part.locator("[data-is=depth]").fill("6" if i else "4")
            part.locator("details").evaluate("node => node.open = true")
            part.locator("[data-is=height]").fill("3333" if i else "")
        low, high = page.evaluate(WIDEST)
        assert low >= 0
        assert high <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OUTSIDE) == []
        for text, contrast in page.evaluate(CONTRAST):
            assert contrast >= 4.5, text


@pytest.mark.parametrize("path", PAGES)
def test_without_scripts_the_figure_is_there(open_page: Callable[..., Page], path: str):
    page = open_page(path, scripts=False)
    cell = page.locator("div.cell[class*='tag_live-geometry']")
    expect(cell.locator("img")).to_be_visible()
    assert cell.locator("img").get_attribute("alt")
    expect(page.locator(".live-geometry")).to_have_count(0)
    expect(cell.locator("input, select, button:not(.copybtn)")).to_have_count(0)


@pytest.mark.parametrize("path", PAGES)
def test_in_print_the_figure_stays_and_the_explorer_goes(
    open_page: Callable[..., Page], path: str
):
    page = open_page(path)
    part = explorer(page)
    expect(part).to_be_visible()
    page.emulate_media(media="print")
    expect(part).to_be_hidden()
    expect(page.locator("div.cell[class*='tag_live-geometry'] img")).to_be_visible()


def test_it_stands_behind_the_line_that_explains_the_figure(
    open_page: Callable[..., Page],
):
    for path in PAGES:
        part = explorer(open_page(path))
        before = part.evaluate("node => node.previousElementSibling.innerHTML")
        assert before.startswith("<em>")
