"""Progress on standard error: a bar for people, or a JSON object a line for scripts.

With ``reporting(True)`` all that is told is such a line: ``{"event": "progress", "frames": 120, ...}``. The events and
their fields are in docs/use/scripts.md.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Self, TextIO

from tqdm import tqdm

from vsaether import reuse

_BAR = "{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} frames, {rate_noinv_fmt}, {remaining} left{reused}"
_UNENDING = "{n_fmt} frames, {elapsed}, {rate_noinv_fmt}{reused}"
_EVERY = 0.5  # seconds between two lines

_json: ContextVar[bool] = ContextVar("_json", default=False)


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """While it is open, report as JSON, or for people."""
    token = _json.set(as_json)
    try:
        yield
    finally:
        _json.reset(token)


def event(name: str, **fields: Any) -> bool:
    """Write an event, if JSON is reported; whether it is."""
    if not _json.get():
        return False
    with suppress(OSError):  # whoever listened may be gone
        print(json.dumps({"event": name, **fields}, default=str), file=sys.stderr, flush=True)
    return True


def note(text: str) -> None:
    """Tell what deserves mention."""
    if not event("note", text=text):
        print(f"vsaether: note: {text}", file=sys.stderr)


def done(result: Any, stream: TextIO | None = None) -> None:
    """Tell of what was done, a dataclass: to people its string, on a stream, by default standard output."""
    if not event("done", **dataclasses.asdict(result)):
        print(result, file=stream)


def one_of_many(outcome: Any, result: Any) -> None:
    """Tell what became of one of several inputs: two dataclasses, the second only where it was upscaled."""
    if not event("input", **dataclasses.asdict(outcome)):
        if result:
            print(f"{result}\n")
        else:
            print(f"vsaether: {outcome.source}: {outcome.reason or outcome.status}", file=sys.stderr)


class Bar(tqdm):
    """tqdm's bar, which also tells the share of pixels that were reused."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._meter = reuse.ReuseMeter()
        super().__init__(*args, **kwargs)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What a bar may show, by name."""
        share = self._meter.share
        return {**super().format_dict, "reused": f", {share:.0%} reused" if share else ""}


class Lines:
    """As far of tqdm's bar as is used here, told in lines."""

    def __init__(self, total: int | None, initial: int = 0) -> None:
        self.total = total
        self.n = self._initial = initial
        self._began = self._told = time.monotonic()
        self._meter = reuse.ReuseMeter()

    def __enter__(self) -> Self:
        event("start", frames=self.n, total=self.total)
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._tell(time.monotonic())

    def update(self, n: int = 1) -> None:
        """So many frames more are done."""
        self.n += n
        now = time.monotonic()
        if now - self._told >= _EVERY:
            self._tell(now)

    def _tell(self, now: float) -> None:
        self._told = now
        seconds = now - self._began
        rate = (self.n - self._initial) / seconds if seconds else 0.0
        share = self._meter.share
        left = (self.total - self.n) / rate if self.total and rate else None
        event(
            "progress",
            frames=self.n,
            total=self.total,
            fps=round(rate, 3),
            seconds=round(seconds, 3),
            reused=None if share is None else round(share, 4),
            remaining=None if left is None else round(max(0.0, left), 3),
        )


def bar(total: int | None, initial: int = 0) -> Bar | Lines:
    """A bar over so many frames, None if that is unknown, of which some are done already.

    Enter it, ``update`` it, and set ``total`` if it changes.
    """
    if _json.get():
        return Lines(total, initial)
    form = _BAR if total else _UNENDING
    return Bar(total=total, initial=initial, unit=" frames", dynamic_ncols=True, bar_format=form)
