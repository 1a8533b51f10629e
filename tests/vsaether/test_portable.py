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
HEADERS = {"immintrin.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h"}

ABSENT = {
    "": "curses fcntl grp posix pty pwd readline resource syslog termios tty",
    "os.": "chown chroot confstr fchdir fchown fdatasync fork forkpty fstatvfs getegid geteuid getgid getgroups"
    " getloadavg getpgid getpgrp getpriority getsid getuid killpg lchown lockf mkfifo mknod nice openpty pathconf pread"
    r" pwrite sendfile setegid seteuid setgid setgroups setpgid setpriority setsid setuid statvfs sync sysconf uname"
    r" wait wait3 wait4 writev O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC posix_\w+ sched_\w+",
    "signal.": "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGXCPU SIGXFSZ"
    " alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait",
    "time.": "clock_gettime clock_settime tzset",
}
"""Of Python's library, as its documentation has it under Availability."""
UNPORTABLE = re.compile(
    r"ctypes\.CDLL\(None\)|'/(proc|sys)/.*'|(.+\.)?(read_text|write_text)\((?!.*encoding=).*|"
    r"open\((?!.*encoding=)(?!.*'\w?\+?b).*|"
    + "|".join(re.escape(module) + f"({names.replace(' ', '|')})" for module, names in ABSENT.items()),
    re.DOTALL,
)


def unportable(source: str) -> Iterator[str]:
    """What in a Python source only POSIX systems have, or reads text in the system's encoding."""
    for node in ast.walk(ast.parse(source)):
        asked: list[str] = []
        match node:
            case ast.Import(names):
                asked = [alias.name for alias in names]
            case ast.ImportFrom(str(module), names):
                asked = [module, *(f"{module}.{alias.name}" for alias in names)]
            case ast.Attribute() | ast.Call() | ast.Constant():
                asked = [ast.unparse(node)]
        yield from filter(UNPORTABLE.fullmatch, asked)


@pytest.mark.parametrize("package", PACKAGES)
def test_python_asks_the_system_in_one_place(package: str) -> None:
    paths = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / package).rglob("*.py")}
    found = {name: [*unportable(path.read_text("utf-8"))] for name, path in paths.items() if name not in PLACES}
    assert not {name: asked for name, asked in found.items() if asked}


def test_c_and_cpp_ask_the_system_in_one_place() -> None:
    """Only headers of the languages, of VapourSynth and of the processor's instructions."""
    sources = [path for path in (ROOT / "vsaether" / "native").iterdir() if path.suffix in (".c", ".h", ".cpp", ".hpp")]
    assert len(sources) > 15
    for path in sources:
        included = re.findall(r"#include <([^>]+)>", path.read_text())
        foreign = [name for name in included if "." in name and name not in HEADERS]
        assert not foreign or path.relative_to(ROOT).as_posix() in PLACES, path


def test_what_is_unportable_is_found() -> None:
    bad = "import resource\nos.sysconf\nsignal.SIGHUP\nctypes.CDLL(None)\n'/proc/self/statm'\nos.sched_yield\n"
    bad += "a.b().read_text()\nopen('x', 'r')"
    good = "import os, signal, ctypes\nopen('x', 'rb')\nopen('y', encoding='utf-8')\npath.write_text('x', encoding='y')"
    found = set(unportable(f"{good}\nfrom os import getuid\n{bad}"))
    assert found == {"os.getuid", "resource", *bad.splitlines()[1:]}


def test_a_process_takes_its_share_of_the_cores() -> None:
    """Each of two processes half, or the only core; together all."""
    code = "import os; from vsaether import system\nprint(system.take_share_of_cores({}, 2), *os.sched_getaffinity(0))"
    command = [sys.executable, "-c"]
    told = [subprocess.run([*command, code.format(n)], capture_output=True, text=True, check=True) for n in (0, 1)]
    (count, *first), (_, *second) = (list(map(int, each.stdout.split())) for each in told)
    assert count == len(first)
    assert set(first) | set(second) == os.sched_getaffinity(0)
