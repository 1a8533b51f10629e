"""The command line: ``vsaether upscale | engines | info | demo``."""

from .commands import main

__all__ = ["main"]
