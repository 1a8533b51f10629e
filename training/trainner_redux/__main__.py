"""python -m training.trainner_redux [train|test] [--root TRAINNER] -opt CONFIG.yml"""

from __future__ import annotations

from training.launch import launch
from training.trainner_redux import register


def main(argv: list[str] | None = None) -> int:
    """Run traiNNer-redux's train.py or test.py with our networks; returns the exit code."""
    return launch("traiNNer", register, argv)


if __name__ == "__main__":
    raise SystemExit(main())
