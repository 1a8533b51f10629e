"""TensorRT engines from ONNX files, over the Python API that TensorRT and TensorRT for RTX share."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from ..errors import EngineError

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class BuildOptions:
    """What an engine is built for. Shapes are (N, 3, H, W); `least` and `most` are `best` for a static engine."""

    least: Shape
    best: Shape
    most: Shape
    level: int = 3
    workspace: int = 0
    tf32: bool = False


def static(width: int, height: int) -> BuildOptions:
    """Options for pictures of exactly one size, one at a time."""
    shape = (1, 3, height, width)
    return BuildOptions(shape, shape, shape)


def build(trt: ModuleType, model: bytes, options: BuildOptions) -> bytes:
    """The serialised engine of a checked ONNX model. Raises EngineError with the parser's or builder's own words."""
    messages: list[str] = []

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: object, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                messages.append(text)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        messages += [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise EngineError(f"TensorRT does not take the model: {'; '.join(messages)}")
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    profile = builder.create_optimization_profile()
    profile.set_shape("input", options.least, options.best, options.most)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT could not build the engine: {'; '.join(messages) or 'it gives no reason'}")
    return bytes(plan)
