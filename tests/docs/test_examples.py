"""The examples of the pages run."""

# pyright: reportAttributeAccessIssue=false

from pathlib import Path

import av
import numpy as np
import pytest
import vapoursynth as vs

import vsaether
from vsaether import backends

from .test_pages import ROOT, blocks

DOCS = ROOT / "docs"


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """input.mkv in the current folder: one frame of 64x36."""
    monkeypatch.chdir(tmp_path)
    with av.open("input.mkv", "w") as out:
        video = out.add_stream("ffv1", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 36, "yuv420p"
        out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((54, 64), 90, np.uint8), "yuv420p")))
        out.mux(video.encode(None))
    return tmp_path / "input.mkv"


@pytest.mark.parametrize(("number", "size"), [(0, (128, 72)), (1, (128, 72)), (2, (96, 54))])
def test_scripts_run(number: int, size: tuple[int, int], film: Path) -> None:
    scripts = blocks(DOCS / "use" / "vapoursynth.md", "python")
    assert len(scripts) == 3
    exec(compile(scripts[number], "script.vpy", "exec"), {})
    output = vs.get_output(0)
    try:
        assert isinstance(output, vs.VideoOutputTuple)
        with output.clip.get_frame(0) as frame:
            assert (frame.width, frame.height, frame.format.id) == (*size, vs.YUV420P8)
    finally:
        vs.clear_outputs()


def test_colours_can_be_said() -> None:
    (line,) = blocks(DOCS / "use" / "colour.md", "python")
    clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=32, height=32, length=1)
    with eval(line.strip(), {"vsaether": vsaether, "clip": clip}).get_frame(0) as frame:
        assert (frame.props["_Matrix"], frame.props["_Range"]) == (1, 1)


def test_the_backend_of_the_page_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", dict(backends.BACKENDS))
    (code,) = blocks(DOCS / "develop" / "add-a-backend.md", "python")
    namespace: dict = {"__name__": "page"}
    exec(compile(code, "add-a-backend.md", "exec"), namespace)
    clip = vs.core.std.BlankClip(format=vs.GRAY8, width=32, height=20, length=1, color=[90])
    for backend in ("nearest:blur=1", namespace["Nearest"](blur=1)):
        with vsaether.upscale(clip, "tiny_2x_fp32", backend=backend).get_frame(0) as frame:
            assert np.asarray(frame[0]).shape == (40, 64)
            assert np.all(np.asarray(frame[0]) == 90)
    assert backends.probe()["nearest"] is None
    with pytest.raises(vsaether.BackendError, match="nearest: it computes in float32"):
        vsaether.upscale(clip, "tiny_2x_int8", backend="nearest")
