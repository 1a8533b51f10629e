"""What the system is asked for stands in one place: elsewhere is nothing that Windows has not."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("arch", "chainner_nodes", "export", "presets", "training", "vsaether")
PLACES = {"vsaether/system.py", "presets/files.py", "vsaether/native/system.c"}

ABSENT = {
    "modules": "curses fcntl grp posix pty pwd readline resource syslog termios tty",
    "os": "chown chroot confstr fchdir fchown fdatasync fork forkpty fstatvfs getegid geteuid getgid getgroups"
    " getloadavg getpgid getpgrp getpriority getsid getuid killpg lchown lockf mkfifo mknod nice openpty pathconf pread"
    " pwrite sendfile setegid seteuid setgid setgroups setpgid setpriority setsid setuid statvfs sync sysconf uname"
    " wait wait3 wait4 writev O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC",
    "signal": "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGXCPU SIGXFSZ"
    " alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait",
    "time": "clock_gettime clock_settime tzset",
}
"""Of Python's library, as its documentation has it under Availability."""
NAMES = {module: set(names.split()) for module, names in ABSENT.items()}
HEADERS = {"immintrin.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h"}


def unportable(source: str) -> Iterator[str]:
    """What in a Python source only POSIX systems have."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from NAMES["modules"].intersection(names)
        if isinstance(node, ast.ImportFrom) and node.module in NAMES:
            yield from NAMES[node.module].intersection(alias.name for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, name = node.value.id, node.attr
            if name in NAMES.get(module, ()) or (module == "os" and name.startswith(("posix_", "sched_"))):
                yield f"{module}.{name}"
        if isinstance(node, ast.Call) and ast.unparse(node) == "ctypes.CDLL(None)":
            yield "ctypes.CDLL(None)"
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(("/proc/", "/sys/"))
        ):
            yield node.value
        if isinstance(node, ast.Call) and not any(keyword.arg == "encoding" for keyword in node.keywords):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
            binary = any(isinstance(mode, str) and "b" in mode for mode in modes)
            if called in ("read_text", "write_text") or (isinstance(node.func, ast.Name) and called == "open"):
                yield from [] if binary else [f"{called} without an encoding"]


@pytest.mark.parametrize("package", PACKAGES)
def test_python_asks_the_system_in_one_place(package: str) -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()}: {what}"
        for path in (ROOT / package).rglob("*.py")
        for what in unportable(path.read_text())
        if path.relative_to(ROOT).as_posix() not in PLACES
    }
    assert not found


def test_c_and_cpp_ask_the_system_in_one_place() -> None:
    """Only headers of the languages, of VapourSynth and of the processor's instructions."""
    sources = [path for path in (ROOT / "vsaether" / "native").iterdir() if path.suffix in (".c", ".h", ".cpp", ".hpp")]
    assert len(sources) > 15
    for path in sources:
        included = re.findall(r"#include <([^>]+)>", path.read_text())
        foreign = [name for name in included if "." in name and name not in HEADERS]
        assert not foreign or path.relative_to(ROOT).as_posix() in PLACES, path


def test_what_is_unportable_is_found() -> None:
    source = "import os, signal, ctypes, resource\nfrom os import getuid\nos.sysconf('x'); signal.SIGHUP\n"
    source += "path.read_text(); open('x', 'rb'); open('y', encoding='utf-8')\n"
    assert sorted(unportable(f"{source}ctypes.CDLL(None); open('/proc/self/statm', 'rb')")) == [
        "/proc/self/statm",
        "ctypes.CDLL(None)",
        "getuid",
        "os.sysconf",
        "read_text without an encoding",
        "resource",
        "signal.SIGHUP",
    ]


def test_a_process_takes_its_share_of_the_cores() -> None:
    """Each of two processes half, or the only core; together all."""
    code = "import os; from vsaether import system\nprint(system.take_share_of_cores({}, 2), *os.sched_getaffinity(0))"
    command = [sys.executable, "-c"]
    told = [subprocess.run([*command, code.format(n)], capture_output=True, text=True, check=True) for n in (0, 1)]
    (count, *first), (_, *second) = (list(map(int, each.stdout.split())) for each in told)
    assert count == len(first)
    assert set(first) | set(second) == os.sched_getaffinity(0)
