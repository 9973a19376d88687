"""The assignments: what is built, and that the graders tell right from wrong."""

import ast
import importlib.util
import linecache
import pkgutil
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

import mutants
import nbformat
import pytest
from mutants import Wrong
from nbclient import NotebookClient
from otter.assign.solutions import replace_solutions
from otter.test_files import TestFile
from otter.test_files.exception_test import ExceptionTestFile

ROOT = Path(__file__).parent.parent
MASTERS = sorted(path.stem for path in (ROOT / "assignments").glob("[0-9]*.ipynb"))
SEEDS = [0, 1, 2]
# The functions and classes that the checks in a student's notebook may bring along.
# None of them computes what a question asks for: think of that before you add one.
HELPERS_OF_ALL = {"expect_answer", "say_where"}
PUBLIC_HELPERS: dict[str, set[str]] = {
    "1-blocks": {
        *("by_arithmetic", "count", "create", "dice", "expect_number", "expect_shape"),
        *("expect_whole", "first_convolved", "shape"),
    },
    "2-fcn-and-unet": {
        *("by_arithmetic", "count", "create", "dice", "draw_scores", "drawn_frames"),
        *("expect_conv", "expect_marks", "expect_number", "expect_shape"),
        *("expect_unchanged", "expect_values", "expect_whole", "filled", "framed"),
        *("listed", "sides_at", "watched", "without_layer"),
    },
    "3-training-and-evaluation": {
        *("Window", "by_hand", "expect_loss", "expect_number", "expect_pair"),
        *("expect_tensor", "expect_values", "put_together"),
    },
    "4-improvements": {
        *("apply", "as_number", "count", "create", "dice", "differing", "draw"),
        *("expect_number", "expect_shape", "expect_tensor", "expect_three", "listed"),
        *("own", "part", "shape", "weighted", "zeroed"),
    },
}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"assignments_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load(ROOT / "assignments" / "build.py")
shared = load(ROOT / "assignments" / "shared.py")
TABLES = {
    module.ASSIGNMENT: module.WRONG
    for module in (
        importlib.import_module(f"mutants.{info.name}")
        for info in pkgutil.iter_modules(mutants.__path__)
    )
}


@dataclass
class Question:
    """A question as the master has it: its cells in order, and its test file."""

    name: str
    cells: list[tuple[str, str]] = field(default_factory=list)  # kind and source

    def source(self, answer: str | dict[str, str] | None = None) -> str:
        """Return the question's code with an answer; None is the solution."""
        solution = "\n\n".join(code for kind, code in self.cells if kind == "solution")
        if isinstance(answer, dict):
            for old, new in answer.items():
                assert old in solution, f"{self.name}: the solution has no {old!r}"
                solution = solution.replace(old, new)
        elif answer is not None:
            solution = answer
        given = [code for kind, code in self.cells if kind == "given"]
        return "\n\n".join([*given, solution])

    def stub(self) -> str:
        """Return what the student's notebook has in place of the solution."""
        solution = self.source({})
        return "\n".join(replace_solutions(solution.split("\n"), "python"))


class Variant:
    """One variant of one assignment, built, and executed cell by cell."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        self.folder = build.build(name, seed, folder / str(seed) / name, check=False)
        with zipfile.ZipFile(self.folder / "autograder.zip") as archive:
            self.tests = {
                Path(entry).stem: archive.read(entry).decode()
                for entry in archive.namelist()
                if entry.startswith("tests/")
            }
        self.student = nbformat.read(self.folder / "student.ipynb", as_version=4)
        # The public checks, as the student's notebook holds them.
        self.visible = visible_checks(self.student)
        path = ROOT / "assignments" / f"{name}.ipynb"
        master, _ = build.specialise(nbformat.read(path, as_version=4), seed)
        self.steps = read_steps(master)
        self.questions = {q.name: q for q in self.steps if isinstance(q, Question)}
        # The namespace that each question finds when all before it was answered well.
        self.before: dict[str, dict] = {}
        namespace: dict = {"__name__": "__main__"}
        for step in self.steps:
            if isinstance(step, Question):
                self.before[step.name] = dict(namespace)
                step = step.source()
            exec(step, namespace)

    def grade(self, question: str, answer: str) -> TestFile:
        """Execute one answer where it belongs, run its tests, return their outcome."""
        namespace = dict(self.before[question])
        exec(
            answer, namespace
        )  # a wrong answer must be a program, or it proves nothing
        return self.check(question, namespace)

    def check(self, question: str, namespace: dict) -> TestFile:
        return run(self.tests[question], namespace)

    def look(self, question: str, namespace: dict) -> TestFile:
        """Run the checks that a student sees."""
        return run(self.visible[question], namespace)

    def answered(self, question: str) -> dict:
        """Return the namespace in which a question has just been answered well."""
        namespace = dict(self.before[question])
        exec(self.questions[question].source(), namespace)
        return namespace

    def scores(self, answers: dict[str, str]) -> dict[str, float]:
        """Execute the notebook with some answers replaced; return all scores."""
        namespace: dict = {"__name__": "__main__"}
        scores = {}
        for step in self.steps:
            if isinstance(step, Question):
                execute(answers.get(step.name, step.source()), namespace)
                if step.name in self.tests:
                    scores[step.name] = self.check(step.name, namespace).score
            else:
                execute(step, namespace)
        return scores

    def possible(self) -> dict[str, float]:
        return {
            name: ExceptionTestFile.from_string(source).possible
            for name, source in self.tests.items()
        }


def visible_checks(student: nbformat.NotebookNode) -> dict[str, str]:
    (cell,) = (c for c in student.cells if "CHECKS = {}" in c.source)
    lines = [line for line in cell.source.splitlines() if not line.startswith("    %")]
    found = {}
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            found[node.targets[0].slice.value] = ast.literal_eval(node.value)
    return found


def run(source: str, namespace: dict) -> TestFile:
    test = ExceptionTestFile.from_string(source)
    test.run(namespace)
    return test


def execute(source: str, namespace: dict) -> None:
    """Execute a cell as Otter does: an error ends the cell, not the notebook."""
    try:
        exec(source, namespace)
    except Exception as error:
        namespace["__error__"] = error


def read_steps(master: nbformat.NotebookNode) -> list[str | Question]:
    """Return a variant's code between the questions, and the questions, in order."""
    steps: list[str | Question] = []
    question, block = None, "given"
    for cell in master.cells:
        if cell.cell_type == "raw":
            if match := re.match(r"# BEGIN QUESTION\nname: (\w+)", cell.source):
                question = Question(match[1])
                steps.append(question)
            elif cell.source.startswith("# END QUESTION"):
                question = None
            elif match := re.match(r"# (BEGIN|END) (SOLUTION|TESTS)", cell.source):
                block = match[2].lower() if match[1] == "BEGIN" else "given"
        elif cell.cell_type == "code" and block != "tests":
            if question is None:
                steps.append(cell.source)
            else:
                question.cells.append((block, cell.source))
    return steps


@pytest.fixture(scope="session")
def variant(tmp_path_factory: pytest.TempPathFactory):
    """Return a function that builds a variant, once."""
    folder = tmp_path_factory.mktemp("assignments")

    @cache
    def built(name: str, seed: int = 0) -> Variant:
        return Variant(name, seed, folder)

    return built


def table_rows() -> list:
    rows = [(name, wrong) for name, table in TABLES.items() for wrong in table]
    return [
        pytest.param(name, wrong, id=f"{name}-{wrong.question}-{wrong.mistake}")
        for name, wrong in rows
    ]


def report(test: TestFile) -> str:
    return "\n".join(
        f"{r.test_case.name}, {r.test_case.points} points: {r.message}"
        for r in test.test_case_results
    )


@pytest.mark.parametrize(("name", "wrong"), table_rows())
def test_wrong_answer_keeps_exactly_its_points(
    variant, name: str, wrong: Wrong
) -> None:
    built = variant(name, wrong.seed)
    question = built.questions[wrong.question]
    result = built.grade(wrong.question, question.source(wrong.answer))
    assert result.score == pytest.approx(wrong.points), report(result)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MASTERS)
def test_solution_earns_all_and_stub_nothing(variant, name: str, seed: int) -> None:
    built = variant(name, seed)
    assert built.scores({}) == pytest.approx(built.possible())
    stubs = {question: q.stub() for question, q in built.questions.items()}
    assert built.scores(stubs) == dict.fromkeys(built.tests, 0)


NO_ANSWER = "has no answer yet"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MASTERS)
def test_what_is_blank_is_called_blank(variant, name: str, seed: int) -> None:
    """Each thing that is asked for has a visible check that misses it."""
    built = variant(name, seed)
    namespace: dict = {"__name__": "__main__"}
    for step in built.steps:
        if not isinstance(step, Question):
            execute(step, namespace)
            continue
        execute(step.stub(), namespace)
        if step.name not in built.tests:
            continue
        for result in built.look(step.name, namespace).test_case_results:
            assert NO_ANSWER in result.message, result.message
        solved = built.answered(step.name)
        assert built.look(step.name, solved).passed_all
        # One thing left out, and the rest answered.
        for answer in asked_for(built.tests[step.name]):
            if isinstance(solved[answer], type):
                continue
            blank = (lambda *_, **__: None) if callable(solved[answer]) else ...
            seen = report(built.look(step.name, solved | {answer: blank}))
            assert NO_ANSWER in seen, f"{step.name}: nobody sees that of {answer}"


def asked_for(test: str) -> set[str]:
    """Return the names of a student's notebook that a test file asks for."""
    return {
        arg.arg
        for node in ast.parse(test).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        for arg in node.args.args
    }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MASTERS)
def test_visible_checks_do_not_solve_the_question(
    variant, name: str, seed: int
) -> None:
    allowed = HELPERS_OF_ALL | PUBLIC_HELPERS[name]
    for question, check in variant(name, seed).visible.items():
        tree = ast.parse(check)
        helpers = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("test_")
        }
        assert helpers <= allowed, f"{question}: {helpers - allowed}"
        # The package is named to be refused or switched off, never to be asked.
        package = {
            alias.asname or alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            and ast.unparse(node).split()[1].startswith("unet_edu")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                asked = ast.unparse(node.func)
                assert asked.split(".")[0] not in package, f"{question}: {asked}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MASTERS)
def test_nothing_is_left_of_the_choices(variant, name: str, seed: int) -> None:
    """No `if 'down' == 'up'` in what a student can read."""
    built = variant(name, seed)
    given = [
        "\n".join(x for x in c.source.splitlines() if not x.startswith("    %"))
        for c in built.student.cells
        if c.cell_type == "code"
    ]
    for source in [*given, *built.visible.values()]:
        for node in ast.walk(ast.parse(source)):
            sides = []
            if isinstance(node, ast.If | ast.IfExp):
                sides = [node.test]
            elif isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
            settled = sides and all(isinstance(side, ast.Constant) for side in sides)
            assert not settled, ast.unparse(node)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MASTERS)
def test_students_are_told_what_the_checks_are_worth(
    variant, name: str, seed: int
) -> None:
    built = variant(name, seed)
    (said,) = re.findall(
        r"The checks that you see are worth ([\d.]+) of the 20 points",
        built.student.cells[0].source,
    )
    cases = [
        case
        for source in built.tests.values()
        for case in ExceptionTestFile.from_string(source).test_cases
    ]
    assert float(said) == sum(case.points for case in cases if not case.hidden)


def test_a_changed_network_is_called_changed(variant) -> None:
    built = variant("2-fcn-and-unet")
    question = built.questions["q6"]
    for answer in (
        {"copy.deepcopy(network)": "network"},
        {"    layers = ": "    network[0].weight.data += 1\n    layers = "},
    ):
        seen = report(built.grade("q6", question.source(answer)))
        assert seen.count("Work on a copy.") == 3, seen


def test_errors_are_placed_in_the_students_code() -> None:
    source = "def outer():\n    return [\n        inner() for _ in '1']\n"
    source += "def inner():\n    x = 1\n    return {}[x]\n"
    linecache.cache["cell-7"] = (len(source), None, source.splitlines(True), "cell-7")
    student = {"__name__": "__main__"}
    exec(compile(source, "cell-7", "exec"), student)
    with pytest.raises(KeyError) as stopped:
        student["outer"]()
    shared.say_where(stopped.value)
    assert stopped.value.args == ("In your `inner`, line 3, `return {}[x]`: 1",)
    exec("class Net:\n  def forward(self):\n    return given_up(1)", student)
    with pytest.raises(NameError) as stopped:
        student["Net"]().forward()
    shared.say_where(stopped.value)
    said = str(stopped.value)
    assert said.startswith("In your `Net.forward`, line 2: name 'given_up' is not")
    assert "Run the cell above that defines or imports `given_up`" in said
    with pytest.raises(ValueError, match="ours") as stopped:
        raise ValueError("ours")
    shared.say_where(stopped.value)
    assert str(stopped.value) == "ours"


def test_the_page_for_instructors_has_the_minutes(variant) -> None:
    page = (ROOT / "book" / "instructors.md").read_text("utf-8")
    rows = re.findall(
        r"^\| (\d)[^|]*\| (\d+) [^|]*\|[^|]*\|[^|]*\| (\d+) \|$", page, re.MULTILINE
    )
    on_page = {(number, question): int(minutes) for number, question, minutes in rows}
    for name in MASTERS:
        for seed in (0, 1):
            found: dict = {}
            for cell in variant(name, seed).student.cells:
                if cell.cell_type == "markdown":
                    if match := re.search(r"^## Question (\d+)", cell.source, re.M):
                        now = (name[0], match[1])
                    for minutes in re.findall(r"(\d+) minutes", cell.source):
                        found[now] = found.get(now, 0) + int(minutes)
            want = {key: value for key, value in on_page.items() if key[0] == name[0]}
            assert found == want


@pytest.mark.parametrize("name", MASTERS)
def test_question_left_out_costs_only_itself(variant, name: str) -> None:
    built = variant(name)
    for question in built.tests:
        scores = built.scores({question: built.questions[question].stub()})
        assert scores == pytest.approx({**built.possible(), question: 0}), question


@pytest.mark.parametrize("name", MASTERS)
def test_points(variant, name: str) -> None:
    built = variant(name)
    assert sum(built.possible().values()) == pytest.approx(20)
    assert 6 <= len(built.tests) <= 9
    cases = [
        case
        for source in built.tests.values()
        for case in ExceptionTestFile.from_string(source).test_cases
    ]
    assert sum(case.points for case in cases if case.hidden) > 10
    assert any(name not in built.tests for name in built.questions), "no open question"


@pytest.mark.parametrize("name", MASTERS)
def test_each_question_has_four_wrong_answers(variant, name: str) -> None:
    table = TABLES[name]
    for question in variant(name).tests:
        assert len([w for w in table if w.question == question and w.seed == 0]) >= 4


@pytest.mark.parametrize("name", MASTERS)
def test_last_years_answers_do_not_fit(variant, name: str) -> None:
    for last_year, this_year in ((0, 1), (1, 2)):
        old = variant(name, last_year).questions
        answers = {question: q.source() for question, q in old.items()}
        built = variant(name, this_year)
        total = sum(built.scores(answers).values())
        assert total <= 12, f"the answers of {last_year} earn {total} in {this_year}"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", MASTERS)
def test_same_seed_same_bytes(variant, name: str, tmp_path: Path) -> None:
    first = files_of(variant(name).folder)
    again = files_of(build.build(name, 0, tmp_path / "again", check=False))
    assert list(first) == list(again)
    assert [path for path in first if first[path] != again[path]] == []
    other = files_of(variant(name, 1).folder)
    for path in ("student.ipynb", "solution.ipynb", "autograder.zip"):
        assert first[path] != other[path]


@pytest.mark.parametrize("name", MASTERS)
def test_student_gets_neither_solution_nor_hidden_tests(variant, name: str) -> None:
    built = variant(name)
    files = files_of(built.folder)
    student = files["student.ipynb"].decode()
    assert files[f"offline/{name}.ipynb"].decode() == student
    for word in ("SOLUTION", "HIDDEN", "hidden=True"):
        assert word not in student
    assert re.findall(r"\b[A-Z][A-Z0-9_]*?__\b", student) == []
    cells = nbformat.reads(student, as_version=4).cells
    assert not [
        c.source for c in cells if c.cell_type == "markdown" and "{{" in c.source
    ]
    for test in built.tests.values():
        for function in re.findall(r"hidden=True\)\ndef (\w+)", test):
            assert function not in student


@pytest.mark.parametrize("name", MASTERS)
def test_archive_has_what_gradescope_needs(variant, name: str) -> None:
    with zipfile.ZipFile(variant(name).folder / "autograder.zip") as archive:
        inside = {info.filename: info for info in archive.infolist()}
        environment = archive.read("environment.yml").decode()
    for entry in ("run_autograder", "setup.sh", "files/unet_edu/__init__.py"):
        assert entry in inside
    assert inside["run_autograder"].external_attr >> 16 & 0o111
    assert "python=3.12" in environment
    assert "- torch==" in environment
    assert "http" not in environment


def test_versions_are_those_of_the_book() -> None:
    pinned = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    wanted = (ROOT / "assignments" / "requirements.txt").read_text("utf-8").splitlines()
    for line in wanted:
        assert line in pinned or line.startswith("#")
    assert f"otter-grader=={build.OTTER_VERSION}" in pinned


@pytest.mark.parametrize("name", MASTERS)
def test_offline_folder_is_enough(
    variant, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")  # which conftest.py sets to the repository
    folder = variant(name).folder
    shutil.copytree(folder / "offline", tmp_path, dirs_exist_ok=True)
    notebook = nbformat.read(folder / "solution.ipynb", as_version=4)
    where = nbformat.v4.new_code_cell("print(unet_edu.__file__)")
    notebook.cells.append(where)
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert where.outputs[0].text.startswith(str(tmp_path))
    checks = [c for c in notebook.cells if c.source.startswith("grader.check(")]
    assert len(checks) == len(variant(name).tests)
    for cell in checks:
        assert "All test cases passed" in cell.outputs[0].data["text/plain"]


def test_build_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / "old").touch()

    def fail(*arguments: object) -> None:
        raise build.MasterError("stopped half-way")

    monkeypatch.setattr(build, "write_offline", fail)
    with pytest.raises(build.MasterError):
        build.build(MASTERS[0], 0, target, check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert [path.name for path in target.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["9-none"], "there are: 1-blocks"),
        (["--seed", "x"], "must be a whole number"),
        (["--seed", "-1"], "must be a whole number"),
        (["--seed", "1.5"], "must be a whole number"),
    ],
)
def test_bad_input_is_answered_at_the_door(
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "argv", ["build.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        build.main()
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def master(*cells: tuple[str, str, list[str]]) -> nbformat.NotebookNode:
    """Return a small master: a kind, a source and tags for each cell."""
    make = {
        "code": nbformat.v4.new_code_cell,
        "markdown": nbformat.v4.new_markdown_cell,
        "raw": nbformat.v4.new_raw_cell,
    }
    return nbformat.v4.new_notebook(
        cells=[make[kind](text, metadata={"tags": tags}) for kind, text, tags in cells]
    )


CHOICES = ("code", 'VARIANTS = {"SIZE": [3, 5], "WORD": ["a", "b"]}', ["variants"])


def test_what_the_build_computes() -> None:
    made, helpers = build.specialise(
        master(
            CHOICES,
            ("code", "half = SIZE__ // 2\nHALF__ = [half, SEED__]", ["computed"]),
            ("markdown", "{{HALF[0]}}, {{VISIBLE}} points", []),
            ("raw", "# BEGIN QUESTION\nname: q1\npoints: [0.5, 1, 0.25]", []),
            ("raw", "# BEGIN TESTS", []),
            ("code", "def test_a(x):\n    assert x == HALF__", []),
            ("code", "# HIDDEN\ndef test_b(x):\n    assert x", []),
            ("code", "def test_c(x):\n    pass", []),
            ("raw", "# END TESTS", []),
        ),
        1,
    )
    sources = [cell.source for cell in made.cells]
    assert sources[0] == "2, 0.75 points"
    assert "assert x == [2, 1]" in sources[3]
    assert "`x` has no answer yet." in sources[3]
    assert sources[4].startswith("# HIDDEN\ndef test_b(x):")
    assert "def say_where" in helpers


def test_choices_are_settled() -> None:
    folded = build.fold(
        "# HIDDEN\n"
        "def test(x):\n"
        "    if 'a' == 'b':\n"
        "        x = 1\n"
        "    want = 2 * 3 if 'a' != 'b' else x\n"
        "    for i in x:\n"
        "        if 1 == 2:\n"
        "            i = 1\n"
        "    return f'{2 + 2} of {x}'"
    )
    assert folded == (
        "# HIDDEN\n"
        "def test(x):\n"
        "    want = 6\n"
        "    for i in x:\n"
        "        pass\n"
        "    return f'4 of {x}'"
    )


def test_tokens_and_alternatives() -> None:
    made, helpers = build.specialise(
        master(
            CHOICES,
            ("code", "x = SIZE__ + len(WORD__) + SEED__  # 'SIZE__'", []),
            ("markdown", "{{SIZE}} and {{2 * SIZE}} {{WORD}}", []),
            ("markdown", "only a", ["only:WORD=a"]),
            ("markdown", "only b", ["only:WORD=b"]),
            ("code", "def helper():\n    return SIZE__", ["helpers"]),
        ),
        3,
    )
    sources = [cell.source for cell in made.cells]
    assert sources == ["x = 5 + len(\"b\") + 3  # '5'", "5 and 10 b", "only b"]
    assert helpers.endswith("def helper():\n    return 5")


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([("code", "x = 1", [])], "assigns VARIANTS"),
        ([("code", 'VARIANTS = {"A": [1]}', ["variants"])], "fewer than two"),
        ([CHOICES, ("code", "x = OTHER__", [])], "OTHER__ names no choice"),
        ([CHOICES, ("markdown", "x", ["only:OTHER=1"])], "names no choice"),
        (
            [CHOICES, ("raw", "# BEGIN TESTS", []), ("code", "x = 1", [])],
            "no points are left",
        ),
        (
            [
                CHOICES,
                ("raw", "# BEGIN QUESTION\nname: q1\npoints: [1]", []),
                ("raw", "# BEGIN TESTS", []),
                ("code", "x = 1", []),
            ],
            "must hold one function",
        ),
    ],
)
def test_masters_with_a_mistake(cells: list, says: str) -> None:
    with pytest.raises(build.MasterError, match=says):
        build.specialise(master(*cells), 0)


def test_a_stub_that_is_no_program_is_refused() -> None:
    made = master(("code", "x = f(\n    ...\n...", []))
    with pytest.raises(build.MasterError, match="only a part of a statement"):
        build.check_syntax(made)


def test_a_test_file_gets_the_helpers_it_uses() -> None:
    helpers = """
import os
import re
A = 1

def f():
    return g() + A

def g():
    return re
"""
    text = build.with_helpers("first\n\ndef test():\n    f()\n", helpers)
    assert text.startswith("first\nimport re\nA = 1\ndef f():")
    assert "import os" not in text
