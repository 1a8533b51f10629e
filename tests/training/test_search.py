"""benchmarks.search: what it trains and what its page says."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import arch
from benchmarks import search
from training import train
from training.plot import PlotError

Groups = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture
def groups() -> Groups:
    return search.candidates(tomllib.loads(search.CANDIDATES.read_text()))


def test_every_candidate_is_a_configuration_of_the_training_script(groups: Groups, tmp_path: Path) -> None:
    budgets = set()
    for name, config in {n: c for entries in groups.values() for n, c in entries.items()}.items():
        path = tmp_path / f"{name}.toml"
        path.write_text(tomli_w.dumps(config))
        assert tomllib.loads(path.read_text()) == config
        read, stage = train.read_config(path, "float")
        train.build_network(read, None)
        budgets.add((stage.steps, stage.batch, stage.patch))
    assert len(budgets) == 1


def test_equal_candidates_are_one_run(groups: Groups, tmp_path: Path) -> None:
    runs = search.folders(groups, tmp_path)
    assert runs["muon 1e-3"] == runs["32x8"]
    assert len(set(runs.values())) == len(runs) - 1


def test_macs_are_those_of_the_network() -> None:
    model = arch.fuse(arch.aether_tiny(scale=2, embed_dim=16, depth=5).eval())
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 4)
    assert search.macs({"embed_dim": 16, "depth": 5, "scale": 2}) == weights


def test_an_unfinished_run_is_refused(groups: Groups, tmp_path: Path) -> None:
    args = argparse.Namespace(out=tmp_path)
    with pytest.raises(PlotError, match="has no curve yet"):
        search.measure(groups, args)


def test_the_page_has_every_candidate(groups: Groups, tmp_path: Path) -> None:
    times = {name: {"median_ms": 10.0 + i, "min_ms": 9.0} for i, name in enumerate(groups["networks"])}
    result = {
        "machine": {"cpu": "a processor", "cores": "2", "openvino": "1"},
        "size": "480x270",
        "budget": {"steps": 4000, "batch": 16, "patch": 32},
        "psnr_y": {g: dict.fromkeys(entries, 34.0) for g, entries in groups.items()},
        "macs_per_pixel": dict.fromkeys(groups["networks"], 78000),
        "times": times | {search.PEER: {"median_ms": 100.0, "min_ms": 99.0}},
    }
    page = search.table(result)
    assert "| 32x8 | 78 | 10.0 | 0.10 | 34.000 |" in page
    assert all(f"| {name} |" in page for entries in groups.values() for name in entries)
    search.plot(result, tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 10_000
