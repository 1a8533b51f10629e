"""No false positives: AetherNet and the 52 architectures of spandrel and spandrel_extra_arches, both ways."""

import importlib
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import spandrel
import torch
from spandrel import MAIN_REGISTRY, ArchSupport, ModelLoader
from torch import Tensor, nn

import arch
import presets
from arch.spandrel_support import AetherNetArch

from .. import nets

extra = pytest.importorskip("spandrel_extra_arches", reason="spandrel_extra_arches is not installed")

# Arguments that a constructor demands.
DEMANDED: dict[str, dict[str, Any]] = {
    "AuraSR": {"dim": 16, "init_dim": 16, "image_size": None, "input_image_size": None, "up_dim_mults": (1, 2)}
    | {"style_network": {"dim_in": 16, "dim_out": 16, "depth": 2}},
    "DDColor": {"encoder_name": "convnext-t", "nf": 64, "num_queries": 20, "input_size": (32, 32)}
    | {"last_norm": "Spectral"},
    "MMRealSR": {"num_in_ch": 3, "num_out_ch": 3, "num_block": 2},
    "NAFNet": {"enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    **{name: {"dim": 36} for name in ("SAFMN", "SAFMNBCIE")},
    **{name: {"window_size": 8} for name in ("SRFormer", "Swin2SR", "SwinIR")},
}
# Forms beside the default one, of those which have keys in common with AetherNet: conv_first, layers, conv_last.
TWICE: list[dict[str, Any]] = [{"upsampler": f"pixelshuffle{kind}", "upscale": 2} for kind in ("", "direct")]
THREE = {"upsampler": "pixelshuffle", "upscale": 4, "resi_connection": "3conv"}
FORMS: dict[str, list[dict[str, Any]]] = {
    **{name: [*TWICE, THREE] for name in ("SwinIR", "Swin2SR", "SRFormer", "ATD")},
    "GRL": TWICE,
    "DAT": TWICE,
    "HAT": [{"upsampler": "pixelshuffle", "upscale": 2}, {"upsampler": "pixelshuffle", "resi_connection": "identity"}],
    "DRCT": [{"upsampler": "pixelshuffle", "upscale": 4}],
    "RGT": [{"upscale": 2}, {"resi_connection": "3conv"}],
    "CRAFT": [{"upscale": 2}, {"resi_connection": "identity"}],
    "FDAT": [{"upsampler_type": t} for t in ("pixelshuffle", "dysample", "pixelshuffledirect", "nearest+conv")],
}


def build(network: type[nn.Module], options: dict[str, Any]) -> dict[str, Tensor]:
    """A state dict: without memory where the constructor allows it, since most compute something from weights."""
    try:
        with torch.device("meta"):
            return network(**options).state_dict()
    except (RuntimeError, NotImplementedError):
        return network(**options).state_dict()


def known() -> list[ArchSupport]:
    extra.install(ignore_duplicates=True)
    return [support for support in MAIN_REGISTRY if support.architecture.id != "AetherNet"]


@pytest.mark.parametrize("name", [support.architecture.id for support in known()])
def test_ours_does_not_fire_on_theirs(name: str) -> None:
    support = MAIN_REGISTRY[name]
    module = importlib.import_module(type(support.architecture).__module__)  # which imports its network's classes
    networks = {n: f for n, f in vars(module).items() if inspect.isclass(f) and issubclass(f, nn.Module)}
    assert networks
    for network_name, network in networks.items():
        for form in [{}, *FORMS.get(network_name, [])]:
            state = build(network, DEMANDED.get(network_name, {}) | form)
            assert support.detect(state), f"{network_name} {form} is not what it should be"
            assert not AetherNetArch().detect(state), f"{network_name} {form}"
            assert not AetherNetArch().detect({"params_ema": state}), f"{network_name} {form}"


def ours() -> Iterator[nn.Module]:
    """AetherNets of all options in every form, each as it is and deployed: some hundreds, most of them shallow."""
    for config in nets.table():
        model = nets.built(config)
        yield from (model, arch.fuse(model))
    yield from (getattr(arch, f"aether_{size}")(4) for size in ("medium", "large"))


def test_none_of_theirs_fires_on_ours() -> None:
    """So the order of registration does not matter: whoever comes first, AetherNet is AetherNet."""
    others = known()
    assert len(others) >= (50 if spandrel.__version__ == "0.4.1" else 52)
    released = map(ModelLoader().load_state_dict_from_file, sorted(presets.DIR.glob("*/*.safetensors")))
    for state in itertools.chain((model.state_dict() for model in ours()), released):
        assert AetherNetArch().detect(state)
        fired = [support.architecture.id for support in others if support.detect(state)]
        assert not fired, f"{fired} on {list(state)[:4]}"
