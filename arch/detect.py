"""`inspect`: from a state dict alone to the full configuration, or a sentence that says what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import read_checkpoint
from .config import AetherNetConfig, AetherNetLaterConfig, AetherTinyConfig, Config
from .errors import CheckpointError

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
        config: Config = _inspect_later(state)
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
    import dataclasses

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


def _shape(state: Mapping[str, Tensor], key: str, ndim: int = 4) -> tuple[int, ...]:
    if key not in state:
        raise CheckpointError(f"truncated or mixed AetherNet checkpoint: {key} is missing.")
    shape = tuple(state[key].shape)
    if len(shape) != ndim:
        raise CheckpointError(f"{key} has shape {shape}; {ndim} dimensions were expected.")
    return shape


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many consecutive indices stand right behind `prefix`, which must start at 0 and have no gap."""
    found = {int(m[1]) for k in state if (m := re.match(re.escape(prefix) + r"(\d+)\.", k))}
    missing = set(range(max(found, default=-1) + 1)) - found
    if not found or missing:
        raise CheckpointError(f"truncated AetherNet checkpoint: {prefix}{min(missing, default=0)}.* is missing.")
    return len(found)


def _depths(state: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    return tuple(_count(state, f"{prefix}{g}.") for g in range(_count(state, prefix)))


def _branches(state: Mapping[str, Tensor], prefix: str) -> bool:
    """Whether the large kernels are fused; a dict with both forms is refused."""
    fused = [k for k in state if k.startswith(prefix) and k.endswith(".conv.fused_conv.weight")]
    unfused = [k for k in state if k.startswith(prefix) and k.endswith(".conv.lk_conv.weight")]
    if fused and unfused:
        raise CheckpointError(f"mixed AetherNet checkpoint: {fused[0]} is fused and {unfused[0]} is not.")
    return bool(fused)


def _integer_root(value: int, what: str) -> int:
    root = math.isqrt(value)
    if root * root != value:
        raise CheckpointError(f"{what}: {value} output channels per image channel are no square of a scale.")
    return root


def _inspect_net(state: Mapping[str, Tensor]) -> AetherNetConfig:
    embed_dim, in_chans, _, _ = _shape(state, "conv_first.weight")
    depths = _depths(state, "layers.")
    first = "layers.0.0."
    last = _shape(state, "conv_last.weight")
    full = any(k.endswith(".ffn.fc1.weight") for k in state)
    if full and any(k.endswith(".ffn.fc1_gate.weight") for k in state):
        raise CheckpointError("mixed AetherNet checkpoint: it holds both ffn.fc1 (fused) and ffn.fc1_gate keys.")
    if full:
        hidden = _shape(state, first + "ffn.fc1.weight")[0] // 2
        lk = _shape(state, first + "conv.weight")[-1]
        sk = min(3, lk)
        norm = "layer" if first + "norm.eps" in state else "batch"
        kernel_fused = True
    else:
        hidden = _shape(state, first + "ffn.fc1_gate.weight", 2)[0]
        kernel_fused = _branches(state, "layers.")
        name = first + ("conv.fused_conv.weight" if kernel_fused else "conv.lk_conv.weight")
        lk = _shape(state, name)[-1]
        # The small kernel of a fused dict is unknowable, and irrelevant.
        sk = min(3, lk) if kernel_fused else _shape(state, first + "conv.sk_conv.weight")[-1]
        norm = "batch" if first + "norm.running_mean" in state else "layer"
    direct = "conv_before_upsample.0.weight" not in state
    if direct:
        if last[0] % in_chans:
            raise CheckpointError(f"conv_last has {last[0]} output channels, no multiple of {in_chans}.")
        scale = _integer_root(last[0] // in_chans, "conv_last")
    else:
        scale = 1
        for key in sorted(k for k in state if re.fullmatch(r"upsample\.\d+\.weight", k)):
            out, inner, _, _ = _shape(state, key)
            scale *= _integer_root(out // max(inner, 1), key)
        if last[0] != in_chans:
            raise CheckpointError(f"conv_last gives {last[0]} channels and conv_first takes {in_chans}.")
    deployed = None
    if not kernel_fused and first + "conv.window" in state:
        deployed = int(state[first + "conv.window"][0])
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
        deployed_kernel=deployed,
        image_residual="image_residual" in state,
        tail="direct" if direct else "conv",
        fused="full" if full else "kernel" if kernel_fused else "none",
    )


def _inspect_tiny(state: Mapping[str, Tensor]) -> AetherTinyConfig:
    depth = _count(state, "blocks.") + 2
    fused = "conv_first.weight" in state
    if fused and any(k.endswith(".expand.weight") for k in state):
        raise CheckpointError("mixed AetherNet checkpoint: conv_first is fused and other convolutions are not.")
    infix = "" if fused else ".conv"
    embed_dim, in_chans, _, _ = _shape(state, f"conv_first{infix}.weight")
    out = _shape(state, f"conv_last{infix}.weight")[0]
    if out % in_chans:
        raise CheckpointError(f"conv_last has {out} output channels, no multiple of {in_chans}.")
    return AetherTinyConfig(
        embed_dim=embed_dim,
        depth=depth,
        expand=0 if fused else _shape(state, "blocks.0.expand.weight")[0] // embed_dim,
        scale=_integer_root(out // in_chans, "conv_last"),
        in_chans=in_chans,
        fused="full" if fused else "none",
    )


def _inspect_later(state: Mapping[str, Tensor]) -> AetherNetLaterConfig:
    from .later import inspect_later

    return inspect_later(state)


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
