"""The curve of a stage, curve_STAGE.csv of a run: a line each time that the state was saved."""

from __future__ import annotations

import csv
from pathlib import Path

COLUMNS = ("step", "loss", "psnr_y", "seconds_per_step")


def read(path: Path) -> dict[str, list[float]]:
    """The columns of a curve. Raises OSError where it cannot be read, ValueError where it is no curve."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return {column: [float(row[column]) for row in rows] for column in COLUMNS}
    except (KeyError, TypeError) as error:  # a column is not there, or a row ends before it
        raise ValueError(f"{error!r}") from None


def last_step(path: Path) -> int:
    """The last step of a curve; 0 where there is none."""
    try:
        return int(path.read_text(encoding="utf-8").splitlines()[-1].partition(",")[0])
    except (OSError, IndexError, ValueError):
        return 0


def add(path: Path, step: int, loss: float, psnr: float, seconds: float) -> None:
    """One line to the terminal and to the curve: the mean loss, validation Y-PSNR in dB, and seconds a step."""
    print(f"step {step}: loss {loss:.5f}, validation {psnr:.3f} dB, {seconds:.3f} s/step", flush=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow([step, f"{loss:.6f}", f"{psnr:.4f}", f"{seconds:.4f}"])
