"""What a job is, so that it is told from another: its input, its settings, and what computes the result."""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from vsaether.engines import Engine

from .settings import Job, settings

_FORMAT = 1  # of job folders
_SAMPLES, _SAMPLED = 64, 1 << 16
_VERSIONS = ("aethernet", "av", "numpy", "vapoursynth")


def description(job: Job, engine: Engine, backend: str) -> dict[str, Any]:
    """The manifest of a job: what decides over its result, and under "about" what does not."""
    return {
        "format": _FORMAT,
        "input": fingerprint(job.source),
        "settings": plain(settings(job)),
        "engine": {"name": engine.name, "sha256": hashlib.sha256(engine.model).hexdigest()},
        "backend": job.backend if ":" in job.backend else backend,
        "versions": versions(),
        "about": {
            "input": str(job.source.absolute()),
            "output": str(job.output.absolute()),
            "begun": time.strftime("%Y-%m-%d %H:%M:%S"),
            "cores": os.cpu_count() or 1,
        },
    }


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells an input from another without reading all of it: its size, and the SHA-256 of 64 parts of it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        for number in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLED) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLED))
    return {"size": size, "sha256_of_samples": digest.hexdigest()}


def versions() -> dict[str, str]:
    """The versions of what decides over the result."""
    found = {}
    for each in metadata.distributions():
        name = each.metadata["Name"].lower()
        if name in _VERSIONS or name.startswith("vapoursynth-"):
            found[name] = each.version
    return dict(sorted(found.items()))


def plain(value: object) -> Any:
    """Settings as JSON has them: a dataclass by the names of its fields, a path or a fraction as its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def differences(before: Mapping[str, Any], after: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """What is not the same in two descriptions, as ``name was ..., is ...``; what stands under "about" may differ."""
    for key in [*before, *(key for key in after if key not in before)]:
        if key == "about":
            continue
        was, now = before.get(key), after.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from differences(was, now, f"{name}{key}.")
        elif was != now:
            yield f"{name}{key} was {json.dumps(was)}, is {json.dumps(now)}"
