"""Cross-layer equalisation: the same function with channels of similar range, which int8 keeps better."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

import arch

LARGEST = 64.0  # a channel is scaled up by at most this


@torch.no_grad()
def equalise(model: nn.Module, batches: Iterable[Tensor], strength: float = 0.5) -> nn.Module:
    """A copy of a fused network whose convolutions read tensors with more equal channels (Nagel et al., 2019).

    One range serves a whole tensor, so a channel of a hundredth of it has two codes left. Wherever only linear
    steps lie between the convolutions that write a tensor and those that read it, each channel can be scaled in
    the first and scaled back in the second: the outputs stay the same to float32 rounding. A network says where that
    is (`arch.Upscaler.equalisable`); for others there is nothing to do, and they are copied. AetherTiny says nothing:
    of its activations it was measured not to matter.

    batches: images (N, in_chans, H, W) in [0, 1], to see the ranges. strength: 0 leaves everything, 1 makes all
    channels' ranges equal; weights are rounded too, and 0.5 shares the differences between the two.
    """
    model = copy.deepcopy(model)
    scalings = model.equalisable() if isinstance(model, arch.Upscaler) else []
    seen = _channel_ranges(model, batches) if scalings else {}
    for scaling in scalings:
        factor = _factor(torch.stack([seen[conv] for conv in scaling.ranges]).amax(0), strength)
        for conv in scaling.readers:
            conv.weight /= factor.view(-1, 1, 1, 1) if conv.groups > 1 else factor.view(1, -1, 1, 1)
        for conv in scaling.writers:
            conv.weight[-len(factor) :] *= factor.view(-1, 1, 1, 1)
            if conv.bias is not None:
                conv.bias[-len(factor) :] *= factor
    return model


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
