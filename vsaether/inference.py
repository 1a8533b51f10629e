"""RGB through a network: in tiles that fit the memory, and without what repeats."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import vapoursynth as vs

from . import reuse, tiling
from .backends import Backend
from .engines import Engine
from .errors import BackendError, EngineError

OUT_OF_MEMORY = re.compile(
    r"out of memory|insufficient gpu memory|OutOfMemory|ALLOC_FAILED|ALLOCATION_FAILED|failed to allocate memory",
    re.IGNORECASE,
)
"""What the plugins say where a device's memory does not suffice: CUDA, TensorRT's engines, cuDNN and cuBLAS, and ONNX
Runtime's arena."""


@dataclass(frozen=True)
class Inference:
    """An engine on a backend."""

    backend: Backend
    engine: Engine
    tile: tuple[int, int] | None
    overlap: tuple[int, int] | None
    reuse: bool
    kinds: int
    """How many kinds of pictures take turns in a clip: each resembles only its own."""
    warn: Callable[[str], None]

    def run(self, rgb: vs.VideoNode) -> vs.VideoNode:
        """RGBS or RGBH frames of scale times the size. Raises BackendError, EngineError, or ArgumentError of tiles."""
        per_pixel = self.backend.bytes_per_pixel(self.engine)
        tiles = first = self._plan(rgb, per_pixel, self.backend.memory())
        while True:
            try:
                result = self._in_tiles(rgb, tiles)
            except BackendError as error:
                if not OUT_OF_MEMORY.search(str(error)):
                    raise
                before = tiles.x.tile * tiles.y.tile
                tiles = self._plan(rgb, per_pixel, before * per_pixel // 2)
                if tiles.x.tile * tiles.y.tile >= before:  # a tile size was given, or this is the smallest
                    raise
            else:
                if tiles != first:
                    self.warn(f"too little memory on the device; tiles of {tiles.x.tile}x{tiles.y.tile} are taken")
                return result

    def _plan(self, rgb: vs.VideoNode, per_pixel: int, memory: int | None) -> tiling.Tiling:
        return tiling.plan(
            rgb.width,
            rgb.height,
            radius=self.engine.radius,
            bytes_per_pixel=per_pixel,
            memory=memory,
            tile=self.tile,
            overlap=self.overlap,
        )

    def _in_tiles(self, rgb: vs.VideoNode, tiles: tiling.Tiling) -> vs.VideoNode:
        period = tiles.count * self.kinds

        def network(clip: vs.VideoNode) -> vs.VideoNode:
            return (
                reuse.compute_once(clip, lambda each: self._infer(each, period), period)
                if self.reuse
                else self._infer(clip, period)
            )

        return tiling.upscale_tiles(rgb, tiles, self.engine.scale, network)

    def _infer(self, rgb: vs.VideoNode, period: int) -> vs.VideoNode:
        backend, engine = self.backend, self.engine
        try:
            result = backend.run_changes(rgb, engine, period) if self.reuse else backend.run(rgb, engine)
        except vs.Error as error:
            raise BackendError(f"the backend {backend.name} cannot run the engine {engine.name}: {error}") from error
        if (result.width, result.height) != (rgb.width * engine.scale, rgb.height * engine.scale):
            raise EngineError(
                f"{engine.path} says that it scales by {engine.scale}, but makes {result.width}x{result.height} of "
                f"{rgb.width}x{rgb.height}"
            )
        return result
