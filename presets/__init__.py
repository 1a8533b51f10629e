"""The named engines and their weights: one folder a preset, with a preset.json that describes its files.

`<preset>_<precision>` is an engine's name, e.g. small_2x_int8. Each file's sha256 stands in preset.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIR = Path(__file__).resolve().parent


def names() -> list[str]:
    """The presets that there are, in alphabetical order."""
    return sorted(p.parent.name for p in DIR.glob("*/preset.json"))


def load(name: str) -> dict[str, Any]:
    """The description of a preset. Raises KeyError, naming what there is, for another name."""
    if name not in names():
        raise KeyError(f"There is no preset {name!r}; there are {', '.join(names()) or '(none)'}.")
    return json.loads((DIR / name / "preset.json").read_text(encoding="utf-8"))
