"""An encoder that fails, or makes what it was not given: no such segment is kept, and the same command goes on."""

import random
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.error import ExternalError, FFmpegError

from vsaether.media import segments
from vsaether.media.manifest import JobFolder
from vsaether.media.segments import SegmentWriter

from .conftest import Run, make_video
from .test_resume import packets, scenes

PARTS = ("--segment", "1", "--preset", "ultrafast", "--backend", "ov")


def crash(given: list[av.Packet]) -> list[av.Packet]:
    raise ExternalError(542398533, "Generic error in an external library")


def lost(given: list[av.Packet]) -> list[av.Packet]:
    return given[1:]


def moved(given: list[av.Packet]) -> list[av.Packet]:
    for packet in given:
        packet.pts = (packet.pts or 0) + 1
    return given


def damaged(given: list[av.Packet]) -> list[av.Packet]:
    made = []
    for packet in given:
        other = av.Packet(bytes(packet)[:9] + bytes(packet.size - 9))
        other.pts, other.dts, other.time_base, other.is_keyframe = packet.pts, packet.dts, packet.time_base, True
        made.append(other)
    return made


@pytest.mark.parametrize("fault", [crash, lost, moved, damaged])
def test_what_is_not_right_is_not_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[list[av.Packet]], list[av.Packet]]
) -> None:
    """It is said which segment, and the log stays; those before are not made again, and the film is the same."""
    source, out = make_video(tmp_path / "in.mkv", pts=[40 * i for i in range(60)], picture=scenes), tmp_path / "out.mkv"
    assert run(source, tmp_path / "whole.mkv", *PARTS).code == 0
    take = SegmentWriter._take

    def faulty(self: SegmentWriter, given: list[av.Packet]) -> None:
        place = len(self._shown)
        take(self, fault(given) if self._number == 3 and place == 5 and given else given)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "_take", faulty)
        result = run(source, out, *PARTS)
    assert (result.code, "segment 3 " in result.error) == (1, True)
    folder = JobFolder.of(out)
    assert [record.number for record in folder.records()] == [1, 2]
    assert "stopped: segment 3 " in folder.log.path.read_text()
    assert [path.name for path in folder.path.glob(".*")] == []
    result = run(source, out, *PARTS)
    assert (result.code, "2 segments of 30 frames are complete" in result.err) == (0, True)
    assert packets(out) == packets(tmp_path / "whole.mkv")


@pytest.mark.parametrize(("codec", "found"), [("libx264", 20), ("libx265", 1)])
def test_a_decoder_that_leaves_the_loop_filter_out_finds_the_same_damage(
    tmp_path: Path, codec: str, found: int
) -> None:
    """Bits flipped one at a time: what a full decoding says is said, too. (Of HEVC nearly all have a meaning.)"""
    source = make_video(tmp_path / "in.mkv", size=(160, 96), codec=codec, pts=[40 * i for i in range(8)])
    with av.open(str(source)) as file:
        header, packets = file.streams.video[0].codec_context.extradata, list(file.demux(video=0))
    given = [(bytes(packet), packet.pts, packet.dts) for packet in packets if packet.size]

    def decoded(quick: bool, packets: list[tuple]) -> tuple[str, list[bytes]]:
        decoder = segments._decoder(codec)
        decoder.extradata, decoder.thread_count = header, 1
        if not quick:
            decoder.options = {}
        samples, times, corrupt = [], [], False
        try:
            for data, pts, dts in [*packets, (None, None, None)]:
                packet = None if data is None else av.Packet(data)
                if packet:
                    packet.pts, packet.dts = pts, dts
                for frame in decoder.decode(packet):
                    samples.append(frame.to_ndarray().tobytes())
                    times.append(frame.pts)
                    corrupt |= frame.is_corrupt
        except FFmpegError:
            return "error", samples
        return f"{corrupt} {times}", samples

    (whole, exact), (verdict, rough) = decoded(False, given), decoded(True, given)
    assert verdict == whole == f"False {sorted(pts for _, pts, _ in given if pts is not None)}"
    assert exact != rough  # there was a filter to leave out
    generator, told = random.Random(0), []
    for _ in range(40):
        place = generator.choices(range(len(given)), [len(data) for data, *_ in given])[0]
        data = np.frombuffer(given[place][0], np.uint8).copy()
        data[generator.randrange(data.size)] ^= 1 << generator.randrange(8)
        flipped = [*given[:place], (data.tobytes(), *given[place][1:]), *given[place + 1 :]]
        told.append(decoded(True, flipped)[0])
        assert told[-1] == decoded(False, flipped)[0]
    assert sum(each != whole for each in told) >= found
