"""Output files: names, interruptions, and what is open when a command has failed."""

import gc
import os
import signal
import threading
from pathlib import Path

import pytest

from vsaether.cli import commands
from vsaether.errors import MediaError
from vsaether.media import files, muxer
from vsaether.media.interrupts import Interrupted, caught, check

from .conftest import FAST, Run, make_video, read


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A clip."""
    return make_video(tmp_path / "in.mkv")


@pytest.mark.parametrize("stem", ["a" * 251, "映" * 80 + "b" * 11, "é" * 120])
def test_names_as_long_as_the_file_system_allows(run: Run, video: Path, tmp_path: Path, stem: str) -> None:
    """255 bytes are a name, as a file and as a folder; a longer one is refused before work."""
    assert len(run.film(video, f"{stem}.mkv")[1].frames) == 12
    run.done(video, tmp_path / f"{stem}_new", "--limit", 1)
    assert [path.name for path in (tmp_path / f"{stem}_new").iterdir()] == ["000001.png"]
    run.refused(video, tmp_path / f"{stem}{'c' * 20}.mkv")


def test_what_was_written_before_an_interruption_is_told(
    tmp_path: Path, video: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the file has its name, Ctrl-C does not undo it."""
    before, out = signal.getsignal(signal.SIGINT), tmp_path / "out.mkv"
    monkeypatch.setattr(files, "_sync", lambda path: os.kill(os.getpid(), signal.SIGINT) if out.exists() else None)
    result = run(video, out, *FAST)
    assert result.code == 130
    assert f"interrupted; {out} had been written" in result.error
    assert len(read(out).frames) == 12
    assert signal.getsignal(signal.SIGINT) == before


def test_signals_while_tidying_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second Ctrl-C does not leave the first one's work half done; what the caller ignores stays ignored."""
    tidied = False

    def work() -> None:
        nonlocal tidied
        with caught():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGHUP)
                tidied = True

    with pytest.raises(Interrupted) as error:
        work()
    assert (tidied, error.value.number) == (True, signal.SIGTERM)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with caught():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_ends_the_command_all_the_same() -> None:
    """In a finaliser, as in a callback from C, Python only prints an exception."""

    class Finalised:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        with caught():
            check()
            Finalised()
            check()

    with pytest.raises(Interrupted) as error:
        work()
    assert error.value.number == signal.SIGTERM
    check()


def test_the_command_runs_beside_the_main_thread(video: Path, tmp_path: Path, identity_engine: str) -> None:
    """Where no signals arrive."""
    codes: list[int] = []
    arguments = ["upscale", str(video), str(tmp_path / "out.mkv"), "--engine", identity_engine, *FAST]
    thread = threading.Thread(target=lambda: codes.append(commands.main(arguments)))
    thread.start()
    thread.join()
    assert codes == [0]


def test_nothing_stays_open_after_an_error(
    run: Run, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that was begun is closed at once, and not when it is collected as garbage."""

    def fail(*_: object) -> None:
        raise MediaError("no more")

    monkeypatch.setattr(muxer.VideoWriter, "write", fail)
    gc.disable()
    try:
        assert "no more" in run(video, tmp_path / "out.mkv", *FAST).error
        opened = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)]
    finally:
        gc.enable()
    assert [name for name in opened if str(tmp_path) in name] == []
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
