"""Small clips of every kind the command line must carry, made with FFmpeg's own encoders; and a reader to compare."""

import hashlib
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.container import OutputContainer
from av.filter import Graph
from av.rational import AVRational
from av.video.codeccontext import VideoCodecContext

from vsaether.cli import main

Picture = Callable[[int, int, int, str], av.VideoFrame]
VFR = [0, 40, 80, 200, 240, 250, 400, 440, 1000, 1033, 1066, 1500]
FONT = bytes(range(256)) * 5
FAST = ("--preset", "ultrafast")


def frame(index: int, width: int, height: int, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    y, x = np.mgrid[0:height, 0:width]
    waves = 128 + 100 * np.sin(x / 9 + index / 3), 128 + 100 * np.cos(y / 7 + index / 5)
    picture = np.stack([*waves, (x * 3 + y * 2 + index * 8) % 256], axis=-1).astype(np.uint8)
    return av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)


def make_video(
    path: Path,
    *,
    pts: list[int] | None = None,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    tags: tuple[int, int, int, int] | None = None,
    aspect: Fraction | None = None,
    rotation: int | None = None,
    interlaced: bool = False,
    audio: str | None = None,
    sound: tuple[int, str] = (48000, "stereo"),
    subtitle: bool = False,
    line: str = "line at {}",
    attachment: bool = False,
    chapters: bool = False,
    metadata: dict[str, str] | None = None,
    rate: Fraction | int = 25,
    picture: Picture = frame,
) -> Path:
    """A video with timestamps ``pts`` in milliseconds (default: 12 frames at 25 fps) and what else is asked for."""
    pts = [40 * i for i in range(12)] if pts is None else pts
    with av.open(str(path), "w", container_options=container_options) as out:
        video = out.add_stream(codec, rate=rate, options=options or {}, time_base=Fraction(1, 1000))
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        context = video.codec_context
        video.time_base = AVRational(1, 1000)
        if tags:
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
        if aspect:
            context.sample_aspect_ratio = aspect
        if rotation is not None:
            video.set_display_rotation(rotation)
        flagged = Graph()  # since PyAV cannot say of a frame that it is interlaced
        if interlaced:
            context.flags |= Flags.interlaced_dct
            source = flagged.add_buffer(width=size[0], height=size[1], format=pix_fmt, time_base=Fraction(1, 1000))
            flagged.link_nodes(source, flagged.add("setfield", "tff"), flagged.add("buffersink")).configure()
        heard = out.add_stream(audio, rate=sound[0], layout=sound[1]) if audio else None
        text = out.add_mux_stream("subrip") if subtitle else None
        if attachment:
            out.add_attachment("font.ttf", "application/x-truetype-font", FONT)
        out.metadata.update(metadata or {})
        if chapters:
            base: Any = {"time_base": AVRational(1, 1000)}
            one = base | {"id": 1, "start": 0, "end": 500, "metadata": {"title": "One"}}
            out.set_chapters([one, base | {"id": 2, "start": 500, "end": 1500, "metadata": {"title": "Two"}}])
        if isinstance(heard, av.AudioStream):
            heard.metadata["language"] = "deu"
            _add_sound(out, heard, max(pts) + 40)
        if text is not None:
            text.metadata["language"] = "fra"
            for start in (100, 700):
                packet = av.Packet(line.format(start).encode())
                packet.stream, packet.time_base, packet.duration = text, Fraction(1, 1000), 300
                packet.pts = packet.dts = start
                out.mux(packet)
        for index, time in enumerate(pts):
            shown = picture(index, *size, pix_fmt)
            if interlaced:
                flagged.push(shown)
                shown = flagged.vpull()
            shown.pts, shown.time_base = time, Fraction(1, 1000)
            out.mux(video.encode(shown))
        out.mux(video.encode(None))
    return path


def _add_sound(out: OutputContainer, stream: av.AudioStream, milliseconds: int) -> None:
    stream.codec_context.bit_rate = 128_000
    samples = np.sin(np.arange(stream.sample_rate * milliseconds // 1000) / 20).astype(np.float32) * 0.2
    for start in range(0, len(samples), 1024):
        part = np.stack([samples[start : start + 1024]] * stream.channels)
        sound = av.AudioFrame.from_ndarray(part, "fltp", stream.layout.name)
        sound.sample_rate, sound.pts = stream.sample_rate, start
        out.mux(stream.encode(sound))
    out.mux(stream.encode(None))


class Film:
    """All of a video file that must survive, times in seconds."""

    def __init__(self, path: Path, decoder: str | None = None) -> None:
        self.packets: dict[int, list[tuple[Fraction, str]]] = {}  # of the other streams, the times and checksums
        self.order: list[tuple[Fraction, int]] = []  # decoding time and stream of each packet, as they lie in the file
        self.frames: list[av.VideoFrame] = []
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            self.metadata = dict(container.metadata)
            chapters = container.chapters()
            self.chapters = [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in chapters]
            self.attachments = [(s.name, s.mimetype, s.data) for s in container.streams.attachments]
            codecs = [s.codec_context.name if s.codec_context and s is not video else None for s in container.streams]
            self.kinds = [(s.type, codec, s.language) for s, codec in zip(container.streams, codecs, strict=True)]
            self.aspect = video.sample_aspect_ratio or None
            context = av.CodecContext.create(decoder, "r") if decoder else video.codec_context
            assert isinstance(context, VideoCodecContext)
            for packet in container.demux():
                if packet.size and packet.dts is not None:
                    self.order.append((packet.dts * packet.time_base, packet.stream_index))
                if packet.stream is video:
                    self.frames += context.decode(packet if packet.size else None)
                elif packet.size:
                    part = ((packet.pts or 0) * packet.time_base, hashlib.sha256(bytes(packet)).hexdigest())
                    self.packets.setdefault(packet.stream_index, []).append(part)
        first = self.frames[0]
        self.times = [(f.pts or 0) * f.time_base for f in self.frames]
        self.durations = [f.duration * f.time_base for f in self.frames]
        self.size, self.pix_fmt = (first.width, first.height), first.format.name
        self.interlaced, self.rotation = first.interlaced_frame, first.rotation
        self.tags = (first.colorspace, first.color_primaries, first.color_trc, first.color_range, first.chroma_location)
        self.side_data = {kind.name: bytes(data) for kind, data in first.side_data.items()}


read = Film


@dataclass
class Result:
    """How a run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of error."""
        lines = re.findall(r"^vsaether: (?!note: ).*", self.err.replace("\r", "\n"), re.MULTILINE)
        assert len(lines) == 1 and "Traceback" not in self.err, self.err
        return lines[0]


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder but logs, by name; None for what is no file."""
    paths = [path for path in folder.rglob("*") if path.name != "log.txt"]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@dataclass
class Run:
    """``vsaether upscale`` in this process, with an engine that leaves colours alone unless another is given."""

    folder: Path
    engine: str
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Result:
        code = main(["upscale", "--engine", self.engine, *map(str, arguments)])
        out, err = self.capfd.readouterr()
        return Result(code, out, err)

    def done(self, *arguments: object) -> Result:
        """It succeeds."""
        result = self(*arguments)
        assert result.code == 0, result.err
        return result

    def refused(self, *arguments: object, begun: bool = False) -> str:
        """It fails, before the progress bar has begun, and leaves the test's folder as it is: its one line of error."""
        before = contents(self.folder)
        result = self(*arguments)
        assert result.code == 1
        assert contents(self.folder) == before
        assert bool(re.search(r"\d/\d+ frames", result.err)) == begun
        return result.error

    def film(self, source: Path, output: str = "out.mkv", *options: object) -> tuple[Film, Film, Result]:
        """It succeeds, with a fast encoder where none is asked for: the film before and after, and what was said."""
        webm = output.endswith(".webm")
        fast = () if "--codec" in options else ("--encoder-options", "cpu-used=8") if webm else FAST
        result = self.done(source, self.folder / output, *fast, *options)
        decoder = "libvpx-vp9" if webm and "--codec" not in options else None  # FFmpeg's own leaves out alpha
        return read(source), read(self.folder / output, decoder), result


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], identity_engine: str, tmp_path: Path) -> Run:
    return Run(tmp_path, identity_engine, capfd)


def luma(shown: av.VideoFrame) -> np.ndarray:
    plane = shown.planes[0]
    depth = np.uint8 if shown.format.components[0].bits == 8 else np.uint16
    return np.frombuffer(plane, depth).reshape(shown.height, -1)[:, : shown.width].astype(int)


def solid(*values: int) -> Picture:
    """Pictures of one colour, given by its code values."""

    def picture(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
        shown = av.VideoFrame(width, height, pix_fmt)
        for plane, value in zip(shown.planes, values, strict=True):
            np.frombuffer(plane, np.uint8)[:] = value
        return shown

    return picture


def fields(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """A dark top field and a bright bottom field."""
    shown = solid(40, 128, 128)(index, width, height, pix_fmt)
    np.frombuffer(shown.planes[0], np.uint8).reshape(height, -1)[1::2] = 200
    return shown


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vsaether.cli", *map(str, arguments)]


def limited(most: int, *arguments: object) -> Result:
    """How a command ends whose files cannot grow beyond a number of bytes, as on a full disk."""
    done = subprocess.run(
        command(*arguments),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def running(log: Path, *arguments: object) -> Iterator[subprocess.Popen]:
    """A command in another process, which is at its first frames, and whose standard error is a file."""
    line = ["env", "--default-signal", *command(*arguments)]  # the jobs of a shell in the background ignore some
    with log.open("w") as stderr, subprocess.Popen(line, stderr=stderr) as process:
        try:
            wait_for(lambda: bool(re.search(r" [1-9]\d*/\d+ frames", log.read_text())), process)
            yield process
        finally:
            process.kill()
