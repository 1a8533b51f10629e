"""What a preset's description says, for people: its card in docs/models, and its entry for OpenModelDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import arch
import presets

Preset = dict[str, Any]
MEANT = {
    "tiny_2x": "real time, clean sources",
    "tiny_2x_video": "real time, compressed sources",
    "small_2x": "quality, clean sources",
    "small_2x_video": "quality, compressed sources",
}
HOLDS = {
    "notfused": "the trained network with its training branches: to train on, or to export",
    "fused": "the same network with its branches merged: for PyTorch, spandrel and chaiNNer",
    "fp32": "the engine in float32",
    "fp16": "the engine in float16, for cards",
    "int8": "the engine in int8, with the learnt ranges",
    "qat": "the network after quantisation-aware training, from which the int8 engine is made",
}


def for_video(preset: Preset) -> bool:
    """Whether a preset was trained on compressed video rather than on clean pictures."""
    return preset["training"]["float"]["config"].get("degradation") == "video"


def card(preset: Preset, times: dict[str, float]) -> str:
    """The Markdown page of a preset; `times` is engine: milliseconds a frame."""
    name, training, config = preset["name"], preset["training"], network_config(preset)
    lines = [
        f"# {name}",
        "",
        f"For {MEANT.get(name, 'any source')}. {preset['scale']}x, {preset['licence']}, {training['date']}, status: "
        f"{preset['status']}. [All models](index.md), and what to expect of them.",
        "",
        "```sh",
        f"vsaether upscale in.mkv out.mkv --engine {name}_int8",
        "```",
        "",
        f"Network: `{preset['variant']}`, {config.embed_dim} channels, {config.blocks} "
        f"{config.counted}, receptive radius "
        f"{preset['receptive_radius']} px, border {config.border} px.",
        "",
    ]
    figures = preset["measured"]
    if figures:
        folders = list(max(figures.values(), key=len))
        lines += [f"| engine | {' | '.join(folders)} | ms a frame |", "|---" * (len(folders) + 2) + "|"]
        for precision, measured in figures.items():
            cells = [f"{measured[f]['psnr']:.2f} / {measured[f]['ssim']:.4f}" for f in folders]
            engine = f"{name}_{precision}"
            lines.append(f"| {engine} | {' | '.join(cells)} | {f'{times[engine]:.0f}' if engine in times else '—'} |")
        lines += ["", "Y-PSNR in dB / SSIM; [how they were measured](../results/quality.md), on clean pictures.", ""]
    if for_video(preset):
        lines += ["It is for compressed clips: [what it does to them](../results/video.md).", ""]
    else:
        lines += ["![Details, enlarged, beside bicubic](comparison.webp)", ""]
    lines += ["| file | MB | what it is |", "|---|---|---|"]
    for kind, entry in preset["files"].items():
        lines.append(f"| `{entry['file']}` | {entry['bytes'] / 1e6:.1f} | {HOLDS[kind]} |")
    stages = ", ".join(f"{training[s]['steps']} steps ({s})" for s in ("float", "qat"))
    lines += [
        "",
        f"Last training: {stages}, on {training['hardware']}. Data: {training['data']}. Its configuration and every "
        "file's SHA-256 are in `preset.json`; the legs before it are in [the log](../log/training.md).",
    ]
    return "\n".join(lines) + "\n"


def network_config(preset: Preset) -> arch.Config:
    """The configuration of a preset's network, read from its weights."""
    return arch.inspect(arch.read_checkpoint(presets.path(preset["name"], "notfused")))


def open_model_db(preset: Preset) -> dict[str, Any]:
    """The entry of a model in OpenModelDB's format (github.com/OpenModelDB/open-model-database, data/models)."""
    training, files = preset["training"], preset["files"]
    stage = training["float"]["config"]
    # of a network that began with another's weights these are not all
    steps = {} if "init" in stage else {"trainingIterations": training["float"]["steps"]}
    config = network_config(preset)
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
        "size": [f"{config.embed_dim}nf", f"{config.blocks}nb"],
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
