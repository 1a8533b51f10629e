"""A real chaiNNer backend in a process of its own, spoken to as chaiNNer's editor speaks to it."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chains

ROOT = Path(__file__).resolve().parents[2]
START = 300  # seconds; the first start compiles chaiNNer's numba functions
# chaiNNer's checks of types and names are errors.
ENVIRONMENT = {"TYPE_CHECK_LEVEL": "error", "NAME_CHECK_LEVEL": "error", "PYTHONDONTWRITEBYTECODE": "1"}


class BackendError(Exception):
    """The backend answered with an error."""


@dataclass
class Backend:
    """One that runs; `schemas` are its nodes."""

    port: int
    schemas: dict[str, chains.Json] = field(default_factory=dict)

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON answer to a GET, or to a POST of a body. Raises BackendError with the backend's message."""
        data = None if body is None else json.dumps(body).encode()
        head = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, head)
        try:
            with urllib.request.urlopen(asked, timeout=START) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise BackendError(error.read().decode()) from None

    def run(self, content: chains.Json, *, experimental: bool = False) -> None:
        """Run a chain on the CPU. Raises BackendError where a node fails."""
        options = {"use_cpu": True, "use_fp16": False}
        body = {
            "data": chains.request(content, self.schemas),
            "options": {"chaiNNer_pytorch": options, "aethernet": options},
            "sendBroadcastData": False,
            "useExperimentalFeatures": experimental,
        }
        self.ask("/run", body)


@contextlib.contextmanager
def started(command: list[str], storage: Path, path: str = str(ROOT)) -> Iterator[Backend]:
    """A backend that runs until the block ends; path: its PYTHONPATH."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        backend = Backend(free.getsockname()[1])
    told = storage / "backend.log"
    command = [*command, str(backend.port), "--storage-dir", str(storage), "--logs-dir", str(storage)]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": path}
    with told.open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=storage, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START
        while not backend.schemas:  # in its first moments, the backend answers with none
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                backend.schemas = {node["schemaId"]: node for node in backend.ask("/nodes")["nodes"]}
            if process.poll() is not None or time.monotonic() > deadline:
                raise BackendError(f"did not start:\n{told.read_text()[-3000:]}")
            time.sleep(0.3)
        yield backend
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
