"""The book on paper."""

import subprocess
import sys
import unicodedata
from pathlib import Path

import chromium
import pytest
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def printed(site: str, browser: object, tmp_path_factory) -> PdfReader:
    """Print two pages; ``site`` and ``browser`` skip where they cannot be had."""
    out = tmp_path_factory.mktemp("pdf") / "book.pdf"
    command = [sys.executable, str(ROOT / "web" / "make_pdf.py"), "-o", str(out)]
    done = subprocess.run(
        [*command, "book/part-2", "book/05-up"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return PdfReader(out)


def test_it_has_the_pages_and_bookmarks(printed: PdfReader):
    assert [entry.title for entry in printed.outline] == [
        "Part II · Building it",
        "5 · Up: the way back",
    ]
    text = "".join(page.extract_text() for page in printed.pages)
    text = unicodedata.normalize("NFKC", text)  # "fi" may be one letter
    assert "Part II" in text
    assert "Predict first" in text
    assert "Skip to main content" not in text
    assert len(printed.pages) > 8


def test_folds_are_open(printed: PdfReader):
    text = " ".join("".join(page.extract_text() for page in printed.pages).split())
    assert text.count("Yes. ") >= 5


def test_links_between_pages_stay_inside(printed: PdfReader):
    start = printed.get_destination_page_number(printed.outline[1])
    links = [a.get_object() for p in printed.pages for a in p.get("/Annots", [])]
    inside = [link for link in links if "/Dest" in link]
    targets = {
        printed.get_page_number(link["/Dest"][0].get_object()) for link in inside
    }
    assert start in targets
    outside = [
        str(link["/A"]["/URI"]) for link in links if "/URI" in link.get("/A", {})
    ]
    assert not [uri for uri in outside if uri.endswith("05-up.html")]


def test_a_page_that_is_not_there_is_named(site: str):
    done = subprocess.run(
        [sys.executable, str(ROOT / "web" / "make_pdf.py"), "book/99-nothing"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "has no book/99-nothing.html" in done.stderr
    assert not (chromium.SITE / "book" / "99-nothing.html").exists()
