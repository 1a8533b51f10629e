"""Running chaiNNer's backend with the nodes, out of its tree: nothing is copied into it, and nothing changed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from .install import InstallError, find_source


def run(path: Path, arguments: Sequence[str]) -> None:
    """Start chaiNNer's backend (its server.py) in this Python, and return when it is stopped.

    path: a chaiNNer checkout or the folder of the app. arguments: those of server.py, e.g. ["8000"].
    Raises InstallError for what is not chaiNNer, and where this Python lacks what the backend needs.
    """
    source = find_source(path)
    sys.path.insert(0, str(source))
    sys.argv = [str(source / "server.py"), *arguments]
    try:
        server = importlib.import_module("server")
        # In this order, because the editor shows packages in the order in which they are imported.
        importlib.import_module("packages.chaiNNer_standard")
        importlib.import_module("chainner_nodes.nodes")
    except ModuleNotFoundError as error:
        raise InstallError(
            f"{error.name} is not installed in {sys.executable}; run this with the Python that runs chaiNNer, with"
            " chaiNNer's PyTorch and ONNX packages installed."
        ) from error
    server.main()
