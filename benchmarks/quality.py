"""Y-PSNR and Y-SSIM of engines on folders of HR images, as the papers measure them.

    python -m benchmarks.quality --images Set5 [--images Set14 ...] [--presets] [--table OUT.md] MODEL...

MODEL is an engine name (tiny_2x_int8), an ONNX file or a checkpoint. LR images are MATLAB-compatible bicubic,
rounded to 8 bit; the output is rounded to 8 bit; Y is BT.601 limited range; `scale` pixels are shaved.
ONNX files run on OpenVINO in float32 arithmetic (int8 where the file is int8). --presets keeps the figures of
engines in their preset.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import presets
from export.quality import Network, measure
from presets import files
from presets.command import run_command


def network(model: str) -> tuple[Network, int]:
    """A callable (1, 3, H, W) -> (1, 3, s*H, s*W) and its scale."""
    path = Path(model)
    if path.suffix in (".safetensors", ".pth"):
        import torch

        import arch

        net = arch.load(path)

        def run_torch(x: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                return net(torch.from_numpy(x)).numpy()

        return run_torch, int(net.scale)  # type: ignore[arg-type]
    from export import runtimes
    from vsaether import engines

    engine = engines.resolve(model)
    return runtimes.load(engine.model, "ov"), engine.scale


def main() -> int:
    """Print a table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--images", type=Path, action="append", required=True)
    parser.add_argument("--scale", type=int, default=2, help="of the bicubic row")
    parser.add_argument("--presets", action="store_true", help="keep the figures of engines in presets/")
    parser.add_argument("--table", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for model in ("bicubic", *args.models):
        run, scale = (None, args.scale) if model == "bicubic" else network(model)
        rows[model] = {folder.name: measure(run, scale, folder) for folder in args.images}
        cells = "  ".join(f"{name} {m['psnr']:.2f}/{m['ssim']:.4f}" for name, m in rows[model].items())
        print(f"{model:48} {cells}", flush=True)
    if args.presets:
        write_presets(rows)
    if args.table:
        files.write(args.table, markdown(rows).encode())
    return 0


def write_presets(rows: dict[str, dict[str, dict[str, float]]]) -> None:
    """Put the figures of engines into their presets' files, by precision."""
    for model, figures in rows.items():
        name, _, precision = model.rpartition("_")
        if name in presets.names():
            preset = presets.load(name)
            preset["measured"].setdefault(precision, {}).update(figures)
            presets.save(name, preset)


def markdown(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """The rows as a Markdown table: Y-PSNR in dB / Y-SSIM."""
    folders = list(next(iter(rows.values())))
    lines = ["| engine | " + " | ".join(folders) + " |", "|---" * (len(folders) + 1) + "|"]
    for model, figures in rows.items():
        cells = [f"{figures[f]['psnr']:.2f} / {figures[f]['ssim']:.4f}" for f in folders]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_command("benchmarks.quality", main))
