"""What masks store, and which of it is which class."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet_edu.data import pictures
from unet_edu.data.pairs import listed
from unet_edu.data.pictures import FolderError

MOST_CLASSES = 32
# A blurred border has more values than this.
FEW = 10
# What compression may add to 0, or take from 255.
NEAR = 32


class Stored(NamedTuple):
    """What a mask stores: how often each value occurs.

    ``kind`` is ``"values"``, ``"palette"`` (the values are its indices) or
    ``"colours"`` (red, green and blue in one number).
    """

    kind: str
    counts: dict[int, int]
    palette: list[tuple[int, int, int]] | None = None


def blocks(values: np.ndarray, most: int = 2048) -> Iterable[np.ndarray]:
    """Yield the parts of (pages, H, W, channels), each small enough for memory."""
    for page in values:
        for place in pictures.windows(*page.shape[:2], most):
            yield page[place]


def count(mask: pictures.Picture) -> Stored:
    """Count the values of a mask, window by window.

    Raises FolderError for fractions. Derived in chapter 22.
    """
    counts: Counter = Counter()
    colours = mask.values.shape[-1] == 3
    for block in blocks(mask.values):
        block = _codes(block)
        if np.issubdtype(block.dtype, np.floating):
            if not np.array_equal(block, np.round(block)):
                raise FolderError("It holds fractions, which are no classes.")
            block = block.astype(np.int64)
        if block.dtype in (np.uint8, np.uint16):
            found = np.bincount(block.ravel())
            counts.update({int(v): int(found[v]) for v in found.nonzero()[0]})
        else:
            found, n = np.unique(block, return_counts=True)
            counts.update(dict(zip(found.tolist(), n.tolist(), strict=True)))
    kind = "palette" if mask.palette is not None else "colours" if colours else "values"
    if kind == "colours" and all(_gray(code) for code in counts):
        # Gray stored as colour: the same numbers three times.
        return Stored("values", {code & 255: n for code, n in counts.items()})
    palette = None
    if mask.palette is not None:
        palette = [tuple(map(int, colour)) for colour in mask.palette]
    return Stored(kind, dict(counts), palette)


def _codes(block: np.ndarray) -> np.ndarray:
    """Return one whole number a pixel: (H, W, channels) to (H, W)."""
    if block.shape[-1] == 1:
        return np.asarray(block[..., 0])
    red, green, blue = (block[..., i].astype(np.int64) for i in range(3))
    return red << 16 | green << 8 | blue


def _gray(code: int) -> bool:
    return code >> 16 == (code >> 8) & 255 == code & 255


@dataclass
class Table:
    """From what masks store to class indices, and back.

    ``values`` holds for each stored value (a colour is red, green, blue in one number)
    its class; with a ``threshold``, what is above it is class 1.
    """

    kind: str
    values: dict[int, int]
    classes: tuple[str, ...]
    shares: dict[int, float]
    threshold: float | None = None
    palette: list[tuple[int, int, int]] | None = None

    def name(self, value: int) -> str:
        """Write a stored value as people know it."""
        if self.kind == "colours":
            return f"#{value:06x}"
        if self.kind == "palette" and self.palette and value < len(self.palette):
            return "{} (#{:02x}{:02x}{:02x})".format(value, *self.palette[value])
        return str(value)

    def __str__(self) -> str:
        lines = []
        for value, index in self.values.items():
            stored = self.name(value)
            if self.threshold is not None:
                stored = f"{'above' if index else 'up to'} {self.threshold:g}"
            share = f"{100 * self.shares.get(value, 0):.1f} %"
            name = self.classes[index]
            name = "" if name == str(index) else name
            lines.append(f"  {stored:>14} -> {index} {name:12} {share:>7}")
        return "\n".join(lines)

    def to_classes(
        self, stored: np.ndarray, palette: np.ndarray | None = None
    ) -> np.ndarray:
        """Translate what a mask stores, (H, W, channels), to class indices (H, W).

        Raises FolderError for a value that the table does not have.
        """
        if self.kind == "colours":
            if palette is not None:
                stored = palette[stored[..., 0]]
            codes = _codes(pictures.to_channels(stored, 3))
        else:
            codes = np.asarray(stored[..., 0])
        if self.threshold is not None:
            return (codes > self.threshold).astype(np.int64)
        known = np.array(sorted(self.values))
        place = np.searchsorted(known, codes).clip(0, len(known) - 1)
        unknown = codes[known[place] != codes]
        if unknown.size:
            new = [self.name(int(v)) for v in np.unique(unknown)]
            raise FolderError(
                f"It holds {listed(new)}, not seen when the table of values was made. "
                f"Known are {listed(map(self.name, self.values), 12)}."
            )
        return np.array([self.values[int(v)] for v in known], np.int64)[place]

    def to_values(self, mask: np.ndarray) -> np.ndarray:
        """Translate class indices (H, W) back to what the masks store.

        Shape: (H, W), or (H, W, 3) for colours.
        """
        back = np.zeros(len(self.classes), np.int64)
        for value, index in self.values.items():
            back[index] = value
        stored = back[mask]
        if self.kind == "colours":
            return np.stack([stored >> 16, stored >> 8 & 255, stored & 255], -1).astype(
                np.uint8
            )
        return stored.astype(np.uint8 if back.max() < 256 else np.uint16)

    def to_json(self) -> dict:
        """Return all of it as JSON can hold it."""
        pairs = [[int(value), index] for value, index in self.values.items()]
        shares = [self.shares.get(value, 0.0) for value in self.values]
        return {
            "kind": self.kind,
            "values": pairs,
            "classes": list(self.classes),
            "shares": shares,
            "threshold": self.threshold,
            "palette": self.palette,
        }

    @classmethod
    def from_json(cls, record: dict) -> "Table":
        """Read what :meth:`to_json` returned."""
        values = {value: index for value, index in record["values"]}
        shares = dict(zip(values, record["shares"], strict=True))
        palette = record["palette"] and [tuple(c) for c in record["palette"]]
        return cls(
            record["kind"],
            values,
            tuple(record["classes"]),
            shares,
            record["threshold"],
            palette,
        )


def find_table(
    stored: dict[str, Stored],
    names: Sequence[str] | None = None,
    above: float | None = None,
) -> tuple[Table, list[str]]:
    """Find from the values of all masks which value is which class.

    Args:
        stored: name of each mask to what was counted in it.
        names: of the classes, in their order.
        above: a value above this is the object, all others background.

    Returns:
        The table, and sentences about what was decided.

    Raises FolderError where the values say nothing clear. Derived in chapter 22.
    """
    kind, palette = _one_kind(stored)
    total: Counter = Counter()
    for one in stored.values():
        total.update(as_kind(one, kind))
    values, pixels = sorted(total), sum(total.values())
    if above is not None:
        if kind == "colours":
            raise FolderError("--mask-above compares numbers; these masks are colours.")
        return _thresholded(total, above, names), [
            f"values above {above:g} are class 1"
        ]
    if kind != "colours":
        _check_ignore(values)
    named = names is not None and len(values) <= len(names)
    if kind == "values" and not named and _at_the_ends(total):
        if len(values) <= FEW:
            _check_apart(total)
        else:
            said = (
                f"the masks hold {len(values)} values, nearly all close to 0 or to "
                "255: compression or smoothing blurred their borders. Above 127 is "
                "taken as 255"
            )
            return _thresholded(total, 127, names), [said]
    _check_values(stored, kind, values, names)
    order = _class_order(kind, values, total, names)
    shares = {value: total[value] / pixels for value in order}
    n = max(order.values()) + 1
    return Table(kind, order, _names(n, names), shares, palette=palette), []


def _one_kind(stored: dict[str, Stored]) -> tuple[str, list | None]:
    """Return how all masks can be read, and the palette that they share."""
    kinds = {one.kind for one in stored.values()}
    if kinds == {"palette"}:
        palettes = [one.palette for one in stored.values()]
        used = sorted({value for one in stored.values() for value in one.counts})
        first = max(palettes, key=len)
        same = all(
            value >= len(p) or p[value] == first[value]
            for p in palettes
            for value in used
        )
        # Where two files mean different colours by one index, the colours count.
        return ("palette", first) if same else ("colours", None)
    return ("values", None) if kinds == {"values"} else ("colours", None)


def as_kind(one: Stored, kind: str) -> dict[int, int]:
    """Return the counts of a mask with its values as values or as colours."""
    if kind != "colours" or one.kind == "colours":
        return one.counts
    counts: Counter = Counter()
    for value, n in one.counts.items():
        if one.kind == "palette":
            red, green, blue = one.palette[value]
            counts[red << 16 | green << 8 | blue] += n
        else:
            counts[value * 0x010101] += n
    return counts


def _at_the_ends(total: Counter) -> bool:
    """Say whether nearly all pixels are close to 0 or to 255, and some to each."""
    if min(total) < 0 or max(total) > 255:
        return False
    pixels = sum(total.values())
    low = sum(n for value, n in total.items() if value <= NEAR)
    high = sum(n for value, n in total.items() if value >= 255 - NEAR)
    between = pixels - low - high
    return low + high > 0.85 * pixels and low > 0 and high > between


def _check_apart(total: Counter) -> None:
    """Raise FolderError if few values crowd at 0 and 255: classes, or off by one."""
    if sum(not NEAR < value < 255 - NEAR for value in total) <= 2:
        return
    pixels = sum(total.values())
    found = [f"{v} ({100 * total[v] / pixels:.2g} %)" for v in sorted(total)]
    raise FolderError(
        f"The masks hold {len(total)} values: {listed(found, FEW)}. Some differ so "
        "little that they may be classes or mistakes. If each is a class, list their "
        "names in classes.txt, one a line. If there are only object and background, "
        "--mask-above 127 takes what is above 127 as the object."
    )


def _thresholded(total: Counter, above: float, names: Sequence[str] | None) -> Table:
    pixels = sum(total.values())
    share = sum(n for value, n in total.items() if value > above) / pixels
    if share in (0, 1):
        raise FolderError(
            f"{'All' if share else 'No'} values of the masks are above {above:g}: they "
            f"reach from {min(total)} to {max(total)}."
        )
    high = 255 if max(total) > 1 else 1
    shares = {0: 1 - share, high: share}
    return Table("values", {0: 0, high: 1}, _names(2, names), shares, threshold=above)


def _check_ignore(values: list[int]) -> None:
    """Raise FolderError if 255 stands alone, far above the indices of classes."""
    if len(values) > 2 and values[-1] == 255 and 0 <= values[-2] <= MOST_CLASSES:
        raise FolderError(
            f"The masks hold values up to {values[-2]} and 255, which often marks "
            "pixels to ignore. That is not supported: write a class into them, for "
            "example background, with mask[mask == 255] = 0, and save the masks again."
        )


def _check_values(
    stored: dict[str, Stored], kind: str, values: list[int], names: Sequence[str] | None
) -> None:
    """Raise FolderError for values that are no classes, with what to do."""
    if len(values) == 1:
        raise FolderError(
            f"All masks hold one value, {values[0]}: there is nothing to tell apart."
        )
    if kind == "colours":
        if len(values) > MOST_CLASSES:
            raise FolderError(
                f"The masks hold {len(values)} colours. If they were saved as JPEG, "
                "compression made new ones at every border: save them as PNG again."
            )
        return
    if names is not None and len(values) <= len(names):
        return
    # Three different last numbers: two could be classes of which one is rare.
    last = last_numbers(stored.values())
    numbered = len(values) > 8 and len(last) >= min(3, len(stored))
    if len(values) > MOST_CLASSES or numbered:
        raise FolderError(
            f"The masks hold {len(values)} values, from {values[0]} to {values[-1]}, "
            "as if each object had its own number. This learns classes: with "
            "--mask-above 0 every object becomes class 1. If they are classes, list "
            "their names in classes.txt, one a line."
        )


def last_numbers(stored: Iterable[Stored]) -> set[int]:
    """Return the highest values of masks that each hold 1, 2, 3 and so on, no gap.

    Of masks that do not, nothing. Several different ones look like numbered objects.
    """
    last = set()
    for one in stored:
        found = sorted(set(one.counts) - {0})
        if found != list(range(1, len(found) + 1)):
            return set()
        last.add(len(found))
    return last


def check_known(table: Table, stored: Stored, name: str) -> None:
    """Raise FolderError, naming file and values, if a mask holds what is not known."""
    if table.threshold is not None:
        return
    new = [v for v in as_kind(stored, table.kind) if v not in table.values]
    if len(new) > FEW:
        raise FolderError(
            f"{name} holds {len(stored.counts)} values, such as "
            f"{listed(map(table.name, new), 3)}; the masks of training held "
            f"{listed(map(table.name, table.values), 12)}. Was it blurred, by "
            "compression (JPEG) or by resizing? Save the masks as PNG, from what they "
            "were made of."
        )
    if new:
        raise FolderError(
            f"{name} holds {listed(map(table.name, new))}, not seen in training. Known "
            f"are {listed(map(table.name, table.values), 12)}."
        )
    if table.kind == "palette" and stored.palette and table.palette:
        other = [v for v in stored.counts if stored.palette[v] != table.palette[v]]
        if other:
            raise FolderError(
                f"{name} has another palette than the masks of training: {other[0]} is "
                f"{stored.palette[other[0]]}, was {table.palette[other[0]]}."
            )


def _class_order(
    kind: str, values: list[int], total: Counter, names: Sequence[str] | None
) -> dict[int, int]:
    """Return the class of each stored value."""
    if kind == "colours":
        first = 0 if 0 in values else max(values, key=total.__getitem__)
        values = [first] + [value for value in values if value != first]
    elif names is not None and len(values) < len(names) and values[-1] < len(names):
        # Already indices of the named classes, of which some never occur.
        return {value: value for value in range(len(names))}
    return {value: index for index, value in enumerate(values)}


def _names(n: int, names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return ("background", "object") if n == 2 else tuple(map(str, range(n)))
    if len(names) != n:
        raise FolderError(
            f"classes.txt names {len(names)} classes ({listed(names)}), the masks hold "
            f"{n}. One name a line, the first for class 0."
        )
    return tuple(names)


def class_names(folder: Path) -> list[str] | None:
    """Return the names in a folder's ``classes.txt``, one a line, if there is one."""
    file = folder / "classes.txt"
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()]
