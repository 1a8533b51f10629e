"""What vsaether asks of the operating system. Nothing else of it does, but for files (presets.files).

Each function works on Linux, Windows and macOS; where a system has no such thing, it says what it does instead.
"""

import contextlib
import ctypes
import functools
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

STOP_SIGNALS: dict[int, str] = {
    int(getattr(signal, name)): words
    for name, words in (
        ("SIGINT", "interrupted"),
        ("SIGTERM", "terminated"),
        ("SIGHUP", "hung up"),
        ("SIGBREAK", "interrupted"),
    )
    if hasattr(signal, name)
}
"""The signals that end a command here, in words. Windows has no SIGHUP, but a SIGBREAK (Ctrl-Break)."""

NVIDIA_MANAGEMENT = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
"""NVIDIA's management library, which its driver brings."""


_M_ARENA_MAX = -8  # of glibc's <malloc.h>
_ARENAS = 2


def memory() -> int:
    """Bytes of memory that this process may have: the machine's, or on Linux its control group's where that is less."""
    return min(_machine_memory(), *_group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")))


def _machine_memory() -> int:
    if sys.platform == "win32":
        status = _MemoryStatus(ctypes.sizeof(_MemoryStatus))
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            raise ctypes.WinError()
        return status.total
    return os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE


class _MemoryStatus(ctypes.Structure):
    """``MEMORYSTATUSEX`` of Windows."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 6),
    )


@functools.cache
def _group_limits(groups: Path, root: Path) -> list[int]:
    """The limits in bytes which Linux sets to the memory of this process: its control group and those above it have
    them, in version 2 (/memory.max) and version 1 (/memory/memory.limit_in_bytes).
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        folder, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        # In a container the path may be that outside, and what is mounted here its own group.
        inner = folder / path.lstrip("/")
        for group in (inner, *(each for each in inner.parents if each.is_relative_to(folder))):
            with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
                found.append(int((group / name).read_text()))
    return found


def python() -> str | None:
    """The Python that this code runs in, as a command: None where it is part of another program and none is beside it.

    (Where a program such as a player holds Python, sys.executable may be that program.)
    """
    name = "python.exe" if sys.platform == "win32" else "bin/python3"
    for path in (Path(sys.executable or ""), Path(sys.prefix) / "Scripts/python.exe", Path(sys.prefix) / name):
        if path.name.startswith("python") and path.is_file():
            return str(path)
    return None


def resident_memory() -> int:
    """Bytes of memory that this process has now. Linux alone has it."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def find_trim() -> Callable[[], None] | None:
    """A function that gives free memory back to the system; None where there is none, or none is needed.

    It is glibc's, which keeps what was freed.
    """
    if sys.platform != "linux" or not os.path.exists("/proc/self/statm"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if trim is None else lambda: trim(0)


def limit_arenas() -> None:
    """Let glibc keep few heaps for all threads of this process; nothing elsewhere, or where MALLOC_ARENA_MAX is set.

    It keeps eight for each core, and does not use the place of an aligned block again for the next one: with each
    encoder that is opened, every one of them grows. A process that is not ours is left as it is.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _ARENAS)


def take_share_of_cores(place: int, processes: int) -> int | None:
    """Let this process run on its share of the cores: it is number `place`, from 0, of so many processes.

    The number of its cores; None where a process cannot say that of itself (macOS), or does not here (Windows).
    """
    if sys.platform != "linux":
        return None
    cores = sorted(os.sched_getaffinity(0))
    share = cores[place * len(cores) // processes : (place + 1) * len(cores) // processes] or cores
    os.sched_setaffinity(0, share)
    return len(share)


def is_private(folder: Path) -> bool:
    """Whether a folder is the user's own, and no other user can write to it.

    Windows' permissions are not read: there, True. (What lies in a user's profile is closed to others by default.)
    """
    if sys.platform == "win32":
        return True
    state = folder.stat()
    return state.st_uid == os.getuid() and not state.st_mode & 0o022


@contextlib.contextmanager
def signal_stack_restored() -> Iterator[None]:
    """Give this thread back, at the end, the stack on which it handled signals; nothing beside Linux.

    Where processors have AMX, each of OpenVINO's plugins sets one of its own, and frees it with the plugin; the one set
    later then gives back a stack which is no more, and the next signal, as Ctrl-C, crashes the process.
    """
    if sys.platform != "linux":
        yield
        return
    sigaltstack = ctypes.CDLL(None, use_errno=True).sigaltstack
    before = _SignalStack()
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)


class _SignalStack(ctypes.Structure):
    """``stack_t`` of sigaltstack(2)."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))
