"""The command line with arguments and files that nobody would give it, for a bounded time.

    python -m benchmarks.fuzz --seconds 300

Hypothesis draws them: commands, options and values, good and bad, and files of many kinds, whole, cut off, with bytes
changed, spliced together, or random. Rounds of a fixed number of examples run in processes of their own, so that one
which dies is seen. Of each example it is asked that the exit code is one of those documented, that one line says why
where it is not 0, that no traceback is seen, that the input is as it was, and that nothing half written is left.

A round is a function of its seed: ``python -m benchmarks.fuzz --round SEED`` is that one alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks import reliability

EXAMPLES = 40
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much)
_LONGEST = 300  # seconds of a round
_KINDS = {  # suffix: encoder and pixel format
    ".mkv": ("ffv1", "yuv420p"),
    ".mp4": ("libx264", "yuv420p"),
    ".webm": ("libvpx-vp9", "yuv420p"),
    ".ts": ("mpeg2video", "yuv420p"),
    ".avi": ("mjpeg", "yuvj420p"),
    ".gif": ("gif", "rgb8"),
    ".png": ("png", "rgb24"),
    ".jpg": ("mjpeg", "yuvj420p"),
    ".tif": ("tiff", "rgb48le"),
    ".webp": ("libwebp", "yuv420p"),
}
_STILL = (".png", ".jpg", ".tif", ".webp")
_ENGINE = "tiny_2x_int8"
_VALUES = {
    "--engine": [_ENGINE, "tiny_2x", "none", "in.mkv", ""],
    "--backend": ["auto", "native", "ov", "ort", "trt", "none", "native:threads=1", "native:threads=x"],
    "--tile": ["16x16", "8x64", "0x0", "1x1", "64", "99999x99999", "x"],
    "--overlap": ["0", "4", "4x8", "-1", "999"],
    "--codec": ["ffv1", "libx264", "libx265", "mpeg4", "prores_ks", "aac", "png", "none", ""],
    "--crf": ["0", "30", "-5", "nan", "1e99", "x"],
    "--preset": ["ultrafast", "0", "12", "none"],
    "--pix-fmt": ["yuv444p", "yuv420p10le", "gray", "rgb24", "gbrp", "pal8", "none"],
    "--encoder-options": ["g=1", "g=x", "=", "a", "threads=1,g=2", "none=1"],
    "--fps": ["25", "30000/1001", "0", "-1", "1/0", "1e9", "x"],
    "--limit": ["1", "2", "0", "-1", "99999999999999999999"],
    "--width": ["64", "63", "0", "-1", "99999"],
    "--height": ["64", "1", "x"],
    "--scale": ["1.5", "3", "0", "-2", "1e9", "nan", "x"],
    "--matrix": ["709", "170m", "ictcp", "none"],
    "--range": ["limited", "full", "none"],
    "--dither": ["none", "error_diffusion", "x"],
    "--device-id": ["0", "7", "-1"],
    "--deinterlace": ["flagged", "top", "bottom", "telecine", "none"],
    "--start": ["0", "0.04", "1f", "99:00:00", "-1", "x"],
    "--end": ["0.08", "2f", "0", "x"],
    "--audio-codec": ["aac", "libopus", "flac", "libx264", "none"],
    "--segment": ["1", "0:00:00.04", "0", "-1", "x"],
    "--at": ["0", "0.04", "0:00:01", "99:59:59", "-1", "x"],
    "--crop": ["8x8+0+0", "99x99+0+0", "0x0+0+0", "x"],
    "--frames": ["1", "3", "0", "99999999"],
    "--max-size": ["1", "0", "x"],
    "--reference": ["a", "none"],
}
_TAGS = ["--matrix", "--range"]
_SHARED = ["--engine", "--backend", "--tile", "--overlap", "--device-id", "--dither", *_TAGS]
_TAKES = {  # which command takes which; now and then one is given another's
    "upscale": [
        option for option in _VALUES if option not in ("--at", "--crop", "--frames", "--max-size", "--reference")
    ],
    "compare": ["--frames", "--max-size", "--reference", *_TAGS],
    "preview": [*_SHARED, "--at", "--crop"],
    "info": [],
}
_OWN = {"upscale": ["--drop-unsupported", "--no-reuse", "--no-resume"], "compare": ["--resize"]}
_FLAGS = ["--overwrite", "--drop-unsupported", "--no-reuse", "--no-resume", "--resize", "--json", "--none", "-h"]
_OUT = [
    "out.mkv",
    "out.mp4",
    "out.webm",
    "out.ts",
    "out.png",
    "out",
    "out/%03d.png",
    "out.html",
    "out.txt",
    "no/out.mkv",
]
_OUT += ["", "-", ".", "there.mkv", "a", "%d", "x" * 300 + ".mkv", "\udcff.mkv", "out\n.mkv"]


def corpus() -> dict[str, bytes]:
    """A small sound file of each kind."""
    made = {}
    for suffix, (codec, pix_fmt) in _KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"in{suffix}")
            with av.open(str(path), "w", options={"update": "1"} if suffix in _STILL else {}) as out:
                stream = out.add_stream(codec, rate=25)
                assert isinstance(stream, VideoStream)
                stream.width, stream.height, stream.pix_fmt = 32, 24, pix_fmt
                for number in range(1 if suffix in _STILL else 3):
                    noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24").reformat(format=pix_fmt)))
                out.mux(stream.encode(None))
            made[suffix] = path.read_bytes()
    return made


@st.composite
def damaged(draw: st.DrawFn, files: dict[str, bytes]) -> tuple[str, bytes]:
    """A file's suffix and its bytes: sound, or not."""
    suffix = draw(st.sampled_from(sorted(files)))
    data = bytearray(files[suffix])
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    way = draw(st.sampled_from(["whole", "whole", "cut", "changed", "zeros", "spliced", "random", "empty", "named"]))
    at = chance.randrange(len(data))
    if way == "cut":
        del data[at:]
    elif way == "changed":
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif way == "zeros":
        data[at : at + 200] = bytes(len(data[at : at + 200]))
    elif way == "spliced":
        data[at:] = files[draw(st.sampled_from(sorted(files)))][at // 2 :]
    elif way == "random":
        data = bytearray(chance.randbytes(at))
    elif way == "empty":
        data.clear()
    elif way == "named":
        suffix = draw(st.sampled_from([*sorted(files), ".txt", ""]))
    return suffix, bytes(data)


@st.composite
def command(draw: st.DrawFn) -> list[str]:
    """A command line about the files a and b, whose names end as they must be completed."""
    name = draw(st.sampled_from(["upscale"] * 5 + ["compare", "compare", "preview", "preview", "info", "none"]))
    words = [name, "a"]
    output = draw(st.sampled_from(_OUT))
    words += {"upscale": [output], "compare": ["b", "-o", output], "preview": ["-o", output]}.get(name, [])
    if name in ("upscale", "preview"):
        words += ["--engine", _ENGINE]
    lost = not draw(st.integers(0, 9))
    takes = sorted(_VALUES) if lost else _TAKES.get(name, [])
    for option in draw(st.lists(st.sampled_from(takes), max_size=3, unique=True)) if takes else []:
        good = st.sampled_from(_VALUES[option])
        words += [option, draw(st.text(max_size=4) if lost else good)]
    flags = _FLAGS if lost else [*_OWN.get(name, []), *(["--overwrite", "--json"] if name != "info" else [])]
    return words + (draw(st.lists(st.sampled_from(flags), max_size=2, unique=True)) if flags else [])


def check(words: list[str], files: list[tuple[str, bytes]]) -> str:
    """Run one command line in a folder of its own; the result is the exit code, in words. Raises AssertionError."""
    from vsaether.cli import main

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            names = {}
            for key, (suffix, data) in zip("ab", files, strict=True):
                names[key] = f"{key}{suffix}"
                Path(names[key]).write_bytes(data)
            Path("there.mkv").write_bytes(b"mine")
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = main([names.get(word, word) for word in words])
                except SystemExit as ended:
                    code = ended.code if isinstance(ended.code, int) else -1
            told = err.getvalue()
            assert code in (0, 1, 2), f"exit code {code}"
            assert "Traceback" not in told, told
            if code == 1 and "--json" in words:
                assert told.count('"event": "error"') == 1, told
            elif code == 1:
                lines = [line for line in told.replace("\r", "\n").splitlines() if line.startswith("vsaether: ")]
                assert len([line for line in lines if not line.startswith("vsaether: note: ")]) == 1, told
            if "--overwrite" not in words:
                assert Path("there.mkv").read_bytes() == b"mine", "a file was replaced"
            for key, (_, data) in zip("ab", files, strict=True):
                assert Path(names[key]).read_bytes() == data, "the input was changed"
            left = [path.name for path in Path().rglob("*") if path.name.startswith(".vsaether-")]
            assert not left, f"left behind: {left}"
            return {0: "done", 1: "refused with a reason", 2: "wrong command line"}[code]
        finally:
            os.chdir(before)


def one_round(number: int, examples: int = EXAMPLES) -> tuple[Counter[str], list[str]]:
    """The examples of a seed: how often which came of it, and what failed, with how to see it again."""
    counted: Counter[str] = Counter()
    failures: list[str] = []
    files = corpus()

    @seed(number)
    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=_SLOW)
    @given(command(), damaged(files), damaged(files))
    def example(words: list[str], a: tuple[str, bytes], b: tuple[str, bytes]) -> None:
        print(json.dumps({"words": words, "files": [a[0], b[0]]}), file=sys.__stderr__, flush=True)
        sound = a[1] == files.get(a[0]) and b[1] == files.get(b[0])
        try:
            counted[check(words, [a, b])] += 1
            counted["with sound files" if sound else "with damaged files"] += 1
        except Exception:
            failures.append(f"{words} {a[0]} {b[0]}: {traceback.format_exc()[-1500:]}")

    example()
    return counted, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--round", type=int, metavar="SEED", help="one round, in this process")
    parser.add_argument("--no-record", action="store_true", help="leave docs/results/reliability.* as they are")
    options = parser.parse_args()
    if options.round is not None:
        counted, failures = one_round(options.round)
        print(json.dumps({"counted": counted, "failures": failures}))
        return int(bool(failures))
    total: Counter[str] = Counter()
    failed: list[str] = []
    began, rounds = time.monotonic(), 0
    while time.monotonic() - began < options.seconds:
        number = options.seed + rounds
        rounds += 1
        again = [sys.executable, "-m", "benchmarks.fuzz", "--round", str(number)]
        try:
            done = subprocess.run(again, capture_output=True, text=True, timeout=_LONGEST, check=False)
            found = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired as slow:
            last = (slow.stderr or b"").decode(errors="replace").splitlines()
            failed.append(f"round {number} took over {_LONGEST} s, at {last[-1:]}")
            continue
        except (IndexError, ValueError):
            shown = [line for line in done.stderr.splitlines() if line.startswith('{"words"')]
            failed.append(f"round {number} died ({done.returncode}) at {shown[-1:]}")
            continue
        total.update(found["counted"])
        failed += [f"round {number}: {text}" for text in found["failures"]]
    seconds = time.monotonic() - began
    for text in failed:
        print(text, file=sys.stderr)
    figures = {
        "command lines tried": sum(total[name] for name in ("with sound files", "with damaged files")),
        **{name: total[name] for name in sorted(total)},
        "crashes, tracebacks, hangs, files left or replaced": len(failed),
        "time": f"{seconds:.0f} s, {rounds} rounds",
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if not options.no_record:
        text = (
            "`upscale`, `compare`, `preview` and `info` with arguments drawn by Hypothesis, and files of "
            f"{len(_KINDS)} kinds: sound, cut off, changed, spliced, random, empty, or named as another kind."
        )
        command = f"python -m benchmarks.fuzz --seconds {options.seconds:.0f} --seed {options.seed}"
        reliability.record("2-fuzz", "Arguments and files that nobody would give", command, text, figures)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
