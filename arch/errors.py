"""Typed errors of the network package."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint is missing, unreadable, foreign, mixed or truncated; the message says which and what to do."""
