"""Grading a class: whatever a notebook does, its student gets what is due."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import classroom
import mutants.blocks
import nbformat
import psutil
import pytest
from classroom import KINDS, Pair

sys.path.insert(0, str(Path(__file__).parent.parent / "assignments"))
import build
import grade
import report

NAME = mutants.blocks.ASSIGNMENT
# Little computing, and much patience: a machine that runs tests may be busy.
LIMITS = grade.Limits(seconds=24, cell=6, test=2, patience=40, memory=3072 * grade.MIB)
CLASS = [
    "stubborn",  # the slowest first
    "deadly",
    "cells",
    "answers",
    "good",
    "half",
    "stub",
    "syntax",
    "noanswer",
    "nochecks",
    "stored",
    "rewrite",
    "edited",
    "nojson",
    "empty",
    "nonotebook",
]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / NAME
    with pytest.MonkeyPatch.context() as patch:
        # A workflow says where it runs, and the notebook would say so too.
        patch.delenv("GITHUB_REPOSITORY", raising=False)
        return build.build(NAME, 0, folder, check=False)


@pytest.fixture(scope="session")
def pair(made: Path) -> Pair:
    return classroom.read_pair(made)


def test_the_committed_class_is_what_the_program_writes(made: Path, tmp_path: Path):
    committed = Path(__file__).parent / "submissions"
    kinds = classroom.SAMPLE
    classroom.write_class(tmp_path, made, kinds, len(kinds))
    cure = "python tests/classroom.py tests/submissions --sample"
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.ipynb"))
    assert files == sorted(p.relative_to(committed) for p in committed.rglob("*.ipynb"))
    for file in files:
        assert (committed / file).read_bytes() == (tmp_path / file).read_bytes(), cure


def one_wrong_answer_each(pair: Pair) -> tuple[nbformat.NotebookNode, dict]:
    """Return a notebook with one wrong answer to each question, and its marks."""
    notebook, marks = classroom.good(pair), {}
    for question in pair.questions():
        wrong = next(
            w
            for w in mutants.blocks.WRONG
            if w.question == question and w.points and isinstance(w.answer, dict)
        )
        places = classroom.answer_cells(notebook, question)
        for old, new in wrong.answer.items():
            for place in places:
                cell = notebook.cells[place]
                cell.source = cell.source.replace(old, new)
        marks[question] = wrong.points
    return notebook, marks


@pytest.fixture(scope="session")
def graded(made: Path, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grade a class with every kind of notebook; return the folder of results."""
    folder = tmp_path_factory.mktemp("class") / "handed-in"
    classroom.write_class(folder, made, CLASS, len(CLASS))
    nbformat.write(one_wrong_answer_each(pair)[0], folder / "student-wrong.ipynb")
    target = folder.with_name("graded")
    grader = grade.Grader((NAME, 0), made / "autograder.zip", target, LIMITS)
    results = grader.run(grade.find_submissions(folder), workers=2)
    report.write(target, results, grader.points, NAME)
    return target


def result_of(graded: Path, kind: str) -> dict:
    (path,) = (graded / "results").glob(f"student*-{kind}.json")
    return json.loads(path.read_text("utf-8"))


def scores(result: dict) -> dict[str, float]:
    return {name: question["score"] for name, question in result["questions"].items()}


@pytest.mark.parametrize("kind", CLASS)
def test_each_kind_gets_what_is_due(graded: Path, pair: Pair, kind: str) -> None:
    result = result_of(graded, kind)
    lost = KINDS[kind][1](pair)
    expected = {
        name: 0 if name in lost else question["possible"]
        for name, question in result["questions"].items()
    }
    assert list(expected) == pair.questions()
    assert sum(question["possible"] for question in result["questions"].values()) == 20
    assert scores(result) == expected, result


def test_whole_runs_agree_with_the_table_of_wrong_answers(
    graded: Path, pair: Pair
) -> None:
    assert scores(result_of(graded, "wrong")) == one_wrong_answer_each(pair)[1]


def test_results_say_what_happened(graded: Path) -> None:
    for kind in ("nojson", "empty", "nonotebook"):
        assert result_of(graded, kind)["status"] == "unreadable"
    deadly = result_of(graded, "deadly")
    assert deadly["status"] == "repaired"
    assert re.fullmatch(
        r"Ended the whole process: cell \d+, cell \d+, test q1 - 1\.", deadly["note"]
    )
    assert result_of(graded, "stubborn")["status"] == "repaired"
    stopped = [cell["error"] for cell in result_of(graded, "cells")["cells"]]
    assert sorted(stopped) == [
        "MemoryError",
        "OSError",
        "OutOfTime",
        "TooMuchOutput",
        "ZeroDivisionError",
    ]
    messages = json.dumps(result_of(graded, "answers")["questions"])
    for word in ("OutOfTime", "SystemExit", "TooMuchOutput", "has no `"):
        assert word in messages


def test_nothing_is_left_running(graded: Path) -> None:
    left = []
    for process in psutil.process_iter():
        try:
            if str(graded) in process.environ().get(grade.MARK, ""):
                left.append(process)
        except (psutil.Error, OSError):
            continue
    assert not left


def test_csv(graded: Path, pair: Pair) -> None:
    with (graded / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(CLASS) + 1
    assert list(rows[0]) == ["student", "total", *pair.questions(), "status", "note"]
    total = {row["student"].split("-")[-1]: row["total"] for row in rows}
    assert total["good"] == "20"
    assert total["stub"] == "0"


def test_pages(graded: Path) -> None:
    page = (graded / "class.html").read_text("utf-8")
    assert f"{len(CLASS) + 1} submissions." in page
    assert "The hardest is" in page
    assert "unreadable" in page
    assert "OutOfTime in a cell" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == len(CLASS) + 1
    for link in links:
        text = (graded / link).read_text("utf-8")
        assert "points." in text
        assert "http" not in text
        assert "<script" not in text
    feedback = next((graded / "feedback").glob("*-half.html")).read_text("utf-8")
    assert "of 20 points" in feedback
    assert "not passed" in feedback


def test_pages_escape_what_students_write() -> None:
    test = {
        "name": "q1 - 1",
        "points": 1,
        "hidden": True,
        "passed": False,
        "message": "<script>alert(1)</script>",
    }
    question = {"score": 0, "possible": 1, "tests": [test]}
    result = grade.Result("<b>x</b>", "f", "k", questions={"q1": question})
    text = report.student_page(result, "a") + report.class_page(
        [result], {"q1": 1}, "a"
    )
    assert "<script>" not in text
    assert "<b>x</b>" not in text
    name = report.file_name("../../<b>")
    assert "/" not in name
    assert report.file_name("../../<i>") != name
    formula = grade.Result("=1+1", "f", "k", questions={"q1": question})
    assert report.as_csv([formula], ["q1"]).splitlines()[1].startswith("'=1+1,")


def test_names_of_students(tmp_path: Path) -> None:
    for path in (
        "ada.ipynb",
        "bob/1-blocks.ipynb",
        "cy/late/x.ipynb",
        "cy/early/x.ipynb",
        "bob/.ipynb_checkpoints/1-blocks-checkpoint.ipynb",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    found = grade.find_submissions(tmp_path)
    assert sorted(found) == ["ada", "bob", "cy early x", "cy late x"]


# The command.


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(Path(grade.__file__)), *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    # No Docker, wherever this is tested.
    return subprocess.run(
        command(*arguments, "--no-containers"), capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "is no folder"),
        (["."], "no .ipynb file"),
        (["full"], "do not say which assignment"),
        (["full", "--assignment", "9-none"], "invalid choice"),
        (["full", "--seed", "one"], "must be a whole number"),
        (["full", "--workers", "0"], "from 1 on"),
    ],
)
def test_bad_input_is_answered_at_the_door(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "full").mkdir()
    if arguments[0] == "full":
        (tmp_path / "full" / "a.ipynb").write_text("{}")
    done = run(tmp_path / arguments[0], *arguments[1:])
    assert done.returncode == 2
    assert says in done.stderr


def wait_for(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kernels(target: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(grade.MARK, "").startswith(str(target))
            if marked and "ipykernel_launcher" in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_interrupted_killed_and_resumed(made: Path, pair: Pair, tmp_path: Path) -> None:
    folder, target = tmp_path / "class", tmp_path / "class-graded"
    folder.mkdir()
    (folder / "a.ipynb").write_text("This is no JSON.")
    nbformat.write(classroom.good(pair), folder / "b.ipynb")
    first = target / "results" / "a.json"
    arguments = command(folder, "--no-containers", "--workers", "1")

    process = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(first.exists)
    process.terminate()  # as Ctrl-C, which a shell may have told us to ignore
    _, said = process.communicate(timeout=120)
    assert "Interrupted. 1 results are kept" in said
    assert process.returncode == 1
    written = first.stat().st_mtime_ns

    # Killed with no chance to say anything, while the second notebook runs.
    process = subprocess.Popen(
        arguments, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: kernels(target))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    done = run(folder, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "1 of 2 are graded already." in done.stdout
    assert re.search(r"2 graded in \d+ s\.", done.stdout)
    assert "It is no sandbox" in done.stderr.replace("\n", " ")
    assert "2/2" in done.stderr  # the progress bar
    assert first.stat().st_mtime_ns == written
    assert not kernels(target)
    rows = (target / "results.csv").read_text("utf-8").splitlines()
    assert rows[1].startswith("a,0,")
    assert rows[2].startswith("b,20,")

    # What has changed is graded again, and nothing else.
    (folder / "a.ipynb").write_text("This is no JSON either.")
    second = (target / "results" / "b.json").stat().st_mtime_ns
    done = run(folder)
    assert "1 of 2 are graded already." in done.stdout
    assert first.stat().st_mtime_ns > written
    assert (target / "results" / "b.json").stat().st_mtime_ns == second


def test_notebook_of_another_variant_is_noted(made: Path, tmp_path: Path) -> None:
    grader = grade.Grader((NAME, 0), made / "autograder.zip", tmp_path, LIMITS)
    assert grader.other_variant({"assignment": NAME, "seed": 0}) == ""
    assert grader.other_variant({}) == ""
    said = grader.other_variant({"assignment": NAME, "seed": 3})
    assert said == f"The notebook is {NAME}, seed 3. "


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        grade.alone(tmp_path),
        pytest.raises(SystemExit, match="Another run"),
        grade.alone(tmp_path),
    ):
        pass


class TestContainers:
    """What of grading in containers can be tried without Docker."""

    def test_none_without_docker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grade.shutil, "which", lambda name: None)
        assert grade.container_image(Path("a.zip"), NAME) is None

    def test_none_where_docker_does_not_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        docker = tmp_path / "docker"
        docker.write_text("#!/bin/sh\nexit 1\n")
        docker.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert grade.container_image(Path("a.zip"), NAME) is None

    @pytest.mark.parametrize("fails", [False, True])
    def test_result(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
    ) -> None:
        from otter.grade import containers
        from otter.test_files import GradingResults, TestCase
        from otter.test_files.abstract_test import TestCaseResult
        from otter.test_files.exception_test import ExceptionTestFile

        asked = {}

        def grade_submission(**options: object) -> GradingResults:
            asked.update(options)
            if fails:
                return GradingResults.without_results(TimeoutError("too long"))
            case = TestCase("q1 - 1", None, False, 2, None, None)
            test = ExceptionTestFile("q1", "q1.py", [case])
            test.test_case_results = [TestCaseResult(case, "passed", True)]
            return GradingResults([test])

        monkeypatch.setattr(containers, "grade_submission", grade_submission)
        grader = grade.Grader(
            (NAME, 0), made / "autograder.zip", tmp_path, LIMITS, "image"
        )
        result = grader.grade("ada", made / "solution.ipynb")
        assert asked["image"] == "image"
        assert asked["network"] is False
        assert result.total == (0 if fails else 2)
        assert result.possible == 20
        assert result.status == ("failed" if fails else "graded")
        assert grader.known("ada", made / "solution.ipynb") == result
