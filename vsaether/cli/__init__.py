"""The command line: ``vsaether upscale | engines | info | demo``."""

from .commands import main, parser

__all__ = ["main", "parser"]
