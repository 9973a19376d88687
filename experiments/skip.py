"""What is wrong with the skip, and does an answer to it help?

Plain U-Net, Attention U-Net, U-Net++ and UNet 3+ of depth 3, each with about half a
million parameters, on two tasks. U-Net++ has its heads at every node of full size,
which pruning needs; the others have one head. Every network runs at every rate with
every seed, and the chapter takes the rate with the best mean on validation images.

Two things are measured besides the scores. U-Net++ is read at each of its depths. And
on ISBI 2012 a linear classifier, one for each map at full size, tells how far that map
alone can part membrane from dark pixels inside cells.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from unet_edu import UNet, metrics, recipes
from unet_edu.families.skip import AttentionUNet, UNet3Plus, UNetPlusPlus
from unet_edu.ledger import ledger
from unet_edu.training import NonFiniteLoss

QUESTION = "Gate the skip, bridge it, or bring all scales: does one of them help?"
CONFIG = {
    "data": ["isbi2012", "cells"],
    # Whole numbers nearest to half a million parameters; 15 makes 477,345 and 486,711.
    "widths": {
        "unet": 16,
        "attention_unet": 15,
        "unet_plus_plus": 15,
        "unet_3plus": 16,
    },
    "depth": 3,
    "crop": 64,
    "batch_size": 4,
    "epochs": 1,
    "steps": 120,
    "precision": "bf16",
    "rates": [0.003, 0.01],
    "small": False,
}
QUICK = {
    "data": ["isbi2012"],
    "widths": {
        "unet": 4,
        "attention_unet": 4,
        "unet_plus_plus": 4,
        "unet_3plus": 4,
    },
    "steps": 2,
    "batch_size": 2,
    "rates": [0.01],
    "small": True,
}


def stages(config, seeds):
    """Every network at every rate with every seed, then what each costs."""
    runs = [
        {"data": data, "arm": arm, "lr": lr, "seed": seed}
        for seed in seeds
        for data in config["data"]
        for arm in config["widths"]
        for lr in config["rates"]
    ]
    return [runs, [{"role": "cost"}]]


def run(key, config, device, done):
    """Train one network and score it, or measure what all of them cost."""
    if key.get("role") == "cost":
        return costs(config)
    splits = recipes.load_splits(key["data"], config["small"])
    torch.manual_seed(key["seed"])
    model = build(key["arm"], splits.n_channels, config)
    settings = {"seed": key["seed"], "lr": key["lr"], "device": device}
    try:
        recipes.train(model, splits.train, config, **settings)
    except NonFiniteLoss:
        return {"val_iou": 0.0}
    scores = recipes.score(model, splits.held_out, splits.regions)
    values = scores | {
        "iou": scores["iou"][1],
        "dice": scores["dice"][1],
        "val_iou": recipes.score(model, splits.val, None)["iou"][1],
    }
    if isinstance(model, UNetPlusPlus):
        values["depth_iou"] = iou_of_depths(model, splits.held_out)
    if key["data"] == "isbi2012":
        values |= look_at_skips(model, splits)
    return values


def build(arm, n_channels, config):
    """Return the network of one arm; its weights come from PyTorch's generator."""
    size = {"base_channels": config["widths"][arm], "depth": config["depth"]}
    if arm == "unet":
        return UNet(n_channels, 2, padding=1, **size)
    if arm == "attention_unet":
        return AttentionUNet(n_channels, 2, **size)
    if arm == "unet_plus_plus":
        return UNetPlusPlus(n_channels, 2, **size)
    return UNet3Plus(n_channels, 2, deep_supervision=False, **size)


@torch.no_grad()
def iou_of_depths(model, data):
    """Return the IoU of class 1 for each depth at which a U-Net++ is read."""
    model.eval()
    device = next(model.parameters()).device
    confusion = [0] * model.depth
    for image, mask in data:
        for level, logits in enumerate(model.all_logits(image[None].to(device))):
            found = logits[0].argmax(0).cpu()
            confusion[level] = confusion[level] + metrics.confusion_matrix(
                found, mask, 2
            )
    return [metrics.iou(matrix)[1].item() for matrix in confusion]


# What a map at full size can tell.


def kinds(image, mask):
    """Return three sets of pixels (H, W): membrane, dark inside a cell, other inside.

    Inside is more than 6 pixels from membrane. Dark is darker than half of the
    membrane's pixels, both smoothed by 1.5 pixels. What is dark inside a cell is mostly
    mitochondria.
    """
    smooth = torch.from_numpy(ndimage.gaussian_filter(image[0].numpy(), 1.5))
    inside = torch.from_numpy(ndimage.distance_transform_edt(mask == 0)) > 6
    dark = smooth < smooth[mask == 1].median()
    return {"membrane": mask == 1, "dark": inside & dark, "plain": inside & ~dark}


def probe(maps, masks, n=20_000):
    """Return a linear classifier of membrane, from n pixels of maps (N, C, H, W)."""
    generator = torch.Generator().manual_seed(0)
    x, y = maps.movedim(1, -1).flatten(0, 2), masks.flatten().float()
    drawn = torch.randint(len(x), (n,), generator=generator)
    x, y = x[drawn], y[drawn]
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x = torch.cat([(x - mean) / spread, torch.ones(n, 1)], dim=1)
    weights = torch.zeros(x.shape[1], requires_grad=True)
    steps = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        steps.zero_grad()
        # A little weight decay, since some channels may be nearly the same.
        decay = 1e-4 * weights.square().sum()
        value = F.binary_cross_entropy_with_logits(x @ weights, y) + decay
        value.backward()
        return value

    steps.step(loss)
    w = weights.detach()
    return lambda m: (m.movedim(1, -1) - mean) / spread @ w[:-1] + w[-1]


@torch.no_grad()
def full_size_maps(model, x):
    """Return the maps at full size by name, on the CPU, and alpha if there is one."""
    model.eval()
    x = x.to(next(model.parameters()).device)
    if isinstance(model, UNetPlusPlus):
        found = [model.encode(x)[0], *model.decode(x)]
        maps = {f"x0_{j}": m for j, m in enumerate(found)}
    else:
        seen = {}
        head = model.heads[-1] if isinstance(model, UNet3Plus) else model.outc
        hook = head.register_forward_pre_hook(lambda _, args: seen.update(m=args[0]))
        model(x)
        hook.remove()
        maps = {"skip": model.encode(x)[0], "decoder": seen["m"]}
    alpha = None
    if isinstance(model, AttentionUNet):
        alpha = model.gates(x)[-1]
        maps["gated"] = alpha * maps["skip"]
        alpha = alpha[:, 0].cpu()
    return {name: m.cpu() for name, m in maps.items()}, alpha


def look_at_skips(model, splits, recall=0.8):
    """Say what each map at full size mistakes for membrane, and where gates close.

    ``alarms``: the share of dark and of plain pixels inside cells that a linear
    classifier on one map calls membrane, at the threshold that finds 80 % of it.
    ``alpha``: the mean of the widest gate over membrane, dark and plain pixels.
    """
    # The lower left of the slices, where most of the dark bodies lie.
    window = (..., slice(-256, None), slice(0, 256))
    learn = [(x[window], y[window]) for x, y in list(splits.train)[::4]]
    look = [(x[window], y[window]) for x, y in splits.held_out]
    sets = [kinds(x, y) for x, y in look]
    sets = {name: torch.stack([s[name] for s in sets]) for name in sets[0]}
    x, y = (torch.stack(part) for part in zip(*learn, strict=True))
    test = torch.stack([image for image, _ in look])
    maps, _ = full_size_maps(model, x)
    test_maps, alpha = full_size_maps(model, test)
    alarms = {}
    for name in maps:
        score = probe(maps[name], y)(test_maps[name])
        called = score > np.quantile(score[sets["membrane"]], 1 - recall)
        alarms[name] = {
            kind: called[sets[kind]].float().mean().item() for kind in ("dark", "plain")
        }
    values = {"alarms": alarms}
    if alpha is not None:
        values["alpha"] = {k: alpha[where].mean().item() for k, where in sets.items()}
    return values


def costs(config):
    """Return parameters and multiply-adds at 256x256 of each arm and each depth."""
    nets = {arm: build(arm, 1, config) for arm in config["widths"]}
    nested = nets["unet_plus_plus"]
    nets |= {f"depth_{d}": nested.pruned(d) for d in range(1, config["depth"] + 1)}
    return {
        name: {
            "parameters": sum(p.numel() for p in net.parameters()),
            "mult_adds": ledger(net, (1, 1, 256, 256)).mult_adds,
        }
        for name, net in nets.items()
    }
