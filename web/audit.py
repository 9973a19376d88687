"""Measure the built book as its readers meet it, and print one table.

    make audit

- Lighthouse, as a phone and as a desktop computer, on four pages: no category below 95.
- axe on every page, light and dark, wide and narrow: no violation.
- The weight of every page with all that it loads before the reader does anything,
  compressed as a server sends it: at most 1 MB.

Lighthouse's performance is a measurement: it needs an idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import chromium
from chromium import QUIET, SITE
from playwright.sync_api import Browser, sync_playwright
from tqdm import tqdm

MODULES = Path(sys.prefix) / "web" / "node_modules"
# A cover, a chapter, the page of exercises, a page with a live part.
PAGES = ("book/index", "book/05-up", "book/exercises", "book/23-browser")
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
LEAST_SCORE, MOST_BYTES = 95, 1_000_000


def lighthouse(url: str, desktop: bool, browser: str) -> dict:
    """Return Lighthouse's scores, 0 to 100, and what it found below 90."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        flags = " ".join(["--headless", *QUIET, f"--user-data-dir={scratch}/profile"])
        command = [
            str(Path(sys.prefix) / "bin" / "node"),
            str(MODULES / "lighthouse" / "cli" / "index.js"),
            url,
            "--quiet",
            "--output=json",
            f"--output-path={report}",
            f"--chrome-flags={flags}",
            *(["--preset=desktop"] if desktop else []),
        ]
        environment = {**os.environ, "CHROME_PATH": browser}
        subprocess.run(command, check=True, env=environment, timeout=300)
        found = json.loads(report.read_text(encoding="utf-8"))
    scores = {
        name: round(100 * (found["categories"][name]["score"] or 0))
        for name in CATEGORIES
    }
    low = [
        f"{audit['id']} {audit.get('displayValue', '')}".strip()
        for name in CATEGORIES
        for ref in found["categories"][name]["auditRefs"]
        if ref["weight"]
        and (audit := found["audits"][ref["id"]])["score"] is not None
        and audit["score"] < 0.9
    ]
    return {"scores": scores, "low": low}


def axe(browser: Browser, url: str) -> list[str]:
    """Return what axe says against a page, in two themes and at two widths."""
    script = (MODULES / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    said = []
    for dark, width in ((False, 1280), (True, 1280), (False, 390), (True, 390)):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(url, wait_until="load")
        page.wait_for_timeout(300)
        page.evaluate(script)
        for violation in page.evaluate("axe.run()")["violations"]:
            node = violation["nodes"][0]["html"][:90]
            theme = "dark" if dark else "light"
            said.append(
                f"{violation['id']} ({len(violation['nodes'])}, {theme}, {width} px): "
                f"{node}"
            )
        context.close()
    return said


def weight(browser: Browser, url: str) -> int:
    """Return how many bytes a reader downloads to see a page for the first time."""
    context = browser.new_context()
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    sizes: list[float] = []
    devtools.on(
        "Network.loadingFinished", lambda e: sizes.append(e["encodedDataLength"])
    )
    page.goto(url, wait_until="networkidle")
    # Pictures below the fold count too.
    page.evaluate("for (const i of document.images) i.loading = 'eager'")
    page.wait_for_load_state("networkidle")
    context.close()
    return int(sum(sizes))


def table(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--no-lighthouse", action="store_true", help="axe and weight")
    parser.add_argument("pages", nargs="*", help="only these, such as book/05-up")
    options = parser.parse_args()
    found = chromium.find()
    if not found:
        sys.exit(f"There is no Chromium: {chromium.INSTALL}.")
    every = sorted(
        str(path.relative_to(SITE).with_suffix("")) for path in SITE.glob("book/*.html")
    )
    every += ["search", "404"]
    if not options.pages and not (SITE / "book" / "index.html").exists():
        sys.exit(f"There is no book in {SITE}: run make book first.")
    rows = [["page", "KB", "axe", *(f"{d} {c[:4]}" for d in "md" for c in CATEGORIES)]]
    details, bad = [], False
    with chromium.served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        for page in tqdm(options.pages or every, unit="page"):
            url = f"{address}/{page}.html"
            said, size = axe(browser, url), weight(browser, url)
            bad |= bool(said) or size > MOST_BYTES
            details += [f"{page}: axe: {line}" for line in said]
            row = [page, f"{size / 1000:.0f}", str(len(said))]
            if (page in PAGES or options.pages) and not options.no_lighthouse:
                for desktop in (False, True):
                    result = lighthouse(url, desktop, found)
                    scores = result["scores"].values()
                    row += [str(score) for score in scores]
                    if min(scores) < LEAST_SCORE:
                        bad = True
                    kind = "desktop" if desktop else "mobile"
                    details += [f"{page}: {kind}: {line}" for line in result["low"]]
            else:
                row += ["·"] * 8
            rows.append(row)
        browser.close()
    print("m: Lighthouse as a phone, d: as a desktop computer; KB: compressed\n")
    print(table(rows))
    if details:
        print("\n" + "\n".join(details))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
