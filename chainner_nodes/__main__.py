"""AetherNet in chaiNNer: python -m chainner_nodes install PATH | uninstall PATH | status PATH | run PATH [ARGUMENTS]

PATH is a chaiNNer checkout or the folder of the installed app. `run` starts chaiNNer's backend with the nodes, with
nothing copied; it needs the Python that runs chaiNNer, and hands ARGUMENTS to chaiNNer's server.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from presets.command import add_version, run_command

from . import install as installer
from . import launch


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    assert __doc__
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m chainner_nodes", description=summary, epilog=details)
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("install", "put the nodes into a chaiNNer; run again after updates of either"),
        ("uninstall", "remove them again"),
        ("status", "say what is installed; exit code 1 where nothing is, or something is wrong"),
        ("run", "start chaiNNer's backend with the nodes, nothing copied"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("path", type=Path, metavar="PATH", help="chaiNNer checkout or folder of the app")
        if name == "run":
            command.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="for server.py")
    args = parser.parse_args(argv)
    return run_command("chainner_nodes", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    if args.command == "run":
        launch.run(args.path, args.arguments)
    elif args.command == "install":
        found = installer.install(args.path)
        print(f"{found.source}: AetherNet {found.version} is installed; restart chaiNNer to see the nodes.")
    elif args.command == "uninstall":
        source, left = installer.uninstall(args.path)
        print(f"{source}: the AetherNet nodes are removed.")
        for file in left:
            print(f"  left, because it was not installed: {file}")
    else:
        found = installer.status(args.path)
        print(f"{found.source}: " + (f"AetherNet {found.version}" if found.version else "AetherNet is not installed"))
        for problem in found.problems:
            print(f"  {problem}")
        return 0 if found.version and not found.problems else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
