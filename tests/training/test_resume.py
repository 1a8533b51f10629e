"""A run that was killed goes on as if nothing had happened; what cannot be gone on with is refused and kept."""

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
from training import curve, resume, train
from training.data import Batches
from training.images import read_images
from training.optimizer import OPTIMIZERS

from .conftest import Capture, Config, Patch, Runs, contents, same, trained

WAYS: dict[str, Config] = {name: {"float": {"optimizer": name}} for name in OPTIMIZERS} | {
    "video": {"float": {"degradation": "video"}},
    "dropped paths": {
        "variant": "aether_small",
        "model": {"drop_path_rate": 0.5, "scale": 3},  # of which the validation crop is no multiple
        "float": {"steps": 3, "save_every": 1, "batch": 1},
    },
}


def facts(run: Path, state: str = "state_float") -> dict[str, Any]:
    return json.loads((run / state / "state.json").read_text())


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_run_goes_on_exactly(run: Runs, finished: Path, monkeypatch: Patch, way: str) -> None:
    if way == "adamw":  # the toy's own; its state in small files
        monkeypatch.setattr(resume, "SHARD", 4096)
        whole = finished
    else:
        whole = run("whole", **WAYS[way])
        assert not same(trained(whole), trained(finished))
    if way != "dropped paths":  # zeros in a fresh network
        assert all(trained(whole)[f"conv_last.{k}.weight"].any() for k in ("conv", "expand"))
    parts = run.killed("parts", **WAYS[way])
    assert not (parts / "notfused.pth").exists()
    if way == "adamw":
        sizes = [p.stat().st_size for p in (parts / "state_float").glob("*.pth")]
        assert len(sizes) > 8
        assert max(sizes) < 4096 + 8192  # the names and tables of torch.save
    run("parts", **WAYS[way])
    assert same(trained(whole), trained(parts))
    if way == "video":  # validation pairs are degraded too
        curves = [(out / "curve_float.csv").read_text().split()[-1].split(",") for out in (whole, finished)]
        assert curves[0][2] != curves[1][2]


def test_quantisation_goes_on_with_its_ranges(run: Runs, finished: Path, float_net: Path, images: Path) -> None:
    run.killed("net", "--stage", "qat")
    for _ in range(2):  # the second time it is done already: nothing changes
        run("net", "--stage", "qat")
        state = trained(float_net, "qat")
        assert same(state, trained(finished, "qat"))
    ranges = {k for k in arch.split_ranges(state)[1] if "input" in k}
    assert ranges == {f"{c}.input_quantizer._amax" for c in ("conv_first", "blocks.0", "conv_last")}
    reference = arch.load(finished / "notfused.pth")
    model = quantize(arch.fuse(reference))
    model.load_state_dict(state)
    pixels, _ = read_images(images, 32)
    lr, _, _ = Batches(pixels, 2, 16, 2, seed=3, flat=0.0, device="cpu").batch(0)
    with torch.no_grad():
        assert float((model.eval()(lr) - reference(lr)).square().mean()) < 1e-3


def test_init_is_read_once(run: Runs, finished: Path, tmp_path: Path) -> None:
    """A run goes on where its first checkpoint has been moved, and knows which it was."""
    start = Path(shutil.copy(finished / "notfused.pth", tmp_path))
    origin = hashlib.sha256(start.read_bytes()).hexdigest()
    net = run.killed("net", float={"init": str(start)})
    start.unlink()
    run("net", float={"init": str(start)})
    assert facts(net)["origin"] == origin


def test_minutes_end_a_run_on_its_curve_and_fit_a_schedule(run: Runs, monkeypatch: Patch) -> None:
    """--fit-minutes ends the stage when they are over, whatever the configuration says, and it is done then."""

    def timed(out: str, option: str, seconds: float) -> int:
        clock = iter(range(10**6))
        monkeypatch.setattr(train.time, "monotonic", lambda: seconds * next(clock))
        return run.start(out, option, "1", float={"steps": 1000, "save_every": 1000})

    net, fit = run.folder / "net", run.folder / "fit"
    assert timed("net", "--max-minutes", 10.0) == 0
    assert 0 < facts(net)["step"] < 10
    assert curve.last_step(net / "curve_float.csv") == facts(net)["step"]
    assert timed("fit", "--fit-minutes", 2.0) == 0
    assert 0 < facts(fit)["step"] == facts(fit)["config"]["float"]["steps"] < 40
    assert (fit / "notfused.pth").exists()
    assert timed("late", "--fit-minutes", 100.0) == 1  # over before the first step
    assert not list(run.folder.glob("late/*.pth"))


def test_an_unfinished_float_stage_is_not_quantised(run: Runs) -> None:
    run("net", "--max-minutes", "0")
    assert "stands at step 0 of 6; finish it, or end it there" in run.refused("net", "--stage", "qat")
    run.stages("net", float={"steps": 1}, qat={"steps": 1})


def test_quantisation_of_a_network_that_was_trained_on_is_not_resumed(run: Runs, net: Path, capsys: Capture) -> None:
    before = (net / "qat.pth").read_bytes()
    run("net", float={"steps": 8})
    assert "resumed at step 6, with steps 6 -> 8" in capsys.readouterr().out
    said = run.refused("net", "--stage", "qat", float={"steps": 8})
    assert "began with another checkpoint than is given now" in said
    assert (net / "qat.pth").read_bytes() == before


def test_what_another_run_left_is_not_overwritten(run: Runs, float_net: Path) -> None:
    """Another network's, another optimizer's or the other stage's state, or a checkpoint without one."""
    before = contents(float_net)
    assert "another model" in run.refused("net", model={"embed_dim": 16})
    assert "state of optimizer = 'adamw'" in run.refused("net", float={"optimizer": "adan"})
    assert contents(float_net) == before
    (float_net / "state_float").rename(float_net / "state_qat")
    before = contents(float_net)
    assert "is the state of stage float, not of qat" in run.refused("net", "--stage", "qat")
    assert "not the state that it came from" in run.refused("net")
    assert contents(float_net) == before
    run("none", "--max-minutes", "0")  # a state of step 0 is a state
    run("none")


def test_a_full_disk_leaves_the_last_state(run: Runs, finished: Path) -> None:
    resource = pytest.importorskip("resource", reason="a limit on the size of files is needed to act a full disk")
    net, limits = run.killed("net"), resource.getrlimit(resource.RLIMIT_FSIZE)
    before = contents(net)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        error = run.refused("net")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "step 6 was not saved" in error and "too large" in error
    assert "Traceback" not in error
    assert contents(net) == before  # of step 4
    run("net")
    assert same(trained(finished), trained(net))


def unlisted(state: Path) -> None:
    """Without the list of its files, a missing one would not be missed."""
    facts = json.loads((state / "state.json").read_text())
    facts.pop("files")
    (state / "state.json").write_text(json.dumps(facts))
    (state / "exp_avg_sq.pth").unlink()


TORN: dict[str, Callable[[Path], object]] = {
    "file removed": lambda state: (state / "ema.pth").unlink(),
    "file shortened": lambda state: (state / "exp_avg.pth").write_bytes((state / "exp_avg.pth").read_bytes()[:-100]),
    "file removed, no list of files": unlisted,
    "description shortened": lambda state: (state / "state.json").write_text('{"step": 4, "conf'),
    "empty": lambda state: [path.unlink() for path in state.iterdir()],
}


@pytest.mark.parametrize("tear", TORN)
def test_a_torn_state_is_refused(run: Runs, net: Path, tear: str) -> None:
    TORN[tear](net / "state_float")
    before = contents(net)
    error = run.refused("net")
    assert "state_float is damaged" in error and "put a whole copy in its place" in error
    assert contents(net) == before


def test_killed_between_the_renames_twice(run: Runs, finished: Path, monkeypatch: Patch) -> None:
    """The only complete state is then the one moved aside: it is resumed, and stays until there is a newer one."""
    net = run.killed("net")
    (net / "state_float").rename(net / "state_float.old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        assert run.start("net") == 130
    assert facts(net, "state_float.old")["step"] == 4
    run("net")
    assert facts(net)["step"] == 6
    assert not (net / "state_float.old").exists()
    assert same(trained(finished), trained(net))
