"""Lets trainers that insist on CUDA run on the CPU, for tests only: torch.cuda answers, and "cuda" means the CPU."""

import contextlib
import types
from typing import Any
from unittest.mock import Mock

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def cpu(device: Any) -> Any:
    """A device, with cuda replaced by the CPU; anything else as it is."""
    if isinstance(device, torch.device) and device.type == "cuda":
        return torch.device("cpu")
    return "cpu" if isinstance(device, str) and device.startswith("cuda") else device


class _CpuMode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.pin_memory:
            return args[0]
        kwargs = {k: cpu(v) if k == "device" else v for k, v in (kwargs or {}).items() if k != "pin_memory"}
        return func(*[cpu(a) for a in args], **kwargs)


def install() -> None:
    """Replace what the trainers use of torch.cuda, for the rest of this process."""
    import torch._dynamo
    import torch._inductor.utils

    cuda: Any = torch.cuda
    cuda.is_available = lambda: True
    cuda.device_count = lambda: 1
    cuda.current_device = lambda: 0
    cuda.get_device_name = lambda *_: "no GPU (test)"
    cuda.get_device_capability = lambda *_: (8, 0)
    cuda.get_device_properties = lambda *_: types.SimpleNamespace(
        name="no GPU (test)", total_memory=1 << 30, major=8, minor=0, multi_processor_count=0
    )
    cuda.set_per_process_memory_fraction = lambda *_, **__: None
    cuda.max_memory_allocated = lambda *_: 0
    cuda.is_bf16_supported = lambda *_, **__: True
    cuda.empty_cache = lambda: None
    cuda.manual_seed = cuda.manual_seed_all = lambda _seed: None
    cuda.Stream = Mock
    cuda.current_stream = lambda *_: Mock()
    cuda.stream = lambda _stream: contextlib.nullcontext()

    changed: Any = torch
    changed.set_default_device = lambda _device: None
    for owner, name in ((torch, "load"), (nn.Module, "to")):
        setattr(owner, name, _translated(getattr(owner, name)))
    torch.optim.Optimizer._accelerator_graph_capture_health_check = lambda self: None
    changed.Generator = _translated(torch.Generator)
    nn.Module.cuda = lambda self, *_, **__: self  # pyright: ignore[reportAttributeAccessIssue]

    autocast, scaler = torch.autocast, torch.amp.GradScaler  # pyright: ignore[reportPrivateImportUsage]

    class Autocast(autocast):
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(cpu(device_type), *args, **kwargs)

    class Scaler(scaler):
        def __init__(self, device: str = "cuda", *args: Any, **kwargs: Any) -> None:
            super().__init__(cpu(device), *args, **kwargs)

    changed.autocast = torch.amp.autocast = Autocast  # pyright: ignore[reportPrivateImportUsage]
    changed.amp.GradScaler = changed.amp.grad_scaler.GradScaler = Scaler
    _CpuMode().__enter__()


def _translated(function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*[cpu(a) for a in args], **{k: cpu(v) for k, v in kwargs.items()})

    return call
