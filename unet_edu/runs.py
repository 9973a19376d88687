"""A run on a folder of your own: what is written beside the weights, and its use.

``dataset.json`` holds what training rested on: files, split, table of values, scaling.
Evaluation and prediction read it, so that they see pictures as training did.
"""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from unet_edu import metrics
from unet_edu.checkpoints import load_model, write_atomically, write_json
from unet_edu.data import folder as data_folder
from unet_edu.data import masks as data_masks
from unet_edu.data import pictures
from unet_edu.data.folder import File, Folder, Plan
from unet_edu.data.masks import Table
from unet_edu.data.pairs import counted, find_pairs, groups_of, listed, pictures_in
from unet_edu.data.pictures import FolderError
from unet_edu.inference import predict, predict_tiled

DATASET, SANITY, REPORT = "dataset.json", "sanity.html", "report.html"
VERSIONS = ("torch", "numpy", "pillow", "tifffile", "scikit-image")
# A picture with a longer side is predicted tile by tile, and its overlay made smaller.
LARGE, TILE = 2048, 512
DRAWS = 2000


def is_main() -> bool:
    """Say whether this process is the one that prints and writes, under torchrun."""
    return os.environ.get("RANK", "0") == "0"


# --- Training.


def begin(out: Path, plan: Plan, resume: bool = False) -> None:
    """Write the sanity page and what the run rests on, before anything is trained.

    Raises:
        FileExistsError: if ``out`` holds a run that is not to go on.
        FolderError: if the run that is to go on had other files, split or classes.

    Derived in chapter 22.
    """
    from unet_edu.report import sanity_page

    kept = any(out.glob("epoch-[0-9]*"))
    if kept and not resume:
        raise FileExistsError(
            f"{out} holds a run. Pass --resume to go on with it, or choose another "
            "folder."
        )
    if kept:
        _check_same(out, plan)
    if is_main():
        sanity_page(plan, out / SANITY)
        write_json(out / DATASET, plan.to_json())


def _check_same(out: Path, plan: Plan) -> None:
    """Raise FolderError if a run was begun with other data."""
    before, now = data_folder.read_plan(out / DATASET).to_json(), plan.to_json()
    for what in ("files", "table", "scaling", "channels"):
        if before[what] != now[what]:
            raise FolderError(
                f"The run in {out} was begun with other {what}: pictures, masks or "
                "options have changed since. Choose another folder for a new run."
            )


def parts(plan: Plan) -> tuple[Folder, Folder, tuple[str, ...]]:
    """Return what trains, what chooses the epoch, and the names of the classes."""
    train, val = (Folder(plan, plan.part(name)) for name in ("train", "val"))
    return train, val, plan.table.classes


def crop_for(plan: Plan, crop: int, depth: int) -> tuple[int, str | None]:
    """Return the side of the training pieces that fits all pictures, and what to say.

    Raises FolderError if a picture is too small for the network.
    """
    files = plan.part("train")
    smallest = min(files, key=lambda file: min(file.facts.size))
    side, step = min(smallest.facts.size), 2**depth
    if crop <= side:
        return crop, None
    fits = side // step * step
    height, width = smallest.facts.size
    if not fits:
        raise FolderError(
            f"{smallest.pair.image} is {width}x{height} pixels. A network of depth "
            f"{depth} needs at least {step} on each side: use a smaller --depth."
        )
    return fits, (
        f"Pieces of {fits} pixels instead of {crop}: {smallest.pair.image} is only "
        f"{width}x{height}."
    )


def finish(
    out: Path, plan: Plan, history: Sequence[dict], settings: dict[str, object]
) -> dict:
    """Measure the best weights on what was kept back, and write the report.

    Returns what :func:`measure` returned. Derived in chapter 22.
    """
    from unet_edu.report import report_page

    model = on_best_device(load_model(out / "best.safetensors"))
    files = plan.part("held_out")
    result = measure(model, plan, files)
    cases = [
        (title, *_case(model, Folder(plan, files), index))
        for title, index in _chosen(result, plan)
    ]
    report_page(out / REPORT, plan, result, cases, history, settings | versions())
    write_json(out / "evaluation-held_out.json", result)
    return result


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    found = {name: metadata.version(name) for name in VERSIONS}
    return {"python": platform.python_version()} | found


def on_best_device(model: nn.Module) -> nn.Module:
    """Move a model to the GPU if there is one."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


# --- Measuring.


def measure(
    model: nn.Module, plan: Plan, files: Sequence[File], progress: bool = True
) -> dict:
    """Return how right a network is on some files, by class and by picture.

    IoU and Dice rest on all pixels together. Their 95 % intervals come from drawing
    the groups again with replacement: pictures of one group are no independent
    evidence. With one group there is no interval.

    Returns:
        ``classes``: for each class IoU and Dice with their intervals, the IoU of
        calling every pixel by the most frequent class, and the mean boundary F1.
        ``pictures``: image, group, IoU by class and score, the mean IoU of all classes
        but the first. ``samples``: the score of each sample of :class:`Folder`.
        ``conditions`` and ``summary``: sentences.

    Raises FolderError if there is no file. Derived in chapter 22.
    """
    if not files:
        raise FolderError("There is no picture to measure on.")
    data = Folder(plan, files)
    n_classes = len(plan.table.classes)
    by_file = torch.zeros(len(files), n_classes, n_classes, dtype=torch.int64)
    samples, boundaries = [], []
    for k in tqdm(range(len(data)), "measuring", disable=not progress, leave=False):
        _, mask, found = _case(model, data, k)
        confusion = metrics.confusion_matrix(found, mask, n_classes)
        by_file[data.samples[k][0]] += confusion
        samples.append(_score(confusion))
        boundaries.append(
            [metrics.boundary_f1(found, mask, label=i) for i in range(n_classes)]
        )
    groups = [file.group for file in files]
    return {
        "summary": _summary(by_file.sum(0), plan, files),
        "conditions": _conditions(files),
        "classes": _class_rows(by_file, groups, plan, np.array(boundaries)),
        "pictures": [
            {
                "image": file.pair.image,
                "group": file.group,
                "iou": _nan_to_none(metrics.iou(confusion).tolist()),
                "score": _score(confusion),
            }
            for file, confusion in zip(files, by_file, strict=True)
        ],
        "samples": samples,
    }


def _case(model: nn.Module, data: Folder, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return image, mask and prediction of one sample."""
    image, mask = data[k]
    return image, mask, predict(model, image[None]).argmax(1)[0].cpu()


def _score(confusion: Tensor) -> float:
    """Return the mean IoU without class 0; 1 where nothing is and nothing was found."""
    value = metrics.mean_over_present(metrics.iou(confusion)[1:])
    return 1.0 if np.isnan(value) else value


def _nan_to_none(values: list[float]) -> list[float | None]:
    return [None if np.isnan(v) else v for v in values]


def _conditions(files: Sequence[File]) -> str:
    n_groups = len({file.group for file in files})
    if n_groups == 1:
        interval = "They are one group, which gives no interval."
    else:
        interval = (
            f"In brackets 95 % intervals: the {n_groups} groups drawn again {DRAWS} "
            "times."
        )
        if n_groups < 10:
            interval += " With so few groups they are too narrow."
    return f"{_of(files)}, {_seen(files) or 'never trained on'}. {interval}"


def _of(files: Sequence[File]) -> str:
    groups = {file.group for file in files}
    return f"{counted(len(files), 'picture')} of {counted(len(groups), 'group')}"


def _seen(files: Sequence[File]) -> str:
    """Say how many pictures training has used, and what that makes of the result."""
    trained, chose = (
        sum(file.part == part for file in files) for part in ("train", "val")
    )
    if trained:
        also = f" and {chose} used to choose the epoch" if chose else ""
        return f"{trained} of them trained on{also}: this measures memory"
    if chose:
        return f"{chose} of them used to choose the epoch: this flatters"
    return ""


def _summary(confusion: Tensor, plan: Plan, files: Sequence[File]) -> str:
    iou = metrics.iou(confusion)
    seen = _seen(files)
    kept = f", {seen}," if seen else " that were kept back,"
    return (
        f"On {_of(files)}{kept} the mean IoU of {listed(plan.table.classes[1:])} is "
        f"{metrics.mean_over_present(iou[1:]):.3f}."
    )


def _class_rows(
    by_file: Tensor, groups: list[str], plan: Plan, boundaries: np.ndarray
) -> list[dict]:
    total = by_file.sum(0)
    trivial = torch.zeros_like(total)
    trivial[:, total.sum(1).argmax()] = total.sum(1)
    trivial_iou = _nan_to_none(metrics.iou(trivial).tolist())
    bounds = {f: _intervals(by_file, groups, f) for f in (metrics.iou, metrics.dice)}
    rows = []
    for i, name in enumerate(plan.table.classes):
        near = boundaries[:, i]
        near = float(np.nanmean(near)) if np.isfinite(near).any() else None
        rows.append(
            {
                "name": name,
                "iou": bounds[metrics.iou][i],
                "dice": bounds[metrics.dice][i],
                "trivial": trivial_iou[i],
                "boundary_f1": near,
            }
        )
    return rows


def _intervals(
    by_file: Tensor, groups: list[str], metric: Callable[[Tensor], Tensor]
) -> list[dict]:
    """Return a metric of all pixels by class, with what drawing groups makes of it."""
    names = sorted(set(groups))
    rows = torch.tensor([names.index(group) for group in groups])
    n_classes = by_file.shape[1]
    by_group = torch.zeros(len(names), n_classes, n_classes, dtype=torch.int64)
    by_group.index_add_(0, rows, by_file)
    values = _nan_to_none(metric(by_file.sum(0)).tolist())
    if len(names) == 1:
        return [{"value": v, "low": None, "high": None} for v in values]
    drawn = np.random.default_rng(0).integers(len(names), size=(DRAWS, len(names)))
    found = torch.stack([metric(by_group[draw].sum(0)) for draw in drawn]).numpy()
    ends = []
    for column in found.T:
        known = column[~np.isnan(column)]
        ends.append(
            np.percentile(known, [2.5, 97.5]).tolist() if len(known) else [None] * 2
        )
    return [
        {"value": value, "low": low, "high": high}
        for value, (low, high) in zip(values, ends, strict=True)
    ]


def _chosen(result: dict, plan: Plan) -> list[tuple[str, int]]:
    """Choose best, median and worst sample, each at most once."""
    order = np.argsort(result["samples"], kind="stable")[::-1]
    places = [("Best", 0), ("Median", len(order) // 2), ("Worst", len(order) - 1)]
    data = Folder(plan, plan.part("held_out"))
    chosen: dict[int, str] = {}
    for title, place in places:
        k = int(order[place])
        i, page, (rows, columns) = data.samples[k]
        where = data.files[i].pair.image
        if data.files[i].facts.pages > 1:
            where += f", page {page + 1}"
        if (rows.start, columns.start) != (0, 0):
            where += f", from row {rows.start}, column {columns.start}"
        chosen.setdefault(k, f"{title}: {where}, score {result['samples'][k]:.3f}")
    return [(title, k) for k, title in chosen.items()]


def evaluation_plan(
    run: Path,
    folder: Path | None,
    *,
    images: str | None = None,
    masks: str | None = None,
    group: str | None = None,
    on_error: str = "stop",
) -> Plan:
    """Return what a run is to be evaluated on, translated as in its training.

    Without a folder what was kept back, each file unchanged; with one all its pairs,
    by the patterns of the training where none are given. A picture that training used,
    by its bytes, keeps its part, and is warned of.

    Raises FolderError for files that changed, or values that training never saw.
    """
    known = data_folder.read_plan(run / DATASET)
    if folder is None:
        data_folder.check_unchanged(known, known.part("held_out"))
        return known
    given = {"images": images, "masks": masks, "group": group}
    ours = known.asked | {name: v for name, v in given.items() if v is not None}
    try:
        found = find_pairs(folder, ours.get("images"), ours.get("masks"))
        groups_of(found.pairs, ours.get("group"))
    except FolderError as error:
        names = [name for name, v in ours.items() if v is not None and v != given[name]]
        if not names:
            raise
        taken = ", ".join(f"--{name} {ours[name]!r}" for name in names)
        raise FolderError(
            f"{error} As in the training {taken} was used: give another if this folder "
            "is named otherwise."
        ) from None
    pairs, facts, skipped = data_folder.scan(found, on_error)
    for pair, one in zip(pairs, facts, strict=True):
        data_masks.check_known(known.table, one.stored, pair.mask)
        try:
            pictures.range_of(np.dtype(one.dtype), known.scaling)
        except FolderError as error:
            raise FolderError(f"{pair.image}: {error}") from None
    groups, said = groups_of(pairs, ours.get("group"))
    # Of two that are equal the one that trained counts: it is the last written.
    part_of = {
        file.facts.sha256[0]: part
        for part in ("held_out", "val", "train")
        for file in known.part(part)
    }
    files = [
        File(pair, name, one, part_of.get(one.sha256[0], "held_out"))
        for pair, name, one in zip(pairs, groups, facts, strict=True)
    ]
    used = [file.pair.image for file in files if file.part != "held_out"]
    warnings = [
        f"{len(used)} of {counted(len(files), 'picture')} were used in training, byte "
        f"for byte: {listed(used)}"
    ]
    return Plan(
        folder,
        files,
        known.table,
        known.scaling,
        known.channels,
        said=[str(found), said],
        warnings=warnings if used else [],
        skipped=skipped,
        asked=ours,
    )


# --- Prediction.


class Written(NamedTuple):
    """What became of a picture: its files, and what should be said of it.

    ``channels`` is how many the picture had where the network takes another number,
    else None; ``warning`` is empty where there is none.
    """

    mask: Path
    overlay: Path
    replaced: bool
    channels: int | None
    warning: str


class Eye(NamedTuple):
    """How a network sees: the scaling of its pictures, and what its classes were."""

    scaling: dict[str, list[float]]
    table: Table | None


def eye_of(run: Path) -> Eye:
    """Return how the network of a run saw in training; else black 0 and white full."""
    file = run / DATASET
    if run.is_dir() and file.is_file():
        plan = data_folder.read_plan(file)
        return Eye(plan.scaling, plan.table)
    return Eye(pictures.WHOLE, None)


def jobs_of(
    paths: Iterable[Path], out: Path
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Return each picture with the beginning of its results' names below ``out``.

    Of a folder all pictures, with its sub-folders; what a folder's names call masks is
    returned beside them. Raises ValueError if two results
    would have one name.
    """
    jobs: list[tuple[Path, Path]] = []
    left_out: list[str] = []
    for path in paths:
        if path.is_dir():
            names, masks = pictures_in(path, but_not=out)
            left_out += masks
            jobs += [(path / name, Path(name).with_suffix("")) for name in names]
        else:
            jobs.append((path, Path(path.stem)))
    by_target: dict[Path, Path] = {}
    for file, target in jobs:
        if target in by_target:
            raise ValueError(
                f"Two pictures have one name: the masks of {by_target[target]} and "
                f"{file} would collide. Predict them into two folders."
            )
        by_target[target] = file
    return jobs, left_out


def predict_file(
    model: nn.Module,
    eye: Eye,
    file: Path,
    target: Path,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    values: bool = False,
) -> Written:
    """Write the mask of a picture file, and a picture to look at.

    A mask is a PNG of class indices, or with ``values`` of what the masks of training
    stored; of a TIFF with several pages, or a large one, a TIFF. What is large is
    predicted tile by tile and never whole in memory.

    Returns what was written, and what to say of it. Raises OSError or ValueError if the
    file cannot be used or the disk is full. Derived in chapter 22.
    """
    picture = pictures.read(file)
    pages, height, width, _ = picture.values.shape
    pictures.range_of(picture.values.dtype, eye.scaling)
    table = eye.table if values else None
    look = target.with_name(f"{target.name}-overlay.png")
    # The page to look at, made small.
    shown, step = pages // 2, -(-max(height, width) // LARGE)
    kept = []

    def segment(page: int) -> np.ndarray:
        mask = _segment(model, eye, picture.values[page], tile, overlap)
        if page == shown:
            kept.append(np.array(mask[::step, ::step]))
        return mask

    small = pages == 1 and max(height, width) <= LARGE
    labels = target.with_name(f"{target.name}-mask.{'png' if small else 'tif'}")
    replaced = labels.exists()
    if small:
        image = _as_image(segment(0), table)
        write_atomically(labels, lambda f: image.save(f, format="PNG"))
    else:
        write_atomically(
            labels, lambda f: _write_tiff(f, (pages, height, width), segment, table)
        )
    part = picture.values[shown][::step, ::step]
    seen = pictures.scaled(pictures.to_channels(part, model.n_channels), eye.scaling)
    write_atomically(look, lambda f: _overlay(f, seen, kept[0]))
    return Written(
        labels,
        look,
        replaced,
        _other_channels(picture.values, model.n_channels),
        _outside(part, eye),
    )


def _other_channels(values: np.ndarray, n: int) -> int | None:
    """Return how many channels a picture has, if a network of ``n`` loses or adds some.

    Gray stored as colour loses nothing.
    """
    channels = values.shape[-1]
    if channels == n or (channels == 3 and not data_folder.has_colour(values)):
        return None
    return channels


def _outside(values: np.ndarray, eye: Eye) -> str:
    """Return a warning if most of a picture would be plain black or plain white."""
    low, high = pictures.range_of(values.dtype, eye.scaling)
    if values.dtype == np.uint8 or np.mean((values < low) | (values > high)) <= 0.5:
        return ""
    known = "was seen in training" if eye.table else "the network takes"
    return (
        f"its brightness lies outside what {known}: it reaches from "
        f"{values.min():g} to {values.max():g}, there from {low:g} to {high:g}. The "
        "mask may be worth nothing"
    )


def _segment(
    model: nn.Module, eye: Eye, page: np.ndarray, tile: int | None, overlap: int | None
) -> np.ndarray:
    """Return the class indices (H, W) uint8 of a page (H, W, channels)."""
    height, width = page.shape[:2]
    large = max(height, width) > LARGE
    if tile is None and not (large and hasattr(model, "output_size")):
        x = pictures.scaled(pictures.to_channels(page, model.n_channels), eye.scaling)
        x = torch.from_numpy(x).permute(2, 0, 1)
        return predict(model, x[None]).argmax(1)[0].byte().cpu().numpy()
    image = _for_tiles(model.n_channels, eye, page)
    room = pictures.temporary if large else np.empty
    mask = room((height, width), np.uint8)
    tile = TILE if tile is None else tile
    predict_tiled(model, image, tile, overlap, out=mask, progress=large)
    return mask


def _for_tiles(n_channels: int, eye: Eye, page: np.ndarray) -> np.ndarray:
    """Return a page as (channels, H, W): as it lies in the file, or scaled on disk."""
    height, width, n = page.shape
    low, high = pictures.range_of(page.dtype, eye.scaling)
    if page.dtype == np.uint8 and n == n_channels and (low, high) == (0, 255):
        return page.transpose(2, 0, 1)
    large = max(height, width) > LARGE
    room = pictures.temporary if large else np.empty
    image = room((n_channels, height, width), np.float32)
    for top in range(0, height, 512):
        rows = slice(top, top + 512)
        part = pictures.to_channels(page[rows], n_channels)
        image[:, rows] = pictures.scaled(part, eye.scaling).transpose(2, 0, 1)
    return image


def _as_image(mask: np.ndarray, table: Table | None):
    """Return a mask as an image of Pillow's, of class indices or original values."""
    from PIL import Image

    if table is None:
        return Image.fromarray(mask)
    image = Image.fromarray(table.to_values(mask))
    if table.kind == "palette" and table.palette:
        image.putpalette([part for colour in table.palette for part in colour])
    return image


def _write_tiff(
    file: Path,
    shape: tuple[int, int, int],
    segment: Callable[[int], np.ndarray],
    table: Table | None,
) -> None:
    """Write the masks of all pages, page by page, strip by strip."""
    import tifffile

    one = np.zeros((1, 1), np.uint8)
    like = one if table is None else table.to_values(one)
    coloured = like.ndim == 3
    out = tifffile.memmap(
        file,
        shape=(*shape, 3) if coloured else shape,
        dtype=like.dtype,
        photometric="rgb" if coloured else "minisblack",
        metadata=None,
    )
    with open(file, "r+b") as opened:
        pictures.reserve(opened.fileno(), file.stat().st_size, file.parent)
    out = out.reshape(*shape, *like.shape[2:])
    for page in range(shape[0]):
        mask = segment(page)
        for top in range(0, shape[1], 512):
            rows = mask[top : top + 512]
            out[page, top : top + 512] = (
                rows if table is None else table.to_values(rows)
            )
    out.flush()


def _overlay(file: Path, picture: np.ndarray, mask: np.ndarray) -> None:
    """Paint every class but the first over a picture (H, W, 1 or 3) in [0, 1]."""
    from PIL import Image, ImageColor

    from unet_edu.plotting import CLASSES

    gray = picture.shape[-1] == 1
    colour = np.repeat(picture, 3, -1) if gray else picture.copy()
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
