"""Run a trainer on a machine without a GPU: python run_trainer.py HOW [arguments]

HOW is the name of one of our launchers (neosr, trainner_redux), or the path of a trainer's own script.
"""

import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import fake_cuda  # pyright: ignore[reportMissingImports]


def main() -> int:
    """Install the imitation of CUDA, then start the launcher or the script as `python` does."""
    how, *argv = sys.argv[1:]
    fake_cuda.install()
    script = Path(how)
    given = argv[argv.index("--root") + 1] if "--root" in argv else "."
    root = (script.parent if script.suffix else Path(given)).resolve()
    if (root / "traiNNer").is_dir():
        # It insists on distributions under certain names (opencv-python, not the headless one) before it starts.
        sys.path.insert(0, str(root))
        check: Any = importlib.import_module("traiNNer.check.check_dependencies")
        check.check_dependencies = lambda: None
    if not script.suffix:
        return importlib.import_module(f"training.{how}.__main__").main(argv)
    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.argv = [how, *argv]
    runpy.run_path(how, run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
