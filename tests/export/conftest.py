"""Small networks with weights that do something, pictures, and graphs that are made once."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import arch
from export import pictures, pipeline, runtimes
from export.graph import to_onnx
from export.quantizer import calibrate, quantize

ToOnnx = Callable[..., onnx.ModelProto]


def _wake(model: nn.Module) -> nn.Module:
    """Give every zero or constant tensor random values, so that nothing in the network is an identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running_var" in name:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point() and value.ndim and "window" not in name:
                value.add_(0.02 * torch.randn(value.shape, generator=generator))
    return model.eval()


torch.set_num_threads(1)  # these networks are too small for more


@pytest.fixture(scope="session")
def tiny() -> arch.AetherTiny:
    """An aether_tiny of 4 layers and 16 channels, as trained."""
    torch.manual_seed(0)
    model = _wake(arch.aether_tiny(2, embed_dim=16, depth=4, border=2))
    assert isinstance(model, arch.AetherTiny)
    return model


@pytest.fixture(scope="session")
def small() -> arch.AetherNet:
    """A shallow net of small_2x's form: batch norm, ReLU gate, 5x5 deployed kernel, image residual, direct tail."""
    torch.manual_seed(0)
    model = arch.AetherNet(
        3, 16, (1, 1), norm="batch", gate="relu", deployed_kernel=5, image_residual=True, tail="direct", border=3
    )
    model.anneal(0.0)
    _wake(model)
    return model


@pytest.fixture(scope="session")
def public() -> arch.AetherNet:
    """A shallow net of the public form: layer norm, GELU gate, 11x11 kernel, convolutional tail."""
    torch.manual_seed(0)
    model = arch.AetherNet(3, 16, (1, 1))
    _wake(model)
    return model


@pytest.fixture(scope="session")
def later() -> nn.Module:
    """A shallow net of the later layout, with spatial attention, whose fused features have a range of several units."""
    torch.manual_seed(0)
    model = arch.AetherNetLaterConfig(16, (1, 1, 1), 24, 5, 3, spatial_attention=True).build()
    _wake(model)
    with torch.no_grad():
        for conv in model.get_submodule("fusion_convs").children():
            assert isinstance(conv, nn.Conv2d)
            conv.weight.mul_(4)
    return model


@pytest.fixture(scope="session")
def images() -> list[Tensor]:
    """Three LR images (1, 3, 48, 48) in [0, 1]."""
    return [lr[:, :, :48, :48].contiguous() for lr, _ in pictures.evaluation(2, 3)[:3]]


def calibrated(net: nn.Module, images: list[Tensor], **options: Any) -> nn.Module:
    """The fused network, quantised, with the ranges of these images."""
    model = quantize(arch.fuse(net), **options)
    calibrate(model, images)
    return model


def report_of(out: Path) -> dict[str, Any]:
    """What report.json says of the one network of a folder."""
    (report,) = json.loads((out / "report.json").read_text())["models"]
    return report


@pytest.fixture(scope="session")
def export_once() -> ToOnnx:
    """`to_onnx`, of which every result is kept: the same model gives the same bytes, after seconds of torch's."""
    made: dict[str, onnx.ModelProto] = {}

    def export(model: nn.Module, **options: Any) -> onnx.ModelProto:
        digest = hashlib.sha256(f"{model}{options}{getattr(model, 'config', None)}".encode())
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        if (key := digest.hexdigest()) not in made:
            made[key] = to_onnx(model, **options)
        return copy.deepcopy(made[key])

    return export


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, export_once: ToOnnx) -> Iterator[None]:
    """Three small pictures in place of the bundled ones, every graph made once, and nothing timed."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in sorted(pictures.BUNDLED.glob("photo_*.webp"))[:3]:
        Image.open(path).crop((0, 0, 96, 96)).save(folder / path.name, lossless=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "BUNDLED", folder)
        patch.setattr(runtimes, "milliseconds", lambda *_: 1.0)
        patch.setattr(pipeline, "to_onnx", export_once)
        yield


@pytest.fixture(scope="session")
def checkpoint(tiny: arch.AetherTiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny's file, to be read."""
    path = tmp_path_factory.mktemp("checkpoint") / "net.safetensors"
    arch.write_checkpoint(tiny.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def other(tiny: arch.AetherTiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the same form with other weights."""
    path = tmp_path_factory.mktemp("other") / "other.pth"
    arch.write_checkpoint({k: v * 1.01 if v.is_floating_point() else v for k, v in tiny.state_dict().items()}, path)
    return path
