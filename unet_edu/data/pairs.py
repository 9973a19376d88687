"""Which file of a folder is whose mask, and what belongs together: by names alone."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, takewhile
from pathlib import Path, PurePosixPath

import numpy as np

from unet_edu.data.pictures import SUFFIXES, FolderError

PARTS = ("train", "val", "held_out")
IMAGE_FOLDERS = re.compile(
    "images?|imgs?|im|pictures?|photos?|jpegimages|raw|inputs?|x|slices|frames"
)
MASK_FOLDERS = re.compile(
    "masks?|labels?|gts?|ground_?truths?|annotations?|annots?|segs?|segmentations?|"
    "segmentationclass|targets?|manual|y"
)
SPLIT_FOLDERS = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["val", "valid", "validation"], "val"),
    **dict.fromkeys(["test", "testing", "held_out"], "held_out"),
}
# What people add to the name of a picture to name its mask.
MASK_WORD = (
    "masks?|labels?|gt|seg|segm|segmentation|annotation|annot|manual1?|matte|"
    "ground_?truth|1stHO|2ndHO|target"
)
MASK_NAME = re.compile(
    rf"^(?:(?:{MASK_WORD})[-_. ]+(?P<a>.+)|(?P<b>.+)[-_. ]+(?:{MASK_WORD}))$", re.I
)
# Of a folder, where no pair was found and a guess is only proposed.
MASK_HINT = "mask|label|seg|truth|annot|manual|target|matte"
IMAGE_WORD = "images?|img|im|picture|photo|raw|rgb|input"
IMAGE_NAME = re.compile(
    rf"^(?:(?:{IMAGE_WORD})[-_. ]+(?P<a>.+)|(?P<b>.+)[-_. ]+(?:{IMAGE_WORD}))$", re.I
)
BY_HAND = (
    "Say it by hand with two patterns whose stars stand for the same text, such as "
    "images='*.jpg', masks='*_mask.png' (on the command line --images and --masks). A "
    "star stops at a slash; .* at the end is any ending."
)
# Kinds that people take for readable: said, not left out in silence.
OTHER_SUFFIXES = (".gif", ".webp", ".npy", ".json", ".xml", ".svg")


@dataclass(frozen=True)
class Pair:
    """A picture and its mask, by their paths inside the folder.

    ``part`` is set where sub-folders such as ``train`` and ``test`` say it; ``inside``
    are the further sub-folders, such as that of a patient.
    """

    image: str
    mask: str
    part: str | None = None
    inside: tuple[str, ...] = ()


@dataclass
class Found:
    """What was found in a folder; as a text, all there is to know before training."""

    folder: Path
    pairs: list[Pair]
    layouts: list[tuple[str, str, int]]
    without_mask: list[str] = field(default_factory=list)
    without_image: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{counted(len(self.pairs), 'pair')} of picture and mask in {self.folder}"
        ]
        for image, mask, n in self.layouts[:8]:
            lines.append(f"  {image}  with  {mask}  ({n})")
        if len(self.layouts) > 8:
            lines.append(f"  and {len(self.layouts) - 8} further patterns")
        first = self.pairs[0]
        lines.append(f"  for example {first.image} with {first.mask}")
        for names, noun, what in [
            (self.without_mask, "picture", "without a mask, left out"),
            (self.without_image, "mask", "without a picture, left out"),
        ]:
            if names:
                lines.append(f"{counted(len(names), noun)} {what}: {listed(names, 20)}")
        return "\n".join(lines + self.notes)


@dataclass(frozen=True)
class _File:
    """A file by what its path says: whether it is a mask, and what it is called."""

    path: str
    mask: bool
    part: str | None
    inside: tuple[str, ...]
    stem: str

    @property
    def place(self) -> tuple:
        return (self.part, self.inside)


def find_pairs(
    folder: Path | str, images: str | None = None, masks: str | None = None
) -> Found:
    """Find which picture of a folder belongs to which mask, by their names alone.

    Understood are two sub-folders such as ``images`` and ``masks`` with equal names, or
    names that differ by a prefix or suffix; pictures beside their masks, ``a.jpg`` and
    ``a_mask.png``, or ``a.jpg`` and ``a.png``; either of them inside ``train``,
    ``val`` and ``test``, or inside one sub-folder a patient.

    Args:
        folder: where the files are.
        images, masks: two patterns, such as ``"*.jpg"`` and ``"*_mask.png"``, where
            the names are of no such kind. Their stars stand for the same text, without
            a slash; ``.*`` at the end is any ending.

    Raises:
        FolderError: if there is no folder, no pair, or more than one way to pair.

    Derived in chapter 22.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FolderError(f"There is no folder {folder}.")
    everything = _walk(folder)
    paths, notes = _pictures(everything), _notes(everything)
    if not paths:
        raise FolderError(_no_picture(folder, notes))
    if (images is None) != (masks is None):
        raise FolderError("Patterns come in pairs: give both images and masks.")
    if images is not None:
        return replace(_by_patterns(folder, paths, images, masks), notes=notes)
    files = _sorted_out(paths)
    matches = _match(files)
    _check_unique(matches)
    pairs = [
        Pair(files_[0].path, mask.path, mask.part, mask.inside)
        for mask, files_ in matches.items()
        if files_
    ]
    taken = {pair.image for pair in pairs} | {pair.mask for pair in pairs}
    if not pairs:
        raise FolderError(_no_pairs(folder, files))
    pairs.sort(key=lambda pair: _natural(pair.image))
    alone = [file for file in files if file.path not in taken]
    return Found(
        folder,
        pairs,
        _layouts(pairs),
        [file.path for file in alone if not file.mask],
        [file.path for file in alone if file.mask],
        notes,
    )


def pictures_in(
    folder: Path | str, but_not: Path | None = None
) -> tuple[list[str], list[str]]:
    """Return the pictures of a folder, and what is none because its name says mask.

    Paths inside the folder. Files below ``but_not`` are left out.

    Raises FolderError if there is no picture. Used in chapter 22.
    """
    folder = Path(folder)
    inside = but_not.resolve() if but_not else None
    everything = _walk(folder)
    files = [
        file
        for file in _sorted_out(_pictures(everything))
        if not (inside and (folder / file.path).resolve().is_relative_to(inside))
    ]
    found = [file.path for file in files if not file.mask]
    if not found:
        raise FolderError(_no_picture(folder, _notes(everything)))
    return found, [file.path for file in files if file.mask]


def _walk(folder: Path) -> list[str]:
    """Return the files below a folder, in the order in which people count."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        here = Path(root).relative_to(folder)
        found += [(here / name).as_posix() for name in names if name[0] != "."]
    return sorted(found, key=_natural)


def _pictures(paths: list[str]) -> list[str]:
    return [path for path in paths if path.lower().endswith(SUFFIXES)]


def _no_picture(folder: Path, notes: list[str]) -> str:
    read = ", ".join(suffix[1:] for suffix in SUFFIXES)
    return " ".join([f"{folder} holds no picture. Read are {read}.", *notes])


def _notes(paths: list[str]) -> list[str]:
    """Say which files are not read though somebody may think they are."""
    notes = []
    others = [path for path in paths if path.lower().endswith(OTHER_SUFFIXES)]
    if others:
        kinds = listed(sorted({PurePosixPath(path).suffix.lower() for path in others}))
        n = counted(len(others), "file")
        notes.append(f"{n} of other kinds left out: {kinds}.")
    deep = [path for path in paths if PurePosixPath(path).name == "classes.txt"]
    if deep and "classes.txt" not in deep:
        where = str(PurePosixPath(deep[0]).parent)
        notes.append(
            f"classes.txt in {where}/ is not read: put it at the top of the folder."
        )
    return notes


def _natural(name: str) -> list:
    """Sort a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return [(int(p), "") if p.isdigit() else (0, p.lower()) for p in parts] + [name]


def _role(name: str) -> tuple[str | None, str | None]:
    """Return what the name of a folder says: the part, and "image" or "mask"."""
    name = name.lower()
    if name in SPLIT_FOLDERS:
        return SPLIT_FOLDERS[name], None
    first, _, rest = name.replace("-", "_").partition("_")
    part = SPLIT_FOLDERS.get(first)
    what = rest if part else name.replace("-", "_")
    for role, known in [("image", IMAGE_FOLDERS), ("mask", MASK_FOLDERS)]:
        if known.fullmatch(what):
            return part, role
    return None, None


def _sorted_out(paths: list[str]) -> list[_File]:
    """Say of each path whether it is a picture or a mask."""
    known = {path.rsplit(".", 1)[0] for path in paths}
    files = []
    for path in paths:
        pure = PurePosixPath(path)
        part, role, inside = None, None, []
        for name in pure.parts[:-1]:
            its_part, its_role = _role(name)
            part, role = its_part or part, its_role or role
            if not (its_part or its_role):
                inside.append(name)
        base = _without(MASK_NAME, pure.stem)
        if base and role == "image":
            # A mask beside its picture, in a folder that is called "images".
            mask = (pure.parent / base).as_posix() in known
        else:
            mask = role == "mask" or (role is None and base is not None)
        files.append(_File(path, mask, part, tuple(inside), pure.stem))
    return files if any(file.mask for file in files) else _by_suffix(files)


def _by_suffix(files: list[_File]) -> list[_File]:
    """Take a.png for the mask of a.jpg or a.bmp, if the files come in such twos."""
    suffixes: dict[tuple, list[str]] = {}
    for file in files:
        suffix = PurePosixPath(file.path).suffix.lower()
        suffixes.setdefault((*file.place, file.stem), []).append(suffix)
    twos = [sorted(found) for found in suffixes.values() if len(found) > 1]
    if not twos or any(len(two) > 2 or two.count(".png") != 1 for two in twos):
        return files
    return [
        replace(file, mask=True)
        if file.path.lower().endswith(".png")
        and len(suffixes[(*file.place, file.stem)]) == 2
        else file
        for file in files
    ]


def _without(pattern: re.Pattern, stem: str) -> str | None:
    """Return a name without the word that a pattern looks for, or None."""
    found = pattern.match(stem)
    return (found["a"] or found["b"]) if found else None


def _match(files: list[_File]) -> dict[_File, list[_File]]:
    """Return for each mask the pictures that its name fits: one, none, or too many."""
    whole: dict[tuple, list[_File]] = {}
    stripped: dict[tuple, list[_File]] = {}
    for file in files:
        if not file.mask:
            whole.setdefault((*file.place, file.stem), []).append(file)
            base = _without(IMAGE_NAME, file.stem)
            if base:
                stripped.setdefault((*file.place, base), []).append(file)
    masks = [file for file in files if file.mask]
    matches = {}
    for mask in masks:
        base = _without(MASK_NAME, mask.stem) or mask.stem
        keys = [(*mask.place, mask.stem), (*mask.place, base)]
        fits = next((whole[key] for key in keys if key in whole), None)
        matches[mask] = fits or stripped.get((*mask.place, base), [])
    if masks and not any(matches.values()):
        return _by_affix(masks, [file for file in files if not file.mask])
    return matches


def _by_affix(masks: list[_File], images: list[_File]) -> dict[_File, list[_File]]:
    """Match names that differ by one prefix and suffix, the same in all pairs."""
    best: dict[_File, list[_File]] = {}
    for longer, shorter in [(masks, images), (images, masks)]:
        by_name = {(*file.place, file.stem): file for file in shorter}
        first = longer[0]
        for file in shorter:
            before, middle, after = first.stem.partition(file.stem)
            if not middle:
                continue
            found = {}
            for long in longer:
                if long.stem.startswith(before) and long.stem.endswith(after):
                    name = long.stem[len(before) : len(long.stem) - len(after)]
                    if (*long.place, name) in by_name:
                        found[long] = by_name[(*long.place, name)]
            if longer is images:
                found = {mask: image for image, mask in found.items()}
            if len(found) > len([m for m in best.values() if m]):
                best = {mask: [image] for mask, image in found.items()}
    return {mask: best.get(mask, []) for mask in masks}


def _check_unique(matches: dict[_File, list[_File]]) -> None:
    """Raise if a mask fits two pictures, or a picture two masks."""
    masks_of: dict[str, list[str]] = {}
    for mask, fits in matches.items():
        if len(fits) > 1:
            raise FolderError(
                f"The mask {mask.path} fits {len(fits)} pictures: "
                f"{listed([file.path for file in fits])}. {BY_HAND}"
            )
        for image in fits:
            masks_of.setdefault(image.path, []).append(mask.path)
    double = {image: masks for image, masks in masks_of.items() if len(masks) > 1}
    if double:
        image, masks = next(iter(double.items()))
        raise FolderError(
            f"{counted(len(double), 'picture')} with more than one mask, such as "
            f"{image} with {listed(masks)}. {BY_HAND}"
        )


def _no_pairs(folder: Path, files: list[_File]) -> str:
    masks = [file.path for file in files if file.mask]
    images = [file.path for file in files if not file.mask]
    found = [
        f"{counted(len(names), noun)} ({listed(names, 3)})"
        for names, noun in [(images, "picture"), (masks, "mask")]
        if names
    ]
    places = Counter(str(PurePosixPath(file.path).parent) for file in files)
    where = [
        f"{n} {'at the top' if place == '.' else f'in {place}/'}"
        for place, n in places.items()
    ]
    return (
        f"No picture in {folder} could be paired with a mask. By their names there are "
        f"{' and '.join(found)}; {listed(where)}. Expected are sub-folders such as "
        "images/ and masks/ with equal names, or a.jpg beside a_mask.png. "
        f"{_proposal(folder, [file.path for file in files])}{BY_HAND}"
    )


def _proposal(folder: Path, paths: list[str]) -> str:
    """Propose two patterns that pair all files of two folders, if there are such.

    Folders of one name, as each patient has them, count as one.
    """
    places: dict[str, list[str]] = {}
    for path in paths:
        *above, last = PurePosixPath(path).parts[:-1] or [""]
        places.setdefault("".join("*/" for _ in above) + last, []).append(path)
    if len(places) > 20:
        return ""
    for one, two in combinations(places, 2):
        if len(places[one]) != len(places[two]):
            continue
        a, b = (_pattern_of(place, places[place]) for place in (one, two))
        called_mask = [re.search(MASK_HINT, place.lower()) for place in (one, two)]
        if called_mask[0] and not called_mask[1]:
            a, b = b, a
        try:
            fit = len(_by_patterns(folder, paths, a, b).pairs)
        except FolderError:
            continue
        if fit == len(places[one]):
            either = "" if any(called_mask) else ", or the other way round"
            return f"Perhaps images={a!r}, masks={b!r}{either}. "
    return ""


def _pattern_of(place: str, paths: list[str]) -> str:
    """Write the files of a folder as a pattern: what their names share, and a star."""
    stems = [PurePosixPath(path).stem for path in paths]
    before = _beginning(stems).rstrip("0123456789")
    after = _beginning([stem[len(before) :][::-1] for stem in stems])[::-1]
    return f"{place}/{before}*{after.lstrip('0123456789')}.*".lstrip("/")


def _beginning(names: list[str]) -> str:
    """Return the text with which all names begin."""
    alike = (len(set(letters)) == 1 for letters in zip(*names, strict=False))
    return names[0][: sum(takewhile(bool, alike))]


def _by_patterns(folder: Path, paths: list[str], images: str, masks: str) -> Found:
    """Pair the files that two patterns name, by the text that their stars stand for."""
    stars = [pattern.removesuffix(".*").count("*") for pattern in (images, masks)]
    if stars[0] != stars[1] or not stars[0]:
        raise FolderError(
            "Both patterns need the same number of stars, at least one; got "
            f"{images!r} and {masks!r}. A .* at the end is any ending, and no such "
            "star."
        )
    masks_ = _fitting(masks, paths)
    # *.png also fits what *_mask.png fits: a mask is no picture.
    as_masks = set(masks_.values())
    pictures_ = _fitting(images, [path for path in paths if path not in as_masks])
    pairs = []
    for key in sorted(
        pictures_.keys() & masks_.keys(), key=lambda k: _natural("/".join(k))
    ):
        file = _sorted_out([pictures_[key]])[0]
        pairs.append(Pair(file.path, masks_[key], file.part, file.inside))
    if not pairs:
        for_example = f"Files are, for example, {listed(paths, 3)}."
        fits_none = [
            repr(pattern)
            for pattern, fit in [(images, pictures_), (masks, masks_)]
            if not fit
        ]
        if fits_none:
            raise FolderError(
                f"In {folder} no file fits {' or '.join(fits_none)}. Patterns are "
                "relative to the folder and of the whole path in it; a star stops at a "
                f"slash. {for_example}"
            )
        raise FolderError(
            f"In {folder} {images!r} fits {counted(len(pictures_), 'file')} and "
            f"{masks!r} {len(masks_)}, but no two have the same text where the stars "
            f"are. {for_example}"
        )
    return Found(
        folder,
        pairs,
        [(images, masks, len(pairs))],
        [path for key, path in pictures_.items() if key not in masks_],
        [path for key, path in masks_.items() if key not in pictures_],
    )


def _fitting(pattern: str, paths: list[str]) -> dict[tuple[str, ...], str]:
    """Return the paths that a pattern fits, by the text that its stars stand for."""
    start = pattern.removesuffix(".*")
    ending = "" if start == pattern else r"\.[^./]+"
    parts = [re.escape(part) for part in start.split("*")]
    regex = re.compile("([^/]*)".join(parts) + ending)
    found: dict[tuple[str, ...], str] = {}
    for path in paths:
        hit = regex.fullmatch(path)
        if hit and found.setdefault(hit.groups(), path) != path:
            raise FolderError(
                f"{pattern!r} fits both {found[hit.groups()]} and {path}: write their "
                "endings instead of .*"
            )
    return found


def _layouts(pairs: list[Pair]) -> list[tuple[str, str, int]]:
    """Return the pairs as patterns, each with the number of pairs it fits."""
    counted = Counter()
    for pair in pairs:
        image, mask = PurePosixPath(pair.image), PurePosixPath(pair.mask)
        bases = [_without(IMAGE_NAME, image.stem), _without(MASK_NAME, mask.stem)]
        shared = [
            stem
            for stem in (*bases, image.stem, mask.stem)
            if stem and stem in image.stem and stem in mask.stem
        ]
        common = min(shared, key=len, default="")
        patterns = []
        for path in (image, mask):
            folders = ["*" if p in pair.inside else p for p in path.parts[:-1]]
            stem = path.stem.replace(common, "*", 1) if common else path.stem
            patterns.append("/".join([*folders, stem + path.suffix]))
        counted[tuple(patterns)] += 1
    return [(*patterns, n) for patterns, n in counted.most_common()]


def counted(n: int, noun: str) -> str:
    """Write a number with its noun: 1 picture, 2 pictures."""
    return f"{n} {noun}" + "s" * (n != 1)


def listed(names: Iterable, most: int = 6) -> str:
    """Write the first names of a list, and how many more there are."""
    names = list(map(str, names))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# --- What belongs together.


def groups_of(
    pairs: Sequence[Pair], pattern: str | None = None
) -> tuple[list[str], str]:
    """Say for each pair to which group it belongs; a group is never split.

    Pictures of one specimen resemble each other. If some are trained on and others
    tested on, the test is of memory.

    Args:
        pairs: what :func:`find_pairs` found.
        pattern: regular expression that finds the group in the path of a picture: its
            first parenthesis, or all of it. If not given, the sub-folder or else the
            name before its last number, where that gives three groups of several.

    Returns:
        A group for each pair, and a sentence that says how they were found.

    Raises FolderError if the pattern is none or does not fit a path. Derived in
    chapter 22.
    """
    if pattern is not None:
        return _by_regex(pairs, pattern)
    groups, said, ask = _by_names(pairs)
    # An own folder begins the path, a name of a file the last part of it.
    by_folder = any(pair.inside for pair in pairs) and groups == [
        "/".join(pair.inside) for pair in pairs
    ]
    hint = _beginnings(pairs, groups, by_folder)
    return groups, ". ".join(filter(None, [said, hint or ask]))


def _by_names(pairs: Sequence[Pair]) -> tuple[list[str], str, str]:
    """Return groups by sub-folder or name, how they were found, and what to ask."""
    folders = ["/".join(pair.inside) for pair in pairs]
    if len(set(folders)) >= 3:
        n = len(set(folders))
        said = f"{n} groups, one a sub-folder: {listed(sorted(set(folders)))}"
        return folders, said, ""
    names = []
    for pair in pairs:
        stem = PurePosixPath(pair.image).stem
        before = re.match(r"^(.*\D)\d+\D*$", stem)
        name = before[1].rstrip("_-. ") if before else stem
        names.append("/".join([*pair.inside, name or stem]))
    several = [name for name, n in Counter(names).items() if n > 1]
    if len(several) >= 3:
        n = len(set(names))
        said = (
            f"{n} groups, by the name before its last number: {listed(set_of(names))}"
        )
        return names, said, ""
    alone = [pair.image for pair in pairs]
    ask = (
        "If several show one specimen, say so: --group takes a regular expression that "
        "finds it in the path"
    )
    return alone, f"{len(alone)} groups, each picture its own", ask


def _beginnings(pairs: Sequence[Pair], groups: list[str], by_folder: bool) -> str:
    """Say it if several groups begin alike, as specimen_date does, with a pattern.

    The pattern is tried: it joins whole groups, and leaves at least two.
    """
    from_start = by_folder or not any("/" in pair.image for pair in pairs)
    for mark in "_-":
        pattern = f"^[^{mark}]+" if from_start else f"([^/{mark}]+)[^/]*$"
        try:
            begun, _ = _by_regex(pairs, pattern)
        except FolderError:  # a name that begins with the mark
            continue
        joined = set_of(zip(groups, begun, strict=True))
        times = Counter(beginning for _, beginning in joined)
        n = len(set(groups))
        if len(joined) == n and 2 <= len(times) < n:
            return (
                f"{n} groups have {len(times)} beginnings in common, such as "
                f"{times.most_common(1)[0][0]}. If these belong together, say so: "
                f"--group '{pattern}'"
            )
    return ""


def set_of(names: Iterable[str]) -> list[str]:
    """Return each name once, in the order of its first appearance."""
    return list(dict.fromkeys(names))


def _by_regex(pairs: Sequence[Pair], pattern: str) -> tuple[list[str], str]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise FolderError(
            f"{pattern!r} is no regular expression ({error}). Such as '^(.+)_' takes "
            "what stands before the last underscore."
        ) from None
    groups = []
    for pair in pairs:
        found = regex.search(pair.image)
        group = found and (found[1] if regex.groups else found[0])
        if not group:
            raise FolderError(
                f"The group {pattern!r} is not found in the path {pair.image!r}."
            )
        groups.append(group)
    n = len(set(groups))
    return groups, f"{n} groups by {pattern!r}: {listed(set_of(groups))}"


def split_groups(
    groups: Sequence[str], given: Sequence[str | None], seed: int = 0
) -> list[str]:
    """Draw which groups train, which choose the epoch, which give the final numbers.

    60, 20 and 20 % of the groups, at least one each. A part that is ``given`` stays;
    one that is missing is cut from what trains.

    Args:
        groups: of each pair.
        given: the part of each pair that its folder says, or None.
        seed: the same seed draws the same split.

    Returns:
        ``"train"``, ``"val"`` or ``"held_out"`` for each pair.

    Raises FolderError if there are too few groups. Derived in chapter 22.
    """
    missing = [part for part in PARTS[1:] if part not in given]
    parts = [part or "train" for part in given]
    free = set_of(g for g, p in zip(groups, parts, strict=True) if p == "train")
    if len(free) < len(missing) + 1:
        raise FolderError(
            f"Only {counted(len(free), 'group')} to share among training"
            f"{''.join(' and ' + part for part in missing)}: {listed(free) or 'none'}. "
            "Each needs one of its own. Add pictures of other specimens; or, if these "
            "groups are not what belongs together, say what is: --group takes a "
            "regular expression, and --group '.+' makes each picture a group."
        )
    order = np.random.default_rng(seed).permutation(len(free))
    share = max(1, round(0.2 * len(free)))
    # With three groups each part gets one.
    share = min(share, (len(free) - 1) // max(1, len(missing)))
    moved = {}
    for k, part in enumerate(missing):
        for place in order[k * share : (k + 1) * share]:
            moved[free[place]] = part
    return [
        moved.get(group, "train") if part == "train" else part
        for group, part in zip(groups, parts, strict=True)
    ]
