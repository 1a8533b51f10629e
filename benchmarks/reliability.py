"""docs/results/reliability.md, made from what the programs that measure it have recorded in reliability.json.

    python -m benchmarks.reliability

benchmarks.soak and benchmarks.fuzz record a section each; whatever else measures reliability calls ``record``, too.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
_HEAD = """# Reliability

What was tried, and what came of it. Each section has the command that measures it again; the page is made from
`reliability.json` by `python -m benchmarks.reliability`. Films killed at random moments, and what segments cost:
[films.md](films.md).
"""


def record(key: str, title: str, command: str, text: str, figures: Mapping[str, object]) -> None:
    """Put a section in the place of that of the same key, and write the page.

    ``text`` is a sentence or two on what was done; ``figures`` go into a table, by what they are of.
    """
    path = RESULTS / "reliability.json"
    known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    section = {"title": title, "command": command, "machine": machine, "text": text}
    known[key] = section | {"figures": {name: str(value) for name, value in figures.items()}}
    _write(path, json.dumps(dict(sorted(known.items())), indent=2, ensure_ascii=False) + "\n")
    _write(RESULTS / "reliability.md", page(known))


def page(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with all sections, in the order of their keys."""
    parts = [_HEAD]
    for _, section in sorted(known.items()):
        rows = [f"| {name} | {value} |" for name, value in section["figures"].items()]
        parts.append(
            "\n".join(
                [
                    f"## {section['title']}\n",
                    f"{section['text']}\n",
                    f"```sh\n{section['command']}\n```\n",
                    "| | |\n|---|---|",
                    *rows,
                    f"\nOn {section['machine']}.\n",
                ]
            )
        )
    return "\n".join(parts)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    recorded = json.loads((RESULTS / "reliability.json").read_text("utf-8"))
    _write(RESULTS / "reliability.md", page(recorded))
