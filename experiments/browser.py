"""How small may a network be that a page hands to its reader?

Four U-Nets with padded convolutions learn the membranes of ISBI 2012, slices 0 to 23,
turned, mirrored and bent as in chapter 9. Each is written as an ONNX file, and both are
kept: what it scores on the held-out slices, and how many bytes it takes.

One of them then trains longer, and is the network of chapter 23's page. It is scored
as it is and with rounded weights: in 16 bits, and in 8 bits with one scale for each
output channel. Its file is ``book/_static/live/network.onnx``; the study writes it, and
keeps its checksum.
"""

import copy
import hashlib
import tempfile
from pathlib import Path

import torch
from torch.utils.data import Subset

from unet_edu import UNet, metrics, recipes, studies
from unet_edu.data import isbi2012
from unet_edu.export import to_onnx

QUESTION = "How small may a network be that a page hands to its reader?"
ARMS = {
    "4 wide, 4 deep": {"base_channels": 4, "depth": 4},
    "8 wide, 2 deep": {"base_channels": 8, "depth": 2},
    "8 wide, 3 deep": {"base_channels": 8, "depth": 3},
    "12 wide, 3 deep": {"base_channels": 12, "depth": 3},
}
CONFIG = {
    "crop": 128,
    "batch_size": 4,
    "epochs": 1,
    "steps": 300,
    "precision": "bf16",
    "lr": 0.01,
    "turn": True,
    "bend": 10.0,
    "page": {"arm": "8 wide, 3 deep", "seed": 0, "steps": 1500},
    "write": True,
    "small": False,
}
QUICK = {
    "steps": 2,
    "page": {"arm": "8 wide, 3 deep", "seed": 0, "steps": 2},
    "write": False,
    "small": True,
}


def stages(config, seeds):
    """Every size with every seed; then the network of the page, once."""
    page = {
        "role": "page",
        "arm": config["page"]["arm"],
        "seed": config["page"]["seed"],
    }
    return [[{"arm": arm, "seed": seed} for arm in ARMS for seed in seeds], [page]]


def run(key, config, device, done):
    """Train one network, score it on the held-out slices, weigh its file."""
    is_page = key.get("role") == "page"
    stack, held_out = isbi2012.load("train"), isbi2012.load("held_out")
    if config["small"]:
        held_out = Subset(held_out, [0])
    torch.manual_seed(key["seed"])
    model = UNet(1, 2, padding=1, **ARMS[key["arm"]])
    recipes.train(
        model,
        stack,
        config | ({"steps": config["page"]["steps"]} if is_page else {}),
        seed=key["seed"],
        lr=config["lr"],
        device=device,
        turn=config["turn"],
        bend=config["bend"],
    )
    with tempfile.TemporaryDirectory() as folder:
        file = to_onnx(model, Path(folder) / "network.onnx").read_bytes()
    values = scores(model, held_out) | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": len(file),
    }
    if is_page:
        values["sha256"] = hashlib.sha256(file).hexdigest()
        values["rounded"] = {
            f"{bits} bits": scores(rounded(model, bits), held_out)
            for bits in (16, 8, 4)
        }
        if config["write"]:
            # From the repository only: what is installed has no page to write to.
            page = studies.folder("book") / "_static" / "live" / "network.onnx"
            page.write_bytes(file)
    return values


def scores(model, data):
    """Return accuracy, membrane IoU and V_Rand (at one half, and at its best)."""
    regions = [metrics.regions(mask, thin=False) for _, mask in data]
    found = recipes.score(model, data, regions)
    names = ("accuracy", "v_rand", "v_rand_best")
    return {name: found[name] for name in names} | {"iou": found["iou"][1]}


def rounded(model, bits):
    """Return a copy of a model whose kernels have passed through few bits.

    16: half precision. Fewer: whole numbers and one scale for each output channel, the
    numbers reaching from -(2^(bits - 1) - 1) to as much above zero. What is stored in a
    file is rounded so; the computing stays in float32. Derived in chapter 23.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            # A transposed convolution keeps its output channels in the second axis.
            axis = int(isinstance(module, torch.nn.ConvTranspose2d))
            weight = module.weight.data.transpose(0, axis)
            if bits == 16:
                weight = weight.half().float()
            else:
                most = 2 ** (bits - 1) - 1
                scale = weight.abs().amax((1, 2, 3), keepdim=True) / most
                weight = (weight / scale).round() * scale
            module.weight.data = weight.transpose(0, axis).contiguous()
    return model
