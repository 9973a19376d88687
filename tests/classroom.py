"""A class of students that do not exist, for trying out how it is graded.

    python tests/classroom.py FOLDER --students 60
    make grade SUBMISSIONS=FOLDER

writes their notebooks: good ones, half-done ones, and every kind of broken one. The
kind is the end of the student's name. A class of ten stands in ``tests/submissions``;
``--sample`` writes it, and a test compares the two.
"""

import argparse
import ast
import copy
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "assignments"))
import build

ENDLESS = "while True:\n        pass"
STUBBORN = """while True:
        try:
            while True:
                pass
        except BaseException:
            pass"""
REWRITE = """\
import glob

for path in glob.glob("tests/*.py"):
    text = open(path).read()
    with open(path, "w") as file:
        file.write(text.replace("assert ", "assert True or "))"""
PASSING = "CHECKS[name] = check.replace('assert ', 'assert True or ')"


@dataclass
class Pair:
    """The solution and the student's notebook of a built assignment."""

    solution: NotebookNode
    student: NotebookNode

    def questions(self) -> list[str]:
        names = (check_of(cell) for cell in self.solution.cells)
        return [name for name in names if name]


def read_pair(made: Path) -> Pair:
    """Return the two notebooks of a built assignment."""
    return Pair(
        nbformat.read(made / "solution.ipynb", as_version=4),
        nbformat.read(made / "student.ipynb", as_version=4),
    )


def check_of(cell: NotebookNode) -> str | None:
    """Return the question that a cell checks, or None."""
    if cell.cell_type == "code" and cell.source.startswith("grader.check("):
        return cell.source.split('"')[1]
    return None


def answer_cells(notebook: NotebookNode, question: str) -> list[int]:
    """Return the places of the cells that hold the answer to a question."""
    places: list[int] = []
    for place, cell in enumerate(notebook.cells):
        name = check_of(cell)
        if name == question:
            return places
        if name:
            places = []
        elif cell.cell_type == "code" and any(
            "solution" in tag or "answer" in tag
            for tag in cell.metadata.get("tags", [])
        ):
            places.append(place)
    raise ValueError(f"no question {question}")


def plain_questions(pair: Pair) -> list[str]:
    """Return the questions whose answer is one function or class and nothing else."""
    found = []
    for question in pair.questions():
        places = answer_cells(pair.solution, question)
        body = [
            n for p in places for n in ast.parse(pair.solution.cells[p].source).body
        ]
        if len(body) == 1 and isinstance(body[0], ast.FunctionDef | ast.ClassDef):
            found.append(question)
    return found


Maker = Callable[[Pair], NotebookNode]


def good(pair: Pair) -> NotebookNode:
    return copy.deepcopy(pair.solution)


def stub(pair: Pair) -> NotebookNode:
    return copy.deepcopy(pair.student)


def half(pair: Pair) -> NotebookNode:
    """Every other question is left as it came."""
    notebook = good(pair)
    for question in pair.questions()[1::2]:
        here = answer_cells(notebook, question)
        there = answer_cells(pair.student, question)
        for a, b in zip(here, there, strict=True):
            notebook.cells[a].source = pair.student.cells[b].source
    return notebook


def with_cell(source: str, base: Maker = good) -> Maker:
    """Put one more cell after the answer to the first plain question."""

    def make(pair: Pair) -> NotebookNode:
        notebook = base(pair)
        place = answer_cells(notebook, plain_questions(pair)[0])[-1] + 1
        name = f"added-{len(notebook.cells)}"  # not by chance: the same class again
        notebook.cells.insert(place, nbformat.v4.new_code_cell(source, id=name))
        return notebook

    return make


def with_answer(
    change: Callable[[str, str], str], number: int = 0, base: Maker = good
) -> Maker:
    """Change the answer to a plain question, given its source and what it defines."""

    def make(pair: Pair) -> NotebookNode:
        notebook = base(pair)
        question = plain_questions(pair)[number]
        cell = notebook.cells[answer_cells(notebook, question)[0]]
        cell.source = change(cell.source, ast.parse(cell.source).body[0].name)
        return notebook

    return make


def instead(body: str, number: int = 0, base: Maker = good) -> Maker:
    """Let what a question asks for do something else when it is called."""

    def change(source: str, name: str) -> str:
        return f"{source}\n\n\ndef {name}(*args, **options):\n    {body}\n"

    return with_answer(change, number, base)


def renamed(source: str, name: str) -> str:
    return source.replace(name, f"{name}_new")


def without_answer(pair: Pair) -> NotebookNode:
    notebook = good(pair)
    del notebook.cells[answer_cells(notebook, plain_questions(pair)[0])[0]]
    return notebook


def without_checks(pair: Pair) -> NotebookNode:
    notebook = good(pair)
    notebook.cells = [cell for cell in notebook.cells if check_of(cell) is None]
    return notebook


def with_edited_checks(pair: Pair) -> NotebookNode:
    notebook = stub(pair)
    cell = next(c for c in notebook.cells if c.source.startswith("# @title"))
    loop = "for name, check in CHECKS.items():\n"
    assert loop in cell.source
    cell.source = cell.source.replace(loop, f"{loop}    {PASSING}\n{loop}", 1)
    return notebook


def with_stored_output(pair: Pair) -> NotebookNode:
    notebook = good(pair)
    text = "x" * 60_000_000
    notebook.cells[1].outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=text)
    ]
    return notebook


ERROR = "1 / 0"
NO_GRADER = "grader = None"
LOUD = 'while True:\n    print("x" * 1000)'
MEMORY = "hog = [bytearray(2**28) for _ in range(1000)]"
BIG_FILE = 'with open("hog", "wb") as file:\n    file.write(bytes(500_000_000))'
SLEEP = "import time\n\ntime.sleep(3600)"
FORK = "import os, time\n\nif os.fork() == 0:\n    time.sleep(3600)"
FORK_ON = "import os\n\nos.fork()"
LEAVE = "import os\n\nos._exit(1)"
KILLED = "import os\n\nos.kill(os.getpid(), 9)"
LOOP = "while True:\n    pass"
LEAVES = "import os; os._exit(1)"


def all_cells(pair: Pair) -> NotebookNode:
    """Everything that a cell can do without ending the process, in one notebook."""
    maker = good
    for source in (ERROR, NO_GRADER, LOUD, MEMORY, BIG_FILE, FORK, FORK_ON, LOOP):
        maker = with_cell(source, maker)
    return maker(pair)


def all_answers(pair: Pair) -> NotebookNode:
    """Four questions broken in four ways."""
    maker = instead(ENDLESS, 0)
    maker = instead("raise SystemExit", 1, maker)
    maker = instead('print("x" * 500_000_000)', 2, maker)
    return with_answer(renamed, 3, maker)(pair)


def deadly(pair: Pair) -> NotebookNode:
    """Two cells and an answer that each end the process."""
    return with_cell(KILLED, with_cell(LEAVE, instead(LEAVES)))(pair)


def nothing(pair: Pair) -> list[str]:
    return []


def first(pair: Pair) -> list[str]:
    return plain_questions(pair)[:1]


def first_four(pair: Pair) -> list[str]:
    return plain_questions(pair)[:4]


def every_other(pair: Pair) -> list[str]:
    return pair.questions()[1::2]


def everything(pair: Pair) -> list[str]:
    return pair.questions()


# What each kind of notebook is, and the questions for which it must earn nothing; it
# must earn all points of the others.
KINDS: dict[str, tuple[Maker | str, Callable[[Pair], list[str]]]] = {
    "good": (good, nothing),
    "half": (half, every_other),
    "stub": (stub, everything),
    "error": (with_cell(ERROR), nothing),
    "syntax": (with_answer(lambda source, name: f"{source}\n)"), first),
    "renamed": (with_answer(renamed), first),
    "noanswer": (without_answer, first),
    "nochecks": (without_checks, nothing),
    "nograder": (with_cell(NO_GRADER), nothing),
    "loopcell": (with_cell(LOOP), nothing),
    "loop": (instead(ENDLESS), first),
    "stubborn": (instead(STUBBORN), first),
    "sleep": (with_cell(SLEEP), nothing),
    "fork": (with_cell(FORK), nothing),
    "forkon": (with_cell(FORK_ON), nothing),
    "exitcell": (with_cell(LEAVE), nothing),
    "exit": (instead(LEAVES), first),
    "sysexit": (instead("raise SystemExit"), first),
    "killed": (with_cell(KILLED), nothing),
    "deadly": (deadly, first),
    "loudcell": (with_cell(LOUD), nothing),
    "loud": (instead('print("x" * 500_000_000)'), first),
    "stored": (with_stored_output, nothing),
    "memory": (with_cell(MEMORY), nothing),
    "file": (with_cell(BIG_FILE), nothing),
    "cells": (all_cells, nothing),
    "answers": (all_answers, first_four),
    "rewrite": (with_cell(REWRITE, stub), everything),
    "edited": (with_edited_checks, everything),
    "nojson": ("This is no JSON.", everything),
    "empty": ("", everything),
    "nonotebook": ('{"cells": 3}', everything),
}


# The class of tests/submissions: one of each common kind, quick to grade.
SAMPLE = [
    "good",
    "half",
    "stub",
    "error",
    "syntax",
    "renamed",
    "noanswer",
    "nochecks",
    "loop",
    "nojson",
]


def write_class(
    folder: Path, made: Path, kinds: list[str], students: int
) -> dict[str, str]:
    """Write submissions to a built assignment; return each student's kind.

    Every other student hands in a folder instead of a file.
    """
    pair = read_pair(made)
    written = {}
    for number in range(students):
        kind = kinds[number % len(kinds)]
        student = f"student-{number + 1:03}-{kind}"
        path = folder / f"{student}.ipynb"
        if number % 2:
            path = folder / student / "assignment.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        maker = KINDS[kind][0]
        # Not nbformat.writes: it would refuse what is broken on purpose.
        text = maker if isinstance(maker, str) else json.dumps(maker(pair))
        path.write_text(text, encoding="utf-8")
        written[student] = kind
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--students", type=int, default=60)
    parser.add_argument("--assignment", choices=build.names(), default=build.names()[0])
    parser.add_argument("--seed", type=build.seed_number, default=build.DEFAULT_SEED)
    parser.add_argument("--sample", action="store_true", help="one of each of SAMPLE")
    options = parser.parse_args()
    # Half of the class is good, as in life.
    broken = [kind for kind in KINDS if kind != "good"]
    kinds = [kind for other in broken for kind in (other, "good")]
    if options.sample:
        kinds, options.students = SAMPLE, len(SAMPLE)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / options.assignment
        build.build(options.assignment, options.seed, made, check=False)
        write_class(options.folder, made, kinds, options.students)
    print(f"{options.students} submissions are in {options.folder}")


if __name__ == "__main__":
    main()
