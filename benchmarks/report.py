"""What people see of the models, made from measured files: README's table, the cards' crops, OpenModelDB's entries.

    python -m benchmarks.report

Quality comes from presets/*/preset.json (python -m benchmarks.quality --presets), speed from docs/speed.json
(python -m benchmarks.speed); nothing is measured here. Writes the table between README's markers,
docs/images/<preset>.png (of those for clean pictures), and presets/<preset>/openmodeldb.json.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import arch
import presets
from benchmarks.quality import network
from export.errors import ExportError
from export.metrics import imresize, modcrop, psnr_y, to_uint8
from export.pictures import BUNDLED
from export.verify import write

README = Path("README.md")
DOCS = Path("docs")
BEGIN, END = "<!-- figures: python -m benchmarks.report -->\n", "<!-- end of figures -->"
CROPS = {  # bundled picture: left, top, width and height of the detail, in HR pixels
    "photo_taipei_city.webp": (48, 64, 128, 96),
    "art_clipart_10.webp": (48, 64, 128, 96),
    "text_ui_20.webp": (32, 32, 128, 96),
}
ZOOM = 3
BENCHMARKS = ("Set5", "Set14", "BSD100", "Urban100")
PUBLISHED = {  # Y-PSNR / SSIM of peers on BENCHMARKS, 2x, as their authors or traiNNer-redux give them
    "compact_16x64": ("", "", "", "31.72 / 0.9257"),
    "span_48": ("", "", "", "32.24 / 0.9294"),
    "SMFANet": ("38.08 / 0.9607", "33.65 / 0.9185", "32.22 / 0.9002", "32.20 / 0.9282"),
    "SMFANet+": ("38.19 / 0.9611", "33.92 / 0.9207", "32.32 / 0.9015", "32.70 / 0.9331"),
}
SOURCES = (
    "Compact and SPAN: [traiNNer-redux's benchmarks](https://github.com/the-database/traiNNer-redux); "
    "SMFANet: [its authors' figures](https://github.com/Zheng-MJ/SMFANet), DF2K"
)


def main() -> int:
    """Write everything; returns the exit code."""
    speed = json.loads((DOCS / "speed.json").read_text())
    measured = {name: presets.load(name) for name in presets.names()}
    try:
        write(readme(README.read_text(), table(measured, speed)).encode(), README)
    except ExportError as error:
        print(f"benchmarks.report: {error}", file=sys.stderr)
        return 1
    (DOCS / "images").mkdir(exist_ok=True)
    for name, preset in measured.items():
        if not for_video(preset):  # on compressed clips: benchmarks.video
            compare(name, preset["scale"]).save(DOCS / "images" / f"{name}.png", optimize=True)
        entry = json.dumps(open_model_db(preset), indent=4, ensure_ascii=False)
        write(entry.encode() + b"\n", presets.DIR / name / "openmodeldb.json")
    return 0


def readme(text: str, figures: str) -> str:
    """README with `figures` between its markers; ExportError where they are missing."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    if not re.search(pattern, text, re.DOTALL):
        raise ExportError(f"{README} lacks the lines {BEGIN.strip()} and {END}, between which the table goes.")
    return re.sub(pattern, lambda _: BEGIN + figures + END, text, flags=re.DOTALL)


NATIVE = " (native)"  # ends the name of an engine in our own kernels in speed.json


def table(measured: dict[str, dict[str, Any]], speed: dict[str, Any]) -> str:
    """Engines with Y-PSNR/SSIM on the benchmarks, and milliseconds a frame beside the peers.

    Raises ExportError where engines have not been measured on the same benchmarks.
    """
    engines = {f"{n}_{p}": figures for n, preset in measured.items() for p, figures in preset["measured"].items()}
    times = {name: t["median_ms"] for name, t in speed["networks"].items() if not name.endswith(NATIVE)}
    own = {name.removesuffix(NATIVE): t["median_ms"] for name, t in speed["networks"].items() if name.endswith(NATIVE)}
    times |= own  # what "auto" takes
    where = "on OpenVINO, our int8 in our own kernels" if own else "on OpenVINO"
    folders = list(max(engines.values(), key=len))
    for name, figures in engines.items():
        if missing := [f for f in folders if f not in figures]:
            raise ExportError(f"{name} has not been measured on {', '.join(missing)}: python -m benchmarks.quality.")
    lines = [
        f"| engine | {' | '.join(folders)} | ms a frame |",
        "|---" * (len(folders) + 2) + "|",
    ]
    for name in sorted({*engines, *times}, key=lambda n: (n not in engines, times.get(n, math.inf), n)):
        cells = [
            f"{engines[name][f]['psnr']:.2f} / {engines[name][f]['ssim']:.4f}" if name in engines else ""
            for f in folders
        ]
        if peer := next((p for p in PUBLISHED if name.startswith(p)), None):
            cells = [published(peer, f) for f in folders]
        lines.append(f"| {name} | {' | '.join(cells)} | {f'{times[name]:.0f}' if name in times else ''} |")
    for peer in PUBLISHED:
        if not any(name.startswith(peer) for name in times):
            lines.append(f"| {peer} | {' | '.join(published(peer, f) for f in folders)} | |")
    machine = speed["machine"]
    lines += [
        "",
        f"Y-PSNR in dB / SSIM, 2x. Time: the network alone {where}, {speed['size']} input, {machine['cores']} "
        f"cores of an {machine['cpu']}, int8 with {machine['int8 instructions']}. The last rows are peers: their "
        f"quality is as published ({SOURCES}), their times were measured with random weights.",
    ]
    return "\n".join(lines) + "\n"


def published(peer: str, folder: str) -> str:
    """A peer's figures on a benchmark; empty where none were published."""
    return PUBLISHED[peer][BENCHMARKS.index(folder)] if folder in BENCHMARKS else ""


def compare(name: str, scale: int) -> Image.Image:
    """Details of bundled pictures, enlarged: bicubic, fp32, int8, original; Y-PSNR of the whole picture below."""
    runs = {"bicubic": None, **{p: network(f"{name}_{p}")[0] for p in ("fp32", "int8")}}
    rows = []
    for file, (left, top, width, height) in CROPS.items():
        hr = modcrop(np.asarray(Image.open(BUNDLED / file).convert("RGB")), scale)
        lr = imresize(hr, 1 / scale)
        cells = []
        for label, run in {**runs, "original": None}.items():
            if label == "original":
                picture = hr
            elif run is None:
                picture = imresize(lr, scale)
            else:
                x = np.ascontiguousarray(np.asarray(lr, np.float32).transpose(2, 0, 1)[None] / np.float32(255))
                picture = to_uint8(run(x)[0].transpose(1, 2, 0).clip(0, 1) * 255.0)
            detail = np.ascontiguousarray(picture[top : top + height, left : left + width]).astype(np.uint8)
            cell = Image.fromarray(detail).resize(
                (detail.shape[1] * ZOOM, detail.shape[0] * ZOOM), Image.Resampling.NEAREST
            )
            text = label if label == "original" else f"{label}  {psnr_y(to_uint8(picture), hr, scale):.2f} dB"
            cells.append(captioned(cell, text))
        rows.append(np.concatenate(cells, axis=1))
    return Image.fromarray(np.concatenate(rows))


def captioned(picture: Image.Image, text: str) -> np.ndarray:
    """The picture with a line of text below it."""
    sheet = Image.new("RGB", (picture.width, picture.height + 18), "white")
    sheet.paste(picture)
    ImageDraw.Draw(sheet).text((4, picture.height + 3), text, fill="black")
    return np.asarray(sheet)


def for_video(preset: dict[str, Any]) -> bool:
    """Whether a preset was trained on compressed video rather than on clean pictures."""
    return preset["training"]["float"]["config"].get("degradation") == "video"


def open_model_db(preset: dict[str, Any]) -> dict[str, Any]:
    """The entry of a model in OpenModelDB's format (github.com/OpenModelDB/open-model-database, data/models)."""
    training, files = preset["training"], preset["files"]
    stage = training["float"]["config"]
    # of a network that began with another's weights these are not all
    steps = {} if "init" in stage else {"trainingIterations": training["float"]["steps"]}
    config = arch.inspect(arch.read_checkpoint(presets.DIR / preset["name"] / files["notfused"]["file"]))
    blocks = config.depth if isinstance(config, arch.AetherTinyConfig) else sum(config.depths)
    sources = "compressed video" if for_video(preset) else "clean sources"
    kinds = {"notfused": "pytorch", "fused": "pytorch", "fp32": "onnx", "fp16": "onnx", "int8": "onnx"}
    return {
        "name": f"AetherNet {preset['name']}",
        "author": "aethernet",
        "license": preset["licence"],
        "tags": ["general-upscaler"],
        "description": f"AetherNet `{preset['variant']}`, {preset['scale']}x, for {sources}; "
        f"status: {preset['status']}. The int8 file holds ranges learnt in quantisation-aware training.",
        "date": training["date"],
        "architecture": "aethernet",
        "size": [f"{config.embed_dim}nf", f"{blocks}nb"],
        "scale": preset["scale"],
        "inputChannels": config.in_chans,
        "outputChannels": config.out_chans,
        "resources": [
            {
                "platform": platform,
                "type": Path(files[kind]["file"]).suffix[1:],
                "size": files[kind]["bytes"],
                "sha256": files[kind]["sha256"],
                "urls": [],
            }
            for kind, platform in kinds.items()
            if kind in files
        ],
        **steps,
        "trainingBatchSize": stage["batch"],
        "trainingHRSize": stage["patch"] * preset["scale"],
        "dataset": training["data"],
        "images": [],
    }


if __name__ == "__main__":
    sys.exit(main())
