"""Files and state dicts in, descriptors out: every form and container, with every parameter found."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
from torch import nn

import arch

from .. import nets

State = dict[str, Any]

CONTAINERS: dict[str, Callable[[State], State]] = {  # what spandrel takes off, what it does not, and both
    "raw": lambda s: s,
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "params_ema": lambda s: {"params": {k: torch.zeros_like(v) for k, v in s.items()}, "params_ema": s},
    "trainer": lambda s: {"params_ema": s, "metadata": {"scale": "2"}},
    "model": lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}},
    "single": lambda s: {"any_name": s},
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()} | {"loss.weight": torch.zeros(1)}},
    "averaged": lambda s: {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in s.items()},
}


def load(source: State | Path) -> ImageModelDescriptor[nn.Module]:
    loader = ModelLoader()
    found = loader.load_from_file(source) if isinstance(source, Path) else loader.load_from_state_dict(source)
    assert isinstance(found, ImageModelDescriptor) and found.architecture.id == "AetherNet"
    return found


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in mine.items())


def test_every_combination_of_options(every_form: Callable[[], Iterator[nn.Module]]) -> None:
    """Every parameter is found from the state dict alone, and the weights are those of the model."""
    count = 0
    for model in every_form():
        descriptor = load(model.state_dict())
        config: Any = model.config
        if config.fused == "kernel":  # its small kernel is merged for good
            config = dataclasses.replace(config, sk_kernel=3)
        assert descriptor.model.config == config
        assert same(descriptor.model, model)
        assert (descriptor.scale, descriptor.input_channels) == (config.scale, config.in_chans)
        assert descriptor.output_channels == config.in_chans
        assert descriptor.purpose == ("Restoration" if config.scale == 1 else "SR")
        assert not descriptor.model.training
        count += 1
    assert count == 2 * len(nets.table()) > 300


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container: str, tmp_path: Path) -> None:
    model = nets.net(gate="relu", image_residual=True).build()
    torch.save(CONTAINERS[container](model.state_dict()), tmp_path / "model.pth")
    assert same(load(tmp_path / "model.pth").model, model)
    assert same(arch.load(tmp_path / "model.pth"), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_of_lower_precision_are_computed_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = nets.net(norm="batch").build().half().to(dtype)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    descriptor = load(tmp_path / "model.safetensors")
    assert descriptor.dtype == torch.float32
    assert same(descriptor.model, model.float())


def test_released_presets(presets_dir: Path) -> None:
    """All three files of each preset, quantisation-aware trained one included."""
    files = sorted(presets_dir.glob("*/*.safetensors"))
    assert files
    for path in files:
        descriptor = load(path)
        assert descriptor.tags[0] == path.name.split("_")[1]
        assert ("QAT" in descriptor.tags) == path.stem.endswith("_qat")
        assert same(descriptor.model, arch.load(path))


def test_markers_of_the_later_layout_are_dropped() -> None:
    """Public files hold two more buffers than their networks need, and the descriptor loads strictly."""
    model = nets.later().build()
    markers = {"model_version": torch.tensor([3, 1, 1]), "pt_version": torch.tensor([2, 7, 0])}
    assert same(load(model.state_dict() | markers).model, model)


DAMAGES: dict[str, Callable[[State], State]] = {
    "version": lambda s: dict(nets.later().build().state_dict()) | {"model_version": torch.tensor([4, 0, 0])},
    "two networks": lambda s: s | {f"copy.{k}": v + 1 for k, v in s.items()},
    r"layers\.1\.0\.ffn\.fc2\.bias is missing": lambda s: {
        k: v for k, v in s.items() if k != "layers.1.0.ffn.fc2.bias"
    },
    "attention": lambda s: s | {"attention.weight": torch.zeros(1)},
    "conv_last gives 5 channels": lambda s: s | {"conv_last.weight": torch.zeros(5, 12, 3, 3)},
    r"conv_first\.weight": lambda s: s | {"conv_first.weight": torch.zeros(8)},
    "lk_kernel is 10": lambda s: s | {"layers.0.0.conv.lk_conv.weight": torch.zeros(12, 1, 10, 10)},
    r"fc2\.weight": lambda s: s | {"layers.1.0.ffn.fc2.weight": torch.zeros(12, 7)},
}


@pytest.mark.parametrize("said", DAMAGES)
def test_damaged_weights_are_ours_and_refused_by_name(said: str) -> None:
    """Instead of a network that computes something else, or spandrel's not knowing whose they are."""
    with pytest.raises(arch.CheckpointError, match=said):
        load(DAMAGES[said](dict(nets.net().build().state_dict())))


def test_views_larger_than_the_file(tmp_path: Path) -> None:
    """Every tensor a view of one number: 30 kB that would unfold to 16 GB."""
    with torch.device("meta"):
        weights = arch.AetherNet(3, 20_000, (1,)).state_dict()
    torch.save({k: torch.zeros(1).expand(v.shape) for k, v in weights.items()}, tmp_path / "model.pth")
    assert (tmp_path / "model.pth").stat().st_size < 100_000
    with pytest.raises(arch.CheckpointError, match="more than the file holds"):
        load(tmp_path / "model.pth")


def test_other_models_are_not_ours() -> None:
    for state in ({}, {"conv_first.weight": torch.zeros(8, 3, 3, 3), "conv_last.weight": torch.zeros(3, 8, 3, 3)}):
        with pytest.raises(UnsupportedModelError):
            load(state)


def test_files_that_spandrel_refuses_can_be_rewritten(tmp_path: Path) -> None:
    """The public code saves torch.__version__, a class of its own, beside the weights; spandrel reads no classes."""
    model = nets.net().build()
    torch.save({"params": model.state_dict(), "version": torch.__version__}, tmp_path / "public.pth")
    with pytest.raises(pickle.UnpicklingError, match="forbidden"):
        load(tmp_path / "public.pth")
    arch.write_checkpoint(arch.read_checkpoint(tmp_path / "public.pth"), tmp_path / "public.safetensors")
    assert same(load(tmp_path / "public.safetensors").model, model)
