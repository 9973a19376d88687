"""What makes a network faster or lighter without changing what it computes."""

import copy
import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from unet_edu.blocks import DoubleConv


def has_bf16(device: torch.device | str) -> bool:
    """Return whether a device multiplies in bfloat16 itself and does not imitate it.

    NVIDIA GPUs do since the A100, processors with AVX512-BF16 or AMX. Elsewhere mixed
    precision works too, but is slower than float32.

    Derived in chapter 12.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in known)


def prefer_channels_last(model: nn.Module) -> bool:
    """Lay a model's weights out with channels innermost; return whether that was done.

    Most devices convolve faster so. The weights of a 3-D convolution have five axes,
    for which this order is not; a model that has one stays as it is.

    Derived in chapter 12.
    """
    if any(parameter.dim() > 4 for parameter in model.parameters()):
        return False
    model.to(memory_format=torch.channels_last)
    return True


def fuse_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose batch norms are folded into convolutions.

    In evaluation mode a batch norm multiplies each channel by one number and adds
    another, which the convolution before it can do with its own weights and bias. The
    copy gives the same answers up to rounding, and cannot be trained further.

    Source: PyTorch's fuse_conv_bn_eval. Derived in chapter 12.
    """
    fused = copy.deepcopy(model).eval()
    for block in fused.modules():
        if not isinstance(block, nn.Sequential):
            continue
        names = list(block._modules)
        for before, name in itertools.pairwise(names):
            conv, norm = block._modules[before], block._modules[name]
            if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                block._modules[before] = fuse_conv_bn_eval(conv, norm)
                block._modules[name] = nn.Identity()
    return fused


def checkpoint_activations(model: nn.Module) -> nn.Module:
    """Let every DoubleConv forget its maps and compute them again when needed.

    Changes ``model`` and returns it. In training, a block then keeps what came in and
    nothing of what it computed on the way; the backward pass runs the block once more.
    The gradients are the same. So are the running means of batch norm, which stand
    still while a block runs for the second time.

    Raises ValueError if the model has no DoubleConv.

    Source: Chen et al. 2016. Derived in chapter 12.
    """
    blocks = [module for module in model.modules() if isinstance(module, DoubleConv)]
    if not blocks:
        raise ValueError(
            f"{type(model).__name__} has no DoubleConv whose maps could be forgotten."
        )
    for block in blocks:
        block.forward = functools.partial(_forget_and_repeat, block)
    return model


def _forget_and_repeat(block: DoubleConv, x: Tensor) -> Tensor:
    return checkpoint(
        type(block).forward,
        block,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _running_means_stand_still(block)),
    )


@contextmanager
def _running_means_stand_still(block: nn.Module) -> Iterator[None]:
    """Keep batch norm from counting the same batch twice."""
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked -= 1
