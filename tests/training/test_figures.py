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
    (tmp_path / "tiny_2x" / "preset.json").write_text(json.dumps({"files": {}, "measured": {}}))
    monkeypatch.setattr(presets, "DIR", tmp_path)
    better = FIGURES | {"psnr": 38.0}
    quality.write_presets({"tiny_2x_int8": {"Set5": FIGURES, "Set14": FIGURES}})
    quality.write_presets({"tiny_2x_int8": {"Set5": better}, "bicubic": {"Set5": FIGURES}})
    assert presets.load("tiny_2x")["measured"] == {"int8": {"Set5": better, "Set14": FIGURES}}


def test_the_table_needs_the_same_benchmarks_of_all() -> None:
    measured = {"tiny_2x": {"measured": {"int8": {"Set5": FIGURES, "Set14": FIGURES}, "fp32": {"Set5": FIGURES}}}}
    with pytest.raises(ExportError, match="tiny_2x_fp32 has not been measured on Set14"):
        report.engines(measured)
    measured["tiny_2x"]["measured"]["fp32"]["Set14"] = FIGURES
    page = report.page(report.engines(measured), SPEED)
    assert "| tiny_2x_fp32 | 37.00 / 0.9500 | 37.00 / 0.9500 | — |" in page
    assert "| SMFANet+ | 38.19 / 0.9611 | 33.92 / 0.9207 | — |" in page


def test_no_cell_is_empty_and_rows_have_their_order() -> None:
    """The fastest first; without a time by name. Our own kernels' time stands for OpenVINO's."""
    names = [f"{letter}_2x" for letter in "hcfadgbe"]
    figures = report.engines({n: {"measured": {"fp32": {"Urban100": FIGURES}}} for n in names})
    figures |= {f"{n}_int8": {"Urban100": FIGURES} for n in ("small_2x", "tiny_2x")}
    times = {"small_2x_int8": 90, "small_2x_int8 (native)": 50, "tiny_2x_int8": 10, "compact_16x64_int8": 30, "own": 1}
    speed = SPEED | {"networks": {name: {"median_ms": time} for name, time in times.items()}}
    page, short = report.page(figures, speed), report.short(figures, speed)
    order = [line.split()[1] for line in page.splitlines() if line.startswith("| ")][1:]
    assert order[:2] == ["tiny_2x_int8", "small_2x_int8"]
    assert order[2:10] == [f"{n}_fp32" for n in sorted(names)]
    assert [line.split()[1] for line in short.splitlines()[2:5]] == ["tiny_2x_int8", "compact_16x64_int8", order[1]]
    assert "| small_2x_int8 | quality, clean sources | 37.00 / 0.9500 | 50 |" in short
    assert not [line for line in (page + short).splitlines() if line.startswith("|") and "|  |" in line]
