"""``vsaether upscale`` on videos: all that a file holds besides the samples is there again."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

import vsaether
from vsaether.media import source as module
from vsaether.media.encode import VideoEncoder

from .conftest import FAST, FONT, VFR, Run, make_video, read

MILLISECOND = Fraction(1, 1000)


def test_everything_in_a_matroska_file_is_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vsaether.backends.OpenVINO, "note", classmethod(lambda _, precision: "in another way"))
    source = make_video(
        tmp_path / "in.mkv",
        pts=VFR,
        audio="aac",
        subtitle=True,
        attachment=True,
        chapters=True,
        metadata={"TITLE": "A title", "DIRECTOR": "Someone"},
        options={"bf": "2"},
    )
    before, after, result = run.film(source)
    assert after.times == before.times == [time * MILLISECOND for time in VFR]
    for name in ("packets", "kinds", "chapters", "attachments", "metadata"):
        assert getattr(after, name) == getattr(before, name), name
    assert (len(after.packets[2]), len(after.chapters), after.size) == (2, 2, (128, 96))
    assert after.attachments == [("font.ttf", "application/x-truetype-font", FONT)]
    assert (after.metadata["title"], after.metadata["DIRECTOR"]) == ("A title", "Someone")
    told = ("toy_2x_fp32", "fp32; in another way", "ov", "12 of 128x96", "fps", str(source), str(tmp_path / "out.mkv"))
    assert [text for text in told if text not in result.out] == []
    assert "12/12 frames" in result.err


def test_packets_lie_in_order_of_time(run: Run, tmp_path: Path) -> None:
    """Sound stays beside the picture in the file, though the encoder holds back half a minute of frames."""
    source = make_video(tmp_path / "in.mkv", pts=[1000 * i for i in range(60)], audio="mp2")
    run.done(source, tmp_path / "out.mkv")
    order = read(tmp_path / "out.mkv").order
    assert {index for _, index in order} == {0, 1}
    assert max(earlier - later for (earlier, _), (later, _) in pairwise(order)) < 2


@pytest.mark.parametrize(("suffix", "outputs"), [(".mp4", "mp4 mov mkv"), (".mov", "mov"), (".ts", "ts")])
def test_other_containers_keep_times_sound_and_chapters(run: Run, tmp_path: Path, suffix: str, outputs: str) -> None:
    """The track in which MP4 keeps chapters is no stream which another container would have to carry."""
    film = {"audio": "aac", "chapters": suffix != ".ts", "metadata": {"title": "T", "com.maker.key": "V"}}
    source = make_video(tmp_path / f"in{suffix}", pts=VFR, **film)
    for output in outputs.split():
        before, after, _ = run.film(source, f"out.{output}")
        assert ("data" in [kind for kind, _, _ in before.kinds]) == (suffix != ".ts")
        assert (after.times, after.chapters) == (before.times, before.chapters)
        assert output == "mkv" or after.packets[1] == before.packets[1]
        assert len(after.chapters) == (0 if suffix == ".ts" else 2)
        assert suffix == ".ts" or {key.lower(): value for key, value in after.metadata.items()}["title"] == "T"


def test_a_colon_is_no_protocol(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes what stands before a colon for the name of a protocol, unless the path is absolute."""
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "a:b.mkv")
    for source, output in (("a:b.mkv", "c:d.mp4"), ("a:b.mkv", "e:%03d.png"), ("e:001.png", "f:g.png")):
        run.done(source, output, "--limit", 1, "--overwrite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a:b.mkv", "c:d.mp4", "e:001.png", "f:g.png"]


def test_an_mpeg_clock_starts_at_zero_in_other_containers(run: Run, tmp_path: Path) -> None:
    """MPEG-TS starts anywhere; players of other containers would show nothing until then."""
    source = make_video(tmp_path / "in.ts", pts=[9000 + 40 * i for i in range(12)])
    for name in ("out.mkv", "out.mp4", "out.ts"):
        before, after, _ = run.film(source, name)
        start = before.times[0] if name == "out.ts" else 0
        assert before.times[0] >= 9
        assert after.times == [start + 40 * i * MILLISECOND for i in range(12)]


@pytest.mark.parametrize(
    ("pts", "dts", "times"),
    [
        # The decoding times given for those of presentation, as some containers do it.
        ([0, 80, 40, 160, 120], [0, 40, 80, 120, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 40, 120, 160], [0, 40, 40, 120, 160], [0, 40, 41, 120, 160]),
    ],
)
def test_wrong_timestamps_are_mended(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pts: list[int], dts: list[int], times: list[int]
) -> None:
    """The frames' order is what counts; the later of two frames of one time moves by the smallest step."""
    decode = module.decode

    def changed(*arguments: Any) -> Iterator[av.VideoFrame | av.Packet]:
        told = iter(zip(pts, dts, strict=True))
        for item in decode(*arguments):
            if isinstance(item, av.VideoFrame):
                item.pts, item.dts = next(told)
            yield item

    monkeypatch.setattr(module, "decode", changed)
    _, after, _ = run.film(make_video(tmp_path / "in.mkv", pts=[0, 40, 80, 120, 160]))
    assert after.times == [time * MILLISECOND for time in times]


@pytest.mark.parametrize("options", [{}, {"bf": "2"}])
def test_a_stream_without_timestamps_keeps_its_rate(run: Run, tmp_path: Path, options: dict[str, str]) -> None:
    """A bare H.264 stream tells neither times nor durations, but its rate."""
    before, after, _ = run.film(make_video(tmp_path / "in.h264", options=options))
    assert {frame.pts for frame in before.frames} == {None}
    assert after.times == [40 * i * MILLISECOND for i in range(12)]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_clock_that_steps_back_goes_on(run: Run, tmp_path: Path, suffix: str) -> None:
    """Of two MPEG streams, one written behind the other, the second is played after the first, sound and all."""
    part = make_video(tmp_path / "part.ts", audio="aac")
    source = tmp_path / "in.ts"
    source.write_bytes(part.read_bytes() * 2)
    before, after, _ = run.film(source, f"out{suffix}")
    assert len(after.times) == 24
    assert len(after.packets[1]) == len(before.packets[1])
    steps = [later - earlier for earlier, later in pairwise(after.times)]
    assert steps[:11] == steps[12:] == [40 * MILLISECOND] * 11
    sound = [time for time, _ in after.packets[1]]
    assert max(later - earlier for earlier, later in pairwise(sound)) < Fraction(1, 10)
    assert abs((after.times[12] - after.times[0]) - (sound[len(sound) // 2] - sound[0])) < Fraction(1, 50)


@pytest.mark.parametrize(
    ("output", "codec"), [("out.mkv", "ffv1"), ("out.mov", "prores_ks"), ("out.webm", "libsvtav1")]
)
def test_other_encoders(run: Run, tmp_path: Path, output: str, codec: str) -> None:
    source = make_video(tmp_path / "in.mkv", pix_fmt="yuv420p10le", codec="ffv1")
    _, after, result = run.film(source, output, "--codec", codec)
    assert len(after.frames) == 12
    assert "10le" in after.pix_fmt
    assert ("note: prores_ks cannot hold yuv420p10le" in result.err) == (codec == "prores_ks")


def test_frames_as_images_and_back(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv")
    run.done(source, tmp_path / "frames")
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"{number:06d}.png" for number in range(1, 13)]
    run.done(source, tmp_path / "some" / "100%x%03d.jpg", "--limit", 2)
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["100%x001.jpg", "100%x002.jpg"]
    run.done(tmp_path / "frames", tmp_path / "back.mp4", "--fps", "30000/1001", *FAST)
    back = read(tmp_path / "back.mp4")
    assert (back.size, back.pix_fmt, back.tags[0]) == ((256, 192), "yuv420p", 1)
    assert back.times == [Fraction(1001 * i, 30000) for i in range(12)]


@pytest.mark.parametrize("times", [[0], [0, 40], VFR[:4]])
@pytest.mark.parametrize("wrong", [140382974514288, -5_000_000])
def test_decoding_times_without_sense(run: Run, times: list[int], wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """x265 moves them by what happens to lie on its stack where a video is shorter than its delay; MP4 needs them."""
    taken = VideoEncoder._taken

    def moved(self: VideoEncoder, packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            packet.dts = (packet.pts or 0) - wrong
        return taken(self, packets)

    monkeypatch.setattr(VideoEncoder, "_taken", moved)
    source = make_video(run.folder / "in.mkv", codec="ffv1", pix_fmt="yuv420p10le", pts=times)
    _, after, _ = run.film(source, "out.mp4", "--encoder-options", "x265-params=bframes=0")
    assert after.times == [time * MILLISECOND for time in times]
