"""Cross-layer equalisation: the same function with channels of similar range, which int8 keeps better."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

import arch
from arch.fused import FusedAetherBlock

LARGEST = 64.0  # a channel is scaled up by at most this


@torch.no_grad()
def equalise(model: nn.Module, batches: Iterable[Tensor], strength: float = 0.5) -> nn.Module:
    """A copy of a fused network whose convolutions read tensors with more equal channels (Nagel et al., 2019).

    One range serves a whole tensor, so a channel of a hundredth of it has two codes left. Wherever only linear
    steps lie between the convolutions that write a tensor and those that read it, each channel can be scaled in
    the first and scaled back in the second: the outputs stay the same to float32 rounding. In a FusedAetherNet
    such are the residual stream (without a layer norm) and the input of fc2. The input of fc1 is not: a norm or a
    clamp lies before it, and makes its channels alike.

    batches: images (N, in_chans, H, W) in [0, 1], to see the ranges. strength: 0 leaves everything, 1 makes all
    channels' ranges equal; weights are rounded too, and 0.5 shares the differences between the two.
    Other networks are copied unchanged: of AetherTiny's activations it was measured not to matter.
    """
    model = copy.deepcopy(model)
    if isinstance(model, arch.FusedAetherNet):
        _equalise_net(model, _channel_ranges(model, batches), strength)
    return model


def _equalise_net(model: arch.FusedAetherNet, seen: dict[nn.Module, Tensor], strength: float) -> None:
    blocks = [m for m in model.modules() if isinstance(m, FusedAetherBlock)]
    folded = model.config.norm == "batch"
    for block in blocks:
        fc1, fc2 = block.ffn.fc1, block.ffn.fc2
        factor = _factor(seen[fc2], strength)
        _scale_output(fc1, torch.cat([torch.ones_like(factor), factor]))  # the gate's half is not linear
        _scale_input(fc2, factor)
    if folded:
        readers = [model.conv_after_body, *(b.conv for b in blocks)]
        factor = _factor(torch.stack([seen[r] for r in readers]).amax(0), strength)
        for writer in (model.conv_first, *(b.ffn.fc2 for b in blocks)):
            _scale_output(writer, factor)
        for block in blocks:
            _scale_input(block.conv, factor)
        _scale_input(model.conv_after_body, factor)
        _scale_output(model.conv_after_body, factor)  # it is added to conv_first's output
        last = model.conv_last if model.config.tail == "direct" else model.conv_before_upsample[0]
        _scale_input(last, factor)


def _channel_ranges(model: nn.Module, batches: Iterable[Tensor]) -> dict[nn.Module, Tensor]:
    """Largest magnitude of each input channel of each convolution."""
    seen: dict[nn.Module, Tensor] = {}

    def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        amax = args[0].abs().amax((0, 2, 3))
        seen[module] = torch.maximum(seen[module], amax) if module in seen else amax

    hooks = [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, nn.Conv2d)]
    for batch in batches:
        model(batch)
    for hook in hooks:
        hook.remove()
    return seen


def _factor(amax: Tensor, strength: float) -> Tensor:
    top = amax.max().clamp_min(1e-6)
    return (top / amax.clamp_min(float(top) * 1e-6)).pow(strength).clamp_max(LARGEST)


def _scale_output(conv: nn.Module, factor: Tensor) -> None:
    assert isinstance(conv, nn.Conv2d)
    conv.weight *= factor.view(-1, 1, 1, 1)
    if conv.bias is not None:
        conv.bias *= factor


def _scale_input(conv: nn.Module, factor: Tensor) -> None:
    assert isinstance(conv, nn.Conv2d)
    conv.weight /= factor.view(-1, 1, 1, 1) if conv.groups > 1 else factor.view(1, -1, 1, 1)
