"""The book's figures: images with masks, errors, feature maps, drawn networks.

One palette, told apart by colour-blind readers too (after Okabe and Ito), on a white
ground so that a figure reads the same in a light and a dark page.
"""

import itertools
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

INK, PALE = "#26323d", "#c9d2da"
TRUTH = "#0072b2"  # blue: what the mask says, the way down
PREDICTED = "#d55e00"  # vermilion: what a network says, the way up
MISSED = "#e69f00"  # orange: truth that was not found
INVENTED = "#cc79a7"  # purple: found where there is none
SKIP = "#009e73"  # green: what crosses over
CLASSES = (PALE, TRUTH, PREDICTED, SKIP, MISSED, INVENTED)


def use_style() -> None:
    """Set the book's look for every figure that follows. First used in chapter 1.

    Photographs are noise to a PNG encoder, so where IPython shows a figure it is sent
    as a JPEG: a tenth of the size.
    """
    plt.rcParams.update(
        {
            "figure.dpi": 130,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "legend.frameon": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
            "axes.prop_cycle": plt.cycler(
                color=[TRUTH, PREDICTED, SKIP, MISSED, INVENTED, INK]
            ),
        }
    )
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return  # not in a notebook
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80, "optimize": True})


def panels(n: int, columns: int | None = None, side: float = 2.4) -> list[Axes]:
    """Return ``n`` axes without ticks in rows of ``columns``, each ``side`` inches."""
    columns = columns or n
    rows = -(-n // columns)
    _, axes = plt.subplots(
        rows, columns, figsize=(side * columns, (side + 0.25) * rows), squeeze=False
    )
    for ax in axes.flat:
        ax.set_axis_off()
    return list(axes.flat)[:n]


def show_image(ax: Axes, image: Tensor, title: str = "") -> None:
    """Show an image (C, H, W) or (H, W) with values in [0, 1]; C is 1 or 3."""
    array = _array(image)
    if array.ndim == 3:
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    ax.imshow(array, vmin=0, vmax=1)
    ax.set_title(title)
    ax.set_axis_off()


def show_mask(ax: Axes, image: Tensor, mask: Tensor, title: str = "") -> None:
    """Show an image with the border of each class of a mask (H, W) as a line."""
    show_image(ax, image, title)
    labels = _array(mask)
    for value in np.unique(labels[labels > 0]):
        colour = CLASSES[int(value) % len(CLASSES)]
        ax.contour(labels == value, levels=[0.5], colors=[colour], linewidths=0.9)


def show_errors(
    ax: Axes, image: Tensor, predicted: Tensor, mask: Tensor, title: str = ""
) -> None:
    """Show an image with what a prediction missed and what it invented.

    Orange: pixels of the mask's classes 1, 2, ... that were called another class.
    Purple: pixels of class 0 that were called something.

    Shapes: image (C, H, W) or (H, W), predicted and mask (H, W) integers.
    """
    show_image(ax, image, title)
    predicted, mask = _array(predicted), _array(mask)
    for wrong, colour in [
        ((mask > 0) & (predicted != mask), MISSED),
        ((mask == 0) & (predicted != 0), INVENTED),
    ]:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        layer = np.zeros((*mask.shape, 4))
        layer[wrong] = (red, green, blue, 0.85)
        ax.imshow(layer)


def show_map(ax: Axes, values: Tensor, title: str = "") -> None:
    """Show one feature map (H, W), from its 1st to its 99th percentile."""
    array = _array(values)
    finite = array[np.isfinite(array)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0, 1)
    ax.imshow(array, cmap="cividis", vmin=low, vmax=high if high > low else low + 1)
    ax.set_title(title)
    ax.set_axis_off()


def feature_grid(
    maps: Tensor, n: int = 8, columns: int = 4, side: float = 1.7
) -> list[Axes]:
    """Show the ``n`` channels of one feature map that vary most.

    Shape: (C, H, W) or (1, C, H, W).

    Raises ValueError for any other shape. First used in chapter 3.
    """
    if maps.dim() == 4 and maps.shape[0] == 1:
        maps = maps[0]
    if maps.dim() != 3:
        raise ValueError(
            f"Expected the maps of one image, (C, H, W), got {tuple(maps.shape)}. "
            "Pass maps[0] for the first image of a batch."
        )
    spread = maps.detach().float().flatten(1).std(dim=1)
    chosen = spread.argsort(descending=True)[:n].tolist()
    axes = panels(len(chosen), columns, side)
    for ax, channel in zip(axes, chosen, strict=True):
        show_map(ax, maps[channel], f"channel {channel}")
    return axes


def show_history(history: Sequence[dict], baselines: dict[str, float]) -> Figure:
    """Draw the loss and the accuracy of a run, epoch by epoch, beside baselines."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.6))
    steps = [record["step"] for record in history]
    left.plot(steps, [r["loss"] for r in history], marker="o", ms=3, label="training")
    if "val_loss" in history[0]:
        held = [r["val_loss"] for r in history]
        left.plot(steps, held, marker="o", ms=3, label="held-out slices")
        right.plot(steps, [r["val_accuracy"] for r in history], marker="o", ms=3)
    left.set(xlabel="step", ylabel="cross-entropy per pixel", ylim=(0, None))
    left.legend()
    for name, value in baselines.items():
        right.axhline(value, color=INK, lw=0.8, ls="--")
        right.text(steps[0], value, name, fontsize=7, va="bottom")
    right.set(xlabel="step", ylabel="pixel accuracy, held-out")
    return figure


def draw_unet(model: nn.Module, input_shape: tuple[int, ...]) -> Figure:
    """Draw a U-Net from its forward pass: every box a tensor, every arrow a path.

    The network runs on PyTorch's meta device, which computes shapes only. A box is the
    output of a stage, as tall as its map and as wide as its channels (both on a
    logarithmic scale). An arrow joins two boxes if the first is what the second was
    called with and, by PyTorch's gradient, can change what comes out: a skip that is
    passed along and not used has no arrow.

    Args:
        model: a UNet, or any network whose stages are its direct children.
        input_shape: (N, C, H, W), in pixels.

    Raises whatever the model raises for such images. Derived in chapter 6.
    """
    boxes, arrows = _trace(model, input_shape)
    levels = _levels(boxes)
    deepest = max(levels)
    figure, ax = plt.subplots(figsize=(7.6, 0.62 + 0.95 * (deepest + 1)))
    places: dict[int, tuple[float, float, float, float]] = {}
    for i, (name, shape) in enumerate(boxes):
        width = 0.10 + 0.055 * np.log2(shape[1])
        height = 0.18 + 0.07 * np.log2(max(shape[-1], 2))
        x, y = float(i), -1.25 * levels[i]
        places[i] = (x, y, width, height)
        side = INK if name in ("image", "outc") else TRUTH
        colour = PREDICTED if name.startswith("up") else side
        ax.add_patch(
            Rectangle(
                (x - width / 2, y - height / 2), width, height, color=colour, lw=0
            )
        )
        sides = (
            f"{shape[-2]}²" if shape[-1] == shape[-2] else f"{shape[-2]}×{shape[-1]}"
        )
        ax.text(
            x, y - height / 2 - 0.06, f"{sides}\n{shape[1]} ch", ha="center", va="top",
            fontsize=7, linespacing=1.1,
        )  # fmt: skip
        ax.text(
            x, y + height / 2 + 0.05, name, ha="center", va="bottom", fontsize=7.5,
            weight="bold",
        )  # fmt: skip
    for start, end in arrows:
        (x0, y0, w0, _), (x1, y1, w1, _) = places[start], places[end]
        skip = end - start > 1
        ax.add_patch(
            FancyArrowPatch(
                (x0 + w0 / 2 + 0.03, y0), (x1 - w1 / 2 - 0.03, y1), arrowstyle="-|>",
                mutation_scale=9, lw=1.6 if skip else 1.1, shrinkA=0, shrinkB=0,
                color=SKIP if skip else INK,
            )
        )  # fmt: skip
    ax.set_xlim(-0.6, len(boxes) - 0.4)
    ax.set_ylim(-1.25 * deepest - 0.95, 0.85)
    ax.set_axis_off()
    return figure


def _trace(model: nn.Module, input_shape: tuple[int, ...]):
    """Run the model once; return its tensors (name, shape) and the paths between."""
    x = torch.empty(input_shape, device="meta")
    boxes, made, arrows, handles = [("image", tuple(input_shape))], [x], [], []

    def cut_loose(module: nn.Module, args: tuple) -> tuple:
        # A leaf of its own for each argument, so that a gradient tells what comes
        # through this argument, not what comes through an earlier stage.
        leaves = []
        for arg in args:
            leaf = arg.detach().requires_grad_()
            leaf.came_from = next((i for i, t in enumerate(made) if t is arg), None)
            leaves.append(leaf)
        return tuple(leaves)

    def record(name: str):
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            grads = torch.autograd.grad(output.sum(), args, allow_unused=True)
            for leaf, grad in zip(args, grads, strict=True):
                if grad is not None and leaf.came_from is not None:
                    arrows.append((leaf.came_from, len(made)))
            boxes.append((name, tuple(output.shape)))
            made.append(output)

        return hook

    for name, child in model.named_children():
        handles.append(child.register_forward_pre_hook(cut_loose))
        handles.append(child.register_forward_hook(record(name)))
    state = {
        name: value.detach().to("meta")
        for name, value in [*model.named_parameters(), *model.named_buffers()]
    }
    was_training = model.training
    try:
        # Dropout would put a tensor of its own between two stages.
        model.eval()
        with torch.enable_grad():
            torch.func.functional_call(model, state, (x,))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return boxes, arrows


def _levels(boxes: list[tuple[str, tuple[int, ...]]]) -> list[int]:
    """Number each box by how often its map has been halved and not doubled since."""
    levels = [0]
    for (_, before), (_, shape) in itertools.pairwise(boxes):
        ratio = before[-1] / shape[-1]
        step = 1 if ratio > 1.4 else -1 if ratio < 0.75 else 0
        levels.append(max(0, levels[-1] + step))
    return levels


def _array(values: Tensor) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.detach().float().cpu().numpy()
    return np.asarray(values)
