"""The version, which is written down in setup.cfg alone."""

from __future__ import annotations

import configparser
import functools
import importlib.metadata
from pathlib import Path

NAME = "aethernet"


@functools.cache
def version() -> str:
    """The version of the code that runs: the checkout's, else that of the installed package; "unknown" of a copy."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[1] / "setup.cfg", encoding="utf-8")  # one that is missing is no error
    if setup.get("metadata", "name", fallback="") == NAME:
        return setup["metadata"]["version"]
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
