"""Shortens an example configuration for a test: reads it, changes entries, writes it again."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import tomli_w


def shorten_toml(source: Path, target: Path, changes: dict[str, Any]) -> Path:
    """Write the TOML file `source` to `target` with entries changed; keys are paths such as "logger.total_iter"."""
    config = tomllib.loads(source.read_text())
    _change(config, changes)
    target.write_text(tomli_w.dumps(config))
    return target


def shorten_yaml(source: Path, target: Path, changes: dict[str, Any]) -> Path:
    """The same for YAML."""
    import yaml  # pyright: ignore[reportMissingModuleSource]

    config = yaml.safe_load(source.read_text())
    _change(config, changes)
    target.write_text(yaml.safe_dump(config, sort_keys=False))
    return target


def _change(config: dict[str, Any], changes: dict[str, Any]) -> None:
    """Set entries; None removes one. A path through a missing section is a mistake in the test."""
    for path, value in changes.items():
        *sections, key = path.split(".")
        place = config
        for section in sections:
            place = place[section]
        if value is None:
            del place[key]
        else:
            place[key] = value
