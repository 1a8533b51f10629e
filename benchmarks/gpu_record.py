"""Results that survive what comes after them: each is on the disk before the next begins."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from presets import files


class Record:
    """A file of one JSON object a line, and the time (time.time()) after which nothing new begins."""

    def __init__(self, path: Path, deadline: float) -> None:
        self.deadline = deadline
        self.path = path
        self.file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def write(self, entry: dict[str, Any]) -> None:
        """One line, on the disk when this returns."""
        self.file.write(json.dumps(entry) + "\n")
        files.flush(self.file)

    def step(self, name: str, run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call run(*args, **options), record the dictionary that it returns, and return it.

        None where it fails, with the error recorded, or where no time is left, with that recorded.
        """
        if self.left() <= 0:
            self.write({"step": name, "left_out": "no time was left"})
            return None
        start = time.perf_counter()
        try:
            result = run(*args, **options)
        except Exception as error:
            where = traceback.format_exc().splitlines()[-12:]
            text = f"{type(error).__name__}: {error}"[:2000]
            self.write({"step": name, "error": text, "where": where, "took_s": time.perf_counter() - start})
            return None
        self.write({"step": name, "took_s": time.perf_counter() - start, **(result or {})})
        return result if result else True


def read(path: Path) -> list[dict[str, Any]]:
    """The entries; a last line that was cut off is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
