"""Export a checkpoint to one ONNX file: python -m export.onnx CHECKPOINT OUT [--fp16] [--opset N] [--static HxW]

A checkpoint of quantisation-aware training becomes an int8 file with its learnt ranges, any other one an fp32 file
(--fp16: float16 inside, float32 at both ends). The file is verified before it appears.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .cli import refuse_existing, run_command, size, summary


def export_onnx(
    source: Path,
    target: Path,
    *,
    half: bool = False,
    opset: int = 20,
    static: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the verified ONNX file of a checkpoint. Raises arch.CheckpointError or ExportError."""
    from . import pictures, pipeline, runtimes  # torch and the runtimes are heavy
    from .errors import ExportError
    from .files import write
    from .source import read

    if target.suffix.lower() != ".onnx":
        raise ExportError(f"{target}: suffix {target.suffix or '(none)'}; the file is written as .onnx.")
    refuse_existing(target, overwrite)
    runtimes.check_installed()
    network = read(source)
    if half and network.quantized:
        raise ExportError(f"{source}: holds int8 ranges, so it is exported as int8; leave --fp16 out.")
    precision = "int8" if network.quantized else "fp16" if half else "fp32"
    images = [lr for lr, _ in pictures.evaluation(network.config.scale, network.config.in_chans)][: pictures.CHECKS]
    model = pipeline.quantise(network, images) if network.quantized else network.fused
    engine = pipeline.make(model, precision, images, name=network.name, opset=opset, static=static)
    write(engine.data, target)
    if network.observed:
        print(f"{source}: torch.ao's observers are left out; python -m export.build --int8 calibrates an int8 file")
    print(f"{target}: {precision}, opset {opset}, {len(engine.data):,} bytes")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export.onnx", description=summary(__doc__))
    parser.add_argument("source", metavar="CHECKPOINT", type=Path)
    parser.add_argument("target", metavar="OUT", type=Path)
    parser.add_argument("--fp16", action="store_true", help="float16 weights and arithmetic")
    parser.add_argument("--opset", type=int, default=20, help="18 to 21 (default 20)")
    parser.add_argument("--static", type=size, metavar="HxW", help="fixed size, batch 1")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")
    args = parser.parse_args(argv)
    options = {"half": args.fp16, "opset": args.opset, "static": args.static, "overwrite": args.overwrite}
    return run_command("export.onnx", lambda: export_onnx(args.source, args.target, **options))


if __name__ == "__main__":
    raise SystemExit(main())
