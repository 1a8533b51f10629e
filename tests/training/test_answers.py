"""Answers to training images that networks give beforehand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import arch
from training import answers
from training.data import Batches, read_answers, read_images
from training.errors import DataError

from .conftest import Run, toy

NETWORKS = """
from torch import nn
class Nearest(nn.Upsample):
    pass
def nearest():
    return Nearest(scale_factor=2)
def smooth():
    return nn.Upsample(scale_factor=2, mode="bicubic")
def number():
    return 3
"""


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS)
    return path


def run_answers(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["answers", *map(str, words), "--device", "cpu"])
    return answers.main()


def test_a_tile_is_the_nearer_of_two_answers(
    images: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "TILE", 16)
    first, mean = f"{networks}:nearest", f"{networks}:smooth"
    given = ("--data", images, "--first", first)
    assert run_answers(monkeypatch, *given, "--out", tmp_path / "alone") == 0
    assert run_answers(monkeypatch, *given, "--out", tmp_path / "both", "--mean", mean, mean, "--only", "2") == 0
    pixels, _ = read_images(images, 32)
    alone, both = (read_answers(tmp_path / folder, pixels) for folder in ("alone", "both"))

    def error(answer: np.ndarray, name: str) -> float:
        return float(np.square(answer.astype(float) - pixels[name]).mean())

    assert error(both["0.png"], "0.png") < 0.8 * error(alone["0.png"], "0.png")  # smooth pictures
    assert np.array_equal(both["2.png"], alone["2.png"])
    with pytest.raises(DataError, match="no answer"):
        read_answers(tmp_path / "nowhere", pixels)


def test_tiles_do_not_show(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles see what lies around them: a network of a radius below the overlap answers as on the whole picture."""
    pixels, _ = read_images(images, 32)
    network = arch.fuse(arch.aether_tiny(2, embed_dim=8, depth=4, border=4)).eval()
    nn.init.normal_(network.get_submodule("conv_last").weight, std=0.1)  # pyright: ignore[reportArgumentType]
    whole, share = answers.answer(pixels["0.png"], network, [], 2, "cpu")
    monkeypatch.setattr(answers, "TILE", 16)
    tiled, _ = answers.answer(pixels["0.png"], network, [], 2, "cpu")
    assert np.abs(whole.astype(int) - tiled).max() <= 1  # sums of other shapes may round to another level
    assert share == 0
    assert whole.shape == pixels["0.png"].shape


def test_what_is_no_network_is_refused(images: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    for name in (f"{networks}:number", f"{networks}:nothing", "nowhere.py:nearest", "nowhere.pth"):
        out = tmp_path / "refused"
        assert run_answers(monkeypatch, "--data", images, "--out", out, "--first", name) == 1
        assert name.rpartition(":")[0] in capsys.readouterr().err
        assert not out.exists()


def test_training_takes_answers_for_its_target(
    run: Run, images: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--data", images, "--out", tmp_path / "answers", "--first", f"{networks}:nearest")
    assert run_answers(monkeypatch, *given) == 0
    config = toy()
    for stage in ("float", "qat"):
        config[stage] |= {"answers": str(tmp_path / "answers"), "target": "teacher", "flat": 0.5, "bilevel": 0.5}
    assert run("net", config=config) == 0
    assert run("net", "--stage", "qat", config=config) == 0
    pixels, _ = read_images(images, 32)
    options = {"seed": 0, "device": "cpu", "answers": read_answers(tmp_path / "answers", pixels)}
    lr, hr, answer = Batches(pixels, 2, 16, 8, flat=0.5, **options).batch(0)  # pyright: ignore[reportArgumentType]
    flat = (hr == hr[:, :, :1, :1]).flatten(1).all(1)
    assert torch.equal(answer[flat], hr[flat])
    assert 0 < int(flat.sum()) < 8
    assert (answer[~flat] - F.interpolate(lr[~flat], scale_factor=2)).abs().max() < 1e-6  # the same crop, turned alike
    (tmp_path / "answers" / "1.png.npy").unlink()
    assert run("other", config=config) == 1
