"""The streams besides the video: none is a reason to refuse a film, and none is lost in silence."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from vsaether.media.decoding_times import DecodingTimes
from vsaether.media.images import encode
from vsaether.media.interleave import Interleaver

from .conftest import Run, frame, join, make_video, read

FAST = ("--preset", "ultrafast")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_another_video_with_reordered_frames_is_copied(run: Run, tmp_path: Path, suffix: str) -> None:
    """Matroska does not tell when frames are decoded; the packets and their times are the same."""
    parts = [make_video(tmp_path / f"{name}.mkv", options={"bf": "2", "refs": "3"}) for name in "ab"]
    source = join(tmp_path / "in.mkv", *parts)
    result = run(source, tmp_path / f"out{suffix}", *FAST)
    assert result.code == 0, result.err
    before, after = read(source), read(tmp_path / f"out{suffix}")
    assert len(before.packets[1]) == 12
    start = after.packets[1][0][0]
    assert [time - start for time, _ in after.packets[1]] == [time for time, _ in before.packets[1]]
    dts = [time for time, index in after.order if index == 1]
    assert all(earlier < later for earlier, later in pairwise(dts))
    if suffix != ".ts":
        assert after.times == before.times


def packet(pts: int | None, dts: int | None = None) -> av.Packet:
    """One of 10 units."""
    made = av.Packet(b"x")
    made.pts, made.dts, made.duration, made.time_base = pts, dts, 10, Fraction(1, 1000)
    return made


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([(0, None), (30, None), (10, 0), (20, 10)], [-20, -10, 0, 10]),
        ([(0, 0), (10, 10), (20, None)], [0, 10, 11]),
        ([(0, None), (30, None), (10, None), (20, None), (70, None), (35, None)], [-10, 0, 10, 20, 30, 35]),
        ([(10 * i, None) for i in range(40)], [10 * i for i in range(40)]),
    ],
)
def test_decoding_times_are_completed(given: list[tuple[int, int | None]], told: list[int]) -> None:
    """They rise, lie before the times of presentation, and are those of the file where it tells."""
    times = DecodingTimes()
    found = [done for pts, dts in given for done in times.put(packet(pts, dts))] + times.flush()
    assert [done.pts for done in found] == [pts for pts, _ in given]
    assert [done.dts for done in found] == told
    assert all((done.dts or 0) <= (done.pts or 0) for done in found)


def test_a_packet_ahead_of_its_time_waits_alone() -> None:
    """The others of its stream come after it, those of the other streams do not wait."""
    held = Interleaver()
    for index, pts in ((0, 0), (1, 90_000), (0, 10), (1, 20), (0, 20), (0, 30)):
        given = packet(pts, pts)
        with av.open("/dev/null", "w", format="null") as out:
            given.stream = [out.add_data_stream() for _ in range(2)][index]
        held.put(given)
    assert [(p.stream_index, p.dts) for p in held.release(Fraction(20, 1000))] == [(0, 0), (0, 10), (0, 20)]
    assert [(p.stream_index, p.dts) for p in held.release(None)] == [(0, 30), (1, 90_000), (1, 20)]
    assert list(held.release(None)) == []


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv", ".ts"])
def test_a_timecode_goes_where_it_can_be_told(run: Run, tmp_path: Path, suffix: str) -> None:
    """Its track is no reason to refuse; where no tag can tell it, a note says so."""
    source = make_video(tmp_path / "in.mov", metadata={"timecode": "01:00:00:00"})
    assert [kind for kind, _, _ in read(source).kinds] == ["video", "data"]
    result = run(source, tmp_path / f"out{suffix}", *FAST)
    assert result.code == 0, result.err
    assert ("note: .ts cannot carry the timecode 01:00:00:00: left out" in result.err) == (suffix == ".ts")
    assert ("note" in result.err) == (suffix == ".ts")
    with av.open(str(tmp_path / f"out{suffix}")) as after:
        video = {key.lower(): value for key, value in after.streams.video[0].metadata.items()}
        assert video.get("timecode") == (None if suffix == ".ts" else "01:00:00:00")


def test_a_timecode_which_is_none_is_left_out(run: Run, tmp_path: Path) -> None:
    """Drop-frame timecodes are for 30 and 60 frames a second: MP4 would refuse the whole film."""
    source = make_video(tmp_path / "in.mkv", metadata={"timecode": "01:00:00;00"})
    result = run(source, tmp_path / "out.mp4", *FAST)
    assert result.code == 0, result.err
    assert "note: .mp4 cannot carry the timecode 01:00:00;00: left out" in result.err
    assert len(read(tmp_path / "out.mp4").times) == 12


@pytest.mark.parametrize(("suffix", "kept"), [(".ts", True), (".mkv", False), (".mp4", False)])
def test_data_is_no_reason_to_refuse(run: Run, tmp_path: Path, suffix: str, kept: bool) -> None:
    """Two streams of it: copied, or left out with one note."""
    video = make_video(tmp_path / "video.ts")
    with av.open(str(video)) as file, av.open(str(tmp_path / "in.ts"), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0], opaque=True)
        data = [out.add_data_stream("klv"), out.add_data_stream("timed_id3")]
        for number, given in enumerate(p for p in file.demux() if p.size):
            given.stream = stream
            out.mux(given)
            part = av.Packet(bytes([number] * 20))
            part.stream, part.time_base, part.pts, part.dts = data[number % 2], given.time_base, given.dts, given.dts
            out.mux(part)
    before = read(tmp_path / "in.ts")
    assert [kind for kind, _, _ in before.kinds] == ["video", "data", "data"]
    result = run(tmp_path / "in.ts", tmp_path / f"out{suffix}", *FAST)
    assert result.code == 0, result.err
    after = read(tmp_path / f"out{suffix}")
    assert len(after.times) == 12
    if kept:
        assert {i: [data for _, data in p] for i, p in after.packets.items()} == {
            i: [data for _, data in p] for i, p in before.packets.items()
        }
    else:
        assert f"note: {suffix} cannot carry stream 1 (data klv), stream 2 (data timed_id3): left out" in result.err
        assert len(after.kinds) == 1


@pytest.mark.parametrize("source", [".mkv", ".mp4"])
@pytest.mark.parametrize("target", [".mkv", ".mp4"])
@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_a_cover_stays_a_cover(run: Run, tmp_path: Path, source: str, target: str, kind: str) -> None:
    """In Matroska it is an attachment with a name and a media type, elsewhere a stream of one picture."""
    shown = frame(0, 32, 32, "yuv420p" if kind == ".jpg" else "rgb24")
    shown.color_range = 2
    picture = encode(shown, kind)[0]
    media = "image/jpeg" if kind == ".jpg" else "image/png"
    video = make_video(tmp_path / "video.mkv")
    given = tmp_path / f"in{source}"
    with av.open(str(video)) as file, av.open(str(given), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0], opaque=True)
        cover = None
        if source == ".mkv":
            out.add_attachment(f"front{kind}", media, picture)
        else:
            cover = out.add_mux_stream("mjpeg" if kind == ".jpg" else "png", width=32, height=32)
            cover.disposition = Disposition.attached_pic
            whole = av.Packet(picture)
            whole.stream, whole.pts, whole.dts, whole.is_keyframe = cover, 0, 0, True
            out.mux(whole)
        for each in file.demux():
            if each.size:
                each.stream = stream
                out.mux(each)
    result = run(given, tmp_path / f"out{target}", *FAST)
    assert result.code == 0, result.err
    assert "note" not in result.err
    with av.open(str(tmp_path / f"out{target}")) as after:
        covers = [s for s in after.streams.video if s.disposition & Disposition.attached_pic]
        assert len(covers) == len(after.streams) - 1 == 1
        if target == ".mkv":
            assert covers[0].metadata["filename"] == (f"front{kind}" if source == ".mkv" else f"cover{kind}")
            assert covers[0].metadata["mimetype"] == media
        assert [bytes(p) for p in after.demux(covers[0]) if p.size] == [picture]


@pytest.mark.parametrize("codec", ["pcm_alaw", "pcm_mulaw", "wmav1", "wmav2", "adpcm_ms", "adpcm_ima_wav"])
def test_matroska_carries_what_windows_knows(run: Run, tmp_path: Path, codec: str) -> None:
    """Sound of codecs without a name in Matroska is under their number in WAV, also from one Matroska to another."""
    source = make_video(tmp_path / "in.avi", audio=codec)
    for given, output in ((source, tmp_path / "a.mkv"), (tmp_path / "a.mkv", tmp_path / "b.mkv")):
        result = run(given, output, *FAST)
        assert result.code == 0, result.err
        before, after = read(given), read(output)
        assert [data for _, data in after.packets[1]] == [data for _, data in before.packets[1]]
        assert after.kinds[1][1] == codec
        assert len(after.packets[1]) > 3


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mov_text"), (".mov", "mov_text"), (".webm", "webvtt")])
def test_text_is_converted_and_back(run: Run, tmp_path: Path, suffix: str, codec: str) -> None:
    """Times and language are kept, and of the markup what both codecs know; a note says what was done."""
    source = make_video(tmp_path / "in.mkv", subtitle=True, line="<i>line</i> at {}")
    fast = ("--encoder-options", "cpu-used=8") if suffix == ".webm" else FAST
    there = run(source, tmp_path / f"out{suffix}", *fast)
    assert there.code == 0, there.err
    assert f"note: {suffix} cannot carry stream 1 (subtitle subrip fra) as it is: converted to {codec}" in there.err
    middle = read(tmp_path / f"out{suffix}")
    assert middle.kinds[1] == ("subtitle", codec, "fra")
    if suffix == ".webm":
        return  # Matroska takes it as it is
    back = run(tmp_path / f"out{suffix}", tmp_path / "back.mkv", *FAST)
    assert back.code == 0, back.err
    before, after = read(source), read(tmp_path / "back.mkv")
    assert after.packets == before.packets
    assert len(after.packets[1]) == 2
    assert after.kinds == before.kinds


def test_a_damaged_subtitle_ends_no_film(run: Run, tmp_path: Path) -> None:
    """The others are converted, and a note tells how many are not."""
    video = make_video(tmp_path / "video.mp4")
    with av.open(str(video)) as file, av.open(str(tmp_path / "in.mp4"), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0], opaque=True)
        text = out.add_mux_stream("mov_text")
        for number, content in enumerate((b"\0\3one", b"\0", b"\0\5three")):
            line = av.Packet(content)
            line.stream, line.time_base, line.pts, line.dts = text, Fraction(1, 10), number, number
            line.duration = 1
            out.mux(line)
        for each in file.demux():
            if each.size:
                each.stream = stream
                out.mux(each)
    result = run(tmp_path / "in.mp4", tmp_path / "out.mkv", *FAST)
    assert result.code == 0, result.err
    assert "note: 1 damaged packets of stream 1 could not be converted" in result.err
    with av.open(str(tmp_path / "out.mkv")) as after:
        assert [bytes(p) for p in after.demux(after.streams.subtitles[0]) if p.size] == [b"one", b"three"]


def samples(path: Path) -> tuple[list[Fraction], np.ndarray]:
    """When each part of the sound begins, and all of it."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    times = [Fraction(f.pts or 0) * Fraction(f.time_base.numerator, f.time_base.denominator) for f in frames]
    return times, np.concatenate([f.to_ndarray()[0] for f in frames])


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".webm", "opus"), (".ts", "aac")])
def test_sound_is_converted_where_it_cannot_be_copied(run: Run, tmp_path: Path, suffix: str, codec: str) -> None:
    """A note says so; it is the same sound at the same time."""
    source = make_video(tmp_path / "in.avi", pts=[40 * i for i in range(50)], audio="wmav2")
    fast = ("--encoder-options", "cpu-used=8") if suffix == ".webm" else FAST
    result = run(source, tmp_path / f"out{suffix}", *fast)
    assert result.code == 0, result.err
    name = "libopus" if codec == "opus" else codec
    assert f"note: {suffix} cannot carry stream 1 (audio wmav2) as it is: converted to {name}" in result.err
    assert read(tmp_path / f"out{suffix}").kinds[1][:2] == ("audio", codec)
    (_, before), (times, after) = samples(source), samples(tmp_path / f"out{suffix}")
    assert all(0 < later - earlier < Fraction(1, 10) for earlier, later in pairwise(times))
    assert abs(len(before) - len(after)) < 4800
    lag = np.argmax(np.correlate(before[20_000:60_000], after[21_000:59_000], "valid")) - 1000
    assert abs(lag) < 1100
    shift = 21_000 - 20_000 - (lag + 1000)
    assert np.corrcoef(before[21_000 - shift : 59_000 - shift], after[21_000:59_000])[0, 1] > 0.99


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "ac3"), (".mp4", "flac"), (".ts", "libopus")])
def test_sound_becomes_the_codec_that_is_asked_for(run: Run, tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_video(tmp_path / "in.avi", pts=[40 * i for i in range(50)], audio="wmav2")
    out = tmp_path / f"out{suffix}"
    assert run(source, out, *FAST, "--audio-codec", codec).code == 0
    assert read(out).kinds[1][:2] == ("audio", codec.removeprefix("lib"))
    with av.open(str(source)) as before, av.open(str(out)) as after:
        lengths = [sum(frame.samples / frame.sample_rate for frame in film.decode(audio=0)) for film in (before, after)]
    assert abs(lengths[0] - lengths[1]) < 0.1
    kept = run(source, tmp_path / "out.mkv", *FAST, "--audio-codec", codec)  # it can be carried
    sounds = [[data for _, data in read(path).packets[1]] for path in (source, tmp_path / "out.mkv")]
    assert (kept.code, sounds[0]) == (0, sounds[1])


def test_what_is_no_codec_of_sound_is_refused(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", audio="aac")
    for codec, told in (("nonsense", "usual ones: aac"), ("libx264", "not an encoder of sound")):
        result = run(source, tmp_path / "out.mkv", "--audio-codec", codec)
        assert (result.code, (tmp_path / "out.mkv").exists()) == (1, False)
        assert told in result.err
