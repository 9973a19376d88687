"""Where this copy of the book lives: the one place that knows.

GitHub sets most of what tells it in every workflow, so that in a fork all links and all
install lines point at the fork, with no edit:

- GITHUB_REPOSITORY, such as ``owner/name``; without it, no link to a repository.
- GITHUB_SERVER_URL: https://github.com, if not set.
- GITHUB_REF, such as ``refs/heads/main``: the branch that edit links point at. On a tag
  or a pull request, which nobody can edit, it is ``main``.
- GITHUB_SHA: the revision that a published notebook installs; the branch, if not set.
- UNET_EDU_SITE, such as ``https://owner.github.io/name/``: the published address.

The notebooks of the repository know no address. Those that are published, on a branch
of the same repository and for download on the site, name the package of theirs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

GITHUB = "https://github.com"
BRANCH = "notebooks"  # where the published notebooks are

SET_UP = """\
# Set-up: run this cell first. It adds what is missing and replaces nothing.
import os
from importlib.util import find_spec

SOURCE = os.environ.get("UNET_EDU_SOURCE", "")
if not find_spec("unet_edu"):
    if not SOURCE:
        raise ModuleNotFoundError(
            "unet_edu is not installed, and this copy does not say from where: open it "
            'by the Colab button of its page, or see the page "Set-up" of the book.'
        )
    %pip list --format=freeze > installed.txt
    %pip install -q -c installed.txt "$SOURCE"
import torch

import unet_edu

device = "cuda" if torch.cuda.is_available() else "cpu"
print(f"unet_edu {unet_edu.__version__}, torch {torch.__version__}, {device}")"""


@dataclass(frozen=True)
class Address:
    """A repository on GitHub, at a branch and a revision."""

    server: str
    repository: str
    branch: str
    revision: str

    @property
    def url(self) -> str:
        return f"{self.server}/{self.repository}"

    @property
    def source(self) -> str:
        """What pip installs to get the package of this revision."""
        return f"unet_edu @ git+{self.url}@{self.revision}"

    def colab(self, page: str) -> str | None:
        """Return where Colab opens a page; it reads from github.com only."""
        if self.server != GITHUB:
            return None
        where = f"{self.repository}/blob/{BRANCH}/{page}.ipynb"
        return f"https://colab.research.google.com/github/{where}"


def find() -> Address | None:
    """Return the address that the environment names, or None."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if not repository:
        return None
    kind, _, branch = os.environ.get("GITHUB_REF", "").partition("refs/heads/")
    if kind or not branch:
        branch = "main"
    return Address(
        server=os.environ.get("GITHUB_SERVER_URL", GITHUB).rstrip("/"),
        repository=repository,
        branch=branch,
        revision=os.environ.get("GITHUB_SHA") or branch,
    )


def set_up(address: Address | None) -> str:
    """Return the set-up cell of a notebook that is published at an address."""
    if address is None:
        return SET_UP
    nowhere = '("UNET_EDU_SOURCE", "")'
    assert SET_UP.count(nowhere) == 1
    return SET_UP.replace(
        nowhere, f'(\n    "UNET_EDU_SOURCE",\n    "{address.source}",\n)'
    )


def published(text: str, address: Address) -> str:
    """Return the text of a notebook with the set-up cell of an address.

    Raises ValueError if its first code cell is not the set-up cell.
    """
    notebook = nbformat.reads(text, as_version=4)
    first = next((c for c in notebook.cells if c.cell_type == "code"), None)
    if first is None or first.source not in (SET_UP, set_up(address)):
        raise ValueError("the first code cell is not SET_UP of book/_ext/address.py")
    first.source = set_up(address)
    return nbformat.writes(notebook) + "\n"


def point(app: Sphinx, config: Config) -> None:
    """Tell the theme where the repository is."""
    options = config.html_theme_options
    address = find()
    if address:
        config.unet_edu_source = address.source
        options["repository_url"] = address.url
        options["repository_provider"] = "github"
        options["repository_branch"] = address.branch
        options["path_to_docs"] = ""
        for button in ("repository", "issues", "edit_page"):
            options[f"use_{button}_button"] = True
    if os.environ.get("UNET_EDU_SITE"):
        config.html_baseurl = os.environ["UNET_EDU_SITE"]


def add_colab(app: Sphinx, page: str, template: str, context: dict, _: object) -> None:
    """Add the Colab button: the theme's own would open the branch that is edited."""
    address = find()
    if address is None or not is_notebook(app, page):
        return
    if url := address.colab(page):
        button = {
            "type": "link",
            "url": url,
            "text": "Colab",
            "tooltip": "Open this page in Colab",
            "icon": "fas fa-rocket",
            "label": "colab-button",
        }
        context["header_buttons"].insert(0, button)


def is_notebook(app: Sphinx, page: str) -> bool:
    return page in app.env.all_docs and app.env.doc2path(page).endswith(".ipynb")


def show(app: Sphinx, page: str, content: list[str]) -> None:
    """Show on the page what the published notebook says."""
    address = find()
    if address and app.env.doc2path(page).endswith(".ipynb"):
        content[0] = published(content[0], address)


def offer(app: Sphinx, error: Exception | None) -> None:
    """Let the download button give the published notebook."""
    address = find()
    if address and error is None and app.builder.format == "html":
        for path in Path(app.outdir, "_sources").rglob("*.ipynb"):
            text = path.read_text(encoding="utf-8")
            path.write_text(published(text, address), encoding="utf-8")


def setup(app: Sphinx) -> dict:
    # All pages are read again when it changes: they show it.
    app.add_config_value("unet_edu_source", "", "env", str)
    app.connect("config-inited", point, priority=100)
    app.connect("html-page-context", add_colab, priority=502)
    app.connect("source-read", show)
    app.connect("build-finished", offer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
