"""Would a better block help?

Three parts. ``blocks``: plain U-Net, a U-Net of residual blocks, of MultiRes blocks and
of recurrent residual blocks, all of about half a million parameters. ``depth``: a small
U with 2, 4 and 8 convolutions a level, with a shortcut around each but the first or
without, with batch norm or without. ``memory``: the networks of ``blocks``, and the
recurrent one once more with batch norms that mix the statistics of their applications;
each is scored in use, and with the statistics of the image in front of it, as it was
trained. Every network runs at each of two learning rates with each seed.
"""

import copy

import torch
from torch import nn
from torch.utils.data import TensorDataset

from unet_edu import OutConv, UNet, recipes
from unet_edu.families.backbone import MultiResUNet, R2UNet, ResUNet, UpJoin, UShape
from unet_edu.training import evaluate

QUESTION = "Would a better block help?"
ARMS = {
    "unet": (UNet, {"base_channels": 8, "depth": 4, "padding": 1}),
    "res_unet": (ResUNet, {"base_channels": 8, "depth": 4}),
    "multires_unet": (MultiResUNet, {"base_channels": 8, "depth": 4}),
    "r2_unet": (R2UNet, {"base_channels": 7, "depth": 4}),
}
SHARED = R2UNet, ARMS["r2_unet"][1] | {"own_statistics": False}
CONFIG = {
    "data": ["isbi2012", "cells"],
    "seeds_on_cells": 3,
    "seeds_for_depth": 3,
    "convs": [2, 4, 8],
    "base_channels": 8,
    "depth": 2,
    "crop": 64,
    "batch_size": 4,
    "epochs": 5,
    "steps": 100,
    "precision": "bf16",
    "rates": [0.003, 0.01],
    "small": False,
}
QUICK = {
    "convs": [8],
    "epochs": 1,
    "steps": 2,
    "batch_size": 2,
    "rates": [0.01],
    "small": True,
}


def stages(config, seeds):
    """All runs in one stage: no run needs another."""
    blocks = [
        {"part": "blocks", "data": data, "arm": arm, "lr": lr, "seed": seed}
        for data in config["data"]
        for arm in ARMS
        for lr in config["rates"]
        for seed in seeds[: config["seeds_on_cells"] if data == "cells" else None]
    ]
    depth = [
        {"part": "depth", "norm": norm, "arm": arm, "convs": n, "lr": lr, "seed": seed}
        for norm in ("none", "batch")
        for arm in ("plain", "shortcut")
        for n in config["convs"]
        for lr in config["rates"]
        for seed in seeds[: config["seeds_for_depth"]]
    ]
    memory = [
        {"part": "memory", "arm": arm, "lr": lr, "seed": seed}
        for arm in (*ARMS, "r2_unet_shared")
        for lr in config["rates"]
        for seed in seeds
    ]
    return [depth + blocks + memory]


def run(key, config, device, done):
    """Train one network; score it on validation images and on held-out ones."""
    splits = recipes.load_splits(key.get("data", "isbi2012"), config["small"])
    torch.manual_seed(key["seed"])
    model = build(key, config, splits.n_channels)
    history = recipes.train(
        model, splits.train, config, seed=key["seed"], lr=key["lr"], device=device
    )
    values = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "curve": [record["loss"] for record in history],
        # The mean over the last fifth of the steps, while the network is training.
        "train_loss": history[-1]["loss"],
        "val_iou": evaluate(model, splits.val)["iou"][1],
    }
    if key["part"] == "depth":
        return values | {"iou": evaluate(model, middle(splits.held_out))["iou"][1]}
    if key["part"] == "memory":
        in_use = evaluate(model, splits.held_out)
        trained = evaluate(as_in_training(model), splits.held_out)
        return values | {
            "iou": in_use["iou"][1],
            "loss": in_use["loss"],
            "iou_as_in_training": trained["iou"][1],
            "loss_as_in_training": trained["loss"],
        }
    scores = recipes.score(model, splits.held_out, None)
    return values | {
        "iou": scores["iou"][1],
        "dice": scores["dice"][1],
        "accuracy": scores["accuracy"],
        "boundary_f1": scores["boundary_f1"],
    }


def build(key, config, n_channels):
    """Return the network of one run; its weights come from PyTorch's generator."""
    if key["part"] != "depth":
        net, options = (ARMS | {"r2_unet_shared": SHARED})[key["arm"]]
        return net(n_channels, 2, **options)
    shortcut, norm = key["arm"] == "shortcut", key["norm"] == "batch"
    sizes = config["base_channels"], config["depth"]
    return DeepUNet(n_channels, 2, key["convs"], shortcut, norm, *sizes)


def as_in_training(model):
    """Return a copy whose batch norms use the statistics of the images at hand."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Without running statistics a batch norm has no others, in either mode.
            module.running_mean = module.running_var = None
    return model


def middle(data, side=256):
    """Return the middle ``side`` x ``side`` pixels of images and masks."""
    top, left = ((size - min(size, side)) // 2 for size in data.tensors[1].shape[1:])
    window = (..., slice(top, top + side), slice(left, left + side))
    return TensorDataset(*(x[window] for x in data.tensors))


class Stack(nn.Module):
    """``n`` convolutions, each but the first with a shortcut around it or without."""

    def __init__(self, n_in, n_out, n, shortcut, norm):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(n_in if i == 0 else n_out, n_out, 3, padding=1),
                nn.BatchNorm2d(n_out) if norm else nn.Identity(),
                nn.ReLU(),
            )
            for i in range(n)
        )
        self.shortcut = shortcut

    def forward(self, x):
        x = self.convs[0](x)
        for conv in self.convs[1:]:
            x = x + conv(x) if self.shortcut else conv(x)
        return x


class DeepUNet(UShape):
    """A small U with ``n`` convolutions a level."""

    def __init__(
        self, n_channels, n_classes, n, shortcut, norm, base_channels=8, depth=2
    ):
        super().__init__(n_channels, n_classes, depth)
        width = [base_channels * 2**level for level in range(depth + 1)]

        def block(n_in, n_out):
            return Stack(n_in, n_out, n, shortcut, norm)

        self.inc = block(n_channels, width[0])
        self.downs = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), block(width[level], width[level + 1]))
            for level in range(depth)
        )
        self.ups = nn.ModuleList(
            UpJoin(
                nn.ConvTranspose2d(width[level + 1], width[level], 2, stride=2),
                block(2 * width[level], width[level]),
            )
            for level in reversed(range(depth))
        )
        self.outc = OutConv(width[0], n_classes)
