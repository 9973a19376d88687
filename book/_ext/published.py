"""What a site needs besides its pages: descriptions, a page 404, a sitemap, cards.

The last two wait for ``UNET_EDU_SITE``, the published address (see ``address.py``); a
book built at home has none.

Comments are for the publisher to set up, on https://giscus.app, and are told by
``UNET_EDU_GISCUS``: the repository's id, the category and the category's id, separated
by spaces. Nothing is asked of giscus before a reader presses the button.
"""

import os
import textwrap
from html import escape
from urllib.parse import urlsplit

import address
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ConfigError

HOLDS_COMMENTS = "book/"


def describe(
    app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None
) -> None:
    """Tell search engines what a page is about: its first paragraph."""
    first = doctree and next(doctree.findall(nodes.paragraph), None)
    text = (
        first.astext() if first else f"{context.get('title', '')}: {app.config.project}"
    )
    short = textwrap.shorten(text, 155, placeholder=" …")
    meta = f'<meta name="description" content="{escape(short)}" />'
    context["metatags"] = context.get("metatags", "") + meta


def comment_box(repository: str, ids: str) -> str:
    """Return the button that loads the comments, as HTML."""
    parts = ids.split()
    if len(parts) != 3:
        raise ConfigError(
            f"UNET_EDU_GISCUS is {ids!r}; expected three words: the repository's id, "
            "the category, and the category's id, as https://giscus.app shows them."
        )
    names = ("repo", "repo-id", "category", "category-id")
    data = " ".join(
        f'data-{name}="{escape(value)}"'
        for name, value in zip(names, (repository, *parts), strict=True)
    )
    return (
        f'<section class="comments" {data}><h2>Questions and comments</h2>'
        "<p>They are kept as discussions of the repository on GitHub. Showing them "
        "asks giscus.app and GitHub, which no other part of this book does.</p>"
        '<button type="button" class="btn btn-outline-primary">Show comments</button>'
        "</section>"
    )


def add_comments(
    app: Sphinx, page: str, template: str, context: dict, doctree: object
) -> None:
    ids = os.environ.get("UNET_EDU_GISCUS")
    where = address.find()
    if ids and where and doctree is not None and page.startswith(HOLDS_COMMENTS):
        context["body"] += comment_box(where.repository, ids)
        app.add_js_file("comments.js", loading_method="defer")


def setup(app: Sphinx) -> dict:
    site = os.environ.get("UNET_EDU_SITE", "")
    app.setup_extension("notfound.extension")
    app.config.notfound_urls_prefix = (urlsplit(site).path or "/").rstrip("/") + "/"
    app.config.notfound_context = {
        "title": "Page not found",
        "body": "<h1>This page is not in the book</h1><p>It may have moved: the list "
        "of chapters is beside this text, and the search knows all of them.</p>",
    }
    if site:
        app.setup_extension("sphinx_sitemap")
        app.config.sitemap_url_scheme = "{link}"
        app.config.sitemap_excludes = ["search.html", "genindex.html", "404.html"]
        app.setup_extension("sphinxext.opengraph")
        app.config.ogp_site_url = site
        app.config.ogp_site_name = "U-Net, Step by Step"
        app.config.ogp_image = "_static/card.png"
        app.config.ogp_image_alt = "U-Net, drawn from its own forward pass"
        app.config.ogp_enable_meta_description = False  # each page has one already
        app.config.ogp_social_cards = {"enable": False}
    app.connect("html-page-context", describe)
    app.connect("html-page-context", add_comments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
