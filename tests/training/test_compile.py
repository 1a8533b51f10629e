"""--compile: the same training, with torch's compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import arch

from .conftest import Run

needs_compiler = pytest.mark.skipif(
    not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")),
    reason="torch.compile needs a C++ compiler, and there is none here",
)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What torch.compile has compiled, once for every pass through it."""
    seen: list[Any] = []
    real = torch.compile

    def spy(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled = real(function)

        def call(*args: Any) -> Any:
            seen.append(function)
            return compiled(*args)

        return call

    monkeypatch.setattr(torch, "compile", spy)
    return seen


@needs_compiler
def test_compiled_training_is_the_same_training(run: Run, kill: Run, tmp_path: Path, passes: list[Any]) -> None:
    assert run("plain") == 0
    assert not passes
    assert run("compiled", "--compile") == 0
    assert sum(isinstance(p, torch.nn.Module) for p in passes) == 6  # every step
    plain, compiled = (arch.read_checkpoint(tmp_path / name / "notfused.pth") for name in ("plain", "compiled"))
    assert compiled.keys() == plain.keys()
    for key, value in plain.items():
        assert (compiled[key] - value).abs().max() <= 1e-4, key

    kill("killed", "--compile")
    assert run("killed", "--compile") == 0  # and resumes exactly
    written = [(tmp_path / name / "notfused.pth").read_bytes() for name in ("compiled", "killed")]
    assert written[0] == written[1]


@needs_compiler
def test_quantisation_is_compiled_too(run: Run, tmp_path: Path, passes: list[Any]) -> None:
    assert run("net") == 0
    shutil.copytree(tmp_path / "net", tmp_path / "other")
    assert run("net", "--stage", "qat") == 0
    assert run("other", "--stage", "qat", "--compile") == 0
    assert sum(isinstance(p, torch.nn.Module) for p in passes) == 6
    plain, compiled = (arch.read_checkpoint(tmp_path / name / "qat.pth") for name in ("net", "other"))
    for key, value in plain.items():
        assert (compiled[key] - value).abs().max() <= 1e-3, key


@pytest.mark.parametrize("outer", [1.0, 0.5, 0.0])
def test_the_network_is_one_graph(outer: float) -> None:
    """A window that is asked for its value would cut the graph in every block, and stop a GPU there."""
    options: dict[str, Any] = {"norm": "batch", "gate": "relu", "deployed_kernel": 5, "tail": "direct"}
    model = arch.AetherNet(3, 8, (1, 1), lk_kernel=7, image_residual=True, border=2, **options)
    model.anneal(outer)
    torch.compiler.reset()
    explained = torch._dynamo.explain(model.train())(torch.rand(1, 3, 16, 16))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


def test_a_missing_compiler_is_said_first(images: Path, tmp_path: Path) -> None:
    config = tmp_path / "toy.toml"
    config.write_text("")
    missing = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    files = [str(config), "--data", str(images), "--out", str(tmp_path / "out"), "--device", "cpu"]
    command = [sys.executable, "-m", "training.train", *files, "--compile"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | missing, check=False)
    assert done.returncode == 2
    assert "--compile cannot be used here" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
