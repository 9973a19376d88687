"""What the studies share: their data, their training, their scores."""

import functools
import statistics
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from unet_edu import losses, metrics
from unet_edu.blocks import check_choice
from unet_edu.data import cells, isbi2012, wbc
from unet_edu.data.augment import RandomCrops
from unet_edu.inference import predict
from unet_edu.ledger import ledger
from unet_edu.studies import Result
from unet_edu.training import Loss, fit

DATA = ("isbi2012", "cells", "wbc")
# ISBI 2012: settings are chosen on the last slices of the training block, and the
# block that is scored is never used to choose anything.
SLICES = {"train": range(0, 20), "val": range(20, 24), "held_out": range(24, 30)}


class Splits(NamedTuple):
    """Data to learn from, to choose on, and to score.

    Attributes:
        train: (image, mask) pairs.
        val: pairs to choose a learning rate on.
        held_out: pairs that are only scored.
        regions: for each held-out image its true objects (H, W), numbered from 1;
            None where the task has no objects to separate.
        train_regions: the same for the training images.
    """

    train: Dataset
    val: Dataset
    held_out: Dataset
    regions: list[Tensor] | None
    train_regions: list[Tensor] | None

    @property
    def n_channels(self) -> int:
        return self.train[0][0].shape[0]

    @property
    def n_classes(self) -> int:
        return 3 if self.regions is None else 2


@functools.cache  # a worker does many runs on the same data
def load_splits(name: str, small: bool = False) -> Splits:
    """Return a data set of the book in the three parts that a study needs.

    ``"isbi2012"``: class 1 is membrane, the objects are the cells that membranes
    divide. ``"cells"``: touching nuclei with a gap of background between them, class 1
    is nucleus. ``"wbc"``: three classes, no objects.

    Args:
        name: one of ``DATA``.
        small: two images each, to see that everything runs.

    Raises:
        ValueError: for an unknown name.
        DataNotFound: as the data set's own loader does.
    """
    check_choice("data", name, DATA)
    if name == "wbc":
        parts = [wbc.load(split) for split in ("train", "val", "held_out")]
        if small:
            parts = [wbc.Pictures(part.pairs[:2]) for part in parts]
        return Splits(*parts, None, None)
    if name == "isbi2012":
        pick = {k: list(v)[: 2 if small else None] for k, v in SLICES.items()}
        parts = {k: isbi2012.load(slices=v).tensors for k, v in pick.items()}
        regions = {
            k: [metrics.regions(mask, thin=False) for mask in parts[k][1]]
            for k in ("train", "held_out")
        }
        if small:
            parts = {
                k: (x[..., :192, :192], y[..., :192, :192])
                for k, (x, y) in parts.items()
            }
            regions = {k: [r[:192, :192] for r in v] for k, v in regions.items()}
        middle = (..., slice(128, 384), slice(128, 384))
        if not small:
            parts["val"] = tuple(x[middle] for x in parts["val"])
    else:
        drawn = {
            part: cells.Cells(n, seed, 160, "nuclei", diameter=20.0, noise=0.2).samples
            for part, n, seed in [
                ("train", 2 if small else 24, 0),
                ("val", 2 if small else 8, 1),
                ("held_out", 2 if small else 24, 2),
            ]
        }
        parts = {
            part: (
                torch.stack([s.image for s in samples]),
                torch.stack([losses.separate(s.instances) for s in samples]),
            )
            for part, samples in drawn.items()
        }
        regions = {k: [s.instances for s in drawn[k]] for k in ("train", "held_out")}
    return Splits(
        *(TensorDataset(*parts[part]) for part in ("train", "val", "held_out")),
        regions["held_out"],
        regions["train"],
    )


def train(
    model: nn.Module,
    pieces: Dataset,
    config: dict,
    *,
    seed: int,
    lr: float,
    device: str,
    val: Dataset | None = None,
    loss: Loss = losses.cross_entropy,
    turn: bool = True,
    bend: float = 0.0,
) -> list[dict]:
    """Train a model by a study's settings and return its history.

    ``config`` holds ``crop`` (pixels), ``batch_size``, ``epochs``, ``steps`` (in all)
    and ``precision``.
    """
    drawn = config["batch_size"] * config["steps"] // config["epochs"]
    return fit(
        model,
        RandomCrops(pieces, config["crop"], drawn, turn, bend),
        val,
        epochs=config["epochs"],
        batch_size=config["batch_size"],
        lr=lr,
        loss=loss,
        seed=seed,
        precision=config["precision"],
        device="cpu" if device == "cpu" else None,
        progress=False,
    )


def sweep_then_seeds(config: dict, arms: Iterable[str], seeds: Iterable[int]) -> tuple:
    """Return the keys of two stages: each learning rate once, then each seed.

    ``config`` holds ``data`` and ``rates``; the keys are those of :func:`best_rate`.
    """
    pairs = [{"data": data, "arm": arm} for data in config["data"] for arm in arms]
    sweep = [{"role": "sweep", **p, "lr": lr} for p in pairs for lr in config["rates"]]
    return sweep, [{**p, "seed": seed} for p in pairs for seed in seeds]


def best_rate(key: dict, done: list[dict]) -> float:
    """Return the learning rate that was best on the validation images.

    ``done`` holds the runs so far; those with the role ``"sweep"`` and the data and the
    arm of ``key`` are compared by the one value that they have.
    """
    tried = [
        run
        for run in done
        if run["key"].get("role") == "sweep"
        and (run["key"]["data"], run["key"]["arm"]) == (key["data"], key["arm"])
    ]
    # A rate at which the loss left the numbers has no score.
    best = max(tried, key=lambda run: max(run["values"].values(), default=0))
    return best["key"]["lr"]


def every_rate(config: dict, arms: Iterable[str], seeds: Iterable[int]) -> list[dict]:
    """Return the keys of one stage: each arm at each learning rate with each seed.

    ``config`` holds ``data`` and ``rates``. What :func:`best_by_mean` needs.
    """
    return [
        {"data": data, "arm": arm, "lr": lr, "seed": seed}
        for data in config["data"]
        for arm in arms
        for lr in config["rates"]
        for seed in seeds
    ]


def best_by_mean(result: Result, value: str = "val_iou", **where) -> float:
    """Return the learning rate whose runs are best on the validation images.

    Judged by the mean over seeds, since one run says little (chapter 7); a run whose
    loss left the numbers counts as 0. ``where`` names an arm and its data. Used in
    chapters 15 to 21.
    """
    rates = sorted({run["key"]["lr"] for run in result.runs(**where)})

    def mean(lr: float) -> float:
        values = [run["values"].get(value) for run in result.runs(lr=lr, **where)]
        return float(np.mean([v or 0.0 for v in values]))

    return max(rates, key=mean)


def costs(nets: dict[str, nn.Module], against: str, side: int, rounds: int) -> dict:
    """Return what networks cost for one gray image of ``side`` x ``side`` pixels.

    For each: ``parameters``, ``mult_adds`` and ``kept_bytes`` (as the ledger counts
    them) and ``time_to_AGAINST``, the median time of a pass relative to that of the
    network called ``against``. Passes are taken in turns, so that whatever else the
    machine does meets all networks alike. The networks end on the CPU.
    """
    device = next(nets[against].parameters()).device
    x = torch.rand(1, 1, side, side, device=device)
    times = {name: [] for name in nets}
    with torch.no_grad():
        for _ in range(rounds):
            for name, net in nets.items():
                start = time.perf_counter()
                net(x)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(found) for name, found in times.items()}
    values = {}
    for name, net in nets.items():
        book = ledger(net.cpu(), (1, 1, side, side))
        values[name] = {
            "parameters": sum(p.numel() for p in net.parameters()),
            "mult_adds": book.mult_adds,
            "kept_bytes": book.activation_bytes,
            f"time_to_{against}": median[name] / median[against],
        }
    return values


def probabilities(model: nn.Module, image: Tensor) -> Tensor:
    """Return (n_classes, H, W) probabilities of one image (C, H, W), on the CPU."""
    return predict(model, image[None])[0].cpu()


def score(model: nn.Module, data: Dataset, regions: list[Tensor] | None) -> dict:
    """Score a model on whole images.

    ``accuracy``, and ``iou`` and ``dice`` (lists over classes), from the confusion
    matrix of all images; ``boundary_f1`` (tolerance 2 px), mean over images and over
    the classes but the first. With regions, means over images: ``v_rand`` and
    ``v_info`` of the objects at threshold one half, ``v_rand_best`` and
    ``v_info_best`` at the best of nine thresholds, ``splits`` and ``merges``.

    Membranes (thin, dividing) are thinned before the objects between them are counted;
    nuclei are objects themselves.
    """
    confusion, rows = 0, []
    for i in range(len(data)):
        image, mask = data[i]
        p = probabilities(model, image)
        found = p.argmax(0)
        confusion = confusion + metrics.confusion_matrix(found, mask, len(p))
        row = {
            "boundary_f1": np.nanmean(
                [metrics.boundary_f1(found, mask, label=k) for k in range(1, len(p))]
            )
        }
        if regions is not None:
            row |= _object_scores(p[1], mask, regions[i])
        rows.append(row)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {
        "accuracy": metrics.pixel_accuracy(confusion),
        "iou": metrics.iou(confusion).tolist(),
        "dice": metrics.dice(confusion).tolist(),
        **means,
    }


def _object_scores(p: Tensor, mask: Tensor, truth: Tensor) -> dict[str, float]:
    """Compare the objects that a map of probabilities divides with the true ones."""
    # Where class 1 divides, its pixels are no objects; where it is the objects, they
    # are all there is.
    divides = bool((truth[mask == 1] == 0).all())

    def objects(threshold: float) -> Tensor:
        wall = p > threshold if divides else p <= threshold
        return metrics.regions(wall.long(), thin=divides)

    at = [objects(t / 10) for t in range(1, 10)]
    rand = [metrics.v_rand(segments, truth, walls_alone=True) for segments in at]
    info = [metrics.v_info(segments, truth, walls_alone=True) for segments in at]
    splits, merges = metrics.splits_and_merges(at[4], truth)
    return {
        "v_rand": rand[4],
        "v_info": info[4],
        "v_rand_best": max(rand),
        "v_info_best": max(info),
        "splits": splits,
        "merges": merges,
    }
