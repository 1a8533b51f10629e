"""What reuse brings: vsaether upscale end to end, with and without --no-reuse, in turns.

    python -m benchmarks.reuse [--engine small_2x_int8 ...] [--frames 120] [--rounds 2]

Three films of one clip that comes with this package: as it is, where nothing repeats; each third frame held for three,
as animation is; and a still page of 640x360 with a pointer that moves over it, as in a screen recording. Both runs must
write the same bytes. They include the start of the program, half a second or more, which a whole film does not notice:
films of 5 seconds are the shortest that tell anything. Writes docs/results/reuse.md.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks import clip
from presets import files

PAGE = Path("docs/results/reuse.md")
SCREEN = (640, 360)
FILMS = {
    "nothing repeats": "the clip as it is; at most 2 % slower is wanted",
    "held": "each picture three times; at least 2 times as fast is wanted",
    "screen": "a moving pointer on a page; at least 3 times as fast is wanted",
}


def main() -> int:
    """Measure and write the page; the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.reuse", description=__doc__)
    parser.add_argument("--engine", action="append", dest="engines", metavar="NAME")
    parser.add_argument("--backend", action="append", dest="backends", metavar="NAME")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rows, load = [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        films = {name: make(Path(folder) / f"{i}.mkv", name, options.frames) for i, name in enumerate(FILMS)}
        for engine in options.engines or ["small_2x_int8", "tiny_2x_int8"]:
            for backend in options.backends or ["native"]:
                for name, film in films.items():
                    rows.append([engine, backend, name, *measure(film, engine, backend, options.rounds)])
                    print(*rows[-1], flush=True)
    files.write(PAGE, page(rows, options.frames, options.rounds, load).encode())
    return 0


def make(path: Path, name: str, frames: int) -> Path:
    """A film of that name, losslessly coded."""
    pictures = screen() if name == "screen" else clip.pictures()
    if name == "held":
        pictures = (picture for picture in itertools.islice(pictures, 0, None, 3) for _ in range(3))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=Fraction(24), options={"level": "3"})
        for number, frame in enumerate(itertools.islice(pictures, frames)):
            if not number:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def screen() -> Iterator[av.VideoFrame]:
    """A page of dark marks on white, as letters are, and a pointer."""
    width, height = SCREEN
    random = np.random.default_rng(0)
    page = np.full((height, width, 3), 245, np.uint8)
    for top in range(20, height - 20, 14):
        for left in range(24, int(random.integers(width // 2, width - 24)), 7):
            page[top : top + 9, left : left + 5] = np.where(random.random((9, 5, 1)) < 0.4, 30, 245)
    for n in itertools.count():
        shown = page.copy()
        x, y = (np.array([0.5 + 0.4 * np.cos(n / 20), 0.5 + 0.4 * np.sin(n / 13)]) * SCREEN).astype(int)
        for row in range(16):
            shown[y + row, x : x + row // 2 + 2] = 0
        yield av.VideoFrame.from_ndarray(shown, "rgb24").reformat(format="yuv420p")


def measure(film: Path, engine: str, backend: str, rounds: int) -> tuple[float, float, float, float]:
    """Seconds without and with reuse (medians), and processor seconds without and with."""
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    bytes_written = set()
    for turn in range(rounds):
        for reuse in (False, True) if turn % 2 else (True, False):
            out = film.with_name("out.mkv")
            command = [sys.executable, "-m", "vsaether.cli", "upscale", str(film), str(out), "--overwrite"]
            command += ["--engine", engine, "--backend", backend, *([] if reuse else ["--no-reuse"])]
            before, began = processor(), time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            found[reuse].append((time.perf_counter() - began, processor() - before))
            bytes_written.add(digest(out))
    if len(bytes_written) != 1:
        raise SystemExit(f"benchmarks.reuse: {engine}: the output with reuse is not that without")
    without, with_reuse = (statistics.median(wall for wall, _ in found[reuse]) for reuse in (False, True))
    cpu_without, cpu_with = (statistics.median(cpu for _, cpu in found[reuse]) for reuse in (False, True))
    return without, with_reuse, cpu_without, cpu_with


def processor() -> float:
    """Processor seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def digest(path: Path) -> str:
    """SHA-256 of a file's packets."""
    sha = hashlib.sha256()
    with av.open(str(path)) as film:
        for packet in film.demux(video=0):
            sha.update(bytes(packet))
    return sha.hexdigest()


def page(rows: list[list], frames: int, rounds: int, load: float) -> str:
    """The figures as a page."""
    lines = [
        "# What repeats",
        "",
        f"`python -m benchmarks.reuse --frames {frames} --rounds {rounds}`: `vsaether upscale`, start to end, with and",
        "without `--no-reuse`, in turns; medians. Both wrote the same bytes, or there were no page. Films:",
        "",
        *(f"- {name}: {what}" for name, what in FILMS.items()),
        "",
        "| engine | backend | film | s without | s with | times as fast | CPU s without | CPU s with | times less |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for engine, backend, name, without, with_reuse, cpu_without, cpu_with in rows:
        lines.append(
            f"| {engine} | {backend} | {name} | {without:.1f} | {with_reuse:.1f} | {without / with_reuse:.2f} | "
            f"{cpu_without:.1f} | {cpu_with:.1f} | {cpu_without / cpu_with:.2f} |"
        )
    lines += [
        "",
        f"Measured on {os.cpu_count()} cores; load before: {load:.1f}. The start of the program is part of it, which a",
        "whole film does not notice.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
