"""The cache of built engines: what is kept, what is refused, and what processes do to each other."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import vsaether
from vsaether.cli import main
from vsaether.engine_cache import EngineCache, digest

from ..conftest import full_disk

KEY = {"engine": "toy", "onnx": "1234", "driver": "580.1", "gpu": "a card"}
never = Mock(side_effect=AssertionError("it was built again"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_it_is_built_once_for_each_key_and_closed_to_others(folder: Path) -> None:
    cache = EngineCache(folder)
    path = cache.get(KEY, lambda: b"engine")
    assert cache.get(KEY, never) == path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert names(folder) == {f"{digest(KEY)}.engine", f"{digest(KEY)}.json"}
    for name in KEY:
        other = cache.get(KEY | {name: "another"}, lambda: b"other")
        assert (path.read_bytes(), other.read_bytes()) == (b"engine", b"other")
    assert len(cache.entries()) == 1 + len(KEY)


@pytest.mark.parametrize(
    "damage", [b"Engine", b"engi", b"", None, lambda _: "not JSON", lambda text: text.replace('"toy"', '"another"')]
)
def test_what_was_not_written_is_built_again(folder: Path, damage: Any) -> None:
    """An engine that was altered, cut or emptied; a side-car that is missing, damaged, or another engine's."""
    cache = EngineCache(folder)
    path, other = cache.get(KEY, lambda: b"engine"), cache.get({"engine": "other"}, lambda: b"kept")
    (folder / f"{digest(KEY)}.tmpabc").write_bytes(b"half")  # as a kill between the writes leaves it
    sidecar = path.with_suffix(".json")
    if damage is None:
        sidecar.unlink()
    elif isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        sidecar.write_text(damage(sidecar.read_text()))
    states = cache.verify()
    assert states.keys() == {path, other}
    assert states[path] and not states[other]
    assert cache.get(KEY, lambda: b"built again").read_bytes() == b"built again"
    assert cache.verify() == {path: None, other: None}
    assert not list(folder.glob("*.tmp*"))


def test_an_engine_that_fails_its_check_is_not_kept(folder: Path) -> None:
    """The check sees the file that would be loaded; afterwards nothing of it is left."""

    def check(path: Path) -> None:
        raise vsaether.EngineError(f"another picture than {path.read_bytes()}")

    with pytest.raises(vsaether.EngineError, match="another picture than b'wrong'"):
        EngineCache(folder).get(KEY, lambda: b"wrong", check)
    assert names(folder) == set()
    assert EngineCache(folder).get(KEY, lambda: b"right").read_bytes() == b"right"


BUILDER = """
import select, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs
from pathlib import Path
from vsaether.engine_cache import EngineCache

def build():
    print("building", flush=True)
    select.select([sys.stdin], [], [], 20)
    return b"engine"

path = EngineCache(Path(sys.argv[1])).get({"engine": "toy"}, build, wait=lambda text: print("waiting", flush=True))
print(path.read_bytes().decode(), flush=True)
"""


def start(folder: Path, word: str) -> subprocess.Popen[str]:
    """A process that gets an engine, and builds it, if it has to, until its input ends, or for 20 seconds."""
    command = [sys.executable, "-c", BUILDER, str(folder)]
    root = Path(vsaether.__file__).parents[1]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{word}\n"
    return process


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_leaves_no_half_entry_and_two_build_once(folder: Path, kind: signal.Signals) -> None:
    """Nor its lock: the next one builds at once. Another says that it waits for that, and takes the same."""
    with start(folder, "building") as process:
        process.send_signal(kind)
    assert names(folder) == set()
    with start(folder, "building") as one, start(folder, "waiting") as two:
        assert one.communicate(timeout=60)[0] == "engine\n"
        assert two.communicate(timeout=60)[0] == "engine\n"


def test_the_least_recently_used_go_first(folder: Path) -> None:
    cache = EngineCache(folder, limit=250)
    for number, name in enumerate("abc"):
        path = cache.get({"engine": name}, lambda: bytes(100))
        os.utime(path.with_suffix(".json"), (number, number)) if name != "c" else None
    assert [entry.key["engine"] for entry in cache.entries()] == ["b", "c"]
    cache.get({"engine": "huge"}, lambda: bytes(1000))  # kept though it alone is more than the limit
    assert [entry.key["engine"] for entry in cache.entries()] == ["huge"]


def test_a_full_disk_is_said(folder: Path) -> None:
    with full_disk(), pytest.raises(vsaether.CacheError, match=r"cannot be written.*vsaether cache clear"):
        EngineCache(folder).get(KEY, lambda: bytes(100_000))
    assert names(folder) == set()


def test_a_folder_that_others_can_write_to_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    for path, remedy in ((folder, "chmod 700"), (Path("/dev/null/cache"), "VSAETHER_CACHE")):
        with pytest.raises(vsaether.CacheError, match=remedy):
            EngineCache(path).get(KEY, never)


def test_the_command_lists_verifies_and_clears(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VSAETHER_CACHE", str(folder))
    path = EngineCache().get(KEY, lambda: bytes(1 << 20))
    assert main(["cache", "list"]) == main(["cache", "verify"]) == 0
    assert path.stem[:12] in capsys.readouterr().out
    path.write_bytes(b"altered")
    assert main(["cache", "verify"]) == 1
    assert path.name in capsys.readouterr().err
    assert main(["cache", "clear"]) == 0
    assert list(folder.iterdir()) == []
