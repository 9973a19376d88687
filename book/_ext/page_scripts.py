"""Leave out scripts and styles that no page uses.

Jupyter Book 1 loads thebe from a public server for a button that we do not show, asks
for MathJax, which MathML replaces, and emits its inline scripts twice under Sphinx 7.
What is left waits for the page. ``finish.py`` takes out what templates write.
"""

from sphinx.application import Sphinx

UNUSED = ("THEBE_JS_URL", "thebe", "MathJax", "mathjax", "toggle", "tabs", "design")


def name_of(asset: object) -> str:
    return str(getattr(asset, "filename", asset) or "")


def clean(
    app: Sphinx, page: str, template: str, context: dict, doctree: object
) -> None:
    seen: set[str] = set()
    kept = []
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body") or ""
        if body in seen or any(word in body + name_of(script) for word in UNUSED):
            continue
        if body:
            seen.add(body)
        elif "documentation_options" not in name_of(script):
            # Inline scripts need the options at once; the rest can wait for the page,
            # but for the search page's own, which follow without waiting. One object
            # serves all pages, so what one page sets another has to take back.
            if page == "search":
                script.attributes.pop("defer", None)
            else:
                script.attributes["defer"] = "defer"
        kept.append(script)
    context["script_files"] = kept
    context["css_files"] = [
        style
        for style in context.get("css_files", [])
        if not any(word in name_of(style) for word in UNUSED)
    ]


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", clean, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
