"""VapourSynth frames as frames of FFmpeg without copying: the samples are lent, and stay until FFmpeg is done.

Giving them back takes Python's lock. So they must not be lent to an encoder whose own threads give frames back: whoever
holds the lock may be waiting for these threads to end.
"""

# pyright: reportAttributeAccessIssue=false

import ctypes

import av
import numpy as np
import vapoursynth as vs

from .formats import Layout

_ORDER = {vs.GRAY: (0,), vs.YUV: (0, 1, 2), vs.RGB: (1, 2, 0)}  # FFmpeg's planar RGB is green, blue, red


def lent(result: vs.VideoFrame, layout: Layout, width: int, height: int) -> av.VideoFrame | None:
    """The top left part of a frame of that layout, to be read alone; None where PyAV cannot take it so.

    It takes planes of whole numbers, one component each, and even sizes where chroma is subsampled.
    """
    across, down = layout.subsampling
    if layout.alpha or layout.bits > 16 or (across and width % 2) or (down and height % 2):
        return None
    sizes = [(height, width), *[(-(-height >> down), -(-width >> across))] * 2]
    planes = [_view(result, number, sizes[number]) for number in _ORDER[layout.family]]
    return av.VideoFrame.from_dlpack(planes, format=layout.pix_fmt)


def _view(result: vs.VideoFrame, plane: int, size: tuple[int, int]) -> np.ndarray:
    """A plane's samples. DLPack cannot say that they are not to be written, so NumPy must not know it."""
    stride, bytes_per_sample = result.get_stride(plane), result.format.bytes_per_sample
    memory = (ctypes.c_uint8 * (stride * size[0])).from_address(result.get_read_ptr(plane).value or 0)
    memory.frame = result  # type: ignore[attr-defined]  # which is thereby kept as long as the memory
    return np.ndarray(size, np.dtype(f"u{bytes_per_sample}"), memory, 0, (stride, bytes_per_sample))
