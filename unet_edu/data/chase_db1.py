"""CHASE_DB1: the retinas of fourteen children, the vessels drawn by two observers.

Twenty-eight photographs, the left and the right eye of each child, 999x960 pixels in
colour. Two people drew the vessels of each, independently. Class 0 is *ground* and
class 1 is *vessel*.

The splits are by child: the two eyes of one child are not independent of each other.

Fraz et al. 2012 (IEEE Transactions on Biomedical Engineering) describe the data,
Kingston University publishes them under CC BY 4.0.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from unet_edu.blocks import check_choice
from unet_edu.data.download import fetch

CLASSES = ("ground", "vessel")
OBSERVERS = (1, 2)
CHILDREN = range(1, 15)
SPLITS = {
    "train": range(1, 9),
    "val": range(9, 11),
    "held_out": range(11, 15),
    "all": CHILDREN,
}


def load(
    split: str = "train",
    observer: int | None = 1,
    *,
    children: list[int] | None = None,
    shrink: int = 1,
) -> TensorDataset:
    """Return photographs of retinas with the vessels that an observer drew.

    Each image is (3, H, W) float32 in [0, 1], each mask (H, W) int64 with 0 for ground
    and 1 for vessel; H is 960 and W is 999. Two images a child, left eye first.

    Args:
        split: ``"train"`` (children 1 to 8), ``"val"`` (9 and 10), ``"held_out"``
            (11 to 14) or ``"all"``.
        observer: 1 or 2; None for both: the data set then yields an image and two
            masks.
        children: numbers in 1 to 14, instead of a split.
        shrink: 2 makes the image half as wide and half as high: a pixel is the mean
            of 2x2, a pixel of the mask what at least half of them are. 1, 2 or 4.
            Rows and columns that do not fill a square are left out.

    Raises:
        ValueError: if the split, the observer or ``shrink`` is unknown, a child does
            not exist, or a mask holds other values than 0 and 255.
        DataNotFound: if a file is neither on this machine nor to be downloaded.

    Source: Fraz et al. 2012. First used in chapter 19.
    """
    check_choice("observer", observer, (*OBSERVERS, None))
    check_choice("shrink", shrink, (1, 2, 4))
    if children is None:
        check_choice("split", split, tuple(SPLITS))
        children = list(SPLITS[split])
    outside = [child for child in children if child not in CHILDREN]
    if outside or not children:
        given = outside[0] if outside else "none"
        raise ValueError(f"children are numbered 1 to 14; got {given}.")
    eyes = [f"{child:02}{eye}" for child in children for eye in "LR"]
    who = OBSERVERS if observer is None else (observer,)
    paths = [_image(eye) for eye in eyes]
    paths += [_mask(eye, one) for one in who for eye in eyes]
    files = fetch("chase_db1", paths)
    images = torch.stack([_read_image(f) for f in files[: len(eyes)]])
    masks = torch.stack([_read_mask(f) for f in files[len(eyes) :]])
    if shrink > 1:
        images = torch.nn.functional.avg_pool2d(images, shrink)
        share = torch.nn.functional.avg_pool2d(masks[:, None].float(), shrink)
        masks = (share[:, 0] >= 0.5).long()
    return TensorDataset(images, *masks.split(len(eyes)))


def _image(eye: str) -> str:
    return f"{_part(eye)}/HR/Image_{eye}.jpg"


def _mask(eye: str, observer: int) -> str:
    if observer == 1:
        return f"{_part(eye)}/VE/Image_{eye}_1stHO.png"
    return f"CHASE/human/Image_{eye}_2ndHO.png"


def _part(eye: str) -> str:
    """The publisher keeps children 11 to 14 in a folder of their own."""
    return "CHASET" if int(eye[:2]) > 10 else "CHASE"


def _read_image(file) -> Tensor:
    image = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(image).permute(2, 0, 1)


def _read_mask(file) -> Tensor:
    stored = np.asarray(Image.open(file).convert("L"))
    if not np.isin(stored, (0, 255)).all():
        raise ValueError(
            f"{file} must hold the values 0 and 255, found "
            f"{np.unique(stored).tolist()[:6]}."
        )
    return torch.from_numpy((stored > 0).astype(np.int64))
