"""docs/develop/add-a-network.md is true: its network goes from a trainer's file to a picture out of the filter."""

import dataclasses
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from spandrel import ModelLoader

import arch
from arch import registry
from export import build, ranges

from ..vsaether.conftest import python

PAGE = Path(__file__).resolve().parents[2] / "docs" / "develop" / "add-a-network.md"
COLOUR = (0.2, 0.5, 0.7)
FILTER = """
import vsaether
clip = vs.core.std.BlankClip(format=vs.RGBS, width=24, height=20, length=1, color={colour})
frame = vsaether.upscale(clip, sys.argv[1], backend="ov").get_frame(0)
print(frame.width, frame.height, *(frame[plane][20, 24] for plane in range(3)))
"""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> arch.Upscaler:
    """The page's network with random weights, registered by one row."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module: Any = ModuleType("toy_network")
    monkeypatch.setitem(sys.modules, "toy_network", module)
    exec(compile(code, PAGE, "exec"), module.__dict__)
    monkeypatch.setattr(registry, "NETWORKS", (*registry.NETWORKS, module.ToyConfig))
    torch.manual_seed(0)
    return module.ToyConfig(embed_dim=16, depth=2).build().eval()


def test_it_is_found_loaded_and_fused(toy: arch.Upscaler, tmp_path: Path) -> None:
    wrapped = {"epoch": 3, "params_ema": {f"module.{k}": v for k, v in toy.state_dict().items()}}
    torch.save(wrapped, tmp_path / "toy.pth")
    loaded = arch.load(tmp_path / "toy.pth")
    image = torch.rand(1, 3, 9, 7)
    fused = arch.fuse(loaded)
    with torch.inference_mode():
        assert torch.equal(loaded(image), toy(image))
        assert (fused(image) - toy(image)).abs().max() <= 1e-5
    assert arch.inspect(fused.state_dict()) == fused.config == dataclasses.replace(toy.config, fused="full")
    arch.install(ignore_duplicates=True)
    descriptor = ModelLoader().load_from_file(tmp_path / "toy.pth")
    assert (descriptor.architecture.id, descriptor.tags) == ("AetherNet", ["toy", "16nf", "2nb"])


def test_ranges_learnt_elsewhere_are_kept(toy: arch.Upscaler) -> None:
    learnt = {"head": 1.0, "trunk.0.large": 2.0, "trunk.0.small": 3.0, "trunk.1.large": 4.0}
    state = toy.state_dict() | {f"{k}.input_quantizer._amax": torch.tensor(v) for k, v in learnt.items()}
    convs = dict(ranges.quant_convs(ranges.load_quantized(state)))
    found = {name: float(conv.input_quantizer._amax) for name, conv in convs.items()}
    assert found == {"head": 1.0, "trunk.0": 3.0, "trunk.1": 4.0}


def test_its_int8_engine_runs_in_the_filter(toy: arch.Upscaler, tmp_path: Path) -> None:
    arch.write_checkpoint(toy.state_dict(), tmp_path / "toy.safetensors")
    report = build(tmp_path / "toy.safetensors", tmp_path / "out", precisions=["int8"])
    ((file, facts),) = ((f, e) for f, e in report["files"].items() if e["kind"] == "int8")
    assert (report["name"], report["receptive_radius"]) == ("toy_2x", 4)
    assert list(facts["float_convolutions"]) == ["tail"]
    done = python(FILTER.format(colour=COLOUR), tmp_path / "out" / file)  # the filter has an OpenVINO of its own
    assert done.returncode == 0, done.stderr
    width, height, *colour = (float(word) for word in done.stdout.split())
    assert (width, height) == (48, 40)
    with torch.inference_mode():
        flat = torch.tensor(COLOUR).view(1, 3, 1, 1).expand(1, 3, 20, 24)
        expected = toy(flat)[0, :, 20, 24]
    assert colour == pytest.approx(expected.tolist(), abs=0.02)
    assert max(colour) - min(colour) > 0.05
