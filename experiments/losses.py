"""What should an error cost?

Six losses on three tasks: cross-entropy, cross-entropy weighted by the paper's map,
Dice, Dice + cross-entropy, focal, focal Tversky; on touching nuclei, on membranes, and
on three classes of unequal size. Each loss gets the best of three learning rates on
validation images.
"""

import torch
from torch.utils.data import Dataset

from unet_edu import UNet, losses, recipes
from unet_edu.training import NonFiniteLoss

QUESTION = "Which loss for which task?"
ARMS = {
    "cross_entropy": losses.cross_entropy,
    "weighted": losses.cross_entropy,  # with a map of weights
    "dice": losses.dice_loss,
    "dice_cross_entropy": losses.dice_cross_entropy,
    "focal": losses.focal,
    "focal_tversky": losses.focal_tversky,
}
CONFIG = {
    "data": ["cells", "isbi2012", "wbc"],
    "base_channels": 8,
    "depth": 4,
    "crop": 80,
    "batch_size": 4,
    "epochs": 1,
    "steps": 240,
    "precision": "bf16",
    "rates": [0.003, 0.01, 0.03],
    "sweep_seed": 1000,
    "small": False,
}
QUICK = {"base_channels": 4, "steps": 2, "batch_size": 2, "small": True}


class Weighted(Dataset):
    """(image, mask) pairs with a map of weights beside each."""

    def __init__(self, data, maps):
        self.data, self.maps = data, maps

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return (*self.data[index], self.maps[index])


def stages(config, seeds):
    """First the learning rates, then the seeds."""
    return list(recipes.sweep_then_seeds(config, ARMS, seeds))


def run(key, config, device, done):
    """Train with one loss; score on what every loss is judged by."""
    splits = recipes.load_splits(key["data"], config["small"])
    sweep = key.get("role") == "sweep"
    seed = config["sweep_seed"] if sweep else key["seed"]
    lr = key["lr"] if sweep else recipes.best_rate(key, done)
    torch.manual_seed(seed)
    model = UNet(
        splits.n_channels,
        splits.n_classes,
        base_channels=config["base_channels"],
        depth=config["depth"],
        padding=1,
    )
    pieces = splits.train
    if key["arm"] == "weighted":
        pieces = Weighted(pieces, weights(splits))
    loss = ARMS[key["arm"]]
    try:
        recipes.train(model, pieces, config, seed=seed, lr=lr, device=device, loss=loss)
    except NonFiniteLoss:
        if sweep:
            return {}
        raise
    if sweep:
        scores = recipes.score(model, splits.val, None)
        return {"val_dice": mean_without_ground(scores["dice"])}
    scores = recipes.score(model, splits.held_out, splits.regions)
    names = [f"dice_{k}" for k in range(splits.n_classes)]
    return {
        **{k: v for k, v in scores.items() if k not in ("iou", "dice")},
        **dict(zip(names, scores["dice"], strict=True)),
        "dice": mean_without_ground(scores["dice"]),
        "lr": lr,
    }


def mean_without_ground(values):
    return sum(values[1:]) / len(values[1:])


def weights(splits):
    """Return the paper's map for each training image.

    Where there are no objects to part, only its first term is left: each class weighs
    as much as any other.
    """
    masks = [mask for _, mask in splits.train]
    if splits.train_regions is None:
        return [class_weights(mask, splits.n_classes)[mask] for mask in masks]
    # What a mask calls background is background, between touching objects too.
    objects = 1 if splits.train_regions[0][masks[0] == 1].any() else 0
    return [
        losses.weight_map(regions * (mask == objects))
        for regions, mask in zip(splits.train_regions, masks, strict=True)
    ]


def class_weights(mask, n_classes):
    """Return one weight a class, so that all present classes weigh the same."""
    share = torch.bincount(mask.flatten(), minlength=n_classes) / mask.numel()
    return 1 / ((share > 0).sum() * share)
