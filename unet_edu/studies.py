"""Studies: one comparison, many runs, each kept as it ends, read by the chapters.

A study is a file under ``experiments/``. It names its question and its settings, lists
its runs, and does one run at a time; this module does what all of them need: run them,
several at once, go on where a killed study stopped, write the outcome in one piece, and
say how certain a difference is.
"""

import importlib.util
import json
import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from importlib import metadata
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import bootstrap
from tqdm import tqdm

from unet_edu.blocks import check_at_least, check_choice
from unet_edu.checkpoints import write_json

Key = dict[str, str | int | float]
VERSIONS = ("torch", "numpy", "scipy", "scikit-image", "accelerate")


def folder(name: str) -> Path:
    """Return where ``experiments`` or ``results`` lies.

    In the repository beside the package; where the package is installed, inside it.
    """
    package = Path(__file__).parent
    beside = package.parent / name
    in_repository = (package.parent / "_toc.yml").is_file()
    return beside if in_repository else package / name


def names() -> list[str]:
    """Return the names of all studies."""
    return sorted(path.stem for path in folder("experiments").glob("[!_]*.py"))


def load_study(name: str) -> ModuleType:
    """Return a study: a module with QUESTION, CONFIG, QUICK, stages and run.

    With ``ALONE = True`` it measures times: its runs follow one another, and it has a
    result for each device.

    Raises ValueError if there is none of that name.
    """
    check_choice("study", name, names())
    path = folder("experiments") / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_study(
    name: str,
    *,
    seeds: int = 5,
    device: str = "cpu",
    width: int | None = None,
    quick: bool = False,
    out: Path | str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> "Result":
    """Do all runs of a study that are not done yet, and return its result.

    Each run is kept as it ends, in a file beside ``out``; a study that was killed goes
    on from there. ``out`` itself appears only when the last run has ended. A finished
    study is not run again, but more seeds may be added to it. On another device a study
    may take other sizes; its result holds those it took.

    Args:
        name: one of :func:`names`.
        seeds: number of seeds; the runs use 0 to seeds - 1.
        device: ``"cpu"`` or ``"cuda"``.
        width: channels of the first level, instead of the study's own.
        quick: a few steps on little data, to see that everything runs. Its numbers
            mean nothing.
        out: file for the result; ``results/NAME.json`` if not given, or
            ``results/NAME-WIDTH.json`` with a width; of a study of times
            ``results/NAME_DEVICE.json``.
        workers: runs at the same time; one a core on a CPU and one on a GPU if not
            given.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for an unknown study or device, or a file that holds the study
            with other settings.

    Used in chapters 7, 9, 10 and 11.
    """
    check_at_least("seeds", seeds, 1)
    check_choice("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no CUDA device here; use device='cpu'.")
    study = load_study(name)
    config = study.CONFIG | getattr(study, "ON", {}).get(device, {})
    config |= study.QUICK if quick else {}
    if width is not None:
        check_at_least("width", width, 1)
        config["base_channels"] = width
    # A study of times is run alone, and its result belongs to one device.
    alone = getattr(study, "ALONE", False)
    stem = f"{name}_{device}" if alone else name
    default = f"{stem}.json" if width is None else f"{stem}-{width}.json"
    out = Path(out) if out else folder("results") / default
    cores = os.cpu_count() or 1
    workers = workers or (cores if device == "cpu" and not alone else 1)
    check_at_least("workers", workers, 1)

    partial = out.with_suffix(".partial.json")
    record = _kept(out, partial) or {
        "study": name,
        "question": study.QUESTION,
        "command": _command(name, seeds, device, width, quick),
        "config": config,
        "seeds": [],
        "device": _device_name(device),
        "runs": [],
    }
    for what, now in [("config", config), ("device", _device_name(device))]:
        if record[what] != now:
            raise ValueError(
                f"{out} or its partial file holds {name} with another {what}: "
                f"{_differences(record[what], now)}. Choose another file with out "
                "(--out), or delete it."
            )
    seeds = max(seeds, len(record["seeds"]))
    stages = study.stages(config, range(seeds))
    done = [run["key"] for run in record["runs"]]
    left = [[key for key in stage if key not in done] for stage in stages]
    if not any(left):
        return Result(record)
    record["seeds"] = list(range(seeds))
    record["command"] = _command(name, seeds, device, width, quick)
    record["versions"] = _versions()
    record["cores"] = cores
    hide = not progress
    with tqdm(total=sum(map(len, stages)), initial=len(done), disable=hide) as bar:
        bar.set_description(name)
        for stage in left:
            for run in _run_stage(name, stage, config, device, record, workers):
                record["runs"].append(run)
                write_json(partial, record)
                bar.update()
    # In the order of the plan, whichever run ended first.
    order = [key for stage in stages for key in stage]
    record["runs"].sort(key=lambda run: order.index(run["key"]))
    record["seconds"] = round(sum(run["seconds"] for run in record["runs"]), 1)
    record["date"] = date.today().isoformat()
    write_json(out, record)
    partial.unlink(missing_ok=True)
    return Result(record)


def _kept(out: Path, partial: Path) -> dict | None:
    for path in (partial, out):
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return None


def _command(name, seeds, device, width, quick) -> str:
    parts = ["unet-edu experiment", name, f"--seeds {seeds}", f"--device {device}"]
    parts += [f"--width {width}"] if width is not None else []
    return " ".join(parts + (["--quick"] if quick else []))


def _differences(old, new) -> str:
    if not isinstance(old, dict):
        return f"{old}, not {new}"
    differ = [k for k in old.keys() | new.keys() if old.get(k) != new.get(k)]
    return ", ".join(f"{k} {old.get(k)}, not {new.get(k)}" for k in sorted(differ))


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _versions() -> dict[str, str]:
    found = {name: metadata.version(name) for name in VERSIONS}
    return {"python": platform.python_version()} | found


def _run_stage(name, stage, config, device, record, workers):
    """Yield the runs of one stage as they end; later stages see earlier ones."""
    done = list(record["runs"])
    if workers == 1 or len(stage) <= 1:
        for key in stage:
            yield _run(name, key, config, device, done)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        min(workers, len(stage)), get_context("spawn"), _begin_worker, [threads]
    )
    try:
        jobs = [pool.submit(_run, name, key, config, device, done) for key in stage]
        for job in as_completed(jobs):
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker(threads: int) -> None:
    torch.set_num_threads(threads)

    def leave_with_parent() -> None:
        parent_process().join()
        os._exit(1)

    # A study that is killed must not leave workers behind that go on computing.
    Thread(target=leave_with_parent, daemon=True).start()


def _run(name: str, key: Key, config: dict, device: str, done: list[dict]) -> dict:
    start = time.perf_counter()
    values = load_study(name).run(key, config, device, done)
    seconds = round(time.perf_counter() - start, 2)
    return {"key": key, "values": _rounded(values), "seconds": seconds}


def _rounded(values):
    """Round to six digits, so that a file holds no noise; NaN becomes null."""
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_rounded(value) for value in values]
    if isinstance(values, float | np.floating):
        return None if np.isnan(values) else float(f"{values:.6g}")
    return int(values) if isinstance(values, np.integer) else values


class Interval(NamedTuple):
    """A mean over seeds with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        # Adding zero turns a rounded -0.0 into 0.0.
        mean, low, high = (f"{round(value, 3) + 0.0:.3f}" for value in self)
        return f"{mean} [{low}, {high}]"


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of some values and a 95 % percentile bootstrap interval.

    The values are drawn again with replacement, 10,000 times; the interval holds the
    middle 95 % of the means. With five values it is too narrow (chapter 7 measures by
    how much). NaN if a value is.

    Raises ValueError for fewer than two values.

    Source: Efron 1979. Derived in chapter 7.
    """
    values = np.asarray(values, dtype=float)
    check_at_least("the number of values", len(values), 2)
    mean = float(values.mean())
    if np.isnan(mean) or np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


class Spread(NamedTuple):
    """The middle of some repeated measurements, and the least and the most of them."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class Result:
    """A finished study, to be asked for values by what its runs were.

    ``where`` is a part of a run's key, such as ``arm="add", data="isbi2012"``.
    """

    def __init__(self, record: dict) -> None:
        self.record = record

    @classmethod
    def read(cls, name: str) -> "Result":
        """Return the result of a study as it lies in ``results/``.

        ``name`` is ``"fusion"``, or ``"fusion-64"`` for another width. Raises
        FileNotFoundError with the command that makes it.
        """
        path = folder("results") / f"{name}.json"
        if not path.is_file():
            study = name.split("-")[0].removesuffix("_cpu").removesuffix("_cuda")
            raise FileNotFoundError(
                f"There is no {path.name} among the results. Make it with "
                f"`unet-edu experiment {study}`."
            )
        return cls(json.loads(path.read_text(encoding="utf-8")))

    @property
    def conditions(self) -> str:
        """The conditions of the study in one line."""
        record = self.record
        return (
            f"{len(record['seeds'])} seeds, {record['device']}, "
            f"{record['date']}, {record['seconds'] / 60:.0f} minutes of computing, "
            f"torch {record['versions']['torch']}: {record['command']}"
        )

    def runs(self, **where) -> list[dict]:
        """Return the runs whose key has all the given entries, in order.

        Runs that only prepare the study, such as the search for a learning rate, have
        a role in their key and are left out unless ``where`` names it. Raises
        KeyError if there is none.
        """
        where = {"role": None} | where
        found = [
            run
            for run in self.record["runs"]
            if all(run["key"].get(name) == value for name, value in where.items())
        ]
        if not found:
            raise KeyError(f"{self.record['study']} has no run with {where}.")
        return found

    def values(self, value: str, **where) -> np.ndarray:
        """Return one value of all these runs, NaN where it is not defined."""
        return np.array([run["values"][value] for run in self.runs(**where)], float)

    def mean(self, value: str, **where) -> Interval:
        """Return the mean of a value over these runs, with its interval."""
        return interval(self.values(value, **where))

    def difference(self, value: str, one: Key, other: Key, **where) -> Interval:
        """Return the mean of one minus other over pairs of runs, with its interval.

        Two runs are a pair when they agree in all of their keys but those that
        ``one`` and ``other`` name: the same seed, hence the same pieces of the same
        images in the same order.

        Raises ValueError if the runs do not pair up.
        """
        named = one.keys() | other.keys()

        def by_pair(side: Key) -> dict[tuple, float]:
            found = {}
            for run in self.runs(**side, **where):
                rest = {k: v for k, v in run["key"].items() if k not in named}
                found[tuple(sorted(rest.items()))] = run["values"][value]
            return found

        a, b = by_pair(one), by_pair(other)
        if a.keys() != b.keys():
            raise ValueError(f"The runs with {one} and with {other} are no pairs.")
        return interval([a[pair] - b[pair] for pair in a])

    def ratio(self, above: str, below: str, **where) -> Spread:
        """Return one value divided by another of the same run, over these runs.

        Measurements of one run were taken in turns: what slows the machine slows both.
        """
        ratios = self.values(above, **where) / self.values(below, **where)
        return Spread(ratios.min(), float(np.median(ratios)), ratios.max())

    def table(self, rows: dict[str, Key], values: dict[str, str], **where) -> str:
        """Write the mean and the interval of some values, a row for each key.

        Args:
            rows: name of a row to the key of its runs.
            values: heading of a column to the name of a value.
        """
        name = max(map(len, rows))
        cells = {
            (row, column): str(self.mean(value, **key, **where))
            for row, key in rows.items()
            for column, value in values.items()
        }
        wide = max(map(len, [*cells.values(), *values]))
        lines = [" " * name + "".join(f"  {column:>{wide}}" for column in values)]
        for row in rows:
            line = "".join(f"  {cells[row, column]:>{wide}}" for column in values)
            lines.append(f"{row:{name}}{line}")
        return "\n".join(lines)

    def draw(self, ax, rows: dict[str, Key], value: str, label: str, **where) -> None:
        """Draw each seed as a dot, each mean as a bar with its interval.

        Args:
            ax: axes of matplotlib.
            rows: name of a row to the key of its runs, from top to bottom.
            value: name of the value.
            label: what the axis says, with the unit.
        """
        from unet_edu.plotting import INK, PALE, TRUTH

        for place, key in enumerate(rows.values()):
            seeds = self.values(value, **key, **where)
            mean, low, high = interval(seeds)
            ax.plot([low, high], [place, place], color=PALE, lw=7, zorder=1)
            ax.plot(seeds, [place] * len(seeds), "o", color=TRUTH, ms=4, zorder=2)
            ax.plot([mean] * 2, [place - 0.28, place + 0.28], color=INK, zorder=3)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.locator_params(axis="x", nbins=5)
        ax.set_xlabel(label)
