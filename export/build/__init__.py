"""Build engine files: the function behind python -m export.build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..verify import Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


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
    precisions: fp32, fp16, int8, and int8_fp16, which is int8 with float16 around it, for TensorRT.
    calibration: a folder of images to choose int8 ranges on where no checkpoint has them; default: bundled ones.
    overwrite: replace files of another network; those of the same one are replaced anyway.
    keep_going: where a precision fails its check, make the others; the report's "failed" then says which and why.

    Writes aether_<name>_{fused,notfused}.safetensors, _fp32.onnx, _fp16.onnx, _fp32_int8.onnx and _fp16_int8.onnx.
    Raises arch.CheckpointError or ExportError, before anything is written, for bad input or a failed check; with
    `keep_going` where no precision is left.
    """
    from .. import files, measure, pictures, pipeline, report, runtimes  # torch and the runtimes are heavy
    from ..errors import ExportError
    from ..source import read, read_trained

    runtimes.check_installed()
    network = read(source)
    trained, origin = read_trained(qat, network, source) if qat else (network, None)
    config = network.config
    images = pictures.calibration(calibration, config.scale, config.in_chans)
    checks = [lr for lr, _ in pictures.evaluation(config.scale, config.in_chans)][: pictures.CHECKS]
    files.folder(out)
    name = name or network.name
    contents = files.weights(network, name)
    if not overwrite:
        files.refuse_another(contents, out)
    facts: dict[str, dict[str, Any]] = {
        file: {"kind": file.rpartition("_")[2].removesuffix(".safetensors")} for file in contents
    }
    expected = measure.float_outputs(network)
    quantised = None
    failed: dict[str, str] = {}
    for precision in precisions:
        try:
            if int8 := precision.startswith("int8"):
                quantised = quantised or pipeline.quantise(trained, images)
            model = quantised if int8 and quantised else network.fused
            engine = pipeline.make(model, precision, checks, name=name, opset=opset)
        except ExportError as error:
            failed[precision] = str(error)
            if not keep_going or len(failed) == len(precisions):
                raise
            continue
        file = pipeline.file_name(name, precision)
        contents[file] = engine.data
        facts[file] = {"kind": precision} | measure.describe(engine, config, expected)
        if int8:
            facts[file] |= measure.int8_facts(engine, trained)
    files.write_all(contents, out)
    made = {file: facts[file] | files.identity(data) for file, data in contents.items()}
    sources = (source, qat, origin)
    return report.of(network, name, made, sources=sources, images=measure.reference(config, expected), failed=failed)
