"""Typed errors of the export package."""

from __future__ import annotations

from presets.errors import AetherNetError


class ExportError(AetherNetError, ValueError):
    """The input cannot be exported, or what was exported failed its check; the message says which and why."""
