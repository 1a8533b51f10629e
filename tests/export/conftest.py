"""Small networks with weights that do something, pictures, and graphs that are made once."""

import copy
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
from arch.checkpoint import weights_sha256
from export import pictures, pipeline, runtimes
from export.graph import to_onnx
from export.quantizer import calibrate, quantize

from .. import nets

ToOnnx = Callable[..., onnx.ModelProto]


torch.set_num_threads(1)  # these networks are too small for more


def built(config: arch.Config) -> arch.Upscaler:
    torch.manual_seed(0)
    return nets.built(config)


@pytest.fixture(scope="session")
def tiny() -> arch.Upscaler:
    """An aether_tiny of 4 layers and 16 channels, as trained."""
    return built(nets.tiny(embed_dim=16, border=2))


@pytest.fixture(scope="session")
def small() -> arch.Upscaler:
    """A shallow net of small_2x's form: batch norm, ReLU gate, 5x5 deployed kernel, image residual, direct tail."""
    form = {"norm": "batch", "gate": "relu", "deployed_kernel": 5, "image_residual": True, "tail": "direct"}
    return built(nets.net(embed_dim=16, depths=(1, 1), hidden=32, lk_kernel=11, border=3, **form))


@pytest.fixture(scope="session")
def public() -> arch.Upscaler:
    """A shallow net of the public form: layer norm, GELU gate, 11x11 kernel, convolutional tail."""
    return built(nets.net(embed_dim=16, depths=(1, 1), hidden=32, lk_kernel=11))


@pytest.fixture(scope="session")
def later() -> arch.Upscaler:
    """A shallow net of the later layout, with spatial attention, whose fused features have a range of several units."""
    model = built(nets.later(embed_dim=16, depths=(1, 1, 1), spatial_attention=True))
    for key, value in model.state_dict().items():
        if key.startswith("fusion_convs."):
            value.mul_(4)
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
        key = f"{weights_sha256(model.state_dict())} {model} {options} {getattr(model, 'config', None)}"
        if key not in made:
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
def checkpoint(tiny: arch.Upscaler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny's file, to be read."""
    path = tmp_path_factory.mktemp("checkpoint") / "net.safetensors"
    arch.write_checkpoint(tiny.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def other(tiny: arch.Upscaler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the same form with other weights."""
    path = tmp_path_factory.mktemp("other") / "other.pth"
    arch.write_checkpoint({k: v * 1.01 if v.is_floating_point() else v for k, v in tiny.state_dict().items()}, path)
    return path
