"""Exercises: solutions fold open below them, and one page lists them all.

In a notebook a solution is plain text and code under the heading *Solutions*, in a
section with the title of its exercise; whoever opens the notebook does not meet it
beside the question. On the page each solution moves below its exercise, folded. The
fold is the browser's own: it needs no script.

The directive ``exercise-index``, with the argument ``chapter``, ``level``, ``topic`` or
``objective``, writes tables of all exercises from the line that each exercise begins
with, and from the numbered objectives that each chapter begins with::

    *Code · level 2 · 20 minutes · objective 3 · geometry.* Change …
"""

import re
from dataclasses import dataclass

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx_exercise.nodes import exercise_node, exercise_subtitle

LINE = re.compile(
    r"(?P<kind>Predict|Compute|Code|Experiment|Open) · level (?P<level>[123])"
    r" · (?P<minutes>\d+) minutes · objective (?P<objective>\d+) · (?P<topic>[\w -]+)\."
)
LEVELS = {"1": "reading and counting", "2": "working it out", "3": "finding out"}


class fold(nodes.General, nodes.Element):
    """A part of a page that is closed until the reader opens it."""


class exercise_index(nodes.General, nodes.Element):
    """The place of the tables, which are filled in when all chapters are read."""


@dataclass
class Exercise:
    """One row of the tables."""

    page: str
    label: str
    title: str
    kind: str
    level: str
    minutes: int
    objective: str
    topic: str


class ExerciseIndex(SphinxDirective):
    """The directive ``exercise-index``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["exercise_index"] = True
        return [exercise_index(by=self.arguments[0])]


def title_of(exercise: exercise_node) -> str:
    return next(exercise.findall(exercise_subtitle)).astext()


def read(app: Sphinx, document: nodes.document) -> None:
    """Note the exercises of a page, and put each solution below its exercise."""
    page = app.env.docname
    exercises = {title_of(found): found for found in document.findall(exercise_node)}
    rows = []
    for title, exercise in exercises.items():
        line = LINE.match(next(exercise.findall(nodes.emphasis)).astext())
        if line is None:
            raise ExtensionError(
                f"{page}: the exercise “{title}” must begin with a line such as "
                "*Code · level 2 · 20 minutes · objective 3 · geometry.*"
            )
        what = line.groupdict() | {
            "minutes": int(line["minutes"]),
            "objective": objective(document, int(line["objective"]), title),
        }
        rows.append(Exercise(page=page, label=exercise["label"], title=title, **what))
    if rows:
        all_exercises(app.env)[page] = rows

    for section in list(document.findall(nodes.section)):
        if section[0].astext() == "Solutions":
            for solution in list(section.findall(nodes.section))[1:]:
                title = solution[0].astext()
                if title not in exercises:
                    raise ExtensionError(f"{page}: no exercise has the title “{title}”")
                below(exercises[title], solution)
            section.parent.remove(section)


def objective(document: nodes.document, number: int, title: str) -> str:
    """Return an objective from the first numbered list of a chapter."""
    listed = next(document.findall(nodes.enumerated_list), [])
    if not 1 <= number <= len(listed):
        raise ExtensionError(
            f"The exercise “{title}” serves objective {number}; the chapter names "
            f"{len(listed)} in its first numbered list."
        )
    return listed[number - 1].astext().rstrip(".,")


def below(exercise: exercise_node, solution: nodes.section) -> None:
    folded = fold(ids=solution["ids"])
    folded += solution[1:]
    place = exercise.parent.index(exercise) + 1
    exercise.parent.insert(place, folded)


def all_exercises(env) -> dict[str, list[Exercise]]:
    if not hasattr(env, "all_exercises"):
        env.all_exercises = {}
    return env.all_exercises


def forget(app: Sphinx, env, page: str) -> None:
    all_exercises(env).pop(page, None)


def merge(app: Sphinx, env, pages: list[str], other) -> None:
    theirs = all_exercises(other)
    all_exercises(env).update({page: theirs[page] for page in pages if page in theirs})


def pages_with_index(app: Sphinx, env) -> list[str]:
    """Return the pages to write again: a table may have changed with any chapter."""
    return [page for page, found in env.metadata.items() if "exercise_index" in found]


def fill(app: Sphinx, document: nodes.document, page: str) -> None:
    for place in list(document.findall(exercise_index)):
        place.replace_self(list(tables(app, page, place["by"])))


def tables(app: Sphinx, page: str, by: str):
    """Yield a section with a table for each group of exercises."""
    found = all_exercises(app.env)
    pages = app.env.toctree_includes[app.config.root_doc]
    rows = [row for name in pages for row in found.get(name, [])]
    groups = {
        "chapter": lambda row: app.env.titles[row.page].astext(),
        "objective": lambda row: app.env.titles[row.page].astext(),
        "level": lambda row: f"Level {row.level}: {LEVELS[row.level]}",
        "topic": lambda row: row.topic.capitalize(),
    }
    named: dict[str, list[Exercise]] = {}
    for row in rows:
        named.setdefault(groups[by](row), []).append(row)
    headings = sorted(named) if by in ("level", "topic") else list(named)
    if by == "chapter":
        hours = round(sum(row.minutes for row in rows) / 60)
        count = f"{len(rows)} exercises, {hours} hours for one who does them all."
        yield nodes.paragraph("", count)
    for heading in headings:
        name = nodes.make_id(f"{by}-{heading}")
        section = nodes.section(ids=[name])
        section += nodes.title(heading, heading)
        rows = named[heading]
        section += table([columns(app, page, row, by) for row in rows])
        yield section


def columns(app: Sphinx, page: str, row: Exercise, by: str) -> dict[str, nodes.Node]:
    """Return the cells of one row by the heads of their columns."""
    address = app.builder.get_relative_uri(page, row.page) + f"#{row.label}"
    found = {
        "Exercise": nodes.reference("", row.title, internal=True, refuri=address),
        "Chapter": nodes.Text(app.env.titles[row.page].astext().split(" ·")[0]),
        "Kind": nodes.Text(row.kind),
        "Level": nodes.Text(row.level),
        "Minutes": nodes.Text(str(row.minutes)),
        "Topic": nodes.Text(row.topic),
    }
    if by == "objective":
        what = {"Objective": nodes.Text(row.objective[0].upper() + row.objective[1:])}
        return what | {head: found[head] for head in ("Exercise", "Kind", "Minutes")}
    del found[by.capitalize()]
    return found


def table(rows: list[dict]) -> nodes.table:
    group = nodes.tgroup("", cols=len(rows[0]))
    group += [nodes.colspec(colwidth=1) for _ in rows[0]]
    head, body = nodes.thead(), nodes.tbody()
    head += line([nodes.Text(text) for text in rows[0]])
    body += [line(list(row.values())) for row in rows]
    group += [head, body]
    found = nodes.table(classes=["exercises"])
    found += group
    return found


def line(parts: list[nodes.Node]) -> nodes.row:
    row = nodes.row()
    for content in parts:
        entry = nodes.entry()
        paragraph = nodes.paragraph()
        paragraph += content
        entry += paragraph
        row += entry
    return row


def open_fold(translator, node: fold) -> None:
    translator.body.append(translator.starttag(node, "details", CLASS="solution"))
    translator.body.append("<summary>Solution</summary>\n")


def close_fold(translator, node: fold) -> None:
    translator.body.append("</details>\n")


def setup(app: Sphinx) -> dict:
    app.add_node(fold, html=(open_fold, close_fold))
    app.add_node(exercise_index)
    app.add_directive("exercise-index", ExerciseIndex)
    # Before the table of contents of the page is collected.
    app.connect("doctree-read", read, priority=400)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", pages_with_index)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
