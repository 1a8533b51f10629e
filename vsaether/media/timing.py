"""Times which were rounded by a container, on the grid of the constant rate they stand for."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Self

import av

_COARSE = 4  # ticks a frame; finer grids fit any times
_MOST = 1 << 31


class Grid:
    """A constant rate whose frames do not last a whole number of the input's ticks, as 24000/1001 in milliseconds.

    ``time_base`` is one in which both the grid and the input's times are whole numbers.
    """

    def __init__(self, rate: Fraction, tick: Fraction, start: int) -> None:
        self.rate = rate
        self._tick = tick
        self._start = start
        numerator = math.gcd(rate.denominator * tick.denominator, tick.numerator * rate.numerator)
        self.time_base = Fraction(numerator, rate.numerator * tick.denominator)
        self._fits = True

    @classmethod
    def find(cls, times: list[int | None], tick: Fraction, rates: Iterable[Fraction]) -> "Grid | None":
        """The grid of one of the rates, if the first frames' times, in ticks, are its own but for their rounding."""
        known = [time for time in times if time is not None]
        if len(known) < max(3, len(times)):
            return None
        for rate in rates:
            if not rate or 1 / rate < _COARSE * tick or (1 / rate / tick).denominator == 1:
                continue
            grid = cls(rate, tick, known[0])
            steps = [grid._nearest(time) for time in known]
            if steps == list(range(len(known))) and grid.time_base.denominator < _MOST:
                return grid
        return None

    def place(self, frame: av.VideoFrame) -> None:
        """Put a frame, given in the order of presentation, on the grid, in its time base.

        From the first one on which does not lie on it, all keep their own times.
        """
        number = None if frame.pts is None or not self._fits else self._nearest(frame.pts)
        self._fits = self._fits and number is not None
        per_tick = int(self._tick / self.time_base)
        if frame.pts is not None:
            frame.pts *= per_tick
        exact = 1 / self.rate
        if number is not None:
            frame.pts = int((self._start * self._tick + number * exact) / self.time_base)
        on_grid = number is not None and abs(frame.duration * self._tick - exact) <= self._tick
        frame.duration = int(exact / self.time_base) if on_grid else frame.duration * per_tick
        frame.time_base = self.time_base

    def _nearest(self, time: int) -> int | None:
        """The number of the frame at a time; None if it is farther off than rounding explains."""
        given = (time - self._start) * self._tick
        number = round(given * self.rate)
        return number if abs(given - number / self.rate) <= self._tick else None


class Timing:
    """Where the frames of a video, given in the order of presentation, lie in the output.

    Its clock starts ``start`` seconds after that of the input. On a ``grid``, if there is one, times are exact; else
    they are those of the input, in its ``time_base``.
    """

    def __init__(self, grid: Grid | None, time_base: Fraction, start: Fraction) -> None:
        self.time_base = grid.time_base if grid else time_base
        self.start = start
        self._grid = grid

    @classmethod
    def of(cls, grid: Grid | None, time_base: Fraction, start: Fraction, muxer: str) -> Self:
        """That of a video in a container, which may round times again (Matroska), or have any start (MPEG-TS)."""
        rounds, any_start = muxer in ("matroska", "webm"), muxer == "mpegts"
        return cls(None if rounds else grid, time_base, Fraction(0) if any_start else start)

    def place(self, frame: av.VideoFrame) -> None:
        """Set a frame's pts and time base to those of the output."""
        if self._grid:
            self._grid.place(frame)
        if self.start and frame.pts is not None:
            frame.pts -= round(self.start / Fraction(frame.time_base.numerator, frame.time_base.denominator or 1))
