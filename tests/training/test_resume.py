"""A run that was killed goes on as if nothing had happened; what cannot be gone on with is refused and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import arch
from export.quantizer import quantize
from training import resume, train
from training.data import Batches, read_images
from training.optimizer import OPTIMIZERS

from .conftest import Refused, Run, same, toy, trained


def step(folder: Path) -> int:
    return json.loads((folder / "state.json").read_text())["step"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


WAYS: dict[str, dict[str, Any]] = {name: {"float": {"optimizer": name}} for name in OPTIMIZERS} | {
    "video": {"float": {"degradation": "video"}},
    "dropped paths": {
        "variant": "aether_small",
        "model": {"scale": 2, "drop_path_rate": 0.5},
        "float": {"steps": 3, "save_every": 1, "batch": 1},
    },
    "small files": {},
}


@pytest.mark.parametrize("way", WAYS)
def test_killed_and_resumed_equals_uninterrupted(
    run: Run, kill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    config: dict[str, Any] = toy()
    for name, value in WAYS[way].items():
        config[name] = config[name] | value if name == "float" else value
    if way == "small files":
        monkeypatch.setattr(resume, "SHARD", 4096)
    assert run("whole", config=config) == 0
    kill("parts", config=config)
    assert not (tmp_path / "parts" / "notfused.pth").exists()
    if way == "small files":
        sizes = [p.stat().st_size for p in (tmp_path / "parts" / "state_float").glob("*.pth")]
        assert len(sizes) > 8
        assert max(sizes) < 4096 + 8192  # the names and tables of torch.save
    assert run("parts", config=config) == 0
    whole = trained(tmp_path / "whole")
    assert same(whole, trained(tmp_path / "parts"))
    if way == "adamw":
        fresh = arch.aether_tiny(2, embed_dim=8, depth=3).state_dict()
        assert not any(torch.equal(whole[k], fresh[k]) for k in ("conv_last.conv.weight", "conv_last.expand.weight"))
    elif way in (*OPTIMIZERS, "video"):
        assert run("plain") == 0
        assert not same(whole, trained(tmp_path / "plain"))
        curves = [(tmp_path / out / "curve_float.csv").read_text().split()[-1].split(",") for out in ("whole", "plain")]
        assert way != "video" or curves[0][2] != curves[1][2]  # validation pairs are degraded too


def test_quantisation_is_resumed_with_the_ranges_it_learnt(run: Run, kill: Run, tmp_path: Path) -> None:
    assert run("net") == 0
    shutil.copytree(tmp_path / "net", tmp_path / "parts")
    assert run("net", "--stage", "qat") == 0
    kill("parts", "--stage", "qat")
    assert run("parts", "--stage", "qat") == 0
    state = trained(tmp_path / "net", "qat")
    assert same(state, trained(tmp_path / "parts", "qat"))
    assert run("net", "--stage", "qat") == 0  # already done: nothing changes
    assert same(state, trained(tmp_path / "net", "qat"))
    ranges = {k for k in arch.split_ranges(state)[1] if "input" in k}
    assert ranges == {f"{c}.input_quantizer._amax" for c in ("conv_first", "blocks.0", "conv_last")}
    reference = arch.load(tmp_path / "net" / "notfused.pth")
    model = quantize(arch.fuse(reference))
    model.load_state_dict(state)
    pixels, _ = read_images(tmp_path / "images", 32)
    lr, _, _ = Batches(pixels, 2, 16, 2, seed=3, flat=0.0, device="cpu").batch(0)
    with torch.no_grad():
        assert float((model.eval()(lr) - reference(lr)).square().mean()) < 1e-3


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


def test_minutes_end_a_run_on_its_curve_and_fit_a_schedule(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--fit-minutes ends the stage when they are over, whatever the configuration says, and it is done then."""
    config = toy()
    config["float"] |= {"steps": 1000, "save_every": 1000}

    def timed(out: str, option: str, seconds: float, code: int = 0) -> dict[str, Any]:
        clock = iter(range(10**6))
        monkeypatch.setattr(train.time, "monotonic", lambda: seconds * next(clock))
        assert run(out, option, "1", config=config) == code
        path = tmp_path / out / "state_float" / "state.json"
        return json.loads(path.read_text()) if path.exists() else {}

    stopped = timed("net", "--max-minutes", 10.0)["step"]
    assert 0 < stopped < 10
    assert train.last_logged(tmp_path / "net" / "curve_float.csv") == stopped
    facts = timed("fit", "--fit-minutes", 2.0)
    assert 0 < facts["step"] == facts["config"]["float"]["steps"] < 40
    assert (tmp_path / "fit" / "notfused.pth").exists()
    timed("late", "--fit-minutes", 100.0, code=1)  # over before the first step
    assert not list(tmp_path.glob("late/*.pth"))


def test_an_unfinished_float_stage_is_not_quantised(run: Run, refused: Refused) -> None:
    config = toy()
    assert run("net", "--max-minutes", "0") == 0
    assert "stands at step 0 of 6; finish it, or end it there" in refused("net", "--stage", "qat")
    config["float"]["steps"] = 1
    assert run("net", config=config) == 0
    assert run("net", "--stage", "qat", config=config) == 0


def test_quantisation_of_a_network_that_was_trained_on_is_not_resumed(
    run: Run, refused: Refused, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("net") == 0
    assert run("net", "--stage", "qat") == 0
    before = (tmp_path / "net" / "qat.pth").read_bytes()
    config = toy()
    config["float"]["steps"] = 8
    assert run("net", config=config) == 0
    assert "resumed at step 6, with steps 6 -> 8" in capsys.readouterr().out
    assert "began with another checkpoint than is given now" in refused("net", "--stage", "qat", config=config)
    assert (tmp_path / "net" / "qat.pth").read_bytes() == before


def test_what_another_run_left_is_not_overwritten(run: Run, refused: Refused, tmp_path: Path) -> None:
    """Another network's, another optimizer's or the other stage's state, or a checkpoint without one."""
    assert run("net") == 0
    state, before = tmp_path / "net" / "state_float", contents(tmp_path / "net")
    other = toy()
    other["model"]["embed_dim"] = 16
    assert "another model" in refused("net", config=other)
    other = toy()
    other["float"]["optimizer"] = "adan"
    assert "state of optimizer = 'adamw'" in refused("net", config=other)
    assert contents(tmp_path / "net") == before
    shutil.copytree(state, tmp_path / "net" / "state_qat")
    assert "is the state of stage float, not of qat" in refused("net", "--stage", "qat")
    shutil.rmtree(state)
    before = contents(tmp_path / "net")
    assert "not the state that it came from" in refused("net")
    assert contents(tmp_path / "net") == before
    assert run("none", "--max-minutes", "0") == 0  # a state of step 0 is a state
    assert run("none") == 0


def test_a_full_disk_leaves_the_last_state(run: Run, kill: Run, refused: Refused, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="a limit on the size of files is needed to act a full disk")
    kill("net")
    before, limits = contents(tmp_path / "net"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        error = refused("net")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "step 6 was not saved" in error and "too large" in error
    assert "Traceback" not in error
    assert step(tmp_path / "net" / "state_float") == 4
    assert contents(tmp_path / "net") == before
    assert run("net") == run("whole") == 0
    assert same(trained(tmp_path / "whole"), trained(tmp_path / "net"))


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
def test_a_torn_state_is_refused(kill: Run, refused: Refused, tmp_path: Path, tear: Callable[[Path], None]) -> None:
    kill("net")
    tear(tmp_path / "net" / "state_float")
    before = contents(tmp_path / "net")
    error = refused("net")
    assert "state_float is damaged" in error and "put a whole copy in its place" in error
    assert contents(tmp_path / "net") == before


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
    assert same(trained(tmp_path / "whole"), trained(tmp_path / "net"))
