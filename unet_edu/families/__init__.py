"""The six families of improvements, one file a family, and one door to all networks.

The plain networks stand first, so that each improvement can be compared with what it
improves.
"""

import difflib
import functools
import inspect
from collections.abc import Callable

from torch import nn

from unet_edu.blocks import check_choice
from unet_edu.families.backbone import MultiResUNet, R2UNet, ResUNet
from unet_edu.families.bottleneck import ASPPUNet, CENet, SAUNet, SEUNet
from unet_edu.families.probabilistic import (
    DropoutUNet,
    ProbabilisticUNet,
    StochasticSegmentationNetwork,
)
from unet_edu.families.representation import (
    DenseFusionUNet,
    LateFusionUNet,
    PyramidUNet,
    UNet3D,
)
from unet_edu.families.skip import AttentionUNet, UNet3Plus, UNetPlusPlus
from unet_edu.families.transformer import UNETR, SwinUNet, TransUNet
from unet_edu.fcn import FCN
from unet_edu.unet import UNet

MODELS: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "plain": {
        "unet": functools.partial(UNet, padding=1),
        "fcn32s": functools.partial(FCN, stride=32),
        "fcn16s": functools.partial(FCN, stride=16),
        "fcn8s": functools.partial(FCN, stride=8),
    },
    "skip": {
        "attention_unet": AttentionUNet,
        "unet_plus_plus": UNetPlusPlus,
        "unet_3plus": UNet3Plus,
    },
    "backbone": {
        "res_unet": ResUNet,
        "multires_unet": MultiResUNet,
        "r2_unet": R2UNet,
    },
    "bottleneck": {
        "se_unet": SEUNet,
        "sa_unet": SAUNet,
        "aspp_unet": ASPPUNet,
        "ce_net": CENet,
    },
    "transformer": {
        "trans_unet": TransUNet,
        "unetr": UNETR,
        "swin_unet": SwinUNet,
    },
    "probabilistic": {
        "probabilistic_unet": ProbabilisticUNet,
        "dropout_unet": DropoutUNet,
        "stochastic_unet": StochasticSegmentationNetwork,
    },
    "representation": {
        "pyramid_unet": PyramidUNet,
        "late_fusion_unet": LateFusionUNet,
        "dense_fusion_unet": DenseFusionUNet,
        "unet_3d": UNet3D,
    },
}
FAMILIES = tuple(MODELS)


def list_models(family: str | None = None) -> list[str]:
    """Return the names that :func:`create_model` knows, of one family or of all.

    Raises ValueError if there is no such family. Shown in chapter 14.
    """
    if family is None:
        return [name for models in MODELS.values() for name in models]
    check_choice("family", family, FAMILIES)
    return list(MODELS[family])


def family_of(name: str) -> str:
    """Return the family of a model.

    Raises ValueError for an unknown name, with the nearest known ones.
    """
    for family, models in MODELS.items():
        if name in models:
            return family
    known = list_models()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
    raise ValueError(
        f"There is no model {name!r}. Did you mean {' or '.join(near)}? "
        "list_models() names all of them."
    )


def settings_of(name: str) -> list[str]:
    """Return the settings that a model has beside its channels.

    Raises ValueError for an unknown name, as :func:`family_of` does.
    """
    build = MODELS[family_of(name)][name]
    fixed = build.keywords if isinstance(build, functools.partial) else {}
    taken = ("n_channels", "n_classes", *fixed)
    return [one for one in inspect.signature(build).parameters if one not in taken]


def create_model(name: str, n_channels: int, n_classes: int, **settings) -> nn.Module:
    """Build a network by its name.

    It takes images (N, n_channels, H, W), floating point and of any size, and returns
    logits (N, n_classes, H, W).

    Args:
        name: one of :func:`list_models`.
        n_channels: channels of the images.
        n_classes: channels of the logits.
        **settings: arguments of the network's class. Without any, it has its published
            size, which is more than a CPU trains.

    Raises:
        ValueError: for an unknown name, a setting that the network does not have, with
            those that it has, or an impossible value.

    Shown in chapter 14.
    """
    build = MODELS[family_of(name)][name]
    own = settings_of(name)
    unknown = [setting for setting in settings if setting not in own]
    if unknown:
        raise ValueError(
            f"{name} has no setting {unknown[0]!r}. It has: {', '.join(own)}."
        )
    model = build(n_channels, n_classes, **settings)
    if not isinstance(model, UNet):
        # What builds it again; a UNet knows by itself.
        channels = {"n_channels": n_channels, "n_classes": n_classes}
        model.config = {"name": name, **channels, **settings}
    return model
