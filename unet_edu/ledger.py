"""What each stage of a network sees, holds and costs.

The network runs once on PyTorch's meta device, where tensors have shapes and no
values, so that even the largest takes no memory. Every operation on the way is
seen, and for every position of every map two numbers are kept: the first and the
last image pixel that can reach it. The receptive field is their distance.
"""

import html
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

NOWHERE = 1 << 40
# Operations that keep the shape and yet look along an axis. Unless it is the axis of
# channels, their output is taken to see everything.
MIXING = {"softmax", "log_softmax", "flip", "roll", "cumsum", "cumprod", "sort"}


@dataclass
class Stage:
    """One row of the ledger.

    Attributes:
        name: the stage's name in the network, such as ``down1``.
        kind: its class, such as ``Down``.
        shape: shape of its output (N, C, H, W).
        receptive_field: side, in image pixels, of the square that one position of
            the output can see; the larger of rows and columns.
        parameters: number of its parameters.
        mult_adds: multiply-adds of its convolutions and matrix products, biases
            included.
        activation_bytes: bytes that training keeps for its backward pass.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    receptive_field: int = 0
    parameters: int = 0
    mult_adds: int = 0
    activation_bytes: int = 0


@dataclass
class Ledger:
    """The stages of one network for one input, printable as text or HTML."""

    input_shape: tuple[int, ...]
    stages: list[Stage] = field(default_factory=list)

    HEADER = ("stage", "kind", "output", "sees", "parameters", "mult-adds", "kept")

    def __getitem__(self, name: str) -> Stage:
        """Return the stage called ``name``; KeyError with the names if none is."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = ", ".join(stage.name for stage in self.stages)
        raise KeyError(f"no stage {name!r}; the stages are {names}")

    @property
    def parameters(self) -> int:
        return sum(stage.parameters for stage in self.stages)

    @property
    def mult_adds(self) -> int:
        return sum(stage.mult_adds for stage in self.stages)

    @property
    def activation_bytes(self) -> int:
        return sum(stage.activation_bytes for stage in self.stages)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's cells as text: one row a stage, then the total."""
        table = [
            (
                stage.name,
                stage.kind,
                "x".join(map(str, stage.shape[1:])),
                f"{stage.receptive_field} px",
                f"{stage.parameters:,}",
                f"{stage.mult_adds / 1e9:.2f} G",
                f"{stage.activation_bytes / 2**20:.1f} MiB",
            )
            for stage in self.stages
        ]
        total = (
            "total",
            "",
            "",
            "",
            f"{self.parameters:,}",
            f"{self.mult_adds / 1e9:.2f} G",
            f"{self.activation_bytes / 2**20:.1f} MiB",
        )
        return [*table, total]

    def __str__(self) -> str:
        table = [self.HEADER, *self.rows()]
        width = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for row in table:
            cells = [
                cell.ljust(w) if i < 2 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, width, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
            return f"<tr>{inner}</tr>"

        body = "".join(line(row, "td") for row in self.rows())
        head = line(self.HEADER, "th")
        return (
            '<table class="ledger"><caption>One image of '
            f"{'x'.join(map(str, self.input_shape[1:]))}</caption>"
            f"<thead>{head}</thead><tbody>{body}</tbody></table>"
        )


def ledger(model: nn.Module, input_shape: tuple[int, ...]) -> Ledger:
    """Return what each stage of ``model`` sees, holds and costs for one input.

    A stage is a direct child of the model; a ModuleList counts as its members. An
    operation that is neither local nor element by element (a flattening, an
    attention) is taken to see everything. The model is left as it was, and nothing
    is computed.

    Args:
        model: any network that takes one batch of images.
        input_shape: (N, C, H, W), in pixels.

    Raises:
        ValueError: if ``input_shape`` has not four positive entries; and whatever
            the model raises for images of that shape.

    Derived in chapter 4.
    """
    if len(input_shape) != 4 or min(input_shape) < 1:
        raise ValueError(f"input_shape must be (N, C, H, W), got {tuple(input_shape)}.")
    result = Ledger(tuple(input_shape))
    watch = _Watch(result)
    handles = []
    for name, module in _stages(model):
        stage = Stage(name, type(module).__name__)
        stage.parameters = sum(p.numel() for p in module.parameters())
        handles.append(module.register_forward_pre_hook(watch.enter(stage)))
        handles.append(module.register_forward_hook(watch.leave))
    try:
        state = {
            name: value.detach().to("meta").requires_grad_(value.requires_grad)
            for name, value in [*model.named_parameters(), *model.named_buffers()]
        }
        watch.stored = {v.untyped_storage()._cdata for v in state.values()}
        floats = [v.dtype for v in state.values() if v.is_floating_point()]
        x = torch.empty(input_shape, device="meta", dtype=(floats or [None])[0])
        watch.remember(x, [_identity(n) for n in input_shape[-2:]])
        with torch.enable_grad(), saved_tensors_hooks(watch.keep, lambda t: t), watch:
            torch.func.functional_call(model, state, (x,))
    finally:
        for handle in handles:
            handle.remove()
    return result


def _stages(model: nn.Module) -> list[tuple[str, nn.Module]]:
    found = []
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            found += [(f"{name}.{i}", member) for i, member in enumerate(child)]
        else:
            found.append((name, child))
    return found


# A reach is, for one axis of one map, a pair of arrays: the first and the last image
# pixel that each position can see. A position that sees none, such as a padded zero,
# has first = NOWHERE and last = -1.
Reach = tuple[np.ndarray, np.ndarray]


def _identity(n: int) -> Reach:
    return np.arange(n), np.arange(n)


def _through(reach: Reach, taps: np.ndarray) -> Reach:
    """Combine the inputs that each output reads; taps outside the map read none."""
    first, last = reach
    inside = (taps >= 0) & (taps < len(first))
    index = np.where(inside, taps, 0)
    return (
        np.where(inside, first[index], NOWHERE).min(axis=1),
        np.where(inside, last[index], -1).max(axis=1),
    )


def _whole(reach: Reach) -> Reach:
    return reach[0].min(keepdims=True), reach[1].max(keepdims=True)


def _union(reaches: list[Reach], n: int) -> Reach:
    """Combine maps position by position; a map of another size is seen as a whole."""
    firsts, lasts = [], []
    for first, last in reaches:
        if len(first) != n:
            first, last = np.full(n, first.min()), np.full(n, last.max())
        firsts.append(first)
        lasts.append(last)
    return np.minimum.reduce(firsts), np.maximum.reduce(lasts)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (
        tuple(value) * (2 // len(value)) if not isinstance(value, int) else (value,) * 2
    )


def _window_taps(n_out: int, kernel: int, stride: int, pad: int, dilation: int):
    positions = np.arange(n_out)[:, None] * stride - pad
    return positions + dilation * np.arange(kernel)


def _transposed_taps(n_out: int, kernel: int, stride: int, pad: int, dilation: int):
    place = np.arange(n_out)[:, None] + pad - dilation * np.arange(kernel)
    return np.where(place % stride == 0, place // stride, -1)


def _resize_taps(n_in: int, n_out: int, mode: str, align_corners: bool | None):
    if mode == "nearest":
        return (np.arange(n_out) * n_in // n_out)[:, None]
    if mode == "nearest-exact":
        return ((2 * np.arange(n_out) + 1) * n_in // (2 * n_out))[:, None]
    if mode == "area":
        first = np.arange(n_out) * n_in // n_out
        last = -(-(np.arange(n_out) + 1) * n_in // n_out) - 1
        taps = first[:, None] + np.arange((last - first).max() + 1)
        return np.where(taps <= last[:, None], taps, -1)
    if align_corners:
        place = np.arange(n_out) * (n_in - 1) / max(n_out - 1, 1)
    else:
        place = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    if mode == "bicubic":
        taps = np.floor(place).astype(int)[:, None] + np.arange(-1, 3)
        return np.clip(taps, 0, n_in - 1)
    place = np.clip(place, 0, n_in - 1)
    return np.stack([np.floor(place), np.ceil(place)], axis=1).astype(int)


class _Watch(TorchFunctionMode):
    """See every operation of a forward pass, and book it to the stage it is in."""

    def __init__(self, result: Ledger) -> None:
        self.result = result
        self.current: list[Stage] = []
        self.reach: dict[int, list[Reach]] = {}
        self.alive: list[object] = []  # so that no id is given twice
        self.stored: set[int] = set()  # parameters and what is booked already

    def remember(self, x: Tensor, reach: list[Reach]) -> None:
        self.alive.append(x)
        self.reach[id(x)] = reach

    def enter(self, stage: Stage):
        def hook(module: nn.Module, args: tuple) -> None:
            if stage not in self.result.stages:
                self.result.stages.append(stage)
            self.current.append(stage)

        return hook

    def leave(self, module: nn.Module, args: tuple, output) -> None:
        stage = self.current.pop()
        if isinstance(output, tuple | list):
            output = output[0]  # of a distribution, the mean
        stage.shape = tuple(output.shape)
        sides = [last - first + 1 for first, last in self.reach[id(output)]]
        stage.receptive_field = int(max(side.max() for side in sides))

    def keep(self, x: Tensor) -> Tensor:
        """Book a tensor that autograd saves, once for each piece of memory."""
        storage = x.untyped_storage()
        if storage._cdata not in self.stored:
            self.stored.add(storage._cdata)
            self.alive.append(storage)
            if self.current:
                self.current[-1].activation_bytes += storage.nbytes()
        return x

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        for x in output if isinstance(output, tuple) else (output,):
            if isinstance(x, Tensor):
                self._follow(name, x, args, kwargs)
        return output

    def _follow(self, name: str, out: Tensor, args: tuple, kwargs: dict) -> None:
        tensors = [
            x
            for group in (*args, *kwargs.values())
            for x in (group if isinstance(group, (list, tuple)) else (group,))
            if isinstance(x, Tensor)
        ]
        if self.current:
            self.current[-1].mult_adds += _mult_adds(name, out, tensors)
        known = [self.reach[id(x)] for x in tensors if id(x) in self.reach]
        if not known:
            return
        sides = out.shape[-2:] if out.dim() == 4 else (1, 1)
        taps = _taps(name, out, args, kwargs) if out.dim() == 4 else None
        if taps is None:
            if name in MIXING and kwargs.get("dim", (*args, None)[1]) != 1:
                known = [[_whole(axis) for axis in reach] for reach in known]
            reach = [_union([r[a] for r in known], n) for a, n in enumerate(sides)]
        else:
            reach = [_through(known[0][axis], taps[axis]) for axis in (0, 1)]
        self.remember(out, reach)


def _taps(name: str, out: Tensor, args: tuple, kwargs: dict) -> list | None:
    """Return, for rows and columns, the inputs each output reads; None if its own."""
    x = args[0]

    def given(position: int, key: str, default: object) -> object:
        value = args[position] if len(args) > position else kwargs.get(key)
        return default if value is None or value == [] else value

    sides = list(zip(x.shape[-2:], out.shape[-2:], strict=True)) if _is_map(x) else []
    if not sides:
        return None
    if name in ("conv2d", "conv_transpose2d"):
        weight = given(1, "weight", None)
        at = {"stride": 3, "padding": 4, "dilation": 5}
        if name == "conv_transpose2d":
            at["dilation"] = 7
        stride, dilation = (_pair(given(at[k], k, 1)) for k in ("stride", "dilation"))
        pad = given(at["padding"], "padding", 0)
        if pad in ("same", "valid"):
            pad = tuple(
                (k - 1) * d // 2 if pad == "same" else 0
                for k, d in zip(weight.shape[-2:], dilation, strict=True)
            )
        make = _window_taps if name == "conv2d" else _transposed_taps
        kernel, pad = weight.shape[-2:], _pair(pad)
    elif name in ("max_pool2d", "_max_pool2d", "avg_pool2d"):
        kernel = _pair(given(1, "kernel_size", None))
        stride = _pair(given(2, "stride", kernel))
        pad = _pair(given(3, "padding", 0))
        dilation = (1, 1)
        if name != "avg_pool2d":
            dilation = _pair(given(4, "dilation", 1))
        make = _window_taps
    elif name == "interpolate":
        mode, corners = given(3, "mode", "nearest"), kwargs.get("align_corners")
        return [_resize_taps(n_in, n_out, mode, corners) for n_in, n_out in sides]
    elif name == "pad":
        amount = list(given(1, "pad", None)) + [0] * 4
        mode = given(2, "mode", "constant")
        numpy_mode = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
        options = {"constant_values": -1} if mode == "constant" else {}
        columns, rows = amount[0:2], amount[2:4]
        taps = []
        for (n_in, _), (before, after) in zip(sides, (rows, columns), strict=True):
            index = np.arange(max(0, -before), n_in - max(0, -after))
            grow = (max(0, before), max(0, after))
            taps.append(np.pad(index, grow, mode=numpy_mode, **options)[:, None])
        return taps
    elif name == "__getitem__":
        rows = np.broadcast_to(np.arange(x.shape[-2])[:, None], x.shape)[args[1]]
        columns = np.broadcast_to(np.arange(x.shape[-1]), x.shape)[args[1]]
        return [rows[0, 0, :, :1], columns[0, 0, :1, :].T]
    else:
        return None
    return [
        make(sides[a][1], kernel[a], stride[a], pad[a], dilation[a]) for a in (0, 1)
    ]


def _is_map(x: object) -> bool:
    return isinstance(x, Tensor) and x.dim() == 4


def _mult_adds(name: str, out: Tensor, tensors: list[Tensor]) -> int:
    """Count the multiply-adds of convolutions and matrix products, with biases."""
    bias = out.numel() if len(tensors) > 2 else 0
    if name in ("conv2d", "conv3d", "linear"):
        weight = tensors[1]
        return out.numel() * (weight.numel() // weight.shape[0]) + bias
    if name in ("conv_transpose2d", "conv_transpose3d"):
        # Each input value is multiplied once by each weight of its channel. (Counting
        # weights at every output pixel, as torchinfo does, is stride^2 times as much.)
        weight = tensors[1]
        return tensors[0].numel() * (weight.numel() // weight.shape[0]) + bias
    if name in ("matmul", "bmm", "__matmul__"):
        return out.numel() * tensors[0].shape[-1]
    return 0
