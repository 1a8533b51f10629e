"""The Python side of the native plugin (native/aether.c)."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import os
from typing import Any

import vapoursynth as vs


def register_handler() -> None:
    """Give the native function the handler of the call which it is in. Only it may call this."""
    vs.core.aether.SetHandler(handle)


def handle(clip: vs.VideoNode, **arguments: Any) -> vs.VideoNode | str:
    """Answer a call of ``core.aether.Upscale``: the clip, or one plain line that says why there is none.

    (An exception which left this function would reach the script as a traceback.)
    """
    from .filter import FILTER, upscale

    arguments = {key: os.fsdecode(value) if isinstance(value, bytes) else value for key, value in arguments.items()}
    for name in ("matrix", "range"):  # resize has numbers and names apart, too
        if f"{name}_s" in arguments:
            if name in arguments:
                return f"{FILTER}: {name} and {name}_s are given; give one of them"
            arguments[name] = arguments.pop(f"{name}_s")
    try:
        return upscale(clip, **arguments)
    except vs.Error as error:
        # A path in it may hold bytes which are no text.
        return str(error).encode("utf-8", "backslashreplace").decode()
    except Exception as error:
        import traceback

        vs.core.log_message(vs.MESSAGE_TYPE_WARNING, traceback.format_exc())
        return f"{FILTER}: internal error: {type(error).__name__}: {error}"
