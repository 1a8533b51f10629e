"""AetherNet super-resolution as a VapourSynth filter.

    import vapoursynth as vs
    import vsaether

    clip = vs.core.bs.VideoSource("input.mkv")
    vsaether.upscale(clip, engine="small_2x_int8").set_output()

``vs.core.aether.Upscale(clip, engine="small_2x_int8")`` is the same filter without an import. Where the engine runs is
chosen by ``backend``; vsaether.engines lists engines, vsaether.backends what can run here.
"""

from presets.version import version

from . import backends, engines
from .errors import AetherError, ArgumentError, BackendError, CacheError, ClipError, EngineError
from .filter import upscale

__version__ = version()

__all__ = [
    "AetherError",
    "ArgumentError",
    "BackendError",
    "CacheError",
    "ClipError",
    "EngineError",
    "__version__",
    "backends",
    "engines",
    "upscale",
]
