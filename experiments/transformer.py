"""What does a transformer cost in data?

A U-Net, a transformer at the bottom of a U-Net, a transformer as the encoder, and a
U-Net of window attention, at about half a million parameters each and without any
pretraining. They learn the membranes of ISBI 2012 from 1 and from 20 slices, in the
same number of steps; a seed draws the same slices and the same pieces for all. Every
network runs at every learning rate with every seed; the rate is chosen by the mean over
seeds on validation slices, for each network and each number of slices.

UNETR normalises each map of each image by itself (instance norm), the U-Net by what it
met in training (batch norm). So a second U-Net, with instance norm, stands beside them.

All networks are scored in tiles of the size that they were trained on. What they say of
a larger image in one piece is scored beside it.
"""

import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from unet_edu import UNet, metrics, recipes
from unet_edu.families.transformer import UNETR, SwinUNet, TransUNet
from unet_edu.inference import predict, predict_tiled
from unet_edu.training import NonFiniteLoss

QUESTION = "What does a transformer cost in data?"
CONTROLS = ("unet_instance",)
CONFIG = {
    "data": ["isbi2012"],
    "arms": ["unet", "trans_unet", "unetr", "swin_unet"],
    "slices": [1, 20],
    "crop": 96,
    "overlap": 16,
    "batch_size": 4,
    "epochs": 1,
    "steps": 160,
    "precision": "bf16",
    "rates": [0.001, 0.004],
    "small": False,
}
QUICK = {"steps": 2, "batch_size": 2, "rates": [0.004], "slices": [1], "small": True}


def stages(config, seeds):
    """First the networks of the question, then the control, each in every setting."""

    def runs(arms):
        keys = recipes.every_rate(config, arms, seeds)
        return [{**key, "slices": n} for n in config["slices"] for key in keys]

    return [runs(config["arms"]), runs(CONTROLS)]


def build(arm, n_channels, crop):
    """Return the network of one arm; its weights come from PyTorch's generator."""
    shape = (n_channels, 2)
    if arm == "unet":
        return UNet(*shape, base_channels=8, padding=1)
    if arm == "unet_instance":
        return with_instance_norm(UNet(*shape, base_channels=8, padding=1))
    if arm == "trans_unet":
        settings = {"encoder": "unet", "embed_dim": 48, "layers": 3, "heads": 4}
        return TransUNet(*shape, base_channels=8, image_size=crop, **settings)
    if arm == "unetr":
        settings = {"depth": 3, "embed_dim": 64, "layers": 8, "heads": 4}
        return UNETR(*shape, base_channels=8, image_size=crop, **settings)
    return SwinUNet(*shape, embed_dim=26, patch=4, stages=3, heads=2, window=6)


def with_instance_norm(net):
    """Replace each batch norm; instance norm has the same parameters."""
    for block in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                block[i] = nn.InstanceNorm2d(layer.num_features, affine=True)
    return net


def run(key, config, device, done):
    """Train one network on some slices; score it on the ones that are held out."""
    splits = recipes.load_splits(key["data"], config["small"])
    torch.manual_seed(key["seed"])
    model = build(key["arm"], splits.n_channels, config["crop"])
    draw = torch.Generator().manual_seed(key["seed"])
    chosen = torch.randperm(len(splits.train), generator=draw)[: key["slices"]]
    few = Subset(splits.train, chosen.tolist())
    values = {"parameters": sum(p.numel() for p in model.parameters())}
    try:
        history = recipes.train(
            model, few, config, seed=key["seed"], lr=key["lr"], device=device
        )
    except NonFiniteLoss:
        return values | {"val_iou": 0.0}
    tiled = Tiled(model, config)
    # Every second of the held-out slices: neighbours are nearly the same.
    every = range(0, len(splits.held_out), 2)
    scores = recipes.score(
        tiled, Subset(splits.held_out, every), [splits.regions[i] for i in every]
    )
    middle = TensorDataset(*(x[..., 128:384, 128:384] for x in splits.held_out.tensors))
    if config["small"]:
        middle = splits.held_out
    return values | {
        "loss": history[-1]["loss"],
        "val_iou": membrane_iou(tiled, splits.val),
        **scores,
        "iou": scores["iou"][1],
        "dice": scores["dice"][1],
        "iou_in_tiles": membrane_iou(tiled, Subset(middle, every)),
        "iou_in_one": membrane_iou(model, Subset(middle, every)),
    }


class Tiled(nn.Module):
    """A model that answers for an image tile by tile, each of its training's size.

    Shapes: images (1, C, H, W) to logarithms of probabilities (1, n_classes, H, W).
    """

    padding = 1

    def __init__(self, model, config):
        super().__init__()
        self.model, self.n_channels = model, model.n_channels
        self.tile, self.overlap = config["crop"], config["overlap"]

    def forward(self, x):
        p = predict_tiled(
            *(self.model, x[0], self.tile, self.overlap), batch_size=8, progress=False
        )
        return p[None].clamp_min(1e-12).log()


def membrane_iou(model, data):
    """Return the IoU of membrane over a data set."""
    confusion = 0
    for i in range(len(data)):
        image, mask = data[i]
        found = predict(model, image[None])[0].argmax(0).cpu()
        confusion = confusion + metrics.confusion_matrix(found, mask, 2)
    return metrics.iou(confusion)[1].item()
