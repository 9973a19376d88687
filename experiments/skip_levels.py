"""Which of the four skips carries what the decoder needs?

The concatenating U-Net with one skip after another replaced by zeros, in training and
in use, so that its parameters stay the same; and with all of them replaced.
"""

import torch

from unet_edu import UNet, recipes

QUESTION = "Which skip is missed most?"
# Level 0 is the widest map, level 3 the deepest that is joined.
ARMS = {
    "all": (),
    **{f"no_{level}": (level,) for level in range(4)},
    "none": (0, 1, 2, 3),
}
CONFIG = {
    "data": ["isbi2012", "cells"],
    "base_channels": 8,
    "depth": 4,
    "crop": 96,
    "batch_size": 4,
    "epochs": 1,
    "steps": 240,
    "precision": "bf16",
    "lr": 0.01,
    "small": False,
}
QUICK = {"base_channels": 4, "steps": 2, "batch_size": 2, "small": True}


def stages(config, seeds):
    """All runs at once."""
    return [
        [
            {"data": data, "arm": arm, "seed": seed}
            for data in config["data"]
            for arm in ARMS
            for seed in seeds
        ]
    ]


def run(key, config, device, done):
    """Train with some skips silenced, and score the same network."""
    splits = recipes.load_splits(key["data"], config["small"])
    torch.manual_seed(key["seed"])
    model = UNet(
        splits.n_channels,
        2,
        base_channels=config["base_channels"],
        depth=config["depth"],
        padding=1,
    )
    for level in ARMS[key["arm"]]:
        silence(model, level)
    recipes.train(
        model,
        splits.train,
        config,
        seed=key["seed"],
        lr=config["lr"],
        device=device,
    )
    scores = recipes.score(model, splits.held_out, splits.regions)
    return scores | {"iou": scores["iou"][1], "dice": scores["dice"][1]}


def silence(model, level):
    """Replace what crosses over at a level by zeros."""
    up = model.get_submodule(f"up{model.depth - level}")
    up.register_forward_pre_hook(lambda _, args: (args[0], torch.zeros_like(args[1])))
