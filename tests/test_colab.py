"""In Colab, installing the package adds torchinfo and replaces nothing."""

import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def installed() -> dict[str, str]:
    """Return what Colab has: names and versions."""
    lines = (ROOT / "tests" / "colab.txt").read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def resolve(requirements: list[str], there: dict[str, str]) -> tuple[set, set]:
    """Return what pip would add, and what it would replace.

    A distribution that is there and new enough stays, as pip does it by default, and so
    does all that it asks for. One that is added brings what it asks for in turn.
    """
    added, replaced = set(), set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name not in there:
            if name not in added:
                waiting += map(Requirement, requires(name) or [])
            added.add(name)
        elif not requirement.specifier.contains(there[name], prereleases=True):
            replaced.add(name)
    return added, replaced


def test_nothing_changes_but_torchinfo() -> None:
    assert resolve(PROJECT["dependencies"], installed()) == ({"torchinfo"}, set())


def test_python_is_supported() -> None:
    assert SpecifierSet(PROJECT["requires-python"]).contains(installed()["python"])


@pytest.mark.parametrize(
    ("requirement", "added", "replaced"),
    [
        ("numpy>=2.4", set(), {"numpy"}),
        ("torch<2.11", set(), {"torch"}),
        ("Pillow>=11", set(), set()),
        ("scikit_image>=0.25", set(), set()),
        ("numpy>=3; python_version < '3'", set(), set()),
        ("torchinfo>=1.8", {"torchinfo"}, set()),
    ],
    ids=["too new", "too old", "case", "underscore", "other python", "added"],
)
def test_what_does_not_fit_is_found(requirement, added, replaced) -> None:
    assert resolve([requirement], installed()) == (added, replaced)


def test_what_an_addition_asks_for_is_found_too() -> None:
    # Why the assignments install Otter without what it asks for.
    added, replaced = resolve(["otter-grader"], installed())
    assert "otter-grader" in added
    assert "ipywidgets" in replaced
