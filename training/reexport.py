"""Export the engines of released presets again: python -m training.reexport tiny_2x small_2x

For a new exporter. The weights stay, and so does what was measured: an engine takes the released one's place only where
both have the same output, to the bit, on bundled pictures in ONNX Runtime, and nothing is written otherwise.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

import presets
from export import pictures, runtimes
from export.build import build
from export.errors import ExportError
from presets import PRECISIONS
from presets.command import run_command
from training.release import recover, replace

PICTURES, SIDE = 3, 96  # compared, and their LR pixels


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Export the engines of released presets again.")
    parser.add_argument("names", nargs="*", default=presets.names(), metavar="NAME", help="presets (all)")
    names = parser.parse_args(argv).names
    return run_command("training.reexport", lambda: reexport(*names))


def reexport(*names: str) -> None:
    """Replace presets' engines by new ones, one preset after the other; see `one`."""
    for name in names:
        one(name)
        print(f"{name}: {', '.join(PRECISIONS)} exported again, with the same outputs", flush=True)


def one(name: str) -> None:
    """Replace a preset's engines by new ones of the same output. Raises ExportError where an output differs."""
    out = presets.DIR / name
    recover(out)
    preset = presets.load(name)
    staged = out.with_name(f".{name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        build(presets.path(name, "notfused"), staged, qat=presets.path(name, "qat"), name=name, precisions=PRECISIONS)
        for kind, entry in preset["files"].items():
            path = staged / entry["file"]
            if kind in PRECISIONS:
                compare(presets.path(name, kind), path, preset["scale"])
            else:  # weights: the released files themselves
                path.write_bytes(presets.path(name, kind).read_bytes())
            preset["files"][kind] = presets.describe(path)
        presets.save_in(staged, preset)
        replace(out, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def compare(released: Path, new: Path, scale: int) -> None:
    """Raise ExportError where two engines' outputs differ on a picture."""
    old, other = (runtimes.load(path.read_bytes(), "ort") for path in (released, new))
    for number, (lr, _) in enumerate(pictures.evaluation(scale, 3)[:PICTURES]):
        x = lr[:, :, :SIDE, :SIDE].contiguous().numpy()
        if (difference := float(np.abs(old(x) - other(x)).max())) > 0:
            raise ExportError(
                f"{new.name}: on picture {number} its output is up to {difference:g} from the released one's; release "
                "it by training.release, which measures it anew."
            )


if __name__ == "__main__":
    raise SystemExit(main())
