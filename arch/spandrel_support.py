"""AetherNet as an architecture of spandrel: see `arch.install`."""

from __future__ import annotations

from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, ModelTiling, StateDict
from torch import nn

from . import registry
from .keys import split_ranges


def install(*, ignore_duplicates: bool = False) -> list[ArchSupport]:
    """See `arch.install`."""
    return MAIN_REGISTRY.add(ArchSupport.from_architecture(AetherNetArch()), ignore_duplicates=ignore_duplicates)


class AetherNetArch(Architecture[nn.Module]):
    """Every form of every network that `arch.inspect` knows.

    The loaded model's `config` holds every parameter; `descriptor.tags` names size and options.
    """

    def __init__(self) -> None:
        super().__init__(id="AetherNet", detect=registry.detect)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[nn.Module]:
        """The descriptor of a state dict, in float32; the ranges of quantisation-aware training are left out.

        Raises CheckpointError for mixed or truncated state dicts, naming what is wrong.
        """
        state, ranges = split_ranges(registry.unwrap(state_dict))
        model = registry.from_state_dict(state)
        config = model.config
        return ImageModelDescriptor(
            model,
            model.state_dict(),
            architecture=self,
            purpose="Restoration" if config.scale == 1 else "SR",
            tags=config.tags + ["QAT"] * bool(ranges),
            supports_half=config.supports_half,
            supports_bfloat16=False,  # its 8 bits of mantissa cost up to several code values
            scale=config.scale,
            input_channels=config.in_chans,
            output_channels=config.out_chans,
            # Without a radius, an output pixel depends on the whole image: tiles then differ from it.
            tiling=ModelTiling.DISCOURAGED if config.receptive_radius is None else ModelTiling.SUPPORTED,
        )
