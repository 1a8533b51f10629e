"""Descriptors: what spandrel's users see of each network, of files and state dicts in any form; and `arch.install`."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import arch

from .. import nets
from .conftest import CASES, describe, network

State = dict[str, Any]


@pytest.mark.parametrize("name", CASES)
def test_descriptor(name: str) -> None:
    """The same with what quantisation-aware training leaves beside each convolution, but for one tag more."""
    state, (config, _, half, tags) = network(name).state_dict(), CASES[name]
    # attention over the whole image: no tile gives what the whole does
    tiling = "DISCOURAGED" if name == "later_deployed" else "SUPPORTED"
    names = [k.removesuffix(".weight") for k, v in state.items() if k.endswith(".weight") and v.ndim == 4]
    for kind in (None, "_amax", "_scale"):
        ranges = {f"{n}.{of}_quantizer.{kind}": torch.rand(()) for n in names for of in ("input", "weight") if kind}
        found = describe(state | ranges)
        requirements = found.size_requirements
        assert found.architecture.name == "AetherNet"
        assert found.purpose == ("Restoration" if name == "public_deployed" else "SR")
        assert (found.scale, found.tiling.name) == (config.scale, tiling)
        assert (found.input_channels, found.output_channels) == (config.in_chans, config.in_chans)
        assert (found.supports_half, found.supports_bfloat16) == (half, False)
        assert (requirements.minimum, requirements.multiple_of, requirements.square) == (0, 1, False)
        assert found.tags == tags.split(", ") + ["QAT"] * bool(kind)
        assert nets.same(found.model.state_dict(), state)


CONTAINERS: dict[str, Callable[[State], State]] = {  # what spandrel takes off, what it does not, and both
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "params_ema": lambda s: {"params": {k: torch.zeros_like(v) for k, v in s.items()}, "params_ema": s},
    "model": lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}},
    "single": lambda s: {"any_name": s},
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()} | {"loss.weight": torch.zeros(1)}},
    "averaged": lambda s: {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in s.items()},
    "half": lambda s: {k: v.half() for k, v in s.items()},
    "bfloat16": lambda s: {k: v.bfloat16() for k, v in s.items()},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container: str, tmp_path: Path) -> None:
    """And files of lower precision, which are computed in float32."""
    model = nets.net(gate="relu", image_residual=True).build()
    state = model.half().bfloat16().float().state_dict()  # what all of these types hold
    torch.save(CONTAINERS[container](state), tmp_path / "model.pth")
    assert nets.same(describe(tmp_path / "model.pth").model.state_dict(), state)
    assert nets.same(arch.load(tmp_path / "model.pth").state_dict(), state)


DAMAGES: dict[str, Callable[[State], State]] = {
    "version": lambda s: dict(nets.later().build().state_dict()) | {"model_version": torch.tensor([4, 0, 0])},
    "two networks": lambda s: s | {f"copy.{k}": v + 1 for k, v in s.items()},
    "fc2.bias is missing": lambda s: {k: v for k, v in s.items() if k != "layers.1.0.ffn.fc2.bias"},
    "attention": lambda s: s | {"attention.weight": torch.zeros(1)},
    "conv_last gives 5 channels": lambda s: s | {"conv_last.weight": torch.zeros(5, 12, 3, 3)},
}


@pytest.mark.parametrize("said", DAMAGES)
def test_damaged_weights_are_ours_and_refused_by_name(said: str) -> None:
    """Instead of a network that computes something else, or spandrel's not knowing whose they are."""
    with pytest.raises(arch.CheckpointError, match=said):
        describe(DAMAGES[said](dict(nets.net().build().state_dict())))


def test_files_that_spandrel_refuses_can_be_rewritten(tmp_path: Path) -> None:
    """The public code saves torch.__version__, a class of its own, beside the weights; spandrel reads no classes."""
    state = nets.net().build().state_dict()
    torch.save({"params": state, "version": torch.__version__}, tmp_path / "public.pth")
    with pytest.raises(pickle.UnpicklingError, match="forbidden"):
        describe(tmp_path / "public.pth")
    arch.write_checkpoint(arch.read_checkpoint(tmp_path / "public.pth"), tmp_path / "public.safetensors")
    assert nets.same(describe(tmp_path / "public.safetensors").model.state_dict(), state)


FIRST_TIME = """
import sys
import arch
assert "spandrel" not in sys.modules and "torchvision" not in sys.modules
from contextlib import suppress
from spandrel import MAIN_REGISTRY, DuplicateArchitectureError, ModelLoader
import spandrel_extra_arches
known = len(MAIN_REGISTRY)
assert "AetherNet" not in [support.architecture.id for support in MAIN_REGISTRY]
[added] = arch.install()
assert added.architecture.id == "AetherNet" and len(MAIN_REGISTRY) == known + 1
with suppress(DuplicateArchitectureError):
    raise SystemExit(f"added twice: {arch.install()}")
assert arch.install(ignore_duplicates=True) == [] and len(MAIN_REGISTRY) == known + 1
spandrel_extra_arches.install()
assert ModelLoader().load_from_state_dict(arch.aether_small().state_dict()).architecture is added.architecture
"""


def test_first_time_twice_and_beside_the_extra_architectures() -> None:
    """In a process of its own, with the registry as spandrel ships it; spandrel is imported by `install` alone."""
    pytest.importorskip("spandrel_extra_arches", reason="spandrel_extra_arches is not installed")
    done = subprocess.run([sys.executable, "-c", FIRST_TIME], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
