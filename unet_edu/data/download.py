"""Fetch the files of a public data set, each checked against its known hash.

A registry ``registry/NAME.tsv`` holds the address of the set in its first line, then
one ``path<TAB>sha256`` a line.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

PARALLEL = 8


class DataNotFound(RuntimeError):
    """A file is neither on this machine nor to be had from its source."""


def data_folder() -> Path:
    """Return the folder that holds one subfolder a data set.

    ``UNET_EDU_DATA`` if that variable is set, else the user's cache.
    """
    chosen = os.environ.get("UNET_EDU_DATA")
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("unet_edu"))


def read_registry(name: str) -> tuple[str, dict[str, str]]:
    """Return the address of a data set and the sha256 of each of its files."""
    text = resources.files("unet_edu.data") / "registry" / f"{name}.tsv"
    first, *lines = text.read_text(encoding="utf-8").splitlines()
    return first.split("base_url:")[1].strip(), dict(line.split("\t") for line in lines)


def fetch(
    name: str,
    paths: list[str] | None = None,
    *,
    base_url: str | None = None,
    progress: bool = True,
) -> list[Path]:
    """Return local paths of a set's files, downloading those that are missing.

    A file is downloaded to a temporary name, compared with its sha256 and only then
    given its own, so that a cut or altered download is never taken for the file. A
    file on disk whose hash is wrong is downloaded again. Several processes may fetch
    at once.

    Args:
        name: name of the data set, such as ``"isbi2012"``.
        paths: the files wanted; all of them if not given.
        base_url: another address that serves the same files.
        progress: whether to show a progress bar while downloading.

    Raises:
        KeyError: if a path is not one of the set's.
        DataNotFound: if a file cannot be had, with the folder to fill by hand.

    Derived in chapter 8.
    """
    source, known = read_registry(name)
    paths = list(known) if paths is None else paths
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise KeyError(
            f"{name} has no file {unknown[0]!r}; it has {len(known)} others."
        )
    folder = data_folder() / name
    pooch.get_logger().setLevel("ERROR")
    store = pooch.create(folder, base_url or source, registry=known, retry_if_failed=1)
    missing = [path for path in paths if not _is_whole(folder / path, known[path])]
    try:
        for parent in {(folder / path).parent for path in missing}:
            parent.mkdir(parents=True, exist_ok=True)
        mode = 0o666 & ~_umask()

        def download(path: str) -> None:
            # pooch's temporary files are closed to everyone but their owner.
            os.chmod(store.fetch(path), mode)

        with ThreadPoolExecutor(PARALLEL) as pool:
            done = pool.map(download, missing)
            hide = not (progress and missing)
            list(
                tqdm(done, f"{name}: download", len(missing), disable=hide, leave=False)
            )
    except (OSError, ValueError, requests.RequestException) as error:
        missing = [path for path in paths if not _is_whole(folder / path, known[path])]
        raise DataNotFound(
            f"{len(missing)} of {len(paths)} files of {name} are missing or damaged in "
            f"{folder}, and {base_url or source} gave no good copy "
            f"({type(error).__name__}: {_first_line(error)}). With a network, try "
            f"again: whole files are kept. Without one, copy the files into {folder}, "
            "or set UNET_EDU_DATA to a folder that has them under "
            f"{name}/{(missing or paths)[0]} and so on."
        ) from None
    return [folder / path for path in paths]


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _is_whole(file: Path, sha256: str) -> bool:
    return file.is_file() and pooch.file_hash(str(file)) == sha256


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:160]
