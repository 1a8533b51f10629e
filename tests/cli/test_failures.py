"""``vsaether upscale`` where it must stop, or leave something out: one line, and nothing under the final name."""

import errno
import os
import re
import resource
import signal
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from av.error import FFmpegError

from vsaether.media import job

from ..conftest import MakeEngine
from .conftest import FAST, Run, command, contents, make_video, wait_for


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose upscaling takes many seconds with the slow engine."""
    pts = [40 * i for i in range(200)]
    path = tmp_path_factory.mktemp("long") / "in.mkv"
    return make_video(path, pts=pts, size=(320, 240), options={"preset": "ultrafast"})


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """One frame."""
    return make_video(tmp_path / "in.mkv", pts=[0])


def test_a_file_that_appears_meanwhile_is_left_alone(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first check and the end, somebody else may write OUT."""
    out, loop = tmp_path / "out.mkv", job._loop

    def and_write(*arguments: object) -> None:
        loop(*arguments)  # type: ignore[arg-type]
        out.write_text("theirs")

    monkeypatch.setattr(job, "_loop", and_write)
    assert "appeared in the meantime" in run(clip, out, *FAST).error
    assert contents(tmp_path) == {"in.mkv": clip.read_bytes(), "out.mkv": b"theirs"}


@pytest.mark.parametrize(
    ("output", "options", "what", "remedy"),
    [
        ("out.ts", (), "chapters", "write .mkv"),
        ("out.ts", (), "stream 1 (subtitle subrip fra)", "write .mkv"),
        ("out.ts", (), "the rotation of the video", "write .mkv"),
        ("out.mkv", ("--codec", "ffv1"), "the sample aspect ratio 16:11 of ffv1", "use --codec libx264 or libx265"),
        ("out.webm", (), "the sample aspect ratio 16:11 of libvpx-vp9", "write .mp4 or .mov"),
    ],
)
def test_what_a_container_cannot_carry(
    run: Run, tmp_path: Path, output: str, options: tuple[str, ...], what: str, remedy: str
) -> None:
    """What would get lost is named, with the remedy; on request it is left out, with a note."""
    source = make_video(
        tmp_path / "in.mkv",
        chapters=what == "chapters",
        subtitle="subtitle" in what,
        rotation=90 if "rotation" in what else None,
        aspect=Fraction(16, 11) if "aspect" in what else None,
    )
    cannot = f"{Path(output).suffix} cannot carry {what}"
    error = run.refused(source, tmp_path / output, *options)
    assert f"{cannot}; {remedy} instead, or leave it out with --drop-unsupported" in error
    _, after, result = run.film(source, output, "--drop-unsupported", *options)
    assert f"note: {cannot}: left out" in result.err
    assert len(after.frames) == 12


@pytest.mark.parametrize("error", [OSError(errno.ENOTSUP, "Operation not supported"), FFmpegError(5, "I/O error")])
def test_an_error_without_a_name_is_told_with_the_files(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(job, "_loop", fail)
    said = run.refused(clip, tmp_path / "out.mkv", *FAST)
    assert str(clip) in said and str(tmp_path / "out.mkv") in said


@pytest.mark.parametrize(("number", "code"), [(errno.EINVAL, 0), (errno.ENOTSUP, 0), (errno.EIO, 1)])
def test_file_systems_without_flushing(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    """Where there is no such thing, the file is done all the same; where it fails, the file is named."""

    def fsync(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    result = run(clip, tmp_path / "out.mkv", *FAST)
    assert (result.code, (tmp_path / "out.mkv").exists()) == (code, code == 0)
    assert code == 0 or "cannot write " + str(tmp_path) in result.error


@pytest.mark.parametrize(
    ("output", "most", "options"),
    [
        ("out.mkv", 20_000, ("--preset", "ultrafast", "--encoder-options", "tune=zerolatency")),
        ("late.mkv", 20_000, ()),
        ("frames", 999, ("--limit", "3")),
    ],
)
def test_full_disk(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    identity_engine: str,
    output: str,
    most: int,
    options: tuple[str, ...],
) -> None:
    """A write that fails midway gives one line, and the partial output goes."""
    pts = [40 * i for i in range(30)]
    source = make_video(tmp_path_factory.mktemp("film") / "in.mkv", pts=pts, size=(160, 120))
    done = subprocess.run(
        command("upscale", source, tmp_path / output, "--engine", identity_engine, *options),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    line = done.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert re.fullmatch(f"vsaether: cannot write {tmp_path / output}.*: File too large", line)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_stopped_midway(
    long_video: Path, tmp_path: Path, make_engine: MakeEngine, number: signal.Signals, default_signals: None
) -> None:
    """Ctrl-C, SIGTERM and a closed terminal leave nothing; even after SIGKILL there is nothing under the final name."""
    folder, log = tmp_path / "folder", tmp_path / "log"
    folder.mkdir()
    slow = make_engine(kernels=(5, 5, 3), channels=48)  # a tenth of a second for a frame
    arguments = command("upscale", long_video, folder / "out.mkv", "--engine", slow, *FAST)
    with log.open("w") as stderr, subprocess.Popen(arguments, stderr=stderr) as process:
        try:
            wait_for(lambda: bool(re.search(r" [1-9]\d*/200 frames", log.read_text())), process)
            assert list(folder.iterdir())
            process.send_signal(number)
            code = process.wait(180)
        finally:
            process.kill()
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
        assert not (folder / "out.mkv").exists()
        return
    assert code == 128 + number
    assert "nothing was written" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert list(folder.iterdir()) == []
