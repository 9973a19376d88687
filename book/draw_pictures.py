"""Draw the pictures that stand outside the chapters: the cover, the part openers.

Each is U-Net from its own forward pass, once for a light page and once for a dark one.
"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from unet_edu import UNet, plotting

FOLDER = Path(__file__).parent / "_static"
DOWN = ["inc", "down1", "down2", "down3", "down4"]
UP = ["up1", "up2", "up3", "up4"]
# What each part of the book is about, in colour; the rest stays pale.
PICTURES = {
    "unet": ["image", *DOWN, *UP, "outc", "skip"],
    "part-1": ["image", *DOWN],
    "part-3": ["image", "outc"],
    "part-4": ["down4", *UP, "skip"],
}
# The same hues on a dark ground, light enough to be read there.
DARK = {
    plotting.INK: "#d7dee4",
    plotting.TRUTH: "#56a8dc",
    plotting.PREDICTED: "#f0894a",
    plotting.SKIP: "#3cc79d",
}
FADED = 0.18


def fade(figure: Figure, lit: list[str]) -> None:
    """Make pale what is not named in ``lit``; arrows go with what they lead to."""
    ax = figure.axes[0]
    named = [text for text in ax.texts if text.get_weight() == "bold"]
    names = [text.get_text() for text in named]
    for text in ax.texts:
        if names[round(text.get_position()[0])] not in lit:
            text.set_alpha(2 * FADED)
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    for name, box in zip(names, boxes, strict=True):
        if name not in lit:
            box.set_alpha(FADED)
    green = matplotlib.colors.to_rgba(plotting.SKIP)
    for arrow in ax.patches:
        if isinstance(arrow, FancyArrowPatch):
            along = arrow.get_path().vertices[:, 0]
            start, end = round(along.min()), round(along.max())
            both = names[start] in lit and names[end] in lit
            skip = arrow.get_edgecolor() == green
            if not ("skip" in lit if skip else both):
                arrow.set_alpha(FADED)


def draw(folder: Path) -> list[Path]:
    """Write the drawings as SVG; the same network gives the same bytes."""
    plotting.use_style()
    matplotlib.rcParams["svg.hashsalt"] = "unet"
    written = []
    for name, lit in PICTURES.items():
        figure = plotting.draw_unet(UNet(1, 1), (1, 1, 572, 572))
        fade(figure, lit)
        target = folder / f"{name}.svg"
        figure.savefig(target, metadata={"Date": None}, bbox_inches="tight")
        figure.patch.set_visible(False)
        dark = folder / f"{name}-dark.svg"
        figure.savefig(dark, metadata={"Date": None}, bbox_inches="tight")
        matplotlib.pyplot.close(figure)
        text = dark.read_text(encoding="utf-8")
        for light, night in DARK.items():
            text = text.replace(light, night)
        dark.write_text(text, encoding="utf-8")
        written += [target, dark]
    return written


def draw_card(target: Path) -> None:
    """Write the card that stands beside a link to the book, 1200 by 630 pixels."""
    plotting.use_style()
    figure = plotting.draw_unet(UNet(1, 1), (1, 1, 572, 572))
    figure.set_layout_engine("none")
    figure.set_size_inches(12, 6.3)
    figure.axes[0].set_position((0.02, 0.02, 0.96, 0.74))
    for text in figure.axes[0].texts:
        text.set_fontsize(11)
    figure.text(0.05, 0.88, "U-Net, Step by Step", size=34, family="serif")
    figure.text(0.05, 0.80, "built, trained and measured, in PyTorch", size=17)
    figure.savefig(target, dpi=100, format="png")


if __name__ == "__main__":
    draw(FOLDER)
    draw_card(FOLDER / "card.png")
