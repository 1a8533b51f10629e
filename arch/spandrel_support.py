"""AetherNet as an architecture of spandrel: see `arch.install`."""

from __future__ import annotations

import dataclasses

from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, ModelTiling, StateDict
from spandrel.util import KeyCondition
from torch import nn

from .config import AetherNetConfig, AetherTinyConfig, Config
from .detect import inspect, split_ranges
from .errors import CheckpointError
from .wrappers import networks, unwrap


def _net(group: str) -> KeyCondition:
    """The keys of a net whose blocks lie under `group`, in any of its three forms."""
    block = f"{group}.0.0."
    return KeyCondition.has_all(
        "conv_first.weight",
        "conv_after_body.weight",
        "conv_last.weight",
        KeyCondition.has_any(
            block + "conv.lk_conv.weight",
            block + "conv.fused_conv.weight",
            KeyCondition.has_all(block + "conv.weight", block + "ffn.fc1.weight", block + "ffn.fc2.weight"),
        ),
    )


# Enough to tell AetherNet from others; `inspect` then compares every key, and names what is wrong.
AETHER = KeyCondition.has_any(
    _net("layers"),
    _net("stages"),
    KeyCondition.has_all("conv_first.weight", "blocks.0.weight", "floors", "conv_last.weight"),
    KeyCondition.has_all("conv_first.expand.weight", "blocks.0.expand.weight", "conv_last.project.weight"),
)

# Fields of a configuration that have a tag of their own, or none; all others are options.
SIZES = {"embed_dim", "depths", "depth", "hidden", "lk_kernel", "sk_kernel", "expand", "scale", "in_chans"}
OTHERS = {"img_range", "fused"}


def install(*, ignore_duplicates: bool = False) -> list[ArchSupport]:
    """See `arch.install`."""
    return MAIN_REGISTRY.add(ArchSupport.from_architecture(AetherNetArch()), ignore_duplicates=ignore_duplicates)


class AetherNetArch(Architecture[nn.Module]):
    """Every form of AetherNet that `arch.inspect` knows: both public layouts and aether_tiny, fused or not.

    The loaded model's `config` holds every parameter; `descriptor.tags` names size and options.
    """

    def __init__(self) -> None:
        super().__init__(id="AetherNet", detect=detect)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[nn.Module]:
        """The descriptor of a state dict, in float32; the ranges of quantisation-aware training are left out.

        Raises CheckpointError for mixed or truncated state dicts, naming what is wrong.
        """
        state, ranges = split_ranges(unwrap(state_dict))
        config = inspect(state)
        model = config.build().eval()
        known = model.state_dict().keys()
        return ImageModelDescriptor(
            model,
            {key: value for key, value in state.items() if key in known},
            architecture=self,
            purpose="Restoration" if config.scale == 1 else "SR",
            tags=_tags(config) + ["QAT"] * bool(ranges),
            supports_half=_bounded(config),
            supports_bfloat16=False,  # its 8 bits of mantissa cost up to several code values
            scale=config.scale,
            input_channels=config.in_chans,
            output_channels=config.out_chans,
            # Without a radius, an output pixel depends on the whole image: tiles then differ from it.
            tiling=ModelTiling.DISCOURAGED if config.receptive_radius is None else ModelTiling.SUPPORTED,
        )


def detect(state_dict: StateDict) -> bool:
    """Whether these are the weights of an AetherNet, bare or in a container; damaged ones count, `load` names why."""
    try:
        return any(AETHER(split_ranges(found.state)[0]) for found in networks(state_dict))
    except CheckpointError:
        return False


def _bounded(config: Config) -> bool:
    """Whether float16 was found to be within a code value of float32: where activations are bounded.

    The gated nets of the public forms multiply what no clamp bounds, and no trained weights of theirs were tested.
    """
    return isinstance(config, AetherTinyConfig) or (isinstance(config, AetherNetConfig) and config.norm == "batch")


def _tags(config: Config) -> list[str]:
    """Size, width ("96nf"), blocks ("16nb") and large kernel ("11x11"), then every option that is not the default."""
    fields = {field.name: (getattr(config, field.name), field.default) for field in dataclasses.fields(config)}
    named = [] if config.variant == "custom" else config.variant.removeprefix("aether_").split("_")
    blocks = sum(fields["depths"][0]) if "depths" in fields else fields["depth"][0]
    tags = [*named, f"{config.embed_dim}nf", f"{blocks}nb"]
    if "lk_kernel" in fields:
        kernel = fields["lk_kernel"][0]
        tags.append(f"{kernel}x{kernel}")
    for name, (value, default) in fields.items():
        words = name.replace("_", " ")
        if name in SIZES | OTHERS or value == default:
            continue
        if isinstance(value, str):  # "batch norm"
            tags.append(f"{value} {words}")
        else:  # "image residual", "deployed kernel 5"
            tags.append(words if value is True else f"{words} {value}")
    return tags + ["fused"] * (config.fused != "none")
