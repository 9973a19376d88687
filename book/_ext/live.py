"""Bring the live parts to the pages that have one, and to no other.

A cell tagged ``live-…`` draws a figure by its code; ``_static/live/loader.js`` puts
the part beside it that the reader can move.
"""

from docutils import nodes
from sphinx.application import Sphinx

LOADER = "live/loader.js"


def has_live_part(doctree: nodes.document | None) -> bool:
    return doctree is not None and any(
        any(name.startswith("tag_live-") for name in node.get("classes", ()))
        for node in doctree.findall(nodes.container)
    )


def load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if has_live_part(doctree):
        app.add_js_file(LOADER, type="module")


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
