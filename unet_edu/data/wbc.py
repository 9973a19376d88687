"""WBC: three hundred white blood cells in colour, each with nucleus and cytoplasm.

One cell a picture, 88 to 120 pixels wide, cut from microscope photographs of stained
blood. Three classes; in every picture each of them occurs. The files of a mask store
0, 128 and 255; here they are 0 *ground*, 1 *cytoplasm*, 2 *nucleus*.

Pictures 1 to 200 have a yellow ground, 201 to 300 a white one: two stains or two
cameras. The splits take every fifth picture, so that each of them has both.

Pictures 112 (train) and 139 (val) show the same cell, and so do 166 and 171 (both
train). No picture of ``held_out`` has such a twin.

Zheng et al. 2018 (Micron) made the images ("Dataset 1" of their repository) and
publish them for download.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from unet_edu.data.download import fetch

CLASSES = ("ground", "cytoplasm", "nucleus")
VALUES = (0, 128, 255)  # of the classes, in the files
NUMBERS = range(1, 301)
SPLITS = {
    "train": tuple(n for n in NUMBERS if n % 5 not in (0, 4)),
    "val": NUMBERS[3::5],
    "held_out": NUMBERS[4::5],
    "all": NUMBERS,
}


class Pictures(Dataset):
    """Pictures of different sizes, read once, as (image, mask) pairs."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pairs[index]


def load(split: str = "train", numbers: list[int] | None = None) -> Pictures:
    """Return pictures of white blood cells with their masks.

    Each image is (3, H, W) float32 in [0, 1], each mask (H, W) int64 with 0 for
    ground, 1 for cytoplasm and 2 for nucleus; H and W are 88 to 120 pixels.

    Args:
        split: ``"held_out"`` (pictures 5, 10, ...), ``"val"`` (4, 9, ...),
            ``"train"`` (the others, 180) or ``"all"``.
        numbers: numbers in 1 to 300, instead of a split.

    Raises:
        ValueError: if the split is unknown, a picture does not exist, or a file holds
            other values than the three.
        DataNotFound: if a file is neither on this machine nor to be downloaded.

    Source: Zheng et al. 2018. First used in chapter 10.
    """
    if numbers is None:
        if split not in SPLITS:
            raise ValueError(
                f"split must be one of {', '.join(SPLITS)}; got {split!r}."
            )
        numbers = list(SPLITS[split])
    outside = [i for i in numbers if i not in NUMBERS]
    if outside or not numbers:
        given = outside[0] if outside else "none"
        raise ValueError(f"pictures are numbered 1 to 300; got {given}.")
    names = [f"Dataset 1/{i:03}" for i in numbers]
    files = fetch("wbc", [f"{n}.{kind}" for kind in ("bmp", "png") for n in names])
    images, masks = files[: len(names)], files[len(names) :]
    return Pictures([_read(i, m) for i, m in zip(images, masks, strict=True)])


def _read(image_file, mask_file) -> tuple[Tensor, Tensor]:
    image = np.asarray(Image.open(image_file).convert("RGB"), dtype=np.float32) / 255
    stored = np.asarray(Image.open(mask_file))
    mask = np.searchsorted(VALUES, stored)
    if not np.array_equal(np.take(VALUES, mask.clip(0, 2)), stored):
        raise ValueError(
            f"{mask_file} must hold the values {VALUES}, found "
            f"{np.unique(stored).tolist()[:6]}."
        )
    return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)
