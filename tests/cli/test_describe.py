"""``vsaether engines``, ``info``, ``demo`` and ``build``, and the rules that a graph has to keep for TensorRT."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import presets
from presets.tensorrt import half_around_int8
from vsaether import backends, engines
from vsaether.backends import TensorRT, TensorRTRTX, lint
from vsaether.cli import main
from vsaether.media.images import read_image
from vsaether.report.demo import bundled_clip

from ..conftest import MakeEngine
from .conftest import read

Printed = Callable[..., list[str]]


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Printed:
    """The lines that a command prints which succeeds, each with single spaces."""

    def call(*arguments: object) -> list[str]:
        assert main([str(each) for each in arguments]) == 0
        return [" ".join(line.split()) for line in capfd.readouterr().out.splitlines() if line]

    return call


def test_one_damaged_preset_is_told_among_the_others(
    printed: Printed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its row says what is wrong with it; the others are listed, and can be used."""
    listed = [line.split()[0] for line in printed("engines")]
    assert {f"{name}_fp32" for name in presets.names()} <= set(listed)
    whole, cut, other = presets.names()[:3]
    for name in (whole, cut, other):
        shutil.copytree(presets.DIR / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    for path in (tmp_path / cut).glob("*int8*.onnx"):
        path.write_bytes(path.read_bytes()[:-100])
    (tmp_path / other / "preset.json").write_text("{")
    monkeypatch.setattr(presets, "DIR", tmp_path)
    rows = {line.split()[0]: line for line in printed("engines")}
    assert "is damaged" in rows[f"{cut}_int8"]
    assert "is damaged" not in rows[f"{cut}_fp32"] + rows[f"{whole}_int8"]
    assert "preset.json" in rows[f"{other}_int8"]
    assert engines.resolve(f"{whole}_int8").precision == "int8"


def test_backends_which_cannot_run_are_explained(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "probe", lambda: {"ov": None, "ort": None, "trt": "no GPU"})
    note = classmethod(lambda _, precision: "int8 is slow" if precision == "int8" else None)
    monkeypatch.setattr(backends.OpenVINO, "note", note)
    assert {"ov ready; int8 is slow", "ort ready", "trt not available: no GPU"} <= set(printed("engines"))


def test_info_of_an_engine_and_of_a_checkpoint(printed: Printed, make_engine: MakeEngine, tmp_path: Path) -> None:
    told = {"engine toy_2x_int8", "receptive radius 3 pixels", "quantised 2 Q, 4 DQ"}
    told.add("input input float32 (batch, 3, h, w)")
    assert told <= set(printed("info", make_engine(precision="int8")))
    arch = pytest.importorskip("arch")
    arch.write_checkpoint(arch.aether_tiny(scale=2).state_dict(), tmp_path / "tiny.safetensors")
    out = "\n".join(printed("info", tmp_path / "tiny.safetensors"))
    assert "aether_tiny" in out and "parameters" in out


def test_info_without_torch_names_the_extra(tmp_path: Path) -> None:
    """Nothing else of the command line needs torch."""
    (tmp_path / "x.safetensors").write_bytes(b"")
    code = (
        "import sys; sys.modules['torch'] = None; from vsaether.cli import main; "
        f"assert main(['engines']) == 0; sys.exit(main(['info', {str(tmp_path / 'x.safetensors')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install "aethernet[export]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_demo(printed: Printed, tmp_path: Path, identity_engine: str) -> None:
    """The video, with its sound, and the comparison picture are written, also a second time; the clip has a licence."""
    video, comparison = tmp_path / "demo" / "big_buck_bunny_upscaled.mp4", tmp_path / "demo" / "comparison.png"
    for _ in range(2):
        out = printed("demo", "--output", tmp_path / "demo", "--engine", identity_engine, "--limit", "2")
    assert set((tmp_path / "demo").iterdir()) == {video, comparison}
    assert "comparison.png" in "".join(out)
    after = read(video)
    assert (len(after.times), after.size) == (2, (852, 480))
    assert after.packets[1]
    picture = read_image(comparison).to_ndarray(format="rgb24").astype(int)
    left, right = picture[60:, :720], picture[60:, 720:]
    assert picture.shape == (540, 1440, 3)
    assert 1 < abs(left - right).mean() < 20
    with bundled_clip() as clip:
        licence = (clip.parent / "LICENCE.txt").read_text()
        assert clip.name in licence and "Creative Commons Attribution 3.0" in licence
        assert clip.stat().st_size < 3_000_000


@pytest.mark.skipif(TensorRTRTX.library() is None, reason="TensorRT did NOT build: tensorrt_rtx is not installed")
def test_an_engine_is_built_into_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public release's command on our int8 file; the log has the layers' types, and stays where a build fails."""
    out = tmp_path / "tiny.engine"
    command = ["build", "tiny_2x_int8", str(out), "--library", "tensorrt-rtx"]
    shapes = ["--minShapes=input:1x3x32x32", "--optShapes=input:1x3x256x256", "--maxShapes=input:16x3x1080x1920"]
    assert main([*command, *shapes]) == 0
    assert out.stat().st_size > 100_000
    said = (tmp_path / "tiny.engine.log").read_text()
    assert "Datatype: Int8" in said
    assert "Datatype: Half" in said  # outside of int8
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.engine", "tiny.engine.log"}
    assert main(command) == 1
    assert "exists" in capsys.readouterr().err
    for path in list(tmp_path.iterdir()):
        path.unlink()
    monkeypatch.setattr(TensorRTRTX.library().Builder, "build_serialized_network", lambda *_: None)  # pyright: ignore
    assert main([*command, *shapes, "--overwrite"]) == 1
    assert f"{out}.log" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.engine.log"]
    assert main([*command, "--overwrite", "--min-shapes", "1x3x64x64", "--opt-shapes", "1x3x32x32"]) == 1
    assert "do not grow" in capsys.readouterr().err


def test_without_the_library_the_commands_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an engine's own file, and of int8 with float16 around it, which is written for them and replaces nothing."""
    monkeypatch.setattr(TensorRT, "library", lambda: None)
    made = tmp_path / "small_fp16_int8.onnx"
    for name, source in (("small_2x_fp16", engines.resolve("small_2x_fp16").path), ("small_2x_int8", made)):
        assert main(["build", name, str(tmp_path / "small.engine"), "--workspace=512", "--tf32", "--any-card"]) == 0
        out = capsys.readouterr().out
        assert out.count("trtexec ") == out.count(f"--onnx={source} ") == 2
        assert ("float16" in out) == (source == made)
        assert "workspace:512M" in out and "ampere+" in out and "noTF32" not in out
    assert list(tmp_path.iterdir()) == [made]
    assert made.read_bytes() == half_around_int8(presets.read("small_2x", "int8"))
    assert engines.resolve(made).precision == "int8"
    assert main(["build", "small_2x_int8", str(tmp_path / "small.engine")]) == 1
    assert "exists" in capsys.readouterr().err
    assert main(["build", str(made), str(made), "--overwrite"]) == 1
    assert "another name" in capsys.readouterr().err


def test_released_engines_keep_the_rules() -> None:
    available = engines.available()
    assert {engine.name: lint.violations(engine.model) for engine in available} == {each.name: [] for each in available}


BROKEN = {
    "unsigned": ("QuantizeLinear", np.array(0, np.uint8)),
    "shifted": ("QuantizeLinear", np.array(3, np.int8)),
    "two_scales": ("QuantizeLinear", np.full(3, 0.1, np.float32)),
    "prelu": ("Relu", np.full((1, 1, 1), 0.1, np.float32)),
    "pad": ("Conv", np.zeros(8, np.int64)),
}
"""Kind of the node that breaks a rule, and the constant that it is given for it."""


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_told_with_its_node(make_engine: MakeEngine, tmp_path: Path, rule: str) -> None:
    kind, constant = BROKEN[rule]
    model, path = onnx.load(make_engine(precision="int8")), tmp_path / "broken.onnx"
    graph = model.graph
    floats = {name for n in graph.node if n.op_type == "DequantizeLinear" for name in n.output}
    node = next(n for n in graph.node if n.op_type == kind and (rule != "pad" or n.input[0] in floats))
    graph.initializer.append(numpy_helper.from_array(constant, rule))
    if rule == "prelu":
        node.op_type = "PRelu"
        node.input.append(rule)
    elif rule == "pad":
        graph.node.append(helper.make_node("Pad", [node.input[0], rule], ["padded"]))
        node.input[0] = "padded"
    else:
        node.input[1 if rule == "two_scales" else 2] = rule
    violations = lint.violations(model.SerializeToString())
    assert any(line.startswith(f"node {node.name or node.output[0]}: ") for line in violations)
    onnx.save(model, path)
    assert main(["build", str(path), str(tmp_path / "out.engine")]) == 1
    assert not (tmp_path / "out.engine").exists()
