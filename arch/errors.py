"""Typed errors of the network package."""

from __future__ import annotations

from presets.errors import AetherNetError


class CheckpointError(AetherNetError, ValueError):
    """A checkpoint is missing, unreadable, foreign, mixed or truncated; the message says which and what to do."""
