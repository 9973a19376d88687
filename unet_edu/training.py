"""Train a network, keep what was learned, and go on after an interruption."""

import io
import os
import pickle
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from unet_edu import metrics
from unet_edu.blocks import check_at_least, check_choice
from unet_edu.checkpoints import (
    FULL,
    load_weights,
    save_weights,
    write_atomically,
    write_json,
)
from unet_edu.losses import cross_entropy
from unet_edu.speed import has_bf16, prefer_channels_last

Loss = Callable[..., Tensor]


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite; the message says when and why."""


def _meet_again(device: str) -> None:
    """Let processes that torchrun has started once more find each other.

    Where each can be reached is written into one store for all attempts, and a process
    may read there the address of one that has died. So each attempt after the first
    writes under names of its own.
    """
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if not attempt or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    backend = "nccl" if device == "cuda" else "gloo"
    store = torch.distributed.PrefixStore(f"attempt-{attempt}", store)
    torch.distributed.init_process_group(
        backend, store=store, rank=rank, world_size=size
    )


def crop_mask(mask: Tensor, logits: Tensor) -> Tensor:
    """Cut the middle of a mask to the size of the logits.

    Unpadded convolutions see no border, so they have no opinion on it. The mask is
    cut, never resized: resizing would invent class indices.

    Shapes: mask (N, H, W), logits (N, C, h, w), h <= H, w <= W, to (N, h, w).

    Raises ValueError if the logits are larger than the mask. Derived in chapter 6.
    """
    height, width = logits.shape[-2:]
    rows, columns = mask.shape[-2] - height, mask.shape[-1] - width
    if rows < 0 or columns < 0:
        raise ValueError(
            f"The logits are {height}x{width}, the mask only "
            f"{mask.shape[-2]}x{mask.shape[-1]}. Image and mask must have one size."
        )
    top, left = rows // 2, columns // 2
    return mask[..., top : top + height, left : left + width]


def fit(
    model: nn.Module,
    train: Dataset,
    val: Dataset | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 8,
    lr: float = 3e-3,
    loss: Loss = cross_entropy,
    folder: Path | str | None = None,
    resume: bool = False,
    seed: int = 0,
    precision: str = "auto",
    channels_last: bool = True,
    device: str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> list[dict]:
    """Train ``model`` in place and return one record an epoch.

    AdamW with a one-cycle learning rate. Each epoch draws its random numbers from the
    seed and its own number, so an interrupted run that is resumed ends like one that
    was not. On a CPU the same seed gives the same weights, bit for bit; on a GPU, up
    to the order in which it adds.

    A record holds ``epoch``, ``step``, ``loss`` (mean over the epoch), ``lr`` and,
    with ``val``, ``val_loss``, ``val_accuracy``, ``val_iou`` and ``val_dice`` (lists
    over classes, NaN for an absent class).

    Started by ``torchrun`` or ``accelerate launch``, several processes share the work:
    each takes its part of the batches and of ``val``, gradients and records are those
    of all, and the first one writes the files.

    Args:
        model: takes (N, C, H, W) float, returns logits (N, n_classes, H', W'). If it
            has a method ``training_loss(images, mask, loss)``, that is minimised.
        train: pairs of an image (C, H, W) float and a mask (H, W) of class indices.
            What a data set yields after them, such as a map of weights (H, W), is
            cut like the mask and handed on to ``loss``.
        val: pairs to evaluate on after each epoch, one image at a time.
        epochs: passes over ``train``.
        batch_size: images a step, on each device.
        lr: highest learning rate of the cycle.
        loss: function of logits and mask, cut to one size, and of further maps.
        folder: where to keep ``best.safetensors`` (highest mean IoU on ``val``, or
            the last epoch without one), ``history.json`` and the last checkpoint. It
            must hold no other run.
        resume: go on from the last checkpoint in ``folder``, if there is one.
        seed: fixes the order of the images, their augmentation and dropout. It does
            not touch the model's first weights, which exist already.
        precision: ``"no"`` for float32, ``"bf16"`` for mixed precision, ``"auto"``
            for mixed precision where the device multiplies in bfloat16 itself.
        channels_last: store maps with channels innermost, which most devices prefer.
        device: ``"cpu"`` to stay on the CPU; the best device at hand if not given.
        workers: processes that load data.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for an empty data set, an impossible setting, a mask whose values
            are not class indices, or a checkpoint of another run.
        TypeError: for a mask that does not hold integers.
        FileExistsError: if ``folder`` holds a run and ``resume`` is False.
        NonFiniteLoss: with the step and the likely cause, such as NaN in an image.
        OSError: if a file cannot be written; the last whole checkpoint stays.

    Derived in chapter 8; what makes it fast, in chapter 12.
    """
    check_at_least("epochs", epochs, 1)
    check_at_least("batch_size", batch_size, 1)
    check_choice("precision", precision, ("auto", "no", "bf16"))
    check_choice("device", device, (None, "cpu"))
    if not 0 < lr < float("inf"):
        raise ValueError(f"lr must be above 0 and finite, got {lr!r}.")
    for name, data in [("train", train), ("val", val)]:
        if data is not None and len(data) == 0:
            raise ValueError(
                f"The data set {name!r} is empty: there is nothing to use."
            )
    # A notebook may call fit again with another device or precision; under torchrun
    # the processes stay as they are.
    distributed = (
        torch.distributed.is_available() and torch.distributed.is_initialized()
    )
    AcceleratorState._reset_state(reset_partial_state=not distributed)
    chosen = "cuda" if device is None and torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16" if has_bf16(chosen) else "no"
    if not distributed:
        _meet_again(chosen)
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=device == "cpu",
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
    )
    channels_last = channels_last and prefer_channels_last(model)
    order = torch.Generator()
    loader = DataLoader(
        train,
        batch_size,
        shuffle=True,
        generator=order,
        num_workers=workers,
        # From locked memory a GPU fetches a batch by itself: `non_blocking`, above.
        pin_memory=accelerator.device.type == "cuda",
    )
    # Fused: one pass over all weights. A CPU does not notice (chapter 12); a GPU is
    # spared a launch for each of the many small passes.
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    objective = Objective(model, loss)
    net, optimizer, loader = accelerator.prepare(objective, optimizer, loader)
    total = epochs * len(loader)
    # PyTorch's one-cycle schedule divides by zero when it has a single step.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer.optimizer, lr, max(total, 4)
    )
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "precision": precision,
        "steps": total,
    }
    run = _Run(folder, settings, accelerator.is_main_process) if folder else None
    history: list[dict] = []
    if run:
        history = run.begin(resume, model, optimizer.optimizer, schedule)

    def on_batch(
        net: nn.Module, images: Tensor, *maps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return net(images, *maps)

    try:
        hide = not (progress and accelerator.is_main_process)
        with tqdm(
            total=total, initial=len(history) * len(loader), disable=hide, leave=False
        ) as bar:
            for epoch in range(len(history) + 1, epochs + 1):
                _seed_everything(seed, epoch, accelerator.process_index, order)
                net.train()
                losses = []
                for images, *maps in loader:
                    value, _, _ = on_batch(net, images, *maps)
                    losses.append(value.item())
                    if not np.isfinite(losses[-1]):
                        step = (epoch - 1) * len(loader) + len(losses)
                        at = schedule.get_last_lr()[0]
                        raise NonFiniteLoss(
                            _why(losses, step, epoch, at, images, net, run)
                        )
                    accelerator.backward(value)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                    bar.update()
                    bar.set_postfix(_postfix(losses, history))
                record = {
                    "epoch": epoch,
                    "step": epoch * len(loader),
                    "loss": float(np.mean(gather_object(losses))),
                    "lr": schedule.get_last_lr()[0],
                }
                if val is not None:
                    # Not the net that many processes share: each has its own images.
                    record |= _evaluate(
                        partial(on_batch, objective), model, val, accelerator
                    )
                history.append(record)
                if run:
                    run.keep(model, optimizer.optimizer, schedule, history)
                accelerator.wait_for_everyone()
    finally:
        # Also after an error or Ctrl-C: without it the model would stay in bf16.
        accelerator.unwrap_model(net, keep_fp32_wrapper=False)
    return history


def evaluate(model: nn.Module, data: Dataset, *, loss: Loss = cross_entropy) -> dict:
    """Return loss, accuracy, IoU and Dice of a model over a data set.

    One image at a time, on the model's device; the confusion matrix of all images is
    summed before anything is divided. Classes as in :func:`unet_edu.metrics.iou`.

    Args:
        model: takes (N, C, H, W) float, returns logits (N, n_classes, H', W').
        data: pairs of an image (C, H, W) float and a mask (H, W) of class indices.
        loss: function of logits and mask, cut to one size.

    Raises:
        ValueError: if the data set is empty or a mask has unknown classes.

    Derived in chapter 8.
    """
    if len(data) == 0:
        raise ValueError("The data set is empty: there is nothing to evaluate.")

    record = _evaluate(Objective(model, loss), model, data)
    return {name.removeprefix("val_"): value for name, value in record.items()}


class Objective(nn.Module):
    """A model with what it is trained for: one forward pass that many devices share.

    In training, a model with a method ``training_loss(images, mask, loss)`` is asked
    for its own loss, which may need more than the logits; ``loss`` is then a function
    of logits and mask. Any other model is trained on ``loss`` of its logits.

    Shapes: images (N, C, H, W), mask and further maps (N, H, W), to the loss, the
    logits (None where the model's own loss was asked for) and the mask, cut to the
    size of the logits.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, images: Tensor, *maps: Tensor):
        # The mode is the model's: whoever evaluates it sets only that.
        if self.model.training and hasattr(self.model, "training_loss"):
            mask, *more = maps
            metrics.check_classes(mask, max(self.model.n_classes, 2))
            value = self.model.training_loss(
                images, mask, lambda logits, mask: self.loss(logits, mask, *more)
            )
            return value, None, mask
        logits = self.model(images)
        mask, *more = (crop_mask(x, logits) for x in maps)
        metrics.check_classes(mask, max(logits.shape[1], 2))
        return self.loss(logits, mask, *more), logits, mask


@torch.no_grad()
def _evaluate(
    on_batch: Callable,
    model: nn.Module,
    data: Dataset,
    accelerator: Accelerator | None = None,
) -> dict:
    was_training = model.training
    device = next(model.parameters()).device
    mine = range(len(data))
    if accelerator:
        mine = mine[accelerator.process_index :: accelerator.num_processes]
    found = []
    model.eval()
    try:
        for i in mine:
            value, logits, mask = on_batch(*(x[None].to(device) for x in data[i]))
            predicted = metrics.predicted_classes(logits)
            n_classes = max(logits.shape[1], 2)
            confusion = metrics.confusion_matrix(predicted, mask, n_classes)
            found.append((value.item(), confusion.cpu()))
    finally:
        model.train(was_training)
    losses, confusions = zip(
        *(gather_object(found) if accelerator else found), strict=True
    )
    confusion = sum(confusions)
    return {
        "val_loss": float(np.mean(losses)),
        "val_accuracy": metrics.pixel_accuracy(confusion),
        "val_iou": metrics.iou(confusion).tolist(),
        "val_dice": metrics.dice(confusion).tolist(),
    }


def _seed_everything(
    seed: int, epoch: int, process: int, order: torch.Generator
) -> None:
    """Seed every source of randomness from the run's seed and the epoch's number."""
    order.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
    own = int(np.random.SeedSequence([seed, epoch, process]).generate_state(1)[0])
    torch.manual_seed(own)
    np.random.seed(own)  # noqa: NPY002 - a data set of the reader's may draw from it
    random.seed(own)


def _postfix(losses: list[float], history: list[dict]) -> dict[str, str]:
    shown = {"loss": f"{np.mean(losses[-20:]):.3f}"}
    if history and "val_iou" in history[-1]:
        shown["IoU"] = f"{np.nanmean(history[-1]['val_iou']):.3f}"
    return shown


def _why(losses, step, epoch, lr, images, net, run) -> str:
    """Say where a loss left the numbers, and what most likely drove it out."""
    largest = max(float(p.detach().abs().max()) for p in net.parameters())
    if not images.isfinite().all():
        cause = (
            "The images of this batch hold NaN or infinity: look at how they were "
            "read and scaled."
        )
    elif not largest < 100:  # trained weights stay below ten
        cause = (
            f"The images are finite, but a weight has grown to {largest:.1e}: an "
            "earlier step was too large. Try a tenth of the learning rate (it stood "
            f"at {lr:.2g})."
        )
    else:
        cause = (
            "Images and weights look sound: look at the loss function (a division by "
            "an empty class, a logarithm of zero), or at values too large for bf16."
        )
    before = f" The losses before it: {', '.join(f'{v:.3g}' for v in losses[-4:-1])}."
    kept = f" The last whole checkpoint is in {run.folder}." if run else ""
    return (
        f"The loss is {losses[-1]} at step {step}, in epoch {epoch}. {cause}"
        + (before if len(losses) > 1 else "")
        + kept
    )


class _Run:
    """The folder of one run: checkpoints that are whole or not there."""

    def __init__(self, folder: Path | str, settings: dict, main: bool) -> None:
        self.folder, self.settings, self.main = Path(folder), settings, main

    def checkpoints(self) -> list[Path]:
        found = self.folder.glob("epoch-[0-9]*")
        return sorted(found, key=lambda path: int(path.name.removeprefix("epoch-")))

    def begin(self, resume: bool, model, optimizer, schedule) -> list[dict]:
        """Load the last checkpoint if the run is to go on; return its history."""
        if self.folder.exists() and not self.folder.is_dir():
            raise FileExistsError(
                f"{self.folder} is a file. Choose a folder for a run."
            )
        kept = self.checkpoints()
        if kept and not resume:
            raise FileExistsError(
                f"{self.folder} holds a run of {int(kept[-1].name[6:])} epoch(s). Pass "
                "resume=True (on the command line, --resume) to go on with it, or "
                "choose another folder."
            )
        if not kept:
            return []
        state = _load_state(kept[-1] / "state.pt")
        differ = [
            f"{name} was {state['settings'].get(name)!r}, is {value!r}"
            for name, value in self.settings.items()
            if state["settings"].get(name) != value
        ]
        if differ:
            raise ValueError(
                f"The run in {self.folder} had other settings: {'; '.join(differ)}. "
                "Use the same to resume it, or choose another folder."
            )
        load_weights(model, kept[-1] / "model.safetensors")
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        if self.main:
            # The run may have died after its checkpoint and before what follows it.
            write_json(self.folder / "history.json", state["history"])
            for old in kept[:-1]:
                shutil.rmtree(old)
        return state["history"]

    def keep(self, model, optimizer, schedule, history: list[dict]) -> None:
        """Write the state after an epoch, then drop the one before."""
        if not self.main:
            return
        try:
            self._write(model, optimizer, schedule, history)
        except OSError as error:
            if error.errno not in FULL:
                raise
            last = self.checkpoints()
            kept = f"{last[-1].name} is" if last else "No checkpoint is"
            weights = sum(p.numel() * p.element_size() for p in model.parameters())
            # The weights, two moments of AdamW for each, and the best weights.
            raise OSError(
                error.errno,
                f"No room for the checkpoint of epoch {len(history)} in {self.folder}: "
                f"{error.strerror}. {kept} whole. Free about {4 * weights / 1e6:.1f} "
                "MB, then go on with resume=True (on the command line, --resume)",
            ) from error

    def _write(self, model, optimizer, schedule, history: list[dict]) -> None:
        scores = [
            np.nanmean(r["val_iou"]) if "val_iou" in r else r["epoch"] for r in history
        ]
        if scores[-1] == max(scores):
            save_weights(model, self.folder / "best.safetensors")
        before = self.checkpoints()
        final = self.folder / f"epoch-{len(history):04d}"
        # Under a hidden name until it is whole; a rename is one step.
        unfinished = self.folder / f".{final.name}.partial"
        shutil.rmtree(unfinished, ignore_errors=True)
        state = {
            "settings": self.settings,
            "history": history,
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        # In memory first: torch.save hides why a disk refuses.
        data = io.BytesIO()
        torch.save(state, data)
        try:
            save_weights(model, unfinished / "model.safetensors")
            write_atomically(
                unfinished / "state.pt", lambda file: file.write_bytes(data.getbuffer())
            )
            unfinished.rename(final)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        write_json(self.folder / "history.json", history)
        for old in before:
            shutil.rmtree(old)


def _load_state(path: Path) -> dict:
    """Read what a checkpoint holds beside the weights, and run no code from it."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        reason = "" if isinstance(state, dict) else "It holds something else."
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    if reason:
        raise ValueError(
            f"{path} is no checkpoint that `fit` wrote, or it is damaged; no code in "
            "it was run. Remove its folder to start again, or choose another one. "
            f"PyTorch says: {reason}"
        )
    return state
