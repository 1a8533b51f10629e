"""The preset look-up: names, paths, and bytes that are the released ones."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import presets
from presets import PresetError


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only preset is toy_2x, of an fp32 and an int8 file and one checkpoint."""
    folder, kinds = tmp_path / "toy_2x", ("int8", "fused", "fp32")
    folder.mkdir()
    for kind in kinds:
        (folder / kind).write_bytes(kind.encode())
    presets.save_in(folder, {"files": {kind: presets.describe(folder / kind) for kind in kinds}})
    monkeypatch.setattr(presets, "DIR", tmp_path)
    return folder


def test_files_are_found_by_name_and_kind(toy: Path) -> None:
    """What there is not is said with what there is."""
    assert presets.names() == ["toy_2x"]
    assert presets.engines() == ["toy_2x_fp32", "toy_2x_int8"]
    assert presets.path("toy_2x", "fused") == toy / "fused"
    assert presets.read(*presets.split("toy_2x_int8")) == b"int8"
    with pytest.raises(PresetError, match=r"'nonsense'.*toy_2x"):
        presets.load("nonsense")
    with pytest.raises(PresetError, match=r"'fp16'.*int8, fused, fp32"):
        presets.read("toy_2x", "fp16")


def test_damaged_files_are_never_returned(toy: Path) -> None:
    (toy / "int8").write_bytes(b"int9")
    with pytest.raises(PresetError, match=r"int8 .*SHA-256"):
        presets.read("toy_2x", "int8")
    (toy / "int8").unlink()
    with pytest.raises(PresetError, match="cannot be read"):
        presets.read("toy_2x", "int8")
    assert presets.read("toy_2x", "fp32") == b"fp32"


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"int8": {"file": "int8"}}}', '{"files": 3}'])
def test_a_damaged_description_is_said_and_its_engines_stay_listed(toy: Path, text: str) -> None:
    (toy / "preset.json").write_text(text)
    with pytest.raises(PresetError, match=r"description.*preset\.json.*reinstall"):
        presets.read("toy_2x", "int8")
    assert presets.engines() == ["toy_2x_fp32", "toy_2x_fp16", "toy_2x_int8"]


def test_the_base_needs_nothing_but_python(tmp_path: Path) -> None:
    """Errors, names and files: in a folder of its own, without any site package."""
    source = Path(presets.__file__).parent
    (tmp_path / "presets").mkdir()
    for file in source.glob("*.py"):
        shutil.copy(file, tmp_path / "presets")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import presets.errors; print(presets.names())"
    done = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
