"""Speed, side by side: every contestant takes turns in one run, so that a noisy machine is noisy for all.

    python -m benchmarks.speed [--size 480x270] [--rounds 12] [--docs docs/results]

Two tables. Networks alone: time of one frame on OpenVINO's CPU plugin in the file's own precision, ours and
peers (random weights: speed does not depend on them), and of our int8 engines in our own kernels. End to end:
YUV420P8 -> YUV420P8 frames through vsaether.upscale, on our own kernels and on OpenVINO, against the shortest
hand-written script over the same ONNX file on OpenVINO, each turn a process of its own.
Writes speed.json, speed.md and speed.webp to docs/results.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import vapoursynth as vs

import vsaether
from benchmarks import peers
from benchmarks.native import Kernels
from presets import files
from presets.command import run_command
from vsaether import engines, native_graph, native_model

core: Any = vs.core  # plugins are attributes that no stub knows
Result = TypeVar("Result")
Times = dict[str, dict[str, float]]
END_TO_END = ("tiny_2x_int8", "small_2x_int8")
WAYS = ("native", "ov", "by hand")
"""Scripts: the filter on two backends, and one written by hand on OpenVINO."""
INT8 = {"amx_int8": "AMX", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI"}  # by flag, fastest first


def main() -> int:
    """Run and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="480x270", help="input size, WxH")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--docs", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    networks = in_process(network_times, width, height, args.rounds)
    scripts = script_times(width, height, args.rounds)
    result = {
        "machine": machine(),
        "size": args.size,
        "rounds": args.rounds,
        "networks": networks,
        "scripts": scripts,
    }
    args.docs.mkdir(parents=True, exist_ok=True)
    files.write(args.docs / "speed.json", json.dumps(result, indent=1).encode() + b"\n")
    files.write(args.docs / "speed.md", table(result).encode())
    plot(result, args.docs / "speed.webp")
    print(table(result))
    return 0


def in_process(part: Callable[..., Result], *args: Any) -> Result:
    """Run a part in a process of its own: openvino's package and VapourSynth's plugin cannot share one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(part, *args).result()


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "int8 instructions": next((name for flag, name in INT8.items() if flag in flags), "none"),
        "openvino": importlib.metadata.version("openvino"),
        "vapoursynth": str(core.core_version),
        "python": platform.python_version(),
    }


def interleave(contestants: dict[str, Callable[[], object]], rounds: int) -> Times:
    """Median and minimum milliseconds of each callable, all of them in turn in every round; one warm-up each.

    Every other round goes backwards, so that nobody always runs in the wake of the same one.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    order = list(contestants.items())
    for _ in range(rounds):
        order.reverse()
        for name, run in order:
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1000)
    return {n: {"median_ms": statistics.median(t), "min_ms": min(t)} for n, t in times.items()}


def network_times(width: int, height: int, rounds: int) -> Times:
    """Milliseconds a frame of the engines and the peers."""
    with tempfile.TemporaryDirectory() as folder:
        return time_files(engine_files(Path(folder)), width, height, rounds, native=native_networks())


def native_networks() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Our int8 engines in our own kernels."""
    kernels = Kernels()
    return {
        f"{e.name} (native)": kernels.network(native_model.pack(native_graph.recognise(e.model)).data, e.scale)
        for e in engines.available()
        if e.precision == "int8"
    }


def engine_files(folder: Path) -> dict[str, Path]:
    """The engines' ONNX files, and the peers', which are written to `folder`."""
    files = {e.name: Path(e.path) for e in engines.available() if e.precision != "fp16"}
    for name in peers.PEERS:
        files[f"{name}_fp32"] = peers.write_onnx(name, folder)
    files["compact_16x64_int8"] = peers.write_onnx("compact_16x64", folder, int8=True)
    return files


def time_files(
    files: dict[str, Path],
    width: int,
    height: int,
    rounds: int,
    native: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType({}),
) -> Times:
    """Milliseconds a frame of ONNX files on OpenVINO's CPU plugin, and of what else is given, in turns with them.

    In a process without VapourSynth's plugin (`in_process`).

    Files of int8 are refused where OpenVINO's int8 is not exact: the time of a wrong result is no time.
    """
    import openvino

    from export.runtimes import openvino_int8

    if any("int8" in name for name in files) and not openvino_int8():
        raise SystemExit("speed: int8 cannot be timed on a processor without 8-bit dot products (VNNI).")
    ov = openvino.Core()
    image = np.random.default_rng(0).random((1, 3, height, width), np.float32)

    def contestant(path: Path) -> Callable[[], None]:
        model = ov.read_model(path)
        model.reshape([1, 3, height, width])
        request = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

        def run() -> None:
            request.infer([image])

        return run

    contestants: dict[str, Callable[[], object]] = {name: contestant(path) for name, path in files.items()}
    for name, network in native.items():
        contestants[name] = functools.partial(network, image[0])
    return interleave(contestants, rounds)


def script_times(width: int, height: int, rounds: int) -> Times:
    """Milliseconds a frame, end to end, of the filter on two backends and of a hand-written script over the same file.

    Every turn is a process of its own: where in memory a network's buffers happen to lie moves its time by up to a
    tenth, for as long as the process lives.
    """
    turns = [(name, way) for name in END_TO_END for way in WAYS]
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        turns.reverse()
        for name, way in turns:
            times.setdefault(script_name(name, way), []).append(in_process(script_time, name, way, width, height))
    return {n: {"median_ms": statistics.median(t), "min_ms": min(t)} for n, t in sorted(times.items(), reverse=True)}


def script_name(engine: str, way: str) -> str:
    """What a script is called in the table."""
    return f"by hand {engine}" if way == "by hand" else f"vsaether {engine} ({way})"


def script_time(engine: str, way: str, width: int, height: int, frames: int = 8) -> float:
    """Milliseconds a frame of one script, after a warm-up of as many frames. All frames are computed."""
    clip = noise(width, height, frames)
    if way == "by hand":
        rgb = core.resize.Bicubic(clip, format=vs.RGBS, matrix_in_s="709")
        path = str(engines.resolve(engine).path)
        up = core.ov.Model(rgb, network_path=path, config=lambda: {"INFERENCE_PRECISION_HINT": "f32"})
        clip = core.resize.Bicubic(up, format=vs.YUV420P8, matrix_s="709")
    else:
        clip = vsaether.upscale(clip, engine, backend=way, reuse=False)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        for frame in clip.frames(close=True):
            seconds = time.perf_counter() - start  # at its end the iterator collects all of this process's garbage
            del frame
        core.clear_cache()
    return seconds / frames * 1000


def noise(width: int, height: int, frames: int) -> vs.VideoNode:
    """A YUV420P8 clip of noise; no two frames are the same."""
    rng = np.random.default_rng(0)
    planes = [rng.integers(64, 192, (height >> i, width >> i), np.uint8) for i in (0, 1, 1)]
    blank = core.std.BlankClip(format=vs.YUV420P8, width=width, height=height, length=frames, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for i, plane in enumerate(planes):
            np.copyto(np.asarray(frame[i]), np.roll(plane, n, 0))
        return frame

    clip = core.std.ModifyFrame(blank, blank, fill)
    return core.std.SetFrameProps(clip, _Matrix=1, _Transfer=1, _Primaries=1, _Range=0, _ChromaLocation=0)


def table(result: dict) -> str:
    """The Markdown page."""
    about = ", ".join(f"{k} {v}" for k, v in result["machine"].items())
    lines = [
        "# Speed",
        "",
        f"Measured by `python -m benchmarks.speed --size {result['size']} --rounds {result['rounds']}` on {about}. "
        "All contestants take turns in one run; compare ratios within a table, not milliseconds across machines.",
        "",
        "## Networks alone, 2x, on OpenVINO's CPU plugin or in our own kernels (native)",
        "",
        "| network | ms a frame (median) | minimum | against compact_16x64_fp32 |",
        "|---|---|---|---|",
    ]
    base = result["networks"]["compact_16x64_fp32"]["median_ms"]
    for name, t in sorted(result["networks"].items(), key=lambda item: item[1]["median_ms"]):
        lines.append(f"| {name} | {t['median_ms']:.1f} | {t['min_ms']:.1f} | {t['median_ms'] / base:.2f} |")
    networks = result["networks"]
    lines += ["", "| ratio | value |", "|---|---|"]
    for top, bottom in (
        ("tiny_2x_fp32", "tiny_2x_int8"),
        ("small_2x_fp32", "small_2x_int8"),
        ("tiny_2x_int8", "compact_16x64_int8"),
        ("small_2x_int8", "compact_16x64_int8"),
        ("small_2x_int8", "public_small_fp32"),
        ("small_2x_int8 (native)", "small_2x_int8"),
        ("tiny_2x_int8 (native)", "tiny_2x_int8"),
        ("small_2x_int8 (native)", "compact_16x64_int8"),
        ("small_2x_int8 (native)", "span_48_fp32"),
    ):
        if top in networks and bottom in networks:
            ratio = networks[top]["median_ms"] / networks[bottom]["median_ms"]
            lines.append(f"| {top} / {bottom} | {ratio:.2f} |")
    lines += ["", "## End to end, YUV420P8 to YUV420P8", "", "| script | frames a second |", "|---|---|"]
    for name, t in result["scripts"].items():
        lines.append(f"| {name} | {1000 / t['median_ms']:.2f} |")
    lines += ["", "| ratio of frames a second | value |", "|---|---|"]
    for name in END_TO_END:
        native, ov, hand = (result["scripts"][script_name(name, way)]["median_ms"] for way in WAYS)
        lines.append(f"| vsaether (ov) / by hand, {name} | {hand / ov:.3f} |")
        lines.append(f"| vsaether (native) / vsaether (ov), {name} | {ov / native:.3f} |")
    return "\n".join(lines) + "\n\n![speed](speed.webp)\n"


def plot(result: dict, path: Path) -> None:
    """Bars of the networks' times."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = sorted(result["networks"].items(), key=lambda item: -item[1]["median_ms"])
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(rows) + 1))
    ours = ["tab:orange" if n.startswith(("tiny", "small")) else "tab:gray" for n, _ in rows]
    bars = axes.barh([n for n, _ in rows], [t["median_ms"] for _, t in rows], color=ours)
    axes.bar_label(bars, fmt="%.0f ms", padding=3)
    axes.set_xlabel(f"ms a frame, {result['size']}, CPU, {result['machine']['cores']} cores")
    axes.set_xscale("log")
    axes.margins(x=0.15)
    figure.tight_layout()
    figure.savefig(path, dpi=110, pil_kwargs={"lossless": True})


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.speed", main))
