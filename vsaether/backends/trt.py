"""Backend trt: NVIDIA's TensorRT. An engine is built once for a card and a size, checked, and kept."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import ctypes
import functools
import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import vapoursynth as vs

from presets.errors import AetherNetError
from presets.tensorrt import half_around_int8

from .. import system
from ..engine_cache import EngineCache
from ..engines import Engine
from ..errors import BackendError, EngineError
from . import builder, lint, selfcheck
from .base import Common
from .builder import BuildOptions
from .half import as_float, as_half, half_ends, has_half_ends

OTHER_TYPE = "bits per sample mismatch"
"""The plugin's words for a clip that is not of the engine's type."""


@dataclass(frozen=True)
class TensorRT(Common):
    """TensorRT 10.12 or later, on NVIDIA cards: engines of every precision, each layer in that of the file.

    Frames of fp16 engines are copied to the card and back in half precision. Of int8 engines what is not int8 is
    computed in half precision, frames included.

    level, workspace, tf32: see BuildOptions. shapes: (least, best, most) as (N, 3, H, W) for one engine that takes
    every size between; by default an engine is built for exactly the size of the tile. use_cuda_graph: launch all
    kernels of a frame as one. cache: where engines are kept, by default the user's cache folder. engine_file: a ready
    engine, float16 or float32 at its ends, which is then loaded as it is, neither built nor checked; only one that you
    made yourself.
    """

    name: ClassVar[str] = "trt"
    fastest: ClassVar[str] = "fp16"
    modules: ClassVar[tuple[str, ...]] = ("tensorrt", "tensorrt_bindings")
    install: ClassVar[str] = (
        "pip install vapoursynth-mlrt-trt with NVIDIA's own package index as --extra-index-url, which has TensorRT"
    )

    level: int = 3
    workspace: int = 0
    tf32: bool = False
    shapes: tuple[builder.Shape, builder.Shape, builder.Shape] | None = None
    use_cuda_graph: bool = True
    cache: Path | None = None
    engine_file: Path | None = None

    @classmethod
    def plugin(cls) -> Any:
        """The VapourSynth plugin, or None."""
        return getattr(vs.core, cls.name, None)

    @classmethod
    def library(cls) -> ModuleType | None:
        """The Python module that builds engines, or None."""
        return builder.find_library(cls.modules)

    @classmethod
    def unusable(cls) -> str | None:
        if cls.plugin() is None:
            return f"the VapourSynth plugin {cls.name} is not loaded; {cls.install}"
        try:
            cls.plugin().DeviceProperties(0)
        except vs.Error as error:
            return f"no NVIDIA card can be used: {' '.join(str(error).split())}; install NVIDIA's driver"
        if cls.library() is None:
            return f"engines cannot be built without the Python module {cls.modules[0]}; {cls.install}"
        return None

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        if engine.precision != "int8":
            return None
        if violations := _violations(engine.model):
            return f"the graph of {engine.name} breaks rules of TensorRT: {'; '.join(violations[:3])}"
        try:
            tensorrt_form(engine)
        except EngineError as error:
            return str(error)
        return None

    @classmethod
    def note(cls, precision: str) -> str | None:
        return "TensorRT computes in float16 what is not int8" if precision == "int8" else None

    def memory(self) -> int | None:
        """Half of the card's: whole frames, and as much again for what the library wants beside them."""
        return int(self._device()["total_global_memory"]) // 2

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        if self.engine_file is not None:
            return self._run_ready(clip, self.engine_file)
        return self._run(clip, engine, self.built(engine, clip.width, clip.height))

    def built(self, engine: Engine, width: int, height: int) -> Path:
        """The path of an engine for pictures of that size, from the cache, or built, checked and kept now."""
        options = self.options(width, height)
        library = self.library()
        if library is None:
            raise BackendError(self.unusable() or f"there is no Python module {self.modules[0]}")
        cache, key = EngineCache(self.cache), self.key(engine, options, library)

        def build() -> bytes:
            _say(f"building {engine.name} for {options.shapes} on {self._device()['name']}; this is done once")
            log = cache.log(key)
            try:
                return builder.build(library, to_build(engine), options, log_file=log, progress=True)
            except EngineError as error:
                raise EngineError(f"{error}; all that it said is in {log}") from error

        def check(path: Path) -> None:
            selfcheck.check(engine, lambda clip, _: self._run(clip, engine, path), width, height, self.name)

        return cache.get(key, build, check, wait=_say)

    def options(self, width: int, height: int) -> BuildOptions:
        """What an engine for pictures of that size is built with. Raises EngineError where `shapes` has no such one."""
        options = builder.static(width, height, level=self.level, workspace=self.workspace, tf32=self.tf32)
        if self.shapes is None:
            return options
        least, best, most = self.shapes
        if not (least[3] <= width <= most[3] and least[2] <= height <= most[2]):
            raise EngineError(
                f"the shapes {self.shapes} have no picture of {width}x{height}; widen them, or leave them out"
            )
        return replace(options, least=least, best=best, most=most)

    def key(self, engine: Engine, options: BuildOptions, library: ModuleType) -> dict[str, str | int | bool]:
        """Everything that the built engine depends on; neither streams nor CUDA graphs do."""
        device, version = self._device(), _text(self.plugin().Version())
        return {
            "backend": self.name,
            "engine": engine.name,
            "onnx": hashlib.sha256(to_build(engine)).hexdigest(),
            **{f"option {name}": str(value) for name, value in asdict(options).items()},
            "shapes": options.shapes,
            "library": str(library.__version__),
            "plugin": str(version.get("tensorrt_version", "")),
            "cuda": str(version.get("cuda_runtime_version", "")),
            "driver": f"{device.get('driver_version', '')} {driver_version()}",
            "gpu": str(device["name"]),
            "capability": f"{device.get('major')}.{device.get('minor')}",
        }

    def _device(self) -> dict[str, Any]:
        try:
            return _text(self.plugin().DeviceProperties(self.device_id))
        except vs.Error as error:
            raise BackendError(f"device {self.device_id} cannot be used: {error}") from error

    def _run(self, clip: vs.VideoNode, engine: Engine, path: Path) -> vs.VideoNode:
        """An engine that was built of `to_build`, whose ends have its type."""
        return self._load(as_half(clip) if has_half_ends(to_build(engine)) else as_float(clip), path)

    def _run_ready(self, clip: vs.VideoNode, path: Path) -> vs.VideoNode:
        """An engine whose ends are not known: the plugin takes no other type than theirs."""
        try:
            return self._load(as_float(clip), path)
        except vs.Error as error:
            if OTHER_TYPE not in str(error):
                raise
        return self._load(as_half(clip), path)

    def _load(self, clip: vs.VideoNode, path: Path) -> vs.VideoNode:
        return self.plugin().Model(
            clip,
            engine_path=str(path),
            device_id=self.device_id,
            use_cuda_graph=self.use_cuda_graph,
            num_streams=self.num_streams,
        )


def tensorrt_form(engine: Engine) -> bytes:
    """The ONNX file that TensorRT is given, float32 at its ends: of an int8 engine the form with float16 around int8.

    Raises EngineError where an int8 engine cannot have it.
    """
    if engine.precision != "int8":
        return engine.model
    try:
        return _half_around_int8(engine.model)
    except AetherNetError as error:
        raise EngineError(f"{engine.name}: {error}") from error


def to_build(engine: Engine) -> bytes:
    """The ONNX file of which an engine is built: float16 at the ends wherever it is inside."""
    if engine.precision == "fp32":
        return engine.model
    model = tensorrt_form(engine)
    return half_ends(model) or model


_half_around_int8 = functools.lru_cache(maxsize=8)(half_around_int8)


@functools.lru_cache(maxsize=8)
def _violations(model: bytes) -> tuple[str, ...]:
    return tuple(lint.violations(model))


@functools.cache
def driver_version() -> str:
    """The version of NVIDIA's driver, from its management library; "" where that is missing."""
    try:
        library = ctypes.CDLL(system.NVIDIA_MANAGEMENT)
        text = ctypes.create_string_buffer(96)
        if library.nvmlInit_v2() or library.nvmlSystemGetDriverVersion(text, len(text)):
            return ""
        return text.value.decode()
    except (OSError, AttributeError):
        return ""


def _text(facts: dict[str, Any]) -> dict[str, Any]:
    """What a plugin says, as text instead of bytes."""
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in facts.items()}


def _say(text: str) -> None:
    vs.core.log_message(vs.MESSAGE_TYPE_WARNING, f"aether: {text}")
