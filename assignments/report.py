"""What is written about a graded class: the CSV, a page a student, a page in all."""

import csv
import hashlib
import html
import io
import re
from collections import Counter
from pathlib import Path
from statistics import mean, median
from urllib.parse import quote

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto;
  padding: 0 1rem; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc;
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; margin: .2rem 0; }
.track { width: 18rem; max-width: 40vw; }
.bar { background: #0072b2; height: 1rem; }
.lost { border-left: 4px solid #d55e00; padding-left: .8rem; }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #181818; }
  th, td { border-color: #444; } a { color: #8cf; } .bar { background: #56b4e9; } }
"""


def number(value: float) -> str:
    """Write points without a needless .0."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def page(title: str, body: str) -> str:
    """Return a page that needs nothing but itself."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )


def table(header: list[str], rows: list[list[str]], numbers: set[int]) -> str:
    """Return an HTML table; the cells are HTML already."""

    def line(cells: list[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if i in numbers else ''}>{cell}</{tag}>"
            for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    head = line([html.escape(name) for name in header], "th")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bar(share: float) -> str:
    width = f"width:{100 * share:.0f}%"
    return f'<div class="track"><div class="bar" style="{width}"></div></div>'


def as_csv(results: list, questions: list[str]) -> str:
    """Return the class as CSV, one line a student."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "total", *questions, "status", "note"])
    for result in results:
        name = result.student
        # A spreadsheet would take such a name for a formula.
        name = f"'{name}" if name[:1] in "=+-@" else name
        scores = [number(result.questions[q]["score"]) for q in questions]
        writer.writerow(
            [name, number(result.total), *scores, result.status, result.note]
        )
    return text.getvalue()


def student_page(result: object, assignment: str) -> str:
    """Return the feedback for one student."""
    parts = [
        f"<p><strong>{number(result.total)} of {number(result.possible)} points."
        f"</strong> Read from {html.escape(result.file)}.</p>"
    ]
    if result.note:
        parts.append(f'<p class="lost">{html.escape(result.note)}</p>')
    if result.cells:
        lines = "".join(
            f"<li>Code cell {cell['cell'] + 1}: {html.escape(cell['error'])}: "
            f"{html.escape(cell['text'])}</li>"
            for cell in result.cells
        )
        parts.append(f"<p>These cells stopped with an error:</p><ul>{lines}</ul>")
    for name, question in result.questions.items():
        score, possible = number(question["score"]), number(question["possible"])
        parts.append(f"<h2>{html.escape(name)}: {score} of {possible}</h2>")
        for test in question["tests"]:
            kind = "hidden test" if test["hidden"] else "check"
            head = (
                f"{kind} {html.escape(test['name'])}, {number(test['points'])} points"
            )
            if test["passed"]:
                parts.append(f"<p>{head}: passed</p>")
            else:
                message = html.escape(test["message"])
                parts.append(
                    f'<div class="lost">{head}: not passed<pre>{message}</pre></div>'
                )
    return page(f"{assignment}: {result.student}", "".join(parts))


def class_page(results: list, questions: dict[str, float], assignment: str) -> str:
    """Return the page for the instructor."""
    if not results:
        return page(assignment, "<p>Nobody has been graded.</p>")
    totals = [result.total for result in results]
    possible = sum(questions.values())
    parts = [
        f"<p>{len(results)} submissions. Mean {number(mean(totals))}, median "
        f"{number(median(totals))} of {number(possible)} points.</p>"
    ]

    steps = 10
    counts = [0] * steps
    for total in totals:
        counts[min(int(steps * total / possible), steps - 1)] += 1
    rows = [
        [
            f"{number(possible * i / steps)} to {number(possible * (i + 1) / steps)}",
            str(count),
            bar(count / max(counts)),
        ]
        for i, count in enumerate(counts)
    ]
    parts.append("<h2>Distribution</h2>" + table(["points", "students", ""], rows, {1}))

    shares = {
        name: mean(r.questions[name]["score"] for r in results) / points
        for name, points in questions.items()
    }
    hardest = min(shares, key=shares.get)
    rows = [
        [html.escape(name), number(questions[name]), f"{share:.0%}", bar(share)]
        for name, share in shares.items()
    ]
    parts.append(
        f"<h2>Questions</h2><p>The hardest is {html.escape(hardest)}: "
        f"{shares[hardest]:.0%} of its points were earned.</p>"
        + table(["question", "points", "earned", ""], rows, {1, 2})
    )

    kinds = Counter(kind for result in results for kind in set(result.kinds()))
    rows = [[html.escape(kind), str(n)] for kind, n in kinds.most_common()]
    parts.append("<h2>Kinds of errors</h2>")
    parts.append(table(["kind", "students"], rows, {1}) if rows else "<p>None.</p>")

    rows = [
        [
            f'<a href="feedback/{quote(file_name(r.student))}.html">'
            f"{html.escape(r.student)}</a>",
            number(r.total),
            html.escape(r.status),
            html.escape(r.note),
        ]
        for r in sorted(results, key=lambda r: r.student)
    ]
    parts.append("<h2>Students</h2>")
    parts.append(table(["student", "points", "status", "note"], rows, {1}))
    return page(f"{assignment}: the class", "".join(parts))


def file_name(student: str) -> str:
    """Return a file name for a student; different students have different ones."""
    plain = re.sub(r"[^\w-]", "_", student)[:80]
    if plain == student:
        return plain
    return f"{plain}-{hashlib.sha256(student.encode()).hexdigest()[:8]}"


def write(
    folder: Path, results: list, questions: dict[str, float], assignment: str
) -> None:
    """Write CSV and pages; each file is either the old one or the new one."""
    feedback = folder / "feedback"
    feedback.mkdir(exist_ok=True)
    results = sorted(results, key=lambda result: result.student)
    pages = {folder / "results.csv": as_csv(results, list(questions))}
    pages[folder / "class.html"] = class_page(results, questions, assignment)
    for result in results:
        target = feedback / f"{file_name(result.student)}.html"
        pages[target] = student_page(result, assignment)
    for path, text in pages.items():
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
