"""Write files whole or not at all, and read weights that cannot run code."""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from unet_edu.unet import UNet

# What a system answers when a disk, a quota or a limit on files is full.
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class NoRoom(OSError):
    """A disk, a quota or a limit on files is full; the message says what to free."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` on a temporary name beside ``path``, then rename it to ``path``.

    Whoever reads ``path`` sees the old file or the new one, never a part; if writing
    fails, the old one stays.

    Raises NoRoom, with the folder to make room in, if the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are closed to everyone but their owner.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        written = partial.stat().st_size if partial.is_file() else 0
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise _no_room(error, path, written) from error
        raise


def _no_room(error: OSError, path: Path, written: int) -> NoRoom:
    """Return an error that says how much room there was, and what stays."""
    if isinstance(error, NoRoom):  # it says where, which may be another disk
        kept = f" {path} is as it was before." if path.exists() else ""
        return NoRoom(error.errno, f"{error.strerror}{kept}")
    free = shutil.disk_usage(path.parent).free
    kept = " What it held before is whole." if path.exists() else ""
    return NoRoom(
        error.errno,
        f"No room to write {path}: it stopped after {written / 1e6:.1f} MB, and "
        f"{free / 1e6:.1f} MB are free there.{kept} Make room on the disk of "
        f"{path.parent.absolute()}, or write to another",
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: dict | list) -> None:
    """Write JSON whole or not at all; NaN, which JSON lacks, becomes null."""
    write_text(path, json.dumps(_without_nan(value), indent=1))


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights as safetensors, with its settings if it tells them."""
    config = getattr(model, "config", None)
    metadata = {"model": type(model).__name__, "config": json.dumps(config)}
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    # Not save_file: its files are closed to everyone but their owner.
    data = save(state, metadata=metadata)
    write_atomically(path, lambda file: file.write_bytes(data))


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights into ``model``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or its weights are not this model's, with
            the first difference.
    """
    state, metadata = _read(path)
    own = model.state_dict()
    problems = [f"it has no {name}" for name in own if name not in state]
    problems += [
        f"it has {name}, the model has not" for name in state if name not in own
    ]
    problems += [
        f"{name} is {tuple(state[name].shape)}, in the model {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        settings = metadata.get("config")
        raise ValueError(
            f"{path} does not fit this {type(model).__name__}: {problems[0]} "
            f"({len(problems)} differences). Its settings are {settings}."
        )
    model.load_state_dict(state)


def load_unet(path: Path) -> UNet:
    """Build the U-Net that was saved in ``path`` and return it in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or does not hold a U-Net with its settings.
    """
    _, metadata = _read(path)
    if metadata.get("model") != "UNet":
        raise ValueError(
            f"{path} holds {metadata.get('model', 'weights without a name')}, not a "
            "UNet. Build the model yourself and use load_weights."
        )
    return load_model(path)


def load_model(path: Path) -> nn.Module:
    """Build the network that was saved in ``path`` and return it in evaluation mode.

    A UNet, or a network made by :func:`unet_edu.families.create_model`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or does not say how its network was built.
    """
    # Not above: a U-Net is read without the families.
    from unet_edu.families import create_model

    _, metadata = _read(path)
    kind = metadata.get("model", "weights without a name")
    if kind != "UNet" and metadata.get("config", "null") == "null":
        raise ValueError(
            f"{path} holds {kind}, not a network of create_model. Build the model "
            "yourself and use load_weights."
        )
    build = UNet if kind == "UNet" else create_model
    try:
        model = build(**json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not say how its {kind} was built: its settings are "
            f"{metadata.get('config')} ({error}). Save it with save_weights, or build "
            "the model yourself and use load_weights."
        ) from None
    load_weights(model, path)
    return model.eval()


def _read(path: Path) -> tuple[dict, dict]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return state, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}). If it was copied or "
            "downloaded, fetch it again."
        ) from error
