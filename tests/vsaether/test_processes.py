"""What shows in a process of its own only: memory, and signals after OpenVINO has come and gone."""

from typing import Any

from .conftest import python

HEAD = """
import os, resource, signal
import vsaether

def clip(width, height, length):
    return vs.core.std.BlankClip(format=vs.YUV420P8, width=width, height=height, length=length, keep=True)

def frames(clip, **arguments):
    return vsaether.upscale(clip, sys.argv[1], **arguments).frames(close=True)
"""


def run(engine: object, script: str) -> list[str]:
    """What a script says, a word each; it may neither fail nor complain."""
    done = python(HEAD + script, engine)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    return done.stdout.split()


def test_memory_does_not_grow_with_the_length(toy_engine: str) -> None:
    script = """
most = [0] * 4
for number, _ in enumerate(frames(clip(240, 136, 240), reuse=False)):
    with open("/proc/self/statm") as file:
        most[number // 60] = max(most[number // 60], int(file.read().split()[1]) * 4096)
print(*most)
"""
    first, *later = map(int, run(toy_engine, script))
    assert len(later) == 3 and max(later) < 1.2 * first
    assert first < 1 << 30


def test_full_hd_stays_under_4_gib(make_engine: Any) -> None:
    """The whole frame would need 4.2 GiB in this engine's layers alone."""
    script = "next(frames(clip(1920, 1080, 1)))\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    [kibibytes] = run(make_engine(kernels=(3, 3), channels=256), script)
    assert int(kibibytes) < 4 << 20


def test_a_signal_after_two_filters_does_not_crash(identity_engine: str) -> None:
    """They are freed in the order in which they were made, as a player does, or the command line."""
    script = """
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
clips = [vsaether.upscale(clip(32 * n, 32, 1), sys.argv[1], backend="ov") for n in (1, 2)]
for each in clips:
    each.get_frame(0).close()
os.kill(os.getpid(), signal.SIGTERM)
while clips:
    each = None
    clips.pop(0)
os.kill(os.getpid(), signal.SIGTERM)
"""
    assert run(identity_engine, script) == ["handled", "handled"]
