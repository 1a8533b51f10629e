"""The native kernels against OpenVINO in one go: networks alone, and frames through the filter from end to end.

    python -m benchmarks.native_table            # 480x270 and 1280x720, on 1 and 2 processors: 10 minutes
    python -m benchmarks.native_table --quick    # 480x270 alone, 2 rounds: 2 minutes

First what benchmarks.native prints, with the share of the int8 peak; then YUV420P8 -> YUV420P8 through
vsaether.upscale, each turn a process of its own that may run on so many processors. On a machine that does nothing
else.
"""

import argparse
import os
import statistics
import sys

from benchmarks import native, speed
from presets.command import run_command

FRAMES = {
    480: 4,
    1280: 2,
}  # of small_2x in a turn, by width, and of tiny_2x TINY times as many; as many before as warm-up
TINY = 4


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="480x270,1280x720", help="input sizes, WxH, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1,2", help="numbers of processors, separated by commas")
    parser.add_argument("--quick", action="store_true", help="480x270 alone, 2 rounds")
    args = parser.parse_args()
    rounds = 2 if args.quick else args.rounds
    sizes = [
        (int(width), int(height))
        for width, _, height in (size.partition("x") for size in ("480x270" if args.quick else args.size).split(","))
    ]
    threads = [int(number) for number in args.threads.split(",")]
    for size in sizes:
        for number in threads:
            speed.in_process(alone, number, size, rounds)
    for size in sizes:
        for number in threads:
            end_to_end(number, size, rounds)
    return 0


def alone(threads: int, size: tuple[int, int], rounds: int) -> None:
    """Print the networks' times, in a process of its own."""
    kernels = native.Kernels()
    native.against_openvino(kernels, kernels.forms()[:1], threads, size, rounds)


def end_to_end(processors: int, size: tuple[int, int], rounds: int) -> None:
    """Print the filter's times on both backends, in turns."""
    width, height = size
    for engine in native.ENGINES:
        times: dict[str, list[float]] = {"ov": [], "native": []}
        for _ in range(rounds):
            for way, took in times.items():
                took.append(speed.in_process(script_time, processors, engine, way, width, height))
        ratio = statistics.median(a / b for a, b in zip(times["native"], times["ov"], strict=True))
        openvino, ours = (statistics.median(times[way]) for way in ("ov", "native"))
        print(
            f"{engine} {width}x{height} end to end, processors {processors}: openvino {openvino:.1f} ms a frame, "
            f"native {ours:.1f} ms; ratio {ratio:.3f}",
            flush=True,
        )


def script_time(processors: int, engine: str, way: str, width: int, height: int) -> float:
    """Milliseconds a frame on the first processors of those which this process may run on."""
    mine = sorted(os.sched_getaffinity(0))[:processors]
    for thread in os.listdir("/proc/self/task"):  # those of VapourSynth run already
        os.sched_setaffinity(int(thread), mine)
    frames = FRAMES.get(width, 2) * (TINY if engine.startswith("tiny") else 1)
    return speed.script_time(engine, way, width, height, frames)


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.native_table", main))
