"""Engines through the real filter on a GPU backend: a child of benchmarks.gpu, one line of JSON a measurement."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import vapoursynth as vs

import vsaether
from benchmarks.gpu_record import Record
from vsaether import backends, engines

core: Any = vs.core
PRESETS = ("small_2x", "tiny_2x")
CHECK_SIZE = (320, 180)
SECONDS = 2.5


@dataclasses.dataclass(frozen=True)
class OrtCudaNHWC(backends.OrtCUDA):
    """The backend ort_cuda, channels last: to see whether that is faster."""

    name: ClassVar[str] = "ort_cuda_nhwc"

    def load(self, clip: vs.VideoNode, model: bytes) -> vs.VideoNode:
        """See vsaether.backends.OrtCUDA."""
        return core.ort.Model(
            clip,
            network_path=model,
            path_is_serialization=True,
            provider="CUDA",
            device_id=self.device_id,
            num_streams=self.num_streams,
            cudnn_benchmark=True,
            tf32=False,
            prefer_nhwc=True,
        )


@dataclasses.dataclass(frozen=True)
class PrebuiltRTX(backends.TensorRTRTX):
    """The backend trt_rtx with engines that were built before: `folder` holds one for each engine and size."""

    folder: ClassVar[Path] = Path("engines")

    @classmethod
    def library(cls) -> ModuleType:
        """No builder is needed."""
        return ModuleType("tensorrt_rtx")

    def built(self, engine: engines.Engine, width: int, height: int) -> Path:
        """The one that was built before."""
        return self.folder / f"{engine.name}_{width}x{height}.engine"


KINDS: dict[str, Any] = {
    "ort_cuda": backends.OrtCUDA,
    "ort_cuda_nhwc": OrtCudaNHWC,
    "trt_rtx": PrebuiltRTX,
    "ort": backends.OnnxRuntime,
}


def measure(record: Record, kind: str, sizes: list[tuple[int, int]]) -> None:
    """Probe, check against the CPU, time; each step on its own."""
    probed = record.step(f"{kind} probe", probe, kind)
    if probed is None:
        return
    for preset in PRESETS:
        record.step(f"{kind} check {preset}_fp16", check, kind, f"{preset}_fp16")
    for width, height in sorted(sizes, reverse=True):
        for preset in PRESETS:
            for streams in (1, 3):
                label = f"{kind} {preset}_fp16 filter {width}x{height} streams {streams}"
                record.step(label, filter_speed, kind, f"{preset}_fp16", width, height, streams)
            record.step(
                f"{kind} {preset}_fp16 plugin alone {width}x{height}",
                plugin_speed,
                kind,
                f"{preset}_fp16",
                width,
                height,
            )


def probe(kind: str) -> dict[str, Any]:
    """What the plugins say of themselves and of the device."""
    plugin = core.trt_rtx if kind == "trt_rtx" else core.ort
    found = {"version": str(plugin.Version())}
    if kind == "trt_rtx":
        found["device"] = str(plugin.DeviceProperties(0))
    return found


def check(kind: str, engine: str) -> dict[str, Any]:
    """The filter's 8-bit result on a picture of blobs and noise, against the CPU's in float32."""
    width, height = size = CHECK_SIZE if kind != "ort" else (64, 48)
    clip = blobs(width, height)
    frames = []
    for backend, name in ((kind, engine), ("ort", engine.replace("fp16", "fp32"))):
        up = vsaether.upscale(clip, name, backend=KINDS[backend](num_streams=1), tile=size, dither="none")
        with up.get_frame(0) as frame:
            frames.append([np.asarray(frame[i]).astype(np.int32) for i in range(3)])
    difference = [np.abs(a - b) for a, b in zip(*frames, strict=True)]
    worst = max(int(d.max()) for d in difference)
    return {
        "max_difference_of_255": worst,
        "mean_difference": float(np.mean([d.mean() for d in difference])),
        "black": bool(max(int(p.max()) for p in frames[0]) == 0),
        "size": f"{frames[0][0].shape[1]}x{frames[0][0].shape[0]}",
    }


def blobs(width: int, height: int) -> vs.VideoNode:
    """One YUV444P8 frame of smooth shapes, edges and noise."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(0)
    planes = [
        128 + 80 * np.sin(x / 9 + y / 17) * np.cos(y / 5) + rng.normal(0, 6, (height, width)),
        128 + 60 * np.sin(x / 31),
        128 + 60 * ((x // 24 + y // 24) % 2 - 0.5),
    ]
    return still([np.clip(p, 16, 235).astype(np.uint8) for p in planes], vs.YUV444P8, 1)


def noise(width: int, height: int, frames: int) -> vs.VideoNode:
    """YUV420P8 noise, the same in every frame."""
    rng = np.random.default_rng(0)
    return still([rng.integers(64, 192, (height >> i, width >> i), np.uint8) for i in (0, 1, 1)], vs.YUV420P8, frames)


def still(planes: list[np.ndarray], kind: int, frames: int) -> vs.VideoNode:
    """A clip of one picture; it is made once and kept."""
    height, width = planes[0].shape
    blank = core.std.BlankClip(format=kind, width=width, height=height, length=1)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for i, plane in enumerate(planes):
            np.copyto(np.asarray(frame[i]), plane)
        return frame

    clip = core.std.ModifyFrame(blank, blank, fill)
    clip = core.std.SetFrameProps(clip, _Matrix=1, _Transfer=1, _Primaries=1, _Range=0, _ChromaLocation=0)
    return core.std.Loop(clip, frames) if frames > 1 else clip


def filter_speed(kind: str, engine: str, width: int, height: int, streams: int) -> dict[str, Any]:
    """Frames a second, YUV420P8 to YUV420P8, through vsaether.upscale, the whole frame as one tile."""
    backend, clip = KINDS[kind](num_streams=streams), noise(width, height, 100_000)
    up = vsaether.upscale(clip, engine, backend=backend, tile=(width, height), reuse=False)  # all frames are the same
    return pace(up, seconds(kind))


def plugin_speed(kind: str, engine: str, width: int, height: int) -> dict[str, Any]:
    """Frames a second of the plugin alone, float RGB to float RGB, copies to and from the card included."""
    clip = core.std.BlankClip(
        format=vs.RGBS, width=width, height=height, length=100_000, color=[0.3, 0.5, 0.7], keep=True
    )
    return pace(KINDS[kind](num_streams=3).run(clip, engines.resolve(engine)), seconds(kind))


def seconds(kind: str) -> float:
    """How long frames are counted; on a CPU, which is for trying the script, one is enough."""
    return 0.0 if kind == "ort" else SECONDS


def pace(clip: vs.VideoNode, least: float) -> dict[str, Any]:
    """Frames a second, after the first frame; the time of that beside it, which holds the library's preparations."""
    start = time.perf_counter()
    clip.get_frame(0).close()
    first = time.perf_counter() - start
    warm = 8 if least else 1
    for frame in core.std.Trim(clip, 1, warm).frames(close=True):
        del frame
    count, start = 0, time.perf_counter()
    for frame in core.std.Trim(clip, warm + 1).frames(close=True):
        del frame
        count += 1
        if time.perf_counter() - start > least:
            break
    took = time.perf_counter() - start
    core.clear_cache()
    return {"first_frame_s": first, "frames": count, "fps": count / took, "median_ms": 1000 * took / count}


def main() -> int:
    """python -m benchmarks.gpu_filter KIND RESULTS DEADLINE ENGINES SIZE..."""
    kind, results, deadline, folder, *sizes = sys.argv[1:]
    PrebuiltRTX.folder = Path(folder)
    with Record(Path(results), float(deadline)) as record:
        measure(record, kind, [(int(w), int(h)) for w, h in (s.split("x") for s in sizes)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
