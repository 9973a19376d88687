"""The built book, served from this machine and opened in a real Chromium."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "web"))
import chromium


def missing(what: str, cure: str) -> None:
    """Skip where a person runs the tests without it; fail where the project does."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing: {cure}")
    pytest.skip(f"{what} is missing: {cure}")


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Serve the built book; return its address, such as http://127.0.0.1:40123."""
    if not (chromium.SITE / "index.html").exists():
        missing("the built book", "run make book")
    with chromium.served() as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium."""
    found = chromium.find()
    if not found:
        missing("Chromium", chromium.INSTALL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=chromium.QUIET)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, site: str) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page of the book.

    ``open_page("book/05-up.html", width=390, dark=True)``. When the test ends, every
    page that it opened must have asked nobody else for anything, and said nothing on
    the console; a test that provokes a message passes ``allow`` with a part of it.
    """
    contexts, foreign, messages = [], [], []

    def visit(
        path: str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
        allow: str | None = None,
        **options: object,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            **options,
        )
        contexts.append(context)
        page = context.new_page()

        def on_request(request: Request) -> None:
            if not request.url.startswith((site, "data:", "blob:")):
                foreign.append(f"{path}: {request.url}")

        def on_console(message: ConsoleMessage) -> None:
            wanted = message.type in ("error", "warning")
            if wanted and not (allow and allow in message.text):
                where = message.location.get("url", "")
                messages.append(f"{path}: {message.text} {where}")

        page.on("request", on_request)
        page.on("console", on_console)
        page.on("pageerror", lambda error: messages.append(f"{path}: {error}"))
        page.goto(f"{site}/{path}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not foreign, "asked somebody else for:\n" + "\n".join(foreign)
    assert not messages, "on the console:\n" + "\n".join(messages)
