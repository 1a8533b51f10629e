"""What the commands of this package share: one clear line for bad input, and the options they have in common."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path


def run_command(name: str, command: Callable[[], None]) -> int:
    """Run a command; typed errors become one line on stderr and exit code 1."""
    from arch import CheckpointError

    from .errors import ExportError

    try:
        command()
    except (CheckpointError, ExportError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"{name}: {error.name} is not installed; pip install .[export]", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


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


def summary(documentation: str | None) -> str:
    """The first line of a module's documentation."""
    return (documentation or "").split("\n", 1)[0]
