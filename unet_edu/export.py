"""A network as a file that runs without Python: ONNX, in floats or in eight bits."""

import copy
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from unet_edu.blocks import check_images
from unet_edu.checkpoints import write_atomically

NEEDED = ("onnx", "onnxscript")
INPUT, OUTPUT = "x", "logits"


def to_onnx(
    model: nn.Module,
    path: Path | str,
    example: Tensor | None = None,
    *,
    any_size: bool | None = None,
) -> Path:
    """Write a network as an ONNX file: its computation in eval mode and its weights.

    The file has one input, ``x``, and one output, ``logits``. It is written whole or
    not at all, and holds no path of this machine. The model itself, its mode and its
    device stay as they are. What stands in Python around the computation is not in the
    file: an image that the network would refuse with a sentence fails inside the graph,
    or gives nonsense.

    Shapes: images (N, n_channels, H, W) float32 to logits (N, n_classes, H', W') as the
    model gives them, for any N.

    Args:
        model: any network of this package, with float32 weights.
        path: file to write; its folder is made if there is none.
        example: images to follow through the network, (N, C, H, W). Their values do
            not matter. A size that suits the network if not given.
        any_size: whether H and W are left open; else they are those of the example.
            If not given: open for networks with padded convolutions. The sizes of an
            unpadded U-Net come in steps that a graph cannot express.

    Returns:
        ``path``.

    Raises:
        ModuleNotFoundError: if ``onnx`` or ``onnxscript`` is not installed.
        TypeError, ValueError: if model or example cannot be exported, with what to do.

    Derived in chapter 23.
    """
    check_exporter()
    check_float32(model)
    if example is None:
        example = example_images(model)
    if hasattr(model, "n_channels"):
        check_images(example, model.n_channels)
    if any_size is None:
        any_size = getattr(model, "padding", 1) == 1
    data = _graph(model, example, any_size).SerializeToString(deterministic=True)
    write_atomically(Path(path), lambda file: file.write_bytes(data))
    return Path(path)


def to_int8(path: Path | str, out: Path | str, images: Iterable[Tensor]) -> Path:
    """Write an ONNX file anew with weights and maps as whole numbers of eight bits.

    Weights get one scale for each output channel, maps one scale each, such that the
    values met on ``images`` fit. The file is about a third as large; what it loses must
    be measured on images of one's own.

    Shapes: each of the images (N, C, H, W), float.

    Args:
        path: a file that :func:`to_onnx` wrote.
        out: file to write, whole or not at all.
        images: some images as the network will meet them; ten are enough. Never those
            that it is judged on.

    Returns:
        ``out``.

    Raises:
        ModuleNotFoundError: if ``onnx`` or ``onnxruntime`` is not installed.
        FileNotFoundError: if there is no file ``path``.
        ValueError: if there are no images.

    Source: Jacob et al. 2018. Derived in chapter 12.
    """
    check_installed(("onnx", "onnxruntime"), "Whole numbers of eight bits need")
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    feeds = [{INPUT: image.detach().cpu().float().numpy()} for image in images]
    if not feeds:
        raise ValueError("Without images nobody knows how large the maps' values are.")
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        given = iter(feeds)

        def get_next(self) -> dict | None:
            return next(self.given, None)

    def write(file: Path) -> None:
        with _only_errors(logging.getLogger()):  # it advises what it was given already
            quantize_static(str(path), str(file), Reader(), per_channel=True)

    write_atomically(Path(out), write)
    return Path(out)


@contextmanager
def _only_errors(log: logging.Logger) -> Iterator[None]:
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def example_images(model: nn.Module) -> Tensor:
    """Return two images of zeros of a size that suits the network."""
    side = 64
    while hasattr(model, "fits") and not model.fits(side):
        side += 1
    return torch.zeros(2, getattr(model, "n_channels", 1), side, side)


def _graph(model: nn.Module, example: Tensor, any_size: bool):
    """Follow an example through the network; return the graph as an ONNX message."""
    free = torch.export.Dim.DYNAMIC
    # A graph that has seen one image believes that there is always one.
    two = example.detach().float().cpu()[:1].repeat(2, 1, 1, 1)
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    try:
        # The log misses torchvision, which nobody needs here.
        with _only_errors(log), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                copy.deepcopy(model).cpu().eval(),
                (two,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamo=True,
                verbose=False,
                dynamic_shapes=({0: free} | ({2: free, 3: free} if any_size else {}),),
            )
    except torch.onnx.OnnxExporterError as error:
        hint = "Pass any_size=False to fix height and width to those of the example. "
        raise ValueError(
            f"{type(model).__name__} cannot be written as a graph for images of "
            f"{'any size' if any_size else 'this size'}. {hint if any_size else ''}"
            f"PyTorch says: {_reason(error)}"
        ) from error
    message = program.model_proto
    _forget_source(message)
    return message


def _reason(error: BaseException) -> str:
    """Return the last line that says something of the deepest cause of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _forget_source(message) -> None:
    """Take out what the exporter notes about the source: its lines and its folders.

    The shapes of intermediate results go as well: whoever runs the graph finds them.
    """
    graph = message.graph
    for part in [message, graph, *graph.node, *graph.input, *graph.output]:
        del part.metadata_props[:]
    for weight in graph.initializer:
        del weight.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    del graph.value_info[:]


# The checks at the door.


def check_exporter() -> None:
    """Raise ModuleNotFoundError if what writes ONNX is not installed."""
    check_installed(NEEDED, "Writing ONNX needs")


def check_installed(names: tuple[str, ...], what: str) -> None:
    """Raise ModuleNotFoundError, with what to do, if a package is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{what} {' and '.join(missing)}, which the package does not bring along. "
            f"Install with: pip install {' '.join(names)}"
        )


def check_float32(model: object) -> None:
    """Raise if ``model`` is no module, or its weights are not float32."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"Expected a torch.nn.Module, got {type(model).__name__}. A file of "
            "weights becomes one with unet_edu.checkpoints.load_model."
        )
    other = next(
        (p.dtype for p in model.parameters() if p.dtype != torch.float32), None
    )
    if other:
        raise TypeError(
            f"The weights must be float32, found {other}. Use model.float()."
        )
