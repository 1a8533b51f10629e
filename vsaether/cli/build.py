"""The command ``vsaether build``: a TensorRT engine as a file of one's own, or the commands that make it elsewhere."""

from dataclasses import dataclass
from pathlib import Path

import vsaether
from presets import files
from vsaether.backends import TensorRT, TensorRTRTX, builder, lint, trt
from vsaether.errors import EngineError, MediaError

LIBRARIES = {"tensorrt": TensorRT, "tensorrt-rtx": TensorRTRTX}


@dataclass(frozen=True)
class EngineBuild:
    """What to build: an engine's name or file, where to, for which shapes, with which library."""

    engine: str
    output: Path
    library: str
    shapes: tuple[str, str, str]
    level: int = 3
    workspace: int = 0  # MiB
    tf32: bool = False
    version_compatible: bool = False
    any_card: bool = False
    overwrite: bool = False


def build(job: EngineBuild) -> str:
    """Build, and say what was built; without the library, the commands for NVIDIA's trtexec instead.

    The engine and ``<output>.log``, the builder's list of layers and types, appear when both are complete; of a build
    that fails the log alone. Of an int8 engine the form with float16 around int8 is built; without the library it is
    written beside, as the commands need it. Raises MediaError where a file is in the way, the graph breaks a rule or
    the build fails, or vapoursynth.Error where the engine is not taken.
    """
    engine = vsaether.engines.resolve(job.engine)
    least, best, most = map(builder.parse_shape, job.shapes)
    options = builder.BuildOptions(
        least,
        best,
        most,
        level=job.level,
        workspace=job.workspace << 20,
        tf32=job.tf32,
        version_compatible=job.version_compatible,
        any_card=job.any_card,
    )
    if violations := lint.violations(engine.model):
        raise MediaError(f"{engine.name} is not built: {'; '.join(violations)}")
    backend = LIBRARIES[job.library]
    library, model, note = backend.library(), trt.tensorrt_form(engine), backend.note(engine.precision)
    source = engine.path if model == engine.model else job.output.with_name(f"{job.output.stem}_fp16_int8.onnx")
    for path in (job.output,) if library or source == engine.path else (job.output, source):
        if path.exists() and path.samefile(engine.path):
            raise MediaError(f"{path} is the engine that is built; give another name")
        if path.exists() and not job.overwrite:
            raise MediaError(f"{path} exists; give another name, or --overwrite")
    if library is None:
        lines = [f"{job.library} is not installed here ({backend.install}); with NVIDIA's trtexec:"]
        if source != engine.path:
            files.write(source, model)
            lines.append(f"# {source}: {note}")
        for major, form in ((10, "10.12 and later"), (11, "11")):
            lines.append(f"# TensorRT {form}\n{builder.trtexec(source, job.output, options, major=major)}")
        return "\n".join(lines)
    log = job.output.with_name(f"{job.output.name}.log")
    temporary, temporary_log = files.temporary(job.output), files.temporary(log)
    try:
        try:
            data = builder.build(library, model, options, log_file=temporary_log, progress=True)
        except EngineError as error:
            temporary_log.replace(log)
            raise MediaError(f"{error}; all that it said is in {log}") from error
        files.create(temporary, data)
        files.sync(temporary_log)
        temporary_log.replace(log)
        temporary.replace(job.output)
        files.sync(job.output.parent)
    finally:
        temporary.unlink(missing_ok=True)
        temporary_log.unlink(missing_ok=True)
    made = f"{job.output}: {engine.name} for {options.shapes}, {len(data):,} bytes, {job.library} {library.__version__}"
    return f"{made}; {note}" if note else made
