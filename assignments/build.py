"""Build the assignments from their masters: what ``make assignments`` runs.

A master is a notebook in the format of Otter Assign. A seed turns it into one variant,
and a variant becomes a folder: the student's notebook, the solution, the archive for
Gradescope, and a folder to work without a network. README.md describes a master.
"""

import argparse
import ast
import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "book" / "_ext"))

import address  # noqa: E402

PACKAGE = HERE.parent / "unet_edu"
DIST = HERE / "dist"
SHARED = HERE / "shared.py"  # the functions that all tests use
DEFAULT_SEED = 0
OTTER_VERSION = "7.0.0"
OTTER = (
    *(f"otter-grader=={OTTER_VERSION}", "fica==0.4.1", "ipylab==1.1.0"),
    "python-frontmatter==1.3.0",
)
# A zip stores dates: all files get this one, so that equal contents are equal bytes.
DATE = (2026, 1, 1, 0, 0, 0)

# Otter asks for other versions of ipywidgets, wrapt and jupytext than Colab has. The
# checks need nothing that differs, so Colab keeps its own and gets what it lacks.
CHECKS = """\
# @title The checks: run this cell too. You need not read it.
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

if not find_spec("otter"):  # Colab
    %pip install -q --no-deps OTTER
    print("Whatever pip notes about restarting: you need not restart the kernel.")
import otter

CHECKS = {}
TESTS
folder = Path(mkdtemp())
for name, check in CHECKS.items():
    (folder / f"{name}.py").write_text(check, encoding="utf-8")
grader = otter.Notebook(tests_dir=str(folder))
"""
HAND_IN = """\
## Hand in

Choose *Restart and run all*, see that no cell stops, save, and hand in this notebook \
file. Nothing else is needed. The checks above are the smaller part of what is graded; \
the rest is graded with inputs that you have not seen."""

OFFLINE = """\
# {name}, without a network

`{name}.ipynb` is the assignment and `unet_edu` the package of the book. Keep the two
side by side. What must be installed beforehand, while there is a network:

    python -m pip install otter-grader=={otter} jupyterlab -r requirements.txt

Then `jupyter lab {name}.ipynb` opens the notebook, and nothing is downloaded again.
"""


class MasterError(ValueError):
    """What is wrong with a master, in words for its author."""


def names() -> list[str]:
    """Return the names of all assignments, in order."""
    return sorted(path.stem for path in HERE.glob("[0-9]*.ipynb"))


def variants(master: NotebookNode) -> dict[str, list]:
    """Return the choices that a master declares in its cell tagged ``variants``."""
    for cell in master.cells:
        if "variants" not in tags(cell):
            continue
        for node in ast.parse(cell.source).body:
            if defined(node) == {"VARIANTS"}:
                choices = ast.literal_eval(node.value)
                bad = [name for name, values in choices.items() if len(values) < 2]
                if bad:
                    raise MasterError(f"fewer than two values to choose from: {bad}")
                return choices
    raise MasterError("no code cell tagged `variants` assigns VARIANTS")


def choose(choices: dict[str, list], seed: int) -> dict[str, object]:
    """Return the value of each choice for a seed.

    Seeds that differ by one differ in every choice, so that an assignment built with
    the year as its seed has nothing in common with last year's.
    """
    return {name: values[seed % len(values)] for name, values in choices.items()}


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def specialise(master: NotebookNode, seed: int) -> tuple[NotebookNode, str]:
    """Return the variant of a master for a seed, still a master, and its helpers.

    The helpers are the code that the tests share: shared.py, and cells tagged
    ``helpers``.
    """
    values = choose(variants(master), seed) | {"SEED": seed}
    cells = [c for c in master.cells if wanted(c, values) and "variants" not in tags(c)]
    values["VISIBLE"] = visible_points(cells)
    notebook = nbformat.v4.new_notebook(metadata=master.metadata)
    helpers = [SHARED.read_text("utf-8").split('"""\n', 1)[1]]
    tests = False
    for cell in cells:
        if "computed" in tags(cell):
            values |= compute(cell.source, values)
            continue
        cell = nbformat.from_dict(cell)
        cell.metadata["tags"] = [t for t in tags(cell) if not t.startswith("only:")]
        if not cell.metadata["tags"]:
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cell.source = substitute(cell, values)
        if "helpers" in tags(cell):
            helpers.append(fold(cell.source))
            continue
        if cell.cell_type == "raw" and re.match(r"#\s*(BEGIN|END) TESTS", cell.source):
            tests = "BEGIN" in cell.source
        elif tests:
            cell.source = ask_for_names(fold(cell.source))
        notebook.cells.append(cell)
    return notebook, "\n".join(helpers)


def wanted(cell: NotebookNode, values: dict[str, object]) -> bool:
    """Tell whether a cell belongs to a variant: see its tags ``only:NAME=VALUE``."""
    for tag in tags(cell):
        if tag.startswith("only:"):
            name, _, value = tag.removeprefix("only:").partition("=")
            if name not in values:
                raise MasterError(f"the tag {tag!r} names no choice of VARIANTS")
            if str(values[name]) != value:
                return False
    return True


def visible_points(cells: list[NotebookNode]) -> str:
    """Return how many points the tests that students see are worth, as text."""
    total, points, tests = 0.0, iter(()), False
    for cell in cells:
        if cell.cell_type == "raw":
            if match := re.search(r"^points: (\[.+\])", cell.source, re.MULTILINE):
                points = iter(ast.literal_eval(match[1]))
            if re.match(r"#\s*(BEGIN|END) TESTS", cell.source):
                tests = "BEGIN" in cell.source
        elif tests:
            worth = next(points, None)
            if worth is None:
                raise MasterError(f"no points are left for this test:\n{cell.source}")
            total += 0 if is_hidden(cell.source) else worth
    return f"{total:g}"


def is_hidden(source: str) -> bool:
    return source.startswith("#") and "hidden" in source.splitlines()[0].lower()


def compute(source: str, values: dict[str, object]) -> dict[str, object]:
    """Run a cell tagged ``computed``; return what it calls ``NAME__``, as values.

    What the tests expect stands in them as a number, and the way to it nowhere.
    """
    scope = {f"{name}__": value for name, value in values.items()}
    known = set(scope)
    exec(source, scope)
    return {
        name.removesuffix("__"): value
        for name, value in scope.items()
        if re.fullmatch(r"[A-Z][A-Z0-9_]*__", name) and name not in known
    }


class Folding(ast.NodeTransformer):
    """Carries out what is decided once the choices of a variant are in place."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        sides = [node.left, *node.comparators]
        if len(sides) == 2 and all(isinstance(s, ast.Constant) for s in sides):
            if isinstance(node.ops[0], ast.Eq):
                return ast.Constant(sides[0].value == sides[1].value)
            if isinstance(node.ops[0], ast.NotEq):
                return ast.Constant(sides[0].value != sides[1].value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        whole = ast.Add | ast.Sub | ast.Mult | ast.Pow | ast.FloorDiv
        sides = [getattr(side, "value", None) for side in (node.left, node.right)]
        if isinstance(node.op, whole) and all(type(s) is int and s >= 0 for s in sides):
            return ast.parse(repr(eval(ast.unparse(node))), mode="eval").body
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        self.generic_visit(node)
        plain = node.conversion == -1 and node.format_spec is None
        if plain and isinstance(node.value, ast.Constant):
            return ast.Constant(str(node.value.value))
        return node


def fold(source: str) -> str:
    """Return code of the tests without questions whose answer the variant settles."""
    hidden = "# HIDDEN\n" if is_hidden(source) else ""
    tree = ast.fix_missing_locations(Folding().visit(ast.parse(source)))
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list) and not body:
            body.append(ast.Pass())
    return hidden + ast.unparse(tree)


def substitute(cell: NotebookNode, values: dict[str, object]) -> str:
    """Replace ``NAME__`` in code and ``{{expression}}`` in text by their values."""
    if cell.cell_type == "code":

        def literal(match: re.Match) -> str:
            if match[1] not in values:
                raise MasterError(f"{match[0]} names no choice of VARIANTS")
            value = values[match[1]]
            return json.dumps(value) if isinstance(value, str) else repr(value)

        return re.sub(r"\b([A-Z][A-Z0-9_]*?)__\b", literal, cell.source)
    return re.sub(
        r"\{\{(.+?)\}\}",
        lambda match: str(eval(match[1], {"__builtins__": {}}, dict(values))),
        cell.source,
    )


def ask_for_names(source: str) -> str:
    """Let a test ask first whether what it tests exists, and say where errors arose."""
    tree = ast.parse(source)
    test = tree.body[0]
    if len(tree.body) != 1 or not isinstance(test, ast.FunctionDef):
        raise MasterError(f"a test cell must hold one function:\n{source}")
    checks = []
    for name in [arg.arg for arg in test.args.args if arg.arg != "env"]:
        missing = (
            f"Your notebook has no `{name}`: run the cell that defines it; or it is "
            "called differently; or that cell stopped with an error."
        )
        checks.append(f"assert {name} is not None, {missing!r}")
        checks.append(f"assert {name} is not ..., '`{name}` has no answer yet.'")
    start = 1 if ast.get_docstring(test) else 0
    guarded = ast.parse(
        "try:\n    pass\nexcept Exception as e:\n    say_where(e)\n    raise"
    )
    guarded.body[0].body = test.body[start:]
    test.body[start:] = [*ast.parse("\n".join(checks)).body, *guarded.body]
    hidden = "# HIDDEN\n" if is_hidden(source) else ""
    return hidden + ast.unparse(ast.fix_missing_locations(tree))


def build(name: str, seed: int, target: Path, *, check: bool = True) -> Path:
    """Build one variant of one assignment into ``target`` and return that folder.

    The folder appears when it is whole; a build that is killed leaves the old one.
    With ``check``, Otter grades the solution first and an error is raised unless it
    earns full marks.
    """
    master = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as scratch:
        work, new = Path(scratch) / "work", Path(scratch) / "new"
        work.mkdir()
        new.mkdir()
        shutil.copy(HERE / "requirements.txt", work)
        variant, helpers = specialise(master, seed)
        nbformat.write(variant, work / f"{name}.ipynb")
        made = otter_assign(work / f"{name}.ipynb", work / "made")
        for test in made.glob("*/tests/*.py"):
            test.write_text(with_helpers(test.read_text("utf-8"), helpers), "utf-8")
        for kind, folder in (("student", "student"), ("solution", "autograder")):
            notebook = finish(made / folder, name, seed)
            (new / f"{kind}.ipynb").write_text(notebook, encoding="utf-8")
        write_archive(made / "autograder", new / "autograder.zip")
        write_offline(name, new)
        if check:
            check_solution(new)
        if target.exists():
            os.rename(target, Path(scratch) / "old")
        os.rename(new, target)
    return target


def otter_assign(master: Path, result: Path) -> Path:
    """Run Otter Assign quietly; on failure raise MasterError with what it said."""
    from otter.assign import main

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            main(str(master), str(result), no_pdfs=True, no_run_tests=True)
    except Exception as error:
        raise MasterError(f"Otter Assign: {error}\n{said.getvalue()}") from error
    return result


def with_helpers(test: str, helpers: str) -> str:
    """Put what a test file uses of the helpers at its top."""
    nodes = [n for n in ast.parse(helpers).body if not is_from_shared(n)]
    used = names_in(ast.parse(test))
    taken: set[int] = set()
    while True:
        more = {i for i, node in enumerate(nodes) if defined(node) & used} - taken
        if not more:
            break
        taken |= more
        used = used.union(*(names_in(nodes[i]) for i in more))
    kept = [ast.unparse(nodes[i]) for i in sorted(taken)]
    first, rest = test.split("\n", 1)
    return "\n".join([first, *kept, rest])


def is_from_shared(node: ast.stmt) -> bool:
    """Tell whether a line is there for whoever opens a master in Jupyter."""
    return isinstance(node, ast.ImportFrom) and node.module == SHARED.stem


def names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module defines."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {a.asname or a.name.split(".")[0] for a in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return set().union(*(names_in(target) for target in node.targets))
    raise MasterError(f"only imports, definitions, assignments: {ast.unparse(node)}")


def check_solution(folder: Path) -> None:
    """Grade the solution as a submission; raise MasterError without full marks."""
    from otter.run import capture_run_output
    from otter.run import main as otter_run

    with capture_run_output():
        results = otter_run(
            str(folder / "solution.ipynb"),
            autograder=str(folder / "autograder.zip"),
            output_dir=None,
            no_logo=True,
        )
    if results.catastrophic_error or results.total != results.possible:
        why = results.catastrophic_error or results.summary()
        raise MasterError(f"the solution does not earn full marks:\n{why}")


def finish(folder: Path, name: str, seed: int) -> str:
    """Return a notebook of Otter's with set-up and checks, as text.

    The public checks travel inside the notebook: in Colab a notebook is one file, with
    nothing beside it.
    """
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    check_syntax(notebook)
    tests = {path.stem: path.read_text("utf-8") for path in folder.glob("tests/*.py")}
    listed = "".join(
        f"CHECKS[{stem!r}] = {as_literal(tests[stem])}\n" for stem in sorted(tests)
    )
    set_up = nbformat.v4.new_code_cell(address.set_up(address.find()))
    code = CHECKS.replace("OTTER", " ".join(OTTER)).replace("TESTS\n", listed)
    checks = nbformat.v4.new_code_cell(code.strip())
    checks.metadata = {"cellView": "form", "jupyter": {"source_hidden": True}}
    notebook.cells[1:1] = [set_up, checks]
    notebook.cells.append(nbformat.v4.new_markdown_cell(HAND_IN))
    notebook.cells = [c for c in notebook.cells if c.source.strip()]
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02}"
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
        "unet_edu": {"assignment": name, "seed": seed},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook)


def check_syntax(notebook: NotebookNode) -> None:
    """Raise MasterError for a cell that is no program once solutions are taken out."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            try:
                ast.parse(cell.source)
            except SyntaxError as error:
                raise MasterError(
                    f"this cell is no Python ({error.msg}); perhaps `# SOLUTION` "
                    f"ends a line that is only a part of a statement:\n{cell.source}"
                ) from error


def as_literal(text: str) -> str:
    """Return Python source for a text of several lines that a person can read."""
    text = text.strip() + "\n"
    if "'''" in text or text.endswith("\\"):
        return repr(text)
    return "r'''" + text + "'''"


def write_archive(made: Path, target: Path) -> None:
    """Write Otter's archive again, with the package, sorted and without dates."""
    (archive_path,) = made.glob("*.zip")
    with zipfile.ZipFile(archive_path) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    for test in made.glob("tests/*.py"):
        files[f"tests/{test.name}"] = test.read_bytes()
    for path in package_files():
        inside = path.relative_to(PACKAGE.parent).as_posix()
        files[f"files/{inside}"] = path.read_bytes()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in sorted(files):
            info = zipfile.ZipInfo(entry, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            # Gradescope runs two of them as programs.
            runs = entry in ("run_autograder", "setup.sh")
            info.external_attr = (0o755 if runs else 0o644) << 16
            archive.writestr(info, files[entry])


def package_files() -> list[Path]:
    """Return the files of the package that a notebook needs."""
    found = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.tsv")]
    return sorted(found, key=lambda path: path.as_posix())


def write_offline(name: str, folder: Path) -> None:
    """Write the folder that a student without a network gets."""
    offline = folder / "offline"
    offline.mkdir()
    shutil.copyfile(folder / "student.ipynb", offline / f"{name}.ipynb")
    shutil.copyfile(HERE / "requirements.txt", offline / "requirements.txt")
    text = OFFLINE.format(name=name, otter=OTTER_VERSION)
    (offline / "README.md").write_text(text, encoding="utf-8")
    for path in package_files():
        copy = offline / path.relative_to(PACKAGE.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def seed_number(text: str) -> int:
    """Read a seed, or raise the error that argparse shows."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(
            f"the seed must be a whole number, 0 or more, got {text!r}"
        )
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make assignments", description=__doc__)
    parser.add_argument("--seed", type=seed_number, default=DEFAULT_SEED)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(
            f"no assignment {', '.join(unknown)}; there are: {' '.join(names())}"
        )
    for name in options.names or names():
        try:
            folder = build(name, options.seed, DIST / str(options.seed) / name)
        except MasterError as error:
            sys.exit(f"{name}: {error}")
        print(f"{folder.relative_to(HERE.parent)}", flush=True)


if __name__ == "__main__":
    main()
