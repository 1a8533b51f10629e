"""FFmpeg's frames as VapourSynth's, and back."""

# pyright: reportAttributeAccessIssue=false

import math
from typing import Any

import av
import numpy as np
import vapoursynth as vs

from .formats import Layout, Tags, complete, planar


def still(frame: av.VideoFrame) -> vs.VideoNode:
    """A clip of one frame."""
    frame, layout = planar(frame)
    tags = complete(Tags.of(frame), layout, frame.width, frame.height)
    return lookup({0: to_vs(frame, layout, tags)}, 1)


def prop(clip: vs.VideoNode, name: str, default: Any = None) -> Any:
    """A property of a clip's first frame."""
    with clip.get_frame(0) as frame:
        return frame.props.get(name, default)


def to_av(result: vs.VideoFrame) -> av.VideoFrame:
    """A planar frame of VapourSynth as one of FFmpeg, with its samples alone."""
    given = result.format
    sub = given.subsampling_w, given.subsampling_h
    layout = Layout(given.color_family, given.bits_per_sample, sub)
    frame = av.VideoFrame(result.width, result.height, layout.pix_fmt)
    copy_samples(result, frame, layout)
    return frame


def to_vs(frame: av.VideoFrame, layout: Layout, tags: Tags) -> vs.VideoFrame:
    """A planar frame with its alpha and properties; where its size is none that VapourSynth can hold, continued."""
    width, height = padded(layout, frame.width, frame.height, frame.interlaced_frame)
    result = vs.core.create_video_frame(layout.vs_format, width, height)
    planes, alpha = layout.planes(frame)
    for number, plane in enumerate(planes):
        _fill(np.asarray(result[number]), plane)
    props = result.props
    if alpha is not None:
        mask = vs.core.create_video_frame(layout.vs_alpha, width, height)
        _fill(np.asarray(mask[0]), alpha)
        mask.props["_Range"] = vs.RANGE_FULL
        props["_Alpha"] = mask
    props["_FieldBased"] = vs.FIELD_TOP if frame.interlaced_frame else vs.FIELD_PROGRESSIVE
    props.update(tags.props(layout))
    return result


def lookup(pending: dict[int, vs.VideoFrame], length: int) -> vs.VideoNode:
    """A clip whose frames are looked up in ``pending``, which holds the first."""
    first = pending[0]
    blank = vs.core.std.BlankClip(
        width=first.width, height=first.height, format=first.format.id, length=length, keep=True
    )
    return vs.core.std.ModifyFrame(blank, blank, lambda n, f: pending[n])


def padded(layout: Layout, width: int, height: int, interlaced: bool) -> tuple[int, int]:
    """The next size whose chroma VapourSynth can hold; of both fields, if there are two."""
    across, down = (1 << sub for sub in layout.subsampling)
    down <<= interlaced
    return math.ceil(width / across) * across, math.ceil(height / down) * down


def copy_samples(result: vs.VideoFrame, frame: av.VideoFrame, layout: Layout) -> None:
    """Give a frame of that layout the samples of another one, which may be larger."""
    planes, alpha = layout.planes(frame)
    for number, plane in enumerate(planes):
        plane[:] = np.asarray(result[number])[: plane.shape[0], : plane.shape[1]]
    if alpha is None:
        return
    given = result.props.get("_Alpha")
    if isinstance(given, vs.VideoFrame):
        samples = np.asarray(given[0])[: frame.height, : frame.width]
        alpha[:] = _rescaled(samples, given.format.bits_per_sample, layout.bits)
    else:
        alpha[:] = 1 if layout.bits == 32 else (1 << layout.bits) - 1


def _fill(target: np.ndarray, plane: np.ndarray) -> None:
    """Copy a plane into a target which may be larger: its last row and column go on."""
    height, width = plane.shape
    target[:height, :width] = plane
    target[:height, width:] = plane[:, -1:]
    target[height:] = target[height - 1]


def _rescaled(plane: np.ndarray, bits: int, target: int) -> np.ndarray:
    """Full-range samples of one depth as samples of another."""
    if bits == target:
        return plane
    largest, wanted = (1 if depth == 32 else (1 << depth) - 1 for depth in (bits, target))
    scaled = plane.astype(np.float64) * (wanted / largest)
    return scaled if target == 32 else np.rint(scaled)
