"""The root of all error classes of this project, and the errors of this package. Nothing is imported here."""


class AetherNetError(Exception):
    """Root of the project's errors: a plain sentence with what was given, what is allowed and what to do.

    Each package's own errors derive from it, and from the built-in error of their kind: vsaether's from
    vapoursynth.Error, the others' from ValueError or RuntimeError.
    """


class PresetError(AetherNetError, ValueError):
    """A preset, or a file of one, is unknown, missing or damaged."""


class EngineFileError(AetherNetError, ValueError):
    """An ONNX file is unreadable, or not an engine of ours."""
