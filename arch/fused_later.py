"""Fusing the later public layout: see `arch.fuse`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .later import BATCH_NORM_EPS, LAYER_NORM_EPS, AetherNetLater

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .config import AetherNetLaterConfig


@torch.no_grad()
def fuse_later(model: AetherNetLater) -> AetherNetLater:
    """The deployed form ("full"): norms, temperature and residual scale folded into convolutions.

    Batch norms go into the depthwise convolutions and the last one into the 1x1 fusion, LayerNorm affines into
    the gated net, except the last, which stays. See `arch.fuse`.
    """
    config = model.config
    target = dataclasses.replace(config, fused="full", sk_kernel=min(3, config.lk_kernel))
    fused = AetherNetLater(target).to(next(model.parameters())).eval()
    source = {k: v.double() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    if config.fused == "full":
        fused.load_state_dict(source)
        return fused
    replaced = ("stages.", "norm.", "quant_fusion_layer.")
    state = {k: v for k, v in source.items() if not k.startswith(replaced)}
    weight = source["quant_fusion_layer.fusion_conv.weight"]
    bias = source["quant_fusion_layer.fusion_conv.bias"] + source["quant_fusion_layer.error_comp"].flatten()
    if config.norm == "layer":
        state["norm.eps"] = torch.tensor(LAYER_NORM_EPS)
        state["norm.weight"] = source["norm.weight"].view(-1, 1, 1)
        state["norm.bias"] = source["norm.bias"].view(-1, 1, 1)
    else:
        gain, shift = _gain_and_shift(source, "norm.")
        weight, bias = weight * gain.view(-1, 1, 1, 1), bias * gain + shift
    state["quant_fusion_layer.fusion_conv.weight"] = weight
    state["quant_fusion_layer.fusion_conv.bias"] = bias
    for stage, depth in enumerate(config.depths):
        for index in range(depth):
            name = f"stages.{stage}.{index}."
            block = {k.removeprefix(name): v for k, v in source.items() if k.startswith(name)}
            state |= {name + k: v for k, v in _fold_block(block, config).items()}
    fused.load_state_dict(state)
    return fused


def _gain_and_shift(state: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor]:
    weight, bias = state[prefix + "weight"].flatten(), state[prefix + "bias"].flatten()
    if prefix + "running_var" not in state:
        return weight, bias
    gain = weight / torch.sqrt(state[prefix + "running_var"].flatten() + BATCH_NORM_EPS)
    return gain, bias - state[prefix + "running_mean"].flatten() * gain


def _fold_block(block: dict[str, Tensor], config: AetherNetLaterConfig) -> dict[str, Tensor]:
    """The tensors of one block in the form "full", from those of its form "none" or "kernel" in float64."""
    if config.fused == "kernel":
        kernel, bias = block["conv.fused_conv.weight"], block["conv.fused_conv.bias"]
    else:
        pad = (config.lk_kernel - config.sk_kernel) // 2
        kernel = block["conv.lk_conv.weight"] + F.pad(block["conv.sk_conv.weight"], [pad] * 4)
        bias = block["conv.lk_bias"] + block["conv.sk_bias"]
    heat = block["ffn.temperature"]
    fc1 = torch.cat([block["ffn.conv_gate.weight"] * heat, block["ffn.conv_main.weight"]])
    fc1_bias = torch.cat([block["ffn.conv_gate.bias"] * heat, block["ffn.conv_main.bias"]])
    gain, shift = _gain_and_shift(block, "norm.")
    out: dict[str, Tensor] = {}
    if config.norm == "layer":
        fc1_bias = fc1_bias + fc1[:, :, 0, 0] @ shift
        fc1 = fc1 * gain.view(1, -1, 1, 1)
        out["norm.eps"] = torch.tensor(LAYER_NORM_EPS)
    else:
        kernel, bias = kernel * gain.view(-1, 1, 1, 1), bias * gain + shift
    # res_scale goes into fc2; both attentions see inputs smaller by it, which their first weights take back.
    r = config.res_scale
    if config.channel_attention:
        out["channel_attn.fc.0.weight"] = block["channel_attn.fc.0.weight"] / r
        out["channel_attn.fc.2.weight"] = block["channel_attn.fc.2.weight"]
    if config.spatial_attention:
        out["spatial_attn.conv.weight"] = block["spatial_attn.conv.weight"] / r
    return out | {
        "conv.weight": kernel,
        "conv.bias": bias,
        "ffn.fc1.weight": fc1,
        "ffn.fc1.bias": fc1_bias,
        "ffn.fc2.weight": block["ffn.conv_out.weight"] * r,
        "ffn.fc2.bias": block["ffn.conv_out.bias"] * r,
    }
