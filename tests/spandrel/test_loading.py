"""Files in, descriptors out: every form, container and file type, with every parameter found."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from spandrel import ImageModelDescriptor, ModelLoader, ModelTiling, UnsupportedModelError
from torch import Tensor, nn

import arch

State = dict[str, Any]

CONTAINERS: dict[str, Callable[[State], State]] = {
    "raw": lambda s: s,
    "module": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "params": lambda s: {"params": s},
    "params_ema": lambda s: {"params": {k: torch.zeros_like(v) for k, v in s.items()}, "params_ema": s},
    "params-ema": lambda s: {"params-ema": s, "iter": 5},
    "trainer": lambda s: {"params_ema": s, "metadata": {"scale": "2"}},
    "state_dict": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}},
    "model_state_dict": lambda s: {"model_state_dict": s, "step": 10},
    "net_g": lambda s: {"net_g": s, "iter": 10},
    "net": lambda s: {"net": s, "iter": 10},
    "single": lambda s: {"any_name": s},
    "ema": lambda s: {"ema": {f"module.{k}": v for k, v in s.items()}},
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()} | {"loss.weight": torch.zeros(1)}},
    "averaged": lambda s: {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in s.items()},
}


def load(state: State) -> ImageModelDescriptor[nn.Module]:
    descriptor = ModelLoader().load_from_state_dict(state)
    assert isinstance(descriptor, ImageModelDescriptor)
    return descriptor


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
        assert descriptor.architecture.id == "AetherNet"
        assert descriptor.model.config == config
        assert same(descriptor.model, model)
        assert (descriptor.scale, descriptor.input_channels) == (config.scale, config.in_chans)
        assert descriptor.output_channels == config.in_chans
        assert descriptor.purpose == ("Restoration" if config.scale == 1 else "SR")
        assert not descriptor.model.training
        count += 1
    assert count > 800


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
def test_named_variants(size: str, scale: int) -> None:
    model = getattr(arch, f"aether_{size}")(scale)
    for form in (model, arch.fuse(model)):
        descriptor = load(form.state_dict())
        assert descriptor.model.config == form.config
        assert descriptor.tags[0] == size
        assert f"{form.config.embed_dim}nf" in descriptor.tags
        assert ("fused" in descriptor.tags) == (form is not model)
    if size != "tiny":
        public = getattr(arch, f"aether_{size}")(scale, fused_init=True)
        descriptor = load(public.state_dict())
        assert descriptor.tags[0] == size
        config: Any = descriptor.model.config
        assert config.fused == "kernel"
        assert config.hidden / config.embed_dim == (2.5 if size == "large" else 2.0)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".pt"])
def test_containers(container: str, suffix: str, tmp_path: Path) -> None:
    model = arch.AetherNet(3, 8, (1,), gate="relu", image_residual=True)
    path = tmp_path / f"model{suffix}"
    torch.save(CONTAINERS[container](model.state_dict()), path)
    descriptor = ModelLoader().load_from_file(path)
    assert descriptor.architecture.id == "AetherNet"
    assert same(descriptor.model, model)
    assert same(descriptor.model, arch.load(path))


def test_two_networks_are_refused_with_their_names() -> None:
    state = dict(arch.AetherNet(3, 8, (1,)).state_dict())
    other = {f"copy.{k}": v + 1 for k, v in state.items()}
    with pytest.raises(arch.CheckpointError, match="two networks"):
        ModelLoader().load_from_state_dict(state | other)


def test_files(model: nn.Module, tmp_path: Path) -> None:
    """.safetensors and .pth of `arch.write_checkpoint`, for every form."""
    for name in ("model.safetensors", "model.pth"):
        arch.write_checkpoint(model.state_dict(), tmp_path / name)
        descriptor = ModelLoader().load_from_file(tmp_path / name)
        assert descriptor.architecture.id == "AetherNet"
        assert same(descriptor.model, model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_of_lower_precision_are_computed_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = arch.AetherNet(3, 8, (1,), norm="batch").half().to(dtype)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    descriptor = ModelLoader().load_from_file(tmp_path / "model.safetensors")
    assert descriptor.dtype == torch.float32
    assert same(descriptor.model, model.float())


def observers(state: dict[str, Tensor], infix: str) -> dict[str, Tensor]:
    """What quantisation-aware training leaves beside each convolution's weights."""
    names = [k.removesuffix(".weight") for k, v in state.items() if k.endswith(".weight") and v.ndim == 4]
    return {f"{name}.{kind}_quantizer.{infix}": torch.rand(()) for name in names for kind in ("input", "weight")}


@pytest.mark.parametrize("infix", ["_amax", "_scale"])
def test_observers_are_left_out(model: nn.Module, infix: str) -> None:
    state = dict(model.state_dict())
    descriptor = load(state | observers(state, infix))
    assert "QAT" in descriptor.tags
    assert same(descriptor.model, model)
    assert "QAT" not in load(state).tags


def test_released_presets(presets_dir: Path) -> None:
    """All three files of each preset, quantisation-aware trained one included."""
    files = sorted(presets_dir.glob("*/*.safetensors"))
    assert files
    for path in files:
        descriptor = ModelLoader().load_from_file(path)
        assert descriptor.architecture.id == "AetherNet"
        assert descriptor.tags[0] == path.name.split("_")[1]
        assert ("QAT" in descriptor.tags) == path.stem.endswith("_qat")
        assert same(descriptor.model, arch.load(path))


def test_markers_of_the_later_layout_are_dropped() -> None:
    """Public files hold two more buffers than their networks need, and the descriptor loads strictly."""
    model = arch.AetherNetLaterConfig(16, (1, 1), 24, 5, 3).build()
    extras = {"model_version": torch.tensor([3, 1, 1]), "pt_version": torch.tensor([2, 7, 0])}
    assert same(load(model.state_dict() | extras).model, model)
    with pytest.raises(arch.CheckpointError, match="version"):
        load(model.state_dict() | {"model_version": torch.tensor([4, 0, 0])})


def test_tiling() -> None:
    """Discouraged where attention pools the whole image: then no tile gives what the whole frame does."""
    for attention, tiling in ((False, ModelTiling.SUPPORTED), (True, ModelTiling.DISCOURAGED)):
        config = arch.AetherNetLaterConfig(16, (1, 1), 24, 5, 3, channel_attention=attention)
        assert load(config.build().state_dict()).tiling == tiling


def test_other_models_are_not_ours() -> None:
    for state in ({}, {"conv_first.weight": torch.zeros(8, 3, 3, 3), "conv_last.weight": torch.zeros(3, 8, 3, 3)}):
        with pytest.raises(UnsupportedModelError):
            ModelLoader().load_from_state_dict(state)


def test_files_that_spandrel_refuses_can_be_rewritten(tmp_path: Path) -> None:
    """The public code saves torch.__version__, a class of its own, beside the weights; spandrel reads no classes."""
    model = arch.AetherNet(3, 8, (1,))
    torch.save({"params": model.state_dict(), "version": torch.__version__}, tmp_path / "public.pth")
    with pytest.raises(pickle.UnpicklingError, match="forbidden"):
        ModelLoader().load_from_file(tmp_path / "public.pth")
    arch.write_checkpoint(arch.read_checkpoint(tmp_path / "public.pth"), tmp_path / "public.safetensors")
    assert same(ModelLoader().load_from_file(tmp_path / "public.safetensors").model, model)
