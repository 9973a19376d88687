"""What costs time and memory in a U-Net, and what each way of saving it is worth.

Times are taken in turns within one run, so that whatever else the machine does meets
all arms alike, and only their ratios are told. Each seed repeats all measurements.

The comparison networks and the comparison of tiles are MONAI's: `pip install monai`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from unet_edu import UNet, recipes
from unet_edu.data.augment import RandomCrops
from unet_edu.data.cells import Cells
from unet_edu.data.folder import Folder, prepare
from unet_edu.export import to_int8, to_onnx
from unet_edu.inference import predict_tiled
from unet_edu.ledger import ledger
from unet_edu.speed import checkpoint_activations, fuse_batch_norm
from unet_edu.training import fit

QUESTION = "Where do time and memory go, and which switch is worth turning?"
# Times: one run after another, and a result file for each device.
ALONE = True
CONFIG = {
    "base_channels": 16,
    "depth": 4,
    "crop": 128,
    "batch_size": 8,
    "steps": 8,
    "rounds": 1,
    "train_rounds": 3,
    "threads": 1,
    "widths": [8, 16, 32],
    # The paper's: a step takes four times as long as one of width 32.
    "widest": {"width": 64, "steps": 2},
    "depths": [2, 3, 4, 5],
    "sides": [256, 512, 1024, 2048, 4096, 8192],
    "whole_up_to": 2048,
    "large_seeds": 2,
    "images": [1024, 2048],
    "tile": 256,
    "overlap": 64,
    "data": ["isbi2012", "cells"],
    "quality": {"crop": 96, "batch_size": 4, "epochs": 1, "steps": 240, "lr": 0.01},
    "compile_seeds": 2,
    # Pictures as they lie on disks: compressed, and larger than a piece.
    "loading": {"side": 1024, "files": 16, "steps": 16, "workers": 1},
    "small": False,
}
QUICK = {
    "base_channels": 4,
    "depth": 2,
    "crop": 32,
    "batch_size": 2,
    "steps": 2,
    "rounds": 1,
    "train_rounds": 1,
    "widths": [4],
    "widest": {"width": 4, "steps": 1},
    "depths": [2],
    "sides": [256],
    "whole_up_to": 256,
    "large_seeds": 1,
    "images": [256],
    "tile": 64,
    "overlap": 16,
    "quality": {"crop": 32, "batch_size": 2, "epochs": 1, "steps": 2, "lr": 0.01},
    "compile_seeds": 0,
    "loading": {"side": 64, "files": 3, "steps": 2, "workers": 1},
    "small": True,
}

# A GPU has done a step of these sizes before Python has asked for the next: there, more
# images at once, and more steps, since a call has costs of its own.
ON = {
    "cuda": {
        "batch_size": 32,
        "steps": 16,
        "rounds": 5,
        "widest": {"width": 64, "steps": 16},
        "compile_seeds": 1,
        "loading": {"side": 1024, "files": 16, "steps": 16, "workers": 8},
    }
}


def stages(config, seeds):
    """First times, then what is the same every time, then quality, then processes."""
    times = []
    all_widths = sorted({*config["widths"], config["widest"]["width"]})
    for seed in seeds:
        times += [{"part": "train", "width": w, "seed": seed} for w in all_widths]
        times += [{"part": "alone", "width": w, "seed": seed} for w in all_widths]
        # Where layers are narrow, threads have least to share.
        narrow = config["widths"][:2]
        times += [{"part": "cores", "width": w, "seed": seed} for w in narrow]
        times += [{"part": "depth", "depth": d, "seed": seed} for d in config["depths"]]
        times += [
            {"part": part, "seed": seed}
            for part in ("switches", "narrow", "loading", "inference", "import")
        ]
        times += [{"part": "tiles", "side": s, "seed": seed} for s in config["images"]]
        times += [
            {"part": "size", "side": side, "seed": seed}
            for side in config["sides"]
            if side <= config["whole_up_to"] or seed < config["large_seeds"]
        ]
        if seed < config["compile_seeds"]:
            times += [{"part": "compile", "seed": seed}]
    counts = [{"part": "kept", "depth": depth} for depth in config["depths"]]
    counts += [
        {"part": "training", "width": width, "seed": seed}
        for width in all_widths
        for seed in seeds
    ]
    counts += [
        {"part": "memory", "side": side, "how": how}
        for side in config["sides"]
        for how in ("whole", "tiles", "monai")
        if how == "tiles" or side <= config["whole_up_to"]
    ]
    quality = [
        {"part": "quality", "data": data, "arm": arm, "seed": seed}
        for data in config["data"]
        for arm in ("float32", "default")
        for seed in seeds
    ]
    return [times, counts, quality, [{"part": "processes", "seed": s} for s in seeds]]


def run(key, config, device, done):
    """Take one group of measurements, in seconds, bytes or scores."""
    torch.manual_seed(key.get("seed", 0))
    before = torch.get_num_threads()
    torch.set_num_threads(config["threads"])
    try:
        return globals()[f"measure_{key['part']}"](key, config, device)
    finally:
        torch.set_num_threads(before)


# --- Training.


def measure_train(key, config, device):
    """Time steps of our network under ``fit`` and of plain loops, at one width."""
    config = of_width(config, key["width"])
    # One each: `fit` leaves the weights of its network in another order.
    ours, float32, plain = (unet(config, base_channels=key["width"]) for _ in range(3))
    basic, residual = monai_networks(config, key["width"])
    data = pieces(config)
    arms = {
        "fit": lambda: fitted(ours, data, config, device),
        "fit_float32": lambda: fitted(float32, data, config, device, precision="no"),
        "plain": lambda: plain_loop(plain, data, config, device),
        "monai_basic": lambda: plain_loop(basic, data, config, device),
        "monai_unet": lambda: plain_loop(residual, data, config, device),
    }
    shape = (1, 1, config["crop"], config["crop"])
    counts = {
        f"{name}_mult_adds": ledger(net.cpu(), shape).mult_adds
        for name, net in [("plain", plain), ("monai_basic", basic)]
    }
    return per_step(arms, config) | counts


def measure_alone(key, config, device):
    """Time steps of ``fit`` and of a plain loop, each in a process with no company.

    Beside other networks a loop finds memory that they have left.
    """
    arms = ("fit", "plain")
    call = f"{key['width']}, {config!r}, {device!r}"
    return {arm: elsewhere(f"alone({arm!r}, {call})") for arm in arms}


def alone(arm: str, width: int, config: dict, device: str) -> float:
    """Return the seconds of a step."""
    torch.set_num_threads(config["threads"])
    config = of_width(config, width)
    loop = {"fit": fitted, "plain": plain_loop}[arm]
    net, data = unet(config, base_channels=width), pieces(config)
    return per_step({arm: partial(loop, net, data, config, device)}, config)[arm]


def of_width(config: dict, width: int) -> dict:
    """Return the settings for a network of that width: the widest takes few steps."""
    widest = config["widest"]
    return config | ({"steps": widest["steps"]} if width == widest["width"] else {})


def measure_cores(key, config, device):
    """Time steps with a thread a core, as ``fit`` runs if nobody limits it."""
    torch.set_num_threads(os.cpu_count() or 1)
    plain, both, ours = (unet(config, base_channels=key["width"]) for _ in range(3))
    data, switches = pieces(config), {"channels_last": True, "bf16": True}
    arms = {
        "fit": lambda: fitted(ours, data, config, device),
        "both": lambda: plain_loop(both, data, config, device, **switches),
        "plain": lambda: plain_loop(plain, data, config, device),
    }
    return per_step(arms, config)


def measure_depth(key, config, device):
    """Time steps of a plain loop at one depth."""
    net, data = unet(config, depth=key["depth"]), pieces(config)
    return per_step({"plain": lambda: plain_loop(net, data, config, device)}, config)


def measure_switches(key, config, device):
    """Time steps of a plain loop with one switch turned, and with several."""
    data = pieces(config)
    nets = {
        name: unet(config)
        for name in ("plain", "last", "bf16", "both", "fused", "all", "forget")
    }
    checkpoint_activations(nets["forget"])
    settings = {
        "last": {"channels_last": True},
        "bf16": {"bf16": True},
        "both": {"channels_last": True, "bf16": True},
        "fused": {"fused": True},
        "all": {"channels_last": True, "bf16": True, "fused": True},
    }
    arms = {
        name: lambda name=name, net=net: plain_loop(
            net, data, config, device, **settings.get(name, {})
        )
        for name, net in nets.items()
    }
    arms["data"] = lambda: [None for _ in batches(data, config)]
    return per_step(arms, config)


def measure_narrow(key, config, device):
    """Turn the same switches in the narrowest network, where small costs show."""
    narrow = config | {"base_channels": config["widths"][0]}
    return measure_switches(key, narrow, device)


def measure_loading(key, config, device):
    """Time steps of ``fit`` on pieces of pictures in memory and of pictures in files.

    Each with the process that trains also fetching, and with others that fetch for it.
    """
    settings = config["loading"]
    config = config | {"steps": settings["steps"]}
    n = config["batch_size"] * config["steps"]
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), settings["files"], settings["side"])
        plan = prepare(folder, progress=False)
        # Of what it has decoded it keeps the last picture and no more.
        files = Folder(plan, plan.files, memory=0)
        kept = [files[i] for i in range(len(files))]
        arms = {}
        for name, source in (("memory", kept), ("files", files)):
            crops = RandomCrops(source, config["crop"], n)
            for ending, workers in (("", 0), ("_workers", settings["workers"])):
                arms[name + ending] = partial(
                    fitted, unet(config), crops, config, device, workers=workers
                )
        return per_step(arms, config)


def write_pictures(folder: Path, n: int, side: int) -> None:
    """Draw cells, and write them as PNG with their masks."""
    image, mask = Cells(1, seed=0, size=min(side, 256), diameter=24)[0]
    times = (side // image.shape[-1],) * 2
    rng = np.random.default_rng(0)
    for i in range(n):
        picture = 255 * np.tile(image[0].numpy(), times)
        picture += rng.normal(0, 3, picture.shape)  # or they would compress too well
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        classes = np.tile(mask.numpy(), times).astype(np.uint8)
        Image.fromarray(classes).save(folder / f"{i}_mask.png")


def measure_compile(key, config, device):
    """Time steps of a compiled network, in a process that has compiled nothing yet."""
    # What an earlier run has left on the disk would save the compiling.
    call = f"compiled({config!r}, {device!r})"
    return elsewhere(call, TORCHINDUCTOR_FORCE_DISABLE_CACHES="1")


def compiled(config: dict, device: str) -> dict[str, float]:
    """Return the seconds of a step without and with compiling, and what it took.

    Once in the plain loop, and once on top of channels last and bf16.
    """
    torch.set_num_threads(config["threads"])
    data, first, arms = pieces(config), {}, {}
    both = {"channels_last": True, "bf16": True}
    for name, switches in (("", {}), ("both_", both)):
        net, fast = unet(config), unet(config)
        fast.compile()
        plain, compiled = (
            partial(plain_loop, each, data, config, device, **switches)
            for each in (net, fast)
        )
        plain()  # what starts up once is not the compiler's
        start = time.perf_counter()
        compiled()
        first[name] = time.perf_counter() - start
        arms |= {f"{name}plain": plain, f"{name}compiled": compiled}
    values = per_step(arms, config)
    # Its first call took as many steps as any other; the rest was compiling.
    for name, seconds in first.items():
        steps = config["steps"] * values[f"{name}compiled"]
        values[f"{name}compiling"] = seconds - steps
    return values


def measure_processes(key, config, device):
    """Time epochs of one process, of two that share its batches, and of two threads.

    On one GPU two processes are not defined: NCCL refuses them.
    """
    if device == "cuda" and torch.cuda.device_count() < 2:
        return dict.fromkeys(("one", "two", "threads"), float("nan"))
    script = (
        "from unet_edu import studies\n"
        f"speed = studies.load_study('speed')\n"
        f"speed.one_of_many({config!r}, {device!r})\n"
    )
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "worker.py"
        file.write_text(script, encoding="utf-8")
        threads = config["threads"]
        for name, processes, each in [
            ("one", 1, threads),
            ("two", 2, threads),
            ("threads", 1, 2 * threads),
        ]:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += [f"--nproc-per-node={processes}", str(file)]
            env = os.environ | {"OMP_NUM_THREADS": str(each)}
            found[name] = float(last_line(command, env))
    return found


def one_of_many(config: dict, device: str) -> None:
    """Print the seconds of an epoch, as the first process sees it; called in each."""
    processes = int(os.environ["WORLD_SIZE"])
    shared = config | {"batch_size": config["batch_size"] // processes}
    net, data = unet(config), pieces(config)
    fitted(net, data, shared, device)  # the first one also starts the workers
    start = time.perf_counter()
    fitted(net, data, shared, device)
    wait()
    if os.environ["RANK"] == "0":
        print(time.perf_counter() - start)


def measure_quality(key, config, device):
    """Train with ``fit``'s defaults or in float32, and score whole images."""
    splits = recipes.load_splits(key["data"], config["small"])
    settings = config["quality"]
    net = unet(config)
    torch.manual_seed(key["seed"])
    drawn = settings["batch_size"] * settings["steps"] // settings["epochs"]
    fit(
        net,
        RandomCrops(splits.train, settings["crop"], drawn),
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        seed=key["seed"],
        device="cpu" if device == "cpu" else None,
        progress=False,
        **FLOAT32 if key["arm"] == "float32" else {},
    )
    scores = recipes.score(net, splits.held_out, None)
    return {"dice": scores["dice"][1], "iou": scores["iou"][1]}


FLOAT32 = {"precision": "no", "channels_last": False}


def measure_kept(key, config, device):
    """Count what training keeps for one image, and the weights, in bytes."""
    side, depth = config["crop"], key["depth"]
    net = unet(config, depth=depth)
    book = ledger(net, (1, 1, side, side))
    forgetful = checkpoint_activations(unet(config, depth=depth))
    return {
        "kept": book.activation_bytes,
        "kept_forget": saved_bytes(forgetful, torch.zeros(1, 1, side, side)),
        "kept_counted": saved_bytes(net, torch.zeros(1, 1, side, side)),
        "weights": 4 * sum(p.numel() for p in net.parameters()),
    }


def measure_training(key, config, device):
    """Measure the peak of memory of training, in bytes, a process for each.

    A GPU's account is of arrays and not of a process: there, this one will do.
    """
    arms = ("plain", "fit", "forget", "monai_basic", "monai_unet")
    if device == "cuda":
        return {arm: training_peak(arm, key["width"], config, device) for arm in arms}
    call = f"{key['width']}, {config!r}, {device!r}"
    return {arm: elsewhere(f"training_peak({arm!r}, {call})") for arm in arms}


def training_peak(arm: str, width: int, config: dict, device: str) -> int:
    """Return the bytes that two steps add to the peak."""
    torch.set_num_threads(config["threads"])
    if arm.startswith("monai"):
        net = monai_networks(config, width)[arm == "monai_unet"]
    else:
        net = unet(config, base_channels=width)
    if arm == "forget":
        checkpoint_activations(net)
    loop = fitted if arm == "fit" else plain_loop
    config = config | {"steps": 2}
    small = config | {"crop": 32, "batch_size": 2}
    loop(net, pieces(small), small, device)  # what starts up once does not count
    data = pieces(config)
    return highest(lambda: loop(net, data, config, device), device)


def saved_bytes(net: nn.Module, x: torch.Tensor) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, weights aside.

    A map that two operations keep counts once.
    """
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net.train()(x)
    return sum(nbytes for nbytes, _ in kept.values())


# --- Inference.


@torch.no_grad()
def measure_inference(key, config, device):
    """Time one image through our network in several dresses, and through MONAI's.

    ONNX files only beside a network on the processor, which is where they run.
    """
    side = config["tile"]
    x = torch.rand(1, 1, side, side, device=device)
    last = x.contiguous(memory_format=torch.channels_last)
    net = unet(config).to(device).eval()
    inner = unet(config).to(device, memory_format=torch.channels_last).eval()
    fused = fuse_batch_norm(net)
    basic, residual = (n.to(device).eval() for n in monai_networks(config))

    def mixed():
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            inner(last)

    arms = {
        "plain": lambda: net(x),
        "last": lambda: inner(last),
        "bf16": mixed,
        "fused": lambda: fused(x),
        "monai_basic": lambda: basic(x),
        "monai_unet": lambda: residual(x),
    }
    if device == "cuda":
        return timed(arms, 10 * config["rounds"])
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        files = {"onnx": to_onnx(net, f"{folder}/net.onnx")}
        files["int8"] = to_int8(files["onnx"], f"{folder}/int8.onnx", [x.cpu()])
        for name, file in files.items():
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            session = onnxruntime.InferenceSession(file, options)
            feed = {"x": x.cpu().numpy()}
            arms[name] = lambda session=session, feed=feed: session.run(None, feed)
        sizes = {f"{name}_bytes": os.path.getsize(file) for name, file in files.items()}
    return timed(arms, 10 * config["rounds"]) | sizes


def measure_tiles(key, config, device):
    """Time tiles of ours and of MONAI, and say how far their answers are apart."""
    side = key["side"]
    net, other, image = unet(config).eval(), unet(config).eval(), noise(side)
    other.load_state_dict(net.state_dict())
    net, other = net.to(device), other.to(device)
    arms = {
        "ours": lambda: tiled(net, image, config),
        # The same network as it comes, and as predict_tiled arranges it.
        "monai": lambda: sliding(other, image, config),
        "monai_last": lambda: sliding(net, image, config),
    }
    values = timed(arms, config["rounds"])
    for name, call in arms.items():
        values[f"{name}_tiles"] = count_calls(net if name != "monai" else other, call)
    if key["seed"] == 0:
        ours = tiled(net, image, config)
        for name, weights in [("own", None), ("same", window(config))]:
            theirs = sliding(net, image, config, weights)
            values[f"apart_{name}_weights"] = float((ours - theirs).abs().max())
    return values


def count_calls(net, call):
    calls = []
    handle = net.register_forward_hook(lambda *_: calls.append(1))
    call()
    handle.remove()
    return len(calls)


def tiled(net, image, config):
    return predict_tiled(net, image, config["tile"], config["overlap"], progress=False)


def window(config):
    """Return the weights of a tile's pixels that predict_tiled uses, (tile, tile)."""
    n = config["tile"]
    side = torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
    return side[:, None] * side


@torch.no_grad()
def sliding(net, image, config, weights=None):
    """Return (n_classes, H, W) probabilities by MONAI's sliding windows."""
    from monai.inferers import sliding_window_inference

    device = next(net.parameters()).device
    return sliding_window_inference(
        image[None],
        (config["tile"],) * 2,
        1,
        lambda x: net(x).softmax(1),
        overlap=config["overlap"] / config["tile"],
        mode="gaussian",
        roi_weight_map=weights,
        sw_device=device,
        device="cpu",
    )[0]


def measure_size(key, config, device):
    """Time an image of one size, whole where it fits and tile by tile."""
    # One each: predict_tiled leaves the weights of its network in another order.
    net, other = (unet(config).to(device).eval() for _ in range(2))
    image = noise(key["side"])
    arms = {"tiles": lambda: tiled_to_classes(net, image, config)}
    if key["side"] <= config["whole_up_to"]:
        arms["whole"] = lambda: whole(other, image)
    # The first call starts up what the small images need; the large ones do with that
    # of a single tile.
    tiled_to_classes(net, noise(config["tile"]), config)
    return timed(arms, 1, warm=key["side"] <= config["whole_up_to"])


def tiled_to_classes(net, image, config):
    out = np.empty(image.shape[1:], np.uint8)
    tile, overlap = config["tile"], config["overlap"]
    predict_tiled(net, image, tile, overlap, out=out, progress=False)


@torch.no_grad()
def whole(net, image):
    device = next(net.parameters()).device
    return net(image[None].to(device)).softmax(1).cpu()


def measure_memory(key, config, device):
    """Measure the peak of memory that an image takes, in a process of its own.

    A GPU's account is of arrays, and only of those that are on it: there, the image and
    the answer, which lie beside the processor, are not in it.
    """
    if device == "cuda":
        return {"peak": peak(key["side"], key["how"], config, device)}
    call = f"peak({key['side']}, {key['how']!r}, {config!r}, {device!r})"
    return {"peak": elsewhere(call)}


def peak(side: int, how: str, config: dict, device: str) -> int:
    """Return the bytes that segmenting an image adds to the peak."""
    net = unet(config).to(device).eval()
    work = {
        "whole": lambda image: whole(net, image),
        "tiles": lambda image: tiled_to_classes(net, image, config),
        "monai": lambda image: sliding(net, image, config),
    }[how]
    work(noise(config["tile"]))  # what starts up once does not count
    image = noise(side)
    return highest(lambda: work(image), device)


def highest(work: Callable, device: str) -> int:
    """Return the bytes that some work adds to the memory in use, at its peak."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """Return a line of Linux's account of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status says nothing of {name}.")


def measure_import(key, config, device):
    """Time what importing the package adds to importing PyTorch.

    It takes the processor, whatever else is there: beside a GPU it is left out.
    """
    if device == "cuda":
        return dict.fromkeys(("torch", "both", "added"), float("nan"))
    found = {}
    for name, code in [("torch", "import torch"), ("both", "import torch, unet_edu")]:
        times = []
        for _ in range(3 * config["rounds"]):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - start)
        found[name] = min(times)
    return found | {"added": found["both"] - found["torch"]}


# --- What is measured, and how.


def unet(config: dict, **changed) -> UNet:
    """Return the practical network: padded, one channel, two classes."""
    size = {name: config[name] for name in ("base_channels", "depth")}
    return UNet(1, 2, padding=1, **size | changed)


def monai_networks(config: dict, width: int | None = None) -> list[nn.Module]:
    """Return MONAI's BasicUNet and UNet with the same channels at each level."""
    from monai.networks.nets import BasicUNet
    from monai.networks.nets import UNet as ResidualUNet

    base = width or config["base_channels"]
    # BasicUNet knows one depth, which is the paper's.
    features = (*(base * 2**level for level in range(5)), base)
    channels = tuple(base * 2**level for level in range(config["depth"] + 1))
    strides = (2,) * config["depth"]
    norm = {"norm": "batch"}
    return [
        BasicUNet(2, 1, 2, features, act="RELU", **norm),
        ResidualUNet(2, 1, 2, channels, strides, num_res_units=2, **norm),
    ]


def pieces(config: dict) -> Dataset:
    """Return the pieces of one epoch, drawn before: the loop is timed, not drawing."""
    cells = Cells(4, seed=0, size=2 * config["crop"], diameter=24)
    crops = RandomCrops(cells, config["crop"], config["batch_size"] * config["steps"])
    images, masks = zip(*(crops[i] for i in range(len(crops))), strict=True)
    return TensorDataset(torch.stack(images), torch.stack(masks))


def batches(data: Dataset, config: dict) -> DataLoader:
    return DataLoader(data, config["batch_size"], shuffle=True)


def plain_loop(
    net, data, config, device, *, channels_last=False, bf16=False, fused=None
):
    """Train for one epoch as one writes it without thinking of speed."""
    net.to(device).train()
    if channels_last:
        net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=fused)
    total = 0.0
    for images, mask in batches(data, config):
        images, mask = images.to(device), mask.to(device)
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            logits = net(images)
        loss = F.cross_entropy(logits.float(), mask)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item()
    return total


def fitted(net, data, config, device, **settings):
    """Train for one epoch with ``fit``, which is given nothing but what it must."""
    device = "cpu" if device == "cpu" else None
    size = config["batch_size"]
    fit(net, data, epochs=1, batch_size=size, device=device, progress=False, **settings)


def per_step(arms: dict[str, Callable], config: dict) -> dict[str, float]:
    found = timed(arms, config["train_rounds"])
    return {name: seconds / config["steps"] for name, seconds in found.items()}


def timed(
    arms: dict[str, Callable], rounds: int, warm: bool = True
) -> dict[str, float]:
    """Return the median seconds of each arm, called in turns after a first call."""
    found = {name: [] for name in arms}
    for i in range(0 if warm else 1, rounds + 1):
        for name, call in arms.items():
            start = time.perf_counter()
            call()
            wait()
            if i:
                found[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in found.items()}


def wait() -> None:
    """Let a GPU end what it was asked to do: a call of Python only asks."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def elsewhere(call: str, **environment: str):
    """Return what a function of this file returns in a process of its own."""
    code = (
        "import json\n"
        "from unet_edu import studies\n"
        f"print(json.dumps(studies.load_study('speed').{call}))\n"
    )
    command = [sys.executable, "-c", code]
    return json.loads(last_line(command, os.environ | environment))


def last_line(command: list[str], environment: dict[str, str]) -> str:
    """Return the last line that a command prints; others may report on the way."""
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(
            f"A process of the study ended with {ended.returncode}. It said last:\n"
            f"{ended.stderr[-3000:]}"
        )
    return ended.stdout.splitlines()[-1]


def noise(side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, side, side, generator=generator)
