"""A folder of your own: pictures and masks found, checked, translated, split.

Nothing is guessed in silence. Which file is whose mask, which value is which class,
what belongs together, which file is damaged: each is found from the files, and said.
Where two answers fit, it is an error that lists both.
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unet_edu.blocks import check_at_least, check_choice
from unet_edu.checkpoints import NoRoom
from unet_edu.data import masks as masks_
from unet_edu.data import pictures
from unet_edu.data.masks import Stored, Table, class_names, find_table
from unet_edu.data.pairs import (
    PARTS,
    Found,
    Pair,
    counted,
    find_pairs,
    groups_of,
    listed,
    split_groups,
)
from unet_edu.data.pictures import FolderError

# Warnings about two pictures that are nearly the same; the others are counted.
MOST_TWINS = 5


@dataclass
class Facts:
    """What one pair holds, found by decoding it once."""

    size: tuple[int, int]
    pages: int
    colour: bool
    dtype: str
    sample: np.ndarray
    thumb: np.ndarray
    sha256: tuple[str, str]
    stored: Stored
    notes: list[str]


@dataclass
class File:
    """A pair with all that is known of it."""

    pair: Pair
    group: str
    facts: Facts
    part: str = "train"


def _facts(folder: Path, pair: Pair) -> Facts:
    """Decode a picture and its mask once, window by window, and sum them up.

    Raises FolderError, OSError or ValueError for what cannot be used, NoRoom if the
    disk is full, which is no fault of the picture.
    """
    image_file, mask_file = folder / pair.image, folder / pair.mask
    image, mask = _read(folder, pair.image), _read(folder, pair.mask, mask=True)
    notes = [f"{pair.image}: {note}" for note in image.notes]
    notes += [f"{pair.mask}: {note}" for note in mask.notes]
    _check_sizes(pair, image, mask)
    pages, height, width, _ = image.values.shape
    try:
        stored = masks_.count(mask)
    except FolderError as error:
        raise FolderError(f"{pair.mask}: {error}") from None
    if not all(np.isfinite(block).all() for block in masks_.blocks(image.values)):
        raise FolderError(f"{pair.image}: it holds NaN or infinity.")
    sample, thumb = _sample(image.values)
    return Facts(
        size=(height, width),
        pages=pages,
        colour=has_colour(image.values),
        dtype=image.values.dtype.name,
        sample=sample,
        thumb=thumb,
        sha256=(_sha256(image_file), _sha256(mask_file)),
        stored=stored,
        notes=notes,
    )


def _read(folder: Path, name: str, mask: bool = False) -> pictures.Picture:
    try:
        return pictures.read(folder / name, mask=mask)
    except NoRoom:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them
        raise FolderError(f"{name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _check_sizes(pair: Pair, image: pictures.Picture, mask: pictures.Picture) -> None:
    one, other = image.values.shape, mask.values.shape
    if one[0] != other[0]:
        raise FolderError(
            f"{pair.image} has {one[0]} pages, its mask {pair.mask} has {other[0]}."
        )
    if one[1:3] != other[1:3]:
        turned = any("EXIF" in note for note in (*image.notes, *mask.notes))
        hint = (
            " The picture's EXIF orientation was applied: the mask seems to be drawn "
            "on the unturned picture." if turned else ""
        )  # fmt: skip
        raise FolderError(
            f"{pair.image} is {one[2]}x{one[1]} pixels, its mask {pair.mask} is "
            f"{other[2]}x{other[1]}. They must be equal.{hint}"
        )


def has_colour(values: np.ndarray) -> bool:
    """Say whether the channels of (pages, H, W, channels) differ anywhere."""
    if values.shape[-1] == 1:
        return False
    return any(
        (block[..., 0] != block[..., 1]).any() or (block[..., 1] != block[..., 2]).any()
        for block in masks_.blocks(values)
    )


def _sample(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some 4000 values on a grid, and a gray picture of 64x64 to compare."""
    pages, height, width, _ = values.shape
    page = values[pages // 2]
    step = max(1, int((height * width / 4000) ** 0.5))
    sample = np.asarray(page[::step, ::step], dtype=np.float32).ravel()
    rows = np.linspace(0, height - 1, 64).round().astype(int)
    columns = np.linspace(0, width - 1, 64).round().astype(int)
    thumb = np.asarray(page[rows][:, columns], np.float32).mean(-1)
    return sample, thumb


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# --- All of it: the plan of a run.


@dataclass
class Plan:
    """Files, split, classes and scaling of a folder: all that a run rests on.

    ``asked`` holds the patterns for images, masks and groups that were given, or None.
    """

    folder: Path
    files: list[File]
    table: Table
    scaling: dict[str, list[float]]
    channels: int
    said: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seed: int = 0
    asked: dict[str, str | None] = field(default_factory=dict)

    def part(self, name: str) -> list[File]:
        """Return the files of ``"train"``, ``"val"``, ``"held_out"``, or ``"all"``."""
        check_choice("part", name, (*PARTS, "all"))
        return [file for file in self.files if name in ("all", file.part)]

    def __str__(self) -> str:
        lines = [*self.said, "Values of the masks:", str(self.table)]
        if self.skipped:
            lines.append(f"{counted(len(self.skipped), 'pair')} skipped:")
            lines += [f"  {reason}" for reason in self.skipped]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def to_json(self) -> dict:
        """Return what training, evaluation and prediction need to know again."""
        return {
            "folder": str(self.folder.resolve()),
            "seed": self.seed,
            "asked": self.asked,
            "channels": self.channels,
            "scaling": self.scaling,
            "table": self.table.to_json(),
            "said": self.said,
            "warnings": self.warnings,
            "skipped": self.skipped,
            "files": [
                {
                    "image": file.pair.image,
                    "mask": file.pair.mask,
                    "group": file.group,
                    "part": file.part,
                    "size": list(file.facts.size),
                    "pages": file.facts.pages,
                    "sha256": list(file.facts.sha256),
                }
                for file in self.files
            ],
        }


def scan(
    found: Found, on_error: str = "stop", progress: bool = True
) -> tuple[list[Pair], list[Facts], list[str]]:
    """Open and decode every file once, before anything is trained.

    Args:
        found: the pairs.
        on_error: ``"stop"`` at what cannot be used, naming all of it, or ``"skip"``
            it, naming it too.
        progress: whether to show a bar.

    Returns:
        The pairs that can be used, what they hold, and a line for each that cannot.

    Raises:
        FolderError: with ``"stop"``, or if more than half cannot be used.

    Derived in chapter 22.
    """
    from tqdm import tqdm

    check_choice("on_error", on_error, ("stop", "skip"))

    def look(pair: Pair) -> Facts | str:
        try:
            return _facts(found.folder, pair)
        except FolderError as error:
            return str(error)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looks = pool.map(look, found.pairs)
        bar = tqdm(
            looks, "reading", len(found.pairs), disable=not progress, leave=False
        )
        results = list(bar)
    bad = [result for result in results if isinstance(result, str)]
    n = len(results)
    if bad and (on_error == "stop" or 2 * len(bad) > n):
        most = (
            "" if on_error == "stop" else " That is more than half: too many to skip."
        )
        skip = " Mend them, or leave them out with --on-error skip." if not most else ""
        lines = "".join(f"\n  {reason}" for reason in bad[:20])
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise FolderError(
            f"{len(bad)} of {counted(n, 'pair')} cannot be used.{most}{skip}"
            f"{lines}{more}"
        )
    pairs = [
        p for p, r in zip(found.pairs, results, strict=True) if not isinstance(r, str)
    ]
    return pairs, [r for r in results if not isinstance(r, str)], bad


def prepare(
    folder: Path | str,
    *,
    images: str | None = None,
    masks: str | None = None,
    group: str | None = None,
    mask_above: float | None = None,
    on_error: str = "stop",
    seed: int = 0,
    progress: bool = True,
) -> Plan:
    """Find the pairs of a folder, check every file, split and translate them.

    Args:
        folder: where the files are; a ``classes.txt`` in it names the classes.
        images, masks: patterns, as in :func:`find_pairs`.
        group: regular expression, as in :func:`groups_of`.
        mask_above: mask values above this are the object.
        on_error: as in :func:`scan`.
        seed: of the split.
        progress: whether to show a bar.

    Raises:
        FolderError: with what was found and what to do.

    Derived in chapter 22.
    """
    found = find_pairs(folder, images, masks)
    groups_of(found.pairs, group)  # a wrong pattern is said before the long reading
    pairs, facts, skipped = scan(found, on_error, progress)
    groups, by = groups_of(pairs, group)
    parts = split_groups(groups, [pair.part for pair in pairs], seed)
    files = [
        File(pair, g, f, part)
        for pair, g, f, part in zip(pairs, groups, facts, parts, strict=True)
    ]
    by_mask = {file.pair.mask: file.facts.stored for file in files}
    table, said = find_table(by_mask, class_names(found.folder), mask_above)
    coloured = [file for file in files if file.facts.colour]
    plan = Plan(
        found.folder,
        files,
        table,
        _scaling(file.facts for file in files if file.part == "train"),
        channels=3 if coloured else 1,
        skipped=skipped,
        seed=seed,
        asked={"images": images, "masks": masks, "group": group},
    )
    plan.said = [
        str(found),
        _said_of_channels(files, len(coloured)),
        _said_of_scale(plan),
    ]
    plan.said += _said_of_notes(files) + said + [by, _said_of_split(plan)]
    _check_types(plan)
    plan.warnings = _warnings(plan)
    return plan


def _scaling(facts: Iterable[Facts]) -> dict[str, list[float]]:
    """Return black and white of each type of number: 0 and 255, or measured."""
    samples: dict[str, list[np.ndarray]] = {}
    for one in facts:
        samples.setdefault(one.dtype, []).append(one.sample)
    scaling = {}
    for dtype, found in samples.items():
        low, high = 0.0, 255.0
        if dtype != "uint8":
            ends = np.percentile(np.concatenate(found), [0.1, 99.9])
            low, high = (float(f"{v:.6g}") for v in ends)
        scaling[dtype] = [low, high if high > low else low + 1]
    return scaling


def _check_types(plan: Plan) -> None:
    for file in plan.files:
        if file.facts.dtype not in plan.scaling:
            raise FolderError(
                f"{file.pair.image} stores {file.facts.dtype}, which no training "
                f"picture does ({', '.join(plan.scaling)}). Save all pictures alike."
            )


def _said_of_channels(files: list[File], coloured: int) -> str:
    if not coloured:
        return "All pictures are gray: the network gets 1 channel."
    gray = len(files) - coloured
    some = f", {gray} are gray and are given three equal channels" if gray else ""
    return (
        f"{counted(coloured, 'picture')} in colour{some}: the network gets 3 channels."
    )


def _said_of_scale(plan: Plan) -> str:
    parts = []
    for dtype, (low, high) in plan.scaling.items():
        how = "" if dtype == "uint8" else " (percentiles 0.1 and 99.9 of what trains)"
        parts.append(f"{dtype} from {low:g} to {high:g}{how}")
    return f"Brightness becomes 0 to 1: {'; '.join(parts)}."


def _said_of_notes(files: list[File]) -> list[str]:
    by_note: dict[str, list[str]] = {}
    for file in files:
        for note in file.facts.notes:
            name, _, what = note.partition(": ")
            by_note.setdefault(what, []).append(name)
    return [f"{what}: {listed(names)}" for what, names in by_note.items()]


def _said_of_split(plan: Plan) -> str:
    parts = []
    for name, use in zip(
        PARTS, ["trains", "chooses the epoch", "for the end"], strict=True
    ):
        files = plan.part(name)
        groups = counted(len({file.group for file in files}), "group")
        parts.append(f"{name} {counted(len(files), 'picture')} of {groups} ({use})")
    return "; ".join(parts)


def _warnings(plan: Plan) -> list[str]:
    """Return what does not prevent training but may spoil it."""
    warnings = []
    parts_of: dict[str, set[str]] = {}
    for file in plan.files:
        parts_of.setdefault(file.group, set()).add(file.part)
    torn = [group for group, parts in parts_of.items() if len(parts) > 1]
    if torn:
        warnings.append(
            "the folders put pictures of one group into different parts, so that the "
            f"test is of memory: {listed(torn)}"
        )
    for name in PARTS:
        shares = class_shares(plan, name)
        absent = [plan.table.classes[i] for i in np.flatnonzero(shares == 0)]
        if absent:
            warnings.append(f"no pixel of {listed(absent)} in {name}")
    empty = [
        file.pair.mask
        for file in plan.files
        if len(masks_.as_kind(file.facts.stored, plan.table.kind)) == 1
        and _is_background(plan, file)
    ]
    if empty:
        warnings.append(
            f"{counted(len(empty), 'mask')} all of background: {listed(empty)}"
        )
    # Two that both train spoil no measurement.
    near = [two for two in twins(plan.files) if {f.part for f in two} != {"train"}]
    for one, other in near[:MOST_TWINS]:
        warnings.append(
            f"{one.pair.image} ({one.part}) and {other.pair.image} ({other.part}) are "
            "nearly the same picture but in different groups"
        )
    if len(near) > MOST_TWINS:
        more = len(near) - MOST_TWINS
        warnings.append(f"and {more} more such pairs of nearly the same picture")
    kept_back = {file.group for file in plan.part("held_out")}
    if len(kept_back) == 1:
        warnings.append(
            f"one group is held out, {listed(kept_back)}: its numbers will have no "
            "interval"
        )
    if _looks_numbered(plan):
        warnings.append(
            "the masks look as if objects were numbered one by one, and not by class: "
            "--mask-above 0 makes them one class. If they are classes, list their "
            "names in classes.txt"
        )
    sizes = [file.facts.size for file in plan.files]
    sides = [min(size) for size in sizes]
    if max(sides) > 2 * min(sides):
        warnings.append(
            f"the sizes vary: shorter sides are {min(sides)} to {max(sides)} pixels. "
            "If objects vary as much, bring the pictures to one scale"
        )
    return warnings


def _looks_numbered(plan: Plan) -> bool:
    """Say whether few values without names count up, to another end in other masks."""
    table = plan.table
    if len(table.values) < 3 or table.threshold is not None or table.classes[0] != "0":
        return False
    # An empty mask says nothing: any class may be absent.
    return len(masks_.last_numbers(f.facts.stored for f in plan.files) - {0}) > 1


def _is_background(plan: Plan, file: File) -> bool:
    (value,) = masks_.as_kind(file.facts.stored, plan.table.kind)
    if plan.table.threshold is not None:
        return value <= plan.table.threshold
    return plan.table.values[value] == 0


def class_shares(plan: Plan, part: str) -> np.ndarray:
    """Return the share of each class among the pixels of a part."""
    counts = np.zeros(len(plan.table.classes))
    for file in plan.part(part):
        for value, n in masks_.as_kind(file.facts.stored, plan.table.kind).items():
            if plan.table.threshold is not None:
                counts[int(value > plan.table.threshold)] += n
            else:
                counts[plan.table.values[value]] += n
    return counts / max(1, counts.sum())


def twins(files: Sequence[File], alike: float = 0.995) -> list[tuple[File, File]]:
    """Return pairs of (nearly) identical pictures that are in different groups.

    Compared are the files, and gray pictures of 64x64 by their correlation. A picture
    without structure at that size is only compared as a file.
    """
    thumbs = np.stack([file.facts.thumb.ravel() for file in files])
    thumbs = thumbs - thumbs.mean(1, keepdims=True)
    size = np.linalg.norm(thumbs, axis=1, keepdims=True)
    flat = size[:, 0] < 2 * thumbs.shape[1] ** 0.5
    thumbs = np.where(flat[:, None], 0, thumbs / np.maximum(size, 1e-6))
    found = []
    for i, file in enumerate(files):
        near = thumbs[i + 1 :] @ thumbs[i] > alike
        for j, other in enumerate(files[i + 1 :]):
            same = near[j] or file.facts.sha256[0] == other.facts.sha256[0]
            if same and file.group != other.group:
                found.append((file, other))
    return found


class Folder(Dataset):
    """Pictures of a folder as (image, mask) pairs, each read when it is asked for.

    A picture larger than ``window`` counts as several samples, each read from its place
    in the file; so do the pages of a TIFF. What was read stays in memory up to a limit.

    Shapes: image (channels, H, W) float32 in [0, 1], mask (H, W) int64.

    Args:
        plan: what :func:`prepare` found, or any object with its ``folder``, ``table``,
            ``scaling`` and ``channels``.
        files: those to yield, such as ``plan.part("train")``.
        window: largest side of a sample, in pixels.
        memory: what may be kept of files already read, in bytes.

    Raises FolderError, naming the file, for a file that changed. Derived in chapter 22.
    """

    def __init__(
        self, plan: Plan, files: Sequence[File], window: int = 2048, memory: int = 2**30
    ) -> None:
        check_at_least("window", window, 1)
        self.plan, self.files, self.memory = plan, list(files), memory
        self.samples = [
            (i, page, place)
            for i, file in enumerate(self.files)
            for page in range(file.facts.pages)
            for place in pictures.windows(*file.facts.size, window)
        ]
        self._kept: OrderedDict[int, tuple] = OrderedDict()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        i, page, place = self.samples[index]
        image, mask = self._open(i)
        try:
            x = pictures.to_channels(image.values[page][place], self.plan.channels)
            x = pictures.scaled(x, self.plan.scaling)
            y = self.plan.table.to_classes(mask.values[page][place], mask.palette)
        except FolderError as error:
            pair = self.files[i].pair
            raise FolderError(f"{pair.image}, {pair.mask}: {error}") from None
        return torch.from_numpy(x).permute(2, 0, 1).contiguous(), torch.from_numpy(y)

    def __getstate__(self) -> dict:
        # A process that loads data opens the files itself.
        return self.__dict__ | {"_kept": OrderedDict()}

    def _open(self, i: int) -> tuple[pictures.Picture, pictures.Picture]:
        if i in self._kept:
            self._kept.move_to_end(i)
            return self._kept[i]
        pair, folder = self.files[i].pair, self.plan.folder
        try:
            opened = (
                pictures.read(folder / pair.image),
                pictures.read(folder / pair.mask, mask=True),
            )
        except (OSError, ValueError) as error:
            raise FolderError(f"{pair.image}, {pair.mask}: {_reason(error)}") from None
        for what, picture in zip((pair.image, pair.mask), opened, strict=True):
            if picture.values.shape[1:3] != self.files[i].facts.size:
                raise FolderError(
                    f"{what} has changed its size since it was looked at."
                )
        self._kept[i] = opened
        while len(self._kept) > 1 and self._size_kept() > self.memory:
            self._kept.popitem(last=False)
        return opened

    def _size_kept(self) -> int:
        return sum(
            picture.values.nbytes
            for opened in self._kept.values()
            for picture in opened
            if not isinstance(_base(picture.values), np.memmap)
        )


def _base(values: np.ndarray) -> np.ndarray:
    """Return the array that a view looks at."""
    while not isinstance(values, np.memmap) and isinstance(values.base, np.ndarray):
        values = values.base
    return values


def read_plan(file: Path) -> Plan:
    """Read the plan of a run from its ``dataset.json``: of each file only its size.

    Raises FolderError if the file is missing or no plan.
    """
    if not file.is_file():
        raise FolderError(
            f"There is no {file}: this run was not trained on a folder of yours."
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        files = [_file_from(entry) for entry in record["files"]]
        return Plan(
            Path(record["folder"]),
            files,
            Table.from_json(record["table"]),
            record["scaling"],
            record["channels"],
            record["said"],
            record["warnings"],
            record["skipped"],
            record["seed"],
            record.get("asked", {}),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FolderError(f"{file} is damaged: {_reason(error)}.") from None


def _file_from(entry: dict) -> File:
    nothing = np.empty(0, np.float32)
    facts = Facts(
        size=tuple(entry["size"]),
        pages=entry["pages"],
        colour=False,
        dtype="",
        sample=nothing,
        thumb=nothing,
        sha256=tuple(entry["sha256"]),
        stored=Stored("", {}),
        notes=[],
    )
    return File(
        Pair(entry["image"], entry["mask"]), entry["group"], facts, entry["part"]
    )


def check_unchanged(plan: Plan, files: Sequence[File]) -> None:
    """Raise FolderError if a file is gone or is not what it was, naming all of them."""
    wrong = []
    for file in files:
        for name, known in zip(
            (file.pair.image, file.pair.mask), file.facts.sha256, strict=True
        ):
            path = plan.folder / name
            if not path.is_file():
                wrong.append(f"{name} is gone")
            elif _sha256(path) != known:
                wrong.append(f"{name} has changed")
    if wrong:
        raise FolderError(
            f"{len(wrong)} files of {plan.folder} are not what they were when the "
            f"network was trained: {listed(wrong, 12)}. Put them back, or evaluate a "
            "folder: unet-edu evaluate RUN FOLDER."
        )
