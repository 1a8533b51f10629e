"""Backend native: our own int8 kernels (../native/network.h), the same picture on every processor."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import functools
from dataclasses import dataclass
from typing import ClassVar

import vapoursynth as vs

from .. import native_graph, native_model
from ..engines import Engine
from ..errors import ArgumentError, BackendError
from ..graph_walk import UnsupportedModelError
from .base import OnCPU

MAX_THREADS = 256
MOST_PERIOD = 1 << 20


@dataclass(frozen=True)
class Native(OnCPU):
    """This package's kernels for int8 engines on x86 processors with AVX2; faster with AVX-VNNI or AVX-512 VNNI.

    The sums are exact and every float operation has its place: the result is the same, to the bit, on all these
    processors, with any number of threads, whole or in tiles. All `threads` (0: as many as the process may run on)
    work on one frame, so `num_streams` has no effect.
    """

    name: ClassVar[str] = "native"
    fastest: ClassVar[str] = "int8"

    threads: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threads not in range(MAX_THREADS + 1):
            raise ArgumentError(
                f"threads is {self.threads!r}; it must be a whole number from 1 to {MAX_THREADS}, or 0 for all"
            )

    @classmethod
    def unusable(cls) -> str | None:
        forms = _forms()
        if not forms:
            return "the VapourSynth plugin aether is not loaded, or of another version; install this package again"
        return None if forms[0] != "plain" else "this processor has no AVX2, for which the kernels are"

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        """Why this backend cannot run that engine, or None if it can."""
        if engine.precision != "int8":
            return f"the kernels compute int8, and this engine is {engine.precision}"
        blob = _pack(engine.model)
        return blob if isinstance(blob, str) else None

    def bytes_per_pixel(self, engine: Engine) -> int:
        """Memory of a frame, per input pixel."""
        return _blob(engine).bytes_per_pixel(code_bytes=2 if _forms()[0] == "avx2" else 1)

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        return vs.core.aether.Run(clip, _blob(engine).data, threads=self.threads)

    def run_changes(self, clip: vs.VideoNode, engine: Engine, period: int) -> vs.VideoNode:
        return vs.core.aether.Run(
            clip, _blob(engine).data, threads=self.threads, radius=engine.radius, period=min(period, MOST_PERIOD)
        )


def _forms() -> list[str]:
    """The kernels' forms which run here, the fastest first; none without the plugin, or with an older one."""
    plugin = getattr(vs.core, "aether", None)
    return plugin.Forms().split(",") if plugin is not None and hasattr(plugin, "Forms") else []


def _blob(engine: Engine) -> native_model.Blob:
    blob = _pack(engine.model)
    if isinstance(blob, str):
        raise BackendError(blob)
    return blob


@functools.lru_cache(maxsize=8)
def _pack(model: bytes) -> native_model.Blob | str:
    try:
        return native_model.pack(native_graph.recognise(model))
    except UnsupportedModelError as error:
        return str(error)
