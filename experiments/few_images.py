"""How many slices does a U-Net need, and what do turning and bending add?

Training on 1, 3, 6, 12 and 24 slices, as they are, turned and mirrored, and bent as
well. A seed draws which slices: the same ones for every arm, and fewer are a part of
more. A single slice is trained on for three times as long as well, since memorising
takes time.
"""

import torch
from torch.utils.data import Subset

from unet_edu import UNet, metrics, recipes
from unet_edu.data import isbi2012

QUESTION = "What is each augmentation worth with 1, 3, 6, 12 and 24 slices?"
ARMS = {
    "plain": {"turn": False, "bend": 0.0},
    "turned": {"turn": True, "bend": 0.0},
    "bent": {"turn": True, "bend": 10.0},
}
CONFIG = {
    "slices": [1, 3, 6, 12, 24],
    "base_channels": 8,
    "depth": 4,
    "crop": 96,
    "batch_size": 4,
    "epochs": 1,
    "steps": 400,
    "long": {"slices": [1], "steps": 1200},
    "precision": "bf16",
    "lr": 0.01,
    "small": False,
}
QUICK = {
    "base_channels": 4,
    "steps": 2,
    "long": {"slices": [1], "steps": 4},
    "batch_size": 2,
    "small": True,
}


def stages(config, seeds):
    """First the usual number of steps, then the long runs."""

    def runs(slices, **role):
        return [
            {**role, "arm": arm, "slices": n, "seed": seed}
            for n in slices
            for arm in ARMS
            for seed in seeds
        ]

    return [runs(config["slices"]), runs(config["long"]["slices"], role="long")]


def run(key, config, device, done):
    """Train on a few slices; score on those and on the held-out ones."""
    stack = isbi2012.load("train")
    held_out = isbi2012.load("held_out")
    if config["small"]:
        held_out = Subset(held_out, [0])
    draw = torch.Generator().manual_seed(key["seed"])
    chosen = torch.randperm(len(stack), generator=draw)[: key["slices"]].tolist()
    few = Subset(stack, chosen)
    torch.manual_seed(key["seed"])
    model = UNet(
        1, 2, base_channels=config["base_channels"], depth=config["depth"], padding=1
    )
    long = {"steps": config["long"]["steps"]} if key.get("role") == "long" else {}
    history = recipes.train(
        model,
        few,
        config | long,
        seed=key["seed"],
        lr=config["lr"],
        device=device,
        **ARMS[key["arm"]],
    )
    regions = [metrics.regions(mask, thin=False) for _, mask in held_out]
    scores = recipes.score(model, held_out, regions)
    seen = recipes.score(model, Subset(few, [0]), None)
    return scores | {
        "iou": scores["iou"][1],
        "dice": scores["dice"][1],
        "iou_seen": seen["iou"][1],
        "chosen": chosen,
        "loss": history[-1]["loss"],
    }
