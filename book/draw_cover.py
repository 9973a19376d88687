"""Draw the picture of the cover page: U-Net, from its own forward pass."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from unet_edu import UNet, plotting

TARGET = Path(__file__).parent / "_static" / "unet.svg"


def draw(target: Path) -> None:
    """Write the drawing as SVG; the same network gives the same bytes."""
    plotting.use_style()
    matplotlib.rcParams["svg.hashsalt"] = "unet"
    figure = plotting.draw_unet(UNet(1, 1), (1, 1, 572, 572))
    figure.savefig(target, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    draw(TARGET)
