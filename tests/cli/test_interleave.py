"""Packets of several streams in the order of their times, few of them at a time."""

import io
import itertools
from fractions import Fraction
from pathlib import Path

import av
import pytest

from vsaether.media.interleave import Interleaver

from .conftest import Run, make_video, read


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
    made = make_video(tmp_path / "made.mkv", pts=pts, size=(16, 16), audio="aac", subtitle=True)
    run.done(made, tmp_path / "in.mkv", "--backend", "ov", "--preset", "ultrafast")  # which is in order
    most, put = 0, Interleaver.put

    def counted(self: Interleaver, packet: av.Packet) -> None:
        nonlocal most
        put(self, packet)
        most = max(most, sum(map(len, self._held.values())))

    monkeypatch.setattr(Interleaver, "put", counted)
    before, after, _ = run.film(tmp_path / "in.mkv", "out.mkv", "--backend", "ov", "--segment", "20")
    assert after.times == before.times == read(made).times == [Fraction(i, 5) for i in range(300)]
    assert len(after.packets[1]) > 2800  # of 21 ms
    assert most < 300  # six seconds
    assert [index for _, index in after.order].index(0) < 5
    times = [time for time, _ in after.order]
    assert max(time - least for time, least in itertools.pairwise(times)) < 1
