"""Picture files of any common kind as arrays, however large they are.

PNG, JPEG, BMP and TIFF; 8 bits, 16 bits or floating point; gray, colour or palette; one
page or many. A TIFF that is stored without compression is mapped, not read, so that it
may be larger than memory. A large one that is compressed is decoded once to a temporary
file, which is mapped.
"""

import logging
import os
import re
import tempfile
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet_edu.checkpoints import NoRoom

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Above this a TIFF is mapped; a thousand small ones are better read than kept open.
SMALL = 2**26
# What a file that only Pillow can decode may take in memory.
MOST = 2**30

READS = (
    "this reads gray (1) and colour (3). Save the channels that matter as gray or "
    "colour."
)

# Modes of Pillow that become red, green and blue.
COLOURED = ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa")

# What tifffile logs about a damaged file is not shown: its error says it, once. A level
# of the logger would be shared by the threads that read; this is not.
_reading = ContextVar("reading", default=False)
logging.getLogger("tifffile").addFilter(lambda record: not _reading.get())


class FolderError(ValueError):
    """A folder of pictures and masks cannot be used; the message says what to do."""


class Picture(NamedTuple):
    """What a file holds.

    ``values`` are (pages, H, W, channels), perhaps a memory map; ``palette`` (n, 3)
    uint8 where they are indices; ``notes`` say what was changed on the way.
    """

    values: np.ndarray
    palette: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def read(path: Path, *, mask: bool = False) -> Picture:
    """Return what a picture file holds: (pages, H, W, 1) gray or (pages, H, W, 3).

    Transparency is dropped and an EXIF orientation applied; both are noted. A TIFF with
    two or four channels has to say that the last one is transparency. The indices of a
    palette are kept for a mask, and turned into colours for a picture.

    Raises OSError or ValueError if the file is missing, damaged, or of a kind that
    cannot be read. Derived in chapter 22.
    """
    path = Path(path)
    with open(path, "rb") as file:
        if not file.read(1):
            raise FolderError("The file is empty: it has no bytes.")
    if not _is_tiff(path):
        return _without_alpha(_read_with_pillow(path, mask))
    before = _reading.set(True)
    try:
        return _without_alpha(_read_tiff(path, mask))
    finally:
        _reading.reset(before)


def _read_with_pillow(path: Path, mask: bool) -> Picture:
    from PIL import Image, ImageOps

    notes = []
    try:
        opened = Image.open(path)
    except Image.DecompressionBombError as error:
        raise FolderError(
            f"{error} Save so large a picture as a TIFF without compression: that is "
            "read piece by piece."
        ) from None
    with opened as image:
        if image.width * image.height * len(image.getbands()) > MOST:
            raise FolderError(
                f"Decoded it would take more than {MOST >> 30} GiB. Save it as a TIFF "
                "without compression: that is read piece by piece."
            )
        pages = []
        for number in range(getattr(image, "n_frames", 1) if _is_tiff(path) else 1):
            image.seek(number)
            _refuse_to_cut(image)
            page = image
            if image.getexif().get(0x0112, 1) != 1:
                page = ImageOps.exif_transpose(image)
                notes.append("turned as its EXIF orientation says")
            palette = _palette(page) if mask and page.mode == "P" else None
            pages.append(_plain(page, palette is not None))
    if len({page.shape for page in pages}) > 1:
        raise FolderError("Its pages have different sizes. Save each as a file.")
    return Picture(np.stack(pages), palette, tuple(notes))


def _refuse_to_cut(image) -> None:
    """Refuse 16 bits in more than one channel, of which Pillow would keep eight.

    Of a camera that counts to 4095 that would leave 16 levels, and nobody would know.
    """
    args = image.tile[0].args if image.tile else ""
    stored = args if isinstance(args, str) else str(args[0])
    if re.search(";16[BLN]$", stored) and not image.mode.startswith("I"):
        raise FolderError(
            "It has 16 bits in each of several channels, and no reader at hand keeps "
            "more than eight of them. Save it as a TIFF without compression, which is "
            "read in full, or with 8 bits."
        )


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def _palette(image) -> np.ndarray:
    colours = np.array(image.getpalette("RGB"), np.uint8)
    return colours.reshape(-1, 3)


def _plain(image, keep_indices: bool) -> np.ndarray:
    """Return (H, W, channels) of an image of Pillow's in any of its modes."""
    if image.mode == "1":
        image = image.convert("L")
    elif not keep_indices and image.mode in COLOURED:
        image = image.convert("RGB")
    array = np.asarray(image)
    return array.reshape(*array.shape[:2], -1)


def _read_tiff(path: Path, mask: bool) -> Picture:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise FolderError("The file is damaged: no picture is found in it.")
        series = file.series[0]
        page = series.keyframe
        if page.photometric.name in ("SEPARATED", "YCBCR", "CIELAB"):
            return _read_with_pillow(path, mask)  # it makes them red, green and blue
        _refuse_unmarked(series)
        coloured = page.photometric == tifffile.PHOTOMETRIC.PALETTE
        palette = None
        if coloured and page.colormap is not None:
            palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
            if not mask:
                return _read_with_pillow(path, mask)
        left_out = len(file.series) - 1
        try:
            values = _values(series, path)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return _decode_elsewhere(path, mask, series)
    values = _in_order(values, series.axes)
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    notes = (f"{left_out} smaller or other pictures in it left out",) * (left_out > 0)
    return Picture(values, palette, notes)


def _refuse_unmarked(series) -> None:
    """Refuse a last channel of two or four that the file does not call transparency.

    Microscopes write one channel a dye; leaving out the last would lose a dye.
    """
    import tifffile

    alpha = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
    marked = series.keyframe.extrasamples
    n = series.shape[_channel(series.axes)] if _channel(series.axes) is not None else 1
    if n in (2, 4) and not (marked and marked[-1] in alpha):
        raise FolderError(
            f"It has {n} channels, and does not say that the last one is transparency; "
            f"{READS}"
        )


def _channel(axes: str) -> int | None:
    """Return the place of the axis of samples or channels, if there is one."""
    return next((i for i, axis in enumerate(axes) if axis in "SC"), None)


def _values(series, path: Path) -> np.ndarray:
    """Read a series of pages, map it, or decode it to a temporary file."""
    import tifffile

    if series.nbytes <= SMALL:
        return series.asarray()
    if series.dataoffset is not None and series.dtype.isnative:
        return tifffile.memmap(path, mode="r")
    out = temporary(series.shape, series.dtype.newbyteorder("="))
    series.asarray(out=out)
    return out


def _decode_elsewhere(path: Path, mask: bool, series) -> Picture:
    """Let Pillow decode what tifffile cannot without a further package."""
    if series.nbytes > MOST:
        raise FolderError(
            f"It is compressed ({series.keyframe.compression.name}) and too large to "
            "be decoded in memory. Save it without compression (in Fiji: File > Save "
            "As > Tiff; with ImageMagick: -compress none), or install imagecodecs."
        )
    return _read_with_pillow(path, mask)


def _in_order(values: np.ndarray, axes: str) -> np.ndarray:
    """Return (pages, H, W, channels), without a copy where the order allows it."""
    channel = _channel(axes)
    rows, columns = axes.index("Y"), axes.index("X")
    order = [i for i in range(values.ndim) if i not in (channel, rows, columns)]
    order += [rows, columns] + ([] if channel is None else [channel])
    values = values.transpose(order)
    n = 1 if channel is None else values.shape[-1]
    height, width = values.shape[-2:] if channel is None else values.shape[-3:-1]
    return values.reshape(-1, height, width, n)


def _without_alpha(picture: Picture) -> Picture:
    values, n = picture.values, picture.values.shape[-1]
    if n not in (1, 2, 3, 4):
        raise FolderError(f"It has {n} channels; {READS}")
    if n in (1, 3):
        return picture
    return picture._replace(
        values=values[..., : n - 1], notes=(*picture.notes, "transparency dropped")
    )


def temporary(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return an array that lives in a temporary file, gone when nobody uses it.

    Raises NoRoom, with what to do, if the disk has no room for it.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile() as file:
        reserve(file.fileno(), size, Path(tempfile.gettempdir()))
        return np.memmap(file, dtype, "r+", shape=shape)


def reserve(descriptor: int, size: int, folder: Path) -> None:
    """Take ``size`` bytes of disk for a file that will be written through a map.

    Without it a full disk would end the program without a word: a write to a map that
    finds no room is no error but a signal. Raises NoRoom if there is none.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.truncate(descriptor, size)
    except OSError as error:
        raise NoRoom(
            error.errno,
            f"There is no room for {size / 2**20:.0f} MiB in {folder} "
            f"({error.strerror}). Free some; for temporary files another folder may "
            "be named by TMPDIR.",
        ) from None


def windows(height: int, width: int, most: int) -> list[tuple[slice, slice]]:
    """Cut a picture into equal parts, none wider or higher than ``most`` pixels."""

    def cuts(side: int) -> list[slice]:
        edges = np.linspace(0, side, -(-side // most) + 1).astype(int)
        return [slice(a, b) for a, b in pairwise(edges.tolist())]

    return [(rows, columns) for rows in cuts(height) for columns in cuts(width)]


def to_channels(values: np.ndarray, n: int) -> np.ndarray:
    """Turn (..., 1) or (..., 3) values into gray or colour, as Pillow weighs colours.

    Shape: (..., channels) to (..., n).
    """
    if values.shape[-1] == n:
        return values
    if n == 3:
        return np.repeat(values, 3, axis=-1)
    if values.dtype == np.uint8:
        # Pillow's integers, so that a gray copy saved by it is read the same.
        parts = values.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        return ((parts + 0x8000) >> 16).astype(np.uint8)[..., None]
    gray = values.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    whole = np.issubdtype(values.dtype, np.integer)
    return (gray.round() if whole else gray).astype(values.dtype)[..., None]


# White and black of each type of number, where nothing was measured.
WHOLE = {"uint8": [0.0, 255.0], "uint16": [0.0, 65535.0], "float32": [0.0, 1.0]}
WHOLE |= {"float64": [0.0, 1.0], "int32": [0.0, 65535.0]}


def scaled(values: np.ndarray, scaling: dict[str, list[float]]) -> np.ndarray:
    """Return float32 in [0, 1]: a type's low becomes 0, its high 1, the rest is cut.

    Args:
        values: an array of any type that ``scaling`` names.
        scaling: name of the type to its low and high value.

    Raises ValueError for a type that is not named, or for NaN. Derived in chapter 22.
    """
    low, high = range_of(values.dtype, scaling)
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values.astype(np.float32) / 255
    x = (values.astype(np.float32) - low) / (high - low)
    if np.isnan(x).any():
        raise FolderError("It holds NaN, which is no brightness.")
    return x.clip(0, 1)


def range_of(dtype: np.dtype, scaling: dict[str, list[float]]) -> tuple[float, float]:
    """Return black and white for a type of numbers, or raise FolderError."""
    if dtype.name not in scaling:
        raise FolderError(
            f"It stores {dtype.name}, but the network was trained on "
            f"{' and '.join(scaling)}: what is white is not known. Save it as one of "
            "these."
        )
    low, high = scaling[dtype.name]
    return low, high
