"""Studies: nothing that ended is run again, nothing is lost, intervals are right."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from unet_edu import recipes, studies
from unet_edu.families import list_models
from unet_edu.studies import Result, interval, run_study

FAKE = """
from pathlib import Path

QUESTION = "Which arm is larger?"
CONFIG = {"base_channels": 8, "small": False}
QUICK = {"small": True}
LOG = Path(__file__).with_name("log.txt")


def stages(config, seeds):
    sweep = [{"role": "sweep", "lr": lr} for lr in (1, 2)]
    return [sweep, [{"arm": a, "seed": s} for a in ("low", "high") for s in seeds]]


def run(key, config, device, done):
    with LOG.open("a") as log:
        log.write(f"{key}\\n")
    stop = LOG.with_name("stop.txt")
    if stop.exists() and str(key.get("seed")) == stop.read_text():
        raise KeyboardInterrupt
    if "role" in key:
        return {"score": float(key["lr"])}
    best = max(r["values"]["score"] for r in done if r["key"].get("role") == "sweep")
    step = 10.0 if key["arm"] == "high" else 0.0
    return {"value": key["seed"] + step, "best": best, "none": float("nan")}
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with one study, and a list of the runs that were done."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "experiments" / "fake.py").write_text(FAKE)
    monkeypatch.setattr(studies, "folder", lambda name: tmp_path / name)

    class Lab:
        out = tmp_path / "results" / "fake.json"
        partial = tmp_path / "results" / "fake.partial.json"

        def run(self, **options) -> Result:
            return run_study("fake", workers=1, progress=False, **options)

        def log(self) -> list[str]:
            path = tmp_path / "experiments" / "log.txt"
            return path.read_text().splitlines() if path.exists() else []

        def stop_at(self, seed) -> None:
            path = tmp_path / "experiments" / "stop.txt"
            path.write_text(str(seed)) if seed is not None else path.unlink()

    return Lab()


def test_a_study_runs_once_and_says_its_conditions(lab):
    result = lab.run(seeds=2)
    assert len(lab.log()) == 2 + 4
    record = json.loads(lab.out.read_text())
    assert record == result.record
    assert record.keys() == {
        *("study", "question", "command", "config", "seeds", "device", "runs"),
        *("versions", "cores", "seconds", "date"),
    }
    assert record["command"] == "unet-edu experiment fake --seeds 2 --device cpu"
    assert record["seeds"] == [0, 1]
    assert record["versions"]["torch"] == torch.__version__
    assert all(run["seconds"] >= 0 for run in record["runs"])
    assert not lab.partial.exists()
    lab.run(seeds=2)
    assert len(lab.log()) == 6


def test_a_later_stage_sees_the_earlier_one(lab):
    assert set(lab.run(seeds=1).values("best")) == {2.0}


def test_a_killed_study_goes_on_where_it_stopped(lab):
    lab.stop_at(1)
    with pytest.raises(KeyboardInterrupt):
        lab.run(seeds=3)
    assert not lab.out.exists()
    kept = json.loads(lab.partial.read_text())["runs"]
    assert [run["key"] for run in kept][2:] == [{"arm": "low", "seed": 0}]
    lab.stop_at(None)
    resumed = lab.run(seeds=3).record
    # The run that was cut is the only one that was begun twice.
    assert len(lab.log()) == 2 + 6 + 1
    whole = lab.run(seeds=3, out=lab.out.with_name("whole.json")).record
    assert [r["key"] for r in resumed["runs"]] == [r["key"] for r in whole["runs"]]
    assert [r["values"] for r in resumed["runs"]] == [
        r["values"] for r in whole["runs"]
    ]
    assert not lab.partial.exists()


def test_seeds_can_be_added(lab):
    lab.run(seeds=1)
    result = lab.run(seeds=3)
    assert len(lab.log()) == 2 + 6
    assert result.record["seeds"] == [0, 1, 2]
    assert result.values("value", arm="low").tolist() == [0, 1, 2]
    assert lab.run(seeds=2).record == result.record


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quick": True}, r"another config: small False, not True.*--out"),
        ({"width": 64, "out": "same"}, r"base_channels 8, not 64"),
    ],
)
def test_another_configuration_is_never_mixed_in(lab, options, message):
    lab.run(seeds=1)
    before = lab.out.read_bytes()
    if options.get("out") == "same":
        options = options | {"out": lab.out}
    with pytest.raises(ValueError, match=message):
        lab.run(seeds=1, **options)
    assert lab.out.read_bytes() == before


def test_another_width_has_a_file_of_its_own(lab):
    lab.run(seeds=1)
    result = lab.run(seeds=1, width=64)
    assert result.record["config"]["base_channels"] == 64
    assert lab.out.with_name("fake-64.json").is_file()
    assert Result.read("fake-64").record == result.record
    assert "--width 64" in result.record["command"]


ILL = [
    ({"seeds": 0}, "seeds must be an integer >= 1, got 0"),
    ({"device": "tpu"}, "device must be one of cpu, cuda; got 'tpu'"),
    ({"width": 0}, "width must be an integer >= 1, got 0"),
]


@pytest.mark.parametrize(("options", "message"), ILL)
def test_ill_requests(lab, options, message):
    with pytest.raises(ValueError, match=message):
        lab.run(**options)
    assert lab.log() == []


def test_an_unknown_study_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"study must be one of .*fusion.*got 'x'"):
        run_study("x")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(lab):
    with pytest.raises(ValueError, match="no CUDA device here; use device='cpu'"):
        lab.run(device="cuda")


def test_a_missing_result_names_its_command():
    with pytest.raises(FileNotFoundError, match="unet-edu experiment nothing"):
        Result.read("nothing-64")


def result_of(runs: list[tuple[dict, dict]]) -> Result:
    return Result({"study": "s", "runs": [{"key": k, "values": v} for k, v in runs]})


def test_runs_that_prepare_are_left_out_unless_named(lab):
    result = lab.run(seeds=2)
    assert len(result.runs()) == 4
    assert len(result.runs(role="sweep")) == 2
    with pytest.raises(KeyError, match="no run with"):
        result.runs(arm="middle")


def test_an_undefined_value_is_nan(lab):
    assert "null" in lab.out.read_text() if lab.run(seeds=1) else None
    assert np.isnan(lab.run(seeds=1).values("none")).all()


def test_differences_are_paired():
    # Seeds differ by far more than the arms; pairing takes that out.
    runs = [
        ({"arm": arm, "seed": s}, {"x": 100.0 * s + (arm == "b") * (1 + 0.1 * s)})
        for s in range(5)
        for arm in "ba"
    ]
    found = result_of(runs).difference("x", {"arm": "b"}, {"arm": "a"})
    assert found.mean == pytest.approx(1.2)
    assert 1.0 <= found.low < 1.2 < found.high <= 1.4
    assert result_of(runs[::-1]).difference("x", {"arm": "b"}, {"arm": "a"}) == (
        pytest.approx(found)
    )


def test_runs_that_do_not_pair_are_refused():
    runs = [
        ({"arm": arm, "seed": s}, {"x": 1.0})
        for arm, seeds in [("a", 3), ("b", 4)]
        for s in range(seeds)
    ]
    with pytest.raises(ValueError, match="are no pairs"):
        result_of(runs).difference("x", {"arm": "a"}, {"arm": "b"})


def test_interval_agrees_with_every_possible_resample():
    # Four values have 256 resamples: their percentiles need no drawing.
    values = [0.0, 1.0, 2.0, 5.0]
    means = np.mean(list(itertools.product(values, repeat=4)), axis=1)
    found = interval(values)
    assert found.mean == 2.0
    assert (found.low, found.high) == pytest.approx(
        np.percentile(means, [2.5, 97.5]), abs=0.26
    )  # the means lie 0.25 apart


def test_interval_of_equal_values_is_a_point():
    assert interval([0.5, 0.5]) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="number of values must be an integer >= 2"):
        interval([0.5])


def test_table_and_drawing(lab):
    from matplotlib.figure import Figure

    result = lab.run(seeds=3)
    rows = {"low arm": {"arm": "low"}, "high arm": {"arm": "high"}}
    lines = result.table(rows, {"value": "value"}).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("high arm")
    assert "11.000 [" in lines[2]
    ax = Figure().subplots()
    result.draw(ax, rows, "value", "value (px)")
    assert ax.get_xlabel() == "value (px)"
    assert [t.get_text() for t in ax.get_yticklabels()] == list(rows)
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [[0, 1, 2], [10, 11, 12]]


# The book's own studies.

# Each with the fewest seeds that its chapter may rest on.
BOOKS = {
    **dict.fromkeys(("few_images", "fusion", "geometry", "losses", "skip_levels"), 5),
    **dict.fromkeys(("skip", "backbone", "bottleneck", "representation"), 3),
    **dict.fromkeys(("transformer", "probabilistic", "bench", "browser"), 3),
}


def shape(value):
    """Return the structure of a JSON value without its numbers."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    return type(value).__name__ if isinstance(value, str | list) else "number"


def test_the_book_has_its_studies():
    assert set(BOOKS) <= set(studies.names())


@pytest.mark.parametrize("name", BOOKS)
def test_a_committed_result_has_its_seeds_and_no_hole(name):
    result = Result.read(name)
    record = result.record
    study = studies.load_study(name)
    assert len(record["seeds"]) >= BOOKS[name]
    assert record["question"] == study.QUESTION
    assert record["config"] == study.CONFIG
    planned = [
        k for stage in study.stages(study.CONFIG, record["seeds"]) for k in stage
    ]
    assert [run["key"] for run in record["runs"]] == planned
    assert record["command"] == (
        f"unet-edu experiment {name} --seeds {len(record['seeds'])} --device cpu"
    )
    for run in record["runs"]:
        for value in run["values"].values():
            if isinstance(value, float):
                assert math.isfinite(value)


@pytest.mark.parametrize("name", BOOKS)
def test_quick_gives_a_file_of_the_same_schema(
    name, tmp_path, isbi2012_files, wbc_files
):
    # A reader's machine has several workers; one study shows that processes can do it.
    quick = run_study(
        name,
        seeds=1,
        quick=True,
        out=tmp_path / "quick.json",
        workers=2 if name == "skip" else 1,
        progress=False,
    ).record
    full = Result.read(name).record
    assert quick.keys() == full.keys()
    assert quick["config"].keys() == full["config"].keys()
    values = {}
    for run in full["runs"]:
        kind = tuple(sorted((k, v) for k, v in run["key"].items() if k != "seed"))
        values[kind] = set(run["values"])
    for run in quick["runs"]:
        kind = tuple(sorted((k, v) for k, v in run["key"].items() if k != "seed"))
        assert set(run["values"]) == values[kind]


@pytest.mark.parametrize("small", [True, False])
def test_cells_as_the_studies_use_them(small):
    splits = recipes.load_splits("cells", small)
    assert (splits.n_channels, splits.n_classes) == (1, 2)
    assert len(splits.held_out) == len(splits.regions)
    image, mask = splits.held_out[0]
    assert image.shape[1:] == mask.shape == splits.regions[0].shape
    # A gap parts what touches, and nothing else was taken away.
    assert (splits.regions[0][mask == 1] > 0).all()
    assert 0 < ((splits.regions[0] > 0) & (mask == 0)).sum() < 0.2 * mask.sum()


def test_a_perfect_network_has_perfect_scores():
    splits = recipes.load_splits("cells", small=True)

    class Oracle(torch.nn.Module):
        n_channels = 1

        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))
            self.truth = iter([mask for _, mask in splits.held_out])

        def forward(self, x):
            mask = next(self.truth)[None]
            return torch.stack([(mask == 0), (mask == 1)], 1) * 20.0

    scores = recipes.score(Oracle(), splits.held_out, splits.regions)
    assert scores["accuracy"] == 1
    assert scores["iou"] == scores["dice"] == [1, 1]
    assert scores["boundary_f1"] == 1
    assert scores["merges"] == scores["splits"] == 0
    # The gap's pixels belong to the objects and are called background.
    assert 0.9 < scores["v_rand"] < 1


def test_best_rate_is_the_best_of_its_own_arm():
    def sweep(arm, lr, **values):
        key = {"role": "sweep", "data": "d", "arm": arm, "lr": lr}
        return {"key": key, "values": values}

    done = [
        sweep("a", 1.0, score=0.2),
        sweep("a", 2.0, score=0.4),
        sweep("a", 3.0),  # not finite
        sweep("b", 4.0, score=0.9),
    ]
    assert recipes.best_rate({"data": "d", "arm": "a", "seed": 0}, done) == 2.0


def test_the_bench_has_every_model_at_about_two_million():
    bench = studies.load_study("bench")
    assert list(bench.SIZES) == bench.CONFIG["arms"] == list_models()
    for n_channels, n_classes in [(1, 2), (3, 3)]:
        for arm in bench.SIZES:
            with torch.device("meta"):
                model = bench.build(arm, n_channels, n_classes)
            count = sum(p.numel() for p in model.parameters())
            assert count == pytest.approx(2e6, rel=0.1), (arm, n_channels)
