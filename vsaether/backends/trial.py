"""An engine tried in a process of its own, before the process that shows the film loads it.

Where a Vulkan device's memory runs out, ncnn's plugin does not raise an error: it computes on with layers that it does
not have, and gives another picture (15 dB from the right one), or ends the process. So a size is tried elsewhere first,
with as many pictures at the same time as will run, and the result compared with the CPU's.
"""

import functools
import os
import pickle
import subprocess
import sys
from typing import ClassVar, Protocol

import vapoursynth as vs

from .. import system
from ..engines import Engine
from ..errors import BackendError, EngineError
from . import selfcheck
from .base import tried

NO_MEMORY = "vkAllocateMemory failed"
"""ncnn's words, on stderr."""
SECONDS = 300
"""A card needs one or two; drivers that run out of memory have been seen to wait for ever."""
WRONG = 3
"""Exit code where another picture was computed than the CPU's."""


class Tried(Protocol):
    """A backend that is tried: what it computes is loaded as it would be without a trial."""

    name: ClassVar[str]

    @property
    def num_streams(self) -> int:
        """Inferences at the same time."""
        ...

    def load(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        """The plugin's frames."""
        ...


@functools.lru_cache(maxsize=64)
def run(backend: Tried, engine: Engine, width: int, height: int) -> None:
    """Compute pictures of that size, once a process.

    Raises BackendError where the memory of the device does not suffice, EngineError where the picture is wrong.
    """
    python = system.python()
    if python is None:
        _say(f"{backend.name} is not tried beforehand, as there is no Python beside {sys.executable}")
        return
    try:
        done = subprocess.run(
            [python, "-m", __name__],
            input=pickle.dumps((backend, engine, width, height)),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"{backend.name} did not end a trial of {width}x{height} within {SECONDS} seconds") from None
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == 0:
        return
    if NO_MEMORY in said:
        raise BackendError(f"out of memory on the device, in a trial of {width}x{height}")
    if done.returncode == WRONG:
        raise EngineError(said.splitlines()[-1])
    if done.returncode == 1:  # an exception: neither memory nor the picture
        _say(f"{backend.name} could not be tried beforehand: {said[-300:]}")
        return
    raise BackendError(
        f"{backend.name} ended a trial of {width}x{height} with exit code {done.returncode}, as where it runs out of "
        f"memory: {' '.join(said.split())[-200:]}"
    )


def main() -> int:
    """In the process of its own."""
    backend, engine, width, height = pickle.load(sys.stdin.buffer)
    try:
        selfcheck.check(
            engine,
            lambda clip, engine: tried(clip, backend.num_streams, lambda each: backend.load(each, engine)),
            width,
            height,
            backend.name,
        )
    except EngineError as error:
        print(error, file=sys.stderr)
        return WRONG
    return 0


def _say(text: str) -> None:
    vs.core.log_message(vs.MESSAGE_TYPE_WARNING, f"aether: {text}")


if __name__ == "__main__":
    sys.exit(main())
