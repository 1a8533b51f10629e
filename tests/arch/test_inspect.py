"""`inspect`: every configuration comes back from its state dict, and everything else gets a sentence."""

import pytest
import torch
from torch import Tensor, nn

import arch

from ..nets import later, net, tiny

State = dict[str, Tensor]


CONFIGS: dict[str, arch.Config] = {
    "unfused": net(),
    "unfused, 4x": net(scale=4),
    "kernel": net(fused="kernel", scale=3),
    "full": net(fused="full", scale=8),
    "batch": net(norm="batch", gate="relu", deployed_kernel=5, tail="direct"),
    "batch full": net(norm="batch", gate="relu", tail="direct", fused="full"),
    "sizes": net(embed_dim=24, hidden=37, depths=(1, 2), lk_kernel=9, sk_kernel=1),
    "tiny": tiny(),
    "tiny full": tiny(expand=0, fused="full"),
    "later": later(channel_attention=True, spatial_attention=True),
    "later kernel": later(fused="kernel", scale=4, channel_attention=True),
    "later full": later(fused="full", scale=3, spatial_attention=True),
    "later layer": later(norm="layer", scale=1),
    "later layer full": later(norm="layer", fused="full"),
}


def state_of(config: arch.Config) -> State:
    return dict(config.build().state_dict())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_tensor_must_be_there_in_its_shape_and_in_floating_point(config: arch.Config) -> None:
    state = state_of(config)
    for index, (key, value) in enumerate(state.items()):
        larger = torch.zeros([n + 1 for n in value.shape] or [2])
        empty = torch.zeros([0, *value.shape[1:]]) if value.numel() > 1 else value[None]
        with pytest.raises(arch.CheckpointError):
            arch.inspect(state | {key: (larger, value[None], empty)[index % 3]})
        if key.endswith("num_batches_tracked"):  # torch itself does without
            continue
        with pytest.raises(arch.CheckpointError) as caught:
            arch.inspect({k: v for k, v in state.items() if k != key})
        named = str(caught.value)
        # One lost convolution of an upsampler, or of a gate, may show first in what no longer fits.
        stem = key.rpartition(".")[0] or key
        assert key in named or stem in named or "conv_first" in key, f"{key} is missing, but: {named}"
    key = next(k for k in state if k.startswith(("conv_after_body.weight", "conv_last")))
    with pytest.raises(arch.CheckpointError, match=r"int8; floating-point numbers were expected"):
        arch.inspect(state | {key: state[key].to(torch.int8)})  # without its scale it would load as noise
    assert arch.inspect({k: v.half() if v.is_floating_point() else v for k, v in state.items()}) == config


def mixed(config: arch.Config, other: arch.Config, name: str = "") -> State:
    """A state dict into which what another configuration has under a name was put."""
    return state_of(config) | {k: v for k, v in state_of(other).items() if k.startswith(name)}


DIRECT = state_of(net(tail="direct"))
FIRST, LOST, WINDOW = "conv_first.weight", "layers.1.0.conv.fused_conv.", "layers.0.0.conv.window"
WRONG: dict[str, tuple[State, str]] = {  # and what is said
    "nothing": ({}, "not an AetherNet"),
    "esrgan": ({FIRST: torch.zeros(64, 3, 3, 3), "body.0.rdb1.conv1.weight": torch.zeros(1)}, "not an AetherNet"),
    "swinir": ({FIRST: torch.zeros(60, 3, 3, 3), "layers.0.norm1.weight": torch.zeros(60)}, "truncated AetherNet"),
    "plksr": ({"feats.0.weight": torch.zeros(64, 3, 3, 3)}, "not an AetherNet"),
    "no channels": (state_of(net()) | {FIRST: torch.zeros(12, 0, 3, 3)}, "shape"),
    "a foreign key": (state_of(net()) | {"layers.0.0.attention": torch.zeros(1)}, r"foreign.*attention does not"),
    "two of them": (state_of(net()) | {"a": torch.zeros(1), "b": torch.zeros(1)}, "and 1 more do not belong"),
    "scale 5": (DIRECT | {"conv_last.weight": torch.zeros(75, 12, 3, 3)}, "scale is 5"),
    "scale 6": (DIRECT | {"conv_last.weight": torch.zeros(108, 12, 3, 3)}, "scale is 6"),
    "no square": (DIRECT | {"conv_last.weight": torch.zeros(15, 12, 3, 3)}, "no square of a scale"),
    "even": (state_of(net()) | {"layers.0.0.conv.lk_conv.weight": torch.zeros(12, 1, 6, 6)}, "lk_kernel is 6"),
    "one fused block": (mixed(net(), net(fused="kernel"), "layers.1.0.conv"), "mixed AetherNet"),
    "one unfused block": (mixed(net(fused="kernel"), net(), "layers.0.0.conv"), "mixed AetherNet"),
    "a fully fused block": (mixed(net(), net(fused="full"), "layers.0.0."), "mixed AetherNet"),
    "a later fused block": (mixed(later(), later(fused="kernel"), "stages.1.0.conv"), "mixed AetherNet"),
    "two tinies": (mixed(tiny(), tiny(expand=0, fused="full")), "mixed AetherNet"),
    "a lost block": (
        {k: v for k, v in state_of(net(fused="kernel")).items() if not k.startswith(LOST)},
        rf"{LOST}weight and 1 more are missing",
    ),
    **{
        f"{option} in {name}": (mixed(net(), net(**{option: value}), name), "missing")
        for option, value in (("gate", "relu"), ("norm", "batch"), ("deployed_kernel", 5))
        for name in ("layers.0.0.", "layers.1.0.")
    },
    "two windows": (mixed(net(deployed_kernel=5), net(deployed_kernel=3), "layers.1.0."), "windows are"),
    **{
        f"window {w}": (state_of(net(depths=(1,), deployed_kernel=5)) | {WINDOW: torch.tensor(w)}, "window|deployed")
        for w in ([float("nan"), 1.0], [5.5, 1.0], [5.0], [], [4.0, 0.0], [99.0, 0.0])
    },
    **{
        f"border {b} of {config.variant}": (state_of(config) | {"border": b}, "border is")
        for b in (torch.tensor(0), torch.tensor(-1), torch.tensor(2.0), torch.tensor([2]), torch.tensor(10**6))
        for config in (net(border=1), tiny(border=1))
    },
}


@pytest.mark.parametrize(("state", "message"), WRONG.values(), ids=WRONG)
def test_foreign_mixed_and_damaged_dicts_are_refused(state: State, message: str) -> None:
    with pytest.raises(arch.CheckpointError, match=message) as caught:
        arch.inspect(state)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "suffixes",
    [
        ("input_quantizer._amax", "weight_quantizer._amax", "output_quantizer._amax"),  # modelopt's
        ("_input_quantizer._amax", "_weight_quantizer._amax"),  # pytorch-quantization's
        ("input_quantizer._amax", "weight_quantizer._amax", "input_quantizer._pre_quant_scale"),
    ],
)
@pytest.mark.parametrize("config", [CONFIGS["full"], CONFIGS["tiny full"], CONFIGS["later full"]])
def test_quantiser_buffers_are_passed_over(config: arch.Config, suffixes: tuple[str, ...]) -> None:
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
    keys, values = list(state), [id(v) for v in state.values()]
    assert arch.inspect(state) == config
    assert (list(state), [id(v) for v in state.values()]) == (keys, values), "inspect changed its argument"
    config.build().load_state_dict(state)
