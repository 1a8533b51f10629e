"""The options in docs/use/cli.md, made from the command line's own parser: python docs/reference.py"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from vsaether.cli import parser

PAGE = Path(__file__).parent / "use" / "cli.md"
OPTIONS = re.compile(r"(<!-- options: python docs/reference.py -->\n).*(<!-- end of options -->)", re.DOTALL)


def options() -> str:
    """A section for each command: what it does, its arguments and options, with the help that --help prints."""
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    helps = {action.dest: action.help for action in commands._choices_actions}
    lines = []
    for name, command in commands.choices.items():
        what = helps[name] or ""
        lines += [f"### vsaether {name}", "", f"{what[:1].upper()}{what[1:]}.", ""]
        rows = [a for a in command._actions if a.dest != "help" and a.help != argparse.SUPPRESS]
        if rows:
            lines += ["| argument | meaning |", "|---|---|"]
            lines += [f"| `{words(a)}` | {text(command, a)} |" for a in rows] + [""]
    return "\n".join(lines)


def words(action: argparse.Action) -> str:
    """What is typed: --name VALUE, or the argument's name."""
    value = action.metavar or (" or ".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if not action.option_strings:
        return str(value)
    return action.option_strings[0] + ("" if action.nargs == 0 else f" {value}")


def text(command: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The help of an argument on one line, which a table can hold."""
    expanded = command._get_formatter()._expand_help(action) if action.help else ""
    return " ".join(expanded.split()).replace("|", "\\|")


def page(old: str) -> str:
    """The page with its options made anew."""
    if not OPTIONS.search(old):
        raise SystemExit(f"{PAGE} lacks the two lines between which the options go.")
    return OPTIONS.sub(lambda m: m[1] + options() + m[2], old)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
