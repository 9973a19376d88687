"""The workflows of GitHub, as far as they can be tried elsewhere.

GitHub alone can run them. Here they are parsed; what they call must exist; and the two
scripts that change something (the branch ``notebooks``, the weekly issue) are run
against a repository and a ``gh`` of our own.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))
# What may write, and what.
WRITES = {
    ("publish", "notebooks"): {"contents"},
    ("publish", "pages"): {"pages", "id-token"},
    ("release", "release"): {"contents"},
    ("weekly", "issue"): {"issues"},
}


def read(name: str) -> dict:
    return yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))


def steps(name: str) -> list[dict]:
    return [step for job in read(name)["jobs"].values() for step in job["steps"]]


def scripts(name: str) -> list[str]:
    """Return what a workflow runs, with the entries of its matrices."""
    found = [step["run"] for step in steps(name) if "run" in step]
    for job in read(name)["jobs"].values():
        entries = job.get("strategy", {}).get("matrix", {}).get("include", [])
        found += [entry["run"] for entry in entries]
    return [script for script in found if script != "${{ matrix.run }}"]


def test_there_are_few() -> None:
    assert NAMES == ["publish", "release", "test", "weekly"]


@pytest.mark.parametrize("name", NAMES)
class TestWorkflow:
    def test_nothing_may_write_but_what_must(self, name: str) -> None:
        workflow = read(name)
        assert workflow["permissions"] == {"contents": "read"}
        for job, content in workflow["jobs"].items():
            asked = content.get("permissions", {})
            writes = {what for what, how in asked.items() if how == "write"}
            assert writes == WRITES.get((name, job), set()), job

    def test_what_it_uses_is_githubs_own_at_a_major_version(self, name: str) -> None:
        for step in steps(name):
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]), step

    def test_every_job_ends(self, name: str) -> None:
        for job in read(name)["jobs"].values():
            assert job["timeout-minutes"] <= 90

    def test_needs_no_secret(self, name: str) -> None:
        assert "secrets." not in (FOLDER / f"{name}.yml").read_text(encoding="utf-8")

    def test_begins_with_a_comment_that_says_why(self, name: str) -> None:
        assert (FOLDER / f"{name}.yml").read_text(encoding="utf-8").startswith("# ")

    def test_scripts_are_bash(self, name: str) -> None:
        for script in scripts(name):
            assert "${{" not in script  # what GitHub fills in is passed as a variable
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)

    def test_what_it_calls_exists(self, name: str) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"^\.PHONY: (.+)", makefile, flags=re.MULTILINE))
        targets = {".venv/.ready"}.union(*(line.split() for line in targets))
        for script in scripts(name):
            for target in re.findall(r"\bmake ([\w./-]+)", script):
                assert target in targets, target
            for path in re.findall(r"(?:book|tests)/\w+\.py|\.ci/\w+", script):
                assert (ROOT / path).is_file(), path

    def test_a_step_names_an_output_that_another_gives(self, name: str) -> None:
        text = (FOLDER / f"{name}.yml").read_text(encoding="utf-8")
        given = {step.get("id") for step in steps(name)}
        assert set(re.findall(r"steps\.(\w+)\.", text)) <= given


def test_the_data_that_are_checked_are_all() -> None:
    (script,) = (run for run in scripts("weekly") if "unet-edu data" in run)
    checked = re.search(r"for name in ([\w ]+);", script).group(1).split()
    registry = ROOT / "unet_edu" / "data" / "registry"
    assert sorted(checked) == sorted(path.stem for path in registry.glob("*.tsv"))


def test_a_release_holds_no_solution() -> None:
    (script,) = (run for run in scripts("release") if "make assignments" in run)
    assert "student.ipynb" in script
    assert "solution" not in script.replace("no solution", "")
    assert "autograder" not in script


def git(*arguments: str | Path, cwd: Path) -> str:
    run = subprocess.run(
        ["git", *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_branch_of_notebooks_is_replaced(tmp_path: Path) -> None:
    (script,) = (run for run in scripts("publish") if "git push" in run)
    origin, work = tmp_path / "origin", tmp_path / "work"
    git("init", "--bare", "--initial-branch=main", origin, cwd=tmp_path)
    git("clone", origin, work, cwd=tmp_path)
    (work / "source.txt").write_text("stays on main")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    git("add", ".", cwd=work)
    git(*who, "commit", "-m", "first", cwd=work)
    git("push", "origin", "HEAD:main", cwd=work)
    made = tmp_path / "notebooks" / "book"
    made.mkdir(parents=True)
    for number in (1, 2):
        (made / "a.ipynb").write_text(f"notebook {number}")
        if number == 2:
            (made / "b.ipynb").write_text("new")
        fresh = tmp_path / f"fresh{number}"
        git("clone", "--depth=1", f"file://{origin}", fresh, cwd=tmp_path)
        environment = {"RUNNER_TEMP": str(tmp_path), "GITHUB_SHA": f"sha{number}"}
        subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=fresh,
            env=os.environ | environment,
            check=True,
        )
    files = git("ls-tree", "-r", "--name-only", "notebooks", cwd=origin).split()
    assert files == ["book/a.ipynb", "book/b.ipynb"]
    assert git("show", "notebooks:book/a.ipynb", cwd=origin) == "notebook 2"
    assert git("log", "--format=%s", "notebooks", cwd=origin) == "Notebooks of sha2\n"
    assert git("ls-tree", "--name-only", "main", cwd=origin) == "source.txt\n"


GH = """#!/bin/sh
echo "$@" >> "$LOG"
case "$1 $2" in
  "issue list") echo "$OPEN" ;;
  "run view") echo "links, torch" ;;
esac
"""


@pytest.mark.parametrize(
    ("result", "there", "does"),
    [
        ("success", "", None),
        ("success", "7", "issue close 7 --comment All checks pass again: RUN"),
        ("failure", "", "issue create --label weekly --title A weekly check fails"),
        ("failure", "7", "issue comment 7 --body These weekly checks failed: links"),
    ],
    ids=["well", "well again", "ill", "still ill"],
)
def test_one_issue_is_opened_and_closed(result, there, does, tmp_path: Path) -> None:
    (script,) = (run for run in scripts("weekly") if "gh issue" in run)
    gh, log = tmp_path / "gh", tmp_path / "log"
    gh.write_text(GH)
    gh.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        **{"RESULT": result, "OPEN": there, "LOG": str(log), "RUN": "RUN"},
        "GITHUB_RUN_ID": "1",
    }
    command = ["bash", "-eo", "pipefail", "-c", script]
    subprocess.run(command, env=os.environ | environment, check=True)
    changes = [
        line
        for line in log.read_text().splitlines()
        if re.match(r"issue (create|close|comment)", line)
    ]
    assert len(changes) == (does is not None)
    assert not changes or changes[0].startswith(does)
