"""Prepare quantisation-aware fine-tuning in another trainer: python -m training.prepare_qat IN OUT

Fuses the checkpoint IN, equalises it and chooses its int8 ranges on images. OUT (.pth or .safetensors) is what a
network with the option qat starts from, as pretrain_network_g.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import arch
from export.cli import refuse_existing, run_command, summary
from export.errors import ExportError


def prepare(source: Path, target: Path, images: Path | None = None, *, overwrite: bool = False) -> None:
    """Write the fake-quantised network of the float checkpoint `source` to `target`.

    images: folder to choose the ranges on; without it, the bundled images.
    Raises arch.CheckpointError or ExportError for checkpoints, images and targets that cannot be used.
    """
    from export import pictures, pipeline
    from export.source import read as read_source

    refuse_existing(target, overwrite)
    read = read_source(source)
    if read.quantized:
        raise ExportError(f"{source} holds ranges already: it can be trained on as it is.")
    config = read.config
    model = pipeline.quantise(read, pictures.calibration(images, config.scale, config.in_chans))
    arch.write_checkpoint(model.state_dict(), target)
    print(f"{target}: {target.stat().st_size:,} bytes")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.prepare_qat", description=summary(__doc__))
    parser.add_argument("source", metavar="IN", type=Path, help="float checkpoint, .safetensors or .pth")
    parser.add_argument("target", metavar="OUT", type=Path, help="checkpoint to start from, .pth or .safetensors")
    parser.add_argument("--calibration", metavar="DIR", type=Path, help="images to choose ranges on")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")
    args = parser.parse_args(argv)
    return run_command(
        "training.prepare_qat",
        lambda: prepare(args.source, args.target, args.calibration, overwrite=args.overwrite),
    )


if __name__ == "__main__":
    raise SystemExit(main())
