"""The networks and the filter on one NVIDIA GPU, in a few minutes, also on a machine without a network.

    python -m benchmarks.gpu pack --out PACKED                     # here: all in pieces, with TensorRT-RTX engines
    python PACKED/gpu_pack.py PACKED DIR core && cd DIR            # there
    python -m benchmarks.gpu run --packed PACKED --out RESULTS     # there

`run` writes RESULTS/results.jsonl, one line a measurement and each at once, and from that gpu.json and gpu.md. It
ends within --budget seconds. --device cpu tries the whole of it without a GPU, at tiny sizes and with Triton's
interpreter; of that dry_run.md says what ran, and nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import gpu_pack
from benchmarks.gpu_page import DRY, report
from benchmarks.gpu_record import Record
from presets.command import run_command

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"cuda": ["1920x1080", "1280x720"], "cpu": ["8x8"]}
FILTER_SIZES = {"cuda": ["1920x1080", "1280x720"], "cpu": ["48x32"]}
GRACE = 20  # seconds that a child may run on, over its share, before it is ended


def main() -> int:
    """One of the commands; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="put everything into pieces, of at most 24 MiB; no GPU is needed")
    pack.add_argument("--out", type=Path, required=True)
    pack.add_argument("sets", nargs="*", help=f"of {', '.join(gpu_pack.DISTRIBUTIONS)}; default all")
    run = commands.add_parser("run", help="measure")
    run.add_argument("--packed", type=Path)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    run.add_argument("--budget", type=float, default=200.0, help="seconds")
    run.add_argument("--only", nargs="*", default=["torch", "ort_cuda", "trt_rtx", "compiled"])
    table = commands.add_parser("table", help="write gpu.json and gpu.md again from results.jsonl")
    table.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "pack":
        with tempfile.TemporaryDirectory() as folder:
            if not args.sets or "trt_rtx" in args.sets:
                build_engines(Path(folder))
            sizes = gpu_pack.pack(args.out, ROOT, Path(folder), args.sets)
        shutil.copy(gpu_pack.__file__, args.out / "gpu_pack.py")
        print(json.dumps(sizes, indent=1))
        return 0
    if args.command == "run":
        measure(args.packed, args.out, args.device, args.budget, args.only)
    print(report(args.out))
    return 0


def build_engines(out: Path) -> None:
    """TensorRT-RTX fp16 engines of every size that is measured, as the backend builds them."""
    from vsaether import engines
    from vsaether.backends import TensorRTRTX, builder
    from vsaether.backends.trt import to_build

    trt = TensorRTRTX.library()
    if trt is None:
        raise SystemExit(f"benchmarks.gpu: engines need the Python module of TensorRT for RTX; {TensorRTRTX.install}")
    for name in gpu_pack.ENGINES:
        model = to_build(engines.resolve(f"{name}_fp16"))
        for size in ("320x180", *FILTER_SIZES["cuda"]):
            width, height = map(int, size.split("x"))
            plan = builder.build(trt, model, builder.static(width, height))
            (out / f"{name}_fp16_{size}.engine").write_bytes(plan)
            print(f"{name} {size}: {len(plan):,} bytes")


def measure(packed: Path | None, out: Path, device: str, budget: float, only: list[str]) -> None:
    """All children, one after the other, each with a share of the time."""
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    start = time.time()
    if device == "cpu":
        with Record(results, start + budget) as record:
            record.write(DRY)
    work = out.parent / f"{out.name}.unpacked"
    unpacking = threading.Thread(target=unpack, args=(packed, work, results, start + budget))
    unpacking.start()
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(work / "site"), str(ROOT / "site")]))
    environment["PYTHONUNBUFFERED"] = "1"
    if device == "cpu":
        environment["TRITON_INTERPRET"] = "1"

    def child(name: str, share: float, *command: str) -> None:
        """Run a module until `share` of the budget is used up."""
        if name not in only:
            return
        deadline = start + budget * share
        arguments = [command[0], *command[1:2], str(results), str(deadline), *command[2:]]
        with Record(results, deadline) as record:
            record.step(f"child {name} {command[1]}", spawn, arguments, deadline, environment)
        report(out)

    if device == "cuda":
        child("torch", 0.2, "benchmarks.gpu_torch", "schedules", device)
    child("torch", 0.55, "benchmarks.gpu_torch", "torch", device, *SIZES[device])
    unpacking.join()
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*cuda_libraries(), os.environ.get("LD_LIBRARY_PATH", "")])
    sizes = FILTER_SIZES[device]
    engines = str(work / "engines")
    child("ort_cuda", 0.7, "benchmarks.gpu_filter", "ort_cuda" if device == "cuda" else "ort", engines, *sizes)
    child("trt_rtx", 0.82, "benchmarks.gpu_filter", "trt_rtx", engines, *sizes)
    child("compiled", 0.99, "benchmarks.gpu_torch", "compiled", device, *SIZES[device])


def spawn(arguments: list[str], deadline: float, environment: dict[str, str]) -> dict[str, Any]:
    """One child; a ValueError with the end of what it said where it fails, also where it had to be ended."""
    limit = max(deadline - time.time(), 1) + GRACE
    command = [sys.executable, "-m", *arguments]
    try:
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        said = error.stderr or b""
        raise ValueError(f"ended after {limit:.0f} s; {said[-1500:]!r}") from None
    if done.returncode:
        raise ValueError(f"exit code {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return {"said": (done.stdout + done.stderr)[-1500:]}


def unpack(packed: Path | None, work: Path, results: Path, deadline: float) -> None:
    """Put the filter's sets together, each on its own, while the networks are measured."""
    with Record(results, deadline) as record:
        for name in ("vapoursynth", "ort_cuda", "trt_rtx") if packed else ():
            record.step(f"unpack {name}", gpu_pack.unpack, packed, work, name)


def cuda_libraries() -> list[str]:
    """The folders of the CUDA libraries that came with PyTorch."""
    return [
        str(folder)
        for base in map(Path, sys.path)
        if (base / "nvidia").is_dir()
        for folder in sorted((base / "nvidia").glob("*/lib"))
    ]


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.gpu", main))
