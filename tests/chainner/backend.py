"""A real chaiNNer backend in a process of its own, spoken to as chaiNNer's editor speaks to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import chains

ROOT = Path(__file__).resolve().parents[2]
START = 300  # seconds; the first start compiles chaiNNer's numba functions
RUN = 120


class BackendError(Exception):
    """The backend answered with an error."""


class Backend:
    """Start with `with`; chaiNNer's checks of types and names are errors."""

    def __init__(self, command: list[str], storage: Path, *, path: Path | None = ROOT) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = storage / "backend.log"
        self.command = [*command, str(self.port), "--storage-dir", str(storage), "--logs-dir", str(storage)]
        checks = {"TYPE_CHECK_LEVEL": "error", "NAME_CHECK_LEVEL": "error"}
        self.environment = os.environ | checks | {"PYTHONDONTWRITEBYTECODE": "1"}
        self.environment.pop("PYTHONPATH", None)
        if path:
            self.environment["PYTHONPATH"] = str(path)
        self.cwd = storage
        self.schemas: dict[str, chains.Json] = {}

    def __enter__(self) -> Backend:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.cwd, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            deadline = time.monotonic() + START
            while True:
                try:
                    nodes = self.get("/nodes")["nodes"]
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    nodes = []
                if nodes:  # in its first moments, the backend answers with none
                    break
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise BackendError(f"did not start:\n{self.log.read_text()[-3000:]}")
                time.sleep(0.3)
            self.schemas = {n["schemaId"]: n for n in nodes}
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        """The JSON answer to a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=START) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a POST. Raises BackendError with the backend's message."""
        head = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), head)
        try:
            with urllib.request.urlopen(asked, timeout=RUN) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise BackendError(error.read().decode()) from None

    def run(self, content: chains.Json, *, experimental: bool = False) -> None:
        """Run a chain on the CPU. Raises BackendError where a node fails."""
        options = {"use_cpu": True, "use_fp16": False}
        self.post(
            "/run",
            {
                "data": chains.request(content, self.schemas),
                "options": {"chaiNNer_pytorch": options, "aethernet": options},
                "sendBroadcastData": False,
                "useExperimentalFeatures": experimental,
            },
        )
