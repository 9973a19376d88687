"""Which network should one use? All models of the list on one bench.

Every model at about two million parameters, on the same pieces of the same images in
the same order, with the same steps and the same loss for each pixel; a model with a
training loss of its own (deep supervision, latent variables) uses it around that loss.
The learning rate of each model is the best of three on validation images, judged by the
mean over two runs of a quarter of the length. The runs that count have seeds of their
own.

A second look, taken after the first results: two models on blood cells at every rate,
in full length, to see what choosing the rate in short runs has cost them. It decides
nothing.
"""

import numpy as np
import torch

from unet_edu import recipes
from unet_edu.families import create_model, list_models
from unet_edu.training import NonFiniteLoss, evaluate

QUESTION = "Which network should one use, at equal size and equal training?"
CONFIG = {
    "data": ["isbi2012", "wbc"],
    "arms": list_models(),
    "crop": 80,
    "batch_size": 4,
    "epochs": 1,
    "steps": 320,
    "precision": "bf16",
    "rates": [0.001, 0.003, 0.01],
    "sweep_seeds": [1000, 1001],
    "sweep_steps": 80,
    "small": False,
}
QUICK = {
    "arms": ["unet", "fcn8s", "unet_plus_plus", "probabilistic_unet"],
    "steps": 2,
    "sweep_steps": 1,
    "batch_size": 2,
    "rates": [0.003],
    "small": True,
}
SECOND_LOOK = {"data": "wbc", "arms": ("unet", "attention_unet")}
# Settings that give about two million parameters with one channel and two classes. A
# width is a whole number, so some miss by up to eight percent; the bench counts.
SIZES = {
    "unet": {"base_channels": 16},
    "fcn32s": {"base_channels": 10},
    "fcn16s": {"base_channels": 10},
    "fcn8s": {"base_channels": 10},
    "attention_unet": {"base_channels": 15},
    "unet_plus_plus": {"base_channels": 15},
    "unet_3plus": {"base_channels": 17},
    "res_unet": {"base_channels": 32, "depth": 3},
    "multires_unet": {"base_channels": 17},
    "r2_unet": {"base_channels": 29, "depth": 3},
    "se_unet": {"base_channels": 16},
    "sa_unet": {"base_channels": 16, "depth": 4},
    "aspp_unet": {"base_channels": 14},
    "ce_net": {"base_channels": 23, "depth": 3},
    "trans_unet": {
        **{"encoder": "unet", "base_channels": 12, "embed_dim": 144, "layers": 4},
        **{"heads": 4, "image_size": 96},
    },
    "unetr": {
        **{"base_channels": 8, "embed_dim": 128, "layers": 8, "heads": 4},
        **{"image_size": 96},
    },
    "swin_unet": {"embed_dim": 26, "patch": 2, "heads": 2, "window": 6},
    "probabilistic_unet": {"base_channels": 20, "depth": 3, "norm": True},
    "dropout_unet": {"base_channels": 16},
    "stochastic_unet": {"base_channels": 16},
    "pyramid_unet": {"base_channels": 15},
    "late_fusion_unet": {"base_channels": 16},
    "dense_fusion_unet": {"base_channels": 16},
    "unet_3d": {"base_channels": 22},
}
# With three channels, each of them a path.
IN_COLOUR = {
    "late_fusion_unet": {"base_channels": 11},
    "dense_fusion_unet": {"base_channels": 9},
    "unet_3d": {"base_channels": 22, "per_slice": 3},
}


def build(arm, n_channels, n_classes):
    """Return a model of the bench; its weights come from PyTorch's generator."""
    settings = IN_COLOUR.get(arm, SIZES[arm]) if n_channels == 3 else SIZES[arm]
    return create_model(arm, n_channels, n_classes, **settings)


def stages(config, seeds):
    """Learning rates, the runs that count, what models cost, the second look."""
    pairs = [{"data": d, "arm": arm} for d in config["data"] for arm in config["arms"]]
    sweep = [
        {"role": "sweep", **pair, "lr": lr, "seed": seed}
        for pair in pairs
        for lr in config["rates"]
        for seed in config["sweep_seeds"]
    ]
    final = [{**pair, "seed": seed} for pair in pairs for seed in seeds]
    second = [
        {"role": "rate", "data": SECOND_LOOK["data"], "arm": arm, "lr": lr, "seed": s}
        for arm in SECOND_LOOK["arms"]
        if arm in config["arms"]
        for lr in config["rates"]
        for s in seeds
    ]
    return [sweep, final, [{"role": "cost"}], second]


def run(key, config, device, done):
    """Train one model and score it, or measure what all of them cost."""
    if key.get("role") == "cost":
        return costs(config, device)
    splits = recipes.load_splits(key["data"], config["small"])
    sweep = key.get("role") == "sweep"
    lr = key["lr"] if "lr" in key else best_rate(key, config, done)
    steps = config["sweep_steps" if sweep else "steps"]
    torch.manual_seed(key["seed"])
    model = build(key["arm"], splits.n_channels, splits.n_classes)
    try:
        recipes.train(
            model,
            splits.train,
            config | {"steps": steps},
            seed=key["seed"],
            lr=lr,
            device=device,
        )
    except NonFiniteLoss:
        if sweep:
            return {"val_iou": 0.0, "val_loss": float("nan")}
        raise
    if sweep:
        found = evaluate(model, splits.val)
        return {"val_iou": without_ground(found["iou"]), "val_loss": found["loss"]}
    scores = recipes.score(model, splits.held_out, splits.regions)
    kept = ("accuracy", "boundary_f1", "v_rand", "v_info", "splits", "merges")
    return {
        "iou": without_ground(scores["iou"]),
        "dice": without_ground(scores["dice"]),
        **{name: scores[name] for name in kept if name in scores},
        "lr": lr,
    }


def without_ground(values):
    """Return the mean over the classes but the first."""
    return sum(values[1:]) / len(values[1:])


def best_rate(key, config, done):
    """Return the rate with the best mean IoU over the runs of the sweep.

    A slow starter may have found nothing yet at any rate; the loss decides then.
    """

    def judged(lr):
        pair = {"role": "sweep", "data": key["data"], "arm": key["arm"], "lr": lr}
        runs = [r["values"] for r in done if r["key"].items() >= pair.items()]
        # A loss that left the numbers is kept as None.
        losses = [np.inf if r["val_loss"] is None else r["val_loss"] for r in runs]
        return round(np.mean([r["val_iou"] for r in runs]), 3), -np.mean(losses)

    return max(config["rates"], key=judged)


def costs(config, device):
    """Return parameters, multiply-adds, kept bytes and relative time of each model.

    For one image of one channel, 256 pixels wide; times relative to U-Net's.
    """
    nets = {arm: build(arm, 1, 2).to(device).eval() for arm in config["arms"]}
    side, rounds = (32, 2) if config["small"] else (256, 15)
    return {"models": recipes.costs(nets, "unet", side, rounds)}
