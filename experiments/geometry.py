"""What does the border cost: padded maps, cropped skips, padded convolutions?

Three networks of three levels: the article's (unpadded convolutions, the map from
below padded with zeros), the paper's (unpadded, the skip cropped) and the practical one
(padded convolutions). All see pieces of the same size, and predict whole held-out
slices, the unpadded ones over a mirrored border. Errors are counted by distance to the
border of the slice.
"""

import torch

from unet_edu import UNet, recipes
from unet_edu.data import isbi2012
from unet_edu.inference import predict

QUESTION = "How far from the border can a prediction be trusted?"
ARMS = {
    "article": {"padding": 0, "align": "pad"},
    "paper": {"padding": 0, "align": "crop"},
    "padded": {"padding": 1},
}
CONFIG = {
    "base_channels": 8,
    "depth": 3,
    "crop": 180,
    "batch_size": 2,
    "epochs": 1,
    "steps": 300,
    "precision": "bf16",
    "lr": 0.01,
    # Pixels from the border: 0 to 3, 4 to 7, and so on; the last ring is the middle.
    "rings": [0, 4, 8, 16, 32, 64, 96],
    "mirror": 96,
    "small": False,
}
QUICK = {"base_channels": 4, "steps": 2, "small": True}


def stages(config, seeds):
    """All runs at once."""
    return [[{"arm": arm, "seed": seed} for arm in ARMS for seed in seeds]]


def run(key, config, device, done):
    """Train one geometry; count its errors ring by ring."""
    stack, held_out = isbi2012.load("train"), isbi2012.load("held_out")
    images, masks = held_out.tensors
    if config["small"]:
        images, masks = images[:1], masks[:1]
    torch.manual_seed(key["seed"])
    model = UNet(
        1,
        2,
        base_channels=config["base_channels"],
        depth=config["depth"],
        **ARMS[key["arm"]],
    )
    recipes.train(
        model, stack, config, seed=key["seed"], lr=config["lr"], device=device
    )
    values = {"error": rings(config, lambda x: predict(model, x), images, masks)}
    if model.padding:
        # The same weights, given the mirror image to look at instead of zeros.
        m = config["mirror"]

        def mirrored(x):
            x = torch.nn.functional.pad(x, (m, m, m, m), mode="reflect")
            return predict(model, x)[..., m:-m, m:-m]

        values["error_mirrored"] = rings(config, mirrored, images, masks)
    return values


def rings(config, predictor, images, masks):
    """Return the share of wrong pixels in each ring, from the border inward."""
    distance = border_distance(*masks.shape[-2:])
    ring = torch.bucketize(distance, torch.tensor(config["rings"]), right=True) - 1
    wrong = torch.zeros(len(config["rings"]), dtype=torch.double)
    for image, mask in zip(images, masks, strict=True):
        found = predictor(image[None])[0].argmax(0).cpu()
        wrong += torch.bincount(ring[found != mask], minlength=len(wrong))
    counts = torch.bincount(ring.flatten(), minlength=len(wrong)) * len(images)
    return (wrong / counts).tolist()


def border_distance(height, width):
    """Return how many pixels lie between each pixel and the nearest border."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    near_rows = torch.minimum(rows, height - 1 - rows)
    return torch.minimum(near_rows, torch.minimum(columns, width - 1 - columns))
