"""Check the links of the built book.

``python book/check_links.py _build/html`` checks, without a network, that every link
inside the site leads to a page and a place that exist, and that no page names its own
site by its full address, which would lead out of a copy of the site. With
``--external`` it asks instead whether what the book cites is still there; this is for
the weekly workflow, and prints a table.
"""

import argparse
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src"}
LINKS |= {"iframe": "src", "video": "src", "audio": "src", "object": "data"}
# They name the published address because somebody else is meant to read them.
FOR_OTHERS = {"canonical", "alternate", "search", "me"}
AGENT = {"User-Agent": "Mozilla/5.0 (link check of a free book; once a week)"}
REFUSED = {401, 403, 405, 406, 418, 429, 451, 999}


@dataclass
class Page:
    """What a page offers to link to, and what it links to."""

    places: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)


class Reader(HTMLParser):
    """Collect the links of a page and the places that links can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        for name in ("id", "name") if tag == "a" else ("id",):
            if said.get(name):
                self.page.places.add(said[name])
        link = said.get(LINKS.get(tag, ""), "").strip()
        if tag == "meta" and said.get("http-equiv", "").lower() == "refresh":
            link = said.get("content", "").partition("url=")[2]
        if tag == "link" and FOR_OTHERS & set(said.get("rel", "").split()):
            return
        if link:
            self.page.links.append(link)


@cache
def read(path: Path) -> Page:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def is_external(link: str) -> bool:
    return urlsplit(link).scheme in ("http", "https") or link.startswith("//")


def broken(site: Path, home: str = "") -> Iterator[str]:
    """Yield what is wrong with each wrong link of all pages that can be reached.

    ``home`` is the published address, if it has one. Pages that nothing leads to are
    left over from an earlier build.
    """
    site = site.resolve()
    home = home.rstrip("/")
    waiting = [site / name for name in ("404.html", "search.html", "index.html")]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        for link in read(path).links if path.is_file() else ():
            found = target(site, path, link, home)
            if isinstance(found, str):
                yield f"{path.relative_to(site).as_posix()}: {link} {found}"
            elif found is not None and found.suffix == ".html" and found not in seen:
                seen.add(found)
                waiting.append(found)


def target(site: Path, path: Path, link: str, home: str) -> Path | str | None:
    """Return where one link of a page leads, or what is wrong with it.

    None is a link out of the site.
    """
    if home and (link == home or link.startswith(f"{home}/")):
        return "names this site by its full address"
    if urlsplit(link).scheme or link.startswith("//"):
        return None
    where, place = urldefrag(link)
    where = unquote(where.partition("?")[0])
    if where.startswith("/"):
        # Only the page for missing pages may: it is shown at any address.
        base = urlsplit(home).path.rstrip("/") + "/"
        if path.name != "404.html" or not where.startswith(base):
            return "starts at the root of the server, where this site may not be"
        found = site / where.removeprefix(base)
    else:
        found = (path.parent / where).resolve() if where else path
    if found.is_dir():
        found = found / "index.html"
    if not found.is_file():
        return "leads to no file"
    if not found.is_relative_to(site):
        return "leads out of the site"
    if place and found.suffix == ".html" and unquote(place) not in read(found).places:
        return "leads to no place on that page"
    return found


def external(site: Path) -> dict[str, list[str]]:
    """Return each address that the site cites, with the pages that cite it."""
    found = defaultdict(list)
    for path in sorted(site.rglob("*.html")):
        page = path.relative_to(site).as_posix()
        for link in dict.fromkeys(map(lambda x: urldefrag(x)[0], read(path).links)):
            if is_external(link):
                found[link].append(page)
    return dict(found)


class DoNotFollow(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


def ask(link: str, method: str, seconds: float) -> int:
    """Return the status that a server answers with."""
    # A DOI that exists is redirected; many publishers then refuse a program.
    doi = urlsplit(link).hostname == "doi.org"
    opener = urllib.request.build_opener(*([DoNotFollow] if doi else []))
    request = urllib.request.Request(link, method=method, headers=AGENT)
    try:
        with opener.open(request, timeout=seconds) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return 200 if doi and 300 <= error.code < 400 else error.code


def look(
    link: str, *, tries: int = 3, pause: float = 5.0, seconds: float = 20.0
) -> tuple[str, str]:
    """Return "ok", "gone" or "unsure", and why.

    A server that refuses a program, or is out of order each time, leaves us unsure; a
    host that nobody has heard of is gone.
    """
    why, nobody = "", False
    for attempt in range(tries):
        if attempt:
            time.sleep(pause * attempt)
        try:
            status = ask(link, "HEAD", seconds)
            if status >= 400:
                status = ask(link, "GET", seconds)
        except OSError as error:  # no such host, no answer in time
            reason = getattr(error, "reason", error)
            why = str(reason) or type(reason).__name__
            nobody = isinstance(reason, socket.gaierror)
            continue
        if status < 400:
            return "ok", str(status)
        why = str(status)
        if status not in REFUSED and status < 500:
            return "gone", why
        if status in REFUSED and status != 429:
            break
        nobody = False
    return ("gone" if nobody else "unsure"), why


def look_at_all(links: Iterable[str], **options: float) -> dict[str, tuple[str, str]]:
    """Look at all links: hosts beside one another, each asked one thing at a time."""
    hosts = defaultdict(list)
    for link in links:
        hosts[urlsplit(link).netloc].append(link)

    def visit(own: list[str]) -> list[tuple[str, tuple[str, str]]]:
        found = []
        for link in own:
            found.append((link, look(link, **options)))
            time.sleep(min(1.0, options.get("pause", 1.0)))
        return found

    with ThreadPoolExecutor(8) as pool:
        return dict(entry for part in pool.map(visit, hosts.values()) for entry in part)


def table(found: dict[str, tuple[str, str]], pages: dict[str, list[str]]) -> str:
    """Return a table in Markdown of the links that are not in order."""
    rows = ["| link | what | why | pages |", "|---|---|---|---|"]
    for link, (what, why) in sorted(found.items(), key=lambda item: item[1]):
        if what != "ok":
            rows.append(f"| {link} | {what} | {why} | {', '.join(pages[link])} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true")
    options = parser.parse_args()
    if not (options.site / "index.html").is_file():
        parser.error(f"{options.site} has no index.html: run make book")
    if not options.external:
        wrong = list(broken(options.site, os.environ.get("UNET_EDU_SITE", "")))
        print(*wrong, f"{len(wrong)} links inside the site are wrong.", sep="\n")
        sys.exit(bool(wrong))
    pages = external(options.site)
    found = look_at_all(pages)
    gone = sum(what == "gone" for what, _ in found.values())
    unsure = sum(what == "unsure" for what, _ in found.values())
    print(f"Of {len(found)} links, {gone} are gone, {unsure} could not be told.\n")
    print(table(found, pages))
    sys.exit(bool(gone))


if __name__ == "__main__":
    main()
