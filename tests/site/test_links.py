"""Every link of the built book leads somewhere. Other sites are not asked."""

import os
import sys
from pathlib import Path

import chromium

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))

import check_links  # noqa: E402


def test_every_link_inside_the_book_leads_somewhere(site: str) -> None:
    home = os.environ.get("UNET_EDU_SITE", "")
    assert list(check_links.broken(chromium.SITE, home)) == []


def test_links_to_elsewhere_are_encrypted(site: str) -> None:
    links = check_links.external(chromium.SITE)
    assert len(links) > 50
    assert [link for link in links if not link.startswith("https://")] == []
