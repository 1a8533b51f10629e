"""Films of which parts are of another kind: each frame is made what the film began as, none is lost, and it is said."""

# pyright: reportAttributeAccessIssue=false

from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest
import vapoursynth as vs

from vsaether.media import graph
from vsaether.media.formats import Layout, Tags
from vsaether.media.graph import FrameUpscaler
from vsaether.media.muxer import VideoWriter
from vsaether.sizing import Sizing

from .conftest import Run, fields, luma, make_video, read, solid

WHOLE = {"size": (64, 64)}
FIELDS = WHOLE | {"interlaced": True, "picture": fields}
CRF = ("--preset", "ultrafast", "--crf", "1")


def parts(tmp_path: Path, *options: dict) -> Path:
    """A transport stream of several parts of 20 frames, each made with its options."""
    source = tmp_path / "in.ts"
    with source.open("wb") as file:
        for number, each in enumerate(options):
            pts = [1000 + 40 * (20 * number + i) for i in range(20)]
            file.write(make_video(tmp_path / f"{number}.ts", pts=pts, **each).read_bytes())
    return source


def halves(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    lines = np.full((height, width), 200, np.uint8)
    lines[:, : width // 2] = 50
    return av.VideoFrame.from_ndarray(lines, "gray").reformat(format=pix_fmt)


@pytest.mark.parametrize("size", [(96, 80), (40, 24), (63, 47)])
def test_another_size_is_resized_to_the_first(
    run: Run, tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By us, before an encoder would."""
    given, write = set(), VideoWriter.write
    monkeypatch.setattr(VideoWriter, "write", lambda to, shown, name: given.add(shown.width) or write(to, shown, name))
    if size[0] % 2:  # odd sizes are none of H.264: images in a folder
        source, frames, place = tmp_path / "frames", 2, "1.png"
        source.mkdir()
        for number, (width, height) in enumerate(((64, 48), size)):
            halves(0, width, height, "rgb24").save(str(source / f"{number}.png"))
    else:
        source, frames, place = parts(tmp_path, {"picture": halves}, {"picture": halves, "size": size}), 40, ""
    result = run.done(source, tmp_path / "out.mkv", "--crf", "1")
    after = read(tmp_path / "out.mkv")
    assert (len(after.frames), {(f.width, f.height) for f in after.frames}) == (frames, {(128, 96)})
    assert given == {128}
    first, last = luma(after.frames[0]), luma(after.frames[-1])
    assert abs(first[:, :52] - last[:, :52]).max() <= 4
    assert abs(first[:, 76:] - last[:, 76:]).max() <= 4
    assert f"note: the size changes from 64x48 to {size[0]}x{size[1]} at {place}" in result.err
    assert result.err.count("the size changes") == 1


def test_what_pads_a_frame_is_not_resized_with_it() -> None:
    clip = vs.core.std.BlankClip(format=vs.GRAY8, width=32, height=24, length=1, color=100)
    padded = clip.std.AddBorders(right=32, bottom=24, color=200)
    with graph._resized(padded, (32, 24), (64, 48), (80, 60), alpha=False).get_frame(0) as frame:
        assert (frame.width, frame.height) == (80, 60)
        picture = np.asarray(frame[0])
    assert (picture[:40, :56] == 100).all()
    assert picture[-1, -1] > 190


@pytest.mark.parametrize("segments", ["--no-resume", "--segment=0.4"])
def test_a_film_that_is_interlaced_in_parts(run: Run, tmp_path: Path, segments: str) -> None:
    """Its fields are kept by encoders which have them, wherever they begin; others take it, too, and it is said."""
    source = parts(tmp_path, WHOLE, FIELDS, WHOLE)
    for codec, interlaced, told in (
        ("libx264", True, "parts of the input are interlaced, and stays so"),
        ("libx265", False, "no longer marked so"),
    ):
        before, after, result = run.film(source, f"{codec}.mkv", *CRF, "--codec", codec, segments)
        assert ([shown.interlaced_frame for shown in after.frames], after.size) == ([interlaced] * 60, (128, 128))
        assert told in result.err
        assert "--deinterlace flagged" in result.err
        lines = luma(after.frames[30]).mean(axis=1)
        assert abs(lines[0::2] - luma(before.frames[30])[0::2].mean()).max() < 6
        assert abs(lines[1::2] - lines[0::2]).min() > 100


def test_what_is_interlaced_is_found_late(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no look into the film had shown it: nothing done is lost, and a note says where, and what to do."""
    monkeypatch.setattr("vsaether.media.job.later_interlaced", lambda path, stream: False)
    _, after, result = run.film(parts(tmp_path, WHOLE, FIELDS))
    assert len(after.frames) == 40
    assert "interlaced frames begin at 000021" in result.err
    assert "--deinterlace flagged" in result.err
    assert "--deinterlace flagged" in run.refused(parts(tmp_path, FIELDS), tmp_path / "hevc.mkv", "--codec", "libx265")


@pytest.mark.parametrize("segments", ["--no-resume", "--segment=0.5"])
@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"aspect": Fraction(16, 15)}, "the sample aspect ratio changes from 1:1 to 16:15 at about 0000"),
        ({"pix_fmt": "yuv422p10le"}, "the sample format changes from yuv420p to yuv422p10le at 000021"),
    ],
)
def test_a_file_has_one_aspect_and_format(run: Run, tmp_path: Path, other: dict, told: str, segments: str) -> None:
    square = {"aspect": Fraction(1)}
    _, after, result = run.film(parts(tmp_path, square, square | other, square), "out.mkv", segments)
    assert ({shown.format.name for shown in after.frames}, len(after.frames)) == ({"yuv420p"}, 60)
    assert after.aspect == 1
    assert (result.err.count(told), result.err.count("note:")) == (1, 1)


def test_tags_that_change_midway_are_converted(run: Run, tmp_path: Path) -> None:
    """A file has one colour: a part which is tagged otherwise looks as before in it, and a note says so."""
    film = {"picture": solid(100, 90, 170), "options": {"crf": "1"}}
    source = parts(tmp_path, *(film | {"tags": tags} for tags in ((1, 1, 1, 1), (6, 1, 1, 2))))
    before, after, result = run.film(source, "out.mkv", "--crf", "1")
    assert "the colours' tags change at 000021" in result.err
    assert {(shown.colorspace, shown.color_range) for shown in after.frames} == {(1, 1)}

    def colour(shown: av.VideoFrame, matrix: str) -> np.ndarray:
        return shown.to_ndarray(format="rgb24", src_colorspace=matrix)[9, 9].astype(int)

    assert abs(colour(before.frames[30], "ITU709") - colour(before.frames[30], "SMPTE170M")).max() > 6
    for place, matrix in ((0, "ITU709"), (30, "SMPTE170M")):
        assert abs(colour(after.frames[place], "ITU709") - colour(before.frames[place], matrix)).max() <= 2


def test_sound_that_changes_is_converted_to_its_end(run: Run, tmp_path: Path) -> None:
    pts, source = [40 * i for i in range(25)], tmp_path / "in.ts"
    with source.open("wb") as file:
        for sound in ((48000, "stereo"), (44100, "mono")):
            file.write(make_video(tmp_path / "part.ts", pts=pts, audio="mp2", sound=sound).read_bytes())
    run.film(source, "out.webm")
    with av.open(str(tmp_path / "out.webm")) as file:
        heard = list(file.decode(audio=0))
    assert {(part.layout.name, part.sample_rate) for part in heard} == {("stereo", 48000)}
    assert abs(sum(part.samples for part in heard) / 48000 - 2) < 0.1
    loud = np.concatenate([part.to_ndarray() for part in heard], axis=1)
    assert np.abs(loud[:, 60000:80000]).max() > 0.1


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
        assert file.streams.video[0].average_rate == rate


def test_times_off_the_grid_are_kept(run: Run, tmp_path: Path) -> None:
    """From the first frame on which lies elsewhere, all times are those of the input."""
    rate = Fraction(24000, 1001)
    times = [round(1000 * i / rate) for i in range(30)]
    times += [times[-1] + 30 * i for i in range(1, 20)]
    _, after, _ = run.film(make_video(tmp_path / "in.mkv", pts=times, rate=rate, size=(32, 24)), "out.mp4")
    assert after.times[:30] == [i / rate for i in range(30)]
    assert after.times[30:] == [Fraction(time, 1000) for time in times[30:]]


def test_results_are_copies_only_of_what_has_to_be_carried() -> None:
    """Scaling a frame takes long: only side data and field flags, which PyAV cannot set, are worth it."""
    layout, tags, carries = Layout(vs.GRAY, 8), Tags(2, 1, 2, 2, 0), Mock(side_effect=[True, False])
    for _ in range(2):
        upscaler = FrameUpscaler(
            lambda clip, *size: clip.resize.Point(*size), Sizing(2), lambda *_: (layout, tags), 1, carries=carries
        )
        shown = av.VideoFrame.from_ndarray(np.arange(64, dtype=np.uint8).reshape(8, 8), "gray")
        shown.pts, shown.duration, shown.time_base = 7, 3, Fraction(1, 25)
        tags.put(shown)
        ((result, name), *_) = [*upscaler.push(shown, "x"), *upscaler.flush()]
        upscaler.close()
        assert (name, result.pts, result.duration, result.width, result.height) == ("x", 7, 3, 16, 16)
        assert Tags.of(result) == tags
        assert np.array_equal(layout.planes(result)[0][0][::2, ::2], layout.planes(shown)[0][0])
    assert carries.call_count == 2
