"""Packets of several streams in the order of their times, few of them at a time."""

import io
import itertools
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Stream

from vsaether.media.interleave import Interleaver

from .conftest import Run, make_video, read


def packet(stream: Stream, milliseconds: int) -> av.Packet:
    """A packet of a stream."""
    made = av.Packet(b"x")
    made.stream, made.time_base = stream, Fraction(1, 1000)
    made.pts = made.dts = milliseconds
    return made


def test_a_packet_ahead_of_its_time_is_alone() -> None:
    """One an hour ahead holds back those of its own stream, and no others."""
    with av.open(io.BytesIO(), "w", format="matroska") as file:
        first, second = file.add_stream("aac", rate=48000), file.add_mux_stream("subrip")
        held = Interleaver()
        for stream, time in ((second, 3_600_000), (first, 0), (first, 20), (second, 3_600_100), (first, 40)):
            held.put(packet(stream, time))
        assert [each.pts for each in held.release(Fraction(30, 1000))] == [0, 20]
        assert [each.pts for each in held.release(None)] == [40, 3_600_000, 3_600_100]


def test_a_film_is_not_held_in_memory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where segments are put together, sound waits for some seconds of video, in a film of any length."""
    made = make_video(tmp_path / "made.mkv", pts=[200 * i for i in range(300)], audio="aac", subtitle=True)
    source = tmp_path / "in.mkv"  # which is in order
    assert run(made, source, "--backend", "ov", "--preset", "ultrafast").code == 0
    most, put = 0, Interleaver.put

    def counted(self: Interleaver, packet: av.Packet) -> None:
        nonlocal most
        put(self, packet)
        most = max(most, sum(map(len, self._held.values())))

    monkeypatch.setattr(Interleaver, "put", counted)
    result = run(source, tmp_path / "out.mkv", "--backend", "ov", "--segment", "20")
    assert result.code == 0, result.err
    after = read(tmp_path / "out.mkv")
    assert after.times == read(source).times == read(made).times == [Fraction(i, 5) for i in range(300)]
    assert len(after.packets[1]) > 2800  # of 21 ms
    assert most < 300  # six seconds
    assert [index for _, index in after.order].index(0) < 5
    times = [time for time, _ in after.order]
    assert max(time - least for time, least in itertools.pairwise(times)) < 1
