"""SIGKILL at any moment, again and again: the same command goes on, to the same bytes."""

import subprocess
import sys
import time
from pathlib import Path

from vsaether.cli import main

from .conftest import make_video
from .test_resume import SEGMENTS, packets, scenes

KILLS = 20
PROCESS = """if True:
    import os, random, signal, sys, time
    from pathlib import Path
    import vsaether.media.batch, vsaether.media.resume
    from vsaether.cli import main

    out, arguments, chance = Path(sys.argv[1]), sys.argv[2:], random.Random(7)
    quiet = os.open(os.devnull, os.O_WRONLY)
    kills = films = midway = 0
    while kills < int(os.environ["KILLS"]):
        child = os.fork()  # what has been imported need not be imported again
        if not child:
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os._exit(main(arguments))
        time.sleep(chance.uniform(0.05, float(os.environ["SECONDS"])))
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
        if out.exists():
            films += 1
            out.rename(out.with_name(f"{films}.mkv"))
        midway += any(out.parent.glob("*/*.packets"))
    print(kills, midway > 0)
"""


def test_killed_at_twenty_moments(tmp_path: Path, identity_engine: str) -> None:
    """Nothing has the final name before it is complete, and then it is to the bit what an undisturbed run makes."""
    place = tmp_path / "made"
    place.mkdir()
    source = make_video(tmp_path / "in.mkv", pts=[40 * i for i in range(150)], picture=scenes, audio="aac")
    whole, out = tmp_path / "whole.mkv", place / "out.mkv"
    command = ["upscale", str(source), str(out), "--engine", identity_engine, *SEGMENTS]
    began = time.monotonic()
    assert main([*command[:2], str(whole), *command[3:]]) == 0
    seconds = max(0.5, time.monotonic() - began)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROCESS, str(out), *command],
        env={"KILLS": str(KILLS), "SECONDS": str(seconds)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == f"{KILLS} True\n", done.stderr
    if out.exists():
        assert main(command) == 1  # and tidies away what a kill has left
    else:
        assert main(command) == 0
    made = sorted(place.iterdir())
    assert all(path.suffix == ".mkv" for path in made)
    assert all(packets(path) == packets(whole) for path in made)
