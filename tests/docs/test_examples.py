"""The commands and scripts of the pages run as they are printed."""

# pyright: reportAttributeAccessIssue=false

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import vapoursynth as vs
from PIL import Image

import vsaether
from vsaether import backends
from vsaether.cli import main

from .test_pages import ROOT, blocks


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages' commands and scripts read, small: films of two frames of 48x32."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("frames", "season"):
        (folder / name).mkdir()
    for number in range(2):
        Image.new("RGB", (24, 16), (number, 80, 160)).save(folder / "frames" / f"{number}.png")
    for film in ("in.mkv", "in.mp4"):
        assert main(["upscale", str(folder / "frames"), str(folder / film), "--engine", "tiny_2x_int8"]) == 0
    for source, copy in (("in.mkv", "input.mkv"), ("in.mkv", "season/1.mkv"), ("frames/0.png", "picture.png")):
        shutil.copy(folder / source, folder / copy)
    return folder


@pytest.fixture
def inputs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it: the working directory."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/use/cli.md"])
def test_the_commands_run(inputs: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of vsaether; what needs an engine of one's own is left out, and so is what takes minutes."""
    lines = [line for block in blocks(ROOT / page, "sh") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("vsaether ")]
    commands = [words for words in commands if not any("engines/" in word for word in words)]
    assert len(commands) >= 4
    for words in commands:
        assert main(words[1:]) == 0, (words, capsys.readouterr().err)
    assert (inputs / "out.mkv").stat().st_size > 0


SIZES = {"README.md": [(96, 64)], "docs/use/vapoursynth.md": [(96, 64), (96, 64), (96, 54)]}


@pytest.mark.parametrize("page", SIZES)
def test_the_scripts_run(inputs: Path, page: str) -> None:
    for script, size in zip(blocks(ROOT / page, "python"), SIZES[page], strict=True):
        try:
            exec(compile(script, page, "exec"), {})
            output = vs.get_output(0)
            assert isinstance(output, vs.VideoOutputTuple)
            with output.clip.get_frame(0) as frame:
                assert (frame.width, frame.height, frame.format.id) == (*size, vs.YUV420P8)
        finally:
            vs.clear_outputs()


def test_colours_can_be_said() -> None:
    (line,) = blocks(ROOT / "docs" / "use" / "colour.md", "python")
    clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=32, height=32, length=1)
    with eval(line.strip(), {"vsaether": vsaether, "clip": clip}).get_frame(0) as frame:
        assert (frame.props["_Matrix"], frame.props["_Range"]) == (1, 1)


def test_the_backend_of_the_page_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", dict(backends.BACKENDS))
    (code,) = blocks(ROOT / "docs" / "develop" / "add-a-backend.md", "python")
    namespace: dict = {"__name__": "page"}
    exec(compile(code, "add-a-backend.md", "exec"), namespace)
    clip = vs.core.std.BlankClip(format=vs.GRAY8, width=32, height=20, length=1, color=[90])
    for backend in ("nearest:blur=1", namespace["Nearest"](blur=1)):
        with vsaether.upscale(clip, "tiny_2x_fp32", backend=backend).get_frame(0) as frame:
            assert np.array_equal(frame[0], np.full((40, 64), 90))
    assert backends.probe()["nearest"] is None
    with pytest.raises(vsaether.BackendError, match="nearest: it computes in float32"):
        vsaether.upscale(clip, "tiny_2x_int8", backend="nearest")
