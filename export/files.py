"""Last step of an export: the files of one network, written together or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from presets import files

from .errors import ExportError

if TYPE_CHECKING:
    from .source import Source


def weights(source: Source, name: str) -> dict[str, bytes]:
    """The checkpoints of a network by file name: fused, and as trained where it was not given fused."""
    import safetensors.torch

    found = {}
    for kind, model in (("notfused", source.given), ("fused", source.fused)):
        if kind == "fused" or source.config.fused != "full":
            state = {k: v.contiguous() for k, v in model.state_dict().items()}
            found[f"aether_{name}_{kind}.safetensors"] = safetensors.torch.save(state)
    return found


def refuse_another(contents: Mapping[str, bytes], out: Path) -> None:
    """Raise ExportError where the folder has other fused weights of that name: its files are another network's."""
    for name, data in contents.items():
        path = out / name
        if name.endswith("_fused.safetensors") and path.exists() and path.read_bytes() != data:
            raise ExportError(f"{path} is there, of another network; give another --out, or --overwrite.")


def identity(data: bytes) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write(data: bytes, path: Path) -> None:
    """Write a file under a temporary name, fsync it and rename it. Raises ExportError where that is impossible."""
    write_all({path.name: data}, path.parent)


def write_all(contents: Mapping[str, bytes], out: Path) -> None:
    """Write all files of a folder or none. Raises ExportError."""
    try:
        files.write_all({out / name: data for name, data in contents.items()})
    except OSError as error:
        raise ExportError(f"{out / next(iter(contents))}: not written ({error.strerror}).") from error


def folder(path: Path) -> Path:
    """A folder to write to, made where it is missing. Raises ExportError where it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{path}: the folder cannot be made ({error.strerror}).") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ExportError(f"{path}: the folder cannot be written.")
    return path
