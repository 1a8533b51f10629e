"""`inspect`: from a state dict alone to the full configuration, or a sentence that says what is wrong."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from . import keys
from .checkpoint import read_checkpoint
from .config import AetherNetConfig, AetherNetLaterConfig, AetherTinyConfig, Config
from .errors import CheckpointError

LATER_VERSION = (3, 1, 1)
QUANTIZER_KEY = re.compile(r"\.?_?(?:input|weight|output)_quantizer\.")


def split_ranges(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Separate a quantisation-aware checkpoint into weights and quantiser buffers.

    The second dict holds every `*_quantizer.*` entry (`_amax` and whatever else modelopt or pytorch-quantization
    left there), under its full name; both are empty dicts where there is nothing.
    """
    weights = {k: v for k, v in state_dict.items() if not QUANTIZER_KEY.search(k)}
    ranges = {k: v for k, v in state_dict.items() if QUANTIZER_KEY.search(k)}
    return weights, ranges


def inspect(state_dict: Mapping[str, Tensor]) -> Config:
    """The configuration that a state dict belongs to: every size and option, from its keys and shapes alone.

    Quantiser buffers (`*_quantizer._amax`) are passed over. The check is complete: a module built from the
    returned configuration loads the dict strictly.

    Raises CheckpointError for foreign, mixed (fused and unfused) or truncated dicts, naming what is missing.
    """
    state, _ = split_ranges(state_dict)
    if "conv_first.weight" not in state and "conv_first.conv.weight" not in state:
        raise CheckpointError(
            "not an AetherNet checkpoint: there is no conv_first.weight. "
            f"Its first keys are {', '.join(list(state)[:4]) or '(none)'}."
        )
    if any(k.startswith("stages.") for k in state):
        config: Config = inspect_later(state)
    elif any(k.startswith("layers.") for k in state):
        config = _inspect_net(state)
    elif any(k.startswith("blocks.") for k in state):
        config = _inspect_tiny(state)
    else:
        raise CheckpointError("not an AetherNet checkpoint: it has neither layers.*, stages.* nor blocks.* keys.")
    _check_complete(state, config)
    return config


def load(path: str | Path, *, img_range: float = 1.0) -> nn.Module:
    """The network of a checkpoint file, in eval mode on the CPU, in float32; quantiser buffers are left out.

    img_range: only for networks that were trained with another one than 1.0 (it is not in checkpoints).
    Raises CheckpointError as `read_checkpoint` and `inspect` do.
    """
    state, _ = split_ranges(read_checkpoint(path))
    try:
        config = inspect(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if not isinstance(config, AetherTinyConfig):
        config = dataclasses.replace(config, img_range=img_range)
    model = config.build()
    model.load_state_dict({k: v for k, v in state.items() if k in model.state_dict()})
    return model.float().eval()


def _inspect_net(state: Mapping[str, Tensor]) -> AetherNetConfig:
    embed_dim, in_chans, _, _ = keys.shape_of(state, "conv_first.weight")
    depths = keys.depths(state, "layers.")
    first = "layers.0.0."
    last = keys.shape_of(state, "conv_last.weight")
    fused = keys.fused_form(state, "layers.")
    if fused == "full":
        hidden = keys.shape_of(state, first + "ffn.fc1.weight")[0] // 2
        lk = keys.shape_of(state, first + "conv.weight")[-1]
        norm = "layer" if first + "norm.eps" in state else "batch"
    else:
        hidden = keys.shape_of(state, first + "ffn.fc1_gate.weight", 2)[0]
        conv = "fused_conv" if fused == "kernel" else "lk_conv"
        lk = keys.shape_of(state, f"{first}conv.{conv}.weight")[-1]
        norm = "batch" if first + "norm.running_mean" in state else "layer"
    # The small kernel of a fused dict is unknowable, and irrelevant.
    sk = keys.shape_of(state, first + "conv.sk_conv.weight")[-1] if fused == "none" else min(3, lk)
    direct = "conv_before_upsample.0.weight" not in state
    if direct:
        if last[0] % in_chans:
            raise CheckpointError(f"conv_last has {last[0]} output channels, no multiple of {in_chans}.")
        scale = keys.integer_root(last[0] // in_chans, "conv_last")
    else:
        scale = 1
        for key in sorted(k for k in state if re.fullmatch(r"upsample\.\d+\.weight", k)):
            out, inner, _, _ = keys.shape_of(state, key)
            scale *= keys.integer_root(out // max(inner, 1), key)
        if last[0] != in_chans:
            raise CheckpointError(f"conv_last gives {last[0]} channels and conv_first takes {in_chans}.")
    return AetherNetConfig(
        embed_dim=embed_dim,
        depths=depths,
        hidden=hidden,
        lk_kernel=lk,
        sk_kernel=sk,
        scale=scale,
        in_chans=in_chans,
        norm=norm,
        gate="relu" if first + "ffn.relu_gate" in state else "gelu",
        deployed_kernel=_deployed_kernel(state, first + "conv.window") if fused == "none" else None,
        image_residual="image_residual" in state,
        tail="direct" if direct else "conv",
        fused=fused,
    )


def _inspect_tiny(state: Mapping[str, Tensor]) -> AetherTinyConfig:
    depth = keys.count(state, "blocks.") + 2
    fused = "conv_first.weight" in state
    if fused and any(k.endswith(".expand.weight") for k in state):
        raise CheckpointError("mixed AetherNet checkpoint: conv_first is fused and other convolutions are not.")
    infix = "" if fused else ".conv"
    embed_dim, in_chans, _, _ = keys.shape_of(state, f"conv_first{infix}.weight")
    out = keys.shape_of(state, f"conv_last{infix}.weight")[0]
    if out % in_chans:
        raise CheckpointError(f"conv_last has {out} output channels, no multiple of {in_chans}.")
    return AetherTinyConfig(
        embed_dim=embed_dim,
        depth=depth,
        expand=0 if fused else keys.shape_of(state, "blocks.0.expand.weight")[0] // embed_dim,
        scale=keys.integer_root(out // in_chans, "conv_last"),
        in_chans=in_chans,
        fused="full" if fused else "none",
    )


def inspect_later(state: Mapping[str, Tensor]) -> AetherNetLaterConfig:
    """The configuration of a `stages.*` state dict; `arch.inspect` completes the check.

    Raises CheckpointError for mixed or truncated dicts, and for other versions of the public code, which share
    the keys but not the forward pass.
    """
    if "model_version" in state:
        version = tuple(int(v) for v in state["model_version"].flatten().tolist())
        if version != LATER_VERSION:
            raise CheckpointError(
                f"this checkpoint is of version {'.'.join(map(str, version))} of the public code, whose forward "
                "pass is another one; of the stages.* layout, version 3.1.1 is supported."
            )
    embed_dim, in_chans, _, _ = keys.shape_of(state, "conv_first.weight")
    fused = keys.fused_form(state, "stages.")
    first = "stages.0.0."
    if fused == "full":
        hidden = keys.shape_of(state, first + "ffn.fc1.weight")[0] // 2
        lk = keys.shape_of(state, first + "conv.weight")[-1]
        layer = first + "norm.eps" in state
    else:
        hidden = keys.shape_of(state, first + "ffn.conv_gate.weight")[0]
        conv = "fused_conv" if fused == "kernel" else "lk_conv"
        lk = keys.shape_of(state, f"{first}conv.{conv}.weight")[-1]
        layer = first + "norm.weight" in state and state[first + "norm.weight"].ndim == 1
    # The small kernel of a fused dict is unknowable, and irrelevant.
    sk = keys.shape_of(state, first + "conv.sk_conv.weight")[-1] if fused == "none" else min(3, lk)
    return AetherNetLaterConfig(
        embed_dim=embed_dim,
        depths=keys.depths(state, "stages."),
        hidden=hidden,
        lk_kernel=lk,
        sk_kernel=sk,
        scale=_later_scale(state),
        in_chans=in_chans,
        norm="layer" if layer else "batch",
        channel_attention=first + "channel_attn.fc.0.weight" in state,
        spatial_attention=first + "spatial_attn.conv.weight" in state,
        fused=fused,
    )


def _later_scale(state: Mapping[str, Tensor]) -> int:
    """The scale that the upsampler's shapes give, which `scale_tensor` must confirm."""
    convs = [k for k in state if re.fullmatch(r"upsample\.blocks\.\d+\.weight", k)]
    if not convs:
        raise CheckpointError("truncated AetherNet checkpoint: upsample.blocks.0.weight is missing.")
    if len(convs) > 1:
        scale = 2 ** len(convs)
    else:
        outer, inner = keys.shape_of(state, convs[0])[0], keys.shape_of(state, "conv_last.weight")[1]
        scale = keys.integer_root(outer // inner, convs[0])
    if "scale_tensor" not in state or state["scale_tensor"].numel() != 1:
        raise CheckpointError("truncated AetherNet checkpoint: scale_tensor is missing or no single number.")
    if int(state["scale_tensor"]) != scale:
        raise CheckpointError(
            f"mixed AetherNet checkpoint: scale_tensor is {int(state['scale_tensor'])}, "
            f"its upsampler's shapes are those of scale {scale}."
        )
    return scale


def _check_complete(state: Mapping[str, Tensor], config: Config) -> None:
    """Compare names and shapes with a module of the configuration, built without memory."""
    try:
        with torch.device("meta"):
            expected = {k: tuple(v.shape) for k, v in config.build().state_dict().items()}
    except ValueError as error:
        raise CheckpointError(f"foreign or damaged AetherNet checkpoint: {error}") from error
    optional = {"num_batches_tracked"}
    extra_later = ("scale_tensor", "mean", "pt_version", "model_version")
    missing = [k for k in expected if k not in state and k.rpartition(".")[2] not in optional]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"truncated or mixed AetherNet checkpoint: {missing[0]}{more} missing.")
    unknown = [k for k in state if k not in expected]
    if isinstance(config, AetherNetLaterConfig):
        unknown = [k for k in unknown if k not in extra_later]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise CheckpointError(f"mixed or foreign AetherNet checkpoint: {unknown[0]}{more} do not belong to it.")
    for key, shape in expected.items():
        if key in state and tuple(state[key].shape) != shape:
            raise CheckpointError(f"{key} has shape {tuple(state[key].shape)}; {shape} was expected.")
