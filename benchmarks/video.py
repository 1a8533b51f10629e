"""Y-PSNR of engines on compressed clips: frames are made small, encoded, decoded, and upscaled by the filter.

    python -m benchmarks.video --clip FILE [--clip FILE ...] [--height 360] [--frames 12] [--docs DIR] ENGINE...

Each clip's middle frames are first reduced to `height` lines, which takes most of their own compression away: that is
the original. Half its size (bicubic), in 8-bit 4:2:0, is encoded as H.264 and HEVC at several CRFs and decoded again.
PSNR is that of the luma plane against the original's, `SHAVE` pixels of border left out. Writes video.json,
video.md and video.webp to docs/results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import vapoursynth as vs
from numpy.typing import NDArray
from PIL import Image

import vsaether
from benchmarks.pictures import captioned
from presets import files
from presets.command import run_command

core: Any = vs.core  # plugins are attributes that no stub knows
Plane = NDArray[np.uint8]
Upscale = Callable[[vs.VideoNode], vs.VideoNode]

SCALE = 2
SHAVE = 2
ENCODINGS = {
    f"{label} CRF {crf}": (encoder, crf)
    for label, encoder, rates in (("H.264", "libx264", (18, 23, 28)), ("HEVC", "libx265", (20, 25, 30)))
    for crf in rates
}
SHOWN = "H.264 CRF 23"
DETAIL, ZOOM = (144, 108), 2  # width and height of the details shown, in pixels of the original; their enlargement


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="+", help="names of engines, such as tiny_2x_int8")
    parser.add_argument("--clip", type=Path, action="append", required=True)
    parser.add_argument("--height", type=int, default=360, help="lines of the original")
    parser.add_argument("--frames", type=int, default=12, help="frames of each clip")
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    if args.height % (2 * SCALE):
        parser.error(f"--height is {args.height}; it must be a multiple of {2 * SCALE}.")
    psnr: dict[str, dict[str, dict[str, float]]] = {e: {} for e in ENCODINGS}
    sheet: list[NDArray[np.uint8]] = []
    for path in args.clip:
        hr = original(path, args.height, args.frames)
        for encoding in ENCODINGS:
            clips = dict(upscaled(hr, encoding, args.engines))
            psnr[encoding][path.name] = {name: luma_psnr(clip, hr) for name, clip in clips.items()}
            if encoding == SHOWN:
                sheet.append(row({**clips, "original": hr}))
        print(path.name, flush=True)
    result = {"height": args.height, "frames": args.frames, "psnr_y": psnr}
    args.docs.mkdir(parents=True, exist_ok=True)
    files.write(args.docs / "video.json", json.dumps(result, indent=1).encode() + b"\n")
    files.write(args.docs / "video.md", table(result).encode())
    Image.fromarray(np.concatenate(sheet)).save(args.docs / "video.webp", quality=95)
    print(table(result))
    return 0


def original(path: Path, height: int, frames: int) -> vs.VideoNode:
    """`frames` frames from the middle of a file, limited-range YUV420P8, `height` lines, width a multiple of 4."""
    clip = core.bs.VideoSource(str(path))
    width = round(clip.width * height / clip.height / (2 * SCALE)) * 2 * SCALE
    first = max(0, (len(clip) - frames) // 2)
    clip = clip[first : first + frames]
    clip = core.resize.Bicubic(clip, width, height, format=vs.YUV420P8, range_s="limited")
    # values beyond the nominal range are no picture: the filter clamps them, and bicubic would not
    return core.std.Limiter(clip, [16, 16, 16], [235, 240, 240])


def upscaled(hr: vs.VideoNode, encoding: str, engines: list[str]) -> Iterator[tuple[str, vs.VideoNode]]:
    """(name, clip) of bicubic upscaling and of every engine, all of the same decoded half-size clip."""
    small = core.resize.Bicubic(hr, hr.width // SCALE, hr.height // SCALE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.mkv"
        encode(small, path, *ENCODINGS[encoding])
        decoded = core.bs.VideoSource(str(path), cachemode=0)
        # what the container does not carry through is the source's; none of this changes a pixel
        decoded = decoded.std.CopyFrameProps(small, props=["_Matrix", "_Range", "_ChromaLocation"])
        yield "bicubic", memory(core.resize.Bicubic(decoded, hr.width, hr.height))
        for name in engines:
            yield name, memory(vsaether.upscale(decoded, name, dither="none"))


def encode(clip: vs.VideoNode, path: Path, encoder: str, crf: int) -> None:
    """Write a YUV420P8 clip as Matroska, at the encoder's default preset, in one thread (so that it repeats)."""
    options = {"crf": str(crf)}
    if encoder == "libx265":
        options["x265-params"] = "pools=none:frame-threads=1:log-level=error"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=Fraction(24), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in clip.frames(close=True):
            planes = np.concatenate([np.asarray(frame[i]).reshape(-1) for i in range(3)])
            picture = av.VideoFrame.from_ndarray(planes.reshape(-1, clip.width), format="yuv420p")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def memory(clip: vs.VideoNode) -> vs.VideoNode:
    """The clip computed now and held: its source may go away."""
    frames = [frame.copy() for frame in clip.frames(close=True)]
    blank = core.std.BlankClip(clip, length=len(frames), keep=True)
    return core.std.ModifyFrame(blank, blank, lambda n, f: frames[n])


def luma_psnr(clip: vs.VideoNode, hr: vs.VideoNode) -> float:
    """Mean over the frames of 10 log10(255^2 / MSE) of 8-bit luma, in dB."""
    cut = slice(SHAVE, -SHAVE)
    errors = []
    for ours, theirs in zip(clip.frames(close=True), hr.frames(close=True), strict=True):
        a, b = (np.asarray(f[0]).astype(np.float64)[cut, cut] for f in (ours, theirs))
        errors.append(10 * np.log10(255**2 / np.mean((a - b) ** 2)))
    return float(np.mean(errors))


def row(clips: dict[str, vs.VideoNode]) -> NDArray[np.uint8]:
    """The same detail of the middle frame of every clip, side by side: where the last clip has most edges."""
    pictures = {name: rgb(clip) for name, clip in clips.items()}
    width, height = DETAIL
    last = list(pictures.values())[-1].mean(2)
    edges = np.hypot(np.diff(last, axis=0)[:, :-1], np.diff(last, axis=1)[:-1])
    places = [(y, x) for y in range(0, len(last) - height, 12) for x in range(0, last.shape[1] - width, 12)]
    top, left = max(places, key=lambda p: edges[p[0] : p[0] + height, p[1] : p[1] + width].mean())
    cells = []
    for name, picture in pictures.items():
        detail = Image.fromarray(np.ascontiguousarray(picture[top : top + height, left : left + width]))
        size = (width * ZOOM, height * ZOOM)
        cells.append(captioned(detail.resize(size, Image.Resampling.NEAREST), name))
    return np.concatenate(cells, axis=1)


def rgb(clip: vs.VideoNode) -> Plane:
    """The middle frame as (H, W, 3)."""
    matrix: Any = clip.get_frame(0).props.get("_Matrix", 2)
    frame = core.resize.Bicubic(clip, format=vs.RGB24, matrix_in=matrix if matrix != 2 else 1).get_frame(len(clip) // 2)
    return np.stack([np.asarray(frame[i]) for i in range(3)], axis=2)


def table(result: dict[str, Any]) -> str:
    """The Markdown page."""
    psnr = result["psnr_y"]
    clips = list(next(iter(psnr.values())))
    names = list(psnr[next(iter(psnr))][clips[0]])
    lines = [
        "# Compressed clips",
        "",
        f"Y-PSNR in dB of `python -m benchmarks.video`: {len(clips)} clips ({', '.join(clips)}), {result['frames']} "
        f"frames each, {result['height']} lines, from half their size after compression. Mean of the clips:",
        "",
        "| compression | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    means = {e: {n: float(np.mean([figures[c][n] for c in clips])) for n in names} for e, figures in psnr.items()}
    lines += [f"| {e} | " + " | ".join(f"{m[n]:.2f}" for n in names) + " |" for e, m in means.items()]
    lines += ["", "Mean of the compressions:", "", "| clip | " + " | ".join(names) + " |"]
    lines += ["|---" * (len(names) + 1) + "|"]
    for clip in clips:
        cells = [f"{np.mean([figures[clip][n] for figures in psnr.values()]):.2f}" for n in names]
        lines.append(f"| {clip} | {' | '.join(cells)} |")
    lines += ["", f"Details at {SHOWN}, where each clip has most edges:", "", "![details](video.webp)", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.video", main))
