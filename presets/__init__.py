"""The released networks: one folder a preset, with a preset.json that describes its files.

A preset is named like small_2x, its files by their kind. An engine's name is ``<preset>_<precision>``, e.g.
small_2x_int8. Each file's SHA-256 stands in preset.json, and is compared here, by `read`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from . import files
from .errors import PresetError

Precision = Literal["fp32", "fp16", "int8"]
Kind = Literal["notfused", "fused", "qat", "fp32", "fp16", "int8"]

DIR = Path(__file__).resolve().parent
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
"""The kinds of file that are engines. The others are checkpoints: notfused, fused and qat."""


def names() -> list[str]:
    """The presets that there are, in alphabetical order."""
    return sorted(p.parent.name for p in DIR.glob("[!.]*/preset.json"))


def engines() -> list[str]:
    """The names of the presets' engines, in the presets' order; all three of a preset whose description is damaged."""
    found = []
    for name in names():
        try:
            kinds = load(name)["files"].keys()
        except PresetError:
            kinds = PRECISIONS
        found += [f"{name}_{precision}" for precision in PRECISIONS if precision in kinds]
    return found


def split(engine: str) -> tuple[str, str]:
    """The preset and the precision of an engine's name."""
    name, _, precision = engine.rpartition("_")
    return name, precision


def load(name: str) -> dict[str, Any]:
    """The description of a preset. Raises PresetError where there is none of that name, or it is damaged."""
    if name not in names():
        raise PresetError(f"there is no preset {name!r}; presets: {', '.join(names()) or 'none are installed'}")
    path = DIR / name / "preset.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(entry[key], str) for entry in facts["files"].values() for key in ("file", "sha256")):
            raise ValueError("a file has no name or no SHA-256")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise PresetError(f"the description of the preset {name} is damaged: {path} ({error}); reinstall") from error
    return facts


def save(name: str, facts: dict[str, Any]) -> None:
    """Write the description of a preset. Raises PresetError where that is impossible."""
    save_in(DIR / name, facts)


def save_in(folder: Path, facts: dict[str, Any]) -> None:
    """Write the description of a preset into its folder, wherever that lies. Raises PresetError as `save` does."""
    path = folder / "preset.json"
    try:
        files.write(path, json.dumps(facts, indent=1).encode() + b"\n")
    except OSError as error:
        raise PresetError(f"{path}: not written ({error.strerror})") from error


def describe(path: Path) -> dict[str, Any]:
    """What the description of a preset holds of a file: its name, SHA-256 and size in bytes."""
    return {"file": path.name, "sha256": files.sha256(path), "bytes": path.stat().st_size}


def path(name: str, kind: str) -> Path:
    """Where a file of a preset lies. Raises PresetError where there is none of that kind in the description."""
    return DIR / name / _entry(name, kind)["file"]


def read(name: str, kind: str) -> bytes:
    """The content of a file of a preset, which is that of the release.

    Raises PresetError where there is no such file, it cannot be read, or its SHA-256 is not the released one.
    """
    entry = _entry(name, kind)
    found = DIR / name / entry["file"]
    try:
        data = found.read_bytes()
    except OSError as error:
        raise PresetError(f"{found}, of the preset {name}, cannot be read ({error.strerror}); reinstall") from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise PresetError(f"{found} is damaged (its SHA-256 is not the released one); reinstall")
    return data


def verified(name: str, kind: str) -> Path:
    """Where a file of a preset lies, whose content has been compared as by `read`, for what reads files itself.

    Raises PresetError as `read` does.
    """
    read(name, kind)
    return path(name, kind)


def _entry(name: str, kind: str) -> dict[str, Any]:
    entries = load(name)["files"]
    if kind not in entries:
        raise PresetError(f"the preset {name} has no file of the kind {kind!r}; it has {', '.join(entries)}")
    return entries[kind]
