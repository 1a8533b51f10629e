"""Completion of the command line in a shell: ``vsaether --print-completion bash``."""

import argparse
from collections.abc import Iterable
from pathlib import Path

import shtab


def add(parser: argparse.ArgumentParser, commands: Iterable[argparse.ArgumentParser]) -> None:
    """Give a parser the option that prints its completion; files and folders are completed where commands take them."""
    shtab.add_argument_to(parser, ["--print-completion"], help="print the completion of a shell, and exit")
    for command in commands:
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.DIRECTORY if action.metavar == "FOLDER" else shtab.FILE  # type: ignore[attr-defined]
