"""The networks and the filter on one NVIDIA GPU, in a few minutes, also on a machine without a network.

    python -m benchmarks.gpu pack --out PACKED                     # here: all in pieces, with TensorRT-RTX engines
    python PACKED/gpu_pack.py PACKED DIR core && cd DIR            # there
    python -m benchmarks.gpu run --packed PACKED --out RESULTS     # there

`run` writes RESULTS/results.jsonl, one line a measurement and each at once, and from that gpu.json and gpu.md. It
ends within --budget seconds; --device cpu tries the whole of it without a GPU, at tiny sizes and with Triton's
interpreter.
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

import presets
from benchmarks import gpu_pack
from benchmarks.gpu_record import Record, read
from presets.command import run_command

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"cuda": ["1920x1080", "1280x720"], "cpu": ["8x8", "8x16"]}
FILTER_SIZES = {"cuda": ["1920x1080", "1280x720"], "cpu": ["96x64"]}
URBAN100 = {"compact_16x64": 31.72, "span_48": 32.24, "plksr_tiny": 32.43}
"""The peers' Y-PSNR, 2x, as published (traiNNer-redux's benchmark table; PLKSR's paper, DIV2K)."""
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


def report(out: Path) -> str:
    """Write gpu.json and gpu.md from the lines that there are; returns the latter."""
    entries = read(out / "results.jsonl")
    (out / "gpu.json").write_text(json.dumps(entries, indent=1))
    text = page(entries)
    (out / "gpu.md").write_text(text)
    return text


def quality() -> dict[str, float]:
    """Y-PSNR on Urban100, 2x: ours from the presets' fp16 measurement, the peers' as published."""
    found = dict(URBAN100)
    for name in gpu_pack.ENGINES:
        measured = presets.load(name)["measured"]
        found[name] = measured["fp16"]["Urban100"]["psnr"]
    return found


def page(entries: list[dict[str, Any]]) -> str:
    """The Markdown tables."""
    cards = [e for e in entries if "card" in e]
    lines = ["# GPU", ""]
    for e in cards[:1]:
        lines.append(
            f"{e['card']}, PyTorch {e['torch']}: copies {e['bandwidth_tb_s']:.2f} TB/s (read and written), fp16 matrix "
            f"product {e['fp16_tflop_s']:.0f} TFLOP/s; both measured in the same run."
        )
    timed = [(e["step"].split(" | "), e) for e in entries if " | " in e["step"] and "median_ms" in e]
    db = quality()
    for size in dict.fromkeys(parts[2] for parts, _ in timed):
        rows = {(p[0], p[1]): e for p, e in timed if p[2] == size}
        best = min((e["median_ms"] for (name, _), e in rows.items() if name == "compact_16x64"), default=None)
        lines += ["", f"## Networks alone, fp16, {size} to twice the size", ""]
        lines += [
            "| network | how | ms | fps | against Compact's best | % of roofline | bound | peak MiB | Urban100 dB |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for (name, how), e in sorted(rows.items(), key=lambda item: item[1]["median_ms"]):
            ratio = f"{e['median_ms'] / best:.2f}" if best else ""
            peak = f"{e['peak_bytes'] / 2**20:.0f}" if "peak_bytes" in e else ""
            lines.append(
                f"| {name} | {how} | {e['median_ms']:.2f} | {e['fps']:.0f} | {ratio} | {e['percent_of_roofline']:.0f} "
                f"| {e['bound']} | {peak} | {db.get(name, 0):.2f} |"
            )
    filters = [e for e in entries if "first_frame_s" in e]
    if filters:
        lines += ["", "## Through VapourSynth", "", "| what | fps | first frame s |", "|---|---|---|"]
        lines += [f"| {e['step']} | {e['fps']:.1f} | {e['first_frame_s']:.1f} |" for e in filters]
    checks = [e for e in entries if "max_difference_of_255" in e or "max_error" in e]
    if checks:
        lines += ["", "## Against the CPU or float32", ""]
        for e in checks:
            keys = ("max_difference_of_255", "mean_difference", "max_error", "max_error_of_torch_fp16", "schedule")
            lines.append(f"- {e['step']}: " + ", ".join(f"{k} {e[k]}" for k in keys if k in e))
    blocks = [e for e in entries if e["step"].startswith("block ") and "median_ms" in e]
    if blocks:
        lines += [
            "",
            "## The fused block's schedules",
            "",
            "| schedule | ms | % of roofline | error |",
            "|---|---|---|---|",
        ]
        for e in sorted(blocks, key=lambda e: e["median_ms"]):
            shown = f"{e['percent_of_roofline']:.0f} | {e['error']:.1e}"
            lines.append(f"| {e['step'][6:]} | {e['median_ms']:.3f} | {shown} |")
    failed = [e for e in entries if "error" in e and isinstance(e["error"], str)]
    if failed:
        lines += ["", "## What failed", ""] + [f"- {e['step']}: {e['error'][:300]}" for e in failed]
    missing = [e["step"] for e in entries if "left_out" in e]
    if missing:
        lines += ["", f"Left out for want of time: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.gpu", main))
