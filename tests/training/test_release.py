"""training.release: a finished run becomes a preset; an unfinished one is refused before anything is written."""

import functools
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import arch
import presets
from export import runtimes
from training import reexport, release

from .conftest import Capture, Patch, contents, same, trained


@pytest.fixture(scope="module", autouse=True)
def _untimed() -> Iterator[None]:
    """Engines are not timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "milliseconds", lambda *_: 1.0)
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Patch) -> Path:
    """Where presets are written to."""
    monkeypatch.setattr(presets, "DIR", tmp_path / "presets")
    return tmp_path / "presets"


def release_run(run: Path, *options: object) -> int:
    words = [run, "--name", "mine", "--status", "interim", "--data", "mine", *options]
    return release.main([str(word) for word in words])


@pytest.fixture(scope="module")
def preset(finished: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of presets after the toy was released, measured on the pictures, as "mine"."""
    folder = tmp_path_factory.mktemp("release") / "presets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "DIR", folder)
        assert release_run(finished, "--images", images) == 0
    return folder


@pytest.fixture
def released(preset: Path, folder: Path) -> Path:
    """A copy of that preset, to be changed, where the next release goes."""
    return Path(shutil.copytree(preset, folder)) / "mine"


def change(released: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the preset's description."""
    preset = json.loads((released / "preset.json").read_text())
    edit(preset)
    (released / "preset.json").write_text(json.dumps(preset))


def test_a_worse_release_is_refused(finished: Path, released: Path, images: Path, capsys: Capture) -> None:
    def edit(preset: dict[str, Any]) -> None:
        preset["measured"]["int8"]["Set1"]["psnr"] += 0.03
        preset["measured"]["fp32"]["Set1"]["psnr"] += 0.01

    change(released, edit)
    before = contents(released.parent)
    assert release_run(finished, "--images", images) == 1
    assert "int8 Set1" in (said := capsys.readouterr().err)
    assert "fp32 Set1" not in said
    assert release_run(finished) == 1  # nothing to compare by
    assert "Set1" in capsys.readouterr().err
    assert contents(released.parent) == before  # and nothing half made is left


def test_a_finished_run_becomes_a_preset(finished: Path, released: Path) -> None:
    preset = presets.load("mine")
    assert set(preset["files"]) == {"notfused", "fused", "fp32", "fp16", "int8", "qat"}
    for kind, entry in preset["files"].items():
        assert presets.describe(presets.path("mine", kind)) == entry
        assert entry["file"].startswith("aether_mine_")
    last = (finished / "curve_float.csv").read_text().split()[-1].split(",")
    training = preset["training"]
    assert training["float"]["steps"] == int(last[0]) == 6
    assert training["float"]["validation_psnr_y"] == float(last[2])
    assert training["float"]["config"]["lr"] == 1e-3
    assert training["qat"]["origin"] == preset["files"]["notfused"]["sha256"]
    for kind in ("notfused", "qat"):
        assert same(arch.read_checkpoint(presets.path("mine", kind)), trained(finished, kind))
    assert set(preset["measured"]) == {"fp32", "fp16", "int8"}
    assert 10 < preset["measured"]["int8"]["Set1"]["psnr"] < 60


def test_what_was_measured_stays_with_files_that_did_not_change(finished: Path, released: Path) -> None:
    def edit(preset: dict[str, Any]) -> None:
        preset["measured"] = {"fp32": {"Set5": {"psnr": 1.0}}, "int8": {"Set5": {"psnr": 2.0}}}
        preset["files"]["int8"]["sha256"] = "that of another file"

    change(released, edit)
    assert release_run(finished, "--allow-worse") == 0
    assert presets.load("mine")["measured"] == {"fp32": {"Set5": {"psnr": 1.0}}}


def stopped_early(run: Path) -> None:
    path = run / "state_qat" / "state.json"
    path.write_text(path.read_text().replace('"step": 6', '"step": 4'))


def without(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).rename(run / "gone")


SPOILT: list[tuple[Callable[[Path], object], str]] = [
    (lambda run: shutil.copy(run / "qat.pth", run / "notfused.pth"), "did not begin with this notfused.pth"),
    (stopped_early, "the state is of step 4, the curve ends at 6"),
    *((without(n), n) for n in ("curve_float.csv", "curve_qat.csv", "notfused.pth", "qat.pth", "state_qat")),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT)
def test_an_unfinished_run_is_refused(net: Path, folder: Path, capsys: Capture, spoil: Any, said: str) -> None:
    spoil(net)
    assert release_run(net) == 1
    assert said in capsys.readouterr().err
    assert not folder.exists() or not any(folder.rglob("*.*"))


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_a_release_cut_off_leaves_a_preset(crash_at: int, released: Path, monkeypatch: Patch) -> None:
    """Before the first renaming, between the two, and before the old one is removed; a file of no release is kept."""
    (released / "openmodeldb.json").write_text("{}")
    staged = Path(shutil.copytree(released, released.with_name(".mine.new")))
    presets.save_in(staged, presets.load("mine") | {"status": "release"})
    steps = itertools.count(1)

    def step(then: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if next(steps) == crash_at:
            raise KeyboardInterrupt
        return then(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", functools.partialmethod(lambda self, then, to: step(then, self, to), Path.rename))
        patch.setattr(shutil, "rmtree", functools.partial(step, shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            release.replace(released, staged)
    release.recover(released)
    assert presets.names() == ["mine"]
    assert presets.load("mine")["status"] == ("release" if crash_at == 3 else "interim")
    assert all(presets.read("mine", kind) for kind in presets.load("mine")["files"])
    assert (released / "openmodeldb.json").read_text() == "{}"
    assert not released.with_name(".mine.old").exists()


@pytest.mark.parametrize("other_output", [False, True])
def test_engines_are_exported_again_where_outputs_stay(released: Path, other_output: bool) -> None:
    before, engine = contents(released), presets.path("mine", "fp32")
    proto = onnx.load(engine)
    proto.producer_version = "of another exporter"
    if other_output:
        proto.graph.initializer[0].raw_data = bytes(len(proto.graph.initializer[0].raw_data))
    onnx.save(proto, engine)
    change(released, lambda preset: preset["files"].update(fp32=presets.describe(engine)))
    changed = contents(released)
    assert reexport.main(["mine"]) == other_output
    assert contents(released) == (changed if other_output else before)
