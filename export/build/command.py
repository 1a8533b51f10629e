"""What the command line asks for, model by model: files, engines, and the report on them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import PRECISIONS, build

if TYPE_CHECKING:
    from ..verify import Precision


def build_all(args: argparse.Namespace) -> None:
    """Build what the command line asks for, print the table and write report.json.

    Raises ExportError for bad input; for failed checks at the end, when all that passed is written.
    """
    from arch import CheckpointError

    from .. import report
    from ..errors import ExportError
    from ..files import write

    if args.qat and not args.model:
        raise ExportError(f"--qat {args.qat} belongs to one network; give that with --model.")
    asked: list[Precision] = [p for p in PRECISIONS if getattr(args, p)]
    precisions: list[Precision] = [*(asked or PRECISIONS)]
    if args.engine:
        from .. import engines

        options = engines.options(args.min_shapes, args.opt_shapes, args.max_shapes)
        if "int8" in precisions:
            precisions.append("int8_fp16")
    old = report.read(args.out)
    models: list[dict[str, Any]] = []
    failed: list[str] = []
    chosen = sources(args.model)
    for name, path, qat in chosen:
        try:
            made = build(
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
        models.append(made)
        failed += [f"{made['name']}_{precision}: {why}" for precision, why in made["failed"].items()]
        print(report.table(made), flush=True)
        if args.engine:
            failed += engines.build_all(made, args.out, options)
        text = json.dumps(report.merged(old, models, args.out), indent=1)
        write(text.encode() + b"\n", args.out / report.NAME)
    if failed:
        raise ExportError("; ".join(failed))


def sources(model: str | None) -> Sequence[tuple[str | None, Path, Path | None]]:
    """(name, checkpoint, checkpoint of quantisation-aware training) of a preset, a path, or all presets."""
    import presets

    from ..errors import ExportError

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
