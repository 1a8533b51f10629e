"""Whether memory stays flat and no frame is lost: a long film of tiny frames, each of which tells its own number.

    python -m benchmarks.soak --frames 30000

The command line runs as it does for anybody, in its own process; its memory, with that of its children, is read while
it works. Then the result is decoded, and the number in each picture and its time are compared with those that went in.
Numbers repeat after 65536. Exit code 1 if memory grows by
more than 2 % after the warm-up, or a frame is missing, doubled or displaced.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import av
import numpy as np
import psutil
from av.video.stream import VideoStream
from scipy.stats import theilslopes

from benchmarks import reliability

_SIZE = 64, 48
_BLOCK = 12  # pixels a side of a square that stands for a bit: 5 x 4 squares, of which 16 count
_BITS = 16
_WARM = 0.2
_PARTS = 8  # each longer than what is free takes to grow, and to be given back (vsaether/memory.py): 700 to 2000 frames
_GROWTH = 0.02
_RATE = 25
_EVERY = 0.1  # seconds between two readings
_LEAST = 10  # readings of a part
_WAYS = {"in segments": [], "in one run": ["--no-resume"]}


def picture(number: int) -> av.VideoFrame:
    """A frame whose squares are the bits of its number, dark or light."""
    width, height = _SIZE
    bits = [number >> bit & 1 for bit in range(_BITS)] + [0] * 4
    squares = np.array(bits, np.uint8).reshape(4, 5) * 120 + 60
    frame = av.VideoFrame(width, height, "yuv420p")
    luma = np.full((height, width), 60, np.uint8)
    luma[:, : 5 * _BLOCK] = squares.repeat(_BLOCK, 0).repeat(_BLOCK, 1)
    for plane, samples in zip(
        frame.planes, (luma, *(np.full((height // 2, width // 2), 128, np.uint8),) * 2), strict=True
    ):
        lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        lines[:, : samples.shape[1]] = samples
    return frame


def number_in(frame: av.VideoFrame) -> int:
    """The number which a frame of any multiple of the size tells."""
    scale = frame.width // _SIZE[0]
    plane = frame.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    step = _BLOCK * scale
    middles = luma[step // 2 : 4 * step : step, step // 2 : 5 * step : step]
    return sum(1 << bit for bit, value in enumerate(middles.flatten()[:_BITS]) if value > 120)


def make(path: Path, frames: int) -> None:
    """A film of so many frames, coded without loss."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=_RATE, options={"preset": "ultrafast", "qp": "0"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *_SIZE, "yuv420p"
        for number in range(frames):
            shown = picture(number % (1 << _BITS))
            shown.pts = number
            out.mux(stream.encode(shown))
        out.mux(stream.encode(None))


def upscale(source: Path, output: Path, engine: str, options: list[str]) -> list[tuple[int, int]]:
    """Run the command line; the result is the frames done and the bytes of memory held, again and again."""
    command = [sys.executable, "-m", "vsaether.cli", "upscale", str(source), str(output)]
    samples: list[tuple[int, int]] = []
    with subprocess.Popen(
        [*command, *options, "--engine", engine, "--preset", "ultrafast", "--no-reuse", "--json"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        frames, told = [0], []

        def listen() -> None:
            assert process.stderr
            for line in process.stderr:
                told.append(line)
                if line.startswith("{"):
                    frames[0] = json.loads(line).get("frames", frames[0])

        listener = threading.Thread(target=listen)
        listener.start()
        while process.poll() is None:
            samples.append((frames[0], _memory(process.pid)))
            time.sleep(_EVERY)
        listener.join()
    if process.returncode:
        raise SystemExit(f"vsaether ended with {process.returncode}: {''.join(told[-5:])}")
    return samples


def _memory(pid: int) -> int:
    """Bytes of anonymous memory that a process and its children hold.

    Without the pages of files: libraries count as a process's own (USS) or not as others happen to have them open.
    """
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            told = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total += 1024 * sum(int(line.split()[1]) for line in told.splitlines() if line.startswith("Anonymous:"))
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return 0
    return total


def growth(samples: list[tuple[int, int]], frames: int) -> tuple[float, float]:
    """Of the memory after the warm-up: the median in bytes, and by what share of it memory grows until the end.

    Memory goes up and down like a saw: what is free is given back now and then only. So it is the least of each part
    of the film that counts, what is really held. Growth is Theil's and Sen's slope over these, the median of those
    between any two: encoders and decoders come and go with each segment, and their memory is no trend.
    """
    parts: dict[int, list[int]] = {}
    for done, held in samples:
        if frames * _WARM <= done < frames and held:
            parts.setdefault(int((done / frames - _WARM) / (1 - _WARM) * _PARTS), []).append(held)
    if len(parts) < _PARTS or min(map(len, parts.values())) < _LEAST:
        raise SystemExit("too few frames for memory to be read often enough; give more --frames")
    least = np.array([min(held) for held in parts.values()], float)
    slope = float(theilslopes(least, list(parts))[0])  # type: ignore[arg-type]
    usual = float(np.median(least))
    return usual, slope * _PARTS / usual


def twelfths(samples: list[tuple[int, int]]) -> str:
    """The median memory of each twelfth of the samples, in MiB: where it stops to rise is seen there."""
    parts = np.array_split([held for _, held in samples], 12)
    return ", ".join(f"{np.median(part) / 2**20:.0f}" for part in parts)


def lost(path: Path, frames: int) -> int:
    """How many frames are missing, too many, out of place, or shown at another time."""
    wrong = count = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for count, frame in enumerate(container.decode(video=0), 1):
            in_place = number_in(frame) == (count - 1) % (1 << _BITS)
            in_time = frame.time is not None and abs(frame.time - (count - 1) / _RATE) < 1e-3
            wrong += not (in_place and in_time)
    return wrong + abs(frames - count)


def publish(frames: int, engine: str, figures: dict[str, object]) -> None:
    """Put the figures on the page."""
    text = (
        f"One film of {frames} frames of {_SIZE[0]}x{_SIZE[1]}, each with its own number in the picture, through "
        f"`vsaether upscale` with `{engine}`, in segments as any long film, and again in one run (`--no-resume`); "
        "then decoded, and number and time of each frame compared. Memory is that of the process and its children "
        f"(anonymous, without the pages of libraries), the least of each of {_PARTS} parts: what is free is given "
        "back now and then only. Its growth is the Theil-Sen slope over the frames. Where it falls: the bytes in use "
        "stay the same (27.4 to 27.7 MiB through 12000 frames, by glibc's mallinfo2); around them lie pages which "
        "cannot be given back, as a piece of a free block begins in them: the most after some thousand frames."
    )
    command = f"python -m benchmarks.soak --frames {frames} --engine {engine}"
    reliability.record("1-soak", "A long film", command, text, figures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=30000)
    parser.add_argument("--engine", default="tiny_2x_int8")
    parser.add_argument("--no-record", action="store_true", help="leave docs/results/reliability.* as they are")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "film.mkv")
        make(source, options.frames)
        for way, arguments in _WAYS.items():
            output = Path(folder, f"{way}.mkv")
            began = time.monotonic()
            samples = upscale(source, output, options.engine, arguments)
            seconds = time.monotonic() - began
            wrong = lost(output, options.frames)
            usual, grown = growth(samples, options.frames)
            bad = bad or wrong > 0 or grown > _GROWTH
            figures |= {
                f"{way}: frames missing, doubled or displaced": wrong,
                f"{way}: memory held, median after a fifth of the film": f"{usual / 2**20:.0f} MiB",
                f"{way}: growth from there to the end (at most 2 %)": f"{grown:+.2%}",
                f"{way}: memory with what is free, by twelfths of the film": f"{twelfths(samples)} MiB",
                f"{way}: memory read": f"{len(samples)} times in {seconds:.0f} s",
            }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if not options.no_record:
        publish(options.frames, options.engine, figures)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
