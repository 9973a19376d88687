"""What if two raters disagree?

Networks of about half a million parameters learn from raters who disagree. The images
are drawn nuclei; four annotators draw by four habits, each as likely as the others, so
that the true distribution of the masks of an image is known: four masks, a quarter
each. Training shows of each image one rater's mask, drawn at random. Scored: how far
the samples of a network are from the raters' masks as a distribution, and how right its
probabilities are.
"""

import numpy as np
import torch
from torch.utils.data import Dataset

from unet_edu import UNet, metrics, recipes
from unet_edu.data import cells
from unet_edu.families.probabilistic import (
    DropoutUNet,
    ProbabilisticUNet,
    StochasticSegmentationNetwork,
)
from unet_edu.training import NonFiniteLoss

QUESTION = "What if two raters disagree?"
# The number behind "latent" is beta.
ARMS = (
    "unet",
    "dropout",
    "stochastic",
    "latent_1",
    "latent_10",
    "latent_100",
    "latent_1000",
)
CONFIG = {
    "data": ["cells"],
    "arms": list(ARMS),
    "base_channels": 16,
    "depth": 3,
    "crop": 32,
    "batch_size": 8,
    "epochs": 1,
    "steps": 200,
    "precision": "bf16",
    "rates": [0.003, 0.01],
    "samples": 16,
    "small": False,
}
QUICK = {
    "arms": ["unet", "dropout", "stochastic", "latent_1"],
    "base_channels": 8,
    "steps": 2,
    "batch_size": 2,
    "rates": [0.01],
    "samples": 3,
    "small": True,
}


def stages(config, seeds):
    """What is known of the raters, then every network at every rate with every seed."""
    runs = recipes.every_rate(config, config["arms"], seeds)
    # Seed by seed, so that a study that is stopped has whole seeds.
    return [[{"role": "known"}], sorted(runs, key=lambda key: key["seed"])]


def run(key, config, device, done):
    """Train one network on masks of raters drawn at random, and score its samples."""
    parts = load(config["small"])
    if key.get("role") == "known":
        return known(parts["held_out"], config["samples"])
    torch.manual_seed(key["seed"])
    model = build(key["arm"], config)
    try:
        recipes.train(
            model,
            OneRater(parts["train"]),
            config,
            seed=key["seed"],
            lr=key["lr"],
            device=device,
        )
    except NonFiniteLoss:
        return {"val_ged": float("nan")}
    torch.manual_seed(key["seed"])
    model.eval()
    val = [ged_of(model, *pair, config["samples"]) for pair in parts["val"]]
    rows = [score(model, *pair, config["samples"]) for pair in parts["held_out"]]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {"val_ged": float(np.mean(val)), **means, "parameters": count(model)}


def build(arm, config):
    """Return the network of one arm; its weights come from PyTorch's generator."""
    base, depth = config["base_channels"], config["depth"]
    size = {"base_channels": base, "depth": depth}
    if arm == "unet":
        return UNet(1, 2, padding=1, **size)
    if arm == "dropout":
        return DropoutUNet(1, 2, **size)
    if arm == "stochastic":
        return StochasticSegmentationNetwork(1, 2, **size)
    # Three encoders instead of one: ten channels are about as large as sixteen.
    return ProbabilisticUNet(
        1,
        2,
        base_channels=base * 5 // 8,
        depth=depth,
        latent_dim=2,
        beta=float(arm.removeprefix("latent_")),
        norm=True,
    )


def count(model):
    return sum(p.numel() for p in model.parameters())


def load(small=False):
    """Return for train, val and held_out pairs of an image and all raters' masks.

    Shapes: (1, H, W) and (raters, H, W).
    """
    return {
        part: [
            (s.image, torch.stack([cells.annotate(s, a) for a in cells.ANNOTATORS]))
            for s in nuclei(2 if small else n, seed)
        ]
        for part, n, seed in [("train", 64, 0), ("val", 8, 1), ("held_out", 24, 2)]
    }


def nuclei(n, seed):
    """Return samples of 64x64 pixels with a dozen nuclei each."""
    return cells.Cells(n, seed, 64, "nuclei", diameter=12.0, noise=0.08).samples


class OneRater(Dataset):
    """(image, mask) pairs; whose mask it is, is drawn anew each time."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image, masks = self.pairs[index]
        return image, masks[torch.randint(len(masks), ())]


def draws(model, image, n):
    """Return the probability of class 1 in ``n`` draws of a model, (n, H, W).

    A model without samples has one answer.
    """
    x = image[None].to(next(model.parameters()).device)
    with torch.no_grad():
        logits = model.samples(x, n) if hasattr(model, "samples") else model(x)[None]
    return logits[:, 0].float().softmax(1)[:, 1].cpu()


def masks_of(p):
    """Return the masks (n, H, W) of probabilities, cut at one half."""
    return (p > 0.5).long()


def pixel_by_pixel(p, n):
    """Return ``n`` masks (n, H, W) whose pixels are drawn one by one."""
    return torch.rand(n, *p.shape).lt(p).long()


def ged_of(model, image, masks, n):
    return metrics.ged(masks_of(draws(model, image, n)), masks)


def score(model, image, masks, n):
    """Score the samples of a model for one image against the masks of its raters.

    ``ged``: squared generalised energy distance. ``diversity``: mean distance of two
    samples. ``nearest``: mean distance of a sample from the rater's mask that is most
    like it. ``ece``: expected calibration error of the mean probability against the
    share of raters in each pixel. ``dice``: of the mean probability, cut at one half,
    with the raters' masks, a mean over raters. For a model with one answer, also
    ``pixel_ged``, ``pixel_diversity`` and ``pixel_nearest`` of masks that are drawn
    pixel by pixel.
    """
    p = draws(model, image, n)
    mean, samples = p.mean(0), masks_of(p)
    called = (mean > 0.5).long()
    values = {
        **compare(samples, masks),
        "ece": metrics.calibration(mean.clamp(0, 1), masks.float().mean(0)).error,
        "dice": float(np.mean([dice(called, y) for y in masks])),
    }
    if len(p) == 1:
        noise = compare(pixel_by_pixel(mean, n), masks)
        values |= {f"pixel_{name}": value for name, value in noise.items()}
    return values


def compare(samples, masks):
    """Return ``ged``, ``diversity`` and ``nearest`` of masks (n, H, W)."""
    pairs = [(i, j) for i in range(len(samples)) for j in range(i)]
    apart = [metrics.distance(samples[i], samples[j]) for i, j in pairs]
    return {
        "ged": metrics.ged(samples, masks),
        "diversity": float(np.mean(apart)) if pairs else 0.0,
        "nearest": float(
            np.mean([min(metrics.distance(s, y) for y in masks) for s in samples])
        ),
    }


def dice(one, other):
    confusion = metrics.confusion_matrix(one, other, 2)
    return float(metrics.dice(confusion)[1])


def known(pairs, n, draws=20):
    """Return what the raters' masks by themselves say: the values to aim at.

    ``single``: GED^2 of the rater's mask that, given alone, is nearest to all of them;
    ``perfect``: mean and ``spread``: standard deviation of GED^2, over draws of ``n``
    masks from the raters themselves, of the mean over images; ``diversity``: mean
    distance of two raters drawn with replacement.
    """
    rng = np.random.default_rng(0)
    single = [min(metrics.ged(y[None], masks) for y in masks) for _, masks in pairs]
    perfect = [
        np.mean([metrics.ged(masks[rng.integers(len(masks), size=n)], masks)
                 for _, masks in pairs])
        for _ in range(draws)
    ]  # fmt: skip
    diversity = [
        np.mean([metrics.distance(y, z) for y in masks for z in masks])
        for _, masks in pairs
    ]
    return {
        "single": float(np.mean(single)),
        "perfect": float(np.mean(perfect)),
        "spread": float(np.std(perfect)),
        "diversity": float(np.mean(diversity)),
    }


def best_rate(result, arm):
    """Return the learning rate with the lowest mean GED^2 on validation images."""

    def mean(lr):
        values = result.values("val_ged", arm=arm, lr=lr)
        return float(np.nan_to_num(values, nan=1.0).mean())

    return min(result.record["config"]["rates"], key=mean)
