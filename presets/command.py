"""What the commands of all packages share: one clear line for what went wrong, and an exit code.

vsaether's own command line reports in JSON as well, and ends with other codes for other signals: see vsaether.cli.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress

from .errors import AetherNetError
from .version import version


def run_command(name: str, command: Callable[[], int | None]) -> int:
    """Run a command; returns its exit code, 0 for None.

    The project's errors and the system's become one line on stderr and 1, as does a package that is not installed;
    Ctrl-C becomes 130. All else is a defect, and its traceback is shown.
    """
    try:
        return command() or 0
    except AetherNetError as error:
        line, code = str(error), 1
    except ModuleNotFoundError as error:
        line, code = f"{error.name} is not installed; pip install .[export]", 1
    except OSError as error:
        line, code = f"{error.filename}: {error.strerror}" if error.filename else str(error), 1
    except KeyboardInterrupt:
        line, code = "interrupted", 130
    say(name, line)
    return code


def say(name: str, text: str) -> None:
    """What a command has to tell, as one line on stderr; nothing where the terminal is gone."""
    with suppress(OSError):
        print(f"{name}: {' '.join(text.split())}", file=sys.stderr, flush=True)


def summary(documentation: str | None) -> str:
    """The first line of a module's documentation."""
    return (documentation or "").split("\n", 1)[0]


def add_version(parser: argparse.ArgumentParser) -> None:
    """The option --version."""
    parser.add_argument("--version", action="version", version=f"AetherNet {version()}")
