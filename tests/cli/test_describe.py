"""``vsaether engines``, ``vsaether info`` and ``vsaether demo``."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import presets
import vsaether
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
    printed: Printed, monkeypatch: pytest.MonkeyPatch, presets_dir: Path, tmp_path: Path
) -> None:
    """Its row says what is wrong with it; the others are listed, and can be used."""
    listed = [line.split()[0] for line in printed("engines")]
    assert {f"{name}_fp32" for name in presets.names()} <= set(listed)
    whole, cut, other = presets.names()[:3]
    for name in (whole, cut, other):
        shutil.copytree(presets_dir / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    for path in (tmp_path / cut).glob("*int8*.onnx"):
        path.write_bytes(path.read_bytes()[:-100])
    (tmp_path / other / "preset.json").write_text("{")
    monkeypatch.setattr(presets, "DIR", tmp_path)
    rows = {line.split()[0]: line for line in printed("engines")}
    assert "is damaged" in rows[f"{cut}_int8"]
    assert "is damaged" not in rows[f"{cut}_fp32"] + rows[f"{whole}_int8"]
    assert "preset.json" in rows[f"{other}_int8"]
    assert vsaether.engines.resolve(f"{whole}_int8").precision == "int8"
    with pytest.raises(vsaether.EngineError, match="reinstall"):
        vsaether.engines.resolve(f"{other}_fp32")


def test_backends_which_cannot_run_are_explained(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason stands beside the name."""
    monkeypatch.setattr(vsaether.backends, "probe", lambda: {"ov": None, "ort": None, "trt": "no GPU"})
    note = classmethod(lambda _, precision: "int8 is slow" if precision == "int8" else None)
    monkeypatch.setattr(vsaether.backends.OpenVINO, "note", note)
    assert {"ov ready; int8 is slow", "ort ready", "trt not available: no GPU"} <= set(printed("engines"))


def test_info_of_an_engine(printed: Printed, make_engine: MakeEngine) -> None:
    """Metadata, precision, quantisation and interface."""
    told = {"engine toy_2x_int8", "receptive radius 3 pixels", "quantised 2 Q, 4 DQ"}
    told.add("input input float32 (batch, 3, h, w)")
    assert told <= set(printed("info", make_engine(precision="int8")))


def test_info_of_a_checkpoint(printed: Printed, tmp_path: Path) -> None:
    arch = pytest.importorskip("arch")
    path = tmp_path / "tiny.safetensors"
    arch.write_checkpoint(arch.aether_tiny(scale=2).state_dict(), path)
    out = "\n".join(printed("info", path))
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
