"""Mend the written pages where the theme's templates leave no other door.

- The theme sends 1.5 MB of icons (``_static/icons.css`` draws the few that we need),
  and on every page the search index, which only the search page reads.
- A picture that does not say its size makes the text jump when it arrives.
- Two buttons say one thing to the eye and another to a screen reader, and the sidebar
  is no landmark.
- Some roles and table heads are not what a screen reader may expect.
"""

import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ICONS = re.compile(r"\s*<script[^>]*fontawesome\.js[^>]*></script>")
# Scripts that wait for the page anyway, fetched before what the reader is to see.
PRELOADS = re.compile(r'\s*<link rel="preload" as="script"[^>]*>')
SEARCH = re.compile(
    r'\s*<script[^>]* src="[^"]*(?:searchtools|language_data|searchindex)'
    r'\.js[^"]*"></script>'
)
TWICE = re.compile(
    r'\s*<meta name="viewport"[^>]*>(?=.*<meta name="viewport")', re.DOTALL
)
# In the theme's style: where the icon font lies, and which sign each name means.
ICON_FONT = re.compile(r"@font-face\{[^}]*\}")
ICON_SIGNS = re.compile(r'(?:\.fa-[\w-]+:before,?)+\{content:"[^"]*"\}')
PICTURE = re.compile(r"<img [^>]*>")
MENDED = 'aria-label="Chapters"'
# What the theme writes, and what it should have written.
ACCESSIBLE = (
    (
        r'(<button class="btn search-button-field[^>]*?) title="Search"'
        r' aria-label="Search"',
        r"\1",
    ),
    (r'(<i class="theme-switch[^>]*?) +title="[^"]*"', r"\1"),
    (
        r'<div id="pst-primary-sidebar" ',
        '<div id="pst-primary-sidebar" role="complementary" ' + MENDED + " ",
    ),
)
# What only some pages have: a corner of a table that heads nothing, and roles that
# docutils gives to elements which may not have them.
SOMETIMES = (
    (r'<th class="[^"]*"><p></p></th>', "<td></td>"),
    (' role="doc-biblioentry"', ' role="listitem"'),
    (r' role="doc-backlink"', ""),
    # Its text is its name.
    ('<summary aria-label="Toggle hidden content">', "<summary>"),
)
UNUSED_FILES = (
    "_static/locales",
    "_static/vendor",
    "_static/webpack-macros.html",
    "_static/sbt-webpack-macros.html",
    "_static/scripts/fontawesome.*",
    "_static/*thebe*",
    "_static/togglebutton.*",
    "_static/design-tabs.js",
    "_static/**/*.map",
)


@cache
def size_of(path: Path) -> tuple[int, int]:
    """Return the width and the height of a picture, in CSS pixels."""
    if path.suffix == ".svg":
        box = ElementTree.parse(path).getroot().attrib["viewBox"].split()
        return round(float(box[2])), round(float(box[3]))
    with Image.open(path) as picture:
        return picture.size


def measured(page: Path, site: Path) -> Callable[[re.Match[str]], str]:
    """Return what writes a picture's size into its tag, and lets later ones wait."""
    seen = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal seen
        tag = match[0]
        source = re.search(r' src="([^":]+)"', tag)
        if not source or " height=" in tag:
            return tag
        start = site if source[1].startswith("/") else page.parent
        path = (start / source[1].lstrip("/")).resolve()
        if not path.is_file():
            return tag
        width, height = size_of(path)
        seen += 1
        # The logo, twice; a chapter's first picture is below the first screen.
        at_once = 2 if page.name[:2].isdigit() else 3
        lazy = ' loading="lazy"' if seen > at_once else ""
        return f'{tag[:-1].rstrip(" /")} width="{width}" height="{height}"{lazy} />'

    return replace


def mend(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir).resolve()
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if MENDED in text or "theme-switch" not in text:
            continue  # not written anew, or not a page of the book
        better = TWICE.sub("", ICONS.sub("", PRELOADS.sub("", text)))
        if page.name != "search.html":
            better = SEARCH.sub("", better)
        for wrong, right in ACCESSIBLE:
            better, found = re.subn(wrong, right, better)
            if not found:
                raise ExtensionError(f"{page}: the theme has changed, no {wrong} in it")
        for wrong, right in SOMETIMES:
            better = re.sub(wrong, right, better)
        better = PICTURE.sub(measured(page, site), better)
        page.write_text(better, encoding="utf-8")
    style = site / "_static" / "styles" / "pydata-sphinx-theme.css"
    rules = style.read_text(encoding="utf-8")
    style.write_text(ICON_SIGNS.sub("", ICON_FONT.sub("", rules)), encoding="utf-8")
    for pattern in UNUSED_FILES:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
