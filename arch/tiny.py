"""aether_tiny: the real-time variant, built so that int8 keeps both its speed and its accuracy."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import keys
from .errors import CheckpointError
from .layers import repeat_channels
from .upscaler import Config, Upscaler, deployed


@dataclasses.dataclass(frozen=True)
class AetherTinyConfig(Config):
    """The real-time variant: `depth` dense 3x3 convolutions of `embed_dim` channels, ReLU, image residual.

    `expand` is the width factor of the training branches; it is 0 where `fused`.
    """

    body: ClassVar[str] = "blocks."
    forms: ClassVar[tuple[frozenset[str], ...]] = (
        frozenset(("conv_first.weight", "blocks.0.weight", "floors", "conv_last.weight")),
        frozenset(("conv_first.expand.weight", "blocks.0.expand.weight", "conv_last.project.weight")),
    )
    options: ClassVar[tuple[str, ...]] = ("border",)
    counted: ClassVar[str] = "convolutions"
    variant: ClassVar[str] = "aether_tiny"  # pyright: ignore[reportIncompatibleMethodOverride]

    embed_dim: int = 48
    depth: int = 9
    expand: int = 2
    scale: int = 2
    in_chans: int = 3
    border: int = 0
    fused: Literal["none", "full"] = "none"

    @property
    def blocks(self) -> int:
        """See `Config.blocks`."""
        return self.depth

    @property
    def supports_half(self) -> bool:
        """See `Config.supports_half`."""
        return True

    @property
    def receptive_radius(self) -> int:
        """See `Config.receptive_radius`."""
        return self.depth

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """See `Config.from_state`."""
        depth = keys.count(state, cls.body) + 2
        fused = "conv_first.weight" in state
        if fused and any(k.endswith(".expand.weight") for k in state):
            raise CheckpointError("mixed AetherNet checkpoint: conv_first is fused and other convolutions are not.")
        infix = "" if fused else ".conv"
        embed_dim, in_chans, _, _ = keys.shape_of(state, f"conv_first{infix}.weight")
        out = keys.shape_of(state, f"conv_last{infix}.weight")[0]
        return cls(
            embed_dim=embed_dim,
            depth=depth,
            expand=0 if fused else keys.shape_of(state, "blocks.0.expand.weight")[0] // embed_dim,
            scale=keys.direct_scale(out, in_chans),
            in_chans=in_chans,
            border=keys.border(state),
            fused="full" if fused else "none",
        )


class RepConv3x3(nn.Module):
    """Dense 3x3 convolution with linear training branches (Bhardwaj et al., SESR, 2022), merged in every pass.

    kernel = conv + project(expand), + identity in the body: `expand` is a 3x3 convolution to
    `expand` times the channels and `project` a 1x1 back. Training costs one plain convolution plus a few
    thousand multiplications for the merge.

    Shapes: (N, in_chans, H, W) -> (N, out_chans, H, W), zero padding.
    """

    def __init__(self, in_chans: int, out_chans: int, expand: int, *, identity: bool = False) -> None:
        super().__init__()
        wide = expand * max(in_chans, out_chans)
        self.identity = identity
        self.conv = nn.Conv2d(in_chans, out_chans, 3, padding=1)
        self.expand = nn.Conv2d(in_chans, wide, 3, bias=False)
        self.project = nn.Conv2d(wide, out_chans, 1, bias=False)
        # The identity already carries the signal: start the learnt part small beside it. Five times as much left
        # a quarter of the first layers' channels dead after training, and cost 0.14 dB after 1000 steps.
        small = 0.1 if self.identity else 1.0
        for m, gain in ((self.conv, small), (self.expand, 0.5), (self.project, min(small, 0.5))):
            if m.weight.is_meta:  # `inspect` builds there, where a normal draw imports torch's compiler for seconds
                continue
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            with torch.no_grad():
                m.weight *= gain
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """The one equivalent kernel (out_chans, in_chans, 3, 3) and its bias (out_chans,)."""
        assert self.conv.bias is not None
        merged = torch.einsum("om,mikl->oikl", self.project.weight[:, :, 0, 0], self.expand.weight)
        kernel = self.conv.weight + merged
        if self.identity:
            eye = torch.eye(kernel.shape[0], dtype=kernel.dtype, device=kernel.device)
            kernel = kernel + F.pad(eye[:, :, None, None], [1, 1, 1, 1])
        return kernel, self.conv.bias

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = self.kernel_and_bias()
        return F.conv2d(x, kernel, bias, padding=1)


class _Tiny(Upscaler):
    """What both forms share: conv_first, `depth` - 2 body convolutions, each followed by an activation, conv_last,
    plus the input's channels repeated (nearest-neighbour residual), PixelShuffle.
    """

    config: AetherTinyConfig

    def __init__(self, config: AetherTinyConfig, convolution: Callable[..., nn.Module]) -> None:
        super().__init__(config)
        if config.depth < 3 or config.embed_dim < 1 or config.scale < 1:
            raise ValueError(f"{config} cannot be built: depth >= 3, embed_dim >= 1 and scale >= 1 are needed.")
        c = config.embed_dim
        self.conv_first = convolution(config.in_chans, c)
        self.blocks = nn.ModuleList(convolution(c, c, identity=True) for _ in range(config.depth - 2))
        self.conv_last = convolution(c, config.in_chans * config.scale**2)

    def activate(self, x: Tensor, index: int) -> Tensor:
        """The activation behind the convolution of this number."""
        raise NotImplementedError

    def upscale(self, image: Tensor) -> Tensor:
        """See `Upscaler.upscale`."""
        x = image - 0.5
        y = self.activate(self.conv_first(x), 0)
        for i, block in enumerate(self.blocks, 1):
            y = self.activate(block(y), i)
        y = self.conv_last(y) + repeat_channels(x, self.config.scale**2)
        return F.pixel_shuffle(y, self.config.scale) + 0.5


class AetherTiny(_Tiny):
    """aether_tiny, trainable form: (N, in_chans, H, W) in [0, 1] -> (N, in_chans, scale*H, scale*W), not clamped."""

    repeated = (RepConv3x3,)
    merged = ((r"^(conv_first|conv_last|blocks\.\d+)\.(conv|expand)$", r"\1"),)

    def __init__(self, config: AetherTinyConfig) -> None:
        super().__init__(config, lambda i, o, identity=False: RepConv3x3(i, o, config.expand, identity=identity))
        assert isinstance(self.conv_last, RepConv3x3)
        nn.init.zeros_(self.conv_last.conv.weight)
        nn.init.zeros_(self.conv_last.project.weight)

    @torch.no_grad()
    def deepened(self, depth: int) -> AetherTiny:
        """A copy with `depth` convolutions in all that computes the same: the new ones are the identity.

        They follow the present body, whose ReLU makes them exact (Chen et al., Net2Net, 2016), and train from there.
        Raises ValueError for a smaller depth.
        """
        if depth < self.config.depth:
            raise ValueError(f"{self.config} cannot be deepened to {depth}: it has more convolutions already.")
        deeper = AetherTiny(dataclasses.replace(self.config, depth=depth))
        deeper.load_state_dict(self.state_dict(), strict=False)
        for block in deeper.blocks[len(self.blocks) :]:
            assert isinstance(block, RepConv3x3)
            nn.init.zeros_(block.conv.weight)
            nn.init.zeros_(block.project.weight)
        return deeper.train(self.training)

    def grown(self, config: Config) -> Upscaler:
        """See `Upscaler.grown`: to a greater depth."""
        if not isinstance(config, AetherTinyConfig) or config.depth <= self.config.depth:
            return self
        return self.deepened(config.depth)

    def activate(self, x: Tensor, index: int) -> Tensor:
        """ReLU."""
        return F.relu(x)

    def _fuse(self, fold_norms: bool) -> FusedAetherTiny:
        state: dict[str, Tensor] = {k: v for k, v in self.state_dict().items() if k == "border"}
        for name, module in self.named_modules(remove_duplicate=False):
            if isinstance(module, RepConv3x3):
                kernel, bias = copy.deepcopy(module).double().kernel_and_bias()
                state |= {f"{name}.weight": kernel, f"{name}.bias": bias}
        fused = FusedAetherTiny(dataclasses.replace(self.config, fused="full", expand=0))
        deployed(fused, state | {"floors": fused.floors}, self)
        return fused


class FusedAetherTiny(_Tiny):
    """AetherTiny after `fuse`: the same function of plain convolutions, with max(., floor) between them.

    `floors` is the lower limit of each activation: 0, which fusing gives, is ReLU.
    """

    floors: Tensor

    def __init__(self, config: AetherTinyConfig) -> None:
        super().__init__(config, lambda i, o, identity=False: nn.Conv2d(i, o, 3, padding=1))
        self.register_buffer("floors", torch.zeros(config.depth - 1))

    def activate(self, x: Tensor, index: int) -> Tensor:
        """max(x, floors[index])."""
        return torch.maximum(x, self.floors[index])


AetherTinyConfig.modules = {"none": AetherTiny, "full": FusedAetherTiny}
