"""Turn a finished run into a preset: python -m training.release runs/tiny_2x --name tiny_2x --status interim

Builds and verifies every file with export.build, copies the quantisation-aware checkpoint beside them, and
writes preset.json: what the engines are, how they were trained, what was measured. With --images (folders of HR images,
Set5 and so on) every engine is measured, and one that is worse on any of them than the preset's present one by more
than 0.02 dB is refused. Nothing of the preset is touched before.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import arch
import presets
from export import runtimes
from export.build import build
from export.errors import ExportError
from export.quality import measure
from export.report import table
from presets import PRECISIONS
from presets import files as written
from presets.command import run_command
from training import curve
from training.resume import find_state, read_facts

WORSE = 0.02  # dB by which a release may be below the present one


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.release", description="Turn a finished run into a preset."
    )
    parser.add_argument("run", type=Path, help="folder of training.train")
    parser.add_argument("--name", required=True, help="preset name, e.g. tiny_2x")
    parser.add_argument("--status", choices=("interim", "release"), required=True)
    parser.add_argument("--data", required=True, help="the training data in words, with its licences")
    parser.add_argument("--hardware", default=platform.processor() or platform.machine())
    parser.add_argument("--images", type=Path, action="append", default=[], help="folder of HR images to measure on")
    parser.add_argument("--allow-worse", action="store_true", help="release also what is worse than the present one")
    args = parser.parse_args(argv)
    return run_command("training.release", lambda: print(table(release(args))))


def release(args: argparse.Namespace) -> dict[str, Any]:
    """Write the preset's folder and return export.build's report."""
    out = presets.DIR / args.name
    recover(out)
    present = presets.load(args.name)["measured"] if args.name in presets.names() else {}
    refuse_unmeasured(present, args)
    training = {stage: finished(args.run, stage) for stage in ("float", "qat")}
    notfused, qat = args.run / "notfused.pth", args.run / "qat.pth"
    if notfused.exists() and training["qat"]["origin"] != written.sha256(notfused):
        raise ExportError(f"{args.run}: the qat stage did not begin with this notfused.pth; run it anew.")
    staged = out.with_name(f".{args.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        options: dict[str, Any] = {"qat": qat, "name": args.name, "precisions": PRECISIONS}
        report = build(notfused, staged, **options)
        stem = next(f for f in report["files"] if f.endswith("_fused.safetensors")).removesuffix("_fused.safetensors")
        arch.write_checkpoint(arch.read_checkpoint(qat), staged / f"{stem}_qat.safetensors")
        files = {fact["kind"]: presets.describe(staged / file) for file, fact in report["files"].items()}
        files["qat"] = presets.describe(staged / f"{stem}_qat.safetensors")
        measured = still_true(args.name, files)
        for precision in PRECISIONS if args.images else ():
            run = runtimes.load((staged / files[precision]["file"]).read_bytes(), "ov")
            figures = {folder.name: measure(run, report["scale"], folder) for folder in args.images}
            measured[precision] = measured.get(precision, {}) | figures
        if not args.allow_worse:
            refuse_worse(present, measured)
        training["qat"]["origin"] = files["notfused"]["sha256"]  # the same weights, as they are released
        preset = {
            "name": args.name,
            "variant": report["variant"],
            "scale": report["scale"],
            "receptive_radius": report["receptive_radius"],
            "status": args.status,
            "licence": "MIT",
            "options": report["config"],
            "files": files,
            "training": {
                **training,
                "hardware": args.hardware,
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "data": args.data,
            },
            "measured": measured,  # more by benchmarks.quality --presets
        }
        presets.save_in(staged, preset)
        replace(out, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return report


def replace(out: Path, staged: Path) -> None:
    """Put a whole preset in another's place; `recover` sets right what was cut off between the two renamings.

    What of the other is no file of its release, such as openmodeldb.json, is kept.
    """
    for path in staged.iterdir():
        written.sync(path)
    if out.exists():
        released = {entry["file"] for entry in presets.load(out.name)["files"].values()}
        for path in out.iterdir():
            if path.name not in released and not (staged / path.name).exists():
                written.write(staged / path.name, path.read_bytes())
        out.rename(earlier(out))
    staged.rename(out)
    written.sync(out.parent)
    shutil.rmtree(earlier(out), ignore_errors=True)


def recover(out: Path) -> None:
    """Bring a preset back that lost its name to a release that did not end, and clear what such a one left."""
    if earlier(out).exists():
        if out.exists():
            shutil.rmtree(earlier(out))
        else:
            earlier(out).rename(out)


def earlier(out: Path) -> Path:
    """Where a preset lies while another takes its place."""
    return out.with_name(f".{out.name}.old")


def refuse_unmeasured(present: dict[str, Any], args: argparse.Namespace) -> None:
    """Raise ExportError where the preset was measured on images on which the release would not be."""
    missing = {folder for figures in present.values() for folder in figures} - {f.name for f in args.images}
    if missing and not args.allow_worse:
        names = ", ".join(sorted(missing))
        raise ExportError(
            f"{args.name} was measured on {names}: give these folders with --images, or --allow-worse to release "
            "without comparing."
        )


def refuse_worse(present: dict[str, Any], measured: dict[str, Any]) -> None:
    """Raise ExportError, with the figures, where an engine is worse than the present one by more than WORSE dB."""
    worse = [
        f"{precision} {folder} {figures['psnr']:.3f} -> {measured[precision][folder]['psnr']:.3f} dB"
        for precision, folders in present.items()
        for folder, figures in folders.items()
        if measured[precision][folder]["psnr"] < figures["psnr"] - WORSE
    ]
    if worse:
        raise ExportError(
            f"Worse than the present release: {', '.join(worse)}. --allow-worse releases it all the same."
        )


def still_true(name: str, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was measured of the preset's engines whose files are the same to the byte."""
    if name not in presets.names():
        return {}
    old = presets.load(name)
    same = {kind for kind, entry in files.items() if old["files"].get(kind, {}).get("sha256") == entry["sha256"]}
    return {precision: figures for precision, figures in old["measured"].items() if precision in same}


def finished(run: Path, stage: str) -> dict[str, Any]:
    """What a stage was trained with and reached: its section of the configuration, from its state, and its curve's end.

    "origin" is the sha256 of the checkpoint that it began with. Raises ExportError where the stage is not finished.
    """
    path = run / f"curve_{stage}.csv"
    folder = find_state(run / f"state_{stage}")
    if folder is None:
        raise ExportError(f"{run} has no state_{stage}; both stages have to be finished.")
    facts = read_facts(folder)
    config, step = facts["config"], facts["step"]
    try:
        columns = curve.read(path)
        reached, psnr = int(columns["step"][-1]), columns["psnr_y"][-1]
    except (OSError, IndexError, ValueError) as error:
        raise ExportError(f"{path} is no curve of training.train ({error}); both stages have to be finished.") from None
    if not reached == step == config[stage]["steps"]:
        ends = f"the state is of step {step}, the curve ends at {reached}, the configuration asks for"
        raise ExportError(f"{run}: the {stage} stage is not finished: {ends} {config[stage]['steps']}; run it again.")
    return {"steps": step, "validation_psnr_y": psnr, "origin": facts.get("origin"), "config": config[stage]}


if __name__ == "__main__":
    sys.exit(main())
