"""Build engine files: python -m export.build [--fp32] [--fp16] [--int8] [--model NAME|CHECKPOINT] [--out DIR] ...

Without a precision all three are built, without --model all released presets. A checkpoint is fused, quantised
(with its own ranges after quantisation-aware training, else calibrated on real images), exported to ONNX and
verified; a file appears only when it has passed. report.json says what was made and measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli import add_version, run_command, summary
from .report import NAME, merged, read, table, versions

if TYPE_CHECKING:
    from .pipeline import Source
    from .verify import Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
OUT = Path("engines")


def build(
    source: Path,
    out: Path,
    *,
    qat: Path | None = None,
    name: str | None = None,
    precisions: Sequence[Precision] = PRECISIONS,
    calibration: Path | None = None,
    opset: int = 20,
    overwrite: bool = False,
    keep_going: bool = False,
) -> dict[str, Any]:
    """Make all files of one checkpoint in the folder `out`, and return the report on them.

    source: the checkpoint of the float files (and of int8, where `qat` is not given). qat: a checkpoint of
    quantisation-aware training for the int8 file. name: the engines' name, by default <variant>_<scale>x.
    calibration: a folder of images to choose int8 ranges on where no checkpoint has them; default: bundled ones.
    overwrite: replace files of another network; those of the same one are replaced anyway.
    keep_going: where a precision fails its check, make the others; the report's "failed" then says which and why.

    Writes aether_<name>_{fused,notfused}.safetensors, _fp32.onnx, _fp16.onnx and _fp32_int8.onnx.
    Raises arch.CheckpointError or ExportError, before anything is written, for bad input or a failed check; with
    `keep_going` where no precision is left.
    """
    import safetensors.torch

    from . import pictures, pipeline, runtimes
    from .errors import ExportError

    runtimes.check_installed()
    network = pipeline.read(source)
    config = network.config
    trained = pipeline.read(qat) if qat else network
    if qat and not trained.quantized and not trained.observed:
        raise ExportError(f"{qat}: holds no ranges, so it is no checkpoint of quantisation-aware training.")
    if qat and (theirs := trained.fused.config) != (ours := network.fused.config):
        raise ExportError(f"{qat}: is {theirs}, another network than {source}: {ours}.")
    origin = check_origin(source, network, qat) if qat else None
    images = pictures.calibration(calibration, config.scale, config.in_chans)
    checks = [lr for lr, _ in pictures.evaluation(config.scale, config.in_chans)]
    pipeline.folder(out)

    expected = [pipeline.run(network.fused, lr).numpy() for lr in checks]
    name = name or pipeline.short_name(config)
    stem = f"aether_{name}"
    files: dict[str, bytes] = {}
    facts: dict[str, dict[str, Any]] = {}
    for kind, model in (("notfused", network.given), ("fused", network.fused)):
        if kind == "notfused" and config.fused == "full":
            continue  # the checkpoint given is a fused one
        state = {k: v.contiguous() for k, v in model.state_dict().items()}
        files[f"{stem}_{kind}.safetensors"] = safetensors.torch.save(state)
        if kind == "fused" and not overwrite:
            refuse_another(out / f"{stem}_fused.safetensors", files[f"{stem}_fused.safetensors"])
        facts[f"{stem}_{kind}.safetensors"] = {"kind": kind}
    failed: dict[str, str] = {}
    for precision in precisions:
        int8 = precision == "int8"
        try:
            model = pipeline.quantized_model(trained, images) if int8 else network.fused
            engine = pipeline.make(model, precision, checks[:3], name=name, opset=opset)
        except ExportError as error:
            failed[precision] = str(error)
            if not keep_going or len(failed) == len(precisions):
                raise
            continue
        file = f"{stem}_fp32_int8.onnx" if int8 else f"{stem}_{precision}.onnx"
        files[file] = engine.data
        facts[file] = {"kind": precision} | describe(engine, config, expected)
        if int8:
            ranges = "learnt in training" if trained.quantized else "calibrated, mse"
            if trained.observed:
                ranges += "; torch.ao's observers, which the checkpoint holds, saw outputs and not what is rounded here"
            facts[file] |= {"ranges": ranges} | float_parts(engine, trained.quantized)
    write_all(files, out)
    for file, data in files.items():
        facts[file] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
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
        "images": reference(config, expected),
        "files": facts,
        "failed": failed,
    }


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_origin(source: Path, network: Source, qat: Path) -> str | None:
    """`arch.checkpoint.weights_sha256` of the float network that `qat` began with, None where that is not known.

    It is known of checkpoints in which training.train wrote it down, and of those of the presets.
    Raises ExportError where it is another network than that of `source`.
    """
    import presets
    from arch import read_checkpoint
    from arch.checkpoint import read_origin, weights_sha256

    from .errors import ExportError

    known = [origin] if (origin := read_origin(qat)) else []
    own = sha256(qat)
    for name in () if known else presets.names():
        files = presets.load(name)["files"]
        if files.get("qat", {}).get("sha256") == own:
            paths = [presets.path(name, kind) for kind in ("notfused", "fused") if kind in files]
            known = [weights_sha256(read_checkpoint(path)) for path in paths]
    if known and weights_sha256(network.state) not in known:
        raise ExportError(
            f"{qat}: was trained from other weights than those of {source} (sha256 {known[0][:12]}); give the "
            "*_notfused checkpoint that it began with."
        )
    return known[0] if known else None


def refuse_another(path: Path, data: bytes) -> None:
    """Raise ExportError where `path` holds other weights than `data`: the files beside it are another network's."""
    from .errors import ExportError

    if path.exists() and path.read_bytes() != data:
        raise ExportError(f"{path} is there, of another network; give another --out, or --overwrite.")


def describe(engine: Any, config: Any, expected: Sequence[Any]) -> dict[str, Any]:
    """Quality on the bundled images, agreement with torch, node counts and time per frame of one engine.

    expected: the float network's outputs for the bundled evaluation images.
    """
    import math

    import numpy as np
    import torch

    from . import pictures, runtimes
    from .metrics import psnr_y

    pairs = pictures.evaluation(config.scale, config.in_chans)
    frame = torch.rand(1, config.in_chans, 270, 480, generator=torch.Generator().manual_seed(0)).numpy()
    quality, times = {}, {}
    for backend in runtimes.BACKENDS:
        run = runtimes.load(engine.data, backend)
        errors, psnrs = [], []
        for (lr, hr), wanted in zip(pairs, expected, strict=True):
            out = run(lr.numpy())
            errors.append(float(np.mean((out - wanted) ** 2)))
            psnrs.append(psnr_y(squeeze(pictures.to_image(out)), squeeze(hr), config.scale))
        mean = float(np.mean(errors))
        quality[backend] = {
            "psnr_y": round(float(np.mean(psnrs)), 4),
            "psnr_to_float": round(-10 * math.log10(mean), 2) if mean else None,
        }
        times[backend] = round(runtimes.milliseconds(run, frame), 1)
    return {
        "opset": engine.proto.opset_import[0].version,
        "quality": quality,
        "agreement": {k: dataclasses.asdict(v) for k, v in engine.agreement.items()},
        "nodes": engine.counts,
        "ms_480x270": times,
    }


def reference(config: Any, expected: Sequence[Any]) -> dict[str, Any]:
    """Y-PSNR of the float network and of bicubic on the bundled evaluation images, and their number."""
    import numpy as np

    from . import pictures
    from .metrics import imresize, psnr_y

    scale = config.scale
    pairs = pictures.evaluation(scale, config.in_chans)
    floats, bicubics = [], []
    for (lr, hr), wanted in zip(pairs, expected, strict=True):
        floats.append(psnr_y(squeeze(pictures.to_image(wanted)), squeeze(hr), scale))
        bicubic = imresize(pictures.to_image(lr.numpy()), scale)
        bicubics.append(psnr_y(squeeze(bicubic), squeeze(hr), scale) if scale > 1 else float("nan"))
    found = {"count": len(pairs), "psnr_y_float": round(float(np.mean(floats)), 4)}
    return found | ({"psnr_y_bicubic": round(float(np.mean(bicubics)), 4)} if scale > 1 else {})


def float_parts(engine: Any, learnt: bool) -> dict[str, Any]:
    """What an int8 engine computes in float, and why."""
    from . import pipeline
    from .quantizer import float_layers

    why = float_layers(engine.model)
    untrained = "has no range in the checkpoint" if learnt else "left out"
    rest = {"QuantizeLinear", "DequantizeLinear", "Conv"}
    return {
        "float_convolutions": {n: why.get(n, untrained) for n in pipeline.kept_float(engine.model)},
        "float_operators": {k: v for k, v in engine.counts.items() if k not in rest},
    }


def squeeze(image: Any) -> Any:
    """(H, W, 1) -> (H, W); other images as they are."""
    return image[:, :, 0] if image.shape[2] == 1 else image


def write_all(files: dict[str, bytes], out: Path) -> None:
    """Write all files or none. Raises ExportError."""
    from presets.files import write_all as write

    from .errors import ExportError

    try:
        write({out / name: data for name, data in files.items()})
    except OSError as error:
        raise ExportError(f"{out}: not written ({error.strerror}).") from error


def sources(model: str | None) -> list[tuple[str | None, Path, Path | None]]:
    """(name, checkpoint, checkpoint of quantisation-aware training) of a preset, a path, or all presets."""
    import presets

    from .errors import ExportError

    found = {name: files for name in presets.names() if "notfused" in (files := presets.load(name)["files"])}
    if model is not None and model not in found:
        path = Path(model)
        if path.suffix:
            return [(None, path, None)]
        raise ExportError(f"{model}: no preset and no checkpoint file; presets are {', '.join(found) or '(none)'}.")
    if not found:
        raise ExportError("There is no preset with a checkpoint; give one with --model CHECKPOINT.")

    def checkpoint(name: str, kind: str) -> Path | None:
        return presets.verified(name, kind) if kind in found[name] else None

    names = found if model is None else [model]
    return [(name, presets.verified(name, "notfused"), checkpoint(name, "qat")) for name in names]


def build_all(args: argparse.Namespace) -> None:
    """Build what the command line asks for, print the table and write report.json.

    Raises ExportError for bad input; for failed checks at the end, when all that passed is written.
    """
    from arch import CheckpointError

    from .errors import ExportError
    from .verify import write

    if args.qat and not args.model:
        raise ExportError(f"--qat {args.qat} belongs to one network; give that with --model.")
    precisions: Sequence[Precision] = [p for p in PRECISIONS if getattr(args, p)] or PRECISIONS
    old = read(args.out)
    models: list[dict[str, Any]] = []
    failed: list[str] = []
    chosen = sources(args.model)
    for name, path, qat in chosen:
        try:
            report = build(
                path,
                args.out,
                qat=args.qat or qat,
                name=name,
                precisions=precisions,
                calibration=args.calibration,
                opset=args.opset,
                overwrite=args.overwrite,
                keep_going=True,
            )
        except (ExportError, CheckpointError) as error:
            if len(chosen) == 1:
                raise
            failed.append(f"{name}: {error}")
            continue
        models.append(report)
        failed += [f"{report['name']}_{precision}: {why}" for precision, why in report["failed"].items()]
        print(table(report), flush=True)
        text = json.dumps(merged(old, models, args.out), indent=1)
        write(text.encode() + b"\n", args.out / NAME)
    if failed:
        raise ExportError("; ".join(failed))


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
    args = parser.parse_args(argv)
    return run_command("export.build", lambda: build_all(args))


if __name__ == "__main__":
    raise SystemExit(main())
