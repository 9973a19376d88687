"""Write the notebooks that are published: each says where its package comes from.

``python book/publish.py FOLDER`` copies all notebooks of the book into ``FOLDER/book``.
Their set-up cell names the repository and the revision that the environment names (see
``_ext/address.py``), so that a notebook that was opened in Colab, or downloaded alone,
installs the package it was written for. The workflows push that folder to the branch
``notebooks`` and put it into a release.
"""

import argparse
import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent
sys.path.insert(0, str(BOOK / "_ext"))

import address  # noqa: E402

ABOUT = """\
# Notebooks of the book *U-Net, Step by Step*

These copies are written by a program for Colab and for download, at revision
{revision}. Their set-up cell installs the package of that revision from {url}. Changes
belong into the branch `{branch}`; here they would be overwritten.
"""


def publish(folder: Path, where: address.Address) -> list[Path]:
    """Write all notebooks and a README into a folder; return the notebooks."""
    written = []
    for path in sorted(BOOK.glob("*.ipynb")):
        try:
            text = address.published(path.read_text(encoding="utf-8"), where)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        written.append(folder / BOOK.name / path.name)
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        written[-1].write_text(text, encoding="utf-8")
    about = ABOUT.format(revision=where.revision, url=where.url, branch=where.branch)
    (folder / "README.md").write_text(about, encoding="utf-8")
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    where = address.find()
    if where is None:
        parser.error("set GITHUB_REPOSITORY to OWNER/NAME: where is the package?")
    try:
        written = publish(folder, where)
    except ValueError as error:
        sys.exit(str(error))
    print(f"{len(written)} notebooks that install {where.source} are in {folder}")


if __name__ == "__main__":
    main()
