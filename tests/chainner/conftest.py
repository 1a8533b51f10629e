"""The nodes run either in a double of chaiNNer's API (always) or in chaiNNer's own one (CHAINNER_REAL=1).

CHAINNER_SRC names a chaiNNer checkout, CHAINNER_PYTHON the Python that runs it (default: this one).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REAL = bool(os.environ.get("CHAINNER_REAL"))

if REAL:
    sys.path.insert(0, str(Path(os.environ["CHAINNER_SRC"], "backend", "src")))
else:
    sys.path.insert(0, str(HERE / "double"))
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The chaiNNer checkout."""
    if not os.environ.get("CHAINNER_SRC"):
        pytest.skip("chaiNNer is not compared or run: set CHAINNER_SRC to a checkout of it.")
    return Path(os.environ["CHAINNER_SRC"])


@pytest.fixture(scope="session")
def python() -> str:
    """The Python that runs chaiNNer."""
    return os.environ.get("CHAINNER_PYTHON", sys.executable)
