"""Turn a finished run into a preset: python -m training.release runs/tiny_2x --name tiny_2x --status interim

Builds and verifies every file with export.build, copies the quantisation-aware checkpoint beside them, and
writes preset.json: what the engines are, how they were trained, what was measured.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import hashlib
import json
import platform
import sys
import tomllib
from pathlib import Path
from typing import Any

import arch
import presets
from export.build import build, table
from export.errors import ExportError
from export.verify import Precision, write

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Turn a finished run into a preset.")
    parser.add_argument("run", type=Path, help="folder of training.train")
    parser.add_argument("--config", type=Path, required=True, help="the configuration that the run was started with")
    parser.add_argument("--name", required=True, help="preset name, e.g. tiny_2x")
    parser.add_argument("--status", choices=("interim", "release"), required=True)
    parser.add_argument("--data", required=True, help="the training data in words, with its licences")
    parser.add_argument("--hardware", default=platform.processor() or platform.machine())
    args = parser.parse_args()
    try:
        report = release(args)
    except (ExportError, arch.CheckpointError) as error:
        print(f"training.release: {error}", file=sys.stderr)
        return 1
    print(table(report))
    return 0


def release(args: argparse.Namespace) -> dict[str, Any]:
    """Write the preset's folder and return export.build's report."""
    out = presets.DIR / args.name
    config = tomllib.loads(args.config.read_text())
    iterations = {stage: curve(args.run / f"curve_{stage}.csv") for stage in ("float", "qat")}
    qat = args.run / "qat.safetensors"
    report = build(args.run / "notfused.safetensors", out, qat=qat, name=args.name, precisions=PRECISIONS)
    stem = next(f for f in report["files"] if f.endswith("_fused.safetensors")).removesuffix("_fused.safetensors")
    write(qat.read_bytes(), out / f"{stem}_qat.safetensors")
    files = {fact["kind"]: entry(out / file) for file, fact in report["files"].items()}
    files["qat"] = entry(out / f"{stem}_qat.safetensors")
    preset = {
        "name": args.name,
        "variant": report["variant"],
        "scale": report["scale"],
        "receptive_radius": report["receptive_radius"],
        "status": args.status,
        "licence": "MIT",
        "options": report["config"],
        "files": files,
        "training": {
            "config": config,
            "iterations": iterations,
            "hardware": args.hardware,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "data": args.data,
        },
        "measured": {},  # filled by benchmarks.quality --presets
    }
    write(json.dumps(preset, indent=1).encode() + b"\n", out / "preset.json")
    return report


def entry(path: Path) -> dict[str, Any]:
    """Name, sha256 and size of a file."""
    data = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def curve(path: Path) -> dict[str, float]:
    """The last line of a training curve: steps and validation Y-PSNR. Raises ExportError where there is none."""
    try:
        with path.open(newline="") as file:
            last = list(csv.DictReader(file))[-1]
        return {"steps": int(last["step"]), "validation_psnr_y": float(last["psnr_y"])}
    except (OSError, IndexError, KeyError, ValueError) as error:
        raise ExportError(f"{path} is no curve of training.train ({error}); both stages have to be finished.") from None


if __name__ == "__main__":
    sys.exit(main())
