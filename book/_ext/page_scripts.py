"""Leave out scripts that no page uses, and the second copy of those emitted twice.

Jupyter Book 1 emits its inline scripts twice under Sphinx 7, loads thebe from a public
server for a button that we do not show, and asks for MathJax, which MathML replaces.
"""

from sphinx.application import Sphinx

UNUSED = ("THEBE_JS_URL", "thebe", "MathJax", "mathjax")


def clean(
    app: Sphinx, page: str, template: str, context: dict, doctree: object
) -> None:
    seen: set[str] = set()
    kept = []
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body") or ""
        name = str(getattr(script, "filename", script) or "")
        if body in seen or any(word in body + name for word in UNUSED):
            continue
        if body:
            seen.add(body)
        kept.append(script)
    context["script_files"] = kept


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", clean, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
