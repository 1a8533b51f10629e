"""Sizes: how large a picture becomes, and how often it passes the network for it."""

from dataclasses import dataclass
from fractions import Fraction

from .errors import ArgumentError

LEAST, MOST = 1, 1 << 20
"""Pixels of a side."""


@dataclass(frozen=True)
class Sizing:
    """The size that is asked for: a width or a height in pixels, both, or a factor; nothing is the network's scale.

    Of one the other follows, so that the picture keeps its shape, rounded to what the format can hold. A picture goes
    through the network once, or, if that does not make it large enough, twice; a resampler does the rest.
    """

    scale: int
    """The network's."""
    width: int | None = None
    height: int | None = None
    factor: Fraction | None = None
    units: tuple[int, int] = (2, 2)
    """What is not given is rounded to multiples of these."""

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or not LEAST <= value <= MOST):
                raise ArgumentError(f"{name} is {value!r}; it must be a whole number from {LEAST} to {MOST}")
        if self.factor is not None and (self.width or self.height):
            raise ArgumentError("a factor and a width or height were given; one of them says all")

    @property
    def stretches(self) -> bool:
        """Whether width and height are both given, and the picture's shape may change."""
        return bool(self.width and self.height)

    def of(self, width: int, height: int) -> tuple[int, int]:
        """The size of a picture that is so large.

        Raises ArgumentError where it is too small or too large.
        """
        if not (self.width or self.height or self.factor):
            return width * self.scale, height * self.scale
        across = self.factor or Fraction(self.width or 0, width) or Fraction(self.height or 0, height)
        down = self.factor or Fraction(self.height or 0, height) or across
        size = (
            self.width or _rounded(width * across, self.units[0]),
            self.height or _rounded(height * down, self.units[1]),
        )
        if not all(LEAST <= each <= MOST for each in size):
            raise ArgumentError(
                f"the result would be {size[0]}x{size[1]}; each side must be from {LEAST} to {MOST} pixels"
            )
        return size

    def passes(self, width: int, height: int) -> int:
        """How often a picture of so many pixels passes the network."""
        wide, high = self.of(width, height)
        return 1 if wide <= width * self.scale and high <= height * self.scale else 2

    def way(self, width: int, height: int) -> str | None:
        """How a picture gets its size, in words; None where the network alone does it."""
        size, passes = self.of(width, height), self.passes(width, height)
        made = tuple(side * self.scale**passes for side in (width, height))
        if size == made:
            return None
        often = "once" if passes == 1 else "twice"
        return (
            f"{width}x{height} goes through the network {often}, to {made[0]}x{made[1]}, and through Spline36 to "
            f"{size[0]}x{size[1]}"
        )


def _rounded(length: Fraction, unit: int) -> int:
    return max(1, round(length / unit)) * unit
