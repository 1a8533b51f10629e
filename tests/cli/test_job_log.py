"""The log in a job's folder: what was done when, and what was wrong, for as long as the job is not complete."""

import subprocess
import sys
from pathlib import Path

import pytest

from vsaether.cli import main
from vsaether.media.manifest import JobFolder

from .conftest import Run
from .test_resume import stop_after
from .test_segment_kinds import corrupt

PART = ("--preset", "ultrafast", "--backend", "ov", "--segment", "0.5")


def test_a_job_keeps_a_log_until_it_is_complete(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each run, each segment with its hash, each note and FFmpeg's own warnings; a failure before the first, too."""
    source, out = corrupt(tmp_path), tmp_path / "out.mkv"
    folder = JobFolder.of(out)
    for frames in (5, 25):
        with monkeypatch.context() as patch:
            stop_after(patch, frames, lambda: OSError(5, "Input/output error", "disk"))
            result = run(source, out, *PART)
        assert str(folder.path) in result.err
    assert main(["jobs", "status", str(out)]) == 0
    assert str(folder.log.path) in capfd.readouterr().out
    lines = folder.log.path.read_text().splitlines()
    told = [line.split(maxsplit=2)[2] for line in lines if line.startswith("20")]
    assert [line.partition(":")[0] for line in told if not line.startswith(("segment", "note"))] == [
        "begun",
        "stopped",
        "gone on with",
        "stopped",
    ]
    assert "Input/output error" in told[-2] + told[-1]
    made = {line.split()[1]: line.split()[-1] for line in told if line.startswith("segment")}
    assert made == {f"{record.number}:": record.sha256 for record in folder.records()} != {}
    assert any(line.startswith(("[h264", "[mpegts", "[mp2")) for line in lines)
    assert "frames/s" not in folder.log.path.read_text()
    assert run(source, out, *PART).code == 0
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
