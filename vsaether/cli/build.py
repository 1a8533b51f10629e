"""The command ``vsaether build``: a TensorRT engine as a file of one's own, or the commands that make it elsewhere."""

from dataclasses import dataclass
from pathlib import Path

import vsaether
from presets import files
from vsaether.backends import TensorRT, TensorRTRTX, builder, lint
from vsaether.errors import MediaError

LIBRARIES = {"tensorrt": TensorRT, "tensorrt-rtx": TensorRTRTX}


@dataclass(frozen=True)
class EngineBuild:
    """What to build: an engine's name or file, where to, for which shapes, with which library."""

    engine: str
    output: Path
    library: str
    shapes: tuple[str, str, str]
    level: int = 3
    overwrite: bool = False


def build(job: EngineBuild) -> str:
    """Build, and say what was built; without the library, the commands for NVIDIA's trtexec instead.

    The engine and ``<output>.log``, the builder's list of layers and types, appear when both are complete. Raises
    MediaError where a file is in the way or the graph breaks a rule, or vapoursynth.Error where it is not taken.
    """
    engine = vsaether.engines.resolve(job.engine)
    least, best, most = map(builder.parse_shape, job.shapes)
    options = builder.BuildOptions(least, best, most, level=job.level)
    if violations := lint.violations(engine.model):
        raise MediaError(f"{engine.name} is not built: {'; '.join(violations)}")
    if job.output.exists() and not job.overwrite:
        raise MediaError(f"{job.output} exists; give another name, or --overwrite")
    trt = LIBRARIES[job.library].library()
    if trt is None:
        lines = [f"{job.library} is not installed here ({LIBRARIES[job.library].install}); with NVIDIA's trtexec:"]
        for major, form in ((10, "10.12 and later"), (11, "11")):
            lines.append(f"# TensorRT {form}\n{builder.trtexec(engine.path, job.output, options, major=major)}")
        return "\n".join(lines)
    log = job.output.with_name(f"{job.output.name}.log")
    temporary, temporary_log = files.temporary(job.output), files.temporary(log)
    try:
        data = builder.build(trt, engine.model, options, log_file=temporary_log, progress=True)
        files.create(temporary, data)
        files.sync(temporary_log)
        temporary_log.replace(log)
        temporary.replace(job.output)
        files.sync(job.output.parent)
    finally:
        temporary.unlink(missing_ok=True)
        temporary_log.unlink(missing_ok=True)
    return f"{job.output}: {engine.name} for {options.shapes}, {len(data):,} bytes, {job.library} {trt.__version__}"
