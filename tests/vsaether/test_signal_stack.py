"""Signals after OpenVINO has come and gone."""

import subprocess
import sys


def test_a_signal_after_two_filters_does_not_crash(identity_engine: str) -> None:
    """They are freed in the order in which they were made, as a player does, or the command line."""
    code = f"""
import os, signal
import vapoursynth as vs, vsaether
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
clips = [vs.core.std.BlankClip(format=vs.RGBS, width=32 * n, height=32, length=1) for n in (1, 2)]
clips = [vsaether.upscale(clip, {identity_engine!r}, backend="ov") for clip in clips]
for clip in clips:
    clip.get_frame(0).close()
os.kill(os.getpid(), signal.SIGTERM)
while clips:
    clip = None
    clips.pop(0)
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["handled", "handled"]
    assert "Traceback" not in done.stderr
