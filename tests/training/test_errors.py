"""Bad configurations and options: a sentence, before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import arch
from training import train

from .conftest import Refused, Run, toy

FLOAT, MODEL = toy()["float"], toy()["model"]
ALLOWED = "allowed are numbers from 0"
TEACHER = "ensemble and target need a teacher"
WRONG: list[tuple[dict[str, Any], str]] = [  # sections of a configuration (None: left out), and what is said of them
    ({"variant": "aether_huge"}, "one of aether_tiny, aether_small"),
    ({"variant": None}, "needed are variant"),
    ({"model": None}, "[model] or an init"),
    ({"model": {"scale": 2, "width": 8}}, "section [model]: "),
    ({"model": {"scale": 2, "depth": 1}}, "depth >= 3"),
    ({"model": MODEL | {"in_chans": 1}}, "in_chans is 1; the training data is RGB"),
    ({"float": None}, "[float]"),
    ({"float": {"lr": 1e-3}}, "steps"),
    ({"float": 3}, "needed are variant"),
    *(
        ({"float": FLOAT | {key: value}}, said)
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
def test_bad_configurations_are_refused(refused: Refused, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    config = {k: v for k, v in (toy() | changes).items() if v is not None}
    assert said in refused("net", config=config)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("option", "value", "package"), [("degradation", "video", "av"), ("optimizer", "adan", "pytorch_optimizer")]
)
def test_a_missing_package_is_named(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, option: str, value: str, package: str
) -> None:
    config = toy()
    config["float"][option] = value
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install {package}" in refused("net", config=config)


@pytest.mark.parametrize("network", [arch.aether_tiny(3), arch.aether_tiny(2, in_chans=1)], ids=["scale", "grey"])
def test_a_teacher_of_another_kind_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], network: arch.AetherTiny
) -> None:
    config = toy()
    config["float"]["teacher"] = str(tmp_path / "teacher.pth")
    arch.write_checkpoint(network.state_dict(), tmp_path / "teacher.pth")
    assert run("net", config=config) == 1
    said = capsys.readouterr()
    assert "a teacher here needs (2, 3)" in said.err
    assert "images," not in said.out  # before gigabytes of them are decoded
    assert not (tmp_path / "net").exists()


def test_checkpoints_that_do_not_fit_are_refused(run: Run, refused: Refused, tmp_path: Path) -> None:
    assert run("first") == 0
    source, fused = tmp_path / "first" / "notfused.pth", tmp_path / "fused.safetensors"
    arch.write_checkpoint(arch.fuse(arch.load(source)).state_dict(), fused)

    def said(init: Path, **changes: Any) -> str:
        config: dict[str, Any] = toy() | changes
        config["float"]["init"] = str(init)
        return refused("second", config={k: v for k, v in config.items() if v is not None})

    wide = MODEL | {"embed_dim": 16}
    assert "embed_dim=8" in (error := said(source, model=wide)) and "asks for AetherTinyConfig(embed_dim=16" in error
    assert "no such file" in said(tmp_path / "nowhere.safetensors", model=wide)
    assert "give a *_notfused checkpoint" in said(fused, model=None)
    assert "is no aether_small as it is trained" in said(source, model=None, variant="aether_small")
    assert not (tmp_path / "second").exists()
    # the float stage was another network's
    assert "asks for AetherTinyConfig(embed_dim=16" in refused(
        "first", "--stage", "qat", config=toy() | {"model": wide}
    )
    assert "notfused.pth: there is no such file" in refused("second", "--stage", "qat")


def test_an_unreadable_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("variant = ")
    for name in ("bad.toml", "nowhere.toml"):
        with pytest.raises(train.TrainingError, match="not readable as a configuration"):
            train.read_config(tmp_path / name, "float")


@pytest.mark.parametrize("options", [("--device", "nowhere"), ("--threads", "-1"), ("--max-minutes", "nan")])
def test_bad_options_are_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit):
        run("net", *options)
    assert options[0] in capsys.readouterr().err
    assert not (tmp_path / "net").exists()
