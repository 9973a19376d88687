"""Fetching: what is whole is kept, what is not whole never gets the file's name.

A server in a thread stands in for the source, so nothing here needs a network.
"""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unet_edu.data import download
from unet_edu.data.download import DataNotFound, fetch

FILES = {
    "train/a.bin": b"the first file" * 50,
    "train/b.bin": b"the second file" * 50,
    "c.bin": b"the third file" * 50,
}
HASHES = {path: hashlib.sha256(body).hexdigest() for path, body in FILES.items()}


def altered(body: bytes) -> bytes:
    """Return the body with one byte changed, of the same length."""
    return bytes([body[0] ^ 1]) + body[1:]


class Source(ThreadingHTTPServer):
    """A server of FILES that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.serve = lambda body: body
        self.gate: threading.Barrier | None = None
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.removeprefix("/")
        self.server.asked.append(path)
        if self.server.gate:
            self.server.gate.wait(timeout=25)
        if path not in FILES:
            self.send_error(404)
            return
        self.send_response(200)
        # The full length, whatever is sent: a cut connection looks like this.
        self.send_header("Content-Length", str(len(FILES[path])))
        self.end_headers()
        self.wfile.write(self.server.serve(FILES[path]))

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def source():
    with Source() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path) -> Path:
    """The folder of the small set ``toy``, which takes the place of a real one."""
    monkeypatch.setattr(
        download, "read_registry", lambda name: ("http://no.invalid/", HASHES)
    )
    monkeypatch.setenv("UNET_EDU_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "toy"


def get(source_url: str, paths: list[str] | None = None) -> list[Path]:
    return fetch("toy", paths, base_url=source_url, progress=False)


def fill(folder: Path) -> None:
    for path, body in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file under the folder, hidden and temporary ones too."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_fetch_downloads_everything_once(source, folder):
    assert get(source.url) == [folder / path for path in FILES]
    assert contents(folder) == FILES
    assert sorted(source.asked) == sorted(FILES)
    get(source.url)
    assert len(source.asked) == len(FILES), "the second fetch asked again"


@pytest.mark.parametrize(
    "wanted",
    [["c.bin"], ["train/b.bin", "train/a.bin"], ["c.bin", "c.bin"], []],
    ids=["one", "two, in their order", "one twice", "none"],
)
def test_only_what_is_wanted_is_asked_for(source, folder, wanted):
    assert get(source.url, wanted) == [folder / path for path in wanted]
    assert set(contents(folder)) == set(source.asked) == set(wanted)


def test_only_what_is_missing_is_asked_for(source, folder):
    fill(folder)
    (folder / "c.bin").unlink()
    get(source.url)
    assert source.asked == ["c.bin"]


@pytest.mark.parametrize(
    "damage",
    [altered, lambda body: body[:-1], lambda body: b""],
    ids=["a byte altered", "a byte cut off", "empty"],
)
def test_a_damaged_file_is_downloaded_again(source, folder, damage):
    fill(folder)
    file = folder / "train/a.bin"
    file.write_bytes(damage(FILES["train/a.bin"]))
    get(source.url)
    assert source.asked == ["train/a.bin"]
    assert contents(folder) == FILES


@pytest.mark.parametrize(
    "serve",
    [altered, lambda body: body[: len(body) // 2], lambda body: b""],
    ids=["altered", "cut short", "empty"],
)
def test_a_bad_copy_never_gets_the_name_of_the_file(source, folder, serve):
    source.serve = serve
    with pytest.raises(DataNotFound, match=r"1 of 1 files of toy .* no good copy"):
        get(source.url, ["c.bin"])
    assert source.asked, "the server was never asked"
    assert contents(folder) == {}


def test_a_file_that_the_source_lacks(source, folder, monkeypatch):
    known = HASHES | {"d.bin": HASHES["c.bin"]}
    monkeypatch.setattr(download, "read_registry", lambda name: (source.url, known))
    # Without base_url: the address in the registry is the one that is asked.
    with pytest.raises(DataNotFound, match=r"no good copy .*404"):
        fetch("toy", ["c.bin", "d.bin"], progress=False)
    assert contents(folder) == {"c.bin": FILES["c.bin"]}, "whole files are kept"


@pytest.mark.parametrize("kept", [False, True], ids=["nothing", "a damaged file"])
def test_without_a_network_the_message_says_what_to_do(nowhere, folder, kept):
    if kept:
        fill(folder)
        (folder / "c.bin").write_bytes(b"not it")
    with pytest.raises(DataNotFound) as caught:
        get(nowhere, ["c.bin"])
    for part in (str(folder), nowhere, "UNET_EDU_DATA", "toy/c.bin"):
        assert part in str(caught.value)


@pytest.mark.parametrize("present", [False, True], ids=["empty", "complete"])
def test_an_unknown_path(source, folder, present):
    if present:
        fill(folder)
    with pytest.raises(KeyError, match=r"toy has no file 'train/z\.bin'"):
        get(source.url, ["c.bin", "train/z.bin"])
    assert source.asked == []


def test_a_complete_folder_is_read_and_not_written(nowhere, folder):
    # Taking write permission away would not stop root, who runs many containers; the
    # times of folders and files show whether anything was written.
    fill(folder)

    def times() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in [folder, *folder.rglob("*")]}

    before = times()
    assert get(nowhere) == [folder / path for path in FILES]
    assert times() == before


FETCH = """
import sys
from unet_edu.data import download
download.read_registry = lambda name: ("", {sys.argv[2]: sys.argv[3]})
download.fetch("toy", base_url=sys.argv[1], progress=False)
"""


def test_two_processes_at_once(source, folder):
    # Nobody is served before both have asked, so the two downloads overlap.
    source.gate = threading.Barrier(2)
    command = [sys.executable, "-c", FETCH, source.url, "c.bin", HASHES["c.bin"]]
    both = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert source.asked == ["c.bin", "c.bin"]
    assert contents(folder) == {"c.bin": FILES["c.bin"]}


def test_the_umask_decides_who_may_read_a_download(source):
    # A shared folder is filled by one user and read by all.
    before = os.umask(0o022)
    try:
        (file,) = get(source.url, ["c.bin"])
    finally:
        os.umask(before)
    assert oct(file.stat().st_mode & 0o777) == oct(0o644)


def test_the_folder_is_chosen_by_a_variable(monkeypatch, tmp_path):
    assert download.data_folder() == tmp_path
    monkeypatch.setenv("UNET_EDU_DATA", "~/somewhere")
    assert download.data_folder() == Path.home() / "somewhere"
    for unset in (
        lambda: monkeypatch.setenv("UNET_EDU_DATA", ""),
        lambda: monkeypatch.delenv("UNET_EDU_DATA"),
    ):
        unset()
        assert download.data_folder().name == "unet_edu"


def test_the_registry_of_isbi2012(monkeypatch):
    monkeypatch.undo()
    address, known = download.read_registry("isbi2012")
    # pooch joins address and path as they are.
    assert address.startswith("https://")
    assert address.endswith("/")
    folders = ("train/image", "train/label", "test")
    assert set(known) == {f"{f}/{i}.png" for f in folders for i in range(30)}
    assert all(len(bytes.fromhex(value)) == 32 for value in known.values())
