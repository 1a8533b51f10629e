"""Full disks, torn states, bad configurations: a sentence, and the last good state and checkpoint are still there."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import arch
from training import train
from training.data import read_images
from training.errors import DataError

from .conftest import Run, toy


def step(folder: Path) -> int:
    return json.loads((folder / "state.json").read_text())["step"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def equal(first: Path, second: Path) -> bool:
    a, b = (arch.read_checkpoint(p / "notfused.pth") for p in (first, second))
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_full_disk_leaves_the_last_state(
    run: Run, kill: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource", reason="a limit on the size of files is needed to act a full disk")
    assert run("whole") == 0
    kill("net")
    state = tmp_path / "net" / "state_float"
    before, limits = contents(tmp_path / "net"), resource.getrlimit(resource.RLIMIT_FSIZE)
    capsys.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        code = run("net")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert code == 1
    assert "step 6 was not saved" in error and "too large" in error
    assert "Traceback" not in error
    assert step(state) == 4
    assert contents(tmp_path / "net") == before
    assert run("net") == 0
    assert equal(tmp_path / "whole", tmp_path / "net")


def remove(state: Path) -> None:
    (state / "ema.pth").unlink()


def shorten(state: Path) -> None:
    path = state / "exp_avg.pth"
    path.write_bytes(path.read_bytes()[:-100])


def mix(state: Path) -> None:
    """Without the list of its files, a missing one would not be missed."""
    facts = json.loads((state / "state.json").read_text())
    facts.pop("files")
    (state / "state.json").write_text(json.dumps(facts))
    (state / "exp_avg_sq.pth").unlink()


def scribble(state: Path) -> None:
    (state / "state.json").write_text('{"step": 4, "conf')


def empty(state: Path) -> None:
    shutil.rmtree(state)
    state.mkdir()


@pytest.mark.parametrize("tear", [remove, shorten, mix, scribble, empty])
def test_a_torn_state_is_refused(
    run: Run, kill: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], tear: Callable[[Path], None]
) -> None:
    kill("net")
    state = tmp_path / "net" / "state_float"
    tear(state)
    before = contents(tmp_path / "net")
    assert run("net") == 1
    assert "state_float is damaged" in (error := capsys.readouterr().err)
    assert "put a whole copy in its place" in error
    assert contents(tmp_path / "net") == before


def test_a_state_of_the_other_stage_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net") == 0
    shutil.copytree(tmp_path / "net" / "state_float", tmp_path / "net" / "state_qat")
    assert run("net", "--stage", "qat") == 1
    assert "is the state of stage float, not of qat" in capsys.readouterr().err


def test_killed_between_the_renames_twice(run: Run, kill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only complete state is then the one moved aside: it is resumed, and stays until there is a newer one."""
    assert run("whole") == 0
    kill("net")
    state = tmp_path / "net" / "state_float"
    state.rename(aside := state.with_suffix(".old"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        assert run("net") == 130
    assert step(aside) == 4
    assert run("net") == 0
    assert step(state) == 6
    assert not aside.exists()
    assert equal(tmp_path / "whole", tmp_path / "net")


def test_a_checkpoint_without_its_state_is_not_overwritten(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("net") == 0
    shutil.rmtree(tmp_path / "net" / "state_float")
    before = contents(tmp_path / "net")
    assert run("net") == 1
    assert "not the state that it came from" in capsys.readouterr().err
    assert contents(tmp_path / "net") == before
    assert run("none", "--max-minutes", "0") == 0  # a state of step 0 is a state
    assert run("none") == 0


def test_bad_configurations_are_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def message(**changes: object) -> str:
        config = toy() | changes
        assert run("net", config={k: v for k, v in config.items() if v is not None}) == 1
        return capsys.readouterr().err

    assert "one of aether_tiny, aether_small" in message(variant="aether_huge")
    assert "needed are variant" in message(variant=None)
    assert "[model] or an init" in message(model=None)
    assert "[float]" in message(float=None)
    assert "section [model]: " in (error := message(model={"scale": 2, "width": 8})) and "width" in error
    assert "depth >= 3" in message(model={"scale": 2, "depth": 1})
    assert "steps" in message(float={"lr": 1e-3})
    stage = toy()["float"]
    assert "lr is '1e-3', no float" in message(float=stage | {"lr": "1e-3"})
    assert "anneal is 0.5, no tuple" in message(float=stage | {"anneal": 0.5})
    assert "shares is {'text': -1}; allowed are numbers from 0" in message(float=stage | {"shares": {"text": -1}})
    assert "below 1" in message(float=stage | {"patch": 0})
    assert "needed are variant" in message(float=3)
    for key, value in (("lr", -1e-3), ("lr", float("nan")), ("lr", float("inf")), ("seed", -1), ("warmup", -2)):
        assert f"{key} is {value}; allowed are numbers from 0" in message(float=stage | {key: value})
    for key in ("ema", "flat", "freeze_norm"):
        assert f"{key} is 1.5; allowed are numbers from 0 to 1" in message(float=stage | {key: 1.5})
    for value in ([0.5], [0.5, 0.1], [0.0, 2.0]):
        assert "two shares of the steps" in message(float=stage | {"anneal": value})
    assert "steps is True, no int" in message(float=stage | {"steps": True})
    assert "section [float] has no freeze_ranges" in message(float=stage | {"freeze_ranges": 0.5})
    assert "in_chans is 1; the training data is RGB" in message(model=toy()["model"] | {"in_chans": 1})
    assert not (tmp_path / "net").exists()


def test_an_unreadable_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("variant = ")
    for name in ("bad.toml", "nowhere.toml"):
        with pytest.raises(train.TrainingError, match="not readable as a configuration"):
            train.read_config(tmp_path / name, "float")


def test_shards_are_read_and_damaged_ones_refused(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    shard = folder / "train_0.tar"
    with tarfile.open(shard, "w") as tar:
        for path in sorted(images.iterdir()):
            tar.add(path, path.name)
        tar.add(__file__, "broken.png")
    pixels, skipped = read_images(folder, 32)
    plain, _ = read_images(images, 32)
    assert list(pixels) == [f"train_0.tar/{name}" for name in plain] and len(pixels) == 3
    assert all(np.array_equal(a, b) for a, b in zip(pixels.values(), plain.values(), strict=True))
    assert len(skipped) == 1 and skipped[0].startswith("train_0.tar/broken.png: ")
    whole = shard.read_bytes()
    for damaged in (b"no tar", whole[: len(whole) // 3]):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=r"train_0.tar: a damaged shard"):
            read_images(folder, 32)
    with tarfile.open(shard, "w:gz") as tar:
        tar.add(images / "0.png", "0.png")
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"train_0.tar: a damaged shard"):
        read_images(folder, 32)


def test_shards_of_one_name_are_all_read(images: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "shards" / "a", tmp_path / "shards" / "b"):
        folder.mkdir(parents=True)
        with tarfile.open(folder / "train_0.tar", "w") as tar:
            tar.add(images / "0.png", "0.png")
    assert list(read_images(tmp_path / "shards", 32)[0]) == ["a/train_0.tar/0.png", "b/train_0.tar/0.png"]


def test_16_bit_grey_is_reduced_and_other_depths_are_skipped(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tiff")
    (tmp_path / "damaged.tif").write_bytes((tmp_path / "float.tiff").read_bytes()[:200])
    pixels, skipped = read_images(tmp_path, 32)
    assert np.array_equal(pixels["grey.png"][0, :, 1], np.round(ramp[0] / 257))
    assert [line.partition(":")[0] for line in skipped] == ["damaged.tif", "float.tiff"]
    assert "mode F" in skipped[1]


@pytest.mark.parametrize("options", [("--device", "nowhere"), ("--threads", "-1"), ("--max-minutes", "nan")])
def test_bad_options_are_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit):
        run("net", *options)
    assert options[0] in capsys.readouterr().err
    assert not (tmp_path / "net").exists()
