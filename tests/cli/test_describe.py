"""``vsaether engines``, ``vsaether info`` and ``vsaether demo``."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vsaether.cli import main
from vsaether.media.images import read_image
from vsaether.report.demo import bundled_clip

from .conftest import read


def test_engines_lists_engines_and_backends(capsys: pytest.CaptureFixture[str], presets_dir: Path) -> None:
    """Every preset with its precision, and every backend with its state."""
    import presets

    assert main(["engines"]) == 0
    out = capsys.readouterr().out
    for name in presets.names():
        assert f"{name}_fp32" in out
    assert presets_dir.is_dir()


def test_one_damaged_preset_is_told_among_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, presets_dir: Path, tmp_path: Path
) -> None:
    """Its row says what is wrong with it; the others are listed, and can be used."""
    import presets
    import vsaether

    whole, cut, other = presets.names()[:3]
    for name in (whole, cut, other):
        shutil.copytree(presets_dir / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    for path in (tmp_path / cut).glob("*int8*.onnx"):
        path.write_bytes(path.read_bytes()[:-100])
    (tmp_path / other / "preset.json").write_text("{")
    monkeypatch.setattr(presets, "DIR", tmp_path)
    assert main(["engines"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "is damaged" in rows[f"{cut}_int8"]
    assert "is damaged" not in rows[f"{cut}_fp32"] + rows[f"{whole}_int8"]
    assert "preset.json" in rows[f"{other}_int8"]
    assert vsaether.engines.resolve(f"{whole}_int8").precision == "int8"
    with pytest.raises(vsaether.EngineError, match="reinstall"):
        vsaether.engines.resolve(f"{other}_fp32")


def test_backends_which_cannot_run_are_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason stands beside the name."""
    import vsaether

    monkeypatch.setattr(vsaether.backends, "probe", lambda: {"ov": None, "ort": None, "trt": "no GPU"})
    note = classmethod(lambda _, precision: "int8 is slow" if precision == "int8" else None)
    monkeypatch.setattr(vsaether.backends.OpenVINO, "note", note)
    assert main(["engines"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "ov ready; int8 is slow" in lines
    assert "ort ready" in lines
    assert "trt not available: no GPU" in lines


def test_info_of_an_engine(capfd: pytest.CaptureFixture[str], make_engine) -> None:  # noqa: ANN001
    """Metadata, precision, quantisation and interface."""
    path = make_engine(precision="int8")
    assert main(["info", str(path)]) == 0
    lines = [" ".join(line.split()) for line in capfd.readouterr().out.splitlines()]
    assert "engine toy_2x_int8" in lines
    assert "receptive radius 3 pixels" in lines
    assert "quantised 2 Q, 4 DQ" in lines
    assert "input input float32 (batch, 3, h, w)" in lines


def test_info_of_a_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Variant, scale and size."""
    arch = pytest.importorskip("arch")
    path = tmp_path / "tiny.safetensors"
    arch.write_checkpoint(arch.aether_tiny(scale=2).state_dict(), path)
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "aether_tiny" in out
    assert "parameters" in out


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


@pytest.mark.parametrize(
    ("name", "reason"), [("none.onnx", "does not exist"), ("x.txt", "neither"), ("x.onnx", "ONNX")]
)
def test_info_of_other_files(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, reason: str) -> None:
    """One line."""
    if name.startswith("x"):
        (tmp_path / name).write_text("x")
    assert main(["info", str(tmp_path / name)]) == 1
    err = capsys.readouterr().err
    assert reason in err
    assert len(err.splitlines()) == 1


def test_demo(capfd: pytest.CaptureFixture[str], tmp_path: Path, identity_engine: str) -> None:
    """The video, with its sound, and the comparison picture are written, again if asked again."""
    for _ in range(2):
        arguments = ["demo", "--output", str(tmp_path / "demo"), "--engine", identity_engine, "--limit", "4"]
        assert main(arguments) == 0
        out = capfd.readouterr().out
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "big_buck_bunny_upscaled.mp4",
        "comparison.png",
    ]
    assert "comparison.png" in out
    after = read(tmp_path / "demo" / "big_buck_bunny_upscaled.mp4")
    assert (len(after.times), after.size) == (4, (852, 480))
    assert after.packets[1]
    picture = read_image(tmp_path / "demo" / "comparison.png").to_ndarray(format="rgb24").astype(int)
    left, right = picture[60:, :720], picture[60:, 720:]
    assert picture.shape == (540, 1440, 3)
    assert 1 < abs(left - right).mean() < 20


def test_the_bundled_clip_is_small_and_licensed() -> None:
    """Under 3 MB, with its source and licence beside it."""
    with bundled_clip() as clip:
        assert clip.stat().st_size < 3_000_000
        text = (clip.parent / "LICENCE.txt").read_text()
    assert clip.name in text
    assert "Creative Commons Attribution 3.0" in text
