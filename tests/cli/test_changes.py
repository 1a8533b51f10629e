"""Films which change midway: the work goes on as the video began, and a note says what changed."""

# pyright: reportAttributeAccessIssue=false

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import vapoursynth as vs

from vsaether.media import graph
from vsaether.media.formats import Layout, Tags
from vsaether.media.graph import FrameUpscaler
from vsaether.sizing import Sizing

from .conftest import Run, fields, luma, make_video, read


def parts(tmp_path: Path, *options: dict) -> Path:
    """A transport stream of several parts of 20 frames, each made with its options."""
    source = tmp_path / "in.ts"
    with source.open("wb") as file:
        for number, each in enumerate(options):
            pts = [1000 + 40 * (20 * number + i) for i in range(20)]
            file.write(make_video(tmp_path / f"{number}.ts", pts=pts, **each).read_bytes())
    return source


def halves(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """Dark on the left, bright on the right."""
    lines = np.full((height, width), 200, np.uint8)
    lines[:, : width // 2] = 50
    return av.VideoFrame.from_ndarray(lines, "gray").reformat(format=pix_fmt)


@pytest.mark.parametrize("size", [(96, 80), (40, 24), (63, 47)])
def test_another_size_is_resized_to_the_first(run: Run, tmp_path: Path, size: tuple[int, int]) -> None:
    """All frames are there, in one size, and show the same picture."""
    if size[0] % 2:  # odd sizes are none of H.264: images in a folder
        source, frames = tmp_path / "frames", 2
        source.mkdir()
        for number, (width, height) in enumerate(((64, 48), size)):
            halves(0, width, height, "rgb24").save(str(source / f"{number}.png"))
        result = run.done(source, tmp_path / "out.mkv", "--crf", "1")
    else:
        source, frames = parts(tmp_path, {"picture": halves}, {"picture": halves, "size": size}), 40
        result = run.film(source, "out.mkv", "--crf", "1")[2]
    after = read(tmp_path / "out.mkv")
    assert (len(after.frames), {(f.width, f.height) for f in after.frames}) == (frames, {(128, 96)})
    first, last = luma(after.frames[0]), luma(after.frames[-1])
    assert abs(first[:, :52] - last[:, :52]).max() <= 4
    assert abs(first[:, 76:] - last[:, 76:]).max() <= 4
    assert f"note: the size changes from 64x48 to {size[0]}x{size[1]} at " in result.err
    assert result.err.count("the size changes") == 1
    assert size[0] % 2 == 0 or "at 1.png" in result.err


def test_what_pads_a_frame_is_not_resized_with_it() -> None:
    clip = vs.core.std.BlankClip(format=vs.GRAY8, width=32, height=24, length=1, color=100)
    padded = clip.std.AddBorders(right=32, bottom=24, color=200)
    resized = graph._resized(padded, (32, 24), (64, 48), (80, 60), alpha=False)
    with resized.get_frame(0) as frame:
        assert (frame.width, frame.height) == (80, 60)
        picture = np.asarray(frame[0])
    assert (picture[:40, :56] == 100).all()
    assert picture[-1, -1] > 190


def test_interlacing_that_begins_later(run: Run, tmp_path: Path) -> None:
    """Nothing done is lost; the fields are not mixed."""
    source = parts(tmp_path, {"size": (64, 64)}, {"size": (64, 64), "interlaced": True, "picture": fields})
    before, after, result = run.film(source, "out.mkv", "--crf", "1")
    assert "note: parts of the input are interlaced" in result.err
    assert (len(after.frames), after.interlaced) == (40, True)
    lines = luma(after.frames[30]).mean(axis=1)
    assert abs(lines[0::2] - luma(before.frames[30])[0::2].mean()).max() < 6
    assert abs(lines[1::2] - lines[0::2]).min() > 100


def test_another_sample_aspect_is_told(run: Run, tmp_path: Path) -> None:
    """It cannot be another one midway in a file."""
    source = parts(tmp_path, {"aspect": Fraction(1)}, {"aspect": Fraction(16, 15)}, {"aspect": Fraction(1)})
    _, after, result = run.film(source)
    assert "note: the sample aspect ratio changes from 1:1 to 16:15 at about 0000" in result.err
    assert result.err.count("aspect") == 1
    assert (len(after.frames), after.aspect) == (60, Fraction(1))


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60)])
def test_rounded_times_go_back_on_the_grid(run: Run, tmp_path: Path, rate: Fraction) -> None:
    """Matroska has milliseconds; MP4 can tell the rate exactly, and so it does."""
    times = [round(1000 * i / rate) for i in range(40)]
    source = make_video(tmp_path / "in.mkv", pts=times, rate=rate, size=(32, 24), options={"bf": "2"})
    _, after, _ = run.film(source, "out.mp4")
    assert after.times == [i / rate for i in range(40)]
    assert set(after.durations) == {1 / rate}
    assert run.film(source, "out.mov")[1].times == after.times
    before, same, _ = run.film(source, "out.mkv")
    assert same.times == before.times == [Fraction(time, 1000) for time in times]
    with av.open(str(tmp_path / "out.mp4")) as file:
        told = file.streams.video[0].average_rate
        assert told is not None
        assert Fraction(told.numerator, told.denominator) == rate


def test_times_off_the_grid_are_kept(run: Run, tmp_path: Path) -> None:
    """From the first frame on which lies elsewhere, all times are those of the input."""
    rate = Fraction(24000, 1001)
    times = [round(1000 * i / rate) for i in range(30)]
    times += [times[-1] + 30 * i for i in range(1, 20)]
    _, after, _ = run.film(make_video(tmp_path / "in.mkv", pts=times, rate=rate, size=(32, 24)), "out.mp4")
    assert after.times[:30] == [i / rate for i in range(30)]
    assert after.times[30:] == [Fraction(time, 1000) for time in times[30:]]


def test_results_are_copies_only_of_what_has_to_be_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaling a frame takes long: only side data and field flags, which PyAV cannot set, are worth it."""
    scaled = []
    layout, tags = Layout(vs.GRAY, 8), Tags(2, 1, 2, 2, 0)
    for carries in (True, False):
        upscaler = FrameUpscaler(
            lambda clip, width, height: clip.resize.Point(width, height),
            Sizing(2),
            lambda layout, tags, suffix: (layout, tags),
            1,
            carries=lambda frame, carries=carries: scaled.append(carries) or carries,
        )
        shown = av.VideoFrame.from_ndarray(np.arange(64, dtype=np.uint8).reshape(8, 8), "gray")
        shown.pts, shown.duration, shown.time_base = 7, 3, Fraction(1, 25)
        tags.put(shown)
        ((result, name), *_) = [*upscaler.push(shown, "x"), *upscaler.flush()]
        upscaler.close()
        assert (name, result.pts, result.duration, result.width, result.height) == ("x", 7, 3, 16, 16)
        assert Tags.of(result) == tags
        assert np.array_equal(layout.planes(result)[0][0][::2, ::2], layout.planes(shown)[0][0])
    assert scaled == [True, False]
