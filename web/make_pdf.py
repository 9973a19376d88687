"""Print the built book into one PDF, through Chromium.

    make pdf

Each page is printed by itself, as its print style says, and all are joined in the order
of the table of contents, with bookmarks. Links between pages lead to pages of the PDF.
"""

import argparse
import io
import sys
from pathlib import Path
from urllib.parse import urldefrag

import chromium
import yaml
from chromium import SITE
from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, NameObject
from tqdm import tqdm

from unet_edu.checkpoints import write_atomically

ROOT = Path(__file__).resolve().parent.parent
FOOTER = (
    '<div style="font-size: 8px; width: 100%; text-align: center">'
    '<span class="title"></span></div>'
)


def read_order(toc: Path) -> list[tuple[str, list[str]]]:
    """Return the parts of the book, each with its pages, as _toc.yml has them."""
    contents = yaml.safe_load(toc.read_text(encoding="utf-8"))
    parts = [("", [contents["root"]])]
    for part in contents["parts"]:
        pages = [chapter["file"] for chapter in part["chapters"]]
        parts.append((part["caption"], pages))
    return parts


def print_pages(pages: list[str], browser_path: str) -> dict[str, tuple[str, bytes]]:
    """Return the title and the PDF of each page."""
    printed = {}
    with chromium.served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=chromium.QUIET
        )
        tab = browser.new_page(color_scheme="light")
        for page in tqdm(pages, unit="page"):
            tab.goto(f"{address}/{page}.html")
            tab.emulate_media(media="print", color_scheme="light")
            # Answers and solutions belong in a book on paper. Pictures below the fold
            # are waited for.
            tab.evaluate(
                """async () => {
                  for (const fold of document.querySelectorAll("details"))
                    fold.open = true;
                  for (const image of document.images) {
                    image.loading = "eager";
                    await image.decode().catch(() => {});
                  }
                }"""
            )
            title = tab.locator("h1").first.inner_text().strip().rstrip("#").strip()
            sheet = tab.pdf(
                format="A4",
                scale=0.85,
                margin={
                    "top": "18mm",
                    "bottom": "18mm",
                    "left": "16mm",
                    "right": "16mm",
                },
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                tagged=True,
            )
            printed[page] = (title, sheet)
        browser.close()
    return printed


def target_of(uri: str, first: dict[str, int]) -> int | None:
    """Return the page number that a link leads to, if it is one of the book's."""
    address = urldefrag(uri).url
    if not address.startswith("http://127.0.0.1:"):
        return None
    path = address.split("/", 3)[-1].removesuffix(".html")
    return first.get(path)


def join(parts: list[tuple[str, list[str]]], printed: dict, title: str) -> bytes:
    """Return one PDF with bookmarks, whose links stay inside."""
    writer = PdfWriter()
    first: dict[str, int] = {}
    for caption, pages in parts:
        above = None
        for page in pages:
            first[page] = len(writer.pages)
            name, sheet = printed[page]
            writer.append(PdfReader(io.BytesIO(sheet)), import_outline=False)
            if caption and above is None:
                above = writer.add_outline_item(
                    title=caption, page_number=first[page], bold=True
                )
            writer.add_outline_item(title=name, page_number=first[page], parent=above)
    for page in writer.pages:
        for link in page.get("/Annots") or []:
            link = link.get_object()
            uri = link.get("/A", {}).get("/URI", "")
            target = target_of(str(uri), first)
            if target is not None:
                there = writer.pages[target].indirect_reference
                link[NameObject("/Dest")] = ArrayObject([there, NameObject("/Fit")])
                del link["/A"]
    writer.add_metadata({"/Title": title})
    writer.compress_identical_objects()
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "_build" / "book.pdf")
    parser.add_argument("pages", nargs="*", help="only these, such as book/05-up")
    options = parser.parse_args()
    browser = chromium.find()
    if not browser:
        sys.exit(f"There is no Chromium: {chromium.INSTALL}.")
    if not (SITE / "index.html").exists():
        sys.exit(f"There is no book in {SITE}: run make book first.")
    parts = read_order(ROOT / "_toc.yml")
    if options.pages:
        parts = [("", options.pages)]
    pages = [page for _, pages in parts for page in pages]
    missing = [page for page in pages if not (SITE / f"{page}.html").exists()]
    if missing:
        sys.exit(f"The built book has no {missing[0]}.html. Is it in _toc.yml?")
    whole = join(parts, print_pages(pages, browser), "U-Net, Step by Step")
    write_atomically(options.out, lambda file: file.write_bytes(whole))
    print(f"{options.out}: {len(whole) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
