"""The upscaled video as YUV4MPEG2 (y4m), uncompressed: to standard output, or into an encoder of the user's own."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.codec.codec import find_best_pix_fmt_of_list
from av.error import FFmpegError

from vsaether.errors import MediaError
from vsaether.sizing import Sizing

from .encode import VideoEncoder
from .encoders import Encoder, Encoding, losses
from .files import PendingFile
from .formats import Layout, Tags
from .images import ImageSource
from .info import VideoInfo
from .settings import Job
from .source import VideoSource
from .timing import Timing

OUT = "{out}"
"""What stands for the output's name in a command."""
_DEPTHS = ("", "9le", "10le", "12le", "14le", "16le")
PIX_FMTS = (
    *(f"yuv{kind}p{depth}" for depth in _DEPTHS for kind in ("420", "422", "444")),
    "gray",
    "gray10le",
    "gray16le",
)
_LAST = 5  # lines of a command that are told


class PipeWriter:
    """Writes frames into a binary stream. There is no sound in y4m, and one frame rate."""

    def __init__(
        self,
        stream: BinaryIO,
        encoding: Encoding,
        info: VideoInfo,
        sizing: Sizing,
        others: bool,
        watched: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        pix_fmt = _pix_fmt(encoding, info.layout)
        self.notices = losses(info.layout, Layout.of(pix_fmt), "y4m")
        self.notices += ["y4m holds the picture alone: sound, subtitles and chapters are left out"] if others else []
        self.timing = Timing(None, info.time_base, Fraction(0))
        self._rate, self._times = info.rate, (Fraction(0), Fraction(0))
        self._stream = stream
        self._watched = watched
        self._out = av.open(stream, "w", format="yuv4mpegpipe", container_options={"strict": "-1"})
        encoder = Encoder("wrapped_avframe", pix_fmt, {}, info.interlaced, [])
        self._video = VideoEncoder(self._out, encoder, info, sizing, 1 / info.rate)

    @property
    def frames(self) -> int:
        """How many were written."""
        return self._video.frames

    @property
    def size(self) -> tuple[int, int]:
        """Of all frames, whatever comes."""
        return self._video.size

    @property
    def lends(self) -> bool:
        """Whether frames may be lent (see lent.py)."""
        return self._video.lends

    def target(self, layout: Layout, tags: Tags, suffix: str) -> tuple[Layout, Tags]:
        """The layout and tags of all frames."""
        return self._video.layout, self._video.tags

    def copy(self, packet: av.Packet) -> None:
        """Packets of other streams have no place here."""

    def write(self, frame: av.VideoFrame, name: str) -> None:
        """Write a frame."""
        if frame.pts is not None:
            time = frame.pts * Fraction(frame.time_base.numerator, frame.time_base.denominator)
            self._times = (self._times[0] if self.frames else time), time
        frame.pts, frame.duration, frame.time_base = self.frames, 1, 1 / self._rate
        with self._watched():
            self._out.mux(self._video.encode(frame))

    def close(self) -> None:
        """End the stream."""
        with self._watched():
            self._out.mux(self._video.flush())
            self._out.close()
            self._stream.flush()
        first, last = self._times
        if abs((last - first) * self._rate - (self.frames - 1)) > 1:
            self.notices.append(f"the input's frames are not {float(self._rate):.6g} a second throughout, as y4m's are")

    def abandon(self) -> None:
        """Forget what is not written."""
        with suppress(FFmpegError, OSError):
            self._out.close()


class Command:
    """An encoder that reads y4m from its standard input; what it says is kept, and told where it fails."""

    def __init__(self, text: str, out: Path) -> None:
        words = shlex.split(text)
        if not words or not any(OUT in word for word in words):
            raise MediaError(f'--pipe is {text!r}; it must be a command that writes {OUT}: "x265 --y4m - -o {OUT}"')
        self.name = words[0]
        self._out = out
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed by close
        try:
            self._process = subprocess.Popen(
                [word.replace(OUT, str(out)) for word in words],
                stdin=subprocess.PIPE,
                stdout=self._said,
                stderr=self._said,
            )
        except OSError as error:
            self._said.close()
            raise MediaError(f"{self.name} cannot be started: {error.strerror}") from error

    @property
    def stream(self) -> BinaryIO:
        """Its standard input."""
        assert self._process.stdin is not None
        return self._process.stdin  # pyright: ignore[reportReturnType]

    def finish(self) -> None:
        """Wait until it has ended. Raises MediaError with its last lines if it failed, or wrote no file."""
        with suppress(OSError):
            self.stream.close()
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        last = " | ".join([line.strip() for line in lines if line.strip()][-_LAST:]) or "it said nothing"
        if code:
            ended = f"with exit code {code}" if code > 0 else f"by signal {-code}"
            raise MediaError(f"{self.name} ended {ended}: {last}")
        if not self._out.is_file() or not self._out.stat().st_size:
            raise MediaError(f"{self.name} ended without an error, and wrote nothing to {OUT}: {last}")

    def close(self) -> None:
        """Stop it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with suppress(OSError):
            self.stream.close()
        self._said.close()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Where it does not take what it is given, it is asked why."""
        try:
            yield
        except (FFmpegError, OSError) as error:
            self.finish()
            raise MediaError(f"{self.name} does not read its standard input to the end: {error.strerror}") from error


class Pending:
    """The output of a command, or standard output: what there is of it is complete with ``commit``."""

    def __init__(self, command: Command | None = None, file: PendingFile | None = None) -> None:
        self._command = command
        self._file = file

    def commit(self) -> None:
        """Wait for the command, and give its file the name that was asked for. Raises MediaError if it failed."""
        if self._command and self._file:
            self._command.finish()
            self._file.commit()


def opened(job: Job, source: VideoSource | ImageSource, sizing: Sizing, stack: ExitStack) -> tuple[Pending, PipeWriter]:
    """Standard output, or the encoder that a job asks for, begun; the stack ends it."""
    others = isinstance(source, VideoSource) and bool(source.others)
    if job.pipe is None:
        stream = stack.enter_context(standard_output())
        return Pending(), PipeWriter(stream, job.encoding, source.info, sizing, others)
    file = stack.enter_context(PendingFile(job.output, job.overwrite))
    file.path.unlink()  # some encoders ask before they replace a file
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".aethernet-", dir=job.output.parent))
    file.path = Path(folder) / job.output.name  # many tell the format by the name
    command = Command(job.pipe, file.path)
    stack.callback(command.close)
    return Pending(command, file), PipeWriter(
        command.stream, job.encoding, source.info, sizing, others, command.watched
    )


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Standard output; what anything else of this process writes there goes to standard error meanwhile."""
    if sys.stdout is not None:
        sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(kept, "wb", closefd=False) as stream:
            yield stream
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _pix_fmt(encoding: Encoding, layout: Layout) -> str:
    if encoding != Encoding(pix_fmt=encoding.pix_fmt):
        raise MediaError("y4m is not compressed: of the encoder's options it has --pix-fmt alone")
    if encoding.pix_fmt is None:
        if layout.pix_fmt in PIX_FMTS:
            return layout.pix_fmt
        found, _ = find_best_pix_fmt_of_list(list(PIX_FMTS), layout.pix_fmt, False)
        return found.name if found else "yuv444p16le"
    if encoding.pix_fmt not in PIX_FMTS:
        raise MediaError(f"y4m does not hold the pixel format {encoding.pix_fmt}; it holds {', '.join(PIX_FMTS)}")
    return encoding.pix_fmt
