"""What every network has: a configuration that a state dict gives, and a module that upscales, fuses and exports.

A network is one file, or a folder, that derives both classes, and a row in `arch.registry`
(docs/develop/add-a-network.md).
"""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ReparamLargeKernelConv

Fused = Literal["none", "kernel", "full"]

LARGEST_BORDER = 64
"""Pixels; the released networks have 2 and 4. A file with a huge one would fill memory at the first picture."""


class Config(ABC):
    """Everything that makes a network's module: a frozen dataclass of sizes and options, deduced from a state dict.

    `fused` is "none" (training branches), "kernel" (the public fused layout, where there is one) or "full", the
    deployed form, which is a class of its own and which `Upscaler.fuse` makes.
    `border` is the number of pixels by which pictures are continued (see `Upscaler`).
    """

    first: ClassVar[str] = "conv_first."
    """What a key of the network begins with, in every form; by it the network is found in what a trainer saved."""
    body: ClassVar[str]
    """What others of its keys begin with, as no other network's do that has `first`."""
    forms: ClassVar[tuple[frozenset[str], ...]]
    """For each form, keys that tell it from every other architecture that spandrel knows."""
    extras: ClassVar[frozenset[str]] = frozenset()
    """Keys that its public files may hold besides those of the module."""
    options: ClassVar[tuple[str, ...]] = ()
    """The fields that are options: a tag names each that is not the default."""
    counted: ClassVar[str] = "blocks"
    """What `blocks` counts."""
    modules: ClassVar[Mapping[Fused, type[Upscaler]]]
    """The class of each form; set below those classes, which take the configuration."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    embed_dim: int
    scale: int
    in_chans: int
    fused: Fused
    border: int = 0

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """The configuration that the keys and shapes of a state dict give; `arch.inspect` completes the check.

        Raises CheckpointError for keys or shapes that belong to none.
        """

    def build(self) -> Upscaler:
        """A new module of this configuration, with fresh weights. Raises ValueError for sizes that cannot be built."""
        if self.fused not in self.modules:
            raise ValueError(f"fused is {self.fused!r}; of this network there is {', '.join(self.modules)}.")
        return self.modules[self.fused].from_config(self)

    @property
    @abstractmethod
    def variant(self) -> str:
        """The named variant of these sizes, or "custom"."""

    @property
    @abstractmethod
    def blocks(self) -> int:
        """How many blocks one after the other the network has, for its tag."""

    @property
    @abstractmethod
    def receptive_radius(self) -> int | None:
        """An output pixel depends on no LR pixel farther than this (max-norm, LR pixels, rounded up).

        None where it depends on the whole image: no tile then equals the whole frame.
        """

    @property
    def out_chans(self) -> int:
        """Channels of the output image: those of the input."""
        return self.in_chans

    @property
    def supports_half(self) -> bool:
        """Whether float16 was found to be within a code value of float32: where activations are bounded."""
        return False

    @property
    def tags(self) -> list[str]:
        """Size, width ("96nf"), blocks ("16nb") and large kernel ("11x11"), then every option not at its default."""
        named = [] if self.variant == "custom" else self.variant.removeprefix("aether_").split("_")
        tags = [*named, f"{self.embed_dim}nf", f"{self.blocks}nb"]
        if kernel := getattr(self, "lk_kernel", None):
            tags.append(f"{kernel}x{kernel}")
        for name in self.options:
            value, words = getattr(self, name), name.replace("_", " ")
            if value == self.__dataclass_fields__[name].default:
                continue
            if isinstance(value, str):  # "batch norm"
                tags.append(f"{value} {words}")
            else:  # "image residual", "deployed kernel 5"
                tags.append(words if value is True else f"{words} {value}")
        return tags + ["fused"] * (self.fused != "none")


class Upscaler(nn.Module):
    """Base of the networks: (N, in_chans, H, W) in [0, 1] -> (N, in_chans, scale*H, scale*W), not clamped.

    With `config.border`, the picture is continued by that many pixels (its edge repeated) and the result cropped.
    The convolutions' zero padding, which stands for a black or grey frame around the picture, is then that far away:
    saturated colours would else be off by several code values at the picture's border. Networks should be trained, or
    at least fine-tuned, with it: what they learn of zeros around their crops is lost otherwise.

    The buffer `border`, a single integer, marks the option in a state dict.
    """

    config: Config
    repeated: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Classes of blocks that occur many times: a trainer compiles each once."""
    merged: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs for re.sub: from the names of branches to that of the deployed form's convolution that they become."""
    keep_float: ClassVar[Mapping[str, str]] = {}
    """Of the deployed form, parts of the names of convolutions that had better stay in float in int8, and why."""
    never_int8: ClassVar[tuple[str, ...]] = ()
    """Those of them that stay in float with ranges learnt in training too."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        if not isinstance(self, config.modules.get(config.fused, ())):
            raise ValueError(f"fused is {config.fused!r}, which {type(self).__name__} is not: use config.build().")
        if not 0 <= config.border <= LARGEST_BORDER:
            raise ValueError(f"border is {config.border}; it must be 0 or a number of pixels up to {LARGEST_BORDER}.")
        if config.border:
            self.register_buffer("border", torch.tensor(config.border))

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """A network of this configuration, which is one of its own. Raises ValueError as `Config.build` does."""
        return cls(config)

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.config.scale

    @property
    def receptive_radius(self) -> int | None:
        """See `Config.receptive_radius`."""
        return self.config.receptive_radius

    def upscale(self, image: Tensor) -> Tensor:
        """The network itself, which pads with zeros."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        border = self.config.border
        if not border:
            return self.upscale(image)
        cut = slice(border * self.scale, -border * self.scale)
        return self.upscale(F.pad(image, [border] * 4, mode="replicate"))[:, :, cut, cut]

    @torch.no_grad()
    def fuse(self, *, fold_norms: bool = True) -> Upscaler:
        """The deployed form, a new module in eval mode; of one that is deployed, a copy (see `arch.fuse`).

        With fold_norms=False the affines of layer norms stay where they are: for ranges that were learnt behind them.
        """
        if self.config.fused == "full":
            return deployed(self.config.build(), self.state_dict(), self)
        return self._fuse(fold_norms)

    def _fuse(self, fold_norms: bool) -> Upscaler:
        raise NotImplementedError

    def fused_name(self, module: str) -> str:
        """The name of the deployed form's convolution that a module becomes part of."""
        for pattern, replacement in self.merged:
            module = re.sub(pattern, replacement, module)
        return module

    def float_layers(self) -> dict[str, str]:
        """The convolutions of the deployed form that had better stay in float in int8, and why (measured)."""
        names = [n for n, m in self.named_modules() if isinstance(m, nn.Conv2d)]
        return {name: why for name in names for part, why in self.keep_float.items() if part in name}

    def equalisable(self) -> list[Scaling]:
        """The tensors of the deployed form whose channels can be scaled without changing what it computes."""
        return []

    def grown(self, config: Config) -> Upscaler:
        """A copy in a larger configuration that computes the same, where the network can grow so; else itself."""
        return self

    @property
    def windows(self) -> list[ReparamLargeKernelConv]:
        """The convolutions with a window that can be annealed."""
        convs = (m for m in self.modules() if isinstance(m, ReparamLargeKernelConv))
        return [conv for conv in convs if conv.deployed_kernel is not None and not conv.fused]

    def anneal(self, outer: float) -> None:
        """Set the window of every large-kernel convolution: 1 = full kernel, 0 = the deployed kernel exactly.

        Raises ValueError where the network has none.
        """
        if not (windows := self.windows):
            raise ValueError("This network has no window: it was built without deployed_kernel, or is fused.")
        for conv in windows:
            conv.anneal(outer)

    def settle(self) -> None:
        """Find which windows crop, before a pass whose blocks may be compiled (see ReparamLargeKernelConv.settle)."""
        for conv in self.windows:
            conv.settle()

    def clear_cropped(self) -> None:
        """Zero the taps that a window at 0 has cropped, so that `anneal` can open it again on the same function."""
        for conv in self.windows:
            conv.clear_cropped()


@dataclasses.dataclass(frozen=True)
class Scaling:
    """A tensor between convolutions with nothing but linear steps: scaled by its writers, scaled back by its readers.

    writers: convolutions of which the last out_channels write it, as many as it has. readers: those that read it.
    ranges: the readers by which its channels' ranges are taken, where they are not all.
    """

    writers: list[nn.Conv2d]
    readers: list[nn.Conv2d]
    ranges: list[nn.Conv2d]


def deployed(target: Upscaler, state: Mapping[str, Tensor], like: nn.Module) -> Upscaler:
    """`target` in eval mode with the tensors of `state`, of the dtype and on the device of `like`."""
    target = target.to(next(like.parameters())).eval()
    target.load_state_dict(state)
    return target


def fuse(model: nn.Module) -> Upscaler:
    """The deployed form of a network, as a new module in eval mode; the given one is left as it is.

    Merges the training branches into one convolution, folds norm affines and batch norms into convolutions,
    merges the two gate projections, and writes LayerNorm without transposes. Outputs agree to 1e-5 in float32
    (sums are taken in float64). A model that is fused already is copied.

    Raises TypeError for other modules and ValueError where the window has not been annealed to 0.
    """
    if not isinstance(model, Upscaler):
        raise TypeError(f"fuse takes a network of this package; {type(model).__name__} was given.")
    return model.fuse()
