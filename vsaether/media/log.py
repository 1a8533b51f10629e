"""A job's log: a text file in its folder, of what was done when, and of what FFmpeg and the encoders had to say."""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import av.logging


class Log:
    """Appends lines to a log, each with its time; where the disk does not take one, that is no reason to stop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.worked = False
        """Whether work on frames has begun: what a failure is worth to be looked into."""

    def write(self, text: str) -> None:
        """Append a line."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(text.split())}\n"
        with suppress(OSError), open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line)

    @contextmanager
    def of_libraries(self) -> Iterator[None]:
        """While it is open, the log gets what libraries of this process write to standard error, as FFmpeg's warnings.

        They write there themselves, from threads of their own: handed to Python's logging, a message could wait for
        the interpreter while that waits for the thread. What Python writes to standard error goes there as ever.
        """
        try:
            kept = os.dup(2)
        except OSError:  # there is none
            yield
            return
        before, level = sys.stderr, av.logging.get_level()
        try:
            if _is_descriptor_2(before):
                before.flush()
                file = io.FileIO(os.dup(kept), "w")
                sys.stderr = io.TextIOWrapper(file, before.encoding, before.errors, write_through=True)
            with suppress(OSError):
                _redirect(self.path)
            av.logging.set_libav_level(av.logging.WARNING)
            av.logging.restore_default_callback()
            yield
        finally:
            av.logging.set_level(level)
            os.dup2(kept, 2)
            os.close(kept)
            if sys.stderr is not before:
                sys.stderr.close()
                sys.stderr = before


def _redirect(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 2)
    os.close(log)


def _is_descriptor_2(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError, ValueError):  # none, or one which is not a file
        return False
