"""Grade a folder of notebooks: what ``make grade`` runs.

Each submission is graded in containers by Otter Grade where Docker is at hand, and
otherwise in a process of its own with limits. Results are kept as they come, so that a
run that was interrupted goes on where it stopped.
"""

import argparse
import ast
import concurrent.futures
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import build
import nbformat
import psutil
import report
from nbformat import NotebookNode
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
MARK = "UNET_EDU_GRADING"  # in the environment of every process that grading starts
MIB = 2**20
ATTEMPTS = 8
CHECK = re.compile(r"""^grader\.check\(\s*["'](\w+)["']\s*\)[ ;]*$""", re.MULTILINE)
TAKEN_OUT = 'raise RuntimeError("This cell was taken out: it ended the whole process.")'
WARNING = """\
Docker is not at hand: each notebook runs as a process of your own account, with limits
on time, memory and file size. That stops accidents. It is no sandbox: code written to
do harm can read and delete your files. Grade strangers' notebooks in containers.
"""


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    seconds: int = 120  # of computing, for the notebook as a whole
    cell: int = 40  # of computing, for a cell
    test: int = 15  # of computing, for a test
    patience: int = 4  # how many times as long each may take on the clock
    memory: int = 4096 * MIB
    file: int = 64 * MIB
    output: int = MIB  # characters a cell or a test may print


@dataclass
class Result:
    """What one student gets, and why."""

    student: str
    file: str
    key: str
    status: str = "graded"
    note: str = ""
    questions: dict[str, dict] = field(default_factory=dict)
    cells: list[dict] = field(default_factory=list)  # those that stopped
    seconds: float = 0.0

    @property
    def total(self) -> float:
        return sum(question["score"] for question in self.questions.values())

    @property
    def possible(self) -> float:
        return sum(question["possible"] for question in self.questions.values())

    def kinds(self) -> list[str]:
        """Return the kinds of errors, for the page about the class."""
        kinds = [] if self.status == "graded" else [self.status]
        kinds += [f"{cell['error']} in a cell" for cell in self.cells]
        for question in self.questions.values():
            for test in question["tests"]:
                if not test["passed"]:
                    kinds.append(f"{test['message'].split(':')[0]} in a test")
        return kinds


# Before grading: who handed in what.


def find_submissions(folder: Path) -> dict[str, Path]:
    """Return the notebook of each student.

    A notebook that lies in the folder itself is called by its file name, one in a
    sub-folder by the sub-folder's; where that is not enough to tell two apart, by both.
    """
    paths = sorted(
        path
        for path in folder.rglob("*.ipynb")
        if path.is_file()
        and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    short = {}
    for path in paths:
        inside = path.relative_to(folder)
        short[path] = inside.stem if len(inside.parts) == 1 else inside.parts[0]
    twice = {name for name, count in Counter(short.values()).items() if count > 1}
    return {
        path.relative_to(folder).with_suffix("").as_posix().replace("/", " ")
        if short[path] in twice
        else short[path]: path
        for path in paths
    }


def declared(paths: list[Path]) -> tuple[str, int] | None:
    """Return assignment and seed that most of the notebooks say they belong to."""
    found: Counter = Counter()
    for path in paths:
        if path.stat().st_size < 20 * MIB:
            with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
                says = json.loads(path.read_bytes())["metadata"]["unet_edu"]
                found[str(says["assignment"]), int(says["seed"])] += 1
    return found.most_common(1)[0][0] if found else None


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def questions_of(archive: Path) -> dict[str, float]:
    """Return the points of each question, read from an archive without running it."""
    points = {}
    with zipfile.ZipFile(archive) as files:
        for entry in sorted(files.namelist()):
            if entry.startswith("tests/") and entry.endswith(".py"):
                for node in ast.parse(files.read(entry)).body:
                    if isinstance(node, ast.Assign) and node.targets[0].id == "points":
                        points[Path(entry).stem] = sum(ast.literal_eval(node.value))
    return points


# Inside the process that grades one submission.


def prepare(
    path: Path, diary: Path, limits: Limits, out: set[int], skip: list[str]
) -> NotebookNode:
    """Return a submission ready to be run: no outputs, with the guard, checks marked.

    ``out`` are the numbers of code cells to take out, ``skip`` the tests to fail.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    cells, sources = [], []
    for number, source in enumerate(code):
        if number in out:
            source = TAKEN_OUT
        checks = CHECK.findall(source)
        # The checks are run by Otter's own hand, whatever has become of `grader`.
        source = CHECK.sub("", source)
        cell = nbformat.v4.new_code_cell(source)
        if checks:
            cell.metadata["otter"] = {"tests": checks}
        cells.append(cell)
        sources.append(hashlib.sha256(source.encode()).hexdigest())
    settings = {**asdict(limits), "cells": sources, "diary": str(diary), "skip": skip}
    text = (HERE / "guard.py").read_text(encoding="utf-8")
    guard = (
        "(lambda scope: (exec(" + repr(text) + ", scope), "
        f"scope['install']({settings!r})))({{'__name__': 'guard'}})"
    )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(guard), *cells],
        metadata={
            "kernelspec": kernel,
            "unet_edu": notebook.metadata.get("unet_edu", {}),
        },
    )


def outcome(results: object) -> dict[str, dict]:
    """Return Otter's results as plain data."""
    return {
        name: {
            "score": test.score,
            "possible": test.possible,
            "tests": [
                {
                    "name": r.test_case.name,
                    "points": r.test_case.points,
                    "hidden": r.test_case.hidden,
                    "passed": r.passed,
                    "message": r.message,
                }
                for r in test.test_case_results
            ],
        }
        for name, test in results.results.items()
    }


def work(job_file: Path) -> None:
    """Grade one submission; the process that does only this ends here."""
    job = json.loads(job_file.read_text("utf-8"))
    limits = Limits(**job["limits"])
    # Die with the process that started this one, and never take the machine down.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory + 2048 * MIB,) * 2)
    scratch = job_file.parent
    try:
        notebook = prepare(
            Path(job["file"]),
            scratch / "diary",
            limits,
            set(job["out"]),
            job["skip"],
        )
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        write_atomically(scratch / "outcome.json", json.dumps({"unreadable": reason}))
        return
    nbformat.write(notebook, scratch / "submission.ipynb")
    from otter.run import main as otter_run

    results = otter_run(
        str(scratch / "submission.ipynb"),
        autograder=job["archive"],
        output_dir=None,
        no_logo=True,
    )
    if results.catastrophic_error is None:
        says = notebook.metadata["unet_edu"]
        text = json.dumps({"questions": outcome(results), "says": says})
        write_atomically(scratch / "outcome.json", text)


# Around it.


def write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def environment(scratch: Path, mark: str, cache: Path) -> dict[str, str]:
    """Return the environment of a submission: none of the instructor's secrets."""
    kept = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "UNET_EDU_DATA")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        MARK: mark,
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "jupyter"),
        "MPLCONFIGDIR": str(cache),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def computed(pid: int) -> float:
    """Return the seconds that a process and those below it have computed."""
    seconds = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = each.cpu_times()
                seconds += times.user + times.system
    return seconds


def stopped_cells(diary: list[dict]) -> list[dict]:
    """Return the cells that ended with an error, as the diary has them."""
    return [
        {name: entry[name] for name in ("cell", "error", "text")}
        for entry in diary
        if entry.get("error")
    ]


def read_lines(path: Path) -> list[dict]:
    """Return the JSON objects in a file, one a line; what is no JSON is left out."""
    entries = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def unfinished(diary: list[dict]) -> dict | None:
    """Return what was begun last, if it never ended."""
    return diary[-1] if diary and diary[-1]["event"] == "begin" else None


def end_marked(mark: str) -> None:
    """End every process whose mark begins like this."""
    for _ in range(5):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK, "").startswith(mark):
                    process.kill()
                    found.append(process)
        psutil.wait_procs(found, timeout=5)
        if not found:
            return


class Grader:
    """Grades the submissions of one class for one assignment."""

    def __init__(
        self,
        variant: tuple[str, int],
        archive: Path,
        target: Path,
        limits: Limits,
        image: str | None = None,
    ) -> None:
        self.variant = variant  # assignment and seed
        self.archive, self.target, self.limits = archive, target, limits
        self.image = image  # the container image, or None for processes
        self.points = questions_of(archive)
        code = [digest(HERE / name) for name in ("grade.py", "guard.py")]
        self.stamp = f"{digest(archive)} {code} {limits} {image}"
        self.stopping = threading.Event()
        (target / "results").mkdir(parents=True, exist_ok=True)

    def key(self, path: Path) -> str:
        return hashlib.sha256((digest(path) + self.stamp).encode()).hexdigest()

    def place(self, student: str) -> Path:
        return self.target / "results" / f"{report.file_name(student)}.json"

    def known(self, student: str, path: Path) -> Result | None:
        """Return the result of an earlier run, if nothing has changed since."""
        try:
            result = Result(**json.loads(self.place(student).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return result if result.key == self.key(path) else None

    def grade(self, student: str, path: Path) -> Result | None:
        """Grade one submission and keep the result; None if the run is stopping."""
        started = time.perf_counter()
        result = Result(student, path.name, self.key(path))
        try:
            (self.in_container if self.image else self.in_process)(path, result)
        except Exception as error:  # whatever it is, the others are graded
            result.status = "failed"
            result.note = f"The grader failed: {type(error).__name__}: {error}"
        if self.stopping.is_set():
            return None
        result.questions = {
            question: result.questions.get(
                question, {"score": 0, "possible": possible, "tests": []}
            )
            for question, possible in self.points.items()
        }
        result.seconds = round(time.perf_counter() - started, 1)
        write_atomically(self.place(student), json.dumps(asdict(result), indent=1))
        return result

    def in_process(self, path: Path, result: Result) -> None:
        """Run a submission until it comes to its end, leaving out what ends it."""
        out: set[int] = set()
        skip: list[str] = []
        for _ in range(ATTEMPTS):
            with tempfile.TemporaryDirectory(
                prefix="grading-", ignore_cleanup_errors=True
            ) as scratch:
                said, diary, ending = self.run_once(path, Path(scratch), out, skip)
            if self.stopping.is_set():
                return
            result.cells = stopped_cells(diary)
            if "unreadable" in said:
                result.status = "unreadable"
                result.note = f"The file is no notebook: {said['unreadable']}"
                return
            if "questions" in said:
                result.questions = said["questions"]
                result.note = self.other_variant(said["says"])
                if out or skip:
                    result.status = "repaired"
                    parts = [f"cell {n + 1}" for n in sorted(out)]
                    parts += [f"test {name}" for name in skip]
                    result.note += f"Ended the whole process: {', '.join(parts)}."
                return
            last = unfinished(diary)
            if last is None or last.get("cell") in out or last.get("test") in skip:
                break
            if "test" in last:
                skip.append(last["test"])
            else:
                out.add(last["cell"])
        result.status = "failed"
        result.note = f"No result: {ending}."

    def run_once(
        self, path: Path, scratch: Path, out: set[int], skip: list[str]
    ) -> tuple[dict, list[dict], str]:
        """Run a submission in a process; return its outcome, its diary, its end."""
        mark = f"{self.target} {scratch.name}"
        job = {
            "file": str(path),
            "archive": str(self.archive),
            "limits": asdict(self.limits),
            "out": sorted(out),
            "skip": skip,
        }
        job_file = scratch / "job.json"
        job_file.write_text(json.dumps(job), encoding="utf-8")
        with (scratch / "said").open("wb") as said:
            process = subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).resolve()),
                    "--work",
                    str(job_file),
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=scratch,
                env=environment(scratch, mark, self.target / "cache"),
                start_new_session=True,
            )
            most = self.limits.seconds
            deadline = time.monotonic() + most * self.limits.patience
            ending = "its process ended early"
            while not self.stopping.is_set():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
                    break
                if time.monotonic() > deadline or computed(process.pid) > most:
                    ending = f"stopped after {most} s of computing, or long waiting"
                    break
            end_marked(mark)
            process.wait()
        told = read_lines(scratch / "outcome.json")
        return (told[0] if told else {}), read_lines(scratch / "diary"), ending

    def other_variant(self, says: dict) -> str:
        """Return what is to be noted if a notebook belongs to another variant."""
        assignment, seed = self.variant
        if not says or says == {"assignment": assignment, "seed": seed}:
            return ""
        return f"The notebook is {says.get('assignment')}, seed {says.get('seed')}. "

    def in_container(self, path: Path, result: Result) -> None:
        """Let Otter Grade run a submission in a container."""
        from otter.grade.containers import grade_submission

        with tempfile.TemporaryDirectory(prefix="grading-") as scratch:
            try:
                # The diary stays in the container, and with it what it could tell.
                notebook = prepare(path, Path("diary"), self.limits, set(), [])
            except Exception as error:
                result.status = "unreadable"
                result.note = f"The file is no notebook: {str(error)[:200]}"
                return
            ready = Path(scratch) / "submission.ipynb"
            nbformat.write(notebook, ready)
            results = grade_submission(
                submission_path=str(ready),
                image=self.image,
                timeout=self.limits.seconds * self.limits.patience,
                network=False,
            )
        if results.catastrophic_error is None:
            result.questions = outcome(results)
            result.note = self.other_variant(notebook.metadata["unet_edu"])
        else:
            result.status = "failed"
            result.note = f"No result: {str(results.catastrophic_error)[:200]}"

    def run(self, submissions: dict[str, Path], workers: int) -> list[Result]:
        """Grade what has no result yet, several at once; return all results."""
        end_marked(f"{self.target} ")  # of a run that was killed
        results = {name: self.known(name, path) for name, path in submissions.items()}
        todo = [name for name, result in results.items() if result is None]
        finished = len(results) - len(todo)
        if finished:
            print(f"{finished} of {len(results)} are graded already.")
        pool = concurrent.futures.ThreadPoolExecutor(workers)
        waiting = {pool.submit(self.grade, n, submissions[n]): n for n in todo}
        try:
            with tqdm(total=len(results), initial=finished, unit="notebook") as bar:
                for done in concurrent.futures.as_completed(waiting):
                    results[waiting[done]] = done.result()
                    bar.update()
        finally:
            self.stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)
        return list(results.values())


def container_image(archive: Path, assignment: str) -> str | None:
    """Build the image that Otter Grade needs, or return None without Docker."""
    if shutil.which("docker") is None:
        return None
    asked = subprocess.run(["docker", "info"], capture_output=True, timeout=60)
    if asked.returncode:
        return None
    from otter.grade.containers import AutograderConfig, build_image

    print("Building the image in which notebooks are graded.", flush=True)
    return build_image(str(archive), "ubuntu:22.04", assignment, AutograderConfig())


@contextlib.contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold the folder of results, so that no second run writes into it."""
    with (target / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"Another run is grading into {target}. Wait for it, or end it.")
        yield


def at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on is needed, got {text!r}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make grade", description=__doc__)
    parser.add_argument("submissions", type=Path, help="a folder of notebooks")
    parser.add_argument("--assignment", choices=build.names(), help="default: theirs")
    parser.add_argument("--seed", type=build.seed_number, help="default: theirs")
    parser.add_argument("--workers", type=at_least_one, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="default: SUBMISSIONS-graded")
    parser.add_argument(
        "--no-containers", action="store_true", help="use processes in any case"
    )
    options = parser.parse_args()
    folder = options.submissions.resolve()
    if not folder.is_dir():
        parser.error(f"{options.submissions} is no folder")
    submissions = find_submissions(folder)
    if not submissions:
        parser.error(f"there is no .ipynb file in {options.submissions}")
    says = declared(list(submissions.values()))
    if options.assignment is None and (says is None or says[0] not in build.names()):
        parser.error("the notebooks do not say which assignment they are: name it")
    assignment = options.assignment or says[0]
    seed = options.seed
    if seed is None:
        seed = says[1] if says and says[0] == assignment else build.DEFAULT_SEED
    target = (options.out or folder.with_name(f"{folder.name}-graded")).resolve()
    target.mkdir(parents=True, exist_ok=True)

    with alone(target):
        started = time.perf_counter()
        print(
            f"{len(submissions)} submissions of {assignment}, seed {seed}", flush=True
        )
        made = build.build(assignment, seed, target / ".autograder", check=False)
        archive = made / "autograder.zip"
        image = None
        if not options.no_containers:
            image = container_image(archive, assignment)
        if image is None:
            print(WARNING, file=sys.stderr, flush=True)
        grader = Grader((assignment, seed), archive, target, Limits(), image)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            results = grader.run(submissions, options.workers)
        except KeyboardInterrupt:
            kept = len(list((target / "results").glob("*.json")))
            sys.exit(f"\nInterrupted. {kept} results are kept; run it again to go on.")
        report.write(target, results, grader.points, f"{assignment}, seed {seed}")
        print(f"{len(results)} graded in {time.perf_counter() - started:.0f} s.")
        print(f"{target / 'results.csv'}\n{target / 'class.html'}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]))
    else:
        main()
