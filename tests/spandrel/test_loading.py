"""Files and state dicts in, descriptors out: every form and container, with every parameter found."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import arch

from .. import nets
from .conftest import describe

State = dict[str, Any]

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
