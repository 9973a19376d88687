"""A notebook works alone: in an empty folder, where only the package is installed.

Running all notebooks a second time takes about 15 minutes, so an ordinary run does
less. It runs the set-up cell, the same in all notebooks, in the situations that
it can meet; imports what the notebooks import; looks in their code for files that are
not their own; and runs two short notebooks wholly. With UNET_EDU_BARE=all in the
environment every notebook is run wholly: the weekly workflow does that.

**The environment** is a new venv. It holds links to the installed copies of what the
package asks for, of what that asks for in turn, of IPython's kernel, and of pip; then
the package, from a wheel. Nothing is downloaded. It is a fair stand-in for a fresh
installation, because nothing else of the environment that tests the book can be
imported in it: not MONAI, pandas or pytest, nor the repository (a test looks). It is no
stand-in for other versions: they are those of requirements.txt, not the newest, and not
Colab's.
"""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
SHORT = ("01-pixels-to-masks", "14-six-families")
# A notebook asks whether they exist, and does without.
OPTIONAL = ("_static/live/network.onnx", "_static/live/network.js")
DATA = {"isbi2012": "isbi2012_files", "wbc": "wbc_files", "chase_db1": "chase_files"}


def load_address():
    path = ROOT / "book" / "_ext" / "address.py"
    spec = importlib.util.spec_from_file_location("address", path)
    sys.modules["address"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


address = load_address()


@dataclass
class Bare:
    """A virtual environment, with a kernel for notebooks."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        return next((self.folder / "lib").glob("python*/site-packages"))

    def pip(self, *arguments: str | Path) -> str:
        command = [self.python, "-m", "pip", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout

    def versions(self) -> dict[str, str]:
        listed = json.loads(self.pip("list", "--format=json"))
        return {entry["name"]: entry["version"] for entry in listed}

    def link(self, names: set[str]) -> None:
        for name in names:
            for path in top_level(distribution(name)):
                link = self.site / path.name
                if not link.exists():
                    link.symlink_to(path)

    def execute(self, sources: list[str], folder: Path) -> str:
        """Run code cells in a folder; return what they print, warnings left out."""
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
        options = {"kernel_name": "bare", "timeout": 600}
        where = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, resources=where, **options).execute()
        outputs = [output for cell in notebook.cells for output in cell.outputs]
        printed = [out.text for out in outputs if out.get("name") == "stdout"]
        return "".join(printed)


def top_level(found: Distribution) -> set[Path]:
    """Return the files and folders of a distribution beside which others lie."""
    base = Path(found.locate_file(""))
    names = {file.parts[0] for file in found.files} - {"..", "__pycache__", "bin"}
    return {base / name for name in names}


def closure(requirements: list[str]) -> set[str]:
    """Return what is asked for, and all that it asks for in turn."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        extras = [{"extra": extra} for extra in asked.extras] or [{"extra": ""}]
        if asked.marker and not any(asked.marker.evaluate(extra) for extra in extras):
            continue
        if name not in found:
            found.add(name)
            waiting += map(Requirement, distribution(name).requires or [])
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package, in a copy: building leaves folders behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("unet_edu", "experiments", "results"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    target = tmp_path_factory.mktemp("wheels")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    command += ["--no-build-isolation", "--wheel-dir", target, source]
    subprocess.run(command, check=True)
    (built,) = target.glob("*.whl")
    return built


def wheel_again(name: str, folder: Path) -> None:
    """Make a wheel of an installed distribution that is pure Python."""
    found = distribution(name)
    path = folder / f"{found.metadata['Name']}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in found.files:
            if file.suffix != ".pyc" and file.parts[0] != "..":
                archive.write(file.locate(), file.as_posix())


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder; kernels find nothing of the repository by themselves."""
    for name in ("PYTHONPATH", "UNET_EDU_SOURCE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def make(folder: Path, leave_out: frozenset[str] = frozenset()) -> Iterator[Bare]:
    """Make an environment in which the package can be installed without a network."""
    venv.create(folder / "venv", symlinks=True)
    bare = Bare(folder / "venv")
    asked = distribution("unet_edu").requires
    bare.link(closure([*asked, "ipykernel", "pip"]) - leave_out)
    kernel = folder / "jupyter" / "kernels" / "bare" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    start = [str(bare.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(
        json.dumps({"argv": start, "display_name": "bare", "language": "python"})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.delenv("PIP_FIND_LINKS", raising=False)
        patch.delenv("PYTHONPATH", raising=False)
        yield bare


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """Return an environment that has only the package."""
    for made in make(tmp_path_factory.mktemp("bare")):
        made.pip("install", "--quiet", wheel)
        yield made


@pytest.fixture
def like_colab(tmp_path: Path) -> Iterator[Bare]:
    """Return an environment that lacks what Colab lacks."""
    yield from make(tmp_path, leave_out=frozenset({"torchinfo"}))


def code_of(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def parse(sources: list[str]) -> ast.Module:
    transform = TransformerManager().transform_cell  # so that %pip is Python
    return ast.parse("\n".join(map(transform, sources)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_set_up_is_the_same_everywhere(path: Path) -> None:
    assert code_of(path)[0] == address.SET_UP


def test_environment_has_only_the_package(bare: Bare, empty: Path) -> None:
    versions = bare.versions()
    assert "unet_edu" in versions
    assert not {"monai", "pandas", "pytest", "jupyter-book", "nbval"} & set(versions)
    code = "import sys, unet_edu\nprint(unet_edu.__file__, *sys.path, sep='\\n')"
    where = bare.execute([code], empty).splitlines()
    assert where[0].startswith(str(bare.site))
    assert str(ROOT) not in where
    assert not (ROOT / "unet_edu").samefile(Path(where[0]).parent)


def test_set_up_with_the_package_installs_nothing(bare: Bare, empty: Path) -> None:
    before = bare.versions()
    printed = bare.execute([address.SET_UP], empty)
    assert printed.count("\n") == 1
    assert printed.startswith(f"unet_edu {before['unet_edu']}, torch ")
    assert bare.versions() == before
    assert list(empty.iterdir()) == []


def test_set_up_that_knows_no_source_says_what_to_do(
    like_colab: Bare, empty: Path
) -> None:
    before = like_colab.versions()
    with pytest.raises(CellExecutionError) as error:
        like_colab.execute([address.SET_UP], empty)
    assert error.value.ename == "ModuleNotFoundError"
    assert error.value.evalue.startswith("unet_edu is not installed, and this copy")
    assert "Colab button" in error.value.evalue
    assert "\n" not in error.value.evalue
    assert "pip" not in error.value.evalue
    assert like_colab.versions() == before


def test_set_up_adds_what_is_missing_and_replaces_nothing(
    like_colab: Bare, wheel: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = like_colab.versions()
    wheel_again("torchinfo", wheel.parent)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("UNET_EDU_SOURCE", str(wheel))
    printed = like_colab.execute([address.SET_UP], empty)
    assert printed.splitlines()[-1].startswith("unet_edu ")
    after = like_colab.versions()
    assert set(after) - set(before) == {"unet_edu", "torchinfo"}
    assert {name: after[name] for name in before} == before


def test_set_up_stops_before_it_would_replace_something(
    like_colab: Bare, wheel: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An environment whose tqdm is older than the package allows.
    (metadata,) = like_colab.site.glob("tqdm-*.dist-info")
    old = like_colab.site / "tqdm-4.0.dist-info"
    shutil.copytree(metadata, old)
    metadata.unlink()
    text = (old / "METADATA").read_text("utf-8")
    version = distribution("tqdm").version
    (old / "METADATA").write_text(text.replace(f"Version: {version}", "Version: 4.0"))
    wheel_again("torchinfo", wheel.parent)
    wheel_again("tqdm", wheel.parent)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("UNET_EDU_SOURCE", str(wheel))
    before = like_colab.versions()
    assert before["tqdm"] == "4.0"
    with pytest.raises(CellExecutionError):
        like_colab.execute([address.SET_UP], empty)
    assert like_colab.versions() == before


def imports(path: Path) -> list[str]:
    """Return what a notebook imports in any case, not under a condition."""
    kinds = (ast.Import, ast.ImportFrom)
    body = parse(code_of(path)).body
    return [ast.unparse(node) for node in body if isinstance(node, kinds)]


def test_what_notebooks_import_is_installed(bare: Bare, empty: Path) -> None:
    wanted = sorted({line for path in NOTEBOOKS for line in imports(path)})
    assert len(wanted) > 50
    code = (
        "failed = []\n"
        f"for line in {wanted!r}:\n"
        "    try:\n"
        "        exec(line, {})\n"
        "    except ImportError as error:\n"
        "        failed.append(f'{line}: {error}')\n"
        "print(*failed, sep='\\n')"
    )
    assert bare.execute([code], empty).split() == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_names_no_file_that_is_not_its_own(path: Path) -> None:
    assert foreign(parse(code_of(path))) == []


def foreign(tree: ast.Module) -> list[str]:
    """Return the strings that name a folder of the repository or one above."""
    starts = ("../", "./", "book/", "results/", "experiments/", "tests/", "_static")
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = [v for v in values if isinstance(v, str) and v not in OPTIONAL]
    return [text for text in texts if text.strip().startswith(starts)]


@pytest.mark.parametrize("name", ["../results/fusion.json", "_static/unet.svg"])
def test_a_file_of_the_repository_is_found(name: str) -> None:
    assert foreign(parse([f"from pathlib import Path\nPath({name!r}).read_text()"]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_alone(
    path: Path, bare: Bare, empty: Path, request: pytest.FixtureRequest
) -> None:
    if path.stem not in SHORT and os.environ.get("UNET_EDU_BARE") != "all":
        pytest.skip("run wholly once a week: UNET_EDU_BARE=all")
    metadata = nbformat.read(path, as_version=4).metadata
    for name in metadata.get("unet_edu", {}).get("data", []):
        request.getfixturevalue(DATA[name])
    copy = empty / path.name
    shutil.copy(path, copy)
    before = bare.versions()
    bare.execute(code_of(copy), empty)
    assert bare.versions() == before
