"""What holds for the repository as a whole."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_importing_the_package_loads_torch_and_little_else() -> None:
    code = (
        "import sys, torch; before = set(sys.modules)\n"
        "import unet_edu\n"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["unet_edu"]


def test_the_package_asks_for_lower_bounds_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        assert ">=" in requirement, requirement
        assert not {"<", "==", "~"} & set(requirement.replace(">=", "")), requirement


def test_requirements_are_exact() -> None:
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert line.count("==") == 1, line


def test_the_pictures_show_the_network(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "draw_pictures", ROOT / "book" / "draw_pictures.py"
    )
    draw_pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw_pictures)
    for drawn in draw_pictures.draw(tmp_path):
        committed = draw_pictures.FOLDER / drawn.name
        assert drawn.read_bytes() == committed.read_bytes(), drawn.name


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {
            "GITHUB_REPOSITORY": "example-org/example-fork",
            "UNET_EDU_SITE": "https://example-org.github.io/example-fork/",
        },
    ],
    ids=["local", "fork"],
)
def test_addresses_come_from_the_environment(environment, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    address = importlib.import_module("address")
    for name in ("GITHUB_REPOSITORY", "UNET_EDU_SITE", "GITHUB_REF_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    class Config:
        html_theme_options: dict = {}  # noqa: RUF012
        html_baseurl = ""

    config = Config()
    config.html_theme_options = {}
    address.point(None, config)
    url = config.html_theme_options.get("repository_url", "")
    assert url.endswith(environment.get("GITHUB_REPOSITORY", ""))
    assert bool(url) == bool(environment)
    assert config.html_baseurl == environment.get("UNET_EDU_SITE", "")
