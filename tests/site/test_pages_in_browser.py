"""Every page of the built book, as a browser on a phone and on a desk meets it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page


@pytest.mark.parametrize("width", [390, 1280])
def test_a_chapter_opens(open_page: Callable[..., Page], width: int):
    page = open_page("book/05-up.html", width=width)
    assert page.title().startswith("5 · Up")
