"""TensorRT engines of the files that were made, or the commands which make them where no builder is installed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import layers
from .errors import ExportError
from .files import identity, write_all

if TYPE_CHECKING:
    from types import ModuleType

    from vsaether.backends.builder import BuildOptions

COMMANDS = "trtexec.txt"
FORMS = ((10, "10.12 and later"), (11, "11"))


def options(least: str | None, best: str, most: str | None) -> BuildOptions:
    """What engines are built for: `best` alone, or every shape between `least` and `most`. Raises ExportError."""
    from vsaether.backends import builder  # the only thing that needs VapourSynth here
    from vsaether.errors import ArgumentError

    try:
        small, middle, large = (builder.parse_shape(text or best) for text in (least, best, most))
        return builder.BuildOptions(small, middle, large)
    except ArgumentError as error:
        raise ExportError(str(error)) from None


def build_all(report: dict[str, Any], out: Path, options: BuildOptions) -> list[str]:
    """Build an engine of each ONNX file of a report on one model, say so on the terminal, and add it to the report.

    Of int8 files only the one with float16 around it: TensorRT computes what is not int8 in the type of the file.
    Without a builder the commands are written to trtexec.txt. Returns what failed, one line each.
    """
    chosen = [n for n, f in report["files"].items() if n.endswith(".onnx") and f["kind"] != "int8"]
    library = _library()
    if library is None:
        text = commands([out / name for name in chosen], options)
        write_all({f"{report['name']}_{COMMANDS}": text.encode()}, out)
        print(
            f"No TensorRT is installed here, so no engine was built. The commands for NVIDIA's trtexec:\n{text}",
            end="",
            flush=True,
        )
        return []
    failed = []
    for name in chosen:
        try:
            report["files"][name]["engine"] = facts = _build(library, out / name, options)
        except ExportError as error:
            failed.append(f"{name}: {error}")
            continue
        moved = facts["layers"]["bytes_a_frame"]
        print(
            f"{facts['file']}: {facts['builder']}, {options.shapes}, {facts['bytes']:,} bytes, layers "
            f"{facts['layers']['layers']}, {facts['layers']['percent_int8']} % int8"
            + (f", {moved / 1e9:.2f} GB moved a frame" if moved else ""),
            flush=True,
        )
    return failed


def commands(files: list[Path], options: BuildOptions) -> str:
    """The trtexec commands of several files, in the forms of TensorRT 10 and 11."""
    from vsaether.backends import builder

    lines = []
    for major, form in FORMS:
        lines.append(f"# TensorRT {form}")
        lines += [builder.trtexec(file, file.with_suffix(".engine"), options, major=major) for file in files]
    return "\n".join(lines) + "\n"


def _build(library: ModuleType, file: Path, options: BuildOptions) -> dict[str, Any]:
    """Write the engine of an ONNX file, and all that the builder said of it. Raises ExportError."""
    from vsaether.backends import builder, lint
    from vsaether.errors import EngineError

    model = file.read_bytes()
    if broken := lint.violations(model):
        raise ExportError("; ".join(broken))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "builder.log"
        try:
            engine = builder.build(library, model, options, log_file=log, progress=True)
        except EngineError as error:
            raise ExportError(str(error)) from None
        said = log.read_text(encoding="utf-8")
    target = file.with_suffix(".engine")
    write_all({target.name: engine, f"{target.name}.log": said.encode()}, file.parent)
    return {
        "file": target.name,
        "builder": f"{library.__name__} {library.__version__}",
        "shapes": options.shapes,
        **identity(engine),
        "layers": layers.summarise(said),
    }


def _library() -> ModuleType | None:
    """TensorRT, or else TensorRT for RTX."""
    from vsaether.backends import TensorRT, TensorRTRTX

    return TensorRT.library() or TensorRTRTX.library()
