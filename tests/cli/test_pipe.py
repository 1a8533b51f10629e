"""y4m on standard output, and into encoders of the user's own."""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from .conftest import Run, command, make_video

PTS = [40 * i for i in range(5)]
ENCODER = """
import sys
data = sys.stdin.buffer.read()
print("read", len(data), "bytes")
open(sys.argv[1], "wb").write(data)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mkv", pts=PTS, audio="aac")


def frames(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data), "r", format="yuv4mpegpipe") as film:
        return [frame.to_ndarray() for frame in film.decode(video=0)]


def encoder(tmp_path: Path, code: str) -> str:
    script = tmp_path / "encoder.py"
    script.write_text(code)
    return f"{sys.executable} {script} {{out}}"


def test_another_encoder_gets_what_ours_gets(run: Run, source: Path, tmp_path: Path) -> None:
    result = run.done(source, tmp_path / "out.y4m", "--pipe", encoder(tmp_path, ENCODER))
    assert "sound" in result.err and "5 of 128x96" in result.out
    _, film, _ = run.film(source, "out.mkv", "--codec", "ffv1")
    expected = [frame.to_ndarray() for frame in film.frames]
    np.testing.assert_array_equal(frames((tmp_path / "out.y4m").read_bytes()), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.py", "in.mkv", "out.mkv", "out.y4m"]


def test_standard_output_holds_nothing_else(source: Path, tmp_path: Path, identity_engine: str) -> None:
    line = command("upscale", source, "-", "--engine", identity_engine, "--pix-fmt", "yuv444p")
    done = subprocess.run(line, capture_output=True, timeout=120, check=True)
    assert done.stdout.startswith(b"YUV4MPEG2 W128 H96 F25:1")
    assert len(frames(done.stdout)) == 5
    assert b"5 of 128x96" in done.stderr


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit('the disk is on fire')", "the disk is on fire"),
        ("import sys; sys.stdin.buffer.read(); print('one\\ntwo'); sys.exit(3)", "exit code 3: one | two"),
        ("import sys; sys.stdin.buffer.read()", "wrote nothing"),
        ("import os; os.kill(os.getpid(), 9)", "by signal 9"),
    ],
)
def test_a_failure_is_told_with_the_last_lines(run: Run, source: Path, tmp_path: Path, code: str, told: str) -> None:
    result = run(source, tmp_path / "out.hevc", "--pipe", encoder(tmp_path, code))
    assert result.code == 1
    assert told in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.py", "in.mkv"]


def test_what_cannot_be_gone_on_with_is_told(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the work, of a long film; and segments of it are refused."""
    result = run(source, tmp_path / "out.y4m", "--pipe", encoder(tmp_path, ENCODER), "--segment", "1")
    assert (result.code, "--segment is for video files" in result.error) == (1, True)
    assert "one pass" not in run(source, tmp_path / "short.y4m", "--pipe", encoder(tmp_path, ENCODER)).err
    monkeypatch.setattr("vsaether.media.resume._LONG", 0.1)
    for out, options in ((tmp_path / "out.y4m", ("--pipe", encoder(tmp_path, ENCODER))), (tmp_path / "images", ())):
        result = run(source, out, *options)
        assert (result.code, "made in one pass" in result.err) == (0, True)
    assert "one pass" not in run(source, tmp_path / "out.mkv", "--preset", "ultrafast").err
