"""What segments cost, what more processes bring, and whether films survive being killed.

    python -m benchmarks.films [cost] [workers] [kills] [sound] [--frames 200] [--rounds 2] [--kills 20]

A film is made of the clip that comes with this package; nothing in it repeats. ``cost``: one pass and segments, in
turns. ``workers``: this process alone, and --workers 1 and 2, in turns. ``kills``: SIGKILL at random moments, again and
again, until the film is complete: its packets must be those of a run that was left alone. ``sound``: peak memory where
all sound lies before the video. Processor seconds count what is computed, whatever else the machine does.
Writes docs/results/films.md: the sections of the parts that were run; the others stay.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks import clip
from presets import files
from vsaether.media.cuts import LONGEST
from vsaether.media.manifest import JobFolder

PAGE = Path("docs/results/films.md")
HEAD = """# Films in segments

Measured by `python -m benchmarks.films`, part by part. Where other work went on beside it, processor seconds compare,
seconds hardly.
"""
SOUND = 600  # seconds, of 188 KiB each


def main() -> int:
    """Measure and write the page; the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.films", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--engine", default="tiny_2x_int8")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--segment", default="10", help="seconds; shorter than usual, so that the cost is not flattered"
    )
    args = parser.parse_args()
    if wrong := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(wrong)}")
    with tempfile.TemporaryDirectory() as name:
        for part in args.parts or PARTS:
            load = os.getloadavg()[0]
            title, *text = PARTS[part](args, Path(name))
            found = [f"With {args.engine} on {os.cpu_count()} cores; load before: {load:.1f}.", *text]
            print(title, *found, sep="\n", flush=True)
            written = PAGE.read_text("utf-8") if PAGE.exists() else HEAD
            files.write(PAGE, with_section(written, title, "\n".join(found)).encode())
    return 0


def with_section(page: str, title: str, text: str) -> str:
    """A page with a section in the place of that of the same title, or behind all others."""
    head, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    named = {section.partition("\n")[0]: section for section in sections}
    named[title] = f"{title}\n\n{text.strip()}\n"
    return "\n".join([head.strip() + "\n", *(f"## {section.strip()}\n" for section in named.values())])


def cost(args: argparse.Namespace, folder: Path) -> list[str]:
    """One pass and segments."""
    film = make_film(folder / "film.mkv", args.frames)
    ways = {"one pass": ["--no-resume"]}
    ways |= {f"segments of up to {s} s": ["--segment", s] for s in dict.fromkeys((args.segment, str(LONGEST)))}
    return [
        "What they cost",
        f"`cost --frames {args.frames} --segment {args.segment} --rounds {args.rounds}`: frames of 426x240, of which "
        f"none repeats; each segment is decoded again and hashed. {LONGEST} s is what films get. At most 3 % more is "
        "wanted.\n",
        *table(args, film, folder, ways),
    ]


def workers(args: argparse.Namespace, folder: Path) -> list[str]:
    """One process and several."""
    film = make_film(folder / "film.mkv", args.frames)
    segment = ["--segment", args.segment]
    ways = {"one process": segment} | {f"--workers {n}": [*segment, "--workers", str(n)] for n in (1, 2)}
    return [
        "Processes on this machine",
        f"`workers --frames {args.frames} --segment {args.segment} --rounds {args.rounds}`: with their start, which a "
        "long film does not notice.\n",
        *table(args, film, folder, ways),
    ]


def table(args: argparse.Namespace, film: Path, folder: Path, ways: dict[str, list[str]]) -> list[str]:
    """Several ways in turns: the least seconds and processor seconds, and how much more than those of the first."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(args.rounds):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            found[way].append(measure(command(film, folder / "out.mkv", args.engine, *ways[way], "--overwrite")))
    first = next(iter(found.values()))
    lines = ["| way | seconds | processor seconds | more seconds | more processor seconds |", "|---|---|---|---|---|"]
    for way, runs in found.items():
        least = [min(each) for each in zip(*runs, strict=True)]
        more = [100 * (statistics.median(a[at] / b[at] for a, b in zip(runs, first, strict=True)) - 1) for at in (0, 1)]
        lines.append(f"| {way} | {least[0]:.1f} | {least[1]:.1f} | {more[0]:+.1f} % | {more[1]:+.1f} % |")
    return [*lines, ""]


def kills(args: argparse.Namespace, folder: Path) -> list[str]:
    """SIGKILL at random moments."""
    film = make_film(folder / "small.mkv", args.frames, (96, 54))
    whole, out = folder / "whole.mkv", folder / "killed.mkv"
    began = time.perf_counter()
    subprocess.run(command(film, whole, args.engine, "--segment", "1"), check=True, capture_output=True)
    length = time.perf_counter() - began
    chance = random.Random(1)
    killed = finished = damaged = 0
    most = 0
    while killed < args.kills:
        with subprocess.Popen(
            command(film, out, args.engine, "--segment", "1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(chance.uniform(0.2, 0.6) * length)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
        most = max(most, sum(1 for _ in JobFolder.of(out).records()))
        if out.exists():
            finished += 1
            damaged += packets(out) != packets(whole)
            out.unlink()
    done = subprocess.run(command(film, out, args.engine, "--segment", "1"), capture_output=True, text=True)
    damaged += done.returncode != 0 or packets(out) != packets(whole)
    left = sorted(path.name for path in folder.iterdir() if path not in (film, whole, out, folder / "film.mkv"))
    return [
        "Killed",
        f"`kills --frames {args.frames}`: frames of 96x54 in segments of 1 s; SIGKILL after a random time, until the "
        "film is complete.\n",
        "| kills | films completed on the way | films whose packets differ | files left behind | most segments kept |",
        "|---|---|---|---|---|",
        f"| {killed} | {finished + 1} | {damaged} | {len(left)} | {most} |",
        "",
    ]


def sound(args: argparse.Namespace, folder: Path) -> list[str]:
    """Peak memory, of a file in the usual order and of one whose sound comes first."""
    lines = ["| sound | one pass | segments |", "|---|---|---|"]
    for name, first in (("beside the video", False), ("before the video", True)):
        film, peaks = make_sound(folder / f"sound-{first}.mkv", first), []
        for options in (["--no-resume"], ["--segment", "200"]):
            line = command(
                film, folder / "sound-out.mkv", args.engine, "--preset", "ultrafast", "--overwrite", *options
            )
            with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                _, process.returncode, used = os.wait4(process.pid, 0)
            peaks.append(used.ru_maxrss / 1024)
            assert process.returncode == 0
        lines.append(f"| {name} | {peaks[0]:.0f} MiB | {peaks[1]:.0f} MiB |")
    megabytes = SOUND * 192000 / 2**20
    return ["Sound before the video", f"`sound`: peak memory with {megabytes:.0f} MiB of sound in the file.\n", *lines]


def make_sound(path: Path, first: bool) -> Path:
    """Noise with a picture a second; with ``first``, all noise lies before the pictures."""
    # The muxer keeps the order it is given where streams are more than this apart, in microseconds.
    with av.open(str(path), "w", container_options={"max_interleave_delta": "1" if first else "0"}) as out:
        noise = out.add_stream("pcm_s16le", rate=48000, layout="stereo")
        video = out.add_stream("libx264", rate=1, options={"preset": "ultrafast", "tune": "zerolatency"})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        chance, pictures = np.random.default_rng(0), []
        for second in range(SOUND):
            samples = chance.integers(-3000, 3000, (1, 96000), dtype=np.int16)
            part = av.AudioFrame.from_ndarray(samples, "s16", "stereo")
            part.sample_rate, part.pts, part.time_base = 48000, 48000 * second, Fraction(1, 48000)
            out.mux(noise.encode(part))
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), second % 256, np.uint8), "rgb24")
            picture.pts, picture.time_base = second, Fraction(1)
            pictures += video.encode(picture.reformat(format="yuv420p"))
            if not first:
                out.mux(pictures)
                pictures = []
        out.mux([*pictures, *video.encode(None)])
    return path


def make_film(path: Path, frames: int, size: tuple[int, int] | None = None) -> Path:
    """So many frames of the clip, of which none repeats; with a second of them in each key frame's."""
    if path.exists():
        return path
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "18", "g": "25"})
        assert isinstance(stream, av.VideoStream)
        for number, picture in enumerate(itertools.islice(clip.pictures(), frames)):
            frame = picture.reformat(*size) if size else picture
            if not number:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 25), 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def command(film: Path, out: Path, engine: str, *options: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "vsaether.cli", "upscale", str(film), str(out), "--engine", engine, *options]


def measure(line: list[str]) -> tuple[float, float]:
    """Seconds, and processor seconds with those of its own processes, of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def packets(path: Path) -> str:
    """The SHA-256 of all packets of a file and their times."""
    digest = hashlib.sha256()
    with av.open(str(path)) as file:
        for packet in file.demux():
            digest.update(f"{packet.stream_index} {packet.pts} {packet.dts} {packet.size}".encode() + bytes(packet))
    return digest.hexdigest()


PARTS = {"cost": cost, "workers": workers, "kills": kills, "sound": sound}

if __name__ == "__main__":
    sys.exit(main())
