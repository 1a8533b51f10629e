"""What ``vsaether`` cannot do is said in one line, before any work, and no file is made or changed."""

import os
from pathlib import Path

import pytest
from PIL import Image

from vsaether.cli import main

from .conftest import FAST, Run, contents, make_video, read

REFUSED = {
    "out.mkv": {
        "--engine huge_9x": "there is no engine 'huge_9x'",
        "--engine bad.onnx": "not an ONNX file",
        "--backend abacus": "backends: auto, trt, trt_rtx, ort_cuda, ncnn, native, ov, ort",
        "--backend native:thread=2": "the options of native are",
        "--backend ov --device-id 1": "has only device 0",
        "--num-streams 1025": "num_streams is 1025; it must be a whole number from 1 to 1024",
        "--num-streams 100000000000000000000": "num_streams is 100000000000000000000; it must be a whole number",
        "--tile 16x16 --overlap 8": "give a tile of more than 16",
        "--codec nothing": "there is no encoder 'nothing'",
        "--codec aac": "not a video encoder",
        "--codec ffv1 --crf 20": "ffv1 has no crf",
        "--encoder-options colour=red": "libx264 has no option 'colour'",
        "--preset hasty": "libx264 in .mkv cannot be set up",
        "--pix-fmt yuv999": "does not take the pixel format yuv999",
        "--audio-codec nonsense": "usual ones: aac",
        "--audio-codec libx264": "not an encoder of sound",
        "--fps 25": "a video keeps its timestamps",
        "--scale 3 --height 200": "a factor",
        "--start 1.5 --end 0.5": "--end is not behind --start",
        "--start 60": "12 frames were read",
        "--start 60 --segment 1": "12 frames were read",
        "--scheduler tcp://127.0.0.1:9": "no scheduler answers at tcp://127.0.0.1:9",
        "--pipe x265": "{out}",
        "--pipe no-such-encoder{out}": "cannot be started",
        "--pipe cat{out} --crf 3": "--pix-fmt alone",
    },
    "out.webm": {"--codec libx264": "'webm' format does not support 'libx264'"},
    "out.xyz": {"": "the suffix .xyz is none of"},
    "out.png": {"": "one image"},
    "there": {"": "not empty"},
    "out": {"--crf 3": "for videos", "--workers 2": "--scheduler are for video files"},
    "%03d.png": {"--workers 2": "--scheduler are for video files"},
    "frame%03d": {"": "add one, such as frame%03d.png"},
    "none/out.mkv": {"": "does not exist; create it first"},
    "a-file": {"--overwrite": "a-file is not a folder"},
    "a-file.mkv": {"": "a-file.mkv exists; choose another name, or allow it to be replaced with --overwrite"},
    "a-folder.mkv": {"--overwrite": "a-folder.mkv is a folder"},
    "a-link.mkv": {"": "a-link.mkv exists"},
    "in.mkv": {"--overwrite": "input itself"},
    "a-link-to-it.mkv": {"--overwrite": "input itself"},
}

COMMANDS = {
    "upscale none.mkv out.mkv": "vsaether: none.mkv does not exist",
    "upscale rubbish.mkv out.mkv": "rubbish.mkv cannot be read",
    "upscale empty.mkv out.mkv": "empty.mkv cannot be read",
    "upscale pipe.png out.png": "pipe.png is a pipe",
    "upscale - out.mkv": "give /dev/stdin",
    "upscale a-folder.mkv out.mkv": "holds no images",
    "upscale a-folder.mkv out.mkv --start 1": "--start and --end are for videos",
    "upscale in.png out.png --matrix 709": "the input is RGB",
    "upscale in.png out.png --range limited": "the input is RGB",
    "compare none.mkv in.mkv": "none.mkv",
    "compare rubbish.mkv in.mkv": "rubbish.mkv",
    "compare in.mkv in.mkv -o page.png": ".html",
    "compare in.mkv in.mkv -o there.html": "--overwrite",
    "compare in.mkv in.mkv -o none/page.html": "none",
    "compare . in.mkv": "no file",
    "compare in.png in.png -o page.html --range full": "RGB",
    "preview in.mkv --at 1:00": "60 s",
    "preview in.mkv --crop 60x40+10+10": "64x48",
    "preview none.mkv": "none.mkv",
    "preview in.mkv -o in.mkv": "in.mkv",
    "preview in.mkv -o there": "--overwrite",
    "preview in.png --at 0": "--at",
    "preview in.png -o out --range full": "RGB",
    "info none.onnx": "does not exist",
    "info rubbish.mkv": "neither",
    "info bad.onnx": "ONNX",
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_video(tmp_path_factory.mktemp("film") / "in.mkv", audio="aac").read_bytes()


@pytest.fixture
def there(tmp_path: Path, film: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vsaether.media.cluster._TIMEOUT", "1s")
    Path("in.mkv").write_bytes(film)
    Path("there").mkdir()
    for name in ("a-file", "a-file.mkv", "bad.onnx", "rubbish.mkv", "there.html", "there/in_000006_source.png"):
        Path(name).write_bytes(b"precious" * 100)
    Path("empty.mkv").touch()
    os.mkfifo("pipe.png")
    Path("a-folder.mkv").mkdir()
    Path("a-link.mkv").symlink_to("nowhere")
    Path("a-link-to-it.mkv").symlink_to("in.mkv")
    Image.new("RGB", (16, 16)).save("in.png")


@pytest.mark.parametrize(
    ("output", "options", "reason"),
    [(output, options, reason) for output, each in REFUSED.items() for options, reason in each.items()],
)
@pytest.mark.usefixtures("there")
def test_outputs_and_options(run: Run, output: str, options: str, reason: str) -> None:
    words = [word.replace("{out}", " {out}") for word in options.split()]
    begun = options.startswith(("--tile", "--scheduler"))  # which depend on the frames
    assert reason in run.refused("in.mkv", output, *words, begun=begun)


@pytest.mark.parametrize(("words", "reason"), COMMANDS.items())
@pytest.mark.usefixtures("there")
def test_commands(run: Run, words: str, reason: str) -> None:
    before = contents(run.folder)
    engine = ["--engine", run.engine] if words.startswith(("upscale", "preview")) else []
    assert main([*words.split(), *engine]) == 1
    (line,) = run.capfd.readouterr().err.splitlines()
    assert reason in line
    assert contents(run.folder) == before


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--tile", "9", "--tile"),
        ("--num-streams", "0", "--num-streams"),
        ("--limit", "x", "--limit"),
        ("--fps", "0", "--fps"),
        ("--overlap", "a", "'a' is not a number of pixels such as 16"),
        ("--device-id", "-1", "--device-id"),
        ("--matrix", "601", "2020ncl"),
        ("--range", "tv", "limited"),
        ("--dither", "noise", "error_diffusion"),
        *(("--encoder-options", value, "--encoder-options") for value in ("a", "a,b=1", ",a=1", "=1", "a b=1")),
        *(("--at", value, "--at") for value in ("", "x", "1:60", "1:60:00", "-1", "1:2:3:4")),
        *(("--crop", value, "--crop") for value in ("", "x", "10x8+1", "0x8+1+1")),
    ],
)
def test_values_which_are_none(option: str, value: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["preview", "in.mkv"] if option in ("--at", "--crop") else ["upscale", "in.mkv", "out.mkv"]
    with pytest.raises(SystemExit, match=r"^2$"):
        main([*command, option, value])
    assert said in capfd.readouterr().err


@pytest.mark.usefixtures("there")
def test_what_is_there_is_replaced_on_request(run: Run, tmp_path: Path) -> None:
    """A link is replaced by the film, not followed; what else is in a folder stays."""
    Path("there/000001.png").write_text("old")
    run.done("in.mkv", "there", "--overwrite", "--limit", 1)
    assert Image.open("there/000001.png").size == (128, 96)
    assert Path("there/in_000006_source.png").read_bytes() == b"precious" * 100
    for name in ("a-file.mkv", "a-link.mkv"):
        run.done("in.mkv", name, "--overwrite", *FAST)
        assert read(tmp_path / name).size == (128, 96)
        assert not Path(name).is_symlink()
