"""The training script on a toy: resuming, quantisation-aware training, refusals."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import arch
from export import metrics
from export.metrics import imresize
from export.quantizer import quantize
from training import resume, train
from training.data import Batch, Batches, read_images, reduced, validation_set
from training.errors import DataError
from training.optimizer import OPTIMIZERS

from .conftest import Run, toy


def test_lr_is_made_as_the_benchmarks_make_it() -> None:
    hr = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    hr[:24] = np.where(hr[:24] < 128, 0, 255)  # overshoots, which saturate after each pass
    for scale in (2, 3, 4):
        lr = reduced(torch.from_numpy(hr).permute(2, 0, 1).float(), scale)
        assert np.array_equal(lr.permute(1, 2, 0).numpy(), imresize(hr, 1 / scale))


def test_a_batch_depends_on_seed_and_step_alone(images: Path) -> None:
    pixels, _ = read_images(images, 32)
    first, again, other = (Batches(pixels, 2, 16, 4, seed=s, flat=0.0, device="cpu") for s in (0, 0, 1))
    assert torch.equal(first.batch(7)[1], again.batch(7)[1])
    assert not torch.equal(first.batch(7)[1], first.batch(8)[1])
    assert not torch.equal(first.batch(7)[1], other.batch(7)[1])
    lr, hr, _ = first.batch(7)
    assert lr.shape == (4, 3, 16, 16)
    assert hr.shape == (4, 3, 32, 32)


def test_batches_stay_what_they_were() -> None:
    """A run under way, or the resuming of an old one, sees the batches that it would have seen."""
    rng = np.random.default_rng(0)
    images = {f"{h}.png": rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((60, 70), (45, 90))}
    digest = hashlib.sha256()
    batches = Batches(images, 2, 16, 4, seed=5, flat=0.2, device="cpu")
    for tensor in (t for step in range(20) for t in batches.batch(step)[:2]):
        digest.update(tensor.mul(255).round().byte().contiguous().numpy().tobytes())
    assert digest.hexdigest() == "0444ea52636f93b220f08e32a4814fa3398d273eca33fc89fb95d25ed416d89f"


def test_validation_takes_images_from_the_first_to_the_last(tmp_path: Path) -> None:
    for level in range(35):
        Image.new("RGB", (256, 256), (level, 0, 0)).save(tmp_path / f"{level:02}.png")
    levels = [int(hr[0, 0, 0]) for _, hr in validation_set(tmp_path, 2)]
    assert len(levels) == 16 and levels == sorted(set(levels))
    assert (levels[0], levels[-1]) == (0, 34)


def test_other_scales_are_validated(run: Run, tmp_path: Path) -> None:
    """The validation crop is no multiple of 3."""
    config = toy()
    config["model"]["scale"] = 3
    assert run("net", config=config) == 0


def test_a_run_stopped_between_two_saves_is_on_its_curve(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy()
    config["float"] |= {"steps": 1000, "save_every": 1000}
    clock = iter(range(10**6))
    monkeypatch.setattr(train.time, "monotonic", lambda: 10.0 * next(clock))  # ten seconds a look
    assert run("net", "--max-minutes", "1", config=config) == 0
    step = json.loads((tmp_path / "net" / "state_float" / "state.json").read_text())["step"]
    assert 0 < step < 10
    assert train.last_logged(tmp_path / "net" / "curve_float.csv") == step


def test_a_schedule_fits_the_time_that_there_is(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when the minutes are over, whatever the configuration says, and the stage is done then."""
    config = toy()
    config["float"] |= {"steps": 1000, "save_every": 1000}
    clock = iter(range(10**6))
    monkeypatch.setattr(train.time, "monotonic", lambda: 2.0 * next(clock))
    assert run("net", "--fit-minutes", "1", config=config) == 0
    facts = json.loads((tmp_path / "net" / "state_float" / "state.json").read_text())
    assert 0 < facts["step"] == facts["config"]["float"]["steps"] < 40
    assert (tmp_path / "net" / "notfused.pth").exists()
    monkeypatch.setattr(train.time, "monotonic", lambda: 100.0 * next(clock))
    assert run("late", "--fit-minutes", "1", config=config) == 1  # over before the first step
    assert not (tmp_path / "late").exists() or not list((tmp_path / "late").glob("*.pth"))


def test_an_unfinished_float_stage_is_not_quantised(
    run: Run, kill: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = toy()
    assert run("net", "--max-minutes", "0") == 0
    assert run("net", "--stage", "qat") == 1
    assert "stands at step 0 of 6; finish it, or end it there" in capsys.readouterr().err
    config["float"]["steps"] = 1
    assert run("net", config=config) == 0
    assert run("net", "--stage", "qat", config=config) == 0


def test_quantisation_of_a_network_that_was_trained_on_is_not_resumed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("net") == 0
    assert run("net", "--stage", "qat") == 0
    before = (tmp_path / "net" / "qat.pth").read_bytes()
    config = toy()
    config["float"]["steps"] = 8
    capsys.readouterr()
    assert run("net", config=config) == 0
    assert "resumed at step 6, with steps 6 -> 8" in capsys.readouterr().out
    assert run("net", "--stage", "qat", config=config) == 1
    assert "began with another checkpoint than is given now" in capsys.readouterr().err
    assert (tmp_path / "net" / "qat.pth").read_bytes() == before


def test_init_is_read_once(run: Run, kill: Run, tmp_path: Path) -> None:
    """A run goes on where its first checkpoint has been moved, and knows which it was."""
    assert run("first") == 0
    start = tmp_path / "first" / "notfused.pth"
    origin = hashlib.sha256(start.read_bytes()).hexdigest()
    config = toy()
    config["float"]["init"] = str(start)
    kill("net", config=config)
    start.unlink()
    assert run("net", config=config) == 0
    assert json.loads((tmp_path / "net" / "state_float" / "state.json").read_text())["origin"] == origin


def test_shares_weigh_images_by_the_beginning_of_their_name() -> None:
    black, white = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    images = {"train_0.tar/text_1.png": white, "photo_1.png": black}

    def whites(shares: dict[str, float]) -> float:
        batches = Batches(images, 2, 16, 50, seed=0, flat=0.0, device="cpu", shares=shares)
        return float(torch.stack([batches.batch(step)[1] for step in range(8)]).mean())

    assert whites({}) == pytest.approx(0.5, abs=0.08)
    assert whites({"text": 0.25}) == pytest.approx(0.2, abs=0.08)
    assert whites({"text": 0.0}) == 0.0
    with pytest.raises(DataError, match="leave no image"):
        whites({"text": 0.0, "photo": 0.0})


def test_bilevel_crops_are_black_or_white_in_each_channel(images: Path) -> None:
    pixels, _ = read_images(images, 32)
    lr, hr, _ = Batches(pixels, 2, 16, 16, seed=0, flat=0.0, device="cpu", bilevel=1.0).batch(0)
    white = hr.unfold(2, 2, 2).unfold(3, 2, 2).sum((4, 5))  # of four pixels
    assert set(lr.unique().tolist()) == set(hr.unique().tolist()) == {0.0, 1.0}
    assert (lr[white > 2] == 1).all()
    assert (lr[white < 2] == 0).all()
    halves = {lr[n][white[n] == 2].unique().numel() for n in range(16)}
    assert halves <= {0, 1}  # one way in a crop
    assert set(lr[white == 2].tolist()) == {0.0, 1.0}  # and the other in another
    lr, hr, _ = Batches(pixels, 2, 16, 16, seed=0, flat=0.0, device="cpu", bilevel=0.5).batch(0)
    some = ((hr == 0) | (hr == 1)).flatten(1).all(1)
    assert 0 < int(some.sum()) < 16
    assert torch.equal(some, ((lr == 0) | (lr == 1)).flatten(1).all(1))


@pytest.mark.parametrize("stage", ["float", "qat"])
def test_a_stage_takes_bilevel_crops(run: Run, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    config, seen = toy(), []
    config[stage] |= {"bilevel": 1.0, "flat": 0.0}
    if stage == "qat":
        assert run("net", config=config) == 0

    class Seen(Batches):
        def crops(self) -> Batch:
            seen.append(super().crops())
            return seen[-1]

    monkeypatch.setattr(train, "Batches", Seen)
    assert run("net", "--stage", stage, config=config) == 0
    assert seen
    assert all(set(part.unique().tolist()) <= {0.0, 1.0} for batch in seen for part in batch)


def test_flat_crops_are_flat(images: Path) -> None:
    pixels, _ = read_images(images, 32)
    lr, hr, _ = Batches(pixels, 2, 16, 4, seed=0, flat=1.0, device="cpu").batch(0)
    assert float((hr - hr[:, :, :1, :1]).abs().max()) == 0.0
    assert float((lr - lr[:, :, :1, :1]).abs().max()) == 0.0


def trained(path: Path) -> dict[str, torch.Tensor]:
    """The float stage's result."""
    return arch.read_checkpoint(path / "notfused.pth")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_killed_and_resumed_equals_uninterrupted(run: Run, kill: Run, tmp_path: Path, optimizer: str) -> None:
    config = toy()
    config["float"]["optimizer"] = optimizer
    assert run("whole", config=config) == 0
    kill("parts", config=config)
    assert not (tmp_path / "parts" / "notfused.pth").exists()
    assert run("parts", config=config) == 0
    whole = trained(tmp_path / "whole")
    assert same(whole, trained(tmp_path / "parts"))
    fresh = arch.aether_tiny(2, embed_dim=8, depth=3).state_dict()
    assert all(
        not torch.equal(whole[f"conv_last.{k}.weight"], fresh[f"conv_last.{k}.weight"]) for k in ("conv", "expand")
    )
    if optimizer != "adamw":
        assert run("adamw") == 0
        assert not same(whole, trained(tmp_path / "adamw"))


def test_dropped_paths_are_the_same_after_resuming(run: Run, kill: Run, tmp_path: Path) -> None:
    config = toy()
    config |= {"variant": "aether_small", "model": {"scale": 2, "drop_path_rate": 0.5}}
    assert run("whole", config=config) == 0
    kill("parts", config=config)
    assert run("parts", config=config) == 0
    assert same(trained(tmp_path / "whole"), trained(tmp_path / "parts"))


def test_quantisation_aware_training_is_resumed(run: Run, kill: Run, tmp_path: Path) -> None:
    assert run("net") == 0
    shutil.copytree(tmp_path / "net", tmp_path / "parts")
    assert run("net", "--stage", "qat") == 0
    kill("parts", "--stage", "qat")
    assert run("parts", "--stage", "qat") == 0
    whole, parts = (arch.read_checkpoint(tmp_path / out / "qat.pth") for out in ("net", "parts"))
    assert same(whole, parts)


def test_another_optimizer_is_not_resumed_nor_invented(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("net") == 0
    config = toy()
    config["float"]["optimizer"] = "adan"
    assert run("net", config=config) == 1
    assert "state of optimizer = 'adamw'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    assert run("other", config=config) == 1
    assert "pip install pytorch_optimizer" in capsys.readouterr().err
    config["float"]["optimizer"] = "sgd"
    assert run("other", config=config) == 1
    assert "'sgd'; allowed are adamw, adan, muon" in capsys.readouterr().err


def test_large_states_are_kept_in_small_files(
    run: Run, kill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("whole") == 0
    monkeypatch.setattr(resume, "SHARD", 4096)
    kill("parts")
    sizes = [p.stat().st_size for p in (tmp_path / "parts" / "state_float").glob("*.pth")]
    assert len(sizes) > 8
    assert max(sizes) < 4096 + 8192  # the names and tables of torch.save
    assert run("parts") == 0
    assert same(trained(tmp_path / "whole"), trained(tmp_path / "parts"))


def test_the_learnt_ranges_are_kept_and_resumed(run: Run, tmp_path: Path) -> None:
    assert run("net") == 0
    assert run("net", "--stage", "qat") == 0
    state = arch.read_checkpoint(tmp_path / "net" / "qat.pth")
    _, ranges = arch.split_ranges(state)
    assert {k for k in ranges if "input" in k} == {
        f"{c}.input_quantizer._amax" for c in ("conv_first", "blocks.0", "conv_last")
    }
    model = quantize(arch.fuse(arch.load(tmp_path / "net" / "notfused.pth")))
    model.load_state_dict(state)
    images, _ = read_images(tmp_path / "images", 32)
    lr, _, _ = Batches(images, 2, 16, 2, seed=3, flat=0.0, device="cpu").batch(0)
    reference = arch.load(tmp_path / "net" / "notfused.pth")
    with torch.no_grad():
        error = float((model.eval()(lr) - reference(lr)).square().mean())
    assert error < 1e-3
    assert run("net", "--stage", "qat") == 0  # already done: nothing changes
    again = arch.read_checkpoint(tmp_path / "net" / "qat.pth")
    assert all(torch.equal(state[k], again[k]) for k in state)


def test_another_models_state_is_not_overwritten(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net") == 0
    before = (tmp_path / "net" / "notfused.pth").read_bytes()
    other = toy()
    other["model"]["embed_dim"] = 16
    assert run("net", config=other) == 1
    assert "another model" in capsys.readouterr().err
    assert (tmp_path / "net" / "notfused.pth").read_bytes() == before


def test_the_distance_is_that_of_the_measure() -> None:
    a, b = np.random.default_rng(0).random((2, 6, 5, 3))
    error = torch.tensor(a - b).permute(2, 0, 1)[None]
    y = np.abs(metrics.luma(255 * a) - metrics.luma(255 * b)).mean() / 219  # of limited range
    assert float(train.distance(error, 0.0)) == pytest.approx(np.abs(a - b).mean())
    assert float(train.distance(error, 2.0)) == pytest.approx(np.abs(a - b).mean() + 2 * y)


@pytest.mark.parametrize("option", ["luma", "fft_weight"])
def test_the_weights_of_the_loss_count_in_both_stages(run: Run, tmp_path: Path, option: str) -> None:
    results: list[dict[str, torch.Tensor]] = []
    for weight in (0.0, 2.0):
        config, out = toy(), f"weight{weight}"
        config["float"][option] = weight
        assert run(out, config=config) == 0
        results.append(trained(tmp_path / out))
    for weight in (0.0, 2.0):  # from one and the same float network
        config, out = toy(), "weight0.0"
        config["qat"][option] = weight
        shutil.rmtree(tmp_path / out / "state_qat", ignore_errors=True)
        (tmp_path / out / "qat.pth").unlink(missing_ok=True)
        assert run(out, "--stage", "qat", config=config) == 0
        results.append(arch.read_checkpoint(tmp_path / out / "qat.pth"))
    assert not same(*results[:2])
    assert not same(*results[2:])


def test_a_loss_that_is_not_finite_stops_the_run(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    distance = train.distance
    monkeypatch.setattr(train, "distance", lambda *a: distance(*a) * float("nan"))
    assert run("net") == 1
    assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "net" / "notfused.pth").exists()


def test_broken_and_small_images_are_skipped_with_a_word(
    run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").write_bytes(b"not an image")
    Image.new("RGB", (8, 8)).save(images / "small.png")
    assert run("net") == 0
    captured = capsys.readouterr()
    assert "3 images" in captured.out
    assert "2 skipped" in captured.out
    assert "broken.png" in captured.err
    assert "small.png" in captured.err


def test_no_images_and_bad_configurations_are_refused(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_images(tmp_path / "nowhere", 32)
    config = toy()
    config["float"]["learning_rate"] = config["float"].pop("lr")
    assert run("net", config=config) == 1
    assert "learning_rate" in capsys.readouterr().err
