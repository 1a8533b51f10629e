"""Run a trainer's own scripts with our networks in its registry, nothing copied into it."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from training.errors import RegistrationError

Factory = Callable[..., nn.Module]


def register(registry: Any, factories: Iterable[Factory]) -> None:
    """Put functions into a BasicSR-like registry under their names; those that are there already stay.

    Raises RegistrationError where another network has one of the names.
    """
    for factory in factories:
        name = factory.__name__
        if name not in registry:
            registry.register(factory)
        elif registry.get(name).__module__ != factory.__module__:
            raise RegistrationError(f"The trainer already has another network called {name}: {registry.get(name)}.")


def launch(package: str, register: Callable[[], None], argv: list[str] | None = None) -> int:
    """Register our networks in a checkout of a trainer, then run its train.py or test.py as if it had been called.

    package: name of the trainer's package (neosr, traiNNer), which marks a checkout.
    register: puts the networks into its registry; called when the package can be imported.
    argv: [train|test] [--root DIR], and everything else for the trainer's script. The script runs in DIR, where
        relative paths of a configuration belong.

    Returns 2 where DIR is no checkout of the trainer; errors of the trainer pass through.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    script = argv.pop(0) if argv and argv[0] in ("train", "test") else "train"
    prog = f"python -m {register.__module__}"
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [train|test] [--root DIR] -opt CONFIG ...",
        description=f"{package} with AetherNet's networks.",
        epilog=f"Everything else goes to {package}'s train.py or test.py.",
        allow_abbrev=False,
    )
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help=f"checkout of {package} (default: .)")
    args, rest = parser.parse_known_args(argv)
    root: Path = args.root.resolve()
    path = root / f"{script}.py"
    if not path.is_file() or not (root / package / "archs").is_dir():
        print(f"{prog}: {root} is no checkout of {package}; give its folder with --root.", file=sys.stderr)
        return 2
    for i, word in enumerate(rest[:-1]):
        if word == "-opt":
            rest[i + 1] = str(Path(rest[i + 1]).resolve())
    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.argv = [str(path), *rest]
    register()
    runpy.run_path(str(path), run_name="__main__")
    return 0
