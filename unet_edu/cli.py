"""The command line: data, train, evaluate, predict, experiment, benchmark-tiles."""

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

    no = "no"
    bf16 = "bf16"


RunFolder = Annotated[
    Path, typer.Argument(help="Folder that `train` wrote, or weights.")
]
Data = Annotated[DataName, typer.Option(help="Data set.")]


def _fail(error: Exception) -> typer.Exit:
    """Print an expected error as one sentence and leave with status 1."""
    typer.secho(f"Error: {error}", err=True, fg=typer.colors.RED)
    return typer.Exit(1)


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
    data: Data = DataName.isbi2012,
    epochs: Annotated[int, typer.Option(help="Rounds of training.")] = 4,
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
        Precision, typer.Option(help="Mixed precision.")
    ] = Precision.no,
    seed: Annotated[int, typer.Option(help="Fixes weights, pieces and order.")] = 0,
    cpu: Annotated[bool, typer.Option("--cpu", help="Stay on the CPU.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out.")
    ] = False,
) -> None:
    """Train a network and keep its best weights, its history and a checkpoint."""
    import torch

    from unet_edu.blocks import check_at_least
    from unet_edu.data.augment import RandomCrops
    from unet_edu.data.download import DataNotFound
    from unet_edu.families import create_model
    from unet_edu.training import NonFiniteLoss, fit

    try:
        for name, value in [
            ("steps", steps),
            ("batch-size", batch_size),
            ("crop", crop),
        ]:
            check_at_least(name, value, 1)
        pieces, classes = _load(data, "train")
        held_out, _ = _load(data, "held_out")
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
    except (ValueError, OSError, DataNotFound, NonFiniteLoss) as error:
        raise _fail(error) from None
    print(f"{'epoch':>5} {'loss':>7} {'accuracy':>9}  " + "  IoU by class")
    for record in history:
        values = _by_class(record["val_iou"], classes)
        accuracy = record["val_accuracy"]
        print(f"{record['epoch']:5} {record['loss']:7.3f} {accuracy:9.3f}    {values}")
    print(f"Best weights: {out / 'best.safetensors'}")


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
    data: Data = DataName.isbi2012,
    split: Annotated[str, typer.Option(help="train, held_out or all.")] = "held_out",
) -> None:
    """Print how right a trained network is, and write the table beside its weights."""
    from unet_edu.checkpoints import load_model, write_json
    from unet_edu.data.download import DataNotFound
    from unet_edu.training import evaluate as evaluate_model

    try:
        weights = _weights(run)
        samples, classes = _load(data, split)
        model = load_model(weights)
        n_classes = model.config["n_classes"]
        if max(n_classes, 2) != len(classes):
            raise ValueError(
                f"The network in {weights} has {n_classes} classes, {data} has "
                f"{len(classes)}: {', '.join(classes)}."
            )
        record = evaluate_model(_on_best_device(model), samples)
    except (ValueError, FileNotFoundError, DataNotFound) as error:
        raise _fail(error) from None
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
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG or TIFF files.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the masks.")],
    tile: Annotated[
        int | None,
        typer.Option(help="Predict in tiles of this side, pixels, to save memory."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that two tiles share.")
    ] = None,
) -> None:
    """Segment pictures: for each a mask of class indices and a picture to look at."""
    import numpy as np
    import torch
    from PIL import Image, UnidentifiedImageError

    from unet_edu.checkpoints import load_model, write_atomically
    from unet_edu.inference import predict as predict_images
    from unet_edu.inference import predict_tiled

    if overlap is not None and tile is None:
        raise _fail(ValueError("--overlap needs --tile: a whole picture has no tiles."))
    try:
        model = _on_best_device(load_model(_weights(run)))
    except (ValueError, FileNotFoundError) as error:
        raise _fail(error) from None
    mode = {1: "L", 3: "RGB"}.get(model.n_channels)
    if mode is None:
        raise _fail(ValueError("This network takes neither gray nor colour pictures."))
    targets = [out / f"{file.stem}-mask.png" for file in images]
    if len(set(targets)) < len(targets):
        raise _fail(
            ValueError("Two pictures have one name: their masks would collide.")
        )
    for file, target in zip(images, targets, strict=True):
        try:
            picture = _read_picture(file, mode)
            x = torch.from_numpy(picture.reshape(*picture.shape[:2], -1))
            x = x.permute(2, 0, 1)
            if tile is None:
                mask = predict_images(model, x[None]).argmax(1)[0].byte().cpu().numpy()
            else:
                mask = np.empty(x.shape[1:], np.uint8)
                predict_tiled(model, x, tile, overlap, out=mask)
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise _fail(ValueError(f"{file}: {error}")) from None
        labels = Image.fromarray(mask)
        write_atomically(target, lambda f, im=labels: im.save(f, format="PNG"))
        look = out / f"{file.stem}-overlay.png"
        write_atomically(look, lambda f, p=picture, m=mask: _overlay(f, p, m))
        print(f"{file} -> {target.name}, {look.name}")


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


def _read_picture(file: Path, mode: str):
    """Return a picture as floats in [0, 1], gray or colour; 16-bit gray is kept."""
    import numpy as np
    from PIL import Image

    picture = Image.open(file)
    if picture.mode.startswith("I"):
        gray = np.asarray(picture, dtype=np.float32) / 65535
        return gray if mode == "L" else np.stack([gray] * 3, axis=-1)
    return np.asarray(picture.convert(mode), dtype=np.float32) / 255


def _weights(run: Path) -> Path:
    """Return the weights of a run: the file itself, or the best of a folder."""
    file = run / "best.safetensors" if run.is_dir() else run
    if not file.is_file():
        raise FileNotFoundError(
            f"There are no weights at {file}. `unet-edu train --out {run}` makes some."
        )
    return file


def _on_best_device(model):
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _by_class(values: list[float], classes: tuple[str, ...]) -> str:
    """Write one value a class, and say of an absent class that it is absent."""
    parts = []
    for name, value in zip(classes, values, strict=True):
        parts.append(f"{name} {'absent' if value != value else format(value, '.3f')}")
    return ", ".join(parts)


def _overlay(file: Path, picture, mask) -> None:
    """Paint the border of every class but the first over the picture."""
    import numpy as np
    from PIL import Image, ImageColor

    from unet_edu.plotting import CLASSES

    colour = np.stack([picture] * 3, -1) if picture.ndim == 2 else picture.copy()
    edge = np.zeros(mask.shape, bool)
    edge[1:] |= mask[1:] != mask[:-1]
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    for value in np.unique(mask):
        shade = ImageColor.getrgb(CLASSES[int(value) % len(CLASSES)])
        if value:
            inside = mask == value
            colour[inside] = 0.65 * colour[inside] + 0.35 * np.array(shade) / 255
            colour[inside & edge] = np.array(shade) / 255
    Image.fromarray((colour * 255).astype(np.uint8)).save(file, format="PNG")


if __name__ == "__main__":
    app()
