"""Memory: a long clip takes no more than a short one."""

import subprocess
import sys

SCRIPT = """
import sys
import vapoursynth as vs
import vsaether

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=240, height=136, length=480, keep=True)
most = {}
for number, _ in enumerate(vsaether.upscale(clip, sys.argv[1], reuse=False).frames(close=True)):
    part = number // 120
    most[part] = max(most.get(part, 0), resident())
print(*most.values())
"""


def test_memory_does_not_grow_with_the_length(toy_engine: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, toy_engine], capture_output=True, text=True, check=True)
    first, *later = map(int, done.stdout.split())
    assert len(later) == 3
    assert max(later) < 1.2 * first
    assert first < 1 << 30
