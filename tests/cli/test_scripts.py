"""What scripts, shells and other encoders get: JSON lines, completion, and y4m."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.cli import main
from vsaether.media import progress

from .conftest import Run, command, make_video


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_upscale_reports_events(identity_engine: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", attachment=True)
    out = tmp_path / "out.mp4"
    given = ["upscale", str(source), str(out), "--engine", identity_engine, "--json", "--preset", "ultrafast"]
    assert main([*given, "--drop-unsupported"]) == 0
    told = capfd.readouterr()
    assert told.out == ""
    found = events(told.err)
    assert [each["event"] for each in found if each["event"] != "progress"][-2:] == ["start", "done"]
    assert {"event": "note"}.items() <= found[0].items() and "attachment" in found[0]["text"]
    last = [each for each in found if each["event"] == "progress"][-1]
    assert last["frames"] == last["total"] == 12
    assert found[-1]["frames"] == 12 and found[-1]["output"] == str(out)
    assert main([*given, "--drop-unsupported"]) == 1
    (error,) = events(capfd.readouterr().err)
    assert error["event"] == "error" and str(out) in error["text"]


def test_compare_and_preview_report_events(
    identity_engine: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = str(make_video(tmp_path / "in.mkv", codec="ffv1"))
    assert main(["compare", source, source, "-o", str(tmp_path / "page.html"), "--json"]) == 0
    done = events(capfd.readouterr().err)[-1]
    assert done["event"] == "done" and done["frames"] == 12
    assert done["means"][source]["psnr"] is None
    assert main(["preview", source, "-o", str(tmp_path / "p"), "--engine", identity_engine, "--json"]) == 0
    (done,) = events(capfd.readouterr().err)
    assert len(done["pictures"]) == 4


def test_progress_tells_the_rate_of_its_own_frames(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Frames which were done before do not count as fast."""
    clock = iter([0.0, 1.0, 1.2, 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.reporting(True), progress.bar(100, 40) as bar:
        bar.update(10)
        bar.update(5)
    start, *told = events(capfd.readouterr().err)
    assert start == {"event": "start", "frames": 40, "total": 100}
    assert [(each["frames"], each["fps"], each["remaining"]) for each in told] == [(50, 10.0, 5.0), (55, 7.5, 6.0)]


@pytest.mark.skipif(not shutil.which("bash"), reason="there is NO bash here: its completion is not tested")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    (tmp_path / "in.mkv").touch()
    for words, wanted in (("comp", "compare"), ("upscale --eng", "--engine"), ("info in", "in.mkv")):
        ask = f"""source ./completion; COMP_WORDS=(vsaether {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _shtab_vsaether; echo "${{COMPREPLY[@]}}" """
        told = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert wanted in told.stdout.split()


ENCODER = """
import sys
data = sys.stdin.buffer.read()
print("read", len(data), "bytes")
open(sys.argv[1], "wb").write(data)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mkv", pts=[0, 40, 80, 120, 160], audio="aac")


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
    assert told in run.refused(source, tmp_path / "out.hevc", "--pipe", encoder(tmp_path, code), begun=True)


def test_what_cannot_be_gone_on_with_is_told(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the work, of a long film; and segments of it are refused."""
    pipe = ("--pipe", encoder(tmp_path, ENCODER))
    assert "--segment is for video files" in run.refused(source, tmp_path / "out.y4m", *pipe, "--segment", "1")
    assert "one pass" not in run.done(source, tmp_path / "short.y4m", *pipe).err
    monkeypatch.setattr("vsaether.media.resume._LONG", 0.1)
    for out, options in (("out.y4m", pipe), ("images", ())):
        assert "made in one pass" in run.done(source, tmp_path / out, *options).err
    assert "one pass" not in run.film(source)[2].err
