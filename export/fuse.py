"""Fuse a checkpoint: python -m export.fuse IN OUT

IN and OUT are .safetensors or .pth. OUT computes the same as IN, with branches, norms and projections merged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import arch

from .cli import refuse_existing, run_command, summary


def fuse_file(source: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write the fused checkpoint of `source` to `target`. Raises arch.CheckpointError or ExportError."""
    from .source import read

    refuse_existing(target, overwrite)
    arch.write_checkpoint(read(source).fused.state_dict(), target)
    print(f"{target}: {target.stat().st_size:,} bytes")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export.fuse", description=summary(__doc__))
    parser.add_argument("source", metavar="IN", type=Path, help="checkpoint, .safetensors or .pth")
    parser.add_argument("target", metavar="OUT", type=Path, help="fused checkpoint, .safetensors or .pth")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")
    args = parser.parse_args(argv)
    return run_command("export.fuse", lambda: fuse_file(args.source, args.target, overwrite=args.overwrite))


if __name__ == "__main__":
    raise SystemExit(main())
