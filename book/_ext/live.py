"""Bring the live parts to the pages that have one, and to no other.

A cell tagged ``live-…`` draws a figure by its code; ``_static/live/loader.js`` puts
the part beside it that the reader can move.

The part ``live-network`` runs a network with onnxruntime-web. Its three files come from
the npm package that ``make`` installs beside the Python packages, and are served by the
book itself, from ``_static/ort/``.
"""

import shutil
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

LOADER = "live/loader.js"
RUNTIME = Path(sys.prefix, "web", "node_modules", "onnxruntime-web", "dist")
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)


def has_live_part(doctree: nodes.document | None) -> bool:
    return doctree is not None and any(
        any(name.startswith("tag_live-") for name in node.get("classes", ()))
        for node in doctree.findall(nodes.container)
    )


def load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if has_live_part(doctree):
        app.add_js_file(LOADER, type="module")


def look_for_runtime(app: Sphinx) -> None:
    """Say at the beginning what would be missing at the end."""
    missing = [name for name in RUNTIME_FILES if not (RUNTIME / name).is_file()]
    if app.builder.format == "html" and missing:
        raise ExtensionError(
            f"{RUNTIME} lacks {', '.join(missing)}, which runs the network of chapter "
            "23 in a browser. Run `make book`: it installs what web/package-lock.json "
            "lists."
        )


def copy_runtime(app: Sphinx, error: Exception | None) -> None:
    if app.builder.format != "html" or error:
        return
    target = Path(app.outdir, "_static", "ort")
    target.mkdir(parents=True, exist_ok=True)
    for name in RUNTIME_FILES:
        shutil.copyfile(RUNTIME / name, target / name)


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", look_for_runtime)
    app.connect("build-finished", copy_runtime)
    app.connect("html-page-context", load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
