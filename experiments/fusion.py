"""Does it matter how a decoder joins what comes from below and what crosses over?

Six networks over one encoder: no skip, skips added, skips concatenated, skips added in
a network widened to the size of the concatenating one, and FCN's sums of class scores,
down to an eighth of the resolution as in its paper, and down to the full one. Each seed
gives all of them the same pieces of the same images in the same order. The learning
rate of each network is the best of three on validation images, in one run each. Three
of the networks run at every rate with every seed, to tell what that choice was worth.
"""

import torch

from unet_edu import FCN, UNet, recipes
from unet_edu.training import NonFiniteLoss

QUESTION = "Addition or concatenation: does training tell them apart?"
ARMS = ("none", "add", "concat", "add_wide", "scores_8s", "scores_all")
AT_EVERY_RATE = ("add", "add_wide", "concat", "scores_all")
CONFIG = {
    "data": ["isbi2012", "cells"],
    "base_channels": 16,
    "depth": 4,
    "crop": 96,
    "batch_size": 4,
    "epochs": 8,
    "steps": 240,
    "precision": "bf16",
    "rates": [0.001, 0.003, 0.01],
    "sweep_seed": 1000,
    "target_iou": 0.5,
    "small": False,
}
QUICK = {"base_channels": 4, "epochs": 2, "steps": 4, "batch_size": 2, "small": True}


def stages(config, seeds):
    """First a learning rate each, then the seeds, then every rate, then the costs."""
    sweep, final = recipes.sweep_then_seeds(config, ARMS, seeds)
    grid = [
        key | {"role": "grid", "lr": lr}
        for key in final
        if key["arm"] in AT_EVERY_RATE
        for lr in config["rates"]
    ]
    return [sweep, final, grid, [{"role": "cost"}]]


def run(key, config, device, done):
    """Train one network and score it, or measure what all of them cost."""
    if key.get("role") == "cost":
        return costs(config, device)
    splits = recipes.load_splits(key["data"], config["small"])
    sweep = key.get("role") == "sweep"
    seed = config["sweep_seed"] if sweep else key["seed"]
    lr = key["lr"] if "lr" in key else recipes.best_rate(key, done)
    for other in done:
        # The same network with the same seed at the same rate is the same run.
        if {**other["key"], "role": "grid", "lr": other["values"].get("lr")} == key:
            return other["values"]
    torch.manual_seed(seed)
    model = build(key["arm"], splits.n_channels, config)
    try:
        history = recipes.train(
            model, splits.train, config, seed=seed, lr=lr, device=device, val=splits.val
        )
    except NonFiniteLoss:
        if sweep:
            return {}
        raise
    curve = [record["val_iou"][1] for record in history]
    if sweep:
        return {"val_iou": curve[-1]}
    scores = recipes.score(model, splits.held_out, splits.regions)
    reached = [r["step"] for r in history if r["val_iou"][1] >= config["target_iou"]]
    values = scores | {
        "iou": scores["iou"][1],
        "dice": scores["dice"][1],
        "lr": lr,
        "curve": curve,
        "steps_to_target": min(reached, default=float("nan")),
    }
    if isinstance(model, UNet) and model.fuse == "concat":
        values |= kernels(model)
    return values


def build(arm, n_channels, config):
    """Return the network of one arm; its weights come from PyTorch's generator."""
    base, depth = config["base_channels"], config["depth"]
    if arm.startswith("scores"):
        stride = 8 if arm == "scores_8s" else 1
        return FCN(n_channels, 2, stride, base_channels=base, depth=depth)
    if arm == "add_wide":
        base = matched_width(n_channels, base, depth)
    fuse = arm.removesuffix("_wide")
    return UNet(n_channels, 2, base_channels=base, depth=depth, padding=1, fuse=fuse)


def matched_width(n_channels, base, depth):
    """Return the width at which adding has about the parameters of concatenating."""

    def size(fuse, width):
        with torch.device("meta"):
            net = UNet(n_channels, 2, base_channels=width, depth=depth, fuse=fuse)
        return parameters(net)

    wanted = size("concat", base)
    widths = range(base, base + base // 8 + 2)
    return min(widths, key=lambda width: abs(size("add", width) - wanted))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def kernels(model):
    """Say how far the kernels for the skip and for the map from below are apart.

    Addition would force the two halves of the first convolution after a join to be
    equal. ``cosine``: of the two halves, as they stand. ``untied``: the part of the
    kernel for the map from below that is not the kernel for the skip times a mixing of
    channels, relative to its size. The transposed convolution before the join may mix
    channels as it likes, so this is the part that addition cannot imitate.
    ``untied_random``: the same for random kernels. From the deepest join to the widest.
    """
    cosines, untied, chance = [], [], []
    generator = torch.Generator().manual_seed(0)
    for level in range(1, model.depth + 1):
        block = model.get_submodule(f"up{level}")
        weight = block.conv.double_conv[0].weight.detach().cpu().double()
        skip, below = weight.chunk(2, dim=1)
        cosines.append(float((skip * below).sum() / (skip.norm() * below.norm())))
        untied.append(unexplained(skip, below))
        random = torch.randn(weight.shape, generator=generator, dtype=torch.double)
        chance.append(unexplained(*random.chunk(2, dim=1)))
    return {"cosine": cosines, "untied": untied, "untied_random": chance}


def unexplained(skip, below):
    """Return the part of ``below`` that is not ``skip`` times a matrix of channels."""
    # One row for each output channel and each of the nine places of the kernel.
    a, b = (w.permute(0, 2, 3, 1).flatten(0, 2) for w in (skip, below))
    rest = b - a @ torch.linalg.lstsq(a, b).solution
    return float(rest.norm() / b.norm())


def costs(config, device):
    """Return parameters, multiply-adds, kept bytes and relative time of each arm."""
    nets = {arm: build(arm, 1, config).to(device).eval() for arm in ARMS}
    side, rounds = (64, 3) if config["small"] else (256, 30)
    return recipes.costs(nets, "concat", side, rounds)
