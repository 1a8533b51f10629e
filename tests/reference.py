"""The networks restated in float64, from the description of their formulas and keys alone: what tests compare with."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import arch
from arch.upscaler import Upscaler

State = dict[str, Tensor]


def restated(model: Upscaler, image: Tensor) -> Tensor:
    """What the formulas say of a network's own state dict, for (N, C, H, W), told by its keys."""
    config: Any = model.config
    state = {key: value.double() for key, value in model.state_dict().items()}
    border, scale = int(state.pop("border", torch.zeros(()))), config.scale
    image = F.pad(image.double(), [border] * 4, mode="replicate")
    if has(state, "stages."):
        y = later(state, image / config.img_range, scale, config.res_scale) * config.img_range
    elif has(state, "blocks."):
        y = tiny(state, image, scale)
    else:
        y = net(state, image, scale, config.img_range)
    return y[..., border * scale : y.shape[2] - border * scale, border * scale : y.shape[3] - border * scale]


def compare(model: Upscaler, image: Tensor) -> Upscaler:
    """Assert that a network and its deployed form, which is returned, give what the formulas say of their weights."""
    fused = arch.fuse(model)
    with torch.inference_mode():
        expected = restated(model, image)
        assert expected.std() > 0.001, "the weights give a flat image and test nothing"
        size = (image.shape[2] * model.scale, image.shape[3] * model.scale)
        assert expected.shape == (len(image), image.shape[1], *size)
        for output in (model(image), fused(image), restated(fused, image)):
            assert (output - expected).abs().max() <= 1e-5
    return fused


def net(state: State, image: Tensor, scale: int, img_range: float) -> Tensor:
    mean = 0.5 if image.shape[1] == 3 else 0.0
    x = (image - mean) * img_range
    first = y = conv(state, "conv_first", x)
    for name in block_names(state, "layers."):
        z = normalise(state, f"{name}.norm", depthwise(state, name, y), 1e-6, 1e-6)
        if has(state, f"{name}.norm.running_var") or not has(state, f"{name}.norm."):
            z = z.clamp(-4, 4)  # behind a batch norm, folded away or not
        y = y + gated(state, f"{name}.ffn", z)
    y = conv(state, "conv_after_body", normalise(state, "norm", y, 1e-5, 0)) + first
    if has(state, "conv_before_upsample."):
        y = F.leaky_relu(conv(state, "conv_before_upsample.0", y), 0.01)
        for name, factor in steps("upsample.", scale):
            y = F.pixel_shuffle(conv(state, name, y), factor)
        y = conv(state, "conv_last", y)
    else:
        y = F.pixel_shuffle(conv(state, "conv_last", y), scale)
    if has(state, "image_residual"):
        y = y + F.interpolate(x, scale_factor=scale)
    return y / img_range + mean


def tiny(state: State, image: Tensor, scale: int) -> Tensor:
    names = ["conv_first", *block_names(state, "blocks.", 2)]
    y = image - 0.5
    for i, name in enumerate(names):
        floor = float(state["floors"][i]) if "floors" in state else 0.0
        y = branches(state, name, y).clamp(min=floor)
    return F.pixel_shuffle(branches(state, "conv_last", y), scale) + F.interpolate(image, scale_factor=scale)


def branches(state: State, name: str, x: Tensor) -> Tensor:
    if f"{name}.weight" in state:
        return conv(state, name, x)
    y = conv(state, f"{name}.conv", x)
    y = y + F.conv2d(F.conv2d(x, state[f"{name}.expand.weight"], padding=1), state[f"{name}.project.weight"])
    return y + x if name.startswith("blocks.") else y


def later(state: State, image: Tensor, scale: int, res_scale: float) -> Tensor:
    if has(state, "stages.0.0.ffn.fc1."):
        res_scale = 1.0  # folded
    first = y = conv(state, "conv_first", image - 0.5)
    features = []
    for stage in range(len({key.split(".")[1] for key in state if key.startswith("stages.")})):
        for name in block_names(state, f"stages.{stage}."):
            z = gated(state, f"{name}.ffn", normalise(state, f"{name}.norm", depthwise(state, name, y), 1e-5, 1e-4))
            if has(state, f"{name}.channel_attn."):
                squeezed = conv(state, f"{name}.channel_attn.fc.0", z.mean((2, 3), keepdim=True)).clamp(min=0)
                z = z * torch.sigmoid(conv(state, f"{name}.channel_attn.fc.2", squeezed))
            if has(state, f"{name}.spatial_attn."):
                pooled = torch.cat([z.max(1, keepdim=True).values, z.mean(1, keepdim=True)], 1)
                z = z * torch.sigmoid(conv(state, f"{name}.spatial_attn.conv", pooled))
            y = y + res_scale * z
        features.append(conv(state, f"fusion_convs.{stage}", y))
    y = conv(state, "quant_fusion_layer.fusion_conv", torch.cat(features, 1))
    y = normalise(state, "norm", y + state.get("quant_fusion_layer.error_comp", 0.0), 1e-5, 1e-4) + first
    y = conv(state, "conv_after_body", y) + y
    y = F.leaky_relu(conv(state, "conv_before_upsample.0", y), 0.01)
    for name, factor in steps("upsample.blocks.", scale) or [("upsample.blocks.0", 1)]:
        y = F.pixel_shuffle(conv(state, name, y), factor)
    return conv(state, "conv_last", y) + 0.5


def has(state: State, prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state)


def block_names(state: State, prefix: str, parts: int = 3) -> list[str]:
    names = {tuple(key.split(".")[:parts]) for key in state if key.startswith(prefix)}
    return [".".join(name) for name in sorted(names, key=lambda name: [int(part) for part in name[1:]])]


def conv(state: State, name: str, x: Tensor, groups: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    weight = weight[:, :, None, None] if weight.ndim == 2 else weight
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2, groups=groups)


def depthwise(state: State, block: str, x: Tensor) -> Tensor:
    name = f"{block}.conv"
    if f"{name}.lk_conv.weight" not in state:
        return conv(state, f"{name}.fused_conv" if has(state, f"{name}.fused_conv.") else name, x, x.shape[1])
    large, small = state[f"{name}.lk_conv.weight"], state[f"{name}.sk_conv.weight"]
    kernel = large + F.pad(small, [(large.shape[-1] - small.shape[-1]) // 2] * 4)
    if f"{name}.window" in state:
        size, outer = (float(v) for v in state[f"{name}.window"])
        edge = (kernel.shape[-1] - int(size)) // 2
        kernel = kernel * F.pad(torch.ones(int(size), int(size)), [edge] * 4, value=outer)
    bias = state[f"{name}.lk_bias"] + state[f"{name}.sk_bias"]
    return F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2, groups=x.shape[1])


def normalise(state: State, name: str, x: Tensor, layer_eps: float, batch_eps: float) -> Tensor:
    """Batch norm, LayerNorm over channels, or what fusing left of them; by the keys."""
    weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
    if f"{name}.running_var" in state:
        mean, variance = (state[f"{name}.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var"))
        x = (x - mean) / torch.sqrt(variance + batch_eps)
    elif f"{name}.eps" in state or (weight is not None and weight.ndim == 1):
        x = x - x.mean(1, keepdim=True)
        x = x / torch.sqrt((x**2).mean(1, keepdim=True) + layer_eps)
    return x if weight is None or bias is None else x * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


def gated(state: State, name: str, x: Tensor) -> Tensor:
    if has(state, f"{name}.fc1."):
        gate, main = conv(state, f"{name}.fc1", x).chunk(2, 1)
    elif has(state, f"{name}.conv_gate."):
        gate = conv(state, f"{name}.conv_gate", x) * state[f"{name}.temperature"]
        main = conv(state, f"{name}.conv_main", x)
    else:
        gate, main = conv(state, f"{name}.fc1_gate", x), conv(state, f"{name}.fc1_main", x)
    act = F.silu if name.startswith("stages.") else F.relu if f"{name}.relu_gate" in state else F.gelu
    return conv(state, f"{name}.conv_out" if has(state, f"{name}.conv_out.") else f"{name}.fc2", act(gate) * main)


def steps(prefix: str, scale: int) -> list[tuple[str, int]]:
    """Name and PixelShuffle factor of the convolutional tail's convolutions."""
    factors = {1: [], 2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[scale]
    return [(f"{prefix}{2 * i}", factor) for i, factor in enumerate(factors)]
