"""Packets that wait for the video: few of them in memory, whatever the file's order."""

from fractions import Fraction
from pathlib import Path

import av
import pytest

from vsaether.errors import MediaError
from vsaether.media import packet_queue
from vsaether.media.packet_queue import PacketQueue

from .conftest import Run, make_video, read


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
    result = run(sound_first, tmp_path / "out.mkv", "--preset", "ultrafast", *way)
    assert result.code == 0, result.err
    assert most < 20 < 60 < filed
    before, after = read(sound_first), read(tmp_path / "out.mkv")
    begin, end = (Fraction(1, 5), Fraction(6, 5)) if "--start" in way else (Fraction(-1), Fraction(9))
    shift = max(begin, Fraction(0))
    assert after.packets[1] == [(time - shift, data) for time, data in before.packets[1] if begin <= time < end]
    assert displaced(tmp_path / "out.mkv") < Fraction(1, 2) < displaced(sound_first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mkv", "whole.mkv"]


def test_sound_behind_the_video_is_put_beside_it(run: Run, tmp_path: Path) -> None:
    """Where segments are put together, the whole file can be looked into."""
    source, out = apart(tmp_path, "video"), tmp_path / "out.mkv"
    result = run(source, out, "--preset", "ultrafast", "--segment", "0.5")
    assert result.code == 0, result.err
    assert read(out).packets == read(source).packets
    assert displaced(out) < Fraction(1, 2) < displaced(source)


def test_packets_come_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are not told, and flags, too; a file that was read is used again."""
    source = make_video(tmp_path / "in.mkv", pts=[0], audio="aac")
    monkeypatch.setattr(packet_queue, "_MOST", 1500)
    with av.open(str(source)) as file:
        given = [packet for packet in file.demux(audio=0) if packet.size][:1] * 2
        queue = PacketQueue(tmp_path)
        for number in range(40):
            packet = av.Packet(bytes([number]) * number)
            packet.stream, packet.time_base = given[0].stream, Fraction(1, 48000)
            packet.pts, packet.dts, packet.duration = number, None if number % 3 else number - 1, 7
            packet.is_keyframe, packet.is_corrupt = bool(number % 2), bool(number % 5)
            queue.append(packet)
            if number % 10 == 9:
                assert queue.head.pts == number - 9
                assert queue.filed >= 7
                for place in range(number - 9, number + 1):
                    back = queue.popleft()
                    assert (bytes(back), back.pts, back.duration) == (bytes([place]) * place, place, 7)
                    assert back.dts == (None if place % 3 else place - 1)
                    assert (back.is_keyframe, back.is_corrupt) == (bool(place % 2), bool(place % 5))
                    assert back.stream is given[0].stream
        assert (len(queue), queue.filed) == (0, 0)
        with pytest.raises(IndexError):
            queue.popleft()
        full = PacketQueue(tmp_path / "none")
        for packet in given:
            full.append(packet)
        with pytest.raises(MediaError, match="temporary file"):
            full.append(given[0])
