"""The configurations that come with the project run; bad ones and bad options are refused, with nothing written."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arch
import presets
from training import train
from training.images import read_images

from .conftest import Capture, Patch, Runs, same, trained

CONFIGS = {p.stem: p for p in sorted((Path(train.__file__).parent / "configs").glob("*.toml"))}


@pytest.mark.parametrize("name", CONFIGS)
def test_three_steps(run: Runs, images: Path, tmp_path: Path, monkeypatch: Patch, name: str) -> None:
    monkeypatch.chdir(tmp_path)  # what they begin with are released networks, wherever one stands
    config, stage = train.read_config(CONFIGS[name], "float")
    assert stage.steps > 1000
    assert len(CONFIGS) == 8
    network = train.build_network(config, Path(stage.init) if stage.init else None)
    if name.endswith("_video"):  # a released network, fine-tuned
        clean, _ = train.read_config(CONFIGS[name.removesuffix("_video")], "float")
        assert config["variant"] == clean["variant"] == network.config.variant
        assert same(network.state_dict(), arch.read_checkpoint(Path(stage.init)))
        assert config["float"]["degradation"] == config["qat"]["degradation"] == "video"
        assert config["float"]["lr"] < clean["float"]["lr"]
    if config["variant"] in ("aether_medium", "aether_large"):  # small_2x's blocks, more and wider ones
        config["variant"] = "aether_small"
    (tmp_path / "answers").mkdir()
    for image, pixels in read_images(images, 1)[0].items():
        np.save(tmp_path / "answers" / f"{image}.npy", pixels)
    for section in ("float", "qat"):
        config[section] |= {"steps": 3, "batch": 1, "patch": 16, "save_every": 3}
        if "answers" in config[section]:
            config[section]["answers"] = str(tmp_path / "answers")
    config["qat"]["calibration_batches"] = 1
    net = run.stages("net", config=config)
    for section, file in (("float", "notfused"), ("qat", "qat")):
        assert max(p.stat().st_size for p in (net / f"state_{section}").iterdir()) < 15 << 20
        weights, ranges = arch.split_ranges(trained(net, file))
        assert arch.inspect(weights).variant == config["variant"]
        assert bool(ranges) == (section == "qat")
    windows = [v for k, v in trained(net).items() if k.endswith("window")]
    assert all(float(w.min()) == 0.0 for w in windows)  # closed before the last of three steps
    assert bool(windows) == (config["variant"] != "aether_tiny")


def test_a_released_network_is_named_like_in_arch_load(tmp_path: Path) -> None:
    """Its file is what the stage then names, and the configuration keeps the name, which holds on any machine."""
    path, steps = tmp_path / "net.toml", "steps = 1\nlr = 1e-3\n"
    start = 'variant = "aether_tiny"\n[float]\ninit = "tiny_2x"\nteacher = "small_2x"\n'
    path.write_text(f'{start}{steps}[qat]\ninit = "tiny_2x"\n{steps}')
    config, stage = train.read_config(path, "float")
    assert (stage.init, stage.teacher) == tuple(str(presets.path(n, "notfused")) for n in ("tiny_2x", "small_2x"))
    assert config["float"]["teacher"] == "small_2x"
    assert train.read_config(path, "qat")[1].init == str(presets.path("tiny_2x", "qat"))  # the one with ranges
    network = train.build_network(config, Path(stage.init))
    assert arch.inspect(network.state_dict()) == arch.load("tiny_2x").config
    assert train.find_teacher(network, None, stage).config.variant == "aether_small"


ALLOWED = "allowed are numbers from 0"
TEACHER = "ensemble and target need a teacher"
WRONG: list[tuple[dict[str, Any], str]] = [  # a configuration's entries (None: left out), and what is said of them
    ({"variant": "aether_huge"}, "one of aether_tiny, aether_small"),
    ({"variant": None}, "needed are variant"),
    ({"model": None}, "[model] or an init"),
    ({"model": {"width": 8}}, "section [model]: "),
    ({"model": {"depth": 1}}, "depth >= 3"),
    ({"model": {"in_chans": 1}}, "in_chans is 1; the training data is RGB"),
    ({"float": None}, "[float]"),
    ({"float": {"steps": None}}, "steps"),
    ({"float": 3}, "needed are variant"),
    *(
        ({"float": {key: value}}, said)
        for key, value, said in [
            ("learning_rate", 1e-3, "learning_rate"),
            ("lr", "1e-3", "lr is '1e-3', no float"),
            ("steps", True, "steps is True, no int"),
            ("freeze_ranges", 0.5, "section [float] has no freeze_ranges"),
            ("anneal", 0.5, "anneal is 0.5, no tuple"),
            *(("anneal", shares, "two shares of the steps") for shares in ([0.5], [0.5, 0.1], [0.0, 2.0])),
            ("shares", {"text": -1}, f"shares is {{'text': -1}}; {ALLOWED}"),
            ("patch", 0, "below 1"),
            ("lr", -1e-3, f"lr is -0.001; {ALLOWED}"),
            ("lr", float("nan"), f"lr is nan; {ALLOWED}"),
            ("lr", float("inf"), f"lr is inf; {ALLOWED}"),
            ("seed", -1, f"seed is -1; {ALLOWED}"),
            ("warmup", -2, f"warmup is -2; {ALLOWED}"),
            *((key, 1.5, f"{key} is 1.5; {ALLOWED} to 1") for key in ("ema", "flat", "freeze_norm")),
            ("degradation", "jpeg", "'jpeg'; allowed are bicubic, video"),
            ("optimizer", "sgd", "'sgd'; allowed are adamw, adan, muon"),
            ("ensemble", 4, TEACHER),
            ("target", "teacher", TEACHER),
            ("target", "mean", TEACHER),
            ("teacher", "nothing.safetensors", "nothing.safetensors"),
        ]
    ),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=str)
def test_bad_configurations_are_refused(run: Runs, changes: dict[str, Any], said: str) -> None:
    assert said in run.refused("net", **changes)
    assert not (run.folder / "net").exists()


def test_a_missing_package_is_named(run: Runs, monkeypatch: Patch) -> None:
    for package, stage in (("av", {"degradation": "video"}), ("pytorch_optimizer", {"optimizer": "adan"})):
        monkeypatch.setitem(sys.modules, package, None)
        assert f"pip install {package}" in run.refused("net", float=stage)


@pytest.mark.parametrize("network", [arch.aether_tiny(3), arch.aether_tiny(2, in_chans=1)], ids=["scale", "grey"])
def test_another_kind_of_teacher_is_refused(run: Runs, tmp_path: Path, capsys: Capture, network: Any) -> None:
    arch.write_checkpoint(network.state_dict(), tmp_path / "teacher.pth")
    assert "a teacher here needs (2, 3)" in run.refused("net", float={"teacher": str(tmp_path / "teacher.pth")})
    assert "images," not in capsys.readouterr().out  # before gigabytes of them are decoded
    assert not (tmp_path / "net").exists()


def test_checkpoints_that_do_not_fit_are_refused(run: Runs, float_net: Path, tmp_path: Path) -> None:
    source, fused = float_net / "notfused.pth", tmp_path / "fused.safetensors"
    arch.write_checkpoint(arch.fuse(arch.load(source)).state_dict(), fused)

    def said(init: Path, **changes: Any) -> str:
        return run.refused("second", **changes, float={"init": str(init)})

    wide = {"embed_dim": 16}
    assert "embed_dim=8" in (error := said(source, model=wide)) and "asks for AetherTinyConfig(embed_dim=16" in error
    assert "no such file" in said(tmp_path / "nowhere.safetensors", model=wide)
    assert "give a *_notfused checkpoint" in said(fused, model=None)
    assert "is no aether_small as it is trained" in said(source, model=None, variant="aether_small")
    assert not (tmp_path / "second").exists()
    # the float stage was another network's, or is not there; or the qat stage is to begin with what has no ranges
    assert "asks for AetherTinyConfig(embed_dim=16" in run.refused("net", "--stage", "qat", model=wide)
    assert "notfused.pth: there is no such file" in run.refused("second", "--stage", "qat")
    assert "quantisation-aware" in run.refused("net", "--stage", "qat", qat={"init": str(source)})


@pytest.mark.parametrize("name", ["bad.toml", "nowhere.toml"])
def test_an_unreadable_configuration_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.toml").write_text("variant = ")
    with pytest.raises(train.TrainingError, match="not readable as a configuration"):
        train.read_config(tmp_path / name, "float")


@pytest.mark.parametrize("options", [("--device", "nowhere"), ("--threads", "-1"), ("--max-minutes", "nan")])
def test_bad_options_are_refused(run: Runs, capsys: Capture, options: tuple[str, str]) -> None:
    with pytest.raises(SystemExit):
        run("net", *options)
    assert options[0] in capsys.readouterr().err
    assert not (run.folder / "net").exists()
