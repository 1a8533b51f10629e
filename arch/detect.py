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
from .wrappers import usable

LATER_VERSION = [3, 1, 1]  # the others share its keys, but not its forward pass
LATER_EXTRAS = ("pt_version", "model_version")
QUANTIZER_KEY = re.compile(r"\.?_?(?:input|weight|output)_quantizer\.")
OBSERVER_KEY = re.compile(r"(?:^|\.)(?:\w+_fake_quant|activation_post_process\w*)\.")  # torch.ao's


def split_ranges(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Separate a quantisation-aware checkpoint into weights and quantiser buffers.

    The second dict holds every `*_quantizer.*` entry (`_amax` and whatever else modelopt or pytorch-quantization
    left there) and what torch.ao's observers saw (`*.weight_fake_quant.*`, `*.activation_post_process.*`), under its
    full name; both are empty dicts where there is nothing.
    """
    ranges = {k: v for k, v in state_dict.items() if QUANTIZER_KEY.search(k) or is_observed(k)}
    return {k: v for k, v in state_dict.items() if k not in ranges}, ranges


def is_observed(key: str) -> bool:
    """Whether a key belongs to an observer of torch.ao: of a weight, or of a module's output."""
    return OBSERVER_KEY.search(key) is not None


def inspect(state_dict: Mapping[str, Tensor]) -> Config:
    """The configuration that a state dict belongs to: every size and option, from its keys and shapes alone.

    Quantiser buffers (`split_ranges`) are passed over. The check is complete: a module built from the
    returned configuration loads the dict strictly.

    Raises CheckpointError for foreign, mixed (fused and unfused) or truncated dicts, naming what is missing, and for
    numbers that are not finite.
    """
    state, _ = split_ranges(usable(state_dict))
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
    for key, value in state.items():
        # A pickle of a few bytes can name a view of any size, and copying that would fill memory.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{key} claims {value.numel():,} numbers, more than the file holds.")
        if value.is_floating_point() and (bad := int((~torch.isfinite(value.float())).sum())):
            raise CheckpointError(
                f"{key}: {bad:,} of {value.numel():,} numbers are NaN or infinite; its training failed."
            )
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
    known = model.state_dict().keys()
    model.load_state_dict({k: v for k, v in state.items() if k in known})
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
        norm = "layer" if _any(state, "layers.", ".norm.eps") else "batch"
    else:
        hidden = keys.shape_of(state, first + "ffn.fc1_gate.weight", 2)[0]
        conv = "fused_conv" if fused == "kernel" else "lk_conv"
        lk = keys.shape_of(state, f"{first}conv.{conv}.weight")[-1]
        norm = "batch" if _any(state, "layers.", ".norm.running_mean") else "layer"
    # The small kernel of a fused dict is unknowable, and irrelevant.
    sk = keys.shape_of(state, first + "conv.sk_conv.weight")[-1] if fused == "none" else min(3, lk)
    direct = not any(k.startswith(("conv_before_upsample.", "upsample.")) for k in state)
    if direct:
        if last[0] % in_chans:
            raise CheckpointError(f"conv_last has {last[0]} output channels, no multiple of {in_chans}.")
        scale = keys.integer_root(last[0] // in_chans, "conv_last")
    else:
        scale = 1
        for step in _steps(state, r"upsample\."):
            out, inner, _, _ = keys.shape_of(state, f"{step}.weight")
            scale *= keys.integer_root(out // inner, step)
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
        gate="relu" if _any(state, "layers.", ".ffn.relu_gate") else "gelu",
        deployed_kernel=_deployed_kernel(state) if fused == "none" else None,
        image_residual="image_residual" in state,
        tail="direct" if direct else "conv",
        border=keys.border(state),
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
        border=keys.border(state),
        fused="full" if fused else "none",
    )


def inspect_later(state: Mapping[str, Tensor]) -> AetherNetLaterConfig:
    """The configuration of a `stages.*` state dict; `arch.inspect` completes the check.

    Raises CheckpointError for mixed or truncated dicts, and for other versions of the public code, which share
    the keys but not the forward pass.
    """
    if "model_version" in state and state["model_version"].tolist() != LATER_VERSION:
        raise CheckpointError(
            f"this checkpoint is of version {state['model_version'].tolist()} of the public code, whose forward "
            f"pass is another one; of the stages.* layout, version {LATER_VERSION} is supported."
        )
    embed_dim, in_chans, _, _ = keys.shape_of(state, "conv_first.weight")
    fused = keys.fused_form(state, "stages.")
    first = "stages.0.0."
    if fused == "full":
        hidden = keys.shape_of(state, first + "ffn.fc1.weight")[0] // 2
        lk = keys.shape_of(state, first + "conv.weight")[-1]
        layer = _any(state, "stages.", ".norm.eps")
    else:
        hidden = keys.shape_of(state, first + "ffn.conv_gate.weight")[0]
        conv = "fused_conv" if fused == "kernel" else "lk_conv"
        lk = keys.shape_of(state, f"{first}conv.{conv}.weight")[-1]
        layer = "norm.weight" in state and state["norm.weight"].ndim == 1
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
        channel_attention=_any(state, "stages.", ".channel_attn.fc.0.weight"),
        spatial_attention=_any(state, "stages.", ".spatial_attn.conv.weight"),
        fused=fused,
    )


def _later_scale(state: Mapping[str, Tensor]) -> int:
    """The scale that the upsampler's shapes give, which `scale_tensor` must confirm."""
    steps = _steps(state, r"upsample\.blocks\.")
    if len(steps) > 1:
        scale = 2 ** len(steps)
    else:
        name = f"{steps[0] if steps else 'upsample.blocks.0'}.weight"
        outer, inner = keys.shape_of(state, name)[0], keys.shape_of(state, "conv_last.weight")[1]
        scale = keys.integer_root(outer // inner, name)
    stored = state.get("scale_tensor")
    if stored is None or stored.numel() != 1:
        raise CheckpointError("truncated AetherNet checkpoint: scale_tensor is missing or no single number.")
    if stored.item() != scale:
        raise CheckpointError(
            f"mixed AetherNet checkpoint: scale_tensor is {stored.item()}, "
            f"but the shapes of its upsampler are those of scale {scale}."
        )
    return scale


def _steps(state: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Names of the upsampler's convolutions, in order; one with a missing tensor counts too."""
    found = {int(m[1]): m[0] for k in state if (m := re.match(prefix + r"(\d+)", k))}
    return [found[i] for i in sorted(found)]


def _any(state: Mapping[str, Tensor], prefix: str, end: str) -> bool:
    """Whether any block holds this key. If another lacks it, the later comparison names that one."""
    return any(k.startswith(prefix) and k.endswith(end) for k in state)


def _deployed_kernel(state: Mapping[str, Tensor]) -> int | None:
    """The window's size, which must be one and the same in all blocks."""
    windows = {k: v.tolist() for k, v in state.items() if k.startswith("layers.") and k.endswith(".conv.window")}
    sizes = {v[0] if isinstance(v, list) and len(v) == 2 else None for v in windows.values()}
    if not sizes:
        return None
    size = sizes.pop()
    if sizes or not isinstance(size, float) or not size.is_integer():
        raise CheckpointError(f"mixed or damaged AetherNet checkpoint: its windows are {windows}.")
    return int(size)


def _check_complete(state: Mapping[str, Tensor], config: Config) -> None:
    """Compare names, shapes and kinds of numbers with a module of the configuration, built without memory."""
    try:
        with torch.device("meta"):
            expected = config.build().state_dict()
    except ValueError as error:
        raise CheckpointError(f"foreign or damaged AetherNet checkpoint: {error}") from error
    missing = [k for k in expected if k not in state and not k.endswith(".num_batches_tracked")]
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise CheckpointError(f"truncated or mixed AetherNet checkpoint: {missing[0]}{more} missing.")
    unknown = [k for k in state if k not in expected]
    if isinstance(config, AetherNetLaterConfig):
        unknown = [k for k in unknown if k not in LATER_EXTRAS]
    if unknown:
        more = f" and {len(unknown) - 1} more do" if len(unknown) > 1 else " does"
        raise CheckpointError(f"mixed or foreign AetherNet checkpoint: {unknown[0]}{more} not belong to it.")
    for key, value in state.items():
        if key in expected and value.shape != expected[key].shape:
            shapes = f"{tuple(value.shape)}; {tuple(expected[key].shape)} was expected"
            raise CheckpointError(f"{key} has shape {shapes}.")
        if key in expected and value.is_floating_point() != expected[key].is_floating_point():
            kind = "floating-point" if expected[key].is_floating_point() else "integer"
            raise CheckpointError(f"{key} is of type {value.dtype}; {kind} numbers were expected.")
