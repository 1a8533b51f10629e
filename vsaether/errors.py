"""The errors of vsaether. All are vapoursynth.Error as well, so a script needs to catch only that."""

import vapoursynth as vs

from presets.errors import AetherNetError


class AetherError(AetherNetError, vs.Error):
    """Base of vsaether's errors: a plain sentence with what was given, what is allowed and what to do."""


class EngineError(AetherError):
    """An engine is unknown, unreadable or not one of ours."""


class BackendError(AetherError):
    """A backend is unknown, or cannot run on this machine."""


class ClipError(AetherError):
    """The clip, or its colour tags, cannot be processed as they are."""


class ArgumentError(AetherError):
    """An argument is outside what is allowed."""


class CacheError(AetherError):
    """The cache of built engines cannot be written, or is not safe to use."""


class MediaError(AetherError):
    """A file cannot be read, or written as it was asked for."""
