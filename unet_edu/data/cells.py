"""Cells drawn by a program: images whose truth is known, with nothing to download.

Two kinds. ``"membranes"`` imitates a slice of tissue: cells fill the image, thin dark
membranes divide them, dark bodies inside the cells look like membrane and are not.
``"nuclei"`` imitates a fluorescent stain: bright round nuclei on a dark ground, some
of them touching. The same seed gives the same image on every machine.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, mean
from scipy.spatial import cKDTree
from torch import Tensor
from torch.utils.data import Dataset

from unet_edu.blocks import check_at_least, check_choice

KINDS = ("membranes", "nuclei")
CLASSES = {"membranes": ("cell", "membrane"), "nuclei": ("ground", "nucleus")}
ANNOTATORS = ("exact", "generous", "strict", "bright")


@dataclass(frozen=True)
class Sample:
    """One drawn image with its truth.

    Attributes:
        image: (1, H, W) float32 in [0, 1].
        mask: (H, W) int64, indices into ``CLASSES[kind]``.
        instances: (H, W) int64, 0 outside objects, then one number an object. Two
            touching nuclei have two numbers and one mask.
    """

    image: Tensor
    mask: Tensor
    instances: Tensor


def draw(
    seed: int,
    size: int = 128,
    kind: str = "membranes",
    *,
    diameter: float = 24.0,
    noise: float = 0.08,
) -> Sample:
    """Draw one image of cells.

    Args:
        seed: any integer >= 0; the same one gives the same image.
        size: side of the square image, in pixels.
        kind: ``"membranes"`` or ``"nuclei"``.
        diameter: typical diameter of an object, in pixels.
        noise: standard deviation of the noise, in units of the full range.

    Raises:
        ValueError: if the kind is unknown, or a number is out of its range.

    First used in chapter 1.
    """
    check_at_least("seed", seed, 0)
    check_at_least("size", size, 8)
    check_choice("kind", kind, KINDS)
    if not 4 <= diameter <= size:
        raise ValueError(f"diameter must be from 4 to {size} px; got {diameter!r}.")
    if not 0 <= noise < 1:
        raise ValueError(f"noise must be in [0, 1); got {noise!r}.")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == "membranes":
        clean, mask, instances = _membranes(rng, size, diameter)
    else:
        clean, mask, instances = _nuclei(rng, size, diameter)
    light = 1 + 0.15 * _smooth(rng, size, size / 3)
    image = gaussian_filter(clean * light, 0.7) + noise * rng.standard_normal(
        clean.shape
    )
    return Sample(
        torch.from_numpy(image.clip(0, 1).astype(np.float32))[None],
        torch.from_numpy(mask.astype(np.int64)),
        torch.from_numpy(instances.astype(np.int64)),
    )


def annotate(sample: Sample, annotator: str, pixels: float = 2.0) -> Tensor:
    """Return the mask of nuclei (H, W) that one of the ``ANNOTATORS`` draws.

    Four people with four habits, none of them wrong: ``"exact"`` draws the outline,
    ``"generous"`` some pixels outside of it, ``"strict"`` some pixels inside, and
    ``"bright"`` leaves out the fainter half of the nuclei. Whoever draws, draws the
    whole image so. With each of them equally likely, the true distribution of the
    masks of an image is these four masks, a quarter each.

    Args:
        sample: of the kind ``"nuclei"``.
        annotator: one of ``ANNOTATORS``.
        pixels: how far the generous and the strict outline are from the exact one.

    Raises:
        ValueError: for an unknown annotator, a sample of membranes, or ``pixels``
            below zero.

    Used in chapter 19.
    """
    check_choice("annotator", annotator, ANNOTATORS)
    if pixels < 0:
        raise ValueError(f"pixels must be >= 0; got {pixels!r}.")
    mask, instances = sample.mask.numpy() > 0, sample.instances.numpy()
    if not np.array_equal(mask, instances > 0):
        raise ValueError("Annotators draw nuclei; this sample is of another kind.")
    if annotator == "generous":
        drawn = distance_transform_edt(~mask) <= pixels if mask.any() else mask
    elif annotator == "strict":
        drawn = distance_transform_edt(mask) > pixels
    elif annotator == "bright":
        numbers = np.arange(1, instances.max() + 1)
        brightness = mean(sample.image[0].numpy(), instances, numbers)
        kept = numbers[brightness >= np.median(brightness)] if len(numbers) else []
        drawn = np.isin(instances, kept)
    else:
        drawn = mask
    return torch.from_numpy(drawn.astype(np.int64))


class Cells(Dataset):
    """``n`` drawn images as a data set of (image, mask) pairs.

    Args:
        n: number of images.
        seed: two data sets with different seeds share no image.
        size, kind, diameter, noise: as for :func:`draw`.

    Raises:
        ValueError: as :func:`draw`, or if ``n`` is below one.
    """

    def __init__(
        self, n: int, seed: int = 0, size: int = 128, kind: str = "membranes", **options
    ) -> None:
        check_at_least("n", n, 1)
        check_at_least("seed", seed, 0)
        # One image has its own seed, made from the set's seed and its place.
        self.samples = [
            draw(seed * 1_000_003 + i, size, kind, **options) for i in range(n)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.samples[index]
        return sample.image, sample.mask


def _smooth(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Return smooth noise with mean 0 and standard deviation 1."""
    field = gaussian_filter(rng.standard_normal((size, size)), scale, mode="wrap")
    return (field - field.mean()) / field.std()


def _membranes(rng: np.random.Generator, size: int, diameter: float):
    """Cells are the regions nearest to random points, on bent coordinates."""
    margin = int(diameter)
    side = size + 2 * margin
    rows, columns = np.mgrid[0:side, 0:side].astype(float)
    bend = 0.12 * diameter
    place = np.stack(
        [
            rows + bend * _smooth(rng, side, diameter / 3),
            columns + bend * _smooth(rng, side, diameter / 3),
        ],
        axis=-1,
    )
    n_points = max(2, round((side / diameter) ** 2))
    points = rng.uniform(0, side, (n_points, 2))
    distance, nearest = cKDTree(points).query(place, k=2)
    # How far a pixel is from the line half way between its two nearest points.
    apart = np.linalg.norm(points[nearest[..., 0]] - points[nearest[..., 1]], axis=-1)
    half_width = (distance[..., 1] ** 2 - distance[..., 0] ** 2) / (2 * apart)
    thickness = 1.3 + 0.4 * _smooth(rng, side, diameter / 2)
    membrane = half_width < thickness.clip(0.8, 2.4)
    inner = slice(margin, margin + size)
    nearest, membrane = nearest[inner, inner, 0], membrane[inner, inner]
    half_width = half_width[inner, inner]

    tone = rng.uniform(0.55, 0.8, n_points)[nearest]
    clean = tone + 0.05 * _smooth(rng, size, 1.5)
    # Organelles: dark, textured discs well inside a cell. A threshold takes them for
    # membrane; only their surroundings tell them apart.
    for row, column in rng.uniform(0, size, (n_points // 2, 2)):
        radius = rng.uniform(0.12, 0.22) * diameter
        disc = np.hypot(*(np.mgrid[0:size, 0:size] - [[[row]], [[column]]])) < radius
        clean[disc & (half_width > 3)] -= rng.uniform(0.25, 0.4)
    # Membranes fade in places, as they do where the knife cut them at a slant.
    strength = (0.42 + 0.12 * _smooth(rng, size, diameter / 2)).clip(0.1, 0.6)
    clean = np.where(membrane, tone - strength, clean)

    _, instances = np.unique(np.where(membrane, -1, nearest), return_inverse=True)
    return clean, membrane, instances.reshape(size, size)


def _nuclei(rng: np.random.Generator, size: int, diameter: float):
    """Bent ellipses, each laid where it touches the others but hides none."""
    rows, columns = np.mgrid[0:size, 0:size].astype(float)
    bend = 0.06 * diameter
    bent_rows = rows + bend * _smooth(rng, size, diameter / 4)
    bent_columns = columns + bend * _smooth(rng, size, diameter / 4)
    instances = np.zeros((size, size), dtype=np.int64)
    clean = np.full((size, size), 0.15)
    wanted = max(2, round(0.45 * (size / diameter) ** 2))
    for _ in range(20 * wanted):
        if instances.max() == wanted:
            break
        row, column = rng.uniform(0, size, 2)
        a = diameter / 2 * rng.uniform(0.75, 1.25)
        b = a * rng.uniform(0.65, 1.0)
        turn = rng.uniform(0, np.pi)
        u = (bent_rows - row) * np.cos(turn) + (bent_columns - column) * np.sin(turn)
        v = (bent_columns - column) * np.cos(turn) - (bent_rows - row) * np.sin(turn)
        radius = np.sqrt((u / a) ** 2 + (v / b) ** 2)
        inside = radius < 1
        hidden = (inside & (instances > 0)).sum() / max(inside.sum(), 1)
        if hidden > 0.12:
            continue
        inside &= instances == 0
        if inside.sum() < 20:
            continue
        instances[inside] = instances.max() + 1
        clean[inside] = rng.uniform(0.45, 0.8) * (1 - 0.25 * radius[inside] ** 2)
    clean = clean + np.where(instances > 0, 0.04, 0.01) * _smooth(rng, size, 1.5)
    return clean, instances > 0, instances
