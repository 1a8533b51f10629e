"""`inspect`: every configuration comes back from its state dict, and everything else gets a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import arch

from ..nets import later, net

State = dict[str, Tensor]


CONFIGS: dict[str, arch.Config] = {
    "unfused": net(),
    "unfused, 4x": net(scale=4),
    "kernel": net(fused="kernel", scale=3),
    "full": net(fused="full", scale=8),
    "batch": net(norm="batch", gate="relu", deployed_kernel=5, tail="direct"),
    "batch full": net(norm="batch", gate="relu", tail="direct", fused="full"),
    "tiny": arch.AetherTinyConfig(embed_dim=8, depth=4, expand=2),
    "tiny full": arch.AetherTinyConfig(embed_dim=8, depth=4, expand=0, fused="full"),
    "later": later(channel_attention=True, spatial_attention=True),
    "later kernel": later(fused="kernel", scale=4, channel_attention=True),
    "later full": later(fused="full", scale=3, spatial_attention=True),
    "later layer": later(norm="layer", scale=1),
    "later layer full": later(norm="layer", fused="full"),
}


def state_of(config: arch.Config) -> State:
    return dict(config.build().state_dict())


@pytest.mark.parametrize("variant", ["tiny", "small", "medium", "large"])
def test_named_variants(variant: str) -> None:
    model = getattr(arch, f"aether_{variant}")(2)
    config = arch.inspect(model.state_dict())
    assert config == model.config
    assert config.variant == f"aether_{variant}"
    assert (config.out_chans, config.scale, model.scale) == (3, 2, 2)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_each_missing_key_is_refused_and_named(config: arch.Config) -> None:
    state = state_of(config)
    for key in state:
        if key.endswith("num_batches_tracked"):  # torch itself does without
            continue
        truncated = {k: v for k, v in state.items() if k != key}
        with pytest.raises(arch.CheckpointError) as caught:
            arch.inspect(truncated)
        named = str(caught.value)
        # One lost convolution of an upsampler, or of a gate, may show first in what no longer fits.
        stem = key.rpartition(".")[0] or key
        assert key in named or stem in named or "conv_first" in key, f"{key} is missing, but: {named}"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_each_wrong_shape_is_refused(config: arch.Config) -> None:
    state = state_of(config)
    for index, (key, value) in enumerate(state.items()):
        larger = torch.zeros([n + 1 for n in value.shape] or [2])
        empty = torch.zeros([0, *value.shape[1:]]) if value.numel() > 1 else value[None]
        wrong = (larger, value[None], empty)[index % 3]
        with pytest.raises(arch.CheckpointError):
            arch.inspect(state | {key: wrong})


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_integers_for_weights_are_refused(config: arch.Config) -> None:
    """Quantised weights without their scales would load as noise."""
    state = state_of(config)
    key = next(k for k in state if k.startswith(("conv_after_body.weight", "conv_last")))
    with pytest.raises(arch.CheckpointError, match=r"int8; floating-point numbers were expected"):
        arch.inspect(state | {key: state[key].to(torch.int8)})
    assert arch.inspect({k: v.half() if v.is_floating_point() else v for k, v in state.items()}) == config


def test_extra_keys_are_refused_and_named() -> None:
    state = state_of(net())
    with pytest.raises(arch.CheckpointError, match=r"mixed or foreign.*attention\.weight does not belong"):
        arch.inspect(state | {"layers.0.0.attention.weight": torch.zeros(1)})
    with pytest.raises(arch.CheckpointError, match="and 1 more do not belong"):
        arch.inspect(state | {"a.weight": torch.zeros(1), "b.weight": torch.zeros(1)})


def block(state: State, name: str) -> State:
    return {k: v for k, v in state.items() if k.startswith(name)}


MIXED: dict[str, Callable[[], State]] = {
    "one fused block": lambda: state_of(net()) | block(state_of(net(fused="kernel")), "layers.1.0.conv"),
    "one unfused block": lambda: state_of(net(fused="kernel")) | block(state_of(net()), "layers.0.0.conv"),
    "a fully fused block": lambda: state_of(net()) | block(state_of(net(fused="full")), "layers.0.0."),
    "a later fused block": lambda: state_of(later()) | block(state_of(later(fused="kernel")), "stages.1.0.conv"),
    "tiny": lambda: state_of(arch.AetherTinyConfig(8, 4)) | state_of(arch.AetherTinyConfig(8, 4, 0, fused="full")),
}


@pytest.mark.parametrize("make", MIXED.values(), ids=MIXED)
def test_mixed_forms_are_refused(make: Callable[[], State]) -> None:
    with pytest.raises(arch.CheckpointError, match="mixed AetherNet checkpoint"):
        arch.inspect(make())


def test_mixed_options_are_refused() -> None:
    """A block of another option than the rest: one gate, one norm, one window out of line."""
    plain = state_of(net())
    for other in (net(gate="relu"), net(norm="batch"), net(deployed_kernel=5)):
        for name in ("layers.0.0.", "layers.1.0."):
            with pytest.raises(arch.CheckpointError, match="missing"):
                arch.inspect(plain | block(state_of(other), name))
    windows = state_of(net(deployed_kernel=5)) | block(state_of(net(deployed_kernel=3)), "layers.1.0.")
    with pytest.raises(arch.CheckpointError, match="windows are"):
        arch.inspect(windows)
    swapped = state_of(net(fused="kernel"))
    del swapped["layers.1.0.conv.fused_conv.weight"], swapped["layers.1.0.conv.fused_conv.bias"]
    with pytest.raises(arch.CheckpointError, match=r"layers\.1\.0\.conv\.fused_conv\.weight and 1 more are missing"):
        arch.inspect(swapped)


@pytest.mark.parametrize("window", [[float("nan"), 1.0], [5.5, 1.0], [5.0], [], [4.0, 0.0], [99.0, 0.0]])
def test_damaged_windows_are_refused(window: list[float]) -> None:
    state = state_of(net(depths=(1,), deployed_kernel=5))
    with pytest.raises(arch.CheckpointError):
        arch.inspect(state | {"layers.0.0.conv.window": torch.tensor(window)})


FOREIGN: dict[str, State] = {
    "empty": {},
    "compact": {f"body.{i}.{p}": torch.zeros(64) for i in range(0, 34, 2) for p in ("weight", "bias")},
    "esrgan": {
        "conv_first.weight": torch.zeros(64, 3, 3, 3),
        "conv_first.bias": torch.zeros(64),
        "body.0.rdb1.conv1.weight": torch.zeros(32, 64, 3, 3),
        "conv_last.weight": torch.zeros(3, 64, 3, 3),
    },
    "swinir": {
        "conv_first.weight": torch.zeros(60, 3, 3, 3),
        "layers.0.residual_group.blocks.0.norm1.weight": torch.zeros(60),
        "conv_last.weight": torch.zeros(12, 60, 3, 3),
    },
    "plksr": {"feats.0.weight": torch.zeros(64, 3, 3, 3), "feats.1.lk.conv.weight": torch.zeros(16, 16, 17, 17)},
    "only a first convolution": {"conv_first.weight": torch.zeros(64, 3, 3, 3)},
    "no channels": state_of(net()) | {"conv_first.weight": torch.zeros(12, 0, 3, 3)},
}


@pytest.mark.parametrize("state", FOREIGN.values(), ids=FOREIGN)
def test_foreign_dicts_are_refused(state: State) -> None:
    with pytest.raises(arch.CheckpointError) as caught:
        arch.inspect(state)
    assert str(caught.value).endswith(".")
    assert "AetherNet" in str(caught.value) or "shape" in str(caught.value)


def test_even_kernels_and_unknown_scales_are_refused() -> None:
    even = {k: v[..., 1:, 1:] if k.endswith("lk_conv.weight") else v for k, v in state_of(net()).items()}
    with pytest.raises(arch.CheckpointError, match="lk_kernel is 6"):
        arch.inspect(even)
    for scale in (5, 6, 7):
        wide = state_of(net(tail="direct")) | {
            "conv_last.weight": torch.zeros(3 * scale**2, 12, 3, 3),
            "conv_last.bias": torch.zeros(3 * scale**2),
        }
        with pytest.raises(arch.CheckpointError, match=f"scale is {scale}"):
            arch.inspect(wide)


@pytest.mark.parametrize(
    ("style", "suffixes"),
    [
        ("modelopt", ("input_quantizer._amax", "weight_quantizer._amax", "output_quantizer._amax")),
        ("pytorch-quantization", ("_input_quantizer._amax", "_weight_quantizer._amax")),
        ("modelopt, more", ("input_quantizer._amax", "weight_quantizer._amax", "input_quantizer._pre_quant_scale")),
    ],
)
@pytest.mark.parametrize("config", [CONFIGS["full"], CONFIGS["tiny full"], CONFIGS["later full"]])
def test_quantiser_buffers_are_passed_over(config: arch.Config, style: str, suffixes: tuple[str, ...]) -> None:
    weights = state_of(config)
    layers = [name for name, m in config.build().named_modules() if isinstance(m, nn.Conv2d)]
    ranges = {f"{layer}.{suffix}": torch.tensor(1.5) for layer in layers for suffix in suffixes}
    assert arch.inspect(weights | ranges) == config
    split = arch.split_ranges(ranges | weights)
    assert split[0].keys() == weights.keys()
    assert split[1] == ranges
    assert arch.split_ranges(weights) == (weights, {})
    assert arch.split_ranges({}) == ({}, {})
    with pytest.raises(arch.CheckpointError, match=r"conv_last\.bias is missing"):
        arch.inspect({k: v for k, v in (weights | ranges).items() if k != "conv_last.bias"})


def test_a_loaded_batch_norm_may_lack_its_counter() -> None:
    config = CONFIGS["batch"]
    state = {k: v for k, v in state_of(config).items() if not k.endswith("num_batches_tracked")}
    assert arch.inspect(state) == config
    config.build().load_state_dict(state)


def test_inspect_leaves_its_argument_alone() -> None:
    state = state_of(net())
    keys, values = list(state), [id(v) for v in state.values()]
    arch.inspect(state)
    assert (list(state), [id(v) for v in state.values()]) == (keys, values)


def test_sizes_follow_from_the_dict_alone() -> None:
    config = arch.inspect(state_of(net(embed_dim=24, hidden=37, depths=(3, 1, 2), lk_kernel=9, sk_kernel=1)))
    assert dataclasses.asdict(config)["depths"] == (3, 1, 2)
    assert dataclasses.asdict(config)["hidden"] == 37
    assert config.variant == "custom"
