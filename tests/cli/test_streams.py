"""The streams besides the video: none is a reason to refuse a film, and none is lost in silence."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import OutputContainer
from av.stream import Disposition, Stream
from PIL import Image

from vsaether.media.decoding_times import DecodingTimes

from .conftest import Run, make_video

More = Callable[[OutputContainer], list[av.Packet]]


def packet(content: bytes, stream: Stream | None, pts: int | None, dts: int | None, length: int = 0) -> av.Packet:
    """A packet of times in milliseconds."""
    made = av.Packet(content)
    if stream is not None:
        made.stream = stream
    made.pts, made.dts, made.duration, made.time_base, made.is_keyframe = pts, dts, length, Fraction(1, 1000), True
    return made


def with_more(path: Path, more: More, **film: Any) -> Path:
    """A film with more streams, added to the file by a function which gives their packets."""
    source = make_video(path.with_stem("video"), **film)
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in file.streams]
        packets = more(out)
        for given in file.demux():
            if given.size:
                given.stream = streams[given.stream_index]
                packets.append(given)
        for given in packets:
            out.mux(given)
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_another_video_with_reordered_frames_is_copied(run: Run, tmp_path: Path, suffix: str) -> None:
    """Matroska does not tell when frames are decoded; the packets and their times are the same."""
    video: dict[str, Any] = {"options": {"bf": "2", "refs": "3"}}
    with av.open(str(make_video(tmp_path / "second.mkv", **video))) as second:

        def again(out: OutputContainer) -> list[av.Packet]:
            stream = out.add_stream_from_template(second.streams.video[0], opaque=True)
            packets = [given for given in second.demux() if given.size]
            for given in packets:
                given.stream = stream
            return packets

        source = with_more(tmp_path / "in.mkv", again, **video)
    before, after, _ = run.film(source, f"out{suffix}")
    assert len(before.packets[1]) == 12
    start = after.packets[1][0][0]
    assert [time - start for time, _ in after.packets[1]] == [time for time, _ in before.packets[1]]
    dts = [time for time, index in after.order if index == 1]
    assert all(earlier < later for earlier, later in pairwise(dts))
    assert suffix == ".ts" or after.times == before.times


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
    times, packets = DecodingTimes(), [packet(b"x", None, *each, 10) for each in given]
    found = [done for each in packets for done in times.put(each)] + times.flush()
    assert [done.pts for done in found] == [pts for pts, _ in given]
    assert [done.dts for done in found] == told
    assert all((done.dts or 0) <= (done.pts or 0) for done in found)


@pytest.mark.parametrize(
    ("given", "suffix", "timecode"),
    [
        *((".mov", suffix, "01:00:00:00") for suffix in (".mov", ".mp4", ".mkv", ".ts")),
        (".mkv", ".mp4", "01:00:00;00"),  # drop-frame is for 30 and 60 frames a second: MP4 would refuse the whole film
    ],
)
def test_a_timecode_goes_where_it_can_be_told(run: Run, tmp_path: Path, given: str, suffix: str, timecode: str) -> None:
    """Its track is no reason to refuse; where no tag can tell it, a note says so."""
    source = make_video(tmp_path / f"in{given}", metadata={"timecode": timecode})
    before, after, result = run.film(source, f"out{suffix}")
    assert given != ".mov" or [kind for kind, _, _ in before.kinds] == ["video", "data"]
    kept = suffix != ".ts" and ";" not in timecode
    assert (f"note: {suffix} cannot carry the timecode {timecode}: left out" in result.err) != kept
    assert ("note" in result.err) != kept
    assert len(after.times) == 12
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        video = {key.lower(): value for key, value in file.streams.video[0].metadata.items()}
        assert video.get("timecode") == (timecode if kept else None)


@pytest.mark.parametrize(("suffix", "kept"), [(".ts", True), (".mkv", False), (".mp4", False)])
def test_data_is_no_reason_to_refuse(run: Run, tmp_path: Path, suffix: str, kept: bool) -> None:
    def data(out: OutputContainer) -> list[av.Packet]:
        streams = [out.add_data_stream(codec) for codec in ("klv", "timed_id3")]
        return [packet(bytes([n] * 20), stream, 40 * n, 40 * n) for stream in streams for n in range(12)]

    source = with_more(tmp_path / "in.ts", data)
    before, after, result = run.film(source, f"out{suffix}")
    assert [kind for kind, _, _ in before.kinds] == ["video", "data", "data"]
    assert [len(packets) for packets in before.packets.values()] == [12, 12]
    assert len(after.times) == 12
    contents = [{i: [data for _, data in p] for i, p in film.packets.items()} for film in (before, after)]
    assert contents[1] == (contents[0] if kept else {})
    note = f"note: {suffix} cannot carry stream 1 (data klv), stream 2 (data timed_id3): left out"
    assert kept or note in result.err


@pytest.mark.parametrize("source", [".mkv", ".mp4"])
@pytest.mark.parametrize("target", [".mkv", ".mp4"])
@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_a_cover_stays_a_cover(run: Run, tmp_path: Path, source: str, target: str, kind: str) -> None:
    """In Matroska it is an attachment with a name and a media type, elsewhere a stream of one picture."""
    Image.new("RGB", (32, 32)).save(tmp_path / f"front{kind}")
    picture = (tmp_path / f"front{kind}").read_bytes()
    codec, media = ("mjpeg", "image/jpeg") if kind == ".jpg" else ("png", "image/png")

    def cover(out: OutputContainer) -> list[av.Packet]:
        if source == ".mkv":
            out.add_attachment(f"front{kind}", media, picture)
            return []
        stream = out.add_mux_stream(codec, width=32, height=32)
        stream.disposition = Disposition.attached_pic
        return [packet(picture, stream, 0, 0)]

    given = with_more(tmp_path / f"in{source}", cover, audio="aac")
    _, after, result = run.film(given, f"out{target}")
    assert "note" not in result.err
    assert [kind for kind, _, _ in after.kinds] == ["video", "audio", "video"]
    with av.open(str(tmp_path / f"out{target}")) as out:
        (stream,) = [s for s in out.streams.video if s.disposition & Disposition.attached_pic]
        if target == ".mkv":
            assert stream.metadata["filename"] == (f"front{kind}" if source == ".mkv" else f"cover{kind}")
            assert stream.metadata["mimetype"] == media
        assert [bytes(p) for p in out.demux(stream) if p.size] == [picture]


@pytest.mark.parametrize("codec", ["pcm_alaw", "pcm_mulaw", "wmav1", "wmav2", "adpcm_ms", "adpcm_ima_wav"])
def test_matroska_carries_what_windows_knows(run: Run, tmp_path: Path, codec: str) -> None:
    """Sound of codecs without a name in Matroska is under their number in WAV, also from one Matroska to another."""
    source = make_video(tmp_path / "in.avi", audio=codec)
    for given, output in ((source, "a.mkv"), (tmp_path / "a.mkv", "b.mkv")):
        before, after, _ = run.film(given, output)
        assert [data for _, data in after.packets[1]] == [data for _, data in before.packets[1]]
        assert after.kinds[1][1] == codec
        assert len(after.packets[1]) > 3


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mov_text"), (".mov", "mov_text"), (".webm", "webvtt")])
def test_text_is_converted_and_back(run: Run, tmp_path: Path, suffix: str, codec: str) -> None:
    """Times and language are kept, and of the markup what both codecs know; a note says what was done."""
    source = make_video(tmp_path / "in.mkv", subtitle=True, line="<i>line</i> at {}")
    before, middle, there = run.film(source, f"out{suffix}")
    assert f"note: {suffix} cannot carry stream 1 (subtitle subrip fra) as it is: converted to {codec}" in there.err
    assert middle.kinds[1] == ("subtitle", codec, "fra")
    with av.open(str(run.folder / f"out{suffix}")) as file:
        lengths = {(p.duration or 0) * p.time_base for p in file.demux(subtitles=0) if p.size > 2}  # 2: nothing shown
    assert lengths == {Fraction(3, 10)}
    if suffix == ".webm":
        return  # Matroska takes it as it is
    after = run.film(tmp_path / f"out{suffix}", "back.mkv")[1]
    assert (after.packets, after.kinds) == (before.packets, before.kinds)
    assert len(after.packets[1]) == 2


def test_a_damaged_subtitle_ends_no_film(run: Run, tmp_path: Path) -> None:
    def text(out: OutputContainer) -> list[av.Packet]:
        stream, lines = out.add_mux_stream("mov_text"), (b"\0\3one", b"\0", b"\0\5three")
        return [packet(line, stream, 100 * number, 100 * number, 100) for number, line in enumerate(lines)]

    result = run.film(with_more(tmp_path / "in.mp4", text))[2]
    assert "note: 1 damaged packets of stream 1 could not be converted" in result.err
    with av.open(str(tmp_path / "out.mkv")) as after:
        assert [bytes(p) for p in after.demux(after.streams.subtitles[0]) if p.size] == [b"one", b"three"]


@pytest.fixture(scope="module")
def windows_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound that only AVI and Matroska know."""
    path = tmp_path_factory.mktemp("sound") / "in.avi"
    return make_video(path, pts=[40 * i for i in range(50)], size=(16, 16), audio="wmav2")


def samples(path: Path) -> tuple[list[Fraction], np.ndarray]:
    with av.open(str(path)) as file:
        even = av.AudioResampler("fltp")
        frames = [each for decoded in file.decode(audio=0) for each in even.resample(decoded)]
    return [(f.pts or 0) * f.time_base for f in frames], np.concatenate([f.to_ndarray()[0] for f in frames])


@pytest.mark.parametrize(
    ("suffix", "codec", "asked_for"),
    [
        *((suffix, codec, False) for suffix, codec in ((".mp4", "aac"), (".webm", "libopus"), (".ts", "aac"))),
        *((suffix, codec, True) for suffix, codec in ((".mp4", "ac3"), (".mp4", "flac"), (".ts", "libopus"))),
    ],
)
def test_sound_is_converted_only_where_it_cannot_be_copied(
    run: Run, windows_sound: Path, tmp_path: Path, suffix: str, codec: str, asked_for: bool
) -> None:
    """All of it, to the same times, into what the container is used to or what is asked for; and a note says so."""
    options = ("--audio-codec", codec) if asked_for else ()
    source, film, result = run.film(windows_sound, f"out{suffix}", *options)
    assert f"note: {suffix} cannot carry stream 1 (audio wmav2) as it is: converted to {codec}" in result.err
    assert film.kinds[1][:2] == ("audio", codec.removeprefix("lib"))
    (_, before), (times, after) = samples(windows_sound), samples(tmp_path / f"out{suffix}")
    assert all(0 < later - earlier < Fraction(1, 10) for earlier, later in pairwise(times))
    assert abs(len(before) - len(after)) < 4800
    start = 20_000 + np.argmax(np.correlate(before[20_000:60_000], after[21_000:59_000], "valid"))
    assert np.corrcoef(before[start : start + 38_000], after[21_000:59_000])[0, 1] > 0.99
    kept = run.film(windows_sound, "out.mkv", *options)[1]
    assert [data for _, data in kept.packets[1]] == [data for _, data in source.packets[1]]
