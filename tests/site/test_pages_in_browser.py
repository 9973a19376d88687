"""Every page of the built book, as a browser on a phone and on a desk meets it."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import chromium
import pytest
import yaml
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
AXE = Path(sys.prefix) / "web" / "node_modules" / "axe-core" / "axe.min.js"
# The same rules; what passes is not described, which takes two thirds of the time.
FAULTS_ONLY = '{resultTypes: ["violations"]}'
MOST_BYTES = 1_000_000
Visit = Callable[..., Page]


def pages() -> list[str]:
    """Return all pages of the table of contents, and the search."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    found = [contents["root"]]
    found += [page["file"] for part in contents["parts"] for page in part["chapters"]]
    return [*found, "search"]


LOOKS = {
    "phone at night": {"width": 390, "dark": True},
    "desk": {"width": 1280, "dark": False},
    "phone": {"width": 390, "dark": False},
    "desk at night": {"width": 1280, "dark": True},
}
PHONE_AND_DESK = ["phone at night", "desk"]


def violations(page: Page) -> list[str]:
    page.wait_for_timeout(800)  # the theme colours the page, and looks what scrolls
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return [
        f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}"
        for v in page.evaluate(f"axe.run({FAULTS_ONLY})")["violations"]
    ]


@pytest.mark.parametrize("name", pages())
def test_a_page_is_whole(open_page: Visit, site: str, name: str):
    """Light, no wider than the screen, with every picture, and right for axe.

    One visit a page, because a visit costs seconds: on a phone, then on a desk; axe
    looks at the look that is this page's turn.
    """
    turn = list(LOOKS.values())[pages().index(name) % len(LOOKS)]
    page = open_page("404.html", dark=turn["dark"], width=390, reduced_motion="reduce")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    sizes: list[float] = []
    devtools.on(
        "Network.loadingFinished", lambda e: sizes.append(e["encodedDataLength"])
    )
    page.goto(f"{site}/{name}.html")
    pictures = page.evaluate(
        """async () => {
          for (const image of document.images) image.loading = "eager";
          const all = [...document.querySelectorAll("main article img")];
          const shown = all.filter((image) => image.offsetParent);
          for (const image of shown) await image.decode().catch(() => {});
          return shown.map((image) => ({
            source: image.src,
            alt: image.alt,
            whole: image.naturalWidth > 0,
            sized: image.hasAttribute("width"),
          }));
        }"""
    )
    page.wait_for_load_state("networkidle")
    assert 10_000 < sum(sizes) <= MOST_BYTES, f"{sum(sizes) / 1000:.0f} KB"
    for picture in pictures:
        assert picture["whole"], picture
        assert picture["sized"], picture
        assert len(picture["alt"]) > 20, picture
    assert page.locator("main h1:visible").count() == 1
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width == turn["width"]:
            assert violations(page) == []


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ["book/05-up", "404"])
def test_axe_finds_nothing_in_any_look(open_page: Visit, name: str, look: str):
    page = open_page(f"{name}.html", reduced_motion="reduce", **LOOKS[look])
    assert violations(page) == []


def test_every_icon_is_drawn(site: str):
    drawn = (ROOT / "book" / "_static" / "icons.css").read_text(encoding="utf-8")
    asked = {"fa-github", "fa-rocket", "fa-lightbulb", "fa-pencil-alt", "fa-xmark"}
    for path in chromium.SITE.rglob("*.html"):
        for names in re.findall(
            r'<(?:i|span) class="([^"]*\bfa-[^"]*)"', path.read_text()
        ):
            asked |= {name for name in names.split() if name.startswith("fa-")}
    asked -= {"fa-solid", "fa-lg"}
    assert len(asked) > 10
    assert {name for name in asked if f".{name} {{" not in drawn} == set()


@pytest.mark.parametrize("look", PHONE_AND_DESK)
@pytest.mark.parametrize(
    ("words", "title"), [("skip connection", "5 · Up"), ("跳层连接", "Glossary")]
)
def test_search_finds(open_page: Visit, words: str, title: str, look: str):
    # Sphinx cannot look up anchors with a dot in them, and says so on the console.
    page = open_page("book/setup.html", allow="Anchored content block", **LOOKS[look])
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").fill(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    results = page.locator("#search-results ul.search li a")
    results.first.wait_for()
    page.wait_for_function(
        "document.querySelector('#search-results .search-summary').innerText.length > 9"
    )
    titles = results.all_inner_texts()
    assert any(found.startswith(title) for found in titles), titles
    results.filter(has_text=title).first.click()
    page.wait_for_load_state()
    assert words in page.locator("article").inner_text()


def test_a_phone_finds_the_chapters(open_page: Visit):
    page = open_page("book/05-up.html", width=390)
    chapter = page.locator("dialog[open]").get_by_role(
        "link", name="6 · The whole U-Net"
    )
    assert chapter.count() == 0
    page.locator("button.primary-toggle:visible").click()
    chapter.click()
    page.wait_for_url("**/06-unet.html")
    assert page.locator("article h1").inner_text().startswith("6 · The whole U-Net")


def test_a_desk_goes_on_to_the_next_page(open_page: Visit):
    page = open_page("book/05-up.html")
    page.locator("a.right-next").click()
    page.wait_for_url("**/06-unet.html")


def test_the_dark_stays_dark(open_page: Visit, site: str):
    page = open_page("book/05-up.html")
    themes = set()
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        themes.add(page.evaluate("document.documentElement.dataset.mode"))
    assert themes == {"auto", "light", "dark"}
    while page.evaluate("document.documentElement.dataset.mode") != "dark":
        page.locator(".theme-switch-button:visible").first.click()
    page.goto(f"{site}/book/06-unet.html")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 60


def test_the_drawing_changes_with_the_theme(open_page: Visit):
    for dark in (False, True):
        page = open_page("book/index.html", dark=dark)
        page.wait_for_timeout(200)
        shown = page.locator("article img:visible")
        assert shown.count() == 1
        assert shown.get_attribute("src").endswith("unet-dark.svg") == dark


def test_all_by_keyboard(open_page: Visit):
    page = open_page("book/05-up.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to main content"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main-content"
    fold = page.locator("details.answer").first
    fold.locator("summary").focus()
    assert not fold.evaluate("fold => fold.open")
    page.keyboard.press("Enter")
    assert fold.evaluate("fold => fold.open")
    ring = fold.locator("summary").evaluate("s => getComputedStyle(s).outlineStyle")
    assert ring == "solid"


def test_code_of_88_columns_fits_a_laptop(open_page: Visit):
    page = open_page("book/05-up.html", width=1366, height=768)
    overflow = page.evaluate(
        """() => [...document.querySelectorAll("div.cell_input pre")]
          .filter((pre) => pre.scrollWidth > pre.clientWidth + 1)
          .map((pre) => pre.innerText.slice(0, 80))"""
    )
    assert overflow == []


def test_without_scripts_the_page_can_be_read(open_page: Visit):
    page = open_page("book/05-up.html", scripts=False)
    assert page.locator("article h1").inner_text().startswith("5 · Up")
    fold = page.locator("details.answer").first
    fold.locator("summary").click()
    assert fold.locator("p").first.is_visible()


def test_who_is_lost_finds_back(open_page: Visit):
    page = open_page("404.html", width=390)
    assert (
        page.locator("article h1")
        .inner_text()
        .startswith("This page is not in the book")
    )


def test_on_paper_only_the_text_is_left(open_page: Visit):
    page = open_page("book/05-up.html")
    page.emulate_media(media="print")
    assert page.locator("article h1").is_visible()
    for gone in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-area"):
        assert not page.locator(gone).first.is_visible(), gone
