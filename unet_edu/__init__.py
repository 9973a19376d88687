"""The networks that *U-Net, Step by Step* derives, as the book derives them."""

from unet_edu.blocks import DoubleConv, Down, OutConv, Up
from unet_edu.fcn import FCN, VGG16FCN
from unet_edu.unet import UNet

__version__ = "0.1.0"
__all__ = ["FCN", "VGG16FCN", "DoubleConv", "Down", "OutConv", "UNet", "Up"]
