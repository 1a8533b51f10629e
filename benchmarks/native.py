"""The native kernels by themselves: time, share of the processor's int8 peak, start-up; against OpenVINO, in turns.

    python -m benchmarks.native [--size 480x270] [--rounds 9] [--threads 1,2] [--forms avx512_vnni,avx2]
    python -m benchmarks.native --candidates    # the time of other forms of the networks, of random weights

The peak is what the instruction alone does, measured in the same run on one core; a share counts the convolutions'
multiply-adds of the picture without its border, of ours without blocks that are left out, and the processor time of all
threads. Ratios are medians of those within a round.
"""

import argparse
import ctypes
import resource
import statistics
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import vapoursynth

from presets.command import run_command
from vsaether import engines, native_graph, native_model

ENGINES = ("small_2x_int8", "tiny_2x_int8")
# gated, channels, hidden, kernel, depth, scale, border; of the last, what it is
CANDIDATES = {
    "small_2x as it is": (1, 96, 192, 5, 16, 2, 4),
    "3x3": (1, 96, 192, 3, 16, 2, 4),
    "7x7": (1, 96, 192, 7, 16, 2, 4),
    "hidden 144": (1, 96, 144, 5, 16, 2, 4),
    "hidden 288": (1, 96, 288, 5, 16, 2, 4),
    "12 blocks": (1, 96, 192, 5, 12, 2, 4),
    "20 blocks": (1, 96, 192, 5, 20, 2, 4),
    "24 blocks": (1, 96, 192, 5, 24, 2, 4),
    "80 channels, hidden 160": (1, 80, 160, 5, 16, 2, 4),
    "112 channels, hidden 224": (1, 112, 224, 5, 16, 2, 4),
    "128 channels, hidden 256, 10 blocks": (1, 128, 256, 5, 10, 2, 4),
    "64 channels, hidden 192, 24 blocks": (1, 64, 192, 5, 24, 2, 4),
    "48 channels, hidden 96, 16 blocks": (1, 48, 96, 5, 16, 2, 4),
    "48 channels, hidden 96, 12 blocks": (1, 48, 96, 5, 12, 2, 4),
    "64 channels, hidden 96, 10 blocks": (1, 64, 96, 5, 10, 2, 4),
    "80 channels, hidden 96, 8 blocks": (1, 80, 96, 5, 8, 2, 4),
    "96 channels, hidden 96, 6 blocks": (1, 96, 96, 5, 6, 2, 4),
    "tiny_2x as it is": (0, 48, 0, 3, 10, 2, 2),
    "tiny_2x, 64 channels": (0, 64, 0, 3, 10, 2, 2),
    "tiny_2x, 96 channels, 8 layers": (0, 96, 0, 3, 8, 2, 2),
}


class Kernels:
    """The plugin's library without VapourSynth (vsaether/native/network.h)."""

    def __init__(self) -> None:
        folder = Path(str(vapoursynth.__file__)).parent / "plugins" / "aether"
        self.library = ctypes.CDLL(str(folder / "libaether.so"))
        self.library.aether_network_open.restype = ctypes.c_void_p
        self.library.aether_forms.restype = ctypes.c_char_p
        self.library.aether_peak.restype = ctypes.c_double

    def forms(self) -> list[str]:
        """Those which this processor runs, the fastest first."""
        return self.library.aether_forms().decode().split(",")

    def peak(self, form: str) -> float:
        """Multiply-adds a second of one core."""
        return self.library.aether_peak(form.encode())

    def network(
        self, blob: bytes, scale: int, form: str | None = None, threads: int = 0
    ) -> Callable[[np.ndarray], np.ndarray]:
        """A network, kept open for good: float32 (3, H, W) -> (3, scale * H, scale * W)."""
        error = ctypes.create_string_buffer(500)
        network = ctypes.c_void_p(
            self.library.aether_network_open(
                blob, ctypes.c_size_t(len(blob)), threads, form.encode() if form else None, error, ctypes.c_size_t(500)
            )
        )
        if not network:
            raise RuntimeError(error.value.decode())

        def planes(image: np.ndarray) -> Any:
            return (ctypes.c_void_p * 3)(*(plane.ctypes.data for plane in image))

        def run(image: np.ndarray) -> np.ndarray:
            _, height, width = image.shape
            result = np.empty((3, height * scale, width * scale), np.float32)
            sizes = (planes(image), ctypes.c_ssize_t(width), planes(result), ctypes.c_ssize_t(width * scale))
            failed = self.library.aether_network_run(network, *sizes, width, height, error, ctypes.c_size_t(500))
            if failed:
                raise RuntimeError(error.value.decode())
            return result

        return run


def random_blob(gated: int, channels: int, hidden: int, kernel: int, depth: int, scale: int, border: int) -> bytes:
    """A model of random weights whose codes fill their range, and sometimes exceed it."""
    random = np.random.default_rng(channels + depth)
    parts = [native_model.MAGIC, struct.pack("<7I", gated, channels, hidden, kernel, depth, scale, border)]

    def floats(*values: float) -> None:
        parts.append(np.array(values, "<f4").tobytes())

    def conv(out: int, inputs: int, size: int, spread: float = 60) -> None:
        """Values of that standard deviation, from codes of one of about 60."""
        weight = random.integers(-127, 128, (out, inputs, size, size)).astype(np.int8)
        step = spread / (60 * 73 * np.sqrt(inputs * size * size))
        parts.extend([weight.tobytes(), (step * random.uniform(0.5, 1.5, out)).astype("<f4").tobytes()])
        parts.append((spread * random.normal(0, 0.3, out)).astype("<f4").tobytes())

    floats(1 / 255)
    conv(channels, 3, 3, 60 * 255)
    outputs = 3 * scale * scale
    if gated:
        for _ in range(depth):
            floats(1)
            conv(channels, 1, kernel)
            floats(-77.7, 88.8, 1)
            conv(hidden, channels, 1, 8)
            conv(hidden, channels, 1, 8)
            floats(1)
            conv(channels, hidden, 1)
        floats(2)
        conv(channels, channels, 3)
        floats(*random.normal(0, 1e-4, 9 * channels * outputs + outputs))
    else:
        for i in range(depth + 1):
            floats(1)
            conv(channels if i < depth else outputs, channels, 3)
    return b"".join(parts)


def products(model: bytes) -> int:
    """Multiply-adds an input pixel of an ONNX file's convolutions."""
    graph = onnx.load_model_from_string(model).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    sizes |= {node.output[0]: sizes[node.input[0]] for node in graph.node if node.input[0] in sizes}
    return sum(sizes[node.input[1]] for node in graph.node if node.op_type == "Conv")


def shape_products(shape: tuple[int, ...]) -> int:
    """The same of a network's shape, as in a blob."""
    gated, channels, hidden, kernel, depth, scale, _ = shape
    ends = 9 * channels * (3 + 3 * scale * scale)
    if gated:
        return ends + 9 * channels**2 + depth * channels * (kernel**2 + 3 * hidden)
    return ends + depth * 9 * channels**2


Runs = dict[str, Callable[[], object]]
Times = dict[str, list[tuple[float, float]]]


def interleave(runs: Runs, rounds: int) -> Times:
    """Seconds of (wall, processor) of each, all in turn in every round, after one warm-up."""
    for run in runs.values():
        run()
    times: Times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            wall, busy = time.perf_counter(), _processor_seconds()
            run()
            times[name].append((time.perf_counter() - wall, _processor_seconds() - busy))
    return times


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def against_openvino(kernels: Kernels, forms: list[str], threads: int, size: tuple[int, int], rounds: int) -> None:
    """Print one engine after the other."""
    import openvino

    width, height = size
    image = np.random.default_rng(0).random((3, height, width), np.float32)
    for name in ENGINES:
        engine = engines.resolve(name)
        model = openvino.Core().read_model(engine.path)
        model.reshape([1, 3, height, width])
        config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        request = openvino.compile_model(model, "CPU", config | {"NUM_STREAMS": 1}).create_infer_request()
        runs: Runs = {"openvino": lambda request=request: request.infer([image[None]])}
        start: dict[str, float] = {}
        work = {"openvino": products(engine.model)}
        for form in forms:
            begin = time.perf_counter()
            blob = native_model.pack(native_graph.recognise(engine.model)).data
            network = kernels.network(blob, engine.scale, form, threads)
            work[form] = shape_products(struct.unpack_from("<7I", blob, len(native_model.MAGIC)))
            start[form] = time.perf_counter() - begin
            runs[form] = lambda network=network: network(image)
        peak = {form: max(kernels.peak(form) for _ in range(5)) for form in forms}
        times = interleave(runs, rounds)
        print(f"{name} {width}x{height}, threads {threads}")
        for run, took in times.items():
            wall, busy = (statistics.median(t[i] for t in took) for i in (0, 1))
            ratio, busy_ratio = (
                statistics.median(a[i] / b[i] for a, b in zip(took, times["openvino"], strict=True)) for i in (0, 1)
            )
            top = peak.get(run, peak[forms[0]])
            least, count = min(t[1] for t in took), work[run] * width * height
            print(
                f"  {run:12} {wall * 1000:8.1f} ms (processor {busy * 1000:8.1f}); of openvino's {ratio:.3f} "
                f"({busy_ratio:.3f}); {100 * count / busy / top:.1f} % of the peak of {top * 1e-9:.0f} G/s, at best "
                f"{100 * count / least / top:.1f} %"
                + (f"; opened in {start[run] * 1000:.0f} ms" if run in start else "")
            )


def candidates(kernels: Kernels, form: str, threads: int, size: tuple[int, int], rounds: int) -> None:
    """Print the table of the networks that could be trained."""
    width, height = size
    image = np.random.default_rng(0).random((3, height, width), np.float32)
    runs: Runs = {}
    for name, shape in CANDIDATES.items():
        network = kernels.network(random_blob(*shape), shape[5], form, threads)
        runs[name] = lambda network=network: network(image)
    peak = max(kernels.peak(form) for _ in range(5))
    times = interleave(runs, rounds)
    base = times[next(iter(times))]
    print(f"{form}, {width}x{height}, threads {threads}; processor time, of its least\n")
    print("| network | multiply-adds a pixel | ms a frame | of small_2x's time | of the int8 peak |")
    print("|---|---|---|---|---|")
    for name, took in times.items():
        least, work = min(t[1] for t in took), shape_products(CANDIDATES[name])
        share = 100 * work * width * height / least / peak
        ratio = least / min(t[1] for t in base)
        print(f"| {name} | {work:,} | {least * 1000:.0f} | {ratio:.2f} | {share:.0f} % |")


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="480x270", help="input size, WxH")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", default="1,2", help="of every run, separated by commas")
    parser.add_argument("--forms", help="of the kernels, separated by commas; default: the fastest")
    parser.add_argument("--candidates", action="store_true", help="time other forms of the networks")
    args = parser.parse_args()
    kernels = Kernels()
    forms = args.forms.split(",") if args.forms else kernels.forms()[:1]
    width, height = map(int, args.size.split("x"))
    for threads in map(int, args.threads.split(",")):
        if args.candidates:
            candidates(kernels, forms[0], threads, (width, height), args.rounds)
        else:
            against_openvino(kernels, forms, threads, (width, height), args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.native", main))
