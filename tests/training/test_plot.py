"""Plots of training curves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from training import plot

from .conftest import Run

HEADER = "step,loss,psnr_y,seconds_per_step\n"


def test_the_curves_of_a_run_are_drawn(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    assert run("net") == 0
    assert run("net", "--stage", "qat") == 0
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "curve_float.csv").write_text(f"{HEADER}2,0.5,nan,0.1\n4,0.25,nan,0.1\n")
    drawn, save = [], figure.Figure.savefig

    def watched(self: object, *args: object, **options: object) -> None:
        drawn.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(figure.Figure, "savefig", watched)
    out = tmp_path / "curves.png"
    assert plot.main([str(tmp_path / "net"), str(tmp_path / "blind"), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    above, below = drawn[0].axes
    written = [float(line.split(",")[2]) for line in (tmp_path / "net" / "curve_float.csv").read_text().split()[1:]]
    assert list(above.lines[0].get_xdata()) == [2, 4, 6]
    assert list(above.lines[0].get_ydata()) == written
    assert [line.get_label() for line in above.lines] == ["net float", "net qat"]
    assert [line.get_label() for line in below.lines] == ["net float", "net qat", "blind float"]
    assert list(below.lines[2].get_ydata()) == [0.5, 0.25]
    assert [p.name for p in tmp_path.glob("*curves*")] == ["curves.png"]  # and nothing temporary


def test_what_cannot_be_plotted_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, curve = tmp_path / "curves.png", tmp_path / "curve_float.csv"

    def message(out: Path = out) -> str:
        assert plot.main([str(tmp_path), "--out", str(out)]) == 1
        assert not out.exists()
        return capsys.readouterr().err

    assert "no curve yet" in message()
    curve.write_text(HEADER)
    assert "no curve yet" in message()
    curve.write_text("a,b\n1,2\n")
    assert "is no curve of training.train" in message()
    curve.write_text(f"{HEADER}2,0.5\n")
    assert "is no curve of training.train" in message()
    curve.write_text(f"{HEADER}2,0.5,nan,0.1\n")
    assert "allowed are .png, .svg, .pdf" in message(tmp_path / "curves.txt")
    assert "No such file" in message(tmp_path / "nowhere" / "curves.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install matplotlib" in message()
