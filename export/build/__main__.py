"""Build engine files: python -m export.build [--fp32] [--fp16] [--int8] [--model NAME|CHECKPOINT] [--out DIR] ...

Without a precision all three are built, without --model all released presets. A checkpoint is fused, quantised
(with its own ranges after quantisation-aware training, else calibrated on real images), exported to ONNX and
verified; a file appears only when it has passed. report.json says what was made and measured. --engine builds
TensorRT engines as well, where its builder is installed, and writes the commands for NVIDIA's trtexec otherwise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..cli import add_version, run_command, summary
from . import PRECISIONS
from .command import build_all

OUT = Path("engines")
SHAPE = "1x3x1080x1920"


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export.build", description=summary(__doc__))
    add_version(parser)
    for precision in PRECISIONS:
        parser.add_argument(f"--{precision}", action="store_true", help=f"build the {precision} file")
    parser.add_argument("--model", metavar="NAME|CHECKPOINT", help="preset or checkpoint file; default: all presets")
    parser.add_argument("--qat", type=Path, metavar="CHECKPOINT", help="trained ranges and weights for int8")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="images to choose int8 ranges on")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help=f"default: {OUT}")
    parser.add_argument("--opset", type=int, default=20, help="18 to 21 (default 20)")
    parser.add_argument("--overwrite", action="store_true", help="replace the files of another network")
    parser.add_argument("--engine", action="store_true", help="TensorRT engines too, or the commands that make them")
    parser.add_argument("--min-shapes", metavar="NxCxHxW", help="of a dynamic engine; default: --opt-shapes")
    parser.add_argument("--opt-shapes", metavar="NxCxHxW", default=SHAPE, help=f"of --engine; default: {SHAPE}")
    parser.add_argument("--max-shapes", metavar="NxCxHxW", help="of a dynamic engine; default: --opt-shapes")
    args = parser.parse_args(argv)
    return run_command("export.build", lambda: build_all(args))


if __name__ == "__main__":
    raise SystemExit(main())
