"""The command ``vsaether jobs``: films that were stopped, or are being made."""

import argparse
from pathlib import Path

from vsaether.errors import MediaError
from vsaether.media.manifest import SUFFIX, JobFolder, jobs


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments, and what runs it."""
    parser.add_argument("action", choices=("list", "status", "clean"), help="list them, describe them, or remove them")
    where = "an output, its job folder, or a folder in which jobs are; default: this folder"
    parser.add_argument("path", type=Path, nargs="?", default=Path(), metavar="PATH", help=where)
    parser.add_argument("--recursive", action="store_true", help="those in all folders of a folder, too")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    found = find(options.path, options.recursive)
    if not found:
        print(f"no jobs in {options.path.absolute()}")
    for folder in found:
        print({"list": line, "status": status, "clean": clean}[options.action](folder))


def find(path: Path, recursive: bool = False) -> list[JobFolder]:
    """The jobs that a path stands for, in a folder or anywhere below it. Raises MediaError if there can be none."""
    if path.name.endswith(SUFFIX) and path.is_dir():
        return [JobFolder(path)]
    if (folder := JobFolder.of(path)).path.is_dir():
        return [folder]
    if path.is_dir():
        return jobs(path, recursive)
    raise MediaError(f"{path} is no job, nor an output with one, nor a folder")


def line(folder: JobFolder) -> str:
    """A job in one line."""
    records = list(folder.records())
    frames = sum(record.frames for record in records)
    state = "at work" if folder.busy else "stopped"
    of = f" of {end.segments}" if (end := folder.end) else ""
    return f"{folder.path}: {state}, {len(records)}{of} segments are done, {frames} frames"


def status(folder: JobFolder) -> str:
    """A job, what it is made of, and how far it is."""
    told = folder.manifest
    about, engine = told["about"], told["engine"]
    size = sum(record.size for record in folder.records()) / 2**20
    facts = {
        "input": about["input"],
        "output": about["output"],
        "begun": about["begun"],
        "engine": f"{engine['name']} ({told['backend']})",
        "size": f"{size:.1f} MiB",
        "log": folder.log.path,
        **{
            name: value
            for name, value in told["settings"].items()
            if value not in (None, False, []) and not isinstance(value, dict)
        },
        **{name: value for name, value in told["settings"]["encoding"].items() if value},
    }
    return "\n".join([line(folder), *(f"  {name:<16}{value}" for name, value in facts.items())])


def clean(folder: JobFolder) -> str:
    """Remove a job. Raises MediaError where a process is at work on it."""
    if folder.busy:
        raise MediaError(f"a process is at work on {folder.path}; stop it first")
    folder.remove()
    return f"{folder.path} was removed"
