"""Models as spandrel's descriptors: from state dicts, as networks to run, and how much memory they take."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from torch import Tensor, nn

import arch

from ._inputs import ARCHITECTURE
from ._package import PyTorchSettings
from ._upscale import Run

# What was loaded stays with its network: descriptors have no place for what quantisation-aware training learnt, and the
# network's own weights are rounded for good once it has run in FP16.
_STATES: WeakKeyDictionary[nn.Module, Mapping[str, Tensor]] = WeakKeyDictionary()
_VALUES: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # alive at once, per input pixel

LIVE = 4  # largest layers' outputs that are alive at once
PROBE = 32  # side of the image on which layers are measured


def from_state(state: Mapping[str, Tensor], device: torch.device) -> ImageModelDescriptor:
    """The descriptor of an AetherNet's state dict. Raises arch.CheckpointError where it is none."""
    arch.inspect(state)
    model = ModelLoader(device).load_from_state_dict(dict(state))
    if not isinstance(model, ImageModelDescriptor) or model.architecture.id != ARCHITECTURE:
        raise arch.CheckpointError(f"spandrel takes this AetherNet for {model.architecture.name}.")
    _STATES[model.model] = state
    model.model.requires_grad_(False)
    return model.eval()


def check(model: ImageModelDescriptor) -> None:
    """Raise ValueError for a model of another architecture."""
    if model.architecture.id != ARCHITECTURE:
        raise ValueError(
            f"The model is of architecture {model.architecture.name}; this node works on AetherNet models only."
        )


def network(model: ImageModelDescriptor) -> arch.Upscaler:
    """A float32 copy of an AetherNet on the CPU, with the weights that it was loaded with.

    Raises ValueError for another architecture, and where FP16 has rounded the weights.
    """
    check(model)
    net = _copy(model)
    if model.model in _STATES:
        known = net.state_dict().keys()
        net.load_state_dict({k: v for k, v in _STATES[model.model].items() if k in known})
    elif model.dtype != torch.float32:
        raise ValueError(
            f"The model is held in {str(model.dtype).removeprefix('torch.')}, so its weights are rounded: load it with"
            " AetherNet's Load Model, or switch FP16 off in the settings of PyTorch."
        )
    return net


def _copy(model: ImageModelDescriptor) -> arch.Upscaler:
    net = copy.deepcopy(model.model)
    assert isinstance(net, arch.Upscaler)
    return net.cpu().float().eval()


def state(model: ImageModelDescriptor) -> dict[str, Tensor]:
    """The state dict of a model, with the ranges of quantisation-aware training if it was loaded with them."""
    if model.model in _STATES:
        return dict(_STATES[model.model])
    if "QAT" in model.tags:
        raise ValueError(
            "The model was trained for INT8, but the ranges were lost on the way: load it with AetherNet's Load Model."
        )
    return dict(model.model.state_dict())


def runner(model: ImageModelDescriptor, settings: PyTorchSettings) -> Run:
    """The function that runs a model on the device of the settings; FP16 only where the model supports it."""
    dtype = torch.float16 if settings.use_fp16 and model.supports_half else torch.float32
    if model.device != settings.device or model.dtype != dtype:
        model.to(settings.device, dtype)

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(batch).to(model.device, model.dtype)).float().cpu().numpy()

    return run


def fitting_pixels(model: ImageModelDescriptor, settings: PyTorchSettings) -> float:
    """How many input pixels fit into the memory that chaiNNer's nodes would use."""
    if settings.device.type == "cuda":
        memory = torch.cuda.mem_get_info(settings.device)[1] * 0.6
    elif settings.device.type == "cpu":
        memory = psutil.virtual_memory().available * 0.8
    else:
        return float("inf")
    if settings.budget_limit > 0:
        memory = min(memory, settings.budget_limit * 1024**3 * 0.8)
    return memory / _bytes_per_pixel(model)


def _bytes_per_pixel(model: ImageModelDescriptor) -> int:
    """Bytes that activations take per input pixel, from the largest output of any layer of the fused network."""
    if model.model not in _VALUES:
        fused, sizes = arch.fuse(_copy(model)), [0]
        for layer in fused.modules():
            layer.register_forward_hook(lambda _, __, out: sizes.append(out.numel()))
        with torch.inference_mode():
            fused(torch.zeros(1, model.input_channels, PROBE, PROBE))
        _VALUES[model.model] = LIVE * max(sizes) // PROBE**2
    return _VALUES[model.model] * model.dtype.itemsize
