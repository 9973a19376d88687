"""Solutions fold open below their exercises, and one page lists all exercises."""

import subprocess
import sys
from pathlib import Path

import pytest

EXTENSIONS = Path(__file__).parent.parent / "book" / "_ext"
CONF = f"""
import sys
sys.path.insert(0, {str(EXTENSIONS)!r})
extensions = ["myst_parser", "sphinx_exercise", "exercises"]
myst_enable_extensions = ["colon_fence"]
html_theme = "basic"
"""
INDEX = """# Book

```{toctree}
chapter
list
```
"""
LIST = """# All

```{exercise-index} chapter
```

```{exercise-index} level
```

```{exercise-index} objective
```
"""
CHAPTER = """# 1 · One

**In this chapter** you will

1. count to one,
2. say what `two` is.

## Exercises

:::{exercise} First
:label: ex-one-first
:nonumber:

*Code · level 2 · 20 minutes · objective 1 · geometry.* Do it.
:::

:::{exercise} Second
:label: ex-one-second
:nonumber:

*Open · level 3 · 40 minutes · objective 2 · data.* Say it.
:::

## Solutions

Try first.

### First

It is one.

### Second

It is two.

## References
"""


def build(folder: Path, chapter: str) -> subprocess.CompletedProcess:
    for name, text in {"index": INDEX, "list": LIST, "chapter": chapter}.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / "conf.py").write_text(CONF, encoding="utf-8")
    command = ["-m", "sphinx", "-q", "-W", str(folder), str(folder / "html")]
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False
    )


def test_solutions_fold_open_below_their_exercises(tmp_path: Path) -> None:
    done = build(tmp_path, CHAPTER)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "chapter.html").read_text(encoding="utf-8")
    order = [
        *("Do it.", "<summary>Solution</summary>", "It is one."),
        *("Say it.", "It is two.", "References"),
    ]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert page.count('<details class="solution"') == 2
    assert "Try first." not in page
    assert ">Solutions<" not in page


def test_the_list_leads_to_every_exercise(tmp_path: Path) -> None:
    build(tmp_path, CHAPTER)
    page = (tmp_path / "html" / "list.html").read_text(encoding="utf-8")
    assert "2 exercises, 1 hours" in page
    for label in ("first", "second"):
        assert page.count(f'href="chapter.html#ex-one-{label}"') == 3
    assert "Level 2: working it out" in page
    assert "Level 3: finding out" in page
    assert "<p>Say what two is</p>" in page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("### Second", "### Scond", "no exercise has the title “Scond”"),
        (" · objective 1", "", "the exercise “First” must begin with a line"),
        ("objective 2", "objective 3", "serves objective 3; the chapter names 2"),
    ],
    ids=["solution of nothing", "line without an objective", "unknown objective"],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    done = build(tmp_path, CHAPTER.replace(old, new))
    assert done.returncode != 0
    assert message in done.stderr
