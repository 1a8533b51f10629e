"""The nodes run either in a double of chaiNNer's API (always) or in chaiNNer's own one (CHAINNER_REAL=1).

CHAINNER_SRC names a chaiNNer checkout, CHAINNER_PYTHON the Python that runs it (default: this one).
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REAL = bool(os.environ.get("CHAINNER_REAL"))

sys.path[:0] = [str(HERE), str(Path(os.environ["CHAINNER_SRC"], "backend", "src") if REAL else HERE / "double")]


@pytest.fixture(scope="session")
def checkout() -> Path:
    if "CHAINNER_SRC" not in os.environ:
        pytest.skip("chaiNNer is not compared or run: set CHAINNER_SRC to a checkout of it.")
    return Path(os.environ["CHAINNER_SRC"])


@pytest.fixture(scope="session")
def python() -> str:
    return os.environ.get("CHAINNER_PYTHON", sys.executable)
