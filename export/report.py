"""The report of export.build: as text, and as report.json, which holds what the folder holds."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from presets.files import sha256

from .errors import ExportError

if TYPE_CHECKING:
    from .source import Source

NAME = "report.json"


def of(
    network: Source,
    name: str,
    files: dict[str, dict[str, Any]],
    *,
    sources: tuple[Path, Path | None, str | None],
    images: dict[str, Any],
    failed: dict[str, str],
) -> dict[str, Any]:
    """The report on one model. sources: its checkpoint, the one of int8, and the weights which that began with."""
    source, qat, origin = sources
    config = network.config
    return {
        "name": name,
        "variant": config.variant,
        "scale": config.scale,
        "receptive_radius": config.receptive_radius,
        "config": dataclasses.asdict(config),
        "versions": versions(),
        "source_sha256": sha256(source),
        "qat_sha256": sha256(qat) if qat else None,
        "qat_origin": origin,
        "images": images,
        "files": files,
        "failed": failed,
    }


def table(report: dict[str, Any]) -> str:
    """The report on one model as text."""
    images = report["images"]
    lines = [
        f"{report['name']}: {report['variant']}, scale {report['scale']}, receptive radius "
        f"{report['receptive_radius']}; {images['count']} bundled images: float {images['psnr_y_float']:.2f} dB, "
        f"bicubic {images.get('psnr_y_bicubic', float('nan')):.2f} dB",
        f"{'file':44} {'KiB':>7} {'Y-PSNR ov/ort':>15} {'to float':>9} {'Q/DQ':>9} {'ms ov/ort':>15}  sha256",
    ]
    for name, f in report["files"].items():
        row = f"{name:44} {f['bytes'] / 1024:7.0f} "
        if "quality" in f:
            q, n, t = f["quality"], f["nodes"], f["ms_480x270"]
            dq = f"{n.get('QuantizeLinear', 0)}/{n.get('DequantizeLinear', 0)}"
            near = q["ov"]["psnr_to_float"]
            row += f"{q['ov']['psnr_y']:7.2f}/{q['ort']['psnr_y']:.2f}{'':2}"
            row += f"{'same' if near is None else f'{near:.1f} dB':>9} {dq:>9} {t['ov']:8.1f}/{t['ort']:.1f}"
        else:
            row += " " * 51
        lines.append(f"{row}  {f['sha256'][:12]}")
    for f in report["files"].values():
        if "float_operators" in f:
            lines.append(f"int8 ranges: {f['ranges']}; in float besides: {f['float_operators']}")
            lines += [f"  {n} in float: {why}" for n, why in f["float_convolutions"].items()] or [
                "  every convolution is int8"
            ]
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """The machine and the versions that a report was made with."""
    import importlib.metadata as metadata

    names = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")
    return {"machine": platform.processor() or platform.machine()} | {n: metadata.version(n) for n in names}


def read(folder: Path) -> list[dict[str, Any]]:
    """The models of the report in a folder; none where there is no report.

    Raises ExportError for another file of its name.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shared = content.get("versions", {})  # one for all models in reports of older versions
        return [{"versions": shared, **model, "files": dict(model["files"])} for model in content["models"]]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(f"{path} is no report of export.build; move it away, or give another --out.") from error


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The content of report.json: the new models, and of the old ones what is still true of the files in the folder.

    Where a model was built again from the same checkpoint, its files of other precisions are kept.
    """
    models = {model["name"]: model for model in new}
    for earlier in old:
        model = models.setdefault(earlier["name"], earlier)
        if model.get("source_sha256") == earlier.get("source_sha256"):
            kept = {file: fact for file, fact in earlier["files"].items() if _is_there(folder / file, fact)}
            model["files"] = kept | ({} if model is earlier else model["files"])
    return {"models": [model for model in models.values() if model["files"]]}


def _is_there(path: Path, fact: dict[str, Any]) -> bool:
    return path.is_file() and sha256(path) == fact.get("sha256")
