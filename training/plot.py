"""Plot training curves: python -m training.plot RUN [RUN ...] --out FILE.png

RUN is a folder of training.train. Above the validation Y-PSNR, below the training loss, a line a run and stage.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from pathlib import Path

from presets.command import run_command
from presets.files import write
from training import curve
from training.errors import PlotError

Curve = dict[str, list[float]]  # step, loss, psnr_y, seconds_per_step
STAGES = ("float", "qat")


def read_curves(run: Path) -> dict[str, Curve]:
    """The curves of a run's stages. Raises PlotError where there are none or one is damaged."""
    curves: dict[str, Curve] = {}
    for stage in STAGES:
        path = run / f"curve_{stage}.csv"
        if not path.is_file():
            continue
        try:
            curves[stage] = curve.read(path)
        except ValueError as error:
            raise PlotError(f"{path} is no curve of training.train ({error}).") from None
    if not any(columns["step"] for columns in curves.values()):
        raise PlotError(f"{run} has no curve yet: curve_float.csv is written each time that the state is saved.")
    return curves


def plot(runs: list[Path], out: Path) -> None:
    """Write the runs' curves to `out`, .png, .svg or .pdf, which appears only when complete.

    Raises PlotError where a run has none, the suffix is another, or matplotlib is missing.
    """
    curves = {run: read_curves(run) for run in runs}
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise PlotError(f"{out}: suffix {out.suffix or '(none)'}; allowed are .png, .svg, .pdf.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(f"Plots need matplotlib: pip install matplotlib ({error}).") from None
    figure = Figure(figsize=(8, 8), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for run, stages in curves.items():
        for stage, columns in stages.items():
            label = f"{run.name or run} {stage}"
            if not all(math.isnan(value) for value in columns["psnr_y"]):  # trained without validation images
                above.plot(columns["step"], columns["psnr_y"], label=label, marker=".")
            below.plot(columns["step"], columns["loss"], label=label, marker=".")
    above.set(ylabel="validation Y-PSNR / dB")
    below.set(ylabel="training loss", xlabel="step", yscale="log")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format=out.suffix[1:])
    write(out, content.getvalue())


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.plot", description="Plot training curves.")
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folder of training.train")
    parser.add_argument("--out", type=Path, required=True, help=".png, .svg or .pdf; replaced where it exists")
    args = parser.parse_args(argv)

    def command() -> None:
        plot(args.runs, args.out)
        print(args.out)

    return run_command("training.plot", command)


if __name__ == "__main__":
    sys.exit(main())
