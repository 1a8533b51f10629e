"""The configurations that come with the project: three small steps of both stages of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import arch
import presets
from training import train
from training.data import read_images

from .conftest import Run

CONFIGS = {p.stem: p for p in sorted((Path(train.__file__).parent / "configs").glob("*.toml"))}


def test_all_are_here() -> None:
    assert {"tiny_2x", "small_2x", "medium_2x", "large_2x", "tiny_2x_video", "small_2x_video"} <= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_three_steps(run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)  # what they begin with are released networks, wherever one stands
    config, stage = train.read_config(CONFIGS[name], "float")
    assert stage.steps > 1000
    assert train.build_network(config, Path(stage.init) if stage.init else None)
    if config["variant"] in ("aether_medium", "aether_large"):  # small_2x's blocks, more and wider ones
        config["variant"] = "aether_small"
    small = {"steps": 3, "batch": 1, "patch": 16, "save_every": 2}
    config["float"] |= small
    config["qat"] |= small | {"calibration_batches": 1}
    for stage in (config["float"], config["qat"]):
        if "answers" in stage:
            stage["answers"] = str(tmp_path / "answers")
    (tmp_path / "answers").mkdir()
    for image, pixels in read_images(images, 1)[0].items():
        np.save(tmp_path / "answers" / f"{image}.npy", pixels)
    assert run("net", config=config) == 0
    assert run("net", "--stage", "qat", config=config) == 0
    for stage, file in (("float", "notfused"), ("qat", "qat")):
        files = list((tmp_path / "net" / f"state_{stage}").iterdir())
        assert max(p.stat().st_size for p in files) < 15 << 20
        weights, ranges = arch.split_ranges(arch.read_checkpoint(tmp_path / "net" / f"{file}.pth"))
        assert arch.inspect(weights).variant == config["variant"]
        assert bool(ranges) == (stage == "qat")
    trained = arch.read_checkpoint(tmp_path / "net" / "notfused.pth")
    windows = [v for k, v in trained.items() if k.endswith("window")]
    low, high = config["float"].get("anneal", (0, 0))
    outer = min(1.0, max(0.0, (high - 2 / 3) / max(high - low, 1e-9)))  # in the last of three steps
    assert all(float(w.min()) == outer for w in windows)
    assert bool(windows) == (config["variant"] != "aether_tiny")


@pytest.mark.parametrize("name", [n for n in CONFIGS if n.endswith("_video")])
def test_video_models_are_the_released_ones_fine_tuned(name: str) -> None:
    (config, stage), (clean, _) = (train.read_config(CONFIGS[n], "float") for n in (name, name.removesuffix("_video")))
    start = Path(stage.init)
    network = train.build_network(config, start)
    released = arch.read_checkpoint(start)
    assert config["variant"] == clean["variant"] == network.config.variant
    assert all(torch.equal(v, released[k]) for k, v in network.state_dict().items())
    assert config["float"]["degradation"] == config["qat"]["degradation"] == "video"
    assert config["float"]["lr"] < clean["float"]["lr"]


def test_a_released_network_is_named_like_in_arch_load(tmp_path: Path) -> None:
    """Its file is what the stage then names, and the configuration keeps the name, which holds on any machine."""
    path = tmp_path / "net.toml"
    path.write_text('variant = "aether_tiny"\n[float]\ninit = "tiny_2x"\nteacher = "small_2x"\nsteps = 1\nlr = 1e-3\n')
    config, stage = train.read_config(path, "float")
    assert (stage.init, stage.teacher) == tuple(str(presets.path(n, "notfused")) for n in ("tiny_2x", "small_2x"))
    assert config["float"]["teacher"] == "small_2x"
    path.write_text(
        'variant = "aether_tiny"\n[float]\ninit = "tiny_2x"\n[qat]\ninit = "tiny_2x"\nsteps = 1\nlr = 1e-3\n'
    )
    assert train.read_config(path, "qat")[1].init == str(presets.path("tiny_2x", "qat"))  # the one with ranges
    network = train.build_network(config, Path(stage.init))
    assert arch.inspect(network.state_dict()) == arch.load("tiny_2x").config
    assert train.find_teacher(network, None, stage).config.variant == "aether_small"
