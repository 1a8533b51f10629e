"""How far a picture is from another: PSNR, SSIM, XPSNR of the luma, and SSIMULACRA2.

FFmpeg's filters compute PSNR and SSIM, vapoursynth-vszip computes XPSNR (ITU-T, without its temporal part: single
frames are compared) and SSIMULACRA2. Both pictures are read in one format, so that 8 bits may be compared with 10, and
RGB with YUV.
"""

# pyright: reportAttributeAccessIssue=false

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import vapoursynth as vs
from av.filter import Graph

from vsaether import colour
from vsaether.media.exchange import prop, to_av


@dataclass(frozen=True)
class Metric:
    """A metric's name in data, its name for people, its unit, and how many digits of it mean something."""

    key: str
    name: str
    unit: str
    digits: int


PSNR = Metric("psnr", "PSNR", "dB", 2)
SSIM = Metric("ssim", "SSIM", "", 4)
XPSNR = Metric("xpsnr", "XPSNR", "dB", 2)
SSIMULACRA2 = Metric("ssimulacra2", "SSIMULACRA2", "", 2)

METRICS = (PSNR, SSIM, XPSNR, SSIMULACRA2)

_TIME_BASE = Fraction(1, 25)
_LEAST = 8  # pixels a side; SSIMULACRA2 and SSIM look at blocks of 8


class Meter:
    """Measures pictures against a reference, all of the sizes and formats of ``examples``.

    ``metrics`` are those which mean something for them: SSIMULACRA2 is one of standard dynamic range.
    """

    def __init__(self, examples: Sequence[vs.VideoNode]) -> None:
        formats = [clip.format for clip in examples]
        first = formats[0]
        same = all(each.id == first.id for each in formats)
        deep = any(each.bits_per_sample > 8 or each.color_family == vs.RGB for each in formats)
        if same and first.color_family == vs.YUV and first.bits_per_sample in (8, 10):
            self.format = first
        else:
            self.format = vs.core.get_video_format(vs.YUV444P10 if deep else vs.YUV444P8)
        matrices = [int(prop(clip, "_Matrix", colour.UNSPECIFIED)) for clip in examples]
        known = (each for each in matrices if each not in (colour.RGB, colour.UNSPECIFIED))
        self._matrix = next(known, colour.BT709)
        hdr = any(is_hdr(clip) for clip in examples)
        small = min(examples[0].width, examples[0].height) < _LEAST
        self.metrics = METRICS[:1] if small else METRICS[:-1] if hdr else METRICS

    def measure(self, reference: vs.VideoNode, other: vs.VideoNode) -> dict[str, float]:
        """The metrics of one frame, by key; infinite where nothing differs."""
        sides = [self._read(clip) for clip in (reference, other)]
        found = _ffmpeg(sides)
        result = {"psnr": found["lavfi.psnr.psnr.y"]}
        if SSIM in self.metrics:
            result["ssim"] = found["lavfi.ssim.Y"]
            result["xpsnr"] = float(prop(vs.core.vszip.XPSNR(*sides, temporal=False, verbose=False), "XPSNR_Y"))
        if SSIMULACRA2 in self.metrics:
            result["ssimulacra2"] = float(prop(vs.core.vszip.SSIMULACRA2(*sides), "SSIMULACRA2"))
        return result

    def _read(self, clip: vs.VideoNode) -> vs.VideoNode:
        return clip.resize.Bicubic(format=self.format.id, matrix=self._matrix, range=vs.RANGE_LIMITED)


def is_hdr(clip: vs.VideoNode) -> bool:
    """Whether the first frame's transfer is PQ or HLG."""
    return prop(clip, "_Transfer", colour.UNSPECIFIED) in (colour.PQ, colour.HLG)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; infinite if one value is."""
    return math.fsum(values) / len(values)


def _ffmpeg(sides: list[vs.VideoNode]) -> dict[str, float]:
    """What FFmpeg's psnr and ssim tell of the second clip's first frame against the first's."""
    frames = []
    for clip in sides:
        with clip.get_frame(0) as frame:
            frames.append(to_av(frame))
    graph = Graph()
    size = {"width": frames[0].width, "height": frames[0].height, "format": frames[0].format.name}
    reference, other = (graph.add_buffer(**size, time_base=_TIME_BASE) for _ in frames)
    again, psnr, ssim, sink = (graph.add(name) for name in ("split", "psnr", "ssim", "buffersink"))
    reference.link_to(again)
    other.link_to(psnr, 0, 0)
    again.link_to(psnr, 0, 1)
    psnr.link_to(ssim, 0, 0)
    again.link_to(ssim, 1, 1)
    ssim.link_to(sink)
    graph.configure()
    for source, frame in zip((reference, other), frames, strict=True):
        frame.pts, frame.time_base = 0, _TIME_BASE
        source.push(frame)
        source.push(None)
    told = sink.pull().metadata
    return {key: float(told[key]) for key in ("lavfi.psnr.psnr.y", "lavfi.ssim.Y")}
