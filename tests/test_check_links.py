"""The check of links, on sites and servers that are made for it."""

import http.server
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book"))

import check_links  # noqa: E402

HOME = "https://example-org.github.io/example-fork/"


def write(folder: Path, **pages: str) -> Path:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(body, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("other.html", None),
        ("other.html#here", None),
        ("other.html?q=1#%E6%8E%A9", None),
        ("other.html#named", None),
        ("#top", None),
        ("https://arxiv.org/abs/1505.04597", None),
        ("mailto:somebody@example.org", None),
        ("absent.html", "leads to no file"),
        ("other.html#absent", "leads to no place"),
        ("#absent", "leads to no place"),
        ("../index.html", "leads to no file"),
        ("/other.html", "starts at the root"),
        (f"{HOME}other.html", "full address"),
        (HOME.rstrip("/"), "full address"),
    ],
)
def test_links_inside_a_site(link: str, says: str | None, tmp_path: Path) -> None:
    other = '<h1 id="here"></h1><p id="掩"></p><a name="named"></a>'
    site = write(tmp_path, index=f'<h1 id="top"></h1><a href="{link}">', other=other)
    found = list(check_links.broken(site, HOME))
    if says is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith(f"index.html: {link} ")
        assert says in found[0]


@pytest.mark.parametrize(
    "tag",
    [
        '<img src="absent.png">',
        '<script src="absent.js"></script>',
        '<link rel="stylesheet" href="absent.css">',
        '<meta http-equiv="Refresh" content="0; url=absent.html" />',
    ],
)
def test_not_only_anchors_are_looked_at(tag: str, tmp_path: Path) -> None:
    assert len(list(check_links.broken(write(tmp_path, index=tag)))) == 1


def test_all_pages_that_can_be_reached_are_looked_at(tmp_path: Path) -> None:
    pages = {"index": '<a href="a.html">', "a": '<a href="b.html"><a href="a.html">'}
    site = write(tmp_path, **pages, b='<a href="absent.html">', left='<a href="no">')
    found = list(check_links.broken(site))
    assert found == ["b.html: absent.html leads to no file"]


def test_addresses_for_others_are_no_links(tmp_path: Path) -> None:
    index = f'<link rel="canonical" href="{HOME}index.html">'
    assert list(check_links.broken(write(tmp_path, index=index), HOME)) == []


@pytest.mark.parametrize(
    ("link", "right"),
    [
        ("/example-fork/index.html", True),
        ("/index.html", False),
        ("/example-fork/absent.html", False),
    ],
)
def test_only_the_page_404_starts_at_the_root(link, right, tmp_path: Path) -> None:
    site = write(tmp_path, index="", **{"404": f'<a href="{link}">'})
    assert (list(check_links.broken(site, HOME)) == []) == right


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the path says; ``/recovers`` is out of order twice."""

    asked: Counter = Counter()  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        status = {"/ok": 200, "/absent": 404, "/refuses": 403, "/down": 503}
        status |= {"/no-head": 405 if self.command == "HEAD" else 200}
        status |= {"/recovers": 503 if self.asked["/recovers"] < 4 else 200}
        status |= {"/moved": 301}
        self.send_response(status[self.path])
        if self.path == "/moved":
            self.send_header("Location", "/ok")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/ok", ("ok", "200")),
        ("/moved", ("ok", "200")),
        ("/no-head", ("ok", "200")),
        ("/recovers", ("ok", "200")),
        ("/absent", ("gone", "404")),
        ("/refuses", ("unsure", "403")),
        ("/down", ("unsure", "503")),
    ],
)
def test_a_link_to_elsewhere(path: str, what: tuple[str, str], server: str) -> None:
    assert check_links.look(server + path, pause=0.01) == what


def test_a_server_that_is_not_there_leaves_us_unsure() -> None:
    what, why = check_links.look("http://127.0.0.1:9/", tries=2, pause=0.01)
    assert what == "unsure"
    assert "refused" in why


def test_a_host_that_does_not_exist_is_gone() -> None:
    assert check_links.look("http://nowhere.invalid/", tries=1)[0] == "gone"


def test_the_table_names_what_is_gone_and_where(server: str, tmp_path: Path) -> None:
    links = [f'<a href="{server}{path}#x">' for path in ("/ok", "/absent")]
    site = write(tmp_path, index="".join(links), other=links[1])
    pages = check_links.external(site)
    assert pages[f"{server}/absent"] == ["index.html", "other.html"]
    found = check_links.look_at_all(pages, pause=0.01)
    assert check_links.table(found, pages).splitlines()[2:] == [
        f"| {server}/absent | gone | 404 | index.html, other.html |"
    ]


@pytest.mark.parametrize(("link", "status"), [("index.html", 0), ("absent.html", 1)])
def test_the_command_fails_for_a_wrong_link(link, status, tmp_path: Path) -> None:
    site = write(tmp_path, index=f'<a href="{link}">')
    command = [sys.executable, ROOT / "book" / "check_links.py", site]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == status
    assert f"{status} links inside the site are wrong." in run.stdout
