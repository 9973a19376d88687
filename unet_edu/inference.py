"""From an image to its mask, whatever the geometry of the network."""

from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from unet_edu.blocks import check_at_least, check_choice, check_images
from unet_edu.speed import prefer_channels_last
from unet_edu.unet import UNet

BLEND = ("gaussian", "constant")


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return the probability of each class at every pixel of whole images.

    Any network of this package.

    A network with unpadded convolutions gives back less than it gets. The images are
    then extended by their mirror image until the output covers them, as the paper
    does, and the output is cut to their size. The model's mode is restored.

    Shapes: (N, n_channels, H, W) to probabilities (N, max(n_classes, 2), H, W). One
    logit gives two probabilities, of class 0 and of class 1.

    Raises:
        ValueError, TypeError: as the model does.

    Source: Ronneberger et al. 2015, section 2. Derived in chapter 6.
    """
    check_images(images, model.n_channels)
    was_training = model.training
    device = next(model.parameters()).device
    x = images.to(device)
    height, width = images.shape[-2:]
    unpadded = getattr(model, "padding", 1) == 0
    extended, offsets = _extend(model, x) if unpadded else (x, (0, 0))
    try:
        logits = model.eval()(extended)
    finally:
        model.train(was_training)
    top, left = offsets
    return _probabilities(logits[..., top : top + height, left : left + width])


def _probabilities(logits: Tensor) -> Tensor:
    logits = logits.float()
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return logits.softmax(dim=1)


def _frame(model: UNet, side: int) -> tuple[int, int]:
    """Return the side to extend an image to, and how much of it goes before."""
    size = side
    while not model.fits(size) or model.output_size(size) < side:
        size += 1
    return size, (size - side) // 2


def _extend(model: UNet, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Mirror the borders until the output covers the image; tell where it lies."""
    amounts, offsets = [], []
    for side in x.shape[-2:]:
        size, before = _frame(model, side)
        amounts.append((before, size - side - before))
        # The output lies in the middle of the extended image.
        offsets.append(before - (size - model.output_size(size)) // 2)
    rows, columns = amounts
    for before, after, dim in [(*columns, -1), (*rows, -2)]:
        # A mirror cannot give more than the image has: mirror again until it does.
        while before or after:
            most = x.shape[dim] - 1
            if most == 0:
                raise ValueError("An image one pixel wide has no mirror image.")
            b, a = min(before, most), min(after, most)
            x = F.pad(x, (b, a, 0, 0) if dim == -1 else (0, 0, b, a), mode="reflect")
            before, after = before - b, after - a
    return x, tuple(offsets)


@torch.no_grad()
def predict_tiled(
    model: nn.Module,
    image: Tensor | np.ndarray,
    tile: int = 256,
    overlap: int | None = None,
    *,
    blend: str = "gaussian",
    out: np.ndarray | None = None,
    batch_size: int = 1,
    progress: bool = True,
) -> Tensor | np.ndarray:
    """Return the probability of each class at every pixel of an image of any size.

    The image is read tile by tile and the answer written row of tiles by row of tiles:
    the memory needed for the work depends on the tile and on the image's width, not on
    its height. Image and ``out`` may be ``numpy.memmap``, and then stay on disk: the
    system keeps of them in memory what it has room for. Tiles that reach beyond the
    image see its mirror image. They begin a multiple of 2^depth apart, so that each
    pooling cuts the image where it would cut the whole one; the last one is moved back
    to where the image ends. The model's mode is restored; its weights are laid out with
    channels innermost, as ``fit`` leaves them.

    - Unpadded, ``align="crop"``, transposed convolutions: a tile's output rests on true
      or mirrored pixels only. The outputs abut, and the answer is that of
      :func:`predict` at every pixel.
    - Padded: the network sees zeros around each tile, which changes the answer near its
      edges, so the outputs overlap and are averaged. What lies further from every edge
      inside the image than the network sees is what :func:`predict` gives. (At the
      image's own border both see zeros, if its sides are multiples of 2^depth.)
    - Unpadded otherwise: zeros or a repeated last pixel inside the network have the
      same effect. The first and last tiles begin and end outside the image by half of
      the overlap.

    Shapes: (n_channels, H, W) to (max(n_classes, 2), H, W), or to class indices (H, W)
    if ``out`` is uint8.

    Args:
        model: the network; the tiles are sent to its device.
        image: floating point, or uint8, which is divided by 255.
        tile: side of the network's input, in pixels: a size that it takes and answers
            with 2^depth pixels or more; with padding a multiple of 2^depth.
        overlap: pixels that the outputs of two neighbours share, or a few more until
            the step is a multiple of 2^depth. By default 0 where the outputs abut,
            otherwise about a quarter of the output.
        blend: what weighs the outputs that share a pixel: ``"gaussian"``, by their
            distance from the middle of the tile with a sigma of an eighth of the
            output, or ``"constant"``, alike.
        out: array to write into: float32 or float16 for probabilities, uint8 for
            class indices. After an error it holds the rows finished so far.
        batch_size: tiles that go through the network at a time.
        progress: whether to show a bar.

    Returns:
        ``out``, or a float32 tensor on the CPU if none was given.

    Raises:
        ValueError: for a wrong shape, a tile or an overlap that does not suit the
            network, an image one pixel wide, NaN or infinity in the image, an ``out``
            that cannot be written.
        TypeError: if the image is neither tensor nor array, or of integers other than
            uint8.

    Source: Ronneberger et al. 2015, section 2; the Gaussian weights are those of
    nnU-Net (Isensee et al. 2021). Derived in chapter 11.
    """
    check_image(image, model.n_channels)
    check_tile(model, tile)
    overlap = _default_overlap(model, tile) if overlap is None else overlap
    check_overlap(model, tile, overlap)
    check_choice("blend", blend, BLEND)
    check_at_least("batch_size", batch_size, 1)
    height, width = image.shape[1:]
    shape = (max(model.n_classes, 2), height, width)
    if out is not None:
        check_out(out, shape)
    target = np.empty(shape, np.float32) if out is None else out

    rows = _plan(model, height, tile, overlap, blend)
    columns = _plan(model, width, tile, overlap, blend)
    output = model.output_size(tile)
    band = torch.zeros(shape[0], output, width)
    was_training = model.training
    hide = not progress
    bar = tqdm(total=len(rows) * len(columns), unit="tile", disable=hide, leave=False)
    prefer_channels_last(model)
    try:
        model.eval()
        for row, after in zip(rows, [*rows[1:], None], strict=True):
            _add_tiles(band, model, image, row, columns, tile, batch_size, bar)
            # The next row of tiles has a say in all that lies below its first pixel.
            done = output if after is None else after[1] - row[1]
            _write(target, band[:, :done], row[1])
            band[:, : output - done] = band[:, done:].clone()
            band[:, output - done :] = 0
    finally:
        bar.close()
        model.train(was_training)
    return torch.from_numpy(target) if out is None else out


# Where a tile lies along one side of the image: the first pixel that it reads and the
# first that it answers for, which may lie outside the image, and the weight of each
# pixel of its output.
Place = tuple[int, int, Tensor]


def _step(model: UNet, tile: int, overlap: int) -> int:
    grid = 2**model.depth
    return (model.output_size(tile) - overlap) // grid * grid


def _default_overlap(model: UNet, tile: int) -> int:
    if model.padding == 0 and model.align == "crop" and not model.bilinear:
        return 0
    grid, output = 2**model.depth, model.output_size(tile)
    return min(_up(output // 4, grid), output - grid)


def _up(value: int, grid: int) -> int:
    return -(-value // grid) * grid


def _plan(model: UNet, side: int, tile: int, overlap: int, blend: str) -> list[Place]:
    """Place the tiles along one side so that the weights at each pixel sum to one."""
    output, step = model.output_size(tile), _step(model, tile, overlap)
    grid = 2**model.depth
    border = (tile - output) // 2
    if model.padding:
        margin = write = 0
    else:
        margin = _up(overlap // 2, grid)
        # The tiles keep a multiple of 2^depth from where predict's poolings begin.
        write = -margin - (_frame(model, side)[1] - border) % grid
    last = max(0, _up(side + margin - write - output, grid))
    starts = [*range(0, last, step), last]

    window = _window(output, blend)
    total = np.zeros(last + output)
    for start in starts:
        total[start : start + output] += window
    # The weight of a pixel is that of its row times that of its column, so it is
    # enough that each of the two sums to one.
    return [
        (
            write - border + start,
            write + start,
            torch.from_numpy(window / total[start : start + output]).float(),
        )
        for start in starts
    ]


def _window(n: int, blend: str) -> np.ndarray:
    """Return the weights along one side of a tile's output; none of them is zero."""
    if blend == "constant":
        return np.ones(n)
    # The outermost pixel lies four sigma from the middle: its weight is exp(-8).
    return np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)


def _add_tiles(
    band: Tensor,
    model: nn.Module,
    image: Tensor | np.ndarray,
    row: Place,
    columns: list[Place],
    tile: int,
    batch_size: int,
    bar: tqdm,
) -> None:
    """Add the weighted outputs of one row of tiles to the band that they cover."""
    weight = next(model.parameters())
    for i in range(0, len(columns), batch_size):
        batch = columns[i : i + batch_size]
        x = torch.stack([_read(image, row[0], read, tile) for read, _, _ in batch])
        answers = _probabilities(model(x.to(weight))).cpu()
        for answer, (_, left, weights) in zip(answers, batch, strict=True):
            there, here = _inside(left, len(weights), band.shape[2])
            answer = answer * row[2][:, None] * weights
            band[..., there] += answer[..., here]
            bar.update()


def _read(image: Tensor | np.ndarray, top: int, left: int, tile: int) -> Tensor:
    """Return one tile as float32, mirrored where it reaches beyond the image."""
    rows, columns = (
        _mirror(start, tile, side)
        for start, side in zip((top, left), image.shape[1:], strict=True)
    )
    top, left = rows.min(), columns.min()
    # Only this is read from a file; what it mirrors lies inside.
    part = image[:, top : rows.max() + 1, left : columns.max() + 1]
    if isinstance(part, Tensor):
        x = part.detach().float()
    else:
        x = torch.from_numpy(np.array(part, dtype=np.float32))
    if part.dtype in (torch.uint8, np.uint8):
        x = x / 255
    check_finite(x, top, left)
    return x[:, torch.from_numpy(rows - top)][:, :, torch.from_numpy(columns - left)]


def _mirror(start: int, n: int, side: int) -> np.ndarray:
    """Return which pixel stands at each of n places, mirrored as often as needed."""
    last = side - 1
    return np.abs((np.arange(start, start + n) + last) % (2 * last) - last)


def _inside(start: int, n: int, side: int) -> tuple[slice, slice]:
    """Return what lies in the image, in the image's pixels and in the piece's own."""
    first = max(start, 0)
    last = max(first, min(start + n, side))
    return slice(first, last), slice(first - start, last - start)


def _write(target: np.ndarray, band: Tensor, top: int) -> None:
    """Write the rows of a band that lie in the image."""
    there, here = _inside(top, band.shape[1], target.shape[-2])
    values = band[:, here]
    values = values.argmax(0) if target.dtype == np.uint8 else values
    target[..., there, :] = values.numpy()


# The checks at the door of predict_tiled.


def check_image(image: object, n_channels: int) -> None:
    """Raise if ``image`` is not one image (n_channels, H, W) of floats or uint8."""
    if not isinstance(image, (Tensor, np.ndarray)):
        raise TypeError(
            f"Expected a torch.Tensor or a numpy array, got {type(image).__name__}."
        )
    shape = tuple(image.shape)
    if len(shape) != 3:
        hint = {2: "image[None]", 4: "one of them, such as images[0]"}.get(len(shape))
        raise ValueError(
            f"Expected one image (C, H, W), got shape {shape}."
            + (f" Pass {hint}." if hint else "")
        )
    tensor = isinstance(image, Tensor)
    floats = (
        image.is_floating_point() if tensor else np.issubdtype(image.dtype, np.floating)
    )
    if not floats and image.dtype not in (torch.uint8, np.uint8):
        raise TypeError(
            f"Expected an image of floating-point numbers or of uint8, got "
            f"{image.dtype}. Only of uint8 is it known that white is 255: divide by "
            "what is white in yours, such as 65535, in floating point."
        )
    if shape[0] != n_channels:
        hint = " The channels come first." if shape[2] == n_channels else ""
        raise ValueError(
            f"The network was built for {n_channels} channel(s), the image has "
            f"{shape[0]} (shape {shape}).{hint}"
        )
    if min(shape[1:]) < 2:
        raise ValueError(
            "An image one pixel wide has no mirror image: both sides must be at least "
            f"2 pixels, got {shape[1]}x{shape[2]}."
        )


def check_tile(model: UNet, tile: int) -> None:
    """Raise ValueError, with the sizes that would do, if ``tile`` is not one."""
    check_at_least("tile", tile, 1)
    if not hasattr(model, "output_size"):
        raise ValueError(
            f"{type(model).__name__} cannot be used tile by tile: it does not say how "
            "large its output is. Predict the whole image."
        )
    grid = 2**model.depth

    def suits(size: int) -> bool:
        output = model.output_size(size)
        # Less than one step of the deepest level could not be joined in step.
        return (
            output is not None
            and output >= grid
            and not (model.padding and size % grid)
        )

    if suits(tile):
        return
    first = next(size for size in count(1) if suits(size))
    above = next(size for size in count(tile + 1) if suits(size))
    below = next((size for size in range(tile - 1, 0, -1) if suits(size)), None)
    near = f"{above}" if below is None else f"{below} or {above}"
    any_size = model.padding == 0 and model.align == "pad"
    steps = "" if any_size else f" and go on in steps of {grid}"
    kind = f"{type(model).__name__} of depth {model.depth}"
    if isinstance(model, UNet):
        kind = (
            f"U-Net of depth {model.depth} with padding={model.padding} and "
            f"align={model.align!r}"
        )
    raise ValueError(
        f"A tile of {tile} pixels does not suit a {kind}: tiles start at "
        f"{first}{steps}. Instead of {tile}, use {near}."
    )


def check_overlap(model: UNet, tile: int, overlap: int) -> None:
    """Raise ValueError if tiles with this overlap would not get ahead."""
    check_at_least("overlap", overlap, 0)
    output = model.output_size(tile)
    most = output - 2**model.depth
    if overlap > most:
        raise ValueError(
            f"An overlap of {overlap} pixels is too much: a tile of {tile} answers for "
            f"{output} pixels, and the next one begins at least {2**model.depth} "
            f"further on. Use at most {most}, or a larger tile."
        )


def check_out(out: object, shape: tuple[int, int, int]) -> None:
    """Raise ValueError if ``out`` cannot take probabilities or classes of ``shape``."""
    if not isinstance(out, np.ndarray):
        raise TypeError(
            f"out must be a numpy array or memmap, got {type(out).__name__}."
        )
    probabilities = out.dtype in (np.float32, np.float16) and out.shape == shape
    if not probabilities and (out.dtype != np.uint8 or out.shape != shape[1:]):
        raise ValueError(
            f"out is {out.dtype} of shape {out.shape}. For this image and network it "
            f"must be float32 or float16 of shape {shape}, for probabilities, or uint8 "
            f"of shape {shape[1:]}, for class indices."
        )
    if not out.flags.writeable:
        raise ValueError("out is read-only. Open a memmap with mode='r+' or 'w+'.")
    if out.dtype == np.uint8 and shape[0] > 256:
        raise ValueError(
            f"uint8 counts to 255: {shape[0]} classes do not fit into out."
        )


def check_finite(x: Tensor, top: int, left: int) -> None:
    """Raise ValueError if a piece of the image has NaN or infinity, saying where."""
    if not x.isfinite().all():
        channel, row, column = (~x.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"The image has NaN or infinity, such as {x[channel, row, column]} in "
            f"channel {channel}, row {top + row}, column {left + column}. Replace it, "
            "for example with torch.nan_to_num or numpy.nan_to_num."
        )
