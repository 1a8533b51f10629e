"""What the commands of this package share: options, and files that are not replaced."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from presets.command import add_version, run_command, summary

__all__ = ["add_version", "refuse_existing", "run_command", "size", "summary"]


def refuse_existing(target: Path, overwrite: bool) -> None:
    """Raise ExportError where `target` exists and may not be replaced."""
    from .errors import ExportError

    if target.exists() and not overwrite:
        raise ExportError(f"{target} exists; give another name, or --overwrite.")


def size(text: str) -> tuple[int, int]:
    """HxW -> (height, width), for argparse."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not all(8 <= int(n) <= 16384 for n in match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give HEIGHTxWIDTH of 8 to 16384 each, e.g. 540x960")
    return int(match[1]), int(match[2])
