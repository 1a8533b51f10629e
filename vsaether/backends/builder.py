"""TensorRT engines from ONNX files, over the Python API that TensorRT and TensorRT for RTX share."""

import importlib
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from .. import system
from ..errors import ArgumentError, EngineError

Shape = tuple[int, int, int, int]
INPUT = "input"


@dataclass(frozen=True)
class BuildOptions:
    """What an engine is built for. Shapes are (N, 3, H, W); all three are the same for a static engine.

    level: the builder's optimisation level, 0 to 5. workspace: bytes of scratch memory at most, 0 for the library's
    own choice. tf32: whether float32 products may be rounded to TF32. version_compatible and any_card: the library's
    own switches for engines that other versions and other cards load, which cost speed.
    """

    least: Shape
    best: Shape
    most: Shape
    level: int = 3
    workspace: int = 0
    tf32: bool = False
    version_compatible: bool = False
    any_card: bool = False

    def __post_init__(self) -> None:
        if self.level not in range(6):
            raise ArgumentError(f"level is {self.level!r}; it must be a whole number from 0 to 5")
        for small, middle, large in zip(self.least, self.best, self.most, strict=True):
            if not 1 <= small <= middle <= large:
                raise ArgumentError(
                    f"the shapes {self.shapes} do not grow: every number of the first must be at least 1, at most that "
                    "of the second, and that at most that of the third"
                )
        if {shape[1] for shape in (self.least, self.best, self.most)} != {3}:
            raise ArgumentError(f"the shapes {self.shapes} must have 3 channels")

    @property
    def shapes(self) -> str:
        """As trtexec writes them: one shape, or least, best and most."""
        texts = ["x".join(map(str, shape)) for shape in (self.least, self.best, self.most)]
        return texts[0] if len(set(texts)) == 1 else " ".join(texts)


def static(width: int, height: int, **options: Any) -> BuildOptions:
    """Options for pictures of exactly one size, one at a time."""
    shape = (1, 3, height, width)
    return BuildOptions(shape, shape, shape, **options)


RELEASE = ((1, 3, 32, 32), (1, 3, 256, 256), (16, 3, 1080, 1920))
"""The dynamic shapes of the public release's engines."""


def parse_shape(text: str) -> Shape:
    """``1x3x1080x1920``, or trtexec's ``input:1x3x1080x1920``. Raises ArgumentError."""
    found = re.fullmatch(r"(?:input:)?(\d+)x(\d+)x(\d+)x(\d+)", text)
    if not found:
        raise ArgumentError(f"{text!r} is not a shape; write it as 1x3x1080x1920")
    n, c, h, w = map(int, found.groups())
    return n, c, h, w


def find_library(modules: Sequence[str]) -> ModuleType | None:
    """The first of these Python modules that can be imported."""
    for name in modules:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError):  # an OSError: its shared libraries are missing
            continue
    return None


def build(
    trt: ModuleType, model: bytes, options: BuildOptions, *, log_file: Path | None = None, progress: bool = False
) -> bytes:
    """The serialised engine of a checked ONNX model, strongly typed: the file's own precisions are what is built.

    trt: the module `tensorrt` or `tensorrt_rtx`. log_file: everything that the builder says, layers and their types
    included, as far as the disk has room. progress: a bar on stderr. Raises EngineError with the parser's or builder's
    own words.
    """
    messages: list[str] = []
    with _open(log_file) as file:
        log = _logger(trt, messages, file)
        builder = trt.Builder(log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log)
        if not parser.parse(model):
            found = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
            raise EngineError(f"TensorRT does not take the model: {'; '.join(found or messages)}")
        if options.least[0] == options.most[0]:
            # Releases of vs-mlrt take no engine whose batch is open. Height and width stay open, though the profile may
            # have one size only: the plugin then takes the memory itself, and says where there is too little; of a
            # static engine TensorRT gives it no context, which it does not expect.
            network.get_input(0).shape = (options.most[0], *network.get_input(0).shape[1:])
        config = builder.create_builder_config()
        config.builder_optimization_level = options.level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if not options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.any_card:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.workspace:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, options.least, options.best, options.most)
        config.add_optimization_profile(profile)
        monitor = _monitor(trt, progress)
        config.progress_monitor = monitor
        with _interrupts(monitor):
            plan = builder.build_serialized_network(network, config)
        if plan is None:
            reasons = "; ".join(messages) or "it gives no reason"
            raise EngineError(f"TensorRT could not build the engine for {options.shapes}: {reasons}")
        return bytes(plan)


def trtexec(model: Path, engine: Path, options: BuildOptions, *, major: int) -> str:
    """The command which builds that engine with NVIDIA's trtexec: its 10.x form (10.12 and later), or the 11.x one."""
    words = ["trtexec", f"--onnx={model}", f"--saveEngine={engine}"]
    for name, shape in (("min", options.least), ("opt", options.best), ("max", options.most)):
        words.append(f"--{name}Shapes={INPUT}:{'x'.join(map(str, shape))}")
    words.append(f"--builderOptimizationLevel={options.level}")
    if options.workspace:
        words.append(f"--memPoolSize=workspace:{options.workspace / 2**20:.0f}M")
    if not options.tf32:
        words.append("--noTF32")
    if options.version_compatible:
        words.append("--versionCompatible")
    if options.any_card:
        words.append("--hardwareCompatibilityLevel=ampere+")
    if major < 11:  # from 11 on there is no other kind
        words.append("--stronglyTyped")
    return " ".join([*words, "--skipInference"])


@contextmanager
def _open(path: Path | None) -> Iterator[Any]:
    if path is None:
        yield None
        return
    file = path.open("w", encoding="utf-8")
    try:
        yield file
    finally:
        with suppress(OSError):  # what the disk has no room for
            file.close()


@contextmanager
def _interrupts(monitor: Any) -> Iterator[None]:
    """Signals that Python handles, as Ctrl-C, end the build at its next step, and are then handled as ever.

    An exception that a handler raises during a build is lost in the library. Only the main thread is given signals.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        monitor.interrupted = True

    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in system.STOP_SIGNALS if main}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        monitor.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _parser_error(error: Any) -> str:
    """The parser's sentence, and the node it is about."""
    name = error.node_name() if hasattr(error, "node_name") else ""
    return f"{f'node {name}: ' if name else ''}{error.desc()}"


def _logger(trt: Any, messages: list[str], file: Any) -> Any:
    """TensorRT's logger: errors into messages, all into the file; nothing on stdout, which may carry frames."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: object, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                messages.append(text)
            if file is not None:
                with suppress(OSError):  # a full disk; an exception must not go through the library
                    file.write(f"{text}\n")

    return Logger()


def _monitor(trt: Any, progress: bool) -> Any:
    """TensorRT's progress as one bar; where it was `interrupted` the build ends at its next step."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self.bars: dict[str, tqdm] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self.bars[phase_name] = tqdm(total=num_steps, desc=phase_name, disable=not progress, leave=False)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.bars:
                self.bars[phase_name].update(1)
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.bars:
                self.bars.pop(phase_name).close()

        def close(self) -> None:
            for bar in self.bars.values():
                bar.close()

    return Monitor()
