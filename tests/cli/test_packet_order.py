"""Packets of several streams in the order of their times, few of them in memory, whatever the file's order."""

import io
import itertools
import os
from fractions import Fraction
from pathlib import Path

import av
import pytest

from vsaether.errors import MediaError
from vsaether.media import packet_queue
from vsaether.media.interleave import Interleaver
from vsaether.media.packet_queue import PacketQueue

from .conftest import FAST, Run, make_video, read


def apart(folder: Path, first: str) -> Path:
    """Two seconds, of which all of a kind of streams lies before the others."""
    whole = make_video(folder / "whole.mkv", pts=[40 * i for i in range(50)], audio="aac", subtitle=True)
    options = {"max_interleave_delta": "1"}  # microseconds: the muxer keeps the order it is given
    path = folder / "in.mkv"
    with av.open(str(whole)) as file, av.open(str(path), "w", container_options=options) as out:
        streams = {stream: out.add_stream_from_template(stream, opaque=True) for stream in file.streams}
        for packet in sorted((p for p in file.demux() if p.size), key=lambda p: p.stream.type != first):
            packet.stream = streams[packet.stream]
            out.mux(packet)
    return path


def displaced(path: Path) -> Fraction:
    """By how much packets of a file lie away from where their times belong, at most."""
    times = [time for time, _ in read(path).order]
    return max(abs(a - b) for a, b in zip(times, sorted(times), strict=True))


@pytest.mark.parametrize("way", [("--no-resume",), ("--segment", "0.5"), ("--start", "0.2", "--end", "1.2")])
def test_sound_before_the_video_waits_on_the_disk(
    run: Run, tmp_path: Path, way: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same packets as ever, in the order of their times; and of two seconds of sound, never a fifth in memory."""
    sound_first = apart(tmp_path, "audio")
    most, filed, append = 0, 0, PacketQueue.append

    def counted(self: PacketQueue, packet: av.Packet) -> None:
        nonlocal most, filed
        append(self, packet)
        most, filed = max(most, len(self) - self.filed), max(filed, self.filed)

    monkeypatch.setattr(PacketQueue, "append", counted)
    monkeypatch.setattr(packet_queue, "_MOST", 10_000)
    before, after, _ = run.film(sound_first, "out.mkv", *way)
    assert most < 20 < 60 < filed
    begin, end = (Fraction(1, 5), Fraction(6, 5)) if "--start" in way else (Fraction(-1), Fraction(9))
    shift = max(begin, Fraction(0))
    assert after.packets[1] == [(time - shift, data) for time, data in before.packets[1] if begin <= time < end]
    assert displaced(tmp_path / "out.mkv") < Fraction(1, 2) < displaced(sound_first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mkv", "whole.mkv"]


def test_sound_behind_the_video_is_put_beside_it(run: Run, tmp_path: Path) -> None:
    """Where segments are put together, the whole file can be looked into."""
    source = apart(tmp_path, "video")
    before, after, _ = run.film(source, "out.mkv", "--segment", "0.5")
    assert after.packets == before.packets
    assert displaced(tmp_path / "out.mkv") < Fraction(1, 2) < displaced(source)


def test_packets_come_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are not told, and flags, too; a file that was read is used again."""
    monkeypatch.setattr(packet_queue, "_MOST", 1500)
    with av.open(str(make_video(tmp_path / "in.mkv", pts=[0], audio="aac"))) as file:
        sound = next(packet for packet in file.demux(audio=0) if packet.size)

        def facts(p: av.Packet) -> tuple:
            return bytes(p), p.pts, p.dts, p.duration, p.is_keyframe, p.is_corrupt, p.stream is sound.stream

        queue = PacketQueue(tmp_path)
        for first in range(0, 40, 10):
            told = []
            for number in range(first, first + 10):
                packet = av.Packet(bytes([number]) * number)
                packet.stream, packet.time_base = sound.stream, Fraction(1, 48000)
                packet.pts, packet.dts, packet.duration = number, None if number % 3 else number - 1, 7
                packet.is_keyframe, packet.is_corrupt = bool(number % 2), bool(number % 5)
                told.append(facts(packet))
                queue.append(packet)
            assert queue.head.pts == first
            assert queue.filed >= 7
            assert [facts(queue.popleft()) for _ in told] == told
            assert queue._file and os.fstat(queue._file.fileno()).st_size == 0
        assert (len(queue), queue.filed) == (0, 0)
        with pytest.raises(IndexError):
            queue.popleft()
        full = PacketQueue(tmp_path / "none")
        for _ in range(2):
            full.append(sound)
        with pytest.raises(MediaError, match="temporary file"):
            full.append(sound)


def test_a_packet_ahead_of_its_time_is_alone() -> None:
    """One an hour ahead holds back those of its own stream, and no others."""
    held = Interleaver()
    with av.open(io.BytesIO(), "w", format="matroska") as file:
        streams = file.add_stream("aac", rate=48000), file.add_mux_stream("subrip")
        for index, time in ((1, 3_600_000), (0, 0), (0, 20), (1, 3_600_100), (0, 40)):
            made = av.Packet(b"x")
            made.stream, made.time_base, made.pts, made.dts = streams[index], Fraction(1, 1000), time, time
            held.put(made)
        assert [each.pts for each in held.release(Fraction(30, 1000))] == [0, 20]
        assert [each.pts for each in held.release(None)] == [40, 3_600_000, 3_600_100]
        assert list(held.release(None)) == []


def test_a_film_is_not_held_in_memory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where segments are put together, sound waits for some seconds of video, in a film of any length."""
    pts = [200 * i for i in range(300)]
    made = make_video(tmp_path / "made.mkv", pts=pts, size=(16, 16), audio="mp2", subtitle=True)
    run.done(made, tmp_path / "in.mkv", "--backend", "ov", *FAST)  # which is in order
    most, put = 0, Interleaver.put

    def counted(self: Interleaver, packet: av.Packet) -> None:
        nonlocal most
        put(self, packet)
        most = max(most, sum(map(len, self._held.values())))

    monkeypatch.setattr(Interleaver, "put", counted)
    before, after, _ = run.film(tmp_path / "in.mkv", "out.mkv", "--backend", "ov", "--segment", "20")
    assert after.times == before.times == [Fraction(i, 5) for i in range(300)]
    assert len(after.packets[1]) > 2400  # of 24 ms
    assert most < 300  # seven seconds
    assert [index for _, index in after.order].index(0) < 5
    times = [time for time, _ in after.order]
    assert max(time - least for time, least in itertools.pairwise(times)) < 1
