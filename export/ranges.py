"""Ranges learnt in quantisation-aware training elsewhere, put onto the fused network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

import arch

from .errors import ExportError
from .quantizer import QuantConv2d, quant_convs, quantize

# <module>.input_quantizer._amax (modelopt) or <module>._input_quantizer._amax (pytorch-quantization)
AMAX = re.compile(r"^(?P<module>.+)\._?(?P<kind>input|weight)_quantizer\._amax$")


def load_quantized(state_dict: Mapping[str, Tensor]) -> nn.Module:
    """The fused, fake-quantised network of a checkpoint that holds ranges, ready to be exported.

    The checkpoint may be this project's (fused, then trained with `export.quantize`), or one of a fused or
    unfused network trained with modelopt or pytorch-quantization. Input ranges are kept: where branches were
    merged, the largest of theirs. A convolution without a range stays in float, as it was in training, and so does
    one that the network says never to quantise (`arch.Upscaler.never_int8`). Weight ranges are kept where the weight
    is the same; where fusing changed the weight they are computed from it.

    The affines of layer norms are not folded into fc1, since its input range was learnt behind them.

    Raises arch.CheckpointError for a foreign checkpoint, ExportError where there are no ranges, or one
    is no positive number.
    """
    weights, ranges = arch.split_ranges(state_dict)
    original = arch.from_state_dict(weights)
    fused = original.fuse(fold_norms=False)
    inputs, weights = _parse(ranges, original)
    names = [n for n, m in fused.named_modules() if isinstance(m, nn.Conv2d)]
    missing = [n for n in names if n not in inputs]
    if len(missing) == len(names):
        raise ExportError("The checkpoint's quantisers have no ranges; was it saved before calibration?")
    never = [n for n in names if any(part in n for part in fused.never_int8)]
    model = quantize(fused, skip=[*missing, *never])
    _set(model, inputs, weights, _same_weights(original, model))
    return model


def _same_weights(original: arch.Upscaler, model: nn.Module) -> dict[str, list[str]]:
    """Fused convolution -> the modules whose weights, put one after the other, are its weight unchanged."""
    sources: dict[str, list[str]] = {}
    for name, module in original.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            sources.setdefault(original.fused_name(name), []).append(name)
    same = {}
    for name, conv in quant_convs(model):
        parts = [cast(Tensor, original.get_submodule(s).weight).flatten(1) for s in sources.get(name, [])]
        if parts and all(p.shape[1] == parts[0].shape[1] for p in parts):
            weight = torch.cat(parts)
            if weight.shape == conv.weight.flatten(1).shape and torch.equal(weight, conv.weight.flatten(1)):
                same[name] = sources[name]
    return same


def _parse(ranges: Mapping[str, Tensor], original: arch.Upscaler) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Input ranges by fused convolution, and weight ranges by module of the checkpoint."""
    inputs: dict[str, float] = {}
    weights: dict[str, Tensor] = {}
    for key, value in ranges.items():
        match = AMAX.match(key)
        if match is None:
            if key.endswith("_pre_quant_scale"):
                raise ExportError(f"{key}: scaled inputs (SmoothQuant) are not supported; train with plain int8.")
            continue
        value = value.float()
        if not bool(torch.isfinite(value).all()) or bool((value <= 0).any()):
            raise ExportError(f"{key}: a range must be positive; was the checkpoint saved before calibration?")
        if match["kind"] == "weight":
            weights[match["module"]] = value.flatten()
            continue
        if value.numel() != 1:
            raise ExportError(f"{key} has {value.numel()} values; inputs have one range for the whole tensor.")
        name = original.fused_name(match["module"])
        inputs[name] = max(inputs.get(name, 0.0), float(value))
    return inputs, weights


@torch.no_grad()
def _set(
    model: nn.Module,
    inputs: Mapping[str, float],
    weights: Mapping[str, Tensor],
    same: Mapping[str, list[str]],
) -> None:
    for name, conv in quant_convs(model):
        conv.input_quantizer._amax.fill_(inputs[name])
        parts = [_per_channel(weights.get(s), conv, len(same[name])) for s in same.get(name, [])]
        if parts and all(p is not None for p in parts):
            conv.weight_quantizer._amax.copy_(torch.cat([p for p in parts if p is not None]).view(-1, 1, 1, 1))
        conv.track_weight = False


def _per_channel(amax: Tensor | None, conv: QuantConv2d, parts: int) -> Tensor | None:
    if amax is None or amax.numel() not in (1, conv.out_channels // parts):
        return None
    return amax.expand(conv.out_channels // parts)
