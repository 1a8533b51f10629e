"""The clip that comes with this package, as long as it is wanted: what is measured on it must not repeat."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

CLIP = Path(__file__).resolve().parents[1] / "vsaether" / "report" / "data" / "big_buck_bunny_240p.mp4"


def pictures() -> Iterator[av.VideoFrame]:
    """The clip's pictures, yuv420p; where it is too short again from its start, a code value lighter.

    So none repeats within 256 times its length, and nothing can be reused.
    """
    for lighter in itertools.cycle(range(256)):
        with av.open(str(CLIP)) as clip:
            for frame in clip.decode(video=0):
                picture = frame.to_ndarray(format="yuv420p")
                luma = picture[: frame.height]
                luma[:] = np.minimum(luma, 255 - lighter) + lighter
                yield av.VideoFrame.from_ndarray(picture, "yuv420p")
