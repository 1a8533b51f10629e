"""Reports of benchmarks: the search for networks, and the measured figures."""

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import arch
import presets
from benchmarks import quality, report, search
from export.errors import ExportError
from training import train
from training.errors import PlotError

Groups = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture
def groups() -> Groups:
    return search.candidates(tomllib.loads(search.CANDIDATES.read_text()))


def test_every_candidate_is_a_configuration_of_the_training_script(groups: Groups, tmp_path: Path) -> None:
    assert set(groups) == set(search.TITLES)
    path = tmp_path / "candidate.toml"
    for entries in groups.values():
        budgets = set()
        for config in entries.values():
            path.write_text(tomli_w.dumps(config))
            read, stage = train.read_config(path, "float")
            train.build_network(read, None)
            budgets.add((stage.steps, stage.batch, stage.patch))
        assert len(budgets) == 1
    runs = search.folders(groups, tmp_path)  # equal candidates are one
    assert runs["muon 1e-3"] == runs["32x8"]
    assert len(set(runs.values())) == len(runs) - 1
    with pytest.raises(PlotError, match="has no curve yet"):
        search.measure("networks", groups["networks"], runs, argparse.Namespace())


def test_the_first_option_is_what_is_released(groups: Groups) -> None:
    options = groups["options"]
    assert train.build_network(options["released"], None).config == arch.load("small_2x").config
    assert len({(search.network(c).config, str(c["float"]["anneal"])) for c in options.values()}) == len(options)


def test_macs_are_those_of_the_network() -> None:
    model = arch.fuse(arch.aether_tiny(scale=2, embed_dim=16, depth=5, border=2).eval())
    assert search.macs(model) == sum(p.numel() for p in model.parameters() if p.ndim == 4)


def measured(group: str, entries: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "machine": {"cpu": "a processor", "cores": "2", "openvino": "1"},
        "budget": {"steps": 4000, "batch": 16, "patch": 32},
        "psnr_y": dict.fromkeys(entries, 34.0),
    }
    if group in search.LIMITS:
        times = {name: {"median_ms": 10.0 + i} for i, name in enumerate(entries)}
        result |= {"size": "480x270", "macs_per_pixel": dict.fromkeys(entries, 78000)}
        result |= {"times": times | {search.PEER: {"median_ms": 100.0}}}
    return result


def test_the_page_has_every_candidate_and_a_group_is_measured_alone(
    groups: Groups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {group: measured(group, entries) for group, entries in groups.items()}
    page = search.table(result)
    assert "| 32x8 | 78 | 10.0 | 0.10 | 34.000 |" in page
    assert all(f"| {name} |" in page for entries in groups.values() for name in entries)
    (tmp_path / "search.json").write_text(json.dumps(result))
    new = measured("options", groups["options"]) | {"psnr_y": dict.fromkeys(groups["options"], 35.0)}
    monkeypatch.setattr(search, "measure", lambda *_: new)
    monkeypatch.setattr("sys.argv", ["search", "time", "--group", "options", "--docs", str(tmp_path)])
    assert search.main() == 0
    assert json.loads((tmp_path / "search.json").read_text()) == result | {"options": new}
    assert (tmp_path / "search.webp").stat().st_size > 10_000


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
