"""Memory which frames have left is given back: glibc keeps it, and the more the longer a clip runs.

Its allocator does not use the place of an aligned block again for the next one, so that the process grows with every
frame though no more of them are alive. malloc_trim gives all free pages back; it is called when the process has grown,
and now and then.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import system

EVERY = 32
"""Frames between two looks at the process; a look takes some microseconds, giving back some milliseconds."""
GROWTH = 1.1
SLACK = 16 << 20
"""The process may grow by this factor and these bytes."""
OFTEN = 1024
"""Frames after which memory is given back however little the process has grown."""


class _Watch:
    def __init__(self, trim: Callable[[], None]) -> None:
        self._trim = trim
        self._lock = threading.Lock()
        self._frames = 0
        self._usual = 0

    def frame(self) -> None:
        """One more frame is done."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._frames += 1
            if self._frames % EVERY:
                return
            if self._frames % OFTEN == 0 or system.resident_memory() > self._usual * GROWTH + SLACK:
                self._trim()
                self._usual = system.resident_memory()
        finally:
            self._lock.release()


def _nothing() -> None:
    pass


_trim = system.find_trim()
tidy = _nothing if _trim is None else _Watch(_trim).frame
"""Call it for every frame, from any thread."""


def give_back() -> None:
    """Free what has ended, and give its memory back: after a segment, of which nothing is used any more.

    PyAV's containers and streams refer to each other: the collector alone frees them, and with them encoders and
    decoders, of whose size it knows nothing. Left to itself it lets many of them wait.
    """
    gc.collect()
    if _trim is not None:
        _trim()


@contextmanager
def settled() -> Iterator[None]:
    """While this lasts, ``give_back`` looks only through what was made since: modules alone are some 100000 objects.

    Whatever ends without the collector's help is freed as ever.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
