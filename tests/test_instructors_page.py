"""What the page for instructors says about the assignments is what the masters say."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent


def in_masters() -> dict[tuple[str, str], float]:
    """Return the points of each question of each master."""
    found = {}
    for path in sorted((ROOT / "assignments").glob("[0-9]*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "raw" and "BEGIN QUESTION" in cell.source:
                name = re.search(r"name: q(\d+)", cell.source)[1]
                points = ast.literal_eval(re.search(r"points: (.+)", cell.source)[1])
                total = sum(points) if isinstance(points, list) else points
                found[path.name[0], name] = total
    return found


def test_the_map_has_the_points_of_the_masters() -> None:
    page = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\d)[^|]*\| (\d+) [^|]*\|[^|]*\| ([\d.]+|–) \|", page, flags=re.MULTILINE
    )
    on_page = {(n, q): 0 if points == "–" else float(points) for n, q, points in rows}
    assert on_page == in_masters()


def test_no_assignment_takes_more_than_three_hours() -> None:
    page = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
    totals: dict[str, int] = defaultdict(int)
    for number, minutes in re.findall(
        r"^\| (\d)[^|]*\| \d+ [^|]*\|[^|]*\| [\d.]+ \| (\d+) \|",
        page,
        flags=re.MULTILINE,
    ):
        totals[number] += int(minutes)
    assert sorted(totals) == ["1", "2", "3", "4"]
    assert all(120 <= minutes <= 180 for minutes in totals.values()), dict(totals)


def test_every_assignment_has_twenty_points() -> None:
    totals: dict[str, float] = defaultdict(float)
    for (assignment, _), points in in_masters().items():
        totals[assignment] += points
    assert dict(totals) == {"1": 20, "2": 20, "3": 20, "4": 20}
