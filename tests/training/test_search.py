"""benchmarks.search: what it trains and what its page says."""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import arch
import presets
from benchmarks import search
from training import train
from training.errors import PlotError

Groups = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture
def groups() -> Groups:
    return search.candidates(tomllib.loads(search.CANDIDATES.read_text()))


def test_every_candidate_is_a_configuration_of_the_training_script(groups: Groups, tmp_path: Path) -> None:
    assert set(groups) == set(search.TITLES)
    for entries in groups.values():
        budgets = set()
        for name, config in entries.items():
            path = tmp_path / f"{name}.toml"
            path.write_text(tomli_w.dumps(config))
            assert tomllib.loads(path.read_text()) == config
            read, stage = train.read_config(path, "float")
            train.build_network(read, None)
            budgets.add((stage.steps, stage.batch, stage.patch))
        assert len(budgets) == 1


def test_the_first_option_is_what_is_released(groups: Groups) -> None:
    released = arch.load(Path(presets.__file__).parent / "small_2x" / "aether_small_2x_notfused.safetensors")
    assert train.build_network(groups["options"]["released"], None).config == getattr(released, "config", None)
    options = groups["options"]
    assert len({(search.network(c).config, str(c["float"]["anneal"])) for c in options.values()}) == len(options)


def test_equal_candidates_are_one_run(groups: Groups, tmp_path: Path) -> None:
    runs = search.folders(groups, tmp_path)
    assert runs["muon 1e-3"] == runs["32x8"]
    assert len(set(runs.values())) == len(runs) - 1


def test_macs_are_those_of_the_network() -> None:
    model = arch.fuse(arch.aether_tiny(scale=2, embed_dim=16, depth=5, border=2).eval())
    assert isinstance(model, arch.Upscaler)
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 4)
    assert search.macs(model) == weights


def test_an_unfinished_run_is_refused(groups: Groups, tmp_path: Path) -> None:
    runs = search.folders(groups, tmp_path)
    with pytest.raises(PlotError, match="has no curve yet"):
        search.measure("networks", groups["networks"], runs, argparse.Namespace())


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


def test_the_page_has_every_candidate(groups: Groups, tmp_path: Path) -> None:
    result = {group: measured(group, entries) for group, entries in groups.items()}
    page = search.table(result)
    assert "| 32x8 | 78 | 10.0 | 0.10 | 34.000 |" in page
    assert all(f"| {name} |" in page for entries in groups.values() for name in entries)
    search.plot(result, tmp_path / "search.webp")
    assert (tmp_path / "search.webp").stat().st_size > 10_000


def test_a_group_measured_alone_leaves_the_others(
    groups: Groups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {group: measured(group, entries) for group, entries in groups.items()}
    (tmp_path / "search.json").write_text(json.dumps(old))
    new = measured("options", groups["options"]) | {"psnr_y": dict.fromkeys(groups["options"], 35.0)}
    monkeypatch.setattr(search, "measure", lambda *_: new)
    monkeypatch.setattr("sys.argv", ["search", "time", "--group", "options", "--docs", str(tmp_path)])
    assert search.main() == 0
    assert json.loads((tmp_path / "search.json").read_text()) == old | {"options": new}
