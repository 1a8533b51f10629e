"""One line and an exit code for what goes wrong; the version from one place."""

import configparser
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from arch import CheckpointError
from presets import version as versions
from presets.command import run_command
from training.errors import TrainingError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CheckpointError("net.pth: not\na checkpoint"), 1, "net.pth: not a checkpoint"),
        (TrainingError("no more room"), 1, "no more room"),
        (FileNotFoundError(2, "No such file", "a.png"), 1, "a.png: No such file"),
        (OSError("odd"), 1, "odd"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 1, "x is not installed"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_goes_wrong_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("export.x", Mock(side_effect=error)) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("export.x: ") and said in captured.err


def test_defects_keep_their_traceback_and_results_their_code() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command("x", lambda: 1 // 0)
    assert [run_command("x", command) for command in (lambda: None, lambda: 3)] == [0, 3]


def test_the_version_is_that_of_setup_cfg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Here; what is installed where there is no checkout; and no guess in a copy."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert versions.version() == setup["metadata"]["version"]
    (tmp_path / "presets").mkdir()
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "presets" / "version.py"))
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = another\nversion = 9\n")
    monkeypatch.setattr(importlib.metadata, "version", {"aethernet": "1.2"}.__getitem__)
    assert versions.version.__wrapped__() == "1.2"
    monkeypatch.setattr(importlib.metadata, "version", Mock(side_effect=importlib.metadata.PackageNotFoundError))
    assert versions.version.__wrapped__() == "unknown"


@pytest.mark.parametrize("module", ["vsaether.cli", "export.build", "chainner_nodes"])
def test_commands_say_the_version(module: str) -> None:
    command = [sys.executable, "-m", module, "--version"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out == f"AetherNet {versions.version()}\n"
