"""``vsaether upscale`` where it must refuse or stop: one line, the right code, nothing under the final name."""

import os
import re
import resource
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import pytest

from .conftest import Run, command, make_video, read

FAST = ("--preset", "ultrafast")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A clip with sound and subtitles."""
    return make_video(tmp_path / "in.mkv", audio="aac", subtitle=True)


@pytest.fixture(scope="session")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose upscaling takes many seconds with the slow engine."""
    options = {"preset": "ultrafast"}
    return make_video(
        tmp_path_factory.mktemp("long") / "in.mkv", pts=[40 * i for i in range(200)], size=(320, 240), options=options
    )


@pytest.fixture(scope="session")
def slow_engine(make_engine) -> str:  # noqa: ANN001
    """An engine which takes about a tenth of a second for a frame."""
    return str(make_engine(kernels=(5, 5, 3), channels=48))


def others(folder: Path, *expected: Path) -> list[str]:
    """What is in a folder besides what should be there."""
    return sorted(path.name for path in folder.iterdir() if path not in expected)


def test_missing_input(run: Run, tmp_path: Path) -> None:
    """The missing file is named."""
    result = run(tmp_path / "none.mkv", tmp_path / "out.mkv")
    assert result.code == 1
    assert result.error == f"vsaether: {tmp_path / 'none.mkv'} does not exist"
    assert others(tmp_path) == []


def test_not_a_video(run: Run, tmp_path: Path) -> None:
    """Rubbish, an empty file and a file with sound only are told apart."""
    for name, content in (("rubbish.mkv", b"rubbish" * 100), ("empty.mkv", b"")):
        (tmp_path / name).write_bytes(content)
        result = run(tmp_path / name, tmp_path / "out.mkv")
        assert result.code == 1
        assert f"{name} cannot be read" in result.error
    (tmp_path / "images").mkdir()
    assert "holds no images" in run(tmp_path / "images", tmp_path / "out.mkv").error
    assert others(tmp_path) == ["empty.mkv", "images", "rubbish.mkv"]


def test_unknown_engine(run: Run, video: Path, tmp_path: Path) -> None:
    """The names there are are listed; a file which is no engine is refused."""
    assert "there is no engine 'huge_9x'" in run(video, tmp_path / "out.mkv", engine="huge_9x").error
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")
    assert "not an ONNX file" in run(video, tmp_path / "out.mkv", engine=str(tmp_path / "bad.onnx")).error
    assert others(tmp_path, video) == ["bad.onnx"]


def test_unknown_backend(run: Run, video: Path, tmp_path: Path) -> None:
    """The backends are listed."""
    assert (
        "backends: auto, trt, trt_rtx, ort_cuda, ncnn, native, ov, ort"
        in run(video, tmp_path / "out.mkv", "--backend", "abacus").error
    )


def test_output_is_never_overwritten_unasked(run: Run, video: Path, tmp_path: Path) -> None:
    """An existing file stays until --overwrite; the input itself is safe always."""
    out = tmp_path / "out.mkv"
    out.write_text("precious")
    assert "--overwrite" in run(video, out).error
    assert out.read_text() == "precious"
    before = video.read_bytes()
    assert "input itself" in run(video, video, "--overwrite").error
    (tmp_path / "link.mkv").symlink_to(video)
    assert "input itself" in run(video, tmp_path / "link.mkv", "--overwrite").error
    assert video.read_bytes() == before
    assert run(video, out, "--overwrite", *FAST).code == 0
    assert read(out).size == (128, 96)
    assert others(tmp_path, video, out) == ["link.mkv"]


def test_what_is_in_the_way_is_told_before_work(run: Run, video: Path, tmp_path: Path) -> None:
    """A folder cannot be replaced by a file, nor a file by a folder; a link to nowhere is a file, too."""
    (tmp_path / "out.mkv").mkdir()
    (tmp_path / "link.mkv").symlink_to("nowhere")
    (tmp_path / "frames").write_text("precious")
    for name, arguments, reason in (
        ("out.mkv", ("--overwrite",), "out.mkv is a folder"),
        ("link.mkv", (), "link.mkv exists"),
        ("frames", ("--overwrite",), "frames is not a folder"),
    ):
        result = run(video, tmp_path / name, *arguments)
        assert result.code == 1
        assert reason in result.error
        assert "frames," not in result.err  # the progress bar has not begun
    assert others(tmp_path, video) == ["frames", "link.mkv", "out.mkv"]
    assert run(video, tmp_path / "link.mkv", "--overwrite", *FAST).code == 0
    assert not (tmp_path / "link.mkv").is_symlink()


def test_a_file_that_appears_meanwhile_is_left_alone(
    run: Run, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first check and the end, somebody else may write OUT."""
    from vsaether.media import job as upscale

    out = tmp_path / "out.mkv"
    loop = upscale._loop

    def and_write(*arguments: object) -> None:
        loop(*arguments)  # type: ignore[arg-type]
        out.write_text("theirs")

    monkeypatch.setattr(upscale, "_loop", and_write)
    assert "appeared in the meantime" in run(video, out, *FAST).error
    assert out.read_text() == "theirs"
    assert others(tmp_path, video, out) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("out.mkv", "--codec", "nothing"), "there is no encoder 'nothing'"),
        (("out.mkv", "--codec", "aac"), "not a video encoder"),
        (("out.mkv", "--codec", "ffv1", "--crf", "20"), "ffv1 has no crf"),
        (("out.mkv", "--encoder-options", "colour=red"), "libx264 has no option 'colour'"),
        (("out.mkv", "--preset", "hasty"), "libx264 in .mkv cannot be set up"),
        (("out.mkv", "--pix-fmt", "yuv999"), "does not take the pixel format yuv999"),
        (("out.webm", "--codec", "libx264"), "'webm' format does not support 'libx264'"),
        (("out.xyz",), "the suffix .xyz is none of"),
        (("out.png",), "one image"),
        (("out", "--crf", "3"), "for videos"),
        (("frame%03d",), "add one, such as frame%03d.png"),
        (("none/out.mkv",), "does not exist; create it first"),
        (("out.mkv", "--fps", "25"), "a video keeps its timestamps"),
    ],
)
def test_what_cannot_be_done_is_refused_before_work(
    run: Run, video: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    """One line with the reason, exit code 1, and no file."""
    result = run(video, tmp_path / arguments[0], "--drop-unsupported", *arguments[1:])
    assert result.code == 1
    assert reason in result.error
    assert re.search(r"\d/\d+ frames", result.err) is None  # the progress bar has not begun
    assert others(tmp_path, video) == []


def test_streams_a_container_cannot_carry(run: Run, video: Path, tmp_path: Path) -> None:
    """The stream and the remedy are named; on request it is left out, with a note."""
    result = run(video, tmp_path / "out.ts", *FAST)
    assert result.code == 1
    assert ".ts cannot carry stream 2 (subtitle subrip fra); write .mkv instead" in result.error
    assert others(tmp_path, video) == []
    result = run(video, tmp_path / "out.ts", "--drop-unsupported", *FAST)
    assert result.code == 0
    assert "note: .ts cannot carry stream 2 (subtitle subrip fra): left out" in result.err
    before, after = read(video), read(tmp_path / "out.ts")
    assert len(after.packets[1]) == len(before.packets[1])


@pytest.mark.parametrize(
    ("output", "arguments", "what", "remedy"),
    [
        ("out.ts", ("--preset", "ultrafast"), "chapters", "write .mkv"),
        ("out.ts", ("--preset", "ultrafast"), "the rotation of the video", "write .mkv"),
        ("out.mkv", ("--codec", "ffv1"), "the sample aspect ratio 16:11 of ffv1", "use --codec libx264 or libx265"),
        ("out.webm", (), "the sample aspect ratio 16:11 of libvpx-vp9", "write .mp4 or .mov"),
    ],
)
def test_what_else_a_container_cannot_carry(
    run: Run, tmp_path: Path, output: str, arguments: tuple[str, ...], what: str, remedy: str
) -> None:
    """What would get lost is named, with the remedy; on request it is left out, with a note."""
    source = make_video(
        tmp_path / "in.mkv",
        chapters=what == "chapters",
        rotation=90 if "rotation" in what else None,
        aspect=Fraction(16, 11) if "aspect" in what else None,
    )
    result = run(source, tmp_path / output, *arguments)
    assert result.code == 1
    suffix = Path(output).suffix
    assert f"{suffix} cannot carry {what}; {remedy} instead, or leave it out with --drop-unsupported" in result.error
    assert others(tmp_path, source) == []
    result = run(source, tmp_path / output, "--drop-unsupported", *arguments)
    assert result.code == 0, result.err
    assert f"note: {suffix} cannot carry {what}: left out" in result.err


@pytest.mark.parametrize(
    "wrong", [("--tile", "9"), ("--num-streams", "0"), ("--limit", "x"), ("--encoder-options", "a"), ("--fps", "0")]
)
def test_wrong_command_lines(run: Run, video: Path, tmp_path: Path, wrong: tuple[str, str]) -> None:
    """Exit code 2, as usual."""
    with pytest.raises(SystemExit) as error:
        run(video, tmp_path / "out.mkv", *wrong)
    assert error.value.code == 2


@pytest.mark.parametrize(
    ("output", "most", "options"),
    [
        ("out.mkv", 50_000, ("--preset", "ultrafast", "--encoder-options", "tune=zerolatency")),
        ("late.mkv", 50_000, ("--limit", "30")),
        ("frames", 999, ("--limit", "3")),
    ],
)
def test_full_disk(
    long_video: Path, tmp_path: Path, identity_engine: str, output: str, most: int, options: tuple[str, ...]
) -> None:
    """A write that fails midway gives one line, and the partial output goes."""
    done = subprocess.run(
        command("upscale", long_video, tmp_path / output, "--engine", identity_engine, *options),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    line = done.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert line.startswith(f"vsaether: cannot write {tmp_path / output}")
    assert line.endswith(": File too large")
    assert "Traceback" not in done.stderr
    assert others(tmp_path) == []


def test_too_many_streams(run: Run, video: Path, tmp_path: Path) -> None:
    """A number beyond all sense is refused with a sentence, however long it is."""
    for number in (1025, 10**20):
        result = run(video, tmp_path / "out.mkv", "--num-streams", number)
        assert result.code == 1
        assert result.error == f"vsaether: num_streams is {number}; it must be a whole number from 1 to 1024"
    assert others(tmp_path, video) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_stopped_midway(long_video: Path, tmp_path: Path, slow_engine: str, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a closed terminal leave nothing; even after SIGKILL there is nothing under the final name."""
    folder, log = tmp_path / "folder", tmp_path / "log"
    folder.mkdir()
    arguments = command("upscale", long_video, folder / "out.mkv", "--engine", slow_engine, *FAST)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else it is ignored in a shell's background jobs
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with log.open("w") as stderr, subprocess.Popen(arguments, stderr=stderr) as process:
        try:
            deadline = time.monotonic() + 60
            while not re.search(r" [1-9]\d*/200 frames", log.read_text()):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert others(folder)
            os.kill(process.pid, number)
            code = process.wait(60)
        finally:
            process.kill()
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
        assert not (folder / "out.mkv").exists()
        return
    assert code == 128 + number
    assert "nothing was written" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert others(folder) == []
