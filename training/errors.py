"""The errors of training."""

from __future__ import annotations

from presets.errors import AetherNetError


class DataError(AetherNetError, ValueError):
    """The training data is missing or unusable; the message says what was given and what is needed."""


class TrainingError(AetherNetError, RuntimeError):
    """The run cannot go on; the message says why, and which state is still good."""


class PlotError(AetherNetError, ValueError):
    """There is nothing to plot, or no way to; the message says which."""


class RegistrationError(AetherNetError, RuntimeError):
    """A trainer already has another network of one of our names."""
