"""What scripts and shells get: JSON lines, and completion."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from vsaether.cli import main
from vsaether.media import progress

from .conftest import make_video


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_upscale_reports_events(identity_engine: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Start, progress and what was done, and nothing else anywhere; notes are events, too."""
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
    """Infinite means are null; the pictures are named."""
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


@pytest.mark.parametrize(
    ("words", "wanted"), [("comp", "compare"), ("upscale --eng", "--engine"), ("info in", "in.mkv")]
)
def test_bash_completes(words: str, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, their options, and files, asked of bash itself."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    (tmp_path / "in.mkv").touch()
    ask = f"""source ./completion; COMP_WORDS=(vsaether {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _shtab_vsaether; echo "${{COMPREPLY[@]}}" """
    told = subprocess.run([bash, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert wanted in told.stdout.split()
