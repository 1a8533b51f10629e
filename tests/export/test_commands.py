"""The commands: bad input is one line and leaves nothing; and the package's functions."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from onnx import load
from torch import Tensor

import arch
import export
from export import fuse, onnx, runtimes, verify
from export.build import build
from export.build.__main__ import main

from .. import nets
from .conftest import calibrated

pytestmark = pytest.mark.usefixtures("quick")
REFUSED = [  # in words in capitals, files and folders of the test's
    (["--model", "MISSING"], "no such file"),
    (["--model", "nosuchpreset"], "no preset"),
    (["--model", "FOREIGN"], "not an AetherNet checkpoint"),
    (["--model", "FOUR"], "4 channels"),
    (["--model", "CHECKPOINT", "--opset", "16"], "18 to 21"),
    (["--model", "CHECKPOINT", "--calibration", "EMPTY"], "no image in this folder"),
    (["--model", "CHECKPOINT", "--calibration", "MISSING"], "no such folder"),
    (["--model", "CHECKPOINT", "--qat", "CHECKPOINT"], "holds no ranges"),
    (["--model", "CHECKPOINT", "--qat", "DEEPER"], "another network than"),
    (["--model", "CHECKPOINT", "--out", "FOREIGN"], "cannot be made"),
]


def test_bad_input_is_one_line_and_leaves_nothing(
    checkpoint: Path, images: list[Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = {
        "FOREIGN": {"some.weight": torch.zeros(3)},
        "FOUR": nets.tiny(in_chans=4).build().state_dict(),
        "DEEPER": calibrated(nets.tiny(depth=6).build(), images[:1]).state_dict(),
    }
    names = {name: str(tmp_path / f"{name.lower()}.pth") for name in [*states, "MISSING"]}
    for name, state in states.items():
        arch.write_checkpoint(state, names[name])
    (tmp_path / "empty").mkdir()
    names |= {"CHECKPOINT": str(checkpoint), "EMPTY": str(tmp_path / "empty"), "NEW": str(tmp_path / "net.onnx")}
    before = sorted(tmp_path.rglob("*"))
    for command, (words, message) in [*((main, row) for row in REFUSED), (onnx.main, (["FOUR", "NEW"], "4 channels"))]:
        arguments = [names.get(word, word) for word in words]
        out = ["--out", str(tmp_path / "out")] if command is main else []
        assert command([*out, *arguments]) == 1, words
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert sorted(p for p in tmp_path.rglob("*") if p.name != "out") == before, words


def test_commands_and_functions(checkpoint: Path, tiny: arch.Upscaler, images: list[Tensor], tmp_path: Path) -> None:
    assert fuse.main([str(checkpoint), str(tmp_path / "fused.pth")]) == 0
    assert torch.allclose(arch.load(tmp_path / "fused.pth")(images[0]), tiny(images[0]), atol=1e-5)
    target = tmp_path / "net.onnx"
    assert onnx.main([str(checkpoint), str(target), "--fp16", "--opset", "18", "--static", "48x48"]) == 0
    assert runtimes.load(target.read_bytes(), "ort")(images[0].numpy()).shape == (1, 3, 96, 96)
    assert export.build is build, "the function, though a package of that name is behind it"
    export.export_onnx(checkpoint, tmp_path / "other.onnx", static=(16, 24))
    dims = load(tmp_path / "other.onnx").graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [1, 3, 32, 48]


def test_an_existing_file_is_not_replaced(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command, target in ((fuse.main, tmp_path / "fused.pth"), (onnx.main, tmp_path / "net.onnx")):
        target.write_bytes(b"mine")
        assert command([str(checkpoint), str(target)]) == 1
        assert "--overwrite" in capsys.readouterr().err
        assert target.read_bytes() == b"mine"
        assert command([str(checkpoint), str(target), "--overwrite"]) == 0
        assert (made := target.read_bytes()) != b"mine"
    monkeypatch.setitem(verify.TOLERANCE, "fp32", -1.0)  # nor by one that fails its check
    assert onnx.main([str(checkpoint), str(target), "--overwrite"]) == 1
    assert target.read_bytes() == made and not list(tmp_path.glob(".*"))


def test_what_training_imports_needs_torch_alone() -> None:
    code = (
        "import sys; import export.metrics; from export import quantize, calibrate, quantizer; "
        "print([m for m in ('onnx', 'onnxscript', 'onnxruntime', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["export.build", "export.onnx", "export.fuse"])
def test_commands_start_without_a_warning(module: str) -> None:
    command = [sys.executable, "-W", "error", "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
