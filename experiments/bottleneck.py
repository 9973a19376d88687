"""Does the network see far enough?

Five answers to a short sight, beside the U-Net of depth 3 that they are added to, all
with about its number of parameters: a level more, squeeze and excitation, spatial
attention, ASPP, and CE-Net's two blocks.

Two drawn tasks, in which a landmark far away decides the class of a disc. They ask
where the sight of a network ends, not which is ahead by a hundredth, and use one
learning rate. And the membranes of ISBI 2012, where every network runs at every rate
with every seed; ``recipes.best_by_mean`` chooses on validation images.
"""

import numpy as np
import torch
from torch.utils.data import TensorDataset

from unet_edu import UNet, losses, recipes
from unet_edu.families.bottleneck import ASPPUNet, CENet, SAUNet, SEUNet
from unet_edu.training import fit

QUESTION = "Does the network see far enough?"
# What an arm is built from, and how many levels it has more than the plain network.
ARMS = {
    "unet": (UNet, 0),
    "deeper": (UNet, 1),
    "se": (SEUNet, 0),
    "sa": (SAUNet, 0),
    "aspp": (ASPPUNet, 0),
    "ce": (CENet, 0),
}
TASKS = ("what", "where")
HEIGHT, WIDTH, RADIUS, MARK = 16, 160, 4, 6  # pixels
GROUND, DISC, KINDS = 0.4, 0.7, (1.0, 0.0)  # grey values; class 1 bright, class 2 dark
BIN = 10  # pixels of distance that are scored together
CONFIG = {
    "base_channels": 16,
    "depth": 3,
    "strips": 256,
    "strip_batch": 8,
    "strip_steps": 160,
    "strip_rate": 0.003,
    "crop": 64,
    "batch_size": 4,
    "epochs": 1,
    "steps": 100,
    "precision": "bf16",
    "rates": [0.003, 0.01],
    "small": False,
}
QUICK = {
    "base_channels": 4,
    "strips": 4,
    "strip_batch": 2,
    "strip_steps": 2,
    "crop": 48,
    "batch_size": 2,
    "steps": 2,
    "rates": [0.01],
    "small": True,
}


def stages(config, seeds):
    """Every network with every seed: on strips at one rate, on slices at each."""
    on_strips = config | {"data": TASKS, "rates": [config["strip_rate"]]}
    on_slices = config | {"data": ["isbi2012"]}
    plans = (recipes.every_rate(plan, ARMS, seeds) for plan in (on_strips, on_slices))
    return [[key for plan in plans for key in plan]]


def run(key, config, device, done):
    """Train one network, score it on validation images and on held-out ones."""
    on_strips = key["data"] in TASKS
    torch.manual_seed(key["seed"])
    model = build(key["arm"], 3 if on_strips else 2, config)
    size = {"parameters": count(model)}
    if on_strips:
        train_on_strips(model, key["data"], config, key["seed"], key["lr"], device)
        val, held_out = (
            by_distance(model, strips(key["data"], config["strips"] // 2, part))
            for part in (1, 2)
        )
        return size | {"val_score": val["accuracy"]} | held_out
    splits = recipes.load_splits(key["data"], config["small"])
    at = {"seed": key["seed"], "lr": key["lr"], "device": device}
    recipes.train(model, splits.train, config, **at)
    val = recipes.score(model, splits.val, None)
    scores = recipes.score(model, splits.held_out, None)
    return size | {
        "val_score": val["iou"][1],
        "iou": scores["iou"][1],
        "boundary_f1": scores["boundary_f1"],
        "accuracy": scores["accuracy"],
    }


def build(arm, n_classes, config):
    """Return an arm's network, as near in size to the plain one as its width allows."""

    def network(arm, width):
        kind, more = ARMS[arm]
        size = {"base_channels": width, "depth": config["depth"] + more}
        if kind is UNet:
            size["padding"] = 1
        return kind(1, n_classes, **size)

    base = config["base_channels"]
    with torch.device("meta"):
        wanted = count(network("unet", base))
        sizes = {w: count(network(arm, w)) for w in range(1, base + 1)}
    return network(arm, min(sizes, key=lambda width: abs(sizes[width] - wanted)))


def count(model):
    return sum(p.numel() for p in model.parameters())


# The drawn tasks -----------------------------------------------------------------


def draw(seed, task):
    """Draw one strip of identical discs with a landmark at one end or at both.

    ``"what"``: one landmark, at either end, bright or dark; every disc is of class 1
    if it is bright and of class 2 if it is dark. ``"where"``: one at each end, each
    bright or dark by chance; a disc has the class of the nearer one.

    Returns the image (1, HEIGHT, WIDTH) float32 in [0, 1], the mask (HEIGHT, WIDTH)
    int64, and for each pixel how many columns it is from the landmark that decides,
    int64.
    """
    rng = np.random.default_rng([seed, TASKS.index(task)])
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.full((HEIGHT, WIDTH), GROUND)
    kind = rng.integers(2, size=2)
    shown = (0, 1) if task == "where" else (int(rng.integers(2)),)
    for end in shown:
        start = 0 if end == 0 else WIDTH - MARK
        image[4:-4, start : start + MARK] = KINDS[kind[end]]
    away = np.stack([columns - MARK + 1, WIDTH - MARK - columns])
    decides = away.argmin(0) if task == "where" else np.full(image.shape, shown[0])
    mask = np.zeros(image.shape, dtype=np.int64)
    free = np.ones(image.shape, dtype=bool)
    margin = MARK + RADIUS + 1
    for _ in range(8):
        row = rng.integers(RADIUS + 1, HEIGHT - RADIUS - 1)
        column = rng.integers(margin, WIDTH - margin)
        disc = np.hypot(rows - row, columns - column) <= RADIUS
        if free[disc].all():
            image[disc] = DISC
            mask[disc] = 1 + kind[decides[row, column]]
            free &= np.hypot(rows - row, columns - column) > 2 * RADIUS + 3
    image = (image + 0.05 * rng.standard_normal(image.shape)).clip(0, 1)
    distance = np.take_along_axis(away, decides[None], 0)[0]
    return (
        torch.from_numpy(image.astype(np.float32))[None],
        torch.from_numpy(mask),
        torch.from_numpy(distance),
    )


def strips(task, n, part):
    """Return ``n`` strips with their masks and distances; parts share no strip."""
    drawn = [draw(10_000 * part + i, task) for i in range(n)]
    return TensorDataset(*(torch.stack(maps) for maps in zip(*drawn, strict=True)))


def train_on_strips(model, task, config, seed, lr, device):
    """Train on part 0 of the strips. A pixel of the ground weighs 0.05 of a disc's."""
    images, masks, _ = strips(task, config["strips"], 0).tensors
    weights = torch.where(masks > 0, 1.0, 0.05)
    pieces = TensorDataset(images, masks, weights / weights.mean())
    return fit(
        model,
        pieces,
        epochs=config["strip_steps"] * config["strip_batch"] // config["strips"],
        batch_size=config["strip_batch"],
        lr=lr,
        loss=losses.cross_entropy,
        seed=seed,
        precision=config["precision"],
        device="cpu" if device == "cpu" else None,
        progress=False,
    )


@torch.no_grad()
def by_distance(model, data):
    """Say how many disc pixels are called by their true class: all, and by distance.

    Only the two classes of discs are compared, so that chance is one half. ``bins``
    holds the accuracy for each ``BIN`` pixels of distance, None where there is no disc.
    """
    images, masks, distance = data.tensors
    device = next(model.parameters()).device
    model.eval()
    logits = torch.cat([model(x.to(device)).cpu() for x in images.split(32)])
    on_disc = masks > 0
    called = 1 + (logits[:, 2] > logits[:, 1]).long()
    right = (called == masks)[on_disc].double()
    place = distance[on_disc] // BIN
    bins = [right[place == i] for i in range(WIDTH // BIN)]
    return {
        "accuracy": right.mean().item(),
        "bins": [b.mean().item() if len(b) else None for b in bins],
    }
