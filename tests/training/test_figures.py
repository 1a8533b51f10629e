"""The measured figures: kept beside those that were there, and shown only where every engine has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import presets
from benchmarks import quality, report
from export.errors import ExportError

FIGURES = {"psnr": 37.0, "ssim": 0.95, "images": 5}
SPEED = {"networks": {}, "size": "480x270", "machine": {"cores": 2, "cpu": "CPU", "int8 instructions": "none"}}


def test_another_benchmark_is_kept_beside_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny_2x").mkdir()
    (tmp_path / "tiny_2x" / "preset.json").write_text(json.dumps({"measured": {}}))
    monkeypatch.setattr(presets, "DIR", tmp_path)
    better = FIGURES | {"psnr": 38.0}
    quality.keep({"tiny_2x_int8": {"Set5": FIGURES, "Set14": FIGURES}})
    quality.keep({"tiny_2x_int8": {"Set5": better}, "bicubic": {"Set5": FIGURES}})
    assert presets.load("tiny_2x")["measured"] == {"int8": {"Set5": better, "Set14": FIGURES}}


def test_the_table_needs_the_same_benchmarks_of_all() -> None:
    measured = {"tiny_2x": {"measured": {"int8": {"Set5": FIGURES, "Set14": FIGURES}, "fp32": {"Set5": FIGURES}}}}
    with pytest.raises(ExportError, match="tiny_2x_fp32 has not been measured on Set14"):
        report.table(measured, SPEED)
    measured["tiny_2x"]["measured"]["fp32"]["Set14"] = FIGURES
    assert "| tiny_2x_fp32 | 37.00 / 0.9500 | 37.00 / 0.9500 |  |" in report.table(measured, SPEED)


def test_rows_without_a_time_are_in_the_order_of_their_names() -> None:
    names = [f"{letter}_2x" for letter in "hcfadgbe"]
    figures = report.table({n: {"measured": {"fp32": {"Set5": FIGURES}}} for n in names}, SPEED)
    rows = [line.split()[1] for line in figures.splitlines() if "_fp32" in line]
    assert rows == [f"{n}_fp32" for n in sorted(names)]
