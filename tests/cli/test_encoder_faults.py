"""An encoder that fails, or makes what it was not given: no such segment is kept; and the log in a job's folder."""

import random
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest
from av.error import ExternalError, FFmpegError

from vsaether.cli import main
from vsaether.media import segments
from vsaether.media.manifest import JobFolder
from vsaether.media.segments import SegmentWriter

from .conftest import Run, make_video
from .test_resume import SEGMENTS, packets, scenes, stop_after
from .test_segment_kinds import corrupt


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


def test_what_is_not_right_is_not_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said which segment, and the log stays; those before are not made again, and the film is the same."""
    source, out = make_video(tmp_path / "in.mkv", pts=[40 * i for i in range(60)], picture=scenes), tmp_path / "out.mkv"
    run.done(source, tmp_path / "whole.mkv", *SEGMENTS)
    take, folder = SegmentWriter._take, JobFolder.of(out)
    crash = Mock(side_effect=ExternalError(542398533, "Generic error in an external library"))
    for runs, fault in enumerate((crash, lambda given: given[1:], moved, damaged), 1):

        def faulty(self: SegmentWriter, given: list[av.Packet], fault: object = fault) -> None:
            place = len(self._shown)
            take(self, fault(given) if self._number == 3 and place == 5 and given else given)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(SegmentWriter, "_take", faulty)
            result = run(source, out, *SEGMENTS)
        assert (result.code, "segment 3 " in result.error) == (1, True), fault
        assert [record.number for record in folder.records()] == [1, 2], fault
        assert folder.log.path.read_text().count("stopped: segment 3 ") == runs
        assert [path.name for path in folder.path.glob(".*")] == []
    assert "2 segments of 30 frames are complete" in run.done(source, out, *SEGMENTS).err
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
        decoder, frames = segments._decoder(codec), []
        decoder.extradata, decoder.thread_count = header, 1
        decoder.options = decoder.options if quick else {}
        try:
            for data, pts, dts in packets:
                packet = av.Packet(data)
                packet.pts, packet.dts = pts, dts
                frames += decoder.decode(packet)
            frames += decoder.decode(None)
        except FFmpegError:
            return "error", []
        corrupt = any(each.is_corrupt for each in frames)
        return f"{corrupt} {[each.pts for each in frames]}", [each.to_ndarray().tobytes() for each in frames]

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


def test_a_job_keeps_a_log_until_it_is_complete(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each run, each segment with its hash, each note and FFmpeg's own warnings; a failure before the first, too."""
    source, out = corrupt(tmp_path), tmp_path / "out.mkv"
    folder, options = JobFolder.of(out), (*SEGMENTS, "--segment", "0.5")
    for frames in (5, 25):
        with monkeypatch.context() as patch:
            stop_after(patch, frames, lambda: OSError(5, "Input/output error", "disk"))
            assert str(folder.path) in run(source, out, *options).err
    assert main(["jobs", "status", str(out)]) == 0
    assert str(folder.log.path) in capfd.readouterr().out
    lines = folder.log.path.read_text().splitlines()
    told = [line.split(maxsplit=2)[2] for line in lines if line.startswith("20")]
    runs = [line.partition(":")[0] for line in told if not line.startswith(("segment", "note"))]
    assert runs == ["begun", "stopped", "gone on with", "stopped"]
    assert "Input/output error" in told[-2] + told[-1]
    made = {line.split()[1]: line.split()[-1] for line in told if line.startswith("segment")}
    assert made == {f"{record.number}:": record.sha256 for record in folder.records()} != {}
    assert any(line.startswith(("[h264", "[mpegts", "[mp2")) for line in lines)
    assert "frames/s" not in folder.log.path.read_text()
    run.done(source, out, *options)
    assert not folder.path.exists()


def test_libraries_write_into_the_log_and_python_to_the_terminal(tmp_path: Path) -> None:
    """Standard error of the process, as encoders use it; all is as before when the work is done."""
    code = """if True:
        import os, sys
        from pathlib import Path
        from vsaether.media.log import Log
        with Log(Path(sys.argv[1])).of_libraries():
            os.write(2, b"an encoder\\n")
            print("progress", file=sys.stderr)
        os.write(2, b"behind\\n")
        print("the end", file=sys.stderr)
    """
    arguments = [sys.executable, "-c", code, str(tmp_path / "log")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "progress\nbehind\nthe end\n")
    assert (tmp_path / "log").read_text() == "an encoder\n"
