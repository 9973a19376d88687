"""How pytest and nbval run the notebooks."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
# A class's notebooks are graded, not tested: some are broken on purpose.
collect_ignore_glob = ["tests/submissions/*"]
# The kernel of a notebook is a process of its own: it finds the package by this.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)


def pytest_collectstart(collector: pytest.Collector) -> None:
    if type(collector).__name__ == "IPyNbFile":
        # Text outputs are compared; pictures, and HTML whose text stands beside it,
        # are not.
        collector.skip_compare += ("stderr", "text/html", "image/png", "image/jpeg")


def pytest_configure(config: pytest.Config) -> None:
    # nbval runs cells without keeping a history, and IPython then prints the value of a
    # line that ends in a semicolon (nbval issue 194).
    from nbval.kernel import RunningKernel

    def execute_cell_input(self, cell_input, allow_stdin=None):
        if cell_input:
            return self.kc.execute(
                cell_input,
                allow_stdin=allow_stdin,
                stop_on_error=False,
                store_history=True,
            )
        return None

    RunningKernel.execute_cell_input = execute_cell_input


def missing_data(name: str) -> str | None:
    """Return why a data set cannot be had, or None if its files are here."""
    from unet_edu.data.download import DataNotFound, fetch, read_registry

    paths = [path for path in read_registry(name)[1] if not path.startswith("test/")]
    try:
        fetch(name, paths, progress=False)
    except DataNotFound as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def one_thread():
    """Tiny maps gain nothing from a second thread, and lose much on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def isbi2012_files() -> None:
    """Skip a test that needs ISBI 2012 where it cannot be had."""
    _skip_without("isbi2012")


@pytest.fixture(scope="session")
def wbc_files() -> None:
    """Skip a test that needs WBC where it cannot be had."""
    _skip_without("wbc")


@pytest.fixture(scope="session")
def chase_files() -> None:
    """Skip a test that needs CHASE_DB1 where it cannot be had."""
    _skip_without("chase_db1")


def _skip_without(name: str) -> None:
    reason = missing_data(name)
    if reason:
        pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, by name and with the reason, notebooks whose data cannot be had.

    A notebook says what it needs in its metadata: {"unet_edu": {"data": ["isbi2012"]}}.
    """
    reasons: dict[str, str | None] = {}
    for item in items:
        if item.path.suffix != ".ipynb":
            continue
        metadata = json.loads(item.path.read_text(encoding="utf-8"))["metadata"]
        for name in metadata.get("unet_edu", {}).get("data", []):
            if name not in reasons:
                reasons[name] = missing_data(name)
            if reasons[name]:
                item.add_marker(pytest.mark.skip(f"{item.path.name}: {reasons[name]}"))
