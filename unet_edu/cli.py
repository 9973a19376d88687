"""The command line: data, train, evaluate, predict, export and what measures."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Train, evaluate and use the U-Net of the book U-Net, Step by Step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


class DataName(StrEnum):
    """The data sets of the book."""

    isbi2012 = "isbi2012"
    wbc = "wbc"
    chase_db1 = "chase_db1"
    cells = "cells"


class Precision(StrEnum):
    """How numbers are stored while training."""

    auto = "auto"
    no = "no"
    bf16 = "bf16"


class OnError(StrEnum):
    """What to do about a file that cannot be used."""

    stop = "stop"
    skip = "skip"


RunFolder = Annotated[
    Path, typer.Argument(help="Folder that `train` wrote, or weights.")
]
Images = Annotated[
    str | None,
    typer.Option(
        help="Which files are pictures, such as '*.jpg'; a star stops at a slash, .* "
        "at the end is any ending."
    ),
]
Masks = Annotated[
    str | None,
    typer.Option(
        help="Which files are masks, such as '*_mask.png': the stars are the same text."
    ),
]
Group = Annotated[
    str | None,
    typer.Option(help="Regular expression: what in a path must not be split."),
]
WhatIfBroken = Annotated[
    OnError, typer.Option(help="A file that cannot be used stops, or is left out.")
]


def _fail(error: Exception) -> typer.Exit:
    """Print an expected error as one sentence and leave with status 1."""
    typer.secho(f"Error: {error}", err=True, fg=typer.colors.RED)
    return typer.Exit(1)


def _warn(text: str) -> None:
    typer.secho(text, err=True, fg=typer.colors.YELLOW)


@app.command()
def data(
    name: Annotated[DataName, typer.Argument(help="Data set to fetch and describe.")],
) -> None:
    """Fetch a data set, check every file, and say what it holds and where it is."""
    if name is DataName.cells:
        print("cells are drawn by a program: nothing to fetch.")
        return
    from unet_edu.data import chase_db1, download, isbi2012, wbc

    sources = {
        DataName.isbi2012: isbi2012,
        DataName.wbc: wbc,
        DataName.chase_db1: chase_db1,
    }
    source = sources[name]
    try:
        files = download.fetch(name)
    except download.DataNotFound as error:
        raise _fail(error) from None
    print(
        f"{name}: {len(files)} files, every sha256 right, in {download.data_folder()}"
    )
    unit = "children" if name is DataName.chase_db1 else "images"
    for split, images in source.SPLITS.items():
        print(f"  {split:9} {len(images)} {unit}, {images[0]} to {images[-1]}")
    print(f"  classes   {', '.join(f'{i} {c}' for i, c in enumerate(source.CLASSES))}")


def _load(name: DataName, split: str):
    """Return a split and the names of its classes."""
    from unet_edu.data import cells, chase_db1, isbi2012, wbc

    if name is DataName.chase_db1:
        return chase_db1.load(split), chase_db1.CLASSES
    if name is DataName.isbi2012:
        return isbi2012.load(split), isbi2012.CLASSES
    if name is DataName.wbc:
        return wbc.load(split), wbc.CLASSES
    sizes = {"train": (0, 24), "held_out": (1, 6)}
    if split not in sizes:
        raise ValueError(f"cells have the splits train and held_out; got {split!r}.")
    seed, n = sizes[split]
    return cells.Cells(n, seed=seed, size=256), cells.CLASSES["membranes"]


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the run; must be new.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Pictures and masks of your own.")
    ] = None,
    data: Annotated[
        DataName | None,
        typer.Option(help="Without a folder: a data set of the book, isbi2012."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Rounds of training; 4, of a folder 12.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps in one epoch.")] = 50,
    batch_size: Annotated[int, typer.Option(help="Pieces a step.")] = 8,
    crop: Annotated[int, typer.Option(help="Side of a training piece, pixels.")] = 128,
    base_channels: Annotated[int, typer.Option(help="Width of the first level.")] = 16,
    depth: Annotated[int, typer.Option(help="Times the map is halved.")] = 4,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 3e-3,
    model_name: Annotated[
        str, typer.Option("--model", help="A network of list_models().")
    ] = "unet",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the network, such as embed_dim=48."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Mixed precision; auto: where it is fast.")
    ] = Precision.auto,
    seed: Annotated[
        int, typer.Option(help="Fixes split, weights, pieces and order.")
    ] = 0,
    cpu: Annotated[bool, typer.Option("--cpu", help="Stay on the CPU.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out.")
    ] = False,
    images: Images = None,
    masks: Masks = None,
    group: Group = None,
    mask_above: Annotated[
        float | None, typer.Option(help="Mask values above this are the object.")
    ] = None,
    on_error: WhatIfBroken = OnError.stop,
    check: Annotated[
        bool, typer.Option("--check", help="Look at the folder; do not train.")
    ] = False,
) -> None:
    """Train on a folder or on a data set: best weights, history, checkpoint, pages."""
    import torch

    from unet_edu import runs
    from unet_edu.blocks import check_at_least
    from unet_edu.data.augment import RandomCrops
    from unet_edu.data.download import DataNotFound
    from unet_edu.families import create_model
    from unet_edu.training import NonFiniteLoss, fit

    of_folder = {
        **{"images": images, "masks": masks, "group": group},
        **{"mask_above": mask_above, "on_error": on_error.value},
    }
    try:
        for name, value in [
            ("steps", steps),
            ("batch-size", batch_size),
            ("crop", crop),
        ]:
            check_at_least(name, value, 1)
        if epochs is not None:
            check_at_least("epochs", epochs, 1)
        plan = None
        if folder is not None:
            plan = _plan(folder, data, out, seed, resume, of_folder)
            if check:
                return
            pieces, held_out, classes = runs.parts(plan)
            crop, said = runs.crop_for(plan, crop, depth)
            _say(said)
        else:
            _check_options(check, of_folder)
            data = data or DataName.isbi2012
            pieces, classes = _load(data, "train")
            held_out, _ = _load(data, "held_out")
        epochs = epochs if epochs is not None else 12 if folder else 4
        n_channels = pieces[0][0].shape[0]
        torch.manual_seed(seed)
        size = {"base_channels": base_channels, "depth": depth}
        chosen = _settings(model_name, size, settings or [])
        model = create_model(model_name, n_channels, len(classes), **chosen)
        if model_name == "unet":
            model.check_size(torch.empty(1, n_channels, crop, crop))
        history = fit(
            model,
            RandomCrops(pieces, crop, steps * batch_size),
            held_out,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            folder=out,
            resume=resume,
            seed=seed,
            precision=precision.value,
            device="cpu" if cpu else None,
        )
        if not runs.is_main():
            return
        _show_history(history, classes, out)
        if plan:
            asked = {"epochs": epochs, "steps": steps, "batch size": batch_size}
            asked |= {"crop": crop, "lr": lr, "seed": seed, "model": model_name}
            _finish(out, plan, history, asked | chosen)
    except (ValueError, OSError, DataNotFound, NonFiniteLoss) as error:
        raise _fail(error) from None


def _plan(
    folder: Path,
    data: DataName | None,
    out: Path,
    seed: int,
    resume: bool,
    of_folder: dict,
):
    """Find out what a folder holds, say it, and write the sanity page."""
    from unet_edu import runs
    from unet_edu.data.folder import prepare

    if data is not None:
        raise ValueError(f"Give a folder or --data, not both: got {folder} and {data}.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--out {out} lies in the folder of pictures, {folder}: pictures and what "
            "comes of them shall not mix. Choose a folder outside of it."
        )
    plan = prepare(folder, seed=seed, progress=runs.is_main(), **of_folder)
    runs.begin(out, plan, resume)
    _say(str(plan), f"Look at it before you train: {out / runs.SANITY}")
    return plan


def _check_options(check: bool, of_folder: dict) -> None:
    """Raise ValueError if what only a folder has was given without one."""
    asked = of_folder | {"check": check or None}
    asked.pop("on_error")
    given = [name for name, value in asked.items() if value is not None]
    if given or of_folder["on_error"] != "stop":
        name = (given or ["on_error"])[0].replace("_", "-")
        raise ValueError(
            f"--{name} is for a folder of your own: unet-edu train FOLDER --out RUN."
        )


def _say(*lines: str | None) -> None:
    """Print from the main process alone, where torchrun runs several."""
    from unet_edu.runs import is_main

    for line in lines:
        if line and is_main():
            print(line)


def _show_history(history: list[dict], classes: tuple[str, ...], out: Path) -> None:
    print(f"{'epoch':>5} {'loss':>7} {'accuracy':>9}  " + "  IoU by class")
    for record in history:
        values = _by_class(record["val_iou"], classes)
        accuracy = record["val_accuracy"]
        print(f"{record['epoch']:5} {record['loss']:7.3f} {accuracy:9.3f}    {values}")
    print(f"Best weights: {out / 'best.safetensors'}")


def _finish(out: Path, plan, history: list[dict], settings: dict) -> None:
    """Measure on what was kept back, write the report, and say where it is."""
    import shlex

    from unet_edu import runs

    command = shlex.join(["unet-edu", *sys.argv[1:]])
    result = runs.finish(out, plan, history, settings | {"command": command})
    _show_result(result)
    if plan.skipped:
        print(f"Skipped: {len(plan.skipped)}")
        print("\n".join(f"  {reason}" for reason in plan.skipped))
    print(f"Report: {out / runs.REPORT}")


def _show_result(result: dict) -> None:
    """Print the table of one measurement, with its conditions."""
    print(result["conditions"])
    wide = max(len(row["name"]) for row in result["classes"])
    print(f"{'':{wide}}  {'IoU':21}  {'Dice':21}  IoU if all were one class")
    for row in result["classes"]:
        cells = [_interval(row[name]) for name in ("iou", "dice")]
        trivial = "absent" if row["trivial"] is None else f"{row['trivial']:.3f}"
        print(f"{row['name']:{wide}}  {cells[0]:21}  {cells[1]:21}  {trivial}")


def _interval(value: dict) -> str:
    if value["value"] is None:
        return "absent"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _settings(model: str, size: dict[str, int], given: list[str]) -> dict:
    """Return the settings of a network: its size where it has one, and what is given.

    A number is read as one; words stay words.
    """
    import json

    from unet_edu.families import settings_of

    settings = {name: n for name, n in size.items() if name in settings_of(model)}
    for item in given:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--set takes NAME=VALUE, such as layers=2; got {item!r}.")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings


@app.command()
def evaluate(
    run: RunFolder,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Other pictures and masks than those kept back."),
    ] = None,
    data: Annotated[
        DataName | None, typer.Option(help="A data set of the book instead.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, held_out or all.")] = "held_out",
    images: Images = None,
    masks: Masks = None,
    group: Group = None,
    on_error: WhatIfBroken = OnError.stop,
) -> None:
    """Print how right a trained network is, and write the table beside its weights."""
    from unet_edu import runs
    from unet_edu.checkpoints import load_model
    from unet_edu.data.download import DataNotFound

    options = {"images": images, "masks": masks, "group": group}
    options["on_error"] = on_error.value
    try:
        weights = _weights(run)
        if folder is None:
            _check_options(False, options | {"mask_above": None})
        own = folder is not None or (data is None and (run / runs.DATASET).is_file())
        if not own:
            _evaluate_data(weights, data or DataName.isbi2012, split)
            return
        if data is not None:
            raise ValueError(
                f"Give a folder or --data, not both: got {folder}, {data}."
            )
        plan = runs.evaluation_plan(run, folder, **options)
        model = runs.on_best_device(load_model(weights))
        part = split if folder is None else "all"
        if folder is not None:
            for warning in plan.warnings:
                _warn(f"Warning: {warning}")
        result = runs.measure(model, plan, plan.part(part))
        name = part if folder is None else folder.resolve().name
        _write_result(result, plan, weights.with_name(f"evaluation-{name}.json"))
    except (ValueError, OSError, DataNotFound) as error:
        raise _fail(error) from None


def _write_result(result: dict, plan, table: Path) -> None:
    """Print a measurement on a folder with its worst pictures, and keep it."""
    from unet_edu.checkpoints import write_json

    _show_result(result)
    worst = sorted(result["pictures"], key=lambda one: one["score"])[:3]
    print("worst:", ", ".join(f"{one['image']} {one['score']:.3f}" for one in worst))
    for reason in plan.skipped:
        print(f"skipped: {reason}")
    write_json(table, result)
    print(f"Table: {table}")


def _evaluate_data(weights: Path, data: DataName, split: str) -> None:
    """Evaluate on a data set of the book."""
    from unet_edu.checkpoints import load_model, write_json
    from unet_edu.runs import on_best_device
    from unet_edu.training import evaluate as evaluate_model

    samples, classes = _load(data, split)
    model = load_model(weights)
    n_classes = model.config["n_classes"]
    if max(n_classes, 2) != len(classes):
        raise ValueError(
            f"The network in {weights} has {n_classes} classes, {data} has "
            f"{len(classes)}: {', '.join(classes)}."
        )
    record = evaluate_model(on_best_device(model), samples)
    rows = [
        ("images", f"{len(samples)} ({data}, {split})"),
        ("pixel accuracy", f"{record['accuracy']:.3f}"),
        ("IoU", _by_class(record["iou"], classes)),
        ("Dice", _by_class(record["dice"], classes)),
        ("cross-entropy", f"{record['loss']:.3f}"),
    ]
    for name, value in rows:
        print(f"{name:15} {value}")
    table = weights.with_name(f"evaluation-{data}-{split}.json")
    write_json(table, record)
    print(f"Table: {table}")


@app.command()
def predict(
    run: RunFolder,
    images: Annotated[
        list[Path], typer.Argument(help="PNG, JPEG, BMP or TIFF files, or folders.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the masks.")],
    tile: Annotated[
        int | None,
        typer.Option(help="Predict in tiles of this side, pixels, to save memory."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that two tiles share.")
    ] = None,
    values: Annotated[
        bool,
        typer.Option(
            "--values", help="Write what your masks store, such as 0 and 255."
        ),
    ] = False,
    on_error: WhatIfBroken = OnError.stop,
) -> None:
    """Segment pictures: for each a mask of class indices and a picture to look at."""
    from unet_edu import runs
    from unet_edu.checkpoints import load_model

    if overlap is not None and tile is None:
        raise _fail(ValueError("--overlap needs --tile: a whole picture has no tiles."))
    try:
        model = runs.on_best_device(load_model(_weights(run)))
        eye = runs.eye_of(run)
        if values and eye.table is None:
            raise ValueError(
                "--values needs a network that was trained on a folder: of others it "
                "is not known what their masks stored."
            )
        if model.n_channels not in (1, 3):
            raise ValueError("This network takes neither gray nor colour pictures.")
        jobs, masks = runs.jobs_of(images, out)
    except (ValueError, OSError) as error:
        raise _fail(error) from None
    if masks:
        print(f"Left out, as their names say mask: {runs.listed(masks)}")
    how = {"tile": tile, "overlap": overlap, "values": values}
    _predict_all(model, eye, jobs, out, on_error is OnError.skip, how)


def _predict_all(model, eye, jobs: list, out: Path, skip: bool, how: dict) -> None:
    """Segment each file; stop at the first that cannot be, or name all at the end."""
    from tqdm import tqdm

    from unet_edu import runs
    from unet_edu.checkpoints import NoRoom

    skipped, other = [], []
    for file, name in tqdm(jobs, "predicting", disable=len(jobs) < 2, leave=False):
        try:
            written = runs.predict_file(model, eye, file, out / name, **how)
        except Exception as error:  # decoders raise whatever a damaged file makes them
            if not skip and not isinstance(error, (OSError, ValueError, SyntaxError)):
                raise
            skipped.append(f"{file}: {error}")
            # A full disk is no fault of the picture, and the next one would meet it.
            if not skip or isinstance(error, NoRoom):
                raise _fail(ValueError(skipped[-1])) from None
            continue
        names = f"{written.mask.name}, {written.overlay.name}"
        tqdm.write(f"{file} -> {names}{' (replaced)' * written.replaced}")
        if written.warning:
            _warn(f"Warning: {file}: {written.warning}.")
        if written.channels:
            other.append(written.channels)
    if other:
        gray = other.count(1)
        print(_said_of_channels(gray, len(other) - gray))
    if skipped:
        lines = "".join(f"\n  {line}" for line in skipped)
        said = f"Skipped: {len(skipped)} of {len(jobs)} pictures.{lines}"
        if len(skipped) == len(jobs):
            raise _fail(ValueError(said))
        _warn(said)


def _said_of_channels(gray: int, colour: int) -> str:
    """Say how many pictures had not the channels of the network."""
    from unet_edu.runs import counted

    if gray:
        return (
            f"{counted(gray, 'gray picture')} given three equal channels: the network "
            "takes colour."
        )
    return (
        f"{counted(colour, 'picture')} in colour turned gray: the network takes gray."
    )


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, .onnx.")],
) -> None:
    """Write a network as ONNX, and compare what it computes with PyTorch."""
    from importlib.util import find_spec

    from unet_edu.checkpoints import load_model
    from unet_edu.export import to_onnx

    try:
        model = load_model(_weights(run))
        to_onnx(model, out)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        raise _fail(error) from None
    print(f"{out}: {out.stat().st_size / 2**20:.2f} MiB")
    if find_spec("onnxruntime") is None:
        print("Not compared: onnxruntime is not installed.")
        return
    difference = _difference(model, out)
    print(f"Largest difference to PyTorch on noise: {difference:.1e}")
    if not difference <= MOST_DIFFERENCE:
        raise _fail(ValueError(f"The difference is above {MOST_DIFFERENCE:g}."))


# How far ONNX Runtime and PyTorch may be apart, as a share of the largest logit.
MOST_DIFFERENCE = 1e-5


def _difference(model, file: Path) -> float:
    """Return how far logits of noise differ, as a share of the largest of them."""
    import onnxruntime
    import torch

    from unet_edu.export import example_images

    torch.manual_seed(0)
    x = torch.rand_like(example_images(model))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model.eval()(x)
    (logits,) = session.run(None, {"x": x.numpy()})
    largest = float(expected.abs().max())
    return float((torch.from_numpy(logits) - expected).abs().max()) / max(largest, 1)


@app.command()
def experiment(
    name: Annotated[
        str | None, typer.Argument(help="Name of a study; without one, list them.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    width: Annotated[
        int | None, typer.Option(help="Width of the first level, such as 64.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps, to see that all runs.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File for the result: results/NAME.json.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs at a time; on a CPU one a core.")
    ] = None,
) -> None:
    """Run a study of the book, or go on with it, and write its result."""
    from unet_edu import studies
    from unet_edu.data.download import DataNotFound

    if name is None:
        for known in studies.names():
            print(f"{known:12} {studies.load_study(known).QUESTION}")
        return
    try:
        result = studies.run_study(
            name,
            seeds=seeds,
            device=device,
            width=width,
            quick=quick,
            out=out,
            workers=workers,
        )
    except (ValueError, DataNotFound) as error:
        raise _fail(error) from None
    print(result.conditions)


# What `benchmark-tiles` may keep in memory, in MiB.
MEMORY_LIMIT = 2048


@app.command()
def benchmark_tiles(
    size: Annotated[int, typer.Option(help="Side of the image, pixels.")] = 16384,
    tile: Annotated[int, typer.Option(help="Side of a tile, pixels.")] = 512,
    base_channels: Annotated[int, typer.Option(help="Width of the first level.")] = 8,
) -> None:
    """Segment a large image that stays on disk, and print the memory that it took."""
    import tempfile
    import time

    import numpy as np
    import torch

    alone = _peak_memory()

    from unet_edu.blocks import check_at_least
    from unet_edu.inference import predict_tiled
    from unet_edu.unet import UNet

    tiles = 0

    def add_one(*_: object) -> None:
        nonlocal tiles
        tiles += 1

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_at_least("size", size, 1)
            model = UNet(1, 2, base_channels=base_channels, padding=1)
            image = _noise(Path(folder) / "image.npy", size)
            mask = np.lib.format.open_memmap(
                Path(folder) / "mask.npy", "w+", np.uint8, (size, size)
            )
            model.register_forward_hook(add_one)
            start = time.perf_counter()
            predict_tiled(model, image, tile, tile // 8, out=mask)
        except (ValueError, OSError) as error:
            raise _fail(error) from None
        seconds = time.perf_counter() - start
    peak, files = _peak_memory(), (image.nbytes + mask.nbytes) / 2**20
    rows = [
        ("image", f"{size}x{size} pixels"),
        ("tiles", f"{tiles} of {tile}x{tile}, overlap at least {tile // 8}"),
        ("time", f"{seconds:.0f} s"),
        ("peak memory", f"{peak:.0f} MiB, image and mask on disk included"),
        ("files", f"{files:.0f} MiB, of which the system keeps in memory what it can"),
        ("torch alone", f"{alone:.0f} MiB; the peak is {peak / alone:.1f} times that"),
    ]
    for name, value in rows:
        print(f"{name:12} {value}")
    if peak > MEMORY_LIMIT:
        raise _fail(MemoryError(f"The peak is above {MEMORY_LIMIT} MiB."))


def _noise(file: Path, size: int):
    """Write a square of noise band by band, and open it for reading."""
    import numpy as np

    band = np.random.default_rng(0).integers(0, 256, (256, size), dtype=np.uint8)
    image = np.lib.format.open_memmap(file, "w+", np.uint8, (1, size, size))
    for top in range(0, size, len(band)):
        image[0, top : top + len(band)] = band[: size - top]
    image.flush()
    return np.load(file, mmap_mode="r")


def _peak_memory() -> float:
    """Return the most memory, in MiB, that this process has had resident so far."""
    status = Path("/proc/self/status")
    # Preferred to getrusage, which begins with the memory of the starting program.
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        raise _fail(
            OSError("This system does not tell a program its peak memory.")
        ) from None
    # macOS counts in bytes, the others in KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _weights(run: Path) -> Path:
    """Return the weights of a run: the file itself, or the best of a folder."""
    file = run / "best.safetensors" if run.is_dir() else run
    if not file.is_file():
        raise FileNotFoundError(
            f"There are no weights at {file}. `unet-edu train --out {run}` makes some."
        )
    return file


def _by_class(values: list[float], classes: tuple[str, ...]) -> str:
    """Write one value a class, and say of an absent class that it is absent."""
    parts = []
    for name, value in zip(classes, values, strict=True):
        parts.append(f"{name} {'absent' if value != value else format(value, '.3f')}")
    return ", ".join(parts)


if __name__ == "__main__":
    app()
