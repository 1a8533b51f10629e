"""python -m training.neosr [train|test] [--root NEOSR] -opt CONFIG.toml"""

from __future__ import annotations

from training.launch import launch
from training.neosr import register


def main(argv: list[str] | None = None) -> int:
    """Run neosr's train.py or test.py with our networks; returns the exit code."""
    return launch("neosr", register, argv)


if __name__ == "__main__":
    raise SystemExit(main())
