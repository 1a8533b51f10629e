"""Films in segments: the film of one pass; and whatever stops them, the same command goes on to the same bytes."""

import gc
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from vsaether.cli import main
from vsaether.media import film, identity
from vsaether.media.manifest import JobFolder

from ..conftest import MakeEngine
from .conftest import Run, frame, limited, make_video, read, running, wait_for

SEGMENTS = ("--segment", "1", "--preset", "ultrafast", "--backend", "ov")


def scenes(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """Another scene after every 15 frames."""
    return frame(index + 400 * (index // 15), width, height, pix_fmt)


@pytest.fixture(scope="module")
def film_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames at uneven times, with sound, subtitles, chapters and an attachment."""
    path = tmp_path_factory.mktemp("film") / "in.mkv"
    film = {"options": {"bf": "2", "preset": "ultrafast"}, "picture": scenes, "metadata": {"TITLE": "A film"}}
    pts = [40 * i + (i % 3) * 7 for i in range(100)]
    return make_video(path, pts=pts, audio="aac", subtitle=True, chapters=True, attachment=True, **film)


@pytest.fixture(scope="module")
def whole(film_file: Path, identity_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film made in segments without being stopped."""
    out = tmp_path_factory.mktemp("whole") / "out.mkv"
    assert main(["upscale", str(film_file), str(out), "--engine", identity_engine, *SEGMENTS]) == 0
    return out


def packets(path: Path) -> list[tuple]:
    """All packets of a file, to the bit."""
    with av.open(str(path)) as file:
        return [(p.stream_index, p.pts, p.dts, p.duration, p.is_keyframe, bytes(p)) for p in file.demux() if p.size]


def stop_after(monkeypatch: pytest.MonkeyPatch, frames: int, error: Callable[[], BaseException]) -> None:
    """Let a run end with an error when it has encoded a number of frames."""
    encode, count = film.FilmRun._encode, 0

    def counted(self: film.FilmRun, upscaled: object) -> None:
        nonlocal count
        encode(self, upscaled)  # type: ignore[arg-type]
        count += 1
        if count == frames:
            raise error()

    monkeypatch.setattr(film.FilmRun, "_encode", counted)


@pytest.fixture
def stopped(run: Run, film_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobFolder:
    """The folder of a job whose disk was full after 50 frames: three segments are kept."""
    with monkeypatch.context() as patch:
        stop_after(patch, 50, lambda: OSError(28, "No space left on device", "disk"))
        result = run(film_file, tmp_path / "out.mkv", *SEGMENTS)
    assert (result.code, result.error) == (1, "vsaether: disk: No space left on device")
    assert "3 segments are kept" in result.err
    return JobFolder.of(tmp_path / "out.mkv")


def test_segments_leave_no_encoders_behind(film_file: Path, identity_engine: str, tmp_path: Path) -> None:
    """Without the collector's own turns: encoders and decoders of segments that are done do not wait for one."""
    out, short = tmp_path / "out.mkv", ("--segment", "0.2")
    gc.collect()
    threshold = gc.get_threshold()
    gc.set_threshold(0)
    try:
        before = Counter(_held())
        assert main(["upscale", str(film_file), str(out), "--engine", identity_engine, *SEGMENTS, *short]) == 0
        left = Counter(_held()) - before
    finally:
        gc.set_threshold(*threshold)
    assert left["encoder"] <= 4 and left["decoder"] <= 8, left  # of about 20 segments
    assert not left["file"], left


def _held() -> Iterator[str]:
    """What this process has: codecs of videos, and open files."""
    for each in gc.get_objects():
        if issubclass(type(each), av.VideoCodecContext):  # to ask others for their class has effects, in torch
            yield "encoder" if each.is_encoder else "decoder"
    yield from ("file" for _ in Path("/proc/self/fd").iterdir())


def test_segments_make_the_film_of_one_pass(run: Run, film_file: Path, whole: Path, tmp_path: Path) -> None:
    """Frames, times, all other streams and what else there is are those of a run in one pass; no folder remains."""
    run.done(film_file, tmp_path / "out.mkv", "--no-resume", *SEGMENTS)
    once, parts = read(tmp_path / "out.mkv"), read(whole)
    for name in ("times", "durations", "packets", "kinds", "size", "tags", "chapters", "attachments", "metadata"):
        assert getattr(parts, name) == getattr(once, name), name
    assert parts.times == read(film_file).times
    assert len(parts.frames) == 100
    assert sum(key for stream, *_, key, _ in packets(whole) if stream == 0) == 7  # a scene each, of 15 frames
    assert [path.name for path in whole.parent.iterdir()] == ["out.mkv"]


@pytest.mark.parametrize(
    ("output", "codec", "options", "pix_fmt"),
    [
        ("out.mp4", "libx265", ("--preset", "ultrafast"), "yuv420p"),
        ("out.mov", "prores_ks", (), "yuv420p"),
        ("out.mkv", "libsvtav1", ("--preset", "12"), "yuv420p"),
        ("out.webm", "libvpx-vp9", ("--encoder-options", "cpu-used=8"), "yuva420p"),
    ],
)
def test_every_codec_and_container_carries_segments(
    run: Run, tmp_path: Path, output: str, codec: str, options: tuple[str, ...], pix_fmt: str
) -> None:
    """B-frames, alpha as side data of packets, and times that decoders find in order."""
    pts = [40 * i for i in range(50)]
    source = make_video(tmp_path / "in.mkv", pts=pts, picture=scenes, codec="ffv1", pix_fmt=pix_fmt)
    run.done(source, tmp_path / output, "--segment", "1", "--codec", codec, "--backend", "ov", *options)
    after = read(tmp_path / output, "libvpx-vp9" if codec == "libvpx-vp9" else None)
    assert after.times == read(source).times
    assert ("a" in after.pix_fmt) == ("a" in pix_fmt)
    dts = [time for stream, _, time, *_ in packets(tmp_path / output) if stream == 0]
    assert dts == sorted(set(dts))


def test_a_stopped_film_is_gone_on_with(
    run: Run, stopped: JobFolder, film_file: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is never made again, and is counted; the packets are those of a run that was not stopped."""
    out = tmp_path / "out.mkv"
    (stopped.path / ".aethernet-1234.part").write_text("of a process that was killed")
    made = []
    finish = film.SegmentWriter.finish
    monkeypatch.setattr(film.SegmentWriter, "finish", lambda self, *a: made.append(self) or finish(self, *a))
    result = run.done(film_file, out, *SEGMENTS)
    assert len(made) == 4
    assert "3 segments of 45 frames are complete" in result.err
    assert "| 45/101 frames" in result.err
    assert "100 of 128x96, 45 of them done before" in result.out
    assert packets(out) == packets(whole)
    assert list(tmp_path.iterdir()) == [out]


def test_a_damaged_segment_is_made_again(
    run: Run, stopped: JobFolder, film_file: Path, whole: Path, tmp_path: Path
) -> None:
    """A bit is enough. A record which cannot be read, too."""
    data = bytearray(stopped.packets(2).read_bytes())
    data[len(data) // 2] ^= 1
    stopped.packets(2).write_bytes(data)
    (stopped.path / "000003.json").write_text("{")
    assert len(list(stopped.records())) == 2
    result = run.done(film_file, tmp_path / "out.mkv", *SEGMENTS)
    assert "segment 2 is damaged on the disk: it is made again" in result.err
    assert packets(tmp_path / "out.mkv") == packets(whole)


def test_another_job_is_refused(
    run: Run, stopped: JobFolder, film_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has changed is said, and all that is done stays: settings, versions, the input. Jobs are listed, and go."""
    arguments, other = (film_file, tmp_path / "out.mkv", *SEGMENTS), tmp_path / "in.mkv"
    assert "settings.encoding.crf was null, is 9.0" in run.refused(*arguments, "--crf", "9")
    assert 'settings.segment was "1", is "2"' in run.refused(*arguments, "--segment", "2")
    shutil.copy(film_file, other)
    data = bytearray(other.read_bytes())
    data[-3000] ^= 1
    other.write_bytes(data)
    assert "input.sha256_of_samples was" in run.refused(other, *arguments[1:])
    with monkeypatch.context() as patch:
        patch.setattr(identity, "versions", lambda: {"av": "1"})
        assert 'versions.av was "' in run.refused(*arguments)
    # Frames of segments which are done are compared with those they were made of.
    monkeypatch.setattr(film, "checksum", lambda planes, alpha, before: before + 1)
    assert "segment 1 of the input is not what it was" in run.refused(*arguments, begun=True)
    said = []
    for action, path in (
        ("list", tmp_path),
        ("status", tmp_path / "out.mkv"),
        ("clean", stopped.path),
        ("list", tmp_path),
    ):
        assert main(["jobs", action, str(path)]) == 0
        said.append(run.capfd.readouterr().out)
    assert "stopped, 3 segments are done, 45 frames" in said[0]
    assert str(film_file) in said[1] and "ultrafast" in said[1]
    assert "no jobs" in said[3]
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_one_process_at_a_time(run: Run, film_file: Path, tmp_path: Path) -> None:
    """A second one is told, and touches nothing; the list of jobs shows that one is at work."""
    folder = JobFolder.of(tmp_path / "out.mkv")
    folder.path.mkdir()
    with folder._lock:
        assert "another vsaether is at work" in run.refused(film_file, tmp_path / "out.mkv", *SEGMENTS)
        assert main(["jobs", "clean", str(tmp_path)]) == 1
    assert folder.path.is_dir()


@pytest.mark.parametrize(("most", "name", "kept"), [(2000, "000001.packets", 0), (None, "out.mkv", 7)])
def test_a_full_disk(film_file: Path, whole: Path, run: Run, most: int | None, name: str, kept: int) -> None:
    """Room for nothing, or for the segments only: one line; with more room the same command goes on."""
    out = run.folder / "out.mkv"
    result = limited(most or whole.stat().st_size // 2, "upscale", film_file, out, "--engine", run.engine, *SEGMENTS)
    assert result.code == 1
    assert result.error.startswith("vsaether: cannot write ")
    assert result.error.endswith(f"{name}: File too large")
    assert ("7 segments are kept" in result.err) == bool(kept)
    assert len(list(JobFolder.of(out).records())) == kept
    run.done(film_file, out, *SEGMENTS)
    assert packets(out) == packets(whole)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(tmp_path: Path, make_engine: MakeEngine, times: int) -> None:
    """Once: the segment under way is finished, and kept. Twice: it is not."""
    film = {"options": {"preset": "ultrafast"}, "picture": scenes}
    source = make_video(tmp_path / "in.mkv", pts=[40 * i for i in range(45)], size=(320, 240), **film)
    log, out = tmp_path / "log", tmp_path / "out.mkv"
    slow = make_engine(kernels=(5, 5, 3), channels=48)
    with running(log, "upscale", source, out, "--engine", slow, *SEGMENTS) as process:
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "Ctrl-C again" in log.read_text(), process)
        if times == 2:
            process.send_signal(signal.SIGINT)
        assert process.wait(180) == 130
    said = log.read_text()
    assert [record.frames for record in JobFolder.of(out).records()] == ([15] if times == 1 else []), said
    assert ("the same command goes on" in said) == (times == 1)
    assert not out.exists()
