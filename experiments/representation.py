"""Is one picture enough?

Three comparisons. *Slices*, on the ISBI 2012 stack: a plain U-Net that sees one slice,
one that gets three or five neighbouring slices as channels (2.5-D), and a 3-D U-Net
over five. *Modalities*, on drawn cells: nuclei that glow in one of two channels and
debris that glows in both; the channels are fused at the input, in the decoder, or at
every level. *Scales*, on drawn cells large and small: plain, with an input pyramid,
with deep supervision as well, with the focal Tversky loss as well.

Each arm runs at each of two learning rates with every seed; a rate is judged by its
mean over seeds on validation images. Neighbours come from the same part of the stack:
at its ends the last slice is repeated, so that no network sees a slice of another part.
"""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.utils.data import Subset, TensorDataset

from unet_edu import UNet, losses, metrics, recipes
from unet_edu.data import isbi2012
from unet_edu.families.representation import (
    DenseFusionUNet,
    LateFusionUNet,
    PyramidUNet,
    UNet3D,
    stack_slices,
)
from unet_edu.training import evaluate

QUESTION = "Is one picture enough: slices, modalities, scales?"
SLICES = {"1 slice": 1, "3 slices": 3, "5 slices": 5, "3-D, 5 slices": 5}
FUSIONS = {
    "early": lambda: UNet(2, 2, base_channels=9, padding=1),
    "late": lambda: LateFusionUNet(2, 2, base_channels=7),
    "dense": lambda: DenseFusionUNet(2, 2, base_channels=6),
}
SCALES = ("plain", "pyramid", "pyramid, deep", "pyramid, deep, Tversky")
ARMS = {"slices": SLICES, "modalities": FUSIONS, "scales": SCALES}
CONFIG = {
    "data": list(ARMS),
    "crop": 64,
    "batch_size": 4,
    "epochs": 1,
    "steps": 150,
    "precision": "bf16",
    "rates": [0.003, 0.01],
    "small": False,
}
QUICK = {"steps": 2, "batch_size": 2, "rates": [0.01], "small": True}


def stages(config, seeds):
    """All runs at once: no run needs another."""
    return [
        [
            key
            for data in config["data"]
            for key in recipes.every_rate(config | {"data": [data]}, ARMS[data], seeds)
        ]
    ]


def run(key, config, device, done):
    """Train one network at one rate; score it on validation and on held-out images."""
    arm, data = key["arm"], key["data"]
    parts = load(data, arm, config["small"])
    torch.manual_seed(key["seed"])
    model = build(data, arm)
    n_parameters = sum(p.numel() for p in model.parameters())
    loss = losses.focal_tversky if "Tversky" in arm else losses.cross_entropy
    recipes.train(
        model,
        parts["train"],
        config,
        seed=key["seed"],
        lr=key["lr"],
        device=device,
        loss=loss,
    )
    # Scored in the precision that it was trained in: in float32 the 3-D convolutions
    # of a CPU take ten times as long.
    with torch.autocast(device, torch.bfloat16, enabled=config["precision"] == "bf16"):
        return {"parameters": n_parameters} | scores(model, parts, data)


def scores(model, parts, data):
    """Return what the runs of one comparison are judged by."""
    held_out = parts["held_out"]
    values = {"val_iou": evaluate(model, parts["val"])["iou"][1]}
    if data != "slices":
        values |= {"iou": evaluate(model, held_out)["iou"][1]}
        return values | shares(model, held_out, parts["groups"])
    regions = [metrics.regions(mask, thin=False) for _, mask in held_out]
    found = recipes.score(model, held_out, regions)
    # The slices that have two neighbours on both sides.
    inner = Subset(held_out, range(2, max(len(held_out) - 2, 3)))
    return values | {
        "iou": found["iou"][1],
        "iou_inner": evaluate(model, inner)["iou"][1],
        "v_rand": found["v_rand"],
        "v_rand_best": found["v_rand_best"],
    }


def build(data, arm):
    """Return the network of one arm; its weights come from PyTorch's generator."""
    if data == "slices":
        if arm.startswith("3-D"):
            model = UNet3D(SLICES[arm], 2, base_channels=8, depth=3)
            return model.to(memory_format=torch.channels_last_3d)
        return UNet(SLICES[arm], 2, base_channels=12, depth=3, padding=1)
    if data == "modalities":
        return FUSIONS[arm]()
    if arm == "plain":
        return UNet(1, 2, base_channels=8, padding=1)
    model = PyramidUNet(1, 2, base_channels=8)
    if "deep" not in arm:
        model.weights = [0.0, 0.0, 1.0]
    return model


def load(data, arm, small=False):
    """Return the data sets ``train``, ``val``, ``held_out`` of one comparison.

    For drawn cells also ``groups``: for each held-out image a map of which kind of
    object a pixel belongs to, 0 for none.
    """
    if data == "slices":
        return load_slices(SLICES[arm], small)
    draw = two_channels if data == "modalities" else two_sizes
    sizes = {"train": 24, "val": 8, "held_out": 24}
    parts = {}
    for i, (part, n) in enumerate(sizes.items()):
        drawn = [draw(1000 * i + j) for j in range(2 if small else n)]
        images, masks, groups = map(torch.stack, zip(*drawn, strict=True))
        parts[part] = TensorDataset(images, masks)
    return parts | {"groups": groups}


def load_slices(k, small=False):
    """Return ISBI 2012 in three parts, each slice with its k - 1 neighbours."""
    parts = {}
    for part, numbers in recipes.SLICES.items():
        chosen = list(numbers)[: 3 if small else None]
        images, masks = isbi2012.load(slices=chosen).tensors
        # What is only looked at is cut to its middle, so that the study ends in time.
        side = 96 if small else {"train": 512, "val": 256, "held_out": 320}[part]
        edge = (512 - side) // 2
        window = (..., slice(edge, edge + side), slice(edge, edge + side))
        stacks = stack_slices(images[:, 0], k)
        parts[part] = TensorDataset(stacks[window], masks[window])
    return parts


def two_channels(seed, size=128):
    """Draw nuclei that glow in one of two channels, and debris that glows in both.

    Returns the image (2, size, size), the mask of the nuclei, and a map of groups:
    1 and 2 for nuclei of the first and the second channel, 3 for debris.
    """
    rng = np.random.default_rng([seed, 20])
    instances = lay(rng, size, rng.uniform(12, 22, 24))
    n = instances.max() + 1
    group = np.append(0, rng.integers(1, 4, n - 1))[instances]
    channels = []
    for channel in (1, 2):
        glows = (group == channel) | (group == 3)
        clean = np.where(glows, rng.uniform(0.4, 0.8, n)[instances], 0.15)
        channels.append(blur(clean) + rng.normal(0, 0.25, clean.shape))
    image, group = np.stack(channels).clip(0, 1), torch.from_numpy(group)
    mask = ((group == 1) | (group == 2)).long()
    return torch.from_numpy(image).float(), mask, group


def two_sizes(seed, size=128):
    """Draw a few large nuclei and a few small ones.

    Returns the image (1, size, size), the mask, and a map of groups: 1 for the large
    nuclei (24 to 32 pixels wide), 2 for the small ones (4 to 7).
    """
    rng = np.random.default_rng([seed, 21])
    widths = np.append(rng.uniform(24, 32, 3), rng.uniform(4, 7, 12))
    instances = lay(rng, size, widths)
    tone = np.append(0.15, rng.uniform(0.35, 0.7, len(widths)))[instances]
    image = blur(tone) + rng.normal(0, 0.2, tone.shape)
    mask = torch.from_numpy(instances > 0).long()
    group = torch.from_numpy(np.append(0, 1 + (widths < 20))[instances])
    return torch.from_numpy(image.clip(0, 1)).float()[None], mask, group


def lay(rng, size, widths):
    """Lay ellipses that keep three pixels apart; return a map that numbers them from 1.

    A place is tried again until it is free; after thirty tries the ellipse is left
    out, and its number with it.
    """
    rows, columns = np.mgrid[0:size, 0:size]
    instances = np.zeros((size, size), dtype=int)
    for number, width in enumerate(widths, start=1):
        turn, flat = rng.uniform(0, np.pi), rng.uniform(0.75, 1)
        for _ in range(30):
            down, right = rows - rng.uniform(0, size), columns - rng.uniform(0, size)
            u = down * np.cos(turn) + right * np.sin(turn)
            v = (right * np.cos(turn) - down * np.sin(turn)) / flat
            distance = np.hypot(u, v)
            if not instances[distance < width / 2 + 3].any():
                instances[distance < width / 2] = number
                break
    return instances


def blur(image):
    """Blur a drawn image as much as a lens would: 0.7 pixels."""
    return gaussian_filter(image, 0.7)


def shares(model, data, groups):
    """Return which share of each group's pixels is called an object.

    ``called_k`` for group k; ``precision``: the share of the called pixels that is
    right.
    """
    n_groups = int(groups.max()) + 1
    called, there, right = np.zeros(n_groups), np.zeros(n_groups), 0
    for (image, mask), group in zip(data, groups, strict=True):
        found = recipes.probabilities(model, image).argmax(0) == 1
        called += np.bincount(group[found], minlength=n_groups)
        there += np.bincount(group.flatten(), minlength=n_groups)
        right += int((found & (mask == 1)).sum())
    values = {f"called_{k}": called[k] / max(there[k], 1) for k in range(1, n_groups)}
    return values | {"precision": right / max(called.sum(), 1)}
