"""Putting the nodes into a chaiNNer, taking them out again, and saying what is there.

What the nodes need is copied, so that chaiNNer's own Python finds it: our packages and the presets' files that nodes
load into `aethernet/` beside chaiNNer's server.py, and one file that imports them into the folder of chaiNNer's PyTorch
nodes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import presets
from presets.errors import AetherNetError
from presets.files import sha256, write
from presets.version import version

PARTS = ("arch", "export", "presets", "chainner_nodes")
KINDS = ("notfused", *presets.PRECISIONS)  # of the presets' files, what nodes load
FOLDER = "aethernet"
MANIFEST = "installed.json"
LOADER = Path("packages", "chaiNNer_pytorch", "aethernet", "load_aethernet.py")
# Where chaiNNer's Python sources lie in a checkout, in the app's resources and in the app (Linux and Windows, macOS).
SOURCES = ("", "backend/src", "src", "resources/src", "Contents/Resources/src")
MARKS = ("server.py", "api/api.py", "packages/chaiNNer_pytorch/__init__.py")

LOADER_TEXT = '''\
"""Imports the AetherNet nodes. Written, and taken away again, by `python -m chainner_nodes`."""

import sys
from pathlib import Path

FOLDER = str(Path(__file__).resolve().parents[3] / "aethernet")
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)

import chainner_nodes.nodes  # noqa: E402, F401
'''


class InstallError(AetherNetError, ValueError):
    """The nodes cannot be installed, removed or run there; the message says why and what to do."""


@dataclass(frozen=True)
class Status:
    """What is installed in a chaiNNer. `version` is None where nothing is; problems are sentences."""

    source: Path
    version: str | None
    problems: tuple[str, ...] = ()


def find_source(path: Path) -> Path:
    """The folder of chaiNNer's Python sources, of a checkout or the app. Raises InstallError for anything else."""
    if not path.is_dir():
        raise InstallError(f"{path}: there is no such folder; give a chaiNNer checkout or the folder of the app.")
    for candidate in SOURCES:
        if all((path / candidate / mark).is_file() for mark in MARKS):
            return (path / candidate).resolve()
    raise InstallError(
        f"{path}: no chaiNNer is here ({MARKS[0]} and {MARKS[2]} are missing); give a chaiNNer checkout, or the folder"
        " of the app with resources/src in it."
    )


def install(path: Path) -> Status:
    """Put the nodes into a chaiNNer, in place of those of an earlier version. Raises InstallError."""
    source = find_source(path)
    target = source / FOLDER
    _refuse_foreign(source)
    if (changed := _changed(source)) and target.exists():
        raise InstallError(
            f"{target}: these files were changed or added after the installation: {_some(changed)}; save what you need"
            " of them elsewhere, then run uninstall."
        )
    try:
        stage = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=source))
    except OSError as error:
        raise InstallError(f"{source}: the folder cannot be written ({error.strerror}).") from error
    try:
        new, old = stage / "new", stage / "old"
        _copy_parts(new)
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        (source / LOADER).parent.mkdir(exist_ok=True)
        write(source / LOADER, LOADER_TEXT.encode())
    except OSError as error:
        raise InstallError(f"{source}: not installed ({error}).") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return status(path)


def uninstall(path: Path) -> tuple[Path, list[Path]]:
    """Remove what `install` wrote, and only that. Returns chaiNNer's source folder and the files left in ours.

    Raises InstallError where nothing is installed.
    """
    source = find_source(path)
    target = source / FOLDER
    _refuse_foreign(source)
    if not target.exists() and not (source / LOADER).exists():
        raise InstallError(f"{source}: the AetherNet nodes are not installed here.")
    try:
        (source / LOADER).unlink(missing_ok=True)
        for name in _manifest(target)["files"] if target.exists() else ():
            (target / name).unlink(missing_ok=True)
        (target / MANIFEST).unlink(missing_ok=True)
        for folder in (target, (source / LOADER).parent):
            _remove_empty(folder)
    except OSError as error:
        raise InstallError(f"{source}: not wholly removed ({error}); run uninstall again.") from error
    left = [p for p in sorted(target.rglob("*")) if p.is_file()] if target.exists() else []
    return source, left


def status(path: Path) -> Status:
    """What is installed in a chaiNNer, compared file by file with what was copied. Raises InstallError."""
    source = find_source(path)
    target = source / FOLDER
    _refuse_foreign(source)
    if not target.exists():
        problems = (f"{LOADER} is left over",) if (source / LOADER).exists() else ()
        return Status(source, None, problems)
    problems = []
    if not (source / LOADER).is_file() or (source / LOADER).read_text(encoding="utf-8") != LOADER_TEXT:
        problems.append(f"{LOADER} is missing or changed; run install again")
    if changed := _changed(source):
        problems.append(f"changed, missing or added: {_some(changed)}")
    return Status(source, _manifest(target)["version"], tuple(problems))


def _copy_parts(target: Path) -> None:
    """Copy our packages, and write the manifest with the SHA-256 of each file."""
    digests = {}
    left_out = {presets.path(n, k) for n in presets.names() for k in presets.load(n)["files"] if k not in KINDS}
    for part in PARTS:
        spec = importlib.util.find_spec(part)
        if spec is None or not spec.submodule_search_locations:
            raise InstallError(f"The package {part} is missing here; install AetherNet, or run this in its checkout.")
        root = Path(spec.submodule_search_locations[0])
        for file in (f for f in _files(root) if f not in left_out):
            name = Path(part) / file.relative_to(root)
            data = file.read_bytes()
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            write(target / name, data)
            digests[name.as_posix()] = hashlib.sha256(data).hexdigest()
    text = json.dumps({"version": version(), "files": digests}, indent=1)
    write(target / MANIFEST, text.encode() + b"\n")


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file() and "__pycache__" not in p.parts)


def _manifest(target: Path) -> dict:
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        names = manifest["files"]
        if any(Path(n).is_absolute() or ".." in Path(n).parts for n in names) or not isinstance(
            manifest["version"], str
        ):
            raise ValueError("a path leads out of the folder")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallError(
            f"{target}: is not from this installer, or its {MANIFEST} is damaged ({error}); remove the folder yourself"
            " if it is not needed."
        ) from error
    return manifest


def _refuse_foreign(source: Path) -> None:
    """Raise InstallError where a folder of our name is not ours."""
    if (source / FOLDER).exists():
        _manifest(source / FOLDER)


def _changed(source: Path) -> list[str]:
    """Files that differ from what was copied: changed, missing or added."""
    target = source / FOLDER
    if not target.exists():
        return []
    digests = _manifest(target)["files"]
    there = {p.relative_to(target).as_posix(): p for p in _files(target)}
    there.pop(MANIFEST, None)
    return sorted(
        name for name in digests.keys() | there.keys() if name not in there or sha256(there[name]) != digests.get(name)
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _remove_empty(folder: Path) -> None:
    """Remove Python's caches below a folder, then every folder that is empty."""
    for cache in [*folder.rglob("__pycache__")]:
        shutil.rmtree(cache, ignore_errors=True)
    for child in sorted([p for p in folder.rglob("*") if p.is_dir()], reverse=True):
        if not any(child.iterdir()):
            child.rmdir()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
