"""What a video is, as those who read, encode and describe it say it to each other."""

from dataclasses import dataclass
from fractions import Fraction

from .formats import Layout, Tags
from .timing import Grid


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is upscaled. Colour tags, completed, and aspect are FFmpeg's numbers."""

    width: int
    height: int
    layout: Layout
    tags: Tags
    sample_aspect_ratio: Fraction
    rate: Fraction
    time_base: Fraction
    frames: int
    """An estimate; 0 if even that cannot be made."""
    interlaced: bool
    """Whether any of its frames are, as far as is known."""
    field_order: int
    display_matrix: bytes | None
    mastering: bytes | None
    light_level: bytes | None
    dynamic: tuple[str, ...] = ()
    """Metadata of high dynamic range which change from scene to scene, in words."""
    mixed: bool = False
    """Whether only some of its frames are interlaced."""
    grid: Grid | None = None
    """Where the frames' times lie, if the container has rounded them."""
