"""What all networks of the six families share: any image size in, the same size out."""

from torch import Tensor, nn

from unet_edu.blocks import check_at_least, check_images
from unet_edu.fcn import extend


class SameSize(nn.Module):
    """A network whose logits have the size of its images.

    Its maps are halved ``depth`` times. A side that 2^depth does not divide is extended
    on the right and at the bottom by repeating its last pixel, and the logits are cut
    back. A network of this kind says in ``logits`` what it does with images that fit.

    Shapes: images (N, n_channels, H, W), floating point, to logits
    (N, n_classes, H, W).

    Args:
        n_channels: channels of the images.
        n_classes: channels of the logits.
        depth: number of times the map is halved.

    Raises:
        ValueError: for an impossible setting, or images of the wrong shape.
        TypeError: if the images are not floating point.

    Used in chapters 15 to 21.
    """

    padding = 1

    def __init__(self, n_channels: int, n_classes: int, depth: int) -> None:
        super().__init__()
        check_at_least("n_channels", n_channels, 1)
        check_at_least("n_classes", n_classes, 1)
        check_at_least("depth", depth, 1)
        self.n_channels, self.n_classes, self.depth = n_channels, n_classes, depth

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of images whose sides 2^depth divides."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(self.logits(self.extend(x)), x)

    def extend(self, x: Tensor) -> Tensor:
        """Return images that fit, after a look at what was given."""
        check_images(x, self.n_channels)
        return extend(x, 2**self.depth)

    @staticmethod
    def cut(logits: Tensor, x: Tensor) -> Tensor:
        """Return the part of the logits that belongs to the images ``x``."""
        return logits[..., : x.shape[-2], : x.shape[-1]]

    def output_size(self, size: int) -> int | None:
        """Return the side of the logits for a side of ``size`` pixels: the same."""
        return size if size >= 1 else None

    def fits(self, size: int) -> bool:
        """Tell whether the network takes images with a side of ``size`` pixels."""
        return size >= 1
