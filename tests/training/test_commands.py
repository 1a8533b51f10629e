"""The commands around a training: answers beforehand, the mean of two checkpoints, plots of its curves."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import arch
from training import answers, average, plot
from training.data import Batches
from training.errors import DataError
from training.images import read_answers, read_images

from .conftest import Capture, Patch, Runs

NETWORKS = """
from torch import nn
nearest = lambda: nn.Upsample(scale_factor=2)
smooth = lambda: nn.Upsample(scale_factor=2, mode="bicubic")
number = lambda: 3
"""


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS)
    return path


def run_answers(*words: object) -> int:
    return answers.main([*map(str, words), "--device", "cpu"])


def test_a_tile_is_the_nearer_answer(images: Path, networks: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(answers, "TILE", 16)
    first, mean = f"{networks}:nearest", f"{networks}:smooth"
    given = ("--data", images, "--first", first)
    assert run_answers(*given, "--out", tmp_path / "alone") == 0
    assert run_answers(*given, "--out", tmp_path / "both", "--mean", mean, mean, "--only", "2") == 0
    pixels, _ = read_images(images, 32)
    alone, both = (read_answers(tmp_path / folder, pixels) for folder in ("alone", "both"))
    far, near = (np.square(answer["0.png"].astype(float) - pixels["0.png"]).mean() for answer in (alone, both))
    assert near < 0.8 * far  # smooth pictures
    assert np.array_equal(both["2.png"], alone["2.png"])
    with pytest.raises(DataError, match="no answer"):
        read_answers(tmp_path / "nowhere", pixels)


def test_tiles_do_not_show(images: Path, monkeypatch: Patch) -> None:
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


def test_what_is_no_network_is_refused(images: Path, networks: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in (f"{networks}:number", f"{networks}:nothing", "nowhere.py:nearest", "nowhere.pth"):
        out = tmp_path / "refused"
        assert run_answers("--data", images, "--out", out, "--first", name) == 1
        assert name.rpartition(":")[0] in capsys.readouterr().err
        assert not out.exists()


def test_training_takes_answers_for_its_target(run: Runs, images: Path, networks: Path, tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    assert run_answers("--data", images, "--out", folder, "--first", f"{networks}:nearest") == 0
    stage = {"answers": str(folder), "target": "teacher", "flat": 0.5, "bilevel": 0.5}
    run.stages("net", float=stage, qat=stage)
    pixels, _ = read_images(images, 32)
    batches = Batches(pixels, 2, 16, 8, seed=0, flat=0.5, device="cpu", answers=read_answers(folder, pixels))
    lr, hr, answer = batches.batch(0)
    flat = (hr == hr[:, :, :1, :1]).flatten(1).all(1)
    assert torch.equal(answer[flat], hr[flat])
    assert 0 < int(flat.sum()) < 8
    assert (answer[~flat] - F.interpolate(lr[~flat], scale_factor=2)).abs().max() < 1e-6  # the same crop, turned alike
    (folder / "1.png.npy").unlink()
    assert "1.png.npy is no answer" in run.refused("other", float=stage)


AMAX = "weight_quantizer._amax"


@pytest.mark.parametrize("kind", ["notfused", "qat"])
def test_the_mean_lies_between(finished: Path, tmp_path: Path, kind: str) -> None:
    first = arch.read_checkpoint(finished / f"{kind}.pth")
    second = {k: v if k.endswith(AMAX) or not v.is_floating_point() else 3 * v for k, v in first.items()}
    arch.write_checkpoint(second, tmp_path / "second.pth")
    words = [str(path) for path in (finished / f"{kind}.pth", tmp_path / "second.pth", tmp_path / "mean.pth")]
    assert average.main([*words, "--share", "0.25"]) == 0
    mean = arch.read_checkpoint(tmp_path / "mean.pth")
    assert mean.keys() == first.keys()
    for key, value in mean.items():
        if not (key.endswith(AMAX) and value.ndim):
            torch.testing.assert_close(value.float(), 0.75 * first[key].float() + 0.25 * second[key].float())
        else:  # grown to hold the weights, which are 1.5 times as large
            largest = mean[key.replace(AMAX, "weight")].abs().flatten(1).amax(1)
            assert (value.flatten() >= largest).all() and (value > first[key]).any()
    assert average.main(words) == 1  # not replaced


def test_what_has_no_mean(tmp_path: Path, capsys: Capture) -> None:
    a, b, out = (str(tmp_path / f"{name}.pth") for name in ("a", "b", "out"))
    for path, width in ((a, 8), (b, 16)):
        arch.write_checkpoint(arch.aether_tiny(2, embed_dim=width, depth=3).state_dict(), Path(path))
    assert average.main([a, b, out]) == 1
    assert "(8,)" in (error := capsys.readouterr().err) and "(16,)" in error
    assert average.main([a, a, out, "--share", "1.5"]) == 1
    assert "1.5" in capsys.readouterr().err and not Path(out).exists()


HEADER = "step,loss,psnr_y,seconds_per_step\n"


def test_the_curves_of_a_run_are_drawn(net: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "curve_float.csv").write_text(f"{HEADER}2,0.5,nan,0.1\n4,0.25,nan,0.1\n")
    drawn, save = [], figure.Figure.savefig
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *a, **o: (drawn.append(self), save(self, *a, **o)))
    out = tmp_path / "curves.png"
    assert plot.main([str(net), str(tmp_path / "blind"), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    above, below = drawn[0].axes
    written = [float(line.split(",")[2]) for line in (net / "curve_float.csv").read_text().split()[1:]]
    assert list(above.lines[0].get_xdata()) == [2, 4, 6]
    assert list(above.lines[0].get_ydata()) == written
    assert [line.get_label() for line in above.lines] == ["net float", "net qat"]
    assert [line.get_label() for line in below.lines] == ["net float", "net qat", "blind float"]
    assert list(below.lines[2].get_ydata()) == [0.5, 0.25]
    assert [p.name for p in tmp_path.glob("*curves*")] == ["curves.png"]  # and nothing temporary


def test_what_cannot_be_plotted_is_said(tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
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
