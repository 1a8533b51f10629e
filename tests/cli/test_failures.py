"""Where ``vsaether upscale`` must stop, or leave something out: one line, and nothing under the final name."""

import errno
import gc
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import pytest
from av.error import FFmpegError

from vsaether.cli import commands
from vsaether.errors import MediaError
from vsaether.media import files, job, muxer
from vsaether.media.interrupts import Interrupted, caught, check

from ..conftest import MakeEngine
from .conftest import FAST, Run, contents, limited, make_video, read, running

WIDE, FFV1 = {"aspect": Fraction(16, 11)}, ("--codec", "ffv1")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mkv", pts=[0])


def test_a_file_that_appears_meanwhile_is_left_alone(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, loop = run.folder / "out.mkv", job._loop

    def and_write(*arguments: object) -> None:
        loop(*arguments)  # type: ignore[arg-type]
        out.write_text("theirs")

    monkeypatch.setattr(job, "_loop", and_write)
    assert "appeared in the meantime" in run(clip, out, *FAST).error
    assert contents(run.folder) == {"in.mkv": clip.read_bytes(), "out.mkv": b"theirs"}


@pytest.mark.parametrize(
    ("film", "output", "options", "what", "remedy"),
    [
        ({"chapters": True}, "out.ts", (), "chapters", "write .mkv"),
        ({"subtitle": True}, "out.ts", (), "stream 1 (subtitle subrip fra)", "write .mkv"),
        ({"rotation": 90}, "out.ts", (), "the rotation of the video", "write .mkv"),
        (WIDE, "out.mkv", FFV1, "the sample aspect ratio 16:11 of ffv1", "use --codec libx264 or libx265"),
        (WIDE, "out.webm", (), "the sample aspect ratio 16:11 of libvpx-vp9", "write .mp4 or .mov"),
    ],
)
def test_what_a_container_cannot_carry(
    run: Run, tmp_path: Path, film: dict, output: str, options: tuple[str, ...], what: str, remedy: str
) -> None:
    """What would get lost is named, with the remedy; on request it is left out, with a note."""
    source = make_video(tmp_path / "in.mkv", **film)
    cannot = f"{Path(output).suffix} cannot carry {what}"
    error = run.refused(source, tmp_path / output, *options)
    assert f"{cannot}; {remedy} instead, or leave it out with --drop-unsupported" in error
    _, after, result = run.film(source, output, "--drop-unsupported", *options)
    assert f"note: {cannot}: left out" in result.err
    assert len(after.frames) == 12


@pytest.mark.parametrize("error", [OSError(errno.ENOTSUP, "Operation not supported"), FFmpegError(5, "I/O error")])
def test_errors_without_a_name(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """They are told with the files."""
    monkeypatch.setattr(job, "_loop", Mock(side_effect=error))
    said = run.refused(clip, run.folder / "out.mkv", *FAST)
    assert str(clip) in said and str(run.folder / "out.mkv") in said


@pytest.mark.parametrize(("number", "code"), [(errno.EINVAL, 0), (errno.ENOTSUP, 0), (errno.EIO, 1)])
def test_flushing_that_fails(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    """Where there is no such thing, the file is done all the same; where it fails, the file is named."""
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(number, os.strerror(number))))
    out = run.folder / "out.mkv"
    result = run(clip, out, *FAST)
    assert (result.code, out.exists()) == (code, code == 0)
    assert code == 0 or f"cannot write {run.folder}" in result.error


@pytest.mark.parametrize(
    ("output", "most", "options"),
    [
        ("out.mkv", 20_000, ("--preset", "ultrafast", "--encoder-options", "tune=zerolatency")),
        ("late.mkv", 20_000, ()),
        ("frames", 999, ("--limit", "3")),
    ],
)
def test_full_disk(tmp_path: Path, identity_engine: str, output: str, most: int, options: tuple[str, ...]) -> None:
    source = make_video(tmp_path / "in.mkv", pts=[40 * i for i in range(30)], size=(160, 120))
    result = limited(most, "upscale", source, tmp_path / output, "--engine", identity_engine, *options)
    assert result.code == 1
    assert re.fullmatch(f"vsaether: cannot write {tmp_path / output}.*: File too large", result.error)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_midway(tmp_path: Path, make_engine: MakeEngine, number: int) -> None:
    folder, log, pts = tmp_path / "folder", tmp_path / "log", [40 * i for i in range(100)]
    folder.mkdir()
    source = make_video(tmp_path / "in.mkv", pts=pts, size=(320, 240), options={"preset": "ultrafast"})
    slow = make_engine(kernels=(5, 5, 3), channels=48)  # a tenth of a second for a frame
    with running(log, "upscale", source, folder / "out.mkv", "--engine", slow, *FAST) as process:
        assert list(folder.iterdir())
        process.send_signal(number)
        assert process.wait(180) == 128 + number
    assert "nothing was written" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("stem", ["a" * 251, "映" * 80 + "b" * 11, "é" * 120])
def test_names_as_long_as_the_file_system_allows(run: Run, clip: Path, tmp_path: Path, stem: str) -> None:
    """255 bytes are a name, as a file and as a folder; a longer one is refused before work."""
    assert len(run.film(clip, f"{stem}.mkv")[1].frames) == 1
    run.done(clip, tmp_path / f"{stem}_new", "--limit", 1)
    assert [path.name for path in (tmp_path / f"{stem}_new").iterdir()] == ["000001.png"]
    run.refused(clip, tmp_path / f"{stem}{'c' * 20}.mkv")


def test_what_was_written_before_a_signal_is_told(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the file has its name, nothing undoes it."""
    before, out = signal.getsignal(signal.SIGTERM), run.folder / "out.mkv"
    monkeypatch.setattr(files, "_sync", lambda path: signal.raise_signal(signal.SIGTERM) if out.exists() else None)
    result = run(clip, out, *FAST)
    assert result.code == 143
    assert f"terminated; {out} had been written" in result.error
    assert len(read(out).frames) == 1
    assert signal.getsignal(signal.SIGTERM) == before


def test_signals_while_tidying_are_ignored() -> None:
    """The second Ctrl-C does not leave the first one's work half done; what the caller ignores stays ignored."""
    tidied = []

    @caught()
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGHUP)
            tidied.append("all")

    with pytest.raises(Interrupted) as error:
        work()
    assert (tidied, error.value.number) == (["all"], signal.SIGTERM)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with caught():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_ends_the_command_all_the_same() -> None:
    """In a finaliser, as in a callback from C, Python only prints an exception."""
    finalised = type("Finalised", (), {"__del__": lambda self: signal.raise_signal(signal.SIGTERM)})

    @caught()
    def work() -> None:
        check()
        finalised()
        check()

    with pytest.raises(Interrupted) as error:
        work()
    assert error.value.number == signal.SIGTERM
    check()


def test_the_command_runs_beside_the_main_thread(clip: Path, tmp_path: Path, identity_engine: str) -> None:
    arguments = ["upscale", str(clip), str(tmp_path / "out.mkv"), "--engine", identity_engine, *FAST]
    with ThreadPoolExecutor(1) as beside:
        assert beside.submit(commands.main, arguments).result() == 0


def test_nothing_stays_open_after_an_error(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was begun is closed at once, and not when it is collected as garbage."""
    monkeypatch.setattr(muxer.VideoWriter, "write", Mock(side_effect=MediaError("no more")))
    gc.disable()
    try:
        assert "no more" in run.refused(clip, run.folder / "out.mkv", *FAST, begun=True)
        opened = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)]
    finally:
        gc.enable()
    assert [name for name in opened if str(run.folder) in name] == []
