"""What stands on a page is what the package contains, and what a page must have."""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

BOOK = Path(__file__).parent.parent / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
FAMILY_FILES = (
    *("base", "skip", "backbone", "bottleneck"),
    *("transformer", "probabilistic", "representation"),
)
HOMES = (
    *("blocks", "unet", "fcn", "metrics", "losses", "training", "ledger", "inference"),
    "data.augment",
    *(f"families.{name}" for name in FAMILY_FILES),
)

EXERCISE = re.compile(
    r"^:::\{exercise\} (.+)\n:label: \S+\n:nonumber:\n\n"
    r"\*(\w+) · level [123] · \d+ minutes · objective (\d+) · ([\w ]+)\.\*",
    flags=re.MULTILINE,
)
TOPICS = (
    *("geometry", "counting", "architecture", "training", "data", "losses"),
    *("metrics", "comparison", "uncertainty", "attention"),
)


def cells_of(path: Path, kind: str) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


class Bare(ast.NodeTransformer):
    """Leave out docstrings, type hints, and checks of the input."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        node.body = [part for part in node.body if not self.aside(part)]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.body = [part for part in node.body if not self.aside(part)]
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    @staticmethod
    def aside(node: ast.stmt) -> bool:
        if isinstance(node, ast.Expr):
            value = node.value
            if isinstance(value, ast.Constant):
                return True  # a docstring
            if isinstance(value, ast.Call):
                function = value.func
                name = getattr(function, "attr", getattr(function, "id", ""))
                return name.startswith("check")
        only_raises = isinstance(node, ast.If) and not node.orelse
        return only_raises and all(isinstance(part, ast.Raise) for part in node.body)


def bare(code: str) -> ast.Module:
    return Bare().visit(ast.parse(code))


def in_package(name: str) -> list[object]:
    """Return what the package defines under a name; two families may share one."""
    modules = [importlib.import_module(f"unet_edu.{home}") for home in HOMES]
    found = [(getattr(module, name, None), module.__name__) for module in modules]
    own = [thing for thing, home in found if getattr(thing, "__module__", None) == home]
    assert own, f"the package defines no {name}"
    return own


def difference(page: ast.stmt) -> str | None:
    """Return what differs between a definition on a page and the package's."""
    candidates = [bare(inspect.getsource(own)).body[0] for own in in_package(page.name)]
    return min((differs(page, own) for own in candidates), key=bool)


def differs(page: ast.stmt, own: ast.stmt) -> str | None:
    if isinstance(page, ast.FunctionDef):
        return None if ast.dump(page) == ast.dump(own) else page.name
    methods = {
        part.name: part for part in own.body if isinstance(part, ast.FunctionDef)
    }
    fields = [ast.dump(part) for part in own.body if not hasattr(part, "name")]
    for part in page.body:
        if not hasattr(part, "name"):
            if ast.dump(part) not in fields:
                return f"{page.name}: {ast.unparse(part)} is not in the package"
        elif part.name not in methods:
            return f"{page.name}.{part.name} is not in the package"
        elif ast.dump(part) != ast.dump(methods[part.name]):
            return f"{page.name}.{part.name}"
    shown = {part.name for part in page.body if hasattr(part, "name")}
    needed = {"__init__", "forward", "logits"} & methods.keys()
    if not needed <= shown:
        return f"{page.name} lacks {' and '.join(sorted(needed - shown))} on the page"
    return None


DEFINITIONS = [
    pytest.param(node, id=f"{path.stem}-{node.name}")
    for path in NOTEBOOKS
    for cell in cells_of(path, "code")
    if "package" in tags(cell)
    for node in bare(source(cell)).body
]


@pytest.mark.parametrize("node", DEFINITIONS)
def test_definition_on_the_page_is_the_packages(node: ast.stmt) -> None:
    assert difference(node) is None


def test_every_block_is_derived_on_a_page() -> None:
    derived = {case.values[0].name for case in DEFINITIONS}
    assert derived >= {
        *("DoubleConv", "Down", "Up", "OutConv", "UNet", "align_maps"),
        *("ScoreFusion", "FCN", "bilinear_kernel", "bilinear_up"),
        *("confusion_matrix", "pixel_accuracy", "iou", "dice", "regions"),
        *("elastic_field", "warp", "cross_entropy", "soft_dice", "dice_loss"),
    }


@pytest.mark.parametrize(
    ("page", "differs"),
    [
        ("def iou(confusion):\n    return 1", "iou"),
        (
            "class OutConv(nn.Module):\n    def forward(self, x):\n        return x",
            "Out",
        ),
        (
            "class Up(nn.Module):\n    def extra(self):\n        pass",
            "not in the package",
        ),
    ],
    ids=["function", "method", "extra method"],
)
def test_a_difference_is_found(page: str, differs: str) -> None:
    assert differs in difference(bare(page).body[0])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_was_executed_from_top_to_bottom(self, path: Path) -> None:
        counts = [cell["execution_count"] for cell in cells_of(path, "code")]
        assert counts == list(range(1, len(counts) + 1))

    def test_has_no_error_and_no_warning_in_its_outputs(self, path: Path) -> None:
        for cell in cells_of(path, "code"):
            for output in cell["outputs"]:
                assert output["output_type"] != "error"
                assert output.get("name") != "stderr", "".join(output["text"])

    def test_names_no_path_of_a_machine(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(?:home|root|tmp|Users|work)/\w", text)

    def test_is_small(self, path: Path) -> None:
        assert path.stat().st_size < 1_000_000

    def test_every_figure_has_alt_text(self, path: Path) -> None:
        for cell in cells_of(path, "code"):
            kinds = {kind for out in cell["outputs"] for kind in out.get("data", {})}
            if kinds & {"image/png", "image/jpeg"}:
                image = cell["metadata"].get("mystnb", {}).get("image", {})
                assert len(image.get("alt", "")) > 40, source(cell)[:80]

    def test_has_the_shape_of_a_chapter(self, path: Path) -> None:
        text = "\n".join(source(cell) for cell in cells_of(path, "markdown"))
        for part in (
            *("**In this chapter**", "**Budget:**", "**Predict first.**"),
            *("## Summary", "## Check yourself", "## Exercises", "## References"),
        ):
            assert part in text, part

    def test_has_exercises_of_every_kind_for_its_objectives(self, path: Path) -> None:
        text = "\n".join(source(cell) for cell in cells_of(path, "markdown"))
        listed = text.split("**In this chapter** you will")[1].split("**You need**")[0]
        objectives = re.findall(r"^(\d+)\. ", listed, flags=re.MULTILINE)
        assert objectives == [str(i + 1) for i in range(len(objectives))]
        exercises = EXERCISE.findall(text)
        assert len(exercises) == text.count("{exercise}") >= 5
        kinds = [kind for _, kind, _, _ in exercises]
        assert {"Predict", "Experiment", "Open"} <= set(kinds)
        assert kinds.count("Compute") + kinds.count("Code") >= 2
        for title, _, objective, topic in exercises:
            assert objective in objectives, title
            assert topic in TOPICS, title

    def test_the_solutions_are_closed_in_a_notebook(self, path: Path) -> None:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cell = next(
            c for c in notebook["cells"] if source(c).startswith("## Solutions")
        )
        assert cell["metadata"]["jp-MarkdownHeadingCollapsed"]
        assert (
            cell["metadata"]["id"]
            in notebook["metadata"]["colab"]["collapsed_sections"]
        )

    def test_every_exercise_has_a_solution(self, path: Path) -> None:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = [source(cell) for cell in cells]
        text = "\n".join(sources)
        begin = next(i for i, s in enumerate(sources) if s.startswith("## Solutions"))
        end = next(i for i, s in enumerate(sources) if s.startswith("## References"))
        solved = [
            (title, sources[i].partition("\n")[2].strip())
            for i in range(begin, end)
            for title in re.findall(r"\A### (.*)", sources[i])
        ]
        assert [title for title, _ in solved] == [e[0] for e in EXERCISE.findall(text)]
        for title, words in solved:
            assert len(words) > 40, title
        assert any(cell["cell_type"] == "code" for cell in cells[begin:end])

    def test_a_quiz_explains_every_answer(self, path: Path) -> None:
        quiz = next(
            source(cell)
            for cell in cells_of(path, "markdown")
            if source(cell).startswith("## Check yourself")
        )
        questions = re.split(r"^\*\*\d\.\*\* ", quiz, flags=re.MULTILINE)[1:]
        assert len(questions) == 5
        for question in questions:
            answers = re.findall(
                r'^<details class="answer"><summary>.+</summary>\n\n'
                r"\*\*(Yes|No)\.\*\* .{20,}\n\n</details>$",
                question,
                flags=re.MULTILINE,
            )
            assert len(answers) == question.count("<details") >= 3
            assert answers.count("Yes") == 1

    def test_lines_of_code_fit_the_page(self, path: Path) -> None:
        for cell in cells_of(path, "code"):
            assert max(map(len, source(cell).splitlines())) <= 88

    def test_starts_with_the_same_set_up(self, path: Path) -> None:
        first = source(cells_of(path, "code")[0])
        assert first == source(cells_of(NOTEBOOKS[0], "code")[0])
        assert "import unet_edu" in first


def test_exercise_labels_are_unique() -> None:
    labels = [
        label
        for path in NOTEBOOKS
        for cell in cells_of(path, "markdown")
        for label in re.findall(r":label: (\S+)", source(cell))
    ]
    assert len(labels) == len(set(labels)) >= 5 * len(NOTEBOOKS)
    assert all(label.startswith("ex-") for label in labels)


def test_no_two_chapters_share_a_title_of_an_exercise() -> None:
    # The page of all exercises lists them by title.
    titles = [
        title
        for path in NOTEBOOKS
        for cell in cells_of(path, "markdown")
        for title, *_ in EXERCISE.findall(source(cell))
    ]
    assert len(titles) == len(set(titles))


def test_the_baselines_of_chapter_8_are_those_that_chapter_1_prints() -> None:
    first, eighth = (
        next(path for path in NOTEBOOKS if path.name.startswith(number))
        for number in ("01-", "08-")
    )
    code = "\n".join(source(cell) for cell in cells_of(eighth, "code"))
    quoted = ast.literal_eval(re.search(r"baselines = (\{.*?\})", code).group(1))
    assert len(quoted) == 3
    printed = "".join(
        "".join(output.get("text", ""))
        for cell in cells_of(first, "code")
        for output in cell["outputs"]
    )
    for name, value in quoted.items():
        assert f"accuracy {value:.3f}" in printed, name
