"""The deployed form: exact algebra that leaves plain convolutions, and nothing that quantisation trips over."""

from __future__ import annotations

import copy
import dataclasses
from typing import TypeVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import AetherNetConfig
from .fused_later import fuse_later
from .later import AetherNetLater
from .layers import BATCH_NORM_LIMIT, ChannelNorm, GatedFFN
from .network import BLOCK_NORM_EPS, FINAL_NORM_EPS, AetherBlock, AetherNet, ImageTail
from .tiny import AetherTiny, RepConv3x3

Module = TypeVar("Module", bound=nn.Module)


class FusedGatedFFN(nn.Module):
    """GatedFFN on (N, dim, H, W): one 1x1 convolution to 2 * hidden channels (gate first), gate, product, fc2."""

    def __init__(self, config: AetherNetConfig) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(config.embed_dim, 2 * config.hidden, 1)
        self.fc2 = nn.Conv2d(config.hidden, config.embed_dim, 1)
        self.gate = config.gate
        if config.gate == "relu":
            self.register_buffer("relu_gate", torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        gate, main = self.fc1(x).chunk(2, dim=1)
        return self.fc2((F.relu(gate) if self.gate == "relu" else F.gelu(gate)) * main)


class FusedAetherBlock(nn.Module):
    """x + ffn(norm(conv(x))); of a batch norm that folded away, the clamp is left."""

    def __init__(self, config: AetherNetConfig) -> None:
        super().__init__()
        c, k = config.embed_dim, config.lk_kernel
        self.conv = nn.Conv2d(c, c, k, padding=k // 2, groups=c)
        layer = config.norm == "layer"
        self.norm = (
            ChannelNorm(c, BLOCK_NORM_EPS, affine=False) if layer else nn.Hardtanh(-BATCH_NORM_LIMIT, BATCH_NORM_LIMIT)
        )
        self.ffn = FusedGatedFFN(config)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(self.norm(self.conv(x)))


class FusedAetherNet(ImageTail):
    """AetherNet after `fuse`: same input, same output (to float32 rounding), only nn.Conv2d carries weights."""

    def __init__(self, config: AetherNetConfig) -> None:
        if config.fused != "full" or config.deployed_kernel is not None:
            raise ValueError("FusedAetherNet takes a configuration with fused='full' and no window.")
        super().__init__(config)
        self.conv_first = nn.Conv2d(config.in_chans, config.embed_dim, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(*(FusedAetherBlock(config) for _ in range(depth))) for depth in config.depths
        )
        # Its affine stays: a bias before a zero-padded 3x3 convolution does not fold exactly at the borders.
        layer = config.norm == "layer"
        self.norm = ChannelNorm(config.embed_dim, FINAL_NORM_EPS, affine=True) if layer else nn.Identity()
        self.conv_after_body = nn.Conv2d(config.embed_dim, config.embed_dim, 3, padding=1)

    def upscale(self, image: Tensor) -> Tensor:
        """See `Upscaler.upscale`."""
        x = self.centre(image)
        first = self.conv_first(x)
        y = first
        for layer in self.layers:
            y = layer(y)
        return self.to_image(self.conv_after_body(self.norm(y)) + first, x)


@overload
def fuse(model: AetherNet) -> FusedAetherNet: ...
@overload
def fuse(model: Module) -> Module: ...
@torch.no_grad()
def fuse(model: nn.Module) -> nn.Module:
    """The deployed form of a network, as a new module in eval mode; the given one is left as it is.

    Merges the training branches into one convolution, folds norm affines and batch norms into convolutions,
    merges the two gate projections, and writes LayerNorm without transposes. Outputs agree to 1e-5 in float32
    (sums are taken in float64). A model that is fused already is copied.

    Raises TypeError for other modules and ValueError where the window has not been annealed to 0.
    """
    if isinstance(model, AetherNet):
        return _fuse_net(model)
    if isinstance(model, AetherTiny):
        return _fuse_tiny(model)
    if isinstance(model, AetherNetLater):
        return fuse_later(model)
    if isinstance(model, FusedAetherNet):
        fused = FusedAetherNet(model.config).to(_like(model)).eval()
        fused.load_state_dict(model.state_dict())
        return fused
    raise TypeError(f"fuse takes an AetherNet, AetherTiny or AetherNetLater; {type(model).__name__} was given.")


def _fuse_net(model: AetherNet) -> FusedAetherNet:
    config = model.config
    kernel = config.lk_kernel
    if config.deployed_kernel is not None:
        outer = max(float(b.conv.window[1]) for b in _blocks(model))
        if outer != 0.0:
            raise ValueError(
                f"The window's outer factor is still {outer:g}: cropping to {config.deployed_kernel} x "
                f"{config.deployed_kernel} would change the output. Anneal it to 0 first (model.anneal(0.0))."
            )
        kernel = config.deployed_kernel
    target = dataclasses.replace(config, fused="full", lk_kernel=kernel, sk_kernel=min(3, kernel), deployed_kernel=None)
    fused = FusedAetherNet(target).to(_like(model)).eval()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(("layers.", "norm."))}
    if config.norm == "layer":
        state["norm.eps"] = torch.tensor(FINAL_NORM_EPS)
        state["norm.weight"] = model.norm.weight.view(-1, 1, 1)
        state["norm.bias"] = model.norm.bias.view(-1, 1, 1)
    for name, block in model.named_modules(remove_duplicate=False):
        if isinstance(block, AetherBlock):
            state |= {f"{name}.{key}": value for key, value in _fold_block(block).items()}
    fused.load_state_dict(state)
    return fused


def _fold_block(block: AetherBlock) -> dict[str, Tensor]:
    block = copy.deepcopy(block).double()
    kernel, bias = block.conv.kernel_and_bias()
    ffn: GatedFFN = block.ffn
    fc1 = torch.cat([ffn.fc1_gate.weight, ffn.fc1_main.weight])
    fc1_bias = torch.cat([ffn.fc1_gate.bias, ffn.fc1_main.bias])
    out: dict[str, Tensor] = {}
    if isinstance(block.norm, nn.LayerNorm):
        # fc1(normalised * w + b) = (fc1 * w)(normalised) + fc1(b)
        fc1_bias = fc1_bias + fc1 @ block.norm.bias
        fc1 = fc1 * block.norm.weight
        out["norm.eps"] = torch.tensor(BLOCK_NORM_EPS)
    else:
        norm = block.norm
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernel = kernel * gain.view(-1, 1, 1, 1)
        bias = (bias - norm.running_mean) * gain + norm.bias
    if ffn.gate == "relu":
        out["ffn.relu_gate"] = torch.empty(0)
    out |= {
        "conv.weight": kernel,
        "conv.bias": bias,
        "ffn.fc1.weight": fc1[:, :, None, None],
        "ffn.fc1.bias": fc1_bias,
        "ffn.fc2.weight": ffn.fc2.weight[:, :, None, None],
        "ffn.fc2.bias": ffn.fc2.bias,
    }
    return out


def _fuse_tiny(model: AetherTiny) -> AetherTiny:
    fused = AetherTiny(dataclasses.replace(model.config, fused="full", expand=0)).to(_like(model)).eval()
    if model.config.fused == "full":
        fused.load_state_dict(model.state_dict())
        return fused
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, RepConv3x3):
            target = fused.get_submodule(name)
            assert isinstance(target, nn.Conv2d) and target.bias is not None
            kernel, bias = copy.deepcopy(module).double().kernel_and_bias()
            target.weight.copy_(kernel)
            target.bias.copy_(bias)
    return fused


def _blocks(model: AetherNet) -> list[AetherBlock]:
    return [m for m in model.modules() if isinstance(m, AetherBlock)]


def _like(model: nn.Module) -> Tensor:
    """A tensor of the model's dtype and device, for nn.Module.to()."""
    return next(model.parameters())
