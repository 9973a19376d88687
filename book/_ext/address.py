"""Where this copy of the book lives: the one place that knows.

Two environment variables tell it. A GitHub workflow sets the first by itself, so that
a fork's buttons point at the fork.

- GITHUB_REPOSITORY, such as ``owner/name``: shows the repository, issue, edit and Colab
  buttons; GITHUB_REF_NAME is the branch they point at, ``main`` if not set.
- UNET_EDU_SITE, such as ``https://owner.github.io/name/``: the published address.

Without them the book is built without these buttons.
"""

import os

from sphinx.application import Sphinx
from sphinx.config import Config


def point(app: Sphinx, config: Config) -> None:
    repository = os.environ.get("GITHUB_REPOSITORY")
    site = os.environ.get("UNET_EDU_SITE")
    options = config.html_theme_options
    if repository:
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        options["repository_url"] = f"{server}/{repository}"
        options["repository_branch"] = os.environ.get("GITHUB_REF_NAME", "main")
        options["path_to_docs"] = ""
        for button in ("repository", "issues", "edit_page"):
            options[f"use_{button}_button"] = True
        options["launch_buttons"] = {
            "notebook_interface": "classic",
            "colab_url": "https://colab.research.google.com",
        }
    if site:
        config.html_baseurl = site


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", point, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
