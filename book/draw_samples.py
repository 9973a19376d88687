"""Draw the picture of cells that chapter 23's page offers to its network.

Like everything from ``unet_edu.data.cells`` it is drawn from a seed: no microscope, no
data set. Cells are about as large as in ISBI 2012, membranes half as wide.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from unet_edu.data import cells

TARGET = Path(__file__).parent / "_static" / "live" / "cells.png"


def pixels() -> np.ndarray:
    """Return the picture as bytes, (256, 288); no side is the other's."""
    sample = cells.draw(7, 288, "membranes", diameter=48.0, noise=0.06)
    return (sample.image[0, :256] * 255).round().byte().numpy()


if __name__ == "__main__":
    Image.fromarray(pixels()).save(TARGET, optimize=True)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")
