"""ISBI 2012: thirty slices of a fly's nerve cord under the electron microscope.

The paper's own task. Each slice has 512x512 pixels of 4x4 nm; the slices are 50 nm
apart, so neighbours look alike. The file of a label stores 255 for the inside of a
cell and 0 for a membrane; here class 0 is *cell* and class 1 is *membrane*, the rare
one that we look for.

Cardona et al. 2010 (PLoS Biology) made the images and allow their use "for generating
or testing non-commercial image segmentation software"; Arganda-Carreras et al. 2015
describe the challenge. The labels of its test slices are secret.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from unet_edu.data.download import fetch

CLASSES = ("cell", "membrane")
SPLITS = {
    "train": range(0, 24),
    "held_out": range(24, 30),
    "all": range(0, 30),
}


def load(split: str = "train", slices: list[int] | None = None) -> TensorDataset:
    """Return slices of the labelled stack as a data set of (image, mask) pairs.

    Each image is (1, 512, 512) float32 in [0, 1], each mask (512, 512) int64 with 0
    for cell and 1 for membrane. The default split keeps the last six slices for
    evaluation, as one block: neighbours are nearly the same picture, so a random
    split would test on what was trained on.

    Args:
        split: ``"train"`` (slices 0 to 23), ``"held_out"`` (24 to 29) or ``"all"``.
        slices: numbers in 0 to 29, instead of a split.

    Raises:
        ValueError: if the split is unknown or a slice does not exist.
        DataNotFound: if a file is neither on this machine nor to be downloaded.

    Source: Cardona et al. 2010; Arganda-Carreras et al. 2015. First used in chapter 1.
    """
    if slices is None:
        if split not in SPLITS:
            raise ValueError(
                f"split must be one of {', '.join(SPLITS)}; got {split!r}."
            )
        slices = list(SPLITS[split])
    outside = [i for i in slices if i not in range(30)]
    if outside or not slices:
        given = outside[0] if outside else "none"
        raise ValueError(f"slices are numbered 0 to 29; got {given}.")
    images = _read([f"train/image/{i}.png" for i in slices])
    labels = _read([f"train/label/{i}.png" for i in slices])
    return TensorDataset(
        torch.from_numpy(images).float().div(255).unsqueeze(1),
        torch.from_numpy(labels == 0).long(),
    )


def test_images() -> Tensor:
    """Return the thirty unlabelled test slices, (30, 1, 512, 512) in [0, 1].

    Raises DataNotFound as :func:`load` does.
    """
    images = _read([f"test/{i}.png" for i in range(30)])
    return torch.from_numpy(images).float().div(255).unsqueeze(1)


def _read(paths: list[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(f)) for f in fetch("isbi2012", paths)])
