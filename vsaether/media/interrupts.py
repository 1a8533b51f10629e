"""Signals that end a command: Ctrl-C, a termination, a closed terminal or a dropped connection (SIGHUP).

Each becomes an exception, so that what is half done is tidied away. Further ones are ignored meanwhile: the tidying
would be left half done, too. Where work has steps that are kept, the first Ctrl-C lets the step under way end.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vsaether.system import STOP_SIGNALS


class Interrupted(BaseException):
    """A signal of these. (No Exception: nothing is to catch it on its way.)"""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return STOP_SIGNALS[self.number]


_received: int | None = None


def check() -> None:
    """Raise Interrupted if one of the signals has come and its exception was lost.

    Python drops an exception that a handler raises while a callback from C or a finaliser runs; a loop asks here.
    """
    if _received is not None:
        raise Interrupted(_received)


@contextmanager
def caught() -> Iterator[None]:
    """Raise Interrupted at the first of the signals.

    What the caller ignores stays ignored, as SIGHUP under nohup. Beside the main thread, which alone gets signals,
    nothing is done.
    """
    global _received
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        global _received
        if _received is None:
            _received = number
            raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        _received = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stoppable(notice: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Where ``caught`` is in force, let the first Ctrl-C only ask to stop: the second raises Interrupted.

    The result tells whether it has been asked; ``notice`` is called when it is.
    """
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and callable(before):
            before(number, frame)
        asked = True
        notice()

    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
