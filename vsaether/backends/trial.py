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
import tempfile
import threading
from typing import IO, ClassVar, Protocol

import vapoursynth as vs

from .. import system
from ..engines import Engine
from ..errors import BackendError, EngineError
from . import selfcheck
from .base import tried

NO_MEMORY = "vkAllocateMemory failed"
"""ncnn's words, on stderr."""
SECONDS = 300
"""A card needs one or two."""
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
    with tempfile.TemporaryFile() as task:
        pickle.dump((backend, engine, width, height), task)
        task.seek(0)
        code, said = _watch([python, "-m", __name__], task)
    if NO_MEMORY in said:
        raise BackendError(f"out of memory on the device, in a trial of {width}x{height}")
    if code is None:
        raise BackendError(f"{backend.name} did not end a trial of {width}x{height} within {SECONDS} seconds")
    if code == WRONG:
        raise EngineError(said.splitlines()[-1])
    if code == 1:  # an exception: neither memory nor the picture
        _say(f"{backend.name} could not be tried beforehand: {said[-300:]}")
    elif code != 0:
        raise BackendError(
            f"{backend.name} ended a trial of {width}x{height} with exit code {code}, as where it runs out of memory: "
            f"{' '.join(said.split())[-200:]}"
        )


def _watch(command: list[str], task: IO[bytes]) -> tuple[int | None, str]:
    """The exit code of a process, None where it took too long, and what it said on stderr.

    It is ended as soon as it says that memory ran out: from then on a driver may wait for ever for what it did not get.
    """
    said, late = "", threading.Event()
    with subprocess.Popen(
        command,
        stdin=task,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
        errors="replace",
    ) as process:

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(SECONDS, end)
        timer.start()
        try:
            assert process.stderr is not None
            for line in process.stderr:
                said += line
                if NO_MEMORY in line:
                    break
            else:
                process.wait()
        finally:
            timer.cancel()
            process.kill()
    return None if late.is_set() else process.returncode, said.strip()


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
